# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Lists of numbers: slots, blocks, tables and batches, from arguments or
computed, with entries at and beyond all edges."""

from builder import BITS, Spec, hostile, pick

ID = "affine_map<(d0) -> (d0)>"


class Lists:
    """A part of a builder: see Steps."""

    def width(self):
        return self.rng.choice(["i32", "i64", "i64"])

    # --- What entries are ---------------------------------------------------

    def slot_values(self, pool, width, tokens=None):
        tokens = tokens or pool.tokens

        def values(r, d, count):
            blocks = d.get(pool.blocks, 2) if pool.blocks else 3
            room = max(1, blocks * tokens)
            edges = [0, room, -1, -room, room + tokens]
            live = [r.randrange(room) for _ in range(count)]
            if r.random() < 0.3:
                live = r.sample(range(room + count), count)
            return [hostile(r, BITS[width], lambda s=s: s, edges)
                    for s in live]
        return values

    def block_values(self, pool, width, factor=1):
        def values(r, d, count):
            blocks = d.get(pool.blocks, 2) if pool.blocks else 3
            blocks = max(1, blocks // factor)
            edges = [0, blocks, -1, (1 << 63) // pool.tokens,
                     (1 << 31) // pool.tokens, (1 << 32) // pool.tokens,
                     (1 << 64) // pool.tokens]
            numbers = [r.randrange(blocks) for _ in range(count)]
            if r.random() < 0.7 and count <= blocks:
                numbers = r.sample(range(blocks), count)
            return [hostile(r, BITS[width], lambda b=b: b, edges, 0.15)
                    for b in numbers]
        return values

    def offset_values(self, pool, width):
        return lambda r, d, count: [
            hostile(r, BITS[width], lambda: r.randrange(pool.tokens),
                    [0, pool.tokens, -1], 0.15) for _ in range(count)]

    # --- Slots --------------------------------------------------------------

    def slots(self, pool, length):
        """Slots as a value and its type; `length` is the extent of a list that
        comes with the call."""
        how = pick(self.rng, (5, "argument"), (2, "blocks"), (2, "arithmetic"),
                   (1, "stored"), (1, "tensor"), (1, "loop"),
                   (1, "chosen"), (2, "mapping"))
        if self.gpu and how in ("arithmetic", "stored", "loop", "chosen",
                                "tensor"):
            how = "argument"
        width = self.width()
        source = getattr(self, f"_slots_{how}")(pool, length, width)
        source, kind = source
        self.tags.add(f"slots:{how}")
        pad = self.rng.choice(["skip_negative", "skip_out_of_range", "none",
                               "sink(0)", "sink(?)"])
        text = (f"!kvcache.slots<?T x {width}, rows_per_block = {pool.tokens}, "
                f"pad = {pad}>")
        ssa = self.let(f"kvcache.make_slots {source} : {kind} to {text}")
        return ssa, text

    def _slots_argument(self, pool, length, width):
        return self.list_argument(width, length, self.slot_values(pool, width),
                                  "slots"), f"memref<?x{width}>"

    def _slots_tensor(self, pool, length, width):
        return (self.list_argument(width, length, self.slot_values(pool, width),
                                   "slots", tensor=True),
                f"tensor<?x{width}>")

    def local_list(self, width, count, filled=True):
        name = self.let(f"memref.alloc({count}) : memref<?x{width}>", "buffer")
        if filled and not self.gpu:
            value = self.constant(self.rng.choice([-1, 0, 1]), width)
            self.say(f"linalg.fill ins({value} : {width}) outs({name} : "
                     f"memref<?x{width}>)")
        return name

    def length_of(self, name, kind):
        return self.let(f"memref.dim {name}, {self.constant(0)} : {kind}")

    def _short(self, whole, unit):
        """A count beside that of a list: a number of whole units."""
        return self.number_argument("index", lambda r, d: unit * pick(
            r, (3, whole(d)), (2, max(0, whole(d) - 1)), (1, whole(d) + 1),
            (1, 0)))

    def _slots_blocks(self, pool, length, width):
        """The slots of whole blocks, as many as the list holds or not."""
        kind, tokens, tied = self.width(), pool.tokens, self.chance(0.5)
        self.dims[length] = lambda r, d: tokens * r.randint(0, 4)
        count = self.extent("K", lambda r, d: d[length] // tokens if tied
                            else r.randint(0, 4))
        blocks = self.list_argument(kind, count, self.block_values(pool, kind),
                                    "blocks")
        if not tied:
            size = self._short(lambda d: d[count], tokens)
        else:
            listed = self.length_of(blocks, f"memref<?x{kind}>")
            size = self.let(f"arith.muli {listed}, {self.constant(tokens)} : "
                            "index")
        out = self.local_list(width, size, self.chance(0.5))
        self.say(f"kvcache.block_slots {blocks} of {tokens} into {out} : "
                 f"memref<?x{kind}> into memref<?x{width}>")
        if self.chance(0.15) and not self.gpu:
            self._store(out, width, size, pool)
        return out, f"memref<?x{width}>"

    def _store(self, name, width, size, pool):
        """One entry changes, if the list has one."""
        value = self.number_argument(width, lambda r, d: hostile(
            r, BITS[width], lambda: r.randrange(8), [0, -1]))
        some = self.let(f"arith.cmpi sgt, {size}, {self.constant(0)} : index")
        self.say(f"scf.if {some} {{")
        self.say(f"  memref.store {value}, {name}[{self.constant(0)}] : "
                 f"memref<?x{width}>")
        self.say("}")

    def _slots_stored(self, pool, length, width):
        name, kind = self._slots_argument(pool, length, width)
        size = self.length_of(name, kind)
        self._store(name, width, size, pool)
        return name, kind

    def _slots_chosen(self, pool, length, width):
        """One of two lists; one of them changes afterwards."""
        name, kind = self._slots_argument(pool, length, width)
        size = self.length_of(name, kind)
        own = self.local_list(width, size)
        self.say(f"memref.copy {name}, {own} : {kind} to {kind}")
        flag = self.flag()
        chosen = self.let(f"arith.select {flag}, {own}, {name} : {kind}")
        self._store(self.rng.choice([own, name]), width, size, pool)
        return self.rng.choice([chosen, own]), kind

    def flag(self):
        return self.number_argument("i1", lambda r, d: r.randint(0, 1))

    def arithmetic(self, value, width):
        """A few operations on integers, by way of other widths."""
        for _ in range(self.rng.randint(1, 3)):
            how = self.rng.choice(["op", "op", "narrow", "compare", "shift"])
            number = self.constant(
                self.rng.choice([0, 1, 2, 3, -1, 5, 127, 128, -128]), width)
            if how == "op":
                op = self.rng.choice(["addi", "subi", "muli", "andi", "ori",
                                      "xori", "minsi", "maxsi", "minui",
                                      "maxui"])
                value = self.let(f"arith.{op} {value}, {number} : {width}")
            elif how == "narrow":
                other = self.rng.choice(["i8", "i16"])
                small = self.let(f"arith.trunci {value} : {width} to {other}")
                ext = self.rng.choice(["extsi", "extui"])
                value = self.let(f"arith.{ext} {small} : {other} to {width}")
            elif how == "compare":
                predicate = self.rng.choice(["slt", "sge", "ult", "uge", "eq"])
                bit = self.let(f"arith.cmpi {predicate}, {value}, {number} : "
                               f"{width}")
                value = self.let(f"arith.select {bit}, {value}, {number} : "
                                 f"{width}")
            else:
                by = self.constant(self.rng.randint(0, BITS[width] - 1), width)
                op = self.rng.choice(["shli", "shrsi", "shrui"])
                value = self.let(f"arith.{op} {value}, {by} : {width}")
        return value

    def _slots_arithmetic(self, pool, length, width):
        name, kind = self._slots_argument(pool, length, width)
        size = self.length_of(name, kind)
        out = self.local_list(width, size, False)
        self.say(f"linalg.generic {{indexing_maps = [{ID}, {ID}], "
                 'iterator_types = ["parallel"]}')
        self.say(f"    ins({name} : {kind}) outs({out} : {kind}) {{")
        a = self.fresh("x")
        self.say(f"^bb0({a}: {width}, {self.fresh('y')}: {width}):")
        with self.scope():
            value = self.arithmetic(a, width)
            self.say(f"linalg.yield {value} : {width}")
        self.say("}")
        return out, kind

    def _slots_loop(self, pool, length, width):
        name, kind = self._slots_argument(pool, length, width)
        size = self.length_of(name, kind)
        out = self.local_list(width, size, False)
        i = self.fresh("i")
        self.say(f"scf.for {i} = {self.constant(0)} to {size} step "
                 f"{self.constant(1)} {{")
        with self.scope():
            value = self.let(f"memref.load {name}[{i}] : {kind}")
            value = self.arithmetic(value, width)
            self.say(f"memref.store {value}, {out}[{i}] : {kind}")
        self.say("}")
        return out, kind

    def _slots_mapping(self, pool, length, width):
        batch, kind, _ = self.batch(pool, length)
        size = self._short(lambda d: d[length], 1)
        out = self.local_list(width, size, False)
        sink = ""
        if self.chance(0.2) and not self.gpu:
            sink = f"sink({self.number_argument('index', lambda r, d: r.randint(0, 2))}) "
        self.say(f"kvcache.slot_mapping {batch} {sink}into {out} : {kind} into "
                 f"memref<?x{width}>")
        return out, f"memref<?x{width}>"

    # --- Batches ------------------------------------------------------------

    def batch(self, pool, length, positions=None, small=False, long=False):
        """A batch over the blocks of a pool, for query rows of an extent."""
        width, tokens = self.width(), pool.tokens
        requests = self.extent("R", lambda r, d: pick(
            r, (1, 0), (3, 1), (4, r.randint(2, 3))))
        most = 6 if long else 3
        columns = self.extent("M", lambda r, d: r.randint(0, most))
        # Lists of one batch that are not of one length: the shortest counts,
        # or the call is refused.
        uneven = 0.1 if self.chance(0.15) else 0.0

        def about(count):
            return lambda r, d: max(0, count(d) + (
                r.choice([-1, 1]) if r.random() < uneven else 0))
        after = self.extent("S", about(lambda d: d[requests] + 1))
        listed = self.extent("R", about(lambda d: d[requests]))

        def starts(r, d, count):
            rows = d.get(length, 3)
            cuts = sorted(r.randint(0, rows) for _ in range(count - 1))
            good = [0, *cuts][:count]
            return [hostile(r, BITS[width], lambda s=s: s, [0, rows], 0.06)
                    for s in good]

        def lengths(r, d, count):
            room = d[columns] * tokens
            return [hostile(r, BITS[width], lambda: r.randint(0, room),
                            [0, room], 0.1) for _ in range(count)]

        def table(r, d, count):
            return self.block_values(pool, width)(r, d, count)
        kind = f"memref<?x{width}>"
        starts = self.argument("starts", kind, Spec(
            "list", width, (after,), values=starts, memory=self.memory()))
        lengths = self.argument("lengths", kind, Spec(
            "list", width, (requests,), values=lengths, memory=self.memory()))
        table_kind = f"memref<?x?x{width}>"
        apart = self.chance(0.3)
        if apart:
            table_kind = f"memref<?x?x{width}, strided<[?, 1], offset: ?>>"
        raw = self.argument("table", table_kind, Spec(
            "table", width, (listed, columns), values=table,
            memory=self.memory(), apart=apart))
        if self.chance(0.2) and not apart:
            raw = self._mapped(raw, table_kind, width)
        elif self.chance(0.2) and not apart:
            raw, lengths = self._csr(pool, table_kind, width, tokens, raw,
                                     lengths, requests, after)
        table_text = f"!kvcache.block_table<?R x ?M x {width}, tokens = {tokens}>"
        made = self.let(f"kvcache.make_block_table {raw} : {table_kind} to "
                        f"{table_text}")
        extra, text = "", f"!kvcache.batch<?R x ?M x {width}, tokens = {tokens}"
        if positions or (positions is None and self.chance(0.25)):
            pos = self.width()

            def values(r, d, count):
                edges = [0, -1, 40] if small else [0, -1, 40, 1 << 30]
                return [hostile(r, 31 if small else BITS[pos],
                                lambda: r.randint(0, 3 * tokens), edges, 0.1)
                        if not small else r.randint(-2, 3 * tokens)
                        for _ in range(count)]
            p = self.list_argument(pos, length, values, "positions")
            extra = f" positions({p} : memref<?x{pos}>)"
            text += f", positions = {pos}"
        ssa = self.let(f"kvcache.make_batch {starts}, {lengths}, {made}{extra} "
                       f": {kind}, {kind}, {table_text}")
        return ssa, text + ">", requests

    def _csr(self, pool, kind, width, tokens, table, lengths, requests, after):
        """Lists of pages that become a table."""
        listed = self.extent("K", lambda r, d: r.randint(0, 12))

        def starts(r, d, count):
            cuts = sorted(r.randint(0, d[listed]) for _ in range(count))
            return [hostile(r, BITS[width], lambda s=s: s, [0, d[listed]], 0.06)
                    for s in cuts]
        name = f"memref<?x{width}>"
        indptr = self.list_argument(width, after, starts, "indptr")
        indices = self.list_argument(width, listed,
                                     self.block_values(pool, width), "indices")
        c0, c1 = self.constant(0), self.constant(1)
        size = [self.let(f"memref.dim {table}, {c} : {kind}") for c in (c0, c1)]
        out = self.let(f"memref.alloc({', '.join(size)}) : {kind}", "buffer")
        self.tags.add("csr_table")
        if self.chance(0.5):
            self.say(f"kvcache.csr_table {indptr}, {indices} into {out} : "
                     f"{name}, {name} into {kind}")
            return out, lengths
        last = self.list_argument(width, requests, lambda r, d, count: [
            hostile(r, BITS[width], lambda: r.randint(1, tokens), [0, tokens],
                    0.1) for _ in range(count)], "last")
        known = self.let(f"memref.alloc({size[0]}) : {name}", "buffer")
        self.say(f"kvcache.csr_table {indptr}, {indices} last({last} of "
                 f"{tokens}) into {out}, {known} : {name}, {name}, {name} into "
                 f"{kind}, {name}")
        return out, known

    def _mapped(self, raw, kind, width):
        """A table of a manager with larger blocks."""
        ratio = self.rng.choice([1, 2, 3])
        c0, c1 = self.constant(0), self.constant(1)
        rows = self.let(f"memref.dim {raw}, {c0} : {kind}")
        columns = self.let(f"memref.dim {raw}, {c1} : {kind}")
        more = self.let(f"arith.muli {columns}, {self.constant(ratio)} : index")
        out = self.let(f"memref.alloc({rows}, {more}) : {kind}", "buffer")
        self.say(f"kvcache.map_blocks {raw} by {ratio} into {out} : {kind} into "
                 f"{kind}")
        return out
