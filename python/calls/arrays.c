/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception */

#include "calls.h"

/* The structs of DLPack 1.x beyond DLTensor. */
typedef struct {
  uint32_t major, minor;
} dlpack_version;

typedef struct managed_tensor {
  DLTensor tensor;
  void *context;
  void (*deleter)(struct managed_tensor *);
} managed_tensor;

typedef struct versioned_tensor {
  dlpack_version version;
  void *context;
  void (*deleter)(struct versioned_tensor *);
  uint64_t flags;
  DLTensor tensor;
} versioned_tensor;

enum { FLAG_READ_ONLY = 1 };

typedef struct exchange_api {
  dlpack_version version;
  const struct exchange_api *previous;
  int (*allocate)(DLTensor *like, versioned_tensor **out, void *context,
                  void (*set_error)(void *context, const char *kind,
                                    const char *message));
  int (*export_managed)(void *array, versioned_tensor **out);
  int (*import_managed)(versioned_tensor *tensor, void **out);
  int (*view)(void *array, DLTensor *out);
  int (*current_stream)(int32_t device_type, int32_t device_id, void **out);
} exchange_api;

/* ---- The exchange in C --------------------------------------------------- */

/* The types of arrays seen last, and their exchange, null if they have none. A
 * type is kept, so that no other one gets its address. */
enum { KNOWN_TYPES = 8 };
static struct {
  PyTypeObject *type;
  const exchange_api *api;
} known_types[KNOWN_TYPES];
static unsigned next_known;

static const exchange_api *read_api(PyTypeObject *type) {
  PyObject *capsule =
      PyObject_GetAttrString((PyObject *)type, "__dlpack_c_exchange_api__");
  const exchange_api *api = NULL;
  if (capsule)
    api = PyCapsule_GetPointer(capsule, "dlpack_exchange_api");
  Py_XDECREF(capsule);
  PyErr_Clear();
  while (api && api->version.major != 1)
    api = api->previous;
  return api && api->view ? api : NULL;
}

static const exchange_api *api_of(PyObject *array) {
  PyTypeObject *type = Py_TYPE(array);
  for (unsigned i = 0; i < KNOWN_TYPES; ++i)
    if (known_types[i].type == type)
      return known_types[i].api;
  const exchange_api *api = read_api(type);
  Py_INCREF(type);
  Py_XDECREF(known_types[next_known].type);
  known_types[next_known].type = type;
  known_types[next_known].api = api;
  next_known = (next_known + 1) % KNOWN_TYPES;
  return api;
}

static void set_error(void *context, const char *kind, const char *message) {
  PyErr_Format(PyExc_RuntimeError, "%s: %s", kind, message);
}

int can_make_array(const array_view *like) {
  const exchange_api *api = like->api;
  return api && api->allocate && api->import_managed;
}

PyObject *make_array(const array_view *like, DLTensor *described) {
  const exchange_api *api = like->api;
  versioned_tensor *made = NULL;
  void *array = NULL;
  if (!api->allocate(described, &made, NULL, set_error) &&
      !api->import_managed(made, &array))
    return array;
  if (!PyErr_Occurred())
    PyErr_NoMemory();
  return NULL;
}

/* ---- The method __dlpack__ ----------------------------------------------- */

static PyObject *call_dlpack(PyObject *method, int is_versioned, int on_gpu,
                             void *stream) {
  PyObject *none = PyTuple_New(0), *options = PyDict_New(), *result = NULL;
  /* 0 is ambiguous in DLPack: the default stream is 1. */
  uintptr_t number = stream ? (uintptr_t)stream : 1;
  PyObject *value = on_gpu ? PyLong_FromSize_t(number) : NULL;
  PyObject *version = is_versioned ? Py_BuildValue("(ii)", 1, 0) : NULL;
  if (none && options && (!on_gpu || value) && (!is_versioned || version) &&
      (!value || !PyDict_SetItemString(options, "stream", value)) &&
      (!version || !PyDict_SetItemString(options, "max_version", version)))
    result = PyObject_Call(method, none, options);
  Py_XDECREF(none);
  Py_XDECREF(options);
  Py_XDECREF(value);
  Py_XDECREF(version);
  return result;
}

static int is_gpu(int64_t device_type) {
  return device_type == kDLCUDA || device_type == kDLCUDAManaged;
}

/* Of an array that has no exchange in C; -1 if it is not in GPU memory. */
static int32_t device_of(PyObject *array) {
  long type = kDLCPU, number = -1;
  PyObject *device = PyObject_CallMethod(array, "__dlpack_device__", NULL);
  PyObject *pair = device ? PySequence_Tuple(device) : NULL;
  if (pair && PyArg_ParseTuple(pair, "ll", &type, &number) &&
      (number < 0 || number > INT32_MAX))
    number = -1;
  Py_XDECREF(device);
  Py_XDECREF(pair);
  PyErr_Clear(); /* __dlpack__ says what is wrong */
  return is_gpu(type) ? (int32_t)number : -1;
}

int stream_of(PyObject *array, int32_t *device_id, void **stream) {
  const exchange_api *api = api_of(array);
  *device_id = -1;
  *stream = NULL;
  if (!api) {
    *device_id = device_of(array);
    return 0;
  }
  DLTensor tensor;
  if (api->view(array, &tensor)) {
    PyErr_Clear(); /* view_array says so again */
    return 0;
  }
  DLDevice device = tensor.device;
  if (!is_gpu(device.device_type))
    return 0;
  *device_id = device.device_id;
  return api->current_stream &&
         !api->current_stream(device.device_type, device.device_id, stream);
}

int view_array(PyObject *array, void *stream, array_view *view) {
  view->capsule = NULL;
  view->is_read_only = 0;
  const exchange_api *api = api_of(array);
  view->api = api;
  if (api) {
    if (!api->view(array, &view->tensor))
      return 0;
    if (!PyErr_Occurred())
      PyErr_SetString(PyExc_BufferError, "the array cannot be exported");
    return -1;
  }
  PyObject *method = PyObject_GetAttrString(array, "__dlpack__");
  if (!method)
    return -1;
  int on_gpu = device_of(array) >= 0;
  PyObject *capsule = call_dlpack(method, 1, on_gpu, stream);
  if (!capsule && PyErr_ExceptionMatches(PyExc_TypeError)) {
    PyErr_Clear(); /* of a library before DLPack 1.0 */
    capsule = call_dlpack(method, 0, on_gpu, stream);
  }
  Py_DECREF(method);
  if (!capsule)
    return -1;
  if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
    versioned_tensor *managed =
        PyCapsule_GetPointer(capsule, "dltensor_versioned");
    if (managed->version.major != 1) {
      PyErr_SetString(PyExc_BufferError, "expected DLPack 1, got another one");
      Py_DECREF(capsule);
      return -1;
    }
    view->tensor = managed->tensor;
    view->is_read_only = (managed->flags & FLAG_READ_ONLY) != 0;
  } else {
    managed_tensor *managed = PyCapsule_GetPointer(capsule, "dltensor");
    if (!managed) {
      Py_DECREF(capsule);
      return -1;
    }
    view->tensor = managed->tensor;
  }
  /* Not renamed, so that it deletes what it contains when it is released. */
  view->capsule = capsule;
  return 0;
}

void release_array(array_view *view) { Py_CLEAR(view->capsule); }
