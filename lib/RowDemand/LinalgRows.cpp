// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "LinalgRows.h"

#include "kvcache/IR/Sources.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::rowdemand;

/// The tensors that the body reads at indices of its own.
static void forEachExtract(linalg::LinalgOp op,
                           llvm::function_ref<void(tensor::ExtractOp)> visit) {
  op->walk([&](tensor::ExtractOp extract) {
    if (!op->isAncestor(extract.getTensor().getParentRegion()->getParentOp()))
      visit(extract);
  });
}

/// The index without the conversions that keep its value, for fewer than 2^31
/// rows.
static Value withoutCasts(Value index) {
  auto isNarrow = [](Value value) {
    return !value.getType().isIndex() &&
           value.getType().getIntOrFloatBitWidth() < 32;
  };
  return furthestSource(index, [&](Value value) -> Value {
    Operation *op = value.getDefiningOp();
    bool keeps =
        isa_and_present<arith::ExtSIOp>(op) ||
        (isa_and_present<arith::IndexCastOp>(op) && !isNarrow(value)) ||
        (isa_and_present<arith::IndexCastUIOp>(op) && !isNarrow(value) &&
         !isNarrow(op->getOperand(0)));
    return keeps ? op->getOperand(0) : Value();
  });
}

/// Whether an index is the number of an iteration of loop `dim`.
static bool isLoopNumber(linalg::LinalgOp op, Value index, unsigned dim) {
  auto number = withoutCasts(index).getDefiningOp<linalg::IndexOp>();
  return number && number->getParentOp() == op && number.getDim() == dim;
}

//===----------------------------------------------------------------------===//
// Row axes
//===----------------------------------------------------------------------===//

/// The position in a map at which a loop stands by itself, -1 if it does not
/// occur; nothing if it is combined with others.
static std::optional<int64_t> positionOf(AffineMap map, unsigned dim) {
  int64_t position = -1;
  for (auto [i, expr] : llvm::enumerate(map.getResults())) {
    if (!expr.isFunctionOfDim(dim))
      continue;
    if (!isa<AffineDimExpr>(expr) || position >= 0)
      return std::nullopt;
    position = i;
  }
  return position;
}

/// Whether extents that are constants fit each other, but for loop `dim`.
/// Upstream looks only where all loops have constant ranges, and with a
/// constant number of selected rows it would.
static bool doExtentsFit(linalg::LinalgOp op, unsigned dim) {
  SmallVector<int64_t> last = op.getStaticLoopRanges();
  last[dim] = 1;
  if (ShapedType::isDynamicShape(last))
    return true;
  for (int64_t &range : last)
    --range;
  SmallVector<int64_t> first(last.size(), 0);
  for (OpOperand &operand : op->getOpOperands()) {
    AffineMap map = op.getMatchingIndexingMap(&operand);
    SmallVector<int64_t> from(map.compose(first)), to(map.compose(last));
    for (auto [i, extent] : llvm::enumerate(op.getShape(&operand))) {
      AffineExpr index = map.getResult(i);
      if (ShapedType::isDynamic(extent) || extent == 0 ||
          index.isFunctionOfDim(dim))
        continue;
      int64_t end = std::max(from[i], to[i]) + 1;
      if (std::min(from[i], to[i]) < 0 ||
          (isa<AffineDimExpr>(index) ? end != extent : end > extent))
        return false;
    }
  }
  return true;
}

FailureOr<RowAxes> rowdemand::getLinalgRowAxes(linalg::LinalgOp op,
                                               unsigned result, int64_t axis,
                                               std::string &why) {
  llvm::raw_string_ostream os(why);
  if (!op.hasPureTensorSemantics()) {
    os << "is not purely on tensors";
    return failure();
  }
  OpOperand *init = op.getDpsInitOperand(result);
  auto row =
      dyn_cast<AffineDimExpr>(op.getMatchingIndexingMap(init).getResult(axis));
  if (!row) {
    os << "writes rows at computed positions";
    return failure();
  }
  unsigned dim = row.getPosition();
  if (op.getIteratorTypesArray()[dim] != utils::IteratorType::parallel) {
    os << "combines rows";
    return failure();
  }
  if (!doExtentsFit(op, dim)) {
    os << "has operands whose extents do not match";
    return failure();
  }
  RowAxes axes;
  for (OpOperand &operand : op->getOpOperands()) {
    AffineMap map = op.getMatchingIndexingMap(&operand);
    std::optional<int64_t> position = positionOf(map, dim);
    if (!position) {
      os << "combines rows: operand #" << operand.getOperandNumber()
         << " is read at " << map;
      return failure();
    }
    bool isInit = op.isDpsInit(&operand);
    if (isInit && *position < 0) {
      os << "writes a result that has no rows";
      return failure();
    }
    if (isInit)
      axes.results.push_back(*position);
    if (*position >= 0)
      axes.uses.push_back({&operand, *position});
  }
  forEachExtract(op, [&](tensor::ExtractOp extract) {
    // With the row number as one of several indices, the others say which
    // columns, and may depend on it.
    for (auto [i, index] : llvm::enumerate(extract.getIndices()))
      if (isLoopNumber(op, index, dim)) {
        axes.uses.push_back({&extract.getTensorMutable(), int64_t(i)});
        return;
      }
  });
  return axes;
}

SmallVector<Value> rowdemand::createLinalgForRows(OpBuilder &builder,
                                                  linalg::LinalgOp op,
                                                  const RowAxes &axes,
                                                  RowSelection &selection) {
  SmallVector<Value> results = cloneForRows(builder, op, axes, selection);
  auto copy = cast<linalg::LinalgOp>(results.front().getDefiningOp());
  // A map that has the row loop says which loop it is.
  unsigned dim = 0;
  for (auto [init, axis] :
       llvm::zip_equal(copy.getDpsInitsMutable(), axes.results))
    dim = copy.getMatchingIndexingMap(&init).getDimPosition(axis);

  // The extracts that now read selected rows, in the sequence of `uses`.
  SmallVector<unsigned> rowIndices;
  for (auto [use, axis] : axes.uses)
    if (use->getOwner() != op)
      rowIndices.push_back(axis);
  llvm::SmallPtrSet<Operation *, 4> numbered;
  unsigned next = 0;
  forEachExtract(copy, [&](tensor::ExtractOp extract) {
    for (auto [i, index] : llvm::enumerate(extract.getIndices()))
      if (isLoopNumber(copy, index, dim)) {
        assert(rowIndices[next] == i && "extracts are cloned in sequence");
        ++next;
        // A number of its own, which stays that of the selected row; it must
        // stand in the body itself.
        OpBuilder inner = OpBuilder::atBlockBegin(copy.getBlock());
        Value number =
            linalg::IndexOp::create(inner, extract.getLoc(), dim).getResult();
        numbered.insert(number.getDefiningOp());
        extract.getIndicesMutable()[i].set(number);
        return;
      }
  });
  copy->walk([&](linalg::IndexOp number) {
    if (number.getDim() != dim || number->getParentOp() != copy ||
        numbered.contains(number) || number->use_empty())
      return;
    OpBuilder inner(number->getContext());
    inner.setInsertionPointAfter(number);
    llvm::SmallPtrSet<Operation *, 4> own;
    Value whole =
        selection.getRowNumber(inner, number.getLoc(), number.getResult());
    Operation *last = whole.getDefiningOp();
    number.getResult().replaceUsesWithIf(whole, [&](OpOperand &use) {
      return last->isBeforeInBlock(
          last->getBlock()->findAncestorOpInBlock(*use.getOwner()));
    });
  });
  return results;
}

//===----------------------------------------------------------------------===//
// Gathers
//===----------------------------------------------------------------------===//

namespace {
/// One index of an extract that comes from a list of indices.
struct NamedIndex {
  unsigned position; ///< which index of the extract
  Value list;
  unsigned dim; ///< the loop over the list
  /// Whether the loop is over the whole list, as for an operand.
  bool isWhole;
};
} // namespace

/// The list that an index is an entry of, and the loop over it.
static std::optional<NamedIndex> namedIndex(linalg::LinalgOp op, Value index,
                                            unsigned position) {
  Value entry = withoutCasts(index);
  if (auto argument = dyn_cast<BlockArgument>(entry)) {
    if (argument.getOwner() != op.getBlock())
      return std::nullopt;
    OpOperand *operand = op.getMatchingOpOperand(argument);
    AffineMap map = op.getMatchingIndexingMap(operand);
    if (!op.isDpsInput(operand) || map.getNumResults() != 1 ||
        !isa<AffineDimExpr>(map.getResult(0)) ||
        !isa<RankedTensorType>(operand->get().getType()))
      return std::nullopt;
    return NamedIndex{position, operand->get(), map.getDimPosition(0), true};
  }
  auto extract = entry.getDefiningOp<tensor::ExtractOp>();
  if (!extract || extract.getIndices().size() != 1 ||
      op->isAncestor(extract.getTensor().getParentRegion()->getParentOp()))
    return std::nullopt;
  auto number =
      withoutCasts(extract.getIndices()[0]).getDefiningOp<linalg::IndexOp>();
  if (!number || number->getParentOp() != op)
    return std::nullopt;
  return NamedIndex{position, extract.getTensor(), unsigned(number.getDim()),
                    false};
}

/// The only index of an extract that is an entry of a list.
static std::optional<NamedIndex> namedIndex(linalg::LinalgOp op,
                                            tensor::ExtractOp extract) {
  std::optional<NamedIndex> found;
  for (auto [i, index] : llvm::enumerate(extract.getIndices()))
    if (std::optional<NamedIndex> named = namedIndex(op, index, i)) {
      if (found)
        return std::nullopt;
      found = named;
    }
  return found;
}

SmallVector<RowGather> rowdemand::getLinalgRowGathers(linalg::LinalgOp op) {
  SmallVector<RowGather> gathers;
  if (!op.hasPureTensorSemantics())
    return gathers;
  forEachExtract(op, [&](tensor::ExtractOp extract) {
    if (std::optional<NamedIndex> named = namedIndex(op, extract))
      gathers.push_back({&extract.getTensorMutable(), int64_t(named->position),
                         RowSet{named->list, Value()}});
  });
  return gathers;
}

SmallVector<PartialRead> rowdemand::getLinalgPartialReads(linalg::LinalgOp op) {
  SmallVector<PartialRead> reads;
  forEachExtract(op, [&](tensor::ExtractOp extract) {
    auto isLoop = [&](Value index) {
      return llvm::any_of(llvm::seq(op.getNumLoops()), [&](unsigned dim) {
        return isLoopNumber(op, index, dim);
      });
    };
    for (auto [i, index] : llvm::enumerate(extract.getIndices()))
      if (!isLoop(index) && !namedIndex(op, index, i))
        reads.push_back({&extract.getTensorMutable(), int64_t(i),
                         "computes which rows it reads: expected an unmodified "
                         "entry of a list"});
  });
  return reads;
}

/// Whether all an operation does is to give the extracted elements as they are.
static bool isOnlyGather(linalg::LinalgOp op, tensor::ExtractOp extract,
                         const NamedIndex &named) {
  // A gather of some columns has other extents, which a type may not show.
  // A tensor that is given to be written is one that the caller may look at.
  if (op->getNumResults() != 1 || !named.isWhole || !isMemoryEffectFree(op) ||
      !op.getDpsInitOperand(0)->get().getDefiningOp<tensor::EmptyOp>() ||
      cast<RankedTensorType>(op->getResult(0).getType()).getNumDynamicDims() >
          1 ||
      !op.getMatchingIndexingMap(op.getDpsInitOperand(0)).isIdentity() ||
      named.dim != named.position ||
      op.getBlock()->getTerminator()->getOperand(0) != extract.getResult())
    return false;
  for (auto [i, index] : llvm::enumerate(extract.getIndices()))
    if (i != named.position && !isLoopNumber(op, index, i))
      return false;
  return true;
}

void rowdemand::replaceLinalgRowGather(RewriterBase &rewriter,
                                       linalg::LinalgOp op,
                                       const RowGather &gather, Value rows) {
  auto extract = cast<tensor::ExtractOp>(gather.source->getOwner());
  NamedIndex named = *namedIndex(op, extract);
  if (isOnlyGather(op, extract, named) &&
      op->getResult(0).getType() == rows.getType()) {
    rewriter.replaceAllUsesWith(op->getResult(0), rows);
    return;
  }
  rewriter.setInsertionPointToStart(op.getBlock());
  Value number = linalg::IndexOp::create(rewriter, extract.getLoc(), named.dim);
  rewriter.modifyOpInPlace(extract, [&] {
    extract.getTensorMutable().assign(rows);
    extract.getIndicesMutable()[named.position].set(number);
  });
}
