// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Transforms/Passes.h"

#include "kvcache/Analysis/OwnBody.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/LoopLikeInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/SmallPtrSet.h"

namespace kvcache {
#define GEN_PASS_DEF_OUTLINEWORKSPACESIZE
#include "kvcache/Transforms/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

namespace {

/// The run time hands out workspace in pieces of this size.
constexpr int64_t kGranule = 256;

/// Larger sizes are no sizes: then sums of two of them do not wrap.
constexpr int64_t kSizeBits = 62;

/// Clones into the size function what a value is computed from.
class SizeSlice {
public:
  SizeSlice(OpBuilder &builder, func::FuncOp from, func::FuncOp to)
      : builder(builder), entry(&from.getBody().front()) {
    mapping.map(from.getArguments(), to.getArguments());
  }

  FailureOr<Value> clone(Value value, memref::AllocOp alloc) {
    if (Value known = mapping.lookupOrNull(value))
      return known;
    Operation *def = value.getDefiningOp();
    if (def && !open.insert(def).second)
      return alloc.emitOpError()
             << "the size of this buffer is computed from itself, in code that "
                "is not reachable, so there is no upper bound for the "
                "workspace";
    llvm::scope_exit close([&] { open.erase(def); });
    if (std::optional<OpFoldResult> extent = extentOfView(def)) {
      auto other = dyn_cast<Value>(*extent);
      FailureOr<Value> size =
          other ? clone(other, alloc)
                : arith::ConstantIndexOp::create(builder, alloc.getLoc(),
                                                 *getConstantIntValue(*extent))
                      .getResult();
      if (succeeded(size))
        mapping.map(value, *size); // others are computed from it
      return size;
    }
    if (!def || !isMemoryEffectFree(def) || def->getNumRegions())
      return alloc.emitOpError()
             << "the size of this buffer depends on data, so there is no upper "
                "bound for the workspace";
    // A call may go around a division by zero.
    if (def->getBlock() != entry && !isSpeculatable(def))
      return alloc.emitOpError()
             << "the size of this buffer is computed in a branch by '"
             << def->getName()
             << "', which is not defined for all operands, so there is no "
                "upper bound for the workspace";
    for (Value operand : def->getOperands())
      if (failed(clone(operand, alloc)))
        return failure();
    builder.clone(*def, mapping);
    return mapping.lookup(value);
  }

private:
  /// What says the extent that is asked of a view, so that nobody has to look
  /// at the buffer.
  static std::optional<OpFoldResult> extentOfView(Operation *def) {
    auto dim = dyn_cast_or_null<memref::DimOp>(def);
    auto view = dim ? dyn_cast<OpResult>(dim.getSource()) : OpResult();
    auto type = view ? dyn_cast<MemRefType>(view.getType()) : MemRefType();
    std::optional<int64_t> number = dim ? dim.getConstantIndex() : std::nullopt;
    bool isThere = type && number && *number >= 0 && *number < type.getRank();
    if (!isThere)
      return std::nullopt;
    OpBuilder before(def);
    if (auto collapse = dyn_cast<memref::CollapseShapeOp>(view.getOwner()))
      return joinedExtent(before, collapse, *number);
    if (!isa<ReifyRankedShapedTypeOpInterface>(view.getOwner()))
      return std::nullopt;
    FailureOr<OpFoldResult> extent = reifyDimOfResult(
        before, view.getOwner(), view.getResultNumber(), *number);
    if (failed(extent))
      return std::nullopt;
    OpFoldResult known = *extent;
    return known;
  }

  /// Upstream does not know it of a reshape that joins dimensions.
  static OpFoldResult joinedExtent(OpBuilder &builder,
                                   memref::CollapseShapeOp collapse,
                                   int64_t number) {
    Location loc = collapse.getLoc();
    Value product = arith::ConstantIndexOp::create(builder, loc, 1);
    // Named: the list of groups is made here, and a loop keeps none alive.
    ReassociationIndices group = collapse.getReassociationIndices()[number];
    for (int64_t d : group) {
      Value extent =
          builder.createOrFold<memref::DimOp>(loc, collapse.getSrc(), d);
      product = builder.createOrFold<arith::MulIOp>(loc, product, extent);
    }
    return product;
  }

  OpBuilder &builder;
  Block *entry;
  IRMapping mapping;
  llvm::SmallPtrSet<Operation *, 8> open; ///< what is being cloned
};

/// The sum of sizes, and whether it or a part of it is too large.
class SizeSum {
public:
  SizeSum(OpBuilder &builder, Location loc) : builder(builder), loc(loc) {}

  /// False if the size is too large in each call.
  bool add(int64_t bytes, ArrayRef<Value> extents) {
    if (bytes >= int64_t(1) << kSizeBits)
      return false;
    if (extents.empty()) {
      known += llvm::alignTo(bytes, kGranule);
      return known < int64_t(1) << kSizeBits;
    }
    Value size = constant(bytes);
    for (Value extent : extents) {
      auto product = arith::MulUIExtendedOp::create(builder, loc, size, extent);
      size = product.getLow();
      unite(lost, product.getHigh());
      unite(parts, extent); // one below 0 among others
    }
    unite(parts, size);
    Value granule = constant(kGranule);
    Value pieces = arith::CeilDivUIOp::create(builder, loc, size, granule);
    add(arith::MulIOp::create(builder, loc, pieces, granule));
    return true;
  }

  /// The sum, or -1.
  Value getResult() {
    if (!total)
      return arith::ConstantIntOp::create(builder, loc, known, 64);
    if (known)
      add(constant(known));
    unite(lost,
          arith::ShRUIOp::create(builder, loc, parts, constant(kSizeBits)));
    Value isTooLarge = arith::CmpIOp::create(
        builder, loc, arith::CmpIPredicate::ne, lost, constant(0));
    Value result =
        arith::SelectOp::create(builder, loc, isTooLarge, constant(-1), total);
    return arith::IndexCastOp::create(builder, loc, builder.getI64Type(),
                                      result);
  }

private:
  Value constant(int64_t number) {
    return arith::ConstantIndexOp::create(builder, loc, number);
  }
  void unite(Value &bits, Value more) {
    bits = bits ? arith::OrIOp::create(builder, loc, bits, more).getResult()
                : more;
  }
  void add(Value size) {
    total = total ? arith::AddIOp::create(builder, loc, total, size).getResult()
                  : size;
    unite(parts, total);
  }

  OpBuilder &builder;
  Location loc;
  int64_t known = 0; ///< sizes that are the same in each call
  Value total;       ///< all others
  Value lost;        ///< what products have beyond 64 bits
  Value parts;       ///< bits of all extents, products and sums
};

/// The bytes that an element takes in a buffer.
std::optional<int64_t> elementBytes(Type type) {
  if (type.isIndex())
    return 8;
  if (!type.isIntOrFloat())
    return std::nullopt;
  return llvm::PowerOf2Ceil(llvm::divideCeil(type.getIntOrFloatBitWidth(), 8));
}

/// The bytes for each index of the dimensions that are known at run time only.
int64_t knownBytes(MemRefType type, int64_t element) {
  uint64_t bytes = element;
  for (int64_t extent : type.getShape())
    if (ShapedType::isStatic(extent))
      bytes = llvm::SaturatingMultiply(bytes, uint64_t(extent));
  return std::min(bytes, uint64_t(1) << kSizeBits);
}

/// A call that inlining left, such as one of a recursive function, may allocate
/// any number of times.
LogicalResult checkCalls(func::FuncOp function) {
  WalkResult walk = walkOwnBody(function, [&](Operation *op) {
    auto call = dyn_cast<func::CallOp>(op);
    if (!call)
      return WalkResult::advance();
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

LogicalResult addBuffer(memref::AllocOp alloc, SizeSlice &slice, SizeSum &sum) {
  if (LoopLikeOpInterface::blockIsInLoop(alloc->getBlock()))
    return alloc.emitOpError()
           << "this buffer is allocated in a loop, so there "
              "is no upper bound for the workspace";
  // A piece of the workspace is aligned. Asked for again, the alignment would
  // take more bytes than are counted here.
  if (alloc.getAlignment().value_or(1) > kGranule)
    return alloc.emitOpError()
           << "a buffer in the workspace is expected to be aligned to at most "
           << kGranule << " bytes, got " << *alloc.getAlignment();
  alloc.removeAlignmentAttr();
  MemRefType type = alloc.getType();
  std::optional<int64_t> element = elementBytes(type.getElementType());
  if (!element)
    return alloc.emitOpError()
           << "the size of this buffer is not known, as its elements are "
              "neither integers nor floats, got "
           << type.getElementType();
  SmallVector<Value> extents;
  for (Value extent : alloc.getDynamicSizes()) {
    FailureOr<Value> cloned = slice.clone(extent, alloc);
    if (failed(cloned))
      return failure();
    extents.push_back(*cloned);
  }
  if (sum.add(knownBytes(type, *element), extents))
    return success();
  return alloc.emitOpError()
         << "the workspace up to this buffer is expected to be less than 2^"
         << kSizeBits << " bytes, got a buffer of " << type;
}

/// The function of an earlier run makes room.
LogicalResult eraseOld(func::FuncOp function, StringRef name,
                       FunctionType type) {
  Operation *module = function->getParentOp();
  Operation *old = SymbolTable::lookupSymbolIn(module, name);
  if (!old)
    return success();
  auto size = dyn_cast<func::FuncOp>(old);
  if (!size || !size.isPrivate() || size.getFunctionType() != type ||
      !SymbolTable::symbolKnownUseEmpty(old, module))
    return old->emitError() << "the name '" << name
                            << "' is expected to be unused, since it is needed "
                               "for the workspace size of '"
                            << function.getName() << "'";
  old->erase();
  return success();
}

LogicalResult outline(func::FuncOp function) {
  if (failed(checkCalls(function)))
    return failure();
  OpBuilder builder(function);
  Location loc = function.getLoc();
  auto type = builder.getFunctionType(function.getArgumentTypes(),
                                      {builder.getI64Type()});
  std::string name = (function.getName() + kWorkspaceSizeSuffix).str();
  if (failed(eraseOld(function, name, type)))
    return failure();
  auto size = func::FuncOp::create(builder, loc, name, type);
  size.setPrivate();
  builder.setInsertionPointToStart(size.addEntryBlock());
  SizeSlice slice(builder, function, size);
  SizeSum sum(builder, loc);
  WalkResult walk = walkOwnBody(function, [&](Operation *op) {
    auto alloc = dyn_cast<memref::AllocOp>(op);
    return alloc ? WalkResult(addBuffer(alloc, slice, sum))
                 : WalkResult::advance();
  });
  if (walk.wasInterrupted())
    return failure();
  func::ReturnOp::create(builder, loc, sum.getResult());
  return success();
}

struct OutlineWorkspaceSize
    : kvcache::impl::OutlineWorkspaceSizeBase<OutlineWorkspaceSize> {
  void runOnOperation() override {
    // Those of an earlier run are private.
    SmallVector<func::FuncOp> functions;
    for (auto function : getOperation().getOps<func::FuncOp>())
      if (function.isPublic() && !function.isExternal())
        functions.push_back(function);
    for (func::FuncOp function : functions)
      if (failed(outline(function)))
        return signalPassFailure();
  }
};

} // namespace
