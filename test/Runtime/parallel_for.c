/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * Ends with 0 if parallel loops do what they should. `parallel_for bench`
 * prints what a loop costs instead.
 */

#define _GNU_SOURCE
#include "check.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 100003, HOST_THREADS = 4 };

/* Plain integers: what a body writes has to be seen after the loop. */
static void count_index(void *argument, int64_t index) {
  ++((int *)argument)[index];
}

static void check_counts(int64_t most, int times) {
  static const int64_t counts[] = {-1, 0, 1, 2, 3, 7, 64, 1000, MOST};
  int *seen = calloc((size_t)MOST, sizeof *seen);
  for (size_t c = 0; c < sizeof counts / sizeof *counts; ++c) {
    int64_t count = counts[c];
    if (count > most)
      continue;
    for (int i = 0; i < times; ++i)
      kvrt_parallel_for(count, count_index, seen);
    for (int64_t i = 0; i < MOST; ++i) {
      CHECK(seen[i] == (i < count ? times : 0));
      seen[i] = 0;
    }
  }
  free(seen);
}

/* ---- Several calls at once ----------------------------------------------- */

static void *call_often(void *unused) {
  (void)unused;
  check_counts(1000, 40);
  return NULL;
}

static void check_host_threads(void) {
  pthread_t threads[HOST_THREADS];
  for (int i = 0; i < HOST_THREADS; ++i)
    CHECK(!pthread_create(&threads[i], NULL, call_often, NULL));
  for (int i = 0; i < HOST_THREADS; ++i)
    CHECK(!pthread_join(threads[i], NULL));
}

/* ---- Loops in loops ------------------------------------------------------ */

static void run_inner(void *argument, int64_t index) {
  kvrt_parallel_for(50, count_index, (int *)argument + 50 * index);
}

static void check_nested(void) {
  int seen[50 * 50] = {0};
  for (int i = 0; i < 20; ++i)
    kvrt_parallel_for(50, run_inner, seen);
  for (int i = 0; i < 50 * 50; ++i)
    CHECK(seen[i] == 20);
}

/* ---- Errors -------------------------------------------------------------- */

static const kvrt_function function = {.name = "failing"};

static void fail_some(void *argument, int64_t index) {
  /* The call in flight is known on each thread. */
  CHECK(kvrt_current()->function == &function);
  CHECK(kvrt_current()->stream == argument);
  if (index % 3 == 1)
    kvrt_fail(KV_ERROR_BOUNDS, "index %d of %s", (int)index, "a loop");
}

static void begin_call(void) {
  static int stream;
  *kvrt_current() =
      (kvrt_context){.function = &function, .stream = &stream, .device_id = -1};
}

static void check_errors(void) {
  begin_call();
  void *stream = kvrt_current()->stream;
  kvrt_parallel_for(1, fail_some, stream);
  CHECK(kvrt_current()->status == KV_OK);
  for (int i = 0; i < 200; ++i) {
    begin_call();
    kvrt_parallel_for(i % 40 + 2, fail_some, stream);
    CHECK(kvrt_current()->status == KV_ERROR_BOUNDS);
    int index = -1;
    CHECK(sscanf(kvrt_last_error(), "failing: index %d of a loop", &index));
    CHECK(index % 3 == 1 && index < i % 40 + 2);
    /* The first message stays. */
    char first[KVRT_MESSAGE_BYTES];
    strcpy(first, kvrt_last_error());
    kvrt_parallel_for(40, fail_some, stream);
    kvrt_fail(KV_ERROR_CUDA, "later");
    CHECK(kvrt_current()->status == KV_ERROR_BOUNDS);
    CHECK(!strcmp(first, kvrt_last_error()));
  }
  begin_call();
  kvrt_fail(KV_ERROR_SHAPE, "before");
  kvrt_parallel_for(40, fail_some, stream);
  CHECK(kvrt_current()->status == KV_ERROR_SHAPE);
  CHECK(!strcmp(kvrt_last_error(), "failing: before"));
  *kvrt_current() = (kvrt_context){.device_id = -1};
}

/* ---- Threads of the host ------------------------------------------------- */

typedef struct {
  int64_t first, step, count;
  void (*body)(void *context, int64_t index);
  void *context;
} share;

static void *run_share(void *argument) {
  share *mine = argument;
  for (int64_t i = mine->first; i < mine->count; i += mine->step)
    mine->body(mine->context, i);
  return NULL;
}

static atomic_int hook_calls;

/* A scheduler that runs something else while a loop is on its way. */
static void host_loop(void *user, int64_t count,
                      void (*body)(void *context, int64_t index),
                      void *context) {
  CHECK(user == &hook_calls);
  CHECK(count > 1);
  atomic_fetch_add(&hook_calls, 1);
  share shares[2] = {{0, 2, count, body, context},
                     {1, 2, count, body, context}};
  pthread_t thread;
  CHECK(!pthread_create(&thread, NULL, run_share, &shares[1]));
  kvrt_context mine = *kvrt_current();
  *kvrt_current() = (kvrt_context){.device_id = 7};
  kvrt_fail(KV_ERROR_NULL, "another call");
  run_share(&shares[0]);
  CHECK(kvrt_current()->device_id == 7);
  CHECK(!pthread_join(thread, NULL));
  if (count % 2)
    *kvrt_current() = mine;
}

/* What the host says counts, and then what there was before. */
static void check_thread_count(int64_t before) {
  begin_call();
  CHECK(kvrt_thread_count() == before);
  kvrt_set_thread_count(3);
  CHECK(kvrt_thread_count() == 3);
  kvrt_set_thread_count(INT64_MAX);
  CHECK(kvrt_thread_count() == 1024);
  kvrt_set_thread_count(-1);
  CHECK(kvrt_thread_count() == before);
}

static void check_hook(void) {
  kvrt_set_parallel_for(host_loop, &hook_calls);
  check_counts(1000, 1); /* 2, 3, 7, 64 and 1000 */
  CHECK(atomic_load(&hook_calls) == 5);
  check_nested(); /* inner loops do not come here */
  CHECK(atomic_load(&hook_calls) == 25);
  begin_call();
  kvrt_parallel_for(64, count_index, (int[64]){0});
  CHECK(kvrt_current()->function == &function);
  CHECK(kvrt_current()->status == KV_OK && !*kvrt_last_error());
  check_errors();
  check_thread_count(64); /* any number: work for many */
  kvrt_set_parallel_for(NULL, NULL);
  int calls = atomic_load(&hook_calls);
  check_counts(1000, 1);
  CHECK(atomic_load(&hook_calls) == calls);
}

/* ---- What it costs ------------------------------------------------------- */

static void nothing(void *argument, int64_t index) {
  (void)argument;
  (void)index;
}

/* The time until both threads are in a loop of two, and out again. */
static void meet(void *argument, int64_t index) {
  (void)index;
  atomic_int *here = argument;
  atomic_fetch_add(here, 1);
  for (int i = 0; atomic_load(here) < 2 && i < 100000; ++i)
    ;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static void bench(const char *what, int64_t count, int meets, int pause_us) {
  enum { TIMES = 2001 };
  static double times[TIMES];
  for (int i = 0; i < TIMES; ++i) {
    atomic_int here = 0;
    if (pause_us)
      usleep((useconds_t)pause_us);
    double start = now();
    kvrt_parallel_for(count, meets ? meet : nothing, &here);
    times[i] = now() - start;
  }
  qsort(times, TIMES, sizeof *times, by_value);
  printf("%-42s median %8.2f us, 90%% %8.2f us\n", what, times[TIMES / 2],
         times[TIMES * 9 / 10]);
}

int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "bench")) {
    bench("1 index", 1, 0, 0);
    bench("2 indices, back to back", 2, 0, 0);
    bench("2 indices, workers asleep", 2, 0, 1000);
    bench("2 indices that meet, back to back", 2, 1, 0);
    bench("2 indices that meet, workers asleep", 2, 1, 1000);
    bench("1000 indices, back to back", 1000, 0, 0);
    bench("1000 indices, workers asleep", 1000, 0, 1000);
    return 0;
  }
  check_counts(MOST, 3);
  check_host_threads();
  check_nested();
  check_errors();
  check_hook();
  check_host_threads();
  return 0;
}
