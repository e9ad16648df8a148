// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "../../Conversion/Common/FunctionSet.h"
#include "../../Conversion/Common/RuntimeCalls.h"
#include "Loops.h"

#include "kvcache/HostCPU/Passes.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Transforms/RegionUtils.h"
#include "llvm/ADT/MapVector.h"

namespace kvcache {
#define GEN_PASS_DEF_LOWERLINALG
#include "kvcache/HostCPU/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

/// Kernels are not code for a CPU, and what is in an operation that nobody
/// knows can call nothing by its name.
static bool isHostCode(Operation *op) {
  return isa_and_present<ModuleOp>(SymbolTable::getNearestSymbolTable(op));
}

/// The copy as an operation with loops, if it is not one of whole buffers,
/// which the lowering of memref makes a memcpy.
static void generalizeCopies(ModuleOp module) {
  module.walk([](memref::CopyOp copy) {
    auto source = dyn_cast<MemRefType>(copy.getSource().getType());
    auto target = dyn_cast<MemRefType>(copy.getTarget().getType());
    if (!source || !target || !isHostCode(copy) ||
        (source.getLayout().isIdentity() && target.getLayout().isIdentity()))
      return;
    LoopBuilder b(copy.getLoc(), copy);
    AffineMap map = b.getMultiDimIdentityMap(source.getRank());
    SmallVector<utils::IteratorType> iterators(source.getRank(),
                                               utils::IteratorType::parallel);
    linalg::GenericOp::create(
        b, ValueRange(copy.getSource()), ValueRange(copy.getTarget()),
        ArrayRef<AffineMap>{map, map}, iterators,
        [](OpBuilder &inner, Location loc, ValueRange arguments) {
          linalg::YieldOp::create(inner, loc, arguments[0]);
        });
    copy.erase();
  });
}

namespace {

/// Makes functions that hold one operation each, in the module whose names
/// these may use.
class Outliner {
public:
  explicit Outliner(Operation *module) : symbols(module) {}

  void outline(linalg::GenericOp op) {
    OpBuilder b(op);
    llvm::SetVector<Value> captured;
    getUsedValuesDefinedAbove(op->getRegions(), captured);
    // A layer's part of the weights of all layers differs in where it begins.
    for (OpOperand &operand : op->getOpOperands())
      if (!captured.contains(operand.get()))
        operand.set(forgetOffset(b, operand.get()));
    // Constants go inside; other values from outside are arguments.
    IRMapping mapping;
    SmallVector<Value> arguments, constants;
    auto add = [&](Value value) {
      Operation *def = value.getDefiningOp();
      auto &group =
          def && def->hasTrait<OpTrait::ConstantLike>() ? constants : arguments;
      if (!llvm::is_contained(group, value))
        group.push_back(value);
    };
    // An operand that comes twice is two arguments: the code is the same as
    // for two buffers.
    for (Value operand : op->getOperands())
      if (operand.getDefiningOp() &&
          operand.getDefiningOp()->hasTrait<OpTrait::ConstantLike>())
        add(operand);
      else
        arguments.push_back(operand);
    for (Value value : captured)
      add(value);

    auto function = func::FuncOp::create(
        op.getLoc(), "kvcache.linalg",
        b.getFunctionType(ValueRange(arguments).getTypes(), {}));
    function.setPrivate();
    // A copy for each layer would cost more to compile than a call costs.
    function->setAttr("passthrough", b.getStrArrayAttr({"noinline"}));
    OpBuilder inner = OpBuilder::atBlockBegin(function.addEntryBlock());
    for (Value constant : constants)
      inner.clone(*constant.getDefiningOp(), mapping);
    for (auto [value, argument] :
         llvm::zip_equal(arguments, function.getArguments()))
      mapping.map(value, argument);
    auto copy = cast<linalg::GenericOp>(inner.clone(*op, mapping));
    unsigned next = 0;
    for (OpOperand &operand : copy->getOpOperands())
      if (llvm::is_contained(function.getArguments(), operand.get()))
        operand.set(function.getArgument(next++));
    func::ReturnOp::create(inner, op.getLoc());

    func::FuncOp known = functions.getOrInsert(function);
    if (known == function) {
      symbols.insert(function,
                     endOfModule(symbols.getOp()->getRegion(0).front()));
      made.push_back(function);
    } else {
      function.erase();
    }
    func::CallOp::create(b, op.getLoc(), known, arguments);
    op.erase();
  }

  /// When no more functions are compared with those that were made.
  LogicalResult lower(IRRewriter &rewriter) {
    for (func::FuncOp function : made)
      if (failed(lower(function, rewriter)))
        return failure();
    return success();
  }

private:
  LogicalResult lower(func::FuncOp function, IRRewriter &rewriter) {
    SmallVector<linalg::GenericOp> ops;
    function.walk([&](linalg::GenericOp op) {
      if (op.hasPureBufferSemantics())
        ops.push_back(op);
    });
    for (linalg::GenericOp op : ops) {
      if (succeeded(lowerContraction(op, function, symbols)) ||
          succeeded(vectorizeGeneric(op)))
        continue;
      rewriter.setInsertionPoint(op);
      if (failed(linalg::linalgOpToLoops(rewriter, op)))
        return op.emitOpError() << "cannot be lowered to loops";
      rewriter.eraseOp(op);
    }
    return success();
  }

  /// A part of a buffer as one that begins anywhere.
  static Value forgetOffset(OpBuilder &b, Value value) {
    auto type = dyn_cast<MemRefType>(value.getType());
    auto layout =
        type ? dyn_cast<StridedLayoutAttr>(type.getLayout()) : nullptr;
    if (!layout || ShapedType::isDynamic(layout.getOffset()))
      return value;
    layout = StridedLayoutAttr::get(b.getContext(), ShapedType::kDynamic,
                                    layout.getStrides());
    type = MemRefType::get(type.getShape(), type.getElementType(), layout,
                           type.getMemorySpace());
    return memref::CastOp::create(b, value.getLoc(), type, value);
  }

  SymbolTable symbols;
  FunctionSet functions;
  SmallVector<func::FuncOp> made;
};

struct LowerLinalg : kvcache::impl::LowerLinalgBase<LowerLinalg> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    IRRewriter rewriter(&getContext());
    generalizeCopies(module);
    SmallVector<linalg::LinalgOp> named;
    module.walk([&](linalg::LinalgOp op) {
      if (op.hasPureBufferSemantics() && isHostCode(op))
        named.push_back(op);
    });
    SmallVector<linalg::GenericOp> generics;
    for (linalg::LinalgOp op : named) {
      auto generic = dyn_cast<linalg::GenericOp>(op.getOperation());
      if (!generic) {
        rewriter.setInsertionPoint(op);
        FailureOr<linalg::GenericOp> made =
            linalg::generalizeNamedOp(rewriter, op);
        if (failed(made)) {
          op.emitOpError() << "has no general form";
          return signalPassFailure();
        }
        generic = *made;
      }
      generics.push_back(generic);
    }
    llvm::MapVector<Operation *, std::unique_ptr<Outliner>> outliners;
    for (linalg::GenericOp op : generics) {
      Operation *scope = SymbolTable::getNearestSymbolTable(op);
      std::unique_ptr<Outliner> &outliner = outliners[scope];
      if (!outliner)
        outliner = std::make_unique<Outliner>(scope);
      outliner->outline(op);
    }
    for (auto &[scope, outliner] : outliners)
      if (failed(outliner->lower(rewriter)))
        return signalPassFailure();
  }
};

} // namespace
