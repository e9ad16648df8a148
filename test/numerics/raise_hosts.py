# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""What JAX and IREE emit for a cache, raised, compiled and run, against the
semantics of the input in NumPy.

Each function of NumPy below says what its input does step by step, rounding to
f32 and dropping included, and knows nothing of caches.
"""

import subprocess
from pathlib import Path

import numpy as np
from kvtest import Guarded, Tensor, compile_library, random_storage

INPUTS = Path(__file__).parent.parent / "Raise/Inputs"
rng = np.random.default_rng(7)


def raised(name):
    """The program as kvcache IR, without what its own compiler needs."""
    result = subprocess.run(
        ["kv-opt", "--allow-unregistered-dialect", str(INPUTS / f"{name}.mlir"),
         "--kvcache-raise=standalone"], text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def no_copy_of_pool(name, operation, pool_bytes):
    """From what the other compiler emits, one pipeline goes to one operation on
    the pool. Nothing as large as the pool is allocated or copied."""
    result = subprocess.run(
        ["kv-opt", "--allow-unregistered-dialect", str(INPUTS / f"{name}.mlir"),
         "--kvcache-optimize=standalone"], text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(f"kvcache.{operation} ") == 1, result.stdout
    for left in ("kvcache.scatter", "stablehlo", "iree_linalg_ext", '= "',
                 "memref.transpose", "linalg.transpose"):
        assert left not in result.stdout, result.stdout
    assert "memref.copy" not in result.stdout, result.stdout
    assert "unregistered" not in result.stdout
    for line in result.stdout.splitlines():
        if "memref.alloc" in line:
            shape = line.split("memref<")[-1].split(">")[0].split("x")
            bytes_ = np.prod([int(n) for n in shape[:-1]]) * 8
            assert bytes_ < pool_bytes / 8, line


def scatter(cache, numbers, rows):
    """Rows with a number outside of their dimension are dropped."""
    extents = cache.shape[: len(numbers)]
    for t in range(len(rows)):
        at = tuple(int(n[t]) for n in numbers)
        if all(0 <= i < e for i, e in zip(at, extents)):
            cache[at] = rows[t]


def wrap(numbers, extent):
    return np.where(numbers < 0, numbers + numbers.dtype.type(extent), numbers)


def iree_index_put(cache, rows, slots):
    quotient = slots.astype(np.float32) / np.float32(16)
    block = np.floor(quotient).astype(np.int64)
    offset = np.fmod(slots, 16)
    offset = np.where((offset != 0) & (offset < 0), offset + 16, offset)
    scatter(cache, (block, offset), rows)


def iree_hnd(cache, rows, slots):
    iree_index_put(cache.transpose(0, 2, 1, 3), rows, slots)


def iree_index_copy(cache, rows, slots):
    scatter(cache, (slots,), rows)


def jax_write_2d(cache, rows, slots):
    block, offset = np.floor_divide(slots, 16), np.remainder(slots, 16)
    scatter(cache, (wrap(block.astype(np.int32), 64),
                    wrap(offset.astype(np.int32), 16)), rows)


def jax_write_flat(cache, rows, slots):
    scatter(cache, (wrap(slots, 1024),), rows)


LAST = 1024
SPECIAL = [
    -1, -2, -15, -16, -17, -LAST + 1, -LAST, -LAST - 1, -LAST - 16, 0, 1, 15,
    16, 17, LAST - 1, LAST, LAST + 1, LAST + 15, 2**24 - 1, 2**24, 2**24 + 1,
    -(2**24) - 1, 2**31 - 1, -(2**31), -(2**31) + 15]
WIDE = [2**53 + 1, 2**62 + 3, 2**63 - 1, -(2**63), -(2**53) - 1]


def rows_of(slots):
    """Which rows of the pool two slots could share."""
    return slots % LAST


def lists_of_slots(wide):
    """Lists of seven slots that no two rows of the pool are named by."""
    values = SPECIAL + (WIDE if wide else [])
    for _ in range(40):
        chosen, taken = [], set()
        pool = list(values) + list(rng.integers(-LAST - 40, LAST + 40, 40))
        rng.shuffle(pool)
        for slot in pool:
            if int(slot) % LAST not in taken and len(chosen) < 7:
                chosen.append(int(slot))
                taken.add(int(slot) % LAST)
        yield chosen
    # Each special value meets the six rows 5 to 10.
    for slot in values:
        others = [r for r in range(5, 13) if r != slot % LAST][:6]
        yield [slot] + others


def check_write(name, function, semantics, shape, element_type, index):
    program = raised(name)
    kept = [l for l in program.splitlines() if '= "' in l or "stablehlo" in l]
    assert not kept, f"{name}: left over: {kept}"
    assert "kvcache.index_copy" in program, program
    count = int(np.prod(shape))
    no_copy_of_pool(name, "index_copy", count * 2)
    library = compile_library(program, name)
    dtype = {"i32": np.int32, "i64": np.int64}[index]
    for slots in lists_of_slots(index == "i64"):
        before = random_storage(rng, count, element_type)
        pool = Guarded(before)
        rows = random_storage(rng, 7 * 8 * 128, element_type)
        numbers = np.array(slots, dtype)
        expected = before.copy()
        semantics(expected.reshape(shape), rows.reshape(7, 8, 128), numbers)
        library.run(function, Tensor(pool.inside, element_type, shape),
                    Tensor(rows, element_type, [7, 8, 128]),
                    Tensor(numbers, index, [7]))
        pool.check(name)
        assert np.array_equal(pool.inside.view(np.uint8),
                              expected.view(np.uint8)), (name, slots)


def check_gather():
    name = "jax_gather_ctx"
    program = raised(name)
    assert "kvcache.gather" in program and "stablehlo" not in program, program
    no_copy_of_pool(name, "gather", 64 * 16 * 8 * 128 * 2)
    library = compile_library(program, name)
    cache = random_storage(rng, 64 * 16 * 8 * 128, "bf16")
    far = [-(2**31), -65, -64, -63, -1, 0, 63, 64, 65, 2**31 - 1]
    for _ in range(10):
        table = rng.choice(far + list(range(64)), 15).astype(np.int32)
        blocks = np.clip(wrap(table, 64), 0, 63)
        expected = cache.reshape(64, 16, 8, 128)[blocks]
        out = Guarded(np.zeros(3 * 80 * 8 * 128, np.uint16))
        library.run("main", Tensor(cache, "bf16", [64, 16, 8, 128]),
                    Tensor(table, "i32", [3, 5]),
                    Tensor(out.inside, "bf16", [3, 80, 8, 128]))
        out.check(name)
        assert np.array_equal(out.inside, expected.reshape(-1)), table


NHD = [64, 16, 8, 128]
check_write("iree_index_put", "index_put", iree_index_put, NHD, "f32", "i64")
check_write("iree_hnd", "hnd", iree_hnd, [64, 8, 16, 128], "f32", "i64")
check_write("iree_index_copy", "index_copy", iree_index_copy, [1024, 8, 128],
            "f32", "i64")
check_write("jax_write_2d", "main", jax_write_2d, NHD, "bf16", "i32")
check_write("jax_write_flat", "main", jax_write_flat, [1024, 8, 128], "bf16",
            "i32")
check_gather()
print("ok")
