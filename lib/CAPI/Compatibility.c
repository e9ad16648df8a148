/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * What libstdc++ takes from a C library that is newer than those of machines on
 * which the package is installed.
 */

#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>

/* glibc 2.36. */
uint32_t arc4random(void);
uint32_t arc4random(void) {
  uint32_t number;
  if (getentropy(&number, sizeof number))
    abort();
  return number;
}
