// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The numbers of formats on the host, against LLVM's own floats.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Formats/Formats.h"
#include "kvcache/IR/KVCache.h"
#include "kvcache/Registration/Registration.h"

#include "mlir/IR/MLIRContext.h"

#include "gtest/gtest.h"

#include <cmath>
#include <set>

using namespace kvcache;

namespace {

const Format &formatOf(llvm::StringRef name) {
  for (const Format *format : allFormats())
    if (format->getName() == name)
      return *format;
  ADD_FAILURE() << "no format " << name.str();
  return *allFormats().front();
}

/// Every pattern of at most 16 bits, and some of more.
std::vector<uint64_t> patternsOf(const Format &format) {
  std::vector<uint64_t> patterns;
  uint64_t step = format.getBits() > 16 ? 65521 : 1;
  for (uint64_t bits = 0; bits < uint64_t(1) << format.getBits(); bits += step)
    patterns.push_back(bits);
  return patterns;
}

TEST(Formats, HaveNamesOfTheirOwn) {
  std::set<std::string> names, dtypes;
  for (const Format *format : allFormats()) {
    EXPECT_TRUE(names.insert(format->getName().str()).second);
    EXPECT_TRUE(dtypes.insert(format->getDType().str()).second);
    EXPECT_EQ(format->getBits() % 8, 0) << format->getName().str();
  }
}

TEST(Formats, AreElementsOfCaches) {
  mlir::DialectRegistry registry;
  registerKVCacheDialect(registry);
  mlir::MLIRContext context(registry);
  context.loadDialect<KVCacheDialect>();
  EXPECT_EQ(KVCacheDialect::listFormats(&context),
            "f16, bf16, f32, f8E4M3FN or f8E5M2");
  auto type = mlir::Float8E4M3FNType::get(&context);
  auto format = mlir::dyn_cast<FormatTypeInterface>(mlir::Type(type));
  ASSERT_TRUE(format);
  EXPECT_EQ(&format.getFormat(), &formatOf("f8E4M3FN"));
  EXPECT_EQ(format.getStoredType(), type);
}

TEST(Formats, AreNoneWithoutRegistration) {
  mlir::MLIRContext context;
  context.loadDialect<KVCacheDialect>();
  EXPECT_EQ(KVCacheDialect::listFormats(&context),
            "a format, of which none is registered");
}

TEST(Formats, GiveTheSameBitsBack) {
  for (const Format *format : allFormats())
    for (uint64_t bits : patternsOf(*format)) {
      double number = format->toNumber(bits);
      if (std::isnan(number)) {
        EXPECT_TRUE(std::isnan(format->toNumber(format->toBits(number))));
        continue;
      }
      // An infinity that a format has, and saturates, is not made.
      if (std::isinf(number) && format->getName() == "f8E5M2")
        continue;
      ASSERT_EQ(format->toBits(number), bits) << format->getName().str();
    }
}

TEST(Formats, AreNumbersOfLLVM) {
  mlir::MLIRContext context;
  std::pair<llvm::StringRef, const llvm::fltSemantics *> all[] = {
      {"f16", &llvm::APFloat::IEEEhalf()},
      {"bf16", &llvm::APFloat::BFloat()},
      {"f32", &llvm::APFloat::IEEEsingle()},
      {"f8E4M3FN", &llvm::APFloat::Float8E4M3FN()},
      {"f8E5M2", &llvm::APFloat::Float8E5M2()}};
  for (auto [name, semantics] : all) {
    const Format &format = formatOf(name);
    for (uint64_t bits : patternsOf(format)) {
      llvm::APFloat number(*semantics, llvm::APInt(format.getBits(), bits));
      double got = format.toNumber(bits);
      if (number.isNaN()) {
        EXPECT_TRUE(std::isnan(got)) << name.str() << " " << bits;
        continue;
      }
      bool loses = false;
      number.convert(llvm::APFloat::IEEEdouble(),
                     llvm::APFloat::rmNearestTiesToEven, &loses);
      ASSERT_EQ(got, number.convertToDouble()) << name.str() << " " << bits;
    }
  }
}

TEST(Formats, RoundToTheNearestAndSaturate) {
  const Format &small = formatOf("f8E4M3FN"), &wide = formatOf("f8E5M2");
  auto rounded = [](const Format &format, double number) {
    return format.toNumber(format.toBits(number));
  };
  // Ties go to the even one: neighbours of 17 are 16 and 18.
  EXPECT_EQ(rounded(small, 17), 16);
  EXPECT_EQ(rounded(small, 19), 20);
  EXPECT_EQ(rounded(small, 464), 448);
  EXPECT_EQ(rounded(small, 1e30), 448);
  EXPECT_EQ(rounded(small, -INFINITY), -448);
  EXPECT_EQ(rounded(small, std::ldexp(1, -10)), 0);
  EXPECT_EQ(rounded(small, std::ldexp(1.5, -10)), std::ldexp(1, -9));
  EXPECT_TRUE(std::signbit(rounded(small, -1e-9)));
  EXPECT_EQ(rounded(wide, 1e30), 57344);
  EXPECT_EQ(rounded(wide, INFINITY), 57344);
  EXPECT_EQ(rounded(formatOf("f16"), 65519), 65504);
  EXPECT_EQ(rounded(formatOf("f16"), 65520), INFINITY);
}

} // namespace
