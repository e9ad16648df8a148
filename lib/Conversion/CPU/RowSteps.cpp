// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// normalize and rotate, in parallel over rows; fuse.
//
//===----------------------------------------------------------------------===//

#include "../Common/CacheLowering.h"
#include "Lanes.h"
#include "Patterns.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

namespace {

constexpr int64_t kLanes = 16;

/// Rows and a destination of the same shape.
struct Step {
  Step(RowStepOpInterface op, const LoweredOperands &in, CodeBuilder &emit)
      : rows(emit, in[op.getRows()]), out(emit, in[op.getOut()]) {
    ArrayRef<int64_t> shape =
        cast<ShapedType>(op.getRows().getType()).getShape();
    channels = shape.back();
    heads = shape.size() == 3 ? shape[1] : 1;
    auto access = cast<CacheAccessOpInterface>(*op);
    count = in.smallest(access.getTiedExtents().front());
  }

  /// The heads of all rows: where they are read and written.
  using Body = llvm::function_ref<void(CodeBuilder &, Value row,
                                       const Place &from, const Place &to)>;
  void forHeads(CodeBuilder &emit, Body body) const {
    emit.parallelLoop(count, [&](CodeBuilder &e, Value row) {
      Place from = rows.at(e, row), to = out.at(e, row);
      e.forLoop(e.index(heads), [&](CodeBuilder &e, Value head) {
        Value at = e.muli(head, channels);
        body(e, row, from.plus(e, at), to.plus(e, at));
      });
    });
  }

  Rows rows, out;
  int64_t heads, channels;
  Value count;
};

/// A loop over whole vectors, and what remains.
template <typename Body>
void forVectors(CodeBuilder &emit, int64_t first, int64_t end, Body body) {
  int64_t whole = (end - first) / kLanes * kLanes;
  if (whole)
    emit.forLoop(emit.index(first), emit.index(first + whole), kLanes,
                 [&](CodeBuilder &e, Value at) { body(e, at, kLanes); });
  if (int64_t rest = end - first - whole)
    body(emit, emit.index(first + whole), rest);
}

struct NormalizeOpLowering : BufferOpLowering<NormalizeOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(NormalizeOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    Step step(op, in, emit);
    std::optional<Place> weight;
    if (op.getWeight())
      weight = Place{in[op.getWeight()], emit.index(0)};
    float epsilon = op.getEpsilon().convertToFloat();
    step.forHeads(emit, [&](CodeBuilder &e, Value, const Place &from,
                            const Place &to) {
      Value mean =
          divF(e, squares(e, from, step.channels), e.f32(step.channels));
      Value root = e.fold<math::SqrtOp>(addF(e, mean, e.f32(epsilon)));
      Value factor = divF(e, e.f32(1), root);
      forVectors(e, 0, step.channels, [&](CodeBuilder &e, Value at, int64_t n) {
        Value x =
            mulF(e, loadLanes(e, from.plus(e, at), n), splat(e, factor, n));
        if (weight) {
          Value w = loadLanes(e, weight->plus(e, at), n);
          if (op.getPlusOne())
            w = addF(e, w, splat(e, 1.0f, n));
          x = mulF(e, x, w);
        }
        storeLanes(e, x, to.plus(e, at));
      });
    });
  }

private:
  static Value squares(CodeBuilder &emit, const Place &from, int64_t channels) {
    int64_t whole = channels / kLanes * kLanes;
    Value sum;
    if (whole) {
      Values lanes = emit.forLoop(
          emit.index(0), emit.index(whole), kLanes,
          ValueRange(splat(emit, 0.0f, kLanes)),
          [&](CodeBuilder &e, Value at, ValueRange sums) -> Values {
            Value x = loadLanes(e, from.plus(e, at), kLanes);
            return {addF(e, sums[0], mulF(e, x, x))};
          });
      sum = addLanes(emit, lanes[0]);
    }
    if (int64_t rest = channels - whole) {
      Value x = loadLanes(emit, from.plus(emit, emit.index(whole)), rest);
      Value more = addLanes(emit, mulF(emit, x, x));
      sum = sum ? addF(emit, sum, more) : more;
    }
    return sum;
  }
  static Value addLanes(CodeBuilder &emit, Value vector) {
    return vector::ReductionOp::create(emit, vector::CombiningKind::ADD,
                                       vector);
  }
};

struct RotateOpLowering : BufferOpLowering<RotateOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(RotateOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    Step step(op, in, emit);
    Value memref = in[op.getTable()], positions = in[op.getPositions()];
    Rows table(emit, memref);
    Value end = emit.dim(memref, 0);
    int64_t turned = op.getNumRotated();
    step.forHeads(emit, [&](CodeBuilder &e, Value row, const Place &from,
                            const Place &to) {
      Value position = positions ? Value(e.loadIndex(positions, row)) : row;
      e.ifThen(
          e.ult(position, end),
          [&](CodeBuilder &e) {
            Place cosines = table.at(e, position);
            Place sines = cosines.plus(e, e.index(turned / 2));
            if (op.getInterleaved())
              turnNeighbours(e, from, to, cosines, sines, turned);
            else
              turnHalves(e, from, to, cosines, sines, turned);
            copy(e, from, to, turned, step.channels);
          },
          [&](CodeBuilder &e) { copy(e, from, to, 0, step.channels); });
    });
  }

private:
  static void copy(CodeBuilder &emit, const Place &from, const Place &to,
                   int64_t first, int64_t end) {
    forVectors(emit, first, end, [&](CodeBuilder &e, Value at, int64_t n) {
      storeLanes(e, loadLanes(e, from.plus(e, at), n), to.plus(e, at));
    });
  }

  /// The two of each pair.
  static std::pair<Value, Value> turn(CodeBuilder &emit, Value a, Value b,
                                      Value cosine, Value sine) {
    return {subF(emit, mulF(emit, a, cosine), mulF(emit, b, sine)),
            addF(emit, mulF(emit, b, cosine), mulF(emit, a, sine))};
  }

  static void turnHalves(CodeBuilder &emit, const Place &from, const Place &to,
                         const Place &cosines, const Place &sines,
                         int64_t turned) {
    Value half = emit.index(turned / 2);
    forVectors(emit, 0, turned / 2, [&](CodeBuilder &e, Value at, int64_t n) {
      Value other = e.addi(at, half);
      auto [a, b] = turn(e, loadLanes(e, from.plus(e, at), n),
                         loadLanes(e, from.plus(e, other), n),
                         loadLanes(e, cosines.plus(e, at), n),
                         loadLanes(e, sines.plus(e, at), n));
      storeLanes(e, a, to.plus(e, at));
      storeLanes(e, b, to.plus(e, other));
    });
  }

  static void turnNeighbours(CodeBuilder &emit, const Place &from,
                             const Place &to, const Place &cosines,
                             const Place &sines, int64_t turned) {
    forVectors(emit, 0, turned / 2, [&](CodeBuilder &e, Value at, int64_t n) {
      Value first = e.muli(at, 2);
      Value both = loadLanes(e, from.plus(e, first), 2 * n);
      auto pairs = vector::DeinterleaveOp::create(e, both);
      auto [a, b] = turn(e, pairs.getRes1(), pairs.getRes2(),
                         loadLanes(e, cosines.plus(e, at), n),
                         loadLanes(e, sines.plus(e, at), n));
      storeLanes(e, vector::InterleaveOp::create(e, a, b), to.plus(e, first));
    });
  }
};

/// The operations, in their order.
struct FuseOpLowering : OpConversionPattern<FuseOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(FuseOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    rewriter.inlineBlockBefore(&op.getBody().front(), op);
    rewriter.eraseOp(op);
    return success();
  }
};

} // namespace

void cpu::populateRowStepsToLoops(TypeConverter &converter,
                                  RewritePatternSet &patterns) {
  patterns.add<NormalizeOpLowering, RotateOpLowering, FuseOpLowering>(
      converter, patterns.getContext());
}
