# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""The interpreter itself: numbers that were worked out by hand, and moves
against the formulas of the reference, one address at a time."""

import itertools
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "numerics"))

import cache_ops  # noqa: E402, F401
import kvtest  # noqa: E402
import memory_ops  # noqa: E402, F401
import numpy as np  # noqa: E402
import scalar_ops  # noqa: E402, F401
from interpreter import Interpreter, Undefined  # noqa: E402
from modules import Calls  # noqa: E402


def load(text):
    done = subprocess.run(["kv-opt", "-", "--mlir-print-op-generic"],
                          input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return Interpreter(done.stdout)


def expect(got, want):
    assert np.array_equal(got, want), f"expected {want}, got {got}"


def integers():
    """f(a, b) for one operation and width."""
    cases = [("addi", "i8", 127, 1, -128), ("muli", "i8", 100, 3, 44),
             ("subi", "i16", -32768, 1, 32767), ("divsi", "i32", -7, 2, -3),
             ("floordivsi", "i32", -7, 2, -4), ("ceildivsi", "i32", 7, 2, 4),
             ("remsi", "i32", -7, 2, -1), ("divui", "i8", -1, 2, 127),
             ("remui", "i16", -1, 16, 15), ("shrsi", "i8", -128, 7, -1),
             ("shrui", "i8", -128, 7, 1), ("shli", "i64", 1, 63, -(1 << 63)),
             ("minui", "i32", -1, 5, 5), ("maxsi", "i32", -1, 5, 5),
             ("xori", "i64", -1, 1, -2)]
    text = "".join(
        f"func.func @f{i}(%a: {w}, %b: {w}) -> {w} {{\n"
        f"  %c = arith.{op} %a, %b : {w}\n  return %c : {w}\n}}\n"
        for i, (op, w, *_) in enumerate(cases))
    run = load(text)
    for i, (_, _, a, b, want) in enumerate(cases):
        expect(run.call(f"f{i}", [a, b])[0], want)
    run = load("func.func @f(%a: i32, %b: i32) -> i32 {\n"
               "  %c = arith.divsi %a, %b : i32\n  return %c : i32\n}\n")
    for a, b in (1, 0), (-(1 << 31), -1):
        try:
            run.call("f", [a, b])
        except Undefined:
            continue
        raise AssertionError(f"{a} / {b} has a meaning")


def numbers():
    run = load("""
func.func @narrow(%a: i64) -> (i8, i64, i64) {
  %s = arith.trunci %a : i64 to i8
  %t = arith.extsi %s : i8 to i64
  %u = arith.extui %s : i8 to i64
  return %s, %t, %u : i8, i64, i64
}
func.func @half(%a: f32, %b: f16) -> (f16, bf16, f16, i1, i1) {
  %t = arith.truncf %a : f32 to f16
  %c = arith.truncf %a : f32 to bf16
  %s = arith.addf %b, %b : f16
  %o = arith.cmpf olt, %a, %a : f32
  %u = arith.cmpf une, %a, %a : f32
  return %t, %c, %s, %o, %u : f16, bf16, f16, i1, i1
}
""")
    expect(run.call("narrow", [511]), [-1, -1, 255])
    # 1 + 2^-8 is half way between two numbers of bf16: the even one is 1.
    expect(run.call("half", [1 + 2.0**-8, 60000.0]),
           [1 + 2.0**-8, 1.0, np.inf, 0, 0])
    expect(run.call("half", [float("nan"), 1.0])[3:], [0, 1])


def control():
    run = load("""
func.func @sum(%n: index) -> (index, index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %r:2 = scf.for %i = %c0 to %n step %c1 iter_args(%a = %c0, %b = %c1)
      -> (index, index) {
    %s = arith.addi %a, %b : index
    scf.yield %b, %s : index, index
  }
  %w = scf.while (%x = %r#0) : (index) -> index {
    %g = arith.cmpi ugt, %x, %c1 : index
    scf.condition(%g) %x : index
  } do {
  ^bb0(%x: index):
    %y = arith.subi %x, %c1 : index
    scf.yield %y : index
  }
  return %r#0, %w : index, index
}
func.func @pick(%n: index, %f: i1) -> index {
  %c5 = arith.constant 5 : index
  %c6 = arith.constant 6 : index
  %s = scf.index_switch %n -> index
  case 2 { scf.yield %c5 : index }
  default { scf.yield %c6 : index }
  cf.cond_br %f, ^end(%s : index), ^end(%n : index)
^end(%r: index):
  return %r : index
}
""")
    expect(run.call("sum", [7]), [13, 1])
    expect([run.call("pick", [n, f])[0] for n in (2, 3) for f in (0, 1)],
           [2, 5, 3, 6])


ROWS = """
!k = !kvcache.cache<?B x 2N x 1H x 2D x f32, order = [B, H, N, D], align = 4>
!s = !kvcache.slots<?T x i64, rows_per_block = 2, pad = skip_negative>
!r = memref<?x1x2xf32>
func.func @write(%c: !k, %l: memref<?xi64>, %r: !r, %n: memref<1xi64>) {
  %s = kvcache.make_slots %l : memref<?xi64> to !s
  %c0 = arith.constant 0 : index
  %v = memref.load %n[%c0] : memref<1xi64>
  memref.store %v, %l[%c0] : memref<?xi64>
  kvcache.index_copy %r into %c at %s : !r into !k at !s
  return
}
func.func @tensor(%p: tensor<?x2x1x2xf32>, %l: tensor<?xi64>,
                  %r: tensor<?x1x2xf32>) -> tensor<?x2x1x2xf32> {
  %s = kvcache.make_slots %l : tensor<?xi64> to !s
  %n = kvcache.index_copy %r into %p[B, N, H, D] at %s
    : tensor<?x1x2xf32> into tensor<?x2x1x2xf32> at !s
  return %n : tensor<?x2x1x2xf32>
}
"""


def rows():
    """Two blocks of two tokens of two channels; slot 4 is past the end."""
    run = load(ROWS)
    pool = np.zeros(8, np.float32)
    cache = pool.reshape(2, 2, 1, 2)
    from cache_ops import argument_cache
    kind = run.functions["write"].argument_types[0]
    data = np.arange(1, 11, dtype=np.float32).reshape(5, 1, 2)
    # The first entry changes after the slots are made, and it counts; of two
    # rows for slot 3 the last one stays.
    run.call("write", [argument_cache(cache, kind),
                       np.array([0, 3, 4, -1, 3]), data, np.array([1])])
    expect(pool, [0, 0, 1, 2, 0, 0, 9, 10])
    # A list that is shorter than the rows counts, and one that is longer.
    pool[:] = 0
    run.call("write", [argument_cache(cache, kind), np.array([0, 2]), data,
                       np.array([0])])
    expect(pool, [1, 2, 0, 0, 3, 4, 0, 0])
    before = np.zeros((2, 2, 1, 2), np.float32)
    (after,) = run.call("tensor", [before, np.array([1]), data])
    expect(before, np.zeros((2, 2, 1, 2)))
    expect(after.ravel(), [0, 0, 1, 2, 0, 0, 0, 0])


BATCH = """
!t = !kvcache.block_table<?R x ?M x i32, tokens = 2>
!b = !kvcache.batch<?R x ?M x i32, tokens = 2>
func.func @map(%s: memref<?xi32>, %l: memref<?xi32>, %t: memref<?x?xi32>,
               %o: memref<?xi64>) {
  %u = kvcache.make_block_table %t : memref<?x?xi32> to !t
  %b = kvcache.make_batch %s, %l, %u : memref<?xi32>, memref<?xi32>, !t
  kvcache.slot_mapping %b into %o : !b into memref<?xi64>
  return
}
"""


def batches():
    run = load(BATCH)
    table = np.array([[5, 1], [-1, 3]], np.int32)

    def slots(starts, lengths, count):
        out = np.zeros(count, np.int64)
        run.call("map", [np.array(starts, np.int32),
                         np.array(lengths, np.int32), table, out])
        return out.tolist()
    # Tokens 1 and 2 of request 0, in blocks 5 and 1; tokens 2 and 3 of
    # request 1, in block 3; one row is in no request.
    expect(slots([0, 2, 4], [3, 4], 5), [11, 2, 6, 7, -1])
    # A start below the one before is taken as that one; a length above what
    # the table has room for as that: token 3 of request 1.
    expect(slots([0, 2, 1], [3, 1], 3), [11, 2, -1])
    expect(slots([0, 0, 1], [3, 99], 1), [7])
    # Block -1, and a row before the first token.
    expect(slots([0, 0, 2], [0, 2], 2), [-1, -1])
    expect(slots([0, 3], [2], 3), [-1, 10, 11])


TRANSFER = """
!a = !kvcache.cache<?B x 4N x 1D x f32, align = 4>
!b = !kvcache.cache<?B x 2N x 1D x f32, align = 4>
func.func @move(%a: !a, %b: !b, %p: memref<?x4xi64>) {
  kvcache.transfer %a to %b at %p zero : !a to !b at memref<?x4xi64>
  return
}
!v = !kvcache.cache<?B x 4N x 1D x f32, align = 4>
func.func @bytes(%m: memref<?xi8>, %o: index, %n: index, %p: memref<?x2xi64>) {
  %c = kvcache.view %m offset(%o) extents(B = %n) : memref<?xi8> to !v
  kvcache.copy_blocks %c at %p : !v at memref<?x2xi64>
  return
}
func.func @clear(%c: !v, %l: memref<?xi32>) {
  kvcache.clear_blocks %c at %l : !v at memref<?xi32>
  return
}
"""


def moves():
    run = load(TRANSFER)
    from cache_ops import argument_cache
    kinds = run.functions["move"].argument_types
    a = np.arange(1, 9, dtype=np.float32).reshape(2, 4, 1)
    b = np.full((3, 2, 1), -1, np.float32)
    pairs = np.array([[3, 0, 0, 2], [1, 1, 1, 9], [4, 2, 0, 2], [0, 2, 5, 1]])
    run.call("move", [argument_cache(a, kinds[0]), argument_cache(b, kinds[1]),
                      pairs])
    expect(b.ravel(), [7, 8, 0, 4, 0, 0])
    kind = run.functions["clear"].argument_types[0]
    c = np.arange(1, 13, dtype=np.float32).reshape(3, 4, 1)
    run.call("clear", [argument_cache(c, kind), np.array([2, -1, 3, 0, 2])])
    expect(c.ravel(), [0, 0, 0, 0, 5, 6, 7, 8, 0, 0, 0, 0])
    raw = np.arange(12, dtype=np.float32).view(np.int8)
    pairs = np.array([[1, 0]])
    run.call("bytes", [raw, 16, 2, pairs])
    expect(raw.view(np.float32), [0, 1, 2, 3, 8, 9, 10, 11, 8, 9, 10, 11])
    assert not run.fails
    for offset, count in (17, 1), (-4, 1), (32, 2), (0, 1 << 62), (0, -1):
        run.start()
        run.call("bytes", [raw, offset, count, pairs])
        assert run.fails, (offset, count)


def attention():
    """One key gives its value, two equal keys the mean of theirs."""
    run = load("""
!k = !kvcache.cache<2S x ?B x 2N x 1H x 2D x f32, align = 4>
!t = !kvcache.block_table<?R x ?M x i32, tokens = 2>
!b = !kvcache.batch<?R x ?M x i32, tokens = 2>
!q = memref<?x1x2xf32>
func.func @f(%q: !q, %c: !k, %s: memref<?xi32>, %l: memref<?xi32>,
             %t: memref<?x?xi32>, %o: !q, %e: memref<?x1xf32>) {
  %u = kvcache.make_block_table %t : memref<?x?xi32> to !t
  %b = kvcache.make_batch %s, %l, %u : memref<?xi32>, memref<?xi32>, !t
  kvcache.attention %q over %c in %b into %o, %e causal
    : !q over !k in !b into !q, memref<?x1xf32>
  return
}
""")
    from cache_ops import argument_cache
    kind = run.functions["f"].argument_types[1]
    pool = np.zeros((2, 1, 2, 1, 2), np.float32)
    pool[0, 0, :, 0] = 1
    pool[1, 0, :, 0] = [[2, 4], [6, 0]]
    out, lse = np.zeros((3, 1, 2), np.float32), np.zeros((3, 1), np.float32)
    run.call("f", [np.ones((3, 1, 2), np.float32), argument_cache(pool, kind),
                   np.array([0, 2], np.int32), np.array([2], np.int32),
                   np.array([[0]], np.int32), out, lse])
    expect(np.round(out.ravel(), 5), [2, 4, 4, 2, 0, 0])
    score = 2 / np.sqrt(2)
    want = np.float32([score, score + np.log(2), -np.inf])
    assert np.allclose(lse.ravel(), want), lse
    # The padding row is exact, others are known up to a tolerance.
    assert len(run.tolerances) == 9
    assert sum(t == 0 for t in run.tolerances.values()) == 3


def computed():
    """Norms and quarter turns, alone and in one launch."""
    run = load("""
!x = memref<?x1x4xf32>
!t = memref<?x4xf32>
func.func @turn(%x: !x, %t: !t, %p: memref<?xi64>, %o: !x, %n: !x) {
  kvcache.rotate %x by %t at %p into %o : !x by !t at memref<?xi64> into !x
  kvcache.rotate %x by %t into %n interleaved : !x by !t into !x
  return
}
func.func @norm(%x: !x, %w: memref<4xf32>, %o: !x) {
  kvcache.normalize %x by %w into %o epsilon 2.0 plus_one
    : !x by memref<4xf32> into !x
  kvcache.normalize %x into %x epsilon 0.0 : !x into !x
  return
}
func.func @both(%x: !x, %t: !t, %n: index, %o: !x) {
  kvcache.fuse {
    %a = memref.alloc(%n) : !x
    kvcache.normalize %x into %a epsilon 0.0 : !x into !x
    kvcache.rotate %a by %t into %o : !x by !t into !x
  }
  return
}
func.func @value(%x: tensor<?x1x4xf32>, %t: tensor<?x4xf32>) -> tensor<?x1x4xf32> {
  %r = kvcache.rotate %x by %t into %x
    : tensor<?x1x4xf32> by tensor<?x4xf32> into tensor<?x1x4xf32>
  return %r : tensor<?x1x4xf32>
}
""")
    x = np.arange(1, 13, dtype=np.float32).reshape(3, 1, 4)
    # No turn, a quarter, a half.
    table = np.float32([[1, 1, 0, 0], [0, 0, 1, 1], [-1, -1, 0, 0]])
    out, near = np.zeros_like(x), np.zeros_like(x)
    run.call("turn", [x, table, np.int64([1, -1, 3]), out, near])
    expect(out.ravel(), [-3, -4, 1, 2, *range(5, 13)])
    expect(near.ravel(), [1, 2, 3, 4, -6, 5, -8, 7, -9, -10, -11, -12])
    assert not any(run.tolerances.values())
    (turned,) = run.call("value", [x, table])
    expect(turned.ravel(), [1, 2, 3, 4, -7, -8, 5, 6, -9, -10, -11, -12])
    expect(x.ravel(), range(1, 13))

    x = np.float32([[[3, 4, 0, 5]], [[0, 0, 0, 0]]])
    out = np.zeros_like(x)
    run.call("norm", [x, np.float32([0, 1, 2, -1]), out])
    # The mean of the squares is 12.5, and 14.5 with epsilon.
    root = np.sqrt(14.5)
    assert np.allclose(out[0, 0], [3 / root, 8 / root, 0, 0]), out
    assert np.allclose(x[0, 0], np.float32([3, 4, 0, 5]) / np.sqrt(12.5)), x
    assert not out[1].any() and np.isnan(x[1]).all()

    run.start()
    x = np.float32([[[1, 1, 1, -1]], [[2, 2, -2, 2]]])
    out = np.zeros_like(x)
    run.call("both", [x, table, 2, out])
    assert np.allclose(out, [[[1, 1, 1, -1]], [[1, -1, 1, 1]]]), out
    known = [run.tolerances[a] for a in cache_ops.addresses(out).ravel()]
    assert all(0 < t < 1e-5 for t in known), known


def layouts():
    """Rows through views, against the address of each element."""
    rng = random.Random(7)
    for _ in range(12):
        extents = {"L": 2, "S": 2, "B": 3, "N": 4, "H": 2, "D": 2}
        order = list(extents)
        rng.shuffle(order)
        strides, step = {}, 1
        for axis in reversed(order):
            strides[axis] = step
            step *= extents[axis]
        layer, side, head = (rng.randrange(2) for _ in range(3))
        text = f"""
!c = !kvcache.cache<2L x 2S x ?B x 4N x 2H x 2D x f32, order = [{', '.join(order)}], align = 4>
func.func @f(%c: !c, %i: index, %m: memref<?xi64>, %r: memref<?x1x2xf32>) {{
  %l = kvcache.layer %c[%i] : !c
  %s = kvcache.side %l[{side}] : TYPE
  %h = kvcache.heads %s[{head}, 1] : TYPE2
  return
}}
"""
        from cache_types import CacheType
        kind = CacheType(dict(extents, B=None), "f32", tuple(order), {}, 4)
        cut = kind.layer()
        text = text.replace("TYPE2", str(cut.side(side)))
        text = text.replace("TYPE", str(cut))
        last = cut.side(side).heads(head, 1)
        text = text.replace("  return", (
            "  %w = kvcache.make_slots %m : memref<?xi64> to "
            "!kvcache.slots<?T x i64, rows_per_block = 4, pad = none>\n"
            f"  kvcache.gather %h at %w into %r : {last} at "
            "!kvcache.slots<?T x i64, rows_per_block = 4, pad = none> into "
            "memref<?x1x2xf32>\n"
            "  return"))
        run = load(text)
        from cache_ops import argument_cache
        flat = np.arange(step, dtype=np.float32)
        array = np.lib.stride_tricks.as_strided(
            flat, list(extents.values()), [4 * strides[a] for a in extents])
        cache = argument_cache(array, run.functions["f"].argument_types[0])
        for block, token in itertools.product(range(3), range(4)):
            rows_ = np.full((1, 1, 2), -1, np.float32)
            run.call("f", [cache, layer, np.array([block * 4 + token]), rows_])
            at = {"L": layer, "S": side, "B": block, "N": token, "H": head}
            first = sum(strides[a] * i for a, i in at.items())
            expect(rows_.ravel(), [first, first + strides["D"]])


def unwritten():
    """What nobody has written is whatever a run is told."""
    run = load("""
func.func @f(%o: memref<2xi32>) {
  %a = memref.alloc() : memref<2xi32>
  %c0 = arith.constant 0 : index
  %v = arith.constant 5 : i32
  memref.store %v, %a[%c0] : memref<2xi32>
  memref.copy %a, %o : memref<2xi32> to memref<2xi32>
  return
}
""")
    for poison in 0, 0x7F:
        out = np.zeros(2, np.int32)
        run.start(poison)
        run.call("f", [out])
        expect(out, [5, poison * 0x01010101])


def facts():
    """Of a cache without elements, one of a view that fails too, nobody knows
    whether it is what a type says."""
    run = load("""
!k = !kvcache.cache<?B x 2N x 1H x 4D x f32, order = [B, H, N, D], strides = [N = 8], align = 4>
!any = !kvcache.cache<?B x 2N x 1H x 4D x f32, order = [B, H, N, D], strides = [B = ?, N = ?, D = ?], align = 4>
func.func @f(%m: memref<?xi8>, %n: index) -> i1 {
  %v = kvcache.view %m extents(B = %n) : memref<?xi8> to !k
  %c = kvcache.cast %v : !k to !any
  %f = kvcache.has_facts %c : !any has !k
  return %f : i1
}
""")
    room = np.zeros(64, np.uint8)
    for blocks, want in (1, [1, 1]), (0, [0, 1]), (2, [0, 1]):
        got = []
        for poison in 0x3C, 0xA7:
            run.start(poison)
            got += run.call("f", [room, blocks])
        expect(got, want)


USES = """
!k = !kvcache.cache<?B x 2N x 1D x f32, align = 4>
func.func private @swap(%a: !k, %b: !k) -> (!k, !k) {
  return %b, %a : !k, !k
}
func.func @f(%m: memref<?xi8>, %n: index, %ok: !k, %flag: i1,
             %p: memref<?x2xi64>, %o: memref<1xindex>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %v = kvcache.view %m extents(B = %n) : memref<?xi8> to !k
  BODY
  return
}
"""


def uses():
    """A view that fails makes the call fail where something with an effect needs
    it, through whatever it goes."""
    joins = {
        "%r:2 = func.call @swap(%ok, %v) : (!k, !k) -> (!k, !k)": (1, 0),
        "%r:2 = func.call @swap(%v, %ok) : (!k, !k) -> (!k, !k)": (0, 1),
        """%r:2 = scf.if %flag -> (!k, !k) {
    scf.yield %ok, %v : !k, !k
  } else {
    scf.yield %ok, %ok : !k, !k
  }""": (0, 1),
        """%r:2 = scf.for %i = %c0 to %n step %c1 iter_args(%x = %ok, %y = %v)
      -> (!k, !k) {
    scf.yield %x, %y : !k, !k
  }""": (0, 1),
        """%r:2 = scf.for %i = %c0 to %n step %c1 iter_args(%x = %ok, %y = %v)
      -> (!k, !k) {
    scf.yield %y, %x : !k, !k
  }""": (1, 1),
        """%r:2 = scf.for %i = %c0 to %n step %c1 iter_args(%x = %ok, %y = %v)
      -> (!k, !k) {
    kvcache.copy_blocks %y at %p : !k at memref<?x2xi64>
    scf.yield %x, %y : !k, !k
  }""": (1, 1),
        """%r:3 = scf.while (%x = %v, %y = %ok, %g = %flag) : (!k, !k, i1)
      -> (!k, !k, i1) {
    scf.condition(%g) %y, %x, %g : !k, !k, i1
  } do {
  ^bb0(%x: !k, %y: !k, %g: i1):
    %no = arith.constant false
    scf.yield %y, %x, %no : !k, !k, i1
  }""": (0, 1),
        """%r:2 = scf.index_switch %n -> !k, !k
  case 2 {
    scf.yield %ok, %v : !k, !k
  }
  default {
    scf.yield %ok, %ok : !k, !k
  }""": (0, 1),
        """cf.cond_br %flag, ^end(%ok, %v : !k, !k), ^end(%ok, %ok : !k, !k)
^end(%r0: !k, %r1: !k):""": (0, 1),
    }
    cases = [("", False),
             ("%s = kvcache.storage %v : !k to memref<?x2x1xf32>\n"
              "  %l = memref.dim %s, %c0 : memref<?x2x1xf32>", False),
             ("%d = kvcache.dim %v[B] : !k\n"
              "  memref.store %d, %o[%c0] : memref<1xindex>", True),
             ("%d = kvcache.dim %v[B] : !k\n"
              "  scf.for %i = %c0 to %d step %c1 {\n  }", False),
             ("%d = kvcache.dim %v[B] : !k\n"
              "  scf.for %i = %c0 to %d step %c1 {\n"
              "    memref.store %i, %o[%c0] : memref<1xindex>\n  }", True)]
    for join, needed in joins.items():
        for i, want in enumerate(needed):
            name = f"%r{i}" if "^end" in join else f"%r#{i}"
            cases.append((f"{join}\n  kvcache.copy_blocks {name} at %p : !k at "
                          "memref<?x2xi64>", bool(want)))
    from cache_ops import argument_cache
    for body, want in cases:
        run = load(USES.replace("BODY", body))
        kind = run.functions["swap"].argument_types[0]
        good = argument_cache(np.zeros((1, 2, 1), np.float32), kind)
        run.call("f", [np.zeros(8, np.uint8), 2, good, 1,
                       np.zeros((0, 2), np.int64), np.zeros(1, np.int64)])
        assert bool(run.fails) == want and run.may_fail != want, body


def one_block():
    """What is compact over one block has any stride that blocks could have, and
    the least one in a view of bytes."""
    kinds = ["strides = [B = 24]", "strides = [B = ? mult 8]",
             "strides = [B = ? mult 16]", "order = [S, B, N, D]"]
    cache = "!kvcache.cache<2S x ?B x 2N x 3D x f32, {}, align = 4>"
    free = cache.format("strides = [S = ?, B = ?]")
    text = ""
    for i, kind in enumerate(kinds):
        text += f"""
func.func @f{i}(%c: {free}) -> i1 {{
  %f = kvcache.has_facts %c : {free} has {cache.format(kind)}
  return %f : i1
}}
func.func @cast{i}(%c: {free}) {{
  %d = kvcache.cast %c : {free} to {cache.format(kind)}
  return
}}
"""
    kind = cache.format(kinds[1])
    run = load(text + f"""
func.func @bytes(%m: memref<?xi8>, %b: index, %p: memref<?x2x3xf32>) {{
  %c1 = arith.constant 1 : index
  %c = kvcache.view %m extents(B = %c1) strides(B = %b) : memref<?xi8> to {kind}
  %a = kvcache.storage %c[B, S, N, D]
    : {kind} to memref<?x2x2x3xf32, strided<[?, ?, 3, 1], offset: ?>>
  %r = memref.collapse_shape %a [[0, 1], [2], [3]]
    : memref<?x2x2x3xf32, strided<[?, ?, 3, 1], offset: ?>>
    into memref<?x2x3xf32, strided<[?, 3, 1], offset: ?>>
  memref.copy %r, %p : memref<?x2x3xf32, strided<[?, 3, 1], offset: ?>>
    to memref<?x2x3xf32>
  return
}}
""")
    from cache_ops import argument_cache
    type_of = run.functions["f0"].argument_types[0]
    memory = np.arange(96, dtype=np.float32)
    for side, want in ((24, [1, 1, 0, 0]), (16, [0, 1, 1, 0]), (6, [0, 0, 0, 1]),
                       (12, [0, 0, 0, 0]), (48, [0, 1, 1, 0])):
        pool = argument_cache(np.lib.stride_tricks.as_strided(
            memory, [2, 1, 2, 3], [4 * side, 4, 12, 4]), type_of)
        for i, holds in enumerate(want):
            expect(run.call(f"f{i}", [pool]), [holds])
            try:
                run.call(f"cast{i}", [pool])
            except Undefined:
                assert not holds, (side, kinds[i])
            else:
                assert holds, (side, kinds[i])
    for stride in 0, 24, -1:
        run.start()
        out = np.zeros((2, 2, 3), np.float32)
        run.call("bytes", [memory.view(np.int8), stride, out])
        expect(out.ravel(), [*range(6), *range(8, 14)])
        assert not run.fails


def refused():
    """A call whose extents are refused does nothing, whatever of it would have
    failed later; it is a finding where it did something."""
    class Judge(Calls):
        def __init__(self):
            self.figures, self.written, self.reports = Counter(), {}, []

        def _report(self, kind, program, number, text):
            self.reports.append(text)

        def _same(self, *_):
            raise AssertionError("a refused call is compared")

    before, after = np.array([[7, 2], [3, 2]], np.uint8)
    call = SimpleNamespace(regions=[SimpleNamespace(contents=before)])
    program = SimpleNamespace(name="f")
    for fails in [], ["layer 3"]:
        want = SimpleNamespace(fails=fails, may_fail=False, regions=[after])
        for got, findings in (before, 0), (after, 1):
            judge = Judge()
            judge._judge(program, 0, call, want, kvtest.SHAPE, "", [got])
            expect(len(judge.reports), findings)


if __name__ == "__main__":
    for test in (integers, numbers, control, rows, batches, moves, attention,
                 computed, layouts, unwritten, facts, uses,
                 one_block, refused):
        test()
        print(f"{test.__name__}: well")
