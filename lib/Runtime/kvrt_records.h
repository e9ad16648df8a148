/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * The contract between compiled programs and the runtime: limits, launch modes,
 * and the records that programs contain as data. Both sides include this file,
 * and nothing in it is duplicated: the compiler builds its types from the field
 * lists of the structs (lib/Target/EntryPoints.cpp,
 * lib/Conversion/GPU/LaunchToRuntime.cpp), and uses these constants in the code
 * that it emits.
 */

#ifndef KVRT_RECORDS_H
#define KVRT_RECORDS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define KVRT_STATIC_ASSERT static_assert
#define KVRT_ATOMIC(type) type
#else
#include <stdatomic.h>
#define KVRT_STATIC_ASSERT _Static_assert
#define KVRT_ATOMIC(type) _Atomic(type)
#endif

/* A struct with the fields of a list. */
#define KVRT_FIELD(type, name) type name;
#define KVRT_RECORD(fields)                                                    \
  struct {                                                                     \
    fields(KVRT_FIELD)                                                         \
  }

/* ---- Limits -------------------------------------------------------------- */

/* The runtime's capacity on the stack of a call; the compiler rejects functions
 * that need more. */
enum {
  KVRT_MAX_ARGUMENTS = 160,
  KVRT_MAX_FRAME_WORDS = 2048,
  KVRT_MAX_SYMBOLS = 256
};
/* Alignment of the workspace and of each buffer in it, in bytes. */
enum { KVRT_WORKSPACE_ALIGN = 256 };

/* ---- What an entry function checks --------------------------------------- */

enum { KVRT_ANY = -1 };

/* All facts about a stride hold together: it is at least the span of `next`
 * (extent * stride), and equal to it if compact.
 *
 *   extent    or KVRT_ANY
 *   constant  the stride, or KVRT_ANY
 *   multiple  the stride is a multiple of this, 1 or more
 *   compact   or 0
 *   next      the next faster dimension, -1 if there is none
 *   symbol    dimensions with one symbol are equal; -1: none
 */
#define KVRT_DIM_FIELDS(FIELD)                                                 \
  FIELD(int64_t, extent)                                                       \
  FIELD(int64_t, constant)                                                     \
  FIELD(int64_t, multiple)                                                     \
  FIELD(int32_t, compact)                                                      \
  FIELD(int32_t, next)                                                         \
  FIELD(int32_t, symbol)                                                       \
  FIELD(int32_t, unused)
typedef KVRT_RECORD(KVRT_DIM_FIELDS) kvrt_dim;

/* The extent of one symbol is times * that of another + plus.
 *
 *   times  at most 2^20, so that no extent makes it overflow
 *   plus   between -2^40 and 2^40
 */
#define KVRT_RULE_FIELDS(FIELD)                                                \
  FIELD(int64_t, times)                                                        \
  FIELD(int64_t, plus)                                                         \
  FIELD(int32_t, symbol)                                                       \
  FIELD(int32_t, of)
typedef KVRT_RECORD(KVRT_RULE_FIELDS) kvrt_rule;

enum { KVRT_TENSOR = 0, KVRT_INT = 1, KVRT_FLOAT = 2 };

/* One argument.
 *
 *   kind    KVRT_TENSOR and so on
 *   device  kDLCPU or kDLCUDA; a kDLCPU tensor may be kDLCUDAHost
 *   align   bytes
 */
#define KVRT_ARG_FIELDS(FIELD)                                                 \
  FIELD(const char *, name)                                                    \
  FIELD(const kvrt_dim *, dims)                                                \
  FIELD(int32_t, kind)                                                         \
  FIELD(int32_t, rank)                                                         \
  FIELD(int32_t, dtype_code)                                                   \
  FIELD(int32_t, dtype_bits)                                                   \
  FIELD(int32_t, device)                                                       \
  FIELD(int32_t, align)
typedef KVRT_RECORD(KVRT_ARG_FIELDS) kvrt_arg;

/* Calls the compiled function with the words of the frame: per tensor a memref
 * descriptor (allocated, aligned, offset, extents, strides), per scalar one
 * word. */
typedef void (*kvrt_run)(const int64_t *frame);
/* Bytes of workspace for these arguments, an upper bound. */
typedef int64_t (*kvrt_workspace)(const int64_t *frame);

/* One function that can be called.
 *
 *   cpu_level    x86-64 level the host code needs, 5: 4 and BF16, 6: 5 and AMX
 *   state_bytes  at the start of the workspace, which hold no buffer of the
 *                call
 */
#define KVRT_FUNCTION_FIELDS(FIELD)                                            \
  FIELD(const char *, name)                                                    \
  FIELD(const kvrt_arg *, args)                                                \
  FIELD(kvrt_run, run)                                                         \
  FIELD(kvrt_workspace, workspace)                                             \
  FIELD(int32_t, num_args)                                                     \
  FIELD(int32_t, frame_words)                                                  \
  FIELD(int32_t, cpu_level)                                                    \
  FIELD(int32_t, num_symbols)                                                  \
  FIELD(const kvrt_rule *, rules)                                              \
  FIELD(int64_t, num_rules)                                                    \
  FIELD(int64_t, state_bytes)
typedef KVRT_RECORD(KVRT_FUNCTION_FIELDS) kvrt_function;

/* ---- Kernels ------------------------------------------------------------- */

/* The image that a device loads: PTX text or machine code.
 *
 *   library  CUlibrary, null until it is loaded
 */
#define KVRT_IMAGE_FIELDS(FIELD)                                               \
  FIELD(const void *, bytes)                                                   \
  FIELD(KVRT_ATOMIC(void *), library)
typedef KVRT_RECORD(KVRT_IMAGE_FIELDS) kvrt_image;

/* One kernel of an image.
 *
 *   handle   CUkernel, null until it is found
 *   devices  a bit for each where it may take its memory
 */
#define KVRT_KERNEL_FIELDS(FIELD)                                              \
  FIELD(kvrt_image *, image)                                                   \
  FIELD(const char *, name)                                                    \
  FIELD(KVRT_ATOMIC(void *), handle)                                           \
  FIELD(KVRT_ATOMIC(uint64_t), devices)
typedef KVRT_RECORD(KVRT_KERNEL_FIELDS) kvrt_kernel;

/* The mode of a launch: how its kernel is ordered after the previous one in the
 * stream, and how its thread blocks run. */
enum {
  KVRT_LAUNCH_IN_ORDER = 0,    /* starts when the previous one has ended */
  KVRT_LAUNCH_COOPERATIVE = 1, /* the same, and all blocks run at once */
  KVRT_LAUNCH_OVERLAPPING = 2  /* may start earlier, and itself waits */
};

/* The description of a tensor map. It has `rank` dimensions, of which the first
 * is contiguous: its stride is not used. An extent of 0 counts as 1, as maps do
 * not allow 0. */
enum { KVRT_MAP_MAX_RANK = 5, KVRT_MAP_BYTES = 128, KVRT_MAP_ALIGN = 64 };
/* The driver's numbers of element types, for any 8 and any 16 bits: they are
 * copied only. */
enum { KVRT_MAP_UINT8 = 0, KVRT_MAP_FLOAT16 = 6 };
typedef struct {
  int64_t type; /* KVRT_MAP_UINT8 or KVRT_MAP_FLOAT16 */
  int64_t rank;
  int64_t swizzle; /* of shared memory, 32, 64 or 128 bytes, or 0 */
  int64_t extents[KVRT_MAP_MAX_RANK];
  int64_t strides[KVRT_MAP_MAX_RANK]; /* bytes */
  int64_t box[KVRT_MAP_MAX_RANK];     /* extents of one copy */
} kvrt_map_shape;

/* ---- Checks of entries --------------------------------------------------- */

/* The kind of an entry. docs/abi.md explains the checks. */
enum {
  KVRT_CHECK_SLOT,
  KVRT_CHECK_BLOCK,
  KVRT_CHECK_OFFSET,
  KVRT_CHECK_CHUNK,
  KVRT_CHECK_START,
  KVRT_CHECK_LENGTH,
  KVRT_CHECK_POSITION,
  KVRT_CHECK_TABLE,
  KVRT_CHECK_INDEX,
  KVRT_CHECK_ROTATION
};

/* State of a record: the device changes it from free to taken and to whole, the
 * host from whole to being read and to free. */
enum {
  KVRT_RECORD_FREE,
  KVRT_RECORD_TAKEN,
  KVRT_RECORD_WHOLE,
  KVRT_RECORD_READ
};

/* In pinned memory of the host, one for each device; kernels write it, at the
 * offsets of these fields. */
typedef struct {
  int32_t state;
  int32_t kind;
  uint64_t text;    /* address of the text of the check, in the host */
  int64_t request;  /* or the place in the first of two dimensions, or -1 */
  int64_t position; /* of the entry */
  int64_t value;
  int64_t low, high; /* allowed range, inclusive; low < 0: or padding */
  int64_t tokens;    /* of a block, for an entry of a table */
} kvrt_check_record;

/* ---- Layout -------------------------------------------------------------- */

/* Structs without padding: each field directly follows the previous one, as the
 * compiler lays out the same types. */
#define KVRT_SIZE_OF(type, name) +sizeof(type)
#define KVRT_IS_DENSE(record, fields)                                          \
  KVRT_STATIC_ASSERT(sizeof(record) == 0 fields(KVRT_SIZE_OF),                 \
                     "a record has no holes")
KVRT_IS_DENSE(kvrt_dim, KVRT_DIM_FIELDS);
KVRT_IS_DENSE(kvrt_rule, KVRT_RULE_FIELDS);
KVRT_IS_DENSE(kvrt_arg, KVRT_ARG_FIELDS);
KVRT_IS_DENSE(kvrt_function, KVRT_FUNCTION_FIELDS);
KVRT_IS_DENSE(kvrt_image, KVRT_IMAGE_FIELDS);
KVRT_IS_DENSE(kvrt_kernel, KVRT_KERNEL_FIELDS);
KVRT_STATIC_ASSERT(sizeof(KVRT_ATOMIC(void *)) == sizeof(void *) &&
                       sizeof(KVRT_ATOMIC(uint64_t)) == sizeof(uint64_t),
                   "what is atomic has the size of what is not");
KVRT_STATIC_ASSERT(sizeof(kvrt_map_shape) ==
                       (3 + 3 * KVRT_MAP_MAX_RANK) * sizeof(int64_t),
                   "a shape is words of 64 bits");
KVRT_STATIC_ASSERT(sizeof(kvrt_check_record) == 64,
                   "a record is one line of memory");
KVRT_STATIC_ASSERT(offsetof(kvrt_check_record, state) == 0 &&
                       offsetof(kvrt_check_record, kind) == 4 &&
                       offsetof(kvrt_check_record, text) == 8 &&
                       offsetof(kvrt_check_record, request) == 16,
                   "words have the places that kernels write to");

#endif /* KVRT_RECORDS_H */
