# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Random functions of attention, and calls of them with random batches.

A function is compiled once and called with decode, prefill and chunked batches,
mixed ones, none at all, and ones with numbers that nobody should trust.
"""

import cases
import numpy as np
import op_programs as ops
import reference
from kvtest import Tensor
from ref_elements import COMPUTED, STORAGE

# What is tested in pairs. The order is of the keys; values have their own where
# there are two caches.
CHOICES = dict(
    order=[None, "nhd", "hnd", "paired_nhd", "cross_layer_hnd", "LBHNC",
           "BHLNC", "BLNHC", "random"],
    style=["compact", "constant", "multiple", "run_time", "all_strides"],
    tokens=[1, 8, 16, 32, 64, 128],
    channels=[40, 46, 64, 80, 96, 128, 256],
    heads=[(1, 1), (8, 8), (32, 8), (64, 8), (28, 4), (6, 2)],
    cache=list(STORAGE),
    query=COMPUTED,
    out=COMPUTED,
    caches=["one", "sides", "two", "two_sizes"],
    causal=[False, True, True],
    window=[None, None, 1, 9, 70, 2**40],
    window_right=[None, None, 0, 3, 40, 2**40],
    softcap=[None, None, 2.0, 30.0],
    scale=[None, None, 0.25, -0.1],
    alibi=[False, False, True],
    sinks=[False, False, True],
    mask=[False, False, True],
    lse=[None, "rows", "heads"],
    value_scale=[None, None, True],
    head_gap=[None, None, 0, 4, 64],
    positions=[None, None, "i32", "i64", "rows"],
    index=["i32", "i64"],
    prefixes=[None, None, "i32", "i64"],
    invariant=[False, False, True],
    split=[0, 0, 8],
    gap=[0, 0, 1, 8],
)


def pairs_of(row):
    items = sorted(row.items(), key=lambda kv: kv[0])
    return {(a, str(x), b, str(y)) for i, (a, x) in enumerate(items)
            for b, y in items[i + 1 :]}


def grid(rng, count, tries=40, **fixed):
    """Rows of choices, each with as many new pairs as can be found."""
    seen = set()
    for _ in range(count):
        candidates = [
            {name: values[rng.integers(len(values))]
             for name, values in CHOICES.items()} | fixed
            for _ in range(tries)]
        best = max(candidates, key=lambda c: len(pairs_of(c) - seen))
        seen |= pairs_of(best)
        yield best


def missing_pairs(rows):
    """The pairs of choices that are in no row."""
    seen = set().union(*map(pairs_of, rows))
    names = sorted(CHOICES)
    every = {(a, str(x), b, str(y))
             for i, a in enumerate(names) for b in names[i + 1 :]
             for x in CHOICES[a] for y in CHOICES[b]}
    return sorted(every - seen)


class Function:
    weights = "f32"  # what values are multiplied with

    def __init__(self, rng, name, choice, blocks=24):
        self.name, self.choice = name, choice
        self.query_heads, self.heads = choice["heads"]
        self.tokens = choice["tokens"]
        channels = choice["channels"]
        sizes = [channels, channels]
        if choice["caches"] == "two_sizes":
            sizes[1] = int(rng.choice([8, 40, 64, 512]))
        self.channels = sizes
        views = [self._cache(rng, d, blocks) for d in sizes]
        if choice["caches"] == "one":
            views = views[:1]
        if choice["caches"] == "sides":
            views = [views[0].then("side", side) for side in range(2)]
        self.views = views
        self.options = dict(
            causal=choice["causal"], window=choice["window"],
            softcap=choice["softcap"], scale=choice["scale"])
        if not choice["causal"]:
            self.options["window_right"] = choice["window_right"]
        self.head_gap = choice["head_gap"]
        self.promise = self.head_gap is not None and bool(rng.random() < 0.7)
        self.heads_first = choice["lse"] == "heads"
        # The gap belongs to the type of an argument.
        self.gaps = rng.choice([0, choice["gap"]], 3).tolist()

    def _cache(self, rng, channels, blocks):
        choice = self.choice
        order = choice["order"]
        sides = 2 if choice["caches"] in ("one", "sides") else None
        layers = int(rng.integers(2, 4)) if order and "L" in order and (
            order.isupper() or "layer" in order) else None
        heads = self.heads
        part = heads > 1 and rng.random() < 0.15
        split = choice["split"] if channels % 8 == 0 else 0
        case = cases.random_cache(
            rng, choice["cache"], blocks=blocks, tokens=self.tokens,
            heads=heads + 2 * part, channels=channels, sides=sides,
            layers=layers, split=split, style=choice["style"],
            order=None if order == "random" else self._listed(
                order, split, sides, layers))
        return case.then("heads", 1, heads) if part else case

    @staticmethod
    def _listed(name, split, sides, layers):
        """The order of that name, with channels that may be split."""
        letters = reference.ORDERS[name or "nhd"].split()
        letters = [a for a in letters
                   if (a != "S" or sides) and (a != "L" or layers)]
        if layers and "L" not in letters:
            letters.insert(0, "L")
        if split:
            at = letters.index("D")
            letters[at : at + 1] = ["D.o", "D.i"]
        return tuple(letters)

    def batch(self, rng, kind, blocks):
        cost = self.query_heads * max(self.channels)
        longest = int(np.sqrt(6e6 / cost))
        longest = min(max(longest, 20), 150)
        if kind in ("decode", "long"):
            longest *= 3
        if kind in ("long", "steep"):
            longest = max(longest, 900)
        positions = self.choice["positions"]
        requests = {"none": 0, "one": 1, "long": 1, "steep": 2}.get(
            kind, int(rng.integers(2, 5)))
        batch = cases.random_batch(
            rng, requests=requests, blocks=blocks, tokens=self.tokens,
            longest=min(longest, blocks * self.tokens // 2),
            kind={"decode": "decode", "prefill": "prefill", "long": "decode",
                  "one": "prefill", "steep": "few"}.get(kind, "mixed"),
            index=self.choice["index"],
            positions=None if positions == "rows" else positions,
            gap=self.gaps[0] and 3, extra=int(rng.integers(0, 3)),
            shared=bool(rng.random() < 0.3))
        if kind == "hostile":
            batch = cases.hostile_batch(rng, batch, blocks)
            if self.choice["alibi"] and batch.positions is not None:
                # Distances from there are no positions of any model.
                np.clip(batch.positions.array, -(2**30), 2**30,
                        out=batch.positions.array)
        return batch

    def most_blocks(self, kind):
        # Blocks of one token make long tables; large blocks need few.
        return int(np.clip(1000 // self.tokens, 6, 200))

    def mask(self, rng, batch, count, kind):
        return cases.random_mask(rng, batch, count, self.gaps[1])

    def prefixed(self, rng, kind, batch, blocks):
        """A batch with prefixes, or any batch with lists that are none, or that
        promise what is not so. Then rows have any values."""
        index, positions = self.choice["prefixes"], self.choice["positions"]
        if kind in ("decode", "mixed") and positions != "rows":
            batch, prefixes = cases.prefixed_batch(
                rng, blocks=blocks, tokens=self.tokens, positions=positions,
                index=self.choice["index"])
            return batch, [cases.integers(p.array, index)
                           for p in prefixes], True
        requests = len(batch.lengths.array)
        if kind == "hostile" and rng.random() < 0.5:
            return batch, [cases.integers(p, index)
                           for p in ([0, requests], [int(rng.integers(500))])
                           ], False
        groups = [[0, requests + 1], [-1, requests], [2, 1], [0, 3, 2, 2], [0],
                  [0, 2**31 - 1]][rng.integers(6)]
        lengths = rng.integers(100, 300, len(groups) - 1)
        return batch, [cases.integers(p, index)
                       for p in (groups, lengths)], True

    def other_rows(self, rng, batch):
        """Any rows of the same requests, with any positions."""
        requests = len(batch.lengths.array)
        starts = np.sort(rng.integers(0, batch.rows + 1, requests + 1))
        where = rng.integers(-2, 60, batch.rows)
        return (cases.integers(starts, self.choice["index"]),
                cases.integers(where, "i64"))

    def call(self, rng, kind):
        """A program, and what checks its results."""
        most = self.most_blocks(kind)
        views = [cases.resized(rng, v, int(rng.integers(most // 2, most)))
                 for v in self.views]
        if self.choice["caches"] == "sides":  # of one pool
            views[1] = views[0].instead("side", 1)
        blocks = min(v.view.extent("B") for v in views)
        batch, prefixes, is_kept = self.batch(rng, kind, blocks), None, True
        if self.choice["prefixes"]:
            batch, prefixes, is_kept = self.prefixed(rng, kind, batch, blocks)
        rows, given = None, batch.batch()
        if self.choice["positions"] == "rows":
            rows = self.other_rows(rng, batch)
            given = reference.with_rows(given, *(b.array for b in rows))
        options, buffers = dict(self.options), {}
        count, heads = batch.rows, self.query_heads
        if self.choice["mask"]:
            buffers["mask"] = self.mask(rng, given, count, kind)
        seen = reference.seen_slots(
            given, count, views[0].view, options["causal"], options["window"],
            options.get("window_right"),
            buffers["mask"].array if buffers else None)
        for view in views:
            mask = np.zeros([view.view.extent("B"), view.view.extent("N")],
                            bool)
            both = min(len(mask), len(seen))
            mask[:both] = seen[:both]
            cases.fill(rng, view.view, mask)
        padding = [t for t, row in enumerate(given.rows(count)) if not row]
        # Scores of many thousands: maxima grow from key to key.
        spread = int(rng.choice([16, 64, 512])) if kind == "steep" else 1
        query = cases.random_rows(rng, count, [heads, self.channels[0]],
                                  self.choice["query"], self.gaps[1], padding,
                                  spread, head_gap=self.head_gap,
                                  promise=self.promise)
        outs = [cases.result_rows(count, [heads, self.channels[1]],
                                  self.choice["out"], self.gaps[2])]
        if self.choice["lse"]:
            outs.append(cases.Lse(count, heads, self.heads_first,
                                  self.gaps[0]))
        if self.choice["value_scale"]:
            options["value_scale"] = float(np.float32(
                rng.choice([0.25, 1.0, 3.7, -2.0, 0.0])))
        if self.choice["alibi"]:
            buffers["alibi"] = cases.per_head(rng.random(heads) / 2)
        if self.choice["sinks"]:
            buffers["sinks"] = cases.per_head(rng.standard_normal(heads) * 3)
        numbers = {k: b.array for k, b in buffers.items()}
        want = reference.attention(query.numbers(), [v.view for v in views],
                                   given, **options, **numbers,
                                   weights=self.weights)
        untouched = [v.cache.clone() for v in views]
        program = ops.attention(self.name, query, views, batch, outs,
                                **options, **buffers, rows=rows,
                                prefixes=prefixes,
                                batch_invariant=self.choice["invariant"],
                                heads_first=self.heads_first)

        def check(what):
            lse = outs[1].numbers() if len(outs) > 1 else None
            if is_kept:
                reference.check_attention(want, outs[0].numbers(), lse,
                                          self.choice["out"], what)
            for view, before in zip(views, untouched):
                view.check(before, what)
            for buffer in [query, *outs, *buffers.values()]:
                buffer.guard.check(what)

        program.outs = outs
        return program, check


def run(library, rng, functions, kinds, tensor=Tensor):
    calls = 0
    for function in functions:
        for kind in kinds:
            program, check = function.call(rng, kind)
            library.run(program.name, *program.arguments(tensor),
                        poison=0x7F if calls % 2 else 0xFF)
            check(f"{kind}, {function.choice}, {program.text()}")
            calls += 1
    return calls
