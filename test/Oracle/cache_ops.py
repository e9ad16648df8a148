# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The operations of the dialect, from docs/reference and docs/types.md.

What moves, and attention, are the references of test/numerics; here is what
they leave out: lists of different lengths, views that fail, and the form on
tensors.
"""

import functools
import operator

import numpy as np
import ref_attention
import ref_batch
import ref_moves
import ref_rows
from interpreter import Batch, Slots, Table, Undefined, handles
from ir_types import MemRef, Tensor, dtype_of
from memory_ops import element_strides
from ref_cache import Cache, CallFails, NotAView
from ref_elements import decode, encode, half_ulp, smallest_normal, type_of


# What extents and strides of a cache are at most: layout_c3 and layout_c5.
MOST = 1 << 40


def holds(kind, cache):
    """Whether a cache is what a type says. An axis of extent 1 has no stride;
    what is compact over it has one that the type allows this axis."""
    extents = dict(zip(cache.axes, cache.array.shape))
    given = dict(zip(cache.axes, cache.strides))
    # What the axes so far allow the next one, if that is compact.
    allows = functools.partial(operator.eq, 1)
    for axis in reversed(kind.order):
        if kind.extents[axis] not in (None, extents[axis]):
            return False
        fact = kind.facts.get(axis) if kind.extents[axis] != 1 else None
        if isinstance(fact, tuple):
            allows = functools.partial(_divides, fact[1])
        elif fact is not None:
            allows = functools.partial(operator.eq, fact)
        if extents[axis] != 1:
            if not allows(given[axis]):
                return False
            allows = functools.partial(operator.eq, given[axis] * extents[axis])
    address = cache.array.__array_interface__["data"][0]
    return address % kind.align == 0


def _divides(factor, number):
    return number % factor == 0


def no_blocks(kind, poison):
    """What a view is that fails. Its strides are open: those of its type for
    one poison, and none that a type has for another."""
    shape = {axis: 0 if axis == "B" else extent or 0
             for axis, extent in kind.extents.items()}
    multiples = {axis: fact[1] for axis, fact in kind.facts.items()
                 if isinstance(fact, tuple)}
    steps = (strides_of(kind, shape, multiples) if poison
             else dict.fromkeys(shape, -1))
    empty = np.empty(0, dtype_of(kind.element))
    return Cache(kind.extents, np.lib.stride_tricks.as_strided(
        empty, list(shape.values()),
        [steps[axis] * empty.itemsize for axis in shape]))


def canonical(cache, kind):
    """The same cache, with the strides that the type gives where a caller's
    are not looked at: of axes of extent 1."""
    given = dict(zip(cache.axes, element_strides(cache.array)))
    steps = strides_of(kind, dict(zip(cache.axes, cache.array.shape)), given)
    size = cache.array.itemsize
    array = np.lib.stride_tricks.as_strided(
        cache.array, cache.array.shape,
        [(given[a] if n != 1 else steps[a]) * size
         for a, n in zip(cache.axes, cache.array.shape)])
    return Cache(cache.axes, array)


def strides_of(kind, extents, given):
    """All strides: `given` are those that the type leaves to the call. Of an axis
    of extent 1 it is the least that the type allows."""
    strides, step = {}, 1
    for axis in reversed(kind.order):
        fact = kind.facts.get(axis) if kind.extents[axis] != 1 else None
        if isinstance(fact, tuple):
            step = (given[axis] if extents[axis] != 1
                    else -(-step // fact[1]) * fact[1])
        elif fact is not None:
            step = fact
        strides[axis] = step
        step *= extents[axis]
    return strides


def argument_cache(array, kind):
    """An argument of the type of a cache."""
    return canonical(Cache(kind.extents, array), kind)


# --- Views --------------------------------------------------------------------


def _guarded(run, op, view):
    try:
        return view()
    except CallFails as why:
        run.fail(why, op)
        return no_blocks(op.result_types[0], run.poison)


@handles("kvcache.view")
def _view(run, op, values, env):
    kind = op.result_types[0]
    source, offset, extents, strides = _segments(op, values)
    array = source[0]
    if not (isinstance(op.operand_types[0].element, type(kind.element))
            and array.dtype == dtype_of(kind.element)):
        given = dict(zip(op.attributes["extentAxes"], extents)
                     ) if extents else {}
        steps = dict(zip(op.attributes["strideAxes"], strides)
                     ) if strides else {}
        return [_guarded(run, op, lambda: _byte_view(
            array, kind, offset[0] if offset else 0, given, steps))]
    axes = op.attributes.get("axes") or list(kind.extents)
    cache = Cache.of(array, axes)
    for n, want in zip(cache.array.shape, kind.extents.values()):
        if want not in (None, n):
            raise Undefined("a view with other extents")
    return [canonical(cache, kind)]


def _segments(op, values):
    out, first = [], 0
    for size in op.attributes["operandSegmentSizes"]:
        out.append(values[first : first + size])
        first += size
    return out


def _byte_view(array, kind, offset, extents, strides):
    full = {axis: extents.get(axis, extent)
            for axis, extent in kind.extents.items()}
    for axis, n in full.items():
        if not 0 <= n <= MOST:
            raise CallFails(f"{n} of axis {axis}")
    for axis, step in strides.items():
        multiple = kind.facts[axis][1]
        if full[axis] != 1 and step % multiple:
            raise CallFails(f"a stride of {step}, no multiple of {multiple}")
        if full[axis] != 1 and not 1 <= step <= MOST:
            raise CallFails(f"a stride of {step}")
    if offset < 0:
        raise CallFails("an offset below 0")
    steps = strides_of(kind, full, strides)
    return Cache.of_bytes(array.view(np.uint8), full, kind.element.name,
                          kind.order, steps, offset, kind.align)


@handles("kvcache.storage")
def _storage(run, op, values, env):
    cache = values[0]
    return [cache.transposed(op.attributes.get("axes") or cache.axes)]


@handles("kvcache.layer")
def _layer(run, op, values, env):
    return [_guarded(run, op,
                     lambda: values[0].layer(values[1]))]


@handles("kvcache.side")
def _side(run, op, values, env):
    return [values[0].side(op.attributes["side"])]


@handles("kvcache.heads")
def _heads(run, op, values, env):
    return [values[0].heads(op.attributes["first"], op.attributes["count"])]


@handles("kvcache.subpool")
def _subpool(run, op, values, env):
    return [_guarded(run, op,
                     lambda: values[0].subpool(values[1], values[2]))]


@handles("kvcache.cast")
def _cast(run, op, values, env):
    cache, kind = values[0], op.result_types[0]
    if cache.array.size and not holds(kind, cache):
        raise Undefined("a cast to a type that the cache is not of")
    return [cache]


@handles("kvcache.has_facts")
def _has_facts(run, op, values, env):
    if not values[0].array.size:
        # Either answer will do: poison chooses.
        return [run.poison & 1]
    return [int(holds(op.attributes["facts"], values[0]))]


@handles("kvcache.dim")
def _dim(run, op, values, env):
    return [values[0].array.shape[values[0].axes.index(op.attributes["axis"])]]


@handles("kvcache.stride")
def _stride(run, op, values, env):
    return [values[0].strides[values[0].axes.index(op.attributes["axis"])]]


@handles("kvcache.flatten")
def _flatten(run, op, values, env):
    cache = values[0]
    slots = cache.extent("B") * cache.extent("N")
    return [_reshaped_array(cache, [slots, *cache.array.shape[2:]], None)]


def _reshaped_array(cache, shape, axes):
    if not cache.array.size:
        return np.empty(shape, cache.array.dtype)
    try:
        return cache.reshape_array(shape, axes)
    except NotAView as why:
        raise Undefined(f"no view: {why}") from why


@handles("kvcache.reshape")
def _reshape(run, op, values, env):
    cache, kind = values[0], op.result_types[0]
    shape = list(kind.shape if isinstance(kind, MemRef)
                 else kind.extents.values())
    known = int(np.prod([n for n in shape if n is not None], dtype=np.int64))
    shape = [cache.array.size // known if n is None else n for n in shape]
    axes = op.attributes.get("axes")
    array = _reshaped_array(cache, shape, axes)
    if isinstance(kind, MemRef):
        return [array]
    return [canonical(Cache(kind.extents, array), kind)]


# --- Index values -------------------------------------------------------------


def _taken(value, kind):
    """Entries of a tensor stay what they are; a memref is looked at later."""
    return value.copy() if isinstance(kind, Tensor) else value


@handles("kvcache.make_slots")
def _make_slots(run, op, values, env):
    return [Slots(_taken(values[0], op.operand_types[0]),
                  op.result_types[0].tokens)]


@handles("kvcache.make_block_table")
def _make_table(run, op, values, env):
    return [Table(_taken(values[0], op.operand_types[0]),
                  op.result_types[0].tokens)]


@handles("kvcache.make_batch")
def _make_batch(run, op, values, env):
    starts, lengths, table, *positions = [
        _taken(v, k) for v, k in zip(values, op.operand_types)]
    return [Batch(starts, lengths, table.list, table.tokens,
                  positions[0] if positions else None)]


@handles("kvcache.with_rows")
def _with_rows(run, op, values, env):
    batch, starts, positions = [
        _taken(v, k) for v, k in zip(values, op.operand_types)]
    return [batch._replace(starts=starts, positions=positions)]


def known_batch(batch):
    """As many requests as each list has."""
    requests = min(len(batch.starts) - 1, len(batch.lengths), len(batch.table))
    requests = max(requests, 0)
    return ref_batch.Batch(batch.starts[: requests + 1],
                           batch.lengths[:requests], batch.table[:requests],
                           batch.tokens, batch.positions)


def _row_count(batch, rows):
    if batch.positions is not None:
        rows = min(rows, len(batch.positions))
    return rows


def _results(op, outs):
    """Tensor forms give new values, others have written."""
    return outs if op.results else []


def _own(op, arrays):
    """Destinations that may be written: tensors are copied first."""
    return [a.copy() for a in arrays] if op.results else arrays


def _element(array):
    return f"i{array.itemsize * 8}"


@handles("kvcache.slot_mapping")
def _slot_mapping(run, op, values, env):
    batch, *sink, out = values
    (out,) = _own(op, [out])
    count = _row_count(batch, len(out))
    slots = ref_batch.slot_mapping(known_batch(batch), count,
                                   sink[0] if sink else None, _element(out))
    # Rows without a position are padding.
    none = ref_batch.Batch([0], [], np.zeros((0, 0)), batch.tokens)
    padding = ref_batch.slot_mapping(none, len(out), sink[0] if sink else None,
                                     _element(out))
    out[:] = slots + padding[count:]
    return _results(op, [out])


@handles("kvcache.block_slots")
def _block_slots(run, op, values, env):
    blocks, out = values
    (out,) = _own(op, [out])
    slots = ref_batch.block_slots(blocks, op.attributes["tokens"],
                                  _element(out))[: len(out)]
    out[: len(slots)] = slots
    return _results(op, [out])


@handles("kvcache.map_blocks")
def _map_blocks(run, op, values, env):
    blocks, out = values
    (out,) = _own(op, [out])
    parts = ref_batch.map_blocks(blocks, op.attributes["ratio"], _element(out))
    common = tuple(slice(0, min(n)) for n in zip(parts.shape, out.shape))
    out[common] = parts[common]
    return _results(op, [out])


@handles("kvcache.csr_table")
def _csr_table(run, op, values, env):
    (indptr,), (indices,), last, outs = _segments(op, values)
    table, *lengths = outs = _own(op, outs)
    count = max(0, min(len(indptr) - 1, *(len(x) for x in (*last, *outs))))
    rows, known = ref_batch.csr_table(
        indptr[: count + 1], indices.tolist(), table.shape[1],
        *(last or [None]), op.attributes.get("tokens"), _element(table))
    if count:
        table[:count] = np.array(rows, np.int64).reshape(count, table.shape[1])
    for out in lengths:
        out[:count] = known[:count]
    return _results(op, outs)


@handles("kvcache.select_rows")
def _select_rows(run, op, values, env):
    rows, (batch,), (indices,), (valid,), outs = _segments(op, values)
    outs = _own(op, outs)
    *outs, starts, positions = outs
    count = _row_count(batch, min(len(r) for r in rows))
    known = known_batch(batch)
    chosen = ref_batch.select_rows([r[:count] for r in rows], known, indices,
                                   valid, count, _element(positions))
    if chosen.fails:
        run.fail("the indices decrease or name no row")
        for out in (*outs, positions):
            out[...] = np.full(out.shape, run.poison, np.uint8).astype(out.dtype)
        starts[:] = 0
    else:
        for out, values_ in zip(outs, chosen.outs):
            n = min(len(out), len(values_))
            out[:n] = values_[:n]
        n = min(len(positions), len(chosen.positions))
        positions[:n] = chosen.positions[:n]
        n = min(len(starts), len(chosen.starts))
        starts[:n] = chosen.starts[:n]
    return _results(op, [*outs, starts, positions])


# --- Rows and blocks ----------------------------------------------------------


def _destination(op, value, axes):
    """The cache that is written, and what the operation gives."""
    if isinstance(value, Cache):
        return value, []
    array = value.copy()
    return Cache.of(array, axes), [array]


def _source(value, axes):
    return value if isinstance(value, Cache) else Cache.of(value, axes)


@handles("kvcache.index_copy")
def _index_copy(run, op, values, env):
    *rows, cache, slots = values
    cache, results = _destination(op, cache, op.attributes.get("axes"))
    count = min(len(slots.list), *(len(r) for r in rows))
    tokens, blocks = cache.extent("N"), cache.extent("B")
    cache.check_one_layer()
    for t in run.sequence(count):
        block, token = divmod(int(slots.list[t]), slots.tokens)
        if 0 <= block < blocks and token < tokens:
            for side, row in enumerate(rows):
                cache.put_token(side, block, token,
                                ref_moves.into(cache, row[t]))
    return results


@handles("kvcache.scatter")
def _scatter(run, op, values, env):
    *rows, cache, blocks, offsets = values
    cache, results = _destination(op, cache, op.attributes.get("axes"))
    count = min(len(blocks), len(offsets), *(len(r) for r in rows))
    order = run.sequence(count)
    ref_moves.scatter(cache, [r[order] for r in rows],
                      blocks[order].tolist(), offsets[order].tolist())
    return results


@handles("kvcache.gather")
def _gather(run, op, values, env):
    cache, slots, *outs = values
    outs = _own(op, outs)
    count = min(len(slots.list), *(len(o) for o in outs))
    ref_moves.gather(_source(cache, op.attributes.get("axes")),
                     slots.list[:count].tolist(), [o[:count] for o in outs],
                     "zero" in op.attributes)
    return _results(op, outs)


@handles("kvcache.relayout")
def _relayout(run, op, values, env):
    source, dest = values
    dest, results = _destination(op, dest, op.attributes.get("destAxes"))
    ref_moves.relayout(_source(source, op.attributes.get("sourceAxes")), dest)
    return results


@handles("kvcache.copy_blocks")
def _copy_blocks(run, op, values, env):
    order = run.sequence(len(values[1]))
    ref_moves.copy_blocks(values[0], values[1][order])
    return []


@handles("kvcache.clear_blocks")
def _clear_blocks(run, op, values, env):
    ref_moves.clear_blocks(*values)
    return []


@handles("kvcache.transfer")
def _transfer(run, op, values, env):
    source, dest, pairs = values
    order = run.sequence(len(pairs))
    ref_moves.transfer(source, dest, pairs[order], "zero" in op.attributes)
    return []


# --- Attention ----------------------------------------------------------------


def _numbers(array):
    return decode(array, type_of(array))


def _tolerance_of(run, array):
    known = run.tensor_tolerances.get(id(array))
    if known is not None:
        return known[1]
    out = np.zeros(array.shape)
    if run.tolerances:
        for index, address in np.ndenumerate(addresses(array)):
            out[index] = run.tolerances.get(int(address), 0.0)
    return out


def addresses(array):
    out = np.full(array.shape, array.__array_interface__["data"][0], np.int64)
    for dim, stride in enumerate(array.strides):
        out += (np.arange(array.shape[dim]) * stride).reshape(
            [-1] + [1] * (array.ndim - 1 - dim))
    return out


def _put(run, op, out, numbers, tolerance):
    """Write numbers that are known up to a tolerance."""
    if op.results:
        out = out.copy()
    out[...] = encode(numbers, type_of(out))
    if op.results:
        run.tensor_tolerances[id(out)] = out, tolerance
    else:
        run.tolerances.update(zip(addresses(out).ravel().tolist(),
                                  tolerance.ravel().tolist()))
    return out


# --- Computed rows ------------------------------------------------------------


def _rounded(numbers, error, element_type):
    """An error, and one rounding to a type."""
    half = half_ulp(element_type)
    return (error + half * (np.abs(numbers) + error)
            + half * smallest_normal(element_type))


@handles("kvcache.normalize")
def _normalize(run, op, values, env):
    rows, *weight, out = values
    (out,) = _own(op, [out])
    count = min(len(rows), len(out))
    assert not _tolerance_of(run, rows[:count]).any(), "a norm of what is inexact"
    want = ref_rows.normalize(
        _numbers(rows[:count]), _numbers(weight[0]) if weight else None,
        epsilon=op.attributes["epsilon"], plus_one="plusOne" in op.attributes)
    with np.errstate(all="ignore"):
        tolerance = _rounded(want.out, want.error, type_of(out))
    tolerance = np.where(np.isfinite(want.out), tolerance, 0)
    _put_rows(run, op, out, encode(want.out, type_of(out)), tolerance)
    return _results(op, [out])


@handles("kvcache.rotate")
def _rotate(run, op, values, env):
    rows, table, *positions, out = values
    (out,) = _own(op, [out])
    positions = positions[0] if positions else np.arange(len(table))
    count = min(len(rows), len(positions), len(out))
    how = dict(interleaved="interleaved" in op.attributes)
    error = _tolerance_of(run, rows[:count])
    turned = ref_rows.rotate(rows[:count], table, positions[:count],
                             element_type=type_of(out), **how)
    tolerance = np.zeros(error.shape)
    if error.any():
        # Each result is a sum of two products of one head.
        most = max(1.0, np.abs(_numbers(table)).max(initial=0))
        tolerance[...] = 2 * most * error.max(axis=-1, keepdims=True)
        tolerance = _rounded(_numbers(turned), tolerance, type_of(out))
    _put_rows(run, op, out, turned, tolerance)
    return _results(op, [out])


def _put_rows(run, op, out, raw, tolerance):
    """The first rows of a destination; those after them stay."""
    part = out[: len(raw)]
    part[...] = raw
    if op.results:
        full = np.zeros(out.shape)
        full[: len(raw)] = tolerance
        run.tensor_tolerances[id(out)] = out, full
    elif tolerance.any() or run.tolerances:
        run.tolerances.update(zip(addresses(part).ravel().tolist(),
                                  tolerance.ravel().tolist()))


@handles("kvcache.fuse")
def _fuse(run, op, values, env):
    for block in op.regions[0].blocks:
        for inner in block.ops:
            run.execute(inner, env)
    return []


@handles("kvcache.attention")
def _attention(run, op, values, env):
    # Prefixes say how the result may be computed, not what it is.
    (query,), caches, scales, (batch,), alibi, sinks, mask, factor, _, _, outs = (
        _segments(op, values))
    assert not scales, "stored values are no numbers"
    axes = op.attributes.get("cacheAxes") or [None] * len(caches)
    caches = [_source(c, a) for c, a in zip(caches, axes)]
    options = {name: op.attributes.get(name)
               for name in ("window", "softcap", "scale")}
    options["window_right"] = op.attributes.get("windowRight")
    options["value_scale"] = factor[0] if factor else None
    heads_first = "headsFirst" in op.attributes
    rows = min(len(query), len(outs[0]), *map(len, mask),
               *(o.shape[heads_first] for o in outs[1:]))
    known = known_batch(batch)
    count = _row_count(batch, rows)
    if alibi or sinks:
        options["alibi"] = alibi[0].astype(np.float64) if alibi else None
        options["sinks"] = sinks[0].astype(np.float64) if sinks else None
    if mask:
        options["mask"] = mask[0]
    want = ref_attention.attention(
        _numbers(query[:count]), caches, known,
        causal="causal" in op.attributes, weights=caches[0].element_type,
        **options)
    out_tolerance = want.tolerance(type_of(outs[0]))
    out_tolerance[want.empty] = 0
    written = []
    lse = want.lse
    for out, numbers, tolerance in zip(
            outs, (want.out, lse),
            (out_tolerance, np.where(want.empty[:, None], 0, want.lse_error
                                     + 1e-37))):
        transposed = numbers is lse and heads_first
        full = np.zeros(out.shape[::-1] if transposed else out.shape)
        if numbers is lse:
            full[:] = -np.inf if not sinks else sinks[0]
        full[:count] = numbers
        allowed = np.zeros(full.shape)
        allowed[:count] = tolerance
        if transposed:
            full, allowed = full.T, allowed.T
        written.append(_put(run, op, out, full, allowed))
    return _results(op, written)


@handles("kvcache.merge_states")
def _merge_states(run, op, values, env):
    splits, lses, outs = _segments(op, values)
    heads_first = "headsFirst" in op.attributes

    def by_rows(lse):
        return lse.T if heads_first else lse

    count = min([len(v) for v in (*splits, outs[0])]
                + [len(by_rows(v)) for v in (*lses, *outs[1:])])
    parts = [_numbers(v[:count]) for v in splits]
    given = [_numbers(by_rows(v)[:count]) for v in lses]
    errors = [_tolerance_of(run, v)[:count] for v in splits]
    lse_error = sum(by_rows(_tolerance_of(run, v))[:count] for v in lses)
    unused = [np.isinf(lse) for lse in given]
    with np.errstate(all="ignore"):
        want = ref_attention.merge_states(
            *(x for pair in zip(parts, given) for x in pair))
    # Weights that are not exact move the result between the splits.
    known = [np.where(none[..., None], np.nan, part)
             for part, none in zip(parts, unused)]
    least, most = np.fmin.reduce(known), np.fmax.reduce(known)
    spread = np.nan_to_num(most - least)
    moved = (np.maximum.reduce(errors)
             + len(splits) * spread * lse_error[..., None])
    tolerance = want.tolerance(type_of(outs[0])) + moved
    written = []
    for out, numbers, allowed, turned in zip(
            outs, (want.out, want.lse),
            (tolerance, want.lse_error + lse_error + 1e-37),
            (False, heads_first)):
        if op.results:
            # Only all rows are rows of a tensor.
            written.append(_put(run, op, out, numbers.T if turned else numbers,
                                allowed.T if turned else allowed))
            continue
        part = out.T[:count] if turned else out[:count]
        written.append(_put(run, op, part, numbers, allowed))
    return _results(op, written)
