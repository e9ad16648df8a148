// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which references can be the same memory: two that are marked in a function,
// `a` and `b`, where a buffer comes from an allocation, an argument, or a value
// that is not followed.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Analysis/Memory.h"
#include "kvcache/Registration/Registration.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"

#include <gtest/gtest.h>

using namespace mlir;
using namespace kvcache;

namespace {

/// A function with arguments, a buffer of its own, and what `body` makes.
std::string program(StringRef body) {
  return (R"(
    func.func private @other(memref<?xi64>) -> memref<?xi64>
    func.func @f(%x: memref<?xi64>, %y: memref<?xi64>,
                 %own: memref<?xi64> {kvcache.noalias}, %t: memref<?x?xi64>,
                 %floats: memref<?xf32>, %i: index, %flag: i1) {
      %local = memref.alloc(%i) : memref<?xi64>
      %second = memref.alloc(%i) : memref<?xi64>
      )" + body +
          R"(
      return
    })")
      .str();
}

std::string mark(StringRef value, StringRef name, StringRef element = "i64") {
  return ("\nmemref.load " + value + "[%i] {" + name + "} : memref<?x" +
          element + ">")
      .str();
}

class MemoryTest : public testing::Test {
protected:
  MemoryTest() {
    DialectRegistry registry;
    registerAllDialects(registry);
    context.appendDialectRegistry(registry);
    context.loadAllAvailableDialects();
    context.allowUnregisteredDialects();
  }

  /// Whether what is marked `a` may be what is marked `b`, both ways.
  bool overlap(const std::string &body) {
    auto module = parseSourceString<ModuleOp>(program(body), &context);
    EXPECT_TRUE(module) << body;
    if (!module)
      return false;
    Value a, b;
    module->walk([&](Operation *op) {
      if (op->hasAttr("a"))
        a = op->getOperand(0);
      if (op->hasAttr("b"))
        b = op->getOperand(0);
    });
    EXPECT_TRUE(a && b) << body;
    EXPECT_EQ(mayOverlap(a, b), mayOverlap(b, a)) << body;
    return mayOverlap(a, b);
  }

  bool overlap(const std::string &a, const std::string &b,
               const std::string &body = "") {
    return overlap(body + mark(a, "a") + mark(b, "b"));
  }

  MLIRContext context;
};

/// Ways to a value that is not followed, `%z`, from the buffer that is named
/// in place of `$`.
std::vector<std::string> unknownValues(const std::string &buffer) {
  std::vector<std::string> all = {
      "%z = arith.select %flag, $, %x : memref<?xi64>",
      R"(%z = scf.if %flag -> memref<?xi64> {
        scf.yield $ : memref<?xi64>
      } else {
        scf.yield %x : memref<?xi64>
      })",
      R"(%z = scf.for %k = %i to %i step %i iter_args(%c = %x) -> memref<?xi64> {
        scf.yield $ : memref<?xi64>
      })",
      R"(%z = scf.for %k = %i to %i step %i iter_args(%c = $) -> memref<?xi64> {
        scf.yield %x : memref<?xi64>
      })",
      R"(%z = scf.while (%c = $) : (memref<?xi64>) -> memref<?xi64> {
        scf.condition(%flag) %c : memref<?xi64>
      } do {
      ^bb0(%c: memref<?xi64>):
        scf.yield %x : memref<?xi64>
      })",
      R"(%z = scf.execute_region -> memref<?xi64> {
        scf.yield $ : memref<?xi64>
      })",
      "%z = call @other($) : (memref<?xi64>) -> memref<?xi64>",
      "%z = \"test.op\"($) : (memref<?xi64>) -> memref<?xi64>",
      R"(cf.cond_br %flag, ^bb1($ : memref<?xi64>), ^bb1(%x : memref<?xi64>)
      ^bb1(%z: memref<?xi64>):)",
      R"(%list = memref.alloca() : memref<1xmemref<?xi64>>
      %zero = arith.constant 0 : index
      memref.store $, %list[%zero] : memref<1xmemref<?xi64>>
      %z = memref.load %list[%zero] : memref<1xmemref<?xi64>>)",
      R"(%as_tensor = bufferization.to_tensor $ : memref<?xi64> to tensor<?xi64>
      %z = bufferization.to_buffer %as_tensor : tensor<?xi64> to memref<?xi64>)",
      R"(%address = memref.extract_aligned_pointer_as_index $ : memref<?xi64> -> index
      %z = "test.buffer_at"(%address) : (index) -> memref<?xi64>)",
      R"(%cast = memref.cast $ : memref<?xi64> to memref<?xi64, strided<[1]>>
      %sub = memref.transpose %cast (d) -> (d) : memref<?xi64, strided<[1]>> to memref<?xi64, strided<[1]>>
      %chosen = arith.select %flag, %sub, %sub : memref<?xi64, strided<[1]>>
      %z = memref.cast %chosen : memref<?xi64, strided<[1]>> to memref<?xi64>)",
      "%z = builtin.unrealized_conversion_cast $ : memref<?xi64> to "
      "memref<?xi64>",
  };
  for (std::string &text : all)
    for (size_t at; (at = text.find('$')) != std::string::npos;)
      text.replace(at, 1, buffer);
  return all;
}

} // namespace

TEST_F(MemoryTest, KnownRoots) {
  EXPECT_TRUE(overlap("%x", "%y"));
  EXPECT_TRUE(overlap("%x", "%x"));
  EXPECT_TRUE(overlap("%local", "%local"));
  EXPECT_FALSE(overlap("%x", "%local"));
  EXPECT_FALSE(overlap("%local", "%second"));
  EXPECT_FALSE(overlap("%own", "%x"));
  EXPECT_FALSE(overlap("%own", "%local"));
}

TEST_F(MemoryTest, ListsDoNotOverlapContents) {
  EXPECT_FALSE(overlap(mark("%x", "a") + mark("%floats", "b", "f32")));
}

TEST_F(MemoryTest, Views) {
  const char *views = R"(
    %cast = memref.cast %local : memref<?xi64> to memref<?xi64, strided<[1]>>
    %turned = memref.transpose %cast (d) -> (d) : memref<?xi64, strided<[1]>> to memref<?xi64, strided<[1]>>
    %z = memref.cast %turned : memref<?xi64, strided<[1]>> to memref<?xi64>)";
  EXPECT_TRUE(overlap("%z", "%local", views));
  EXPECT_FALSE(overlap("%z", "%second", views));
  EXPECT_FALSE(overlap("%z", "%x", views));
}

TEST_F(MemoryTest, ABufferThatGoesToAnUnknownValue) {
  for (const std::string &way : unknownValues("%local"))
    EXPECT_TRUE(overlap("%z", "%local", way)) << way;
}

TEST_F(MemoryTest, ABufferThatStays) {
  for (const std::string &way : unknownValues("%y")) {
    EXPECT_FALSE(overlap("%z", "%local", way)) << way;
    EXPECT_TRUE(overlap("%z", "%x", way)) << way;
  }
}

// No other argument has its memory; a value that is not followed is none.
TEST_F(MemoryTest, AnArgumentOfItsOwn) {
  for (const std::string &way : unknownValues("%own"))
    EXPECT_TRUE(overlap("%z", "%own", way)) << way;
}

TEST_F(MemoryTest, UsesThatKeepNoReference) {
  EXPECT_FALSE(overlap("%z", "%local", R"(
    %n = memref.dim %local, %i : memref<?xi64>
    %v = memref.load %x[%i] : memref<?xi64>
    memref.store %v, %local[%n] : memref<?xi64>
    memref.copy %x, %local : memref<?xi64> to memref<?xi64>
    linalg.fill ins(%v : i64) outs(%local : memref<?xi64>)
    %read = vector.load %local[%i] : memref<?xi64>, vector<4xi64>
    kvcache.map_blocks %x by 4 into %local : memref<?xi64> into memref<?xi64>
    %slots = kvcache.make_slots %local : memref<?xi64> to !kvcache.slots<?T x i64, rows_per_block = 4, pad = none>
    memref.dealloc %local : memref<?xi64>
    %z = arith.select %flag, %x, %y : memref<?xi64>)"));
}

TEST_F(MemoryTest, ABatchIsAllOfItsMembers) {
  const char *batch = R"(
    %table = kvcache.make_block_table %t : memref<?x?xi64> to !kvcache.block_table<?R x ?M x i64, tokens = 4>
    %b = kvcache.make_batch %own, %local, %table : memref<?xi64>, memref<?xi64>, !kvcache.block_table<?R x ?M x i64, tokens = 4>
    %w = kvcache.with_rows %b, %second, %x : !kvcache.batch<?R x ?M x i64, tokens = 4>, memref<?xi64>, memref<?xi64>
    kvcache.slot_mapping %w into %y {b} : !kvcache.batch<?R x ?M x i64, tokens = 4, positions = i64> into memref<?xi64>)";
  for (const char *member : {"%local", "%second", "%x", "%own", "%y"})
    EXPECT_TRUE(overlap(batch + mark(member, "a"))) << member;
  EXPECT_FALSE(
      overlap(std::string("%third = memref.alloc(%i) : memref<?xi64>") + batch +
              mark("%third", "a")));
}

TEST_F(MemoryTest, ABatchThatABranchGives) {
  const char *batch = R"(
    %table = kvcache.make_block_table %t : memref<?x?xi64> to !kvcache.block_table<?R x ?M x i64, tokens = 4>
    %b = kvcache.make_batch %x, %local, %table : memref<?xi64>, memref<?xi64>, !kvcache.block_table<?R x ?M x i64, tokens = 4>
    %c = arith.select %flag, %b, %b : !kvcache.batch<?R x ?M x i64, tokens = 4>
    kvcache.slot_mapping %c into %y {b} : !kvcache.batch<?R x ?M x i64, tokens = 4> into memref<?xi64>)";
  EXPECT_TRUE(overlap(batch + mark("%local", "a")));
  EXPECT_FALSE(overlap(batch + mark("%second", "a")));
}
