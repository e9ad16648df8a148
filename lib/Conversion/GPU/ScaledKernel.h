// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The kernel of moves of contents with scales: `ScaledRows.h` says which there
// are.
//
// Some lanes of a warp have the elements of one token and side that share a
// scale, a *unit*. They agree on the largest magnitude through shuffles, so
// that it costs no memory and no barrier, and have the elements in registers
// until it is known; those of a large unit are loaded twice.
//
// The kernel is straight but for such a unit: what does not depend on the slots
// is loaded beside them, and what does is done under a predicate. All threads
// get to each shuffle, those without work with the elements of others.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_SCALEDKERNEL_H
#define KVCACHE_LIB_CONVERSION_GPU_SCALEDKERNEL_H

#include "Target/KernelBuilder.h"

namespace kvcache::scaled {

struct EndAxis {
  Axis axis;
  int64_t extent;
  StrideSource stride;
};

/// The memory of one side at one end.
struct End {
  mlir::Type element;
  int64_t bytes; ///< of an element
  unsigned pointer;
  llvm::SmallVector<EndAxis> axes; ///< as listed

  int64_t extent(AxisKind kind) const {
    int64_t product = 1;
    for (const EndAxis &axis : axes)
      product *= axis.axis.kind == kind ? axis.extent : 1;
    return product;
  }
};

struct Side {
  End from, to;
  std::optional<End> fromScales, toScales;
};

/// Numbers of i64. Null of an axis with one index.
struct Place {
  mlir::Value layer, block, token;
};

/// What a unit belongs to.
struct Item {
  Place from, to;
  mlir::Value isRead, isWritten; ///< null if it always is
};

/// How lanes divide a unit.
struct Shape {
  int64_t heads, channels; ///< of a unit
  int64_t groups, units;   ///< of a head, and of a token
  int64_t lanes;           ///< elements of an access
  int64_t accesses;        ///< of a unit
  int64_t threads;         ///< of a unit, a power of two of at most 32
  int64_t perThread;       ///< accesses in registers
  int64_t turns = 1;
  bool isExact;

  Shape(int64_t allHeads, int64_t allChannels, int64_t heads, int64_t channels,
        int64_t lanes);
  int64_t perHead() const { return channels / lanes; }
};

/// What a launch says.
struct KernelFacts {
  std::vector<Side> sides;
  unsigned end; ///< the parameter with the number of units
  int64_t threads = 128, unitsInFlight = 1;
  bool streaming = false;

  int64_t heads() const { return sides.front().from.extent(AxisKind::Head); }
  int64_t channels() const {
    return sides.front().from.extent(AxisKind::Channel);
  }
  /// That share one of these scales.
  int64_t groupOf(const End &scales) const {
    return channels() / scales.extent(AxisKind::Channel);
  }
  /// Of a block of threads.
  int64_t unitsPerBlock(const Shape &shape) const {
    return threads / shape.threads * unitsInFlight;
  }
};

/// What an item (i64) is.
using ItemOf = llvm::function_ref<Item(KernelBuilder &, mlir::Value)>;

/// Fills a kernel in, which has one dimension of blocks of threads, and layers
/// as a third one.
void emitUnits(KernelBuilder &k, const KernelFacts &facts, const Shape &shape,
               ItemOf itemOf);

} // namespace kvcache::scaled

#endif // KVCACHE_LIB_CONVERSION_GPU_SCALEDKERNEL_H
