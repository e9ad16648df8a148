# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Random caches with scales, in the place of those of `cases`."""

from dataclasses import dataclass, replace

import cases
import numpy as np
from attention_cases import Function, grid
from cache_types import CacheType
from ref_cache import Array
from ref_scaled import LARGEST, Scaled, stored_of

FORMS = list(LARGEST)
# What the memory of stored values is for `cases`.
BYTES = "f8E4M3FN"
AXES = {"layer": "L", "side": "S", "subpool": "B", "heads": "H"}


def of_scales(shared, step):
    """The steps that a step is for scales that all indices of some axes share."""
    kind, *operands = step
    if AXES[kind] not in shared:
        return [step]
    if kind in ("heads", "subpool"):
        return []
    return [(kind, 0, *operands[1:])]


@dataclass(frozen=True)
class ScaledType:
    values: CacheType
    scales: CacheType
    form: str
    shared: str  # letters of the axes whose indices share scales

    @property
    def space(self):
        return self.values.space

    def _slice(self, kind, *operands):
        scales = self.scales
        for kind_of_scales, *own in of_scales(self.shared, (kind, *operands)):
            scales = getattr(scales, kind_of_scales)(*own[:len(operands)])
        values = getattr(self.values, kind)(*operands)
        if kind == "heads" and self.shared == "H" and (
                operands[1] != self.values.axes["H"]):
            values = replace(values, access="read")
        return ScaledType(values, scales, self.form, self.shared)

    def layer(self):
        return self._slice("layer")

    def side(self, index):
        return self._slice("side", index)

    def heads(self, first, count):
        return self._slice("heads", first, count)

    def subpool(self):
        return self._slice("subpool")

    def __str__(self):
        per = [a for a in "LSBNH"
               if a in self.values.axes and a not in self.shared]
        facts = str(self.scales).partition(", strides = [")[2]
        strides = f", strides = [{facts.split(']')[0]}]" if facts else ""
        per = f", per = [{', '.join(per)}]" if per else ""
        return str(self.values).replace(
            f" x {BYTES}",
            f" x !kvcache.scaled<{self.form} x f32{per}{strides}>")


@dataclass
class ScaledCase:
    """Two cases of `cases`, which are sliced alike."""

    values: cases.CacheCase
    scales: cases.CacheCase
    form: str
    shared: str

    @property
    def type(self):
        return ScaledType(self.values.type, self.scales.type, self.form,
                          self.shared)

    @property
    def cache(self):
        return self._pair(self.values.cache, self.scales.cache)

    @property
    def view(self):
        return self._pair(self.values.view, self.scales.view)

    def _pair(self, values, scales):
        return Pair(values, scales, self.form, "B" in self.shared)

    @property
    def steps(self):
        return self.values.steps

    def then(self, *step):
        scales = self.scales
        for own in of_scales(self.shared, step):
            scales = scales.then(*own)
        return ScaledCase(self.values.then(*step), scales, self.form,
                          self.shared)

    def instead(self, *step):
        scales = self.scales
        for own in of_scales(self.shared, step):
            scales = scales.instead(*own)
        return ScaledCase(self.values.instead(*step), scales, self.form,
                          self.shared)

    def resized(self, rng, blocks):
        if blocks == 1:  # a fact of either part may ask for more
            blocks = 2
        scales = (self.scales if "B" in self.shared
                  else cases.resized(rng, self.scales, blocks))
        return ScaledCase(cases.resized(rng, self.values, blocks), scales,
                          self.form, self.shared)

    def check(self, expected, what=""):
        self.values.check(expected.values, what)
        self.scales.check(expected.scales, what)


class Pair(Scaled):
    """What a caller hands over, and how it is filled."""

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
            if cache is self.scales and self.given:
                return new
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
    shared = "BN" if rng.random() < 0.3 else ""
    shared += "".join(a for a in "LSH" if any(x[0] == a for x in extents)
                      and rng.random() < 0.2 and (shared or a == "H"))
    own = {a: 1 if a[0] in shared else n
           for a, n in extents.items() if a[0] != "D"} | {"D": 1}
    order = []
    for axis in values.type.order:
        axis = "D" if axis[0] == "D" else axis
        if axis not in order:
            order.append(axis)
    run_time = [a for a, n in values.type.axes.items()
                if n is None and a not in shared]
    if "B" in shared and "L" in run_time:  # of layers by a constant alone
        shared += "L"
        own["L"] = 1
        run_time.remove("L")
    scales = cases.make_cache(rng, own, "f32", tuple(order),
                              str(rng.choice(cases.STYLES)), 0, run_time,
                              align=4)
    case = ScaledCase(cases.replace(values, steps=[]), scales, form, shared)
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
