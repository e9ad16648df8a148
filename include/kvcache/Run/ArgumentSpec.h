// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// An argument as written on the command line: a value, and its layout in
// memory.
//
//   @pool.bin,dtype=bf16,shape=[2,100,16,8,128],strides=[...],offset=0
//   random,shape=[4,8,128],seed=7     random,range=[0,99]
//   zeros     iota     poison     3     [0,4,9]
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_RUN_ARGUMENTSPEC_H
#define KVCACHE_RUN_ARGUMENTSPEC_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace kvcache::run {

/// A number as written: an integer keeps all of its 64 bits.
struct Number {
  bool isInteger = true;
  int64_t integer = 0;
  double real = 0;
};

struct ArgumentSpec {
  enum class Source { File, Random, Zeros, Iota, Poison, Number, List };
  Source source = Source::Poison;
  std::string text; ///< the value as written, for messages
  std::string path;
  std::vector<Number> numbers;
  /// Counts are in elements. Omitted properties follow from the signature.
  std::optional<std::string> elementType;
  std::optional<std::vector<int64_t>> shape, strides;
  std::optional<int64_t> offset, seed;
  std::optional<std::pair<int64_t, int64_t>> range; ///< both ends included
};

llvm::Expected<ArgumentSpec> parseArgumentSpec(llvm::StringRef text);

/// `[2, 100, 16]`
std::string listStr(llvm::ArrayRef<int64_t> values);

/// An error with a message.
llvm::Error runError(const llvm::Twine &message);

} // namespace kvcache::run

#endif // KVCACHE_RUN_ARGUMENTSPEC_H
