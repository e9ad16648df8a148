# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Ragged batches, and what computes indices from them.

All numbers are Python integers, so that nothing overflows here.
"""

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Batch:
    starts: Any
    lengths: Any
    table: Any
    tokens: int
    positions: Any = None

    @property
    def requests(self):
        return len(self.lengths)

    def length(self, r):
        capacity = np.asarray(self.table).shape[1] * self.tokens
        return min(max(int(self.lengths[r]), 0), capacity)

    def trusted_starts(self, rows):
        """Each at least the one before, at most the number of rows."""
        out, last = [], 0
        for start in np.asarray(self.starts).tolist():
            last = max(last, start if rows is None else min(start, rows))
            out.append(last)
        return out

    def rows(self, count):
        """(request, position) of each of `count` rows; None for padding."""
        starts = self.trusted_starts(count)
        out = [None] * count
        for r in range(self.requests):
            for t in range(starts[r], starts[r + 1]):
                position = (int(self.positions[t]) if self.positions is not None
                            else self.length(r) - (starts[r + 1] - t))
                out[t] = r, position
        return out

    def first_own(self, r, count):
        """The key of the first query row of a request, if rows are its last
        tokens."""
        starts = self.trusted_starts(count)
        return self.length(r) - (starts[r + 1] - starts[r])

    def keys(self, r, blocks):
        """The tokens of a request that are in a cache of `blocks` blocks:
        arrays of their numbers, blocks, and tokens in the block."""
        j = np.arange(self.length(r))
        block = np.asarray(self.table)[r].astype(np.int64)[j // self.tokens]
        there = (block >= 0) & (block < blocks)
        return j[there], block[there], (j % self.tokens)[there]


def with_rows(batch, starts, positions):
    return Batch(starts, batch.lengths, batch.table, batch.tokens, positions)


def _has_room(number, factor, element_type):
    """Whether all parts of a number fit a list of that type."""
    most = 2 ** (31 if element_type == "i32" else 63)
    return 0 <= number and (number + 1) * factor <= most


def slot_mapping(batch, count, sink=None, element_type="i64"):
    """The slots of `count` query rows."""
    tokens, out = batch.tokens, []
    has_sink = sink is not None and _has_room(sink, tokens, element_type)
    for t, row in enumerate(batch.rows(count)):
        slot = sink * tokens + t % tokens if has_sink else -1
        if row:
            r, p = row
            if 0 <= p < batch.length(r):
                block = int(batch.table[r][p // tokens])
                if _has_room(block, tokens, element_type):
                    slot = block * tokens + p % tokens
        out.append(slot)
    return out


def _expand(blocks, factor, element_type):
    blocks = np.asarray(blocks)
    out = [block * factor + part
           if _has_room(block, factor, element_type) else -1
           for block in blocks.ravel().tolist() for part in range(factor)]
    return np.array(out, np.int64).reshape(
        *blocks.shape[:-1], blocks.shape[-1] * factor)


def map_blocks(blocks, ratio, element_type="i64"):
    """For a list or a matrix; `element_type` is that of the destination."""
    return _expand(blocks, ratio, element_type)


def block_slots(blocks, tokens, element_type="i64"):
    return _expand(blocks, tokens, element_type)


def csr_table(indptr, indices, columns, last=None, tokens=None,
              element_type="i32"):
    """The table of lists in CSR form, and the lengths or None."""
    listed, table, lengths = len(indices), [], []
    places = [min(max(int(p), 0), listed) for p in indptr]
    for r, (first, end) in enumerate(zip(places, places[1:])):
        own = [int(i) for i in indices[first:end][:columns]]
        table.append(own + [-1] * (columns - len(own)))
        if last is not None:
            length = ((end - first - 1) * tokens
                      + min(max(int(last[r]), 1), tokens) if first < end else 0)
            fits = length < 2 ** (31 if element_type == "i32" else 63)
            lengths.append(length if fits else 0)
    return table, None if last is None else lengths


# Where the call fails, only `starts` is specified.
Selection = namedtuple("Selection", "outs starts positions fails")


def select_rows(rows, batch, indices, valid, count=None, element_type="i64"):
    """rows: arrays [T, ...]; `count` is T where there are none. Positions have
    the element type."""
    most = 2 ** (31 if element_type == "i32" else 63)
    indices = np.asarray(indices).tolist()
    count = len(rows[0]) if rows else count
    n = min(max(int(np.ravel(valid)[0]), 0), len(indices))
    known = batch.rows(count)
    chosen = indices[:n]
    named = all(0 <= i < count and known[i] for i in chosen)
    if not named or any(a > b for a, b in zip(chosen, chosen[1:])):
        return Selection(None, [0] * (batch.requests + 1), None, True)
    outs = []
    for values in rows:
        out = np.zeros((len(indices), *values.shape[1:]), values.dtype)
        out[:n] = values[chosen]
        outs.append(out)
    positions = [max(-most, min(known[i][1], most - 1)) for i in chosen] + [-1] * (len(indices) - n)
    starts = [0]
    for r in range(batch.requests):
        starts.append(starts[-1] + sum(known[i][0] == r for i in chosen))
    return Selection(outs, starts, positions, False)
