# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Programs on keys and values that a caller has as tensors of PyTorch: their
types follow from extents and strides, and one program serves all tensors that
have the same ones."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, Optional

import torch

from ._attention import options_of
from ._layout import order_of
from ._library import compile

ELEMENTS = {torch.bfloat16: "bf16", torch.float16: "f16", torch.float32: "f32"}
BYTES = {torch.float8_e4m3fn: "f8E4M3FN", torch.float8_e5m2: "f8E5M2"}
PAGES = {**ELEMENTS, **BYTES}


def names_of(elements: Any) -> str:
    """Types as a text lists them."""
    names = [str(dtype).removeprefix("torch.") for dtype in elements]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def element_of(name: str, tensor: Any, elements: Any = None) -> str:
    """The element type of a tensor in a program."""
    known = ELEMENTS if elements is None else elements
    try:
        return known[tensor.dtype]
    except KeyError:
        raise TypeError(f"{name}: expected elements of {names_of(known)}, got "
                        f"{tensor.dtype}") from None


def target_of(tensor: Any) -> str:
    return "cuda" if tensor.is_cuda else "cpu"


class Pages(NamedTuple):
    """What the type of keys, or of values, depends on: tensors
    [pages, page_size, kv_heads, head_dim] in any order of memory."""

    extents: tuple  # of a page: tokens, heads, channels
    strides: tuple  # of pages, tokens, heads, channels; None if there is one
    order: tuple  # of their axes, from the slowest to the fastest
    align: int
    element: str

    @classmethod
    def of(cls, name: str, tensor: Any) -> Pages:
        pages, *extents = tensor.shape
        strides = tuple(
            stride if extent > 1 else None
            for extent, stride in zip((pages, *extents), tensor.stride()))
        address = tensor.data_ptr()
        order = tuple(order_of("BNHD", tensor.shape, tensor.stride()))
        return cls(tuple(extents), strides, order,
                   min(16, address & -address or 16),
                   element_of(name, tensor, PAGES))

    @property
    def scaled(self) -> Pages:
        """With one scale for all, which a call has as a tensor."""
        return self._replace(element=f"!kvcache.scaled<{self.element} x f32>")

    @property
    def type(self) -> str:
        """Every stride is in the type, so that code is generated for it."""
        tokens, heads, channels = self.extents
        strides = [f"{axis} = {stride}"
                   for axis, stride in zip("BNHD", self.strides) if stride]
        listed = f", strides = [{', '.join(strides)}]" if strides else ""
        return (f"!kvcache.cache<?B x {tokens}N x {heads}H x {channels}D x "
                f"{self.element}, order = [{', '.join(self.order)}]{listed}, "
                f"align = {self.align}>")


def rows_type(tensor: Any, element: str) -> str:
    """Rows [tokens, heads, channels], packed or wherever they are."""
    _, heads, channels = tensor.shape
    shape = f"?x{heads}x{channels}x{element}"
    if tensor.is_contiguous():
        return f"memref<{shape}>"
    token, head, channel = tensor.stride()
    if heads == 1:
        head = channels
    return f"memref<{shape}, strided<[{token}, {head}, {channel}], offset: ?>>"


def aligned(tensor: Any, heads_apart: bool = False) -> Any:
    """The tensor, or a copy where its rows are not as programs take them:
    everything a multiple of 16 bytes, one row after the other, and heads side by
    side unless they may be apart."""
    if tensor.data_ptr() % 16 == 0 and (
            tensor.is_contiguous() or _is_aligned(tensor, heads_apart)):
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def _is_aligned(tensor: Any, heads_apart: bool) -> bool:
    _, heads, channels = tensor.shape
    row, head, channel = (stride * tensor.element_size()
                          for stride in tensor.stride())
    are_apart = heads > 1 and head != channels * channel
    return (channel == tensor.element_size() and row % 16 == 0
            and row >= heads * head
            and (not are_apart or heads_apart and head % 16 == 0))


# ---- Attention ---------------------------------------------------------------

_ATTENTION = """\
!keys   = {keys}
!values = {values}
!table  = !kvcache.block_table<?R x ?M x i32, tokens = {tokens}>
!batch  = !kvcache.batch<?R x ?M x i32, tokens = {tokens}>
!query  = {query}
!out    = {out}

func.func @run(%query: !query, %keys: !keys, %values: !values,
               %starts: memref<?xi32>, %lengths: memref<?xi32>,
               %block_table: memref<?x?xi32>{extra}, %out: !out{lse}) {{
  %table = kvcache.make_block_table %block_table : memref<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table
    : memref<?xi32>, memref<?xi32>, !table
  kvcache.attention %query over %keys, %values in %batch{options_before}
    into %out{lse_value}{options}
    : !query over !keys, !values in !batch into !out{lse_type}
  return
}}
"""


class Attention(NamedTuple):
    """What the code of an attention depends on."""

    keys: Pages
    values: Pages
    query: str  # types of rows
    out: str
    heads: int
    causal: bool
    window: Optional[int]
    softcap: Optional[float]
    scale: float
    has_sinks: bool
    has_value_scale: bool
    lse: Optional[str]  # NH or HN

    def program(self) -> str:
        extra = before = lse = ""
        if self.has_sinks:
            extra += f",\n               %sinks: memref<{self.heads}xf32>"
            before += f" sinks(%sinks : memref<{self.heads}xf32>)"
        if self.has_value_scale:
            extra += ", %value_scale: f32"
            before += " value_scale(%value_scale)"
        options = " heads_first" if self.lse == "HN" else ""
        options += " " + options_of(self.causal, self.window, self.softcap,
                                    self.scale)
        if self.lse:
            lse = "memref<{}xf32>".format(
                f"?x{self.heads}" if self.lse == "NH" else f"{self.heads}x?")
        return _ATTENTION.format(
            keys=self.keys.type, values=self.values.type, query=self.query,
            out=self.out, tokens=self.keys.extents[0], extra=extra,
            options_before=before, options=options,
            lse=f", %lse: {lse}" if lse else "",
            lse_value=", %lse" if lse else "",
            lse_type=f", {lse}" if lse else "")


@lru_cache(maxsize=None)
def attention(form: Attention, target: str) -> Any:
    """The compiled function."""
    return compile(form.program(), target).run


# ---- Page lists --------------------------------------------------------------

_TABLE = """\
func.func @table(%indptr: memref<?xi32>, %indices: memref<?xi32>,
                 %last: memref<?xi32>, %table: memref<?x?xi32>,
                 %lengths: memref<?xi32>) {{
  kvcache.csr_table %indptr, %indices last(%last of {tokens})
    into %table, %lengths : memref<?xi32>, memref<?xi32>, memref<?xi32>
    into memref<?x?xi32>, memref<?xi32>
  return
}}
"""


@lru_cache(maxsize=None)
def table(tokens: int, target: str) -> Any:
    """Makes a table and lengths of lists of pages."""
    return compile(_TABLE.format(tokens=tokens), target).table


# ---- Writing -----------------------------------------------------------------

_APPEND = """\
!keys   = {keys}
!values = {values}
!slots  = !kvcache.slots<?T x i64, rows_per_block = {tokens}, pad = skip_negative>
!key    = {key}
!value  = {value}

func.func @append(%keys: !keys, %values: !values, %slots: memref<?xi64>,
                  %key: !key, %value: !value) {{
  %where = kvcache.make_slots %slots : memref<?xi64> to !slots
  kvcache.index_copy %key into %keys at %where : !key into !keys at !slots
  kvcache.index_copy %value into %values at %where
    : !value into !values at !slots
  return
}}
"""


@lru_cache(maxsize=None)
def append(keys: Pages, values: Pages, key: str, value: str, target: str) -> Any:
    """Writes rows of keys and values to their slots."""
    return compile(_APPEND.format(
        keys=keys.type, values=values.type, tokens=keys.extents[0], key=key,
        value=value), target).append


# ---- Merging -----------------------------------------------------------------


@lru_cache(maxsize=None)
def merge(rows: tuple, out: str, heads: int, target: str) -> Any:
    """Merges attention over several sets of keys, each with its rows and the
    logarithms of its sums."""
    lse = f"memref<?x{heads}xf32>"
    arguments = ", ".join(f"%rows{i}: {kind}, %lse{i}: {lse}"
                          for i, kind in enumerate(rows))
    operands = " with ".join(f"%rows{i}, %lse{i}" for i in range(len(rows)))
    types = " with ".join(f"{kind}, {lse}" for kind in rows)
    return compile(f"""\
func.func @merge({arguments}, %out: {out}, %lse: {lse}) {{
  kvcache.merge_states {operands} into %out, %lse
    : {types} into {out}, {lse}
  return
}}
""", target).merge
