// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "CodeBuilder.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

#include <limits>

using namespace mlir;
using namespace kvcache;

static constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

Val Val::constant(double n) const {
  if (auto type = dyn_cast<FloatType>(getType()))
    return b->val(arith::ConstantFloatOp::create(*b, type, APFloat(float(n))));
  return b->constantLike(value, int64_t(n));
}

Val Val::compare(arith::CmpIPredicate ints, arith::CmpFPredicate floats,
                 Val other) const {
  if (isFloat())
    return b->val(arith::CmpFOp::create(*b, floats, value, other.value));
  return b->cmpi(ints, value, other);
}

Vals CodeBuilder::vals(ValueRange values) {
  return llvm::map_to_vector(values, [&](Value value) { return val(value); });
}

//===----------------------------------------------------------------------===//
// Arithmetic
//===----------------------------------------------------------------------===//

Val CodeBuilder::index(int64_t n) {
  return val(arith::ConstantIndexOp::create(*this, n));
}

Val CodeBuilder::integer(int64_t n, unsigned width) {
  return val(arith::ConstantIntOp::create(*this, n, width));
}

Val CodeBuilder::f32(float x) {
  return val(arith::ConstantFloatOp::create(*this, getF32Type(), APFloat(x)));
}

Val CodeBuilder::constantLike(Value like, int64_t n) {
  if (like.getType().isIndex())
    return index(n);
  return integer(n, like.getType().getIntOrFloatBitWidth());
}

Val CodeBuilder::mulSat(Value a, int64_t n) {
  return n <= 1 ? muli(a, n) : muli(minsi(a, index(kMost / n)), n);
}

Val CodeBuilder::mulSat(Value a, Value b) {
  if (std::optional<int64_t> n = getConstantIntValue(b))
    return mulSat(a, *n);
  if (std::optional<int64_t> n = getConstantIntValue(a))
    return mulSat(b, *n);
  Val most = divui(index(kMost), maxsi(b, index(1)));
  return muli(minsi(a, most), b);
}

Val CodeBuilder::addSat(Value a, Value b) {
  return addi(minsi(a, subi(index(kMost), b)), b);
}

Val CodeBuilder::sextOrTrunc(Value a, Type to) {
  unsigned from = a.getType().getIntOrFloatBitWidth();
  unsigned width = to.getIntOrFloatBitWidth();
  if (from == width)
    return val(a);
  return from < width ? fold<arith::ExtSIOp>(to, a)
                      : fold<arith::TruncIOp>(to, a);
}

//===----------------------------------------------------------------------===//
// Memrefs
//===----------------------------------------------------------------------===//

Val CodeBuilder::load(Value memref, ValueRange at) {
  return val(memref::LoadOp::create(*this, memref, at));
}

void CodeBuilder::store(Value value, Value memref, ValueRange at) {
  memref::StoreOp::create(*this, value, memref, at);
}

Val CodeBuilder::dim(Value memref, int64_t d) {
  return fold<memref::DimOp>(memref, index(d));
}

//===----------------------------------------------------------------------===//
// Control flow
//===----------------------------------------------------------------------===//

void CodeBuilder::ifThen(Value condition, Block then, Block otherwise) {
  auto branch = scf::IfOp::create(*this, condition, bool(otherwise));
  InsertionGuard guard(*this);
  setInsertionPointToStart(branch.thenBlock());
  then();
  if (!otherwise)
    return;
  setInsertionPointToStart(branch.elseBlock());
  otherwise();
}

void CodeBuilder::ifThen(Value condition, Then then, Then otherwise) {
  auto thenBlock = [&] { then(*this); };
  auto elseBlock = [&] { otherwise(*this); };
  ifThen(condition, Block(thenBlock), otherwise ? Block(elseBlock) : Block());
}

Vals CodeBuilder::ifThen(Value condition, ArrayRef<Type> types,
                         llvm::function_ref<Vals()> then,
                         llvm::function_ref<Vals()> otherwise) {
  auto branch = scf::IfOp::create(*this, TypeRange(types), condition,
                                  /*addThenBlock=*/true, /*addElseBlock=*/true);
  for (auto [block, body] : {std::pair(branch.thenBlock(), then),
                             std::pair(branch.elseBlock(), otherwise)}) {
    InsertionGuard guard(*this);
    setInsertionPointToStart(block);
    scf::YieldOp::create(*this, valuesOf(body()));
  }
  return vals(branch.getResults());
}

Vals CodeBuilder::forLoop(Value first, Value end, Value step, const Vals &start,
                          ForBody body) {
  auto loop = scf::ForOp::create(*this, first, end, step, valuesOf(start));
  InsertionGuard guard(*this);
  setInsertionPointToStart(loop.getBody());
  Vals next = body(val(loop.getInductionVar()), vals(loop.getRegionIterArgs()));
  if (!start.empty())
    scf::YieldOp::create(*this, valuesOf(next));
  return vals(loop.getResults());
}

Values
CodeBuilder::forLoop(Value first, Value end, Value step, ValueRange start,
                     llvm::function_ref<Values(Value, ValueRange)> body) {
  return valuesOf(
      forLoop(first, end, step, vals(start), [&](Val i, const Vals &carried) {
        return vals(body(i, valuesOf(carried)));
      }));
}

Values CodeBuilder::forLoop(Value first, Value end, int64_t step,
                            ValueRange start, CarryingBody body) {
  return valuesOf(forLoop(first, end, index(step), vals(start),
                          [&](Val i, const Vals &carried) {
                            return vals(body(*this, i, valuesOf(carried)));
                          }));
}

void CodeBuilder::forLoop(Value first, Value end, int64_t step,
                          llvm::function_ref<void(Value)> body) {
  forLoop(first, end, index(step), Vals(), [&](Val i, const Vals &) {
    body(i);
    return Vals();
  });
}

void CodeBuilder::forLoop(Value first, Value end, int64_t step, Body body) {
  forLoop(first, end, step, [&](Value i) { body(*this, i); });
}

void CodeBuilder::parallelLoop(Value end, Body body) {
  auto loop = scf::ParallelOp::create(*this, ValueRange{index(0)},
                                      ValueRange{end}, ValueRange{index(1)});
  InsertionGuard guard(*this);
  setInsertionPointToStart(loop.getBody());
  body(*this, loop.getInductionVars()[0]);
}

Vals CodeBuilder::rolledForLoop(Value first, Value end, Value step,
                                const Vals &start, ForBody body) {
  Vals results = forLoop(first, end, step, start, body);
  MLIRContext *context = getContext();
  auto isOff = BoolAttr::get(context, true);
  auto unroll =
      LLVM::LoopUnrollAttr::get(context, isOff, {}, {}, {}, {}, {}, {});
  auto annotation = LLVM::LoopAnnotationAttr::get(
      context, {}, {}, {}, unroll, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {});
  Operation &op = *std::prev(getInsertionPoint());
  cast<scf::ForOp>(op)->setAttr("loop_annotation", annotation);
  return results;
}

Vals CodeBuilder::whileLoop(const Vals &start,
                            llvm::function_ref<Tested(const Vals &)> test,
                            llvm::function_ref<Vals(const Vals &)> step) {
  Values values = valuesOf(start);
  // What is carried on is known when the test has been built.
  auto head = scf::WhileOp::create(*this, TypeRange(), values);
  SmallVector<Location> locs(values.size(), getLoc());
  Tested tested;
  {
    InsertionGuard guard(*this);
    mlir::Block *before =
        createBlock(&head.getBefore(), {}, ValueRange(values).getTypes(), locs);
    tested = test(vals(before->getArguments()));
    scf::ConditionOp::create(*this, tested.condition, valuesOf(tested.carried));
  }
  Values carried = valuesOf(tested.carried);
  TypeRange types = ValueRange(carried).getTypes();
  auto whole = scf::WhileOp::create(*this, types, values);
  whole.getBefore().takeBody(head.getBefore());
  head.erase();
  InsertionGuard guard(*this);
  locs.assign(carried.size(), getLoc());
  mlir::Block *after = createBlock(&whole.getAfter(), {}, types, locs);
  scf::YieldOp::create(*this, valuesOf(step(vals(after->getArguments()))));
  return vals(whole.getResults());
}
