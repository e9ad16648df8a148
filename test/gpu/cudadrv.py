# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The few parts of the CUDA driver API that tests and benchmarks need.

Only ctypes and the driver: it runs where there is no toolkit and no framework.
"""

import ctypes

import numpy as np

_real = ctypes.CDLL("libcuda.so.1")


class CudaError(RuntimeError):
    pass


def _call(name, *args):
    result = getattr(_real, name)(*args)
    if result:
        text = ctypes.c_char_p()
        _real.cuGetErrorString(result, ctypes.byref(text))
        raise CudaError(f"{name}: {(text.value or b'?').decode()} ({result})")


def _out(name, *args, kind=ctypes.c_void_p):
    value = kind()
    _call(name, ctypes.byref(value), *args)
    return value


_call("cuInit", 0)


class Device:
    """A device with its primary context current."""

    def __init__(self, ordinal=0):
        self.ordinal = ordinal
        self.handle = _out("cuDeviceGet", ordinal, kind=ctypes.c_int)
        context = _out("cuDevicePrimaryCtxRetain", self.handle)
        _call("cuCtxSetCurrent", context)
        name = ctypes.create_string_buffer(100)
        _call("cuDeviceGetName", name, 100, self.handle)
        self.name = name.value.decode()
        self.driver = _out("cuDriverGetVersion", kind=ctypes.c_int).value

    def synchronize(self):
        _call("cuCtxSynchronize")


class Buffer:
    """Device memory; freed with the object."""

    def __init__(self, nbytes):
        self.nbytes = nbytes
        pointer = _out("cuMemAlloc_v2", ctypes.c_size_t(max(1, nbytes)),
                       kind=ctypes.c_uint64)
        self.pointer = pointer.value

    def __del__(self):
        if getattr(self, "pointer", 0):
            _real.cuMemFree_v2(ctypes.c_uint64(self.pointer))

    def write(self, array, offset=0):
        assert offset + array.nbytes <= self.nbytes
        _call("cuMemcpyHtoD_v2", ctypes.c_uint64(self.pointer + offset),
              ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes))
        self._arrived()

    def read(self, array):
        assert array.nbytes <= self.nbytes
        _call("cuMemcpyDtoH_v2", ctypes.c_void_p(array.ctypes.data),
              ctypes.c_uint64(self.pointer), ctypes.c_size_t(array.nbytes))

    def fill(self, byte):
        _call("cuMemsetD8_v2", ctypes.c_uint64(self.pointer),
              ctypes.c_ubyte(byte), ctypes.c_size_t(self.nbytes))
        self._arrived()

    def _arrived(self):
        """Wait for stream 0. A copy from ordinary memory returns when it is
        staged, and streams of ours do not wait for what is on its way."""
        _call("cuStreamSynchronize", ctypes.c_void_p(0))


def copy(to, source, nbytes, stream):
    """Between any memories, without waiting."""
    _call("cuMemcpyAsync", ctypes.c_uint64(to), ctypes.c_uint64(source),
          ctypes.c_size_t(nbytes), stream.handle)


class PinnedBuffer:
    """Pinned host memory that the device can reach; freed with the object."""

    def __init__(self, nbytes):
        self.nbytes = nbytes
        # Of all contexts, and mapped.
        self.pointer = _out("cuMemHostAlloc", ctypes.c_size_t(max(1, nbytes)),
                            3).value
        raw = (ctypes.c_uint8 * nbytes).from_address(self.pointer)
        self.array = np.ctypeslib.as_array(raw)

    def __del__(self):
        if getattr(self, "pointer", 0):
            _real.cuMemFreeHost(ctypes.c_void_p(self.pointer))


class Stream:
    def __init__(self):
        self.handle = _out("cuStreamCreate", 1)  # does not wait for stream 0

    @property
    def value(self):
        return self.handle.value

    def synchronize(self):
        _call("cuStreamSynchronize", self.handle)

    def capture(self, body):
        """A graph of what `body` puts on this stream, ready to launch."""
        _call("cuStreamBeginCapture_v2", self.handle, 1)  # thread-local mode
        graph = ctypes.c_void_p()
        try:
            body()
        finally:
            _call("cuStreamEndCapture", self.handle, ctypes.byref(graph))
        return Graph(graph)


class Graph:
    def __init__(self, graph):
        self.executable = _out("cuGraphInstantiateWithFlags", graph,
                               ctypes.c_ulonglong(0))

    def launch(self, stream):
        _call("cuGraphLaunch", self.executable, stream.handle)


class Event:
    def __init__(self):
        self.handle = _out("cuEventCreate", 0)

    def record(self, stream):
        _call("cuEventRecord", self.handle, stream.handle)

    def microseconds_until(self, later):
        value = ctypes.c_float()
        _call("cuEventElapsedTime", ctypes.byref(value), self.handle,
              later.handle)
        return value.value * 1000


class Module:
    """Kernels from PTX text."""

    def __init__(self, ptx):
        self.handle = _out("cuModuleLoadData", ctypes.c_char_p(ptx.encode()))

    def kernel(self, name):
        function = ctypes.c_void_p()
        _call("cuModuleGetFunction", ctypes.byref(function), self.handle,
              ctypes.c_char_p(name.encode()))
        return function


def launch(function, grid, block, stream, *values):
    """Launch with 64-bit integer or pointer parameters."""
    slots = [ctypes.c_uint64(v) for v in values]
    parameters = (ctypes.c_void_p * len(slots))(
        *[ctypes.addressof(s) for s in slots])
    _call("cuLaunchKernel", function, grid, 1, 1, block, 1, 1, 0,
          stream.handle, parameters, None)


def graph_time(stream, call, calls=20, replays=9):
    """Median microseconds of one call; `call(i)` puts call number i on the
    stream, and they run back to back from one graph."""
    for i in range(3):
        call(i)
    stream.synchronize()

    def body():
        for i in range(calls):
            call(i)

    graph = stream.capture(body)
    begin, end = Event(), Event()
    times = []
    for replay in range(replays + 2):
        begin.record(stream)
        graph.launch(stream)
        end.record(stream)
        stream.synchronize()
        if replay >= 2:
            times.append(begin.microseconds_until(end) / calls)
    times.sort()
    return times[len(times) // 2]
