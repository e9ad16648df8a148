/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception */

#include "kvrt.h"
#include "kvrt_arithmetic.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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

void kvrt_begin(const kvrt_function *function) {
  context = (kvrt_context){.function = function, .device_id = -1};
  message[0] = 0;
}

/* Bytes of workspace for the arguments in the frame; negative after an error.
 * What the compiled function says of the buffers is an upper bound, at most
 * 2^62, or negative if they take more. They lie after the state; a call that
 * needs no buffer keeps no state either. */
static int64_t workspace_of(const kvrt_function *function,
                            const int64_t *frame) {
  int64_t buffers = function->workspace(frame);
  if (buffers >= 0)
    return buffers ? buffers + function->state_bytes : 0;
  kvrt_fail(KV_ERROR_WORKSPACE,
            "expected extents and numbers for which the size of the workspace "
            "fits in 64 bits, got more or a negative number");
  return -1;
}

int64_t kvrt_workspace_size(const kvrt_function *function, void *const *args) {
  int64_t frame[KVRT_MAX_FRAME_WORDS];
  int32_t device_id;
  kvrt_begin(function);
  if (kvrt_x86_check(function->cpu_level) ||
      kvrt_prepare(function, args, frame, &device_id))
    return -1;
  return workspace_of(function, frame);
}

static int32_t run(const kvrt_function *function, const int64_t *frame) {
  int32_t pushed = 0;
  int cuda = context.device_id >= 0;
  if (cuda && kvrt_cuda_enter(context.device_id, &pushed))
    return context.status;
  if (!cuda || !kvrt_check_earlier(context.device_id))
    function->run(frame);
  if (cuda)
    kvrt_cuda_leave(pushed);
  return context.status;
}

int32_t kvrt_call(const kvrt_function *function, void *const *args,
                  void *workspace, int64_t workspace_bytes, void *stream) {
  int64_t frame[KVRT_MAX_FRAME_WORDS];
  kvrt_begin(function);
  if (kvrt_x86_check(function->cpu_level) ||
      kvrt_prepare(function, args, frame, &context.device_id))
    return context.status;
  int64_t needed = workspace_of(function, frame);
  if (needed < 0)
    return context.status;
  if (needed > 0 && (!workspace || workspace_bytes < needed))
    return kvrt_fail(KV_ERROR_WORKSPACE,
                     "expected a workspace of at least %lld bytes, got %lld",
                     (long long)needed,
                     (long long)(workspace ? workspace_bytes : 0));
  if (needed > 0 && (uintptr_t)workspace % KVRT_WORKSPACE_ALIGN)
    return kvrt_fail(KV_ERROR_ALIGNMENT,
                     "expected a workspace whose address is a multiple of %d "
                     "bytes, got %p",
                     KVRT_WORKSPACE_ALIGN, workspace);
  context.workspace = workspace;
  context.workspace_bytes = workspace ? workspace_bytes : 0;
  context.workspace_used = function->state_bytes;
  context.stream = stream;
  return run(function, frame);
}

/* ---- Called by compiled host code ---------------------------------------- */

void *_mlir_memref_to_llvm_alloc(uint64_t bytes) {
  int64_t rounded, used;
  /* The bound covers every buffer. If it ever does not, the call ends here: the
   * code that asked would write to whatever it is given. */
  if (bytes > INT64_MAX ||
      !kvrt_add((int64_t)bytes, KVRT_WORKSPACE_ALIGN - 1, &rounded) ||
      !kvrt_add(context.workspace_used,
                rounded & -(int64_t)KVRT_WORKSPACE_ALIGN, &used) ||
      used > context.workspace_bytes)
    __builtin_trap();
  char *result = context.workspace + context.workspace_used;
  context.workspace_used = used;
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
  kvrt_fail(
      KV_ERROR_BOUNDS,
      "argument '%s': expected a view within %lld bytes, aligned as its type "
      "requires and with the strides of its type, got bytes %lld to %lld",
      name, (long long)bytes, (long long)offset, (long long)end);
}

void kvrt_report_layer(int64_t index, int64_t layers) {
  kvrt_fail(KV_ERROR_BOUNDS, "expected a layer below %lld, got layer %lld",
            (long long)layers, (long long)index);
}

void kvrt_report_blocks(int64_t first, int64_t count, int64_t blocks) {
  kvrt_fail(KV_ERROR_BOUNDS,
            "expected a range within the %lld blocks of a pool, got %lld "
            "starting at %lld",
            (long long)blocks, (long long)count, (long long)first);
}

void kvrt_report_room(int64_t text, int64_t columns, int64_t tokens,
                      int64_t most) {
  kvrt_fail(KV_ERROR_BOUNDS,
            "%s: expected a block table with room for at most %lld tokens of a "
            "request, got %lld blocks of %lld",
            (const char *)(uintptr_t)text, (long long)most, (long long)columns,
            (long long)tokens);
}

void kvrt_report_selection(int64_t entry, int64_t row, int64_t least,
                           int64_t rows) {
  kvrt_fail(KV_ERROR_BOUNDS,
            "expected entry %lld of the selected rows to be from %lld to %lld, "
            "a row of a request and not below the entry before it, got %lld",
            (long long)entry, (long long)least, (long long)rows - 1,
            (long long)row);
}
