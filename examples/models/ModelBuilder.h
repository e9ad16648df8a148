// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the example models are put together from: the operations of a
// transformer on tensors of T rows, one for each token, and a paged cache.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_EXAMPLES_MODELS_MODELBUILDER_H
#define KVCACHE_EXAMPLES_MODELS_MODELBUILDER_H

#include "kvcache/IR/KVCache.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

#include <functional>

namespace models {

struct Sizes {
  int64_t layers = 4, hidden = 64, heads = 4, kvHeads = 2, headDim = 16;
  int64_t feedForward = 128, vocabulary = 96;
  /// Of a block of the cache.
  int64_t tokens = 16;
  int64_t window = 8;
  /// Channels of the inputs that each layer of a Gemma-3n-like model has.
  int64_t perLayer = 16;
};

/// Which layer: a constant, or an iteration of a loop.
using Layer = mlir::OpFoldResult;

class ModelBuilder : public mlir::ImplicitLocOpBuilder {
public:
  ModelBuilder(mlir::Location loc, const Sizes &sizes)
      : ImplicitLocOpBuilder(loc, loc.getContext()), sizes(sizes) {}

  /// Names an argument that the function gets; they are known in `begin`.
  unsigned addArgument(llvm::StringRef name, mlir::Type type);
  mlir::func::FuncOp begin(mlir::ModuleOp module, llvm::StringRef name,
                           mlir::TypeRange results);
  mlir::Value argument(unsigned number) { return function.getArgument(number); }

  mlir::RankedTensorType tensor(llvm::ArrayRef<int64_t> shape) {
    return mlir::RankedTensorType::get(shape, getF32Type());
  }
  mlir::RankedTensorType list() {
    return mlir::RankedTensorType::get({mlir::ShapedType::kDynamic},
                                       getI32Type());
  }

  //===-- Tensors --------------------------------------------------------===//

  /// From here on activations have as many rows as the list has entries.
  void setRowsOf(mlir::Value list);
  /// Rows of the given inner extents.
  mlir::Value empty(llvm::ArrayRef<int64_t> inner);
  /// One layer of weights of all layers.
  mlir::Value layerOf(mlir::Value weights, Layer layer);
  mlir::Value matmul(mlir::Value rows, mlir::Value weights);
  /// Elementwise; an operand of lower rank has the leading dimensions (`true`)
  /// or the last one.
  mlir::Value
  map(mlir::ValueRange operands, llvm::ArrayRef<bool> leading,
      std::function<mlir::Value(mlir::ImplicitLocOpBuilder &, mlir::ValueRange)>
          body);
  mlir::Value add(mlir::Value a, mlir::Value b);
  /// x / sqrt(mean(x^2) + eps) * weight
  mlir::Value rmsNorm(mlir::Value rows, mlir::Value weight);
  /// The same in another way: tensor arithmetic, a named reduction, broadcasts.
  mlir::Value rmsNormByParts(mlir::Value rows, mlir::Value weight);
  mlir::Value silu(mlir::Value x);
  mlir::Value multiply(mlir::Value a, mlir::Value b);
  /// [T, n * m] as [T, n, m], and back.
  mlir::Value split(mlir::Value rows, int64_t parts);
  mlir::Value merge(mlir::Value rows);
  /// table[indices[i], ...]
  mlir::Value gather(mlir::Value table, mlir::Value indices);

  //===-- Positions ------------------------------------------------------===//

  /// cos and sin of position times frequency, [T, headDim / 2] each.
  std::pair<mlir::Value, mlir::Value> angles(mlir::Value positions);
  /// Rotates by slices of halves.
  mlir::Value rotate(mlir::Value heads, mlir::Value cos, mlir::Value sin);
  /// The same, reading the other half at an index.
  mlir::Value rotateByIndex(mlir::Value heads, mlir::Value cos,
                            mlir::Value sin);

  //===-- Cache ----------------------------------------------------------===//

  kvcache::CacheType poolType(int64_t layers);
  void write(mlir::Value key, mlir::Value value, mlir::Value pool, Layer layer,
             mlir::Value slots);
  mlir::Value attend(mlir::Value query, mlir::Value pool, Layer layer,
                     mlir::Value batch, bool window);

  mlir::Value indexOf(Layer layer);

  const Sizes sizes;
  /// How many rows activations have.
  mlir::Value rows;

private:
  mlir::Value filled(mlir::Value empty);
  mlir::Value layerOfPool(mlir::Value pool, Layer layer);

  llvm::SmallVector<mlir::Type> types;
  llvm::SmallVector<std::string> names;
  mlir::func::FuncOp function;
};

} // namespace models

#endif // KVCACHE_EXAMPLES_MODELS_MODELBUILDER_H
