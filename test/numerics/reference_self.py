# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""The reference against other ways to say the same, without the compiler."""

import itertools

import cases
import ml_dtypes
import numpy as np
import reference as ref
from reference import Batch, Cache


def fails(error, function, *args):
    try:
        function(*args)
    except error:
        return True
    return False


# --- Elements -----------------------------------------------------------------


def test_conversions():
    rng = np.random.default_rng(1)
    half = np.arange(1 << 16, dtype=np.uint16)
    wide = np.concatenate([
        rng.integers(0, 1 << 32, 200_000, dtype=np.uint32),
        # Around each bf16 and each tie between two of them.
        (half.astype(np.uint32)[:, None] << 16 | np.uint32(
            [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])).ravel(),
        np.float32([0, -0.0, 65504, 65519.99, 65520, 3.4e38, 1e-45, 6e-8,
                    2.0**-25, 2.0**-24, np.inf, -np.inf, np.nan]).view(
                        np.uint32)])
    raw = {"f32": wide.view(np.float32), "f16": half.view(np.float16),
           "bf16": half}
    native = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}
    for a, b in itertools.product(raw, raw):
        got = ref.convert(raw[a], a, b)
        with np.errstate(all="ignore"):
            # Through f32 nothing is rounded twice: it holds the other types.
            want = raw[a].view(native[a]).astype(np.float32).astype(native[b])
        assert ref.same_elements(got, want.view(got.dtype), b), (a, b)
        if a == b:
            assert np.array_equal(ref.bits(got), ref.bits(raw[a])), "NaN changed"


# --- Layouts ------------------------------------------------------------------


def all_elements(cache):
    for index in itertools.product(*map(range, cache.array.shape)):
        yield index, cache.offset + sum(
            i * s for i, s in zip(index, cache.strides))


def random_caches(rng, count, **sizes):
    for _ in range(count):
        yield cases.random_cache(
            rng, str(rng.choice(["f32", "f16", "bf16"])),
            layers=int(rng.choice([0, 2])) or None,
            sides=[None, 1, 2][rng.integers(3)],
            heads=[None, 1, 3][rng.integers(3)],
            **{**dict(blocks=3, tokens=4, channels=8), **sizes})


def test_offsets():
    """Order and strides, element by element."""
    # 2 layers, 3 blocks, 4 tokens, 2 heads, 8 channels, by hand.
    extents = dict(L=2, S=2, B=3, N=4, H=2, D=8)
    by_hand = {"nhd": None, "cross_layer_nhd": [128, 64, 256, 16, 8, 1],
               "cross_layer_hnd": [64, 32, 256, 8, 128, 1],
               "LBHNC": [384, 8, 128, 16, 64, 1],
               "LBNHC": [384, 8, 128, 32, 16, 1],
               "LHBNC": [384, 8, 64, 16, 192, 1],
               "BLHNC": [128, 8, 256, 16, 64, 1],
               "BLNHC": [128, 8, 256, 32, 16, 1],
               "BHLNC": [64, 8, 256, 16, 128, 1]}
    for name, strides in by_hand.items():
        if strides:
            assert Cache.make(extents, order=name).strides == strides, name
    keys = Cache.make({"B": 3, "N": 4, "H": 2, "D.o": 2, "D.i": 8},
                      order="x_packed_key")
    assert keys.strides == [128, 8, 64, 32, 1], keys.strides

    rng = np.random.default_rng(2)
    for case in random_caches(rng, 200):
        cache = case.cache
        offsets, seen = cache.offsets(), set()
        for index, offset in all_elements(cache):
            assert offsets[index] == offset and offset not in seen
            seen.add(offset)
            assert (ref.bits(cache.storage)[offset]
                    == ref.bits(cache.array[index]))
        # The order: of two axes the slower one has the larger stride.
        steps = dict(zip(cache.axes, cache.strides))
        real = [a for a in case.type.order
                if cache.array.shape[cache.axes.index(a)] > 1]
        assert all(steps[a] > steps[b] for a, b in zip(real, real[1:]))
        # What the type says of strides is so.
        for axis, (stride, divisor) in case.type.strides().items():
            if axis in real:
                assert stride in (None, steps[axis]), (case.type, axis)
                assert steps[axis] % divisor == 0, (case.type, axis)


def test_views():
    rng = np.random.default_rng(3)
    for case in random_caches(rng, 100):
        cache = case.cache
        cases.fill(rng, cache)
        whole, letters = cache.get(), cache.letters

        def same(view, want):
            assert np.array_equal(ref.bits(view.get()), ref.bits(want))
            for index, offset in all_elements(view):
                assert (ref.bits(view.storage)[offset]
                        == ref.bits(view.array[index]))

        def taken(letter, index):
            return whole[tuple(index if x == letter else slice(None)
                               for x in letters)]

        same(cache, whole)
        if "L" in letters:
            same(cache.layer(1), taken("L", 1))
            assert fails(ref.CallFails, cache.layer, 2)
            assert fails(ref.CallFails, cache.layer, -1)
        if "S" in letters:
            same(cache.side(0), taken("S", 0))
        same(cache.subpool(1, 2), taken("B", slice(1, 3)))
        assert fails(ref.CallFails, cache.subpool, 2, 2)
        if "H" in cache.axes and cache.extent("H") == 3:
            same(cache.heads(1, 2), taken("H", slice(1, 3)))
        # Another block size keeps the numbers of slots.
        finer = {}
        for axis, extent in zip(cache.axes, cache.array.shape):
            finer[axis] = {"B": extent * 2, "N": extent // 2}.get(axis, extent)
        steps = dict(zip(cache.axes, cache.strides))
        flat = steps["B"] == 4 * steps["N"]
        assert fails(ref.NotAView, cache.reshape, finer) == (not flat)
        if flat:
            same(cache.reshape(finer), whole.reshape(
                cache.reshape(finer).logical_shape))
        view = cache.layer(1) if "L" in letters else cache
        view = view.side(0) if "S" in letters else view
        if flat:
            rows = view.flatten()
            want = view.get().reshape(12, *view.row_shape)
            assert np.array_equal(ref.bits(np.array(rows).reshape(want.shape)),
                                  ref.bits(want))
            assert np.shares_memory(rows, cache.storage)
        else:
            assert fails(ref.NotAView, view.flatten)


# --- Moves --------------------------------------------------------------------


def test_relayout():
    rng = np.random.default_rng(4)
    for case in random_caches(rng, 60):
        source = case.cache
        cases.fill(rng, source)
        extents = {x: source.extent(x) for x in source.letters}
        order = tuple(rng.permutation(list(extents)).tolist())
        there = cases.make_cache(rng, extents, source.element_type, order,
                                 "all_strides").cache
        back = case.expected()[0]
        back.put(np.zeros_like(back.array))
        ref.relayout(source, there)
        ref.relayout(there, back)
        assert np.array_equal(ref.bits(back.storage), ref.bits(source.storage))
        # To f32 and back nothing is lost.
        single = cases.make_cache(rng, extents, "f32", order).cache
        back.put(np.zeros_like(back.array))
        ref.relayout(source, single)
        ref.relayout(single, back)
        assert np.array_equal(ref.bits(back.storage), ref.bits(source.storage))
        # Of fewer blocks, these; the others are left alone.
        extents["B"] += 2
        more = cases.make_cache(rng, extents, source.element_type).cache
        before = more.get()
        ref.relayout(source, more)
        b = more.letters.index("B")
        after = np.moveaxis(more.get(), b, 0)
        assert np.array_equal(ref.bits(after[:3]),
                              ref.bits(np.moveaxis(source.get(), b, 0)))
        assert np.array_equal(ref.bits(after[3:]),
                              ref.bits(np.moveaxis(before, b, 0)[3:]))


def test_round_trip():
    """slot_mapping, index_copy, gather; scatter does the same."""
    rng = np.random.default_rng(5)
    for number in range(60):
        batch = cases.random_batch(rng, requests=number % 5, tokens=4, blocks=9,
                                   longest=20, kind=cases.BATCHES[number % 4])
        case = cases.random_cache(rng, blocks=9, tokens=4, heads=2, channels=8)
        cache = case.view
        slots = ref.slot_mapping(batch.batch(), batch.rows)
        rows = [cases.random_elements(rng, (batch.rows, 2, 8), "f32")
                for _ in range(2)]
        live = [t for t, s in enumerate(slots) if s >= 0]
        assert len(live) == batch.rows - len(batch.padding)
        assert len({slots[t] for t in live}) == len(live)
        other, view = case.expected()
        ref.index_copy(cache, rows, slots, "skip_negative")
        divided = np.array(slots, np.int64).reshape(-1)
        ref.scatter(view, rows, divided // 4, divided % 4)
        assert np.array_equal(ref.bits(other.storage),
                              ref.bits(case.cache.storage))
        got = [np.full_like(r, 7) for r in rows]
        ref.gather(cache, slots, got)
        for a, b in zip(got, rows):
            assert np.array_equal(a[live], b[live])
            assert (a[batch.padding] == 7).all()
        ref.gather(cache, slots, got, zero=True)
        assert not got[0][batch.padding].any()
        # A slot of a row holds the token of its position.
        for t, row in enumerate(batch.batch().rows(batch.rows)):
            if row:
                r, p = row
                block = batch.table.array[r, p // 4]
                assert np.array_equal(cache.get_token(1, block, p % 4),
                                      rows[1][t])


def test_untrusted_slots():
    rng = np.random.default_rng(6)
    case = cases.random_cache(rng, blocks=3, tokens=4)
    expected, _ = case.expected()
    rows = [np.zeros((6, 2, 8), np.float32)] * 2
    ref.index_copy(case.view, rows,
                   [-1, 12, 2**63 - 1, -(2**63), 2**32, -(2**32)])
    ref.scatter(case.view, rows, [0, 0, -1, 3, 2**32, 1],
                [-1, 4, 1, 0, 0, 2**40])
    case.check(expected, "untrusted")
    assert not ref.allowed([12], "skip_negative", 12)
    assert ref.allowed([12, -1], "skip_out_of_range", 12)
    assert not ref.allowed([-1], "sink(0)", 12)
    two = np.stack([np.zeros((2, 8)), np.ones((2, 8))]).astype(np.float32)
    ref.index_copy(case.view, [two, two], [5, 5])
    assert (case.view.get_token(0, 1, 1) == 1).all(), "the last row stays"


def test_blocks():
    rng = np.random.default_rng(7)
    case = cases.random_cache(rng, blocks=5, tokens=4, layers=2)
    cache = case.cache
    cases.fill(rng, cache)
    b = cache.letters.index("B")
    before = np.moveaxis(cache.get(), b, 0)
    ref.copy_blocks(cache, [[0, 1], [1, 2], [-1, 3], [4, 5], [2**40, 0]])
    after = np.moveaxis(cache.get(), b, 0)
    for now, then in enumerate([0, 0, 0, 3, 4]):
        assert np.array_equal(after[now], before[then])

    # A pool of blocks of 8 and one of 2: chunks of 2 tokens.
    wide = cases.random_cache(rng, blocks=2, tokens=8).cache
    fine = cases.random_cache(rng, blocks=9, tokens=2).cache
    for cache in wide, fine:
        cases.fill(rng, cache)

    def tokens(cache):
        values = np.moveaxis(cache.get(), [1, 2], [0, 1])
        return values.reshape(-1, *values.shape[2:])

    source, before = tokens(wide), tokens(fine)
    expected = before.copy()
    expected[6:8] = source[10:12]  # chunk 5 to chunk 3
    expected[16] = 0
    expected[17] = source[1]  # the second token of chunk 0 to chunk 8
    expected[0:2] = 0  # a count that is negative
    ref.transfer(wide, fine, [[5, 3, 0, 2], [0, 8, 1, 2**62], [8, 1, 0, 2],
                              [-1, 1, 0, 2], [0, 9, 0, 2], [1, 0, 0, -5]], True)
    assert np.array_equal(tokens(fine), expected)
    ref.transfer(fine, wide, [[3, 5], [3, 0]])
    expected_wide = source.copy()
    expected_wide[0:2] = source[10:12]
    assert np.array_equal(tokens(wide), expected_wide)


# --- Batches ------------------------------------------------------------------


def test_index_operations():
    assert ref.map_blocks([3, -1, 0, -9], 2).tolist() == [
        6, 7, -1, -1, 0, 1, -1, -1]
    assert ref.map_blocks([[1], [-1]], 3).tolist() == [[3, 4, 5], [-1] * 3]
    assert ref.block_slots([2, -1], 4).tolist() == [8, 9, 10, 11] + [-1] * 4
    table = np.array([[7, 3, -1], [2, -1, 5]])
    batch = Batch([0, 3, 6], [6, 12], table, 4)
    # The last tokens: 3, 4, 5 of request 0, and 9, 10, 11 of request 1.
    assert ref.slot_mapping(batch, 8) == [31, 12, 13, 21, 22, 23, -1, -1]
    assert ref.slot_mapping(batch, 8, sink=9)[6:] == [38, 39]
    batch.positions = [0, 5, 6, -1, 4, 12, 0, 0]
    assert ref.slot_mapping(batch, 8) == [28, 13, -1, -1, -1, -1, -1, -1]
    # Numbers that nobody trusts.
    wild = Batch([-5, 4, 2, 99], [-3, 2**40, 3], np.zeros((3, 2)), 4)
    assert wild.trusted_starts(6) == [0, 4, 4, 6]
    assert [wild.length(r) for r in range(3)] == [0, 8, 3]
    # More query rows than tokens: the first ones are at negative positions.
    assert [p for _, p in wild.rows(6)] == [-4, -3, -2, -1, 1, 2]


def test_select_rows():
    """The published vector, and the padding that broke it."""
    table = np.arange(9).reshape(3, 3)
    batch = Batch([0, 15, 20, 28], [41, 31, 40], table, 16)
    rows = np.arange(28 * 2).reshape(28, 2)
    for indices in ([14, 18, 19, 27], [14, 18, 19, 27, 27, 27],
                    [14, 18, 19, 27, -1, 10**9]):
        got = ref.select_rows([rows], batch, indices, [4])
        assert not got.fails and got.starts == [0, 1, 3, 4]
        assert np.diff(got.starts).tolist() == [1, 2, 1]
        assert got.positions == [40, 29, 30, 39] + [-1] * (len(indices) - 4)
        assert np.array_equal(got.outs[0][:4], rows[[14, 18, 19, 27]])
        assert not got.outs[0][4:].any()
        then = ref.with_rows(batch, got.starts, got.positions)
        assert then.rows(len(indices))[:5] == [
            (0, 40), (1, 29), (1, 30), (2, 39), None][: len(indices)]
    # Padding that counts shifts row 27.
    assert ref.select_rows([rows], batch, [14, 18, 19, 27, 27, 27],
                           [6]).starts == [0, 1, 3, 6]
    for indices, valid in (([3, 2], 2), ([0, 28], 2), ([-1, 3], 2)):
        wrong = ref.select_rows([rows], batch, indices, [valid])
        assert wrong.fails and wrong.starts == [0, 0, 0, 0]
    assert ref.select_rows([rows], batch, [3, 2], [1]).starts == [0, 1, 1, 1]
    assert ref.select_rows([rows], batch, [3, 3], [9]).starts == [0, 2, 2, 2]
    assert ref.select_rows([rows], batch, [3, 2], [-1]).starts == [0] * 4


# --- Attention ----------------------------------------------------------------


def textbook(q, k, v, p, options, sinks, alibi):
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
    x[hidden] = -np.inf
    if sinks is not None:
        x = np.append(x, sinks)
        v = np.concatenate([v, np.zeros((1, v.shape[1]))])
    total = np.exp(x).sum()
    if total == 0:
        return np.zeros(v.shape[1]), -np.inf
    return (np.exp(x) / total) @ v, np.log(total)


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
        seen = ref.seen_slots(batch.batch(), batch.rows, caches[0].view,
                              options["causal"], options.get("window"))
        for case in caches:
            cases.fill(rng, case.view, seen)
        yield batch, caches, query, options, channels


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
                for h in range(q.shape[1]):
                    g = h // (q.shape[1] // k.shape[1])
                    out, lse = textbook(
                        q[t, h], k[:, g], v[:, g], p, options,
                        options["sinks"][h] if "sinks" in options else None,
                        options["alibi"][h] if "alibi" in options else 0.0)
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
