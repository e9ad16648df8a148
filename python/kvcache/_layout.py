# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Layouts of pools: how their axes lie in memory, and arrays that have one."""

from __future__ import annotations


from ._version import ORDERS

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing it takes longer than all else here
    from typing import Any, Optional, Sequence, Union

# The axes of a pool as programs and arrays count them.
_AXES = "LSBNHD"
_MEANINGS = {"L": "layers", "S": "sides", "B": "blocks", "N": "block_size",
             "H": "kv_heads", "D": "head_dim"}


class Layout:
    """How a pool of keys and values lies in memory.

    An array of a pool has the dimensions [L, S, B, N, H, D] whatever the layout:
    layers (if there are any), sides (keys, then values), blocks, tokens of a
    block, heads and channels. Its strides are those of the layout.
    `order` names the axes from the slowest one in memory to the fastest, as
    `"BLSNHD"` or as the name of an order, such as `cross_layer_nhd`.
    """

    def __init__(self, order: Union[str, Sequence[str]] = "nhd", *,
                 kv_heads: int, head_dim: int, block_size: int = 16,
                 layers: Optional[int] = None, dtype: str = "bf16") -> None:
        extents = {"L": layers, "S": 2, "B": None, "N": block_size,
                   "H": kv_heads, "D": head_dim}
        self.axes = _AXES if layers is not None else _AXES[1:]
        for axis in self.axes:
            extent = extents[axis]
            if axis != "B" and (not isinstance(extent, int) or extent < 1):
                raise ValueError(f"{_MEANINGS[axis]}: expected a positive "
                                 f"integer, got {extent!r}")
        if dtype not in ("bf16", "f16", "f32"):
            raise ValueError(f"dtype: expected bf16, f16 or f32, got {dtype!r}")
        self.extents = {axis: extents[axis] for axis in self.axes}
        self.dtype = dtype
        self.order = _resolve(order, self.axes)

    @property
    def type(self) -> str:
        """The type of the pool in a program."""
        extents = " x ".join(f"{'?' if n is None else n}{axis}"
                             for axis, n in self.extents.items())
        return (f"!kvcache.cache<{extents} x {self.dtype}, "
                f"order = [{', '.join(self.order)}]>")

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
        strides = ""
        place = self.order.index("L")
        if place:
            axis = self.order[place - 1]
            stride = 1
            for faster in self.order[place:]:
                n = self.extents[faster]
                if n is None:
                    raise ValueError(
                        f"order {''.join(self.order)}: one layer has a stride that is "
                        "known in a call only, as blocks are between the layers "
                        f"and axis {axis}; put B before {axis}, or L first")
                stride *= n
            strides = f", strides = [{axis} = {stride}]"
        return (f"!kvcache.cache<{extents} x {self.dtype}, "
                f"order = [{', '.join(order)}]{strides}>")

    def memory_shape(self, blocks: int) -> tuple:
        """The extents in the order of memory."""
        if not isinstance(blocks, int) or blocks < 0:
            raise ValueError("blocks: expected a number of blocks, got "
                             f"{blocks!r}")
        return tuple(blocks if axis == "B" else self.extents[axis]
                     for axis in self.order)

    def nbytes(self, blocks: int) -> int:
        """The size of a pool."""
        size = 4 if self.dtype == "f32" else 2
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
        array of NumPy (of the package ml_dtypes for bf16)."""
        shape = self.memory_shape(blocks)
        if device is not None:
            import torch
            dtype = {"bf16": torch.bfloat16, "f16": torch.float16,
                     "f32": torch.float32}[self.dtype]
            return self.view(torch.zeros(shape, dtype=dtype, device=device))
        from . import _arrays
        pool = _arrays.new_numpy("a pool", self.dtype, shape)
        pool.view("uint8")[...] = 0
        return self.view(pool)

    def view(self, memory: Any) -> Any:
        """The pool in an array whose dimensions lie as in memory. No data
        moves, and what is written to one is seen in the other."""
        permutation = tuple(self.order.index(axis) for axis in self.axes)
        shape = tuple(memory.shape)
        expected = self.memory_shape(0)
        if len(shape) != len(expected) or any(
                axis != "B" and extent != wanted for axis, extent, wanted
                in zip(self.order, shape, expected)):
            wanted = ", ".join(f"{axis} = {'any' if axis == 'B' else extent}"
                               for axis, extent in zip(self.order, expected))
            raise ValueError(f"expected extents {wanted}, got {list(shape)}")
        if hasattr(memory, "permute"):
            return memory.permute(permutation)
        return memory.transpose(permutation)

    def __repr__(self) -> str:
        return f"<kvcache.Layout {self.type}>"


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
