/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * Ends with 0 if calls with pointers and numbers that nobody should hand over
 * are refused with a message, in C and by TVM-FFI. `calls overrun` is a
 * function that asks for more workspace than its bound, which has to end the
 * process.
 */

#include "check.h"

#include <limits.h>

static int says(const char *text) {
  return strstr(kvrt_last_error(), text) != NULL;
}

/* ---- The function that is called ------------------------------------------
 */

static int runs;
static int64_t last_frame[32], bound, asked;

static void run(const int64_t *frame) {
  ++runs;
  memcpy(last_frame, frame, sizeof last_frame);
  if (asked)
    memset(_mlir_memref_to_llvm_alloc((uint64_t)asked), 1, (size_t)asked);
}

static int64_t size(const int64_t *frame) {
  (void)frame;
  return bound;
}

/* x: [?, 4] of f32, packed; n: an integer */
static const kvrt_dim dims[] = {{KVRT_ANY, KVRT_ANY, 1, 1, 1, -1, 0},
                                {4, KVRT_ANY, 1, 1, -1, -1, 0}};
static kvrt_arg args[] = {{"x", dims, KVRT_TENSOR, 2, kDLFloat, 32, kDLCPU, 4},
                          {"n", NULL, KVRT_INT, 0, 0, 64, kDLCPU, 1}};
static const kvrt_function function = {"f", args, run,  size, 2, 8,
                                       1,   0,    NULL, 0,    0};

static float data[64];
static int64_t shape[2], strides[2];
static DLTensor x;
static int64_t n;

static void reset(void) {
  shape[0] = 3, shape[1] = 4;
  strides[0] = 4, strides[1] = 1;
  x = (DLTensor){.data = data,
                 .device = {kDLCPU, 0},
                 .ndim = 2,
                 .dtype = {kDLFloat, 32, 1},
                 .shape = shape,
                 .strides = strides};
  n = 7;
  bound = asked = 0;
  args[0].device = kDLCPU;
}

static int32_t call(void *tensor) {
  void *values[] = {tensor, &n};
  return kvrt_call(&function, values, NULL, 0, NULL);
}

static void refused(int32_t code, const char *text) {
  int before = runs;
  int32_t got = call(&x);
  if (got != code || !says(text)) {
    fprintf(stderr, "expected %d and '%s', got %d: %s\n", code, text, got,
            kvrt_last_error());
    exit(1);
  }
  CHECK(runs == before);
  void *values[] = {&x, &n};
  CHECK(kvrt_workspace_size(&function, values) < 0);
  CHECK(says(text));
  reset();
}

static void check_tensors(void) {
  reset();
  CHECK(call(&x) == KV_OK && runs == 1 && last_frame[7] == 7);
  CHECK(call(NULL) == KV_ERROR_NULL && says("expected a tensor, got a null"));
  x.shape = NULL;
  refused(KV_ERROR_NULL, "expected a shape, got a null");
  x.data = NULL;
  refused(KV_ERROR_NULL, "expected data, got a null");
  x.data = NULL, x.byte_offset = (uint64_t)(uintptr_t)data;
  refused(KV_ERROR_NULL, "expected data, got a null");
  static const int32_t ranks[] = {-1, INT_MIN, INT_MAX, 0, 1, 3, 65};
  for (size_t i = 0; i < sizeof ranks / sizeof *ranks; ++i) {
    x.ndim = ranks[i];
    refused(KV_ERROR_SHAPE, "expected 2 dimensions, got ");
  }
  x.dtype.lanes = 0;
  refused(KV_ERROR_TYPE, "with several lanes");
  x.dtype.lanes = 65535;
  refused(KV_ERROR_TYPE, "with several lanes");
  x.dtype.bits = 0;
  refused(KV_ERROR_TYPE, "got float0");
  x.dtype.code = 255;
  refused(KV_ERROR_TYPE, "got type code 255");
  static const int32_t devices[] = {0, -1, INT_MIN, INT_MAX, kDLCUDA};
  for (size_t i = 0; i < sizeof devices / sizeof *devices; ++i) {
    x.device.device_type = devices[i];
    refused(KV_ERROR_DEVICE, "got device type ");
  }
  static const int64_t extents[] = {-1, INT64_MIN, INT64_MAX,
                                    ((int64_t)1 << 40) + 1};
  for (size_t i = 0; i < sizeof extents / sizeof *extents; ++i) {
    shape[0] = extents[i];
    refused(KV_ERROR_SHAPE, "expected an extent between 0 and 2^40");
  }
  /* What cannot lie in memory, whatever the pointer is. */
  shape[0] = (int64_t)1 << 40;
  x.data = (void *)(UINTPTR_MAX - 4095);
  refused(KV_ERROR_BOUNDS, "whose elements fit in memory");
  x.byte_offset = UINT64_MAX - 3;
  refused(KV_ERROR_BOUNDS, "whose elements fit in memory");
  x.byte_offset = 2;
  refused(KV_ERROR_ALIGNMENT, "a multiple of 4 bytes");
  x.byte_offset = 8;
  CHECK(call(&x) == KV_OK && last_frame[1] == (int64_t)(uintptr_t)&data[2]);
}

/* ---- Strides whose products wrap ------------------------------------------
 */

static void check_products(void) {
  /* a is packed over b, whose stride is free: 2^30 * 2^40 = 2^70. */
  static const kvrt_dim wide[] = {{KVRT_ANY, KVRT_ANY, 1, 1, 1, -1, 0},
                                  {KVRT_ANY, KVRT_ANY, 1, 0, -1, -1, 0}};
  static const kvrt_arg arg = {"w",      wide, KVRT_TENSOR, 2,
                               kDLFloat, 32,   kDLCPU,      4};
  static const kvrt_function f = {"g", &arg, run, size, 1, 7, 1, 0, NULL, 0, 0};
  int64_t many[] = {2, (int64_t)1 << 30}, far[] = {0, (int64_t)1 << 40};
  DLTensor w = {.data = data,
                .device = {kDLCPU, 0},
                .ndim = 2,
                .dtype = {kDLFloat, 32, 1},
                .shape = many,
                .strides = far};
  void *values[] = {&w};
  static const int64_t firsts[] = {0, 64, INT64_MAX, INT64_MIN};
  for (size_t i = 0; i < sizeof firsts / sizeof *firsts; ++i) {
    far[0] = firsts[i];
    int32_t got = kvrt_call(&f, values, NULL, 0, NULL);
    CHECK(got == (firsts[i] == INT64_MAX ? KV_ERROR_BOUNDS : KV_ERROR_STRIDE));
  }
}

/* ---- Workspace ------------------------------------------------------------
 */

static void check_workspace(void) {
  static _Alignas(256) char memory[512];
  void *values[] = {&x, &n};
  static const int64_t sizes[] = {-1, INT64_MIN, -256};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; ++i) {
    reset();
    bound = sizes[i];
    refused(KV_ERROR_WORKSPACE, "fits in 64 bits");
  }
  bound = 256;
  int before = runs;
  CHECK(kvrt_call(&function, values, NULL, INT64_MAX, NULL) ==
        KV_ERROR_WORKSPACE);
  CHECK(says("at least 256 bytes, got 0"));
  CHECK(kvrt_call(&function, values, memory, INT64_MIN, NULL) ==
        KV_ERROR_WORKSPACE);
  CHECK(kvrt_call(&function, values, memory + 8, 400, NULL) ==
        KV_ERROR_ALIGNMENT);
  CHECK(runs == before);
  bound = asked = 256;
  CHECK(kvrt_call(&function, values, memory, 256, NULL) == KV_OK);
  CHECK(memory[255] == 1 && memory[256] == 0);
  reset();
}

/* The bound says 256, and 257 are asked for: nothing may be written. */
static void overrun(void) {
  static _Alignas(256) char memory[256];
  void *values[] = {&x, &n};
  reset();
  bound = 256, asked = 257;
  kvrt_call(&function, values, memory, sizeof memory, NULL);
  puts("survived");
}

/* ---- TVM-FFI --------------------------------------------------------------
 */

typedef struct {
  int32_t type_index, padding;
  union {
    int64_t integer;
    void *pointer;
  } value;
} any;

static char raised[64];
static int streams;

void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *text);
void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *text) {
  (void)text;
  snprintf(raised, sizeof raised, "%s", kind);
}
void *TVMFFIEnvGetStream(int32_t type, int32_t id);
void *TVMFFIEnvGetStream(int32_t type, int32_t id) {
  CHECK(type == kDLCUDA && id >= 0 && id < KVRT_MAX_DEVICES);
  ++streams;
  return NULL;
}

enum { INTEGER = 1, TENSOR = 7, OBJECT = 70 };

static void ffi_refused(const any *values, int32_t count, const char *kind,
                        const char *text) {
  any result = {3, 3, {3}};
  int before = runs;
  raised[0] = 0;
  CHECK(kvrt_call_tvm_ffi(&function, values, count, &result) == -1);
  CHECK(!strcmp(raised, kind) && runs == before);
  CHECK(says(text));
  CHECK(!result.type_index && !result.value.integer);
}

static void check_ffi_arguments(void) {
  reset();
  any values[3] = {{TENSOR, 0, {.pointer = &x}}, {INTEGER, 0, {7}}, {0}};
  any result;
  CHECK(!kvrt_call_tvm_ffi(&function, values, 2, &result));
  CHECK(!kvrt_call_tvm_ffi(&function, values, 2, NULL));
  ffi_refused(NULL, 2, "ValueError", "expected arguments, got a null pointer");
  ffi_refused(values, -1, "TypeError", "expected 2 arguments");
  ffi_refused(values, INT_MAX, "TypeError", "expected 2 arguments");
  for (int i = 0; i < 2; ++i) {
    values[0] = (any){i ? OBJECT : TENSOR, 0, {.pointer = NULL}};
    ffi_refused(values, 2, "ValueError",
                "argument 'x': expected a tensor, got a null pointer");
  }
  static const int32_t kinds[] = {-1, 2, 3, 8, 71, INT_MAX, INT_MIN};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; ++i) {
    values[0] = (any){kinds[i], 0, {.pointer = &x}};
    ffi_refused(values, 2, "TypeError", "argument 'x': expected a tensor, got");
  }
}

/* The stream of a device is asked for only where there may be one. */
static void check_ffi_devices(void) {
  reset();
  args[0].device = kDLCUDA;
  any values[2] = {{TENSOR, 0, {.pointer = &x}}, {INTEGER, 0, {7}}};
  ffi_refused(values, 2, "ValueError", "expected memory of CUDA");
  x.device.device_type = kDLCUDA;
  static const int32_t ids[] = {-1, INT_MIN, KVRT_MAX_DEVICES, INT_MAX};
  for (size_t i = 0; i < sizeof ids / sizeof *ids; ++i) {
    x.device.device_id = ids[i];
    ffi_refused(values, 2, "ValueError",
                "expected a device number from 0 to 63, got");
  }
  CHECK(!streams);
  reset();
}

static void check_ffi_workspace(void) {
  static _Alignas(256) char memory[1024];
  int64_t extents[3] = {2, 128, 2}, steps[3] = {256, 2, 1};
  DLTensor w = {.data = memory,
                .device = {kDLCPU, 0},
                .ndim = 3,
                .dtype = {kDLInt, 8, 1},
                .shape = extents,
                .strides = steps};
  const DLTensor good = w;
  any values[3] = {{TENSOR, 0, {.pointer = &x}},
                   {INTEGER, 0, {7}},
                   {TENSOR, 0, {.pointer = &w}}};
  any result;
  reset();
  bound = asked = 512;
  CHECK(!kvrt_call_tvm_ffi(&function, values, 3, &result) && memory[511] == 1);
  /* It begins where it is aligned. */
  w.data = memory + 8;
  ffi_refused(values, 3, "ValueError", "at least 512 bytes, got 264");
  memset(memory, 0, sizeof memory);
  w.shape = (int64_t[3]){2, 190, 2}, w.strides = NULL;
  reset();
  bound = asked = 512;
  CHECK(!kvrt_call_tvm_ffi(&function, values, 3, &result) && memory[767] == 1 &&
        !memory[255]);
  w = good;
  reset();
  bound = asked = 512;
  values[2] = (any){OBJECT, 0, {.pointer = NULL}};
  ffi_refused(values, 3, "ValueError",
              "workspace: expected a tensor, got a null pointer");
  values[2] = (any){TENSOR, 0, {.pointer = &w}};
  w.shape = NULL;
  ffi_refused(values, 3, "ValueError", "workspace: expected a shape");
  w = good;
  static const int32_t ranks[] = {-1, INT_MIN, INT_MAX, 65};
  for (size_t i = 0; i < sizeof ranks / sizeof *ranks; ++i) {
    w.ndim = ranks[i];
    ffi_refused(values, 3, "ValueError", "at most 64 dimensions, got");
  }
  w = good;
  extents[0] = -2;
  ffi_refused(values, 3, "ValueError", "nonnegative extents");
  /* 2^62 * 4 bytes would be 0. */
  w.strides = NULL;
  extents[0] = (int64_t)1 << 62, extents[1] = 4, extents[2] = 1;
  ffi_refused(values, 3, "ValueError", "fits in 63 bits");
  extents[0] = (int64_t)1 << 58;
  w.dtype.bits = 64;
  ffi_refused(values, 3, "ValueError", "fits in 63 bits");
  w = good;
  extents[0] = 2, extents[1] = 128, extents[2] = 2;
  w.byte_offset = UINT64_MAX - 2;
  ffi_refused(values, 3, "ValueError", "fits in 63 bits");
  w = good;
  w.data = NULL;
  ffi_refused(values, 3, "ValueError", "at least 512 bytes, got 0");
  w = good;
  w.dtype.lanes = 0;
  ffi_refused(values, 3, "ValueError", "at least 512 bytes, got 0");
  reset();
}

int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "overrun")) {
    overrun();
    return 0;
  }
  check_tensors();
  check_products();
  check_workspace();
  check_ffi_arguments();
  check_ffi_devices();
  check_ffi_workspace();
  return 0;
}
