// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Programs made of programs. Most of what is done to bytes gives no program,
// and most of what is done to words gives no valid one, so that passes would
// see next to nothing: operations are changed too.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_TEST_FUZZ_MUTATE_H
#define KVCACHE_TEST_FUZZ_MUTATE_H

#include "Target.h"

#include "mlir/IR/BuiltinOps.h"

namespace kvcache::fuzz {

/// From 0 to count - 1.
inline size_t pick(Random &random, size_t count) { return random() % count; }

template <typename Range> auto &pickFrom(Random &random, Range &range) {
  return range[pick(random, std::size(range))];
}

/// Words, numbers and types of a text are replaced, often everywhere at once.
/// Empty if there was nothing to change.
std::string mutateText(llvm::StringRef text, Random &random);
/// Functions or lines of another text are put into one.
std::string crossText(llvm::StringRef text, llvm::StringRef other,
                      Random &random);

/// Changes one operation: its operands, attributes or place, or what is around
/// it. The result may be invalid: nothing is verified here, since a crash of a
/// verifier would be one of an input that nobody has. False if nothing changed.
bool mutateOperations(mlir::ModuleOp module, Random &random);
/// Puts a copy of an operation of another program of this context into one.
bool crossOperations(mlir::ModuleOp module, mlir::ModuleOp other,
                     Random &random);

} // namespace kvcache::fuzz

#endif // KVCACHE_TEST_FUZZ_MUTATE_H
