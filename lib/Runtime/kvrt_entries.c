/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * Reports of entry checks: immediately on a CPU, on a GPU through a record in
 * host memory, which the next call reads.
 */

#include "kvrt.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { UNKNOWN, OFF, ON };

int64_t kvrt_checks_wanted(void) {
  static _Atomic(int) wanted = UNKNOWN;
  int state = atomic_load_explicit(&wanted, memory_order_relaxed);
  if (state == UNKNOWN) {
    const char *value = getenv("KVRT_CHECK");
    state = value && value[0] == '1' && !value[1] ? ON : OFF;
    atomic_store_explicit(&wanted, state, memory_order_relaxed);
  }
  return state == ON;
}

int64_t kvrt_check_passed(void) { return !kvrt_current()->status; }

/* ---- Messages ------------------------------------------------------------ */

/* One entry of a list, with what is allowed in its own words. */
static void describe_entry(char *text, size_t size, const char *what,
                           const kvrt_check_record *r) {
  char place[48], padding[40] = "";
  if (r->request < 0)
    snprintf(place, sizeof place, "%lld", (long long)r->position);
  else
    snprintf(place, sizeof place, "[%lld, %lld]", (long long)r->request,
             (long long)r->position);
  if (r->low < 0)
    snprintf(padding, sizeof padding, ", or a negative one for padding,");
  snprintf(text, size, "expected %s from 0 to %lld%s at entry %s, got %lld",
           what, (long long)r->high, padding, place, (long long)r->value);
}

static void describe(char *text, size_t size, const kvrt_check_record *r) {
  long long low = r->low, high = r->high, value = r->value;
  long long request = r->request, position = r->position;
  switch (r->kind) {
  case KVRT_CHECK_SLOT:
    describe_entry(text, size, "a slot", r);
    return;
  case KVRT_CHECK_BLOCK:
    describe_entry(text, size, "a block", r);
    return;
  case KVRT_CHECK_OFFSET:
    describe_entry(text, size, "an offset", r);
    return;
  case KVRT_CHECK_CHUNK:
    describe_entry(text, size, "a chunk", r);
    return;
  case KVRT_CHECK_ROTATION:
    describe_entry(text, size, "a position", r);
    return;
  case KVRT_CHECK_START:
    snprintf(text, size,
             "expected a start from %lld to %lld, the one before it and the "
             "number of rows, at entry %lld, got %lld",
             low, high, position, value);
    return;
  case KVRT_CHECK_LENGTH:
    snprintf(text, size,
             "expected a length from %lld to %lld, its query rows and the room "
             "in the table, for request %lld, got %lld",
             low, high, request, value);
    return;
  case KVRT_CHECK_POSITION:
    snprintf(text, size,
             "expected a position below %lld, the length of request %lld, or "
             "-1 for padding, at entry %lld, got %lld",
             high + 1, request, position, value);
    return;
  case KVRT_CHECK_TABLE:
    snprintf(text, size,
             "expected a block from 0 to %lld for request %lld, entry %lld "
             "(tokens %lld to %lld), got %lld",
             high, request, position, position * (long long)r->tokens,
             (position + 1) * (long long)r->tokens - 1, value);
    return;
  default:
    snprintf(text, size,
             "expected a row from %lld to %lld, of a request and not below the "
             "one before it, at entry %lld, got %lld",
             low, high, position, value);
  }
}

void kvrt_report_entry(int64_t text, int64_t kind, int64_t request,
                       int64_t position, int64_t value, int64_t low,
                       int64_t high, int64_t tokens) {
  if (kvrt_current()->status)
    return;
  kvrt_check_record record = {KVRT_RECORD_READ,
                              (int32_t)kind,
                              (uint64_t)text,
                              request,
                              position,
                              value,
                              low,
                              high,
                              tokens};
  char what[KVRT_MESSAGE_BYTES];
  describe(what, sizeof what, &record);
  kvrt_fail(KV_ERROR_ENTRY, "%s: %s", (const char *)(uintptr_t)text, what);
}

/* ---- Records of devices -------------------------------------------------- */

static _Atomic(kvrt_check_record *) records[KVRT_MAX_DEVICES];

int64_t kvrt_check_record_of(int64_t always) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  const kvrt_context *context = kvrt_current();
  if (context->status || context->device_id < 0 ||
      (!always && !kvrt_checks_wanted()))
    return 0;
  _Atomic(kvrt_check_record *) *place = &records[context->device_id];
  kvrt_check_record *record = atomic_load_explicit(place, memory_order_acquire);
  if (!record) {
    pthread_mutex_lock(&lock);
    record = atomic_load_explicit(place, memory_order_relaxed);
    if (!record) {
      record = kvrt_cuda_pinned(sizeof *record);
      atomic_store_explicit(place, record, memory_order_release);
    }
    pthread_mutex_unlock(&lock);
  }
  return (int64_t)(uintptr_t)record;
}

/* Fails the call with what a kernel reported, and lets it report again. */
static int32_t take(kvrt_check_record *record, const char *when) {
  int32_t whole = KVRT_RECORD_WHOLE;
  if (__atomic_load_n(&record->state, __ATOMIC_RELAXED) != whole ||
      !__atomic_compare_exchange_n(&record->state, &whole, KVRT_RECORD_READ, 0,
                                   __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
    return KV_OK;
  kvrt_check_record copy = *record;
  __atomic_store_n(&record->state, KVRT_RECORD_FREE, __ATOMIC_RELEASE);
  char what[KVRT_MESSAGE_BYTES];
  describe(what, sizeof what, &copy);
  return kvrt_fail(KV_ERROR_ENTRY, "%s%s: %s", when,
                   (const char *)(uintptr_t)copy.text, what);
}

int32_t kvrt_check_earlier(int32_t device_id) {
  kvrt_check_record *record =
      atomic_load_explicit(&records[device_id], memory_order_acquire);
  return record ? take(record, "nothing was done, as a check of an earlier "
                               "call failed: ")
                : KV_OK;
}

int32_t kvrt_check(void *stream) {
  kvrt_begin(NULL);
  int32_t is_first = 1;
  for (int32_t device = 0; device < KVRT_MAX_DEVICES; ++device) {
    kvrt_check_record *record =
        atomic_load_explicit(&records[device], memory_order_acquire);
    if (!record)
      continue;
    if (is_first && kvrt_cuda_synchronize(device, stream))
      return kvrt_current()->status;
    is_first = 0;
    if (take(record, ""))
      return kvrt_current()->status;
  }
  return KV_OK;
}
