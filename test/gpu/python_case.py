# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Batches of PyTorch tensors with random contents, and what attention over them
is in float64."""

import math

import kvcache
import torch

TOLERANCE = {"f32": 3e-5, "f16": 3e-3, "bf16": 2e-2, "f8E4M3FN": 2e-2,
             "f8E5M2": 2e-2, "i8": 2e-2}
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16,
         "f8E4M3FN": torch.float8_e4m3fn, "f8E5M2": torch.float8_e5m2,
         "i8": torch.int8}
BATCHES = {  # (tokens of a request, of which new)
    "decode": ((70, 1), (33, 1), (0, 0), (1, 1), (517, 1)),
    "prompt": ((130, 130), (17, 17), (64, 64)),
    "mixed": ((300, 1), (200, 77), (5, 5), (0, 0), (1030, 3)),
}


class Case:
    """Tokens of requests in blocks anywhere in a pool. What no request has is
    NaN."""

    def __init__(self, attention, requests, device, blocks=None, layer=None,
                 seed=0):
        extents = attention.layout.extents
        self.attention, self.device, self.layer = attention, device, layer
        self.size, self.dim = extents["N"], extents["D"]
        self.kv_heads, self.heads = extents["H"], attention.heads
        self.dtype = attention.layout.dtype
        self.row_type = TYPES[attention.query_dtype]
        self.random = torch.Generator().manual_seed(seed)
        self.blocks = blocks or 4 + sum(-(-length // self.size)
                                        for length, _ in requests)
        raw = torch.zeros(attention.layout.memory_shape(self.blocks),
                          dtype=TYPES[self.dtype], device=device)
        self.memory = raw
        self.pool = attention.layout.view(raw)
        if raw.element_size() == 1:
            raw.view(torch.uint8).fill_(0x7f)  # NaN in both formats
        else:
            raw.fill_(float("nan"))
        self.scales = {}
        if attention.layout.scales is not None:
            scales = attention.layout.new_scales(self.blocks, device)
            scales.copy_(0.5 + torch.rand(scales.shape, generator=self.random) / 2)
            self.scales = {"scales": scales}
        self.change(requests)

    def normal(self, *shape):
        return torch.randn(shape, generator=self.random)

    def change(self, requests):
        """Other requests, in tensors that stay where they are if there are as
        many rows and columns."""
        self.requests = requests
        columns = max(1, max(-(-length // self.size) for length, _ in requests))
        most = getattr(self, "columns", columns)
        self.columns = max(columns, most)
        order = torch.randperm(self.blocks, generator=self.random).tolist()
        table, slots, starts = [], [], [0]
        for length, new in requests:
            own = [order.pop() for _ in range(-(-length // self.size))]
            table.append(own + [-1] * (self.columns - len(own)))
            starts.append(starts[-1] + new)
            slots += [own[i // self.size] * self.size + i % self.size
                      for i in range(length - new, length)]
        lists = dict(
            table=torch.tensor(table, dtype=torch.int32),
            starts=torch.tensor(starts, dtype=torch.int32),
            lengths=torch.tensor([n for n, _ in requests], dtype=torch.int32),
            slots=torch.tensor(slots, dtype=torch.int64),
            query=self.normal(starts[-1], self.heads, self.dim).to(self.row_type),
            key=self.normal(starts[-1], self.kv_heads, self.dim).to(self.row_type),
            value=self.normal(starts[-1], self.kv_heads,
                              self.dim).to(self.row_type))
        for name, value in lists.items():
            there = getattr(self, name, None)
            if there is not None and there.shape == value.shape:
                there.copy_(value)
            else:
                setattr(self, name, value.to(self.device))
        self._fill()

    def _fill(self):
        """Old tokens of all requests, in one layer."""
        layer = self.pool if self.layer is None else self.pool[self.layer]
        bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[
            layer.element_size()]
        for r, (length, new) in enumerate(self.requests):
            rows = self.normal(2, length - new, self.kv_heads, self.dim)
            rows = rows.to(layer.dtype).to(self.device).view(bits)
            place = torch.arange(length - new, device=self.device)
            blocks = self.table[r, place // self.size].long()
            layer.view(bits)[:, blocks, place % self.size] = rows

    def insert(self, attention=None):
        place = {} if self.layer is None else {"layer": self.layer}
        (attention or self.attention).insert(self.pool, self.slots, self.key,
                                             self.value, **place, **self.scales)

    def run(self, attention=None, **options):
        place = {} if self.layer is None else {"layer": self.layer}
        return (attention or self.attention).run(
            self.query, self.pool, self.starts, self.lengths, self.table,
            **place, **self.scales, **options)

    def _scales_of(self, blocks):
        """For the tokens of blocks [2, blocks, tokens, heads, channels]."""
        scales = self.scales["scales"].double()
        scales = scales if self.layer is None else scales[self.layer]
        if scales.dim() == 4:  # of tokens
            return scales[:, blocks, :, :, None]
        return scales.reshape(2, 1, 1, -1, 1)

    def expected(self, window=None, softcap=None, scale=None, sinks=None,
                 alibi=None, mask=None, causal=True):
        """(out, logarithms of the sums) after the insert."""
        layer = self.pool if self.layer is None else self.pool[self.layer]
        scale = self.dim ** -0.5 if scale is None else scale
        out = torch.zeros(self.query.shape, dtype=torch.float64,
                          device=self.device)
        lse = torch.full(self.query.shape[:2], -math.inf, dtype=torch.float64,
                         device=self.device)
        group = self.heads // self.kv_heads
        first = 0
        for r, (length, new) in enumerate(self.requests):
            if not new:
                continue
            own = self.table[r, :-(-length // self.size)].long()
            bits = torch.uint8 if layer.element_size() == 1 else layer.dtype
            tokens = layer.view(bits)[:, own].view(layer.dtype).to(
                torch.float32).double()
            if self.scales:
                tokens = tokens * self._scales_of(own)
            keys, values = tokens.flatten(1, 2)[:, :length].repeat_interleave(
                group, 2)
            query = self.query[first:first + new].double()
            x = torch.einsum("qhd,khd->qhk", query, keys) * scale
            if softcap:
                x = softcap * torch.tanh(x / softcap)
            place = torch.arange(length, device=self.device)
            position = torch.arange(length - new, length, device=self.device)
            far = (place[None] - position[:, None])[:, None]
            if alibi is not None:
                x = x + alibi.double()[None, :, None] * far
            hidden = far > 0 if causal else far > length
            if window is not None:
                hidden = hidden | (far <= -window)
            if mask is not None:
                words = mask[first:first + new].long()
                own_row = (place - (length - new)).clamp(min=0)
                bit = words[:, own_row // 32] >> (own_row % 32) & 1
                unseen = (bit == 0) & (place >= length - new)
                hidden = hidden | unseen[:, None]
            x = x.masked_fill(hidden, -math.inf)
            if sinks is not None:
                x = torch.cat([x, sinks.double()[None, :, None].expand(
                    new, -1, 1)], 2)
            lse[first:first + new] = torch.logsumexp(x, 2)
            weights = torch.softmax(x, 2)[:, :, :length]
            out[first:first + new] = torch.einsum("qhk,khd->qhd", weights, values)
            first += new
        return out, lse

    def check(self, got, want, what):
        bound = TOLERANCE[self.dtype]
        if not len(want):
            return
        error = (got.double() - want).abs().max().item()
        assert error <= bound * 2, f"{what}: error {error:.3g}"


class Guarded:
    """A result of NaN, between canaries."""

    MARGIN = 512

    def __init__(self, like, dtype=None):
        dtype = dtype or like.dtype
        count = like.numel()
        self.memory = torch.full((count + 2 * self.MARGIN,), 7.0, dtype=dtype,
                                 device=like.device)
        self.view = self.memory[self.MARGIN:self.MARGIN + count].view(like.shape)
        self.view.fill_(float("nan"))

    def check(self):
        edges = torch.cat([self.memory[:self.MARGIN],
                           self.memory[-self.MARGIN:]])
        assert bool((edges == 7).all()), "written beyond the result"
        assert not bool(self.view.isnan().any()), "NaN in the result"
        return self.view


def make(dtype="bf16", layout="nhd", heads=16, kv_heads=4, dim=128, block=16,
         **options):
    return kvcache.PagedAttention(heads, kv_heads, dim, block, dtype, layout,
                                  **options)


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def raises(error, function, *args, **options):
    try:
        function(*args, **options)
    except error as raised:
        return str(raised)
    raise AssertionError(f"expected {error.__name__}")
