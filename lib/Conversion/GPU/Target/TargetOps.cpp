// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "TargetOps.h"

#include "NvvmOps.h"

using namespace mlir;
using namespace kvcache;

TargetOps::~TargetOps() = default;

std::unique_ptr<TargetOps> TargetOps::create(KernelBuilder &k,
                                             TargetAttr target) {
  switch (target.getIsa()) {
  case Isa::nvvm:
    return std::make_unique<NvvmOps>(k, target);
  case Isa::cpu:
    break;
  }
  llvm_unreachable("the pass takes a target with kernels");
}

Val TargetOps::unlikely(Val condition) const {
  return k.val(LLVM::ExpectOp::create(k, condition, k.i1(false)));
}
Val TargetOps::popc(Val bits) const {
  return k.val(LLVM::CtPopOp::create(k, bits.getType(), bits));
}
Val TargetOps::funnelShift(Val low, Val high, Val by) const {
  return k.val(LLVM::CallIntrinsicOp::create(k, k.getI32Type(),
                                             k.getStringAttr("llvm.fshr"),
                                             ValueRange{high, low, by})
                   .getResult(0));
}
Val TargetOps::tanh(Val x) const {
  // 1 - 2 / (exp(2 x) + 1): the instruction of that name has 11 bits.
  Val e = ex2(x * (2 * 1.4426950408889634));
  return k.f32(1) - rcp(e + 1) * 2;
}
Value TargetOps::cvtF8x2(Value, Value, Type) const {
  llvm_unreachable("the target has no instruction");
}
Value TargetOps::cvtF16x2(Value, Type) const {
  llvm_unreachable("the target has no instruction");
}
Val TargetOps::bitcastToInt(Val x) const {
  return k.val(arith::BitcastOp::create(k, k.getI32Type(), x));
}
Val TargetOps::bitcastToFloat(Val x) const {
  return k.val(arith::BitcastOp::create(k, k.getF32Type(), x));
}
