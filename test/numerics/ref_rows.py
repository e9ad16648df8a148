# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Norms and rotations of rows.

A rotation is f32, rounded after each product and sum, and then once to the type
of the result: it is exact to the bit. The sequence of the sum of a norm is free:
it is in float64, with a bound for what f32 may make of it.
"""

from dataclasses import dataclass

import numpy as np
from ref_elements import (
    decode, encode, half_ulp, round_to, smallest_normal, type_of)

U = half_ulp("f32")
# Half of the smallest number of f32: the error of a product that underflows.
LOST = U * smallest_normal("f32")


def rotate(rows, table, positions=None, *, interleaved=False,
           element_type=None):
    """rows: raw [T, H, D] or [T, D]; table: raw [P, R]; positions: as many as
    rows, or None for 0, 1, ...; element_type: of the result, or None for that
    of the rows. Gives a raw array."""
    from_type = type_of(rows)
    x = decode(rows, from_type).astype(np.float32)
    angles = decode(table, type_of(table)).astype(np.float32)
    turned = table.shape[1]
    half = turned // 2
    first = np.arange(half) * (2 if interleaved else 1)
    second = first + (1 if interleaved else half)
    if positions is None:
        positions = range(len(rows))
    out = x.copy()
    for t, p in enumerate(positions):
        if not 0 <= int(p) < len(table):
            continue
        cosine, sine = angles[int(p), :half], angles[int(p), half:]
        a, b = x[t][..., first], x[t][..., second]
        with np.errstate(all="ignore"):
            out[t][..., first] = a * cosine - b * sine
            out[t][..., second] = b * cosine + a * sine
    return encode(out, element_type or from_type)


@dataclass
class Norm:
    """`error` bounds the error of f32, without the rounding to the type of the
    result. What is infinite or no number is so in every sequence."""

    out: np.ndarray
    error: np.ndarray

    def check(self, got, element_type, what=""):
        """Compare with numbers: rounding keeps the sequence of numbers, so the
        result lies between the bounds, each of them rounded."""
        got = np.asarray(got, np.float64)
        assert got.shape == self.out.shape, f"{what}: {got.shape}"
        low = round_to(self.out - self.error, element_type)
        high = round_to(self.out + self.error, element_type)
        right = (low <= got) & (got <= high)
        right |= np.isnan(self.out) & np.isnan(got)
        if not right.all():
            at = tuple(int(i) for i in np.argwhere(~right)[0])
            raise AssertionError(
                f"{what}: {np.count_nonzero(~right)} of {right.size} are wrong, "
                f"the first at {at}: expected {low[at]!r} to {high[at]!r}, got "
                f"{got[at]!r}")


def normalize(x, weight=None, *, epsilon, plus_one=False):
    """x: numbers [..., D]; weight: numbers [D]. The squares of a row of large
    numbers are infinite, as in f32."""
    x = np.asarray(x, np.float64)
    channels = x.shape[-1]
    with np.errstate(all="ignore"):
        squares = (x * x).astype(np.float32).astype(np.float64)
        total = np.float32(squares.sum(axis=-1, keepdims=True))
        inside = total / np.float64(channels) + float(np.float32(epsilon))
        out = x / np.sqrt(inside)
        # Nothing is subtracted before the root, so the relative errors of a
        # square, of the sums that it is part of (at most one less than there
        # are channels), of the mean (a product with 1 / D has two) and of
        # epsilon add up. Of those of the sum, which are independent, 8 standard
        # deviations are allowed. The root halves them. Its reciprocal is within
        # two units of the last place, which are 4 U; the product has one.
        sums = min(channels, 8 * np.sqrt(channels / 3))
        error = 0.5 * ((sums + 3) * U + 2 * LOST / inside) + 5 * U
        scale = 1.0
        if weight is not None:
            scale = np.float64(weight) + bool(plus_one)
            error = error + (2 if plus_one else 1) * U
        # Of second order, and what is lost where products underflow.
        bound = np.abs(out * scale) * error * (1 + 2 * error)
        bound = bound + (LOST * (1 + np.abs(scale)))
        out = out * scale
    return Norm(out, np.where(np.isfinite(bound), bound, 0.0))
