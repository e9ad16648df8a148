// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Names of memory orders, and the way back from the strides of a buffer.
//
// An order lists axes from slowest to fastest. These have names:
//
//   nhd               S B N H D       each side packed, tokens before heads
//   hnd               S B H N D       each side packed, heads before tokens
//   paired_nhd        B S N H D       keys and values of a block together
//   paired_hnd        B S H N D
//   cross_layer_nhd   B L S N H D     all layers of a block together
//   cross_layer_hnd   B H L S N D     ... and of a head of the block
//   LBHNC             L B H N S D     C, content: key and value of one token
//   LBNHC             L B N H S D     and head lie side by side
//   LHBNC             L H B N S D
//   BLHNC             B L H N S D
//   BLNHC             B L N H S D
//   BHLNC             B H L N S D
//   x_packed_key      B H D.o N D.i   D.i channels (often 16 bytes) per token
//   x_packed_value    B H D N         tokens fastest
//
// A cache need not have all axes of a name: `nhd` of a key cache alone is
// B N H D, and `hnd` of one without heads is S B N D. Several names can then
// say the same; the first of the table is the one that is given.
//
// The way back takes extents and strides as a tensor library reports them:
//
//   axes      B      S      N     H    D
//   extent    100    2      16    1    128
//   stride    65536  2048   128   7    1
//
// is paired_nhd with the stride fact B = 65536 (packed would be 4096). The
// stride of H has no meaning, as H has one index only; by the strides alone it
// is paired_hnd just as well.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LAYOUT_ORDERS_H
#define KVCACHE_LAYOUT_ORDERS_H

#include "kvcache/Layout/Layout.h"

namespace kvcache {

/// All names, in the sequence of the table.
std::vector<std::string_view> orderNames();

/// The order of that name with all its axes; nothing if there is no such name.
/// Names are case-sensitive.
std::optional<std::vector<Axis>> orderByName(std::string_view name);

/// The order of that name without the axes that are not among `axes`. Nothing
/// if there is no such name, or if `axes` has one that the name does not place.
std::optional<std::vector<Axis>> orderByName(std::string_view name,
                                             const std::vector<Axis> &axes);

/// The first name whose order is this one, absent axes left out.
std::optional<std::string_view> nameOfOrder(const std::vector<Axis> &order);

/// All names whose order this layout has, in the sequence of the table. Axes
/// of extent 1 are in every place at once.
std::vector<std::string_view> namesOf(const Layout &layout);

/// One dimension of a buffer, as a tensor library reports it.
struct BufferDim {
  Axis axis;
  int64_t extent = 1;
  /// In elements. Has no meaning where the extent is 1.
  int64_t stride = 1;
};

/// The layout of a buffer with these dimensions, given in any sequence: the
/// order follows from the strides, and what is no compact stride is a constant.
/// Axes of extent 1 are placed so that the order has a name if it can, as
/// listed if it can, and slowest otherwise.
///
/// Nothing, and a message in `why`, where no layout has these strides: two axes
/// overlap, a stride is not positive, an axis starts inside of what faster axes
/// span, or a rule of Layout::get is broken (the message then begins with its
/// label).
std::optional<Layout> layoutOfBuffer(const std::vector<BufferDim> &dims,
                                     int64_t align, std::string &why);

} // namespace kvcache

#endif // KVCACHE_LAYOUT_ORDERS_H
