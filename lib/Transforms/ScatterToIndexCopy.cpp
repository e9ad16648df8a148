// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A scatter has two indices per row, a block and an offset; an index copy has
// one, a slot. If the program computed the two from a slot by division, that
// slot is used. If they are independent lists, slots are computed from them if
// rows are linear.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Transforms/Passes.h"

#include "Remarks.h"
#include "SlotArithmetic.h"
#include "WholeBlocks.h"
#include "kvcache/Analysis/WriterIndex.h"
#include "kvcache/IR/KVCache.h"
#include "kvcache/Layout/Facts.h"
#include "kvcache/Layout/Views.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Builders.h"
#include "mlir/Interfaces/LoopLikeInterface.h"
#include "llvm/ADT/SetVector.h"

namespace kvcache {
#define GEN_PASS_DEF_SCATTERTOINDEXCOPY
#include "kvcache/Transforms/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

static constexpr llvm::StringLiteral kName = "scatter-to-index-copy";

namespace {

/// What becomes of a slot below 0, given how block and offset are divided out
/// of it.
enum class NegativeSlot {
  Dropped,   ///< block or offset is outside of the cache
  Live,      ///< the row of another token is overwritten
  Undecided, ///< that depends on the number of blocks
};

NegativeSlot negativeSlot(const DividedList &blocks, const DividedList &offsets,
                          int64_t arithmeticBits) {
  using Kind = DividedList::Kind;
  // -1 and all below belong to a block below 0.
  if (blocks.kind == Kind::Floor)
    return NegativeSlot::Dropped;
  // 2^63 / N is more blocks than a cache can have.
  if (blocks.kind == Kind::Unsigned)
    return arithmeticBits == 64 && blocks.by <= (int64_t(1) << 22)
               ? NegativeSlot::Dropped
               : NegativeSlot::Undecided;
  // -1 is in block 0: the offset decides.
  return offsets.kind == Kind::Truncated ? NegativeSlot::Dropped
                                         : NegativeSlot::Live;
}

struct ScatterToIndexCopy
    : kvcache::impl::ScatterToIndexCopyBase<ScatterToIndexCopy> {
  using ScatterToIndexCopyBase::ScatterToIndexCopyBase;

  void runOnOperation() override {
    if (failed(rewriteScatters()))
      return signalPassFailure();
    // Those that the program has, and those that were just made.
    SmallVector<std::pair<IndexCopyOp, BlockSlotsOp>> copies;
    WriterIndex writers;
    getOperation().walk([&](IndexCopyOp op) {
      if (BlockSlotsOp blocks = findWholeBlocks(op, writers))
        copies.push_back({op, blocks});
    });
    for (auto [op, blocks] : copies)
      rewriteBlocks(op, blocks);
  }

private:
  /// What is known before anything is rewritten, when it can be kept: many
  /// scatters use the same lists. A rewrite writes what the scatter wrote, and
  /// lists that it made itself.
  struct Known {
    struct Divided {
      std::optional<DividedList> list;
      std::string why;
    };
    WriterIndex writers;
    llvm::DenseMap<Value, Divided> quotients, remainders;

    const Divided &quotient(Value blocks) {
      auto [found, isNew] = quotients.try_emplace(blocks);
      if (isNew)
        found->second.list = findQuotient(blocks, found->second.why);
      return found->second;
    }
    const Divided &remainder(Value offsets) {
      auto [found, isNew] = remainders.try_emplace(offsets);
      if (isNew)
        found->second.list = findRemainder(offsets, found->second.why);
      return found->second;
    }
  };

  struct Plan {
    ScatterOp op;
    Value slots;     ///< null if there is no list of them
    std::string why; ///< there is none
  };

  LogicalResult rewriteScatters() {
    SmallVector<Plan> plans;
    Known known;
    WalkResult walk = getOperation().walk([&](ScatterOp op) {
      if (isa<FuseOp>(op->getParentOp())) {
        remarkDeclined(op, kName, "it is one launch with other operations");
        return WalkResult::advance();
      }
      if (!isa<CacheType>(op.getCache().getType()) ||
          !isa<MemRefType>(op.getBlocks().getType())) {
        remarkDeclined(op, kName,
                       "the lists are tensors; run after bufferization");
        return WalkResult::advance();
      }
      Plan plan{op, {}, {}};
      FailureOr<Value> slots = findSlots(op, known, plan.why);
      if (failed(slots))
        return WalkResult::interrupt();
      plan.slots = *slots;
      plans.push_back(std::move(plan));
      return WalkResult::advance();
    });
    if (walk.wasInterrupted())
      return failure();
    // Lists that were divided out of slots are looked at after their last use.
    SmallVector<std::pair<Value, Value>> lists;
    for (const Plan &plan : plans) {
      if (!plan.slots) {
        rewriteLists(plan.op, plan.why);
        continue;
      }
      ScatterOp op = plan.op;
      lists.push_back({op.getBlocks(), op.getOffsets()});
      replaceBySlots(op, plan.slots);
    }
    llvm::SmallSetVector<std::pair<Value, Value>, 8> once;
    once.insert_range(llvm::reverse(lists));
    for (auto [blocks, offsets] : llvm::reverse(once))
      kvcache::eraseIfOnlyWritten(blocks, offsets);
    return success();
  }

  /// The list that blocks and offsets were divided out of. Null if there is
  /// none, or if it is not what they are any more; fails where padding would
  /// land in a live slot.
  static FailureOr<Value> findSlots(ScatterOp op, Known &known,
                                    std::string &why) {
    int64_t tokens = op.getCacheType().getLayout().extent(AxisKind::Token);
    const Known::Divided &quotient = known.quotient(op.getBlocks());
    const Known::Divided &remainder = known.remainder(op.getOffsets());
    if (!quotient.list || !remainder.list) {
      why = quotient.list ? remainder.why : quotient.why;
      return Value();
    }
    const DividedList *blocks = &*quotient.list, *offsets = &*remainder.list;
    if (blocks->slots != offsets->slots) {
      why = "blocks and offsets are computed from two lists";
      return Value();
    }
    if (blocks->by != tokens || offsets->by != tokens) {
      why = "slots are divided by " + std::to_string(blocks->by) + " and " +
            std::to_string(offsets->by) + ", expected the block size " +
            std::to_string(tokens);
      return Value();
    }
    auto type = dyn_cast<MemRefType>(blocks->slots.getType());
    bool isList = type && type.getLayout().isIdentity() &&
                  (type.getElementType().isInteger(32) ||
                   type.getElementType().isInteger(64));
    if (!isList) {
      why = "slots are expected as a packed list of i32 or i64";
      return Value();
    }
    for (Value rows : op.getRows()) {
      int64_t length = cast<MemRefType>(rows.getType()).getDimSize(0);
      if (ShapedType::isDynamic(length) || type.isDynamicDim(0) ||
          length == type.getDimSize(0))
        continue;
      why = "the list of slots has " + std::to_string(type.getDimSize(0)) +
            " entries for " + std::to_string(length) + " rows";
      return Value();
    }
    for (const DividedList &list : {*blocks, *offsets})
      if (Operation *writer =
              known.writers.findBetween(list.made, op, list.slots)) {
        why = ("the list of slots may be overwritten in between, by " +
               writer->getName().getStringRef())
                  .str();
        return Value();
      }
    unsigned bits =
        cast<MemRefType>(op.getBlocks().getType()).getElementTypeBitWidth();
    switch (negativeSlot(*blocks, *offsets, bits)) {
    case NegativeSlot::Dropped:
      return blocks->slots;
    case NegativeSlot::Undecided:
      why = "a negative slot is taken as a large one of " +
            std::to_string(bits) + " bits, which may be in the cache";
      return Value();
    case NegativeSlot::Live:
      break;
    }
    // What is out of range is said of blocks and offsets, and 0 and 15 are not.
    // So may another compiler have meant it, in a program that was raised.
    if (op.getPad() != Padding::skip_negative) {
      why = "a negative slot would name a row of block 0, and no padding is "
            "declared that leaves it out";
      return Value();
    }
    return op.emitOpError()
           << "slots below 0 are expected to be skipped, but slot -1 is "
              "divided into block 0 and offset "
           << tokens - 1
           << ", which may be live: round the quotient down (floordivsi, "
              "shrsi) or give the remainder the sign of the slot (remsi)";
  }

  /// All slots of some blocks: the blocks are rows.
  static void rewriteBlocks(IndexCopyOp op, BlockSlotsOp blocks) {
    std::string why;
    if (!writeWholeBlocks(op, blocks, why))
      return remarkDeclined(op, kName,
                            "whole blocks are written by token: " + why);
    auto made = op.getSlots().getDefiningOp<MakeSlotsOp>();
    Value list = made.getSource();
    remarkDone(op, kName, "whole blocks are written: a block is a row");
    op.erase();
    if (!made->use_empty())
      return;
    made.erase();
    eraseIfOnlyWritten(list);
  }

  static void replaceBySlots(ScatterOp op, Value list) {
    const Layout &layout = op.getCacheType().getLayout();
    emitIndexCopy(op, list, layout.extent(AxisKind::Token), op.getCache());
    remarkDone(op, kName,
               layout.isFlat() ? "blocks and offsets are computed by dividing "
                                 "slots; a slot is a row number"
                               : "blocks and offsets are computed by dividing "
                                 "slots; the write divides, as " +
                                     whyNotFlat(layout));
    op.erase();
  }

  /// A local list of slots that nobody reads any more.
  static void eraseIfOnlyWritten(Value list) {
    auto buffer = list.getDefiningOp<memref::AllocOp>();
    if (!buffer || !llvm::all_of(buffer->getUsers(), [&](Operation *user) {
          auto write = dyn_cast<BlockSlotsOp>(user);
          return isa<memref::DeallocOp>(user) ||
                 (write && write.getBlocks() != list);
        }))
      return;
    for (Operation *user : llvm::make_early_inc_range(buffer->getUsers()))
      user->erase();
    buffer.erase();
  }

  static std::string whyNotFlat(const Layout &layout) {
    std::string why;
    std::optional<FlatScale> scale = flatScale(layout, why);
    if (!scale)
      return why;
    if (scale->rowsPerBlock == kRunTime)
      return "the stride of B is a multiple of that of N that is known only at "
             "run time";
    return "a block has " + std::to_string(scale->rowsPerBlock) +
           " rows, and " + std::to_string(layout.extent(AxisKind::Token)) +
           " tokens";
  }

  static IndexCopyOp emitIndexCopy(ScatterOp op, Value list, int64_t rows,
                                   Value cache) {
    OpBuilder builder(op);
    return emitIndexCopy(builder, op, list, rows, cache);
  }

  static IndexCopyOp emitIndexCopy(OpBuilder &builder, ScatterOp op, Value list,
                                   int64_t rows, Value cache) {
    auto type = cast<MemRefType>(list.getType());
    int64_t count = type.isDynamicDim(0) ? kRunTime : type.getDimSize(0);
    auto slots = SlotsType::get(op.getContext(), count,
                                cast<IntegerType>(type.getElementType()), rows,
                                op.getPad(), 0);
    Value made = MakeSlotsOp::create(builder, op.getLoc(), slots, list);
    return IndexCopyOp::create(builder, op.getLoc(), TypeRange(), op.getRows(),
                               cache, op.getScales(), made, ArrayAttr(),
                               op.getScheduleAttr());
  }

  /// Lists of their own: slots are computed, if that is worth it and possible.
  void rewriteLists(ScatterOp op, const std::string &noSlots) {
    auto declined = [&](const Twine &why) {
      remarkDeclined(op, kName, why + " (and " + noSlots + ")");
    };
    if (!computeSlots) {
      remarkDeclined(op, kName, noSlots);
      return;
    }
    if (LoopLikeOpInterface::blockIsInLoop(op->getBlock()))
      return declined("a list of slots would be allocated in a loop");
    CacheType type = op.getCacheType();
    const Layout &layout = type.getLayout();
    int64_t tokens = layout.extent(AxisKind::Token);
    std::string why;
    std::optional<FlatScale> scale = flatScale(layout, why);
    // Proven: once and for all.
    if (layout.isFlat() || (scale && scale->rowsPerBlock >= tokens)) {
      int64_t rows = layout.isFlat() ? tokens : scale->rowsPerBlock;
      OpBuilder builder(op);
      Value list = emitSlots(builder, op, rows);
      emitIndexCopy(builder, op, list, rows, op.getCache());
      remarkDone(op, kName,
                 rows == tokens
                     ? Twine("slots are computed from blocks and offsets; a "
                             "slot is a row number")
                     : Twine("slots are computed from blocks and offsets, "
                             "scaled to the ") +
                           Twine(rows) + " rows that a block spans");
      op.erase();
      return;
    }
    if (layout.stride(*layout.find(Axis{AxisKind::Block})) && !scale)
      return declined(why);
    std::string notFlat;
    std::optional<Layout> flat = assumeFlat(layout, notFlat);
    if (!flat)
      return declined(notFlat);
    // Decided in each call. The list is made before, so that there is one
    // buffer for it whatever is decided.
    OpBuilder builder(op);
    auto facts = CacheType::get(op.getContext(), *flat, type.getElementType(),
                                type.getSpace(), type.getAccess());
    Value holds = HasFactsOp::create(builder, op.getLoc(), builder.getI1Type(),
                                     op.getCache(), TypeAttr::get(facts));
    auto branch = scf::IfOp::create(builder, op.getLoc(), holds,
                                    /*withElseRegion=*/true);
    Value buffer = allocateSlots(op, branch);
    builder.setInsertionPointToStart(branch.thenBlock());
    fillSlots(builder, op, buffer, tokens);
    Value cast = CastOp::create(builder, op.getLoc(), facts, op.getCache());
    emitIndexCopy(builder, op, buffer, tokens, cast);
    op->moveBefore(branch.elseBlock(), branch.elseBlock()->begin());
    remarkDone(op, kName,
               "slots are computed from blocks and offsets where B is found to "
               "be packed over N in a call");
  }

  static Value allocateSlots(ScatterOp op, Operation *before) {
    OpBuilder builder(before);
    Location loc = op.getLoc();
    // The shorter of two lists counts.
    OpFoldResult count = memref::getMixedSize(builder, loc, op.getBlocks(), 0);
    OpFoldResult other = memref::getMixedSize(builder, loc, op.getOffsets(), 0);
    if (!isEqualConstantIntOrValue(count, other))
      count = arith::MinUIOp::create(
                  builder, loc,
                  getValueOrCreateConstantIndexOp(builder, loc, count),
                  getValueOrCreateConstantIndexOp(builder, loc, other))
                  .getResult();
    return memref::AllocOp::create(builder, loc, count, builder.getI64Type());
  }

  static Value emitSlots(OpBuilder &builder, ScatterOp op, int64_t rows) {
    Value buffer = allocateSlots(op, op);
    fillSlots(builder, op, buffer, rows);
    return buffer;
  }

  /// slot = block * rows + offset. What the scatter skips is -1: an offset past
  /// the end of its block would name a row of the next one.
  static void fillSlots(OpBuilder &builder, ScatterOp op, Value buffer,
                        int64_t rows) {
    Location loc = op.getLoc();
    auto constant = [&](int64_t n) -> Value {
      return arith::ConstantIndexOp::create(builder, loc, n);
    };
    Value zero = constant(0), one = constant(1), scale = constant(rows);
    Value tokens =
        constant(op.getCacheType().getLayout().extent(AxisKind::Token));
    Value none = constant(-1);
    Value blocks = kvcache::DimOp::create(builder, loc, builder.getIndexType(),
                                          op.getCache(), "B");
    Value count = memref::DimOp::create(builder, loc, buffer, zero);
    auto loop = scf::ForOp::create(builder, loc, zero, count, one);
    OpBuilder inner = OpBuilder::atBlockBegin(loop.getBody());
    auto load = [&](Value list) -> Value {
      Value entry =
          memref::LoadOp::create(inner, loc, list, loop.getInductionVar());
      return arith::IndexCastOp::create(inner, loc, inner.getIndexType(),
                                        entry);
    };
    auto isBelow = [&](Value a, Value b) -> Value {
      return arith::CmpIOp::create(inner, loc, arith::CmpIPredicate::ult, a, b);
    };
    Value block = load(op.getBlocks()), offset = load(op.getOffsets());
    Value live = arith::AndIOp::create(inner, loc, isBelow(block, blocks),
                                       isBelow(offset, tokens));
    Value first = arith::MulIOp::create(inner, loc, block, scale);
    Value slot = arith::AddIOp::create(inner, loc, first, offset);
    slot = arith::SelectOp::create(inner, loc, live, slot, none);
    slot = arith::IndexCastOp::create(inner, loc, inner.getI64Type(), slot);
    memref::StoreOp::create(inner, loc, slot, buffer, loop.getInductionVar());
  }
};

} // namespace
