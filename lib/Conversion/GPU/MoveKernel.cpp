// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "MoveKernel.h"

#include "Codecs.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace kvcache;

static int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

static int64_t wholeWarps(int64_t threads, int64_t most) {
  return std::min(most, ceilDiv(threads, 32) * 32);
}

MoveShape::MoveShape(const MovePlan &plan, int64_t elementBytes,
                     bool overLink) {
  if (const auto &tile = plan.tile) {
    perThread = 0;
    int64_t accesses =
        tile->elements / std::min(tile->fromLanes, tile->toLanes);
    threads = wholeWarps(accesses, 256);
    parts = plan.elements() / tile->elements;
  } else {
    // So many bytes in flight per thread, in at most eight accesses; a link
    // takes longer to answer.
    int64_t accesses = plan.elements() / plan.lanes;
    int64_t width = plan.lanes * elementBytes;
    int64_t wanted = overLink ? 128 : 32;
    perThread = std::min<int64_t>(8, std::max<int64_t>(1, wanted / width));
    threads = wholeWarps(ceilDiv(accesses, perThread), overLink ? 512 : 128);
    parts = ceilDiv(accesses, threads * perThread);
  }
}

/// The indices of a number, the last extent fastest.
static SmallVector<Value> decompose(KernelBuilder &k, Value number,
                                    ArrayRef<int64_t> extents) {
  SmallVector<Value> indices(extents.size());
  size_t first = 0; // of those that have several indices
  while (first < extents.size() && extents[first] == 1)
    ++first;
  for (size_t i = extents.size(); i-- > 0;) {
    if (extents[i] == 1) {
      indices[i] = k.i32(0);
    } else if (i == first) {
      indices[i] = number;
    } else {
      indices[i] = k.remui(number, extents[i]);
      number = k.divui(number, extents[i]);
    }
  }
  return indices;
}

Value MoveEmitter::offset(bool isFrom, ArrayRef<Value> indices, Value start) {
  MoveSide &here = side(isFrom);
  int64_t bytes = here.elementBytes();
  // Known parts are added up in 32 bits as long as they fit.
  Value narrow, wide = start;
  int64_t most = 0;
  auto add = [&](Value index, int64_t extent, const StrideSource &stride,
                 int64_t factor) {
    int64_t largest = 0;
    bool overflows = !stride.constant ||
                     __builtin_mul_overflow(*stride.constant * factor,
                                            extent - 1, &largest) ||
                     __builtin_mul_overflow(largest, bytes, &largest) ||
                     largest > INT32_MAX - most;
    if (overflows) {
      Value step = k.muli(k.stride(stride, bytes), k.i64(factor));
      wide = k.addi(wide, k.muli(k.extui64(index), step));
      return;
    }
    most += largest;
    Value part = k.muli(index, k.i32(*stride.constant * factor * bytes));
    narrow = narrow ? k.addi(narrow, part) : part;
  };
  for (auto [dim, index] : llvm::zip(plan.dims, indices)) {
    const AxisWalk &walk = isFrom ? dim.from : dim.to;
    const StrideSource &stride = here.strides[walk.axis];
    if (!walk.cut) {
      add(index, dim.extent, stride, walk.factor);
      continue;
    }
    add(k.divui(index, walk.cut), ceilDiv(dim.extent, walk.cut), stride, 1);
    add(k.remui(index, walk.cut), walk.cut, here.strides[walk.inner], 1);
  }
  return narrow ? k.addi(wide, k.extui64(narrow)) : wide;
}

Value MoveEmitter::inRange(const MoveItem &item, ArrayRef<Value> indices) {
  if (!item.first)
    return Value();
  Value token = k.i32(0);
  for (auto [dim, index] : llvm::zip(plan.dims, indices))
    if (dim.kind == AxisKind::Token)
      token = index;
  return k.andi(k.sle(item.first, token), k.slt(token, item.last));
}

void MoveEmitter::emit(MoveItem item, Value part, Value layer) {
  if (plan.tile && !tileMemory)
    tileMemory = k.shared(plan.tile->sharedElements * from.elementBytes());
  if (layer)
    for (bool isFrom : {true, false}) {
      MoveSide &here = side(isFrom);
      Value step = k.stride(here.strides[here.layerAxis], here.elementBytes());
      Value &start = isFrom ? item.from : item.to;
      start = k.addi(start, k.muli(k.extui64(layer), step));
    }
  auto move = [&] {
    if (plan.tile)
      emitTiled(item, part);
    else
      emitDirect(item, part);
  };
  if (item.live)
    k.ifThen(item.live, move);
  else
    move();
}

void MoveEmitter::emitDirect(const MoveItem &item, Value part) {
  int64_t perItem = plan.elements() / plan.lanes;
  int64_t perPart = shape.threads * shape.perThread;
  bool isExact = perItem % perPart == 0;
  SmallVector<int64_t> extents;
  for (const MoveDim &dim : plan.dims)
    extents.push_back(dim.extent);
  extents.push_back(plan.run / plan.lanes);

  struct Access {
    Value value, to, writes;
  };
  SmallVector<Access> accesses;
  Value first = k.addi(k.muli(part, k.i32(perPart)), k.threadX());
  for (int64_t j = 0; j < shape.perThread; ++j) {
    Value number = k.addi(first, k.i32(j * shape.threads));
    Value isThere;
    if (!isExact) {
      isThere = k.ult(number, k.i32(perItem));
      number = k.select(isThere, number, k.i32(perItem - 1));
    }
    SmallVector<Value> indices = decompose(k, number, extents);
    Value inRun = indices.pop_back_val();
    auto address = [&](bool isFrom) {
      MoveSide &here = side(isFrom);
      Value start = isFrom ? item.from : item.to;
      Value at =
          k.extui64(k.muli(inRun, k.i32(plan.lanes * here.elementBytes())));
      at = k.addi(offset(isFrom, indices, start), at);
      return k.byteOffset(k.parameter(here.pointer), at);
    };
    Value moves = inRange(item, indices);
    Access access;
    int64_t width = plan.lanes * from.elementBytes();
    Value loads = k.andiIfAny(isThere, moves);
    if (cleared == Cleared::All) {
      access.value = k.zero(width);
    } else {
      access.value = moves ? k.loadIf(loads, address(true), width)
                           : k.load(address(true), width);
      access.value = gpu::convert(k, access.value, plan.lanes, from.elementType,
                                  to.elementType);
    }
    access.to = address(false);
    access.writes = cleared == Cleared::None ? loads : isThere;
    accesses.push_back(access);
  }
  int64_t width = plan.lanes * to.elementBytes();
  for (const Access &access : accesses) {
    if (access.writes)
      k.storeIf(access.writes, access.value, access.to, width);
    else
      k.store(access.value, access.to, width);
  }
}

void MoveEmitter::emitTiled(const MoveItem &item, Value tileNumber) {
  const TilePlan &tile = *plan.tile;
  int64_t fromBytes = from.elementBytes();
  // What of each dimension is in the tile, and which tile it is.
  SmallVector<int64_t> inTile(plan.dims.size(), 1), tiles;
  for (const TileDim &part : tile.from)
    inTile[part.dim] = part.extent;
  for (auto [dim, extent] : llvm::zip(plan.dims, inTile))
    tiles.push_back(dim.extent / extent);
  SmallVector<Value> first = decompose(k, tileNumber, tiles);
  for (auto [index, extent] : llvm::zip(first, inTile))
    index = k.muli(index, k.i32(extent));

  /// Element `number` (i32) of the tile, counted as on one side: the indices,
  /// and the place in shared memory.
  auto locate = [&](ArrayRef<TileDim> parts, Value number) {
    SmallVector<int64_t> extents; // the fastest last
    for (const TileDim &part : llvm::reverse(parts))
      extents.push_back(part.extent);
    extents.push_back(plan.run);
    SmallVector<Value> places = decompose(k, number, extents);
    Value inRun = places.pop_back_val();
    SmallVector<Value> indices(first);
    Value shared = inRun;
    for (auto [part, place] : llvm::zip(llvm::reverse(parts), places)) {
      indices[part.dim] = k.addi(indices[part.dim], place);
      shared = k.addi(shared, k.muli(place, k.i32(part.sharedStride)));
    }
    return std::tuple(indices, inRun, shared);
  };
  auto inTileMemory = [&](Value element) {
    return k.byteOffset(tileMemory, k.muli(element, k.i32(fromBytes)));
  };
  auto address = [&](bool isFrom, ArrayRef<Value> indices, Value inRun) {
    MoveSide &here = side(isFrom);
    Value at = offset(isFrom, indices, isFrom ? item.from : item.to);
    at = k.addi(at, k.extui64(k.muli(inRun, k.i32(here.elementBytes()))));
    return k.byteOffset(k.parameter(here.pointer), at);
  };
  auto forAccesses = [&](int64_t lanes,
                         llvm::function_ref<void(Value, Value)> body) {
    int64_t count = tile.elements / lanes;
    for (int64_t done = 0; done < count; done += shape.threads) {
      Value number = k.addi(k.threadX(), k.i32(done));
      Value isThere;
      if (done + shape.threads > count) {
        isThere = k.ult(number, k.i32(count));
        number = k.select(isThere, number, k.i32(count - 1));
      }
      body(k.muli(number, k.i32(lanes)), isThere);
    }
  };

  // All loads before all stores to shared memory.
  SmallVector<std::tuple<Value, Value, Value>> loaded;
  int64_t width = tile.fromLanes * fromBytes;
  forAccesses(tile.fromLanes, [&](Value element, Value isThere) {
    auto [indices, inRun, shared] = locate(tile.from, element);
    Value moves = inRange(item, indices);
    Value source = address(true, indices, inRun);
    Value value =
        moves ? k.loadIf(moves, source, width) : k.load(source, width);
    loaded.push_back({value, inTileMemory(shared), isThere});
  });
  for (auto [value, place, isThere] : loaded) {
    auto keep = [&, value = value, place = place] {
      k.store(value, place, width);
    };
    if (isThere)
      k.ifThen(isThere, keep);
    else
      keep();
  }
  k.barrier();

  int64_t granules = tile.toLanes / tile.granule;
  int64_t toWidth = tile.toLanes * to.elementBytes();
  forAccesses(tile.toLanes, [&](Value element, Value isThere) {
    SmallVector<Value> pieces;
    SmallVector<Value> indices;
    Value inRun;
    for (int64_t g = 0; g < granules; ++g) {
      auto [here, at, shared] =
          locate(tile.to, k.addi(element, k.i32(g * tile.granule)));
      if (!g) {
        indices = here;
        inRun = at;
      }
      Value piece = k.load(inTileMemory(shared), tile.granule * fromBytes);
      pieces.push_back(gpu::convert(k, piece, tile.granule, from.elementType,
                                    to.elementType));
    }
    Value value = k.join(pieces, tile.granule * to.elementBytes());
    Value writes = cleared == Cleared::None ? inRange(item, indices) : Value();
    writes = k.andiIfAny(writes, isThere);
    Value target = address(false, indices, inRun);
    if (writes)
      k.storeIf(writes, value, target, toWidth);
    else
      k.store(value, target, toWidth);
  });
}
