// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Run/Flops.h"

#include "kvcache/IR/KVCache.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "llvm/Support/MathExtras.h"

using namespace kvcache;
using namespace mlir;

namespace {

/// A constant, an extent of an argument, or an argument that is an integer.
struct Extent {
  int64_t constant = 0;
  int argument = -1, dim = -1;

  int64_t in(const Arguments &arguments) const {
    if (argument < 0)
      return constant;
    return dim < 0 ? arguments.integer(argument)
                   : arguments.tensor(argument)->shape[dim];
  }
};

/// The members of a batch, as numbers of arguments; -1: made in the function.
struct BatchArguments {
  int starts = -1, lengths = -1, table = -1, positions = -1;
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

  std::optional<Extent> extent(Value value, int64_t dim) const {
    auto type = cast<ShapedType>(value.getType());
    if (!type.isDynamicDim(dim))
      return Extent{type.getDimSize(dim)};
    if (std::optional<int> argument = this->argument(value))
      return Extent{0, *argument, int(dim)};
    if (auto cast = value.getDefiningOp<memref::CastOp>())
      return extent(cast.getSource(), dim);
    auto alloc = value.getDefiningOp<memref::AllocOp>();
    if (!alloc)
      return std::nullopt;
    Value size = alloc.getDynamicSizes()[type.getDynamicDimIndex(dim)];
    if (auto of = size.getDefiningOp<memref::DimOp>())
      if (std::optional<int64_t> constant = of.getConstantIndex())
        return extent(of.getSource(), *constant);
    if (std::optional<int> argument = this->argument(size))
      return Extent{0, *argument, -1};
    return std::nullopt;
  }

  BatchArguments batch(Value value) const {
    BatchArguments found;
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
      found.starts = unwritten(with.getStarts());
      found.positions = unwritten(with.getPositions());
    }
    return found;
  }

  /// How often an operation is executed in a call.
  std::optional<int64_t> executions(Operation *op) const {
    int64_t count = 1;
    for (Operation *parent = op->getParentOp(); parent != function;
         parent = parent->getParentOp()) {
      auto loop = dyn_cast<scf::ForOp>(parent);
      std::optional<llvm::APInt> trips =
          loop ? loop.getStaticTripCount() : std::nullopt;
      if (!trips)
        return std::nullopt;
      count *= trips->getSExtValue();
    }
    return count;
  }

private:
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
  BatchArguments batch;
  Extent rows;
  int64_t tokens;
  bool isCausal;
  std::optional<int64_t> window;

  uint64_t in(const Arguments &arguments) const {
    const Tensor &table = *arguments.tensor(batch.table);
    std::vector<int64_t> starts = values(*arguments.tensor(batch.starts)),
                         lengths = values(*arguments.tensor(batch.lengths));
    std::vector<int64_t> positions;
    if (batch.positions >= 0)
      positions = values(*arguments.tensor(batch.positions));
    int64_t count = rows.in(arguments);
    if (table.shape.size() != 2 || starts.size() != lengths.size() + 1 ||
        (batch.positions >= 0 && int64_t(positions.size()) < count))
      return 0; // the entry function refuses them
    int64_t longest =
        llvm::SaturatingMultiply(uint64_t(table.shape[1]), uint64_t(tokens));
    uint64_t seen = 0;
    int64_t first = std::clamp<int64_t>(starts[0], 0, count);
    for (size_t r = 0; r < lengths.size(); ++r) {
      int64_t end = std::clamp(starts[r + 1], first, count);
      int64_t length = std::clamp<int64_t>(lengths[r], 0, longest);
      for (int64_t row = first; row < end; ++row)
        seen += keys(positions.empty() ? length - (end - row) : positions[row],
                     length);
      first = end;
    }
    return seen;
  }

private:
  static std::vector<int64_t> values(const Tensor &tensor) {
    std::vector<int64_t> result;
    tensor.forEach([&](char *element) {
      result.push_back(tensor.type->integer(element));
    });
    return result;
  }

  uint64_t keys(int64_t position, int64_t length) const {
    int64_t end = isCausal ? std::min(length - 1, position) : length - 1;
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
  auto countAttention = [&](AttentionOp op, int64_t times) {
    BatchArguments batch = origins.batch(op.getBatch());
    auto type = cast<BatchType>(op.getBatch().getType());
    auto query = cast<ShapedType>(op.getQuery().getType());
    auto out = cast<ShapedType>(op.getOut().getType());
    std::optional<Extent> rows = origins.extent(op.getQuery(), 0);
    bool isKnown = batch.starts >= 0 && batch.lengths >= 0 &&
                   batch.table >= 0 && rows &&
                   (!type.hasPositions() || batch.positions >= 0);
    if (!isKnown) {
      reasons.push_back(reasonFor(
          op, "its batch, or the number of its rows, is no argument"));
      return;
    }
    std::optional<int64_t> window;
    if (op.getWindow())
      window = *op.getWindow();
    SeenKeys seen{batch, *rows, type.getTokens(), op.getCausal(), window};
    uint64_t each = 2 * query.getDimSize(1) *
                    (query.getDimSize(2) + out.getDimSize(2)) * times;
    terms.push_back([seen, each](const Arguments &arguments) {
      return llvm::SaturatingMultiply(seen.in(arguments), each);
    });
  };
  auto countContraction = [&](linalg::LinalgOp op, int64_t times) {
    SmallVector<Extent> extents;
    for (unsigned loop = 0; loop < op.getNumLoops(); ++loop) {
      Value operand;
      unsigned dim;
      std::optional<Extent> extent;
      if (succeeded(op.mapIterationSpaceDimToOperandDim(loop, operand, dim)))
        extent = origins.extent(operand, dim);
      if (!extent) {
        reasons.push_back(reasonFor(
            op, "its extents are neither constants nor of arguments"));
        return;
      }
      extents.push_back(*extent);
    }
    terms.push_back([extents, times](const Arguments &arguments) {
      uint64_t flops = 2 * times;
      for (const Extent &extent : extents)
        flops = llvm::SaturatingMultiply(flops, uint64_t(extent.in(arguments)));
      return flops;
    });
  };
  function.walk([&](Operation *op) {
    auto attention = dyn_cast<AttentionOp>(op);
    auto product = dyn_cast<linalg::LinalgOp>(op);
    bool isContraction = product && linalg::isaContractionOpInterface(product);
    if (isa<func::CallOp>(op))
      reasons.push_back(reasonFor(op, "calls are not looked into"));
    if (!attention && !isContraction)
      return;
    std::optional<int64_t> times = origins.executions(op);
    if (!times)
      reasons.push_back(
          reasonFor(op, "it is in a branch, or in a loop of unknown length"));
    else if (attention)
      countAttention(attention, *times);
    else
      countContraction(product, *times);
  });
}

uint64_t FlopCount::of(const Arguments &arguments) const {
  uint64_t flops = 0;
  for (const Term &term : terms)
    flops = llvm::SaturatingAdd(flops, term(arguments));
  return flops;
}
