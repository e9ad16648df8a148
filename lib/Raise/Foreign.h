// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operations of dialects that this project does not link, by their names. Their
// attributes are read as text where their dialect is not registered, and as the
// same text where it is.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_RAISE_FOREIGN_H
#define KVCACHE_LIB_RAISE_FOREIGN_H

#include "kvcache/Interfaces/Raise.h"

namespace kvcache::raise {

/// The numbers after `name = ` in the text of an attribute such as
/// `#stablehlo.scatter<update_window_dims = [1, 2], index_vector_dim = 1>`;
/// none where the name is left out.
llvm::SmallVector<int64_t> numbersOf(mlir::Attribute attribute,
                                     llvm::StringRef name);

/// The last word of an attribute such as `#stablehlo<comparison_direction LT>`.
std::string lastWordOf(mlir::Attribute attribute);

/// A boolean or unit attribute that is there and not false.
bool isSet(mlir::Operation *op, llvm::StringRef name);

/// Nothing if it is no integer, or one that needs more than 64 bits.
std::optional<int64_t> integerOf(mlir::Attribute attribute);

/// The numbers of an array attribute, dense or not; nothing if it is none.
std::optional<llvm::SmallVector<int64_t>> integersOf(mlir::Operation *op,
                                                     llvm::StringRef name);

/// Whether the region of an operation gives its argument number `argument` and
/// nothing else: what overwrites, and does not add or multiply.
bool yieldsArgument(mlir::Operation *op, unsigned argument);

/// Descriptions of what is built in, for operations of any other name nothing
/// with an empty `why`: see RaiseInterface.
namespace stablehlo {
std::optional<RowAccess> describeWrite(mlir::Operation *op, std::string &why);
std::optional<RowAccess> describeRead(mlir::Operation *op, std::string &why);
/// An elementwise operation on scalars. `operands` are those of the operation.
mlir::Value buildElement(mlir::Operation *op, mlir::OpBuilder &builder,
                         mlir::ValueRange operands);
bool isPure(mlir::Operation *op);
} // namespace stablehlo

/// `iree_linalg_ext.scatter` and `tm_tensor.scatter`, which are one operation
/// under two names.
namespace linalgext {
std::optional<RowAccess> describeWrite(mlir::Operation *op, std::string &why);
} // namespace linalgext

/// `tensor.scatter`.
namespace tensorscatter {
std::optional<RowAccess> describeWrite(mlir::Operation *op, std::string &why);
} // namespace tensorscatter

} // namespace kvcache::raise

#endif // KVCACHE_LIB_RAISE_FOREIGN_H
