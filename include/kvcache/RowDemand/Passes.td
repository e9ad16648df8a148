// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_ROWDEMAND_PASSES_TD
#define KVCACHE_ROWDEMAND_PASSES_TD

include "mlir/Pass/PassBase.td"

def SplitLayerGroups : Pass<"kvcache-split-layer-groups", "mlir::ModuleOp"> {
  let summary = "Run operations on the sampled rows only, where no others are "
                "needed";
  let description = [{
    Of the result of a model for a prompt, a sampler reads a few rows, usually
    one per request. Operations between the last write of a cache and the
    sampler need to run on those rows only. This pass finds them by data flow,
    and restricts them to these rows.

    Demand flows backwards. An operation that reads rows through a list,
    `select_rows` or a `linalg` operation with a `tensor.extract` at an entry of
    a list, needs the rows that the list names. Such a demand passes through:

      * `linalg` operations along a dimension that is one parallel loop
      * elementwise operations, casts, concatenations, slices, paddings and
        reshapes that leave the row dimension alone
      * `attention`, to its queries but not to the cache; `merge_states`
      * `scf.for` and `scf.if`. If a loop writes a cache in each iteration and
        needs fewer rows only in the last one, the last iteration is peeled
      * operations of other dialects that implement `RowDemandOpInterface`

    Everything else needs all rows: a write to a cache, an operation that
    combines rows, an output. Calls are inlined first. docs/row-demand.md has
    the details.

    Contract in: tensors, before bufferization. The selected rows of an
    attention belong to requests, and their list does not decrease: otherwise
    `select_rows` fails at run time. If only linalg operations are in between,
    any list works.

    Contract out: results and caches are unchanged, except for rows that are
    never read. Rows are selected once, as early as possible, with their
    positions; the batch of later operations has the original lengths and
    blocks, and the starts and positions of the selected rows. A remark reports
    what runs on them, and which operations need all rows; if nothing can run on
    selected rows, the program does not change, and a remark names the operation
    that prevents it.

    `outputs` adds a demand for a function that returns all rows but whose
    caller reads only some: the result keeps its shape, with 0 in the other
    rows.

    With `outline`, the operations on all rows become `NAME_group0`, the
    selection `NAME_select`, and the operations on selected rows `NAME_group1`:
    functions that take their number of rows as an argument, so that each can be
    captured as a graph. `NAME` calls them.

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
               "The functions to process (default: all)">,
    ListOption<"outputs", "outputs", "std::string",
               "Results of which only the rows listed in an argument are needed, "
               "as in 0=sampled or 0=sampled:num_valid">,
    Option<"outline", "outline", "bool", /*default=*/"false",
           "Outline each group of layers: NAME_group0, NAME_select and "
           "NAME_group1">,
    Option<"minRows", "min-rows", "int64_t", /*default=*/"2",
           "Minimum number of rows for a split, if it is constant">,
  ];
  let dependentDialects = ["mlir::arith::ArithDialect",
                           "mlir::func::FuncDialect",
                           "mlir::linalg::LinalgDialect",
                           "mlir::scf::SCFDialect",
                           "mlir::tensor::TensorDialect"];
}

#endif // KVCACHE_ROWDEMAND_PASSES_TD
