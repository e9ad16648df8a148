# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Pools that are converted by relayout, from each format to each other one, beside
a copy of as many bytes.

    bench_relayout.py PEERS [--only TEXT] [--json FILE]

PEERS is peers.py, whose loop this is. Runs from a bundle.
"""

import json
from pathlib import Path

import torch
from bench_scaled import Ours, begin, copy_time, some_scales
from relayout_programs import FORMS, form_of, pairs, relayout_name

BLOCKS, TOKENS, HEADS, CHANNELS = 4096, 16, 8, 128
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16,
          "f8E4M3FN": torch.float8_e4m3fn, "f8E5M2": torch.float8_e5m2,
          "i8": torch.int8}


def pool_of(name):
    """Random contents, and their scales if there are some."""
    stored, scales = form_of(name)
    shape = (2, BLOCKS, TOKENS, HEADS, CHANNELS)
    largest = 1 if scales == "none" else 127 if stored == "i8" else 448
    numbers = torch.randn(shape, device="cuda").clamp(-4, 4)
    # The largest of a head are the largest ones of its format.
    numbers *= largest / 4 if scales != "none" else 1
    pool = [numbers.to(DTYPES[stored])]
    if scales == "computed":
        pool.append((torch.rand(*shape[:-1], 1, device="cuda") + 3) / largest)
    elif scales == "given":
        form = "i8" if stored == "i8" else "f8E4M3FN"
        pool.append(some_scales(form, 2 * HEADS).reshape(2, 1, 1, HEADS, 1))
    return pool


def numbers(pool):
    values = pool[0][:, :64].float()
    return values if len(pool) == 1 else values * pool[1][:, :64]


def nbytes(name, pool):
    return sum(part.numel() * part.element_size() for part in pool
               if part.shape[1] != 1)


def bench(peers, ours, source, dest, found):
    pools = {}
    for name in (source, dest):
        pools[name] = [pool_of(name) for _ in range(2)]
    calls = [ours.call(relayout_name(source, dest), *a, *b)
             for a, b in zip(pools[source], pools[dest])]
    calls[0]()
    torch.cuda.synchronize()
    want, got = numbers(pools[source][0]), numbers(pools[dest][0])
    error = ((got - want).norm() / want.norm()).item()
    us = peers.graph_time(calls, repeat=8)[0]
    moved = sum(nbytes(name, pools[name][0]) for name in (source, dest))
    ceiling = copy_time(peers, moved)
    print(f"{source:20} to {dest:20}{us:9.2f} us {100 * ceiling / us:6.1f}% of a "
          f"copy, error {error:.1e}", flush=True)
    found.append(dict(source=source, dest=dest, us=us, ceiling_us=ceiling,
                      bytes=moved, error=error))


def main():
    options, peers = begin()
    ours, found = Ours("relayouts"), []
    for source, dest in pairs():
        if options.only in f"{source} {dest}":
            bench(peers, ours, source, dest, found)
    shares = [x["ceiling_us"] / x["us"] for x in found]
    print(f"{len(found)} pairs of {len(FORMS)} forms: {100 * min(shares):.1f}% at "
          f"least")
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
