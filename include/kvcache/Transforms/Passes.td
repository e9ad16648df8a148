// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_TRANSFORMS_PASSES_TD
#define KVCACHE_TRANSFORMS_PASSES_TD

include "mlir/Pass/PassBase.td"

def CopyCarriedTensors
    : Pass<"kvcache-copy-carried-tensors", "mlir::ModuleOp"> {
  let summary = "Copy what a loop carries into the buffer that it began with";
  let description = [{
    A loop has one buffer for each tensor that it carries. A layer that makes its
    result in a tensor of its own, as `outs(%empty)`, gives the loop a second
    one; one-shot-bufferize refuses that. Such results are copied at the end of
    each iteration. Those that are made in the place of the old value, as
    `outs(%carried)`, need no copy.

    Contract in: tensors that one-shot-bufferize takes, except for such loops.
    Contract out: in each `scf.for`, what is yielded has the buffer of what is
    carried. Where its extents are not known to be those before the loop, a copy
    would not fit, which is an error. Of a pool it is one as well, but
    `kvcache-check-copies` gives it.

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
  let summary = "Give arithmetic on tensors a result that is no argument";
  let description = [{
    Arithmetic on tensors, such as `arith.addf`, does not say where its result
    lies. `convert-elementwise-to-linalg` takes an operand of the same type for
    it, so that an argument of the function would be overwritten, also one that
    came through slices or calls. Such operations are converted here, into
    tensors of their own. Where that operand is made in the function, or carried
    by a loop, they stay, and it may be overwritten.

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
    argument and takes the updated one as a result. Bufferized in place, both
    are one buffer, and giving it back would copy the whole pool to an
    out-parameter. Such results are dropped, also from public functions, and
    callers use the argument.

    Contract in: bufferized functions. Contract out: no result of a function
    with a body is one of its arguments each time. A function that is used by
    anything but calls stays what it is.

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
  let summary = "Add a function that says how much workspace a call needs";
  let description = [{
    Contract in: bufferized functions. Contract out: for each public function
    `@f` there is a private function `@f.workspace_size` with the same arguments
    that gives the bytes of all buffers that a call of `@f` allocates, or -1 if
    an extent is negative or they are 2^62 or more. It reads extents of arguments
    and nothing else, so it can be asked before there is any data. One that an
    earlier run made is made anew.

    A buffer whose size depends on data, or that is allocated in a loop or by a
    call that was not inlined, is an error: its size has no upper bound that a
    caller could provide. So is one whose size is divided in a branch that a call
    may not take, and one whose elements are neither integers nor floats.

    Before:

    ```mlir
    func.func @f(%x: memref<?xi64>) {
      %n = memref.dim %x, %c0 : memref<?xi64>
      %copy = memref.alloc(%n) : memref<?xi64>
      ...
    ```

    After, in addition: `func.func private @f.workspace_size(memref<?xi64>) ->
    i64`, which gives 8 * n, rounded up to 256.
  }];
  let dependentDialects = ["mlir::arith::ArithDialect",
                           "mlir::func::FuncDialect"];
}

def ScatterToIndexCopy
    : Pass<"kvcache-scatter-to-index-copy", "mlir::ModuleOp"> {
  let summary = "Write rows by one number instead of a block and an offset";
  let description = [{
    Contract in: bufferized functions. Contract out: a `scatter` became an
    `index_copy` where that does the same for every entry, also for padding and
    for numbers that are wrong; a remark says for each what was done, or which
    fact is missing.

    *Divided slots.* Blocks and offsets that a loop divides out of one list of
    slots are that list: it is used, and the loop goes. Where rows have one
    number in memory (`stride(B) = N * stride(N)`), nothing divides any more.
    Quotients may be rounded to zero or down, also as shifts, and remainders be
    masks. If a slot below 0 would end in a live row, as with a quotient that is
    rounded to zero and a masked offset, this is an error where the padding of
    the scatter is `skip_negative`.

    *Lists of their own.* With `compute-slots`, slots are computed from the two
    lists, into a buffer: `block * N + offset` where rows have one number, `block
    * scale + offset` where `stride(B) = scale * stride(N)`, and with a test in
    each call where the stride is not known. What the scatter skips becomes -1.

    *Whole blocks.* An `index_copy` at all slots of some blocks (`block_slots`)
    becomes one whose rows are these blocks, of a view with blocks of one token:
    `?B x 16N x 8H x 128D` is seen as `?B x 1N x 128H x 128D`. This takes tokens,
    heads and channels that lie one after the other in a block as in the rows,
    which is more than `stride(B) = N * stride(N)` says of a block and nothing
    of the distance between blocks; packed rows; padding that is skipped, not
    written to a sink; and a list that is known to have all slots of the blocks.

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
  let summary = "Fold what only changes the view into types and names";
  let description = [{
    Contract in: any kvcache IR. Contract out: between a cache and its use, no
    transposition and no cast is left that only changes how memory is seen, which
    a verifier at the end of the pass checks; each cache value has the most
    precise type that is known to be true of it.

    *Transpositions* of a memref that is seen as a cache become names of its
    dimensions. Memrefs of a cache that are seen as the same cache again, and
    rows that were flattened and are cut in the same blocks again, are that
    cache.

    *Facts* flow from where they are known to where they are used: strides of
    memrefs, constants and products that a view of bytes gets, through casts,
    slices, branches, loops, and into and out of private functions whose callers
    are known. Where paths meet, what they have in common is known; a cast
    forgets the rest.

    *A `relayout` to a local buffer that is only read* folds: readers take the
    source, if nothing may write it before they read, the readers included: what
    they write is a local buffer, or `kvcache.noalias` is said of an argument.

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
    finds the facts that are known anyway. Contract out: an operation on a cache
    whose strides are known at run time only has up to `max-variants` variants,
    chosen by `has_facts` in each call: strides are compact; strides are
    multiples of `multiple` elements; any strides. The last one is always there.
    There is none for a certain stride unless `block-strides` asks for it.

    A variant that would get the same code as the next one that assumes less is
    left out, and a remark says so. What the code depends on is asked of the
    layout: the length of a contiguous run, whether rows have one number, and for
    a GPU the width of an aligned access. For reads on a CPU the number of a row
    counts where rows are short, below 256 bytes. With `trace`, each variant says so
    where the program runs with `KVRT_TRACE=1`.

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
           "What code is made for: cpu, or gpu, where accesses are aligned">,
    Option<"multiple", "multiple", "int64_t", /*default=*/"16",
           "Elements that strides are a multiple of in the second variant">,
    Option<"maxVariants", "max-variants", "unsigned", /*default=*/"3",
           "Variants of one operation at most, the generic one included">,
    ListOption<"blockStrides", "block-strides", "int64_t",
           "Strides of blocks, in elements, that get a variant of their own">,
    Option<"trace", "trace", "bool", /*default=*/"true",
           "Say in each variant which one it is, for KVRT_TRACE=1">];
  let dependentDialects = ["mlir::arith::ArithDialect",
                           "mlir::scf::SCFDialect"];
}

def CheckCopies : Pass<"kvcache-check-copies", "mlir::ModuleOp"> {
  let summary = "Refuse copies of pools, and writes that are lost in a copy";
  let description = [{
    Runs twice. It changes nothing but marks on what the program asks for, which
    the second run reads and removes.

    *On the program*, before anything is simplified. It is an error if

      * an operation with a region is left of a dialect that is not loaded, as
        nothing can be told of what it does
      * a pool as a tensor is updated and nobody uses the updated one
      * rows are written to a copy of a buffer, and nobody reads the copy
        afterwards
      * a pool is read as a tensor after it was written through a reference to
        its buffer

    *After bufferization* (`bufferized`), the second of these again, and it is an
    error if

      * bufferization copies a buffer that is seen as a cache, which it does
        where the old contents are used after an update, or where the caller does
        not donate the pool
      * bufferization allocates a buffer that is seen as a cache, which it does
        for a result whose destination it cannot overwrite, and for arithmetic on
        whole pools

    The message has the bytes. Each copy and each buffer gets a remark with its
    bytes. `allow-pool-copies` makes remarks of these errors.

    What the program asks for is no error: `memref.copy`, `memref.alloc`,
    `tensor.empty` and what else makes a tensor of nothing (`tensor.splat`,
    `tensor.generate`), `bufferization.alloc_tensor`, and results that are
    written to memory of the caller.

    Before, where `%pool` is read again later:

    ```mlir
    %cleared = linalg.fill ins(%zero : bf16) outs(%pool : !pool) -> !pool
    %next = kvcache.index_copy %rows into %cleared[B, N, H, D] at %where : !rows into !pool at !slots
    ```

    ```
    error: 'memref.alloc' op allocates a pool, 32768 bytes for each block, on each call, for the result of 'linalg.fill': expected an update in place, which takes a pool that the caller donates and whose old contents nobody reads afterwards
    ```
  }];
  let options = [
    Option<"bufferized", "bufferized", "bool", /*default=*/"false",
           "The second run">,
    Option<"allowPoolCopies", "allow-pool-copies", "bool", /*default=*/"false",
           "Copies of pools that bufferization makes are no errors">];
}

def LayoutReport : Pass<"kvcache-layout-report", "mlir::ModuleOp"> {
  let summary = "Print what each operation gets out of its layouts";
  let description = [{
    For each operation and each cache of it: the memory order, the strides that
    are not compact, the axis whose elements are contiguous, the contiguous runs
    that the operation moves, the widest aligned access, whether rows have one
    number, how many descriptors of which size it takes to move one block, bytes
    and floating-point operations, and what is checked in each call. Numbers that
    are known at run time only are `?`, and null in JSON. An attention on some of
    the rows of a batch says so: its operations are per selected row and key.

    It changes nothing, and can stand anywhere in a pipeline. The program:

    ```mlir
    %pool = kvcache.view %bytes extents(B = %n) : memref<?xi8> to !all
    %layer = kvcache.layer %pool[%i] : !all
    kvcache.index_copy %k, %v into %layer at %slots : !rows, !rows into !one at !slots
    kvcache.attention %q over %layer in %batch into %out causal : !heads over !one in !batch into !heads
    ```

    What is printed:

    ```
    line  operation   order            strides    fastest  runs         access  rows  block moves as  bytes           FLOPs                  checked in each call
    31    view        cross_layer_nhd  packed     128D     1 x 2097152  16            1 x 2097152                                            base aligned to 16, inside of the bytes
    32    layer       paired_nhd       B=1048576  128D     1 x 65536    16            1 x 65536                                              layer in the cache
    33    index_copy  paired_nhd       B=1048576  128D     1 x 2048     16            1 x 65536       4096 per token                         slot in the cache
    34    attention   paired_nhd       B=1048576  128D     1 x 256      16            1 x 65536       4096 per key    16384 per row and key  block of the table in the cache
    ```
  }];
  let options = [
    Option<"format", "format", "std::string", /*default=*/"\"table\"",
           "table, or json">,
    Option<"output", "output", "std::string", /*default=*/"\"-\"",
           "The file that it is written to, - for the standard output">];
}

def HoistBuffers : Pass<"kvcache-hoist-buffers", "mlir::func::FuncOp"> {
  let summary = "Allocate buffers in front of loops, where there are any in one";
  let description = [{
    Runs `buffer-loop-hoisting` on functions that allocate in a loop. That pass
    computes what is live in all of a function, and a model whose layers are
    written out has no buffer in a loop.
  }];
  let dependentDialects = ["mlir::memref::MemRefDialect"];
}

def OwnDestinations : Pass<"kvcache-own-destinations", "mlir::ModuleOp"> {
  let summary = "Let few operations share a tensor that they write into";
  let description = [{
    CSE makes one `tensor.empty`, and one `linalg.fill` of it, of all that are
    equal: of the destinations of a thousand operations. One-shot-bufferize then
    compares each of these with all others, to find out which may have the same
    buffer, and copies what was filled for all but one. Here each operation
    fills its own destination, and few of them, neighbours in the program,
    share one `tensor.empty`.

    Contract in: tensors. Contract out: no `linalg.fill` of a `tensor.empty` is
    the destination of two operations, and no `tensor.empty` that of more than
    `share`.

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
           "Operations that write into one tensor, at most">
  ];
}

def SplitUpdates : Pass<"kvcache-split-updates", "mlir::ModuleOp"> {
  let summary = "Split long chains of updates before bufferization";
  let description = [{
    A pool, or the sum that all layers of a model add to, is one buffer from the
    first layer to the last. One-shot-bufferize compares each use of it with each
    write, for each operand: a model with twice as many layers takes eight times
    as long. Between two updates, where nothing but the next ones refers to the
    buffer, the value is handed over as a memref, behind which the analysis does
    not look. The two operations are gone after bufferization.

    Contract in: tensors, in functions whose arguments become packed memrefs.
    Contract out: the same program. A value is handed over only if it was
    written in the place of an argument of a public function or of a
    `tensor.empty`, in a function of one block, and nothing that may refer to its
    buffer is used afterwards.

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
           "Values of one buffer, at least, from one place where it is split to "
           "the next">
  ];
  let dependentDialects = ["mlir::bufferization::BufferizationDialect"];
}

def InsertChecks : Pass<"kvcache-insert-checks", "mlir::ModuleOp"> {
  let summary = "Check the entries of lists where the program uses them";
  let description = [{
    For a mode of compiled programs in which wrong numbers are found: slots,
    blocks, starts, lengths, positions that no type allows (docs/types.md,
    "Slots and padding" and "Untrusted numbers").

    Contract in: bufferized functions, with views folded and variants made.
    Contract out: each operation that takes entries has its checks
    (`check_entries`, `check_batch`, `check_selection`), with the name of the
    operation and of the argument. What a type allows is not looked at, and a list
    that was checked is not checked again before it is written.

    For a CPU (`target=cpu`) checks come before the operation, which runs only if
    the call has had no error so far; so does each kvcache operation that writes
    after the first check. For a GPU an operation never waits for its checks:
    they come behind it, so that their kernel runs while that of the operation
    does, or before it where the operation may write one of the lists. Checks of
    lists that the function does not write are `early`: their kernel need not wait
    for the ones before it.

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
           "What code is made for: cpu or gpu">,
    Option<"onRequest", "on-request", "bool", /*default=*/"false",
           "Check only if the process asks for it (KVRT_CHECK=1)">];
  let dependentDialects = ["mlir::arith::ArithDialect",
                           "mlir::memref::MemRefDialect",
                           "mlir::scf::SCFDialect"];
}

#endif // KVCACHE_TRANSFORMS_PASSES_TD
