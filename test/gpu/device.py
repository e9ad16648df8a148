# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Libraries for a GPU, called on one: what stands in for kvtest in the tests
that run on a CPU as well.

Buffers of the host are copied to the device before a call and back after it,
each between canaries; what a type says is in host memory gets pinned memory. A
bundle has no compiler: a library is found by the text of its program.
"""

import hashlib
from pathlib import Path

import cudadrv
import kvtest
import numpy as np

HERE = Path(__file__).resolve().parent
IMAGE = "cubin"  # or ptx
# What differs from a CPU.
REPORTS_SELECTION = False
HAS_ATTENTION = False

GUARD = 512  # bytes on both sides of a buffer
_copies = {}
_stream = None


def program_name(text):
    return "p" + hashlib.sha1(text.encode()).hexdigest()[:16]


class _Copy:
    """Storage of the host, and its copy for the device between canaries."""

    def __init__(self, storage, pinned):
        self.storage = storage.reshape(-1).view(np.uint8)
        nbytes = self.storage.nbytes + 2 * GUARD
        self.pinned = cudadrv.PinnedBuffer(nbytes) if pinned else None
        self.buffer = None if pinned else cudadrv.Buffer(nbytes)
        self.pointer = (self.pinned or self.buffer).pointer + GUARD
        raw = np.full(nbytes, 0xA5, np.uint8)
        raw[GUARD : GUARD + self.storage.nbytes] = self.storage
        if pinned:
            self.pinned.array[:] = raw
        else:
            self.buffer.write(raw)

    def back(self):
        if self.pinned:
            raw = self.pinned.array.copy()
        else:
            raw = np.empty(self.buffer.nbytes, np.uint8)
            self.buffer.read(raw)
        end = GUARD + self.storage.nbytes
        assert (raw[:GUARD] == 0xA5).all() and (raw[end:] == 0xA5).all(), (
            "a canary was overwritten")
        self.storage[:] = raw[GUARD:end]


class Tensor(kvtest.Tensor):
    def __init__(self, storage, *args, **kwargs):
        kwargs.setdefault("device", kvtest.CUDA_DEVICE)
        super().__init__(storage, *args, **kwargs)
        pinned = self.dl.device_type == kvtest.CUDA_HOST
        key = storage.ctypes.data, pinned
        if key not in _copies:
            _copies[key] = _Copy(storage, pinned)
        self.dl.data = (_copies[key].pointer
                        + self.offset * storage.itemsize)


# What a workspace keeps from call to call: zero before the first one.
STATE = 8192


class Workspace:
    """Memory that many calls are given in turn. Zero at first."""

    def __init__(self, nbytes):
        self.nbytes = nbytes
        self.buffer = cudadrv.Buffer(nbytes + 2 * GUARD)
        self.buffer.fill(0)
        self.pointer = self.buffer.pointer + GUARD

    def read(self, nbytes):
        raw = np.empty(GUARD + nbytes, np.uint8)
        self.buffer.read(raw)
        return raw[GUARD:]

    def write(self, raw):
        self.buffer.write(np.ascontiguousarray(raw), GUARD)


class Library(kvtest.Library):
    KEEPS_STATE = False
    state = None

    def run(self, function, *args, poison=0xFF):
        size = self.workspace_size(function, *args)
        assert size >= 0, f"{function}: {self.last_error()}"
        bytes_ = np.full(size, poison, np.uint8)
        if self.KEEPS_STATE and size >= STATE:
            bytes_[:STATE] = 0 if self.state is None else self.state[:size]
            self.state = bytes_[:STATE]
        workspace = _Copy(bytes_, False)
        # 256-byte alignment: canaries are two of them.
        assert workspace.pointer % 256 == 0 or not size
        code = self.call(function, *args, workspace_pointer=workspace.pointer,
                         workspace_bytes=size, stream=_stream.value)
        _stream.synchronize()
        workspace.back()
        self._finish(function, code)
        return size


    def run_in(self, workspace, function, *args):
        """A call in a workspace that others use as well."""
        size = self.workspace_size(function, *args)
        assert 0 <= size <= workspace.nbytes, f"{function}: {self.last_error()}"
        code = self.call(function, *args, workspace_pointer=workspace.pointer,
                         workspace_bytes=workspace.nbytes, stream=_stream.value)
        _stream.synchronize()
        self._finish(function, code)

    def _finish(self, function, code):
        for copy in _copies.values():
            copy.back()
        _copies.clear()
        assert code == kvtest.OK, f"{function}: error {code}: " + (
            self.last_error())


def compile_library(program, *_):
    global _stream
    _stream = _stream or cudadrv.Stream()
    name = program_name(program)
    return Library(HERE / "lib" / IMAGE / f"lib{name}.so", name)
