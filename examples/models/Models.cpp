// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Models.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace models;

namespace {

/// Where a layer has its keys and values from.
enum class Source {
  Own,    ///< writes those of its own rows
  Early,  ///< writes those of the rows at the start of its segment
  Shared, ///< writes none
};

struct LayerKind {
  Source source;
  bool window;
  /// The cache it reads: `cache + i * step` for period i of its segment.
  int64_t cache, step;
};

/// Layers that are alike, `periods` times.
struct Segment {
  int64_t first, periods;
  SmallVector<LayerKind> kinds;
};

class Decoder : ModelBuilder {
public:
  Decoder(Location loc, const Options &options)
      : ModelBuilder(loc, options.sizes), options(options) {}

  void build(ModuleOp module) {
    addArguments();
    SmallVector<Type> results = {logitsType()};
    if (options.promptLogits)
      results.push_back(logitsType());
    begin(module, "model", results);
    setRowsOf(argument(tokens));
    makeBatch();
    Value x = gather(argument(embedding), argument(tokens));
    std::tie(cos, sin) = angles(argument(positions));
    if (options.family == Family::Gemma3n)
      perLayer = gather(argument(perLayerEmbedding), argument(tokens));
    for (const Segment &segment : segments()) {
      early = x;
      x = run(segment, x);
      if (options.family == Family::Yoco && segment.first == 0)
        writeKeys(norm(x, weight(attentionNorm, getIndexAttr(half()))),
                  getIndexAttr(half()), getIndexAttr(half()));
    }
    x = norm(x, argument(finalNorm));
    SmallVector<Value> logits;
    if (options.promptLogits)
      logits.push_back(matmul(x, argument(head)));
    setRowsOf(argument(sampled));
    logits.insert(logits.begin(), matmul(sample(x), argument(head)));
    func::ReturnOp::create(*this, logits);
  }

private:
  int64_t half() const { return sizes.layers / 2; }
  bool isGemma() const { return options.family == Family::Gemma3n; }

  RankedTensorType logitsType() {
    return tensor({ShapedType::kDynamic, sizes.vocabulary});
  }

  int64_t caches() const {
    switch (options.family) {
    case Family::Llama:
    case Family::SwiftKV:
      return sizes.layers;
    case Family::Yoco:
      return half() + 1;
    case Family::Gemma3n:
    case Family::Hunyuan:
      return half();
    }
    llvm_unreachable("all families are listed");
  }

  SmallVector<Segment> segments() const {
    int64_t all = sizes.layers, k = half();
    Segment first = {0, k, {{Source::Own, false, 0, 1}}};
    switch (options.family) {
    case Family::Llama:
      return {{0, all, {{Source::Own, false, 0, 1}}}};
    case Family::Yoco:
      return {first, {k, all - k, {{Source::Shared, false, k, 0}}}};
    case Family::Gemma3n:
      return {
          {0, k / 2, {{Source::Own, true, 0, 2}, {Source::Own, false, 1, 2}}},
          {k,
           (all - k) / 2,
           {{Source::Shared, true, k - 2, 0},
            {Source::Shared, false, k - 1, 0}}}};
    case Family::Hunyuan:
      return {
          {0, k, {{Source::Own, false, 0, 1}, {Source::Shared, false, 0, 1}}}};
    case Family::SwiftKV:
      return {first, {k, all - k, {{Source::Early, false, k, 1}}}};
    }
    llvm_unreachable("all families are listed");
  }

  void addArguments() {
    constexpr int64_t any = ShapedType::kDynamic;
    int64_t layers = sizes.layers, width = sizes.hidden;
    int64_t queries = sizes.heads * sizes.headDim;
    int64_t keys = sizes.kvHeads * sizes.headDim;
    tokens = addArgument("tokens", list());
    positions = addArgument("positions", list());
    starts = addArgument("starts", list());
    lengths = addArgument("lengths", list());
    blocks = addArgument("block_table",
                         RankedTensorType::get({any, any}, getI32Type()));
    sampled = addArgument("sampled", list());
    if (options.padded)
      valid =
          addArgument("num_valid", RankedTensorType::get({1}, getI32Type()));
    pool = addArgument("pool", poolType(caches()));
    embedding = addArgument("embedding", tensor({sizes.vocabulary, width}));
    attentionNorm = addArgument("attention_norm", tensor({layers, width}));
    wq = addArgument("wq", tensor({layers, width, queries}));
    wk = addArgument("wk", tensor({layers, width, keys}));
    wv = addArgument("wv", tensor({layers, width, keys}));
    wo = addArgument("wo", tensor({layers, queries, width}));
    mlpNorm = addArgument("mlp_norm", tensor({layers, width}));
    wGate = addArgument("w_gate", tensor({layers, width, sizes.feedForward}));
    wUp = addArgument("w_up", tensor({layers, width, sizes.feedForward}));
    wDown = addArgument("w_down", tensor({layers, sizes.feedForward, width}));
    if (isGemma()) {
      perLayerEmbedding =
          addArgument("per_layer_embedding",
                      tensor({sizes.vocabulary, layers, sizes.perLayer}));
      perLayerGate = addArgument("per_layer_gate",
                                 tensor({layers, width, sizes.perLayer}));
      perLayerProjection = addArgument("per_layer_projection",
                                       tensor({layers, sizes.perLayer, width}));
    }
    finalNorm = addArgument("final_norm", tensor({width}));
    head = addArgument("head", tensor({width, sizes.vocabulary}));
  }

  void makeBatch() {
    MLIRContext *context = getContext();
    auto index = getI32Type();
    auto tableType = kvcache::BlockTableType::get(
        context, kvcache::kRunTime, kvcache::kRunTime, index, sizes.tokens);
    Value table =
        kvcache::MakeBlockTableOp::create(*this, tableType, argument(blocks));
    batch = kvcache::MakeBatchOp::create(*this, argument(starts),
                                         argument(lengths), table, Value());
    auto numbers = RankedTensorType::get({ShapedType::kDynamic}, getI64Type());
    Value out =
        tensor::EmptyOp::create(*this, numbers.getShape(), getI64Type(), rows);
    out = kvcache::SlotMappingOp::create(*this, numbers, batch, Value(), out)
              .getResult(0);
    auto slotsType = kvcache::SlotsType::get(
        context, kvcache::kRunTime, getI64Type(), sizes.tokens,
        kvcache::Padding::skip_negative, 0);
    slots = kvcache::MakeSlotsOp::create(*this, slotsType, out);
  }

  /// base + period * step
  Layer at(int64_t base, Layer period, int64_t step) {
    if (std::optional<int64_t> number = getConstantIntValue(period))
      return getIndexAttr(base + *number * step);
    if (step == 0)
      return getIndexAttr(base);
    Value scaled =
        arith::MulIOp::create(*this, cast<Value>(period),
                              arith::ConstantIndexOp::create(*this, step));
    return Value(arith::AddIOp::create(
        *this, scaled, arith::ConstantIndexOp::create(*this, base)));
  }

  Value run(const Segment &segment, Value x) {
    if (!options.rolled) {
      for (int64_t period = 0; period < segment.periods; ++period)
        x = runPeriod(segment, getIndexAttr(period), x);
      return x;
    }
    Value zero = arith::ConstantIndexOp::create(*this, 0);
    Value one = arith::ConstantIndexOp::create(*this, 1);
    Value end = arith::ConstantIndexOp::create(*this, segment.periods);
    auto loop = scf::ForOp::create(*this, zero, end, one, x);
    OpBuilder::InsertionGuard guard(*this);
    setInsertionPointToStart(loop.getBody());
    Value next =
        runPeriod(segment, loop.getInductionVar(), loop.getRegionIterArgs()[0]);
    scf::YieldOp::create(*this, next);
    return loop.getResult(0);
  }

  Value runPeriod(const Segment &segment, Layer period, Value x) {
    int64_t count = segment.kinds.size();
    for (auto [number, kind] : llvm::enumerate(segment.kinds))
      x = runLayer(kind, at(segment.first + number, period, count),
                   at(kind.cache, period, kind.step), x);
    return x;
  }

  Value weight(unsigned argumentNumber, Layer layer) {
    return layerOf(argument(argumentNumber), layer);
  }

  Value norm(Value x, Value weights) {
    return isGemma() ? rmsNormByParts(x, weights) : rmsNorm(x, weights);
  }

  Value rotated(Value heads) {
    return isGemma() ? rotateByIndex(heads, cos, sin) : rotate(heads, cos, sin);
  }

  std::pair<Value, Value> keysOf(Value normed, Layer layer) {
    Value key = split(matmul(normed, weight(wk, layer)), sizes.kvHeads);
    Value value = split(matmul(normed, weight(wv, layer)), sizes.kvHeads);
    return {rotated(key), value};
  }

  void writeKeys(Value normed, Layer layer, Layer cache) {
    auto [key, value] = keysOf(normed, layer);
    write(key, value, argument(pool), cache, slots);
  }

  Value runLayer(const LayerKind &kind, Layer layer, Layer cache, Value x) {
    Value scale = weight(attentionNorm, layer);
    Value normed = norm(x, scale);
    Value query =
        rotated(split(matmul(normed, weight(wq, layer)), sizes.heads));
    if (kind.source == Source::Own)
      writeKeys(normed, layer, cache);
    else if (kind.source == Source::Early)
      writeKeys(norm(early, scale), layer, cache);
    else if (isGemma())
      // As published, these layers make keys and values, and drop them.
      (void)keysOf(normed, layer);
    Value attended = attend(query, argument(pool), cache, batch, kind.window);
    x = add(x, matmul(merge(attended), weight(wo, layer)));
    normed = norm(x, weight(mlpNorm, layer));
    Value gate = silu(matmul(normed, weight(wGate, layer)));
    Value up = matmul(normed, weight(wUp, layer));
    x = add(x, matmul(multiply(gate, up), weight(wDown, layer)));
    return isGemma() ? addPerLayerInput(x, layer) : x;
  }

  Value addPerLayerInput(Value x, Layer layer) {
    SmallVector<OpFoldResult> offsets = {getIndexAttr(0), layer,
                                         getIndexAttr(0)};
    SmallVector<OpFoldResult> extents = {rows, getIndexAttr(1),
                                         getIndexAttr(sizes.perLayer)};
    SmallVector<OpFoldResult> ones(3, getIndexAttr(1));
    Value input = tensor::ExtractSliceOp::create(
        *this, tensor({ShapedType::kDynamic, sizes.perLayer}), perLayer,
        offsets, extents, ones);
    Value gate = silu(matmul(x, weight(perLayerGate, layer)));
    Value added =
        matmul(multiply(gate, input), weight(perLayerProjection, layer));
    return add(x, added);
  }

  Value sample(Value x) {
    if (!options.padded)
      return gather(x, argument(sampled));
    Value out = empty({sizes.hidden});
    Value requests = tensor::DimOp::create(*this, argument(starts), 0);
    SmallVector<int64_t> shape = {ShapedType::kDynamic};
    Value numbers =
        tensor::EmptyOp::create(*this, shape, getI32Type(), requests);
    Value where = tensor::EmptyOp::create(*this, shape, getI32Type(), rows);
    SmallVector<Value> outs = {out, numbers, where};
    return kvcache::SelectRowsOp::create(*this, x, batch, argument(sampled),
                                         argument(valid), outs)
        .getResult(0);
  }

  const Options &options;
  unsigned tokens, positions, starts, lengths, blocks, sampled, valid, pool;
  unsigned embedding, attentionNorm, wq, wk, wv, wo, mlpNorm, wGate, wUp, wDown;
  unsigned perLayerEmbedding, perLayerGate, perLayerProjection, finalNorm, head;
  Value batch, slots, cos, sin, perLayer, early;
};

} // namespace

OwningOpRef<ModuleOp> models::buildModel(MLIRContext &context,
                                         const Options &options) {
  context.loadDialect<arith::ArithDialect, func::FuncDialect,
                      kvcache::KVCacheDialect, linalg::LinalgDialect,
                      math::MathDialect, scf::SCFDialect,
                      mlir::tensor::TensorDialect>();
  Location loc = UnknownLoc::get(&context);
  OwningOpRef<ModuleOp> module = ModuleOp::create(loc);
  Decoder(loc, options).build(*module);
  return module;
}
