// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Blocks and offsets that a program computed from slots by division, element by
// element: how to find the list of slots.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_TRANSFORMS_SLOTARITHMETIC_H
#define KVCACHE_LIB_TRANSFORMS_SLOTARITHMETIC_H

#include "mlir/IR/Operation.h"
#include "mlir/IR/Value.h"

#include <string>

namespace kvcache {

/// How a list was computed from another one: the quotient or remainder of each
/// entry by a constant.
struct DividedList {
  enum class Kind {
    Truncated, ///< towards zero, the remainder has the sign of the entry
    Floor,     ///< towards minus infinity; as remainder, never negative
    Unsigned,  ///< of the bits, taken as unsigned
  };
  mlir::Value slots;
  mlir::Operation *made = nullptr; ///< the loop that computes the entries
  int64_t by = 0;
  Kind kind = Kind::Truncated;
};

/// The list that `blocks` is the quotient of. Nothing if it is not a quotient,
/// and `why` says what was expected. Memory with a second writer is not
/// followed.
std::optional<DividedList> findQuotient(mlir::Value blocks, std::string &why);
std::optional<DividedList> findRemainder(mlir::Value offsets, std::string &why);

/// Removes lists that are only written, and the loops that write them.
void eraseIfOnlyWritten(mlir::Value a, mlir::Value b);

} // namespace kvcache

#endif // KVCACHE_LIB_TRANSFORMS_SLOTARITHMETIC_H
