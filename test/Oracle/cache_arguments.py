# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Caches of random layouts as arguments, and views of them."""

from dataclasses import replace

import numpy as np
from builder import Pool, Spec, pick
from cache_types import CacheType
from ref_cache import ORDERS, order_of
from ref_elements import STORAGE

ELEMENTS = list(STORAGE)


def blocks_count(rng, dims):
    return pick(rng, (1, 0), (2, 1), (2, 2), (5, rng.randint(3, 5)))


def random_order(rng, axes):
    if rng.random() < 0.5:
        known = [order for order in ORDERS.values()
                 if sorted(a for a in order.split() if a in axes)
                 == sorted(axes)]
        if known:
            return order_of([a for a in rng.choice(known).split()
                             if a in axes], tuple(axes))
    order = list(axes)
    rng.shuffle(order)
    return tuple(order)


def random_facts(rng, axes, order, share):
    """Strides that are not compact: some that the call knows, some numbers."""
    facts, span, known = {}, 1, True
    for axis in reversed(order):
        extent = axes[axis]
        if extent != 1 and rng.random() < share:
            if known and rng.random() < 0.4:
                facts[axis] = span + rng.choice([0, 1, 2, 4, 8])
                span = facts[axis]
            else:
                facts[axis] = "mult", rng.choice([1, 1, 2, 4, 8])
                known = False
        known = known and extent is not None
        span *= extent or 1
    return facts


def random_type(rng, layers=None, sides=None, heads=None, element=None,
                channels=None, tokens=None, split=0.15, facts=0.2):
    axes = {}
    if layers:
        axes["L"] = layers
    if sides:
        axes["S"] = sides
    axes["B"] = None if rng.random() < 0.93 else rng.randint(1, 4)
    axes["N"] = tokens or rng.choice([1, 2, 4, 4, 8, 3, 16])
    if heads:
        axes["H"] = heads
    channels = channels or rng.choice([1, 2, 4, 8, 8, 16, 3, 6, 32])
    if rng.random() < split and channels % 2 == 0:
        inner = rng.choice([i for i in (2, 4, 8) if channels % i == 0])
        axes["D.o"], axes["D.i"] = channels // inner, inner
    else:
        axes["D"] = channels
    order = random_order(rng, axes)
    element = element or rng.choice(ELEMENTS)
    least = np.dtype(STORAGE[element]).itemsize
    return CacheType(axes, element, order,
                     random_facts(rng, axes, order, facts),
                     rng.choice([least, least, 4, 8, 16]))


def forgotten(kind):
    """The same type that knows no stride."""
    facts = {a: ("mult", 1) for a, n in kind.axes.items() if n != 1}
    least = kind.element_bytes
    return CacheType(kind.axes, kind.element_type, kind.order, facts, least,
                     kind.space, kind.access)


def memref_text(kind, axes, packed=False):
    shape = "x".join(str(kind.axes[a] or "?") for a in axes)
    text = f"memref<{shape}x{kind.element_type}"
    if not packed:
        text += f", strided<[{', '.join('?' for _ in axes)}], offset: ?>"
    return text + ">"


class Pools:
    """A part of a builder: see Steps."""

    def pool_argument(self, kind, memory=None, form=None):
        rng = self.rng
        memory = memory or self.memory()
        blocks = self.extent("B", blocks_count)
        if kind.axes["B"]:
            self.dims[blocks] = lambda r, d, n=kind.axes["B"]: n
        form = form or pick(rng, (5, "cache"), (3, "memref"), (1, "strided"),
                            (1, "bytes"))
        if kind.facts and form in ("memref", "strided"):
            form = "strided" if self._only_outer(kind) else "cache"
        elif form == "strided":
            form = "memref"
        if form == "bytes" and kind.axes["B"]:
            form = "cache"
        if form == "strided":
            # Rows of a memref are aligned, and so is the way between them.
            size = kind.element_bytes
            multiple = max(kind.facts[kind.order[0]][1], 16 // size)
            kind = replace(kind, facts={kind.order[0]: ("mult", multiple)},
                           align=16)
        size = kind.element_bytes
        # A memref has the alignment of its rows.
        least = 16 if form in ("memref", "strided") else size
        spec = Spec("pool", kind.element_type, cache=kind, memory=memory,
                    shape=tuple(blocks if a == "B" else n
                                for a, n in kind.axes.items()),
                    align=max(kind.align, least))
        self.tags.add(form)
        if form == "cache":
            ssa = self.argument("pool", str(kind), spec)
        elif form == "bytes":
            ssa = self._byte_view(kind, spec)
        else:
            axes = list(kind.order)
            spec.order = tuple(axes)
            text = memref_text(kind, axes, form == "memref")
            if form == "strided":
                text = self._outer_text(kind)
            raw = self.argument("pool", text, spec)
            names = ("" if axes == list(kind.axes)
                     else f"[{', '.join(axes)}]")
            ssa = self.let(f"kvcache.view {raw}{names} : {text} to {kind}",
                           "cache")
        pool = Pool(ssa, kind, frozenset([memory]), blocks,
                    kind.access == "write")
        self.pools.append(pool)
        return pool

    @staticmethod
    def _only_outer(kind):
        """Whether only the slowest axis has a stride that calls know."""
        return set(kind.facts) == {kind.order[0]} and isinstance(
            kind.facts[kind.order[0]], tuple) and all(
                kind.strides()[a][0] for a in kind.order[1:])

    @staticmethod
    def _outer_text(kind):
        shape = "x".join(str(kind.axes[a] or "?") for a in kind.order)
        known = ["?", *(str(kind.strides()[a][0]) for a in kind.order[1:])]
        return (f"memref<{shape}x{kind.element_type}, strided<"
                f"[{', '.join(known)}], offset: ?>>")

    def _byte_view(self, kind, spec):
        """Extents and strides come with the call, right or hostile."""
        spec.kind = "bytes"
        raw = self.argument("bytes", "memref<?xi8>", spec)

        def given(what, axis):
            return self.argument("n", "index", Spec(
                "number", "index", values=("bytes", raw, what, axis)))
        text = f"kvcache.view {raw} offset({given('offset', None)})"
        text += f" extents(B = {given('extent', 'B')})"
        free = [a for a, f in kind.facts.items() if isinstance(f, tuple)]
        if free:
            parts = ", ".join(f"{a} = {given('stride', a)}"
                              for a in kind.axes if a in free)
            text += f" strides({parts})"
        return self.let(text + f" : memref<?xi8> to {kind}", "cache")

    def buffer(self, kind, blocks_of):
        """A cache of the program's own, with as many blocks as another, and
        packed."""
        kind = CacheType(kind.axes, kind.element_type, kind.order, {},
                         kind.align)
        count = self.let(f"kvcache.dim {blocks_of.ssa}[B] : {blocks_of.text}")
        axes = list(kind.order)
        text = memref_text(kind, axes, packed=True)
        size = f"({count})" if kind.axes["B"] is None else "()"
        raw = self.let(f"memref.alloc{size} : {text}", "buffer")
        ssa = self.let(f"kvcache.view {raw}[{', '.join(axes)}] : {text} to "
                       f"{kind}", "cache")
        return Pool(ssa, kind, frozenset([self.memory()]), blocks_of.blocks)

    # --- Views --------------------------------------------------------------

    def derived(self, op, pool, kind, **changes):
        ssa = self.let(f"kvcache.{op} : {pool.text}", "view")
        return Pool(ssa, kind, pool.memory,
                    changes.get("blocks", pool.blocks), pool.writable)

    def layer(self, pool):
        count = pool.type.axes["L"]
        if pool.type.axes["B"] or self.chance(0.4):
            # Out of range is no error of the program where it may be checked.
            known = pool.type.axes["B"] or self.chance(0.97)
            index = self.constant(self.rng.randrange(count) if known
                                  else self.rng.choice([-1, count]))
        elif getattr(self, "loop_layer", None):
            index = self.loop_layer
        else:
            index = self.argument("layer", "index", Spec(
                "number", "index", values=lambda r, d: (
                    r.randrange(count) if r.random() < 0.93
                    else r.choice([-1, count, 1 << 62, -(1 << 63)]))))
        return self.derived(f"layer {pool.ssa}[{index}]", pool,
                            pool.type.layer())

    def side(self, pool, which):
        return self.derived(f"side {pool.ssa}[{which}]", pool,
                            pool.type.side(which))

    def subpool(self, pool):
        rng = self.rng

        def value(part):
            def make(r, d, part=part):
                blocks = d[pool.blocks] if pool.blocks else 2
                if part == "first":
                    d[ssa_key] = r.randint(0, blocks)
                    if r.random() < 0.04:
                        d[ssa_key] = r.choice([-1, 1 << 62, blocks + 1])
                    return d[ssa_key]
                rest = max(0, blocks - d[ssa_key])
                return (r.randint(0, rest) if r.random() < 0.95 else
                        r.choice([-1, rest + 1, (1 << 63) - 1, 1 << 62]))
            return make
        ssa_key = f"first{self.memory()}"
        if pool.blocks is None or rng.random() < 0.2:
            first, count = self.constant(0), self.constant(0)
        else:
            first = self.number_argument("index", value("first"))
            count = self.number_argument("index", value("count"))
        return self.derived(f"subpool {pool.ssa}[{first}, {count}]", pool,
                            pool.type.subpool(), blocks=None)

    def heads(self, pool):
        count = self.rng.randint(1, pool.type.axes["H"])
        first = self.rng.randint(0, pool.type.axes["H"] - count)
        return self.derived(f"heads {pool.ssa}[{first}, {count}]", pool,
                            pool.type.heads(first, count))

    def cast(self, pool):
        kind = forgotten(pool.type)
        ssa = self.let(f"kvcache.cast {pool.ssa} : {pool.text} to {kind}")
        return Pool(ssa, kind, pool.memory, pool.blocks, pool.writable)

    def reshape(self, pool):
        """Another block size, or channels in other parts."""
        kind = pool.type
        axes = dict(kind.axes)
        order = list(kind.order)
        known = kind.strides()
        tokens = axes["N"]
        blocks = pool.blocks
        if self.chance(0.3) and "D" in axes and axes["D"] % 2 == 0:
            inner = self.rng.choice([i for i in (2, 4, 8)
                                     if axes["D"] % i == 0])
            whole = axes.pop("D")
            axes["D.o"], axes["D.i"] = whole // inner, inner
            at = order.index("D")
            order[at : at + 1] = ["D.o", "D.i"]
        else:
            between = order[order.index("B") + 1 : order.index("N")]
            if axes["B"] or "B" in kind.facts or order.index(
                    "N") < order.index("B") or any(
                        axes[a] != 1 for a in between):
                return None
            parts = [n for n in range(1, tokens + 1) if tokens % n == 0]
            axes["N"] = self.rng.choice(parts)
            blocks = None
        facts = {}
        for axis in axes:
            stride, divisor = known.get(axis) or known["D"]
            if axis == "D.o":
                divisor *= axes["D.i"]
                stride = stride and stride * axes["D.i"]
            if axis == "B" and axes["N"] != tokens or axes[axis] == 1:
                continue
            facts[axis] = stride if stride else ("mult", divisor)
        result = CacheType(axes, kind.element_type, tuple(order), facts,
                           kind.align, kind.space, kind.access)
        ssa = self.let(f"kvcache.reshape {pool.ssa} : {pool.text} to {result}")
        return Pool(ssa, result, pool.memory, blocks, pool.writable)

    def varied(self, pool, keep=False):
        """The same pool by another way. With `keep` its blocks are known."""
        for _ in range(self.rng.choice([0, 0, 1, 1, 2])):
            kind = pick(self.rng, (2, "cast"), (2, "reshape"), (2, "heads"),
                        (2, "subpool"))
            made = None
            if kind == "cast":
                made = self.cast(pool)
            elif kind == "reshape":
                made = self.reshape(pool)
            elif kind == "heads" and "H" in pool.type.axes:
                made = self.heads(pool)
            elif kind == "subpool" and not keep:
                made = self.subpool(pool)
            pool = made or pool
        return pool

    def one_layer(self, pool):
        """A view of one layer, perhaps by way of others."""
        pool = self.varied(pool)
        if "L" in pool.type.axes:
            pool = self.layer(pool)
        if "S" in pool.type.axes and self.chance(0.25):
            pool = self.side(pool, self.rng.randrange(pool.type.axes["S"]))
        return pool
