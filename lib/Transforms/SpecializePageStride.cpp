// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Code for the facts that a call may have: if strides are known only at run
// time, an operation gets variants for facts that change its code, and a test
// that selects one. The last variant assumes nothing.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Transforms/Passes.h"

#include "Remarks.h"
#include "kvcache/IR/KVCache.h"
#include "kvcache/Layout/Access.h"
#include "kvcache/Layout/Facts.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/WalkPatternRewriteDriver.h"
#include "llvm/ADT/StringExtras.h"

namespace kvcache {
#define GEN_PASS_DEF_SPECIALIZEPAGESTRIDE
#include "kvcache/Transforms/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

static constexpr llvm::StringLiteral kName = "specialize-page-stride";
/// From so many bytes on, a CPU reads a row that it finds by block and token as
/// fast as one that it finds by one number (docs/layout-passes.md).
static constexpr int64_t kLongRowBytes = 256;

namespace {

/// What a variant assumes of all caches of an operation.
struct Variant {
  std::string name;
  SmallVector<CacheType> types; ///< one for each cache operand
};

struct GiveVariants : OpInterfaceRewritePattern<CacheAccessOpInterface> {
  GiveVariants(MLIRContext *context, const SpecializePageStrideOptions &options)
      : OpInterfaceRewritePattern(context), options(options) {}

  LogicalResult matchAndRewrite(CacheAccessOpInterface op,
                                PatternRewriter &rewriter) const final {
    auto declined = [&](const Twine &why) {
      return declineMatch(rewriter, op, kName, why);
    };
    if (op.getCacheUses().empty())
      return rewriter.notifyMatchFailure(op, "it accesses no cache");
    SmallVector<CacheUse> caches = referencesOf(op);
    if (caches.empty() || op->getNumResults())
      return declined("a tensor; run after bufferization");
    if (isa<FuseOp>(op->getParentOp()))
      return rewriter.notifyMatchFailure(op, "its launch tests strides");
    if (isGuarded(op))
      return declined("facts are tested already");
    Variant generic{"any strides", {}};
    for (const CacheUse &use : caches)
      generic.types.push_back(use.type);
    SmallVector<Variant> all = candidates(caches);
    if (all.empty())
      return rewriter.notifyMatchFailure(op, "its strides are known");

    // A variant earns its place if its code is not that of the next one that
    // assumes less.
    SmallVector<Variant> kept = {generic};
    std::string dropped;
    for (Variant &variant : llvm::reverse(all)) {
      bool isAsked = StringRef(variant.name).starts_with("the stride of B");
      if (!isAsked && sameCode(caches, variant.types, kept.back().types))
        dropped = variant.name;
      else
        kept.push_back(std::move(variant));
    }
    if (kept.size() == 1)
      return declined("the code is the same where " + dropped);
    // What assumes least serves most calls.
    if (kept.size() > options.maxVariants) {
      dropped = kept[options.maxVariants].name;
      kept.resize(std::max<size_t>(1, options.maxVariants));
    }
    std::reverse(kept.begin(), kept.end());
    std::string list = llvm::join(
        llvm::map_range(kept, [](const Variant &v) { return v.name; }), "; ");
    remarkDone(op, kName,
               Twine(kept.size()) + " variants: " + list +
                   (dropped.empty() ? "" : " (none where " + dropped + ")"));
    emit(rewriter, op, caches, kept);
    return success();
  }

private:
  /// The caches that are references.
  static SmallVector<CacheUse> referencesOf(CacheAccessOpInterface op) {
    SmallVector<CacheUse> uses = op.getCacheUses();
    llvm::erase_if(uses, [](const CacheUse &use) {
      return !isa<CacheType>(use.operand->get().getType());
    });
    return uses;
  }

  /// What the code of this operation depends on, for the target. On a CPU,
  /// streaming stores alone need alignment. How the numbers of a block table
  /// become addresses is a small part of attention, and of what moves whole
  /// blocks.
  LayoutAccess codeOf(const CacheUse &use, CacheType type) const {
    const Layout &layout = type.getLayout();
    LayoutAccess access = accessOf(layout, use.moved, type.getElementBytes());
    access.runTimeFactors = 0;
    if (options.target == "cpu")
      access.accessBytes =
          use.mayStream &&
                  canStream(layout, access.runElements, type.getElementBytes())
              ? kStreamedBytes
              : 0;
    if (use.indexedBy != IndexedBy::Slots ||
        (options.target == "cpu" && use.isRead && isLongRow(type)))
      access.isFlat = false;
    return access;
  }

  static bool isLongRow(CacheType type) {
    int64_t bytes = type.getElementBytes();
    for (int64_t extent : type.getRowShape())
      bytes *= extent;
    return bytes >= kLongRowBytes;
  }

  static bool isGuarded(Operation *op) {
    // Another run of this pass, or a program that tests by itself.
    for (Operation *parent = op->getParentOp(); parent;
         parent = parent->getParentOp()) {
      auto branch = dyn_cast<scf::IfOp>(parent);
      if (!branch)
        continue;
      SmallVector<Value> worklist = {branch.getCondition()};
      while (!worklist.empty()) {
        Operation *def = worklist.pop_back_val().getDefiningOp();
        if (isa_and_present<arith::AndIOp>(def))
          llvm::append_range(worklist, def->getOperands());
        auto facts = dyn_cast_or_null<HasFactsOp>(def);
        for (Value operand : op->getOperands()) {
          auto cast = operand.getDefiningOp<CastOp>();
          if (facts && (operand == facts.getCache() ||
                        (cast && cast.getCache() == facts.getCache())))
            return true;
        }
      }
    }
    return false;
  }

  static CacheType withLayout(CacheType type, const Layout &layout) {
    return CacheType::get(type.getContext(), layout, type.getElementType(),
                          type.getSpace(), type.getAccess());
  }

  /// The types under a fact, or nothing where it adds nothing.
  std::optional<Variant> makeVariant(
      ArrayRef<CacheUse> caches, StringRef name,
      llvm::function_ref<std::optional<Layout>(const Layout &)> assume) const {
    Variant variant{name.str(), {}};
    bool adds = false;
    for (const CacheUse &use : caches) {
      CacheType type = use.type;
      Layout layout = type.getLayout();
      if (std::optional<Layout> more = assume(layout))
        layout = *more;
      // A multiple says nothing of an address without the base.
      std::string why;
      std::optional<Layout> aligned;
      if (options.target != "cpu")
        aligned =
            Layout::get(layout.listing(), layout.orderAxes(),
                        std::max(layout.align(), Layout::kWidestAccess), why);
      if (aligned)
        layout = *aligned;
      adds |= layout != type.getLayout();
      variant.types.push_back(withLayout(type, layout));
    }
    if (!adds)
      return std::nullopt;
    return variant;
  }

  /// From what assumes most to what assumes least.
  SmallVector<Variant> candidates(ArrayRef<CacheUse> caches) const {
    SmallVector<Variant> found;
    auto add =
        [&](const std::string &name,
            llvm::function_ref<std::optional<Layout>(const Layout &)> assume) {
          if (std::optional<Variant> variant =
                  makeVariant(caches, name, assume))
            found.push_back(std::move(*variant));
        };
    for (int64_t stride : options.blockStrides)
      add("the stride of B is " + std::to_string(stride),
          [&](const Layout &layout) {
            return assumeBlockStride(layout, stride);
          });
    add("strides are compact", assumeCompact);
    add("strides are multiples of " + std::to_string(options.multiple),
        [&](const Layout &layout) {
          return assumeMultiple(layout, options.multiple);
        });
    return found;
  }

  bool sameCode(ArrayRef<CacheUse> caches, ArrayRef<CacheType> a,
                ArrayRef<CacheType> b) const {
    for (auto [use, x, y] : llvm::zip(caches, a, b))
      if (!(codeOf(use, x) == codeOf(use, y)))
        return false;
    return true;
  }

  static std::string traceText(Operation *op, StringRef variant) {
    std::string text = op->getName().stripDialect().str();
    if (auto place = op->getLoc()->findInstanceOf<FileLineColLoc>())
      text += " in line " + std::to_string(place.getLine());
    return text + ": " + variant.str();
  }

  void emit(PatternRewriter &rewriter, Operation *op, ArrayRef<CacheUse> caches,
            ArrayRef<Variant> variants) const {
    Location loc = op->getLoc();
    for (const Variant &variant : variants.drop_back()) {
      Value holds;
      for (auto [use, type] : llvm::zip(caches, variant.types)) {
        Value cache = use.operand->get();
        if (cache.getType() == type)
          continue;
        Value one = HasFactsOp::create(rewriter, loc, rewriter.getI1Type(),
                                       cache, TypeAttr::get(type));
        holds = holds ? arith::AndIOp::create(rewriter, loc, holds, one) : one;
      }
      auto branch =
          scf::IfOp::create(rewriter, loc, holds, /*withElseRegion=*/true);
      rewriter.setInsertionPointToStart(branch.thenBlock());
      if (options.trace)
        TraceOp::create(rewriter, loc, traceText(op, variant.name));
      SmallVector<Value> operands(op->getOperands());
      for (auto [use, type] : llvm::zip(caches, variant.types))
        if (Value &cache = operands[use.operand->getOperandNumber()];
            cache.getType() != type)
          cache = CastOp::create(rewriter, loc, type, cache);
      rewriter.clone(*op)->setOperands(operands);
      rewriter.setInsertionPointToStart(branch.elseBlock());
    }
    if (options.trace)
      TraceOp::create(rewriter, loc, traceText(op, variants.back().name));
    rewriter.moveOpBefore(op, rewriter.getInsertionBlock(),
                          rewriter.getInsertionPoint());
  }

  SpecializePageStrideOptions options;
};

} // namespace

void kvcache::populateSpecializePageStridePatterns(
    RewritePatternSet &patterns, const SpecializePageStrideOptions &options) {
  patterns.add<GiveVariants>(patterns.getContext(), options);
}

namespace {

struct SpecializePageStride
    : kvcache::impl::SpecializePageStrideBase<SpecializePageStride> {
  using SpecializePageStrideBase::SpecializePageStrideBase;

  void runOnOperation() override {
    if (failed(checkOptions()))
      return signalPassFailure();
    RewritePatternSet patterns(&getContext());
    populateSpecializePageStridePatterns(
        patterns,
        {target, multiple, maxVariants, llvm::to_vector(blockStrides), trace});
    walkAndApplyPatterns(getOperation(), std::move(patterns));
  }

private:
  LogicalResult checkOptions() {
    auto error = [&](const Twine &expected, const Twine &got) {
      return emitError(UnknownLoc::get(&getContext()))
             << expected << ", got " << got;
    };
    if (target != "cpu" && target != "gpu")
      return error("the target of variants is expected to be 'cpu' or 'gpu'",
                   "'" + target + "'");
    if (multiple < 1)
      return error("'multiple' is expected to be 1 or more", Twine(multiple));
    if (maxVariants < 1)
      return error("'max-variants' is expected to be 1 or more, as the generic "
                   "variant is always there",
                   Twine(maxVariants));
    for (int64_t stride : blockStrides)
      if (stride < 1)
        return error("'block-strides' are expected to be 1 or more",
                     Twine(stride));
    return success();
  }
};

} // namespace
