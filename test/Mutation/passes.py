# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""No pass crashes, hangs or makes an invalid program, whatever it is given.

Each pass and each pipeline of this project runs alone on

  * values that are made of themselves, which is valid where code is not
    reachable: a ring of each operation that a pass follows backwards
  * programs of other compilers, and the same broken in many small ways: such
    programs are of no form that a pass was written for

A pass may refuse a program with an error. It must end within the time limit,
and what it makes of a valid program must be valid.
"""

import argparse
import collections
import concurrent.futures
import os
import re
import subprocess
import sys

import mutate

FOREIGN = ["Raise/raise-*.mlir", "Raise/Inputs/*.mlir"]
FOREIGN += ["Mutation/Inputs/foreign.mlir", "Transforms/copy-carried-tensors.mlir"]
KV = "!kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>"
PART = KV.replace("bf16", "bf16, strides = [S = ? mult 16384]")
K = "!kvcache.cache<?B x 16N x 8H x 128D x bf16>"
CROSS = "!kvcache.cache<4L x ?B x 16N x 64D x f32>"
LAYER = "!kvcache.cache<?B x 16N x 64D x f32>"
BATCH = "!kvcache.batch<?R x ?M x i32, tokens = 16, positions = i64>"
SLOTS = "!kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>"
TABLE = "!kvcache.block_table<?R x ?M x i32, tokens = 16>"
MEM = "memref<2x?x16x8x128xbf16>"
STRIDED = "memref<4x4xf32, strided<[4, 1], offset: ?>>"
POOL = "tensor<64x16x8x128xf32>"
LIST = "tensor<7xi32>"
ROWS = "tensor<7x8x128xf32>"
back = 'builtin.unrealized_conversion_cast'

# Each ring defines %x; the type of it follows.
RINGS = {
    "memref.cast": (f"%x = memref.cast %x : {MEM} to {MEM}", MEM),
    "kvcache.cast": (f"%x = kvcache.cast %x : {KV} to {KV}", KV),
    "two casts": (f"%x = kvcache.cast %y : {KV} to {KV}\n"
                  f"%y = kvcache.cast %x : {KV} to {KV}", KV),
    "subpool": (f"%x = kvcache.subpool %x[%i, %i] : {PART}", PART),
    "heads": (f"%x = kvcache.heads %x[0, 8] : {KV}", KV),
    "side": (f"%x = {back} %s : {K} to {KV}\n%s = kvcache.side %x[0] : {KV}", KV),
    "layer": (f"%x = {back} %s : {LAYER} to {CROSS}\n"
              f"%s = kvcache.layer %x[%i] : {CROSS}", CROSS),
    "storage and view": (f"%x = kvcache.view %m : {MEM} to {KV}\n"
                         f"%m = kvcache.storage %x : {KV} to {MEM}", KV),
    "reshape": (f"%x = kvcache.reshape %x : {K} to {K}", K),
    "memref.subview": ("%x = memref.subview %x[0, 0] [4, 4] [1, 1] : "
                       f"{STRIDED} to {STRIDED}", STRIDED),
    "memref.transpose": ("%x = memref.transpose %x (a, b) -> (a, b) : "
                         f"{STRIDED} to {STRIDED}", STRIDED),
    "memref.reshape": (
        "%y = memref.expand_shape %x [[0, 1], [2]] output_shape [4, 4, 4] : "
        "memref<16x4xf32> into memref<4x4x4xf32>\n"
        "%x = memref.collapse_shape %y [[0, 1], [2]] : "
        "memref<4x4x4xf32> into memref<16x4xf32>", "memref<16x4xf32>"),
    "make_slots": (f"%x = kvcache.make_slots %m : memref<?xi64> to {SLOTS}\n"
                   f"%m = {back} %x : {SLOTS} to memref<?xi64>", SLOTS),
    "make_block_table": (
        f"%x = kvcache.make_block_table %m : memref<?x?xi32> to {TABLE}\n"
        f"%m = {back} %x : {TABLE} to memref<?x?xi32>", TABLE),
    "with_rows": ("%x = kvcache.with_rows %x, %starts, %list : "
                  f"{BATCH}, memref<?xi32>, memref<?xi64>", BATCH),
    "memref.dim": ("%d = memref.dim %x, %i : memref<?xi64>\n"
                   "%x = memref.alloc(%d) : memref<?xi64>", "memref<?xi64>"),
    "tensor.dim": ("%d = tensor.dim %x, %i : tensor<?x4xf32>\n"
                   "%x = tensor.empty(%d) : tensor<?x4xf32>", "tensor<?x4xf32>"),
    "tensor.cast": (f"%x = tensor.cast %x : {POOL} to {POOL}", POOL),
    "linalg.transpose": (
        f"%e = tensor.empty() : {POOL}\n"
        f"%x = linalg.transpose ins(%x : {POOL}) outs(%e : {POOL}) "
        "permutation = [0, 1, 2, 3]", POOL),
    "stablehlo.transpose": (
        '%x = "stablehlo.transpose"(%x) <{permutation = array<i64: 0, 1, 2, 3>}>'
        f" : ({POOL}) -> {POOL}", POOL),
    "stablehlo.reshape": (
        f'%x = "stablehlo.reshape"(%y) : (tensor<1024x8x128xf32>) -> {POOL}\n'
        f'%y = "stablehlo.reshape"(%x) : ({POOL}) -> tensor<1024x8x128xf32>', POOL),
    "tensor.reshape": (
        f"%y = tensor.collapse_shape %x [[0, 1], [2], [3]] : {POOL} "
        "into tensor<1024x8x128xf32>\n"
        "%x = tensor.expand_shape %y [[0, 1], [2], [3]] output_shape "
        f"[64, 16, 8, 128] : tensor<1024x8x128xf32> into {POOL}", POOL),
    "arithmetic": (f"%x = arith.addi %x, %x : {LIST}", LIST),
    "index_cast": ("%x = arith.index_cast %y : i64 to index\n"
                   "%y = arith.index_cast %x : index to i64", "index"),
    "index_copy": (
        f"%x = kvcache.index_copy %rows into %x[B, N, H, D] at %slots : {ROWS} "
        f"into {POOL} at !kvcache.slots<7T x i64, rows_per_block = 16, "
        "pad = none>", POOL),
}
SCATTER = """
%at = tensor.expand_shape {list} [[0, 1]] output_shape [7, 1] : tensor<7xi32> into tensor<7x1xi32>
%both = tensor.concat dim(1) %at, %at : (tensor<7x1xi32>, tensor<7x1xi32>) -> tensor<7x2xi32>
%new = "iree_linalg_ext.scatter"(%rows, %both, {pool}) <{{dimension_map = array<i64: 0, 1>, unique_indices = true}}> ({{
^bb0(%a: f32, %b: f32):
  "iree_linalg_ext.yield"(%a) : (f32) -> ()
}}) : (tensor<7x8x128xf32>, tensor<7x2xi32>, tensor<64x16x8x128xf32>) -> tensor<64x16x8x128xf32>
"""
# What looks at where %x comes from, for each kind of type.
USES = [
    (KV, "kvcache.copy_blocks %x at %pairs : {0} at memref<?x2xi64>\n"
         "%u = kvcache.dim %x[B] : {0}\n%v = kvcache.stride %x[B] : {0}"),
    (MEM, f"%v = kvcache.view %x : {{0}} to {KV}\n"
          f"kvcache.copy_blocks %v at %pairs : {KV} at memref<?x2xi64>"),
    (SLOTS, "kvcache.index_copy %keys, %keys into %cache at %x : "
            f"memref<?x8x128xbf16>, memref<?x8x128xbf16> into {KV} at {{0}}"),
    (BATCH, "kvcache.attention %keys over %cache in %x into %keys causal : "
            f"memref<?x8x128xbf16> over {KV} in {{0}} into memref<?x8x128xbf16>"),
    (POOL, SCATTER.format(list="%list32", pool="%x")),
    (LIST, SCATTER.format(list="%x", pool="%pool")),
]


def rings():
    """Each ring in a block that nothing reaches, and in the graph that the body
    of a module is."""
    for name, (code, type_) in RINGS.items():
        use = next((u for t, u in USES if t == type_), "")
        body = code + "\n" + use.replace("{0}", type_)
        arguments = (f"%pairs: memref<?x2xi64>, %starts: memref<?xi32>, "
                     f"%list: memref<?xi64>, %keys: memref<?x8x128xbf16>, "
                     f"%cache: {KV}, %rows: {ROWS}, %list32: {LIST}, %pool: {POOL}, "
                     "%slots: !kvcache.slots<7T x i64, rows_per_block = 16, pad = none>, "
                     "%i: index")
        yield f"ring of {name}", (
            f"func.func @f({arguments}) {{\n  return\n^unreachable:\n{body}\nreturn\n}}\n")
        defined = "\n".join(
            f'{a.split(":")[0].strip()} = "test.value"() : () -> {a.split(":", 1)[1].strip()}'
            for a in re.split(r", (?=%)", arguments))
        yield f"graph of {name}", f"{defined}\n{body}\n"


class Mutator(mutate.Mutator):
    """Ways to break a program that mostly leave it valid: what is said of a
    type is said of it everywhere, and attributes of operations that are not
    known may have any value."""

    def change_element(self):
        old = self.pick(r"(?<![\w.%@])(?:x?)(i1|i8|i16|i32|i64|bf16|f16|f32|index)\b")
        new = ["i1", "i7", "i8", "i16", "i32", "i64", "i128", "ui8", "ui32", "f16"]
        new += ["bf16", "f32", "f64", "f8E5M2", "index", "complex<f32>"]
        if not old:
            return None
        return re.sub(rf"(?<![A-Za-z_.%@]){old[1]}\b", self.rng.choice(new), self.text)

    def change_extent(self):
        old = self.pick(r"(?<=[<x])(\d+|\?)(?=x)")
        new = self.rng.choice(["?", "0", "1", "2", "3", "17", "128", "4294967296"])
        return old and re.sub(rf"(?<=[<x]){re.escape(old[1])}(?=x)", new, self.text)

    def change_constant(self):
        # Upstream folds an extent by its number before it looks at it.
        old = self.pick(r"(?:constant |dense<)-?\d+\b(?! : index)")
        return old and self.replace(
            old, re.sub(r"-?\d+$", self.rng.choice(mutate.NUMBERS[:6]), old[0]))

    def change_attribute(self):
        old = self.pick(r"(?<=[\[ =])-?\d+(?=[\], >])(?=[^\n]*}>)")
        return old and self.replace(old, self.rng.choice(["0", "1", "2", "3", "-1", "7"]))

    def drop_attribute(self):
        old = self.pick(r"\w+ = [^,{}<>]*(?:<[^<>]*>)?, (?=[^\n]*}>)")
        return old and self.replace(old, "")

    def change_operation(self):
        old = self.pick(r'"(?:stablehlo|tm_tensor|iree_linalg_ext)\.(\w+)"')
        names = {m[1] for m in re.finditer(r'"stablehlo\.(\w+)"', self.text)}
        new = self.rng.choice(sorted(names | {"scatter", "gather", "add", "reshape"}))
        space = self.rng.choice(["stablehlo", "tm_tensor", "iree_linalg_ext"])
        return old and self.replace(old, f'"{space}.{new}"')

    def swap_operands(self):
        old = self.pick(r"\((%\w+), (%\w+)")
        return old and self.replace(old, f"({old[2]}, {old[1]}")


KINDS = ["change_element", "change_extent", "change_constant", "change_attribute"]
KINDS += ["drop_attribute", "change_operation", "swap_operands", "swap_values"]


def passes():
    found = []
    for kind in ("passes", "pipelines"):
        listed = subprocess.run(["kv-opt", f"--list-{kind}"], capture_output=True, text=True)
        found += re.findall(r"^ *--(\S*kvcache\S*)", listed.stdout, re.M)
    assert len(found) > 20, found
    # Its report would be mixed with ours.
    quiet = {"kvcache-layout-report": "kvcache-layout-report{output=/dev/null}",
             "kvcache-hoist-buffers": "func.func(kvcache-hoist-buffers)"}
    return [quiet.get(name, name) for name in found]


def foreign():
    files = {path.relative_to(mutate.ROOT) for pattern in FOREIGN
             for path in mutate.ROOT.glob(f"test/{pattern}")}
    for origin, text in mutate.sources():
        if any(origin.startswith(f"{path} ") for path in files):
            yield origin, text


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=5, help="failures printed whole")
    parser.add_argument("--only", help="run this pass alone")
    parser.add_argument("--tool", default="kv-parse-many")
    options = parser.parse_args()

    names = [options.only] if options.only else passes()
    command = [options.tool, "--passes=" + ",".join(names)]
    found = [(o, text.encode()) for o, text in rings()]
    # A ring that does not parse shows nothing.
    first = [options.tool, "--passes=" + names[0]]
    for (origin, program), result in zip(found, mutate.run_batch(found, first)):
        if result.startswith("parse"):
            sys.exit(f"{origin}: {result}\n{program.decode()}")
    programs = list(foreign())
    found += [(o, text.encode()) for o, text in programs]
    found += mutate.mutants(programs, options.count, options.seed, Mutator, KINDS)
    batches = [found[i : i + 100] for i in range(0, len(found), 100)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        results = sum(pool.map(lambda b: mutate.run_batch(b, command), batches), [])

    counts = collections.Counter()
    failures = []
    for (origin, program), result in zip(found, results):
        words = re.split(r"[:\n]", result)[0].split()
        counts[" ".join(words)] += 1
        if result != "ok" and words[0] != "parse":
            failures.append((origin, program, result))
    for what, count in sorted(counts.items()):
        print(f"{count:6} {what}")
    for origin, program, result in failures[: options.show]:
        print(f"\n=== {origin}: {result}\n{program.decode(errors='backslashreplace')}")
    if counts["ok"] < len(found) // 10:
        sys.exit(f"only {counts['ok']} of {len(found)} programs are valid")
    if failures:
        sys.exit(f"{len(failures)} of {len(found)} programs fail")


if __name__ == "__main__":
    main()
