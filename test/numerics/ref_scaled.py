# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Caches with scales in NumPy: two caches, and what they stand for together.

The arithmetic of scales is that of f32, rounded after each operation, so that all
of it is exact to the bit.
"""

import numpy as np
from ref_elements import ELEMENTS, decode, encode, type_of

# -128 is read, but never written.
LARGEST = {"i8": 127.0, "f8E4M3FN": 448.0, "f8E5M2": 57344.0}
LEAST = np.float32(2.0**-60)
MOST = np.float32(ELEMENTS["f32"].largest)
# The elements of the memory of stored values, as tests make it.
STORED = {"i8": "i8", "f8E4M3FN": "f8E4M3FN", "f8E5M2": "f8E5M2"}


def numbers_of(raw, form):
    if form == "i8":
        return raw.view(np.int8).astype(np.float64)
    return decode(raw, form)


def stored_of(numbers, form, like):
    """Raw stored values, in the dtype of an array."""
    if form == "i8":
        x = np.where(np.isnan(numbers), 0, np.clip(np.rint(numbers), -128, 127))
        return x.astype(np.int8).view(like.dtype)
    return encode(numbers, form).view(like.dtype)


class Scaled:
    """values, scales: a `Cache` each; an axis whose indices share a scale has
    extent 1 in the scales, and D as many indices as there are groups. `given`
    scales are read where rows are written."""

    def __init__(self, values, scales, form, given=False):
        self.values, self.scales, self.form = values, scales, form
        self.given = given

    def clone(self):
        return type(self)(self.values.clone(), self.scales.clone(), self.form,
                          self.given)

    def layer(self, index):
        return self._slice("L", lambda cache, i: cache.layer(i), index)

    def side(self, index):
        return self._slice("S", lambda cache, i: cache.side(i), index)

    def _slice(self, letter, of, index):
        shared = self.scales.extent(letter) == 1
        return type(self)(of(self.values, index),
                          of(self.scales, 0 if shared else index), self.form,
                          self.given)

    @property
    def moved(self):
        """The parts that move with blocks."""
        return [self.values] if self.given else [self.values, self.scales]

    def extent(self, letter):
        return self.values.extent(letter)

    # Of a token: rows [H, D] and scales [heads or 1, groups].

    def _shapes(self):
        heads, channels = self.extent("H"), self.extent("D")
        return (heads, channels), (self.scales.extent("H"),
                                   self.scales.extent("D"))

    def _place(self, *place):
        """Of the scales of a side, a block and a token."""
        return [0 if self.scales.extent(letter) == 1 else index
                for letter, index in zip("SBN", place)]

    def spread(self, scales):
        """A scale for each element."""
        (heads, channels), (own, groups) = self._shapes()
        wide = np.repeat(scales.reshape(own, groups), channels // groups, axis=1)
        return np.broadcast_to(wide, (heads, channels))

    def get_token(self, side, block, token):
        """Elements as numbers of f32."""
        shape, _ = self._shapes()
        raw = self.values.get_token(side, block, token).reshape(shape)
        scales = self.scales.get_token(*self._place(side, block, token))
        with np.errstate(all="ignore"):
            return (numbers_of(raw, self.form).astype(np.float32)
                    * self.spread(scales))

    def put_token(self, side, block, token, row):
        """Elements that are numbers of f32."""
        shape, (own, groups) = self._shapes()
        row = np.asarray(row, np.float32).reshape(shape)
        raw = self.values.get_token(side, block, token)
        if self.given:
            scales = self.scales.get_token(*self._place(side, block, token))
            with np.errstate(all="ignore"):
                scaled = row * self.spread(np.float32(1) / scales)
            self.values.put_token(side, block, token,
                                  stored_of(scaled, self.form, raw))
            return
        parts = np.abs(row).reshape(own, shape[0] // own, groups, -1)
        with np.errstate(all="ignore"):
            most = np.where(np.isnan(parts), 0, parts).max(axis=(1, 3))
            most = np.minimum(np.maximum(most.astype(np.float32), LEAST), MOST)
            largest = np.float32(LARGEST[self.form])
            scales, inverse = most / largest, largest / most
            scaled = row * self.spread(inverse)
        self.values.put_token(side, block, token,
                              stored_of(scaled, self.form, raw))
        self.scales.put_token(side, block, token, scales)

    def numbers(self):
        """All elements of one layer or side, by listed axes, as attention sees
        them."""
        shape = self.values.logical_shape
        scales = np.broadcast_to(self.scales.get(), self._like(shape))
        wide = np.repeat(scales, shape[-1] // scales.shape[-1], axis=-1)
        return numbers_of(self.values.get(), self.form) * wide

    def _like(self, shape):
        return [*shape[:-1], self.scales.extent("D")]

    # For the reference of attention.

    @property
    def axes(self):
        return self.values.axes

    def check_one_layer(self):
        self.values.check_one_layer()


def read(cache, side, block, token):
    """Numbers of f32 of any cache."""
    if isinstance(cache, Scaled):
        return cache.get_token(side, block, token)
    raw = cache.get_token(side, block, token)
    return decode(raw, cache.element_type).astype(np.float32)


def write(cache, side, block, token, numbers):
    if isinstance(cache, Scaled):
        return cache.put_token(side, block, token, numbers)
    shape = cache.row_shape
    cache.put_token(side, block, token,
                    encode(numbers, cache.element_type).reshape(shape))


def f32_of(row):
    return decode(row, type_of(row)).astype(np.float32)


def places(slots, cache):
    tokens, blocks = cache.extent("N"), cache.extent("B")
    for t, slot in enumerate(slots):
        slot = int(slot)
        inside = 0 <= slot < blocks * tokens
        yield t, divmod(slot, tokens) if inside else None


def index_copy(cache, rows, slots):
    for t, place in places(slots, cache):
        if place:
            for side, values in enumerate(rows):
                cache.put_token(side, *place, f32_of(values[t]))


def scatter(cache, rows, blocks, offsets):
    for t, (block, offset) in enumerate(zip(blocks, offsets)):
        if 0 <= block < cache.extent("B") and 0 <= offset < cache.extent("N"):
            for side, values in enumerate(rows):
                cache.put_token(side, int(block), int(offset),
                                f32_of(values[t]))


def gather(cache, slots, outs, zero):
    for t, place in places(slots, cache):
        for side, out in enumerate(outs):
            if place:
                out[t] = encode(cache.get_token(side, *place).reshape(
                    out[t].shape), type_of(out))
            elif zero:
                out[t] = 0


def relayout(source, dest):
    for layer in range(source.extent("L")):
        one = [c.layer(layer) for c in (source, dest)
               ] if source.extent("L") > 1 else [source, dest]
        for side in range(source.extent("S")):
            for block in range(min(source.extent("B"), dest.extent("B"))):
                for token in range(source.extent("N")):
                    write(one[1], side, block, token,
                          read(one[0], side, block, token))
