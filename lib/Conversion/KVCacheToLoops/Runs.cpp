// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Runs.h"

#include "kvcache/Layout/Layout.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace kvcache;

Value kvcache::flatten(const Emitter &emit, Value buffer) {
  Type element = cast<MemRefType>(buffer.getType()).getElementType();
  auto type = MemRefType::get({ShapedType::kDynamic}, element);
  return memref::ReinterpretCastOp::create(
      emit.builder, emit.loc, type, buffer,
      OpFoldResult(emit.builder.getIndexAttr(0)),
      OpFoldResult(emit.constant(Layout::kMaxSpan)),
      OpFoldResult(emit.builder.getIndexAttr(1)));
}

Rows::Rows(const Emitter &emit, Value memref) {
  auto metadata =
      memref::ExtractStridedMetadataOp::create(emit.builder, emit.loc, memref);
  first = {flatten(emit, metadata.getBaseBuffer()), metadata.getOffset()};
  stride = metadata.getStrides()[0];
}

/// The type of `type`, scalar or vector, with another element type.
static Type withElement(Type type, Type element) {
  if (auto vector = dyn_cast<VectorType>(type))
    return vector.clone(element);
  return element;
}

/// f32 to bf16 in integers.
static Value truncateToBF16(const Emitter &emit, Value value) {
  OpBuilder &b = emit.builder;
  Type type = value.getType();
  Type i32 = withElement(type, b.getI32Type());
  Type i16 = withElement(type, b.getI16Type());
  auto constant = [&](int64_t n) -> Value {
    Attribute attr = b.getI32IntegerAttr(n);
    if (auto vector = dyn_cast<VectorType>(i32))
      attr = DenseElementsAttr::get(vector, attr);
    return arith::ConstantOp::create(b, emit.loc, cast<TypedAttr>(attr));
  };
  Value bits = emit.make<arith::BitcastOp>(i32, value);
  // Half a unit in the last place, and one less where that is even.
  Value odd = emit.make<arith::ShRUIOp>(bits, constant(16));
  odd = emit.make<arith::AndIOp>(odd, constant(1));
  Value rounded = emit.add(emit.add(bits, odd), constant(0x7fff));
  // Rounding could carry a NaN over; it keeps its sign and becomes quiet.
  Value quiet = emit.make<arith::OrIOp>(bits, constant(0x400000));
  Value isNaN =
      emit.make<arith::CmpFOp>(arith::CmpFPredicate::UNO, value, value);
  Value chosen = emit.select(isNaN, quiet, rounded);
  Value high = emit.make<arith::ShRUIOp>(chosen, constant(16));
  Value half = emit.make<arith::TruncIOp>(i16, high);
  return emit.make<arith::BitcastOp>(withElement(type, b.getBF16Type()), half);
}

static Value extendBF16(const Emitter &emit, Value value) {
  OpBuilder &b = emit.builder;
  Type type = value.getType();
  Type i32 = withElement(type, b.getI32Type());
  Attribute sixteen = b.getI32IntegerAttr(16);
  if (auto vector = dyn_cast<VectorType>(i32))
    sixteen = DenseElementsAttr::get(vector, sixteen);
  Value shift =
      arith::ConstantOp::create(b, emit.loc, cast<TypedAttr>(sixteen));
  Value half =
      emit.make<arith::BitcastOp>(withElement(type, b.getI16Type()), value);
  Value wide = emit.make<arith::ExtUIOp>(i32, half);
  wide = emit.make<arith::ShLIOp>(wide, shift);
  return emit.make<arith::BitcastOp>(withElement(type, b.getF32Type()), wide);
}

Value kvcache::emitConvert(const Emitter &emit, Value value, Type elementType) {
  Type from = getElementTypeOrSelf(value.getType());
  if (from == elementType)
    return value;
  Type f32 = withElement(value.getType(), emit.builder.getF32Type());
  if (from.isBF16())
    value = extendBF16(emit, value);
  else if (!from.isF32())
    value = emit.make<arith::ExtFOp>(f32, value);
  if (elementType.isF32())
    return value;
  if (elementType.isBF16())
    return truncateToBF16(emit, value);
  return emit.make<arith::TruncFOp>(withElement(f32, elementType), value);
}

/// Calls `move` for pieces of at most `lanes` elements, powers of two, that
/// cover `elements`; whole ones in a loop if there are several.
static void
forPieces(const Emitter &emit, int64_t elements, int64_t lanes,
          llvm::function_ref<void(const Emitter &, Value, int64_t)> move) {
  int64_t done = elements / lanes * lanes;
  if (done == lanes)
    move(emit, emit.constant(0), lanes);
  else if (done)
    emit.loop(emit.constant(0), emit.constant(done), lanes,
              [&](const Emitter &e, Value at) { move(e, at, lanes); });
  while (done < elements) {
    while (lanes > elements - done)
      lanes /= 2;
    move(emit, emit.constant(done), lanes);
    done += lanes;
  }
}

static int64_t lanesOf(Type element) {
  return 64 * 8 / element.getIntOrFloatBitWidth();
}

void kvcache::emitRunCopy(const Emitter &emit, const Place &from,
                          const Place &to, int64_t elements) {
  Type source = cast<MemRefType>(from.memref.getType()).getElementType();
  Type target = cast<MemRefType>(to.memref.getType()).getElementType();
  forPieces(emit, elements, std::min(lanesOf(source), lanesOf(target)),
            [&](const Emitter &e, Value at, int64_t lanes) {
              Value loaded = vector::LoadOp::create(
                  e.builder, e.loc, VectorType::get({lanes}, source),
                  from.memref, e.add(from.offset, at));
              loaded = emitConvert(e, loaded, target);
              vector::StoreOp::create(e.builder, e.loc, loaded, to.memref,
                                      e.add(to.offset, at));
            });
}

void kvcache::emitRunClear(const Emitter &emit, const Place &to,
                           int64_t elements) {
  Type type = cast<MemRefType>(to.memref.getType()).getElementType();
  forPieces(emit, elements, lanesOf(type),
            [&](const Emitter &e, Value at, int64_t lanes) {
              auto vector = VectorType::get({lanes}, type);
              Value zero = arith::ConstantOp::create(
                  e.builder, e.loc, e.builder.getZeroAttr(vector));
              vector::StoreOp::create(e.builder, e.loc, zero, to.memref,
                                      e.add(to.offset, at));
            });
}

Value kvcache::emitTaskCount(const Emitter &emit, Value bytes, Value most) {
  // A task of less than this is not worth waking a thread for.
  constexpr int64_t kBytesPerTask = 128 * 1024;
  Value wanted = emit.add(emit.div(bytes, kBytesPerTask), 1);
  return emit.max(emit.min(wanted, most), emit.constant(1));
}
