// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// slot_mapping, map_blocks, block_slots, csr_table and select_rows.
//
//===----------------------------------------------------------------------===//

#include "../Common/CacheLowering.h"
#include "../Common/RuntimeCalls.h"
#include "Patterns.h"
#include "Requests.h"
#include "Runs.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

//===----------------------------------------------------------------------===//
// Requests
//===----------------------------------------------------------------------===//

Requests::Requests(CodeBuilder &emit, const BatchValue &batch, Value rows)
    : batch(batch), rows(rows), count(batch.numRequests(emit, emit.getLoc())) {
  // Starts are made what they should be, once: not decreasing, and in range.
  Value length = emit.addi(count, 1);
  auto type = MemRefType::get({ShapedType::kDynamic}, emit.getIndexType());
  starts = memref::AllocOp::create(emit, type, length);
  Value hasAny = emit.slt(emit.index(0), emit.dim(batch.starts, 0));
  emit.store(emit.index(0), starts, emit.index(0));
  emit.ifThen(hasAny, [&](CodeBuilder &e) {
    e.rolledForLoop(e.index(0), length, e.index(1), {e.index(0)},
                    [&](Val r, const Vals &last) -> Vals {
                      Value start = e.loadIndex(batch.starts, Value(r));
                      start = e.minsi(e.maxsi(start, last[0]), rows);
                      e.store(start, starts, Value(r));
                      return {e.val(start)};
                    });
  });
}

Value Requests::first(CodeBuilder &emit, Value request) const {
  return emit.load(starts, request);
}

Value Requests::end(CodeBuilder &emit, Value request) const {
  return emit.load(starts, emit.addi(request, 1));
}

Value Requests::length(CodeBuilder &emit, Value request) const {
  return batch.length(emit, emit.getLoc(), request);
}

Value Requests::position(CodeBuilder &emit, Value row, Value end,
                         Value length) const {
  if (!batch.positions)
    return emit.subi(length, emit.subi(end, row));
  // A list of positions that is too short says nothing of the rows behind it.
  Value isThere = emit.slt(row, emit.dim(batch.positions, 0));
  Value at = emit.select(isThere, row, emit.index(0));
  Value none = emit.slt(emit.index(0), emit.dim(batch.positions, 0));
  auto position = scf::IfOp::create(
      emit, emit.andi(isThere, none),
      [&](OpBuilder &b, Location l) {
        CodeBuilder e(b, l);
        scf::YieldOp::create(b, l, e.loadIndex(batch.positions, at));
      },
      [&](OpBuilder &b, Location l) {
        scf::YieldOp::create(b, l, CodeBuilder(b, l).index(-1));
      });
  return position.getResult(0);
}

void Requests::forRowsOutside(CodeBuilder &emit, CodeBuilder::Body body) const {
  emit.forLoop(emit.index(0), first(emit, emit.index(0)), 1, body);
  emit.forLoop(first(emit, count), rows, 1, body);
}

Value Requests::lastAtMost(CodeBuilder &emit, Value limit, Value value,
                           Key key) const {
  // The number of requests whose key is at most the value, less one.
  auto search = scf::WhileOp::create(
      emit, TypeRange{emit.getIndexType(), emit.getIndexType()},
      ValueRange{emit.index(0), limit},
      [&](OpBuilder &b, Location l, ValueRange range) {
        CodeBuilder e(b, l);
        Value more = e.slt(e.addi(range[0], 1), range[1]);
        scf::ConditionOp::create(b, l, more, range);
      },
      [&](OpBuilder &b, Location l, ValueRange range) {
        CodeBuilder e(b, l);
        Value middle = e.divui(e.addi(range[0], range[1]), 2);
        Value below =
            e.cmpi(CodeBuilder::Predicate::sle, key(e, middle), value);
        scf::YieldOp::create(b, l,
                             ValueRange{e.select(below, middle, range[0]),
                                        e.select(below, range[1], middle)});
      });
  return search.getResult(0);
}

//===----------------------------------------------------------------------===//
// Lowerings
//===----------------------------------------------------------------------===//

namespace {

/// number * factor + part, or `none` for a number that is negative or has no
/// room in an entry of a list.
Value partOf(CodeBuilder &emit, Value number, int64_t factor, Value part,
             Value none, Value list) {
  Type entry = cast<MemRefType>(list.getType()).getElementType();
  Value most = emit.index(numbersWithParts(entry, factor));
  return emit.select(emit.ult(number, most), emit.addMul(part, number, factor),
                     none);
}

/// The number next to one that an entry has room for: as a position the two say
/// the same, a place before all keys or behind them.
Value nearest(CodeBuilder &emit, Value number, Value list) {
  Type entry = cast<MemRefType>(list.getType()).getElementType();
  if (!entry.isInteger(32))
    return number;
  using Limits = std::numeric_limits<int32_t>;
  return emit.minsi(emit.maxsi(number, emit.index(Limits::min())),
                    emit.index(Limits::max()));
}

/// Stores an index that an entry has room for.
void storeEntry(CodeBuilder &emit, Value index, Value list, ValueRange at) {
  Type entry = cast<MemRefType>(list.getType()).getElementType();
  emit.store(emit.indexCast(index, entry), list, at);
}

struct SlotMappingOpLowering : BufferOpLowering<SlotMappingOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(SlotMappingOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    Value out = in[op.getOut()];
    BatchValue batch = in[op.getBatch()];
    Requests requests(emit, batch, emit.dim(out, 0));
    int64_t tokens = batch.type.getTokens();
    Value sink = in[op.getSink()];
    auto padding = [&](CodeBuilder &e, Value row) {
      Value none = e.index(-1);
      return sink ? partOf(e, sink, tokens, e.remui(row, tokens), none, out)
                  : none;
    };
    requests.forRowsOutside(emit, [&](CodeBuilder &e, Value row) {
      storeEntry(e, padding(e, row), out, row);
    });
    emit.parallelLoop(requests.count, [&](CodeBuilder &e, Value r) {
      Value end = requests.end(e, r), length = requests.length(e, r);
      e.forLoop(requests.first(e, r), end, 1, [&](CodeBuilder &e, Value row) {
        Value position = requests.position(e, row, end, length);
        e.ifThen(
            e.ult(position, length),
            [&](CodeBuilder &e) {
              Value block =
                  e.loadIndex(batch.table, {r, e.divui(position, tokens)});
              Value slot = partOf(e, block, tokens, e.remui(position, tokens),
                                  padding(e, row), out);
              storeEntry(e, slot, out, row);
            },
            [&](CodeBuilder &e) { storeEntry(e, padding(e, row), out, row); });
      });
    });
  }
};

struct MapBlocksOpLowering : BufferOpLowering<MapBlocksOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(MapBlocksOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    Value blocks = in[op.getBlocks()], out = in[op.getOut()];
    auto type = cast<MemRefType>(out.getType());
    int64_t ratio = op.getRatio();
    bool isMatrix = type.getRank() == 2;
    auto row = [&](CodeBuilder &e, SmallVector<Value> at) {
      int64_t last = at.size();
      Value columns =
          e.minsi(e.dim(blocks, last), e.divui(e.dim(out, last), ratio));
      e.forLoop(columns, [&](CodeBuilder &e, Value j) {
        SmallVector<Value> from(at);
        from.push_back(j);
        Value number = e.loadIndex(blocks, from);
        e.forLoop(e.index(ratio), [&](CodeBuilder &e, Value i) {
          SmallVector<Value> to(at);
          to.push_back(e.addMul(i, j, ratio));
          storeEntry(e, partOf(e, number, ratio, i, e.index(-1), out), out, to);
        });
      });
    };
    if (!isMatrix)
      row(emit, {});
    else
      emit.parallelLoop(emit.minsi(emit.dim(blocks, 0), emit.dim(out, 0)),
                        [&](CodeBuilder &e, Value r) { row(e, {r}); });
  }
};

struct BlockSlotsOpLowering : BufferOpLowering<BlockSlotsOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(BlockSlotsOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    Value blocks = in[op.getBlocks()], out = in[op.getOut()];
    int64_t tokens = op.getTokens();
    Value count =
        emit.minsi(emit.dim(blocks, 0), emit.divui(emit.dim(out, 0), tokens));
    emit.forLoop(count, [&](CodeBuilder &e, Value k) {
      Value number = e.loadIndex(blocks, k);
      e.forLoop(e.index(tokens), [&](CodeBuilder &e, Value n) {
        storeEntry(e, partOf(e, number, tokens, n, e.index(-1), out), out,
                   e.addMul(n, k, tokens));
      });
    });
  }
};

struct CsrTableOpLowering : BufferOpLowering<CsrTableOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(CsrTableOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    Value indptr = in[op.getIndptr()], indices = in[op.getIndices()];
    Value table = in[op.getTable()], last = in[op.getLast()];
    Values outs = in[op.getOuts()];
    Value count = emit.maxsi(emit.addi(emit.dim(indptr, 0), -1), emit.index(0));
    for (Value out : outs)
      count = emit.minsi(count, emit.dim(out, 0));
    if (last)
      count = emit.minsi(count, emit.dim(last, 0));
    Value columns = emit.dim(table, 1), listed = emit.dim(indices, 0);
    emit.parallelLoop(count, [&](CodeBuilder &e, Value r) {
      Value first = e.clamp(e.loadIndex(indptr, r), listed);
      Value end = e.clamp(e.loadIndex(indptr, e.addi(r, 1)), listed);
      Value blocks = e.maxsi(e.subi(end, first), e.index(0));
      Value used = e.minsi(blocks, columns);
      e.forLoop(used, [&](CodeBuilder &e, Value j) {
        e.store(e.load(indices, e.addi(first, j)), table, {r, j});
      });
      e.forLoop(used, columns, 1, [&](CodeBuilder &e, Value j) {
        storeEntry(e, e.index(-1), table, {r, j});
      });
      if (last)
        storeEntry(e, length(e, op, blocks, e.loadIndex(last, r), outs[1]),
                   outs[1], r);
    });
  }

private:
  /// Of so many blocks; 0 where an entry has no room for it.
  static Value length(CodeBuilder &e, CsrTableOp op, Value blocks, Value last,
                      Value list) {
    int64_t tokens = *op.getTokens();
    Type entry = cast<MemRefType>(list.getType()).getElementType();
    // The number of the last token fits where it is not -1, and the next one
    // may not.
    Value token = e.maxsi(e.minsi(last, e.index(tokens)), e.index(1));
    token = e.addi(token, -1);
    Value number =
        partOf(e, e.addi(blocks, -1), tokens, token, e.index(-1), list);
    Value fits = e.slt(number, e.index(greatest(entry)));
    return e.select(fits, e.addi(number, 1), e.index(0));
  }
  static int64_t greatest(Type entry) {
    return entry.isInteger(32) ? std::numeric_limits<int32_t>::max()
                               : std::numeric_limits<int64_t>::max();
  }
};

struct SelectRowsOpLowering : BufferOpLowering<SelectRowsOp> {
  using BufferOpLowering::BufferOpLowering;

  /// Copies row `from` of rows, or clears row `to` of the destination.
  struct RowPair {
    RowPair(CodeBuilder &emit, Value from, Value to)
        : from(emit, from), to(emit, to), type(cast<MemRefType>(to.getType())) {
      elements = 1;
      for (int64_t extent : type.getShape().drop_front())
        elements *= extent;
      room = emit.minsi(emit.dim(from, 0), emit.dim(to, 0));
    }
    Rows from, to;
    MemRefType type;
    int64_t elements;
    Value room;
  };

  void lower(SelectRowsOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    Value indices = in[op.getIndices()], valid = in[op.getValid()];
    BatchValue batch = in[op.getBatch()];
    Values outs = in[op.getOuts()], sources = in[op.getRows()];
    Value starts = outs[outs.size() - 2], positions = outs.back();

    SmallVector<RowPair> pairs;
    Value rows = emit.index(kMaxExtent);
    Value selected = emit.minsi(emit.dim(indices, 0), emit.dim(positions, 0));
    for (auto [from, to] : llvm::zip_first(sources, outs)) {
      pairs.emplace_back(emit, from, to);
      rows = emit.minsi(rows, emit.dim(from, 0));
      selected = emit.minsi(selected, emit.dim(to, 0));
    }
    Requests requests(emit, batch, rows);
    Value count = emit.minsi(requests.count,
                             emit.subi(emit.dim(starts, 0), emit.index(1)));
    Value used = emit.clamp(emit.loadIndex(valid, emit.index(0)), selected);
    Value fine = emitChecks(emit, op, requests, indices, used);
    used = emit.select(fine, used, emit.index(0));

    // Where requests begin among the selected rows: indices do not decrease.
    emit.forLoop(emit.maxsi(emit.addi(count, 1), emit.index(0)),
                 [&](CodeBuilder &e, Value r) {
                   Value first = requests.first(e, r);
                   Value below = countBelow(e, indices, used, first);
                   storeEntry(e, below, starts, r);
                 });
    emit.parallelLoop(selected, [&](CodeBuilder &e, Value i) {
      e.ifThen(
          e.slt(i, used),
          [&](CodeBuilder &e) {
            Value row = e.loadIndex(indices, i);
            for (const RowPair &pair : pairs)
              emitRunCopy(e, pair.from.at(e, row), pair.to.at(e, i),
                          pair.elements);
            Value r = requests.lastAtMost(
                e, requests.count, row,
                [&](CodeBuilder &e, Value r) { return requests.first(e, r); });
            Value position = requests.position(e, row, requests.end(e, r),
                                               requests.length(e, r));
            storeEntry(e, nearest(e, position, positions), positions, i);
          },
          [&](CodeBuilder &e) {
            for (const RowPair &pair : pairs)
              emitRunClear(e, pair.to.at(e, i), pair.elements);
            storeEntry(e, e.index(-1), positions, i);
          });
    });
  }

private:
  /// Whether the valid indices are rows of requests and do not decrease; the
  /// first that is not is reported.
  static Value emitChecks(CodeBuilder &emit, SelectRowsOp op,
                          const Requests &requests, Value indices, Value used) {
    Value least = requests.first(emit, emit.index(0));
    Value end = requests.first(emit, requests.count);
    SmallVector<Value> state = emit.forLoop(
        emit.index(0), used, 1, {least, emit.i1(true)},
        [&](CodeBuilder &e, Value i, ValueRange last) {
          Value row = e.loadIndex(indices, i);
          Value holds =
              e.andi(e.cmpi(CodeBuilder::Predicate::sle, last[0], row),
                     e.slt(row, end));
          Value isFirst = e.andi(last[1], e.eq(holds, e.i1(false)));
          e.ifThen(isFirst, [&](CodeBuilder &e) {
            emitReport(e, e.getLoc(), op, "kvrt_report_selection",
                       {i, row, last[0], end});
          });
          return SmallVector<Value>{e.select(holds, row, last[0]),
                                    e.andi(last[1], holds)};
        });
    return state[1];
  }

  /// How many of the first `used` indices are below a row.
  static Value countBelow(CodeBuilder &emit, Value indices, Value used,
                          Value row) {
    auto search = scf::WhileOp::create(
        emit, TypeRange{emit.getIndexType(), emit.getIndexType()},
        ValueRange{emit.index(0), used},
        [&](OpBuilder &b, Location l, ValueRange range) {
          CodeBuilder e(b, l);
          scf::ConditionOp::create(b, l, e.slt(range[0], range[1]), range);
        },
        [&](OpBuilder &b, Location l, ValueRange range) {
          CodeBuilder e(b, l);
          Value middle = e.divui(e.addi(range[0], range[1]), 2);
          Value below = e.slt(e.loadIndex(indices, middle), row);
          scf::YieldOp::create(
              b, l,
              ValueRange{e.select(below, e.addi(middle, 1), range[0]),
                         e.select(below, range[1], middle)});
        });
    return search.getResult(0);
  }
};

} // namespace

void cpu::populateIndexOpsToLoops(TypeConverter &converter,
                                  RewritePatternSet &patterns) {
  patterns.add<BlockSlotsOpLowering, CsrTableOpLowering, MapBlocksOpLowering,
               SelectRowsOpLowering, SlotMappingOpLowering>(
      converter, patterns.getContext());
}
