// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The arguments of one call, made from the command line. Mistakes that a caller
// could make in C are neither repaired nor rejected here: the tensors are as
// described, and the entry function checks them.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_RUN_ARGUMENTS_H
#define KVCACHE_RUN_ARGUMENTS_H

#include "kvcache/Run/Tensor.h"
#include "kvcache/Runtime/kv_abi.h"
#include "kvcache/Target/Signature.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

namespace kvcache::run {

class Arguments {
public:
  /// `specs` are keyed by argument name. Arguments in `results` need none if
  /// the function writes them.
  static llvm::Expected<Arguments>
  make(const target::FunctionSignature &signature,
       const llvm::StringMap<ArgumentSpec> &specs,
       const llvm::StringSet<> &results);

  /// Null for a scalar.
  const Tensor *tensor(unsigned i) const { return tensors[i].get(); }
  int64_t integer(unsigned i) const { return words[i]; }
  /// The arguments of the call, 64 bits each: pointers to tensors, and scalars.
  llvm::ArrayRef<int64_t> callWords() const { return words; }

private:
  std::vector<std::unique_ptr<Tensor>> tensors;
  std::vector<std::unique_ptr<DLTensor>> views;
  std::vector<int64_t> words;
};

/// The argument with this name, or an error that lists the existing ones.
llvm::Expected<unsigned>
findArgument(const target::FunctionSignature &signature, llvm::StringRef name);

} // namespace kvcache::run

#endif // KVCACHE_RUN_ARGUMENTS_H
