# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""The functions that outline=true makes of a model, called one after another as
an engine would that has a graph for each: the caches and the logits are those of
the program that was not split. The second group writes no cache, unless it is
a loop whose iterations write all rows as well.
"""

import re

import numpy as np
from kvtest import TYPES, Guarded, Tensor
from model_programs import (Program, Sizes, fixed_cases, generate, random_case,
                            random_pool, random_weights, split)

SIZES = Sizes()
MODELS = [("yoco", "--rolled"), ("llama", "--padded"), ("gemma3n", "--rolled"),
          ("hunyuan", "--padded"), ("swiftkv", "--padded"),
          ("swiftkv", "--rolled")]
WRITING = {("swiftkv", "--rolled"): {"model_group0", "model_group1"}}
CALL = re.compile(r"^    %(\w+)(?::\d+)? = call @(\w+)\((.*?)\) : .* -> (.*)$", re.M)


class Groups:
    """The calls of the function 'model', made from outside of it."""

    def __init__(self, family, form, text):
        self.program = Program(f"{family}{form[2:]}_groups", family, SIZES, text,
                               form == "--padded")
        self.writing = WRITING.get((family, form), {"model_group0"})
        body = re.search(r"  func\.func @model\((.*?)\n  \}", text, re.S)[1]
        self.calls = CALL.findall(body)
        assert [name for _, name, *_ in self.calls] == [
            "model_group0", "model_select", "model_group1"], self.calls
        self.extents = re.findall(r"%(\w+) = tensor\.dim %arg(\d+),", body)

    def run(self, case, weights, pool):
        given = self.program.arguments(case, weights, pool)
        values = {f"arg{i}": value for i, value in enumerate(given)}
        values.update((name, given[int(of)].shape[0])
                      for name, of in self.extents)
        samples, rows = len(case.sampled), len(case.tokens)
        results = []
        for name, function, operands, kinds in self.calls:
            arguments = [values[operand.strip().lstrip("%").replace("#", ".")]
                         for operand in operands.split(",")]
            kinds = re.findall(r"tensor<((?:[?\d]+x)*)(\w+)>", kinds)
            extents = [rows if function == "model_group0" else samples] * len(kinds)
            if function == "model_select":
                extents[-2] = len(case.starts)
            results = []
            for i, ((dims, dtype), extent) in enumerate(zip(kinds, extents)):
                shape = [extent if d == "?" else int(d)
                         for d in dims.rstrip("x").split("x")]
                memory = Guarded(np.full(np.prod(shape), -7, TYPES[dtype][2]))
                results.append((memory, shape))
                tensor = Tensor(memory.inside, dtype, shape)
                values[f"{name}.{i}" if len(kinds) > 1 else name] = tensor
                arguments.append(tensor)
            before = pool.inside.copy()
            self.program.library.run(function, *arguments)
            for memory, _ in results:
                memory.check(function)
            pool.check(function)
            unwritten = np.array_equal(before, pool.inside)
            assert unwritten != (function in self.writing), (
                f"{function}: {'nothing is' if unwritten else 'rows are'} written")
        (logits, shape), = results
        return logits.inside.reshape(shape)


def check(family, form, rng):
    text = generate(family, SIZES, form)
    padded = form == "--padded"
    whole = Program(f"{family}{form[2:]}_whole", family, SIZES, text, padded)
    groups = Groups(family, form, split(text, "outline=true"))
    weights = random_weights(rng, family, SIZES)
    cases = list(fixed_cases(rng, SIZES, padded))
    cases += [random_case(rng, SIZES, kind, 3 * padded)
              for kind in ("decode", "prompt", "mixed")]
    for case in cases:
        pool = random_pool(rng, family, SIZES)
        pools = [Guarded(pool), Guarded(pool)]
        a = whole.run(case, weights, pools[0])
        b = groups.run(case, weights, pools[1])
        assert np.array_equal(pools[0].inside.view(np.uint32),
                              pools[1].inside.view(np.uint32)), family
        error = np.abs(a - b).max()
        assert error < 1e-4, f"{family} {form}: logits differ by {error}"


def main():
    rng = np.random.default_rng(11)
    for family, form in MODELS:
        check(family, form, rng)


main()
