# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""The programs of test/RowDemand/split-layer-groups.mlir, before and after the
pass: what they give is the same. Sums of products depend on how many rows are
multiplied at once; what they are made of, caches above all, is the same bit by
bit.
"""

import re
from pathlib import Path

import numpy as np
from kvtest import TYPES, Guarded, Tensor, compile_library
from model_programs import split

SOURCE = Path(__file__).parents[1] / "RowDemand/split-layer-groups.mlir"
# Of these there is no code for a CPU: the verifiers of memrefs do not take numbers
# of dimensions modulo 2^32.
SKIPPED = {"softmax", "numbers_of_dimensions_that_wrap"}
ROWS, BLOCKS = 10, 4
STARTS, LENGTHS = [0, 6, 10], [20, 9]
# Not only last rows; the same row twice; of an empty request none.
SELECTED = {2: [3, 9], 3: [9, 0, 4], 4: [1, 5, 5, 7]}



def functions():
    """The name of each function, its arguments and the types of its results."""
    pieces = re.split(r"^func\.func ", SOURCE.read_text(), flags=re.M)[1:]
    for piece in pieces:
        head = piece[:piece.index(" {\n")]
        before, results = re.split(r"\)\s*->", head, maxsplit=1)
        arguments = re.findall(r"%(\w+): ([!\w]+(?:\.\w+)?(?:<[^>]*>)?)", before)
        yield (re.match(r"@(\w+)", piece)[1], arguments,
               re.findall(r"tensor<[^>]*>", results))


class Argument:
    """A random one; its extents and values follow from its name."""

    def __init__(self, rng, name, kind, samples):
        sides = {"cache": [2], "pool": [4, 2]}.get(name)
        if sides:
            shape, dtype, values = [*sides, BLOCKS, 16, 2, 8], "f32", None
        elif name == "slots":
            shape, dtype = [ROWS], "i64"
            values = rng.permutation(BLOCKS * 16)[:ROWS]
        else:
            dims, dtype = re.match(r"tensor<((?:[?\d]+x)+)(\w+)>", kind).groups()
            dims = dims[:-1].split("x")
            extent = {"starts": 3, "lengths": 2, "indices": samples, "blocks": 2,
                      "others": 2, "e0": samples, "e1": 3, "e2": samples}
            shape = [extent.get(name, ROWS) if d == "?" else int(d)
                     for d in dims]
            values = {"starts": STARTS, "lengths": LENGTHS, "n": [2],
                      "indices": SELECTED[samples],
                      "blocks": rng.permutation(BLOCKS),
                      "others": rng.permutation(BLOCKS)}.get(name)
        if values is None:
            values = rng.standard_normal(np.prod(shape))
        self.memory = Guarded(np.asarray(values).astype(TYPES[dtype][2]))
        self.dtype, self.shape = dtype, shape

    def tensor(self):
        return Tensor(self.memory.inside, self.dtype, self.shape)


def call(library, function, arguments, results, seed, flag, layers):
    """What a call returns, and the caches afterwards."""
    rng = np.random.default_rng(seed)
    # What is asked for is a constant in some; padding, where there is a number.
    fixed = [k for n, k in arguments if n == "indices" and "?" not in k]
    samples = int(fixed[0][7]) if fixed else 4
    given = [{"flag": flag, "layers": layers, "n": layers}.get(name)
             if kind in ("i1", "index") else Argument(rng, name, kind, samples)
             for name, kind in arguments]
    # A result that is made in an argument is none of the compiled function.
    names = {name for name, _ in arguments}
    out = [] if names & {"e0", "o"} else [
        Argument(rng, name, kind, samples)
        for name, kind in zip(("e0", "x"), results)]
    returned = out or [
        a for (name, _), a in zip(arguments, given)
        if name in ("e0", "o") or (name == "e1" and len(results) == 2)]
    caches = [a for (name, _), a in zip(arguments, given)
              if name in ("cache", "pool")]
    library.run(function, *(a.tensor() if isinstance(a, Argument) else a
                            for a in [*given, *out]))
    for argument in [*given, *out]:
        if isinstance(argument, Argument):
            argument.memory.check(function)
    return ([a.memory.inside for a in returned],
            [a.memory.inside for a in caches])


def main():
    text = SOURCE.read_text()
    for name in SKIPPED:
        start = text.index(f"func.func @{name}(")
        text = text[:start] + text[text.index("\n}\n", start) + 3:]
    before = compile_library(text, "before")
    after = compile_library(split(text), "after")
    for function, arguments, results in functions():
        if function in SKIPPED:
            continue
        # Loops of no, one and several layers.
        for layers in range(4):
            one, other = (call(library, function, arguments, results, layers,
                               layers % 2, layers)
                          for library in (before, after))
            what = f"{function}, {layers} layers"
            for a, b in zip(one[0], other[0], strict=True):
                assert np.allclose(a, b, rtol=1e-5, atol=1e-5), f"{what}: {a} {b}"
            for a, b in zip(one[1], other[1], strict=True):
                assert np.array_equal(a.view(np.uint8), b.view(np.uint8)), what


main()
