// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Random layouts for tests against plain enumeration. A random *instance* has
// every extent and stride; a *layout* is what remains when some of them are
// declared as known at run time only. Whatever the layout proves must be true
// of the instance, and where nothing was left open it must be exact.

#ifndef KVCACHE_TEST_UNIT_LAYOUTSAMPLES_H
#define KVCACHE_TEST_UNIT_LAYOUTSAMPLES_H

#include "kvcache/Layout/Layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <random>
#include <set>

namespace layout_test {

using kvcache::Axis;
using kvcache::AxisKind;
using kvcache::AxisPart;
using kvcache::AxisSet;
using kvcache::kMaxExtent;
using kvcache::kRunTime;
using kvcache::Layout;
using kvcache::LayoutDim;
using kvcache::StrideFact;

constexpr AxisKind kAllKinds[] = {AxisKind::Layer, AxisKind::Side,
                                  AxisKind::Block, AxisKind::Token,
                                  AxisKind::Head,  AxisKind::Channel};
constexpr int kLayouts = 4000;
constexpr int64_t kMaxElements = 1500;

/// The offsets of the elements of an axis at each of several places.
inline std::vector<int64_t> spread(const std::vector<int64_t> &bases,
                                   int64_t extent, int64_t stride) {
  std::vector<int64_t> result;
  for (int64_t base : bases)
    for (int64_t index = 0; index < extent; ++index)
      result.push_back(base + index * stride);
  return result;
}

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
    for (unsigned i : order)
      if (which(i))
        result = spread(result, extents[i], strides[i]);
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

inline std::string describe(const Sample &sample) {
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

inline Instance randomInstance(Random &random) {
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
inline Sample randomSample(Random &random) {
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

inline void
forEachSample(unsigned seed,
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

/// The same kinds twice: an AxisSet cannot be enumerated.
struct Moved {
  AxisSet set;
  std::set<AxisKind> kinds;
};

inline Moved randomMoved(Random &random) {
  Moved moved;
  for (AxisKind kind : kAllKinds) {
    if (!random.percent(60))
      continue;
    moved.kinds.insert(kind);
    moved.set.insert(kind);
  }
  return moved;
}

} // namespace layout_test

#endif // KVCACHE_TEST_UNIT_LAYOUTSAMPLES_H
