// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products of matrices of bf16 by the tiles of an x86 with AMX, and the vectors
// that make such matrices. For a target that has `amx_bf16`.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_CPU_X86TILES_H
#define KVCACHE_LIB_CONVERSION_CPU_X86TILES_H

#include "Lanes.h"

namespace kvcache::cpu::x86 {

/// A tile has so many rows of 64 bytes.
constexpr int64_t kTileRows = 16;
/// bf16 of a row: so many summands of a product of tiles.
constexpr int64_t kTileDepth = 32;
/// Rows and columns of the part of a product that stays in the eight tiles of a
/// CPU, two by two.
constexpr int64_t kBlockRows = 2 * kTileRows;

/// A matrix in a packed buffer, of which tiles are loaded.
struct TileMatrix {
  mlir::Value memref;
  int64_t stride; ///< elements from one row to the next
};

/// sums[row][column] (+)= sum over k of a[row][k] * b[k / 2][2 * column + k %
/// 2], for 32 rows and 16 * `columnTiles` columns from `row` and `column` on.
/// `depth` is a multiple of 32. Without `accumulate`, the sums begin with 0.
void multiplyBlock(CodeBuilder &emit, const TileMatrix &sums,
                   const TileMatrix &a, const TileMatrix &b, mlir::Value row,
                   mlir::Value column, int64_t columnTiles, int64_t depth,
                   bool accumulate);

/// 16 vectors of 16 numbers of 32 bits, as rows and columns of a matrix.
Values transpose(CodeBuilder &emit, Values rows);
/// Two vectors of 16 f32 as 16 pairs of bf16, each pair an i32: the first
/// vector has the lower halves.
mlir::Value pairsOf(CodeBuilder &emit, mlir::Value low, mlir::Value high);

} // namespace kvcache::cpu::x86

#endif // KVCACHE_LIB_CONVERSION_CPU_X86TILES_H
