// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache-c/Layout.h"

#include "Text.h"
#include "kvcache/IR/KVCache.h"
#include "kvcache/Layout/Drawing.h"
#include "kvcache/Layout/Transfers.h"
#include "kvcache/Registration/Registration.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "llvm/Support/raw_ostream.h"

#include <cstring>

using namespace mlir;
using namespace kvcache;

struct KvcLayout {
  Layout layout;
  int64_t elementBytes;
  std::string type;
};

namespace {

void setMessages(char **messages, StringRef text) {
  if (messages)
    *messages = copyText(text);
}

/// The type of a cache in a text; null, and the reason in `why`.
CacheType parseCache(StringRef text, MLIRContext &context, std::string &why) {
  ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
    why += (why.empty() ? "" : "\n") + diagnostic.str();
  });
  Type type = parseType(text, &context);
  auto cache = dyn_cast_or_null<CacheType>(type);
  if (type && !cache)
    why = "expected the type of a cache";
  return cache;
}

std::optional<AxisSet> parseMoved(StringRef letters, std::string &why) {
  AxisSet moved;
  for (char letter : letters) {
    std::optional<Axis> axis = Axis::parse(std::string_view(&letter, 1));
    if (!axis) {
      why = "expected letters of axes, got '" + letters.str() + "'";
      return std::nullopt;
    }
    moved.insert(axis->kind);
  }
  return moved;
}

std::optional<std::vector<AxisSlice>>
parseSlices(const KvcSlice *slices, size_t numSlices, std::string &why) {
  std::vector<AxisSlice> parsed;
  for (size_t i = 0; i < numSlices; ++i) {
    std::optional<Axis> axis = Axis::parse(slices[i].axis);
    if (!axis) {
      why = std::string("expected the name of an axis, got '") +
            slices[i].axis + "'";
      return std::nullopt;
    }
    for (const AxisSlice &other : parsed)
      if (other.axis == *axis) {
        why = "axis " + axis->str() + " has two slices";
        return std::nullopt;
      }
    parsed.push_back({*axis, slices[i].first, slices[i].count});
  }
  return parsed;
}

int64_t known(StrideFact stride) {
  return stride.kind == StrideFact::Kind::Constant ? stride.value
                                                   : KVC_RUN_TIME;
}

KvcTransfer convert(const Transfer &transfer, int64_t elementBytes) {
  KvcTransfer result = {};
  result.run_bytes = transfer.runElements * elementBytes;
  result.runs = transfer.runs;
  result.access_bytes = transfer.accessBytes;
  for (const StridedDim &loop : transfer.loops) {
    result.extents[result.num_loops] = loop.extent;
    result.strides[result.num_loops++] = known(loop.stride);
  }
  return result;
}

std::optional<Transfer> findTransfer(const KvcLayout &layout, StringRef moved,
                                     const KvcSlice *slices, size_t numSlices,
                                     std::string &why) {
  std::optional<AxisSet> axes = parseMoved(moved, why);
  if (!axes)
    return std::nullopt;
  std::optional<std::vector<AxisSlice>> parsed =
      parseSlices(slices, numSlices, why);
  if (!parsed)
    return std::nullopt;
  return transferOf(layout.layout, *axes, *parsed, layout.elementBytes, why);
}

} // namespace

static_assert(KVC_RUN_TIME == kRunTime && KVC_MAX_AXES == Layout::kMaxRank);

KvcLayout *kvcLayoutParse(const char *type, char **messages) {
  DialectRegistry registry;
  registerKVCacheDialect(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.loadDialect<KVCacheDialect>();
  std::string why;
  CacheType cache = parseCache(type ? type : "", context, why);
  setMessages(messages, why);
  if (!cache)
    return nullptr;
  std::string text;
  llvm::raw_string_ostream(text) << cache;
  return new KvcLayout{cache.getLayout(), cache.getElementBytes(), text};
}

void kvcLayoutFree(KvcLayout *layout) { delete layout; }

int32_t kvcLayoutRank(const KvcLayout *layout) {
  return static_cast<int32_t>(layout->layout.rank());
}

KvcAxis kvcLayoutAxis(const KvcLayout *layout, int32_t number) {
  const Layout &of = layout->layout;
  auto i = static_cast<unsigned>(number);
  KvcAxis axis = {};
  if (i >= of.rank())
    return axis;
  std::string name = of.dim(i).axis.str();
  memcpy(axis.name, name.data(), std::min(name.size(), sizeof axis.name - 1));
  while (of.orderAt(axis.place) != i)
    ++axis.place;
  axis.extent = of.dim(i).extent;
  axis.stride = known(explicitStride(of, i));
  axis.multiple = of.strideMultiple(i);
  return axis;
}

int64_t kvcLayoutElementBytes(const KvcLayout *layout) {
  return layout->elementBytes;
}

int32_t kvcLayoutTransfer(const KvcLayout *layout, const char *moved,
                          const KvcSlice *slices, size_t numSlices,
                          KvcTransfer *transfer, char **messages) {
  std::string why;
  std::optional<Transfer> found =
      findTransfer(*layout, moved, slices, numSlices, why);
  setMessages(messages, why);
  if (!found)
    return 1;
  *transfer = convert(*found, layout->elementBytes);
  return 0;
}

char *kvcLayoutDraw(const KvcLayout *layout, int32_t asSvg) {
  Drawing drawing = drawingOf(layout->layout, layout->elementBytes);
  return copyText(asSvg ? drawSvg(drawing, layout->type)
                        : drawText(drawing, layout->type));
}
