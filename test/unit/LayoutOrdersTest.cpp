// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Names of orders, and layouts of buffers with given strides.

#include "LayoutSamples.h"

#include "kvcache/Layout/Orders.h"

namespace layout_test {
namespace {

using kvcache::BufferDim;

std::string text(const std::vector<Axis> &axes) {
  std::string result;
  for (const Axis &axis : axes)
    result += (result.empty() ? "" : " ") + axis.str();
  return result;
}

std::vector<Axis> axesOf(const std::vector<BufferDim> &dims) {
  std::vector<Axis> axes;
  for (const BufferDim &dim : dims)
    axes.push_back(dim.axis);
  return axes;
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

TEST(OrdersTest, ABufferHasTheLayoutOfItsStrides) {
  int accepted = 0, named = 0;
  Random random(30);
  for (int n = 0; n < kLayouts; ++n) {
    Instance instance = randomInstance(random);
    // Sometimes of a known order.
    if (random.percent(50))
      for (std::string_view name : kvcache::orderNames()) {
        auto order = kvcache::orderByName(name, instance.axes);
        if (!order || random.percent(70))
          continue;
        int64_t span = 1;
        for (size_t k = order->size(); k-- > 0;) {
          unsigned i = std::find(instance.axes.begin(), instance.axes.end(),
                                 (*order)[k]) -
                       instance.axes.begin();
          instance.order[k] = i;
          instance.strides[i] = span;
          span *= instance.extents[i];
        }
        break;
      }
    std::vector<BufferDim> dims;
    for (unsigned i = 0; i < instance.rank(); ++i)
      dims.push_back({instance.axes[i], instance.extents[i],
                      instance.extents[i] == 1 ? random.between(-2, 70)
                                               : instance.strides[i]});
    random.shuffle(dims);
    std::string why;
    std::optional<Layout> layout =
        kvcache::layoutOfBuffer(dims, instance.align, why);
    ASSERT_TRUE(layout.has_value()) << why;
    ++accepted;
    EXPECT_EQ(layout->align(), instance.align);
    int64_t last = kvcache::kMaxExtent;
    for (unsigned k = 0; k < instance.rank(); ++k) {
      unsigned i = layout->orderAt(k);
      EXPECT_EQ(layout->dim(i).axis, instance.axes[i]);
      EXPECT_EQ(layout->dim(i).extent, instance.extents[i]);
      if (instance.extents[i] == 1)
        continue;
      EXPECT_EQ(layout->stride(i), instance.strides[i]);
      EXPECT_LT(instance.strides[i], last);
      last = instance.strides[i];
    }
    EXPECT_EQ(layout->isCompact(), instance.isCompact());

    // If some name fits it is found, and it is the order's own.
    std::vector<std::string_view> names = kvcache::namesOf(*layout);
    std::optional<std::string_view> name =
        kvcache::nameOfOrder(layout->orderAxes());
    EXPECT_EQ(name.has_value(), !names.empty());
    if (name) {
      ++named;
      EXPECT_EQ(*name, names.front());
    }
    // Every name that fits: in its order the strides only grow.
    for (std::string_view candidate : kvcache::orderNames()) {
      auto order = kvcache::orderByName(candidate, instance.axes);
      bool fits = order.has_value();
      int64_t below = 0;
      for (size_t k = order ? order->size() : 0; k-- > 0;) {
        unsigned i = *layout->find((*order)[k]);
        if (instance.extents[i] == 1)
          continue;
        fits &= instance.strides[i] > below;
        below = instance.strides[i];
      }
      EXPECT_EQ(fits, std::count(names.begin(), names.end(), candidate) == 1)
          << candidate;
    }
  }
  EXPECT_EQ(accepted, kLayouts);
  EXPECT_GT(named, kLayouts / 4);
}

TEST(OrdersTest, StridesThatOverlapAreNoLayout) {
  int refused = 0, accepted = 0;
  Random random(31);
  for (int n = 0; n < kLayouts; ++n) {
    Instance instance = randomInstance(random);
    std::vector<BufferDim> dims;
    for (unsigned i = 0; i < instance.rank(); ++i) {
      if (random.percent(30))
        instance.strides[i] = random.between(0, 40);
      dims.push_back(
          {instance.axes[i], instance.extents[i], instance.strides[i]});
    }
    std::string why;
    std::optional<Layout> layout =
        kvcache::layoutOfBuffer(dims, instance.align, why);
    std::vector<int64_t> offsets =
        instance.offsets([](unsigned) { return true; });
    std::set<int64_t> unique(offsets.begin(), offsets.end());
    if (unique.size() != offsets.size())
      EXPECT_FALSE(layout.has_value());
    (layout ? accepted : refused)++;
    EXPECT_EQ(layout.has_value(), why.empty()) << why;
  }
  EXPECT_GT(refused, kLayouts / 10);
  EXPECT_GT(accepted, kLayouts / 10);
}

TEST(OrdersTest, TheExampleOfTheHeaderHolds) {
  std::vector<BufferDim> dims = {{{AxisKind::Block}, 100, 65536},
                                 {{AxisKind::Side}, 2, 2048},
                                 {{AxisKind::Token}, 16, 128},
                                 {{AxisKind::Head}, 1, 7},
                                 {{AxisKind::Channel}, 128, 1}};
  std::string why;
  std::optional<Layout> layout = kvcache::layoutOfBuffer(dims, 16, why);
  ASSERT_TRUE(layout.has_value()) << why;
  EXPECT_EQ(
      kvcache::namesOf(*layout),
      (std::vector<std::string_view>{"paired_nhd", "paired_hnd",
                                     "cross_layer_nhd", "cross_layer_hnd"}));
  EXPECT_EQ(kvcache::nameOfOrder(layout->orderAxes()), "paired_nhd");
  EXPECT_EQ(layout->dim(1).stride, StrideFact::constant(65536));
  EXPECT_EQ(layout->dim(2).stride, StrideFact::compact());
  EXPECT_EQ(text(axesOf(dims)), text(layout->orderAxes()));
}

TEST(OrdersTest, NoLayoutOfABufferWithoutNumbers) {
  auto refuse = [](int64_t extent, int64_t stride, const char *message) {
    std::string why;
    EXPECT_FALSE(kvcache::layoutOfBuffer({{{AxisKind::Block}, extent, stride},
                                          {{AxisKind::Token}, 16, 128},
                                          {{AxisKind::Channel}, 128, 1}},
                                         16, why));
    EXPECT_NE(why.find(message), std::string::npos) << why;
  };
  refuse(kRunTime, 2048, "extent of B is expected to be a number");
  refuse(0, 2048, "layout_c3");
  refuse(4, 128, "the axes B and N have the same stride, 128");
  refuse(4, 0, "layout_c5: the stride of B");
  refuse(4, 129, "layout_c5: the stride of B");
  refuse(4, kMaxExtent + 1, "layout_c5: the stride of B");
  refuse(kMaxExtent, kMaxExtent, "at most 2^52");
  std::string why;
  EXPECT_FALSE(kvcache::layoutOfBuffer({{{AxisKind::Block}, 4, 16},
                                        {{AxisKind::Block}, 4, 4},
                                        {{AxisKind::Channel}, 4, 1}},
                                       16, why));
  EXPECT_EQ(why.rfind("layout_c1", 0), 0u) << why;
}

} // namespace
} // namespace layout_test
