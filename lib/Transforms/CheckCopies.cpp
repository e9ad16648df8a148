// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rejects silent copies, and writes that are lost in one.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Transforms/Passes.h"

#include "Remarks.h"
#include "kvcache/Analysis/Memory.h"
#include "kvcache/IR/KVCache.h"
#include "kvcache/IR/Sources.h"
#include "kvcache/Transforms/KnownRegions.h"

#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Interfaces/LoopLikeInterface.h"

namespace kvcache {
#define GEN_PASS_DEF_CHECKCOPIES
#include "kvcache/Transforms/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

static constexpr llvm::StringLiteral kName = "check-copies";
/// The program copies this itself.
static constexpr llvm::StringLiteral kAsked = "kvcache.asked";
/// In a location: buffers that are made for this operation are not in the
/// program. Bufferization drops attributes and keeps locations.
static constexpr llvm::StringLiteral kResultOf = "kvcache.result_of ";

using MarkedLoc = FusedLocWith<StringAttr>;

static void markLocation(Operation *op, const Twine &mark) {
  if (!op->getLoc()->findInstanceOf<MarkedLoc>())
    op->setLoc(FusedLoc::get(op->getContext(), {op->getLoc()},
                             StringAttr::get(op->getContext(), mark)));
}

/// What this was marked with, or nothing.
static StringRef markOf(Operation *op) {
  auto marked = op->getLoc()->findInstanceOf<MarkedLoc>();
  StringRef mark = marked ? marked.getMetadata().getValue() : StringRef();
  return mark == kAsked || mark.starts_with(kResultOf) ? mark : StringRef();
}

static void eraseMarks(Operation *module) {
  AttrTypeReplacer replacer;
  replacer.addReplacement([](MarkedLoc loc) -> std::optional<Attribute> {
    StringRef mark = loc.getMetadata().getValue();
    if (mark != kAsked && !mark.starts_with(kResultOf))
      return std::nullopt;
    return Attribute(loc.getLocations().front());
  });
  replacer.recursivelyReplaceElementsIn(module, /*replaceAttrs=*/false,
                                        /*replaceLocs=*/true,
                                        /*replaceTypes=*/false);
}

/// The bits of an element; nothing for what is no number, such as a memref.
static std::optional<uint64_t> bitsOf(Type element) {
  if (element.isIndex())
    return 64;
  if (element.isIntOrFloat())
    return element.getIntOrFloatBitWidth();
  std::optional<uint64_t> part = std::nullopt;
  uint64_t count = 2;
  if (auto complex = dyn_cast<ComplexType>(element)) {
    part = bitsOf(complex.getElementType());
  } else if (auto vector = dyn_cast<VectorType>(element)) {
    part = vector.isScalable() ? std::nullopt : bitsOf(vector.getElementType());
    count = vector.getNumElements();
  }
  return part ? std::optional(llvm::SaturatingMultiply(*part, count)) : part;
}

/// `4096 bytes`, or with run-time extents `65536 bytes for each index of
/// dimension 0`. Elements are counted where their size is not known.
static std::string bytesStr(ShapedType type, StringRef unit = "") {
  if (!type.hasRank())
    return "any number of bytes";
  std::optional<uint64_t> bits = bitsOf(type.getElementType());
  uint64_t bytes = bits ? llvm::divideCeil(*bits, 8) : 1;
  std::string dims;
  for (auto [d, extent] : llvm::enumerate(type.getShape())) {
    if (!ShapedType::isDynamic(extent)) {
      bytes = llvm::SaturatingMultiply(bytes, uint64_t(extent));
      continue;
    }
    dims += (dims.empty() ? "" : " and ") + std::to_string(d);
  }
  std::string text = std::to_string(bytes) + (bits ? " bytes" : " elements");
  if (dims.empty())
    return text;
  return text + " for each " +
         (unit.empty() ? "index of dimension " + dims : unit.str());
}

/// What takes its elements from another buffer and changes nothing about them
/// but their places.
static Value copiedFrom(Operation *op) {
  if (auto copy = dyn_cast<memref::CopyOp>(op))
    return copy.getSource();
  if (auto copy = dyn_cast<linalg::CopyOp>(op))
    return copy.getInputs().front();
  if (auto transpose = dyn_cast<linalg::TransposeOp>(op))
    return transpose.getInput();
  return copiedCache(op);
}

/// Whether an operation writes a cache: all of it, or the parts that it names.
static bool writesCache(Operation *op, bool inParts) {
  auto access = dyn_cast<CacheAccessOpInterface>(op);
  return access &&
         llvm::any_of(access.getCacheUses(), [&](const CacheUse &use) {
           return use.isWritten &&
                  (!inParts || use.indexedBy != IndexedBy::Nothing);
         });
}

/// Whether an operation may run after another one.
static bool mayRunAfter(Operation *op, Operation *first, Value buffer) {
  if (op == first)
    return false;
  Block *block = first->getBlock();
  // In a loop that begins behind the allocation all comes around again. Blocks
  // may be in a loop.
  for (Operation *inner = first;; inner = inner->getParentOp()) {
    Operation *parent = inner->getParentOp();
    if (!inner->getParentRegion()->hasOneBlock())
      return true;
    if (parent->isAncestor(buffer.getParentBlock()->getParentOp()))
      break;
    if (isa<LoopLikeOpInterface>(parent))
      return true;
  }
  Operation *ancestor = block->findAncestorOpInBlock(*op);
  return !ancestor || first->isBeforeInBlock(ancestor) || ancestor == first;
}

namespace {

struct CheckCopies : kvcache::impl::CheckCopiesBase<CheckCopies> {
  using CheckCopiesBase::CheckCopiesBase;

  void runOnOperation() override {
    bool ok = true;
    getOperation().walk([&](Operation *op) {
      if (!bufferized) {
        ok &= succeeded(checkRegionIsKnown(op));
        ok &= succeeded(checkResultIsUsed(op));
        ok &= succeeded(checkTensorReads(op));
        markAsWritten(op);
      }
      ok &= succeeded(checkWriteIsRead(op));
      if (bufferized)
        ok &= succeeded(checkCopy(op)) && succeeded(checkBuffer(op));
    });
    if (bufferized)
      eraseMarks(getOperation());
    if (!ok)
      signalPassFailure();
  }

private:
  /// What the second run has to know of the program as it was written: which
  /// copies are in it, and which operations have a result and no memory for it.
  static void markAsWritten(Operation *op) {
    if (isa<memref::CopyOp>(op))
      op->setAttr(kAsked, UnitAttr::get(op->getContext()));
    if (isa<bufferization::AllocTensorOp>(op))
      return markLocation(op, kAsked);
    bool hasTensor =
        llvm::any_of(op->getResultTypes(), llvm::IsaPred<RankedTensorType>);
    if (hasTensor && (isa<DestinationStyleOpInterface>(op) ||
                      op->hasTrait<OpTrait::Elementwise>()))
      markLocation(op, kResultOf + op->getName().getStringRef());
  }

  //===------------------------------------------------------------------===//
  // Tensors
  //===------------------------------------------------------------------===//

  /// What a tensor was reordered from, further up; itself if nothing was.
  static Value originOf(Value tensor, Operation *&copy) {
    return furthestSource(tensor, [&](Value value) -> Value {
      Operation *def = value.getDefiningOp();
      if (isa_and_present<linalg::TransposeOp, linalg::CopyOp>(def))
        copy = def;
      else if (!isa_and_present<tensor::CollapseShapeOp, tensor::ExpandShapeOp,
                                tensor::ReshapeOp, tensor::CastOp>(def))
        return {};
      return def->getOperand(0);
    });
  }

  /// An update of a pool gives the next pool. If nobody takes it, nothing was
  /// updated.
  static LogicalResult checkResultIsUsed(Operation *op) {
    if (!op->getNumResults() || !op->use_empty() ||
        !writesCache(op, /*inParts=*/false))
      return success();
    auto into = cast<DestinationStyleOpInterface>(op);
    Operation *copy = nullptr;
    originOf(into.getDpsInits()[0], copy);
    InFlightDiagnostic error =
        op->emitOpError()
        << "the written rows are lost: the updated pool is expected to be "
           "returned or read, but the result is unused";
    if (copy)
      error.attachNote(copy->getLoc())
          << "the pool is a copy made here, so writes do not reach the "
             "original; name the dimensions of the original in brackets "
             "instead of moving its elements";
    return error;
  }

  /// A tensor is a value: it does not change, whatever is written through a
  /// memref of its buffer.
  static LogicalResult checkTensorReads(Operation *op) {
    auto buffer = dyn_cast<bufferization::ToBufferOp>(op);
    if (!buffer)
      return success();
    SmallVector<Value> references;
    collectReferences(buffer.getResult(), references);
    Operation *writer = nullptr;
    for (Value reference : references)
      for (Operation *user : reference.getUsers())
        if (!writer && findWriter(user, reference) &&
            isa<MemoryEffectOpInterface>(user))
          writer = user;
    if (!writer)
      return success();
    for (Operation *reader : buffer.getTensor().getUsers()) {
      if (reader == op || isa<tensor::DimOp>(reader))
        continue;
      Operation *ancestor = writer->getBlock()->findAncestorOpInBlock(*reader);
      if (ancestor && ancestor->isBeforeInBlock(writer))
        continue;
      InFlightDiagnostic error =
          reader->emitOpError()
          << "reads a pool as a tensor after it was written through a "
             "reference to its buffer: expected only one of the two forms, as "
             "the tensor holds the contents before or after the write, "
             "depending on where it is copied";
      error.attachNote(writer->getLoc()) << "written here";
      return error;
    }
    return success();
  }

  //===------------------------------------------------------------------===//
  // Writes into copies
  //===------------------------------------------------------------------===//

  LogicalResult checkWriteIsRead(Operation *op) {
    if (!writesCache(op, /*inParts=*/true))
      return success();
    SmallVector<MemoryEffects::EffectInstance> effects;
    cast<MemoryEffectOpInterface>(op).getEffects(effects);
    for (const MemoryEffects::EffectInstance &effect : effects)
      if (isa<MemoryEffects::Write>(effect.getEffect()) && effect.getValue() &&
          failed(checkWriteIsRead(op, effect.getValue())))
        return failure();
    return success();
  }

  static LogicalResult checkWriteIsRead(Operation *write, Value target) {
    Value buffer = rootOf(target);
    SmallVector<Value> references;
    if (!isLocal(buffer) || !collectReferences(buffer, references))
      return success();
    Operation *copy = nullptr;
    Value original;
    for (Value reference : references)
      for (Operation *user : reference.getUsers()) {
        Value from = copiedFrom(user);
        bool isFilled = from && rootOf(from) != buffer;
        if (isFilled) {
          copy = user;
          original = rootOf(from);
        }
        if (isFilled || !mayRunAfter(user, write, buffer))
          continue;
        SmallVector<MemoryEffects::EffectInstance> effects;
        if (auto interface = dyn_cast<MemoryEffectOpInterface>(user))
          interface.getEffectsOnValue(reference, effects);
        for (const MemoryEffects::EffectInstance &effect : effects)
          if (isa<MemoryEffects::Read>(effect.getEffect()))
            return success();
      }
    if (!copy)
      return success();
    InFlightDiagnostic error = write->emitOpError()
                               << "the written rows are lost: the cache is a "
                                  "copy of another buffer, of "
                               << bytesStr(cast<ShapedType>(buffer.getType()))
                               << ", and the copy is never read";
    error.attachNote(copy->getLoc())
        << "the copy is made here; view the original as a cache instead "
           "(kvcache.view with the names of its dimensions), or copy back with "
           "kvcache.relayout";
    return error;
  }

  //===------------------------------------------------------------------===//
  // Copies that bufferization makes
  //===------------------------------------------------------------------===//

  /// The view by which a buffer is a pool; null if it is none.
  static ViewOp viewOfPool(Value root) {
    SmallVector<Value> references;
    collectReferences(root, references);
    for (Value reference : references)
      for (Operation *user : reference.getUsers())
        if (auto view = dyn_cast<ViewOp>(user))
          return view;
    return {};
  }

  /// The first operation that reads the contents from before a write.
  static Operation *findReaderAfter(Operation *copy, Value source) {
    SmallVector<Value> references;
    Value root = rootOf(source);
    collectReferences(root, references);
    Operation *first = nullptr;
    for (Value reference : references)
      for (Operation *user : reference.getUsers()) {
        auto effects = dyn_cast<MemoryEffectOpInterface>(user);
        if (!effects || user == copy || user->getBlock() != copy->getBlock() ||
            !copy->isBeforeInBlock(user))
          continue;
        SmallVector<MemoryEffects::EffectInstance> found;
        effects.getEffectsOnValue(reference, found);
        if (!found.empty() && (!first || user->isBeforeInBlock(first)))
          first = user;
      }
    return first;
  }

  /// `65536 bytes for each block` of a buffer that is seen like this.
  static std::string poolBytesStr(ShapedType type, ViewOp view) {
    bool perBlock =
        !view.isByteView() && view.getResult().getType().getLayout().extent(
                                  AxisKind::Block) == kRunTime;
    return bytesStr(type, perBlock ? "block" : "");
  }

  /// A pool is memory that the caller has, or that the program allocates; it is
  /// not a result that has to lie somewhere.
  LogicalResult checkBuffer(Operation *op) {
    auto alloc = dyn_cast<memref::AllocOp>(op);
    if (!alloc)
      return success();
    remarkCount(op, "a buffer of " + bytesStr(alloc.getType()));
    StringRef writer = markOf(op);
    ViewOp view = viewOfPool(alloc);
    bool isCopied = llvm::any_of(alloc->getUsers(), [&](Operation *user) {
      auto copy = dyn_cast<memref::CopyOp>(user);
      return copy && copy.getTarget() == alloc; // which is refused itself
    });
    if (!view || isCopied || !writer.consume_front(kResultOf))
      return success();
    std::string bytes = poolBytesStr(alloc.getType(), view);
    if (allowPoolCopies) {
      remarkCount(op, "a pool is allocated, " + bytes + ", as allowed");
      return success();
    }
    InFlightDiagnostic error =
        op->emitOpError()
        << "allocates a pool, " << bytes
        << ", on each call, for the result of '" << writer
        << "': expected an update in place, which takes a pool that the caller "
           "donates and whose old contents are not read afterwards";
    error.attachNote(op->getLoc())
        << "an intended buffer is written as tensor.empty or memref.alloc in "
           "the input, or allowed with 'allow-pool-copies'";
    return error;
  }

  LogicalResult checkCopy(Operation *op) {
    auto copy = dyn_cast<memref::CopyOp>(op);
    if (!copy)
      return success();
    bool isAsked = op->removeAttr(kAsked) || markOf(op) == kAsked;
    auto type = cast<ShapedType>(copy.getSource().getType());
    remarkCount(op, "a copy of " + bytesStr(type) +
                        (isAsked ? ", which the program asks for" : ""));
    if (isAsked)
      return success();
    ViewOp view;
    for (Value side : {copy.getTarget(), copy.getSource()})
      if (!view)
        view = viewOfPool(rootOf(side));
    if (!view)
      return success();
    std::string bytes = poolBytesStr(type, view);
    if (allowPoolCopies) {
      remarkCount(op, "a pool is copied, " + bytes + ", as allowed");
      return success();
    }
    InFlightDiagnostic error =
        op->emitOpError()
        << "copies a pool, " << bytes << ", on each call: expected an update "
        << "in place, which takes a pool that the caller donates and whose old "
           "contents are not read afterwards";
    if (Operation *reader = findReaderAfter(op, copy.getSource()))
      error.attachNote(reader->getLoc())
          << "the old contents are used here, after the update";
    error.attachNote(op->getLoc())
        << "an intended copy is written as kvcache.relayout or memref.copy in "
           "the input, or allowed with 'allow-pool-copies'";
    return error;
  }

  static void remarkCount(Operation *op, const Twine &text) {
    auto options = remark::RemarkOpts::name(kName).category("kvcache");
    remark::analysis(op->getLoc(), options) << text.str();
  }
};

} // namespace
