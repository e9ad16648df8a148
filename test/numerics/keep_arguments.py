# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Arithmetic on tensors does not overwrite what it reads, wherever an operand
comes from; a result is memory that the caller gives."""

import numpy as np
from kvtest import Guarded, Tensor, compile_library

PROGRAM = """
func.func @sum(%a: tensor<?xf32>, %b: tensor<?xf32>) -> tensor<?xf32> {
  %0 = arith.addf %a, %b : tensor<?xf32>
  return %0 : tensor<?xf32>
}
func.func @nested(%a: tensor<?xf32>, %b: tensor<?xf32>) -> tensor<?xf32> {
  %0 = call @negated(%a) : (tensor<?xf32>) -> tensor<?xf32>
  %1 = arith.subf %b, %0 : tensor<?xf32>
  return %1 : tensor<?xf32>
}
func.func private @negated(%x: tensor<?xf32>) -> tensor<?xf32> {
  %0 = arith.negf %x : tensor<?xf32>
  return %0 : tensor<?xf32>
}
"""
WANT = {"sum": lambda a, b: a + b, "nested": lambda a, b: b + a}

rng = np.random.default_rng(3)
library = compile_library(PROGRAM)
for name, want in WANT.items():
    for count in (1, 7, 64):
        a, b = (rng.integers(-9, 9, count).astype(np.float32) for _ in range(2))
        left, right, out = Guarded(a), Guarded(b), Guarded(np.zeros_like(a))
        library.run(name, *(Tensor(x.inside, "f32", [count])
                            for x in (left, right, out)))
        for x in (left, right, out):
            x.check(name)
        assert np.array_equal(out.inside, want(a, b)), (name, count)
        assert np.array_equal(left.inside, a), f"{name}: an argument was overwritten"
        assert np.array_equal(right.inside, b), f"{name}: an argument was overwritten"
print("ok")
