// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Scales of keys and values, one for each token and head. The warp that fetches
// bytes copies them, and the one that converts keys makes of them what
// consumers take: the scale of a key, the logarithm of that of a value, which
// is added to the score so that weights are those of stored values, and its
// inverse, with which weights are summed up.
//
//===----------------------------------------------------------------------===//

#include "PromptKernel.h"

using namespace mlir;
using namespace kvcache;

void PromptKernel::fetchScales(const Boxes &boxes, Val head) {
  // Producers have few registers: one scale at a time.
  auto fetch = [&](Val number) {
    Val box = number / shape.boxTokens;
    Val entry = w.shflIdx(boxes.entry, box);
    Val token = w.shflIdx(boxes.token, box) + number % shape.boxTokens;
    // Past the last token there is no box, and before it may be one without a
    // block.
    Val isThere = entry >= 0;
    for (unsigned side : {0u, 1u}) {
      const std::optional<AttentionScales> &from =
          parameters.sides[side].scales;
      if (!from)
        continue;
      Val bytes = as(entry, 64) * Val(k, k.stride(from->block, 4)) +
                  as(token, 64) * Val(k, k.stride(from->token, 4)) +
                  axisBytes(from->head, head, 4);
      bytes = select(isThere, bytes, k.i64(0));
      Val to = number * 4 + (shape.rawScaleOffset + side * shape.unit * 4);
      w.cpAsync(isThere, at(shared, to), at(k.parameter(from->pointer), bytes),
                4);
    }
  };
  forTokens(fetch);
}

/// Calls `body` with the numbers of the tokens of a lane.
void PromptKernel::forTokens(llvm::function_ref<void(Val)> body) {
  k.rolledForLoop(lane, k.i32(shape.unit), k.i32(32), {},
                  [&](Val number, const Vals &) -> Vals {
                    body(number);
                    return {};
                  });
}

void PromptKernel::convertScales(Val slot) {
  auto store = [&](Val x, ScaleOf which, Val number) {
    Val to = slot * shape.scaleBytes() + number * 4 +
             (shape.scaleOffset + int64_t(which) * shape.unit * 4);
    k.storeScalar(x, at(shared, to));
  };
  forTokens([&](Val number) {
    auto load = [&](int64_t side) {
      Val from = number * 4 + (shape.rawScaleOffset + side * shape.unit * 4);
      return k.val(k.loadScalar(at(shared, from), k.getF32Type()));
    };
    if (traits.hasKeyScales)
      store(load(0), ScaleOf::Key, number);
    if (!traits.hasValueScales)
      return;
    Val logarithm = logarithmOfScale(w, load(1));
    store(logarithm, ScaleOf::ValueLogarithm, number);
    store(w.ex2(k.f32(0) - logarithm), ScaleOf::ValueInverse, number);
  });
}

Vals PromptKernel::loadScales(Val slot, ScaleOf which, int64_t eight) {
  Val from = slot * shape.scaleBytes() + (w.rereadThreadX() & 3) * 8 +
             (shape.scaleOffset + int64_t(which) * shape.unit * 4 + eight * 32);
  Value both = LLVM::LoadOp::create(k, VectorType::get({2}, k.getF32Type()),
                                    at(shared, from), 8);
  Vals pair;
  for (int64_t i : {0, 1})
    pair.push_back(k.val(LLVM::ExtractElementOp::create(k, both, k.i32(i))));
  return pair;
}

/// Where nothing else is done to scores.
void PromptKernel::scaleScores(Val slot, const Val (&factors)[2], Vals &x) {
  Vals keys, logarithms;
  for (int64_t i = 0; i < int64_t(x.size()); ++i) {
    if (i % 4 == 0 && traits.hasKeyScales)
      keys = loadScales(slot, ScaleOf::Key, i / 4);
    if (i % 4 == 0 && traits.hasValueScales)
      logarithms = loadScales(slot, ScaleOf::ValueLogarithm, i / 4);
    Val factor = factors[i % 4 / 2];
    if (traits.hasKeyScales)
      factor = factor * keys[i % 2];
    x[i] = x[i] * factor;
    if (traits.hasValueScales)
      x[i] = x[i] + logarithms[i % 2];
  }
}
