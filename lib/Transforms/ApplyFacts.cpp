// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "ApplyFacts.h"

#include "kvcache/Analysis/StrideFacts.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SmallPtrSet.h"

#include <thread>

using namespace mlir;
using namespace kvcache;

/// A view of bytes has operands for what its type leaves to run time, and no
/// others.
static void dropKnownOperands(ViewOp view) {
  const Layout &layout = view.getResult().getType().getLayout();
  auto keep = [&](ArrayAttr names, ValueRange values,
                  llvm::function_ref<bool(const LayoutDim &)> isRunTime,
                  SmallVector<Attribute> &keptNames,
                  SmallVector<Value> &keptValues) {
    for (auto [name, value] : llvm::zip(names, values)) {
      std::optional<Axis> axis =
          Axis::parse(std::string_view(cast<StringAttr>(name).getValue()));
      if (!isRunTime(layout.dim(*layout.find(*axis))))
        continue;
      keptNames.push_back(name);
      keptValues.push_back(value);
    }
  };
  SmallVector<Attribute> extentNames, strideNames;
  SmallVector<Value> extents, strides;
  keep(
      view.getExtentAxes(), view.getExtents(),
      [](const LayoutDim &dim) { return dim.extent == kRunTime; }, extentNames,
      extents);
  keep(
      view.getStrideAxes(), view.getStrides(),
      [](const LayoutDim &dim) {
        return dim.stride.kind == StrideFact::Kind::RunTime;
      },
      strideNames, strides);
  Builder builder(view.getContext());
  view.getExtentsMutable().assign(extents);
  view.getStridesMutable().assign(strides);
  view.setExtentAxesAttr(builder.getArrayAttr(extentNames));
  view.setStrideAxesAttr(builder.getArrayAttr(strideNames));
}

/// Whether an operation may have the types that its operands have now. More
/// facts may contradict what it asks for, on a path that no call takes.
static bool isValid(Operation *op) {
  // What others report at this time is not held back.
  std::thread::id here = std::this_thread::get_id();
  ScopedDiagnosticHandler quiet(op->getContext(), [&](Diagnostic &) {
    return success(std::this_thread::get_id() == here);
  });
  return succeeded(op->getName().verifyInvariants(op));
}

/// Operations of other dialects, and flow that is not followed, get the type
/// that they had.
static void forgetWhereUnknown(const llvm::MapVector<Value, CacheType> &before,
                               ArrayRef<FlowEdge> edges) {
  llvm::SmallPtrSet<OpOperand *, 16> followed;
  for (const FlowEdge &edge : edges)
    followed.insert(edge.from);
  for (auto [value, type] : before)
    for (OpOperand &use : llvm::make_early_inc_range(value.getUses())) {
      Operation *user = use.getOwner();
      bool isOurs = isa_and_present<KVCacheDialect>(user->getDialect());
      if (followed.contains(&use) || (isOurs && isValid(user)))
        continue;
      OpBuilder builder(user);
      use.set(CastOp::create(builder, user->getLoc(), type, value));
    }
}

/// The memref of flattened rows follows from the type of the cache.
static void updateRows(FlattenOp op) {
  SmallVector<Type> types;
  FlattenOp::Adaptor adaptor(op);
  if (failed(FlattenOp::inferReturnTypes(op.getContext(), op.getLoc(), adaptor,
                                         types)) ||
      types.front() == op.getResult().getType())
    return;
  Type declared = op.getResult().getType();
  op.getResult().setType(cast<MemRefType>(types.front()));
  OpBuilder builder(op->getContext());
  builder.setInsertionPointAfter(op);
  auto cast =
      memref::CastOp::create(builder, op.getLoc(), declared, op.getResult());
  op.getResult().replaceAllUsesExcept(cast, cast);
}

/// The types of a function are those of its arguments and of what it returns.
static void updateFunctionType(func::FuncOp function) {
  if (function.isExternal())
    return;
  SmallVector<Type> results(function.getResultTypes());
  for (auto exit : function.getBody().getOps<func::ReturnOp>())
    results.assign(exit->operand_type_begin(), exit->operand_type_end());
  function.setFunctionType(FunctionType::get(
      function.getContext(), function.getBody().getArgumentTypes(), results));
}

unsigned kvcache::applyStrideFacts(ModuleOp module) {
  StrideFacts facts(module);
  llvm::MapVector<Value, CacheType> before;
  auto retype = [&](Value value) {
    if (!isa<CacheType>(value.getType()))
      return;
    CacheType type = facts.typeOf(value);
    if (type == value.getType())
      return;
    before.insert({value, cast<CacheType>(value.getType())});
    value.setType(type);
  };
  module.walk([&](Operation *op) {
    for (Value result : op->getResults())
      retype(result);
    for (Region &region : op->getRegions())
      for (Block &block : region)
        for (Value argument : block.getArguments())
          retype(argument);
  });
  if (before.empty())
    return 0;
  module.walk([&](ViewOp view) {
    if (view.isByteView())
      dropKnownOperands(view);
  });
  // Two edges may leave one operand, as into the argument and the result of a
  // loop; these have the same type.
  for (const FlowEdge &edge : facts.edges()) {
    Value value = edge.from->get();
    if (value.getType() == edge.to.getType())
      continue;
    OpBuilder builder(edge.from->getOwner());
    edge.from->set(CastOp::create(builder, edge.from->getOwner()->getLoc(),
                                  cast<CacheType>(edge.to.getType()), value));
  }
  forgetWhereUnknown(before, facts.edges());
  module.walk(updateRows);
  // Also of modules inside of this one, whose values were retyped as well.
  module.walk(updateFunctionType);
  return before.size();
}
