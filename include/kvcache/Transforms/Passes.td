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
    TODO
  }];
  let options = [
    ListOption<"functions", "functions", "std::string",
               "The functions to look at (default: all)">,
    ListOption<"outputs", "outputs", "std::string",
               "Results of which only rows are needed that an argument names, "
               "as in 0=sampled or 0=sampled:num_valid">,
    Option<"outline", "outline", "bool", /*default=*/"false",
           "Make each group of layers a function, NAME_group0 and NAME_group1">,
    Option<"minRows", "min-rows", "int64_t", /*default=*/"2",
           "Rows there must be for a split, where their number is a constant">,
  ];
  let dependentDialects = ["mlir::arith::ArithDialect",
                           "mlir::func::FuncDialect",
                           "mlir::linalg::LinalgDialect",
                           "mlir::scf::SCFDialect",
                           "mlir::tensor::TensorDialect"];
}

#endif // KVCACHE_TRANSFORMS_PASSES_TD
