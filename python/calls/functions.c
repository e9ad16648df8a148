/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception */

#include "calls.h"

#include <string.h>

typedef int32_t packed_call(void *const *args, void *workspace,
                            int64_t workspace_bytes, void *stream);
typedef int64_t packed_size(void *const *args);
typedef const char *last_error(void);

enum kind { TENSOR, INT, FLOAT };

/* An extent of a result: times * that of a dimension of another argument, and
 * plus. `argument` is -1 if it is a constant, and -2 if it follows from none.
 */
typedef struct {
  int64_t argument, dim, times, plus;
} extent_rule;

typedef struct {
  PyObject *name;
  int kind, rank;
  int is_written, is_result;
  DLDataType type;
  extent_rule *extents; /* of a result */
} argument;

typedef struct {
  PyObject_HEAD PyObject *owner; /* what has the methods below, in Python */
  packed_call *call;
  packed_size *size;
  last_error *error;
  Py_ssize_t count;
  int is_gpu;
  argument *arguments;
} function;

/* The arguments of a call. */
typedef struct {
  PyObject *values[MAX_ARGUMENTS]; /* new references */
  array_view views[MAX_ARGUMENTS];
  int64_t scalars[MAX_ARGUMENTS];
  void *packed[MAX_ARGUMENTS];
  Py_ssize_t first; /* tensor that was given; -1 if there is none */
  int is_viewed[MAX_ARGUMENTS];
} call_state;

/* ---- Arguments ----------------------------------------------------------- */

static PyObject *name_of(const function *self) {
  return PyObject_GetAttrString(self->owner, "name");
}

static int fail_binding(const function *self, const char *format,
                        PyObject *detail) {
  PyObject *name = name_of(self);
  if (name)
    PyErr_Format(PyExc_TypeError, format, name, detail);
  Py_XDECREF(name);
  return -1;
}

/* Puts positional and keyword arguments in their places. */
static int bind(const function *self, PyObject *args, PyObject *keywords,
                call_state *state) {
  Py_ssize_t given = PyTuple_Size(args);
  if (given > self->count) {
    PyObject *name = name_of(self);
    if (name)
      PyErr_Format(PyExc_TypeError,
                   "%S: expected at most %zd arguments, got %zd", name,
                   self->count, given);
    Py_XDECREF(name);
    return -1;
  }
  for (Py_ssize_t i = 0; i < given; ++i) {
    PyObject *value = PyTuple_GetItem(args, i);
    if (value == Py_None)
      continue; /* as if it were not given */
    Py_INCREF(value);
    state->values[i] = value;
  }
  if (!keywords)
    return 0;
  PyObject *key, *value;
  Py_ssize_t position = 0;
  while (PyDict_Next(keywords, &position, &key, &value)) {
    Py_ssize_t i = 0;
    while (i < self->count && self->arguments[i].name != key &&
           PyUnicode_Compare(self->arguments[i].name, key))
      ++i;
    if (i == self->count)
      return fail_binding(self, "%S: got an unexpected argument '%U'", key);
    if (i < given)
      return fail_binding(self, "%S: got two values for argument '%U'", key);
    if (value == Py_None)
      continue;
    Py_INCREF(value);
    state->values[i] = value;
  }
  return 0;
}

/* Another attempt, for arrays whose library does not export their elements:
 * `owner.export` gives an array of the same memory that can be exported, and
 * the code of its elements. */
static int view_converted(const function *self, Py_ssize_t i, void *stream,
                          call_state *state) {
  PyObject *type, *value, *trace;
  PyErr_Fetch(&type, &value, &trace);
  PyErr_NormalizeException(&type, &value, &trace);
  PyObject *reason = value ? value : Py_None;
  PyObject *converted =
      PyObject_CallMethod(self->owner, "export", "OOO", self->arguments[i].name,
                          state->values[i], reason);
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(trace);
  PyObject *array = NULL;
  int code, status = -1;
  if (converted && PyArg_ParseTuple(converted, "Oi", &array, &code) &&
      !view_array(array, stream, &state->views[i])) {
    state->views[i].tensor.dtype.code = (uint8_t)code;
    status = 0;
  }
  Py_XDECREF(converted);
  return status;
}

static int view(const function *self, Py_ssize_t i, void *stream,
                call_state *state) {
  array_view *view = &state->views[i];
  if (view_array(state->values[i], stream, view) &&
      view_converted(self, i, stream, state))
    return -1;
  state->is_viewed[i] = 1;
  state->packed[i] = &view->tensor;
  if (self->arguments[i].is_written && view->is_read_only) {
    PyObject *name = name_of(self);
    if (name)
      PyErr_Format(PyExc_ValueError,
                   "%S: argument '%U': expected an array that may be written, "
                   "got a read-only one",
                   name, self->arguments[i].name);
    Py_XDECREF(name);
    return -1;
  }
  return 0;
}

static int fail_scalar(const function *self, Py_ssize_t i,
                       const char *expected) {
  PyErr_Clear();
  PyObject *name = name_of(self);
  if (name)
    PyErr_Format(PyExc_TypeError, "%S: argument '%U': expected %s", name,
                 self->arguments[i].name, expected);
  Py_XDECREF(name);
  return -1;
}

static int read_scalar(const function *self, Py_ssize_t i, call_state *state) {
  PyObject *value = state->values[i];
  state->packed[i] = &state->scalars[i];
  if (self->arguments[i].kind == FLOAT) {
    double number = PyFloat_AsDouble(value);
    if (PyErr_Occurred())
      return fail_scalar(self, i, "a number");
    memcpy(&state->scalars[i], &number, sizeof number);
    return 0;
  }
  PyObject *whole = PyNumber_Index(value);
  long long number = whole ? PyLong_AsLongLong(whole) : 0;
  Py_XDECREF(whole);
  if (PyErr_Occurred())
    return fail_scalar(self, i, "an integer of 64 bits");
  state->scalars[i] = number;
  return 0;
}

/* ---- Results ------------------------------------------------------------- */

/* Extents that no array can have become 0: the call says what is wrong with the
 * arguments that they follow from. */
static void find_shape(const argument *result, const call_state *state,
                       int64_t *shape) {
  for (int d = 0; d < result->rank; ++d) {
    const extent_rule *rule = &result->extents[d];
    int64_t extent = rule->plus, of = 0;
    if (rule->argument >= 0) {
      const DLTensor *tensor = &state->views[rule->argument].tensor;
      if (rule->dim < tensor->ndim)
        of = tensor->shape[rule->dim];
      if (__builtin_mul_overflow(of, rule->times, &of) ||
          __builtin_add_overflow(of, rule->plus, &extent))
        extent = 0;
    }
    shape[d] = extent < 0 ? 0 : extent;
  }
}

/* The result in Python, for libraries whose exchange makes no arrays. */
static PyObject *make_in_python(const function *self, Py_ssize_t i,
                                const int64_t *extents,
                                const call_state *state) {
  int rank = self->arguments[i].rank;
  PyObject *shape = PyTuple_New(rank);
  for (int d = 0; shape && d < rank; ++d) {
    PyObject *number = PyLong_FromLongLong(extents[d]);
    if (!number || PyTuple_SetItem(shape, d, number))
      Py_CLEAR(shape);
  }
  if (!shape)
    return NULL;
  PyObject *made = PyObject_CallMethod(self->owner, "allocate", "nOO", i,
                                       state->values[state->first], shape);
  Py_DECREF(shape);
  return made;
}

/* Whether the extents of a result follow from arguments that are given. */
static int has_shape(const function *self, Py_ssize_t i,
                     const call_state *state) {
  const argument *result = &self->arguments[i];
  for (int d = 0; d < result->rank; ++d) {
    int64_t of = result->extents[d].argument;
    if (of < -1 || (of >= 0 && !state->is_viewed[of]))
      return 0;
  }
  return state->first >= 0;
}

static int allocate(const function *self, Py_ssize_t i, void *stream,
                    call_state *state) {
  const argument *result = &self->arguments[i];
  if (!result->is_result)
    return fail_binding(self, "%S: expected a value for argument '%U'",
                        result->name);
  if (!has_shape(self, i, state))
    return fail_binding(
        self,
        "%S: expected a value for argument '%U', a result whose "
        "extents do not follow from other arguments",
        result->name);
  int64_t shape[MAX_RANK];
  find_shape(result, state, shape);
  const array_view *like = &state->views[state->first];
  if (can_make_array(like)) {
    DLTensor described = {.device = like->tensor.device,
                          .ndim = result->rank,
                          .dtype = result->type,
                          .shape = shape};
    state->values[i] = make_array(like, &described);
  } else {
    state->values[i] = make_in_python(self, i, shape, state);
  }
  return state->values[i] ? view(self, i, stream, state) : -1;
}

static PyObject *results(const function *self, const call_state *state) {
  Py_ssize_t count = 0;
  PyObject *last = NULL;
  for (Py_ssize_t i = 0; i < self->count; ++i)
    if (self->arguments[i].is_result) {
      ++count;
      last = state->values[i];
    }
  if (count < 2) {
    PyObject *only = count ? last : Py_None;
    Py_INCREF(only);
    return only;
  }
  PyObject *all = PyTuple_New(count);
  Py_ssize_t next = 0;
  for (Py_ssize_t i = 0; all && i < self->count; ++i)
    if (self->arguments[i].is_result) {
      Py_INCREF(state->values[i]);
      if (PyTuple_SetItem(all, next++, state->values[i]))
        Py_CLEAR(all);
    }
  return all;
}

/* ---- The call ------------------------------------------------------------ */

static int raise_error(const function *self, int32_t code,
                       const call_state *state) {
  const char *message = self->error();
  PyObject *values = PyTuple_New(self->count);
  for (Py_ssize_t i = 0; values && i < self->count; ++i) {
    Py_INCREF(state->values[i]);
    if (PyTuple_SetItem(values, i, state->values[i]))
      Py_CLEAR(values);
  }
  PyObject *error =
      values ? PyObject_CallMethod(self->owner, "error", "isO", (int)code,
                                   message ? message : "", values)
             : NULL;
  Py_XDECREF(values);
  if (error)
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
  Py_XDECREF(error);
  return -1;
}

static int run_on_cpu(const function *self, call_state *state) {
  workspace *space = cpu_workspace();
  int32_t code;
  Py_BEGIN_ALLOW_THREADS code =
      self->call(state->packed, space->base, space->bytes, NULL);
  Py_END_ALLOW_THREADS
      /* Nothing has run if the workspace is too small. Its size is computed
       * only then: that takes as long as the checks of a call. */
      if (code == KV_ERROR_WORKSPACE) {
    int64_t bytes = self->size(state->packed);
    if (bytes > space->bytes) {
      if (grow_cpu_workspace(space, bytes)) {
        PyErr_NoMemory();
        return -1;
      }
      Py_BEGIN_ALLOW_THREADS code =
          self->call(state->packed, space->base, space->bytes, NULL);
      Py_END_ALLOW_THREADS
    }
  }
  return code ? raise_error(self, code, state) : 0;
}

/* Launches are short, and two threads that launch on one stream share its
 * workspace: the GIL is kept. */
static int run_on_gpu(const function *self, void *stream, int32_t device_id,
                      call_state *state) {
  workspace *space = gpu_workspace(device_id, stream);
  if (!space) {
    PyErr_NoMemory();
    return -1;
  }
  int32_t code = self->call(state->packed, space->base, space->bytes, stream);
  if (code == KV_ERROR_WORKSPACE) {
    int64_t bytes = self->size(state->packed);
    if (bytes > space->bytes) {
      PyObject *made = PyObject_CallMethod(self->owner, "workspace", "iL",
                                           (int)device_id, (long long)bytes);
      unsigned long long base;
      long long size;
      int isMade = made && PyArg_ParseTuple(made, "KL", &base, &size);
      Py_XDECREF(made);
      if (!isMade)
        return -1;
      /* Another thread may have made a larger one in the meantime. */
      space = gpu_workspace(device_id, stream);
      if (space->bytes < size)
        *space = (workspace){(void *)(uintptr_t)base, size};
      code = self->call(state->packed, space->base, space->bytes, stream);
    }
  }
  return code ? raise_error(self, code, state) : 0;
}

/* The current stream of the library of the arrays, preferably of one that says
 * so in C. It is known before arrays are viewed: libraries make what they have
 * yet to compute available to it. `waits` says whether the library does not
 * know the stream that it is: the call is over when it returns then. */
static int find_stream(const function *self, const call_state *state,
                       void **stream, int32_t *device_id, int *waits) {
  int32_t found = -1;
  PyObject *first = NULL;
  *device_id = 0;
  *stream = NULL;
  for (Py_ssize_t i = 0; i < self->count; ++i) {
    if (!state->values[i] || self->arguments[i].kind != TENSOR)
      continue;
    int isKnown = stream_of(state->values[i], device_id, stream);
    if (isKnown)
      return 0;
    if (found < 0 && *device_id >= 0) {
      found = *device_id;
      first = state->values[i];
    }
  }
  *device_id = found < 0 ? 0 : found;
  if (found < 0)
    return 0; /* the call says that no array is on a GPU */
  PyObject *known =
      PyObject_CallMethod(self->owner, "stream", "iO", (int)found, first);
  unsigned long long number = 0;
  int is_known = known && PyArg_ParseTuple(known, "Kp", &number, waits);
  Py_XDECREF(known);
  *stream = (void *)(uintptr_t)number;
  return is_known ? 0 : -1;
}

static int call(const function *self, PyObject *args, PyObject *keywords,
                call_state *state) {
  if (bind(self, args, keywords, state))
    return -1;
  void *stream = NULL;
  int32_t device_id = 0;
  int waits = 0;
  if (self->is_gpu && find_stream(self, state, &stream, &device_id, &waits))
    return -1;
  for (Py_ssize_t i = 0; i < self->count; ++i) {
    if (!state->values[i])
      continue;
    if (self->arguments[i].kind != TENSOR) {
      if (read_scalar(self, i, state))
        return -1;
      continue;
    }
    if (view(self, i, stream, state))
      return -1;
    if (state->first < 0)
      state->first = i;
  }
  for (Py_ssize_t i = 0; i < self->count; ++i)
    if (!state->values[i] && allocate(self, i, stream, state))
      return -1;
  if (!self->is_gpu)
    return run_on_cpu(self, state);
  if (run_on_gpu(self, stream, device_id, state))
    return -1;
  if (!waits)
    return 0;
  PyObject *none =
      PyObject_CallMethod(self->owner, "wait", "iK", (int)device_id,
                          (unsigned long long)(uintptr_t)stream);
  Py_XDECREF(none);
  return none ? 0 : -1;
}

static PyObject *call_function(PyObject *object, PyObject *args,
                               PyObject *keywords) {
  const function *self = (const function *)object;
  call_state state;
  state.first = -1;
  memset(state.values, 0, (size_t)self->count * sizeof *state.values);
  memset(state.is_viewed, 0, (size_t)self->count * sizeof *state.is_viewed);
  PyObject *result =
      call(self, args, keywords, &state) ? NULL : results(self, &state);
  for (Py_ssize_t i = 0; i < self->count; ++i) {
    if (state.is_viewed[i])
      release_array(&state.views[i]);
    Py_XDECREF(state.values[i]);
  }
  return result;
}

/* ---- The type ------------------------------------------------------------ */

static void free_function(PyObject *object) {
  function *self = (function *)object;
  PyTypeObject *type = Py_TYPE(object);
  for (Py_ssize_t i = 0; self->arguments && i < self->count; ++i) {
    Py_XDECREF(self->arguments[i].name);
    PyMem_Free(self->arguments[i].extents);
  }
  PyMem_Free(self->arguments);
  Py_XDECREF(self->owner);
  PyObject_Free(object);
  Py_DECREF(type);
}

/* (name, kind, is written, is result, code and bits of its elements, extents of
 * a result) */
static int read_argument(PyObject *described, argument *into) {
  PyObject *name, *extents;
  if (!PyArg_ParseTuple(described, "UippbbO!", &name, &into->kind,
                        &into->is_written, &into->is_result, &into->type.code,
                        &into->type.bits, &PyTuple_Type, &extents))
    return -1;
  Py_INCREF(name);
  into->name = name;
  into->type.lanes = 1;
  into->rank = (int)PyTuple_Size(extents);
  if (into->rank > MAX_RANK) {
    PyErr_Format(PyExc_ValueError, "expected at most %d dimensions, got %d",
                 MAX_RANK, into->rank);
    return -1;
  }
  into->extents = PyMem_Calloc((size_t)into->rank + 1, sizeof *into->extents);
  if (!into->extents) {
    PyErr_NoMemory();
    return -1;
  }
  for (int d = 0; d < into->rank; ++d) {
    long long of, dim, times, plus;
    if (!PyArg_ParseTuple(PyTuple_GetItem(extents, d), "LLLL", &of, &dim,
                          &times, &plus))
      return -1;
    into->extents[d] = (extent_rule){of, dim, times, plus};
  }
  return 0;
}

static PyObject *new_function(PyTypeObject *type, PyObject *args,
                              PyObject *keywords) {
  PyObject *owner, *arguments;
  unsigned long long call, size, error;
  int is_gpu;
  if (!PyArg_ParseTuple(args, "OKKKpO!", &owner, &call, &size, &error, &is_gpu,
                        &PyTuple_Type, &arguments))
    return NULL;
  Py_ssize_t count = PyTuple_Size(arguments);
  if (count > MAX_ARGUMENTS) {
    PyErr_Format(PyExc_ValueError, "expected at most %d arguments, got %zd",
                 MAX_ARGUMENTS, count);
    return NULL;
  }
  allocfunc make = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
  function *self = (function *)make(type, 0);
  if (!self)
    return NULL;
  Py_INCREF(owner);
  self->owner = owner;
  self->call = (packed_call *)(uintptr_t)call;
  self->size = (packed_size *)(uintptr_t)size;
  self->error = (last_error *)(uintptr_t)error;
  self->is_gpu = is_gpu;
  self->count = count;
  self->arguments = PyMem_Calloc((size_t)count + 1, sizeof *self->arguments);
  int status = self->arguments ? 0 : -1;
  for (Py_ssize_t i = 0; !status && i < count; ++i)
    status = read_argument(PyTuple_GetItem(arguments, i), &self->arguments[i]);
  if (status) {
    if (!PyErr_Occurred())
      PyErr_NoMemory();
    Py_DECREF(self);
    return NULL;
  }
  return (PyObject *)self;
}

static PyObject *repr(PyObject *object) {
  return PyObject_Str(((function *)object)->owner);
}

static PyObject *get_owned(PyObject *object, void *attribute) {
  return PyObject_GetAttrString(((function *)object)->owner, attribute);
}

static PyGetSetDef attributes[] = {
    {"__name__", get_owned, NULL, NULL, "name"},
    {"__doc__", get_owned, NULL, NULL, "doc"},
    {"__signature__", get_owned, NULL, NULL, "signature"},
    {"arguments", get_owned, NULL, NULL, "arguments"},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot slots[] = {
    {Py_tp_new, new_function},   {Py_tp_dealloc, free_function},
    {Py_tp_call, call_function}, {Py_tp_repr, repr},
    {Py_tp_getset, attributes},  {0, NULL}};
static PyType_Spec spec = {"kvcache._calls.Function", sizeof(function), 0,
                           Py_TPFLAGS_DEFAULT, slots};

int add_function_type(PyObject *module) {
  PyObject *type = PyType_FromSpec(&spec);
  if (!type || PyModule_AddObject(module, "Function", type)) {
    Py_XDECREF(type);
    return -1;
  }
  return 0;
}
