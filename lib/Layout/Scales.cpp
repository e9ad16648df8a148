// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Layout/Scales.h"

#include <algorithm>

using namespace kvcache;

std::optional<Layout>
kvcache::scalesLayout(const Layout &stored, const std::vector<ScaleAxis> &per,
                      const std::vector<ScaleStride> &strides, int64_t align,
                      std::string &why) {
  auto find = [&](AxisKind kind) {
    return std::find_if(per.begin(), per.end(),
                        [&](const ScaleAxis &a) { return a.kind == kind; });
  };
  for (const ScaleAxis &axis : per)
    if (!stored.has(axis.kind)) {
      why = "scales per axis of the cache are expected, got " +
            Axis{axis.kind}.str();
      return std::nullopt;
    }
  bool isGiven = find(AxisKind::Block) == per.end();
  // They are computed of the rows of one layer and one side.
  for (AxisKind kind : {AxisKind::Layer, AxisKind::Side})
    if (!isGiven && stored.has(kind) && find(kind) == per.end()) {
      why = "scales per " + Axis{kind}.str() +
            " are expected where tokens have their own, got one for all";
      return std::nullopt;
    }
  // A layer that is not there is found by the number of its blocks.
  if (isGiven && find(AxisKind::Layer) != per.end() &&
      stored.extent(AxisKind::Layer) == kRunTime) {
    why = "a constant number of layers is expected for scales per L that all "
          "blocks share, got ?";
    return std::nullopt;
  }

  std::vector<LayoutDim> dims;
  std::vector<Axis> order;
  auto isLater = [](Axis axis) {
    return axis.kind == AxisKind::Channel && axis.part == AxisPart::Inner;
  };
  auto axisOf = [](Axis axis) {
    return axis.kind == AxisKind::Channel ? Axis{axis.kind} : axis;
  };
  for (const LayoutDim &dim : stored.listing()) {
    if (isLater(dim.axis))
      continue;
    auto listed = find(dim.axis.kind);
    int64_t extent = listed == per.end() ? 1 : dim.extent;
    if (listed != per.end() && dim.axis.kind == AxisKind::Channel) {
      int64_t channels = stored.extent(dim.axis.kind);
      if (channels % listed->group) {
        why = "a group that divides " + std::to_string(channels) +
              " channels is expected, got " + std::to_string(listed->group);
        return std::nullopt;
      }
      extent = channels / listed->group;
    }
    dims.push_back({axisOf(dim.axis), extent});
  }
  // The slower part of D is there first.
  for (Axis axis : stored.orderAxes())
    if (std::find(order.begin(), order.end(), axisOf(axis)) == order.end())
      order.push_back(axisOf(axis));
  for (const ScaleStride &known : strides) {
    auto dim = std::find_if(dims.begin(), dims.end(), [&](const LayoutDim &d) {
      return d.axis == known.axis;
    });
    if (dim == dims.end() || find(known.axis.kind) == per.end()) {
      why = "strides of axes that have scales of their own are expected, got " +
            known.axis.str();
      return std::nullopt;
    }
    dim->stride = known.stride;
  }
  return Layout::get(dims, order, align, why);
}

std::vector<ScaleStride> kvcache::scaleStrides(const Layout &scales) {
  std::vector<ScaleStride> strides;
  for (const LayoutDim &dim : scales.listing())
    if (dim.stride.kind != StrideFact::Kind::Compact)
      strides.push_back({dim.axis, dim.stride});
  return strides;
}
