// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The lowerings as pattern sets, for compilers with their own conversion pass.
// Each comment lists what our pass does beyond the patterns.
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

/// A cache becomes a strided memref whose dimensions are the axes as listed;
/// slots and block tables become a memref each, a batch one for each of its
/// members.
void populateKVCacheTypeConversions(mlir::TypeConverter &converter);

/// Lowers the whole dialect to loops and vectors, including the boundaries of
/// functions and of scf regions. The converter has the conversions above.
/// Without a target, vectors suit any CPU. `kvcache.*` attributes of arguments
/// have no meaning afterwards; the caller has to remove them.
void populateKVCacheToLoopsPatterns(mlir::TypeConverter &converter,
                                    mlir::RewritePatternSet &patterns,
                                    mlir::ConversionTarget &target,
                                    TargetAttr cpu = TargetAttr());

/// A kernel makes transfers between host and device whose runs have fewer bytes
/// than this, the copy engine all others.
inline constexpr int64_t kCopyEngineBytes = 1 << 20;

/// Lowers the whole dialect to launches of kernels, which are built in a
/// `gpu.module` named `kv_kernels`; boundaries as above. The module has to be
/// prepared before the conversion, and finished afterwards.
void populateKVCacheToGPUPatterns(mlir::TypeConverter &converter,
                                  mlir::RewritePatternSet &patterns,
                                  mlir::ConversionTarget &target,
                                  TargetAttr gpu,
                                  int64_t copyEngineBytes = kCopyEngineBytes);
/// Sets the target of a module, and provides memory for its attentions.
void prepareKVCacheToGPU(mlir::ModuleOp module, TargetAttr gpu);
/// Lets kernels start while the previous ones end, if the target supports it.
void finishKVCacheToGPU(mlir::ModuleOp module, TargetAttr gpu);

} // namespace kvcache

#endif // KVCACHE_CONVERSION_PATTERNS_H
