# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""index_copy, scatter and gather over random layouts and views, bit for bit.

Each function is called for several pools and lists of rows, which may have
another format than the cache.
"""

import cases
import kvtest
import numpy as np
import op_programs as ops
import reference
from kvtest import TYPES
from ref_elements import STORAGE, same_elements

PADS = ["skip_negative", "skip_out_of_range", "none", "sink(0)", "sink(?)"]
ROUNDS = 3
# Whether of several rows for one slot the last one stays.
IN_SEQUENCE = True


def make_cache(rng):
    sides, layers, heads = ([None, 1, n][rng.integers(3)] for n in (2, 3, 3))
    case = cases.random_cache(
        rng, str(rng.choice(list(STORAGE))), sides=sides, layers=layers,
        heads=heads, channels=int(rng.choice([1, 5, 8, 40, 64, 128])),
        tokens=int(rng.choice([1, 4, 16])), blocks=int(rng.choice([1, 7])))
    return cases.random_view(rng, case)


class Rows:
    """What all runs of a function have in common."""

    def __init__(self, rng, case):
        self.index = [str(rng.choice(["i32", "i64"])) for _ in range(2)]
        self.gap = int(rng.choice([0, 0, 1, 8]))
        self.type = case.view.element_type
        self.converts = bool(rng.random() < 0.5)
        if self.converts:
            self.type = str(rng.choice([t for t in STORAGE if t != self.type]))

    def count(self, rng, capacity, pad):
        count = int(rng.choice([0, 1, 9]))
        return count if pad.startswith("skip") else min(count, capacity)

    def make(self, rng, view, count, result=False):
        make = cases.result_rows if result else cases.random_rows
        args = [] if result else [rng]
        made = [make(*args, count, view.row_shape, self.type, self.gap)
                for _ in range(view.extent("S"))]
        if self.converts and not result:
            for rows in made:
                rows.array[...] = cases.hard_elements(rng, rows.array.shape,
                                                      self.type)
        return made

    def check(self, case, whole, what):
        """Any NaN is as good as another, where elements are converted."""
        if not self.converts:
            return case.check(whole, what)
        case.guard.check(what)
        assert same_elements(case.cache.storage, whole.storage,
                             case.cache.element_type), what


def capacity_of(view):
    return view.extent("B") * view.extent("N")


def index_copy(rng, name, case, rows, pad, hostile):
    view = case.view
    count = rows.count(rng, capacity_of(view), pad)
    slots = cases.random_slots(rng, count, capacity_of(view), pad,
                               rows.index[0], duplicates=IN_SEQUENCE, hostile=hostile)
    values = rows.make(rng, view, count)
    whole, expected = case.expected()
    reference.index_copy(expected, [v.array for v in values], slots.array,
                         None if hostile else pad)
    return (ops.index_copy(name, case, values, slots, pad),
            lambda what: rows.check(case, whole, what))


def scatter(rng, name, case, rows, pad, hostile):
    pad = pad if pad.startswith("skip") else "none"
    view = case.view
    count = rows.count(rng, capacity_of(view), pad)
    slots = cases.random_slots(rng, count, capacity_of(view), pad, "i64",
                               duplicates=IN_SEQUENCE, hostile=hostile).array
    tokens = view.extent("N")
    # A pair that names nothing has one number or both that do not.
    numbers = [slots // tokens, np.where(slots < 0, -1, slots % tokens)]
    for axis, column, index in zip("BN", numbers, rows.index):
        limits = np.iinfo(TYPES[index][2])
        np.clip(column, limits.min, limits.max, out=column)
        if hostile:
            wrong = rng.random(count) < 0.2
            column[wrong] = rng.choice(
                cases.leading_out(index, view.extent(axis)), wrong.sum())
    at = [cases.integers(n, i) for n, i in zip(numbers, rows.index)]
    values = rows.make(rng, view, count)
    whole, expected = case.expected()
    reference.scatter(expected, [v.array for v in values], *numbers)
    return (ops.scatter(name, case, values, *at, pad),
            lambda what: rows.check(case, whole, what))


def gather(rng, name, case, rows, pad, hostile):
    view, zero = case.view, len(name) % 2 == 0
    count = rows.count(rng, capacity_of(view), pad)
    slots = cases.random_slots(rng, count, capacity_of(view), pad,
                               rows.index[0], duplicates=IN_SEQUENCE, hostile=hostile)
    if rows.converts:
        cache = case.cache
        cache.put(cases.hard_elements(rng, cache.logical_shape,
                                      cache.element_type))
    outs = rows.make(rng, view, count, result=True)
    whole, _ = case.expected()
    want = [np.array(o.storage) for o in outs]
    shaped = [np.lib.stride_tricks.as_strided(w, o.array.shape, o.array.strides)
              for w, o in zip(want, outs)]
    reference.gather(view, slots.array, shaped, zero)

    def check(what):
        case.check(whole, what)
        for out, storage in zip(outs, want):
            got, expected = (a.view(np.uint8) for a in (out.storage, storage))
            same = (same_elements(out.storage, storage, rows.type)
                    if rows.converts else np.array_equal(got, expected))
            assert same, f"{what}: {out.array}"
            out.guard.check(what)

    return ops.gather(name, case, slots, outs, zero, pad), check


class Family:
    def __init__(self, rng, kind):
        self.kind, self.case = kind, make_cache(rng)
        self.rows = Rows(rng, self.case)
        self.pad = str(rng.choice(PADS))

    def run(self, rng, name, round):
        if round:
            self.case = cases.resized(rng, self.case, int(rng.integers(0, 9)))
        return self.kind(rng, name, self.case, self.rows, self.pad,
                         rng.random() < 0.3)


def main(machine):
    """On kvtest, or what stands in for it."""
    rng = np.random.default_rng(21)
    kinds = [index_copy, scatter, gather] * 40
    families = (Family(rng, kind) for kind in kinds)
    ops.run_all(machine, *ops.in_rounds(rng, ROUNDS, families))


if __name__ == "__main__":
    main(kvtest)
