# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Attention over pools, and what may be around it."""

from builder import BITS, Spec, hostile


def is_computed(element):
    """Whether a program may compute in it: no format of one byte."""
    return not element.startswith("f8")


class AttentionSteps:

    def attention(self):
        pool = self.some_pool(lambda p: "H" in p.type.axes and p.sides == 2
                              and "S" in p.type.axes)
        if not pool:
            return self.gather()
        cache = self.varied(pool)
        if "L" in cache.type.axes:
            cache = self.layer(cache)
        caches = [cache]
        if self.chance(0.3):
            caches = [self.side(cache, 0), self.side(cache, 1)]
        length = self.rows_count()
        group = self.rng.choice([1, 1, 2, 3, 4])
        heads = cache.extent("H") * group
        alibi, long = self.chance(0.12), self.chance(0.25)
        if long:
            # More rows than a tile has.
            self.dims[length] = lambda r, d: r.randint(0, 70)
        batch, kind, requests = self.batch(cache, length, small=alibi,
                                           long=long)
        if self.chance(0.2):
            batch, kind, length = self._selected(batch, kind, length, requests)
        self._attend(caches, batch, kind, length, heads, alibi)

    def _attend(self, caches, batch, kind, length, heads, alibi):
        rng = self.rng
        d = caches[0].extent("D")
        element = caches[0].element
        element = rng.choice([element if is_computed(element) else "bf16",
                              "f32"])
        memref = f"memref<?x{heads}x{d}x{element}>"

        def rows(prefix):
            return self.argument(prefix, memref, Spec(
                "rows", element, (length, heads, d), memory=self.memory()))
        first = self.chance(0.4)
        lse_kind = f"memref<{heads}x?xf32>" if first else (
            f"memref<?x{heads}xf32>")
        lse_shape = (heads, length) if first else (length, heads)

        def lse():
            return self.argument("lse", lse_kind, Spec(
                "rows", "f32", lse_shape, memory=self.memory()))
        query_kind, apart = memref, self.chance(0.3)
        if apart:
            query_kind = (f"memref<?x{heads}x{d}x{element}, "
                          "strided<[?, ?, 1], offset: ?>>")
        query = self.argument("query", query_kind, Spec(
            "rows", element, (length, heads, d), memory=self.memory(),
            apart=apart, heads_apart=apart))
        out = rows("out")
        outs, kinds = [out], [memref]
        if self.chance(0.4):
            outs.append(lse())
            kinds.append(lse_kind)
        options = ""
        for name, share in (("alibi", alibi), ("sinks", self.chance(0.15))):
            if share:
                given = self.argument(name, f"memref<{heads}xf32>", Spec(
                    "rows", "f32", (heads,), memory=self.memory()))
                options += f"{name}({given} : memref<{heads}xf32>) "
        if self.chance(0.25):
            options += f"mask({self._mask(length)}) "
        if self.chance(0.2):
            options += f"value_scale({self._factor()}) "
        if self.chance(0.2):
            options += f"prefixes({self._prefixes()}) "
        after = " heads_first" if first and len(outs) == 2 else ""
        if self.chance(0.2):
            after += " batch_invariant"
        causal = self.chance(0.5)
        if causal:
            after += " causal"
        if self.chance(0.3):
            after += f" window {rng.choice([1, 2, 3, 5, 17, 1 << 40])}"
        if not causal and self.chance(0.5):
            after += f" window_right {rng.choice([0, 1, 3, 16, 1 << 40])}"
        if self.chance(0.2):
            after += f" softcap {rng.choice(['5.0', '30.0', '0.5'])}"
        if self.chance(0.3):
            after += f" scale {rng.choice(['0.5', '1.0', '0.125', '-0.25'])}"
        self.tags.add("attention")
        self.say(f"kvcache.attention {query} over "
                 f"{', '.join(c.ssa for c in caches)} in {batch} {options}into "
                 f"{', '.join(outs)}{after} : {query_kind} over "
                 f"{', '.join(c.text for c in caches)} in {kind} into "
                 f"{', '.join(kinds)}")
        if len(outs) == 2 and self.chance(0.3):
            pairs = [f"{out}, {outs[1]}"] + [
                f"{rows('part')}, {lse()}"
                for _ in range(rng.choice([1, 1, 2, 4]))]
            order = " heads_first" if first else ""
            each = " with ".join([f"{memref}, {lse_kind}"] * len(pairs))
            self.say(f"kvcache.merge_states {' with '.join(pairs)} into "
                     f"{rows('out')}, {lse()}{order} : {each} into {memref}, "
                     f"{lse_kind}")

    def _mask(self, length):
        """Words with any bits, as many for a row as any."""
        def words(r, d, count):
            return [r.randint(-2**31, 2**31 - 1) for _ in range(count)]
        kind, apart = "memref<?x?xi32>", self.chance(0.3)
        if apart:
            kind = "memref<?x?xi32, strided<[?, 1], offset: ?>>"
        width = self.extent("W", lambda r, d: r.randint(0, 3))
        mask = self.argument("mask", kind, Spec(
            "table", "i32", (length, width), values=words,
            memory=self.memory(), apart=apart))
        return f"{mask} : {kind}"

    def _prefixes(self):
        """Any groups, and prefixes without tokens, which all requests have."""
        width = self.width()
        kind = f"memref<?x{width}>"
        count = self.extent("G", lambda r, d: r.randint(0, 3))
        more = self.extent("G", lambda r, d: d[count] + 1)

        def groups(r, d, entries):
            numbers = [r.randint(0, 5) for _ in range(entries)]
            if r.random() < 0.7:
                numbers.sort()
            return [hostile(r, BITS[width], lambda n=n: n, [0, 5], 0.05)
                    for n in numbers]

        def lengths(r, d, entries):
            return [r.choice([0, 0, -1, -2**31]) for _ in range(entries)]
        lists = [self.argument(name, kind, Spec(
            "list", width, (extent,), values=values, memory=self.memory()))
            for name, extent, values in (("groups", more, groups),
                                         ("lengths", count, lengths))]
        return f"{', '.join(lists)} : {kind}, {kind}"

    def _factor(self):
        values = [0.5, 1.0, -2.0, 0.0, 3.25]
        if self.chance(0.3):
            return self.constant(self.rng.choice(values), "f32")
        return self.argument("factor", "f32", Spec(
            "real", "f32", values=lambda r, d: r.choice(values)))

    def _selected(self, batch, kind, length, requests):
        """Some rows of a batch."""
        width, pos = self.width(), self.width()
        element = kind.split(" x ")[2].split(",")[0]
        chosen = self.extent("I", lambda r, d: r.randint(0, 5))

        def indices(r, d, count):
            rows = d.get(length, 1)
            good = sorted(r.randrange(max(1, rows)) for _ in range(count))
            return [hostile(r, BITS[width], lambda i=i: i, [0, rows], 0.01)
                    for i in good]
        index = self.list_argument(width, chosen, indices, "indices")
        valid = self.argument("valid", f"memref<1x{width}>", Spec(
            "list", width, (1,), memory=self.memory(),
            values=lambda r, d, c: [hostile(
                r, BITS[width], lambda: r.randint(0, d[chosen]),
                [0, d[chosen]], 0.1)]))
        x, x_kind = self.rows_argument("x", length, [3], "f32")
        y = self.argument("y", "memref<?x3xf32>", Spec(
            "rows", "f32", (chosen, 3), memory=self.memory()))
        after = self.extent("S", lambda r, d: d[requests] + 1)
        starts = self.list_argument(element, after,
                                    lambda r, d, c: [7] * c, "newstarts")
        positions = self.list_argument(pos, chosen,
                                       lambda r, d, c: [7] * c, "newpos")
        self.tags.add("select_rows")
        self.say(f"kvcache.select_rows {x} of {batch} at {index}, {valid} into "
                 f"{y}, {starts}, {positions} : {x_kind} of {kind} at "
                 f"memref<?x{width}>, memref<1x{width}> into memref<?x3xf32>, "
                 f"memref<?x{element}>, memref<?x{pos}>")
        made = self.let(f"kvcache.with_rows {batch}, {starts}, {positions} : "
                        f"{kind}, memref<?x{element}>, memref<?x{pos}>")
        text = kind.split(", positions")[0].rstrip(">")
        return made, f"{text}, positions = {pos}>", chosen
