# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The few functions of the CUDA driver that Python needs, without a toolkit."""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from functools import lru_cache
from typing import Iterator

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_...
# The best architecture that kernels are compiled for, by compute capability.
_ARCHITECTURES = [((10, 0), "sm_100a"), ((9, 0), "sm_90a"), ((8, 0), "sm_80")]


@lru_cache(maxsize=None)
def _driver() -> ctypes.CDLL:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise RuntimeError(f"no NVIDIA driver: {error}") from None
    _check(driver, driver.cuInit(0), "cuInit")
    return driver


def _check(driver: ctypes.CDLL, status: int, what: str) -> None:
    if status == 0:
        return
    text = ctypes.c_char_p()
    driver.cuGetErrorString(status, ctypes.byref(text))
    reason = text.value.decode() if text.value else f"error {status}"
    raise RuntimeError(f"{what} failed: {reason}")


def architecture(device: int = 0) -> tuple:
    """The target for a GPU of this machine, and the image of its kernels: PTX
    where code for an older one has to do."""
    driver = _driver()
    handle, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    _check(driver, driver.cuDeviceGet(ctypes.byref(handle), device),
           "cuDeviceGet")
    for value, attribute in ((major, _MAJOR), (minor, _MINOR)):
        _check(driver, driver.cuDeviceGetAttribute(
            ctypes.byref(value), attribute, handle), "cuDeviceGetAttribute")
    found = (major.value, minor.value)
    for capability, name in _ARCHITECTURES:
        if found == capability:
            return name, "auto"
    # Code for 9.0a and 10.0a runs on those alone.
    if found > (8, 0):
        return "sm_80", "ptx"
    raise RuntimeError("expected a GPU of compute capability 8.0 or newer, got "
                       f"{found[0]}.{found[1]}")


@contextmanager
def _current(device: int) -> Iterator[ctypes.CDLL]:
    """The driver, with the context of a device."""
    driver = _driver()
    handle, context = ctypes.c_int(), ctypes.c_void_p()
    _check(driver, driver.cuDeviceGet(ctypes.byref(handle), device),
           "cuDeviceGet")
    _check(driver, driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle),
           "cuDevicePrimaryCtxRetain")
    _check(driver, driver.cuCtxPushCurrent_v2(context), "cuCtxPushCurrent")
    try:
        yield driver
    finally:
        driver.cuCtxPopCurrent_v2(ctypes.byref(context))


def synchronize(device: int, stream: int) -> None:
    """Waits for a stream."""
    with _current(device) as driver:
        _check(driver, driver.cuStreamSynchronize(ctypes.c_void_p(stream)),
               "cuStreamSynchronize")


def zeroed_memory(device: int, size: int) -> tuple:
    """(address, bytes) of memory that is zero, and is never freed: captured
    graphs contain the address. Twice as much as asked, so that lengths that grow
    do not allocate each time.

    A capture of this thread forbids most calls, unless they are relaxed, and
    would record a memset: a stream of its own clears the memory."""
    size = 2 * size
    mode = ctypes.c_int(2)  # relaxed
    with _current(device) as driver:
        driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))
        try:
            return _allocate_zeros(driver, size), size
        finally:
            driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))


def _allocate_zeros(driver: ctypes.CDLL, size: int) -> int:
    address, stream = ctypes.c_uint64(), ctypes.c_void_p()
    _check(driver, driver.cuStreamCreate(ctypes.byref(stream),
                                         _NON_BLOCKING), "cuStreamCreate")
    try:
        _check(driver, driver.cuMemAlloc_v2(ctypes.byref(address),
                                            ctypes.c_size_t(size)),
               "the allocation of a workspace")
        try:
            _check(driver, driver.cuMemsetD8Async(
                address, ctypes.c_ubyte(0), ctypes.c_size_t(size), stream),
                "cuMemsetD8Async")
            _check(driver, driver.cuStreamSynchronize(stream),
                   "cuStreamSynchronize")
        except RuntimeError:
            driver.cuMemFree_v2(address)
            raise
    finally:
        driver.cuStreamDestroy_v2(stream)
    return address.value
