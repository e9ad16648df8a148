# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Layouts of pools: how their axes lie in memory, and arrays that have one."""

from __future__ import annotations

import re

from ._version import FORMATS, ORDERS

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing it takes longer than all else here
    from typing import Any, Mapping, Optional, Sequence, Union

# The axes of a pool as programs and arrays count them.
_AXES = "LSBNHD"
_MEANINGS = {"L": "layers", "S": "sides", "B": "blocks", "N": "block_size",
             "H": "kv_heads", "D": "head_dim"}
# The axes that have scales of their own.
SCALES = {"side": "LS", "head": "LSH", "token": "LSBNH"}
# Integers mean something with scales alone.
_STORED = {name: form for name, form in FORMATS.items() if form[2] == 1}
_STORED["i8"] = ("int8", 0, 1)


class Layout:
    """How a pool of keys and values lies in memory.

    An array of a pool has the dimensions [L, S, B, N, H, D] whatever the layout:
    layers (if there are any), sides (keys, then values), blocks, tokens of a
    block, heads and channels. Its strides are those of the layout.
    `order` names the axes from the slowest one in memory to the fastest, as
    `"BLSNHD"` or as the name of an order, such as `cross_layer_nhd`. Axes lie
    close together, unless `strides` says how many elements are from one entry
    to the next: a number, `"?"` for one that is known in a call only, or
    `"? mult 16"` for one that is also a multiple of 16, as `{"B": "? mult 16"}`.

    With `scales`, an element of a pool of bytes is `scale * stored`, and its dtype
    may be i8. `"side"` and `"head"` stand for scales that are given, one for the
    keys and one for the values of each layer, or of each head; `"token"` for one
    of each token and head, which is computed when a row is written.
    """

    def __init__(self, order: Union[str, Sequence[str]] = "nhd", *,
                 kv_heads: int, head_dim: int, block_size: int = 16,
                 layers: Optional[int] = None, dtype: str = "bf16",
                 strides: Optional[Mapping[str, Union[int, str]]] = None,
                 scales: Optional[str] = None) -> None:
        extents = {"L": layers, "S": 2, "B": None, "N": block_size,
                   "H": kv_heads, "D": head_dim}
        self.axes = _AXES if layers is not None else _AXES[1:]
        for axis in self.axes:
            extent = extents[axis]
            if axis != "B" and (not isinstance(extent, int) or extent < 1):
                raise ValueError(f"{_MEANINGS[axis]}: expected a positive "
                                 f"integer, got {extent!r}")
        if scales is not None and scales not in SCALES:
            raise ValueError(f"scales: expected one of {', '.join(SCALES)}, got "
                             f"{scales!r}")
        known = _STORED if scales else FORMATS
        if dtype not in known:
            raise ValueError(f"dtype: expected one of {', '.join(known)}"
                             f"{' with scales' if scales else ''}, got {dtype!r}")
        self.extents = {axis: extents[axis] for axis in self.axes}
        self.dtype, self.scales = dtype, scales
        self._form = known[dtype]
        self.order = _resolve(order, self.axes)
        self.strides = _check_strides(strides or {}, self.axes)

    @classmethod
    def of(cls, pool: Any, dtype: str) -> Layout:
        """The layout that an array [L, S, B, N, H, D] or [S, B, N, H, D] has.

        Strides of axes slower than the blocks follow from the number of blocks:
        of these it keeps only a power of two up to 64 that divides them, so that
        a pool of another size has the same layout.
        """
        shape = tuple(pool.shape)
        if len(shape) not in (5, 6):
            raise ValueError("pool: expected the dimensions [L, S, B, N, H, D] or "
                             f"[S, B, N, H, D], got extents {list(shape)}")
        axes = _AXES[-len(shape):]
        extents = dict(zip(axes, shape))
        apart = dict(zip(axes, _element_strides(pool)))
        if extents["S"] != 2:
            raise ValueError("pool: expected keys and values, 2 in dimension "
                             f"{axes.index('S')}, got {extents['S']}")
        order = order_of(axes, shape, tuple(apart.values()))
        named = {_MEANINGS[axis]: extents[axis] for axis in axes if axis in "LNHD"}
        return cls(order, dtype=dtype, **named,
                   strides=_describe_strides(order, extents, apart))

    @property
    def type(self) -> str:
        """The type of the pool in a program."""
        extents = " x ".join(f"{'?' if n is None else n}{axis}"
                             for axis, n in self.extents.items())
        return (f"!kvcache.cache<{extents} x {self._element()}, "
                f"order = [{', '.join(self.order)}]{_stride_text(self.strides)}>")

    def _element(self, strides: Optional[dict] = None, axes: str = _AXES) -> str:
        if self.scales is None:
            return self.dtype
        per = [axis for axis in SCALES[self.scales]
               if axis in self.axes and axis in axes]
        return (f"!kvcache.scaled<{self.dtype} x f32, per = [{', '.join(per)}]"
                f"{_stride_text(strides or {})}>")

    @property
    def layer_type(self) -> str:
        """The type of one layer: that of the pool without the axis L. Axes that
        are slower than the layers in memory are further apart by their number;
        the fastest of them says so for the others."""
        if "L" not in self.extents:
            return self.type
        extents = " x ".join(f"{'?' if n is None else n}{axis}"
                             for axis, n in self.extents.items() if axis != "L")
        order = [axis for axis in self.order if axis != "L"]
        strides = self._around_layers(self.extents, self.strides)
        own: dict = {}
        if self.scales is not None:
            shared = {axis: extent if axis in SCALES[self.scales] else 1
                      for axis, extent in self.extents.items()}
            own = self._around_layers(shared, {})
        return (f"!kvcache.cache<{extents} x {self._element(own, _AXES[1:])}, "
                f"order = [{', '.join(order)}]{_stride_text(strides)}>")

    def _around_layers(self, extents: dict, given: dict) -> dict:
        """The strides of one layer of an array: those that are given, and that
        of the axis before the layers, if it has more than one index."""
        strides = {axis: stride for axis, stride in given.items() if axis != "L"}
        place = self.order.index("L")
        slower = [axis for axis in self.order[:place] if extents[axis] != 1]
        if not slower or slower[-1] in strides:
            return strides
        stride: Optional[int] = 1
        for axis in reversed(self.order[place:]):
            apart, extent = given.get(axis, stride), extents[axis]
            stride = apart * extent if isinstance(apart, int) \
                and extent is not None else None
        if stride is None:
            raise ValueError(
                f"order {''.join(self.order)}: one layer has a stride that is "
                "known in a call only, as blocks are between the layers "
                f"and axis {slower[-1]}; put B before {slower[-1]}, or L first")
        return {**strides, slower[-1]: stride}

    def memory_shape(self, blocks: int) -> tuple:
        """The extents in the order of memory, without gaps."""
        if not isinstance(blocks, int) or blocks < 0:
            raise ValueError("blocks: expected a number of blocks, got "
                             f"{blocks!r}")
        return tuple(blocks if axis == "B" else self.extents[axis]
                     for axis in self.order)

    def nbytes(self, blocks: int) -> int:
        """The size of a pool without gaps, and without scales."""
        size = self._form[2]
        for extent in self.memory_shape(blocks):
            size *= extent
        return size

    def transfer(self, moved: str, **slices: tuple) -> Any:
        """The contiguous runs of the axes that move together, such as `LSNHD`,
        a block of all layers: their bytes, their number, the loops over them.
        `H=(4, 8)` moves heads 4 to 7 only."""
        from ._queries import Query
        return Query(self.type).transfer(moved, slices)

    def draw(self, svg: bool = False) -> str:
        """A drawing of where blocks, layers and heads are in memory, for a
        terminal or as the text of an SVG file."""
        from ._queries import Query
        return Query(self.type).draw(svg)

    def zeros(self, blocks: int, device: Any = None) -> Any:
        """A new pool: a tensor of PyTorch on a device, or without a device an
        array of NumPy (of the package ml_dtypes for what NumPy lacks)."""
        return self.view(_zeros(self.memory_shape(blocks), self._form[0], device))

    def new_scales(self, blocks: int, device: Any = None) -> Any:
        """An array of scales for a pool: ones [L, S] or [L, S, H] if they are
        given, zeros [L, S, B, N, H] if they are computed. L is there if the pool
        has layers. In memory the axes are in the order of the pool."""
        axes = self._scale_axes()
        shape = dict(zip(self.order, self.memory_shape(blocks)))
        order = [axis for axis in self.order if axis in axes]
        memory = _zeros([shape[axis] for axis in order], "float32", device)
        if "B" not in axes:
            memory[...] = 1
        return _permuted(memory, [order.index(axis) for axis in axes])

    def _scale_axes(self) -> list:
        if self.scales is None:
            raise ValueError("the layout has no scales")
        return [axis for axis in SCALES[self.scales] if axis in self.axes]

    def _scales_argument(self, scales: Any) -> Any:
        """Scales as programs take them, with all axes of the pool."""
        axes = self._scale_axes()
        if scales is None or len(scales.shape) != len(axes):
            got = "none" if scales is None else f"extents {list(scales.shape)}"
            raise ValueError("scales: expected the dimensions "
                             f"[{', '.join(axes)}], got {got}")
        return scales[tuple(slice(None) if axis in axes else None
                            for axis in self.axes)]

    def view(self, memory: Any) -> Any:
        """The pool in an array whose dimensions lie as in memory. No data
        moves, and what is written to one is seen in the other."""
        if self.strides:
            raise ValueError("the layout has strides: pools are views of memory "
                             "that is larger, made by their owner")
        permutation = tuple(self.order.index(axis) for axis in self.axes)
        shape = tuple(memory.shape)
        expected = self.memory_shape(0)
        if len(shape) != len(expected) or any(
                axis != "B" and extent != wanted for axis, extent, wanted
                in zip(self.order, shape, expected)):
            wanted = ", ".join(f"{axis} = {'any' if axis == 'B' else extent}"
                               for axis, extent in zip(self.order, expected))
            raise ValueError(f"expected extents {wanted}, got {list(shape)}")
        return _permuted(memory, permutation)

    def __repr__(self) -> str:
        return f"<kvcache.Layout {self.type}>"


def _zeros(shape: Sequence[int], name: str, device: Any) -> Any:
    if device is not None:
        import torch
        return torch.zeros(tuple(shape), dtype=getattr(torch, name),
                           device=device)
    from . import _arrays
    array = _arrays.new_numpy("a pool", name, tuple(shape))
    array.view("uint8")[...] = 0
    return array


def _permuted(memory: Any, permutation: Sequence[int]) -> Any:
    if hasattr(memory, "permute"):
        return memory.permute(*permutation)
    return memory.transpose(*permutation)


def order_of(axes: str, extents: Sequence[int], strides: Sequence[int]) -> list:
    """The axes of an array from the slowest to the fastest. The stride of one
    with a single index says nothing: it is put beside the axis after it."""
    place, faster = {}, 0
    for number in reversed(range(len(axes))):
        if extents[number] > 1:
            faster = strides[number]
        place[axes[number]] = (-faster, number)
    return sorted(axes, key=place.__getitem__)


def _element_strides(array: Any) -> tuple:
    """PyTorch and NumPy have them; the latter in bytes."""
    stride = getattr(array, "stride", None)
    if stride is not None:
        return tuple(stride())
    return tuple(n // array.itemsize for n in array.strides)


def _describe_strides(order: Sequence[str], extents: dict, apart: dict) -> dict:
    """What is not compact in an array, and multiples for axes slower than the
    blocks."""
    strides: dict = {}
    compact = 1
    is_slower = False
    for axis in reversed(order):
        if extents[axis] > 1:
            if is_slower:
                strides[axis] = f"? mult {min(apart[axis] & -apart[axis], 64)}"
            elif apart[axis] != compact:
                strides[axis] = apart[axis]
            compact = apart[axis] * extents[axis]
        is_slower = is_slower or axis == "B"
    return strides


def _stride_text(strides: dict) -> str:
    if not strides:
        return ""
    listed = ", ".join(f"{axis} = {stride}" for axis, stride in strides.items())
    return f", strides = [{listed}]"


def _check_strides(strides: Mapping[str, Union[int, str]], axes: str) -> dict:
    for axis, stride in strides.items():
        if axis not in axes:
            raise ValueError(f"strides: expected axes among {', '.join(axes)}, "
                             f"got {axis!r}")
        if not (stride > 0 if isinstance(stride, int)
                else re.fullmatch(r"\?( mult [1-9][0-9]*)?", stride)):
            raise ValueError(f"strides: expected a number for {axis}, '?' or "
                             f"'? mult 16', got {stride!r}")
    return dict(strides)


def _resolve(order: Union[str, Sequence[str]], axes: str) -> tuple:
    """The axes from slowest to fastest, of a name or of a list of them."""
    known = ORDERS.get(order) if isinstance(order, str) else None
    listed = tuple(known if known is not None else order)
    if known is not None:
        listed = tuple(axis for axis in listed if axis in axes)
    if sorted(listed) == sorted(axes):
        return listed
    names = [name for name, found in ORDERS.items() if set(axes) <= set(found)]
    raise ValueError(f"order: expected each of the axes {', '.join(axes)} once, "
                     f"or one of {', '.join(sorted(names))}; got {order!r}")
