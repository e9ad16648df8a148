/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * What a check of entries reports, for the run time and for those who write
 * calls of it and kernels (lib/Conversion). docs/abi.md says what it is for.
 */

#ifndef KVRT_ENTRIES_H
#define KVRT_ENTRIES_H

#include <stddef.h>
#include <stdint.h>

/* What an entry is. */
enum {
  KVRT_CHECK_SLOT,
  KVRT_CHECK_BLOCK,
  KVRT_CHECK_OFFSET,
  KVRT_CHECK_CHUNK,
  KVRT_CHECK_START,
  KVRT_CHECK_LENGTH,
  KVRT_CHECK_POSITION,
  KVRT_CHECK_TABLE,
  KVRT_CHECK_INDEX
};

/* Of a record: the device takes it from free to taken and to whole, the host
 * from whole to being read and to free. */
enum {
  KVRT_RECORD_FREE,
  KVRT_RECORD_TAKEN,
  KVRT_RECORD_WHOLE,
  KVRT_RECORD_READ
};

/* In pinned memory of the host, one for each device; kernels write it. */
typedef struct {
  int32_t state;
  int32_t kind;
  uint64_t text;    /* address of the text of the check, in the host */
  int64_t request;  /* or the place in the first of two dimensions, or -1 */
  int64_t position; /* of the entry */
  int64_t value;
  int64_t low, high; /* what is allowed, both included; low < 0: or padding */
  int64_t tokens;    /* of a block, for an entry of a table */
} kvrt_check_record;

#ifdef __cplusplus
#define KVRT_STATIC_ASSERT static_assert
#else
#define KVRT_STATIC_ASSERT _Static_assert
#endif
KVRT_STATIC_ASSERT(sizeof(kvrt_check_record) == 64,
                   "a record is one line of memory");
KVRT_STATIC_ASSERT(offsetof(kvrt_check_record, state) == 0 &&
                       offsetof(kvrt_check_record, kind) == 4 &&
                       offsetof(kvrt_check_record, text) == 8 &&
                       offsetof(kvrt_check_record, request) == 16,
                   "words have the places that kernels write to");

#endif /* KVRT_ENTRIES_H */
