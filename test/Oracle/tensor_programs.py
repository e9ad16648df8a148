# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Programs whose pools are values: tensors beside memrefs, as hosts of other
compilers write them."""

from builder import Pool, Program, Spec, pick
from cache_arguments import blocks_count, random_order
from cache_types import CacheType
from steps import Steps


class TensorSteps(Steps):
    """A pool is a tensor of packed elements, whose dimensions have names."""

    def tensor_pool(self, kind):
        axes = list(kind.order)
        shape = "x".join(str(kind.axes[a] or "?") for a in axes)
        text = f"tensor<{shape}x{kind.element_type}>"
        blocks = self.extent("B", blocks_count)
        spec = Spec("pool", kind.element_type, cache=kind, order=tuple(axes),
                    shape=tuple(blocks if a == "B" else n
                                for a, n in kind.axes.items()),
                    memory=self.memory(), align=16)
        ssa = self.argument("pool", text, spec)
        pool = Pool(ssa, kind, frozenset([spec.memory]), blocks)
        pool.names = f"[{', '.join(axes)}]"
        pool.tensor = text
        pool.argument = len(self.arguments) - 1
        self.current = pool
        return pool

    def slots(self, pool, length):
        width = self.width()
        how = pick(self.rng, (4, "tensor"), (2, "memref"), (2, "blocks"),
                   (1, "inserted"))
        values = self.slot_values(pool, width)
        kind = f"tensor<?x{width}>"
        if how == "memref":
            kind = f"memref<?x{width}>"
            source = self.list_argument(width, length, values, "slots")
        elif how == "blocks":
            self.dims[length] = lambda r, d: pool.tokens * r.randint(0, 3)
            count = self.extent("K", lambda r, d: d[length] // pool.tokens)
            blocks = self.list_argument(
                width, count, self.block_values(pool, width), "blocks", True)
            size = self.let(f"tensor.dim {blocks}, {self.constant(0)} : {kind}")
            more = self.let(f"arith.muli {size}, {self.constant(pool.tokens)} "
                            ": index")
            empty = self.let(f"tensor.empty({more}) : {kind}")
            source = self.let(f"kvcache.block_slots {blocks} of {pool.tokens} "
                              f"into {empty} : {kind} into {kind}")
        else:
            source = self.list_argument(width, length, values, "slots", True)
        text = (f"!kvcache.slots<?T x {width}, rows_per_block = {pool.tokens}, "
                "pad = skip_negative>")
        ssa = self.let(f"kvcache.make_slots {source} : {kind} to {text}")
        if how == "inserted":
            # The entries are those from before.
            value = self.number_argument(width, lambda r, d: r.randint(-2, 9))
            size = self.let(f"tensor.dim {source}, {self.constant(0)} : {kind}")
            some = self.let(f"arith.cmpi sgt, {size}, {self.constant(0)} : "
                            "index")
            later = self.fresh("later")
            self.say(f"{later} = scf.if {some} -> ({kind}) {{")
            self.say(f"  %t{later[1:]} = tensor.insert {value} into {source}"
                     f"[{self.constant(0)}] : {kind}")
            self.say(f"  scf.yield %t{later[1:]} : {kind}")
            self.say("} else {")
            self.say(f"  scf.yield {source} : {kind}")
            self.say("}")
            again = self.let(f"kvcache.make_slots {later} : {kind} to {text}")
            ssa = self.rng.choice([ssa, again])
        self.tags.add(f"tensor:{how}")
        return ssa, text

    def write(self):
        pool = self.current
        length = self.rows_count()
        op = self.rng.choice(["index_copy", "scatter"])
        rows, kinds = zip(*(self.rows_argument("rows", length, pool.row,
                                               pool.element, tensor=True)
                            for _ in range(pool.sides)))
        if pool.row[-1] > 1 and self.chance(0.25):
            rows = self._rotated(rows, kinds, length)
        if op == "index_copy":
            slots, kind = self.slots(pool, length)
            at, end = slots, kind
        else:
            width = self.width()
            end = f"tensor<?x{width}>, tensor<?x{width}>"
            at = ", ".join([
                self.list_argument(width, length,
                                   self.block_values(pool, width), "blocks",
                                   True),
                self.list_argument(width, length,
                                   self.offset_values(pool, width), "offsets",
                                   True)]) + " pad = skip_negative"
        ssa = self.let(f"kvcache.{op} {', '.join(rows)} into {pool.ssa}"
                       f"{pool.names} at {at} : {', '.join(kinds)} into "
                       f"{pool.tensor} at {end}", "next")
        pool.ssa = ssa
        pool.written = True

    def _empty_like(self, rows, kind):
        size = self.let(f"tensor.dim {rows}, {self.constant(0)} : {kind}")
        return self.let(f"tensor.empty({size}) : {kind}")

    def _rotated(self, rows, kinds, length):
        rotation = self.rotation(length, self.current.row[-1], tensor=True)
        self.tags.add("tensor:rotated")
        out = []
        for source, kind in zip(rows, kinds):
            dest = (source if self.chance(0.3)
                    else self._empty_like(source, kind))
            name = self.fresh("turned")
            self.rotate(source, kind, rotation, dest, kind, f"{name} = ")
            out.append(name)
        return out

    def normal(self):
        """A norm of rows is a result."""
        pool, length = self.current, self.rows_count()
        rows, kind = self.rows_argument("rows", length, pool.row, pool.element,
                                        tensor=True)
        weight = (self.weight(pool.row[-1], tensor=True) if self.chance(0.5)
                  else None)
        name = self.fresh("normal")
        self.normalize(rows, kind, weight, self._empty_like(rows, kind), kind,
                       f"{name} = ")
        self.results.append((name, kind, Spec(
            "rows", pool.element, (length, *pool.row), align=16,
            memory=self.memory())))

    def read(self):
        pool = self.current
        length = self.rows_count()
        slots, kind = self.slots(pool, length)
        inner = "x".join(map(str, pool.row))
        out = f"tensor<?x{inner}x{pool.element}>"
        rows = self.argument("init", out, Spec(
            "rows", pool.element, (length, *pool.row), memory=self.memory(),
            align=16))
        size = self.let(f"tensor.dim {rows}, {self.constant(0)} : {out}")
        empties = [self.let(f"tensor.empty({size}) : {out}")
                   for _ in range(pool.sides)]
        name = self.fresh("read")
        results = [f"{name}#{i}" for i in range(pool.sides)]
        count = "" if pool.sides == 1 else f":{pool.sides}"
        if pool.sides == 1:
            results = [name]
        self.say(f"{name}{count} = kvcache.gather {pool.ssa}{pool.names} at "
                 f"{slots} zero into {', '.join(empties)} : {pool.tensor} at "
                 f"{kind} into {', '.join([out] * pool.sides)}")
        for result in results:
            if self.chance(0.4):
                result = self.let(f"arith.addf {result}, {rows} : {out}")
            self.results.append((result, out, Spec(
                "rows", pool.element, (length, *pool.row), align=16,
                memory=self.memory())))

    def attend(self):
        pool = self.current
        if pool.sides != 2 or "H" not in pool.type.axes:
            return self.read()
        length = self.rows_count()
        heads = pool.extent("H") * self.rng.choice([1, 2])
        batch, kind, _ = self.batch(pool, length)
        shape = (length, heads, pool.extent("D"))
        rows = f"tensor<?x{heads}x{shape[2]}x{pool.element}>"
        query = self.argument("query", rows, Spec(
            "rows", pool.element, shape, memory=self.memory(), align=16))
        size = self.let(f"tensor.dim {query}, {self.constant(0)} : {rows}")
        first = self.chance(0.4)
        lse = f"tensor<{heads}x?xf32>" if first else f"tensor<?x{heads}xf32>"
        lse_shape = (heads, length) if first else (length, heads)
        empty = [self.let(f"tensor.empty({size}) : {t}") for t in (rows, lse)]
        factor = ""
        if self.chance(0.3):
            value = self.argument("factor", "f32", Spec(
                "real", "f32", values=lambda r, d: r.choice([0.5, -2.0, 0.0])))
            factor = f"value_scale({value}) "
        name = self.fresh("attended")
        self.tags.add("attention")
        self.say(f"{name}:2 = kvcache.attention {query} over {pool.ssa}"
                 f"{pool.names} in {batch} {factor}into {', '.join(empty)} "
                 f"{'heads_first' if first else ''} "
                 f"{self.rng.choice(['', 'causal', 'window_right 2'])} : "
                 f"{rows} over "
                 f"{pool.tensor} in {kind} into {rows}, {lse}")
        self.results.append((f"{name}#0", rows, Spec(
            "rows", pool.element, shape, memory=self.memory(), align=16)))
        if self.chance(0.5):
            self.results.append((f"{name}#1", lse, Spec(
                "rows", "f32", lse_shape, memory=self.memory(), align=16)))

    def rounds(self):
        """A loop that carries the pool."""
        pool = self.current
        count = self.number_argument("index", lambda r, d: r.randint(0, 3))
        name, i, inner = self.fresh("loop"), self.fresh("i"), self.fresh("p")
        self.say(f"{name} = scf.for {i} = {self.constant(0)} to {count} step "
                 f"{self.constant(1)} iter_args({inner} = {pool.ssa}) -> "
                 f"({pool.tensor}) {{")
        with self.scope():
            pool.ssa = inner
            self.write()
            self.say(f"scf.yield {pool.ssa} : {pool.tensor}")
        self.say("}")
        pool.ssa = name

    def either(self):
        pool = self.current
        flag, name = self.flag(), self.fresh("if")
        before = pool.ssa
        self.say(f"{name} = scf.if {flag} -> ({pool.tensor}) {{")
        with self.scope():
            self.write()
            self.say(f"scf.yield {pool.ssa} : {pool.tensor}")
        self.say("} else {")
        with self.scope():
            pool.ssa = before
            if self.chance(0.4):
                self.write()
            self.say(f"scf.yield {pool.ssa} : {pool.tensor}")
        self.say("}")
        pool.ssa = name


def tensor_program(rng, name):
    b = TensorSteps(rng, name)
    axes = {}
    sides = pick(rng, (3, 2), (1, None))
    if sides:
        axes["S"] = sides
    axes["B"] = None
    axes["N"] = rng.choice([1, 2, 4, 8])
    if rng.random() < 0.8:
        axes["H"] = rng.randint(1, 3)
    axes["D"] = rng.choice([2, 4, 8])
    element = rng.choice(["f16", "bf16", "f32", "f32"])
    kind = CacheType(axes, element, random_order(rng, axes), {}, 16)
    pool = b.tensor_pool(kind)
    b.written = False
    for _ in range(rng.choice([1, 2, 2, 3])):
        pick(rng, (4, b.write), (3, b.read), (1, b.rounds), (1, b.either),
             (0.6, b.attend), (0.6, b.normal))()
    if getattr(pool, "written", False):
        b.results.insert(0, (pool.ssa, pool.tensor, pool.argument))
    elif not b.results:
        b.read()
    b.tags.add("tensors")
    return Program(name, b.text(), b.arguments, b.results, b.dims, b.tags)
