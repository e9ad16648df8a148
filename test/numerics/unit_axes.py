# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Axes of one index, known in the type or in the call, in every place of an
order: all views of such caches compile, for a CPU and for a GPU, and find their
elements. What a caller puts in the stride of such an axis is not looked at.
"""

import itertools
import subprocess

import numpy as np
from cache_types import CacheType
from kvtest import Guarded, Tensor, compile_library
from ref_cache import ORDERS, Cache, order_of

FULL = dict(L=3, S=2, B=4, N=4, H=2, D=4)
GARBAGE = 10**9 + 1
PER_LIBRARY = 60


class Case:
    """A pool, a chain of views of it, and a copy of what is seen there."""

    def __init__(self, number, rng, letters, units):
        self.name = f"view{number}"
        extents = {a: 1 if a in units else FULL[a] for a in FULL
                   if a in letters}
        # What is known in the call only. A constant number of blocks allows no
        # index that is.
        open_ = {a for a in "LB" if a in extents and rng.random() < 0.6}
        open_ |= {"B"}
        order = order_of(letters, tuple(extents))
        facts, given, step = {}, {}, 1
        for axis in reversed(order):
            gap = rng.choice([0, 0, 0, 4, 5])
            if axis != order[-1] and extents[axis] != 1 and gap:
                given[axis] = step + gap
            if axis in given or axis != order[-1] and rng.random() < 0.25:
                facts[axis] = "mult", 1
            step = given.get(axis, step) * extents[axis]
        self.type = CacheType({a: None if a in open_ else n
                               for a, n in extents.items()},
                              "f32", order, facts, align=4)
        layout = Cache.make(extents, "f32", order, given)
        self.guard = Guarded(rng.permutation(layout.storage.size)
                             .astype(np.float32))
        self.pool = layout.on(self.guard.inside)
        self.operands, self.lines = [], []
        self.view, self.at = self.pool, ("%pool", self.type)
        for step in rng.permutation(["layer", "side", "heads", "subpool",
                                     "reshape", "reshape"]):
            if rng.random() < 0.6:
                getattr(self, step)(rng)

    def _step(self, op, type_):
        value, before = self.at
        name = f"%v{len(self.lines)}"
        self.lines.append(f"{name} = kvcache.{op.format(value)} : {before}")
        self.at = name, type_

    def _operand(self, value):
        self.operands.append(int(value))
        return f"%i{len(self.operands) - 1}"

    def layer(self, rng):
        if "L" not in self.view.axes:
            return
        index = rng.integers(self.view.extent("L"))
        self._step(f"layer {{}}[{self._operand(index)}]", self.at[1].layer())
        self.view = self.view.layer(index)

    def side(self, rng):
        if "S" not in self.view.axes:
            return
        index = int(rng.integers(self.view.extent("S")))
        self._step(f"side {{}}[{index}]", self.at[1].side(index))
        self.view = self.view.side(index)

    def heads(self, rng):
        if "H" not in self.view.axes:
            return
        first = int(rng.integers(self.view.extent("H")))
        self._step(f"heads {{}}[{first}, 1]", self.at[1].heads(first, 1))
        self.view = self.view.heads(first, 1)

    def subpool(self, rng):
        first = rng.integers(self.view.extent("B"))
        count = rng.integers(1, self.view.extent("B") - first + 1)
        operands = self._operand(first), self._operand(count)
        self._step(f"subpool {{}}[{operands[0]}, {operands[1]}]",
                   self.at[1].subpool())
        self.view = self.view.subpool(first, count)

    def reshape(self, rng):
        """Half as many tokens in a block, if tokens are packed under blocks."""
        value, before = self.at
        tokens = before.axes["N"]
        faster = [a for a in before.order[before.order.index("B") + 1 :]
                  if before.axes[a] != 1]
        if tokens % 2 or faster[:1] != ["N"] or "B" in before.facts:
            return
        if "L" in before.axes and before.axes["L"] is None:
            return  # of two run-time extents none may change
        axes = {**before.axes, "N": tokens // 2}
        strides, facts = before.strides(), {}
        for axis in axes:
            known = strides[axis][0]
            facts[axis] = ("mult", 1) if known is None else known
        step = strides["N"][0]
        if step is not None:
            facts["B"] = step * tokens // 2
        elif tokens > 2:  # with one token there is nothing to be compact over
            del facts["B"]
        after = CacheType(axes, "f32", before.order, facts, before.align)
        name = f"%v{len(self.lines)}"
        self.lines.append(
            f"{name} = kvcache.reshape {value} : {before} to {after}")
        self.at = name, after
        extents = dict(zip(self.view.axes, self.view.array.shape))
        self.view = self.view.reshape(
            {**extents, "B": 2 * extents["B"], "N": tokens // 2})

    def text(self):
        value, seen = self.at
        target = CacheType(dict(seen.axes), "f32", align=4)
        operands = "".join(f", %i{n}: index" for n in range(len(self.operands)))
        lines = "\n  ".join(self.lines)
        return f"""
func.func @{self.name}(%pool: {self.type}{operands}, %out: {target}) {{
  {lines}
  kvcache.relayout {value} into %out : {seen} into {target}
  return
}}
"""

    def check(self, library):
        shape = self.pool.array.shape
        strides = [GARBAGE if n == 1 else s
                   for n, s in zip(shape, self.pool.strides)]
        want = np.ascontiguousarray(self.view.array)
        out = Guarded(np.full(want.size, np.nan, np.float32))
        library.run(self.name,
                    Tensor(self.pool.storage, "f32", shape, strides,
                           self.pool.offset), *self.operands,
                    Tensor(out.inside, "f32", want.shape))
        assert np.array_equal(out.inside, want.ravel()), self.text()
        out.check(self.name)


def cases(rng):
    names = [o for o in ORDERS if not o.startswith("x_packed")]
    orders = ([ORDERS[name].split() for name in names]
              + [list(rng.permutation(list("LSBNHD"))) for _ in range(12)])
    for number, (order, units) in enumerate(itertools.product(
            orders, itertools.chain.from_iterable(
                itertools.combinations("LSBNHD", n) for n in range(7)))):
        # Each order with a third of the sets, so that neighbours differ.
        if number % 3 == (number // 64) % 3:
            yield Case(number, rng, order, units)


def lower_for_gpu(text):
    done = subprocess.run(
        ["kv-opt", "-", "--kvcache-bufferize", "--convert-kvcache-to-gpu",
         "-o", "/dev/null"], input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


# Pages of one token: the number of a row is that of its page, and rows are as
# far apart as pages.
PAGES = """
!kv = !kvcache.cache<?B x 1N x 2H x 4D x f32, strides = [H = ?], align = 4>
!slots = !kvcache.slots<?T x i64, rows_per_block = 1, pad = skip_negative>
!rows = memref<?x2x4xf32>
func.func @pages(%pool: !kv, %slots: !slots, %rows: !rows, %back: !rows) {
  kvcache.index_copy %rows into %pool at %slots : !rows into !kv at !slots
  kvcache.gather %pool at %slots into %back : !kv at !slots into !rows
  return
}
"""


def test_pages():
    pages, slots = 6, np.array([4, 1, -1, 3])
    pool = Guarded(np.zeros(10 * pages, np.float32))
    rows = np.arange(1, 1 + 8 * len(slots), dtype=np.float32)
    back = np.zeros_like(rows)
    shape = [len(slots), 2, 4]
    compile_library(PAGES, "pages").run(
        "pages", Tensor(pool.inside, "f32", [pages, 1, 2, 4],
                        [10, GARBAGE, 5, 1]),
        Tensor(slots, "i64", [len(slots)]), Tensor(rows, "f32", shape),
        Tensor(back, "f32", shape))
    want = np.zeros((pages, 2, 5), np.float32)
    live = slots >= 0
    want[slots[live], :, :4] = rows.reshape(shape)[live]
    assert np.array_equal(pool.inside, want.ravel())
    assert np.array_equal(back.reshape(shape)[live], rows.reshape(shape)[live])
    pool.check("pages")


test_pages()
rng = np.random.default_rng(13)
pending = list(cases(rng))
for first in range(0, len(pending), PER_LIBRARY):
    some = pending[first : first + PER_LIBRARY]
    text = "".join(case.text() for case in some)
    library = compile_library(text, f"units{first}")
    for case in some:
        case.check(library)
    if first % (3 * PER_LIBRARY) == 0:
        lower_for_gpu(text)
steps = sum(len(case.lines) for case in pending)
assert steps > len(pending), steps
print(f"{len(pending)} pools, {steps} views")
