# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# REQUIRES: torch
# RUN: %torch_python %s
"""The wrappers of kvcache.flashinfer, compared with PyTorch in float64. They run
on the GPU with `cuda` as an argument."""

import math
import sys
from pathlib import Path

import kvcache.flashinfer as fi
import torch
from kvcache import _paged
from programs import raises, use_new_cache

cache = use_new_cache()
DEVICE = sys.argv[1] if len(sys.argv) > 1 else "cpu"
torch.manual_seed(5)
TOLERANCE = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def compiled():
    return list(Path(cache.name).rglob("*.so"))


def normal(*shape, dtype=torch.float32):
    return torch.randn(shape, device=DEVICE).to(dtype)


def ints(values):
    return torch.tensor(values, dtype=torch.int32, device=DEVICE)


class Case:
    """Requests with pages anywhere in a pool, and their query rows."""

    def __init__(self, lengths=(37, 5, 0, 64), new=(1, 1, 1, 1), page=16,
                 heads=8, kv_heads=2, dim=64, value_dim=None,
                 dtype=torch.float32):
        self.lengths, self.new, self.page, self.dtype = lengths, new, page, dtype
        self.heads, self.kv_heads, self.dim = heads, kv_heads, dim
        self.value_dim = value_dim or dim
        counts = [-(-length // page) for length in lengths]
        pages = sum(counts) + 3
        order = torch.randperm(pages).tolist()
        self.indptr = ints([sum(counts[:r]) for r in range(len(counts) + 1)])
        self.indices = ints(order[:sum(counts)])
        self.last = ints([(length - 1) % page + 1 if length else 0
                          for length in lengths])
        self.starts = ints([sum(new[:r]) for r in range(len(new) + 1)])
        self.query = normal(sum(new), heads, dim, dtype=dtype)
        self.keys = normal(pages, page, kv_heads, dim, dtype=dtype)
        self.values = normal(pages, page, kv_heads, self.value_dim, dtype=dtype)

    @property
    def lists(self):
        return self.indptr, self.indices, self.last

    @property
    def sizes(self):
        return self.heads, self.kv_heads, self.dim, self.page

    @property
    def in_one(self):
        """Keys and values of a page side by side."""
        return torch.stack([self.keys, self.values], dim=1)

    def tokens(self, side, r):
        pages = self.indices[self.indptr[r]:self.indptr[r + 1]].long()
        return side[pages].flatten(0, 1)[:self.lengths[r]].double()

    def expected(self, causal=False, window_left=-1, softcap=0.0, scale=None,
                 sinks=None):
        """The result, and the logarithms to base 2."""
        out = torch.zeros(*self.query.shape[:2], self.value_dim,
                          dtype=torch.float64, device=DEVICE)
        lse = torch.full(self.query.shape[:2], -math.inf, dtype=torch.float64,
                         device=DEVICE)
        group = self.heads // self.kv_heads
        for r, length in enumerate(self.lengths):
            keys, values = (self.tokens(side, r).repeat_interleave(group, 1)
                            for side in (self.keys, self.values))
            place = torch.arange(length, device=DEVICE)
            for row in range(int(self.starts[r]), int(self.starts[r + 1])):
                position = length - int(self.starts[r + 1]) + row
                x = torch.einsum("hd,jhd->hj", self.query[row].double(), keys)
                x = x * (self.dim ** -0.5 if scale is None else scale)
                if softcap:
                    x = softcap * torch.tanh(x / softcap)
                hidden = torch.zeros(length, dtype=torch.bool, device=DEVICE)
                if causal:
                    hidden |= place > position
                if window_left >= 0:
                    hidden |= place < position - window_left
                x = x.masked_fill(hidden, -math.inf)
                if sinks is not None:
                    x = torch.cat([x, sinks.double()[:, None]], 1)
                lse[row] = torch.logsumexp(x, 1)
                if not bool((~hidden).any()):
                    continue
                weights = torch.softmax(x, 1)[:, :length]
                out[row] = torch.einsum("hj,jhd->hd", weights, values)
        return out, lse / math.log(2)


def close(got, want, dtype):
    torch.testing.assert_close(got.double(), want, rtol=TOLERANCE[dtype],
                               atol=TOLERANCE[dtype])


def workspace():
    return torch.empty(1 << 10, dtype=torch.uint8, device=DEVICE)


def swapped(side):
    """HND, as FlashInfer has it: contiguous."""
    return side.transpose(-2, -3).contiguous()


# ---- Decode: what a cache may look like

for dtype in (torch.float32, torch.bfloat16, torch.float16):
    case = Case(dtype=dtype)
    want, logarithms = case.expected()
    for layout, pool in (
            ("NHD", (case.keys, case.values)), ("NHD", case.in_one),
            ("HND", (swapped(case.keys), swapped(case.values))),
            ("HND", swapped(case.in_one)),
            # A layer of a pool of all layers, and keys beside their values.
            ("NHD", torch.stack([case.in_one] * 3, dim=1)[:, 1]),
            ("NHD", torch.cat([case.keys, case.values], -1).split(64, -1))):
        decode = fi.BatchDecodeWithPagedKVCacheWrapper(workspace(), layout)
        decode.plan(*case.lists, *case.sizes, q_data_type=dtype)
        out, lse = decode.run(case.query, pool, return_lse=True)
        assert out.dtype == dtype and lse.dtype == torch.float32
        close(out, want, dtype)
        close(lse, logarithms, dtype)
        assert torch.equal(decode.run(case.query, pool), out)

# ---- Decode: options

case = Case(lengths=(37, 5, 1, 64))
pool = (case.keys, case.values)
decode = fi.BatchDecodeWithPagedKVCacheWrapper(workspace())


def plan(case, **options):
    decode.plan(*case.lists, *case.sizes, q_data_type="float32", **options)


sinks = normal(8)
for options, run, want in (
        ({}, {}, {}),
        ({"window_left": 7}, {}, {"window_left": 7}),
        ({"window_left": 0}, {}, {"window_left": 0}),
        ({"logits_soft_cap": 3.0}, {}, {"softcap": 3.0}),
        ({"sm_scale": 0.3}, {}, {"scale": 0.3}),
        ({"sm_scale": 0.3}, {"q_scale": 0.5, "k_scale": torch.tensor(3.0)},
         {"scale": 0.45}),
        ({}, {"sinks": sinks}, {"sinks": sinks}),
        ({"logits_soft_cap": 2.0, "window_left": 9, "sm_scale": 0.2},
         {"sinks": sinks},
         {"softcap": 2.0, "window_left": 9, "scale": 0.2, "sinks": sinks})):
    plan(case, **options)
    out, lse = decode.run(case.query, pool, return_lse=True, **run)
    want, logarithms = case.expected(**want)
    close(out, want, torch.float32)
    close(lse, logarithms, torch.float32)
want, logarithms = case.expected()
plan(case)
close(decode.run(case.query, pool, v_scale=0.25), want / 4, torch.float32)
out, lse = torch.empty_like(case.query), normal(4, 8)
results = decode.run(case.query, pool, out=out, lse=lse, return_lse=True)
assert results[0] is out and results[1] is lse
close(out, want, torch.float32)
close(lse, logarithms, torch.float32)
results = decode.run_return_lse(case.query, pool)
assert torch.equal(results[0], out) and torch.equal(results[1], lse)
# The order of arguments before FlashInfer 0.6, and its old names.
decode.begin_forward(*case.lists, *case.sizes, "NONE", 7, None, torch.float32)
close(decode.run(case.query, pool), case.expected(window_left=7)[0],
      torch.float32)
decode.end_forward()
decode.plan(*case.lists, *case.sizes, data_type=torch.float32)
close(decode.run(case.query, pool), want, torch.float32)

# Lists of another device or type, a result of another type, rows of a fused
# projection and rows at odd addresses.
decode.plan(*(part.cpu().long() for part in case.lists), *case.sizes,
            q_data_type=torch.float32, o_data_type=torch.bfloat16)
fused = torch.cat([case.query, normal(4, 4, 64)], 1)
out = decode.run(fused[:, :8], pool)
assert out.dtype == torch.bfloat16
close(out, want, torch.bfloat16)
plan(case)
heads_first = case.query.transpose(0, 1).contiguous().transpose(0, 1)
close(decode.run(heads_first, pool), want, torch.float32)
odd = normal(4 * 8 * 64 + 1)[1:].view(4, 8, 64).copy_(case.query)
close(decode.run(odd, pool), want, torch.float32)

# Several rows of each request see what is before them, unless is_causal is
# false.
case = Case(lengths=(37, 5, 3, 64), new=(3, 3, 3, 3))
pool = (case.keys, case.values)
for causal in (None, False):
    plan(case, q_len_per_req=3, is_causal=causal)
    close(decode.run(case.query, pool), case.expected(causal is None)[0],
          torch.float32)

# Pages and channels of other sizes; one head, one page, no page, no request.
for options in ({"page": 1}, {"page": 5, "dim": 80}, {"kv_heads": 1},
                {"heads": 1, "kv_heads": 1}, {"lengths": (16,), "new": (1,)},
                {"lengths": (0, 0), "new": (1, 1)},
                {"lengths": (), "new": ()}):
    case = Case(**options)
    plan(case)
    close(decode.run(case.query, (case.keys, case.values)), case.expected()[0],
          torch.float32)
one = Case(lengths=(9,), new=(1,))
chosen = int(one.indices[0])
plan(one)
want = one.expected()[0]
one.keys, one.values = (side[chosen:chosen + 1] for side in (one.keys, one.values))
one.indices.zero_()
plan(one)
close(decode.run(one.query, (one.keys, one.values)), want, torch.float32)

# ---- Pages of bytes, whose scales are data: one program for all of them

for dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
    small = Case(dtype=torch.bfloat16)
    stored = [side.to(dtype) for side in (small.keys, small.values)]
    programs = []
    for k, v in ((None, None), (0.5, 2.0), (torch.tensor(0.25, device=DEVICE),
                                            torch.tensor([4.0], device=DEVICE))):
        k_number, v_number = (1.0 if x is None else float(x) for x in (k, v))
        small.keys, small.values = (
            (side.double() * number).to(torch.float32)
            for side, number in zip(stored, (k_number, v_number)))
        decode.plan(*small.lists, *small.sizes, q_data_type=torch.bfloat16,
                    kv_data_type=dtype)
        out, lse = decode.run(small.query, stored, k_scale=k, v_scale=v,
                              return_lse=True)
        want, logarithms = small.expected()
        close(out / v_number, want / v_number, torch.bfloat16)
        close(lse, logarithms, torch.bfloat16)
        programs.append(len(compiled()))
    assert programs[0] > 0 and len(set(programs)) == 1, programs
    # Rows become the nearest numbers of the format, or are such already.
    rows = normal(2, 2, 64, dtype=torch.bfloat16)
    for given in (rows, rows.to(dtype)):
        there = [torch.zeros_like(side) for side in stored]
        fi.append_paged_kv_cache(given, given, ints([0, 1]), ints([3, 2]), there,
                                 small.indices, small.indptr, small.last)
        for side in there:
            assert torch.equal(
                side[small.indices[0].item(), 3].view(torch.uint8),
                rows[0].to(dtype).view(torch.uint8))
    assert raises(NotImplementedError, decode.run, small.query, stored,
                  k_scale=torch.ones(8)) == "k_scale: expected one number, got [8]"

# ---- Lists that stay in place, for graphs

case = Case(lengths=(37, 5, 0, 64))
for make in (
        lambda *buffers: fi.BatchDecodeWithPagedKVCacheWrapper(
            workspace(), "NHD", True, False, *buffers),
        lambda *buffers: fi.CUDAGraphBatchDecodeWithPagedKVCacheWrapper(
            workspace(), *buffers, max_pages_per_request=4)):
    buffers = [torch.zeros(n, dtype=torch.int32, device=DEVICE)
               for n in (5, 12, 4)]
    decode = make(*buffers)
    assert decode.is_cuda_graph_enabled
    places = set()
    for lengths in ((37, 5, 0, 64), (1, 2, 3, 4), (0, 0, 64, 0)):
        case = Case(lengths=lengths)
        plan(case)
        close(decode.run(case.query, (case.keys, case.values)),
              case.expected()[0], torch.float32)
        places.add((decode._lists.table.data_ptr(), decode._starts.data_ptr()))
        assert torch.equal(buffers[0], case.indptr)
    assert len(places) == 1, places
    raises(ValueError, plan, Case(lengths=(1,), new=(1,)))
    assert "at most 12 pages" in raises(ValueError, plan,
                                        Case(lengths=(64, 64, 64, 64)))
assert raises(ValueError, plan, Case(lengths=(80, 0, 0, 0))) == (
    "a request has 5 pages, and the table room for 4: pass "
    "max_pages_per_request= when the wrapper is made")

# ---- Prefill

for dtype in (torch.float32, torch.bfloat16):
    case = Case(lengths=(37, 5, 20, 64, 0), new=(9, 5, 0, 30, 0), dtype=dtype)
    for causal in (True, False):
        for layout, pool in (("NHD", (case.keys, case.values)),
                             ("HND", swapped(case.in_one))):
            prefill = fi.BatchPrefillWithPagedKVCacheWrapper(workspace(), layout)
            prefill.plan(case.starts, *case.lists, *case.sizes, causal=causal,
                         window_left=11, logits_soft_cap=4.0, sm_scale=0.2,
                         q_data_type=dtype)
            want = {"causal": causal, "softcap": 4.0, "scale": 0.2}
            out, lse = prefill.run(case.query, pool, return_lse=True)
            results = case.expected(window_left=11, **want)
            close(out, results[0], dtype)
            close(lse, results[1], dtype)
            # Another window than planned.
            out = prefill.run(case.query, pool, window_left=-1)
            close(out, case.expected(**want)[0], dtype)

case = Case(lengths=(37, 5, 64), new=(9, 5, 30), value_dim=32)
pool = (case.keys, case.values)
prefill = fi.BatchPrefillWithPagedKVCacheWrapper(workspace())
prefill.plan(case.starts, *case.lists, *case.sizes, 32, causal=True,
             q_data_type=torch.float32)
want, logarithms = case.expected(causal=True)
for base, times in (("log2", 1.0), ("ln", math.log(2))):
    for layout in ("NH", "HN"):
        out, lse = prefill.run(case.query, pool, return_lse=True, lse_base=base,
                               lse_layout=layout, v_scale=2.0)
        assert out.shape == (44, 8, 32)
        close(out, want * 2, torch.float32)
        close(lse if layout == "NH" else lse.T, logarithms * times,
              torch.float32)
close(prefill.run_return_lse(case.query, pool, sinks=sinks)[1],
      case.expected(causal=True, sinks=sinks)[1], torch.float32)
# More query rows than tokens: the first ones see nothing.
few = Case(lengths=(3, 20), new=(5, 2))
prefill.plan(few.starts, *few.lists, *few.sizes, causal=True,
             q_data_type=torch.float32)
out, lse = prefill.run(few.query, (few.keys, few.values), return_lse=True)
close(out, few.expected(causal=True)[0], torch.float32)
close(lse, few.expected(causal=True)[1], torch.float32)
assert not out[:2].any()

starts = torch.zeros(4, dtype=torch.int32, device=DEVICE)
buffers = [torch.zeros(n, dtype=torch.int32, device=DEVICE) for n in (4, 12, 3)]
prefill = fi.BatchPrefillWithPagedKVCacheWrapper(workspace(), "NHD", True, starts,
                                                 *buffers)
prefill.plan(case.starts, *case.lists, *case.sizes, 32, causal=True,
             q_data_type=torch.float32)
assert torch.equal(starts, case.starts) and prefill._starts is starts
close(prefill.run(case.query, pool), want, torch.float32)

# ---- Writing

case = Case(lengths=(37, 5, 20), new=(9, 5, 3))
assert fi.get_seq_lens(case.indptr, case.last, 16).tolist() == [37, 5, 20]
requests, positions = fi.get_batch_indices_positions(
    case.starts, ints(case.lengths), 19)
assert requests.tolist() == [0] * 9 + [1] * 5 + [2] * 3 + [-1] * 2
assert positions.tolist() == [*range(28, 37), *range(5), *range(17, 20), -1, -1]
given = torch.zeros_like(requests), torch.zeros_like(positions)
results = fi.get_batch_indices_positions(case.starts, ints(case.lengths), 19,
                                         *given)
assert results[0] is given[0] and torch.equal(given[1], positions)
for layout in ("NHD", "HND"):
    for dtype in (torch.float32, torch.bfloat16):
        # As rows of a fused projection, and with keys between values.
        fused = normal(19, 12, 64, dtype=dtype)
        key, value = fused[:, 8:10], fused[:, 10:]
        if layout == "HND":
            key, value = fused[:, 8:].unflatten(1, (2, 2)).unbind(2)
        sides = [case.keys.to(dtype).clone(), case.values.to(dtype).clone()]
        want = [side.clone() for side in sides]
        for row, (r, place) in enumerate(zip(requests.tolist(),
                                             positions.tolist())):
            if r >= 0:
                page = case.indices[case.indptr[r] + place // 16]
                want[0][page, place % 16] = key[row]
                want[1][page, place % 16] = value[row]
        pool = torch.stack(sides, dim=1)
        if layout == "HND":
            pool = swapped(pool)
        for there in (pool, tuple(pool.clone().unbind(1))):
            fi.append_paged_kv_cache(key, value, requests, positions, there,
                                     *(case.indices, case.indptr, case.last),
                                     layout)
            for i in range(2):
                got = there[:, i] if there is pool else there[i]
                got = got.transpose(1, 2) if layout == "HND" else got
                assert torch.equal(got, want[i]), (layout, dtype, i)

# Whatever has no page is padding: no request, none of that number, no position
# in its pages; and there may be no pages and no requests at all.
none = fi.get_batch_indices_positions(ints([0]), ints([]), 3)
assert [numbers.tolist() for numbers in none] == [[-1] * 3] * 2
large = 2**31 - 1
odd = [(large, 0), (-large, 0), (3, 0), (0, large), (0, 48), (1, -1), (2, 32)]
sides = [case.keys.clone(), case.values.clone()]
rows = normal(len(odd), 2, 64)
where = [ints(numbers) for numbers in zip(*odd)]
for lists in ((case.indices, case.indptr, case.last),
              (ints([]), ints([0] * 4), ints([0] * 3)),
              (ints([]), ints([0]), ints([]))):
    fi.append_paged_kv_cache(rows, rows, *where, tuple(sides), *lists)
assert torch.equal(sides[0], case.keys) and torch.equal(sides[1], case.values)

# ---- Merging: parts of the keys of a request give the whole

case = Case(lengths=(64,), new=(4,))
keys, values = (case.tokens(side, 0) for side in (case.keys, case.values))
x = torch.einsum("thd,jhd->thj", case.query.double(),
                 keys.repeat_interleave(4, 1)) / 8
values = values.repeat_interleave(4, 1)


def state(first, end):
    part = x[:, :, first:end]
    return (torch.einsum("thj,jhd->thd", torch.softmax(part, 2),
                         values[first:end]).float(),
            (torch.logsumexp(part, 2) / math.log(2)).float())


want, logarithms = (part.double() for part in state(0, 64))
for got in (fi.merge_state(*state(0, 20), *state(20, 64)),
            fi.merge_states(*(torch.stack(part, 1) for part in zip(
                *(state(i, i + 8) for i in range(0, 64, 8)))))):
    close(got[0], want, torch.float32)
    close(got[1], logarithms, torch.float32)
# More states than one program merges, most of them empty.
rows, lse = state(0, 64)
rows = torch.stack([torch.full_like(rows, 7.0)] * 99 + [rows], 1)
lse = torch.stack([torch.full_like(lse, -math.inf)] * 99 + [lse], 1)
got = fi.merge_states(rows, lse)
close(got[0], want, torch.float32)
close(got[1], logarithms, torch.float32)
got = fi.merge_states(rows[:, 99:], lse[:, 99:])
assert torch.equal(got[0], rows[:, 99]) and torch.equal(got[1], lse[:, 99])
for mask in (None, torch.tensor([True, False, True, False], device=DEVICE)):
    rows, lse = state(0, 20)
    before = rows.clone(), lse.clone()
    fi.merge_state_in_place(rows, lse, *state(20, 64), mask)
    for t in range(4):
        if mask is None or mask[t]:
            close(rows[t], want[t], torch.float32)
            close(lse[t], logarithms[t], torch.float32)
        else:
            assert torch.equal(rows[t], before[0][t])
            assert torch.equal(lse[t], before[1][t])

# ---- In a compiled function, which they interrupt

case = Case(lengths=(21, 40), new=(1, 1))
plan_of = fi.BatchDecodeWithPagedKVCacheWrapper(workspace())
plan_of.plan(*case.lists, *case.sizes, q_data_type=torch.float32)


def step(query, key, value, keys, values):
    fi.append_paged_kv_cache(key * 2, value, ints([0, 1]), ints([20, 39]),
                             (keys, values), case.indices, case.indptr, case.last)
    return plan_of.run(query * 2, (keys, values), return_lse=True)


rows = normal(2, 2, 64), normal(2, 2, 64)
results = []
for function in (step, torch.compile(step, backend="aot_eager")):
    pools = case.keys.clone(), case.values.clone()
    results.append((*function(case.query, *rows, *pools), *pools))
assert all(map(torch.equal, *results))
assert not torch.equal(results[0][2], case.keys)

# ---- Programs for a GPU, also where there is none

for strides in ((16384, 1024, 128, 1), (1048576, 256, 4096, 1)):  # NHD, BHLNC
    order = _paged.order_of("BNHD", (4, 16, 8, 128), strides)
    pages = _paged.Pages((16, 8, 128), strides, tuple(order), 16, "bf16")
    rows = "memref<?x{}x128xbf16, strided<[6144, 128, 1], offset: ?>>"
    form = _paged.Attention(pages, pages, rows.format(32), "memref<?x32x128xbf16>",
                            32, True, 129, 30.0, 0.08, True, True, "NH")
    _paged.attention(form, "sm_90a")
    _paged.append(pages, pages, rows.format(8), rows.format(8), "sm_90a")
_paged.table(16, "sm_90a")
_paged.merge((rows.format(32),) * 3, "memref<?x32x128xbf16>", 32, "sm_90a")

# ---- What is refused

case = Case()
pool = (case.keys, case.values)
decode = fi.BatchDecodeWithPagedKVCacheWrapper(workspace())
assert raises(RuntimeError, decode.run, case.query, pool) == (
    "plan() was not called")
for name, options in (
        ("pos_encoding_mode", {"pos_encoding_mode": "ROPE_LLAMA"}),
        ("kv_data_type", {"kv_data_type": torch.int8}),
        ("window_right", {"window_right": 3}),
        ("use_token_head_sf", {"use_token_head_sf": True})):
    assert raises(NotImplementedError, plan, case, **options).startswith(name)
raises(TypeError, plan, case, no_such_option=1)
assert raises(ValueError, fi.BatchDecodeWithPagedKVCacheWrapper, workspace(),
              "HDN") == "kv_layout: expected NHD or HND, got 'HDN'"
raises(ValueError, fi.BatchDecodeWithPagedKVCacheWrapper, workspace(), "NHD",
       True)
raises(NotImplementedError, fi.BatchDecodeWithPagedKVCacheWrapper, workspace(),
       jit_args=["x"])
plan(case)
for options in ({"kv_cache_sf": pool}, {"skip_softmax_threshold_scale_factor": 1}):
    assert raises(NotImplementedError, decode.run, case.query, pool,
                  **options).startswith(next(iter(options)))
for name in ("q_scale", "k_scale", "v_scale"):
    assert raises(NotImplementedError, decode.run, case.query, pool,
                  **{name: torch.ones(8)}) == (
        f"{name}: expected one number, got [8]")
assert "expected 4 rows, 1 for each request, as planned, got 3" in raises(
    ValueError, decode.run, case.query[:3], pool)
assert raises(ValueError, decode.run, case.query.half(), pool) == (
    "q: expected torch.float32, as planned, got torch.float16")
assert raises(ValueError, decode.run, case.query[0], pool).startswith(
    "q: expected ")
assert "keys: expected pages of 16 tokens, 2 heads and 64 channels" in raises(
    ValueError, decode.run, case.query, [swapped(side) for side in pool])
assert "expected keys and values, or a tensor [pages, 2, ...]" in raises(
    ValueError, decode.run, case.query, case.keys)
assert "expected 4 entries of indptr for 3" in raises(
    ValueError, decode.plan, case.indptr, case.indices, case.last[:3],
    *case.sizes)
prefill = fi.BatchPrefillWithPagedKVCacheWrapper(workspace())
mask = torch.ones(9, dtype=torch.bool)
for name in ("custom_mask", "packed_custom_mask", "prefix_len_ptr",
             "token_pos_in_items_ptr", "max_item_len_ptr"):
    assert raises(NotImplementedError, prefill.plan, case.starts, *case.lists,
                  *case.sizes, **{name: mask}).startswith(name)
prefill.plan(case.starts, *case.lists, *case.sizes, q_data_type=torch.float32)
assert raises(ValueError, prefill.run, case.query, pool, lse_base="log10") == (
    "lse_base: expected log2 or ln, got 'log10'")
raises(ValueError, prefill.plan, case.starts[:3], *case.lists, *case.sizes)
