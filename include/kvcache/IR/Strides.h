// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the types of memrefs and tensors say, in the words of layouts.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_IR_STRIDES_H
#define KVCACHE_IR_STRIDES_H

#include "kvcache/Layout/Views.h"

#include "mlir/IR/BuiltinTypes.h"

namespace kvcache {

/// The dimensions of a memref, if it has strides.
std::optional<std::vector<StridedDim>> stridedDims(mlir::MemRefType type);

/// The extent of an axis of a memref or a tensor, as a layout says it. No
/// blocks and no layers are a number that is known in a call, as any other:
/// slices of length 0 have such types, and no type of a cache says 0.
int64_t extentInCache(Axis axis, int64_t extent);

/// How strides of a memref are looked at.
enum class Contiguity { All, Inner };

/// That a memref is contiguous, or its inner dimensions are; true of tensors.
bool isContiguous(mlir::Type buffer, Contiguity contiguity);

/// Whether the dimensions of a memref are the axes of a layout in memory order.
/// `dimOf` gives the dimension of the axis that is listed at a place.
bool isInMemoryOrder(const Layout &layout,
                     llvm::function_ref<unsigned(unsigned)> dimOf);

/// The first axis whose stride in a memref is known, and is not what a layout
/// says of it. `dimOf` gives the dimension of the axis that is listed at a
/// place.
std::optional<unsigned>
findOtherStride(const Layout &layout, llvm::ArrayRef<int64_t> strides,
                llvm::function_ref<unsigned(unsigned)> dimOf);

} // namespace kvcache

#endif // KVCACHE_IR_STRIDES_H
