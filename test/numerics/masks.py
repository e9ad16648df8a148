# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""attention with masks: trees, spans and any bits by the reference, nodes of a
tree by plain attention over their paths, and rows that see nothing.
"""

import cases
import mask_cases
import numpy as np
from attention_cases import run
from kvtest import Tensor, aligned, compile_library

HEADS, CHANNELS, TOKENS = 4, 32, 4
PROGRAM = f"""
!kv = !kvcache.cache<2S x ?B x {TOKENS}N x 2H x {CHANNELS}D x f32>
!batch = !kvcache.batch<?R x ?M x i32, tokens = {TOKENS}>
!rows = memref<?x{HEADS}x{CHANNELS}xf32>
!lse = memref<?x{HEADS}xf32>
""" + "".join(f"""
func.func @{name}(%q: !rows, %c: !kv, %b: !batch, %m: memref<?x?xi32>,
                  %out: !rows, %lse: !lse) {{
  kvcache.attention %q over %c in %b {mask} into %out, %lse {options}
    : !rows over !kv in !batch into !rows, !lse
  return
}}""" for name, mask, options in (
    ("tree", "mask(%m : memref<?x?xi32>)", "causal"),
    ("all", "mask(%m : memref<?x?xi32>)", ""),
    ("path", "", "causal")))


def tensor(values, element_type):
    values = np.ascontiguousarray(values)
    storage = aligned(values.size, values.dtype)
    storage[:] = values.ravel()
    return Tensor(storage, element_type, list(values.shape)), storage


class Call:
    """Rows at the end of requests, each in blocks of its own."""

    def __init__(self, rng, counts, lengths, blocks=64):
        self.starts = np.int32(np.concatenate([[0], np.cumsum(counts)]))
        self.lengths = np.int32(lengths)
        columns = max(-(-n // TOKENS) for n in lengths) + 1
        self.table = np.int32(rng.permutation(blocks)[
            : len(lengths) * columns].reshape(len(lengths), columns))
        self.pool = rng.standard_normal(
            (2, blocks, TOKENS, 2, CHANNELS)).astype(np.float32)
        self.query = rng.standard_normal(
            (int(self.starts[-1]), HEADS, CHANNELS)).astype(np.float32)

    def run(self, library, name, mask=None):
        rows = len(self.query)
        if mask is None:
            mask = np.zeros((rows, 0))
        out, out_storage = tensor(np.full(self.query.shape, np.nan,
                                          np.float32), "f32")
        lse, lse_storage = tensor(np.full((rows, HEADS), np.nan, np.float32),
                                  "f32")
        given = [(self.query, "f32"), (self.pool, "f32"), (self.starts, "i32"),
                 (self.lengths, "i32"), (self.table, "i32"),
                 (np.int32(mask), "i32")]
        library.run(name, *(tensor(*each)[0] for each in given), out, lse)
        return (out_storage.reshape(self.query.shape),
                lse_storage.reshape(rows, HEADS))

    def token(self, request, position):
        block = self.table[request, position // TOKENS]
        return self.pool[:, block, position % TOKENS]


def check_paths(library, rng):
    """A node of a tree gives what it gives at the end of its path."""
    nodes, before = 40, [0, 3, 29]
    call = Call(rng, [nodes] * 3, [nodes + n for n in before])
    sees = [cases.tree_of(rng, nodes) for _ in before]
    bits = np.zeros((3 * nodes, 64), np.uint8)
    bits[:, :nodes] = np.concatenate(sees)
    mask = np.packbits(bits, axis=1, bitorder="little").view(np.int32)
    out, lse = call.run(library, "tree", mask)
    for r, prefix in enumerate(before):
        for node in range(nodes):
            own = np.flatnonzero(sees[r][node])
            path = Call(rng, [1], [prefix + len(own)])
            path.query[0] = call.query[r * nodes + node]
            for i in range(prefix):
                path.token(0, i)[...] = call.token(r, i)
            for i, parent in enumerate(own):
                path.token(0, prefix + i)[...] = call.token(r, prefix + parent)
            want, want_lse = path.run(library, "path")
            np.testing.assert_allclose(out[r * nodes + node], want[0], 2e-5, 2e-5)
            np.testing.assert_allclose(lse[r * nodes + node], want_lse[0], 2e-5,
                                       2e-5)


def check_edges(library, rng):
    call = Call(rng, [3, 0, 5], [3, 6, 2])
    for name in "tree", "all":
        # No words, and words without bits: only keys before own rows are seen,
        # and here are none.
        for width in 0, 1, 3:
            out, lse = call.run(library, name, np.zeros((8, width)))
            assert not out.any() and (lse == -np.inf).all()
        # Bits behind the rows have no effect, nor those of rows that a length
        # has no tokens for: of the second request these are the first three.
        none = np.full((8, 2), -1)
        none[:3, 0], none[3:, 0] = ~0b111, ~0b11000
        out, lse = call.run(library, name, none)
        assert not out.any() and (lse == -np.inf).all()
        # All bits: as without a mask.
        if name == "tree":
            got = call.run(library, name, np.full((8, 1), -1))
            want = call.run(library, "path")
            assert np.array_equal(got[0], want[0])
            assert np.array_equal(got[1], want[1])
    # The rows from the 32nd on have no bits: nobody sees them.
    call = Call(rng, [40], [50])
    got, _ = call.run(library, "all", np.full((40, 1), -1))
    for position in range(10 + 32, 50):
        call.token(0, position)[...] = np.nan
    again, _ = call.run(library, "all", np.full((40, 1), -1))
    assert np.array_equal(got, again)


def main():
    rng = np.random.default_rng(31)
    library = compile_library(PROGRAM, "masks")
    check_paths(library, rng)
    check_edges(library, rng)
    made = mask_cases.functions(rng)
    calls = run(compile_library(mask_cases.text(rng, made), "mask_grid"), rng,
                made, mask_cases.KINDS)
    print(f"{len(made)} functions, {calls} calls")


if __name__ == "__main__":
    main()
