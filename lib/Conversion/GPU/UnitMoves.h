// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Moves whose elements are computed together on the way: contents with scales,
// rows into a cache and out of it, and the elements of one cache into another;
// rows that are normalized or rotated. Several can be one launch.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_UNITMOVES_H
#define KVCACHE_LIB_CONVERSION_GPU_UNITMOVES_H

#include "../Common/CacheLowering.h"
#include "../Common/SlotCursor.h"
#include "UnitKernel.h"

namespace kvcache {

/// A cache, and its scales if it has some.
struct ScaledCache {
  CacheValue stored;
  std::optional<CacheValue> scales;

  /// How many indices of an axis both have, if all of the scales are not for
  /// the same one.
  mlir::Value extent(CodeBuilder &emit, AxisKind kind) const;
};

/// A move, as the host sees it.
class UnitMove {
public:
  UnitMove(CodeBuilder &emit, KernelOperands &operands)
      : emit(emit), operands(operands) {}

  /// One end: rows of each side, or a cache.
  void addRows(bool isFrom, mlir::ValueRange rows, int64_t heads,
               int64_t channels);
  void addCache(bool isFrom, const ScaledCache &cache);
  /// What rows of a side are computed by, after both ends are there. The result
  /// of a step is rounded to a format, if one is given.
  void addNormalize(unsigned side, NormalizeOp op, mlir::Value weight,
                    mlir::Type rounded);
  void addRotate(unsigned side, RotateOp op, mlir::Value table,
                 mlir::Value positions, mlir::Type rounded);
  void setSchedule(CopyScheduleAttr schedule);
  /// What it moves: a number of items (index).
  void setItems(mlir::Value count, units::ItemOf itemOf);

private:
  friend class UnitLaunch;

  /// What an end says of accesses to the channels of a head.
  struct EndFacts {
    int64_t proven, aligned; ///< elements, the second if all is aligned
    /// What is to be aligned then: addresses in bytes and strides in elements.
    llvm::SmallVector<mlir::Value> addresses, strides;
    int64_t bytes;
  };

  void add(bool isFrom, size_t side, const units::End &end);
  mlir::Value addressOf(mlir::Value buffer, mlir::Value offset, int64_t bytes);
  mlir::SmallVector<units::End> endsOf(const CacheValue &cache, int64_t count);
  units::Factors addFactors(mlir::Value memref, int64_t within);
  int64_t lanesOf(int64_t EndFacts::*known) const;
  std::optional<units::Pairing> pairingOf(int64_t lanes) const;
  units::Shape shapeOf(bool isWide) const;
  bool hasSteps() const;
  int64_t rowBytes() const; ///< that are read
  /// Whether more alignment than is known would be of use.
  bool hasWider() const;
  /// Whether all is aligned as the wide accesses need it.
  mlir::Value isAligned() const;
  std::string describe() const;

  CodeBuilder &emit;
  KernelOperands &operands;
  llvm::SmallVector<EndFacts> facts, factorFacts;
  units::KernelFacts kernel;
  mlir::Value count, work;
  bool isScheduled = false; ///< by the program
  units::ItemOf itemOf;
};

/// Moves that are one launch. None writes what another one accesses.
class UnitLaunch {
public:
  UnitLaunch(CodeBuilder &emit, mlir::Operation *op)
      : emit(emit), op(op), operands(emit, emit.getLoc()) {}

  UnitMove &add();
  KernelOperands &parameters() { return operands; }
  /// `layers` is null of one.
  void launch(llvm::StringRef name, mlir::Value layers = {});

private:
  void launchBySize(llvm::StringRef name, bool isWide, mlir::Value layers);
  void launchShapes(llvm::StringRef name, bool isWide, bool isLarge,
                    mlir::Value layers);

  CodeBuilder &emit;
  mlir::Operation *op;
  KernelOperands operands;
  llvm::SmallVector<std::unique_ptr<UnitMove>> moves;
};

enum class RowsMove { IntoCache, OutOfCache, OutOfCacheOrZero };

/// index_copy, scatter and gather.
class CacheRows {
public:
  CacheRows(ScaledCache cache, Values rows, SlotCursor cursor,
            RowsMove direction = RowsMove::IntoCache)
      : cache(std::move(cache)), rows(std::move(rows)), cursor(cursor),
        direction(direction) {}

  CacheRows &bySlots(mlir::Value slots, SlotsType type) {
    lists = {slots};
    rowsPerBlock = type.getRowsPerBlock();
    return *this;
  }
  CacheRows &byBlocks(mlir::Value blocks, mlir::Value offsets) {
    lists = {blocks, offsets};
    return *this;
  }
  UnitMove &addTo(UnitLaunch &launch, CodeBuilder &emit, mlir::Value count,
                  CopyScheduleAttr schedule) const;

private:
  ScaledCache cache;
  Values rows;
  SlotCursor cursor;
  RowsMove direction;
  Values lists;
  int64_t rowsPerBlock = 1; ///< of slots
};

/// Rows whose elements are computed.
UnitMove &addRowMove(UnitLaunch &launch, mlir::Value from, mlir::Value to,
                     mlir::Value count);

void emitScaledRelayout(CodeBuilder &emit, mlir::Operation *op,
                        const ScaledCache &from, const ScaledCache &to);

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_UNITMOVES_H
