// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_LIB_CONVERSION_GPU_TARGET_OVERLAP_H
#define KVCACHE_LIB_CONVERSION_GPU_TARGET_OVERLAP_H

namespace mlir {
class ModuleOp;
} // namespace mlir

namespace kvcache {

/// Lets kernels begin while the one before them ends: they wait for it
/// themselves, before they touch memory. For a target that has `overlap`.
void overlapKernels(mlir::ModuleOp module);

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_TARGET_OVERLAP_H
