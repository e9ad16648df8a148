// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Elements.h"

#include "Foreign.h"
#include "PoolChain.h"

#include "kvcache/Interfaces/Raise.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/Support/SaveAndRestore.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::raise;

// Chains in programs are a few dozen operations long; only a function that
// calls itself is longer.
static constexpr unsigned kMaxDepth = 512;

ElementTracer::ElementTracer(Location loc, ArrayRef<int64_t> shape, Value like)
    : loc(loc), shape(shape), like(like), block(new Block()),
      builder(loc.getContext()) {
  builder.setInsertionPointToEnd(block);
}

ElementTracer::~ElementTracer() {
  if (!block)
    return;
  block->dropAllReferences();
  delete block;
}

Value ElementTracer::trace(Value tensor, ArrayRef<Coord> at) {
  return follow(tensor, at, top);
}

Value ElementTracer::follow(Value tensor, ArrayRef<Coord> at,
                            const Frame &frame) {
  std::vector<std::pair<bool, int64_t>> where;
  for (const Coord &coord : at)
    where.push_back({coord.isLoop, coord.value});
  auto key = std::pair(tensor.getAsOpaquePointer(), where);
  auto known = frame.built.find(key);
  if (known != frame.built.end())
    return known->second;
  llvm::SaveAndRestore deeper(depth, depth + 1);
  Value result = depth < kMaxDepth ? step(tensor, at, frame) : Value();
  // Values of another function have no name here.
  if (!result && !frame.call)
    result = leaf(tensor, at);
  frame.built[key] = result;
  return result;
}

Value ElementTracer::leaf(Value tensor, ArrayRef<Coord> at) {
  auto type = dyn_cast<RankedTensorType>(tensor.getType());
  if (!type || !type.getElementType().isIntOrIndexOrFloat())
    return {};
  for (const Leaf &known : leaves)
    if (known.tensor == tensor && ArrayRef<Coord>(known.at) == at)
      return known.scalar;
  BlockArgument scalar = block->addArgument(type.getElementType(), loc);
  leaves.push_back({tensor, llvm::to_vector(at), scalar});
  return scalar;
}

//===----------------------------------------------------------------------===//
// One step back
//===----------------------------------------------------------------------===//

static Value constantElement(OpBuilder &builder, Location loc,
                             DenseElementsAttr elements, ArrayRef<Coord> at) {
  TypedAttr element;
  if (elements.isSplat()) {
    element = cast<TypedAttr>(elements.getSplatValue<Attribute>());
  } else {
    SmallVector<uint64_t> index;
    for (const Coord &coord : at) {
      if (coord.isLoop)
        return {};
      index.push_back(coord.value);
    }
    element = cast<TypedAttr>(elements.getValues<Attribute>()[index]);
  }
  Type type = element.getType();
  if (!type.isSignlessIntOrIndexOrFloat())
    return {};
  return arith::ConstantOp::create(builder, loc, element);
}

/// The coordinates in a tensor of shape `to` of what a reshape has at `at` in
/// one of shape `from`, where the two differ in dimensions of 1 only.
static std::optional<SmallVector<Coord>>
acrossUnits(ArrayRef<int64_t> from, ArrayRef<int64_t> to, ArrayRef<Coord> at) {
  SmallVector<Coord> kept;
  SmallVector<int64_t> extents;
  for (auto [extent, coord] : llvm::zip_equal(from, at)) {
    if (extent == 1)
      continue;
    kept.push_back(coord);
    extents.push_back(extent);
  }
  SmallVector<Coord> result;
  size_t next = 0;
  for (int64_t extent : to) {
    if (extent == 1) {
      result.push_back(Coord::at(0));
      continue;
    }
    if (next == kept.size() || extents[next] != extent)
      return std::nullopt;
    result.push_back(kept[next++]);
  }
  if (next != kept.size())
    return std::nullopt;
  return result;
}

static ArrayRef<int64_t> shapeOf(Value tensor) {
  return cast<RankedTensorType>(tensor.getType()).getShape();
}

/// Whether a tensor has this shape, but for one dimension perhaps.
static bool hasShape(Value tensor, ArrayRef<int64_t> shape,
                     std::optional<int64_t> but = std::nullopt) {
  auto type = dyn_cast<RankedTensorType>(tensor.getType());
  if (!type || type.getRank() != static_cast<int64_t>(shape.size()))
    return false;
  for (auto [dim, extent] : llvm::enumerate(shape))
    if (static_cast<int64_t>(dim) != but && type.getDimSize(dim) != extent)
      return false;
  return true;
}

/// Where an operation that only moves elements takes one from. Nobody has
/// verified one that is not registered.
static std::optional<std::pair<Value, SmallVector<Coord>>>
movedFrom(Operation *op, ArrayRef<Coord> at) {
  StringRef name = op->getName().getStringRef();
  if (op->getNumOperands() == 0 ||
      !isa<RankedTensorType>(op->getOperand(0).getType()) ||
      !isa<RankedTensorType>(op->getResult(0).getType()))
    return std::nullopt;
  Value source = op->getOperand(0);
  ArrayRef<int64_t> shape = shapeOf(op->getResult(0));
  if (isa<tensor::CastOp>(op))
    return std::pair(source, llvm::to_vector(at));
  if (isa<tensor::ExpandShapeOp, tensor::CollapseShapeOp>(op) ||
      name == "stablehlo.reshape") {
    auto moved = acrossUnits(shape, shapeOf(source), at);
    if (!moved)
      return std::nullopt;
    return std::pair(source, *moved);
  }
  if (isa<tensor::ConcatOp>(op) || name == "stablehlo.concatenate") {
    Attribute attribute =
        op->getAttr(isa<tensor::ConcatOp>(op) ? "dim" : "dimension");
    int64_t dim = integerOf(attribute).value_or(-1);
    if (dim < 0 || dim >= static_cast<int64_t>(at.size()) || at[dim].isLoop)
      return std::nullopt;
    SmallVector<Coord> moved = llvm::to_vector(at);
    for (Value operand : op->getOperands()) {
      if (!hasShape(operand, shape, dim))
        return std::nullopt;
      int64_t extent = shapeOf(operand)[dim];
      if (ShapedType::isDynamic(extent))
        return std::nullopt;
      if (moved[dim].value < extent)
        return std::pair(operand, moved);
      moved[dim].value -= extent;
    }
    return std::nullopt;
  }
  if (name == "stablehlo.broadcast_in_dim") {
    auto dims = integersOf(op, "broadcast_dimensions");
    if (!dims || dims->size() != shapeOf(source).size())
      return std::nullopt;
    SmallVector<Coord> moved;
    for (auto [dim, extent] : llvm::zip_equal(*dims, shapeOf(source))) {
      bool isThere = dim >= 0 && dim < static_cast<int64_t>(shape.size());
      if (extent != 1 && (!isThere || shape[dim] != extent))
        return std::nullopt;
      moved.push_back(extent == 1 ? Coord::at(0) : at[dim]);
    }
    return std::pair(source, moved);
  }
  if (name == "stablehlo.transpose") {
    auto permutation = permutationOf(op);
    if (!permutation)
      return std::nullopt;
    SmallVector<Coord> moved(at.size(), Coord::at(0));
    for (auto [to, from] : llvm::enumerate(*permutation))
      moved[from] = at[to];
    return std::pair(source, moved);
  }
  if (auto slice = dyn_cast<tensor::ExtractSliceOp>(op)) {
    llvm::SmallBitVector dropped = slice.getDroppedDims();
    SmallVector<Coord> moved;
    size_t next = 0;
    for (int64_t dim = 0, e = slice.getSourceType().getRank(); dim < e; ++dim) {
      int64_t offset = slice.getStaticOffset(dim);
      int64_t stride = slice.getStaticStride(dim);
      if (ShapedType::isDynamic(offset) || ShapedType::isDynamic(stride))
        return std::nullopt;
      Coord coord = dropped.test(dim) ? Coord::at(0) : at[next++];
      if (!coord.isLoop) {
        if (llvm::MulOverflow(coord.value, stride, coord.value) ||
            llvm::AddOverflow(coord.value, offset, coord.value))
          return std::nullopt;
      } else if (offset != 0 || stride != 1) {
        return std::nullopt;
      }
      moved.push_back(coord);
    }
    return std::pair(source, moved);
  }
  return std::nullopt;
}

Value ElementTracer::step(Value tensor, ArrayRef<Coord> at,
                          const Frame &frame) {
  if (!isa<RankedTensorType>(tensor.getType())) {
    // A scalar that a list is filled with.
    Attribute constant;
    if (!tensor.getType().isSignlessIntOrIndexOrFloat())
      return {};
    if (matchPattern(tensor, m_Constant(&constant)))
      return arith::ConstantOp::create(builder, loc, cast<TypedAttr>(constant));
    return frame.call ? Value() : tensor;
  }
  if (auto argument = dyn_cast<BlockArgument>(tensor)) {
    bool isParameter = frame.call && argument.getOwner()->isEntryBlock() &&
                       isa<func::FuncOp>(argument.getOwner()->getParentOp());
    if (!isParameter)
      return {};
    return follow(frame.call->getOperand(argument.getArgNumber()), at,
                  *frame.outer);
  }
  Operation *op = tensor.getDefiningOp();
  if (isa<linalg::LinalgOp>(op))
    return structured(cast<OpResult>(tensor), at, frame);
  if (op->getNumResults() != 1)
    return {};
  bool isConstant = isa<arith::ConstantOp>(op) ||
                    op->getName().getStringRef() == "stablehlo.constant";
  if (isConstant) {
    auto elements = dyn_cast_or_null<DenseElementsAttr>(op->getAttr("value"));
    return elements && elements.getType() == tensor.getType()
               ? constantElement(builder, loc, elements, at)
               : Value();
  }
  if (auto call = dyn_cast<func::CallOp>(op)) {
    auto callee = SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
        call, call.getCalleeAttr());
    if (!callee || callee.isExternal() || !callee.getBody().hasOneBlock())
      return {};
    auto result = dyn_cast<func::ReturnOp>(callee.front().getTerminator());
    if (!result)
      return {};
    Frame inner;
    inner.outer = &frame;
    inner.call = op;
    return follow(result.getOperand(0), at, inner);
  }
  if (auto splat = dyn_cast<tensor::SplatOp>(op))
    return step(splat.getInput(), {}, frame);
  if (auto moved = movedFrom(op, at))
    return follow(moved->first, moved->second, frame);
  return elementwise(op, at, frame);
}

/// An operation of linalg of which an element depends on one element of each
/// operand.
Value ElementTracer::structured(OpResult result, ArrayRef<Coord> at,
                                const Frame &frame) {
  Operation *op = result.getOwner();
  auto linalgOp = cast<linalg::LinalgOp>(op);
  unsigned number = result.getResultNumber();
  if (linalgOp.getNumParallelLoops() != linalgOp.getNumLoops() ||
      linalgOp.hasIndexSemantics())
    return {};
  SmallVector<std::optional<Coord>> loops(linalgOp.getNumLoops());
  AffineMap outMap =
      linalgOp.getMatchingIndexingMap(linalgOp.getDpsInitOperand(number));
  for (auto [expr, coord] : llvm::zip_equal(outMap.getResults(), at)) {
    auto dim = dyn_cast<AffineDimExpr>(expr);
    // Where a loop is named twice only a diagonal is written.
    if (!dim || loops[dim.getPosition()])
      return {};
    loops[dim.getPosition()] = coord;
  }
  Block *body = linalgOp.getBlock();
  IRMapping mapping;
  for (OpOperand &operand : op->getOpOperands()) {
    BlockArgument argument = linalgOp.getMatchingBlockArgument(&operand);
    if (argument.use_empty())
      continue;
    SmallVector<Coord> where;
    for (AffineExpr expr :
         linalgOp.getMatchingIndexingMap(&operand).getResults()) {
      if (auto constant = dyn_cast<AffineConstantExpr>(expr)) {
        where.push_back(Coord::at(constant.getValue()));
        continue;
      }
      auto dim = dyn_cast<AffineDimExpr>(expr);
      if (!dim || !loops[dim.getPosition()])
        return {};
      where.push_back(*loops[dim.getPosition()]);
    }
    Value scalar = follow(operand.get(), where, frame);
    if (!scalar)
      return {};
    mapping.map(argument, scalar);
  }
  for (Operation &inner : body->without_terminator()) {
    if (!isMemoryEffectFree(&inner) || inner.getNumRegions() != 0)
      return {};
    for (Value operand : inner.getOperands()) {
      if (mapping.contains(operand) || operand.getParentBlock() == body)
        continue;
      Value outer = step(operand, {}, frame);
      if (!outer)
        return {};
      mapping.map(operand, outer);
    }
    builder.clone(inner, mapping);
  }
  Value yielded = body->getTerminator()->getOperand(number);
  if (Value inside = mapping.lookupOrNull(yielded))
    return inside;
  return isa<RankedTensorType>(yielded.getType()) ? Value()
                                                  : step(yielded, {}, frame);
}

Value ElementTracer::elementwise(Operation *op, ArrayRef<Coord> at,
                                 const Frame &frame) {
  auto *raising =
      op->getDialect()
          ? op->getDialect()->getRegisteredInterface<RaiseInterface>()
          : nullptr;
  bool isMappable = OpTrait::hasElementwiseMappableTraits(op);
  bool isForeign = stablehlo::isPure(op);
  auto whole = dyn_cast<RankedTensorType>(op->getResult(0).getType());
  if ((!isMappable && !isForeign && !raising) || !whole)
    return {};
  SmallVector<Value> operands;
  for (Value operand : op->getOperands()) {
    auto type = dyn_cast<RankedTensorType>(operand.getType());
    if (!type || (type.getRank() != 0 && !hasShape(operand, whole.getShape())))
      return {};
    Value scalar =
        follow(operand, type.getRank() ? at : ArrayRef<Coord>(), frame);
    if (!scalar)
      return {};
    operands.push_back(scalar);
  }
  if (isMappable) {
    Type type = getElementTypeOrSelf(op->getResult(0).getType());
    OperationState state(loc, op->getName());
    state.addOperands(operands);
    state.addTypes(type);
    state.addAttributes(op->getAttrs());
    return builder.create(state)->getResult(0);
  }
  Value result = raising ? raising->buildElement(op, builder, operands)
                         : stablehlo::buildElement(op, builder, operands);
  bool isElement =
      result &&
      result.getType() == getElementTypeOrSelf(op->getResult(0).getType());
  return isElement ? result : Value();
}

//===----------------------------------------------------------------------===//
// Lists
//===----------------------------------------------------------------------===//

Value ElementTracer::onlyLeaf(ArrayRef<Value> values) {
  llvm::SetVector<Value> seen(values.begin(), values.end());
  Value result;
  for (size_t i = 0; i < seen.size(); ++i) {
    Value value = seen[i];
    Operation *op = value.getDefiningOp();
    if (op && op->getBlock() == block) {
      seen.insert_range(op->getOperands());
      continue;
    }
    if (matchPattern(value, m_Constant()))
      continue;
    auto argument = dyn_cast<BlockArgument>(value);
    if (!argument || argument.getOwner() != block || result)
      return {};
    result = value;
  }
  return result;
}

bool ElementTracer::isWholeList(const Leaf &leaf) const {
  if (leaf.at.size() != shape.size() || shapeOf(leaf.tensor) != ArrayRef(shape))
    return false;
  for (auto [i, coord] : llvm::enumerate(leaf.at))
    if (!(coord == Coord::loop(i)))
      return false;
  return true;
}

/// A tensor whose dimensions are those of the list that `dims` names.
Value ElementTracer::asInput(OpBuilder &at, const Leaf &leaf,
                             SmallVectorImpl<int64_t> &dims) const {
  auto type = cast<RankedTensorType>(leaf.tensor.getType());
  SmallVector<OpFoldResult> offsets, sizes, strides;
  SmallVector<int64_t> kept;
  bool isWhole = true;
  for (auto [i, coord] : llvm::enumerate(leaf.at)) {
    strides.push_back(at.getIndexAttr(1));
    offsets.push_back(at.getIndexAttr(coord.isLoop ? 0 : coord.value));
    if (!coord.isLoop) {
      sizes.push_back(at.getIndexAttr(1));
      isWhole = false;
      continue;
    }
    dims.push_back(coord.value);
    int64_t extent = shape[coord.value];
    kept.push_back(extent);
    isWhole &= extent == type.getDimSize(i);
    if (ShapedType::isDynamic(extent))
      sizes.push_back(
          tensor::DimOp::create(at, loc, like, coord.value).getResult());
    else
      sizes.push_back(at.getIndexAttr(extent));
  }
  if (isWhole)
    return leaf.tensor;
  return tensor::ExtractSliceOp::create(
      at, loc, RankedTensorType::get(kept, type.getElementType()), leaf.tensor,
      offsets, sizes, strides);
}

SmallVector<Value> ElementTracer::makeLists(OpBuilder &at,
                                            ArrayRef<Value> values) {
  // Constants of other compilers stay behind with their operations.
  for (Leaf &leaf : leaves) {
    Operation *op = leaf.tensor.getDefiningOp();
    if (!op || op->getName().getStringRef() != "stablehlo.constant")
      continue;
    auto elements = dyn_cast_or_null<DenseElementsAttr>(op->getAttr("value"));
    if (elements)
      leaf.tensor = arith::ConstantOp::create(at, loc, elements);
  }
  SmallVector<Value> results;
  SmallVector<Value> made;
  for (Value value : values) {
    auto it = llvm::find_if(
        leaves, [&](const Leaf &leaf) { return leaf.scalar == value; });
    bool isThere = it != leaves.end() && isWholeList(*it);
    results.push_back(isThere ? it->tensor : Value());
    if (!isThere)
      made.push_back(value);
  }
  if (made.empty())
    return results;

  builder.setInsertionPointToEnd(block);
  linalg::YieldOp::create(builder, loc, made);
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(*block)))
    if (isOpTriviallyDead(&op))
      op.erase();
  MLIRContext *context = loc.getContext();
  auto rank = static_cast<unsigned>(shape.size());
  SmallVector<AffineMap> maps;
  SmallVector<Value> inputs;
  llvm::BitVector unused(block->getNumArguments());
  for (const Leaf &leaf : leaves) {
    if (leaf.scalar.use_empty()) {
      unused.set(leaf.scalar.getArgNumber());
      continue;
    }
    SmallVector<int64_t> dims;
    inputs.push_back(asInput(at, leaf, dims));
    SmallVector<AffineExpr> exprs;
    for (int64_t dim : dims)
      exprs.push_back(getAffineDimExpr(dim, context));
    maps.push_back(AffineMap::get(rank, 0, exprs, context));
  }
  block->eraseArguments(unused);
  SmallVector<Value> extents;
  for (auto [dim, extent] : llvm::enumerate(shape))
    if (ShapedType::isDynamic(extent))
      extents.push_back(tensor::DimOp::create(at, loc, like, dim));
  SmallVector<Value> outputs;
  SmallVector<Type> types;
  for (Value value : made) {
    outputs.push_back(
        tensor::EmptyOp::create(at, loc, shape, value.getType(), extents));
    types.push_back(outputs.back().getType());
    maps.push_back(AffineMap::getMultiDimIdentityMap(rank, context));
    block->addArgument(value.getType(), loc);
  }
  SmallVector<utils::IteratorType> iterators(rank,
                                             utils::IteratorType::parallel);
  auto generic = linalg::GenericOp::create(at, loc, types, inputs, outputs,
                                           maps, iterators);
  generic.getRegion().getBlocks().clear();
  generic.getRegion().push_back(std::exchange(block, nullptr));
  auto next = generic.getResults().begin();
  for (Value &result : results)
    if (!result)
      result = *next++;
  return results;
}
