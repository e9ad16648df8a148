// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Contraction.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace kvcache;

/// docs/kernels/linalg-cpu.md has the measurements behind these.
static constexpr int64_t kTileRows = 6; // rows of C in registers
static constexpr int64_t kFewRows =
    2; // the same, where one or two are left over
static constexpr int64_t kBlockK = 256;
static constexpr int64_t kRowUnroll =
    8; // rows, or columns, of B read side by side

ContractionEmitter::ContractionEmitter(LoopBuilder &b, const Contraction &match,
                                       ValueRange buffers)
    : b(b), match(match), extents(match.op.getNumLoops()),
      at(match.op.getNumLoops()),
      vector(VectorType::get({kLanes}, b.getF32Type())) {
  SmallVector<int64_t> known = match.op.getStaticLoopRanges();
  for (unsigned i : {A, B, C})
    buffer[i] = buffers[match.operandOf[i]];
  for (unsigned i : {A, B, C})
    for (auto [position, expr] : llvm::enumerate(match.maps[i].getResults())) {
      unsigned dim = cast<AffineDimExpr>(expr).getPosition();
      if (!extents[dim])
        extents[dim] =
            ShapedType::isDynamic(known[dim])
                ? b.val(memref::DimOp::create(b, buffer[i], position))
                : b.index(known[dim]);
    }
}

Value ContractionEmitter::outerExtent() const {
  Value product = b.index(1);
  for (unsigned dim : match.outer)
    product = b.muli(product, extents[dim]);
  return product;
}

void ContractionEmitter::setOuter(Value item) {
  for (unsigned dim : llvm::reverse(match.outer)) {
    at[dim] = b.remui(item, extents[dim]);
    item = b.divui(item, extents[dim]);
  }
}

SmallVector<Value> ContractionEmitter::indices(Operand operand, Value m,
                                               Value n, Value k) {
  SmallVector<Value> result;
  for (AffineExpr expr : match.maps[operand].getResults()) {
    unsigned dim = cast<AffineDimExpr>(expr).getPosition();
    result.push_back(dim == match.k               ? k
                     : dim == match.n             ? n
                     : match.m && dim == *match.m ? m
                                                  : at[dim]);
  }
  return result;
}

/// One element as f32, or `lanes` of them along the contiguous dimension.
Value ContractionEmitter::load(Operand operand, int64_t lanes, Value m, Value n,
                               Value k) {
  SmallVector<Value> where = indices(operand, m, n, k);
  if (lanes == 1)
    return b.toF32(memref::LoadOp::create(b, buffer[operand], where));
  Type element = match.types[operand].getElementType();
  auto type = VectorType::get({lanes}, element);
  return b.toF32(vector::LoadOp::create(b, type, buffer[operand], where));
}

void ContractionEmitter::store(Value value, Value m, Value n) {
  SmallVector<Value> where = indices(C, m, n, Value());
  if (isa<VectorType>(value.getType()))
    vector::StoreOp::create(b, value, buffer[C], where);
  else
    memref::StoreOp::create(b, value, buffer[C], where);
}

Value ContractionEmitter::splat(Value scalar) {
  return vector::BroadcastOp::create(b, vector, scalar);
}

Value ContractionEmitter::zero() {
  return arith::ConstantOp::create(b, b.getZeroAttr(vector));
}

Value ContractionEmitter::stackBuffer(ArrayRef<int64_t> shape) {
  return memref::AllocaOp::create(b, MemRefType::get(shape, b.getF32Type()),
                                  b.getI64IntegerAttr(64));
}

/// The sum of all lanes, by halves.
Value ContractionEmitter::sum(Value value) {
  for (int64_t lanes = kLanes / 2; lanes >= 1; lanes /= 2) {
    SmallVector<int64_t> low, high;
    for (int64_t i = 0; i < lanes; ++i) {
      low.push_back(i);
      high.push_back(i + lanes);
    }
    Value a = vector::ShuffleOp::create(b, value, value, low);
    Value c = vector::ShuffleOp::create(b, value, value, high);
    value = arith::AddFOp::create(b, a, c);
  }
  return vector::ExtractOp::create(b, value, 0);
}

//===----------------------------------------------------------------------===//
// One row
//===----------------------------------------------------------------------===//

void ContractionEmitter::emitSingleRow(Value item) {
  Value blocks = b.ceildivui(extents[match.n], b.index(match.rowChunk()));
  Value first = b.muli(b.remui(item, blocks), match.rowChunk());
  Value last = b.minui(b.addi(first, match.rowChunk()), extents[match.n]);
  setOuter(b.divui(item, blocks));
  Value row = b.index(0);
  if (match.contiguousDim(B) == match.k)
    emitRowAlong(row, first, last);
  else
    emitRowAcross(row, first, last);
}

/// Adds multiples of a few rows of B at a time to the row of C, which stays in
/// the cache. Few, because each row is a stream for the prefetcher.
void ContractionEmitter::emitRowAcross(Value m, Value first, Value last) {
  bool contiguous = match.contiguousDim(B) == match.n;
  auto addRows = [&](Value k, int64_t count) {
    SmallVector<Value> scalars, splats, ks;
    for (int64_t i = 0; i < count; ++i) {
      ks.push_back(b.addi(k, i));
      scalars.push_back(load(A, 1, m, Value(), ks.back()));
      splats.push_back(splat(scalars.back()));
    }
    auto columns = [&](Value from, Value to, int64_t lanes) {
      b.forLoop(from, to, lanes, [&](Value n) {
        Value total = load(C, lanes, m, n, Value());
        for (int64_t i = 0; i < count; ++i)
          total = b.multiplyAdd(lanes == 1 ? scalars[i] : splats[i],
                                load(B, lanes, Value(), n, ks[i]), total);
        store(total, m, n);
      });
    };
    Value middle = first;
    if (contiguous) {
      middle = b.addi(first, b.floorTo(b.subi(last, first), kLanes));
      columns(first, middle, kLanes);
    }
    columns(middle, last, 1);
  };
  Value kMiddle = b.floorTo(extents[match.k], kRowUnroll);
  b.forLoop(b.index(0), kMiddle, kRowUnroll,
            [&](Value k) { addRows(k, kRowUnroll); });
  b.forLoop(kMiddle, extents[match.k], 1, [&](Value k) { addRows(k, 1); });
}

/// Dot products of the row with several columns at a time.
void ContractionEmitter::emitRowAlong(Value m, Value first, Value last) {
  bool vectorA = match.contiguousDim(A) == match.k;
  Value kEnd = extents[match.k];
  Value kMiddle = vectorA ? b.floorTo(kEnd, kLanes) : b.index(0);
  auto dots = [&](Value n, int64_t count) {
    SmallVector<Value> ns, totals(count);
    for (int64_t i = 0; i < count; ++i)
      ns.push_back(b.addi(n, i));
    if (vectorA) {
      SmallVector<Value> zeros(count, zero());
      totals = b.forLoop(
          b.index(0), kMiddle, kLanes, zeros, [&](Value k, ValueRange sums) {
            Value a = load(A, kLanes, m, Value(), k);
            SmallVector<Value> next;
            for (auto [n, sum] : llvm::zip_equal(ns, sums))
              next.push_back(
                  b.multiplyAdd(a, load(B, kLanes, Value(), n, k), sum));
            return next;
          });
    }
    for (auto [n, total] : llvm::zip_equal(ns, totals)) {
      Value old = load(C, 1, m, n, Value());
      total =
          vectorA ? arith::AddFOp::create(b, old, sum(total)).getResult() : old;
    }
    totals = b.forLoop(kMiddle, kEnd, 1, totals, [&](Value k, ValueRange sums) {
      Value a = load(A, 1, m, Value(), k);
      SmallVector<Value> next;
      for (auto [n, sum] : llvm::zip_equal(ns, sums))
        next.push_back(b.multiplyAdd(a, load(B, 1, Value(), n, k), sum));
      return next;
    });
    for (auto [n, total] : llvm::zip_equal(ns, totals))
      store(total, m, n);
  };
  constexpr int64_t columns = kRowUnroll / 2;
  Value middle = b.addi(first, b.floorTo(b.subi(last, first), columns));
  b.forLoop(first, middle, columns, [&](Value n) { dots(n, columns); });
  b.forLoop(middle, last, 1, [&](Value n) { dots(n, 1); });
}

//===----------------------------------------------------------------------===//
// Blocks of rows
//===----------------------------------------------------------------------===//

void ContractionEmitter::emitBlock(Value item) {
  Value blocks = b.ceildivui(extents[match.n], b.index(kBlockColumns));
  Value n0 = b.muli(b.remui(item, blocks), kBlockColumns);
  Value nEnd = b.minui(b.addi(n0, kBlockColumns), extents[match.n]);
  item = b.divui(item, blocks);
  Value rowBlocks = b.ceildivui(rowExtent(), b.index(kBlockRows));
  Value m0 = b.muli(b.remui(item, rowBlocks), kBlockRows);
  Value mEnd = b.minui(b.addi(m0, kBlockRows), rowExtent());
  setOuter(b.divui(item, rowBlocks));

  packedA = stackBuffer({kTileRows, kBlockK});
  // A line more per panel: equal offsets in all panels would share cache sets.
  packedB = stackBuffer({kBlockColumns / kLanes, kBlockK + 1, kLanes});
  b.forLoop(b.index(0), extents[match.k], kBlockK, [&](Value k0) {
    Value kEnd = b.minui(b.addi(k0, kBlockK), extents[match.k]);
    Value kLength = b.subi(kEnd, k0);
    if (match.contiguousDim(B) == match.k)
      packAlong(n0, nEnd, k0, kEnd);
    else
      packAcross(n0, nEnd, k0, kEnd);
    auto tile = [&](int64_t rows, bool clamp, Value m) {
      packRows(rows, clamp, m, mEnd, k0, kEnd);
      emitTile(rows, clamp, m, mEnd, n0, nEnd, kLength);
    };
    Value full = b.addi(m0, b.floorTo(b.subi(mEnd, m0), kTileRows));
    b.forLoop(m0, full, kTileRows, [&](Value m) { tile(kTileRows, false, m); });
    Value rest = b.subi(mEnd, full);
    auto isLess = [&](int64_t than, Value value) {
      return b.createOrFold<arith::CmpIOp>(arith::CmpIPredicate::ult,
                                           b.index(than), value);
    };
    b.ifThen(
        isLess(kFewRows, rest), [&] { tile(kTileRows, true, full); },
        [&] {
          b.ifThen(isLess(0, rest), [&] { tile(kFewRows, true, full); });
        });
  });
}

/// The rows of a tile. One past the end is the last one again: what it gives is
/// stored twice, and no other code is needed for the rows that are left over.
static SmallVector<Value> tileRows(LoopBuilder &b, int64_t rows, bool clamp,
                                   Value m0, Value mEnd) {
  SmallVector<Value> result;
  Value last = clamp ? b.subi(mEnd, b.index(1)) : Value();
  for (int64_t i = 0; i < rows; ++i) {
    Value m = b.addi(m0, i);
    result.push_back(clamp && i ? b.minui(m, last) : m);
  }
  return result;
}

void ContractionEmitter::packRows(int64_t rows, bool clamp, Value m0,
                                  Value mEnd, Value k0, Value kEnd) {
  SmallVector<Value> ms = tileRows(b, rows, clamp, m0, mEnd);
  auto copy = [&](Value from, Value to, int64_t lanes) {
    b.forLoop(from, to, lanes, [&](Value k) {
      for (auto [i, m] : llvm::enumerate(ms)) {
        Value value = load(A, lanes, m, Value(), k);
        SmallVector<Value> where = {b.index(i), b.subi(k, k0)};
        if (lanes == 1)
          memref::StoreOp::create(b, value, packedA, where);
        else
          vector::StoreOp::create(b, value, packedA, where);
      }
    });
  };
  Value middle = k0;
  if (match.contiguousDim(A) == match.k) {
    middle = b.addi(k0, b.floorTo(b.subi(kEnd, k0), kLanes));
    copy(k0, middle, kLanes);
  }
  copy(middle, kEnd, 1);
}

/// Panels of a B that lies with n innermost, or any other way.
void ContractionEmitter::packAcross(Value n0, Value nEnd, Value k0,
                                    Value kEnd) {
  // A loop of vectors must not be there either where there are none.
  bool contiguous = match.contiguousDim(B) == match.n;
  Value middle =
      contiguous ? b.addi(n0, b.floorTo(b.subi(nEnd, n0), kLanes)) : n0;
  Value last = b.subi(nEnd, b.index(1));
  Value padded = b.addi(
      n0, b.muli(b.ceildivui(b.subi(nEnd, n0), b.index(kLanes)), kLanes));
  b.forLoop(k0, kEnd, 1, [&](Value k) {
    auto panelOf = [&](Value n) {
      return b.divui(b.subi(n, n0), b.index(kLanes));
    };
    auto packPanel = [&](Value n) {
      SmallVector<Value> where = {panelOf(n), b.subi(k, k0), b.index(0)};
      vector::StoreOp::create(b, load(B, kLanes, Value(), n, k), packedB,
                              where);
    };
    if (contiguous)
      b.forLoop(n0, middle, kLanes, packPanel);
    // Lanes past the end get the last column again; they are never stored.
    b.forLoop(middle, padded, 1, [&](Value n) {
      SmallVector<Value> where = {panelOf(n), b.subi(k, k0),
                                  b.remui(b.subi(n, n0), b.index(kLanes))};
      memref::StoreOp::create(b, load(B, 1, Value(), b.minui(n, last), k),
                              packedB, where);
    });
  });
}

/// Eight columns by eight, transposed in registers on the way to the panel.
void ContractionEmitter::transpose8x8(Value panel, Value lane, Value n,
                                      Value nLast, Value k, Value k0) {
  SmallVector<Value> rows;
  for (int64_t i = 0; i < 8; ++i)
    rows.push_back(load(B, 8, Value(), b.minui(b.addi(n, i), nLast), k));
  // Pairs, then fours, within each half of a register; the halves last, as it
  // is they that are slow to cross.
  static constexpr int64_t steps[3][2][8] = {
      {{0, 8, 1, 9, 4, 12, 5, 13}, {2, 10, 3, 11, 6, 14, 7, 15}},
      {{0, 1, 8, 9, 4, 5, 12, 13}, {2, 3, 10, 11, 6, 7, 14, 15}},
      {{0, 1, 2, 3, 8, 9, 10, 11}, {4, 5, 6, 7, 12, 13, 14, 15}}};
  for (int64_t step = 0; step < 3; ++step) {
    SmallVector<Value> next(8);
    int64_t distance = 1 << step;
    for (int64_t i = 0; i < 8; ++i) {
      if (i & distance)
        continue;
      for (int64_t half : {0, 1})
        next[i + half * distance] = vector::ShuffleOp::create(
            b, rows[i], rows[i + distance], steps[step][half]);
    }
    rows = next;
  }
  // The order in which the steps leave the columns.
  static constexpr int64_t order[8] = {0, 2, 1, 3, 4, 6, 5, 7};
  for (int64_t i = 0; i < 8; ++i) {
    SmallVector<Value> where = {panel, b.addi(b.subi(k, k0), order[i]), lane};
    vector::StoreOp::create(b, rows[i], packedB, where);
  }
}

/// Panels of a B that lies with k innermost.
void ContractionEmitter::packAlong(Value n0, Value nEnd, Value k0, Value kEnd) {
  Value last = b.subi(nEnd, b.index(1));
  Value middle = b.addi(k0, b.floorTo(b.subi(kEnd, k0), 8));
  Value padded = b.addi(
      n0, b.muli(b.ceildivui(b.subi(nEnd, n0), b.index(kLanes)), kLanes));
  b.forLoop(n0, padded, 8, [&](Value n) {
    Value panel = b.divui(b.subi(n, n0), b.index(kLanes));
    Value lane = b.remui(b.subi(n, n0), b.index(kLanes));
    b.forLoop(k0, middle, 8,
              [&](Value k) { transpose8x8(panel, lane, n, last, k, k0); });
    b.forLoop(middle, kEnd, 1, [&](Value k) {
      for (int64_t i = 0; i < 8; ++i) {
        Value value = load(B, 1, Value(), b.minui(b.addi(n, i), last), k);
        SmallVector<Value> where = {panel, b.subi(k, k0), b.addi(lane, i)};
        memref::StoreOp::create(b, value, packedB, where);
      }
    });
  });
}

void ContractionEmitter::emitTile(int64_t rows, bool clamp, Value m0,
                                  Value mEnd, Value n0, Value nEnd,
                                  Value kLength) {
  SmallVector<Value> ms = tileRows(b, rows, clamp, m0, mEnd);
  Value middle = b.addi(n0, b.floorTo(b.subi(nEnd, n0), kLanes));
  auto panelOf = [&](Value n) {
    return b.divui(b.subi(n, n0), b.index(kLanes));
  };
  b.forLoop(n0, middle, kLanes, [&](Value n) {
    emitTilePanel(ms, panelOf(n), n, kLength, Value());
  });
  int64_t columns = match.op.getStaticLoopRanges()[match.n];
  if (!ShapedType::isDynamic(columns) && columns % kLanes == 0)
    return;
  b.forLoop(middle, nEnd, kLanes, [&](Value n) {
    auto laneType = VectorType::get({kLanes}, b.getI32Type());
    SmallVector<int32_t> lanes = llvm::to_vector(llvm::seq<int32_t>(0, kLanes));
    Value left = arith::IndexCastOp::create(b, b.getI32Type(), b.subi(nEnd, n));
    Value mask = arith::CmpIOp::create(
        b, arith::CmpIPredicate::slt,
        arith::ConstantOp::create(
            b, DenseElementsAttr::get(laneType, ArrayRef<int32_t>(lanes))),
        vector::BroadcastOp::create(b, laneType, left));
    emitTilePanel(ms, panelOf(n), n, kLength, mask);
  });
}

void ContractionEmitter::emitTilePanel(ArrayRef<Value> ms, Value panel, Value n,
                                       Value kLength, Value mask) {
  SmallVector<Value> init;
  for (Value m : ms) {
    SmallVector<Value> where = indices(C, m, n, Value());
    if (mask)
      init.push_back(vector::MaskedLoadOp::create(b, vector, buffer[C], where,
                                                  mask, zero()));
    else
      init.push_back(vector::LoadOp::create(b, vector, buffer[C], where));
  }
  SmallVector<Value> sums =
      b.forLoop(b.index(0), kLength, 1, init, [&](Value k, ValueRange sums) {
        SmallVector<Value> next;
        Value right = vector::LoadOp::create(b, vector, packedB,
                                             ValueRange{panel, k, b.index(0)});
        for (auto [i, sum] : llvm::enumerate(sums)) {
          Value left =
              memref::LoadOp::create(b, packedA, ValueRange{b.index(i), k});
          next.push_back(b.multiplyAdd(splat(left), right, sum));
        }
        return next;
      });
  for (auto [m, sum] : llvm::zip_equal(ms, sums)) {
    SmallVector<Value> where = indices(C, m, n, Value());
    if (mask)
      vector::MaskedStoreOp::create(b, buffer[C], where, mask, sum);
    else
      vector::StoreOp::create(b, sum, buffer[C], where);
  }
}
