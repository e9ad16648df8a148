// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// check_entries, check_batch and check_selection: a loop for each list. What is
// found is reported, and the run time keeps the first report of a call.
//
//===----------------------------------------------------------------------===//

#include "../Common/Checks.h"

#include "../../Runtime/kvrt_checks.h"
#include "../Common/Emitter.h"
#include "Patterns.h"

using namespace mlir;
using namespace kvcache;

namespace {

/// An entry that may be reported.
struct Entry {
  Value text;
  int64_t kind;
  Value request, position, value, low, high;
  int64_t tokens = 1;
};

void reportUnless(const Emitter &emit, Operation *op, Value holds,
                  const Entry &entry) {
  emit.when(emit.equal(holds, emit.truth(false)), [&](const Emitter &e) {
    Value none = e.constant(-1);
    emitReport(e.builder, e.loc, op, "kvrt_report_entry",
               {entry.text, e.constant(entry.kind),
                entry.request ? entry.request : none, entry.position,
                entry.value, entry.low, entry.high, e.constant(entry.tokens)});
  });
}

Value isFrom(const Emitter &e, Value low, Value value, Value high) {
  using P = Emitter::Predicate;
  return e.both(e.compare(P::sle, low, value), e.compare(P::sle, value, high));
}

/// Emits the loops, where they are wanted, and gives whether the call has had
/// no error so far.
template <typename Op>
void lower(Op op, ConversionPatternRewriter &rewriter, Emitter::Then loops) {
  Emitter emit{rewriter, op.getLoc()};
  auto check = [&](const Emitter &e) {
    loops(e);
    Value passed = emitQuery(e.builder, e.loc, op, "kvrt_check_passed", {});
    return e.compare(Emitter::Predicate::ne, passed, e.constant(0));
  };
  if (!op.getOnRequest())
    return rewriter.replaceOp(op, check(emit));
  Value wanted = emitQuery(rewriter, emit.loc, op, "kvrt_checks_wanted", {});
  wanted = emit.compare(Emitter::Predicate::ne, wanted, emit.constant(0));
  auto branch = scf::IfOp::create(
      rewriter, emit.loc, wanted,
      [&](OpBuilder &b, Location l) {
        scf::YieldOp::create(b, l, check(Emitter{b, l}));
      },
      [&](OpBuilder &b, Location l) {
        scf::YieldOp::create(b, l, Emitter{b, l}.truth(true));
      });
  rewriter.replaceOp(op, branch.getResult(0));
}

struct CheckEntriesOpLowering : OpConversionPattern<CheckEntriesOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(CheckEntriesOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    lower(op, rewriter, [&](const Emitter &emit) {
      Value list = adaptor.getList(), other = adaptor.getOther();
      Value text = emitCheckText(emit.builder, emit.loc, op, op.getUser(),
                                 op.getArgument(), /*withFunction=*/false);
      Value count = emit.min(adaptor.getCount(), emit.dim(list, 0));
      if (other)
        count = emit.min(count, emit.dim(other, 0));
      Value most = emit.add(adaptor.getEnd(), -1);
      Value low = emit.constant(op.getOrNegative() ? INT64_MIN : 0);
      emit.loop(count, [&](const Emitter &e, Value i) {
        SmallVector<Value> at = {i};
        Entry entry{text, entryKind(op.getWhat()), {}, i, {}, low, most};
        if (std::optional<int64_t> column = op.getColumn()) {
          at.push_back(e.constant(*column));
          entry.request = i;
          entry.position = at.back();
        }
        entry.value = e.loadIndex(list, at);
        Value holds = isFrom(e, low, entry.value, most);
        if (other)
          holds = e.either(holds, e.less(e.loadIndex(other, i), e.constant(0)));
        reportUnless(e, op, holds, entry);
      });
    });
    return success();
  }
};

struct CheckSelectionOpLowering : OpConversionPattern<CheckSelectionOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(CheckSelectionOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    lower(op, rewriter, [&](const Emitter &emit) {
      Value indices = adaptor.getIndices().front();
      BatchParts batch(op.getBatch().getType(), adaptor.getBatch());
      Value text = emitCheckText(emit.builder, emit.loc, op, op.getUser(),
                                 op.getArgument(), /*withFunction=*/false);
      Value count = emit.min(adaptor.getCount().front(), emit.dim(indices, 0));
      Value hasStarts = emit.less(emit.constant(0), emit.dim(batch.starts, 0));
      emit.when(hasStarts, [&](const Emitter &e) {
        Value valid = e.loadIndex(adaptor.getValid().front(), e.constant(0));
        Value used = e.clamp(valid, count);
        Value requests = batch.numRequests(e.builder, e.loc);
        Value first = e.loadIndex(batch.starts, e.constant(0));
        Value end = e.min(e.loadIndex(batch.starts, requests),
                          adaptor.getRows().front());
        Value most = e.add(end, -1);
        e.fold(e.constant(0), used, 1, {e.max(first, e.constant(0))},
               [&](const Emitter &e, Value i, ValueRange low) {
                 Value row = e.loadIndex(indices, i);
                 reportUnless(
                     e, op, isFrom(e, low[0], row, most),
                     {text, KVRT_CHECK_INDEX, {}, i, row, low[0], most});
                 return SmallVector<Value>{e.max(low[0], row)};
               });
      });
    });
    return success();
  }
};

class BatchChecker {
public:
  BatchChecker(CheckBatchOp op,
               CheckBatchOp::GenericAdaptor<ArrayRef<ValueRange>> adaptor,
               const Emitter &emit)
      : op(op), batch(op.getBatch().getType(), adaptor.getBatch()),
        rows(adaptor.getRows().front()) {
    if (!adaptor.getBlocks().empty())
      blocks = adaptor.getBlocks().front();
    for (Attribute name : op.getMembers())
      texts.push_back(emitCheckText(emit.builder, emit.loc, op, op.getUser(),
                                    cast<StringAttr>(name).getValue(),
                                    /*withFunction=*/false));
  }

  void emitLoops(const Emitter &emit) {
    Value count = batch.numRequests(emit.builder, emit.loc);
    Value room = emit.mul(emit.dim(batch.table, 1), batch.type.getTokens());
    Value numStarts = emit.min(emit.add(count, 1), emit.dim(batch.starts, 0));
    emit.fold(emit.constant(0), numStarts, 1, {emit.constant(0)},
              [&](const Emitter &e, Value i, ValueRange low) {
                Value start = e.loadIndex(batch.starts, i);
                reportUnless(
                    e, op, isFrom(e, low[0], start, rows),
                    {texts[0], KVRT_CHECK_START, {}, i, start, low[0], rows});
                return SmallVector<Value>{start};
              });
    emit.loop(count, [&](const Emitter &e, Value r) {
      Value first = e.clamp(e.loadIndex(batch.starts, r), rows);
      Value end = e.clamp(e.loadIndex(batch.starts, e.add(r, 1)), rows);
      Value own = e.max(e.sub(end, first), e.constant(0));
      Value raw = e.loadIndex(batch.lengths, r);
      Value least = batch.positions ? e.constant(0) : own;
      reportUnless(e, op, isFrom(e, least, raw, room),
                   {texts[1], KVRT_CHECK_LENGTH, r, r, raw, least, room});
      Value length = e.clamp(raw, room);
      auto [low, high] = batch.positions
                             ? checkPositions(e, r, first, end, length)
                             : lastTokens(e, own, length);
      if (blocks)
        checkTable(e, r, low, high);
    });
  }

private:
  /// The first token that a row at a position sees.
  Value firstSeen(const Emitter &e, Value position) {
    if (!op.getWindow())
      return e.constant(0);
    return e.max(e.sub(position, e.constant(*op.getWindow() - 1)),
                 e.constant(0));
  }

  /// The tokens that rows see which are the last ones of their request.
  std::pair<Value, Value> lastTokens(const Emitter &e, Value own,
                                     Value length) {
    Value low = firstSeen(e, e.max(e.sub(length, own), e.constant(0)));
    Value none = e.equal(own, e.constant(0));
    return {low, e.select(none, e.constant(0), length)};
  }

  /// The tokens that rows with positions see, from the first to past the last.
  std::pair<Value, Value> checkPositions(const Emitter &emit, Value request,
                                         Value first, Value end, Value length) {
    Value listed = emit.dim(batch.positions, 0);
    Value most = emit.add(length, -1), none = emit.constant(-1);
    auto seen = [&](const Emitter &e, Value position, ValueRange range) {
      if (!op.getCausal())
        return SmallVector<Value>{e.min(range[0], firstSeen(e, position)),
                                  length};
      Value sees = e.compare(Emitter::Predicate::sle, e.constant(0), position);
      Value low = e.select(sees, firstSeen(e, position), length);
      return SmallVector<Value>{e.min(range[0], low),
                                e.max(range[1], e.add(position, 1))};
    };
    SmallVector<Value> range =
        emit.fold(first, emit.min(end, listed), 1, {length, emit.constant(0)},
                  [&](const Emitter &e, Value t, ValueRange range) {
                    Value raw = e.loadIndex(batch.positions, t);
                    reportUnless(e, op, isFrom(e, none, raw, most),
                                 {texts[3], KVRT_CHECK_POSITION, request, t,
                                  raw, none, most});
                    return seen(e, e.min(e.max(raw, none), most), range);
                  });
    // Rows behind the end of the list have no position.
    Value isShort = emit.both(emit.less(listed, end), emit.less(first, end));
    SmallVector<Value> more = seen(emit, none, range);
    return {emit.select(isShort, more[0], range[0]),
            emit.select(isShort, more[1], range[1])};
  }

  void checkTable(const Emitter &emit, Value request, Value low, Value high) {
    int64_t tokens = batch.type.getTokens();
    Value most = emit.add(blocks, -1);
    emit.loop(emit.div(low, tokens), emit.ceilDiv(high, tokens), 1,
              [&](const Emitter &e, Value j) {
                Value block = e.loadIndex(batch.table, {request, j});
                reportUnless(e, op, e.isBelow(block, blocks),
                             {texts[2], KVRT_CHECK_TABLE, request, j, block,
                              e.constant(0), most, tokens});
              });
  }

  CheckBatchOp op;
  BatchParts batch;
  Value rows, blocks;
  SmallVector<Value> texts;
};

struct CheckBatchOpLowering : OpConversionPattern<CheckBatchOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(CheckBatchOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    lower(op, rewriter, [&](const Emitter &emit) {
      BatchChecker(op, adaptor, emit).emitLoops(emit);
    });
    return success();
  }
};

} // namespace

void kvcache::populateChecksToLoops(TypeConverter &converter,
                                    RewritePatternSet &patterns) {
  patterns.add<CheckBatchOpLowering, CheckEntriesOpLowering,
               CheckSelectionOpLowering>(converter, patterns.getContext());
}

void kvcache::hoistFromCheckedBranches(ModuleOp module) {
  module.walk([](scf::IfOp branch) {
    if (!branch->removeAttr(KVCacheDialect::kCheckedAttr))
      return;
    // Bodies of a checked operation are flat where they allocate.
    for (Operation &op : llvm::make_early_inc_range(*branch.thenBlock())) {
      bool isOutside = llvm::all_of(op.getOperands(), [&](Value operand) {
        return operand.getParentBlock() != branch.thenBlock();
      });
      if (isOutside && !op.getNumRegions() &&
          (isPure(&op) || isa<memref::AllocOp>(op)) &&
          !op.hasTrait<OpTrait::IsTerminator>())
        op.moveBefore(branch);
    }
  });
}
