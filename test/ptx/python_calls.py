# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""The Python package calls functions for a GPU: the target of this machine,
streams, and workspaces, which are zeroed, one for each stream, and never freed.
"""

import ctypes
import os
import sys
import tempfile
from types import SimpleNamespace

import kvtest
import machine
import numpy as np

import kvcache
from kvcache import _cuda
from workspace_state import PROGRAM

driver = machine._driver
driver.fake_last_stream.restype = ctypes.c_void_p
folder = tempfile.TemporaryDirectory()
os.environ["KVCACHE_CACHE_DIR"] = folder.name


class Managed(ctypes.Structure):
    _fields_ = [("tensor", kvtest.DLTensor), ("context", ctypes.c_void_p),
                ("deleter", ctypes.c_void_p)]


new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype = ctypes.py_object
new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class Array:
    """An array in the memory of the GPU."""

    streams = []  # that consumers of arrays named
    kept = []

    def __init__(self, values, element_type, device=(2, 0)):
        self.values = values
        self.device = device
        self.tensor = kvtest.Tensor(values.ravel(), element_type, values.shape,
                                    device=device[0], device_id=device[1])

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, stream=None):  # of a library before DLPack 1.0
        Array.streams.append(stream)
        managed = Managed(tensor=self.tensor.dl)
        Array.kept.append((managed, self))
        return new_capsule(ctypes.addressof(managed), b"dltensor", None)


def case(count):
    """Arguments of `write`, and the pool after the call: the last `count`
    tokens of 20 are written."""
    rng = np.random.default_rng(count)
    pool = kvtest.random_storage(rng, 4 * 16 * 16, "f16").reshape(4, 16, 2, 8)
    rows = kvtest.random_storage(rng, count * 16, "f16").reshape(count, 2, 8)
    expected = pool.copy()
    for row, position in enumerate(range(20 - count, 20)):
        expected[(3, 1)[position // 16], position % 16] = rows[row]
    lists = [np.array(values, np.int32) for values in
             ([0, count], [20], [[3, 1]])]
    for array in (pool, rows, *lists):
        machine.memory.add(array)
    return (Array(pool, "f16"), *(Array(a, "i32") for a in lists),
            Array(rows, "f16")), pool, expected


def call(function, count):
    machine.memory.clear()
    for array in machine._pinned:
        machine.memory.add(array)
    arguments, pool, expected = case(count)
    Array.streams.clear()
    function(*arguments)
    if machine._errors:
        raise machine._errors.pop()
    assert np.array_equal(pool.view(np.uint16), expected.view(np.uint16))
    return driver.fake_last_stream() or 0


# ---- The GPU of this machine

for capability, target, image in [((9, 0), "sm_90a", "auto"),
                                  ((10, 0), "sm_100a", "auto"),
                                  ((8, 0), "sm_80", "auto"),
                                  ((8, 9), "sm_80", "ptx"),
                                  ((12, 0), "sm_80", "ptx")]:
    driver.fake_set_capability(*capability)
    assert _cuda.architecture() == (target, image), capability
driver.fake_set_capability(7, 5)
try:
    kvcache.compile(PROGRAM, target="cuda")
    raise AssertionError("expected an error")
except RuntimeError as error:
    assert str(error) == ("expected a GPU of compute capability 8.0 or newer, "
                          "got 7.5"), error
driver.fake_set_capability(12, 0)  # PTX, which the interpreter reads
library = kvcache.compile(PROGRAM, target="cuda")
assert library.manifest["target"] == "sm_80"
write = library.write

# ---- The default stream, and its workspace

assert call(write, 2) == 0
assert Array.streams == [1] * 5, Array.streams  # as DLPack counts
assert len(machine._pinned) == 1
space = machine._pinned[0]
assert space.nbytes == 2 * (machine.STATE_BYTES + 256), space.nbytes
# Zeroed, but for the slots that the call has there.
assert not space[:machine.STATE_BYTES].any()
assert not space[machine.STATE_BYTES + 256:].any()
assert call(write, 3) == 0 and len(machine._pinned) == 1

# ---- PyTorch's current stream, which has a workspace of its own

current = SimpleNamespace(cuda_stream=77)
sys.modules["torch"] = SimpleNamespace(cuda=SimpleNamespace(
    is_initialized=lambda: True, current_stream=lambda device: current))
assert call(write, 2) == 77
assert Array.streams == [77] * 5, Array.streams
assert len(machine._pinned) == 2
assert call(write, 4) == 77 and len(machine._pinned) == 2
# It grows; the old one stays, as graphs may have its address.
library = kvcache.compile(PROGRAM.replace(
    "memref.alloc(%n) : memref<?xi64>",
    "memref.alloc(%n) : memref<?xi64>\n"
    "  %more = arith.constant 4000 : index\n"
    "  %unused = memref.alloc(%more) : memref<?xi64>\n"
    "  kvcache.slot_mapping %batch into %unused : "
    "!kvcache.batch<?R x ?M x i32, tokens = 16> into memref<?xi64>"),
    target="cuda")
assert call(library.write, 2) == 77 and len(machine._pinned) == 3
assert call(write, 2) == 77 and len(machine._pinned) == 3
current.cuda_stream = 0
assert call(write, 2) == 0 and len(machine._pinned) == 3
# The first call on a stream may be captured: its workspace is zero before the
# graph runs.
current.cuda_stream = 79
driver.fake_set_capture(1)
assert call(write, 2) == 79 and len(machine._pinned) == 4
assert not machine._pinned[3][:machine.STATE_BYTES].any()
driver.fake_set_capture(0)
current.cuda_stream = 0

# JAX has streams that it does not tell: calls wait for theirs.
before = driver.fake_waits()
assert call(write, 2) == 0 and driver.fake_waits() == before
Array.__module__ = "jaxlib._jax"
assert call(write, 2) == 0 and driver.fake_waits() == before + 1
Array.__module__ = "__main__"

# ---- Checks of entries: by the next call, or by `check`

checked = kvcache.compile(PROGRAM, target="cuda", checks="full")
for by_check in (True, False):
    machine.memory.clear()
    (pool, *_, rows), _, _ = case(2)
    slots = np.array([5, 700])
    for array in (slots, *machine._pinned):
        machine.memory.add(array)
    arguments = (pool, Array(slots, "i64"), rows)
    checked.copy(*arguments)
    for array in machine._pinned:  # that call may have made the record
        machine.memory.add(array)
    try:
        if by_check:
            checked.check()
        else:
            checked.copy(*arguments)
        raise AssertionError("expected an error")
    except ValueError as error:
        assert "argument 'slots': expected a slot from 0 to 63" in str(error)
        assert str(error).endswith("at entry 1, got 700"), error
    checked.check()

# ---- Errors


def error(kind, function, *arguments):
    try:
        function(*arguments)
    except kind as raised:
        return str(raised)
    raise AssertionError("expected an error")


current.cuda_stream = 78
driver.fake_set_fault(b"cuMemAlloc", 2)
arguments, pool, expected = case(2)
text = error(RuntimeError, write, *arguments)
assert text == "the allocation of a workspace failed: out of memory", text
driver.fake_set_fault(b"cuMemset", 2)
driver.fake_freed.restype = ctypes.c_uint64
text = error(RuntimeError, write, *arguments)
assert text == "cuMemsetD8Async failed: out of memory", text
assert driver.fake_freed() == machine._pinned[-1].ctypes.data
assert call(write, 2) == 78
on_cpu = [Array(array.values, "f16", (1, 0)) for array in arguments]
text = error(ValueError, write, on_cpu[0], *arguments[1:])
assert text == ("write: argument 'pool': expected memory of CUDA (DLPack device "
                "type 2), got device type 1"), text
text = error(ValueError, write, on_cpu[0].values, *arguments[1:])
assert "got device type 1" in text, text
other = Array(arguments[4].values, "f16", (2, 1))
text = error(ValueError, write, *arguments[:4], other)
assert "expected device 0 as for the earlier arguments, got device 1" in text
