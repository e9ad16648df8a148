# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What moves the elements of caches. All of it is exact to the bit.

Entries of slots, blocks, offsets and pairs are never trusted: an entry that
names nothing is skipped, whatever `pad` promised. So `pad` makes no difference
to the result; `allowed` says whether a list keeps the promise.
"""

import numpy as np
from ref_elements import STORAGE, convert, type_of


def allowed(slots, pad, capacity):
    """Whether a list of slots has only the entries that `pad` allows."""
    slots = [int(s) for s in slots]
    negative = any(s < 0 for s in slots)
    past = any(s >= capacity for s in slots)
    return {"skip_negative": not past, "skip_out_of_range": True}.get(
        pad.split("(")[0], not past and not negative)


def _slots(cache, slots):
    """Pairs of a row and the place of its slot, or None."""
    tokens, blocks = cache.extent("N"), cache.extent("B")
    for t, slot in enumerate(slots):
        slot = int(slot)
        inside = 0 <= slot < blocks * tokens
        yield t, divmod(slot, tokens) if inside else None


def _check_rows(cache, rows, count):
    cache.check_one_layer()
    assert len(rows) == cache.extent("S"), "one array per side"
    for array in rows:
        assert list(array.shape) == [count, *cache.row_shape], array.shape
        assert array.dtype.type in STORAGE.values(), array.dtype


def into(cache, row):
    """A row of any type as one of the cache."""
    return convert(row, type_of(row), cache.element_type)


def index_copy(cache, rows, slots, pad=None):
    """Write rows[side][t] to slot t; of several rows the last one stays.

    rows: one raw array [T, H, D], or [T, D] without heads, per side, whose
          elements are converted if they are not of the type of the cache
    pad:  checked to be true of the slots, if it is given
    """
    if pad:
        capacity = cache.extent("B") * cache.extent("N")
        assert allowed(slots, pad, capacity), f"slots are not as in {pad}"
    _check_rows(cache, rows, len(slots))
    for t, place in _slots(cache, slots):
        if place:
            for side, values in enumerate(rows):
                cache.put_token(side, *place, into(cache, values[t]))


def scatter(cache, rows, blocks, offsets):
    assert len(blocks) == len(offsets)
    _check_rows(cache, rows, len(blocks))
    for t, (block, offset) in enumerate(zip(blocks, offsets)):
        if 0 <= block < cache.extent("B") and 0 <= offset < cache.extent("N"):
            for side, values in enumerate(rows):
                cache.put_token(side, int(block), int(offset),
                                into(cache, values[t]))


def gather(cache, slots, outs, zero=False):
    """Read slots to outs[side][t], in place."""
    _check_rows(cache, outs, len(slots))
    for t, place in _slots(cache, slots):
        for side, out in enumerate(outs):
            if place:
                out[t] = convert(cache.get_token(side, *place),
                                 cache.element_type, type_of(out))
            elif zero:
                out[t] = 0


def relayout(source, dest):
    assert source.letters == dest.letters
    common = min(source.extent("B"), dest.extent("B"))
    dest.subpool(0, common).put(
        convert(source.subpool(0, common).get(), source.element_type,
                dest.element_type))


def copy_blocks(cache, pairs):
    """One pair after the other, as on a CPU."""
    blocks = cache.extent("B")
    for source, dest in np.asarray(pairs).reshape(-1, 2).tolist():
        if 0 <= source < blocks and 0 <= dest < blocks:
            cache.array[cache._index(B=dest)] = (
                cache.array[cache._index(B=source)].copy())


def clear_blocks(cache, blocks):
    for block in np.asarray(blocks).tolist():
        if 0 <= block < cache.extent("B"):
            cache.array[cache._index(B=block)] = 0


def transfer(source, dest, pairs, zero=False):
    """pairs: [P, 2] of chunks, or [P, 4] with the first token and a count."""
    assert source.letters == dest.letters
    assert source.element_type == dest.element_type
    sizes = source.extent("N"), dest.extent("N")
    chunk = min(sizes)
    assert max(sizes) % chunk == 0
    listed = source.letters.index("B")

    def token(cache, values, number, i):
        """The part of a logical array that is token i of a chunk."""
        per_block = cache.extent("N") // chunk
        block, part = divmod(number, per_block)
        index = [slice(None)] * values.ndim
        index[listed : listed + 2] = block, part * chunk + i
        return tuple(index)

    read, written = source.get(), dest.get()
    for entry in np.asarray(pairs).tolist():
        a, b = entry[:2]
        first, count = entry[2:] or (0, chunk)
        if not (0 <= a < source.extent("B") * (sizes[0] // chunk)
                and 0 <= b < dest.extent("B") * (sizes[1] // chunk)):
            continue
        for i in range(chunk):
            if first <= i < first + count:
                written[token(dest, written, b, i)] = (
                    read[token(source, read, a, i)])
            elif zero:
                written[token(dest, written, b, i)] = 0
    dest.put(written)
