# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""The bounds of docs/accuracy.md hold for random rows and for rows whose errors
add up, and are not much larger than the largest errors of those; and compiled
code loses what the reference says."""

import numpy as np
import ref_accuracy as ref
import ref_scaled
from kvtest import Guarded, Tensor, compile_library
from ref_attention import attention, check_attention
from ref_batch import Batch
from ref_cache import Cache
from ref_elements import ELEMENTS, bits
from scaled_cases import Pair

SEEDS = range(5)
# How many times larger than the largest error of a test a bound may be.
ELEMENT, SCORE, OUTPUT = 1.05, 1.25, 1.25
# Sums of float64, beside the errors of formats.
SLACK = 2.0**-44


class Worst:
    """The largest share of its bound that an error has."""

    def __init__(self, what):
        self.what, self.share = what, 0.0

    def add(self, error, bound, slack=0.0):
        over = np.abs(error) > bound * (1 + 2.0**-40) + slack
        assert not over.any(), (
            f"{self.what}: {np.count_nonzero(over)} errors are larger than the "
            f"bound, one is {np.abs(error)[over][0]:.6g}")
        some = bound > 0
        self.share = max(self.share, np.max(np.abs(error)[some] / bound[some],
                                            initial=0.0))

    def check(self, factor):
        assert self.share * factor >= 1, (
            f"{self.what}: the bound is {1 / self.share:.2f} times the largest "
            f"error, at most {factor} are allowed")
        return f"{self.share:.2f}"


# --- Rows whose errors add up -------------------------------------------------


def aligned(rng, one, direction, sign=None):
    """Rows next to a tie, whose elements become larger or smaller as `direction`
    says, +1 or -1, and have the sign that is wanted."""
    shape = direction.shape
    if sign is None:
        sign = rng.choice([-1.0, 1.0], shape)
    away = np.where(sign * direction > 0, 1, -1) * 2.0**-10  # of a tie
    if one.form == "i8":
        y = rng.integers(0, 100, shape) + 0.5 * (1 + away)
    else:
        # Behind a power of two, steps are largest.
        y = np.exp2(rng.integers(-1, 2, shape)) * (1 + one.relative * (1 + away))
    y = y * sign
    if one.scaled:
        # The first channel is the largest one. Its scale is exact.
        y[..., 0] = ref_scaled.LARGEST[one.form]
        y *= np.exp2(rng.integers(-3, 4, (*shape[:-1], 1))
                     - np.floor(np.log2(y[..., :1])))
    return y


def test_elements(one):
    """Numbers of all sizes; with scales, in half of the rows of one size."""
    everywhere, near_zero = (Worst(f"{one.name}: elements{what}")
                             for what in ("", " near zero"))
    element = ELEMENTS.get(one.form)
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        low, high = -30, 20
        if not one.scaled:
            low = element.least - element.precision - 2
            high = np.log2(element.largest) - 1e-6
        x = np.exp2(rng.uniform(low, high, (500, 4, 32)))
        x *= rng.choice([-1.0, 1.0], x.shape)
        if one.scaled:  # what the arithmetic starts from
            x[::2] = x[::2, ..., :1] * rng.uniform(-1, 1, x[::2].shape)
            x[0], x[1, :, 1:] = 0, 0
            x = np.float64(np.float32(x))
        error, bound = ref.store(x, one) - x, ref.element_bound(x, one)
        everywhere.add(error, bound)
        small = one.relative * np.abs(x) <= ref.near_zero(x, one)
        near_zero.add(error[small], bound[small])
        x = aligned(rng, one, rng.choice([-1.0, 1.0], x.shape))
        everywhere.add(ref.store(x, one) - x, ref.element_bound(x, one))
    return everywhere.check(ELEMENT), near_zero.check(ELEMENT)


def test_scores(one, channels=128):
    worst, ratios = Worst(f"{one.name}: scores"), []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        for kind in ref.KEYS:
            query, keys, _ = ref.rows(rng, kind, 4, 200, 2, channels)
            error = ref.scores(query, ref.store(keys, one) - keys)
            worst.add(error, ref.score_bound(query, keys, one))
            typical = ref.score_typical(query, keys, one)
            ratios.append(np.sqrt(np.mean(error**2) / np.mean(typical**2)))
        query = rng.standard_normal((1, 2, channels))
        side = rng.choice([-1.0, 1.0], (50, 1, 1))
        if one.scaled:
            query[..., 0] = 0
        keys = aligned(rng, one, side * np.sign(query + (query == 0)))
        worst.add(ref.scores(query, ref.store(keys, one) - keys),
                  ref.score_bound(query, keys, one))
    assert 0.8 < min(ratios) and max(ratios) < 1.25, (one.name, ratios)
    return worst.check(SCORE), f"{min(ratios):.2f} to {max(ratios):.2f}"


def test_weights():
    """Errors of scores, and of values, of any size: no format has a part in it."""
    worst, random = (Worst(f"weights{what}") for what in ("", " of random scores"))

    def check(score, error, values, value_error, into):
        """Errors that raise the first channel."""
        away = ref.softmax(score)[..., None] * values
        rises = values[..., 0] > away.sum(axis=0)[..., 0]
        changed = ref.softmax(score + np.where(rises, error, -error))
        out = np.einsum("jh,jhd->hd", changed, values + value_error)
        bound = ref.output_bound(score, error, values, value_error)
        into.add((out - away.sum(axis=0))[:, 0], bound[:, 0], SLACK)

    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        for size in 0.01, 0.1, 0.5, 1.0, 2.0, 5.0:
            for keys in 2, 3, 20:
                shape = keys, 50
                check(4 * rng.standard_normal(shape),
                      size * rng.uniform(0, 1, shape),
                      rng.standard_normal((*shape, 2)),
                      size * rng.uniform(0, 0.1, (*shape, 2)), random)
            # Two keys whose weights are exchanged.
            check(np.array([[-size], [0]]), np.full((2, 1), size),
                  np.array([[[1.0]], [[-1.0]]]), np.full((2, 1, 1), 0.1), worst)
    # That is the worst that can happen, for small errors and for large ones.
    for size in 0.5, 1.0, 2.0, 5.0:
        one = Worst(f"weights, errors of {size}")
        check(np.array([[-size], [0]]), np.full((2, 1), size),
              np.array([[[1.0]], [[-1.0]]]), np.zeros((2, 1, 1)), one)
        one.check(1.001)
    return worst.check(OUTPUT), f"{random.share:.2f}"


def test_outputs(one):
    worst, random = (Worst(f"{one.name}: outputs{what}")
                     for what in ("", " of random rows"))
    ratios = []

    def check(query, keys, values, into):
        """Errors, and what is typical for them."""
        stored = [ref.store(x, one) for x in (keys, values)]
        error = ref.attention(query, *stored) - ref.attention(query, keys, values)
        score = ref.scores(query, keys)
        bound = ref.score_bound(query, keys, one)
        for t in range(len(query)):
            into.add(error[t], ref.output_bound(
                score[t], bound[t], values, ref.element_bound(values, one)),
                SLACK)
        return error, [ref.output_typical(*each, values,
                                          ref.element_typical(values, one))
                       for each in zip(score, ref.score_typical(query, keys, one))]

    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        for kind in ref.KEYS:
            check(*ref.rows(rng, kind, 4, 2, 4, 4), random)
            error, typical = check(*ref.rows(rng, kind, 4, 300, 4, 64), random)
            # One key may have all the weight of a row over outliers.
            if kind not in ("outliers", "balanced"):
                ratios.append(np.sqrt(np.mean(error**2)
                                      / np.mean(np.square(typical))))
        # Half of the keys gain weight; their values are positive, and grow.
        for channels in 4, 32:
            query = rng.standard_normal((1, 4, channels)) / 4
            side = np.where(np.arange(64) % 2, 1.0, -1.0)[:, None, None]
            if one.scaled:
                query[..., 0] = 0
            shape = 64, 4, channels
            keys = aligned(rng, one, np.broadcast_to(
                side * np.sign(query + (query == 0)), shape))
            values = aligned(rng, one, np.ones(shape),
                             np.broadcast_to(side, shape))
            check(query, keys, values, worst)
    assert 0.75 < min(ratios) and max(ratios) < 1.35, (one.name, ratios)
    return (worst.check(OUTPUT), f"{random.share:.2f}",
            f"({min(ratios):.2f} to {max(ratios):.2f})")


# --- Compiled code ------------------------------------------------------------

TOKENS, HEADS, CHANNELS, PER_BLOCK = 160, 8, 128, 16
TABLE = f"!kvcache.block_table<?R x ?M x i32, tokens = {PER_BLOCK}>"
BATCH = f"!kvcache.batch<?R x ?M x i32, tokens = {PER_BLOCK}>"
SLOTS = f"!kvcache.slots<?T x i64, rows_per_block = {PER_BLOCK}, pad = none>"
ROWS = f"memref<?x{HEADS}x{CHANNELS}xf32>"


def function(number, one):
    element = one.form
    if one.scaled:
        element = f"!kvcache.scaled<{one.form} x f32, per = [S, B, N, H]>"
    cache = (f"!kvcache.cache<2S x ?B x {PER_BLOCK}N x {HEADS}H x {CHANNELS}D"
             f" x {element}>")
    return f"""
func.func @write{number}(%pool: {cache}, %key: {ROWS}, %value: {ROWS},
                         %list: memref<?xi64>) {{
  %slots = kvcache.make_slots %list : memref<?xi64> to {SLOTS}
  kvcache.index_copy %key, %value into %pool at %slots
    : {ROWS}, {ROWS} into {cache} at {SLOTS}
  return
}}
func.func @read{number}(%pool: {cache}, %query: {ROWS}, %starts: memref<?xi32>,
                        %lengths: memref<?xi32>, %blocks: memref<?x?xi32>,
                        %out: {ROWS}) {{
  %table = kvcache.make_block_table %blocks : memref<?x?xi32> to {TABLE}
  %batch = kvcache.make_batch %starts, %lengths, %table
    : memref<?xi32>, memref<?xi32>, {TABLE}
  kvcache.attention %query over %pool in %batch into %out
    : {ROWS} over {cache} in {BATCH} into {ROWS}
  return
}}
"""


def empty_cache(one):
    extents = dict(S=2, B=TOKENS // PER_BLOCK, N=PER_BLOCK, H=HEADS, D=CHANNELS)
    if not one.scaled:
        return Cache.make(extents, one.form)
    return Pair(Cache.make(extents, "f8E4M3FN"),
                Cache.make(extents | {"D": 1}, "f32"), one.form)


def relative(error, reference):
    return np.sqrt(np.sum(error**2) / np.sum(reference**2))


def test_compiled(library, number, one, kind):
    """Bits in the pool, and the output: its error is the one of the format."""
    rng = np.random.default_rng(number)
    query, keys, values = (np.float64(np.float32(x)) for x in ref.rows(
        rng, kind, 3, TOKENS, HEADS, CHANNELS))
    slots = rng.permutation(TOKENS)
    want, got = empty_cache(one), empty_cache(one)
    ref_scaled.index_copy(
        want, (np.float32(keys), np.float32(values)), slots) if one.scaled else [
            ref_scaled.write(want, side, *divmod(int(slot), PER_BLOCK), row[t])
            for side, row in enumerate((keys, values))
            for t, slot in enumerate(slots)]

    pool = [Tensor(*array) for array in got.arguments()]
    rows = [Tensor(np.float32(x).ravel(), "f32", x.shape) for x in (keys, values)]
    library.run(f"write{number}", *pool, *rows,
                Tensor(slots.astype(np.int64), "i64", [TOKENS]))
    for a, b in zip(got.arguments(), want.arguments()):
        assert np.array_equal(bits(a.storage), bits(b.storage)), (one.name, kind)
    # The reference that the page is about stores the same.
    stored = [ref.store(x, one) for x in (keys, values)]
    for side, numbers in enumerate(stored):
        seen = got.side(side).numbers().reshape(TOKENS, HEADS, CHANNELS)
        assert np.array_equal(seen[slots], numbers), (one.name, kind)

    # Keys in another sequence are the same keys.
    out = Guarded(np.full(query.size, np.nan, np.float32))
    batch = Batch([0, len(query)], [TOKENS],
                  [list(range(TOKENS // PER_BLOCK))], PER_BLOCK)
    library.run(
        f"read{number}", *pool,
        Tensor(np.float32(query).ravel(), "f32", query.shape),
        *(Tensor(np.int32(x).ravel(), "i32", np.shape(x))
          for x in (batch.starts, batch.lengths, batch.table)),
        Tensor(out.inside, "f32", query.shape))
    out.check(one.name)
    result = np.float64(out.inside).reshape(query.shape)
    check_attention(attention(query, [want], batch), result, None, "f32",
                    f"{one.name}, {kind}")
    exact = ref.attention(query, keys, values)
    error = relative(ref.attention(query, *stored) - exact, exact)
    compiled = relative(result - exact, exact)
    # The arithmetic of f32 adds what it adds for contents of f32.
    assert abs(compiled - error) <= 0.001 * error + 2e-6, (
        one.name, kind, compiled, error)
    return compiled


def main():
    print("the largest share of its bound that an error has, and typical scores")
    print("weights: " + " ".join(test_weights()))
    for name, one in ref.FORMATS.items():
        elements = ", ".join(test_elements(one))
        score, ratios = test_scores(one)
        outputs = " ".join(test_outputs(one))
        print(f"{name}: elements {elements}, scores {score} ({ratios}), "
              f"outputs {outputs}")
    library = compile_library("".join(
        function(i, one) for i, one in enumerate(ref.FORMATS.values())))
    for number, (name, one) in enumerate(ref.FORMATS.items()):
        errors = [test_compiled(library, number, one, kind) for kind in ref.KEYS]
        print(f"{name}, compiled: " + ", ".join(f"{e:.3g}" for e in errors))


if __name__ == "__main__":
    main()
