# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""relayout, copy_blocks, clear_blocks and transfer over random layouts, bit for
bit.

Each function is called for several pools and lists.
"""

import cases
import kvtest
import numpy as np
import op_programs as ops
import reference
from ref_elements import STORAGE, same_elements

ROUNDS = 3
# Whether chains of pairs are copied in their sequence.
IN_SEQUENCE = True


def make_cache(rng, axes, element_type, tokens=None, order=None):
    """A cache with the given axes; of layers, all of them."""
    extents = {a: n for a, n in axes.items() if a in "LS"}
    extents |= {"B": int(rng.choice([1, 7])), "N": tokens or axes["N"]}
    if "H" in axes:
        extents["H"] = axes["H"]
    channels = axes["D"]
    if channels % 8 == 0 and rng.random() < 0.3:
        split = int(rng.choice([2, 4, 8]))
        extents |= {"D.o": channels // split, "D.i": split}
    else:
        extents["D"] = channels
    if extents.get("H", 1) % 2 == 0 and "D" in extents and rng.random() < 0.2:
        split = {"H.o": extents["H"] // 2, "H.i": 2}
        extents = {k: v for k, v in extents.items() if k not in "HD"}
        extents |= split | {"D": channels}
    run_time = ["B"] + ["L"] * ("L" in extents and bool(rng.random() < 0.3))
    order = order or cases.random_order(rng, extents)
    return cases.make_cache(rng, extents, element_type, order,
                            str(rng.choice(cases.STYLES)),
                            int(rng.choice([0, 0, 1, 8])), run_time)


def random_axes(rng):
    axes = {}
    if rng.random() < 0.5:
        axes["L"] = int(rng.integers(1, 4))
    if rng.random() < 0.7:
        axes["S"] = int(rng.integers(1, 3))
    axes["N"] = int(rng.choice([1, 4, 6, 16]))
    if rng.random() < 0.8:
        axes["H"] = int(rng.integers(1, 5))
    axes["D"] = int(rng.choice([1, 5, 8, 16, 64]))
    return axes


def special(rng, case):
    cache = case.cache
    cache.put(cases.hard_elements(rng, cache.logical_shape, cache.element_type))


def plain(rng, case):
    cases.fill(rng, case.cache)


def resized(rng, given, round):
    """Of another number of blocks from the second round on."""
    return [cases.resized(rng, case, int(rng.integers(0, 9))) if round else case
            for case in given]


class Relayout:
    def __init__(self, rng):
        axes = random_axes(rng)
        types = [str(rng.choice(list(STORAGE))) for _ in range(2)]
        if rng.random() < 0.4:
            types[1] = types[0]
        self.cases = [make_cache(rng, axes, t) for t in types]

    def run(self, rng, name, round):
        source, dest = self.cases = resized(rng, self.cases, round)
        special(rng, source)
        whole, expected = dest.expected()
        reference.relayout(source.view, expected)
        untouched = source.cache.clone()

        def check(what):
            source.check(untouched, what)
            dest.guard.check(what)
            # Any NaN is as good as another, where types differ.
            if source.cache.element_type == dest.cache.element_type:
                dest.check(whole, what)
            assert same_elements(dest.cache.storage, whole.storage,
                                 dest.cache.element_type), what

        return ops.relayout(name, source, dest), check


class CopyBlocks:
    def __init__(self, rng):
        self.case = make_cache(rng, random_axes(rng),
                               str(rng.choice(list(STORAGE))))
        self.index = str(rng.choice(["i32", "i64"]))
        self.step = None
        view = self.case.view
        if "H" in view.axes and view.extent("H") > 1 and rng.random() < 0.3:
            self.step = "heads", 1, view.extent("H") - 1
        elif "S" in view.axes and rng.random() < 0.3:
            self.step = "side", view.extent("S") - 1
        if self.step:
            self.case = self.case.then(*self.step)

    def run(self, rng, name, round):
        [self.case] = resized(rng, [self.case], round)
        plain(rng, self.case)
        blocks = self.case.view.extent("B")
        count = int(rng.choice([0, 1, 5]))
        # One after the other: chains of pairs are copied in their sequence.
        if IN_SEQUENCE and rng.random() < 0.5 or blocks < 2:
            pairs = cases.integers(rng.integers(-1, blocks + 1, (count, 2)),
                                   self.index, fixed=(1,))
        else:
            pairs = cases.random_pairs(rng, count, blocks, blocks, self.index,
                                       same=True)
        whole, expected = self.case.expected()
        reference.copy_blocks(expected, pairs.array)
        case = self.case
        return (ops.copy_blocks(name, case, pairs),
                lambda what: case.check(whole, what))


class ClearBlocks(CopyBlocks):
    """Of the same pools; blocks may be named twice, or not be there."""

    def run(self, rng, name, round):
        [self.case] = resized(rng, [self.case], round)
        plain(rng, self.case)
        blocks = self.case.view.extent("B")
        count = int(rng.choice([0, 1, 5]))
        numbers = rng.integers(-1, blocks + 1, count)
        wrong = rng.random(count) < 0.15
        numbers[wrong] = rng.choice(cases.leading_out(self.index, blocks),
                                    wrong.sum())
        numbers = cases.integers(numbers, self.index)
        whole, expected = self.case.expected()
        reference.clear_blocks(expected, numbers.array)
        case = self.case
        return (ops.clear_blocks(name, case, numbers),
                lambda what: case.check(whole, what))


class Transfer:
    def __init__(self, rng):
        axes, type_ = random_axes(rng), str(rng.choice(list(STORAGE)))
        ratio = int(rng.choice([1, 1, 2, 4]))
        sizes = [axes["N"], axes["N"] * ratio]
        rng.shuffle(sizes)
        self.cases = [make_cache(rng, axes, type_, n) for n in sizes]
        for n, case in enumerate(self.cases):
            if rng.random() < 0.3:  # pinned memory, on a GPU
                self.cases[n] = cases.replace(
                    case, type=cases.replace(case.type, space="host"))
        self.index = str(rng.choice(["i32", "i64"]))
        self.columns = bool(rng.random() < 0.6)
        self.zero = bool(rng.random() < 0.5)
        heads = axes.get("H", 1)
        whole = ["H" in c.cache.axes for c in self.cases]
        if heads > 1 and rng.random() < 0.3 and all(whole):
            count = int(rng.integers(1, heads))
            self.cases = [
                c.then("heads", int(rng.integers(0, heads - count + 1)), count)
                for c in self.cases]

    def run(self, rng, name, round):
        source, dest = self.cases = resized(rng, self.cases, round)
        plain(rng, source)
        tokens = min(c.view.extent("N") for c in self.cases)
        chunks = [c.view.extent("B") * c.view.extent("N") // tokens
                  for c in self.cases]
        count = int(rng.choice([0, 1, 6])) if chunks[0] else 0
        pairs = cases.random_pairs(rng, count, *chunks, self.index,
                                   tokens=tokens if self.columns else None)
        if not len(pairs.array):
            pairs = cases.integers(np.zeros((0, 4 if self.columns else 2)),
                                   self.index, fixed=(1,))
        whole, expected = dest.expected()
        reference.transfer(source.view, expected, pairs.array, self.zero)
        untouched = source.cache.clone()

        def check(what):
            source.check(untouched, what)
            dest.check(whole, what)

        return ops.transfer(name, source, dest, pairs, self.zero), check


def main(machine):
    """On kvtest, or what stands in for it."""
    rng = np.random.default_rng(34)
    kinds = [Relayout, CopyBlocks, Transfer, ClearBlocks] * 25
    ops.run_all(machine, *ops.in_rounds(rng, ROUNDS, (k(rng) for k in kinds)))


if __name__ == "__main__":
    main(kvtest)
