# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""The reference against other ways to say the same, without the compiler."""

import dataclasses
import itertools

import cases
import ml_dtypes
import numpy as np
import reference as ref
from kvtest import fails
from reference import Batch, Cache


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
    byte = np.arange(1 << 8, dtype=np.uint8)
    raw = {"f32": wide.view(np.float32), "f16": half.view(np.float16),
           "bf16": half, "f8E4M3FN": byte, "f8E5M2": byte.view(np.int8)}
    assert set(raw) == set(ref.STORAGE)
    native = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16,
              "f8E4M3FN": ml_dtypes.float8_e4m3fn,
              "f8E5M2": ml_dtypes.float8_e5m2}
    # The types of ml_dtypes do not saturate.
    largest = {"f8E4M3FN": 448, "f8E5M2": 57344}
    for a, b in itertools.product(raw, raw):
        got = ref.convert(raw[a], a, b)
        with np.errstate(all="ignore"):
            # Through f32 nothing is rounded twice: it holds the other types.
            want = raw[a].view(native[a]).astype(np.float32)
            if b in largest and a != b:
                want = np.clip(want, -largest[b], largest[b])
            want = want.astype(native[b])
        assert ref.same_elements(got, want.view(got.dtype), b), (a, b)
        if a == b:
            assert np.array_equal(ref.bits(got), ref.bits(raw[a])), "NaN"


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

    # The stride of an axis of extent 1 is the compact one, whatever is given.
    one = Cache.make(dict(S=1, B=3, N=1, D=8), strides=dict(S=999, N=77))
    assert one.strides == [24, 8, 8, 1], one.strides

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


def test_facts():
    rng = np.random.default_rng(13)
    for case in random_caches(rng, 100, blocks=2):
        type_, cache = case.type, case.cache
        assert type_.holds(cache), type_
        axes = {a: n or 2 for a, n in type_.axes.items()}
        steps = dict(zip(cache.axes, cache.strides))
        exact = dataclasses.replace(type_, axes=axes, facts=steps)
        assert exact.holds(cache), exact
        for axis, extent in axes.items():
            wrong = {**steps, axis: steps[axis] * 2}
            assert dataclasses.replace(exact, facts=wrong).holds(cache) == (
                extent == 1)
            assert not dataclasses.replace(
                exact, axes={**axes, axis: extent + 1}).holds(cache)
        if len(set(type_.facts) - {a for a in axes if axes[a] == 1}):
            assert not dataclasses.replace(type_, facts={}).holds(cache)
        address = cache.array.__array_interface__["data"][0]
        least = address & -address
        assert dataclasses.replace(type_, align=least).holds(cache)
        assert not dataclasses.replace(type_, align=2 * least).holds(cache)


def test_bytes():
    raw = np.zeros(4096, np.uint8)
    raw = raw[-raw.__array_interface__["data"][0] % 64 :][:1024]
    extents = dict(B=3, N=4, D=8)
    cache = Cache.of_bytes(raw, extents, "f16", offset=48, strides={"B": 40})
    assert cache.strides == [40, 8, 1]
    cache.put(np.ones(cache.array.shape))
    one = np.float16(1).view(np.uint16)
    assert np.flatnonzero(raw[48:].view(np.uint16) == one).tolist() == [
        b * 40 + i for b in range(3) for i in range(32)]
    # The last byte: 48 + 2 * (2 * 40 + 32) = 272.
    Cache.of_bytes(raw[:272], extents, "f16", offset=48, strides={"B": 40})
    for size, offset, stride in ((271, 48, 40), (272, 64, 40), (272, -16, 40),
                                 (272, 40, 40), (272, 48, 31)):
        assert fails(ref.CallFails, lambda: Cache.of_bytes(
            raw[:size], extents, "f16", offset=offset, strides={"B": stride}))


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

    ref.clear_blocks(cache, [3, -1, 5, 0, 3, 2**40])
    cleared = np.moveaxis(cache.get(), b, 0)
    for now, is_kept in enumerate([0, 1, 1, 0, 1]):
        assert np.array_equal(cleared[now], after[now] * is_kept)

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
    expected[10] = source[4]  # one token of chunk 2 to chunk 5
    expected[11] = 0
    ref.transfer(wide, fine, [[5, 3, 0, 2], [0, 8, 1, 2**62], [8, 1, 0, 2],
                              [2, 5, 0, 1], [-1, 1, 0, 2], [0, 9, 0, 2],
                              [1, 0, 0, -5]], True)
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
    # Three requests: two blocks, none, and more than the table has columns for.
    table, lengths = ref.csr_table([0, 2, 2, 5], [7, 3, 9, 8, 6], 2,
                                   [1, 4, 2], 4)
    assert table == [[7, 3], [-1, -1], [9, 8]] and lengths == [5, 0, 10]
    assert ref.csr_table([-1, 9, 1], [7, 3], 3)[0] == [[7, 3, -1], [-1] * 3]
    assert ref.csr_table([0, 2], [7, 3], 1, [1], 2**31)[1] == [0]
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


# --- Computed rows ------------------------------------------------------------


def test_rotate():
    """Against complex numbers, in float64."""
    rng = np.random.default_rng(8)
    for number in range(40):
        count, heads = int(rng.integers(1, 6)), int(rng.integers(1, 4))
        channels = int(rng.choice([2, 5, 8, 64]))
        turned = 2 * int(rng.integers(1, channels // 2 + 1))
        shape = [count, heads, channels] if number % 3 else [count, channels]
        x = rng.standard_normal(shape).astype(np.float32)
        angles = rng.uniform(-9, 9, (7, turned // 2))
        table = np.concatenate([np.cos(angles), np.sin(angles)],
                               1).astype(np.float32)
        where = rng.integers(-2, 9, count)
        near = bool(number % 2)
        first = slice(0, turned, 2) if near else slice(0, turned // 2)
        second = slice(1, turned, 2) if near else slice(turned // 2, turned)
        want = x.astype(np.float64)
        for t, p in enumerate(where):
            if 0 <= p < 7:
                z = want[t][..., first] + 1j * want[t][..., second]
                z = z * np.exp(1j * angles[p])
                want[t][..., first], want[t][..., second] = z.real, z.imag
        got = ref.rotate(x, table, where, interleaved=near)
        assert np.allclose(got, want, rtol=1e-6, atol=1e-6)
        still = (where < 0) | (where >= 7)
        assert np.array_equal(got[still], x[still])
        assert np.array_equal(got[..., turned:], x[..., turned:])
        # Rows are at their own numbers without positions.
        known = min(count, 7)
        assert np.array_equal(
            ref.rotate(x[:known], table, interleaved=near),
            ref.rotate(x[:known], table, np.arange(known), interleaved=near))
        # The other pairs are the same channels in another sequence.
        mixed = np.arange(channels)
        mixed[:turned] = mixed[:turned].reshape(2, -1).T.ravel()
        assert np.array_equal(ref.rotate(x, table, where)[..., mixed],
                              ref.rotate(x[..., mixed], table, where,
                                         interleaved=True))
    # Products are rounded before the sum: 2^-24 is lost.
    x = np.float32([[1 + 2.0**-12, 1 + 2.0**-11]])
    table = np.float32([[1 + 2.0**-12, 1]])
    assert ref.rotate(x, table)[0, 0] == 0
    # The result is rounded once, and saturates.
    x = np.float32([[448, 448]])
    got = ref.rotate(x, np.float32([[1, 1]]), element_type="f8E4M3FN")
    assert ref.decode(got, "f8E4M3FN").tolist() == [[0, 448]]


def test_normalize():
    """Sums in f32, in several sequences, are within the bounds, and what is
    wrong by one channel of many is not."""
    rng = np.random.default_rng(9)
    by_hand = ref.normalize([[3.0, 4.0], [0, 0]], [1.0, -1.0], epsilon=0.5,
                            plus_one=True)
    root = np.sqrt(13.0)
    assert np.allclose(by_hand.out, [[6 / root, 0], [0, 0]])
    for number in range(60):
        channels = int(rng.choice([1, 2, 64, 128, 576, 1100]))
        x = rng.standard_normal((5, channels)) * 2.0 ** rng.integers(-9, 9)
        x = x.astype(np.float32)
        weight = (rng.standard_normal(channels).astype(np.float32)
                  if number % 2 else None)
        plus_one = bool(number % 4 == 1)
        want = ref.normalize(x, weight, epsilon=1e-5, plus_one=plus_one)
        squares = x * x
        sums = [squares.sum(1), np.cumsum(squares, 1)[:, -1],
                np.sort(squares, 1).sum(1),
                np.add.reduceat(squares, range(0, channels, 32), 1).sum(1)]
        for total in sums:
            root = np.sqrt(total / np.float32(channels) + np.float32(1e-5))
            got = x * (np.float32(1) / root)[:, None]
            if weight is not None:
                got = got * (weight + np.float32(plus_one))
            assert got.dtype == np.float32
            for element_type in ref.STORAGE:
                rounded = ref.decode(ref.encode(got, element_type),
                                     element_type)
                want.check(rounded, element_type)
        lost = np.array(x)
        lost[:, np.abs(x[0]).argmax()] = 0
        wrong = ref.normalize(lost, weight, epsilon=1e-5, plus_one=plus_one)
        if channels > 1:
            assert fails(AssertionError, want.check, wrong.out, "f32")
    # Squares that are infinite, and a root of nothing.
    assert not ref.normalize([[3e38, 1.0]], epsilon=1).out.any()
    assert np.isnan(ref.normalize([[0.0, 0.0]], epsilon=0).out).all()
    odd = ref.normalize([[np.inf, 1.0], [np.nan, 1.0]], epsilon=1).out
    assert np.array_equal(odd, [[np.nan, 0], [np.nan, np.nan]], True)


for name, test in list(globals().items()):
    if name.startswith("test_"):
        test()
        print(name)
