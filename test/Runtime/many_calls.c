/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * Calls of the run time from many threads at once, with the checks of entry
 * functions, loops, workspaces, errors, TVM-FFI, and kernels of a driver that
 * is not there. Ends with 0 if each thread gets what its own calls gave.
 *
 *   many_calls ROUNDS
 */

#define _GNU_SOURCE
#include "check.h"

#include <dlfcn.h>
#include <pthread.h>

enum { THREADS = 16, ROWS = 37, COLUMNS = 8 };

/* ---- A function for the CPU ---------------------------------------------- */

/* Rows of the first tensor become those of the second one, times a number; by
 * way of the workspace, in a loop. The frame has 3 + 2 * 2 words per tensor. */
typedef struct {
  const int64_t *frame;
  float *between;
} work;

static void move_row(void *argument, int64_t row) {
  work *w = argument;
  const float *from = (const float *)(uintptr_t)w->frame[1];
  float *to = (float *)(uintptr_t)w->frame[8];
  int64_t from_stride = w->frame[5], to_stride = w->frame[12];
  for (int64_t c = 0; c < w->frame[4]; ++c) {
    w->between[row * w->frame[4] + c] = from[row * from_stride + c];
    to[row * to_stride + c] =
        w->between[row * w->frame[4] + c] * (float)w->frame[14];
  }
  if (w->frame[14] == 0 && row % 5 == 3)
    kvrt_report_layer(row, 3);
}

static int64_t bytes_between(const int64_t *frame) {
  return frame[3] * frame[4] * (int64_t)sizeof(float);
}

static void move_rows(const int64_t *frame) {
  work w = {frame, _mlir_memref_to_llvm_alloc((uint64_t)bytes_between(frame))};
  static const char text[] = "a variant";
  kvrt_trace((int64_t)(uintptr_t)text);
  kvrt_parallel_for(frame[3], move_row, &w);
}

static const kvrt_dim dims[] = {
    {KVRT_ANY, KVRT_ANY, 4, 0, 1, 0, 0},
    {COLUMNS, 1, 1, 0, -1, -1, 0},
};
static const kvrt_arg args[] = {
    {"from", dims, KVRT_TENSOR, 2, kDLFloat, 32, kDLCPU, 4},
    {"to", dims, KVRT_TENSOR, 2, kDLFloat, 32, kDLCPU, 4},
    {"times", NULL, KVRT_INT, 0, 0, 0, 0, 0},
};
static const kvrt_function moves = {
    .name = "moves",
    .args = args,
    .run = move_rows,
    .workspace = bytes_between,
    .num_args = 3,
    .frame_words = 15,
    .cpu_level = 1,
    .num_symbols = 1,
};

static DLTensor tensor_of(float *data, int64_t *shape, int64_t *strides) {
  return (DLTensor){data, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, strides, 0};
}

/* ---- TVM-FFI ------------------------------------------------------------- */

typedef struct {
  int32_t type, padding;
  union {
    int64_t number;
    void *pointer;
  } value;
} any;

static _Thread_local char raised[KVRT_MESSAGE_BYTES];

/* The run time finds it in the process. */
__attribute__((visibility("default"))) void
TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *text) {
  snprintf(raised, sizeof raised, "%s: %s", kind, text);
}

/* ---- One thread ---------------------------------------------------------- */

static void call_once(int64_t thread, int round) {
  float from[ROWS * COLUMNS], to[ROWS * 2 * COLUMNS] = {0};
  _Alignas(256) char workspace[2048];
  int64_t rows = 1 + (thread * 7 + round) % ROWS;
  int64_t from_shape[] = {rows, COLUMNS}, to_shape[] = {rows, COLUMNS};
  int64_t from_strides[] = {COLUMNS, 1}, to_strides[] = {2 * COLUMNS, 1};
  DLTensor a = tensor_of(from, from_shape, from_strides);
  DLTensor b = tensor_of(to, to_shape, to_strides);
  int64_t times = 1 + thread;
  void *arguments[] = {&a, &b, &times};
  for (int64_t i = 0; i < rows * COLUMNS; ++i)
    from[i] = (float)(thread * 1000 + i);

  CHECK(kvrt_workspace_size(&moves, arguments) == rows * COLUMNS * 4);
  CHECK(kvrt_call(&moves, arguments, workspace, sizeof workspace, NULL) ==
        KV_OK);
  CHECK(!*kvrt_last_error());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t c = 0; c < COLUMNS; ++c)
      CHECK(to[i * 2 * COLUMNS + c] ==
            (float)(times * (thread * 1000 + i * COLUMNS + c)));

  /* An error has the numbers of this thread, whoever else fails meanwhile. */
  char expected[200];
  to_shape[0] = rows + 100 + thread;
  snprintf(
      expected, sizeof expected,
      "moves: argument 'to': expected an extent of %lld in dimension 0, as "
      "in argument 'from', got %lld",
      (long long)rows, (long long)to_shape[0]);
  CHECK(kvrt_call(&moves, arguments, workspace, sizeof workspace, NULL) ==
        KV_ERROR_SHAPE);
  CHECK(!strcmp(kvrt_last_error(), expected));
  any values[] = {{7, 0, {.pointer = &a}},
                  {7, 0, {.pointer = &b}},
                  {1, 0, {.number = times}}};
  any result;
  CHECK(kvrt_call_tvm_ffi(&moves, values, 3, &result) == -1);
  CHECK(!strncmp(raised, "ValueError: ", 12) && !strcmp(raised + 12, expected));
  to_shape[0] = rows;

  /* An error in a loop, on whichever thread. */
  times = 0;
  int32_t status =
      kvrt_call(&moves, arguments, workspace, sizeof workspace, NULL);
  CHECK(status == (rows > 3 ? KV_ERROR_BOUNDS : KV_OK));
  int layer = -1;
  if (status)
    CHECK(sscanf(kvrt_last_error(),
                 "moves: expected a layer below 3, got layer %d",
                 &layer) == 1 &&
          layer % 5 == 3 && layer < rows);
}

/* ---- Kernels ------------------------------------------------------------- */

static kvrt_image image = {.bytes = "code"};
static kvrt_kernel kernels[2] = {{.image = &image, .name = "one"},
                                 {.image = &image, .name = "two"}};
static atomic_int launches;
static atomic_int copies;

static int launch(const char *code, const char *name,
                  const unsigned *dimensions, void **parameters) {
  (void)parameters;
  CHECK(!strcmp(code, "code") && dimensions[0] == 3);
  CHECK(!strcmp(name, "one") || !strcmp(name, "two"));
  atomic_fetch_add(&launches, 1);
  return 0;
}

static int copy(uint64_t *to, uint64_t *from, size_t *bytes, size_t count) {
  for (size_t i = 0; i < count; ++i)
    memcpy((void *)(uintptr_t)to[i], (const void *)(uintptr_t)from[i],
           bytes[i]);
  atomic_fetch_add(&copies, 1);
  return 0;
}

static void launch_both(const int64_t *frame) {
  int64_t word = frame[0];
  void *parameters[] = {&word};
  for (int i = 0; i < 2; ++i)
    kvrt_launch(&kernels[i], 3, 1, 1, 32, 1, 1, 1024, 0, parameters);
  /* Blocks 1 and 0 of four rows each, to 0 and 2 of another pool. */
  static const int32_t pairs[] = {1, 0, 0, 2, -1, 0, 0, 3};
  int64_t pool = frame[0];
  kvrt_runs_begin(pool, pool + 64, 8);
  kvrt_runs_loop(4, 8, 8);
  kvrt_runs_pool(1, 2, 1, 32, 32);
  kvrt_runs_pool(0, 3, 1, 32, 32);
  kvrt_runs_copy((int64_t)(uintptr_t)pairs, 4, 4);
}

static int64_t no_bytes(const int64_t *frame) {
  (void)frame;
  return 0;
}

static void call_device(int64_t thread) {
  static const kvrt_dim line = {KVRT_ANY, 1, 1, 0, -1, -1, 0};
  static const kvrt_arg pool = {"pool", &line, KVRT_TENSOR, 1,
                                kDLInt, 8,     kDLCUDA,     1};
  static const kvrt_function function = {.name = "device",
                                         .args = &pool,
                                         .run = launch_both,
                                         .workspace = no_bytes,
                                         .num_args = 1,
                                         .frame_words = 5,
                                         .cpu_level = 1};
  char memory[64 + 96];
  for (int i = 0; i < 64; ++i)
    memory[i] = (char)(thread + i);
  int64_t extent = sizeof memory, stride = 1;
  DLTensor t = {memory, {kDLCUDA, 0}, 1, {kDLInt, 8, 1}, &extent, &stride, 0};
  void *arguments[] = {&t};
  CHECK(kvrt_call(&function, arguments, NULL, 0, NULL) == KV_OK);
  for (int i = 0; i < 32; ++i)
    CHECK(memory[64 + i] == (char)(thread + 32 + i) &&
          memory[64 + 64 + i] == (char)(thread + i));
}

/* ---- All threads --------------------------------------------------------- */

static int rounds;
static pthread_barrier_t start;

static void *run_thread(void *number) {
  int64_t thread = (int64_t)(intptr_t)number;
  pthread_barrier_wait(&start);
  for (int i = 0; i < rounds; ++i) {
    call_once(thread, i);
    call_device(thread);
  }
  return NULL;
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  rounds = atoi(argv[1]);
  void *driver = dlopen("libcuda.so.1", RTLD_NOW);
  CHECK(driver);
  void (*set)(int (*)(const char *, const char *, const unsigned *, void **),
              int (*)(uint64_t *, uint64_t *, size_t *, size_t));
  *(void **)&set = dlsym(driver, "fake_set_functions");
  CHECK(set);
  set(launch, copy);
  CHECK(!pthread_barrier_init(&start, NULL, THREADS));
  pthread_t threads[THREADS];
  for (intptr_t i = 0; i < THREADS; ++i)
    CHECK(!pthread_create(&threads[i], NULL, run_thread, (void *)i));
  for (int i = 0; i < THREADS; ++i)
    CHECK(!pthread_join(threads[i], NULL));
  CHECK(atomic_load(&launches) == 2 * THREADS * rounds);
  CHECK(atomic_load(&copies) >= THREADS * rounds);
  return 0;
}
