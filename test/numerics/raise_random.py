# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Arithmetic that is almost that of a slot.

Known forms of block and offset are damaged at random: another operation, another
constant, a comparison more, a narrower type in between. Each is raised, compiled
and run for every slot of an 8-bit list, or for those of wider ones that are near
a bound, and compared with the arithmetic on Python's integers. What is taken for
a slot and is none writes a wrong row.
"""

import argparse
import random
import re
import subprocess

import numpy as np
from kvtest import TYPES, Guarded, Tensor, compile_library

TYPES.setdefault("i16", (0, 16, np.int16))
CHANNELS = 2


class Poison(Exception):
    """What is divided or shifted so has no value."""


def wrapped(value, width):
    value &= (1 << width) - 1
    return value - (1 << width) if value >> (width - 1) else value


def unsigned(value, width):
    return value & ((1 << width) - 1)


def quotient(a, b):
    if b == 0:
        raise Poison
    q = abs(a) // abs(b)
    return q if (a < 0) == (b < 0) else -q


def shifted(a, b, width, how):
    if not 0 <= b < width:
        raise Poison
    return how(a, b)


BINARY = {
    "addi": lambda a, b, w: a + b,
    "subi": lambda a, b, w: a - b,
    "muli": lambda a, b, w: a * b,
    "divsi": lambda a, b, w: quotient(a, b),
    "remsi": lambda a, b, w: a - b * quotient(a, b),
    "floordivsi": lambda a, b, w: quotient(a, b) - (a % b != 0 and (a < 0) != (b < 0)),
    "divui": lambda a, b, w: quotient(unsigned(a, w), unsigned(b, w)),
    "remui": lambda a, b, w: unsigned(a, w) - unsigned(b, w) * quotient(
        unsigned(a, w), unsigned(b, w)),
    "shli": lambda a, b, w: shifted(a, b, w, lambda x, n: x << n),
    "shrsi": lambda a, b, w: shifted(a, b, w, lambda x, n: x >> n),
    "shrui": lambda a, b, w: shifted(unsigned(a, w), b, w, lambda x, n: x >> n),
    "andi": lambda a, b, w: a & b,
    "ori": lambda a, b, w: a | b,
    "xori": lambda a, b, w: a ^ b,
    "maxsi": lambda a, b, w: max(a, b),
    "minsi": lambda a, b, w: min(a, b),
    "maxui": lambda a, b, w: max(unsigned(a, w), unsigned(b, w)),
    "minui": lambda a, b, w: min(unsigned(a, w), unsigned(b, w)),
}
COMPARE = {
    "eq": lambda a, b, w: a == b,
    "ne": lambda a, b, w: a != b,
    "slt": lambda a, b, w: a < b,
    "sle": lambda a, b, w: a <= b,
    "sgt": lambda a, b, w: a > b,
    "sge": lambda a, b, w: a >= b,
    "ult": lambda a, b, w: unsigned(a, w) < unsigned(b, w),
    "ule": lambda a, b, w: unsigned(a, w) <= unsigned(b, w),
    "ugt": lambda a, b, w: unsigned(a, w) > unsigned(b, w),
    "uge": lambda a, b, w: unsigned(a, w) >= unsigned(b, w),
}
# Through another type and back: ("narrow", bits) and ("wide", how).
CASTS = ["extsi", "extui", "index_cast", "index_castui"]


def evaluate(node, slot, width):
    kind = node[0]
    if kind == "slot":
        return slot
    if kind == "const":
        return wrapped(node[1], width)
    if kind == "select":
        _, predicate, a, b, yes, no = node
        # Also what is not chosen is computed.
        a, b, yes, no = (evaluate(n, slot, width) for n in (a, b, yes, no))
        return yes if COMPARE[predicate](a, b, width) else no
    if kind == "through":
        _, how, bits, inner = node
        narrow = wrapped(evaluate(inner, slot, width), bits)
        return wrapped(unsigned(narrow, bits) if how.endswith("ui") else narrow, width)
    if kind == "f32":
        number = np.float32(evaluate(node[2], slot, width)) / np.float32(node[1])
        whole = int(np.floor(number) if node[3] else np.trunc(number))
        if wrapped(whole, width) != whole:
            raise Poison
        return whole
    a, b = evaluate(node[1], slot, width), evaluate(node[2], slot, width)
    if kind in ("divsi", "remsi", "floordivsi") and b == -1 and a == -(1 << (width - 1)):
        raise Poison
    return wrapped(int(BINARY[kind](a, b, width)), width)


class Text:
    """The operations of an expression, each once."""

    def __init__(self, type_):
        self.type, self.lines, self.known = type_, [], {}

    def name(self, text):
        self.lines.append(f"    %v{len(self.lines)} = {text}")
        return f"%v{len(self.lines) - 1}"

    def of(self, node):
        if node not in self.known:
            self.known[node] = self.build(node)
        return self.known[node]

    def build(self, node):
        kind, t = node[0], self.type
        if kind == "slot":
            return "%s"
        if kind == "const":
            return self.name(f"arith.constant {wrapped(node[1], int(t[1:]))} : {t}")
        if kind == "select":
            _, predicate, a, b, yes, no = node
            c = self.name(f"arith.cmpi {predicate}, {self.of(a)}, {self.of(b)} : {t}")
            return self.name(f"arith.select {c}, {self.of(yes)}, {self.of(no)} : {t}")
        if kind == "through":
            _, how, bits, inner = node
            x = self.of(inner)
            if how.startswith("ext"):
                if f"i{bits}" != t:
                    x = self.name(f"arith.trunci {x} : {t} to i{bits}")
                    x = self.name(f"arith.{how} {x} : i{bits} to {t}")
                return x
            x = self.name(f"arith.{how} {x} : {t} to index")
            return self.name(f"arith.{how} {x} : index to {t}")
        if kind == "f32":
            x = self.name(f"arith.sitofp {self.of(node[2])} : {t} to f32")
            n = self.name(f"arith.constant {float(node[1])} : f32")
            x = self.name(f"arith.divf {x}, {n} : f32")
            x = self.name(f"math.floor {x} : f32") if node[3] else x
            return self.name(f"arith.fptosi {x} : f32 to {t}")
        return self.name(f"arith.{kind} {self.of(node[1])}, {self.of(node[2])} : {t}")


S = ("slot",)


def const(n):
    return ("const", n)


def forms(tokens, blocks):
    """Pairs of block and offset that are those of a slot."""
    n, shift = const(tokens), const(tokens.bit_length() - 1)
    quotient_, rest = ("divsi", S, n), ("remsi", S, n)
    fixed = ("select", "slt", rest, const(0), ("addi", rest, n), rest)
    floor = ("select", "slt", rest, const(0), ("subi", quotient_, const(1)), quotient_)
    f32 = ("f32", tokens, S, True)
    last = ("floordivsi", S, n)
    found = [(last, fixed), (floor, fixed), (f32, fixed),
             (last, ("subi", S, ("muli", last, n))), (quotient_, rest),
             (("divui", S, n), ("remui", S, n))]
    if tokens & (tokens - 1) == 0:
        mask = ("andi", S, const(tokens - 1))
        found += [(("shrsi", S, shift), mask), (("shrui", S, shift), mask)]
    wrap = [(("select", "slt", b, const(0), ("addi", b, const(blocks)), b), o)
            for b, o in found]
    clip = [(("minsi", ("maxsi", b, const(0)), const(blocks - 1)), o) for b, o in found]
    return found + wrap + clip


def places(node, path=()):
    yield path
    for i, child in enumerate(node):
        if isinstance(child, tuple):
            yield from places(child, path + (i,))


def replaced(node, path, new):
    if not path:
        return new(node)
    return tuple(replaced(c, path[1:], new) if i == path[0] else c
                 for i, c in enumerate(node))


def through(rng, width, part):
    how = rng.choice(CASTS)
    # Upstream folds the casts of an index to fewer bits and back to nothing.
    bits = [b for b in (8, 16, 32, 64) if b <= width and how.startswith("ext")]
    return ("through", how, rng.choice(bits or [width]), part)


def damaged(node, rng, width, numbers):
    """The expression with one of its parts changed."""

    def change(part):
        kind = part[0]
        ways = ["wrap"]
        if kind in BINARY:
            ways += ["operation"] * 3 + ["swap"]
        if kind == "const":
            ways += ["number"] * 4
        if kind == "select":
            ways += ["predicate"] * 3 + ["branches"]
        way = rng.choice(ways)
        if way == "operation":
            return (rng.choice(list(BINARY)), *part[1:])
        if way == "swap":
            return (kind, part[2], part[1])
        if way == "number":
            return const(rng.choice([part[1] + 1, part[1] - 1, -part[1], 2 * part[1],
                                     *numbers]))
        if way == "predicate":
            return (kind, rng.choice(list(COMPARE)), *part[2:])
        if way == "branches":
            return (*part[:4], part[5], part[4])
        return rng.choice([
            (rng.choice(list(BINARY)), part, const(rng.choice(numbers))),
            ("select", rng.choice(list(COMPARE)), S, const(rng.choice(numbers)), part,
             const(rng.choice(numbers))),
            ("select", rng.choice(list(COMPARE)), S, const(rng.choice(numbers)), part,
             (rng.choice(["addi", "subi"]), part, const(rng.choice(numbers)))),
            through(rng, width, part)])

    return replaced(node, rng.choice(list(places(node))), change)


def function(name, width, tokens, blocks, block, offset):
    t, pool = f"i{width}", f"tensor<{blocks}x{tokens}x{CHANNELS}xf32>"
    text = Text(t)
    results = f"linalg.yield {text.of(block)}, {text.of(offset)} : {t}, {t}"
    body = "\n".join(text.lines)
    return f"""
func.func @{name}(%pool: {pool} {{bufferization.writable = true}},
                  %rows: tensor<1x{CHANNELS}xf32>, %slots: tensor<1x{t}>) -> {pool} {{
  %list = tensor.empty() : tensor<1x{t}>
  %pair:2 = linalg.generic {{indexing_maps = [affine_map<(d) -> (d)>,
      affine_map<(d) -> (d)>, affine_map<(d) -> (d)>], iterator_types = ["parallel"]}}
    ins(%slots : tensor<1x{t}>) outs(%list, %list : tensor<1x{t}>, tensor<1x{t}>) {{
  ^bb0(%s: {t}, %x: {t}, %y: {t}):
{body}
    {results}
  }} -> (tensor<1x{t}>, tensor<1x{t}>)
  %c0 = tensor.expand_shape %pair#0 [[0, 1]] output_shape [1, 1]
    : tensor<1x{t}> into tensor<1x1x{t}>
  %c1 = tensor.expand_shape %pair#1 [[0, 1]] output_shape [1, 1]
    : tensor<1x{t}> into tensor<1x1x{t}>
  %at = tensor.concat dim(1) %c0, %c1
    : (tensor<1x1x{t}>, tensor<1x1x{t}>) -> tensor<1x2x{t}>
  %new = "iree_linalg_ext.scatter"(%rows, %at, %pool)
    <{{dimension_map = array<i64: 0, 1>, unique_indices = true}}> ({{
  ^bb0(%a: f32, %c: f32):
    "iree_linalg_ext.yield"(%a) : (f32) -> ()
  }}) : (tensor<1x{CHANNELS}xf32>, tensor<1x2x{t}>, {pool}) -> {pool}
  return %new : {pool}
}}
"""


def slots_near(width, rows, numbers):
    if width == 8:
        return range(-128, 128)
    least, most = -(1 << (width - 1)), (1 << (width - 1)) - 1
    near = {b + d for b in (0, rows, -rows, least, most, 1 << 24, -(1 << 24), *numbers)
            for d in (-17, -16, -1, 0, 1, 2, 15)}
    return sorted(s for s in near if least <= s <= most)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=130)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    # As they are, with more rows than the type of the slots has numbers.
    cases = [(f"n{i}", 8, 4, 40, [160], *pair) for i, pair in enumerate(forms(4, 40))]
    for i in range(options.count):
        width = rng.choice([8, 8, 16, 32, 64])
        tokens, blocks = rng.choice([(4, 5), (4, 40), (16, 6), (16, 8), (3, 7), (1, 9)])
        numbers = [0, 1, -1, 2, tokens, blocks, tokens * blocks, -tokens,
                   rng.randrange(1 << (width - 1)), -rng.randrange(1 << (width - 1))]
        pair = rng.choice(forms(tokens, blocks))
        for _ in range(rng.choice([0, 1, 1, 1, 2])):
            pair = tuple(damaged(n, rng, width, numbers) if rng.random() < 0.6 else n
                         for n in pair)
        cases.append((f"f{i}", width, tokens, blocks, numbers, *pair))

    program = "".join(function(*case[:4], *case[5:]) for case in cases)
    result = subprocess.run(
        ["kv-opt", "--allow-unregistered-dialect", "-", "--kvcache-raise=standalone"],
        input=program, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    assert "iree_linalg_ext" not in result.stdout
    kept = dict(re.findall(r"func.func @(\w+)\((?:.|\n)*?kvcache\.(index_copy|scatter) ",
                           result.stdout))
    library = compile_library(result.stdout, "random")
    compared = 0
    for name, width, tokens, blocks, numbers, block, offset in cases:
        shape = [blocks, tokens, CHANNELS]
        pool = Guarded(np.zeros(int(np.prod(shape)), np.float32))
        rows = np.array([3.0, 5.0], np.float32)
        for slot in slots_near(width, tokens * blocks, numbers):
            try:
                b, o = (evaluate(n, slot, width) for n in (block, offset))
            except Poison:
                continue
            want = np.zeros(shape, np.float32)
            if 0 <= b < blocks and 0 <= o < tokens:
                want[b, o] = rows
            pool.inside[:] = 0
            library.run(name, Tensor(pool.inside, "f32", shape),
                        Tensor(rows, "f32", [1, CHANNELS]),
                        Tensor(np.array([slot], f"int{width}"), f"i{width}", [1]))
            compared += 1
            assert np.array_equal(pool.inside, want.reshape(-1)), (
                f"slot {slot} of {name}, i{width}, {blocks} blocks of {tokens}, "
                f"{kept[name]}: block {b} = {block}, offset {o} = {offset}")
        pool.check(name)
    raised = sum(kind == "index_copy" for kind in kept.values())
    print(f"{compared} rows, {raised} of {len(cases)} programs raised to index_copy")
    assert len(kept) == len(cases) and raised > len(cases) // 8, kept


main()
