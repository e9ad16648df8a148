# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compile programs and call them through the C ABI, with nothing but ctypes.

Buffers are flat NumPy arrays of raw storage (bf16 is kept as uint16); a Tensor
is a view of one with a declared element type, shape, strides and offset, all in
elements, as a caller in C would describe it.
"""

import ctypes
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from ref_elements import encode

KV_COMPILE = os.environ.get("KV_COMPILE", "kv-compile")

# Codes of kv_abi.h, written down again on purpose: they are a promise.
OK, NULL, TYPE, SHAPE, STRIDE, ALIGNMENT, DEVICE = range(7)
WORKSPACE, BOUNDS, CPU, CUDA, ARGUMENTS, ENTRY = range(7, 13)

CPU_DEVICE, CUDA_DEVICE, CUDA_HOST = 1, 2, 3
# element type -> (DLPack code, bits, storage)
TYPES = {
    "i32": (0, 32, np.int32),
    "i64": (0, 64, np.int64),
    "i8": (0, 8, np.int8),
    "f16": (2, 16, np.float16),
    "f32": (2, 32, np.float32),
    "f64": (2, 64, np.float64),
    "bf16": (4, 16, np.uint16),
    "f8E4M3FN": (10, 8, np.uint8),
    "f8E5M2": (12, 8, np.int8),
}


def fails(error, function, *args):
    try:
        function(*args)
    except error:
        return True
    return False


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


def compact_strides(shape, order=None):
    """Strides of a packed array; `order` lists dimensions slowest first."""
    strides = [0] * len(shape)
    step = 1
    for dim in reversed(order or range(len(shape))):
        strides[dim] = step
        step *= shape[dim]
    return strides


def random_storage(rng, count, element_type):
    """Random bits that are finite numbers, so that any mix-up shows."""
    storage = TYPES[element_type][2]
    if element_type in ("f8E4M3FN", "f8E5M2"):
        return encode(rng.standard_normal(count), element_type)
    if element_type == "bf16":
        values = rng.standard_normal(count).astype(np.float32)
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    return rng.standard_normal(count).astype(storage)


def aligned(count, storage, align=256):
    """An uninitialised array whose first element is aligned."""
    itemsize = np.dtype(storage).itemsize
    raw = np.empty(count * itemsize + align, np.uint8)
    start = -raw.ctypes.data % align
    return raw[start : start + count * itemsize].view(storage)


class Guarded:
    """A buffer with canaries on both sides."""

    GUARD = 256  # elements

    def __init__(self, values):
        self.count = len(values)
        self.whole = aligned(self.count + 2 * self.GUARD, values.dtype)
        self.whole.view(np.uint8)[:] = 0xA5
        self.inside[:] = values
        self.expected_edges = self._edges().copy()

    @property
    def inside(self):
        return self.whole[self.GUARD : self.GUARD + self.count]

    def _edges(self):
        return np.concatenate(
            [self.whole[: self.GUARD], self.whole[self.GUARD + self.count :]]
        ).view(np.uint8)

    def check(self, what):
        assert np.array_equal(self._edges(), self.expected_edges), (
            f"{what}: memory outside of the buffer was written"
        )


class Tensor:
    def __init__(self, storage, element_type, shape, strides=None, offset=0,
                 device=CPU_DEVICE, device_id=0, null_data=False,
                 null_strides=False, byte_offset=0):
        self.storage = storage
        self.element_type = element_type
        self.shape = list(shape)
        self.strides = list(strides) if strides else compact_strides(shape)
        self.offset = offset
        code, bits, _ = TYPES[element_type]
        self._shape = (ctypes.c_int64 * max(1, len(shape)))(*self.shape)
        self._strides = (ctypes.c_int64 * max(1, len(shape)))(*self.strides)
        address = storage.ctypes.data + offset * storage.itemsize - byte_offset
        self.dl = DLTensor(
            None if null_data else address, device, device_id, len(shape),
            code, bits, 1, self._shape,
            None if null_strides else self._strides, byte_offset)

    def pointer(self):
        return ctypes.byref(self.dl)

    def view(self):
        """The elements as a NumPy array that shares the storage."""
        return np.lib.stride_tricks.as_strided(
            self.storage[self.offset :], self.shape,
            [s * self.storage.itemsize for s in self.strides])


class Library:
    def __init__(self, path, name):
        self.path = Path(path)
        self.name = name
        self.handle = ctypes.CDLL(str(path))
        self._last_error = getattr(self.handle, f"kv1_{name}_last_error")
        self._last_error.restype = ctypes.c_char_p
        self._check = getattr(self.handle, f"kv1_{name}_check")
        self._check.restype = ctypes.c_int32

    def last_error(self):
        return self._last_error().decode(errors="backslashreplace")

    def manifest(self):
        get = getattr(self.handle, f"kv1_{self.name}_manifest")
        get.restype = ctypes.c_char_p
        return get().decode()

    def check(self, stream=None):
        """The code of what kernels found; `last_error` has the message."""
        return self._check(ctypes.c_void_p(stream))

    @staticmethod
    def _pack(arg):
        if arg is None:
            return ctypes.c_void_p(None)
        if isinstance(arg, Tensor):
            return arg.pointer()
        if isinstance(arg, float):
            return ctypes.c_double(arg)
        return ctypes.c_int64(arg)

    def workspace_size(self, function, *args):
        entry = getattr(self.handle, f"kv1_{function}_workspace_size")
        entry.restype = ctypes.c_int64
        return entry(*map(self._pack, args))

    def call(self, function, *args, workspace=None, stream=None,
             workspace_pointer=None, workspace_bytes=0):
        """The error code; `last_error` has the message. The workspace is an
        array, or a pointer to memory elsewhere."""
        entry = getattr(self.handle, f"kv1_{function}")
        entry.restype = ctypes.c_int32
        if workspace is not None:
            workspace_pointer = workspace.ctypes.data
            workspace_bytes = workspace.nbytes
        return entry(*map(self._pack, args),
                     ctypes.c_void_p(workspace_pointer),
                     ctypes.c_int64(workspace_bytes), ctypes.c_void_p(stream))

    def check_call(self, function, *args, **kwargs):
        code = self.call(function, *args, **kwargs)
        assert code == OK, f"{function}: error {code}: {self.last_error()}"

    def run(self, function, *args, poison=0xFF):
        """A call that works, in a workspace of just the size that it asks for,
        full of a byte, between canaries. Gives the size."""
        size = self.workspace_size(function, *args)
        assert size >= 0, f"{function}: {self.last_error()}"
        workspace = Guarded(np.full(size, poison, np.uint8))
        # NumPy says of an empty array that it lies anywhere.
        self.check_call(function, *args,
                        workspace=workspace.inside if size else None)
        workspace.check(f"{function}: workspace")
        return size

    def expect_error(self, code, message, function, *args, **kwargs):
        """The call fails with a code and a message that contains a text."""
        got = self.call(function, *args, **kwargs)
        text = self.last_error()
        assert got == code, f"expected code {code}, got {got}: {text}"
        assert message in text, f"expected '{message}' in '{text}'"


_folder = tempfile.TemporaryDirectory(prefix="kvtest-")


def compile_library(program, name="program", target="cpu", *flags):
    """Compile the text of a program to a library and load it."""
    path = Path(_folder.name) / f"lib{name}.so"
    result = subprocess.run(
        [KV_COMPILE, "-", f"--target={target}", "-o", str(path), *flags],
        input=program, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    return Library(path, name)
