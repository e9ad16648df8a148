# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Layout and PagedAttention with NumPy arrays, compared with NumPy."""

import copy
import pickle

import kvcache
import numpy as np
from kvcache._version import ORDERS
from programs import raises, use_new_cache

cache = use_new_cache()
rng = np.random.default_rng(11)
HEADS, KV_HEADS, DIM, TOKENS, LAYERS, BLOCKS = 4, 2, 32, 4, 3, 12


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


class Case:
    """Two requests: one with five new tokens of nine, one with one of six."""

    starts = np.array([0, 5, 6], np.int32)
    lengths = np.array([9, 6], np.int32)
    table = np.array([[7, 2, 5], [0, 11, 3]], np.int32)

    def __init__(self):
        self.query = normal(6, HEADS, DIM)
        self.key, self.value = normal(6, KV_HEADS, DIM), normal(6, KV_HEADS, DIM)

    def slots(self):
        found = []
        for r in range(2):
            first, end = self.starts[r], self.starts[r + 1]
            for position in range(self.lengths[r] - (end - first),
                                  self.lengths[r]):
                block = self.table[r, position // TOKENS]
                found.append(block * TOKENS + position % TOKENS)
        return np.array(found, np.int64)

    def expected(self, layer, window=None, softcap=None, scale=DIM ** -0.5,
                 sinks=None, alibi=None, positions=None, mask=None,
                 causal=True):
        """Attention over a layer [S, B, N, H, D], and the sums of weights."""
        out, lse = np.zeros(self.query.shape), np.zeros((6, HEADS))
        for r in range(2):
            first, end = self.starts[r], self.starts[r + 1]
            tokens = layer[:, self.table[r]].astype(np.float64)
            keys, values = tokens.reshape(2, -1, KV_HEADS, DIM)
            for row in range(first, end):
                position = self.lengths[r] - end + row
                if positions is not None:
                    position = positions[row]
                last = position + 1 if causal else self.lengths[r]
                seen = np.arange(max(0, position - window + 1) if window else 0,
                                 last)
                if mask is not None:
                    own = seen - self.lengths[r] + end - first
                    seen = seen[(own < 0) | (mask[row, 0] >> np.maximum(own, 0)
                                             & 1 != 0)]
                for head in range(HEADS):
                    scores = keys[seen, head // 2] @ self.query[row, head] * scale
                    if softcap:
                        scores = softcap * np.tanh(scores / softcap)
                    if alibi is not None:
                        scores += alibi[head] * (seen - position)
                    most = scores.max()
                    weights = np.exp(scores - most)
                    total = weights.sum()
                    if sinks is not None:
                        total += np.exp(sinks[head] - most)
                    out[row, head] = weights / total @ values[seen, head // 2]
                    lse[row, head] = most + np.log(total)
        return out, lse


def check(attention, layer, rows_apart=False, **options):
    case = Case()
    pool = attention.layout.zeros(BLOCKS)
    pool[...] = normal(*pool.shape)
    want = pool.copy()
    one = want[layer] if layer is not None else want
    flat = one.reshape(2, -1, KV_HEADS, DIM)
    flat[0, case.slots()], flat[1, case.slots()] = case.key, case.value
    place = {} if layer is None else {"layer": layer}
    attention.insert(pool, case.slots(), case.key, case.value, **place)
    np.testing.assert_array_equal(pool, want)
    lists = (case.starts, case.lengths, case.table)
    given = {name: options[name]
             for name in ("positions", "alibi", "sinks", "mask")
             if name in options}
    if attention.prefix_groups:  # of which a result does not depend
        given |= dict(prefix_groups=np.array([0, 2], np.int32),
                      prefix_lengths=np.zeros(1, np.int32))
    out = attention.run(case.query, pool, *lists, **place, **given)
    expected = case.expected(one, **options)
    for got, wanted in zip(out if attention.lse else (out,), expected):
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)
    if not rows_apart:
        return
    # Rows that are apart, and an array for the result.
    fused = np.concatenate([case.query, case.key, case.value], axis=1)
    query, key, value = np.split(fused, [HEADS, HEADS + KV_HEADS], axis=1)
    attention.insert(pool, case.slots(), key, value, **place)
    np.testing.assert_array_equal(pool, want)
    given["out"] = np.empty_like(out)
    again = attention.run(query, pool, *lists, **place, **given)
    assert again is given["out"]
    np.testing.assert_allclose(again, out, rtol=1e-6, atol=1e-6)


def make(layout="nhd", **options):
    return kvcache.PagedAttention(HEADS, KV_HEADS, DIM, TOKENS, "f32", layout,
                                  **options)


# Named orders, and one that has no name.
assert len(ORDERS) >= 12
for name, axes in ORDERS.items():
    attention = make(name, layers=LAYERS if "L" in axes else None)
    assert "".join(attention.layout.order) == axes
check(make("hnd"), None, rows_apart=True)
check(make("cross_layer_hnd", layers=LAYERS), 2, rows_apart=True)
check(make("LBHNC", layers=LAYERS), 1)
check(make(["B", "S", "H", "D", "N"]), None)
# A name of an order with layers stands for one without them, too.
assert make("BLNHC").layout.order == tuple("BNHSD")

# What models do.
check(make(window=3, softcap=2.5, scale=0.25), None, window=3, softcap=2.5,
      scale=0.25)
check(make(causal=False, sinks=True), None, causal=False, sinks=normal(HEADS))
check(make("hnd", lse=True, alibi=True, sinks=True), None, alibi=normal(HEADS),
      sinks=normal(HEADS))
check(make(lse=True, positions=True), None,
      positions=np.array([0, 3, 4, 6, 8, 2], np.int64))

# A tree of three and two branches, and rows that see both ways.
tree = np.array([[0b00001], [0b00011], [0b00101], [0b01011], [0b10101], [1]],
                np.int32)
check(make(mask=True), None, mask=tree)
check(make("hnd", causal=False, mask=True, sinks=True), None, causal=False,
      mask=tree | 0b11, sinks=normal(HEADS))

check(make(prefixes=True, lse=True, mask=True), None, mask=tree)
invariant = make("hnd", batch_invariant=True, lse=True, sinks=True)
assert " batch_invariant causal" in invariant.program()
check(invariant, None, sinks=normal(HEADS))

# Copies work by themselves.
original = make("hnd")
original.library()
for attention in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
    check(attention, None)

# ---- Scales, given and computed


def spread(scales, pool):
    """A scale for each element of a pool [.., B, N, H, D]."""
    if scales.ndim < pool.ndim - 1:  # of [L, S] or [L, S, H]
        sides = pool.ndim - 4
        heads = scales.shape[sides:] or (1,)
        return scales.reshape(*scales.shape[:sides], 1, 1, *heads, 1)
    return scales[..., None]


def check_scales(scales, dtype, layout, layers=None):
    attention = kvcache.PagedAttention(
        HEADS, KV_HEADS, DIM, TOKENS, dtype, layout, layers=layers,
        query_dtype="f32", scales=scales)
    case = Case()
    pool = attention.layout.zeros(BLOCKS)
    own = attention.layout.new_scales(BLOCKS)
    given = scales != "token"
    assert own.shape == pool.shape[:-1] if not given else (own == 1).all()
    largest = 127 if dtype == "i8" else 448
    if given:
        own *= rng.uniform(5, 6, own.shape).astype(np.float32) / largest
    place = {} if layers is None else {"layer": 1}
    attention.insert(pool, case.slots(), case.key, case.value, **place, scales=own)
    number = pool.astype(np.float32) * spread(own, pool)
    one = number if layers is None else number[1]
    assert layers is None or not number[0].any() and not number[2].any()
    stored = one.reshape(2, -1, KV_HEADS, DIM)[:, case.slots()]
    wanted = np.stack([case.key, case.value])
    bound = 6 / 127 / 2 if dtype == "i8" else 2**-4 * np.abs(wanted) + 6 / 2**17
    assert (np.abs(stored - wanted) <= bound * 1.001).all()
    # Other tokens that requests see.
    if not given:
        own[...] = rng.uniform(0.5, 1, own.shape)
    raw = rng.integers(-100, 100, pool.shape)
    pool[...] = raw.astype(pool.dtype)
    number = pool.astype(np.float64) * spread(own, pool)
    number = number if layers is None else number[1]
    out = attention.run(case.query, pool, case.starts, case.lengths, case.table,
                        **place, scales=own)
    np.testing.assert_allclose(out, case.expected(number)[0], rtol=1e-3, atol=1e-3)


check_scales("side", "f8E4M3FN", "nhd")
check_scales("head", "i8", "cross_layer_nhd", layers=LAYERS)
check_scales("side", "i8", "BHLSND", layers=LAYERS)
check_scales("head", "i8", "BHLSND", layers=LAYERS)
check_scales("token", "i8", "BHLSND", layers=LAYERS)
check_scales("head", "f8E4M3FN", ["H", "B", "L", "S", "N", "D"], layers=LAYERS)
check_scales("token", "f8E4M3FN", "cross_layer_nhd", layers=LAYERS)
check_scales("token", "i8", "hnd")

# ---- Layouts by themselves

layout = kvcache.Layout("cross_layer_nhd", kv_heads=2, head_dim=8, block_size=4,
                        layers=3, dtype="f32")
assert layout.type == ("!kvcache.cache<3L x 2S x ?B x 4N x 2H x 8D x f32, "
                       "order = [B, L, S, N, H, D]>")
assert layout.memory_shape(5) == (5, 3, 2, 4, 2, 8)
assert layout.nbytes(5) == 4 * 5 * 3 * 2 * 4 * 2 * 8
memory = np.zeros(layout.memory_shape(5), np.float32)
pool = layout.view(memory)
assert pool.shape == (3, 2, 5, 4, 2, 8)
pool[1, 0, 4, 3] = 7
assert (memory[4, 1, 0, 3] == 7).all() and memory.sum() == 7 * 16
assert layout.zeros(2).ctypes.data % 64 == 0 and not layout.zeros(2).any()

# ---- The layout that an array has

buffer = np.zeros((3, BLOCKS, KV_HEADS, TOKENS, 2, DIM), np.float32)
for order, strides, one in (
        # One of three layers that lie side by side, next to each other in
        # blocks, and in blocks with heads outside of the layers.
        ("BHNSD", {}, buffer.transpose(0, 4, 1, 3, 2, 5)[1]),
        ("BHNSD", {"B": 3 * 2 * 4 * 2 * 32}, buffer.reshape(
            BLOCKS, 3, KV_HEADS, TOKENS, 2, DIM).transpose(1, 4, 0, 3, 2, 5)[1]),
        ("BHNSD", {"H": 3 * 4 * 2 * 32}, buffer.reshape(
            BLOCKS, KV_HEADS, 3, TOKENS, 2, DIM).transpose(2, 4, 0, 3, 1, 5)[1]),
        ("HBNSD", {"H": "? mult 64"}, buffer.reshape(
            3, KV_HEADS, BLOCKS, TOKENS, 2, DIM).transpose(0, 4, 2, 3, 1, 5)[2])):
    found = kvcache.Layout.of(one, "f32")
    assert ("".join(found.order), found.strides) == (order, strides), found
    attention = make(found)
    case = Case()
    one[...] = normal(*one.shape)
    want = one.copy()
    flat = want.reshape(2, -1, KV_HEADS, DIM)
    flat[0, case.slots()], flat[1, case.slots()] = case.key, case.value
    attention.insert(one, case.slots(), case.key, case.value)
    np.testing.assert_array_equal(one, want)
    out = attention.run(case.query, one, case.starts, case.lengths, case.table)
    np.testing.assert_allclose(out, case.expected(want)[0], rtol=2e-5, atol=2e-5)
    one[...] = 0
    assert not buffer.any(), "another layer was written"
# Heads that are slower than blocks are as far apart as the pool is large.
small = np.zeros((KV_HEADS, 5, TOKENS, 2, DIM), np.float32)
assert kvcache.Layout.of(small.transpose(3, 1, 2, 0, 4), "f32").type == found.type
# A single head, and one block: their strides say nothing. A head is beside its
# channels then.
single = np.zeros((1, TOKENS, 1, 2, DIM), np.float32).transpose(3, 0, 1, 2, 4)
assert kvcache.Layout.of(single, "f32").strides == {}
single = np.zeros((2, 5, TOKENS, 1, DIM), np.float32)
assert "".join(kvcache.Layout.of(single, "f32").order) == "SBNHD"
layers = kvcache.Layout("BLNHC", kv_heads=2, head_dim=8, layers=3, block_size=4,
                        dtype="f32", strides={"B": 512})
assert layers.layer_type.endswith("order = [B, N, H, S, D], strides = [B = 512]>")
apart = kvcache.Layout("BHLNC", kv_heads=2, head_dim=8, layers=3, block_size=4,
                       dtype="f32", strides={"L": 80})
assert apart.layer_type.endswith("order = [B, H, N, S, D], strides = [H = 240]>")

# ---- Errors

text = raises(ValueError, kvcache.Layout.of, buffer, "f32")
assert text.startswith("pool: expected keys and values, 2 in dimension 1, got 12")
text = raises(ValueError, kvcache.Layout.of, buffer[0, 0], "f32")
assert text.endswith("got extents [2, 4, 2, 32]"), text
assert raises(ValueError, kvcache.Layout, kv_heads=2, head_dim=8,
              strides={"L": 4}) == (
    "strides: expected axes among S, B, N, H, D, got 'L'")
for stride in (0, "? mult 0", "16"):
    assert raises(ValueError, kvcache.Layout, kv_heads=2, head_dim=8,
                  strides={"B": stride}) == (
        f"strides: expected a number for B, '?' or '? mult 16', got {stride!r}")
assert raises(ValueError, layers.zeros, 4).startswith("the layout has strides")
assert raises(ValueError, make, layers, layers=3).startswith("expected a layout")

text = raises(ValueError, layout.view, memory[0])
assert text == ("expected extents B = any, L = 3, S = 2, N = 4, H = 2, D = 8, got "
                "[3, 2, 4, 2, 8]"), text
text = raises(ValueError, layout.view, pool)
assert "got [3, 2, 5, 4, 2, 8]" in text, text
text = raises(ValueError, kvcache.Layout, "ndh", kv_heads=2, head_dim=8)
assert text.startswith("order: expected each of the axes S, B, N, H, D once, or "
                       "one of ") and text.endswith("; got 'ndh'"), text
raises(ValueError, kvcache.Layout, "nhd", kv_heads=2, head_dim=8, layers=2)
raises(ValueError, kvcache.Layout, "SBNHDD", kv_heads=2, head_dim=8)
assert raises(ValueError, kvcache.Layout, kv_heads=0, head_dim=8) == (
    "kv_heads: expected a positive integer, got 0")
assert raises(ValueError, kvcache.Layout, kv_heads=2, head_dim=8, dtype="f8") == (
    "dtype: expected one of f16, bf16, f32, f8E4M3FN, f8E5M2, got 'f8'")
assert raises(ValueError, kvcache.PagedAttention, 8, 2, 8,
              query_dtype="f8E5M2") == (
    "query_dtype: expected a type of two or four bytes, got 'f8E5M2'")
assert raises(ValueError, kvcache.Layout, kv_heads=2, head_dim=8,
              scales="block") == (
    "scales: expected one of side, head, token, got 'block'")
assert raises(ValueError, kvcache.Layout, kv_heads=2, head_dim=8, dtype="i8") \
    .startswith("dtype: expected one of f16, ")
assert raises(ValueError, kvcache.Layout, kv_heads=2, head_dim=8,
              scales="head") == (
    "dtype: expected one of f8E4M3FN, f8E5M2, i8 with scales, got 'bf16'")
assert raises(ValueError, layout.new_scales, 4) == "the layout has no scales"
scaled = kvcache.PagedAttention(4, 2, 32, 4, "i8", scales="head")
rows = (np.zeros(1, np.int64), *np.zeros((2, 1, 2, 32), np.float32))
for wrong, got in ((None, "none"), (np.ones(2, np.float32), "extents [2]")):
    assert raises(ValueError, scaled.insert, scaled.layout.zeros(2), *rows,
                  scales=wrong) == (
        f"scales: expected the dimensions [S, H], got {got}")
assert raises(ValueError, kvcache.PagedAttention, 4, 2, 32, 4, "i8",
              scaled.layout, scales="side").startswith(
    "expected a layout of i8 with H = 2, D = 32, N = 4, scales = 'side', got")
assert raises(ValueError, layout.memory_shape, -1) == (
    "blocks: expected a number of blocks, got -1")
assert raises(ValueError, make, "SLBNHD", layers=2).startswith(
    "order SLBNHD: one layer has a stride that is known in a call only")
assert raises(ValueError, kvcache.PagedAttention, 3, 2, 8) == (
    "heads: expected a multiple of the 2 kv_heads, got 3")
assert raises(ValueError, kvcache.PagedAttention, 4, 4, 8, layout=layout) \
    .startswith("expected a layout of bf16 with H = 4, ")
case, attention = Case(), make("paired_nhd")
pool = attention.layout.zeros(BLOCKS)
arguments = (case.query, pool, case.starts, case.lengths, case.table)
assert raises(TypeError, attention.run, *arguments, layer=1) == (
    "layer: expected none, as the pool has one layer")
assert raises(TypeError, make("LBHNC", layers=2).run, *arguments) == (
    "layer: expected a number below 2")
assert raises(TypeError, attention.run, *arguments, sinks=case.lengths) == (
    "sinks: expected none, as sinks=False says")
for name in ("sinks", "alibi", "positions", "mask"):
    assert raises(TypeError, make(**{name: True}).run, *arguments) == (
        f"{name}: expected a list, as {name}=True says")
assert raises(TypeError, make(prefixes=True).run, *arguments,
              prefix_groups=case.starts) == (
    "prefix_lengths: expected a list, as prefixes=True says")
assert raises(TypeError, attention.run, *arguments, scales=case.query) == (
    "scales: expected none, as scales=None says")
assert raises(TypeError, attention.run, *arguments, lse=case.query) == (
    "lse: expected none, as lse=False says")
text = raises(ValueError, attention.insert, np.zeros((BLOCKS, 2, 4, 2, 32),
                                                     np.float32),
              case.slots(), case.key, case.value)
assert "your tensor looks like [B, S, N, H, D], as it is in memory; pass " \
    "`pool.transpose(1, 0, 2, 3, 4)`" in text, text
