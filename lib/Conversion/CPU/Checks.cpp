// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// check_entries, check_batch and check_selection: a loop for each list. What is
// found is reported, and the run time keeps the first report of a call.
//
//===----------------------------------------------------------------------===//

#include "../Common/Checks.h"

#include "../../Runtime/kvrt_records.h"
#include "../Common/CodeBuilder.h"
#include "Patterns.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

namespace {

/// An entry that may be reported.
struct Entry {
  Value text;
  int64_t kind;
  Value request, position, value, low, high;
  int64_t tokens = 1;
};

void reportUnless(CodeBuilder &emit, Operation *op, Value holds,
                  const Entry &entry) {
  emit.ifThen(emit.eq(holds, emit.i1(false)), [&](CodeBuilder &e) {
    Value none = e.index(-1);
    emitReport(e, e.getLoc(), op, "kvrt_report_entry",
               {entry.text, e.index(entry.kind),
                entry.request ? entry.request : none, entry.position,
                entry.value, entry.low, entry.high, e.index(entry.tokens)});
  });
}

Value isFrom(CodeBuilder &e, Value low, Value value, Value high) {
  using P = CodeBuilder::Predicate;
  return e.andi(e.cmpi(P::sle, low, value), e.cmpi(P::sle, value, high));
}

/// Emits the loops, where they are wanted, and gives whether the call has had
/// no error so far.
template <typename Op>
Values whereWanted(Op op, CodeBuilder &emit, CodeBuilder::Then loops) {
  auto check = [&](CodeBuilder &e) {
    loops(e);
    Value passed = emitQuery(e, e.getLoc(), op, "kvrt_check_passed", {});
    return e.cmpi(CodeBuilder::Predicate::ne, passed, e.index(0));
  };
  if (!op.getOnRequest())
    return {check(emit)};
  Value wanted = emitQuery(emit, emit.getLoc(), op, "kvrt_checks_wanted", {});
  wanted = emit.cmpi(CodeBuilder::Predicate::ne, wanted, emit.index(0));
  auto branch = scf::IfOp::create(
      emit, wanted,
      [&](OpBuilder &b, Location l) {
        CodeBuilder e(b, l);
        scf::YieldOp::create(b, l, check(e));
      },
      [&](OpBuilder &b, Location l) {
        scf::YieldOp::create(b, l, CodeBuilder(b, l).i1(true));
      });
  return {branch.getResult(0)};
}

struct CheckEntriesOpLowering : OpLowering<CheckEntriesOp> {
  using OpLowering::OpLowering;
  FailureOr<Values> lowerResult(CheckEntriesOp op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    return whereWanted(op, emit, [&](CodeBuilder &emit) {
      Value list = in[op.getList()], other = in[op.getOther()];
      Value text = emitCheckText(emit, emit.getLoc(), op, op.getUser(),
                                 op.getArgument(), /*withFunction=*/false);
      Value count = emit.minsi(in[op.getCount()], emit.dim(list, 0));
      if (other)
        count = emit.minsi(count, emit.dim(other, 0));
      Value most = emit.addi(in[op.getEnd()], -1);
      Value low = emit.index(op.getOrNegative() ? INT64_MIN : 0);
      emit.forLoop(count, [&](CodeBuilder &e, Value i) {
        SmallVector<Value> at = {i};
        Entry entry{text, entryKind(op.getWhat()), {}, i, {}, low, most};
        if (std::optional<int64_t> column = op.getColumn()) {
          at.push_back(e.index(*column));
          entry.request = i;
          entry.position = at.back();
        }
        entry.value = e.loadIndex(list, at);
        Value holds = isFrom(e, low, entry.value, most);
        if (other)
          holds = e.ori(holds, e.slt(e.loadIndex(other, i), e.index(0)));
        reportUnless(e, op, holds, entry);
      });
    });
  }
};

struct CheckSelectionOpLowering : OpLowering<CheckSelectionOp> {
  using OpLowering::OpLowering;
  FailureOr<Values> lowerResult(CheckSelectionOp op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    return whereWanted(op, emit, [&](CodeBuilder &emit) {
      Value indices = in[op.getIndices()];
      BatchValue batch = in[op.getBatch()];
      Value text = emitCheckText(emit, emit.getLoc(), op, op.getUser(),
                                 op.getArgument(), /*withFunction=*/false);
      Value count = emit.minsi(in[op.getCount()], emit.dim(indices, 0));
      Value hasStarts = emit.slt(emit.index(0), emit.dim(batch.starts, 0));
      emit.ifThen(hasStarts, [&](CodeBuilder &e) {
        Value valid = e.loadIndex(in[op.getValid()], e.index(0));
        Value used = e.clamp(valid, count);
        Value requests = batch.numRequests(e, e.getLoc());
        Value first = e.loadIndex(batch.starts, e.index(0));
        Value end =
            e.minsi(e.loadIndex(batch.starts, requests), in[op.getRows()]);
        Value most = e.addi(end, -1);
        e.forLoop(e.index(0), used, 1, {e.maxsi(first, e.index(0))},
                  [&](CodeBuilder &e, Value i, ValueRange low) {
                    Value row = e.loadIndex(indices, i);
                    reportUnless(
                        e, op, isFrom(e, low[0], row, most),
                        {text, KVRT_CHECK_INDEX, {}, i, row, low[0], most});
                    return SmallVector<Value>{e.maxsi(low[0], row)};
                  });
      });
    });
  }
};

class BatchChecker {
public:
  BatchChecker(CheckBatchOp op, const LoweredOperands &in, CodeBuilder &emit)
      : op(op), batch(in[op.getBatch()]), rows(in[op.getRows()]),
        blocks(in[op.getBlocks()]) {
    for (Attribute name : op.getMembers())
      texts.push_back(emitCheckText(emit, emit.getLoc(), op, op.getUser(),
                                    cast<StringAttr>(name).getValue(),
                                    /*withFunction=*/false));
  }

  void emitLoops(CodeBuilder &emit) {
    Value count = batch.numRequests(emit, emit.getLoc());
    Value room = emit.muli(emit.dim(batch.table, 1), batch.type.getTokens());
    Value numStarts =
        emit.minsi(emit.addi(count, 1), emit.dim(batch.starts, 0));
    emit.forLoop(
        emit.index(0), numStarts, 1, {emit.index(0)},
        [&](CodeBuilder &e, Value i, ValueRange low) {
          Value start = e.loadIndex(batch.starts, i);
          reportUnless(
              e, op, isFrom(e, low[0], start, rows),
              {texts[0], KVRT_CHECK_START, {}, i, start, low[0], rows});
          return SmallVector<Value>{start};
        });
    emit.forLoop(count, [&](CodeBuilder &e, Value r) {
      Value first = e.clamp(e.loadIndex(batch.starts, r), rows);
      Value end = e.clamp(e.loadIndex(batch.starts, e.addi(r, 1)), rows);
      Value own = e.maxsi(e.subi(end, first), e.index(0));
      Value raw = e.loadIndex(batch.lengths, r);
      Value least = batch.positions ? e.index(0) : own;
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
  Value firstSeen(CodeBuilder &e, Value position) {
    if (!op.getWindow())
      return e.index(0);
    return e.maxsi(e.subi(position, e.index(*op.getWindow() - 1)), e.index(0));
  }

  /// The tokens that rows see which are the last ones of their request.
  std::pair<Value, Value> lastTokens(CodeBuilder &e, Value own, Value length) {
    Value low = firstSeen(e, e.maxsi(e.subi(length, own), e.index(0)));
    Value none = e.eq(own, e.index(0));
    return {low, e.select(none, e.index(0), length)};
  }

  /// The tokens that rows with positions see, from the first to past the last.
  std::pair<Value, Value> checkPositions(CodeBuilder &emit, Value request,
                                         Value first, Value end, Value length) {
    Value listed = emit.dim(batch.positions, 0);
    Value most = emit.addi(length, -1), none = emit.index(-1);
    auto seen = [&](CodeBuilder &e, Value position, ValueRange range) {
      if (!op.getAhead())
        return SmallVector<Value>{e.minsi(range[0], firstSeen(e, position)),
                                  length};
      Value last = e.addi(position, *op.getAhead());
      Value sees = e.cmpi(CodeBuilder::Predicate::sle, e.index(0), last);
      Value low = e.select(sees, firstSeen(e, position), length);
      return SmallVector<Value>{
          e.minsi(range[0], low),
          e.minsi(e.maxsi(range[1], e.addi(last, 1)), length)};
    };
    SmallVector<Value> range =
        emit.forLoop(first, emit.minsi(end, listed), 1, {length, emit.index(0)},
                     [&](CodeBuilder &e, Value t, ValueRange range) {
                       Value raw = e.loadIndex(batch.positions, t);
                       reportUnless(e, op, isFrom(e, none, raw, most),
                                    {texts[3], KVRT_CHECK_POSITION, request, t,
                                     raw, none, most});
                       return seen(e, e.minsi(e.maxsi(raw, none), most), range);
                     });
    // Rows behind the end of the list have no position.
    Value isShort = emit.andi(emit.slt(listed, end), emit.slt(first, end));
    SmallVector<Value> more = seen(emit, none, range);
    return {emit.select(isShort, more[0], range[0]),
            emit.select(isShort, more[1], range[1])};
  }

  void checkTable(CodeBuilder &emit, Value request, Value low, Value high) {
    int64_t tokens = batch.type.getTokens();
    Value most = emit.addi(blocks, -1);
    emit.forLoop(emit.divui(low, tokens), emit.ceildivui(high, tokens), 1,
                 [&](CodeBuilder &e, Value j) {
                   Value block = e.loadIndex(batch.table, {request, j});
                   reportUnless(e, op, e.ult(block, blocks),
                                {texts[2], KVRT_CHECK_TABLE, request, j, block,
                                 e.index(0), most, tokens});
                 });
  }

  CheckBatchOp op;
  BatchValue batch;
  Value rows, blocks;
  SmallVector<Value> texts;
};

struct CheckBatchOpLowering : OpLowering<CheckBatchOp> {
  using OpLowering::OpLowering;
  FailureOr<Values> lowerResult(CheckBatchOp op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    return whereWanted(op, emit, [&](CodeBuilder &emit) {
      BatchChecker(op, in, emit).emitLoops(emit);
    });
  }
};

} // namespace

void cpu::populateChecksToLoops(TypeConverter &converter,
                                RewritePatternSet &patterns) {
  patterns.add<CheckBatchOpLowering, CheckEntriesOpLowering,
               CheckSelectionOpLowering>(converter, patterns.getContext());
}

void cpu::hoistFromCheckedBranches(ModuleOp module) {
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
