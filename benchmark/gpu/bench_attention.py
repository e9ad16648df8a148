# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Attention beside peers, in their loop and on their inputs.

usage: bench_attention.py PEERS [--only TEXT] [--peers] [--json FILE]

PEERS is the file peers.py, which has workloads, timing and the ceiling; with
--peers what it finds runs too. With --rows there are batches with several rows
for a request; with --bursts calls take turns with a matrix product of 8192^3,
each after a pause in which the chip cools down; --windowed runs a prompt with a
window and sinks, and nothing else; --masked runs trees and spans beside the same
rows without a mask. With --prefixes PEERS is peers_more.py, and
the batches are those whose requests begin with the same blocks. With --pages
there are prompts over pools of several layouts and page sizes, and nothing else;
with --sm80 our libraries are those compiled for sm_80;
with --bytes, where PEERS is peers_more.py too, caches are of f8E4M3FN. With
--invariant, batch invariant attention runs beside it, in NHD.
"""

import argparse
import gc
import importlib.util
import json
import statistics
import sys
import time
from pathlib import Path

import kvtest
import numpy as np
import torch
from attention_programs import (INVARIANT, MASKED, PAGES, PREFIXED, WINDOWED,
                                function_name)

HERE = Path(__file__).resolve().parent
EMPTY = {"bf16": np.zeros(1, np.uint16), "i32": np.zeros(1, np.int32),
         "f32": np.zeros(1, np.float32), "f8E4M3FN": np.zeros(1, np.uint8)}
TYPES = {torch.bfloat16: "bf16", torch.int32: "i32", torch.float32: "f32",
         torch.float8_e4m3fn: "f8E4M3FN"}


def tensor(t):
    result = kvtest.Tensor(EMPTY[TYPES[t.dtype]], TYPES[t.dtype], list(t.shape),
                           list(t.stride()), device=kvtest.CUDA_DEVICE)
    result.dl.data = t.data_ptr()
    return result


class Ours:
    capture = True
    ending = ""
    folder = "cubin"

    def __init__(self, name, suffix=""):
        self.name, self.suffix = name, suffix
        self.libraries = {
            facts: kvtest.Library(HERE / f"lib/{self.folder}/libattention{facts}.so",
                                  f"attention{facts}")
            for facts in {suffix, suffix or "_hnd"}}
        self.workspace = torch.zeros(64 << 20, dtype=torch.uint8, device="cuda")

    def prefixes(self, w):
        return []

    def make(self, w):
        # The order of a pool is part of its type; the kernel is the same.
        facts = self.suffix or ("_hnd" if w.layout == "hnd" else "")
        function = function_name(w.hq, w.hk, w.d, TYPES[w.k.dtype], facts, w.page)
        function += self.ending
        starts = w.q_start.to("cuda")
        calls, prefixes = [], self.prefixes(w)
        if prefixes:
            function = PREFIXED[0]
        for table in w.tables:
            out = torch.full_like(w.q, float("nan"))
            args = [tensor(t) for t in (w.q, w.k, w.v, starts, w.lens, table,
                                        *prefixes, out)]
            def call(args=args, out=out, keep=(starts, prefixes)):
                stream = torch.cuda.current_stream().cuda_stream
                self.libraries[facts].check_call(
                    function, *args, stream=stream,
                    workspace_pointer=self.workspace.data_ptr(),
                    workspace_bytes=self.workspace.numel())
                return out
            calls.append(call)
        return calls


class OursInvariant(Ours):
    ending = INVARIANT


class OursWithPrefixes(Ours):
    def prefixes(self, w):
        return [torch.tensor(numbers, dtype=torch.int32, device="cuda")
                for numbers in ([0, len(w.kv)], [w.shared])]


ROWS = [
    dict(name="speculative 32x4k, 4 rows", kv_lens=[4096] * 32,
         q_lens=[4] * 32),
    dict(name="speculative 8x2k, 8 rows", kv_lens=[2048] * 8, q_lens=[8] * 8),
    dict(name="30x2k and 512 rows on 8k", kv_lens=[2048] * 30 + [8192],
         q_lens=[1] * 30 + [512]),
    dict(name="24x6k 96/8", kv_lens=[6144] * 24, hq=96),
    dict(name="8k prompt 64/8", kv_lens=[8192], q_lens=[8192], hq=64),
    dict(name="16k prompt 64/8", kv_lens=[16384], q_lens=[16384], hq=64),
    dict(name="8k prompt 64/8 x 64", kv_lens=[8192], q_lens=[8192], hq=64,
         d=64),
    dict(name="8k prompt 8/4 x 256", kv_lens=[8192], q_lens=[8192], hq=8, hk=4,
         d=256),
]


def bench_windowed(peers, with_peers):
    """A prompt with a window and sinks beside FlashInfer, whose window it has, but
    no sinks."""
    name, heads, kv_heads, channels, window = WINDOWED
    w = peers.Workload(name="8k prompt 64/8 x 64, window", kv_lens=[8192],
                       q_lens=[8192], hq=heads, hk=kv_heads, d=channels)
    sinks = torch.randn(heads, device="cuda")
    ours = Ours("kvcache")
    out = torch.full_like(w.q, float("nan"))
    args = [tensor(t) for t in (w.q, w.k, w.v, w.q_start.to("cuda"), w.lens,
                                w.tables[0], sinks, out)]
    def call():
        ours.libraries[""].check_call(
            name, *args, stream=torch.cuda.current_stream().cuda_stream,
            workspace_pointer=ours.workspace.data_ptr(),
            workspace_bytes=ours.workspace.numel())
    call()
    pages = w.tables[0][0].long()
    k, v = (x[pages].float().reshape(-1, kv_heads, channels)[: w.kv[0]]
            .repeat_interleave(heads // kv_heads, 1) for x in (w.k, w.v))
    worst = 0
    for row in (0, 5, 127, 128, 4000, 8191):
        first = max(row - window + 1, 0)
        scores = torch.einsum("hd,khd->hk", w.q[row].float(),
                              k[first : row + 1]) * channels**-0.5
        share = torch.cat([scores, sinks[:, None]], 1).softmax(-1)[:, :-1]
        expected = torch.einsum("hk,khd->hd", share, v[first : row + 1])
        worst = max(worst, float((out[row].float() - expected).norm() /
                                 expected.norm()))
    results = [("kvcache", peers.graph_time([call])[0], worst)]
    if with_peers:
        info = peers.FlashInfer()
        wrapper = info.fi.BatchPrefillWithPagedKVCacheWrapper(
            info.space, "NHD", backend="fa2")
        as_list = lambda *n: torch.tensor(n, dtype=torch.int32, device="cuda")
        wrapper.plan(w.q_start.to("cuda"), as_list(0, w.nb[0]), w.flat[0],
                     as_list(16), heads, kv_heads, channels, 16, causal=True,
                     window_left=window - 1, q_data_type=torch.bfloat16,
                     kv_data_type=torch.bfloat16)
        theirs = torch.empty_like(w.q)
        run = lambda: wrapper.run(w.q, (w.k, w.v), out=theirs)
        results.append((info.name, peers.graph_time([run])[0], float("nan")))
    for who, us, error in results:
        print(f"{w.name:28}{who:17}{us:9.2f} us  error {error:.1e}", flush=True)
    return [dict(workload=w.name, who=who, us=us, error=error)
            for who, us, error in results]


def tree_words(rows):
    """A binary tree: a row sees itself and the rows above it."""
    words = torch.zeros(rows, -(-rows // 32), dtype=torch.int64)
    for row in range(rows):
        if row:
            words[row] = words[(row - 1) // 2]
        words[row, row // 32] |= 1 << row % 32
    return words


def bench_masked(peers):
    """Rows with a mask, and the same without one, which take turns."""
    ours, found = Ours("kvcache"), []
    plain = function_name(32, 8, 128, "bf16", "")
    for name, lengths, rows, options, words in (
            ("trees of 8 on 32x4k", [4096] * 32, 8, "causal", tree_words(8)),
            ("trees of 64 on 8x4k", [4096] * 8, 64, "causal", tree_words(64)),
            ("prompts 4x4k, all bits", [4096] * 4, 4096, "causal",
             torch.full((4096, 128), 2**32 - 1)),
            ("prompts 4x4k both ways", [4096] * 4, 4096, "",
             torch.full((4096, 128), 2**32 - 1))):
        w = peers.Workload(name=name, kv_lens=lengths,
                           q_lens=[rows] * len(lengths))
        mask = torch.where(words > 2**31 - 1, words - 2**32, words).int()
        mask = mask.repeat(len(lengths), 1).cuda()
        out = torch.empty_like(w.q)
        given = [w.q, w.k, w.v, w.q_start.to("cuda"), w.lens, w.tables[0]]

        def call(function, *more):
            args = [tensor(t) for t in (*given, *more, out)]
            return lambda: ours.libraries[""].check_call(
                function, *args, stream=torch.cuda.current_stream().cuda_stream,
                workspace_pointer=ours.workspace.data_ptr(),
                workspace_bytes=ours.workspace.numel())
        graphs = [capture(call(plain)), capture(call(MASKED[options], mask))]
        for who, us, hot in zip(("causal", "mask"), *bursts(graphs)):
            print(f"{name:28}{who:10}cool {us:9.2f} us, hot {hot:9.2f} us",
                  flush=True)
            found.append(dict(workload=name, who=who, us=us, hot_us=hot))
    return found


def capture(call):
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            call()
    torch.cuda.synchronize()
    return graph


def bursts(graphs, rounds=9, calls=3, pause=0.04):
    """Microseconds of a call of each graph, which take turns: the median of what
    a few calls take after a pause, and again without pauses for two seconds."""
    def timed(graph):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(calls):
            graph.replay()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) * 1000 / calls

    cool = [[] for _ in graphs]
    for _ in range(rounds):
        for graph, times in zip(graphs, cool):
            time.sleep(pause)
            times.append(timed(graph))
    hot = [[] for _ in graphs]
    stop = time.monotonic() + 2
    while time.monotonic() < stop:
        for graph, times in zip(graphs, hot):
            times.append(timed(graph))
    half = [times[len(times) // 2 :] for times in hot]
    return ([statistics.median(t) for t in cool],
            [statistics.median(t) for t in half])


def bursts_of_kernels(call, product, rounds=9, calls=3, pause=0.04):
    """The same for a call that cannot be captured, by the times of its kernels of
    attention."""
    from torch.profiler import ProfilerActivity, profile

    def kernels(run):
        with profile(activities=[ProfilerActivity.CUDA]) as record:
            run()
            torch.cuda.synchronize()
        return sum(event.device_time for event in record.events()
                   if "flash" in event.name)

    def several():
        for _ in range(calls):
            call()

    cool = []
    for _ in range(rounds):
        time.sleep(pause)
        cool.append(kernels(several) / calls)
        product.replay()
    turns = 0

    def in_turns(seconds):
        nonlocal turns
        turns = 0
        stop = time.monotonic() + seconds
        while time.monotonic() < stop:
            several()
            for _ in range(calls):
                product.replay()
            torch.cuda.synchronize()
            turns += 1

    in_turns(1.5)
    hot = kernels(lambda: in_turns(0.5))
    return statistics.median(cool), hot / turns / calls


def bench_bursts(peers, who, works):
    side = 8192
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16)
            for _ in range(2))
    c = torch.empty_like(a)
    product = capture(lambda: torch.mm(a, b, out=c))
    results = []
    for work in works:
        w = peers.Workload(**work)
        for peer in who:
            calls = peer.make(w)
            if not calls:
                continue
            error = w.error(calls[0]())
            if not peer.capture:
                cool, hot = bursts_of_kernels(calls[0], product)
                results.append(dict(
                    workload=w.name, who=peer.name, us=cool, hot_us=hot,
                    tflops=w.flops() / cool / 1e6,
                    hot_tflops=w.flops() / hot / 1e6, error=error))
                print(f"{w.name:26}{peer.name:17}cool {cool:9.1f} us "
                      f"{w.flops() / cool / 1e6:6.1f} TFLOP/s   hot {hot:9.1f} "
                      f"us {w.flops() / hot / 1e6:6.1f} TFLOP/s   error "
                      f"{error:.1e}", flush=True)
                continue
            cool, hot = bursts([capture(calls[0]), product])
            rates = [[flops / us / 1e6 for flops, us in
                      zip((w.flops(), 2 * side**3), times)]
                     for times in (cool, hot)]
            results.append(dict(workload=w.name, who=peer.name, us=cool[0],
                                hot_us=hot[0], tflops=rates[0][0],
                                hot_tflops=rates[1][0], matmul=rates[0][1],
                                hot_matmul=rates[1][1], error=error))
            print(f"{w.name:26}{peer.name:17}" + "".join(
                f"{state} {us[0]:9.1f} us {rate[0]:6.1f} TFLOP/s, matmul "
                f"{rate[1]:6.1f}   " for state, us, rate in
                zip(("cool", "hot"), (cool, hot), rates)) +
                f"error {error:.1e}", flush=True)
        del w, calls
        gc.collect()
        torch.cuda.empty_cache()
    return results


def save(results, name):
    if not name:
        return
    with open(name, "w") as file:
        json.dump(results, file, indent=1)
        file.write("\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("peers")
    parser.add_argument("--only", default="")
    parser.add_argument("--peers", dest="with_peers", action="store_true")
    parser.add_argument("--layouts", action="store_true")
    parser.add_argument("--seed4", action="store_true")
    parser.add_argument("--invariant", action="store_true")
    parser.add_argument("--generic", action="store_true")
    parser.add_argument("--prefill", action="store_true")
    parser.add_argument("--rows", action="store_true")
    parser.add_argument("--bursts", action="store_true")
    parser.add_argument("--windowed", action="store_true")
    parser.add_argument("--masked", action="store_true")
    parser.add_argument("--prefixes", action="store_true")
    parser.add_argument("--pages", action="store_true")
    parser.add_argument("--bytes", action="store_true")
    parser.add_argument("--sm80", action="store_true")
    parser.add_argument("--json")
    options = parser.parse_args()
    if options.sm80:
        Ours.folder = "sm_80"
    spec = importlib.util.spec_from_file_location("peers", options.peers)
    sys.path.insert(0, str(Path(options.peers).resolve().parent))
    peers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peers)
    if options.windowed:
        save(bench_windowed(peers, options.with_peers), options.json)
        return 0
    if options.masked:
        save(bench_masked(peers), options.json)
        return 0
    beside = getattr(peers, "peers", peers)
    who = [Ours("kvcache")]
    if options.generic:
        who.append(Ours("kvcache generic", "_generic"))
    if options.invariant:
        who.append(OursInvariant("kvcache invariant"))
    if options.with_peers:
        who += beside.found_peers()
    works = [w for w in beside.DECODE if "strided" not in w["name"]]
    if options.layouts:
        works = [dict(w, name=f"{w['name']} {layout}", layout=layout)
                 for w in works for layout in ("nhd", "strided", "cross", "hnd")
                 if not (layout == "cross" and "128x8k" in w["name"])]
    if options.seed4:
        works += [beside.seed4(layout, case) for case in ("d-long", "a", "b", "c")
                  for layout in ("nhd", "strided")]
    if options.prefill:
        works += beside.PREFILL
    if options.rows:
        works += ROWS
    if options.pages:
        works = [dict(w, name=f"{w['name']} {layout} {page}", layout=layout,
                      page=page)
                 for w in beside.PREFILL
                 for page in PAGES for layout in ("nhd", "strided", "cross", "hnd")]
    kind = beside.Workload
    if options.prefixes:
        kind, works = peers.CascadeWorkload, peers.CASCADE
        who.append(OursWithPrefixes("kvcache prefixes"))
        if options.with_peers:
            who += peers.found_more()
    if options.bytes:
        kind, works = peers.Fp8Workload, [
            dict(w, layout=layout) for w in peers.FP8
            for layout in ("nhd", "hnd")]
        works = [dict(w, name=f"{w['name']} {w['layout']}") for w in works]
        if options.with_peers:
            who += peers.found_more()
    only = options.only.split(",")
    works = [w for w in works if any(text in w["name"] for text in only)]
    if options.bursts:
        save(bench_bursts(peers, who, works), options.json)
        return 0
    results = []
    for work in works:
        w = kind(**work)
        ceiling = beside.read_ceiling(w.bytes)
        for peer in who:
            try:
                calls = peer.make(w)
                if not calls:
                    continue
                error = w.error(calls[0]())
                if peer.capture:
                    us, low, high = beside.graph_time(
                        calls, repeat=max(1, 20 // len(calls)))
                else:
                    us, low, high = beside.profiler_time(calls[0])
            except Exception as problem:
                print(f"FAIL {w.name} {peer.name}: {type(problem).__name__}: "
                      f"{str(problem)[:300]}", flush=True)
                continue
            results.append(dict(
                workload=w.name, who=peer.name, us=us, low=low, high=high,
                error=error, ceiling_us=ceiling, bytes=w.bytes,
                flops=w.flops()))
            print(f"{w.name:26}{peer.name:17}{us:9.2f} us "
                  f"{100 * ceiling / us:6.1f}% of {ceiling:.1f}  "
                  f"{w.flops() / us / 1e6:6.1f} TFLOP/s  error {error:.1e}",
                  flush=True)
        del w, calls
        gc.collect()
        torch.cuda.empty_cache()
    save(results, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
