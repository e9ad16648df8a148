# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Operators of PyTorch, so that torch.compile keeps calls as they are.

They are declared once; an attention is one of their arguments, as a number.
"""

from __future__ import annotations

import itertools
from typing import Any, Optional

import torch

# Never removed: a compiled graph may live longer than what it was made of.
_attentions: dict = {}
_numbers = itertools.count()
_library = torch.library.Library("kvcache", "DEF")
# Strides are part of what a function accepts.
_TAGS = tuple(getattr(torch.Tag, name) for name in ("needs_exact_strides",)
              if hasattr(torch.Tag, name))
_library.define("insert(Tensor(a!) pool, Tensor slots, Tensor key, Tensor value, "
                "int? layer, Tensor(b!)? scales, int attention) -> ()",
                tags=_TAGS)
_library.define("run(Tensor query, Tensor pool, Tensor starts, Tensor lengths, "
                "Tensor block_table, int? layer, Tensor[] lists, Tensor? scales, "
                "int attention) -> Tensor", tags=_TAGS)
_library.define("run_out(Tensor query, Tensor pool, Tensor starts, "
                "Tensor lengths, Tensor block_table, int? layer, Tensor[] lists, "
                "Tensor? scales, Tensor(a!) out, Tensor(b!)? lse, int attention) "
                "-> ()",
                tags=_TAGS)


def _insert(pool: Any, slots: Any, key: Any, value: Any, layer: Optional[int],
            scales: Any, attention: int) -> None:
    _attentions[attention].insert(pool, slots, key, value, layer, scales=scales)


def _named(attention: Any, lists: Any) -> dict:
    """Lists in the order of the program, by their names."""
    names = [name for name in ("positions", "alibi", "sinks", "mask",
                               "prefix_groups", "prefix_lengths")
             if getattr(attention, name)]
    return dict(zip(names, lists))


def _run(query: Any, pool: Any, starts: Any, lengths: Any, block_table: Any,
         layer: Optional[int], lists: Any, scales: Any, attention: int) -> Any:
    one = _attentions[attention]
    return one.run(query, pool, starts, lengths, block_table, layer,
                   **_named(one, lists), scales=scales)


def _run_out(query: Any, pool: Any, starts: Any, lengths: Any, block_table: Any,
             layer: Optional[int], lists: Any, scales: Any, out: Any, lse: Any,
             attention: int) -> None:
    one = _attentions[attention]
    one.run(query, pool, starts, lengths, block_table, layer,
            **_named(one, lists), scales=scales, out=out, lse=lse)


for _name, _function in (("insert", _insert), ("run", _run),
                         ("run_out", _run_out)):
    for _key in ("CPU", "CUDA"):
        _library.impl(_name, _function, _key)


@torch.library.register_fake("kvcache::insert", lib=_library)
def _(pool, slots, key, value, layer, scales,  # type: ignore[no-untyped-def]
      attention):
    return None


@torch.library.register_fake("kvcache::run", lib=_library)
def _(query, pool, starts, lengths, block_table, layer, lists,  # type: ignore
      scales, attention):
    return query.new_empty(query.shape)


@torch.library.register_fake("kvcache::run_out", lib=_library)
def _(query, pool, starts, lengths, block_table, layer, lists,  # type: ignore
      scales, out, lse, attention):
    return None


class register:
    """The operators for one attention."""

    is_compiling = staticmethod(torch.compiler.is_compiling)

    def __init__(self, attention: Any) -> None:
        self.number = next(_numbers)
        _attentions[self.number] = attention

    def insert(self, pool: Any, slots: Any, key: Any, value: Any,
               layer: Optional[int], scales: Any) -> None:
        torch.ops.kvcache.insert(pool, slots, key, value, layer, scales,
                                 self.number)

    def run(self, query: Any, pool: Any, starts: Any, lengths: Any,
            block_table: Any, layer: Optional[int], lists: tuple, scales: Any,
            out: Any, lse: Any) -> Any:
        attention = _attentions[self.number]
        if out is None and not attention.lse:
            return torch.ops.kvcache.run(query, pool, starts, lengths,
                                         block_table, layer, lists, scales,
                                         self.number)
        if out is None:
            out = query.new_empty(query.shape)
        if lse is None and attention.lse:
            lse = query.new_empty(query.shape[:2], dtype=torch.float32)
        torch.ops.kvcache.run_out(query, pool, starts, lengths, block_table,
                                  layer, lists, scales, out, lse, self.number)
        return out if lse is None else (out, lse)
