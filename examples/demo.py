# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compiles insert.mlir, runs it on random data, and checks every byte.

./dev demo runs it. Nothing of the compiler is used but the kv-compile program;
what is expected is computed by NumPy alone. The exit code is 0 if all is right.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("KV_BUILD_DIR", HERE.parent / "build"))
PROGRAM = HERE / "insert.mlir"

# What insert.mlir says.
LAYERS, SIDES, TOKENS, HEADS, CHANNELS = 4, 2, 16, 8, 128
BLOCKS, COUNT, LAYER = 6, 20, 2
AXES = {"B": "block", "S": "side", "N": "token", "H": "head", "D": "channel"}


class DLTensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device", ctypes.c_int32 * 2),
                ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8),
                ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
                ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)),
                ("byte_offset", ctypes.c_uint64)]


def tensor(array, code):
    """A packed array on the CPU; code 0: integers, 4: bf16."""
    shape = (ctypes.c_int64 * array.ndim)(*array.shape)
    return DLTensor(array.ctypes.data, (1, 0), array.ndim, code,
                    8 * array.itemsize, 1, shape, None, 0)


def find_compiler():
    built = BUILD / "bin" / "kv-compile"
    return str(built) if built.exists() else shutil.which("kv-compile")


def compile_program(compiler, output, target):
    return subprocess.run(
        [compiler, str(PROGRAM), f"--target={target}", "-o", str(output)],
        text=True, capture_output=True)


def aligned(count, dtype, align=64):
    raw = np.empty(count * np.dtype(dtype).itemsize + align, np.uint8)
    start = -raw.ctypes.data % align
    return raw[start : start + count * np.dtype(dtype).itemsize].view(dtype)


def random_bf16(rng, *shape):
    values = aligned(int(np.prod(shape)), np.uint16)
    floats = rng.standard_normal(values.size, np.float32)
    values[:] = floats.view(np.uint32) >> 16
    return values.reshape(shape)


def print_layout():
    """One layer of the buffer, from the slowest axis to the fastest."""
    sizes = dict(B="any", S=SIDES, N=TOKENS, H=HEADS, D=CHANNELS)
    strides = dict(D=1, H=CHANNELS, N=HEADS * CHANNELS,
                   S=TOKENS * HEADS * CHANNELS,
                   B=LAYERS * SIDES * TOKENS * HEADS * CHANNELS)
    print(f"layout   one layer of {LAYERS} in a buffer of bf16, from the "
          "slowest axis")
    for axis in "BSNHD":
        print(f"         {axis} {AXES[axis]:8} extent {sizes[axis]!s:>4}   "
              f"stride {strides[axis]:>7} elements")


def main():
    compiler = find_compiler()
    if not compiler:
        print("kv-compile was not found; build it with ./dev build")
        return 1
    with tempfile.TemporaryDirectory(prefix="kv-demo-") as folder:
        path = Path(folder) / "libinsert.so"
        result = compile_program(compiler, path, "cpu")
        if result.returncode:
            print(result.stderr)
            print("result   NOT correct: the program does not compile")
            return 1
        print(f"program  {PROGRAM.name}, compiled for the CPU: "
              f"{path.name}, {path.stat().st_size} bytes")
        gpu = compile_program(compiler, Path(folder) / "libgpu.so", "sm_90a")
        if gpu.returncode:
            print(gpu.stderr)
        print("         compiled for sm_90a as well: "
              f"{'no' if gpu.returncode else 'yes'}")
        print_layout()
        right = run(ctypes.CDLL(str(path)))
        right = right and gpu.returncode == 0
        print(f"result   {'correct' if right else 'NOT correct'}")
        return 0 if right else 1


def run(library):
    rng = np.random.default_rng(7)
    pool = random_bf16(rng, BLOCKS, LAYERS, SIDES, TOKENS, HEADS, CHANNELS)
    key = random_bf16(rng, COUNT, HEADS, CHANNELS)
    value = random_bf16(rng, COUNT, HEADS, CHANNELS)
    slots = aligned(COUNT, np.int64)
    slots[:] = rng.permutation(BLOCKS * TOKENS)[:COUNT]
    slots[[3, 11]] = -1  # padding

    expected = pool.copy()
    for t, slot in enumerate(slots):
        if slot >= 0:
            block, token = divmod(int(slot), TOKENS)
            expected[block, LAYER, 0, token] = key[t]
            expected[block, LAYER, 1, token] = value[t]
    touched = np.count_nonzero(expected != pool)

    code_int, code_bf16 = 0, 4
    raw = pool.reshape(-1).view(np.int8)
    layer_bytes = SIDES * TOKENS * HEADS * CHANNELS * pool.itemsize
    library.kv1_insert.restype = ctypes.c_int32
    library.kv1_insert_last_error.restype = ctypes.c_char_p
    status = library.kv1_insert(
        ctypes.byref(tensor(raw, code_int)),
        ctypes.c_int64(LAYER * layer_bytes), ctypes.c_int64(BLOCKS),
        ctypes.byref(tensor(slots, code_int)),
        ctypes.byref(tensor(key, code_bf16)),
        ctypes.byref(tensor(value, code_bf16)),
        None, ctypes.c_int64(0), None)  # workspace, its size, stream
    if status:
        print(f"call     error {status}: "
              f"{library.kv1_insert_last_error().decode()}")
        return False
    wrong = np.count_nonzero(pool != expected)
    print(f"call     {COUNT} tokens into layer {LAYER} of {LAYERS}, "
          f"{np.count_nonzero(slots < 0)} of them padding")
    print(f"check    {pool.size} elements against NumPy: {touched} changed as "
          f"expected, {wrong} differ")
    return wrong == 0 and touched > 0


sys.exit(main())
