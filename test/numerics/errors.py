# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Every check of an entry function: its code, its message, and no write."""

import threading

import numpy as np
from kvtest import (ALIGNMENT, BOUNDS, CUDA_DEVICE, CUDA_HOST, DEVICE, NULL,
                    SHAPE, STRIDE, TYPE, WORKSPACE, Guarded, Tensor, aligned,
                    compile_library, random_storage)

BLOCKS, TOKENS, HEADS, CHANNELS, COUNT = 5, 4, 2, 8, 6
BLOCK = TOKENS * HEADS * CHANNELS
SLOTS = "!kvcache.slots<?T x i64, rows_per_block = 4, pad = skip_negative>"
ROWS = "tensor<?x2x8xf32>"


def cache(facts="", heads=HEADS):
    return f"!kvcache.cache<2S x ?B x 4N x {heads}H x 8D x f32{facts}>"


def function(name, cache_type, rows=ROWS, attributes=""):
    return f"""
func.func @{name}(%pool: {cache_type}, %slots: tensor<?xi64>,
                  %key: {rows} {attributes}, %value: {rows} {attributes}) {{
  %where = kvcache.make_slots %slots : tensor<?xi64> to {SLOTS}
  kvcache.index_copy %key, %value into %pool at %where
    : {rows}, {rows} into {cache_type} at {SLOTS}
  return
}}
"""


PROGRAM = "".join([
    function("compact", cache()),
    function("constant", cache(", strides = [B = 128]")),
    function("multiple", cache(", strides = [B = ? mult 16]")),
    function("constant_side", cache(", strides = [S = 128]")),
    function("strided", cache(),
             "memref<?x2x8xf32, strided<[?, 8, 1], offset: ?>>"),
    function("lowered", cache(", align = 4"), ROWS, "{kvcache.align = 4 : i64}"),
    function("one_head", cache("", 1), "tensor<?x1x8xf32>"),
    # Heads that are apart by a stride of the call, aligned or not.
    *(f"""
func.func @{name}(%pool: {cache()}, %slots: tensor<?xi64>,
                  %key: memref<?x2x8xf32, strided<[?, ?, 1]>> {attributes},
                  %value: {ROWS}) {{
  %where = kvcache.make_slots %slots : tensor<?xi64> to {SLOTS}
  %rows = bufferization.to_tensor %key restrict
    : memref<?x2x8xf32, strided<[?, ?, 1]>> to {ROWS}
  %sums = linalg.add ins(%rows, %value : {ROWS}, {ROWS})
    outs(%value : {ROWS}) -> {ROWS}
  kvcache.index_copy %sums, %sums into %pool at %where
    : {ROWS}, {ROWS} into {cache()} at {SLOTS}
  return
}}
""" for name, attributes in (("apart", ""),
                             ("apart_aligned", "{kvcache.align = 16 : i64}"))),
    # What two views of one argument demand holds together.
    f"""
!flat = memref<2x?x4x2x8xf32, strided<[?, ?, 16, 8, 1]>>
func.func @two_views(%pool: !flat, %slots: tensor<?xi64>, %key: {ROWS},
                     %value: {ROWS}) {{
  %a = kvcache.view %pool : !flat to {cache()}
  %b = kvcache.view %pool : !flat to {cache(", strides = [B = ? mult 16]")}
  %where = kvcache.make_slots %slots : tensor<?xi64> to {SLOTS}
  kvcache.index_copy %key, %value into %a at %where
    : {ROWS}, {ROWS} into {cache()} at {SLOTS}
  return
}}
// What the type of a memref says holds whatever the view leaves open.
!packed = memref<2x?x4x2x8xf32>
!apart = !kvcache.cache<?B x 4N x 8D x f32, order = [N, B, D], strides = [N = ? mult 64]>
!near = !kvcache.cache<?B x 4N x 8D x f32>
func.func @compact_multiple(%from: memref<4x?x8xf32>, %to: !near) {{
  %a = kvcache.view %from[N, B, D] : memref<4x?x8xf32> to !apart
  kvcache.relayout %a into %to : !apart into !near
  return
}}
func.func @packed_memref(%pool: !packed, %slots: tensor<?xi64>, %key: {ROWS},
                         %value: {ROWS}) {{
  %a = kvcache.view %pool : !packed to {cache(", strides = [B = ? mult 16]")}
  %where = kvcache.make_slots %slots : tensor<?xi64> to {SLOTS}
  kvcache.index_copy %key, %value into %a at %where
    : {ROWS}, {ROWS} into {cache(", strides = [B = ? mult 16]")} at {SLOTS}
  return
}}
func.func @bytes(%pool: memref<?xi8>, %slots: tensor<?xi64>, %key: {ROWS},
                 %value: {ROWS}, %offset: index, %blocks: index,
                 %stride: index) {{
  %a = kvcache.view %pool offset(%offset) extents(B = %blocks)
    strides(B = %stride)
    : memref<?xi8> to {cache(", strides = [B = ? mult 16], align = 64")}
  %where = kvcache.make_slots %slots : tensor<?xi64> to {SLOTS}
  kvcache.index_copy %key, %value into %a at %where
    : {ROWS}, {ROWS} into {cache(", strides = [B = ? mult 16], align = 64")}
    at {SLOTS}
  return
}}
func.func @workspace(%pool: {cache()}, %slots: tensor<?xi64>, %key: {ROWS},
                     %value: {ROWS}, %i: index) {{
  %minus = arith.constant -1 : i64
  %before = kvcache.make_slots %slots : tensor<?xi64> to {SLOTS}
  %changed = tensor.insert %minus into %slots[%i] : tensor<?xi64>
  %after = kvcache.make_slots %changed : tensor<?xi64> to {SLOTS}
  kvcache.index_copy %key, %value into %pool at %before
    : {ROWS}, {ROWS} into {cache()} at {SLOTS}
  kvcache.index_copy %key, %value into %pool at %after
    : {ROWS}, {ROWS} into {cache()} at {SLOTS}
  return
}}
"""])

library = compile_library(PROGRAM, "errors")
rng = np.random.default_rng(3)


class Buffers:
    """Fresh buffers; whatever a failing call writes to any of them shows."""

    def __init__(self, heads=HEADS):
        self.heads = heads
        self.pool = Guarded(random_storage(rng, 4 * BLOCKS * BLOCK + 64, "f32"))
        self.slots = Guarded(rng.permutation(BLOCKS * TOKENS)[:16])
        self.rows = [Guarded(random_storage(rng, 1024, "f32"))
                     for _ in range(2)]
        self.before = [b.whole.copy() for b in self.all()]

    def all(self):
        return [self.pool, self.slots, *self.rows]

    def tensor(self, **change):
        shape = [2, BLOCKS, TOKENS, self.heads, CHANNELS]
        return Tensor(**dict(dict(storage=self.pool.inside, element_type="f32",
                                  shape=shape), **change))

    def slot_tensor(self, **change):
        return Tensor(**dict(dict(storage=self.slots.inside, element_type="i64",
                                  shape=[COUNT]), **change))

    def row(self, side, **change):
        return Tensor(**dict(dict(storage=self.rows[side].inside,
                                  element_type="f32",
                                  shape=[COUNT, self.heads, CHANNELS]),
                             **change))

    def args(self, pool=None, slots=None, key=None, value=None):
        """Arguments; a dict changes a tensor, a function edits its DLTensor."""
        def make(build, change):
            tensor = build(**(change if isinstance(change, dict) else {}))
            if callable(change):
                change(tensor.dl)
            return tensor

        return [make(self.tensor, pool), make(self.slot_tensor, slots),
                make(lambda **c: self.row(0, **c), key),
                make(lambda **c: self.row(1, **c), value)]


def passes(name, extra=(), heads=HEADS, writes=True, **changes):
    buffers = Buffers(heads)
    library.check_call(name, *buffers.args(**changes), *extra)
    assert library.last_error() == "", library.last_error()
    buffers.pool.check(name)
    changed = not np.array_equal(buffers.pool.whole, buffers.before[0])
    assert changed == writes, f"{name}: changed = {changed}"


def refused(code, texts, name="compact", extra=(), heads=HEADS, edit=None,
            workspace=None, **changes):
    buffers = Buffers(heads)
    args = [*buffers.args(**changes), *extra]
    if edit:
        edit(args)
    got = library.call(name, *args, workspace=workspace)
    message = library.last_error()
    assert got == code, f"expected code {code}, got {got}: {message}"
    for text in [f"{name}: ", *texts]:
        assert text in message, f"expected '{text}' in '{message}'"
    for buffer, before in zip(buffers.all(), buffers.before):
        assert np.array_equal(buffer.whole, before), f"{message}: written"


def replace(index, value):
    def edit(args):
        args[index] = value

    return edit


def test_null():
    for i, name in enumerate(["pool", "slots", "key", "value"]):
        refused(NULL, [f"argument '{name}'", "expected a tensor, got a null"],
                edit=replace(i, None))
        refused(NULL, [f"argument '{name}'", "expected data, got a null"],
                **{name: dict(null_data=True)})

        def no_shape(dl):
            dl.shape = None

        refused(NULL, [f"argument '{name}'", "expected a shape, got a null"],
                **{name: no_shape})


def test_shape():
    refused(SHAPE, ["argument 'key'", "expected 3 dimensions, got 2"],
            key=dict(shape=[COUNT, HEADS * CHANNELS]))
    refused(SHAPE, ["argument 'slots'", "expected 1 dimensions, got 2"],
            slots=dict(shape=[COUNT, 1]))
    refused(SHAPE, ["argument 'pool'", "extent of 4 in dimension 2, got 3"],
            pool=dict(shape=[2, BLOCKS, 3, HEADS, CHANNELS]))
    refused(SHAPE, ["argument 'value'", "extent of 8 in dimension 2, got 9"],
            value=dict(shape=[COUNT, HEADS, 9]))
    refused(SHAPE, ["argument 'key'", f"expected an extent of {COUNT}",
                    "in dimension 0", "as in argument 'slots'", "got 5"],
            key=dict(shape=[5, HEADS, CHANNELS]))
    refused(SHAPE, ["argument 'value'", "as in argument 'slots'", "got 7"],
            value=dict(shape=[7, HEADS, CHANNELS]))
    refused(SHAPE, ["argument 'pool'", "between 0 and 2^40 in dimension 1",
                    "got -1"],
            pool=dict(shape=[2, -1, TOKENS, HEADS, CHANNELS]))
    refused(SHAPE, ["argument 'pool'", "between 0 and 2^40 in dimension 1",
                    f"got {2**41}"],
            pool=dict(shape=[2, 2**41, TOKENS, HEADS, CHANNELS]))


def test_type():
    refused(TYPE, ["argument 'key'", "expected elements of float32, got "
                   "bfloat16"], key=dict(element_type="bf16"))
    refused(TYPE, ["argument 'slots'", "expected elements of int64, got int32"],
            slots=dict(element_type="i32"))
    refused(TYPE, ["argument 'pool'", "expected elements of float32, got "
                   "float64"], pool=dict(element_type="f64"))

    def lanes(dl):
        dl.lanes = 4

    refused(TYPE, ["argument 'pool'", "got float32 with several lanes"],
            pool=lanes)


def strides(block, side=None, token=HEADS * CHANNELS):
    side = BLOCKS * block if side is None else side
    return dict(strides=[side, block, token, CHANNELS, 1])


def test_stride():
    passes("compact", pool=strides(BLOCK))
    passes("compact", pool=dict(null_strides=True),
           key=dict(null_strides=True))
    refused(STRIDE, ["argument 'pool'", f"a stride of {BLOCK} elements",
                     "dimension 1", "got 128"], pool=strides(128))
    refused(STRIDE, ["argument 'pool'", f"{BLOCKS * BLOCK} elements",
                     "dimension 0", "got 640"], pool=strides(BLOCK, side=640))
    refused(STRIDE, ["argument 'slots'", "a stride of 1", "got 2"],
            slots=dict(strides=[2]))
    refused(STRIDE, ["argument 'key'", "a stride of 16", "got 32"],
            key=dict(strides=[32, 8, 1]))

    passes("constant", pool=strides(128))
    refused(STRIDE, ["argument 'pool'", "a stride of 128 elements",
                     "dimension 1", "got 64"], "constant", pool=strides(64))
    refused(STRIDE, ["argument 'pool'", "a stride of 128 elements", "got 64"],
            "constant", pool=dict(null_strides=True))

    for block in (64, 80, 128):
        passes("multiple", pool=strides(block))
    refused(STRIDE, ["argument 'pool'", "a multiple of 16 elements",
                     "dimension 1", "got 72"], "multiple", pool=strides(72))
    refused(STRIDE, ["argument 'pool'", "at least 64 elements", "dimension 1",
                     "got 48"], "multiple", pool=strides(48))
    refused(STRIDE, ["argument 'pool'", "at least 64 elements", "got -64"],
            "multiple", pool=strides(-64))

    # A constant does not reach over the blocks of each call.
    passes("constant_side", writes=False, pool=dict(shape=[2, 2, TOKENS, HEADS, CHANNELS],
                                      **strides(BLOCK, side=128)))
    refused(STRIDE, ["argument 'pool'", f"at least {BLOCKS * BLOCK} elements",
                     "dimension 0", "got 128"], "constant_side",
            pool=strides(BLOCK, side=128))
    # Compact and a multiple: both hold.
    near = Tensor(aligned(4 * 4 * 8, np.float32), "f32", [4, 4, 8])
    library.check_call("compact_multiple", Tensor(
        aligned(4 * 8 * 8, np.float32), "f32", [4, 8, 8]), Tensor(
            aligned(8 * 4 * 8, np.float32), "f32", [8, 4, 8]))
    library.expect_error(
        STRIDE, "argument 'from': expected a stride that is a multiple of 64 "
        "elements in dimension 0, got 32", "compact_multiple",
        Tensor(aligned(4 * 4 * 8, np.float32), "f32", [4, 4, 8]), near)

    passes("strided", key=dict(strides=[40, 8, 1]))
    refused(STRIDE, ["argument 'key'", "a multiple of 4 elements", "got 42"],
            "strided", key=dict(strides=[42, 8, 1]))
    refused(STRIDE, ["argument 'key'", "at least 16 elements", "got 8"],
            "strided", key=dict(strides=[8, 8, 1]))

    passes("two_views")
    refused(STRIDE, ["argument 'pool'", "a stride of 64 elements", "got 80"],
            "two_views", pool=strides(80))
    passes("packed_memref")
    refused(STRIDE, ["argument 'pool'", "a stride of 64 elements", "got 80"],
            "packed_memref", pool=strides(80))


def test_stride_of_one():
    """An extent of 1 has no stride of its own."""
    one = dict(shape=[2, BLOCKS, TOKENS, 1, CHANNELS],
               strides=[BLOCKS * 32, 32, 8, 12345, 1])
    passes("one_head", heads=1, pool=one)
    passes("one_head", heads=1, key=dict(strides=[8, -7, 1]))
    one_block = [2, 1, TOKENS, HEADS, CHANNELS]
    tokens = dict(slots=dict(shape=[1]), key=dict(shape=[1, HEADS, CHANNELS]),
                  value=dict(shape=[1, HEADS, CHANNELS]))

    def single(side):
        """One block, whose own stride says nothing."""
        def edit(args):
            args[1].storage[0] = 2
        return edit, dict(shape=one_block, strides=[side, 999, 16, 8, 1])

    def accepts(name, side):
        edit, pool = single(side)
        buffers = Buffers()
        args = buffers.args(pool=pool, **tokens)
        edit(args)
        library.check_call(name, *args)
        written = args[0].view()[:, 0, 2]
        assert np.array_equal(written[0], args[2].view()[0])
        assert np.array_equal(written[1], args[3].view()[0])

    accepts("compact", 64)
    accepts("constant", 128)  # what the type says, as there is no other block
    accepts("multiple", 64)
    accepts("multiple", 80)
    for name, side, text in [("compact", 128, "a stride of 64"),
                             ("constant", 64, "a stride of 128"),
                             ("multiple", 72, "a multiple of 16"),
                             ("multiple", 48, "at least 64")]:
        refused(STRIDE, ["argument 'pool'", text, "dimension 0", f"got {side}"],
                name, pool=single(side)[1], **tokens)


def test_zero_extents():
    empty = dict(slots=dict(shape=[0]), key=dict(shape=[0, HEADS, CHANNELS]),
                 value=dict(shape=[0, HEADS, CHANNELS]))
    passes("compact", writes=False, **empty)
    nothing = {name: dict(change, null_data=True)
               for name, change in empty.items()}
    passes("compact", writes=False, **nothing)
    # No block: all slots are out of range. Strides and data say nothing.
    passes("compact", writes=False,
           pool=dict(shape=[2, 0, TOKENS, HEADS, CHANNELS],
                     strides=[7, 7, 7, 7, 7], null_data=True))
    refused(SHAPE, ["argument 'key'", "as in argument 'slots'", "got 0"],
            key=dict(shape=[0, HEADS, CHANNELS]))


def test_alignment():
    refused(ALIGNMENT, ["argument 'pool'", "a multiple of 16 bytes"],
            pool=dict(offset=1))
    refused(ALIGNMENT, ["argument 'key'", "a multiple of 16 bytes"],
            key=dict(offset=2))
    passes("compact", pool=dict(offset=4), key=dict(offset=4))
    passes("lowered", pool=dict(offset=1), key=dict(offset=3),
           value=dict(offset=1))

    def odd(dl):
        dl.data += 2

    refused(ALIGNMENT, ["argument 'value'", "a multiple of 4 bytes"], "lowered",
            value=odd)
    refused(ALIGNMENT, ["argument 'slots'", "a multiple of 8 bytes"], slots=odd)


def test_byte_offset():
    """data + byte_offset is where the first element lies."""
    buffers = Buffers()
    args = buffers.args(pool=dict(byte_offset=4096), slots=dict(byte_offset=8),
                        key=dict(byte_offset=160), value=dict(byte_offset=1))
    library.check_call("compact", *args)
    for t, slot in enumerate(buffers.slots.inside[:COUNT]):
        for side in range(2):
            assert np.array_equal(
                args[0].view()[side, slot // TOKENS, slot % TOKENS],
                args[2 + side].view()[t])

    def shifted(dl):
        dl.byte_offset = 4

    refused(ALIGNMENT, ["argument 'pool'", "a multiple of 16"], pool=shifted)


def test_device():
    refused(DEVICE, ["argument 'pool'", "memory of the CPU",
                     "device type 1", "got device type 2"],
            pool=dict(device=CUDA_DEVICE))
    refused(DEVICE, ["argument 'slots'", "got device type 13"],
            slots=dict(device=13))
    passes("compact", pool=dict(device=CUDA_HOST), key=dict(device=CUDA_HOST))


def test_bytes():
    # 2 sides of 5 blocks with a stride of 80 elements: 4 * (9 * 80 + 64) bytes.
    whole = (4 * BLOCKS * BLOCK + 64) * 4
    need = (9 * 80 + 64) * 4
    pool = dict(element_type="i8", shape=[whole])

    def small(size):
        return dict(element_type="i8", shape=[size])

    text = ["argument 'pool'", "expected a view within"]
    passes("bytes", (128, BLOCKS, 80), pool=pool)
    passes("bytes", (128, BLOCKS, 80), pool=small(need + 128))
    for arguments, size in [
            ((128, BLOCKS, 80), need + 127),  # one byte short
            ((192, BLOCKS, 80), need + 128),
            ((-64, BLOCKS, 80), whole),
            ((32, BLOCKS, 80), whole),  # aligned to 64
            ((1 << 62, BLOCKS, 80), whole),
            ((-(1 << 63), BLOCKS, 80), whole),
            ((0, 1000, 80), whole),
            ((0, -1, 80), whole),
            ((0, (1 << 63) - 1, 80), whole),
            ((0, 1 << 40, 1 << 40), whole),  # wraps to 0 bytes
            ((0, BLOCKS, 72), whole),  # a multiple of 16
            ((0, BLOCKS, 0), whole),
            ((0, BLOCKS, -80), whole),
            ((0, BLOCKS, 48), whole),  # blocks would overlap
            ((0, BLOCKS, 1 << 60), whole),
            ((0, BLOCKS, 80), 0)]:
        refused(BOUNDS, [*text, f"{size} bytes"], "bytes", arguments,
                pool=small(size))
    refused(ALIGNMENT, ["argument 'pool'", "a multiple of 64 bytes"], "bytes",
            (128, BLOCKS, 80), pool=dict(pool, offset=4, shape=[whole - 64]))


def test_workspace():
    size = library.workspace_size("workspace", *Buffers().args(), 0)
    assert size == 256, size
    text = "expected a workspace of at least 256 bytes, got "
    refused(WORKSPACE, [text + "0"], "workspace", (0,))
    refused(WORKSPACE, [text + "255"], "workspace", (0,),
            workspace=aligned(255, np.uint8))
    refused(ALIGNMENT, ["expected a workspace whose address is a multiple of "
                        "256 bytes"], "workspace", (0,),
            workspace=aligned(512, np.uint8)[8:])
    # The size has the checks of a call.
    got = library.workspace_size(
        "workspace", *Buffers().args(slots=dict(element_type="i32")), 0)
    assert got < 0, got
    assert "argument 'slots'" in library.last_error()


def test_threads():
    """A message belongs to the thread whose call failed."""
    refused(TYPE, ["argument 'slots'"], slots=dict(element_type="i32"))
    seen = {}

    def other():
        seen["fresh"] = library.last_error()
        refused(SHAPE, ["argument 'key'"], key=dict(shape=[5, 2, 8]))
        seen["own"] = library.last_error()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen["fresh"] == "", seen
    assert "argument 'key'" in seen["own"], seen
    assert "argument 'slots'" in library.last_error()
    passes("compact")  # a call that works clears the message


def test_heads_apart():
    passes("apart", key=dict(strides=[52, 22, 1]))
    passes("apart_aligned", key=dict(strides=[52, 24, 1]))
    refused(STRIDE, ["argument 'key'", "a multiple of 4 elements",
                     "dimension 1", "got 22"], "apart_aligned",
            key=dict(strides=[52, 22, 1]))
    refused(STRIDE, ["argument 'key'", "a multiple of 4 elements",
                     "dimension 0", "got 54"], "apart",
            key=dict(strides=[54, 22, 1]))
    refused(STRIDE, ["argument 'key'", "at least 44 elements", "dimension 0",
                     "got 40"], "apart", key=dict(strides=[40, 22, 1]))


tests = [value for name, value in list(globals().items())
         if name.startswith("test_")]
for test in tests:
    test()
print(f"{len(tests)} groups of checks")
