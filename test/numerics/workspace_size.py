# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""The size of a workspace is exact, or negative where it is 2^62 bytes or more:
extents of any size, also below 0, in products and in sums, against Python's
integers."""

import itertools
import random

import numpy as np
from kvtest import WORKSPACE, Tensor, aligned, compile_library

GRANULE = 256
LIMIT = 1 << 62

# Of each function the buffers: constant bytes, and which arguments are extents.
BUFFERS = {
    "list": [("i64", 8, [], [0])],
    "bytes": [("i8", 1, [], [0])],
    "matrix": [("i64", 8, [], [0, 1])],
    "rows": [("bf16", 2, [8, 128], [0, 1, 2])],
    "none": [("f32", 4, [0], [0, 1])],
    "several": [("i64", 8, [], [0]), ("i32", 4, [100], []),
                ("i8", 1, [], [1, 2]), ("f32", 4, [3], [2])],
}


def function(name, buffers):
    body = ""
    for i, (element, _, fixed, dynamic) in enumerate(buffers):
        shape = "x".join([*map(str, fixed), *("?" for _ in dynamic), element])
        sizes = ", ".join(f"%n{k}" for k in dynamic)
        body += f"""
  %b{i} = memref.alloc({sizes}) : memref<{shape}>
  %p{i} = memref.extract_aligned_pointer_as_index %b{i} : memref<{shape}> -> index
  %q{i} = arith.index_cast %p{i} : index to i64
  memref.store %q{i}, %out[%c0] : memref<1xi64>"""
    return f"""
func.func @{name}(%out: memref<1xi64>, %n0: index, %n1: index, %n2: index) {{
  %c0 = arith.constant 0 : index{body}
  return
}}"""


def size_of(buffers, extents):
    total = 0
    for _, element, fixed, dynamic in buffers:
        size = element
        for extent in [*fixed, *(extents[k] for k in dynamic)]:
            if extent < 0:
                return None
            size *= extent
        total += -(-size // GRANULE) * GRANULE
    return total if total < LIMIT else None


library = compile_library("".join(
    function(name, buffers) for name, buffers in BUFFERS.items()))
rng = random.Random(6)
out = Tensor(np.zeros(1, np.int64), "i64", [1])
edges = [0, 1, 3, 31, 32, 33, 1 << 20, 1 << 31, 1 << 32, 1 << 54, (1 << 59) - 1,
         1 << 59, 1 << 61, LIMIT - 1, LIMIT, (1 << 63) - 1, -1, -32, -(1 << 63)]
cases = list(itertools.product(edges, edges, [1, 5, 1 << 40, -7]))
cases += [[rng.getrandbits(rng.randrange(64)) for _ in range(3)]
          for _ in range(2000)]
exact = refused = 0
for name, buffers in BUFFERS.items():
    for extents in cases:
        got = library.workspace_size(name, out, *extents)
        want = size_of(buffers, extents)
        if want is None:
            assert got < 0, (name, extents, got)
            refused += 1
        elif got != want:
            # Nothing, of parts that are too large.
            empty = 0 in extents or name == "none"
            assert got < 0 and empty, (name, extents, got, want)
        else:
            exact += 1
print(f"{exact} sizes, {refused} that are too large")
assert exact > 1000 and refused > 1000

# So it is in a call, which takes nothing from a workspace.
library.expect_error(WORKSPACE, "extents", "list", out, 1 << 61, 1, 1,
                     workspace=aligned(GRANULE, np.uint8))
