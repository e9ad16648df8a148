// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_TRANSFORMS_PASSES_TD
#define KVCACHE_TRANSFORMS_PASSES_TD

include "mlir/Pass/PassBase.td"

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
    that gives the bytes of all buffers that a call of `@f` allocates. It reads
    extents of arguments and nothing else, so it can be asked before there is
    any data.

    A buffer whose size depends on data, or that is allocated in a loop or by a
    call that was not inlined, is an error: its size has no upper bound that a
    caller could provide. So is one whose elements are neither integers nor
    floats.

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

def SplitLayerGroups : Pass<"kvcache-split-layer-groups", "mlir::ModuleOp"> {
  let summary = "Run operations on the rows that are sampled, where others are "
                "not needed";
  let description = [{
    Of what a model computes for a prompt, a sampler reads a few rows: mostly one
    for each request. Whatever lies between the last write of a cache and the
    sampler needs to run on those rows only. This pass finds that part by data
    flow, and makes it run so.

    Demand flows backwards. Who reads rows by name, by `select_rows` or by a
    `linalg` operation whose body does `tensor.extract` at the entry of a list,
    needs the rows that the list names. Such a demand passes:

      * `linalg` operations along a dimension that is one parallel loop
      * elementwise operations, casts, concatenations, slices, paddings and
        reshapes that leave the dimension of rows alone
      * `attention`, to its queries, and not to the cache; `merge_states`
      * `scf.for` and `scf.if`. Of a loop that writes a cache in each iteration,
        and could do with fewer rows in the last one, that is peeled
      * operations of other dialects that implement `RowDemandOpInterface`

    Everything else needs all rows: a write of a cache, an operation that
    combines rows, an output. Calls are inlined first. docs/row-demand.md tells
    more.

    Contract in: tensors, before bufferization. The rows of an attention belong
    to requests, and their list does not decrease: `select_rows` fails at run
    time where that is not so. Where only linalg is in between, any list will do.

    Contract out: results and caches are what they were, the rows that nobody
    reads excepted. Rows are selected once, as early as that is possible, with
    their positions; the batch of the operations behind has the lengths and the
    blocks that it had, and starts and positions of the selected rows. A remark
    says what runs on them, and which operations need all rows; where nothing
    can run on selected rows the program does not change, and a remark names the
    operation that is in the way.

    `outputs` gives a function that returns all rows, of which the caller reads
    some, a demand of its own: the result has its shape, and 0 in other rows.

    With `outline`, what runs on all rows becomes `NAME_group0`, the selection
    `NAME_select`, and what runs on selected rows `NAME_group1`: functions with
    the numbers of their rows as arguments, which can be captured as a graph each.
    `NAME` calls them.

    Before:

    ```mlir
    kvcache.index_copy %k, %v into %layer0 at %slots
    %a = kvcache.attention %q over %layer0 in %batch into %e causal
    %b = linalg.matmul ins(%a, %w) outs(%zeros) -> tensor<?x64xf32>
    %s = linalg.generic ... ins(%sampled) { tensor.extract %b[%i, %d] }
    ```

    After:

    ```mlir
    kvcache.index_copy %k, %v into %layer0 at %slots
    %r:3 = kvcache.select_rows %q of %batch at %sampled, %all into ...
    %some = kvcache.with_rows %batch, %r#1, %r#2
    %a = kvcache.attention %r#0 over %layer0 in %some into %e1 causal
    %b = linalg.matmul ins(%a, %w) outs(%zeros1) -> tensor<?x64xf32>
    ```
  }];
  let options = [
    ListOption<"functions", "functions", "std::string",
               "The functions to look at (default: all)">,
    ListOption<"outputs", "outputs", "std::string",
               "Results of which only rows are needed that an argument names, "
               "as in 0=sampled or 0=sampled:num_valid">,
    Option<"outline", "outline", "bool", /*default=*/"false",
           "Make each group of layers a function: NAME_group0, NAME_select and "
           "NAME_group1">,
    Option<"minRows", "min-rows", "int64_t", /*default=*/"2",
           "Rows there must be for a split, where their number is a constant">,
  ];
  let dependentDialects = ["mlir::arith::ArithDialect",
                           "mlir::func::FuncDialect",
                           "mlir::linalg::LinalgDialect",
                           "mlir::scf::SCFDialect",
                           "mlir::tensor::TensorDialect"];
}

def Raise : Pass<"kvcache-raise", "mlir::ModuleOp"> {
  let summary = "Recognise writes and reads of caches in other dialects";
  let description = [{
    Model compilers write rows to a cache by scatters and loops, with block and
    offset computed from slot numbers. This pass turns them into `index_copy`,
    `scatter` and `gather`. The result does what the input did for every number
    in the lists, wrapping, rounding and dropping included, or the operation is
    left alone. A remark says for each what was done, or which fact is missing.

    Recognised are:

      * scatters of rows to one or two dimensions of a pool:
        `stablehlo.scatter`, `iree_linalg_ext.scatter`, `tm_tensor.scatter`,
        `tensor.scatter`. Dialects that are not linked are recognised by name
        and attributes. Others describe theirs by
        `kvcache/Interfaces/Raise.h`
      * gathers of rows or blocks: `stablehlo.gather`
      * the arithmetic before them, elementwise on tensors, through broadcasts,
        concatenations and calls of private functions, if it is division and
        remainder by the block size, in whatever form
      * transposes and reshapes of the pool around them, which vanish: axes of a
        cache are named

    Where block and offset are not proven to be those of a slot, a write becomes
    `scatter` with the numbers as they were computed. docs/raise.md says how that
    is proven.

    Contract in: any IR. Contract out: what is not named in a remark as raised is
    what it was; operations that only it used, and private functions that only
    they called, are gone.

    Before (`index_put_` of PyTorch, through IREE):

    ```mlir
    %block = linalg.generic ... { %q = floor(sitofp(%slot) / 16.0) ... }
    %offset = linalg.generic ... { %r = %slot % 16, made non-negative ... }
    %pair = tensor.concat dim(1) %block, %offset
    %new = "iree_linalg_ext.scatter"(%rows, %pair, %pool)
      <{dimension_map = array<i64: 0, 1>, unique_indices = true}>
    ```

    After:

    ```mlir
    %slots = kvcache.make_slots %slot : tensor<7xi64>
      to !kvcache.slots<7T x i64, rows_per_block = 16, pad = skip_out_of_range>
    %new = kvcache.index_copy %rows into %pool[B, N, H, D] at %slots
    ```
  }];
  let options = [
    Option<"lastRowWins", "last-row-wins", "bool", "false",
           "Promise that of several rows for one slot the last one stays where "
           "the program will run, as on a CPU, or that there are none">,
    Option<"standalone", "standalone", "bool", "false",
           "Drop attributes of functions and of the module that belong to "
           "dialects which are not loaded">,
  ];
  let dependentDialects = [
    "kvcache::KVCacheDialect", "mlir::arith::ArithDialect",
    "mlir::bufferization::BufferizationDialect", "mlir::func::FuncDialect",
    "mlir::linalg::LinalgDialect", "mlir::math::MathDialect",
    "mlir::memref::MemRefDialect", "mlir::tensor::TensorDialect"];
}

#endif // KVCACHE_TRANSFORMS_PASSES_TD
