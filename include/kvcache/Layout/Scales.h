// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The scales of a cache: a second array over its axes. An axis whose indices
// share a scale has extent 1 there, and channels become groups of them:
//
//   2S x ?B x 16N x 8H x 128D, [B, S, N, H, D]
//     per S, B, N, H         2S x ?B x 16N x 8H x 1D, [B, S, N, H, D]
//     per S, B, N, H, D / 64 2S x ?B x 16N x 8H x 2D, [B, S, N, H, D]
//     per S, H               2S x 1B x 1N x 8H x 1D, [B, S, N, H, D]
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LAYOUT_SCALES_H
#define KVCACHE_LAYOUT_SCALES_H

#include "kvcache/Layout/Layout.h"

namespace kvcache {

/// An axis whose indices have scales of their own: each one, or of channels
/// each `group` of them.
struct ScaleAxis {
  AxisKind kind = AxisKind::Block;
  int64_t group = 1;

  bool operator==(const ScaleAxis &o) const {
    return kind == o.kind && group == o.group;
  }
};

/// What is known of the stride of scales along an axis.
struct ScaleStride {
  Axis axis;
  StrideFact stride;

  bool operator==(const ScaleStride &o) const {
    return axis == o.axis && stride == o.stride;
  }
};

/// The layout of the scales of a cache, in the order of the cache, where the
/// parts of a split D are one axis in the place of the slower one. Nothing if
/// they do not fit, and `why` says what was expected.
std::optional<Layout> scalesLayout(const Layout &stored,
                                   const std::vector<ScaleAxis> &per,
                                   const std::vector<ScaleStride> &strides,
                                   int64_t align, std::string &why);

/// What `strides` have to be for such a layout.
std::vector<ScaleStride> scaleStrides(const Layout &scales);

} // namespace kvcache

#endif // KVCACHE_LAYOUT_SCALES_H
