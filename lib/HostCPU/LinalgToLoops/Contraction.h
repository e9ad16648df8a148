// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// C[.., m, n] += A[.., m, k] * B[.., k, n], where B may lie in memory either
// way round, A and B are f32, f16 or bf16, and C is f32.
//
// One row (m = 1) is bound by reading B, so B is read once, in order. More rows
// go through copies of blocks of B that fit the second-level cache: there the
// transposition of a B that lies with k innermost, and the conversion to f32,
// are done once for all rows.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_HOSTCPU_LINALGTOLOOPS_CONTRACTION_H
#define KVCACHE_LIB_HOSTCPU_LINALGTOLOOPS_CONTRACTION_H

#include "Loops.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

namespace kvcache {

/// docs/kernels/linalg-cpu.md has the measurements behind these.
constexpr int64_t kBlockRows = 510; // rows that share a copy of a block of B
constexpr int64_t kBlockColumns = 256;

struct Contraction {
  enum Operand { A, B, C };

  // Its accessors are not const.
  mutable mlir::linalg::GenericOp op;
  unsigned operandOf[3]; // swapped if the rows of C are contiguous
  mlir::AffineMap maps[3];
  mlir::MemRefType types[3];
  llvm::SmallVector<unsigned>
      outer; // batch dimensions, and further ones of m or n
  std::optional<unsigned> m;
  unsigned n, k;

  static std::optional<Contraction> match(mlir::linalg::GenericOp op);

  /// The dimension along which neighbours in memory lie, if there is one.
  std::optional<unsigned> contiguousDim(Operand operand) const;
  /// Columns in a chunk of a product with one row.
  int64_t rowChunk() const;
};

/// Emits one function that computes a block of C.
class ContractionEmitter {
public:
  ContractionEmitter(LoopBuilder &b, const Contraction &match,
                     mlir::ValueRange buffers);

  mlir::Value extent(unsigned dim) const { return extents[dim]; }
  mlir::Value rowExtent() const {
    return match.m ? extents[*match.m] : b.index(1);
  }
  mlir::Value outerExtent() const;

  /// Computes an item: a chunk of a single row, or a block of C.
  void emitSingleRow(mlir::Value item);
  void emitBlock(mlir::Value item);

private:
  using Operand = Contraction::Operand;
  static constexpr auto A = Contraction::A, B = Contraction::B,
                        C = Contraction::C;

  LoopBuilder &b;
  const Contraction &match;
  llvm::SmallVector<mlir::Value> extents, at;
  mlir::VectorType vector;
  mlir::Value buffer[3];
  mlir::Value packedA, packedB;

  void setOuter(mlir::Value item);
  llvm::SmallVector<mlir::Value> indices(Operand operand, mlir::Value m,
                                         mlir::Value n, mlir::Value k);
  mlir::Value load(Operand operand, int64_t lanes, mlir::Value m, mlir::Value n,
                   mlir::Value k);
  void store(mlir::Value value, mlir::Value m, mlir::Value n);
  mlir::Value splat(mlir::Value scalar);
  mlir::Value zero();
  mlir::Value stackBuffer(llvm::ArrayRef<int64_t> shape);
  mlir::Value sum(mlir::Value value);

  void emitRowAcross(mlir::Value m, mlir::Value first, mlir::Value last);
  void emitRowAlong(mlir::Value m, mlir::Value first, mlir::Value last);
  void packRows(int64_t rows, bool clamp, mlir::Value m0, mlir::Value mEnd,
                mlir::Value k0, mlir::Value kEnd);
  void packAcross(mlir::Value n0, mlir::Value nEnd, mlir::Value k0,
                  mlir::Value kEnd);
  void packAlong(mlir::Value n0, mlir::Value nEnd, mlir::Value k0,
                 mlir::Value kEnd);
  void transpose8x8(mlir::Value panel, mlir::Value lane, mlir::Value n,
                    mlir::Value nLast, mlir::Value k, mlir::Value k0);
  void emitTile(int64_t rows, bool clamp, mlir::Value m0, mlir::Value mEnd,
                mlir::Value n0, mlir::Value nEnd, mlir::Value kLength);
  void emitTilePanel(llvm::ArrayRef<mlir::Value> ms, mlir::Value panel,
                     mlir::Value n, mlir::Value kLength, mlir::Value mask);
};

} // namespace kvcache

#endif // KVCACHE_LIB_HOSTCPU_LINALGTOLOOPS_CONTRACTION_H
