// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "StoreLoops.h"

#include "CacheViews.h"
#include "PoolChain.h"
#include "SlotProof.h"
#include "kvcache/Analysis/Memory.h"
#include "kvcache/IR/Sources.h"
#include "kvcache/IR/Strides.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::raise;

namespace {

/// One of the nested loops.
struct Loop {
  Value counter; ///< null in linalg.generic
  OpFoldResult count;
  bool isOrdered = false;
};

/// A value of memory at the counters of some loops.
struct Load {
  Value memref;
  SmallVector<unsigned> loops; ///< one for each dimension
};

class StoreLoop {
public:
  StoreLoop(Operation *op) : op(op), loc(op->getLoc()), builder(op) {}
  ~StoreLoop() {
    if (scratch)
      scratch->dropAllReferences();
  }

  Raised raise(const RaiseFacts &facts);

private:
  LogicalResult refuse(const Twine &text) {
    raised.text = text.str();
    return failure();
  }
  LogicalResult enter(Block &body);
  LogicalResult enterLoop(Operation *op);
  LogicalResult addLoop(Value counter, Value low, Value high, Value step,
                        bool isOrdered);
  std::optional<unsigned> loopOf(Value value);
  std::optional<Load> loadOf(Value value);
  LogicalResult findRows();
  Value copyScalar(Value value, IRMapping &mapping, OpBuilder &scalars);
  LogicalResult checkMemory();
  LogicalResult checkCounts();
  LogicalResult covers(unsigned loop, Value memref, unsigned dim);
  Value firstOf(Value memref, bool isGuarded);

  Operation *op;
  Location loc;
  OpBuilder builder;
  Raised raised;
  SmallVector<Loop> loops;
  SmallVector<Value> guards;
  linalg::GenericOp generic;
  memref::StoreOp store;
  Load rows;
  unsigned rowLoop = 0;
  SmallVector<unsigned> numbers; ///< dimensions of the pool
  SmallVector<char> axes;
  std::unique_ptr<Block> scratch;
  Value slots; ///< the memref
};

} // namespace

//===----------------------------------------------------------------------===//
// The nest
//===----------------------------------------------------------------------===//

LogicalResult StoreLoop::addLoop(Value counter, Value low, Value high,
                                 Value step, bool isOrdered) {
  if (!isConstantIntValue(low, 0) || !isConstantIntValue(step, 1))
    return refuse("a loop does not count from 0 in steps of 1");
  loops.push_back({counter, getAsOpFoldResult(high), isOrdered});
  return success();
}

LogicalResult StoreLoop::enterLoop(Operation *inner) {
  if (auto loop = dyn_cast<scf::ForOp>(inner)) {
    if (loop.getNumResults() != 0)
      return refuse("a loop carries values from one iteration to the next");
    if (failed(addLoop(loop.getInductionVar(), loop.getLowerBound(),
                       loop.getUpperBound(), loop.getStep(), true)))
      return failure();
    return enter(*loop.getBody());
  }
  if (auto loop = dyn_cast<scf::ParallelOp>(inner)) {
    if (loop.getNumResults() != 0)
      return refuse("a loop reduces values");
    for (auto [counter, low, high, step] :
         llvm::zip_equal(loop.getInductionVars(), loop.getLowerBound(),
                         loop.getUpperBound(), loop.getStep()))
      if (failed(addLoop(counter, low, high, step, false)))
        return failure();
    return enter(*loop.getBody());
  }
  generic = cast<linalg::GenericOp>(inner);
  if (!loops.empty() || generic.getNumResults() != 0 ||
      generic.getNumDpsInits() != 0 ||
      generic.getNumParallelLoops() != generic.getNumLoops())
    return refuse("linalg.generic writes more than the pool, or reduces");
  for (unsigned i = 0; i < generic.getNumLoops(); ++i) {
    // The extent of a loop, where it is a constant.
    OpFoldResult count;
    for (OpOperand *operand : generic.getDpsInputOperands()) {
      auto type = dyn_cast<MemRefType>(operand->get().getType());
      if (!type)
        return refuse("linalg.generic has an operand that is not a memref");
      AffineMap map = generic.getMatchingIndexingMap(operand);
      for (auto [dim, expr] : llvm::enumerate(map.getResults()))
        if (expr == getAffineDimExpr(i, op->getContext()) &&
            !type.isDynamicDim(dim))
          count = builder.getIndexAttr(type.getDimSize(dim));
    }
    loops.push_back({Value(), count, false});
  }
  return enter(*generic.getBody());
}

LogicalResult StoreLoop::enter(Block &body) {
  bool hasNested = false;
  for (Operation &inner : body) {
    bool isNested = isa<scf::ForOp, scf::ParallelOp, scf::IfOp,
                        linalg::GenericOp, memref::StoreOp>(inner);
    if (isNested && std::exchange(hasNested, true))
      return refuse("there is more than one loop or store in a body");
    if (auto condition = dyn_cast<scf::IfOp>(inner)) {
      if (condition.elseBlock() || condition.getNumResults() != 0)
        return refuse("a condition has an else branch or a result");
      guards.push_back(condition.getCondition());
      if (failed(enter(*condition.thenBlock())))
        return failure();
    } else if (auto found = dyn_cast<memref::StoreOp>(inner)) {
      store = found;
    } else if (isNested) {
      if (failed(enterLoop(&inner)))
        return failure();
    } else if (!inner.hasTrait<OpTrait::IsTerminator>() &&
               !isa<memref::LoadOp>(inner) && !isMemoryEffectFree(&inner)) {
      return refuse("there is an operation with effects in the loop: " +
                    inner.getName().getStringRef());
    }
  }
  return success();
}

/// Constants that no extent can be. A loop to one below 0 does not run, and the
/// lowest of them means an extent that is not known.
LogicalResult StoreLoop::checkCounts() {
  for (const Loop &loop : loops)
    if (std::optional<int64_t> count = getConstantIntValue(loop.count);
        count && (*count < 0 || *count > kMaxExtent))
      return refuse("expected between 0 and 2^40 iterations of a loop, got an "
                    "upper bound of " +
                    Twine(*count));
  return success();
}

std::optional<unsigned> StoreLoop::loopOf(Value value) {
  if (auto index = value.getDefiningOp<linalg::IndexOp>())
    return index->getParentOp() == generic.getOperation()
               ? std::optional<unsigned>(index.getDim())
               : std::nullopt;
  for (auto [i, loop] : llvm::enumerate(loops))
    if (loop.counter && loop.counter == value)
      return i;
  return std::nullopt;
}

std::optional<Load> StoreLoop::loadOf(Value value) {
  Load load;
  if (auto op = value.getDefiningOp<memref::LoadOp>()) {
    load.memref = op.getMemRef();
    for (Value index : op.getIndices()) {
      std::optional<unsigned> loop = loopOf(index);
      if (!loop)
        return std::nullopt;
      load.loops.push_back(*loop);
    }
    return load;
  }
  auto argument = dyn_cast<BlockArgument>(value);
  if (!generic || !argument || argument.getOwner() != generic.getBody())
    return std::nullopt;
  OpOperand &operand = generic->getOpOperand(argument.getArgNumber());
  load.memref = operand.get();
  for (AffineExpr expr :
       generic.getMatchingIndexingMap(&operand).getResults()) {
    auto dim = dyn_cast<AffineDimExpr>(expr);
    if (!dim)
      return std::nullopt;
    load.loops.push_back(dim.getPosition());
  }
  return load;
}

//===----------------------------------------------------------------------===//
// Rows and numbers
//===----------------------------------------------------------------------===//

/// That a loop runs over the whole of a dimension.
LogicalResult StoreLoop::covers(unsigned loop, Value memref, unsigned dim) {
  auto type = cast<MemRefType>(memref.getType());
  // linalg demands that the extents of its operands agree.
  if (generic && llvm::is_contained(generic.getInputs(), memref))
    return success();
  OpFoldResult count = loops[loop].count;
  if (!count)
    return failure();
  if (std::optional<int64_t> constant = getConstantIntValue(count))
    return success(type.getDimSize(dim) == *constant);
  auto value = cast<Value>(count);
  auto dimOp = value.getDefiningOp<memref::DimOp>();
  return success(dimOp && dimOp.getSource() == memref &&
                 dimOp.getConstantIndex() == dim);
}

LogicalResult StoreLoop::findRows() {
  if (!store)
    return refuse("it contains no store");
  std::optional<Load> value = loadOf(store.getValueToStore());
  if (!value || value->loops.empty())
    return refuse(
        "the stored value is not an element of rows indexed by the loops");
  rows = *value;
  rowLoop = rows.loops[0];
  MemRefType pool = store.getMemRefType();
  axes.assign(pool.getRank(), 0);
  // Inner dimensions of rows are dimensions of the pool, in their sequence.
  SmallVector<unsigned> inner;
  for (auto [dim, index] : llvm::enumerate(store.getIndices())) {
    std::optional<unsigned> loop = loopOf(index);
    if (loop && *loop != rowLoop) {
      inner.push_back(*loop);
      if (failed(covers(*loop, store.getMemRef(), dim)))
        return refuse(
            "whole rows are expected: a loop does not run over all of "
            "dimension " +
            Twine(dim) + " of the pool");
      axes[dim] = 'D';
    } else {
      numbers.push_back(dim);
    }
  }
  if (ArrayRef(rows.loops).drop_front() != ArrayRef(inner))
    return refuse("the inner dimensions of the rows are not those of the pool, "
                  "in their sequence");
  if (inner.empty() || inner.size() > 2)
    return refuse("expected rows of channels, or of heads and channels, got " +
                  Twine(inner.size()) + " dimensions");
  if (inner.size() == 2)
    *llvm::find(axes, 'D') = 'H';
  if (numbers.size() != 1 && numbers.size() != 2)
    return refuse("expected one index per row, or a block and an offset, got " +
                  Twine(numbers.size()));
  axes[numbers[0]] = numbers.size() == 2 ? 'B' : kRows;
  if (numbers.size() == 2)
    axes[numbers[1]] = 'N';
  llvm::SmallDenseSet<unsigned> used(rows.loops.begin(), rows.loops.end());
  if (used.size() != loops.size() || used.size() != rows.loops.size())
    return refuse("each loop is expected to count one dimension of the rows");
  return success();
}

/// A copy of scalar arithmetic in a block of its own, of the number that is
/// loaded for the row. Null if it depends on anything else.
Value StoreLoop::copyScalar(Value value, IRMapping &mapping,
                            OpBuilder &scalars) {
  if (Value known = mapping.lookupOrNull(value))
    return known;
  Attribute constant;
  if (matchPattern(value, m_Constant(&constant)))
    return value;
  if (std::optional<Load> load = loadOf(value)) {
    bool isNumber = load->loops == ArrayRef<unsigned>{rowLoop} &&
                    value.getType().isSignlessInteger() &&
                    (!slots || slots == load->memref);
    if (!isNumber)
      return {};
    if (!slots) {
      slots = load->memref;
      scratch->addArgument(value.getType(), loc);
    }
    return scratch->getArgument(0);
  }
  Operation *from = value.getDefiningOp();
  if (!from || !isMemoryEffectFree(from) || from->getNumRegions() != 0 ||
      from->getNumResults() != 1 || !op->isProperAncestor(from))
    return {};
  for (Value operand : from->getOperands()) {
    Value copy = copyScalar(operand, mapping, scalars);
    if (!copy)
      return {};
    mapping.map(operand, copy);
  }
  Value result = scalars.clone(*from, mapping)->getResult(0);
  mapping.map(value, result);
  return result;
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

static bool hasPackedInner(MemRefType type) {
  std::optional<std::vector<StridedDim>> dims = stridedDims(type);
  int64_t inner = std::max<int64_t>(type.getRank() - 1, 0);
  return dims && isRowMajor(*dims, 1) &&
         !ShapedType::isDynamicShape(type.getShape().take_back(inner));
}

LogicalResult StoreLoop::checkMemory() {
  auto rowsType = cast<MemRefType>(rows.memref.getType());
  auto slotsType = cast<MemRefType>(slots.getType());
  if (findUnbounded({rowsType, slotsType, store.getMemRefType()}, kMaxExtent))
    return refuse("at most 2^40 elements of a memref are expected");
  if (rowsType.getMemorySpace() || slotsType.getMemorySpace())
    return refuse("rows or slots are not in the default memory space");
  if (!hasPackedInner(rowsType))
    return refuse("the inner dimensions of the rows are not contiguous");
  if (!slotsType.getLayout().isIdentity())
    return refuse("the list of slots is not contiguous");
  Type number = slotsType.getElementType();
  if (!number.isInteger(32) && !number.isInteger(64))
    return refuse("slots of i32 or i64 are expected");
  for (Value other : {rows.memref, slots})
    if (mayShareMemory(store.getMemRef(), other))
      return refuse("the pool and the " +
                    Twine(other == slots ? "slots" : "rows") +
                    " may share memory: the argument lacks kvcache.noalias");
  return success();
}

/// The part of a memref that the loop runs over.
Value StoreLoop::firstOf(Value memref, bool isGuarded) {
  if (succeeded(covers(rowLoop, memref, 0)))
    return memref;
  if (isGuarded)
    return {};
  auto type = cast<MemRefType>(memref.getType());
  SmallVector<OpFoldResult> offsets(type.getRank(), builder.getIndexAttr(0));
  SmallVector<OpFoldResult> strides(type.getRank(), builder.getIndexAttr(1));
  SmallVector<OpFoldResult> sizes = memref::getMixedSizes(builder, loc, memref);
  OpFoldResult count = loops[rowLoop].count;
  if (auto value = dyn_cast<Value>(count))
    // A loop to a negative number does not run.
    count =
        arith::MaxSIOp::create(builder, loc, value,
                               arith::ConstantIndexOp::create(builder, loc, 0))
            .getResult();
  sizes[0] = count;
  return memref::SubViewOp::create(builder, loc, memref, offsets, sizes,
                                   strides);
}

//===----------------------------------------------------------------------===//
// All together
//===----------------------------------------------------------------------===//

Raised StoreLoop::raise(const RaiseFacts &facts) {
  if (failed(enterLoop(op)) || failed(checkCounts()) || failed(findRows()))
    return raised;
  if (loops[rowLoop].isOrdered && !facts.lastRowWins) {
    (void)refuse(
        "rows of one slot are written in sequence, and nothing excludes "
        "duplicates or promises that the last row wins (last-row-wins)");
    return raised;
  }
  auto isInside = [&](Value value) {
    return value && op->isAncestor(value.getParentBlock()->getParentOp());
  };
  auto count = dyn_cast_if_present<Value>(loops[rowLoop].count);
  if (isInside(store.getMemRef()) || isInside(rows.memref) || isInside(count)) {
    (void)refuse("the pool, the rows or their number is computed in the loop");
    return raised;
  }
  std::string why;
  std::optional<CacheView> view = CacheView::get(store.getMemRef(), axes, why);
  if (!view) {
    (void)refuse("the pool is not a cache: " + why);
    return raised;
  }
  const Layout &layout = view->type().getLayout();

  scratch = std::make_unique<Block>();
  OpBuilder scalars(op->getContext());
  scalars.setInsertionPointToEnd(scratch.get());
  IRMapping mapping;
  SlotQuestion question;
  auto copy = [&](Value value) { return copyScalar(value, mapping, scalars); };
  SmallVector<Value> found;
  for (unsigned dim : numbers)
    found.push_back(copy(store.getIndices()[dim]));
  for (Value guard : guards) {
    Value condition = copy(guard);
    if (!condition) {
      (void)refuse(
          "the condition of the store does not depend on the slot alone");
      return raised;
    }
    question.guard =
        question.guard
            ? arith::AndIOp::create(scalars, loc, question.guard, condition)
                  .getResult()
            : condition;
  }
  if (llvm::is_contained(found, Value()) || !slots) {
    (void)refuse("the index of a row is not computed from one loaded slot");
    return raised;
  }
  if (isInside(slots)) {
    (void)refuse("the list of slots is computed in the loop");
    return raised;
  }
  question.slot = scratch->getArgument(0);
  question.block = found[0];
  question.offset =
      found.size() == 2
          ? found[1]
          : arith::ConstantIndexOp::create(scalars, loc, 0).getResult();
  question.tokens = layout.extent(AxisKind::Token);
  question.blocks = layout.extent(AxisKind::Block);
  SlotAnswer answer;
  bool hasBlocks = found.size() == 2 || question.tokens == 1;
  if (hasBlocks) {
    answer = proveSlots(question);
  } else {
    // A collapsed pool: its rows are the slots.
    question.tokens = 1;
    if (question.blocks != kRunTime)
      question.blocks *= layout.extent(AxisKind::Token);
    answer = proveSlots(question);
  }
  if (answer.kind != SlotAnswer::Kind::Slot) {
    (void)refuse(answer.kind == SlotAnswer::Kind::Wrapped
                     ? "negative slots count from the end of the pool, which a "
                       "list of slots cannot express"
                     : answer.why);
    return raised;
  }
  if (failed(checkMemory()))
    return raised;

  bool isGuarded = !guards.empty();
  bool hasAll = succeeded(covers(rowLoop, rows.memref, 0)) &&
                succeeded(covers(rowLoop, slots, 0));
  if (isGuarded && !hasAll) {
    (void)refuse(
        "there may be fewer rows than iterations, as stores depend on a "
        "condition");
    return raised;
  }
  if (!hasAll && !loops[rowLoop].count) {
    (void)refuse("the number of rows written is unknown: no operand of "
                 "linalg.generic has them as a constant dimension");
    return raised;
  }
  std::optional<int64_t> constant = getConstantIntValue(loops[rowLoop].count);
  for (Value list : {rows.memref, slots}) {
    auto type = cast<MemRefType>(list.getType());
    if (constant && !type.isDynamicDim(0) && *constant > type.getDimSize(0)) {
      (void)refuse("the loop runs past the last of " +
                   Twine(type.getDimSize(0)) + " entries");
      return raised;
    }
  }
  Value rowList = firstOf(rows.memref, isGuarded);
  Value slotList = firstOf(slots, isGuarded);
  Value cache = view->build(builder, loc);
  Value made = MakeSlotsOp::create(
      builder, loc,
      slotsOf(slotList.getType(), layout.extent(AxisKind::Token), answer.pad),
      slotList);
  raised.op = IndexCopyOp::create(
      builder, loc, TypeRange(), ValueRange(rowList), cache,
      /*scales=*/Value(), made, ArrayAttr(), CopyScheduleAttr());
  raised.text = "raised to index_copy: rows_per_block = " +
                std::to_string(layout.extent(AxisKind::Token)) + ", " +
                describe(answer.pad);
  if (!view->folded().empty())
    raised.text += "; folded " + view->folded().str();
  raised.erased.push_back(op);
  return raised;
}

/// Whether a loop stores at a place that is computed from loaded numbers.
static bool storesAtLoaded(Operation *op) {
  SmallVector<Value> worklist;
  op->walk([&](memref::StoreOp store) {
    Type element = store.getMemRefType().getElementType();
    if (element.isF16() || element.isBF16() || element.isF32())
      llvm::append_range(worklist, store.getIndices());
  });
  // Somewhere in the indices a number is loaded.
  llvm::SmallPtrSet<Operation *, 16> seen;
  while (!worklist.empty()) {
    Value value = worklist.pop_back_val();
    auto argument = dyn_cast<BlockArgument>(value);
    if (argument && argument.getOwner()->getParentOp() == op &&
        isa<linalg::GenericOp>(op))
      return true;
    Operation *from = value.getDefiningOp();
    if (!from || !op->isProperAncestor(from) || !seen.insert(from).second)
      continue;
    if (isa<memref::LoadOp>(from))
      return true;
    llvm::append_range(worklist, from->getOperands());
  }
  return false;
}

bool raise::isStoreLoop(Operation *op) {
  return isa<scf::ForOp, scf::ParallelOp, linalg::GenericOp>(op) &&
         !op->getParentOfType<scf::ForOp>() &&
         !op->getParentOfType<scf::ParallelOp>() && storesAtLoaded(op);
}

Raised raise::raiseStoreLoop(Operation *op, const RaiseFacts &facts) {
  Raised raised = StoreLoop(op).raise(facts);
  if (raised.op)
    return raised;
  // One around it, over layers perhaps, is none of the loops of rows.
  Raised within;
  op->walk<WalkOrder::PreOrder>([&](Operation *inner) {
    bool isLoop = isa<scf::ForOp, scf::ParallelOp, linalg::GenericOp>(inner);
    if (inner == op || !isLoop)
      return WalkResult::advance();
    if (storesAtLoaded(inner))
      within = StoreLoop(inner).raise(facts);
    return within.op ? WalkResult::interrupt() : WalkResult::advance();
  });
  return within.op ? within : raised;
}
