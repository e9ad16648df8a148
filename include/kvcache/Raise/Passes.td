// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_RAISE_PASSES_TD
#define KVCACHE_RAISE_PASSES_TD

include "mlir/Pass/PassBase.td"

def Raise : Pass<"kvcache-raise", "mlir::ModuleOp"> {
  let summary = "Recognise writes and reads of caches in other dialects";
  let description = [{
    Model compilers write rows to a cache with scatters and loops, with block
    and offset computed from slots. This pass turns them into `index_copy`,
    `scatter` and `gather`. The result is equivalent to the input for every list
    entry, including wrapping, rounding and dropping; otherwise the operation is
    left alone. A remark reports for each what was done, or which fact is
    missing.

    The pass recognises:

      * scatters of rows to one or two dimensions of a pool:
        `stablehlo.scatter`, `iree_linalg_ext.scatter`, `tm_tensor.scatter`,
        `tensor.scatter`. Operations of dialects that are not linked are
        recognised by name and attributes. Other dialects describe theirs
        through `kvcache/Interfaces/Raise.h`
      * gathers of rows or blocks: `stablehlo.gather`
      * the arithmetic before them, elementwise on tensors, through broadcasts,
        concatenations and calls of private functions, if it is division and
        remainder by the block size, in whatever form
      * transposes and reshapes of the pool around them, which disappear, since
        axes of a cache are named

    If block and offset are not proven to belong to a slot, a write becomes a
    `scatter` with the indices as computed. docs/raise.md describes the proof.

    Contract in: any IR. Contract out: operations that no remark reports as
    raised are unchanged; operations that were used only by raised ones, and
    private functions called only by these, are removed.

    Before:

    ```mlir
    %b = arith.shrsi %slots, %n : tensor<?xi32>
    %o = arith.andi %slots, %m : tensor<?xi32>
    %b1 = tensor.expand_shape %b [[0, 1]] output_shape [%T, 1] : tensor<?xi32> into tensor<?x1xi32>
    %o1 = tensor.expand_shape %o [[0, 1]] output_shape [%T, 1] : tensor<?xi32> into tensor<?x1xi32>
    %at = tensor.concat dim(1) %b1, %o1 : (tensor<?x1xi32>, tensor<?x1xi32>) -> tensor<?x2xi32>
    %new = "tm_tensor.scatter"(%rows, %at, %pool) <{dimension_map = array<i64: 0, 1>, unique_indices = true}> ({
    ^bb0(%x: f32, %y: f32):
      "tm_tensor.yield"(%x) : (f32) -> ()
    }) : (tensor<?x64xf32>, tensor<?x2xi32>, tensor<?x16x64xf32>) -> tensor<?x16x64xf32>
    ```

    After:

    ```mlir
    %0 = kvcache.make_slots %arg2 : tensor<?xi32> to !kv_slots
    %1 = kvcache.index_copy %arg1 into %arg0[B, N, D] at %0 : tensor<?x64xf32> into tensor<?x16x64xf32> at !kv_slots
    ```
  }];
  let options = [
    Option<"lastRowWins", "last-row-wins", "bool", "false",
           "Promise that the program will run where the last of several rows for "
           "one slot is kept, as on a CPU, or that no slot has several rows">,
    Option<"standalone", "standalone", "bool", "false",
           "Drop attributes of functions and of the module that belong to "
           "dialects that are not loaded">,
  ];
  let dependentDialects = [
    "kvcache::KVCacheDialect", "mlir::arith::ArithDialect",
    "mlir::bufferization::BufferizationDialect", "mlir::func::FuncDialect",
    "mlir::linalg::LinalgDialect", "mlir::math::MathDialect",
    "mlir::memref::MemRefDialect", "mlir::tensor::TensorDialect"];
}

#endif // KVCACHE_RAISE_PASSES_TD
