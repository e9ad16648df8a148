// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Elements of a token that are converted between two places, at least one of
// which has scales.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_CPU_CONVERTED_H
#define KVCACHE_LIB_CONVERSION_CPU_CONVERTED_H

#include "../Common/CacheLowering.h"
#include "Runs.h"

#include <optional>

namespace kvcache::cpu {

/// The elements of one token and side: a row, or what a cache has of it.
class TokenElements {
public:
  /// A row, packed as heads and channels.
  TokenElements(const Place &row, CacheType like);
  /// Of a cache with one layer and one side, at a block and a token of it.
  TokenElements(CodeBuilder &emit, const CacheValue &cache,
                const CacheValue *scales, mlir::Value block, mlir::Value token);

  int64_t heads, channels;
  /// Channels that lie side by side, from multiples of it on.
  int64_t run;
  /// What shares a scale: channels, and whether all heads do, so that they are
  /// converted together where it is computed. Without scales, the channels of
  /// one head.
  int64_t group;
  bool headsShare = false;
  bool hasScales() const { return scales.has_value(); }
  /// Of elements that are written: their scales are read.
  bool areGiven() const { return scales->cache.type.areGiven(); }

  Place at(CodeBuilder &emit, mlir::Value head, mlir::Value channel) const;
  Place scaleAt(CodeBuilder &emit, mlir::Value head, mlir::Value channel) const;
  /// The format of the elements.
  const Format &format() const;

private:
  struct InCache {
    CacheValue cache;
    Place start;
  };
  static InCache placeIn(CodeBuilder &emit, const CacheValue &cache,
                         mlir::Value block, mlir::Value token);

  Place row; ///< where `values` is nothing
  std::optional<InCache> values, scales;
};

/// How many parts the elements of a token have that are converted one by one:
/// those that share a scale of the destination.
int64_t convertedParts(const TokenElements &to);
/// Converts one of them.
void emitConverted(CodeBuilder &emit, const TokenElements &from,
                   const TokenElements &to, mlir::Value part);
/// Converts all of them.
void emitConverted(CodeBuilder &emit, const TokenElements &from,
                   const TokenElements &to);

/// The smaller extent of an axis of a cache and of its scales, if these have
/// one for each index.
mlir::Value extentOf(CodeBuilder &emit, AxisKind kind, const CacheValue &cache,
                     const std::optional<CacheValue> &scales);

} // namespace kvcache::cpu

#endif // KVCACHE_LIB_CONVERSION_CPU_CONVERTED_H
