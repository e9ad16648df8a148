# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Every operation with work for several threads: right, and the same bits on 1,
2 and 5 of them. Of several rows for one slot the last one stays.

The number of threads is read once, so each has a process of its own: this file,
called again with the library.
"""

import hashlib
import os
import subprocess
import sys

import cases
import numpy as np
import op_programs as ops
import reference
from kvtest import Library, Tensor, compile_library

BLOCKS, TOKENS, HEADS, CHANNELS = 96, 16, 4, 64


def new_cache(rng, order, style="compact", element_type="f32", blocks=BLOCKS):
    extents = dict(S=2, B=blocks, N=TOKENS, H=HEADS)
    split = order == "split"
    extents |= {"D.o": CHANNELS // 8, "D.i": 8} if split else {"D": CHANNELS}
    order = ("S", "B", "H", "D.o", "N", "D.i") if split else order
    case = cases.make_cache(rng, extents, element_type, order, style)
    cases.fill(rng, case.cache)
    return case


def rows_of(rng, count, make=cases.random_rows):
    args = [] if make is cases.result_rows else [rng]
    return [make(*args, count, [HEADS, CHANNELS], "f32") for _ in range(2)]


def writes(rng):
    for order in "nhd", "hnd", "paired_nhd", "split":
        case = new_cache(rng, order)
        # Each slot is named about twice.
        slots = cases.integers(rng.integers(-3, BLOCKS * TOKENS, 3000))
        rows = rows_of(rng, 3000)
        whole, expected = case.expected()
        reference.index_copy(expected, [r.array for r in rows], slots.array)
        yield (ops.index_copy(f"write_{order}", case, rows, slots),
               lambda case=case, whole=whole: case.check(whole),
               [case.cache.storage])
        outs = rows_of(rng, 3000, cases.result_rows)
        want = [np.zeros_like(o.array) for o in outs]
        reference.gather(expected, slots.array, want, True)

        def check(outs=outs, want=want):
            for out, expected in zip(outs, want):
                assert np.array_equal(out.array, expected)
                out.guard.check("gather")

        yield (ops.gather(f"read_{order}", case, slots, outs, True), check,
               [o.storage for o in outs])
    case = new_cache(rng, "hnd")
    slots = rng.integers(0, BLOCKS * TOKENS, 3000)
    at = [cases.integers(n, "i32") for n in (slots // TOKENS, slots % TOKENS)]
    rows = rows_of(rng, 3000)
    whole, expected = case.expected()
    reference.scatter(expected, [r.array for r in rows],
                      *(b.array for b in at))
    yield (ops.scatter("scatter", case, rows, *at),
           lambda: case.check(whole), [case.cache.storage])


def blocks(rng):
    source, dest = new_cache(rng, "nhd"), new_cache(rng, "split", "run_time",
                                                    "bf16")
    whole, expected = dest.expected()
    reference.relayout(source.view, expected)
    yield (ops.relayout("relayout", source, dest),
           lambda: dest.check(whole), [dest.cache.storage])
    for order in "paired_hnd", "nhd":
        case = new_cache(rng, order)
        # Chains: what one pair writes, another one reads.
        pairs = cases.integers(rng.integers(-1, BLOCKS, (200, 2)), fixed=(1,))
        after, expected = case.expected()
        reference.copy_blocks(expected, pairs.array)
        yield (ops.copy_blocks(f"copy_{order}", case, pairs),
               lambda case=case, after=after: case.check(after),
               [case.cache.storage])
    cleared = new_cache(rng, "paired_hnd")
    # Twice each: one thread clears a block, wherever the list names it.
    list_ = cases.integers(np.repeat(rng.integers(-1, BLOCKS, 100), 2))
    zeros, expected = cleared.expected()
    reference.clear_blocks(expected, list_.array)
    yield (ops.clear_blocks("clear", cleared, list_),
           lambda: cleared.check(zeros), [cleared.cache.storage])
    one, other = new_cache(rng, "nhd"), new_cache(rng, "hnd")
    pairs = cases.random_pairs(rng, 90, BLOCKS, BLOCKS, tokens=TOKENS)
    moved, expected = other.expected()
    reference.transfer(one.view, expected, pairs.array, True)
    yield (ops.transfer("transfer", one, other, pairs, True),
           lambda: other.check(moved), [other.cache.storage])


def attentions(rng):
    for number, (kind, requests, longest) in enumerate([
            ("decode", 1, 4000), ("decode", 7, 600), ("mixed", 4, 150)]):
        case = new_cache(rng, "hnd", element_type="bf16", blocks=300)
        batch = cases.random_batch(rng, requests=requests, blocks=300,
                                   tokens=TOKENS, longest=longest, kind=kind)
        if requests == 1:  # long enough to be split
            batch.lengths.array[0] = 3990
            batch.table = cases.integers(rng.permutation(300)[None, :250],
                                         "i32")
            batch.starts.array[:] = [0, 1]
            batch.rows = 1
        shape = [2 * HEADS, CHANNELS]
        query = cases.random_rows(rng, batch.rows, shape, "f32")
        outs = [cases.result_rows(batch.rows, shape, "f32"),
                cases.result_rows(batch.rows, shape[:1], "f32")]
        want = reference.attention(query.numbers(), [case.view], batch.batch(),
                                   causal=True)

        def check(outs=outs, want=want, number=number):
            reference.check_attention(want, outs[0].numbers(),
                                      outs[1].numbers(), "f32", f"{number}")

        yield (ops.attention("attention", query, [case], batch, outs,
                             causal=True), check, [o.storage for o in outs])


def others(rng):
    batch = cases.random_batch(rng, requests=200, blocks=4000, tokens=TOKENS,
                               longest=100)
    out = cases.integers(np.zeros(batch.rows))
    slots = reference.slot_mapping(batch.batch(), batch.rows)
    yield (ops.slot_mapping("slot_mapping", batch, out),
           lambda: np.testing.assert_array_equal(out.array, slots),
           [out.storage])
    rows = cases.random_rows(rng, batch.rows, [256], "f32")
    inside = [t for t, r in enumerate(batch.batch().rows(batch.rows)) if r]
    chosen = cases.integers(np.sort(rng.choice(inside, 1500)))
    valid = cases.integers([1400], fixed=(0,))
    results = [cases.result_rows(1500, [256], "f32")]
    starts = cases.integers(np.zeros(201), "i32")
    where = cases.integers(np.zeros(1500))
    selected = reference.select_rows([rows.array], batch.batch(), chosen.array,
                                     valid.array)

    def check():
        np.testing.assert_array_equal(results[0].array, selected.outs[0])
        np.testing.assert_array_equal(starts.array, selected.starts)
        np.testing.assert_array_equal(where.array, selected.positions)

    yield (ops.select_rows("select_rows", [rows], batch, chosen, valid, results,
                           starts, where), check,
           [results[0].storage, starts.storage, where.storage])
    table = rng.integers(-1, 1000, (300, 40))
    wide = cases.integers(np.zeros((300, 160)))
    yield (ops.map_blocks("map_blocks", cases.integers(table), 4, wide),
           lambda: np.testing.assert_array_equal(
               wide.array, reference.map_blocks(table, 4)), [wide.storage])
    parts = []
    for _ in range(2):
        parts += [cases.random_rows(rng, 500, [8, 64], "f32"),
                  cases.random_rows(rng, 500, [8], "f32")]
    merged = [cases.result_rows(500, [8, 64], "f32"),
              cases.result_rows(500, [8], "f32")]
    want = reference.merge_states(*(p.array for p in parts))
    yield (ops.merge_states("merge", *parts, outs=merged),
           lambda: reference.check_attention(
               want, merged[0].numbers(), merged[1].numbers(), "f32", "merge"),
           [m.storage for m in merged])
    turned = cases.result_rows(500, [8, 64], "f32")
    table = cases.random_rows(rng, 90, [64], "f32")
    where = cases.integers(rng.integers(-1, 91, 500))
    rotated = reference.rotate(parts[0].array, table.array, where.array)
    yield (ops.rotate("rotate", parts[0], table, turned, positions=where),
           lambda: np.testing.assert_array_equal(turned.array, rotated),
           [turned.storage])
    normal = cases.result_rows(500, [8, 64], "f32")
    norm = reference.normalize(parts[0].numbers(), epsilon=1e-6)
    yield (ops.normalize("normalize", parts[0], normal),
           lambda: norm.check(normal.numbers(), "f32", "normalize"),
           [normal.storage])


def all_runs():
    rng = np.random.default_rng(17)
    for family in (writes, blocks, attentions, others):
        yield from family(rng)


def work(library):
    for program, check, results in all_runs():
        library.run(program.name, *program.arguments(Tensor))
        check()
        digest = hashlib.sha256(b"".join(r.tobytes() for r in results))
        print(program.name, digest.hexdigest())


def main():
    texts = {}
    for program, _, _ in all_runs():
        text = texts.setdefault(program.name, program.text())
        assert text == program.text(), program.name
    library = compile_library("".join(texts.values()))
    lines = None
    for threads in "1", "2", "5":
        result = subprocess.run(
            [sys.executable, __file__, str(library.path)], text=True,
            capture_output=True, env=os.environ | {"KVRT_NUM_THREADS": threads})
        assert result.returncode == 0, f"{threads} threads: {result.stderr}"
        lines = lines or result.stdout
        assert result.stdout == lines, f"{lines}\n{threads}: {result.stdout}"
    print(lines)


if len(sys.argv) > 1:
    work(Library(sys.argv[1], "program"))
else:
    main()
