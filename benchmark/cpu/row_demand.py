# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What running on sampled rows only is worth, on a CPU.

A model of 24 layers of which the second half reads caches and writes none, as
kv-models makes it. It is split and outlined: the second group is one function,
called here with all rows of a prompt, which is what the program does without the
split, and with the sampled row. Then a batch of single tokens, of which all are
sampled, through the whole model before and after the split. Times are the best
of alternating calls, of the calling thread, on one thread.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
os.environ.setdefault("KV_BUILD_DIR", str(ROOT / "build"))
os.environ["PATH"] = str(ROOT / "build/bin") + os.pathsep + os.environ["PATH"]
sys.path.insert(0, str(ROOT / "test/numerics"))
from kvtest import TYPES, Tensor, aligned, compile_library  # noqa: E402

MODELS = ROOT / "build/bin/kv-models"
OPT = ROOT / "build/bin/kv-opt"
SIZES = dict(layers=24, hidden=256, heads=8, head_dim=32, kv_heads=4, ffn=512,
             vocab=1000, block=16)


def generated(family, rolled):
    flags = [f"--{n.replace('_', '-')}={v}" for n, v in SIZES.items()]
    return subprocess.run(
        [MODELS, f"--model={family}", *flags, *["--rolled"] * rolled],
        check=True, capture_output=True, text=True).stdout


def split(text, options=""):
    return subprocess.run([OPT, "-", "--kvcache-split-layer-groups" + options],
                          input=text, check=True, capture_output=True,
                          text=True).stdout


class Function:
    """A function of a library, with arguments made from its declaration."""

    def __init__(self, library, text, name):
        self.library, self.name = library, name
        head = re.search(rf"^  func\.func @{name}\((.*)\) -> (.*) \{{$", text,
                         re.M)
        self.arguments = re.findall(
            r"%arg\d+: (\S+) \{kvcache\.name = \"(\w+)\"\}", head[1])
        self.results = re.findall(r"tensor<[^>]*>", head[2])

    def bind(self, rng, rows, given):
        """Arguments for a call with so many rows; `given` by name."""
        def tensor(name, kind):
            if name in given:
                return given[name]
            dims, dtype = re.match(r"tensor<(.*x)(\w+)>", kind).groups()
            shape = [rows if d == "?" else int(d) for d in dims[:-1].split("x")]
            scale = shape[-2] ** -0.5 if len(shape) > 1 else 1
            return tensor_of(rng.standard_normal(shape) * scale, dtype)

        self.values = [rows if kind == "index" else tensor(name, kind)
                       for kind, name in self.arguments]
        self.values += [tensor("", kind) for kind in self.results]
        size = self.library.workspace_size(self.name, *self.values)
        assert size >= 0, self.library.last_error()
        self.workspace = aligned(size, np.uint8)
        return self

    def __call__(self):
        self.library.check_call(self.name, *self.values,
                                workspace=self.workspace)


def tensor_of(values, dtype="i32"):
    values = np.asarray(values, TYPES[dtype][2])
    storage = aligned(values.size, values.dtype)
    storage[:] = values.reshape(-1)
    return Tensor(storage, dtype, values.shape)


def batch_of(queries, lengths):
    """The arguments that describe a batch."""
    starts = np.concatenate([[0], np.cumsum(queries)])
    most = max(-(-n // SIZES["block"]) for n in lengths)
    count = most * len(lengths)
    positions = np.concatenate(
        [np.arange(n - q, n) for q, n in zip(queries, lengths)])
    layers = SIZES["layers"] // 2 + 1
    inner = 2 * SIZES["block"] * SIZES["kv_heads"] * SIZES["head_dim"]
    storage = aligned(layers * count * inner, np.float32)
    storage[:] = 0.5
    pool = Tensor(storage, "f32",
                  [layers, 2, count, SIZES["block"], SIZES["kv_heads"],
                   SIZES["head_dim"]],
                  [inner, inner // 2, layers * inner,
                   SIZES["kv_heads"] * SIZES["head_dim"], SIZES["head_dim"], 1])
    table = np.arange(count).reshape(len(lengths), most)
    return dict(starts=tensor_of(starts), lengths=tensor_of(lengths),
                block_table=tensor_of(table), positions=tensor_of(positions),
                tokens=tensor_of(np.arange(starts[-1]) % SIZES["vocab"]),
                sampled=tensor_of(starts[1:] - 1), pool=pool)


def best(repeat, *functions):
    times = [[] for _ in functions]
    for _ in range(repeat):
        for function, taken in zip(functions, times):
            start = time.thread_time()
            function()
            taken.append(time.thread_time() - start)
    return [min(t) for t in times]


def flops_of(layers, rows, keys, writes):
    """Of products and attention; keys: seen by all rows together."""
    d, f = SIZES["hidden"], SIZES["ffn"]
    q = SIZES["heads"] * SIZES["head_dim"]
    k = SIZES["kv_heads"] * SIZES["head_dim"]
    products = 2 * d * q + 3 * d * f + 2 * d * k * writes
    return layers * (2 * rows * products + 4 * keys * q)


def prompt(rng, text, tokens, repeat):
    outlined = split(text, "=outline=true")
    library = compile_library(outlined, "groups")
    given = batch_of([tokens], [tokens])
    half = SIZES["layers"] // 2
    head = 2 * SIZES["hidden"] * SIZES["vocab"]
    first = Function(library, outlined, "model_group0").bind(rng, tokens, given)
    # The cache that the second group reads is written at the end of the first.
    shared = 4 * tokens * SIZES["hidden"] * SIZES["kv_heads"] * SIZES["head_dim"]
    seen = tokens * (tokens + 1) // 2
    calls, flops = [first], [flops_of(half, tokens, seen, True) + shared]
    for rows in (tokens, 1):
        own = dict(given, row_starts=tensor_of([0, rows]),
                   row_positions=tensor_of(np.arange(tokens - rows, tokens)))
        calls.append(Function(library, outlined, "model_group1").bind(
            rng, rows, own))
        keys = sum(range(tokens - rows + 1, tokens + 1))
        flops.append(flops_of(half, rows, keys, False) + rows * head)
    names = ["first group, all rows", "second group, all rows",
             "second group, one row"]
    times = best(repeat, *calls)
    for name, taken, count in zip(names, times, flops):
        print(f"{name:24} {taken * 1e3:10.2f} ms {count / 1e9:9.4f} GFLOP "
              f"{count / taken / 1e9:7.1f} GFLOP/s")
    print(f"one row of all: {times[2] / times[1]:.2%} of the time")


def decode(rng, text, requests, length, repeat):
    given = batch_of([1] * requests, [length] * requests)
    calls = []
    for name, program in (("whole", text), ("split", split(text))):
        library = compile_library(program, name)
        calls.append(Function(library, program, "model").bind(rng, requests,
                                                              given))
    whole, parts = best(repeat, *calls)
    print(f"decode of {requests} x {length}: {whole * 1e3:.2f} ms before, "
          f"{parts * 1e3:.2f} ms after the split: {parts / whole - 1:+.2%}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    os.environ["KVRT_NUM_THREADS"] = "1"
    rng = np.random.default_rng(0)
    text = generated("yoco", rolled=True)
    prompt(rng, text, options.tokens, options.repeat)
    decode(rng, text, 64, 512, 4 * options.repeat)


if __name__ == "__main__":
    main()
