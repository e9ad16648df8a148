# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# UNSUPPORTED: gpu
# RUN: %python %s
"""A library for a GPU loads where there is none, and says so when called."""

import shutil

import numpy as np
from kvtest import (CUDA, CUDA_DEVICE, DEVICE, SHAPE, Tensor, aligned,
                    compile_library)

CACHE = "!kvcache.cache<2S x ?B x 16N x 2H x 64D x bf16>"
SLOTS = "!kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>"
ROWS = "tensor<?x2x64xbf16>"
PROGRAM = f"""
func.func @insert(%pool: {CACHE}, %slots: tensor<?xi64>, %key: {ROWS},
                  %value: {ROWS}) {{
  %where = kvcache.make_slots %slots : tensor<?xi64> to {SLOTS}
  kvcache.index_copy %key, %value into %pool at %where
    : {ROWS}, {ROWS} into {CACHE} at {SLOTS}
  return
}}
"""

BLOCKS, COUNT = 3, 5
pool = aligned(2 * BLOCKS * 16 * 128, np.uint16)
slots = aligned(COUNT, np.int64)
rows = [aligned(COUNT * 128, np.uint16) for _ in range(2)]
for buffer in (pool, slots, *rows):
    buffer[:] = 1


def arguments(device=CUDA_DEVICE, ids=(0, 0, 0, 0), count=COUNT):
    return [
        Tensor(pool, "bf16", [2, BLOCKS, 16, 2, 64], device=device,
               device_id=ids[0]),
        Tensor(slots, "i64", [COUNT], device=device, device_id=ids[1]),
        *(Tensor(row, "bf16", [count, 2, 64], device=device, device_id=i)
          for row, i in zip(rows, ids[2:]))]


images = ["ptx", "auto"] + (["cubin"] if shutil.which("ptxas") else [])
for image in images:
    library = compile_library(PROGRAM, f"gpu_{image}", "sm_90a",
                              f"--gpu-image={image}")
    for _ in range(2):  # the second call finds what the first one left
        library.expect_error(CUDA, "no CUDA driver was found", "insert",
                             *arguments())
    # What can be checked without a driver comes first.
    library.expect_error(DEVICE, "argument 'pool': expected memory of CUDA",
                         "insert", *arguments(device=1))
    library.expect_error(SHAPE, "argument 'key'", "insert",
                         *arguments(count=4))
    library.expect_error(
        DEVICE, "argument 'key': expected device 1 as for the earlier "
        "arguments, got device 0", "insert", *arguments(ids=(1, 1, 0, 0)))
    for device in (-1, 64, 2**31 - 1, -(2**31)):
        library.expect_error(
            DEVICE, "argument 'pool': expected a device number from 0 "
            f"to 63, got {device}", "insert", *arguments(ids=(device,) * 4))
    assert library.workspace_size("insert", *arguments()) == 0
assert all(np.all(b == 1) for b in (pool, slots, *rows)), "written"
print(f"images: {', '.join(images)}")
