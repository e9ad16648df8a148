// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// select_rows, in one launch. Every block of threads checks all indices for
// itself, which takes no memory and no second launch. Then the first ones write
// starts, the next ones positions, and the others copy rows of each operand.
//
// Indices that are not what they should be make all starts 0 and all rows
// padding. The call itself is over by then, so it cannot fail.
//
//===----------------------------------------------------------------------===//

#include "../Common/CacheLowering.h"
#include "../Common/CodeBuilder.h"
#include "Patterns.h"
#include "Requests.h"
#include "RowShape.h"

using namespace mlir;
using namespace kvcache;

namespace {

/// The starts of 256 requests, which are 257, are one tile.
constexpr int64_t kThreads = 512;
/// Two for each multiprocessor of a large device.
constexpr int64_t kMostRowBlocks = 264;
/// Parts of a row that have code of their own; more take a loop.
constexpr int64_t kMostUnrolled = 16;

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
  SelectKernel(CodeBuilder &emit, SelectRowsOp op, const LoweredOperands &in)
      : emit(emit), op(op), operands(emit, emit.getLoc()) {
    Values outs = in[op.getOuts()], sources = in[op.getRows()];
    Value indices = in[op.getIndices()];
    Value starts = outs[outs.size() - 2], positions = outs.back();
    Value rows = emit.index(kMaxExtent);
    selected = emit.minsi(emit.dim(indices, 0), emit.dim(positions, 0));
    for (auto [from, to] : llvm::zip_first(sources, outs)) {
      rows = emit.minsi(rows, emit.dim(from, 0));
      selected = emit.minsi(selected, emit.dim(to, 0));
    }
    BatchValue parts = in[op.getBatch()];
    Value count = parts.numRequests(emit, emit.getLoc());
    numStartsOnHost = emit.minsi(emit.addi(count, 1), emit.dim(starts, 0));
    // In the sequence of their use: a line of parameters is waited for at the
    // first one.
    index = IntegerList::get(operands, indices);
    valid = IntegerList::get(operands, in[op.getValid()]);
    numSelected = operands.addIndex(selected);
    batch.emplace(emit, emit.getLoc(), operands, parts, rows);
    numStarts = operands.addIndex(numStartsOnHost);
    startsOut = IntegerList::get(operands, starts);
    positionsOut = IntegerList::get(operands, positions);
    for (auto [from, to] : llvm::zip_first(sources, outs))
      pairs.emplace_back(operands, from, to);
  }

  void build() {
    kernel.emplace(op->getParentOfType<ModuleOp>(), emit.getLoc(),
                   "select_rows", operands.types(), kThreads);
    KernelBuilder &k = *kernel;
    KernelRequests requests(k, *batch, kThreads);
    thread = k.extui64(k.threadX());
    samples = k.shared(8 * kThreads + 8);
    last = sampleAt(k.i64(kThreads));
    // All loads that wait for nothing come first.
    Value raw = valid.load(k, k.i64(0));
    KernelRequests::Loaded ready = requests.load(k.i64(0));
    Value used = check(requests, raw);
    // What a block does follows from its number.
    Value block = k.extui64(k.blockX());
    Value startTiles = tilesOf(k.parameter(numStarts));
    Value tiles = k.addi(startTiles, tilesOf(k.parameter(numSelected)));
    k.ifThen(k.slt(block, startTiles), [&] {
      emitStarts(requests, ready, k.muli(block, k.i64(kThreads)), used);
    });
    Value number = k.subi(block, startTiles);
    Value finds = k.andi(k.sle(startTiles, block), k.slt(block, tiles));
    k.ifThen(finds, [&] {
      Value i = k.addi(k.muli(number, k.i64(kThreads)), thread);
      emitPosition(requests, ready, i, used);
    });
    int64_t perBlock = kThreads; // rows of a block of threads
    bool anyRows = false;
    k.ifThen(k.sle(tiles, block), [&] {
      Value step = k.subi(k.extui64(k.gridX()), tiles);
      for (const RowPair &pair : pairs) {
        if (!pair.bytes)
          continue;
        RowShape shape(pair.bytes / pair.width, pair.width, kThreads);
        perBlock = std::min(perBlock, shape.rows);
        anyRows = true;
        emitRows(pair, shape, k.subi(block, tiles), step, used);
      }
    });
    k.finish();
    Value grid = emit.addi(emit.ceildivui(numStartsOnHost, kThreads),
                           emit.ceildivui(selected, kThreads));
    if (anyRows)
      grid = emit.addi(grid, emit.minsi(emit.ceildivui(selected, perBlock),
                                        emit.index(kMostRowBlocks)));
    emitLaunch(emit, emit.getLoc(), k.symbol(), emit.maxsi(grid, emit.index(1)),
               emit.index(1), Value(), kThreads, operands);
  }

private:
  Value tilesOf(Value count) {
    KernelBuilder &k = *kernel;
    return k.divui(k.addi(count, k.i64(kThreads - 1)), kThreads);
  }

  Value entryIf(Value i, Value isThere) {
    return kernel->loadEntryIf(isThere, kernel->parameter(index.pointer), i,
                               index.type);
  }

  /// How many indices count: as many as the caller says, or none if any of
  /// these is less than the one before, or a row of no request.
  Value check(KernelRequests &requests, Value raw) {
    KernelBuilder &k = *kernel;
    Value given = k.parameter(numSelected);
    Value lowest = entryIf(k.i64(0), k.slt(k.i64(0), given));
    Value place = k.muli(thread, sampleStep());
    Value sample = entryIf(place, k.slt(place, given));
    Value least = requests.least(), most = requests.most();
    Value wanted = k.minsi(k.maxsi(raw, k.i64(0)), given);
    Value inOrder =
        k.forLoop(thread, given, k.i64(kThreads), {k.i1(true)},
                  [&](Value i, ValueRange state) {
                    Value isFirst = k.eq(i, k.i64(0));
                    Value before =
                        k.subi(i, k.select(isFirst, k.i64(0), k.i64(1)));
                    Value own = index.load(k, i);
                    Value fits = k.sle(index.load(k, before), own);
                    k.ifThen(k.eq(k.addi(i, k.i64(1)), wanted),
                             [&] { k.storeScalar(own, last); });
                    Value isUnused = k.sle(wanted, i);
                    Value holds =
                        k.noti(k.andi(k.noti(fits), k.noti(isUnused)));
                    return SmallVector<Value>{k.andi(state[0], holds)};
                  })
            .front();
    k.storeScalar(sample, sampleAt(thread));
    Value isRight = k.barrierAll(k.andi(inOrder, k.sle(least, lowest)));
    // Of no index, nothing was stored, and nothing counts anyway.
    Value highest = k.loadScalar(last, k.getI64Type());
    Value isPast = k.barrierAll(k.sle(most, highest));
    isRight = k.andi(isRight, k.noti(isPast));
    return k.select(isRight, wanted, k.i64(0));
  }

  /// Samples of the indices in shared memory are this far apart.
  Value sampleStep() {
    KernelBuilder &k = *kernel;
    return k.maxsi(tilesOf(k.parameter(numSelected)), k.i64(1));
  }
  Value sampleAt(Value number) {
    KernelBuilder &k = *kernel;
    return k.byteOffset(samples, k.muli(number, k.i64(8)));
  }

  /// How many of the first `used` indices are below a start: among the samples,
  /// then among those between two.
  Value countBelow(Value start, Value used) {
    KernelBuilder &k = *kernel;
    Value step = sampleStep();
    Value count = k.countFirst(kThreads, [&](Value sample) {
      Value isUsed = k.slt(k.muli(k.extui64(sample), step), used);
      Value place = k.byteOffset(samples, k.muli(sample, k.i32(8)));
      Value number = k.loadScalar(place, k.getI64Type());
      return k.andi(isUsed, k.slt(number, start));
    });
    // Those behind the last sample that is below.
    Value end = k.minsi(k.muli(count, step), used);
    Value first = k.maxsi(
        k.addi(k.muli(k.subi(count, k.i64(1)), step), k.i64(1)), k.i64(0));
    return k.searchFirst(k.minsi(first, end), end, [&](Value i) {
      return k.sle(start, index.load(k, i));
    });
  }

  /// The starts of a tile: how many of the indices are below each.
  void emitStarts(KernelRequests &requests, KernelRequests::Loaded ready,
                  Value first, Value used) {
    KernelBuilder &k = *kernel;
    requests.forTiles(
        ready, {}, [&](const KernelRequests::Tile &tile, ValueRange) {
          Value r = k.addi(first, thread);
          Value writes =
              k.andi(k.eq(tile.first, first), k.slt(r, k.parameter(numStarts)));
          k.ifThen(writes, [&] {
            Value start = tile.start(k, thread);
            startsOut.store(k, countBelow(start, used), r);
          });
          return SmallVector<Value>();
        });
  }

  void emitPosition(KernelRequests &requests, KernelRequests::Loaded ready,
                    Value i, Value used) {
    KernelBuilder &k = *kernel;
    Value isUsed = k.slt(i, used);
    Value row = entryIf(i, isUsed);
    KernelRequests::Found found;
    if (!batch->type.hasPositions())
      found = requests.find(ready, row);
    Value position = requests.position(row, found);
    // The number next to it that an entry has room for is as far away.
    if (positionsOut.type.isInteger(32))
      position = k.minsi(k.maxsi(position, k.i64(INT32_MIN)), k.i64(INT32_MAX));
    position = k.select(isUsed, position, k.i64(-1));
    k.ifThen(k.slt(i, k.parameter(numSelected)),
             [&] { positionsOut.store(k, position, i); });
  }

  /// Rows number `block`, `block + step` .. in groups as large as the threads
  /// have room for.
  void emitRows(const RowPair &pair, const RowShape &shape, Value block,
                Value step, Value used) {
    KernelBuilder &k = *kernel;
    // A block of this kernel has more threads than a short row needs.
    Value isBusy = k.ult(k.threadX(), k.i32(shape.threads));
    auto copyPart = [&](Value part) {
      RowThread place(k, shape, part);
      Value first =
          k.addi(k.muli(block, k.i64(shape.rows)), k.extui64(place.rowInBlock));
      k.forLoop(first, k.parameter(numSelected),
                k.muli(step, k.i64(shape.rows)), {}, [&](Value i, ValueRange) {
                  copyRow(pair, place, i, used);
                  return SmallVector<Value>();
                });
    };
    k.ifThen(isBusy, [&] {
      if (shape.parts > kMostUnrolled) {
        k.rolledForLoop(k.i32(0), k.i32(shape.parts), k.i32(1), {},
                        [&](Val part, const Vals &) -> Vals {
                          copyPart(part);
                          return {};
                        });
        return;
      }
      for (int64_t part = 0; part < shape.parts; ++part)
        copyPart(k.i32(part));
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
      loaded.push_back(k.loadIf(k.andiIfAny(isUsed, access.isThere),
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

  CodeBuilder &emit;
  SelectRowsOp op;
  KernelOperands operands;
  SmallVector<RowPair> pairs;
  std::optional<BatchParameters> batch;
  IntegerList index, valid, startsOut, positionsOut;
  unsigned numSelected, numStarts;
  Value selected, numStartsOnHost;
  std::optional<KernelBuilder> kernel;
  Value thread;        ///< i64
  Value samples, last; ///< indices in shared memory
};

struct SelectRowsOpLowering : BufferOpLowering<SelectRowsOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(SelectRowsOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    SelectKernel(emit, op, in).build();
  }
};

} // namespace

void kvcache::populateSelectRowsToGPU(TypeConverter &converter,
                                      RewritePatternSet &patterns) {
  patterns.add<SelectRowsOpLowering>(converter, patterns.getContext());
}
