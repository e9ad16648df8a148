/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * Arithmetic on numbers from a caller. Nothing else in the runtime multiplies
 * or adds them: a product that overflows is a small number that passes for a
 * size.
 */

#ifndef KVRT_ARITHMETIC_H
#define KVRT_ARITHMETIC_H

#include <stdint.h>

/* Whether the result fits in 64 bits; only then is it stored. */
static inline int kvrt_add(int64_t a, int64_t b, int64_t *result) {
  int64_t sum;
  if (__builtin_add_overflow(a, b, &sum))
    return 0;
  *result = sum;
  return 1;
}

static inline int kvrt_mul(int64_t a, int64_t b, int64_t *result) {
  int64_t product;
  if (__builtin_mul_overflow(a, b, &product))
    return 0;
  *result = product;
  return 1;
}

/* For lower bounds: a result that does not fit is above every allowed value. */
static inline int64_t kvrt_mul_or_most(int64_t a, int64_t b) {
  int64_t product = INT64_MAX;
  kvrt_mul(a, b, &product);
  return product;
}

/* Rounds a nonnegative number up to a multiple of `unit`, 1 or more. */
static inline int64_t kvrt_round_up_or_most(int64_t number, int64_t unit) {
  int64_t more = INT64_MAX;
  if (number % unit == 0)
    return number;
  kvrt_add(number, unit - number % unit, &more);
  return more;
}

#endif /* KVRT_ARITHMETIC_H */
