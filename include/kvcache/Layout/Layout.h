// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The algebra of paged cache layouts: plain C++, standard library only.
//
// A cache is an array over named axes. Each axis is one letter:
//
//   L layer   S side (0 key, 1 value)   B block   N token in the block
//   H KV head   D channel
//
// B, N and D are always present, the others are optional. An axis can be split
// into an outer and an inner part, written `D.o` and `D.i`: channel d is at D.o
// = d / extent(D.i), D.i = d % extent(D.i).
//
// A layout lists its axes in one canonical sequence, L S B N H D, so that equal
// layouts are spelled alike, and adds the two properties that determine the
// place of an element:
//
//   order    the axes from slowest to fastest
//   strides  for each axis what is known about its stride:
//              compact    the stride follows from the next faster axis:
//                         stride(a) = extent(b) * stride(b), and 1 for the
//                         fastest
//              constant   a number of elements
//              run time   unknown, but a multiple of k (k = 1: nothing known)
//
// Example: one layer of a pool that stores 32 layers of a block together.
//
//   axes  2S x ?B x 16N x 8H x 128D, order [B, S, N, H, D], stride B = 1048576
//
//   axis      D   H     N      S       B
//   stride    1   128   1024   16384   1048576   (packed would be 32768)
//
// Extents and strides count elements; offsets and alignments count bytes. An
// axis of extent 1 has the canonical (compact) stride whatever it was given.
// A stride multiple proves an alignment only together with the alignment of
// the base, so the base alignment is part of the layout.
//
// Queries on layouts, by header:
//
//   Orders.h     names of orders
//   Views.h      collapse, reshape, slice, linear rows
//   Access.h     runs, access widths and factors of reads and writes
//   Transfers.h  runs and descriptors when blocks or parts of them move
//   Facts.h      whether one layout implies another, common facts of two
//   Numbers.h    run-time values, for integers and emitted code
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LAYOUT_LAYOUT_H
#define KVCACHE_LAYOUT_LAYOUT_H

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kvcache {

enum class AxisKind : uint8_t { Layer, Side, Block, Token, Head, Channel };
enum class AxisPart : uint8_t { Whole, Outer, Inner };

/// One axis, or one part of a split axis.
struct Axis {
  AxisKind kind = AxisKind::Block;
  AxisPart part = AxisPart::Whole;

  /// `B`, `D`, `D.o`, `D.i`.
  std::string str() const;
  static std::optional<Axis> parse(std::string_view text);

  bool operator==(const Axis &o) const {
    return kind == o.kind && part == o.part;
  }
  bool operator!=(const Axis &o) const { return !(*this == o); }
  /// The canonical sequence of a listing.
  bool operator<(const Axis &o) const {
    return kind != o.kind ? kind < o.kind : part < o.part;
  }
};

/// A set of axis kinds: the axes that an access moves together.
class AxisSet {
public:
  AxisSet() = default;
  AxisSet(std::initializer_list<AxisKind> kinds) {
    for (AxisKind kind : kinds)
      bits |= 1u << static_cast<unsigned>(kind);
  }
  bool contains(AxisKind kind) const {
    return bits >> static_cast<unsigned>(kind) & 1;
  }
  void insert(AxisKind kind) { bits |= 1u << static_cast<unsigned>(kind); }

private:
  uint32_t bits = 0;
};

/// An extent that is known only at run time.
inline constexpr int64_t kRunTime = -1;
/// The largest extent and stride that a layout accepts.
inline constexpr int64_t kMaxExtent = int64_t(1) << 40;

/// What is known about the stride of an axis.
struct StrideFact {
  enum class Kind : uint8_t { Compact, Constant, RunTime };
  Kind kind = Kind::Compact;
  /// Constant: the stride. RunTime: the stride is a multiple of this.
  int64_t value = 0;

  static StrideFact compact() { return {}; }
  static StrideFact constant(int64_t stride) {
    return {Kind::Constant, stride};
  }
  static StrideFact runTime(int64_t multiple = 1) {
    return {Kind::RunTime, multiple};
  }
  bool operator==(const StrideFact &o) const {
    return kind == o.kind && value == o.value;
  }
  bool operator!=(const StrideFact &o) const { return !(*this == o); }
};

struct LayoutDim {
  Axis axis;
  int64_t extent = 1; ///< or kRunTime
  StrideFact stride = {};

  bool operator==(const LayoutDim &o) const {
    return axis == o.axis && extent == o.extent && stride == o.stride;
  }
};

/// A contiguous piece of memory that one copy can move.
struct Run {
  int64_t elements = 1;
  /// How many of the fastest axes of the order the run covers.
  unsigned axes = 0;
};

class Layout {
public:
  static constexpr unsigned kMaxRank = 8;
  /// The maximum number of elements that a layout spans, including gaps.
  static constexpr int64_t kMaxSpan = int64_t(1) << 52;
  /// The widest access that any target makes, in bytes.
  static constexpr int64_t kWidestAccess = 16;

  /// The layout of the given axes, or a message in `error` that begins with
  /// the label of the violated rule (layout_c1 ... layout_c6).
  ///  c1  the axes are listed once each, in the sequence L S B N H D, and a
  ///      split axis has both parts
  ///  c2  B, N and D are present
  ///  c3  extents are between 1 and 2^40, or known at run time
  ///  c4  the order is a permutation of the axes
  ///  c5  strides are positive, at most 2^40, and no axis overlaps the faster
  ///      ones
  ///  c6  the alignment is a power of two of at most 4096 bytes
  /// An empty order means the listed sequence.
  static std::optional<Layout> get(const std::vector<LayoutDim> &dims,
                                   std::vector<Axis> order, int64_t align,
                                   std::string &error);

  unsigned rank() const { return numDims; }
  const LayoutDim &dim(unsigned i) const { return dims[i]; }
  /// Position in the listing of the axis that is `i`-th slowest.
  unsigned orderAt(unsigned i) const { return order[i]; }
  int64_t align() const { return baseAlign; }
  bool hasListedOrder() const;

  std::optional<unsigned> find(Axis axis) const;
  std::optional<unsigned> find(AxisKind kind) const { return find(Axis{kind}); }
  bool has(AxisKind kind) const;
  /// The extent over all parts of an axis, 1 if the axis is absent.
  int64_t extent(AxisKind kind) const;

  /// The next faster axis in the order, if there is one.
  std::optional<unsigned> nextFaster(unsigned i) const;

  /// The stride in elements where it is known.
  std::optional<int64_t> stride(unsigned i) const;
  /// A number that divides the stride whatever it is at run time.
  int64_t strideMultiple(unsigned i) const;

  /// Whether stride(slower) = extent(faster) * stride(faster) is proven: the
  /// two axes can be merged. Positions in the listing, below the rank.
  bool isPackedOver(unsigned slower, unsigned faster) const;

  /// The axes from slowest to fastest.
  std::vector<Axis> orderAxes() const;
  /// The dimensions as listed, to change some of them and call `get`.
  std::vector<LayoutDim> listing() const;

  /// Whether there are no gaps: each axis is compact in the order.
  bool isCompact() const;
  /// Whether stride(B) = N * stride(N) is proven: a slot is a row number.
  bool isFlat() const;

  /// The longest contiguous run when the axes of `moved` move together and
  /// the others are fixed.
  Run contiguousRun(AxisSet moved) const;

  /// The longest run that is also contiguous in a packed array of the given
  /// axes of this layout, listed from slowest to fastest: what one copy can
  /// move between the two.
  Run commonRun(const std::vector<Axis> &packed) const;

  /// The widest access, a power of two of at most kWidestAccess bytes, such
  /// that each run of this shape can be divided into whole accesses and each
  /// access is aligned. `aligned`: assuming that the base and all run-time
  /// strides are multiples of the widest one.
  int64_t accessBytes(Run run, int64_t elementBytes,
                      bool aligned = false) const;

  /// The alignment in bytes of places whose distance is a multiple of `step`
  /// indices of an axis, up to a limit.
  int64_t stepAlignment(unsigned i, int64_t step, int64_t elementBytes,
                        int64_t limit) const;

  bool operator==(const Layout &o) const;
  bool operator!=(const Layout &o) const { return !(*this == o); }

private:
  Layout() = default;

  std::array<LayoutDim, kMaxRank> dims;
  std::array<uint8_t, kMaxRank> order = {};
  uint8_t numDims = 0;
  int64_t baseAlign = 1;
};

/// The largest power of two that divides `value`; `limit` for 0.
int64_t powerOfTwoDivisor(int64_t value, int64_t limit);

/// The alignment of a number of elements, up to a limit. Their size in bytes
/// need not fit in 64 bits: extents and strides of memrefs are not bounded.
int64_t alignmentOf(int64_t elements, int64_t elementBytes, int64_t limit);

} // namespace kvcache

#endif // KVCACHE_LAYOUT_LAYOUT_H
