# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""The programs that other tests are made of verify, over random layouts.

The types of views are worked out twice, in `cache_types` and by the compiler: a
program names them, so both have to agree.
"""

import subprocess

import cases
import numpy as np
import op_programs as ops
from ref_elements import COMPUTED, STORAGE


def verify(programs):
    for i, program in enumerate(programs):
        program.name = f"f{i}"
    text = "".join(p.text() for p in programs)
    result = subprocess.run(["kv-opt", "-", "-o", "/dev/null"], input=text,
                            text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    return len(programs)


def with_views(rng):
    element_type = str(rng.choice(list(STORAGE)))
    case = cases.random_cache(
        rng, element_type, layers=int(rng.choice([0, 1, 3])) or None,
        heads=[None, 1, 4][rng.integers(3)], channels=int(rng.choice([8, 24])),
        tokens=int(rng.choice([1, 16])), blocks=int(rng.choice([1, 6])))
    if rng.random() < 0.3:
        case = case.then("subpool", 1, case.view.extent("B") - 1)
    if "H" in case.view.axes and case.view.extent("H") > 1 and (
            rng.random() < 0.4):
        case = case.then("heads", int(rng.integers(0, 3)), 2)
    if "S" in case.view.axes and rng.random() < 0.4:
        case = case.then("side", int(rng.integers(0, 2)))
    return case


def one_of_each(rng, case):
    """The operations of one cache, and of the batches and lists around it."""
    view, index = case.view, str(rng.choice(["i32", "i64"]))
    tokens, sides = view.extent("N"), view.extent("S")
    gap = int(rng.choice([0, 8]))
    rows = [cases.random_rows(rng, 5, view.row_shape,
                              str(rng.choice(list(STORAGE))), gap)] * sides
    slots = cases.random_slots(rng, 5, view.extent("B") * tokens, index=index)
    numbers = cases.integers(np.arange(5), index)
    pairs = cases.random_pairs(rng, 3, view.extent("B"), view.extent("B"),
                               index, tokens=tokens)
    yield ops.index_copy("", case, rows, slots)
    yield ops.scatter("", case, rows, numbers, numbers, "skip_out_of_range")
    yield ops.gather("", case, slots, rows, zero=True)
    yield ops.gather("", case, slots, rows, pad="sink(?)")
    yield ops.copy_blocks("", case, cases.random_pairs(
        rng, 3, view.extent("B"), view.extent("B"), index))
    yield ops.clear_blocks("", case, numbers)
    yield ops.relayout("", case, case)
    yield ops.transfer("", case, case, pairs, zero=True)

    batch = cases.random_batch(rng, tokens=tokens, index=index,
                               positions=[None, "i32"][rng.integers(2)],
                               gap=int(rng.integers(2)))
    count = batch.rows
    yield ops.slot_mapping("", batch, cases.integers(np.zeros(count)), sink=3)
    yield ops.map_blocks("", batch.table, 4, batch.table)
    yield ops.block_slots("", numbers, 16, cases.integers(np.zeros(80)))
    # Queries have an axis of heads also where a cache has none.
    heads, channels = view.extent("H"), view.extent("D")
    element_type = str(rng.choice(COMPUTED))
    query = cases.random_rows(rng, count, [2 * heads, channels], element_type)
    out = cases.result_rows(count, [2 * heads, channels], element_type)
    lse = cases.result_rows(count, [2 * heads], "f32")
    valid = cases.integers([2], index, fixed=(0,))
    positions = cases.integers(np.zeros(count))
    yield ops.select_rows("", [query, query], batch, numbers, valid, [out, out],
                          batch.starts, positions)
    per_head = cases.per_head(np.zeros(2 * heads))
    caches = [case] if "S" in view.axes else [case, case]
    yield ops.attention("", query, caches, batch, [out])
    yield ops.attention("", query, caches, batch, [out, lse], causal=True,
                        window=9, softcap=30.0, scale=0.1, alibi=per_head,
                        sinks=per_head, rows=[batch.starts, positions])
    first = cases.Lse(count, 2 * heads, heads_first=True)
    apart = cases.random_rows(rng, count, [2 * heads, channels], element_type,
                              head_gap=3, promise=bool(rng.integers(2)))
    yield ops.attention("", apart, caches, batch, [out, first], window_right=7,
                        value_scale=0.5, heads_first=True)
    mask = cases.random_mask(rng, batch.batch(), count, int(rng.integers(2)))
    yield ops.attention("", query, caches, batch, [out], mask=mask, causal=True)
    yield ops.merge_states("", out, lse, out, lse, outs=[out, lse])
    yield ops.merge_states("", *[out, first] * 5, outs=[out, first],
                           heads_first=True)
    weight = cases.Buffer(np.zeros(channels), "f32", fixed=(0,))
    angles = cases.random_rows(rng, 7, [channels // 2], "f32", gap)
    yield ops.normalize("", query, out, weight=weight, plus_one=True)
    yield ops.normalize("", out, epsilon=0)
    yield ops.rotate("", query, angles, out, positions=positions)
    yield ops.rotate("", out, angles, interleaved=True)
    if view.extent("S") == 2 and "H" in view.axes:
        key, value = (cases.random_rows(rng, 5, view.row_shape, element_type,
                                        gap) for _ in range(2))
        for at in slots, (numbers, numbers):
            yield ops.insert_rotated("", key, value, weight, angles, numbers,
                                     case, at, types=["f32", element_type],
                                     fused=bool(rng.integers(2)))
    yield ops.csr_table("", batch.starts, numbers, batch.table, batch.lengths,
                        16, batch.lengths)


def main():
    rng = np.random.default_rng(5)
    count = 0
    for _ in range(120):
        count += verify(list(one_of_each(rng, with_views(rng))))
    print(f"{count} programs")


main()
