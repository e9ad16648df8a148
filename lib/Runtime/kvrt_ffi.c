/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * Calls in the convention of TVM-FFI.
 */

#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "kvrt.h"
#include "kvrt_arithmetic.h"

#include <dlfcn.h>
#include <string.h>

/* The binary layout of that convention. Its library is not linked: the two
 * functions are found in the process that makes the call. */
typedef struct {
  int32_t type_index;
  int32_t padding;
  union {
    int64_t v_int64;
    double v_float64;
    void *v_ptr;
  } value;
} ffi_any;

enum {
  FFI_NONE = 0,
  FFI_INT = 1,
  FFI_BOOL = 2,
  FFI_FLOAT = 3,
  FFI_DLTENSOR = 7,
  FFI_TENSOR_OBJECT = 70,
  FFI_OBJECT_HEADER = 24,
  MAX_WORKSPACE_DIMS = 64
};

typedef void ffi_set_raised(const char *kind, const char *text);
typedef void *ffi_get_stream(int32_t device_type, int32_t device_id);

/* Looked up when it is needed: a weak reference would stay null in a library
 * that was loaded before that of TVM-FFI. */
static void *ffi_function(_Atomic(void *) *known, const char *name) {
  void *function = atomic_load_explicit(known, memory_order_relaxed);
  if (!function) {
    function = dlsym(RTLD_DEFAULT, name);
    atomic_store_explicit(known, function, memory_order_relaxed);
  }
  return function;
}

static int32_t ffi_raise(void) {
  const char *kind = "ValueError";
  if (kvrt_current()->status == KV_ERROR_TYPE ||
      kvrt_current()->status == KV_ERROR_ARGUMENTS)
    kind = "TypeError";
  if (kvrt_current()->status == KV_ERROR_CUDA ||
      kvrt_current()->status == KV_ERROR_CPU)
    kind = "RuntimeError";
  static _Atomic(void *) known;
  ffi_set_raised *set_raised =
      (ffi_set_raised *)ffi_function(&known, "TVMFFIErrorSetRaisedFromCStr");
  if (set_raised)
    set_raised(kind, kvrt_last_error());
  return -1;
}

static int is_tensor(const ffi_any *any) {
  return any->type_index == FFI_DLTENSOR ||
         any->type_index == FFI_TENSOR_OBJECT;
}

/* Null where the value is no tensor, or a null one. */
static void *ffi_tensor(const ffi_any *any) {
  char *pointer = is_tensor(any) ? any->value.v_ptr : NULL;
  if (pointer && any->type_index == FFI_TENSOR_OBJECT)
    pointer += FFI_OBJECT_HEADER;
  return pointer;
}

static int32_t ffi_argument(const kvrt_arg *arg, const ffi_any *any,
                            void **slot, int64_t *scalar) {
  *slot = scalar;
  switch (arg->kind) {
  case KVRT_TENSOR:
    *slot = ffi_tensor(any);
    if (is_tensor(any) && !*slot)
      return kvrt_fail(KV_ERROR_NULL,
                       "argument '%s': expected a tensor, got a null pointer",
                       arg->name);
    if (!*slot)
      return kvrt_fail(KV_ERROR_ARGUMENTS,
                       "argument '%s': expected a tensor, got a value of type "
                       "index %d",
                       arg->name, any->type_index);
    return KV_OK;
  case KVRT_INT:
    if (any->type_index != FFI_INT && any->type_index != FFI_BOOL)
      return kvrt_fail(KV_ERROR_ARGUMENTS,
                       "argument '%s': expected an integer, got a value of "
                       "type index %d",
                       arg->name, any->type_index);
    *scalar = any->value.v_int64;
    return KV_OK;
  default: {
    double number = any->type_index == FFI_FLOAT ? any->value.v_float64
                                                 : (double)any->value.v_int64;
    if (any->type_index != FFI_FLOAT && any->type_index != FFI_INT)
      return kvrt_fail(KV_ERROR_ARGUMENTS,
                       "argument '%s': expected a number, got a value of type "
                       "index %d",
                       arg->name, any->type_index);
    memcpy(scalar, &number, sizeof number);
    return KV_OK;
  }
  }
}

static int32_t no_size(void) {
  return kvrt_fail(KV_ERROR_SHAPE, "workspace: expected a tensor whose size in "
                                   "bytes fits in 63 bits, got more");
}

/* Frameworks align less than a workspace needs: it begins at the first address
 * in the tensor that is aligned. */
static void set_workspace(char *start, int64_t size, void **workspace,
                          int64_t *bytes) {
  int64_t skipped = -(uintptr_t)start % KVRT_WORKSPACE_ALIGN;
  *bytes = start && skipped < size ? size - skipped : 0;
  *workspace = start ? start + (*bytes ? skipped : 0) : NULL;
}

/* Any tensor without gaps will do. */
static int32_t ffi_workspace(const ffi_any *any, const DLTensor *on_device,
                             void **workspace, int64_t *bytes) {
  const DLTensor *tensor = ffi_tensor(any);
  if (is_tensor(any) && !tensor)
    return kvrt_fail(KV_ERROR_NULL,
                     "workspace: expected a tensor, got a null pointer");
  if (!tensor)
    return kvrt_fail(KV_ERROR_ARGUMENTS,
                     "workspace: expected a tensor, got a value of type index "
                     "%d",
                     any->type_index);
  if (!kvrt_device_agrees(on_device ? kDLCUDA : kDLCPU,
                          tensor->device.device_type) ||
      (on_device && tensor->device.device_id != on_device->device.device_id))
    return kvrt_fail(KV_ERROR_DEVICE,
                     "workspace: expected memory where the arguments are, got "
                     "device type %d, device %d",
                     tensor->device.device_type, tensor->device.device_id);
  if (tensor->ndim < 0 || tensor->ndim > MAX_WORKSPACE_DIMS)
    return kvrt_fail(KV_ERROR_SHAPE,
                     "workspace: expected at most %d dimensions, got %d",
                     MAX_WORKSPACE_DIMS, tensor->ndim);
  if (tensor->ndim && !tensor->shape)
    return kvrt_fail(KV_ERROR_NULL,
                     "workspace: expected a shape, got a null pointer");
  int64_t elements = 1; /* up to here, from the fastest dimension */
  for (int32_t d = tensor->ndim - 1; d >= 0; --d) {
    if (tensor->shape[d] < 0)
      return kvrt_fail(
          KV_ERROR_SHAPE,
          "workspace: expected nonnegative extents, got %lld in dimension %d",
          (long long)tensor->shape[d], d);
    if (tensor->strides && tensor->shape[d] > 1 &&
        tensor->strides[d] != elements)
      return kvrt_fail(KV_ERROR_STRIDE,
                       "workspace: expected a tensor without gaps, got a "
                       "stride of %lld in dimension %d",
                       (long long)tensor->strides[d], d);
    if (!kvrt_mul(elements, tensor->shape[d], &elements))
      return no_size();
  }
  int64_t bits = (int64_t)tensor->dtype.bits * tensor->dtype.lanes;
  uintptr_t end;
  if (!kvrt_mul(elements, bits, &bits) ||
      __builtin_add_overflow((uintptr_t)tensor->data, tensor->byte_offset,
                             &end) ||
      __builtin_add_overflow(end, (uintptr_t)(bits / 8), &end))
    return no_size();
  char *start =
      tensor->data ? (char *)tensor->data + tensor->byte_offset : NULL;
  set_workspace(start, bits / 8, workspace, bytes);
  return KV_OK;
}

/* The current stream for the device of a tensor that is checked later: what is
 * no device is not asked for. */
static void *ffi_stream(const DLTensor *on_device) {
  static _Atomic(void *) known;
  DLDevice device = on_device->device;
  if (!kvrt_device_agrees(kDLCUDA, device.device_type) ||
      device.device_id < 0 || device.device_id >= KVRT_MAX_DEVICES)
    return NULL;
  ffi_get_stream *get_stream =
      (ffi_get_stream *)ffi_function(&known, "TVMFFIEnvGetStream");
  return get_stream ? get_stream(device.device_type, device.device_id) : NULL;
}

int32_t kvrt_call_tvm_ffi(const kvrt_function *function, const void *values,
                          int32_t num_values, void *result) {
  const ffi_any *any = values;
  void *args[KVRT_MAX_ARGUMENTS];
  int64_t scalars[KVRT_MAX_ARGUMENTS];
  int32_t count = function->num_args;
  kvrt_begin(function);
  if (result)
    memset(result, 0, sizeof(ffi_any)); /* none */
  if (count > KVRT_MAX_ARGUMENTS ||
      (num_values != count && num_values != count + 1)) {
    kvrt_fail(KV_ERROR_ARGUMENTS,
              "expected %d arguments, and a workspace tensor after them where "
              "one is needed, got %d",
              count, num_values);
    return ffi_raise();
  }
  if (num_values && !any) {
    kvrt_fail(KV_ERROR_NULL, "expected arguments, got a null pointer");
    return ffi_raise();
  }
  const DLTensor *on_device = NULL;
  for (int32_t i = 0; i < count; ++i) {
    const kvrt_arg *arg = &function->args[i];
    if (ffi_argument(arg, &any[i], &args[i], &scalars[i]))
      return ffi_raise();
    if (arg->kind == KVRT_TENSOR && arg->device == kDLCUDA && !on_device)
      on_device = args[i];
  }
  void *workspace = NULL;
  int64_t workspace_bytes = 0;
  if (num_values == count + 1 && any[count].type_index != FFI_NONE &&
      ffi_workspace(&any[count], on_device, &workspace, &workspace_bytes))
    return ffi_raise();
  void *stream = on_device ? ffi_stream(on_device) : NULL;
  if (kvrt_call(function, args, workspace, workspace_bytes, stream))
    return ffi_raise();
  return 0;
}
