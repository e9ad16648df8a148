// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_TRANSFORMS_PASSES_TD
#define KVCACHE_TRANSFORMS_PASSES_TD

include "mlir/Pass/PassBase.td"

def CopyCarriedTensors
    : Pass<"kvcache-copy-carried-tensors", "mlir::ModuleOp"> {
  let summary = "Copy loop-carried tensors into their initial buffer";
  let description = [{
    A loop has one buffer for each tensor that it carries. A layer that computes
    its result in a separate tensor, as with `outs(%empty)`, gives the loop a
    second one, which one-shot-bufferize rejects. This pass copies such results
    at the end of each iteration. Results computed in place of the old value, as
    with `outs(%carried)`, need no copy.

    Contract in: tensors that one-shot-bufferize accepts, except for such loops.
    Contract out: in each `scf.for`, the yielded value has the buffer of the
    carried one. If its extents are not known to equal those before the loop, a
    copy might not fit, which is an error. Copying a pool is an error as well,
    reported by `kvcache-check-copies`.

    Before:

    ```mlir
    %r = scf.for %l = %c0 to %n step %c1 iter_args(%h = %x) -> (tensor<?x64xf32>) {
      ...
      %next = linalg.add ins(%m, %h : ...) outs(%empty : ...) -> tensor<?x64xf32>
      scf.yield %next : tensor<?x64xf32>
    }
    ```

    After:

    ```mlir
      %copy = bufferization.materialize_in_destination %next in %h : ...
      scf.yield %copy : tensor<?x64xf32>
    ```
  }];
  let dependentDialects = ["mlir::bufferization::BufferizationDialect"];
}

def KeepArguments : Pass<"kvcache-keep-arguments", "mlir::ModuleOp"> {
  let summary = "Keep arithmetic on tensors from overwriting arguments";
  let description = [{
    Arithmetic on tensors, such as `arith.addf`, names no destination for its
    result. `convert-elementwise-to-linalg` uses an operand of the same type, so
    that an argument of the function would be overwritten, even one passed
    through slices or calls. This pass converts such operations to use a
    separate tensor. If the operand is created in the function, or carried by a
    loop, the operation is left alone, and the operand may be overwritten.

    Contract in: any IR. Contract out: the result of an elementwise operation on
    tensors is not written to an operand that may be memory of a caller.

    Before:

    ```mlir
    %0 = arith.addf %x, %y : tensor<4xf32>
    ```

    After, where `%x` or `%y` is an argument:

    ```mlir
    %empty = tensor.empty() : tensor<4xf32>
    %0 = linalg.generic ... ins(%x, %y : ...) outs(%empty : ...)
    ```
  }];
  let dependentDialects = ["mlir::linalg::LinalgDialect",
                           "mlir::tensor::TensorDialect"];
}

def DropDonatedResults
    : Pass<"kvcache-drop-donated-results", "mlir::ModuleOp"> {
  let summary = "Drop results that are arguments of their function";
  let description = [{
    A functional host updates a pool that it donates: it passes the pool as an
    argument and receives the updated pool as a result. After bufferization in
    place, both are one buffer, and returning it would copy the whole pool to an
    out-parameter. Such results are dropped, also from public functions, and
    callers use the argument.

    Contract in: bufferized functions. Contract out: no result of a function
    with a body is always the same one of its arguments. A function with uses
    other than calls is left unchanged.

    Before:

    ```mlir
    func.func @update(%pool: memref<?x2x16x8x128xbf16>) -> memref<?x2x16x8x128xbf16> {
      ...
      return %pool : memref<?x2x16x8x128xbf16>
    ```

    After: `func.func @update(%pool: memref<?x2x16x8x128xbf16>)`.
  }];
  let dependentDialects = ["mlir::func::FuncDialect",
                           "mlir::memref::MemRefDialect"];
}

def OutlineWorkspaceSize
    : Pass<"kvcache-outline-workspace-size", "mlir::ModuleOp"> {
  let summary = "Add a function that computes the workspace size of a call";
  let description = [{
    Contract in: bufferized functions. Contract out: for each public function
    `@f` there is a private function `@f.workspace_size` with the same arguments
    that returns the size in bytes of all buffers that a call of `@f` allocates,
    or -1 if an extent is negative or the size is 2^62 or more. It reads only
    extents of arguments, so it can be called before there is any data. The
    function from an earlier run is replaced.

    A buffer whose size depends on data, or that is allocated in a loop or by a
    call that was not inlined, is an error: its size has no upper bound that a
    caller could provide. So is a buffer whose size involves a division in a
    branch that may not be taken, or whose elements are neither integers nor
    floats.

    Before:

    ```mlir
    func.func @f(%x: memref<?xi64>) {
      %n = memref.dim %x, %c0 : memref<?xi64>
      %copy = memref.alloc(%n) : memref<?xi64>
      ...
    ```

    After, in addition: `func.func private @f.workspace_size(memref<?xi64>) ->
    i64`, which returns 8 * n, rounded up to a multiple of 256.
  }];
  let dependentDialects = ["mlir::arith::ArithDialect",
                           "mlir::func::FuncDialect"];
}

def ScatterToIndexCopy
    : Pass<"kvcache-scatter-to-index-copy", "mlir::ModuleOp"> {
  let summary = "Write rows by slot instead of by block and offset";
  let description = [{
    Contract in: bufferized functions. Contract out: a `scatter` has become an
    `index_copy` if that is equivalent for every entry, including padding and
    invalid entries; a remark reports for each what was done, or which fact is
    missing.

    *Divided slots.* If a loop computes blocks and offsets from one list of
    slots by division, that list is used, and the loop is removed. If the cache
    is flat (`stride(B) = N * stride(N)`), no division is left. Quotients may be
    rounded towards zero or down, or be shifts, and remainders may be masks. If
    a slot below 0 would be written to a live row, as with a quotient rounded
    towards zero and a masked offset, this is an error for a scatter with `pad =
    skip_negative`.

    *Independent lists.* With `compute-slots`, slots are computed from the two
    lists into a buffer: `block * N + offset` if the cache is flat, `block *
    scale + offset` if `stride(B) = scale * stride(N)`, and with a test in each
    call if the stride is unknown. Entries that the scatter skips become -1.

    *Whole blocks.* An `index_copy` at all slots of some blocks (`block_slots`)
    becomes one whose rows are these blocks, on a view with blocks of one token:
    `?B x 16N x 8H x 128D` is viewed as `?B x 1N x 128H x 128D`. This requires
    tokens, heads and channels that are contiguous within a block, in the order
    of the rows (blocks may be any distance apart); packed rows; padding that is
    skipped, not written to a sink; and a list that is known to contain all
    slots of the blocks.

    Before:

    ```mlir
    linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
        ins(%slots : memref<?xi64>) outs(%blocks, %offsets : memref<?xi64>, memref<?xi64>) {
    ^bb0(%slot: i64, %b: i64, %o: i64):
      %block = arith.floordivsi %slot, %c16 : i64
      %offset = arith.remsi %slot, %c16 : i64
      linalg.yield %block, %offset : i64, i64
    }
    kvcache.scatter %rows into %cache at %blocks, %offsets pad = skip_negative
      : memref<?x8x128xbf16> into !flat at memref<?xi64>, memref<?xi64>
    ```

    After:

    ```mlir
    %0 = kvcache.make_slots %arg2 : memref<?xi64> to !kv_slots
    kvcache.index_copy %arg0 into %arg1 at %0 : memref<?x8x128xbf16> into !kv_nhd at !kv_slots
    ```
  }];
  let options = [
    Option<"computeSlots", "compute-slots", "bool", /*default=*/"true",
           "Compute slots from lists of blocks and offsets, in a buffer">];
  let dependentDialects = ["mlir::arith::ArithDialect",
                           "mlir::memref::MemRefDialect",
                           "mlir::scf::SCFDialect"];
}

def FoldPermutes : Pass<"kvcache-fold-permutes", "mlir::ModuleOp"> {
  let summary = "Fold permutations and casts into types and axis names";
  let description = [{
    Contract in: any kvcache IR. Contract out: no transposition or cast that
    only changes the view of memory is left between a cache and its use, which a
    verifier at the end of the pass checks; each cache value has the most
    precise type that is known to hold.

    *Transpositions* of a memref that is viewed as a cache become names of its
    dimensions. A memref of a cache that is viewed as the same cache again, and
    flattened rows that are divided into the same blocks again, are replaced by
    that cache.

    *Facts* flow from definitions to uses: strides of memrefs, constants and
    products that are operands of a byte view, through casts, slices, branches,
    loops, and into and out of private functions whose callers are known. Where
    paths join, their common facts remain; a cast drops the others.

    *A `relayout` to a local buffer that is only read* folds: readers use the
    source, if nothing may write it before they read, including the readers
    themselves: they must write to a local buffer, or one of the arguments must
    have `kvcache.noalias`.

    Before:

    ```mlir
    %hnd = memref.transpose %pool (b, s, n, h, d) -> (b, s, h, n, d)
      : memref<?x2x16x8x128xbf16> to memref<?x2x8x16x128xbf16, strided<[32768, 16384, 128, 1024, 1]>>
    %cache = kvcache.view %hnd[B, S, H, N, D]
      : memref<?x2x8x16x128xbf16, strided<[32768, 16384, 128, 1024, 1]>> to !paired
    ```

    After:

    ```mlir
    %0 = kvcache.view %arg0[B, S, N, H, D] : memref<?x2x16x8x128xbf16> to !kv_nhd
    ```
  }];
  let dependentDialects = ["mlir::memref::MemRefDialect"];
}

def SpecializePageStride
    : Pass<"kvcache-specialize-page-stride", "mlir::ModuleOp"> {
  let summary = "Give operations a variant for each fact that changes their code";
  let description = [{
    Contract in: bufferized functions, best after `kvcache-fold-permutes`, which
    finds statically known facts. Contract out: an operation on a cache whose
    strides are known only at run time has up to `max-variants` variants, chosen
    by `has_facts` in each call: strides are compact; strides are multiples of
    `multiple` elements; any strides. The last one always exists. There is no
    variant for a specific stride unless `block-strides` requests it.

    A variant with the same code as the next more general one is omitted, with a
    remark. The layout determines on what the code depends: the length of a
    contiguous run, whether the cache is flat, and for a GPU the width of an
    aligned access. For reads on a CPU, flatness matters only if rows are
    shorter than 256 bytes. With `trace`, each variant reports itself if the
    program runs with `KVRT_TRACE=1`.

    Before:

    ```mlir
    kvcache.index_copy %rows into %cache at %slots
      : memref<?x8x128xbf16> into !any at !slots
    ```

    After, for a GPU:

    ```mlir
    %0 = kvcache.has_facts %arg1 : !kv_nhd_strided has !kv_nhd
    scf.if %0 {
      kvcache.trace "index_copy in line 53: strides are compact"
      %1 = kvcache.cast %arg1 : !kv_nhd_strided to !kv_nhd
      kvcache.index_copy %arg0 into %1 at %arg2 : memref<?x8x128xbf16> into !kv_nhd at !kv_slots
    } else {
      %1 = kvcache.has_facts %arg1 : !kv_nhd_strided has !kv_nhd_strided1
      scf.if %1 {
        kvcache.trace "index_copy in line 53: strides are multiples of 16"
        %2 = kvcache.cast %arg1 : !kv_nhd_strided to !kv_nhd_strided1
        kvcache.index_copy %arg0 into %2 at %arg2 : memref<?x8x128xbf16> into !kv_nhd_strided1 at !kv_slots
      } else {
        kvcache.trace "index_copy in line 53: any strides"
        kvcache.index_copy %arg0 into %arg1 at %arg2 : memref<?x8x128xbf16> into !kv_nhd_strided at !kv_slots
      }
    }
    ```
  }];
  let options = [
    Option<"target", "target", "std::string", /*default=*/"\"gpu\"",
           "Target of the code: cpu, or gpu, where accesses are aligned">,
    Option<"multiple", "multiple", "int64_t", /*default=*/"16",
           "Divisor of strides, in elements, in the second variant">,
    Option<"maxVariants", "max-variants", "unsigned", /*default=*/"3",
           "Maximum number of variants, including the generic one">,
    ListOption<"blockStrides", "block-strides", "int64_t",
           "Block strides, in elements, that get a separate variant">,
    Option<"trace", "trace", "bool", /*default=*/"true",
           "Report the variant in use, for KVRT_TRACE=1">];
  let dependentDialects = ["mlir::arith::ArithDialect",
                           "mlir::scf::SCFDialect"];
}

def CheckCopies : Pass<"kvcache-check-copies", "mlir::ModuleOp"> {
  let summary = "Reject copies of pools, and writes that are lost in a copy";
  let description = [{
    Runs twice. It changes nothing except marks on explicit requests of the
    program, which the second run reads and removes.

    *On the program*, before anything is simplified. It is an error if

      * there is an operation with a region from a dialect that is not loaded,
        as its behaviour is unknown
      * a tensor pool is updated and the updated tensor is not used
      * rows are written to a copy of a buffer that is not read afterwards
      * a pool is read as a tensor after it was written through a reference to
        its buffer

    *After bufferization* (`bufferized`), lost rows are checked again, and it is
    an error if

      * bufferization copies a buffer that is viewed as a cache, which happens
        if the old contents are used after an update, or if the caller does not
        donate the pool
      * bufferization allocates a buffer that is viewed as a cache, which
        happens for a result whose destination cannot be overwritten, and for
        arithmetic on whole pools

    The message gives the size in bytes. Each copy and each buffer gets a remark
    with its size. `allow-pool-copies` turns these errors into remarks.

    Explicit requests are not errors: `memref.copy`, `memref.alloc`,
    `tensor.empty` and other operations that create a tensor (`tensor.splat`,
    `tensor.generate`), `bufferization.alloc_tensor`, and results that are
    written to memory of the caller.

    Before, if `%pool` is read again later:

    ```mlir
    %cleared = linalg.fill ins(%zero : bf16) outs(%pool : !pool) -> !pool
    %next = kvcache.index_copy %rows into %cleared[B, N, H, D] at %where : !rows into !pool at !slots
    ```

    ```
    error: 'memref.alloc' op allocates a pool, 32768 bytes for each block, on each call, for the result of 'linalg.fill': expected an update in place, which takes a pool that the caller donates and whose old contents are not read afterwards
    ```
  }];
  let options = [
    Option<"bufferized", "bufferized", "bool", /*default=*/"false",
           "Whether this is the second run">,
    Option<"allowPoolCopies", "allow-pool-copies", "bool", /*default=*/"false",
           "Allow bufferization to copy pools">];
}

def LayoutReport : Pass<"kvcache-layout-report", "mlir::ModuleOp"> {
  let summary = "Print what each operation derives from its layouts";
  let description = [{
    For each operation and each of its caches, the report lists the memory
    order, the strides that are not compact, the axis whose elements are
    contiguous, the contiguous runs that the operation moves, the widest aligned
    access, whether rows are flat, the number and size of descriptors
    needed to move one block, bytes and floating-point operations, and the
    checks in each call. Numbers known only at run time are `?`, and null in
    JSON. For an attention on selected rows of a batch, operations are per
    selected row and key.

    It changes nothing, and can run anywhere in a pipeline. The program:

    ```mlir
    %pool = kvcache.view %bytes extents(B = %n) : memref<?xi8> to !all
    %layer = kvcache.layer %pool[%i] : !all
    kvcache.index_copy %k, %v into %layer at %slots : !rows, !rows into !one at !slots
    kvcache.attention %q over %layer in %batch into %out causal : !heads over !one in !batch into !heads
    ```

    The report:

    ```
    line  operation   order            strides    fastest  runs         access  rows  block moves as  bytes           FLOPs                  checked in each call
    31    view        cross_layer_nhd  packed     128D     1 x 2097152  16            1 x 2097152                                            base aligned to 16, within the buffer
    32    layer       paired_nhd       B=1048576  128D     1 x 65536    16            1 x 65536                                              layer in the cache
    33    index_copy  paired_nhd       B=1048576  128D     1 x 2048     16            1 x 65536       4096 per token                         slot in the cache
    34    attention   paired_nhd       B=1048576  128D     1 x 256      16            1 x 65536       4096 per key    16384 per row and key  block of the table in the cache
    ```
  }];
  let options = [
    Option<"format", "format", "std::string", /*default=*/"\"table\"",
           "table, or json">,
    Option<"output", "output", "std::string", /*default=*/"\"-\"",
           "The output file, - for standard output">];
}

def HoistBuffers : Pass<"kvcache-hoist-buffers", "mlir::func::FuncOp"> {
  let summary = "Hoist allocations out of loops, if there are any";
  let description = [{
    Runs `buffer-loop-hoisting` on functions that allocate in a loop. That pass
    computes liveness for a whole function, which is wasted on a model with
    unrolled layers, as it has no buffer in a loop.
  }];
  let dependentDialects = ["mlir::memref::MemRefDialect"];
}

def OwnDestinations : Pass<"kvcache-own-destinations", "mlir::ModuleOp"> {
  let summary = "Limit how many operations share a destination tensor";
  let description = [{
    CSE merges all equal `tensor.empty`, and equal `linalg.fill` of them, into
    one: the destination of a thousand operations. One-shot-bufferize then
    compares each of these with all others to find out which may share a buffer,
    and copies the filled tensor for all but one. After this pass, each
    operation fills its own destination, and only a few neighbouring operations
    share one `tensor.empty`.

    Contract in: tensors. Contract out: no `linalg.fill` of a `tensor.empty` is
    the destination of two operations, and no `tensor.empty` is the destination
    of more than `share`.

    Before:

    ```mlir
    %zeros = linalg.fill ins(%zero : f32) outs(%empty : !t) -> !t
    %a = linalg.matmul ins(%x, %y : !t, !t) outs(%zeros : !t) -> !t
    %b = linalg.matmul ins(%a, %y : !t, !t) outs(%zeros : !t) -> !t
    ```

    After:

    ```mlir
    %zeros = linalg.fill ins(%zero : f32) outs(%empty : !t) -> !t
    %a = linalg.matmul ins(%x, %y : !t, !t) outs(%zeros : !t) -> !t
    %zeros_1 = linalg.fill ins(%zero : f32) outs(%empty : !t) -> !t
    %b = linalg.matmul ins(%a, %y : !t, !t) outs(%zeros_1 : !t) -> !t
    ```
  }];
  let options = [
    Option<"share", "share", "unsigned", "16",
           "Maximum number of operations that write into one tensor">
  ];
}

def SplitUpdates : Pass<"kvcache-split-updates", "mlir::ModuleOp"> {
  let summary = "Split long chains of updates before bufferization";
  let description = [{
    A pool, or the sum to which all layers of a model add, is one buffer from
    the first layer to the last. One-shot-bufferize compares each use of it with
    each write, for each operand: a model with twice as many layers takes eight
    times as long. Between two updates, where only later updates refer to the
    buffer, the value is passed on as a memref, through which the analysis does
    not look. The two operations disappear in bufferization.

    Contract in: tensors, in functions whose arguments become packed memrefs.
    Contract out: an equivalent program. A value is passed on only if it was
    written in place of an argument of a public function or of a `tensor.empty`,
    in a function with one block, and nothing that may refer to its buffer is
    used afterwards.

    Before:

    ```mlir
    %1 = kvcache.index_copy %k1 into %0[B, N, H, D] at %slots : ...
    %2 = kvcache.index_copy %k2 into %1[B, N, H, D] at %slots : ...
    ```

    After:

    ```mlir
    %1 = kvcache.index_copy %k1 into %0[B, N, H, D] at %slots : ...
    %buffer = bufferization.to_buffer %1 : tensor<...> to memref<...>
    %same = bufferization.to_tensor %buffer restrict writable : memref<...> to tensor<...>
    %2 = kvcache.index_copy %k2 into %same[B, N, H, D] at %slots : ...
    ```
  }];
  let options = [
    Option<"distance", "distance", "unsigned", "16",
           "Minimum number of values of one buffer between two splits">
  ];
  let dependentDialects = ["mlir::bufferization::BufferizationDialect"];
}

def InsertChecks : Pass<"kvcache-insert-checks", "mlir::ModuleOp"> {
  let summary = "Check the entries of lists where the program uses them";
  let description = [{
    For a mode of compiled programs that detects invalid entries: slots, blocks,
    starts, lengths and positions that their types do not allow (docs/types.md,
    "Slots and padding" and "Untrusted entries").

    Contract in: bufferized functions, with views folded and variants made.
    Contract out: each operation that uses entries has its checks
    (`check_entries`, `check_batch`, `check_selection`), with the name of the
    operation and of the argument. If a type allows every entry, there is no
    check, and a checked list is not checked again before it is written.

    On a CPU (`target=cpu`), checks come before the operation, which runs only
    if the call has had no error so far; so does each kvcache operation that
    writes after the first check. On a GPU, an operation never waits for its
    checks: they come after it, so that their kernel runs concurrently with that
    of the operation, or before it if the operation may write one of the lists.
    Checks of lists that the function does not write are `early`: their kernel
    need not wait for earlier ones.

    Before:

    ```mlir
    kvcache.index_copy %k, %v into %cache at %slots : !rows, !rows into !kv at !slots
    ```

    After, for a CPU:

    ```mlir
    %n = memref.dim %slots_list, %c0 : memref<?xi64>
    %blocks = kvcache.dim %cache[B] : !kv
    %end = arith.muli %blocks, %c16 : index
    %passes = kvcache.check_entries "slot" in %slots first %n below %end
      or_negative by "index_copy" of "slots" : !slots
    scf.if %passes {
      kvcache.index_copy %k, %v into %cache at %slots : !rows, !rows into !kv at !slots
    } {kvcache.checked}
    ```
  }];
  let options = [
    Option<"target", "target", "std::string", /*default=*/"\"cpu\"",
           "Target of the code: cpu or gpu">,
    Option<"onRequest", "on-request", "bool", /*default=*/"false",
           "Check only if the process requests it (KVRT_CHECK=1)">];
  let dependentDialects = ["mlir::arith::ArithDialect",
                           "mlir::memref::MemRefDialect",
                           "mlir::scf::SCFDialect"];
}

def FuseRows : Pass<"kvcache-fuse-rows", "mlir::ModuleOp"> {
  let summary = "Put operations on rows into one launch";
  let description = [{
    For a GPU: steps on rows (`normalize`, `rotate`) and the writes of their
    results become one `fuse`, and so do independent ones beside them. What a
    step writes to a buffer that is allocated for it, and read once, is not
    stored.

    Contract in: bufferized functions. Contract out: operations of one block
    with nothing between them that accesses memory are in one `fuse`, if there
    are two or more and one of them is a step. Each result has the same bits as
    before, but that a norm may sum in another sequence. Operations stay apart
    if one may write memory that the other one accesses, but that the last step
    may write the rows of the first one: arguments may overlap unless one is
    marked `kvcache.noalias`. A remark says what has been fused, and what has not
    and why.

    Before:

    ```mlir
    %turned = memref.alloc(%t) : memref<?x8x128xbf16>
    kvcache.rotate %key by %table at %positions into %turned : !rows by !table
      at memref<?xi32> into !rows
    kvcache.index_copy %turned, %value into %cache at %slots
      : !rows, !rows into !kv at !slots
    ```

    After:

    ```mlir
    kvcache.fuse {
      %turned = memref.alloc(%t) : memref<?x8x128xbf16>
      kvcache.rotate %key by %table at %positions into %turned : !rows by !table
        at memref<?xi32> into !rows
      kvcache.index_copy %turned, %value into %cache at %slots
        : !rows, !rows into !kv at !slots
    }
    ```
  }];
  let dependentDialects = ["mlir::memref::MemRefDialect"];
}

#endif // KVCACHE_TRANSFORMS_PASSES_TD
