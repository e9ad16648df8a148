// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Names of memory orders.
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
//   LBNHC             L B N H S D     and head are adjacent
//   LHBNC             L H B N S D
//   BLHNC             B L H N S D
//   BLNHC             B L N H S D
//   BHLNC             B H L N S D
//   x_packed_key      B H D.o N D.i   D.i channels (often 16 bytes) per token
//   x_packed_value    B H D N         tokens fastest
//
// A cache need not have all axes of a name: `nhd` of a key cache alone is B N H
// D, and `hnd` of one without heads is S B N D. Several names may then mean the
// same order; the first one in the table is used.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LAYOUT_ORDERS_H
#define KVCACHE_LAYOUT_ORDERS_H

#include "kvcache/Layout/Layout.h"

namespace kvcache {

/// All names, in the sequence of the table.
std::vector<std::string_view> orderNames();

/// The order of this name with all its axes; nothing if there is no such name.
/// Names are case-sensitive.
std::optional<std::vector<Axis>> orderByName(std::string_view name);

/// The order of this name without the axes that are not among `axes`. Nothing
/// if there is no such name, or if it does not include one of `axes`.
std::optional<std::vector<Axis>> orderByName(std::string_view name,
                                             const std::vector<Axis> &axes);

/// The first name with this order, ignoring absent axes.
std::optional<std::string_view> nameOfOrder(const std::vector<Axis> &order);

} // namespace kvcache

#endif // KVCACHE_LAYOUT_ORDERS_H
