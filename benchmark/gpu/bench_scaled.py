# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Caches with scales, computed for each token and head, or given for each head:
attention beside the same bytes without scales, prompts over bf16, and a linear
read; writes of rows beside a linear copy.

    bench_scaled.py PEERS [--only TEXT] [--json FILE]

PEERS is peers.py, whose loop and workloads these are. Runs from a bundle.
"""

import argparse
import gc
import importlib.util
import json
from pathlib import Path

import kvtest
import numpy as np
import torch
from attention_programs import SCALED_FORMS, scaled_name

HERE = Path(__file__).resolve().parent
STORED = {"f8E4M3FN": torch.float8_e4m3fn, "i8": torch.int8,
          "bf16": torch.bfloat16}
LARGEST = {"f8E4M3FN": 448.0, "i8": 127.0}
TYPES = {torch.bfloat16: "bf16", torch.float16: "f16", torch.float32: "f32",
         torch.float8_e4m3fn: "f8E4M3FN", torch.float8_e5m2: "f8E5M2",
         torch.int8: "i8", torch.int32: "i32", torch.int64: "i64"}
WORKS = [dict(name="1x1k", kv_lens=[1024]), dict(name="8x1k", kv_lens=[1024] * 8),
         dict(name="1x32k", kv_lens=[32768]),
         dict(name="16x8k", kv_lens=[8192] * 16),
         dict(name="64x4k", kv_lens=[4096] * 64),
         dict(name="128x8k", kv_lens=[8192] * 128),
         dict(name="63x512+1x16k", kv_lens=[512] * 63 + [16384]),
         dict(name="256x1k 64/8", kv_lens=[1024] * 256, hq=64),
         dict(name="ragged 64", kv_lens="RAGGED"),
         dict(name="63x4k + 2k prompt", kv_lens=[4096] * 63 + [2048],
              q_lens=[1] * 63 + [2048]),
         dict(name="prompts 4x4k", kv_lens=[4096] * 4, q_lens=[4096] * 4),
         dict(name="prompt 1x16k", kv_lens=[16384], q_lens=[16384]),
         dict(name="2k on 16k", kv_lens=[16384], q_lens=[2048])]
TOKENS = [64, 1024, 8192, 32768]


def tensor(t):
    type_ = TYPES[t.dtype]
    result = kvtest.Tensor(np.zeros(1, kvtest.TYPES[type_][2]), type_,
                           list(t.shape), list(t.stride()),
                           device=kvtest.CUDA_DEVICE)
    result.dl.data = t.data_ptr()
    return result


class Ours:
    def __init__(self, name="scaled"):
        self.library = kvtest.Library(HERE / f"lib/cubin/lib{name}.so", name)
        self.workspace = torch.zeros(256 << 20, dtype=torch.uint8, device="cuda")

    def call(self, function, *tensors):
        args = [tensor(t) for t in tensors]
        def run():
            self.library.check_call(
                function, *args,
                stream=torch.cuda.current_stream().cuda_stream,
                workspace_pointer=self.workspace.data_ptr(),
                workspace_bytes=self.workspace.numel())
        run.keep = tensors
        return run


def quantised(rows, form, given=None):
    """Stored values and scales of [B, N, H, D]; by scales [H] if they are given."""
    # Of all pages at once there is no room.
    stored = torch.empty(rows.shape, dtype=STORED[form], device="cuda")
    if given is not None:
        scales = given.reshape(1, 1, -1, 1)
    else:
        scales = torch.empty([*rows.shape[:3], 1], device="cuda")
    # A quotient by a number of Python would be a product with its inverse.
    largest = torch.full((1,), LARGEST[form], device="cuda")
    for first in range(0, len(rows), 4096):
        part = rows[first : first + 4096].float()
        if given is not None:
            part = part * scales.reciprocal()
        else:
            most = part.abs().amax(-1, keepdim=True).clamp(min=2.0**-60)
            scales[first : first + 4096] = most / largest
            part = part * (largest / most)
        if form == "i8":
            part = part.round().clamp(-128, 127)
        else:
            part = part.clamp(-448, 448)
        stored[first : first + 4096] = part.to(STORED[form])
    return stored, scales


def numbers_of(stored, scales, pages):
    if scales is None:
        return stored[pages].float()
    return stored[pages].float() * (scales if len(scales) == 1
                                    else scales[pages])


def some_scales(form, heads):
    """Of the heads of numbers that are normal."""
    return (4 + torch.rand(heads, device="cuda")) / LARGEST[form]


def error_of(w, out, sides, table):
    """Relative, of last rows beside f32 on what is stored."""
    above = below = 0.0
    for r in sorted({0, len(w.kv) // 2, len(w.kv) - 1}):
        pages = table[r, : w.nb[r]].long()
        k, v = (numbers_of(*side, pages).reshape(-1, w.hk, w.d)[: w.kv[r]]
                .repeat_interleave(w.hq // w.hk, 1) for side in sides)
        row = int(w.q_start[r + 1]) - 1
        share = (torch.einsum("hd,khd->hk", w.q[row].float(), k)
                 * w.d**-0.5).softmax(-1)
        want = torch.einsum("hk,khd->hd", share, v)
        above += float((out[row].float() - want).square().sum())
        below += float(want.square().sum())
    return (above / below) ** 0.5


def bench_decode(peers, ours, work, found):
    if isinstance(work["kv_lens"], str):
        work = dict(work, kv_lens=getattr(peers, work["kv_lens"]))
    w = peers.Workload(**work)
    starts = w.q_start.cuda()
    for form, scales in SCALED_FORMS:
        if form == "bf16" and not work.get("q_lens"):
            continue
        if scales == "none":
            sides = [(x.to(STORED[form]), None) for x in (w.k, w.v)]
        else:
            given = some_scales(form, w.hk) if scales == "given" else None
            sides = [quantised(x, form, given) for x in (w.k, w.v)]
        calls, outs = [], []
        for table in w.tables:
            outs.append(torch.full_like(w.q, float("nan")))
            caches = [t for side in sides for t in side if t is not None]
            calls.append(ours.call(
                scaled_name("attend", form, scales, w.hq), w.q, *caches, starts,
                w.lens, table, outs[-1]))
        calls[0]()
        torch.cuda.synchronize()
        error = error_of(w, outs[0], sides, w.tables[0])
        us = peers.graph_time(calls, repeat=max(1, 20 // len(calls)))[0]
        of_tokens = 2 * w.hk * 4 * (scales == "computed")
        nbytes = sum(w.kv) * (2 * w.hk * w.d * sides[0][0].element_size()
                              + of_tokens)
        ceiling = peers.read_ceiling(nbytes)
        who = f"{form}, scales {scales}"
        print(f"{w.name:16}{who:26}{us:9.2f} us {100 * ceiling / us:6.1f}% "
              f"of {ceiling:.1f}  {w.flops() / us / 1e6:6.1f} TFLOP/s  "
              f"error {error:.1e}", flush=True)
        found.append(dict(workload=w.name, who=who, us=us, ceiling_us=ceiling,
                          bytes=nbytes, error=error, flops=w.flops()))
        del sides, calls, outs
        torch.cuda.empty_cache()


def bench_writes(peers, ours, found):
    """Rows of both sides to random slots, with a copy of as many bytes."""
    blocks, heads, channels = 8192, 8, 128
    for form, kind in SCALED_FORMS:
        if kind == "none":
            continue
        pool = torch.zeros(2, blocks, 16, heads, channels, device="cuda").to(
            STORED[form])
        given = some_scales(form, heads) if kind == "given" else None
        scales = torch.zeros(2, blocks, 16, heads, 1, device="cuda")
        if given is not None:
            scales = given.expand(2, heads).reshape(2, 1, 1, heads, 1).contiguous()
        for count in TOKENS:
            rounds = max(1, min(16, 2**16 // count))
            rows = [torch.randn(count, heads, channels, device="cuda").bfloat16()
                    for _ in range(2 * rounds)]
            calls = []
            for i in range(rounds):
                slots = torch.randperm(blocks * 16, device="cuda")[:count]
                calls.append(ours.call(scaled_name("write", form, kind), pool,
                                       scales, slots, *rows[2 * i : 2 * i + 2]))
            calls[-1]()
            torch.cuda.synchronize()
            stored, own = quantised(rows[-2][None], form, given)
            block, token = slots // 16, slots % 16
            same = (pool[0, block, token].view(torch.uint8)
                    == stored[0].view(torch.uint8)).float().mean().item()
            close = given is not None or torch.equal(scales[0, block, token],
                                                     own[0])
            us = peers.graph_time(calls, repeat=max(1, 20 // rounds))[0]
            nbytes = 2 * count * (heads * channels * 3 + 8
                                  + heads * 4 * (kind == "computed"))
            ceiling = copy_time(peers, nbytes)
            print(f"write {count:6} {form + ', ' + kind:20}{us:9.2f} us, copy "
                  f"{ceiling:8.2f}, {us / ceiling:5.3f} times; {100 * same:.3f}% "
                  f"of bytes and scales {'equal' if close else 'differ from'} "
                  f"those of torch", flush=True)
            found.append(dict(workload=f"write {count}", who=f"{form}, {kind}",
                              us=us, ceiling_us=ceiling, bytes=nbytes,
                              error=1 - same))


def copy_time(peers, nbytes):
    """Of a copy that reads and writes so many bytes in all."""
    half = nbytes // 32 * 16
    copies = max(1, min(16, int(300e6 / half)))
    source, dest = (torch.empty(copies, half, dtype=torch.uint8, device="cuda")
                    for _ in range(2))
    calls = [lambda i=i: dest[i].copy_(source[i]) for i in range(copies)]
    return peers.graph_time(calls, repeat=max(1, 20 // copies))[0]


def begin():
    """The options of a command, and the module of the peers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("peers")
    parser.add_argument("--only", default="")
    parser.add_argument("--json")
    options = parser.parse_args()
    spec = importlib.util.spec_from_file_location("peers", options.peers)
    peers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peers)
    return options, peers


def main():
    options, peers = begin()
    ours, found = Ours(), []
    if options.only in "writes":
        bench_writes(peers, ours, found)
    for work in WORKS:
        if options.only in work["name"]:
            bench_decode(peers, ours, work, found)
            gc.collect()
            torch.cuda.empty_cache()
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
