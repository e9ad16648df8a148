// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/HostCPU/Passes.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/ControlFlowInterfaces.h"

namespace kvcache {
#define GEN_PASS_DEF_MOVEHALVESASINTEGERS
#include "kvcache/HostCPU/Passes.h.inc"
} // namespace kvcache

using namespace mlir;

namespace {

/// The type with i16 in the place of bf16. What the LLVM dialect cannot cast,
/// such as a tensor or a vector of two dimensions, stays as it is.
Type withIntegers(Type type) {
  if (type.isBF16())
    return IntegerType::get(type.getContext(), 16);
  if (auto vector = dyn_cast<VectorType>(type))
    return LLVM::isCompatibleVectorType(type)
               ? vector.clone(withIntegers(vector.getElementType()))
               : type;
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

/// What is at a place in a struct or an array.
Type memberAt(Type type, ArrayRef<int64_t> position) {
  for (int64_t at : position) {
    auto array = dyn_cast<LLVM::LLVMArrayType>(type);
    type = array ? array.getElementType()
                 : cast<LLVM::LLVMStructType>(type).getBody()[at];
  }
  return type;
}

/// The value with the same bits; LLVM casts structs and arrays by member only.
Value castBits(OpBuilder &b, Location loc, Value value, Type type) {
  Type from = value.getType();
  if (from == type)
    return value;
  auto record = dyn_cast<LLVM::LLVMStructType>(type);
  auto array = dyn_cast<LLVM::LLVMArrayType>(type);
  if (!record && !array)
    return LLVM::BitcastOp::create(b, loc, type, value);
  int64_t count = record ? record.getBody().size() : array.getNumElements();
  Value whole = LLVM::PoisonOp::create(b, loc, type);
  for (int64_t i = 0; i < count; ++i) {
    Value member = LLVM::ExtractValueOp::create(b, loc, value, i);
    member = castBits(b, loc, member, memberAt(type, i));
    whole = LLVM::InsertValueOp::create(b, loc, whole, member, i);
  }
  return whole;
}

/// Makes i16 of bf16 wherever it is only moved; casts stand around what
/// computes, and around all that is not of the LLVM dialect.
class BF16Mover {
public:
  LogicalResult run(Operation *root) {
    if (failed(collect(root)))
      return failure();
    for (Block *block : blocks)
      for (BlockArgument argument : block->getArguments())
        argument.setType(withIntegers(argument.getType()));
    for (Operation *op : moves) {
      retypeAttributes(op);
      for (OpResult result : op->getResults())
        result.setType(withIntegers(result.getType()));
    }
    for (auto [operand, type] : fixed)
      cast(*operand, wantedType(*operand, type));
    for (Operation *op : moves)
      for (OpOperand &operand : op->getOpOperands())
        cast(operand,
             wantedType(operand, withIntegers(operand.get().getType())));
    for (Operation *op : moves)
      if (isa<LLVM::BitcastOp>(op) &&
          op->getResult(0).getType() == op->getOperand(0).getType()) {
        op->getResult(0).replaceAllUsesWith(op->getOperand(0));
        op->erase();
      }
    return success();
  }

private:
  LogicalResult collect(Operation *root) {
    WalkResult walk = root->walk([&](Operation *op) {
      for (Region &region : op->getRegions())
        for (Block &block : region)
          if (takesIntegers(block))
            blocks.push_back(&block);
      if (onlyMoves(op)) {
        moves.push_back(op);
        return WalkResult::advance();
      }
      bool computes = llvm::any_of(op->getOperandTypes(), hasBF16) ||
                      llvm::any_of(op->getResultTypes(), hasBF16);
      if (computes && isa<LLVM::AtomicRMWOp>(op)) {
        op->emitError("an atomic update of bf16 is not compiled for a CPU, as "
                      "it would call a library; expected an exchange, or f32");
        return WalkResult::interrupt();
      }
      for (OpOperand &operand : op->getOpOperands())
        if (hasBF16(operand.get().getType()))
          fixed.emplace_back(&operand, operand.get().getType());
      return WalkResult::advance();
    });
    return failure(walk.wasInterrupted());
  }

  /// A function without a body is one that others define, with the types that
  /// it has here.
  static bool isOurs(Operation *function) {
    auto body = dyn_cast_or_null<LLVM::LLVMFuncOp>(function);
    return body && !body.isExternal();
  }

  /// Blocks that only branches of the LLVM dialect go to, and bodies of its
  /// functions. The arguments of other blocks are what others say.
  static bool takesIntegers(Block &block) {
    if (block.isEntryBlock())
      return isOurs(block.getParentOp());
    return !block.hasNoPredecessors() &&
           llvm::all_of(block.getPredecessors(), [](Block *before) {
             return isa<LLVM::BrOp, LLVM::CondBrOp, LLVM::InvokeOp,
                        LLVM::SwitchOp>(before->getTerminator());
           });
  }

  /// A call of a function that is retyped, or of an address.
  template <typename Op> bool callsOurs(Op call) {
    FlatSymbolRefAttr name = call.getCalleeAttr();
    return !name ||
           isOurs(symbols.lookupNearestSymbolFrom(call.getOperation(), name));
  }

  /// A struct that has a name keeps its members.
  static bool isLiteral(Type container, ArrayRef<int64_t> position) {
    Type member = memberAt(container, position);
    return memberAt(withIntegers(container), position) == withIntegers(member);
  }

  /// Whether an operation only moves elements, so that it is the same on bits.
  bool onlyMoves(Operation *op) {
    if (auto update = dyn_cast<LLVM::AtomicRMWOp>(op))
      return update.getBinOp() == LLVM::AtomicBinOp::xchg;
    if (auto constant = dyn_cast<LLVM::ConstantOp>(op)) {
      if (auto number = dyn_cast<FloatAttr>(constant.getValue()))
        return number.getType().isBF16();
      auto numbers = dyn_cast<DenseElementsAttr>(constant.getValue());
      return numbers && numbers.getElementType().isBF16();
    }
    if (auto call = dyn_cast<LLVM::CallOp>(op))
      return callsOurs(call);
    if (auto call = dyn_cast<LLVM::InvokeOp>(op))
      return callsOurs(call);
    if (auto extract = dyn_cast<LLVM::ExtractValueOp>(op))
      return isLiteral(extract.getContainer().getType(), extract.getPosition());
    if (auto insert = dyn_cast<LLVM::InsertValueOp>(op))
      return isLiteral(insert.getContainer().getType(), insert.getPosition());
    // The value of a global is returned as well.
    if (isa<LLVM::LLVMFuncOp>(op))
      return isOurs(op);
    if (isa<LLVM::ReturnOp>(op))
      return isOurs(op->getParentOp());
    return isa<LLVM::AllocaOp, LLVM::BitcastOp, LLVM::BrOp, LLVM::CondBrOp,
               LLVM::ExtractElementOp, LLVM::FreezeOp, LLVM::GEPOp,
               LLVM::InsertElementOp, LLVM::LoadOp, LLVM::MaskedLoadOp,
               LLVM::MaskedStoreOp, LLVM::PoisonOp, LLVM::SelectOp,
               LLVM::ShuffleVectorOp, LLVM::StoreOp, LLVM::SwitchOp,
               LLVM::UndefOp, LLVM::ZeroOp, LLVM::masked_gather,
               LLVM::masked_scatter, LLVM::vector_extract, LLVM::vector_insert>(
        op);
  }

  /// Types and values that attributes name.
  static void retypeAttributes(Operation *op) {
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
    auto ofCall = [&](auto call) {
      if (std::optional<LLVM::LLVMFunctionType> type = call.getVarCalleeType())
        call.setVarCalleeType(ofFunction(*type));
    };
    if (auto function = dyn_cast<LLVM::LLVMFuncOp>(op))
      function.setFunctionType(ofFunction(function.getFunctionType()));
    if (auto call = dyn_cast<LLVM::CallOp>(op))
      ofCall(call);
    if (auto call = dyn_cast<LLVM::InvokeOp>(op))
      ofCall(call);
    auto constant = dyn_cast<LLVM::ConstantOp>(op);
    if (!constant)
      return;
    auto i16 = IntegerType::get(op->getContext(), 16);
    if (auto number = dyn_cast<FloatAttr>(constant.getValue()))
      constant.setValueAttr(
          IntegerAttr::get(i16, number.getValue().bitcastToAPInt()));
    else
      constant.setValueAttr(
          mlir::cast<DenseElementsAttr>(constant.getValue()).bitcast(i16));
  }

  /// A branch hands to a block what the block takes.
  static Type wantedType(OpOperand &operand, Type otherwise) {
    auto branch = dyn_cast<BranchOpInterface>(operand.getOwner());
    std::optional<BlockArgument> argument;
    if (branch)
      argument = branch.getSuccessorBlockArgument(operand.getOperandNumber());
    return argument ? argument->getType() : otherwise;
  }

  static void cast(OpOperand &operand, Type type) {
    Operation *user = operand.getOwner();
    OpBuilder b(user);
    operand.set(castBits(b, user->getLoc(), operand.get(), type));
  }

  SymbolTableCollection symbols;
  SmallVector<Operation *> moves;
  SmallVector<Block *> blocks;
  /// Of everything else, with the types that they keep.
  SmallVector<std::pair<OpOperand *, Type>> fixed;
};

struct MoveHalvesAsIntegers
    : kvcache::impl::MoveHalvesAsIntegersBase<MoveHalvesAsIntegers> {
  void runOnOperation() override {
    if (failed(BF16Mover().run(getOperation())))
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
