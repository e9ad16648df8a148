# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The example models in float64, from their description: who writes which
cache, who reads it. Nothing is shared with the generator but names.
"""

from dataclasses import dataclass

import numpy as np


@dataclass
class Sizes:
    layers: int = 4
    hidden: int = 64
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    ffn: int = 128
    vocab: int = 96
    block: int = 16
    window: int = 8
    per_layer: int = 16

    def flags(self):
        names = ("layers", "hidden", "heads", "head_dim", "kv_heads", "ffn",
                 "vocab", "block", "window")
        return [f"--{n.replace('_', '-')}={getattr(self, n)}" for n in names]

    def weights(self, family):
        """name -> shape, in the sequence of arguments."""
        n, d = self.layers, self.hidden
        q, k = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes = dict(
            embedding=(self.vocab, d), attention_norm=(n, d), wq=(n, d, q),
            wk=(n, d, k), wv=(n, d, k), wo=(n, q, d), mlp_norm=(n, d),
            w_gate=(n, d, self.ffn), w_up=(n, d, self.ffn),
            w_down=(n, self.ffn, d))
        if family == "gemma3n":
            p = self.per_layer
            shapes.update(per_layer_embedding=(self.vocab, n, p),
                          per_layer_gate=(n, d, p),
                          per_layer_projection=(n, p, d))
        shapes.update(final_norm=(d,), head=(d, self.vocab))
        return shapes

    def caches(self, family):
        return {"llama": self.layers, "swiftkv": self.layers,
                "yoco": self.layers // 2 + 1}.get(family, self.layers // 2)


def plan(family, layers):
    """For each layer: what it writes from (own, early, nothing), the cache that
    it reads, and whether it has a window."""
    half = layers // 2
    for i in range(layers):
        late = i >= half
        if family == "llama":
            yield "own", i, False
        elif family == "yoco":
            yield (None, half, False) if late else ("own", i, False)
        elif family == "gemma3n":
            odd = i % 2
            yield ((None, half - 2 + odd, not odd) if late
                   else ("own", i, not odd))
        elif family == "hunyuan":
            yield (None if i % 2 else "own"), i // 2, False
        elif family == "swiftkv":
            yield ("early" if late else "own"), i, False


def norm(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * weight


def silu(x):
    return x / (1 + np.exp(-x))


class Model:
    """`pool` is an array [L, 2, B, N, H, D] of float64 that is written."""

    def __init__(self, family, sizes, weights):
        self.family, self.sizes = family, sizes
        self.w = {k: v.astype(np.float64) for k, v in weights.items()}

    def rotate(self, x, positions):
        half = self.sizes.head_dim // 2
        frequency = 10000.0 ** (-np.arange(half) / half)
        angle = np.asarray(positions)[:, None, None] * frequency
        low, high = x[..., :half], x[..., half:]
        return np.concatenate([low * np.cos(angle) - high * np.sin(angle),
                               high * np.cos(angle) + low * np.sin(angle)], -1)

    def write(self, pool, batch, normed, layer, cache, positions):
        s = self.sizes
        shape = -1, s.kv_heads, s.head_dim
        key = self.rotate((normed @ self.w["wk"][layer]).reshape(shape),
                          positions)
        value = (normed @ self.w["wv"][layer]).reshape(shape)
        for t, row in enumerate(batch.rows(len(normed))):
            if row and 0 <= row[1] < batch.length(row[0]):
                block = batch.table[row[0]][row[1] // s.block]
                for side, rows in enumerate((key, value)):
                    pool[cache, side, block, row[1] % s.block] = rows[t]

    def attend(self, pool, batch, query, cache, window):
        s = self.sizes
        out = np.zeros_like(query)
        group = np.arange(s.heads) // (s.heads // s.kv_heads)
        for t, row in enumerate(batch.rows(len(query))):
            if not row:
                continue
            j, block, token = batch.keys(row[0], pool.shape[2])
            sees = j <= row[1]
            if window:
                sees &= j > row[1] - s.window
            if not sees.any():
                continue
            k, v = pool[cache][:, block[sees], token[sees]][:, :, group]
            x = np.einsum("hd,jhd->hj", query[t], k) / np.sqrt(s.head_dim)
            e = np.exp(x - x.max(1, keepdims=True))
            out[t] = np.einsum("hj,jhd->hd", e / e.sum(1, keepdims=True), v)
        return out

    def run(self, tokens, positions, batch, pool):
        """The logits of all rows."""
        s, w = self.sizes, self.w
        x = w["embedding"][tokens]
        for i, (source, cache, window) in enumerate(
                plan(self.family, s.layers)):
            if i == s.layers // 2:
                early = x
                if self.family == "yoco":
                    self.write(pool, batch, norm(x, w["attention_norm"][i]), i,
                               cache, positions)
            scale = w["attention_norm"][i]
            normed = norm(x, scale)
            query = (normed @ w["wq"][i]).reshape(-1, s.heads, s.head_dim)
            query = self.rotate(query, positions)
            if source == "own":
                self.write(pool, batch, normed, i, cache, positions)
            elif source == "early":
                self.write(pool, batch, norm(early, scale), i, cache, positions)
            out = self.attend(pool, batch, query, cache, window)
            x = x + out.reshape(len(x), -1) @ w["wo"][i]
            normed = norm(x, w["mlp_norm"][i])
            x = x + (silu(normed @ w["w_gate"][i])
                     * (normed @ w["w_up"][i])) @ w["w_down"][i]
            if self.family == "gemma3n":
                mine = w["per_layer_embedding"][tokens, i]
                x = x + (silu(x @ w["per_layer_gate"][i])
                         * mine) @ w["per_layer_projection"][i]
        return norm(x, w["final_norm"]) @ w["head"]
