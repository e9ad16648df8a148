# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""One layer of an engine's cache in each of vLLM's layouts, with the batches that
an engine makes: padding of slots, of rows and of requests."""

import itertools

import kvcache
import ml_dtypes
import numpy as np
from programs import use_new_cache

cache = use_new_cache()
rng = np.random.default_rng(23)
LAYERS, LAYER, HEADS, KV_HEADS, DIM, TOKENS = 3, 1, 4, 2, 16, 150
LAYOUTS = ("LBHNC", "LBNHC", "LHBNC", "BLHNC", "BLNHC", "BHLNC")
NOTHING = 2 ** 30  # a block that no table may name for a token
# Rows that are left of two prompts, and a request that is only padding.
ROWS, LENGTHS = (5, 1, 0), (150, 97, 0)


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def make_cache(layout, blocks, block_size, dtype):
    """The memory in an order of the axes, and one layer as [S, B, N, H, D]."""
    extents = dict(L=LAYERS, B=blocks, H=KV_HEADS, N=block_size, C=2 * DIM)
    memory = normal(*(extents[axis] for axis in layout)).astype(dtype)
    pool = memory.transpose([layout.index(axis) for axis in "LBNHC"])[LAYER]
    pool = pool.reshape(*pool.shape[:3], 2, DIM).transpose(3, 0, 1, 2, 4)
    assert np.shares_memory(pool, memory)
    return memory, pool


class Batch:
    def __init__(self, block_size):
        columns = -(-TOKENS // block_size)
        self.blocks = 2 * columns + 3
        order = rng.permutation(self.blocks)
        self.table = np.full((3, columns + 2), NOTHING, np.int32)
        for r, length in enumerate(LENGTHS):
            used = -(-length // block_size)
            self.table[r, :used] = order[r * columns:r * columns + used]
        self.starts = np.cumsum((0, *ROWS), dtype=np.int32)
        self.lengths = np.array(LENGTHS, np.int32)
        # Two rows of padding without a slot, as in a captured graph.
        self.slots = np.full(8, -1, np.int64)
        for row, (r, token) in enumerate(self.tokens()):
            block = int(self.table[r, token // block_size])
            self.slots[row] = block * block_size + token % block_size

    def tokens(self):
        """(request, token) of each row."""
        return [(r, LENGTHS[r] - rows + i) for r, rows in enumerate(ROWS)
                for i in range(rows)]

    def expected(self, pool, query, window, softcap):
        out = np.zeros(query.shape)
        for row, (r, token) in enumerate(self.tokens()):
            blocks = self.table[r, :-(-LENGTHS[r] // pool.shape[2])]
            keys, values = pool[:, blocks].astype(np.float64).reshape(
                2, -1, KV_HEADS, DIM)
            seen = slice(max(0, token + 1 - (window or token + 1)), token + 1)
            for head in range(HEADS):
                group = head * KV_HEADS // HEADS
                scores = keys[seen, group] @ query[row, head] * DIM ** -0.5
                if softcap:
                    scores = softcap * np.tanh(scores / softcap)
                weights = np.exp(scores - scores.max())
                out[row, head] = weights / weights.sum() @ values[seen, group]
        return out


def check(layout, block_size, dtype, options):
    batch = Batch(block_size)
    memory, pool = make_cache(layout, batch.blocks, block_size, dtype)
    name = {2: "bf16", 4: "f32"}[memory.itemsize]
    attention = kvcache.PagedAttention(
        HEADS, KV_HEADS, DIM, block_size, name, kvcache.Layout.of(pool, name),
        **options)
    library = attention.library(rows_apart=True)
    # As a fused projection makes them: rows are apart.
    fused = normal(8, HEADS + 2 * KV_HEADS, DIM).astype(dtype)
    query, key, value = np.split(fused, [HEADS, HEADS + KV_HEADS], axis=1)

    want = pool.copy()
    others = np.delete(memory, LAYER, layout.index("L"))
    slots = batch.slots[:6]
    want[0, slots // block_size, slots % block_size] = key[:6]
    want[1, slots // block_size, slots % block_size] = value[:6]
    library.insert(pool, batch.slots, key, value)
    np.testing.assert_array_equal(pool, want)
    np.testing.assert_array_equal(
        np.delete(memory, LAYER, layout.index("L")), others)

    out = np.full((8, HEADS, DIM), 7, dtype)
    library.run(query, pool, batch.starts, batch.lengths, batch.table, out)
    expected = batch.expected(want, query.astype(np.float64),
                              options.get("window"), options.get("softcap"))
    bound = 2e-5 if name == "f32" else 2e-2
    np.testing.assert_allclose(out.astype(np.float64), expected, rtol=bound,
                               atol=bound)
    assert not out[6:].any(), "rows of padding"


variants = itertools.cycle([{}, {"window": 40}, {"softcap": 5.0},
                            {"window": 3, "softcap": 2.0}, {"window": 1}])
count = 0
for layout, block_size in itertools.product(LAYOUTS, (16, 32, 128)):
    for dtype in (np.float32, ml_dtypes.bfloat16):
        check(layout, block_size, dtype, next(variants))
        count += 1
print(f"{count} caches")

# ---- Tokens dealt out to ranks, as in decode context parallelism


def dealt(count, ranks, rank, interleave):
    """How many of the first tokens a rank has."""
    return sum(token // interleave % ranks == rank for token in range(count))


def check_ranks(ranks, interleave, block_size=16):
    batch = Batch(block_size)
    whole = normal(2, batch.blocks, block_size, KV_HEADS, DIM)
    query = normal(8, HEADS, DIM)
    attention = kvcache.PagedAttention(HEADS, KV_HEADS, DIM, block_size, "f32",
                                       positions=True, lse=True)
    table = np.arange(3 * batch.table.shape[1], dtype=np.int32).reshape(3, -1)
    parts = []
    for rank in range(ranks):
        pool = attention.layout.zeros(table.size)
        pool[...] = np.nan
        for r, length in enumerate(LENGTHS):
            for token in range(length):
                if token // interleave % ranks == rank:
                    place = dealt(token, ranks, rank, interleave)
                    block = table[r, place // block_size]
                    pool[:, block, place % block_size] = whole[
                        :, batch.table[r, token // block_size], token % block_size]
        lengths = np.array([dealt(n, ranks, rank, interleave) for n in LENGTHS],
                           np.int32)
        positions = np.full(8, -1, np.int64)
        for row, (_, token) in enumerate(batch.tokens()):
            positions[row] = dealt(token + 1, ranks, rank, interleave) - 1
        parts.append(attention.run(query, pool, batch.starts, lengths, table,
                                   positions=positions))
    lse = np.stack([part[1] for part in parts])[:, :6].astype(np.float64)
    shares = np.exp(lse - np.log(np.exp(lse).sum(0)))
    out = sum(share[..., None] * part[0][:6] for share, part in zip(shares, parts))
    np.testing.assert_allclose(out, batch.expected(whole, query, None, None)[:6],
                               rtol=2e-5, atol=2e-5)
    for part, part_lse in parts:
        assert not part[6:].any() and np.isneginf(part_lse[6:]).all()


for ranks, interleave in ((2, 1), (2, 8), (3, 16), (2, 128)):
    check_ranks(ranks, interleave)
