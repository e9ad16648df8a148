// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Arithmetic on vectors of f32 that attention is made of: loads that convert,
// products with accumulators in registers, sums across lanes, exponentials.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_CPU_LANES_H
#define KVCACHE_LIB_CONVERSION_CPU_LANES_H

#include "Runs.h"

namespace kvcache::cpu {

using Values = llvm::SmallVector<mlir::Value>;

/// A place that can be loaded from and stored to in vectors of f32.
mlir::Value loadLanes(CodeBuilder &emit, const Place &place, int64_t lanes);
void storeLanes(CodeBuilder &emit, mlir::Value vector, const Place &place);
/// One f32 in all lanes.
mlir::Value splat(CodeBuilder &emit, mlir::Value scalar, int64_t lanes);
mlir::Value splat(CodeBuilder &emit, float value, int64_t lanes);

mlir::Value addF(CodeBuilder &emit, mlir::Value a, mlir::Value b);
mlir::Value subF(CodeBuilder &emit, mlir::Value a, mlir::Value b);
mlir::Value mulF(CodeBuilder &emit, mlir::Value a, mlir::Value b);
mlir::Value divF(CodeBuilder &emit, mlir::Value a, mlir::Value b);
mlir::Value maxF(CodeBuilder &emit, mlir::Value a, mlir::Value b);
mlir::Value fma(CodeBuilder &emit, mlir::Value a, mlir::Value b, mlir::Value c);

/// 2^x, of a number or a vector, but 0 below 2^-126: CPUs take ten times as
/// long for products with subnormal numbers.
mlir::Value emitExp2(CodeBuilder &emit, mlir::Value x);
/// Of a number or a vector, within half a unit of 1: the scores that it caps
/// need no more, and that of kvcache-expand-math takes f64.
mlir::Value emitTanh(CodeBuilder &emit, mlir::Value x);

/// The sums over the lanes of as many vectors as there are lanes: lane i has
/// the sum over vector i.
mlir::Value emitLaneSums(CodeBuilder &emit, Values vectors);

/// The vector with more lanes, which are 0.
mlir::Value widenLanes(CodeBuilder &emit, mlir::Value vector, int64_t lanes);

/// The lanes rotated by `distance`.
mlir::Value rotateLanes(CodeBuilder &emit, mlir::Value vector,
                        int64_t distance);

/// acc[m][v] = acc[m][v] + sum over k in 0 .. count-1 of a(k, m) * b(k, v),
/// for a block of `rows` numbers and `columns` vectors that stay in registers.
/// Where `guarded`, a product with a number that is 0 is 0, whatever the other
/// factor is.
struct RegisterBlock {
  using Number =
      llvm::function_ref<mlir::Value(CodeBuilder &, mlir::Value k, int64_t)>;
  int64_t rows, columns, lanes;
  bool guarded = false;

  Values accumulate(CodeBuilder &emit, mlir::Value count, Values start,
                    Number a, Number b) const;
  Values zeros(CodeBuilder &emit) const;
};

} // namespace kvcache::cpu

#endif // KVCACHE_LIB_CONVERSION_CPU_LANES_H
