# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""The loops of test/Transforms/copy-carried-tensors.mlir, which make tensors in
other buffers than the one that they carry, against NumPy. What the loop carries
is the argument that it began with.
"""

from pathlib import Path

import numpy as np
from kvtest import Guarded, Tensor, compile_library

SOURCE = Path(__file__).parents[1] / "Transforms/copy-carried-tensors.mlir"


def residual(n, x, w):
    for layer in range(n):
        x = x @ w[layer] + x
    return x, w


def no_copy_in_place(n, x, y):
    return (y + y if n else x), y


def exchange(n, x, y):
    return (y, x) if n % 2 else (x, y)


def nested(n, x):
    return (x * 2.0 ** (n * n),)


def main():
    library = compile_library(SOURCE.read_text(), "carried")
    rng = np.random.default_rng(3)
    cases = [(residual, [5, 8], [4, 8, 8]), (no_copy_in_place, [5, 8], [5, 8]),
             (exchange, [4, 8], [4, 8]), (nested, [5, 8])]
    for function, *shapes in cases:
        for n in range(4):
            given = [Guarded(rng.standard_normal(np.prod(shape))
                             .astype(np.float32)) for shape in shapes]
            views = [g.inside.reshape(s) for g, s in zip(given, shapes)]
            want = function(n, *(v.astype(np.float64) for v in views))
            library.run(function.__name__,
                        *(Tensor(g.inside, "f32", s)
                          for g, s in zip(given, shapes)), n)
            for memory, view, expected in zip(given, views, want, strict=True):
                memory.check(function.__name__)
                assert np.allclose(view, expected, rtol=1e-4, atol=1e-4), (
                    f"{function.__name__}, {n} iterations")


main()
