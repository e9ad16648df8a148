# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The few functions of the CUDA driver that Python needs, without a toolkit."""

from __future__ import annotations

import ctypes
from functools import lru_cache

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


def zeroed_memory(device: int, stream: int, size: int) -> tuple:
    """(address, bytes) of memory that is zero for what follows in a stream, and
    is never freed: captured graphs contain the address. Twice as much as asked,
    so that lengths that grow do not allocate each time."""
    driver = _driver()
    size = 2 * size
    handle, context = ctypes.c_int(), ctypes.c_void_p()
    _check(driver, driver.cuDeviceGet(ctypes.byref(handle), device),
           "cuDeviceGet")
    _check(driver, driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle),
           "cuDevicePrimaryCtxRetain")
    _check(driver, driver.cuCtxPushCurrent_v2(context), "cuCtxPushCurrent")
    try:
        address = ctypes.c_uint64()
        _check(driver, driver.cuMemAlloc_v2(ctypes.byref(address),
                                            ctypes.c_size_t(size)),
               "the allocation of a workspace (make one call before a graph is "
               "captured)")
        _check(driver, driver.cuMemsetD8Async(
            address, ctypes.c_ubyte(0), ctypes.c_size_t(size),
            ctypes.c_void_p(stream)), "cuMemsetD8Async")
    finally:
        driver.cuCtxPopCurrent_v2(ctypes.byref(context))
    return address.value, size
