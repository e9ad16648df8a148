/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * Copies of blocks from one pool to another as a list of runs, for the copy
 * engine. Runs that are contiguous on both sides are merged.
 */

#include "kvrt.h"

#include <string.h>

/* As many as a layout has axes, and the parts of those that are split. */
enum { MAX_LOOPS = 16 };

typedef struct {
  int64_t chunks, per_block, block_stride, chunk_stride;
} pool;

static _Thread_local struct {
  pool from_pool, to_pool;
  uint64_t from, to;
  int64_t bytes;
  int32_t num_loops;
  struct {
    int64_t extent, from, to;
  } loops[MAX_LOOPS];
  /* The list, whose last entry may still grow. */
  size_t count;
  uint64_t froms[KVRT_MOST_COPIES], tos[KVRT_MOST_COPIES];
  size_t sizes[KVRT_MOST_COPIES];
} runs;

void kvrt_runs_begin(int64_t from, int64_t to, int64_t bytes) {
  runs.from = (uint64_t)from;
  runs.to = (uint64_t)to;
  runs.bytes = bytes;
  runs.num_loops = 0;
  runs.count = 0;
}

void kvrt_runs_loop(int64_t extent, int64_t from_stride, int64_t to_stride) {
  if (runs.num_loops == MAX_LOOPS) {
    kvrt_fail(KV_ERROR_SHAPE,
              "transfer by the copy engine: expected at most %d loops around a "
              "run",
              MAX_LOOPS);
    return;
  }
  runs.loops[runs.num_loops].extent = extent;
  runs.loops[runs.num_loops].from = from_stride;
  runs.loops[runs.num_loops].to = to_stride;
  ++runs.num_loops;
}

void kvrt_runs_pool(int64_t is_from, int64_t chunks, int64_t per_block,
                    int64_t block_stride, int64_t chunk_stride) {
  *(is_from ? &runs.from_pool : &runs.to_pool) =
      (pool){chunks, per_block, block_stride, chunk_stride};
}

static void flush(void) {
  if (runs.count)
    kvrt_cuda_copy(runs.tos, runs.froms, runs.sizes, runs.count);
  runs.count = 0;
}

static void add(uint64_t from, uint64_t to) {
  if (runs.count) {
    size_t last = runs.count - 1;
    if (runs.froms[last] + runs.sizes[last] == from &&
        runs.tos[last] + runs.sizes[last] == to) {
      runs.sizes[last] += (size_t)runs.bytes;
      return;
    }
  }
  if (runs.count == KVRT_MOST_COPIES)
    flush();
  runs.froms[runs.count] = from;
  runs.tos[runs.count] = to;
  runs.sizes[runs.count++] = (size_t)runs.bytes;
}

static void add_block(int32_t loop, uint64_t from, uint64_t to) {
  if (loop == runs.num_loops) {
    add(from, to);
    return;
  }
  for (int64_t i = 0; i < runs.loops[loop].extent; ++i)
    add_block(loop + 1, from + (uint64_t)(i * runs.loops[loop].from),
              to + (uint64_t)(i * runs.loops[loop].to));
}

static int64_t number_at(int64_t pairs, int64_t index_bytes, int64_t i) {
  if (index_bytes == 4) {
    int32_t narrow;
    memcpy(&narrow, (const char *)(uintptr_t)pairs + 4 * i, 4);
    return narrow;
  }
  int64_t wide;
  memcpy(&wide, (const char *)(uintptr_t)pairs + 8 * i, 8);
  return wide;
}

static uint64_t offset_of(const pool *p, int64_t chunk) {
  return (uint64_t)(chunk / p->per_block * p->block_stride +
                    chunk % p->per_block * p->chunk_stride);
}

void kvrt_runs_copy(int64_t pairs, int64_t index_bytes, int64_t count) {
  for (int64_t p = 0; p < count && !kvrt_current()->status; ++p) {
    int64_t from = number_at(pairs, index_bytes, 2 * p);
    int64_t to = number_at(pairs, index_bytes, 2 * p + 1);
    if (from < 0 || from >= runs.from_pool.chunks || to < 0 ||
        to >= runs.to_pool.chunks)
      continue; /* padding */
    add_block(0, runs.from + offset_of(&runs.from_pool, from),
              runs.to + offset_of(&runs.to_pool, to));
  }
  if (!kvrt_current()->status)
    flush();
}
