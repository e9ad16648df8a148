# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A paged cache over a flat NumPy array, and its views.

A `Cache` has its axes in the sequence in which the type lists them (L S B N H
D, where H and D may be split as `D.o`, `D.i`), and `array`, a strided view that
has one dimension for each. A *logical* array has one dimension per letter, so
that split axes do not show.
"""

from collections import namedtuple

import numpy as np
from ref_elements import STORAGE, decode, type_of

LETTERS = "LSBNHD"

# From the slowest to the fastest axis. C of the last six is content: S, D.
ORDERS = {
    "nhd": "S B N H D",
    "hnd": "S B H N D",
    "paired_nhd": "B S N H D",
    "paired_hnd": "B S H N D",
    "cross_layer_nhd": "B L S N H D",
    "cross_layer_hnd": "B H L S N D",
    "LBHNC": "L B H N S D",
    "LBNHC": "L B N H S D",
    "LHBNC": "L H B N S D",
    "BLHNC": "B L H N S D",
    "BLNHC": "B L N H S D",
    "BHLNC": "B H L N S D",
    "x_packed_key": "B H D.o N D.i",
    "x_packed_value": "B H D N",
}

# What a caller hands over for an argument, counted in elements; the fields are
# the first arguments of kvtest.Tensor.
Array = namedtuple("Array", "storage element_type shape strides offset")


class NotAView(Exception):
    """The elements are not in the places that a view needs."""


class CallFails(Exception):
    """The specification says that the call fails."""


def order_of(order, axes):
    """The axes from slowest to fastest, for a name, a list or None."""
    if order is None:
        return tuple(axes)
    named = isinstance(order, str) and order in ORDERS
    letters = ORDERS[order].split() if named else list(order)
    if named:
        letters = [a for a in letters if a in axes]
    assert sorted(letters) == sorted(axes), f"order {order} of {axes}"
    return tuple(letters)


def compact(extents, order, given=()):
    """The stride of each axis; those in `given` are not compact."""
    strides, step = {}, 1
    for axis in reversed(order):
        if extents[axis] != 1:
            step = dict(given).get(axis, step)
        strides[axis] = step
        step *= extents[axis]
    return strides


def _affine(offsets, first):
    """The strides that lead to these offsets, if there are any."""
    strides = []
    for dim, extent in enumerate(offsets.shape):
        origin = [0] * offsets.ndim
        if extent > 1 and offsets.size:
            origin[dim] = 1
            strides.append(int(offsets[tuple(origin)]) - first)
        else:
            strides.append(1)
    made = first + sum(
        (np.arange(e).reshape([-1] + [1] * (offsets.ndim - 1 - i)) * s
         for i, (e, s) in enumerate(zip(offsets.shape, strides))),
        start=np.zeros(offsets.shape, np.int64))
    if not np.array_equal(made, offsets):
        raise NotAView(f"{offsets.shape}")
    return strides


class Cache:
    def __init__(self, axes, array, storage=None):
        self.axes = tuple(axes)
        self.array = array
        self.element_type = type_of(array)
        # The flat array that the strides walk in, if it is known.
        self.storage = storage
        assert array.ndim == len(self.axes), (array.shape, self.axes)
        listed = [LETTERS.index(a[0]) for a in self.axes]
        assert listed == sorted(listed), f"axes {self.axes}"

    @classmethod
    def of(cls, array, axes):
        """See an array as a cache; `axes` are its dimensions, in any sequence:
        a list, or a string of letters."""
        axes = list(axes)
        # Of a split axis, `.i` comes first in the alphabet.
        listed = sorted(sorted(axes, reverse=True),
                        key=lambda a: LETTERS.index(a[0]))
        return cls(listed, array.transpose([axes.index(a) for a in listed]))

    @classmethod
    def make(cls, extents, element_type="f32", order=None, strides=(),
             offset=0, storage=None, slack=0):
        """A cache of zeros, or one in `storage`.

        extents: axis -> extent, in listed sequence
        strides: axis -> stride where it is not compact
        offset:  elements before the first one; `slack` are behind the last one
        """
        axes = tuple(extents)
        steps = compact(extents, order_of(order, axes), strides)
        last = sum((extents[a] - 1) * steps[a] for a in axes)
        count = 1 + last if all(extents.values()) else 0
        if storage is None:
            storage = np.zeros(max(1, offset + count + slack),
                               STORAGE[element_type])
        assert storage.dtype == STORAGE[element_type]
        assert storage.size >= offset + count, "the storage is too small"
        array = np.lib.stride_tricks.as_strided(
            storage[offset:], [extents[a] for a in axes],
            [steps[a] * storage.itemsize for a in axes])
        return cls(axes, array, storage)

    @classmethod
    def of_bytes(cls, raw, extents, element_type, order=None, strides=(),
                 offset=0, align=16):
        """A view of an array of bytes; `offset` counts bytes."""
        dtype = np.dtype(STORAGE[element_type])
        axes = tuple(extents)
        steps = compact(extents, order_of(order, axes), strides)
        last, room = 0, 1
        for axis in reversed(order_of(order, axes)):
            if extents[axis] != 1:
                if steps[axis] < room:
                    raise CallFails(f"{axis} overlaps the faster axes")
                last += (extents[axis] - 1) * steps[axis]
                room = extents[axis] * steps[axis]
        size = (last + 1) * dtype.itemsize if all(extents.values()) else 0
        if offset < 0 or offset + size > raw.size:
            raise CallFails("the view leaves its bytes")
        if (raw.__array_interface__["data"][0] + offset) % align:
            raise CallFails("the view is not aligned")
        whole = (raw.size - offset) // dtype.itemsize * dtype.itemsize
        storage = raw[offset : offset + whole].view(dtype)
        return cls.make(extents, element_type, order, strides, 0, storage)

    # --- What it is -----------------------------------------------------------

    @property
    def letters(self):
        return "".join(x for x in LETTERS if any(a[0] == x for a in self.axes))

    def extent(self, letter):
        """The extent of an axis, of all its parts; 1 if there is none."""
        return int(np.prod([n for a, n in zip(self.axes, self.array.shape)
                            if a == letter or a[0] == letter], dtype=np.int64))

    @property
    def logical_shape(self):
        return [self.extent(x) for x in self.letters]

    @property
    def row_shape(self):
        """The shape of one token of one side: [H, D], or [D]."""
        return [self.extent(x) for x in self.letters if x in "HD"]

    @property
    def strides(self):
        return [s // self.array.itemsize for s in self.array.strides]

    @property
    def offset(self):
        distance = (self.array.__array_interface__["data"][0]
                    - self.storage.__array_interface__["data"][0])
        return distance // self.array.itemsize

    def offsets(self):
        """Where each element is in the storage, by listed axes."""
        out = np.full(self.array.shape, 0 if self.storage is None
                      else self.offset, np.int64)
        for dim, stride in enumerate(self.strides):
            index = np.arange(out.shape[dim]) * stride
            out += index.reshape([-1] + [1] * (out.ndim - 1 - dim))
        return out

    def argument(self):
        """The array that a caller hands over for this cache."""
        return Array(self.storage, self.element_type, list(self.array.shape),
                     self.strides, self.offset)

    def arguments(self):
        return [self.argument()]

    def on(self, storage):
        """The same layout in other storage."""
        array = np.lib.stride_tricks.as_strided(
            storage[self.offset :], self.array.shape, self.array.strides)
        return Cache(self.axes, array, storage)

    def clone(self):
        return self.on(self.storage.copy())

    # --- Contents -------------------------------------------------------------

    def get(self):
        """A logical copy of the raw elements."""
        return np.array(self.array, order="C").reshape(self.logical_shape)

    def put(self, raw):
        self.array[...] = np.asarray(raw).reshape(self.array.shape)

    def numbers(self):
        return decode(self.get(), self.element_type)

    def _index(self, **at):
        return tuple(at.get(a, slice(None)) for a in self.axes)

    def get_token(self, side, block, token):
        """The row [H, D] or [D] of a token of a side, in a cache of a layer."""
        part = self.array[self._index(L=0, S=side, B=block, N=token)]
        return np.array(part, order="C").reshape(self.row_shape)

    def put_token(self, side, block, token, row):
        index = self._index(L=0, S=side, B=block, N=token)
        self.array[index] = np.asarray(row).reshape(self.array[index].shape)

    def check_one_layer(self):
        assert self.extent("L") == 1, "not a cache of one layer"

    # --- Views ----------------------------------------------------------------

    def _cut(self, axis, index):
        """One index of an axis, which goes, or a slice of it."""
        axes = [a for a in self.axes if isinstance(index, slice) or a != axis]
        return Cache(axes, self.array[self._index(**{axis: index})],
                     self.storage)

    def layer(self, index):
        assert "L" in self.axes
        if not 0 <= index < self.extent("L"):
            raise CallFails(f"layer {index}")
        return self._cut("L", index)

    def side(self, index):
        assert "S" in self.axes and 0 <= index < self.extent("S")
        return self._cut("S", index)

    def subpool(self, first, count):
        if first < 0 or count < 0 or first + count > self.extent("B"):
            raise CallFails(f"blocks {first} and {count} from there")
        return self._cut("B", slice(first, first + count))

    def heads(self, first, count):
        assert "H" in self.axes and count >= 1 and first >= 0
        assert first + count <= self.extent("H")
        return self._cut("H", slice(first, first + count))

    def _cut_anew(self, shape, axes):
        """The strides under which a row-major walk meets the same elements."""
        offsets = self.offsets()
        offsets = offsets.transpose([self.axes.index(a)
                                     for a in axes or self.axes])
        first = self.offset if self.storage is not None else 0
        strides = _affine(offsets.reshape(shape), first)
        return np.lib.stride_tricks.as_strided(
            self.array, shape, [s * self.array.itemsize for s in strides])

    def reshape(self, extents):
        """A cache with the extents of `extents`, axis -> extent, as a view."""
        result = Cache(extents,
                       self._cut_anew(list(extents.values()), None),
                       self.storage)
        for letter in "LSHD":
            assert result.extent(letter) == self.extent(letter), letter
        return result

    def reshape_array(self, shape, axes=None):
        """An array with other extents, of axes as listed or as named, as a
        view."""
        return self._cut_anew(shape, axes)

    def flatten(self):
        """The rows [slots, H, D] of one side, as a view."""
        assert "L" not in self.axes and "S" not in self.axes
        slots = self.extent("B") * self.extent("N")
        return self._cut_anew([slots, *self.array.shape[2:]], None)

    def transposed(self, axes):
        """`storage`: an array with the axes as named, as a view."""
        return self.array.transpose([self.axes.index(a) for a in axes])
