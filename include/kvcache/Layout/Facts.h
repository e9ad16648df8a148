// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which layout says more. A layout is a set of facts about extents, strides and
// the alignment of the base; a cast may forget facts, and may add them only
// where they were checked.
//
//   fact of the second       is implied by
//   extent ?                 any extent
//   extent 16                extent 16
//   stride compact           compact over the same axis, or the same number
//   stride 1048576           a stride that is known to be 1048576
//   stride ? mult 16         a stride that is known to be a multiple of 16
//   align 16                 align 16, 32, ...
//
// Both layouts have the same axes in the same order. Where an axis of extent 1
// stands in the order is no fact.
//
// An axis whose extent is 1 in a call only has no stride there. What is compact
// over it has one that such an axis could have:
//
//   S compact over ?B, B = ? mult 16    of one block, S is a multiple of 16
//   S compact over ?B, B = 48           of one block, S is 48
//
// So a fact about B is one about S, and must not come from where S is not
// compact.
//
// Code for a layout is also right for one that implies it, so a program may
// test for more facts than its type has and go on with a more precise one:
//
//   2S x ?B x 16N x 8H x 128D, strides = [S = ?, B = ?]
//     assumeCompact       strides = []
//     assumeMultiple 16   strides = [S = ? mult 16, B = ? mult 16]
//     assumeFlat          strides = [S = ?]
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LAYOUT_FACTS_H
#define KVCACHE_LAYOUT_FACTS_H

#include "kvcache/Layout/Layout.h"

namespace kvcache {

/// Are the facts of `weaker` true of every buffer that `stronger` describes? If
/// not, `why` names the first fact that is not implied.
bool implies(const Layout &stronger, const Layout &weaker, std::string &why);
inline bool implies(const Layout &stronger, const Layout &weaker) {
  std::string why;
  return implies(stronger, weaker, why);
}

/// A layout that both imply, with the order of `a`: what is known where two
/// paths meet. Nothing if the axes or their order differ. Each fact is kept as
/// it is if both have it, and becomes the next weaker one if they do not, in
/// the sequence compact, constant, multiple. (There is no best one: of
/// "compact over ?N" and "? mult 16384" neither implies the other, and the
/// first is kept.)
std::optional<Layout> join(const Layout &a, const Layout &b);

/// The layout with the facts of both: what is known of a buffer that both
/// describe, and `a` where facts of both would together say more of an axis
/// than each does. Nothing if the axes or their order differ, or if no buffer
/// is like that.
std::optional<Layout> meet(const Layout &a, const Layout &b);

/// Whether a slower axis is compact over this one, so that it has the stride of
/// this one where the extent turns out to be 1.
bool isSpannedByCompact(const Layout &layout, unsigned i);

/// No buffer whose axes are longer than 1 has the extents and strides of both.
/// Precondition: both have the same axes.
bool contradict(const Layout &a, const Layout &b);

/// The facts of a layout and that stride(B) = N * stride(N). Nothing if B and N
/// have no such stride, and `why` says so.
std::optional<Layout> assumeFlat(const Layout &layout, std::string &why);

/// The facts of a layout and that strides known at run time only are what
/// compact means; or that they are multiples of `multiple`. Nothing where no
/// stride is known at run time only, or where nothing would be added.
std::optional<Layout> assumeCompact(const Layout &layout);
std::optional<Layout> assumeMultiple(const Layout &layout, int64_t multiple);

/// The facts of a layout and that stride(B), which is known at run time only,
/// is this number.
std::optional<Layout> assumeBlockStride(const Layout &layout, int64_t stride);

} // namespace kvcache

#endif // KVCACHE_LAYOUT_FACTS_H
