# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""The stride of a dimension of extent 1, and every stride of a tensor without
elements, may be any number: a call gives the same bits as with the packed ones,
and touches no page beside its tensors."""

import ctypes
import itertools
import mmap

import numpy as np
from kvtest import TYPES, Tensor, aligned, compact_strides, compile_library

GARBAGE = [0, -1, 10**9, -(2**63), 2**63 - 1]
PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int,
                      ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class Fenced:
    """Bytes with pages on both sides that nobody may touch, close to the one
    behind them: not closer than `align` leaves room for."""

    def __init__(self, size, align=64):
        pages = (size + PAGE - 1) // PAGE
        self.length = (pages + 2) * PAGE
        self.base = libc.mmap(None, self.length,
                              mmap.PROT_READ | mmap.PROT_WRITE,
                              mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        assert self.base not in (None, 2**64 - 1)
        for fence in (self.base, self.base + (pages + 1) * PAGE):
            assert libc.mprotect(fence, PAGE, 0) == 0
        start = self.base + PAGE + (pages * PAGE - size) // align * align
        self.bytes = np.ctypeslib.as_array(
            (ctypes.c_uint8 * size).from_address(start))

    def free(self):
        assert libc.munmap(self.base, self.length) == 0


SLOTS1 = "!kvcache.slots<?T x i64, rows_per_block = 1, pad = skip_negative>"
SLOTS2 = "!kvcache.slots<?T x i64, rows_per_block = 2, pad = skip_negative>"


def index_copy(name, cache, slots=SLOTS2, rows="memref<?x2x4xf32>", values=1):
    more = "".join(f", %v{i}: {rows}" for i in range(1, values))
    operands = ", ".join(["%rows", *(f"%v{i}" for i in range(1, values))])
    return f"""
func.func @{name}(%pool: {cache}, %slots: {slots}, %rows: {rows}{more}) {{
  kvcache.index_copy {operands} into %pool at %slots
    : {", ".join([rows] * values)} into {cache} at {slots}
  return
}}
"""


ONE_TOKEN = "!kvcache.cache<?B x 1N x 2H x 4D x f32, strides = [{}], align = 4>"
ONE_HEAD = "!kvcache.cache<?B x 2N x 1H x 4D x f32, {}align = 4>"
LAYERS = "!kvcache.cache<4L x ?B x 2N x 4D x f32, strides = [B = ?], align = 4>"
SIDES = "!kvcache.cache<2S x ?B x 2N x 2H x 4D x f32{}>"
BATCH = "!kvcache.batch<?R x ?M x i32, tokens = 2>"
POSITIONED = "!kvcache.batch<?R x ?M x i32, tokens = 2, positions = i64>"
QUERY = "memref<?x2x4xf32>"

PROGRAM = "".join([
    # Pages of one token: a row is found by slot * stride(N).
    index_copy("one_token", ONE_TOKEN.format("H = ?"), SLOTS1),
    index_copy("one_token_free", ONE_TOKEN.format("B = ?"), SLOTS1),
    index_copy("one_token_multiple", ONE_TOKEN.format("B = ? mult 4, N = ? mult 2"),
               SLOTS1),
    index_copy("one_token_packed", ONE_TOKEN.format("N = ? mult 4"), SLOTS1),
    index_copy("one_head", ONE_HEAD.format(""), rows="memref<?x1x4xf32>"),
    index_copy("one_head_free", ONE_HEAD.format("strides = [H = ?], "),
               rows="memref<?x1x4xf32>"),
    index_copy("head_of_rows", ONE_HEAD.format("strides = [N = ?], "),
               rows="memref<?x1x4xf32, strided<[?, 4, 1]>>"),
    index_copy("sides", SIDES.format(", strides = [B = ? mult 4]"), values=2),
    index_copy("blocks_first",
               SIDES.format(", order = [B, S, N, H, D]"), values=2),
    f"""
func.func @reshape(%pool: {LAYERS}, %out: memref<?x2x4xf32>) {{
  %m = kvcache.reshape %pool
    : {LAYERS} to memref<?x2x4xf32, strided<[?, 4, 1], offset: ?>>
  memref.copy %m, %out : memref<?x2x4xf32, strided<[?, 4, 1], offset: ?>>
    to memref<?x2x4xf32>
  return
}}
func.func @collapse(%a: tensor<?x?x?xf32>, %out: tensor<?x?xf32>)
    -> tensor<?x?xf32> {{
  %c = tensor.collapse_shape %a [[0, 1], [2]]
    : tensor<?x?x?xf32> into tensor<?x?xf32>
  %r = linalg.copy ins(%c : tensor<?x?xf32>) outs(%out : tensor<?x?xf32>)
    -> tensor<?x?xf32>
  return %r : tensor<?x?xf32>
}}
func.func @collapse_strided(%a: memref<?x?x4xf32, strided<[?, ?, 1]>>,
                            %out: memref<?x4xf32>) {{
  %c = memref.collapse_shape %a [[0, 1], [2]]
    : memref<?x?x4xf32, strided<[?, ?, 1]>> into memref<?x4xf32, strided<[?, 1]>>
  memref.copy %c, %out : memref<?x4xf32, strided<[?, 1]>> to memref<?x4xf32>
  return
}}
func.func @views(%pool: memref<?x2x2x4xf32, strided<[?, ?, 4, 1]>>,
                 %slots: {SLOTS2}, %rows: {QUERY}) {{
  %a = kvcache.view %pool : memref<?x2x2x4xf32, strided<[?, ?, 4, 1]>>
    to !kvcache.cache<?B x 2N x 2H x 4D x f32, strides = [B = ?, N = ?], align = 4>
  kvcache.index_copy %rows into %a at %slots : {QUERY}
    into !kvcache.cache<?B x 2N x 2H x 4D x f32, strides = [B = ?, N = ?], align = 4>
    at {SLOTS2}
  return
}}
func.func @blocks(%pool: {SIDES.format(", strides = [B = ?]")},
                  %pairs: memref<?x2xi64>) {{
  kvcache.copy_blocks %pool at %pairs
    : {SIDES.format(", strides = [B = ?]")} at memref<?x2xi64>
  return
}}
func.func @attention(%q: {QUERY}, %pool: {SIDES.format("")}, %b: {BATCH},
                     %o: {QUERY}) {{
  kvcache.attention %q over %pool in %b into %o causal
    : {QUERY} over {SIDES.format("")} in {BATCH} into {QUERY}
  return
}}
func.func @mapping(%b: {POSITIONED}, %out: memref<?xi64>) {{
  kvcache.slot_mapping %b into %out : {POSITIONED} into memref<?xi64>
  return
}}
func.func @table(%blocks: memref<?x?xi32, strided<[?, 1]>>,
                 %out: memref<?x?xi32, strided<[?, 1]>>) {{
  kvcache.map_blocks %blocks by 2 into %out : memref<?x?xi32, strided<[?, 1]>>
    into memref<?x?xi32, strided<[?, 1]>>
  return
}}
func.func @linalg(%x: tensor<?x?xf32>, %y: tensor<?x?xf32>,
                  %o: tensor<?x?xf32>) -> tensor<?x?xf32> {{
  %r = linalg.matmul ins(%x, %y : tensor<?x?xf32>, tensor<?x?xf32>)
    outs(%o : tensor<?x?xf32>) -> tensor<?x?xf32>
  return %r : tensor<?x?xf32>
}}
"""])

rng = np.random.default_rng(17)


def f32(*shape, strides=None):
    return ("f32", shape, strides, None)


def ints(values, element_type="i64", strides=None):
    values = np.array(values)
    return (element_type, values.shape, strides, values)


def batch(starts, lengths, table, positions=None):
    members = [ints(starts, "i32"), ints(lengths, "i32"), ints(table, "i32")]
    return members + ([ints(positions, "i64")] if positions else [])


# function, arguments: each with at least one dimension of extent 1 or 0
CALLS = [
    ("one_token", [f32(4, 1, 2, 4, strides=[10, 10, 5, 1]), ints([1, 3]),
                   f32(2, 2, 4)]),
    ("one_token_free", [f32(4, 1, 2, 4, strides=[20, 8, 4, 1]), ints([1, 3]),
                        f32(2, 2, 4)]),
    ("one_token_multiple", [f32(4, 1, 2, 4, strides=[20, 8, 4, 1]),
                            ints([1, 3]), f32(2, 2, 4)]),
    ("one_token_packed", [f32(4, 1, 2, 4, strides=[8, 8, 4, 1]),
                          ints([1, 3]), f32(2, 2, 4)]),
    ("one_token", [f32(1, 1, 2, 4, strides=[10, 10, 5, 1]), ints([0]),
                   f32(1, 2, 4)]),
    ("one_head", [f32(3, 2, 1, 4), ints([5, 2]), f32(2, 1, 4)]),
    ("one_head_free", [f32(3, 2, 1, 4), ints([5, 2]),
                       f32(2, 1, 4)]),
    ("head_of_rows", [f32(3, 2, 1, 4, strides=[12, 6, 4, 1]), ints([5, 2]),
                      f32(2, 1, 4, strides=[8, 4, 1])]),
    ("sides", [f32(2, 1, 2, 2, 4), ints([1]), f32(1, 2, 4), f32(1, 2, 4)]),
    ("blocks_first", [f32(2, 1, 2, 2, 4, strides=[16, 32, 8, 4, 1]), ints([1]),
                      f32(1, 2, 4), f32(1, 2, 4)]),
    ("sides", [f32(2, 0, 2, 2, 4), ints([1]), f32(1, 2, 4), f32(1, 2, 4)]),
    ("sides", [f32(2, 1, 2, 2, 4), ints(np.zeros(0, int)), f32(0, 2, 4),
               f32(0, 2, 4)]),
    ("reshape", [f32(4, 1, 2, 4), f32(4, 2, 4)]),
    ("collapse", [f32(3, 1, 5), f32(3, 5)]),
    ("collapse", [f32(1, 1, 5), f32(1, 5)]),
    ("collapse", [f32(1, 3, 1), f32(3, 1)]),
    ("collapse_strided", [f32(3, 1, 4, strides=[10, 10, 1]), f32(3, 4)]),
    ("collapse_strided", [f32(1, 3, 4, strides=[30, 10, 1]), f32(3, 4)]),
    ("views", [f32(1, 2, 2, 4, strides=[24, 12, 4, 1]), ints([1]),
               f32(1, 2, 4)]),
    ("blocks", [f32(2, 1, 2, 2, 4), ints([[0, 0]])]),
    ("attention", [f32(1, 2, 4), f32(2, 1, 2, 2, 4),
                   *batch([0, 1], [2], [[0]]), f32(1, 2, 4)]),
    ("mapping", [*batch([0, 1], [2], [[1]], [1]), ints([0])]),
    ("table", [ints([[3]], "i32"), ints([[0, 0]], "i32")]),
    ("table", [ints([[3], [1]], "i32"), ints([[0, 0], [0, 0]], "i32")]),
    ("linalg", [f32(1, 3), f32(3, 1), f32(1, 1)]),
]
library = compile_library(PROGRAM, "unit_strides")


class Argument:
    def __init__(self, element_type, shape, strides, values):
        self.element_type, self.shape = element_type, list(shape)
        self.strides = strides or compact_strides(self.shape)
        storage = TYPES[element_type][2]
        reach = 1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides))
        count = 0 if 0 in self.shape else reach
        if values is None:
            self.initial = rng.standard_normal(count).astype(storage)
        else:
            self.initial = np.zeros(count, storage)
            if count:
                view = np.lib.stride_tricks.as_strided(
                    self.initial, self.shape,
                    [s * self.initial.itemsize for s in self.strides])
                view[...] = values
        self.memory = Fenced(max(1, self.initial.nbytes))

    def tensor(self, strides=None):
        storage = self.memory.bytes[: self.initial.nbytes]
        storage[:] = self.initial.view(np.uint8)
        return Tensor(storage.view(self.initial.dtype), self.element_type,
                      self.shape, strides or self.strides,
                      null_data=not self.initial.nbytes)

    def free_dims(self):
        if 0 in self.shape:
            return list(range(len(self.shape)))
        return [d for d, n in enumerate(self.shape) if n == 1]


def call(name, arguments, strides):
    """The bytes of all arguments after a call; some have other strides."""
    tensors = [a.tensor(s) for a, s in zip(arguments, strides)]
    size = library.workspace_size(name, *tensors)
    assert size >= 0, library.last_error()
    library.check_call(name, *tensors,
                       workspace=aligned(max(size, 1), np.uint8))
    return [t.storage.tobytes() for t in tensors]


calls = 0
for name, specs in CALLS:
    arguments = [Argument(*spec) for spec in specs]
    plain = [None] * len(arguments)
    expected = call(name, arguments, plain)
    places = [(i, d) for i, a in enumerate(arguments) for d in a.free_dims()]
    assert places, name
    # Each place alone, then all of them in every argument at once.
    for changed, garbage in itertools.product(
            [[place] for place in places] + [places], GARBAGE):
        strides = [list(a.strides) for a in arguments]
        for i, d in changed:
            strides[i][d] = garbage
        got = call(name, arguments, strides)
        assert got == expected, f"{name}: {garbage} at {changed} changes bits"
        calls += 1
    for argument in arguments:
        argument.memory.free()
print(f"{calls} calls with strides that say nothing")
