# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Libraries for a GPU, called where there is none: the driver is that of
fake_driver.c, and kernels are interpreted.

Import it before a library is called. Buffers of tensors are the only memory
that kernels can touch, and nothing around them.
"""

import ctypes
import os
import subprocess
import tempfile
import traceback
from pathlib import Path

import kvtest
import numpy as np
import ptx

HERE = Path(__file__).resolve().parent
# What differs from a CPU, for the tests that run on both.
REPORTS_SELECTION = False
HAS_ATTENTION = False

memory = ptx.Memory()
launches = []  # (kernel, grid, block) of each launch
copies = []  # of each call of the copy engine, (to, from, bytes) of each copy
skipped = ()  # beginnings of the names of kernels that are not run
_modules = {}
_errors = []
_pinned = []  # what the run time allocates: there for good


def _launch(code, name, dims, parameters):
    try:
        text = ctypes.string_at(code)
        if code not in _modules:
            _modules[code] = ptx.parse(text.decode())
        kernel = _modules[code][name.decode()]
        grid, block = tuple(dims[0:3]), tuple(dims[3:6])
        values = {}
        for number, (parameter, nbytes) in enumerate(kernel.parameters):
            raw = ctypes.string_at(parameters[number], nbytes)
            values[parameter] = int.from_bytes(raw, "little")
        launches.append((kernel.name, grid, block))
        if kernel.name.startswith(tuple(skipped)):
            return 0
        ptx.launch(kernel, grid, block, values, memory)
        return 0
    except Exception as error:
        if not isinstance(error, ptx.PtxError):
            traceback.print_exc()
        _errors.append(error)
        return 700


def _copy(to, source, sizes, count):
    try:
        group = [(to[i], source[i], sizes[i]) for i in range(count)]
        copies.append(group)
        for target, origin, nbytes in group:
            for address in target, origin:
                memory.check(address, nbytes, "a copy")
            ctypes.memmove(target, origin, nbytes)
        return 0
    except Exception as error:
        _errors.append(error)
        return 700


def _allocate(nbytes):
    array = kvtest.aligned(nbytes, np.uint8)
    array[:] = 0xA5
    _pinned.append(array)
    memory.add(array)
    return array.ctypes.data


_LAUNCH = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p,
                           ctypes.POINTER(ctypes.c_uint),
                           ctypes.POINTER(ctypes.c_void_p))
_COPY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_uint64),
                         ctypes.POINTER(ctypes.c_uint64),
                         ctypes.POINTER(ctypes.c_size_t), ctypes.c_size_t)
_PINNED = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t)
_functions = _LAUNCH(_launch), _COPY(_copy), _PINNED(_allocate)


def _load():
    # The run time's dlopen finds the library that is already there by its name.
    folder = tempfile.mkdtemp(prefix="kvptx-")
    path = os.path.join(folder, "libcuda.so.1")
    subprocess.run([os.environ.get("KV_CC", "cc"), "-O1", "-shared", "-fPIC",
                    "-Wl,-soname,libcuda.so.1", str(HERE / "fake_driver.c"),
                    "-o", path], check=True)
    driver = ctypes.CDLL(path)
    driver.fake_set_functions(*_functions)
    os.remove(path)
    os.rmdir(folder)
    return driver


_driver = _load()


class Tensor(kvtest.Tensor):
    """In memory that kernels may touch."""

    def __init__(self, storage, *args, **kwargs):
        kwargs.setdefault("device", kvtest.CUDA_DEVICE)
        super().__init__(storage, *args, **kwargs)
        memory.add(storage)


STATE_BYTES = 8192  # KV_WORKSPACE_STATE_BYTES


class Library:
    """As kvtest.Library, on the machine here."""

    def __init__(self, library):
        self._library = library

    def __getattr__(self, name):
        return getattr(self._library, name)

    def run(self, function, *args, poison=0xFF, stream=None):
        size = self._library.workspace_size(function, *args)
        assert size >= 0, f"{function}: {self.last_error()}"
        workspace = kvtest.Guarded(np.full(size, poison, np.uint8))
        for array in [workspace.inside, *_pinned]:
            memory.add(array)
        code = self._library.call(function, *args, workspace=workspace.inside,
                                  stream=stream)
        memory.clear()
        if _errors:
            raise _errors.pop()
        assert code == kvtest.OK, f"{function}: error {code}: " + (
            self.last_error())
        workspace.check(f"{function}: workspace")
        # What launches of attention keep there is left alone by all others.
        assert (workspace.inside[:STATE_BYTES] == poison).all(), (
            f"{function}: the state at the start of the workspace is written")
        return size


def compile_library(program, name="program", target="sm_90a", *flags):
    return Library(kvtest.compile_library(program, name, target,
                                          "--gpu-image=ptx", *flags))
