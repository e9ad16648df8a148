# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Parallel loops of compiled programs, on the pool and on threads of the host.

KVRT_NUM_THREADS is read once, so each number has a process of its own: this
file, called again with the part to run and the library.
"""

import _ctypes
import ctypes
import os
import subprocess
import sys
import threading
import time

import numpy as np
from kvtest import BOUNDS, Guarded, Library, Tensor, aligned
from kvtest import compile_library, random_storage

CACHE = "!kvcache.cache<?B x 4N x 2H x 8D x f32>"
BLOCK = 4 * 2 * 8  # elements
SLOTS = "!kvcache.slots<?T x i64, rows_per_block = 4, pad = skip_negative>"
ROWS = "memref<?x2x8xf32>"
SEQUENTIAL = """
func.func @sequential(%x: memref<?xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %one = arith.constant 1.0 : f32
  %n = memref.dim %x, %c0 : memref<?xf32>
  scf.for %i = %c0 to %n step %c1 {
    memref.store %one, %x[%i] : memref<?xf32>
  }
  return
}
"""
PROGRAM = f"""
// Two dimensions, captured scalars and memrefs with strides.
func.func @axpy(%y: memref<?x?xf32, strided<[?, 1]>>,
                %x: memref<?x?xf32, strided<[?, 1]>>, %a: f32) {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %n = memref.dim %y, %c0 : memref<?x?xf32, strided<[?, 1]>>
  %m = memref.dim %y, %c1 : memref<?x?xf32, strided<[?, 1]>>
  scf.parallel (%i, %j) = (%c0, %c0) to (%n, %m) step (%c1, %c1) {{
    %0 = memref.load %x[%i, %j] : memref<?x?xf32, strided<[?, 1]>>
    %1 = memref.load %y[%i, %j] : memref<?x?xf32, strided<[?, 1]>>
    %2 = arith.mulf %a, %0 : f32
    %3 = arith.addf %1, %2 : f32
    memref.store %3, %y[%i, %j] : memref<?x?xf32, strided<[?, 1]>>
  }}
  return
}}
// Every index once: lower bounds, steps, three dimensions.
func.func @steps(%x: memref<?x5x?xi64>, %lower: index, %upper: index,
                 %step: index) {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %one = arith.constant 1 : i64
  %m = memref.dim %x, %c2 : memref<?x5x?xi64>
  scf.parallel (%i, %j, %k) = (%lower, %c1, %c0) to (%upper, %c5, %m)
      step (%step, %c2, %c1) {{
    %0 = memref.load %x[%i, %j, %k] : memref<?x5x?xi64>
    %1 = arith.addi %0, %one : i64
    memref.store %1, %x[%i, %j, %k] : memref<?x5x?xi64>
  }}
  return
}}
// A vector goes over, a buffer on the stack stays; a reduction inside.
func.func @rows(%y: memref<?xf32>, %x: memref<?x8xf32>) {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  %zero = arith.constant 0.0 : f32
  %n = memref.dim %x, %c0 : memref<?x8xf32>
  %first = vector.load %x[%c0, %c0] : memref<?x8xf32>, vector<8xf32>
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {{
    %own = memref.alloca() : memref<8xf32>
    %row = vector.load %x[%i, %c0] : memref<?x8xf32>, vector<8xf32>
    %product = arith.mulf %row, %first : vector<8xf32>
    vector.store %product, %own[%c0] : memref<8xf32>, vector<8xf32>
    %sum = scf.parallel (%j) = (%c0) to (%c8) step (%c1) init (%zero) -> f32 {{
      %0 = memref.load %own[%j] : memref<8xf32>
      scf.reduce(%0 : f32) {{
      ^bb0(%a: f32, %b: f32):
        %1 = arith.addf %a, %b : f32
        scf.reduce.return %1 : f32
      }}
    }}
    memref.store %sum, %y[%i] : memref<?xf32>
  }}
  return
}}
// Each index makes a view of its own, which may leave the buffer.
func.func @views(%bytes: memref<?xi8>, %slots: memref<?xi64>, %rows: {ROWS},
                 %n: index, %step: index) {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {{
    %offset = arith.muli %i, %step : index
    %pool = kvcache.view %bytes offset(%offset) extents(B = %c1)
      : memref<?xi8> to {CACHE}
    %where = kvcache.make_slots %slots : memref<?xi64> to {SLOTS}
    kvcache.index_copy %rows into %pool at %where
      : {ROWS} into {CACHE} at {SLOTS}
  }}
  return
}}
{SEQUENTIAL}
"""


def threads_of_process():
    return len(os.listdir("/proc/self/task"))


def settled_threads(expected):
    """Threads are listed a moment before and after they are."""
    for _ in range(200):
        if threads_of_process() == expected:
            break
        time.sleep(0.01)
    return threads_of_process()


def is_mapped(path):
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return str(path) in maps.read()


def tensor(values, element_type, shape, strides=None):
    buffer = Guarded(values)
    return buffer, Tensor(buffer.inside, element_type, shape, strides)


def check_axpy(library, rng, n, m):
    y, y_tensor = tensor(random_storage(rng, n * (m + 3), "f32"), "f32",
                         [n, m], [m + 3, 1])
    x, x_tensor = tensor(random_storage(rng, n * (m + 1), "f32"), "f32",
                         [n, m], [m + 1, 1])
    expected = Tensor(y.inside.copy(), "f32", [n, m], [m + 3, 1])
    a = np.float32(1.5)
    expected.view()[...] += a * x_tensor.view()
    library.check_call("axpy", y_tensor, x_tensor, float(a))
    # No contraction: each product is rounded, as in NumPy.
    assert np.array_equal(y.inside, expected.storage), (n, m)
    y.check("axpy")
    x.check("axpy")


def check_steps(library, n, m, lower, upper, step):
    x, x_tensor = tensor(np.zeros(n * 5 * m, np.int64), "i64", [n, 5, m])
    library.check_call("steps", x_tensor, lower, upper, step)
    expected = np.zeros([n, 5, m], np.int64)
    expected[lower : max(lower, upper) : step, 1::2] += 1
    assert np.array_equal(x_tensor.view(), expected), (lower, upper, step)
    x.check("steps")


def check_rows(library, rng, n):
    # Small integers: sums are exact in any order.
    values = rng.integers(-9, 9, n * 8).astype(np.float32)
    x, x_tensor = tensor(values, "f32", [n, 8])
    y, y_tensor = tensor(np.zeros(n, np.float32), "f32", [n])
    library.check_call("rows", y_tensor, x_tensor)
    assert np.array_equal(y.inside, x_tensor.view() @ x_tensor.view()[0])
    y.check("rows")


class Views:
    def __init__(self, rng, count):
        self.count = count
        self.bytes = Guarded(np.zeros(count * BLOCK * 4, np.uint8).view(np.int8))
        slots = aligned(4, np.int64)
        slots[:] = [2, -1, 0, 3]
        rows = aligned(4 * 16, np.float32)
        rows[:] = random_storage(rng, 64, "f32")
        self.rows = rows
        self.args = [Tensor(self.bytes.inside, "i8", [count * BLOCK * 4]),
                     Tensor(slots, "i64", [4]), Tensor(rows, "f32", [4, 2, 8])]

    def check(self, library):
        library.check_call("views", *self.args, self.count, BLOCK * 4)
        got = self.bytes.inside.view(np.float32).reshape(self.count, 4, 16)
        rows = self.rows.reshape(4, 16)
        assert np.all(got[:, 2] == rows[0]) and np.all(got[:, 0] == rows[2])
        assert np.all(got[:, 3] == rows[3]) and np.all(got[:, 1] == 0)
        self.bytes.check("views")

    def check_error(self, library):
        """The last index leaves the buffer, on whichever thread it is."""
        library.expect_error(
            BOUNDS, "views: argument 'bytes': expected a view within "
            f"{self.count * BLOCK * 4} bytes", "views", *self.args,
            self.count + 1, BLOCK * 4)
        self.bytes.check("views")


def check_all(library, rng):
    for n, m in ((0, 5), (1, 1), (1, 7), (3, 0), (3, 5), (64, 33)):
        check_axpy(library, rng, n, m)
    for bounds in ((0, 9, 1), (2, 9, 3), (3, 3, 1), (5, 2, 1), (0, 8, 20)):
        check_steps(library, 9, 4, *bounds)
    for n in (1, 2, 100):
        check_rows(library, rng, n)
    for count in (2, 30):
        views = Views(rng, count)
        views.check(library)
        for _ in range(20):
            views.check_error(library)
        views.check(library)
        assert library.last_error() == ""


def from_several_threads(library, times):
    failures = []

    def work(seed):
        rng = np.random.default_rng(seed)
        try:
            for _ in range(times):
                check_axpy(library, rng, 20, 11)
                check_rows(library, rng, 33)
                views = Views(rng, 9)
                views.check_error(library)
                views.check(library)
        except BaseException as error:  # pylint: disable=broad-except
            failures.append(error)

    threads = [threading.Thread(target=work, args=[i]) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def in_child(work):
    """Runs a function in a fork of this process, and expects it to end well."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    for _ in range(3000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, status
            return
        time.sleep(0.01)
    os.kill(child, 9)
    raise AssertionError("a child does not come to its end")


def part_pool(library, workers):
    """The number of threads, and results on them."""
    before = threads_of_process()
    rng = np.random.default_rng(workers)
    check_axpy(library, rng, 1, 1)
    assert threads_of_process() == before, "one index needs no thread"
    check_all(library, rng)
    assert settled_threads(before + workers) == before + workers
    from_several_threads(library, 20)
    assert settled_threads(before + workers) == before + workers

    # An idle pool uses no time.
    time.sleep(0.05)
    start = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - start < 0.1, "idle threads work"


def part_fork(library, workers):
    rng = np.random.default_rng(5)
    check_all(library, rng)

    def child():
        assert threads_of_process() == 1
        check_all(library, rng)
        assert settled_threads(1 + workers) == 1 + workers
        in_child(lambda: check_all(library, rng))

    in_child(child)
    check_all(library, rng)

    # In the middle of loops of another thread.
    stop = threading.Event()

    def work():
        mine = np.random.default_rng(6)
        while not stop.is_set():
            check_axpy(library, mine, 20, 11)

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(20):
        in_child(lambda: check_axpy(library, rng, 20, 11))
    stop.set()
    thread.join()


def part_hook(library, workers):
    body_type = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
    run_type = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64,
                                ctypes.c_void_p, ctypes.c_void_p)
    calls = []

    def run(user, count, body, context):
        calls.append((user, count))
        body = body_type(body)

        def share(first):
            for i in range(first, count, 2):
                body(context, i)

        thread = threading.Thread(target=share, args=[1])
        thread.start()
        share(0)
        thread.join()

    keep = run_type(run)
    install = getattr(library.handle, f"kv1_{library.name}_set_parallel_for")
    install.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    install.restype = None
    before = threads_of_process()
    rng = np.random.default_rng(7)
    install(ctypes.cast(keep, ctypes.c_void_p), 42)
    check_all(library, rng)
    assert len(calls) > 40 and all(user == 42 for user, _ in calls), calls
    assert all(count > 1 for _, count in calls), calls
    assert settled_threads(before) == before, "the pool is not needed"
    from_several_threads(library, 2)
    install(None, None)
    calls.clear()
    check_all(library, rng)
    assert not calls
    assert settled_threads(before + workers) == before + workers


def part_reopen(library, workers):
    before = threads_of_process()
    rng = np.random.default_rng(8)
    for _ in range(3):
        check_all(library, rng)
        assert settled_threads(before + workers) == before + workers
        _ctypes.dlclose(library.handle._handle)
        assert is_mapped(library.path), "its threads need it"
        library = Library(library.path, library.name)


def part_sequential(library, _workers):
    """Nothing of this is there without parallel loops."""
    before = threads_of_process()
    x = aligned(100, np.float32)
    library.check_call("sequential", Tensor(x, "f32", [100]))
    assert np.all(x == 1) and threads_of_process() == before
    path = library.path
    _ctypes.dlclose(library.handle._handle)
    assert not is_mapped(path)


if len(sys.argv) > 1:
    # Called again: the threads of NumPy and of Python are there already.
    part, path, name, count = sys.argv[1:]
    globals()[f"part_{part}"](Library(path, name), int(count) - 1)
    sys.exit(0)


def run_part(part, library, count):
    result = subprocess.run(
        [sys.executable, __file__, part, str(library.path), library.name,
         str(count)], env=dict(os.environ, KVRT_NUM_THREADS=str(count)),
        text=True, capture_output=True)
    assert result.returncode == 0, (part, count, result.stderr)


program = compile_library(PROGRAM, "loops")
for threads in (1, 2, 5):
    for name in ("pool", "fork", "hook", "reopen"):
        run_part(name, program, threads)
run_part("sequential", compile_library(SEQUENTIAL, "plain"), 5)
print("parallel loops are right")
