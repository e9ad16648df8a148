/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * Layouts of caches in C: where elements are in memory, and the contiguous runs
 * of a part that moves. In libkvcache.so, like Compiler.h. docs/layout.md says
 * what the words mean.
 */

#ifndef KVCACHE_C_LAYOUT_H
#define KVCACHE_C_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A number that is known only in a call. */
#define KVC_RUN_TIME (-1)
#define KVC_MAX_AXES 8

typedef struct KvcLayout KvcLayout;

/* The layout of a type, `!kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>`.
 * Null after an error: `messages`, if it is not null, is set to its text, which
 * kvcFree frees, and to null otherwise. */
KvcLayout *kvcLayoutParse(const char *type, char **messages);
void kvcLayoutFree(KvcLayout *layout);

typedef struct {
  char name[4];     /* L, S, B, N, H, D, or D.o and D.i of a split axis */
  int32_t place;    /* in memory: 0 is the slowest axis */
  int64_t extent;   /* or KVC_RUN_TIME */
  int64_t stride;   /* in elements, or KVC_RUN_TIME */
  int64_t multiple; /* divides the stride in any call */
} KvcAxis;

/* The number of axes, and one of them as the type lists them. */
int32_t kvcLayoutRank(const KvcLayout *layout);
KvcAxis kvcLayoutAxis(const KvcLayout *layout, int32_t axis);

int64_t kvcLayoutElementBytes(const KvcLayout *layout);

/* The indices first ... first + count - 1 of an axis. */
typedef struct {
  const char *axis;
  int64_t first, count;
} KvcSlice;

/* Runs of `run_bytes` without gaps. They begin at the sums of one multiple of
 * each stride below its extent; loops are listed from slowest to fastest. */
typedef struct {
  int64_t run_bytes;
  int64_t runs;         /* or KVC_RUN_TIME */
  int64_t access_bytes; /* the widest access that all runs are aligned to */
  int32_t num_loops;
  int64_t extents[KVC_MAX_AXES]; /* or KVC_RUN_TIME */
  int64_t strides[KVC_MAX_AXES]; /* in elements, or KVC_RUN_TIME */
} KvcTransfer;

/* The runs of the axes whose letters are in `moved`, such as `LSNHD` for a
 * block of all layers, where the other axes are at any index. Slices restrict
 * axes that move. Returns 0, or 1 after an error, with messages as above. */
int32_t kvcLayoutTransfer(const KvcLayout *layout, const char *moved,
                          const KvcSlice *slices, size_t num_slices,
                          KvcTransfer *transfer, char **messages);

/* A drawing, for a terminal or as the text of an SVG file. kvcFree frees it. */
char *kvcLayoutDraw(const KvcLayout *layout, int32_t as_svg);

#ifdef __cplusplus
}
#endif

#endif /* KVCACHE_C_LAYOUT_H */
