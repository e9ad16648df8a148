# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Views of bytes with any extents, strides and offsets: a call fails if and
only if the view is not inside of its bytes, counted in numbers of any size."""

import itertools

import numpy as np
from kvtest import BOUNDS, OK, Tensor, aligned, compile_library

BYTES, ELEMENT, MOST = 4096, 2, 2**40
NUMBERS = sorted({0, 1, 2, 3, 8, 16, 64, BYTES // 2, BYTES, 2**31, 2**32,
                  MOST - 1, MOST, MOST + 1, 2**61, 2**62, 2**62 + 1, 2**63 - 1,
                  -1, -2, -(2**31), -(2**62), -(2**63)})
# Axes from slowest to fastest, with extents; the strides that are no compact
# ones. None is a number of the call.
TYPES = {
    "blocks": ("BND", dict(B=None, N=1, D=1), {}),
    "huge_layers": ("LSBND", dict(L=2**40, S=2, B=None, N=1, D=1), {}),
    "any_layers": ("LSBND", dict(L=None, S=2, B=None, N=2, D=4), {}),
    "layers_inside": ("BLND", dict(L=None, B=None, N=2, D=2), {}),
    "any_stride": ("BND", dict(B=None, N=2, D=4), dict(B=None)),
    "two_strides": ("LBND", dict(L=None, B=None, N=1, D=2),
                    dict(L=None, B=None)),
    "fixed_layers": ("LBND", dict(L=3, B=None, N=2, D=2), dict(L=64)),
    "far_layers": ("LBND", dict(L=3, B=None, N=1, D=1), dict(L=2**40)),
}


def text(name):
    order, extents, strides = TYPES[name]
    listed = [a for a in "LSBND" if a in extents]
    number = lambda n: "?" if n is None else str(n)
    axes = " x ".join(f"{number(extents[a])}{a}" for a in listed)
    facts = ", ".join(f"{a} = {number(strides[a])}"
                      for a in listed if a in strides)
    facts = f", strides = [{facts}]" if facts else ""
    cache = (f"!kvcache.cache<{axes} x f16, order = [{', '.join(order)}]"
             f"{facts}, align = 4>")
    operands, words = ["%bytes: memref<?xi8>", "%offset: index"], ""
    for what, given in (("extents", extents), ("strides", strides)):
        of_call = [a for a in listed if a in given and given[a] is None]
        operands += [f"%{what}{a}: index" for a in of_call]
        if of_call:
            named = ", ".join(f"{a} = %{what}{a}" for a in of_call)
            words += f" {what}({named})"
    return f"""
func.func @{name}({', '.join(operands)}, %out: memref<1xi64>) {{
  %c = kvcache.view %bytes offset(%offset){words} : memref<?xi8> to {cache}
  %n = kvcache.dim %c[B] : {cache}
  %w = arith.index_cast %n : index to i64
  %c0 = arith.constant 0 : index
  memref.store %w, %out[%c0] : memref<1xi64>
  return
}}
"""


def fits(name, offset, extents, strides):
    order, _, facts = TYPES[name]
    if offset < 0 or offset % 4:
        return False
    span, packed = 1, 1
    for axis in reversed(order):
        if not 0 <= extents[axis] <= MOST:
            return False
        step = strides.get(axis, packed) if extents[axis] != 1 else packed
        if extents[axis] == 1 and facts.get(axis) is not None:
            step = facts[axis]
        if extents[axis] != 1 and (step < packed or axis in facts
                                   and not 1 <= step <= MOST):
            return False
        span += max(extents[axis] - 1, 0) * step
        packed = step * extents[axis]
    if 0 in extents.values():
        span = 0
    return offset + ELEMENT * span <= BYTES


# The message names the argument that holds the bytes, wherever it is and
# whatever becomes of the others.
NAMES = """
!k = !kvcache.cache<?B x 4N x 4D x f32, align = 4>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 4>
!pairs = memref<?x2xi64>
func.func @names(%batch: !batch, %other: !k, %bytes: memref<?xi8>, %n: index,
                 %pairs: !pairs) {
  %c = kvcache.view %bytes extents(B = %n) : memref<?xi8> to !k
  kvcache.copy_blocks %c at %pairs : !k at !pairs
  kvcache.copy_blocks %other at %pairs : !k at !pairs
  return
}
"""


def test_names(library):
    none = np.zeros(2, np.int32)
    batch = [Tensor(none, "i32", [2]), Tensor(none, "i32", [1]),
             Tensor(none, "i32", [1, 1])]
    other = Tensor(np.zeros(16, np.float32), "f32", [1, 4, 4])
    pairs = Tensor(np.zeros(2, np.int64), "i64", [1, 2])
    library.expect_error(BOUNDS, "argument 'bytes': expected a view within 100 "
                         "bytes", "names", *batch, other,
                         Tensor(aligned(100, np.int8), "i8", [100]), 3, pairs)


library = compile_library(NAMES + "".join(map(text, TYPES)), "bytes_hostile")
test_names(library)
storage = aligned(BYTES, np.int8)
rng = np.random.default_rng(14)
counts = {True: 0, False: 0}
for name, (_, extents, strides) in TYPES.items():
    listed = [a for a in "LSBND" if a in extents]
    of_call = [a for a in listed if extents[a] is None]
    with_stride = [a for a in listed if a in strides and strides[a] is None]
    values = list(itertools.product(
        NUMBERS, repeat=len(of_call) + len(with_stride)))
    if len(values) > 3000:
        values = [values[i] for i in rng.choice(len(values), 3000, False)]
        values += list(itertools.product([0, 1, 2, 3, 8, 64], repeat=len(
            of_call) + len(with_stride)))
    for given in values:
        offset = int(rng.choice([0, 0, 4, 6, BYTES - 16, -4, 2**63 - 4]))
        all_extents = {**extents, **dict(zip(of_call, given))}
        all_strides = {**strides,
                       **dict(zip(with_stride, given[len(of_call):]))}
        expected = fits(name, offset, all_extents, all_strides)
        counts[expected] += 1
        out = np.full(1, -7, np.int64)
        code = library.call(name, Tensor(storage, "i8", [BYTES]), offset,
                            *given, Tensor(out, "i64", [1]))
        what = f"{name}, offset {offset}, {all_extents}, {all_strides}"
        assert code == (OK if expected else BOUNDS), f"{what}: {code}"
        assert out[0] == (all_extents["B"] if expected else 0), what
assert min(counts.values()) > 100, counts
print(counts)
