# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Every number of a small format, and those of a larger one whose rounding is
hard, from each format to each other one, by way of relayout: in vectors of
whole rows and of what is left of a row. Tensors of bytes are accepted for
formats of one byte."""

import itertools
import json

import kvtest
import numpy as np
from kvtest import TYPE, TYPES, Guarded, Tensor
from ref_elements import ELEMENTS, STORAGE, bits, convert, encode, same_elements

CHANNELS = 67  # whole vectors of any width, and some elements more


def cache(element):
    return f"!kvcache.cache<?B x 1N x {CHANNELS}D x {element}, align = " + (
        f"{np.dtype(STORAGE[element]).itemsize}>")


def program():
    return "".join(f"""
func.func @{a}_to_{b}(%from: {cache(a)}, %to: {cache(b)}) {{
  kvcache.relayout %from into %to : {cache(a)} into {cache(b)}
  return
}}
""" for a, b in itertools.permutations(STORAGE, 2))


def around(numbers):
    """Numbers of f32, and their neighbours."""
    number = np.float32(numbers)
    up, down = (np.nextafter(number, np.float32(s * np.inf)) for s in (1, -1))
    return np.concatenate([number, up, down])


def samples(element):
    rng = np.random.default_rng(2)
    itemsize = np.dtype(STORAGE[element]).itemsize
    if itemsize < 4:  # all of them
        return np.arange(1 << (8 * itemsize)).astype(
            f"u{itemsize}").view(STORAGE[element])
    parts = [rng.integers(0, 1 << 32, 100_000, np.uint32).view(np.float32)]
    for small in ELEMENTS.values():
        if np.dtype(small.storage).itemsize > 2:
            continue
        # Near each number and each tie between two of them, up to where
        # everything is too large.
        exponents = np.arange(small.least - small.precision - 2,
                              np.log2(small.largest) + 3)
        digits = np.arange(1 << (small.precision + 1)) / (
            1 << (small.precision + 1)) + 1
        if small.precision > 8:
            digits = rng.choice(digits, 200)
        with np.errstate(over="ignore", under="ignore"):
            near = np.float32(np.ldexp(*np.meshgrid(
                digits, exponents.astype(int))).ravel())
            parts += [around(near), around(-near)]
    parts.append(np.float32([0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3.4e38]))
    return np.concatenate(parts)


def padded(values, element):
    count = -(-len(values) // CHANNELS) * CHANNELS
    whole = np.full(count, encode(1.0, element), STORAGE[element])
    whole[: len(values)] = values
    return whole


def check(machine, library, a, b, values):
    """All of the values, from one format to the other."""
    values = padded(values, a)
    got = Guarded(np.zeros(len(values), STORAGE[b]))
    shape = [len(values) // CHANNELS, 1, CHANNELS]
    library.run(f"{a}_to_{b}", machine.Tensor(values, a, shape),
                machine.Tensor(got.inside, b, shape))
    got.check(f"{a} to {b}")
    want = convert(values, a, b)
    if not same_elements(got.inside, want, b):
        wrong = np.flatnonzero(bits(got.inside) != bits(want))
        raise AssertionError(
            f"{a} to {b}: {len(wrong)} differ: {values[wrong[:5]]} became "
            f"{bits(got.inside)[wrong[:5]]}, expected {bits(want)[wrong[:5]]}")
    return len(values)


def test_bytes(library):
    """Codes of DLPack: that of the format, or bytes."""
    values = np.arange(CHANNELS, dtype=np.uint8)
    shape = [1, 1, CHANNELS]
    out = np.zeros(CHANNELS, np.float32)
    for element in ("f8E4M3FN", "f8E5M2"):
        given = values.view(STORAGE[element])
        want = convert(given, element, "f32")
        for code in (TYPES[element][0], 1):
            tensor = Tensor(given, element, shape)
            tensor.dl.code = code
            out[:] = -1
            library.check_call(f"{element}_to_f32", tensor,
                               Tensor(out, "f32", shape))
            assert same_elements(out, want, "f32")
    names = {"f8E4M3FN": "float8_e4m3fn", "f8E5M2": "float8_e5m2"}
    for element, name in names.items():
        for code, got in ((0, "int8"), (2, "float8"), (8, "float8_e4m3"),
                          (99, "type code 99 of 8 bits")):
            tensor = Tensor(values.view(STORAGE[element]), element, shape)
            tensor.dl.code = code
            library.expect_error(
                TYPE, f"argument 'from': expected elements of {name}, got {got}",
                f"{element}_to_f32", tensor, Tensor(out, "f32", shape))
    # Bytes stand for nothing else.
    tensor = Tensor(values, "f8E4M3FN", shape)
    tensor.dl.code = 1
    library.expect_error(TYPE, "expected elements of float16, got uint8",
                         "f16_to_f32", tensor, Tensor(out, "f32", shape))


def test_manifest(library):
    functions = json.loads(library.manifest())["functions"]
    [source] = [f["arguments"][0] for f in functions
                if f["name"] == "f8E4M3FN_to_bf16"]
    assert source["element_type"] == "f8E4M3FN"
    assert source["dtype"] == "float8_e4m3fn"
    assert (source["dlpack_code"], source["element_bits"]) == (10, 8)


def main(machine, *flags):
    """On kvtest, or what stands in for it."""
    library = machine.compile_library(program(), f"formats_{len(flags)}", *flags)
    count = sum(check(machine, library, a, b, samples(a))
                for a, b in itertools.permutations(STORAGE, 2))
    print(f"{len(STORAGE)} formats, {count} numbers")
    return library


if __name__ == "__main__":
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        if "avx512vl" in file.read().split():
            main(kvtest, "cpu", "--cpu=x86-64-v4")
    on_cpu = main(kvtest)
    test_bytes(on_cpu)
    test_manifest(on_cpu)
