// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Loops.h"

#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace kvcache;

/// Floating-point operations that take about ten microseconds: below that,
/// waking a thread costs as much as it gains.
static constexpr int64_t kWorkPerChunk = 1 << 18;

Value LoopBuilder::index(int64_t n) {
  return arith::ConstantIndexOp::create(*this, n);
}

Value LoopBuilder::add(Value a, Value b) {
  return createOrFold<arith::AddIOp>(a, b);
}

Value LoopBuilder::sub(Value a, Value b) {
  return createOrFold<arith::SubIOp>(a, b);
}

Value LoopBuilder::mul(Value a, Value b) {
  return createOrFold<arith::MulIOp>(a, b);
}

Value LoopBuilder::div(Value a, Value b) {
  return createOrFold<arith::DivUIOp>(a, b);
}

Value LoopBuilder::rem(Value a, Value b) {
  return createOrFold<arith::RemUIOp>(a, b);
}

Value LoopBuilder::ceilDiv(Value a, Value b) {
  return createOrFold<arith::CeilDivUIOp>(a, b);
}

Value LoopBuilder::min(Value a, Value b) {
  return createOrFold<arith::MinUIOp>(a, b);
}

Value LoopBuilder::max(Value a, Value b) {
  return createOrFold<arith::MaxUIOp>(a, b);
}

Value LoopBuilder::floorTo(Value a, int64_t step) {
  return sub(a, rem(a, index(step)));
}

Value LoopBuilder::multiplyAdd(Value a, Value b, Value c) {
  auto contract = arith::FastMathFlags::contract;
  Value product = arith::MulFOp::create(*this, a, b, contract);
  return arith::AddFOp::create(*this, product, c, contract);
}

Value LoopBuilder::toF32(Value value) {
  if (getElementTypeOrSelf(value).isF32())
    return value;
  Type type = getF32Type();
  if (auto vector = dyn_cast<VectorType>(value.getType()))
    type = vector.clone(type);
  return arith::ExtFOp::create(*this, type, value);
}

void LoopBuilder::loop(Value from, Value to, int64_t step, Body body) {
  loop(from, to, step, ValueRange(), [&](Value i, ValueRange) {
    body(i);
    return SmallVector<Value>();
  });
}

SmallVector<Value> LoopBuilder::loop(Value from, Value to, int64_t step,
                                     ValueRange init, CarryingBody body) {
  auto loop = scf::ForOp::create(*this, from, to, index(step), init);
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPointToStart(loop.getBody());
  SmallVector<Value> next =
      body(loop.getInductionVar(), loop.getRegionIterArgs());
  if (!init.empty())
    scf::YieldOp::create(*this, next);
  return llvm::to_vector_of<Value>(loop.getResults());
}

void LoopBuilder::when(Value condition, llvm::function_ref<void()> then,
                       llvm::function_ref<void()> otherwise) {
  if (std::optional<int64_t> known = getConstantIntValue(condition)) {
    if (*known)
      then();
    else if (otherwise)
      otherwise();
    return;
  }
  auto branch =
      scf::IfOp::create(*this, condition, static_cast<bool>(otherwise));
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPointToStart(branch.thenBlock());
  then();
  if (!otherwise)
    return;
  setInsertionPointToStart(branch.elseBlock());
  otherwise();
}

void LoopBuilder::items(Value count, Value workPerItem, Body body) {
  Value one = index(1);
  Value perChunk =
      max(one, ceilDiv(index(kWorkPerChunk), max(workPerItem, one)));
  Value chunks = ceilDiv(count, perChunk);
  if (std::optional<int64_t> known = getConstantIntValue(chunks);
      known && *known <= 1)
    return loop(index(0), count, 1, body);
  auto parallel = scf::ParallelOp::create(*this, ValueRange(index(0)),
                                          ValueRange(chunks), ValueRange(one));
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPointToStart(parallel.getBody());
  Value first = mul(parallel.getInductionVars()[0], perChunk);
  loop(first, min(add(first, perChunk), count), 1, body);
}

bool kvcache::hasUnitInnerStride(Type type) {
  auto memref = dyn_cast<MemRefType>(type);
  if (!memref || memref.getRank() == 0)
    return false;
  SmallVector<int64_t> strides;
  int64_t offset;
  return succeeded(memref.getStridesAndOffset(strides, offset)) &&
         strides.back() == 1;
}
