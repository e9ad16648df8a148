# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Contents with scales in kernels: index_copy, scatter, gather and relayout,
compared bit for bit with NumPy, for chips with instructions for f8 and without.
"""

import math
from typing import NamedTuple

import machine
import numpy as np
from kvtest import Guarded
from ref_elements import STORAGE, bits, decode, encode, same_elements

LARGEST = {"i8": 127.0, "f8E4M3FN": 448.0, "f8E5M2": 57344.0}
BLOCKS, TOKENS = 5, 4


def storage_of(element):
    return np.int8 if element == "i8" else STORAGE[element]


def numbers(raw, element):
    """As f32."""
    if element == "i8":
        return raw.astype(np.float32)
    return decode(raw, element).astype(np.float32)


def rounded(floats, element):
    if element != "i8":
        return encode(floats, element)
    whole = np.clip(np.rint(floats.astype(np.float64)), -128, 127)
    return np.where(np.isnan(floats), 0, whole).astype(np.int8)


def same(got, want, element):
    if element == "i8":
        return np.array_equal(got, want)
    return same_elements(got, want, element)


class Form(NamedTuple):
    """One array over [S, B, N, H, D]; of a record, scales follow the head."""
    element: str = "f8E4M3FN"
    heads: int = 4
    channels: int = 64
    group: int = 0  # channels with a scale, 0 for all; -1 for no scales at all
    shared: str = ""  # letters of axes whose indices share scales
    sides: int = 2
    layers: int = 0
    order: tuple = ()
    split: dict = {}  # the inner extent of H and of D
    record: bool = False
    stride: int = 0  # of blocks, known at run time only
    gap: int = 0  # tokens after each block, which slots count
    sliced: bool = False  # a layer of all is used, whose number is constant
    part_of: int = 0  # of such a layer, the channel rows of a block of all

    @property
    def scaled(self):
        return self.group >= 0

    def layer(self):
        rows = self.layers * self.sides * TOKENS * self.heads
        order = tuple(axis for axis in self.order if axis != "L")
        return self._replace(layers=0, order=order, sliced=False, part_of=rows)

    def dims(self):
        """As listed."""
        given = [("L", self.layers), ("S", self.sides), ("B", BLOCKS),
                 ("N", TOKENS), ("H", self.heads), ("D", self.channels)]
        listed = []
        for axis, extent in given:
            if not extent:
                continue
            inner = self.split.get(axis)
            listed += [(axis, extent)] if not inner else [
                (axis + ".o", extent // inner), (axis + ".i", inner)]
        return listed

    def groups(self):
        return self.channels // (self.group or self.channels)

    def type(self):
        is_per_layer = "B" in self.shared and "L" not in self.shared
        unknown = "B" if self.sliced or is_per_layer else "BL"
        dims = " x ".join(f"{'?' if axis in unknown else extent}{axis}"
                          for axis, extent in self.dims())
        element = self.element
        if self.scaled:
            per = [a for a in "LSBNH" if a not in self.shared
                   and any(a == b[0] for b, _ in self.dims())]
            per += [f"D / {self.group}"] if self.group else []
            per = f", per = [{', '.join(per)}]" if per else ""
            where = ""
            if self.part_of and "B" not in self.shared:
                where = f", strides = [B = {self.part_of * self.groups()}]"
            if self.record:
                where = f", strides = [H = {self.channels // 4 + 1}]"
            element = f"!kvcache.scaled<{element} x f32{per}{where}>"
        order = f", order = [{', '.join(self.order)}]" if self.order else ""
        facts = ""
        if self.record:
            facts = f", strides = [H = {self.channels + 4}], align = 4"
        if self.stride:
            facts = ", strides = [B = ?]"
        if self.gap:
            row = self.heads * self.channels
            facts = f", strides = [B = {(TOKENS + self.gap) * row}]"
        if self.part_of:
            facts = f", strides = [B = {self.part_of * self.channels}]"
        return f"!kvcache.cache<{dims} x {element}{order}{facts}>"


class Pool:
    """Random contents of a form, as arguments and as numbers."""

    def __init__(self, form, rng):
        self.form = form
        dims = form.dims()
        order = [d for d, _ in dims]
        if form.order:
            order = list(form.order)
        self.stored = self.place(dims, order, form.channels + 4
                                 if form.record else 0)
        nbytes = np.dtype(storage_of(form.element)).itemsize
        count = 1 + sum((e - 1) * s for (_, e), s in
                        zip(dims, self.stored))
        count += 4 if form.record else 0
        if form.element == "i8":
            raw = rng.integers(-128, 128, count, np.int8)
        else:
            raw = encode(rng.standard_normal(count), form.element)
        self.memory = Guarded(raw)
        self.scales = None
        if not form.scaled:
            return
        scale_dims = [(a if a[0] != "D" else "D",
                       form.groups() if a[0] == "D" else
                       1 if a[0] in form.shared else e)
                      for a, e in dims if a != "D.i"]
        scale_order = []
        for axis in order:
            axis = "D" if axis[0] == "D" else axis
            scale_order += [] if axis in scale_order else [axis]
        self.scale_dims = scale_dims
        if form.record:
            self.scales = [s // 4 for s in self.stored[:-1]] + [1]
            return
        self.scales = self.place(scale_dims, scale_order)
        count = math.prod(e for _, e in scale_dims)
        self.scale_memory = Guarded(
            rng.uniform(0.5, 2, count).astype(np.float32))

    def place(self, dims, order, head=None):
        """Strides; `head` is null of scales, which have no gaps."""
        extents, strides, step = dict(dims), {}, 1
        for axis in reversed(order):
            if axis == "H" and head:
                step = head
            if axis == "B" and head is not None:
                step += self.form.stride + step // TOKENS * self.form.gap
            strides[axis] = step
            step *= extents[axis]
        return [strides[axis] for axis, _ in dims]

    def tensors(self):
        raw, form = self.memory.inside, self.form
        out = [machine.Tensor(raw, form.element, [e for _, e in form.dims()],
                              self.stored)]
        if form.scaled:
            shape = [e for _, e in self.scale_dims]
            if form.record:
                out.append(machine.Tensor(
                    raw[form.channels :].view(np.float32), "f32", shape,
                    self.scales))
            else:
                out.append(machine.Tensor(self.scale_memory.inside, "f32",
                                          shape, self.scales))
        return out

    def arrays(self):
        """[L, S, B, N, H, D] of stored values, and of scales."""
        form, out = self.form, []
        for tensor, channels in zip(self.tensors(),
                                    (form.channels, form.groups())):
            extents = dict(L=max(1, form.layers), S=form.sides or 1, B=BLOCKS,
                           N=TOKENS, H=form.heads or 1)
            out.append(np.array(tensor.view()).reshape(
                *(1 if out and a in form.shared else n
                  for a, n in extents.items()), channels))
        return out

    def read(self):
        """The numbers, in f32."""
        stored, *scales = self.arrays()
        floats = numbers(stored, self.form.element)
        with np.errstate(all="ignore"):  # stored values are scales of a record
            return (floats * spread(scales[0], floats.shape) if scales
                    else floats)

    def untouched(self):
        """All bytes, with those of elements set to zero."""
        raw = self.memory.inside.copy()
        mine = Pool.__new__(Pool)
        mine.__dict__.update(self.__dict__)
        mine.memory = Guarded(raw)
        for tensor in mine.tensors()[: 2 if self.form.record else 1]:
            tensor.view()[...] = 0
        return bits(mine.memory.inside.copy())

    def check(self, want, edges, what):
        self.memory.check(what)
        stored, *scales = self.arrays()
        if scales:
            equal = bits(scales[0]) == bits(want[1])
            assert equal.all(), (
                f"{what}: {np.argwhere(~equal)[:3]}: scales "
                f"{scales[0][~equal][:3]}, expected {want[1][~equal][:3]}")
            if not self.form.record:
                self.scale_memory.check(what)
        if not same(stored, want[0], self.form.element):
            wrong = np.argwhere(bits(np.ascontiguousarray(stored))
                                != bits(np.ascontiguousarray(want[0])))
            raise AssertionError(f"{what}: {len(wrong)} differ, {wrong[:3]}")
        assert np.array_equal(self.untouched(), edges), f"{what}: gaps"


def spread(scales, shape):
    """One for each element."""
    repeated = np.repeat(scales, shape[-1] // scales.shape[-1], axis=-1)
    return np.broadcast_to(repeated, shape)


def quantised(floats, form, given):
    """(stored, scales) of numbers [.., H, D], or stored values by given scales."""
    shape = floats.shape
    if "B" in form.shared:
        with np.errstate(all="ignore"):
            inverse = spread(np.float32(1) / given, shape)
            return (rounded(floats * inverse, form.element),)
    grouped = np.abs(floats).reshape(*shape[:-1], form.groups(), -1)
    with np.errstate(all="ignore"):
        most = np.fmax.reduce(grouped, axis=-1, initial=np.float32(0))
        if "H" in form.shared:
            most = most.max(axis=-2, keepdims=True)
        most = np.clip(most, np.float32(2.0**-60),
                       np.finfo(np.float32).max).astype(np.float32)
        largest = np.float32(LARGEST[form.element])
        inverse = spread(largest / most, shape)
        return rounded(floats * inverse, form.element), most / largest


def written(floats, pool):
    """The arrays that numbers become."""
    if not pool.form.scaled:
        return (rounded(floats, pool.form.element),)
    scales = pool.arrays()[1]
    return (*quantised(floats, pool.form, scales), scales)[:2]


def hard_rows(rng, shape, element):
    """Numbers of very different sizes, zeros, infinities and NaN."""
    exponents = rng.integers(-40, 20, shape[:-1] + (1,))
    floats = np.ldexp(rng.standard_normal(shape), exponents)
    floats[0] = 0
    floats.reshape(-1)[rng.choice(floats.size, 6)] = [
        np.inf, -np.inf, np.nan, 1e-45, 3e38, -0.0]
    floats[1] = np.nan
    floats[2] = -1e-42
    with np.errstate(all="ignore"):
        return encode(floats, element)


# --- Programs -----------------------------------------------------------------

FORMS = {
    "nhd": Form(),
    "hnd": Form(order=("B", "S", "H", "N", "D")),
    "tokens_last": Form(order=("B", "S", "H", "D", "N"), heads=2, channels=24),
    "record": Form(sides=0, heads=2, channels=128, record=True),
    "i8_record": Form("i8", sides=0, heads=3, channels=32, record=True),
    "i8_groups": Form("i8", group=16, channels=48),
    "wide": Form("f8E5M2", order=("B", "N", "S", "H", "D")),
    "split_d": Form(split={"D": 16}, order=("S", "B", "D.o", "N", "H", "D.i"),
                    group=32),
    "split_both": Form("i8", heads=6, split={"D": 8, "H": 2},
                       order=("S", "B", "H.o", "D.o", "N", "H.i", "D.i")),
    "shared": Form(shared="H"),
    "shared_groups": Form("i8", shared="H", group=16, heads=3),
    "shared_many": Form(shared="H", heads=40, channels=128, sides=0),
    "odd": Form(channels=51, heads=3),
    "long": Form(channels=1200, heads=1, sides=0),
    "prime": Form(channels=331, heads=1, sides=0, group=331),
    "given": Form(shared="BN"),
    "given_one": Form("i8", shared="SBNH", order=("B", "S", "H", "N", "D")),
    "given_groups": Form("f8E5M2", shared="BNH", group=16, heads=3),
    "given_long": Form("i8", shared="BN", channels=1200, heads=2),
    "given_cross": Form(shared="BN", layers=3, sliced=True,
                        order=("B", "L", "S", "N", "H", "D")),
    "given_layers": Form(shared="LBN", layers=3, sliced=True,
                         order=("B", "L", "S", "N", "H", "D")),
    "latent": Form(sides=0, heads=0, channels=192, group=64),
    "unknown_stride": Form(stride=16),
    "unknown_odd": Form(stride=3),
    "gaps": Form(sides=0, gap=3, group=32),
    "cross": Form(layers=3, sliced=True, order=("B", "L", "S", "N", "H", "D")),
}
SCHEDULES = {
    "nhd": "schedule <threads = 64, rows = 3, streaming = true>",
    "shared_many": "schedule <threads = 32, rows = 2, streaming = false>",
}
ROWS = {"record": "f32", "i8_groups": "f16", "shared": "f16", "wide": "f32",
        "odd": "f32", "shared_many": "f32"}
LAYERS = dict(sides=2, layers=3, order=("B", "L", "S", "N", "H", "D"))
# Pairs of forms.
RELAYOUTS = [
    (Form("bf16", group=-1), Form(order=("B", "S", "H", "N", "D"))),
    (Form(order=("B", "S", "H", "N", "D")), Form("bf16", group=-1)),
    (Form("f32", group=-1, **LAYERS), Form("i8", group=32, **LAYERS)),
    (Form(**LAYERS), Form("i8", layers=3, group=32)),
    (Form("i8", group=16), Form(shared="H", group=32)),
    (Form(shared="H", group=64), Form("f8E5M2", group=16, split={"D": 32})),
    (Form("i8", record=True, sides=0), Form("f8E4M3FN", sides=0)),
    (Form(channels=51, heads=3), Form("f16", group=-1, channels=51, heads=3)),
    (Form("i8", shared="H", heads=24), Form(shared="H", heads=24)),
    (Form(shared="BN"), Form(shared="BN", order=("B", "S", "H", "N", "D"))),
    (Form("i8", group=32), Form(shared="SBNH")),
    (Form(shared="BNS", **LAYERS), Form("i8", shared="BNH", group=16, **LAYERS)),
    (Form(shared="LBN", **LAYERS), Form("i8", shared="LSBN", **LAYERS)),
    (Form(), Form(order=("B", "N", "H", "S", "D"))),  # a copy
]


def row_type(form, element):
    heads = f"{form.heads}x" if form.heads else ""
    return f"memref<?x{heads}{form.channels}x{element}>"


def program():
    text = ""
    for name, form in FORMS.items():
        pool, row = form.type(), row_type(form, ROWS.get(name, "bf16"))
        cache, first, argument = pool, "", f"%cache: {pool}"
        if form.sliced:
            cache, argument = form.layer().type(), f"%all: {pool}, %l: index"
            first = f"%cache = kvcache.layer %all[%l] : {pool}"
        sides = form.sides or 1
        names = ", ".join(f"%r{i}" for i in range(sides))
        types = ", ".join([row] * sides)
        params = ", ".join(f"%r{i}: {row}" for i in range(sides))
        slots, own = (
            f"!kvcache.slots<?T x i64, rows_per_block = {n}, "
            "pad = skip_negative>" for n in (TOKENS + form.gap, TOKENS))
        how = SCHEDULES.get(name, "")
        text += f"""
func.func @{name}_write({argument}, {params}, %slots: {slots}) {{
  {first}
  kvcache.index_copy {names} into %cache at %slots {how}
    : {types} into {cache} at {slots}
  return
}}
func.func @{name}_scatter({argument}, {params}, %b: memref<?xi32>,
                          %n: memref<?xi32>) {{
  {first}
  kvcache.scatter {names} into %cache at %b, %n pad = skip_negative
    : {types} into {cache} at memref<?xi32>, memref<?xi32>
  return
}}
"""
        for how in ("", "zero"):
            text += f"""
func.func @{name}_read{how}({argument}, {params}, %slots: {own}) {{
  {first}
  kvcache.gather %cache at %slots {how} into {names}
    : {cache} at {own} into {types}
  return
}}
"""
    for number, (a, b) in enumerate(RELAYOUTS):
        text += f"""
func.func @relayout{number}(%from: {a.type()}, %to: {b.type()}) {{
  kvcache.relayout %from into %to : {a.type()} into {b.type()}
  return
}}
"""
    return text


def test_rows(library, name, form, rng):
    machine.launches.clear()
    element = ROWS.get(name, "bf16")
    sides, count = form.sides or 1, 11
    shape = (count,) + ((form.heads,) if form.heads else ()) + (form.channels,)
    logical = (count, form.heads or 1, form.channels)
    slots = rng.permutation(BLOCKS * TOKENS)[:count].astype(np.int64)
    slots[3], slots[7] = -1, BLOCKS * TOKENS
    live = (slots >= 0) & (slots < BLOCKS * TOKENS)
    block, token = slots // TOKENS, slots % TOKENS
    counted = np.where(slots < 0, -1, block * (TOKENS + form.gap) + token)
    if form.gap:
        live[5], counted[5] = False, block[5] * (TOKENS + form.gap) + TOKENS
        token[5] = TOKENS
    layer = 1 if form.sliced else 0
    number = [layer] if form.sliced else []

    def tensor(array, element):
        return machine.Tensor(array.reshape(-1), element, array.shape)

    for how in ("write", "scatter"):
        pool = Pool(form, rng)
        given = [hard_rows(rng, shape, element) for _ in range(sides)]
        want, edges = pool.arrays(), pool.untouched()
        for side, raw in enumerate(given):
            scales = want[1][0 if "L" in form.shared else layer,
                             0 if "S" in form.shared else side, 0, 0]
            parts = quantised(numbers(raw, element).reshape(logical), form,
                              scales)
            for array, part in zip(want, parts):
                array[layer, side, block[live], token[live]] = part[live]
        lists = [tensor(counted, "i64")]
        if how == "scatter":
            lists = [tensor(array.astype(np.int32), "i32")
                     for array in (block, token)]
        library.run(f"{name}_{how}", *pool.tensors(), *number,
                    *[tensor(raw, element) for raw in given], *lists)
        pool.check(want, edges, f"{name}_{how}")

    token[5] = slots[5] % TOKENS
    for how in ("read", "readzero"):
        pool = Pool(form, rng)
        before, edges = pool.arrays(), pool.untouched()
        out = [np.full(shape, encode(7.0, element), STORAGE[element])
               for _ in range(sides)]
        floats, live = pool.read(), slots >= 0
        live[7] = False
        expected = []
        for side in range(sides):
            want = out[side].copy() if how == "read" else np.zeros_like(
                out[side])
            want[live] = encode(
                floats[layer, side, block[live], token[live]], element
            ).reshape(-1, *shape[1:])
            expected.append(want)
        library.run(f"{name}_{how}", *pool.tensors(), *number,
                    *[tensor(raw, element) for raw in out],
                    tensor(slots, "i64"))
        for got, want in zip(out, expected):
            assert same_elements(got, want, element), f"{name}_{how}"
        pool.check(before, edges, f"{name}_{how}")
    # An access is as wide as what a call says allows.
    assert name == "unknown_odd" or not any(
        "_any" in kernel for kernel, _, _ in machine.launches)
    return 4 * count * sides * form.channels * (form.heads or 1)


def test_relayout(library, number, a, b, rng):
    source, dest = Pool(a, rng), Pool(b, rng)
    before, edges = source.arrays(), source.untouched()
    is_copy = (a.element, a.group, a.shared) == (b.element, b.group, b.shared)
    is_copy &= "B" not in b.shared
    want = before if is_copy else written(source.read(), dest)
    dest_edges = dest.untouched()
    library.run(f"relayout{number}", *source.tensors(), *dest.tensors())
    source.check(before, edges, f"relayout{number}: source")
    dest.check(want, dest_edges, f"relayout{number}")
    return want[0].size


def main():
    rng = np.random.default_rng(11)
    for target in ("sm_80", "sm_90a"):
        library = machine.compile_library(program(), f"on_{target}", target,
                                          "--max-variants=1")
        count = sum(test_rows(library, name, form, rng)
                    for name, form in FORMS.items())
        count += sum(test_relayout(library, number, a, b, rng)
                     for number, (a, b) in enumerate(RELAYOUTS))
        print(f"{target}: {count} numbers")


main()
