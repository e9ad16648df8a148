// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Bytecode.h"

#include "mlir/Bytecode/Encoding.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/Alignment.h"
#include "llvm/Support/MathExtras.h"

using namespace kvcache::fuzz;
using llvm::StringRef;

static constexpr StringRef kMagic = "ML\xefR";
/// Of the byte that names a section.
static constexpr uint8_t kIsAligned = 0x80;

namespace {

/// What is read after the end is 0.
class Bytes {
public:
  explicit Bytes(StringRef bytes) : left(bytes) {}

  bool empty() const { return left.empty(); }
  StringRef take(uint64_t size) {
    StringRef taken = left.take_front(size);
    left = left.drop_front(taken.size());
    return taken;
  }
  uint8_t byte() {
    StringRef taken = take(1);
    return taken.empty() ? 0 : taken[0];
  }
  /// The zeros at the low end of the first byte say how many bytes follow it;
  /// they and the one after them are not part of the number.
  uint64_t number() {
    uint8_t first = byte();
    unsigned more = llvm::countr_zero(first);
    uint64_t high = 0;
    for (auto [i, part] : llvm::enumerate(take(more).bytes()))
      high |= uint64_t(part) << (8 * i);
    return more >= 7 ? high : (high << (7 - more)) | (first >> (more + 1));
  }
  void text() {
    take(left.find('\0'));
    byte();
  }
  void align(uint64_t to) {
    if (llvm::isPowerOf2_64(to))
      take(llvm::offsetToAlignedAddr(left.data(), llvm::Align(to)));
  }

private:
  StringRef left;
};

} // namespace

bool kvcache::fuzz::isBytecode(StringRef file) {
  return file.starts_with(kMagic);
}

static bool groupsFit(Bytes section) {
  uint64_t lists[] = {section.number(), section.number()};
  for (uint64_t left : lists)
    while (left != 0 && !section.empty()) {
      section.number(); // dialect
      uint64_t entries = section.number();
      if (entries > left)
        return false;
      left -= entries;
      for (; entries != 0 && !section.empty(); --entries)
        section.number();
    }
  return true;
}

bool kvcache::fuzz::groupsFitLists(StringRef file) {
  Bytes bytes(file.drop_front(kMagic.size()));
  bytes.number(); // version
  bytes.text();   // what wrote it
  while (!bytes.empty()) {
    uint8_t section = bytes.byte();
    uint64_t size = bytes.number();
    if (section & kIsAligned)
      bytes.align(bytes.number());
    StringRef content = bytes.take(size);
    if ((section & ~kIsAligned) == mlir::bytecode::Section::kAttrTypeOffset)
      return groupsFit(Bytes(content));
  }
  return true;
}
