// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "ProvenViews.h"

#include "kvcache/Analysis/Extents.h"
#include "kvcache/IR/Sources.h"
#include "kvcache/Layout/Facts.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::target;

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
    std::optional<int64_t> before;
    if (auto expand = memref.getDefiningOp<memref::ExpandShapeOp>())
      before = dimBefore(expand, dim);
    else if (auto collapse = memref.getDefiningOp<memref::CollapseShapeOp>())
      before = dimBefore(collapse, dim);
    if (!before)
      return false;
    dim = *before;
    memref = memref.getDefiningOp()->getOperand(0);
  }
}

/// Whether the stride of an axis is that of one of the cache that was seen as a
/// memref: both layouts say the same of it, and of what it spans if they say
/// that it is compact.
static bool isThatOf(ViewOp view, unsigned i, const Layout &stored) {
  const Layout &layout = view.getResult().getType().getLayout();
  const LayoutDim &own = layout.dim(i);
  std::optional<unsigned> j = stored.find(own.axis);
  if (!j || !isUntouched(view, i, *j))
    return false;
  const LayoutDim &its = stored.dim(*j);
  if (own.extent != its.extent)
    return false;
  if (layout.stride(i) || stored.stride(*j))
    return layout.stride(i) == stored.stride(*j);
  if (own.stride != its.stride)
    return false;
  if (own.stride.kind != StrideFact::Kind::Compact)
    return true;
  std::optional<unsigned> next = fasterAxis(layout, i);
  std::optional<unsigned> storedNext = fasterAxis(stored, *j);
  return next && storedNext &&
         layout.dim(*next).axis == stored.dim(*storedNext).axis &&
         isThatOf(view, *next, stored);
}

bool target::isProvenByType(ViewOp view) {
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
    const LayoutDim &dim = layout.dim(i);
    bool isFree = dim.extent == 1 || dim.stride == StrideFact::runTime();
    // The verifier has compared it, but with nothing where the axis is compact
    // over an extent of the call.
    bool isCompared =
        !ShapedType::isDynamic(strides[view.sourceDim(i)]) &&
        (layout.stride(i) || dim.stride.kind == StrideFact::Kind::RunTime);
    if (!isFree && !isCompared && !(stored && isThatOf(view, i, *stored)))
      return false;
  }
  return true;
}
