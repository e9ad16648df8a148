// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The pass: which operations are looked at, in which sequence, and what is left
// behind.
//
//===----------------------------------------------------------------------===//

#include "CacheViews.h"
#include "Elements.h"
#include "Foreign.h"
#include "Rows.h"
#include "StoreLoops.h"

#include "kvcache/IR/KVCache.h"
#include "kvcache/Interfaces/Raise.h"
#include "kvcache/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Remarks.h"
#include "llvm/ADT/SetVector.h"

namespace kvcache {
#define GEN_PASS_DEF_RAISE
#include "kvcache/Transforms/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

namespace {

/// What an operation is described as: by its dialect, or by what is built in.
struct Description {
  std::optional<RowAccess> access;
  bool isRead = false;
  std::string why;

  static Description of(Operation *op) {
    Description result;
    if (auto *raising =
            op->getDialect()
                ? op->getDialect()->getRegisteredInterface<RaiseInterface>()
                : nullptr) {
      result.access = raising->describeWrite(op, result.why);
      if (!result.access && result.why.empty()) {
        result.isRead = true;
        result.access = raising->describeRead(op, result.why);
      }
      return result;
    }
    for (auto describe : {stablehlo::describeWrite, linalgext::describeWrite,
                          tensorscatter::describeWrite}) {
      result.access = describe(op, result.why);
      if (result.access || !result.why.empty())
        return result;
    }
    result.isRead = true;
    result.access = stablehlo::describeRead(op, result.why);
    return result;
  }
};

struct Raise : kvcache::impl::RaiseBase<Raise> {
  using RaiseBase::RaiseBase;

  void runOnOperation() override;

private:
  void raise(Operation *op);
  void remark(Operation *op, bool isRaised, StringRef text);
  void keepArgument(Operation *op, Value pool);
  void erase(ArrayRef<Operation *> ops);
  void eraseFunctions(ArrayRef<func::FuncOp> called);
  void dropForeignAttributes();

  /// What is to be erased if nothing uses it any more, at the end.
  llvm::SetVector<Operation *> suspects;
};

} // namespace

void Raise::remark(Operation *op, bool isRaised, StringRef text) {
  std::string message = (op->getName().getStringRef() + " " + text).str();
  auto options = remark::RemarkOpts::name("raise").category("kvcache");
  if (isRaised)
    remark::passed(op->getLoc(), options) << message;
  else
    remark::missed(op->getLoc(), options) << message;
}

/// The pool of a program of JAX stays what it is unless it is donated, whatever
/// becomes of the updated one. Elsewhere in this project a pool that is an
/// argument is updated where it is.
void Raise::keepArgument(Operation *op, Value pool) {
  auto argument = dyn_cast_or_null<BlockArgument>(pool);
  if (!argument || op->getName().getDialectNamespace() != "stablehlo")
    return;
  auto function = dyn_cast<func::FuncOp>(argument.getOwner()->getParentOp());
  if (!function || !argument.getOwner()->isEntryBlock() || function.isPrivate())
    return;
  unsigned number = argument.getArgNumber();
  if (function.getArgAttr(number, "tf.aliasing_output") ||
      function.getArgAttr(number, "jax.buffer_donor"))
    return;
  StringRef name = bufferization::BufferizationDialect::kWritableAttrName;
  if (function.getArgAttr(number, name))
    return;
  function.setArgAttr(number, name, BoolAttr::get(&getContext(), false));
  remark(op, false,
         "not in place: the pool is an argument that is not donated, so a copy "
         "of it is written");
}

void Raise::erase(ArrayRef<Operation *> ops) {
  for (Operation *op : ops) {
    addSources(op, suspects);
    suspects.remove(op);
    op->erase();
  }
}

void Raise::raise(Operation *op) {
  if (auto view = dyn_cast<ViewOp>(op)) {
    std::string text;
    Value folded = foldIntoView(view, text);
    if (!text.empty())
      remark(op, folded != nullptr, folded ? text : "left alone: " + text);
    if (!folded)
      return;
    view.getResult().replaceAllUsesWith(folded);
    erase(op);
    return;
  }
  RaiseFacts facts;
  facts.lastRowWins = lastRowWins;
  Raised raised;
  if (isStoreLoop(op)) {
    raised = raiseStoreLoop(op, facts);
  } else {
    Description description = Description::of(op);
    if (!description.access) {
      if (!description.why.empty())
        remark(op, false, "left alone: " + description.why);
      return;
    }
    raised = description.isRead ? raiseRead(op, *description.access)
                                : raiseWrite(op, *description.access, facts);
  }
  remark(op, raised.op != nullptr,
         (raised.op ? "" : "left alone: ") + raised.text);
  if (!raised.op)
    return;
  keepArgument(op, raised.pool);
  erase(raised.erased);
}

/// Erases private functions that were called, and are not any more.
void Raise::eraseFunctions(ArrayRef<func::FuncOp> called) {
  SmallVector<func::FuncOp> left(called);
  bool changed = true;
  while (changed) {
    changed = false;
    for (func::FuncOp &function : left) {
      if (!function ||
          !SymbolTable::symbolKnownUseEmpty(function, getOperation()))
        continue;
      function.erase();
      function = nullptr;
      changed = true;
    }
  }
}

/// Attributes that only the compiler reads which the program came from.
void Raise::dropForeignAttributes() {
  auto isForeign = [&](NamedAttribute attribute) {
    StringRef space = attribute.getName().strref().split('.').first;
    return space != attribute.getName().strref() &&
           !getContext().getLoadedDialect(space);
  };
  auto kept = [&](ArrayRef<NamedAttribute> attributes) {
    return DictionaryAttr::get(&getContext(),
                               llvm::filter_to_vector(attributes, [&](auto a) {
                                 return !isForeign(a);
                               }));
  };
  ModuleOp module = getOperation();
  module->setDiscardableAttrs(
      kept(llvm::to_vector(module->getDiscardableAttrs())));
  for (auto function : module.getOps<func::FuncOp>()) {
    function->setDiscardableAttrs(
        kept(llvm::to_vector(function->getDiscardableAttrs())));
    for (unsigned i = 0; i < function.getNumArguments(); ++i)
      function.setArgAttrs(
          i, kept(mlir::function_interface_impl::getArgAttrs(function, i)));
    for (unsigned i = 0; i < function.getNumResults(); ++i)
      function.setResultAttrs(
          i, kept(mlir::function_interface_impl::getResultAttrs(function, i)));
  }
}

void Raise::runOnOperation() {
  SmallVector<Operation *> candidates;
  SmallVector<func::FuncOp> called;
  getOperation()->walk<WalkOrder::PreOrder>([&](Operation *op) {
    // What is erased on the way is no candidate: a candidate erases itself, and
    // only operations that move elements besides.
    Description description = Description::of(op);
    if (description.access || !description.why.empty() || isStoreLoop(op) ||
        isa<ViewOp>(op))
      candidates.push_back(op);
    auto function = dyn_cast<func::FuncOp>(op);
    if (function && function.isPrivate() &&
        !SymbolTable::symbolKnownUseEmpty(function, getOperation()))
      called.push_back(function);
  });
  for (Operation *op : candidates)
    raise(op);
  eraseUnused(suspects.takeVector());
  eraseFunctions(called);
  if (standalone)
    dropForeignAttributes();
}
