/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * Parallel loops on the threads of OpenMP that another library of the process
 * brought along, as PyTorch does: two pools would wait for each other's CPUs,
 * and engines bind the threads of that one.
 */

#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "calls.h"

#include <dlfcn.h>
#include <stdatomic.h>

/* What compilers call for a parallel region. LLVM's and Intel's libraries have
 * these symbols, too. */
typedef void gomp_parallel(void (*body)(void *argument), void *argument,
                           unsigned threads, unsigned flags);
typedef int max_threads(void);

static gomp_parallel *start_region;
static max_threads *get_max_threads;

typedef struct {
  void (*body)(void *context, int64_t index);
  void *context;
  int64_t count;
  _Atomic int64_t next;
} loop;

static void take_part(void *argument) {
  loop *self = argument;
  for (;;) {
    int64_t index =
        atomic_fetch_add_explicit(&self->next, 1, memory_order_relaxed);
    if (index >= self->count)
      return;
    self->body(self->context, index);
  }
}

/* kv_parallel_for of kv_abi.h. */
static void run_on_openmp(void *user, int64_t count,
                          void (*body)(void *context, int64_t index),
                          void *context) {
  loop self = {body, context, count, 0};
  int64_t threads = get_max_threads();
  start_region(take_part, &self, (unsigned)(count < threads ? count : threads),
               0);
}

/* Of what is loaded already: the one that all libraries share, or the one that
 * PyTorch depends on. */
static int find_openmp(void) {
  void *places[] = {RTLD_DEFAULT,
                    dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD)};
  for (int i = 0; i < 2 && !start_region; ++i) {
    if (i && !places[i])
      break;
    get_max_threads = (max_threads *)dlsym(places[i], "omp_get_max_threads");
    if (get_max_threads)
      start_region = (gomp_parallel *)dlsym(places[i], "GOMP_parallel");
  }
  return start_region != NULL;
}

PyObject *use_openmp(PyObject *module, PyObject *args) {
  unsigned long long parallel_for, thread_count;
  if (!PyArg_ParseTuple(args, "KK", &parallel_for, &thread_count))
    return NULL;
  if (!start_region && !find_openmp())
    return PyLong_FromLong(0);
  void (*set_parallel_for)(kv_parallel_for *run, void *user) =
      (void (*)(kv_parallel_for *, void *))(uintptr_t)parallel_for;
  void (*set_thread_count)(int64_t count) =
      (void (*)(int64_t))(uintptr_t)thread_count;
  int threads = get_max_threads();
  set_parallel_for(run_on_openmp, NULL);
  if (set_thread_count) /* libraries of older compilers have none */
    set_thread_count(threads);
  return PyLong_FromLong(threads);
}
