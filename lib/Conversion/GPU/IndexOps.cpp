// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// slot_mapping, map_blocks, block_slots and csr_table: one thread for each
// number that is written.
//
//===----------------------------------------------------------------------===//

#include "../Common/CacheLowering.h"
#include "../Common/CodeBuilder.h"
#include "Patterns.h"
#include "Requests.h"

using namespace mlir;
using namespace kvcache;

namespace {

constexpr int64_t kThreads = 256;
/// The starts of 256 requests, which are 257, are one tile.
constexpr int64_t kRequestThreads = 512;
/// The most that a grid has in its second dimension.
constexpr int64_t kMostGridY = 65535;

/// The number of the thread in its row of the grid, as i64.
Value threadNumber(KernelBuilder &k, int64_t threads = kThreads) {
  return k.addi(k.muli(k.extui64(k.blockX()), k.i64(threads)),
                k.extui64(k.threadX()));
}

/// Launches a kernel with a thread for each of `count`, if there is any.
void launch(CodeBuilder &emit, KernelBuilder &k, Value count, Value rows,
            const KernelOperands &operands, int64_t threads = kThreads) {
  Value any =
      emit.andi(emit.slt(emit.index(0), count), emit.slt(emit.index(0), rows));
  emit.ifThen(any, [&](CodeBuilder &e) {
    emitLaunch(e, e.getLoc(), k.symbol(), e.ceildivui(count, threads),
               e.minsi(rows, e.index(kMostGridY)), Value(), threads, operands);
  });
}

struct SlotMappingOpLowering : BufferOpLowering<SlotMappingOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(SlotMappingOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    Value out = in[op.getOut()];
    KernelOperands operands(emit, emit.getLoc());
    BatchValue parts = in[op.getBatch()];
    Value rows = emit.dim(out, 0);
    BatchParameters batch(emit, emit.getLoc(), operands, parts, rows);
    IntegerList list = IntegerList::get(operands, out);
    unsigned sink = op.getSink() ? operands.addIndex(in[op.getSink()]) : 0;
    int64_t tokens = batch.type.getTokens();

    KernelBuilder k(op->getParentOfType<ModuleOp>(), emit.getLoc(),
                    "slot_mapping", operands.types(), kRequestThreads);
    KernelRequests requests(k, batch, kRequestThreads);
    Value row = threadNumber(k, kRequestThreads);
    KernelRequests::Found found = requests.find(requests.load(k.i64(0)), row);
    Value isRow = k.slt(row, k.parameter(batch.rows));
    Value isIn = k.andi(isRow, k.sle(k.i64(0), found.request));
    Value position = requests.position(row, found);
    isIn = k.andi(isIn, k.ult(position, found.length));
    Value at = k.addi(k.muli(found.request, k.parameter(batch.rowStride)),
                      k.divui(position, tokens));
    Value block = k.loadEntryIf(isIn, k.parameter(batch.table.pointer), at,
                                batch.table.type);
    Value padding = k.i64(-1);
    if (op.getSink())
      padding = list.partOf(k, k.parameter(sink), tokens, k.remui(row, tokens),
                            padding);
    Value slot =
        list.partOf(k, block, tokens, k.remui(position, tokens), padding);
    slot = k.select(isIn, slot, padding);
    k.ifThen(isRow, [&] { list.store(k, slot, row); });
    k.finish();
    launch(emit, k, rows, emit.index(1), operands, kRequestThreads);
  }
};

/// out[r, j * factor + i] = numbers[r, j] * factor + i, and -1 for a number
/// that is negative or has no room, of lists or matrices.
void emitExpansion(CodeBuilder &emit, Operation *op, StringRef name,
                   Value numbers, Value out, int64_t factor) {
  KernelOperands operands(emit, emit.getLoc());
  auto type = cast<MemRefType>(out.getType());
  bool isMatrix = type.getRank() == 2;
  unsigned last = isMatrix ? 1 : 0;
  IntegerList from = IntegerList::get(operands, numbers);
  IntegerList to = IntegerList::get(operands, out);
  Value columns = emit.minsi(emit.dim(numbers, last),
                             emit.divui(emit.dim(out, last), factor));
  Value count = emit.muli(columns, factor);
  unsigned end = operands.addIndex(count);
  Value rows = isMatrix ? emit.minsi(emit.dim(numbers, 0), emit.dim(out, 0))
                        : emit.index(1);
  unsigned rowCount = 0, fromStride = 0, toStride = 0;
  if (isMatrix) {
    auto strideOf = [&](Value memref) {
      return memref::ExtractStridedMetadataOp::create(emit, memref)
          .getStrides()[0];
    };
    rowCount = operands.addIndex(rows);
    fromStride = operands.addIndex(strideOf(numbers));
    toStride = operands.addIndex(strideOf(out));
  }
  KernelBuilder k(op->getParentOfType<ModuleOp>(), emit.getLoc(), name,
                  operands.types(), kThreads);
  Value entry = threadNumber(k);
  auto expand = [&](Value source, Value target) {
    Value number = from.load(k, k.addi(source, k.divui(entry, factor)));
    Value part =
        to.partOf(k, number, factor, k.remui(entry, factor), k.i64(-1));
    to.store(k, part, k.addi(target, entry));
  };
  k.ifThen(k.slt(entry, k.parameter(end)), [&] {
    if (!isMatrix)
      return expand(k.i64(0), k.i64(0));
    k.forLoop(k.extui64(k.blockY()), k.parameter(rowCount),
              k.extui64(k.gridY()), {}, [&](Value row, ValueRange) {
                expand(k.muli(row, k.parameter(fromStride)),
                       k.muli(row, k.parameter(toStride)));
                return SmallVector<Value>();
              });
  });
  k.finish();
  launch(emit, k, count, rows, operands);
}

struct MapBlocksOpLowering : BufferOpLowering<MapBlocksOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(MapBlocksOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    emitExpansion(emit, op, "map_blocks", in[op.getBlocks()], in[op.getOut()],
                  op.getRatio());
  }
};

struct BlockSlotsOpLowering : BufferOpLowering<BlockSlotsOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(BlockSlotsOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    emitExpansion(emit, op, "block_slots", in[op.getBlocks()], in[op.getOut()],
                  op.getTokens());
  }
};

struct CsrTableOpLowering : BufferOpLowering<CsrTableOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(CsrTableOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    KernelOperands operands(emit, emit.getLoc());
    Value table = in[op.getTable()];
    IntegerList indptr = IntegerList::get(operands, in[op.getIndptr()]);
    IntegerList indices = IntegerList::get(operands, in[op.getIndices()]);
    IntegerList to = IntegerList::get(operands, table);
    Value requests = emit.maxsi(emit.addi(emit.dim(in[op.getIndptr()], 0), -1),
                                emit.index(0));
    requests = emit.minsi(requests, emit.dim(table, 0));
    Value columns = emit.dim(table, 1);
    unsigned columnCount = operands.addIndex(columns);
    unsigned listed = operands.addIndex(emit.dim(in[op.getIndices()], 0));
    StrideSource stride = operands.addStrideOf(table, 0);
    IntegerList last, lengths;
    if (op.getLast()) {
      last = IntegerList::get(operands, in[op.getLast()]);
      lengths = IntegerList::get(operands, in[op.getLengths()]);
      for (Value list : {in[op.getLast()], in[op.getLengths()]})
        requests = emit.minsi(requests, emit.dim(list, 0));
      columns = emit.maxsi(columns, emit.index(1));
    }
    unsigned rowCount = operands.addIndex(requests);

    KernelBuilder k(op->getParentOfType<ModuleOp>(), emit.getLoc(), "csr_table",
                    operands.types(), kThreads);
    Val column(k, threadNumber(k));
    k.forLoop(
        k.extui64(k.blockY()), k.parameter(rowCount), k.extui64(k.gridY()), {},
        [&](Value row, ValueRange) {
          Val end = k.parameter(listed);
          auto within = [&](Value place) {
            return max(min(Val(k, indptr.load(k, place)), end), 0);
          };
          Val first = within(row);
          Val blocks = max(within(k.addi(row, k.i64(1))) - first, 0);
          k.ifThen(column < k.parameter(columnCount), [&] {
            Value block =
                k.loadEntryIf(column < blocks, k.parameter(indices.pointer),
                              first + column, indices.type);
            block = k.select(column < blocks, block, k.i64(-1));
            to.store(k, block, column + Val(k, row) * k.stride(stride, 1));
          });
          if (op.getLast())
            k.ifThen(column == 0, [&] {
              int64_t tokens = *op.getTokens();
              Val token = max(min(Val(k, last.load(k, row)), tokens), 1) - 1;
              Val number(
                  k, lengths.partOf(k, blocks - 1, tokens, token, k.i64(-1)));
              // The number of the last token fits where it is not -1, and the
              // next one may not.
              int64_t most = lengths.type.isInteger(32)
                                 ? std::numeric_limits<int32_t>::max()
                                 : std::numeric_limits<int64_t>::max();
              Val length = k.select(number < k.i64(most), number + 1, k.i64(0));
              lengths.store(k, length, row);
            });
          return SmallVector<Value>();
        });
    k.finish();
    launch(emit, k, columns, requests, operands);
  }
};

} // namespace

void kvcache::populateIndexOpsToGPU(TypeConverter &converter,
                                    RewritePatternSet &patterns) {
  patterns.add<BlockSlotsOpLowering, CsrTableOpLowering, MapBlocksOpLowering,
               SlotMappingOpLowering>(converter, patterns.getContext());
}
