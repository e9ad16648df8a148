// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Pairs of bf16 as an x86 with AVX512_BF16 multiplies them, and vectors in the
// sequence that its shuffles are cheap in. For a target that has `avx512_bf16`
// or `amx_bf16`.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_CPU_X86PAIRS_H
#define KVCACHE_LIB_CONVERSION_CPU_X86PAIRS_H

#include "Runs.h"

namespace kvcache::cpu::x86 {

/// Pairs of bf16: acc[i] + a[2i] * b[2i] + a[2i+1] * b[2i+1], in one
/// instruction of 512 bits.
mlir::Value dotPairs(CodeBuilder &emit, mlir::Value acc, mlir::Value a,
                     mlir::Value b);
/// 32 bf16 at a place, of which the first `n` are read and the others are 0.
mlir::Value loadHalves(CodeBuilder &emit, const Place &place, int64_t n);
/// The elements of two vectors of 32 bf16 in turn, in two vectors. Within each
/// group of eight elements the first half goes to the first vector, as that
/// takes one cheap instruction; `orderHalves` undoes it for two vectors of
/// sums.
std::pair<mlir::Value, mlir::Value>
interleaveHalves(CodeBuilder &emit, mlir::Value a, mlir::Value b);
std::pair<mlir::Value, mlir::Value>
orderHalves(CodeBuilder &emit, mlir::Value first, mlir::Value second);
/// The first 16 elements of two vectors of 32 bf16 in turn.
mlir::Value zipHalves(CodeBuilder &emit, mlir::Value a, mlir::Value b);

} // namespace kvcache::cpu::x86

#endif // KVCACHE_LIB_CONVERSION_CPU_X86PAIRS_H
