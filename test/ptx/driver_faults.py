# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""What a user sees of a driver that is old or fails, and that the next call
works where the fault is over: a full device, no device, no context."""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from kvtest import (CUDA, CUDA_DEVICE, DEVICE, OK, Library, Tensor, aligned,
                    compile_library)

CACHE = "!kvcache.cache<2S x ?B x 16N x 2H x 64D x bf16>"
SLOTS = "!kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>"
ROWS = "memref<?x2x64xbf16>"
PROGRAM = f"""
func.func @insert(%pool: {CACHE}, %slots: {SLOTS}, %key: {ROWS},
                  %value: {ROWS}) {{
  kvcache.index_copy %key, %value into %pool at %slots
    : {ROWS}, {ROWS} into {CACHE} at {SLOTS}
  return
}}
"""
LAUNCH = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p,
                          ctypes.POINTER(ctypes.c_uint),
                          ctypes.POINTER(ctypes.c_void_p))
launches = []


@LAUNCH
def launch(code, name, dims, parameters):
    launches.append(name)
    return 0


def load_driver(folder, *flags):
    path = Path(folder) / "libcuda.so.1"
    subprocess.run([os.environ.get("KV_CC", "cc"), "-O1", "-shared", "-fPIC",
                    "-Wl,-soname,libcuda.so.1", *flags,
                    str(Path(__file__).parent / "fake_driver.c"), "-o", path],
                   check=True)
    # The run time's dlopen finds the one that is there by its name.
    driver = ctypes.CDLL(str(path))
    driver.fake_set_functions(launch, None)
    return driver


def call(library, device=0):
    pool, slots = aligned(2 * 3 * 16 * 128, np.uint16), aligned(4, np.int64)
    rows = [aligned(4 * 128, np.uint16) for _ in range(2)]
    slots[:] = range(4)
    options = dict(device=CUDA_DEVICE, device_id=device)
    return library.call(
        "insert", Tensor(pool, "bf16", [2, 3, 16, 2, 64], **options),
        Tensor(slots, "i64", [4], **options),
        *(Tensor(row, "bf16", [4, 2, 64], **options) for row in rows))


def expect(library, code, message, **options):
    before = len(launches)
    got = call(library, **options)
    text = library.last_error()
    assert got == code, f"expected {code}, got {got}: {text}"
    assert text == "insert: " + message, text
    assert len(launches) == before, "launched"


def works(library):
    before = len(launches)
    assert call(library) == OK, library.last_error()
    assert len(launches) == before + 1 and library.last_error() == ""


def fresh(original, folder, number=[0]):
    """The library as a process sees it that has not called it yet."""
    number[0] += 1
    path = Path(folder) / f"copy{number[0]}.so"
    shutil.copy(original, path)
    return Library(path, "faults")


def part_old(original, folder):
    """A driver before version 12.0 lacks what is needed."""
    load_driver(folder, "-DFAKE_OLD_DRIVER")
    library = Library(original, "faults")
    for _ in range(2):
        expect(library, CUDA, "the CUDA driver has no cuLibraryLoadData; "
               "version 12.0 or newer is needed")


def part_faults(original, folder):
    driver = load_driver(folder)
    driver.fake_set_version(11080)
    library = fresh(original, folder)
    for _ in range(2):
        expect(library, CUDA, "expected a CUDA driver of version 12.0 or "
               "newer, got 11.8")
    driver.fake_set_version(13000)
    works(library)

    full = "the driver reports out of memory (error 2)"
    name = None
    for function, error, message in [
            ("cuInit", 100, "cuInit: the driver reports no CUDA-capable device "
             "is detected (error 100)"),
            ("cuLibraryLoadData", 2, f"loading the kernels for '{{}}': {full}"),
            ("cuLibraryGetKernel", 500, "finding kernel '{}': the driver "
             "reports an error of the test (error 500)"),
            ("cuLaunchKernel", 2, f"launching kernel '{{}}': {full}")]:
        library = fresh(original, folder)
        if name is None:
            probe = fresh(original, folder)
            works(probe)
            name = launches[-1].decode()
        driver.fake_set_fault(function.encode(), error)
        expect(library, CUDA, message.format(name))
        works(library)
    works(fresh(original, folder))

    # No context is current: the one of the device is used.
    driver.fake_leave_context()
    library = fresh(original, folder)
    driver.fake_set_fault(b"cuDevicePrimaryCtxRetain", 2)
    expect(library, CUDA, f"cuDevicePrimaryCtxRetain: {full}")
    expect(library, CUDA, "cuDevicePrimaryCtxRetain: the driver reports an "
           "error of the test (error 101)", device=7)
    expect(library, DEVICE, "argument 'pool': expected a device number from 0 "
           "to 63, got 64", device=64)


if len(sys.argv) > 1:
    globals()["part_" + sys.argv[1]](sys.argv[2], sys.argv[3])
else:
    original = compile_library(PROGRAM, "faults", "sm_90a", "--gpu-image=ptx")
    for part in ("old", "faults"):
        with tempfile.TemporaryDirectory(prefix="kv-faults-") as folder:
            subprocess.run([sys.executable, __file__, part,
                            str(original.path), folder], check=True)
    print("faults of the driver are told")
