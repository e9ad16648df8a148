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

} // namespace kvcache
