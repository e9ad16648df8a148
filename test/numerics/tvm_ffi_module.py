# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""A library loaded by TVM-FFI and called with NumPy arrays.

NumPy has no bf16 in DLPack, so bf16 is handed over in a capsule made here.
"""

import ctypes
import time

import numpy as np
from kvtest import Tensor, aligned, compile_library, random_storage
from reference import Cache, index_copy

SLOTS = "!kvcache.slots<?T x i64, rows_per_block = 4, pad = skip_negative>"


def function(name, element_type, body=""):
    cache = f"!kvcache.cache<2S x ?B x 4N x 2H x 8D x {element_type}>"
    rows = f"tensor<?x2x8x{element_type}>"
    return f"""
func.func @{name}(%pool: {cache}, %slots: tensor<?xi64>, %key: {rows},
                  %value: {rows}) {{
  %where = kvcache.make_slots %slots : tensor<?xi64> to {SLOTS}
  {body}
  kvcache.index_copy %key, %value into %pool at %where
    : {rows}, {rows} into {cache} at {SLOTS}
  return
}}
"""


UPDATE = f"""
  %zero = arith.constant 0 : index
  %minus = arith.constant -1 : i64
  %changed = tensor.insert %minus into %slots[%zero] : tensor<?xi64>
  %now = kvcache.make_slots %changed : tensor<?xi64> to {SLOTS}
  kvcache.index_copy %key, %value into %pool at %now
    : tensor<?x2x8xf32>, tensor<?x2x8xf32>
    into !kvcache.cache<2S x ?B x 4N x 2H x 8D x f32> at {SLOTS}
"""

PROGRAM = "".join([
    function("insert", "f32"), function("insert_bf16", "bf16"),
    function("late", "f32", UPDATE), """
func.func @scalars(%x: memref<?xf64>, %i: index, %n: i32, %f: f32) {
  %wide = arith.extf %f : f32 to f64
  %whole = arith.sitofp %n : i32 to f64
  %sum = arith.addf %wide, %whole : f64
  memref.store %sum, %x[%i] : memref<?xf64>
  return
}
"""])

# The library is in the process before that of TVM-FFI: it must find it later.
library = compile_library(PROGRAM, "ffi")
import tvm_ffi  # noqa: E402

module = tvm_ffi.load_module(str(library.path))
rng = np.random.default_rng(9)
BLOCKS, COUNT = 5, 6
SHAPE = (2, BLOCKS, 4, 2, 8)


class Managed(ctypes.Structure):
    """DLManagedTensor; its first member is a DLTensor."""

    _fields_ = [("tensor", ctypes.c_byte * 48), ("context", ctypes.c_void_p),
                ("deleter", ctypes.c_void_p)]


class Capsule:
    """What hands a Tensor of the tests over by DLPack.

    There is no deleter that would say when it is done with, so all are kept.
    """

    kept = []

    def __init__(self, tensor):
        self.tensor = tensor
        self.managed = Managed()
        self.kept.append(self)
        assert ctypes.sizeof(tensor.dl) == 48
        ctypes.memmove(ctypes.byref(self.managed), ctypes.byref(tensor.dl), 48)

    def __dlpack_device__(self):
        return (1, 0)

    def __dlpack__(self, **_):
        new = ctypes.pythonapi.PyCapsule_New
        new.restype = ctypes.py_object
        new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self.managed), b"dltensor", None)


def array(shape, element_type="f32"):
    values = random_storage(rng, int(np.prod(shape)), element_type)
    result = aligned(values.size, values.dtype)
    result[:] = values
    return result.reshape(shape)


def ffi(value):
    return tvm_ffi.from_dlpack(value)


def slot_array(count=COUNT):
    slots = aligned(count, np.int64)
    slots[:] = rng.permutation(BLOCKS * 4)[:count]
    slots[1] = -1
    return slots


def raises(kind, text, function, *args):
    try:
        function(*args)
    except Exception as error:  # the kind is what is tested
        assert type(error) is kind, f"expected {kind}, got {error!r}"
        assert text in str(error), f"expected '{text}' in '{error}'"
        return
    raise AssertionError(f"expected {kind.__name__}: {text}")


def insertion():
    """Arguments, and what the pool holds afterwards."""
    pool, key, value = array(SHAPE), array((COUNT, 2, 8)), array((COUNT, 2, 8))
    slots = slot_array()
    expected = pool.copy()
    index_copy(Cache.of(expected, "SBNHD"), [key, value], slots,
               "skip_negative")
    return pool, slots, key, value, expected


def test_f32():
    pool, slots, key, value, expected = insertion()
    result = module.insert(ffi(pool), ffi(slots), ffi(key), ffi(value))
    assert result is None, result
    assert np.array_equal(pool, expected)
    # With a workspace that is not needed, or none.
    pool[:] = 0
    for workspace in (None, ffi(aligned(256, np.uint8))):
        module.insert(ffi(pool), ffi(slots), ffi(key), ffi(value), workspace)
    assert np.array_equal(pool[0, slots[0] // 4, slots[0] % 4], key[0])


def test_bf16():
    pool, key, value = (array(s, "bf16") for s in
                        (SHAPE, (COUNT, 2, 8), (COUNT, 2, 8)))
    slots = slot_array()
    expected = pool.copy()
    index_copy(Cache.of(expected, "SBNHD"), [key, value], slots,
               "skip_negative")

    def hand_over(a):
        return ffi(Capsule(Tensor(a.ravel(), "bf16", a.shape)))

    tensors = [hand_over(a) for a in (pool, key, value)]
    assert str(tensors[0].dtype) == "bfloat16", tensors[0].dtype
    module.insert_bf16(tensors[0], ffi(slots), *tensors[1:])
    assert np.array_equal(pool, expected)


def test_strides_of_one():
    """What says nothing may be anything, also in a capsule."""
    slots = aligned(1, np.int64)
    for garbage in (0, -1, 10**9, -(2**63)):
        pool, key, value = (array(s) for s in
                            ((2, 1, 4, 2, 8), (1, 2, 8), (1, 2, 8)))
        slots[0] = 3
        tensors = [
            Tensor(pool.ravel(), "f32", pool.shape, [64, garbage, 16, 8, 1]),
            Tensor(slots, "i64", [1], [garbage]),
            Tensor(key.ravel(), "f32", key.shape, [garbage, 8, 1]),
            Tensor(value.ravel(), "f32", value.shape, [garbage, 8, 1])]
        module.insert(*(ffi(Capsule(t)) for t in tensors))
        assert np.array_equal(pool[:, 0, 3], np.concatenate([key, value]))


def test_scalars():
    x = aligned(3, np.float64)
    x[:] = 0
    module.scalars(ffi(x), 1, -3, 0.5)
    assert list(x) == [0, -2.5, 0], x
    module.scalars(ffi(x), True, 2, 4)  # bool and int where they fit
    assert list(x) == [0, 6, 0], x
    raises(TypeError, "argument 'i': expected an integer", module.scalars,
           ffi(x), 1.5, 2, 0.5)
    raises(TypeError, "argument 'f': expected a number", module.scalars,
           ffi(x), 1, 2, "text")
    raises(TypeError, "argument 'x': expected a tensor", module.scalars, 7, 1,
           2, 0.5)


def test_errors():
    pool, key, value = array(SHAPE), array((COUNT, 2, 8)), array((COUNT, 2, 8))
    before, slots = pool.copy(), slot_array()
    good = [ffi(pool), ffi(slots), ffi(key), ffi(value)]

    def wrong(kind, text, index, bad):
        args = list(good)
        args[index] = ffi(bad)
        raises(kind, text, module.insert, *args)

    wrong(TypeError, "insert: argument 'slots': expected elements of int64, "
          "got int32", 1, slots.astype(np.int32))
    wrong(ValueError, "argument 'key': expected an extent of 6", 2, key[:5])
    wrong(ValueError, "argument 'key': expected 3 dimensions, got 2", 2,
          key.reshape(COUNT, 16))
    wrong(ValueError, "argument 'slots': expected a stride of 1 elements", 1,
          np.repeat(slots, 2)[::2])
    misaligned = aligned(key.size + 1, np.float32)[1:].reshape(key.shape)
    wrong(ValueError, "argument 'key': expected an address", 2, misaligned)
    for args in (good[:3], [], [*good, None, None]):
        raises(TypeError, f"expected 4 arguments, and a workspace tensor after "
               f"them where one is needed, got {len(args)}", module.insert,
               *args)
    raises(TypeError, "workspace: expected a tensor", module.insert, *good, 1)
    assert np.array_equal(pool, before), "written"
    # The C interface of the library has the same last message.
    assert "workspace: expected a tensor" in library.last_error()


def test_workspace():
    pool, slots, key, value, expected = insertion()
    before, list_before = pool.copy(), slots.copy()
    args = [ffi(pool), ffi(slots), ffi(key), ffi(value)]
    size = library.workspace_size(
        "late", *(Tensor(a.ravel(), t, a.shape) for a, t in
                  zip((pool, slots, key, value), ("f32", "i64", "f32", "f32"))))
    assert size == 256, size
    needs = "expected a workspace of at least 256 bytes, got "
    raises(ValueError, needs + "0", module.late, *args)
    raises(ValueError, needs + "248", module.late, *args,
           ffi(aligned(31, np.float64)))
    raises(ValueError, "workspace: expected a tensor without gaps",
           module.late, *args, ffi(aligned(512, np.uint8)[::2]))
    # Any shape and element type.
    module.late(*args, ffi(aligned(64, np.float32).reshape(2, 32)))
    assert np.array_equal(pool, expected)
    # At any address: from its first multiple of 256 on.
    pool[:] = before
    raises(ValueError, needs + "8", module.late, *args,
           ffi(aligned(264, np.uint8)[8:]))
    raises(ValueError, needs + "0", module.late, *args,
           ffi(aligned(256, np.uint8)[8:]))
    assert np.array_equal(pool, before)
    for offset in (8, 255):
        pool[:], slots[:] = before, list_before
        module.late(*args, ffi(aligned(512, np.uint8)[offset:]))
        assert np.array_equal(pool, expected)


def print_overhead():
    """The time of a call that has nothing to do."""
    args = [ffi(a) for a in (array(SHAPE), aligned(0, np.int64),
                             aligned(0, np.float32).reshape(0, 2, 8),
                             aligned(0, np.float32).reshape(0, 2, 8))]
    call, best = module.insert, float("inf")
    for _ in range(5):
        start = time.perf_counter_ns()
        for _ in range(20000):
            call(*args)
        best = min(best, (time.perf_counter_ns() - start) / 20000)
    print(f"call by TVM-FFI, 4 tensors: {best:.0f} ns")


test_f32()
test_bf16()
test_strides_of_one()
test_scalars()
test_errors()
test_workspace()
print_overhead()
