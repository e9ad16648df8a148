// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A report, as a table or as JSON, of what each operation derives from its
// layouts.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Transforms/Passes.h"

#include "kvcache/IR/KVCache.h"
#include "kvcache/Layout/Access.h"
#include "kvcache/Layout/Orders.h"
#include "kvcache/Layout/Transfers.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"

namespace kvcache {
#define GEN_PASS_DEF_LAYOUTREPORT
#include "kvcache/Transforms/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

namespace {

/// A number of bytes or operations, and for what.
struct Amount {
  int64_t count = 0;
  StringRef per;
};

/// One cache of one operation.
struct Line {
  std::string function, op, order, fastest;
  unsigned line = 0;
  std::string strides; ///< what is not compact
  int64_t runBytes = 0, runs = 0;
  int64_t accessBytes = 0;
  bool isFlat = false;
  int64_t descriptors = 0, descriptorBytes = 0; ///< when a block moves
  Amount bytes, flops;
  SmallVector<std::string> checks;
};

std::string orderStr(const Layout &layout) {
  if (std::optional<std::string_view> name = nameOfOrder(layout.orderAxes()))
    return std::string(*name);
  std::string text;
  for (const Axis &axis : layout.orderAxes())
    text += axis.str();
  return text;
}

std::string stridesStr(const Layout &layout) {
  std::string text;
  for (unsigned i = 0; i < layout.rank(); ++i) {
    const StrideFact &fact = layout.dim(i).stride;
    if (fact.kind == StrideFact::Kind::Compact || layout.dim(i).extent == 1)
      continue;
    text += (text.empty() ? "" : " ") + layout.dim(i).axis.str() + "=";
    if (fact.kind == StrideFact::Kind::Constant)
      text += std::to_string(fact.value);
    else
      text += fact.value == 1 ? "?" : "?*" + std::to_string(fact.value);
  }
  return text.empty() ? "packed" : text;
}

/// The axis that is contiguous, and how many of its elements.
std::string fastestStr(const Layout &layout) {
  for (unsigned k = layout.rank(); k-- > 0;) {
    const LayoutDim &dim = layout.dim(layout.orderAt(k));
    if (dim.extent == 1)
      continue;
    if (layout.stride(layout.orderAt(k)) != 1)
      return "none";
    return (dim.extent == kRunTime ? "?" : std::to_string(dim.extent)) +
           dim.axis.str();
  }
  return "none";
}

int64_t rowBytes(CacheType type) {
  int64_t bytes = type.getNumSides() * type.getElementBytes();
  for (int64_t extent : type.getRowShape())
    bytes *= extent;
  return bytes;
}

/// All of a block, 0 if an extent of it is not known.
int64_t blockBytes(CacheType type) {
  const Layout &layout = type.getLayout();
  int64_t bytes = type.getElementBytes();
  for (unsigned i = 0; i < layout.rank(); ++i) {
    if (layout.dim(i).axis.kind == AxisKind::Block)
      continue;
    if (layout.dim(i).extent == kRunTime)
      return 0;
    bytes *= layout.dim(i).extent;
  }
  return bytes;
}

struct LayoutReport : kvcache::impl::LayoutReportBase<LayoutReport> {
  using LayoutReportBase::LayoutReportBase;

  void runOnOperation() override {
    SmallVector<Line, 0> lines;
    getOperation().walk<WalkOrder::PreOrder>([&](Operation *op) {
      if (isa_and_present<KVCacheDialect>(op->getDialect()))
        describe(op, lines);
    });
    if (failed(write(lines)))
      signalPassFailure();
    markAllAnalysesPreserved();
  }

private:
  static Line begin(Operation *op, CacheType type, Moved moved) {
    Line line;
    if (auto function = op->getParentOfType<func::FuncOp>())
      line.function = function.getName().str();
    line.op = op->getName().stripDialect().str();
    if (auto place = op->getLoc()->findInstanceOf<FileLineColLoc>())
      line.line = place.getLine();
    const Layout &layout = type.getLayout();
    int64_t bytes = type.getElementBytes();
    LayoutAccess access = accessOf(layout, moved, bytes);
    Transfer block = blockTransfer(layout, bytes);
    line.order = orderStr(layout);
    line.strides = stridesStr(layout);
    line.fastest = fastestStr(layout);
    line.runBytes = access.runElements * bytes;
    line.runs = access.runs;
    line.accessBytes = access.accessBytes;
    line.isFlat = access.isFlat;
    line.descriptors = block.runs;
    line.descriptorBytes = block.runElements * bytes;
    return line;
  }

  static void describe(Operation *op, SmallVectorImpl<Line> &lines) {
    if (auto check = dyn_cast<ViewCheckOpInterface>(op))
      lines.emplace_back(begin(op, check.getCheckedType(), Moved::Block))
          .checks = check.getCallChecks();
    auto access = dyn_cast<CacheAccessOpInterface>(op);
    if (!access)
      return;
    for (const CacheUse &use : access.getCacheUses()) {
      Line &line = lines.emplace_back(begin(op, use.type, use.moved));
      int64_t bytes =
          use.moved == Moved::Block ? blockBytes(use.type) : rowBytes(use.type);
      line.bytes = {bytes, use.unit};
      line.flops = {use.flops, use.flopsUnit};
      if (!use.checked.empty())
        line.checks.push_back(use.checked.str());
    }
  }

  static std::string amountStr(const Amount &amount) {
    if (!amount.count)
      return "";
    return llvm::formatv("{0} per {1}", amount.count, amount.per);
  }

  static std::string numberStr(int64_t number) {
    return number == kRunTime ? "?" : std::to_string(number);
  }

  static void writeTable(ArrayRef<Line> lines, llvm::raw_ostream &os) {
    SmallVector<SmallVector<std::string>> rows = {
        {"line", "operation", "order", "strides", "fastest", "runs", "access",
         "rows", "block moves as", "bytes", "FLOPs", "checked in each call"}};
    SmallVector<size_t> widths(rows[0].size());
    SmallVector<std::string> functions = {""};
    for (const Line &line : lines) {
      rows.push_back(
          {line.line ? std::to_string(line.line) : "", line.op, line.order,
           line.strides, line.fastest,
           numberStr(line.runs) + " x " + std::to_string(line.runBytes),
           std::to_string(line.accessBytes), line.isFlat ? "flat" : "",
           numberStr(line.descriptors) + " x " +
               std::to_string(line.descriptorBytes),
           amountStr(line.bytes), amountStr(line.flops),
           llvm::join(line.checks, ", ")});
      functions.push_back(line.function);
    }
    for (const SmallVector<std::string> &row : rows)
      for (auto [i, cell] : llvm::enumerate(row))
        widths[i] = std::max(widths[i], cell.size());
    std::string function;
    auto print = [&](ArrayRef<std::string> row) {
      std::string text;
      for (auto [i, cell] : llvm::enumerate(row))
        text += cell + std::string(widths[i] - cell.size() + 2, ' ');
      os << StringRef(text).rtrim() << "\n";
    };
    for (auto [i, row] : llvm::enumerate(rows)) {
      if (i && functions[i] != function) {
        function = functions[i];
        os << (i == 1 ? "" : "\n") << "@" << function << "\n";
        print(rows[0]);
      }
      if (i)
        print(row);
    }
  }

  static void writeJson(ArrayRef<Line> lines, llvm::raw_ostream &os) {
    llvm::json::OStream json(os, 2);
    auto amount = [&](StringRef name, const Amount &value) {
      if (!value.count)
        return;
      json.attributeObject(name, [&] {
        json.attribute("count", value.count);
        json.attribute("per", value.per);
      });
    };
    auto number = [&](StringRef name, int64_t value) {
      if (value == kRunTime)
        json.attribute(name, nullptr);
      else
        json.attribute(name, value);
    };
    json.array([&] {
      for (const Line &line : lines)
        json.object([&] {
          json.attribute("function", line.function);
          json.attribute("operation", line.op);
          json.attribute("line", line.line);
          json.attribute("order", line.order);
          json.attribute("strides", line.strides);
          json.attribute("fastest", line.fastest);
          number("runs", line.runs);
          json.attribute("run_bytes", line.runBytes);
          json.attribute("access_bytes", line.accessBytes);
          json.attribute("flat", line.isFlat);
          number("descriptors_per_block", line.descriptors);
          json.attribute("descriptor_bytes", line.descriptorBytes);
          amount("bytes", line.bytes);
          amount("flops", line.flops);
          json.attributeArray("checks", [&] {
            for (const std::string &check : line.checks)
              json.value(check);
          });
        });
    });
    os << "\n";
  }

  LogicalResult write(ArrayRef<Line> lines) {
    if (format != "table" && format != "json")
      return getOperation().emitError()
             << "the format of a report is expected to be 'table' or 'json', "
                "got '"
             << format << "'";
    std::error_code error;
    llvm::raw_fd_ostream os(output, error, llvm::sys::fs::OF_Text);
    if (error)
      return getOperation().emitError() << "cannot write the report to '"
                                        << output << "': " << error.message();
    if (format == "json")
      writeJson(lines, os);
    else
      writeTable(lines, os);
    return success();
  }
};

} // namespace
