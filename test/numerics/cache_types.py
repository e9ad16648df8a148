# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The text of cache types, and which type a view of a cache has.

Worked out from the specification, not from the compiler: tests name the type of
a layer or a side to use it, so a disagreement is an error there.
"""

from dataclasses import dataclass, field
from typing import Optional

import numpy as np
from ref_cache import order_of
from ref_elements import STORAGE


def low_bit(n):
    return n & -n


@dataclass(frozen=True)
class CacheType:
    """axes: axis -> extent, None if it is known only at run time.
    facts: axis -> stride; ("mult", k) for a run-time multiple of k."""

    axes: dict
    element_type: str
    order: Optional[tuple] = None
    facts: dict = field(default_factory=dict)
    align: int = 16
    space: str = "device"
    access: str = "write"

    def __post_init__(self):
        object.__setattr__(self, "order",
                           order_of(self.order, tuple(self.axes)))

    @property
    def element_bytes(self):
        return np.dtype(STORAGE[self.element_type]).itemsize

    def strides(self):
        """For each axis its stride, None if it is not known, and a number that
        divides it in any case."""
        known, step, divisor = {}, 1, 1
        for axis in reversed(self.order):
            fact = self.facts.get(axis)
            if fact is not None and self.axes[axis] != 1:
                step, divisor = ((None, fact[1]) if isinstance(fact, tuple)
                                 else (fact, fact))
            known[axis] = step, divisor
            extent = self.axes[axis]
            step = None if None in (step, extent) else step * extent
            divisor *= extent or 1
        return known

    def __str__(self):
        axes = [f"{'?' if n is None else n}{a}" for a, n in self.axes.items()]
        text = " x ".join([*axes, self.element_type])
        if self.order != tuple(self.axes):
            text += f", order = [{', '.join(self.order)}]"
        facts = []
        for axis in self.axes:
            fact = self.facts.get(axis)
            if fact is None or self.axes[axis] == 1:
                continue
            if isinstance(fact, tuple):
                fact = f"? mult {fact[1]}" if fact[1] > 1 else "?"
            facts.append(f"{axis} = {fact}")
        if facts:
            text += f", strides = [{', '.join(facts)}]"
        if self.align != 16:
            text += f", align = {self.align}"
        if self.space != "device":
            text += f", space = {self.space}"
        if self.access != "write":
            text += f", access = {self.access}"
        return f"!kvcache.cache<{text}>"

    def _view(self, axis, extent, offset):
        """Another extent of an axis, 0 if it goes. `offset` divides the
        distance of the first element in elements; 0 if there is none."""
        axes = {a: extent if a == axis else n for a, n in self.axes.items()}
        if extent == 0:
            del axes[axis]
        order = tuple(a for a in self.order if a in axes)
        align = self.align
        if offset:
            align = min(align, low_bit(offset * self.element_bytes))
        result = CacheType(axes, self.element_type, order, {}, align,
                           self.space, self.access)
        before = self.strides()
        # An axis stays compact if what it was compact over is unchanged.
        for place in range(len(order) - 1, -1, -1):
            current = order[place]
            stride, divisor = before[current]
            compact, _ = result.strides()[current]
            if axes[current] == 1 or stride is not None and stride == compact:
                continue
            if stride is not None:
                result.facts[current] = stride
                continue
            # An axis of extent 1 takes no room between its neighbours.
            faster = [a for a in self.order[self.order.index(current) + 1 :]
                      if self.axes[a] != 1 or a == axis and extent]
            unchanged = (current not in self.facts and faster
                         and faster[0] != axis)
            if not unchanged:
                result.facts[current] = "mult", divisor
        return result

    def holds(self, cache):
        """`has_facts`: whether a cache is what the type says."""
        if cache.axes != tuple(self.axes):
            return False
        extents = dict(zip(cache.axes, cache.array.shape))
        given = dict(zip(cache.axes, cache.strides))
        # What the next axis has if it is compact: this stride, or any multiple,
        # where the axis below has one index and so no stride of its own.
        step, multiple = 1, None
        for axis in reversed(self.order):
            extent, fact = extents[axis], self.facts.get(axis)
            if self.axes[axis] not in (None, extent):
                return False
            if extent == 1:
                if self.axes[axis] == 1 or fact is None:
                    continue
                if isinstance(fact, tuple):
                    multiple = fact[1]
                else:
                    step, multiple = fact, None
                continue
            stride = given[axis]
            if isinstance(fact, tuple):
                right = stride % fact[1] == 0
            elif fact is None and multiple:
                right = stride % multiple == 0
            else:
                right = stride == (step if fact is None else fact)
            if not right:
                return False
            step, multiple = stride * extent, None
        address = cache.array.__array_interface__["data"][0]
        return address % self.align == 0

    def layer(self):
        return self._view("L", 0, self.strides()["L"][1])

    def side(self, index):
        return self._view("S", 0, index * self.strides()["S"][1])

    def heads(self, first, count):
        if count == self.axes["H"]:
            return self
        return self._view("H", count, first * self.strides()["H"][1])

    def subpool(self):
        return self._view("B", None, self.strides()["B"][1])
