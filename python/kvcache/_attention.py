# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writing and attending in a pool of keys and values, without writing a
program."""

from __future__ import annotations

import sys

from ._layout import Layout
from ._library import Library, compile
from ._version import FORMATS

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing it takes longer than all else here
    from typing import Any, Optional, Sequence, Union

_PROGRAM = """\
!pool  = {pool}
!layer = {layer}
!slots = !kvcache.slots<?T x i64, rows_per_block = {block_size}, pad = skip_negative>
!table = !kvcache.block_table<?R x ?M x i32, tokens = {block_size}>
!batch = !kvcache.batch<?R x ?M x i32, tokens = {block_size}{positions}>
!rows  = memref<?x{kv_heads}x{head_dim}x{dtype}{rows}>
!query = memref<?x{heads}x{head_dim}x{dtype}{rows}>
!out   = memref<?x{heads}x{head_dim}x{dtype}>

func.func @insert(%pool: !pool, {index}%slots: memref<?xi64>, %key: !rows,
                  %value: !rows) {{{view}
  %where = kvcache.make_slots %slots : memref<?xi64> to !slots
  kvcache.index_copy %key, %value into {cache} at %where
    : !rows, !rows into !layer at !slots
  return
}}

func.func @run(%query: !query, %pool: !pool, {index}%starts: memref<?xi32>,
               %lengths: memref<?xi32>, %block_table: memref<?x?xi32>{lists},
               %out: !out {{bufferize.result}}{lse}) {{{view}
  %table = kvcache.make_block_table %block_table : memref<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table{use_positions}
    : memref<?xi32>, memref<?xi32>, !table
  kvcache.attention %query over {cache} in %batch{use_lists} into %out{use_lse}
    {options} : !query over !layer in !batch into !out{lse_type}
  return
}}
"""


class PagedAttention:
    """Attention over a paged pool of keys and values.

        attention = kvcache.PagedAttention(heads=32, kv_heads=8, head_dim=128)
        pool = attention.layout.zeros(blocks=1024, device="cuda")
        attention.insert(pool, slots, key, value)
        out = attention.run(query, pool, starts, lengths, block_table)

    Rows of `query`, `key` and `value` are `[T, heads, head_dim]`, one for each
    new token; tokens may be apart, as in a fused projection. Slot `s` is token
    `s % block_size` of block `s // block_size`, a negative one is padding. Rows
    `starts[r]` to `starts[r + 1]` belong to request `r`, which has `lengths[r]`
    tokens with these, in the blocks `block_table[r]`. Lists are of int32, slots
    of int64.

    With `layers`, a pool has several of them, and calls take `layer=`. `window`
    is the number of tokens that a row sees, `softcap` and `scale` are as in the
    model (by default no cap, and 1 / sqrt(head_dim)). With `sinks=True` or
    `alibi=True`, `run` takes a list of a number for each head, and with
    `positions=True` one of int64 with the token of its request that a row is,
    for rows that are not the last ones. With `mask=True` it takes words of int32
    for each row: bit `i % 32` of word `i // 32` says whether it sees row `i` of
    its request, as in a tree of speculated tokens. With `prefixes=True` it takes
    two lists of int32, of which requests begin with the same blocks: requests
    `prefix_groups[i]` to `prefix_groups[i + 1] - 1` have their first
    `prefix_lengths[i]` tokens in common, before the tokens of all their rows. A
    kernel for an H200 reads these once. With `batch_invariant=True` the bits of
    the result of a request do not depend on the rest of the batch. With
    `lse=True` it returns the logarithm of the sum of each row's weights too, to
    merge it with attention over other keys. `dtype` is that of the pool, `query_dtype` that of the query, of the
    rows that are written and of the result: by default the same, or bf16 if the
    pool has bytes, such as f8E4M3FN. With `scales`, as in `Layout`, both calls take
    `scales=`, an array such as `layout.new_scales(blocks)`. Programs are compiled
    for the device of the pool, when they are first used.
    """

    def __init__(self, heads: int, kv_heads: int, head_dim: int,
                 block_size: int = 16, dtype: str = "bf16",
                 layout: Union[str, Sequence[str], Layout] = "nhd", *,
                 layers: Optional[int] = None, causal: bool = True,
                 window: Optional[int] = None, softcap: Optional[float] = None,
                 scale: Optional[float] = None, sinks: bool = False,
                 alibi: bool = False, positions: bool = False, lse: bool = False,
                 mask: bool = False, prefixes: bool = False,
                 batch_invariant: bool = False,
                 query_dtype: Optional[str] = None,
                 scales: Optional[str] = None,
                 checks: str = "none") -> None:
        if not isinstance(layout, Layout):
            layout = Layout(layout, kv_heads=kv_heads, head_dim=head_dim,
                            block_size=block_size, layers=layers, dtype=dtype,
                            scales=scales)
        expected = {"H": kv_heads, "D": head_dim, "N": block_size,
                    **({"L": layers} if layers is not None else {})}
        if any(layout.extents.get(axis) != n for axis, n in expected.items()) \
                or layout.dtype != dtype or layout.scales != scales:
            wanted = ", ".join(f"{axis} = {n}" for axis, n in expected.items())
            if scales is not None:
                wanted += f", scales = {scales!r}"
            raise ValueError(f"expected a layout of {dtype} with {wanted}, got "
                             f"{layout!r}")
        if not isinstance(heads, int) or heads < 1 or heads % kv_heads:
            raise ValueError("heads: expected a multiple of the "
                             f"{kv_heads} kv_heads, got {heads!r}")
        layout.layer_type  # an error, if one layer has no type
        self.layout = layout
        self.heads = heads
        of_bytes = dtype not in FORMATS or FORMATS[dtype][2] == 1
        self.query_dtype = query_dtype or ("bf16" if of_bytes else dtype)
        if self.query_dtype not in FORMATS or FORMATS[self.query_dtype][2] == 1:
            raise ValueError("query_dtype: expected a type of two or four bytes, "
                             f"got {query_dtype!r}")
        self.sinks, self.alibi, self.mask = sinks, alibi, mask
        self.prefix_groups = self.prefix_lengths = prefixes
        self.positions, self.lse = positions, lse
        self._has_layers = "L" in layout.extents
        self._checks = checks
        self._options = options_of(causal, window, softcap, scale)
        if batch_invariant:
            self._options = f"batch_invariant {self._options}"
        self._begin()

    def _begin(self) -> None:
        self._libraries: dict = {}
        self._ops: Any = None
        if "torch" in sys.modules:
            from . import _torch
            self._ops = _torch.register(self)

    def __getstate__(self) -> dict:
        """For copies, of a model that has this for example: they load the
        library again."""
        return {name: value for name, value in self.__dict__.items()
                if name not in ("_libraries", "_ops")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._begin()

    def program(self, rows_apart: bool = False) -> str:
        """The program that is compiled. With `rows_apart`, rows of activations
        may be at any distance."""
        extents, heads = self.layout.extents, self.heads
        apart = f", strided<[?, {extents['D']}, 1], offset: ?>"
        parts = {"index": "", "view": "", "cache": "%pool",
                 "rows": apart if rows_apart else "", **self._list_parts()}
        if self._has_layers:
            parts["index"] = "%layer: index, "
            parts["view"] = ("\n  %cache = kvcache.layer %pool[%layer] : !pool")
            parts["cache"] = "%cache"
        return _PROGRAM.format(
            pool=self.layout.type, layer=self.layout.layer_type,
            block_size=extents["N"], kv_heads=extents["H"],
            head_dim=extents["D"], heads=heads, dtype=self.query_dtype,
            options=self._options, **parts)

    def _list_parts(self) -> dict:
        """The parts of the program for lists and results that not all have."""
        parts = dict.fromkeys(("lists", "use_lists", "positions", "use_positions",
                               "lse", "use_lse", "lse_type"), "")
        if self.positions:
            parts["lists"] = ", %positions: memref<?xi64>"
            parts["positions"] = ", positions = i64"
            parts["use_positions"] = " positions(%positions : memref<?xi64>)"
        of_heads = f"memref<{self.heads}xf32>"
        for name in ("alibi", "sinks"):
            if getattr(self, name):
                parts["lists"] += f", %{name}: {of_heads}"
                parts["use_lists"] += f" {name}(%{name} : {of_heads})"
        if self.mask:
            parts["lists"] += ", %mask: memref<?x?xi32>"
            parts["use_lists"] += " mask(%mask : memref<?x?xi32>)"
        if self.prefix_groups:
            parts["lists"] += (", %prefix_groups: memref<?xi32>, "
                               "%prefix_lengths: memref<?xi32>")
            parts["use_lists"] += (" prefixes(%prefix_groups, %prefix_lengths : "
                                   "memref<?xi32>, memref<?xi32>)")
        if self.lse:
            lse = f"memref<?x{self.heads}xf32>"
            parts["lse"] = f", %lse: {lse} {{bufferize.result}}"
            parts["use_lse"], parts["lse_type"] = ", %lse", f", {lse}"
        return parts

    def library(self, target: str = "cpu", rows_apart: bool = False) -> Library:
        """The compiled program, with the functions `insert` and `run`."""
        found = self._libraries.get((target, rows_apart))
        if found is None:
            found = compile(self.program(rows_apart), target,
                            checks=self._checks)
            self._libraries[target, rows_apart] = found
        return found

    def insert(self, pool: Any, slots: Any, key: Any, value: Any,
               layer: Optional[int] = None, *, scales: Any = None) -> None:
        """Writes rows of keys and values to their slots."""
        self._expect_layer(layer)
        pools = self._with_scales(pool, scales)
        if self._ops is not None and self._ops.is_compiling():
            self._ops.insert(pool, slots, key, value, layer, scales)
            return
        packed = _is_packed(key) and _is_packed(value)
        function = self.library(_target_of(pool), not packed).insert
        index = (layer,) if self._has_layers else ()
        function(*pools, *index, slots, key, value)

    def run(self, query: Any, pool: Any, starts: Any, lengths: Any,
            block_table: Any, layer: Optional[int] = None, *,
            positions: Any = None, alibi: Any = None, sinks: Any = None,
            mask: Any = None, prefix_groups: Any = None,
            prefix_lengths: Any = None, scales: Any = None, out: Any = None,
            lse: Any = None) -> Any:
        """Attends with each row of the query over the tokens of its request, and
        returns `out`, or with `lse=True` the pair of `out` and `lse`. Results
        that are not given are made."""
        self._expect_layer(layer)
        lists = self._expect_lists(positions=positions, alibi=alibi, sinks=sinks,
                                   mask=mask, prefix_groups=prefix_groups,
                                   prefix_lengths=prefix_lengths)
        if lse is not None and not self.lse:
            raise TypeError("lse: expected none, as lse=False says")
        pools = self._with_scales(pool, scales)
        if self._ops is not None and self._ops.is_compiling():
            return self._ops.run(query, pool, starts, lengths, block_table,
                                 layer, lists, scales, out, lse)
        function = self.library(_target_of(pool), not _is_packed(query)).run
        index = (layer,) if self._has_layers else ()
        results = (out, lse) if self.lse else (out,)
        return function(query, *pools, *index, starts, lengths, block_table,
                        *lists, *results)

    def _with_scales(self, pool: Any, scales: Any) -> tuple:
        """The arguments that a pool is."""
        if self.layout.scales is not None:
            return pool, self.layout._scales_argument(scales)
        if scales is not None:
            raise TypeError("scales: expected none, as scales=None says")
        return (pool,)

    def _expect_lists(self, **given: Any) -> tuple:
        """Those that the program takes, in its order."""
        for name, value in given.items():
            wanted = getattr(self, name)
            said = "prefixes" if name.startswith("prefix_") else name
            if (value is not None) != wanted:
                raise TypeError(f"{name}: expected " + (
                    f"a list, as {said}=True says" if wanted
                    else f"none, as {said}=False says"))
        return tuple(value for value in given.values() if value is not None)

    def _expect_layer(self, layer: Optional[int]) -> None:
        if (layer is not None) != self._has_layers:
            raise TypeError("layer: expected " + (
                f"a number below {self.layout.extents['L']}"
                if self._has_layers else "none, as the pool has one layer"))


def options_of(causal: bool, window: Optional[int], softcap: Optional[float],
               scale: Optional[float]) -> str:
    """The options of an attention, as a program has them."""
    options = ["causal"] if causal else []
    if window is not None:
        options.append(f"window {int(window)}")
    for name, value in (("softcap", softcap), ("scale", scale)):
        if value is not None:
            options.append(f"{name} {float(value):.9e}")  # exact, as an f32
    return " ".join(options)


def _is_packed(array: Any) -> bool:
    is_contiguous = getattr(array, "is_contiguous", None)
    if is_contiguous is not None:
        return is_contiguous()
    flags = getattr(array, "flags", None)
    return flags is None or getattr(flags, "c_contiguous", True)


def _target_of(pool: Any) -> str:
    on_gpu = getattr(pool, "is_cuda", None)
    if on_gpu is None:
        on_gpu = pool.__dlpack_device__()[0] in (2, 13)
    return "cuda" if on_gpu else "cpu"
