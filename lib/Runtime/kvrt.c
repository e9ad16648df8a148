/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception */

#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "kvrt.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Frames live on the stack; kv-compile refuses functions with more. */
enum { MAX_FRAME_WORDS = 2048, MAX_SYMBOLS = 256, WORKSPACE_ALIGN = 256 };

static _Thread_local char message[KVRT_MESSAGE_BYTES];
static _Thread_local kvrt_context context;

kvrt_context *kvrt_current(void) { return &context; }

const char *kvrt_last_error(void) { return message; }

int32_t kvrt_fail(int32_t code, const char *format, ...) {
  if (context.status)
    return code;
  context.status = code;
  char *text = message;
  if (context.loop) {
    int32_t none = 0;
    if (!atomic_compare_exchange_strong(&context.loop->status, &none, code))
      return code;
    text = context.loop->message;
  }
  size_t used = 0;
  if (context.function)
    used = (size_t)snprintf(text, KVRT_MESSAGE_BYTES,
                            "%s: ", context.function->name);
  if (used >= KVRT_MESSAGE_BYTES)
    used = 0;
  va_list values;
  va_start(values, format);
  vsnprintf(text + used, KVRT_MESSAGE_BYTES - used, format, values);
  va_end(values);
  return code;
}

void kvrt_end_loop(const kvrt_loop *loop) {
  context.loop = NULL;
  context.status = atomic_load_explicit(&loop->status, memory_order_relaxed);
  if (context.status)
    memcpy(message, loop->message, sizeof message);
  else
    message[0] = 0; /* the host's threads may have run another call meanwhile */
}

/* ---- CPU ----------------------------------------------------------------- */

#if defined(__x86_64__)
static void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4]) {
  __asm__ volatile("cpuid"
                   : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
                   : "a"(leaf), "c"(sub));
}

static int has(uint32_t word, uint32_t mask) { return (word & mask) == mask; }

/* The x86-64 microarchitecture level of this machine. */
static int32_t find_cpu_level(void) {
  uint32_t r[4];
  cpuid(0, 0, r);
  uint32_t leaves = r[0];
  cpuid(1, 0, r);
  uint32_t c = r[2];
  /* SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT */
  if (!has(c, 1u << 0 | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 23))
    return 1;
  uint32_t extended[4];
  cpuid(0x80000000u, 0, extended);
  int lzcnt = 0;
  if (extended[0] >= 0x80000001u) {
    cpuid(0x80000001u, 0, extended);
    lzcnt = has(extended[2], 1u << 5);
  }
  /* LZCNT, FMA, MOVBE, OSXSAVE, AVX, F16C */
  if (!lzcnt || leaves < 7 ||
      !has(c, 1u << 12 | 1u << 22 | 1u << 27 | 1u << 28 | 1u << 29))
    return 2;
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  cpuid(7, 0, r);
  uint32_t b = r[1];
  /* AVX2, BMI1, BMI2, and the operating system saves the registers */
  if (!has(low, 6) || !has(b, 1u << 3 | 1u << 5 | 1u << 8))
    return 2;
  /* AVX512 F, DQ, CD, BW, VL */
  if (!has(low, 0xe6) ||
      !has(b, 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31))
    return 3;
  /* AVX512_BF16: what level 5 adds here. */
  if (r[0] < 1)
    return 4;
  cpuid(7, 1, r);
  return has(r[0], 1u << 5) ? 5 : 4;
}
#else
static int32_t find_cpu_level(void) { return 5; }
#endif

static int32_t check_cpu(int32_t needed) {
  static atomic_int known;
  int level = atomic_load_explicit(&known, memory_order_relaxed);
  if (!level) {
    level = find_cpu_level();
    atomic_store_explicit(&known, level, memory_order_relaxed);
  }
  if (level >= needed)
    return KV_OK;
  if (needed == 5)
    return kvrt_fail(KV_ERROR_CPU, "compiled for x86-64-v4 with AVX512_BF16, "
                                   "which this machine does not have");
  return kvrt_fail(KV_ERROR_CPU,
                   "compiled for x86-64-v%d, this machine has x86-64-v%d",
                   needed, level > 4 ? 4 : level);
}

/* ---- Checks -------------------------------------------------------------- */

static const char *dtype_name(int32_t code, int32_t bits, char *buffer,
                              size_t size) {
  const char *kind = code == kDLInt      ? "int"
                     : code == kDLUInt   ? "uint"
                     : code == kDLFloat  ? "float"
                     : code == kDLBfloat ? "bfloat"
                                         : "type";
  if (kind[0] == 't')
    snprintf(buffer, size, "type code %d of %d bits", code, bits);
  else
    snprintf(buffer, size, "%s%d", kind, bits);
  return buffer;
}

static int device_agrees(int32_t expected, int32_t got) {
  if (expected == kDLCPU)
    return got == kDLCPU || got == kDLCUDAHost;
  return got == kDLCUDA || got == kDLCUDAManaged;
}

static int32_t check_type(const kvrt_arg *arg, const DLTensor *tensor) {
  DLDataType type = tensor->dtype;
  if ((int32_t)type.code != arg->dtype_code ||
      (int32_t)type.bits != arg->dtype_bits || type.lanes != 1) {
    char expected[40], got[40];
    return kvrt_fail(
        KV_ERROR_TYPE, "argument '%s': expected elements of %s, got %s%s",
        arg->name,
        dtype_name(arg->dtype_code, arg->dtype_bits, expected, sizeof expected),
        dtype_name(type.code, type.bits, got, sizeof got),
        type.lanes == 1 ? "" : " with several lanes");
  }
  return KV_OK;
}

static int32_t check_device(const kvrt_arg *arg, const DLTensor *tensor,
                            int32_t *device_id) {
  int32_t got = tensor->device.device_type;
  if (!device_agrees(arg->device, got))
    return kvrt_fail(KV_ERROR_DEVICE,
                     "argument '%s': expected memory of %s (DLPack device "
                     "type %d), got device type %d",
                     arg->name, arg->device == kDLCPU ? "the CPU" : "CUDA",
                     arg->device, got);
  if (arg->device == kDLCPU)
    return KV_OK;
  if (tensor->device.device_id < 0)
    return kvrt_fail(KV_ERROR_DEVICE,
                     "argument '%s': expected the number of a device, got %d",
                     arg->name, tensor->device.device_id);
  if (*device_id >= 0 && *device_id != tensor->device.device_id)
    return kvrt_fail(KV_ERROR_DEVICE,
                     "argument '%s': expected device %d as for the arguments "
                     "before, got device %d",
                     arg->name, *device_id, tensor->device.device_id);
  *device_id = tensor->device.device_id;
  return KV_OK;
}

static int64_t stride_of(const DLTensor *tensor, int32_t dim) {
  if (tensor->strides)
    return tensor->strides[dim];
  uint64_t stride = 1; /* wraps on garbage */
  for (int32_t i = tensor->ndim - 1; i > dim; --i)
    stride *= (uint64_t)tensor->shape[i];
  return (int64_t)stride;
}

/* The extent of a symbol, and the first dimension that has it. */
typedef struct {
  const char *name; /* of the argument; null: not seen yet */
  int64_t extent;
  int32_t dim;
} symbol;

static int32_t check_extents(const kvrt_arg *arg, const DLTensor *tensor,
                             symbol *symbols) {
  for (int32_t d = 0; d < arg->rank; ++d) {
    const kvrt_dim *dim = &arg->dims[d];
    int64_t got = tensor->shape[d];
    if (dim->extent != KVRT_ANY && got != dim->extent)
      return kvrt_fail(KV_ERROR_SHAPE,
                       "argument '%s': expected an extent of %lld in dimension "
                       "%d, got %lld",
                       arg->name, (long long)dim->extent, d, (long long)got);
    if (got < 0 || got > (int64_t)1 << 40)
      return kvrt_fail(KV_ERROR_SHAPE,
                       "argument '%s': expected an extent between 0 and 2^40 "
                       "in dimension %d, got %lld",
                       arg->name, d, (long long)got);
    if (dim->symbol < 0)
      continue;
    symbol *same = &symbols[dim->symbol];
    if (!same->name) {
      *same = (symbol){arg->name, got, d};
    } else if (same->extent != got) {
      return kvrt_fail(KV_ERROR_SHAPE,
                       "argument '%s': expected an extent of %lld in dimension "
                       "%d, as in argument '%s', got %lld",
                       arg->name, (long long)same->extent, d, same->name,
                       (long long)got);
    }
  }
  return KV_OK;
}

/* Extents that follow from those of other arguments. */
static int32_t check_rules(const kvrt_function *function,
                           const symbol *symbols) {
  for (int64_t i = 0; i < function->num_rules; ++i) {
    const kvrt_rule *rule = &function->rules[i];
    const symbol *is = &symbols[rule->symbol], *of = &symbols[rule->of];
    int64_t expected = rule->times * of->extent + rule->plus;
    if (is->extent == expected)
      continue;
    char plus[32] = "";
    if (rule->plus)
      snprintf(plus, sizeof plus, " %s %lld", rule->plus < 0 ? "less" : "and",
               (long long)(rule->plus < 0 ? -rule->plus : rule->plus));
    return kvrt_fail(KV_ERROR_SHAPE,
                     "argument '%s': expected an extent of %lld in dimension "
                     "%d, %lld times the %lld in dimension %d of argument "
                     "'%s'%s, got %lld",
                     is->name, (long long)expected, is->dim,
                     (long long)rule->times, (long long)of->extent, of->dim,
                     of->name, plus, (long long)is->extent);
  }
  return KV_OK;
}

/* What the stride of a dimension may be, from the faster ones: at least
 * `least`, and a multiple of `multiple`; exactly `least` if `exact`. An extent
 * of 1 has no stride of its own in the tensor, so its rule stands for it. */
typedef struct {
  int64_t least, multiple;
  int32_t exact;
} span;

static span span_below(const kvrt_arg *arg, const DLTensor *tensor,
                       const kvrt_dim *dim) {
  span result = {1, 1, 1};
  for (int32_t next = dim->next; next >= 0; next = arg->dims[next].next) {
    const kvrt_dim *faster = &arg->dims[next];
    if (tensor->shape[next] != 1) {
      /* Wraps on garbage, which the check of `next` refuses. */
      result.least = (int64_t)((uint64_t)tensor->shape[next] *
                               (uint64_t)stride_of(tensor, next));
      return result;
    }
    if (faster->constant != KVRT_ANY) {
      result.least = faster->constant;
      return result;
    }
    if (!faster->compact) {
      result.exact = 0;
      if (faster->multiple > result.multiple)
        result.multiple = faster->multiple;
    }
  }
  return result;
}

static int32_t expect_stride(const kvrt_arg *arg, int32_t d, int64_t got,
                             int64_t expected) {
  if (got == expected)
    return KV_OK;
  return kvrt_fail(KV_ERROR_STRIDE,
                   "argument '%s': expected a stride of %lld elements in "
                   "dimension %d, got %lld",
                   arg->name, (long long)expected, d, (long long)got);
}

static int32_t expect_multiple(const kvrt_arg *arg, int32_t d, int64_t got,
                               int64_t multiple) {
  if (got % multiple == 0)
    return KV_OK;
  return kvrt_fail(KV_ERROR_STRIDE,
                   "argument '%s': expected a stride that is a multiple of "
                   "%lld elements in dimension %d, got %lld",
                   arg->name, (long long)multiple, d, (long long)got);
}

static int32_t check_stride(const kvrt_arg *arg, const DLTensor *tensor,
                            int32_t d) {
  const kvrt_dim *dim = &arg->dims[d];
  int64_t got = stride_of(tensor, d);
  span below = span_below(arg, tensor, dim);
  if (dim->constant != KVRT_ANY && expect_stride(arg, d, got, dim->constant))
    return KV_ERROR_STRIDE;
  if (dim->compact && below.exact)
    return expect_stride(arg, d, got, below.least);
  if (dim->constant == KVRT_ANY &&
      (got < below.least || got > (int64_t)1 << 40))
    return kvrt_fail(KV_ERROR_STRIDE,
                     "argument '%s': expected a stride of at least %lld "
                     "elements in dimension %d, got %lld",
                     arg->name, (long long)below.least, d, (long long)got);
  if (dim->compact && expect_multiple(arg, d, got, below.multiple))
    return KV_ERROR_STRIDE;
  return expect_multiple(arg, d, got, dim->multiple);
}

static int32_t check_strides(const kvrt_arg *arg, const DLTensor *tensor) {
  for (int32_t d = 0; d < arg->rank; ++d)
    if (tensor->shape[d] == 0)
      return KV_OK; /* no element, no stride */
  for (int32_t d = 0; d < arg->rank; ++d)
    if (tensor->shape[d] != 1 && check_stride(arg, tensor, d))
      return KV_ERROR_STRIDE;
  return KV_OK;
}

static int32_t check_tensor(const kvrt_arg *arg, const DLTensor *tensor,
                            symbol *symbols, int32_t *device_id) {
  if (!tensor)
    return kvrt_fail(KV_ERROR_NULL,
                     "argument '%s': expected a tensor, got a "
                     "null pointer",
                     arg->name);
  if (tensor->ndim != arg->rank)
    return kvrt_fail(KV_ERROR_SHAPE,
                     "argument '%s': expected %d dimensions, got %d", arg->name,
                     arg->rank, tensor->ndim);
  if (arg->rank && !tensor->shape)
    return kvrt_fail(KV_ERROR_NULL,
                     "argument '%s': expected a shape, got a "
                     "null pointer",
                     arg->name);
  int32_t status = check_type(arg, tensor);
  if (!status)
    status = check_device(arg, tensor, device_id);
  if (!status)
    status = check_extents(arg, tensor, symbols);
  if (!status)
    status = check_strides(arg, tensor);
  if (status)
    return status;
  int64_t elements = 1;
  for (int32_t d = 0; d < arg->rank; ++d)
    elements *= tensor->shape[d] != 0;
  if (!tensor->data && elements)
    return kvrt_fail(KV_ERROR_NULL,
                     "argument '%s': expected data, got a null "
                     "pointer",
                     arg->name);
  uintptr_t address = (uintptr_t)tensor->data + tensor->byte_offset;
  if (elements && address % (uint32_t)arg->align)
    return kvrt_fail(KV_ERROR_ALIGNMENT,
                     "argument '%s': expected an address that is a multiple of "
                     "%d bytes, got %p",
                     arg->name, arg->align, (void *)address);
  return KV_OK;
}

static int64_t *put_tensor(int64_t *word, const kvrt_arg *arg,
                           const DLTensor *tensor) {
  int64_t address = (int64_t)((uintptr_t)tensor->data + tensor->byte_offset);
  *word++ = address;
  *word++ = address;
  *word++ = 0;
  for (int32_t d = 0; d < arg->rank; ++d)
    *word++ = tensor->shape[d];
  for (int32_t d = 0; d < arg->rank; ++d)
    *word++ = stride_of(tensor, d);
  return word;
}

/* Checks the arguments and lays out the frame. */
static int32_t prepare(const kvrt_function *function, void *const *args,
                       int64_t *frame, int32_t *device_id) {
  symbol symbols[MAX_SYMBOLS];
  for (int32_t s = 0; s < function->num_symbols; ++s)
    symbols[s].name = NULL;
  *device_id = -1;
  for (int32_t i = 0; i < function->num_args; ++i) {
    const kvrt_arg *arg = &function->args[i];
    if (arg->kind != KVRT_TENSOR) {
      memcpy(frame++, args[i], sizeof *frame);
      continue;
    }
    const DLTensor *tensor = args[i];
    int32_t status = check_tensor(arg, tensor, symbols, device_id);
    if (status)
      return status;
    frame = put_tensor(frame, arg, tensor);
  }
  return check_rules(function, symbols);
}

static void begin(const kvrt_function *function) {
  context = (kvrt_context){.function = function, .device_id = -1};
  message[0] = 0;
}

/* The buffers of a call, after the state. A call that needs no buffer keeps no
 * state either. */
static int64_t needed_bytes(const kvrt_function *function,
                            const int64_t *frame) {
  int64_t buffers = function->workspace(frame);
  return buffers > 0 ? buffers + function->state_bytes : buffers;
}

int64_t kvrt_workspace_size(const kvrt_function *function, void *const *args) {
  int64_t frame[MAX_FRAME_WORDS];
  int32_t device_id;
  begin(function);
  int32_t status = check_cpu(function->cpu_level);
  if (!status)
    status = prepare(function, args, frame, &device_id);
  return status ? -1 : needed_bytes(function, frame);
}

static int32_t run(const kvrt_function *function, const int64_t *frame) {
  int32_t pushed = 0;
  int cuda = context.device_id >= 0;
  if (cuda && kvrt_cuda_enter(context.device_id, &pushed))
    return context.status;
  function->run(frame);
  if (cuda)
    kvrt_cuda_leave(pushed);
  return context.status;
}

int32_t kvrt_call(const kvrt_function *function, void *const *args,
                  void *workspace, int64_t workspace_bytes, void *stream) {
  int64_t frame[MAX_FRAME_WORDS];
  begin(function);
  if (check_cpu(function->cpu_level) ||
      prepare(function, args, frame, &context.device_id))
    return context.status;
  int64_t needed = needed_bytes(function, frame);
  if (needed < 0)
    return kvrt_fail(KV_ERROR_SHAPE, "expected extents whose workspace has a "
                                     "size of 64 bits, got more");
  if (needed > 0 && (!workspace || workspace_bytes < needed))
    return kvrt_fail(KV_ERROR_WORKSPACE,
                     "expected a workspace of at least %lld bytes, got %lld",
                     (long long)needed,
                     (long long)(workspace ? workspace_bytes : 0));
  if (needed > 0 && (uintptr_t)workspace % WORKSPACE_ALIGN)
    return kvrt_fail(KV_ERROR_ALIGNMENT,
                     "expected a workspace whose address is a multiple of %d "
                     "bytes, got %p",
                     WORKSPACE_ALIGN, workspace);
  context.workspace = workspace;
  context.workspace_bytes = workspace_bytes;
  context.workspace_used = function->state_bytes;
  context.stream = stream;
  return run(function, frame);
}

/* ---- Called by compiled host code ---------------------------------------- */

void *_mlir_memref_to_llvm_alloc(uint64_t bytes) {
  uint64_t rounded = (bytes + WORKSPACE_ALIGN - 1) & -(uint64_t)WORKSPACE_ALIGN;
  char *result = context.workspace + context.workspace_used;
  context.workspace_used += (int64_t)rounded;
  return result;
}

void _mlir_memref_to_llvm_free(void *pointer) { (void)pointer; }

int64_t kvrt_workspace_state(void) { return (int64_t)context.workspace; }

void kvrt_report_view(int64_t argument, int64_t offset, int64_t end,
                      int64_t bytes) {
  const char *name = "a local buffer";
  if (context.function && argument >= 0 &&
      argument < context.function->num_args)
    name = context.function->args[argument].name;
  kvrt_fail(KV_ERROR_BOUNDS,
            "argument '%s': expected a view inside of %lld bytes that is "
            "aligned as its type says and has the strides of its type, got "
            "bytes %lld to %lld",
            name, (long long)bytes, (long long)offset, (long long)end);
}

void kvrt_report_layer(int64_t index, int64_t layers) {
  kvrt_fail(KV_ERROR_BOUNDS, "expected a layer below %lld, got layer %lld",
            (long long)layers, (long long)index);
}

void kvrt_report_blocks(int64_t first, int64_t count, int64_t blocks) {
  kvrt_fail(KV_ERROR_BOUNDS,
            "expected a part of the %lld blocks of a pool, got %lld from %lld "
            "on",
            (long long)blocks, (long long)count, (long long)first);
}

void kvrt_report_room(int64_t columns, int64_t tokens, int64_t most) {
  kvrt_fail(KV_ERROR_BOUNDS,
            "attention on a GPU: expected a block table with room for at most "
            "%lld tokens of a request, got %lld blocks of %lld",
            (long long)most, (long long)columns, (long long)tokens);
}

void kvrt_report_selection(int64_t entry, int64_t row, int64_t previous,
                           int64_t rows) {
  kvrt_fail(KV_ERROR_BOUNDS,
            "expected entry %lld of the selected rows to be from %lld to %lld, "
            "a row of a request and not below the entry before it, got %lld",
            (long long)entry, (long long)previous, (long long)rows - 1,
            (long long)row);
}

/* ---- TVM-FFI ------------------------------------------------------------- */

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
  FFI_OBJECT_HEADER = 24
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
  if (context.status == KV_ERROR_TYPE || context.status == KV_ERROR_ARGUMENTS)
    kind = "TypeError";
  if (context.status == KV_ERROR_CUDA || context.status == KV_ERROR_CPU)
    kind = "RuntimeError";
  static _Atomic(void *) known;
  ffi_set_raised *set_raised =
      (ffi_set_raised *)ffi_function(&known, "TVMFFIErrorSetRaisedFromCStr");
  if (set_raised)
    set_raised(kind, message);
  return -1;
}

static void *ffi_tensor(const ffi_any *any) {
  if (any->type_index == FFI_DLTENSOR)
    return any->value.v_ptr;
  if (any->type_index == FFI_TENSOR_OBJECT)
    return (char *)any->value.v_ptr + FFI_OBJECT_HEADER;
  return NULL;
}

static int32_t ffi_argument(const kvrt_arg *arg, const ffi_any *any,
                            void **slot, int64_t *scalar) {
  *slot = scalar;
  switch (arg->kind) {
  case KVRT_TENSOR:
    *slot = ffi_tensor(any);
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

/* Any tensor without gaps will do. */
static int32_t ffi_workspace(const ffi_any *any, const DLTensor *on_device,
                             void **workspace, int64_t *bytes) {
  const DLTensor *tensor = ffi_tensor(any);
  if (!tensor)
    return kvrt_fail(KV_ERROR_ARGUMENTS,
                     "workspace: expected a tensor, got a value of type index "
                     "%d",
                     any->type_index);
  if (!device_agrees(on_device ? kDLCUDA : kDLCPU,
                     tensor->device.device_type) ||
      (on_device && tensor->device.device_id != on_device->device.device_id))
    return kvrt_fail(KV_ERROR_DEVICE,
                     "workspace: expected memory where the arguments are, got "
                     "device type %d, device %d",
                     tensor->device.device_type, tensor->device.device_id);
  uint64_t elements = 1; /* up to here, from the fastest dimension */
  for (int32_t d = tensor->ndim - 1; d >= 0; --d) {
    if (tensor->strides && tensor->shape[d] > 1 &&
        tensor->strides[d] != (int64_t)elements)
      return kvrt_fail(KV_ERROR_STRIDE,
                       "workspace: expected a tensor without gaps, got a "
                       "stride of %lld in dimension %d",
                       (long long)tensor->strides[d], d);
    elements *= (uint64_t)tensor->shape[d];
  }
  *bytes = (int64_t)(elements * tensor->dtype.bits / 8 * tensor->dtype.lanes);
  *workspace = (char *)tensor->data + tensor->byte_offset;
  return KV_OK;
}

int32_t kvrt_call_tvm_ffi(const kvrt_function *function, const void *values,
                          int32_t num_values, void *result) {
  enum { MAX_ARGS = 128 };
  const ffi_any *any = values;
  void *args[MAX_ARGS];
  int64_t scalars[MAX_ARGS];
  int32_t count = function->num_args;
  begin(function);
  memset(result, 0, sizeof(ffi_any)); /* none */
  if (count > MAX_ARGS || (num_values != count && num_values != count + 1)) {
    kvrt_fail(KV_ERROR_ARGUMENTS,
              "expected %d arguments, and a workspace tensor after them where "
              "one is needed, got %d",
              count, num_values);
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
  static _Atomic(void *) known;
  void *stream = NULL;
  ffi_get_stream *get_stream =
      on_device ? (ffi_get_stream *)ffi_function(&known, "TVMFFIEnvGetStream")
                : NULL;
  if (get_stream)
    stream =
        get_stream(on_device->device.device_type, on_device->device.device_id);
  if (kvrt_call(function, args, workspace, workspace_bytes, stream))
    return ffi_raise();
  return 0;
}
