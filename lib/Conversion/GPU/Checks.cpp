// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// check_entries, check_batch and check_selection: a small kernel each, which
// reads the entries in use and nothing else. What it finds goes to a record in
// memory of the host; the first to take it has it, and the operation goes on,
// as it is defined for any entry.
//
// Where no kernel of the call writes the lists, a check runs beside the kernels
// before it: it lets the next one begin, and waits at its end, so that what
// waits for it waits for them as well.
//
//===----------------------------------------------------------------------===//

#include "../Common/Checks.h"

#include "../../Runtime/kvrt_records.h"
#include "../Common/CodeBuilder.h"
#include "Patterns.h"
#include "Requests.h"
#include "Target/TargetOps.h"

using namespace mlir;
using namespace kvcache;

namespace {

constexpr int64_t kThreads = 128;
/// Two for each multiprocessor of a large device.
constexpr int64_t kMostBlocks = 264;
/// Of a table, that a block of threads checks, and of the grid.
constexpr int64_t kColumns = 2 * kThreads, kMostGridY = 32;

/// An entry that may be reported, in a kernel.
struct Entry {
  unsigned text; ///< the parameter
  int64_t kind;
  Value request, position, value, low, high;
  int64_t tokens = 1;
};

/// A kernel that checks, with the parameters and the launch that all have.
class CheckKernel {
public:
  template <typename Op>
  CheckKernel(Op op, CodeBuilder &emit)
      : op(op), emit(emit), operands(emit, emit.getLoc()), user(op.getUser()),
        isEarly(op.getEarly()) {
    found = emitQuery(emit, emit.getLoc(), op, "kvrt_check_record_of",
                      {emit.index(!op.getOnRequest())});
    record = operands.addIndex(found);
  }

  unsigned addText(StringRef argument) {
    return operands.addIndex(emitCheckText(emit, emit.getLoc(), op, user,
                                           argument, /*withFunction=*/true));
  }

  void begin(StringRef name) {
    kernel.emplace(op->getParentOfType<ModuleOp>(), emit.getLoc(), name,
                   operands.types(), kThreads);
  }

  void launch(Value condition, Value gridX, Value gridY) {
    kernel->finish();
    Value isWanted =
        emit.cmpi(CodeBuilder::Predicate::ne, found, emit.index(0));
    emit.ifThen(emit.andi(isWanted, condition), [&](CodeBuilder &e) {
      Operation *launch = emitLaunch(e, e.getLoc(), kernel->symbol(), gridX,
                                     gridY, Value(), kThreads, operands);
      if (isEarly)
        launch->setAttr(kEarlyName, e.getUnitAttr());
    });
  }

  /// Number of the thread in its row of the grid.
  Value thread() {
    KernelBuilder &k = *kernel;
    return k.addi(k.muli(k.extui64(k.blockX()), k.i64(kThreads)),
                  k.extui64(k.threadX()));
  }

  void reportUnless(Value holds, const Entry &entry) {
    KernelBuilder &k = *kernel;
    k.ifThen(k.noti(holds), [&] { report(entry); });
  }

  Value isFrom(Value low, Value value, Value high) {
    return kernel->andi(kernel->sle(low, value), kernel->sle(value, high));
  }

  Operation *op;
  CodeBuilder &emit;
  KernelOperands operands;
  std::optional<KernelBuilder> kernel;

private:
  void report(const Entry &entry) {
    KernelBuilder &k = *kernel;
    auto global = LLVM::LLVMPointerType::get(k.getContext(), 1);
    Value place = LLVM::IntToPtrOp::create(k, global, k.parameter(record));
    Value before =
        k.target().atomCasSystem(place, KVRT_RECORD_FREE, KVRT_RECORD_TAKEN);
    k.ifThen(k.eq(before, k.i32(KVRT_RECORD_FREE)), [&] {
      auto store = [&](size_t offset, Value value) {
        k.storeScalar(value, k.byteOffset(place, k.i64(offset)));
      };
      store(offsetof(kvrt_check_record, kind), k.i32(entry.kind));
      store(offsetof(kvrt_check_record, text), k.parameter(entry.text));
      store(offsetof(kvrt_check_record, request),
            entry.request ? entry.request : k.i64(-1));
      store(offsetof(kvrt_check_record, position), entry.position);
      store(offsetof(kvrt_check_record, value), entry.value);
      store(offsetof(kvrt_check_record, low), entry.low);
      store(offsetof(kvrt_check_record, high), entry.high);
      store(offsetof(kvrt_check_record, tokens), k.i64(entry.tokens));
      k.target().fenceSystem();
      store(offsetof(kvrt_check_record, state), k.i32(KVRT_RECORD_WHOLE));
    });
  }

  StringRef user;
  const bool isEarly;
  Value found;
  unsigned record;
};

/// As many blocks of threads as there is work for, and not more than run at
/// once.
Value gridOf(CodeBuilder &emit, Value count) {
  return emit.minsi(emit.ceildivui(count, kThreads), emit.index(kMostBlocks));
}

struct CheckEntriesOpLowering : OpLowering<CheckEntriesOp> {
  using OpLowering::OpLowering;
  FailureOr<Values> lowerResult(CheckEntriesOp op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    CheckKernel check(op, emit);
    Value list = in[op.getList()];
    unsigned text = check.addText(op.getArgument());
    IntegerList entries = IntegerList::get(check.operands, list), other;
    Value count = emit.minsi(in[op.getCount()], emit.dim(list, 0));
    if (op.getOther()) {
      other = IntegerList::get(check.operands, in[op.getOther()]);
      count = emit.minsi(count, emit.dim(in[op.getOther()], 0));
    }
    unsigned end = check.operands.addIndex(in[op.getEnd()]);
    unsigned length = check.operands.addIndex(count);
    int64_t columns = 1;
    if (op.getColumn())
      columns = cast<MemRefType>(list.getType()).getDimSize(1);

    check.begin("check_entries");
    KernelBuilder &k = *check.kernel;
    Value most = k.subi(k.parameter(end), k.i64(1));
    Value low = k.i64(op.getOrNegative() ? INT64_MIN : 0);
    Value step = k.muli(k.extui64(k.gridX()), k.i64(kThreads));
    k.forLoop(check.thread(), k.parameter(length), step, {},
              [&](Value i, ValueRange) {
                Value at = i;
                Entry entry{text, entryKind(op.getWhat()), {}, i, {}, low,
                            most};
                if (std::optional<int64_t> column = op.getColumn()) {
                  at = k.addi(k.muli(i, k.i64(columns)), k.i64(*column));
                  entry.request = i;
                  entry.position = k.i64(*column);
                }
                entry.value = entries.load(k, at);
                Value holds = check.isFrom(low, entry.value, most);
                if (op.getOther())
                  holds = k.noti(
                      k.andi(k.noti(holds), k.sle(k.i64(0), other.load(k, i))));
                check.reportUnless(holds, entry);
                return SmallVector<Value>();
              });
    check.launch(emit.slt(emit.index(0), count), gridOf(emit, count),
                 emit.index(1));
    return Values{emit.i1(true)};
  }
};

struct CheckSelectionOpLowering : OpLowering<CheckSelectionOp> {
  using OpLowering::OpLowering;
  FailureOr<Values> lowerResult(CheckSelectionOp op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    CheckKernel check(op, emit);
    Value list = in[op.getIndices()];
    BatchValue parts = in[op.getBatch()];
    unsigned text = check.addText(op.getArgument());
    IntegerList indices = IntegerList::get(check.operands, list);
    IntegerList valid = IntegerList::get(check.operands, in[op.getValid()]);
    IntegerList starts = IntegerList::get(check.operands, parts.starts);
    Value count = emit.minsi(in[op.getCount()], emit.dim(list, 0));
    unsigned length = check.operands.addIndex(count);
    unsigned requests =
        check.operands.addIndex(parts.numRequests(emit, emit.getLoc()));
    unsigned rows = check.operands.addIndex(in[op.getRows()]);

    check.begin("check_selection");
    KernelBuilder &k = *check.kernel;
    Value first = k.maxsi(starts.load(k, k.i64(0)), k.i64(0));
    Value end =
        k.minsi(starts.load(k, k.parameter(requests)), k.parameter(rows));
    Value most = k.subi(end, k.i64(1));
    Value used = k.minsi(valid.load(k, k.i64(0)), k.parameter(length));
    Value step = k.muli(k.extui64(k.gridX()), k.i64(kThreads));
    k.forLoop(check.thread(), used, step, {}, [&](Value i, ValueRange) {
      Value row = indices.load(k, i);
      Value before = k.maxsi(k.subi(i, k.i64(1)), k.i64(0));
      Value isFirst = k.eq(i, k.i64(0));
      Value low =
          k.select(isFirst, first, k.maxsi(indices.load(k, before), first));
      check.reportUnless(check.isFrom(low, row, most),
                         {text, KVRT_CHECK_INDEX, {}, i, row, low, most});
      return SmallVector<Value>();
    });
    Value any = emit.andi(emit.slt(emit.index(0), count),
                          emit.slt(emit.index(0), emit.dim(parts.starts, 0)));
    check.launch(any, gridOf(emit, count), emit.index(1));
    return Values{emit.i1(true)};
  }
};

class BatchKernel {
public:
  BatchKernel(CheckBatchOp op, const LoweredOperands &in, CodeBuilder &emit)
      : op(op), check(op, emit) {
    BatchValue parts = in[op.getBatch()];
    for (Attribute name : op.getMembers())
      texts.push_back(check.addText(cast<StringAttr>(name).getValue()));
    batch.emplace(emit, emit.getLoc(), check.operands, parts, in[op.getRows()]);
    Value columns = emit.index(1);
    if (op.getBlocks()) {
      blocks = check.operands.addIndex(in[op.getBlocks()]);
      columns = emit.dim(parts.table, 1);
    }
    count = parts.numRequests(emit, emit.getLoc());
    gridY = emit.maxsi(
        emit.minsi(emit.ceildivui(columns, kColumns), emit.index(kMostGridY)),
        emit.index(1));
  }

  void build() {
    check.begin("check_batch");
    KernelBuilder &k = *check.kernel;
    thread = k.extui64(k.threadX());
    if (reduces())
      for (Value *memory : {&lows, &highs})
        *memory = k.shared(8 * kThreads);
    k.forLoop(k.extui64(k.blockX()), k.parameter(batch->count),
              k.extui64(k.gridX()), {}, [&](Value r, ValueRange) {
                checkRequest(r);
                return SmallVector<Value>();
              });
    CodeBuilder &emit = check.emit;
    check.launch(emit.slt(emit.index(0), count),
                 emit.minsi(count, emit.index(kMostBlocks)), gridY);
  }

private:
  struct Range {
    Value low, high; ///< the first token, and the one past the last
  };

  /// Whether the tokens that rows see follow from all their positions.
  bool reduces() {
    return blocks && batch->type.hasPositions() &&
           (op.getAhead() || op.getWindow());
  }

  Value clamp(Value a, Value most) {
    KernelBuilder &k = *check.kernel;
    return k.maxsi(k.minsi(a, most), k.i64(0));
  }

  void checkRequest(Value r) {
    KernelBuilder &k = *check.kernel;
    Value rows = k.parameter(batch->rows);
    Value next = k.addi(r, k.i64(1));
    Value start = batch->starts.load(k, r), end = batch->starts.load(k, next);
    Value length = batch->lengths.load(k, r);
    Value first = clamp(start, rows), last = clamp(end, rows);
    Value own = k.maxsi(k.subi(last, first), k.i64(0));
    Value room =
        k.muli(k.parameter(batch->columns), k.i64(batch->type.getTokens()));
    isFirstRow = k.eq(k.blockY(), k.i32(0));
    Value isOne = k.andi(isFirstRow, k.eq(k.threadX(), k.i32(0)));
    k.ifThen(isOne, [&] {
      // The first of all is the start of no request before.
      k.ifThen(k.eq(r, k.i64(0)), [&] {
        check.reportUnless(
            check.isFrom(k.i64(0), start, rows),
            {texts[0], KVRT_CHECK_START, {}, r, start, k.i64(0), rows});
      });
      check.reportUnless(
          check.isFrom(start, end, rows),
          {texts[0], KVRT_CHECK_START, {}, next, end, start, rows});
      Value least = batch->type.hasPositions() ? k.i64(0) : own;
      check.reportUnless(
          check.isFrom(least, length, room),
          {texts[1], KVRT_CHECK_LENGTH, r, r, length, least, room});
    });
    length = clamp(length, room);
    Range range = batch->type.hasPositions()
                      ? checkPositions(r, first, last, length)
                      : lastTokens(own, length);
    if (blocks)
      checkTable(r, range);
  }

  Value firstSeen(Value position) {
    KernelBuilder &k = *check.kernel;
    if (!op.getWindow())
      return k.i64(0);
    return k.maxsi(k.subi(position, k.i64(*op.getWindow() - 1)), k.i64(0));
  }

  Range lastTokens(Value own, Value length) {
    KernelBuilder &k = *check.kernel;
    Value low = firstSeen(k.maxsi(k.subi(length, own), k.i64(0)));
    return {low, k.select(k.eq(own, k.i64(0)), k.i64(0), length)};
  }

  /// A row at a position more.
  Range widened(Range range, Value position, Value length) {
    KernelBuilder &k = *check.kernel;
    Value low = firstSeen(position);
    if (!op.getAhead())
      return {k.minsi(range.low, low), length};
    Value last = k.addi(position, k.i64(*op.getAhead()));
    Value sees = k.sle(k.i64(0), last);
    Value high = k.maxsi(range.high, k.addi(last, k.i64(1)));
    return {k.minsi(range.low, k.select(sees, low, length)),
            k.minsi(high, length)};
  }

  /// The threads of each block go through all rows of a request, for their
  /// range; those of the first row of the grid report.
  Range checkPositions(Value r, Value first, Value end, Value length) {
    KernelBuilder &k = *check.kernel;
    Value most = k.subi(length, k.i64(1)), none = k.i64(-1);
    Value listed = k.parameter(batch->numPositions);
    SmallVector<Value> seen = k.forLoop(
        k.addi(first, thread), k.minsi(end, listed), k.i64(kThreads),
        {length, k.i64(0)}, [&](Value t, ValueRange range) {
          Value raw = batch->positions.load(k, t);
          Value holds = check.isFrom(none, raw, most);
          k.ifThen(isFirstRow, [&] {
            check.reportUnless(
                holds, {texts[3], KVRT_CHECK_POSITION, r, t, raw, none, most});
          });
          Range next = widened({range[0], range[1]},
                               k.minsi(k.maxsi(raw, none), most), length);
          return SmallVector<Value>{next.low, next.high};
        });
    if (!blocks)
      return {};
    if (!reduces()) {
      Value any = k.slt(first, end);
      return {k.i64(0), k.select(any, length, k.i64(0))};
    }
    Range range = ofAllThreads({seen[0], seen[1]});
    // Rows behind the end of the list have no position.
    Value isShort = k.andi(k.slt(listed, end), k.slt(first, end));
    Range more = widened(range, none, length);
    return {k.select(isShort, more.low, range.low),
            k.select(isShort, more.high, range.high)};
  }

  Range ofAllThreads(Range range) {
    KernelBuilder &k = *check.kernel;
    Type i64 = k.getI64Type();
    auto at = [&](Value memory, Value number) {
      return k.byteOffset(memory, k.muli(number, k.i64(8)));
    };
    k.barrier(); // the request before has been read
    k.storeScalar(range.low, at(lows, thread));
    k.storeScalar(range.high, at(highs, thread));
    for (int64_t half = kThreads / 2; half; half /= 2) {
      k.barrier();
      k.ifThen(k.slt(thread, k.i64(half)), [&] {
        Value other = k.addi(thread, k.i64(half));
        Value low = k.minsi(k.loadScalar(at(lows, thread), i64),
                            k.loadScalar(at(lows, other), i64));
        Value high = k.maxsi(k.loadScalar(at(highs, thread), i64),
                             k.loadScalar(at(highs, other), i64));
        k.storeScalar(low, at(lows, thread));
        k.storeScalar(high, at(highs, thread));
      });
    }
    k.barrier();
    return {k.loadScalar(lows, i64), k.loadScalar(highs, i64)};
  }

  void checkTable(Value r, Range range) {
    KernelBuilder &k = *check.kernel;
    int64_t tokens = batch->type.getTokens();
    Value end = k.parameter(*blocks), most = k.subi(end, k.i64(1));
    Value row = k.muli(r, k.parameter(batch->rowStride));
    Value mine = k.addi(k.muli(k.extui64(k.blockY()), k.i64(kThreads)), thread);
    Value past = k.divui(k.addi(range.high, k.i64(tokens - 1)), tokens);
    k.forLoop(k.addi(k.divui(range.low, tokens), mine), past,
              k.muli(k.extui64(k.gridY()), k.i64(kThreads)), {},
              [&](Value j, ValueRange) {
                Value block = batch->table.load(k, k.addi(row, j));
                check.reportUnless(k.ult(block, end),
                                   {texts[2], KVRT_CHECK_TABLE, r, j, block,
                                    k.i64(0), most, tokens});
                return SmallVector<Value>();
              });
  }

  CheckBatchOp op;
  CheckKernel check;
  SmallVector<unsigned> texts;
  std::optional<BatchParameters> batch;
  std::optional<unsigned> blocks;
  Value count, gridY;                    ///< on the host
  Value thread, isFirstRow, lows, highs; ///< in the kernel
};

struct CheckBatchOpLowering : OpLowering<CheckBatchOp> {
  using OpLowering::OpLowering;
  FailureOr<Values> lowerResult(CheckBatchOp op, const LoweredOperands &in,
                                CodeBuilder &emit) const override {
    BatchKernel(op, in, emit).build();
    return Values{emit.i1(true)};
  }
};

} // namespace

void kvcache::populateChecksToGPU(TypeConverter &converter,
                                  RewritePatternSet &patterns) {
  patterns.add<CheckBatchOpLowering, CheckEntriesOpLowering,
               CheckSelectionOpLowering>(converter, patterns.getContext());
}
