# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Rows that are computed, alone or on the way to a cache."""

from builder import BITS, Spec, hostile
from cache_arguments import ELEMENTS


class RowSteps:
    """A part of a builder: see Steps."""

    def computed_rows(self):
        """Rows that are rotated and written to a cache, others that are
        normalized and then perhaps rotated, all in one launch or not."""
        pool = self.some_pool(lambda p: p.writable and p.extent("D") > 1)
        if not pool:
            return
        cache = self.one_layer(pool)
        length, row = self.rows_count(), cache.row
        slots, slots_kind = self.slots(cache, length)
        rotation = self.rotation(length, row[-1])
        element = self.rows_element(cache)
        sources = [self.rows_argument("rows", length, row,
                                      self.rng.choice(ELEMENTS))
                   for _ in range(cache.sides)]
        given = [self.chance(0.3) for _ in sources]
        query = self.chance(0.6) and self._query(length, row)
        size = self.length_of(*sources[0])
        fused = self.chance(0.5)
        self.tags.add("fused rows" if fused else "computed rows")
        if fused:
            self.say("kvcache.fuse {")
        written, kinds = [], []
        for (source, kind), as_is in zip(sources, given):
            if as_is and kind.endswith(f"x{element}>"):
                written.append(source)
                kinds.append(kind)
                continue
            out, out_kind = self._between(size, row, element)
            self.rotate(source, kind, rotation, out, out_kind)
            written.append(out)
            kinds.append(out_kind)
        self.say(f"kvcache.index_copy {', '.join(written)} into {cache.ssa} at "
                 f"{slots} : {', '.join(kinds)} into {cache.text} at "
                 f"{slots_kind}")
        if query:
            self._normalized(query, row, size, rotation)
        if fused:
            self.say("}")

    def _between(self, size, row, element):
        kind = f"memref<?x{'x'.join(map(str, row))}x{element}>"
        return self.let(f"memref.alloc({size}) : {kind}", "between"), kind

    def _query(self, length, row):
        """Rows, a weight or none, and a destination or the rows themselves."""
        rows = self.rows_argument("query", length, row,
                                  self.rng.choice(ELEMENTS))
        weight = self.weight(row[-1]) if self.chance(0.6) else None
        if self.chance(0.3):
            return rows, weight, rows
        return rows, weight, self.rows_argument("out", length, row,
                                                self.rng.choice(ELEMENTS))

    def weight(self, channels, tensor=False):
        element = self.rng.choice(["f16", "bf16", "f32"])
        kind = f"{'tensor' if tensor else 'memref'}<{channels}x{element}>"
        return self.argument("weight", kind, Spec(
            "rows", element, (channels,), memory=self.memory())), kind

    def _normalized(self, query, row, size, rotation):
        (rows, kind), weight, (out, out_kind) = query
        if self.chance(0.5):
            return self.normalize(rows, kind, weight, out, out_kind)
        between, between_kind = self._between(size, row,
                                              self.rng.choice(["f16", "f32"]))
        self.normalize(rows, kind, weight, between, between_kind)
        self.rotate(between, between_kind, rotation, out, out_kind)

    def normalize(self, rows, kind, weight, out, out_kind, result=None):
        by, by_kind = ("", "") if weight is None else (
            f" by {weight[0]}", f" by {weight[1]}")
        epsilon = self.rng.choice(["1.0e-06", "1.0e-05", "0.0", "2.0"])
        plus = " plus_one" if weight and self.chance(0.4) else ""
        self.say(f"{result or ''}kvcache.normalize {rows}{by} into {out} "
                 f"epsilon {epsilon}{plus} : {kind}{by_kind} into {out_kind}")

    def rotation(self, length, channels, tensor=False):
        """A table, positions or none, and which pairs are turned."""
        turned = 2 * self.rng.randint(1, channels // 2)
        placed = self.chance(0.7)
        count = self.extent("P", lambda r, d: r.randint(0, 6)) if placed else (
            length)
        element = self.rng.choice(["f16", "bf16", "f32"])
        table, kind = self.rows_argument("table", count, [turned], element,
                                         tensor=tensor)
        text, types = f" by {table}", f" by {kind}"
        if placed:
            width = self.width()

            def positions(r, d, entries):
                end = d[count]
                return [hostile(r, BITS[width],
                                lambda: r.randrange(max(1, end)), [0, end])
                        for _ in range(entries)]
            at = self.list_argument(width, length, positions, "positions",
                                    tensor)
            text += f" at {at}"
            types += f" at {'tensor' if tensor else 'memref'}<?x{width}>"
        return text, types, " interleaved" if self.chance(0.4) else ""

    def rotate(self, rows, kind, rotation, out, out_kind, result=None):
        text, types, pairs = rotation
        self.say(f"{result or ''}kvcache.rotate {rows}{text} into {out}{pairs} "
                 f": {kind}{types} into {out_kind}")
