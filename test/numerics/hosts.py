# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""What a host hands over: batches and tables as arguments, whose members are
arguments; pools that are tensors, updated in place; and workspace.
"""

import json

import cases
import numpy as np
import reference
from kvtest import (SHAPE, STRIDE, TYPE, WORKSPACE, Tensor, aligned,
                    compile_library)

KV = "!kvcache.cache<2S x ?B x 16N x 2H x 64D x f32>"
BATCH = "!kvcache.batch<?R x ?M x i32, tokens = 16{}>"
TABLE = "!kvcache.block_table<?R x ?M x i32, tokens = 16>"
SLOTS = "!kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>"
Q, LSE, ROWS = "x4x64xf32>", "x4xf32>", "tensor<?x2x64xf32>"
POOL = "tensor<?x2x16x2x64xf32>"


def attend(name, batch):
    return f"""
func.func @{name}(%q: memref<?{Q}, %kv: {KV},
                  %batch: {batch} {{kvcache.name = "requests"}},
                  %out: memref<?{Q}, %lse: memref<?{LSE}) {{
  kvcache.attention %q over %kv in %batch into %out, %lse causal
    : memref<?{Q} over {KV} in {batch} into memref<?{Q}, memref<?{LSE}
  return
}}
"""


PROGRAM = attend("plain", BATCH.format("")) + attend(
    "positions", BATCH.format(", positions = i64")) + f"""
func.func @table(%starts: memref<?xi32>, %lengths: memref<?xi32>,
                 %table: {TABLE} {{kvcache.name = "blocks"}},
                 %out: memref<?xi64>) {{
  %batch = kvcache.make_batch %starts, %lengths, %table
    : memref<?xi32>, memref<?xi32>, {TABLE}
  kvcache.slot_mapping %batch into %out
    : {BATCH.format("")} into memref<?xi64>
  return
}}
// Members of a batch whose extents are numbers of the caller.
func.func @cut(%q: memref<?{Q}, %kv: {KV}, %starts: memref<?xi32>,
               %lengths: memref<?xi32>, %table: memref<?x?xi32>, %s: index,
               %l: index, %t: index, %out: memref<?{Q}, %lse: memref<?{LSE}) {{
  %c1 = arith.constant 1 : index
  %m = memref.dim %table, %c1 : memref<?x?xi32>
  %a = memref.subview %starts[0] [%s] [1] : memref<?xi32> to memref<?xi32, strided<[1]>>
  %b = memref.subview %lengths[0] [%l] [1] : memref<?xi32> to memref<?xi32, strided<[1]>>
  %c = memref.subview %table[0, 0] [%t, %m] [1, 1]
    : memref<?x?xi32> to memref<?x?xi32, strided<[?, 1]>>
  %blocks = kvcache.make_block_table %c
    : memref<?x?xi32, strided<[?, 1]>> to {TABLE}
  %batch = kvcache.make_batch %a, %b, %blocks
    : memref<?xi32, strided<[1]>>, memref<?xi32, strided<[1]>>, {TABLE}
  kvcache.attention %q over %kv in %batch into %out, %lse causal
    : memref<?{Q} over {KV} in {BATCH.format("")} into memref<?{Q}, memref<?{LSE}
  return
}}
// A step of a model in tensors: slots of the new rows, a write, a read of all.
func.func @step(%pool: {POOL} {{bufferization.writable = true}},
                %key: {ROWS}, %value: {ROWS}, %q: tensor<?{Q},
                %starts: tensor<?xi32>, %lengths: tensor<?xi32>,
                %table: tensor<?x?xi32>) -> ({POOL}, tensor<?{Q}) {{
  %c0 = arith.constant 0 : index
  %rows = tensor.dim %q, %c0 : tensor<?{Q}
  %blocks = kvcache.make_block_table %table : tensor<?x?xi32> to {TABLE}
  %batch = kvcache.make_batch %starts, %lengths, %blocks
    : tensor<?xi32>, tensor<?xi32>, {TABLE}
  %s0 = tensor.empty(%rows) : tensor<?xi64>
  %s = kvcache.slot_mapping %batch into %s0
    : {BATCH.format("")} into tensor<?xi64>
  %slots = kvcache.make_slots %s : tensor<?xi64> to {SLOTS}
  %next = kvcache.index_copy %key, %value into %pool[B, S, N, H, D] at %slots
    : {ROWS}, {ROWS} into {POOL} at {SLOTS}
  %o0 = tensor.empty(%rows) : tensor<?{Q}
  %out = kvcache.attention %q over %next[B, S, N, H, D] in %batch into %o0
    causal : tensor<?{Q} over {POOL} in {BATCH.format("")} into tensor<?{Q}
  return %next, %out : {POOL}, tensor<?{Q}
}}
"""


def tensor(buffer):
    return Tensor(*buffer.argument())


class Call:
    """Arguments of @plain or @positions, and the result that is right."""

    def __init__(self, rng, positions=None, requests=3):
        self.batch = cases.random_batch(
            rng, requests=requests, tokens=16, blocks=20, longest=70,
            positions=positions)
        extents = dict(S=2, B=20, N=16, H=2, D=64)
        self.kv = cases.make_cache(rng, extents, "f32")
        cases.fill(rng, self.kv.cache)
        rows = self.batch.rows
        self.query = cases.random_rows(rng, rows, [4, 64], "f32")
        self.outs = [cases.result_rows(rows, [4, 64], "f32"),
                     cases.result_rows(rows, [4], "f32")]
        members = [self.batch.starts, self.batch.lengths, self.batch.table]
        if positions:
            members.append(self.batch.positions)
        self.arguments = dict(
            q=tensor(self.query), kv=Tensor(*self.kv.cache.argument()))
        names = "starts lengths table positions".split()
        for name, member in zip(names, members):
            self.arguments["requests." + name] = tensor(member)
        self.arguments |= dict(out=tensor(self.outs[0]),
                               lse=tensor(self.outs[1]))

    def check(self):
        want = reference.attention(self.query.numbers(), [self.kv.view],
                                   self.batch.batch(), causal=True)
        reference.check_attention(want, *(o.numbers() for o in self.outs),
                                  "f32")


def refused(library, code, text, function, call, **changes):
    changes = {k.replace("__", "."): v for k, v in changes.items()}
    arguments = call.arguments | changes
    before = [o.storage.copy() for o in call.outs]
    library.expect_error(code, text, function, *arguments.values())
    for out, same in zip(call.outs, before):
        assert np.array_equal(out.storage.view(np.uint8), same.view(np.uint8))


def test_batch(library, rng):
    manifest = json.loads(library.path.with_suffix(".json").read_text())
    header = library.path.with_suffix(".h").read_text()
    functions = {f["name"]: f for f in manifest["functions"]}
    for name, positions in ("plain", None), ("positions", "i64"):
        call = Call(rng, positions)
        listed = [a["name"] for a in functions[name]["arguments"]]
        assert listed == list(call.arguments), listed
        for argument in listed:
            assert f" * {argument}: " in header, argument
        library.run(name, *call.arguments.values())
        call.check()
    call = Call(rng, "i64")
    ints = cases.integers
    name = "argument 'requests."
    refused(library, TYPE, name + "starts'", "positions", call,
            requests__starts=tensor(ints([0, 1], "i64")))
    refused(library, SHAPE, name + "lengths'", "positions", call,
            requests__lengths=tensor(ints([[1, 1]], "i32")))
    refused(library, SHAPE, name + "table'", "positions", call,
            requests__table=tensor(ints([1, 1], "i32")))
    refused(library, TYPE, name + "positions'", "positions", call,
            requests__positions=tensor(ints([1], "i32")))
    table = np.zeros((3, 8), np.int32)
    refused(library, STRIDE, name + "table'", "positions", call,
            requests__table=Tensor(table.ravel(), "i32", [3, 4], [8, 2]))
    refused(library, SHAPE, "argument 'out'", "positions", call,
            out=tensor(cases.result_rows(call.batch.rows + 1, [4, 64],
                                          "f32")))


def test_short_members(library, rng):
    """Members that do not agree are refused; where an entry function cannot
    know, what all of them have room for counts."""
    call = Call(rng, requests=3)
    batch = call.batch
    query, kv, starts_all, lengths_all, table_all, *outs = (
        call.arguments.values())
    for starts, lengths, table in ((4, 2, 3), (2, 3, 3), (4, 3, 1), (1, 3, 3),
                                   (0, 3, 3), (4, 0, 0), (4, 3, 0)):
        given = reference.Batch(batch.starts.array[:starts],
                                batch.lengths.array[:lengths],
                                batch.table.array[:table], 16)
        short = dict(starts=given.starts, lengths=given.lengths,
                     table=given.table)
        refused(library, SHAPE, "argument 'requests.", "plain", call,
                **{f"requests__{k}": tensor(cases.integers(v, "i32"))
                   for k, v in short.items()})
        library.run("cut", query, kv, starts_all, lengths_all, table_all,
                    starts, lengths, table, *outs)
        count = max(0, min(starts - 1, lengths, table))
        used = reference.Batch(given.starts if starts else [0],
                               given.lengths[:count], given.table, 16)
        if count == 0:
            used = reference.Batch([0], [], np.zeros((0, 1)), 16)
        want = reference.attention(call.query.numbers(), [call.kv.view], used,
                                   causal=True)
        reference.check_attention(want, *(o.numbers() for o in call.outs),
                                  "f32", f"{starts}, {lengths}, {table}")


def test_table(library, rng):
    batch = cases.random_batch(rng, requests=4, tokens=16, blocks=20, gap=3)
    out = cases.integers(np.full(batch.rows, 77))
    members = [tensor(b) for b in (batch.starts, batch.lengths, batch.table)]
    library.run("table", *members, tensor(out))
    assert out.array.tolist() == reference.slot_mapping(batch.batch(),
                                                        batch.rows)
    members[2] = tensor(cases.integers([1], "i32"))
    library.expect_error(SHAPE, "argument 'blocks'", "table", *members,
                         tensor(out))


def test_step(library, rng):
    """The pool that is handed over is the one that is updated."""
    sizes = []
    for requests in (1, 3, 9):
        batch = cases.random_batch(rng, requests=requests, tokens=16,
                                   blocks=60, longest=60, kind="chunked")
        extents = dict(S=2, B=60, N=16, H=2, D=64)
        pool = cases.make_cache(rng, extents, "f32", "paired_nhd")
        cases.fill(rng, pool.cache)
        key, value = (cases.random_rows(rng, batch.rows, [2, 64], "f32")
                      for _ in range(2))
        query = cases.random_rows(rng, batch.rows, [4, 64], "f32")
        out = cases.result_rows(batch.rows, [4, 64], "f32")
        whole, expected = pool.expected()
        slots = reference.slot_mapping(batch.batch(), batch.rows)
        reference.index_copy(expected, [key.array, value.array], slots)
        want = reference.attention(query.numbers(), [expected], batch.batch(),
                                   causal=True)
        shape = [60, 2, 16, 2, 64]
        arguments = [Tensor(pool.cache.storage, "f32", shape),
                     *map(tensor, (key, value, query, batch.starts,
                                   batch.lengths, batch.table, out))]
        sizes.append(library.run("step", *arguments))
        pool.check(whole, "step")
        reference.check_attention(want, out.numbers(), None, "f32", "step")
        out.guard.check("step")
        # Less than what is needed is refused, and nothing is written.
        text = f"expected a workspace of at least {sizes[-1]} bytes, got "
        less = aligned(sizes[-1] - 1, np.uint8)
        library.expect_error(WORKSPACE, text + str(sizes[-1] - 1), "step",
                             *arguments, workspace=less)
        library.expect_error(WORKSPACE, text + "0", "step", *arguments)
        pool.check(whole, "a step that is refused")
    assert 0 < sizes[0] <= sizes[1] <= sizes[2], sizes


def main():
    rng = np.random.default_rng(64)
    library = compile_library(PROGRAM)
    test_batch(library, rng)
    test_short_members(library, rng)
    test_table(library, rng)
    test_step(library, rng)
    print("hosts")


main()
