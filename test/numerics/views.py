# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Views of caches in programs that run: the right elements, nothing but them,
and parts that are not there make the call fail and touch nothing.
"""

import cases
import numpy as np
import reference
from kvtest import BOUNDS, Guarded, Tensor, compile_library

POOL = "!kvcache.cache<3L x 2S x ?B x 4N x 4H x 8D x f32, order = {order}>"
ORDERS = ["[L, S, B, N, H, D]", "[B, L, S, N, H, D]", "[B, L, H, N, S, D]"]
EXTENTS = dict(L=3, S=2, B=5, N=4, H=4, D=8)
KEYS = "!kvcache.cache<?B x 4N x 2H x 8D x f32>"
FINE = "!kvcache.cache<?B x 2N x 2H x 8D x f32>"
SPLIT = "!kvcache.cache<?B x 4N x 2H x 2D.o x 4D.i x f32>"
SLOTS = "!kvcache.slots<?T x i64, rows_per_block = {}, pad = none>"
ROWS = "memref<?x2x8xf32>"


def access(name, source, steps, memref, indices):
    """A function that reads one element of a memref that is made by steps, and
    writes another one."""
    at = ", ".join(f"%i{k}" for k in range(indices))
    arguments = ", ".join(f"%i{k}: index" for k in range(indices))
    return f"""
func.func @{name}(%cache: {source} {{kvcache.name = "cache"}}, {arguments},
                  %out: memref<1xf32>, %value: f32) {{
  {steps}
  %c0 = arith.constant 0 : index
  %x = memref.load %m[{at}] : {memref}
  memref.store %x, %out[%c0] : memref<1xf32>
  memref.store %value, %m[{at}] : {memref}
  return
}}
"""


def gather(name, source, steps, result, tokens, arguments=""):
    """A function that reads rows of a view `%v` of a cache, and writes them
    back in reverse."""
    slots = SLOTS.format(tokens)
    return f"""
func.func @{name}(%cache: {source} {{kvcache.name = "cache"}}{arguments},
                  %slots: {slots}, %back: {slots}, %out: {ROWS}) {{
  {steps}
  kvcache.gather %v at %slots into %out : {result} at {slots} into {ROWS}
  kvcache.index_copy %out into %v at %back : {ROWS} into {result} at {slots}
  return
}}
"""


MEMREFS = {
    "flatten": (
        "%m = kvcache.flatten %cache : " + KEYS,
        "memref<?x2x8xf32, strided<[16, 8, 1], offset: ?>>",
        lambda c: c.flatten()),
    "matrix": (
        "%m = kvcache.reshape %cache[B, N, H, D] : " + KEYS
        + " to memref<?x16xf32, strided<[16, 1], offset: ?>>",
        "memref<?x16xf32, strided<[16, 1], offset: ?>>",
        lambda c: c.reshape_array([4 * c.extent("B"), 16])),
    "halves": (
        "%m = kvcache.reshape %cache : " + KEYS
        + " to memref<?x2x2x2x2x4xf32, strided<[?, ?, ?, ?, 4, 1], offset: ?>>",
        "memref<?x2x2x2x2x4xf32, strided<[?, ?, ?, ?, 4, 1], offset: ?>>",
        lambda c: c.reshape_array([c.extent("B"), 2, 2, 2, 2, 4])),
    "turned": (
        "%m = kvcache.storage %cache[H, D, B, N] : " + KEYS
        + " to memref<2x8x?x4xf32, strided<[8, 1, 64, 16], offset: ?>>",
        "memref<2x8x?x4xf32, strided<[8, 1, 64, 16], offset: ?>>",
        lambda c: c.transposed(["H", "D", "B", "N"])),
}


def part_type(order):
    """The type of layer, side, heads and blocks of a pool, by the compiler's
    rules for types; worked out in cache_types."""
    letters = tuple(order.strip("[]").split(", "))
    type_ = cases.CacheType({**EXTENTS, "B": None}, "f32", letters)
    steps = [("layer[%layer]", type_)]
    type_ = type_.layer()
    for step, after in (("side[1]", lambda t: t.side(1)),
                        ("heads[1, 2]", lambda t: t.heads(1, 2)),
                        ("subpool[%first, %count]", lambda t: t.subpool())):
        steps.append((step, type_))
        type_ = after(type_)
    lines, value = [], "%cache"
    for number, (step, before) in enumerate(steps):
        op, operands = step.split("[")
        name = f"%v{number}" if number < 3 else "%v"
        lines.append(f"{name} = kvcache.{op} {value}[{operands} : {before}")
        value = name
    return "\n  ".join(lines), str(type_)


def programs():
    text = ""
    for name, (steps, memref, view) in MEMREFS.items():
        rank = reference_view(name, new_keys()[0]).ndim
        text += access(name, KEYS, steps, memref, rank)
    text += gather("fine", KEYS, f"%v = kvcache.reshape %cache : {KEYS} "
                   f"to {FINE}", FINE, 2)
    text += gather("split", KEYS, f"%v = kvcache.reshape %cache : {KEYS} "
                   f"to {SPLIT}", SPLIT, 4)
    for number, order in enumerate(ORDERS):
        steps, result = part_type(order)
        text += gather(f"part{number}", POOL.format(order=order), steps, result,
                       4, ", %layer: index, %first: index, %count: index")
    return text


def new_keys(rng=None):
    extents = dict(B=5, N=4, H=2, D=8)
    layout = reference.Cache.make(extents, "f32", offset=16, slack=8)
    rng = rng or np.random.default_rng(0)
    guard = Guarded(rng.standard_normal(layout.storage.size)
                    .astype(np.float32))
    return layout.on(guard.inside), guard


def reference_view(name, cache):
    return MEMREFS[name][2](cache)


def test_memrefs(library, rng):
    for name in MEMREFS:
        for _ in range(20):
            cache, guard = new_keys(rng)
            want = cache.clone()
            view = reference_view(name, want)
            at = tuple(int(rng.integers(0, n)) for n in view.shape)
            out = Guarded(np.zeros(1, np.float32))
            expected = view[at]
            view[at] = 7.5
            library.run(name, Tensor(*cache.argument()), *at,
                        Tensor(out.inside, "f32", [1]), 7.5)
            assert out.inside[0] == expected, f"{name} at {at}"
            assert np.array_equal(cache.storage, want.storage), name
            guard.check(name)


def rows_case(rng, view, count):
    slots = rng.permutation(view.extent("B") * view.extent("N"))[:count]
    given = cases.integers(slots, "i64")
    back = cases.integers(slots[::-1], "i64")
    out = cases.result_rows(len(slots), [2, 8], "f32")
    got = [np.array(out.array)]
    reference.gather(view, slots, got)
    reference.index_copy(view, got, slots[::-1])
    return [Tensor(*b.argument()) for b in (given, back, out)], out, got[0]


def test_reshapes(library, rng):
    for name in ("fine", "split"):
        cache, guard = new_keys(rng)
        want = cache.clone()
        view = want
        if name == "fine":
            view = want.reshape(dict(B=10, N=2, H=2, D=8))
        arguments, out, expected = rows_case(rng, view, 9)
        library.run(name, Tensor(*cache.argument()), *arguments)
        assert np.array_equal(out.array, expected), name
        assert np.array_equal(cache.storage, want.storage), name
        guard.check(name)


def test_parts(library, rng):
    for number, order in enumerate(ORDERS):
        letters = tuple(order.strip("[]").split(", "))
        layout = reference.Cache.make(EXTENTS, "f32", letters)

        def fresh():
            guard = Guarded(rng.standard_normal(layout.storage.size)
                            .astype(np.float32))
            return layout.on(guard.inside), guard

        for layer, first, count in ((0, 0, 5), (2, 1, 3), (1, 4, 1), (1, 5, 0)):
            cache, guard = fresh()
            want = cache.clone()
            view = want.layer(layer).side(1).heads(1, 2).subpool(first, count)
            arguments, out, expected = rows_case(rng, view, 9)
            library.run(f"part{number}", Tensor(*cache.argument()), layer,
                        first, count, *arguments)
            assert np.array_equal(out.array, expected), order
            assert np.array_equal(cache.storage, want.storage), order
            guard.check(order)
        huge = 2**63 - 1
        for layer, first, count in (
                (3, 0, 5), (-1, 0, 5), (huge, 0, 5), (-huge - 1, 0, 5),
                (0, 0, 6), (0, 6, 0), (0, 5, 1), (0, -1, 2), (0, 1, -1),
                (0, huge, huge), (0, 3, huge), (0, -huge - 1, huge)):
            cache, guard = fresh()
            before = guard.whole.copy()
            arguments, out, _ = rows_case(rng, cache.clone().layer(0).side(0)
                                          .heads(0, 2), 9)
            untouched = out.guard.whole.copy()
            what = "layer" if layer else "block"
            library.expect_error(BOUNDS, what, f"part{number}",
                                 Tensor(*cache.argument()), layer, first, count,
                                 *arguments)
            assert np.array_equal(guard.whole, before), (layer, first, count)
            got, same = (a.view(np.uint8) for a in (out.guard.whole, untouched))
            assert np.array_equal(got, same), (layer, first, count)


def main():
    rng = np.random.default_rng(3)
    library = compile_library(programs())
    test_memrefs(library, rng)
    test_reshapes(library, rng)
    test_parts(library, rng)
    print("views")


main()
