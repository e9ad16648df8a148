// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What one core can do: multiply-adds in registers, and a linear read.
//
//   clang-22 -O2 -march=x86-64-v3 benchmark/cpu/peak.c -o /tmp/peak &&
//   /tmp/peak

#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

int main(void) {
  double flops = 0, bytes = 0;
  for (int round = 0; round < 9; ++round) {
    __m256 sum[12];
    __m256 x = _mm256_set1_ps(0.5f), y = _mm256_set1_ps(0.25f);
    for (int i = 0; i < 12; ++i)
      sum[i] = x;
    long count = 20000000;
    double start = now();
    for (long k = 0; k < count; ++k) {
      __asm__ volatile("" : "+x"(x));
      for (int i = 0; i < 12; ++i)
        sum[i] = _mm256_fmadd_ps(sum[i], x, y);
    }
    double rate = count * 12 * 16 / (now() - start);
    for (int i = 0; i < 12; ++i)
      __asm__ volatile("" ::"x"(sum[i]));
    flops = rate > flops ? rate : flops;

    static char *memory;
    size_t size = 256l << 20;
    if (!memory) {
      memory = aligned_alloc(64, size);
      memset(memory, 1, size);
    }
    __m256i all = _mm256_setzero_si256(), other = all;
    start = now();
    for (size_t i = 0; i < size; i += 64) {
      all = _mm256_or_si256(all, *(__m256i *)(memory + i));
      other = _mm256_or_si256(other, *(__m256i *)(memory + i + 32));
    }
    rate = size / (now() - start);
    __asm__ volatile("" ::"x"(all), "x"(other));
    bytes = rate > bytes ? rate : bytes;
  }
  printf("%.1f GFLOP/s, %.1f GB/s\n", flops / 1e9, bytes / 1e9);
  return 0;
}
