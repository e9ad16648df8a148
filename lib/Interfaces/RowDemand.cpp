// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Interfaces/RowDemand.h"

#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace kvcache;

#include "kvcache/Interfaces/RowDemandOpInterface.cpp.inc"

RowSelection::~RowSelection() = default;

RankedTensorType kvcache::typeForRows(Type type, int64_t axis,
                                      OpFoldResult count) {
  auto tensor = cast<RankedTensorType>(type);
  SmallVector<int64_t> shape(tensor.getShape());
  shape[axis] = getConstantIntValue(count).value_or(ShapedType::kDynamic);
  return tensor.clone(shape);
}

SmallVector<Value> kvcache::cloneForRows(OpBuilder &builder, Operation *op,
                                         const RowAxes &axes,
                                         RowSelection &selection) {
  // Rows may have to be made, which comes before the copy. Operands are looked
  // at one by one: a value may be used both by rows and whole.
  SmallVector<Value> rows;
  for (auto [use, axis] : axes.uses)
    rows.push_back(selection.getRows(*use, axis));
  IRMapping mapping;
  Operation *copy = builder.clone(*op, mapping);
  for (auto [pair, value] : llvm::zip_equal(axes.uses, rows)) {
    Operation *owner = pair.first->getOwner();
    Operation *target = owner == op ? copy : mapping.lookup(owner);
    target->setOperand(pair.first->getOperandNumber(), value);
  }
  SmallVector<Value> results;
  for (auto [result, axis] :
       llvm::zip_equal(copy->getResults(), axes.results)) {
    if (axis >= 0)
      result.setType(typeForRows(result.getType(), axis, selection.getCount()));
    results.push_back(axis >= 0 ? Value(result) : Value());
  }
  return results;
}
