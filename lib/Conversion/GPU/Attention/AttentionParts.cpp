// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Batch invariant attention. An item has parts whose ends follow from its own
// keys, each with sums that begin at zero, and the result is that of folding
// them, the first one first. Of an item that it has as a whole, a block folds
// each part when it ends; otherwise parts go to the workspace, and are folded
// by the same arithmetic, bit for bit: products and sums that become one
// instruction are written as one, so that no compiler chooses.
//
//===----------------------------------------------------------------------===//

#include "AttentionKernel.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

using namespace mlir;
using namespace kvcache;

/// Of a quad: maxima and sums of two columns, and four numbers.
static constexpr unsigned kRun = 8;

static Vals nothing(KernelBuilder &k) {
  Vals start(2, k.f32(kNoMaximum));
  start.append(kRun - 2, k.f32(0));
  return start;
}

Vals AttentionKernel::foldPart(ArrayRef<Val> sofar, const Shares &part) {
  auto fma = [&](Val a, Val b, Val c) {
    return k.val(LLVM::FMAOp::create(k, a, b, c));
  };
  Vals next(sofar);
  for (int64_t c : {0, 1}) {
    Val most = max(sofar[c], part.logarithm[c]);
    Val old = w.ex2(sofar[c] - most), share = weightOf(part.logarithm[c], most);
    next[c] = most;
    next[2 + c] = fma(sofar[2 + c], old, share);
    for (int64_t j = c; j < 4; j += 2)
      next[4 + j] = fma(sofar[4 + j], old, part.numbers[j] * share);
  }
  return next;
}

/// After the parts of a segment: the ring.
Vals AttentionKernel::consumeParts(const Entry &entry, const Columns &columns,
                                   const FixedSplit &split,
                                   ArrayRef<Val> ring) {
  Val end = entry.first + entry.count;
  Vals done = k.rolledForLoop(
      entry.first, end, split.units, join(Vals(ring), Vals{split.ownFirst}),
      [&](Val first, const Vals &state) -> Vals {
        Entry part = entry;
        part.first = first;
        part.count = min(end - first, split.units);
        Vals sums = tiles(columns, first, first + part.count,
                          ArrayRef<Val>(state).take_front(2));
        finishPart(part, split, state[2], first + part.count == end,
                   ArrayRef<Val>(sums).drop_front(2));
        return {sums[0], sums[1], state[2] + 1};
      });
  return {done[0], done[1]};
}

Value AttentionKernel::fixedPart(Val firstBlock, Val head, Val number) {
  Val item = firstBlock * traits.heads + head;
  return at(k.parameter(parameters.parts),
            as(item * shape.fixedParts + number, 64) * shape.partBytes());
}

void AttentionKernel::finishPart(const Entry &entry, const FixedSplit &split,
                                 Val number, Val isLast, ArrayRef<Val> state) {
  Val isSplit = split.isSplit != 0;
  mergeWarps(entry, state, [&](const Merged &merged) {
    Shares shares = sharesOf(merged);
    k.ifThen(
        isSplit,
        [&] {
          writePart(shares, fixedPart(split.firstBlock, head, number),
                    merged.index);
        },
        [&] {
          // Only this thread has the quad.
          Value place = at(shared, merged.index * (4 * kRun) + shape.runOffset);
          Vals sofar = k.ifThen(
              number == 0, SmallVector<Type>(kRun, k.getF32Type()),
              [&] { return nothing(k); },
              [&]() -> Vals {
                Vals numbers;
                for (Val word : w.ldSharedWords(place, kRun))
                  numbers.push_back(w.bitcastToFloat(word));
                return numbers;
              });
          Vals next = foldPart(sofar, shares);
          k.ifThen(
              isLast,
              [&] {
                store(entry, merged.quad, merged.columnTile, next[0], next[1],
                      next[2], next[3], ArrayRef<Val>(next).drop_front(4));
              },
              [&] {
                Vals words;
                for (Val number : next)
                  words.push_back(w.bitcastToInt(number));
                w.stSharedWords(words, place);
              });
        });
  });
  k.ifThen(isSplit & (lane == 0) & (warp < arrivals(pairBits(entry))),
           [&] { tellPart(entry, split.firstBlock); });
}

/// The quads of an item in groups of 32. Each part stands for some of these,
/// and who has the part and no other item after it folds them.
void AttentionKernel::combineParts(const Entry &entry,
                                   const FixedSplit &split) {
  Val bits = pairBits(entry), used = usedQuads(bits);
  Val groups = (used + 31) >> 5;
  Val own = (entry.count + (split.units - 1)) / max(split.units, 1);
  Val end = min(split.ownFirst + own, split.readers);
  Val isReader = (split.isSplit != 0) & (split.ownFirst < end) &
                 (warp * split.readers + split.ownFirst < groups);
  k.ifThen(isReader, [&] {
    k.ifThen(split.isShort == 0,
             [&] { waitForParts(entry, split.firstBlock, split.parts); });
    auto fold = [&](Val group) {
      Val index = (group << 5) + lane, isThere = index < used;
      Val all = quadOf(select(isThere, index, k.i32(0)), bits);
      Value first = at(fixedPart(split.firstBlock, entry.head, k.i32(0)),
                       Val(k, k.extui64(all * 32)));
      Vals sums = k.rolledForLoop(
          k.i32(0), split.parts, k.i32(kPartsInFlight), nothing(k),
          [&](Val base, const Vals &before) -> Vals {
            SmallVector<Value> places;
            for (int64_t i = 0; i < kPartsInFlight; ++i) {
              Val number = min(base + i, split.parts - 1);
              places.push_back(
                  at(first, Val(k, k.extui64(number * shape.partBytes()))));
            }
            Vals sofar = before;
            for (auto [i, part] : llvm::enumerate(takeParts(places))) {
              Vals next = foldPart(sofar, {Vals(part.begin(), part.begin() + 4),
                                           {part[4], part[5]}});
              for (unsigned j = 0; j < kRun; ++j)
                sofar[j] =
                    select(base + int64_t(i) < split.parts, next[j], sofar[j]);
            }
            return sofar;
          });
      k.ifThen(isThere, [&] {
        int64_t perTile = shape.channels[1] / 16 * 32;
        store(entry, all % perTile, all / perTile, sums[0], sums[1], sums[2],
              sums[3], ArrayRef<Val>(sums).drop_front(4));
      });
    };
    k.rolledForLoop(split.ownFirst, end, k.i32(1), {},
                    [&](Val part, const Vals &) -> Vals {
                      k.rolledForLoop(warp * split.readers + part, groups,
                                      split.readers * shape.warps, {},
                                      [&](Val group, const Vals &) -> Vals {
                                        fold(group);
                                        return {};
                                      });
                      return {};
                    });
  });
}
