// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Loops.h"

#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace kvcache;

/// Floating-point operations that take about ten microseconds: below that,
/// waking a thread costs as much as it gains.
static constexpr int64_t kWorkPerChunk = 1 << 18;

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

void LoopBuilder::ifThen(Value condition, llvm::function_ref<void()> then,
                         llvm::function_ref<void()> otherwise) {
  std::optional<int64_t> known = getConstantIntValue(condition);
  if (!known)
    return CodeBuilder::ifThen(condition, Block(then),
                               otherwise ? Block(otherwise) : Block());
  if (*known)
    then();
  else if (otherwise)
    otherwise();
}

void LoopBuilder::items(Value count, Value workPerItem,
                        llvm::function_ref<void(Value)> body) {
  Value one = index(1);
  Value perChunk =
      maxui(one, ceildivui(index(kWorkPerChunk), maxui(workPerItem, one)));
  Value chunks = ceildivui(count, perChunk);
  if (std::optional<int64_t> known = getConstantIntValue(chunks);
      known && *known <= 1)
    return forLoop(index(0), count, 1, body);
  auto parallel = scf::ParallelOp::create(*this, ValueRange(index(0)),
                                          ValueRange(chunks), ValueRange(one));
  OpBuilder::InsertionGuard guard(*this);
  setInsertionPointToStart(parallel.getBody());
  Value first = muli(parallel.getInductionVars()[0], perChunk);
  forLoop(first, minui(addi(first, perChunk), count), 1, body);
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
