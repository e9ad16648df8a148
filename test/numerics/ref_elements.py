# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Element types in NumPy: raw storage, exact numbers, and rounding.

What NumPy lacks is kept as integers of the same size, one type for each. A
conversion rounds to the nearest, ties to even, and keeps subnormal numbers and
the sign of zero. What is too large becomes infinity, or where a type saturates
the largest finite number, as infinity does. A NaN stays a NaN, with bits that
are not specified; within one type, bits are copied as they are.
`same_elements` compares by these rules.
"""

import functools
from typing import Any, NamedTuple

import numpy as np


class Element(NamedTuple):
    """precision: bits of the significand with the leading one
       least:     the exponent of the smallest normal number
       largest:   the largest finite number"""
    storage: Any
    precision: int
    least: int
    largest: float
    has_infinity: bool = True
    saturates: bool = False

    @property
    def is_native(self):
        return np.issubdtype(self.storage, np.floating)


ELEMENTS = {
    "f32": Element(np.float32, 24, -126, (2 - 2.0**-23) * 2.0**127),
    "f16": Element(np.float16, 11, -14, 65504.0),
    "bf16": Element(np.uint16, 8, -126, (2 - 2.0**-7) * 2.0**127),
    "f8E4M3FN": Element(np.uint8, 4, -6, 448.0, False, True),
    "f8E5M2": Element(np.int8, 3, -14, 57344.0, True, True),
}
STORAGE = {name: element.storage for name, element in ELEMENTS.items()}
# Of queries, and of what is computed.
COMPUTED = ["f32", "f16", "bf16"]


def type_of(array):
    """The element type that raw storage of this dtype has."""
    return {v: k for k, v in STORAGE.items()}[array.dtype.type]


def half_ulp(element_type):
    """The largest relative error of one rounding."""
    return 2.0 ** -ELEMENTS[element_type].precision


def smallest_normal(element_type):
    return 2.0 ** ELEMENTS[element_type].least


@functools.lru_cache(maxsize=None)
def _numbers(element_type):
    """What each pattern of bits is, for types of integers."""
    element = ELEMENTS[element_type]
    width = np.dtype(element.storage).itemsize * 8
    codes = np.arange(1 << (width - 1))
    fraction = element.precision - 1
    exponent, digits = codes >> fraction, codes & ((1 << fraction) - 1)
    significand = digits + ((exponent > 0) << fraction)
    numbers = np.ldexp(significand.astype(np.float64),
                       np.maximum(exponent, 1) - 1 + element.least - fraction)
    beyond = np.flatnonzero(numbers > element.largest)
    numbers[beyond] = np.nan
    if element.has_infinity:
        numbers[beyond[0]] = np.inf
    return np.concatenate([numbers, -numbers])


def decode(raw, element_type):
    """The numbers in float64, exactly."""
    raw = np.asarray(raw)
    if not ELEMENTS[element_type].is_native:
        return _numbers(element_type)[bits(raw)]
    with np.errstate(invalid="ignore"):  # signalling NaNs
        return raw.astype(np.float64)


def round_to(numbers, element_type):
    """The nearest numbers of a type, ties to even, as float64."""
    x = np.asarray(numbers, np.float64)
    element = ELEMENTS[element_type]
    finite = np.isfinite(x)
    safe = np.where(finite, x, 0.0)
    _, exponent = np.frexp(safe)
    # The distance of neighbours, which is constant among subnormal numbers.
    step = np.maximum(exponent, element.least + 1) - element.precision
    rounded = np.ldexp(np.rint(np.ldexp(safe, -step)), step)
    too_large = element.largest if element.saturates else np.inf
    rounded = np.where(np.abs(rounded) > element.largest, too_large, rounded)
    rounded = np.where(np.isinf(x), too_large, rounded)
    return np.where(np.isnan(x), x, np.copysign(rounded, x))


def encode(numbers, element_type):
    """Raw storage of the nearest numbers of a type."""
    exact = round_to(numbers, element_type)
    element = ELEMENTS[element_type]
    if element.is_native:
        with np.errstate(invalid="ignore"):  # signalling NaNs
            return exact.astype(element.storage)
    known = _numbers(element_type)
    # Patterns without a sign are in the sequence of their numbers, NaN last.
    code = np.searchsorted(known[: len(known) // 2], np.abs(exact))
    code += np.signbit(exact) * (len(known) // 2)
    unsigned = f"u{np.dtype(element.storage).itemsize}"
    return code.astype(unsigned).view(element.storage)


def convert(raw, source_type, dest_type):
    if source_type == dest_type:
        return np.array(raw)
    return encode(decode(raw, source_type), dest_type)


def bits(raw):
    """The same storage as unsigned numbers, to compare or keep NaNs."""
    raw = np.asarray(raw)
    return raw.view({1: np.uint8, 2: np.uint16, 4: np.uint32,
                     8: np.uint64}[raw.dtype.itemsize])


def same_elements(got, want, element_type):
    """Whether bits agree; any NaN is as good as another."""
    got, want = np.ascontiguousarray(got), np.ascontiguousarray(want)
    both = (np.isnan(decode(got, element_type))
            & np.isnan(decode(want, element_type)))
    return bool(np.all((bits(got) == bits(want)) | both))
