# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""A model that gives the logits of all rows back as well, of which the caller
says that it reads the sampled ones only: these are what they were, all others
are 0, and the caches are the same.
"""

import numpy as np
from kvtest import Guarded, Tensor
from model_programs import (Program, Sizes, fixed_cases, generate, random_case,
                            random_pool, random_weights, split)

SIZES = Sizes()


def run(program, case, weights, pool):
    shapes = [[rows, SIZES.vocab] for rows in (len(case.sampled),
                                               len(case.tokens))]
    out = [Guarded(np.full(np.prod(s), np.nan, np.float32)) for s in shapes]
    program.library.run("model", *program.arguments(case, weights, pool),
                        *(Tensor(o.inside, "f32", s)
                          for o, s in zip(out, shapes)))
    for memory in [*out, pool]:
        memory.check("model")
    return [o.inside.reshape(s) for o, s in zip(out, shapes)]


def check(family, form, rng):
    padded = form == "--padded"
    text = generate(family, SIZES, "--prompt-logits", form)
    rows = "1=sampled:num_valid" if padded else "1=sampled"
    after = split(text, f"outputs={rows}")
    assert "select_rows" in after
    whole = Program(f"{family}_all", family, SIZES, text, padded)
    parts = Program(f"{family}_some", family, SIZES, after, padded)
    weights = random_weights(rng, family, SIZES)
    cases = [*fixed_cases(rng, SIZES, padded),
             random_case(rng, SIZES, "mixed", 2 * padded)]
    for case in cases:
        pool = random_pool(rng, family, SIZES)
        pools = [Guarded(pool), Guarded(pool)]
        a, b = (run(program, case, weights, pool)
                for program, pool in zip((whole, parts), pools))
        assert np.array_equal(pools[0].inside.view(np.uint32),
                              pools[1].inside.view(np.uint32)), family
        count = len(case.sampled) if case.valid is None else case.valid
        read = case.sampled[:count]
        assert np.abs(a[0][:count] - b[0][:count]).max() < 1e-4, family
        assert np.abs(a[1][read] - b[1][read]).max() < 1e-4, family
        assert not np.delete(b[1], read, axis=0).any(), family


def main():
    rng = np.random.default_rng(5)
    check("yoco", "--padded", rng)
    check("llama", "--rolled", rng)


main()
