# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""What attention asks of the driver on the way to its kernel: a tensor map for
each side, whose extents and strides are those of the tensor that a call brings,
a launch of all blocks at one time, and as many multiprocessors as heads."""

import ctypes
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from kvtest import (CUDA_DEVICE, OK, Tensor, aligned, compile_library)

BATCH = "!kvcache.batch<?R x ?M x i32, tokens = 16>"
FLOAT16, CHANNELS_OF_BOX = 6, {128: 64, 64: 64, 32: 32, 16: 16}
# Of 0, 32, 64 and 128 bytes.
SWIZZLES = {8: 0, 16: 1, 32: 2, 64: 3}
MAP = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_uint, ctypes.c_uint64,
                       *[ctypes.POINTER(ctypes.c_uint64)] * 2,
                       ctypes.POINTER(ctypes.c_uint32), ctypes.c_int)
LAUNCH = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p,
                          ctypes.POINTER(ctypes.c_uint),
                          ctypes.POINTER(ctypes.c_void_p))
maps, launches = [], []


@LAUNCH
def launch(code, name, dims, parameters):
    launches.append((name.decode(), tuple(dims[0:3])))
    return 0


@MAP
def encode(kind, rank, address, extents, strides, box, swizzle):
    maps.append((kind, address, extents[:rank], strides[:rank - 1], box[:rank],
                 swizzle))


def program(name, cache, heads, channels):
    rows = f"memref<?x{2 * heads}x{channels}xf16>"
    return f"""
func.func @{name}(%query: {rows}, %pool: {cache}, %batch: {BATCH},
                  %out: {rows}) {{
  kvcache.attention %query over %pool in %batch into %out causal
    : {rows} over {cache} in {BATCH} into {rows}
  return
}}
"""


class Case:
    """Blocks of a pool in the order of its axes; `x` splits channels."""

    def __init__(self, name, order, heads, channels, cut=0, page=0):
        self.name, self.order = name, order
        self.heads, self.channels, self.cut, self.page = (heads, channels, cut,
                                                          page)

    def extents(self, blocks):
        extents = {"S": 2, "B": blocks, "N": 16, "H": self.heads,
                   "D": self.channels}
        if self.cut:
            del extents["D"]
            extents["D.o"] = self.channels // self.cut
            extents["D.i"] = self.cut
        return extents

    def cache(self):
        axes = " x ".join(f"{'?' if axis == 'B' else extent}{axis}"
                          for axis, extent in self.extents(0).items())
        strides = ", strides = [B = ? mult 8]" if self.page else ""
        return (f"!kvcache.cache<{axes} x f16, order = "
                f"[{', '.join(self.order)}]{strides}, align = 16>")

    def program(self):
        return program(self.name, self.cache(), self.heads, self.channels)

    def strides(self, blocks):
        """In elements, of the axes as listed."""
        extents, strides, span = self.extents(blocks), {}, 1
        for axis in reversed(self.order):
            if axis == "B" and self.page:
                span = max(span, self.page)
            strides[axis] = span
            span *= extents[axis]
        return strides, span

    def call(self, library, blocks=3, count=1):
        """The code of the call, and the addresses of the pool and the query."""
        extents = self.extents(blocks)
        strides, span = self.strides(blocks)
        pool = aligned(span, np.uint16)
        # The rows of one request, each with a token.
        lists = [np.array(x, np.int32) for x in ([0, count], [count], [0])]
        rows = [aligned(2 * count * self.heads * self.channels, np.uint16)
                for _ in range(2)]
        shape = [count, 2 * self.heads, self.channels]

        def tensor(*what, **more):
            return Tensor(*what, device=CUDA_DEVICE, **more)

        arguments = [
            tensor(rows[0], "f16", shape),
            tensor(pool, "f16", list(extents.values()),
                   strides=[strides[axis] for axis in extents]),
            tensor(lists[0], "i32", [2]), tensor(lists[1], "i32", [1]),
            tensor(lists[2], "i32", [1, 1]), tensor(rows[1], "f16", shape)]
        size = library.workspace_size(self.name, *arguments)
        workspace = aligned(size, np.uint8, 256)
        maps.clear()
        return (library.call(self.name, *arguments, workspace=workspace),
                pool.ctypes.data, rows[0].ctypes.data)

    def check(self, library, blocks):
        code, address, _ = self.call(library, blocks)
        assert code == OK, library.last_error()
        strides, _ = self.strides(blocks)
        inner = self.cut or CHANNELS_OF_BOX[self.channels]
        parts = self.channels // inner
        part = strides["D.o"] if self.cut else inner
        expected = [
            (FLOAT16, address + 2 * side * strides["S"],
             [inner, 16, parts, self.heads, blocks],
             [2 * strides["N"], 2 * part, 2 * strides["H"], 2 * strides["B"]],
             [inner, 16, parts, 1, 1], SWIZZLES[inner]) for side in (0, 1)]
        assert maps == expected, (
            f"{self.name}: expected {expected}, got {maps}")


def check_many_rows(case, library):
    """Boxes of eight tokens with all their channels, where heads lie side by
    side, and of all heads of a group for as many rows as a warpgroup has."""
    before, count, blocks = len(launches), 9, 3
    code, address, query = case.call(library, blocks, count)
    assert code == OK, library.last_error()
    strides, _ = case.strides(blocks)
    heads, channels = case.heads, case.channels
    token, parts = 2 * strides["N"], channels // 64
    expected = [
        (FLOAT16, address + 2 * side * strides["S"],
         [64, 8, heads * parts, 2, blocks],
         [token, 128, 8 * token, 2 * strides["B"]], [64, 8, parts, 2, 1], 3)
        for side in (0, 1)]
    expected.append((FLOAT16, query, [channels, 2 * heads, count],
                     [2 * channels, 4 * heads * channels], [64, 2, 32], 3))
    assert maps == expected, f"expected {expected}, got {maps}"
    # A range of work may go on from one head to the next.
    assert launches[before:] == [("attention_rows", (132, 1, 1))], launches


CASES = [
    Case("nhd", "SBNHD", 4, 128),
    Case("hnd", "SBHND", 2, 64),
    Case("paired", "BSHND", 3, 32),
    Case("narrow", "BSNHD", 1, 16),
    Case("packed8", ["S", "B", "H", "D.o", "N", "D.i"], 2, 64, cut=8),
    Case("packed32", ["S", "B", "H", "D.o", "N", "D.i"], 2, 64, cut=32),
    Case("pages", "SBNHD", 2, 64, page=4096),
]


def load_driver():
    with tempfile.TemporaryDirectory(prefix="kv-maps-") as folder:
        path = Path(folder) / "libcuda.so.1"
        subprocess.run(
            [os.environ.get("KV_CC", "cc"), "-O1", "-shared", "-fPIC",
             "-Wl,-soname,libcuda.so.1",
             str(Path(__file__).parent / "fake_driver.c"), "-o", path],
            check=True)
        # The run time's dlopen finds the one that is there by its name.
        driver = ctypes.CDLL(str(path))
    driver.fake_set_functions(launch, None)
    driver.fake_set_map_function(encode)
    return driver


def expect_error(case, library, message, count=1):
    before = len(launches)
    code, *_ = case.call(library, count=count)
    assert code != OK and library.last_error() == message, library.last_error()
    assert len(launches) == before, "something was launched"


def main():
    driver = load_driver()
    library = compile_library("".join(c.program() for c in CASES), "maps",
                              "sm_90a", "--gpu-image=ptx")
    for case in CASES:
        case.check(library, 3)
        case.check(library, 1)
    assert driver.fake_cooperative_launches() == len(launches) == 2 * len(CASES)
    assert launches[0] == ("attention", (132, 1, 1)), launches[0]

    check_many_rows(CASES[0], library)

    # A driver that fails, and a device that is too small, are told.
    driver.fake_set_fault(b"cuTensorMapEncodeTiled", 2)
    expect_error(CASES[0], library, "nhd: tensor map of a cache: the driver "
                 "reports out of memory (error 2)")
    driver.fake_set_fault_after(b"cuTensorMapEncodeTiled", 2, 2)
    expect_error(CASES[0], library, "nhd: tensor map of a query: the driver "
                 "reports out of memory (error 2)", 9)
    small = compile_library(CASES[0].program(), "small", "sm_90a",
                            "--gpu-image=ptx")
    driver.fake_set_multiprocessors(3)
    expect_error(CASES[0], small, "nhd: attention with 4 heads of the cache: "
                 "expected a device with at least 4 multiprocessors, got 3")
    print(f"tensor maps of {len(CASES)} layouts")


if __name__ == "__main__":
    main()
