// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "../Common/CacheLowering.h"
#include "Lanes.h"
#include "Patterns.h"

#include "mlir/Dialect/Math/IR/Math.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

namespace {

struct MergeStatesOpLowering : BufferOpLowering<MergeStatesOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(MergeStatesOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    auto type = cast<MemRefType>(op.getA().getType());
    int64_t heads = type.getDimSize(1), channels = type.getDimSize(2);
    Value count = emit.index(Layout::kMaxSpan);
    for (Value operand : in[op->getOperands()])
      count = emit.minsi(count, emit.dim(operand, 0));
    Rows a(emit, in[op.getA()]), b(emit, in[op.getB()]);
    Value lseA = in[op.getLseA()], lseB = in[op.getLseB()];
    Values outs = in[op.getOuts()];
    Rows out(emit, outs[0]);
    Value lse = outs.size() > 1 ? outs[1] : Value();

    emit.parallelLoop(count, [&](CodeBuilder &e, Value row) {
      e.forLoop(e.index(heads), [&](CodeBuilder &e, Value head) {
        Value left = e.load(lseA, {row, head});
        Value right = e.load(lseB, {row, head});
        Value none = e.f32(-INFINITY);
        auto isNone = [&](Value x) {
          return e.fold<arith::CmpFOp>(arith::CmpFPredicate::OEQ, x, none);
        };
        Value maximum = maxF(e, left, right);
        Value isEmpty = isNone(maximum);
        Value base = e.select(isEmpty, e.f32(0), maximum);
        // A part without keys is not looked at.
        auto weightOf = [&](Value x) {
          Value weight = emitExp2(e, mulF(e, subF(e, x, base), e.f32(M_LOG2E)));
          return e.select(isNone(x), e.f32(0), weight);
        };
        Value leftWeight = weightOf(left), rightWeight = weightOf(right);
        Value sum = addF(e, leftWeight, rightWeight);
        Value safe = e.select(isEmpty, e.f32(1), sum);
        Value leftShare = divF(e, leftWeight, safe);
        Value rightShare = divF(e, rightWeight, safe);
        Value at = e.muli(head, channels);
        auto part = [&](CodeBuilder &e, const Rows &rows, Value share,
                        Value shift, int64_t n) {
          Value x = loadLanes(e, rows.at(e, row).plus(e, e.addi(at, shift)), n);
          x = mulF(e, x, splat(e, share, n));
          Value isUsed =
              e.fold<arith::CmpFOp>(arith::CmpFPredicate::UNE, share, e.f32(0));
          return e.select(isUsed, x, splat(e, 0.0f, n));
        };
        forVectors(e, channels, [&](CodeBuilder &e, Value shift, int64_t n) {
          Value x = addF(e, part(e, a, leftShare, shift, n),
                         part(e, b, rightShare, shift, n));
          storeLanes(e, x, out.at(e, row).plus(e, e.addi(at, shift)));
        });
        if (!lse)
          return;
        Value total =
            addF(e, base, mulF(e, e.fold<math::Log2Op>(safe), e.f32(M_LN2)));
        e.store(e.select(isEmpty, none, total), lse, {row, head});
      });
    });
  }

private:
  /// Vectors and what remains; a loop where there are more than a model has.
  template <typename Body>
  static void forVectors(CodeBuilder &emit, int64_t elements, Body body) {
    constexpr int64_t kLanes = 16, kMostUnrolled = 1024;
    int64_t at = 0;
    if (elements > kMostUnrolled) {
      at = elements / kLanes * kLanes;
      emit.forLoop(
          emit.index(0), emit.index(at), kLanes,
          [&](CodeBuilder &e, Value shift) { body(e, shift, kLanes); });
    }
    for (; at < elements; at += kLanes)
      body(emit, emit.index(at), std::min(kLanes, elements - at));
  }
};

} // namespace

void cpu::populateMergeStatesToLoops(TypeConverter &converter,
                                     RewritePatternSet &patterns) {
  patterns.add<MergeStatesOpLowering>(converter, patterns.getContext());
}
