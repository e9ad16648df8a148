// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The interface of a compiled function, as data. The checks of the entry
// function, the C header and the manifest are all generated from it.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_TARGET_SIGNATURE_H
#define KVCACHE_TARGET_SIGNATURE_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Support/LLVM.h"

#include <string>
#include <vector>

namespace kvcache::target {

/// One dimension of a tensor argument. All facts about its stride hold
/// together.
struct DimRule {
  int64_t extent = -1; ///< -1: any
  int symbol = -1;     ///< dimensions with one symbol are equal
  int of = -1;         ///< the symbol that this one is a multiple of
  int64_t times = 1;   ///< extent = times * of + plus
  int64_t plus = 0;
  int64_t constant = -1; ///< the stride; -1: not known
  int64_t multiple = 1;  ///< the stride is a multiple of this
  bool compact = false;  ///< the span of `next`, else at least that
  int next = -1;         ///< the next faster dimension
};

/// The axes of a pool, and the runs of one block: `runBytes` bytes at each
/// combination of indices of `loops`.
struct PoolSignature {
  std::vector<std::string> axes; ///< of each dimension; empty for other tensors
  std::vector<unsigned> order;   ///< dimensions from slowest to fastest
  std::vector<unsigned> loops;   ///< dimensions, slowest first
  int64_t runBytes = 0;
};

struct ArgumentSignature {
  enum class Kind { Tensor, Int, Float };
  enum class Device { Cpu, Cuda };
  std::string name;
  Kind kind = Kind::Tensor;
  /// The element type as in MLIR: `bf16`, `i64`; for scalars `f64`, `i64`.
  std::string elementType;
  unsigned elementBits = 64;
  uint8_t dlpackCode = 0; ///< of elements
  /// The elements as libraries of arrays call them: `bfloat16`, `int64`.
  std::string dtype;
  std::vector<DimRule> dims;
  int64_t align = 1; ///< bytes
  Device device = Device::Cpu;
  bool isWritten = false;
  bool isResult = false; ///< what the program returns
  PoolSignature pool;
  /// The type as written, for people and for engines that know the dialect.
  std::string type;

  /// Words of the frame that the runtime fills.
  unsigned frameWords() const {
    return kind == Kind::Tensor ? 3 + 2 * dims.size() : 1;
  }
};

/// extent(symbol) = times * extent(of) + plus.
struct SymbolRule {
  int symbol, of;
  int64_t times, plus;
};

struct FunctionSignature {
  std::string name;
  std::vector<ArgumentSignature> arguments;
  unsigned numSymbols = 0;
  std::vector<SymbolRule> rules;
};

/// Computes the extents of symbols that follow from others; -1 is unknown.
void followRules(const FunctionSignature &function,
                 llvm::MutableArrayRef<int64_t> extents);

/// `[2, n0, 16, 8, 128]`: equal run-time extents have the same name, and
/// multiples of another one are `16 * n0`.
std::string shapeStr(const ArgumentSignature &argument);

/// The signatures of the public functions of a bufferized module. Fails with a
/// diagnostic where a function cannot be called from outside, or relies on
/// something that an entry function cannot check.
mlir::FailureOr<std::vector<FunctionSignature>>
describeFunctions(mlir::ModuleOp module, ArgumentSignature::Device device);

} // namespace kvcache::target

#endif // KVCACHE_TARGET_SIGNATURE_H
