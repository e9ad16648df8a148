// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Run/Flops.h"

#include "kvcache/Analysis/OwnBody.h"
#include "kvcache/IR/KVCache.h"
#include "kvcache/Target/Extents.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "llvm/Support/MathExtras.h"

using namespace kvcache;
using namespace kvcache::target;
using namespace kvcache::run;
using namespace mlir;

namespace {

/// What an extent follows from, and the number of that argument.
struct Extent {
  ArgumentExtent formula;
  int argument = -1;

  int64_t in(const Arguments &arguments) const {
    __int128 of = 0;
    if (formula.of)
      of = formula.isValue ? arguments.integer(argument)
                           : arguments.tensor(argument)->shape[formula.dim];
    return (formula.times * of + formula.plus) / formula.over;
  }
};

/// The rows that a kvcache.select_rows takes from a batch.
struct Selection {
  int indices = -1;            ///< an argument
  int validArgument = -1;      ///< holds how many of them count, or
  std::optional<Extent> valid; ///< says so
};

/// The members of a batch, as numbers of arguments; -1: made in the function.
struct BatchOrigin {
  int starts = -1, lengths = -1, table = -1, positions = -1;
  std::optional<Selection> selection =
      std::nullopt; ///< of the rows of all that

  bool isKnown(bool hasPositions) const {
    return starts >= 0 && lengths >= 0 && table >= 0 &&
           (selection || !hasPositions || positions >= 0);
  }
};

/// Finds what is known of values before a call.
class Origins {
public:
  Origins(func::FuncOp function, const FunctionSignature &signature)
      : function(function), signature(signature) {
    int next = 0;
    for (Type type : function.getArgumentTypes()) {
      firstOf.push_back(next);
      auto batch = dyn_cast<BatchType>(type);
      next += batch ? batch.getMemberNames().size() : 1;
    }
  }

  std::optional<Extent> numbered(std::optional<ArgumentExtent> formula) const {
    if (!formula)
      return std::nullopt;
    Extent extent{*formula};
    if (auto argument = dyn_cast_if_present<BlockArgument>(formula->of))
      extent.argument = firstOf[argument.getArgNumber()] + formula->member;
    return extent;
  }

  BatchOrigin batch(Value value) const {
    BatchOrigin found;
    if (std::optional<int> first = argument(value)) {
      bool hasPositions = cast<BatchType>(value.getType()).hasPositions();
      found = {*first, *first + 1, *first + 2, hasPositions ? *first + 3 : -1};
    } else if (auto make = value.getDefiningOp<MakeBatchOp>()) {
      Value table = make.getTable();
      if (auto of = table.getDefiningOp<MakeBlockTableOp>())
        table = of.getSource();
      found.starts = unwritten(make.getStarts());
      found.lengths = unwritten(make.getLengths());
      found.table = argument(table).value_or(-1);
      if (make.getPositions())
        found.positions = unwritten(make.getPositions());
    } else if (auto with = value.getDefiningOp<WithRowsOp>()) {
      found = batch(with.getBatch());
      if (SelectRowsOp select = selectionOf(with)) {
        found = batch(select.getBatch());
        // Rows of selected rows are not followed.
        if (found.selection ||
            !found.isKnown(select.getBatch().getType().hasPositions()))
          return {};
        found.selection = selection(select);
        if (found.selection)
          return found;
      }
      found.selection = std::nullopt;
      found.starts = unwritten(with.getStarts());
      found.positions = unwritten(with.getPositions());
    }
    return found;
  }

  /// How often an operation is executed in a call.
  std::optional<uint64_t> executions(Operation *op) const {
    uint64_t count = 1;
    for (Operation *parent = op->getParentOp(); parent != function;
         parent = parent->getParentOp()) {
      auto loop = dyn_cast<scf::ForOp>(parent);
      std::optional<llvm::APInt> trips =
          loop ? loop.getStaticTripCount() : std::nullopt;
      if (!trips)
        return std::nullopt;
      count = llvm::SaturatingMultiply(count, trips->getLimitedValue());
    }
    return count;
  }

private:
  /// What made the starts and the positions of a batch.
  static SelectRowsOp selectionOf(WithRowsOp with) {
    for (Operation *user : with.getStarts().getUsers())
      if (auto select = dyn_cast<SelectRowsOp>(user))
        if (select.getStartsOut() == with.getStarts() &&
            select.getPositionsOut() == with.getPositions() &&
            isWrittenBy(with.getStarts(), select) &&
            isWrittenBy(with.getPositions(), select))
          return select;
    return nullptr;
  }

  /// Whether the buffer is one of the function that nothing else writes.
  static bool isWrittenBy(Value buffer, Operation *writer) {
    return buffer.getDefiningOp<memref::AllocOp>() &&
           llvm::all_of(buffer.getUses(), [&](OpOperand &use) {
             Operation *user = use.getOwner();
             if (user == writer || isa<WithRowsOp, memref::DeallocOp>(user))
               return true;
             auto select = dyn_cast<SelectRowsOp>(user);
             return select && !llvm::is_contained(select.getOuts(), buffer);
           });
  }

  std::optional<Selection> selection(SelectRowsOp select) const {
    Selection found;
    found.indices = unwritten(select.getIndices());
    if (found.indices < 0)
      return std::nullopt;
    Value valid = select.getValid();
    found.validArgument = unwritten(valid);
    if (found.validArgument >= 0)
      return found;
    for (Operation *user : valid.getUsers())
      if (auto store = dyn_cast<memref::StoreOp>(user);
          store && isWrittenBy(valid, store)) {
        auto cast = store.getValue().getDefiningOp<arith::IndexCastOp>();
        found.valid = numbered(sizeOf(cast ? cast.getIn() : store.getValue()));
      }
    return found.valid ? std::optional(found) : std::nullopt;
  }

  std::optional<int> argument(Value value) const {
    auto argument = dyn_cast<BlockArgument>(value);
    if (!argument || argument.getOwner() != &function.front())
      return std::nullopt;
    return firstOf[argument.getArgNumber()];
  }

  /// An argument whose contents are those of the caller when they are used.
  int unwritten(Value value) const {
    std::optional<int> found = argument(value);
    return found && !signature.arguments[*found].isWritten ? *found : -1;
  }

  mutable func::FuncOp function;
  const FunctionSignature &signature;
  SmallVector<int> firstOf;
};

/// The pairs of a row and a key that it sees, as kvcache.attention defines
/// them.
struct SeenKeys {
  BatchOrigin batch;
  Extent rows;
  int64_t tokens;
  std::optional<int64_t> ahead, window;

  uint64_t in(const Arguments &arguments) const {
    uint64_t seen = 0;
    for (const Row &row : batch.selection
                              ? selectedRows(arguments)
                              : allRows(arguments, rows.in(arguments)))
      seen += keys(row.position, row.length);
    return seen;
  }

private:
  /// A row of a batch; one of no request sees no key.
  struct Row {
    int64_t position = -1, length = 0;
    bool hasRequest = false;
  };

  /// None where the entry function refuses the call.
  std::vector<Row> allRows(const Arguments &arguments, int64_t count) const {
    const Tensor &table = *arguments.tensor(batch.table);
    std::vector<int64_t> starts = values(*arguments.tensor(batch.starts)),
                         lengths = values(*arguments.tensor(batch.lengths));
    std::vector<int64_t> positions;
    if (batch.positions >= 0)
      positions = values(*arguments.tensor(batch.positions));
    if (table.shape.size() != 2 || starts.size() != lengths.size() + 1 ||
        (batch.positions >= 0 && int64_t(positions.size()) < count))
      return {};
    int64_t longest =
        llvm::SaturatingMultiply(uint64_t(table.shape[1]), uint64_t(tokens));
    std::vector<Row> all(count);
    int64_t first = std::clamp<int64_t>(starts[0], 0, count);
    for (size_t r = 0; r < lengths.size(); ++r) {
      int64_t end = std::clamp(starts[r + 1], first, count);
      int64_t length = std::clamp<int64_t>(lengths[r], 0, longest);
      for (int64_t row = first; row < end; ++row)
        all[row] = {positions.empty() ? length - (end - row) : positions[row],
                    length, true};
      first = end;
    }
    return all;
  }

  /// None where the call fails, as rows decrease or are of no request.
  std::vector<Row> selectedRows(const Arguments &arguments) const {
    const Selection &selection = *batch.selection;
    std::vector<int64_t> starts = values(*arguments.tensor(batch.starts)),
                         indices = values(*arguments.tensor(selection.indices));
    std::vector<int64_t> valid =
        selection.valid ? std::vector<int64_t>{selection.valid->in(arguments)}
                        : values(*arguments.tensor(selection.validArgument));
    if (starts.empty() || valid.size() != 1)
      return {};
    std::vector<Row> all =
        allRows(arguments, std::max<int64_t>(starts.back(), 0));
    std::vector<Row> rows;
    int64_t last = 0;
    int64_t count = std::clamp<int64_t>(valid[0], 0, indices.size());
    for (int64_t index : ArrayRef(indices).take_front(count)) {
      if (index < last || index >= int64_t(all.size()) ||
          !all[index].hasRequest)
        return {};
      rows.push_back(all[index]);
      last = index;
    }
    return rows;
  }

  static std::vector<int64_t> values(const Tensor &tensor) {
    std::vector<int64_t> result;
    tensor.forEach([&](char *element) {
      result.push_back(tensor.type->integer(element));
    });
    return result;
  }

  uint64_t keys(int64_t position, int64_t length) const {
    int64_t end = length - 1;
    // Positions may be anything.
    if (ahead && position < end)
      end = std::min(end, position + *ahead);
    int64_t begin = 0;
    if (window && position > *window - 1)
      begin = position - *window + 1;
    return end < begin ? 0 : end - begin + 1;
  }
};

} // namespace

static std::string reasonFor(Operation *op, StringRef why) {
  return (op->getName().getStringRef() + ": " + why).str();
}

FlopCount::FlopCount(func::FuncOp function,
                     const FunctionSignature &signature) {
  Origins origins(function, signature);
  auto countKeys = [&](CacheAccessOpInterface op, uint64_t times) {
    BatchUse use = op.getIndexUses().batches.front();
    BatchOrigin batch = origins.batch(use.batch);
    BatchType type = use.batch.getType();
    std::optional<Extent> rows =
        origins.numbered(extentOf(use.rows.front(), 0));
    if (!rows || !batch.isKnown(type.hasPositions())) {
      reasons.push_back(reasonFor(
          op, "its batch, or the number of its rows, is not an argument"));
      return;
    }
    std::optional<int64_t> ahead, window;
    if (use.isCausal)
      ahead = 0;
    if (use.windowRight)
      ahead = use.windowRight.getInt();
    if (use.window)
      window = use.window.getInt();
    SeenKeys seen{batch, *rows, type.getTokens(), ahead, window};
    uint64_t each = 0;
    for (const CacheUse &cache : op.getCacheUses())
      each = llvm::SaturatingAdd(
          each, llvm::SaturatingMultiply(uint64_t(cache.flops), times));
    terms.push_back([seen, each](const Arguments &arguments) {
      return llvm::SaturatingMultiply(seen.in(arguments), each);
    });
  };
  auto countContraction = [&](linalg::LinalgOp op, uint64_t times) {
    SmallVector<Extent> extents;
    for (unsigned loop = 0; loop < op.getNumLoops(); ++loop) {
      Value operand;
      unsigned dim;
      std::optional<Extent> extent;
      if (succeeded(op.mapIterationSpaceDimToOperandDim(loop, operand, dim)))
        extent = origins.numbered(extentOf(operand, dim));
      if (!extent) {
        reasons.push_back(reasonFor(
            op, "its extents are neither constants nor extents of arguments"));
        return;
      }
      extents.push_back(*extent);
    }
    terms.push_back([extents, times](const Arguments &arguments) {
      uint64_t flops = llvm::SaturatingMultiply(uint64_t(2), times);
      for (const Extent &extent : extents)
        flops = llvm::SaturatingMultiply(flops, uint64_t(extent.in(arguments)));
      return flops;
    });
  };
  walkOwnBody(function, [&](Operation *op) {
    auto product = dyn_cast<linalg::LinalgOp>(op);
    bool isContraction = product && linalg::isaContractionOpInterface(product);
    if (isa<func::CallOp>(op))
      reasons.push_back(reasonFor(op, "calls are not followed"));
    if (!hasFlops(op) && !isContraction)
      return WalkResult::advance();
    std::optional<uint64_t> times = origins.executions(op);
    if (!times)
      reasons.push_back(
          reasonFor(op, "it is in a branch, or in a loop of unknown length"));
    else if (isContraction)
      countContraction(product, *times);
    else
      countKeys(cast<CacheAccessOpInterface>(op), *times);
    return WalkResult::advance();
  });
}

uint64_t FlopCount::of(const Arguments &arguments) const {
  uint64_t flops = 0;
  for (const Term &term : terms)
    flops = llvm::SaturatingAdd(flops, term(arguments));
  return flops;
}
