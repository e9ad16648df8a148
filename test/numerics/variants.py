# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""One function takes any stride of blocks; KVRT_TRACE=1 says which variant of
its code a call went through. A function that declares strides refuses others."""

import os
import subprocess
import sys

import numpy as np
from kvtest import STRIDE, Tensor, compile_library, random_storage

TOKENS, HEADS, CHANNELS, BLOCKS = 16, 2, 8, 6
BLOCK = TOKENS * HEADS * CHANNELS


def program(name, strides):
    cache = (f"!kvcache.cache<?B x {TOKENS}N x {HEADS}H x {CHANNELS}D x f32"
             f"{strides}>")
    rows = f"tensor<?x{HEADS}x{CHANNELS}xf32>"
    slots = (f"!kvcache.slots<?T x i64, rows_per_block = {TOKENS}, "
             "pad = skip_negative>")
    return f"""
func.func @{name}(%pool: {cache}, %rows: {rows}, %slots: tensor<?xi64>) {{
  %where = kvcache.make_slots %slots : tensor<?xi64> to {slots}
  kvcache.index_copy %rows into %pool at %where : {rows} into {cache} at {slots}
  return
}}
"""


LIBRARY = program("any", ", strides = [B = ?]") + program("packed", "")


def arguments(stride, seed):
    rng = np.random.default_rng(seed)
    pool = random_storage(rng, BLOCKS * stride, "f32")
    slots = np.array([3, -1, 5 * TOKENS + 2, TOKENS, -7], np.int64)
    rows = random_storage(rng, len(slots) * HEADS * CHANNELS, "f32")
    expected = pool.copy()
    for row, slot in zip(rows.reshape(len(slots), -1), slots):
        if slot >= 0:
            at = slot // TOKENS * stride + slot % TOKENS * HEADS * CHANNELS
            expected[at : at + len(row)] = row
    shape = [BLOCKS, TOKENS, HEADS, CHANNELS]
    tensors = (
        Tensor(pool, "f32", shape, [stride, HEADS * CHANNELS, CHANNELS, 1]),
        Tensor(rows, "f32", [len(slots), HEADS, CHANNELS]),
        Tensor(slots, "i64", [len(slots)]))
    return tensors, pool, expected


def calls():
    library = compile_library(LIBRARY, "variants")
    for stride in (BLOCK, BLOCK + 16, BLOCK + 3):
        tensors, pool, expected = arguments(stride, stride)
        library.check_call("any", *tensors)
        assert np.array_equal(pool.view(np.uint32), expected.view(np.uint32)), stride
    tensors, pool, expected = arguments(BLOCK, 1)
    library.check_call("packed", *tensors)
    assert np.array_equal(pool, expected)
    # What is declared is a promise.
    tensors, pool, _ = arguments(BLOCK + 16, 2)
    before = pool.copy()
    library.expect_error(STRIDE, "packed: argument 'pool'", "packed", *tensors)
    assert np.array_equal(pool, before)


def said(trace):
    environment = dict(os.environ)
    environment.pop("KVRT_TRACE", None)
    if trace is not None:
        environment["KVRT_TRACE"] = trace
    done = subprocess.run([sys.executable, __file__, "calls"], env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


if sys.argv[1:] == ["calls"]:
    calls()
else:
    lines = said("1")
    expected = ["strides are compact", "strides are multiples of 16", "any strides"]
    assert len(lines) == len(expected), lines
    for line, variant in zip(lines, expected):
        assert line.startswith("kvrt: any: index_copy in line "), line
        assert line.endswith(f": {variant}"), line
    assert said(None) == [] and said("0") == []
    print("variants are as expected")
