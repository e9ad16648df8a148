// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// merge_states: a thread has one access of the result, and works out for itself
// how much of each split it is.
//
//===----------------------------------------------------------------------===//

#include "../Common/CacheLowering.h"
#include "../Common/CodeBuilder.h"
#include "Codecs.h"
#include "Patterns.h"
#include "RowShape.h"
#include "Target/TargetOps.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <cmath>

using namespace mlir;
using namespace kvcache;

namespace {

constexpr int64_t kThreads = 256;

struct MergeStatesOpLowering : BufferOpLowering<MergeStatesOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(MergeStatesOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    KernelOperands operands(emit, emit.getLoc());
    auto type = cast<MemRefType>(op.getOut().getType());
    Type element = type.getElementType();
    int64_t bytes = element.getIntOrFloatBitWidth() / 8;
    int64_t heads = type.getDimSize(1), channels = type.getDimSize(2);
    if (heads == 0 || channels == 0)
      return;
    Value rows = in.smallest(op.getTiedExtents().front());
    SmallVector<RowBuffer> splits;
    for (Value split : in[op.getSplits()])
      splits.emplace_back(operands, split);
    RowBuffer out(operands, in[op.getOut()]);
    SmallVector<HeadBuffer> lses;
    for (Value lse : in[op.getLses()])
      lses.emplace_back(operands, lse, op.getHeadsFirst());
    std::optional<HeadBuffer> lseOut;
    if (op.getLse())
      lseOut.emplace(operands, in[op.getLse()], op.getHeadsFirst());
    // An access is of one head.
    int64_t width = out.align;
    for (const RowBuffer &split : splits)
      width = std::min(width, split.align);
    width = powerOfTwoDivisor(channels * bytes, width);
    int64_t lanes = width / bytes;
    int64_t perHead = channels / lanes, perRow = heads * perHead;
    Value count = emit.muli(rows, perRow);
    unsigned end = operands.addIndex(count);

    KernelBuilder k(op->getParentOfType<ModuleOp>(), emit.getLoc(),
                    "merge_states", operands.types(), kThreads);
    Value number = k.addi(k.muli(k.extui64(k.blockX()), k.i64(kThreads)),
                          k.extui64(k.threadX()));
    k.ifThen(k.slt(number, k.parameter(end)), [&] {
      Type i32 = k.getI32Type(), f32 = k.getF32Type();
      Value row = k.divui(number, perRow);
      Value inRow = k.sextOrTrunc(k.remui(number, perRow), i32);
      Value head = k.extui64(k.divui(inRow, perHead));
      Value part = k.remui(inRow, perHead);
      auto at = [&](const RowBuffer &list) {
        Value bytes = k.extui64(k.muli(inRow, k.i32(width)));
        return k.byteOffset(list.at(k, row), bytes);
      };
      SmallVector<Value> given;
      for (const HeadBuffer &lse : lses)
        given.push_back(k.loadScalar(lse.at(k, row, head), f32));
      const GPUCodec &codec = gpu::codecOf(element);
      // Loads are under way together, if there are few.
      SmallVector<Value> parts;
      for (const RowBuffer &split : splits)
        parts.push_back(codec.decode(k, k.load(at(split), width), lanes));
      Merge merge(k, given);
      Value sum;
      for (auto [x, share] : llvm::zip_equal(parts, merge.shares)) {
        Value more = merge.weighted(x, share);
        sum = sum ? k.fold<arith::AddFOp>(sum, more) : Val(k, more);
      }
      k.store(codec.encode(k, sum, lanes), at(out), width);
      if (lseOut)
        k.ifThen(k.eq(part, k.i32(0)),
                 [&] { k.storeScalar(merge.lse(), lseOut->at(k, row, head)); });
    });
    k.finish();
    emit.ifThen(emit.slt(emit.index(0), count), [&](CodeBuilder &e) {
      emitLaunch(e, e.getLoc(), k.symbol(), e.ceildivui(count, kThreads),
                 e.index(1), Value(), kThreads, operands);
    });
  }

private:
  /// The shares of the splits of a head, as on a CPU.
  struct Merge {
    Merge(KernelBuilder &e, ArrayRef<Value> given) : e(e) {
      none = e.f32(-INFINITY);
      SmallVector<Value> lses, weights;
      for (Value lse : given) {
        // No keys have either of both.
        Value isNone = e.fold<arith::CmpFOp>(arith::CmpFPredicate::OEQ, lse,
                                             e.f32(INFINITY));
        lses.push_back(e.select(isNone, none, lse));
      }
      Value most = lses.front(), sum;
      for (Value lse : ArrayRef(lses).drop_front())
        most = e.fold<arith::MaxNumFOp>(most, lse);
      isEmpty = isNone(most);
      base = e.select(isEmpty, e.f32(0), most);
      for (Value lse : lses) {
        weights.push_back(weightOf(lse));
        sum = sum ? e.fold<arith::AddFOp>(sum, weights.back())
                  : e.val(weights.back());
      }
      safe = e.select(isEmpty, e.f32(1), sum);
      for (Value weight : weights)
        shares.push_back(e.fold<arith::DivFOp>(weight, safe));
    }
    Value isNone(Value x) const {
      return e.fold<arith::CmpFOp>(arith::CmpFPredicate::OEQ, x, none);
    }
    /// A split without keys is not looked at.
    Value weightOf(Value x) const {
      Value distance = e.fold<arith::SubFOp>(x, base);
      Value scaled = e.fold<arith::MulFOp>(distance, e.f32(M_LOG2E));
      Value weight = e.target().ex2Subnormal(e.val(scaled));
      return e.select(isNone(x), e.f32(0), weight);
    }
    Value weighted(Value x, Value share) const {
      Value isUsed =
          e.fold<arith::CmpFOp>(arith::CmpFPredicate::UNE, share, e.f32(0));
      Value zero = arith::ConstantOp::create(e, e.getZeroAttr(x.getType()));
      Value factor = share;
      if (auto vector = dyn_cast<VectorType>(x.getType()))
        factor = vector::BroadcastOp::create(e, vector, share);
      Value product = e.fold<arith::MulFOp>(x, factor);
      return arith::SelectOp::create(e, isUsed, product, zero);
    }
    Value lse() const {
      Value log = e.fold<arith::MulFOp>(e.target().lg2Subnormal(e.val(safe)),
                                        e.f32(M_LN2));
      return e.select(isEmpty, none, e.fold<arith::AddFOp>(base, log));
    }
    KernelBuilder &e;
    SmallVector<Value> shares;
    Value none, isEmpty, base, safe;
  };
};

} // namespace

void kvcache::populateMergeStatesToGPU(TypeConverter &converter,
                                       RewritePatternSet &patterns) {
  patterns.add<MergeStatesOpLowering>(converter, patterns.getContext());
}
