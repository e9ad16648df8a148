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
    auto type = cast<MemRefType>(op.getOut().getType());
    int64_t heads = type.getDimSize(1), channels = type.getDimSize(2);
    unsigned rowDim = op.getHeadsFirst() ? 1 : 0;
    Value count = in.smallest(op.getTiedExtents().front());
    SmallVector<Rows> splits;
    for (Value split : in[op.getSplits()])
      splits.emplace_back(emit, split);
    SmallVector<HeadRows> lses;
    for (Value lse : in[op.getLses()])
      lses.emplace_back(emit, lse, rowDim, 1 - rowDim);
    Rows out(emit, in[op.getOut()]);
    std::optional<HeadRows> lseOut;
    if (op.getLse())
      lseOut.emplace(emit, in[op.getLse()], rowDim, 1 - rowDim);

    emit.parallelLoop(count, [&](CodeBuilder &e, Value row) {
      e.forLoop(e.index(heads), [&](CodeBuilder &e, Value head) {
        Merge merge(e, lses, row, head);
        Value at = e.muli(head, channels);
        auto part = [&](CodeBuilder &e, size_t i, Value shift, int64_t n) {
          Value share = merge.shares[i];
          Value x =
              loadLanes(e, splits[i].at(e, row).plus(e, e.addi(at, shift)), n);
          x = mulF(e, x, splat(e, share, n));
          Value isUsed =
              e.fold<arith::CmpFOp>(arith::CmpFPredicate::UNE, share, e.f32(0));
          return e.select(isUsed, x, splat(e, 0.0f, n));
        };
        auto body = [&](CodeBuilder &e, Value shift, int64_t n) {
          Value x = part(e, 0, shift, n);
          for (size_t i = 1; i < splits.size(); ++i)
            x = addF(e, x, part(e, i, shift, n));
          storeLanes(e, x, out.at(e, row).plus(e, e.addi(at, shift)));
        };
        forVectors(e, channels, splits.size(), body);
        if (!lseOut)
          return;
        Place to = lseOut->at(e, row, head);
        e.store(merge.lse(e), to.memref, to.offset);
      });
    });
  }

private:
  /// How much each split is of a row and head.
  struct Merge {
    Merge(CodeBuilder &e, ArrayRef<HeadRows> lists, Value row, Value head) {
      none = e.f32(-INFINITY);
      SmallVector<Value> lses;
      for (const HeadRows &list : lists) {
        Place at = list.at(e, row, head);
        Value lse = e.load(at.memref, at.offset);
        // No keys have either of both.
        Value isNone = e.fold<arith::CmpFOp>(arith::CmpFPredicate::OEQ, lse,
                                             e.f32(INFINITY));
        lses.push_back(e.select(isNone, none, lse));
      }
      Value most = lses.front();
      for (Value lse : ArrayRef(lses).drop_front())
        most = maxF(e, most, lse);
      isEmpty = isNone(e, most);
      base = e.select(isEmpty, e.f32(0), most);
      SmallVector<Value> weights;
      Value sum;
      for (Value lse : lses) {
        // A split without keys is not looked at.
        Value weight = emitExp2(e, mulF(e, subF(e, lse, base), e.f32(M_LOG2E)));
        weights.push_back(e.select(isNone(e, lse), e.f32(0), weight));
        sum = sum ? addF(e, sum, weights.back()) : weights.back();
      }
      safe = e.select(isEmpty, e.f32(1), sum);
      for (Value weight : weights)
        shares.push_back(divF(e, weight, safe));
    }
    Value isNone(CodeBuilder &e, Value x) const {
      return e.fold<arith::CmpFOp>(arith::CmpFPredicate::OEQ, x, none);
    }
    Value lse(CodeBuilder &e) const {
      Value log = mulF(e, e.fold<math::Log2Op>(safe), e.f32(M_LN2));
      return e.select(isEmpty, none, addF(e, base, log));
    }
    SmallVector<Value> shares;
    Value none, isEmpty, base, safe;
  };

  /// Vectors and what remains; a loop where there are more than a model has.
  template <typename Body>
  static void forVectors(CodeBuilder &emit, int64_t elements, int64_t splits,
                         Body body) {
    constexpr int64_t kLanes = 16, kMostUnrolled = 2048;
    int64_t at = 0;
    if (elements * splits > kMostUnrolled) {
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
