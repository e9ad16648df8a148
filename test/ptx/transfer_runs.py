# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Transfers by the copy engine: what is copied, how many copies it takes for
the layouts of a pool, and the same number out of the manifest."""

import json

import cases
import kvtest
import machine
import numpy as np
import reference

N, H, D = 2, 1, 8
LAYERS, BLOCKS = 40, 422
PAIRS = "memref<?x2xi64>"
# Orders of a pool of all layers, and the runs of a block.
RUNS = {"BLSNHD": 1, "LBSNHD": LAYERS, "LSBNHD": 2 * LAYERS}
STREAM = 0x1000


def cache(rng, order, blocks, space="device", layers=LAYERS, tokens=N):
    extents = dict(L=layers, S=2, B=blocks, N=tokens, H=H, D=D)
    case = cases.make_cache(rng, extents, "bf16", tuple(order))
    return cases.replace(case, type=cases.replace(case.type, space=space))


def text(name, source, dest):
    return f"""
func.func @{name}(%source: {source.type}, %dest: {dest.type},
                  %pairs: {PAIRS} {{kvcache.host}}) {{
  kvcache.transfer %source to %dest at %pairs
    : {source.type} to {dest.type} at {PAIRS}
  return
}}
"""


def arguments(source, dest, pairs):
    def pool(case):
        host = case.type.space == "host"
        device = kvtest.CUDA_HOST if host else kvtest.CUDA_DEVICE
        return machine.Tensor(*case.cache.argument(), device=device)

    return [pool(source), pool(dest),
            kvtest.Tensor(pairs, "i64", list(pairs.shape))]


def run(library, name, source, dest, pairs, stream=STREAM):
    """The copies of a transfer, whose result is checked."""
    whole, expected = dest.expected()
    reference.transfer(source.view, expected, pairs)
    machine.copies.clear()
    before = len(machine.launches)
    library.run(name, *arguments(source, dest, pairs), stream=stream)
    assert len(machine.launches) == before, "a kernel was launched"
    dest.check(whole, name)
    return machine.copies


def from_manifest(library, name, source):
    """Addresses and lengths of the runs of a block of the first argument,
    relative to the pool: what a transport needs."""
    manifest = json.loads(library.path.with_suffix(".json").read_text())
    function = next(f for f in manifest["functions"] if f["name"] == name)
    pool = function["arguments"][0]
    strides = dict(zip(pool["axes"], source.cache.strides))
    extents = dict(zip(pool["axes"], source.cache.array.shape))
    offsets = [0]
    for axis in pool["block"]["loops"]:
        offsets = [o + i * strides[axis] * 2 for o in offsets
                   for i in range(extents[axis])]
    return offsets, pool["block"]["run_bytes"], 2 * strides["B"]


def main():
    rng = np.random.default_rng(12)
    programs, todo = [], []
    for order in RUNS:
        for way in "out", "in":
            ends = [cache(rng, order, BLOCKS + 3),
                    cache(rng, "BLSNHD", BLOCKS, "host")]
            source, dest = ends if way == "out" else ends[::-1]
            name = f"{order}_{way}"
            programs.append(text(name, source, dest))
            todo.append((name, order, source, dest, way))
    # Blocks of other sizes, and heads before tokens on one side.
    mixed = cache(rng, "BLSHND", 9, layers=3), cache(
        rng, "BLSHND", 20, "host", layers=3, tokens=4)
    programs.append(text("mixed", *mixed))
    library = machine.compile_library("".join(programs), "runs", "sm_90a",
                                      "--copy-engine-bytes=1")

    for name, order, source, dest, way in todo:
        cases.fill(rng, source.view)
        counts = [c.view.extent("B") for c in (source, dest)]
        pairs = np.stack([rng.permutation(n)[:BLOCKS] for n in counts], 1)
        # No two blocks are neighbours on both sides.
        assert not (np.diff(pairs, axis=0) == 1).all(axis=1).any()
        groups = run(library, name, source, dest, pairs)
        sizes = [size for group in groups for _, _, size in group]
        assert len(sizes) == BLOCKS * RUNS[order], (name, len(sizes))
        assert len(groups) == -(-len(sizes) // 128), "lists are full"
        if way == "out":
            offsets, length, step = from_manifest(library, name, source)
            base = source.cache.array.__array_interface__["data"][0]
            listed = [base + block * step + o for block in pairs[:, 0]
                      for o in offsets]
            copied = [origin for group in groups for _, origin, _ in group]
            assert listed == copied and set(sizes) == {length}, name
        # A default stream takes no lists.
        groups = run(library, name, source, dest, pairs, stream=None)
        assert all(len(group) == 1 for group in groups)

    name, order, source, dest, _ = todo[0]
    few = np.array([[5, 3], [6, 4], [7, 5], [-1, 0], [9, BLOCKS], [8, 6]])
    groups = run(library, name, source, dest, few)
    assert [len(group) for group in groups] == [1], "neighbours are one run"
    run(library, name, source, dest, np.zeros((0, 2), np.int64))
    assert not machine.copies

    cases.fill(rng, mixed[0].view)
    pairs = np.array([[0, 7], [8, 1], [3, 2], [4, 39], [5, 40], [9, 4]])
    run(library, "mixed", *mixed, pairs)
    print(f"{len(todo) + 1} functions: " + ", ".join(
        f"{BLOCKS * n} runs for {o}" for o, n in RUNS.items()))


main()
