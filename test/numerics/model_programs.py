# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The example models as programs: built, compiled with and without the split
into layer groups, and called on random batches.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
from kvtest import Guarded, Tensor, compile_library
from ref_batch import Batch
from ref_models import Model, Sizes

BIN = Path(os.environ.get("KV_BUILD_DIR", "build")) / "bin"
BLOCKS = 24


def generate(family, sizes, *flags):
    return subprocess.run(
        [BIN / "kv-models", f"--model={family}", *sizes.flags(), *flags],
        check=True, capture_output=True, text=True).stdout


def split(program, options="", remarks=False):
    """The program after the pass, and what it says."""
    flag = "--kvcache-split-layer-groups" + (f"={options}" if options else "")
    ask = ["--remark-format=emitRemark", "--remarks-filter=.*"] * remarks
    result = subprocess.run([BIN / "kv-opt", "-", flag, *ask], input=program,
                            check=True, capture_output=True, text=True)
    return (result.stdout, result.stderr) if remarks else result.stdout


def unchanged(program):
    """The program as it is printed."""
    return subprocess.run([BIN / "kv-opt", "-"], input=program, check=True,
                          capture_output=True, text=True).stdout


class Case:
    """A batch: starts, lengths, and the rows that are sampled."""

    def __init__(self, rng, sizes, starts, lengths, sampled, valid=None):
        self.starts, self.lengths = starts, lengths
        self.sampled, self.valid = sampled, valid
        most = max([1, *(-(-n // sizes.block) for n in lengths)])
        table = np.full((len(lengths), most), -7)
        free = list(rng.permutation(BLOCKS))
        for r, length in enumerate(lengths):
            for j in range(-(-length // sizes.block)):
                table[r, j] = free.pop()
        self.batch = Batch(starts, lengths, table, sizes.block)
        self.tokens = rng.integers(0, sizes.vocab, starts[-1])
        self.positions = [row[1] for row in self.batch.rows(starts[-1])]


def random_case(rng, sizes, kind, padding=0):
    """kind: decode, prompt or mixed; `padding` entries behind the samples."""
    requests = int(rng.integers(1, 5))
    queries, lengths = [], []
    for _ in range(requests):
        many = kind == "prompt" or (kind == "mixed" and rng.random() < 0.5)
        queries.append(int(rng.integers(1, 30)) if many else 1)
        lengths.append(queries[-1] + int(rng.integers(0, 40)))
    starts = np.concatenate([[0], np.cumsum(queries)]).tolist()
    sampled = []
    for first, end in zip(starts, starts[1:]):
        own = {end - 1}
        if kind != "decode":
            # Speculative decoding and scoring sample other rows as well.
            own |= set(rng.integers(first, end, rng.integers(0, 4)).tolist())
        sampled += sorted(own)
    valid = len(sampled)
    sampled += [sampled[-1] if rng.random() < 0.5 else -1] * padding
    return Case(rng, sizes, starts, lengths, sampled,
                valid if padding else None)


def fixed_cases(rng, sizes, padded):
    """The vectors of the change that this follows: four rows of three requests,
    and two rows of one prompt, of which one is not the last."""
    vector = [14, 18, 19, 27]
    pad, count = ([27, 27], 4) if padded else ([], None)
    yield Case(rng, sizes, [0, 15, 20, 28], [41, 31, 40], vector + pad, count)
    yield Case(rng, sizes, [0, 10], [10], [3, 9] + ([9] if padded else []),
               2 if padded else None)


class Program:
    def __init__(self, name, family, sizes, text, padded):
        self.family, self.sizes, self.padded = family, sizes, padded
        self.library = compile_library(text, name)

    def arguments(self, case, weights, pool):
        """What the function 'model' takes, without its result."""
        def integers(values):
            storage = np.ascontiguousarray(values, np.int32)
            return Tensor(storage.reshape(-1), "i32", storage.shape)

        s = self.sizes
        layers = s.caches(self.family)
        inner = 2 * s.block * s.kv_heads * s.head_dim
        kv = Tensor(pool.inside, "f32",
                    [layers, 2, BLOCKS, s.block, s.kv_heads, s.head_dim],
                    [inner, inner // 2, layers * inner,
                     s.kv_heads * s.head_dim, s.head_dim, 1])
        args = [integers(v) for v in (
            case.tokens, case.positions, case.starts, case.lengths,
            case.batch.table, case.sampled)]
        if self.padded:
            args.append(integers([len(case.sampled) if case.valid is None
                                  else case.valid]))
        args.append(kv)
        return args + [Tensor(w.reshape(-1), "f32", w.shape)
                       for w in weights.values()]

    def run(self, case, weights, pool):
        """Logits of the sampled rows; the pool is written."""
        shape = [len(case.sampled), self.sizes.vocab]
        logits = Guarded(np.full(np.prod(shape), np.nan, np.float32))
        self.library.run("model", *self.arguments(case, weights, pool),
                         Tensor(logits.inside, "f32", shape))
        logits.check("logits")
        pool.check("pool")
        return logits.inside.reshape(shape).copy()


def random_weights(rng, family, sizes):
    weights = {}
    for name, shape in sizes.weights(family).items():
        scale = 1.0 if len(shape) < 2 or "norm" in name else shape[-2]**-0.5
        weights[name] = (rng.standard_normal(shape) * scale).astype(np.float32)
    return weights


def random_pool(rng, family, sizes):
    count = (sizes.caches(family) * 2 * BLOCKS * sizes.block * sizes.kv_heads
             * sizes.head_dim)
    return rng.standard_normal(count).astype(np.float32)


def expected(family, sizes, weights, case, pool):
    """Logits of the sampled rows and the pool, in float64."""
    layers = sizes.caches(family)
    numbers = pool.astype(np.float64).reshape(
        BLOCKS, layers, 2, sizes.block, sizes.kv_heads, sizes.head_dim)
    numbers = np.ascontiguousarray(numbers.transpose(1, 2, 0, 3, 4, 5))
    logits = Model(family, sizes, weights).run(
        case.tokens, case.positions, case.batch, numbers)
    count = len(case.sampled) if case.valid is None else case.valid
    out = np.zeros((len(case.sampled), sizes.vocab))
    out[:count] = logits[case.sampled[:count]]
    return out, numbers.transpose(2, 0, 1, 3, 4, 5).reshape(-1)


__all__ = ["Case", "Program", "Sizes", "expected", "fixed_cases", "generate",
           "random_case", "random_pool", "random_weights", "split", "unchanged"]
