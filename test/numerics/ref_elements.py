# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Element types in NumPy: raw storage, exact numbers, and rounding.

bf16 is kept as uint16. A conversion rounds to the nearest, ties to even, keeps
subnormal numbers and the sign of zero, and gives infinity for what is too
large. A NaN stays a NaN, with bits that are not specified; within one type,
bits are copied as they are. `same_elements` compares by these rules.
"""

import numpy as np

STORAGE = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16}
# Bits of the significand with the leading one, and the largest exponent.
_PRECISION = {"f32": 24, "f16": 11, "bf16": 8}
_MAX_EXPONENT = {"f32": 127, "f16": 15, "bf16": 127}


def type_of(array):
    """The element type that raw storage of this dtype has."""
    return {v: k for k, v in STORAGE.items()}[array.dtype.type]


def half_ulp(element_type):
    """The largest relative error of one rounding."""
    return 2.0 ** -_PRECISION[element_type]


def smallest_normal(element_type):
    return 2.0 ** (1 - _MAX_EXPONENT[element_type])


def decode(raw, element_type):
    """The numbers in float64, exactly."""
    raw = np.asarray(raw)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        if element_type == "bf16":
            wide = raw.astype(np.uint32) << np.uint32(16)
            return wide.view(np.float32).astype(np.float64)
        return raw.astype(np.float64)


def round_to(numbers, element_type):
    """The nearest numbers of a type, ties to even, as float64."""
    x = np.asarray(numbers, np.float64)
    precision = _PRECISION[element_type]
    top = _MAX_EXPONENT[element_type]
    finite = np.isfinite(x)
    safe = np.where(finite, x, 0.0)
    _, exponent = np.frexp(safe)
    # The distance of neighbours, which is constant among subnormal numbers.
    step = np.maximum(exponent, 2 - top) - precision
    rounded = np.ldexp(np.rint(np.ldexp(safe, -step)), step)
    largest = (2.0 - 2.0 ** (1 - precision)) * 2.0 ** top
    rounded = np.where(np.abs(rounded) > largest,
                       np.copysign(np.inf, safe), rounded)
    return np.where(finite, np.copysign(rounded, x), x)


def encode(numbers, element_type):
    """Raw storage of the nearest numbers of a type."""
    exact = round_to(numbers, element_type)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        if element_type != "bf16":
            return exact.astype(STORAGE[element_type])
        wide = exact.astype(np.float32).view(np.uint32)
    return (wide >> np.uint32(16)).astype(np.uint16)


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
