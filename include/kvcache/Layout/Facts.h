// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Implication between layouts. A layout is a set of facts about extents,
// strides and the alignment of the base; a cast may drop facts, and may add
// them only where they were checked.
//
//   fact of the second       is implied by
//   extent ?                 any extent
//   extent 16                extent 16
//   stride compact           compact over the same axis, or the same number
//   stride 1048576           a stride that is known to be 1048576
//   stride ? mult 16         a stride that is known to be a multiple of 16
//   align 16                 align 16, 32, ...
//
// Both layouts have the same axes in the same order. The place of an axis of
// extent 1 in the order is not a fact.
//
// An axis whose extent is 1 only in a call has no meaningful stride there. An
// axis that is compact over it has a stride that it could have:
//
//   S compact over ?B, B = ? mult 16    of one block, S is a multiple of 16
//   S compact over ?B, B = 48           of one block, S is 48
//
// So a fact about B is also one about S, and must not be taken from a layout in
// which S is not compact.
//
// Code for a layout is also correct for one that implies it, so a program may
// test for more facts than its type has and continue with a more precise type:
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

/// Whether the facts of `weaker` hold for every buffer that `stronger`
/// describes. If not, `why` names the first fact that is not implied.
bool implies(const Layout &stronger, const Layout &weaker, std::string &why);
inline bool implies(const Layout &stronger, const Layout &weaker) {
  std::string why;
  return implies(stronger, weaker, why);
}

/// A layout that both imply, with the order of `a`: the facts known where two
/// paths join. Nothing if the axes or their order differ. A fact of both is
/// kept, and otherwise replaced by the next weaker one, in the sequence
/// compact, constant, multiple. (There is no best one: neither "compact over
/// ?N" nor "? mult 16384" implies the other, and the first is kept.)
std::optional<Layout> join(const Layout &a, const Layout &b);

/// The layout with the facts of both: what is known of a buffer that both
/// describe. `a` is used where the facts of both together imply more about an
/// axis than each alone. Nothing if the axes or their order differ, or if no
/// such buffer exists.
std::optional<Layout> meet(const Layout &a, const Layout &b);

/// The next faster axis that has more than one index, or may have: one of
/// extent 1 between two others changes no stride.
std::optional<unsigned> fasterAxis(const Layout &layout, unsigned i);

/// Whether a slower axis is compact over this one, so that it has the stride of
/// this one if the extent turns out to be 1.
bool isSpannedByCompact(const Layout &layout, unsigned i);

/// Whether no buffer with axes longer than 1 has the extents and strides of
/// both. Precondition: both have the same axes.
bool contradict(const Layout &a, const Layout &b);

/// The same for two strides of an axis, neither of them compact: see
/// `explicitStride`.
bool implies(const StrideFact &stronger, const StrideFact &weaker);
bool contradict(const StrideFact &a, const StrideFact &b);

/// The facts of a layout and stride(B) = N * stride(N). Nothing if B and N
/// cannot have such strides, with the reason in `why`.
std::optional<Layout> assumeFlat(const Layout &layout, std::string &why);

/// The facts of a layout, and that run-time strides are compact, or multiples
/// of `multiple`. Nothing if there are no run-time strides, or if nothing would
/// be added.
std::optional<Layout> assumeCompact(const Layout &layout);
std::optional<Layout> assumeMultiple(const Layout &layout, int64_t multiple);

/// The facts of a layout, and this value for stride(B), which is a run-time
/// stride.
std::optional<Layout> assumeBlockStride(const Layout &layout, int64_t stride);

} // namespace kvcache

#endif // KVCACHE_LAYOUT_FACTS_H
