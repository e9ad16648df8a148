// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What an operation says of the caches, lists and batches that it takes, so
// that passes and signatures need not know which operation it is. The words, on
//
//   kvcache.index_copy %key, %value into %cache at %slots
//
//   use       %cache: written, a row at a time, each named by a slot
//   entries   %slots: as many as there are rows, below slots of %cache
//   tie       %key, %value and %slots have the same leading extent
//
// The interfaces are described in KVCacheInterfaces.td.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_IR_CACHEACCESS_H
#define KVCACHE_IR_CACHEACCESS_H

#include "kvcache/IR/KVCacheTypes.h"
#include "kvcache/Layout/Access.h"

#include "mlir/IR/OpDefinition.h"

#include <optional>
#include <string>

namespace kvcache {

/// What names the rows or blocks of a cache that an operation is about.
enum class NamedBy : uint8_t {
  Nothing, ///< it is about all of them
  Slots,   ///< one number for each row
  Lists,   ///< of blocks, of blocks and offsets, of pairs
  Batch,   ///< the table of a batch
};

/// A cache of which an operation reads or writes elements.
struct CacheUse {
  mlir::OpOperand *operand;
  CacheType type; ///< also where the operand is a tensor
  /// The names of the dimensions of a tensor.
  mlir::ArrayAttr axes = {};
  Moved moved; ///< the axes that move together
  NamedBy namedBy;
  bool isRead = false, isWritten = false;
  /// The code for a CPU has streaming stores to it where they are worth it.
  bool mayStream = false;
  /// What it is once for each of that bytes are counted.
  llvm::StringRef unit = {};
  /// What is made sure of in each call, in words; empty: nothing.
  llvm::StringRef checked = {};
  /// Floating-point operations, and for each of what.
  int64_t flops = 0;
  llvm::StringRef flopsUnit = {};
};

/// A list of numbers of slots, blocks, offsets or chunks.
struct EntryUse {
  llvm::StringRef what;
  mlir::Value list;
  std::optional<int64_t> column = {}; ///< of a matrix
  /// As many entries count as the shortest of these has rows.
  llvm::SmallVector<mlir::Value> counted;
  /// They are below `perBlock` for each block of a cache; without one, below
  /// `perBlock`.
  mlir::Value cache = {};
  int64_t perBlock = 1;
  bool orNegative = false; ///< those are padding
  /// A list whose negative entries are padding in this one.
  mlir::Value unless = {};
};

/// A batch, and what it describes.
struct BatchUse {
  mlir::TypedValue<BatchType> batch;
  /// It has as many query rows as the shortest of these.
  llvm::SmallVector<mlir::Value> rows;
  /// The caches whose blocks the table names; none if it is not looked at.
  llvm::SmallVector<mlir::Value> caches = {};
  bool isCausal = false;
  mlir::IntegerAttr window = {};
};

/// Query rows of a batch that are named by indices.
struct SelectionUse {
  mlir::Value indices, valid, batch;
  /// As many rows as the shortest of these are there, or are selected.
  llvm::SmallVector<mlir::Value> rows, selected;
};

/// All numbers that an operation takes, in the sequence in which they are
/// looked at.
struct IndexUses {
  llvm::SmallVector<BatchUse, 1> batches = {};
  llvm::SmallVector<EntryUse, 2> entries = {};
  std::optional<SelectionUse> selection = {};
};

/// The members of a batch, as its type numbers them.
enum class BatchMember : unsigned { Starts, Lengths, Table, Positions };

/// `times` indices of dimension `dim` of a value, or of a member of a batch,
/// and `plus`.
struct OperandExtent {
  mlir::Value value;
  unsigned dim = 0;
  std::optional<BatchMember> member = {};
  int64_t times = 1, plus = 0;
};

/// Extents that are one number.
using TiedExtents = llvm::SmallVector<OperandExtent, 4>;

/// What a part of a cache keeps of an axis.
enum class KeptExtent : uint8_t {
  All,
  AllOrFails, ///< all of its indices, or none in a call that fails
  Some,
};

/// Gives slots, a block table or a batch, which refers to the memory of the
/// operands.
template <typename ConcreteType>
class MakesIndexValue
    : public mlir::OpTrait::TraitBase<ConcreteType, MakesIndexValue> {};

/// Tells a person or the host something, and writes no memory of the program.
template <typename ConcreteType>
class OnlyReports : public mlir::OpTrait::TraitBase<ConcreteType, OnlyReports> {
};

/// Row i of each result is made of row i of those operands whose leading
/// extents the first tie says are one, and of all of the other operands.
template <typename ConcreteType>
class HasRowsApart
    : public mlir::OpTrait::TraitBase<ConcreteType, HasRowsApart> {};

} // namespace kvcache

#include "kvcache/IR/KVCacheInterfaces.h.inc"

namespace kvcache {

/// How an operation uses the cache that this operand is; nothing if it is none.
std::optional<CacheUse> cacheUseOf(mlir::OpOperand &operand);

/// Whether an operation computes, and does not only move.
bool hasFlops(mlir::Operation *op);

/// The cache whose elements all come to the places of the same indices in
/// another one; null of operations that do something else.
mlir::Value copiedCache(mlir::Operation *op);

/// The lists that a batch is made of.
struct BatchLists {
  /// Null where it is that of `rest`, and positions where there are none.
  mlir::Value starts, lengths, table, positions;
  /// The batch that the function did not make and that has the others; null if
  /// all are known.
  mlir::TypedValue<BatchType> rest;

  mlir::Value get(BatchMember member) const;
};
BatchLists listsOf(mlir::TypedValue<BatchType> batch);

} // namespace kvcache

#endif // KVCACHE_IR_CACHEACCESS_H
