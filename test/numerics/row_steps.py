# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""normalize and rotate against the reference, alone and on the way to a cache.

What rotates is compared bit for bit; so is what lies in one kvcache.fuse with
what does not.
"""

import cases
import kvtest
import numpy as np
import op_programs as ops
import reference
import scaled_cases
from kvtest import TYPES
from ref_elements import COMPUTED, ELEMENTS, STORAGE, encode, same_elements

ROUNDS = 4
COUNTS = [5, 0, 1, 40]
CHANNELS = [1, 2, 5, 64, 80, 96, 128, 192, 256, 576, 1100]
HEADS = [None, 1, 3, 8, 32]


class Rows:
    """Rows and their destination, which may be the same memory."""

    def __init__(self, rng, channels=CHANNELS):
        self.heads = HEADS[rng.integers(len(HEADS))]
        self.channels = int(rng.choice(channels))
        self.shape = [n for n in (self.heads, self.channels) if n]
        self.type = str(rng.choice(list(STORAGE)))
        # Two arguments, one value, or one memory as two arguments.
        self.form = str(rng.choice(["apart", "apart", "one", "two_names"]))
        self.out_type = (str(rng.choice(list(STORAGE)))
                         if self.form == "apart" else self.type)
        self.gap, self.out_gap = rng.choice([0, 0, 1, 8], 2).tolist()
        self.gap_fill = cases.poison(rng, [], self.type)

    def count(self, round):
        large = (self.heads or 1) * self.channels > 4000
        return 3 if large and round == 3 else COUNTS[round]

    def buffers(self, values):
        """What the program takes, and the result."""
        rows = cases.Buffer(values, self.type, self.gap, self.gap_fill)
        if self.form == "one":
            return (rows, None), rows
        out = rows
        if self.form == "apart":
            out = cases.result_rows(len(values), self.shape, self.out_type,
                                    self.out_gap)
        return (rows, out), out


def gaps_of(*buffers):
    """The storage of each where no element is, to compare with later."""
    out = []
    for buffer in buffers:
        kept = buffer.storage.copy()
        width = buffer.row - buffer.gap
        out.append((buffer, kept.reshape(-1, buffer.row)[:, width:]))
    return out


def check_apart(inputs, gaps, what):
    for buffer, before in inputs:
        assert np.array_equal(reference.bits(buffer.array),
                              reference.bits(before)), f"{what}: an input"
    for buffer, before in gaps:
        now = buffer.storage.reshape(-1, buffer.row)[:, -before.shape[1]:]
        assert not before.size or np.array_equal(
            reference.bits(now), reference.bits(before)), f"{what}: a gap"
        buffer.guard.check(what)


def unchanged(*buffers):
    return [(b, b.array.copy()) for b in buffers if b is not None]


class Normalize(Rows):
    def __init__(self, rng, channels=CHANNELS):
        super().__init__(rng, channels)
        self.weight = str(rng.choice(COMPUTED)) if rng.random() < 0.7 else None
        self.plus_one = bool(self.weight and rng.random() < 0.4)
        self.epsilon = float(np.float32(rng.choice([0, 1e-12, 1e-6, 1e-5, 3])))

    def numbers(self, rng, count):
        """Rows of any size, some of them 0, some with what is no number. Their
        squares are numbers of f32."""
        shape = count, *self.shape
        x = rng.standard_normal(shape)
        x = x * 2.0 ** rng.integers(-30, 30, [*shape[:-1], 1])
        if self.type == "f16" or ELEMENTS[self.type].saturates:
            x = np.clip(x, -400, 400)
        x[rng.random(shape) < 0.1] = 0
        x[rng.random(shape[:-1]) < 0.1] = 0
        for odd in np.nan, np.inf:
            x[rng.random(shape) < 0.05 / self.channels] = odd
        return encode(x, self.type)

    def run(self, rng, name, round):
        given, result = self.buffers(self.numbers(rng, self.count(round)))
        weight = None
        if self.weight:
            numbers = rng.standard_normal(self.channels) * 2
            numbers[rng.random(self.channels) < 0.1] = rng.choice([0, -1])
            weight = cases.Buffer(encode(numbers, self.weight), self.weight,
                                  fixed=(0,))
        want = reference.normalize(
            given[0].numbers(), weight and weight.numbers(),
            epsilon=self.epsilon, plus_one=self.plus_one)
        rows = given[0] if result is not given[0] else None
        inputs = unchanged(rows, weight)
        gaps = gaps_of(*{id(b): b for b in (given[0], result)}.values())

        def check(what):
            want.check(result.numbers(), result.element_type, what)
            check_apart(inputs, gaps, what)
            if weight:
                weight.guard.check(what)

        return ops.normalize(name, *given, weight=weight, epsilon=self.epsilon,
                             plus_one=self.plus_one), check


class Rotate(Rows):
    def __init__(self, rng, channels=CHANNELS[1:]):
        super().__init__(rng, channels)
        whole = self.channels // 2 * 2
        self.turned = int(rng.choice([2, whole, whole, 2 * rng.integers(
            1, whole // 2 + 1)]))
        self.interleaved = bool(rng.random() < 0.4)
        self.table_type = str(rng.choice(COMPUTED))
        self.table_gap = int(rng.choice([0, 0, 1, 6]))
        self.index = str(rng.choice(["i32", "i64"]))
        self.has_positions = bool(rng.random() < 0.75)

    def table(self, rng, count):
        """Of positions, those that are used. Others are poison."""
        if self.has_positions:
            length = int(rng.choice([0, 1, 7, 100], p=[0.1, 0.2, 0.3, 0.4]))
        else:
            length = count
        info = np.iinfo(TYPES[self.index][2])
        positions = rng.integers(0, max(length, 1), count)
        padding = rng.random(count) < (0.4 if length else 1)
        positions[padding] = rng.choice(
            cases.leading_out(self.index, length), padding.sum())
        assert (positions >= info.min).all() and (positions <= info.max).all()
        angles = rng.uniform(-np.pi, np.pi, (length, self.turned // 2))
        table = encode(np.concatenate([np.cos(angles), np.sin(angles)], 1),
                       self.table_type)
        odd = rng.random(table.shape) < 0.05
        table[odd] = cases.hard_elements(rng, table.shape, self.table_type)[odd]
        if self.has_positions:
            unused = np.setdiff1d(np.arange(length), positions)
            table[unused] = cases.poison(rng, [len(unused), self.turned],
                                         self.table_type)
        nan = encode(np.nan, self.table_type)
        return (cases.Buffer(table, self.table_type, self.table_gap, nan),
                cases.integers(positions, self.index))

    def run(self, rng, name, round):
        count = self.count(round)
        shape = [count, *self.shape]
        values = cases.random_elements(rng, shape, self.type, 3)
        hard = rng.random(shape) < 0.3
        values[hard] = cases.hard_elements(rng, shape, self.type)[hard]
        given, result = self.buffers(values)
        table, positions = self.table(rng, count)
        if not self.has_positions:
            positions = None
        want = reference.rotate(
            np.array(given[0].array), np.array(table.array),
            positions and positions.array, interleaved=self.interleaved,
            element_type=result.element_type)
        rows = given[0] if result is not given[0] else None
        inputs = unchanged(rows, table, positions)
        gaps = gaps_of(table, *{id(b): b for b in (given[0], result)}.values())

        def check(what):
            got = np.array(result.array)
            assert same_elements(got, want, result.element_type), (
                f"{what}: {first_difference(got, want, result.element_type)}")
            check_apart(inputs, gaps, what)
            if positions:
                positions.guard.check(what)

        return ops.rotate(name, given[0], table, given[1], positions=positions,
                          interleaved=self.interleaved), check


def first_difference(got, want, element_type):
    a, b = (reference.decode(x, element_type) for x in (got, want))
    wrong = (reference.bits(got) != reference.bits(want)) & ~(
        np.isnan(a) & np.isnan(b))
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    return (f"{np.count_nonzero(wrong)} of {wrong.size} differ, the first at "
            f"{at}: expected {b[at]!r}, got {a[at]!r}")


class Insert:
    """Keys that are normalized and rotated on the way to a cache: with what is
    between in arguments, allocated by the program, and in one launch."""

    def __init__(self, rng, form=None, uneven=False):
        """`uneven`: an odd number of accesses is not turned, and the first
        channel is larger than all others."""
        self.form = form
        self.heads = HEADS[rng.integers(len(HEADS))]
        self.channels = int(rng.choice([7, 68, 72] if uneven
                                       else [2, 6, 64, 80, 128, 192]))
        layers = None if form else [None, 3][rng.integers(2)]
        self.turned = (min(64, self.channels - 1) if uneven
                       else 2 * int(rng.integers(1, self.channels // 2 + 1)))
        self.interleaved = bool(rng.random() < 0.4)
        self.case = cases.random_cache(
            rng, scaled_cases.BYTES if form else str(rng.choice(list(STORAGE))),
            sides=2, heads=self.heads, channels=self.channels, tokens=4,
            blocks=5, layers=layers)
        while form:
            made = scaled_cases.scaled_cache(rng, self.case, form)
            # In one launch, no heads share a scale that is computed.
            if "B" in made.shared or "H" not in made.shared:
                self.case = made
                if "B" in made.shared:  # given: numbers, and no poison
                    given = made.scales.cache
                    given.put(np.exp2(rng.uniform(-4, 2, given.logical_shape)
                                      ).astype(np.float32))
                break
        self.shape = [n for n in (self.heads, self.channels) if n]
        first = str(rng.choice(COMPUTED))
        self.types = [str(rng.choice([first, *COMPUTED])) for _ in range(2)]
        self.index = str(rng.choice(["i32", "i64"]))
        self.scatters = bool(rng.random() < 0.4)
        self.epsilon = 1e-5
        count = 11
        # Whole numbers: a sum of squares is the same in any sequence.
        key = rng.integers(-8, 9, [count, *self.shape])
        key[..., 0] *= 1 + 7 * uneven
        self.key = cases.Buffer(
            encode(key, first), first,
            int(rng.choice([0, 8])), reference.encode(np.nan, first))
        # All rows of a write have the same type.
        self.value = cases.random_rows(rng, count, self.shape, self.types[1],
                                       int(rng.choice([0, 8])))
        weight = rng.standard_normal(self.channels)
        weight[0] += 3 * uneven
        weight_type, table_type = rng.choice(COMPUTED, 2).tolist()
        self.weight = cases.Buffer(encode(weight, weight_type), weight_type,
                                   fixed=(0,))
        angles = rng.uniform(-np.pi, np.pi, (9, self.turned // 2))
        self.table = cases.Buffer(
            encode(np.concatenate([np.cos(angles), np.sin(angles)], 1),
                   table_type), table_type)
        positions = rng.integers(0, 9, count)
        positions[rng.random(count) < 0.2] = -1
        self.positions = cases.integers(positions, self.index)
        slots = cases.random_slots(rng, count, 20, index=self.index).array
        if self.scatters:
            live = slots >= 0
            self.at = (cases.integers(np.where(live, slots // 4, -1),
                                      self.index),
                       cases.integers(np.where(live, slots % 4, 0),
                                      self.index))
        else:
            self.at = cases.integers(slots, self.index)

    def _program(self, name, case, **how):
        return ops.insert_rotated(
            name, self.key, self.value, self.weight, self.table, self.positions,
            case, self.at, epsilon=self.epsilon, interleaved=self.interleaved,
            **how)

    def run(self, rng, name):
        """Programs, and a check after all of them have run."""
        pools = [clone_case(self.case) for _ in range(2)]
        between = [cases.result_rows(len(self.key.array), self.shape, t)
                   for t in self.types]
        if self.form:
            whole = view = self.case.cache.clone()
        else:
            whole, view = self.case.expected()
        programs = [
            self._program(f"{name}_apart", self.case, between=between),
            self._program(f"{name}_alone", pools[0], types=self.types),
            self._program(f"{name}_fused", pools[1], types=self.types,
                          fused=True)]

        def check(what):
            normal, turned = between
            want = reference.normalize(self.key.numbers(),
                                       self.weight.numbers(),
                                       epsilon=self.epsilon)
            want.check(normal.numbers(), self.types[0], what)
            rotated = reference.rotate(
                np.array(normal.array), np.array(self.table.array),
                self.positions.array, interleaved=self.interleaved,
                element_type=self.types[1])
            assert same_elements(np.array(turned.array), rotated,
                                 self.types[1]), f"{what}: rotated"
            rows = [rotated, np.array(self.value.array)]
            write(view, rows, self.at)
            self.case.check(whole, what)
            for pool in pools:
                pool.check(whole, f"{what}: without arguments between")
            for buffer in (self.key, self.value, self.weight, self.table,
                           self.positions, normal, turned):
                buffer.guard.check(what)

        return programs, check


def clone_case(case):
    """Another one of the same contents."""
    if isinstance(case, scaled_cases.ScaledCase):
        return scaled_cases.ScaledCase(clone_case(case.values),
                                       clone_case(case.scales), case.form,
                                       case.shared)
    cache = case.cache.clone()
    return cases.CacheCase(cache, case.type, case.steps, NoGuard())


class NoGuard:
    def check(self, what):
        """Its storage has no canaries."""


def write(view, rows, at):
    """index_copy or scatter of the reference, into any cache."""
    scaled = hasattr(view, "scales")
    tokens, blocks = view.extent("N"), view.extent("B")
    if not scaled and not isinstance(at, tuple):
        reference.index_copy(view, rows, at.array)
        return
    if not scaled:
        reference.scatter(view, rows, at[0].array, at[1].array)
        return
    if isinstance(at, tuple):
        places = list(zip(at[0].array.tolist(), at[1].array.tolist()))
    else:
        places = [divmod(s, tokens) for s in at.array.tolist()]
    for t, (block, token) in enumerate(places):
        if 0 <= block < blocks and 0 <= token < tokens:
            for side, values in enumerate(rows):
                numbers = reference.decode(values[t], reference.type_of(values))
                view.put_token(side, block, token, numbers)


def inserts(rng):
    forms = [None] * 8 + scaled_cases.FORMS * 2
    return [Insert(rng, form) for form in forms] + [
        Insert(rng, form, uneven=True) for form in scaled_cases.FORMS * 4]


def main(machine):
    """On kvtest, or what stands in for it."""
    rng = np.random.default_rng(29)
    families = [Normalize(rng) for _ in range(24)]
    families += [Rotate(rng) for _ in range(32)]
    # The largest ones, and each type in place.
    families += [Normalize(rng, [1100]), Rotate(rng, [1100])]
    functions, runs = ops.in_rounds(rng, ROUNDS, families)
    for number, insert in enumerate(inserts(rng)):
        programs, check = insert.run(rng, f"insert{number}")
        functions += [p.text() for p in programs]
        runs += [(p, lambda what: None) for p in programs[:-1]]
        runs.append((programs[-1], check))
    ops.run_all(machine, functions, runs)


if __name__ == "__main__":
    main(kvtest)
