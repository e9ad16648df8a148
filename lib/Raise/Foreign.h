// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operations of dialects that this project does not link, by name. Their
// attributes are read as text, whether or not their dialect is registered.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_RAISE_FOREIGN_H
#define KVCACHE_LIB_RAISE_FOREIGN_H

#include "kvcache/Interfaces/Raise.h"

namespace kvcache::raise {

/// The numbers after `name = ` in the text of an attribute such as
/// `#stablehlo.scatter<update_window_dims = [1, 2], index_vector_dim = 1>`;
/// empty if the name is missing.
llvm::SmallVector<int64_t> numbersOf(mlir::Attribute attribute,
                                     llvm::StringRef name);

/// The last word of an attribute such as `#stablehlo<comparison_direction LT>`.
std::string lastWordOf(mlir::Attribute attribute);

/// Whether a boolean or unit attribute exists and is not false.
bool isSet(mlir::Operation *op, llvm::StringRef name);

/// Nothing if it is not an integer, or needs more than 64 bits.
std::optional<int64_t> integerOf(mlir::Attribute attribute);

/// The numbers of an array attribute, dense or not; nothing if it is not one.
std::optional<llvm::SmallVector<int64_t>> integersOf(mlir::Operation *op,
                                                     llvm::StringRef name);

/// Whether the region of an operation just yields its argument number
/// `argument`: it overwrites instead of adding or multiplying.
bool yieldsArgument(mlir::Operation *op, unsigned argument);

/// Descriptions of built-in operations; nothing with an empty `why` for
/// operations of any other name. See RaiseInterface.
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
