// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "X86Pairs.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

Value x86::dotPairs(CodeBuilder &emit, Value acc, Value a, Value b) {
  return LLVM::CallIntrinsicOp::create(
             emit, acc.getType(),
             emit.getStringAttr("llvm.x86.avx512bf16.dpbf16ps.512"),
             ValueRange{acc, a, b})
      .getResult(0);
}

static Value shuffle(CodeBuilder &emit, Value a, Value b,
                     ArrayRef<int64_t> mask) {
  return vector::ShuffleOp::create(emit, a, b, mask);
}

static Value bitcast(CodeBuilder &emit, Value value, int64_t lanes,
                     Type element) {
  return vector::BitCastOp::create(emit, VectorType::get({lanes}, element),
                                   value);
}

Value x86::loadHalves(CodeBuilder &emit, const Place &place, int64_t n) {
  constexpr int64_t kHalves = 32;
  OpBuilder &b = emit;
  Value x = vector::LoadOp::create(b, emit.getLoc(),
                                   VectorType::get({n}, b.getBF16Type()),
                                   place.memref, place.offset);
  if (n == kHalves)
    return x;
  Value bits = bitcast(emit, x, n, b.getI16Type());
  Value zero = arith::ConstantOp::create(
      b, emit.getLoc(), b.getZeroAttr(cast<VectorType>(bits.getType())));
  SmallVector<int64_t> mask;
  for (int64_t i = 0; i < kHalves; ++i)
    mask.push_back(std::min(i, n));
  return bitcast(emit, shuffle(emit, bits, zero, mask), kHalves,
                 b.getBF16Type());
}

std::pair<Value, Value> x86::interleaveHalves(CodeBuilder &emit, Value a,
                                              Value b) {
  constexpr int64_t kHalves = 32, kGroup = 8;
  Type i16 = emit.getI16Type(), bf16 = emit.getBF16Type();
  a = bitcast(emit, a, kHalves, i16);
  b = bitcast(emit, b, kHalves, i16);
  auto take = [&](int64_t first) {
    SmallVector<int64_t> mask;
    for (int64_t group = 0; group < kHalves; group += kGroup)
      for (int64_t i = 0; i < kGroup / 2; ++i)
        for (int64_t source : {int64_t(0), kHalves})
          mask.push_back(source + group + first + i);
    return bitcast(emit, shuffle(emit, a, b, mask), kHalves, bf16);
  };
  return {take(0), take(kGroup / 2)};
}

Value x86::zipHalves(CodeBuilder &emit, Value a, Value b) {
  constexpr int64_t kHalves = 32;
  Type i16 = emit.getI16Type();
  SmallVector<int64_t> mask;
  for (int64_t i = 0; i < kHalves; ++i)
    mask.push_back(i / 2 + i % 2 * kHalves);
  return bitcast(emit,
                 shuffle(emit, bitcast(emit, a, kHalves, i16),
                         bitcast(emit, b, kHalves, i16), mask),
                 kHalves, emit.getBF16Type());
}

std::pair<Value, Value> x86::orderHalves(CodeBuilder &emit, Value first,
                                         Value second) {
  constexpr int64_t kLanes = 16, kGroup = 4;
  auto take = [&](int64_t from) {
    SmallVector<int64_t> mask;
    for (int64_t group = from; group < from + kLanes / 2; group += kGroup)
      for (int64_t source : {int64_t(0), kLanes})
        for (int64_t i = 0; i < kGroup; ++i)
          mask.push_back(source + group + i);
    return shuffle(emit, first, second, mask);
  };
  return {take(0), take(kLanes / 2)};
}
