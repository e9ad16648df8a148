# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Two libraries in one process, loaded globally, with functions of one name."""

import ctypes

import numpy as np
from kvtest import OK, SHAPE, TYPE, Guarded, Library, Tensor, aligned
from kvtest import compile_library, random_storage
from reference import Cache, index_copy

SLOTS = "!kvcache.slots<?T x i64, rows_per_block = 4, pad = skip_negative>"


def program(order):
    cache = f"!kvcache.cache<2S x ?B x 4N x 2H x 8D x f32, order = [{order}]>"
    rows = "tensor<?x2x8xf32>"
    return f"""
func.func @insert(%pool: {cache}, %slots: tensor<?xi64>, %key: {rows},
                  %value: {rows}) {{
  %where = kvcache.make_slots %slots : tensor<?xi64> to {SLOTS}
  kvcache.index_copy %key, %value into %pool at %where
    : {rows}, {rows} into {cache} at {SLOTS}
  return
}}
"""


# The symbols of both are visible to each other.
first = compile_library(program("S, B, N, H, D"), "first")
second = compile_library(program("S, B, H, N, D"), "second")
for library in (first, second):
    library.handle = ctypes.CDLL(str(library.path), mode=ctypes.RTLD_GLOBAL)
first, second = (Library(lib.path, lib.name) for lib in (first, second))

rng = np.random.default_rng(1)
BLOCKS, COUNT = 3, 5
SHAPE5 = [2, BLOCKS, 4, 2, 8]
slots = aligned(COUNT, np.int64)
slots[:] = rng.permutation(BLOCKS * 4)[:COUNT]
rows = []
for _ in range(2):
    rows.append(aligned(COUNT * 16, np.float32))
    rows[-1][:] = random_storage(rng, COUNT * 16, "f32")


def arguments(pool, strides):
    return [Tensor(pool, "f32", SHAPE5, strides), Tensor(slots, "i64", [COUNT]),
            *(Tensor(row, "f32", [COUNT, 2, 8]) for row in rows)]


NHD, HND = [BLOCKS * 64, 64, 16, 8, 1], [BLOCKS * 64, 64, 8, 32, 1]
for library, strides, others in ((first, NHD, HND), (second, HND, NHD)):
    pool = Guarded(random_storage(rng, 2 * BLOCKS * 64, "f32"))
    expected = Tensor(pool.inside.copy(), "f32", SHAPE5, strides)
    args = arguments(pool.inside, strides)
    index_copy(Cache.of(expected.view(), "SBNHD"),
               [a.view() for a in args[2:]], slots, "skip_negative")
    library.check_call("insert", *args)
    assert np.array_equal(pool.inside, expected.storage), library.name
    pool.check(library.name)
    # Each knows its own layout.
    assert library.call("insert", *arguments(pool.inside, others)) != OK

# Each has its own last error.
pool = np.zeros(2 * BLOCKS * 64, np.float32)
wrong_type = arguments(pool, NHD)
wrong_type[1] = Tensor(slots.view(np.int32), "i32", [COUNT])
wrong_shape = arguments(pool, HND)
wrong_shape[2] = Tensor(rows[0], "f32", [COUNT - 1, 2, 8])
first.expect_error(TYPE, "argument 'slots'", "insert", *wrong_type)
second.expect_error(SHAPE, "argument 'key'", "insert", *wrong_shape)
assert "argument 'slots'" in first.last_error(), first.last_error()
assert "argument 'key'" in second.last_error(), second.last_error()
aligned_pool = aligned(2 * BLOCKS * 64, np.float32)
second.check_call("insert", *arguments(aligned_pool, HND))
assert second.last_error() == ""
assert "argument 'slots'" in first.last_error(), first.last_error()
print("two libraries keep to themselves")
