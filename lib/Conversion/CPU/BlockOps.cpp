// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// relayout, copy_blocks and transfer: elements of one cache to the places of
// the same indices in another one.
//
// Both are seen as one nest of loops, whose dimensions have a step on each
// side. Dimensions are as in the memory of the destination, so that writes are
// sequential, and what is contiguous on both sides is copied in vectors.
//
//===----------------------------------------------------------------------===//

#include "../Common/CacheLowering.h"
#include "Patterns.h"
#include "Runs.h"

#include <numeric>

using namespace mlir;
using namespace kvcache;

namespace {

/// How an index of an axis becomes an offset: by one stride, or if the axis is
/// cut in two by one for each part.
struct Walk {
  Value outer;
  Value inner;
  int64_t cut = 0; ///< extent of the inner part, 0 if there is none

  Value offset(const Emitter &emit, Value index) const {
    if (!cut)
      return emit.mul(index, outer);
    return emit.addMul(emit.mul(emit.div(index, cut), outer),
                       emit.rem(index, cut), inner);
  }
  /// The stride of every `step`-th index, where no cut is crossed on the way.
  Walk every(const Emitter &emit, int64_t step) const {
    if (!cut)
      return {emit.mul(outer, step), {}, 0};
    return step < cut ? Walk{emit.mul(inner, step), {}, 0}
                      : Walk{emit.mul(outer, step / cut), {}, 0};
  }
};

struct NestDim {
  Value extent;
  std::optional<int64_t> known; ///< the extent
  Walk from, to;
  unsigned place; ///< of the axis in the memory of the destination
};

/// An axis of a cache, and where its fastest part lies in memory.
struct CacheAxis {
  CacheAxis(const Emitter &emit, const CacheParts &cache, AxisKind kind) {
    const Layout &layout = cache.type.getLayout();
    count = emit.constant(1);
    SmallVector<Value> strides;
    for (unsigned i = 0; i < layout.rank(); ++i) {
      const LayoutDim &dim = layout.dim(i);
      if (dim.axis.kind != kind)
        continue;
      strides.push_back(cache.strides[i]);
      count = emit.mul(count, cache.extents[i]);
      if (strides.size() == 2)
        walk.cut = dim.extent;
      for (unsigned k = 0; k < layout.rank(); ++k)
        if (layout.orderAt(k) == i)
          places.push_back(k);
    }
    walk.outer = strides.front();
    walk.inner = strides.back();
    extent = layout.extent(kind);
  }
  Walk walk;
  Value count;
  int64_t extent;
  SmallVector<unsigned> places; ///< of the parts
};

/// All elements of some axes, as a nest.
class Nest {
public:
  Nest(const Emitter &emit, const CacheParts &from, const CacheParts &to,
       ArrayRef<AxisKind> kinds) {
    for (AxisKind kind : kinds)
      if (from.type.getLayout().has(kind))
        addAxis(emit, CacheAxis(emit, from, kind), CacheAxis(emit, to, kind));
    llvm::stable_sort(dims, [](const NestDim &a, const NestDim &b) {
      return a.place < b.place;
    });
    auto continues = [&](const Walk &walk) {
      return !walk.cut && getConstantIntValue(walk.outer) == run;
    };
    while (!dims.empty() && dims.back().known && continues(dims.back().from) &&
           continues(dims.back().to))
      run *= *dims.pop_back_val().known;
    if (run == 1)
      findTile(tileLanes(to.type));
  }

  /// Copies all elements.
  void copy(const Emitter &emit, const Place &from, const Place &to,
            Stores stores = Stores::Cached, unsigned depth = 0) const {
    if (depth == dims.size())
      return emitRunCopy(emit, from, to, run, stores);
    if (tile && depth + 2 == dims.size())
      return copyTiles(emit, from, to, dims[depth], dims[depth + 1]);
    emit.loop(dims[depth].extent, [&](const Emitter &e, Value i) {
      copy(e, from.plus(e, dims[depth].from.offset(e, i)),
           to.plus(e, dims[depth].to.offset(e, i)), stores, depth + 1);
    });
  }

  /// Sets all elements of the destination to zero.
  void clear(const Emitter &emit, const Place &to, unsigned depth = 0) const {
    if (depth == dims.size())
      return emitRunClear(emit, to, run);
    emit.loop(dims[depth].extent, [&](const Emitter &e, Value i) {
      clear(e, to.plus(e, dims[depth].to.offset(e, i)), depth + 1);
    });
  }

  Value bytes(const Emitter &emit, CacheType type) const {
    Value count = emit.mulLimited(emit.constant(run), type.getElementBytes());
    for (const NestDim &dim : dims)
      count = emit.mulLimited(count, dim.extent);
    return count;
  }

  SmallVector<NestDim> dims; ///< slowest first
  int64_t run = 1;
  /// The last two dimensions are transposed in square tiles of this size, if
  /// the source is contiguous in the first of them.
  int64_t tile = 0;

private:
  /// What is contiguous in the source becomes the last dimension but one, if it
  /// and the last one are long enough.
  void findTile(int64_t lanes) {
    auto fits = [&](const NestDim &dim, Walk NestDim::*side) {
      const Walk &walk = dim.*side;
      return dim.known && *dim.known % lanes == 0 && !dim.from.cut &&
             !dim.to.cut && getConstantIntValue(walk.outer) == 1;
    };
    if (dims.size() < 2 || !fits(dims.back(), &NestDim::to))
      return;
    auto across = llvm::find_if(
        dims, [&](const NestDim &dim) { return fits(dim, &NestDim::from); });
    if (across == dims.end() || across == &dims.back())
      return;
    std::rotate(across, across + 1, dims.end() - 1);
    tile = lanes;
  }

  void copyTiles(const Emitter &emit, const Place &from, const Place &to,
                 const NestDim &across, const NestDim &along) const {
    emit.loop(
        emit.constant(0), across.extent, tile, [&](const Emitter &e, Value i) {
          e.loop(e.constant(0), along.extent, tile,
                 [&](const Emitter &e, Value j) {
                   Place source =
                       from.plus(e, i).plus(e, along.from.offset(e, j));
                   Place dest = to.plus(e, across.to.offset(e, i)).plus(e, j);
                   emitTransposed(e, source, along.from.outer, dest,
                                  across.to.outer, tile);
                 });
        });
  }

  void addAxis(const Emitter &emit, const CacheAxis &from,
               const CacheAxis &to) {
    bool known = from.extent != kRunTime && to.extent != kRunTime;
    if (!from.walk.cut && !to.walk.cut) {
      dims.push_back({known ? from.count : emit.min(from.count, to.count),
                      known ? std::optional(from.extent) : std::nullopt,
                      from.walk, to.walk, to.places.back()});
      return;
    }
    // Cut where either side is cut, if the cuts nest.
    int64_t a = std::max<int64_t>(from.walk.cut, 1);
    int64_t b = std::max<int64_t>(to.walk.cut, 1);
    int64_t coarse = std::max(a, b), fine = std::min(a, b);
    if (coarse % fine) {
      dims.push_back(
          {from.count, from.extent, from.walk, to.walk, to.places.back()});
      return;
    }
    int64_t above = from.extent;
    for (int64_t step : {coarse, fine, int64_t(1)}) {
      if (step == above)
        continue;
      bool isOuter = to.walk.cut && step >= to.walk.cut;
      dims.push_back({emit.constant(above / step), above / step,
                      from.walk.every(emit, step), to.walk.every(emit, step),
                      isOuter ? to.places.front() : to.places.back()});
      above = step;
    }
  }
};

constexpr AxisKind kInBlock[] = {AxisKind::Layer, AxisKind::Side,
                                 AxisKind::Token, AxisKind::Head,
                                 AxisKind::Channel};

Place startOf(const Emitter &emit, const CacheParts &cache) {
  return {flatten(emit, cache.buffer), cache.offset};
}

struct RelayoutOpLowering : OpConversionPattern<RelayoutOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(RelayoutOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    if (!isa<MemRefType>(adaptor.getSource().getType()))
      return rewriter.notifyMatchFailure(op, "an operand is still a tensor");
    Emitter emit{rewriter, op.getLoc()};
    CacheParts from(rewriter, emit.loc, op.getSourceType(),
                    adaptor.getSource());
    CacheParts to(rewriter, emit.loc, op.getDestType(), adaptor.getDest());
    Nest nest(emit, from, to, kInBlock);
    Value blocks =
        emit.min(from.extent(AxisKind::Block), to.extent(AxisKind::Block));
    Place source = startOf(emit, from), dest = startOf(emit, to);
    Value bytes = emit.mulLimited(nest.bytes(emit, to.type), blocks);
    Value tasks = emitTaskCount(emit, bytes, blocks);
    Value perTask = emit.div(emit.add(emit.add(blocks, tasks), -1), tasks);
    emit.parallel(tasks, [&](const Emitter &e, Value task) {
      Value first = e.mul(task, perTask);
      auto copy = [&](const Emitter &e, Stores stores) {
        e.loop(first, e.min(e.add(first, perTask), blocks), 1,
               [&](const Emitter &e, Value block) {
                 Value a = e.mul(block, from.stride(AxisKind::Block));
                 Value b = e.mul(block, to.stride(AxisKind::Block));
                 nest.copy(e, source.plus(e, a), dest.plus(e, b), stores);
               });
      };
      emitWithStores(e, bytes, to.type, nest.run, copy);
    });
    rewriter.eraseOp(op);
    return success();
  }
};

struct CopyBlocksOpLowering : OpConversionPattern<CopyBlocksOp> {
  using OpConversionPattern::OpConversionPattern;
  LogicalResult
  matchAndRewrite(CopyBlocksOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Value pairs = adaptor.getPairs();
    if (!isa<MemRefType>(pairs.getType()))
      return rewriter.notifyMatchFailure(op, "the pairs are still a tensor");
    Emitter emit{rewriter, op.getLoc()};
    CacheParts cache(rewriter, emit.loc, op.getCache().getType(),
                     adaptor.getCache());
    Nest nest(emit, cache, cache, kInBlock);
    Place start = startOf(emit, cache);
    Value blocks = cache.extent(AxisKind::Block);
    Value count = emit.dim(pairs, 0);
    // Pairs are copied one after the other, so threads share what is in a
    // block: its slowest axis, if it has one that is not part of the run.
    Nest inner = nest;
    Value parts = emit.constant(1);
    if (!nest.dims.empty()) {
      parts = nest.dims.front().extent;
      inner.dims.erase(inner.dims.begin());
    }
    Value bytes = emit.mulLimited(nest.bytes(emit, cache.type), count);
    Value tasks = emitTaskCount(emit, bytes, parts);
    Value perTask = emit.div(emit.add(emit.add(parts, tasks), -1), tasks);
    emit.parallel(tasks, [&](const Emitter &e, Value task) {
      Value first = e.mul(task, perTask);
      Value end = e.min(e.add(first, perTask), parts);
      e.loop(count, [&](const Emitter &e, Value p) {
        Value from = e.loadIndex(pairs, {p, e.constant(0)});
        Value to = e.loadIndex(pairs, {p, e.constant(1)});
        Value live = e.both(e.isBelow(from, blocks), e.isBelow(to, blocks));
        e.when(live, [&](const Emitter &e) {
          Value stride = cache.stride(AxisKind::Block);
          Place source = start.plus(e, e.mul(from, stride));
          Place dest = start.plus(e, e.mul(to, stride));
          e.loop(first, end, 1, [&](const Emitter &e, Value part) {
            Value shift = nest.dims.empty()
                              ? e.constant(0)
                              : nest.dims.front().to.offset(e, part);
            inner.copy(e, source.plus(e, shift), dest.plus(e, shift));
          });
        });
      });
    });
    rewriter.eraseOp(op);
    return success();
  }
};

struct TransferOpLowering : OpConversionPattern<TransferOp> {
  using OpConversionPattern::OpConversionPattern;

  /// The chunks of a pool, of `tokens` tokens each.
  struct Chunks {
    Chunks(const Emitter &emit, const CacheParts &cache, int64_t tokens)
        : cache(cache), tokens(tokens),
          perBlock(cache.type.getLayout().extent(AxisKind::Token) / tokens),
          start(startOf(emit, cache)),
          count(emit.mulLimited(cache.extent(AxisKind::Block), perBlock)) {}
    Place at(const Emitter &emit, Value chunk) const {
      Value block = emit.div(chunk, perBlock);
      Value token = emit.mul(emit.rem(chunk, perBlock), tokens);
      Place place =
          start.plus(emit, emit.mul(block, cache.stride(AxisKind::Block)));
      return place.plus(emit, emit.mul(token, cache.stride(AxisKind::Token)));
    }
    const CacheParts &cache;
    int64_t tokens, perBlock;
    Place start;
    Value count;
  };

  LogicalResult
  matchAndRewrite(TransferOp op, OpAdaptor adaptor,
                  ConversionPatternRewriter &rewriter) const override {
    Value pairs = adaptor.getPairs();
    if (!isa<MemRefType>(pairs.getType()))
      return rewriter.notifyMatchFailure(op, "the pairs are still a tensor");
    Emitter emit{rewriter, op.getLoc()};
    CacheParts from(rewriter, emit.loc, op.getSource().getType(),
                    adaptor.getSource());
    CacheParts to(rewriter, emit.loc, op.getDest().getType(),
                  adaptor.getDest());
    int64_t tokens = std::min(from.type.getLayout().extent(AxisKind::Token),
                              to.type.getLayout().extent(AxisKind::Token));
    Chunks source(emit, from, tokens), dest(emit, to, tokens);
    // Whole chunks are one nest, where tokens are an axis like the others.
    CacheParts fromChunk = oneChunk(emit, from, tokens);
    CacheParts toChunk = oneChunk(emit, to, tokens);
    Nest whole(emit, fromChunk, toChunk, kInBlock);
    Nest row(
        emit, from, to,
        {AxisKind::Layer, AxisKind::Side, AxisKind::Head, AxisKind::Channel});
    bool hasRanges = cast<MemRefType>(pairs.getType()).getDimSize(1) == 4;
    Value count = emit.dim(pairs, 0);
    Value bytes = emit.mulLimited(whole.bytes(emit, to.type), count);
    Value tasks = emitTaskCount(emit, bytes, count);
    Value perTask = emit.div(emit.add(emit.add(count, tasks), -1), tasks);

    emit.parallel(tasks, [&](const Emitter &e, Value task) {
      Value begin = e.mul(task, perTask);
      Value end = e.min(e.add(begin, perTask), count);
      e.loop(begin, end, 1, [&](const Emitter &e, Value p) {
        auto column = [&](int64_t c) {
          return e.loadIndex(pairs, {p, e.constant(c)});
        };
        Value a = column(0), b = column(1);
        Value live =
            e.both(e.isBelow(a, source.count), e.isBelow(b, dest.count));
        e.when(live, [&](const Emitter &e) {
          Place here = source.at(e, a), there = dest.at(e, b);
          if (!hasRanges)
            return whole.copy(e, here, there);
          Value all = e.constant(tokens);
          Value start = e.min(column(2), all), zero = e.constant(0);
          Value first = e.max(start, zero);
          // Both may be anything: the sum is not to wrap.
          Value most =
              e.sub(e.constant(std::numeric_limits<int64_t>::max()), first);
          Value wanted = e.min(e.max(column(3), zero), most);
          Value last = e.clamp(e.add(start, wanted), all);
          Value isWhole = e.equal(e.sub(last, first), all);
          e.when(
              isWhole, [&](const Emitter &e) { whole.copy(e, here, there); },
              [&](const Emitter &e) {
                copyRange(e, op.getZero(), row, from, to, here, there, first,
                          last, all);
              });
        });
      });
    });
    rewriter.eraseOp(op);
    return success();
  }

private:
  /// The parts of a cache with as many tokens in a block as a chunk has.
  static CacheParts oneChunk(const Emitter &emit, CacheParts parts,
                             int64_t tokens) {
    std::vector<LayoutDim> dims = parts.type.getLayout().listing();
    const Layout &layout = parts.type.getLayout();
    for (unsigned i = 0; i < layout.rank(); ++i) {
      // Strides are those of the pool, whatever the extent is. Compact ones may
      // be larger than a type can say.
      std::optional<int64_t> stride = layout.stride(i);
      dims[i].stride = stride && *stride <= kMaxExtent
                           ? StrideFact::constant(*stride)
                           : StrideFact::runTime(1);
      if (dims[i].axis.kind != AxisKind::Token)
        continue;
      dims[i].extent = tokens;
      parts.extents[i] = emit.constant(tokens);
    }
    std::string why;
    std::optional<Layout> chunk =
        Layout::get(dims, layout.orderAxes(), layout.align(), why);
    assert(chunk && "a part of a layout is a layout");
    parts.type = CacheType::get(parts.type.getContext(), *chunk,
                                parts.type.getElementType(),
                                parts.type.getSpace(), parts.type.getAccess());
    return parts;
  }

  static void copyRange(const Emitter &emit, bool zero, const Nest &row,
                        const CacheParts &from, const CacheParts &to,
                        const Place &here, const Place &there, Value first,
                        Value last, Value all) {
    emit.loop(first, last, 1, [&](const Emitter &e, Value i) {
      row.copy(e, here.plus(e, e.mul(i, from.stride(AxisKind::Token))),
               there.plus(e, e.mul(i, to.stride(AxisKind::Token))));
    });
    if (!zero)
      return;
    auto clear = [&](const Emitter &e, Value i) {
      row.clear(e, there.plus(e, e.mul(i, to.stride(AxisKind::Token))));
    };
    emit.loop(first, clear);
    emit.loop(last, all, 1, clear);
  }
};

} // namespace

void kvcache::populateBlockOpsToLoops(TypeConverter &converter,
                                      RewritePatternSet &patterns) {
  patterns.add<CopyBlocksOpLowering, RelayoutOpLowering, TransferOpLowering>(
      converter, patterns.getContext());
}
