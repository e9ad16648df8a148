/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * Parallel loops: a pool of threads per artefact, or the threads of the host.
 *
 * One call uses the pool at a time. It publishes its loop, opens the gate and
 * increments `epoch`; workers that notice enter through the gate, take pieces
 * of the loop, and leave. The caller takes pieces too. When none is left, it
 * closes the gate and waits for the workers inside, so a worker that is slow to
 * wake delays no one. Workers are detached and never exit; a library whose
 * program has parallel loops is linked so that it cannot be unloaded while they
 * run.
 */

#define _GNU_SOURCE /* sched_getaffinity, syscall */
#include "kvrt.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
  MAX_DEFAULT_THREADS = 64,
  MAX_THREADS = 1024,
  /* Some ten microseconds: more than the gap between two loops of a program,
   * less than anybody notices. */
  SPINS = 1000,
  /* A piece is this part of a thread's share, or one index. */
  PIECES_PER_THREAD = 16
};

static void *_Atomic hook_user;
static _Atomic(kv_parallel_for *) hook;

static struct {
  _Alignas(64) atomic_uint epoch; /* futex: counts loops */
  atomic_uint sleepers;
  _Alignas(64) atomic_uint gate; /* futex: flags, and the workers inside */
  kvrt_loop *loop;               /* belongs to whoever is inside */
  _Alignas(64) atomic_int taken; /* by the call that runs on the pool */
  atomic_int threads;            /* with the caller; 0: not started */
  int spins;
  int fork_is_handled;
} pool;

enum { GATE_OPEN = 1u << 31, GATE_AWAITED = 1u << 30 };

/* ---- Waiting ------------------------------------------------------------- */

static void futex_wait(atomic_uint *word, unsigned expected) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL);
}

static void futex_wake(atomic_uint *word, int count) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count);
}

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

static unsigned wait_for_loop(unsigned seen) {
  for (int i = 0; i < pool.spins; ++i) {
    unsigned epoch = atomic_load_explicit(&pool.epoch, memory_order_acquire);
    if (epoch != seen)
      return epoch;
    relax();
  }
  /* Sequential consistency: either the caller sees a sleeper, or the kernel
   * sees the new number and does not put it to sleep. */
  atomic_fetch_add(&pool.sleepers, 1);
  unsigned epoch;
  while ((epoch = atomic_load(&pool.epoch)) == seen)
    futex_wait(&pool.epoch, seen);
  atomic_fetch_sub(&pool.sleepers, 1);
  return epoch;
}

static void wait_for_workers(void) {
  for (int i = 0; i < pool.spins; ++i) {
    if (!atomic_load_explicit(&pool.gate, memory_order_acquire))
      return;
    relax();
  }
  unsigned inside = atomic_fetch_or(&pool.gate, GATE_AWAITED) | GATE_AWAITED;
  while (inside != GATE_AWAITED) {
    futex_wait(&pool.gate, inside);
    inside = atomic_load_explicit(&pool.gate, memory_order_acquire);
  }
  atomic_fetch_and(&pool.gate, ~GATE_AWAITED);
}

/* ---- Working ------------------------------------------------------------- */

/* Takes pieces until there is none. Whoever takes its first one wakes two
 * more workers if there is work for them: all are awake after a logarithm of
 * steps, and none for nothing. */
static void take_part(kvrt_loop *loop) {
  int is_first = 1;
  for (;;) {
    uint64_t begin = atomic_fetch_add_explicit(&loop->next, loop->piece,
                                               memory_order_relaxed);
    if (begin >= loop->count)
      return;
    uint64_t left = loop->count - begin;
    uint64_t end = begin + (left < loop->piece ? left : loop->piece);
    if (is_first && end < loop->count && atomic_load(&pool.sleepers))
      futex_wake(&pool.epoch, loop->count - end > loop->piece ? 2 : 1);
    is_first = 0;
    for (uint64_t i = begin; i < end; ++i)
      loop->body(loop->argument, (int64_t)i);
  }
}

static void *work(void *unused) {
  (void)unused;
  for (unsigned seen = 0;;) {
    seen = wait_for_loop(seen);
    unsigned before =
        atomic_fetch_add_explicit(&pool.gate, 1, memory_order_acquire);
    if (before & GATE_OPEN) {
      kvrt_loop *loop = pool.loop;
      *kvrt_current() = loop->start;
      take_part(loop);
    }
    before = atomic_fetch_sub_explicit(&pool.gate, 1, memory_order_release);
    if (before == (GATE_AWAITED | 1u))
      futex_wake(&pool.gate, 1);
  }
  return NULL;
}

/* ---- The pool ------------------------------------------------------------ */

static int usable_cpus(void) {
  unsigned long mask[128] = {0}; /* 8192 CPUs */
  int count = 0;
  if (sched_getaffinity(0, sizeof mask, (cpu_set_t *)mask))
    return 1;
  for (size_t i = 0; i < sizeof mask / sizeof *mask; ++i)
    for (unsigned long word = mask[i]; word; word &= word - 1)
      ++count;
  return count;
}

static atomic_int set_count; /* by the host; 0: it did not */

void kvrt_set_thread_count(int64_t count) {
  int number = count < 0 ? 0 : count > MAX_THREADS ? MAX_THREADS : (int)count;
  atomic_store_explicit(&set_count, number, memory_order_relaxed);
}

/* The number that the host has set, or that in KVRT_NUM_THREADS; 0 if there is
 * none. */
static int requested_threads(void) {
  const char *text = getenv("KVRT_NUM_THREADS");
  int number = atomic_load_explicit(&set_count, memory_order_relaxed);
  if (number)
    return number;
  if (!text || !*text)
    return 0;
  for (; *text; ++text) {
    if (*text < '0' || *text > '9')
      return 0;
    if (number <= MAX_THREADS)
      number = 10 * number + (*text - '0');
  }
  return number < MAX_THREADS ? number : MAX_THREADS;
}

/* A child process has none of the threads, and perhaps a copy of a pool that
 * was at work. */
static void forget_threads(void) {
  atomic_store(&pool.epoch, 0);
  atomic_store(&pool.sleepers, 0);
  atomic_store(&pool.gate, 0);
  atomic_store(&pool.threads, 0);
  atomic_store(&pool.taken, 0);
}

/* What pthread_atfork calls; that one is in a static part of the C library,
 * which artefacts do not link. */
int __register_atfork(void (*prepare)(void), void (*parent)(void),
                      void (*child)(void), void *library);

/* With the pool taken. */
static int start_threads(void) {
  int cpus = usable_cpus();
  int wanted = requested_threads();
  if (!wanted)
    wanted = cpus < MAX_DEFAULT_THREADS ? cpus : MAX_DEFAULT_THREADS;
  if (!pool.fork_is_handled && wanted > 1) {
    if (__register_atfork(NULL, NULL, forget_threads, NULL))
      wanted = 1;
    pool.fork_is_handled = 1;
  }
  /* Where threads share a CPU, spinning keeps the others from their work. */
  pool.spins = wanted <= cpus ? SPINS : 0;
  /* Signals belong to the threads of the host. */
  sigset_t all, before;
  memset(&all, 0xff, sizeof all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int threads = 1;
  for (; threads < wanted; ++threads) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, NULL))
      break; /* as many as the system gives */
    pthread_detach(thread);
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  atomic_store_explicit(&pool.threads, threads, memory_order_relaxed);
  return threads;
}

static void leave_pool(void) {
  atomic_store_explicit(&pool.taken, 0, memory_order_release);
}

/* The number of threads; 1 if there are no others, or another call has them.
 * If it is more, the pool is taken. */
static int take_pool(void) {
  int threads = atomic_load_explicit(&pool.threads, memory_order_relaxed);
  if (threads == 1 || atomic_load_explicit(&pool.taken, memory_order_relaxed) ||
      atomic_exchange_explicit(&pool.taken, 1, memory_order_acquire))
    return 1;
  threads = atomic_load_explicit(&pool.threads, memory_order_relaxed);
  if (!threads)
    threads = start_threads();
  if (threads == 1)
    leave_pool();
  return threads;
}

static void run_on_pool(kvrt_loop *loop, int threads) {
  loop->piece = loop->count / (uint64_t)(threads * PIECES_PER_THREAD);
  if (!loop->piece)
    loop->piece = 1;
  pool.loop = loop;
  atomic_fetch_or_explicit(&pool.gate, GATE_OPEN, memory_order_release);
  atomic_fetch_add(&pool.epoch, 1);
  take_part(loop);
  atomic_fetch_and_explicit(&pool.gate, ~GATE_OPEN, memory_order_relaxed);
  wait_for_workers();
  leave_pool();
}

/* ---- Threads of the host ------------------------------------------------- */

void kvrt_set_parallel_for(kv_parallel_for *run, void *user) {
  atomic_store_explicit(&hook_user, user, memory_order_relaxed);
  atomic_store_explicit(&hook, run, memory_order_release);
}

/* The thread may be in the middle of another call, if the scheduler of the host
 * gives work to threads that wait. */
static void run_index(void *argument, int64_t index) {
  kvrt_loop *loop = argument;
  kvrt_context *context = kvrt_current();
  if (context->loop == loop) {
    loop->body(loop->argument, index);
    return;
  }
  kvrt_context own = *context;
  *context = loop->start;
  loop->body(loop->argument, index);
  *context = own;
}

/* ---- The entry ----------------------------------------------------------- */

static void begin_loop(kvrt_loop *loop, int64_t count,
                       void (*body)(void *argument, int64_t index),
                       void *argument) {
  kvrt_context *context = kvrt_current();
  loop->body = body;
  loop->argument = argument;
  loop->count = (uint64_t)count;
  atomic_init(&loop->next, 0);
  atomic_init(&loop->status, 0);
  context->loop = loop;
  loop->start = *context;
}

int64_t kvrt_thread_count(void) {
  static atomic_int known;
  int set = atomic_load_explicit(&set_count, memory_order_relaxed);
  /* In a loop there is one. A scheduler of the host may have any number. */
  if (atomic_load_explicit(&hook, memory_order_acquire))
    return set ? set : MAX_DEFAULT_THREADS;
  if (kvrt_current()->loop)
    return 1;
  if (set)
    return set;
  int threads = atomic_load_explicit(&known, memory_order_relaxed);
  if (!threads) {
    int cpus = usable_cpus();
    threads = requested_threads();
    if (!threads)
      threads = cpus < MAX_DEFAULT_THREADS ? cpus : MAX_DEFAULT_THREADS;
    atomic_store_explicit(&known, threads, memory_order_relaxed);
  }
  return threads;
}

void kvrt_parallel_for(int64_t count,
                       void (*body)(void *argument, int64_t index),
                       void *argument) {
  kvrt_context *context = kvrt_current();
  /* A call that has failed already keeps its message. */
  if (count > 1 && !context->loop && !context->status) {
    kv_parallel_for *run = atomic_load_explicit(&hook, memory_order_acquire);
    int threads = run ? 0 : take_pool();
    if (threads != 1) {
      kvrt_loop loop;
      begin_loop(&loop, count, body, argument);
      if (run)
        run(atomic_load_explicit(&hook_user, memory_order_relaxed), count,
            run_index, &loop);
      else
        run_on_pool(&loop, threads);
      *context = loop.start;
      kvrt_end_loop(&loop);
      return;
    }
  }
  for (int64_t i = 0; i < count; ++i)
    body(argument, i);
}
