// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Layout/Orders.h"

#include <algorithm>

namespace kvcache {

namespace {

struct NamedOrder {
  std::string_view name;
  /// Axes with a blank between them.
  std::string_view axes;
};

constexpr NamedOrder kNamedOrders[] = {
    {"nhd", "S B N H D"},
    {"hnd", "S B H N D"},
    {"paired_nhd", "B S N H D"},
    {"paired_hnd", "B S H N D"},
    {"cross_layer_nhd", "B L S N H D"},
    {"cross_layer_hnd", "B H L S N D"},
    {"LBHNC", "L B H N S D"},
    {"LBNHC", "L B N H S D"},
    {"LHBNC", "L H B N S D"},
    {"BLHNC", "B L H N S D"},
    {"BLNHC", "B L N H S D"},
    {"BHLNC", "B H L N S D"},
    {"x_packed_key", "B H D.o N D.i"},
    {"x_packed_value", "B H D N"},
};

std::vector<Axis> parseAxes(std::string_view text) {
  std::vector<Axis> axes;
  while (!text.empty()) {
    size_t end = std::min(text.find(' '), text.size());
    axes.push_back(*Axis::parse(text.substr(0, end)));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return axes;
}

bool contains(const std::vector<Axis> &axes, Axis axis) {
  return std::find(axes.begin(), axes.end(), axis) != axes.end();
}

std::vector<Axis> without(std::vector<Axis> axes,
                          const std::vector<Axis> &dropped) {
  axes.erase(
      std::remove_if(axes.begin(), axes.end(),
                     [&](const Axis &axis) { return contains(dropped, axis); }),
      axes.end());
  return axes;
}

/// The order of a table entry for exactly these axes.
std::optional<std::vector<Axis>> restrictTo(const NamedOrder &named,
                                            const std::vector<Axis> &axes) {
  std::vector<Axis> all = parseAxes(named.axes), order;
  for (const Axis &axis : all)
    if (contains(axes, axis))
      order.push_back(axis);
  if (order.size() != axes.size())
    return std::nullopt;
  return order;
}

} // namespace

std::vector<std::string_view> orderNames() {
  std::vector<std::string_view> names;
  for (const NamedOrder &named : kNamedOrders)
    names.push_back(named.name);
  return names;
}

std::optional<std::vector<Axis>> orderByName(std::string_view name) {
  for (const NamedOrder &named : kNamedOrders)
    if (named.name == name)
      return parseAxes(named.axes);
  return std::nullopt;
}

std::optional<std::vector<Axis>> orderByName(std::string_view name,
                                             const std::vector<Axis> &axes) {
  for (const NamedOrder &named : kNamedOrders)
    if (named.name == name)
      return restrictTo(named, axes);
  return std::nullopt;
}

std::optional<std::string_view> nameOfOrder(const std::vector<Axis> &order) {
  if (order.empty())
    return std::nullopt;
  for (const NamedOrder &named : kNamedOrders)
    if (restrictTo(named, order) == order)
      return named.name;
  return std::nullopt;
}

std::vector<std::string_view> namesOf(const Layout &layout) {
  std::vector<Axis> order = layout.orderAxes(), units;
  for (const LayoutDim &dim : layout.listing())
    if (dim.extent == 1)
      units.push_back(dim.axis);
  std::vector<std::string_view> names;
  for (const NamedOrder &named : kNamedOrders) {
    std::optional<std::vector<Axis>> whole = restrictTo(named, order);
    if (whole && without(*whole, units) == without(order, units))
      names.push_back(named.name);
  }
  return names;
}

/// A permutation of `listed` whose axes without `units` are `order`.
static std::vector<Axis> placeUnits(const std::vector<Axis> &order,
                                    const std::vector<Axis> &units,
                                    const std::vector<Axis> &listed) {
  for (const NamedOrder &named : kNamedOrders) {
    std::optional<std::vector<Axis>> whole = restrictTo(named, listed);
    if (whole && without(*whole, units) == order)
      return *whole;
  }
  if (without(listed, units) == order)
    return listed;
  std::vector<Axis> result = units;
  result.insert(result.end(), order.begin(), order.end());
  return result;
}

std::optional<Layout> layoutOfBuffer(const std::vector<BufferDim> &dims,
                                     int64_t align, std::string &why) {
  std::vector<BufferDim> sorted = dims;
  std::sort(
      sorted.begin(), sorted.end(),
      [](const BufferDim &a, const BufferDim &b) { return a.axis < b.axis; });
  std::vector<LayoutDim> layoutDims;
  std::vector<Axis> listed, units;
  for (const BufferDim &dim : sorted) {
    if (dim.extent == kRunTime) {
      why = "the extent of " + dim.axis.str() + " is expected to be a number";
      return std::nullopt;
    }
    listed.push_back(dim.axis);
    layoutDims.push_back(
        {dim.axis, dim.extent, StrideFact::constant(dim.stride)});
    if (dim.extent == 1)
      units.push_back(dim.axis);
  }
  // The listing first: after this each axis is there once.
  std::vector<LayoutDim> packed = layoutDims;
  for (LayoutDim &dim : packed)
    dim.stride = StrideFact::compact();
  if (!Layout::get(packed, {}, align, why))
    return std::nullopt;

  sorted.erase(
      std::remove_if(sorted.begin(), sorted.end(),
                     [](const BufferDim &dim) { return dim.extent == 1; }),
      sorted.end());
  std::sort(
      sorted.begin(), sorted.end(), [](const BufferDim &a, const BufferDim &b) {
        return a.stride != b.stride ? a.stride > b.stride : a.axis < b.axis;
      });
  std::vector<Axis> order;
  for (size_t i = 0; i < sorted.size(); ++i) {
    order.push_back(sorted[i].axis);
    if (i && sorted[i].stride == sorted[i - 1].stride) {
      why = "the axes " + sorted[i - 1].axis.str() + " and " +
            sorted[i].axis.str() + " have the same stride, " +
            std::to_string(sorted[i].stride);
      return std::nullopt;
    }
  }
  return Layout::get(layoutDims, placeUnits(order, units, listed), align, why);
}

} // namespace kvcache
