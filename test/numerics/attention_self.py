# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""The reference of attention against a textbook softmax, on dense keys."""

import itertools

import cases
import numpy as np
import reference as ref
from kvtest import fails
from reference import Batch, Cache


def textbook(q, k, v, p, options, sinks, alibi, masked=()):
    """One head of one row over a dense list of keys. Nothing is subtracted
    before the exponential."""
    x = k @ q * (options.get("scale") or 1 / len(q) ** 0.5)
    j = np.arange(len(k))
    if options.get("softcap"):
        x = np.tanh(x / options["softcap"]) * options["softcap"]
    x = x - alibi * (p - j)
    hidden = np.zeros(len(k), bool)
    if options.get("causal"):
        hidden |= j > p
    if options.get("window"):
        hidden |= p - j >= options["window"]
    if "window_right" in options:
        hidden |= j - p > options["window_right"]
    hidden[list(masked)] = True
    x[hidden] = -np.inf
    if sinks is not None:
        x = np.append(x, sinks)
        v = np.concatenate([v, np.zeros((1, v.shape[1]))])
    total = np.exp(x).sum()
    if total == 0:
        return np.zeros(v.shape[1]), -np.inf
    factor = options.get("value_scale", 1.0)
    return factor * (np.exp(x) / total) @ v, np.log(total)


def dense_copy(cache, batch, r, count):
    """The first tokens of a request, one after the other; poison is 0."""
    out = np.zeros([count, *cache.row_shape])
    for i in range(count):
        block = int(batch.table.array[r, i // batch.tokens])
        row = cache.get_token(0, block, i % batch.tokens).astype(np.float64)
        out[i] = np.where(np.abs(row) < 1e30, row, 0)
    return out


def attention_cases(rng, count):
    for number in range(count):
        options = dict(causal=bool(rng.random() < 0.6))
        if rng.random() < 0.4:
            options["window"] = int(rng.integers(1, 20))
        if not options["causal"] and rng.random() < 0.6:
            options["window_right"] = int(rng.integers(0, 6))
        if rng.random() < 0.3:
            options["value_scale"] = -2.5
        if rng.random() < 0.3:
            options["softcap"] = 2.0
        if rng.random() < 0.3:
            options["scale"] = 0.25
        heads, per_head = int(rng.integers(1, 4)), int(rng.integers(1, 4))
        hq = heads * per_head
        if rng.random() < 0.4:
            options["alibi"] = rng.random(hq).astype(np.float32)
        if rng.random() < 0.4:
            options["sinks"] = rng.standard_normal(hq).astype(np.float32)
        batch = cases.random_batch(
            rng, requests=number % 6, tokens=4, blocks=14, longest=21,
            kind=cases.BATCHES[number % 4], shared=bool(rng.random() < 0.3),
            positions=[None, None, "i64"][number % 3],
            index=str(rng.choice(["i32", "i64"])))
        sizes = dict(blocks=14, tokens=4, heads=heads)
        if rng.random() < 0.5:
            caches = [cases.random_cache(rng, channels=8, **sizes,
                                         layers=[None, 2][rng.integers(2)])]
            channels = 8, 8
        else:
            channels = 8, 16
            caches = [cases.random_cache(rng, channels=d, sides=None, **sizes)
                      for d in channels]
        query = cases.random_rows(rng, batch.rows, [hq, 8], "f32",
                                  padding=batch.padding)
        if rng.random() < 0.4:
            options["mask"] = cases.random_mask(rng, batch.batch(),
                                                batch.rows).array
        seen = ref.seen_slots(batch.batch(), batch.rows, caches[0].view,
                              options["causal"], options.get("window"),
                              options.get("window_right"), options.get("mask"))
        for case in caches:
            cases.fill(rng, case.view, seen)
        yield batch, caches, query, options, channels


def masked_keys(words, rows, length):
    """The keys that a row of a mask hides, of `rows` own rows."""
    bits = [word >> i & 1 for word in map(int, words) for i in range(32)]
    bits += [0] * rows
    return [length - rows + i for i in range(rows)
            if length - rows + i >= 0 and not bits[i]]


def test_attention():
    rng = np.random.default_rng(8)
    for batch, caches, query, options, channels in attention_cases(rng, 120):
        q, given = query.numbers(), batch.batch()
        got = ref.attention(q, [c.view for c in caches], given, **options)
        assert np.isfinite(got.out).all() and np.isfinite(got.out_error).all()
        views = [c.view for c in caches]
        if len(views) == 1:
            views = [views[0].side(0), views[0].side(1)]
        starts = batch.starts.array
        for r in range(len(batch.lengths.array)):
            n = int(batch.lengths.array[r])
            k, v = (dense_copy(c, batch, r, n) for c in views)
            for t in range(starts[r], starts[r + 1]):
                p = (int(batch.positions.array[t]) if batch.positions
                     else n - (int(starts[r + 1]) - t))
                masked = [] if "mask" not in options else masked_keys(
                    options["mask"][t], int(starts[r + 1] - starts[r]), n)
                for h in range(q.shape[1]):
                    g = h // (q.shape[1] // k.shape[1])
                    out, lse = textbook(
                        q[t, h], k[:, g], v[:, g], p, options,
                        options["sinks"][h] if "sinks" in options else None,
                        options["alibi"][h] if "alibi" in options else 0.0,
                        masked)
                    assert np.allclose(got.out[t, h], out, 1e-12, 1e-12)
                    assert np.allclose(got.lse[t, h], lse, 1e-12, 1e-12)
        for t in batch.padding:
            assert got.empty[t] and not got.out[t].any()
            assert np.array_equal(got.lse[t], options.get(
                "sinks", np.full(q.shape[1], -np.inf)))


def test_row_subset():
    """Rows 3 and 9 of a prompt of 10 are not its last two rows."""
    rng = np.random.default_rng(9)
    cache = Cache.make(dict(S=2, B=4, N=4, H=1, D=8))
    cases.fill(rng, cache)
    whole = Batch([0, 10], [10], [[2, 0, 3]], 4)
    q = rng.standard_normal((10, 2, 8))
    full = ref.attention(q, [cache], whole, causal=True)
    got = ref.select_rows([q], whole, [3, 9, 0], [2])
    assert got.positions == [3, 9, -1] and got.starts == [0, 2]
    rows = ref.with_rows(whole, got.starts, got.positions)
    some = ref.attention(got.outs[0], [cache], rows, causal=True)
    assert np.array_equal(some.out[:2], full.out[[3, 9]])
    assert some.empty.tolist() == [False, False, True]
    last = ref.attention(got.outs[0], [cache], Batch([0, 2], [10],
                                                     whole.table, 4),
                         causal=True)
    assert not np.allclose(last.out[0], full.out[3])
    assert np.array_equal(last.out[1], full.out[9])


def test_untrusted_batches():
    """Whatever the numbers are, something is there, and all of it finite."""
    rng = np.random.default_rng(10)
    for number in range(60):
        batch = cases.random_batch(rng, requests=4, tokens=4, blocks=9,
                                   longest=20,
                                   positions=[None, "i64"][number % 2])
        cases.hostile_batch(rng, batch, 9)
        given = batch.batch()
        cache = Cache.make(dict(S=2, B=9, N=4, H=1, D=8))
        cache.storage[:] = cases.poison(rng, cache.storage.size, "f32")
        cases.fill(rng, cache, ref.seen_slots(given, batch.rows, cache, True))
        got = ref.attention(rng.standard_normal((batch.rows, 2, 8)), [cache],
                            given, causal=True)
        assert np.isfinite(got.out).all()
        assert len(ref.slot_mapping(given, batch.rows)) == batch.rows
        starts = given.trusted_starts(batch.rows)
        assert starts == sorted(starts) and starts[-1] <= batch.rows


def test_merge_states():
    """Two parts of the keys of a request, which may be empty."""
    rng = np.random.default_rng(11)
    cache = Cache.make(dict(S=2, B=8, N=4, H=2, D=8))
    cases.fill(rng, cache)
    q = rng.standard_normal((3, 4, 8))
    sinks = rng.standard_normal(4)
    table = [[5, 1, 7, 0]]
    for blocks in range(5):
        whole = ref.attention(q, [cache], Batch([0, 3], [16], table, 4),
                              sinks=sinks)
        parts = [
            ref.attention(q, [cache], Batch([0, 3], [4 * blocks], table, 4)),
            ref.attention(q, [cache], Batch([0, 3], [16 - 4 * blocks],
                                            [table[0][blocks:] + [0]], 4),
                          sinks=sinks)]
        for a, b in (parts, reversed(parts)):
            # The output of an empty part is not looked at.
            outs = [np.where(np.isneginf(x.lse)[..., None], np.nan, x.out)
                    for x in (a, b)]
            got = ref.merge_states(outs[0], a.lse, outs[1], b.lse)
            assert np.allclose(got.out, whole.out, 1e-12, 1e-12)
            assert np.allclose(got.lse, whole.lse, 1e-12, 1e-12)
    nothing = np.full((2, 3), -np.inf)
    got = ref.merge_states(np.full((2, 3, 8), np.nan), nothing,
                           np.full((2, 3, 8), np.inf), nothing)
    assert not got.out.any() and np.isneginf(got.lse).all() and got.empty.all()
    # Plus infinity says the same, of any of several.
    some = rng.standard_normal((2, 3, 8)), rng.standard_normal((2, 3))
    nan = np.full((2, 3, 8), np.nan)
    got = ref.merge_states(nan, -nothing, *some, nan, nothing)
    assert np.array_equal(got.out, some[0]) and np.allclose(got.lse, some[1])
    three = [rng.standard_normal(s) for s in [(2, 3, 8), (2, 3)] * 3]
    two = ref.merge_states(*three[:4])
    got, want = ref.merge_states(*three), ref.merge_states(
        two.out, two.lse, *three[4:])
    assert np.allclose(got.out, want.out) and np.allclose(got.lse, want.lse)


def single(q, k, v, scale, block, element_type):
    """One head in f32, block after block, as a kernel may do it."""
    f = np.float32
    m, total, out = f(-np.inf), f(0), np.zeros(v.shape[1], f)
    for i in range(0, len(k), block):
        x = (k[i : i + block] @ q) * f(scale)
        new = max(m, x.max())
        e = np.exp(x - new)
        shrink = np.exp(m - new)
        total = total * shrink + e.sum(dtype=f)
        e = ref.round_to(e, element_type).astype(f)
        out = out * shrink + e @ v[i : i + block]
        m = new
    return out / total, m + np.log(total)


def test_tolerance():
    """An honest kernel passes, and one that drops a key does not."""
    rng = np.random.default_rng(12)
    for element_type, spread in itertools.product(
            ("f32", "f16", "bf16"), (0.3, 1.0, 4.0)):
        n, d = 200, 64
        q, k, v = (ref.round_to(rng.standard_normal(s) * spread, element_type)
                   for s in ((1, 1, d), (n, d), (n, d)))
        cache = Cache.make(dict(S=2, B=13, N=16, D=d), element_type)
        rows = [ref.encode(x, element_type) for x in (k, v)]
        ref.index_copy(cache, rows, range(n))
        batch = Batch([0, 1], [n], [list(range(13))], 16)
        want = ref.attention(q, [cache], batch, weights=element_type)
        out, lse = single(np.float32(q[0, 0]), np.float32(k), np.float32(v),
                          d ** -0.5, 16, element_type)
        rounded = ref.round_to(out, element_type)
        ref.check_attention(want, rounded[None, None], [[lse]], element_type,
                            f"{element_type}, {spread}")
        lost = np.argmax(k @ q[0, 0])
        keep = np.arange(n) != lost
        out, lse = single(np.float32(q[0, 0]), np.float32(k[keep]),
                          np.float32(v[keep]), d ** -0.5, 16, element_type)
        for a, b in ((ref.round_to(out, element_type), None),
                     (rounded, lse), (rounded * np.nan, None)):
            assert fails(AssertionError, ref.check_attention, want,
                         a[None, None], None if b is None else [[b]],
                         element_type)
        relative = want.tolerance(element_type) / np.abs(want.out).max()
        print(f"{element_type}, spread {spread}: tolerance "
              f"{relative.max():.1e} of the largest number")
    empty = ref.attention(np.ones((1, 1, d)), [cache],
                          Batch([0, 1], [0], [[0]], 16))
    tiny = np.full((1, 1, d), 1e-30)
    assert fails(AssertionError, ref.check_attention, empty, tiny, None, "f32")
    assert fails(AssertionError, ref.check_attention, empty, tiny * 0,
                 [[-1e30]], "f32")
    ref.check_attention(empty, tiny * 0, [[-np.inf]], "f32")


for name, test in list(globals().items()):
    if name.startswith("test_"):
        test()
        print(name)
