/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * Stands in for libcuda.so.1 where there is no GPU: keeps the PTX of an
 * artefact, and gives each launch to a function of the test. Memory of the
 * device is memory of the process.
 */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  const char *code;
  char name[128];
} kernel;

typedef int launch_function(const char *code, const char *name,
                            const unsigned *dims, void **parameters);
/* `count` copies of one call of the driver. */
typedef int copy_function(uint64_t *to, uint64_t *from, size_t *bytes,
                          size_t count);

typedef void *pinned_function(size_t bytes);

static launch_function *launch;
static copy_function *copy;
static pinned_function *pinned;

void fake_set_functions(launch_function *l, copy_function *c,
                        pinned_function *p) {
  launch = l;
  copy = c;
  pinned = p;
}

/* A function that fails, once, and the version that the driver says. */
static char faulty[64];
static int fault, version_said = 13000;
static int calls_before_fault;

/* The next call of a function fails, or one some calls later. */
void fake_set_fault_after(const char *function, int error, int calls) {
  strncpy(faulty, function, sizeof faulty - 1);
  fault = error;
  calls_before_fault = calls;
}
void fake_set_fault(const char *function, int error) {
  fake_set_fault_after(function, error, 0);
}
void fake_set_version(int version) { version_said = version; }

static int fails(const char *function) {
  if (strcmp(function, faulty) || calls_before_fault-- > 0)
    return 0;
  faulty[0] = 0;
  return fault;
}

int cuInit(unsigned flags) { return flags ? 1 : fails("cuInit"); }
int cuGetErrorString(int error, const char **text) {
  *text = error == 700   ? "the interpreter stopped"
          : error == 2   ? "out of memory"
          : error == 100 ? "no CUDA-capable device is detected"
                         : "an error of the test";
  return 0;
}
int cuDriverGetVersion(int *version) { return *version = version_said, 0; }
static void *current = &launch;
void fake_leave_context(void) { current = NULL; }
int cuCtxGetCurrent(void **context) { return *context = current, 0; }
int cuCtxGetDevice(int *device) { return *device = 0; }
int cuCtxPushCurrent_v2(void *context) { return context == NULL; }
int cuCtxPopCurrent_v2(void **context) { return *context = NULL, 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) {
  *context = &launch;
  return device ? 101 : fails("cuDevicePrimaryCtxRetain");
}
/* Captures of all streams but those that are made meanwhile. Without the
 * relaxed mode, 2, they forbid most calls. */
static int captures, capture_mode;
void fake_set_capture(int is_on) { captures = is_on; }
int cuThreadExchangeStreamCaptureMode(int *mode) {
  int before = capture_mode;
  capture_mode = *mode;
  *mode = before;
  return capture_mode < 0 || capture_mode > 2;
}
static int forbidden(void) { return captures && capture_mode != 2 ? 900 : 0; }
static char made_stream;
int cuStreamCreate(void **stream, unsigned flags) {
  *stream = &made_stream;
  return flags != 1; /* does not wait for the default stream */
}
int cuStreamDestroy_v2(void *stream) { return stream != &made_stream; }
#ifndef FAKE_OLD_DRIVER
int cuLibraryLoadData(void **library, const void *code, int *jit_options,
                      void **jit_values, unsigned jit_count,
                      int *library_options, void **library_values,
                      unsigned library_count) {
  (void)jit_options, (void)jit_values, (void)library_options;
  (void)library_values;
  *library = (void *)code;
  return jit_count || library_count ? 1 : fails("cuLibraryLoadData");
}
#endif
int cuLibraryGetKernel(void **out, void *library, const char *name) {
  int error = fails("cuLibraryGetKernel");
  kernel *k = error ? NULL : calloc(1, sizeof *k);
  if (error)
    return error;
  if (!k || strlen(name) >= sizeof k->name)
    return 2;
  k->code = library;
  strcpy(k->name, name);
  *out = k;
  return 0;
}
int cuKernelGetFunction(void **function, void *k) { return *function = k, 0; }
static void *last_stream;
void *fake_last_stream(void) { return last_stream; }
int cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y,
                   unsigned grid_z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned shared, void *stream,
                   void **parameters, void **extra) {
  last_stream = stream;
  const kernel *k = function;
  const unsigned dims[7] = {grid_x,  grid_y,  grid_z, block_x,
                            block_y, block_z, shared};
  int error = fails("cuLaunchKernel");
  if (error)
    return error;
  return extra ? 1 : launch(k->code, k->name, dims, parameters);
}
static int multiprocessors = 132, cooperative;
void fake_set_multiprocessors(int count) { multiprocessors = count; }
int fake_cooperative_launches(void) { return cooperative; }
static int capability[2] = {9, 0};
void fake_set_capability(int major, int minor) {
  capability[0] = major;
  capability[1] = minor;
}
int cuDeviceGet(int *device, int number) {
  *device = number;
  return number ? 101 : 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  int isCapability = attribute == 75 || attribute == 76;
  *value = isCapability ? capability[attribute - 75] : multiprocessors;
  return (isCapability || attribute == 16) && device == 0 ? 0 : 1;
}
int cuKernelSetAttribute(int attribute, int value, void *k, int device) {
  return attribute == 8 && value > 0 && k && device == 0 ? 0 : 1;
}
int cuLaunchCooperativeKernel(void *function, unsigned grid_x, unsigned grid_y,
                              unsigned grid_z, unsigned block_x,
                              unsigned block_y, unsigned block_z,
                              unsigned shared, void *stream,
                              void **parameters) {
  ++cooperative;
  return cuLaunchKernel(function, grid_x, grid_y, grid_z, block_x, block_y,
                        block_z, shared, stream, parameters, NULL);
}

typedef void map_function(int type, unsigned rank, uint64_t address,
                          const uint64_t *extents, const uint64_t *strides,
                          const uint32_t *box, int swizzle);
static map_function *encode;
void fake_set_map_function(map_function *function) { encode = function; }
int cuTensorMapEncodeTiled(void *map, int type, unsigned rank, uint64_t address,
                           const uint64_t *extents, const uint64_t *strides,
                           const uint32_t *box, const uint32_t *steps,
                           int interleave, int swizzle, int promotion,
                           int fill) {
  int error = fails("cuTensorMapEncodeTiled");
  if (error)
    return error;
  for (unsigned i = 0; i < rank; ++i)
    if (steps[i] != 1)
      return 1;
  if ((uintptr_t)map % 64 || interleave || promotion || fill)
    return 1;
  memset(map, 0, 128);
  if (encode)
    encode(type, rank, address, extents, strides, box, swizzle);
  return 0;
}

int cuMemcpyAsync(uint64_t to, uint64_t from, size_t bytes, void *stream) {
  (void)stream;
  return copy(&to, &from, &bytes, 1);
}
int cuMemcpyBatchAsync_v2(uint64_t *to, uint64_t *from, size_t *bytes,
                          size_t count, void *attributes, size_t *first,
                          size_t num_attributes, void *stream) {
  /* As the driver, which takes no list for a default stream. */
  if ((uintptr_t)stream <= 2 || !attributes || num_attributes != 1 || *first)
    return 1;
  return copy(to, from, bytes, count);
}
int cuStreamIsCapturing(void *stream, int *status) {
  (void)stream;
  return *status = 0;
}
static int waits;
int fake_waits(void) { return waits; }
int cuStreamSynchronize(void *stream) {
  ++waits;
  return captures && stream != &made_stream ? 900 : forbidden();
}
int cuMemAlloc_v2(uint64_t *address, size_t bytes) {
  int error = forbidden() ? forbidden() : fails("cuMemAlloc");
  *address = error ? 0 : (uint64_t)pinned(bytes);
  return error;
}
int cuMemsetD8Async(uint64_t address, unsigned char value, size_t bytes,
                    void *stream) {
  int error = captures && stream != &made_stream ? 901 : fails("cuMemset");
  if (error)
    return error;
  last_stream = stream;
  memset((void *)address, value, bytes);
  return 0;
}
static uint64_t freed;
uint64_t fake_freed(void) { return freed; }
int cuMemFree_v2(uint64_t address) { return freed = address, 0; }
int cuMemHostAlloc(void **memory, size_t bytes, unsigned flags) {
  *memory = pinned(bytes);
  return flags != 3; /* of all contexts, and mapped */
}
