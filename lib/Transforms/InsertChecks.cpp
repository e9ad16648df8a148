// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Transforms/Passes.h"

#include "kvcache/Analysis/Memory.h"
#include "kvcache/Analysis/OwnBody.h"
#include "kvcache/IR/KVCache.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Dominance.h"
#include "mlir/IR/PatternMatch.h"

namespace kvcache {
#define GEN_PASS_DEF_INSERTCHECKS
#include "kvcache/Transforms/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

//===----------------------------------------------------------------------===//
// What arguments are called
//===----------------------------------------------------------------------===//

/// As in the signature of its function; empty for what is no argument.
static std::string nameOf(Value list) {
  auto argument = dyn_cast<BlockArgument>(rootOf(list));
  auto function =
      argument && argument.getOwner()->isEntryBlock()
          ? dyn_cast<FunctionOpInterface>(argument.getOwner()->getParentOp())
          : FunctionOpInterface();
  if (!function)
    return "";
  unsigned number = argument.getArgNumber();
  auto name =
      function.getArgAttrOfType<StringAttr>(number, KVCacheDialect::kNameAttr);
  return name ? name.str() : "arg" + std::to_string(number);
}

/// Of the members of a batch.
static SmallVector<std::string> memberNames(TypedValue<BatchType> batch) {
  BatchLists lists = listsOf(batch);
  std::string rest = lists.rest ? nameOf(lists.rest) : "";
  SmallVector<std::string> names;
  for (auto [i, member] : llvm::enumerate(batch.getType().getMemberNames())) {
    if (Value list = lists.get(BatchMember(i)))
      names.push_back(nameOf(list));
    else
      names.push_back(rest.empty() ? "" : (rest + "." + member).str());
  }
  return names;
}

//===----------------------------------------------------------------------===//
// Checks that say the same
//===----------------------------------------------------------------------===//

/// Whether two values are computed in the same way from the same ones.
static bool isSame(Value a, Value b) {
  if (a == b)
    return true;
  Operation *x = a ? a.getDefiningOp() : nullptr;
  Operation *y = b ? b.getDefiningOp() : nullptr;
  return x && y && x->getName() == y->getName() &&
         x->getAttrDictionary() == y->getAttrDictionary() &&
         cast<OpResult>(a).getResultNumber() ==
             cast<OpResult>(b).getResultNumber() &&
         a.getType() == b.getType() && !x->getNumRegions() &&
         isMemoryEffectFree(x) && isMemoryEffectFree(y) &&
         x->getNumOperands() == y->getNumOperands() &&
         llvm::all_of(llvm::zip(x->getOperands(), y->getOperands()),
                      [](auto pair) {
                        return isSame(std::get<0>(pair), std::get<1>(pair));
                      });
}

/// Whether what passes the first check passes the second one, if no list is
/// written in between.
static bool covers(Operation *first, Operation *second) {
  if (auto a = dyn_cast<CheckBatchOp>(first)) {
    auto b = dyn_cast<CheckBatchOp>(second);
    if (!b || !isSame(a.getBatch(), b.getBatch()) ||
        !isSame(a.getRows(), b.getRows()))
      return false;
    // Fewer entries are seen with a window, and less far ahead.
    return !b.getBlocks() ||
           (isSame(a.getBlocks(), b.getBlocks()) &&
            (!a.getWindow() || a.getWindow() == b.getWindow()) &&
            (!a.getAhead() ||
             (b.getAhead() && *b.getAhead() <= *a.getAhead())));
  }
  if (first->getName() != second->getName() ||
      first->getNumOperands() != second->getNumOperands())
    return false;
  for (auto [a, b] : llvm::zip(first->getOperands(), second->getOperands()))
    if (!isSame(a, b))
      return false;
  auto a = dyn_cast<CheckEntriesOp>(first);
  auto b = dyn_cast<CheckEntriesOp>(second);
  return !a || (a.getColumn() == b.getColumn() &&
                (a.getOrNegative() == b.getOrNegative() || b.getOrNegative()));
}

static SmallVector<Value> listsOf(Operation *check) {
  SmallVector<Value> lists;
  for (Value operand : check->getOperands())
    if (!operand.getType().isIndex())
      lists.push_back(operand);
  return lists;
}

//===----------------------------------------------------------------------===//
// Which checks an operation has
//===----------------------------------------------------------------------===//

namespace {

class CheckInserter {
public:
  CheckInserter(func::FuncOp function, bool isGpu, bool onRequest)
      : function(function), isGpu(isGpu), onRequest(onRequest) {}

  LogicalResult insert() {
    SmallVector<Operation *> users;
    // What nothing reaches does not run, and views may form a ring there.
    walkOwnBody(function, [&](Operation *op) {
      if (isa_and_present<KVCacheDialect>(op->getDialect()) && writes(op) &&
          isReachable(op))
        users.push_back(op);
      return WalkResult::advance();
    });
    for (Operation *op : users) {
      for (Type type : op->getOperandTypes())
        if (isa<TensorType>(type))
          return op->emitOpError() << "is checked only after bufferization: "
                                      "memrefs are expected, got "
                                   << type;
      insertFor(op);
      if (!isGpu)
        guard(op);
    }
    return success();
  }

private:
  static bool writes(Operation *op) {
    // Without memory, an operation on tensors is one that would write.
    if (isa<DestinationStyleOpInterface>(op))
      return true;
    auto effects = dyn_cast<MemoryEffectOpInterface>(op);
    return effects && effects.hasEffect<MemoryEffects::Write>();
  }

  bool isReachable(Operation *op) {
    for (; op != function; op = op->getParentOp())
      if (!dominance.isReachableFromEntry(op->getBlock()))
        return false;
    return true;
  }

  void insertFor(Operation *op) {
    user = op;
    auto access = dyn_cast<CacheAccessOpInterface>(op);
    if (!access)
      return;
    IndexUses uses = access.getIndexUses();
    for (const BatchUse &use : uses.batches)
      checkBatch(use);
    for (const EntryUse &use : uses.entries)
      checkEntries(use);
    if (uses.selection)
      checkSelection(*uses.selection);
  }

  /// What is made from here on belongs to one check.
  void begin() {
    builder.setInsertionPoint(user);
    before = user->getPrevNode();
  }

  void checkBatch(const BatchUse &use) {
    begin();
    Value blocks;
    for (Value cache : use.caches) {
      Value more = extent(cache);
      blocks = blocks && !isSame(blocks, more)
                   ? builder.createOrFold<arith::MinSIOp>(user->getLoc(),
                                                          blocks, more)
                   : more;
    }
    SmallVector<std::string> names = memberNames(use.batch);
    SmallVector<StringRef> texts(names.begin(), names.end());
    place(CheckBatchOp::create(
        builder, user->getLoc(), use.batch, rowsOf(use.rows), blocks,
        use.isCausal, use.window, use.windowRight, onRequest,
        /*early=*/false, userName(), builder.getStrArrayAttr(texts)));
  }

  void checkEntries(const EntryUse &use) {
    begin();
    Value end;
    if (!use.within)
      end = constant(use.perBlock);
    else if (!isa<CacheType>(use.within.getType()))
      end = rowsOf(use.within);
    else if (end = extent(use.within); use.perBlock != 1)
      end = builder.createOrFold<arith::MulIOp>(user->getLoc(), end,
                                                constant(use.perBlock));
    IntegerAttr column =
        use.column ? builder.getI64IntegerAttr(*use.column) : nullptr;
    place(CheckEntriesOp::create(
        builder, user->getLoc(), builder.getStringAttr(use.what), use.list,
        rowsOf(use.counted), end, use.unless, column, use.orNegative, onRequest,
        /*early=*/false, userName(), builder.getStringAttr(nameOf(use.list))));
  }

  void checkSelection(const SelectionUse &use) {
    begin();
    Value count = rowsOf(use.selected);
    place(CheckSelectionOp::create(
        builder, user->getLoc(), use.indices, use.valid, count, use.batch,
        rowsOf(use.rows), onRequest, /*early=*/false, userName(),
        builder.getStringAttr(nameOf(use.indices))));
  }

  StringAttr userName() {
    return builder.getStringAttr(user->getName().stripDialect());
  }
  Value constant(int64_t n) {
    return arith::ConstantIndexOp::create(builder, user->getLoc(), n);
  }
  /// The number of blocks. A layer that is chosen in the call has them all, or
  /// the call has failed already.
  Value extent(Value cache) {
    while (auto part = cache.getDefiningOp<CachePartOpInterface>()) {
      if (part.getKept(AxisKind::Block) == KeptIndices::Some)
        break;
      cache = part->getOperand(0);
    }
    return builder.createOrFold<kvcache::DimOp>(user->getLoc(),
                                                builder.getIndexType(), cache,
                                                builder.getStringAttr("B"));
  }
  /// The rows that all of these have.
  Value rowsOf(ValueRange buffers) {
    Value rows;
    for (Value buffer : buffers) {
      Value more =
          builder.createOrFold<memref::DimOp>(user->getLoc(), buffer, 0);
      rows =
          rows && !isSame(rows, more)
              ? builder.createOrFold<arith::MinSIOp>(user->getLoc(), rows, more)
              : more;
    }
    return rows;
  }

  //===--------------------------------------------------------------------===//
  // Where a check goes
  //===--------------------------------------------------------------------===//

  /// A check and what was made for it, which all stand before its user.
  SmallVector<Operation *> groupOf(Operation *check) {
    SmallVector<Operation *> group;
    Operation *op = before ? before->getNextNode() : &user->getBlock()->front();
    for (; op != user; op = op->getNextNode())
      group.push_back(op);
    assert(!group.empty() && group.back() == check);
    return group;
  }

  void place(Operation *check) {
    SmallVector<Operation *> group = groupOf(check);
    if (isMadeAlready(check)) {
      for (Operation *op : llvm::reverse(group))
        op->erase();
      return;
    }
    SmallVector<Value> lists = listsOf(check);
    bool isWritten = llvm::any_of(
        lists, [&](Value list) { return findWriter(user, list) != nullptr; });
    if (isGpu && function.isPublic() &&
        llvm::none_of(lists, [&](Value list) { return writerOf(list); }))
      check->setAttr("early", builder.getUnitAttr());
    SmallVector<Operation *> twins;
    Operation *anchor = outermost(group, lists, twins);
    bool isBehind = isGpu && !isWritten;
    if (isBehind) {
      for (Operation *op : llvm::reverse(group))
        op->moveAfter(anchor);
    } else if (anchor != user) {
      for (Operation *op : group)
        op->moveBefore(anchor);
    }
    made.push_back({check, std::move(twins)});
  }

  bool isMadeAlready(Operation *check) {
    return llvm::any_of(made, [&](const Made &other) {
      if (!covers(other.check, check))
        return false;
      if (llvm::is_contained(other.twins, user))
        return true;
      return dominance.dominates(other.check, user) &&
             llvm::none_of(listsOf(check), [&](Value list) {
               return findWriterBetween(other.check, user, list);
             });
    });
  }

  /// What the function has that may write a list.
  Operation *writerOf(Value list) {
    for (Block &block : function.getBody())
      for (Operation &op : block)
        if (Operation *writer = findWriter(&op, list))
          return writer;
    return nullptr;
  }

  /// What a check is put at: its user, or what is around it and runs it each
  /// time, does not make what is checked, and does not write it. That are
  /// loops, and branches of which each has the operation, such as variants for
  /// facts.
  Operation *outermost(ArrayRef<Operation *> group, ArrayRef<Value> lists,
                       SmallVectorImpl<Operation *> &twins) {
    Operation *anchor = user;
    for (;;) {
      Operation *around = anchor->getParentOp();
      SmallVector<Operation *> more;
      if (!runsEachTime(anchor, more))
        return anchor;
      auto isOutside = [&](Value operand) {
        return llvm::is_contained(group, operand.getDefiningOp()) ||
               !around->isAncestor(operand.getParentBlock()->getParentOp());
      };
      for (Operation *op : group)
        if (!llvm::all_of(op->getOperands(), isOutside))
          return anchor;
      for (Value list : lists)
        if (findWriter(around, list))
          return anchor;
      anchor = around;
      llvm::append_range(twins, more);
    }
  }

  /// Whether the operation around this one runs its user whenever it runs
  /// itself; with its twins in other branches, which are checked with it.
  bool runsEachTime(Operation *anchor, SmallVectorImpl<Operation *> &twins) {
    Operation *around = anchor->getParentOp();
    if (auto loop = dyn_cast<scf::ForOp>(around)) {
      std::optional<APInt> count = loop.getStaticTripCount();
      return count && !count->isZero();
    }
    auto branch = dyn_cast<scf::IfOp>(around);
    if (!branch || !branch.elseBlock())
      return false;
    Block *other = anchor->getBlock() == branch.thenBlock()
                       ? branch.elseBlock()
                       : branch.thenBlock();
    return runsTwin(*other, twins);
  }

  bool runsTwin(Block &block, SmallVectorImpl<Operation *> &twins) {
    for (Operation &op : block) {
      if (isTwin(&op)) {
        twins.push_back(&op);
        return true;
      }
      auto branch = dyn_cast<scf::IfOp>(op);
      if (branch && branch.elseBlock() &&
          runsTwin(*branch.thenBlock(), twins) &&
          runsTwin(*branch.elseBlock(), twins))
        return true;
    }
    return false;
  }

  /// The same operation as the user, with other facts of its caches.
  bool isTwin(Operation *op) {
    auto strip = [](Value value) {
      while (auto cast = value.getDefiningOp<CastOp>())
        value = cast.getCache();
      return value;
    };
    return op->getName() == user->getName() &&
           op->getAttrDictionary() == user->getAttrDictionary() &&
           op->getNumOperands() == user->getNumOperands() &&
           llvm::all_of(llvm::zip(op->getOperands(), user->getOperands()),
                        [&](auto pair) {
                          return strip(std::get<0>(pair)) ==
                                 strip(std::get<1>(pair));
                        });
  }

  /// The operation runs if the last check before it, which also knows of those
  /// before, has found no error.
  void guard(Operation *op) {
    for (const Made &last : llvm::reverse(made)) {
      if (!dominance.dominates(last.check, op))
        continue;
      OpBuilder b(op);
      auto branch = scf::IfOp::create(b, op->getLoc(), last.check->getResult(0),
                                      /*withElseRegion=*/false);
      branch->setAttr(KVCacheDialect::kCheckedAttr, b.getUnitAttr());
      op->moveBefore(branch.thenBlock()->getTerminator());
      return;
    }
  }

  func::FuncOp function;
  const bool isGpu, onRequest;
  OpBuilder builder{function.getContext()};
  DominanceInfo dominance{function};
  Operation *user = nullptr;
  Operation *before = nullptr; ///< what a check is made behind; null: nothing
  /// A check, and operations in branches that it stands for as well.
  struct Made {
    Operation *check;
    SmallVector<Operation *> twins;
  };
  SmallVector<Made> made;
};

/// Checks come between operations, which then are launches of their own.
void takeApart(func::FuncOp function) {
  SmallVector<FuseOp> fused;
  function.walk([&](FuseOp op) { fused.push_back(op); });
  IRRewriter rewriter(function.getContext());
  for (FuseOp op : fused) {
    // Its buffers have memory now, which the iterations of a loop share.
    SmallVector<memref::AllocOp> buffers(
        op.getBody().front().getOps<memref::AllocOp>());
    for (memref::AllocOp buffer : buffers) {
      Operation *place = op;
      auto around = [&] {
        return dyn_cast<LoopLikeOpInterface>(place->getParentOp());
      };
      while (isa<scf::ForOp, scf::WhileOp>(place->getParentOp()) &&
             llvm::all_of(buffer->getOperands(), [&](Value size) {
               return around().isDefinedOutsideOfLoop(size);
             }))
        place = place->getParentOp();
      buffer->moveBefore(place);
    }
    rewriter.inlineBlockBefore(&op.getBody().front(), op);
    rewriter.eraseOp(op);
  }
}

struct InsertChecks : kvcache::impl::InsertChecksBase<InsertChecks> {
  using InsertChecksBase::InsertChecksBase;
  void runOnOperation() override {
    if (target != "cpu" && target != "gpu") {
      emitError(getOperation().getLoc())
          << "'target' is expected to be cpu or gpu, got '" << target << "'";
      return signalPassFailure();
    }
    WalkResult walk = getOperation().walk([&](func::FuncOp function) {
      if (function.isExternal())
        return WalkResult::advance();
      takeApart(function);
      CheckInserter inserter(function, target == "gpu", onRequest);
      return failed(inserter.insert()) ? WalkResult::interrupt()
                                       : WalkResult::advance();
    });
    if (walk.wasInterrupted())
      signalPassFailure();
  }
};

} // namespace
