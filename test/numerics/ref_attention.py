# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Attention and merges in float64, with bounds for what f32 may make of them.

The bounds follow the formula of the specification. In f32 they take the worst
case: a dot product of D products is given D + 8 roundings, a sum over J keys
J + 16, and each function a few. `weights` is the element type that a kernel
rounds the weights of the keys to before it multiplies them with values. The
worst case of that would hide a lost key: an error that all weights share is
allowed in full, and of the independent ones 8 standard deviations.
"""

from dataclasses import dataclass

import numpy as np
from ref_elements import half_ulp, smallest_normal

U = half_ulp("f32")


@dataclass
class Attention:
    """`out_error` and `lse_error` bound the error of sums that are kept in f32,
    without the rounding to the element type of the output. Rows that are
    `empty` see no key: they are exact."""

    out: np.ndarray
    lse: np.ndarray
    out_error: np.ndarray
    lse_error: np.ndarray
    empty: np.ndarray

    def tolerance(self, element_type):
        absolute = (half_ulp(element_type) * smallest_normal(element_type)
                    + 4 * smallest_normal("f32"))
        return (self.out_error
                + half_ulp(element_type) * (np.abs(self.out) + self.out_error)
                + absolute)


def visible(p, j, causal, window, window_right=None):
    """Whether a row at position p sees each of the keys j."""
    out = np.ones(len(j), bool)
    if causal:
        out &= j <= p
    if window_right is not None:
        out &= j <= p + window_right
    if window is not None:
        out &= j > p - window
    return out


def unmasked(words, first_own, j):
    """Whether a row of words of a mask has a bit for each of the keys j, of
    which those from `first_own` on are own rows of the request."""
    own = j - first_own
    number = np.clip(own, 0, 32 * len(words))
    words = np.append(np.asarray(words, np.int64) & 0xFFFFFFFF, 0)
    return (own < 0) | ((words[number // 32] >> (number % 32)) & 1 != 0)


def seen_slots(batch, count, cache, causal=False, window=None,
               window_right=None, mask=None):
    """An array [B, N] of the tokens that any of `count` rows sees. What the
    others hold, whatever it is, never reaches a result."""
    seen = np.zeros([cache.extent("B"), cache.extent("N")], bool)
    for t, row in enumerate(batch.rows(count)):
        if not row:
            continue
        j, block, token = batch.keys(row[0], len(seen))
        sees = visible(row[1], j, causal, window, window_right)
        if mask is not None:
            sees &= unmasked(mask[t], batch.first_own(row[0], count), j)
        seen[block[sees], token[sees]] = True
    return seen


def _sides(caches):
    """Keys and values as numbers [B, N, H, D]."""
    if len(caches) == 1:
        caches = [caches[0].side(0), caches[0].side(1)]
    out = []
    for cache in caches:
        cache.check_one_layer()
        assert "S" not in cache.axes
        # An axis of layers that is there has one of them.
        out.append(cache.numbers().reshape(
            cache.extent("B"), cache.extent("N"), cache.extent("H"),
            cache.extent("D")))
    assert out[0].shape[1:3] == out[1].shape[1:3]
    return out


def _scales(caches):
    """Scales of keys and values [B, N, H], and what kernels may add to integers
    while they multiply; None of a side that has none."""
    if len(caches) == 1:
        caches = [caches[0].side(0), caches[0].side(1)]
    found = []
    for cache in caches:
        scales = getattr(cache, "scales", None)
        if scales is None:
            found.append(None)
            continue
        shape = cache.extent("B"), cache.extent("N"), cache.extent("H")
        own = np.float64(scales.get()).reshape(
            scales.extent("B"), scales.extent("N"), -1)
        found.append((np.broadcast_to(own, shape),
                      128 if cache.form == "i8" else 0))
    return found


def _f32(value):
    return None if value is None else float(np.float32(value))


def attention(query, caches, batch, *, causal=False, window=None,
              window_right=None, softcap=None, scale=None, alibi=None,
              sinks=None, mask=None, value_scale=None, weights="f32"):
    """query: numbers [T, Hq, D]; caches: one with both sides, or two; mask:
    words [T, W]."""
    keys, values = _sides(caches)
    key_scales, value_scales = _scales(caches)
    rows, query_heads, channels = query.shape
    blocks, tokens, heads, _ = keys.shape
    blocks = min(blocks, len(values))
    assert tokens == batch.tokens and keys.shape[3] == channels
    assert query_heads % heads == 0
    group = np.arange(query_heads) // (query_heads // heads)
    scale = 1 / np.sqrt(channels) if scale is None else _f32(scale)
    softcap = _f32(softcap)

    shape = rows, query_heads
    out = np.zeros([*shape, values.shape[3]])
    out_error = np.zeros_like(out)
    lse = np.full(shape, -np.inf)
    if sinks is not None:
        lse[:] = np.asarray(sinks, np.float64)
    lse_error = np.zeros(shape)
    empty = np.ones(rows, bool)
    known = batch.rows(rows)
    gathered = {}
    for t, row in enumerate(known):
        if not row:
            continue
        r, p = row
        if r not in gathered:
            j, block, token = batch.keys(r, blocks)
            gathered[r] = (j, keys[block, token], values[block, token],
                           block, token)
        j, k, v, block, token = gathered[r]
        sees = visible(p, j, causal, window, window_right)
        if mask is not None:
            sees &= unmasked(mask[t], batch.first_own(r, rows), j)
        if not sees.any():
            continue
        empty[t] = False
        j, k, v = j[sees], k[sees][:, group], v[sees][:, group]
        magnitude = np.abs(v)
        if value_scales is not None:
            # As if the scale of each value were the largest one: weights are
            # rounded together with scales.
            own = value_scales[0][block, token][sees][:, group]
            magnitude = np.abs(v) / own[..., None] * own.max(axis=0)[:, None]
        x = scale * np.einsum("hd,jhd->jh", query[t], k)
        error = (channels + 8) * U * abs(scale) * np.einsum(
            "hd,jhd->jh", np.abs(query[t]), np.abs(k))
        if key_scales is not None:
            of_keys = key_scales[0][block, token][sees][:, group]
            error += (channels + 8) * U * abs(scale) * of_keys * (
                key_scales[1] * np.abs(query[t]).sum(axis=-1))
        if softcap is not None:
            x = softcap * np.tanh(x / softcap)
            error += 8 * U * softcap
        if alibi is not None:
            bias = np.asarray(alibi, np.float64) * (j - p)[:, None]
            x = x + bias
            error += 4 * U * (np.abs(bias) + np.abs(x))
        m = x.max(axis=0)
        sink = 0.0
        if sinks is not None:
            m = np.maximum(m, sinks)
            sink = np.exp(np.asarray(sinks, np.float64) - m)
        e = np.exp(x - m)
        total = e.sum(axis=0) + sink
        share = e / total
        out[t] = np.einsum("jh,jhd->hd", share, v)
        lse[t] = m + np.log(total)

        # A relative error of each weight, then those of the two sums.
        error += 4 * U * (np.abs(x) + np.abs(m)) + 8 * U
        sums = (len(j) + 16) * U
        error += sums
        each = share * error
        # Of large errors the first order is not enough: ALiBi far from a row.
        worst = error.max(axis=0)
        grown = share * np.expm1(np.minimum(error + worst, 700))
        each = np.where(worst > 0.1, np.minimum(grown, 1), each)
        out_error[t] = 2 * (np.einsum("jh,jhd->hd", each, np.abs(v))
                            + each.sum(axis=0)[:, None] * np.abs(out[t]))
        if weights != "f32":
            spread = np.sqrt(np.einsum("jh,jhd->hd", share**2, v**2) / 3)
            out_error[t] += half_ulp(weights) * (np.abs(out[t]) + 8 * spread)
        # A weight that underflows is lost, half of the smallest number of its
        # type.
        lost = smallest_normal("f32")
        if weights == "f16":
            lost = smallest_normal("f16") * half_ulp("f16")
        out_error[t] += lost * magnitude.sum(axis=0)
        if value_scales is not None:
            out_error[t] += 16 * U * value_scales[1] * (
                share * own).sum(axis=0)[:, None]
        lse_error[t] = (2 * (each.sum(axis=0) + sums)
                        + 4 * U * (np.abs(m) + np.abs(lse[t])))
    if value_scale is not None:
        # A product of its own, with a factor that is rounded once more.
        out[~empty] *= _f32(value_scale)
        out_error = out_error * abs(_f32(value_scale)) + 2 * U * np.abs(out)
    return Attention(out, lse, out_error, lse_error, empty)


def merge_states(*states):
    """Numbers [T, H, D] and their lse [T, H], of two splits or more."""
    parts = states[::2]
    # No keys have an lse of minus or plus infinity.
    lses = [np.where(np.isposinf(lse), -np.inf, np.float64(lse))
            for lse in states[1::2]]
    m = np.maximum.reduce(lses)
    empty = np.isneginf(m)
    base = np.where(empty, 0.0, m)
    total, sums, magnitude = 0.0, 0.0, 0.0
    for part, lse in zip(parts, lses):
        unused = np.isneginf(lse)
        # Nothing of an unused part is looked at, not even a NaN.
        values = np.where(unused[..., None], 0.0, np.float64(part))
        weight = np.where(unused, 0.0, np.exp(np.where(unused, base, lse) - base))
        total = total + weight
        sums = sums + weight[..., None] * values
        magnitude = magnitude + weight[..., None] * np.abs(values)
    safe = np.where(empty, 1.0, total)
    out = sums / safe[..., None]
    with np.errstate(divide="ignore"):
        lse = np.where(empty, -np.inf, base + np.log(safe))
    reach = sum(np.where(np.isneginf(x), 0.0, np.abs(x)) for x in lses)
    error = U * (28 + 2 * len(lses) + 8 * reach)
    return Attention(
        out, lse,
        error[..., None] * (magnitude / safe[..., None] + np.abs(out)),
        error + 4 * U * np.where(empty, 0.0, np.abs(lse)),
        empty.all(axis=1) if empty.size else np.zeros(len(empty), bool))


def check_attention(want, out, lse, element_type, what=""):
    """Compare numbers [T, H, D] and an lse [T, H], or None, with a result."""
    out = np.asarray(out, np.float64)
    assert out.shape == want.out.shape, f"{what}: {out.shape}"
    assert not out[want.empty].any(), f"{what}: a row without a key is not 0"
    _compare(out, want.out, want.tolerance(element_type), f"{what}: out")
    if lse is not None:
        lse = np.asarray(lse, np.float64)
        exact = np.isneginf(want.lse) | want.empty[:, None]
        assert np.array_equal(lse[exact], want.lse[exact]), (
            f"{what}: the lse of a row without a key")
        _compare(np.where(exact, 0, lse), np.where(exact, 0, want.lse),
                 want.lse_error + 4 * smallest_normal("f32"), f"{what}: lse")


def _compare(got, want, tolerance, what):
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(got - want) <= tolerance)  # a NaN is wrong
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{what}: {np.count_nonzero(wrong)} of {wrong.size} are wrong, the "
            f"first at {at}: expected {want[at]!r} within {tolerance[at]:.3g}, "
            f"got {got[at]!r}")
