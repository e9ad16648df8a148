# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Time to compile one product, and a model of 24 layers of 12 operations."""

import os
import resource
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
os.environ.setdefault("KV_BUILD_DIR", str(ROOT / "build"))
os.environ["PATH"] = str(ROOT / "build/bin") + os.pathsep + os.environ["PATH"]
sys.path.insert(0, str(ROOT / "test/numerics"))
from kvtest import compile_library  # noqa: E402


def timed(program, name):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    compile_library(program, name)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def product(x, k, w, n, y):
    return f"""
  linalg.generic {{indexing_maps = [affine_map<(m, n, k) -> (m, k)>,
      affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>],
      iterator_types = ["parallel", "parallel", "reduction"]}}
      ins({x}, {w} : memref<?x{k}xf32>, memref<{n}x{k}xf32>)
      outs({y} : memref<?x{n}xf32>) {{
    ^bb0(%a: f32, %b: f32, %c: f32):
      %p = arith.mulf %a, %b : f32
      %s = arith.addf %c, %p : f32
      linalg.yield %s : f32
  }}"""


def rowwise(x, n, y, body):
    return f"""
  linalg.generic {{indexing_maps = [affine_map<(m, n) -> (m, n)>,
      affine_map<(m, n) -> (m, n)>], iterator_types = ["parallel", "parallel"]}}
      ins({x} : memref<?x{n}xf32>) outs({y} : memref<?x{n}xf32>) {{
    ^bb0(%a: f32, %o: f32):
      {body}
      linalg.yield %r : f32
  }}"""


D, F = 1024, 4096
LAYER = "".join([
    rowwise("%x", D, "%t", "%r = math.rsqrt %a : f32"),
    product("%t", D, "%wq", D, "%q"), product("%t", D, "%wk", 256, "%k"),
    product("%t", D, "%wv", 256, "%k"),
    rowwise("%q", D, "%q", "%r = math.sin %a : f32"),
    product("%q", D, "%wo", D, "%x"),
    rowwise("%x", D, "%t", "%r = arith.addf %o, %a : f32"),
    product("%t", D, "%wg", F, "%g"), product("%t", D, "%wu", F, "%u"),
    rowwise("%g", F, "%u", "%e = math.exp %a : f32\n"
            "      %r = arith.mulf %o, %e : f32"),
    product("%u", F, "%wd", D, "%x"),
    rowwise("%t", D, "%x", "%r = arith.addf %o, %a : f32"),
])
SIGNATURE = ", ".join(
    [f"%{a}: memref<?x{D}xf32>" for a in "xtq"]
    + ["%k: memref<?x256xf32>"] + [f"%{a}: memref<?x{F}xf32>" for a in "gu"]
    + [f"%w{a}: memref<{D}x{D}xf32>" for a in "qo"]
    + [f"%w{a}: memref<256x{D}xf32>" for a in "kv"]
    + [f"%w{a}: memref<{F}x{D}xf32>" for a in "gu"]
    + [f"%wd: memref<{D}x{F}xf32>"])


def program(body):
    return f"func.func @model({SIGNATURE}) {{{body}\n  return\n}}\n"


one = timed(program(product("%t", D, "%wq", D, "%q")), "one")
model = timed(program(LAYER * 24), "model")
print(f"one product {one:.2f} s, 24 layers of 12 operations {model:.2f} s")
