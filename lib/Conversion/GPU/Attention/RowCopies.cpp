// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "RowCopies.h"

using namespace mlir;
using namespace kvcache;

Vals RowCopies::fragmentOffsets(const UnitRows &rows, Val unit, Val token,
                                Val chunk) {
  int64_t inner = rows.innerChunks();
  unit = unit + token * (inner * 16);
  if (inner == 1)
    return {unit + chunk * rows.partBytes()};
  Val turned = (token >> rows.turn()) & (inner - 1);
  Vals offsets;
  for (int64_t step = 0; step < inner / 2; ++step)
    offsets.push_back(unit + ((chunk + 2 * step) ^ turned) * 16);
  return offsets;
}

void RowCopies::copyQuery(Val start, Val pairs, Val pair, Val chunk,
                          int64_t chunks, Value to) {
  Val isThere = pair < pairs;
  pair = min(pair, pairs - 1);
  int64_t given = traits.keyChannels / 8;
  if (given < chunks) {
    isThere = isThere & (chunk < given);
    chunk = min(chunk, given - 1);
  }
  Val row = start + pair / traits.group;
  Val queryHead = head * traits.group + pair % traits.group;
  Val bytes = as(row, 64) * Val(k, k.stride(parameters.queryRow, 2));
  int64_t headBytes = 2 * parameters.queryHead.constant.value_or(0);
  bool isNear = headBytes && headBytes < INT32_MAX / traits.queryHeads / 2;
  if (isNear)
    bytes = bytes + as(queryHead * headBytes + chunk * 16, 64);
  else
    bytes = bytes +
            as(queryHead, 64) * Val(k, k.stride(parameters.queryHead, 2)) +
            as(chunk * 16, 64);
  Value source = at(k.parameter(parameters.query), bytes);
  if (parameters.queryAlign >= 16)
    return w.cpAsync(isThere, to, source, 16);
  SmallVector<Value> pieces;
  for (int64_t e = 0; e < 8; ++e)
    pieces.push_back(k.loadIf(isThere, at(source, 2 * e), 2));
  k.store(k.join(pieces, 2), to, 16);
}

void RowCopies::copyTokens(unsigned side, const UnitRows &rows, Val units,
                           Value base, Val bytes, Val there) {
  const AttentionSide &from = parameters.sides[side];
  int64_t chunks = rows.chunks(), inner = rows.innerChunks();
  int64_t inChunk = rows.chunkChannels();
  int64_t given = (side ? traits.valueChannels : traits.keyChannels) / inChunk;
  // One chunk of a lane: where it is, where it goes, and whether it exists.
  struct Chunk {
    Value from, to;
    Val isThere, first;
  };
  auto chunkOf = [&](Val index) {
    Val token = index / chunks, chunk = index % chunks;
    Val source = w.shflIdx(bytes, token);
    Val inUnit = token & 15;
    Val place = chunk % inner;
    if (inner > 1)
      place = place ^ ((inUnit >> rows.turn()) & (inner - 1));
    Val to = units + (token >> 4) * rows.bytes() +
             chunk / inner * rows.partBytes() + inUnit * (inner * 16) +
             place * 16;
    Val isThere = ((there >> token) & 1) != 0;
    if (given < chunks)
      isThere = isThere & (chunk < given);
    // What does not exist is not addressed.
    Val channel = (given < chunks ? min(chunk, given - 1) : chunk) * inChunk;
    return Chunk{
        at(base, source + axisBytes(from.channel, channel, rows.elementBytes)),
        at(shared, to), isThere, channel};
  };
  int64_t turns = chunks; // 32 tokens of `chunks` chunks, 32 at a time
  auto copyWide = [&] {
    for (int64_t i = 0; i < turns; ++i) {
      Chunk c = chunkOf(lane + i * 32);
      w.cpAsync(c.isThere, c.to, c.from, 16);
    }
  };
  if (from.isWide)
    return copyWide();
  Val width = k.parameter(from.width);
  k.ifThen(width == k.i64(16), copyWide, [&] {
    k.ifThen(
        width == k.i64(4),
        [&] {
          k.rolledForLoop(k.i32(0), k.i32(turns), k.i32(1), {},
                          [&](Val i, const Vals &) -> Vals {
                            Chunk c = chunkOf(lane + i * 32);
                            for (int64_t word = 0; word < 4; ++word)
                              w.cpAsync(c.isThere, at(c.to, 4 * word),
                                        at(c.from, 4 * word), 4);
                            return {};
                          });
        },
        [&] {
          k.rolledForLoop(
              k.i32(0), k.i32(turns), k.i32(1), {},
              [&](Val i, const Vals &) -> Vals {
                Chunk c = chunkOf(lane + i * 32);
                Val start = axisBytes(from.channel, c.first, rows.elementBytes);
                // Eight elements are as many as have registers.
                auto copyEight = [&](Val first) {
                  SmallVector<Value> pieces;
                  for (int64_t e = 0; e < 8; ++e) {
                    Val channel = c.first + first + e;
                    Val step =
                        axisBytes(from.channel, channel, rows.elementBytes) -
                        start;
                    pieces.push_back(k.loadIf(c.isThere, at(c.from, step),
                                              rows.elementBytes));
                  }
                  k.store(k.join(pieces, rows.elementBytes),
                          at(c.to, first * rows.elementBytes),
                          8 * rows.elementBytes);
                };
                if (inChunk == 8)
                  copyEight(k.i32(0));
                else
                  k.rolledForLoop(k.i32(0), k.i32(inChunk), k.i32(8), {},
                                  [&](Val first, const Vals &) -> Vals {
                                    copyEight(first);
                                    return {};
                                  });
                return {};
              });
        });
  });
}
