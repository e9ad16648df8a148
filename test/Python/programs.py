# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Programs of examples/, with elements that NumPy has."""

import os
import tempfile
from pathlib import Path

import numpy as np

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
INSERT = (EXAMPLES / "insert.mlir").read_text().replace("bf16", "f32")
DECODE = (EXAMPLES / "paged_decode.mlir").read_text().replace("bf16", "f32")


def use_new_cache():
    """A cache of compiled libraries for this test alone. What is returned
    removes it when it goes."""
    folder = tempfile.TemporaryDirectory(prefix="kvcache-test-")
    os.environ["KVCACHE_CACHE_DIR"] = os.path.join(folder.name, "cache")
    return folder


def raises(error, function, *args, **keywords):
    """The text of the error that a call raises."""
    try:
        function(*args, **keywords)
    except error as raised:
        assert type(raised) is error, repr(raised)
        return str(raised)
    raise AssertionError(f"expected {error.__name__}")


def insert_arguments(rng, blocks=6, count=5):
    """A pool of bytes and arguments of `insert`: layer 1 of 4."""
    memory = np.zeros((blocks, 4, 2, 16, 8, 128), np.float32)
    key, value = (rng.standard_normal((count, 8, 128)).astype(np.float32)
                  for _ in range(2))
    slots = np.array([3, 17, -1, 16 * blocks - 1, 40][:count])
    return memory, dict(bytes=memory.view(np.int8).reshape(-1),
                        layer_offset=memory[0, 0].nbytes, blocks=blocks,
                        slots=slots, key=key, value=value)


def check_insert(memory, arguments):
    """Layer 1 has the rows at their slots and zeros elsewhere."""
    want = np.zeros_like(memory)
    for slot, key, value in zip(*(arguments[name]
                                  for name in ("slots", "key", "value"))):
        if slot >= 0:
            want[slot // 16, 1, 0, slot % 16] = key
            want[slot // 16, 1, 1, slot % 16] = value
    np.testing.assert_array_equal(memory, want)


class DecodeCase:
    """Arguments of `paged_decode`, and what it is expected to do."""

    def __init__(self, rng, blocks=24, lengths=(70, 33, 0), new=(1, 4, 0)):
        def normal(*shape):
            return rng.standard_normal(shape).astype(np.float32)

        count = sum(new)
        self.memory = normal(blocks, 4, 2, 16, 8, 64)
        self.query = normal(count, 32, 64)
        self.key, self.value = normal(count, 8, 64), normal(count, 8, 64)
        self.starts = np.cumsum([0, *new]).astype(np.int32)
        self.lengths = np.array(lengths, np.int32)
        columns = -(-max(lengths) // 16)
        self.table = rng.permutation(blocks)[:len(lengths) * columns]
        self.table = self.table.reshape(len(lengths), columns).astype(np.int32)

    @property
    def pool(self):
        """The pool as the program counts its axes: L, S, B, N, H, D."""
        return self.memory.transpose(1, 2, 0, 3, 4, 5)

    def arguments(self, layer=2):
        return dict(pool=self.pool, layer=layer, query=self.query, key=self.key,
                    value=self.value, starts=self.starts, lengths=self.lengths,
                    block_table=self.table)

    def expected(self, layer=2):
        """The pool after the call, and the result."""
        memory = self.memory.copy()
        out = np.zeros(self.query.shape, np.float64)
        for r, length in enumerate(self.lengths):
            first, end = self.starts[r], self.starts[r + 1]
            positions = range(length - (end - first), length)
            for row, position in zip(range(first, end), positions):
                block = self.table[r, position // 16]
                memory[block, layer, 0, position % 16] = self.key[row]
                memory[block, layer, 1, position % 16] = self.value[row]
            tokens = memory[self.table[r], layer].astype(np.float64)
            keys, values = (tokens[:, side].reshape(-1, 8, 64)
                            for side in (0, 1))
            for row, position in zip(range(first, end), positions):
                for head in range(32):
                    seen = slice(0, position + 1)
                    scores = keys[seen, head // 4] @ self.query[row, head] / 8
                    weights = np.exp(scores - scores.max())
                    out[row, head] = (weights / weights.sum()
                                      @ values[seen, head // 4])
        return memory, out
