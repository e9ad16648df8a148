# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Loops that store rows to a pool: as they are, raised, and in NumPy, bit for
bit. Slots that the loop itself leaves out are among them.
"""

import re
import subprocess

import numpy as np
from kvtest import Guarded, Tensor, compile_library, random_storage

rng = np.random.default_rng(3)
ROWS, BLOCKS, TOKENS, HEADS, CHANNELS, LAYERS = 9, 5, 16, 2, 8, 3

CONSTANTS = """
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %rows_count = arith.constant 9 : index
  %c2 = arith.constant 2 : index
  %c8 = arith.constant 8 : index
  %n = arith.constant 16 : i64
  %k = arith.constant 4 : i64
  %mask = arith.constant 15 : i64
  %zero = arith.constant 0 : i64
  %end = arith.constant 80 : i64
"""
DIVIDE = """
      %b = arith.divsi %s, %n : i64
      %o = arith.remsi %s, %n : i64
      %bi = arith.index_cast %b : i64 to index
      %oi = arith.index_cast %o : i64 to index
"""
SHIFT = """
      %b = arith.shrsi %s, %k : i64
      %o = arith.andi %s, %mask : i64
      %bi = arith.index_cast %b : i64 to index
      %oi = arith.index_cast %o : i64 to index
"""
AFFINE = """
      %si = arith.index_cast %s : i64 to index
      %bi = affine.apply affine_map<(d0) -> (d0 floordiv 16)>(%si)
      %oi = affine.apply affine_map<(d0) -> (d0 mod 16)>(%si)
"""


def inner(pool, at):
    return f"""
      scf.for %h = %c0 to %c2 step %c1 {{
        scf.for %d = %c0 to %c8 step %c1 {{
          %x = memref.load %rows[%t, %h, %d] : memref<9x2x8xf32>
          memref.store %x, %view[{at}] : {pool}
        }}
      }}"""


def sequential(arithmetic, pool, at="%bi, %oi, %h, %d", test=None):
    body = arithmetic + inner(pool, at)
    if test:
        body = f"{test}\n scf.if %ok {{ {body} }}"
    return f"""
    scf.for %t = %c0 to %rows_count step %c1 {{
      %s = memref.load %slots[%t] : memref<9xi64>
      {body}
    }}"""


def parallel(arithmetic, pool, at="%bi, %oi, %h, %d"):
    return f"""
    scf.parallel (%t, %h, %d) = (%c0, %c0, %c0)
        to (%rows_count, %c2, %c8) step (%c1, %c1, %c1) {{
      %s = memref.load %slots[%t] : memref<9xi64>
      {arithmetic}
      %x = memref.load %rows[%t, %h, %d] : memref<9x2x8xf32>
      memref.store %x, %view[{at}] : {pool}
      scf.reduce
    }}"""


def structured(arithmetic, pool, at="%bi, %oi, %h, %d"):
    return f"""
    linalg.generic {{
      indexing_maps = [affine_map<(t, h, d) -> (t)>,
                       affine_map<(t, h, d) -> (t, h, d)>],
      iterator_types = ["parallel", "parallel", "parallel"]}}
      ins(%slots, %rows : memref<9xi64>, memref<9x2x8xf32>) {{
    ^bb0(%s: i64, %x: f32):
      %h = linalg.index 1 : index
      %d = linalg.index 2 : index
      {arithmetic}
      memref.store %x, %view[{at}] : {pool}
      linalg.yield
    }}"""


NEGATIVE = "%ok = arith.cmpi sge, %s, %zero : i64"
INSIDE = """%low = arith.cmpi sge, %s, %zero : i64
      %high = arith.cmpi slt, %s, %end : i64
      %ok = arith.andi %low, %high : i1"""

NHD = "memref<5x16x2x8xf32>"
HND = "memref<5x2x16x8xf32>"
LAYER = "memref<5x16x2x8xf32, strided<[768, 16, 8, 1], offset: 256>>"
FLAT = "memref<80x2x8xf32>"
TRANSPOSED = "memref<5x16x2x8xf32, strided<[256, 8, 128, 1]>>"

SAME = f"%view = memref.cast %pool : {NHD} to {NHD}"
TRANSPOSE = f"""%view = memref.transpose %pool (b, h, n, d) -> (b, n, h, d)
    : {HND} to {TRANSPOSED}"""
SLICE = f"""%view = memref.subview %pool[0, 1, 0, 0, 0] [5, 1, 16, 2, 8]
    [1, 1, 1, 1, 1] : memref<5x3x16x2x8xf32> to {LAYER}"""
CAST = f"""%view = memref.reinterpret_cast %pool to offset: [256],
    sizes: [5, 16, 2, 8], strides: [768, 16, 8, 1]
    : memref<5x3x16x2x8xf32> to {LAYER}"""
COLLAPSE = f"""%view = memref.collapse_shape %pool [[0, 1], [2], [3]]
    : {NHD} into {FLAT}"""
ROW = "%row = arith.index_cast %s : i64 to index"

# name -> (type of the pool, what is stored to, loop, rows_per_block, pad,
#          slots that the loop leaves out)
CASES = {
    "by_for": (NHD, SAME, sequential(DIVIDE, NHD), 16, "none", ""),
    "by_shift": (NHD, SAME, sequential(SHIFT, NHD), 16, "none", ""),
    "by_affine": (NHD, SAME, sequential(AFFINE, NHD), 16, "none", ""),
    "by_parallel": (NHD, SAME, parallel(DIVIDE, NHD), 16, "none", ""),
    "by_generic": (NHD, SAME, structured(SHIFT, NHD), 16, "none", ""),
    "no_negative": (NHD, SAME, sequential(DIVIDE, NHD, test=NEGATIVE), 16,
                    "skip_negative", "-"),
    "no_outside": (NHD, SAME, sequential(SHIFT, NHD, test=INSIDE), 16,
                   "skip_out_of_range", "-+"),
    "transposed": (HND, TRANSPOSE, parallel(SHIFT, TRANSPOSED), 16, "none", ""),
    "one_layer": ("memref<5x3x16x2x8xf32>", SLICE, parallel(DIVIDE, LAYER), 16,
                  "none", ""),
    "reinterpreted": ("memref<5x3x16x2x8xf32>", CAST, parallel(DIVIDE, LAYER),
                      16, "none", ""),
    "rows_of_blocks": (NHD, COLLAPSE, parallel(ROW, FLAT, "%row, %h, %d"), 16,
                       "none", ""),
    "rows": (FLAT, f"%view = memref.cast %pool : {FLAT} to {FLAT}",
             parallel(ROW, FLAT, "%row, %h, %d"), 1, "none", ""),
}

source = "".join(f"""
func.func @{name}(%pool: {pool} {{kvcache.noalias}},
                  %rows: memref<9x2x8xf32>, %slots: memref<9xi64>) {{
{CONSTANTS}
{view}
{loop}
  return
}}
""" for name, (pool, view, loop, *_) in CASES.items())
result = subprocess.run(
    ["kv-opt", "-", "--kvcache-raise=last-row-wins", "--canonicalize"],
    input=source, text=True, capture_output=True)
assert result.returncode == 0, result.stderr
program = result.stdout
for loop in ("scf.for", "scf.parallel", "linalg.generic", "memref.transpose",
             "memref.subview", "memref.collapse_shape", "memref.store"):
    assert loop not in program, f"{loop} is left:\n{program}"
assert program.count("kvcache.index_copy") == len(CASES)
as_it_was = compile_library(source, "loops")
as_it_is = compile_library(program, "raised")


def place(pool, name):
    """The elements of the pool by block, token, head and channel."""
    shape = [int(n) for n in CASES[name][0][7:].split("xf32")[0].split("x")]
    array = pool.reshape(shape)
    if name == "transposed":
        return array.transpose(0, 2, 1, 3)
    if len(shape) == 5:
        return array[:, 1]
    return array.reshape(BLOCKS, TOKENS, HEADS, CHANNELS)


for name, (pool, _, _, rows_per_block, pad, skipped) in CASES.items():
    body = program.split(f"@{name}(")[1].split("func.func")[0]
    kind = re.search(r"!kv_slots(\d*)", body)[1]
    line = next(l for l in program.splitlines()
                if l.startswith(f"!kv_slots{kind} = "))
    assert f"rows_per_block = {rows_per_block}, pad = {pad}>" in line, (name, line)
    shape = [int(n) for n in pool[7:].split("xf32")[0].split("x")]
    for _ in range(5):
        # Slots twice, too: the last row stays, here and there, on one thread.
        is_ordered = "for" in name or "shift" in name or "no_" in name
        slots = rng.choice(BLOCKS * TOKENS, ROWS, replace=is_ordered)
        if "-" in skipped:
            slots[2], slots[5] = -1, -(2**63)
        if "+" in skipped:
            slots[1], slots[7] = BLOCKS * TOKENS, 2**63 - 1
        slots = slots.astype(np.int64)
        rows = random_storage(rng, ROWS * HEADS * CHANNELS, "f32")
        before = random_storage(rng, int(np.prod(shape)), "f32")
        expected = before.copy()
        logical = place(expected, name)
        for t, slot in enumerate(slots):
            if 0 <= slot < BLOCKS * TOKENS:
                logical[slot // TOKENS, slot % TOKENS] = (
                    rows.reshape(ROWS, HEADS, CHANNELS)[t])
        for library in (as_it_was, as_it_is):
            buffer = Guarded(before)
            library.run(name, Tensor(buffer.inside, "f32", shape),
                        Tensor(rows, "f32", [ROWS, HEADS, CHANNELS]),
                        Tensor(slots, "i64", [ROWS]))
            buffer.check(name)
            assert np.array_equal(buffer.inside, expected), (name, slots)
print(f"{len(CASES)} loops")
