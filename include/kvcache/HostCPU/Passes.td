// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_HOSTCPU_PASSES_TD
#define KVCACHE_HOSTCPU_PASSES_TD

include "mlir/Pass/PassBase.td"

def LowerLinalg : Pass<"kvcache-lower-linalg", "mlir::ModuleOp"> {
  let summary = "Lower linalg operations to vectorized loops, for a CPU";
  let description = [{
    Contract in: linalg operations on memrefs, and copies between memrefs.
    Contract out: no linalg operation on memrefs and no copy of a strided memref
    is left, except in modules of kernels. Operations of one module that differ
    only in their operands, and in the offsets of slices of buffers, share a
    private function, which LLVM does not inline. Loops that are worth several
    threads are one-dimensional `scf.parallel`.

    *Matrix products* (named or generic; batches; either operand transposed;
    f32, f16 or bf16 into f32) are computed in tiles from packed blocks that fit
    the caches; a product with one row reads the other operand once, in order.
    The order of summation depends on extents and on which dimension is
    contiguous, and accumulators are f32.

    *Other operations* are vectorized along one dimension: one along which every
    result is contiguous, or a reduction dimension, where the lanes of a vector
    are partial results. So the order of such a reduction of f32, f64 or
    integers differs from a sequential loop. A load in the body may gather.

    Everything else is lowered to scalar loops.

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
  let summary = "Expand math functions and bf16 arithmetic inline";
  let description = [{
    Contract in: any IR; operations inside `linalg.generic`, `map` and `reduce`
    are expanded on their elements. Operations on tensors are left alone, and so
    are the bodies of named operations such as `linalg.matmul`, which follow from
    the name: lower or generalize these before. Contract out, elsewhere:
    `exp`, `exp2`, `expm1`, `log`, `log2`, `log10`, `log1p`, `tanh`, `sin`,
    `cos`, `erf`, `rsqrt` of f32, f16 and bf16, and the rounding functions of
    any float, are arithmetic on scalars or vectors. Results are within 2 ulp of
    f32 over the whole range, including infinities, denormals and NaN.
    Arithmetic on bf16 is done in f32, and conversion between bf16 and wider
    floats in integers, rounding to nearest even; a NaN keeps neither its sign
    nor its payload.

    Other functions are left alone: a CPU pipeline must not contain them, as
    LLVM would call a math library.

    Before:

    ```mlir
    %y = arith.truncf %x : vector<16xf32> to vector<16xbf16>
    ```

    After: shifts, an addition of 0x7fff and the last bit kept, and a select for
    NaN.
  }];
  let dependentDialects = [
    "mlir::arith::ArithDialect", "mlir::math::MathDialect",
    "mlir::scf::SCFDialect", "mlir::vector::VectorDialect"];
}

def MoveHalvesAsIntegers
    : Pass<"kvcache-move-halves-as-integers", "mlir::ModuleOp"> {
  let summary = "Move bf16, and vectors of 16-bit floats, as integers";
  let description = [{
    On a CPU without bf16 arithmetic, code generation promotes bf16 values to
    f32 wherever they are carried or selected, and calls a library to narrow
    them again; it splits vectors of bf16 into single elements even if they are
    only copied. 16-bit integers are moved unchanged, and vectors of them as a
    whole.

    Contract in: the LLVM dialect, with arithmetic on bf16 only in native
    instructions. Contract out: bf16 is i16 in loads, stores, constants, calls,
    arguments, branches and everything else that only moves it, with bit casts
    around computation; no load or store of a vector of f16 is left. An atomic
    update of bf16 other than an exchange is an error.

    Other dialects, functions without a body, globals and named structs keep
    bf16, with bit casts in between.

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
  let summary = "Outline the bodies of parallel loops into functions";
  let description = [{
    Contract in: bufferized host code, with `affine.parallel` already lowered. A
    linalg or tensor operation with a body is an error. Contract out: no
    `scf.parallel` is left in a function. The body of an outermost loop becomes
    a private function `@NAME_parallel_K`, whose arguments are the iteration
    number and the values that the body uses. The loop becomes a call of
    `@NAME_parallel_K.all`, with the number of iterations as its first argument:
    a function without a body whose attribute `kvcache.parallel_body` names the
    function to call for each number. `kvcache-parallel-to-runtime` defines it.

    - Iterations of multi-dimensional loops are numbered linearly, last
      dimension fastest. This costs one division for each dimension but the
      first, and none for dimensions with one iteration.
    - Equal bodies share a function, even across functions. With `early`, linalg
      and tensor operations with a body are no error, and stay as they are: the
      loops that all layers of a model have become few before the passes that
      lower them, and another run outlines the loops of linalg.
    - Constants are rematerialized in the body. `memref.alloca` stays in the
      body, outside its loops if the size is constant.
    - A parallel loop in the body of another one becomes sequential. So does a
      loop with reductions, whose order is then the same in every run, and a
      loop that launches kernels; the body of such a loop is processed again.
    - The body is called through a pointer for each number: a loop over elements
      is better left sequential, so that it can be vectorized.
    - `memref.alloc` in a parallel loop is an error: the workspace belongs to
      the calling thread.

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
  let options = [Option<"early", "early", "bool", /*default=*/"false",
      "Linalg and tensor operations are lowered later">];
}

def ConvertParallelToRuntime
    : Pass<"kvcache-parallel-to-runtime", "mlir::ModuleOp"> {
  let summary = "Turn outlined parallel loops into calls of the runtime";
  let description = [{
    Contract in: host code in the LLVM dialect, with the functions that
    `kvcache-outline-parallel` made. Contract out: no attribute
    `kvcache.parallel_body` is left. Each function that had it stores its
    arguments in a struct on the stack, and calls `kvrt_parallel_for` with it
    and with a function that unpacks them. Arguments that the body does not
    read, such as most extents of memrefs, are left out.

    An attribute that names no function of the same type is an error.

    Before:

    ```mlir
    llvm.func @f_parallel_0(%number: i64, %x: !llvm.ptr) { ... } // reads %x
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
