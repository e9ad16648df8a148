// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "../Common/CacheLowering.h"
#include "Patterns.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace kvcache;

namespace {

/// Emits index arithmetic at one location.
struct Emitter {
  OpBuilder &builder;
  Location loc;

  Value constant(int64_t n) const { return indexConstant(builder, loc, n); }
  Value add(Value a, Value b) const {
    return builder.createOrFold<arith::AddIOp>(loc, a, b);
  }
  Value mul(Value a, Value b) const {
    return builder.createOrFold<arith::MulIOp>(loc, a, b);
  }
  /// a + b * factor
  Value addMul(Value a, Value b, int64_t factor) const {
    return add(a, mul(b, constant(factor)));
  }
};

/// The elements of a strided memref as one dimension, to be addressed by
/// offset. Its length is the most that a layout can span.
Value flatten(const Emitter &emit, Value buffer, Type elementType) {
  Value length = emit.constant(Layout::kMaxSpan);
  auto type = MemRefType::get({ShapedType::kDynamic}, elementType);
  return memref::ReinterpretCastOp::create(
      emit.builder, emit.loc, type, buffer,
      OpFoldResult(emit.builder.getIndexAttr(0)), OpFoldResult(length),
      OpFoldResult(emit.builder.getIndexAttr(1)));
}

/// Copies `elements` contiguous elements in vectors of at most 64 bytes; what
/// is left over at the end goes in ever smaller powers of two.
void emitRunCopy(const Emitter &emit, Value from, Value fromOffset, Value to,
                 Value toOffset, int64_t elements) {
  auto type = cast<MemRefType>(from.getType());
  int64_t bytes = type.getElementType().getIntOrFloatBitWidth() / 8;
  auto move = [&](OpBuilder &b, Value at, int64_t lanes) {
    Emitter inner{b, emit.loc};
    auto vector = VectorType::get({lanes}, type.getElementType());
    Value loaded = vector::LoadOp::create(b, emit.loc, vector, from,
                                          inner.add(fromOffset, at));
    vector::StoreOp::create(b, emit.loc, loaded, to, inner.add(toOffset, at));
  };
  int64_t lanes = 64 / bytes;
  int64_t done = elements / lanes * lanes;
  if (done == lanes) {
    move(emit.builder, emit.constant(0), lanes);
  } else if (done) {
    scf::ForOp::create(emit.builder, emit.loc, emit.constant(0),
                       emit.constant(done), emit.constant(lanes), ValueRange(),
                       [&](OpBuilder &b, Location l, Value at, ValueRange) {
                         move(b, at, lanes);
                         scf::YieldOp::create(b, l);
                       });
  }
  while (done < elements) {
    while (lanes > elements - done)
      lanes /= 2;
    move(emit.builder, emit.constant(done), lanes);
    done += lanes;
  }
}

struct IndexCopyOpLowering : OpConversionPattern<IndexCopyOp> {
  using OpConversionPattern::OpConversionPattern;

  LogicalResult
  matchAndRewrite(IndexCopyOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    if (!llvm::all_of(adaptor.getRows().getTypes(), llvm::IsaPred<MemRefType>))
      return rewriter.notifyMatchFailure(op, "the rows are still tensors");
    Emitter emit{rewriter, op.getLoc()};
    CacheType type = op.getCacheType();
    CacheParts cache(rewriter, emit.loc, type, adaptor.getCache());
    RowPlan plan(type);
    Value pool = flatten(emit, cache.buffer, type.getElementType());
    SmallVector<Value> rows, rowStrides, rowOffsets;
    for (Value row : adaptor.getRows()) {
      auto metadata =
          memref::ExtractStridedMetadataOp::create(rewriter, emit.loc, row);
      rows.push_back(
          flatten(emit, metadata.getBaseBuffer(), type.getElementType()));
      rowStrides.push_back(metadata.getStrides()[0]);
      rowOffsets.push_back(metadata.getOffset());
    }
    Value count =
        emitRowCount(rewriter, emit.loc, adaptor.getRows(), adaptor.getSlots());
    Value capacity = cache.numSlots(rewriter, emit.loc);

    scf::ForOp::create(
        rewriter, emit.loc, emit.constant(0), count, emit.constant(1),
        ValueRange(), [&](OpBuilder &b, Location loc, Value token, ValueRange) {
          Value slot =
              memref::LoadOp::create(b, loc, adaptor.getSlots(), token);
          slot = arith::IndexCastOp::create(b, loc, b.getIndexType(), slot);
          // Unsigned: one comparison drops negative slots and those past the
          // last block.
          Value live = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult,
                                             slot, capacity);
          scf::IfOp::create(b, loc, live, [&](OpBuilder &b, Location loc) {
            emitRows(Emitter{b, loc}, cache, plan, slot, token, pool, rows,
                     rowStrides, rowOffsets);
            scf::YieldOp::create(b, loc);
          });
          scf::YieldOp::create(b, loc);
        });
    rewriter.eraseOp(op);
    return success();
  }

private:
  static void emitRows(const Emitter &emit, const CacheParts &cache,
                       const RowPlan &plan, Value slot, Value token, Value pool,
                       ArrayRef<Value> rows, ArrayRef<Value> rowStrides,
                       ArrayRef<Value> rowOffsets) {
    OpBuilder &b = emit.builder;
    const Layout &layout = cache.type.getLayout();
    Value base = cache.offset;
    if (layout.isFlat()) {
      base = emit.add(base, emit.mul(slot, cache.stride(AxisKind::Token)));
    } else {
      Value tokens = cache.extent(AxisKind::Token);
      Value block = arith::DivUIOp::create(b, emit.loc, slot, tokens);
      Value inBlock = arith::RemUIOp::create(b, emit.loc, slot, tokens);
      base = emit.add(base, emit.mul(block, cache.stride(AxisKind::Block)));
      base = emit.add(base, emit.mul(inBlock, cache.stride(AxisKind::Token)));
    }
    for (auto [side, row] : llvm::enumerate(rows)) {
      Value to = base;
      if (side)
        to = emit.add(to, cache.stride(AxisKind::Side));
      Value from =
          emit.add(rowOffsets[side], emit.mul(token, rowStrides[side]));
      emitPieces(emit, cache, plan, plan.axes, row, from, pool, to);
    }
  }

  /// A loop over each axis that is not part of the run.
  static void emitPieces(const Emitter &emit, const CacheParts &cache,
                         const RowPlan &plan, ArrayRef<RowPlan::PieceAxis> axes,
                         Value row, Value from, Value pool, Value to) {
    if (axes.empty())
      return emitRunCopy(emit, row, from, pool, to, plan.run.elements);
    RowPlan::PieceAxis axis = axes.front();
    scf::ForOp::create(
        emit.builder, emit.loc, emit.constant(0), emit.constant(axis.extent),
        emit.constant(1), ValueRange(),
        [&](OpBuilder &b, Location loc, Value i, ValueRange) {
          Emitter body{b, loc};
          Value toHere = body.add(to, body.mul(i, cache.strides[axis.index]));
          emitPieces(body, cache, plan, axes.drop_front(), row,
                     body.addMul(from, i, axis.rowStride), pool, toHere);
          scf::YieldOp::create(b, loc);
        });
  }
};

} // namespace

void kvcache::populateIndexCopyToLoops(TypeConverter &converter,
                                       RewritePatternSet &patterns) {
  patterns.add<IndexCopyOpLowering>(converter, patterns.getContext());
}
