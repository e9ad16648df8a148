# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Every way to write a division, with every way to write a remainder, before a
scatter that drops what is outside: raised, compiled, run, and compared with the
same arithmetic in NumPy. Pairs that are division and remainder of one slot
become index_copy, others scatter; both agree for all slots.
"""

import subprocess

import numpy as np
from kvtest import Guarded, Tensor, compile_library, random_storage

rng = np.random.default_rng(11)
ROWS, CHANNELS = 9, 8


def trunc_div(s, n):
    return (np.abs(s.astype(object)) // n * np.sign(s)).astype(s.dtype)


def unsigned(s):
    return s.view({4: np.uint32, 8: np.uint64}[s.dtype.itemsize])


def float_div(kind, finish):
    def run(s, n):
        return finish(s.astype(kind) / kind(n)).astype(s.dtype)
    return run


# name -> (MLIR of %b from %s, NumPy, needs a power of two)
BLOCKS = {
    "floor": ("%b = arith.floordivsi %s, %n : T", lambda s, n: s // n, False),
    "trunc": ("%b = arith.divsi %s, %n : T", trunc_div, False),
    "shift": ("%b = arith.shrsi %s, %k : T", lambda s, n: s // n, True),
    "shift_u": ("%b = arith.shrui %s, %k : T",
                lambda s, n: (unsigned(s) // n).view(s.dtype), True),
    "div_u": ("%b = arith.divui %s, %n : T",
              lambda s, n: (unsigned(s) // n).view(s.dtype), False),
    "f32": ("""%f = arith.sitofp %s : T to f32
    %q = arith.divf %f, %nf : f32
    %r = math.floor %q : f32
    %b = arith.fptosi %r : f32 to T""", float_div(np.float32, np.floor), False),
    "f32_times": ("""%f = arith.sitofp %s : T to f32
    %q = arith.mulf %f, %if : f32
    %r = math.floor %q : f32
    %b = arith.fptosi %r : f32 to T""", float_div(np.float32, np.floor), True),
    "f32_trunc": ("""%f = arith.sitofp %s : T to f32
    %q = arith.divf %f, %nf : f32
    %b = arith.fptosi %q : f32 to T""", float_div(np.float32, np.trunc), False),
    "f64": ("""%f = arith.sitofp %s : T to f64
    %q = arith.divf %f, %nd : f64
    %r = math.floor %q : f64
    %b = arith.fptosi %r : f64 to T""", float_div(np.float64, np.floor), False),
    # As NumPy and JAX do it: truncated, one less where signs differ.
    "signs": ("""%t = arith.divsi %s, %n : T
    %m = arith.remsi %s, %n : T
    %neg = arith.cmpi slt, %s, %z : T
    %odd = arith.cmpi ne, %m, %z : T
    %fix = arith.andi %neg, %odd : i1
    %less = arith.subi %t, %one : T
    %b = arith.select %fix, %less, %t : T""", lambda s, n: s // n, False),
}
OFFSETS = {
    "rem": ("%o = arith.remsi %s, %n : T", lambda s, n, b: np.fmod(s, n), False),
    "mask": ("%o = arith.andi %s, %mask : T", lambda s, n, b: s % n, True),
    "rem_u": ("%o = arith.remui %s, %n : T",
              lambda s, n, b: (unsigned(s) % n).view(s.dtype), False),
    "fixed": ("""%p = arith.remsi %s, %n : T
    %low = arith.cmpi slt, %p, %z : T
    %up = arith.addi %p, %n : T
    %o = arith.select %low, %up, %p : T""", lambda s, n, b: s % n, False),
    # What is left of the slot, wrapping as integers do.
    "left": ("""%back = arith.muli %b, %n : T
    %o = arith.subi %s, %back : T""", lambda s, n, b: s - b * n, False),
}
# Slots -15 to -1 are in block 0 if division truncates; with an offset that is
# not negative they would be live.
TRUNCATED = {"trunc", "f32_trunc"}
NOT_NEGATIVE = {"mask", "fixed", "rem_u"}


def function(name, width, tokens, blocks, block, offset):
    t = f"i{width}"
    body = (block[0] + "\n    " + offset[0]).replace(" T", f" {t}")
    shift = tokens.bit_length() - 1
    pool = f"tensor<{blocks}x{tokens}x{CHANNELS}xf32>"
    return f"""
func.func @{name}(%pool: {pool} {{bufferization.writable = true}},
                  %rows: tensor<{ROWS}x{CHANNELS}xf32>,
                  %slots: tensor<{ROWS}x{t}>) -> {pool} {{
  %n = arith.constant {tokens} : {t}
  %k = arith.constant {shift} : {t}
  %mask = arith.constant {tokens - 1} : {t}
  %z = arith.constant 0 : {t}
  %one = arith.constant 1 : {t}
  %nf = arith.constant {float(tokens)} : f32
  %nd = arith.constant {float(tokens)} : f64
  %if = arith.constant {1 / 2 ** shift} : f32
  %empty = tensor.empty() : tensor<{ROWS}x2x{t}>
  %list = tensor.empty() : tensor<{ROWS}x{t}>
  %pair:2 = linalg.generic {{
    indexing_maps = [affine_map<(d) -> (d)>, affine_map<(d) -> (d)>,
                     affine_map<(d) -> (d)>], iterator_types = ["parallel"]}}
    ins(%slots : tensor<{ROWS}x{t}>)
    outs(%list, %list : tensor<{ROWS}x{t}>, tensor<{ROWS}x{t}>) {{
  ^bb0(%s: {t}, %x: {t}, %y: {t}):
    {body}
    linalg.yield %b, %o : {t}, {t}
  }} -> (tensor<{ROWS}x{t}>, tensor<{ROWS}x{t}>)
  %c0 = tensor.expand_shape %pair#0 [[0, 1]] output_shape [{ROWS}, 1]
    : tensor<{ROWS}x{t}> into tensor<{ROWS}x1x{t}>
  %c1 = tensor.expand_shape %pair#1 [[0, 1]] output_shape [{ROWS}, 1]
    : tensor<{ROWS}x{t}> into tensor<{ROWS}x1x{t}>
  %at = tensor.concat dim(1) %c0, %c1
    : (tensor<{ROWS}x1x{t}>, tensor<{ROWS}x1x{t}>) -> tensor<{ROWS}x2x{t}>
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool)
    <{{dimension_map = array<i64: 0, 1>, unique_indices = true}}> ({{
  ^bb0(%a: f32, %c: f32):
    "iree_linalg_ext.yield"(%a) : (f32) -> ()
  }}) : (tensor<{ROWS}x{CHANNELS}xf32>, tensor<{ROWS}x2x{t}>, {pool}) -> {pool}
  return %new : {pool}
}}
"""


cases = []
for width in (32, 64):
    for tokens, blocks in ((16, 6), (24, 3)):
        isPower = tokens & (tokens - 1) == 0
        for b, block in BLOCKS.items():
            for o, offset in OFFSETS.items():
                if (block[2] or offset[2]) and not isPower:
                    continue
                # The remainder of 2^64 by 24 is not 0.
                if o == "rem_u" and not isPower:
                    continue
                name = f"f{width}_{tokens}_{b}_{o}"
                cases.append((name, width, tokens, blocks, b, o))

source = "".join(
    function(name, w, n, B, BLOCKS[b], OFFSETS[o])
    for name, w, n, B, b, o in cases)
result = subprocess.run(
    ["kv-opt", "-", "--allow-unregistered-dialect", "--kvcache-raise",
     "--canonicalize"], input=source, text=True, capture_output=True)
assert result.returncode == 0, result.stderr
program = result.stdout
assert "iree_linalg_ext" not in program
bodies = {p.split("(")[0]: p for p in program.split("func.func @")[1:]}
library = compile_library(program, "idioms")

proven = 0
for name, width, tokens, blocks, b, o in cases:
    expected_op = ("scatter" if b in TRUNCATED and o in NOT_NEGATIVE
                   else "index_copy")
    assert f"kvcache.{expected_op}" in bodies[name], bodies[name]
    proven += expected_op == "index_copy"
    dtype = {32: np.int32, 64: np.int64}[width]
    limits = np.iinfo(dtype)
    live = tokens * blocks
    special = [0, 1, tokens - 1, tokens, live - 1, live, live + 1, -1, 1 - tokens,
               -tokens, -tokens - 1, -live, 2**24 - 1, 2**24 + 1, -2**24 - 1,
               limits.max, limits.max - tokens, limits.min, limits.min + 1]
    special += [2**53 + 1, 2**40 + 5, -2**53 - 1] if width == 64 else []
    for _ in range(3):
        slots = np.concatenate([
            rng.choice(np.array(special, dtype), 5),
            rng.integers(-live, 2 * live, ROWS - 5).astype(dtype)])
        with np.errstate(all="ignore"):
            number = BLOCKS[b][1](slots, tokens).astype(dtype)
            rest = OFFSETS[o][1](slots, tokens, number).astype(dtype)
        # The input promises that no place is named twice: the last row of those
        # that are is the one that stays on a CPU.
        before = random_storage(rng, live * CHANNELS, "f32")
        rows = random_storage(rng, ROWS * CHANNELS, "f32")
        expected = before.copy().reshape(blocks, tokens, CHANNELS)
        for t in range(ROWS):
            if 0 <= number[t] < blocks and 0 <= rest[t] < tokens:
                expected[number[t], rest[t]] = rows.reshape(ROWS, -1)[t]
        pool = Guarded(before)
        library.run(name, Tensor(pool.inside, "f32", [blocks, tokens, CHANNELS]),
                    Tensor(rows, "f32", [ROWS, CHANNELS]),
                    Tensor(slots, f"i{width}", [ROWS]))
        pool.check(name)
        assert np.array_equal(pool.inside, expected.reshape(-1)), (name, slots)
print(f"{len(cases)} programs, {proven} became index_copy")
