// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/BitVector.h"
#include "llvm/ADT/SmallPtrSet.h"

namespace kvcache {
#define GEN_PASS_DEF_DROPDONATEDRESULTS
#include "kvcache/Transforms/Passes.h.inc"
} // namespace kvcache

using namespace mlir;

namespace {

/// The number of the argument that a value is.
std::optional<unsigned> argumentOf(Value value, func::FuncOp function) {
  // Where code is not reachable casts may form a ring.
  llvm::SmallPtrSet<Value, 8> seen;
  auto cast = value.getDefiningOp<memref::CastOp>();
  for (; cast && seen.insert(value).second;
       cast = value.getDefiningOp<memref::CastOp>())
    value = cast.getSource();
  auto argument = dyn_cast<BlockArgument>(value);
  if (!argument || argument.getOwner() != &function.getBody().front() ||
      !isa<MemRefType>(argument.getType()))
    return std::nullopt;
  return argument.getArgNumber();
}

struct DropDonatedResults
    : kvcache::impl::DropDonatedResultsBase<DropDonatedResults> {
  void runOnOperation() override {
    for (auto function : getOperation().getOps<func::FuncOp>())
      function.walk(copyRepeated);
    // A call may give its caller a result that is an argument there.
    bool changed = true;
    while (changed) {
      changed = false;
      for (auto function : getOperation().getOps<func::FuncOp>())
        if (!function.isExternal())
          changed |= drop(function);
    }
  }

  /// A buffer that is returned twice becomes two arguments later, so it is two
  /// buffers.
  static void copyRepeated(func::ReturnOp op) {
    OpBuilder builder(op);
    llvm::SmallPtrSet<Value, 8> seen;
    for (OpOperand &operand : op->getOpOperands()) {
      Value value = operand.get();
      auto type = dyn_cast<MemRefType>(value.getType());
      if (!type || !value.getDefiningOp<memref::AllocOp>() ||
          seen.insert(value).second)
        continue;
      Value copy = memref::AllocOp::create(
          builder, op.getLoc(),
          memref::getMixedSizes(builder, op.getLoc(), value),
          type.getElementType(), type.getMemorySpace());
      memref::CopyOp::create(builder, op.getLoc(), value, copy);
      if (copy.getType() != type)
        copy = memref::CastOp::create(builder, op.getLoc(), type, copy);
      operand.set(copy);
    }
  }

  bool drop(func::FuncOp function) {
    auto returns = llvm::to_vector(function.getBody().getOps<func::ReturnOp>());
    if (returns.empty())
      return false;
    llvm::BitVector dropped(function.getNumResults());
    SmallVector<unsigned> arguments(function.getNumResults());
    for (unsigned i = 0; i < function.getNumResults(); ++i) {
      std::optional<unsigned> argument =
          argumentOf(returns[0].getOperand(i), function);
      bool always = argument && llvm::all_of(returns, [&](func::ReturnOp op) {
                      return argumentOf(op.getOperand(i), function) == argument;
                    });
      if (!always)
        continue;
      dropped.set(i);
      arguments[i] = *argument;
    }
    if (dropped.none())
      return false;
    auto uses = function.getSymbolUses(getOperation());
    SmallVector<func::CallOp> calls;
    if (!uses)
      return false;
    for (SymbolTable::SymbolUse use : *uses) {
      auto call = dyn_cast<func::CallOp>(use.getUser());
      if (!call)
        return false;
      calls.push_back(call);
    }
    for (func::CallOp call : calls)
      rewriteCall(call, dropped, arguments);
    for (func::ReturnOp op : returns)
      op->eraseOperands(dropped);
    (void)function.eraseResults(dropped);
    return true;
  }

  static void rewriteCall(func::CallOp call, const llvm::BitVector &dropped,
                          ArrayRef<unsigned> arguments) {
    OpBuilder builder(call);
    SmallVector<Type> types;
    for (unsigned i = 0; i < call.getNumResults(); ++i)
      if (!dropped.test(i))
        types.push_back(call.getResult(i).getType());
    auto shorter = func::CallOp::create(
        builder, call.getLoc(), call.getCallee(), types, call.getOperands());
    unsigned kept = 0;
    for (unsigned i = 0; i < call.getNumResults(); ++i) {
      Value value = dropped.test(i) ? call.getOperand(arguments[i])
                                    : shorter.getResult(kept++);
      if (value.getType() != call.getResult(i).getType())
        value = memref::CastOp::create(builder, call.getLoc(),
                                       call.getResult(i).getType(), value);
      call.getResult(i).replaceAllUsesWith(value);
    }
    call.erase();
  }
};

} // namespace
