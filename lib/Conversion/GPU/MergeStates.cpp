// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// merge_states: a thread has one access of the result, and works out for itself
// how much of each part it is.
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
    auto type = cast<MemRefType>(op.getA().getType());
    Type element = type.getElementType();
    int64_t bytes = element.getIntOrFloatBitWidth() / 8;
    int64_t heads = type.getDimSize(1), channels = type.getDimSize(2);
    if (heads == 0 || channels == 0)
      return;
    Value rows = emit.index(Layout::kMaxSpan);
    for (Value operand : in[op->getOperands()])
      rows = emit.minsi(rows, emit.dim(operand, 0));
    RowBuffer a(operands, in[op.getA()]);
    RowBuffer b(operands, in[op.getB()]);
    Values outs = in[op.getOuts()];
    RowBuffer out(operands, outs[0]);
    RowBuffer lseA(operands, in[op.getLseA()]);
    RowBuffer lseB(operands, in[op.getLseB()]);
    std::optional<RowBuffer> lseOut;
    if (outs.size() > 1)
      lseOut.emplace(operands, outs[1]);
    // An access is of one head.
    int64_t width = std::min({a.align, b.align, out.align});
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
      Value head = k.divui(inRow, perHead), part = k.remui(inRow, perHead);
      auto at = [&](const RowBuffer &list, Value index, int64_t size) {
        Value inRow = k.extui64(k.muli(index, k.i32(size)));
        return k.byteOffset(list.at(k, row), inRow);
      };
      Value left = k.loadScalar(at(lseA, head, 4), f32);
      Value right = k.loadScalar(at(lseB, head, 4), f32);
      const gpu::Codec &codec = gpu::codecOf(element);
      auto loadPart = [&](const RowBuffer &list) {
        return codec.decode(k, k.load(at(list, inRow, width), width), lanes);
      };
      Value x = loadPart(a), y = loadPart(b);
      Merge merge(k, left, right);
      Value sum = k.fold<arith::AddFOp>(merge.weighted(x, merge.leftShare),
                                        merge.weighted(y, merge.rightShare));
      k.store(codec.encode(k, sum, lanes), at(out, inRow, width), width);
      if (lseOut)
        k.ifThen(k.eq(part, k.i32(0)),
                 [&] { k.storeScalar(merge.lse(), at(*lseOut, head, 4)); });
    });
    k.finish();
    emit.ifThen(emit.slt(emit.index(0), count), [&](CodeBuilder &e) {
      emitLaunch(e, e.getLoc(), k.symbol(), e.ceildivui(count, kThreads),
                 e.index(1), Value(), kThreads, operands);
    });
  }

private:
  /// The shares of two parts of a head, as on a CPU.
  struct Merge {
    Merge(KernelBuilder &e, Value left, Value right) : e(e) {
      none = e.f32(-INFINITY);
      Value most = e.fold<arith::MaxNumFOp>(left, right);
      isEmpty = isNone(most);
      base = e.select(isEmpty, e.f32(0), most);
      Value leftWeight = weightOf(left), rightWeight = weightOf(right);
      Value sum = e.fold<arith::AddFOp>(leftWeight, rightWeight);
      safe = e.select(isEmpty, e.f32(1), sum);
      leftShare = e.fold<arith::DivFOp>(leftWeight, safe);
      rightShare = e.fold<arith::DivFOp>(rightWeight, safe);
    }
    Value isNone(Value x) const {
      return e.fold<arith::CmpFOp>(arith::CmpFPredicate::OEQ, x, none);
    }
    /// A part without keys is not looked at.
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
    Value none, isEmpty, base, safe, leftShare, rightShare;
  };
};

} // namespace

void kvcache::populateMergeStatesToGPU(TypeConverter &converter,
                                       RewritePatternSet &patterns) {
  patterns.add<MergeStatesOpLowering>(converter, patterns.getContext());
}
