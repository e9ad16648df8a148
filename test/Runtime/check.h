/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception */

#ifndef KVCACHE_TEST_RUNTIME_CHECK_H
#define KVCACHE_TEST_RUNTIME_CHECK_H

#include "kvrt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                       \
  do {                                                                         \
    if (!(condition)) {                                                        \
      fprintf(stderr, "%s:%d: not so: %s\nlast error: %s\n", __FILE__,         \
              __LINE__, #condition, kvrt_last_error());                        \
      exit(1);                                                                 \
    }                                                                          \
  } while (0)

#endif /* KVCACHE_TEST_RUNTIME_CHECK_H */
