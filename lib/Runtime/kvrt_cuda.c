/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * The CUDA part: the driver is opened with dlopen when first needed. Images are
 * loaded as libraries, which belong to no context: one kernel handle serves
 * every context and device of the process.
 */

#include "kvrt.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef int32_t cu_result;
typedef int32_t cu_device;

/* The functions of the driver that are used, with their exported names. */
#define DRIVER_FUNCTIONS(X)                                                    \
  X(cu_result, cuInit, (unsigned flags))                                       \
  X(cu_result, cuGetErrorString, (cu_result error, const char **text))         \
  X(cu_result, cuDriverGetVersion, (int *version))                             \
  X(cu_result, cuCtxGetCurrent, (void **context))                              \
  X(cu_result, cuCtxGetDevice, (cu_device * device))                           \
  X(cu_result, cuCtxPushCurrent_v2, (void *context))                           \
  X(cu_result, cuCtxPopCurrent_v2, (void **context))                           \
  X(cu_result, cuDevicePrimaryCtxRetain, (void **context, cu_device device))   \
  X(cu_result, cuThreadExchangeStreamCaptureMode, (int32_t *mode))             \
  X(cu_result, cuLibraryLoadData,                                              \
    (void **library, const void *code, int32_t *jit_options,                   \
     void **jit_values, unsigned jit_count, int32_t *library_options,          \
     void **library_values, unsigned library_count))                           \
  X(cu_result, cuLibraryGetKernel,                                             \
    (void **kernel, void *library, const char *name))                          \
  X(cu_result, cuKernelGetFunction, (void **function, void *kernel))           \
  X(cu_result, cuLaunchKernel,                                                 \
    (void *kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z,          \
     unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,    \
     void *stream, void **parameters, void **extra))

typedef struct {
  int32_t type, id;
} cu_location;

typedef struct {
  int32_t source_order; /* 1: that of the stream */
  cu_location source, target;
  uint32_t flags;
} cu_copy_attributes;

typedef struct {
  int32_t id;
  union {
    int32_t number;
    uint64_t room[8];
  } value;
} cu_launch_attribute;

typedef struct {
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared;
  void *stream;
  cu_launch_attribute *attributes;
  unsigned num_attributes;
} cu_launch;

/* What only some calls need, or only newer drivers have. */
#define OPTIONAL_FUNCTIONS(X)                                                  \
  X(cu_result, cuMemcpyAsync,                                                  \
    (uint64_t to, uint64_t from, size_t bytes, void *stream))                  \
  X(cu_result, cuMemcpyBatchAsync,                                             \
    (uint64_t *to, uint64_t *from, size_t *bytes, size_t count,                \
     cu_copy_attributes *attributes, size_t *first, size_t num_attributes,     \
     size_t *failed, void *stream))                                            \
  X(cu_result, cuMemcpyBatchAsync_v2,                                          \
    (uint64_t *to, uint64_t *from, size_t *bytes, size_t count,                \
     cu_copy_attributes *attributes, size_t *first, size_t num_attributes,     \
     void *stream))                                                            \
  X(cu_result, cuStreamIsCapturing, (void *stream, int32_t *status))           \
  X(cu_result, cuStreamSynchronize, (void *stream))                            \
  X(cu_result, cuMemHostAlloc, (void **memory, size_t bytes, unsigned flags))  \
  X(cu_result, cuKernelSetAttribute,                                           \
    (int32_t attribute, int32_t value, void *kernel, cu_device device))        \
  X(cu_result, cuLaunchCooperativeKernel,                                      \
    (void *kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z,          \
     unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,    \
     void *stream, void **parameters))                                         \
  X(cu_result, cuLaunchKernelEx,                                               \
    (const cu_launch *launch, void *kernel, void **parameters, void **extra))  \
  X(cu_result, cuDeviceGetAttribute,                                           \
    (int32_t *value, int32_t attribute, cu_device device))                     \
  X(cu_result, cuTensorMapEncodeTiled,                                         \
    (void *map, int32_t type, uint32_t rank, void *address,                    \
     const uint64_t *extents, const uint64_t *strides, const uint32_t *box,    \
     const uint32_t *steps, int32_t interleave, int32_t swizzle,               \
     int32_t promotion, int32_t fill))

#define DECLARE(result, name, parameters) result(*name) parameters;
static struct {
  DRIVER_FUNCTIONS(DECLARE)
  OPTIONAL_FUNCTIONS(DECLARE)
} driver;
#undef DECLARE

/* Guards the loading of the driver, of images and of primary contexts. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_int driver_ready;

enum { FIRST_DRIVER_WITH_LIBRARIES = 12000 };
/* Attributes of kernels and devices. */
enum {
  DEFAULT_SHARED_BYTES = 48 << 10,
  MAX_SHARED_BYTES = 8,
  MULTIPROCESSORS = 16
};
/* The attribute of a launch that may begin while the kernel before it ends. */
enum { BEGINS_EARLY = 6 };
static _Atomic(void *) primary_contexts[KVRT_MAX_DEVICES];

static int32_t check(cu_result result, const char *what, const char *object) {
  if (!result)
    return KV_OK;
  const char *text = NULL;
  if (driver.cuGetErrorString)
    driver.cuGetErrorString(result, &text);
  return kvrt_fail(KV_ERROR_CUDA, "%s%s%s%s: the driver reports %s (error %d)",
                   what, object ? " '" : "", object ? object : "",
                   object ? "'" : "", text ? text : "an unknown error", result);
}

/* With the lock held. */
static int32_t load_driver(void) {
  void *handle = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!handle)
    return kvrt_fail(KV_ERROR_CUDA, "compiled for a GPU, but no CUDA driver "
                                    "was found: libcuda.so.1 cannot be loaded");
#define LOAD(result, name, parameters)                                         \
  *(void **)&driver.name = dlsym(handle, #name);                               \
  if (!driver.name)                                                            \
    return kvrt_fail(KV_ERROR_CUDA, "the CUDA driver has no " #name            \
                                    "; version 12.0 or newer is needed");
  DRIVER_FUNCTIONS(LOAD)
#undef LOAD
#define FIND(result, name, parameters)                                         \
  *(void **)&driver.name = dlsym(handle, #name);
  OPTIONAL_FUNCTIONS(FIND)
#undef FIND
  int32_t status = check(driver.cuInit(0), "cuInit", NULL);
  int version = 0;
  if (!status)
    status =
        check(driver.cuDriverGetVersion(&version), "cuDriverGetVersion", NULL);
  if (!status && version < FIRST_DRIVER_WITH_LIBRARIES)
    status = kvrt_fail(KV_ERROR_CUDA,
                       "expected a CUDA driver of version 12.0 "
                       "or newer, got %d.%d",
                       version / 1000, version % 1000 / 10);
  return status;
}

static int32_t need_driver(void) {
  if (atomic_load_explicit(&driver_ready, memory_order_acquire))
    return KV_OK;
  pthread_mutex_lock(&lock);
  int32_t status = KV_OK;
  if (!atomic_load_explicit(&driver_ready, memory_order_relaxed)) {
    status = load_driver();
    if (!status)
      atomic_store_explicit(&driver_ready, 1, memory_order_release);
  }
  pthread_mutex_unlock(&lock);
  return status;
}

int32_t kvrt_cuda_enter(int32_t device_id, int32_t *pushed) {
  *pushed = 0;
  int32_t status = need_driver();
  if (status)
    return status;
  void *current = NULL;
  cu_device device = -1;
  driver.cuCtxGetCurrent(&current);
  if (current && !driver.cuCtxGetDevice(&device) && device == device_id)
    return KV_OK;
  void *primary =
      atomic_load_explicit(&primary_contexts[device_id], memory_order_acquire);
  if (!primary) {
    pthread_mutex_lock(&lock);
    primary = atomic_load_explicit(&primary_contexts[device_id],
                                   memory_order_relaxed);
    if (!primary) {
      status = check(driver.cuDevicePrimaryCtxRetain(&primary, device_id),
                     "cuDevicePrimaryCtxRetain", NULL);
      if (!status)
        atomic_store_explicit(&primary_contexts[device_id], primary,
                              memory_order_release);
    }
    pthread_mutex_unlock(&lock);
    if (status)
      return status;
  }
  status = check(driver.cuCtxPushCurrent_v2(primary), "cuCtxPushCurrent", NULL);
  *pushed = !status;
  return status;
}

void kvrt_cuda_leave(int32_t pushed) {
  void *ignored;
  if (pushed)
    driver.cuCtxPopCurrent_v2(&ignored);
}

/* With the lock held. Loading is not allowed in a stream capture of the usual
 * mode, which concerns the calling thread: relax it for the while. */
static int32_t load_kernel(kvrt_kernel *kernel) {
  int32_t mode = 2; /* relaxed */
  driver.cuThreadExchangeStreamCaptureMode(&mode);
  kvrt_image *image = kernel->image;
  void *library = atomic_load_explicit(&image->library, memory_order_relaxed);
  int32_t status = KV_OK;
  if (!library) {
    status = check(driver.cuLibraryLoadData(&library, image->bytes, NULL, NULL,
                                            0, NULL, NULL, 0),
                   "loading the kernels for", kernel->name);
    if (!status)
      atomic_store_explicit(&image->library, library, memory_order_relaxed);
  }
  void *handle = NULL, *function = NULL;
  if (!status)
    status = check(driver.cuLibraryGetKernel(&handle, library, kernel->name),
                   "finding kernel", kernel->name);
  /* Brings the code to the current device now, not in the launch. */
  if (!status)
    status = check(driver.cuKernelGetFunction(&function, handle),
                   "loading kernel", kernel->name);
  if (!status)
    atomic_store_explicit(&kernel->handle, handle, memory_order_release);
  driver.cuThreadExchangeStreamCaptureMode(&mode);
  return status;
}

/* A kernel that takes more shared memory than usual has to say so once for each
 * device. */
static int32_t allow_shared(kvrt_kernel *kernel, void *handle,
                            int32_t device_id, int32_t bytes) {
  uint64_t bit = UINT64_C(1) << device_id;
  if (atomic_load_explicit(&kernel->devices, memory_order_acquire) & bit)
    return KV_OK;
  if (!driver.cuKernelSetAttribute)
    return kvrt_fail(KV_ERROR_CUDA,
                     "kernel '%s': the CUDA driver has no cuKernelSetAttribute",
                     kernel->name);
  int32_t status = check(
      driver.cuKernelSetAttribute(MAX_SHARED_BYTES, bytes, handle, device_id),
      "shared memory for kernel", kernel->name);
  if (!status)
    atomic_fetch_or_explicit(&kernel->devices, bit, memory_order_release);
  return status;
}

void kvrt_launch(kvrt_kernel *kernel, int64_t grid_x, int64_t grid_y,
                 int64_t grid_z, int32_t block_x, int32_t block_y,
                 int32_t block_z, int32_t shared_bytes, int32_t mode,
                 void **parameters) {
  kvrt_context *context = kvrt_current();
  if (context->status)
    return;
  if (context->device_id < 0) {
    kvrt_fail(KV_ERROR_DEVICE,
              "kernel '%s': expected a tensor on a GPU among "
              "the arguments, got none",
              kernel->name);
    return;
  }
  if (grid_x < 0 || grid_y < 0 || grid_z < 0 || grid_x > INT32_MAX ||
      grid_y > 65535 || grid_z > 65535) {
    kvrt_fail(KV_ERROR_SHAPE,
              "kernel '%s': expected a grid of at most 2147483647 x 65535 x "
              "65535 blocks, got %lld x %lld x %lld",
              kernel->name, (long long)grid_x, (long long)grid_y,
              (long long)grid_z);
    return;
  }
  void *handle = atomic_load_explicit(&kernel->handle, memory_order_acquire);
  if (!handle) {
    pthread_mutex_lock(&lock);
    int32_t status = KV_OK;
    if (!atomic_load_explicit(&kernel->handle, memory_order_relaxed))
      status = load_kernel(kernel);
    pthread_mutex_unlock(&lock);
    if (status)
      return;
    handle = atomic_load_explicit(&kernel->handle, memory_order_acquire);
  }
  if (shared_bytes > DEFAULT_SHARED_BYTES &&
      allow_shared(kernel, handle, context->device_id, shared_bytes))
    return;
  /* Only after a kernel of this call: of others, it is not known whether what
   * they wait for is over when they are. */
  int32_t follows = context->ends_with_kernel;
  context->ends_with_kernel = 1;
  if (mode == KVRT_LAUNCH_OVERLAPPING && follows && driver.cuLaunchKernelEx) {
    cu_launch_attribute attribute = {.id = BEGINS_EARLY, .value.number = 1};
    cu_launch launch = {(unsigned)grid_x,
                        (unsigned)grid_y,
                        (unsigned)grid_z,
                        (unsigned)block_x,
                        (unsigned)block_y,
                        (unsigned)block_z,
                        (unsigned)shared_bytes,
                        context->stream,
                        &attribute,
                        1};
    check(driver.cuLaunchKernelEx(&launch, handle, parameters, NULL),
          "launching kernel", kernel->name);
    return;
  }
  if (mode == KVRT_LAUNCH_COOPERATIVE) {
    if (!driver.cuLaunchCooperativeKernel) {
      kvrt_fail(KV_ERROR_CUDA,
                "kernel '%s': the CUDA driver has no "
                "cuLaunchCooperativeKernel",
                kernel->name);
      return;
    }
    check(driver.cuLaunchCooperativeKernel(
              handle, (unsigned)grid_x, (unsigned)grid_y, (unsigned)grid_z,
              (unsigned)block_x, (unsigned)block_y, (unsigned)block_z,
              (unsigned)shared_bytes, context->stream, parameters),
          "launching kernel", kernel->name);
    return;
  }
  check(driver.cuLaunchKernel(
            handle, (unsigned)grid_x, (unsigned)grid_y, (unsigned)grid_z,
            (unsigned)block_x, (unsigned)block_y, (unsigned)block_z,
            (unsigned)shared_bytes, context->stream, parameters, NULL),
        "launching kernel", kernel->name);
}

/* Whether a list of copies can be given to the driver at once: it does not take
 * the default streams, nor those that are captured. */
static int takes_lists(void *stream) {
  int32_t capturing = 0;
  if (!driver.cuMemcpyBatchAsync_v2 && !driver.cuMemcpyBatchAsync)
    return 0;
  if ((uintptr_t)stream <= 2)
    return 0;
  return driver.cuStreamIsCapturing &&
         !driver.cuStreamIsCapturing(stream, &capturing) && !capturing;
}

int32_t kvrt_cuda_copy(uint64_t *to, uint64_t *from, size_t *bytes,
                       size_t count) {
  kvrt_context *context = kvrt_current();
  const char *what = "transfer by the copy engine";
  context->ends_with_kernel = 0;
  if (context->device_id < 0)
    return kvrt_fail(KV_ERROR_DEVICE,
                     "%s: expected a tensor on a GPU among the arguments, got "
                     "none",
                     what);
  if (count > 1 && takes_lists(context->stream)) {
    cu_copy_attributes attributes = {.source_order = 1};
    size_t first = 0, failed = 0;
    if (driver.cuMemcpyBatchAsync_v2)
      return check(driver.cuMemcpyBatchAsync_v2(to, from, bytes, count,
                                                &attributes, &first, 1,
                                                context->stream),
                   what, NULL);
    return check(driver.cuMemcpyBatchAsync(to, from, bytes, count, &attributes,
                                           &first, 1, &failed, context->stream),
                 what, NULL);
  }
  if (!driver.cuMemcpyAsync)
    return kvrt_fail(KV_ERROR_CUDA, "%s: the CUDA driver has no cuMemcpyAsync",
                     what);
  int32_t status = KV_OK;
  for (size_t i = 0; i < count && !status; ++i)
    status =
        check(driver.cuMemcpyAsync(to[i], from[i], bytes[i], context->stream),
              what, NULL);
  return status;
}

void *kvrt_cuda_pinned(size_t bytes) {
  if (!driver.cuMemHostAlloc) {
    kvrt_fail(KV_ERROR_CUDA, "the CUDA driver has no cuMemHostAlloc");
    return NULL;
  }
  enum { OF_ALL_CONTEXTS = 1, MAPPED = 2 };
  void *memory = NULL;
  int32_t mode = 2; /* as for the loading of kernels */
  driver.cuThreadExchangeStreamCaptureMode(&mode);
  int32_t status =
      check(driver.cuMemHostAlloc(&memory, bytes, OF_ALL_CONTEXTS | MAPPED),
            "pinned memory for the reports of checks", NULL);
  driver.cuThreadExchangeStreamCaptureMode(&mode);
  if (status)
    return NULL;
  memset(memory, 0, bytes);
  return memory;
}

int32_t kvrt_cuda_synchronize(int32_t device_id, void *stream) {
  void *current = NULL;
  int32_t pushed = 0;
  if (!driver.cuStreamSynchronize)
    return kvrt_fail(KV_ERROR_CUDA,
                     "the CUDA driver has no cuStreamSynchronize");
  if (check(driver.cuCtxGetCurrent(&current), "cuCtxGetCurrent", NULL) ||
      (!current && kvrt_cuda_enter(device_id, &pushed)))
    return kvrt_current()->status;
  check(driver.cuStreamSynchronize(stream), "waiting for the stream", NULL);
  kvrt_cuda_leave(pushed);
  return kvrt_current()->status;
}

int64_t kvrt_multiprocessors(int64_t least, int64_t text) {
  kvrt_context *context = kvrt_current();
  static _Atomic(int32_t) known[KVRT_MAX_DEVICES];
  if (context->status || context->device_id < 0)
    return least; /* a launch says what is wrong */
  int32_t count =
      atomic_load_explicit(&known[context->device_id], memory_order_relaxed);
  if (!count) {
    if (!driver.cuDeviceGetAttribute) {
      kvrt_fail(KV_ERROR_CUDA, "the CUDA driver has no cuDeviceGetAttribute");
      return least;
    }
    if (check(driver.cuDeviceGetAttribute(&count, MULTIPROCESSORS,
                                          context->device_id),
              "cuDeviceGetAttribute", NULL))
      return least;
    atomic_store_explicit(&known[context->device_id], count,
                          memory_order_relaxed);
  }
  if (count < least)
    kvrt_fail(
        KV_ERROR_DEVICE,
        "%s: expected a device with at least %lld multiprocessors, got %d",
        (const char *)(uintptr_t)text, (long long)least, count);
  return count < least ? least : count;
}

void kvrt_tensor_map(void *map, int64_t address, const kvrt_map_shape *shape,
                     int64_t text) {
  kvrt_context *context = kvrt_current();
  if (context->status || context->device_id < 0)
    return;
  if (!driver.cuTensorMapEncodeTiled) {
    kvrt_fail(KV_ERROR_CUDA, "the CUDA driver has no cuTensorMapEncodeTiled");
    return;
  }
  uint64_t extents[KVRT_MAP_MAX_RANK], strides[KVRT_MAP_MAX_RANK];
  uint32_t box[KVRT_MAP_MAX_RANK], steps[KVRT_MAP_MAX_RANK];
  for (int64_t i = 0; i < shape->rank; ++i) {
    extents[i] = (uint64_t)(shape->extents[i] > 0 ? shape->extents[i] : 1);
    strides[i] = (uint64_t)shape->strides[i];
    box[i] = (uint32_t)shape->box[i];
    steps[i] = 1;
  }
  /* 0: none, 1 to 3: of 32, 64 and 128 bytes */
  int32_t swizzle = shape->swizzle == 128  ? 3
                    : shape->swizzle == 64 ? 2
                                           : shape->swizzle == 32;
  /* The driver takes the strides from the second dimension on. */
  check(driver.cuTensorMapEncodeTiled(
            map, (int32_t)shape->type, (uint32_t)shape->rank, (void *)address,
            extents, strides + 1, box, steps, 0, swizzle, 0, 0),
        (const char *)(uintptr_t)text, NULL);
}
