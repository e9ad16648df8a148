// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// select_rows, in one launch. Every block of threads checks all indices for
// itself, which takes no memory and no second launch, finds the positions of
// some, and copies some rows of each operand; the first one writes the starts.
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
/// Two for each multiprocessor of a large device.
constexpr int64_t kMostBlocks = 264;

/// Rows of one operand and where they go.
struct RowPair {
  RowPair(KernelOperands &operands, Value from, Value to)
      : source(operands, from), target(operands, to) {
    bytes = source.elementBytes;
    for (int64_t extent :
         cast<MemRefType>(to.getType()).getShape().drop_front())
      bytes *= extent;
    width = powerOfTwoDivisor(bytes, std::min(source.align, target.align));
  }
  RowBuffer source, target;
  int64_t bytes, width;
};

class SelectKernel {
public:
  SelectKernel(const Emitter &emit, SelectRowsOp op,
               SelectRowsOp::GenericAdaptor<ArrayRef<ValueRange>> adaptor)
      : emit(emit), op(op), operands(emit.builder, emit.loc) {
    ArrayRef<ValueRange> outs = adaptor.getOuts();
    Value indices = adaptor.getIndices().front();
    Value starts = outs[outs.size() - 2].front();
    Value positions = outs.back().front();
    Value rows = emit.constant(kMaxExtent);
    selected = emit.min(emit.dim(indices, 0), emit.dim(positions, 0));
    for (unsigned i = 0; i < op.getRows().size(); ++i) {
      Value from = adaptor.getRows()[i].front(), to = outs[i].front();
      rows = emit.min(rows, emit.dim(from, 0));
      selected = emit.min(selected, emit.dim(to, 0));
      pairs.emplace_back(operands, from, to);
    }
    BatchParts parts(op.getBatch().getType(), adaptor.getBatch());
    batch.emplace(emit.builder, emit.loc, operands, parts, rows);
    index = IntegerList::get(operands, indices);
    valid = IntegerList::get(operands, adaptor.getValid().front());
    startsOut = IntegerList::get(operands, starts);
    positionsOut = IntegerList::get(operands, positions);
    numSelected = operands.addIndex(selected);
    Value count = parts.numRequests(emit.builder, emit.loc);
    count = emit.min(emit.add(count, 1), emit.dim(starts, 0));
    numStarts = operands.addIndex(count);
  }

  void build() {
    kernel.emplace(op->getParentOfType<ModuleOp>(), emit.loc, "select_rows",
                   operands.types(), kThreads);
    KernelBuilder &k = *kernel;
    KernelRequests requests(k, *batch, kThreads);
    thread = k.widen(k.threadX());
    block = k.widen(k.blockX());
    Value wanted = k.smin(k.smax(valid.load(k, k.i64(0)), k.i64(0)),
                          k.parameter(numSelected));
    Value inOrder = checkOrder(wanted);
    Value used = emitPositions(requests, wanted, inOrder);
    for (const RowPair &pair : pairs)
      if (pair.bytes)
        emitRows(pair, used);
    k.finish();
    Value grid = emit.clamp(selected, emit.constant(kMostBlocks));
    emitLaunch(emit.builder, emit.loc, k.symbol(),
               emit.max(grid, emit.constant(1)), emit.constant(1), Value(),
               kThreads, operands);
  }

private:
  /// Whether none of the first `wanted` indices is less than the one before.
  Value checkOrder(Value wanted) {
    KernelBuilder &k = *kernel;
    Value holds =
        k.loop(thread, wanted, k.i64(kThreads), {k.truth(true)},
               [&](Value i, ValueRange state) {
                 Value isFirst = k.eq(i, k.i64(0));
                 Value before = k.sub(i, k.select(isFirst, k.i64(0), k.i64(1)));
                 Value fits = k.sle(index.load(k, before), index.load(k, i));
                 return SmallVector<Value>{k.both(state[0], fits)};
               })
            .front();
    return k.barrierAll(holds);
  }

  /// Positions of the indices of this block, and starts: as if all was right,
  /// and again if it is not, which is known once all starts were seen. Gives
  /// how many indices count.
  Value emitPositions(KernelRequests &requests, Value wanted, Value inOrder) {
    KernelBuilder &k = *kernel;
    Value isFirstBlock = k.eq(block, k.i64(0));
    Value hasAny = k.slt(k.i64(0), wanted);
    auto entryOf = [&](Value i, Value isThere) {
      return k.loadEntryIf(isThere, k.parameter(index.pointer), i, index.type);
    };
    Value lowest = entryOf(k.i64(0), hasAny);
    Value highest = entryOf(k.sub(wanted, k.i64(1)), hasAny);
    Value fits = k.both(inOrder, k.sle(requests.least(), lowest));
    // At least once, as the end of all requests is needed.
    Value step = k.i64(kThreads);
    Value first = k.mul(block, step);
    Value end = k.smax(k.parameter(numSelected), k.add(first, k.i64(1)));
    SmallVector<Value> result = k.loop(
        first, end, k.mul(k.widen(k.gridX()), step), {k.i64(0)},
        [&](Value base, ValueRange) {
          Value i = k.add(base, thread);
          Value isUsed = k.slt(i, wanted);
          Value row = entryOf(i, isUsed);
          SmallVector<Value> found = requests.forTiles(
              requests.startFind(),
              [&](const KernelRequests::Tile &tile, ValueRange carried) {
                Value r = k.add(tile.first, thread);
                Value writes =
                    k.both(k.both(isFirstBlock, k.eq(base, k.i64(0))),
                           k.slt(r, k.parameter(numStarts)));
                k.ifThen(writes, [&] {
                  Value start = tile.start(k, thread);
                  // Whatever order they have, what is read is there.
                  Value below = k.searchFirst(k.i64(0), wanted, [&](Value i) {
                    return k.sle(start, index.load(k, i));
                  });
                  startsOut.store(k, below, r);
                });
                return requests.stepFind(row, tile, carried);
              });
          Value behind = found.pop_back_val();
          Value position = requests.position(row, requests.endFind(found));
          k.ifThen(k.slt(i, k.parameter(numSelected)), [&] {
            positionsOut.store(k, k.select(isUsed, position, k.i64(-1)), i);
          });
          return SmallVector<Value>{behind};
        });
    fits = k.both(fits, k.slt(highest, result.front()));
    Value isWrong = k.both(hasAny, k.isNot(fits));
    k.ifThen(isWrong, [&] {
      auto fill = [&](const IntegerList &list, Value from, Value to, Value step,
                      int64_t value) {
        k.loop(from, to, step, {}, [&](Value i, ValueRange) {
          list.store(k, k.i64(value), i);
          return SmallVector<Value>();
        });
      };
      fill(positionsOut, k.add(first, thread), k.parameter(numSelected),
           k.mul(k.widen(k.gridX()), step), -1);
      k.ifThen(isFirstBlock, [&] {
        fill(startsOut, thread, k.parameter(numStarts), step, 0);
      });
    });
    return k.select(isWrong, k.i64(0), wanted);
  }

  void emitRows(const RowPair &pair, Value used) {
    KernelBuilder &k = *kernel;
    RowShape shape(pair.bytes / pair.width, pair.width, kThreads);
    // A block of this kernel has more threads than a short row needs.
    Value isBusy = k.ult(k.threadX(), k.i32(shape.threads));
    Value count = k.parameter(numSelected);
    k.ifThen(isBusy, [&] {
      for (int64_t part = 0; part < shape.parts; ++part) {
        RowThread place(k, shape, k.i32(part));
        Value first =
            k.add(k.mul(block, k.i64(shape.rows)), k.widen(place.rowInBlock));
        Value step = k.mul(k.widen(k.gridX()), k.i64(shape.rows));
        k.loop(first, count, step, {}, [&](Value i, ValueRange) {
          copyRow(pair, place, i, used);
          return SmallVector<Value>();
        });
      }
    });
  }

  void copyRow(const RowPair &pair, const RowThread &place, Value i,
               Value used) {
    KernelBuilder &k = *kernel;
    Value isUsed = k.slt(i, used);
    Value row =
        k.loadEntryIf(isUsed, k.parameter(index.pointer), i, index.type);
    Value source = pair.source.at(k, row), target = pair.target.at(k, i);
    SmallVector<Value> loaded;
    for (const RowThread::Access &access : place.accesses)
      loaded.push_back(k.loadIf(k.bothOf(isUsed, access.isThere),
                                k.byteOffset(source, access.inRow),
                                pair.width));
    for (auto [access, value] : llvm::zip(place.accesses, loaded)) {
      Value at = k.byteOffset(target, access.inRow);
      if (access.isThere)
        k.storeIf(access.isThere, value, at, pair.width);
      else
        k.store(value, at, pair.width);
    }
  }

  const Emitter &emit;
  SelectRowsOp op;
  KernelOperands operands;
  SmallVector<RowPair> pairs;
  std::optional<BatchParameters> batch;
  IntegerList index, valid, startsOut, positionsOut;
  unsigned numSelected, numStarts;
  Value selected;
  std::optional<KernelBuilder> kernel;
  Value thread, block; ///< i64
};

struct SelectRowsOpLowering : OpConversionPattern<SelectRowsOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(SelectRowsOp op, OneToNOpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    SmallVector<Value> all(adaptor.getBatch());
    for (ArrayRef<ValueRange> group : {ArrayRef<ValueRange>(adaptor.getRows()),
                                       ArrayRef<ValueRange>(adaptor.getOuts())})
      for (ValueRange values : group)
        llvm::append_range(all, values);
    all.push_back(adaptor.getIndices().front());
    all.push_back(adaptor.getValid().front());
    if (!llvm::all_of(ValueRange(all).getTypes(), llvm::IsaPred<MemRefType>))
      return rewriter.notifyMatchFailure(op, "an operand is still a tensor");
    Emitter emit{rewriter, op.getLoc()};
    SelectKernel(emit, op, adaptor).build();
    rewriter.eraseOp(op);
    return success();
  }
};

} // namespace

void kvcache::populateSelectRowsToGPU(TypeConverter &converter,
                                      RewritePatternSet &patterns) {
  patterns.add<SelectRowsOpLowering>(converter, patterns.getContext());
}
