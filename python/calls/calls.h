/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * kvcache._calls: calls of compiled functions with arrays of any library that
 * has DLPack. It uses the stable ABI of Python 3.10, so that one build serves
 * all versions from there on.
 */

#ifndef KVCACHE_PYTHON_CALLS_H
#define KVCACHE_PYTHON_CALLS_H

#define Py_LIMITED_API 0x030A0000
#include <Python.h>

#include "kvcache/Runtime/kv_abi.h"

enum { MAX_ARGUMENTS = 160, MAX_RANK = 32 };

/* ---- Arrays (arrays.c) --------------------------------------------------- */

/* An array as a DLTensor, until `release_array`. */
typedef struct {
  DLTensor tensor;
  PyObject *capsule; /* what keeps it; null if the array itself does */
  const void *api;   /* the exchange of its library; null if it has none */
  int is_read_only;
} array_view;

/* Views an array; `stream` is what the consumer will use, for arrays in GPU
 * memory. 0, or -1 with an exception. */
int view_array(PyObject *array, void *stream, array_view *view);
void release_array(array_view *view);

/* Whether the library of an array makes arrays in C, and one of its arrays: the
 * shape, the element type and the device are those described. Null with an
 * exception. */
int can_make_array(const array_view *like);
PyObject *make_array(const array_view *like, DLTensor *described);

/* The device of an array in GPU memory, and the current stream of its library:
 * whether that is known. For an array in other memory `device_id` is -1. */
int stream_of(PyObject *array, int32_t *device_id, void **stream);

/* ---- Workspaces (workspaces.c) ------------------------------------------- */

typedef struct {
  void *base;
  int64_t bytes;
} workspace;

/* The workspace of this thread, for a CPU. */
workspace *cpu_workspace(void);
/* Makes it at least so large. 0, or -1 without memory. */
int grow_cpu_workspace(workspace *space, int64_t bytes);
/* The workspace of a stream of a device; empty at first. Null without memory.
 * Needs the GIL, and is good until the next call. */
workspace *gpu_workspace(int32_t device_id, void *stream);

/* ---- Functions (functions.c) --------------------------------------------- */

/* Adds the type `Function` to a module. 0, or -1 with an exception. */
int add_function_type(PyObject *module);

/* ---- Threads (openmp.c) -------------------------------------------------- */

/* Gives the threads of OpenMP to a library. */
PyObject *use_openmp(PyObject *module, PyObject *args);

#endif /* KVCACHE_PYTHON_CALLS_H */
