// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Transforms/Passes.h"

#include "kvcache/Analysis/Memory.h"
#include "kvcache/IR/KVCache.h"
#include "kvcache/IR/RowSteps.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Remarks.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringExtras.h"

namespace kvcache {
#define GEN_PASS_DEF_FUSEROWS
#include "kvcache/Transforms/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

/// The most results of a launch: each is code of its own.
static constexpr unsigned kMostResults = 8;

static bool isOfRows(Operation *op) {
  return isa<RowStepOpInterface, IndexCopyOp, ScatterOp>(op) &&
         op->getNumResults() == 0;
}

static std::string nameOf(Operation *op) {
  return "'" + op->getName().stripDialect().str() + "'";
}

template <typename Kind>
static void say(Kind kind, Operation *op, const std::string &text) {
  auto options = remark::RemarkOpts::name("fuse-rows").category("kvcache");
  kind(op->getLoc(), options) << text;
}

namespace {

/// Memory that one operation writes and the other one may access.
struct Shared {
  Value first, second;

  using Ignored = llvm::function_ref<bool(Value first, Value second)>;
  static std::optional<Shared> find(
      Operation *first, Operation *second,
      Ignored isIgnored = [](Value, Value) { return false; }) {
    SmallVector<MemoryEffects::EffectInstance> ofFirst, ofSecond;
    cast<MemoryEffectOpInterface>(first).getEffects(ofFirst);
    cast<MemoryEffectOpInterface>(second).getEffects(ofSecond);
    for (const auto &x : ofFirst)
      for (const auto &y : ofSecond)
        if ((isa<MemoryEffects::Write>(x.getEffect()) ||
             isa<MemoryEffects::Write>(y.getEffect())) &&
            !isIgnored(x.getValue(), y.getValue()) &&
            mayOverlap(x.getValue(), y.getValue()))
          return Shared{x.getValue(), y.getValue()};
    return std::nullopt;
  }

  static std::string describe(Value memory) {
    auto argument = dyn_cast<BlockArgument>(rootOf(memory));
    return argument ? "argument #" + std::to_string(argument.getArgNumber())
                    : "a buffer of the function";
  }
};

/// Operations that are, or can be, one launch, in the order of the block.
using Launch = llvm::SetVector<Operation *>;

/// Row operations of a block with nothing between them that accesses memory.
class Run {
public:
  void add(Operation *op) { ops.push_back(op); }

  void fuse() {
    std::vector<Launch> results;
    llvm::SmallPtrSet<Operation *, 8> taken;
    for (Operation *op : llvm::reverse(ops)) {
      if (taken.contains(op))
        continue;
      results.push_back(withSteps(op));
      taken.insert_range(results.back());
    }
    // All are found before one is made, which takes operations out of the
    // block.
    std::vector<Launch> launches(1);
    unsigned count = 0;
    for (const Launch &result : llvm::reverse(results)) {
      if (count == kMostResults || !canJoin(launches.back(), result)) {
        launches.emplace_back();
        count = 0;
      }
      launches.back().insert_range(result);
      ++count;
    }
    for (const Launch &launch : launches)
      make(launch);
  }

private:
  /// An operation, and the steps before it that may run where it does.
  Launch withSteps(Operation *op) const {
    Launch launch;
    for (Value rows : rowsOf(op))
      for (RowStepOpInterface step : stepsBefore(rows))
        if (llvm::is_contained(ops, step.getOperation()))
          launch.insert(step);
    std::string why = launch.empty() ? "" : whyNotFused(op);
    if (!why.empty())
      say(remark::missed, op,
          nameOf(op) + " is not in the launch of the steps before it: " + why);
    launch.insert(op);
    if (!why.empty() || !mayReadLate(launch, op) || blocks(launch, op)) {
      launch.clear();
      launch.insert(op);
    }
    return launch;
  }

  /// Whether steps may read what they read where the last one writes already,
  /// which then are other rows, but for those in place.
  static bool mayReadLate(const Launch &launch, Operation *last) {
    auto out = dyn_cast<RowStepOpInterface>(last);
    for (Operation *op : ArrayRef(launch.getArrayRef()).drop_back()) {
      auto step = cast<RowStepOpInterface>(op);
      auto isIgnored = [&](Value first, Value second) {
        bool isInPlace = out && first == second && first == step.getRows() &&
                         second == out.getOut() &&
                         llvm::count(op->getOperands(), first) == 1;
        return isInPlace || stepInto(first) || stepInto(second);
      };
      std::optional<Shared> shared = Shared::find(op, last, isIgnored);
      if (!shared)
        continue;
      saySharing(op, last, *shared);
      return false;
    }
    return true;
  }

  static void saySharing(Operation *first, Operation *second,
                         const Shared &shared) {
    say(remark::missed, second,
        nameOf(second) + " is not in the launch of " + nameOf(first) +
            ": one may write what the other one accesses, " +
            Shared::describe(shared.first) + " and " +
            Shared::describe(shared.second));
  }

  /// What stands between one of a launch and its end, is not one of them, and
  /// may not come before it.
  bool blocks(const Launch &launch, Operation *end) const {
    for (Operation *op : launch)
      for (Operation *other : ops)
        if (op->isBeforeInBlock(other) && other->isBeforeInBlock(end) &&
            !launch.contains(other) && Shared::find(op, other))
          return true;
    return false;
  }

  bool canJoin(const Launch &launch, const Launch &result) const {
    for (Operation *first : launch)
      for (Operation *second : result)
        if (std::optional<Shared> shared = Shared::find(first, second)) {
          saySharing(first, second, *shared);
          return false;
        }
    Launch both = launch;
    both.insert_range(result);
    return !blocks(both, result.back());
  }

  /// Makes a `fuse` of more than one with a step among them.
  static void make(const Launch &launch) {
    if (launch.size() < 2 ||
        llvm::none_of(launch, llvm::IsaPred<RowStepOpInterface>))
      return;
    SmallVector<Operation *> sorted(launch.begin(), launch.end());
    llvm::sort(sorted, [](Operation *a, Operation *b) {
      return a->isBeforeInBlock(b);
    });
    OpBuilder builder(sorted.back());
    auto fused = FuseOp::create(builder, sorted.back()->getLoc());
    Block *body = builder.createBlock(&fused.getBody());
    SmallVector<std::string> names;
    for (Operation *op : sorted) {
      auto step = dyn_cast<RowStepOpInterface>(op);
      bool isInside = step && stepInto(step.getOut()) &&
                      llvm::any_of(step.getOut().getUsers(), [&](Operation *r) {
                        return r != op && launch.contains(r);
                      });
      names.push_back(op->getName().stripDialect().str());
      if (isInside) {
        allocOf(step.getOut())->moveBefore(body, body->end());
        Operation *buffer = step.getOut().getDefiningOp();
        if (isa<memref::CastOp>(buffer))
          buffer->moveBefore(body, body->end());
      }
      op->moveBefore(body, body->end());
    }
    say(remark::passed, fused, "one launch: " + llvm::join(names, ", "));
  }

  SmallVector<Operation *> ops;
};

struct FuseRows : kvcache::impl::FuseRowsBase<FuseRows> {
  void runOnOperation() override {
    SmallVector<Block *> blocks;
    getOperation()->walk([&](Block *block) {
      if (!isa<FuseOp>(block->getParentOp()))
        blocks.push_back(block);
    });
    for (Block *block : blocks)
      fuseIn(*block);
  }

private:
  static void fuseIn(Block &block) {
    SmallVector<Run> runs(1);
    for (Operation &op : block) {
      if (isOfRows(&op))
        runs.back().add(&op);
      else if (!isMemoryEffectFree(&op) && !isa<memref::AllocOp>(op))
        runs.emplace_back();
    }
    for (Run &run : runs)
      run.fuse();
  }
};

} // namespace
