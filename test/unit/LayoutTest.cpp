// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The layout algebra against plain enumeration. A random *instance* has every
// extent and stride; a *layout* is what remains when some of them are declared
// as known at run time only. Whatever the layout proves must be true of the
// instance, and where nothing was left open it must be exact.

#include "kvcache/Layout/Layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <random>
#include <set>

using kvcache::Axis;
using kvcache::AxisKind;
using kvcache::AxisPart;
using kvcache::AxisSet;
using kvcache::kMaxExtent;
using kvcache::kRunTime;
using kvcache::Layout;
using kvcache::LayoutDim;
using kvcache::StrideFact;

namespace {

constexpr AxisKind kAllKinds[] = {AxisKind::Layer, AxisKind::Side,
                                  AxisKind::Block, AxisKind::Token,
                                  AxisKind::Head,  AxisKind::Channel};
constexpr int kLayouts = 4000;
constexpr int64_t kMaxElements = 1500;

class Random {
public:
  explicit Random(unsigned seed) : engine(seed) {}
  /// Both ends included. Not std::uniform_int_distribution, whose numbers
  /// differ between standard libraries.
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(engine() % (high - low + 1));
  }
  bool percent(int chance) { return between(1, 100) <= chance; }
  template <typename T> void shuffle(std::vector<T> &items) {
    for (size_t i = items.size(); i > 1; --i)
      std::swap(items[i - 1], items[between(0, i - 1)]);
  }
  int64_t divisor(int64_t value) {
    std::vector<int64_t> divisors;
    for (int64_t i = 1; i <= value; ++i)
      if (value % i == 0)
        divisors.push_back(i);
    return divisors[between(0, divisors.size() - 1)];
  }

private:
  std::mt19937 engine;
};

/// Every number of a layout, by position in the listing.
struct Instance {
  std::vector<Axis> axes;
  std::vector<int64_t> extents;
  std::vector<int64_t> strides;
  /// From slowest to fastest.
  std::vector<unsigned> order;
  int64_t align = 1;

  unsigned rank() const { return axes.size(); }
  unsigned fastest(unsigned k) const { return order[rank() - 1 - k]; }

  std::vector<Axis> orderAxes() const {
    std::vector<Axis> result;
    for (unsigned i : order)
      result.push_back(axes[i]);
    return result;
  }
  /// What the stride would be without a gap below it.
  int64_t compactStride(unsigned k) const {
    return k == 0 ? 1 : extents[fastest(k - 1)] * strides[fastest(k - 1)];
  }
  bool isCompact() const {
    for (unsigned k = 0; k < rank(); ++k)
      if (strides[fastest(k)] != compactStride(k))
        return false;
    return true;
  }
  std::optional<unsigned> find(AxisKind kind) const {
    for (unsigned i = 0; i < rank(); ++i)
      if (axes[i] == Axis{kind})
        return i;
    return std::nullopt;
  }

  /// The offsets of all elements when the axes of `which` run over their
  /// extents and the others are 0, in the order of memory.
  std::vector<int64_t>
  offsets(const std::function<bool(unsigned)> &which) const {
    std::vector<int64_t> result = {0};
    for (unsigned i : order) {
      if (!which(i))
        continue;
      std::vector<int64_t> next;
      for (int64_t base : result)
        for (int64_t index = 0; index < extents[i]; ++index)
          next.push_back(base + index * strides[i]);
      result = std::move(next);
    }
    return result;
  }
};

struct Sample {
  Instance instance;
  std::vector<LayoutDim> dims;
  /// Nothing is left for run time.
  bool allConstant = true;
  std::optional<Layout> layout;
  std::string text;
};

std::string describe(const Sample &sample) {
  std::string text;
  const Instance &instance = sample.instance;
  for (unsigned i : instance.order) {
    const LayoutDim &dim = sample.dims[i];
    static const char *const names[] = {"compact ", "constant ", "multiple "};
    text += dim.axis.str() + ": extent " + std::to_string(dim.extent) + " (" +
            std::to_string(instance.extents[i]) + "), stride " +
            names[static_cast<int>(dim.stride.kind)] +
            std::to_string(dim.stride.value) + " (" +
            std::to_string(instance.strides[i]) + ")\n";
  }
  return text + "align " + std::to_string(instance.align);
}

Instance randomInstance(Random &random) {
  Instance instance;
  for (AxisKind kind : kAllKinds) {
    bool needed = kind == AxisKind::Block || kind == AxisKind::Token ||
                  kind == AxisKind::Channel;
    if (!needed && random.percent(50))
      continue;
    int splitChance = kind == AxisKind::Channel ? 25 : 5;
    if (instance.rank() + 5 <= Layout::kMaxRank &&
        random.percent(splitChance)) {
      instance.axes.push_back({kind, AxisPart::Outer});
      instance.axes.push_back({kind, AxisPart::Inner});
    } else if (kind == AxisKind::Channel && instance.rank() < 7 &&
               random.percent(splitChance)) {
      instance.axes.push_back({kind, AxisPart::Outer});
      instance.axes.push_back({kind, AxisPart::Inner});
    } else {
      instance.axes.push_back({kind, AxisPart::Whole});
    }
  }

  unsigned rank = instance.rank();
  instance.order.resize(rank);
  std::iota(instance.order.begin(), instance.order.end(), 0u);
  if (random.percent(80))
    random.shuffle(instance.order);

  static const int64_t extents[] = {1, 1, 2, 2, 3, 4, 4, 5, 8};
  int64_t elements = 1;
  for (unsigned i = 0; i < rank; ++i) {
    int64_t extent = extents[random.between(0, 8)];
    if (elements * extent > kMaxElements)
      extent = 1;
    elements *= extent;
    instance.extents.push_back(extent);
  }

  instance.strides.resize(rank);
  int gapChance = random.percent(40) ? 0 : 25;
  for (unsigned k = 0; k < rank; ++k) {
    unsigned i = instance.fastest(k);
    int64_t stride = instance.compactStride(k);
    // A gap of any size, or one that keeps an alignment.
    if (instance.extents[i] != 1 && random.percent(gapChance))
      stride = random.percent(50) ? stride + random.between(1, 9)
                                  : stride * random.between(2, 4);
    instance.strides[i] = stride;
  }
  instance.align = int64_t(1) << random.between(0, 7);
  return instance;
}

/// Forget some of an instance, and spell the rest in one of the allowed ways.
Sample randomSample(Random &random) {
  Sample sample;
  sample.instance = randomInstance(random);
  const Instance &instance = sample.instance;
  bool keepAll = random.percent(40);
  sample.dims.resize(instance.rank());
  for (unsigned k = 0; k < instance.rank(); ++k) {
    unsigned i = instance.fastest(k);
    LayoutDim &dim = sample.dims[i];
    dim.axis = instance.axes[i];
    dim.extent = instance.extents[i];
    int64_t stride = instance.strides[i];
    if (!keepAll && random.percent(20)) {
      dim.extent = kRunTime;
      sample.allConstant = false;
    }

    if (dim.extent == 1) {
      // Never used, so anything goes.
      if (random.percent(50))
        dim.stride = StrideFact::constant(random.between(-3, 100));
      continue;
    }
    bool isCompact = stride == instance.compactStride(k);
    if (isCompact && random.percent(70))
      continue;
    if (!keepAll && random.percent(40)) {
      dim.stride = StrideFact::runTime(random.divisor(stride));
      sample.allConstant = false;
    } else {
      dim.stride = StrideFact::constant(stride);
    }
  }

  std::string error;
  sample.layout =
      Layout::get(sample.dims, instance.orderAxes(), instance.align, error);
  sample.text = describe(sample) + "\nerror: " + error;
  return sample;
}

void forEachSample(unsigned seed,
                   const std::function<void(const Sample &, Random &)> &check) {
  Random random(seed);
  int constants = 0;
  for (int n = 0; n < kLayouts; ++n) {
    Sample sample = randomSample(random);
    SCOPED_TRACE(sample.text);
    ASSERT_TRUE(sample.layout.has_value());
    constants += sample.allConstant;
    check(sample, random);
    if (testing::Test::HasFailure())
      return;
  }
  // The generator must keep producing both sorts.
  EXPECT_GT(constants, kLayouts / 4);
  EXPECT_LT(constants, kLayouts * 3 / 4);
}

/// The same axes twice: an AxisSet cannot be enumerated.
struct Moved {
  AxisSet set;
  std::set<AxisKind> kinds;
};

Moved randomMoved(Random &random) {
  bool in[6];
  Moved moved;
  for (int i = 0; i < 6; ++i) {
    in[i] = random.percent(60);
    if (in[i])
      moved.kinds.insert(kAllKinds[i]);
  }
  // AxisSet is made from a list only. A kind may be listed twice, so an absent
  // one is replaced by a present one.
  if (moved.kinds.empty())
    return moved;
  AxisKind some = *moved.kinds.begin();
  auto pick = [&](int i) { return in[i] ? kAllKinds[i] : some; };
  moved.set = {pick(0), pick(1), pick(2), pick(3), pick(4), pick(5)};
  return moved;
}

//===----------------------------------------------------------------------===//
// Axes
//===----------------------------------------------------------------------===//

TEST(AxisTest, EveryAxisIsReadBackFromItsText) {
  std::set<std::string> texts;
  for (AxisKind kind : kAllKinds)
    for (AxisPart part : {AxisPart::Whole, AxisPart::Outer, AxisPart::Inner}) {
      Axis axis{kind, part};
      std::optional<Axis> parsed = Axis::parse(axis.str());
      ASSERT_TRUE(parsed.has_value()) << axis.str();
      EXPECT_EQ(*parsed, axis) << axis.str();
      texts.insert(axis.str());
    }
  EXPECT_EQ(texts.size(), 18u);
  EXPECT_EQ((Axis{AxisKind::Channel, AxisPart::Inner}.str()), "D.i");
}

TEST(AxisTest, OtherTextIsNoAxis) {
  for (const char *text :
       {"", "X", "b", "B.", "B.x", "B.o.i", "BB", ".o", "B "})
    EXPECT_FALSE(Axis::parse(text).has_value()) << text;
}

TEST(AxisTest, ASetHoldsWhatItWasMadeFrom) {
  AxisSet set = {AxisKind::Token, AxisKind::Channel};
  for (AxisKind kind : kAllKinds)
    EXPECT_EQ(set.contains(kind),
              kind == AxisKind::Token || kind == AxisKind::Channel);
}

TEST(PowerOfTwoTest, IsTheLargestDivisorUpToTheLimit) {
  for (int64_t value = 0; value <= 300; ++value)
    for (int64_t limit = 1; limit <= 64; limit *= 2) {
      int64_t expected = 1;
      for (int64_t power = 1; power <= limit; power *= 2)
        if (value % power == 0)
          expected = power;
      EXPECT_EQ(kvcache::powerOfTwoDivisor(value, limit), expected)
          << value << ", limit " << limit;
    }
}

//===----------------------------------------------------------------------===//
// Queries against enumeration
//===----------------------------------------------------------------------===//

TEST(LayoutTest, AxesOrderAndAlignmentAreThoseGiven) {
  forEachSample(1, [](const Sample &sample, Random &) {
    const Instance &instance = sample.instance;
    const Layout &layout = *sample.layout;
    ASSERT_EQ(layout.rank(), instance.rank());
    EXPECT_EQ(layout.align(), instance.align);
    bool listed = true;
    for (unsigned i = 0; i < instance.rank(); ++i) {
      EXPECT_EQ(layout.dim(i).axis, instance.axes[i]);
      EXPECT_EQ(layout.dim(i).extent, sample.dims[i].extent);
      EXPECT_EQ(layout.orderAt(i), instance.order[i]);
      EXPECT_EQ(layout.find(instance.axes[i]), i);
      listed &= instance.order[i] == i;
      std::optional<unsigned> faster = layout.nextFaster(instance.order[i]);
      if (i + 1 == instance.rank())
        EXPECT_FALSE(faster.has_value());
      else
        EXPECT_EQ(faster, instance.order[i + 1]);
    }
    EXPECT_EQ(layout.hasListedOrder(), listed);

    for (AxisKind kind : kAllKinds) {
      bool has = false, open = false;
      int64_t product = 1;
      for (unsigned i = 0; i < instance.rank(); ++i)
        if (instance.axes[i].kind == kind) {
          has = true;
          open |= sample.dims[i].extent == kRunTime;
          product *= instance.extents[i];
        }
      EXPECT_EQ(layout.has(kind), has);
      EXPECT_EQ(layout.find(kind), instance.find(kind));
      EXPECT_EQ(layout.extent(kind), open ? kRunTime : product);
    }
  });
}

TEST(LayoutTest, AKnownStrideIsTheStride) {
  forEachSample(2, [](const Sample &sample, Random &) {
    for (unsigned i = 0; i < sample.instance.rank(); ++i) {
      std::optional<int64_t> stride = sample.layout->stride(i);
      if (sample.allConstant ||
          sample.dims[i].stride.kind == StrideFact::Kind::Constant)
        EXPECT_TRUE(stride.has_value() || sample.dims[i].extent == 1) << i;
      if (sample.allConstant)
        ASSERT_TRUE(stride.has_value()) << i;
      if (stride)
        EXPECT_EQ(*stride, sample.instance.strides[i]) << i;
    }
  });
}

TEST(LayoutTest, TheStrideMultipleDividesTheStride) {
  forEachSample(3, [](const Sample &sample, Random &) {
    for (unsigned i = 0; i < sample.instance.rank(); ++i) {
      int64_t multiple = sample.layout->strideMultiple(i);
      ASSERT_GE(multiple, 1) << i;
      EXPECT_EQ(sample.instance.strides[i] % multiple, 0) << i;
      if (std::optional<int64_t> stride = sample.layout->stride(i))
        EXPECT_EQ(multiple, *stride) << i;
    }
  });
}

TEST(LayoutTest, ACompactLayoutHasNoGaps) {
  forEachSample(4, [](const Sample &sample, Random &) {
    bool truth = sample.instance.isCompact();
    if (sample.layout->isCompact())
      EXPECT_TRUE(truth);
    if (sample.allConstant)
      EXPECT_EQ(sample.layout->isCompact(), truth);
  });
}

TEST(LayoutTest, InAFlatLayoutTokensOfAllBlocksHaveOneStride) {
  int proven = 0;
  forEachSample(5, [&](const Sample &sample, Random &) {
    const Instance &instance = sample.instance;
    std::optional<unsigned> block = instance.find(AxisKind::Block);
    std::optional<unsigned> token = instance.find(AxisKind::Token);
    if (!block || !token) {
      EXPECT_FALSE(sample.layout->isFlat());
      return;
    }
    int64_t tokens = instance.extents[*token];
    int64_t blockStride = instance.strides[*block];
    int64_t tokenStride = instance.strides[*token];
    if (sample.layout->isFlat()) {
      ++proven;
      for (int64_t b = 0; b < instance.extents[*block]; ++b)
        for (int64_t n = 0; n < tokens; ++n)
          EXPECT_EQ(b * blockStride + n * tokenStride,
                    (b * tokens + n) * tokenStride);
    }
    if (sample.allConstant)
      EXPECT_EQ(sample.layout->isFlat(), blockStride == tokens * tokenStride);
  });
  EXPECT_GT(proven, kLayouts / 100);
}

TEST(LayoutTest, ARunIsContiguousAndTheLongest) {
  int64_t longest = 0;
  forEachSample(6, [&](const Sample &sample, Random &random) {
    const Instance &instance = sample.instance;
    for (int n = 0; n < 6; ++n) {
      Moved moved = randomMoved(random);
      kvcache::Run run = sample.layout->contiguousRun(moved.set);
      ASSERT_LE(run.axes, instance.rank());
      longest = std::max(longest, run.elements);

      // Only moved axes, and those that have one index anyway, are covered.
      std::set<unsigned> covered;
      for (unsigned k = 0; k < run.axes; ++k) {
        unsigned i = instance.fastest(k);
        covered.insert(i);
        EXPECT_TRUE(moved.kinds.count(instance.axes[i].kind) ||
                    sample.dims[i].extent == 1);
      }
      std::vector<int64_t> run0 =
          instance.offsets([&](unsigned i) { return covered.count(i) > 0; });
      ASSERT_EQ(static_cast<int64_t>(run0.size()), run.elements);
      for (int64_t e = 0; e < run.elements; ++e)
        ASSERT_EQ(run0[e], e);

      if (!sample.allConstant)
        continue;
      // Longest: where all moved axes move, the elements without a gap from
      // the first one on are those of the run.
      std::vector<int64_t> all = instance.offsets([&](unsigned i) {
        return moved.kinds.count(instance.axes[i].kind) > 0;
      });
      int64_t stretch = 0;
      while (stretch < static_cast<int64_t>(all.size()) &&
             all[stretch] == stretch)
        ++stretch;
      EXPECT_EQ(run.elements, stretch);
      // And no axis of extent 1 above it is left out.
      if (run.axes < instance.rank())
        EXPECT_NE(instance.extents[instance.fastest(run.axes)], 1);
    }
  });
  EXPECT_GT(longest, 64);
}

/// Some of the axes in any sequence, as an array that is packed in it.
std::vector<Axis> randomPacked(const Instance &instance, Random &random) {
  std::vector<Axis> packed = instance.orderAxes();
  // Often the order of the layout itself or a part of it, or nothing is common.
  if (random.percent(40))
    random.shuffle(packed);
  size_t drop = random.percent(50) ? 0 : random.between(0, packed.size());
  packed.erase(packed.begin(), packed.begin() + drop);
  if (!packed.empty() && random.percent(20))
    packed.erase(packed.begin() + random.between(0, packed.size() - 1));
  return packed;
}

TEST(LayoutTest, ACommonRunIsContiguousOnBothSidesAndTheLongest) {
  int64_t longest = 0;
  forEachSample(10, [&](const Sample &sample, Random &random) {
    const Instance &instance = sample.instance;
    for (int n = 0; n < 6; ++n) {
      std::vector<Axis> packed = randomPacked(instance, random);
      kvcache::Run run = sample.layout->commonRun(packed);
      ASSERT_LE(run.axes, instance.rank());
      longest = std::max(longest, run.elements);

      // The same array as an instance: the strides of its own sequence, and 0
      // for what it does not have.
      Instance other = instance;
      std::fill(other.strides.begin(), other.strides.end(), 0);
      int64_t stride = 1;
      for (size_t k = packed.size(); k-- > 0;) {
        unsigned i = *sample.layout->find(packed[k]);
        other.strides[i] = stride;
        stride *= instance.extents[i];
      }

      std::set<unsigned> covered;
      for (unsigned k = 0; k < run.axes; ++k)
        covered.insert(instance.fastest(k));
      auto isCovered = [&](unsigned i) { return covered.count(i) > 0; };
      std::vector<int64_t> ours = instance.offsets(isCovered);
      std::vector<int64_t> theirs = other.offsets(isCovered);
      ASSERT_EQ(static_cast<int64_t>(ours.size()), run.elements);
      for (int64_t e = 0; e < run.elements; ++e) {
        ASSERT_EQ(ours[e], e);
        ASSERT_EQ(theirs[e], e);
      }

      if (!sample.allConstant)
        continue;
      auto isPacked = [&](unsigned i) {
        return std::count(packed.begin(), packed.end(), instance.axes[i]) > 0;
      };
      ours = instance.offsets(isPacked);
      theirs = other.offsets(isPacked);
      int64_t stretch = 0;
      while (stretch < static_cast<int64_t>(ours.size()) &&
             ours[stretch] == stretch && theirs[stretch] == stretch)
        ++stretch;
      EXPECT_EQ(run.elements, stretch);
    }
  });
  EXPECT_GT(longest, 64);
}

TEST(LayoutTest, AccessesCutEveryRunAndAreAligned) {
  std::set<int64_t> seen;
  forEachSample(7, [&](const Sample &sample, Random &random) {
    const Instance &instance = sample.instance;
    for (int n = 0; n < 6; ++n) {
      kvcache::Run run =
          n % 2 ? sample.layout->contiguousRun(randomMoved(random).set)
                : sample.layout->commonRun(randomPacked(instance, random));
      int64_t elementBytes = int64_t(1) << random.between(0, 2);
      int64_t width = sample.layout->accessBytes(run, elementBytes);
      seen.insert(width);

      std::set<unsigned> covered;
      for (unsigned k = 0; k < run.axes; ++k)
        covered.insert(instance.fastest(k));
      std::vector<int64_t> starts =
          instance.offsets([&](unsigned i) { return !covered.count(i); });
      // The base is a multiple of the alignment and of nothing more.
      auto works = [&](int64_t bytes) {
        return instance.align % bytes == 0 &&
               run.elements * elementBytes % bytes == 0 &&
               std::all_of(starts.begin(), starts.end(), [&](int64_t start) {
                 return start * elementBytes % bytes == 0;
               });
      };
      ASSERT_TRUE(width >= 1 && width <= Layout::kWidestAccess &&
                  (width & (width - 1)) == 0)
          << width;
      EXPECT_TRUE(works(width)) << width;
      if (sample.allConstant && width < Layout::kWidestAccess)
        EXPECT_FALSE(works(width * 2)) << width;
    }
  });
  EXPECT_EQ(seen, (std::set<int64_t>{1, 2, 4, 8, 16}));
}

TEST(LayoutTest, NoTwoElementsShareAnOffset) {
  int accepted = 0, refused = 0;
  Random random(8);
  for (int n = 0; n < kLayouts; ++n) {
    Instance instance = randomInstance(random);
    // Any constant strides, so that many overlap.
    std::vector<LayoutDim> dims;
    for (unsigned i = 0; i < instance.rank(); ++i) {
      if (instance.extents[i] != 1 && random.percent(15))
        instance.strides[i] = random.between(1, 40);
      dims.push_back({instance.axes[i], instance.extents[i],
                      StrideFact::constant(instance.strides[i])});
    }
    std::string error;
    std::optional<Layout> layout =
        Layout::get(dims, instance.orderAxes(), instance.align, error);
    std::vector<int64_t> offsets =
        instance.offsets([](unsigned) { return true; });
    if (layout) {
      ++accepted;
      std::set<int64_t> unique(offsets.begin(), offsets.end());
      EXPECT_EQ(unique.size(), offsets.size());
      continue;
    }
    // Refused: some axis really starts inside what a faster one spans.
    ++refused;
    EXPECT_EQ(error.rfind("layout_c5", 0), 0u) << error;
    bool inside = false;
    int64_t span = 1;
    for (unsigned k = 0; k < instance.rank(); ++k) {
      unsigned i = instance.fastest(k);
      if (instance.extents[i] == 1)
        continue;
      inside |= instance.strides[i] < span;
      span = instance.strides[i] * instance.extents[i];
    }
    EXPECT_TRUE(inside) << error;
  }
  EXPECT_GT(accepted, kLayouts / 10);
  EXPECT_GT(refused, kLayouts / 10);
}

TEST(LayoutTest, EqualLayoutsAreSpelledAlike) {
  forEachSample(9, [](const Sample &sample, Random &random) {
    if (!sample.allConstant)
      return;
    const Instance &instance = sample.instance;
    // The same instance in other words: compact strides as numbers, numbers
    // as compact, and any stride for an axis of extent 1.
    std::vector<LayoutDim> other = sample.dims;
    for (unsigned k = 0; k < instance.rank(); ++k) {
      unsigned i = instance.fastest(k);
      if (instance.extents[i] == 1)
        other[i].stride = StrideFact::runTime(random.between(1, 64));
      else if (instance.strides[i] == instance.compactStride(k) &&
               random.percent(50))
        other[i].stride = StrideFact::compact();
      else
        other[i].stride = StrideFact::constant(instance.strides[i]);
    }
    std::string error;
    std::optional<Layout> same =
        Layout::get(other, instance.orderAxes(), instance.align, error);
    ASSERT_TRUE(same.has_value()) << error;
    EXPECT_TRUE(*same == *sample.layout);
    EXPECT_FALSE(*same != *sample.layout);
    for (unsigned i = 0; i < instance.rank(); ++i)
      EXPECT_TRUE(same->dim(i) == sample.layout->dim(i)) << i;

    // Another alignment, or another stride that matters, is another layout.
    std::optional<Layout> aligned =
        Layout::get(other, instance.orderAxes(), instance.align * 2, error);
    ASSERT_TRUE(aligned.has_value()) << error;
    EXPECT_TRUE(*aligned != *sample.layout);
    unsigned slowest = instance.order[0];
    if (instance.extents[slowest] == 1)
      return;
    other[slowest].stride = StrideFact::constant(instance.strides[slowest] + 1);
    std::optional<Layout> wider =
        Layout::get(other, instance.orderAxes(), instance.align, error);
    ASSERT_TRUE(wider.has_value()) << error;
    EXPECT_TRUE(*wider != *sample.layout);
  });
}

TEST(LayoutTest, NoOrderMeansTheListedSequence) {
  std::vector<LayoutDim> dims = {
      {{AxisKind::Block}, kRunTime, {}},
      {{AxisKind::Token}, 16, {}},
      {{AxisKind::Channel}, 64, {}},
  };
  std::string error;
  std::optional<Layout> silent = Layout::get(dims, {}, 16, error);
  std::optional<Layout> spoken = Layout::get(
      dims, {{AxisKind::Block}, {AxisKind::Token}, {AxisKind::Channel}}, 16,
      error);
  ASSERT_TRUE(silent && spoken) << error;
  EXPECT_TRUE(*silent == *spoken);
  EXPECT_TRUE(silent->hasListedOrder());
}

TEST(LayoutTest, TheTableOfTheHeaderHolds) {
  std::vector<LayoutDim> dims = {
      {{AxisKind::Side}, 2, {}},
      {{AxisKind::Block}, kRunTime, StrideFact::constant(1048576)},
      {{AxisKind::Token}, 16, {}},
      {{AxisKind::Head}, 8, {}},
      {{AxisKind::Channel}, 128, {}},
  };
  std::string error;
  std::optional<Layout> layout = Layout::get(dims,
                                             {{AxisKind::Block},
                                              {AxisKind::Side},
                                              {AxisKind::Token},
                                              {AxisKind::Head},
                                              {AxisKind::Channel}},
                                             256, error);
  ASSERT_TRUE(layout.has_value()) << error;
  EXPECT_EQ(layout->stride(0), 16384);
  EXPECT_EQ(layout->stride(1), 1048576);
  EXPECT_EQ(layout->stride(2), 1024);
  EXPECT_EQ(layout->stride(3), 128);
  EXPECT_EQ(layout->stride(4), 1);
  EXPECT_FALSE(layout->isCompact());
  EXPECT_FALSE(layout->isFlat());
}

//===----------------------------------------------------------------------===//
// Errors
//===----------------------------------------------------------------------===//

constexpr Axis kBlock{AxisKind::Block};
constexpr Axis kToken{AxisKind::Token};
constexpr Axis kHead{AxisKind::Head};
constexpr Axis kChannel{AxisKind::Channel};
constexpr Axis kOuter{AxisKind::Channel, AxisPart::Outer};
constexpr Axis kInner{AxisKind::Channel, AxisPart::Inner};

LayoutDim unit(Axis axis) { return {axis, 1, {}}; }

/// The layout is refused by the rule of the label, and the message says what
/// was expected and that it got `got`.
void expectError(const std::vector<LayoutDim> &dims,
                 const std::vector<Axis> &order, int64_t align,
                 const std::string &label, const std::string &got) {
  std::string error;
  EXPECT_FALSE(Layout::get(dims, order, align, error).has_value()) << label;
  EXPECT_EQ(error.rfind(label + ": ", 0), 0u) << error;
  size_t expected = error.find("expected");
  size_t found = error.find("got " + got);
  EXPECT_NE(expected, std::string::npos) << error;
  EXPECT_NE(found, std::string::npos) << error << "\nlacks: got " << got;
  EXPECT_LT(expected, found) << error;
}

TEST(LayoutErrorTest, C1AxesAreListedOnceInSequenceWithBothParts) {
  expectError({{kBlock, 2, {}}, {kBlock, 2, {}}, unit(kToken), unit(kChannel)},
              {}, 1, "layout_c1", "B twice");
  expectError({unit(kBlock), unit(kToken), unit(kChannel), unit(kInner)}, {}, 1,
              "layout_c1", "D and D.i");
  expectError({unit(kToken), unit(kBlock), unit(kChannel)}, {}, 1, "layout_c1",
              "[N, B, D]");
  expectError({unit(kBlock), unit(kToken), unit(kOuter)}, {}, 1, "layout_c1",
              "only D.o");
  expectError({unit(kBlock), unit(kToken), unit(kInner)}, {}, 1, "layout_c1",
              "only D.i");

  std::vector<LayoutDim> many;
  for (AxisKind kind : kAllKinds)
    for (AxisPart part : {AxisPart::Outer, AxisPart::Inner})
      many.push_back({{kind, part}, 1, {}});
  expectError(many, {}, 1, "layout_c1", "12");
}

TEST(LayoutErrorTest, C2BlockTokenAndChannelArePresent) {
  expectError({unit(kToken), unit(kChannel)}, {}, 1, "layout_c2", "[N, D]");
  expectError({unit(kBlock), unit(kHead), unit(kChannel)}, {}, 1, "layout_c2",
              "[B, H, D]");
  expectError({unit(kBlock), unit(kToken)}, {}, 1, "layout_c2", "[B, N]");
  expectError({}, {}, 1, "layout_c2", "[]");
}

TEST(LayoutErrorTest, C3ExtentsAreInRange) {
  for (int64_t extent : {int64_t(0), int64_t(-2), kMaxExtent + 1})
    expectError({{kBlock, extent, {}}, unit(kToken), unit(kChannel)}, {}, 1,
                "layout_c3", std::to_string(extent));
}

TEST(LayoutErrorTest, C4TheOrderIsAPermutation) {
  std::vector<LayoutDim> dims = {unit(kBlock), unit(kToken), unit(kChannel)};
  expectError(dims, {kBlock, kToken}, 1, "layout_c4", "[B, N]");
  expectError(dims, {kBlock, kToken, kToken}, 1, "layout_c4", "[B, N, N]");
  expectError(dims, {kHead, kBlock, kToken, kChannel}, 1, "layout_c4",
              "[H, B, N, D]");
}

TEST(LayoutErrorTest, C5StridesAreInRangeAndDoNotOverlap) {
  for (int64_t stride : {int64_t(0), int64_t(-1), kMaxExtent + 1}) {
    expectError({{kBlock, 4, StrideFact::constant(stride)},
                 {kToken, 4, {}},
                 {kChannel, 4, {}}},
                {}, 1, "layout_c5", std::to_string(stride));
    expectError({{kBlock, 4, StrideFact::runTime(stride)},
                 {kToken, 4, {}},
                 {kChannel, 4, {}}},
                {}, 1, "layout_c5", std::to_string(stride));
  }
  expectError({{kBlock, 4, StrideFact::constant(15)},
               {kToken, 4, {}},
               {kChannel, 4, {}}},
              {}, 1, "layout_c5", "15");
  // A run-time stride is at least its multiple.
  expectError({{kBlock, 4, StrideFact::constant(1023)},
               {kToken, 4, StrideFact::runTime(256)},
               {kChannel, 4, {}}},
              {}, 1, "layout_c5", "1023");
  expectError(
      {{kBlock, kMaxExtent, {}}, {kToken, kMaxExtent, {}}, {kChannel, 4, {}}},
      {}, 1, "layout_c5", "more with extent 1099511627776");
}

TEST(LayoutErrorTest, C6TheAlignmentIsAPowerOfTwoInRange) {
  for (int64_t align : {0, -16, 3, 24, 8192})
    expectError({unit(kBlock), unit(kToken), unit(kChannel)}, {}, align,
                "layout_c6", std::to_string(align));
}

} // namespace
