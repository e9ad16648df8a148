// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The end of a segment whose rows have a prefix: the prefix and the request
// leave states of the rows in memory, and who comes last puts both together.
//
// Requests are counted by their pairs, in windows of those that one warpgroup
// has of the prefix: a window has its pairs more when the prefix is there, and
// those of a request less when that is there, so that at zero both are. The
// number stands beside the tag of the launch, and is zero without it: nobody
// has to clear it.
//
//===----------------------------------------------------------------------===//

#include "PromptKernel.h"

using namespace mlir;
using namespace kvcache;

/// What a window has: the tag and the number of pairs, 8 bytes, and how many
/// pairs the prefix has there.
static constexpr int64_t kCountPlace = 8;

PromptKernel::Pair PromptKernel::pairAt(const Window &window, int64_t row) {
  Val inWindow = ((warp & 3) << 4) + (lane >> 2) + 8 * row;
  Val pair = window.first + min(inWindow, window.count - 1);
  return {inWindow < window.count, window.start + pair / traits.group,
          head * traits.group + pair % traits.group};
}

/// Those of prefixes come first, then those of requests.
Value PromptKernel::statePlace(Val ofPrefix, const Pair &pair) {
  Val most = min(rows, kMostPrefixRows);
  Val number = pair.row + select(ofPrefix, k.i32(0), most);
  number = number * traits.queryHeads + pair.queryHead;
  return at(k.parameter(parameters.rowStates),
            as(number, 64) * shape.stateBytes());
}

/// After all states there is a place for each pair: that of the first one.
Value PromptKernel::windowPlace(const Window &window) {
  Val row = window.start + window.first / traits.group;
  Val queryHead = head * traits.group + window.first % traits.group;
  Val number = row * traits.queryHeads + queryHead;
  Val most = as(min(rows, kMostPrefixRows), 64);
  return at(k.parameter(parameters.rowStates),
            most * (2 * traits.queryHeads * shape.stateBytes()) +
                as(number, 64) * PromptShape::kWindowBytes);
}

void PromptKernel::writeState(const Entry &entry, const Vals &state) {
  Type two = VectorType::get({2}, k.getF32Type());
  auto pairOf = [&](Val low, Val high) {
    Value vector = LLVM::PoisonOp::create(k, two);
    vector = LLVM::InsertElementOp::create(k, vector, low, k.i32(0));
    return LLVM::InsertElementOp::create(k, vector, high, k.i32(1));
  };
  for (int64_t row : {0, 1}) {
    Pair pair = pairAt(entry, row);
    k.ifThen(pair.isThere, [&] {
      Value place = statePlace(entry.group == kPrefix, pair);
      for (int64_t quad = 0; quad < shape.quads(); ++quad) {
        int64_t first = kSoftmax + 4 * quad + 2 * row;
        k.store(pairOf(state[first], state[first + 1]),
                at(place, (lane & 3) * 8 + quad * 32), 8);
      }
      k.ifThen((lane & 3) == 0, [&] {
        k.store(pairOf(state[row], state[2 + row]),
                at(place, shape.channels[1] * 4), 8);
      });
    });
  }
}

/// Of all pairs of a window: the state of the prefix and that of the request.
Vals PromptKernel::joinedStates(const Window &window) {
  Type f32 = k.getF32Type(), two = VectorType::get({2}, f32);
  auto load = [&](Value place) -> Vals {
    Value vector = LLVM::LoadOp::create(k, two, place, 8);
    Vals both;
    for (int64_t i : {0, 1})
      both.emplace_back(k, LLVM::ExtractElementOp::create(k, vector, k.i32(i)));
    return both;
  };
  Vals joined(kSoftmax + 4 * shape.quads(), Val());
  for (int64_t row : {0, 1}) {
    Pair pair = pairAt(window, row);
    Value place[2];
    Vals totals[2];
    for (bool ofPrefix : {false, true}) {
      place[ofPrefix] = statePlace(k.val(k.i1(ofPrefix)), pair);
      totals[ofPrefix] = load(at(place[ofPrefix], shape.channels[1] * 4));
    }
    Val most = max(totals[0][0], totals[1][0]);
    Val share[] = {w.ex2(totals[0][0] - most), w.ex2(totals[1][0] - most)};
    joined[row] = most;
    joined[2 + row] = totals[0][1] * share[0] + totals[1][1] * share[1];
    for (int64_t quad = 0; quad < shape.quads(); ++quad) {
      Val offset = (lane & 3) * 8 + quad * 32;
      Vals own = load(at(place[0], offset)),
           others = load(at(place[1], offset));
      for (int64_t j : {0, 1})
        joined[kSoftmax + 4 * quad + 2 * row + j] =
            own[j] * share[0] + others[j] * share[1];
    }
  }
  return joined;
}

/// Whether all pairs of the window are there, by one thread.
Val PromptKernel::arriveAtWindow(const Window &window, Val change) {
  Value place = windowPlace(window);
  Val own = k.val(k.loadScalar(at(restPlace(), kTagPlace), k.getI32Type()));
  Val tagged = k.val(k.extui64(own)) << 32;
  Vals end = k.whileLoop(
      {w.ldRelaxed(place, 64)},
      [&](const Vals &n) -> CodeBuilder::Tested {
        Val isOwn = ((n[0] ^ tagged) >> 32) == 0;
        Val now = select(isOwn, as(n[0], 32), k.i32(0)) + change;
        Val seen = w.atomCasAcqRel(place, n[0], tagged | k.val(k.extui64(now)));
        return {seen != n[0], {seen, as(now, 64)}};
      },
      [&](const Vals &n) -> Vals { return {n[0]}; });
  return end[1] == 0;
}

void PromptKernel::leaveState(const Entry &entry, const Vals &state) {
  Val isOfPrefix = entry.group == kPrefix;
  Val start = select(isOfPrefix, entry.start, entry.group);
  Val inItem = select(isFew(entry), k.i32(0), warpgroup * 64);
  Val inRequest = entry.tile * shape.columns + inItem;
  Val count =
      min(min(pairsOf(entry) - inRequest, k.i32(shape.columns) - inItem), 64);
  Val first = (entry.start - start) * traits.group + inRequest;
  writeState(entry, state);
  // What the warpgroup has written comes before the number of one thread.
  barWarpgroup();
  k.whileLoop(
      {first, first + count},
      [&](const Vals &n) -> CodeBuilder::Tested { return {n[0] < n[1], n}; },
      [&](const Vals &n) -> Vals {
        Val pair = n[0], end = n[1];
        Val inTile = pair % shape.columns, inWindow = inTile & 63;
        Window window{start, pair - inWindow, Val()};
        Val here = min(min(k.i32(64) - inWindow, k.i32(shape.columns) - inTile),
                       end - pair);
        Value counted = at(windowPlace(window), kCountPlace);
        Val isLast = askOneThread([&] {
          k.ifThen(isOfPrefix, [&] { k.storeScalar(here, counted); });
          return arriveAtWindow(window,
                                select(isOfPrefix, here, k.i32(0) - here));
        });
        k.ifThen(isLast, [&] {
          window.count = k.val(k.loadScalar(counted, k.getI32Type()));
          Vals joined = joinedStates(window);
          store([&](int64_t row) { return pairAt(window, row); }, joined);
        });
        return {pair + here, end};
      });
}
