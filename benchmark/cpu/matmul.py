# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Matrix products of activations and weights on one thread, beside NumPy's.

Each figure is the best of the repetitions, alternating between the two, so that
both see the same machine; times are those of the thread, without what others take
from it. Weights are larger than the last-level cache.
"""

import argparse
import os
import sys
import time
from pathlib import Path

# OpenBLAS reads it when it is loaded.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy as np  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
os.environ.setdefault("KV_BUILD_DIR", str(ROOT / "build"))
os.environ["PATH"] = str(ROOT / "build/bin") + os.pathsep + os.environ["PATH"]
sys.path.insert(0, str(ROOT / "test/numerics"))
from kvtest import Tensor, compile_library  # noqa: E402


def program(k, n, element, transposed):
    """The product as a model compiler writes it, extended in the body."""
    weights = f"{n}x{k}" if transposed else f"{k}x{n}"
    w_map = "(n, k)" if transposed else "(k, n)"
    extend = "" if element == "f32" else f"""
      %a1 = arith.extf %a : {element} to f32
      %b1 = arith.extf %b : {element} to f32"""
    x, y = ("%a", "%b") if element == "f32" else ("%a1", "%b1")
    return f"""
func.func @product(%x: memref<?x{k}x{element}>, %w: memref<{weights}x{element}>,
                   %y: memref<?x{n}xf32>) {{
  %zero = arith.constant 0.0 : f32
  linalg.fill ins(%zero : f32) outs(%y : memref<?x{n}xf32>)
  linalg.generic {{
      indexing_maps = [affine_map<(m, n, k) -> (m, k)>,
                       affine_map<(m, n, k) -> {w_map}>,
                       affine_map<(m, n, k) -> (m, n)>],
      iterator_types = ["parallel", "parallel", "reduction"]}}
      ins(%x, %w : memref<?x{k}x{element}>, memref<{weights}x{element}>)
      outs(%y : memref<?x{n}xf32>) {{
    ^bb0(%a: {element}, %b: {element}, %c: f32):{extend}
      %p = arith.mulf {x}, {y} : f32
      %s = arith.addf %c, %p : f32
      linalg.yield %s : f32
  }}
  return
}}
"""


def best(repeat, *functions):
    times = [[] for _ in functions]
    for _ in range(repeat):
        for function, taken in zip(functions, times):
            start = time.thread_time()
            function()
            taken.append(time.thread_time() - start)
    return [min(t) for t in times]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="1,7,128,2048")
    parser.add_argument("--shapes", default="4096x4096,4096x14336")
    parser.add_argument("--types", default="f32,bf16")
    parser.add_argument("--cpu", default="x86-64-v3")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    print("| K x N | weights | T | GFLOP/s | GB/s | NumPy GFLOP/s |")
    print("|---|---|---|---|---|---|")
    for shape in args.shapes.split(","):
        k, n = map(int, shape.split("x"))
        w = rng.standard_normal((k, n), np.float32)
        for element in args.types.split(","):
            for transposed in (False, True):
                library = compile_library(program(k, n, element, transposed),
                                          f"m{k}_{n}_{element}_{transposed:d}",
                                          "cpu", f"--cpu={args.cpu}")
                stored = np.ascontiguousarray(w.T if transposed else w)
                raw = stored.reshape(-1)
                if element == "bf16":
                    raw = (raw.view(np.uint32) >> 16).astype(np.uint16)
                for t in map(int, args.rows.split(",")):
                    x = rng.standard_normal((t, k), np.float32)
                    xs = x.reshape(-1)
                    if element == "bf16":
                        xs = (xs.view(np.uint32) >> 16).astype(np.uint16)
                    y = np.zeros(t * n, np.float32)
                    arguments = (Tensor(xs, element, (t, k)),
                                 Tensor(raw, element, stored.shape),
                                 Tensor(y, "f32", (t, n)))
                    ours = lambda: library.check_call("product", *arguments)
                    right = stored.T if transposed else stored
                    out = np.empty((t, n), np.float32)
                    repeat = args.repeat * (10 if t < 64 else 1)
                    mine, theirs = best(
                        repeat, ours, lambda: np.matmul(x, right, out=out))
                    if element == "f32":
                        error = np.abs(y.reshape(t, n) - out).max()
                        assert error < 1e-2, error
                    flops = 2 * t * k * n
                    print(f"| {k} x {n} {element} | "
                          f"{'[N, K]' if transposed else '[K, N]'} | {t} | "
                          f"{flops / mine / 1e9:.1f} | "
                          f"{raw.nbytes / mine / 1e9:.1f} | "
                          f"{flops / theirs / 1e9:.1f} |", flush=True)


main()
