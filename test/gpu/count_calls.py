# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Prints which driver functions the second call of an artefact uses."""

import ctypes
import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
# First, so that the run time's dlopen of libcuda.so.1 finds it by its name; the
# driver itself is opened by path after it, for this process's own use.
shim = ctypes.CDLL(str(HERE / "shim" / "libcuda.so.1"))
_cdll = ctypes.CDLL
ctypes.CDLL = lambda name, *rest, **more: _cdll(
    os.environ["KV_REAL_LIBCUDA"] if name == "libcuda.so.1" else name, *rest,
    **more)

import cudadrv  # noqa: E402
import kvtest  # noqa: E402
import numpy as np  # noqa: E402
import test_insert  # noqa: E402

ALLOWED = {"cuCtxGetCurrent", "cuCtxGetDevice", "cuLaunchKernel"}


def main():
    cudadrv.Device()
    stream = cudadrv.Stream()
    library = kvtest.Library(HERE / "lib" / "cubin" / "libinsert.so", "insert")
    case, pool, rows, slots, args = test_insert.small_problem(
        np.random.default_rng(1))
    text = ctypes.create_string_buffer(2000)
    calls = []
    for _ in range(2):
        library.check_call(case.name, *args, stream=stream.value)
        shim.take_counts(text, 2000)
        calls.append(text.value.decode().split())
    stream.synchronize()
    first, second = calls
    assert any(c.startswith("cuLibraryLoadData=1") for c in first), first
    names = {c.split("=")[0] for c in second}
    assert "cuLaunchKernel=1" in second, second
    assert names <= ALLOWED, second
    print("second call: " + " ".join(second))


main()
