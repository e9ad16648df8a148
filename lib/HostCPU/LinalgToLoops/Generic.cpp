// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A generic operation as a loop nest whose innermost loop runs over vectors
// along one dimension, then over what is left one by one. Values that are the
// same along that dimension stay scalars.
//
//===----------------------------------------------------------------------===//

#include "Loops.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace kvcache;

/// Elements of a chunk of an operation with one dimension.
static constexpr int64_t kChunk = 4096;

namespace {

class GenericVectorizer {
public:
  explicit GenericVectorizer(linalg::GenericOp op)
      : op(op), maps(op.getIndexingMapsArray()),
        known(op.getStaticLoopRanges()) {}

  /// Decides on a dimension. Nothing is emitted.
  bool plan();
  void emit(LoopBuilder &b);

private:
  enum class Access { Uniform, Contiguous, Strided };

  linalg::GenericOp op;
  SmallVector<AffineMap> maps;
  SmallVector<int64_t> known;
  unsigned dim = 0;
  bool reduces = false;
  int64_t vectorLanes = kLanes;
  SmallVector<Value> extents;
  /// What is the same along the dimension, by operand, read before the loop:
  /// nothing proves later that the loop does not write it.
  SmallVector<Value> uniform;

  Access accessOf(OpOperand &operand, unsigned dim);
  int64_t score(unsigned dim);
  bool canReduce();
  Operation *combiner(unsigned out);

  void emitLoops(LoopBuilder &b, ArrayRef<unsigned> dims,
                 SmallVectorImpl<Value> &at);
  void emitInnermost(LoopBuilder &b, Value from, Value to,
                     SmallVectorImpl<Value> &at);
  SmallVector<Value> emitPoint(LoopBuilder &b, ArrayRef<Value> at,
                               int64_t lanes, ValueRange carried);
  Value widen(LoopBuilder &b, Value value, int64_t lanes);
  Value emitLoad(LoopBuilder &b, memref::LoadOp load, const IRMapping &values,
                 Value along, int64_t lanes);
  Value loadEach(LoopBuilder &b, Value buffer, int64_t lanes,
                 llvm::function_ref<SmallVector<Value>(int64_t)> indices);
  SmallVector<Value> operandIndices(LoopBuilder &b, OpOperand &operand,
                                    ArrayRef<Value> at);
};

} // namespace

GenericVectorizer::Access GenericVectorizer::accessOf(OpOperand &operand,
                                                      unsigned dim) {
  AffineMap map = maps[operand.getOperandNumber()];
  if (!map.isFunctionOfDim(dim))
    return Access::Uniform;
  AffineExpr last = map.getResults().back();
  auto type = cast<MemRefType>(operand.get().getType());
  bool isLast = last == getAffineDimExpr(dim, op.getContext()) &&
                hasUnitInnerStride(type);
  for (AffineExpr expr : map.getResults().drop_back())
    isLast &= !expr.isFunctionOfDim(dim);
  // A vector of i1 is bits in memory, a memref of i1 is bytes.
  return isLast && !type.getElementType().isInteger(1) ? Access::Contiguous
                                                       : Access::Strided;
}

/// How many operands are read or written in vectors, less those of which each
/// element is fetched alone; -1 if the dimension does not work.
int64_t GenericVectorizer::score(unsigned dim) {
  if (!ShapedType::isDynamic(known[dim]) && known[dim] < 4)
    return -1;
  bool isParallel =
      op.getIteratorTypesArray()[dim] == utils::IteratorType::parallel;
  int64_t score = 64;
  for (OpOperand &operand : op->getOpOperands()) {
    Access access = accessOf(operand, dim);
    bool isOut = op.isDpsInit(&operand);
    if (isOut && access != (isParallel ? Access::Contiguous : Access::Uniform))
      return -1;
    if (access == Access::Contiguous)
      score += isOut ? 4 : 2;
    if (access == Access::Strided)
      score -= 8;
  }
  return score;
}

/// The operation that folds a value into result `out`, if there is one whose
/// order does not matter.
Operation *GenericVectorizer::combiner(unsigned out) {
  Value old = op.getRegionOutputArgs()[out];
  Operation *fold =
      op.getBody()->getTerminator()->getOperand(out).getDefiningOp();
  if (!fold || fold->getNumOperands() != 2 || !old.hasOneUse() ||
      *old.getUsers().begin() != fold || !fold->hasOneUse())
    return nullptr;
  // Sums of narrow floats keep their order, which is what their bits depend on.
  Type type = old.getType();
  if (!type.isF32() && !type.isF64() && !isa<IntegerType>(type))
    return nullptr;
  if (!isa<arith::AddFOp, arith::MulFOp, arith::MaximumFOp, arith::MinimumFOp,
           arith::MaxNumFOp, arith::MinNumFOp, arith::AddIOp, arith::MulIOp,
           arith::AndIOp, arith::OrIOp, arith::XOrIOp, arith::MaxSIOp,
           arith::MaxUIOp, arith::MinSIOp, arith::MinUIOp>(fold) ||
      !arith::getNeutralElement(fold))
    return nullptr;
  return fold;
}

bool GenericVectorizer::canReduce() {
  for (unsigned out = 0; out < op.getNumDpsInits(); ++out)
    if (!combiner(out))
      return false;
  return true;
}

bool GenericVectorizer::plan() {
  for (auto [operand, map] : llvm::zip_equal(op->getOpOperands(), maps)) {
    bool isMemRef = isa<MemRefType>(operand.get().getType());
    if (!isMemRef && map.getNumResults())
      return false;
    for (AffineExpr expr : map.getResults())
      if (!isa<AffineDimExpr, AffineConstantExpr>(expr))
        return false;
  }
  for (Operation &inner : op.getBody()->without_terminator()) {
    if (isa<arith::ConstantOp, linalg::IndexOp, memref::LoadOp>(inner))
      continue;
    if (!OpTrait::hasElementwiseMappableTraits(&inner) ||
        inner.getNumResults() != 1 ||
        !VectorType::isValidElementType(inner.getResult(0).getType()))
      return false;
  }
  int64_t best = -1;
  for (unsigned i = 0; i < op.getNumLoops(); ++i) {
    bool isReduction =
        op.getIteratorTypesArray()[i] == utils::IteratorType::reduction;
    int64_t value = isReduction && !canReduce() ? -1 : score(i);
    if (value < 0 || value < best)
      continue;
    best = value;
    dim = i;
    reduces = isReduction;
  }
  if (best < 0)
    return false;
  if (!ShapedType::isDynamic(known[dim]))
    while (vectorLanes > known[dim])
      vectorLanes /= 2;
  return true;
}

void GenericVectorizer::emit(LoopBuilder &b) {
  for (Range range : cast<linalg::LinalgOp>(op.getOperation())
                         .createLoopRanges(b, op.getLoc()))
    extents.push_back(
        getValueOrCreateConstantIndexOp(b, op.getLoc(), range.size));
  SmallVector<unsigned> dims;
  std::optional<unsigned> spread;
  for (auto [i, iterator] : llvm::enumerate(op.getIteratorTypesArray())) {
    if (i == dim)
      continue;
    if (!spread && iterator == utils::IteratorType::parallel && known[i] != 1)
      spread = i;
    else
      dims.push_back(i);
  }
  int64_t operations = 1 + op->getNumOperands();
  for (Operation &inner : *op.getBody())
    operations +=
        isa_and_present<math::MathDialect>(inner.getDialect()) ? 16 : 1;
  Value work = b.index(operations);
  for (unsigned i = 0; i < extents.size(); ++i)
    if (i != spread && (spread || i != dim))
      work = b.muli(work, extents[i]);

  SmallVector<Value> at(extents.size());
  if (spread)
    return b.items(extents[*spread], work, [&](Value i) {
      at[*spread] = i;
      emitLoops(b, dims, at);
    });
  if (reduces)
    return emitLoops(b, dims, at);
  // Every other dimension has one element, or is summed over: each chunk of the
  // vectors goes through them.
  b.items(b.ceildivui(extents[dim], b.index(kChunk)), b.muli(work, kChunk),
          [&](Value chunk) {
            Value from = b.muli(chunk, kChunk);
            Value whole = extents[dim];
            Value to = b.minui(b.addi(from, kChunk), whole);
            std::function<void(ArrayRef<unsigned>)> nest =
                [&](ArrayRef<unsigned> rest) {
                  if (rest.empty())
                    return emitInnermost(b, from, to, at);
                  b.forLoop(b.index(0), extents[rest.front()], 1, [&](Value i) {
                    at[rest.front()] = i;
                    nest(rest.drop_front());
                  });
                };
            nest(dims);
          });
}

void GenericVectorizer::emitLoops(LoopBuilder &b, ArrayRef<unsigned> dims,
                                  SmallVectorImpl<Value> &at) {
  if (dims.empty())
    return emitInnermost(b, b.index(0), extents[dim], at);
  b.forLoop(b.index(0), extents[dims.front()], 1, [&](Value i) {
    at[dims.front()] = i;
    emitLoops(b, dims.drop_front(), at);
  });
}

/// The lanes of a vector folded by halves.
static Value foldLanes(LoopBuilder &b, Operation *fold, Value value) {
  int64_t lanes = cast<VectorType>(value.getType()).getNumElements();
  auto combine = [&](Value x, Value y) {
    return b
        .create(OperationState(fold->getLoc(), fold->getName().getStringRef(),
                               {x, y}, {x.getType()}, fold->getAttrs()))
        ->getResult(0);
  };
  while (lanes > 1) {
    lanes /= 2;
    SmallVector<int64_t> low, high;
    for (int64_t i = 0; i < lanes; ++i) {
      low.push_back(i);
      high.push_back(i + lanes);
    }
    Value x = vector::ShuffleOp::create(b, value, value, low);
    Value y = vector::ShuffleOp::create(b, value, value, high);
    value = combine(x, y);
  }
  return vector::ExtractOp::create(b, value, 0);
}

void GenericVectorizer::emitInnermost(LoopBuilder &b, Value from, Value to,
                                      SmallVectorImpl<Value> &at) {
  uniform.assign(op->getNumOperands(), Value());
  for (OpOperand *operand : op.getDpsInputOperands())
    if (isa<MemRefType>(operand->get().getType()) &&
        accessOf(*operand, dim) == Access::Uniform &&
        op.payloadUsesValueFromOperand(operand))
      uniform[operand->getOperandNumber()] = memref::LoadOp::create(
          b, operand->get(), operandIndices(b, *operand, at));
  Value middle = b.addi(from, b.floorTo(b.subi(to, from), vectorLanes));
  if (!reduces) {
    auto run = [&](Value first, Value last, int64_t lanes) {
      b.forLoop(first, last, lanes, [&](Value i) {
        at[dim] = i;
        emitPoint(b, at, lanes, {});
      });
    };
    run(from, middle, vectorLanes);
    return run(middle, to, 1);
  }

  SmallVector<Value> partial;
  for (unsigned out = 0; out < op.getNumDpsInits(); ++out) {
    TypedAttr neutral = *arith::getNeutralElement(combiner(out));
    partial.push_back(
        widen(b, arith::ConstantOp::create(b, neutral), vectorLanes));
  }
  auto step = [&](int64_t lanes) {
    return [&, lanes](Value i, ValueRange carried) {
      at[dim] = i;
      return emitPoint(b, at, lanes, carried);
    };
  };
  partial = b.forLoop(from, middle, vectorLanes, partial, step(vectorLanes));
  SmallVector<Value> totals;
  SmallVector<SmallVector<Value>> where;
  for (auto [out, value] : llvm::enumerate(partial)) {
    OpOperand &operand = *op.getDpsInitOperand(out);
    where.push_back(operandIndices(b, operand, at));
    Operation *fold = combiner(out);
    Value old = memref::LoadOp::create(b, operand.get(), where.back());
    Value lanes = foldLanes(b, fold, value);
    totals.push_back(
        b.create(OperationState(fold->getLoc(), fold->getName().getStringRef(),
                                {old, lanes}, {old.getType()},
                                fold->getAttrs()))
            ->getResult(0));
  }
  totals = b.forLoop(middle, to, 1, totals, step(1));
  for (auto [out, value] : llvm::enumerate(totals))
    memref::StoreOp::create(b, value, op.getDpsInitOperand(out)->get(),
                            where[out]);
}

SmallVector<Value> GenericVectorizer::operandIndices(LoopBuilder &b,
                                                     OpOperand &operand,
                                                     ArrayRef<Value> at) {
  SmallVector<Value> result;
  for (AffineExpr expr : maps[operand.getOperandNumber()].getResults()) {
    if (auto constant = dyn_cast<AffineConstantExpr>(expr))
      result.push_back(b.index(constant.getValue()));
    else
      result.push_back(at[cast<AffineDimExpr>(expr).getPosition()]);
  }
  return result;
}

Value GenericVectorizer::widen(LoopBuilder &b, Value value, int64_t lanes) {
  if (lanes == 1 || isa<VectorType>(value.getType()))
    return value;
  auto type = VectorType::get({lanes}, value.getType());
  Value wide = vector::BroadcastOp::create(b, type, value);
  return wide;
}

Value GenericVectorizer::loadEach(
    LoopBuilder &b, Value buffer, int64_t lanes,
    llvm::function_ref<SmallVector<Value>(int64_t)> indices) {
  SmallVector<Value> elements;
  for (int64_t lane = 0; lane < lanes; ++lane)
    elements.push_back(memref::LoadOp::create(b, buffer, indices(lane)));
  auto type = VectorType::get({lanes}, elements.front().getType());
  return vector::FromElementsOp::create(b, type, elements);
}

/// A load in the body, at indices that may depend on data.
Value GenericVectorizer::emitLoad(LoopBuilder &b, memref::LoadOp load,
                                  const IRMapping &values, Value along,
                                  int64_t lanes) {
  Value buffer = load.getMemRef();
  SmallVector<Value> indices;
  bool varies = false, contiguous = hasUnitInnerStride(buffer.getType()) &&
                                    !load.getType().isInteger(1);
  for (auto [i, index] : llvm::enumerate(load.getIndices())) {
    Value value = values.lookupOrDefault(index);
    indices.push_back(value);
    // The dimension itself is kept as the scalar at which a vector begins.
    auto position = index.getDefiningOp<linalg::IndexOp>();
    bool isAlong = position && position.getDim() == dim;
    varies |= isAlong || isa<VectorType>(value.getType());
    if (i + 1 < load.getIndices().size())
      contiguous &= !isAlong && !isa<VectorType>(value.getType());
    else
      contiguous &= isAlong;
  }
  if (lanes == 1 || !varies)
    return memref::LoadOp::create(b, buffer, indices);
  if (contiguous)
    return vector::LoadOp::create(b, VectorType::get({lanes}, load.getType()),
                                  buffer, indices);
  return loadEach(b, buffer, lanes, [&](int64_t lane) {
    SmallVector<Value> result;
    for (auto [index, value] : llvm::zip_equal(load.getIndices(), indices)) {
      auto position = index.getDefiningOp<linalg::IndexOp>();
      if (position && position.getDim() == dim)
        result.push_back(b.addi(along, lane));
      else if (isa<VectorType>(value.getType()))
        result.push_back(vector::ExtractOp::create(b, value, lane));
      else
        result.push_back(value);
    }
    return result;
  });
}

/// The body for `lanes` neighbours along the dimension. Gives what is carried
/// on, if the dimension is summed over, and stores the results otherwise.
SmallVector<Value> GenericVectorizer::emitPoint(LoopBuilder &b,
                                                ArrayRef<Value> at,
                                                int64_t lanes,
                                                ValueRange carried) {
  IRMapping values;
  Block &body = *op.getBody();
  for (OpOperand &operand : op->getOpOperands()) {
    unsigned number = operand.getOperandNumber();
    BlockArgument argument = body.getArgument(number);
    if (op.isDpsInit(&operand) && !carried.empty()) {
      values.map(argument, carried[number - op.getNumDpsInputs()]);
      continue;
    }
    if (argument.use_empty())
      continue;
    if (uniform[number]) {
      values.map(argument, uniform[number]);
      continue;
    }
    if (!isa<MemRefType>(operand.get().getType())) {
      values.map(argument, operand.get());
      continue;
    }
    SmallVector<Value> where = operandIndices(b, operand, at);
    Access access = lanes == 1 ? Access::Uniform : accessOf(operand, dim);
    if (access == Access::Uniform) {
      values.map(argument, memref::LoadOp::create(b, operand.get(), where));
    } else if (access == Access::Contiguous) {
      auto type = VectorType::get({lanes}, argument.getType());
      values.map(argument,
                 vector::LoadOp::create(b, type, operand.get(), where));
    } else {
      SmallVector<Value> there(at);
      values.map(argument, loadEach(b, operand.get(), lanes, [&](int64_t lane) {
                   there[dim] = b.addi(at[dim], lane);
                   return operandIndices(b, operand, there);
                 }));
    }
  }

  for (Operation &inner : body.without_terminator()) {
    if (auto index = dyn_cast<linalg::IndexOp>(inner)) {
      values.map(index.getResult(), at[index.getDim()]);
      continue;
    }
    if (auto load = dyn_cast<memref::LoadOp>(inner)) {
      values.map(load.getResult(), emitLoad(b, load, values, at[dim], lanes));
      continue;
    }
    SmallVector<Value> operands;
    bool varies = false;
    for (Value operand : inner.getOperands()) {
      Value value = values.lookupOrDefault(operand);
      auto position = operand.getDefiningOp<linalg::IndexOp>();
      if (lanes > 1 && position && position.getDim() == dim) {
        SmallVector<int64_t> steps = llvm::to_vector(llvm::seq(lanes));
        Value step = arith::ConstantOp::create(b, b.getIndexVectorAttr(steps));
        value = b.addi(widen(b, value, lanes), step);
      }
      varies |= isa<VectorType>(value.getType());
      operands.push_back(value);
    }
    Type type = inner.getResult(0).getType();
    if (varies) {
      for (Value &operand : operands)
        operand = widen(b, operand, lanes);
      type = VectorType::get({lanes}, type);
    }
    Operation *copy =
        b.create(OperationState(inner.getLoc(), inner.getName().getStringRef(),
                                operands, {type}, inner.getAttrs()));
    values.map(inner.getResult(0), copy->getResult(0));
  }

  SmallVector<Value> results;
  for (auto [out, yielded] :
       llvm::enumerate(body.getTerminator()->getOperands())) {
    Value value = values.lookupOrDefault(yielded);
    auto position = yielded.getDefiningOp<linalg::IndexOp>();
    if (lanes > 1 && position && position.getDim() == dim) {
      SmallVector<int64_t> steps = llvm::to_vector(llvm::seq(lanes));
      Value step = arith::ConstantOp::create(b, b.getIndexVectorAttr(steps));
      value = b.addi(widen(b, value, lanes), step);
    }
    value = widen(b, value, lanes);
    results.push_back(value);
    if (reduces)
      continue;
    OpOperand &operand = *op.getDpsInitOperand(out);
    SmallVector<Value> where = operandIndices(b, operand, at);
    if (lanes > 1)
      vector::StoreOp::create(b, value, operand.get(), where);
    else
      memref::StoreOp::create(b, value, operand.get(), where);
  }
  return results;
}

LogicalResult kvcache::vectorizeGeneric(linalg::GenericOp op) {
  GenericVectorizer vectorizer(op);
  if (!vectorizer.plan())
    return failure();
  LoopBuilder b(op.getLoc(), op);
  vectorizer.emit(b);
  op.erase();
  return success();
}
