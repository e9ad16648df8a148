# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Attention over rows of any length on a thread with a stack of 1 MB: results
are right, and what does not fit is refused when it is compiled."""

import resource
import subprocess
import sys
import threading

import numpy as np
from kvtest import Guarded, Tensor, compile_library

STACK = 1 << 20

# name -> channels of keys and of values, heads of the cache, query heads,
# element type, order
CASES = {
    "wide": (8192, 8192, 1, 1, "f32", "BNHD"),
    "widest": (16384, 16384, 1, 2, "f32", "BNHD"),
    "heads_first": (8192, 8192, 2, 4, "f32", "BHND"),
    "shared": (576, 512, 1, 128, "f32", "BNHD"),
    "very_shared": (128, 128, 1, 1536, "f32", "BNHD"),
    "apart": (2048, 1024, 1, 6, "f16", "BHDN"),
    "odd": (1100, 900, 2, 14, "f32", "BNHD"),
}
BLOCKS, TOKENS, LENGTH = 6, 16, 83


def text(name):
    key, value, heads, query_heads, t, order = CASES[name]
    order = ", ".join(order)
    caches = [f"!kvcache.cache<?B x {TOKENS}N x {heads}H x {d}D x {t}, "
              f"order = [{order}]>" for d in (key, value)]
    q, o = (f"memref<?x{query_heads}x{d}xf32>" for d in (key, value))
    batch = "!kvcache.batch<?R x ?M x i32, tokens = 16>"
    return f"""
func.func @{name}(%q: {q}, %k: {caches[0]}, %v: {caches[1]}, %b: {batch},
                  %o: {o}) {{
  kvcache.attention %q over %k, %v in %b into %o causal
    : {q} over {caches[0]}, {caches[1]} in {batch} into {o}
  return
}}
"""


def expected(q, k, v, starts, lengths, tables):
    """Rows are the last tokens of their request; query heads share heads."""
    share = q.shape[1] // k.shape[2]
    out = np.zeros((*q.shape[:2], v.shape[3]))
    for r, length in enumerate(lengths):
        at = np.arange(length)
        block = np.array(tables[r])[at // TOKENS]
        keys, values = (c[block, at % TOKENS].astype(np.float64)
                        for c in (k, v))
        for t in range(starts[r], starts[r + 1]):
            seen = length - (starts[r + 1] - t) + 1
            for h in range(q.shape[1]):
                score = keys[:seen, h // share] @ q[t, h] / np.sqrt(q.shape[2])
                weight = np.exp(score - score.max())
                out[t, h] = weight @ values[:seen, h // share] / weight.sum()
    return out


def check(library, name):
    rng = np.random.default_rng(16)
    key, value, heads, query_heads, t, order = CASES[name]
    starts, lengths = [0, 1, 6, 26], [LENGTH, 7, 40]
    tables = [[5, 0, 3, 1, 4, 2], [2, 5, 5, 5, 5, 5], [1, 3, 0, 5, 5, 5]]
    rows = starts[-1]
    dtype = np.float16 if t == "f16" else np.float32
    caches, arguments = [], []
    for d in (key, value):
        listed = dict(B=BLOCKS, N=TOKENS, H=heads, D=d)
        raw = rng.standard_normal([listed[a] for a in order]).astype(dtype)
        caches.append(raw.transpose([order.index(a) for a in "BNHD"]))
        strides = [s // raw.itemsize for s in caches[-1].strides]
        arguments.append(Tensor(raw.ravel(), t, caches[-1].shape, strides))
    q = rng.standard_normal((rows, query_heads, key)).astype(np.float32)
    out = Guarded(np.full(rows * query_heads * value, np.nan, np.float32))
    numbers = [np.array(x, np.int32) for x in (starts, lengths, tables)]
    library.run(name, Tensor(q.ravel(), "f32", q.shape), *arguments,
                *(Tensor(n.ravel(), "i32", n.shape) for n in numbers),
                Tensor(out.inside, "f32", [rows, query_heads, value]))
    out.check(name)
    got = out.inside.reshape(rows, query_heads, value)
    want = expected(q, *caches, starts, lengths, tables)
    assert np.abs(got - want).max() < 2e-4, name


def main():
    library = compile_library("".join(map(text, CASES)), "stack_bound")
    failures = []

    def run():
        try:
            for name in CASES:
                check(library, name)
        except BaseException as error:  # of another thread
            failures.append(error)

    threading.stack_size(STACK)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]

    CASES["too_wide"] = (1 << 20, 1 << 20, 1, 1, "f32", "BNHD")
    CASES["far_too_wide"] = (1 << 14, 1 << 14, 1, 1, "f32", "BHDN")
    for name in ("too_wide", "far_too_wide"):
        done = subprocess.run(["kv-compile", "-", "-o", "/dev/null"],
                              input=text(name), text=True, capture_output=True)
        assert done.returncode and "is not compiled for a CPU" in done.stderr, (
            name, done.stderr)


if __name__ == "__main__":
    # Threads of the library take this size, too.
    resource.setrlimit(resource.RLIMIT_STACK, (STACK, STACK))
    if len(sys.argv) == 1:  # the limit counts from the next program on
        sys.exit(subprocess.run([sys.executable, __file__, "limited"])
                 .returncode)
    main()
    print(f"{len(CASES)} programs")
