# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Compiles paged_decode.mlir, runs it on a ragged batch, and checks all of it.

./dev demo runs it; an argument names another program with the same function.
The compiler is used as the programs kv-opt and kv-compile. What is expected is
computed by the reference of the tests, which is NumPy and knows nothing of the
compiler. The exit code is 0 if all is right.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(os.environ.get("KV_BUILD_DIR", ROOT / "build")) / "bin"
sys.path.insert(0, str(ROOT / "test" / "numerics"))

import reference  # noqa: E402
from kvtest import OK, Guarded, Library, Tensor, random_storage  # noqa: E402

# What the program says.
LAYERS, TOKENS, HEADS, QUERY_HEADS, CHANNELS = 4, 16, 8, 32, 64
ORDER = "cross_layer_nhd"
AXES = {"L": "layer", "S": "side", "B": "block", "N": "token", "H": "head",
        "D": "channel"}

# The batch: how many tokens of a request are in the pool, new ones included,
# and how many are new, each with a row of query, key and value.
REQUESTS = [("decode", 200, 1), ("a piece of a prompt", 49, 17),
            ("nothing to do", 0, 0)]
PADDING = 2  # rows of no request, as captured graphs have them
BLOCKS, LAYER, CALLS = 64, 2, 100
NAN = 0x7FC1


class Wrong(Exception):
    pass


def say(title, *lines):
    for line in lines:
        print(f"{title:8} {line}")
        title = ""


def tool(name, *arguments, stdin=None):
    path = BIN / name
    if not path.exists():
        raise Wrong(f"{path} is not there: ./dev build makes it")
    done = subprocess.run([path, *map(str, arguments)], input=stdin, text=True,
                          capture_output=True)
    if done.returncode:
        raise Wrong(f"{done.stderr.rstrip()}\n{name} refuses the program")
    return done.stdout


# --- The layout ---------------------------------------------------------------


def ask_strides(text):
    """The type of the pool as kv-opt prints it, and the strides of the pool and
    of a layer: `kvcache.stride` folds to constants."""
    types = dict(re.findall(r"^(!\w+) = (!kvcache\.cache<[^>]*>)", text, re.M))
    if not {"!pool", "!layer"} <= set(types):
        raise Wrong("the program has no cache types !pool and !layer")
    module, asked = "", {"!pool": "LSBNHD", "!layer": "SBNHD"}
    for name, axes in asked.items():
        indices = ", ".join(["index"] * len(axes))
        values = ", ".join(f"%{a}" for a in axes)
        module += "\n".join([
            f"func.func @{name[1:]}(%cache: {types[name]}) -> ({indices}) {{",
            *(f"  %{a} = kvcache.stride %cache[{a}] : {types[name]}"
              for a in axes),
            f"  return {values} : {indices}", "}", ""])
    printed = tool("kv-opt", "-", "--canonicalize", stdin=module)
    # Constants are called after their values.
    folded = [line.split(", ")
              for line in re.findall(r"return (.*) :", printed)]
    if not all(re.fullmatch(r"%c\d+", v) for one in folded for v in one):
        raise Wrong("a stride is not a constant, as the demonstration needs it")
    strides = [{a: int(v[2:]) for a, v in zip(axes, one)}
               for axes, one in zip(asked.values(), folded)]
    printed_type = re.search(r"!kvcache\.cache<[^>]*>", printed).group()
    return printed_type, *strides


def run_bytes(strides):
    """The bytes of a block that lie together, of bf16."""
    extents = dict(L=LAYERS, S=2, N=TOKENS, H=HEADS, D=CHANNELS)
    run = 1
    for axis in sorted(strides, key=strides.get):
        if axis != "B" and strides[axis] == run:
            run *= extents[axis]
    return 2 * run


def show_layout(text):
    type_, pool, layer = ask_strides(text)
    slowest_first = sorted(pool, key=pool.get, reverse=True)
    say("layout", type_,
        "axis      " + "".join(f"{AXES[a]:>9}" for a in slowest_first),
        "stride    " + "".join(f"{pool[a]:>9}" for a in slowest_first)
        + "   elements",
        f"one block, all layers: runs of {run_bytes(pool)} bytes",
        f"one block, one layer:  runs of {run_bytes(layer)} bytes, "
        f"{2 * layer['B']} bytes from block to block")
    return pool


# --- A call -------------------------------------------------------------------


def make_batch(rng):
    lengths = [length for _, length, _ in REQUESTS]
    starts = np.cumsum([0] + [rows for _, _, rows in REQUESTS])
    # Blocks anywhere in the pool. What is behind the last one is never read.
    columns = -(-max(lengths) // TOKENS)
    table = rng.permutation(BLOCKS)[:len(lengths) * columns]
    table = table.reshape(-1, columns)
    return reference.Batch(*(np.array(a, np.int32)
                             for a in (starts, lengths, table)), TOKENS)


def random_tensor(rng, *shape):
    return Tensor(Guarded(random_storage(rng, int(np.prod(shape)), "bf16"))
                  .inside, "bf16", shape)


def int32(values):
    return Tensor(Guarded(values.ravel()).inside, "i32", values.shape)


def call(library, strides):
    rng = np.random.default_rng(7)
    batch = make_batch(rng)
    count = int(batch.starts[-1]) + PADDING
    query = random_tensor(rng, count, QUERY_HEADS, CHANNELS)
    key, value = (random_tensor(rng, count, HEADS, CHANNELS) for _ in range(2))
    out = random_tensor(rng, count, QUERY_HEADS, CHANNELS)

    # A pool of random numbers, in whose layer there is NaN in all places that
    # no row may read.
    extents = dict(L=LAYERS, S=2, B=BLOCKS, N=TOKENS, H=HEADS, D=CHANNELS)
    elements = int(np.prod(list(extents.values())))
    memory = Guarded(random_storage(rng, elements, "bf16"))
    pool = reference.Cache.make(extents, "bf16", ORDER, storage=memory.inside)
    layer = pool.layer(LAYER)
    seen = reference.seen_slots(batch, count, layer, causal=True)
    layer.array[:, ~seen] = NAN
    if pool.strides != [strides[a] for a in pool.axes]:
        raise Wrong(f"the strides are expected to be {pool.strides}")

    # What is expected, in memory of its own.
    expected = pool.clone()
    slots = reference.slot_mapping(batch, count)
    reference.index_copy(expected.layer(LAYER), [key.view(), value.view()],
                         slots)
    numbers = reference.decode(query.view(), "bf16")
    want = reference.attention(numbers, [expected.layer(LAYER)], batch,
                               causal=True, weights="bf16")
    before = pool.storage.copy()

    arguments = [Tensor(*pool.argument()), LAYER, query, key, value,
                 int32(batch.starts), int32(batch.lengths),
                 int32(batch.table), out]
    size = library.workspace_size("paged_decode", *arguments)
    workspace = Guarded(np.full(max(size, 0), 0xFF, np.uint8))

    def once():
        begin = time.perf_counter()
        status = library.call("paged_decode", *arguments,
                              workspace=workspace.inside)
        if status != OK:
            raise Wrong(f"error {status}: {library.last_error()}")
        return time.perf_counter() - begin

    first = once()
    result = reference.decode(out.view(), "bf16")
    changed = np.count_nonzero(before != pool.storage)
    say("call", f"layer {LAYER} of a pool of {BLOCKS} blocks, "
        f"{pool.storage.nbytes} bytes; {count} rows:",
        *(f"  {what}: {rows} new of {length} tokens"
          for what, length, rows in REQUESTS),
        f"  padding: {PADDING} rows, which are skipped")

    different = np.count_nonzero(pool.storage != expected.storage)
    say("check", f"pool: {elements} elements, {changed} changed, "
        f"{different} differ from NumPy")
    if different:
        raise Wrong("the pool is not bit-exact")
    memory.check("pool")
    workspace.check("workspace")
    try:
        reference.check_attention(want, result, None, "bf16", "attention")
    except AssertionError as error:
        raise Wrong(str(error)) from error
    say("", f"attention: {result.size} numbers within their bounds, largest "
        f"difference {np.abs(result - want.out).max():.2g}")

    # Again and again: the same rows go to the same slots.
    times = [once() for _ in range(CALLS)]
    if not np.array_equal(pool.storage, expected.storage):
        raise Wrong("another call changes the pool")
    row = HEADS * CHANNELS * 2
    read = sum(2 * row * length for _, length, _ in REQUESTS)
    written = 2 * row * int(batch.starts[-1])
    middle = statistics.median(times)
    say("time", f"{middle * 1e6:.0f} us per call (median of {CALLS}; the first "
        f"one {first * 1e6:.0f} us)",
        f"{written} bytes written to the pool, {read} bytes of it in use, "
        f"{size} bytes of workspace")


def main():
    program = Path(sys.argv[1] if len(sys.argv) > 1 else
                   ROOT / "examples" / "paged_decode.mlir")
    text = program.read_text()
    with tempfile.TemporaryDirectory(prefix="kv-demo-") as folder:
        try:
            lines = [line for line in text.splitlines()
                     if line.strip() and not line.lstrip().startswith("//")]
            say("program", f"{program.name}, {len(lines)} lines without "
                "comments")
            strides = show_layout(text)
            path = Path(folder) / "libpaged_decode.so"
            begin = time.perf_counter()
            tool("kv-compile", program, "-o", path)
            seconds = time.perf_counter() - begin
            say("compile", f"{path.name}: {path.stat().st_size} bytes, in "
                f"{seconds:.1f} s")
            call(Library(path, "paged_decode"), strides)
        except Wrong as wrong:
            print(wrong)
            print("result   NOT correct")
            return 1
    print("result   correct")
    return 0


sys.exit(main())
