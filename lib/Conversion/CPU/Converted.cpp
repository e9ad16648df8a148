// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Converted.h"

#include "Codecs.h"
#include "Lanes.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <cfloat>
#include <numeric>

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

//===----------------------------------------------------------------------===//
// Places
//===----------------------------------------------------------------------===//

TokenElements::TokenElements(const Place &row, CacheType like)
    : heads(like.getLayout().extent(AxisKind::Head)),
      channels(like.getLayout().extent(AxisKind::Channel)), run(channels),
      group(channels), row(row) {}

TokenElements::TokenElements(CodeBuilder &emit, const CacheValue &cache,
                             const CacheValue *scalesOf, Value block,
                             Value token)
    : TokenElements(Place(), cache.type) {
  run = RowPlan(cache.type, {AxisKind::Channel}).run.elements;
  values = placeIn(emit, cache, block, token);
  if (!scalesOf)
    return;
  scales = placeIn(emit, *scalesOf, block, token);
  const Layout &layout = scalesOf->type.getLayout();
  group = channels / layout.extent(AxisKind::Channel);
  headsShare = !areGiven() && layout.extent(AxisKind::Head) != heads;
}

/// An axis of extent 1 is the same for all blocks and tokens.
TokenElements::InCache TokenElements::placeIn(CodeBuilder &emit,
                                              const CacheValue &cache,
                                              Value block, Value token) {
  Value offset = cache.offset;
  offset = emit.addi(offset, cache.indexOffset(emit, AxisKind::Block, block));
  offset = emit.addi(offset, cache.indexOffset(emit, AxisKind::Token, token));
  return {cache, {flatten(emit, cache.buffer), offset}};
}

Place TokenElements::at(CodeBuilder &emit, Value head, Value channel) const {
  if (!values)
    return row.plus(emit, emit.addMul(channel, head, channels));
  const CacheValue &cache = values->cache;
  return values->start.plus(emit, cache.indexOffset(emit, AxisKind::Head, head))
      .plus(emit, cache.indexOffset(emit, AxisKind::Channel, channel));
}

Place TokenElements::scaleAt(CodeBuilder &emit, Value head,
                             Value channel) const {
  const CacheValue &cache = scales->cache;
  return scales->start.plus(emit, cache.indexOffset(emit, AxisKind::Head, head))
      .plus(emit, cache.indexOffset(emit, AxisKind::Channel,
                                    emit.divui(channel, group)));
}

const Format &TokenElements::format() const {
  Type stored = values
                    ? values->cache.type.getElementType()
                    : cast<MemRefType>(row.memref.getType()).getElementType();
  return *KVCacheDialect::formatOf(stored);
}

Value cpu::extentOf(CodeBuilder &emit, AxisKind kind, const CacheValue &cache,
                    const std::optional<CacheValue> &scales) {
  Value extent = cache.extent(kind);
  bool hasAll = !scales || scales->type.getLayout().extent(kind) == 1;
  return hasAll ? extent : emit.minsi(extent, scales->extent(kind));
}

//===----------------------------------------------------------------------===//
// Conversion
//===----------------------------------------------------------------------===//

int64_t cpu::convertedParts(const TokenElements &to) {
  return (to.headsShare ? 1 : to.heads) * (to.channels / to.group);
}

namespace {

/// Goes through the elements of a part in vectors.
class PartLoop {
public:
  PartLoop(CodeBuilder &emit, const TokenElements &from,
           const TokenElements &to, Value part)
      : from(from), to(to) {
    int64_t groups = to.channels / to.group;
    piece =
        std::gcd(std::gcd(from.run, to.run), std::gcd(from.group, to.group));
    lanes = powerOfTwoDivisor(piece, kLanes);
    firstHead = to.headsShare ? Value(emit.index(0)) : emit.divui(part, groups);
    firstChannel = emit.muli(emit.remui(part, groups), to.group);
  }

  Value firstHead, firstChannel;
  int64_t lanes;

  /// Gives the elements of a vector as they are read, and where they are.
  using Body = llvm::function_ref<Values(CodeBuilder &, Value x, Value head,
                                         Value channel, ValueRange carried)>;
  Values run(CodeBuilder &emit, ValueRange start, Body body) const {
    Value heads = emit.index(to.headsShare ? to.heads : 1);
    return emit.forLoop(
        emit.index(0), heads, 1, start,
        [&](CodeBuilder &e, Value i, ValueRange carried) {
          Value head = e.addi(firstHead, i);
          return e.forLoop(e.index(0), e.index(to.group), piece, carried,
                           [&](CodeBuilder &e, Value at, ValueRange carried) {
                             return overPiece(e, head, e.addi(firstChannel, at),
                                              carried, body);
                           });
        });
  }

private:
  Values overPiece(CodeBuilder &emit, Value head, Value channel,
                   ValueRange start, Body body) const {
    Place source = from.at(emit, head, channel);
    Value scale;
    if (from.hasScales()) {
      Place at = from.scaleAt(emit, head, channel);
      scale = splat(emit, emit.load(at.memref, at.offset), lanes);
    }
    Type stored = cast<MemRefType>(source.memref.getType()).getElementType();
    return emit.forLoop(emit.index(0), emit.index(piece), lanes, start,
                        [&](CodeBuilder &e, Value at, ValueRange carried) {
                          Value x = vector::LoadOp::create(
                              e, VectorType::get({lanes}, stored),
                              source.memref, e.addi(source.offset, at));
                          x = from.format().getCPUCodec().decode(e, x);
                          if (scale)
                            x = e.fold<arith::MulFOp>(x, scale);
                          return body(e, x, head, e.addi(channel, at), carried);
                        });
  }

  static constexpr int64_t kLanes = 16;
  const TokenElements &from, &to;
  int64_t piece;
};

/// Of the largest magnitude of some elements, what they are multiplied with.
/// Stores their scale.
Value emitScale(CodeBuilder &emit, Value largest, double most,
                const Place &at) {
  Value bounded =
      emit.fold<arith::MaxNumFOp>(largest, emit.f32(std::ldexp(1.0f, -60)));
  bounded = emit.fold<arith::MinNumFOp>(bounded, emit.f32(FLT_MAX));
  Value limit = emit.f32(static_cast<float>(most));
  emit.store(emit.fold<arith::DivFOp>(bounded, limit), at.memref, at.offset);
  return emit.fold<arith::DivFOp>(limit, bounded);
}

} // namespace

void cpu::emitConverted(CodeBuilder &emit, const TokenElements &from,
                        const TokenElements &to, Value part) {
  PartLoop loop(emit, from, to, part);
  Value factor;
  if (to.hasScales() && to.areGiven()) {
    Place at = to.scaleAt(emit, loop.firstHead, loop.firstChannel);
    Value inverse = emit.fold<arith::DivFOp>(emit.f32(1.0f),
                                             emit.load(at.memref, at.offset));
    factor = splat(emit, inverse, loop.lanes);
  } else if (to.hasScales()) {
    // A NaN is not larger than anything.
    Value none = splat(emit, 0.0f, loop.lanes);
    Values most =
        loop.run(emit, none,
                 [](CodeBuilder &e, Value x, Value, Value, ValueRange carried) {
                   return Values{e.fold<arith::MaxNumFOp>(
                       carried[0], e.fold<math::AbsFOp>(x))};
                 });
    Value largest = vector::ReductionOp::create(
        emit, vector::CombiningKind::MAXNUMF, most[0]);
    largest = emitScale(emit, largest, to.format().getLargest(),
                        to.scaleAt(emit, loop.firstHead, loop.firstChannel));
    factor = splat(emit, largest, loop.lanes);
  }
  loop.run(emit, {},
           [&](CodeBuilder &e, Value x, Value head, Value channel, ValueRange) {
             if (factor)
               x = e.fold<arith::MulFOp>(x, factor);
             Place place = to.at(e, head, channel);
             vector::StoreOp::create(e, to.format().getCPUCodec().encode(e, x),
                                     place.memref, place.offset);
             return Values();
           });
}

void cpu::emitConverted(CodeBuilder &emit, const TokenElements &from,
                        const TokenElements &to) {
  emit.forLoop(emit.index(convertedParts(to)), [&](CodeBuilder &e, Value part) {
    emitConverted(e, from, to, part);
  });
}
