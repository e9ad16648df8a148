// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Drawings of layouts, for people: which axis is fastest, and where the parts
// of a cache are in memory.
//
// A drawing shows a small cache of the same order: at most two of each axis,
// and one cell for the channels of a token and head where these are contiguous.
// Cells follow each other as in memory. A gap of any size is one empty cell.
// The transfers of parts are those of the layout itself.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LAYOUT_DRAWING_H
#define KVCACHE_LAYOUT_DRAWING_H

#include "kvcache/Layout/Layout.h"

namespace kvcache {

struct Drawing {
  /// An axis, in the sequence of the order.
  struct AxisLine {
    std::string name;   ///< `L layers`
    std::string extent; ///< `?` if known only in a call
    /// The distance of two indices in bytes: `?*32` is a multiple of 32.
    std::string step;
    /// The index in each cell, `.` in gaps; empty if there is one index.
    std::string cells;
  };
  /// Something that is moved as a whole.
  struct PartLine {
    std::string name;     ///< `a block`
    std::string cells;    ///< `#` where its first one is, `-` elsewhere
    std::string transfer; ///< `64 x 32768`: runs, and bytes of each
  };
  std::string order;
  std::vector<AxisLine> axes;
  std::vector<PartLine> parts;
};

/// Precondition: elementBytes > 0.
Drawing drawingOf(const Layout &layout, int64_t elementBytes);

/// A drawing for a terminal, and one in SVG. The title is that of the layout,
/// such as its type.
std::string drawText(const Drawing &drawing, std::string_view title);
std::string drawSvg(const Drawing &drawing, std::string_view title);

} // namespace kvcache

#endif // KVCACHE_LAYOUT_DRAWING_H
