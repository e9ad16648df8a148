// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Admission.h"

#include "kvcache/HostCPU/Passes.h"
#include "kvcache/IR/KVCache.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Index/IR/IndexDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/UB/IR/UBOps.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/BuiltinDialect.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::target;

//===----------------------------------------------------------------------===//
// Names and attributes
//===----------------------------------------------------------------------===//

/// What lowerings declare in the module and look up by name. Other names are
/// free: they are set apart when entry functions are added.
static constexpr StringLiteral kReservedPrefixes[] = {
    "kvrt_", "kv_kernels", "_mlir_", "memrefCopy", "llvm."};
static constexpr StringLiteral kReservedNames[] = {"abort", "puts"};

static bool isReserved(StringRef name) {
  return llvm::is_contained(kReservedNames, name) ||
         llvm::any_of(kReservedPrefixes, [&](StringRef prefix) {
           return name.starts_with(prefix);
         });
}

/// Attributes of functions travel as they are to LLVM's functions, where some
/// change code and linkage.
static bool isForLLVM(StringRef name, bool isFunction) {
  StringRef dialect = name.split('.').first;
  if (dialect == name)
    return isFunction &&
           llvm::is_contained(LLVM::LLVMFuncOp::getAttributeNames(), name);
  return dialect == "llvm" || dialect == "nvvm" || dialect == "rocdl" ||
         dialect == "dlti";
}

static LogicalResult refuseAttribute(Operation *op, StringRef name) {
  return op->emitError()
         << "attribute '" << name
         << "' cannot be compiled: expected none that is passed on to LLVM";
}

static LogicalResult admitAttributes(Operation *op) {
  bool isFunction = isa<func::FuncOp>(op);
  for (NamedAttribute attribute : op->getDiscardableAttrs())
    if (isForLLVM(attribute.getName(), isFunction))
      return refuseAttribute(op, attribute.getName());
  auto function = dyn_cast<func::FuncOp>(op);
  if (!function)
    return success();
  for (unsigned i = 0; i < function.getNumArguments(); ++i)
    for (NamedAttribute attribute :
         function_interface_impl::getArgAttrs(function, i))
      if (isForLLVM(attribute.getName(), isFunction))
        return refuseAttribute(op, attribute.getName());
  for (unsigned i = 0; i < function.getNumResults(); ++i)
    for (NamedAttribute attribute :
         function_interface_impl::getResultAttrs(function, i))
      if (isForLLVM(attribute.getName(), isFunction))
        return refuseAttribute(op, attribute.getName());
  return success();
}

LogicalResult target::admitNames(ModuleOp module) {
  if (failed(admitAttributes(module)))
    return failure();
  for (Operation &op : *module.getBody()) {
    if (failed(admitAttributes(&op)))
      return failure();
    if (isa<ModuleOp>(op))
      return op.emitError(
          "a nested module cannot be compiled: expected functions and globals");
    auto name = op.getAttrOfType<StringAttr>(SymbolTable::getSymbolAttrName());
    if (name && isReserved(name))
      return op.emitError()
             << "the name '" << name.getValue()
             << "' is reserved for the compiler; expected another one";
    if (auto global = dyn_cast<memref::GlobalOp>(op))
      if (global.isExternal())
        return global.emitError() << "global '" << global.getSymName()
                                  << "' is expected to have a value: a library "
                                     "imports nothing from its user";
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Operations
//===----------------------------------------------------------------------===//

/// Host code of a GPU program may compute addresses and launch kernels. It must
/// not touch data, which lies in memory that the host cannot reach.
static bool touchesData(Operation *op) {
  auto effects = dyn_cast<MemoryEffectOpInterface>(op);
  return effects && (effects.hasEffect<MemoryEffects::Read>() ||
                     effects.hasEffect<MemoryEffects::Write>());
}

/// Operations of dialects below that are lowered to a call of something that a
/// library does not have, or whose callee nobody looked at.
static bool needsOthers(Operation *op) {
  return isa<vector::PrintOp, arith::RemFOp, func::CallIndirectOp,
             func::ConstantOp>(op);
}

/// What host code is made of, on every target.
static bool isHostCode(Operation *op) {
  return isa_and_nonnull<affine::AffineDialect, arith::ArithDialect,
                         cf::ControlFlowDialect, func::FuncDialect,
                         index::IndexDialect, memref::MemRefDialect,
                         scf::SCFDialect, ub::UBDialect, BuiltinDialect>(
             op->getDialect()) &&
         !needsOthers(op);
}

/// What the pipeline to the CPU takes beside kvcache operations.
static bool isLoweredOnCpu(Operation *op) {
  if (isa<linalg::LinalgOp>(op))
    return cast<linalg::LinalgOp>(op).hasPureBufferSemantics();
  if (isa<linalg::YieldOp, linalg::IndexOp>(op))
    return true;
  if (isa_and_nonnull<math::MathDialect>(op->getDialect()))
    return isExpandable(op);
  if (isa_and_nonnull<vector::VectorDialect>(op->getDialect()))
    return !needsOthers(op);
  return isHostCode(op);
}

static bool isLoweredOnGpu(Operation *op) {
  return isHostCode(op) && !touchesData(op);
}

LogicalResult target::admitOperations(ModuleOp module, bool isGpu) {
  bool found = false;
  module.walk<WalkOrder::PreOrder>([&](Operation *op) {
    if (isa_and_nonnull<KVCacheDialect>(op->getDialect()) ||
        (isGpu ? isLoweredOnGpu(op) : isLoweredOnCpu(op)))
      return WalkResult::advance();
    InFlightDiagnostic error =
        op->emitError() << "'" << op->getName() << "' cannot be compiled for a "
                        << (isGpu ? "GPU" : "CPU") << ": expected ";
    if (needsOthers(op))
      error << "operations that are compiled without calls to other code";
    else if (isGpu)
      error << "only kvcache operations; compile it beside this program";
    else
      error << "kvcache or linalg operations, or loops, loads, stores, copies, "
               "arithmetic and elementary functions of f32";
    found = true;
    return WalkResult::skip(); // one message for an operation and its body
  });
  return failure(found);
}
