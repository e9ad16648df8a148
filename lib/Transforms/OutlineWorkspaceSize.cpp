// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/LoopLikeInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace kvcache {
#define GEN_PASS_DEF_OUTLINEWORKSPACESIZE
#include "kvcache/Transforms/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

namespace {

/// The run time hands out workspace in pieces of this size.
constexpr int64_t kGranule = 256;

/// Clones into the size function what a value is computed from.
class SizeSlice {
public:
  SizeSlice(OpBuilder &builder, func::FuncOp from, func::FuncOp to)
      : builder(builder) {
    mapping.map(from.getArguments(), to.getArguments());
  }

  FailureOr<Value> clone(Value value, memref::AllocOp alloc) {
    if (Value known = mapping.lookupOrNull(value))
      return known;
    Operation *def = value.getDefiningOp();
    if (!def || !isMemoryEffectFree(def) || def->getNumRegions())
      return alloc.emitOpError()
             << "the size of this buffer depends on data, so there is no upper "
                "bound for the workspace";
    for (Value operand : def->getOperands())
      if (failed(clone(operand, alloc)))
        return failure();
    builder.clone(*def, mapping);
    return mapping.lookup(value);
  }

private:
  OpBuilder &builder;
  IRMapping mapping;
};

/// The bytes that an element takes in a buffer.
std::optional<int64_t> elementBytes(Type type) {
  if (type.isIndex())
    return 8;
  if (!type.isIntOrFloat())
    return std::nullopt;
  return llvm::PowerOf2Ceil(llvm::divideCeil(type.getIntOrFloatBitWidth(), 8));
}

/// A call that inlining left, such as one of a recursive function, may allocate
/// any number of times.
LogicalResult checkCalls(func::FuncOp function) {
  WalkResult walk = function.walk([&](func::CallOp call) {
    auto callee = SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
        call, call.getCalleeAttr());
    if (!callee || callee.isExternal())
      return WalkResult::advance();
    call.emitOpError() << "this call is not inlined, so there is no upper "
                          "bound for the workspace";
    return WalkResult::interrupt();
  });
  return failure(walk.wasInterrupted());
}

LogicalResult outline(func::FuncOp function) {
  if (failed(checkCalls(function)))
    return failure();
  OpBuilder builder(function);
  Location loc = function.getLoc();
  auto type = builder.getFunctionType(function.getArgumentTypes(),
                                      {builder.getI64Type()});
  auto size = func::FuncOp::create(
      builder, loc, (function.getName() + kWorkspaceSizeSuffix).str(), type);
  size.setPrivate();
  builder.setInsertionPointToStart(size.addEntryBlock());
  SizeSlice slice(builder, function, size);
  Value total = arith::ConstantIndexOp::create(builder, loc, 0);

  WalkResult walk = function.walk([&](memref::AllocOp alloc) {
    if (LoopLikeOpInterface::blockIsInLoop(alloc->getBlock())) {
      alloc.emitOpError() << "this buffer is allocated in a loop, so there is "
                             "no upper bound for the workspace";
      return WalkResult::interrupt();
    }
    // A piece of the workspace is aligned. Asked for again, the alignment would
    // take more bytes than are counted here.
    if (alloc.getAlignment().value_or(1) > kGranule) {
      alloc.emitOpError() << "a buffer in the workspace is expected to be "
                             "aligned to at most "
                          << kGranule << " bytes, got "
                          << *alloc.getAlignment();
      return WalkResult::interrupt();
    }
    alloc.removeAlignmentAttr();
    MemRefType type = alloc.getType();
    std::optional<int64_t> element = elementBytes(type.getElementType());
    if (!element) {
      alloc.emitOpError() << "the size of this buffer is not known, as its "
                             "elements are neither integers nor floats, got "
                          << type.getElementType();
      return WalkResult::interrupt();
    }
    int64_t fixed = *element;
    for (int64_t extent : type.getShape())
      if (ShapedType::isStatic(extent))
        fixed *= extent;
    Value bytes = arith::ConstantIndexOp::create(builder, loc, fixed);
    for (Value extent : alloc.getDynamicSizes()) {
      FailureOr<Value> cloned = slice.clone(extent, alloc);
      if (failed(cloned))
        return WalkResult::interrupt();
      bytes = arith::MulIOp::create(builder, loc, bytes, *cloned);
    }
    Value granule = arith::ConstantIndexOp::create(builder, loc, kGranule);
    Value pieces = arith::CeilDivUIOp::create(builder, loc, bytes, granule);
    bytes = arith::MulIOp::create(builder, loc, pieces, granule);
    total = arith::AddIOp::create(builder, loc, total, bytes);
    return WalkResult::advance();
  });
  if (walk.wasInterrupted())
    return failure();
  total = arith::IndexCastOp::create(builder, loc, builder.getI64Type(), total);
  func::ReturnOp::create(builder, loc, total);
  return success();
}

struct OutlineWorkspaceSize
    : kvcache::impl::OutlineWorkspaceSizeBase<OutlineWorkspaceSize> {
  void runOnOperation() override {
    for (auto function :
         llvm::make_early_inc_range(getOperation().getOps<func::FuncOp>()))
      if (function.isPublic() && !function.isExternal() &&
          failed(outline(function)))
        return signalPassFailure();
  }
};

} // namespace
