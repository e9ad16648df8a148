/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * KVRT_TRACE=1: prints the code variants that a call takes, one line each, to
 * standard error.
 */

#include "kvrt.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { UNKNOWN, OFF, ON };

void kvrt_trace(int64_t text) {
  static _Atomic(int) wanted = UNKNOWN;
  int state = atomic_load_explicit(&wanted, memory_order_relaxed);
  if (state == OFF)
    return;
  if (state == UNKNOWN) {
    const char *value = getenv("KVRT_TRACE");
    state = value && value[0] == '1' && !value[1] ? ON : OFF;
    atomic_store_explicit(&wanted, state, memory_order_relaxed);
    if (state == OFF)
      return;
  }
  char line[512];
  const kvrt_function *function = kvrt_current()->function;
  int length = snprintf(line, sizeof line, "kvrt: %s: %s\n",
                        function ? function->name : "?", (const char *)text);
  if (length < 0)
    return;
  size_t bytes =
      (size_t)length < sizeof line ? (size_t)length : sizeof line - 1;
  line[bytes - 1] = '\n';
  ssize_t written = write(STDERR_FILENO, line, bytes);
  (void)written; /* nobody to tell */
}
