// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Names of orders.

#include "LayoutSamples.h"

#include "kvcache/Layout/Orders.h"

namespace layout_test {
namespace {

std::string text(const std::vector<Axis> &axes) {
  std::string result;
  for (const Axis &axis : axes)
    result += (result.empty() ? "" : " ") + axis.str();
  return result;
}

TEST(OrdersTest, EveryNameIsReadBackFromItsOrder) {
  std::set<std::string> orders;
  for (std::string_view name : kvcache::orderNames()) {
    std::optional<std::vector<Axis>> order = kvcache::orderByName(name);
    ASSERT_TRUE(order.has_value()) << name;
    EXPECT_EQ(kvcache::nameOfOrder(*order), name);
    orders.insert(text(*order));
  }
  EXPECT_EQ(orders.size(), kvcache::orderNames().size());
  EXPECT_EQ(kvcache::orderNames().size(), 14u);
  EXPECT_FALSE(kvcache::orderByName("NHD").has_value());
  EXPECT_FALSE(kvcache::orderByName("").has_value());
  EXPECT_FALSE(kvcache::nameOfOrder({}).has_value());
}

TEST(OrdersTest, TheLettersOfAVllmNameAreItsOrder) {
  for (std::string_view name :
       {"LBHNC", "LBNHC", "LHBNC", "BLHNC", "BLNHC", "BHLNC"}) {
    std::string letters;
    std::vector<Axis> order = kvcache::orderByName(name).value();
    for (const Axis &axis : order)
      letters += axis.str();
    std::string expected(name);
    expected.replace(expected.find('C'), 1, "SD");
    EXPECT_EQ(letters, expected);
  }
}

TEST(OrdersTest, AxesThatACacheLacksAreLeftOut) {
  Axis b{AxisKind::Block}, n{AxisKind::Token}, h{AxisKind::Head},
      d{AxisKind::Channel}, l{AxisKind::Layer};
  EXPECT_EQ(text(*kvcache::orderByName("nhd", {b, n, h, d})), "B N H D");
  EXPECT_EQ(text(*kvcache::orderByName("cross_layer_hnd", {l, b, n, h, d})),
            "B H L N D");
  EXPECT_EQ(kvcache::nameOfOrder({b, n, h, d}), "nhd");
  EXPECT_EQ(kvcache::nameOfOrder({b, h, n, d}), "hnd");
  EXPECT_EQ(kvcache::nameOfOrder({b, l, n, h, d}), "cross_layer_nhd");
  EXPECT_EQ(kvcache::nameOfOrder({b, h, d, n}), "x_packed_value");
  // nhd says nothing about layers.
  EXPECT_FALSE(kvcache::orderByName("nhd", {l, b, n, h, d}).has_value());
  EXPECT_FALSE(kvcache::nameOfOrder({d, n, h, b}).has_value());
}

} // namespace
} // namespace layout_test
