# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""merge_states against the reference, and against attention over all keys."""

import cases
import kvtest
import numpy as np
import op_programs as ops
import reference
from ref_elements import COMPUTED

ROUNDS = 4


class Merge:
    def __init__(self, rng, splits=None):
        self.heads = int(rng.choice([1, 3, 8, 28]))
        self.channels = int(rng.choice([1, 5, 8, 40, 46, 64, 128, 256, 1100]))
        self.type = str(rng.choice(COMPUTED))
        self.lse = bool(rng.random() < 0.6)
        self.splits = splits or int(rng.choice([2, 2, 3, 4, 7]))
        self.heads_first = bool(rng.random() < 0.4)
        self.gaps = rng.choice([0, 0, 1, 8], self.splits + 2).tolist()
        self.lse_gaps = rng.choice([0, 0, 3], self.splits).tolist()

    def run(self, rng, name, round):
        count = [5, 0, 1, 40][round]
        shape = [self.heads, self.channels]
        parts, numbers = [], []
        for gap, lse_gap in zip(self.gaps, self.lse_gaps):
            lse = rng.standard_normal([count, self.heads]) * rng.choice(
                [1, 30, 1000])
            lse[rng.random(lse.shape) < 0.25] = -np.inf
            lse[rng.random(lse.shape) < 0.15] = np.inf
            values = cases.random_elements(rng, [count, *shape], self.type)
            # Nobody looks at a split without keys.
            unused = np.isinf(lse)[..., None]
            values = np.where(unused, cases.poison(rng, values.shape,
                                                   self.type), values)
            part = cases.Buffer(values, self.type, gap,
                                reference.encode(np.nan, self.type))
            given = cases.Lse(count, self.heads, self.heads_first, lse_gap, lse)
            parts += [part, given]
            numbers += [part.numbers(), given.numbers()]
        outs = [cases.result_rows(count, shape, self.type, self.gaps[-2])]
        if self.lse:
            outs.append(cases.Lse(count, self.heads, self.heads_first,
                                  self.gaps[-1]))
        want = reference.merge_states(*numbers)

        def check(what):
            lse = outs[1].numbers() if self.lse else None
            reference.check_attention(want, outs[0].numbers(), lse, self.type,
                                      what)
            for buffer in parts + outs:
                buffer.guard.check(what)

        return ops.merge_states(name, *parts, outs=outs,
                                heads_first=self.heads_first), check


def parts_of_attention(rng):
    """Two halves of the keys, in one call each, and merged."""
    heads, channels, tokens = 4, 64, 16
    case = cases.random_cache(rng, "f16", blocks=12, heads=2, channels=channels,
                              tokens=tokens, order="hnd", style="compact",
                              split=0)
    cases.fill(rng, case.view)
    table = rng.permutation(12).reshape(2, 6)
    lengths, where = np.array([90, 61]), np.array([89, 88, 60])
    starts, batches = [0, 2, 3], []
    for half in range(2):  # of 3 blocks each
        before = half * 3 * tokens
        batches.append(cases.BatchCase(
            cases.integers(starts, "i32"),
            cases.integers(np.clip(lengths - before, 0, 3 * tokens), "i32"),
            cases.integers(table[:, 3 * half : 3 * half + 3], "i32"), tokens, 3,
            cases.integers(where - before, "i32")))
    query = cases.random_rows(rng, 3, [heads, channels], "f32")
    results, programs = [], []
    for batch in batches:
        outs = [cases.result_rows(3, [heads, channels], "f32"),
                cases.result_rows(3, [heads], "f32")]
        results += outs
        programs.append(ops.attention("attend", query, [case], batch, outs,
                                      causal=True))
    whole = reference.Batch(starts, lengths, table, tokens, where)
    want = reference.attention(query.numbers(), [case.view], whole, causal=True)
    outs = [cases.result_rows(3, [heads, channels], "f32"),
            cases.result_rows(3, [heads], "f32")]
    merge = ops.merge_states("merge", *results, outs=outs)

    def check(what):
        # Three results, each with an error of its own.
        assert np.allclose(outs[0].numbers(), want.out, rtol=1e-5, atol=1e-5)
        assert np.allclose(outs[1].numbers(), want.lse, rtol=1e-5, atol=1e-5)

    return programs, merge, check


def main(machine):
    """On kvtest, or what stands in for it."""
    rng = np.random.default_rng(13)
    # The last one has as many as the operation takes, in one call.
    functions, runs = ops.in_rounds(
        rng, ROUNDS, [*(Merge(rng) for _ in range(24)), Merge(rng, 64)])
    if getattr(machine, "HAS_ATTENTION", True):
        programs, merge, check = parts_of_attention(rng)
        functions += [programs[0].text(), merge.text()]
        runs += [(p, lambda what: None) for p in programs] + [(merge, check)]
    ops.run_all(machine, functions, runs)


if __name__ == "__main__":
    main(kvtest)
