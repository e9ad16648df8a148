# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""kv-run gives what the C ABI gives, from files and into files."""

import subprocess
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
from kvtest import Guarded, Tensor, aligned, compile_library

PROGRAM = """
!layer = !kvcache.cache<2S x ?B x 4N x 2H x 8D x bf16, strides = [S = ?, B = ? mult 8]>
!slots = !kvcache.slots<?T x i64, rows_per_block = 4, pad = skip_negative>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 4>
!rows = memref<?x2x8xbf16>
!q = memref<?x4x8xbf16>
func.func @step(%kv: !layer, %slots: !slots, %key: !rows, %value: !rows,
                %query: !q, %batch: !batch, %scale: f32, %out: !q,
                %lse: memref<?x4xf32>) {
  kvcache.index_copy %key, %value into %kv at %slots
    : !rows, !rows into !layer at !slots
  kvcache.attention %query over %kv in %batch into %out, %lse causal
    : !q over !layer in !batch into !q, memref<?x4xf32>
  return
}
func.func @numbers(%i: index, %x: f64, %y: f32, %j: i32, %many: f32,
                   %a: i64, %b: i64, %c: i64, %d: i64, %e: i64, %f: f32,
                   %out: memref<11xf64>) {
"""
for n, (name, kind) in enumerate(
    [("i", "index"), ("x", "f64"), ("y", "f32"), ("j", "i32"), ("many", "f32")]
    + [(c, "i64") for c in "abcde"] + [("f", "f32")]):
    at = f"  %n{n} = arith.constant {n} : index\n"
    value = f"%{name}"
    if kind == "index":
        at += f"  %w{n} = arith.index_cast %{name} : index to i64\n"
        kind, value = "i64", f"%w{n}"
    if kind[0] == "i":
        at += f"  %v{n} = arith.sitofp {value} : {kind} to f64\n"
        value = f"%v{n}"
    elif kind == "f32":
        at += f"  %v{n} = arith.extf {value} : f32 to f64\n"
        value = f"%v{n}"
    PROGRAM += at + f"  memref.store {value}, %out[%n{n}] : memref<11xf64>\n"
PROGRAM += "  return\n}\n"

folder = tempfile.TemporaryDirectory(prefix="kv-run-")
path = lambda name: Path(folder.name) / name
path("program.mlir").write_text(PROGRAM)


def kv_run(function, *flags):
    done = subprocess.run(
        ["kv-run", path("program.mlir"), f"--function={function}", *flags],
        text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_step():
    rng = np.random.default_rng(3)
    bf16 = lambda *shape: rng.standard_normal(shape).astype(ml_dtypes.bfloat16)
    # Blocks are 8 elements further apart than they have to be.
    shape, strides, offset = [2, 5, 4, 2, 8], [400, 72, 16, 8, 1], 16
    pool = bf16(offset + 400 + 4 * 72 + 64).view(np.uint16)
    slots = np.array([6, -1, 13], np.int64)
    key, value, query = bf16(3, 2, 8), bf16(3, 2, 8), bf16(3, 4, 8)
    starts, lengths, table = [0, 1, 3], [7, 6], [[0, 1], [2, 3]]

    pool.tofile(path("pool.bin"))
    np.save(path("slots.npy"), slots)
    np.save(path("key.npy"), key.view(np.uint16))
    np.save(path("value.npy"), value)  # as opaque bytes
    query.tofile(path("query.bin"))
    where = f"shape={shape},strides={strides},offset={offset}"
    said = kv_run(
        "step", "--in", f"kv=@{path('pool.bin')},{where}",
        "--in", f"slots=@{path('slots.npy')}",
        "--in", f"key=@{path('key.npy')},dtype=bf16",
        "--in", f"value=@{path('value.npy')},dtype=bf16",
        "--in", f"query=@{path('query.bin')},shape=[3,4,8]",
        "--in", f"batch.starts={starts}", "--in", f"batch.lengths={lengths}",
        "--in", "batch.table=[0,1,2,3],shape=[2,2]", "--in", "scale=0.5",
        "--out", f"kv=@{path('pool.out')}", "--out", f"kv=@{path('pool.npy')}",
        "--out", f"out=@{path('out.npy')}", "--out", f"lse=@{path('lse.npy')}",
        "--print", "lse", "--repeat=2")

    memory = Guarded(pool)
    cache = Tensor(memory.inside, "bf16", shape, strides, offset)
    int32 = lambda values: Guarded(np.array(values, np.int32).ravel()).inside
    plain = lambda a, e: Tensor(Guarded(a.ravel()).inside, e, a.shape)
    out = Tensor(np.zeros(96, np.uint16), "bf16", [3, 4, 8])
    lse = Tensor(np.zeros(12, np.float32), "f32", [3, 4])
    library = compile_library(PROGRAM, "program")
    arguments = [
        cache, plain(slots, "i64"), plain(key.view(np.uint16), "bf16"),
        plain(value.view(np.uint16), "bf16"),
        plain(query.view(np.uint16), "bf16"), Tensor(int32(starts), "i32", [3]),
        Tensor(int32(lengths), "i32", [2]), Tensor(int32(table), "i32", [2, 2]),
        0.5, out, lse]
    size = library.workspace_size("step", *arguments)
    library.check_call("step", *arguments, workspace=aligned(size, np.uint8))

    assert np.array_equal(np.fromfile(path("pool.out"), np.uint16),
                          memory.inside), "the bytes of the pool"
    assert np.array_equal(np.load(path("pool.npy")), cache.view())
    assert np.array_equal(np.load(path("out.npy")), out.view())
    got = np.load(path("lse.npy"))
    assert got.dtype == np.float32 and np.array_equal(got, lse.view())
    assert f"workspace: {size} bytes" in said, said
    assert "lse: f32 [3, 4], min " in said, said
    # 7 + 5 + 6 keys, for 4 heads of 8 channels, twice two operations.
    assert f" {18 * 4 * 2 * 16}, " in said, said
    assert "2 more" in said, said


def test_random():
    """Normal numbers and whole ranges, from a seed, in any type."""
    path("random.mlir").write_text("".join(
        f"func.func @{e}(%x: memref<?x{e}>) {{ return }}\n"
        for e in ("f16", "bf16", "f32", "f8E4M3FN", "f8E5M2", "f64", "i8", "i16",
                  "i32", "i64")))
    stored = {"bf16": ml_dtypes.bfloat16, "f8E4M3FN": ml_dtypes.float8_e4m3fn,
              "f8E5M2": ml_dtypes.float8_e5m2}

    def random(element, spec, count=20000):
        done = subprocess.run(
            ["kv-run", path("random.mlir"), f"--function={element}", "--in",
             f"x={spec},shape=[{count}]", "--out", f"x=@{path('x.npy')}"],
            text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        values = np.load(path("x.npy"))
        return values.view(stored.get(element, values.dtype))

    exact = random("f64", "random,seed=9")
    assert abs(exact.mean()) < 0.05 and abs(exact.std() - 1) < 0.05
    assert np.array_equal(exact, random("f64", "random,seed=9"))
    assert not np.array_equal(exact, random("f64", "random,seed=10"))
    for element, dtype in (("f16", np.float16), ("f32", np.float32),
                           *stored.items()):
        rounded = exact.astype(np.float32).astype(dtype)
        assert np.array_equal(random(element, "random,seed=9"), rounded), element
    for element in ("i8", "i16", "i32", "i64", "f16", "bf16"):
        values = random(element, "random,range=[-3,100]").astype(np.int64)
        assert values.min() == -3 and values.max() == 100, element
        assert len(np.unique(values)) == 104, element
    for value in ("65504", "65520", "1e-7", "-6.1e-5", "3e-8", "inf", "0.1",
                  "-2049", "2051", "1.0009765625", "nan"):
        for element, dtype in (("f16", np.float16),
                               ("bf16", ml_dtypes.bfloat16)):
            with np.errstate(over="ignore"):
                want = np.float32(value).astype(dtype)
            got = random(element, value, 1)[0]
            assert np.array_equal(got, want, equal_nan=True), (value, got, want)
    for value, want in (("1e9", 448), ("-inf", -448), ("464", 448), ("17", 16),
                        ("0.0009", 0), ("nan", np.nan)):
        got = np.float32(random("f8E4M3FN", value, 1)[0])
        assert np.array_equal(got, want, equal_nan=True), (value, got, want)
    # Bits of a file, if that is said.
    np.save(path("bytes.npy"), np.arange(256, dtype=np.uint8))
    given = f"@{path('bytes.npy')}"
    assert np.array_equal(random("f8E5M2", f"{given},dtype=f8E5M2", 256)
                          .view(np.uint8), np.arange(256))


def test_numbers():
    """Integers and floats come to their places, on the stack as well."""
    numbers = dict(i=-7, x=0.1, y=0.5, j=-3, many=1.25,
                   a=1 << 60, b=2, c=3, d=4, e=-5, f=6.5)
    flags = sum((["--in", f"{n}={v}"] for n, v in numbers.items()), [])
    kv_run("numbers", *flags, "--out", f"out=@{path('numbers.npy')}")
    got = np.load(path("numbers.npy"))
    assert np.array_equal(got, list(numbers.values())), got


test_step()
test_random()
test_numbers()
