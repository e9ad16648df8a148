// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// slot_mapping, map_blocks, block_slots and select_rows.
//
//===----------------------------------------------------------------------===//

#include "../Common/CacheLowering.h"
#include "Patterns.h"
#include "Requests.h"
#include "Runs.h"

using namespace mlir;
using namespace kvcache;

//===----------------------------------------------------------------------===//
// Requests
//===----------------------------------------------------------------------===//

Requests::Requests(const Emitter &emit, const BatchParts &batch, Value rows)
    : batch(batch), rows(rows),
      count(batch.numRequests(emit.builder, emit.loc)) {
  // Starts are made what they should be, once: not decreasing, and in range.
  Value length = emit.add(count, 1);
  auto type =
      MemRefType::get({ShapedType::kDynamic}, emit.builder.getIndexType());
  starts = memref::AllocOp::create(emit.builder, emit.loc, type, length);
  Value hasAny = emit.less(emit.constant(0), emit.dim(batch.starts, 0));
  emit.store(emit.constant(0), starts, emit.constant(0));
  emit.when(hasAny, [&](const Emitter &e) {
    e.fold(e.constant(0), length, 1, ValueRange(e.constant(0)),
           [&](const Emitter &e, Value r, ValueRange last) {
             Value start = e.loadIndex(batch.starts, r);
             start = e.min(e.max(start, last[0]), rows);
             e.store(start, starts, r);
             return SmallVector<Value>{start};
           });
  });
}

Value Requests::first(const Emitter &emit, Value request) const {
  return emit.load(starts, request);
}

Value Requests::end(const Emitter &emit, Value request) const {
  return emit.load(starts, emit.add(request, 1));
}

Value Requests::length(const Emitter &emit, Value request) const {
  return batch.length(emit.builder, emit.loc, request);
}

Value Requests::position(const Emitter &emit, Value row, Value end,
                         Value length) const {
  if (!batch.positions)
    return emit.sub(length, emit.sub(end, row));
  // A list of positions that is too short says nothing of the rows behind it.
  Value isThere = emit.less(row, emit.dim(batch.positions, 0));
  Value at = emit.select(isThere, row, emit.constant(0));
  Value none = emit.less(emit.constant(0), emit.dim(batch.positions, 0));
  auto position = scf::IfOp::create(
      emit.builder, emit.loc, emit.both(isThere, none),
      [&](OpBuilder &b, Location l) {
        Emitter e{b, l};
        scf::YieldOp::create(b, l, e.loadIndex(batch.positions, at));
      },
      [&](OpBuilder &b, Location l) {
        scf::YieldOp::create(b, l, Emitter{b, l}.constant(-1));
      });
  return position.getResult(0);
}

void Requests::forRowsOutside(const Emitter &emit, Emitter::Body body) const {
  emit.loop(emit.constant(0), first(emit, emit.constant(0)), 1, body);
  emit.loop(first(emit, count), rows, 1, body);
}

Value Requests::lastAtMost(const Emitter &emit, Value limit, Value value,
                           Key key) const {
  // The number of requests whose key is at most the value, less one.
  auto search = scf::WhileOp::create(
      emit.builder, emit.loc,
      TypeRange{emit.builder.getIndexType(), emit.builder.getIndexType()},
      ValueRange{emit.constant(0), limit},
      [&](OpBuilder &b, Location l, ValueRange range) {
        Emitter e{b, l};
        Value more = e.less(e.add(range[0], 1), range[1]);
        scf::ConditionOp::create(b, l, more, range);
      },
      [&](OpBuilder &b, Location l, ValueRange range) {
        Emitter e{b, l};
        Value middle = e.div(e.add(range[0], range[1]), 2);
        Value below = e.compare(Emitter::Predicate::sle, key(e, middle), value);
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

/// Whether all values are memrefs.
bool areBuffers(ArrayRef<ValueRange> operands) {
  for (ValueRange values : operands)
    for (Value value : values)
      if (isa<TensorType>(value.getType()))
        return false;
  return true;
}

/// number * factor + part, or `none` for a number that is negative or has no
/// room in an entry of a list.
Value partOf(const Emitter &emit, Value number, int64_t factor, Value part,
             Value none, Value list) {
  Type entry = cast<MemRefType>(list.getType()).getElementType();
  Value most = emit.constant(numbersWithParts(entry, factor));
  return emit.select(emit.isBelow(number, most),
                     emit.addMul(part, number, factor), none);
}

/// The number next to one that an entry has room for: as a position the two say
/// the same, a place before all keys or behind them.
Value nearest(const Emitter &emit, Value number, Value list) {
  Type entry = cast<MemRefType>(list.getType()).getElementType();
  if (!entry.isInteger(32))
    return number;
  using Limits = std::numeric_limits<int32_t>;
  return emit.min(emit.max(number, emit.constant(Limits::min())),
                  emit.constant(Limits::max()));
}

/// Stores an index that an entry has room for.
void storeEntry(const Emitter &emit, Value index, Value list, ValueRange at) {
  Type entry = cast<MemRefType>(list.getType()).getElementType();
  emit.store(emit.fromIndex(index, entry), list, at);
}

struct SlotMappingOpLowering : OpConversionPattern<SlotMappingOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(SlotMappingOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Value out = adaptor.getOut().front();
    if (!areBuffers({adaptor.getBatch(), out}))
      return rewriter.notifyMatchFailure(op, "an operand is still a tensor");
    Emitter emit{rewriter, op.getLoc()};
    BatchParts batch(op.getBatch().getType(), adaptor.getBatch());
    Requests requests(emit, batch, emit.dim(out, 0));
    int64_t tokens = batch.type.getTokens();
    Value sink = adaptor.getSink().empty() ? Value() : adaptor.getSink()[0];
    auto padding = [&](const Emitter &e, Value row) {
      Value none = e.constant(-1);
      return sink ? partOf(e, sink, tokens, e.rem(row, tokens), none, out)
                  : none;
    };
    requests.forRowsOutside(emit, [&](const Emitter &e, Value row) {
      storeEntry(e, padding(e, row), out, row);
    });
    emit.parallel(requests.count, [&](const Emitter &e, Value r) {
      Value end = requests.end(e, r), length = requests.length(e, r);
      e.loop(requests.first(e, r), end, 1, [&](const Emitter &e, Value row) {
        Value position = requests.position(e, row, end, length);
        e.when(
            e.isBelow(position, length),
            [&](const Emitter &e) {
              Value block =
                  e.loadIndex(batch.table, {r, e.div(position, tokens)});
              Value slot = partOf(e, block, tokens, e.rem(position, tokens),
                                  padding(e, row), out);
              storeEntry(e, slot, out, row);
            },
            [&](const Emitter &e) {
              storeEntry(e, padding(e, row), out, row);
            });
      });
    });
    rewriter.eraseOp(op);
    return success();
  }
};

struct MapBlocksOpLowering : OpConversionPattern<MapBlocksOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(MapBlocksOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Value blocks = adaptor.getBlocks(), out = adaptor.getOut();
    if (!areBuffers({blocks, out}))
      return rewriter.notifyMatchFailure(op, "an operand is still a tensor");
    Emitter emit{rewriter, op.getLoc()};
    auto type = cast<MemRefType>(out.getType());
    int64_t ratio = op.getRatio();
    bool isMatrix = type.getRank() == 2;
    auto row = [&](const Emitter &e, SmallVector<Value> at) {
      int64_t last = at.size();
      Value columns =
          e.min(e.dim(blocks, last), e.div(e.dim(out, last), ratio));
      e.loop(columns, [&](const Emitter &e, Value j) {
        SmallVector<Value> from(at);
        from.push_back(j);
        Value number = e.loadIndex(blocks, from);
        e.loop(e.constant(ratio), [&](const Emitter &e, Value i) {
          SmallVector<Value> to(at);
          to.push_back(e.addMul(i, j, ratio));
          storeEntry(e, partOf(e, number, ratio, i, e.constant(-1), out), out,
                     to);
        });
      });
    };
    if (!isMatrix)
      row(emit, {});
    else
      emit.parallel(emit.min(emit.dim(blocks, 0), emit.dim(out, 0)),
                    [&](const Emitter &e, Value r) { row(e, {r}); });
    rewriter.eraseOp(op);
    return success();
  }
};

struct BlockSlotsOpLowering : OpConversionPattern<BlockSlotsOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(BlockSlotsOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Value blocks = adaptor.getBlocks(), out = adaptor.getOut();
    if (!areBuffers({blocks, out}))
      return rewriter.notifyMatchFailure(op, "an operand is still a tensor");
    Emitter emit{rewriter, op.getLoc()};
    int64_t tokens = op.getTokens();
    Value count =
        emit.min(emit.dim(blocks, 0), emit.div(emit.dim(out, 0), tokens));
    emit.loop(count, [&](const Emitter &e, Value k) {
      Value number = e.loadIndex(blocks, k);
      e.loop(e.constant(tokens), [&](const Emitter &e, Value n) {
        storeEntry(e, partOf(e, number, tokens, n, e.constant(-1), out), out,
                   e.addMul(n, k, tokens));
      });
    });
    rewriter.eraseOp(op);
    return success();
  }
};

struct SelectRowsOpLowering : OpConversionPattern<SelectRowsOp> {
  using OpConversionPattern::OpConversionPattern;

  /// Copies row `from` of rows, or clears row `to` of the destination.
  struct RowPair {
    RowPair(const Emitter &emit, Value from, Value to)
        : from(emit, from), to(emit, to), type(cast<MemRefType>(to.getType())) {
      elements = 1;
      for (int64_t extent : type.getShape().drop_front())
        elements *= extent;
      room = emit.min(emit.dim(from, 0), emit.dim(to, 0));
    }
    Rows from, to;
    MemRefType type;
    int64_t elements;
    Value room;
  };

  LogicalResult
  matchAndRewrite(SelectRowsOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    SmallVector<ValueRange> operands(adaptor.getRows());
    llvm::append_range(operands, adaptor.getOuts());
    Value indices = adaptor.getIndices().front();
    Value valid = adaptor.getValid().front();
    operands.append({adaptor.getBatch(), indices, valid});
    if (!areBuffers(operands))
      return rewriter.notifyMatchFailure(op, "an operand is still a tensor");
    Emitter emit{rewriter, op.getLoc()};
    BatchParts batch(op.getBatch().getType(), adaptor.getBatch());
    ArrayRef<ValueRange> outs = adaptor.getOuts();
    Value starts = outs[outs.size() - 2].front();
    Value positions = outs.back().front();

    SmallVector<RowPair> pairs;
    Value rows = emit.constant(kMaxExtent);
    Value selected = emit.min(emit.dim(indices, 0), emit.dim(positions, 0));
    for (unsigned k = 0; k < op.getRows().size(); ++k) {
      Value from = adaptor.getRows()[k].front(), to = outs[k].front();
      pairs.emplace_back(emit, from, to);
      rows = emit.min(rows, emit.dim(from, 0));
      selected = emit.min(selected, emit.dim(to, 0));
    }
    Requests requests(emit, batch, rows);
    Value count = emit.min(requests.count,
                           emit.sub(emit.dim(starts, 0), emit.constant(1)));
    Value used = emit.clamp(emit.loadIndex(valid, emit.constant(0)), selected);
    Value fine = emitChecks(emit, op, requests, indices, used);
    used = emit.select(fine, used, emit.constant(0));

    // Where requests begin among the selected rows: indices do not decrease.
    emit.loop(emit.max(emit.add(count, 1), emit.constant(0)),
              [&](const Emitter &e, Value r) {
                Value first = requests.first(e, r);
                Value below = countBelow(e, indices, used, first);
                storeEntry(e, below, starts, r);
              });
    emit.parallel(selected, [&](const Emitter &e, Value i) {
      e.when(
          e.less(i, used),
          [&](const Emitter &e) {
            Value row = e.loadIndex(indices, i);
            for (const RowPair &pair : pairs)
              emitRunCopy(e, pair.from.at(e, row), pair.to.at(e, i),
                          pair.elements);
            Value r = requests.lastAtMost(e, requests.count, row,
                                          [&](const Emitter &e, Value r) {
                                            return requests.first(e, r);
                                          });
            Value position = requests.position(e, row, requests.end(e, r),
                                               requests.length(e, r));
            storeEntry(e, nearest(e, position, positions), positions, i);
          },
          [&](const Emitter &e) {
            for (const RowPair &pair : pairs)
              emitRunClear(e, pair.to.at(e, i), pair.elements);
            storeEntry(e, e.constant(-1), positions, i);
          });
    });
    rewriter.eraseOp(op);
    return success();
  }

private:
  /// Whether the valid indices are rows of requests and do not decrease; the
  /// first that is not is reported.
  static Value emitChecks(const Emitter &emit, SelectRowsOp op,
                          const Requests &requests, Value indices, Value used) {
    Value least = requests.first(emit, emit.constant(0));
    Value end = requests.first(emit, requests.count);
    SmallVector<Value> state = emit.fold(
        emit.constant(0), used, 1, {least, emit.truth(true)},
        [&](const Emitter &e, Value i, ValueRange last) {
          Value row = e.loadIndex(indices, i);
          Value holds = e.both(e.compare(Emitter::Predicate::sle, last[0], row),
                               e.less(row, end));
          Value isFirst = e.both(last[1], e.equal(holds, e.truth(false)));
          e.when(isFirst, [&](const Emitter &e) {
            emitReport(e.builder, e.loc, op, "kvrt_report_selection",
                       {i, row, last[0], end});
          });
          return SmallVector<Value>{e.select(holds, row, last[0]),
                                    e.both(last[1], holds)};
        });
    return state[1];
  }

  /// How many of the first `used` indices are below a row.
  static Value countBelow(const Emitter &emit, Value indices, Value used,
                          Value row) {
    auto search = scf::WhileOp::create(
        emit.builder, emit.loc,
        TypeRange{emit.builder.getIndexType(), emit.builder.getIndexType()},
        ValueRange{emit.constant(0), used},
        [&](OpBuilder &b, Location l, ValueRange range) {
          Emitter e{b, l};
          scf::ConditionOp::create(b, l, e.less(range[0], range[1]), range);
        },
        [&](OpBuilder &b, Location l, ValueRange range) {
          Emitter e{b, l};
          Value middle = e.div(e.add(range[0], range[1]), 2);
          Value below = e.less(e.loadIndex(indices, middle), row);
          scf::YieldOp::create(
              b, l,
              ValueRange{e.select(below, e.add(middle, 1), range[0]),
                         e.select(below, range[1], middle)});
        });
    return search.getResult(0);
  }
};

} // namespace

void kvcache::populateIndexOpsToLoops(TypeConverter &converter,
                                      RewritePatternSet &patterns) {
  patterns.add<BlockSlotsOpLowering, MapBlocksOpLowering, SelectRowsOpLowering,
               SlotMappingOpLowering>(converter, patterns.getContext());
}
