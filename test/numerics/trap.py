# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Slots are the entries at the point where they are made.

The buffer of a tensor that is updated later must not be updated in place: the
old entries are kept in the workspace. A workspace of exactly the size that the
library asks for is enough.
"""

import numpy as np
from kvtest import WORKSPACE, Guarded, Tensor, aligned, compile_library
from kvtest import random_storage
from reference import Cache, index_copy

TOKENS, HEADS, CHANNELS = 4, 2, 4
CACHE = "!kvcache.cache<2S x ?B x 4N x 2H x 4D x f32>"
SLOTS = "!kvcache.slots<?T x i64, rows_per_block = 4, pad = skip_negative>"
ROWS = "tensor<?x2x4xf32>"


def make(result, source):
    return f"  %{result} = kvcache.make_slots %{source} : tensor<?xi64> to {SLOTS}"


def insert(at):
    return (f"  kvcache.index_copy %key, %value into %pool at %{at}\n"
            f"    : {ROWS}, {ROWS} into {CACHE} at {SLOTS}")


# Slots of two tensors, each updated before the old slots are used.
PROGRAM = f"""
func.func @two(%pool: {CACHE}, %a: tensor<?xi64>, %b: tensor<?xi64>,
                %key: {ROWS}, %value: {ROWS}, %i: index, %new: i64) {{
{make("old_a", "a")}
{make("old_b", "b")}
  %changed_a = tensor.insert %new into %a[%i] : tensor<?xi64>
  %changed_b = tensor.insert %new into %b[%i] : tensor<?xi64>
{make("new_a", "changed_a")}
{make("new_b", "changed_b")}
{insert("old_a")}
{insert("old_b")}
{insert("new_a")}
{insert("new_b")}
  return
}}
func.func @one(%pool: {CACHE}, %a: tensor<?xi64>, %key: {ROWS},
                %value: {ROWS}, %i: index, %new: i64) {{
{make("old", "a")}
  %changed = tensor.insert %new into %a[%i] : tensor<?xi64>
{make("now", "changed")}
{insert("old")}
{insert("now")}
  return
}}
"""

library = compile_library(PROGRAM, "trap")
rng = np.random.default_rng(11)
BLOCKS = 400


def run(name, count, lists, index, new, used):
    pool = Guarded(random_storage(rng, 2 * BLOCKS * TOKENS * 8, "f32"))
    shape = [2, BLOCKS, TOKENS, HEADS, CHANNELS]
    expected = Tensor(pool.inside.copy(), "f32", shape)
    rows = [Tensor(aligned(count * 8, np.float32), "f32", [count, 2, 4])
            for _ in range(2)]
    for row in rows:
        row.storage[:] = random_storage(rng, count * 8, "f32")
    slots = []
    for values in lists:
        storage = aligned(count, np.int64)
        storage[:] = values
        slots.append(Tensor(storage, "i64", [count]))
    for values in used:
        index_copy(Cache.of(expected.view(), "SBNHD"),
                   [r.view() for r in rows], values, "skip_negative")
    args = [Tensor(pool.inside, "f32", shape), *slots, *rows, index, new]

    size = library.workspace_size(name, *args)
    data = sum(8 * count for _ in lists)
    assert data <= size <= data + 256 * len(lists), (count, size)
    # Exactly what was asked for, with canaries at its end.
    whole = aligned(size + 1024, np.uint8)
    whole[:] = 0xA5
    library.check_call(name, *args, workspace=whole[:size])
    assert np.all(whole[size:] == 0xA5), f"{name}: past the workspace"
    assert np.array_equal(pool.inside, expected.storage), f"{name} {count}"
    pool.check(name)
    library.expect_error(
        WORKSPACE, f"expected a workspace of at least {size} bytes, got "
        f"{size - 1}", name, *args, workspace=whole[: size - 1])


for count in (1, 31, 32, 33, 64, 100):
    slots = rng.permutation(BLOCKS * TOKENS - 1)
    a, b = slots[:count], slots[count : 2 * count]
    index = count // 2
    new = BLOCKS * TOKENS - 1  # a slot of no other row
    changed_a, changed_b = a.copy(), b.copy()
    changed_a[index] = changed_b[index] = new
    run("two", count, [a, b], index, new, used=[a, b, changed_a, changed_b])
    run("one", count, [a], index, new, used=[a, changed_a])
print("old slots are kept")
