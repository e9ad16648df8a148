// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/HostCPU/Passes.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/BuiltinOps.h"

namespace kvcache {
#define GEN_PASS_DEF_MOVEHALVESASINTEGERS
#include "kvcache/HostCPU/Passes.h.inc"
} // namespace kvcache

using namespace mlir;

namespace {

/// The type with i16 in the place of bf16.
Type withIntegers(Type type) {
  if (type.isBF16())
    return IntegerType::get(type.getContext(), 16);
  if (auto vector = dyn_cast<VectorType>(type))
    return vector.clone(withIntegers(vector.getElementType()));
  if (auto array = dyn_cast<LLVM::LLVMArrayType>(type))
    return LLVM::LLVMArrayType::get(withIntegers(array.getElementType()),
                                    array.getNumElements());
  auto record = dyn_cast<LLVM::LLVMStructType>(type);
  if (!record || record.isIdentified())
    return type;
  SmallVector<Type> members;
  for (Type member : record.getBody())
    members.push_back(withIntegers(member));
  return LLVM::LLVMStructType::getLiteral(type.getContext(), members,
                                          record.isPacked());
}

bool hasBF16(Type type) { return withIntegers(type) != type; }

/// The integers that lie where a vector of f16 does; null for other types.
Type integersOfHalves(Type type) {
  auto vector = dyn_cast<VectorType>(type);
  if (!vector || !vector.getElementType().isF16())
    return {};
  return vector.clone(IntegerType::get(type.getContext(), 16));
}

/// Whether an operation only moves elements, so that it is the same on bits.
bool onlyMoves(Operation *op) {
  if (auto update = dyn_cast<LLVM::AtomicRMWOp>(op))
    return update.getBinOp() == LLVM::AtomicBinOp::xchg;
  if (auto constant = dyn_cast<LLVM::ConstantOp>(op))
    return isa<FloatAttr, DenseElementsAttr>(constant.getValue());
  return isa<
      LLVM::AllocaOp, LLVM::BitcastOp, LLVM::BrOp, LLVM::CallOp, LLVM::CondBrOp,
      LLVM::ExtractElementOp, LLVM::ExtractValueOp, LLVM::FreezeOp, LLVM::GEPOp,
      LLVM::InsertElementOp, LLVM::InsertValueOp, LLVM::LLVMFuncOp,
      LLVM::LoadOp, LLVM::MaskedLoadOp, LLVM::MaskedStoreOp, LLVM::PoisonOp,
      LLVM::ReturnOp, LLVM::SelectOp, LLVM::ShuffleVectorOp, LLVM::StoreOp,
      LLVM::SwitchOp, LLVM::UndefOp, LLVM::ZeroOp, LLVM::masked_gather,
      LLVM::masked_scatter, LLVM::vector_extract, LLVM::vector_insert>(op);
}

/// Types and values that attributes name.
void retypeAttributes(Operation *op) {
  if (auto gep = dyn_cast<LLVM::GEPOp>(op))
    gep.setElemType(withIntegers(gep.getElemType()));
  else if (auto slot = dyn_cast<LLVM::AllocaOp>(op))
    slot.setElemType(withIntegers(slot.getElemType()));
  auto ofFunction = [](LLVM::LLVMFunctionType type) {
    SmallVector<Type> parameters;
    for (Type parameter : type.getParams())
      parameters.push_back(withIntegers(parameter));
    return LLVM::LLVMFunctionType::get(withIntegers(type.getReturnType()),
                                       parameters, type.isVarArg());
  };
  if (auto function = dyn_cast<LLVM::LLVMFuncOp>(op))
    function.setFunctionType(ofFunction(function.getFunctionType()));
  auto call = dyn_cast<LLVM::CallOp>(op);
  if (call && call.getVarCalleeType())
    call.setVarCalleeType(ofFunction(*call.getVarCalleeType()));
  auto constant = dyn_cast<LLVM::ConstantOp>(op);
  if (!constant || !hasBF16(constant.getType()))
    return;
  auto i16 = IntegerType::get(op->getContext(), 16);
  if (auto number = dyn_cast<FloatAttr>(constant.getValue()))
    constant.setValueAttr(
        IntegerAttr::get(i16, number.getValue().bitcastToAPInt()));
  else
    constant.setValueAttr(
        cast<DenseElementsAttr>(constant.getValue()).bitcast(i16));
}

/// bf16 becomes i16 wherever it is only moved; casts stand around what
/// computes.
LogicalResult moveBF16AsIntegers(Operation *root) {
  SmallVector<Operation *> moves, others;
  WalkResult walk = root->walk([&](Operation *op) {
    for (Region &region : op->getRegions())
      for (Block &block : region)
        for (BlockArgument argument : block.getArguments())
          argument.setType(withIntegers(argument.getType()));
    if (onlyMoves(op)) {
      moves.push_back(op);
      return WalkResult::advance();
    }
    bool computes = llvm::any_of(op->getOperandTypes(), hasBF16) ||
                    llvm::any_of(op->getResultTypes(), hasBF16);
    if (computes && isa<LLVM::AtomicRMWOp>(op)) {
      op->emitError("an atomic update of bf16 is not compiled for a CPU, as it "
                    "would call a library; expected an exchange, or f32");
      return WalkResult::interrupt();
    }
    if (computes)
      others.push_back(op);
    return WalkResult::advance();
  });
  if (walk.wasInterrupted())
    return failure();
  SmallVector<std::pair<OpOperand *, Type>> operands;
  for (Operation *op : others)
    for (OpOperand &operand : op->getOpOperands())
      if (hasBF16(operand.get().getType()))
        operands.emplace_back(&operand, operand.get().getType());
  for (Operation *op : moves) {
    retypeAttributes(op);
    for (OpResult result : op->getResults())
      result.setType(withIntegers(result.getType()));
  }
  for (Operation *op : others) {
    OpBuilder builder(op->getContext());
    builder.setInsertionPointAfter(op);
    for (OpResult result : op->getResults()) {
      if (!hasBF16(result.getType()))
        continue;
      auto bits = LLVM::BitcastOp::create(
          builder, op->getLoc(), withIntegers(result.getType()), result);
      result.replaceAllUsesExcept(bits, bits);
    }
  }
  for (auto [operand, type] : operands) {
    OpBuilder builder(operand->getOwner());
    operand->set(LLVM::BitcastOp::create(builder, operand->getOwner()->getLoc(),
                                         type, operand->get()));
  }
  for (Operation *op : moves)
    if (isa<LLVM::BitcastOp>(op) &&
        op->getResult(0).getType() == op->getOperand(0).getType()) {
      op->getResult(0).replaceAllUsesWith(op->getOperand(0));
      op->erase();
    }
  return success();
}

struct MoveHalvesAsIntegers
    : kvcache::impl::MoveHalvesAsIntegersBase<MoveHalvesAsIntegers> {
  void runOnOperation() override {
    if (failed(moveBF16AsIntegers(getOperation())))
      return signalPassFailure();
    getOperation().walk([](Operation *op) {
      OpBuilder builder(op);
      Location loc = op->getLoc();
      if (auto load = dyn_cast<LLVM::LoadOp>(op)) {
        Type floats = load.getType(), integers = integersOfHalves(floats);
        if (!integers)
          return;
        load.getResult().setType(integers);
        builder.setInsertionPointAfter(op);
        auto back = LLVM::BitcastOp::create(builder, loc, floats, load);
        load.getResult().replaceAllUsesExcept(back, back);
      } else if (auto store = dyn_cast<LLVM::StoreOp>(op)) {
        if (Type integers = integersOfHalves(store.getValue().getType()))
          store.getValueMutable().assign(LLVM::BitcastOp::create(
              builder, loc, integers, store.getValue()));
      }
    });
  }
};

} // namespace
