# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What is lost by storing keys and values in a format: stored rows in float64,
and the bounds of docs/accuracy.md for the error of an element, a score and the
output of attention.
"""

from typing import NamedTuple

import numpy as np
import ref_attention
from ref_batch import Batch
from ref_cache import Cache
from ref_elements import (ELEMENTS, STORAGE, decode, encode, half_ulp,
                          smallest_normal)
from ref_scaled import LARGEST, LEAST, Scaled


class Format(NamedTuple):
    """form: what is stored
       scaled: with a scale in f32 for each token and head"""
    form: str
    scaled: bool = False

    @property
    def name(self):
        return f"{self.form}, scales" if self.scaled else self.form

    @property
    def bits_per_element(self):
        """Of a row of 128 channels."""
        if self.scaled:
            return 8 + 32 / 128
        return 8 * np.dtype(STORAGE[self.form]).itemsize

    @property
    def relative(self):
        """The largest error of one rounding, in units of the number: u."""
        return 0.0 if self.form == "i8" else half_ulp(self.form)

    @property
    def absolute(self):
        """The largest error near zero: h. With scales, in units of the largest
        magnitude of the row."""
        if self.form == "i8":
            return 0.5 / LARGEST["i8"]
        near_zero = half_ulp(self.form) * smallest_normal(self.form)
        return near_zero / LARGEST[self.form] if self.scaled else near_zero


FORMATS = {one.name: one for one in [*map(Format, ELEMENTS),
                                     *(Format(form, True) for form in LARGEST)]}


def store(rows, one):
    """What attention reads of rows [T, H, D] in float64, exactly. The arithmetic
    of scales starts from f32."""
    if not one.scaled:
        return decode(encode(rows, one.form), one.form)
    # The rows of all tokens and heads are heads of one token.
    extents = dict(B=1, N=1, H=rows.shape[0] * rows.shape[1], D=rows.shape[2])
    cache = Scaled(Cache.make(extents, "f8E4M3FN"),
                   Cache.make(extents | {"D": 1}, "f32"), one.form)
    cache.put_token(0, 0, 0, rows.astype(np.float32))
    return cache.numbers().reshape(rows.shape)


# --- Bounds -------------------------------------------------------------------


def near_zero(rows, one):
    """The largest error near zero, of each row [..., 1]."""
    if not one.scaled:
        return one.absolute
    most = np.abs(rows).max(axis=-1, keepdims=True)
    return one.absolute * np.maximum(most, LEAST)


def element_bound(rows, one):
    """Of each element of rows of which none is larger than the largest number."""
    x = np.abs(rows)
    rounding = np.maximum(one.relative * x, near_zero(rows, one))
    if one.scaled:  # four roundings in f32, each of 2^-24
        rounding = (1 + 2.0**-20) * rounding + 2.0**-21 * x
    return rounding


def element_typical(rows, one):
    """The standard deviation, if a number is anywhere between two neighbours."""
    x = np.abs(rows)
    typical = np.maximum(0.425 * one.relative * x,
                         near_zero(rows, one) / np.sqrt(3))
    # The largest of a row becomes the largest number.
    exact = one.scaled & (x == x.max(axis=-1, keepdims=True))
    return np.where(exact, 0, typical)


def scores(query, keys, scale=None):
    """Query [T, H, D], keys [J, H, D]: scores [T, J, H]."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return scale * np.einsum("thd,jhd->tjh", query, keys, optimize=True)


def score_bound(query, keys, one):
    return scores(np.abs(query), element_bound(keys, one))


def score_typical(query, keys, one):
    scale = query.shape[-1] ** -0.5
    return scale * np.sqrt(
        scores(query**2, element_typical(keys, one)**2, 1.0))


def softmax(score):
    weights = np.exp(score - score.max(axis=0))
    return weights / weights.sum(axis=0)


def _weighted(score, values):
    """Weights [J, H] of scores [J, H], and the output [H, D]."""
    weights = softmax(score)
    return weights, np.einsum("jh,jhd->hd", weights, values)


def output_typical(score, error, values, value_error):
    """As `output_bound`, with standard deviations of small errors, each of which
    is independent of all others."""
    weights, out = _weighted(score, values)
    squares = (error[..., None] * (values - out))**2 + value_error**2
    return np.sqrt(np.einsum("jh,jhd->hd", weights**2, squares))


def output_bound(score, error, values, value_error):
    """Of one row of a query: scores [J, H], their errors, values [J, H, D], and
    theirs, each at most."""
    weights, out = _weighted(score, values)
    # What holds of any weights.
    of_values = value_error.max(axis=0)
    of_weights = np.tanh(error.max(axis=0) / 2)[:, None] * np.ptp(values, axis=0)
    # What holds of these, where errors are small.
    if error.max() < 300:
        least = (weights * np.exp(-error)).sum(axis=0)[:, None]
        of_values = np.minimum(of_values, np.einsum(
            "jh,jhd->hd", weights * np.exp(error), value_error) / least)
        of_weights = np.minimum(of_weights, np.einsum(
            "jh,jhd->hd", weights * np.expm1(error), np.abs(values - out)) / least)
    return of_values + of_weights


# --- Attention ----------------------------------------------------------------


class Contents:
    """Numbers [N, H, D] as a cache of one block, for the reference."""

    axes = "BNHD"

    def __init__(self, numbers):
        self._numbers = numbers[None]

    def check_one_layer(self):
        pass

    def extent(self, letter):
        return self._numbers.shape[self.axes.index(letter)]

    def numbers(self):
        return self._numbers


def attention(query, keys, values):
    """Each row [T, H, D] sees all keys [J, H, D]: an output [T, H, D]."""
    batch = Batch([0, len(query)], [len(keys)], [[0]], len(keys))
    return ref_attention.attention(
        query, [Contents(keys), Contents(values)], batch).out


# --- Rows ---------------------------------------------------------------------

OUTLIERS, OUTLIER_FACTORS, BIAS = 4, (20, 50), 8.0


def _normal(rng, shape):
    return rng.standard_normal(shape)


def _larger(rng, shape):
    """By how much a few channels of each head are larger in all keys."""
    factors = np.ones(shape[1:])
    for head in factors:
        chosen = rng.permutation(len(head))[:OUTLIERS]
        head[chosen] = rng.uniform(*OUTLIER_FACTORS, len(chosen))
    return factors


# Keys, and a query of normal numbers as they meet it.


def _normal_keys(rng, query, shape):
    return query, _normal(rng, shape)


def _outliers(rng, query, shape):
    factors = _larger(rng, shape)
    return query, _normal(rng, shape) * factors


def _biased(rng, query, shape):
    """A vector of each head is in all keys."""
    return query, _normal(rng, shape) + BIAS * _normal(rng, shape[1:])


def _balanced(rng, query, shape):
    """Queries look less at outliers: scores are those of normal keys."""
    factors = _larger(rng, shape)
    return query / factors, _normal(rng, shape) * factors


KEYS = {"normal": _normal_keys, "outliers": _outliers, "biased": _biased,
        "balanced": _balanced}


def rows(rng, kind, count, tokens, heads, channels):
    """Query, keys and values. A query is of numbers of bf16, so that its
    rounding is in no error."""
    shape = tokens, heads, channels
    query, keys = KEYS[kind](rng, _normal(rng, (count, heads, channels)), shape)
    return decode(encode(query, "bf16"), "bf16"), keys, _normal(rng, shape)
