# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""memref, tensor, bufferization and the few operations of linalg that programs
beside a cache are made of."""

import itertools

import numpy as np
from interpreter import Undefined, Unsupported, handles
from ir_types import dtype_of
from ref_cache import _affine
from scalar_ops import dense_array, load_scalar, store_scalar

DYNAMIC = -(1 << 63)


def owner_of(array):
    """The array that has the memory, and where in it this one begins."""
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    begin = (array.__array_interface__["data"][0]
             - owner.__array_interface__["data"][0])
    return owner, begin


def strided(array, offset, shape, strides):
    """Other extents and strides of the memory of an array; all in elements,
    `offset` from the start of that memory."""
    owner, _ = owner_of(array)
    size = array.itemsize
    if 0 in shape:
        return np.empty(shape, array.dtype)
    flat = owner.reshape(-1).view(np.uint8)
    try:
        return np.ndarray(shape, array.dtype, flat, offset * size,
                          [s * size for s in strides])
    except ValueError as error:
        raise Undefined(f"a view that leaves its memory: {error}") from error


def element_strides(array):
    return [s // array.itemsize for s in array.strides]


def _mixed(fixed, given):
    given = iter(given)
    return [next(given) if n == DYNAMIC else n for n in fixed]


def _index(array, index):
    if len(index) != array.ndim or not all(
            0 <= i < n for i, n in zip(index, array.shape)):
        raise Undefined(f"index {index} of {array.shape}")
    return tuple(index)


def _shape_of(op, values):
    return _mixed([DYNAMIC if n is None else n
                   for n in op.result_types[0].shape], values)


@handles("memref.alloc", "memref.alloca", "tensor.empty",
         "bufferization.alloc_tensor")
def _alloc(run, op, values, env):
    sizes = values
    if "operandSegmentSizes" in op.attributes:
        sizes = values[: op.attributes["operandSegmentSizes"][0]]
    shape = _shape_of(op, sizes)
    if any(n < 0 for n in shape) or np.prod(shape, dtype=object) > 1 << 24:
        raise Undefined(f"a buffer of {shape}")
    if op.name == "bufferization.alloc_tensor" and len(values) > len(sizes):
        return [values[len(sizes)].copy()]
    return [run.undefined(shape, op.result_types[0].element)]


@handles("memref.load", "tensor.extract")
def _load(run, op, values, env):
    array, *index = values
    return [load_scalar(array[_index(array, index)],
                        op.operand_types[0].element)]


@handles("memref.store")
def _store(run, op, values, env):
    value, array, *index = values
    store_scalar(array, _index(array, index), value,
                 op.operand_types[1].element)
    return []


@handles("tensor.insert")
def _insert(run, op, values, env):
    value, array, *index = values
    out = array.copy()
    store_scalar(out, _index(array, index), value,
                 op.operand_types[1].element)
    return [out]


@handles("tensor.from_elements")
def _from_elements(run, op, values, env):
    kind = op.result_types[0]
    out = np.empty(kind.shape, dtype_of(kind.element))
    for i, value in enumerate(values):
        store_scalar(out.reshape(-1), i, value, kind.element)
    return [out]


@handles("tensor.splat")
def _splat(run, op, values, env):
    out = np.empty(_shape_of(op, values[1:]),
                   dtype_of(op.result_types[0].element))
    store_scalar(out, ..., values[0], op.result_types[0].element)
    return [out]


@handles("memref.copy")
def _copy(run, op, values, env):
    source, dest = values
    if source.shape != dest.shape:
        raise Undefined(f"a copy of {source.shape} to {dest.shape}")
    dest[...] = source.copy()
    return []


@handles("memref.dim", "tensor.dim")
def _dim(run, op, values, env):
    array, dim = values
    if not 0 <= dim < array.ndim:
        raise Undefined("a dimension that is not there")
    return [array.shape[dim]]


@handles("memref.cast", "tensor.cast", "bufferization.to_buffer",
         "bufferization.to_tensor", "memref.memory_space_cast")
def _cast(run, op, values, env):
    kind, array = op.result_types[0], values[0]
    for want, got in zip(getattr(kind, "shape", ()), array.shape):
        if want not in (None, got):
            raise Undefined(f"a cast of {array.shape} to {kind.shape}")
    strides = getattr(kind, "strides", None)
    if strides and array.size:
        for want, got, n in zip(strides, element_strides(array), array.shape):
            if n > 1 and want not in (None, got):
                raise Undefined("a cast to other strides")
    return [array]


@handles("bufferization.materialize_in_destination")
def _materialize(run, op, values, env):
    values[1][...] = values[0]
    return [values[0]] if op.results else []


@handles("bufferization.clone")
def _clone(run, op, values, env):
    return [values[0].copy()]


def _slice(op, array, values, fixed=None):
    """The part that a slice operation names; `values` are its run-time
    offsets, sizes and strides."""
    attributes = op.attributes
    rest = list(values)
    parts = []
    for name in ("static_offsets", "static_sizes", "static_strides"):
        count = attributes[name].count(DYNAMIC)
        parts.append(_mixed(attributes[name], rest[:count]))
        rest = rest[count:]
    for offset, size, step, extent in zip(*parts, array.shape):
        if offset < 0 or size < 0 or step < 1 or (
                size and offset + (size - 1) * step >= extent):
            raise Undefined(f"a slice {parts} of {array.shape}")
    return array[tuple(slice(o, o + n * s, s) if n else slice(0, 0)
                       for o, n, s in zip(*parts))]


def _dropped(part, shape):
    """Without extents of 1 that the result type has not."""
    if part.ndim == len(shape):
        return part
    keep, want = [], list(shape)
    for dim, n in enumerate(part.shape):
        left = part.ndim - dim
        if want and (n == want[0] or want[0] is None) and (
                n != 1 or left <= len(want) or want[0] == 1):
            want.pop(0)
            keep.append(slice(None))
        else:
            keep.append(0)
    return part[tuple(keep)]


@handles("memref.subview", "tensor.extract_slice")
def _subview(run, op, values, env):
    part = _dropped(_slice(op, values[0], values[1:]),
                    op.result_types[0].shape)
    return [part if op.name == "memref.subview" else part.copy()]


@handles("tensor.insert_slice")
def _insert_slice(run, op, values, env):
    source, array, *given = values
    out = array.copy()
    part = _slice(op, out, given)
    part[...] = source.reshape(part.shape)
    return [out]


@handles("memref.transpose")
def _transpose(run, op, values, env):
    permutation = op.attributes["permutation"].results(*range(values[0].ndim))
    return [values[0].transpose(permutation)]


def _reshaped(op, array, shape):
    shape = [int(n) for n in shape]
    if op.name.startswith("tensor."):
        return array.reshape(shape)
    if not array.size:
        return np.empty(shape, array.dtype)
    offsets = np.zeros(array.shape, np.int64)
    for dim, stride in enumerate(element_strides(array)):
        offsets += (np.arange(array.shape[dim]) * stride).reshape(
            [-1] + [1] * (array.ndim - 1 - dim))
    strides = _affine(offsets.reshape(shape), 0)
    return np.lib.stride_tricks.as_strided(
        array, shape, [s * array.itemsize for s in strides])


@handles("memref.collapse_shape", "tensor.collapse_shape")
def _collapse(run, op, values, env):
    groups = op.attributes["reassociation"]
    array = values[0]
    return [_reshaped(op, array, [np.prod([array.shape[d] for d in group],
                                          dtype=np.int64) for group in groups])]


@handles("memref.expand_shape", "tensor.expand_shape")
def _expand(run, op, values, env):
    shape = _mixed(op.attributes["static_output_shape"], values[1:])
    return [_reshaped(op, values[0], shape)]


@handles("memref.reinterpret_cast")
def _reinterpret(run, op, values, env):
    array, *rest = values
    parts = []
    for name in ("static_offsets", "static_sizes", "static_strides"):
        count = op.attributes[name].count(DYNAMIC)
        parts.append(_mixed(op.attributes[name], rest[:count]))
        rest = rest[count:]
    (offset,), shape, strides = parts
    return [strided(array, offset, shape, strides)]


@handles("memref.extract_strided_metadata")
def _metadata(run, op, values, env):
    array = values[0]
    _, begin = owner_of(array)
    if begin % array.itemsize:
        raise Unsupported("an offset that is no number of elements")
    return [array, begin // array.itemsize, *array.shape,
            *element_strides(array)]


@handles("memref.get_global")
def _get_global(run, op, values, env):
    return [dense_array(run.globals[op.attributes["name"]])]


@handles("linalg.fill")
def _fill(run, op, values, env):
    value, out = values
    if op.results:
        out = out.copy()
    store_scalar(out, ..., value, op.operand_types[1].element)
    return [out]


@handles("linalg.copy")
def _linalg_copy(run, op, values, env):
    source, out = values
    if op.results:
        return [source.copy()]
    out[...] = source.copy()
    return []


def _loop_extents(maps, arrays):
    """The extent of each loop: where a map has a loop alone."""
    count = maps[0].dims
    zero = [0] * count
    extents = [None] * count
    units = [[int(i == d) for i in range(count)] for d in range(count)]
    for which, array in zip(maps, arrays):
        base = which.results(*zero)
        for d, unit in enumerate(units):
            for j, value in enumerate(which.results(*unit)):
                others = [which.results(*u)[j] for u in units if u is not unit]
                if value == 1 and base[j] == 0 and not any(others):
                    known = extents[d]
                    if known is not None and known != array.shape[j]:
                        raise Undefined("linalg: extents differ")
                    extents[d] = array.shape[j]
    return extents


@handles("linalg.generic")
def _generic(run, op, values, env):
    inputs, outputs = op.attributes["operandSegmentSizes"]
    maps = op.attributes["indexing_maps"]
    values = list(values)
    if op.results:
        values[inputs:] = [v.copy() for v in values[inputs:]]
    arrays = [v for v in values if isinstance(v, np.ndarray)]
    array_maps = [m for m, v in zip(maps, values) if isinstance(v, np.ndarray)]
    kinds = [getattr(k, "element", k) for k in op.operand_types]
    extents = _loop_extents(array_maps, arrays)
    outer = env.get("linalg.index")
    for index in itertools.product(*map(range, extents)):
        places = [m.results(*index) for m in maps]
        env["linalg.index"] = index
        scalars = [load_scalar(v[_index(v, p)], k)
                   if isinstance(v, np.ndarray) else v
                   for v, p, k in zip(values, places, kinds)]
        _, results = run.region(op.regions[0], scalars, env)
        for i, result in enumerate(results):
            at = inputs + i
            store_scalar(values[at], places[at], result, kinds[at])
    env["linalg.index"] = outer
    return values[inputs:]


@handles("linalg.index")
def _linalg_index(run, op, values, env):
    return [env["linalg.index"][op.attributes["dim"]]]
