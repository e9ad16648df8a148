// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "MovePlan.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <limits>
#include <set>

using namespace kvcache;
using llvm::ArrayRef;
using llvm::SmallVector;

/// Runs shorter than this are worth a way through shared memory: they leave
/// parts of the sectors of memory unused.
static constexpr int64_t kShortRun = 64;
static constexpr int64_t kMostShared = 32 * 1024;
static constexpr int64_t kLeastTile = 4096;

/// The smallest divisor of `n` that is at least `least`, or n.
static int64_t divisorFrom(int64_t n, int64_t least) {
  // In pairs: an extent may be a large prime.
  int64_t found = n;
  for (int64_t d = 1; d <= n / d; ++d)
    if (n % d == 0)
      for (int64_t divisor : {d, n / d})
        if (divisor >= least)
          found = std::min(found, divisor);
  return found;
}

namespace {
/// An axis of a layout with its parts.
struct WholeAxis {
  WholeAxis(const Layout &layout, AxisKind kind) {
    SmallVector<unsigned> parts;
    for (unsigned i = 0; i < layout.rank(); ++i)
      if (layout.dim(i).axis.kind == kind)
        parts.push_back(i);
    walk.axis = parts.front();
    if (parts.size() == 2) {
      walk.inner = parts.back();
      walk.cut = layout.dim(parts.back()).extent;
    }
    for (unsigned part : parts)
      for (unsigned k = 0; k < layout.rank(); ++k)
        if (layout.orderAt(k) == part)
          places.push_back(k);
  }
  /// The walk of every `step`-th index, which crosses no cut.
  AxisWalk every(int64_t step) const {
    if (!walk.cut)
      return {walk.axis, step};
    if (step < walk.cut)
      return {walk.inner, step};
    return {walk.axis, step / walk.cut};
  }
  AxisWalk walk;
  SmallVector<unsigned> places; ///< of the parts in memory
};
} // namespace

static std::optional<int64_t> knownStep(const Layout &layout,
                                        const AxisWalk &walk) {
  std::optional<int64_t> stride = layout.stride(walk.axis);
  if (walk.cut || !stride)
    return std::nullopt;
  return *stride * walk.factor;
}

void MovePlan::addAxis(AxisKind kind, int64_t tokens) {
  const Layout &a = *from.layout, &b = *to.layout;
  if (!a.has(kind))
    return;
  int64_t extent = kind == AxisKind::Token ? tokens : a.extent(kind);
  if (extent == kRunTime || b.extent(kind) == kRunTime) {
    layersAtRunTime = true;
    return;
  }
  WholeAxis source(a, kind), dest(b, kind);
  auto push = [&](int64_t extent, AxisWalk x, AxisWalk y, unsigned place) {
    if (extent == 1)
      return;
    auto slower = [](unsigned place, const MoveDim &dim) {
      return place < dim.place;
    };
    dims.insert(llvm::upper_bound(dims, place, slower),
                {kind, extent, x, y, place});
  };
  int64_t x = std::max<int64_t>(source.walk.cut, 1);
  int64_t y = std::max<int64_t>(dest.walk.cut, 1);
  int64_t coarse = std::max(x, y), fine = std::min(x, y);
  // Cut where either side is cut, if the cuts nest.
  if (coarse % fine)
    return push(extent, source.walk, dest.walk, dest.places.back());
  int64_t above = extent;
  for (int64_t step : {coarse, fine, int64_t(1)}) {
    if (step == above)
      continue;
    bool isOuter = dest.walk.cut && step >= dest.walk.cut;
    push(above / step, source.every(step), dest.every(step),
         isOuter ? dest.places.front() : dest.places.back());
    above = step;
  }
}

/// What divides the distances of whole items in bytes, and the base.
static int64_t itemMultiple(const MoveEnd &end, int64_t tokens, bool layers) {
  const Layout &layout = *end.layout;
  int64_t align = std::min(layout.align(), Layout::kWidestAccess);
  auto limit = [&](AxisKind kind, int64_t step) {
    align =
        layout.stepAlignment(*layout.find(kind), step, end.elementBytes, align);
  };
  limit(AxisKind::Block, 1);
  if (layout.extent(AxisKind::Token) != tokens)
    limit(AxisKind::Token, tokens);
  if (layers)
    limit(AxisKind::Layer, 1);
  return align;
}

MovePlan::MovePlan(MoveEnd from, MoveEnd to, int64_t tokens, bool ranged)
    : from(from), to(to) {
  for (AxisKind kind : {AxisKind::Layer, AxisKind::Side, AxisKind::Token,
                        AxisKind::Head, AxisKind::Channel})
    addAxis(kind, tokens);
  fromItem = itemMultiple(from, tokens, layersAtRunTime);
  toItem = itemMultiple(to, tokens, layersAtRunTime);
  while (!dims.empty()) {
    const MoveDim &last = dims.back();
    if ((ranged && last.kind == AxisKind::Token) ||
        knownStep(*from.layout, last.from) != run ||
        knownStep(*to.layout, last.to) != run)
      break;
    run *= last.extent;
    dims.pop_back();
  }
  for (bool isFrom : {true, false}) {
    int64_t bytes = end(isFrom).elementBytes;
    int64_t most = powerOfTwoDivisor(run, alignment(isFrom, {}) / bytes);
    lanes = isFrom ? most : std::min(lanes, most);
  }
  if (run * std::min(from.elementBytes, to.elementBytes) < kShortRun)
    findTile(ranged);
}

int64_t MovePlan::elements() const {
  int64_t count = run;
  for (const MoveDim &dim : dims)
    count *= dim.extent;
  return count;
}

int64_t MovePlan::alignment(bool isFrom, ArrayRef<TileDim> inside) const {
  const MoveEnd &side = end(isFrom);
  int64_t align = isFrom ? fromItem : toItem;
  for (auto [i, dim] : llvm::enumerate(dims)) {
    const TileDim *part = llvm::find_if(
        inside, [&, i = i](const TileDim &part) { return part.dim == i; });
    int64_t step = part == inside.end() ? 1 : part->extent;
    if (step == dim.extent)
      continue;
    const AxisWalk &on = walk(isFrom, dim);
    align = side.layout->stepAlignment(on.axis, on.factor * step,
                                       side.elementBytes, align);
    if (on.cut)
      align =
          side.layout->stepAlignment(on.inner, step, side.elementBytes, align);
  }
  return align;
}

SmallVector<TileDim> MovePlan::chain(bool isFrom, int64_t lineBytes) const {
  const MoveEnd &side = end(isFrom);
  SmallVector<TileDim> parts;
  int64_t length = run;
  while (length * side.elementBytes < lineBytes) {
    auto next = llvm::find_if(dims, [&](const MoveDim &dim) {
      return knownStep(*side.layout, walk(isFrom, dim)) == length;
    });
    if (next == dims.end())
      break;
    int64_t wanted = lineBytes / side.elementBytes;
    int64_t extent = divisorFrom(next->extent, (wanted + length - 1) / length);
    parts.push_back({unsigned(next - dims.begin()), extent});
    length *= extent;
    if (extent != next->extent)
      break;
  }
  return parts;
}

void MovePlan::findTile(bool ranged) {
  for (int64_t lineBytes : {128, 64, 32})
    if (makeTile(ranged, lineBytes))
      return;
}

bool MovePlan::makeTile(bool ranged, int64_t lineBytes) {
  TilePlan plan;
  SmallVector<TileDim> source = chain(true, lineBytes);
  SmallVector<TileDim> dest = chain(false, lineBytes);
  auto partIn = [](SmallVector<TileDim> &parts, unsigned dim) {
    return llvm::find_if(parts, [&](TileDim &p) { return p.dim == dim; });
  };
  // A dimension that is in both has one extent. Only the last of a chain may be
  // a part, so both stay contiguous.
  for (TileDim &part : source)
    if (auto *other = partIn(dest, part.dim); other != dest.end())
      part.extent = other->extent = std::max(part.extent, other->extent);
  auto length = [&](ArrayRef<TileDim> parts) {
    int64_t product = run;
    for (const TileDim &part : parts)
      product *= part.extent;
    return product;
  };
  plan.fromRun = length(source);
  plan.toRun = length(dest);
  if (plan.fromRun == run && plan.toRun == run)
    return false; // nothing is gained

  auto lanesOf = [&](bool isFrom, ArrayRef<TileDim> parts) {
    int64_t bytes = end(isFrom).elementBytes;
    int64_t limit = run;
    for (const TileDim &part : parts) {
      // Tokens of a range are told apart by accesses.
      if (ranged && dims[part.dim].kind == AxisKind::Token)
        break;
      limit *= part.extent;
    }
    return powerOfTwoDivisor(limit, alignment(isFrom, parts) / bytes);
  };
  plan.fromLanes = lanesOf(true, source);
  plan.toLanes = lanesOf(false, dest);
  plan.granule = powerOfTwoDivisor(run, std::min(plan.fromLanes, plan.toLanes));

  // Both have all parts; those of the other side come last.
  plan.from = source;
  plan.to = dest;
  for (const TileDim &part : dest)
    if (partIn(plan.from, part.dim) == plan.from.end())
      plan.from.push_back(part);
  // A small tile takes more.
  for (size_t i = dims.size(); i-- > 0;) {
    int64_t bytes = length(plan.from) * from.elementBytes;
    if (bytes >= kLeastTile)
      break;
    if (partIn(plan.from, i) == plan.from.end())
      plan.from.push_back(
          {unsigned(i), divisorFrom(dims[i].extent, kLeastTile / bytes)});
  }
  for (const TileDim &part : plan.from)
    if (partIn(plan.to, part.dim) == plan.to.end())
      plan.to.push_back(part);
  plan.elements = length(plan.from);
  padTile(plan);
  if (plan.sharedElements * from.elementBytes > kMostShared)
    return false;
  tile = plan;
  return true;
}

void MovePlan::padTile(TilePlan &plan) const {
  int64_t bytes = from.elementBytes;
  auto place = [&](int64_t pad) {
    int64_t stride = run;
    for (TileDim &part : plan.from) {
      part.sharedStride = stride;
      stride *= part.extent;
      if (stride == plan.fromRun)
        stride += pad;
    }
    plan.sharedElements = stride;
    for (TileDim &part : plan.to)
      part.sharedStride = llvm::find_if(plan.from, [&](TileDim &p) {
                            return p.dim == part.dim;
                          })->sharedStride;
  };
  // Where the first granule of an access to the destination is in the tile.
  auto granuleAt = [&](int64_t access) {
    int64_t element = access * plan.toLanes;
    int64_t at = element % run;
    element /= run;
    for (const TileDim &part : plan.to) {
      at += element % part.extent * part.sharedStride;
      element /= part.extent;
    }
    return at * bytes;
  };
  // Passes over the banks that a warp takes, 128 bytes or less at once.
  auto cost = [&] {
    int64_t width = plan.granule * bytes, passes = 0;
    int64_t together = std::min<int64_t>(32, 128 / width);
    int64_t accesses = std::min<int64_t>(32, plan.elements / plan.toLanes);
    for (int64_t first = 0; first < accesses; first += together) {
      std::set<int64_t> words[32];
      for (int64_t i = first; i < std::min(first + together, accesses); ++i)
        for (int64_t b = 0; b < width; b += 4)
          words[(granuleAt(i) + b) / 4 % 32].insert((granuleAt(i) + b) / 4);
      size_t most = 0;
      for (const std::set<int64_t> &bank : words)
        most = std::max(most, bank.size());
      passes += most;
    }
    return passes;
  };
  int64_t best = 0, least = std::numeric_limits<int64_t>::max();
  for (int64_t step = 0; step < 8; ++step) {
    place(step * plan.fromLanes);
    if (int64_t passes = cost(); passes < least) {
      least = passes;
      best = step * plan.fromLanes;
    }
  }
  place(best);
}
