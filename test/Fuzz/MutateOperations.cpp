// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Mutate.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace kvcache::fuzz;

namespace {

/// Operations in functions, but for terminators.
SmallVector<Operation *> operationsOf(ModuleOp module) {
  SmallVector<Operation *> all;
  module.walk([&](Operation *op) {
    if (op->getParentOfType<func::FuncOp>() &&
        !op->hasTrait<OpTrait::IsTerminator>())
      all.push_back(op);
  });
  return all;
}

/// Values of a type that may be used in front of an operation.
SmallVector<Value> valuesAt(Operation *op, Type type) {
  SmallVector<Value> values;
  auto add = [&](ValueRange some) {
    for (Value value : some)
      if (value.getType() == type)
        values.push_back(value);
  };
  for (; op && !isa<ModuleOp>(op); op = op->getParentOp()) {
    if (!op->getBlock())
      break;
    for (Operation *before = op->getPrevNode(); before;
         before = before->getPrevNode())
      add(before->getResults());
    add(op->getBlock()->getArguments());
  }
  return values;
}

/// A new argument of the function around an operation.
Value addArgument(Operation *op, Type type) {
  auto function = op->getParentOfType<func::FuncOp>();
  if (!function || function.isExternal() ||
      failed(function.insertArgument(function.getNumArguments(), type, {},
                                     function.getLoc())))
    return nullptr;
  return function.getArguments().back();
}

/// One that is there, or an argument.
Value findValue(Operation *op, Type type, Random &random) {
  SmallVector<Value> values = valuesAt(op, type);
  return values.empty() || pick(random, 8) == 0 ? addArgument(op, type)
                                                : pickFrom(random, values);
}

/// One that is there and not `other`; null if there is none.
Value otherValue(Operation *op, Value other, Random &random) {
  SmallVector<Value> values = valuesAt(op, other.getType());
  llvm::erase(values, other);
  return values.empty() ? Value() : pickFrom(random, values);
}

bool swapOperand(Operation *op, Random &random) {
  if (op->getNumOperands() == 0)
    return false;
  OpOperand &operand = op->getOpOperand(pick(random, op->getNumOperands()));
  Value other = otherValue(op, operand.get(), random);
  if (!other && pick(random, 2))
    other = addArgument(op, operand.get().getType());
  if (!other)
    return false;
  operand.set(other);
  return true;
}

bool selectOperand(Operation *op, Random &random) {
  if (op->getNumOperands() == 0)
    return false;
  OpOperand &operand = op->getOpOperand(pick(random, op->getNumOperands()));
  Value other = otherValue(op, operand.get(), random);
  if (!other)
    other = addArgument(op, operand.get().getType());
  OpBuilder builder(op);
  Value condition = findValue(op, builder.getI1Type(), random);
  if (!other || !condition)
    return false;
  operand.set(arith::SelectOp::create(builder, op->getLoc(), condition,
                                      operand.get(), other));
  return true;
}

Attribute changed(Attribute attribute, Random &random) {
  static constexpr int64_t kNumbers[] = {
      0,         1,         2,  3,  4,         7,        8,   15,
      16,        17,        32, 63, 64,        128,      256, 4096,
      1LL << 31, 1LL << 32, -1, -2, INT64_MAX, INT64_MIN};
  Builder builder(attribute.getContext());
  if (auto flag = dyn_cast<BoolAttr>(attribute))
    return builder.getBoolAttr(!flag.getValue());
  if (auto number = dyn_cast<IntegerAttr>(attribute)) {
    unsigned bits = number.getValue().getBitWidth();
    return IntegerAttr::get(
        number.getType(),
        APInt(64, pickFrom(random, kNumbers), true).sextOrTrunc(bits));
  }
  if (auto number = dyn_cast<FloatAttr>(attribute)) {
    static constexpr double kReals[] = {0, -0.0, 1, -1, 0.125, 1e30, -1e38};
    return FloatAttr::get(number.getType(), pickFrom(random, kReals));
  }
  if (auto list = dyn_cast<DenseI64ArrayAttr>(attribute)) {
    SmallVector<int64_t> numbers(list.asArrayRef());
    if (numbers.empty() || pick(random, 6) == 0)
      numbers.push_back(pickFrom(random, kNumbers));
    else if (pick(random, 6) == 0)
      numbers.pop_back();
    else
      pickFrom(random, numbers) = pick(random, 2) ? pickFrom(random, kNumbers)
                                                  : pickFrom(random, numbers);
    return builder.getDenseI64ArrayAttr(numbers);
  }
  if (auto list = dyn_cast<ArrayAttr>(attribute)) {
    SmallVector<Attribute> items(list.getValue());
    if (items.empty())
      return {};
    Attribute &item = pickFrom(random, items);
    Attribute other =
        pick(random, 2) ? changed(item, random) : pickFrom(random, items);
    if (!other)
      return {};
    item = other;
    return builder.getArrayAttr(items);
  }
  return {};
}

bool changeAttribute(Operation *op, Random &random) {
  SmallVector<NamedAttribute> attributes(op->getAttrDictionary().getValue());
  if (attributes.empty())
    return false;
  NamedAttribute attribute = pickFrom(random, attributes);
  // Which operands belong to what: no program has it wrong.
  if (attribute.getName().getValue().ends_with("SegmentSizes"))
    return false;
  if (isa<UnitAttr>(attribute.getValue()) || pick(random, 16) == 0) {
    op->removeAttr(attribute.getName());
    return true;
  }
  Attribute other = changed(attribute.getValue(), random);
  if (!other)
    return false;
  op->setAttr(attribute.getName(), other);
  return true;
}

bool repeatOperation(Operation *op, Random &random) {
  OpBuilder builder(op->getContext());
  builder.setInsertionPointAfter(op);
  Operation *copy = builder.clone(*op);
  // Later uses see the copy, or both are of use.
  for (auto [result, again] : llvm::zip(op->getResults(), copy->getResults()))
    result.replaceUsesWithIf(again, [&](OpOperand &use) {
      return use.getOwner() != copy && pick(random, 2) &&
             !copy->isAncestor(use.getOwner());
    });
  return true;
}

bool eraseOperation(Operation *op, Random &random) {
  SmallVector<Value> values;
  for (Value result : op->getResults()) {
    Value value =
        result.use_empty() ? result : findValue(op, result.getType(), random);
    if (!value)
      return false;
    values.push_back(value);
  }
  for (auto [result, value] : llvm::zip(op->getResults(), values))
    if (value != result)
      result.replaceAllUsesWith(value);
  op->erase();
  return true;
}

bool moveOperation(Operation *op, Random &random) {
  SmallVector<Operation *> others;
  for (Operation &other : *op->getBlock())
    if (&other != op)
      others.push_back(&other);
  if (others.empty())
    return false;
  op->moveBefore(pickFrom(random, others));
  return true;
}

/// The operation happens sometimes; else a result is another value.
bool wrapInIf(Operation *op, Random &random) {
  SmallVector<Value> values;
  for (Value result : op->getResults()) {
    Value value = findValue(op, result.getType(), random);
    if (!value)
      return false;
    values.push_back(value);
  }
  OpBuilder builder(op);
  Value condition = findValue(op, builder.getI1Type(), random);
  if (!condition)
    return false;
  auto choice = scf::IfOp::create(builder, op->getLoc(), op->getResultTypes(),
                                  condition, /*withElseRegion=*/true);
  for (auto [result, value] : llvm::zip(op->getResults(), choice.getResults()))
    result.replaceAllUsesWith(value);
  Block *then = &choice.getThenRegion().front();
  Block *otherwise = &choice.getElseRegion().front();
  // Without results the blocks have their ends already.
  op->moveBefore(then, then->begin());
  if (op->getNumResults() == 0)
    return true;
  builder.setInsertionPointToEnd(then);
  scf::YieldOp::create(builder, op->getLoc(), op->getResults());
  builder.setInsertionPointToEnd(otherwise);
  scf::YieldOp::create(builder, op->getLoc(), values);
  return true;
}

/// The operation happens in a loop that carries its results.
bool wrapInFor(Operation *op, Random &random) {
  SmallVector<Value> carried;
  for (Value result : op->getResults()) {
    auto operand = llvm::find_if(op->getOperands(), [&](Value value) {
      return value.getType() == result.getType();
    });
    Value first = operand != op->getOperands().end()
                      ? *operand
                      : findValue(op, result.getType(), random);
    if (!first)
      return false;
    carried.push_back(first);
  }
  OpBuilder builder(op);
  Location loc = op->getLoc();
  Value zero = arith::ConstantIndexOp::create(builder, loc, 0);
  Value one = arith::ConstantIndexOp::create(builder, loc, 1);
  Value count = pick(random, 2)
                    ? arith::ConstantIndexOp::create(builder, loc, 3)
                    : findValue(op, builder.getIndexType(), random);
  if (!count)
    return false;
  auto loop = scf::ForOp::create(builder, loc, zero, count, one, carried);
  for (auto [result, value] : llvm::zip(op->getResults(), loop.getResults()))
    result.replaceAllUsesWith(value);
  Block *body = loop.getBody();
  op->moveBefore(body, body->begin());
  for (auto [first, inside] : llvm::zip(carried, loop.getRegionIterArgs()))
    op->replaceUsesOfWith(first, inside);
  if (op->getNumResults() != 0) {
    builder.setInsertionPointToEnd(body);
    scf::YieldOp::create(builder, loc, op->getResults());
  }
  return true;
}

/// The operation happens in a function that is called.
bool wrapInCall(Operation *op, Random &random) {
  SetVector<Value> used(op->operand_begin(), op->operand_end());
  op->walk([&](Operation *inner) {
    for (Value value : inner->getOperands())
      if (!op->isAncestor(value.getParentBlock()->getParentOp()))
        used.insert(value);
  });
  SmallVector<Value> inputs = used.takeVector();
  OpBuilder builder(op->getContext());
  auto outer = op->getParentOfType<func::FuncOp>();
  builder.setInsertionPoint(outer);
  std::string name = "called" + std::to_string(random());
  auto callee = func::FuncOp::create(
      builder, op->getLoc(), name,
      builder.getFunctionType(ValueRange(inputs).getTypes(),
                              op->getResultTypes()));
  if (pick(random, 4))
    callee.setPrivate();
  Block *body = callee.addEntryBlock();
  builder.setInsertionPoint(op);
  auto call = func::CallOp::create(builder, op->getLoc(), callee, inputs);
  op->replaceAllUsesWith(call.getResults());
  op->moveBefore(body, body->end());
  for (auto [value, argument] : llvm::zip(inputs, body->getArguments()))
    value.replaceUsesWithIf(argument, [&](OpOperand &use) {
      return op->isAncestor(use.getOwner());
    });
  builder.setInsertionPointToEnd(body);
  func::ReturnOp::create(builder, op->getLoc(), op->getResults());
  return true;
}

/// The function returns one more value.
bool returnResult(Operation *op, Random &random) {
  auto function = op->getParentOfType<func::FuncOp>();
  if (op->getNumResults() == 0 || op->getParentOp() != function)
    return false;
  Value result = op->getResult(pick(random, op->getNumResults()));
  Operation *end = function.getBody().back().getTerminator();
  if (!isa<func::ReturnOp>(end))
    return false;
  end->insertOperands(pick(random, end->getNumOperands() + 1), result);
  FunctionType type = function.getFunctionType();
  function.setType(FunctionType::get(type.getContext(), type.getInputs(),
                                     llvm::to_vector(end->getOperandTypes())));
  return true;
}

} // namespace

bool kvcache::fuzz::mutateOperations(ModuleOp module, Random &random) {
  using Way = bool (*)(Operation *, Random &);
  static constexpr Way kWays[] = {
      swapOperand,     swapOperand,     selectOperand,  changeAttribute,
      changeAttribute, repeatOperation, eraseOperation, moveOperation,
      wrapInIf,        wrapInFor,       wrapInCall,     returnResult};
  SmallVector<Operation *> operations = operationsOf(module);
  if (operations.empty())
    return false;
  // What does not fit one operation may fit the next one.
  for (int tries = 0; tries < 4; ++tries)
    if (pickFrom(random, kWays)(pickFrom(random, operations), random))
      return true;
  return false;
}

bool kvcache::fuzz::crossOperations(ModuleOp module, ModuleOp other,
                                    Random &random) {
  SmallVector<Operation *> places = operationsOf(module);
  SmallVector<Operation *> sources = operationsOf(other);
  if (places.empty() || sources.empty())
    return false;
  Operation *place = pickFrom(random, places);
  Operation *source = pickFrom(random, sources);
  if (isa<func::CallOp>(source))
    return false;
  IRMapping mapping;
  bool isWhole = true;
  source->walk([&](Operation *inner) {
    for (Value value : inner->getOperands()) {
      if (source->isAncestor(value.getParentBlock()->getParentOp()) ||
          mapping.contains(value))
        continue;
      Value here = findValue(place, value.getType(), random);
      isWhole &= bool(here);
      mapping.map(value, here);
    }
  });
  if (!isWhole)
    return false;
  OpBuilder builder(place);
  Operation *copy = builder.clone(*source, mapping);
  // Values of the copy are of use where the types agree.
  for (Value result : copy->getResults())
    for (OpOperand &operand : place->getOpOperands())
      if (operand.get().getType() == result.getType() && pick(random, 2))
        operand.set(result);
  return true;
}
