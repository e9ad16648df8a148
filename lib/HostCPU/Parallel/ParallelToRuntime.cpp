// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/HostCPU/Passes.h"
#include "kvcache/IR/KVCache.h"

#include "../../Conversion/Common/RuntimeCalls.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/BitVector.h"
#include "llvm/ADT/SetVector.h"

namespace kvcache {
#define GEN_PASS_DEF_CONVERTPARALLELTORUNTIME
#include "kvcache/HostCPU/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

/// Whether more is done with an argument than to hand it on to functions that
/// do not read it either.
static bool isRead(BlockArgument argument, SymbolTable &symbols) {
  llvm::SetVector<BlockArgument> handedOn;
  handedOn.insert(argument);
  for (size_t i = 0; i < handedOn.size(); ++i)
    for (OpOperand &use : handedOn[i].getUses()) {
      auto call = dyn_cast<LLVM::CallOp>(use.getOwner());
      if (!call || !call.getCallee())
        return true;
      auto callee = symbols.lookup<LLVM::LLVMFuncOp>(*call.getCallee());
      unsigned number = use.getOperandNumber();
      if (!callee || callee.isExternal() || number >= callee.getNumArguments())
        return true;
      handedOn.insert(callee.getArgument(number));
    }
  return false;
}

namespace {

class ParallelRewriter {
public:
  explicit ParallelRewriter(ModuleOp module)
      : module(module), symbols(module), builder(module.getContext()),
        pointer(LLVM::LLVMPointerType::get(module.getContext())),
        i64(builder.getI64Type()),
        noResult(LLVM::LLVMVoidType::get(module.getContext())) {}

  LogicalResult define(LLVM::LLVMFuncOp all) {
    auto name = all->getAttrOfType<FlatSymbolRefAttr>(
        KVCacheDialect::kParallelBodyAttr);
    auto body = symbols.lookup<LLVM::LLVMFuncOp>(name.getAttr());
    LLVM::LLVMFunctionType type = all.getFunctionType();
    if (!body || body.getFunctionType() != type)
      return all.emitOpError()
             << "expected " << name
             << " to be a function of the same type, got "
             << (body ? Attribute(TypeAttr::get(body.getFunctionType()))
                      : Attribute(builder.getStringAttr("no such function")));
    if (type.getNumParams() == 0 || type.getParamType(0) != i64 ||
        type.getReturnType() != noResult)
      return all.emitOpError()
             << "expected a number of iterations of type i64 as first argument "
                "and no result, got "
             << type;
    if (type.isVarArg())
      return all.emitOpError()
             << "expected a known number of arguments, got " << type;
    LLVM::LLVMFuncOp runtime = getRuntimeFunction(
        module, symbols, all, "kvrt_parallel_for",
        LLVM::LLVMFunctionType::get(noResult, {i64, pointer, pointer}));
    if (!runtime)
      return failure();
    // A body that is defined elsewhere may read all.
    llvm::BitVector isPassed(type.getNumParams(), true);
    if (!body.isExternal())
      for (BlockArgument argument : body.getArguments())
        isPassed[argument.getArgNumber()] = isRead(argument, symbols);
    isPassed.reset(0); // the number of an iteration
    SmallVector<Type> passed;
    for (unsigned i : isPassed.set_bits())
      passed.push_back(type.getParamType(i));
    auto record = LLVM::LLVMStructType::getLiteral(module.getContext(), passed);
    Location loc = all.getLoc();
    LLVM::LLVMFuncOp thunk = createThunk(body, record, isPassed);

    all->removeAttr(KVCacheDialect::kParallelBodyAttr);
    all.setLinkage(LLVM::Linkage::Internal);
    // A model calls it in each layer, and the run time is called by its
    // address: a copy for each call is worth nothing, and takes time to
    // compile.
    all.setNoInline(true);
    builder.setInsertionPointToStart(all.addEntryBlock(builder));
    Value context = LLVM::ZeroOp::create(builder, loc, pointer);
    if (!record.getBody().empty()) {
      Value one = LLVM::ConstantOp::create(builder, loc, i64, 1);
      context = LLVM::AllocaOp::create(builder, loc, pointer, record, one);
      for (auto [i, number] : llvm::enumerate(isPassed.set_bits()))
        LLVM::StoreOp::create(builder, loc, all.getArgument(number),
                              field(loc, record, context, i));
    }
    Value address = LLVM::AddressOfOp::create(builder, loc, thunk);
    LLVM::CallOp::create(builder, loc, runtime,
                         ValueRange{all.getArgument(0), address, context});
    LLVM::ReturnOp::create(builder, loc, ValueRange());
    return success();
  }

private:
  Value field(Location loc, Type record, Value context, int32_t index) {
    return LLVM::GEPOp::create(builder, loc, pointer, record, context,
                               ArrayRef<LLVM::GEPArg>{0, index});
  }

  /// What the run time calls for each index.
  LLVM::LLVMFuncOp createThunk(LLVM::LLVMFuncOp body,
                               LLVM::LLVMStructType record,
                               const llvm::BitVector &isPassed) {
    Location loc = body.getLoc();
    builder.setInsertionPointAfter(body);
    auto thunk = LLVM::LLVMFuncOp::create(
        builder, loc, (body.getName() + ".thunk").str(),
        LLVM::LLVMFunctionType::get(noResult, {pointer, i64}),
        LLVM::Linkage::Internal);
    symbols.insert(thunk, std::next(body->getIterator()));
    builder.setInsertionPointToStart(thunk.addEntryBlock(builder));
    SmallVector<Value> operands = {thunk.getArgument(1)};
    int32_t next = 0;
    for (unsigned i = 1; i < isPassed.size(); ++i) {
      Type type = body.getFunctionType().getParamType(i);
      if (isPassed[i])
        operands.push_back(LLVM::LoadOp::create(
            builder, loc, type,
            field(loc, record, thunk.getArgument(0), next++)));
      else
        operands.push_back(LLVM::PoisonOp::create(builder, loc, type));
    }
    LLVM::CallOp::create(builder, loc, body, operands);
    LLVM::ReturnOp::create(builder, loc, ValueRange());
    return thunk;
  }

  ModuleOp module;
  SymbolTable symbols;
  OpBuilder builder;
  Type pointer, i64, noResult;
};

struct ConvertParallelToRuntime
    : kvcache::impl::ConvertParallelToRuntimeBase<ConvertParallelToRuntime> {
  void runOnOperation() override {
    WalkResult walk = getOperation().walk([](ModuleOp module) {
      ParallelRewriter rewriter(module);
      for (auto function : llvm::to_vector(module.getOps<LLVM::LLVMFuncOp>()))
        if (function->hasAttr(KVCacheDialect::kParallelBodyAttr) &&
            failed(rewriter.define(function)))
          return WalkResult::interrupt();
      return WalkResult::advance();
    });
    if (walk.wasInterrupted())
      signalPassFailure();
  }
};

} // namespace
