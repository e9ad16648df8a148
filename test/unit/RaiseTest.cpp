// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How a dialect tells kvcache-raise what its operations mean: an example, and
// what is refused of a description that cannot be followed.
//
//===----------------------------------------------------------------------===//

#include "PassText.h"

#include "kvcache/Interfaces/Raise.h"
#include "kvcache/Raise/Passes.h"
#include "kvcache/Registration/Registration.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Dialect.h"

using namespace mlir;
using namespace kvcache;

namespace {

/// A dialect of a model compiler. Its operations need not be defined for this.
struct ToyDialect : Dialect {
  explicit ToyDialect(MLIRContext *context)
      : Dialect(getDialectNamespace(), context, TypeID::get<ToyDialect>()) {
    allowUnknownOperations();
  }
  static StringRef getDialectNamespace() { return "toy"; }
};

/// toy.put(pool, rows, numbers) writes rows to dimension 0; what is outside is
/// not written, and any of several rows for one place may stay.
/// toy.take(pool, numbers) reads rows. toy.double(numbers) is elementwise.
struct ToyRaising : RaiseInterface {
  using RaiseInterface::RaiseInterface;

  std::optional<RowAccess> describeWrite(Operation *op,
                                         std::string &why) const override {
    if (op->getName().getStringRef() != "toy.put")
      return std::nullopt;
    if (op->hasAttr("mask")) {
      why = "it has a mask";
      return std::nullopt;
    }
    RowAccess access;
    access.pool = op->getOperand(0);
    access.rows = op->getOperand(1);
    access.indices = op->getOperand(2);
    access.poolDims = {0};
    access.outOfRange =
        op->hasAttr("clamped") ? OutOfRange::Clamped : OutOfRange::Skipped;
    access.repeated = Repeated::AnyOrder;
    return access;
  }

  std::optional<RowAccess> describeRead(Operation *op,
                                        std::string &) const override {
    if (op->getName().getStringRef() != "toy.take")
      return std::nullopt;
    RowAccess access;
    access.pool = op->getOperand(0);
    access.indices = op->getOperand(1);
    access.poolDims = {0};
    access.outOfRange =
        op->hasAttr("inside") ? OutOfRange::Undefined : OutOfRange::Skipped;
    if (op->hasAttr("pair")) {
      access.columnDim = 1;
      access.poolDims = {0, 1};
    }
    return access;
  }

  Value buildElement(Operation *op, OpBuilder &builder,
                     ValueRange operands) const override {
    if (op->getName().getStringRef() != "toy.double")
      return {};
    return arith::AddIOp::create(builder, op->getLoc(), operands[0],
                                 operands[0]);
  }

  bool isErasable(Operation *op) const override {
    return op->getName().getStringRef() == "toy.double";
  }
};

class RaiseTest : public testing::Test {
protected:
  RaiseTest() {
    DialectRegistry registry;
    registerAllDialects(registry);
    registry.insert<ToyDialect>();
    registry.addExtension(+[](MLIRContext *, ToyDialect *dialect) {
      dialect->addInterfaces<ToyRaising>();
    });
    context.appendDialectRegistry(registry);
    context.loadAllAvailableDialects();
  }

  /// The module after the pass.
  std::string raised(StringRef body) {
    return textAfter(createRaise(), body, &context);
  }

  MLIRContext context;
};

TEST_F(RaiseTest, WriteOfAnotherDialectBecomesIndexCopy) {
  std::string text = raised(R"(
    func.func @f(%pool: tensor<96x64xf32>, %rows: tensor<5x64xf32>,
                 %numbers: tensor<5xi32>) -> tensor<96x64xf32> {
      %0 = "toy.put"(%pool, %rows, %numbers)
        : (tensor<96x64xf32>, tensor<5x64xf32>, tensor<5xi32>) -> tensor<96x64xf32>
      return %0 : tensor<96x64xf32>
    })");
  EXPECT_TRUE(contains(text, "kvcache.index_copy"));
  EXPECT_TRUE(contains(text, "pad = skip_out_of_range"));
  EXPECT_FALSE(contains(text, "toy."));
}

TEST_F(RaiseTest, ItsArithmeticIsFollowedAndErased) {
  std::string text = raised(R"(
    func.func @f(%pool: tensor<96x64xf32>, %rows: tensor<5x64xf32>,
                 %numbers: tensor<5xi32>) -> tensor<96x64xf32> {
      %twice = "toy.double"(%numbers) : (tensor<5xi32>) -> tensor<5xi32>
      %0 = "toy.put"(%pool, %rows, %twice)
        : (tensor<96x64xf32>, tensor<5x64xf32>, tensor<5xi32>) -> tensor<96x64xf32>
      return %0 : tensor<96x64xf32>
    })");
  EXPECT_TRUE(contains(text, "arith.addi"));
  EXPECT_TRUE(contains(text, "kvcache.index_copy"));
  EXPECT_FALSE(contains(text, "toy."));
}

TEST_F(RaiseTest, ClampedWriteMovesNumbers) {
  std::string text = raised(R"(
    func.func @f(%pool: tensor<96x64xf32>, %rows: tensor<5x64xf32>,
                 %numbers: tensor<5xi32>) -> tensor<96x64xf32> {
      %0 = "toy.put"(%pool, %rows, %numbers) {clamped}
        : (tensor<96x64xf32>, tensor<5x64xf32>, tensor<5xi32>) -> tensor<96x64xf32>
      return %0 : tensor<96x64xf32>
    })");
  EXPECT_TRUE(contains(text, "arith.maxsi"));
  EXPECT_TRUE(contains(text, "arith.constant 95 : i32"));
  EXPECT_TRUE(contains(text, "kvcache.index_copy"));
}

TEST_F(RaiseTest, WhatIsNotDescribedStays) {
  std::string text = raised(R"(
    func.func @f(%pool: tensor<96x64xf32>, %rows: tensor<5x64xf32>,
                 %numbers: tensor<5xi32>) -> tensor<96x64xf32> {
      %0 = "toy.put"(%pool, %rows, %numbers) {mask}
        : (tensor<96x64xf32>, tensor<5x64xf32>, tensor<5xi32>) -> tensor<96x64xf32>
      return %0 : tensor<96x64xf32>
    })");
  EXPECT_TRUE(contains(text, "toy.put"));
  EXPECT_FALSE(contains(text, "kvcache"));
}

TEST_F(RaiseTest, ReadInRangeBecomesGather) {
  std::string text = raised(R"(
    func.func @f(%pool: tensor<96x64xf32>, %numbers: tensor<5xi64>)
        -> tensor<5x64xf32> {
      %0 = "toy.take"(%pool, %numbers) {inside}
        : (tensor<96x64xf32>, tensor<5xi64>) -> tensor<5x64xf32>
      return %0 : tensor<5x64xf32>
    })");
  EXPECT_TRUE(contains(text, "kvcache.gather"));
  EXPECT_TRUE(contains(text, "pad = none"));
}

TEST_F(RaiseTest, ReadOutsideIsNotKnown) {
  std::string text = raised(R"(
    func.func @f(%pool: tensor<96x64xf32>, %numbers: tensor<5xi64>)
        -> tensor<5x64xf32> {
      %0 = "toy.take"(%pool, %numbers)
        : (tensor<96x64xf32>, tensor<5xi64>) -> tensor<5x64xf32>
      return %0 : tensor<5x64xf32>
    })");
  EXPECT_TRUE(contains(text, "toy.take"));
}

TEST_F(RaiseTest, ReadByPairsThatMayBeOutsideStays) {
  std::string text = raised(R"(
    func.func @f(%pool: tensor<6x16x64xf32>, %numbers: tensor<5x2xi64>)
        -> tensor<5x64xf32> {
      %0 = "toy.take"(%pool, %numbers) {inside, pair}
        : (tensor<6x16x64xf32>, tensor<5x2xi64>) -> tensor<5x64xf32>
      return %0 : tensor<5x64xf32>
    })");
  EXPECT_TRUE(contains(text, "toy.take"));
}

} // namespace
