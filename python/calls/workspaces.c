/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception */

#include "calls.h"

#include <pthread.h>
#include <stdlib.h>

enum { ALIGN = 256 };

/* ---- Of a thread --------------------------------------------------------- */

static _Thread_local workspace of_thread;
static pthread_key_t at_exit;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_key(void) { pthread_key_create(&at_exit, free); }

workspace *cpu_workspace(void) { return &of_thread; }

int grow_cpu_workspace(workspace *space, int64_t bytes) {
  /* Twice as much as before: lengths that grow token by token would otherwise
   * allocate again and again. */
  if (bytes < 2 * space->bytes)
    bytes = 2 * space->bytes;
  if (bytes > INT64_MAX - ALIGN)
    return -1;
  bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
  void *base = aligned_alloc(ALIGN, (size_t)bytes);
  if (!base)
    return -1;
  pthread_once(&once, make_key);
  pthread_setspecific(at_exit, base);
  free(space->base);
  *space = (workspace){base, bytes};
  return 0;
}

/* ---- Of a stream --------------------------------------------------------- */

static struct of_stream {
  int32_t device_id;
  void *stream;
  workspace space;
} *streams;
static size_t count;

workspace *gpu_workspace(int32_t device_id, void *stream) {
  for (size_t i = 0; i < count; ++i)
    if (streams[i].device_id == device_id && streams[i].stream == stream)
      return &streams[i].space;
  struct of_stream *more = realloc(streams, (count + 1) * sizeof *more);
  if (!more)
    return NULL;
  streams = more;
  streams[count] = (struct of_stream){device_id, stream, {NULL, 0}};
  return &streams[count++].space;
}
