// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// index_copy: rows go to their slots, all sides in one launch.
//
// A row is cut into accesses of the widest width that the facts prove. A block
// of threads covers whole rows, or part of one long row; a thread moves one
// access of each side. The kernel is straight: loads of rows do not wait for
// slots, and only the stores depend on them, under a predicate.
//
// docs/kernels/index_copy.md has the measurements behind the schedules.
//
//===----------------------------------------------------------------------===//

#include "../Common/CacheLowering.h"
#include "Kernels/KernelBuilder.h"
#include "Patterns.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Remarks.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace kvcache;

namespace {

/// How the work is spread over threads: `#kvcache.copy_schedule`.
struct CopySchedule {
  int64_t threads;
  /// Rows of each side that a thread has in flight.
  int64_t rowsInFlight;
  bool streaming;
};

/// The best from 1 to 32768 tokens on an H200, or within 5% of it.
constexpr CopySchedule kDefaultSchedule = {128, 1, false};

/// How the threads of a block divide rows among them.
struct BlockShape {
  BlockShape(int64_t accesses, int64_t wanted) {
    rows = std::max<int64_t>(1, wanted / accesses);
    threads = std::min(rows * accesses, wanted);
    parts = (accesses + threads - 1) / threads;
  }
  int64_t rows; ///< 1 if a row takes several blocks
  int64_t threads;
  int64_t parts; ///< blocks that share a row
};

/// What is known of an op before a kernel is built.
struct CopyFacts {
  CopyFacts(IndexCopyOp op, ValueRange rows)
      : type(op.getCacheType()), slotsType(op.getSlots().getType()),
        layout(type.getLayout()), plan(type),
        elementBytes(type.getElementBytes()),
        tokens(layout.extent(AxisKind::Token)),
        isScaled(slotsType.getRowsPerBlock() != tokens) {
    width = layout.accessBytes(plan.run, elementBytes);
    for (Value row : rows) {
      width = std::min(width, knownRowAlignment(row));
      SmallVector<int64_t> strides;
      int64_t offset;
      LogicalResult strided =
          cast<MemRefType>(row.getType()).getStridesAndOffset(strides, offset);
      assert(succeeded(strided) && "checked by the verifier");
      (void)strided;
      bool constant = ShapedType::isStatic(strides[0]);
      rowStrides.push_back(constant ? std::optional(strides[0]) : std::nullopt);
      if (constant)
        width = powerOfTwoDivisor(strides[0] * elementBytes, width);
    }
    accesses = plan.rowElements * elementBytes / width;
  }

  CacheType type;
  SlotsType slotsType;
  const Layout &layout;
  RowPlan plan;
  int64_t elementBytes;
  int64_t tokens;   ///< of a block
  bool isScaled;    ///< slots count the rows of the gaps too
  int64_t width;    ///< bytes of one access
  int64_t accesses; ///< of one row
  SmallVector<std::optional<int64_t>> rowStrides; ///< in elements
};

/// A stride in bytes: a constant, or a parameter that holds it in elements.
struct StrideSource {
  std::optional<int64_t> constant;
  unsigned parameter = 0;
};

struct CopyParameters {
  SmallVector<unsigned> from, to;
  unsigned slots, count, capacity;
  SmallVector<StrideSource> rowStrides; ///< per side
  SmallVector<StrideSource> strides;    ///< per listed axis
};

class CopyKernel {
public:
  CopyKernel(const CopyFacts &facts, const CopyParameters &parameters,
             const CopySchedule &schedule, ModuleOp module, Location loc,
             ArrayRef<Type> types)
      : facts(facts), parameters(parameters), schedule(schedule),
        shape(facts.accesses, schedule.threads),
        k(module, loc, "index_copy", types, shape.threads) {}

  SymbolRefAttr build() {
    Value thread = k.threadX();
    // The access of this thread, and its row within the block.
    Value access = thread, rowInBlock = k.i32(0);
    Value inRow;
    if (shape.parts > 1) {
      access = k.add(thread, k.mul(k.blockY(), k.i32(shape.threads)));
      if (facts.accesses % shape.threads) {
        inRow = k.ult(access, k.i32(facts.accesses));
        access = k.select(inRow, access, k.i32(facts.accesses - 1));
      }
    } else if (shape.rows > 1) {
      rowInBlock = k.udiv(thread, facts.accesses);
      access = k.urem(thread, facts.accesses);
    }
    Value fromAccess = k.widen(k.mul(access, k.i32(facts.width)));
    Value toAccess = cacheOffset(access);

    int64_t rows = schedule.rowsInFlight;
    Value first = k.add(k.mul(k.widen(k.blockX()), k.i64(shape.rows * rows)),
                        k.widen(rowInBlock));
    Value count = k.parameter(parameters.count);
    Value last = k.add(count, k.i64(-1));
    SmallVector<Value> inRange, slots;
    SmallVector<Value> loaded;
    for (int64_t r = 0; r < rows; ++r) {
      Value token = k.add(first, k.i64(r * shape.rows));
      // The grid is no larger than needed: a block's first row is there.
      bool isThere = r == 0 && shape.rows == 1;
      inRange.push_back(isThere ? Value() : k.ult(token, count));
      if (!isThere)
        token = k.select(inRange.back(), token, last);
      slots.push_back(loadSlot(token));
      for (auto [side, from] : llvm::enumerate(parameters.from)) {
        Value step = stride(parameters.rowStrides[side]);
        Value at = k.add(k.mul(token, step), fromAccess);
        loaded.push_back(k.load(k.byteOffset(k.parameter(from), at),
                                facts.width, schedule.streaming));
      }
    }
    for (int64_t r = 0; r < rows; ++r) {
      // Unsigned: one comparison drops negative slots and those past the last
      // block.
      Value live = k.ult(slots[r], k.parameter(parameters.capacity));
      if (facts.isScaled) {
        Value token = k.urem(slots[r], facts.slotsType.getRowsPerBlock());
        live = both(live, k.ult(token, k.i64(facts.tokens)));
      }
      for (Value condition : {inRange[r], inRow})
        if (condition)
          live = both(live, condition);
      Value at = k.add(slotOffset(slots[r]), toAccess);
      for (auto [side, to] : llvm::enumerate(parameters.to))
        k.storeIf(live, loaded[r * parameters.to.size() + side],
                  k.byteOffset(k.parameter(to), at), facts.width,
                  schedule.streaming);
    }
    k.finish();
    return k.symbol();
  }

private:
  Value both(Value a, Value b) {
    return arith::AndIOp::create(k.builder, k.loc, a, b);
  }

  /// In bytes.
  Value stride(const StrideSource &source) {
    if (source.constant)
      return k.i64(*source.constant * facts.elementBytes);
    return k.mul(k.parameter(source.parameter), k.i64(facts.elementBytes));
  }

  Value loadSlot(Value token) {
    Type type = facts.slotsType.getElementType();
    int64_t bytes = type.getIntOrFloatBitWidth() / 8;
    Value address =
        k.byteOffset(k.parameter(parameters.slots), k.mul(token, k.i64(bytes)));
    Value slot = k.loadScalar(address, type);
    if (bytes == 8)
      return slot;
    return arith::ExtSIOp::create(k.builder, k.loc, k.builder.getI64Type(),
                                  slot);
  }

  /// Where access number `access` of a row lies, in bytes from the start of
  /// its slot.
  Value cacheOffset(Value access) {
    int64_t perRun = facts.plan.run.elements * facts.elementBytes / facts.width;
    if (facts.plan.axes.empty())
      return k.widen(k.mul(access, k.i32(facts.width)));
    Value piece = k.udiv(access, perRun);
    Value inRun = k.mul(k.urem(access, perRun), k.i32(facts.width));
    Value offset = k.widen(inRun);
    for (const RowPlan::PieceAxis &axis : llvm::reverse(facts.plan.axes)) {
      bool slowest = &axis == facts.plan.axes.begin();
      Value index = slowest ? piece : k.urem(piece, axis.extent);
      if (!slowest)
        piece = k.udiv(piece, axis.extent);
      offset = k.add(offset, k.mul(k.widen(index),
                                   stride(parameters.strides[axis.index])));
    }
    return offset;
  }

  /// The start of a slot, in bytes. All slots are stride(N) apart, and at the
  /// end of a block there is a gap: no remainder is needed, and nothing is
  /// divided where slots are rows of one array.
  Value slotOffset(Value slot) {
    const Layout &layout = facts.layout;
    unsigned token = *layout.find(AxisKind::Token);
    unsigned block = *layout.find(AxisKind::Block);
    Value tokenStride = stride(parameters.strides[token]);
    Value offset = k.mul(slot, tokenStride);
    if (facts.isScaled || layout.isFlat())
      return offset;
    int64_t tokens = facts.tokens;
    Value gap;
    if (layout.stride(token) && layout.stride(block))
      gap = k.i64((*layout.stride(block) - tokens * *layout.stride(token)) *
                  facts.elementBytes);
    else
      gap = k.add(stride(parameters.strides[block]),
                  k.mul(tokenStride, k.i64(-tokens)));
    return k.add(offset, k.mul(k.udiv(slot, tokens), gap));
  }

  const CopyFacts &facts;
  const CopyParameters &parameters;
  const CopySchedule &schedule;
  BlockShape shape;
  KernelBuilder k;
};

struct IndexCopyOpLowering : OpConversionPattern<IndexCopyOp> {
  using OpConversionPattern::OpConversionPattern;

  LogicalResult
  matchAndRewrite(IndexCopyOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    if (!llvm::all_of(adaptor.getRows().getTypes(), llvm::IsaPred<MemRefType>))
      return rewriter.notifyMatchFailure(op, "the rows are still tensors");
    Location loc = op.getLoc();
    CopyFacts facts(op, adaptor.getRows());
    KernelOperands operands(rewriter, loc);
    CopyParameters parameters =
        collect(rewriter, loc, facts, adaptor, operands);
    Value count =
        emitRowCount(rewriter, loc, adaptor.getRows(), adaptor.getSlots());
    parameters.count = operands.addIndex(count);
    CopySchedule schedule = kDefaultSchedule;
    if (CopyScheduleAttr chosen = op.getScheduleAttr())
      schedule = {chosen.getThreads(), chosen.getRows(), chosen.getStreaming()};
    emitKernelAndLaunch(rewriter, op, facts, parameters, operands, count,
                        schedule);
    emitRemark(op, facts);
    rewriter.eraseOp(op);
    return success();
  }

private:
  static void emitRemark(IndexCopyOp op, const CopyFacts &facts) {
    std::string text =
        llvm::formatv("rows of {0} bytes in runs of {1}, accesses of {2} "
                      "bytes, {3} addressing",
                      facts.plan.rowElements * facts.elementBytes,
                      facts.plan.run.elements * facts.elementBytes, facts.width,
                      facts.isScaled          ? "scaled"
                      : facts.layout.isFlat() ? "flat"
                                              : "block and offset");
    auto options = remark::RemarkOpts::name("index-copy").category("kvcache");
    remark::analysis(op.getLoc(), options) << text;
  }

  static CopyParameters collect(OpBuilder &builder, Location loc,
                                const CopyFacts &facts, OpAdaptor adaptor,
                                KernelOperands &operands) {
    CopyParameters parameters;
    auto strideSource = [&](std::optional<int64_t> constant, Value value) {
      StrideSource source{constant};
      if (!constant)
        source.parameter = operands.addIndex(value);
      return source;
    };
    for (auto [side, row] : llvm::enumerate(adaptor.getRows())) {
      auto metadata =
          memref::ExtractStridedMetadataOp::create(builder, loc, row);
      parameters.from.push_back(operands.addPointer(row, metadata.getOffset()));
      parameters.rowStrides.push_back(
          strideSource(facts.rowStrides[side], metadata.getStrides()[0]));
    }
    CacheParts cache(builder, loc, facts.type, adaptor.getCache());
    for (int64_t side = 0, e = adaptor.getRows().size(); side < e; ++side) {
      Value offset = cache.offset;
      if (side)
        offset = builder.createOrFold<arith::AddIOp>(
            loc, offset, cache.stride(AxisKind::Side));
      parameters.to.push_back(operands.addPointer(cache.buffer, offset));
    }
    Value zero = indexConstant(builder, loc, 0);
    parameters.slots = operands.addPointer(adaptor.getSlots(), zero);
    Value capacity = builder.createOrFold<arith::MulIOp>(
        loc, cache.extent(AxisKind::Block),
        indexConstant(builder, loc, facts.slotsType.getRowsPerBlock()));
    parameters.capacity = operands.addIndex(capacity);
    for (unsigned i = 0; i < facts.layout.rank(); ++i) {
      AxisKind kind = facts.layout.dim(i).axis.kind;
      bool used = kind != AxisKind::Side && kind != AxisKind::Layer;
      parameters.strides.push_back(
          used ? strideSource(facts.layout.stride(i), cache.strides[i])
               : StrideSource{0});
    }
    return parameters;
  }

  static void emitKernelAndLaunch(OpBuilder &builder, IndexCopyOp op,
                                  const CopyFacts &facts,
                                  const CopyParameters &parameters,
                                  const KernelOperands &operands, Value count,
                                  const CopySchedule &schedule) {
    Location loc = op.getLoc();
    SymbolRefAttr kernel =
        CopyKernel(facts, parameters, schedule, op->getParentOfType<ModuleOp>(),
                   loc, operands.types())
            .build();
    // A grid of no blocks is an error of the driver.
    Value any = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::sgt,
                                      count, indexConstant(builder, loc, 0));
    auto branch = scf::IfOp::create(builder, loc, any);
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(branch.thenBlock());
    BlockShape shape(facts.accesses, schedule.threads);
    Value perBlock =
        indexConstant(builder, loc, shape.rows * schedule.rowsInFlight);
    Value gridX = arith::CeilDivUIOp::create(builder, loc, count, perBlock);
    Value gridY = indexConstant(builder, loc, shape.parts);
    emitLaunch(builder, loc, kernel, gridX, gridY, shape.threads, operands);
  }
};

} // namespace

void kvcache::populateIndexCopyToGPU(TypeConverter &converter,
                                     RewritePatternSet &patterns) {
  patterns.add<IndexCopyOpLowering>(converter, patterns.getContext());
}
