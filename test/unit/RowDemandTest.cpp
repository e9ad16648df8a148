// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How a dialect tells kvcache-split-layer-groups which rows its operations
// need.
//
//===----------------------------------------------------------------------===//

#include "PassText.h"

#include "kvcache/Interfaces/RowDemand.h"
#include "kvcache/Registration/Registration.h"
#include "kvcache/RowDemand/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Dialect.h"

using namespace mlir;
using namespace kvcache;

namespace {

template <typename ConcreteOp, template <typename> class... Traits>
using ToyOp = Op<ConcreteOp, OpTrait::VariadicOperands, OpTrait::OneResult,
                 OpTrait::ZeroSuccessors, OpTrait::ZeroRegions,
                 MemoryEffectOpInterface::Trait, Traits...>;

/// toy.blend(x, w): rows of x are rows of the result, w is needed whole. Says
/// so.
struct BlendOp : ToyOp<BlendOp, RowDemandOpInterface::Trait> {
  using Op::Op;
  static StringRef getOperationName() { return "toy.blend"; }
  static ArrayRef<StringRef> getAttributeNames() { return {}; }
  void getEffects(
      SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>> &) {}

  FailureOr<RowAxes> getRowAxes(unsigned, int64_t axis, std::string &why) {
    if (axis != 0) {
      why = "makes each column of all of them";
      return failure();
    }
    RowAxes axes;
    axes.uses = {{&getOperation()->getOpOperand(0), 0}};
    axes.results = {0};
    return axes;
  }
};

/// toy.blur(x): the same, and says nothing.
struct BlurOp : ToyOp<BlurOp> {
  using Op::Op;
  static StringRef getOperationName() { return "toy.blur"; }
  static ArrayRef<StringRef> getAttributeNames() { return {}; }
  void getEffects(
      SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>> &) {}
};

struct ToyDialect : Dialect {
  explicit ToyDialect(MLIRContext *context)
      : Dialect(getDialectNamespace(), context, TypeID::get<ToyDialect>()) {
    addOperations<BlendOp, BlurOp>();
  }
  static StringRef getDialectNamespace() { return "toy"; }
};

class RowDemandTest : public testing::Test {
protected:
  RowDemandTest() {
    DialectRegistry registry;
    registerAllDialects(registry);
    registry.insert<ToyDialect>();
    context.appendDialectRegistry(registry);
    context.loadAllAvailableDialects();
  }

  /// A function that makes `%y` of `%x`, ten rows or columns, of which three
  /// are read; after the pass.
  std::string split(StringRef makes, bool columns = false) {
    std::string body = (R"(
      func.func @f(%x: tensor<10x10xf32>, %w: tensor<10x10xf32>,
                   %indices: tensor<3xi32>) -> tensor<3x10xf32> {
        )" + makes + R"(
        %o = tensor.empty() : tensor<3x10xf32>
        %rows = linalg.generic {
            indexing_maps = [affine_map<(i, d) -> (i)>,
                             affine_map<(i, d) -> (i, d)>],
            iterator_types = ["parallel", "parallel"]}
            ins(%indices : tensor<3xi32>) outs(%o : tensor<3x10xf32>) {
        ^bb0(%i: i32, %out: f32):
          %n = arith.index_cast %i : i32 to index
          %d = linalg.index 1 : index
          %v = tensor.extract %y[)" +
                        (columns ? "%d, %n" : "%n, %d") + R"(]
            : tensor<10x10xf32>
          linalg.yield %v : f32
        } -> tensor<3x10xf32>
        return %rows : tensor<3x10xf32>
      })")
                           .str();
    return textAfter(createSplitLayerGroups(), body, &context);
  }

  MLIRContext context;
};

constexpr const char *kBlend = R"(%y = "toy.blend"(%x, %w)
  : (tensor<10x10xf32>, tensor<10x10xf32>) -> tensor<10x10xf32>)";

TEST_F(RowDemandTest, DescribedOperationRunsOnSelectedRows) {
  std::string text = split(kBlend);
  // The second operand is whole.
  EXPECT_TRUE(contains(text, "(tensor<3x10xf32>, tensor<10x10xf32>) -> "
                             "tensor<3x10xf32>"))
      << text;
}

TEST_F(RowDemandTest, DemandFlowsThroughSeveral) {
  std::string text = split(R"(
    %z = "toy.blend"(%x, %w)
      : (tensor<10x10xf32>, tensor<10x10xf32>) -> tensor<10x10xf32>
    %y = "toy.blend"(%z, %w)
      : (tensor<10x10xf32>, tensor<10x10xf32>) -> tensor<10x10xf32>)");
  EXPECT_FALSE(contains(text, "-> tensor<10x10xf32>")) << text;
}

TEST_F(RowDemandTest, WhatNeedsAllRowsHasThem) {
  // The second operand of the last one.
  std::string text = split(R"(
    %z = "toy.blend"(%x, %w)
      : (tensor<10x10xf32>, tensor<10x10xf32>) -> tensor<10x10xf32>
    %y = "toy.blend"(%x, %z)
      : (tensor<10x10xf32>, tensor<10x10xf32>) -> tensor<10x10xf32>)");
  EXPECT_TRUE(contains(text, "(tensor<10x10xf32>, tensor<10x10xf32>) -> "
                             "tensor<10x10xf32>"))
      << text;
  EXPECT_TRUE(contains(text, "(tensor<3x10xf32>, tensor<10x10xf32>) -> "
                             "tensor<3x10xf32>"))
      << text;
}

TEST_F(RowDemandTest, AlongAnotherDimensionNothingChanges) {
  std::string text = split(kBlend, /*columns=*/true);
  EXPECT_TRUE(contains(text, "(tensor<10x10xf32>, tensor<10x10xf32>) -> "
                             "tensor<10x10xf32>"))
      << text;
}

TEST_F(RowDemandTest, UnknownOperationNeedsAllRows) {
  std::string text = split(R"(%y = "toy.blur"(%x)
    : (tensor<10x10xf32>) -> tensor<10x10xf32>)");
  EXPECT_TRUE(contains(text, "(tensor<10x10xf32>) -> tensor<10x10xf32>"))
      << text;
}

} // namespace
