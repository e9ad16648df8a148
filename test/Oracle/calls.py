# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Calls of random programs: their arguments, in memory of their own, for the
interpreter and for a library.

Each region of memory lies between pages that cannot be accessed, at their very
start or end. What is in a region and is not an element is a canary.
"""

import ctypes
import mmap
from dataclasses import dataclass

import numpy as np
from builder import BITS
from ir_types import DTYPES, FLOATS
from ref_elements import encode

PAGE = 4096
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


@dataclass
class Region:
    """Bytes, and how far their address is from a multiple of a page."""

    contents: np.ndarray
    align: int
    at_end: bool
    element: str


@dataclass
class ArrayArgument:
    region: int
    offset: int  # in elements
    element: str
    shape: list
    strides: list
    # What the caller says of them: anything where an extent is 1.
    seen: list


@dataclass
class Call:
    arguments: list
    regions: list
    dims: dict
    outs: list  # memory for results
    donated: list  # for each result the argument that has it, or None


class TooLarge(Exception):
    pass


class Arena:
    """Slots of memory between guards."""

    def __init__(self, slots=48, size=64 * PAGE, guarded=True):
        self.size, self.slots = size, slots
        step = size + PAGE
        self.map = mmap.mmap(-1, slots * step + PAGE)
        self.view = np.frombuffer(self.map, np.uint8)
        self.base = self.view.ctypes.data
        self.starts = [PAGE + i * step for i in range(slots)]
        if guarded:
            for i in range(slots + 1):
                if _libc.mprotect(self.base + i * step, PAGE, 0):
                    raise OSError(ctypes.get_errno(), "mprotect")

    def place(self, slot, region):
        """The bytes of a region in a slot: at its end if it is wished."""
        size = len(region.contents)
        if size > self.size or slot >= self.slots:
            raise TooLarge
        begin = self.starts[slot]
        if region.at_end:
            last = begin + self.size - size
            begin = last - last % region.align
        part = self.view[begin : begin + size]
        part[:] = region.contents
        return part

    def address(self, slot, region):
        return self.place(slot, region).ctypes.data


# --- Contents -----------------------------------------------------------------


def _of_numbers(numbers, element):
    with np.errstate(over="ignore"):
        if element == "f64":
            return numbers
        return encode(numbers.astype(np.float32), element)


def random_elements(rng, count, element, wild):
    """Numbers, and in some places bits that are no ordinary ones."""
    dtype = np.dtype(DTYPES[element])
    if element in FLOATS:
        numbers = rng.standard_normal(count)
        out = _of_numbers(numbers, element)
        if wild and count:
            odd = rng.random(count) < 0.05
            special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-42, 6e4,
                                65520.0, 3e38])
            values = _of_numbers(rng.choice(special, count), element)
            out[odd] = values[odd]
        return out
    return rng.integers(-100, 100, count).astype(dtype)


def _strides(rng, shape, kind):
    """Strides for a cache: what its type leaves open is drawn."""
    given, span = {}, 1
    for axis in reversed(kind.order):
        fact = kind.facts.get(axis) if kind.axes[axis] != 1 else None
        if isinstance(fact, tuple):
            # Also of one index: it is what a compact axis above has.
            least = span + int(rng.choice([0, 0, 0, 1, 3, 8, 64]))
            span = -(-least // fact[1]) * fact[1]
        elif fact is not None and not isinstance(fact, tuple):
            span = fact
        given[axis] = span
        span *= max(1, shape[axis])
    return given


def garbage(rng, shape, strides, share):
    """What a caller may say of dimensions of extent 1."""
    if rng.random() >= share:
        return list(strides)
    odd = [0, 1, -1, 1_000_000_000, -7, 1 << 40]
    if 0 in shape:
        return [int(rng.choice(odd)) for _ in shape]
    return [int(rng.choice(odd)) if n == 1 else s
            for n, s in zip(shape, strides)]


class CallMaker:
    """One call of a program. `rng` is Python's, `bits` NumPy's."""

    GARBAGE = 0.3

    def __init__(self, program, rng, bits):
        self.program, self.rng, self.bits = program, rng, bits
        self.dims, self.regions, self.shared = {}, [], {}
        self.extras = {}
        self.wild = rng.random() < 0.4 and "attention" not in program.tags
        for name, choose in program.dims.items():
            self.dims[name] = choose(rng, self.dims)

    def make(self):
        made = {}
        later = []
        for name, _, spec in self.program.arguments:
            if spec.kind == "number" and isinstance(spec.values, tuple):
                later.append((name, spec))
                continue
            made[name] = getattr(self, f"_{spec.kind}")(name, spec)
        for name, spec in later:
            _, raw, what, axis = spec.values
            made[name] = self._hostile_view(self.extras[raw], what, axis)
        arguments = [made[name] for name, _, _ in self.program.arguments]
        outs = [getattr(self, f"_{place.kind}")(name, place)
                for name, _, place in self.program.results
                if not isinstance(place, int)]
        donated = [place if isinstance(place, int) else None
                   for _, _, place in self.program.results]
        return Call(arguments, self.regions, self.dims, outs, donated)

    def _seen(self, shape, strides):
        return garbage(self.bits, shape, strides, self.GARBAGE)

    def _number(self, name, spec):
        value = int(spec.values(self.rng, self.dims))
        bits = BITS[spec.element]
        return value & 1 if bits == 1 else value

    def _real(self, name, spec):
        return float(spec.values(self.rng, self.dims))

    def _shape(self, spec):
        return [self.dims[n] if isinstance(n, str) else (n or 0)
                for n in spec.shape]

    def _region(self, contents, align, element):
        region = Region(contents.view(np.uint8), align,
                        self.rng.random() < 0.6, element)
        self.regions.append(region)
        return len(self.regions) - 1

    def _layout(self, spec):
        """Extents and strides of a cache by axis."""
        kind = spec.cache
        shape = dict(zip(kind.axes, self._shape(spec)))
        return shape, _strides(self.bits, shape, kind)

    def _pool(self, name, spec):
        kind = spec.cache
        shape, steps = self._layout(spec)
        span = 1 + sum((shape[a] - 1) * steps[a] for a in shape)
        span = span if all(shape.values()) else 0
        axes = list(spec.order) or list(kind.axes)
        extents, strides = [shape[a] for a in axes], [steps[a] for a in axes]
        known = self.shared.get(spec.memory)
        region, offset = None, 0
        if known and self.rng.random() < 0.75 and span <= known[1]:
            region = known[0]
            block = steps["B"]
            room = (known[1] - span) // max(1, block)
            size = np.dtype(DTYPES[spec.element]).itemsize
            shift = self.rng.randint(0, min(room, 2)) * block
            if shift * size % spec.align == 0:
                offset = shift
        if region is None:
            region = self._region(
                random_elements(self.bits, span, spec.element, self.wild),
                spec.align, spec.element)
            self.shared.setdefault(spec.memory, (region, span))
        return ArrayArgument(region, offset, spec.element, extents, strides,
                             self._seen(extents, strides))

    def _rows(self, name, spec):
        shape = self._shape(spec)
        strides = [int(np.prod(shape[i + 1 :], dtype=np.int64))
                   for i in range(len(shape))]
        size = np.dtype(DTYPES[spec.element]).itemsize
        align = max(spec.align, spec.row_align(size))
        if spec.heads_apart:
            strides[1] += int(self.bits.integers(0, 5))
            strides[0] = -(-strides[1] * shape[1] * size // align
                           ) * align // size
        if spec.apart and len(shape) > 1 and shape[0] > 1:
            unit = max(1, align // size)
            strides[0] += unit * int(self.bits.integers(0, 3))
        span = 1 + sum((n - 1) * s for n, s in zip(shape, strides))
        span = span if all(shape) else 0
        region = self._region(
            random_elements(self.bits, span, spec.element, self.wild), align,
            spec.element)
        return ArrayArgument(region, 0, spec.element, shape, strides,
                             self._seen(shape, strides))

    def _list(self, name, spec):
        shape = self._shape(spec)
        values = spec.values(self.rng, self.dims, shape[0])
        return self._integers(spec, shape, values)

    def _table(self, name, spec):
        shape = self._shape(spec)
        values = spec.values(self.rng, self.dims, shape[0] * shape[1])
        return self._integers(spec, shape, values)

    def _integers(self, spec, shape, values):
        dtype = np.dtype(DTYPES[spec.element])
        values = np.array(values, dtype).reshape(shape)
        strides = [int(np.prod(shape[i + 1 :], dtype=np.int64))
                   for i in range(len(shape))]
        if spec.apart and len(shape) == 2:
            strides[0] += int(self.bits.integers(0, 3))
        span = 1 + sum((n - 1) * s for n, s in zip(shape, strides))
        span = span if all(shape) else 0
        flat = np.full(span, 0x55, dtype)
        if span:
            np.lib.stride_tricks.as_strided(
                flat, shape, [s * dtype.itemsize for s in strides])[...] = values
        align = spec.row_align(dtype.itemsize)
        region = self._region(flat, align, spec.element)
        return ArrayArgument(region, 0, spec.element, shape, strides,
                             self._seen(shape, strides))

    def _bytes(self, name, spec):
        kind = spec.cache
        shape, steps = self._layout(spec)
        span = 1 + sum((shape[a] - 1) * steps[a] for a in shape)
        span = span if all(shape.values()) else 0
        size = np.dtype(DTYPES[spec.element]).itemsize
        offset = kind.align * self.rng.randint(0, 2)
        rest = self.rng.choice([0, 0, 1, 5])
        contents = random_elements(self.bits, span, spec.element, self.wild)
        contents = np.concatenate([np.full(offset, 0x5C, np.uint8),
                                   contents.view(np.uint8),
                                   np.full(rest, 0x5C, np.uint8)])
        region = self._region(contents, max(kind.align, size), spec.element)
        self.extras[name] = shape, steps, offset, len(contents)
        return ArrayArgument(region, 0, "i8", [len(contents)], [1], [1])

    def _hostile_view(self, extra, what, axis):
        shape, steps, offset, size = extra
        right = {"offset": offset, "extent": shape.get(axis),
                 "stride": steps.get(axis)}[what]
        if self.rng.random() < 0.96:
            return right
        return self.rng.choice([right + 1, right - 1, -1, 0, size, 1 << 62,
                                (1 << 63) - 1, -(1 << 63), 1 << 61, 1 << 32,
                                right * 2])
