// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "MathBuilder.h"

#include "kvcache/HostCPU/Passes.h"

#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

namespace kvcache {
#define GEN_PASS_DEF_EXPANDMATH
#include "kvcache/HostCPU/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

/// What expansions are made of is on scalars and vectors of floats; tensors and
/// other elements are left.
static bool isExpanded(Type type) {
  if (isa<ShapedType>(type) && !isa<VectorType>(type))
    return false;
  Type element = getElementTypeOrSelf(type);
  return element.isF16() || element.isBF16() || element.isF32() ||
         element.isF64();
}

static bool isNarrow(Type type) {
  Type element = getElementTypeOrSelf(type);
  return element.isBF16() || element.isF16();
}

static bool isArithmetic(Operation *op) {
  return isa_and_present<arith::ArithDialect, math::MathDialect>(
             op->getDialect()) ||
         isa<vector::FMAOp, vector::ReductionOp>(op);
}

/// A named operation of linalg, such as a product of matrices: its name says
/// what its body is, which is compared with that, and not printed.
static bool hasImpliedBody(Operation *op) {
  auto named = dyn_cast<linalg::LinalgOp>(op);
  return named && named.getRegionBuilder();
}

/// What CPUs do in one or a few instructions; LLVM calls no library for it.
static bool isNative(Operation *op) {
  return isa<math::AbsFOp, math::AbsIOp, math::CopySignOp, math::SqrtOp,
             math::CountLeadingZerosOp, math::CountTrailingZerosOp,
             math::CtPopOp>(op);
}

bool kvcache::isExpandable(Operation *op) {
  if (isNative(op))
    return true;
  if (isa<math::RoundEvenOp, math::FloorOp, math::CeilOp, math::TruncOp,
          math::RoundOp>(op))
    return true;
  if (!isa<math::ExpOp, math::Exp2Op, math::ExpM1Op, math::LogOp, math::Log2Op,
           math::Log10Op, math::Log1pOp, math::TanhOp, math::SinOp, math::CosOp,
           math::ErfOp, math::RsqrtOp>(op))
    return false;
  Type type = op->getResult(0).getType();
  return getElementTypeOrSelf(type).isF32() || isNarrow(type);
}

/// The result of an operation on f32 (for rounding, f64 as well), or null for
/// one that stays or that a pattern of MLIR expands.
static Value expand(MathBuilder &b, Operation *op) {
  if (isNative(op))
    return nullptr;
  Value x = op->getOperand(0);
  auto one = [&](double value) {
    return getElementTypeOrSelf(x).isF64() ? b.f64(x, value) : b.f32(x, value);
  };
  auto isLess = [&](Value value, double limit) {
    return b.compare(arith::CmpFPredicate::OLT, b.magnitude(value),
                     b.f64(value, limit));
  };
  if (isa<math::ExpOp>(op))
    return b.exp(x);
  if (isa<math::Exp2Op>(op))
    return b.exp2(x);
  if (isa<math::SinOp>(op))
    return b.sinCos(x, false);
  if (isa<math::CosOp>(op))
    return b.sinCos(x, true);
  if (isa<math::TanhOp>(op))
    return b.toF32(b.tanhWide(b.toF64(x)));
  if (isa<math::ErfOp>(op))
    return b.toF32(b.erfWide(b.toF64(x)));
  if (isa<math::LogOp, math::Log2Op, math::Log10Op>(op)) {
    Value y = b.logWide(b.toF64(x));
    if (isa<math::Log2Op>(op))
      y = b.mul(y, b.f64(x, 1.4426950408889634));
    if (isa<math::Log10Op>(op))
      y = b.mul(y, b.f64(x, 0.4342944819032518));
    return b.toF32(y);
  }
  // Near zero, where 1 + x and e^x - 1 lose the bits of x, two terms are
  // enough.
  if (isa<math::Log1pOp>(op)) {
    Value wide = b.toF64(x);
    Value near = b.mul(wide, b.polynomial(wide, {1.0, -0.5, 1.0 / 3}));
    Value y = b.logWide(b.add(wide, b.f64(x, 1.0)));
    y = b.select(isLess(wide, 1e-4), near, y);
    return b.select(b.compare(arith::CmpFPredicate::OEQ, x, b.f32(x, 0.0)), x,
                    b.toF32(y));
  }
  if (isa<math::ExpM1Op>(op)) {
    Value wide = b.toF64(x);
    Value near = b.mul(wide, b.polynomial(wide, {1.0, 0.5, 1.0 / 6}));
    Value y = b.sub(b.expWide(wide), b.f64(x, 1.0));
    y = b.select(isLess(wide, 1e-4), near, y);
    return b.select(b.compare(arith::CmpFPredicate::OEQ, x, b.f32(x, 0.0)), x,
                    b.toF32(y));
  }
  if (isa<math::RoundEvenOp>(op))
    return b.roundEven(x);
  if (isa<math::FloorOp>(op))
    return b.floor(x);
  if (isa<math::CeilOp>(op)) {
    Value y = b.floor(arith::NegFOp::create(b, x));
    return arith::NegFOp::create(b, y);
  }
  if (isa<math::TruncOp>(op))
    return b.withSign(b.floor(b.magnitude(x)), x);
  if (isa<math::RoundOp>(op)) {
    Value size = b.magnitude(x);
    Value low = b.floor(size);
    Value up = arith::AddFOp::create(b, low, one(1.0));
    Value rest = arith::SubFOp::create(b, size, low);
    Value half = b.compare(arith::CmpFPredicate::OGE, rest, one(0.5));
    return b.withSign(b.select(half, up, low), x);
  }
  return nullptr;
}

/// An integer of 64 bits whose rounding to f64 and then to bf16 is its rounding
/// to bf16: of a large one, the bits that an f64 has no room for become one.
static Value keepSticky(MathBuilder &b, Value x) {
  Value mask = b.i64(x, 0xfff);
  Value low = b.andI(x, mask);
  Value bit = b.select(b.compareI(arith::CmpIPredicate::ne, low, b.i64(x, 0)),
                       b.i64(x, 0x800), b.i64(x, 0));
  Value rounded = b.orI(b.subI(x, low), bit);
  // Below 2^53, of both signs, nothing is lost.
  Value shifted = b.shr(b.addI(x, b.i64(x, int64_t(1) << 53)), b.i64(x, 54));
  Value isSmall = b.compareI(arith::CmpIPredicate::eq, shifted, b.i64(x, 0));
  return b.select(isSmall, x, rounded);
}

/// An integer as bf16, which f32 would round twice.
static Value widenFromInteger(MathBuilder &b, Operation *op) {
  Value x = op->getOperand(0);
  Type element = getElementTypeOrSelf(x);
  if (!element.isIndex() && element.getIntOrFloatBitWidth() < 64) {
    Type wide = MathBuilder::shaped(x, b.getI64Type());
    x = isa<arith::SIToFPOp>(op) ? Value(arith::ExtSIOp::create(b, wide, x))
                                 : Value(arith::ExtUIOp::create(b, wide, x));
  }
  x = keepSticky(b, x);
  Type f64 = MathBuilder::shaped(x, b.getF64Type());
  Value y = isa<arith::SIToFPOp>(op)
                ? Value(arith::SIToFPOp::create(b, f64, x))
                : Value(arith::UIToFPOp::create(b, f64, x));
  return arith::TruncFOp::create(b, op->getResult(0).getType(), y);
}

/// LLVM has code for the larger and the smaller of two numbers of f32 and f64,
/// and of vectors of them that are no wider than a register; for others it
/// calls a library.
static bool isLibraryExtremum(Type type) {
  auto vector = dyn_cast<VectorType>(type);
  if (!isExpanded(type) || (vector && vector.isScalable()))
    return false;
  return getElementTypeOrSelf(type).isF16() ||
         (vector &&
          vector.getNumElements() > 256 / vector.getElementTypeBitWidth());
}

namespace {

/// For operations of any kind.
struct AnyPattern : RewritePattern {
  explicit AnyPattern(MLIRContext *context, PatternBenefit benefit = 1)
      : RewritePattern(MatchAnyOpTypeTag(), benefit, context) {}
};

/// The operation on f32 in place of one on a narrower float.
struct Widen : AnyPattern {
  using AnyPattern::AnyPattern;

  LogicalResult matchAndRewrite(Operation *op,
                                PatternRewriter &rewriter) const final {
    if (!isNarrowArithmetic(op))
      return rewriter.notifyMatchFailure(op, "CPUs have it for these types");
    MathBuilder b(op->getLoc(), rewriter);
    if (isa<arith::SIToFPOp, arith::UIToFPOp>(op) &&
        getElementTypeOrSelf(op->getOperand(0)).getIntOrFloatBitWidth() <= 64) {
      rewriter.replaceOp(op, widenFromInteger(b, op));
      return success();
    }
    IRMapping mapping;
    for (Value operand : op->getOperands())
      if (isNarrow(operand.getType()))
        mapping.map(
            operand,
            arith::ExtFOp::create(
                b, MathBuilder::shaped(operand, b.getF32Type()), operand));
    SmallVector<Value> values;
    for (Value result : b.clone(*op, mapping)->getResults()) {
      Type narrow = result.getType();
      values.push_back(result);
      if (!isNarrow(narrow))
        continue;
      result.setType(MathBuilder::shaped(result, b.getF32Type()));
      values.back() = arith::TruncFOp::create(b, narrow, result);
    }
    rewriter.replaceOp(op, values);
    return success();
  }

private:
  static bool isNarrowArithmetic(Operation *op) {
    if (!isArithmetic(op) ||
        isa<arith::ConstantOp, arith::SelectOp, arith::BitcastOp, arith::ExtFOp,
            arith::TruncFOp>(op))
      return false;
    bool isMath = isa_and_present<math::MathDialect>(op->getDialect());
    // CPUs convert f16, but LLVM computes nothing in bf16 without a library.
    auto needsMore = [&](Type type) {
      return isExpanded(type) && (getElementTypeOrSelf(type).isBF16() ||
                                  (isMath && isNarrow(type)));
    };
    return llvm::any_of(op->getOperandTypes(), needsMore) ||
           llvm::any_of(op->getResultTypes(), needsMore);
  }
};

struct ExpandFunction : AnyPattern {
  using AnyPattern::AnyPattern;

  LogicalResult matchAndRewrite(Operation *op,
                                PatternRewriter &rewriter) const final {
    if (!isa_and_present<math::MathDialect>(op->getDialect()) ||
        !isExpandable(op) || !isExpanded(op->getResult(0).getType()))
      return rewriter.notifyMatchFailure(op, "no function to expand");
    MathBuilder b(op->getLoc(), rewriter);
    Value value = expand(b, op);
    if (!value)
      return rewriter.notifyMatchFailure(op,
                                         "CPUs have it, or MLIR expands it");
    rewriter.replaceOp(op, value);
    return success();
  }
};

/// Gives the number where one of two is none.
template <typename Op, arith::CmpFPredicate isBeyond>
struct ExpandExtremum : OpRewritePattern<Op> {
  using OpRewritePattern<Op>::OpRewritePattern;

  LogicalResult matchAndRewrite(Op op, PatternRewriter &rewriter) const final {
    if (!isLibraryExtremum(op.getType()))
      return rewriter.notifyMatchFailure(op, "LLVM has code for it");
    MathBuilder b(op.getLoc(), rewriter);
    Value x = op.getLhs(), y = op.getRhs();
    Value extremum = b.select(b.compare(isBeyond, y, x), y, x);
    Value isNaN = b.compare(arith::CmpFPredicate::UNO, x, x);
    rewriter.replaceOp(op, b.select(isNaN, y, extremum));
    return success();
  }
};

/// By way of f32: no CPU rounds f64 to 16 bits at once.
template <typename Op> struct ConvertByF32 : OpRewritePattern<Op> {
  using OpRewritePattern<Op>::OpRewritePattern;

  LogicalResult matchAndRewrite(Op op, PatternRewriter &rewriter) const final {
    constexpr bool extends = std::is_same_v<Op, arith::ExtFOp>;
    Value x = op.getIn();
    Type wide = extends ? op.getType() : x.getType();
    Type narrow = extends ? x.getType() : op.getType();
    if (!isExpanded(wide) || !getElementTypeOrSelf(wide).isF64() ||
        !(extends ? getElementTypeOrSelf(narrow).isBF16() : isNarrow(narrow)))
      return rewriter.notifyMatchFailure(op, "it is a conversion at once");
    MathBuilder b(op.getLoc(), rewriter);
    Value f32 = extends ? arith::ExtFOp::create(
                              b, MathBuilder::shaped(x, b.getF32Type()), x)
                              .getResult()
                        : b.toOddF32(x);
    rewriter.modifyOpInPlace(op, [&] { op.getInMutable().assign(f32); });
    return success();
  }
};

} // namespace

void kvcache::populateExpandMathPatterns(RewritePatternSet &patterns) {
  MLIRContext *context = patterns.getContext();
  // Before what expands functions of f32.
  patterns.add<Widen>(context, /*benefit=*/2);
  patterns.add<ExpandFunction,
               ExpandExtremum<arith::MaxNumFOp, arith::CmpFPredicate::OGT>,
               ExpandExtremum<arith::MinNumFOp, arith::CmpFPredicate::OLT>,
               ConvertByF32<arith::ExtFOp>, ConvertByF32<arith::TruncFOp>>(
      context);
  // Where MLIR's own patterns are as exact, and as fast.
  arith::populateExpandBFloat16Patterns(patterns);
  math::populateExpansionPatterns(patterns, {"rsqrt"});
}

namespace {
struct ExpandMath : kvcache::impl::ExpandMathBase<ExpandMath> {
  void runOnOperation() override {
    SmallVector<Operation *> ops;
    getOperation().walk<WalkOrder::PreOrder>([&](Operation *op) {
      if (hasImpliedBody(op))
        return WalkResult::skip();
      // MLIR's patterns take tensors, and rsqrt of f64, as well.
      if (isArithmetic(op) && (!isa<math::RsqrtOp>(op) || isExpandable(op)) &&
          (llvm::any_of(op->getOperandTypes(), isExpanded) ||
           llvm::any_of(op->getResultTypes(), isExpanded)))
        ops.push_back(op);
      return WalkResult::advance();
    });
    RewritePatternSet patterns(&getContext());
    populateExpandMathPatterns(patterns);
    auto config = GreedyRewriteConfig().enableFolding(false).setStrictness(
        GreedyRewriteStrictness::ExistingAndNewOps);
    if (failed(applyOpPatternsGreedily(ops, std::move(patterns), config)))
      signalPassFailure();
  }
};
} // namespace
