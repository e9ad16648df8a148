// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How an operation describes the caches, lists and batches that it uses, so
// that passes and signatures need not know which operation it is. The terms,
// for
//
//   kvcache.index_copy %key, %value into %cache at %slots
//
//   use       %cache: written, a row at a time, each given by a slot
//   entries   %slots: as many as there are rows, below the slots of %cache
//   tie       %key, %value and %slots have the same leading extent
//
// The interfaces are documented in KVCacheInterfaces.td.
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

/// How the rows or blocks of a cache that an operation accesses are given.
enum class IndexedBy : uint8_t {
  Nothing, ///< not at all: it accesses all of them
  Slots,   ///< one slot for each row
  Lists,   ///< blocks, blocks and offsets, or pairs
  Batch,   ///< the table of a batch
};

/// A cache whose elements an operation reads or writes.
struct CacheUse {
  mlir::OpOperand *operand;
  CacheType type; ///< even if the operand is a tensor
  /// The names of the dimensions of a tensor.
  mlir::ArrayAttr axes = {};
  Moved moved; ///< the axes that move together
  IndexedBy indexedBy;
  bool isRead = false, isWritten = false;
  /// Code for a CPU uses streaming stores to it where they pay off.
  bool mayStream = false;
  /// The unit per which bytes are counted.
  llvm::StringRef unit = {};
  /// A description of what is checked in each call; empty: nothing.
  llvm::StringRef checked = {};
  /// Floating-point operations, and the unit per which they are counted.
  int64_t flops = 0;
  llvm::StringRef flopsUnit = {};
};

/// A list of slots, blocks, offsets or chunks.
struct EntryUse {
  llvm::StringRef what;
  mlir::Value list;
  std::optional<int64_t> column = {}; ///< of a matrix
  /// The number of entries used is that of the rows of the shortest of these.
  llvm::SmallVector<mlir::Value> counted;
  /// The upper bound is `perBlock` times the blocks of a cache, or the rows of
  /// a buffer; without either, `perBlock`.
  mlir::Value within = {};
  int64_t perBlock = 1;
  bool orNegative = false; ///< negative entries are padding
  /// A list whose negative entries are padding in this one.
  mlir::Value unless = {};
};

/// A batch, and the buffers that it describes.
struct BatchUse {
  mlir::TypedValue<BatchType> batch;
  /// It has as many query rows as the shortest of these.
  llvm::SmallVector<mlir::Value> rows;
  /// The caches whose blocks the table names; empty if the table is not read.
  llvm::SmallVector<mlir::Value> caches = {};
  bool isCausal = false;
  mlir::IntegerAttr window = {}, windowRight = {};
  /// An operand has bits that number all query rows of a request.
  bool isMasked = false;
};

/// Query rows of a batch that are selected by indices.
struct SelectionUse {
  mlir::Value indices, valid, batch;
  /// The number of rows, or of selected rows, is that of the shortest of these.
  llvm::SmallVector<mlir::Value> rows, selected;
};

/// All entries that an operation uses, in the order in which they are checked.
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

/// Extents that must be equal.
using TiedExtents = llvm::SmallVector<OperandExtent, 4>;

/// Which indices of an axis a part of a cache keeps.
enum class KeptIndices : uint8_t {
  All,
  AllOrFails, ///< all of its indices, or none in a call that fails
  Some,
};

/// The result is slots, a block table or a batch, which refers to the memory of
/// the operands.
template <typename ConcreteType>
class MakesIndexValue
    : public mlir::OpTrait::TraitBase<ConcreteType, MakesIndexValue> {};

/// Reports to the user or the host, and writes no memory of the program.
template <typename ConcreteType>
class OnlyReports : public mlir::OpTrait::TraitBase<ConcreteType, OnlyReports> {
};

/// Row i of each result is computed from row i of the operands whose leading
/// extents are equal by the first tie, and from all of the other operands.
template <typename ConcreteType>
class HasRowsApart
    : public mlir::OpTrait::TraitBase<ConcreteType, HasRowsApart> {};

} // namespace kvcache

#include "kvcache/IR/KVCacheInterfaces.h.inc"

namespace kvcache {

/// How an operation uses this cache operand; nothing if it is not a cache.
std::optional<CacheUse> cacheUseOf(mlir::OpOperand &operand);

/// Whether an operation computes rather than only moves.
bool hasFlops(mlir::Operation *op);

/// The cache whose elements are all copied to the same indices of another one;
/// null for operations that do something else.
mlir::Value copiedCache(mlir::Operation *op);

/// The lists that a batch is made from.
struct BatchLists {
  /// Null if it is that of `rest`; positions also if there are none.
  mlir::Value starts, lengths, table, positions;
  /// A batch that was not made in the function and has the other members; null
  /// if all are known.
  mlir::TypedValue<BatchType> rest;

  mlir::Value get(BatchMember member) const;
};
BatchLists listsOf(mlir::TypedValue<BatchType> batch);

} // namespace kvcache

#endif // KVCACHE_IR_CACHEACCESS_H
