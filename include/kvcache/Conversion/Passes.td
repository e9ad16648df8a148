// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_CONVERSION_PASSES_TD
#define KVCACHE_CONVERSION_PASSES_TD

include "mlir/Pass/PassBase.td"

def SplitParts : Pass<"kvcache-split-parts", "mlir::ModuleOp"> {
  let summary = "Make the stored values and the scales of caches two caches";
  let description = [{
    Contract out: no cache has scales (`!kvcache.scaled`). An argument that had
    some is two, of which the second one is named after the first one; slices,
    casts, copies and transfers are done to both. An operation that converts
    elements has the cache of stored values and, as `scales`, that of the scales.
    Other passes see plain caches from here on.

    Before:

    ```mlir
    func.func @insert(%pool: !kv, ...) {
      kvcache.index_copy %key, %value into %pool at %slots : ... into !kv at ...
    ```

    After:

    ```mlir
    func.func @insert(%pool: !stored, %scales: !scales {kvcache.name = "pool.scales"}, ...) {
      kvcache.index_copy %key, %value into %pool scales(%scales : !scales) at %slots
        : ... into !stored at ...
    ```
  }];
  let dependentDialects = ["kvcache::KVCacheDialect",
                           "mlir::arith::ArithDialect"];
}

def ConvertKVCacheToLoops : Pass<"convert-kvcache-to-loops", "mlir::ModuleOp"> {
  let summary = "Lower kvcache operations to loops over vectors, for a CPU";
  let description = [{
    Contract in: kvcache operations whose operands are memrefs (bufferized).
    Contract out: no kvcache operation, type or target is left; caches are
    strided memrefs, and rows are copied in vectors along the longest run that
    the layout and the rows share. Exponentials and logarithms become operations
    of math, conversions of bf16 those of arith: `kvcache-expand-math` must
    follow, or LLVM calls a library for them.

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
    "kvcache::KVCacheDialect", "mlir::amx::AMXDialect",
    "mlir::arith::ArithDialect", "mlir::func::FuncDialect",
    "mlir::LLVM::LLVMDialect", "mlir::math::MathDialect",
    "mlir::memref::MemRefDialect", "mlir::scf::SCFDialect",
    "mlir::vector::VectorDialect"];
}

def ConvertKVCacheToGPU : Pass<"convert-kvcache-to-gpu", "mlir::ModuleOp"> {
  let summary = "Lower kvcache operations to kernels and launches";
  let description = [{
    Contract in: kvcache operations whose operands are memrefs (bufferized) of
    memory that the device can reach. Contract out: no kvcache operation or type
    is left, except in kernels that are part of the program; each operation is a
    kernel in the `gpu.module` `@kv_kernels` and a `gpu.launch_func` in the host
    function. The facts of the operation determine the kernel: the width of
    accesses, the addressing, which strides are constants, and whether elements
    go through shared memory. The target of the kernels is left on the module,
    as `kvcache.target`.

    `attention` keeps state between launches at the start of the workspace,
    which must be zero before its first use.

    One kernel serves any number of tokens and any pool size. For each
    operation, a remark reports what was derived from the facts.
  }];
  let options = [
    Option<"copyEngineBytes", "copy-engine-bytes", "int64_t",
           /*default=*/"1048576",
           "A transfer between host and device whose list of pairs is in host "
           "memory uses the copy engine if its runs have at least this many "
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
  let summary = "Attach the NVVM target to kernels";
  let description = [{
    Contract in: a module with a `kvcache.target` whose instruction set is
    `nvvm`. Contract out: each `gpu.module` has the `#nvvm.target` of that chip,
    with its PTX version; the module has no `kvcache.target`.

    Like `nvvm-attach-target`, with the features from the table of chips.
  }];
  let dependentDialects = ["kvcache::KVCacheDialect",
                           "mlir::NVVM::NVVMDialect"];
}

def ConvertLaunchToRuntime
    : Pass<"kvcache-launch-to-runtime", "mlir::ModuleOp"> {
  let summary = "Turn GPU binaries and launches into data and runtime calls";
  let description = [{
    Contract in: `gpu.binary` operations with one object each (PTX or cubin),
    and `gpu.launch_func` operations whose operands have LLVM types. Contract
    out: neither is left. Each binary is a constant with a record that the
    runtime loads on first use; each launch is a call of `kvrt_launch`, which
    allocates nothing and uses the stream of the entry function. A launch with a
    token, its own stream or clusters is an error.

    The upstream offloading handler, in contrast, loads modules in a global
    constructor, and creates, synchronizes and destroys a stream per launch.
  }];
  let dependentDialects = ["mlir::LLVM::LLVMDialect"];
}

#endif // KVCACHE_CONVERSION_PASSES_TD
