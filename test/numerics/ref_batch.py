# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Ragged batches, and what computes indices from them.

All numbers are Python integers, so that nothing overflows here. A result that
its element type cannot hold is not specified.
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

    def keys(self, r, blocks):
        """The tokens of a request that are in a cache of `blocks` blocks:
        arrays of their numbers, blocks, and tokens in the block."""
        j = np.arange(self.length(r))
        block = np.asarray(self.table)[r].astype(np.int64)[j // self.tokens]
        there = (block >= 0) & (block < blocks)
        return j[there], block[there], (j % self.tokens)[there]


def with_rows(batch, starts, positions):
    return Batch(starts, batch.lengths, batch.table, batch.tokens, positions)


def slot_mapping(batch, count, sink=None):
    """The slots of `count` query rows."""
    tokens, out = batch.tokens, []
    for t, row in enumerate(batch.rows(count)):
        slot = -1 if sink is None else sink * tokens + t % tokens
        if row:
            r, p = row
            if 0 <= p < batch.length(r):
                block = int(batch.table[r][p // tokens])
                if block >= 0:
                    slot = block * tokens + p % tokens
        out.append(slot)
    return out


def _expand(blocks, factor):
    blocks = np.asarray(blocks)
    parts = np.arange(factor)
    wide = blocks.astype(np.int64)[..., None]
    out = np.where(wide < 0, -1, wide * factor + parts)
    return out.reshape(*blocks.shape[:-1], blocks.shape[-1] * factor)


def map_blocks(blocks, ratio):
    """For a list or a matrix."""
    return _expand(blocks, ratio)


def block_slots(blocks, tokens):
    return _expand(blocks, tokens)


# Where the call fails, only `starts` is specified.
Selection = namedtuple("Selection", "outs starts positions fails")


def select_rows(rows, batch, indices, valid, count=None):
    """rows: arrays [T, ...]; `count` is T where there are none."""
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
    positions = [known[i][1] for i in chosen] + [-1] * (len(indices) - n)
    starts = [0]
    for r in range(batch.requests):
        starts.append(starts[-1] + sum(known[i][0] == r for i in chosen))
    return Selection(outs, starts, positions, False)
