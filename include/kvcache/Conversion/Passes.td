// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_CONVERSION_PASSES_TD
#define KVCACHE_CONVERSION_PASSES_TD

include "mlir/Pass/PassBase.td"

def ConvertKVCacheToLoops : Pass<"convert-kvcache-to-loops", "mlir::ModuleOp"> {
  let summary = "Lower kvcache operations to loops over vectors, for a CPU";
  let description = [{
    Contract in: kvcache operations whose operands are memrefs (bufferized).
    Contract out: no kvcache operation and no kvcache type is left; caches are
    strided memrefs, rows are copied in vectors along the longest run that the
    layout and the rows share.

    Before:

    ```mlir
    kvcache.index_copy %rows into %cache at %slots
      : memref<?x64xf32> into !kvcache.cache<?B x 16N x 64D x f32>
        at !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
    ```

    After: a loop over the tokens that loads one slot, skips padding, and copies
    64 elements in vectors.
  }];
  let dependentDialects = [
    "mlir::arith::ArithDialect", "mlir::func::FuncDialect",
    "mlir::memref::MemRefDialect", "mlir::scf::SCFDialect",
    "mlir::vector::VectorDialect"];
}

def LowerLinalg : Pass<"kvcache-lower-linalg", "mlir::ModuleOp"> {
  let summary = "Lower linalg operations to vectorized loops, for a CPU";
  let description = [{
    Contract in: linalg operations on memrefs, and copies between memrefs.
    Contract out: no linalg operation on memrefs and no copy of a strided memref
    is left. Operations that are the same but for their operands share a private
    function. Loops that are worth several threads are one-dimensional
    `scf.parallel`.

    *Matrix products* (named or generic; batches; either operand transposed;
    f32, f16 or bf16 into f32) are computed in tiles from copies of blocks that
    fit the caches; a product with one row reads the other operand once, in
    order. The order of summation depends on extents and on which dimension is
    contiguous, and partial sums are f32.

    *Other operations* run in vectors along one dimension: one along which every
    result is contiguous, or one that is summed over, where the lanes of a
    vector are partial results. So the order of such a reduction of f32, f64 or
    integers is not that of a loop. A load in the body may gather.

    What fits neither is lowered to scalar loops.

    Before:

    ```mlir
    linalg.matmul ins(%x, %w : memref<?x64xf32>, memref<64x32xf32>)
                  outs(%y : memref<?x32xf32>)
    ```

    After: `call @kvcache.linalg(%x, %w, %y)`, and a function that multiplies
    row by row if there is one row and in tiles of six rows if there are more.
  }];
  let dependentDialects = [
    "mlir::affine::AffineDialect", "mlir::arith::ArithDialect",
    "mlir::func::FuncDialect", "mlir::linalg::LinalgDialect",
    "mlir::memref::MemRefDialect", "mlir::scf::SCFDialect",
    "mlir::vector::VectorDialect"];
}

def ExpandMath : Pass<"kvcache-expand-math", "mlir::ModuleOp"> {
  let summary = "Compute mathematical functions and bf16 without a library";
  let description = [{
    Contract in: anything; what is on tensors or inside linalg operations comes
    out as it would be on their elements. Contract out: `exp`, `exp2`, `expm1`,
    `log`, `log2`, `log10`, `log1p`, `tanh`, `sin`, `cos`, `erf`, `rsqrt` of f32,
    f16 and bf16, and the roundings of any float, are arithmetic on scalars or
    vectors. Results are within 2 ulp of f32 over the whole range, infinities,
    denormals and NaN included. Arithmetic on bf16 is done in f32, and conversion
    between bf16 and wider floats in integers: to the nearest, ties to even.

    Other functions are left: a CPU pipeline must not be given them, as LLVM would
    call a mathematical library.

    Before:

    ```mlir
    %y = arith.truncf %x : vector<16xf32> to vector<16xbf16>
    ```

    After: shifts, an addition of 0x7fff and the last bit that is kept, and a
    selection for NaN.
  }];
  let dependentDialects = [
    "mlir::arith::ArithDialect", "mlir::math::MathDialect",
    "mlir::scf::SCFDialect", "mlir::vector::VectorDialect"];
}

def ConvertKVCacheToGPU : Pass<"convert-kvcache-to-gpu", "mlir::ModuleOp"> {
  let summary = "Lower kvcache operations to kernels and launches";
  let description = [{
    Contract in: kvcache operations whose operands are memrefs (bufferized) of
    memory that the device can reach.
    Contract out: no kvcache operation and no kvcache type is left; each
    operation is a kernel in the `gpu.module` `@kv_kernels` and a `gpu.launch_func`
    in the host function. The operation's facts decide the kernel: the width of
    accesses, the addressing, and which strides are constants.

    One kernel serves every number of tokens and every size of the pool. A
    remark names for each operation what the facts gave.
  }];
  let dependentDialects = [
    "mlir::arith::ArithDialect", "mlir::func::FuncDialect",
    "mlir::gpu::GPUDialect", "mlir::LLVM::LLVMDialect",
    "mlir::memref::MemRefDialect", "mlir::NVVM::NVVMDialect",
    "mlir::scf::SCFDialect"];
}

def ConvertLaunchToRuntime
    : Pass<"kvcache-launch-to-runtime", "mlir::ModuleOp"> {
  let summary = "Turn GPU binaries and launches into data and run-time calls";
  let description = [{
    Contract in: `gpu.binary` operations with one object each (PTX or cubin), and
    `gpu.launch_func` operations whose operands are of LLVM types.
    Contract out: neither is left. Each binary is a constant with a record that
    the run time loads on first use; each launch is a call of `kvrt_launch`,
    which allocates nothing and takes the stream of the entry function.

    The stock offloading handler loads modules in a global constructor, and
    creates, synchronizes and destroys a stream per launch.
  }];
  let dependentDialects = ["mlir::LLVM::LLVMDialect"];
}

#endif // KVCACHE_CONVERSION_PASSES_TD
