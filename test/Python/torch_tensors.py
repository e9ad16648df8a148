# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# REQUIRES: torch
# RUN: %torch_python %s
"""PyTorch tensors, and torch.compile."""

from pathlib import Path

import kvcache
import torch
from programs import DECODE, DecodeCase, raises, use_new_cache

import numpy as np

cache = use_new_cache()
rng = np.random.default_rng(4)

# ---- The same numbers as with NumPy, results of PyTorch

decode = kvcache.compile(DECODE).paged_decode
case = DecodeCase(rng)
memory, want = case.expected()
arguments = {name: torch.from_numpy(value.copy()) if isinstance(value, np.ndarray)
             else value for name, value in case.arguments().items()}
arguments["pool"] = torch.from_numpy(case.memory).permute(1, 2, 0, 3, 4, 5)
out = decode(**arguments)
assert isinstance(out, torch.Tensor) and out.dtype == torch.float32
np.testing.assert_allclose(out.numpy(), want, rtol=2e-5, atol=2e-5)
np.testing.assert_array_equal(case.memory, memory)
text = raises(ValueError, decode, **{**arguments,
                                     "pool": torch.from_numpy(case.memory)})
assert "pass `pool.permute(1, 2, 0, 3, 4, 5)`" in text, text

# ---- Formats of one byte, also where PyTorch does not export its own type

small = kvcache.PagedAttention(4, 2, 8, 4, "f8E4M3FN")
pool = small.layout.zeros(3, device="cpu")
assert pool.dtype == torch.float8_e4m3fn
key, value, query = (torch.randn(2, n, 8).bfloat16() for n in (2, 2, 4))
small.insert(pool, torch.tensor([4, 5]), key, value)
again = torch.zeros_like(pool).view(torch.uint8)
small.insert(again, torch.tensor([4, 5]), key, value)
assert torch.equal(again, pool.view(torch.uint8)) and again.any()
out = small.run(query, pool, torch.tensor([0, 2], dtype=torch.int32),
                torch.tensor([2], dtype=torch.int32),
                torch.tensor([[1]], dtype=torch.int32))
first = value[0].to(torch.float8_e4m3fn).bfloat16()
assert torch.equal(out[0], first.repeat_interleave(2, dim=0))

# ---- Given and computed scales, in eager mode and compiled

rows = (torch.tensor([0, 2], dtype=torch.int32),
        torch.tensor([2], dtype=torch.int32), torch.tensor([[1]], dtype=torch.int32))
for scales in ("side", "head", "token"):
    small = kvcache.PagedAttention(4, 2, 8, 4, "i8", scales=scales)

    def step(pool, own):
        small.insert(pool, torch.tensor([4, 5]), key, value, scales=own)
        return small.run(query, pool, *rows, scales=own)

    found = []
    for function in (step, torch.compile(step, fullgraph=True,
                                         backend="aot_eager")):
        pool = small.layout.zeros(3, device="cpu")
        own = small.layout.new_scales(3, device="cpu")
        assert pool.dtype == torch.int8
        if scales != "token":
            own *= 0.04
        out = function(pool, own)
        number = pool[:, 1, :2] * (own.flatten().view(2, 1, -1, 1)
                                   if scales != "token"
                                   else own[:, 1, :2, :, None])
        torch.testing.assert_close(number, torch.stack([key, value]).float(),
                                   atol=0.03, rtol=0)
        torch.testing.assert_close(out[0], number[1, 0].repeat_interleave(
            2, dim=0).bfloat16())
        found += [out, pool, own]
    for a, b in zip(found[:3], found[3:]):
        assert torch.equal(a, b)
torch.library.opcheck(torch.ops.kvcache.insert.default,
                      (pool, torch.tensor([4, 5]), key, value, None, own,
                       small._ops.number))

# ---- Ready-made objects in bf16, in eager mode and compiled

attention = kvcache.PagedAttention(8, 2, 64, 16, "bf16", "cross_layer_nhd",
                                   layers=4)
capped = kvcache.PagedAttention(8, 2, 64, 16, "bf16", softcap=20.0, sinks=True)
summed = kvcache.PagedAttention(8, 2, 64, 16, "bf16", alibi=True, sinks=True,
                                mask=True, lse=True)
slopes = torch.rand(8)
sinks = torch.randn(8)
mask = torch.tensor([[1], [1], [3], [5], [11], [21]], dtype=torch.int32)
starts = torch.tensor([0, 1, 6], dtype=torch.int32)
lengths = torch.tensor([20, 5], dtype=torch.int32)
table = torch.tensor([[3, 1], [5, 0]], dtype=torch.int32)
slots = torch.tensor([19, 80, 81, 82, 83, 84])
fused = torch.randn(6, 12, 64).bfloat16()


def step(pool, one, fused, out):
    query, key, value = fused.split([8, 2, 2], dim=1)
    attention.insert(pool, slots, key, value, layer=2)
    first = attention.run(query, pool, starts, lengths, table, layer=2)
    capped.insert(one, slots, key * 2, value)
    capped.run(query, one, starts, lengths, table, sinks=sinks, out=out)
    other, lse = summed.run(query, one, starts, lengths, table, alibi=slopes,
                            sinks=sinks, mask=mask)
    return first + out, other, lse


def run(function):
    torch.manual_seed(3)
    pool = attention.layout.zeros(8, device="cpu")
    one = capped.layout.zeros(8, device="cpu")
    pool.normal_()
    one.normal_()
    out = torch.empty(6, 8, 64, dtype=torch.bfloat16)
    return *function(pool, one, fused, out), pool, one


want = run(step)
assert want[1].shape == (6, 8, 64) and want[2].shape == (6, 8)
assert want[2].dtype == torch.float32
for backend in ("eager", "aot_eager"):
    torch._dynamo.reset()
    got = run(torch.compile(step, fullgraph=True, backend=backend))
    for a, b in zip(got, want):
        assert torch.equal(a, b), backend

# ---- On the threads of PyTorch

def thread_names():
    return [Path(task, "comm").read_text() for task in
            Path("/proc/self/task").iterdir()]


many = kvcache.PagedAttention(8, 8, 64, 16, "f32")
rows = torch.randn(64, 8, 64)
memory = many.layout.zeros(64, device="cpu").normal_()
lists = (torch.arange(65, dtype=torch.int32), torch.full((64,), 16).int(),
         torch.arange(64, dtype=torch.int32)[:, None])
torch.set_num_threads(2)
torch.mm(torch.randn(512, 512), torch.randn(512, 512))  # starts the others
before = len(thread_names())
assert many.library().use_openmp() == 2
on_openmp = many.run(rows, memory, *lists)
assert len(thread_names()) == before, "it has started threads of its own"
alone = kvcache.compile(many.program() + "// on threads of its own\n")
assert torch.equal(alone.run(rows, memory, *lists), on_openmp)

# ---- What the operators say of themselves

pool = attention.layout.zeros(8, device="cpu")
query, key, value = (t.contiguous() for t in fused.split([8, 2, 2], dim=1))
number = attention._ops.number
torch.library.opcheck(torch.ops.kvcache.insert.default,
                      (pool, slots, key, value, 1, None, number))
torch.library.opcheck(torch.ops.kvcache.run.default,
                      (query, pool, starts, lengths, table, 1, [], None, number))
torch.library.opcheck(torch.ops.kvcache.run_out.default,
                      (query, pool, starts, lengths, table, 1, [], None,
                       torch.empty_like(query), None, number))
