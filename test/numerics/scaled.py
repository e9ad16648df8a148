# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Moves of caches with scales, over random layouts, bit for bit: rows that are
quantised and read back, caches that are converted, and blocks of both parts."""

import kvtest
import numpy as np
import ref_moves
import ref_scaled
from kvtest import TYPES, Guarded, Tensor
from ref_cache import Cache, order_of
from ref_elements import COMPUTED, STORAGE, encode
from ref_scaled import Scaled

FORMS = list(ref_scaled.LARGEST)


def some(rng, choices):
    return choices[rng.integers(len(choices))]


class Layout:
    """Axes, their order and strides, of stored values and of scales."""

    def __init__(self, rng, form, logical, shares_heads, groups, given):
        self.form, self.given = form, given
        heads, channels = logical.get("H", 1), logical["D"]
        extents = {a: n for a, n in logical.items() if a not in "HD"}
        if heads % 2 == 0 and rng.random() < 0.2:
            extents |= {"H.o": heads // 2, "H.i": 2}
        elif "H" in logical:
            extents["H"] = heads
        inner = some(rng, [2, 4, 8])
        if channels % inner == 0 and rng.random() < 0.25:
            extents |= {"D.o": channels // inner, "D.i": inner}
        else:
            extents["D"] = channels
        self.extents = extents
        self.order = [str(a) for a in rng.permutation(list(extents))]
        if rng.random() < 0.6:  # as engines have it
            self.order = [a for a in self.order if a[0] not in "D"] + [
                a for a in extents if a[0] == "D"]
        self.shares_heads, self.groups = shares_heads, groups
        shared = {"H"} if shares_heads else set()
        if given:
            shared |= {"B", "N"} | {a for a in "LS" if rng.random() < 0.4}
        self.per = [a for a in logical if a != "D" and a not in shared]
        self.scale_extents = {a: 1 if a[0] in shared else n
                              for a, n in extents.items() if a[0] != "D"}
        self.scale_extents["D"] = groups
        seen = []
        for axis in self.order:
            axis = "D" if axis[0] == "D" else axis
            if axis not in seen:
                seen.append(axis)
        self.scale_order = seen
        self.strides = self._gaps(rng, self.extents, self.order)
        self.scale_strides = self._gaps(rng, self.scale_extents,
                                        self.scale_order)

    @staticmethod
    def _gaps(rng, extents, order):
        """Of the slowest axis, a constant that leaves gaps; sometimes."""
        if rng.random() < 0.6 or extents[order[0]] == 1:
            return {}
        inside = int(np.prod([extents[a] for a in order[1:]]))
        return {order[0]: inside + int(rng.integers(1, 9))}

    def text(self):
        axes = " x ".join(f"{'?' if a == 'B' else n}{a}"
                          for a, n in self.extents.items())
        groups = self.per + (
            [f"D / {self.channels // self.groups}"] if self.groups > 1 or
            self.channels == 1 else [])
        if self.channels == 1:
            groups[-1] = "D"
        facts = ""
        if self.scale_strides:
            [(axis, stride)] = self.scale_strides.items()
            facts = f", strides = [{axis} = {stride}]"
        strides = ""
        if self.strides:
            [(axis, stride)] = self.strides.items()
            strides = f", strides = [{axis} = {stride}]"
        per = f", per = [{', '.join(groups)}]" if groups else ""
        return (f"!kvcache.cache<{axes} x !kvcache.scaled<{self.form} x f32"
                f"{per}{facts}>, "
                f"order = [{', '.join(self.order)}]{strides}, align = 1>")

    @property
    def channels(self):
        return int(np.prod([n for a, n in self.extents.items()
                            if a[0] == "D"]))

    def make(self, rng, blocks):
        """A pool of random contents, between canaries; a NaN among the scales."""
        parts = []
        for extents, order, strides, dtype in (
                (self.extents, self.order, self.strides, np.uint8),
                (self.scale_extents, self.scale_order, self.scale_strides,
                 np.float32)):
            if dtype == np.uint8 or not self.given:
                extents = extents | {"B": blocks}
            # The type says a constant: it holds for this number of blocks.
            steps, step = {}, 1
            for axis in reversed(order):
                if extents[axis] != 1:
                    step = strides.get(axis, step)
                steps[axis] = step
                step *= extents[axis]
            reach = 1 + sum((n - 1) * steps[a] for a, n in extents.items())
            count = reach if all(extents.values()) else 0
            if dtype == np.uint8:
                raw = rng.integers(0, 256, max(count, 1)).astype(np.uint8)
            else:
                raw = np.exp2(rng.uniform(-9, 3, max(count, 1))).astype(dtype)
            guard = Guarded(raw)
            kind = "f8E4M3FN" if dtype == np.uint8 else "f32"
            array = np.lib.stride_tricks.as_strided(
                guard.inside, [extents[a] for a in extents],
                [steps[a] * guard.inside.itemsize for a in extents])
            cache = Cache(tuple(extents), array, guard.inside)
            assert cache.element_type == kind
            parts.append((guard, cache))
        return Pool(self, parts)


class Pool:
    def __init__(self, layout, parts):
        self.layout = layout
        self.guards = [guard for guard, _ in parts]
        self.view = Scaled(parts[0][1], parts[1][1], layout.form, layout.given)

    def tensors(self, machine):
        form = self.layout.form
        values, scales = self.view.values, self.view.scales
        stored = values.storage.view(TYPES[form][2])
        # Of extent 1, a caller gives any stride.
        return [machine.Tensor(stored, form, values.array.shape, values.strides),
                machine.Tensor(scales.storage, "f32", scales.array.shape,
                               scales.strides)]

    def check(self, expected, what):
        for guard in self.guards:
            guard.check(what)
        for part in ("values", "scales"):
            got = getattr(self.view, part).storage.view(np.uint8)
            want = getattr(expected, part).storage.view(np.uint8)
            if part == "scales":  # one NaN is as good as another
                same = (got.view(np.uint32) == want.view(np.uint32)) | (
                    np.isnan(got.view(np.float32))
                    & np.isnan(want.view(np.float32)))
            else:
                same = got == want
                if self.layout.form != "i8":
                    nan = {"f8E4M3FN": [0x7F, 0xFF],
                           "f8E5M2": [0x7D, 0x7E, 0x7F, 0xFD, 0xFE, 0xFF]}
                    same |= np.isin(got, nan[self.layout.form]) & np.isin(
                        want, nan[self.layout.form])
            if not same.all():
                wrong = np.flatnonzero(~same)
                raise AssertionError(
                    f"{what}: {len(wrong)} of {len(same)} {part} differ, at "
                    f"{wrong[:6]}: {got[wrong[:6]]}, expected {want[wrong[:6]]}")


def hard_rows(rng, shape, element):
    """Rows of every size, with rows of zeros, NaN, and infinities."""
    rows = rng.standard_normal(shape) * np.exp2(
        rng.uniform(-20, 20, [*shape[:-1], 1]))
    rows = rows.reshape(-1, shape[-1])
    for i in range(len(rows)):
        chance = rng.random()
        if chance < 0.05:
            rows[i] = 0
        elif chance < 0.1:
            rows[i, rng.integers(shape[-1])] = np.nan
        elif chance < 0.13:
            rows[i, rng.integers(shape[-1])] = some(rng, [np.inf, -np.inf])
        elif chance < 0.16:
            rows[i] *= 2.0**-110 if element != "f16" else 2.0**-10
    return encode(rows.reshape(shape), element)


class Programs:
    """Functions over one layout, and one of another format."""

    def __init__(self, rng, number):
        logical = {}
        if rng.random() < 0.3:
            logical["L"] = int(rng.integers(1, 4))
        if rng.random() < 0.7:
            logical["S"] = int(rng.integers(1, 3))
        logical |= {"B": None, "N": int(some(rng, [1, 4, 6, 16]))}
        if rng.random() < 0.85:
            logical["H"] = int(some(rng, [1, 2, 3, 4, 8]))
        logical["D"] = int(some(rng, [1, 6, 8, 16, 64, 80, 128]))
        logical["B"] = 3
        self.logical, self.number = logical, number
        self.layout = self.random(rng)
        self.other = self.random(rng)
        self.row = some(rng, COMPUTED)
        self.plain = some(rng, list(STORAGE))
        self.pad = some(rng, ["skip_negative", "skip_out_of_range"])

    def random(self, rng):
        divisors = [g for g in (1, 2, 4, 8) if self.logical["D"] % g == 0]
        return Layout(rng, some(rng, FORMS), self.logical,
                      "H" in self.logical and rng.random() < 0.25,
                      some(rng, divisors) if rng.random() < 0.4 else 1,
                      rng.random() < 0.35)

    @property
    def sides(self):
        return self.logical.get("S", 1)

    @property
    def row_shape(self):
        return [n for a, n in self.logical.items() if a in "HD"]

    def text(self):
        n, tokens = self.number, self.logical["N"]
        cache, other = self.layout.text(), self.other.text()
        axes = " x ".join(f"{'?' if a == 'B' else x}{a}"
                          for a, x in self.logical.items())
        plain = f"!kvcache.cache<{axes} x {self.plain}, align = 4>"
        row = "memref<?x" + "x".join(map(str, self.row_shape)) + f"x{self.row}>"
        names = ["%a", "%b"][: self.sides]
        rows, types = ", ".join(names), ", ".join([row] * self.sides)
        given = ", ".join(f"{x}: {row}" for x in names)
        slots = (f"!kvcache.slots<?T x i64, rows_per_block = {tokens}, "
                 f"pad = {self.pad}>")
        layer, whole = "", "%p"
        if "L" in self.logical:
            one = ""
        else:
            one = f"""
func.func @insert{n}(%p: {cache}, %s: {slots}, {given}) {{
  kvcache.index_copy {rows} into %p at %s : {types} into {cache} at {slots}
  return
}}
func.func @scatter{n}(%p: {cache}, %s: memref<?xi32>, %o: memref<?xi64>, {given}) {{
  kvcache.scatter {rows} into %p at %s, %o pad = skip_out_of_range
    : {types} into {cache} at memref<?xi32>, memref<?xi64>
  return
}}
func.func @read{n}(%p: {cache}, %s: {slots}, {given}) {{
  kvcache.gather %p at %s into {rows} : {cache} at {slots} into {types}
  return
}}
func.func @zero{n}(%p: {cache}, %s: {slots}, {given}) {{
  kvcache.gather %p at %s zero into {rows} : {cache} at {slots} into {types}
  return
}}"""
        return one + f"""
func.func @out{n}(%p: {cache}, %q: {plain}) {{
  kvcache.relayout %p into %q : {cache} into {plain}
  return
}}
func.func @in{n}(%q: {plain}, %p: {cache}) {{
  kvcache.relayout %q into %p : {plain} into {cache}
  return
}}
func.func @other{n}(%p: {cache}, %q: {other}) {{
  kvcache.relayout %p into %q : {cache} into {other}
  return
}}
func.func @copy{n}(%p: {cache}, %pairs: memref<?x2xi64>) {{
  kvcache.copy_blocks %p at %pairs : {cache} at memref<?x2xi64>
  return
}}
func.func @clear{n}(%p: {cache}, %blocks: memref<?xi32>) {{
  kvcache.clear_blocks %p at %blocks : {cache} at memref<?xi32>
  return
}}
func.func @move{n}(%p: {cache}, %q: {cache}, %pairs: memref<?x2xi32>) {{
  kvcache.transfer %p to %q at %pairs : {cache} to {cache} at memref<?x2xi32>
  return
}}
"""

    def run(self, machine, library, rng):
        # Constant strides of other axes leave room for three.
        few = any(a != "B" for x in (self.layout, self.other)
                  for a in [*x.strides, *x.scale_strides])
        blocks = int(some(rng, [1, 2, 3] if few else [1, 3, 7]))
        calls = [self.whole, self.blocks]
        if "L" not in self.logical:
            calls += [self.write, self.scatter, self.read]
        for call in calls:
            call(machine, library, rng, blocks)

    def lists(self, rng, blocks):
        slots = rng.permutation(blocks * self.logical["N"])[:9].astype(np.int64)
        slots[rng.random(len(slots)) < 0.2] = -1
        if self.pad == "skip_out_of_range":
            slots[rng.random(len(slots)) < 0.1] = 1 << 60
        return slots

    def write(self, machine, library, rng, blocks):
        pool = self.layout.make(rng, blocks)
        slots = self.lists(rng, blocks)
        rows = [hard_rows(rng, [len(slots), *self.row_shape], self.row)
                for _ in range(self.sides)]
        expected = pool.view.clone()
        ref_scaled.index_copy(expected, rows, slots)
        library.run(f"insert{self.number}", *pool.tensors(machine),
                    machine.Tensor(slots, "i64", slots.shape),
                    *(machine.Tensor(r.ravel(), self.row, r.shape)
                      for r in rows))
        pool.check(expected, f"insert {self.layout.text()} of {self.row}")

    def scatter(self, machine, library, rng, blocks):
        pool = self.layout.make(rng, blocks)
        slots = self.lists(rng, blocks)
        where = np.where(slots < 0, -1, slots // self.logical["N"])
        where = np.clip(where, -1, 1 << 30).astype(np.int32)
        offsets = np.where(slots < 0, 0, slots % self.logical["N"])
        rows = [hard_rows(rng, [len(slots), *self.row_shape], self.row)
                for _ in range(self.sides)]
        expected = pool.view.clone()
        ref_scaled.scatter(expected, rows, where, offsets)
        library.run(f"scatter{self.number}", *pool.tensors(machine),
                    machine.Tensor(where, "i32", where.shape),
                    machine.Tensor(offsets, "i64", offsets.shape),
                    *(machine.Tensor(r.ravel(), self.row, r.shape)
                      for r in rows))
        pool.check(expected, f"scatter {self.layout.text()} of {self.row}")

    def read(self, machine, library, rng, blocks):
        pool = self.layout.make(rng, blocks)
        untouched = pool.view.clone()
        slots = self.lists(rng, blocks)
        for name, zero in (("read", False), ("zero", True)):
            outs = [Guarded(kvtest.random_storage(
                rng, len(slots) * int(np.prod(self.row_shape)), self.row))
                for _ in range(self.sides)]
            shape = [len(slots), *self.row_shape]
            expected = [o.inside.copy().reshape(shape) for o in outs]
            ref_scaled.gather(pool.view, slots, expected, zero)
            library.run(f"{name}{self.number}", *pool.tensors(machine),
                        machine.Tensor(slots, "i64", slots.shape),
                        *(machine.Tensor(o.inside, self.row, shape)
                          for o in outs))
            what = f"{name} {self.layout.text()} as {self.row}"
            for out, want in zip(outs, expected):
                out.check(what)
                check_numbers(out.inside, want.ravel(), self.row, what)
            pool.check(untouched, what)

    def plain_pool(self, rng, blocks):
        extents = self.logical | {"B": blocks}
        count = int(np.prod(list(extents.values())))
        guard = Guarded(hard_rows(rng, [count // self.logical["D"],
                                        self.logical["D"]], self.plain).ravel())
        return guard, Cache.make(extents, self.plain, storage=guard.inside)

    def whole(self, machine, library, rng, blocks):
        # One of the two may have fewer blocks.
        fewer = max(1, blocks - int(rng.integers(0, 2)))
        pool = self.layout.make(rng, blocks)
        guard, plain = self.plain_pool(rng, fewer)
        tensor = machine.Tensor(guard.inside, self.plain, plain.array.shape)
        expected = plain.clone()
        ref_scaled.relayout(pool.view, expected)
        library.run(f"out{self.number}", *pool.tensors(machine), tensor)
        what = f"{self.layout.text()} into {self.plain}"
        guard.check(what)
        check_numbers(guard.inside, expected.storage, self.plain, what)

        guard, plain = self.plain_pool(rng, fewer)
        tensor = machine.Tensor(guard.inside, self.plain, plain.array.shape)
        expected = pool.view.clone()
        ref_scaled.relayout(plain, expected)
        library.run(f"in{self.number}", tensor, *pool.tensors(machine))
        pool.check(expected, f"{self.plain} into {self.layout.text()}")

        other = self.other.make(rng, fewer)
        expected = other.view.clone()
        same = (self.layout.form, self.layout.per, self.layout.groups) == (
            self.other.form, self.other.per, self.other.groups)
        if same and not other.view.given:
            ref_moves.relayout(pool.view.values, expected.values)
            ref_moves.relayout(pool.view.scales, expected.scales)
        else:
            ref_scaled.relayout(pool.view, expected)
        library.run(f"other{self.number}", *pool.tensors(machine),
                    *other.tensors(machine))
        other.check(expected, f"{self.layout.text()} into {self.other.text()}")

    def blocks(self, machine, library, rng, blocks):
        n = self.number
        pool = self.layout.make(rng, blocks)
        order = rng.permutation(blocks)
        pairs = np.array([[order[0], order[-1]], [-1, 0]], np.int64)
        expected = pool.view.clone()
        for part in expected.moved:
            ref_moves.copy_blocks(part, pairs)
        library.run(f"copy{n}", *pool.tensors(machine),
                    machine.Tensor(pairs.ravel(), "i64", pairs.shape))
        pool.check(expected, f"copy_blocks {self.layout.text()}")

        listed = np.array([order[0], -1], np.int32)
        for part in expected.moved:
            ref_moves.clear_blocks(part, listed)
        library.run(f"clear{n}", *pool.tensors(machine),
                    machine.Tensor(listed, "i32", listed.shape))
        pool.check(expected, f"clear_blocks {self.layout.text()}")

        dest = self.layout.make(rng, blocks)
        pairs = np.array([[order[-1], order[0]], [0, -1]], np.int32)
        expected = dest.view.clone()
        for source, part in zip(pool.view.moved, expected.moved):
            ref_moves.transfer(source, part, pairs)
        library.run(f"move{n}", *pool.tensors(machine), *dest.tensors(machine),
                    machine.Tensor(pairs.ravel(), "i32", pairs.shape))
        dest.check(expected, f"transfer {self.layout.text()}")


def check_numbers(got, want, element, what):
    from ref_elements import same_elements
    if not same_elements(got, want, element):
        wrong = np.flatnonzero(got.view(f"u{got.itemsize}")
                               != want.view(f"u{got.itemsize}"))
        raise AssertionError(f"{what}: {len(wrong)} differ, at {wrong[:6]}: "
                             f"{got[wrong[:6]]}, expected {want[wrong[:6]]}")


def main(machine=kvtest, count=24, seed=5, *flags):
    rng = np.random.default_rng(seed)
    programs = [Programs(rng, i) for i in range(count)]
    library = machine.compile_library("".join(p.text() for p in programs),
                                      "scaled", *flags)
    for _ in range(3):
        for program in programs:
            program.run(machine, library, rng)
    print(f"{count} layouts")


if __name__ == "__main__":
    main()
