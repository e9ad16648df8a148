/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * The runtime that is linked into every artefact: no LLVM, no global
 * constructor, hidden symbols. Compiled programs call it, and contain the
 * records of kvrt_records.h as data.
 */

#ifndef KVRT_H
#define KVRT_H

#include "kvcache/Runtime/kv_abi.h"
#include "kvrt_records.h"

#include <stdatomic.h>
#include <stddef.h>

/* ---- Called by entry functions ------------------------------------------ */

/* args[i] points to a DLTensor, an int64_t or a double. */
int32_t kvrt_call(const kvrt_function *function, void *const *args,
                  void *workspace, int64_t workspace_bytes, void *stream);
/* Negative on an error, which last_error describes. */
int64_t kvrt_workspace_size(const kvrt_function *function, void *const *args);
/* A call in the convention of TVM-FFI; `args` is an array of TVMFFIAny. */
int32_t kvrt_call_tvm_ffi(const kvrt_function *function, const void *args,
                          int32_t num_args, void *result);
const char *kvrt_last_error(void);
/* Waits for the stream if kernels check entries, and returns the code of the
 * first error that has not been reported yet. */
int32_t kvrt_check(void *stream);
/* Parallel loops run on threads of the host; null: on those of the artefact. */
void kvrt_set_parallel_for(kv_parallel_for *run, void *user);
/* How many threads loops run on; 0: as the environment says. */
void kvrt_set_thread_count(int64_t count);

/* ---- Called by compiled host code --------------------------------------- */

/* Workspace of the running call; freed when the call ends. */
void *_mlir_memref_to_llvm_alloc(uint64_t bytes);
void _mlir_memref_to_llvm_free(void *pointer);
/* The address of the state that launches keep from call to call. */
int64_t kvrt_workspace_state(void);
void kvrt_report_view(int64_t argument, int64_t offset, int64_t end,
                      int64_t bytes);
void kvrt_report_layer(int64_t index, int64_t layers);
void kvrt_report_blocks(int64_t first, int64_t count, int64_t blocks);
void kvrt_report_room(int64_t text, int64_t columns, int64_t tokens,
                      int64_t most);
void kvrt_report_selection(int64_t entry, int64_t row, int64_t least,
                           int64_t rows);

/* Checks of entries (kvrt_records.h): whether the process requests them;
 * whether the call has had no error so far; a report of an invalid entry, with
 * the address of the text that names the list and the operation. */
int64_t kvrt_checks_wanted(void);
int64_t kvrt_check_passed(void);
void kvrt_report_entry(int64_t text, int64_t kind, int64_t request,
                       int64_t position, int64_t value, int64_t low,
                       int64_t high, int64_t tokens);
/* The address of the record that kernels of this call report to; 0 if nothing
 * is to be checked, because the process does not request it (ignored if
 * `always`) or because the call has failed. */
int64_t kvrt_check_record_of(int64_t always);

/* Prints the text at this address if the program is traced. */
void kvrt_trace(int64_t text);

/* The number of threads for which a parallel loop is worth splitting. Results
 * do not depend on it. */
int64_t kvrt_thread_count(void);

/* Runs body(argument, 0) to body(argument, count - 1), on several threads if it
 * can, and returns when all are done. */
void kvrt_parallel_for(int64_t count,
                       void (*body)(void *argument, int64_t index),
                       void *argument);

/* `mode` is KVRT_LAUNCH_IN_ORDER or another one of kvrt_records.h. */
void kvrt_launch(kvrt_kernel *kernel, int64_t grid_x, int64_t grid_y,
                 int64_t grid_z, int32_t block_x, int32_t block_y,
                 int32_t block_z, int32_t shared_bytes, int32_t mode,
                 void **parameters);
/* The number of multiprocessors of the device; fewer than `least` is an error.
 * The text at an address says what needs them. */
int64_t kvrt_multiprocessors(int64_t least, int64_t text);
/* A tensor map (KVRT_MAP_BYTES) of the memory at an address. A text names that
 * memory in errors. */
void kvrt_tensor_map(void *map, int64_t address, const kvrt_map_shape *shape,
                     int64_t text);

/* Copies blocks from one pool to another with the copy engine: the run, loops
 * over runs (slowest first), the chunks on both sides, and the pairs. All
 * distances are in bytes. A pool has `chunks` chunks, `per_block` in each
 * block. */
void kvrt_runs_begin(int64_t from, int64_t to, int64_t bytes);
void kvrt_runs_loop(int64_t extent, int64_t from_stride, int64_t to_stride);
void kvrt_runs_pool(int64_t is_from, int64_t chunks, int64_t per_block,
                    int64_t block_stride, int64_t chunk_stride);
void kvrt_runs_copy(int64_t pairs, int64_t index_bytes, int64_t count);

/* ---- Between the files of the runtime ----------------------------------- */

struct kvrt_loop;

/* The running call. A thread that works for the call of another thread has a
 * copy meanwhile. */
typedef struct {
  const kvrt_function *function;
  struct kvrt_loop *loop; /* that the call is in */
  char *workspace;
  int64_t workspace_bytes;
  int64_t workspace_used;
  void *stream;
  int32_t device_id;
  int32_t status;           /* the first error of the call */
  int32_t ends_with_kernel; /* the stream does, with one of this call */
} kvrt_context;

enum { KVRT_MESSAGE_BYTES = 512, KVRT_MAX_DEVICES = 64 };

/* A running parallel loop, on the stack of the call. */
typedef struct kvrt_loop {
  void (*body)(void *argument, int64_t index);
  void *argument;
  uint64_t count, piece;
  kvrt_context start; /* what the threads that take part begin with */
  /* For the first index that failed, on any thread. */
  _Atomic(int32_t) status;
  char message[KVRT_MESSAGE_BYTES];
  _Alignas(64) _Atomic(uint64_t) next;
} kvrt_loop;

kvrt_context *kvrt_current(void);
/* Starts a call; without a function if null. */
void kvrt_begin(const kvrt_function *function);
/* Makes an error in a loop fail the current call, which is then in no loop. */
void kvrt_end_loop(const kvrt_loop *loop);
/* Keeps the first message of a call. */
int32_t kvrt_fail(int32_t code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Whether the machine supports an x86-64 level: the cpu_level of a function. */
int32_t kvrt_x86_check(int32_t needed);

/* Checks the arguments and fills the frame; the device is that of the tensors
 * on a GPU, -1 if there are none. */
int32_t kvrt_prepare(const kvrt_function *function, void *const *args,
                     int64_t *frame, int32_t *device_id);
/* Whether a tensor of one DLPack device is accepted where another is expected.
 */
int kvrt_device_agrees(int32_t expected, int32_t got);

/* Initializes the driver and makes the context of a device current; pushes a
 * context if needed. Pass the same number to kvrt_cuda_leave. */
int32_t kvrt_cuda_enter(int32_t device_id, int32_t *pushed);
void kvrt_cuda_leave(int32_t pushed);

/* Zeroed pinned memory that all devices can access at its address; null with an
 * error. Uses the context of the call. */
void *kvrt_cuda_pinned(size_t bytes);
/* Waits for a stream of the current context or, if there is none, of the
 * primary context of a device. */
int32_t kvrt_cuda_synchronize(int32_t device_id, void *stream);
/* Fails the call if kernels of an earlier call reported an entry. */
int32_t kvrt_check_earlier(int32_t device_id);

/* Copies between any memories in the stream of the call, in any order. */
enum { KVRT_MOST_COPIES = 128 };
int32_t kvrt_cuda_copy(uint64_t *to, uint64_t *from, size_t *bytes,
                       size_t count);

#endif /* KVRT_H */
