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
                "int? layer, int attention) -> ()", tags=_TAGS)
_library.define("run(Tensor query, Tensor pool, Tensor starts, Tensor lengths, "
                "Tensor block_table, int? layer, Tensor? sinks, int attention) "
                "-> Tensor", tags=_TAGS)
_library.define("run_out(Tensor query, Tensor pool, Tensor starts, "
                "Tensor lengths, Tensor block_table, int? layer, Tensor? sinks, "
                "Tensor(a!) out, int attention) -> ()", tags=_TAGS)


def _insert(pool: Any, slots: Any, key: Any, value: Any, layer: Optional[int],
            attention: int) -> None:
    _attentions[attention].insert(pool, slots, key, value, layer)


def _run(query: Any, pool: Any, starts: Any, lengths: Any, block_table: Any,
         layer: Optional[int], sinks: Any, attention: int) -> Any:
    return _attentions[attention].run(query, pool, starts, lengths, block_table,
                                      layer, sinks=sinks)


def _run_out(query: Any, pool: Any, starts: Any, lengths: Any, block_table: Any,
             layer: Optional[int], sinks: Any, out: Any, attention: int) -> None:
    _attentions[attention].run(query, pool, starts, lengths, block_table, layer,
                               sinks=sinks, out=out)


for _name, _function in (("insert", _insert), ("run", _run),
                         ("run_out", _run_out)):
    for _key in ("CPU", "CUDA"):
        _library.impl(_name, _function, _key)


@torch.library.register_fake("kvcache::insert", lib=_library)
def _(pool, slots, key, value, layer, attention):  # type: ignore[no-untyped-def]
    return None


@torch.library.register_fake("kvcache::run", lib=_library)
def _(query, pool, starts, lengths, block_table, layer, sinks,  # type: ignore
      attention):
    return query.new_empty(query.shape)


@torch.library.register_fake("kvcache::run_out", lib=_library)
def _(query, pool, starts, lengths, block_table, layer, sinks,  # type: ignore
      out, attention):
    return None


class register:
    """The operators for one attention."""

    is_compiling = staticmethod(torch.compiler.is_compiling)

    def __init__(self, attention: Any) -> None:
        self.number = next(_numbers)
        _attentions[self.number] = attention

    def insert(self, pool: Any, slots: Any, key: Any, value: Any,
               layer: Optional[int]) -> None:
        torch.ops.kvcache.insert(pool, slots, key, value, layer, self.number)

    def run(self, query: Any, pool: Any, starts: Any, lengths: Any,
            block_table: Any, layer: Optional[int], sinks: Any, out: Any) -> Any:
        if out is None:
            return torch.ops.kvcache.run(query, pool, starts, lengths,
                                         block_table, layer, sinks, self.number)
        torch.ops.kvcache.run_out(query, pool, starts, lengths, block_table,
                                  layer, sinks, out, self.number)
        return out
