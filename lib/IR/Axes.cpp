// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Axes.h"

using namespace mlir;
using namespace kvcache;

std::string kvcache::axesWhere(const Layout &layout,
                               llvm::function_ref<bool(unsigned)> condition) {
  std::string text = "[";
  for (unsigned i = 0; i < layout.rank(); ++i)
    if (condition(i))
      text += (text.size() > 1 ? ", " : "") + layout.dim(i).axis.str();
  return text + "]";
}

std::string kvcache::axesStr(const Layout &layout) {
  return axesWhere(layout, [](unsigned) { return true; });
}

std::string kvcache::namesStr(ArrayAttr names) {
  std::string text = "[";
  for (StringAttr name : names.getAsRange<StringAttr>())
    text += (text.size() > 1 ? ", " : "") + name.str();
  return text + "]";
}

std::string kvcache::extentStr(int64_t extent) {
  return extent == kRunTime ? "?" : std::to_string(extent);
}

unsigned kvcache::dimOfAxis(std::optional<ArrayAttr> names,
                            const Layout &layout, unsigned i) {
  if (!names)
    return i;
  std::string axis = layout.dim(i).axis.str();
  for (auto [index, name] : llvm::enumerate(names->getAsRange<StringAttr>()))
    if (name.getValue() == axis)
      return index;
  llvm_unreachable("the verifier checks that each axis is named");
}

LogicalResult kvcache::verifyAxisNames(Operation *op,
                                       std::optional<ArrayAttr> names,
                                       const Layout &layout, StringRef label) {
  if (!names)
    return success();
  std::vector<Axis> named, expected;
  for (unsigned i = 0; i < layout.rank(); ++i)
    expected.push_back(layout.dim(i).axis);
  for (StringAttr name : names->getAsRange<StringAttr>())
    if (auto axis = Axis::parse(std::string_view(name.getValue())))
      named.push_back(*axis);
  llvm::sort(named);
  if (named == expected && names->size() == named.size())
    return success();
  return op->emitOpError() << label
                           << ": the dimensions are expected to be named by "
                           << axesStr(layout) << " in some sequence, got "
                           << namesStr(*names);
}
