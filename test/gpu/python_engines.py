# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Parts of test_python.py: kvcache.flashinfer, kvcache.transformers, and
kvcache.jax."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# In a bundle, or in the source.
TESTS = next(folder for folder in (HERE / "test" / "Python",
                                   HERE.parent / "Python") if folder.is_dir())


def run_test(name, *arguments):
    """A test of test/Python in a process of its own."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, str(TESTS / name), *arguments], check=True,
                   stdout=sys.stderr, env=environment)


def run_sections(device, *titles, dtype=None):
    """Sections of the test of the wrappers, each with what it needs of those
    before, and of a loop over three types one: the whole compiles programs for
    minutes."""
    text = (TESTS / "flashinfer_calls.py").read_text()
    if dtype:
        every = "(torch.float32, torch.bfloat16, torch.float16)"
        assert every in text
        text = text.replace(every, f"(torch.{dtype},)")
    head, *sections = text.split("\n# ---- ")
    needed = """
case = Case(lengths=(37, 5, 1, 64))
pool = (case.keys, case.values)
decode = fi.BatchDecodeWithPagedKVCacheWrapper(workspace())
sinks = normal(8)
def plan(case, **options):
    decode.plan(*case.lists, *case.sizes, q_data_type="float32", **options)
"""
    chosen = [section for section in sections
              if section.startswith(titles)]
    assert len(chosen) == len(titles), titles
    sys.path.insert(0, str(TESTS))
    sys.argv = ["flashinfer_calls.py", device]
    exec(compile("\n".join([head, needed, *("# " + one for one in chosen)]),
                 "flashinfer_calls.py", "exec"), {"__name__": "__main__"})


def part_flashinfer_caches_f32(device):
    run_sections(device, "Decode: what a cache may look like", dtype="float32")


def part_flashinfer_caches_bf16(device):
    run_sections(device, "Decode: what a cache may look like", dtype="bfloat16")


def part_flashinfer_caches_f16(device):
    run_sections(device, "Decode: what a cache may look like", dtype="float16")


def part_flashinfer_options(device):
    run_sections(device, "Decode: options")


def part_flashinfer_bytes(device):
    run_sections(device, "Pages of bytes")


def part_flashinfer_in_place(device):
    run_sections(device, "Lists that stay in place")


def part_flashinfer_prefill(device):
    run_sections(device, "Prefill")


def part_flashinfer_writes(device):
    run_sections(device, "Writing", "Merging", "In a compiled function")


def part_flashinfer_refused(device):
    run_sections(device, "What is refused")


def part_flashinfer_graph(device):
    """A step with the wrapper for graphs, captured, planned again and replayed;
    plans and pages on a stream."""
    import math

    import kvcache.flashinfer as fi
    import torch
    if device != "cuda":
        return
    torch.manual_seed(2)
    heads, kv_heads, dim, page, pages = 16, 4, 128, 16, 400

    def ints(values):
        return torch.tensor(values, dtype=torch.int32, device=device)

    keys, values = (torch.randn(pages, page, kv_heads, dim,
                                device=device).bfloat16() for _ in range(2))
    query = torch.randn(6, heads, dim, device=device).bfloat16()
    new = torch.randn(2, 6, kv_heads, dim, device=device).bfloat16()

    def lists(lengths):
        counts = [-(-n // page) for n in lengths]
        order = torch.randperm(pages).tolist()
        return (ints([sum(counts[:r]) for r in range(7)]),
                ints(order[:sum(counts)]),
                ints([(n - 1) % page + 1 for n in lengths]))

    def expected(lengths, indptr, indices):
        out = torch.zeros(query.shape, dtype=torch.float64, device=device)
        for r, length in enumerate(lengths):
            own = indices[indptr[r]:indptr[r + 1]].long()
            k, v = (side[own].flatten(0, 1)[:length].double().repeat_interleave(
                heads // kv_heads, 1) for side in (keys, values))
            x = torch.einsum("hd,jhd->hj", query[r].double(), k) / math.sqrt(dim)
            out[r] = torch.einsum("hj,jhd->hd", x.softmax(1), v)
        return out

    workspace = torch.empty(1 << 20, dtype=torch.uint8, device=device)
    buffers = [torch.zeros(n, dtype=torch.int32, device=device)
               for n in (7, pages, 6)]
    decode = fi.CUDAGraphBatchDecodeWithPagedKVCacheWrapper(workspace, *buffers)
    rows = torch.arange(6, device=device, dtype=torch.int32)
    positions = torch.zeros(6, dtype=torch.int32, device=device)

    def step():
        fi.append_paged_kv_cache(new[0], new[1], rows, positions, (keys, values),
                                 buffers[1], buffers[0], buffers[2])
        return decode.run(query, (keys, values))

    def plan(lengths):
        indptr, indices, last = lists(lengths)
        decode.plan(indptr, indices, last, heads, kv_heads, dim, page,
                    q_data_type=torch.bfloat16)
        positions.copy_(ints([n - 1 for n in lengths]))
        return indptr, indices

    plan([100] * 6)
    step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = step()
    for turn in range(10):
        lengths = torch.randint(1, 1000, (6,)).tolist()
        indptr, indices = plan(lengths)
        query.normal_()
        new.normal_()
        out.fill_(float("nan"))
        graph.replay()
        torch.cuda.synchronize()
        error = (out.double() - expected(lengths, indptr, indices)).abs().max()
        assert error < 3e-2, f"turn {turn}: error {error:.3g}"
    # The same on a stream of its own, behind late data.
    stream = torch.cuda.Stream()
    want = out.clone()
    kept = query.clone()
    query.zero_()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        query.copy_(kept)
        got = step()
    stream.synchronize()
    assert torch.equal(got, want), "not on the current stream"


def part_transformers(device):
    """The whole test of models of random weights."""
    run_test("transformers_models.py", str(TESTS.parents[1]), device)


MODELS = (("LlamaConfig", {}),
          ("Gemma2Config", dict(sliding_window=9, attn_logit_softcapping=2.0)),
          ("GptOssConfig", dict(sliding_window=9, num_local_experts=4,
                                num_experts_per_tok=2)))


def tokens_of(model, ids, mask, count, paged=None):
    import torch
    with torch.no_grad():
        return model.generate(ids, attention_mask=mask, max_new_tokens=count,
                              do_sample=False, past_key_values=paged)


def part_transformers_half(device):
    """Tokens in bf16 and f16: how many requests have those of eager attention,
    and the gap of the logits where others part."""
    import torch
    import transformers
    from kvcache.transformers import PagedCache
    sizes = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=4,
                 num_attention_heads=4, num_key_value_heads=2, head_dim=64,
                 vocab_size=256, pad_token_id=0, bos_token_id=1,
                 eos_token_id=None, max_position_embeddings=512)
    found = {}
    for name, options in MODELS:
        torch.manual_seed(1)
        config = getattr(transformers, name)(**{**sizes, **options})
        model = transformers.AutoModelForCausalLM.from_config(
            config, attn_implementation="eager")
        for weights in model.parameters():
            weights.data.normal_(0, 0.2)
        for dtype in (torch.bfloat16, torch.float16):
            model = model.to(device, dtype).eval()
            ids = torch.randint(2, 256, (8, 40), device=device)
            mask = torch.ones_like(ids)
            ids[0, :6], mask[0, :6] = 0, 0
            model.set_attn_implementation("eager")
            want = tokens_of(model, ids, mask, 12)
            model.set_attn_implementation("kvcache")
            got = tokens_of(model, ids, mask, 12,
                            PagedCache(config, blocks=8 * 4))
            gaps = []
            model.set_attn_implementation("eager")
            for r in range(8):
                apart = (want[r] != got[r]).nonzero()
                if not len(apart):
                    continue
                place = int(apart[0])
                with torch.no_grad():
                    last = model(want[r:r + 1, :place],
                                 attention_mask=torch.cat(
                                     [mask[r], mask.new_ones(12)])[None, :place]
                                 ).logits[0, -1].float().log_softmax(-1)
                gaps.append(float((last[want[r, place]]
                                   - last[got[r, place]]).abs()))
            found[f"{name} {str(dtype)[6:]}"] = {
                "equal": 8 - len(gaps), "of": 8,
                "largest gap": round(max(gaps, default=0), 4)}
            # A router turns a rounding into other experts.
            if name != "GptOssConfig":
                assert max(gaps, default=0) < 0.5, (name, dtype, gaps)
    return found


def part_jax_arrays(device):
    """Arrays of JAX in calls by __dlpack__, which are eager. kvcache.jax is for
    a CPU."""
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    if importlib.util.find_spec("jax") is None:
        return {"not run": "no jax"}
    import jax
    import jax.numpy as jnp
    import kvcache
    import numpy as np
    jax.config.update("jax_enable_x64", True)  # slots
    where = jax.devices()[0]
    if where.platform != ("gpu" if device == "cuda" else "cpu"):
        return {"not run": f"JAX has {where}"}
    attention = kvcache.PagedAttention(8, 2, 64, 16, "f32")
    pool = jnp.zeros(attention.layout.memory_shape(8), jnp.float32) + 0
    pool = pool.transpose([attention.layout.order.index(axis)
                           for axis in attention.layout.axes]) + 0
    rows = [jax.random.normal(jax.random.key(i), (6, n, 64), jnp.float32) for i, n in
            enumerate((8, 2, 2))]
    slots = jnp.arange(34, 40, dtype=jnp.int64) + 0
    # Eight tokens, of which the first two are zeros.
    lists = [jnp.array(values, jnp.int32) for values in
             ([0, 6], [8], [[2]])]
    attention.insert(pool, slots, rows[1], rows[2])
    out = attention.run(rows[0], pool, *lists)
    keys, values = (np.concatenate([np.zeros((2, 2, 64)), np.asarray(part)])
                    for part in rows[1:])
    query, want = np.asarray(rows[0], np.float64), np.zeros((6, 8, 64))
    for row in range(6):
        for head in range(8):
            x = keys[:row + 3, head // 4] @ query[row, head] / 8
            weights = np.exp(x - x.max())
            want[row, head] = weights / weights.sum() @ values[:row + 3,
                                                               head // 4]
    np.testing.assert_allclose(np.asarray(out), want, rtol=1e-4, atol=1e-4)
    return {"jax": jax.__version__}
