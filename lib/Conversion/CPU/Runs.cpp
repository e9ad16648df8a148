// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Runs.h"

#include "Codecs.h"
#include "kvcache/IR/Strides.h"
#include "kvcache/Layout/Access.h"

#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

Value cpu::flatten(CodeBuilder &emit, Value buffer) {
  Type element = cast<MemRefType>(buffer.getType()).getElementType();
  auto type = MemRefType::get({ShapedType::kDynamic}, element);
  return memref::ReinterpretCastOp::create(
      emit, type, buffer, OpFoldResult(emit.getIndexAttr(0)),
      OpFoldResult(emit.index(Layout::kMaxSpan)),
      OpFoldResult(emit.getIndexAttr(1)));
}

Rows::Rows(CodeBuilder &emit, Value memref) {
  auto metadata = memref::ExtractStridedMetadataOp::create(emit, memref);
  auto number = [&](OpFoldResult known) {
    return getValueOrCreateConstantIndexOp(emit, emit.getLoc(), known);
  };
  first = {flatten(emit, metadata.getBaseBuffer()),
           number(metadata.getConstifiedMixedOffset())};
  stride = number(metadata.getConstifiedMixedStrides()[0]);
}

HeadRows::HeadRows(CodeBuilder &emit, Value memref, unsigned rowDim,
                   unsigned headDim) {
  auto metadata = memref::ExtractStridedMetadataOp::create(emit, memref);
  first = {flatten(emit, metadata.getBaseBuffer()), metadata.getOffset()};
  std::vector<StridedDim> dims =
      *stridedDims(cast<MemRefType>(memref.getType()));
  auto strideOf = [&](unsigned d) -> Value {
    StrideFact known = dims[d].stride;
    if (known.kind == StrideFact::Kind::Constant)
      return emit.index(known.value);
    return metadata.getStrides()[d];
  };
  stride = strideOf(rowDim);
  headStride = strideOf(headDim);
}

/// Picks lanes of two vectors. Halves go as integers: vectors of bf16 are taken
/// apart where the CPU has no arithmetic for them.
static Value emitShuffle(CodeBuilder &emit, Value a, Value b,
                         ArrayRef<int64_t> lanes) {
  auto type = cast<VectorType>(a.getType());
  Type bits = emit.getIntegerType(type.getElementTypeBitWidth());
  auto asBits = [&](Value v) {
    return emit.fold<arith::BitcastOp>(type.clone(bits), v);
  };
  Value picked = vector::ShuffleOp::create(emit, asBits(a), asBits(b), lanes);
  auto some = VectorType::get({static_cast<int64_t>(lanes.size())},
                              type.getElementType());
  return emit.fold<arith::BitcastOp>(some, picked);
}

/// Calls `move` for pieces of at most `lanes` elements, powers of two, that
/// cover `elements`; whole ones in a loop if there are several.
static void
forPieces(CodeBuilder &emit, int64_t elements, int64_t lanes,
          llvm::function_ref<void(CodeBuilder &, Value, int64_t)> move) {
  int64_t done = elements / lanes * lanes;
  if (done == lanes)
    move(emit, emit.index(0), lanes);
  else if (done)
    emit.forLoop(emit.index(0), emit.index(done), lanes,
                 [&](CodeBuilder &e, Value at) { move(e, at, lanes); });
  while (done < elements) {
    while (lanes > elements - done)
      lanes /= 2;
    move(emit, emit.index(done), lanes);
    done += lanes;
  }
}

static int64_t lanesOf(Type element) {
  return 64 * 8 / element.getIntOrFloatBitWidth();
}

void cpu::emitRunCopy(CodeBuilder &emit, const Place &from, const Place &to,
                      int64_t elements, Stores stores) {
  Type source = cast<MemRefType>(from.memref.getType()).getElementType();
  Type target = cast<MemRefType>(to.memref.getType()).getElementType();
  forPieces(
      emit, elements, std::min(lanesOf(source), lanesOf(target)),
      [&](CodeBuilder &e, Value at, int64_t lanes) {
        Value loaded =
            vector::LoadOp::create(e, VectorType::get({lanes}, source),
                                   from.memref, e.addi(from.offset, at));
        loaded = cpu::emitConvert(e, loaded, target);
        if (stores == Stores::Cached) {
          vector::StoreOp::create(e, loaded, to.memref, e.addi(to.offset, at));
          return;
        }
        int64_t width = kStreamedBytes * 8 / target.getIntOrFloatBitWidth();
        for (int64_t i = 0; i < lanes; i += width) {
          Value part = emitShuffle(e, loaded, loaded,
                                   llvm::to_vector(llvm::seq(i, i + width)));
          vector::StoreOp::create(
              e, part, to.memref, e.addi(e.addi(to.offset, at), i),
              /*nontemporal=*/true, llvm::MaybeAlign(kStreamedBytes));
        }
      });
}

void cpu::emitWithStores(
    CodeBuilder &emit, Value bytes, CacheType type, int64_t run,
    llvm::function_ref<void(CodeBuilder &, Stores)> write) {
  constexpr int64_t kLeastStreamed = 8 * 1024 * 1024;
  if (!canStream(type.getLayout(), run, type.getElementBytes()))
    return write(emit, Stores::Cached);
  Value isMuch =
      emit.cmpi(CodeBuilder::Predicate::sgt, bytes, emit.index(kLeastStreamed));
  emit.ifThen(
      isMuch,
      [&](CodeBuilder &e) {
        write(e, Stores::Streaming);
        // Streamed data becomes visible in any sequence without it.
        LLVM::FenceOp::create(e, LLVM::AtomicOrdering::seq_cst, "");
      },
      [&](CodeBuilder &e) { write(e, Stores::Cached); });
}

int64_t cpu::tileLanes(CacheType type) {
  return kStreamedBytes / type.getElementBytes();
}

void cpu::emitTransposed(CodeBuilder &emit, const Place &from, Value fromStride,
                         const Place &to, Value toStride, int64_t lanes) {
  OpBuilder &b = emit;
  Type source = cast<MemRefType>(from.memref.getType()).getElementType();
  Type target = cast<MemRefType>(to.memref.getType()).getElementType();
  SmallVector<Value> tile;
  for (int64_t i = 0; i < lanes; ++i) {
    Value at = emit.addMul(from.offset, emit.index(i), fromStride);
    Value column = vector::LoadOp::create(
        b, emit.getLoc(), VectorType::get({lanes}, source), from.memref, at);
    tile.push_back(cpu::emitConvert(emit, column, target));
  }
  // Each round interleaves the vectors of both halves, the low and the high
  // lanes of each two: one instruction on every CPU. The number of a lane and
  // that of its vector have changed places when each bit has moved once.
  SmallVector<int64_t> low, high;
  for (int64_t i = 0; i < lanes / 2; ++i) {
    low.append({i, lanes + i});
    high.append({lanes / 2 + i, lanes + lanes / 2 + i});
  }
  for (int64_t round = 1; round < lanes; round *= 2) {
    SmallVector<Value> next;
    for (int64_t i = 0; i < lanes / 2; ++i)
      for (ArrayRef<int64_t> mask : {ArrayRef(low), ArrayRef(high)})
        next.push_back(emitShuffle(emit, tile[i], tile[i + lanes / 2], mask));
    tile = next;
  }
  for (int64_t i = 0; i < lanes; ++i)
    vector::StoreOp::create(b, emit.getLoc(), tile[i], to.memref,
                            emit.addMul(to.offset, emit.index(i), toStride));
}

void cpu::emitRunClear(CodeBuilder &emit, const Place &to, int64_t elements) {
  Type type = cast<MemRefType>(to.memref.getType()).getElementType();
  forPieces(emit, elements, lanesOf(type),
            [&](CodeBuilder &e, Value at, int64_t lanes) {
              auto vector = VectorType::get({lanes}, type);
              Value zero = arith::ConstantOp::create(e, e.getZeroAttr(vector));
              vector::StoreOp::create(e, zero, to.memref,
                                      e.addi(to.offset, at));
            });
}

Value cpu::emitTaskCount(CodeBuilder &emit, Value bytes, Value most) {
  // A task of less than this is not worth waking a thread for.
  constexpr int64_t kBytesPerTask = 128 * 1024;
  Value wanted = emit.addi(emit.divui(bytes, kBytesPerTask), 1);
  return emit.maxsi(emit.minsi(wanted, most), emit.index(1));
}
