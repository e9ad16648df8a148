# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Calls that fail: what they leave in memory is judged as the documents say."""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "numerics"))

from builder import Program, Spec  # noqa: E402
from cache_types import CacheType  # noqa: E402
from modules import Calls, Module  # noqa: E402


def numbers(*given):
    return lambda rng, dims, count: list(given)


def one(number):
    return lambda rng, dims: number


def ints(name, element, *given):
    return (name, f"memref<?x{element}>",
            Spec("list", element, (len(given),), values=numbers(*given)))


PAIRS = ("%pairs", "memref<?x2xi64>",
         Spec("table", "i64", (1, 2), values=numbers(0, 1)))


def index(name, number):
    return name, "index", Spec("number", "index", values=one(number))


def raw_bytes(count):
    return ("%bytes", "memref<?xi8>",
            Spec("rows", "i8", (count,), align=16))


def program(name, arguments, body, dims=()):
    listed = ", ".join(f"{a}: {kind}" for a, kind, _ in arguments)
    return Program(name, f"func.func @{name}({listed}) {{\n{body}  return\n}}\n",
                   arguments, [], dict(dims))


def two_faults():
    """A list of another length is refused before the layer is looked at."""
    kind = CacheType({"L": 2, "B": None, "N": 4, "H": 1, "D": 2}, "f32",
                     ("L", "B", "N", "H", "D"), {}, 4)
    arguments = [
        ("%pool", str(kind), Spec("pool", "f32", (2, "B", 4, 1, 2), kind,
                                  align=4)),
        ints("%starts", "i64", 0, 1), ints("%lengths", "i64", 1, 1),
        ("%table", "memref<?x?xi64>",
         Spec("table", "i64", (2, 1), values=numbers(0, 1))),
        ints("%out", "i64", 7, 7), index("%layer", 2), PAIRS]
    return program("two_faults", arguments, f"""\
  %t = kvcache.make_block_table %table : memref<?x?xi64> to !kvcache.block_table<?R x ?M x i64, tokens = 4>
  %b = kvcache.make_batch %starts, %lengths, %t : memref<?xi64>, memref<?xi64>, !kvcache.block_table<?R x ?M x i64, tokens = 4>
  kvcache.slot_mapping %b into %out : !kvcache.batch<?R x ?M x i64, tokens = 4> into memref<?xi64>
  %l = kvcache.layer %pool[%layer] : {kind}
  kvcache.copy_blocks %l at %pairs : {kind.layer()} at memref<?x2xi64>
""", {"B": lambda rng, dims: 2})


def strides_of_no_view():
    """A view that fails has no blocks. Its strides may be any."""
    kind = ("!kvcache.cache<?B x 4N x 2H x 2D x f32, "
            "order = [B, H, N, D], strides = [H = 10], align = 4>")
    free = ("!kvcache.cache<?B x 4N x 2H x 2D x f32, order = [B, H, N, D], "
            "strides = [B = ?, N = ?, H = ?, D = ?], align = 4>")
    arguments = [raw_bytes(64), index("%blocks", 3),
                 ints("%out", "i64", 7), PAIRS]
    return program("strides_of_no_view", arguments, f"""\
  %c0 = arith.constant 0 : index
  %one = arith.constant 1 : i64
  %two = arith.constant 2 : i64
  %v = kvcache.view %bytes extents(B = %blocks) : memref<?xi8> to {kind}
  %c = kvcache.cast %v : {kind} to {free}
  %f = kvcache.has_facts %c : {free} has {kind}
  scf.if %f {{
    memref.store %one, %out[%c0] : memref<?xi64>
  }} else {{
    memref.store %two, %out[%c0] : memref<?xi64>
  }}
  kvcache.copy_blocks %c at %pairs : {free} at memref<?x2xi64>
""")


def strides_beyond_all():
    """No blocks, and a stride that no type may have."""
    kind = ("!kvcache.cache<?B x 4N x 2H x 2D x f32, "
            "order = [N, H, D, B], strides = [D = ? mult 4], align = 4>")
    arguments = [raw_bytes(64), index("%blocks", 0), index("%stride", 1 << 62),
                 PAIRS]
    return program("strides_beyond_all", arguments, f"""\
  %v = kvcache.view %bytes extents(B = %blocks) strides(D = %stride) : memref<?xi8> to {kind}
  kvcache.copy_blocks %v at %pairs : {kind} at memref<?x2xi64>
""")


def given_back():
    """A stride that is no multiple, of a view that a function exchanges for
    another cache: nothing uses it, and the call may work."""
    kind = CacheType({"B": None, "N": 4, "H": 2, "D": 2}, "f32",
                     ("H", "B", "N", "D"), {"H": ("mult", 8)}, 4)
    arguments = [raw_bytes(256), index("%blocks", 2), index("%stride", 17),
                 ("%pool", str(kind), Spec("pool", "f32", (2, 4, 2, 2), kind,
                                           align=4)), PAIRS]
    made = program("given_back", arguments, f"""\
  %v = kvcache.view %bytes extents(B = %blocks) strides(H = %stride) : memref<?xi8> to {kind}
  %r:2 = func.call @exchange(%v, %pool) : ({kind}, {kind}) -> ({kind}, {kind})
  kvcache.copy_blocks %r#0 at %pairs : {kind} at memref<?x2xi64>
""")
    helper = (f"func.func private @exchange(%a: {kind}, %b: {kind}) -> ({kind}, "
              f"{kind}) {{\n  return %b, %a : {kind}, {kind}\n}}\n")
    return replace(made, text=helper + made.text)


programs = [two_faults(), strides_of_no_view(), strides_beyond_all(),
            given_back()]
with tempfile.TemporaryDirectory(prefix="kvoracle-") as folder:
    module = Module("failing", programs, folder)
    dumps = module.dumps()
    calls = Calls(module, 1, dumps, module.compile())
    calls.run()
for finding in module.findings:
    print(f"{finding.kind}: {finding.function}, {finding.call}: {finding.text}")
assert not module.findings and not module.refused, module.refused
assert calls.figures["calls that fail"] == 9, calls.figures
