# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Attention beside peers, in their loop and on their inputs.

usage: bench_attention.py PEERS [--only TEXT] [--peers] [--json FILE]

PEERS is the file peers.py, which has workloads, timing and the ceiling; with
--peers what it finds runs too.
"""

import argparse
import gc
import importlib.util
import json
import sys
from pathlib import Path

import kvtest
import numpy as np
import torch

HERE = Path(__file__).resolve().parent
EMPTY = {"bf16": np.zeros(1, np.uint16), "i32": np.zeros(1, np.int32)}
TYPES = {torch.bfloat16: "bf16", torch.int32: "i32"}


def tensor(t):
    result = kvtest.Tensor(EMPTY[TYPES[t.dtype]], TYPES[t.dtype], list(t.shape),
                           list(t.stride()), device=kvtest.CUDA_DEVICE)
    result.dl.data = t.data_ptr()
    return result


class Ours:
    capture = True

    def __init__(self, name, suffix=""):
        self.name, self.suffix = name, suffix
        self.libraries = {
            facts: kvtest.Library(HERE / f"lib/cubin/libattention{facts}.so",
                                  f"attention{facts}")
            for facts in {suffix, suffix or "_hnd"}}
        self.workspace = torch.zeros(64 << 20, dtype=torch.uint8, device="cuda")

    def make(self, w):
        # The order of a pool is part of its type; the kernel is the same.
        facts = self.suffix or ("_hnd" if w.layout == "hnd" else "")
        function = f"attention_{w.hq}_{w.hk}_bf16{facts}"
        starts = w.q_start.to("cuda")
        calls = []
        for table in w.tables:
            out = torch.full_like(w.q, float("nan"))
            args = [tensor(t) for t in (w.q, w.k, w.v, starts, w.lens, table,
                                        out)]
            def call(args=args, out=out, keep=starts):
                stream = torch.cuda.current_stream().cuda_stream
                self.libraries[facts].check_call(
                    function, *args, stream=stream,
                    workspace_pointer=self.workspace.data_ptr(),
                    workspace_bytes=self.workspace.numel())
                return out
            calls.append(call)
        return calls


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("peers")
    parser.add_argument("--only", default="")
    parser.add_argument("--peers", dest="with_peers", action="store_true")
    parser.add_argument("--layouts", action="store_true")
    parser.add_argument("--seed4", action="store_true")
    parser.add_argument("--generic", action="store_true")
    parser.add_argument("--prefill", action="store_true")
    parser.add_argument("--json")
    options = parser.parse_args()
    spec = importlib.util.spec_from_file_location("peers", options.peers)
    peers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peers)
    who = [Ours("kvcache")]
    if options.generic:
        who.append(Ours("kvcache generic", "_generic"))
    if options.with_peers:
        who += peers.found_peers()
    works = [w for w in peers.DECODE if "strided" not in w["name"]]
    if options.layouts:
        works = [dict(w, name=f"{w['name']} {layout}", layout=layout)
                 for w in works for layout in ("nhd", "strided", "cross", "hnd")
                 if not (layout == "cross" and "128x8k" in w["name"])]
    if options.seed4:
        works += [peers.seed4(layout, case) for case in ("d-long", "a", "b", "c")
                  for layout in ("nhd", "strided")]
    if options.prefill:
        works += peers.PREFILL
    only = options.only.split(",")
    results = []
    for work in works:
        if not any(text in work["name"] for text in only):
            continue
        w = peers.Workload(**work)
        ceiling = peers.read_ceiling(w.bytes)
        for peer in who:
            try:
                calls = peer.make(w)
                if not calls:
                    continue
                error = w.error(calls[0]())
                if peer.capture:
                    us, low, high = peers.graph_time(
                        calls, repeat=max(1, 20 // len(calls)))
                else:
                    us, low, high = peers.profiler_time(calls[0])
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
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)
            file.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
