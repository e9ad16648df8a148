# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Programs with --checks: for every kind of list, one entry that is not allowed,
at a random place of random data that is, gives its message and no write; data
that is allowed, with all that counts as padding, gives none."""

import os
import subprocess
import sys

import kvtest
import numpy as np
from kvtest import ENTRY, OK, aligned

BLOCKS, TOKENS, HEADS, CHANNELS, COLUMNS = 6, 4, 2, 8, 5
ANGLES = 7  # positions that a table has
SLOTS, ROOM = BLOCKS * TOKENS, COLUMNS * TOKENS
FAR = 2**31 - 1


def slots_type(pad):
    return f"!kvcache.slots<?T x i64, rows_per_block = {TOKENS}, pad = {pad}>"


def insert(name, pad):
    return f"""
func.func @{name}(%cache: !kv, %slots: {slots_type(pad)}, %key: !rows, %value: !rows) {{
  kvcache.index_copy %key, %value into %cache at %slots
    : !rows, !rows into !kv at {slots_type(pad)}
  return
}}
"""


def scatter(name, pad):
    return f"""
func.func @{name}(%cache: !kv, %blocks: memref<?xi64>, %offsets: memref<?xi32>,
                  %key: !rows, %value: !rows) {{
  kvcache.scatter %key, %value into %cache at %blocks, %offsets pad = {pad}
    : !rows, !rows into !kv at memref<?xi64>, memref<?xi32>
  return
}}
"""


def attend(name, options="", batch="!batch"):
    return f"""
func.func @{name}(%q: !query, %cache: !kv, %b: {batch}, %out: !query) {{
  kvcache.attention %q over %cache in %b into %out {options}
    : !query over !kv in {batch} into !query
  return
}}
"""


def rotate(name, index):
    return f"""
func.func @{name}(%x: !rows, %table: !angles, %at: memref<?x{index}>, %y: !rows) {{
  kvcache.rotate %x by %table at %at into %y
    : !rows by !angles at memref<?x{index}> into !rows
  return
}}
"""


PROGRAM = f"""
!kv = !kvcache.cache<2S x ?B x {TOKENS}N x {HEADS}H x {CHANNELS}D x f32>
!small = !kvcache.cache<2S x ?B x 2N x {HEADS}H x {CHANNELS}D x f32>
!rows = memref<?x{HEADS}x{CHANNELS}xf32>
!query = memref<?x4x{CHANNELS}xf32>
!angles = memref<?x4xf32>
!table = !kvcache.block_table<?R x ?M x i32, tokens = {TOKENS}>
!batch = !kvcache.batch<?R x ?M x i32, tokens = {TOKENS}>
!positions = !kvcache.batch<?R x ?M x i32, tokens = {TOKENS}, positions = i64>
""" + "".join([
    insert("insert", "skip_negative"), insert("insert_none", "none"),
    insert("insert_any", "skip_out_of_range"), insert("insert_sink", "sink(0)"),
    scatter("scatter", "skip_negative"), scatter("scatter_none", "none"),
    scatter("scatter_any", "skip_out_of_range"),
    attend("attend"), attend("attend_causal", "causal"),
    attend("attend_window", "causal window 3"),
    attend("positions", "", "!positions"),
    attend("positions_causal", "causal", "!positions"),
    attend("positions_window", "causal window 3", "!positions"),
    attend("positions_wide", "window 3", "!positions"),
    attend("attend_around", "window 3 window_right 2"),
    attend("positions_around", "window 3 window_right 2", "!positions"),
    attend("positions_ahead", "window_right 2", "!positions"),
    rotate("rotate", "i64"), rotate("rotate_short", "i32"),
    f"""
// One launch without checks. What is between is a buffer of its own.
func.func @insert_rotated(%cache: !kv, %slots: {slots_type("skip_negative")},
                          %key: !rows, %value: !rows, %table: !angles,
                          %at: memref<?xi64>, %query: !query, %out: !query) {{
  %zero = arith.constant 0 : index
  %count = memref.dim %key, %zero : !rows
  kvcache.fuse {{
    %normal = memref.alloc(%count) : !rows
    %turned = memref.alloc(%count) : !rows
    kvcache.normalize %key into %normal epsilon 1.0e-6 : !rows into !rows
    kvcache.rotate %normal by %table at %at into %turned
      : !rows by !angles at memref<?xi64> into !rows
    kvcache.index_copy %turned, %value into %cache at %slots
      : !rows, !rows into !kv at {slots_type("skip_negative")}
    kvcache.rotate %query by %table at %at into %out
      : !query by !angles at memref<?xi64> into !query
  }}
  return
}}
func.func @gather(%cache: !kv, %slots: memref<?xi64>, %key: !rows, %value: !rows) {{
  %where = kvcache.make_slots %slots : memref<?xi64> to {slots_type("skip_negative")}
  kvcache.gather %cache at %where into %key, %value
    : !kv at {slots_type("skip_negative")} into !rows, !rows
  return
}}
func.func @copy(%cache: !kv, %pairs: memref<?x2xi64>) {{
  kvcache.copy_blocks %cache at %pairs : !kv at memref<?x2xi64>
  return
}}
func.func @clear(%cache: !kv, %blocks: memref<?xi32>) {{
  kvcache.clear_blocks %cache at %blocks : !kv at memref<?xi32>
  return
}}
func.func @move(%from: !kv, %to: !small, %pairs: memref<?x4xi32>) {{
  kvcache.transfer %from to %to at %pairs : !kv to !small at memref<?x4xi32>
  return
}}
func.func @map(%starts: memref<?xi32>, %lengths: memref<?xi32>,
               %table: memref<?x?xi32>, %at: memref<?xi64>, %out: memref<?xi64>) {{
  %t = kvcache.make_block_table %table : memref<?x?xi32> to !table
  %b = kvcache.make_batch %starts, %lengths, %t positions(%at : memref<?xi64>)
    : memref<?xi32>, memref<?xi32>, !table
  kvcache.slot_mapping %b into %out : !positions into memref<?xi64>
  return
}}
func.func @select(%x: !rows, %b: !batch, %indices: memref<?xi32>,
                  %n: memref<1xi32>, %y: !rows, %starts: memref<?xi32>,
                  %at: memref<?xi64>) {{
  kvcache.select_rows %x of %b at %indices, %n into %y, %starts, %at
    : !rows of !batch at memref<?xi32>, memref<1xi32>
    into !rows, memref<?xi32>, memref<?xi64>
  return
}}
// A list that was checked, a list that the program makes, and what comes after.
func.func @chain(%b: !batch, %slots: memref<?xi64>, %cache: !kv, %key: !rows,
                 %value: !rows, %q: !query, %out: !query) {{
  kvcache.slot_mapping %b into %slots : !batch into memref<?xi64>
  %where = kvcache.make_slots %slots : memref<?xi64> to {slots_type("skip_negative")}
  kvcache.index_copy %key, %value into %cache at %where
    : !rows, !rows into !kv at {slots_type("skip_negative")}
  kvcache.attention %q over %cache in %b into %out causal
    : !query over !kv in !batch into !query
  return
}}
// One buffer for all iterations, whether the operation runs or not.
func.func @layers(%q: !query, %cache: !kv, %b: !batch, %out: !query) {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c3 = arith.constant 3 : index
  scf.for %i = %c0 to %c3 step %c1 {{
    kvcache.attention %q over %cache in %b into %out causal
      : !query over !kv in !batch into !query
  }}
  return
}}
""",
])


class Call:
    """The lists of a call by name, and the tensors around them."""

    def __init__(self, rng, kvtest):
        self.rng, self.tensor = rng, kvtest.Tensor
        self.arrays, self.order, self.written = {}, [], []

    def list(self, name, values, element_type):
        values = np.asarray(values, kvtest.TYPES[element_type][2])
        self.arrays[name] = values
        self.order.append((name, element_type))

    def data(self, *shape, written=False):
        storage = aligned(int(np.prod(shape)), np.float32)
        storage[:] = self.rng.standard_normal(storage.size)
        self.order.append((storage, shape))
        if written:
            self.written.append(storage)

    def pool(self, blocks=BLOCKS, tokens=TOKENS, written=True):
        self.data(2, blocks, tokens, HEADS, CHANNELS, written=written)

    def arguments(self):
        out = []
        for what, how in self.order:
            if isinstance(what, str):
                values = self.arrays[what]
                storage = aligned(values.size, values.dtype)
                storage[:] = values.ravel()
                out.append(self.tensor(storage, how, values.shape))
            else:
                out.append(self.tensor(what, "f32", how))
        return out


def put(call, name, at, value):
    call.arrays[name] = call.arrays[name].copy()
    call.arrays[name][at] = value


def above(rng, bound, limit=FAR):
    return int(rng.choice([bound, bound + int(rng.integers(1, 9)), limit]))


def outside(rng, bound, may_be_negative):
    if may_be_negative or rng.random() < 0.5:
        return above(rng, bound)
    return -int(rng.choice([1, 2, FAR]))


def entry(what, high, skips, at, value):
    pad = ", or a negative one for padding," if skips else ""
    return f"expected {what} from 0 to {high}{pad} at entry {at}, got {value}"


# --- One call of each function: legal data, and offenders ---------------------
# A maker gives the call and a function that spoils it and gives the message.


def make_insert(rng, kvtest, name):
    pad = {"insert": "skip_negative", "insert_none": "none", "gather":
           "skip_negative", "insert_any": "any", "insert_sink": "none"}[name]
    count = int(rng.integers(1, 12))
    slots = rng.integers(0, SLOTS, count)
    padding = rng.random(count) < 0.3
    if pad == "skip_negative":
        slots[padding] = -rng.integers(1, 2**40, count)[padding]
    if pad == "any":
        slots[padding] = rng.choice([-1, SLOTS, 2**40], count)[padding]
    call = Call(rng, kvtest)
    call.pool(written=name != "gather")
    call.list("slots", slots, "i64")
    for _ in range(2):
        call.data(count, HEADS, CHANNELS, written=name == "gather")
    op = "gather" if name == "gather" else "index_copy"

    def spoil():
        at = int(rng.integers(count))
        value = outside(rng, SLOTS, pad == "skip_negative")
        put(call, "slots", at, value)
        return f"{op}: argument 'slots': " + entry(
            "a slot", SLOTS - 1, pad == "skip_negative", at, value)

    return call, [] if pad == "any" else [spoil]


def make_scatter(rng, kvtest, name):
    skips = name == "scatter"
    count = int(rng.integers(1, 12))
    blocks = rng.integers(0, BLOCKS, count)
    offsets = rng.integers(0, TOKENS, count)
    if name != "scatter_none":
        # One number says that it is padding, the other one may be anything.
        first = rng.random(count) < 0.2
        blocks[first], offsets[first] = -1, rng.choice([-3, 0, FAR])
        second = ~first & (rng.random(count) < 0.2)
        blocks[second], offsets[second] = rng.choice([0, 2**40]), -7
    if name == "scatter_any":
        blocks[rng.random(count) < 0.3] = BLOCKS
        offsets[rng.random(count) < 0.3] = TOKENS
    call = Call(rng, kvtest)
    call.pool()
    call.list("blocks", blocks, "i64")
    call.list("offsets", offsets, "i32")
    for _ in range(2):
        call.data(count, HEADS, CHANNELS)

    def spoil(which):
        at = int(rng.integers(count))
        put(call, "blocks", at, int(rng.integers(BLOCKS)))
        put(call, "offsets", at, int(rng.integers(TOKENS)))
        bound = BLOCKS if which == "blocks" else TOKENS
        value = outside(rng, bound, skips)
        put(call, which, at, value)
        what = "a block" if which == "blocks" else "an offset"
        return f"scatter: argument '{which}': " + entry(
            what, bound - 1, skips, at, value)

    if name == "scatter_any":
        return call, []
    return call, [lambda: spoil("blocks"), lambda: spoil("offsets")]


def positions_of(rng, count):
    """Of rows that are rotated; those of padding are negative."""
    positions = rng.integers(0, ANGLES, count)
    padding = rng.random(count) < 0.3
    positions[padding] = -rng.integers(1, 2**31, count)[padding]
    return positions


def spoiled_position(rng, call, name, count, limit):
    at = int(rng.integers(count))
    value = above(rng, ANGLES, limit)
    put(call, name, at, value)
    return f"rotate: argument '{name}': " + entry("a position", ANGLES - 1, True,
                                                  at, value)


def make_rotate(rng, kvtest, name):
    count = int(rng.integers(1, 12))
    call = Call(rng, kvtest)
    call.data(count, HEADS, CHANNELS)
    call.data(ANGLES, 4)
    call.list("at", positions_of(rng, count), "i64" if name == "rotate"
              else "i32")
    call.data(count, HEADS, CHANNELS, written=True)
    limit = FAR if name == "rotate_short" else 2**40
    return call, [lambda: spoiled_position(rng, call, "at", count, limit)]


def make_insert_rotated(rng, kvtest, name):
    count = int(rng.integers(1, 12))
    slots = rng.integers(0, SLOTS, count)
    slots[rng.random(count) < 0.3] = -1
    call = Call(rng, kvtest)
    call.pool()
    call.list("slots", slots, "i64")
    call.data(count, HEADS, CHANNELS)
    call.data(count, HEADS, CHANNELS)
    call.data(ANGLES, 4)
    call.list("at", positions_of(rng, count), "i64")
    call.data(count, 4, CHANNELS)
    call.data(count, 4, CHANNELS, written=True)

    def slot():
        at = int(rng.integers(count))
        value = above(rng, SLOTS)
        put(call, "slots", at, value)
        return "index_copy: argument 'slots': " + entry(
            "a slot", SLOTS - 1, True, at, value)

    return call, [lambda: spoiled_position(rng, call, "at", count, 2**62), slot]


def make_copy(rng, kvtest, name):
    count = int(rng.integers(1, 5))
    # Chunks of the smaller block.
    limits = [BLOCKS, BLOCKS] if name == "copy" else [2 * BLOCKS, BLOCKS]
    pairs = np.stack([rng.integers(0, limit, count) for limit in limits], 1)
    pairs[rng.random(pairs.shape) < 0.2] = -int(rng.choice([1, FAR]))
    call = Call(rng, kvtest)
    call.pool(written=name == "copy")
    if name == "move":
        call.pool(tokens=2)
        rest = rng.integers(-3, 9, (count, 2))  # any rows of a chunk
        pairs = np.concatenate([pairs, rest], 1)
    call.list("pairs", pairs, "i64" if name == "copy" else "i32")

    def spoil(column):
        at = int(rng.integers(count))
        value = above(rng, limits[column])
        put(call, "pairs", (at, column), value)
        op, what = (("copy_blocks", "a block") if name == "copy"
                    else ("transfer", "a chunk"))
        return f"{op}: argument 'pairs': " + entry(
            what, limits[column] - 1, True, f"[{at}, {column}]", value)

    return call, [lambda: spoil(0), lambda: spoil(1)]


def make_clear(rng, kvtest, name):
    count = int(rng.integers(1, 5))
    blocks = rng.integers(0, BLOCKS, count)
    blocks[rng.random(count) < 0.2] = -int(rng.choice([1, FAR]))
    call = Call(rng, kvtest)
    call.pool(written=True)
    call.list("blocks", blocks, "i32")

    def spoil():
        at = int(rng.integers(count))
        value = above(rng, BLOCKS)
        put(call, "blocks", at, value)
        return "clear_blocks: argument 'blocks': " + entry(
            "a block", BLOCKS - 1, True, at, value)

    return call, [spoil]


class Batch:
    """Random and allowed; tables have garbage where no row looks."""

    def __init__(self, rng, window=None, ahead=None, positions=False,
                 looks=True):
        self.rng, requests = rng, int(rng.integers(1, 5))
        self.lengths = rng.integers(0, ROOM + 1, requests)
        most = 6 if positions else self.lengths
        own = np.minimum(rng.integers(0, 6, requests), most)
        if not own.any():
            own[-1], self.lengths[-1] = 1, max(1, self.lengths[-1])
        gap = int(rng.integers(0, 2)) * int(rng.integers(0, 3))
        self.starts = gap + np.concatenate([[0], np.cumsum(own)])
        self.rows = int(self.starts[-1] + rng.integers(0, 3))
        self.positions = np.full(self.rows, FAR) if positions else None
        self.used = []  # (request, column) that a row sees
        self.table = rng.choice([-1, BLOCKS, FAR], (requests, COLUMNS))
        for r, length in enumerate(self.lengths.tolist()):
            low, high = length, 0
            for t in range(self.starts[r], self.starts[r + 1]):
                at = length - (self.starts[r + 1] - t)
                if positions:
                    at = self.positions[t] = rng.integers(-1, length)
                last = length - 1 if ahead is None else at + ahead
                if last < 0:
                    continue
                low = min(low, max(at - window + 1, 0) if window else 0)
                high = max(high, min(last + 1, length))
            for column in range(low // TOKENS, -(-high // TOKENS)):
                if low < high:
                    self.used.append((r, column))
                    self.table[r, column] = rng.integers(0, BLOCKS)
        if not looks:
            self.used = []

    def lists(self, call, prefix="b."):
        self.names = [prefix + n for n in
                      ("starts", "lengths", "table", "positions")]
        call.list(self.names[0], self.starts, "i32")
        call.list(self.names[1], self.lengths, "i32")
        call.list(self.names[2], self.table, "i32")
        if self.positions is not None:
            at = self.positions.copy()
            # Behind the last request, anything.
            call.list(self.names[3], at, "i64")

    def spoils(self, call, op, rows):
        rng, starts, lengths, table, positions = self.rng, *self.names

        def message(name, text):
            return f"{op}: argument '{name}': {text}"

        def start():
            # Of the last one alone, so that no other start is wrong as well.
            at = len(self.starts) - 1
            low = int(self.starts[at - 1])
            value = int(rng.choice([low - 1, rows + 1, FAR, -FAR]))
            put(call, starts, at, value)
            return message(starts, f"expected a start from {low} to {rows}, the "
                           "one before it and the number of rows, at entry "
                           f"{at}, got {value}")

        def first():
            value = -int(rng.choice([1, FAR]))
            put(call, starts, 0, value)
            return message(starts, f"expected a start from 0 to {rows}, the one "
                           "before it and the number of rows, at entry 0, got "
                           f"{value}")

        def length():
            r = int(rng.integers(len(self.lengths)))
            own = int(self.starts[r + 1] - self.starts[r])
            low = own if self.positions is None else 0
            value = int(rng.choice([low - 1, ROOM + 1, FAR, -FAR]))
            put(call, lengths, r, value)
            return message(lengths, f"expected a length from {low} to {ROOM}, "
                           "its query rows and the room in the table, for "
                           f"request {r}, got {value}")

        def block():
            r, column = self.used[int(rng.integers(len(self.used)))]
            value = outside(rng, BLOCKS, False)
            put(call, table, (r, column), value)
            return message(
                table, f"expected a block from 0 to {BLOCKS - 1} for request "
                f"{r}, entry {column} (tokens {column * TOKENS} to "
                f"{column * TOKENS + TOKENS - 1}), got {value}")

        def position():
            inside = [(r, t) for r in range(len(self.lengths))
                      for t in range(self.starts[r], self.starts[r + 1])]
            r, t = inside[int(rng.integers(len(inside)))]
            length = int(self.lengths[r])
            value = int(rng.choice([-2, -2**40, length, 2**40]))
            put(call, positions, t, value)
            return message(
                positions, f"expected a position below {length}, the length of "
                f"request {r}, or -1 for padding, at entry {t}, got {value}")

        found = [start, first, length]
        if self.used:
            found.append(block)
        if self.positions is not None:
            found.append(position)
        return found


def make_attend(rng, kvtest, name):
    ahead = 2 if name.endswith(("around", "ahead")) else 0
    options = dict(ahead=None if name in ("attend", "positions",
                                          "positions_wide") else ahead,
                   window=3 if name.endswith(("window", "wide", "around"))
                   else None)
    batch = Batch(rng, positions=name.startswith("positions"), **options)
    call = Call(rng, kvtest)
    call.data(batch.rows, 4, CHANNELS)
    call.pool(written=False)
    batch.lists(call)
    call.data(batch.rows, 4, CHANNELS, written=True)
    return call, batch.spoils(call, "attention", batch.rows)


def make_layers(rng, kvtest, name):
    return make_attend(rng, kvtest, "layers_causal")


def make_map(rng, kvtest, name):
    batch = Batch(rng, positions=True, looks=False)
    call = Call(rng, kvtest)
    batch.lists(call, "")
    batch.names[3] = "at"
    call.arrays["at"] = call.arrays.pop("positions")
    call.order[-1] = ("at", "i64")
    call.list("out", np.full(batch.rows, -5), "i64")
    return call, batch.spoils(call, "slot_mapping", batch.rows)


def make_select(rng, kvtest, name):
    batch = Batch(rng, looks=False)
    first, end = int(batch.starts[0]), int(batch.starts[-1])
    used = int(rng.integers(1, 5))
    indices = np.sort(rng.integers(first, end, used)).tolist()
    indices += rng.choice([-9, FAR], 3).tolist()  # behind those that count
    call = Call(rng, kvtest)
    call.data(batch.rows, HEADS, CHANNELS)
    batch.lists(call)
    call.list("indices", indices, "i32")
    call.list("n", [used], "i32")
    call.data(len(indices), HEADS, CHANNELS, written=True)
    call.list("starts", batch.starts * 0, "i32")
    call.list("at", [-5] * len(indices), "i64")

    def index():
        # Below the one before it, or past the end; of the last one alone.
        at = used - 1
        low = indices[at - 1] if at else first
        value = int(rng.choice([low - 1, end, FAR]))
        put(call, "indices", at, value)
        return ("select_rows: argument 'indices': expected a row from "
                f"{low} to {end - 1}, of a request and not below the one before "
                f"it, at entry {at}, got {value}")

    return call, batch.spoils(call, "select_rows", batch.rows) + [index]


def make_chain(rng, kvtest, name):
    """The batch is first used by slot_mapping, its table by attention alone."""
    batch = Batch(rng, ahead=0)
    call = Call(rng, kvtest)
    batch.lists(call)
    call.list("slots", np.full(batch.rows, -1), "i64")
    call.pool(written=False)
    call.data(batch.rows, HEADS, CHANNELS)
    call.data(batch.rows, HEADS, CHANNELS)
    call.data(batch.rows, 4, CHANNELS)
    call.data(batch.rows, 4, CHANNELS, written=True)
    if not batch.used:
        return call, []
    # A block that is not there is past the end for attention; the slots made of
    # it are so for index_copy, which comes before.
    return call, batch.spoils(call, "slot_mapping", batch.rows)[:3]


MAKERS = {name: maker for maker, names in [
    (make_insert, ["insert", "insert_none", "insert_any", "insert_sink",
                   "gather"]),
    (make_scatter, ["scatter", "scatter_none", "scatter_any"]),
    (make_rotate, ["rotate", "rotate_short"]),
    (make_insert_rotated, ["insert_rotated"]),
    (make_copy, ["copy", "move"]),
    (make_clear, ["clear"]),
    (make_attend, ["attend", "attend_causal", "attend_window", "positions",
                   "positions_causal", "positions_window", "positions_wide",
                   "attend_around", "positions_around", "positions_ahead"]),
    (make_map, ["map"]), (make_select, ["select"]), (make_chain, ["chain"]),
    (make_layers, ["layers"]),
] for name in names}


def check_one(library, rng, machine, name, report):
    call, spoils = MAKERS[name](rng, machine, name)
    message = report(library, name, call.arguments())
    assert message == "", f"{name}: allowed, and got '{message}'\n{call.arrays}"
    for number in range(len(spoils)):
        call, again = MAKERS[name](rng, machine, name)
        if number >= len(again):
            continue
        expected = f"{name}: " + again[number]()
        before = [storage.copy() for storage in call.written]
        message = report(library, name, call.arguments())
        assert message == expected, (
            f"expected '{expected}'\ngot      '{message}'\n{call.arrays}")
        if machine is kvtest:
            for old, new in zip(before, call.written):
                assert np.array_equal(old, new), f"{name}: was written"
    return 1 + len(spoils)


def report(library, name, args):
    """The message of the call, empty if it works."""
    size = library.workspace_size(name, *args)
    workspace = aligned(max(size, 1), np.uint8)
    code = library.call(name, *args, workspace=workspace)
    text = library.last_error()
    assert code in (OK, ENTRY) and bool(code) == bool(text), text
    assert library.check() == OK  # there is nothing to wait for
    return text


def main(rounds=40):
    rng = np.random.default_rng(3)
    full = kvtest.compile_library(PROGRAM, "full", "cpu", "--checks=full")
    assert '"checks": "full"' in full.manifest()
    count = sum(check_one(full, rng, kvtest, name, report)
                for _ in range(rounds) for name in MAKERS)
    print(f"checks: {count} calls")
    # On request: not asked for here, asked for in another process.
    for flag, wanted in (("on-request", "1"), ("on-request", "0"),
                         ("on-request", None), ("none", "1")):
        environment = {k: v for k, v in os.environ.items() if k != "KVRT_CHECK"}
        if wanted is not None:
            environment["KVRT_CHECK"] = wanted
        expects = flag == "on-request" and wanted == "1"
        subprocess.run([sys.executable, __file__, flag, str(int(expects))],
                       env=environment, check=True)


def on_request(flag, expects):
    rng = np.random.default_rng(5)
    library = kvtest.compile_library(PROGRAM, "asked", "cpu",
                                     f"--checks={flag}")
    for name in ("insert", "scatter", "rotate", "attend", "copy"):
        if expects:
            check_one(library, rng, kvtest, name, report)
            continue
        call, spoils = MAKERS[name](rng, kvtest, name)
        spoils[0]()
        assert report(library, name, call.arguments()) == ""


if __name__ == "__main__":
    if len(sys.argv) > 1:
        on_request(sys.argv[1], sys.argv[2] == "1")
    else:
        main()
