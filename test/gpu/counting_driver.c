/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * Stands in for libcuda.so.1: passes each function that the run time may look
 * up on to the real driver, named by KV_REAL_LIBCUDA, and counts the calls.
 */

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The second list is what a launch must not use; the run time asks for none of
 * it. */
/* clang-format off */
#define FUNCTIONS(X)                                                           \
  X(cuInit) X(cuGetErrorString) X(cuDriverGetVersion) X(cuCtxGetCurrent)       \
  X(cuCtxGetDevice) X(cuCtxPushCurrent_v2) X(cuCtxPopCurrent_v2)               \
  X(cuDevicePrimaryCtxRetain) X(cuThreadExchangeStreamCaptureMode)             \
  X(cuLibraryLoadData) X(cuLibraryGetKernel) X(cuKernelGetFunction)            \
  X(cuLaunchKernel)                                                            \
  X(cuMemAlloc_v2) X(cuMemAllocAsync) X(cuMemFree_v2) X(cuCtxSynchronize)      \
  X(cuStreamSynchronize) X(cuStreamCreate) X(cuModuleLoadData)                 \
  X(cuModuleGetFunction) X(cuEventSynchronize)
/* clang-format on */

typedef long word;
typedef int function(word, word, word, word, word, word, word, word, word, word,
                     word, word);

enum {
#define NUMBER(name) number_##name,
  FUNCTIONS(NUMBER) COUNT
};
static const char *const names[] = {
#define NAME(name) #name,
    FUNCTIONS(NAME)};
static long counts[COUNT];
static function *real[COUNT];

static int pass(int n, word a, word b, word c, word d, word e, word f, word g,
                word h, word i, word j, word k, word l) {
  ++counts[n];
  if (!real[n]) {
    void *driver = dlopen(getenv("KV_REAL_LIBCUDA"), RTLD_NOW);
    if (driver)
      real[n] = (function *)dlsym(driver, names[n]);
    if (!real[n]) {
      fprintf(stderr, "no real %s\n", names[n]);
      abort();
    }
  }
  return real[n](a, b, c, d, e, f, g, h, i, j, k, l);
}

/* All parameters of these functions are words: pointers and integers. */
#define FORWARD(name)                                                          \
  int name(word a, word b, word c, word d, word e, word f, word g, word h,     \
           word i, word j, word k, word l) {                                   \
    return pass(number_##name, a, b, c, d, e, f, g, h, i, j, k, l);            \
  }
FUNCTIONS(FORWARD)

long counted(const char *name) {
  for (int n = 0; n < COUNT; ++n)
    if (!strcmp(names[n], name))
      return counts[n];
  return -1;
}

/* "name=count ..." of all functions called since the last time. */
void take_counts(char *text, int size) {
  int used = 0;
  text[0] = 0;
  for (int n = 0; n < COUNT; ++n) {
    if (counts[n] && used < size)
      used += snprintf(text + used, (size_t)(size - used), "%s=%ld ", names[n],
                       counts[n]);
    counts[n] = 0;
  }
}
