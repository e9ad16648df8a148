/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception */

#include "calls.h"

#include <cpuid.h>
#include <dlfcn.h>
#include <sys/syscall.h>
#include <unistd.h>

PyDoc_STRVAR(open_doc, "open(path) -> handle\n\nLoads a shared library, which "
                       "stays loaded. OSError if it cannot be loaded.");

static PyObject *open_library(PyObject *module, PyObject *args) {
  PyObject *path;
  if (!PyArg_ParseTuple(args, "O&", PyUnicode_FSConverter, &path))
    return NULL;
  void *handle = dlopen(PyBytes_AsString(path), RTLD_NOW | RTLD_LOCAL);
  Py_DECREF(path);
  if (!handle) {
    const char *reason = dlerror();
    PyErr_SetString(PyExc_OSError, reason ? reason : "dlopen failed");
    return NULL;
  }
  return PyLong_FromVoidPtr(handle);
}

PyDoc_STRVAR(symbol_doc, "symbol(handle, name) -> address\n\nThe address of a "
                         "symbol, 0 if the library has none.");

static PyObject *find_symbol(PyObject *module, PyObject *args) {
  unsigned long long handle;
  const char *name;
  if (!PyArg_ParseTuple(args, "Ks", &handle, &name))
    return NULL;
  return PyLong_FromVoidPtr(dlsym((void *)(uintptr_t)handle, name));
}

PyDoc_STRVAR(text_doc,
             "text(address) -> str\n\nThe string that the function at "
             "an address returns.");

static PyObject *read_text(PyObject *module, PyObject *args) {
  unsigned long long address;
  if (!PyArg_ParseTuple(args, "K", &address))
    return NULL;
  const char *(*get)(void) = (const char *(*)(void))(uintptr_t)address;
  return PyUnicode_FromString(get());
}

PyDoc_STRVAR(check_doc, "check(address, stream) -> code\n\nWaits for a stream: "
                        "kv1_LIBRARY_check.");

static PyObject *check_entries(PyObject *module, PyObject *args) {
  unsigned long long address, stream;
  if (!PyArg_ParseTuple(args, "KK", &address, &stream))
    return NULL;
  int32_t (*check)(void *) = (int32_t (*)(void *))(uintptr_t)address;
  int32_t code;
  Py_BEGIN_ALLOW_THREADS code = check((void *)(uintptr_t)stream);
  Py_END_ALLOW_THREADS return PyLong_FromLong(code);
}

PyDoc_STRVAR(cpu_doc, "host_cpu() -> str\n\nThe name of the best CPU that code "
                      "can be compiled for and runs on this machine.");

/* Whether the machine has AMX for bf16, and Linux can be asked for it. */
static int has_tiles(void) {
  unsigned a, b, c, d;
  enum { BF16 = 1 << 22, TILE = 1 << 24, GET_SUPPORTED = 0x1021, DATA = 18 };
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & BF16) || !(d & TILE))
    return 0;
  unsigned long long supported = 0;
  return !syscall(SYS_arch_prctl, GET_SUPPORTED, &supported) &&
         (supported >> DATA & 1);
}

static PyObject *host_cpu(PyObject *module, PyObject *none) {
  const char *name = "x86-64";
  if (__builtin_cpu_supports("x86-64-v4"))
    name = __builtin_cpu_supports("avx512bf16") && has_tiles() ? "x86-64-v4-amx"
                                                               : "x86-64-v4";
  else if (__builtin_cpu_supports("x86-64-v3"))
    name = "x86-64-v3";
  else if (__builtin_cpu_supports("x86-64-v2"))
    name = "x86-64-v2";
  return PyUnicode_FromString(name);
}

PyDoc_STRVAR(
    openmp_doc,
    "use_openmp(parallel_for, thread_count) -> count\n\nGives the "
    "threads of OpenMP in this process to a library, by the addresses "
    "of kv1_LIBRARY_set_parallel_for and _set_thread_count. The number "
    "of threads, 0 if there is no OpenMP.");

static PyMethodDef methods[] = {
    {"open", open_library, METH_VARARGS, open_doc},
    {"symbol", find_symbol, METH_VARARGS, symbol_doc},
    {"text", read_text, METH_VARARGS, text_doc},
    {"check", check_entries, METH_VARARGS, check_doc},
    {"use_openmp", use_openmp, METH_VARARGS, openmp_doc},
    {"host_cpu", host_cpu, METH_NOARGS, cpu_doc},
    {NULL, NULL, 0, NULL}};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                                 "kvcache._calls",
                                 NULL,
                                 -1,
                                 methods,
                                 NULL,
                                 NULL,
                                 NULL,
                                 NULL};

PyMODINIT_FUNC PyInit__calls(void);
PyMODINIT_FUNC PyInit__calls(void) {
  PyObject *module = PyModule_Create(&definition);
  if (module && add_function_type(module))
    Py_CLEAR(module);
  return module;
}
