// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Targets of code generation, and launch modes of kernels.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_IR_TARGETS_TD
#define KVCACHE_IR_TARGETS_TD

include "kvcache/IR/KVCacheBase.td"

def KVCache_Isa : I32Enum<"Isa", "instruction set", [
    I32EnumCase<"cpu", 0>,
    I32EnumCase<"nvvm", 1>]> {
  let cppNamespace = "::kvcache";
}

def KVCache_MatrixOps
    : I32Enum<"MatrixOps", "matrix product instructions", [
    I32EnumCase<"none", 0>,
    I32EnumCase<"mma_sync", 1>,
    I32EnumCase<"avx512_bf16", 2>,
    I32EnumCase<"amx_bf16", 3>]> {
  let cppNamespace = "::kvcache";
}

def KVCache_MatrixOpsParameter : EnumParameter<KVCache_MatrixOps> {
  let defaultValue = "::kvcache::MatrixOps::none";
}

def KVCache_TargetAttr : AttrDef<KVCache_Dialect, "Target"> {
  let mnemonic = "target";
  let summary = "target of the code of a module";
  let description = [{
    Lowerings depend on these features of a chip, and on nothing else:

      * `chip`: the name, as known to `kv-opt` and LLVM's code generator
      * `isa`: `cpu`, or `nvvm` for kernels on an NVIDIA GPU
      * `lanes`: threads of a warp; on a CPU, f32 elements of a vector register
      * `matrix`: `mma_sync` (16x8x16, f16 and bf16), `avx512_bf16` (pairs of
        bf16), `amx_bf16` (tiles of 16 rows of bf16), or `none`
      * `shared_bytes`: maximum shared memory of a thread block
      * `warpgroups`: products of 64 rows by four warps, operands in shared memory
      * `tensor_maps`: one instruction copies a box of a tensor
      * `try_wait`: a wait for a barrier may suspend the thread
      * `overlap`: a kernel may start while the previous one ends
      * `convert_f8`: instructions convert pairs of f8E4M3FN and f8E5M2
      * `ptx`: the PTX version with all instructions of the chip, 83 for 8.3

    Passes read it from the attribute `kvcache.target` of the module. Without
    one, the option `chip` of the pass names a row of the table of known chips
    (`lib/IR/Targets.cpp`). A chip that the table lacks can be written out:

    ```mlir
    module attributes {kvcache.target = #kvcache.target<chip = "sm_89",
        isa = nvvm, lanes = 32, matrix = mma_sync, shared_bytes = 101376,
        convert_f8 = true, ptx = 83>} {}
    ```

    Constraints:
      * `target_c1` `lanes` is 8 or 16 on a CPU, and 32 with `nvvm`
      * `target_c2` `mma_sync`, `warpgroups`, `shared_bytes`, `tensor_maps`,
        `try_wait`, `overlap`, `convert_f8` and `ptx` require `nvvm`, which
        requires `ptx`; `avx512_bf16` and `amx_bf16` require a CPU with 16 lanes
  }];
  let parameters = (ins
      StringRefParameter<>:$chip,
      EnumParameter<KVCache_Isa>:$isa,
      "int64_t":$lanes,
      KVCache_MatrixOpsParameter:$matrix,
      DefaultValuedParameter<"int64_t", "0">:$shared_bytes,
      DefaultValuedParameter<"bool", "false">:$warpgroups,
      DefaultValuedParameter<"bool", "false">:$tensor_maps,
      DefaultValuedParameter<"bool", "false">:$try_wait,
      DefaultValuedParameter<"bool", "false">:$overlap,
      DefaultValuedParameter<"bool", "false">:$convert_f8,
      DefaultValuedParameter<"int64_t", "0">:$ptx);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// The row of a chip; null if the table has none.
    static TargetAttr lookup(::mlir::MLIRContext *context,
                             ::llvm::StringRef chip);
    /// The names of rows as listed in a message: `sm_80, sm_90a or sm_100a`.
    static ::std::string known(Isa isa, ::llvm::StringRef before = "");
    /// Whether there is a row of that name.
    static bool isKnown(Isa isa, ::llvm::StringRef chip);
    /// The target, set by a pass, of the module that contains an operation.
    static TargetAttr of(::mlir::Operation *op);
    /// The target of a module for a pass that generates code for `isa`. If the
    /// module has none, it gets the row of `chip` or, if that is empty, of
    /// `standard`. Fails with a diagnostic if there is no such row, or if the
    /// module has another instruction set.
    static ::mlir::FailureOr<TargetAttr> resolve(::mlir::Operation *module,
                                                 Isa isa,
                                                 ::llvm::StringRef chip,
                                                 ::llvm::StringRef standard);
  }];
}

def KVCache_LaunchMode : I32Enum<"LaunchMode", "how a kernel is launched", [
    I32EnumCase<"in_order", 0>,
    I32EnumCase<"cooperative", 1>,
    I32EnumCase<"overlapping", 2>]> {
  let cppNamespace = "::kvcache";
}

def KVCache_LaunchModeAttr
    : EnumAttr<KVCache_Dialect, KVCache_LaunchMode, "launch_mode"> {
  let summary = "how a kernel is ordered after the previous one in the stream";
  let description = [{
    Attribute `kvcache.launch_mode` of a `gpu.launch_func`; without it, a launch
    is in order. The runtime has the same modes (`lib/Runtime/kvrt_records.h`).

      * `in_order`: the kernel starts when the previous one has ended
      * `cooperative`: the same, and all thread blocks run at the same time
      * `overlapping`: the kernel may start while the previous one ends, and
        itself waits for it
  }];
  let assemblyFormat = "`<` $value `>`";
}

#endif // KVCACHE_IR_TARGETS_TD
