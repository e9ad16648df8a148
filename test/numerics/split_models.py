# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Each example model, split in layer groups and not: the same caches, bit by
bit, and the same logits of the sampled rows, on random ragged batches; both
against the model in float64.
"""

import numpy as np
from kvtest import Guarded
from model_programs import (Program, Sizes, expected, fixed_cases, generate,
                            random_case, random_pool, random_weights, split,
                            unchanged)

SIZES = Sizes()
FORMS = {"unrolled": [], "rolled": ["--rolled", "--padded"]}


def check(family, form, rng):
    flags, padded = FORMS[form], form == "rolled"
    text = generate(family, SIZES, *flags)
    after = split(text)
    assert after.count("kvcache.select_rows") == 1, f"{family} {form}"
    whole = Program(f"{family}_{form}", family, SIZES, text, padded)
    parts = Program(f"{family}_{form}_split", family, SIZES, after, padded)
    weights = random_weights(rng, family, SIZES)
    cases = list(fixed_cases(rng, SIZES, padded))
    for kind in ("decode", "prompt", "mixed", "mixed"):
        cases.append(random_case(rng, SIZES, kind, 3 * padded))
    worst = 0
    for number, case in enumerate(cases):
        what = f"{family} {form} case {number}"
        pool = random_pool(rng, family, SIZES)
        want, want_pool = expected(family, SIZES, weights, case, pool)
        pools = [Guarded(pool), Guarded(pool)]
        a = whole.run(case, weights, pools[0])
        b = parts.run(case, weights, pools[1])
        assert np.array_equal(pools[0].inside.view(np.uint32),
                              pools[1].inside.view(np.uint32)), f"{what}: pool"
        difference = np.abs(a - b).max()
        worst = max(worst, difference)
        for logits in (a, b):
            error = np.abs(logits - want).max()
            assert error < 2e-4, f"{what}: logits differ by {error}"
        assert np.abs(pools[0].inside - want_pool).max() < 2e-4, what
    print(f"{family} {form}: {worst}")


def check_outlined(rng):
    """Three functions in place of one."""
    text = generate("yoco", SIZES, "--padded")
    whole = Program("outlined_whole", "yoco", SIZES, text, True)
    parts = Program("outlined", "yoco", SIZES, split(text, "outline=true"), True)
    weights = random_weights(rng, "yoco", SIZES)
    for case in fixed_cases(rng, SIZES, True):
        pool = random_pool(rng, "yoco", SIZES)
        pools = [Guarded(pool), Guarded(pool)]
        a = whole.run(case, weights, pools[0])
        b = parts.run(case, weights, pools[1])
        assert np.array_equal(pools[0].inside, pools[1].inside)
        assert np.abs(a - b).max() < 1e-4


def check_unchanged():
    """Where logits of all rows are asked for, each row is needed."""
    for family in FAMILIES:
        text = generate(family, SIZES, "--prompt-logits")
        after, remarks = split(text, remarks=True)
        if family == "gemma3n":
            # Its dead keys and values go all the same.
            assert "select_rows" not in after
        else:
            assert after == unchanged(text), family
        assert "nothing runs on selected rows only: 'func.return' returns " \
            "it, as output #1" in remarks, remarks


FAMILIES = "yoco", "llama", "gemma3n", "hunyuan", "swiftkv"


def main():
    rng = np.random.default_rng(7)
    check_unchanged()
    check_outlined(rng)
    for family in FAMILIES:
        for form in FORMS:
            check(family, form, rng)


main()
