// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Conversion/Passes.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/BuiltinOps.h"

namespace kvcache {
#define GEN_PASS_DEF_MOVEHALVESASINTEGERS
#include "kvcache/Conversion/Passes.h.inc"
} // namespace kvcache

using namespace mlir;

namespace {

/// The integers that lie where a vector of 16-bit floats does; null for other
/// types.
Type integersFor(Type type) {
  auto vector = dyn_cast<VectorType>(type);
  if (!vector ||
      !(vector.getElementType().isBF16() || vector.getElementType().isF16()))
    return {};
  return vector.clone(IntegerType::get(type.getContext(), 16));
}

struct MoveHalvesAsIntegers
    : kvcache::impl::MoveHalvesAsIntegersBase<MoveHalvesAsIntegers> {
  void runOnOperation() override {
    getOperation().walk([](Operation *op) {
      OpBuilder builder(op);
      Location loc = op->getLoc();
      if (auto load = dyn_cast<LLVM::LoadOp>(op)) {
        Type floats = load.getType(), integers = integersFor(floats);
        if (!integers)
          return;
        load.getResult().setType(integers);
        builder.setInsertionPointAfter(op);
        auto back = LLVM::BitcastOp::create(builder, loc, floats, load);
        load.getResult().replaceAllUsesExcept(back, back);
      } else if (auto store = dyn_cast<LLVM::StoreOp>(op)) {
        if (Type integers = integersFor(store.getValue().getType()))
          store.getValueMutable().assign(LLVM::BitcastOp::create(
              builder, loc, integers, store.getValue()));
      }
    });
  }
};

} // namespace
