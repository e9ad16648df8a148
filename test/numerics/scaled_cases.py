# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Random caches with scales, in the place of those of `cases`."""

from dataclasses import dataclass

import cases
import numpy as np
from attention_cases import Function, grid
from cache_types import CacheType
from ref_cache import Array
from ref_scaled import LARGEST, Scaled, stored_of

FORMS = list(LARGEST)
# What the memory of stored values is for `cases`.
BYTES = "f8E4M3FN"


@dataclass(frozen=True)
class ScaledType:
    values: CacheType
    scales: CacheType
    form: str

    @property
    def space(self):
        return self.values.space

    def _both(self, function):
        return ScaledType(function(self.values), function(self.scales),
                          self.form)

    def layer(self):
        return self._both(lambda part: part.layer())

    def side(self, index):
        return self._both(lambda part: part.side(index))

    def heads(self, first, count):
        shared = self.scales.axes.get("H") == 1
        scales = self.scales if shared else self.scales.heads(first, count)
        return ScaledType(self.values.heads(first, count), scales, self.form)

    def subpool(self):
        return self._both(lambda part: part.subpool())

    def __str__(self):
        per = [a for a in "LSBN" if a in self.values.axes]
        heads = self.values.axes.get("H")
        if heads is not None and (self.scales.axes["H"] != 1 or heads == 1):
            per.append("H")
        facts = str(self.scales).partition(", strides = [")[2]
        strides = f", strides = [{facts.split(']')[0]}]" if facts else ""
        return str(self.values).replace(
            f" x {BYTES}", f" x !kvcache.scaled<{self.form} x f32, "
            f"per = [{', '.join(per)}]{strides}>")


@dataclass
class ScaledCase:
    """Two cases of `cases`, which are sliced alike."""

    values: cases.CacheCase
    scales: cases.CacheCase
    form: str

    @property
    def type(self):
        return ScaledType(self.values.type, self.scales.type, self.form)

    @property
    def cache(self):
        return Pair(self.values.cache, self.scales.cache, self.form)

    @property
    def view(self):
        return Pair(self.values.view, self.scales.view, self.form)

    @property
    def steps(self):
        return self.values.steps

    def then(self, *step):
        shared = step[0] == "heads" and self.scales.cache.extent("H") == 1
        return ScaledCase(self.values.then(*step),
                          self.scales if shared else self.scales.then(*step),
                          self.form)

    def instead(self, *step):
        return ScaledCase(self.values.instead(*step),
                          self.scales.instead(*step), self.form)

    def resized(self, rng, blocks):
        if blocks == 1:  # a fact of either part may ask for more
            blocks = 2
        return ScaledCase(cases.resized(rng, self.values, blocks),
                          cases.resized(rng, self.scales, blocks), self.form)

    def check(self, expected, what=""):
        self.values.check(expected.values, what)
        self.scales.check(expected.scales, what)


class Pair(Scaled):
    """What a caller hands over, and how it is filled."""

    def clone(self):
        return Pair(self.values.clone(), self.scales.clone(), self.form)

    def side(self, index):
        return Pair(self.values.side(index), self.scales.side(index), self.form)

    def arguments(self):
        values, scales = self.values.argument(), self.scales.argument()
        stored = values.storage.view(np.uint8 if self.form != "i8" else np.int8)
        if self.form == "f8E5M2":
            stored = stored.view(np.int8)
        return [Array(stored, self.form, *values[2:]), scales]

    def fill(self, rng, used=None):
        """Numbers about 1 in the tokens that are used, by any scales."""
        def kept(new, cache):
            if used is None:
                return new
            b = cache.letters.index("B")
            mask = used.reshape([1] * b + list(used.shape)
                                + [1] * (new.ndim - b - 2))
            return np.where(mask, new, cache.get())
        scales = np.exp2(rng.uniform(-12, 2, self.scales.logical_shape)
                         ).astype(np.float32)
        largest = 127 if self.form == "i8" else 16
        shape = self.values.logical_shape
        # As if the largest of some normal numbers had become the largest one.
        numbers = rng.standard_normal(shape) * (largest / 4)
        raw = stored_of(np.clip(numbers, -largest, largest), self.form,
                        self.values.array)
        self.scales.put(kept(scales * np.float32(4 / largest), self.scales))
        self.values.put(kept(raw, self.values))


def scaled_cache(rng, values, form):
    """Scales for a case of bytes."""
    extents = dict(zip(values.cache.axes, values.cache.array.shape))
    shared = any(a[0] == "H" for a in extents) and rng.random() < 0.2
    own = {a: 1 if a[0] == "H" and shared else n
           for a, n in extents.items() if a[0] != "D"} | {"D": 1}
    order = []
    for axis in values.type.order:
        axis = "D" if axis[0] == "D" else axis
        if axis not in order:
            order.append(axis)
    run_time = [a for a, n in values.type.axes.items() if n is None]
    scales = cases.make_cache(rng, own, "f32", tuple(order),
                              str(rng.choice(cases.STYLES)), 0, run_time,
                              align=4)
    case = ScaledCase(cases.replace(values, steps=[]), scales, form)
    for step in values.steps:
        case = case.then(*step)
    return case


class ScaledFunction(Function):
    """Attention over caches of which each may have scales."""

    def _cache(self, rng, channels, blocks):
        form = str(rng.choice(FORMS))
        values = super()._cache(rng, channels, blocks)
        # Of two caches, one may have none.
        if self.choice["caches"].startswith("two") and rng.random() < 0.25:
            return values
        return scaled_cache(rng, values, form)


def grid_choices(rng, count):
    return list(grid(rng, count, cache=BYTES))
