// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The kernel of moves whose elements are computed together on the way:
// `UnitMoves.h` says which there are.
//
// Some lanes of a warp have the elements of one token and side that share a
// scale, or of one head, a *unit*. They agree on its largest magnitude or its
// sum through shuffles, so that it costs no memory and no barrier, and have the
// elements in registers until it is known; those of a large unit are loaded
// again.
//
// The kernel is straight but for such a unit: what does not depend on the slots
// is loaded beside them, and what does is done under a predicate. All threads
// get to each shuffle, those without work with the elements of others.
//
// Where channels are turned in pairs, a thread has both of each.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_UNITKERNEL_H
#define KVCACHE_LIB_CONVERSION_GPU_UNITKERNEL_H

#include "Target/KernelBuilder.h"

#include <functional>
#include <variant>

namespace kvcache::units {

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

/// Numbers that rows are multiplied by.
struct Factors {
  mlir::Type element;
  int64_t bytes; ///< of an element
  unsigned pointer;
  int64_t align, wideAlign; ///< known, and if all is aligned
};

struct NormalizeStep {
  float epsilon;
  bool plusOne;
  std::optional<Factors> weight;
};

struct RotateStep {
  Factors table;
  StrideSource stride;
  unsigned rows; ///< the parameter with those of the table
  int64_t turned;
  bool interleaved;
  std::optional<unsigned> positions; ///< that of row t is t if there are none
  mlir::Type positionType;
};

struct Step {
  std::variant<NormalizeStep, RotateStep> what;
  mlir::Type rounded; ///< the format of the result; null if the store rounds
};

struct Side {
  End from, to;
  std::optional<End> fromScales, toScales;
  bool isGiven = false; ///< `toScales` are read
  std::vector<Step> steps;

  /// Whether elements are moved as they are.
  bool isMove() const {
    return steps.empty() && !fromScales && !toScales &&
           from.element == to.element;
  }
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

/// How channels are put into pairs: of the first 2 * `apart`, those that are
/// `apart` from each other; of the rest, neighbours.
struct Pairing {
  int64_t apart;
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
  bool isWide; ///< all that is to be aligned is
  std::optional<Pairing> pairing;

  Shape(int64_t allHeads, int64_t allChannels, int64_t heads, int64_t channels,
        int64_t lanes, bool isWide, std::optional<Pairing> pairing);
  int64_t perHead() const { return channels / lanes; }
  /// Accesses, or pairs of them, that come one by one.
  int64_t items() const { return pairing ? accesses / 2 : accesses; }
};

/// What a move says.
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
using ItemOf = std::function<Item(KernelBuilder &, mlir::Value)>;

/// What a block of threads does of a move: the block's number (i64) is that
/// among those of the move. Layers are a third dimension.
void emitUnits(KernelBuilder &k, const KernelFacts &facts, const Shape &shape,
               mlir::Value block, const ItemOf &itemOf);

} // namespace kvcache::units

#endif // KVCACHE_LIB_CONVERSION_GPU_UNITKERNEL_H
