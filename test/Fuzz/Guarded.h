// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_TEST_FUZZ_GUARDED_H
#define KVCACHE_TEST_FUZZ_GUARDED_H

#include "Target.h"

#include <cstddef>
#include <cstring>
#include <sys/mman.h>
#include <vector>

namespace kvcache::fuzz {

/// Memory between pages that cannot be touched. What it held is remembered.
class GuardedMemory {
public:
  static constexpr size_t kBytes = 1 << 15;

  GuardedMemory() : before(kBytes) {
    void *all = mmap(nullptr, kBytes + 2 * kGuard, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED)
      report("no memory");
    first = static_cast<char *>(all) + kGuard;
    if (mprotect(first, kBytes, PROT_READ | PROT_WRITE))
      report("no memory");
    reset();
  }

  char *begin() { return first; }
  char *end() { return first + kBytes; }
  void reset() { std::memset(first, 0x40, kBytes); }
  void remember() { std::memcpy(before.data(), first, kBytes); }
  bool isUnchanged() const {
    return !std::memcmp(before.data(), first, kBytes);
  }
  /// Whether only bytes changed that may.
  bool isSame(const std::vector<bool> &mayChange) const {
    for (size_t i = 0; i < kBytes; ++i)
      if (before[i] != first[i] && !mayChange[i])
        return false;
    return true;
  }

private:
  static constexpr size_t kGuard = 1 << 16;
  char *first;
  std::vector<char> before;
};

} // namespace kvcache::fuzz

#endif // KVCACHE_TEST_FUZZ_GUARDED_H
