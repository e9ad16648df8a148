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
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LAYOUT_FACTS_H
#define KVCACHE_LAYOUT_FACTS_H

#include "kvcache/Layout/Layout.h"

namespace kvcache {

/// Are the facts of `weaker` true of every buffer that `stronger` describes,
/// with the canonical strides of its axes of extent 1? If not, `why` names the
/// first fact that is not implied.
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

} // namespace kvcache

#endif // KVCACHE_LAYOUT_FACTS_H
