# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What programs on memory do, one step after the other."""

from attention_steps import AttentionSteps, is_computed
from builder import BITS, Builder, Pool, Spec, hostile, pick
from cache_types import CacheType
from computed_rows import RowSteps
from lists import Lists
from cache_arguments import (ELEMENTS, Pools, memref_text, random_order,
                   random_type)


def rows_text(pool):
    return "x".join(map(str, pool.row)) + f"x{pool.element}"


class Steps(AttentionSteps, RowSteps, Lists, Pools, Builder):

    def rows_element(self, cache):
        """That of rows: mostly that of the cache."""
        return (cache.element if self.chance(0.85)
                else self.rng.choice(ELEMENTS))

    # --- Rows ---------------------------------------------------------------

    def some_pool(self, wanted=lambda p: True):
        known = [p for p in self.pools if wanted(p)]
        return self.rng.choice(known) if known else None

    def index_copy(self, pool=None):
        pool = pool or self.some_pool(lambda p: p.writable)
        if not pool:
            return
        cache = self.one_layer(pool)
        length = self.rows_count()
        slots, kind = self.slots(cache, length)
        element = self.rows_element(cache)
        rows, kinds = zip(*(self.rows_argument("rows", length, cache.row,
                                               element)
                            for _ in range(cache.sides)))
        self.say(f"kvcache.index_copy {', '.join(rows)} into {cache.ssa} at "
                 f"{slots} : {', '.join(kinds)} into {cache.text} at {kind}")

    def scatter(self, pool=None):
        pool = pool or self.some_pool(lambda p: p.writable)
        if not pool:
            return
        cache = self.one_layer(pool)
        length = self.rows_count()
        if self.chance(0.5) and not self.gpu:
            blocks, offsets, bk, ok = self._divided(cache, length)
        else:
            bw, ow = self.width(), self.width()
            blocks = self.list_argument(bw, length,
                                        self.block_values(cache, bw), "blocks")
            offsets = self.list_argument(
                ow, length, self.offset_values(cache, ow), "offsets")
            bk, ok = f"memref<?x{bw}>", f"memref<?x{ow}>"
        element = self.rows_element(cache)
        rows, kinds = zip(*(self.rows_argument("rows", length, cache.row,
                                               element)
                            for _ in range(cache.sides)))
        pad = self.rng.choice(["skip_negative", "skip_out_of_range", "none"])
        self.say(f"kvcache.scatter {', '.join(rows)} into {cache.ssa} at "
                 f"{blocks}, {offsets} pad = {pad} : {', '.join(kinds)} into "
                 f"{cache.text} at {bk}, {ok}")

    def _divided(self, cache, length):
        """Blocks and offsets that a loop over slots divides."""
        width, n = self.width(), cache.tokens
        slots = self.list_argument(width, length,
                                   self.slot_values(cache, width), "slots")
        kind = f"memref<?x{width}>"
        size = self.length_of(slots, kind)
        if self.chance(0.3):
            own = self.local_list(width, size, False)
            self.say(f"memref.copy {slots}, {own} : {kind} to {kind}")
            slots = own
        blocks = self.local_list(width, size, False)
        offsets = self.local_list(width, size, False)
        power = n & (n - 1) == 0 and n > 1
        how = self.rng.choice(["divsi", "floordivsi", "divui"]
                              + (["shrsi"] if power else []))
        rest = self.rng.choice(["remsi", "sub"]
                               + (["andi"] if power and how != "divsi"
                                  else []))
        maps = ", ".join(["affine_map<(d0) -> (d0)>"] * 3)
        self.say(f"linalg.generic {{indexing_maps = [{maps}], "
                 'iterator_types = ["parallel"]}')
        self.say(f"    ins({slots} : {kind}) outs({blocks}, {offsets} : {kind},"
                 f" {kind}) {{")
        s = self.fresh("s")
        self.say(f"^bb0({s}: {width}, {self.fresh()}: {width}, "
                 f"{self.fresh()}: {width}):")
        with self.scope():
            by = self.constant(n.bit_length() - 1 if how == "shrsi" else n,
                               width)
            q = self.let(f"arith.{how} {s}, {by} : {width}")
            if rest == "sub":
                p = self.let(f"arith.muli {q}, {self.constant(n, width)} : "
                             f"{width}")
                r = self.let(f"arith.subi {s}, {p} : {width}")
            else:
                by = self.constant(n - 1 if rest == "andi" else n, width)
                r = self.let(f"arith.{rest} {s}, {by} : {width}")
            self.say(f"linalg.yield {q}, {r} : {width}, {width}")
        self.say("}")
        if self.chance(0.35):
            changed = self.rng.choice([slots, blocks, offsets])
            if self.chance(0.5):
                changed = self._by_another_name(changed, width, kind)
            self._store(changed, width, size, cache)
        return blocks, offsets, kind, kind

    def _by_another_name(self, name, width, kind):
        """A list that is this one, or another."""
        one = self.extent("T", lambda r, d: r.randint(9, 12))
        other = self.list_argument(width, one, lambda r, d, c: [0] * c, "other")
        self.tags.add("list by another name")
        if self.chance(0.5):
            return self.let(f"arith.select {self.flag()}, {name}, {other} : "
                            f"{kind}")
        count = self.number_argument("index", lambda r, d: r.randint(0, 2))
        result, i, x, y = (self.fresh(p) for p in ("names", "i", "x", "y"))
        self.say(f"{result}:2 = scf.for {i} = {self.constant(0)} to {count} "
                 f"step {self.constant(1)} iter_args({x} = {name}, {y} = "
                 f"{other}) -> ({kind}, {kind}) {{")
        self.say(f"  scf.yield {y}, {x} : {kind}, {kind}")
        self.say("}")
        return f"{result}#{self.rng.randrange(2)}"

    def gather(self, pool=None, cache=None, outs=None):
        cache = cache or self.one_layer(pool or self.some_pool())
        length = self.rows_count()
        slots, kind = self.slots(cache, length)
        zero = self.rng.choice(["", "zero "])
        if outs is None:
            element = self.rows_element(cache)
            outs, kinds = zip(*(self.rows_argument("out", length, cache.row,
                                                   element)
                                for _ in range(cache.sides)))
        else:
            outs, kinds = outs
        self.say(f"kvcache.gather {cache.ssa} at {slots} {zero}into "
                 f"{', '.join(outs)} : {cache.text} at {kind} into "
                 f"{', '.join(kinds)}")

    def read_a_copy(self):
        """Gather from a copy, perhaps into the memory that it was made of."""
        pool = self.some_pool(lambda p: p.writable)
        if not pool:
            return
        cache = self.one_layer(pool)
        kind = cache.type
        order = (kind.order if self.chance(0.5)
                 else random_order(self.rng, kind.axes))
        element = (kind.element_type if self.chance(0.8)
                   else self.rng.choice(ELEMENTS))
        copy = self.buffer(CacheType(kind.axes, element, order, {}, 4), cache)
        copy.blocks = cache.blocks
        self.say(f"kvcache.relayout {cache.ssa} into {copy.ssa} : {cache.text} "
                 f"into {copy.text}")
        if self.chance(0.3):
            self.index_copy(pool)
        if self.chance(0.2) and order == kind.order and (
                element == kind.element_type):
            self._write_to_either(cache, copy)
        flat = self._flat(cache)
        if flat and self.chance(0.6) and element == kind.element_type:
            self.tags.add("in place")
            return self.gather(cache=copy, outs=flat)
        then = self.rng.random()
        if then < 0.3 and order != kind.order or then < 0.15:
            self.tags.add("in place")
            self.say(f"kvcache.relayout {copy.ssa} into {cache.ssa} : "
                     f"{copy.text} into {cache.text}")
        elif then < 0.45 and element == kind.element_type:
            self.tags.add("in place")
            self.transfer(copy, cache)
        else:
            self.gather(cache=copy)

    def _write_to_either(self, cache, copy):
        """Through a value that is the copy, or what was copied."""
        self.tags.add("copy by another name")
        a, b = self.cast(cache), self.cast(copy)
        self.pools += [a, b]
        how = self.rng.choice(["if", "swap", "while", "switch", "select"])
        ssa = getattr(self, f"_join_{how}")(a, b)
        self.index_copy(Pool(ssa, a.type, a.memory | b.memory, a.blocks,
                             joined=True))

    def _flat(self, cache):
        """Rows of each side of a cache as memrefs, where that is a view."""
        kind = cache.type
        if cache.split or not cache.writable or cache.sides != 1 or (
                "S" in kind.axes or "L" in kind.axes):
            return None
        known = kind.strides()
        stride, n = known["N"][0], kind.axes["N"]
        if stride is None or known["B"][0] != n * stride:
            return None
        strides = [stride] + [known[x][0] for x in "HD" if cache.has(x)]
        step = 1
        for extent, given in zip(reversed(cache.row), reversed(strides[1:])):
            if given != step:
                return None
            step *= extent
        result = self.fresh("flat")
        self.say(f"{result} = kvcache.flatten {cache.ssa} : {cache.text}")
        rows = "?" if kind.axes["B"] is None else str(kind.axes["B"] * n)
        text = (f"memref<{rows}x{rows_text(cache)}, strided<"
                f"[{', '.join(map(str, strides))}], offset: ?>>")
        return (result,), (text,)

    # --- Blocks -------------------------------------------------------------

    def _blocks_of_pool(self):
        """A cache, and the type and the length of a list of its blocks."""
        pool = self.some_pool(lambda p: p.writable)
        return pool and (self.varied(pool), self.width(),
                         self.extent("P", lambda r, d: r.randint(0, 4)))

    def copy_blocks(self):
        found = self._blocks_of_pool()
        if not found:
            return
        cache, width, count = found
        pairs = self._pairs(width, count, 2, lambda r, d: [
            d.get(cache.blocks, 2)] * 2)
        self.say(f"kvcache.copy_blocks {cache.ssa} at {pairs} : {cache.text} at "
                 f"memref<?x2x{width}>")

    def clear_blocks(self):
        found = self._blocks_of_pool()
        if not found:
            return
        cache, width, count = found

        def values(r, d, entries):
            blocks = d.get(cache.blocks, 2)
            return [hostile(r, BITS[width],
                            lambda: r.randrange(max(1, blocks)),
                            [0, blocks], 0.12) for _ in range(d[count])]

        blocks = self.argument("blocks", f"memref<?x{width}>", Spec(
            "list", width, (count,), values=values, memory=self.memory()))
        self.say(f"kvcache.clear_blocks {cache.ssa} at {blocks} : {cache.text} "
                 f"at memref<?x{width}>")

    def _pairs(self, width, count, columns, rooms, chunk=1):
        def values(r, d, entries):
            room = [max(1, n) for n in rooms(r, d)]
            out = []
            for _ in range(d[count]):
                pair = [hostile(r, BITS[width], lambda n=n: r.randrange(n),
                                [0, n], 0.12) for n in room]
                if columns == 4:
                    first = r.randint(0, chunk)
                    pair += [first, r.randint(0, chunk - first)]
                    if r.random() < 0.15:
                        pair[2 + r.randrange(2)] = hostile(
                            r, BITS[width], lambda: 0, [chunk, 0], 1)
                out += pair
            return out
        return self.argument("pairs", f"memref<?x{columns}x{width}>", Spec(
            "table", width, (count, columns), values=values,
            memory=self.memory()))

    def transfer(self, source=None, dest=None):
        if source is None:
            dest = self.some_pool(lambda p: p.writable)
            if not dest:
                return
            kind = dest.type
            axes = dict(kind.axes)
            axes["B"] = None
            n = axes["N"]
            axes["N"] = self.rng.choice(
                [n, n, n * 2, n * 3] + [m for m in range(1, n) if n % m == 0])
            heads = None
            if "H" in axes and self.chance(0.3):
                heads = axes["H"]
                axes["H"] += self.rng.randint(1, 2)
            order = random_order(self.rng, axes)
            source = self.pool_argument(CacheType(
                axes, kind.element_type, order, {}, 4))
            if heads:
                first = self.rng.randint(0, axes["H"] - heads)
                source = self.derived(
                    f"heads {source.ssa}[{first}, {heads}]", source,
                    source.type.heads(first, heads))
            if self.chance(0.4):
                if source.writable and self.chance(0.5):
                    source, dest = dest, source
        if source.memory & dest.memory or not dest.writable or (
                source.element != dest.element):
            return
        width, columns = self.width(), self.rng.choice([2, 4])
        chunk = min(source.tokens, dest.tokens)

        def rooms(r, d):
            return [d.get(p.blocks, 2) * (p.tokens // chunk)
                    for p in (source, dest)]
        count = self.extent("P", lambda r, d: r.randint(0, 4))
        pairs = self._pairs(width, count, columns, rooms, chunk)
        zero = self.rng.choice(["", " zero"])
        self.say(f"kvcache.transfer {source.ssa} to {dest.ssa} at {pairs}{zero}"
                 f" : {source.text} to {dest.text} at "
                 f"memref<?x{columns}x{width}>")

    # --- Memrefs ------------------------------------------------------------

    def storage(self):
        """Elements of a cache as a memref, copied out or changed one by one."""
        pool = self.some_pool(lambda p: p.writable)
        if not pool or self.gpu:
            return
        cache = self.varied(pool, keep=True)
        axes = list(cache.type.axes)
        if self.chance(0.5):
            self.rng.shuffle(axes)
        names = "" if axes == list(cache.type.axes) else f"[{', '.join(axes)}]"
        text = memref_text(cache.type, axes)
        array = self.let(f"kvcache.storage {cache.ssa}{names} : {cache.text} to "
                         f"{text}")
        if self.chance(0.4):
            return self._set_elements(cache, axes, array, text)
        blocks = cache.blocks or self.extent("B", lambda r, d: 2)
        out = memref_text(cache.type, axes, packed=True)
        shape = tuple(blocks if a == "B" else cache.type.axes[a] for a in axes)
        if cache.blocks is None and cache.type.axes["B"] is None:
            return self._set_elements(cache, axes, array, text)
        dest = self.argument("out", out, Spec(
            "rows", cache.element, shape, memory=self.memory()))
        self.say(f"memref.copy {array}, {dest} : {text} to {out}")

    def _set_elements(self, cache, axes, array, text):
        count = self.let(f"kvcache.dim {cache.ssa}[B] : {cache.text}")
        b = self.fresh("i")
        self.say(f"scf.for {b} = {self.constant(0)} to {count} step "
                 f"{self.constant(1)} {{")
        with self.scope():
            def index():
                return ", ".join(
                    b if a == "B" else self.constant(
                        self.rng.randrange(cache.type.axes[a])) for a in axes)
            value = self.let(f"memref.load {array}[{index()}] : {text}")
            how = self.rng.choice(["", "negf", "addf", "mulf"])
            kind = cache.element
            if not is_computed(kind):
                pass
            elif how == "negf":
                value = self.let(f"arith.negf {value} : {kind}")
            elif how and kind != "bf16":
                value = self.let(f"arith.{how} {value}, {value} : {kind}")
            self.say(f"memref.store {value}, {array}[{index()}] : {text}")
        self.say("}")

    # --- Control flow -------------------------------------------------------

    def facts(self):
        """Two ways, for what a cache is and for what it may be."""
        pool = self.some_pool(lambda p: p.type.facts and p.writable
                              and p.blocks and not p.joined)
        if not pool:
            return self.index_copy()
        vague = self.cast(pool)
        self.tags.add("facts")
        if pool.blocks and not pool.type.axes["B"]:
            # Of a cache without elements nobody knows which facts it fulfils.
            self.dims[pool.blocks] = lambda r, d: r.randint(1, 4)
        flag = self.let(f"kvcache.has_facts {vague.ssa} : {vague.text} has "
                        f"{pool.text}")
        self.say(f"scf.if {flag} {{")
        with self.scope():
            ssa = self.let(f"kvcache.cast {vague.ssa} : {vague.text} to "
                           f"{pool.text}")
            self.simple_step(Pool(ssa, pool.type, pool.memory, pool.blocks))
        self.say("} else {")
        with self.scope():
            self.simple_step(vague)
        self.say("}")

    def simple_step(self, pool):
        if pool.writable and self.chance(0.6):
            return self.index_copy(pool)
        return self.gather(pool)

    def twin(self, pool):
        """Another pool of the same type, perhaps in the same memory."""
        memory = None
        if self.chance(0.5):
            (memory,) = pool.memory if len(pool.memory) == 1 else (None,)
            self.tags.add("overlap")
        return self.pool_argument(pool.type, memory=memory, form="cache")

    def join(self):
        """A value that is one of two caches."""
        pool = self.some_pool()
        other = self.twin(pool)
        how = pick(self.rng, (2, "if"), (1, "select"), (2, "branch"),
                   (2, "swap"), (1, "call"), (1, "while"), (1, "switch"))
        if self.depth > 1 and how == "branch":
            how = "if"
        self.tags.add(f"join:{how}")
        ssa = getattr(self, f"_join_{how}")(pool, other)
        made = Pool(ssa, pool.type, pool.memory | other.memory, pool.blocks,
                    pool.writable, joined=True)
        self.pools.append(made)
        self.simple_step(self.rng.choice([made, made, pool]))

    def _join_select(self, a, b):
        return self.let(f"arith.select {self.flag()}, {a.ssa}, {b.ssa} : "
                        f"{a.text}")

    def _join_if(self, a, b):
        flag, name = self.flag(), self.fresh("join")
        self.say(f"{name} = scf.if {flag} -> ({a.text}) {{")
        with self.scope():
            if self.chance(0.6):
                self.simple_step(self.rng.choice([a, b]))
            self.say(f"scf.yield {a.ssa} : {a.text}")
        self.say("} else {")
        with self.scope():
            if self.chance(0.3):
                self.simple_step(self.rng.choice([a, b]))
            self.say(f"scf.yield {b.ssa} : {a.text}")
        self.say("}")
        return name

    def _join_switch(self, a, b):
        n = self.number_argument("index", lambda r, d: r.randint(0, 3))
        name = self.fresh("join")
        self.say(f"{name} = scf.index_switch {n} -> {a.text}")
        for label, chosen in (("case 0", a), ("case 2", b),
                              ("default", self.rng.choice([a, b]))):
            self.say(f"{label} {{")
            self.say(f"  scf.yield {chosen.ssa} : {a.text}")
            self.say("}")
        return name

    def _join_branch(self, a, b):
        flag, name = self.flag(), self.fresh("join")
        block = f"^after{self.memory()}"
        self.say(f"cf.cond_br {flag}, {block}({a.ssa} : {a.text}), "
                 f"{block}({b.ssa} : {a.text})")
        self.say(f"{block}({name}: {a.text}):")
        return name

    def _join_swap(self, a, b):
        """A loop that exchanges two caches in each iteration."""
        count = self.number_argument("index", lambda r, d: r.randint(0, 3))
        name, i = self.fresh("join"), self.fresh("i")
        x, y = self.fresh("x"), self.fresh("y")
        self.say(f"{name}:2 = scf.for {i} = {self.constant(0)} to {count} step "
                 f"{self.constant(1)} iter_args({x} = {a.ssa}, {y} = {b.ssa}) "
                 f"-> ({a.text}, {a.text}) {{")
        with self.scope():
            memory = a.memory | b.memory
            inner = Pool(x, a.type, memory, a.blocks, a.writable)
            if self.chance(0.7):
                self.simple_step(inner)
            self.say(f"scf.yield {y}, {x} : {a.text}, {a.text}")
        self.say("}")
        return f"{name}#{self.rng.randrange(2)}"

    def _join_while(self, a, b):
        count = self.number_argument("index", lambda r, d: r.randint(0, 3))
        name, i, x, y = (self.fresh(p) for p in ("join", "i", "x", "y"))
        i2, x2, y2 = (self.fresh(p) for p in ("i", "x", "y"))
        kinds = f"index, {a.text}, {a.text}"
        self.say(f"{name}:3 = scf.while ({i} = {self.constant(0)}, {x} = "
                 f"{a.ssa}, {y} = {b.ssa}) : ({kinds}) -> ({kinds}) {{")
        with self.scope():
            go = self.let(f"arith.cmpi slt, {i}, {count} : index")
            self.say(f"scf.condition({go}) {i}, {x}, {y} : {kinds}")
        self.say("} do {")
        self.say(f"^bb0({i2}: index, {x2}: {a.text}, {y2}: {a.text}):")
        with self.scope():
            if self.chance(0.5):
                self.simple_step(Pool(x2, a.type, a.memory | b.memory,
                                      a.blocks, a.writable))
            more = self.let(f"arith.addi {i2}, {self.constant(1)} : index")
            self.say(f"scf.yield {more}, {y2}, {x2} : {kinds}")
        self.say("}")
        return f"{name}#{1 + self.rng.randrange(2)}"

    def _join_call(self, a, b):
        helper = f"{self.name}_h{self.memory()}"
        inner = Steps(self.rng, helper, self.gpu)
        inner.number = self.number + 1000
        lines = [f"func.func private @{helper}(%a: {a.text}, %b: {a.text}) -> "
                 f"({a.text}, {a.text}) {{"]
        if a.writable and a.type.axes["B"] is None and self.chance(0.5):
            lines += [
                "  %e = memref.alloc() : memref<1x2xi64>",
                "  %z = arith.constant 0 : i64", "  %o = arith.constant 1 : i64",
                "  linalg.fill ins(%z : i64) outs(%e : memref<1x2xi64>)",
                "  %i = arith.constant 0 : index",
                "  %j = arith.constant 1 : index",
                "  memref.store %o, %e[%i, %j] : memref<1x2xi64>",
                f"  kvcache.copy_blocks %a at %e : {a.text} at memref<1x2xi64>"]
        lines += [f"  return %b, %a : {a.text}, {a.text}", "}"]
        self.helpers.append("\n".join(lines))
        name = self.fresh("join")
        self.say(f"{name}:2 = func.call @{helper}({a.ssa}, {b.ssa}) : "
                 f"({a.text}, {a.text}) -> ({a.text}, {a.text})")
        return f"{name}#{self.rng.randrange(2)}"

    def layers(self):
        """A loop over the layers of a pool."""
        pool = self.some_pool(lambda p: "L" in p.type.axes
                              and p.type.axes["B"] is None)
        if not pool or self.depth > 1:
            return self.index_copy()
        i = self.fresh("i")
        self.say(f"scf.for {i} = {self.constant(0)} to "
                 f"{self.constant(pool.type.axes['L'])} step "
                 f"{self.constant(1)} {{")
        with self.scope():
            self.loop_layer = i
            self.simple_step(pool)
            self.loop_layer = None
        self.say("}")


def random_program(rng, name, gpu=False):
    """A function of a few steps."""
    from builder import Program
    b = Steps(rng, name, gpu)
    layers = rng.choice([None, None, 1, 2, 3])
    sides = pick(rng, (5, 2), (2, None), (1, 1))
    heads = pick(rng, (3, 1), (4, 2), (2, 3), (1, None), (1, 4))
    kind = random_type(rng, layers, sides, heads)
    if rng.random() < 0.04:
        kind = random_type(rng, layers, sides, heads,
                           channels=rng.choice([64, 80, 128, 256]), tokens=4)
    if rng.random() < 0.08:
        kind = CacheType(kind.axes, kind.element_type, kind.order, kind.facts,
                         kind.align, access="read")
    pool = b.pool_argument(kind)
    if rng.random() < 0.25:
        b.pools.append(b.twin(pool))
    if rng.random() < 0.15:
        b.pools.append(b.cast(pool))
    steps = [(4, b.index_copy), (3, b.scatter), (3, b.gather),
             (3, b.read_a_copy), (2, b.copy_blocks), (1, b.clear_blocks),
             (3, b.transfer),
             (2, b.storage), (1.2, b.attention), (2, b.computed_rows),
             (3, b.join), (1.5, b.facts),
             (2, b.layers)]
    if gpu:
        steps = [(4, b.index_copy), (3, b.gather), (3, b.transfer),
                 (1, b.clear_blocks), (2, b.attention), (1, b.facts),
                 (2, b.computed_rows)]
    for _ in range(rng.choice([1, 1, 2, 2, 3])):
        pick(rng, *steps)()
    return Program(name, b.text(), b.arguments, b.results, b.dims, b.tags)
