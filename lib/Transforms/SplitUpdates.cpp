// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One-shot-bufferize compares each use of a buffer with each write to it, for
// each operand. A pool, or the sum to which all layers of a model add, is
// updated in place from the first layer to the last: its analysis takes time
// cubic in their number. Here the value is passed on as a buffer between two
// updates, where only later operations refer to it.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Transforms/Passes.h"

#include "kvcache/IR/KVCache.h"

#include "mlir/Dialect/Bufferization/IR/BufferizableOpInterface.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Builders.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"
#include "llvm/ADT/DenseMap.h"

#include <limits>

namespace kvcache {
#define GEN_PASS_DEF_SPLITUPDATES
#include "kvcache/Transforms/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

namespace {

/// Values that may have one buffer, in the sequence of a block.
struct Chain {
  struct Member {
    Value value;
    unsigned madeAt, lastUse;
    /// The whole buffer, packed, as an update left it.
    bool isUpdate;
  };
  SmallVector<Member> members;
  /// A use was found of which it is not known what it gives: what comes after
  /// it is not looked at.
  bool isLost = false;
};

/// Finds the chains of a block, each operation once.
class BlockChains {
public:
  explicit BlockChains(Block &block) : block(block) {}

  void find() {
    addArguments();
    for (Operation &op : block) {
      ++place;
      op.walk([&](Operation *inner) {
        for (OpOperand &use : inner->getOpOperands())
          if (auto known = membership.find(use.get());
              known != membership.end())
            addUse(op, use, known->second);
      });
      if (isa<tensor::EmptyOp>(op))
        begin(op.getResult(0), /*isUpdate=*/false);
    }
  }

  /// Between updates, but not closer than so many values: the analysis of few
  /// costs less than what is made here.
  void split(unsigned distance) {
    for (Chain &chain : chains) {
      unsigned latest = 0; // use of what was made before
      unsigned since = 0;
      for (const Chain::Member &member : chain.members) {
        ++since;
        bool isBetween = member.isUpdate && latest <= member.madeAt &&
                         member.lastUse > member.madeAt;
        if (isBetween && since >= distance &&
            !isMadeWithOthers(chain, member)) {
          handOver(member.value);
          since = 0;
        }
        latest = std::max(latest, member.lastUse);
      }
    }
  }

private:
  struct Membership {
    unsigned chain, member;
  };

  /// A function that others call tells them which results are its arguments.
  void addArguments() {
    auto function = dyn_cast<func::FuncOp>(block.getParentOp());
    if (!function || !function.isPublic() || !block.isEntryBlock())
      return;
    for (BlockArgument argument : block.getArguments()) {
      Attribute layout = function.getArgAttr(
          argument.getArgNumber(),
          bufferization::BufferizationDialect::kBufferLayoutAttrName);
      if (isa<RankedTensorType>(argument.getType()) && !layout)
        begin(argument, /*isUpdate=*/false);
    }
  }

  void begin(Value value, bool isUpdate) {
    chains.emplace_back();
    add(chains.size() - 1, value, isUpdate);
  }

  void add(unsigned chain, Value value, bool isUpdate) {
    membership[value] = {chain,
                         static_cast<unsigned>(chains[chain].members.size())};
    chains[chain].members.push_back({value, place, place, isUpdate});
  }

  void addUse(Operation &op, OpOperand &use, Membership at) {
    Chain &chain = chains[at.chain];
    chain.members[at.member].lastUse = place;
    Operation *user = use.getOwner();
    if (isa<tensor::DimOp, tensor::ExtractOp, func::ReturnOp>(user))
      return;
    auto into = dyn_cast<DestinationStyleOpInterface>(user);
    if (into && !into.isDpsInit(&use))
      return;
    // What an operation inside of another one gives is not followed.
    if (user != &op || chain.isLost) {
      lose(chain);
      return;
    }
    // The first of a chain is packed as well.
    bool isWhole = at.member == 0 || chain.members[at.member].isUpdate;
    if (into) {
      OpResult result = into.getTiedOpResult(&use);
      if (isa<RankedTensorType>(result.getType()))
        add(at.chain, result, isWhole);
      return;
    }
    bool isView = isa<tensor::ExtractSliceOp, tensor::ExpandShapeOp,
                      tensor::CollapseShapeOp>(user) ||
                  user->hasTrait<MakesIndexValue>();
    if (!isView) {
      lose(chain);
      return;
    }
    for (Value result : user->getResults())
      add(at.chain, result, /*isUpdate=*/false);
  }

  /// Nothing is split from here on.
  void lose(Chain &chain) {
    chain.isLost = true;
    chain.members.back().lastUse = std::numeric_limits<unsigned>::max();
  }

  /// An operation may have two results with one buffer.
  static bool isMadeWithOthers(const Chain &chain,
                               const Chain::Member &member) {
    const Chain::Member *next = &member + 1;
    return next != chain.members.end() && next->madeAt == member.madeAt;
  }

  static void handOver(Value value) {
    OpBuilder builder(value.getContext());
    builder.setInsertionPointAfterValue(value);
    auto type = cast<RankedTensorType>(value.getType());
    Value buffer = bufferization::ToBufferOp::create(
        builder, value.getLoc(),
        bufferization::getMemRefTypeWithStaticIdentityLayout(type), value);
    Value again = bufferization::ToTensorOp::create(
        builder, value.getLoc(), type, buffer, /*restrict=*/true,
        /*writable=*/true);
    value.replaceAllUsesExcept(again, buffer.getDefiningOp());
  }

  Block &block;
  unsigned place = 0;
  SmallVector<Chain> chains;
  llvm::DenseMap<Value, Membership> membership;
};

struct SplitUpdates : kvcache::impl::SplitUpdatesBase<SplitUpdates> {
  using SplitUpdatesBase::SplitUpdatesBase;

  void runOnOperation() override {
    SmallVector<Block *> blocks;
    getOperation().walk([&](func::FuncOp function) {
      // In other blocks there may be uses that are not seen.
      if (function.getBody().hasOneBlock())
        blocks.push_back(&function.getBody().front());
    });
    for (Block *block : blocks) {
      BlockChains chains(*block);
      chains.find();
      chains.split(distance);
    }
  }
};

} // namespace
