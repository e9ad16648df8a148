// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_ROWDEMAND_PASSES_TD
#define KVCACHE_ROWDEMAND_PASSES_TD

include "mlir/Pass/PassBase.td"

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

#endif // KVCACHE_ROWDEMAND_PASSES_TD
