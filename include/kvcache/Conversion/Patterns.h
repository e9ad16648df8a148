// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The lowerings as sets of patterns, for compilers that convert in a pass of
// their own. What the passes do beside the patterns is said for each.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_CONVERSION_PATTERNS_H
#define KVCACHE_CONVERSION_PATTERNS_H

#include "kvcache/IR/KVCache.h"

namespace mlir {
class ConversionTarget;
class ModuleOp;
class RewritePatternSet;
class TypeConverter;
} // namespace mlir

namespace kvcache {

/// A cache becomes a strided memref, its dimensions the axes as listed; slots
/// and block tables become a memref each, a batch one for each of its members.
void populateKVCacheTypeConversions(mlir::TypeConverter &converter);

/// Everything of the dialect as loops and vectors, also the boundaries of
/// functions and of scf regions. The converter has the conversions above.
/// Without a target vectors are those of any CPU.
/// `kvcache.*` attributes of arguments mean nothing afterwards and are the
/// caller's to remove.
void populateKVCacheToLoopsPatterns(mlir::TypeConverter &converter,
                                    mlir::RewritePatternSet &patterns,
                                    mlir::ConversionTarget &target,
                                    TargetAttr cpu = TargetAttr());

/// Transfers between host and device whose runs have fewer bytes are made by a
/// kernel, others by the copy engine.
inline constexpr int64_t kCopyEngineBytes = 1 << 20;

/// Everything of the dialect as launches of kernels, which are built in a
/// `gpu.module` of the name `kv_kernels`; boundaries as above. The module that
/// is converted has been prepared, and is finished afterwards.
void populateKVCacheToGPUPatterns(mlir::TypeConverter &converter,
                                  mlir::RewritePatternSet &patterns,
                                  mlir::ConversionTarget &target,
                                  TargetAttr gpu,
                                  int64_t copyEngineBytes = kCopyEngineBytes);
/// Says on a module what it is made for, and gives memory to its attentions.
void prepareKVCacheToGPU(mlir::ModuleOp module, TargetAttr gpu);
/// Lets kernels begin while those before them end, where the target can.
void finishKVCacheToGPU(mlir::ModuleOp module, TargetAttr gpu);

} // namespace kvcache

#endif // KVCACHE_CONVERSION_PATTERNS_H
