// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Contraction.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;
using namespace kvcache;

static constexpr int64_t kRowRun = 8192; // bytes of each row of B in a chunk
static constexpr int64_t kRowDots = 128; // columns of B in a chunk

/// add(out, mul(a, b)), where a and b may be extended from a narrower float.
static bool isMultiplyAdd(Block &body) {
  auto add = body.getTerminator()->getOperand(0).getDefiningOp<arith::AddFOp>();
  if (!add || body.getTerminator()->getNumOperands() != 1)
    return false;
  BlockArgument out = body.getArgument(2);
  Value other = add.getLhs() == out ? add.getRhs() : add.getLhs();
  auto mul = other.getDefiningOp<arith::MulFOp>();
  if (!mul || (add.getLhs() != out && add.getRhs() != out))
    return false;
  auto source = [](Value value) {
    auto extend = value.getDefiningOp<arith::ExtFOp>();
    return extend ? extend.getIn() : value;
  };
  Value lhs = source(mul.getLhs()), rhs = source(mul.getRhs());
  Value a = body.getArgument(0), b = body.getArgument(1);
  return (lhs == a && rhs == b) || (lhs == b && rhs == a);
}

static bool isMultiplicand(Type type) {
  return type.isF32() || type.isF16() || type.isBF16();
}

/// Of several dimensions the longest; a run-time extent counts as long.
static unsigned longest(ArrayRef<unsigned> dims, ArrayRef<int64_t> extents) {
  return *llvm::max_element(dims, [&](unsigned a, unsigned b) {
    return static_cast<uint64_t>(extents[a]) <
           static_cast<uint64_t>(extents[b]);
  });
}

std::optional<Contraction> Contraction::match(linalg::GenericOp op) {
  if (op.getNumDpsInputs() != 2 || op.getNumDpsInits() != 1 ||
      !isMultiplyAdd(*op.getBody()))
    return std::nullopt;
  Contraction result{op, {A, B, C}, {}, {}, {}, {}, 0, 0};
  for (unsigned i : {A, B, C}) {
    auto type = dyn_cast<MemRefType>(op->getOperand(i).getType());
    result.maps[i] = op.getIndexingMapsArray()[i];
    result.types[i] = type;
    if (!type || !result.maps[i].isProjectedPermutation() ||
        !isMultiplicand(type.getElementType()))
      return std::nullopt;
  }
  if (!result.types[C].getElementType().isF32())
    return std::nullopt;

  SmallVector<int64_t> extents = op.getStaticLoopRanges();
  SmallVector<unsigned> m, n, k;
  for (auto [dim, iterator] : llvm::enumerate(op.getIteratorTypesArray())) {
    AffineExpr expr = getAffineDimExpr(dim, op.getContext());
    bool inA = result.maps[A].getResultPosition(expr).has_value();
    bool inB = result.maps[B].getResultPosition(expr).has_value();
    bool inC = result.maps[C].getResultPosition(expr).has_value();
    if (inC != (iterator == utils::IteratorType::parallel))
      return std::nullopt;
    if (inA && inB)
      (inC ? result.outer : k).push_back(dim);
    else if ((inA || inB) && inC)
      (inA ? m : n).push_back(dim);
    else
      return std::nullopt;
  }
  std::optional<unsigned> inner = result.contiguousDim(C);
  if (k.size() != 1 || !inner)
    return std::nullopt;
  if (llvm::is_contained(m, *inner)) {
    std::swap(m, n);
    std::swap(result.operandOf[A], result.operandOf[B]);
    std::swap(result.maps[A], result.maps[B]);
    std::swap(result.types[A], result.types[B]);
  }
  if (!llvm::is_contained(n, *inner))
    return std::nullopt;
  result.n = *inner;
  result.k = k.front();
  int64_t columns = extents[result.n];
  if (!ShapedType::isDynamic(columns) && columns < kLanes / 2)
    return std::nullopt;
  if (!m.empty())
    result.m = longest(m, extents);
  for (unsigned dim : m)
    if (dim != *result.m)
      result.outer.push_back(dim);
  for (unsigned dim : n)
    if (dim != result.n)
      result.outer.push_back(dim);
  return result;
}

std::optional<unsigned> Contraction::contiguousDim(Operand operand) const {
  if (maps[operand].getNumResults() == 0 || !hasUnitInnerStride(types[operand]))
    return std::nullopt;
  return maps[operand].getDimPosition(maps[operand].getNumResults() - 1);
}

/// Long runs are read faster, but chunks are what threads share; columns that
/// are contiguous themselves make runs of any number of them.
int64_t Contraction::rowChunk() const {
  if (contiguousDim(B) == k)
    return kRowDots;
  return kRowRun * 8 / types[B].getElementTypeBitWidth();
}

/// A private function of the operands and an item.
static func::FuncOp
outlineBlock(linalg::GenericOp op, func::FuncOp function, StringRef suffix,
             SymbolTable &symbols,
             llvm::function_ref<void(LoopBuilder &, ValueRange, Value)> emit) {
  LoopBuilder b(op.getLoc(), function);
  SmallVector<Type> types = llvm::to_vector(op->getOperandTypes());
  types.push_back(b.getIndexType());
  auto block =
      func::FuncOp::create(op.getLoc(), (function.getName() + suffix).str(),
                           b.getFunctionType(types, {}));
  block.setPrivate();
  symbols.insert(block, function->getIterator());
  b.setInsertionPointToStart(block.addEntryBlock());
  ValueRange arguments = block.getArguments();
  emit(b, arguments.drop_back(), arguments.back());
  func::ReturnOp::create(b);
  return block;
}

LogicalResult kvcache::lowerContraction(linalg::GenericOp op,
                                        func::FuncOp function,
                                        SymbolTable &symbols) {
  std::optional<Contraction> match = Contraction::match(op);
  if (!match)
    return failure();
  LoopBuilder b(op.getLoc(), op);
  ContractionEmitter whole(b, *match, op->getOperands());
  Value columns = whole.extent(match->n), rows = whole.rowExtent();
  Value outer = whole.outerExtent();
  Value depth = whole.extent(match->k);
  auto run = [&](Value count, Value work, StringRef suffix,
                 void (ContractionEmitter::*emit)(Value)) {
    func::FuncOp block =
        outlineBlock(op, function, suffix, symbols,
                     [&](LoopBuilder &inner, ValueRange buffers, Value item) {
                       (ContractionEmitter(inner, *match, buffers).*emit)(item);
                     });
    b.items(count, work, [&](Value item) {
      SmallVector<Value> arguments = llvm::to_vector(op->getOperands());
      arguments.push_back(item);
      func::CallOp::create(b, block, arguments);
    });
  };
  auto singleRow = [&] {
    Value blocks = b.ceildivui(columns, b.index(match->rowChunk()));
    Value work =
        b.muli(depth, b.muli(b.minui(columns, b.index(match->rowChunk())), 2));
    run(b.muli(outer, blocks), work, ".row",
        &ContractionEmitter::emitSingleRow);
  };
  auto manyRows = [&] {
    Value blocks = b.muli(b.ceildivui(columns, b.index(kBlockColumns)),
                          b.ceildivui(rows, b.index(kBlockRows)));
    Value work = b.muli(b.muli(depth, b.minui(rows, b.index(kBlockRows))),
                        b.muli(b.minui(columns, b.index(kBlockColumns)), 2));
    run(b.muli(outer, blocks), work, ".block", &ContractionEmitter::emitBlock);
  };
  b.ifThen(
      b.createOrFold<arith::CmpIOp>(arith::CmpIPredicate::eq, rows, b.index(1)),
      singleRow, manyRows);
  op.erase();
  return success();
}
