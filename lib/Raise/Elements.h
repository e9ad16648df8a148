// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From tensors of integers to the computation of one element.
//
// A list of block numbers is computed by chains of elementwise operations,
// broadcasts, unit dimensions, concatenations and calls. An ElementTracer
// follows such a chain for the element at given coordinates and builds the same
// computation on scalars, in a separate block. A value that it cannot follow is
// a leaf: an element of a tensor that is kept. The block can be analysed
// (SlotProof.h), and can become the body of a linalg.generic that makes the
// list.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_RAISE_ELEMENTS_H
#define KVCACHE_LIB_RAISE_ELEMENTS_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/SetVector.h"

#include <map>
#include <optional>
#include <vector>

namespace kvcache::raise {

/// A coordinate of an element: a number, or the position along one of the
/// dimensions of the list to be made.
struct Coord {
  bool isLoop;
  int64_t value; ///< the number, or which dimension

  static Coord loop(int64_t dim) { return {true, dim}; }
  static Coord at(int64_t number) { return {false, number}; }
  bool operator==(const Coord &o) const {
    return isLoop == o.isLoop && value == o.value;
  }
};

class ElementTracer {
public:
  /// Lists have the extents of `shape`; a dynamic one is that of dimension `d`
  /// of `like`.
  ElementTracer(mlir::Location loc, llvm::ArrayRef<int64_t> shape,
                mlir::Value like);
  ~ElementTracer();

  /// The scalar element of a tensor at some coordinates; null if its type is
  /// not scalar.
  mlir::Value trace(mlir::Value tensor, llvm::ArrayRef<Coord> at);

  /// Builds further scalars in the block.
  mlir::OpBuilder &scalars() { return builder; }

  /// The single leaf that all of these scalars depend on; null if there are
  /// several or none.
  mlir::Value onlyLeaf(llvm::ArrayRef<mlir::Value> values);

  /// Lists of these scalars, made at the insertion point of `at`: a leaf that
  /// already is such a list, or the results of one linalg.generic, which takes
  /// over the block; no further calls are allowed.
  llvm::SmallVector<mlir::Value> makeLists(mlir::OpBuilder &at,
                                           llvm::ArrayRef<mlir::Value> values);

private:
  struct Leaf {
    mlir::Value tensor;
    llvm::SmallVector<Coord> at;
    mlir::BlockArgument scalar;
  };
  /// The call for which the values of a function are traced, and what has been
  /// built for them, since values are used more than once.
  struct Frame {
    const Frame *outer = nullptr;
    mlir::Operation *call = nullptr;
    mutable std::map<std::pair<void *, std::vector<std::pair<bool, int64_t>>>,
                     mlir::Value>
        built;
  };

  mlir::Value follow(mlir::Value tensor, llvm::ArrayRef<Coord> at,
                     const Frame &frame);
  mlir::Value step(mlir::Value tensor, llvm::ArrayRef<Coord> at,
                   const Frame &frame);
  mlir::Value structured(mlir::OpResult result, llvm::ArrayRef<Coord> at,
                         const Frame &frame);
  mlir::Value elementwise(mlir::Operation *op, llvm::ArrayRef<Coord> at,
                          const Frame &frame);
  mlir::Value leaf(mlir::Value tensor, llvm::ArrayRef<Coord> at);
  bool isWholeList(const Leaf &leaf) const;
  mlir::Value asInput(mlir::OpBuilder &at, const Leaf &leaf,
                      llvm::SmallVectorImpl<int64_t> &dims) const;

  mlir::Location loc;
  llvm::SmallVector<int64_t> shape;
  mlir::Value like;
  mlir::Block *block;
  mlir::OpBuilder builder;
  llvm::SmallVector<Leaf> leaves;
  unsigned depth = 0;
  Frame top;
};

/// Whether an operation that the tracer follows has no effect besides its
/// value, so that it may be erased once unused.
bool isErasable(mlir::Operation *op);

/// The operations that define the operands of an operation and of its body.
void addSources(mlir::Operation *op,
                llvm::SetVector<mlir::Operation *> &sources);

/// Erases operations that are no longer used, and those that only they used.
void eraseUnused(llvm::SmallVector<mlir::Operation *> worklist);

} // namespace kvcache::raise

#endif // KVCACHE_LIB_RAISE_ELEMENTS_H
