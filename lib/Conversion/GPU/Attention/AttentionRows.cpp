// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attention without matrix products, for what those cannot do: f32, head dims
// that are no multiple of 8, mixed types. A block of threads has one row and
// one query head; each of its warps takes every eighth group of 32 keys. It is
// right for everything, and fast for nothing.
//
//===----------------------------------------------------------------------===//

#include "Attention.h"

#include "../../Common/Emitter.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;

namespace {

constexpr int64_t kThreads = 256, kWarps = kThreads / 32;
constexpr float kNoMaximum = -1e30f;
constexpr int64_t kFar = int64_t(1) << 62;

class RowsKernel {
public:
  struct Parameters {
    AttentionSide keys, values;
    unsigned blocks, alibi, sinks;
    std::optional<RowBuffer> query, out, lse;
  };

  RowsKernel(KernelBuilder &k, const AttentionTraits &traits,
             const Parameters &parameters, const BatchParameters &batch)
      : k(k), w(k), traits(traits), parameters(parameters), batch(batch),
        requests(k, batch, kThreads) {}

  void build() {
    Type f32 = k.builder.getF32Type();
    thread = w.number(k.threadX());
    lane = thread & 31;
    warp = w.fromLane(thread >> 5, int64_t(0));
    row = w.number(k.widen(k.blockX()));
    queryHead = w.number(k.blockY());
    KernelRequests::Found found = requests.find(requests.load(k.i64(0)), row);
    Num request(k, found.request), length(k, found.length);
    Num isRow = request >= w.i64(0);
    Num position(k, requests.position(row, found));
    position = max(min(position, w.i64(kFar)), w.i64(-kFar));
    Num first = w.i64(0), end = select(isRow, length, w.i64(0));
    if (traits.causal)
      end = max(min(end, position + 1), 0);
    if (traits.window)
      first = max(position - w.i64(std::min(*traits.window, kFar) - 1), 0);

    int64_t parts = llvm::divideCeil(traits.valueChannels, 32);
    Nums query = loadLanes(w.number(parameters.query->at(k, row)),
                           traits.keyChannels, traits.queryType);
    Nums start = {w.f32(kNoMaximum), w.f32(0)};
    start.append(parts, w.f32(0));
    Nums state =
        w.loop(first + Num(k, k.widen(warp * 32)), end, w.i64(kThreads), start,
               [&](Num base, const Nums &state) {
                 return step(base, end, request, position, query, state);
               });
    // The warps, put together by all threads.
    int64_t stride = (traits.valueChannels + 2) * 4;
    Value memory = k.shared(kWarps * stride);
    auto place = [&](Num ofWarp, Num index) {
      return k.byteOffset(memory, ofWarp * stride + index * 4);
    };
    w.when(lane == 0, [&] {
      k.storeScalar(state[0], place(warp, w.i32(0)));
      k.storeScalar(state[1], place(warp, w.i32(1)));
    });
    for (int64_t i = 0; i < parts; ++i) {
      Num channel = lane + 32 * i;
      w.when(channel < traits.valueChannels,
             [&] { k.storeScalar(state[2 + i], place(warp, channel + 2)); });
    }
    k.barrier();
    auto entry = [&](int64_t ofWarp, Num index) {
      return w.number(k.loadScalar(place(w.i32(ofWarp), index), f32));
    };
    Num most = w.f32(kNoMaximum), sum = w.f32(0);
    for (int64_t i = 0; i < kWarps; ++i)
      most = max(most, entry(i, w.i32(0)));
    Nums shares;
    for (int64_t i = 0; i < kWarps; ++i) {
      shares.push_back(w.exp2(entry(i, w.i32(0)) - most));
      sum = sum + entry(i, w.i32(1)) * shares.back();
    }
    Num isEmpty = sum == 0;
    Num factor = w.f32(1), sink;
    if (traits.hasSinks) {
      sink = scalar(parameters.sinks);
      Num x = sink * float(M_LOG2E), larger = max(most, x);
      factor = w.exp2(most - larger);
      sum = sum * factor + w.exp2(x - larger);
      most = larger;
    }
    Num known = select(sum == 0, w.f32(1), sum);
    factor = select(
        isEmpty, w.f32(0),
        w.number(arith::DivFOp::create(k.builder, k.loc, factor, known)));
    int64_t bytes = parameters.out->elementBytes;
    Value out = parameters.out->at(k, row);
    w.loop(thread, w.i32(traits.valueChannels), w.i32(kThreads), {},
           [&](Num channel, const Nums &) -> Nums {
             Num x = w.f32(0);
             for (int64_t i = 0; i < kWarps; ++i)
               x = x + entry(i, channel + 2) * shares[i];
             // Nothing was seen: not even NaN times zero.
             x = select(isEmpty, w.f32(0), x * factor);
             Num offset = (queryHead * traits.valueChannels + channel) * bytes;
             k.store(k.fromFloats(x, 1, traits.outType),
                     k.byteOffset(out, offset), bytes);
             return {};
           });
    if (!traits.hasLse)
      return;
    w.when(thread == 0, [&] {
      Num lse = (most + w.log2(known)) * float(M_LN2);
      lse = select(isEmpty, traits.hasSinks ? sink : w.f32(-INFINITY), lse);
      k.storeScalar(lse,
                    k.byteOffset(parameters.lse->at(k, row), queryHead * 4));
    });
  }

private:
  Num scalar(unsigned list) {
    return w.number(k.loadScalar(k.byteOffset(k.parameter(list), queryHead * 4),
                                 k.builder.getF32Type()));
  }
  /// Elements lane, lane + 32, ... of this head of a row; 0 past the end.
  Nums loadLanes(Num pointer, int64_t channels, Type type) {
    Nums all;
    int64_t bytes = type.getIntOrFloatBitWidth() / 8;
    for (int64_t i = 0; i < channels; i += 32) {
      Num channel = lane + i;
      Num offset = (queryHead * channels + channel) * bytes;
      all.push_back(
          loadIf(channel < channels, k.byteOffset(pointer, offset), type));
    }
    return all;
  }
  Num loadIf(Num condition, Value address, Type type) {
    int64_t bytes = type.getIntOrFloatBitWidth() / 8;
    return w.number(k.toFloats(k.loadIf(condition, address, bytes), 1, type));
  }
  Num axis(const AxisStrides &axis, Num index, int64_t bytes) {
    Num outer(k, k.stride(axis.outer, bytes));
    if (!axis.cut)
      return Num(k, k.widen(index)) * outer;
    Num inner(k, k.stride(axis.inner, bytes));
    return Num(k, k.widen(index / axis.cut)) * outer +
           Num(k, k.widen(index % axis.cut)) * inner;
  }
  /// The elements of a token, at `bytes` from the pool.
  Nums loadToken(const AttentionSide &side, Num bytes, int64_t channels,
                 Type type) {
    int64_t size = type.getIntOrFloatBitWidth() / 8;
    Num head = queryHead / traits.group;
    Value base = k.byteOffset(k.parameter(side.pointer),
                              bytes + axis(side.head, head, size));
    Nums all;
    for (int64_t i = 0; i < channels; i += 32) {
      Num channel = lane + i;
      Value at = k.byteOffset(base, axis(side.channel, channel, size));
      all.push_back(loadIf(channel < channels, at, type));
    }
    return all;
  }

  Nums step(Num base, Num end, Num request, Num position, const Nums &query,
            const Nums &state) {
    Num key = base + Num(k, k.widen(lane));
    Num index = key / traits.tokens, inBlock = key % traits.tokens;
    Num place = request * w.parameter(batch.rowStride) + index;
    Num entry(k, k.loadEntryIf(key < end, k.parameter(batch.table.pointer),
                               place, batch.table.type));
    Num isSeen = (key < end) & isBelow(entry, w.parameter(parameters.blocks));
    auto tokenBytes = [&](const AttentionSide &side, Type type) {
      int64_t size = type.getIntOrFloatBitWidth() / 8;
      Num bytes = entry * Num(k, k.stride(side.block, size)) +
                  inBlock * Num(k, k.stride(side.token, size));
      return select(isSeen, bytes, w.i64(0));
    };
    Num keyBytes = tokenBytes(parameters.keys, traits.keyType);
    Num valueBytes = tokenBytes(parameters.values, traits.valueType);
    Num seen = w.ballot(isSeen);
    Num count = w.i32(32), one = w.i32(1);
    Num score =
        w.loop(w.i32(0), count, one, {w.f32(-INFINITY)},
               [&](Num i, const Nums &score) -> Nums {
                 return w.when(((seen >> i) & 1) != 0, k.builder.getF32Type(),
                               [&]() -> Nums {
                                 Nums elements = loadToken(
                                     parameters.keys, w.fromLane(keyBytes, i),
                                     traits.keyChannels, traits.keyType);
                                 Num sum = elements[0] * query[0];
                                 for (size_t j = 1; j < elements.size(); ++j)
                                   sum = sum + elements[j] * query[j];
                                 for (int64_t bits = 16; bits; bits /= 2)
                                   sum = sum + w.fromOther(sum, bits);
                                 return {select(lane == i, sum, score[0])};
                               },
                               [&]() -> Nums { return {score[0]}; });
               })[0];
    if (traits.softcap)
      score = w.tanh(score * (traits.scale / *traits.softcap)) *
              float(*traits.softcap * M_LOG2E);
    else
      score = score * float(traits.scale * M_LOG2E);
    if (traits.hasAlibi) {
      Num distance(k, arith::SIToFPOp::create(k.builder, k.loc,
                                              k.builder.getF32Type(),
                                              key - position));
      score = score + scalar(parameters.alibi) * distance * float(M_LOG2E);
    }
    score = select(isSeen, score, w.f32(-INFINITY));
    Num most = score;
    for (int64_t bits = 16; bits; bits /= 2)
      most = max(most, w.fromOther(most, bits));
    most = max(most, state[0]);
    Num factor = w.exp2(state[0] - most), weight = w.exp2(score - most);
    Num sum = weight;
    for (int64_t bits = 16; bits; bits /= 2)
      sum = sum + w.fromOther(sum, bits);
    Nums sums;
    for (Num x : ArrayRef<Num>(state).drop_front(2))
      sums.push_back(x * factor);
    sums = w.loop(
        w.i32(0), count, one, sums, [&](Num i, const Nums &sums) -> Nums {
          return w.when(((seen >> i) & 1) != 0,
                        SmallVector<Type>(sums.size(), sums[0].type()),
                        [&]() -> Nums {
                          Nums elements = loadToken(
                              parameters.values, w.fromLane(valueBytes, i),
                              traits.valueChannels, traits.valueType);
                          Num share = w.fromLane(weight, i);
                          Nums next;
                          for (size_t j = 0; j < sums.size(); ++j)
                            next.push_back(sums[j] + elements[j] * share);
                          return next;
                        },
                        [&]() -> Nums { return sums; });
        });
    return join(Nums{most, state[1] * factor + sum}, sums);
  }

  KernelBuilder &k;
  Warp w;
  const AttentionTraits &traits;
  const Parameters &parameters;
  const BatchParameters &batch;
  KernelRequests requests;
  Num thread, lane, warp, row, queryHead;
};

} // namespace

void kvcache::emitAttentionRows(OpBuilder &builder, AttentionOp op,
                                const AttentionTraits &traits,
                                const AttentionOperands &given) {
  Emitter emit{builder, op.getLoc()};
  KernelOperands operands(builder, emit.loc);
  RowsKernel::Parameters parameters;
  parameters.keys = given.keys.parameters(operands);
  parameters.values = given.values.parameters(operands);
  parameters.blocks = operands.addIndex(given.blocks);
  parameters.query.emplace(operands, given.query);
  parameters.out.emplace(operands, given.out);
  if (given.lse)
    parameters.lse.emplace(operands, given.lse);
  if (given.alibi)
    parameters.alibi = operands.addBuffer(given.alibi);
  if (given.sinks)
    parameters.sinks = operands.addBuffer(given.sinks);
  BatchParameters batch(builder, emit.loc, operands, given.batch, given.rows);
  KernelBuilder k(op->getParentOfType<ModuleOp>(), emit.loc, "attention_rows",
                  operands.types(), kThreads);
  RowsKernel(k, traits, parameters, batch).build();
  k.finish();
  emit.when(emit.less(emit.constant(0), given.rows), [&](const Emitter &e) {
    emitLaunch(e.builder, e.loc, k.symbol(), given.rows,
               e.constant(traits.queryHeads), Value(), kThreads, operands);
  });
}
