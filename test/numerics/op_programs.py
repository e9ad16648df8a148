# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Programs of one operation, made from the caches and buffers of a case.

A `Program` has a text, and the arguments of its function. The text depends on
types only, so that one compiled function serves many cases:

    p = op_programs.index_copy("insert", cache, [key, value], slots)
    library = compile_library(p.text())
    library.check_call(p.name, *p.arguments(Tensor))

Caches are a `CacheCase`, the rest are `Buffer`s of `cases`. Arguments come in
the sequence in which an operation is written, each cache followed by the
run-time operands of its views.
"""

from kvtest import CUDA_HOST
from ref_cache import Array


class Program:
    def __init__(self, name):
        self.name = name
        self._signature, self._body, self._arguments = [], [], []
        self._options = {}  # of the tensors of arguments

    def text(self):
        return (f"func.func @{self.name}({', '.join(self._signature)}) {{\n  "
                + "\n  ".join([*self._body, "return"]) + "\n}\n")

    def arguments(self, tensor):
        """For a call; `tensor` makes one of a storage, an element type, a
        shape, strides and an offset, as kvtest.Tensor does."""
        return [tensor(*a, **self._options.get(n, {}))
                if isinstance(a, Array) else a
                for n, a in enumerate(self._arguments)]

    def _argument(self, name, type_text, *values, align=None):
        # SSA names do not survive every front end; the attribute does.
        attributes = f'kvcache.name = "{name}"'
        if align:
            attributes += f", kvcache.align = {align}"
        self._signature.append(f"%{name}: {type_text} {{{attributes}}}")
        self._arguments.extend(values)
        return f"%{name}"

    def op(self, text, result=None):
        self._body.append(f"%{result} = {text}" if result else text)
        return f"%{result}"

    def index(self, name, value):
        return self._argument(name, "index", int(value))

    def number(self, name, value):
        return self._argument(name, "f32", float(value))

    def cache(self, name, case):
        """The value and the type of the view of a case."""
        if case.type.space == "host":
            self._options[len(self._arguments)] = dict(device=CUDA_HOST)
        value = self._argument(name, str(case.type), *case.cache.arguments())
        type_ = case.type
        for number, (kind, *operands) in enumerate(case.steps):
            step = f"{name}_{kind}{number}"
            if kind == "layer":
                index, constant = operands
                value_index = (
                    self.op(f"arith.constant {index} : index", f"{step}_index")
                    if constant else self.index(f"{step}_index", index))
                inside, after = value_index, type_.layer()
            elif kind == "side":
                inside, after = operands[0], type_.side(operands[0])
            elif kind == "heads":
                inside = ", ".join(map(str, operands))
                after = type_.heads(*operands)
            else:
                inside = ", ".join(
                    self.index(f"{step}_{what}", operand)
                    for what, operand in zip(("first", "count"), operands))
                after = type_.subpool()
            value = self.op(f"kvcache.{kind} {value}[{inside}] : {type_}", step)
            type_ = after
        return value, str(type_)

    def buffer(self, name, buffer):
        return (self._argument(name, buffer.type(), buffer.argument(),
                               align=buffer.align), buffer.type())

    def buffers(self, names, buffers):
        pairs = [self.buffer(n, b) for n, b in zip(names, buffers)]
        return (", ".join(v for v, _ in pairs), ", ".join(t for _, t in pairs))

    def slots(self, buffer, tokens, pad):
        value, source = self.buffer("slots", buffer)
        type_ = (f"!kvcache.slots<?T x {buffer.element_type}, "
                 f"rows_per_block = {tokens}, pad = {pad}>")
        return self.op(f"kvcache.make_slots {value} : {source} to {type_}",
                       "where"), type_

    def batch(self, case):
        starts, starts_type = self.buffer("starts", case.starts)
        lengths, lengths_type = self.buffer("lengths", case.lengths)
        table, table_source = self.buffer("table", case.table)
        shape = f"?R x ?M x {case.table.element_type}, tokens = {case.tokens}"
        table_type = f"!kvcache.block_table<{shape}>"
        self.op(f"kvcache.make_block_table {table} : {table_source} "
                f"to {table_type}", "blocks")
        positions = ""
        if case.positions is not None:
            value, source = self.buffer("positions", case.positions)
            positions = f" positions({value} : {source})"
            shape += f", positions = {case.positions.element_type}"
        self.op(f"kvcache.make_batch {starts}, {lengths}, %blocks{positions} "
                f": {starts_type}, {lengths_type}, {table_type}", "batch")
        return "%batch", f"!kvcache.batch<{shape}>"


def _sides(prefix, buffers):
    names = ["rows"] if len(buffers) == 1 else ["key", "value"]
    return [prefix + n for n in names]


def index_copy(name, cache, rows, slots, pad="skip_negative"):
    p = Program(name)
    values, types = p.buffers(_sides("", rows), rows)
    dest, cache_type = p.cache("cache", cache)
    where, slots_type = p.slots(slots, cache.view.extent("N"), pad)
    p.op(f"kvcache.index_copy {values} into {dest} at {where} : {types} "
         f"into {cache_type} at {slots_type}")
    return p


def scatter(name, cache, rows, blocks, offsets, pad="skip_negative"):
    p = Program(name)
    values, types = p.buffers(_sides("", rows), rows)
    dest, cache_type = p.cache("cache", cache)
    at, at_types = p.buffers(["blocks", "offsets"], [blocks, offsets])
    p.op(f"kvcache.scatter {values} into {dest} at {at} pad = {pad} : {types} "
         f"into {cache_type} at {at_types}")
    return p


def gather(name, cache, slots, outs, zero=False, pad="skip_negative"):
    p = Program(name)
    source, cache_type = p.cache("cache", cache)
    where, slots_type = p.slots(slots, cache.view.extent("N"), pad)
    values, types = p.buffers(_sides("out_", outs), outs)
    p.op(f"kvcache.gather {source} at {where}{' zero' if zero else ''} "
         f"into {values} : {cache_type} at {slots_type} into {types}")
    return p


def relayout(name, source, dest):
    p = Program(name)
    a, a_type = p.cache("source", source)
    b, b_type = p.cache("dest", dest)
    p.op(f"kvcache.relayout {a} into {b} : {a_type} into {b_type}")
    return p


def _at_blocks(op, name, cache, list_name, entries):
    p = Program(name)
    value, cache_type = p.cache("cache", cache)
    at, at_type = p.buffer(list_name, entries)
    p.op(f"kvcache.{op} {value} at {at} : {cache_type} at {at_type}")
    return p


def copy_blocks(name, cache, pairs):
    return _at_blocks("copy_blocks", name, cache, "pairs", pairs)


def clear_blocks(name, cache, blocks):
    return _at_blocks("clear_blocks", name, cache, "blocks", blocks)


def transfer(name, source, dest, pairs, zero=False):
    p = Program(name)
    a, a_type = p.cache("source", source)
    b, b_type = p.cache("dest", dest)
    at, at_type = p.buffer("pairs", pairs)
    p.op(f"kvcache.transfer {a} to {b} at {at}{' zero' if zero else ''} "
         f": {a_type} to {b_type} at {at_type}")
    return p


def slot_mapping(name, batch, out, sink=None):
    p = Program(name)
    value, batch_type = p.batch(batch)
    block = "" if sink is None else f" sink({p.index('sink', sink)})"
    dest, dest_type = p.buffer("out", out)
    p.op(f"kvcache.slot_mapping {value}{block} into {dest} : {batch_type} "
         f"into {dest_type}")
    return p


def _expand(name, op, word, blocks, factor, out):
    p = Program(name)
    a, a_type = p.buffer("blocks", blocks)
    b, b_type = p.buffer("out", out)
    p.op(f"kvcache.{op} {a} {word} {factor} into {b} : {a_type} into {b_type}")
    return p


def map_blocks(name, blocks, ratio, out):
    return _expand(name, "map_blocks", "by", blocks, ratio, out)


def block_slots(name, blocks, tokens, out):
    return _expand(name, "block_slots", "of", blocks, tokens, out)


def csr_table(name, indptr, indices, table, last=None, tokens=None,
              lengths=None):
    p = Program(name)
    lists, types = p.buffers(["indptr", "indices"], [indptr, indices])
    dests, outs = ["table"], [table]
    if last is not None:
        value, type_ = p.buffer("last", last)
        lists += f" last({value} of {tokens})"
        types += f", {type_}"
        dests, outs = ["table", "lengths"], [table, lengths]
    dests, dest_types = p.buffers(dests, outs)
    p.op(f"kvcache.csr_table {lists} into {dests} : {types} into {dest_types}")
    return p


def select_rows(name, rows, batch, indices, valid, outs, starts, positions):
    p = Program(name)
    numbers = range(len(rows))
    values, types = p.buffers([f"rows{i}" for i in numbers], rows)
    from_, batch_type = p.batch(batch)
    at, at_types = p.buffers(["indices", "valid"], [indices, valid])
    dests, dest_types = p.buffers(
        [*(f"out{i}" for i in numbers), "out_starts", "out_positions"],
        [*outs, starts, positions])
    p.op(f"kvcache.select_rows {values} of {from_} at {at} into {dests} "
         f": {types} of {batch_type} at {at_types} into {dest_types}")
    return p


def _number(value):
    """An f32 attribute."""
    return f"{value:.9e}"


def attention(name, query, caches, batch, outs, *, causal=False, window=None,
              window_right=None, softcap=None, scale=None, alibi=None,
              sinks=None, mask=None, value_scale=None, heads_first=False,
              rows=None, prefixes=None, batch_invariant=False):
    """`outs` is [out] or [out, lse]. With `rows`, a pair of buffers of starts
    and positions, the batch is that of `with_rows`; `prefixes` is a pair of
    groups and lengths."""
    p = Program(name)
    q, q_type = p.buffer("query", query)
    names = ["cache"] if len(caches) == 1 else ["keys", "values"]
    pairs = [p.cache(n, c) for n, c in zip(names, caches)]
    over, over_types = (", ".join(x) for x in zip(*pairs))
    in_, batch_type = p.batch(batch)
    if rows is not None:
        values, types = p.buffers(["row_starts", "row_positions"], rows)
        in_ = p.op(f"kvcache.with_rows {in_}, {values} : {batch_type}, {types}",
                   "rows")
        batch_type = (batch_type.split(", positions")[0].rstrip(">")
                      + f", positions = {rows[1].element_type}>")
    options = ""
    for word, given in ("alibi", alibi), ("sinks", sinks), ("mask", mask):
        if given is not None:
            value, type_ = p.buffer(word, given)
            options += f" {word}({value} : {type_})"
    if value_scale is not None:
        value = p.number("value_scale", value_scale)
        options += f" value_scale({value})"
    if prefixes is not None:
        values, types = p.buffers(["prefix_groups", "prefix_lengths"], prefixes)
        options += f" prefixes({values} : {types})"
    dests, dest_types = p.buffers(["out", "lse"], outs)
    options += f" into {dests}"
    options += " heads_first" if heads_first else ""
    options += " batch_invariant" if batch_invariant else ""
    options += " causal" if causal else ""
    options += f" window {window}" if window is not None else ""
    if window_right is not None:
        options += f" window_right {window_right}"
    options += f" softcap {_number(softcap)}" if softcap is not None else ""
    options += f" scale {_number(scale)}" if scale is not None else ""
    p.op(f"kvcache.attention {q} over {over} in {in_}{options} : {q_type} "
         f"over {over_types} in {batch_type} into {dest_types}")
    return p


def merge_states(name, *states, outs, heads_first=False):
    """`states` are splits, each followed by its lse."""
    p = Program(name)
    pairs = [p.buffers([f"split{i}", f"lse{i}"], states[2 * i : 2 * i + 2])
             for i in range(len(states) // 2)]
    splits, types = (" with ".join(x) for x in zip(*pairs))
    dests, dest_types = p.buffers(["out", "lse"], outs)
    first = " heads_first" if heads_first else ""
    p.op(f"kvcache.merge_states {splits} into {dests}{first} : {types} "
         f"into {dest_types}")
    return p


def _normalize(p, rows, weight, out, epsilon, plus_one):
    """Rows, weight and destination are pairs of a value and its type."""
    by, by_type = ("", "") if weight is None else (
        f" by {weight[0]}", f" by {weight[1]}")
    p.op(f"kvcache.normalize {rows[0]}{by} into {out[0]} epsilon "
         f"{_number(epsilon)}{' plus_one' if plus_one else ''} : {rows[1]}"
         f"{by_type} into {out[1]}")


def _rotate(p, rows, table, positions, out, interleaved):
    at, at_type = ("", "") if positions is None else (
        f" at {positions[0]}", f" at {positions[1]}")
    p.op(f"kvcache.rotate {rows[0]} by {table[0]}{at} into {out[0]}"
         f"{' interleaved' if interleaved else ''} : {rows[1]} by {table[1]}"
         f"{at_type} into {out[1]}")


def _optional(p, name, buffer):
    return None if buffer is None else p.buffer(name, buffer)


def normalize(name, rows, out=None, *, weight=None, epsilon=1e-6,
              plus_one=False):
    """In place without `out`."""
    p = Program(name)
    source = p.buffer("rows", rows)
    by = _optional(p, "weight", weight)
    _normalize(p, source, by, _optional(p, "out", out) or source, epsilon,
               plus_one)
    return p


def rotate(name, rows, table, out=None, *, positions=None, interleaved=False):
    """In place without `out`."""
    p = Program(name)
    source = p.buffer("rows", rows)
    by, at = p.buffer("table", table), _optional(p, "positions", positions)
    _rotate(p, source, by, at, _optional(p, "out", out) or source, interleaved)
    return p


def insert_rotated(name, key, value, weight, table, positions, cache, at, *,
                   between=None, types=None, fused=False, epsilon=1e-6,
                   interleaved=False, pad="skip_negative"):
    """Keys that are normalized and rotated on the way to a cache. `at` is a
    buffer of slots, or a pair of blocks and offsets. `between` are buffers for
    what is between the operations; without them the program allocates it, with
    `types` of elements."""
    p = Program(name)
    rows, rows_type = p.buffer("key", key)
    values = [(rows, rows_type), p.buffer("value", value)]
    by, angles = p.buffer("weight", weight), p.buffer("table", table)
    where = p.buffer("positions", positions)
    dest, cache_type = p.cache("cache", cache)
    tokens = cache.view.extent("N")
    if isinstance(at, tuple):
        lists, list_types = p.buffers(["blocks", "offsets"], at)
    else:
        lists, list_types = p.slots(at, tokens, pad)
    names = ["normal", "turned"]
    if between:
        steps = [p.buffer(n, b) for n, b in zip(names, between)]
    else:
        p.op("arith.constant 0 : index", "zero")
        p.op(f"memref.dim {rows}, %zero : {rows_type}", "count")
    if fused:
        p.op("kvcache.fuse {")
    if not between:
        inner = "x".join(map(str, key.array.shape[1:]))
        steps = []
        for n, type_ in zip(names, types):
            kind = f"memref<?x{inner}x{type_}>"
            steps.append((p.op(f"memref.alloc(%count) : {kind}", n), kind))
    _normalize(p, values[0], by, steps[0], epsilon, False)
    _rotate(p, steps[0], angles, where, steps[1], interleaved)
    written, types_ = (", ".join(x) for x in zip(steps[1], values[1]))
    if isinstance(at, tuple):
        p.op(f"kvcache.scatter {written} into {dest} at {lists} pad = {pad} : "
             f"{types_} into {cache_type} at {list_types}")
    else:
        p.op(f"kvcache.index_copy {written} into {dest} at {lists} : {types_} "
             f"into {cache_type} at {list_types}")
    if fused:
        p.op("}")
    return p


# --- Many programs ------------------------------------------------------------


def in_rounds(rng, rounds, families):
    """One function a family, and a program with its check for every round."""
    functions, runs = [], []
    for number, family in enumerate(families):
        for round in range(rounds):
            program, check = family.run(rng, f"f{number}", round)
            if round == 0:
                functions.append(program.text())
            assert program.text() == functions[-1], "a type of its own"
            runs.append((program, check))
    return functions, runs


def run_all(machine, functions, runs):
    library = machine.compile_library("".join(functions))
    for program, check in runs:
        library.run(program.name, *program.arguments(machine.Tensor))
        check(program.text())
    print(f"{len(functions)} functions, {len(runs)} calls")
