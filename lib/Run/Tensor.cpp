// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Run/Tensor.h"

#include "NumpyFile.h"
#include "kvcache/Target/Output.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/MathExtras.h"

#include <cmath>
#include <cstring>
#include <unistd.h>

using namespace kvcache;
using namespace kvcache::run;
using namespace llvm;

static constexpr uint64_t kPage = 4096;
static constexpr int64_t kFirstElements = 8;

Expected<Storage> Storage::allocate(uint64_t bytes) {
  uint64_t machine = uint64_t(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  if (bytes > machine)
    return runError("expected at most " + Twine(machine) +
                    " bytes, the memory of this machine, got " + Twine(bytes));
  Storage storage;
  storage.bytes = bytes;
  uint64_t size = alignTo(std::max<uint64_t>(bytes, 1), kPage);
  storage.memory.reset(static_cast<char *>(std::aligned_alloc(kPage, size)));
  if (!storage.memory)
    return runError("expected " + Twine(bytes) +
                    " bytes of memory, which the system cannot allocate");
  std::memset(storage.data(), 0xff, size);
  return storage;
}

std::optional<int64_t> Tensor::count(ArrayRef<int64_t> shape) {
  int64_t product = 1;
  if (is_contained(shape, 0))
    return 0;
  for (int64_t extent : shape)
    if (MulOverflow(product, extent, product))
      return std::nullopt;
  return product;
}

std::optional<int64_t> Tensor::reach(ArrayRef<int64_t> shape,
                                     ArrayRef<int64_t> strides,
                                     int64_t offset) {
  if (is_contained(shape, 0))
    return offset;
  int64_t last = offset;
  for (auto [extent, stride] : zip_equal(shape, strides)) {
    int64_t step;
    if (MulOverflow(extent - 1, stride, step) || AddOverflow(last, step, last))
      return std::nullopt;
  }
  int64_t bytes; // of the largest element
  if (AddOverflow(last, int64_t(1), last) ||
      MulOverflow(last, int64_t(8), bytes))
    return std::nullopt;
  return last;
}

void Tensor::forEach(function_ref<void(char *)> body) const {
  if (count() == 0)
    return;
  std::vector<int64_t> index(shape.size());
  char *element = first();
  while (true) {
    body(element);
    unsigned d = shape.size();
    while (d > 0 && index[d - 1] == shape[d - 1] - 1) {
      --d;
      element -= index[d] * strides[d] * type->bytes;
      index[d] = 0;
    }
    if (d == 0)
      return;
    ++index[d - 1];
    element += strides[d - 1] * type->bytes;
  }
}

namespace {

/// SplitMix64: the same numbers on every machine.
class Random {
public:
  explicit Random(uint64_t seed) : state(seed * 0xd1342543de82ef95u + 1) {}

  uint64_t bits() {
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }

  double normal() {
    double radius = std::sqrt(-2 * std::log(1 - unit()));
    return radius * std::cos(6.283185307179586 * unit());
  }

  int64_t between(int64_t low, int64_t high) {
    uint64_t count = uint64_t(high) - uint64_t(low) + 1; // 0: all there are
    return int64_t(uint64_t(low) + (count ? bits() % count : bits()));
  }

private:
  double unit() { return double(bits() >> 11) * 0x1p-53; }
  uint64_t state;
};

} // namespace

void Tensor::fill(const ArgumentSpec &spec, uint64_t seed) {
  using Source = ArgumentSpec::Source;
  auto set = [&](char *element, const Number &number) {
    if (type->isInteger)
      type->setInteger(element, number.integer);
    else
      type->setReal(element, number.real);
  };
  Random random(spec.seed.value_or(seed));
  int64_t i = 0;
  switch (spec.source) {
  case Source::Random:
    return forEach([&](char *element) {
      if (spec.range)
        type->setInteger(element,
                         random.between(spec.range->first, spec.range->second));
      else
        type->setReal(element, random.normal());
    });
  case Source::Zeros:
    return forEach([&](char *element) { type->setInteger(element, 0); });
  case Source::Iota:
    return forEach([&](char *element) { type->setInteger(element, i++); });
  case Source::Number:
    return forEach([&](char *element) { set(element, spec.numbers[0]); });
  case Source::List:
    return forEach([&](char *element) { set(element, spec.numbers[i++]); });
  case Source::Poison:
  case Source::File:
    return;
  }
}

Error Tensor::writeNumpy(StringRef path) const {
  return target::writeOutput(path, [&](raw_ostream &os) {
    NumpyHeader header;
    header.type = type->numpy;
    header.shape = shape;
    os << header.str();
    forEach([&](char *element) { os.write(element, type->bytes); });
  });
}

Error Tensor::writeRaw(StringRef path) const {
  return target::writeOutput(
      path, [&](raw_ostream &os) { os.write(storage.data(), storage.size()); });
}

static void printElement(raw_ostream &os, const ElementType &type,
                         const void *element) {
  if (type.isInteger)
    os << type.integer(element);
  else
    os << format("%g", type.real(element));
}

void Tensor::print(raw_ostream &os, StringRef name, bool all) const {
  double least = INFINITY, greatest = -INFINITY, sum = 0;
  int64_t numNans = 0;
  forEach([&](char *element) {
    double value = type->real(element);
    if (std::isnan(value)) {
      ++numNans;
      return;
    }
    least = std::min(least, value);
    greatest = std::max(greatest, value);
    sum += value;
  });
  os << name << ": " << type->name << " " << listStr(shape);
  int64_t numbers = count() - numNans;
  if (numbers)
    os << format(", min %g, max %g, mean %g", least, greatest, sum / numbers);
  if (numNans)
    os << ", " << numNans << " NaN";
  os << "\n";
  if (!count())
    return;
  // A line for each row of the last dimension.
  int64_t row = all && !shape.empty() ? shape.back() : kFirstElements;
  int64_t end = all ? count() : std::min(kFirstElements, count());
  int64_t i = 0;
  forEach([&](char *element) {
    if (i < end) {
      os << (i % row ? " " : "  ");
      printElement(os, *type, element);
      if (i + 1 == end && end < count())
        os << " ...";
      if ((i + 1) % row == 0 || i + 1 == end)
        os << "\n";
    }
    ++i;
  });
}
