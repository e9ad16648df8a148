// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/HostCPU/Passes.h"
#include "kvcache/IR/KVCache.h"

#include "../../Conversion/Common/RuntimeCalls.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Builders.h"

namespace kvcache {
#define GEN_PASS_DEF_CONVERTPARALLELTORUNTIME
#include "kvcache/HostCPU/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

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
    auto record = LLVM::LLVMStructType::getLiteral(
        module.getContext(), type.getParams().drop_front());
    Location loc = all.getLoc();
    LLVM::LLVMFuncOp thunk = createThunk(body, record);

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
      for (auto [i, value] : llvm::enumerate(all.getArguments().drop_front()))
        LLVM::StoreOp::create(builder, loc, value,
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
                               LLVM::LLVMStructType record) {
    Location loc = body.getLoc();
    builder.setInsertionPointAfter(body);
    auto thunk = LLVM::LLVMFuncOp::create(
        builder, loc, (body.getName() + ".thunk").str(),
        LLVM::LLVMFunctionType::get(noResult, {pointer, i64}),
        LLVM::Linkage::Internal);
    symbols.insert(thunk, std::next(body->getIterator()));
    builder.setInsertionPointToStart(thunk.addEntryBlock(builder));
    SmallVector<Value> operands = {thunk.getArgument(1)};
    for (auto [i, type] : llvm::enumerate(record.getBody()))
      operands.push_back(LLVM::LoadOp::create(
          builder, loc, type, field(loc, record, thunk.getArgument(0), i)));
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
