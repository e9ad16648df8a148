// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The pass: which operations are processed, in which order, and what remains.
//
//===----------------------------------------------------------------------===//

#include "CacheViews.h"
#include "Elements.h"
#include "Foreign.h"
#include "Rows.h"
#include "StoreLoops.h"

#include "kvcache/Analysis/Origins.h"
#include "kvcache/Analysis/SymbolUsers.h"
#include "kvcache/IR/KVCache.h"
#include "kvcache/Interfaces/Raise.h"
#include "kvcache/Raise/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/IR/Remarks.h"
#include "mlir/Transforms/RegionUtils.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"

namespace kvcache {
#define GEN_PASS_DEF_RAISE
#include "kvcache/Raise/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;
using namespace kvcache::raise;

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
  void keepArguments();
  void erase(ArrayRef<Operation *> ops);
  void eraseFunctions(ArrayRef<func::FuncOp> called);
  void dropForeignAttributes();

  /// Updates that were made of operations of functional dialects.
  SmallVector<std::pair<Operation *, OperationName>> writes;
  /// What was erased, with all that was inside.
  llvm::DenseSet<Operation *> gone;
  /// What is to be erased if nothing uses it any more, at the end.
  llvm::SetVector<Operation *> suspects;
};

} // namespace

static void report(Location loc, OperationName name, bool isRaised,
                   const Twine &text) {
  std::string message = (name.getStringRef() + " " + text).str();
  auto options = remark::RemarkOpts::name("raise").category("kvcache");
  if (isRaised)
    remark::passed(loc, options) << message;
  else
    remark::missed(loc, options) << message;
}

static void report(Operation *op, bool isRaised, const Twine &text) {
  report(op->getLoc(), op->getName(), isRaised, text);
}

/// Attributes by which hosts say that an argument may be overwritten: JAX, IREE
/// and bufferization, which may also say that it may not.
static bool saysWhetherWritable(func::FuncOp function, unsigned argument) {
  return llvm::any_of(
      ArrayRef<StringRef>(
          {"tf.aliasing_output", "jax.buffer_donor", "iree.abi.output",
           bufferization::BufferizationDialect::kWritableAttrName}),
      [&](StringRef name) {
        return bool(function.getArgAttr(argument, name));
      });
}

/// What an update of a functional program takes stays what it is, unless the
/// host gives it away. Of arguments of private functions this follows from what
/// callers hand over, which bufferization sees.
void Raise::keepArguments() {
  TensorOrigins origins(getOperation(), /*arithmeticOverwrites=*/true);
  for (const auto &[write, name] : writes)
    for (BlockArgument argument : origins.argumentsOf(
             cast<DestinationStyleOpInterface>(write).getDpsInits().front())) {
      auto function =
          dyn_cast<func::FuncOp>(argument.getOwner()->getParentOp());
      unsigned number = argument.getArgNumber();
      if (saysWhetherWritable(function, number))
        continue;
      function.setArgAttr(
          number, bufferization::BufferizationDialect::kWritableAttrName,
          BoolAttr::get(&getContext(), false));
      report(write->getLoc(), name, false,
             "not in place: argument " + Twine(number) + " of '" +
                 function.getName() +
                 "' is not donated, so a copy of the pool is written");
    }
}

void Raise::erase(ArrayRef<Operation *> ops) {
  for (Operation *op : ops) {
    addSources(op, suspects);
    op->walk([&](Operation *inner) {
      suspects.remove(inner);
      gone.insert(inner);
    });
    op->erase();
  }
}

void Raise::raise(Operation *op) {
  if (auto view = dyn_cast<ViewOp>(op)) {
    std::string text;
    Value folded = foldIntoView(view, text);
    if (!text.empty())
      report(op, folded != nullptr, folded ? text : "left alone: " + text);
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
        report(op, false, "left alone: " + description.why);
      return;
    }
    raised = description.isRead ? raiseRead(op, *description.access)
                                : raiseWrite(op, *description.access, facts);
  }
  report(op, raised.op != nullptr,
         (raised.op ? "" : "left alone: ") + raised.text);
  if (!raised.op)
    return;
  if (raised.isFunctional)
    writes.push_back({raised.op, op->getName()});
  erase(raised.erased);
}

/// Erases private functions that were called, and are not any more.
void Raise::eraseFunctions(ArrayRef<func::FuncOp> called) {
  // How often each is named, and what each of them names.
  llvm::MapVector<Operation *, size_t> uses;
  llvm::DenseMap<Operation *, SmallVector<Operation *>> namedIn;
  SymbolUsers users(getOperation());
  for (func::FuncOp function : called) {
    std::optional<ArrayRef<Operation *>> all = users.of(function);
    if (!all)
      return;
    uses[function] = all->size();
    for (Operation *user : *all) {
      auto caller = dyn_cast<func::FuncOp>(user);
      if (!caller)
        caller = user->getParentOfType<func::FuncOp>();
      if (caller)
        namedIn[caller].push_back(function);
    }
  }
  SmallVector<Operation *> unused;
  for (auto [function, count] : uses)
    if (count == 0)
      unused.push_back(function);
  while (!unused.empty()) {
    Operation *function = unused.pop_back_val();
    for (Operation *named : namedIn.lookup(function))
      if (--uses[named] == 0)
        unused.push_back(named);
    function->erase();
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
  // Where code is not reachable, what a value is made of need not come before
  // it.
  IRRewriter rewriter(&getContext());
  (void)eraseUnreachableBlocks(rewriter, getOperation()->getRegions());
  SmallVector<Operation *> candidates;
  SmallVector<func::FuncOp> called;
  SymbolUsers users(getOperation());
  getOperation()->walk<WalkOrder::PreOrder>([&](Operation *op) {
    Description description = Description::of(op);
    if (description.access || !description.why.empty() || isStoreLoop(op) ||
        isa<ViewOp>(op))
      candidates.push_back(op);
    auto function = dyn_cast<func::FuncOp>(op);
    if (!function || !function.isPrivate())
      return;
    std::optional<ArrayRef<Operation *>> all = users.of(function);
    if (!all || !all->empty())
      called.push_back(function);
  });
  for (Operation *op : candidates)
    if (!gone.contains(op))
      raise(op);
  keepArguments();
  eraseUnused(suspects.takeVector());
  eraseFunctions(called);
  if (standalone)
    dropForeignAttributes();
}
