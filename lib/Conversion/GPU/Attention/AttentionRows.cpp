// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Attention without matrix products, for what those cannot do: f32, head dims
// that are no multiple of 8, mixed types. A block of threads has one row and
// one query head; each of its warps takes every eighth group of 32 keys. It is
// right for everything, and fast for nothing.
//
//===----------------------------------------------------------------------===//

#include "Attention.h"

#include "../../Common/CodeBuilder.h"
#include "../Codecs.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;

namespace {

constexpr int64_t kThreads = 256, kWarps = kThreads / 32;
constexpr int64_t kFar = int64_t(1) << 62;

class RowsKernel {
public:
  struct Parameters {
    AttentionSide keys, values;
    unsigned blocks, alibi, sinks, valueScale;
    std::optional<HeadBuffer> query, lse;
    std::optional<RowBuffer> out;
    std::optional<MaskBuffer> mask;
  };

  RowsKernel(KernelBuilder &k, const AttentionTraits &traits,
             const Parameters &parameters, const BatchParameters &batch)
      : k(k), w(k.target()), traits(traits), parameters(parameters),
        batch(batch), requests(k, batch, kThreads) {}

  void build() {
    Type f32 = k.getF32Type();
    thread = k.val(k.threadX());
    lane = thread & 31;
    warp = w.shflIdx(thread >> 5, int64_t(0));
    row = k.val(k.extui64(k.blockX()));
    queryHead = k.val(k.blockY());
    KernelRequests::Found found =
        requests.find(requests.load(k.i64(0)), row, traits.hasMask);
    Val request(k, found.request), length(k, found.length);
    Val isRow = request >= k.i64(0);
    Val position(k, requests.position(row, found));
    position = max(min(position, k.i64(kFar)), k.i64(-kFar));
    if (traits.hasMask)
      firstOwn = length - (Val(k, found.end) - Val(k, found.first));
    Val first = k.i64(0), end = select(isRow, length, k.i64(0));
    if (traits.ahead)
      end = max(min(end, position + k.i64(*traits.ahead + 1)), 0);
    if (traits.window)
      first = max(position - k.i64(std::min(*traits.window, kFar) - 1), 0);

    int64_t parts = llvm::divideCeil(traits.valueChannels, 32);
    Val wideHead(k, k.extui64(queryHead));
    Vals query = loadLanes(k.val(parameters.query->at(k, row, wideHead)),
                           traits.keyChannels, traits.queryType);
    Vals start = {k.f32(kNoMaximum), k.f32(0)};
    start.append(parts, k.f32(0));
    Vals state = k.rolledForLoop(
        first + Val(k, k.extui64(warp * 32)), end, k.i64(kThreads), start,
        [&](Val base, const Vals &state) {
          return step(base, end, request, position, query, state);
        });
    // The warps, put together by all threads.
    int64_t stride = (traits.valueChannels + 2) * 4;
    Value memory = k.shared(kWarps * stride);
    auto place = [&](Val ofWarp, Val index) {
      return k.byteOffset(memory, ofWarp * stride + index * 4);
    };
    k.ifThen(lane == 0, [&] {
      k.storeScalar(state[0], place(warp, k.i32(0)));
      k.storeScalar(state[1], place(warp, k.i32(1)));
    });
    for (int64_t i = 0; i < parts; ++i) {
      Val channel = lane + 32 * i;
      k.ifThen(channel < traits.valueChannels,
               [&] { k.storeScalar(state[2 + i], place(warp, channel + 2)); });
    }
    k.barrier();
    auto entry = [&](int64_t ofWarp, Val index) {
      return k.val(k.loadScalar(place(k.i32(ofWarp), index), f32));
    };
    Val most = k.f32(kNoMaximum), sum = k.f32(0);
    for (int64_t i = 0; i < kWarps; ++i)
      most = max(most, entry(i, k.i32(0)));
    Vals shares;
    for (int64_t i = 0; i < kWarps; ++i) {
      shares.push_back(w.ex2(entry(i, k.i32(0)) - most));
      sum = sum + entry(i, k.i32(1)) * shares.back();
    }
    Val isEmpty = sum == 0;
    Val factor = k.f32(1), sink;
    if (traits.hasSinks) {
      sink = scalar(parameters.sinks);
      Val x = sink * float(M_LOG2E), larger = max(most, x);
      factor = w.ex2(most - larger);
      sum = sum * factor + w.ex2(x - larger);
      most = larger;
    }
    Val known = select(sum == 0, k.f32(1), sum);
    factor = select(isEmpty, k.f32(0),
                    k.val(arith::DivFOp::create(k, factor, known)));
    if (traits.hasValueScale)
      factor = factor * k.floatParameter(parameters.valueScale);
    int64_t bytes = parameters.out->elementBytes;
    Value out = parameters.out->at(k, row);
    k.rolledForLoop(thread, k.i32(traits.valueChannels), k.i32(kThreads), {},
                    [&](Val channel, const Vals &) -> Vals {
                      Val x = k.f32(0);
                      for (int64_t i = 0; i < kWarps; ++i)
                        x = x + entry(i, channel + 2) * shares[i];
                      // Nothing was seen: not even NaN times zero.
                      x = select(isEmpty, k.f32(0), x * factor);
                      Val offset =
                          (queryHead * traits.valueChannels + channel) * bytes;
                      k.store(gpu::codecOf(traits.outType).encode(k, x, 1),
                              k.byteOffset(out, offset), bytes);
                      return {};
                    });
    if (!traits.hasLse)
      return;
    k.ifThen(thread == 0, [&] {
      Val lse = (most + w.lg2(known)) * float(M_LN2);
      lse = select(isEmpty, traits.hasSinks ? sink : k.f32(-INFINITY), lse);
      k.storeScalar(lse, parameters.lse->at(k, row, wideHead));
    });
  }

private:
  Val scalar(unsigned list) {
    return k.val(k.loadScalar(k.byteOffset(k.parameter(list), queryHead * 4),
                              k.getF32Type()));
  }
  /// Elements lane, lane + 32, ... of a head; 0 past the end.
  Vals loadLanes(Val pointer, int64_t channels, Type type) {
    Vals all;
    int64_t bytes = type.getIntOrFloatBitWidth() / 8;
    for (int64_t i = 0; i < channels; i += 32) {
      Val channel = lane + i;
      all.push_back(loadIf(channel < channels,
                           k.byteOffset(pointer, channel * bytes), type));
    }
    return all;
  }
  Val loadIf(Val condition, Value address, Type type) {
    int64_t bytes = type.getIntOrFloatBitWidth() / 8;
    Value access = k.loadIf(condition, address, bytes);
    return k.val(gpu::codecOf(type).decode(k, access, 1));
  }
  Val axis(const AxisStrides &axis, Val index, int64_t bytes) {
    Val outer(k, k.stride(axis.outer, bytes));
    if (!axis.cut)
      return Val(k, k.extui64(index)) * outer;
    Val inner(k, k.stride(axis.inner, bytes));
    return Val(k, k.extui64(index / axis.cut)) * outer +
           Val(k, k.extui64(index % axis.cut)) * inner;
  }
  /// The elements of a token, at `bytes` from the pool.
  Vals loadToken(const AttentionSide &side, Val bytes, int64_t channels,
                 Type type) {
    int64_t size = type.getIntOrFloatBitWidth() / 8;
    Val head = queryHead / traits.group;
    Value base = k.byteOffset(k.parameter(side.pointer),
                              bytes + axis(side.head, head, size));
    Vals all;
    for (int64_t i = 0; i < channels; i += 32) {
      Val channel = lane + i;
      Value at = k.byteOffset(base, axis(side.channel, channel, size));
      all.push_back(loadIf(channel < channels, at, type));
    }
    return all;
  }

  Vals step(Val base, Val end, Val request, Val position, const Vals &query,
            const Vals &state) {
    Val key = base + Val(k, k.extui64(lane));
    Val index = key / traits.tokens, inBlock = key % traits.tokens;
    Val place = request * k.parameter(batch.rowStride) + index;
    Val entry(k, k.loadEntryIf(key < end, k.parameter(batch.table.pointer),
                               place, batch.table.type));
    Val isSeen = (key < end) & isBelow(entry, k.parameter(parameters.blocks));
    if (traits.hasMask)
      isSeen = isSeen & parameters.mask->isSeen(k, row, key - firstOwn);
    auto tokenBytes = [&](const AttentionSide &side, Type type) {
      int64_t size = type.getIntOrFloatBitWidth() / 8;
      Val bytes = entry * Val(k, k.stride(side.block, size)) +
                  inBlock * Val(k, k.stride(side.token, size));
      return select(isSeen, bytes, k.i64(0));
    };
    Val keyBytes = tokenBytes(parameters.keys, traits.keyType);
    Val valueBytes = tokenBytes(parameters.values, traits.valueType);
    auto scaleOf = [&](const AttentionSide &side) {
      const AttentionScales &from = *side.scales;
      Val bytes = entry * Val(k, k.stride(from.block, 4)) +
                  inBlock * Val(k, k.stride(from.token, 4)) +
                  axis(from.head, queryHead / traits.group, 4);
      bytes = select(isSeen, bytes, k.i64(0));
      return loadIf(isSeen, k.byteOffset(k.parameter(from.pointer), bytes),
                    k.getF32Type());
    };
    Val seen = w.voteBallot(isSeen);
    Val count = k.i32(32), one = k.i32(1);
    Val score = k.rolledForLoop(
        k.i32(0), count, one, {k.f32(-INFINITY)},
        [&](Val i, const Vals &score) -> Vals {
          return k.ifThen(((seen >> i) & 1) != 0, k.getF32Type(),
                          [&]() -> Vals {
                            Vals elements = loadToken(
                                parameters.keys, w.shflIdx(keyBytes, i),
                                traits.keyChannels, traits.keyType);
                            Val sum = elements[0] * query[0];
                            for (size_t j = 1; j < elements.size(); ++j)
                              sum = sum + elements[j] * query[j];
                            for (int64_t bits = 16; bits; bits /= 2)
                              sum = sum + w.shflXor(sum, bits);
                            return {select(lane == i, sum, score[0])};
                          },
                          [&]() -> Vals { return {score[0]}; });
        })[0];
    if (parameters.keys.scales)
      score = score * scaleOf(parameters.keys);
    if (traits.softcap)
      score = w.tanh(score * (traits.scale / *traits.softcap)) *
              float(*traits.softcap * M_LOG2E);
    else
      score = score * float(traits.scale * M_LOG2E);
    if (traits.hasAlibi) {
      Val distance(k,
                   arith::SIToFPOp::create(k, k.getF32Type(), key - position));
      score = score + scalar(parameters.alibi) * distance * float(M_LOG2E);
    }
    score = select(isSeen, score, k.f32(-INFINITY));
    Val most = score;
    for (int64_t bits = 16; bits; bits /= 2)
      most = max(most, w.shflXor(most, bits));
    most = max(most, state[0]);
    Val factor = w.ex2(state[0] - most), weight = w.ex2(score - most);
    Val sum = weight;
    for (int64_t bits = 16; bits; bits /= 2)
      sum = sum + w.shflXor(sum, bits);
    if (parameters.values.scales)
      weight = weight * scaleOf(parameters.values);
    Vals sums;
    for (Val x : ArrayRef<Val>(state).drop_front(2))
      sums.push_back(x * factor);
    sums = k.rolledForLoop(
        k.i32(0), count, one, sums, [&](Val i, const Vals &sums) -> Vals {
          return k.ifThen(((seen >> i) & 1) != 0,
                          SmallVector<Type>(sums.size(), sums[0].getType()),
                          [&]() -> Vals {
                            Vals elements = loadToken(
                                parameters.values, w.shflIdx(valueBytes, i),
                                traits.valueChannels, traits.valueType);
                            Val share = w.shflIdx(weight, i);
                            Vals next;
                            for (size_t j = 0; j < sums.size(); ++j)
                              next.push_back(sums[j] + elements[j] * share);
                            return next;
                          },
                          [&]() -> Vals { return sums; });
        });
    return join(Vals{most, state[1] * factor + sum}, sums);
  }

  KernelBuilder &k;
  const TargetOps &w;
  const AttentionTraits &traits;
  const Parameters &parameters;
  const BatchParameters &batch;
  KernelRequests requests;
  Val thread, lane, warp, row, queryHead;
  Val firstOwn; ///< key; only with a mask
};

} // namespace

void kvcache::emitAttentionRows(CodeBuilder &emit, AttentionOp op,
                                const AttentionTraits &traits,
                                const AttentionOperands &given) {
  KernelOperands operands(emit, emit.getLoc());
  RowsKernel::Parameters parameters;
  parameters.keys = sideParameters(operands, given.keys);
  parameters.values = sideParameters(operands, given.values);
  if (given.keyScales)
    parameters.keys.scales = scaleParameters(operands, *given.keyScales);
  if (given.valueScales)
    parameters.values.scales = scaleParameters(operands, *given.valueScales);
  parameters.blocks = operands.addIndex(given.blocks);
  parameters.query.emplace(operands, given.query, /*headsFirst=*/false);
  parameters.out.emplace(operands, given.out);
  if (given.lse)
    parameters.lse.emplace(operands, given.lse, op.getHeadsFirst());
  if (given.alibi)
    parameters.alibi = operands.addBuffer(given.alibi);
  if (given.sinks)
    parameters.sinks = operands.addBuffer(given.sinks);
  if (given.valueScale)
    parameters.valueScale = operands.addFloat(given.valueScale);
  if (given.mask)
    parameters.mask.emplace(operands, given.mask);
  BatchParameters batch(emit, emit.getLoc(), operands, given.batch, given.rows);
  KernelBuilder k(op->getParentOfType<ModuleOp>(), emit.getLoc(),
                  "attention_rows", operands.types(), kThreads);
  RowsKernel(k, traits, parameters, batch).build();
  k.finish();
  emit.ifThen(emit.slt(emit.index(0), given.rows), [&](CodeBuilder &e) {
    emitLaunch(e, e.getLoc(), k.symbol(), given.rows,
               e.index(traits.queryHeads), Value(), kThreads, operands);
  });
}
