// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "OutlineLayerGroups.h"

#include "kvcache/Analysis/Memory.h"
#include "kvcache/IR/KVCache.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::rowdemand;

namespace {

/// Where an operation of the function belongs.
enum class Group { AllRows, Caller, SelectedRows };

class Outliner {
public:
  Outliner(func::FuncOp function,
           const llvm::SetVector<Operation *> &selections)
      : function(function), body(&function.getBody().front()) {
    uniteExtents();
    assign(selections);
    makeSequence();
  }

  bool isPossible(std::string &why);
  void outline();

private:
  using Members = SmallVector<Operation *>;

  void uniteExtents();
  void assign(const llvm::SetVector<Operation *> &selections);
  void makeSequence();
  Members selectingMembers();
  Members members(Group group);
  bool areDefined(std::string &why);
  bool areInOrder(std::string &why);
  bool giveTensors(std::string &why);
  std::string nameOf(Operation *op);
  std::string nameFor(Value value);
  bool isRemade(Operation *op);
  void shareRemade(Members &ops);
  void outline(const Members &ops, StringRef suffix);

  func::FuncOp function;
  Block *body;
  llvm::DenseMap<Operation *, Group> groups;
  /// All operations but the last, as they are to stand.
  Members sequence;
};

} // namespace

/// What costs nothing and is the same wherever it is done: each function has
/// its own.
static bool isCheap(Operation *op) {
  return op->hasTrait<OpTrait::ConstantLike>() ||
         op->hasTrait<MakesIndexValue>() ||
         (isa<ViewLikeOpInterface>(op) &&
          isa<CacheType>(op->getResult(0).getType()) && isMemoryEffectFree(op));
}

static bool isScalarArithmetic(Operation *op) {
  return isa_and_present<arith::ArithDialect>(op->getDialect()) &&
         !isa<ShapedType>(op->getResult(0).getType());
}

static bool isExtentOfArgument(Operation *op) {
  auto dim = dyn_cast<tensor::DimOp>(op);
  return dim && isa<BlockArgument>(dim.getSource());
}

/// Arithmetic on numbers, or a part of an argument, such as a layer's weights.
/// From arguments and constants only: nobody has to hand it over.
static bool isMadeOfArguments(Operation *op) {
  if (!isScalarArithmetic(op) && !isa<tensor::ExtractSliceOp>(op))
    return false;
  return llvm::all_of(op->getOperands(), [](Value operand) {
    Operation *def = operand.getDefiningOp();
    return !def || def->hasTrait<OpTrait::ConstantLike>() ||
           (isScalarArithmetic(def) && isMadeOfArguments(def));
  });
}

/// All operands, also of operations inside.
static void forEachOperand(Operation *op,
                           llvm::function_ref<void(OpOperand &)> visit) {
  op->walk([&](Operation *inner) {
    for (OpOperand &operand : inner->getOpOperands())
      if (Region *region = operand.get().getParentRegion();
          !op->isAncestor(region->getParentOp()))
        visit(operand);
  });
}

/// A group has one argument for each extent, and not one for each time that the
/// function asks for it.
void Outliner::uniteExtents() {
  llvm::DenseMap<std::pair<Value, int64_t>, Operation *> first;
  for (Operation &op : llvm::make_early_inc_range(body->without_terminator())) {
    if (!isExtentOfArgument(&op))
      continue;
    auto dim = cast<tensor::DimOp>(op);
    std::optional<int64_t> number = dim.getConstantIndex();
    if (!number)
      continue;
    auto [found, isNew] = first.insert({{dim.getSource(), *number}, &op});
    if (isNew)
      continue;
    op.replaceAllUsesWith(found->second);
    op.erase();
  }
}

void Outliner::assign(const llvm::SetVector<Operation *> &selections) {
  for (Operation &op : body->without_terminator())
    groups[&op] = Group::AllRows;
  // What depends on a selection. Another selection does if it takes rows of
  // what was made of selected ones.
  llvm::SmallPtrSet<Operation *, 32> dependent;
  for (Operation &op : body->without_terminator())
    forEachOperand(&op, [&](OpOperand &operand) {
      Operation *def = operand.get().getDefiningOp();
      if (def && (selections.contains(def) || dependent.contains(def)))
        dependent.insert(&op);
    });
  // Selections, and the numbers that they take.
  SmallVector<Operation *> worklist;
  for (Operation *selection : selections)
    if (!dependent.contains(selection))
      worklist.push_back(selection);
  while (!worklist.empty()) {
    Operation *op = body->findAncestorOpInBlock(*worklist.pop_back_val());
    groups[op] = Group::Caller;
    forEachOperand(op, [&](OpOperand &operand) {
      Operation *def = operand.get().getDefiningOp();
      if (def && groups[def] != Group::Caller &&
          (isCheap(def) || isScalarArithmetic(def) ||
           isa<tensor::DimOp, tensor::EmptyOp, tensor::ExtractOp,
               tensor::FromElementsOp>(def)))
        worklist.push_back(def);
    });
  }
  // Numbers of rows are arguments of the groups.
  for (Operation &op : body->without_terminator())
    if (isExtentOfArgument(&op))
      groups[&op] = Group::Caller;
  for (Operation *op : dependent)
    groups[op] = Group::SelectedRows;
  // And what only that reads.
  for (Operation &op : llvm::reverse(body->without_terminator())) {
    bool isOnlyRead = !op.use_empty() && isMemoryEffectFree(&op) &&
                      groups[&op] == Group::AllRows;
    for (Operation *user : op.getUsers()) {
      Operation *reader = body->findAncestorOpInBlock(*user);
      isOnlyRead &= groups.lookup(reader) == Group::SelectedRows &&
                    reader != body->getTerminator();
    }
    if (isOnlyRead)
      groups[&op] = Group::SelectedRows;
  }
}

/// The layer of a pool that an operation reads or writes, if that is all.
static std::optional<std::pair<Value, int64_t>> layerOf(Operation *op) {
  std::optional<std::pair<Value, int64_t>> found;
  for (Value operand : op->getOperands()) {
    if (!isa<CacheType>(operand.getType()))
      continue;
    auto layer = operand.getDefiningOp<LayerOp>();
    IntegerAttr number;
    if (found || !layer || layer.getNearest() ||
        !matchPattern(layer.getIndex(), m_Constant(&number)))
      return std::nullopt;
    found = {layer.getCache(), number.getInt()};
  }
  return found;
}

/// Whether an operation may write what another one reads or writes.
static bool mayTouch(Operation *writer, Operation *other) {
  auto effects = getEffectsRecursively(other);
  return !effects ||
         llvm::any_of(*effects, [&](const MemoryEffects::EffectInstance &it) {
           return !it.getValue() || findWriter(writer, it.getValue());
         });
}

static bool mayChangePlaces(Operation *a, Operation *b) {
  auto x = layerOf(a), y = layerOf(b);
  if (x && y && x->first == y->first && x->second != y->second)
    return true;
  return !mayTouch(a, b) && !mayTouch(b, a);
}

std::string Outliner::nameOf(Operation *op) {
  StringRef where = groups.lookup(op) == Group::AllRows        ? " on all rows"
                    : groups.lookup(op) == Group::SelectedRows ? " on selected "
                                                                 "rows"
                                                               : "";
  return llvm::formatv("'{0}'{1}", op->getName(), where);
}

bool Outliner::areInOrder(std::string &why) {
  Members before;
  for (Operation *op : sequence) {
    if (isMemoryEffectFree(op))
      continue;
    for (Operation *first : before) {
      if (first->isBeforeInBlock(op) || mayChangePlaces(op, first))
        continue;
      why = llvm::formatv("{0} comes after {1}, and may access the same memory",
                          nameOf(first), nameOf(op));
      return false;
    }
    before.push_back(op);
  }
  return true;
}

/// A number that takes part in a selection may also be needed before that.
bool Outliner::areDefined(std::string &why) {
  llvm::SmallPtrSet<Operation *, 32> defined;
  for (Operation *op : sequence) {
    Operation *missing = nullptr;
    forEachOperand(op, [&](OpOperand &operand) {
      Operation *def = operand.get().getDefiningOp();
      if (def && !defined.contains(def))
        missing = def;
    });
    if (missing) {
      why = llvm::formatv("{0} needs '{1}', which a selection needs too and "
                          "which depends on operations on all rows",
                          nameOf(op), missing->getName());
      return false;
    }
    defined.insert(op);
  }
  return true;
}

/// What one group gives another one is an argument of an entry function.
bool Outliner::giveTensors(std::string &why) {
  for (Operation *op : members(Group::AllRows))
    for (Value result : op->getResults()) {
      if (isa<TensorType>(result.getType()) || isRemade(op) ||
          op->hasTrait<OpTrait::ConstantLike>())
        continue;
      for (Operation *user : result.getUsers()) {
        Operation *reader = body->findAncestorOpInBlock(*user);
        if (reader == body->getTerminator() ||
            groups.lookup(reader) == Group::AllRows)
          continue;
        why = llvm::formatv("'{0}' passes a value of type {1} to {2}, and a "
                            "group can return only tensors",
                            op->getName(), result.getType(), nameOf(reader));
        return false;
      }
    }
  return true;
}

bool Outliner::isPossible(std::string &why) {
  return areDefined(why) && areInOrder(why) && giveTensors(why);
}

Outliner::Members Outliner::members(Group group) {
  Members ops;
  for (Operation &op : body->without_terminator())
    if (groups.lookup(&op) == group)
      ops.push_back(&op);
  return ops;
}

/// The selections and what only they take; not what others take as well, such
/// as numbers of rows.
Outliner::Members Outliner::selectingMembers() {
  Members ops;
  llvm::SmallPtrSet<Operation *, 16> inside;
  Members candidates = members(Group::Caller);
  for (Operation *op : llvm::reverse(candidates)) {
    if (op->hasTrait<OpTrait::ConstantLike>() || isExtentOfArgument(op) ||
        isCheap(op))
      continue;
    bool isOurs = isa<SelectRowsOp, linalg::LinalgOp>(op) ||
                  llvm::all_of(op->getUsers(), [&](Operation *user) {
                    return inside.contains(body->findAncestorOpInBlock(*user));
                  });
    if (!isOurs)
      continue;
    inside.insert(op);
    ops.insert(ops.begin(), op);
  }
  return ops;
}

/// Constants, what the caller does without the first group, that group, the
/// selections, and the rest.
void Outliner::makeSequence() {
  for (Operation &op : body->without_terminator())
    if (op.hasTrait<OpTrait::ConstantLike>())
      sequence.push_back(&op);
  llvm::SmallPtrSet<Operation *, 32> early(sequence.begin(), sequence.end());
  Members selecting = selectingMembers(), late;
  for (Operation *op : members(Group::Caller)) {
    if (early.contains(op) || llvm::is_contained(selecting, op))
      continue;
    bool isEarly = true;
    forEachOperand(op, [&](OpOperand &operand) {
      Operation *def = operand.get().getDefiningOp();
      isEarly &= !def || early.contains(def);
    });
    (isEarly ? sequence : late).push_back(op);
    if (isEarly)
      early.insert(op);
  }
  Members rest[] = {members(Group::AllRows), late, selecting,
                    members(Group::SelectedRows)};
  for (Members &part : rest)
    for (Operation *op : part)
      if (!op->hasTrait<OpTrait::ConstantLike>())
        sequence.push_back(op);
}

void Outliner::outline() {
  Members all = members(Group::AllRows),
          selected = members(Group::SelectedRows);
  Members selecting = selectingMembers();
  auto isConstant = [](Operation *op) {
    return op->hasTrait<OpTrait::ConstantLike>();
  };
  llvm::erase_if(all, isConstant);
  llvm::erase_if(selected, isConstant);
  for (Operation *op : sequence)
    op->moveBefore(body->getTerminator());
  shareRemade(all);
  outline(all, "_group0");
  // The last group is named after what the selections give, while they are
  // there.
  outline(selected, "_group1");
  outline(selecting, "_select");
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(*body)))
    if (isOpTriviallyDead(&op))
      op.erase();
}

/// Whether each function has its own. What the caller makes is handed over.
bool Outliner::isRemade(Operation *op) {
  return isCheap(op) ||
         (isMadeOfArguments(op) && groups.lookup(op) != Group::Caller);
}

/// Such values of the first group that others use are made again behind it.
void Outliner::shareRemade(Members &ops) {
  if (ops.empty())
    return;
  llvm::SmallPtrSet<Operation *, 32> inside(ops.begin(), ops.end());
  OpBuilder b(ops.back()->getContext());
  b.setInsertionPointAfter(ops.back());
  for (Operation *op : llvm::reverse(ops)) {
    if (!isRemade(op))
      continue;
    auto isOutside = [&](OpOperand &use) {
      return !inside.contains(body->findAncestorOpInBlock(*use.getOwner()));
    };
    if (llvm::none_of(op->getUses(), isOutside))
      continue;
    Operation *copy = b.clone(*op);
    b.setInsertionPoint(copy);
    for (auto [value, made] :
         llvm::zip_equal(op->getResults(), copy->getResults()))
      value.replaceUsesWithIf(made, isOutside);
  }
}

/// What an argument of a group is called, but for a number behind it.
std::string Outliner::nameFor(Value value) {
  if (value.getType().isIndex())
    return "rows";
  auto select = value.getDefiningOp<SelectRowsOp>();
  if (select && value == select->getResults().back())
    return "row_positions";
  if (select && value == select->getResults().drop_back().back())
    return "row_starts";
  return "x";
}

void Outliner::outline(const Members &ops, StringRef suffix) {
  if (ops.empty())
    return;
  llvm::SmallPtrSet<Operation *, 32> inside(ops.begin(), ops.end());
  // What comes in: arguments, or cheap operations that are made again.
  llvm::SetVector<Value> arguments, results;
  llvm::SetVector<Operation *> remade;
  std::function<void(Operation *)> take = [&](Operation *op) {
    forEachOperand(op, [&](OpOperand &operand) {
      Operation *def = operand.get().getDefiningOp();
      if (def && inside.contains(def))
        return;
      if (!def || !isRemade(def)) {
        arguments.insert(operand.get());
        return;
      }
      if (remade.contains(def))
        return;
      take(def);
      remade.insert(def);
    });
  };
  for (Operation *op : ops) {
    take(op);
    for (Value result : op->getResults())
      for (Operation *user : result.getUsers())
        if (!inside.contains(body->findAncestorOpInBlock(*user)))
          results.insert(result);
  }
  // Numbers of rows first.
  SmallVector<Value> ordered;
  for (bool isCount : {true, false})
    for (Value value : arguments)
      if (value.getType().isIndex() == isCount)
        ordered.push_back(value);

  Location loc = function.getLoc();
  OpBuilder b(function.getContext());
  b.setInsertionPointAfter(function);
  auto type = b.getFunctionType(ValueRange(ordered).getTypes(),
                                ValueRange(results.getArrayRef()).getTypes());
  auto outlined =
      func::FuncOp::create(b, loc, (function.getName() + suffix).str(), type);
  SymbolTable(function->getParentOp()).insert(outlined);
  // Names of the caller's arguments stay.
  llvm::StringSet<> names;
  for (unsigned i = 0; i < function.getNumArguments(); ++i)
    if (auto name =
            function.getArgAttrOfType<StringAttr>(i, KVCacheDialect::kNameAttr))
      names.insert(name.getValue());
  IRMapping mapping;
  Block *entry = outlined.addEntryBlock();
  for (auto [value, argument] :
       llvm::zip_equal(ordered, entry->getArguments())) {
    unsigned number = argument.getArgNumber();
    mapping.map(value, argument);
    auto given = dyn_cast<BlockArgument>(value);
    if (given && given.getOwner() == body) {
      if (DictionaryAttr attributes =
              function.getArgAttrDict(given.getArgNumber()))
        outlined.setArgAttrs(number, attributes);
      continue;
    }
    std::string prefix = nameFor(value), name = prefix;
    for (unsigned again = 2; !names.insert(name).second; ++again)
      name = llvm::formatv("{0}{1}", prefix, again);
    outlined.setArgAttr(number, KVCacheDialect::kNameAttr,
                        b.getStringAttr(name));
  }
  b.setInsertionPointToStart(entry);
  for (Operation *op : remade)
    b.clone(*op, mapping);
  for (Operation *op : ops)
    b.clone(*op, mapping);
  SmallVector<Value> returned;
  for (Value result : results)
    returned.push_back(mapping.lookup(result));
  func::ReturnOp::create(b, loc, returned);

  // Behind all that comes in.
  Operation *last = *llvm::max_element(
      ops, [](Operation *x, Operation *y) { return x->isBeforeInBlock(y); });
  b.setInsertionPoint(last);
  auto call = func::CallOp::create(b, loc, outlined, ordered);
  for (auto [number, result] : llvm::enumerate(call.getResults()))
    Value(results[number]).replaceUsesWithIf(result, [&](OpOperand &use) {
      return !inside.contains(body->findAncestorOpInBlock(*use.getOwner()));
    });
  for (Operation *op : llvm::reverse(ops))
    op->erase();
}

bool rowdemand::outlineLayerGroups(
    func::FuncOp function, const llvm::SetVector<Operation *> &selections,
    std::string &why) {
  if (!function.getBody().hasOneBlock()) {
    why = "the function has several blocks";
    return false;
  }
  for (Operation *selection : selections)
    if (selection->getBlock() != &function.getBody().front()) {
      why =
          llvm::formatv("'{0}' is in a loop or a branch", selection->getName());
      return false;
    }
  Outliner outliner(function, selections);
  if (!outliner.isPossible(why))
    return false;
  outliner.outline();
  return true;
}
