/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * The common part of all artefacts of kv-compile: tensors, error codes,
 * version. The header that is written beside a library contains this text.
 *
 * A function of a program is called as
 *
 *   int32_t kv1_NAME(DLTensor *arg0, ..., void *workspace,
 *                    int64_t workspace_bytes, void *stream);
 *
 * with one DLTensor per tensor argument, an int64_t or double per scalar. The
 * caller owns everything. Nothing is written unless all checks of the arguments
 * pass; byte and layer views are checked when they are made, and the driver
 * reports errors at a launch, possibly after earlier operations have run. The
 * stream is a cudaStream_t for an artefact that runs on a GPU, and is not used
 * otherwise. kv1_LIBRARY_last_error() returns the message of the last error in
 * a thread. docs/abi.md has the full rules.
 */

#ifndef KV_ABI_H
#define KV_ABI_H

#include <stdint.h>

#define KV_ABI_VERSION 1

/* The start of a workspace on a GPU, where launches keep state for the next
 * one. No function of any library uses it for anything else. */
#define KV_WORKSPACE_STATE_BYTES 8192

/* The structs of DLPack. Include dlpack.h first if a file uses both. */
#ifndef DLPACK_DLPACK_H_
typedef struct {
  int32_t device_type;
  int32_t device_id;
} DLDevice;

typedef struct {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
} DLDataType;

typedef struct {
  void *data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t *shape;
  int64_t *strides; /* in elements; null: compact, last dimension fastest */
  uint64_t byte_offset;
} DLTensor;

enum {
  kDLCPU = 1,
  kDLCUDA = 2,
  kDLCUDAHost = 3,
  kDLCUDAManaged = 13,
};
enum {
  kDLInt = 0,
  kDLUInt = 1,
  kDLFloat = 2,
  kDLBfloat = 4,
  kDLFloat8_e3m4 = 7,
  kDLFloat8_e4m3 = 8,
  kDLFloat8_e4m3b11fnuz = 9,
  kDLFloat8_e4m3fn = 10,
  kDLFloat8_e4m3fnuz = 11,
  kDLFloat8_e5m2 = 12,
  kDLFloat8_e5m2fnuz = 13,
  kDLFloat8_e8m0fnu = 14,
};
#endif

/* Calls body(context, 0) to body(context, count - 1), in any order and on any
 * threads, and returns when all have returned. */
typedef void kv_parallel_for(void *user, int64_t count,
                             void (*body)(void *context, int64_t index),
                             void *context);

/* What a call returns. New codes are added at the end. */
enum {
  KV_OK = 0,
  KV_ERROR_NULL = 1,       /* a null pointer that must not be null */
  KV_ERROR_TYPE = 2,       /* element type */
  KV_ERROR_SHAPE = 3,      /* number of dimensions, extents */
  KV_ERROR_STRIDE = 4,     /* strides */
  KV_ERROR_ALIGNMENT = 5,  /* address */
  KV_ERROR_DEVICE = 6,     /* device of a tensor */
  KV_ERROR_WORKSPACE = 7,  /* workspace missing or too small */
  KV_ERROR_BOUNDS = 8,     /* a view exceeds its buffer, a layer its cache */
  KV_ERROR_CPU = 9,        /* compiled for another CPU */
  KV_ERROR_CUDA = 10,      /* no driver, no device, or an error of the driver */
  KV_ERROR_ARGUMENTS = 11, /* number or kind of arguments (TVM-FFI) */
  KV_ERROR_ENTRY = 12      /* an entry of a list, if entries are checked */
};

#endif /* KV_ABI_H */
