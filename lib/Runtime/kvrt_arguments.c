/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * The checks that an entry function makes on its arguments, and the frame that
 * it builds from them for compiled code.
 */

#include "kvrt.h"
#include "kvrt_arithmetic.h"

#include <stdio.h>
#include <string.h>

/* Of extents and strides. */
static const int64_t MOST = (int64_t)1 << 40;

static const char *dtype_name(int32_t code, int32_t bits, char *buffer,
                              size_t size) {
  /* By code: a kind that is followed by bits, or a name that has them. */
  static const char *const kinds[] = {[kDLInt] = "int",
                                      [kDLUInt] = "uint",
                                      [kDLFloat] = "float",
                                      [kDLBfloat] = "bfloat"};
  static const char *const bytes[] = {[kDLFloat8_e3m4] = "float8_e3m4",
                                      [kDLFloat8_e4m3] = "float8_e4m3",
                                      [kDLFloat8_e4m3b11fnuz] =
                                          "float8_e4m3b11fnuz",
                                      [kDLFloat8_e4m3fn] = "float8_e4m3fn",
                                      [kDLFloat8_e4m3fnuz] = "float8_e4m3fnuz",
                                      [kDLFloat8_e5m2] = "float8_e5m2",
                                      [kDLFloat8_e5m2fnuz] = "float8_e5m2fnuz",
                                      [kDLFloat8_e8m0fnu] = "float8_e8m0fnu"};
  if (code >= 0 && code < (int32_t)(sizeof kinds / sizeof *kinds) &&
      kinds[code])
    snprintf(buffer, size, "%s%d", kinds[code], bits);
  else if (code >= 0 && code < (int32_t)(sizeof bytes / sizeof *bytes) &&
           bytes[code] && bits == 8)
    snprintf(buffer, size, "%s", bytes[code]);
  else
    snprintf(buffer, size, "type code %d of %d bits", code, bits);
  return buffer;
}

/* Floats of one byte may come as bytes: many libraries cannot export them
 * otherwise, and the program says what they are. */
static int is_type(const kvrt_arg *arg, DLDataType type) {
  int as_bytes = type.code == kDLUInt && arg->dtype_code >= kDLFloat8_e3m4 &&
                 arg->dtype_code <= kDLFloat8_e8m0fnu;
  return ((int32_t)type.code == arg->dtype_code || as_bytes) &&
         (int32_t)type.bits == arg->dtype_bits && type.lanes == 1;
}

int kvrt_device_agrees(int32_t expected, int32_t got) {
  if (expected == kDLCPU)
    return got == kDLCPU || got == kDLCUDAHost;
  return got == kDLCUDA || got == kDLCUDAManaged;
}

static int32_t check_type(const kvrt_arg *arg, const DLTensor *tensor) {
  DLDataType type = tensor->dtype;
  if (!is_type(arg, type)) {
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
  if (!kvrt_device_agrees(arg->device, got))
    return kvrt_fail(KV_ERROR_DEVICE,
                     "argument '%s': expected memory of %s (DLPack device "
                     "type %d), got device type %d",
                     arg->name, arg->device == kDLCPU ? "the CPU" : "CUDA",
                     arg->device, got);
  if (arg->device == kDLCPU)
    return KV_OK;
  if (tensor->device.device_id < 0 ||
      tensor->device.device_id >= KVRT_MAX_DEVICES)
    return kvrt_fail(
        KV_ERROR_DEVICE,
        "argument '%s': expected a device number from 0 to %d, got %d",
        arg->name, KVRT_MAX_DEVICES - 1, tensor->device.device_id);
  if (*device_id >= 0 && *device_id != tensor->device.device_id)
    return kvrt_fail(KV_ERROR_DEVICE,
                     "argument '%s': expected device %d as for the earlier "
                     "arguments, got device %d",
                     arg->name, *device_id, tensor->device.device_id);
  *device_id = tensor->device.device_id;
  return KV_OK;
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
    if (got < 0 || got > MOST)
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
    char times[32] = "", plus[32] = "";
    if (rule->times != 1)
      snprintf(times, sizeof times, "%lld times ", (long long)rule->times);
    if (rule->plus)
      snprintf(plus, sizeof plus, " %s %lld", rule->plus < 0 ? "less" : "and",
               (long long)(rule->plus < 0 ? -rule->plus : rule->plus));
    return kvrt_fail(KV_ERROR_SHAPE,
                     "argument '%s': expected an extent of %lld in dimension "
                     "%d, %sthe %lld in dimension %d of argument '%s'%s, got "
                     "%lld",
                     is->name, (long long)expected, is->dim, times,
                     (long long)of->extent, of->dim, of->name, plus,
                     (long long)is->extent);
  }
  return KV_OK;
}

/* ---- Strides ------------------------------------------------------------- */

typedef struct {
  const kvrt_arg *arg;
  const DLTensor *tensor;
  int32_t is_empty; /* there is no element */
} given;

static given give(const kvrt_arg *arg, const DLTensor *tensor) {
  given result = {arg, tensor, 0};
  for (int32_t d = 0; d < arg->rank; ++d)
    result.is_empty |= tensor->shape[d] == 0;
  return result;
}

/* An extent of 1 has no stride of its own in the tensor, and nothing has one in
 * a tensor without elements: what the caller wrote there is not looked at. */
static int has_stride(const given *it, int32_t d) {
  return !it->is_empty && it->tensor->shape[d] != 1;
}

/* Of a dimension that has one. */
static int64_t stride_of(const DLTensor *tensor, int32_t dim) {
  if (tensor->strides)
    return tensor->strides[dim];
  int64_t stride = 1;
  for (int32_t i = tensor->ndim - 1; i > dim; --i)
    stride = kvrt_mul_or_most(stride, tensor->shape[i]);
  return stride;
}

/* What the stride of a dimension may be, from the faster ones: at least
 * `least`, and a multiple of `multiple`; exactly `least` if `exact`. Where a
 * dimension has no stride in the tensor, its rule stands for it. */
typedef struct {
  int64_t least, multiple;
  int32_t exact;
} span;

static span span_below(const given *it, const kvrt_dim *dim) {
  span result = {1, 1, 1};
  int32_t next = dim->next;
  if (next < 0)
    return result;
  const kvrt_dim *faster = &it->arg->dims[next];
  if (has_stride(it, next)) {
    result.least = stride_of(it->tensor, next);
  } else if (faster->constant != KVRT_ANY) {
    result.least = faster->constant;
  } else {
    result = span_below(it, faster);
    if (!faster->compact) {
      result.exact = 0;
      result.multiple = faster->multiple;
      result.least = kvrt_round_up_or_most(result.least, faster->multiple);
    }
  }
  if (it->tensor->shape[next] > 1)
    result.least = kvrt_mul_or_most(it->tensor->shape[next], result.least);
  return result;
}

/* What the faster dimensions of this tensor span, whatever is said of those
 * without a stride. */
static int64_t spanned(const given *it, const kvrt_dim *dim) {
  for (int32_t next = dim->next; next >= 0; next = it->arg->dims[next].next)
    if (has_stride(it, next))
      return kvrt_mul_or_most(it->tensor->shape[next],
                              stride_of(it->tensor, next));
  return 1;
}

/* The dimension whose `next` this one is, one that is packed over it if there
 * are several; -1 if it is the slowest. */
static int32_t slower_than(const kvrt_arg *arg, int32_t d) {
  int32_t slower = -1;
  for (int32_t i = 0; i < arg->rank; ++i)
    if (arg->dims[i].next == d && (slower < 0 || arg->dims[i].compact))
      slower = i;
  return slower;
}

/* The stride that compiled code gets: where the tensor has none, one that the
 * type allows and that makes the dimension continue the slower one, as an
 * extent of 1 does. A reshape, or slots counted over blocks of one token, take
 * it for the stride of that one. */
static int64_t meant_stride(const given *it, int32_t d) {
  const kvrt_dim *dim = &it->arg->dims[d];
  if (has_stride(it, d))
    return stride_of(it->tensor, d);
  if (dim->constant != KVRT_ANY)
    return dim->constant;
  span below = span_below(it, dim);
  if (dim->compact && below.exact)
    return below.least;
  int64_t multiple = dim->compact ? below.multiple : dim->multiple;
  for (int32_t s = slower_than(it->arg, d); s >= 0;
       s = slower_than(it->arg, s)) {
    int64_t stride = it->arg->dims[s].constant;
    if (has_stride(it, s))
      stride = stride_of(it->tensor, s);
    else if (stride == KVRT_ANY || it->tensor->shape[s] != 1)
      continue;
    if (stride >= below.least && stride % multiple == 0)
      return stride;
    break;
  }
  return kvrt_round_up_or_most(below.least, multiple);
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

static int32_t check_stride(const given *it, int32_t d) {
  const kvrt_arg *arg = it->arg;
  const kvrt_dim *dim = &arg->dims[d];
  int64_t got = stride_of(it->tensor, d);
  span below = span_below(it, dim);
  if (dim->constant != KVRT_ANY && expect_stride(arg, d, got, dim->constant))
    return KV_ERROR_STRIDE;
  int isExact = dim->compact && below.exact;
  if (isExact && expect_stride(arg, d, got, below.least))
    return KV_ERROR_STRIDE;
  /* A constant may be less than what there is in this call. */
  int64_t least = spanned(it, dim);
  int isFree = !isExact && dim->constant == KVRT_ANY;
  if (isFree && below.least > least)
    least = below.least;
  if (got < least || (isFree && got > MOST))
    return kvrt_fail(KV_ERROR_STRIDE,
                     "argument '%s': expected a stride of at least %lld "
                     "elements in dimension %d, got %lld",
                     arg->name, (long long)least, d, (long long)got);
  if (dim->compact && !isExact && expect_multiple(arg, d, got, below.multiple))
    return KV_ERROR_STRIDE;
  return expect_multiple(arg, d, got, dim->multiple);
}

static int32_t check_strides(const given *it) {
  for (int32_t d = 0; d < it->arg->rank; ++d)
    if (has_stride(it, d) && check_stride(it, d))
      return KV_ERROR_STRIDE;
  return KV_OK;
}

/* ---- Tensors ------------------------------------------------------------- */

/* Whether all elements lie between two addresses. Strides are not negative. */
static int fits_in_memory(const given *it) {
  const DLTensor *tensor = it->tensor;
  int64_t elements = 1, bytes;
  for (int32_t d = 0; d < it->arg->rank; ++d) {
    int64_t more;
    if (has_stride(it, d) &&
        (!kvrt_mul(tensor->shape[d] - 1, stride_of(tensor, d), &more) ||
         !kvrt_add(elements, more, &elements)))
      return 0;
  }
  uintptr_t end;
  return kvrt_mul(elements, (it->arg->dtype_bits + 7) / 8, &bytes) &&
         !__builtin_add_overflow((uintptr_t)tensor->data, tensor->byte_offset,
                                 &end) &&
         !__builtin_add_overflow(end, (uintptr_t)bytes, &end);
}

static int32_t check_address(const given *it) {
  const kvrt_arg *arg = it->arg;
  const DLTensor *tensor = it->tensor;
  if (it->is_empty)
    return KV_OK;
  if (!tensor->data)
    return kvrt_fail(KV_ERROR_NULL,
                     "argument '%s': expected data, got a null "
                     "pointer",
                     arg->name);
  uintptr_t address = (uintptr_t)tensor->data + tensor->byte_offset;
  if (!fits_in_memory(it))
    return kvrt_fail(KV_ERROR_BOUNDS,
                     "argument '%s': expected extents, strides and a byte "
                     "offset whose elements fit in memory, got a first element "
                     "at %p, %llu bytes from the data",
                     arg->name, (void *)address,
                     (unsigned long long)tensor->byte_offset);
  if (address % (uint32_t)arg->align)
    return kvrt_fail(KV_ERROR_ALIGNMENT,
                     "argument '%s': expected an address that is a multiple of "
                     "%d bytes, got %p",
                     arg->name, arg->align, (void *)address);
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
  if (status)
    return status;
  const given it = give(arg, tensor);
  status = check_strides(&it);
  return status ? status : check_address(&it);
}

static int64_t *put_tensor(int64_t *word, const kvrt_arg *arg,
                           const DLTensor *tensor) {
  int64_t address = (int64_t)((uintptr_t)tensor->data + tensor->byte_offset);
  *word++ = address;
  *word++ = address;
  *word++ = 0;
  for (int32_t d = 0; d < arg->rank; ++d)
    *word++ = tensor->shape[d];
  const given it = give(arg, tensor);
  for (int32_t d = 0; d < arg->rank; ++d)
    *word++ = meant_stride(&it, d);
  return word;
}

/* Checks the arguments and lays out the frame. */
int32_t kvrt_prepare(const kvrt_function *function, void *const *args,
                     int64_t *frame, int32_t *device_id) {
  symbol symbols[KVRT_MAX_SYMBOLS];
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
