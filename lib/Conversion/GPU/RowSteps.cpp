// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// normalize and rotate; fuse, whose operations are one launch.
//
//===----------------------------------------------------------------------===//

#include "Patterns.h"
#include "UnitMoves.h"

#include "kvcache/IR/RowSteps.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace kvcache;

namespace {

/// A step or a write, inside of a `fuse` with the steps whose results it reads.
class RowChains {
public:
  /// `lowered` is what values have become, but for buffers that are not made.
  RowChains(CodeBuilder &emit, UnitLaunch &launch, CopyScheduleAttr schedule,
            bool isFused, llvm::function_ref<Value(Value)> lowered)
      : emit(emit), launch(launch), schedule(schedule), isFused(isFused),
        lowered(lowered) {}

  void add(Operation *op) {
    if (auto step = dyn_cast<RowStepOpInterface>(op)) {
      RowSteps steps = chainOf(step.getRows());
      steps.push_back(step);
      UnitMove &move = addRowMove(launch, lowered(steps.front().getRows()),
                                  lowered(step.getOut()), countOf(op, steps));
      move.setSchedule(schedule);
      addSteps(move, 0, steps, formatOf(step));
      return;
    }
    SmallVector<RowSteps> chains;
    RowSteps all;
    Values rows;
    for (Value row : rowsOf(op)) {
      chains.push_back(chainOf(row));
      llvm::append_range(all, chains.back());
      rows.push_back(lowered(
          chains.back().empty() ? row : chains.back().front().getRows()));
    }
    UnitMove &move = addWrite(op, rows, countOf(op, all));
    for (auto [side, steps] : llvm::enumerate(chains))
      addSteps(move, side, steps, storedBy(op));
  }

private:
  /// The format of the result of a step.
  static Type formatOf(RowStepOpInterface step) {
    return cast<MemRefType>(step.getOut().getType()).getElementType();
  }
  /// The format that a write rounds rows to; null if it multiplies them before.
  static Type storedBy(Operation *op) {
    auto typeOf = [](auto write) {
      auto cache = cast<CacheType>(write.getCache().getType());
      return write.getScales() ? Type() : cache.getElementType();
    };
    if (auto write = dyn_cast<IndexCopyOp>(op))
      return typeOf(write);
    return typeOf(cast<ScatterOp>(op));
  }

  RowSteps chainOf(Value rows) {
    return isFused ? stepsBefore(rows) : RowSteps();
  }

  /// The rows that all of the buffers have.
  Value countOf(Operation *op, ArrayRef<RowStepOpInterface> steps) {
    Value count;
    auto add = [&](Operation *one) {
      auto access = cast<CacheAccessOpInterface>(one);
      SmallVector<TiedExtents> ties = access.getTiedExtents();
      for (const OperandExtent &extent : ties.front()) {
        Value more = extentOf(extent);
        count = count ? Value(emit.minsi(count, more)) : more;
      }
    };
    for (Operation *step : steps)
      add(step);
    add(op);
    return count;
  }

  Value extentOf(const OperandExtent &extent) {
    if (!isFused || !stepInto(extent.value))
      return emit.dim(lowered(extent.value), extent.dim);
    memref::AllocOp alloc = allocOf(extent.value);
    int64_t constant = alloc.getType().getDimSize(extent.dim);
    if (!ShapedType::isDynamic(constant))
      return emit.index(constant);
    return lowered(
        alloc
            .getDynamicSizes()[alloc.getType().getDynamicDimIndex(extent.dim)]);
  }

  CacheValue cacheOf(Value cache) {
    return {emit, cast<CacheType>(cache.getType()), lowered(cache)};
  }

  UnitMove &addWrite(Operation *op, Values rows, Value count) {
    auto scalesOf = [&](Value scales) {
      return scales ? std::optional(cacheOf(scales)) : std::nullopt;
    };
    if (auto write = dyn_cast<IndexCopyOp>(op)) {
      CacheValue cache = cacheOf(write.getCache());
      SlotsType slots = write.getSlots().getType();
      SlotCursor cursor(cache.type.getLayout(), slots.getRowsPerBlock());
      return CacheRows({cache, scalesOf(write.getScales())}, rows, cursor)
          .bySlots(lowered(write.getSlots()), slots)
          .addTo(launch, emit, count, schedule);
    }
    auto write = cast<ScatterOp>(op);
    CacheValue cache = cacheOf(write.getCache());
    SlotCursor cursor(cache.type.getLayout());
    return CacheRows({cache, scalesOf(write.getScales())}, rows, cursor)
        .byBlocks(lowered(write.getBlocks()), lowered(write.getOffsets()))
        .addTo(launch, emit, count, schedule);
  }

  /// A result is rounded to the format of its buffer, that of the last step by
  /// the store if this rounds to the same one.
  void addSteps(UnitMove &move, unsigned side,
                ArrayRef<RowStepOpInterface> steps, Type stored) {
    for (RowStepOpInterface step : steps) {
      bool isStored = step == steps.back() && formatOf(step) == stored;
      Type rounded = isStored ? Type() : formatOf(step);
      if (auto norm = dyn_cast<NormalizeOp>(*step)) {
        Value weight = norm.getWeight();
        move.addNormalize(side, norm, weight ? lowered(weight) : Value(),
                          rounded);
        continue;
      }
      auto rotate = cast<RotateOp>(*step);
      Value positions = rotate.getPositions();
      move.addRotate(side, rotate, lowered(rotate.getTable()),
                     positions ? lowered(positions) : Value(), rounded);
    }
  }

  CodeBuilder &emit;
  UnitLaunch &launch;
  CopyScheduleAttr schedule; ///< null for the standard one
  bool isFused;
  llvm::function_ref<Value(Value)> lowered;
};

template <typename StepOp> struct StepLowering : BufferOpLowering<StepOp> {
  using BufferOpLowering<StepOp>::BufferOpLowering;
  void lower(StepOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    UnitLaunch launch(emit, op);
    auto lowered = [&](Value operand) { return in[operand]; };
    RowChains(emit, launch, CopyScheduleAttr(), /*isFused=*/false, lowered)
        .add(op);
    launch.launch(op->getName().stripDialect());
  }
};

/// That of the first write that has one.
CopyScheduleAttr scheduleOf(FuseOp op) {
  for (Operation &inner : op.getBody().front()) {
    auto write = dyn_cast<IndexCopyOp>(inner);
    auto other = dyn_cast<ScatterOp>(inner);
    CopyScheduleAttr schedule = write   ? write.getScheduleAttr()
                                : other ? other.getScheduleAttr()
                                        : CopyScheduleAttr();
    if (schedule)
      return schedule;
  }
  return {};
}

struct FuseOpLowering : OpConversionPattern<FuseOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(FuseOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    CodeBuilder emit(rewriter, op.getLoc());
    UnitLaunch launch(emit, op);
    auto lowered = [&](Value value) {
      Value remapped = rewriter.getRemappedValue(value);
      assert(remapped && "what comes before is lowered");
      return remapped;
    };
    RowChains chains(emit, launch, scheduleOf(op), /*isFused=*/true, lowered);
    bool isAny = false;
    for (Operation &inner : op.getBody().front()) {
      auto step = dyn_cast<RowStepOpInterface>(inner);
      if (isa<memref::AllocOp, memref::CastOp>(inner) ||
          (step && stepInto(step.getOut())))
        continue;
      chains.add(&inner);
      isAny = true;
    }
    if (isAny)
      launch.launch("fuse");
    rewriter.eraseOp(op);
    return success();
  }
};

} // namespace

void kvcache::populateRowStepsToGPU(TypeConverter &converter,
                                    RewritePatternSet &patterns) {
  patterns
      .add<StepLowering<NormalizeOp>, StepLowering<RotateOp>, FuseOpLowering>(
          converter, patterns.getContext());
}
