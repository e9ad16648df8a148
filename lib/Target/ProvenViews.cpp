// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "ProvenViews.h"

#include "kvcache/IR/Sources.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace kvcache;

/// The layout of the cache that a memref is a reshape of.
static const Layout *storedAs(Value memref) {
  Value origin = furthestSource(memref, [](Value value) -> Value {
    Operation *def = value.getDefiningOp();
    return isa_and_present<memref::ExpandShapeOp, memref::CollapseShapeOp>(def)
               ? def->getOperand(0)
               : Value();
  });
  auto storage = origin.getDefiningOp<StorageOp>();
  return storage ? &cast<CacheType>(storage.getCache().getType()).getLayout()
                 : nullptr;
}

/// Whether an axis of a view is one of the cache that was seen as a memref,
/// and no reshape in between splits or joins it.
static bool isUntouched(ViewOp view, unsigned i, unsigned stored) {
  int64_t dim = view.sourceDim(i);
  Value memref = view.getSource();
  while (true) {
    if (auto storage = memref.getDefiningOp<StorageOp>())
      return storage.resultDim(stored) == dim;
    if (auto expand = memref.getDefiningOp<memref::ExpandShapeOp>()) {
      auto groups = expand.getReassociationIndices();
      auto *group = llvm::find(groups, ReassociationIndices{dim});
      if (group == groups.end())
        return false;
      dim = group - groups.begin();
      memref = expand.getSrc();
    } else {
      auto collapse = memref.getDefiningOp<memref::CollapseShapeOp>();
      if (!collapse)
        return false;
      ReassociationIndices group = collapse.getReassociationIndices()[dim];
      if (group.size() != 1)
        return false;
      dim = group.front();
      memref = collapse.getSrc();
    }
  }
}

/// Whether a compact stride is that of the cache that was seen as a memref:
/// it spans the same axis there.
static bool spansTheSame(ViewOp view, unsigned i, const Layout &stored) {
  const Layout &layout = view.getResult().getType().getLayout();
  std::optional<unsigned> j = stored.find(layout.dim(i).axis);
  std::optional<unsigned> next = layout.nextFaster(i);
  std::optional<unsigned> storedNext = j ? stored.nextFaster(*j) : std::nullopt;
  if (!next || !storedNext)
    return false;
  const LayoutDim &own = layout.dim(*next), &its = stored.dim(*storedNext);
  if (stored.dim(*j).stride != layout.dim(i).stride || own.axis != its.axis ||
      own.extent != its.extent || !isUntouched(view, i, *j) ||
      !isUntouched(view, *next, *storedNext))
    return false;
  if (layout.stride(*next) || stored.stride(*storedNext))
    return layout.stride(*next) == stored.stride(*storedNext);
  if (own.stride != its.stride)
    return false;
  return own.stride.kind != StrideFact::Kind::Compact ||
         spansTheSame(view, *next, stored);
}

bool kvcache::isProvenByType(ViewOp view) {
  CacheType type = view.getResult().getType();
  const Layout &layout = type.getLayout();
  SmallVector<int64_t> strides;
  int64_t offset;
  auto source = cast<MemRefType>(view.getSource().getType());
  const Layout *stored = storedAs(view.getSource());
  int64_t align = stored ? stored->align() : type.getElementBytes();
  if (layout.align() > align ||
      failed(source.getStridesAndOffset(strides, offset)))
    return false;
  for (unsigned i = 0; i < layout.rank(); ++i) {
    bool isFree = layout.dim(i).extent == 1 ||
                  layout.dim(i).stride == StrideFact::runTime();
    std::optional<unsigned> same =
        stored ? stored->find(layout.dim(i).axis) : std::nullopt;
    // An axis that is split or joined has another extent.
    isFree |= same && stored->dim(*same).extent == layout.dim(i).extent &&
              stored->dim(*same).stride == layout.dim(i).stride &&
              (layout.dim(i).stride.kind != StrideFact::Kind::Compact ||
               spansTheSame(view, i, *stored));
    if (!isFree && ShapedType::isDynamic(strides[view.sourceDim(i)]))
      return false;
  }
  return true;
}
