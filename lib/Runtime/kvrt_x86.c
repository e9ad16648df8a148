/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * Whether this machine can run host code compiled for a given x86-64 level.
 * Code for other architectures runs on any machine of that architecture.
 */

#include "kvrt.h"

#if defined(__x86_64__)
static void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4]) {
  __asm__ volatile("cpuid"
                   : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
                   : "a"(leaf), "c"(sub));
}

static int has(uint32_t word, uint32_t mask) { return (word & mask) == mask; }

/* The x86-64 microarchitecture level of this machine. */
static int32_t find_cpu_level(void) {
  uint32_t r[4];
  cpuid(0, 0, r);
  uint32_t leaves = r[0];
  cpuid(1, 0, r);
  uint32_t c = r[2];
  /* SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT */
  if (!has(c, 1u << 0 | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 23))
    return 1;
  uint32_t extended[4];
  cpuid(0x80000000u, 0, extended);
  int lzcnt = 0;
  if (extended[0] >= 0x80000001u) {
    cpuid(0x80000001u, 0, extended);
    lzcnt = has(extended[2], 1u << 5);
  }
  /* LZCNT, FMA, MOVBE, OSXSAVE, AVX, F16C */
  if (!lzcnt || leaves < 7 ||
      !has(c, 1u << 12 | 1u << 22 | 1u << 27 | 1u << 28 | 1u << 29))
    return 2;
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  cpuid(7, 0, r);
  uint32_t b = r[1];
  /* AVX2, BMI1, BMI2, and the operating system saves the registers */
  if (!has(low, 6) || !has(b, 1u << 3 | 1u << 5 | 1u << 8))
    return 2;
  /* AVX512 F, DQ, CD, BW, VL */
  if (!has(low, 0xe6) ||
      !has(b, 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31))
    return 3;
  /* AVX512_BF16: what level 5 adds here. */
  if (r[0] < 1)
    return 4;
  cpuid(7, 1, r);
  return has(r[0], 1u << 5) ? 5 : 4;
}
#else
static int32_t find_cpu_level(void) { return 5; }
#endif

int32_t kvrt_x86_check(int32_t needed) {
  static atomic_int known;
  int level = atomic_load_explicit(&known, memory_order_relaxed);
  if (!level) {
    level = find_cpu_level();
    atomic_store_explicit(&known, level, memory_order_relaxed);
  }
  if (level >= needed)
    return KV_OK;
  if (needed == 5)
    return kvrt_fail(KV_ERROR_CPU, "compiled for x86-64-v4 with AVX512_BF16, "
                                   "which this machine does not have");
  return kvrt_fail(KV_ERROR_CPU,
                   "compiled for x86-64-v%d, but this machine has x86-64-v%d",
                   needed, level > 4 ? 4 : level);
}
