// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Requests of few rows that are split along their keys: what the parts keep,
// and how they are put together.
//
//===----------------------------------------------------------------------===//

#include "AttentionTile.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

PartialRows::PartialRows(CodeBuilder &emit, const AttentionFacts &facts,
                         Value requests, Value parts, Value isSplit)
    : facts(facts), parts(parts) {
  Value rows = emit.muli(emit.muli(requests, facts.heads), parts);
  Value size = emit.muli(rows, facts.fewRows * stride());
  size = emit.select(isSplit, size, emit.index(0));
  auto type = MemRefType::get({ShapedType::kDynamic}, emit.getF32Type());
  buffer = memref::AllocOp::create(emit, type, size);
}

Place PartialRows::at(CodeBuilder &emit, Value request, Value head, Value part,
                      Value row) const {
  Value number = emit.addi(emit.muli(request, facts.heads), head);
  number = emit.addi(emit.muli(number, parts), part);
  number = emit.addi(emit.muli(number, facts.fewRows), row);
  return {buffer, emit.muli(number, stride())};
}

void PartialRows::merge(CodeBuilder &emit, const Requests &requests,
                        const Outputs &outputs) const {
  emit.parallelLoop(emit.muli(requests.count, facts.heads), [&](CodeBuilder &e,
                                                                Value i) {
    Value request = e.divui(i, facts.heads), head = e.remui(i, facts.heads);
    // The tile of few rows is the last one of its request.
    Value first = requests.first(e, request);
    Value tokens = e.subi(requests.end(e, request), first);
    Value inTile = e.remui(tokens, facts.tileTokens);
    Value isWhole = e.eq(inTile, e.index(0));
    inTile =
        e.select(isWhole, e.minsi(tokens, e.index(facts.tileTokens)), inTile);
    Value rows = e.muli(inTile, facts.group);
    Value firstRow = e.subi(requests.end(e, request), inTile);
    Value few = e.select(e.slt(rows, e.index(facts.fewRows)), rows, e.index(0));
    e.forLoop(few, [&](CodeBuilder &e, Value row) {
      auto place = [&](CodeBuilder &e, Value part) {
        return at(e, request, head, part, row);
      };
      Value maximum = e.forLoop(
          e.index(0), parts, 1, e.f32(kNoMaximum),
          [&](CodeBuilder &e, Value part, ValueRange m) {
            Place from = place(e, part);
            return Values{maxF(e, e.load(from.memref, from.offset), m[0])};
          })[0];
      // The first part becomes the sum of all.
      Place into = place(e, e.index(0)).plus(e, e.index(2));
      Value sum = e.forLoop(
          e.index(0), parts, 1, e.f32(0),
          [&](CodeBuilder &e, Value part, ValueRange sum) {
            Place from = place(e, part);
            Value weight =
                emitExp2(e, subF(e, e.load(from.memref, from.offset), maximum));
            Value isFirst = e.eq(part, e.index(0));
            Place values = from.plus(e, e.index(2));
            forLanes(facts.valueChannels, facts.lanes,
                     [&](int64_t offset, int64_t n) {
                       Value shift = e.index(offset);
                       Value x = mulF(e, loadLanes(e, values.plus(e, shift), n),
                                      splat(e, weight, n));
                       Value before = loadLanes(e, into.plus(e, shift), n);
                       before = e.select(isFirst, splat(e, 0.0f, n), before);
                       storeLanes(e, addF(e, before, x), into.plus(e, shift));
                     });
            Value total = e.load(from.memref, e.addi(from.offset, 1));
            return Values{fma(e, total, weight, sum[0])};
          })[0];
      Value queryHead =
          e.addi(e.muli(head, facts.group), e.remui(row, facts.group));
      RowResult{maximum, sum}.store(e, facts, outputs,
                                    e.addi(firstRow, e.divui(row, facts.group)),
                                    queryHead, into);
    });
  });
}
