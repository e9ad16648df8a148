// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which layout says more, against what each says of random instances.

#include "LayoutOffsets.h"
#include "LayoutSamples.h"

#include "kvcache/Layout/Facts.h"

namespace layout_test {
namespace {

/// Forget more of what a sample says; with a small chance say something wrong.
std::optional<Layout> weaken(const Sample &sample, Random &random,
                             int wrongChance) {
  std::vector<LayoutDim> dims = sample.layout->listing();
  for (unsigned i = 0; i < dims.size(); ++i) {
    if (random.percent(30))
      dims[i].extent = kRunTime;
    int64_t stride = sample.instance.strides[i];
    if (random.percent(40))
      dims[i].stride = random.percent(50)
                           ? StrideFact::constant(stride)
                           : StrideFact::runTime(random.divisor(stride));
    if (random.percent(wrongChance))
      dims[i].stride = random.percent(50)
                           ? StrideFact::compact()
                           : StrideFact::runTime(random.between(1, 12));
    if (random.percent(wrongChance) && dims[i].extent != kRunTime)
      ++dims[i].extent;
  }
  int64_t align = int64_t(1) << random.between(0, 7);
  if (random.percent(80))
    align = std::min(align, sample.instance.align);
  std::string error;
  return Layout::get(dims, sample.instance.orderAxes(), align, error);
}

/// Is everything that the layout says true of the instance?
bool describes(const Layout &layout, const Instance &instance) {
  std::string why;
  return instance.align % layout.align() == 0 &&
         concreteStrides(layout, instance.extents, instance.strides, why)
             .has_value();
}

/// Whether a fact is about an axis that has no stride in the instance.
bool saysMoreThanThereIs(const Layout &layout, const Instance &instance) {
  for (unsigned i = 0; i < layout.rank(); ++i)
    if (layout.dim(i).extent == kRunTime && instance.extents[i] == 1 &&
        layout.dim(i).stride.kind != StrideFact::Kind::Compact)
      return true;
  return false;
}

TEST(FactsTest, WhatIsImpliedIsTrueWhereverTheStrongerIs) {
  int yes = 0, no = 0, exact = 0;
  forEachSample(60, [&](const Sample &sample, Random &random) {
    ASSERT_TRUE(implies(*sample.layout, *sample.layout));
    ASSERT_TRUE(describes(*sample.layout, sample.instance));
    for (int n = 0; n < 4; ++n) {
      std::optional<Layout> weaker = weaken(sample, random, 10);
      if (!weaker)
        continue;
      std::string why;
      bool implied = implies(*sample.layout, *weaker, why);
      (implied ? yes : no)++;
      EXPECT_EQ(implied, why.empty()) << why;
      bool truth = describes(*weaker, sample.instance);
      if (implied)
        EXPECT_TRUE(truth);
      // One instance is all that a layout without run-time values describes.
      if (sample.allConstant &&
          !saysMoreThanThereIs(*weaker, sample.instance)) {
        ++exact;
        EXPECT_EQ(implied, truth) << why;
      }
    }
  });
  EXPECT_GT(yes, 1000);
  EXPECT_GT(no, 1000);
  EXPECT_GT(exact, 1000);
}

TEST(FactsTest, ImplyingIsAnOrder) {
  int both = 0, chain = 0;
  forEachSample(61, [&](const Sample &sample, Random &random) {
    std::optional<Layout> b = weaken(sample, random, 3);
    std::optional<Layout> c = weaken(sample, random, 3);
    if (!b || !c)
      return;
    const Layout &a = *sample.layout;
    if (implies(a, *b) && implies(*b, *c)) {
      ++chain;
      EXPECT_TRUE(implies(a, *c));
    }
    if (implies(*b, *c) && implies(*c, *b)) {
      ++both;
      EXPECT_TRUE(*b == *c);
    }
  });
  EXPECT_GT(chain, 20);
  EXPECT_GT(both, 1);
}

TEST(FactsTest, AJoinIsImpliedByBoth) {
  int kept = 0;
  forEachSample(62, [&](const Sample &sample, Random &random) {
    std::optional<Layout> b = weaken(sample, random, 15);
    if (!b)
      return;
    const Layout &a = *sample.layout;
    std::optional<Layout> both = join(a, *b), back = join(*b, a);
    ASSERT_TRUE(both && back);
    std::string why;
    EXPECT_TRUE(implies(a, *both, why)) << why;
    EXPECT_TRUE(implies(*b, *both, why)) << why;
    EXPECT_TRUE(*both == *back);
    // Nothing is lost where one says it all.
    if (implies(a, *b)) {
      ++kept;
      EXPECT_TRUE(implies(*both, *b, why)) << why;
    }
    EXPECT_TRUE(*join(a, a) == a);
  });
  EXPECT_GT(kept, 200);
}

TEST(FactsTest, TheMessageNamesTheFact) {
  constexpr Axis kS{AxisKind::Side}, kB{AxisKind::Block}, kN{AxisKind::Token},
      kD{AxisKind::Channel};
  auto get = [&](int64_t tokens, StrideFact blockStride, int64_t align,
                 std::vector<Axis> order) {
    std::string error;
    std::optional<Layout> layout = Layout::get({{kS, 1, {}},
                                                {kB, kRunTime, blockStride},
                                                {kN, tokens, {}},
                                                {kD, 64, {}}},
                                               order, align, error);
    EXPECT_TRUE(layout.has_value()) << error;
    return *layout;
  };
  auto expect = [](const Layout &a, const Layout &b, const char *message) {
    std::string why;
    EXPECT_EQ(implies(a, b, why), message == nullptr);
    if (message)
      EXPECT_EQ(why, message);
  };
  std::vector<Axis> order = {kB, kS, kN, kD};
  Layout plain = get(16, {}, 16, order);
  expect(plain, get(16, {}, 32, order),
         "the alignment is expected to be 32, got 16");
  expect(plain, get(8, {}, 16, order),
         "the extent of N is expected to be 8, got 16");
  expect(get(kRunTime, {}, 16, order), plain,
         "the extent of N is expected to be 16, got ?");
  Layout aligned = get(16, StrideFact::runTime(16), 16, order);
  expect(plain, aligned, nullptr);
  expect(aligned, plain,
         "the stride of B is expected to be compact, got a multiple of 16");
  expect(aligned, get(16, StrideFact::runTime(32), 16, order),
         "the stride of B is expected to be a multiple of 32, got a multiple "
         "of 16");
  expect(get(16, StrideFact::constant(2048), 16, order),
         get(16, StrideFact::constant(4096), 16, order),
         "the stride of B is expected to be 4096, got 2048");
  expect(plain, get(16, {}, 16, {kB, kN, kS, kD}), nullptr);
  expect(plain, get(16, {}, 16, {kN, kB, kS, kD}),
         "the order is expected to be [N, B, S, D], got [B, S, N, D]");
  EXPECT_FALSE(join(plain, get(16, {}, 16, {kN, kB, kS, kD})).has_value());

  // Of 16 and 32 tokens packed: any number of tokens, packed.
  std::optional<Layout> some = join(plain, get(32, {}, 16, order));
  ASSERT_TRUE(some.has_value());
  EXPECT_TRUE(*some == get(kRunTime, {}, 16, order));
}

TEST(FactsTest, AssumedFactsAreMoreAndDoNotContradict) {
  int flat = 0, compact = 0, multiple = 0;
  forEachSample(61, [&](const Sample &sample, Random &) {
    const Layout &layout = *sample.layout;
    std::string why;
    std::optional<Layout> more = assumeFlat(layout, why);
    if (more) {
      ++flat;
      EXPECT_TRUE(more->isFlat());
      // An instance of both is flat.
      if (describes(*more, sample.instance)) {
        unsigned b = *layout.find(kvcache::AxisKind::Block);
        unsigned n = *layout.find(kvcache::AxisKind::Token);
        const Instance &i = sample.instance;
        if (i.extents[b] != 1 && i.extents[n] != 1)
          EXPECT_EQ(i.strides[b], i.extents[n] * i.strides[n]);
      }
    } else {
      EXPECT_FALSE(why.empty());
    }
    if ((more = assumeCompact(layout))) {
      ++compact;
      for (unsigned i = 0; i < layout.rank(); ++i)
        EXPECT_NE(more->dim(i).stride.kind, StrideFact::Kind::RunTime);
    }
    if ((more = assumeMultiple(layout, 16))) {
      ++multiple;
      EXPECT_TRUE(implies(*more, layout, why)) << why;
      for (unsigned i = 0; i < layout.rank(); ++i)
        if (more->dim(i).stride.kind == StrideFact::Kind::RunTime)
          EXPECT_EQ(more->strideMultiple(i) % 16, 0);
    }
  });
  EXPECT_GT(flat, 100);
  EXPECT_GT(compact, 100);
  EXPECT_GT(multiple, 100);
}

TEST(FactsTest, WhatBothSayIsTrueOfABufferThatBothDescribe) {
  int found = 0, units = 0;
  forEachSample(62, [&](const Sample &sample, Random &random) {
    std::optional<Layout> a = weaken(sample, random, 15);
    std::optional<Layout> b = weaken(sample, random, 15);
    if (!a || !b || a->orderAxes() != b->orderAxes() ||
        !describes(*a, sample.instance) || !describes(*b, sample.instance))
      return;
    std::optional<Layout> both = meet(*a, *b);
    // Facts that contradict each other may be of an axis that has no stride.
    bool ofUnits = saysMoreThanThereIs(*a, sample.instance) ||
                   saysMoreThanThereIs(*b, sample.instance);
    ASSERT_TRUE(both.has_value() || ofUnits);
    if (!both)
      return;
    EXPECT_TRUE(describes(*both, sample.instance));
    EXPECT_TRUE(meet(*a, *a) == a);
    ++found;
    units += ofUnits;
  });
  EXPECT_GT(found, 100);
  EXPECT_GT(units, 100);
}

TEST(FactsTest, WhatIsSaidOfOneBlockIsNotSaidOfSides) {
  constexpr Axis kS{AxisKind::Side}, kB{AxisKind::Block}, kN{AxisKind::Token},
      kD{AxisKind::Channel};
  auto get = [&](StrideFact sides, StrideFact blocks,
                 int64_t extent = kRunTime) {
    std::string error;
    std::optional<Layout> layout = Layout::get(
        {{kS, 2, sides}, {kB, extent, blocks}, {kN, 2, {}}, {kD, 4, {}}}, {}, 4,
        error);
    EXPECT_TRUE(layout.has_value()) << error;
    return *layout;
  };
  StrideFact compact, any = StrideFact::runTime(), by8 = StrideFact::runTime(8),
                      by12 = StrideFact::runTime(12),
                      is48 = StrideFact::constant(48);
  // Sides may be 12 apart where there is one block, whatever its stride is.
  EXPECT_TRUE(meet(get(compact, any), get(any, is48)) == get(compact, any));
  EXPECT_TRUE(meet(get(compact, by12), get(any, by8)) == get(compact, by12));
  EXPECT_TRUE(meet(get(any, by8), get(compact, by12)) == get(any, by8));
  EXPECT_TRUE(meet(get(any, compact), get(compact, by8)) == get(any, compact));
  EXPECT_TRUE(meet(get(compact, by12), get(any, compact, 1)) ==
              get(compact, by12));
  // Where both say it, or one says all of it, it is known.
  EXPECT_TRUE(meet(get(compact, any), get(compact, is48)) ==
              get(compact, is48));
  EXPECT_TRUE(meet(get(compact, by8), get(compact, by12)) ==
              get(compact, StrideFact::runTime(24)));
  EXPECT_TRUE(meet(get(any, any), get(compact, by8)) == get(compact, by8));
  EXPECT_TRUE(meet(get(any, by8), get(by12, any)) == get(by12, by8));
  // Of two blocks and more everything is.
  EXPECT_TRUE(meet(get(compact, any), get(any, is48, 3)) ==
              get(compact, is48, 3));

  EXPECT_TRUE(isSpannedByCompact(get(compact, any), 1));
  EXPECT_FALSE(isSpannedByCompact(get(any, any), 1));
  EXPECT_FALSE(isSpannedByCompact(get(compact, any), 0));
}

TEST(FactsTest, CompactMayContradictAMultiple) {
  using kvcache::Axis;
  const Axis kB{AxisKind::Block}, kN{AxisKind::Token}, kD{AxisKind::Channel};
  std::string error;
  std::optional<Layout> layout =
      Layout::get({{kB, kRunTime, StrideFact::runTime(16)}, {kN, 5}, {kD, 7}},
                  {}, 16, error);
  ASSERT_TRUE(layout.has_value()) << error;
  EXPECT_FALSE(assumeCompact(*layout).has_value());
  EXPECT_FALSE(assumeFlat(*layout, error).has_value());
  EXPECT_EQ(error, "the strides are known to differ");
  EXPECT_FALSE(assumeBlockStride(*layout, 40).has_value());
  EXPECT_TRUE(assumeBlockStride(*layout, 48).has_value());
}

} // namespace
} // namespace layout_test
