// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Folds operations that only change the view of memory into the type of a cache
// and into the names of dimensions, and propagates facts to their uses.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Transforms/Passes.h"

#include "ApplyFacts.h"
#include "Remarks.h"
#include "kvcache/Analysis/Memory.h"
#include "kvcache/IR/KVCache.h"
#include "kvcache/IR/SameCache.h"
#include "kvcache/IR/Sources.h"
#include "kvcache/IR/Strides.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Utils/StructuredOpsUtils.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "mlir/Transforms/RegionUtils.h"

namespace kvcache {
#define GEN_PASS_DEF_FOLDPERMUTES
#include "kvcache/Transforms/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

static constexpr llvm::StringLiteral kName = "fold-permutes";

/// The names of the dimensions of a memref, one for each.
static SmallVector<Attribute>
namesOf(Builder &builder, const Layout &layout,
        llvm::function_ref<unsigned(unsigned)> dimOf) {
  SmallVector<Attribute> names(layout.rank());
  for (unsigned i = 0; i < layout.rank(); ++i)
    names[dimOf(i)] = builder.getStringAttr(layout.dim(i).axis.str());
  return names;
}

/// The attribute for names of dimensions, left out where they are as listed.
static ArrayAttr namesAttr(Builder &builder, const Layout &layout,
                           ArrayRef<Attribute> names) {
  bool listed = true;
  for (unsigned i = 0; i < layout.rank(); ++i)
    listed &= cast<StringAttr>(names[i]).getValue() == layout.dim(i).axis.str();
  return listed ? ArrayAttr() : builder.getArrayAttr(names);
}

static std::string namesStr(ArrayRef<Attribute> names) {
  std::string text = "[";
  for (Attribute name : names)
    text +=
        (text.size() > 1 ? ", " : "") + cast<StringAttr>(name).getValue().str();
  return text + "]";
}

/// Whether a view of this memref could have this layout: known strides agree.
static bool agrees(MemRefType source, const Layout &layout,
                   llvm::function_ref<unsigned(unsigned)> dimOf) {
  SmallVector<int64_t> strides;
  int64_t offset;
  return !source.getMemorySpace() &&
         succeeded(source.getStridesAndOffset(strides, offset)) &&
         !findOtherStride(layout, strides, dimOf);
}

static void eraseIfUnused(RewriterBase &rewriter, Operation *op) {
  while (op && isOpTriviallyDead(op)) {
    Operation *source =
        op->getNumOperands() ? op->getOperand(0).getDefiningOp() : nullptr;
    rewriter.eraseOp(op);
    op = source;
  }
}

//===----------------------------------------------------------------------===//
// What is seen as a cache
//===----------------------------------------------------------------------===//

/// Whether a view of what was transposed could be one of what it was before.
static bool folds(ViewOp view, memref::TransposeOp transpose) {
  return agrees(cast<MemRefType>(transpose.getIn().getType()),
                view.getResult().getType().getLayout(), [&](unsigned i) {
                  return transpose.getPermutation().getDimPosition(
                      view.sourceDim(i));
                });
}

namespace {

/// Folds a view of elements with the operation of one kind that it is made of.
template <typename Source> struct FoldSource : OpRewritePattern<ViewOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(ViewOp view,
                                PatternRewriter &rewriter) const final {
    auto source = view.getSource().template getDefiningOp<Source>();
    if (!source || view.isByteView())
      return rewriter.notifyMatchFailure(
          view, "its source is made by another operation");
    if (isRing(view))
      return rewriter.notifyMatchFailure(view, "it is its own source");
    return fold(view, source, rewriter);
  }

protected:
  virtual LogicalResult fold(ViewOp view, Source source,
                             PatternRewriter &rewriter) const = 0;

  static void replaceSource(PatternRewriter &rewriter, ViewOp view,
                            Value source, ArrayRef<Attribute> names) {
    const Layout &layout = view.getResult().getType().getLayout();
    ArrayAttr empty = rewriter.getArrayAttr({});
    Operation *before = view.getSource().getDefiningOp();
    rewriter.replaceOpWithNewOp<ViewOp>(
        view, view.getResult().getType(), source, /*offset=*/Value(),
        /*extents=*/ValueRange(), /*strides=*/ValueRange(),
        namesAttr(rewriter, layout, names), empty, empty);
    eraseIfUnused(rewriter, before);
  }

  static void replaceByCache(PatternRewriter &rewriter, ViewOp view,
                             Value cache) {
    Operation *before = view.getSource().getDefiningOp();
    CacheType type = view.getResult().getType();
    if (cache.getType() != type)
      cache = CastOp::create(rewriter, view.getLoc(), type, cache);
    rewriter.replaceOp(view, cache);
    eraseIfUnused(rewriter, before);
  }

private:
  /// In a region that is a graph a view may be what it is made of.
  static bool isRing(ViewOp view) {
    Value source = view.getSource();
    return furthestSource(source, [](Value value) -> Value {
             Operation *def = value.getDefiningOp();
             bool isView =
                 isa_and_present<ViewLikeOpInterface, memref::TransposeOp>(def);
             return isView ? def->getOperand(0) : Value();
           }) == source;
  }
};

/// A transposed memref has its dimensions in another sequence: so have their
/// names.
struct FoldTranspose : FoldSource<memref::TransposeOp> {
  using FoldSource::FoldSource;
  LogicalResult fold(ViewOp view, memref::TransposeOp transpose,
                     PatternRewriter &rewriter) const override {
    if (!folds(view, transpose))
      return declineMatch(
          rewriter, view, kName,
          "the strides of the memref are not those of the cache");
    SmallVector<Attribute> names = namesOf(
        rewriter, view.getResult().getType().getLayout(), [&](unsigned i) {
          return transpose.getPermutation().getDimPosition(view.sourceDim(i));
        });
    remarkDone(view, kName,
               "a transposition is the names of dimensions: " +
                   namesStr(names));
    replaceSource(rewriter, view, transpose.getIn(), names);
    return success();
  }
};

/// A memref under a type that says less of its strides.
struct FoldCast : FoldSource<memref::CastOp> {
  using FoldSource::FoldSource;
  LogicalResult fold(ViewOp view, memref::CastOp cast,
                     PatternRewriter &rewriter) const override {
    auto source = dyn_cast<MemRefType>(cast.getSource().getType());
    auto type = mlir::cast<MemRefType>(view.getSource().getType());
    const Layout &layout = view.getResult().getType().getLayout();
    auto dimOf = [&](unsigned i) { return view.sourceDim(i); };
    if (!source || source.getShape() != type.getShape() ||
        !agrees(source, layout, dimOf))
      return rewriter.notifyMatchFailure(
          view, "the memref had another shape, or other strides");
    replaceSource(rewriter, view, cast.getSource(),
                  namesOf(rewriter, layout, dimOf));
    return success();
  }
};

/// The memref of a cache, seen with the same axes in the same dimensions.
struct FoldStorage : FoldSource<StorageOp> {
  using FoldSource::FoldSource;
  LogicalResult fold(ViewOp view, StorageOp storage,
                     PatternRewriter &rewriter) const override {
    CacheType type = storage.getCache().getType();
    std::string why;
    bool same = mayBeSame(type, view.getResult().getType(), why);
    for (unsigned i = 0; same && i < type.getLayout().rank(); ++i)
      same = storage.resultDim(i) == view.sourceDim(i);
    if (!same)
      return declineMatch(rewriter, view, kName,
                          "the memref of a cache is seen with other axes");
    replaceByCache(rewriter, view, storage.getCache());
    return success();
  }
};

/// Rows that were flattened and are cut in blocks again.
struct FoldRows : FoldSource<memref::ExpandShapeOp> {
  using FoldSource::FoldSource;
  LogicalResult fold(ViewOp view, memref::ExpandShapeOp expand,
                     PatternRewriter &rewriter) const override {
    auto flatten = expand.getSrc().getDefiningOp<FlattenOp>();
    if (!flatten)
      return rewriter.notifyMatchFailure(view, "these are rows of no cache");
    // The same axes, cut as they were: B and N first, the others as listed.
    CacheType type = flatten.getCache().getType();
    const Layout &layout = type.getLayout();
    const Layout &seen = view.getResult().getType().getLayout();
    std::string why;
    bool same =
        layout.rank() >= 3 && mayBeSame(type, view.getResult().getType(), why);
    for (unsigned i = 0; same && i < layout.rank(); ++i)
      same =
          layout.dim(i).extent == seen.dim(i).extent && view.sourceDim(i) == i;
    SmallVector<ReassociationIndices> groups = expand.getReassociationIndices();
    same = same && groups.size() + 1 == layout.rank() &&
           groups.front() == ReassociationIndices{0, 1} &&
           layout.dim(0).axis.kind == AxisKind::Block &&
           layout.dim(1).axis.kind == AxisKind::Token;
    if (!same)
      return declineMatch(rewriter, view, kName,
                          "flattened rows are seen with other axes");
    remarkDone(view, kName, "rows are cut in the blocks that they were");
    replaceByCache(rewriter, view, flatten.getCache());
    return success();
  }
};

} // namespace

void kvcache::populateFoldViewPatterns(RewritePatternSet &patterns) {
  patterns.add<FoldTranspose, FoldCast, FoldStorage, FoldRows>(
      patterns.getContext());
}

//===----------------------------------------------------------------------===//
// Copies that are only read
//===----------------------------------------------------------------------===//

namespace {

/// A relayout to a local buffer that is only read: readers take the source.
struct FoldRelayout : OpRewritePattern<RelayoutOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(RelayoutOp op,
                                PatternRewriter &rewriter) const final {
    auto view = op.getDest().getDefiningOp<ViewOp>();
    auto alloc = view ? view.getSource().getDefiningOp<memref::AllocOp>()
                      : memref::AllocOp();
    if (!alloc || view.isByteView())
      return rewriter.notifyMatchFailure(op, "others see the copy");
    auto declined = [&](const Twine &why) {
      return declineMatch(rewriter, op, kName, why);
    };
    if (op.getSourceType().getElementType() !=
        op.getDestType().getElementType())
      return declined("a copy to another element type is needed");
    if (op.getSourceType().getSpace() != op.getDestType().getSpace())
      return declined("a copy to another memory space is needed");
    for (Operation *user : alloc->getUsers())
      if (user != view && !isa<memref::DeallocOp, memref::DimOp>(user))
        return declined("the copy is used by " +
                        user->getName().getStringRef());
    if (!hasBlocksOf(alloc, view, op.getSource()))
      return declined("the copy may have another number of blocks");
    Uses uses;
    collectUses(view.getResult(), op, uses);
    if (!uses.other.empty())
      return declined("the copy is used by " + uses.other);
    for (Operation *reader : uses.readers) {
      if (isa<kvcache::DimOp>(reader))
        continue;
      Operation *writer = findWriterBetween(op, reader, op.getSource());
      if (writer == op)
        return declined("the copy is read elsewhere");
      if (writer)
        return declined("the source may be written by " +
                        writer->getName().getStringRef() +
                        " before the copy is read");
      if (findWriter(reader, op.getSource()))
        return declined("the copy is read by " +
                        reader->getName().getStringRef() +
                        ", which may write the source");
    }
    remarkDone(op, kName, "the copy is only read, and readers use the source");
    readSource(rewriter, view.getResult(), op.getSource());
    rewriter.eraseOp(op);
    return success();
  }

private:
  /// What a copy is used for. Null where it is more than reading.
  struct Uses {
    SmallVector<Operation *> slices, readers;
    std::string other;
  };

  /// A part whose type follows from that of what it is a part of.
  static bool isSlice(Operation *op) {
    return isa<CachePartOpInterface>(op) && isa<InferTypeOpInterface>(op);
  }

  static bool onlyReads(Operation *op, Value cache) {
    auto access = dyn_cast<CacheAccessOpInterface>(op);
    if (!access)
      return false;
    SmallVector<CacheUse> uses = access.getCacheUses();
    llvm::erase_if(
        uses, [&](const CacheUse &use) { return use.operand->get() != cache; });
    return !uses.empty() && llvm::none_of(uses, [](const CacheUse &use) {
      return use.isWritten;
    });
  }

  static void collectUses(Value cache, Operation *except, Uses &uses) {
    for (OpOperand &use : cache.getUses()) {
      Operation *user = use.getOwner();
      if (user == except)
        continue;
      if (isSlice(user)) {
        uses.slices.push_back(user);
        collectUses(user->getResult(0), except, uses);
        continue;
      }
      if (isa<kvcache::DimOp>(user) || onlyReads(user, cache))
        uses.readers.push_back(user);
      else
        uses.other = user->getName().getStringRef().str();
    }
  }

  /// The number of blocks of a local buffer is that of a cache.
  static bool hasBlocksOf(memref::AllocOp alloc, ViewOp view, Value cache) {
    const Layout &layout = view.getResult().getType().getLayout();
    unsigned block = *layout.find(Axis{AxisKind::Block});
    if (int64_t extent = layout.dim(block).extent; extent != kRunTime)
      return cast<CacheType>(cache.getType())
                 .getLayout()
                 .extent(AxisKind::Block) == extent;
    unsigned dim = view.sourceDim(block);
    if (alloc.getDynamicSizes().size() != 1 ||
        !alloc.getType().isDynamicDim(dim))
      return false;
    Value size = alloc.getDynamicSizes()[0];
    auto further = [](Value value) {
      return furthestSource(value, [](Value slice) -> Value {
        auto part = slice.getDefiningOp<CachePartOpInterface>();
        return part && part.getKept(AxisKind::Block) == KeptIndices::All
                   ? part->getOperand(0)
                   : Value();
      });
    };
    Value source = further(cache);
    if (auto of = size.getDefiningOp<kvcache::DimOp>())
      return of.getAxis() == "B" && further(of.getCache()) == source;
    auto of = size.getDefiningOp<memref::DimOp>();
    auto seen = source.getDefiningOp<ViewOp>();
    if (!of || !seen || seen.isByteView() || of.getSource() != seen.getSource())
      return false;
    const Layout &from = seen.getResult().getType().getLayout();
    return of.getConstantIndex() == static_cast<int64_t>(seen.sourceDim(
                                        *from.find(Axis{AxisKind::Block})));
  }

  /// Puts the source, and slices of it, in the place of a copy.
  static void readSource(RewriterBase &rewriter, Value copy, Value source) {
    for (OpOperand &use : llvm::make_early_inc_range(copy.getUses())) {
      Operation *user = use.getOwner();
      auto relayout = dyn_cast<RelayoutOp>(user);
      if (relayout && relayout.getDest() == copy)
        continue;
      if (!isSlice(user)) {
        rewriter.modifyOpInPlace(user, [&] { use.set(source); });
        continue;
      }
      SmallVector<Value> operands(user->getOperands());
      operands[use.getOperandNumber()] = source;
      SmallVector<Type> types;
      LogicalResult inferred =
          cast<InferTypeOpInterface>(user).inferReturnTypes(
              user->getContext(), user->getLoc(), operands,
              user->getAttrDictionary(), user->getPropertiesStorage(),
              user->getRegions(), types);
      assert(succeeded(inferred) && "the source has the axes of the copy");
      (void)inferred;
      rewriter.setInsertionPoint(user);
      Operation *slice = mlir::clone(rewriter, user, types, operands);
      readSource(rewriter, user->getResult(0), slice->getResult(0));
      rewriter.eraseOp(user);
    }
  }
};

} // namespace

void kvcache::populateFoldRelayoutPatterns(RewritePatternSet &patterns) {
  patterns.add<FoldRelayout>(patterns.getContext());
}

namespace {

struct FoldPermutes : kvcache::impl::FoldPermutesBase<FoldPermutes> {
  using FoldPermutesBase::FoldPermutesBase;

  void runOnOperation() override {
    // Where code is not reachable, what a value is made of need not come before
    // it.
    IRRewriter rewriter(&getContext());
    (void)eraseUnreachableBlocks(rewriter, getOperation()->getRegions());
    rewrite<ViewOp>(populateFoldViewPatterns);
    rewrite<RelayoutOp>(populateFoldRelayoutPatterns);
    applyStrideFacts(getOperation());
    // Casts that say nothing new, now that their operand knows it.
    rewrite<CastOp>([](RewritePatternSet &) {}, /*folds=*/true);
    if (failed(verifyFolded()))
      signalPassFailure();
  }

private:
  /// Rewrites operations of one kind and no others, in their sequence.
  template <typename Op>
  void rewrite(llvm::function_ref<void(RewritePatternSet &)> populate,
               bool folds = false) {
    SmallVector<Operation *> ops;
    getOperation().walk([&](Op op) { ops.push_back(op); });
    std::reverse(ops.begin(), ops.end());
    RewritePatternSet patterns(&getContext());
    populate(patterns);
    GreedyRewriteConfig config;
    config.setStrictness(GreedyRewriteStrictness::ExistingAndNewOps)
        .enableFolding(folds);
    (void)applyOpPatternsGreedily(ops, std::move(patterns), config);
  }

  //===------------------------------------------------------------------===//
  // The postcondition
  //===------------------------------------------------------------------===//

  /// Between a cache and its use, nothing is left that only changes the view.
  LogicalResult verifyFolded() {
    WalkResult walk = getOperation().walk([](CastOp cast) {
      // In a region that is a graph it may be its own operand.
      if (cast.getCache().getType() != cast.getResult().getType() ||
          cast.getCache() == cast.getResult())
        return WalkResult::advance();
      cast.emitOpError()
          << "remains between a cache and its use after kvcache-fold-permutes";
      return WalkResult::interrupt();
    });
    getOperation().walk([&](ViewOp view) {
      auto transpose = view.getSource().getDefiningOp<memref::TransposeOp>();
      if (!transpose || !folds(view, transpose))
        return WalkResult::advance();
      transpose.emitOpError()
          << "remains between a cache and its use after kvcache-fold-permutes";
      walk = WalkResult::interrupt();
      return WalkResult::interrupt();
    });
    return failure(walk.wasInterrupted());
  }
};

} // namespace
