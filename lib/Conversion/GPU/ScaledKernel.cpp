// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "ScaledKernel.h"

#include "Codecs.h"
#include "Target/TargetOps.h"

#include "kvcache/IR/Format.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/MathExtras.h"

#include <cmath>
#include <limits>

using namespace mlir;
using namespace kvcache;
using namespace kvcache::scaled;

/// That a thread has in registers while the largest one is found.
static constexpr int64_t kMostElements = 32;
/// What the largest magnitude counts as at least is 2 to this power: neither
/// quotient is subnormal.
static constexpr int kLeastExponent = -60;

Shape::Shape(int64_t allHeads, int64_t allChannels, int64_t heads,
             int64_t channels, int64_t lanes)
    : heads(heads), channels(channels), groups(allChannels / channels),
      units(allHeads / heads * groups), lanes(lanes),
      accesses(heads * channels / lanes),
      threads(llvm::bit_floor(uint64_t(accesses))) {
  // Two accesses of each are under way at once.
  threads = std::min<int64_t>(threads > 4 ? threads / 2 : threads, 32);
  int64_t all = llvm::divideCeil(accesses, threads);
  perThread = all;
  if (all * lanes > kMostElements) {
    perThread = kMostElements / lanes;
    turns = llvm::divideCeil(all, perThread);
  }
  isExact = accesses == threads * perThread * turns;
}

namespace {

class UnitKernel {
public:
  UnitKernel(KernelBuilder &k, const KernelFacts &facts, const Shape &shape)
      : k(k), facts(facts), shape(shape) {}

  void emit(ItemOf itemOf) {
    int64_t perBlock = facts.threads / shape.threads;
    Value thread = k.threadX();
    lane = k.remui(thread, shape.threads);
    Value number = k.addi(
        k.muli(k.extui64(k.blockX()), k.i64(perBlock * facts.unitsInFlight)),
        k.extui64(k.divui(thread, shape.threads)));
    SmallVector<Work> works;
    for (int64_t i = 0; i < facts.unitsInFlight; ++i)
      addWorks(works, k.addi(number, k.i64(i * perBlock)), itemOf);
    if (shape.turns > 1) {
      for (Work &work : works)
        moveInTurns(work);
      return;
    }
    SmallVector<Access> accesses = accessesOf(Value());
    SmallVector<SmallVector<Loaded>> loaded;
    for (Work &work : works)
      loaded.push_back(load(work, accesses));
    for (auto [work, bits] : llvm::zip_equal(works, loaded)) {
      Values floats = decode(work, bits);
      Value inverse;
      if (work.side->toScales)
        inverse = scaleBy(work, largest(floats));
      store(work, accesses, floats, inverse);
    }
  }

private:
  /// One side of a unit, as this thread has it.
  struct Work {
    const Side *side;
    Value isRead, isWritten;
    Value from, to, fromScales, toScales; ///< addresses at the places
    Value head, group;                    ///< the first one, and of channels
    Value scale;                          ///< null if it has several
  };
  /// A part of an index is a constant.
  struct Access {
    Value head, channel; ///< from the first one of the unit
    int64_t moreHeads = 0, moreChannels = 0;
    Value isThere = {}; ///< null if it always is
  };
  struct Loaded {
    Value bits, scale;
  };

  /// Those of a unit, which is the last one if its number is too large.
  void addWorks(SmallVectorImpl<Work> &works, Value number, ItemOf itemOf) {
    Value count = k.parameter(facts.end);
    Value isThere = k.ult(number, count);
    number = k.select(isThere, number, k.addi(count, k.i64(-1)));
    Item item = itemOf(k, k.divui(number, shape.units));
    Value unit = k.sextOrTrunc(k.remui(number, shape.units), k.getI32Type());
    Work work;
    work.isRead = item.isRead;
    work.isWritten = k.andiIfAny(isThere, item.isWritten);
    work.group = k.remui(unit, shape.groups);
    work.head = k.muli(k.divui(unit, shape.groups), k.i32(shape.heads));
    for (const Side &side : facts.sides) {
      work.side = &side;
      work.from = placeIn(side.from, item.from);
      work.to = placeIn(side.to, item.to);
      if (side.fromScales) {
        work.fromScales = placeIn(*side.fromScales, item.from);
        // The unit is within what shares one.
        int64_t group = facts.groupOf(*side.fromScales);
        bool isOne =
            group % shape.channels == 0 &&
            (shape.heads == 1 || side.fromScales->extent(AxisKind::Head) == 1);
        work.scale =
            isOne ? scaleOf(work, Access{k.i32(0), k.i32(0)}) : Value();
      }
      if (side.toScales) {
        Value at = k.addi(along(*side.toScales, AxisKind::Head, work.head),
                          along(*side.toScales, AxisKind::Channel, work.group));
        work.toScales = k.byteOffset(placeIn(*side.toScales, item.to), at);
      }
      works.push_back(work);
    }
  }

  Value placeIn(const End &end, const Place &place) {
    Value offset = k.i64(0);
    for (const EndAxis &axis : end.axes) {
      Value index = axis.axis.kind == AxisKind::Layer   ? place.layer
                    : axis.axis.kind == AxisKind::Block ? place.block
                    : axis.axis.kind == AxisKind::Token ? place.token
                                                        : Value();
      if (index)
        offset =
            k.addi(offset, k.muli(index, k.stride(axis.stride, end.bytes)));
    }
    return k.byteOffset(k.parameter(end.pointer), offset);
  }

  /// Where an index (i32) of heads or channels lies, in bytes.
  Value along(const End &end, AxisKind kind, Value index, int64_t more = 0) {
    SmallVector<const EndAxis *> parts;
    for (const EndAxis &axis : end.axes)
      if (axis.axis.kind == kind)
        parts.push_back(&axis);
    Value offset = k.i64(0);
    if (parts.empty()) // one index
      return offset;
    if (parts.size() == 1) {
      Value stride = k.stride(parts[0]->stride, end.bytes);
      return k.addi(k.muli(k.extui64(index), stride),
                    k.muli(k.i64(more), stride));
    }
    Value outer = k.addi(index, k.i32(more));
    // From the inner part of a split axis outwards.
    for (const EndAxis *part : llvm::reverse(parts)) {
      Value own = part == parts[0] ? outer : k.remui(outer, part->extent);
      outer = k.divui(outer, part->extent);
      offset = k.addi(
          offset, k.muli(k.extui64(own), k.stride(part->stride, end.bytes)));
    }
    return offset;
  }

  /// Of one turn, or of the only one if it is null.
  SmallVector<Access> accessesOf(Value turn) {
    SmallVector<Access> accesses;
    int64_t perHead = shape.perHead(), threads = shape.threads;
    Value zero = k.i32(0), lanes = k.i32(shape.lanes);
    for (int64_t j = 0; j < shape.perThread; ++j) {
      if (!turn && perHead % threads == 0) {
        int64_t parts = perHead / threads;
        accesses.push_back({zero, k.muli(lane, lanes), j / parts,
                            j % parts * threads * shape.lanes});
        continue;
      }
      if (!turn && shape.isExact && threads % perHead == 0) {
        accesses.push_back({k.divui(lane, perHead),
                            k.muli(k.remui(lane, perHead), lanes),
                            j * (threads / perHead), 0});
        continue;
      }
      Access access;
      Value number = k.addi(lane, k.i32(j * threads));
      if (turn)
        number = k.addi(number, k.muli(turn, k.i32(shape.perThread * threads)));
      if (!shape.isExact) {
        access.isThere = k.ult(number, k.i32(shape.accesses));
        number = k.select(access.isThere, number, k.i32(shape.accesses - 1));
      }
      bool isOne = shape.heads == 1;
      access.head = isOne ? zero : Value(k.divui(number, perHead));
      access.channel =
          k.muli(isOne ? number : Value(k.remui(number, perHead)), lanes);
      accesses.push_back(access);
    }
    return accesses;
  }

  Value headOf(const Work &work, const Access &access) {
    return k.addi(work.head, access.head);
  }
  Value channelOf(const Work &work, const Access &access) {
    return k.addi(k.muli(work.group, k.i32(shape.channels)), access.channel);
  }
  Value offsetIn(const End &end, const Work &work, const Access &access) {
    return k.addi(
        along(end, AxisKind::Head, headOf(work, access), access.moreHeads),
        along(end, AxisKind::Channel, channelOf(work, access),
              access.moreChannels));
  }

  Value loadFrom(const Work &work, Value pointer, int64_t bytes) {
    return work.isRead ? k.loadIf(work.isRead, pointer, bytes)
                       : k.load(pointer, bytes, facts.streaming);
  }

  /// That of an element at the end that is read.
  Value scaleOf(const Work &work, const Access &access) {
    const End &scales = *work.side->fromScales;
    Value channel = k.addi(channelOf(work, access), k.i32(access.moreChannels));
    Value group = k.divui(channel, facts.groupOf(scales));
    Value at = k.addi(
        along(scales, AxisKind::Head, headOf(work, access), access.moreHeads),
        along(scales, AxisKind::Channel, group));
    Value bits = loadFrom(work, k.byteOffset(work.fromScales, at), 4);
    return k.target().bitcastToFloat(k.val(bits));
  }

  SmallVector<Loaded> load(const Work &work, ArrayRef<Access> accesses) {
    const End &from = work.side->from;
    SmallVector<Loaded> loaded;
    for (const Access &access : accesses) {
      Value at = k.byteOffset(work.from, offsetIn(from, work, access));
      Value bits = loadFrom(work, at, shape.lanes * from.bytes);
      bool hasOwn = work.side->fromScales && !work.scale;
      loaded.push_back({bits, hasOwn ? scaleOf(work, access) : work.scale});
    }
    return loaded;
  }

  Values decode(const Work &work, ArrayRef<Loaded> loaded) {
    const GPUCodec &codec = gpu::codecOf(work.side->from.element);
    return llvm::map_to_vector(loaded, [&](const Loaded &access) -> Value {
      Value floats = codec.decode(k, access.bits, shape.lanes);
      return access.scale ? times(floats, access.scale) : floats;
    });
  }

  Value times(Value floats, Value factor) {
    if (auto vector = dyn_cast<VectorType>(floats.getType()))
      factor = vector::BroadcastOp::create(k, vector, factor);
    return k.fold<arith::MulFOp>(floats, factor);
  }

  /// The larger one. A NaN is smaller than any number.
  Value larger(Value a, Value b) { return k.fold<arith::MaxNumFOp>(a, b); }

  /// The largest magnitude.
  Value largest(ValueRange several) {
    Value sizes;
    for (Value floats : several) {
      Value size = LLVM::FAbsOp::create(k, floats);
      sizes = sizes ? larger(sizes, size) : size;
    }
    if (shape.lanes == 1)
      return sizes;
    Values parts;
    for (int64_t i = 0; i < shape.lanes; ++i)
      parts.push_back(LLVM::ExtractElementOp::create(k, sizes, k.i32(i)));
    for (size_t half = parts.size() / 2; half; half /= 2)
      for (size_t i = 0; i < half; ++i)
        parts[i] = larger(parts[i], parts[i + half]);
    return parts[0];
  }

  /// Writes the scale, and gives what elements are multiplied by.
  Value scaleBy(const Work &work, Value most) {
    for (int64_t bits = 1; bits < shape.threads; bits *= 2)
      most = larger(most, k.target().shflXor(k.val(most), bits));
    const End &to = work.side->to;
    Value full = k.f32(KVCacheDialect::formatOf(to.element)->getLargest());
    most = larger(most, k.f32(std::ldexp(1.f, kLeastExponent)));
    most = k.fold<arith::MinNumFOp>(most,
                                    k.f32(std::numeric_limits<float>::max()));
    Value scale = k.fold<arith::DivFOp>(most, full);
    Value isFirst = k.andi(work.isWritten, k.eq(lane, k.i32(0)));
    k.storeIf(isFirst, k.target().bitcastToInt(k.val(scale)), work.toScales, 4,
              facts.streaming);
    return k.fold<arith::DivFOp>(full, most);
  }

  void store(const Work &work, ArrayRef<Access> accesses, ValueRange several,
             Value factor) {
    const End &to = work.side->to;
    for (auto [access, floats] : llvm::zip_equal(accesses, several)) {
      Value bits =
          gpu::codecOf(to.element)
              .encode(k, factor ? times(floats, factor) : floats, shape.lanes);
      k.storeIf(k.andiIfAny(work.isWritten, access.isThere), bits,
                k.byteOffset(work.to, offsetIn(to, work, access)),
                shape.lanes * to.bytes, facts.streaming);
    }
  }

  /// One that is more than registers have room for.
  void moveInTurns(const Work &work) {
    Value first = k.i32(0), end = k.i32(shape.turns), one = k.i32(1), inverse;
    auto read = [&](ArrayRef<Access> accesses) {
      return decode(work, load(work, accesses));
    };
    if (work.side->toScales) {
      Values most = k.forLoop(first, end, one, Values{k.f32(0)},
                              [&](Value turn, ValueRange state) -> Values {
                                Values floats = read(accessesOf(turn));
                                return {larger(largest(floats), state[0])};
                              });
      inverse = scaleBy(work, most[0]);
    }
    k.forLoop(first, end, one, Values(), [&](Value turn, ValueRange) -> Values {
      SmallVector<Access> accesses = accessesOf(turn);
      store(work, accesses, read(accesses), inverse);
      return {};
    });
  }

  KernelBuilder &k;
  const KernelFacts &facts;
  const Shape &shape;
  Value lane; ///< i32, of those of a unit
};

} // namespace

void scaled::emitUnits(KernelBuilder &k, const KernelFacts &facts,
                       const Shape &shape, ItemOf itemOf) {
  UnitKernel(k, facts, shape).emit(itemOf);
}
