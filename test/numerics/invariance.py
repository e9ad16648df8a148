# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""batch_invariant: the bits of a request are the same alone, among others, in
another sequence, and with a wider table. And results are right, of course.
"""

import sys

import attention_cases
import cases
import numpy as np
import op_programs as ops
import reference
from kvtest import Tensor, compile_library

# Rows and tokens of requests: decodes that are short, long and empty, a few
# rows, chunks and prompts of several tiles.
REQUESTS = [(1, 700), (1, 5), (1, 1500), (1, 0), (2, 333), (4, 1024), (40, 900),
            (0, 60), (1, 129), (100, 100), (1, 1024), (13, 77), (3, 1300),
            (13, 900)]
GROUPS = [[0], [2], [4], [5], [6], [9], [2, 0], [6, 2], [11, 3, 10, 8],
          [0, 1, 2, 8, 10], [2, 2, 2, 2, 2, 2, 2, 2], [5, 9, 6], [12, 5], [12],
          [12, 13, 5], [13, 12], [13]]


class Function(attention_cases.Function):
    """`longer` multiplies the tokens of decodes."""

    longer = 1
    kinds = ["mixed", "hostile"]

    def requests(self):
        return [(rows, length * self.longer if rows == 1 else length)
                for rows, length in REQUESTS]

    def call(self, rng, kind):
        if kind != "none":
            return super().call(rng, kind)
        made = self.prepare(rng, blocks=4)
        return self.program(rng, *made, []), None

    def prepare(self, rng, blocks):
        views = [cases.resized(rng, v, blocks) for v in self.views]
        if self.choice["caches"] == "sides":
            views[1] = cases.replace(views[0], steps=[
                *views[0].steps[:-1], ("side", 1)])
        for view in views:
            cases.fill(rng, view.view)
        heads, channels = self.query_heads, self.channels[0]
        # Scores of every second request are large: what comes after the rows of
        # a request must not change how these are rounded.
        rows = [cases.random_rows(rng, n, [heads, channels],
                                  self.choice["query"],
                                  spread=[1, 40][r % 2]).array
                for r, (n, _) in enumerate(self.requests())]
        extras = {}
        if self.choice["alibi"]:
            extras["alibi"] = cases.per_head(rng.random(heads) / 2)
        if self.choice["sinks"]:
            extras["sinks"] = cases.per_head(rng.standard_normal(heads) * 3)
        return views, rows, extras

    def program(self, rng, views, rows, extras, chosen):
        """Of some requests, in tables that are wider than they need."""
        blocks = min(v.view.extent("B") for v in views)
        counts = [self.requests()[r][0] for r in chosen]
        lengths = [self.requests()[r][1] for r in chosen]
        width = -(-max(lengths, default=0) // self.tokens)
        width += int(rng.integers(0, 70))
        table = np.full((len(chosen), width), -1)
        for i, r in enumerate(chosen):
            needed = -(-lengths[i] // self.tokens)
            table[i, :needed] = (7 * r + 5 * np.arange(needed)) % blocks
        index = self.choice["index"]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        total = int(starts[-1])
        batch = cases.BatchCase(
            cases.integers(starts, index), cases.integers(lengths, index),
            cases.integers(table, index, self.gaps[0] and 3), self.tokens,
            total)
        given = np.concatenate([rows[r] for r in chosen]) if chosen else (
            np.zeros((0, *rows[0].shape[1:]), rows[0].dtype))
        query = cases.Buffer(given, self.choice["query"], self.gaps[1],
                             head_gap=self.head_gap, promise=self.promise)
        outs = [cases.result_rows(total, [self.query_heads, self.channels[1]],
                                  self.choice["out"], self.gaps[2])]
        if self.choice["lse"]:
            outs.append(cases.Lse(total, self.query_heads, self.heads_first,
                                  self.gaps[0]))
        program = ops.attention(self.name, query, views, batch, outs,
                                **self.options, **extras,
                                batch_invariant=True,
                                heads_first=self.heads_first)
        program.parts = query, batch, outs, starts
        return program

    def compare(self, rng, library, tensor=Tensor):
        longest = max(length for _, length in self.requests())
        blocks = -(-longest // self.tokens) + 3
        views, rows, extras = self.prepare(rng, blocks)
        bits, calls = {}, 0
        every = list(range(len(REQUESTS)))
        for chosen in [every, every[::-1], *GROUPS]:
            program = self.program(rng, views, rows, extras, chosen)
            library.run(self.name, *program.arguments(tensor),
                        poison=0x7F if calls % 2 else 0xFF)
            query, batch, outs, starts = program.parts
            if calls == 0:
                want = reference.attention(
                    query.numbers(), [v.view for v in views], batch.batch(),
                    **self.options, **{k: b.array for k, b in extras.items()},
                    weights=self.weights)
                lse = outs[1].numbers() if len(outs) > 1 else None
                reference.check_attention(want, outs[0].numbers(), lse,
                                          self.choice["out"],
                                          str(self.choice))
            for i, r in enumerate(chosen):
                own = slice(starts[i], starts[i + 1])
                got = [np.array(outs[0].array[own]).tobytes()]
                if len(outs) > 1:
                    got.append(np.array(outs[1].numbers()[own]).tobytes())
                assert bits.setdefault(r, got) == got, (
                    f"request {r} {self.requests()[r]} has other bits in "
                    f"{chosen}: {self.choice}")
            calls += 1
        return calls


def choices(rng, types=("bf16", "f16", "f32")):
    plain = dict(positions=None, mask=False, prefixes=None, value_scale=None,
                 invariant=True)
    shapes = [(128, (32, 8)), (64, (8, 2)), (80, (28, 4)), (128, (12, 1)),
              (256, (8, 2)), (96, (4, 4)), (128, (6, 2))]
    for number, (channels, heads) in enumerate(shapes):
        kind = types[number % len(types)]
        yield from attention_cases.grid(
            rng, 1, **plain, channels=channels, heads=heads, cache=kind,
            query=kind, tokens=[16, 32, 8, 64][number % 4],
            causal=number % 3 != 2, caches="one", sinks=number % 2 == 0)


def functions(rng, types=("bf16", "f16", "f32"), kind=Function):
    made = [kind(rng, f"invariant{number}", choice)
            for number, choice in enumerate(choices(rng, types))]
    for function in made:
        function.weights = function.choice["cache"]
    # With several parts of keys on a CPU too.
    for function in made[1], made[2]:
        function.longer = 7
    return made


def text(rng, made):
    return "".join(f.call(rng, "none")[0].text() for f in made)


def main(seed=5):
    rng = np.random.default_rng(seed)
    made = functions(rng)
    library = compile_library(text(rng, made))
    calls = sum(f.compare(rng, library) for f in made)
    print(f"{len(made)} functions, {calls} calls")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
