# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Rows that are normalized, rotated and written to a cache in one launch, beside
a linear copy that moves as many bytes.

    bench_rows.py PEERS [--json FILE]

PEERS is peers.py, whose loop this is. Runs from a bundle.
"""

import json
from pathlib import Path

import torch
from bench_scaled import Ours, begin, copy_time, quantised, some_scales
from row_programs import FORMS, WORKS, row_name

HERE = Path(__file__).resolve().parent
TOKENS = [1, 64, 1024, 2048, 4096, 8192]
BLOCKS, EPSILON = 2048, 1e-6


def normal(x, weight):
    x = x.float()
    root = torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON)
    return (x * root * weight.float()).bfloat16()


def rotated(x, table, positions, interleaved):
    x = x.float()
    cosines, sines = (t[:, None] for t in table[positions].chunk(2, -1))
    if interleaved:
        a, b = x[..., ::2], x[..., 1::2]
    else:
        a, b = x.chunk(2, -1)
    pair = a * cosines - b * sines, b * cosines + a * sines
    if interleaved:
        return torch.stack(pair, -1).flatten(-2).bfloat16()
    return torch.cat(pair, -1).bfloat16()


class Work:
    def __init__(self, work, form, count):
        self.work, self.form, self.count = work, form, count
        rows = lambda heads: torch.randn(count, heads, 128,  # noqa: E731
                                         device="cuda").bfloat16()
        self.query, self.key, self.value = rows(32), rows(8), rows(8)
        self.weights = [1 + 0.1 * torch.randn(128, device="cuda").bfloat16()
                        for _ in range(2)]
        angles = torch.rand(8192, 64, device="cuda") * 6.28
        self.table = torch.cat([angles.cos(), angles.sin()], -1)
        self.positions = torch.randint(0, 8192, (count,), device="cuda")
        self.slots = torch.randperm(BLOCKS * 16, device="cuda")[:count]
        self.out = torch.full_like(self.query, float("nan"))

    def arguments(self, pool):
        return [self.query, self.key, self.value, *self.weights, self.table,
                self.positions, *pool, self.slots, self.out]

    def nbytes(self):
        element = 2 if self.form == "bf16" else 1
        scale = 4 if self.form == "scaled" else 0
        # Query in and out, key and value in and into the cache, lists, angles.
        return self.count * (32 * 128 * 4 + 2 * 8 * (128 * (2 + element) + scale)
                             + 16 + 512)

    def check(self, pool):
        """How many numbers are not those of PyTorch."""
        rows = [self.query, self.key]
        if self.work.startswith("norm"):
            rows = [normal(x, w) for x, w in zip(rows, self.weights)]
        query, key = (rotated(x, self.table, self.positions,
                              "interleaved" in self.work) for x in rows)
        block, token = self.slots // 16, self.slots % 16
        found = [(self.out, query)]
        for side, want in enumerate((key, self.value)):
            got = pool[0][side, block, token]
            if self.form in ("scaled", "given"):
                scales = pool[1][side]
                given = self.form == "given"
                own = scales[0] if given else scales[block, token]
                stored, scales = quantised(want[None], "f8E4M3FN",
                                           scales[0, 0, :, 0] if given else None)
                got, want = got.float() * own, stored[0].float() * scales[0]
            else:
                want = want.to(pool[0].dtype)
            found.append((got, want))
        parts = [(got.float() == want.float()).float().mean().item()
                 for got, want in found]
        for got, want in found:
            torch.testing.assert_close(got.float(), want.float(), rtol=0.13,
                                       atol=0.02)
        return parts


def pool_of(form):
    shape = [2, BLOCKS, 16, 8]
    if form == "bf16":
        return [torch.zeros(*shape, 128, device="cuda").bfloat16()]
    pool = [torch.zeros(*shape, 128, device="cuda").to(torch.float8_e4m3fn)]
    if form == "scaled":
        pool.append(torch.zeros(*shape, 1, device="cuda"))
    if form == "given":
        pool.append(some_scales("f8E4M3FN", 2 * 8).reshape(2, 1, 1, 8, 1))
    return pool


def bench(peers, ours, work, form, fused, count, found):
    rounds = max(1, min(16, 2**14 // count))
    works = [Work(work, form, count) for _ in range(rounds)]
    pool = pool_of(form)
    calls = [ours.call(row_name(work, form, fused), *w.arguments(pool))
             for w in works]
    calls[0]()
    torch.cuda.synchronize()
    parts = works[0].check(pool)
    us = peers.graph_time(calls, repeat=max(1, 20 // rounds))[0]
    ceiling = copy_time(peers, works[0].nbytes())
    name = row_name(work, form, fused)
    equal = ", ".join(f"{100 * part:.2f}%" for part in parts)
    print(f"{name:28}{count:6} rows {us:8.2f} us, copy {ceiling:8.2f}, "
          f"{us / ceiling:5.3f} times; equal to torch: {equal}", flush=True)
    found.append(dict(workload=f"{name} {count}", us=us, ceiling_us=ceiling,
                      bytes=works[0].nbytes(), equal=parts))


def main():
    options, peers = begin()
    ours, found = Ours("rows"), []
    for work in WORKS:
        for form in FORMS:
            for fused in (True, False):
                if not fused and (work, form) != ("norm_rotate", "scaled"):
                    continue
                if options.only not in row_name(work, form, fused):
                    continue
                for count in TOKENS:
                    bench(peers, ours, work, form, fused, count, found)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
