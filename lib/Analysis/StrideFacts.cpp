// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Analysis/StrideFacts.h"

#include "kvcache/Analysis/SymbolUsers.h"
#include "kvcache/IR/Strides.h"
#include "kvcache/Layout/Facts.h"
#include "kvcache/Layout/Views.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/TypeSwitch.h"

#include <numeric>

using namespace mlir;
using namespace kvcache;

//===----------------------------------------------------------------------===//
// Multiples
//===----------------------------------------------------------------------===//

static int64_t multipleOf(Value value, unsigned depth) {
  APInt number;
  if (matchPattern(value, m_ConstantInt(&number)))
    return number.getSignificantBits() < 63 ? std::abs(number.getSExtValue())
                                            : 1;
  Operation *op = value.getDefiningOp();
  if (!op || depth == 0)
    return 1;
  auto of = [&](unsigned i) {
    return multipleOf(op->getOperand(i), depth - 1);
  };
  // A product that does not fit says less than its parts.
  auto product = [](int64_t a, int64_t b) {
    return b && a > kMaxExtent / b ? std::max(a, b) : a * b;
  };
  return llvm::TypeSwitch<Operation *, int64_t>(op)
      .Case([&](arith::MulIOp) { return product(of(0), of(1)); })
      .Case<arith::AddIOp, arith::SubIOp>(
          [&](auto) { return std::gcd(of(0), of(1)); })
      .Case<arith::MaxSIOp, arith::MinSIOp, arith::MaxUIOp, arith::MinUIOp>(
          [&](auto) { return std::gcd(of(0), of(1)); })
      .Case([&](arith::SelectOp) { return std::gcd(of(1), of(2)); })
      .Case([&](arith::ShLIOp) {
        APInt by;
        if (!matchPattern(op->getOperand(1), m_ConstantInt(&by)) || by.ugt(40))
          return int64_t(1);
        return product(of(0), int64_t(1) << by.getZExtValue());
      })
      .Case<arith::IndexCastOp, arith::ExtSIOp>([&](auto) { return of(0); })
      .Case([&](kvcache::StrideOp stride) {
        const Layout &layout = stride.getCache().getType().getLayout();
        std::optional<Axis> axis =
            Axis::parse(std::string_view(stride.getAxis()));
        return layout.strideMultiple(*layout.find(*axis));
      })
      .Default([](Operation *) { return int64_t(1); });
}

int64_t kvcache::knownMultiple(Value value) { return multipleOf(value, 8); }

//===----------------------------------------------------------------------===//
// Where facts begin
//===----------------------------------------------------------------------===//

/// The operand that a view of bytes gets for an axis, or nothing.
static Value operandOf(ArrayAttr names, ValueRange values, Axis axis) {
  for (auto [name, value] : llvm::zip(names, values))
    if (cast<StringAttr>(name).getValue() == axis.str())
      return value;
  return {};
}

static std::optional<int64_t> positiveConstant(Value value) {
  APInt number;
  if (!value || !matchPattern(value, m_ConstantInt(&number)) ||
      number.getSignificantBits() > 63 || !number.isStrictlyPositive())
    return std::nullopt;
  return number.getSExtValue();
}

static CacheType typeOfView(ViewOp view) {
  CacheType type = view.getResult().getType();
  const Layout &layout = type.getLayout();
  std::vector<LayoutDim> dims = layout.listing();
  auto source = cast<MemRefType>(view.getSource().getType());
  SmallVector<int64_t> strides;
  int64_t offset;
  bool hasStrides = !view.isByteView() &&
                    succeeded(source.getStridesAndOffset(strides, offset));
  auto dimOf = [&](unsigned i) { return view.sourceDim(i); };
  bool isPacked = hasStrides && source.getLayout().isIdentity() &&
                  isInMemoryOrder(layout, dimOf);
  for (auto [i, dim] : llvm::enumerate(dims)) {
    if (view.isByteView() && dim.axis.kind == AxisKind::Layer &&
        dim.extent == kRunTime) {
      Value count =
          operandOf(view.getExtentAxes(), view.getExtents(), dim.axis);
      dim.extent = positiveConstant(count).value_or(kRunTime);
    }
    if (dim.stride.kind != StrideFact::Kind::RunTime)
      continue;
    // Of one index alone the operand is not looked at, and a slower axis has
    // the least stride that the type allows, not this one.
    if (view.isByteView() && dim.extent == kRunTime &&
        isSpannedByCompact(layout, i))
      continue;
    if (view.isByteView()) {
      Value stride =
          operandOf(view.getStrideAxes(), view.getStrides(), dim.axis);
      if (!stride)
        continue;
      if (std::optional<int64_t> known = positiveConstant(stride))
        dim.stride = StrideFact::constant(*known);
      else
        dim.stride = StrideFact::runTime(std::lcm(
            dim.stride.value, std::max<int64_t>(1, knownMultiple(stride))));
    } else if (isPacked) {
      dim.stride = StrideFact::compact();
    } else if (hasStrides && ShapedType::isStatic(strides[view.sourceDim(i)])) {
      dim.stride = StrideFact::constant(strides[view.sourceDim(i)]);
    }
  }
  std::string why;
  std::optional<Layout> more =
      Layout::get(dims, layout.orderAxes(), layout.align(), why);
  // A constant that no layout has is found out at run time.
  if (!more || !implies(*more, layout))
    return type;
  if (hasStrides && findOtherStride(*more, strides, dimOf))
    return type;
  return withLayout(type, *more);
}

//===----------------------------------------------------------------------===//
// How they flow
//===----------------------------------------------------------------------===//

void StrideFacts::collectEdges(ModuleOp module) {
  SymbolUsers users(module);
  auto connect = [&](OpOperand &from, Value to) {
    if (isa<CacheType>(to.getType()))
      flow.push_back({&from, to});
  };
  auto connectAll = [&](MutableArrayRef<OpOperand> from, ValueRange to) {
    for (auto [operand, value] : llvm::zip(from, to))
      connect(operand, value);
  };
  module.walk([&](Operation *op) {
    llvm::TypeSwitch<Operation *>(op)
        .Case([&](func::CallOp call) {
          auto callee = SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
              call, call.getCalleeAttr());
          if (!callee || !hasKnownCallers(callee, users))
            return;
          connectAll(call->getOpOperands(), callee.getArguments());
          for (auto exit : callee.getBody().getOps<func::ReturnOp>())
            connectAll(exit->getOpOperands(), call.getResults());
        })
        .Case([&](scf::ForOp loop) {
          auto yield = cast<scf::YieldOp>(loop.getBody()->getTerminator());
          for (MutableArrayRef<OpOperand> from :
               {MutableArrayRef<OpOperand>(loop.getInitArgsMutable()),
                yield->getOpOperands()}) {
            connectAll(from, loop.getRegionIterArgs());
            connectAll(from, loop.getResults());
          }
        })
        .Case([&](scf::IfOp branch) {
          for (Region *region :
               {&branch.getThenRegion(), &branch.getElseRegion()})
            if (!region->empty())
              connectAll(region->front().getTerminator()->getOpOperands(),
                         branch.getResults());
        })
        .Case([&](scf::WhileOp loop) {
          connectAll(loop->getOpOperands(), loop.getBeforeArguments());
          connectAll(loop.getYieldOp()->getOpOperands(),
                     loop.getBeforeArguments());
          MutableArrayRef<OpOperand> next =
              loop.getConditionOp()->getOpOperands().drop_front();
          connectAll(next, loop.getAfterArguments());
          connectAll(next, loop.getResults());
        });
  });
}

CacheType StrideFacts::transfer(Operation *op, Value result) const {
  auto declared = cast<CacheType>(result.getType());
  if (auto view = dyn_cast<ViewOp>(op))
    return typeOfView(view);
  auto part = dyn_cast<CachePartOpInterface>(op);
  if (!part)
    return declared;
  CacheType known = types.lookup(op->getOperand(0));
  return known ? part.getPartOf(known) : CacheType();
}

void StrideFacts::update(Value value, CacheType type, bool &changed) {
  if (!type)
    return;
  CacheType &known = types[value];
  if (known == type)
    return;
  known = type;
  changed = true;
}

StrideFacts::StrideFacts(ModuleOp module) {
  collectEdges(module);
  llvm::DenseMap<Value, SmallVector<OpOperand *>> incoming;
  for (const FlowEdge &edge : flow)
    incoming[edge.to].push_back(edge.from);

  // Values that others flow into know nothing at first, and then what those
  // that were reached have in common: what a loop carries need not be assumed
  // to be less than what it begins with.
  auto merge = [&](Value value) -> CacheType {
    auto declared = cast<CacheType>(value.getType());
    auto found = incoming.find(value);
    if (found == incoming.end())
      return declared;
    std::optional<Layout> common;
    for (OpOperand *from : found->second) {
      CacheType type = types.lookup(from->get());
      if (!type)
        continue;
      common = common ? join(*common, type.getLayout()) : type.getLayout();
      if (!common)
        return declared;
    }
    if (!common)
      return {};
    std::optional<Layout> both = meet(declared.getLayout(), *common);
    return both ? withLayout(declared, *both) : declared;
  };

  constexpr int kMaxRounds = 100;
  bool changed = true;
  for (int round = 0; changed; ++round) {
    changed = false;
    if (round == kMaxRounds) {
      types.clear(); // what the types say is always true
      return;
    }
    module.walk<WalkOrder::PreOrder>([&](Operation *op) {
      for (Value result : op->getResults())
        if (isa<CacheType>(result.getType()))
          update(result,
                 incoming.contains(result) ? merge(result)
                                           : transfer(op, result),
                 changed);
      for (Region &region : op->getRegions())
        for (Block &block : region)
          for (Value argument : block.getArguments())
            if (isa<CacheType>(argument.getType()))
              update(argument, merge(argument), changed);
    });
  }
}

CacheType StrideFacts::typeOf(Value cache) const {
  if (CacheType type = types.lookup(cache))
    return type;
  return cast<CacheType>(cache.getType());
}
