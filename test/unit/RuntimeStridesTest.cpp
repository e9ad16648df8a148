// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The run time checks strides in C. What it accepts is what Layout accepts, and
// the strides that it hands to compiled code are those that Layout allows.

#include "LayoutOffsets.h"
#include "LayoutSamples.h"

#include "../../lib/Runtime/kvrt_records.h"
#include "kvcache/Layout/Numbers.h"
#include "kvcache/Runtime/kv_abi.h"

#include <cstdarg>
#include <cstdio>

static char lastError[512];

extern "C" {
int32_t kvrt_prepare(const kvrt_function *function, void *const *args,
                     int64_t *frame, int32_t *device_id);

int32_t kvrt_fail(int32_t code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(lastError, sizeof lastError, format, arguments);
  va_end(arguments);
  return code;
}
}

namespace layout_test {
namespace {

using Numbers = std::vector<int64_t>;

/// As a signature has them.
std::vector<kvrt_dim> recordsOf(const Layout &layout) {
  std::vector<kvrt_dim> records;
  for (unsigned i = 0; i < layout.rank(); ++i) {
    const LayoutDim &dim = layout.dim(i);
    std::optional<unsigned> next = layout.nextFaster(i);
    kvrt_dim record = {};
    record.extent = dim.extent == kRunTime ? KVRT_ANY : dim.extent;
    record.constant = dim.stride.kind == StrideFact::Kind::Constant
                          ? dim.stride.value
                          : KVRT_ANY;
    record.multiple =
        dim.stride.kind == StrideFact::Kind::RunTime ? dim.stride.value : 1;
    record.compact = dim.stride.kind == StrideFact::Kind::Compact;
    record.next = next ? int32_t(*next) : -1;
    record.symbol = -1;
    records.push_back(record);
  }
  return records;
}

/// The strides that compiled code gets of a tensor; nothing if it is refused.
std::optional<Numbers> prepare(const Layout &layout, Numbers extents,
                               Numbers strides) {
  std::vector<kvrt_dim> records = recordsOf(layout);
  kvrt_arg arg = {};
  arg.name = "pool";
  arg.dims = records.data();
  arg.kind = KVRT_TENSOR;
  arg.rank = layout.rank();
  arg.dtype_code = kDLInt;
  arg.dtype_bits = 8;
  arg.device = kDLCPU;
  arg.align = 1;
  kvrt_function function = {};
  function.args = &arg;
  function.num_args = 1;
  DLTensor tensor = {};
  char byte;
  tensor.data = &byte;
  tensor.device = {kDLCPU, 0};
  tensor.ndim = layout.rank();
  tensor.dtype = {kDLInt, 8, 1};
  tensor.shape = extents.data();
  tensor.strides = strides.data();
  void *args[] = {&tensor};
  int32_t device;
  Numbers frame(3 + 2 * layout.rank());
  if (kvrt_prepare(&function, args, frame.data(), &device) != KV_OK)
    return std::nullopt;
  return Numbers(frame.end() - layout.rank(), frame.end());
}

/// A stride that may be right, nearly right, or anything.
int64_t someStride(Random &random, int64_t right) {
  const int64_t hostile[] = {0,
                             -8,
                             kMaxExtent,
                             kMaxExtent + 1,
                             int64_t(1) << 62,
                             std::numeric_limits<int64_t>::max(),
                             std::numeric_limits<int64_t>::min()};
  constexpr int64_t kMost = int64_t(1) << 60;
  right = std::clamp(right, -kMost, kMost);
  int kind = random.between(0, 9);
  int64_t stride = kind == 0  ? hostile[random.between(0, 6)]
                   : kind < 4 ? right + random.between(-4, 4)
                   : kind < 5 ? right * random.between(2, 4)
                   : kind < 6 ? right / random.between(2, 8)
                              : right;
  // Layout takes kRunTime for a stride that nobody gave.
  return stride == kRunTime ? -2 : stride;
}

bool isBelowOneIndex(const Layout &layout, const Numbers &strides,
                     const Numbers &extents) {
  for (unsigned i = 0; i < layout.rank(); ++i) {
    std::optional<unsigned> faster = layout.nextFaster(i);
    if (faster && extents[*faster] == 1 && strides[i] < strides[*faster])
      return true;
  }
  return false;
}

TEST(RuntimeStridesTest, TheRunTimeAcceptsWhatLayoutAccepts) {
  int accepted = 0, refused = 0, units = 0, huge = 0, stricter = 0;
  auto check = [&](const Sample &sample, Random &random) {
    const Layout &layout = *sample.layout;
    Numbers extents = sample.instance.extents,
            strides = sample.instance.strides;
    bool isHuge = random.percent(10);
    for (unsigned i = 0; i < layout.rank(); ++i)
      if (layout.dim(i).extent == kRunTime && isHuge)
        extents[i] = kMaxExtent + (random.percent(5) ? 1 : 0);
      else if (layout.dim(i).extent == kRunTime && random.percent(30))
        extents[i] = random.percent(50) ? 1 : random.between(2, 12);
    for (unsigned k = 1; k < layout.rank(); ++k) {
      unsigned i = layout.orderAt(layout.rank() - 1 - k),
               faster = *layout.nextFaster(i);
      if (layout.dim(i).stride.kind == StrideFact::Kind::Compact)
        strides[i] =
            kvcache::Integers().mulSat(extents[faster], strides[faster]);
    }
    if (random.percent(60)) {
      unsigned some = random.between(0, layout.rank() - 1);
      strides[some] = someStride(random, strides[some]);
    }
    // Nobody looks at the stride of one index.
    for (unsigned i = 0; i < layout.rank(); ++i)
      if (extents[i] == 1)
        strides[i] = someStride(random, strides[i]);

    std::string why;
    std::optional<Numbers> expected =
        concreteStrides(layout, extents, strides, why);
    std::optional<Numbers> got = prepare(layout, extents, strides);
    std::string text = why + "\n" + lastError + "\n";
    for (unsigned i = 0; i < layout.rank(); ++i)
      text += layout.dim(i).axis.str() + " " + std::to_string(extents[i]) +
              " x " + std::to_string(strides[i]) + "\n";
    // The run time looks for the end of the address space instead.
    if (why.find("2^52") != std::string::npos) {
      ++huge;
      return;
    }
    // It is stricter where the type gives one index a stride of more than the
    // faster axes span: that counts as what the index spans.
    if (expected && !got && isBelowOneIndex(layout, *expected, extents)) {
      ++stricter;
      return;
    }
    ASSERT_EQ(got.has_value(), expected.has_value()) << text;
    ++(got ? accepted : refused);
    for (unsigned i = 0; got && i < layout.rank(); ++i) {
      if (extents[i] != 1)
        EXPECT_EQ((*got)[i], strides[i]) << text;
      if (std::optional<int64_t> known = layout.stride(i))
        EXPECT_EQ((*got)[i], *known) << text;
      EXPECT_EQ((*got)[i] % layout.strideMultiple(i), 0) << text;
      units += extents[i] == 1;
    }
  };
  for (unsigned seed = 70; seed < 80 && !HasFailure(); ++seed)
    forEachSample(seed, check);
  EXPECT_GT(accepted, 10000);
  EXPECT_GT(refused, 5000);
  EXPECT_GT(units, 10000);
  EXPECT_GT(huge, 100);
  EXPECT_LT(stricter, accepted / 1000);
}

} // namespace
} // namespace layout_test
