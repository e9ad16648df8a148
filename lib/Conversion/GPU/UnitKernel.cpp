// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "UnitKernel.h"

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
using namespace kvcache::units;

/// That a thread has in registers while the largest one is found.
static constexpr int64_t kMostElements = 32;
/// What the largest magnitude counts as at least is 2 to this power: neither
/// quotient is subnormal.
static constexpr int kLeastExponent = -60;

Shape::Shape(int64_t allHeads, int64_t allChannels, int64_t heads,
             int64_t channels, int64_t lanes, bool isWide,
             std::optional<Pairing> pairing)
    : heads(heads), channels(channels), groups(allChannels / channels),
      units(allHeads / heads * groups), lanes(lanes),
      accesses(heads * channels / lanes), isWide(isWide), pairing(pairing) {
  int64_t own = accesses;
  if (pairing) {
    int64_t apart = pairing->apart / lanes;
    accesses = 2 * (apart + llvm::divideCeil(accesses - 2 * apart, 2));
  }
  threads = llvm::bit_floor(uint64_t(items()));
  // Two accesses of each are under way at once.
  if (!pairing && threads > 4)
    threads /= 2;
  threads = std::min<int64_t>(threads, 32);
  int64_t each = accesses / items(); // of an item
  int64_t all = llvm::divideCeil(items(), threads) * each;
  perThread = all;
  if (all * lanes > kMostElements) {
    perThread = kMostElements / lanes;
    turns = llvm::divideCeil(all, perThread);
  }
  isExact = accesses == threads * perThread * turns && accesses == own;
}

namespace {

class UnitKernel {
public:
  UnitKernel(KernelBuilder &k, const KernelFacts &facts, const Shape &shape)
      : k(k), facts(facts), shape(shape) {}

  void emit(Value block, const ItemOf &itemOf) {
    int64_t perBlock = facts.threads / shape.threads;
    Value thread = k.threadX();
    lane = k.remui(thread, shape.threads);
    Value number = k.addi(k.muli(block, k.i64(perBlock * facts.unitsInFlight)),
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
    SmallVector<SmallVector<StepFactors>> factors;
    for (Work &work : works)
      loaded.push_back(load(work, accesses));
    for (Work &work : works)
      factors.push_back(loadFactors(work, accesses));
    for (auto [work, bits, ofSteps] : llvm::zip_equal(works, loaded, factors)) {
      if (work.side->isMove()) {
        for (auto [access, one] : llvm::zip_equal(accesses, bits))
          storeBits(work, access, one.bits);
        continue;
      }
      Values floats = decode(work, bits), roots;
      for (size_t i = 0; i < ofSteps.size(); ++i) {
        if (ofSteps[i].isNorm)
          roots.push_back(rootOf(work, i, sumOf(squares(accesses, floats))));
        takeStep(work, i, ofSteps[i], roots, floats);
      }
      Value inverse = inverseOf(work);
      if (work.side->toScales && !inverse)
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
    Value given;      ///< bits of a scale that is read; null if there is none
    Values positions; ///< i64, of each step that turns channels; else null
  };
  /// A part of an index is a constant.
  struct Access {
    Value head, channel; ///< from the first one of the unit
    int64_t moreHeads = 0, moreChannels = 0;
    Value isThere = {}; ///< null if it always is
    /// Whether its channels come before those that are not turned; null if
    /// there are none of these.
    Value isTurned = {};
    bool isNeverTurned = false;
  };
  struct Loaded {
    Value bits, scale;
  };
  /// What a step multiplies the elements of each access by: a weight, or
  /// cosines and sines, with a condition that is null if it always holds.
  struct StepFactors {
    bool isNorm;
    SmallVector<Values> numbers, sines;
    SmallVector<Value> isTurned;
  };

  /// Those of a unit, which is the last one if its number is too large.
  void addWorks(SmallVectorImpl<Work> &works, Value number,
                const ItemOf &itemOf) {
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
      // Where no block has one of its own, its place is always there.
      work.given = side.isGiven ? k.load(work.toScales, 4) : Value();
      work.positions.clear();
      for (const Step &step : side.steps)
        work.positions.push_back(positionOf(step, item.from.block));
      works.push_back(work);
    }
  }

  /// Of a given scale; null if there is none. A division has branches, which
  /// hold up the loads that come after it.
  Value inverseOf(const Work &work) {
    if (!work.given)
      return {};
    Value scale = k.target().bitcastToFloat(k.val(work.given));
    return k.fold<arith::DivFOp>(k.f32(1), scale);
  }

  Value positionOf(const Step &step, Value row) {
    const auto *rotate = std::get_if<RotateStep>(&step.what);
    if (!rotate || !rotate->positions)
      return row;
    return k.loadEntry(k.parameter(*rotate->positions), row,
                       rotate->positionType);
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
    if (shape.pairing)
      return pairsOf(turn);
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

  /// The same, two by two: `accessesOf` pairs.
  SmallVector<Access> pairsOf(Value turn) {
    SmallVector<Access> accesses;
    Value zero = k.i32(0), lanes = k.i32(shape.lanes);
    int64_t threads = shape.threads, items = shape.items();
    int64_t apart = shape.pairing->apart, turned = apart / shape.lanes;
    for (int64_t j = 0; j < shape.perThread / 2; ++j) {
      Value number = k.addi(lane, k.i32(j * threads));
      if (turn)
        number =
            k.addi(number, k.muli(turn, k.i32(shape.perThread / 2 * threads)));
      Access first{zero, Value()};
      if (!shape.isExact) {
        first.isThere = k.ult(number, k.i32(items));
        number = k.select(first.isThere, number, k.i32(items - 1));
      }
      Value near = k.muli(number, k.i32(2 * shape.lanes));
      Access second = first;
      bool isAll = turned == items || (!turn && (j + 1) * threads <= turned);
      if (isAll) {
        first.channel = second.channel = k.muli(number, lanes);
        second.moreChannels = apart;
      } else if (turned == 0 || (!turn && j * threads >= turned)) {
        first.channel = second.channel = near;
        second.moreChannels = shape.lanes;
        first.isNeverTurned = second.isNeverTurned = turned != 0;
      } else {
        first.isTurned = second.isTurned = k.ult(number, k.i32(turned));
        first.channel = k.select(first.isTurned, k.muli(number, lanes), near);
        second.channel = k.addi(first.channel,
                                k.select(first.isTurned, k.i32(apart), lanes));
      }
      // The last channels may be without a second half: then it is the first
      // one again, so that no other number counts in a sum or a maximum.
      if (shape.accesses * shape.lanes != shape.channels && !isAll) {
        Value at = k.addi(second.channel, k.i32(second.moreChannels));
        Value isIn = k.ult(at, k.i32(shape.channels));
        second.isThere = k.andiIfAny(second.isThere, isIn);
        second.channel = k.select(isIn, at, first.channel);
        second.moreChannels = 0;
      }
      accesses.append({first, second});
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
    const GPUCodec &codec = gpu::codecOf(work.side->to.element);
    for (auto [access, floats] : llvm::zip_equal(accesses, several))
      storeBits(work, access,
                codec.encode(k, factor ? times(floats, factor) : floats,
                             shape.lanes));
  }
  void storeBits(const Work &work, const Access &access, Value bits) {
    const End &to = work.side->to;
    k.storeIf(k.andiIfAny(work.isWritten, access.isThere), bits,
              k.byteOffset(work.to, offsetIn(to, work, access)),
              shape.lanes * to.bytes, facts.streaming);
  }

  //===--------------------------------------------------------------------===//
  // Steps
  //===--------------------------------------------------------------------===//

  Values split(Value floats) {
    if (shape.lanes == 1)
      return {floats};
    Values parts;
    for (int64_t i = 0; i < shape.lanes; ++i)
      parts.push_back(LLVM::ExtractElementOp::create(k, floats, k.i32(i)));
    return parts;
  }
  Value join(ValueRange parts) {
    if (parts.size() == 1)
      return parts[0];
    auto type = VectorType::get({int64_t(parts.size())}, k.getF32Type());
    Value vector = LLVM::PoisonOp::create(k, type);
    for (auto [i, part] : llvm::enumerate(parts))
      vector = LLVM::InsertElementOp::create(k, vector, part, k.i32(i));
    return vector;
  }

  /// Numbers in adjacent memory, which are aligned as `factors` says.
  Values loadNumbers(const Factors &factors, Value pointer, int64_t count,
                     Value condition) {
    int64_t align = shape.isWide ? factors.wideAlign : factors.align;
    int64_t width = std::min(align, count * factors.bytes);
    int64_t each = width / factors.bytes;
    Values numbers;
    for (int64_t at = 0; at < count; at += each) {
      Value place = k.byteOffset(pointer, k.i64(at * factors.bytes));
      Value bits =
          condition ? k.loadIf(condition, place, width) : k.load(place, width);
      Value floats = gpu::codecOf(factors.element).decode(k, bits, each);
      for (int64_t i = 0; i < each; ++i)
        numbers.push_back(
            each == 1 ? floats
                      : LLVM::ExtractElementOp::create(k, floats, k.i32(i)));
    }
    return numbers;
  }

  Value channelIn(const Access &access) {
    return k.addi(access.channel, k.i32(access.moreChannels));
  }
  Value bytesOf(const Factors &factors, Value count) {
    return k.extui64(k.muli(count, k.i32(factors.bytes)));
  }

  SmallVector<StepFactors> loadFactors(const Work &work,
                                       ArrayRef<Access> accesses) {
    SmallVector<StepFactors> all;
    for (auto [step, position] :
         llvm::zip_equal(work.side->steps, work.positions)) {
      if (const auto *norm = std::get_if<NormalizeStep>(&step.what)) {
        StepFactors factors{/*isNorm=*/true, {}, {}, {}};
        for (const Access &access : accesses) {
          if (!norm->weight)
            break;
          Value place = k.byteOffset(k.parameter(norm->weight->pointer),
                                     bytesOf(*norm->weight, channelIn(access)));
          factors.numbers.push_back(
              loadNumbers(*norm->weight, place, shape.lanes, Value()));
        }
        all.push_back(std::move(factors));
        continue;
      }
      all.push_back(
          loadAngles(std::get<RotateStep>(step.what), position, accesses));
    }
    return all;
  }

  /// Of pairs if a pair is two accesses, else of each access.
  StepFactors loadAngles(const RotateStep &step, Value position,
                         ArrayRef<Access> accesses) {
    StepFactors factors{/*isNorm=*/false, {}, {}, {}};
    Value isInTable = k.ult(position, k.parameter(step.rows));
    Value row =
        k.byteOffset(k.parameter(step.table.pointer),
                     k.muli(position, k.stride(step.stride, step.table.bytes)));
    Value sines = k.byteOffset(row, k.i64(step.turned / 2 * step.table.bytes));
    bool areNear = step.interleaved && shape.lanes > 1;
    for (size_t i = 0; i < accesses.size(); i += areNear ? 1 : 2) {
      const Access &access = accesses[i];
      Value channel = channelIn(access), isTurned = isInTable;
      int64_t count = shape.lanes;
      if (step.interleaved) {
        if (step.turned != shape.channels)
          isTurned = k.andi(isTurned, k.ult(channel, k.i32(step.turned)));
        channel = k.divui(channel, 2);
        count = std::max<int64_t>(1, count / 2);
      } else if (access.isNeverTurned) {
        isTurned = Value();
      } else {
        isTurned = k.andiIfAny(isTurned, access.isTurned);
      }
      factors.isTurned.push_back(isTurned);
      if (!isTurned) {
        factors.numbers.emplace_back();
        factors.sines.emplace_back();
        continue;
      }
      Value at = bytesOf(step.table, channel);
      factors.numbers.push_back(
          loadNumbers(step.table, k.byteOffset(row, at), count, isTurned));
      factors.sines.push_back(
          loadNumbers(step.table, k.byteOffset(sines, at), count, isTurned));
    }
    return factors;
  }

  /// What this thread has of the sum of all squares.
  Value squares(ArrayRef<Access> accesses, ValueRange several) {
    Value all;
    for (auto [access, floats] : llvm::zip_equal(accesses, several)) {
      Value sum;
      for (Value x : split(floats))
        sum = sum ? Value(LLVM::FMAOp::create(k, x, x, sum))
                  : Value(k.fold<arith::MulFOp>(x, x));
      if (access.isThere)
        sum = k.select(access.isThere, sum, k.f32(0));
      all = all ? Value(k.fold<arith::AddFOp>(all, sum)) : sum;
    }
    return all;
  }
  Value sumOf(Value own) {
    for (int64_t bits = 1; bits < shape.threads; bits *= 2)
      own = k.fold<arith::AddFOp>(own, k.target().shflXor(k.val(own), bits));
    return own;
  }
  /// The inverse of the root of the mean.
  Value rootOf(const Work &work, size_t number, Value sum) {
    const auto &norm = std::get<NormalizeStep>(work.side->steps[number].what);
    Value mean = k.fold<arith::DivFOp>(sum, k.f32(shape.channels));
    mean = k.fold<arith::AddFOp>(mean, k.f32(norm.epsilon));
    return k.target().rsqrt(k.val(mean));
  }

  /// `roots` are those of the norms up to this step.
  void takeStep(const Work &work, size_t number, const StepFactors &factors,
                ValueRange roots, Values &several) {
    const Step &step = work.side->steps[number];
    SmallVector<Values> parts;
    for (Value floats : several)
      parts.push_back(split(floats));
    if (const auto *norm = std::get_if<NormalizeStep>(&step.what))
      normalize(*norm, factors, roots.back(), parts);
    else
      rotate(std::get<RotateStep>(step.what), factors, parts);
    for (auto [floats, own] : llvm::zip_equal(several, parts)) {
      floats = join(own);
      if (!step.rounded || step.rounded.isF32())
        continue;
      const GPUCodec &codec = gpu::codecOf(step.rounded);
      floats =
          codec.decode(k, codec.encode(k, floats, shape.lanes), shape.lanes);
    }
  }

  void normalize(const NormalizeStep &step, const StepFactors &factors,
                 Value root, MutableArrayRef<Values> parts) {
    for (size_t i = 0; i < parts.size(); ++i)
      for (auto [j, x] : llvm::enumerate(parts[i])) {
        x = k.fold<arith::MulFOp>(x, root);
        if (!step.weight)
          continue;
        Value weight = factors.numbers[i][j];
        if (step.plusOne)
          weight = k.fold<arith::AddFOp>(weight, k.f32(1));
        x = k.fold<arith::MulFOp>(x, weight);
      }
  }

  void rotate(const RotateStep &step, const StepFactors &factors,
              MutableArrayRef<Values> parts) {
    auto turn = [&](Value &a, Value &b, size_t i, size_t j) {
      Value cosine = factors.numbers[i][j], sine = factors.sines[i][j];
      Value isTurned = factors.isTurned[i];
      Value x = k.fold<arith::SubFOp>(k.fold<arith::MulFOp>(a, cosine),
                                      k.fold<arith::MulFOp>(b, sine));
      Value y = k.fold<arith::AddFOp>(k.fold<arith::MulFOp>(b, cosine),
                                      k.fold<arith::MulFOp>(a, sine));
      a = k.select(isTurned, x, a);
      b = k.select(isTurned, y, b);
    };
    bool areNear = step.interleaved && shape.lanes > 1;
    for (size_t i = 0; i < factors.isTurned.size(); ++i) {
      if (!factors.isTurned[i])
        continue;
      for (size_t j = 0; j < factors.numbers[i].size(); ++j) {
        if (areNear)
          turn(parts[i][2 * j], parts[i][2 * j + 1], i, j);
        else
          turn(parts[2 * i][j], parts[2 * i + 1][j], i, j);
      }
    }
  }

  /// One that is more than registers have room for.
  void moveInTurns(const Work &work) {
    Value first = k.i32(0), end = k.i32(shape.turns), one = k.i32(1);
    if (work.side->isMove()) {
      k.forLoop(first, end, one, Values(), [&](Value turn, ValueRange) {
        SmallVector<Access> accesses = accessesOf(turn);
        for (auto [access, loaded] :
             llvm::zip_equal(accesses, load(work, accesses)))
          storeBits(work, access, loaded.bits);
        return Values();
      });
      return;
    }
    Values roots;
    const std::vector<Step> &steps = work.side->steps;
    // After so many steps.
    auto read = [&](ArrayRef<Access> accesses, size_t count) {
      Values floats = decode(work, load(work, accesses));
      SmallVector<StepFactors> factors = loadFactors(work, accesses);
      size_t norms = 0;
      for (size_t i = 0; i < count; ++i) {
        norms += factors[i].isNorm;
        takeStep(work, i, factors[i], ValueRange(roots).take_front(norms),
                 floats);
      }
      return floats;
    };
    for (size_t i = 0; i < steps.size(); ++i) {
      if (!std::holds_alternative<NormalizeStep>(steps[i].what))
        continue;
      Values sum = k.forLoop(first, end, one, Values{k.f32(0)},
                             [&](Value turn, ValueRange state) -> Values {
                               SmallVector<Access> accesses = accessesOf(turn);
                               Value more =
                                   squares(accesses, read(accesses, i));
                               return {k.fold<arith::AddFOp>(state[0], more)};
                             });
      roots.push_back(rootOf(work, i, sumOf(sum[0])));
    }
    Value inverse = inverseOf(work);
    if (work.side->toScales && !inverse) {
      Values most = k.forLoop(first, end, one, Values{k.f32(0)},
                              [&](Value turn, ValueRange state) -> Values {
                                Values floats =
                                    read(accessesOf(turn), steps.size());
                                return {larger(largest(floats), state[0])};
                              });
      inverse = scaleBy(work, most[0]);
    }
    k.forLoop(first, end, one, Values(), [&](Value turn, ValueRange) -> Values {
      SmallVector<Access> accesses = accessesOf(turn);
      store(work, accesses, read(accesses, steps.size()), inverse);
      return {};
    });
  }

  KernelBuilder &k;
  const KernelFacts &facts;
  const Shape &shape;
  Value lane; ///< i32, of those of a unit
};

} // namespace

void units::emitUnits(KernelBuilder &k, const KernelFacts &facts,
                      const Shape &shape, Value block, const ItemOf &itemOf) {
  UnitKernel(k, facts, shape).emit(block, itemOf);
}
