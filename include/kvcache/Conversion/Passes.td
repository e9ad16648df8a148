// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_CONVERSION_PASSES_TD
#define KVCACHE_CONVERSION_PASSES_TD

include "mlir/Pass/PassBase.td"

def ConvertKVCacheToLoops : Pass<"convert-kvcache-to-loops", "mlir::ModuleOp"> {
  let summary = "Lower kvcache operations to loops over vectors, for a CPU";
  let description = [{
    Contract in: kvcache operations whose operands are memrefs (bufferized).
    Contract out: no kvcache operation, type or target is left; caches are
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
  let options = [
    Option<"chip", "chip", "std::string", /*default=*/"",
           "The row of the table of chips, if the module has no target "
           "(default: generic)">];
  let dependentDialects = [
    "kvcache::KVCacheDialect", "mlir::arith::ArithDialect",
    "mlir::func::FuncDialect", "mlir::LLVM::LLVMDialect",
    "mlir::math::MathDialect", "mlir::memref::MemRefDialect",
    "mlir::scf::SCFDialect", "mlir::vector::VectorDialect"];
}

def ConvertKVCacheToGPU : Pass<"convert-kvcache-to-gpu", "mlir::ModuleOp"> {
  let summary = "Lower kvcache operations to kernels and launches";
  let description = [{
    Contract in: kvcache operations whose operands are memrefs (bufferized) of
    memory that the device can reach.
    Contract out: no kvcache operation and no kvcache type is left, but in kernels
    that a program brings along; each operation is a kernel in the `gpu.module` `@kv_kernels` and a `gpu.launch_func`
    in the host function. The operation's facts decide the kernel: the width of
    accesses, the addressing, which strides are constants, and whether elements
    go through shared memory. The target that they are built for is left on the
    module, as `kvcache.target`.

    `attention` keeps state between launches at the start of the workspace, which
    is zero before its first use.

    One kernel serves every number of tokens and every size of the pool. A
    remark names for each operation what the facts gave.
  }];
  let options = [
    Option<"copyEngineBytes", "copy-engine-bytes", "int64_t",
           /*default=*/"1048576",
           "A transfer between host and device whose list of pairs is in host "
           "memory uses the copy engine if its runs have at least so many "
           "bytes, and a kernel otherwise">,
    Option<"chip", "chip", "std::string", /*default=*/"",
           "The row of the table of chips, if the module has no target "
           "(default: sm_90a)">];
  let dependentDialects = [
    "kvcache::KVCacheDialect", "mlir::arith::ArithDialect",
    "mlir::func::FuncDialect",
    "mlir::gpu::GPUDialect", "mlir::LLVM::LLVMDialect",
    "mlir::math::MathDialect", "mlir::memref::MemRefDialect",
    "mlir::NVVM::NVVMDialect", "mlir::scf::SCFDialect",
    "mlir::vector::VectorDialect"];
}

def AttachNVVMTarget : Pass<"kvcache-attach-nvvm-target", "mlir::ModuleOp"> {
  let summary = "Say on kernels what they are compiled for";
  let description = [{
    Contract in: a module with a `kvcache.target` whose instructions are `nvvm`.
    Contract out: each `gpu.module` has the `#nvvm.target` of that chip, with its
    version of PTX; the module has no `kvcache.target`.

    As `nvvm-attach-target`, for facts that are those of the table of chips.
  }];
  let dependentDialects = ["kvcache::KVCacheDialect",
                           "mlir::NVVM::NVVMDialect"];
}

def ConvertLaunchToRuntime
    : Pass<"kvcache-launch-to-runtime", "mlir::ModuleOp"> {
  let summary = "Turn GPU binaries and launches into data and run-time calls";
  let description = [{
    Contract in: `gpu.binary` operations with one object each (PTX or cubin), and
    `gpu.launch_func` operations whose operands are of LLVM types.
    Contract out: neither is left. Each binary is a constant with a record that
    the run time loads on first use; each launch is a call of `kvrt_launch`,
    which allocates nothing and takes the stream of the entry function. A launch
    that has a token, a stream of its own or clusters is an error.

    The stock offloading handler loads modules in a global constructor, and
    creates, synchronizes and destroys a stream per launch.
  }];
  let dependentDialects = ["mlir::LLVM::LLVMDialect"];
}

#endif // KVCACHE_CONVERSION_PASSES_TD
