# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Calls of compiled functions with NumPy arrays: results, keywords, errors."""

import inspect
import os
import subprocess
import threading

import kvcache
import numpy as np
from programs import (DECODE, INSERT, DecodeCase, check_insert,
                      insert_arguments, raises, use_new_cache)

cache = use_new_cache()
rng = np.random.default_rng(3)

insert = kvcache.compile(INSERT).insert
decode = kvcache.compile(DECODE).paged_decode

# ---- Positional and keyword arguments

memory, arguments = insert_arguments(rng)
assert insert(**arguments) is None
check_insert(memory, arguments)
memory[:] = 0
values = list(arguments.values())
insert(*values[:3], value=values[5], slots=values[3], key=values[4])
check_insert(memory, arguments)
# Numbers of NumPy are numbers.
insert(values[0], np.int32(values[1]), np.uint8(values[2]), *values[3:])
check_insert(memory, arguments)

# ---- Results: made, or given

case = DecodeCase(rng)
memory, want = case.expected()
out = decode(**case.arguments())
assert out.shape == want.shape and out.dtype == np.float32
np.testing.assert_allclose(out, want, rtol=2e-5, atol=2e-5)
np.testing.assert_array_equal(case.memory, memory)
given = np.empty_like(out)
assert decode(**case.arguments(), out=given) is given
np.testing.assert_array_equal(given, out)
np.testing.assert_array_equal(decode(*case.arguments().values(), None), out)

# Workspaces grow, and a smaller call after a larger one is right.
for length in (10, 2000, 100):
    case = DecodeCase(rng, blocks=400, lengths=(length, 7, 3), new=(2, 1, 3))
    memory, want = case.expected()
    np.testing.assert_allclose(decode(**case.arguments()), want, rtol=2e-5,
                               atol=2e-5)
    np.testing.assert_array_equal(case.memory, memory)

# ---- What people see

assert list(inspect.signature(decode).parameters)[-1] == "out"
assert "slots: i64 [n0], read" in insert.__doc__, insert.__doc__
assert "axes L, S, B, N, H, D, in memory B, L, S, N, H, D" in decode.__doc__
assert decode.__name__ == "paged_decode" and "block_table" in repr(decode)
library = kvcache.compile(INSERT)
assert list(library) == ["insert"] and "insert" in dir(library)
assert library["insert"].__name__ == "insert"
assert raises(AttributeError, getattr, library, "write") == (
    "the library has no function 'write'; it has insert")

# ---- Errors name the argument and the axis

case = DecodeCase(rng)
arguments = case.arguments()


def error(kind=ValueError, **changed):
    return raises(kind, decode, **{**arguments, **changed})


before = case.memory.copy()
text = error(pool=case.memory)
assert text == (
    "paged_decode: argument 'pool': expected an extent of 4 in axis L (dimension "
    "0), got 24; your tensor looks like [B, L, S, N, H, D], as it is in memory; "
    "pass `pool.transpose(1, 2, 0, 3, 4, 5)`, whose dimensions are "
    "[L, S, B, N, H, D]"), text
text = error(pool=np.ascontiguousarray(case.pool))
assert text == (
    "paged_decode: argument 'pool': expected a stride of 8192 elements in axis "
    "S (dimension 1), got 196608; your tensor is [L, S, B, N, H, D] in memory; "
    "the program expects [B, L, S, N, H, D]"), text
text = error(pool=np.zeros((4, 2, 3, 8, 16, 64), np.float32))
assert "in axis N (dimension 3), got 8; expected are L = 4, S = 2, B = any, " \
    "N = 16, H = 8, D = 64, got [4, 2, 3, 8, 16, 64]" in text, text
text = error(key=case.key[:2])
assert "argument 'key': expected an extent of 5 in dimension 0, as in argument " \
    "'query', got 2" in text, text
text = error(TypeError, starts=case.starts.astype(np.int64))
assert "argument 'starts': expected elements of int32, got int64" in text, text
text = error(layer=4)
assert "expected a layer below 4, got layer 4" in text, text
text = error(query=case.query[..., ::-1])
assert "argument 'query'" in text and "stride" in text, text
frozen = case.memory.view()
frozen.flags.writeable = False
text = error(pool=frozen.transpose(1, 2, 0, 3, 4, 5))
assert text == ("paged_decode: argument 'pool': expected an array that may be "
                "written, got a read-only one"), text
np.testing.assert_array_equal(case.memory, before)
# A read-only array is good enough where it is only read.
frozen = case.lengths.copy()
frozen.flags.writeable = False
decode(**{**arguments, "lengths": frozen})

# ---- Hostile values

text = error(TypeError, query=3)
assert text == ("paged_decode: argument 'query': expected an array with "
                "__dlpack__, got int"), text
assert "expected an array" in error(TypeError, pool="pool")
error(query=np.array([None]))
error(query=np.array(["a"]))
for layer in (1 << 63, -(1 << 63) - 1, 1.5, "1", None, [1]):
    text = error(TypeError, layer=layer)
    assert "'layer'" in text, text
for layer in (-1, 1 << 62):
    assert "expected a layer below 4" in error(layer=layer)
text = raises(TypeError, decode, *arguments.values(), None, 1)
assert text == "paged_decode: expected at most 9 arguments, got 10", text
text = raises(TypeError, decode, *arguments.values(), pool=case.pool)
assert text == "paged_decode: got two values for argument 'pool'", text
text = error(TypeError, blocks=1)
assert text == "paged_decode: got an unexpected argument 'blocks'", text
text = raises(TypeError, decode, case.pool)
assert text == "paged_decode: expected a value for argument 'layer'", text


class Liar:
    """An array of hostile code."""

    def __init__(self, value):
        self.value = value

    def __dlpack__(self, **options):
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value

    def __dlpack_device__(self):
        return "no device"


for value in (None, 7, "dltensor", object()):
    error(ValueError, query=Liar(value))
assert "no such luck" in error(query=Liar(BufferError("no such luck")))
assert "later" in error(query=Liar(TypeError("later")))
# A capsule that was taken by someone else.
capsule = case.query.__dlpack__()
np.testing.assert_array_equal(np.from_dlpack(
    type("Once", (), {"__dlpack__": lambda s, **o: capsule,
                      "__dlpack_device__": lambda s: (1, 0)})()), case.query)
error(query=Liar(capsule))



class Foreign:
    """An array of a library that makes none."""

    def __init__(self, value):
        self.value = value

    def __dlpack__(self, **options):
        return self.value.__dlpack__()

    def __dlpack_device__(self):
        return self.value.__dlpack_device__()


foreign = {name: Foreign(value) if isinstance(value, np.ndarray) else value
           for name, value in arguments.items()}
text = raises(TypeError, decode, **foreign)
assert text == ("paged_decode: argument 'out': a result for arrays of Foreign "
                "cannot be made; pass an array for it"), text
given = np.empty_like(case.query)
assert decode(**foreign, out=given) is given
np.testing.assert_array_equal(given, decode(**arguments))

# ---- Checks of entries

checked = kvcache.compile(INSERT, checks="full")
memory, arguments = insert_arguments(rng)
arguments["slots"][1] = 1 << 40
text = raises(ValueError, checked.insert, **arguments)
assert "argument 'slots': expected a slot from 0 to 95" in text, text
assert not memory.any()
assert checked.check() is None and library.check(7) is None

# ---- Threads

failures = []


def work(seed):
    rng = np.random.default_rng(seed)
    for _ in range(20):
        case = DecodeCase(rng)
        memory, want = case.expected()
        out = decode(**case.arguments())
        if (np.abs(out - want).max() > 1e-4
                or not np.array_equal(case.memory, memory)):
            failures.append(seed)


threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures

# ---- bf16 in NumPy comes from ml_dtypes

import ml_dtypes  # noqa: E402

bf16 = kvcache.compile(DECODE.replace("f32", "bf16")).paged_decode
case = DecodeCase(rng)
arguments = {name: value.astype(ml_dtypes.bfloat16)
             if getattr(value, "dtype", None) == np.float32 else value
             for name, value in case.arguments().items()}
arguments["pool"] = case.memory.astype(ml_dtypes.bfloat16).transpose(
    1, 2, 0, 3, 4, 5)
out = bf16(**arguments)
assert out.dtype == ml_dtypes.bfloat16
_, want = case.expected()
assert np.abs(out.astype(np.float32) - want).max() < 0.05

# ---- Formats of one byte: arrays of ml_dtypes, or bytes

BYTES = """
!kv    = !kvcache.cache<?B x 4N x 2H x 8D x f8E4M3FN>
!slots = !kvcache.slots<?T x i64, rows_per_block = 4, pad = skip_negative>
func.func @write(%pool: !kv, %where: memref<?xi64>, %rows: memref<?x2x8xf32>) {
  %slots = kvcache.make_slots %where : memref<?xi64> to !slots
  kvcache.index_copy %rows into %pool at %slots
    : memref<?x2x8xf32> into !kv at !slots
  return
}
func.func @read(%pool: !kv, %where: memref<?xi64>,
                %out: memref<?x2x8xf8E4M3FN> {bufferize.result}) {
  %slots = kvcache.make_slots %where : memref<?xi64> to !slots
  kvcache.gather %pool at %slots zero into %out
    : !kv at !slots into memref<?x2x8xf8E4M3FN>
  return
}
"""
small = kvcache.compile(BYTES)
rows = rng.standard_normal((3, 2, 8)).astype(np.float32) * 300
slots = np.array([5, -1, 2])
want = np.clip(rows, -448, 448).astype(ml_dtypes.float8_e4m3fn)
for kind in (ml_dtypes.float8_e4m3fn, np.uint8):
    pool = np.zeros((2, 4, 2, 8), kind)
    small.write(pool, slots, rows)
    flat = pool.reshape(8, 2, 8).view(ml_dtypes.float8_e4m3fn)
    assert np.array_equal(flat[[5, 2]], want[[0, 2]])
    assert not pool.reshape(8, 2, 8)[[0, 1, 3, 4, 6, 7]].any()
    got = small.read(pool, slots)
    assert got.dtype == ml_dtypes.float8_e4m3fn
    assert np.array_equal(got[[0, 2]], want[[0, 2]]) and not got[1].any()
text = raises(TypeError, small.write, np.zeros((2, 4, 2, 8), np.int8), slots, rows)
assert "expected elements of float8_e4m3fn, got int8" in text, text

attention = kvcache.PagedAttention(4, 2, 8, 4, "f8E5M2")
pool = attention.layout.zeros(3)
assert pool.dtype == ml_dtypes.float8_e5m2
key, value, query = (rng.standard_normal((2, n, 8)).astype(ml_dtypes.bfloat16)
                     for n in (2, 2, 4))
attention.insert(pool, np.array([4, 5]), key, value)
out = attention.run(query, pool, np.int32([0, 2]), np.int32([2]), np.int32([[1]]))
assert out.dtype == ml_dtypes.bfloat16
# The first row sees one key.
first = value[0].astype(ml_dtypes.float8_e5m2).astype(ml_dtypes.bfloat16)
assert np.array_equal(out[0], np.repeat(first, 2, axis=0))

# ---- A library in a file

path = os.path.join(cache.name, "libhere.so")
kvcache.compile(INSERT, output=path)
again = kvcache.load(path, name="program")
memory, arguments = insert_arguments(rng)
again.insert(**arguments)
check_insert(memory, arguments)
assert "is not a library of kvcache named 'here'" in raises(
    OSError, kvcache.load, path)
# One of kv-compile is called what its file is called.
path = os.path.join(cache.name, "libto-insert.so")
subprocess.run(["kv-compile", "-", "-o", path], input=INSERT, text=True,
               check=True)
memory, arguments = insert_arguments(rng)
kvcache.load(path).insert(**arguments)
check_insert(memory, arguments)
with open(path, "rb") as file:
    old = file.read().replace(b"kv1args_insert\0", b"kv1arks_insert\0")
path = os.path.join(cache.name, "libto-insert-old.so")
with open(path, "wb") as file:
    file.write(old)
assert raises(OSError, kvcache.load, path, name="to_insert") == (
    f"'{path}' was compiled by an older kvcache: compile it again")
raises(OSError, kvcache.load, os.path.join(cache.name, "absent.so"))
