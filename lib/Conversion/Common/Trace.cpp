// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A trace becomes a call of the run time with the address of its text, which
// looks at one variable and returns if nobody asked for it.
//
//===----------------------------------------------------------------------===//

#include "CacheLowering.h"
#include "Checks.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace kvcache;

/// The constant that holds a text and the zero behind it. Equal texts share
/// one.
static memref::GlobalOp textOf(OpBuilder &builder, ModuleOp module,
                               Location loc, StringRef text) {
  SmallVector<int8_t> bytes(text.begin(), text.end());
  bytes.push_back(0);
  auto type = MemRefType::get({static_cast<int64_t>(bytes.size())},
                              builder.getI8Type());
  auto value = DenseElementsAttr::get(
      RankedTensorType::get(type.getShape(), type.getElementType()),
      ArrayRef<int8_t>(bytes));
  std::string name;
  for (unsigned number = 0;; ++number) {
    name = "kv_trace_" + std::to_string(number);
    Operation *other = module.lookupSymbol(name);
    if (!other)
      break;
    auto global = dyn_cast<memref::GlobalOp>(other);
    if (global && global.getInitialValueAttr() == value)
      return global;
  }
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(module.getBody());
  return memref::GlobalOp::create(builder, loc, name,
                                  builder.getStringAttr("private"), type, value,
                                  /*constant=*/true, IntegerAttr());
}

Value kvcache::emitText(OpBuilder &builder, Location loc, ModuleOp module,
                        StringRef text) {
  memref::GlobalOp global = textOf(builder, module, loc, text);
  Value memref = memref::GetGlobalOp::create(builder, loc, global.getType(),
                                             global.getName());
  return memref::ExtractAlignedPointerAsIndexOp::create(builder, loc, memref);
}

namespace {

struct TraceOpLowering : OpConversionPattern<TraceOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(TraceOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    Value pointer =
        emitText(rewriter, loc, op->getParentOfType<ModuleOp>(), op.getText());
    Value word = arith::IndexCastOp::create(rewriter, loc,
                                            rewriter.getI64Type(), pointer);
    emitReport(rewriter, loc, op, "kvrt_trace", word);
    rewriter.eraseOp(op);
    return success();
  }
};

} // namespace

void kvcache::populateTracePattern(TypeConverter &converter,
                                   RewritePatternSet &patterns) {
  patterns.add<TraceOpLowering>(converter, patterns.getContext());
}
