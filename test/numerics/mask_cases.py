# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Attention with masks as programs have them: trees of a few nodes on long
requests, spans in prompts, and any bits on chunks. Functions have all head dims
of matrix products, and some that have none.
"""

import attention_cases
import cases
import numpy as np

KINDS = ["tree", "spans", "chunks", "steep"]
# Head dim, and query heads and heads of the cache.
SHAPES = [(64, (8, 2)), (80, (4, 1)), (96, (6, 2)), (128, (8, 2)),
          (128, (12, 1)), (192, (4, 4)), (256, (8, 2))]


class MaskFunction(attention_cases.Function):
    """`longest` bounds the tokens of a request of each kind, and `requests` how
    many have a tree."""

    kinds = KINDS
    longest = dict(tree=300, spans=150, chunks=200)
    requests = 4

    def most_blocks(self, kind):
        if kind not in self.longest:
            return super().most_blocks(kind)
        count = self.requests if kind == "tree" else 3
        return 2 * (count * self.longest[kind] // self.tokens + 8)

    def batch(self, rng, kind, blocks):
        if kind not in self.longest:
            return super().batch(rng, kind, blocks)
        return cases.random_batch(
            rng, requests=self.requests if kind == "tree" else 3, blocks=blocks,
            tokens=self.tokens, longest=self.longest[kind],
            kind=dict(tree="tree", spans="prefill", chunks="chunked")[kind],
            index=self.choice["index"], positions=self.choice["positions"])

    def mask(self, rng, batch, count, kind):
        kind = kind if kind in ("tree", "spans") else None
        return cases.random_mask(rng, batch, count, self.gaps[1], kind)


def choices(rng, types=("bf16", "f16")):
    """Each head dim with a causal tree and with spans, and f32 once."""
    plain = dict(mask=True, window=None, window_right=None, alibi=False,
                 positions=None, style="compact", caches="one", split=0,
                 order=None)
    for number, (channels, heads) in enumerate(SHAPES):
        kind = types[number % len(types)]
        for causal in (True, False):
            fixed = dict(plain, channels=channels, heads=heads, causal=causal,
                         cache=kind, query=kind,
                         tokens=[16, 32, 64][number % 3])
            yield from attention_cases.grid(rng, 1, **fixed)
    # What else there is, by the other kernels.
    for fixed in (dict(cache="f32", query="f32"), dict(window=70),
                  dict(positions="i64"), dict(alibi=True)):
        yield from attention_cases.grid(
            rng, 1, **dict(plain, channels=64, heads=(8, 2), causal=True,
                           cache="bf16", query="bf16", tokens=16) | fixed)


def functions(rng, kind=MaskFunction, types=("bf16", "f16")):
    made = [kind(rng, f"mask{number}", choice)
            for number, choice in enumerate(choices(rng, types))]
    for function in made:
        if function.choice["cache"] == function.choice["query"]:
            function.weights = function.choice["cache"]
    return made


def text(rng, made):
    return "".join(f.call(rng, "none")[0].text() for f in made)
