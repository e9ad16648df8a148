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
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace kvcache;

namespace {

/// The constants that hold the texts of traces. Equal texts share one.
class TraceTexts {
public:
  explicit TraceTexts(Operation *scope) : body(&scope->getRegion(0).front()) {
    for (Operation &op : *body) {
      auto name =
          op.getAttrOfType<StringAttr>(SymbolTable::getSymbolAttrName());
      if (!name || !name.getValue().starts_with(kPrefix))
        continue;
      taken.insert(name.getValue());
      auto global = dyn_cast<memref::GlobalOp>(op);
      if (global && global.getConstant() && global.getInitialValueAttr())
        texts.try_emplace(global.getInitialValueAttr(), global);
    }
  }

  /// The text, and the zero behind it.
  memref::GlobalOp get(OpBuilder &builder, Location loc, StringRef text) {
    SmallVector<int8_t> bytes(text.begin(), text.end());
    bytes.push_back(0);
    auto type = MemRefType::get({static_cast<int64_t>(bytes.size())},
                                builder.getI8Type());
    auto value = DenseElementsAttr::get(
        RankedTensorType::get(type.getShape(), type.getElementType()),
        ArrayRef<int8_t>(bytes));
    memref::GlobalOp &global = texts[value];
    if (global)
      return global;
    std::string name;
    do
      name = (kPrefix + Twine(next++)).str();
    while (taken.contains(name));
    OpBuilder::InsertionGuard guard(builder);
    // At the end: what looks for a function by its name meets it first.
    builder.setInsertionPoint(body, endOfModule(*body));
    return global = memref::GlobalOp::create(
               builder, loc, name, builder.getStringAttr("private"), type,
               value, /*constant=*/true, IntegerAttr());
  }

private:
  static constexpr llvm::StringLiteral kPrefix = "kv_trace_";

  Block *body;
  llvm::StringSet<> taken;
  llvm::DenseMap<Attribute, memref::GlobalOp> texts;
  unsigned next = 0;
};

/// The address of a text, as an index.
Value emitAddress(OpBuilder &builder, Location loc, TraceTexts &texts,
                  StringRef text) {
  memref::GlobalOp global = texts.get(builder, loc, text);
  Value memref = memref::GetGlobalOp::create(builder, loc, global.getType(),
                                             global.getName());
  return memref::ExtractAlignedPointerAsIndexOp::create(builder, loc, memref);
}

void emitTrace(OpBuilder &builder, TraceOp op, TraceTexts &texts) {
  Location loc = op.getLoc();
  Value pointer = emitAddress(builder, loc, texts, op.getText());
  Value word =
      arith::IndexCastOp::create(builder, loc, builder.getI64Type(), pointer);
  emitReport(builder, loc, op, "kvrt_trace", word);
}

struct TraceOpLowering : OpConversionPattern<TraceOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(TraceOp op, OpAdaptor,
                  ConversionPatternRewriter &rewriter) const override {
    TraceTexts texts(symbolScope(op));
    emitTrace(rewriter, op, texts);
    rewriter.eraseOp(op);
    return success();
  }
};

} // namespace

Value kvcache::emitText(OpBuilder &builder, Location loc, Operation *op,
                        StringRef text) {
  TraceTexts texts(symbolScope(op));
  return emitAddress(builder, loc, texts, text);
}

void kvcache::lowerTraces(ModuleOp module) {
  SmallVector<TraceOp> traces;
  module.walk([&](TraceOp op) { traces.push_back(op); });
  llvm::DenseMap<Operation *, TraceTexts> texts;
  for (TraceOp op : traces) {
    OpBuilder builder(op);
    Operation *scope = symbolScope(op);
    emitTrace(builder, op, texts.try_emplace(scope, scope).first->second);
    op.erase();
  }
}

void kvcache::populateTracePattern(TypeConverter &converter,
                                   RewritePatternSet &patterns) {
  patterns.add<TraceOpLowering>(converter, patterns.getContext());
}
