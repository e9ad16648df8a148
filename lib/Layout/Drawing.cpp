// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Layout/Drawing.h"

#include "kvcache/Layout/Facts.h"
#include "kvcache/Layout/Orders.h"
#include "kvcache/Layout/Transfers.h"

#include <algorithm>

namespace kvcache {

namespace {

//===----------------------------------------------------------------------===//
// A small cache of the same order
//===----------------------------------------------------------------------===//

bool hasGap(const Layout &layout, unsigned i) {
  if (layout.dim(i).extent == 1)
    return false;
  std::optional<unsigned> faster = fasterAxis(layout, i);
  return faster ? !layout.isPackedOver(i, *faster) : layout.stride(i) != 1;
}

Layout shrink(const Layout &layout) {
  std::vector<LayoutDim> dims = layout.listing();
  unsigned fastest = layout.orderAt(layout.rank() - 1);
  bool areChannelsOneCell =
      dims[fastest].axis.kind == AxisKind::Channel && !hasGap(layout, fastest);
  int64_t compact = 1;
  for (unsigned k = layout.rank(); k-- > 0;) {
    unsigned i = layout.orderAt(k);
    bool isOne = dims[i].extent == 1 || (i == fastest && areChannelsOneCell);
    int64_t stride = compact + hasGap(layout, i);
    dims[i].extent = isOne ? 1 : 2;
    dims[i].stride = StrideFact::constant(stride);
    if (!isOne)
      compact = 2 * stride;
  }
  std::string error;
  return *Layout::get(dims, layout.orderAxes(), /*align=*/1, error);
}

/// The indices of the elements of the small cache by their place in memory;
/// nothing in gaps.
using Cells = std::vector<std::optional<std::vector<int64_t>>>;

Cells cellsOf(const Layout &small) {
  Cells cells;
  std::vector<int64_t> indices(small.rank(), 0);
  while (true) {
    size_t place = 0;
    for (unsigned i = 0; i < small.rank(); ++i)
      place += indices[i] * *small.stride(i);
    cells.resize(std::max(cells.size(), place + 1));
    cells[place] = indices;
    unsigned i = 0;
    while (i < small.rank() && ++indices[i] == small.dim(i).extent)
      indices[i++] = 0;
    if (i == small.rank())
      return cells;
  }
}

//===----------------------------------------------------------------------===//
// Axes
//===----------------------------------------------------------------------===//

std::string nameOf(const Axis &axis) {
  static const char *const names[] = {"layers", "sides", "blocks",
                                      "tokens", "heads", "channels"};
  return axis.str() + " " + names[static_cast<unsigned>(axis.kind)];
}

std::string factText(StrideFact fact, int64_t times) {
  std::string value = std::to_string(fact.value * times);
  return fact.kind == StrideFact::Kind::Constant ? value : "?*" + value;
}

std::string axisCells(const Cells &cells, unsigned i, bool isSide) {
  std::string line;
  for (const auto &cell : cells)
    line += !cell ? '.' : (isSide ? "kv" : "01")[(*cell)[i]];
  return line;
}

Drawing::AxisLine axisLine(const Layout &layout, const Layout &small,
                           const Cells &cells, unsigned i,
                           int64_t elementBytes) {
  const LayoutDim &dim = layout.dim(i);
  Drawing::AxisLine line;
  line.name = nameOf(dim.axis);
  line.extent = dim.extent == kRunTime ? "?" : std::to_string(dim.extent);
  line.step = factText(explicitStride(layout, i), elementBytes);
  if (small.dim(i).extent != 1)
    line.cells = axisCells(cells, i, dim.axis.kind == AxisKind::Side);
  return line;
}

//===----------------------------------------------------------------------===//
// Parts
//===----------------------------------------------------------------------===//

/// A part of a cache: all but these axes move.
struct Part {
  const char *name;
  AxisSet fixed;
};

bool hasMany(const Layout &layout, AxisKind kind) {
  return layout.has(kind) && layout.extent(kind) != 1;
}

std::vector<Part> partsOf(const Layout &layout) {
  using K = AxisKind;
  bool hasLayers = hasMany(layout, K::Layer);
  bool hasSides = hasMany(layout, K::Side);
  std::vector<Part> parts = {{"a block", {K::Block}}};
  if (hasLayers)
    parts.push_back({"a layer of a block", {K::Block, K::Layer}});
  if (hasSides)
    parts.push_back({"the keys of a block", {K::Block, K::Side}});
  if (hasMany(layout, K::Head))
    parts.push_back({"a head of a block", {K::Block, K::Head}});
  parts.push_back({hasSides ? "the key of a token" : "a token",
                   {K::Layer, K::Side, K::Block, K::Token}});
  if (hasLayers)
    parts.push_back({"a layer", {K::Layer}});
  return parts;
}

AxisSet movedAxes(const Layout &layout, AxisSet fixed) {
  AxisSet moved;
  for (unsigned i = 0; i < layout.rank(); ++i)
    if (!fixed.contains(layout.dim(i).axis.kind))
      moved.insert(layout.dim(i).axis.kind);
  return moved;
}

/// Runs of which each begins where the last one ends are one, of a length that
/// is known in a call.
bool isOneRun(const Transfer &transfer) {
  return transfer.loops.size() == 1 && transfer.runs == kRunTime &&
         transfer.loops[0].stride == StrideFact::constant(transfer.runElements);
}

std::string transferText(const Layout &layout, AxisSet moved,
                         int64_t elementBytes) {
  std::string why;
  std::optional<Transfer> transfer =
      transferOf(layout, moved, {}, elementBytes, why);
  if (!transfer)
    return why;
  std::string bytes = std::to_string(transfer->runElements * elementBytes);
  if (isOneRun(*transfer))
    return "1 x ?*" + bytes;
  return (transfer->runs == kRunTime ? "?" : std::to_string(transfer->runs)) +
         " x " + bytes;
}

std::string partCells(const Layout &small, const Cells &cells, AxisSet fixed) {
  std::string line;
  for (const auto &cell : cells) {
    bool isPart = cell.has_value();
    for (unsigned i = 0; i < small.rank() && isPart; ++i)
      isPart = !fixed.contains(small.dim(i).axis.kind) || (*cell)[i] == 0;
    line += !cell ? '.' : (isPart ? '#' : '-');
  }
  return line;
}

//===----------------------------------------------------------------------===//
// Text
//===----------------------------------------------------------------------===//

const char *const kNotes[] = {
    "At most two of each axis, as they lie in memory; gaps are dots.",
    "? is known in a call only, and ?*32 is a multiple of 32."};

/// Columns of text, each as wide as its longest entry.
class Columns {
public:
  void row(std::vector<std::string> entries) {
    widths.resize(std::max(widths.size(), entries.size()));
    for (size_t i = 0; i < entries.size(); ++i)
      widths[i] = std::max(widths[i], entries[i].size());
    rows.push_back(std::move(entries));
  }

  /// `isNumber`: by column, whether entries are at the right.
  std::string str(const std::vector<bool> &isNumber) const {
    std::string text;
    for (const std::vector<std::string> &row : rows) {
      std::string line;
      for (size_t i = 0; i < row.size(); ++i) {
        std::string blanks(widths[i] - row[i].size(), ' ');
        line += "  " + (isNumber[i] ? blanks + row[i] : row[i] + blanks);
      }
      text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
    }
    return text;
  }

private:
  std::vector<std::vector<std::string>> rows;
  std::vector<size_t> widths;
};

//===----------------------------------------------------------------------===//
// SVG
//===----------------------------------------------------------------------===//

std::string escape(std::string_view text) {
  std::string escaped;
  for (char c : text)
    escaped += c == '<'   ? "&lt;"
               : c == '>' ? "&gt;"
               : c == '&' ? "&amp;"
                          : std::string(1, c);
  return escaped;
}

/// Lines of cells below each other.
class Svg {
public:
  explicit Svg(size_t cells) : numCells(cells) {}

  void text(int x, std::string_view words, bool isBold = false) {
    body += "<text x=\"" + std::to_string(x) + "\" y=\"" +
            std::to_string(y + kCell - 4) + "\"" +
            (isBold ? " font-weight=\"bold\"" : "") + ">" + escape(words) +
            "</text>\n";
    right = std::max(right, x + 8 * static_cast<int>(words.size()));
  }

  /// Neighbors of one color are one rectangle.
  void cells(const std::string &line) {
    for (size_t first = 0, end = 0; first < line.size(); first = end) {
      while (end < line.size() && line[end] == line[first])
        ++end;
      if (const char *color = colorOf(line[first]))
        body += "<rect x=\"" + std::to_string(kLeft + kCell * first) +
                "\" y=\"" + std::to_string(y) + "\" width=\"" +
                std::to_string(kCell * (end - first) - 1) + "\" height=\"" +
                std::to_string(kCell) + "\" fill=\"" + color + "\"/>\n";
    }
  }

  void next() { y += kCell + 6; }

  int rightOfCells() const {
    return kLeft + kCell * static_cast<int>(numCells) + 12;
  }

  std::string str() const {
    std::string width = std::to_string(right + 16);
    std::string height = std::to_string(y + 10);
    return "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + width +
           "\" height=\"" + height + "\" viewBox=\"0 0 " + width + " " +
           height +
           "\" font-family=\"monospace\" font-size=\"13\">\n"
           "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n" +
           body + "</svg>\n";
  }

private:
  static const char *colorOf(char c) {
    switch (c) {
    case '0':
    case 'k':
      return "#1f5fa8";
    case '1':
    case 'v':
      return "#9cc3ec";
    case '#':
      return "#c2410c";
    case '-':
      return "#e5e7eb";
    default:
      return nullptr;
    }
  }

  static constexpr int kCell = 16;
  static constexpr int kLeft = 340;

  size_t numCells;
  std::string body;
  int y = 10;
  int right = 0;
};

} // namespace

Drawing drawingOf(const Layout &layout, int64_t elementBytes) {
  Layout small = shrink(layout);
  Cells cells = cellsOf(small);
  Drawing drawing;
  for (const Axis &axis : layout.orderAxes()) {
    drawing.order += (drawing.order.empty() ? "" : ", ") + axis.str();
    drawing.axes.push_back(
        axisLine(layout, small, cells, *layout.find(axis), elementBytes));
  }
  if (std::optional<std::string_view> name = nameOfOrder(layout.orderAxes()))
    drawing.order += " (" + std::string(*name) + ")";
  for (const Part &part : partsOf(layout))
    drawing.parts.push_back(
        {part.name, partCells(small, cells, part.fixed),
         transferText(layout, movedAxes(layout, part.fixed), elementBytes)});
  return drawing;
}

std::string drawText(const Drawing &drawing, std::string_view title) {
  Columns axes, parts;
  axes.row({"axis", "extent", "bytes apart", ""});
  for (const Drawing::AxisLine &line : drawing.axes)
    axes.row({line.name, line.extent, line.step, line.cells});
  parts.row({"part", "", "runs x bytes"});
  for (const Drawing::PartLine &line : drawing.parts)
    parts.row({line.name, line.cells, line.transfer});
  return std::string(title) +
         "\n\nFrom the slowest axis to the fastest: " + drawing.order + "\n" +
         kNotes[0] + "\n" + kNotes[1] + "\n\n" +
         axes.str({false, true, true, false}) + "\n" +
         parts.str({false, false, false});
}

std::string drawSvg(const Drawing &drawing, std::string_view title) {
  Svg svg(drawing.parts.front().cells.size());
  svg.text(10, title, /*isBold=*/true);
  svg.next();
  svg.text(10, "From the slowest axis to the fastest: " + drawing.order);
  svg.next();
  for (const char *note : kNotes) {
    svg.text(10, note);
    svg.next();
  }
  svg.next();
  svg.text(10, "axis", true);
  svg.text(130, "extent", true);
  svg.text(210, "bytes apart", true);
  svg.next();
  for (const Drawing::AxisLine &line : drawing.axes) {
    svg.text(10, line.name);
    svg.text(130, line.extent);
    svg.text(210, line.step);
    svg.cells(line.cells);
    svg.next();
  }
  svg.next();
  svg.text(10, "part", true);
  svg.text(svg.rightOfCells(), "runs x bytes", true);
  svg.next();
  for (const Drawing::PartLine &line : drawing.parts) {
    svg.text(10, line.name);
    svg.cells(line.cells);
    svg.text(svg.rightOfCells(), line.transfer);
    svg.next();
  }
  return svg.str();
}

} // namespace kvcache
