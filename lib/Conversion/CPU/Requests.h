// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The requests of a batch, with numbers that can be relied on.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_CPU_REQUESTS_H
#define KVCACHE_LIB_CONVERSION_CPU_REQUESTS_H

#include "../Common/CacheLowering.h"
#include "../Common/CodeBuilder.h"

namespace kvcache::cpu {

class Requests {
public:
  /// Emits the repair of the starts, into a buffer of the workspace. `rows` is
  /// how many rows activations have.
  Requests(CodeBuilder &emit, const BatchValue &batch, mlir::Value rows);

  /// The first row of a request, and the first behind it. The first of request
  /// number `count` is the first row behind all requests.
  mlir::Value first(CodeBuilder &emit, mlir::Value request) const;
  mlir::Value end(CodeBuilder &emit, mlir::Value request) const;
  /// How many tokens of a request the cache holds.
  mlir::Value length(CodeBuilder &emit, mlir::Value request) const;
  /// Where the token of a row is in its request, which has the given `end` and
  /// `length`. It can be anything.
  mlir::Value position(CodeBuilder &emit, mlir::Value row, mlir::Value end,
                       mlir::Value length) const;
  /// Rows that are in no request.
  void forRowsOutside(CodeBuilder &emit, CodeBuilder::Body body) const;

  /// The last request, of the first `limit` ones, whose key is at most `value`;
  /// 0 if there is none. Keys do not decrease.
  using Key = llvm::function_ref<mlir::Value(CodeBuilder &, mlir::Value)>;
  mlir::Value lastAtMost(CodeBuilder &emit, mlir::Value limit,
                         mlir::Value value, Key key) const;

  const BatchValue batch;
  const mlir::Value rows, count;

private:
  mlir::Value starts;
};

} // namespace kvcache::cpu

#endif // KVCACHE_LIB_CONVERSION_CPU_REQUESTS_H
