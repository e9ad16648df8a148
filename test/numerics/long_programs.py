# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s %kvcache_src
"""Programs so long or deep that they are compiled in parts: sums in local
buffers, updates of one pool, and loops in each other.
"""

import sys
from pathlib import Path

import numpy as np
from kvtest import Guarded, Tensor, compile_library

sys.path.insert(0, str(Path(sys.argv[1]) / "benchmark" / "compile"))
import programs  # noqa: E402

rng = np.random.default_rng(11)


def numbers(*shape):
    return Guarded(rng.integers(-8, 8, np.prod(shape)).astype(np.float32))


def sums(count):
    library = compile_library(programs.buffers(count), "sums")
    start, x, result = (numbers(7) for _ in range(3))
    want = start.inside + count * x.inside
    library.run("run", *(Tensor(g.inside, "f32", [7]) for g in (start, x)), 7,
                Tensor(result.inside, "f32", [7]))
    for memory in (start, x, result):
        memory.check("sums")
    assert np.array_equal(result.inside, want), f"{count} sums"


def updates(count):
    """Each of three lists of rows is written by turns, over what others wrote."""
    pool, rows = "tensor<?x16x2x16xf32>", "tensor<?x2x16xf32>"
    arguments = [f"%p0: {pool}"]
    body = []
    for i in range(3):
        arguments += [f"%rows{i}: {rows}", f"%list{i}: tensor<?xi64>"]
        body.append(f"  %slots{i} = kvcache.make_slots %list{i} : tensor<?xi64> "
                    "to !slots")
    order = rng.integers(0, 3, count)
    for i, which in enumerate(order):
        body.append(f"  %p{i + 1} = kvcache.index_copy %rows{which} into "
                    f"%p{i}[B, N, H, D] at %slots{which} : {rows} into {pool} "
                    "at !slots")
    body.append(f"  return %p{count} : {pool}")
    library = compile_library(
        programs.program(", ".join(arguments), body, f" -> {pool}"),
        f"updates_{count}")
    blocks = 3
    memory = numbers(blocks, 16, 2, 16)
    want = memory.inside.copy().reshape(blocks * 16, 2, 16)
    given, values = [], []
    for i in range(3):
        row = numbers(9, 2, 16)
        slots = Guarded(rng.permutation(12)[:9].astype(np.int64))
        given += [row, slots]
        values += [Tensor(row.inside, "f32", [9, 2, 16]),
                   Tensor(slots.inside, "i64", [9])]
    for which in order:
        want[given[2 * which + 1].inside] = (
            given[2 * which].inside.reshape(9, 2, 16))
    library.run("run", Tensor(memory.inside, "f32", [blocks, 16, 2, 16]), *values)
    for each in (memory, *given):
        each.check("updates")
    assert np.array_equal(memory.inside, want.ravel()), f"{count} updates"


def nest(depth):
    library = compile_library(programs.loops(depth), "nest")
    for iterations in (0, 1):
        pool, rows = numbers(2, 16, 2, 16), numbers(3, 2, 16)
        slots = Guarded(np.array([30, -1, 4], np.int64))
        want = pool.inside.copy().reshape(32, 32)
        if iterations:
            want[[30, 4]] = rows.inside.reshape(3, 32)[[0, 2]]
        library.run("run", Tensor(pool.inside, "f32", [2, 16, 2, 16]),
                    Tensor(rows.inside, "f32", [3, 2, 16]),
                    Tensor(slots.inside, "i64", [3]), iterations)
        for memory in (pool, rows, slots):
            memory.check("nest")
        assert np.array_equal(pool.inside, want.ravel()), f"{depth} loops"


sums(700)
for length in (5, 40, 300):
    updates(length)
nest(40)
