# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Functions of the math dialect over the whole range of f32, and bf16 bit by bit.

Every function runs in vectors and, for the last elements of a length that is
not a multiple of 16, on scalars.
"""

import math

import numpy as np
from kvtest import Guarded, Tensor, compile_library

FUNCTIONS = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log,
    "log2": np.log2, "log10": np.log10, "log1p": np.log1p, "tanh": np.tanh,
    "sin": np.sin, "cos": np.cos, "erf": np.vectorize(math.erf),
    "rsqrt": lambda x: 1 / np.sqrt(x), "sqrt": np.sqrt, "absf": np.abs,
    "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc,
    "roundeven": np.rint,
    "round": lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x),
}


def elementwise(name, body, source, target):
    return f"""
func.func @{name}(%x: memref<?x{source}>, %y: memref<?x{target}>) {{
  linalg.generic {{
      indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>],
      iterator_types = ["parallel"]}}
      ins(%x : memref<?x{source}>) outs(%y : memref<?x{target}>) {{
    ^bb0(%a: {source}, %old: {target}):
      {body}
      linalg.yield %r : {target}
  }}
  return
}}
"""


def call(library, name, x, source, target):
    dtype = np.uint16 if target == "bf16" else {
        "f16": np.float16, "f32": np.float32, "f64": np.float64}[target]
    y = Guarded(np.zeros(len(x), dtype))
    library.check_call(name, Tensor(x, source, x.shape),
                       Tensor(y.inside, target, x.shape))
    y.check(name)
    return y.inside.copy()


def every_float(step):
    """Bit patterns of f32 evenly over all of them, and the special ones."""
    special = np.array(
        [0, 1, 2, 0x7FFFFF, 0x800000, 0x7F7FFFFF, 0x7F800000, 0x7FC00000,
         0x7F800001, 0x3F800000, 0x3F7FFFFF, 0x3F800001, 0x49800000,
         0x497FFFFF, 0x3EFFFFFF, 0x3F000000, 0x3FC00000, 0x40200000,
         0x4AFFFFFF, 0x4B000000, 0x42B17217, 0x42B17218, 0xC2CFF1B4],
        np.uint32)
    special = np.concatenate([special, special ^ np.uint32(0x80000000)])
    # Where the functions do something, more densely.
    near = np.linspace(-110, 110, 100003).astype(np.float32).view(np.uint32)
    bits = np.arange(0, 1 << 32, step, np.uint64).astype(np.uint32)
    return np.concatenate([bits, near, special]).view(np.float32)


def ulps(got, exact):
    """The distance from the exact value in units of the last place of f32."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(np.float32)
        exponent = np.frexp(np.abs(exact))[1].astype(np.int64)
        unit = np.ldexp(1.0, np.maximum(exponent - 24, -149))
        error = np.abs(got.astype(np.float64) - exact) / unit
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    # What overflows may be the largest finite number, and the other way round.
    return np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))


def check_functions(cpu):
    program = "".join(
        elementwise(f"f_{name}", f"%r = math.{name} %a : f32", "f32", "f32")
        for name in FUNCTIONS)
    library = compile_library(program, f"math_{cpu.replace('-', '_')}", "cpu",
                              f"--cpu={cpu}")
    x = every_float(10007)
    x = x[: len(x) // 16 * 16 - 3]
    for name, reference in FUNCTIONS.items():
        got = call(library, f"f_{name}", x, "f32", "f32")
        with np.errstate(all="ignore"):
            exact = reference(x.astype(np.float64))
        error = ulps(got, exact)
        worst = int(np.argmax(error))
        limit = 0 if name in ("absf", "floor", "ceil", "trunc", "roundeven",
                              "round") else 2
        print(f"{cpu} {name}: {error[worst]:.2f} ulp")
        assert error[worst] <= limit, (
            f"{name}({x[worst]!r}) = {got[worst]!r}, expected {exact[worst]!r}")
        # A zero has the right sign.
        zero = (got == 0) & (exact == 0)
        assert np.array_equal(np.signbit(got[zero]), np.signbit(exact[zero])), (
            name)
        # Scalars give the bits that vectors give.
        alone = np.concatenate([
            call(library, f"f_{name}", x[i : i + 7], "f32", "f32")
            for i in range(0, 700, 7)])
        assert np.array_equal(alone.view(np.uint32) & 0x7FFFFFFF,
                              got[:700].view(np.uint32) & 0x7FFFFFFF), name


def to_bf16(x):
    """To the nearest, ties to even, of f32, in integers of any size."""
    bits = x.view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    nan = ((bits >> 16) | 0x40).astype(np.uint16)
    return np.where(np.isnan(x), nan, rounded)


def check_bf16(cpu):
    program = (
        elementwise("narrow", "%r = arith.truncf %a : f32 to bf16", "f32",
                    "bf16")
        + elementwise("narrow64", "%r = arith.truncf %a : f64 to bf16", "f64",
                      "bf16")
        + elementwise("wide", "%r = arith.extf %a : bf16 to f32", "bf16", "f32")
        + elementwise("twice", "%r = arith.addf %a, %a : bf16", "bf16", "bf16")
        + elementwise("silu", """%n = arith.negf %a : bf16
      %e = math.exp %n : bf16
      %one = arith.constant 1.0 : bf16
      %d = arith.addf %e, %one : bf16
      %r = arith.divf %a, %d : bf16""", "bf16", "bf16"))
    library = compile_library(program, f"bf16_{cpu.replace('-', '_')}", "cpu",
                              f"--cpu={cpu}")
    rng = np.random.default_rng(3)
    every = np.arange(1 << 16, dtype=np.uint32)
    # Just below, at and above the middle between two bf16 numbers.
    x = np.concatenate([(every << 16) + low for low in
                        (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]
                       + [rng.integers(0, 1 << 32, 100001, np.uint64)])
    x = x.astype(np.uint32).view(np.float32)
    got = call(library, "narrow", x, "f32", "bf16")
    nan = np.isnan(x)
    assert np.array_equal(got[~nan], to_bf16(x)[~nan])
    assert np.isnan((got[nan].astype(np.uint32) << 16).view(np.float32)).all()

    # Twice rounded, these would go the wrong way.
    middle = ((every << 16) | 0x8000).view(np.float32)
    middle = middle[np.isfinite(middle)].astype(np.float64)
    for factor in (1 - 2.0**-40, 1.0, 1 + 2.0**-40):
        wide = middle * factor
        got = call(library, "narrow64", wide, "f64", "bf16")
        low = every.astype(np.uint16)
        low = low[(low & 0x7F80) != 0x7F80]
        even = low + (low & 1)
        expected = even if factor == 1 else low + (factor > 1)
        assert np.array_equal(got, expected.astype(np.uint16)), factor

    all_bf16 = every.astype(np.uint16)
    got = call(library, "wide", all_bf16, "bf16", "f32")
    assert np.array_equal(got.view(np.uint32), every << 16)

    value = (every << 16).view(np.float32)
    with np.errstate(all="ignore"):
        expected = to_bf16(value + value)
    got = call(library, "twice", all_bf16, "bf16", "bf16")
    nan = np.isnan(value)
    assert np.array_equal(got[~nan], expected[~nan])
    assert np.isnan((got[nan].astype(np.uint32) << 16).view(np.float32)).all()

    some = all_bf16[np.abs(value) < 50]
    v = (some.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    got = (call(library, "silu", some, "bf16", "bf16").astype(np.uint32)
           << 16).view(np.float32)
    assert np.allclose(got, v / (1 + np.exp(-v)), rtol=0.02, atol=1e-30)


def check_f16(cpu):
    program = (
        elementwise("narrow", "%r = arith.truncf %a : f32 to f16", "f32", "f16")
        + elementwise("wide", "%r = arith.extf %a : f16 to f32", "f16", "f32")
        + elementwise("tanh", "%r = math.tanh %a : f16", "f16", "f16"))
    library = compile_library(program, f"f16_{cpu.replace('-', '_')}", "cpu",
                              f"--cpu={cpu}")
    every = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    half = every.view(np.float16)[:-3]
    number = ~np.isnan(half)
    got = call(library, "wide", half, "f16", "f32")
    assert np.array_equal(got[number], half[number].astype(np.float32))
    x = every_float(100003)
    x = x[~np.isnan(x)]
    got = call(library, "narrow", x, "f32", "f16")
    with np.errstate(all="ignore"):
        assert np.array_equal(got, x.astype(np.float16))
    got = call(library, "tanh", half, "f16", "f16")
    exact = np.tanh(half[number].astype(np.float64)).astype(np.float16)
    distance = np.abs(got[number].view(np.int16).astype(int)
                      - exact.view(np.int16).astype(int))
    assert distance.max() <= 1, distance.max()


for cpu in ("x86-64-v3", "x86-64"):
    check_functions(cpu)
    check_bf16(cpu)
check_f16("x86-64-v3")
print("functions and conversions are as they should be")
