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
  uint32_t d = r[3];
  cpuid(7, 1, r);
  if (!has(r[0], 1u << 5))
    return 4;
  /* AMX_BF16, AMX_TILE, and the operating system saves the tiles: level 6. */
  return has(d, 1u << 22 | 1u << 24) && has(low, 3u << 17) ? 6 : 5;
}

/* Linux saves tiles only in a process that asked for them, and refuses if the
 * signal stack of some thread has no room for them. */
static int may_use_tiles(void) {
#if defined(__linux__)
  enum { kArchPrctl = 158, kRequestPermission = 0x1023, kTileData = 18 };
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "0"((long)kArchPrctl), "D"((long)kRequestPermission),
                     "S"((long)kTileData)
                   : "rcx", "r11", "memory");
  return result == 0;
#else
  return 0;
#endif
}
#else
static int32_t find_cpu_level(void) { return 6; }
static int may_use_tiles(void) { return 1; }
#endif

/* A process that was refused may ask again: it may have other stacks by then.
 */
static int has_tiles(void) {
  static atomic_int permitted;
  if (atomic_load_explicit(&permitted, memory_order_relaxed))
    return 1;
  if (!may_use_tiles())
    return 0;
  atomic_store_explicit(&permitted, 1, memory_order_relaxed);
  return 1;
}

int32_t kvrt_x86_check(int32_t needed) {
  static atomic_int known;
  int level = atomic_load_explicit(&known, memory_order_relaxed);
  if (!level) {
    level = find_cpu_level();
    atomic_store_explicit(&known, level, memory_order_relaxed);
  }
  if (level >= needed && (needed < 6 || has_tiles()))
    return KV_OK;
  if (level >= needed)
    return kvrt_fail(KV_ERROR_CPU,
                     "compiled for x86-64-v4 with AMX_BF16, which the "
                     "operating system does not let this process use");
  if (needed >= 5)
    return kvrt_fail(KV_ERROR_CPU,
                     "compiled for x86-64-v4 with %s, which this machine does "
                     "not have",
                     needed == 5 ? "AVX512_BF16" : "AVX512_BF16 and AMX_BF16");
  return kvrt_fail(KV_ERROR_CPU,
                   "compiled for x86-64-v%d, but this machine has x86-64-v%d",
                   needed, level > 4 ? 4 : level);
}
