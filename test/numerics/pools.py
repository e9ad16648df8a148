# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Layouts do not change results: a layer of a pool of all layers gives the bits
of a packed pool, as does every named order; and pools of more than 2^32
elements work up to their last slot.
"""

import mmap
import resource
import tempfile

import cases
import numpy as np
import op_programs as ops
import reference
from kvtest import Tensor, compile_library

TOKENS, HEADS, CHANNELS = 16, 2, 16
LAYERED = [n for n, o in reference.ORDERS.items() if "L" in o.split()]
FLAT = [n for n, o in reference.ORDERS.items()
        if "L" not in o.split() and "S" in o.split()]


def same_bits():
    """A write and an attention through a pool of each order."""
    rng = np.random.default_rng(90)
    batches = [cases.random_batch(rng, requests=4, blocks=40, tokens=TOKENS,
                                  longest=150, kind=kind)
               for kind in ("decode", "mixed", "prefill")]
    names = [(n, None) for n in FLAT] + [(n, 3) for n in LAYERED]
    pools, functions, runs = [], [], []
    for number, (name, layers) in enumerate(names):
        extents = {"L": layers} if layers else {}
        extents |= dict(S=2, B=40, N=TOKENS, H=HEADS, D=CHANNELS)
        case = cases.make_cache(rng, extents, "bf16", name,
                                "run_time" if number % 3 == 1 else "compact")
        if layers:
            case = case.then("layer", 1, False)
        pools.append(case)
    # Rows for all slots, in any sequence; the caches begin as poison.
    slots = cases.integers(rng.permutation(40 * TOKENS), "i64")
    rows = [cases.random_rows(rng, 40 * TOKENS, [HEADS, CHANNELS], "bf16")
            for _ in range(2)]
    queries = [cases.random_rows(rng, b.rows, [4 * HEADS, CHANNELS], "bf16")
               for b in batches]
    for number, case in enumerate(pools):
        runs.append([ops.index_copy(f"write{number}", case, rows, slots)])
        for batch, query in zip(batches, queries):
            outs = [cases.result_rows(batch.rows, query.array.shape[1:],
                                      "f32"),
                    cases.result_rows(batch.rows, [4 * HEADS], "f32")]
            program = ops.attention(f"read{number}", query, [case], batch,
                                    outs, causal=True)
            program.outs = outs
            runs[-1].append(program)
        functions += [runs[-1][0].text(), runs[-1][1].text()]
    library = compile_library("".join(functions), "layouts")
    first = None
    for (name, layers), case, (write, *reads) in zip(names, pools, runs):
        whole, expected = case.expected()
        reference.index_copy(expected, [r.array for r in rows], slots.array)
        library.run(write.name, *write.arguments(Tensor))
        case.check(whole, f"{name}: neighbours")
        results = []
        for program in reads:
            library.run(program.name, *program.arguments(Tensor))
            results += [o.array.view(np.uint8).copy() for o in program.outs]
        case.check(whole, f"{name}: reading")
        first = first or results
        for a, b in zip(first, results):
            assert np.array_equal(a, b), f"{name}: other bits"
    # And they are right.
    for i, (batch, query) in enumerate(zip(batches, queries)):
        want = reference.attention(query.numbers(), [pools[0].view],
                                   batch.batch(), causal=True)
        outs = runs[0][1 + i].outs
        reference.check_attention(want, outs[0].numbers(), outs[1].numbers(),
                                  "f32", f"batch {i}")
    print(f"{len(pools)} pools")


def big_pool():
    """A file with holes, mapped: 2^33 elements, of which few take memory."""
    blocks, heads, channels = 2**17, 8, 256
    block = TOKENS * heads * channels
    elements = 2 * blocks * block
    assert elements == 2**33
    extents = dict(S=2, B=blocks, N=TOKENS, H=heads, D=channels)
    types = {}
    for name in "nhd", "paired_hnd":
        layout = cases.CacheType({**extents, "B": None}, "bf16",
                                 reference.order_of(name, tuple(extents)))
        types[name] = layout
    rng = np.random.default_rng(91)
    count = 3
    last = blocks * TOKENS - 1
    slots = cases.integers([last, 0, last - TOKENS - 3], "i64")
    rows = [cases.random_rows(rng, count, [heads, channels], "bf16")
            for _ in range(2)]
    table = np.array([[blocks - 1, blocks - 2]])
    batch = cases.BatchCase(cases.integers([0, 1], "i32"),
                            cases.integers([2 * TOKENS], "i32"),
                            cases.integers(table, "i32"), TOKENS, 1)
    query = cases.random_rows(rng, 1, [heads, channels], "f32")
    functions, runs = [], []
    files = []
    for number, (name, type_) in enumerate(types.items()):
        file = tempfile.TemporaryFile()
        file.truncate(2 * (elements + 64))
        mapped = mmap.mmap(file.fileno(), 0)
        files.append((file, mapped))
        storage = np.frombuffer(mapped, np.uint16)
        cache = reference.Cache.make(extents, "bf16", name, storage=storage)
        case = cases.CacheCase(cache, type_)
        outs = [cases.result_rows(count, [heads, channels], "bf16")
                for _ in range(2)]
        result = [cases.result_rows(1, [heads, channels], "f32")]
        programs = [ops.index_copy(f"write{number}", case, rows, slots),
                    ops.gather(f"read{number}", case, slots, outs),
                    ops.attention(f"attend{number}", query, [case], batch,
                                  result)]
        functions += [p.text() for p in programs]
        runs.append((case, programs, outs, result))
    library = compile_library("".join(functions), "big")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case, programs, outs, result in runs:
        for program in programs:
            library.run(program.name, *program.arguments(Tensor))
        for side in range(2):
            assert np.array_equal(outs[side].array, rows[side].array)
            got = case.cache.get_token(side, blocks - 1, TOKENS - 1)
            assert np.array_equal(got, rows[side].array[0])
        near = case.cache.subpool(blocks - 2, 2)
        # The same two blocks, numbered from 0.
        want = reference.attention(
            query.numbers(), [near],
            reference.Batch([0, 1], [2 * TOKENS], [[1, 0]], TOKENS))
        reference.check_attention(want, result[0].numbers(), None, "f32",
                                  "the last blocks")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert used < 200 * 1024, f"{used} KiB"
    print(f"2^33 elements, {used} KiB")


same_bits()
big_pool()
