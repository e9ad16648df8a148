// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How the elements of a block, or of a part of one, go from one layout to
// another: a nest of dimensions with a step on each side. It is decided from
// the types alone; kernels are built from it.
//
//   direct   accesses that are contiguous on both sides: a run is cut in them
//   tiled    where the two sides have different fast axes, a tile goes through
//            shared memory, so that accesses are wide on each side:
//
//     [B, N, H, D] -> [B, H, D, N]   tile 16N x 128D: lines of D are read,
//                                    lines of N x D written
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_MOVEPLAN_H
#define KVCACHE_LIB_CONVERSION_GPU_MOVEPLAN_H

#include "kvcache/Layout/Layout.h"

#include "llvm/ADT/SmallVector.h"

#include <optional>

namespace kvcache {

/// How an index of a dimension becomes an offset on one side:
/// index * factor * stride(axis), or of an axis that is cut in two
/// index / cut * stride(axis) + index % cut * stride(inner).
struct AxisWalk {
  unsigned axis = 0; ///< in the listing
  int64_t factor = 1;
  unsigned inner = 0;
  int64_t cut = 0; ///< 0: there is no inner part
};

struct MoveDim {
  AxisKind kind;
  int64_t extent;
  AxisWalk from, to;
  unsigned place; ///< in the memory of the destination
};

/// Part of a dimension that is in a tile.
struct TileDim {
  unsigned dim; ///< in the plan
  int64_t extent;
  int64_t sharedStride = 0; ///< elements
};

/// A tile in shared memory, laid out as in the source. `from` and `to` have the
/// same parts, the fastest first on each side; the first ones are contiguous.
struct TilePlan {
  llvm::SmallVector<TileDim> from, to;
  int64_t elements = 1;
  int64_t fromRun = 1, toRun = 1;     ///< elements contiguous in memory
  int64_t fromLanes = 1, toLanes = 1; ///< elements of an access
  int64_t granule = 1;                ///< elements of an access to the tile
  int64_t sharedElements = 0;
};

/// One of two layouts.
struct MoveEnd {
  const Layout *layout;
  int64_t elementBytes;
};

struct MovePlan {
  /// `tokens`: of the part of a block that moves; the tokens of such a part may
  /// be a range if `ranged`.
  MovePlan(MoveEnd from, MoveEnd to, int64_t tokens, bool ranged);

  /// Slowest first. Layers are not among them if their number is known at run
  /// time only.
  llvm::SmallVector<MoveDim> dims;
  bool layersAtRunTime = false;
  int64_t run = 1;   ///< elements
  int64_t lanes = 1; ///< elements of a direct access
  std::optional<TilePlan> tile;

  int64_t elements() const;

private:
  void addAxis(AxisKind kind, int64_t tokens);
  void findTile(bool ranged);
  bool makeTile(bool ranged, int64_t lineBytes);
  void padTile(TilePlan &plan) const;
  /// The run on one side: dimensions that continue it, and how much of each.
  llvm::SmallVector<TileDim> chain(bool isFrom, int64_t lineBytes) const;
  /// What divides all addresses of accesses in bytes, if the parts of
  /// dimensions in `inside` are contiguous.
  int64_t alignment(bool isFrom, llvm::ArrayRef<TileDim> inside) const;
  const MoveEnd &end(bool isFrom) const { return isFrom ? from : to; }
  const AxisWalk &walk(bool isFrom, const MoveDim &dim) const {
    return isFrom ? dim.from : dim.to;
  }

  MoveEnd from, to;
  int64_t fromItem, toItem; ///< divide the distances of what moves, in bytes
};

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_MOVEPLAN_H
