// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// relayout, copy_blocks and transfer: elements of one cache to the places of
// the same indices in another one. clear_blocks: zeros to those of one.
//
// Both are seen as one nest of loops, whose dimensions have a step on each
// side. Dimensions are as in the memory of the destination, so that writes are
// sequential, and what is contiguous on both sides is copied in vectors.
//
//===----------------------------------------------------------------------===//

#include "../Common/CacheLowering.h"
#include "Converted.h"
#include "Patterns.h"
#include "Runs.h"

#include <numeric>

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

namespace {

/// How an index of an axis becomes an offset: by one stride, or if the axis is
/// cut in two by one for each part.
struct Walk {
  Value outer;
  Value inner;
  int64_t cut = 0; ///< extent of the inner part, 0 if there is none

  Value offset(CodeBuilder &emit, Value index) const {
    if (!cut)
      return emit.muli(index, outer);
    return emit.addMul(emit.muli(emit.divui(index, cut), outer),
                       emit.remui(index, cut), inner);
  }
  /// The stride of every `step`-th index, where no cut is crossed on the way.
  Walk every(CodeBuilder &emit, int64_t step) const {
    if (!cut)
      return {emit.muli(outer, step), {}, 0};
    return step < cut ? Walk{emit.muli(inner, step), {}, 0}
                      : Walk{emit.muli(outer, step / cut), {}, 0};
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
  CacheAxis(CodeBuilder &emit, const CacheValue &cache, AxisKind kind) {
    const Layout &layout = cache.type.getLayout();
    count = emit.index(1);
    SmallVector<Value> strides;
    for (unsigned i = 0; i < layout.rank(); ++i) {
      const LayoutDim &dim = layout.dim(i);
      if (dim.axis.kind != kind)
        continue;
      strides.push_back(cache.strides[i]);
      count = emit.muli(count, cache.extents[i]);
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
  Nest(CodeBuilder &emit, const CacheValue &from, const CacheValue &to,
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
  void copy(CodeBuilder &emit, const Place &from, const Place &to,
            Stores stores = Stores::Cached, unsigned depth = 0) const {
    if (depth == dims.size())
      return emitRunCopy(emit, from, to, run, stores);
    if (tile && depth + 2 == dims.size())
      return copyTiles(emit, from, to, dims[depth], dims[depth + 1]);
    emit.forLoop(dims[depth].extent, [&](CodeBuilder &e, Value i) {
      copy(e, from.plus(e, dims[depth].from.offset(e, i)),
           to.plus(e, dims[depth].to.offset(e, i)), stores, depth + 1);
    });
  }

  /// Sets all elements of the destination to zero.
  void clear(CodeBuilder &emit, const Place &to, unsigned depth = 0) const {
    if (depth == dims.size())
      return emitRunClear(emit, to, run);
    emit.forLoop(dims[depth].extent, [&](CodeBuilder &e, Value i) {
      clear(e, to.plus(e, dims[depth].to.offset(e, i)), depth + 1);
    });
  }

  Value bytes(CodeBuilder &emit, CacheType type) const {
    Value count = emit.mulSat(emit.index(run), type.getElementBytes());
    for (const NestDim &dim : dims)
      count = emit.mulSat(count, dim.extent);
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

  void copyTiles(CodeBuilder &emit, const Place &from, const Place &to,
                 const NestDim &across, const NestDim &along) const {
    emit.forLoop(
        emit.index(0), across.extent, tile, [&](CodeBuilder &e, Value i) {
          e.forLoop(
              e.index(0), along.extent, tile, [&](CodeBuilder &e, Value j) {
                Place source = from.plus(e, i).plus(e, along.from.offset(e, j));
                Place dest = to.plus(e, across.to.offset(e, i)).plus(e, j);
                emitTransposed(e, source, along.from.outer, dest,
                               across.to.outer, tile);
              });
        });
  }

  void addAxis(CodeBuilder &emit, const CacheAxis &from, const CacheAxis &to) {
    bool known = from.extent != kRunTime && to.extent != kRunTime;
    if (!from.walk.cut && !to.walk.cut) {
      dims.push_back({known ? from.count : emit.minsi(from.count, to.count),
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
      dims.push_back({emit.index(above / step), above / step,
                      from.walk.every(emit, step), to.walk.every(emit, step),
                      isOuter ? to.places.front() : to.places.back()});
      above = step;
    }
  }
};

constexpr AxisKind kInBlock[] = {AxisKind::Layer, AxisKind::Side,
                                 AxisKind::Token, AxisKind::Head,
                                 AxisKind::Channel};

Place startOf(CodeBuilder &emit, const CacheValue &cache) {
  return {flatten(emit, cache.buffer), cache.offset};
}

struct RelayoutOpLowering : BufferOpLowering<RelayoutOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(RelayoutOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    CacheValue from = in.cache(op.getSource()), to = in.cache(op.getDest());
    if (op.getSourceScales() || op.getDestScales())
      return lowerScaled(op, in, from, to, emit);
    Nest nest(emit, from, to, kInBlock);
    Value blocks =
        emit.minsi(from.extent(AxisKind::Block), to.extent(AxisKind::Block));
    Place source = startOf(emit, from), dest = startOf(emit, to);
    Value bytes = emit.mulSat(nest.bytes(emit, to.type), blocks);
    Value tasks = emitTaskCount(emit, bytes, blocks);
    Value perTask = emit.divui(emit.addi(emit.addi(blocks, tasks), -1), tasks);
    emit.parallelLoop(tasks, [&](CodeBuilder &e, Value task) {
      Value first = e.muli(task, perTask);
      auto copy = [&](CodeBuilder &e, Stores stores) {
        e.forLoop(first, e.minsi(e.addi(first, perTask), blocks), 1,
                  [&](CodeBuilder &e, Value block) {
                    Value a = e.muli(block, from.stride(AxisKind::Block));
                    Value b = e.muli(block, to.stride(AxisKind::Block));
                    nest.copy(e, source.plus(e, a), dest.plus(e, b), stores);
                  });
      };
      emitWithStores(e, bytes, to.type, nest.run, copy);
    });
  }

private:
  /// Token by token, in parallel over blocks.
  static void lowerScaled(RelayoutOp op, const LoweredOperands &in,
                          const CacheValue &from, const CacheValue &to,
                          CodeBuilder &emit) {
    auto scalesOf = [&](Value scales) {
      return scales ? std::optional<CacheValue>(in.cache(scales))
                    : std::nullopt;
    };
    std::optional<CacheValue> fromScales = scalesOf(op.getSourceScales());
    std::optional<CacheValue> toScales = scalesOf(op.getDestScales());
    auto both = [&](AxisKind kind) {
      return emit.minsi(extentOf(emit, kind, from, fromScales),
                        extentOf(emit, kind, to, toScales));
    };
    Value blocks = both(AxisKind::Block);
    auto elements = [](CodeBuilder &e, const CacheValue &cache,
                       const std::optional<CacheValue> &scales, Value layer,
                       int64_t side, Value block, Value token) {
      auto slice = [&](CacheValue one) {
        one.offset =
            e.addi(one.offset, one.indexOffset(e, AxisKind::Layer, layer));
        return one.side(e, side);
      };
      if (!scales)
        return TokenElements(e, slice(cache), nullptr, block, token);
      CacheValue own = slice(*scales);
      return TokenElements(e, slice(cache), &own, block, token);
    };
    const Layout &layout = from.type.getLayout();
    bool hasLayers = layout.has(AxisKind::Layer);
    Value layers = hasLayers ? both(AxisKind::Layer) : Value(emit.index(1));
    int64_t tokens = layout.extent(AxisKind::Token);
    emit.parallelLoop(blocks, [&](CodeBuilder &e, Value block) {
      e.forLoop(layers, [&](CodeBuilder &e, Value layer) {
        for (int64_t side = 0; side < from.type.getNumSides(); ++side)
          e.forLoop(e.index(tokens), [&](CodeBuilder &e, Value token) {
            emitConverted(
                e, elements(e, from, fromScales, layer, side, block, token),
                elements(e, to, toScales, layer, side, block, token));
          });
      });
    });
  }
};

struct CopyBlocksOpLowering : BufferOpLowering<CopyBlocksOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(CopyBlocksOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    Value pairs = in[op.getPairs()];
    CacheValue cache = in[op.getCache()];
    Nest nest(emit, cache, cache, kInBlock);
    Place start = startOf(emit, cache);
    Value blocks = cache.extent(AxisKind::Block);
    Value count = emit.dim(pairs, 0);
    // Pairs are copied one after the other, so threads share what is in a
    // block: its slowest axis, if it has one that is not part of the run.
    Nest inner = nest;
    Value parts = emit.index(1);
    if (!nest.dims.empty()) {
      parts = nest.dims.front().extent;
      inner.dims.erase(inner.dims.begin());
    }
    Value bytes = emit.mulSat(nest.bytes(emit, cache.type), count);
    Value tasks = emitTaskCount(emit, bytes, parts);
    Value perTask = emit.divui(emit.addi(emit.addi(parts, tasks), -1), tasks);
    emit.parallelLoop(tasks, [&](CodeBuilder &e, Value task) {
      Value first = e.muli(task, perTask);
      Value end = e.minsi(e.addi(first, perTask), parts);
      e.forLoop(count, [&](CodeBuilder &e, Value p) {
        Value from = e.loadIndex(pairs, {p, e.index(0)});
        Value to = e.loadIndex(pairs, {p, e.index(1)});
        Value live = e.andi(e.ult(from, blocks), e.ult(to, blocks));
        e.ifThen(live, [&](CodeBuilder &e) {
          Value stride = cache.stride(AxisKind::Block);
          Place source = start.plus(e, e.muli(from, stride));
          Place dest = start.plus(e, e.muli(to, stride));
          e.forLoop(first, end, 1, [&](CodeBuilder &e, Value part) {
            Value shift = nest.dims.empty()
                              ? e.index(0)
                              : nest.dims.front().to.offset(e, part);
            inner.copy(e, source.plus(e, shift), dest.plus(e, shift));
          });
        });
      });
    });
  }
};

struct ClearBlocksOpLowering : BufferOpLowering<ClearBlocksOp> {
  using BufferOpLowering::BufferOpLowering;
  void lower(ClearBlocksOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    Value list = in[op.getBlocks()];
    CacheValue cache = in[op.getCache()];
    Nest nest(emit, cache, cache, kInBlock);
    Place start = startOf(emit, cache);
    Value blocks = cache.extent(AxisKind::Block);
    Value count = emit.dim(list, 0);
    // Each thread reads the whole list and clears the blocks whose numbers are
    // its own: then a block that is named twice is not written by two threads,
    // and the list is little beside what it names.
    Value bytes = emit.mulSat(nest.bytes(emit, cache.type), count);
    Value tasks = emitTaskCount(emit, bytes, count);
    emit.parallelLoop(tasks, [&](CodeBuilder &e, Value task) {
      e.forLoop(count, [&](CodeBuilder &e, Value k) {
        Value block = e.loadIndex(list, {k});
        Value isOwn = e.eq(e.remui(block, tasks), task);
        Value live = e.andi(e.ult(block, blocks), isOwn);
        e.ifThen(live, [&](CodeBuilder &e) {
          Value at = e.muli(block, cache.stride(AxisKind::Block));
          nest.clear(e, start.plus(e, at));
        });
      });
    });
  }
};

struct TransferOpLowering : BufferOpLowering<TransferOp> {
  using BufferOpLowering::BufferOpLowering;

  /// The chunks of a pool, of `tokens` tokens each.
  struct Chunks {
    Chunks(CodeBuilder &emit, const CacheValue &cache, int64_t tokens)
        : cache(cache), tokens(tokens),
          perBlock(cache.type.getLayout().extent(AxisKind::Token) / tokens),
          start(startOf(emit, cache)),
          count(emit.mulSat(cache.extent(AxisKind::Block), perBlock)) {}
    Place at(CodeBuilder &emit, Value chunk) const {
      Value block = emit.divui(chunk, perBlock);
      Value token = emit.muli(emit.remui(chunk, perBlock), tokens);
      Place place =
          start.plus(emit, emit.muli(block, cache.stride(AxisKind::Block)));
      return place.plus(emit, emit.muli(token, cache.stride(AxisKind::Token)));
    }
    const CacheValue &cache;
    int64_t tokens, perBlock;
    Place start;
    Value count;
  };

  void lower(TransferOp op, const LoweredOperands &in,
             CodeBuilder &emit) const override {
    Value pairs = in[op.getPairs()];
    CacheValue from = in[op.getSource()], to = in[op.getDest()];
    int64_t tokens = std::min(from.type.getLayout().extent(AxisKind::Token),
                              to.type.getLayout().extent(AxisKind::Token));
    Chunks source(emit, from, tokens), dest(emit, to, tokens);
    // Whole chunks are one nest, where tokens are an axis like the others.
    CacheValue fromChunk = oneChunk(emit, from, tokens);
    CacheValue toChunk = oneChunk(emit, to, tokens);
    Nest whole(emit, fromChunk, toChunk, kInBlock);
    Nest row(
        emit, from, to,
        {AxisKind::Layer, AxisKind::Side, AxisKind::Head, AxisKind::Channel});
    bool hasRanges = cast<MemRefType>(pairs.getType()).getDimSize(1) == 4;
    Value count = emit.dim(pairs, 0);
    Value bytes = emit.mulSat(whole.bytes(emit, to.type), count);
    Value tasks = emitTaskCount(emit, bytes, count);
    Value perTask = emit.divui(emit.addi(emit.addi(count, tasks), -1), tasks);

    emit.parallelLoop(tasks, [&](CodeBuilder &e, Value task) {
      Value begin = e.muli(task, perTask);
      Value end = e.minsi(e.addi(begin, perTask), count);
      e.forLoop(begin, end, 1, [&](CodeBuilder &e, Value p) {
        auto column = [&](int64_t c) {
          return e.loadIndex(pairs, {p, e.index(c)});
        };
        Value a = column(0), b = column(1);
        Value live = e.andi(e.ult(a, source.count), e.ult(b, dest.count));
        e.ifThen(live, [&](CodeBuilder &e) {
          Place here = source.at(e, a), there = dest.at(e, b);
          if (!hasRanges)
            return whole.copy(e, here, there);
          Value all = e.index(tokens);
          Value start = e.minsi(column(2), all), zero = e.index(0);
          Value first = e.maxsi(start, zero);
          // Both may be anything: the sum is not to wrap.
          Value most =
              e.subi(e.index(std::numeric_limits<int64_t>::max()), first);
          Value wanted = e.minsi(e.maxsi(column(3), zero), most);
          Value last = e.clamp(e.addi(start, wanted), all);
          Value isWhole = e.eq(e.subi(last, first), all);
          e.ifThen(
              isWhole, [&](CodeBuilder &e) { whole.copy(e, here, there); },
              [&](CodeBuilder &e) {
                copyRange(e, op.getZero(), row, from, to, here, there, first,
                          last, all);
              });
        });
      });
    });
  }

private:
  /// The parts of a cache with as many tokens in a block as a chunk has.
  static CacheValue oneChunk(CodeBuilder &emit, CacheValue parts,
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
      parts.extents[i] = emit.index(tokens);
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

  static void copyRange(CodeBuilder &emit, bool zero, const Nest &row,
                        const CacheValue &from, const CacheValue &to,
                        const Place &here, const Place &there, Value first,
                        Value last, Value all) {
    emit.forLoop(first, last, 1, [&](CodeBuilder &e, Value i) {
      row.copy(e, here.plus(e, e.muli(i, from.stride(AxisKind::Token))),
               there.plus(e, e.muli(i, to.stride(AxisKind::Token))));
    });
    if (!zero)
      return;
    auto clear = [&](CodeBuilder &e, Value i) {
      row.clear(e, there.plus(e, e.muli(i, to.stride(AxisKind::Token))));
    };
    emit.forLoop(first, clear);
    emit.forLoop(last, all, 1, clear);
  }
};

} // namespace

void cpu::populateBlockOpsToLoops(TypeConverter &converter,
                                  RewritePatternSet &patterns) {
  patterns.add<ClearBlocksOpLowering, CopyBlocksOpLowering, RelayoutOpLowering,
               TransferOpLowering>(converter, patterns.getContext());
}
