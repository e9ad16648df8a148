// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "X86Tiles.h"

#include "mlir/Dialect/AMX/AMXDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

static Type halvesTile(CodeBuilder &emit) {
  return amx::TileType::get({x86::kTileRows, x86::kTileDepth},
                            emit.getBF16Type());
}
static Type floatsTile(CodeBuilder &emit) {
  return amx::TileType::get({x86::kTileRows, x86::kTileRows},
                            emit.getF32Type());
}

static Value loadTile(CodeBuilder &emit, Type type,
                      const x86::TileMatrix &matrix, Value row, Value column) {
  Value at = emit.addMul(column, row, matrix.stride);
  return amx::TileLoadOp::create(emit, type, matrix.memref, ValueRange{at},
                                 emit.index(matrix.stride));
}

/// As `multiplyBlock` for `depth` summands from `k` on, in code without loops.
/// No tile is alive in two blocks of code: without optimizations, LLVM fails on
/// those.
static void multiplyPanel(CodeBuilder &emit, const x86::TileMatrix &sums,
                          const x86::TileMatrix &a, const x86::TileMatrix &b,
                          Value row, Value column, int64_t columnTiles, Value k,
                          int64_t depth, bool accumulate) {
  constexpr int64_t kRowTiles = x86::kBlockRows / x86::kTileRows;
  Type halves = halvesTile(emit), floats = floatsTile(emit);
  Values rows, columns, acc;
  for (int64_t m = 0; m < kRowTiles; ++m)
    rows.push_back(emit.addi(row, m * x86::kTileRows));
  for (int64_t n = 0; n < columnTiles; ++n)
    columns.push_back(emit.addi(column, n * x86::kTileRows));
  for (Value m : rows)
    for (Value n : columns) {
      Value start;
      if (accumulate)
        start = loadTile(emit, floats, sums, m, n);
      else
        start = amx::TileZeroOp::create(emit, floats);
      acc.push_back(start);
    }
  for (int64_t step = 0; step < depth; step += x86::kTileDepth) {
    Value at = emit.addi(k, step);
    Values right;
    for (Value n : columns)
      right.push_back(
          loadTile(emit, halves, b, emit.divui(at, 2), emit.muli(n, 2)));
    for (int64_t m = 0; m < kRowTiles; ++m) {
      Value left = loadTile(emit, halves, a, rows[m], at);
      for (int64_t n = 0; n < columnTiles; ++n) {
        Value &sum = acc[m * columnTiles + n];
        sum = amx::TileMulFOp::create(emit, floats, left, right[n], sum);
      }
    }
  }
  for (int64_t m = 0; m < kRowTiles; ++m)
    for (int64_t n = 0; n < columnTiles; ++n) {
      Value at = emit.addMul(columns[n], rows[m], sums.stride);
      amx::TileStoreOp::create(emit, sums.memref, ValueRange{at},
                               acc[m * columnTiles + n],
                               emit.index(sums.stride));
    }
}

void x86::multiplyBlock(CodeBuilder &emit, const TileMatrix &sums,
                        const TileMatrix &a, const TileMatrix &b, Value row,
                        Value column, int64_t columnTiles, int64_t depth,
                        bool accumulate) {
  // Code of bounded length.
  constexpr int64_t kPanel = 8 * kTileDepth;
  int64_t first = std::min(depth, kPanel), whole = depth / kPanel * kPanel;
  multiplyPanel(emit, sums, a, b, row, column, columnTiles, emit.index(0),
                first, accumulate);
  if (first == depth)
    return;
  emit.forLoop(emit.index(first), emit.index(whole), kPanel,
               [&](CodeBuilder &e, Value k) {
                 multiplyPanel(e, sums, a, b, row, column, columnTiles, k,
                               kPanel, /*accumulate=*/true);
               });
  if (whole < depth)
    multiplyPanel(emit, sums, a, b, row, column, columnTiles, emit.index(whole),
                  depth - whole, /*accumulate=*/true);
}

/// 16 lanes of two vectors of 16.
static Value shuffle(CodeBuilder &emit, Value a, Value b,
                     function_ref<int64_t(int64_t)> source) {
  SmallVector<int64_t> mask;
  for (int64_t lane = 0; lane < 16; ++lane)
    mask.push_back(source(lane));
  return vector::ShuffleOp::create(emit, a, b, mask);
}

Values x86::transpose(CodeBuilder &emit, Values rows) {
  constexpr int64_t kLanes = 16, kGroup = 4;
  // Within groups of four lanes, each `unit` lanes of one vector and then of
  // the other one: first those of the lower half of the group.
  auto interleave = [&](Value a, Value b, int64_t unit, int64_t half) {
    return shuffle(emit, a, b, [&](int64_t lane) {
      int64_t group = lane / kGroup * kGroup, at = lane % kGroup;
      int64_t from = at / unit % 2 ? kLanes : 0;
      return from + group + half * 2 + at / (2 * unit) * unit + at % unit;
    });
  };
  // The even or the odd groups of one vector, then of the other one.
  auto groups = [&](Value a, Value b, int64_t odd) {
    return shuffle(emit, a, b, [&](int64_t lane) {
      int64_t from = lane < kLanes / 2 ? 0 : kLanes;
      int64_t group = lane % (kLanes / 2) / kGroup * 2 + odd;
      return from + group * kGroup + lane % kGroup;
    });
  };
  Values pairs(kLanes), fours(kLanes), columns(kLanes);
  for (int64_t i = 0; i < kLanes; i += 2)
    for (int64_t half = 0; half < 2; ++half)
      pairs[i + half] = interleave(rows[i], rows[i + 1], 1, half);
  // Of rows 4g .. 4g+3, fours[4g + j] has column j of each group of columns.
  for (int64_t g = 0; g < kLanes; g += kGroup)
    for (int64_t j = 0; j < kGroup; ++j)
      fours[g + j] =
          interleave(pairs[g + j / 2], pairs[g + 2 + j / 2], 2, j % 2);
  for (int64_t j = 0; j < kGroup; ++j)
    for (int64_t odd = 0; odd < 2; ++odd) {
      Value low = groups(fours[j], fours[4 + j], odd);
      Value high = groups(fours[8 + j], fours[12 + j], odd);
      columns[4 * odd + j] = groups(low, high, 0);
      columns[4 * odd + 8 + j] = groups(low, high, 1);
    }
  return columns;
}

Value x86::pairsOf(CodeBuilder &emit, Value low, Value high) {
  constexpr int64_t kHalves = 32;
  Type halves = VectorType::get({kHalves}, emit.getBF16Type());
  Value both = LLVM::CallIntrinsicOp::create(
                   emit, halves,
                   emit.getStringAttr("llvm.x86.avx512bf16.cvtne2ps2bf16.512"),
                   ValueRange{high, low})
                   .getResult(0);
  auto cast = [&](Value x, int64_t lanes, Type element) -> Value {
    return vector::BitCastOp::create(emit, VectorType::get({lanes}, element),
                                     x);
  };
  both = cast(both, kHalves, emit.getI16Type());
  SmallVector<int64_t> mask;
  for (int64_t i = 0; i < kHalves; ++i)
    mask.push_back(i / 2 + i % 2 * (kHalves / 2));
  both = vector::ShuffleOp::create(emit, both, both, mask);
  return cast(both, kHalves / 2, emit.getI32Type());
}
