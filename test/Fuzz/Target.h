// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a fuzz target is. docs/fuzzing.md says what each one looks for.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_TEST_FUZZ_TARGET_H
#define KVCACHE_TEST_FUZZ_TARGET_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <random>
#include <string>

namespace kvcache::fuzz {

using Random = std::mt19937;

struct Target {
  const char *name;
  /// Ends the process, by a crash or `report`, if something is wrong.
  void (*run)(llvm::StringRef input);
  /// Another input made of one that ran; null: bytes change at random. An empty
  /// result stands for one of those.
  std::string (*mutate)(llvm::StringRef input, Random &random) = nullptr;
  /// An input made of two.
  std::string (*cross)(llvm::StringRef input, llvm::StringRef other,
                       Random &random) = nullptr;
};

/// Text and bytecode of programs, and each pass (ProgramTargets.cpp).
llvm::ArrayRef<Target> programTargets();
/// What kv-run reads, and what kv-compile writes (FileTargets.cpp).
llvm::ArrayRef<Target> fileTargets();
/// Calls of a library and of the run time (CallTargets.cpp, RuntimeTarget.cpp).
llvm::ArrayRef<Target> callTargets();
llvm::ArrayRef<Target> runtimeTargets();

/// A finding that does not crash by itself.
[[noreturn]] void report(const std::string &what);

/// A letter and what passes it stands for on each line.
void printPasses();
/// The valid programs among the files of a folder, written to another one.
void writeBytecodeSeeds(llvm::StringRef from, llvm::StringRef to);

} // namespace kvcache::fuzz

#endif // KVCACHE_TEST_FUZZ_TARGET_H
