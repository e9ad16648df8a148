// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "ModelBuilder.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

#include <cmath>

using namespace mlir;
using namespace models;

static constexpr auto kParallel = utils::IteratorType::parallel;
static constexpr auto kReduction = utils::IteratorType::reduction;

unsigned ModelBuilder::addArgument(StringRef name, Type type) {
  names.push_back(name.str());
  types.push_back(type);
  return names.size() - 1;
}

func::FuncOp ModelBuilder::begin(ModuleOp module, StringRef name,
                                 TypeRange results) {
  setInsertionPointToEnd(module.getBody());
  function = func::FuncOp::create(*this, name, getFunctionType(types, results));
  for (auto [number, argument] : llvm::enumerate(names))
    function.setArgAttr(number, kvcache::KVCacheDialect::kNameAttr,
                        getStringAttr(argument));
  setInsertionPointToStart(function.addEntryBlock());
  return function;
}

//===----------------------------------------------------------------------===//
// Tensors
//===----------------------------------------------------------------------===//

static ArrayRef<int64_t> shapeOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getShape();
}

static int64_t rankOf(Value value) { return shapeOf(value).size(); }

void ModelBuilder::setRowsOf(Value list) {
  rows = tensor::DimOp::create(*this, list, 0);
}

Value ModelBuilder::empty(ArrayRef<int64_t> inner) {
  SmallVector<int64_t> shape = {ShapedType::kDynamic};
  shape.append(inner.begin(), inner.end());
  return tensor::EmptyOp::create(*this, shape, getF32Type(), rows);
}

Value ModelBuilder::filled(Value empty) {
  Value zero = arith::ConstantOp::create(*this, getF32FloatAttr(0));
  return linalg::FillOp::create(*this, zero, empty).getResult(0);
}

Value ModelBuilder::layerOf(Value weights, Layer layer) {
  ArrayRef<int64_t> shape = shapeOf(weights);
  SmallVector<OpFoldResult> offsets(shape.size(), getIndexAttr(0));
  SmallVector<OpFoldResult> ones(shape.size(), getIndexAttr(1));
  SmallVector<OpFoldResult> sizes = ones;
  offsets[0] = layer;
  for (unsigned i = 1; i < shape.size(); ++i)
    sizes[i] = getIndexAttr(shape[i]);
  return tensor::ExtractSliceOp::create(*this, tensor(shape.drop_front()),
                                        weights, offsets, sizes, ones);
}

Value ModelBuilder::matmul(Value rows, Value weights) {
  Value out = filled(empty(shapeOf(weights).back()));
  return linalg::MatmulOp::create(*this, ValueRange{rows, weights}, out)
      .getResult(0);
}

Value ModelBuilder::map(
    ValueRange operands, ArrayRef<bool> leading,
    std::function<Value(ImplicitLocOpBuilder &, ValueRange)> body) {
  int64_t rank = rankOf(operands[0]);
  SmallVector<AffineMap> maps;
  for (auto [operand, isLeading] : llvm::zip_equal(operands, leading)) {
    SmallVector<AffineExpr> exprs;
    int64_t own = rankOf(operand);
    for (int64_t i = 0; i < own; ++i)
      exprs.push_back(getAffineDimExpr(isLeading ? i : rank - own + i));
    maps.push_back(AffineMap::get(rank, 0, exprs, getContext()));
  }
  maps.push_back(getMultiDimIdentityMap(rank));
  Value out = empty(shapeOf(operands[0]).drop_front());
  return linalg::GenericOp::create(
             *this, out.getType(), operands, out, maps,
             SmallVector<utils::IteratorType>(rank, kParallel),
             [&](OpBuilder &builder, Location loc, ValueRange values) {
               ImplicitLocOpBuilder b(loc, builder);
               linalg::YieldOp::create(b, body(b, values.drop_back()));
             })
      .getResult(0);
}

Value ModelBuilder::add(Value a, Value b) {
  return arith::AddFOp::create(*this, a, b);
}

Value ModelBuilder::multiply(Value a, Value b) {
  return arith::MulFOp::create(*this, a, b);
}

Value ModelBuilder::silu(Value x) {
  return map(x, true, [](ImplicitLocOpBuilder &b, ValueRange values) {
    Value one = arith::ConstantOp::create(b, b.getF32FloatAttr(1));
    Value power = math::ExpOp::create(b, arith::NegFOp::create(b, values[0]));
    return Value(arith::DivFOp::create(b, values[0],
                                       arith::AddFOp::create(b, one, power)));
  });
}

Value ModelBuilder::rmsNorm(Value rows, Value weight) {
  int64_t width = shapeOf(rows).back();
  AffineMap all = getMultiDimIdentityMap(2);
  AffineMap row = AffineMap::get(2, 0, getAffineDimExpr(0));
  Value sums = filled(empty({}));
  sums = linalg::GenericOp::create(
             *this, sums.getType(), rows, sums, ArrayRef<AffineMap>{all, row},
             ArrayRef<utils::IteratorType>{kParallel, kReduction},
             [](OpBuilder &b, Location loc, ValueRange values) {
               Value square =
                   arith::MulFOp::create(b, loc, values[0], values[0]);
               Value sum = arith::AddFOp::create(b, loc, values[1], square);
               linalg::YieldOp::create(b, loc, sum);
             })
             .getResult(0);
  return map(
      {rows, sums, weight}, {true, true, false},
      [&](ImplicitLocOpBuilder &b, ValueRange values) {
        Value count = arith::ConstantOp::create(b, b.getF32FloatAttr(width));
        Value eps = arith::ConstantOp::create(b, b.getF32FloatAttr(1e-6));
        Value mean = arith::DivFOp::create(b, values[1], count);
        Value scale =
            math::RsqrtOp::create(b, arith::AddFOp::create(b, mean, eps));
        Value scaled = arith::MulFOp::create(b, values[0], scale);
        return Value(arith::MulFOp::create(b, scaled, values[2]));
      });
}

Value ModelBuilder::rmsNormByParts(Value rows, Value weight) {
  int64_t width = shapeOf(rows).back();
  Value squares = multiply(rows, rows);
  Value sums = linalg::ReduceOp::create(
                   *this, squares, filled(empty({})), SmallVector<int64_t>{1},
                   [](OpBuilder &b, Location loc, ValueRange values) {
                     Value sum =
                         arith::AddFOp::create(b, loc, values[0], values[1]);
                     linalg::YieldOp::create(b, loc, sum);
                   })
                   .getResult(0);
  Value scales =
      map(sums, true, [&](ImplicitLocOpBuilder &b, ValueRange values) {
        Value count = arith::ConstantOp::create(b, b.getF32FloatAttr(width));
        Value eps = arith::ConstantOp::create(b, b.getF32FloatAttr(1e-6));
        return Value(arith::AddFOp::create(
            b, arith::DivFOp::create(b, values[0], count), eps));
      });
  scales = math::RsqrtOp::create(*this, scales);
  Value wide = linalg::BroadcastOp::create(*this, scales, empty(width),
                                           SmallVector<int64_t>{1})
                   ->getResult(0);
  Value weights = linalg::BroadcastOp::create(*this, weight, empty(width),
                                              SmallVector<int64_t>{0})
                      ->getResult(0);
  return multiply(multiply(rows, wide), weights);
}

Value ModelBuilder::split(Value rows, int64_t parts) {
  int64_t width = shapeOf(rows).back();
  SmallVector<OpFoldResult> shape = {this->rows, getIndexAttr(parts),
                                     getIndexAttr(width / parts)};
  return tensor::ExpandShapeOp::create(
      *this, tensor({ShapedType::kDynamic, parts, width / parts}), rows,
      SmallVector<ReassociationIndices>{{0}, {1, 2}}, shape);
}

Value ModelBuilder::merge(Value rows) {
  return tensor::CollapseShapeOp::create(
      *this, rows, SmallVector<ReassociationIndices>{{0}, {1, 2}});
}

Value ModelBuilder::gather(Value table, Value indices) {
  int64_t rank = rankOf(table);
  Value out = empty(shapeOf(table).drop_front());
  AffineMap entry = AffineMap::get(rank, 0, getAffineDimExpr(0));
  return linalg::GenericOp::create(
             *this, out.getType(), indices, out,
             ArrayRef<AffineMap>{entry, getMultiDimIdentityMap(rank)},
             SmallVector<utils::IteratorType>(rank, kParallel),
             [&](OpBuilder &b, Location loc, ValueRange values) {
               SmallVector<Value> at = {arith::IndexCastOp::create(
                   b, loc, b.getIndexType(), values[0])};
               for (int64_t i = 1; i < rank; ++i)
                 at.push_back(linalg::IndexOp::create(b, loc, i));
               Value element = tensor::ExtractOp::create(b, loc, table, at);
               linalg::YieldOp::create(b, loc, element);
             })
      .getResult(0);
}

//===----------------------------------------------------------------------===//
// Positions
//===----------------------------------------------------------------------===//

std::pair<Value, Value> ModelBuilder::angles(Value positions) {
  int64_t half = sizes.headDim / 2;
  Value out = empty(half);
  auto generic = linalg::GenericOp::create(
      *this, TypeRange{out.getType(), out.getType()}, positions,
      ValueRange{out, empty(half)},
      ArrayRef<AffineMap>{AffineMap::get(2, 0, getAffineDimExpr(0)),
                          getMultiDimIdentityMap(2), getMultiDimIdentityMap(2)},
      ArrayRef<utils::IteratorType>{kParallel, kParallel},
      [&](OpBuilder &builder, Location loc, ValueRange values) {
        ImplicitLocOpBuilder b(loc, builder);
        Value channel = linalg::IndexOp::create(b, 1);
        channel = arith::IndexCastOp::create(b, b.getI32Type(), channel);
        channel = arith::SIToFPOp::create(b, b.getF32Type(), channel);
        Value position = arith::SIToFPOp::create(b, b.getF32Type(), values[0]);
        Value step = arith::ConstantOp::create(
            b, b.getF32FloatAttr(-std::log(10000.0) / half));
        Value frequency =
            math::ExpOp::create(b, arith::MulFOp::create(b, channel, step));
        Value angle = arith::MulFOp::create(b, position, frequency);
        linalg::YieldOp::create(b, ValueRange{math::CosOp::create(b, angle),
                                              math::SinOp::create(b, angle)});
      });
  return {generic.getResult(0), generic.getResult(1)};
}

Value ModelBuilder::rotate(Value heads, Value cos, Value sin) {
  int64_t count = shapeOf(heads)[1], half = sizes.headDim / 2;
  SmallVector<OpFoldResult> ones(3, getIndexAttr(1));
  SmallVector<OpFoldResult> extents = {rows, getIndexAttr(count),
                                       getIndexAttr(half)};
  auto offsets = [&](int64_t part) {
    return SmallVector<OpFoldResult>{getIndexAttr(0), getIndexAttr(0),
                                     getIndexAttr(part * half)};
  };
  Value parts[2];
  for (int part : {0, 1})
    parts[part] = tensor::ExtractSliceOp::create(*this, heads, offsets(part),
                                                 extents, ones);
  AffineMap all = getMultiDimIdentityMap(3);
  AffineMap angle = AffineMap::get(
      3, 0, {getAffineDimExpr(0), getAffineDimExpr(2)}, getContext());
  Value out = empty({count, half});
  auto rotated = linalg::GenericOp::create(
      *this, TypeRange{out.getType(), out.getType()},
      ValueRange{parts[0], parts[1], cos, sin},
      ValueRange{out, empty({count, half})},
      ArrayRef<AffineMap>{all, all, angle, angle, all, all},
      SmallVector<utils::IteratorType>(3, kParallel),
      [](OpBuilder &builder, Location loc, ValueRange v) {
        ImplicitLocOpBuilder b(loc, builder);
        auto mul = [&](Value x, Value y) -> Value {
          return arith::MulFOp::create(b, x, y);
        };
        Value low = arith::SubFOp::create(b, mul(v[0], v[2]), mul(v[1], v[3]));
        Value high = arith::AddFOp::create(b, mul(v[1], v[2]), mul(v[0], v[3]));
        linalg::YieldOp::create(b, ValueRange{low, high});
      });
  Value result = empty({count, 2 * half});
  for (int part : {0, 1})
    result = tensor::InsertSliceOp::create(
        *this, rotated.getResult(part), result, offsets(part), extents, ones);
  return result;
}

Value ModelBuilder::rotateByIndex(Value heads, Value cos, Value sin) {
  int64_t count = shapeOf(heads)[1], half = sizes.headDim / 2;
  Value out = empty({count, 2 * half});
  return linalg::GenericOp::create(
             *this, out.getType(), ValueRange(), out, getMultiDimIdentityMap(3),
             SmallVector<utils::IteratorType>(3, kParallel),
             [&](OpBuilder &builder, Location loc, ValueRange) {
               ImplicitLocOpBuilder b(loc, builder);
               Value row = linalg::IndexOp::create(b, 0);
               Value head = linalg::IndexOp::create(b, 1);
               Value channel = linalg::IndexOp::create(b, 2);
               Value middle = arith::ConstantIndexOp::create(b, half);
               Value isHigh = arith::CmpIOp::create(
                   b, arith::CmpIPredicate::sge, channel, middle);
               Value down = arith::SubIOp::create(b, channel, middle);
               Value up = arith::AddIOp::create(b, channel, middle);
               Value other = arith::SelectOp::create(b, isHigh, down, up);
               Value pair = arith::SelectOp::create(b, isHigh, down, channel);
               auto read = [&](Value from, ValueRange at) -> Value {
                 return tensor::ExtractOp::create(b, from, at);
               };
               Value x =
                   arith::MulFOp::create(b, read(heads, {row, head, channel}),
                                         read(cos, {row, pair}));
               Value y = arith::MulFOp::create(
                   b, read(heads, {row, head, other}), read(sin, {row, pair}));
               Value plus = arith::AddFOp::create(b, x, y);
               Value minus = arith::SubFOp::create(b, x, y);
               Value sum = arith::SelectOp::create(b, isHigh, plus, minus);
               linalg::YieldOp::create(b, sum);
             })
      .getResult(0);
}

//===----------------------------------------------------------------------===//
// Cache
//===----------------------------------------------------------------------===//

kvcache::CacheType ModelBuilder::poolType(int64_t layers) {
  using kvcache::kRunTime;
  std::string text =
      (llvm::Twine("!kvcache.cache<") + llvm::Twine(layers) + "L x 2S x ?B x " +
       llvm::Twine(sizes.tokens) + "N x " + llvm::Twine(sizes.kvHeads) +
       "H x " + llvm::Twine(sizes.headDim) +
       "D x f32, order = cross_layer_nhd>")
          .str();
  return cast<kvcache::CacheType>(parseType(text, getContext()));
}

Value ModelBuilder::indexOf(Layer layer) {
  if (auto value = dyn_cast<Value>(layer))
    return value;
  return arith::ConstantIndexOp::create(*this, *getConstantIntValue(layer));
}

Value ModelBuilder::layerOfPool(Value pool, Layer layer) {
  return kvcache::LayerOp::create(*this, pool, indexOf(layer));
}

void ModelBuilder::write(Value key, Value value, Value pool, Layer layer,
                         Value slots) {
  kvcache::IndexCopyOp::create(*this, TypeRange(), ValueRange{key, value},
                               layerOfPool(pool, layer), /*scales=*/Value(),
                               slots, ArrayAttr(), kvcache::CopyScheduleAttr());
}

Value ModelBuilder::attend(Value query, Value pool, Layer layer, Value batch,
                           bool window) {
  Value cache = layerOfPool(pool, layer);
  Value out = empty(shapeOf(query).drop_front());
  return kvcache::AttentionOp::create(
             *this, out.getType(), query, cache, /*scales=*/ValueRange(), batch,
             /*alibi=*/Value(), /*sinks=*/Value(), /*mask=*/Value(),
             /*valueScale=*/Value(),
             /*prefixGroups=*/Value(), /*prefixLengths=*/Value(), out,
             getArrayAttr({}),
             /*headsFirst=*/false, /*batchInvariant=*/false, /*causal=*/true,
             window ? getI64IntegerAttr(sizes.window) : IntegerAttr(),
             /*windowRight=*/IntegerAttr(), FloatAttr(), FloatAttr())
      .getResult(0);
}
