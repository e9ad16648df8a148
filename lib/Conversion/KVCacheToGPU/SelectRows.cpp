// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// select_rows, in two kinds of kernels. The first, one block of threads, repairs
// the starts of the batch, checks the indices, and writes starts and positions;
// it leaves the number of rows that count in the workspace. The others copy the
// rows of one operand each.
//
// Indices that are not what they should be make all starts 0 and all rows
// padding. The call itself is over by then, so it cannot fail.
//
//===----------------------------------------------------------------------===//

#include "../Common/CacheLowering.h"
#include "../Common/Emitter.h"
#include "Kernels/Requests.h"
#include "Kernels/RowShape.h"
#include "Patterns.h"

using namespace mlir;
using namespace kvcache;

namespace {

constexpr int64_t kThreads = 256;

struct SelectRowsOpLowering : OpConversionPattern<SelectRowsOp> {
  using OpConversionPattern::OpConversionPattern;

  LogicalResult
  matchAndRewrite(SelectRowsOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    SmallVector<Value> operands(adaptor.getBatch());
    for (ArrayRef<ValueRange> group : {ArrayRef<ValueRange>(adaptor.getRows()),
                                       ArrayRef<ValueRange>(adaptor.getOuts())})
      for (ValueRange values : group)
        llvm::append_range(operands, values);
    operands.push_back(adaptor.getIndices().front());
    operands.push_back(adaptor.getValid().front());
    if (!llvm::all_of(ValueRange(operands).getTypes(),
                      llvm::IsaPred<MemRefType>))
      return rewriter.notifyMatchFailure(op, "an operand is still a tensor");
    Emitter emit{rewriter, op.getLoc()};
    Selection selection(emit, op, adaptor);
    selection.emitMetadata();
    for (unsigned i = 0; i < op.getRows().size(); ++i)
      selection.emitRows(adaptor.getRows()[i].front(),
                         adaptor.getOuts()[i].front());
    rewriter.eraseOp(op);
    return success();
  }

private:
  struct Selection {
    Selection(const Emitter &emit, SelectRowsOp op, OneToNOpAdaptor adaptor)
        : emit(emit), op(op),
          batch(op.getBatch().getType(), adaptor.getBatch()),
          indices(adaptor.getIndices().front()),
          valid(adaptor.getValid().front()) {
      ArrayRef<ValueRange> outs = adaptor.getOuts();
      starts = outs[outs.size() - 2].front();
      positions = outs.back().front();
      rows = emit.constant(kMaxExtent);
      selected = emit.min(emit.dim(indices, 0), emit.dim(positions, 0));
      for (unsigned i = 0; i < op.getRows().size(); ++i) {
        rows = emit.min(rows, emit.dim(adaptor.getRows()[i].front(), 0));
        selected = emit.min(selected, emit.dim(outs[i].front(), 0));
      }
      // The trusted starts, and behind them the number of rows that count. The
      // size is an upper bound, as that of a workspace has to be.
      room = emit.add(emit.max(emit.dim(batch.starts, 0), emit.constant(1)), 1);
      scratch = memref::AllocOp::create(
          emit.builder, emit.loc,
          MemRefType::get({ShapedType::kDynamic}, emit.builder.getI64Type()),
          room);
    }

    void emitMetadata();
    void emitRows(Value from, Value to);

    const Emitter &emit;
    SelectRowsOp op;
    BatchParts batch;
    Value indices, valid, starts, positions;
    Value rows, selected, room, scratch;
  };
};

void SelectRowsOpLowering::Selection::emitMetadata() {
  KernelOperands operands(emit.builder, emit.loc);
  BatchParameters given(emit.builder, emit.loc, operands, batch, rows);
  IntegerList index = IntegerList::get(operands, indices);
  IntegerList limit = IntegerList::get(operands, valid);
  IntegerList startsOut = IntegerList::get(operands, starts);
  IntegerList positionsOut = IntegerList::get(operands, positions);
  IntegerList kept = IntegerList::get(operands, scratch);
  unsigned numSelected = operands.addIndex(selected);
  unsigned usedAt = operands.addIndex(emit.add(room, -1));
  Value count = batch.numRequests(emit.builder, emit.loc);
  count = emit.min(emit.add(count, 1), emit.dim(starts, 0));
  unsigned numStarts = operands.addIndex(count);

  KernelBuilder k(op->getParentOfType<ModuleOp>(), emit.loc, "select_rows",
                  operands.types(), kThreads);
  KernelRequests requests(k, given, kThreads);
  Value thread = k.widen(k.threadX());
  Value step = k.i64(kThreads);
  auto forAll = [&](Value end, llvm::function_ref<void(Value)> body) {
    k.loop(thread, end, step, {}, [&](Value i, ValueRange) {
      body(i);
      return SmallVector<Value>();
    });
  };
  Value end = k.add(k.parameter(given.count), k.i64(1));
  requests.forTiles({}, [&](Value first, Value tile, ValueRange) {
    Value i = k.add(first, thread);
    k.ifThen(k.slt(i, end), [&] {
      kept.store(k, requests.tileEntry(tile, thread), i);
    });
    return SmallVector<Value>();
  });
  k.barrier();

  // Valid indices are rows of requests and do not decrease.
  Value used = k.smin(k.smax(limit.load(k, k.i64(0)), k.i64(0)),
                      k.parameter(numSelected));
  Value least = kept.load(k, k.i64(0));
  Value most = kept.load(k, k.parameter(given.count));
  Value wrong =
      k.loop(thread, used, step, {k.i64(0)}, [&](Value i, ValueRange state) {
         Value row = index.load(k, i);
         Value isFirst = k.eq(i, k.i64(0));
         Value before = k.sub(i, k.select(isFirst, k.i64(0), k.i64(1)));
         Value last = k.select(isFirst, least, index.load(k, before));
         Value holds = k.both(k.sle(last, row), k.slt(row, most));
         return SmallVector<Value>{k.select(holds, state[0], k.i64(1))};
       }).front();
  Value all = requests.tileEntry(requests.scanMax(wrong), k.i64(kThreads - 1));
  used = k.select(k.eq(all, k.i64(0)), used, k.i64(0));
  k.ifThen(k.eq(thread, k.i64(0)),
           [&] { kept.store(k, used, k.parameter(usedAt)); });

  // Where requests begin among the selected rows.
  forAll(k.parameter(numStarts), [&](Value r) {
    Value first = kept.load(k, r);
    Value below = k.searchFirst(k.i64(0), used, [&](Value i) {
      return k.sle(first, index.load(k, i));
    });
    startsOut.store(k, below, r);
  });
  forAll(k.parameter(numSelected),
         [&](Value i) { positionsOut.store(k, k.i64(-1), i); });
  forAll(used, [&](Value i) {
    Value row = index.load(k, i);
    Value next = k.searchFirst(k.i64(0), end, [&](Value r) {
      return k.slt(row, kept.load(k, r));
    });
    Value length = requests.length(k.sub(next, k.i64(1)));
    Value behind = kept.load(k, next);
    positionsOut.store(k, requests.position(row, behind, length), i);
  });
  k.finish();
  Value one = emit.constant(1);
  emitLaunch(emit.builder, emit.loc, k.symbol(), one, one, Value(), kThreads,
             operands);
}

void SelectRowsOpLowering::Selection::emitRows(Value from, Value to) {
  auto type = cast<MemRefType>(to.getType());
  int64_t elementBytes = type.getElementType().getIntOrFloatBitWidth() / 8;
  int64_t bytes = elementBytes;
  for (int64_t extent : type.getShape().drop_front())
    bytes *= extent;
  if (bytes == 0)
    return;
  KernelOperands operands(emit.builder, emit.loc);
  RowBuffer source(operands, from), target(operands, to);
  int64_t width =
      powerOfTwoDivisor(bytes, std::min(source.align, target.align));
  IntegerList index = IntegerList::get(operands, indices);
  IntegerList kept = IntegerList::get(operands, scratch);
  unsigned usedAt = operands.addIndex(emit.add(room, -1));
  unsigned count = operands.addIndex(selected);

  RowShape shape(bytes / width, width, /*wanted=*/128);
  KernelBuilder k(op->getParentOfType<ModuleOp>(), emit.loc, "select_rows_copy",
                  operands.types(), shape.threads);
  RowThread place(k, shape);
  Value i = k.add(k.mul(k.widen(k.blockX()), k.i64(shape.rows)),
                  k.widen(place.rowInBlock));
  k.ifThen(k.slt(i, k.parameter(count)), [&] {
    Value isUsed = k.slt(i, kept.load(k, k.parameter(usedAt)));
    Value row = k.loadEntryIf(isUsed, k.parameter(index.pointer), i, index.type);
    Value sourceRow = source.at(k, row), targetRow = target.at(k, i);
    SmallVector<Value> loaded;
    for (const RowThread::Access &access : place.accesses)
      loaded.push_back(k.loadIf(k.bothOf(isUsed, access.isThere),
                                k.byteOffset(sourceRow, access.inRow), width));
    for (auto [access, value] : llvm::zip(place.accesses, loaded)) {
      Value at = k.byteOffset(targetRow, access.inRow);
      if (access.isThere)
        k.storeIf(access.isThere, value, at, width);
      else
        k.store(value, at, width);
    }
  });
  k.finish();
  emit.when(emit.less(emit.constant(0), selected), [&](const Emitter &e) {
    emitLaunch(e.builder, e.loc, k.symbol(), e.ceilDiv(selected, shape.rows),
               e.constant(shape.parts), Value(), shape.threads, operands);
  });
}

} // namespace

void kvcache::populateSelectRowsToGPU(TypeConverter &converter,
                                      RewritePatternSet &patterns) {
  patterns.add<SelectRowsOpLowering>(converter, patterns.getContext());
}
