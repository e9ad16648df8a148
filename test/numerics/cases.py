# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Random caches, batches and buffers for tests of any operation.

Every buffer lies between canaries (`guard.check`). What nothing may look at
holds NaN and infinity: unused tokens, gaps between strides, other layers, rows
of padding, entries of a table behind the last token.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Optional

import numpy as np
from cache_types import CacheType, low_bit
from kvtest import TYPES, Guarded
from ref_batch import Batch
from ref_cache import ORDERS, Array, Cache, compact, order_of
from ref_elements import ELEMENTS, STORAGE, decode, encode

STYLES = ["compact", "constant", "multiple", "run_time", "all_strides"]
BATCHES = ["decode", "prefill", "chunked", "mixed"]


def poison(rng, shape, element_type):
    """NaN, infinity, and numbers that are infinite in products."""
    largest = 6e4 if element_type == "f16" else 3e38
    numbers = [np.nan, np.inf, -np.inf, largest, -largest]
    few = encode(numbers, element_type)
    if element_type == "f8E5M2":  # no number becomes its infinity
        few[1:3] = np.uint8([0x7C, 0xFC]).view(np.int8)
    return few[rng.integers(0, len(few), shape, np.uint8)]


def hard_elements(rng, shape, element_type):
    """Numbers whose conversion is hard: ties, subnormal and large ones, and
    what is no number."""
    numbers = rng.standard_normal(shape)
    numbers *= 2.0 ** rng.integers(-150, 130, shape)
    # Within and around the range of 8 bits.
    near = rng.standard_normal(shape) * 2.0 ** rng.integers(-20, 18, shape)
    numbers = np.where(rng.random(shape) < 0.5, near, numbers)
    odd = rng.random(shape)
    numbers[odd < 0.1] = 0.0
    numbers[odd < 0.05] = -0.0
    numbers[odd > 0.95] = 65520.0
    numbers[odd > 0.97] = 2.0 ** -25
    ties = (rng.integers(0, 2**17, shape) * 2 + 1) * 2.0 ** -9
    numbers = np.where(rng.random(shape) < 0.2, ties, numbers)
    with np.errstate(over="ignore"):
        raw = encode(numbers, element_type)
    if raw.itemsize == 1:  # every pattern of bits
        any_bits = rng.integers(0, 256, shape, np.uint8).view(raw.dtype)
        raw = np.where(rng.random(shape) < 0.5, any_bits, raw)
    return np.where(rng.random(shape) < 0.1, poison(rng, shape, element_type),
                    raw)


def random_elements(rng, shape, element_type, spread=1):
    values = rng.standard_normal(shape, np.float32) * np.float32(spread)
    if element_type == "bf16":  # any number will do: no rounding
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    if not ELEMENTS[element_type].is_native:
        return encode(values, element_type)
    return values.astype(STORAGE[element_type])


# --- Buffers ------------------------------------------------------------------


class Buffer:
    """An array [n, ...] whose inner dimensions are contiguous, but for heads
    that are apart."""

    def __init__(self, values, element_type, gap=0, fill=None, fixed=(),
                 dynamic=(), head_gap=None, promise=False):
        """gap:      elements between rows; the stride of rows is then not known
           fill:     what the storage holds elsewhere
           fixed:    dimensions whose extent the type says, besides inner ones
           dynamic:  inner ones whose extent it does not say
           head_gap: elements between what the first two dimensions number; the
                     strides of both are then not known
           promise:  whether an attribute says how they are aligned"""
        values = np.asarray(values, TYPES[element_type][2])
        self.element_type = element_type
        self.gap, self.fixed, self.dynamic = gap, fixed, dynamic
        self.head_gap, self.promise = head_gap, promise
        inner = int(np.prod(values.shape[1:], dtype=np.int64))
        if head_gap:
            inner += head_gap * values.shape[1]
        self.row = inner + gap
        shape = max(1, len(values)), inner + gap
        raw = np.zeros(shape, values.dtype)
        if fill is not None:
            raw[...] = fill
        self.guard = Guarded(raw.ravel())
        self.storage = self.guard.inside
        self.array = np.lib.stride_tricks.as_strided(
            self.storage, values.shape,
            [shape[1] * raw.itemsize, *self._inner(values)])
        self.array[...] = values

    def _inner(self, values):
        strides, step = [], values.itemsize
        for extent in reversed(values.shape[1:]):
            strides.insert(0, step)
            step *= extent
        if self.head_gap:
            strides[0] += self.head_gap * values.itemsize
        return strides

    def numbers(self):
        if self.element_type in STORAGE:
            return decode(np.array(self.array), self.element_type)
        return np.array(self.array)

    def argument(self):
        strides = [s // self.array.itemsize for s in self.array.strides]
        return Array(self.storage, self.element_type, list(self.array.shape),
                     strides, 0)

    @property
    def align(self):
        """The alignment of each row in bytes, where it is less than the one
        that its type promises."""
        if self.element_type not in STORAGE or self.dynamic:
            return None  # inner extents are run-time values
        row = int(np.prod(self.array.shape[1:], dtype=np.int64))
        itemsize = self.array.itemsize
        promised, true = (min(16, low_bit(n * itemsize))
                          for n in (row, self.row))
        if self.promise:
            head = self.array.shape[2] + self.head_gap
            return min(true, low_bit(head * itemsize))
        return true if true < promised else None

    def type(self):
        """A memref. Integers have run-time extents, other numbers only the
        first one."""
        shape = self.array.shape
        inner = self.element_type in STORAGE
        dims = [str(n) if i in self.fixed
                or i and inner and i not in self.dynamic else "?"
                for i, n in enumerate(shape)]
        text = "x".join([*dims, self.element_type])
        if self.gap or self.head_gap is not None:
            strides = ["?"] + [str(s // self.array.itemsize) if dims[i] != "?"
                               else "?" for i, s in
                               enumerate(self.array.strides[1:], 1)]
            if self.head_gap is not None:
                strides[1] = "?"
            # The fastest one is always contiguous.
            strides[-1] = "1" if len(strides) > 1 else strides[-1]
            text += f", strided<[{', '.join(strides)}], offset: ?>"
        return f"memref<{text}>"


def random_rows(rng, count, row_shape, element_type, gap=0, padding=(),
                spread=1, **how):
    """Rows of numbers; those in `padding` and the gaps are poison."""
    values = random_elements(rng, (count, *row_shape), element_type, spread)
    for t in padding:
        values[t] = poison(rng, row_shape, element_type)
    return Buffer(values, element_type, gap, encode(np.nan, element_type),
                  **how)


def result_rows(count, row_shape, element_type, gap=0):
    """A destination, full of NaN."""
    nan = encode(np.full((count, *row_shape), np.nan), element_type)
    return Buffer(nan, element_type, gap, encode(np.nan, element_type))


class Lse:
    """A destination of an lse, full of NaN: [T, H], or [H, T] with heads
    first."""

    def __init__(self, count, heads, heads_first=False, gap=0, values=None):
        self.heads_first = heads_first
        if values is None:
            values = np.full((count, heads), np.nan)
        values = np.float32(values)
        nan = encode(np.nan, "f32")
        self.buffer = (
            Buffer(values.T, "f32", gap, nan, fixed=(0,), dynamic=(1,))
            if heads_first else Buffer(values, "f32", gap, nan))

    def numbers(self):
        """[T, H]"""
        numbers = self.buffer.numbers()
        return numbers.T if self.heads_first else numbers

    def __getattr__(self, name):
        return getattr(self.buffer, name)


def integers(values, element_type="i64", gap=0, fixed=()):
    info = np.iinfo(TYPES[element_type][2])
    return Buffer(np.asarray(values, np.int64), element_type, gap, info.min,
                  fixed)


def per_head(values):
    """Slopes of alibi, or sinks: [Hq] of f32, whose extent is known."""
    return Buffer(np.float32(values), "f32", fixed=(0,))


def tree_of(rng, rows):
    """What each node of a tree sees: itself, and those above it."""
    sees = np.eye(rows, dtype=bool)
    for i in range(1, rows):
        sees[i] |= sees[rng.integers(i)]
    return sees


def spans_of(rng, rows):
    """Spans whose rows see each other, and text that sees what is before."""
    sees = np.tri(rows, dtype=bool)
    for _ in range(int(rng.integers(1, 4)) if rows else 0):
        first, end = np.sort(rng.integers(0, rows + 1, 2))
        sees[first:end, first:end] = True
    return sees


def random_mask(rng, batch, count, gap=0, kind=None):
    """The words of a mask for `count` rows of a batch: any bits, of which there
    may be too few or too many, or a tree or spans of each request. Bits behind
    the rows of a request may be anything."""
    starts = batch.trusted_starts(count)
    most = int(max(np.diff(starts), default=0))
    kind = kind or str(rng.choice(["any", "sparse", "tree", "spans"]))
    least = -(-most // 32) if kind in ("tree", "spans") else 0
    width = int(rng.integers(least, -(-most // 32) + 2))

    def any_words():
        return rng.integers(-2**31, 2**31, (count, width))
    words = any_words()
    if kind == "sparse":
        words &= any_words() & any_words()
    make = {"tree": tree_of, "spans": spans_of}.get(kind)
    for first, end in zip(starts, starts[1:]) if make and width else ():
        bits = np.unpackbits(words[first:end].astype("<i4").view(np.uint8),
                             axis=1, bitorder="little")
        bits[:, : end - first] = make(rng, end - first)
        words[first:end] = np.packbits(bits, axis=1,
                                       bitorder="little").view("<i4")
    return integers(words, "i32", gap)


# --- Caches -------------------------------------------------------------------


@dataclass
class CacheCase:
    """A cache and its type, and the steps to the view that is used:
    ("layer", index, constant?), ("side", index), ("heads", first, count),
    ("subpool", first, count)."""

    cache: Cache
    type: CacheType
    steps: list = field(default_factory=list)
    guard: Any = None

    @property
    def view(self):
        return view_of(self.cache, self.steps)

    def expected(self):
        """The same in another storage: the cache, and its view."""
        cache = self.cache.clone()
        return cache, view_of(cache, self.steps)

    def then(self, *step):
        return replace(self, steps=[*self.steps, step])

    def instead(self, *step):
        """With another last step."""
        return replace(self, steps=[*self.steps[:-1], step])

    def check(self, expected, what=""):
        """Every bit of the storage is as in another cache, no canary is hit."""
        got = self.cache.storage.view(np.uint8)
        want = expected.storage.view(np.uint8)
        assert np.array_equal(got, want), (
            f"{what} {self.type}: {np.count_nonzero(got != want)} bytes differ")
        self.guard.check(what)


def view_of(cache, steps):
    for kind, *operands in steps:
        if kind == "layer":
            operands = operands[:1]
        cache = getattr(cache, kind)(*operands)
    return cache


def orders_for(axes):
    """The named orders that have these axes, or more than these."""
    plain = set(axes)
    return [name for name, order in ORDERS.items()
            if plain <= set(order.split())
            and ("D.o" in plain) == ("D.o" in order)]


def random_order(rng, axes):
    """A name half of the time, else any permutation."""
    named = orders_for(axes)
    if named and rng.random() < 0.5:
        return str(rng.choice(named))
    return tuple(rng.permutation(list(axes)).tolist())


def make_cache(rng, extents, element_type, order=None, style="compact",
               offset=0, run_time=("B",), align=None):
    """A cache full of poison, its strides inflated in a style.

    run_time: axes whose extent the type does not say, of L and B
    offset:   of the first element in the storage, in elements
    align:    what the type says; what is true if it is left out, up to 16
    """
    axes = tuple(extents)
    order = order_of(order, axes)
    itemsize = np.dtype(STORAGE[element_type]).itemsize
    sixteen = 16 // itemsize
    larger = [a for a in order[:-1] if extents[a] != 1]
    if style == "compact":
        larger = []
    elif style != "all_strides":
        # Mostly blocks, as in engines; any other axis now and then.
        larger = (["B"] if "B" in larger and rng.random() < 0.7
                  else larger and [str(rng.choice(larger))])
    strides, facts = {}, {}
    for axis in reversed(order):
        if axis not in larger:
            continue
        step = compact(extents, order, strides)[axis]
        extra = int(rng.integers(1, 4))
        if style == "constant":
            strides[axis] = step * (extra + 1)
            facts[axis] = strides[axis]
        elif style == "multiple":
            strides[axis] = (step // sixteen + 1 + extra) * sixteen
            facts[axis] = "mult", sixteen
        else:
            strides[axis] = step + extra
            facts[axis] = "mult", 1
        faster = order[order.index(axis) + 1 :]
        if style == "constant" and any(a in run_time for a in faster):
            facts[axis] = "mult", 1
    layout = Cache.make(extents, element_type, order, strides, offset,
                        slack=int(rng.integers(0, 9)))
    storage = poison(rng, layout.storage.size, element_type)
    guard = Guarded(storage)
    if align is None:
        align = min(16, low_bit(offset * itemsize)) if offset else 16
    sizes = {a: None if a in run_time else n for a, n in extents.items()}
    return CacheCase(layout.on(guard.inside),
                     CacheType(sizes, element_type, order, facts, align),
                     [], guard)


def random_cache(rng, element_type="f32", *, blocks=6, tokens=16, heads=2,
                 channels=8, sides=2, layers=None, order=None, style=None,
                 offset=None, split=None):
    """A cache of one layer: itself, or a layer of one of `layers` layers.

    sides: 2, or None for a cache without sides
    heads: None for a cache without heads
    split: None to leave it to chance, else the extent of D.i, or 0
    """
    extents = {}
    if layers:
        extents["L"] = layers
    if sides:
        extents["S"] = sides
    extents |= {"B": blocks, "N": tokens}
    if heads:
        extents["H"] = heads
    if split is None:
        split = (8 if order == "x_packed_key" or order is None
                 and channels % 8 == 0 and rng.random() < 0.2 else 0)
    if split:
        extents |= {"D.o": channels // split, "D.i": split}
    else:
        extents["D"] = channels
    order = order or random_order(rng, extents)
    style = style or str(rng.choice(STYLES))
    if offset is None:
        offset = int(rng.choice([0, 0, 1, 8, 64]))
    run_time = ["B"]
    if layers and rng.random() < 0.5:
        run_time.append("L")
    case = make_cache(rng, extents, element_type, order, style, offset,
                      run_time)
    if layers:
        case = case.then("layer", int(rng.integers(0, layers)),
                         bool(rng.random() < 0.5))
    return case


def resized(rng, case, blocks):
    """A cache of the same type, full of poison, with another number of blocks
    and other strides where the type leaves them to run time."""
    if not isinstance(case, CacheCase):
        return case.resized(rng, blocks)
    extents = dict(zip(case.cache.axes, case.cache.array.shape))
    if "B" in case.type.facts and blocks == 1:
        blocks = 2  # what the fact says of slower axes would not show
    extents["B"] = blocks
    strides = {}
    for axis in reversed(case.type.order):
        fact = case.type.facts.get(axis)
        if fact is None or extents[axis] == 1:
            continue
        strides[axis] = fact
        if isinstance(fact, tuple):
            del strides[axis]
            least = compact(extents, case.type.order, strides)[axis]
            multiple = fact[1]
            strides[axis] = (-(-least // multiple)
                             + int(rng.integers(0, 3))) * multiple
    layout = Cache.make(extents, case.cache.element_type, case.type.order,
                        strides, case.cache.offset)
    guard = Guarded(poison(rng, layout.storage.size, case.cache.element_type))
    steps = []
    for kind, *operands in case.steps:
        if kind == "subpool":
            operands[0] = int(rng.integers(0, blocks + 1))
            operands[1] = int(rng.integers(0, blocks - operands[0] + 1))
        steps.append((kind, *operands))
    return CacheCase(layout.on(guard.inside), case.type, steps, guard)


def random_view(rng, case, sides=True):
    """Now and then a part of a cache of one layer: some blocks, some heads,
    one side."""
    extents = dict(zip(case.view.axes, case.view.array.shape))
    if rng.random() < 0.25:
        first = int(rng.integers(0, extents["B"] + 1))
        count = int(rng.integers(0, extents["B"] - first + 1))
        case = case.then("subpool", first, count)
    if extents.get("H", 1) > 1 and rng.random() < 0.4:
        first = int(rng.integers(0, extents["H"]))
        count = int(rng.integers(1, extents["H"] - first + 1))
        case = case.then("heads", first, count)
    if "S" in extents and sides and rng.random() < 0.3:
        case = case.then("side", int(rng.integers(0, extents["S"])))
    return case


def fill(rng, cache, used=None):
    """Random numbers in the tokens that `used` [B, N] names, or in all of
    them. The others keep their poison."""
    if not isinstance(cache, Cache):
        return cache.fill(rng, used)
    values = random_elements(rng, cache.logical_shape, cache.element_type)
    if used is not None:
        b = cache.letters.index("B")
        mask = used.reshape([1] * b + list(used.shape)
                            + [1] * (values.ndim - b - 2))
        values = np.where(mask, values, cache.get())
    cache.put(values)


# --- Slots, pairs -------------------------------------------------------------


def leading_out(index, limit):
    """Numbers of a type that are not below a limit: the ends of the type, what
    is one away from either limit, and what a product with the tokens of a block
    or the chunks of one would wrap, in 32 or 64 bits, into a number that is."""
    info = np.iinfo(TYPES[index][2])
    numbers = {info.min, info.min + 1, info.max - 1, info.max, -2, -1,
               -limit - 1, -limit, limit, limit + 1}
    for power in (31, 32, 61, 62, 63, 64):
        for factor in (1, 2, 3, 4, 7, 16, 128):
            at = 2**power // factor
            numbers |= {at - 1, at, at + 1, -at, -at - 1}
    return sorted(n for n in numbers
                  if info.min <= n <= info.max and not 0 <= n < limit)


def random_slots(rng, count, capacity, pad="skip_negative", index="i64",
                 duplicates=False, hostile=False):
    """Slots that `pad` allows. With `hostile`, any entry may be anything."""
    slots = np.full(count, -1, np.int64)
    live = rng.permutation(count)[: min(count, capacity)]
    slots[live] = rng.permutation(capacity)[: len(live)]
    if duplicates and len(live) > 1:
        slots[rng.choice(live, len(live) // 2)] = slots[live[0]]
    out = leading_out(index, capacity)
    far, below = [n for n in out if n > 0], [n for n in out if n < 0]
    for entries, fits in (below, pad.startswith("skip")), (
            far, pad == "skip_out_of_range"):
        if fits or hostile:
            padding = rng.random(count) < 0.2
            slots[padding] = rng.choice(entries, padding.sum())
    assert hostile or pad.startswith("skip") or len(live) == count
    return integers(slots, index)


def random_pairs(rng, count, sources, dests, index="i64", same=False,
                 tokens=None, hostile=True):
    """Pairs of a source and a destination, no destination named twice; if both
    are of one cache (`same`), none that is also a source. With `tokens`, each
    has a first token and a count too."""
    count = min(count, dests // 2 if same else dests)
    to = rng.permutation(dests)[:count]
    rest = np.setdiff1d(np.arange(sources), to) if same else np.arange(sources)
    pairs = np.stack([rng.choice(rest, count), to], axis=1).astype(np.int64)
    info = np.iinfo(TYPES[index][2])
    if tokens:
        first = rng.integers(0, tokens + 1, count)
        length = rng.integers(0, tokens + 1, count)
        if hostile:
            first[rng.random(count) < 0.1] = -1
            length[rng.random(count) < 0.1] = info.max
            length[rng.random(count) < 0.1] = -3
            for column in first, length:
                wrong = rng.random(count) < 0.1
                column[wrong] = rng.choice(leading_out(index, tokens),
                                           wrong.sum())
        pairs = np.concatenate([pairs, np.stack([first, length], 1)], axis=1)
    if hostile:
        for column, size in (0, sources), (1, dests):
            wrong = rng.random(count) < 0.15
            pairs[wrong, column] = rng.choice(leading_out(index, size),
                                              wrong.sum())
    return integers(pairs, index, fixed=(1,))


# --- Batches ------------------------------------------------------------------


@dataclass
class BatchCase:
    starts: Buffer
    lengths: Buffer
    table: Buffer
    tokens: int
    rows: int  # of activations, padding included
    positions: Optional[Buffer] = None

    def batch(self):
        return Batch(
            self.starts.array, self.lengths.array, self.table.array,
            self.tokens,
            None if self.positions is None else self.positions.array)

    @property
    def padding(self):
        return [t for t, r in enumerate(self.batch().rows(self.rows)) if not r]


def _query_rows(rng, kind, length):
    if kind == "mixed":
        kind = str(rng.choice(BATCHES[:3]))
    if length == 0:
        return 0
    if kind == "few":
        return min(length, int(rng.integers(1, 25)))
    if kind == "tree":
        return min(length, 8)
    return {"decode": 1, "prefill": length}.get(
        kind, int(rng.integers(1, length + 1)))


def random_batch(rng, *, requests=4, blocks=12, tokens=16, longest=50,
                 kind="mixed", index="i32", positions=None, padding=True,
                 extra=2, gap=0, shared=False):
    """A batch whose blocks are spread over a pool of `blocks` blocks.

    positions: None, or i32 or i64 for rows that have any positions
    extra:     columns of the table that no request needs
    gap:       numbers between the rows of the table
    shared:    all requests begin with the same blocks
    """
    free = rng.permutation(blocks).tolist()
    prefix = [free.pop() for _ in range(min(2, blocks // 4))] if shared else []
    lengths, used, counts = [], [], []
    for r in range(requests):
        length = int(rng.integers(0, longest + 1))
        if rng.random() < 0.15:
            length = 0
        length = min(length, (len(free) + len(prefix)) * tokens)
        needed = -(-length // tokens)
        own = prefix[:needed]
        own = own + [free.pop() for _ in range(needed - len(own))]
        lengths.append(length)
        used.append(own)
        counts.append(_query_rows(rng, kind, length))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rows = int(starts[-1]) + (int(rng.integers(0, 4)) if padding else 0)
    width = max([len(b) for b in used], default=0) + extra
    info = np.iinfo(TYPES[index][2])
    table = rng.choice([-1, blocks, info.max, info.min, 0],
                       (requests, width)).astype(np.int64)
    for r, own in enumerate(used):
        table[r, : len(own)] = own
    where = None
    if positions:
        where = rng.integers(-2, longest + 9, rows)
        for r, length in enumerate(lengths):
            here = slice(starts[r], starts[r + 1])
            where[here] = np.sort(rng.integers(0, max(1, length), counts[r]))
        where = integers(where, positions)
    return BatchCase(integers(starts, index), integers(lengths, index),
                     integers(table, index, gap), tokens, rows, where)


def prefixed_batch(rng, *, blocks, tokens, index="i32", positions=None):
    """A batch of groups of requests that begin with the same tokens, and the
    groups and the lengths of their prefixes."""
    free = rng.permutation(blocks).tolist()
    groups, prefixes = [int(rng.integers(0, 2))], []
    lengths, counts, used, first = [], [], [], []

    def add(prefix, shared):
        count = int(rng.choice([0, 1, 1, 1, 2, 5, 40]))
        own = count + int(rng.integers(0, 2 * tokens + 20))
        missing = -(-(prefix + own) // tokens) - len(shared)
        if missing > len(free):
            missing = len(free)
            own = (len(shared) + missing) * tokens - prefix
            count = min(count, own)
        lengths.append(prefix + own)
        counts.append(count)
        first.append(prefix)
        used.append(shared + [free.pop() for _ in range(missing)])

    if groups[0]:
        add(0, [])
    for _ in range(int(rng.integers(1, 4))):
        most = len(free) * tokens // 2
        prefix = min(int(rng.choice([0, 5, 127, 128, 200, 256, 384, 500])), most)
        shared = [free.pop() for _ in range(-(-prefix // tokens))]
        for _ in range(int(rng.choice([0, 1, 2, 3, 7, 40]))):
            add(prefix, shared)
        groups.append(len(lengths))
        prefixes.append(prefix)
    if rng.random() < 0.3:
        add(0, [])
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rows = int(starts[-1]) + int(rng.integers(0, 4))
    table = np.full((len(lengths), max(map(len, used), default=0) + 1), -1,
                    np.int64)
    for r, own in enumerate(used):
        table[r, : len(own)] = own
    where = None
    if positions:
        where = rng.integers(-2, 500, rows)
        for r, length in enumerate(lengths):
            here = slice(starts[r], starts[r + 1])
            where[here] = np.sort(rng.integers(first[r], max(length, 1),
                                               counts[r]))
        where = integers(where, positions)
    batch = BatchCase(integers(starts, index), integers(lengths, index),
                      integers(table, index), tokens, rows, where)
    return batch, (integers(groups, index), integers(prefixes, index))


def hostile_batch(rng, case, blocks):
    """The same batch with numbers that nobody should trust, in place."""
    info = np.iinfo(TYPES[case.table.element_type][2])
    index = case.table.element_type

    def spoil(array, entries, share):
        wrong = rng.random(array.shape) < share
        array[wrong] = rng.choice(entries, wrong.sum())

    capacity = case.table.array.shape[1] * case.tokens
    spoil(case.lengths.array, [-1, capacity + 5, info.max, info.min], 0.4)
    spoil(case.starts.array, [-7, case.rows + 3, 0, info.max, info.min], 0.3)
    spoil(case.table.array, leading_out(index, blocks), 0.3)
    if case.positions is not None:
        spoil(case.positions.array,
              leading_out(case.positions.element_type, 10**6), 0.2)
    return case
