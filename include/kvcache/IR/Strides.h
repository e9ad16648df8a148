// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The extents and strides of memref and tensor types, in terms of layouts.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_IR_STRIDES_H
#define KVCACHE_IR_STRIDES_H

#include "kvcache/Layout/Views.h"

#include "mlir/IR/BuiltinTypes.h"

namespace kvcache {

class CacheType;

/// The dimensions of a memref, if it has strides.
std::optional<std::vector<StridedDim>> stridedDims(mlir::MemRefType type);

/// The extent of an axis of a memref or tensor, as a layout gives it. No blocks
/// and no layers count as an extent known at run time: slices of length 0 have
/// such types, and the type of a cache never says 0.
int64_t extentInCache(Axis axis, int64_t extent);

/// The same elements in another layout.
CacheType withLayout(CacheType type, const Layout &layout);

/// Which strides of a memref are considered.
enum class Contiguity { All, Inner, Last };

/// Whether a memref, its inner dimensions, or its last one, are contiguous;
/// true for tensors.
bool isContiguous(mlir::Type buffer, Contiguity contiguity);

/// Whether the dimensions of a memref are the axes of a layout in memory order.
/// `dimOf` maps a position in the listing to the dimension of that axis.
bool isInMemoryOrder(const Layout &layout,
                     llvm::function_ref<unsigned(unsigned)> dimOf);

/// The first axis whose stride in a memref is known and contradicts a layout.
/// `dimOf` maps a position in the listing to the dimension of that axis.
std::optional<unsigned>
findOtherStride(const Layout &layout, llvm::ArrayRef<int64_t> strides,
                llvm::function_ref<unsigned(unsigned)> dimOf);

} // namespace kvcache

#endif // KVCACHE_IR_STRIDES_H
