# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Paged attention in JAX, on a CPU: functions of values, also under jax.jit.

    from kvcache.jax import PagedAttention

    attention = PagedAttention(heads=32, kv_heads=8, head_dim=128, layers=4)
    pool = attention.zeros(blocks=1024)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(pool, slots, query, key, value, starts, lengths, block_table):
        pool = attention.insert(pool, slots, key, value, layer=2)
        return pool, attention.run(query, pool, starts, lengths, block_table,
                                   layer=2)

`insert` returns the pool with new rows. XLA updates a donated pool in place, and
copies one that is still used. The package jax-tvm-ffi makes the calls.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import tempfile
from typing import Any, Optional

import jax
import jax.numpy as jnp
import jax_tvm_ffi
import tvm_ffi

from . import _attention
from ._library import compile
from ._version import FORMATS

__all__ = ["PagedAttention"]

_PROGRAM = """\
!pool   = {pool}
!layer  = {layer}
!memory = memref<{memory}>
!slots  = !kvcache.slots<?T x i32, rows_per_block = {block_size}, pad = skip_negative>
!table  = !kvcache.block_table<?R x ?M x i32, tokens = {block_size}>
!batch  = !kvcache.batch<?R x ?M x i32, tokens = {block_size}>
!rows   = memref<?x{kv_heads}x{head_dim}x{dtype}>
!query  = memref<?x{heads}x{head_dim}x{dtype}>

func.func @insert(%old: !memory, {index}%slots: memref<?xi32>, %key: !rows,
                  %value: !rows, %memory: !memory) {{
{view}
  %where = kvcache.make_slots %slots : memref<?xi32> to !slots
  kvcache.index_copy %key, %value into {cache} at %where
    : !rows, !rows into !layer at !slots
  return
}}

func.func @run(%memory: !memory, {index}%query: !query, %starts: memref<?xi32>,
               %lengths: memref<?xi32>, %block_table: memref<?x?xi32>{sinks},
               %out: !query) {{
{view}
  %table = kvcache.make_block_table %block_table : memref<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table
    : memref<?xi32>, memref<?xi32>, !table
  kvcache.attention %query over {cache} in %batch{use_sinks} into %out
    {options} : !query over !layer in !batch into !query
  return
}}
"""

_LAYER = """
  %zero = arith.constant 0 : index
  %number = memref.load %layer[%zero] : memref<1xi32>
  %index = arith.index_cast %number : i32 to index
  %cache = kvcache.layer %pool[%index] : !pool"""


class PagedAttention:
    """kvcache.PagedAttention for JAX: the same options, and calls that return
    what they write. A pool is an array in the order of memory; `layer` may be
    traced. Lists are of int32."""

    def __init__(self, *options: Any, **named: Any) -> None:
        self._of = _attention.PagedAttention(*options, **named)
        self.layout = self._of.layout
        if self.layout.scales is not None:
            raise ValueError("scales: expected none with JAX, got "
                             f"{self.layout.scales!r}")

    def zeros(self, blocks: int) -> Any:
        """A new pool."""
        dtype = getattr(jnp, FORMATS[self.layout.dtype][0])
        return jnp.zeros(self.layout.memory_shape(blocks), dtype)

    def program(self) -> str:
        """The program that is compiled."""
        layout, heads = self.layout, self._of.heads
        extents = layout.extents
        memory = "x".join("?" if extents[axis] is None else str(extents[axis])
                          for axis in layout.order)
        parts = {"index": "", "cache": "%pool", "sinks": "", "use_sinks": ""}
        view = (f"  %pool = kvcache.view %memory[{', '.join(layout.order)}] : "
                "!memory to !pool")
        if "L" in extents:
            view += _LAYER
            parts.update(index="%layer: memref<1xi32>, ", cache="%cache")
        if self._of.sinks:
            parts["sinks"] = f", %sinks: memref<{heads}xf32>"
            parts["use_sinks"] = f" sinks(%sinks : memref<{heads}xf32>)"
        return _PROGRAM.format(
            pool=layout.type, layer=layout.layer_type, view=view,
            memory=f"{memory}x{layout.dtype}", block_size=extents["N"],
            kv_heads=extents["H"], head_dim=extents["D"], heads=heads,
            dtype=self._of.query_dtype, options=self._of._options, **parts)

    def insert(self, pool: Any, slots: Any, key: Any, value: Any,
               layer: Any = None) -> Any:
        """The pool with rows of keys and values in their slots."""
        after = jax.ShapeDtypeStruct(pool.shape, pool.dtype)
        insert = jax.ffi.ffi_call(self._targets().name("insert"), after,
                                  input_output_aliases={0: 0})
        return insert(pool, *self._place(layer), _ints(slots), key, value)

    def run(self, query: Any, pool: Any, starts: Any, lengths: Any,
            block_table: Any, layer: Any = None, *, sinks: Any = None) -> Any:
        """Attention of each row of the query over the tokens of its request."""
        self._of._expect_lists(positions=None, alibi=None, sinks=sinks,
                               mask=None, prefix_groups=None,
                               prefix_lengths=None)
        out = jax.ShapeDtypeStruct(query.shape, query.dtype)
        arguments = (pool, *self._place(layer), query, _ints(starts),
                     _ints(lengths), _ints(block_table),
                     *(() if sinks is None else (sinks,)))
        targets = self._targets()
        results = [out]
        size = targets.workspace_size("run", (*arguments, out))
        if size:
            results.append(jax.ShapeDtypeStruct((size + _ALIGN - 1,), jnp.uint8))
        return jax.ffi.ffi_call(targets.name("run"), results)(*arguments)[0]

    def _place(self, layer: Any) -> tuple:
        self._of._expect_layer(layer)
        return () if layer is None else (_ints(layer).reshape(1),)

    def _targets(self) -> _Targets:
        return _targets_of(self.program(), self._of._checks)


def _ints(values: Any) -> Any:
    return jnp.asarray(values).astype(jnp.int32)


# ---- Targets of XLA ----------------------------------------------------------

_ALIGN = 256  # of a workspace
_numbers = itertools.count()


class _Tensor(ctypes.Structure):
    """The DLTensor of an array without memory."""

    _fields_ = [("data", ctypes.c_void_p), ("device", ctypes.c_int32 * 2),
                ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8),
                ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
                ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.c_void_p), ("byte_offset", ctypes.c_uint64)]

    @classmethod
    def like(cls, array: Any) -> _Tensor:
        dtype = jnp.dtype(array.dtype)
        codes = {name: code for name, code, _ in FORMATS.values()}
        code = codes.get(dtype.name, 0 if dtype.kind == "i" else 2)
        shape = (ctypes.c_int64 * len(array.shape))(*array.shape)
        return cls(data=4096, device=(1, 0), ndim=len(array.shape), code=code,
                   bits=8 * dtype.itemsize, lanes=1, shape=shape)


class _Targets:
    """The functions of a library, as targets that XLA calls."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        self._prefix = f"kvcache_{next(_numbers)}_"
        module = tvm_ffi.load_module(path)
        for name in ("insert", "run"):
            jax_tvm_ffi.register_ffi_target(self.name(name),
                                            module.get_function(name))

    def name(self, function: str) -> str:
        return self._prefix + function

    def workspace_size(self, function: str, arrays: tuple) -> int:
        """For arrays of these extents; 0 if they are rejected, as the call then
        says why."""
        size = self._library[f"kv1args_{function}_workspace_size"]
        size.restype = ctypes.c_int64
        tensors = [_Tensor.like(array) for array in arrays]
        pointers = (ctypes.c_void_p * len(tensors))(
            *(ctypes.addressof(tensor) for tensor in tensors))
        return max(size(pointers), 0)


@functools.lru_cache(maxsize=None)
def _targets_of(program: str, checks: str) -> _Targets:
    path = compile(program, checks=checks).path
    if os.path.exists(path):
        return _Targets(path)
    # It was loaded from a place that is gone.
    with tempfile.TemporaryDirectory(prefix="kvcache-") as folder:
        path = os.path.join(folder, "program.so")
        compile(program, checks=checks, output=path)
        return _Targets(path)
