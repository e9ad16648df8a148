// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_HOSTCPU_PASSES_TD
#define KVCACHE_HOSTCPU_PASSES_TD

include "mlir/Pass/PassBase.td"

def LowerLinalg : Pass<"kvcache-lower-linalg", "mlir::ModuleOp"> {
  let summary = "Lower linalg operations to vectorized loops, for a CPU";
  let description = [{
    Contract in: linalg operations on memrefs, and copies between memrefs.
    Contract out: no linalg operation on memrefs and no copy of a strided memref
    is left, but in modules of kernels. Operations of one module that are the same
    but for their operands, and for where parts of buffers begin, share a private
    function, which LLVM does not inline.
    Loops that are worth several threads are one-dimensional `scf.parallel`.

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
    Contract in: anything; what is inside linalg operations comes out as it would
    be on their elements, and what is on tensors is left. Contract out: `exp`, `exp2`, `expm1`,
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

def MoveHalvesAsIntegers
    : Pass<"kvcache-move-halves-as-integers", "mlir::ModuleOp"> {
  let summary = "Move bf16, and vectors of 16-bit floats, as integers";
  let description = [{
    Where a CPU does not compute with bf16, code generation keeps a value of it as
    f32 wherever it is carried or chosen, and calls a library to make it narrow
    again; it takes a vector of it apart, also where it is only copied. 16-bit
    integers are moved as they are, and vectors of them whole.

    Contract in: the LLVM dialect, without arithmetic on bf16 but that of
    instructions. Contract out: bf16 is i16 in loads, stores, constants, calls,
    arguments, branches and everything else that only moves it, and bit casts
    stand around what computes; no load or store of a vector of f16 is left. An
    atomic update of bf16 that is no exchange is an error.

    Other dialects, functions without a body, globals and structs that have a name
    keep bf16, and bit casts stand between.

    Before:

    ```mlir
    %x = llvm.load %p : !llvm.ptr -> vector<32xbf16>
    llvm.store %x, %q : vector<32xbf16>, !llvm.ptr
    ```

    After:

    ```mlir
    %x = llvm.load %p : !llvm.ptr -> vector<32xi16>
    llvm.store %x, %q : vector<32xi16>, !llvm.ptr
    ```
  }];
  let dependentDialects = ["mlir::LLVM::LLVMDialect"];
}

def OutlineParallel : Pass<"kvcache-outline-parallel", "mlir::ModuleOp"> {
  let summary = "Make functions of the bodies of parallel loops";
  let description = [{
    Contract in: bufferized host code; `affine.parallel` is lowered. An operation
    of linalg or tensor with a body is an error.
    Contract out: no `scf.parallel` is left in a function. The body of an
    outermost loop is a private function `@NAME_parallel_K` of the number of an
    iteration and of the values that the body uses. The loop is a call of
    `@NAME_parallel_K.all`, with the number of iterations in the first place:
    a function without a body whose attribute `kvcache.parallel_body` names the
    function that it is to call with each number. `kvcache-parallel-to-runtime`
    defines it.

    - Loops of several dimensions get one number, the last dimension fastest.
      It costs one division for each dimension but the first; none for those
      that have one iteration.
    - Equal bodies share a function, whichever functions they come from.
    - Constants are made again in the body. `memref.alloca` stays in the body,
      one of constant size outside of its loops.
    - A parallel loop in the body of another one becomes sequential. So does a
      loop with reductions, whose order is then the same in every run, and a
      loop that launches kernels; what is in it is looked at again.
    - The body is called by its address for each number: a loop over elements
      is better left sequential, where it becomes vectors.
    - `memref.alloc` in a parallel loop is an error: the workspace belongs to
      the thread of the call.

    Before:

    ```mlir
    func.func @f(%x: memref<?x8xf32>, %n: index) {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c8 = arith.constant 8 : index
      %zero = arith.constant 0.0 : f32
      scf.parallel (%i, %j) = (%c0, %c0) to (%n, %c8) step (%c1, %c1) {
        memref.store %zero, %x[%i, %j] : memref<?x8xf32>
      }
      return
    }
    ```

    After:

    ```mlir
    func.func @f(%x: memref<?x8xf32>, %n: index) {
      %c0 = arith.constant 0 : index
      %c8 = arith.constant 8 : index
      %0 = arith.maxsi %n, %c0 : index
      %1 = arith.muli %0, %c8 : index
      call @f_parallel_0.all(%1, %x) : (index, memref<?x8xf32>) -> ()
      return
    }
    func.func private @f_parallel_0(%number: index, %x: memref<?x8xf32>) {
      %c8 = arith.constant 8 : index
      %zero = arith.constant 0.0 : f32
      %i = arith.divui %number, %c8 : index
      %0 = arith.muli %i, %c8 : index
      %j = arith.subi %number, %0 : index
      memref.store %zero, %x[%i, %j] : memref<?x8xf32>
      return
    }
    func.func private @f_parallel_0.all(index, memref<?x8xf32>)
      attributes {kvcache.parallel_body = @f_parallel_0}
    ```
  }];
  let dependentDialects = ["mlir::arith::ArithDialect",
                           "mlir::func::FuncDialect", "mlir::scf::SCFDialect",
                           "kvcache::KVCacheDialect"];
}

def ConvertParallelToRuntime
    : Pass<"kvcache-parallel-to-runtime", "mlir::ModuleOp"> {
  let summary = "Turn outlined parallel loops into calls of the run time";
  let description = [{
    Contract in: host code in the LLVM dialect, with the functions that
    `kvcache-outline-parallel` made.
    Contract out: no attribute `kvcache.parallel_body` is left. Each function
    that had it puts its arguments in a struct on the stack, and calls
    `kvrt_parallel_for` with it and with a function that takes them out again.

    An attribute that names no function of the same type is an error.

    Before:

    ```mlir
    llvm.func @f_parallel_0(%number: i64, %x: !llvm.ptr) { ... }
    llvm.func @f_parallel_0.all(i64, !llvm.ptr)
      attributes {kvcache.parallel_body = @f_parallel_0}
    ```

    After, in addition to the body:

    ```mlir
    llvm.func internal @f_parallel_0.thunk(%context: !llvm.ptr, %number: i64) {
      %0 = llvm.getelementptr %context[0, 0]
        : (!llvm.ptr) -> !llvm.ptr, !llvm.struct<(ptr)>
      %x = llvm.load %0 : !llvm.ptr -> !llvm.ptr
      llvm.call @f_parallel_0(%number, %x) : (i64, !llvm.ptr) -> ()
      llvm.return
    }
    llvm.func internal @f_parallel_0.all(%count: i64, %x: !llvm.ptr) {
      %one = llvm.mlir.constant(1 : i64) : i64
      %context = llvm.alloca %one x !llvm.struct<(ptr)> : (i64) -> !llvm.ptr
      %0 = llvm.getelementptr %context[0, 0]
        : (!llvm.ptr) -> !llvm.ptr, !llvm.struct<(ptr)>
      llvm.store %x, %0 : !llvm.ptr, !llvm.ptr
      %thunk = llvm.mlir.addressof @f_parallel_0.thunk : !llvm.ptr
      llvm.call @kvrt_parallel_for(%count, %thunk, %context)
        : (i64, !llvm.ptr, !llvm.ptr) -> ()
      llvm.return
    }
    ```
  }];
  let dependentDialects = ["mlir::LLVM::LLVMDialect"];
}

#endif // KVCACHE_HOSTCPU_PASSES_TD
