# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""vllm_tokens.py MODEL OUT CASE...: the tokens that vLLM generates, as JSON.

A case is DTYPE:BLOCK:LAYOUT, where an empty layout is vLLM's choice, or
DTYPE:BLOCK:LAYOUT:fast, where layers that share a cache get only the rows that
are sampled. Which backend there is depends on VLLM_PLUGINS.
"""

import gc
import json
import os
import random
import sys

os.environ.update(VLLM_CPU_KVCACHE_SPACE="1", VLLM_ENABLE_V1_MULTIPROCESSING="0",
                  HF_HUB_OFFLINE="1", VLLM_LOGGING_LEVEL="ERROR")

from vllm import LLM, SamplingParams
from vllm.distributed import cleanup_dist_env_and_memory

BATCHED_TOKENS = 64


def make_batches():
    """Prompts that end in a block, at its end and after it, are longer than a
    step takes, share a beginning with others, or are asked again."""
    rng = random.Random(5)

    def draw(count):
        return [rng.randrange(3, 1024) for _ in range(count)]

    shared = draw(130)
    prompts = [shared[:prefix] + draw(own) for prefix, own in (
        (130, 7), (130, 61), (64, 1), (0, 5), (0, 200), (128, 100))]
    return [prompts[:1], prompts, prompts[:4]]


def expect_ours(llm):
    """All layers are ours and have the memory of vLLM; from here on, compiling
    is an error."""
    import kvcache.vllm
    context = llm.llm_engine.vllm_config.compilation_config.static_forward_context
    layers = [layer for layer in context.values() if hasattr(layer, "kv_cache")]
    assert layers
    for layer in layers:
        assert isinstance(layer.impl, kvcache.vllm.Attention), layer.impl
        assert layer.impl._pool.data_ptr() == layer.kv_cache.data_ptr()
    kvcache.vllm._library = None


def count_rows():
    """The most rows that a layer with a cache of another one has had."""
    import kvcache.vllm
    most = [0]
    forward = kvcache.vllm.Attention.forward

    def count(self, layer, query, key, value, kv_cache, attn_metadata, *rest,
              **named):
        if self.kv_sharing_target_layer_name and attn_metadata is not None:
            most[0] = max(most[0], int(attn_metadata.starts[-1]))
        return forward(self, layer, query, key, value, kv_cache, attn_metadata,
                       *rest, **named)

    kvcache.vllm.Attention.forward = count
    return most


def expect_options():
    """A 2% error, to show that tokens would tell."""
    if "SCALE_BY" in os.environ:
        import kvcache.vllm
        make = kvcache.vllm.Attention.__init__

        def wrong(self, heads, head_size, scale, *rest, **named):
            make(self, heads, head_size, scale * float(os.environ["SCALE_BY"]),
                 *rest, **named)

        kvcache.vllm.Attention.__init__ = wrong


def run(model, case):
    dtype, block, layout, *fast = case.split(":")
    os.environ.pop("VLLM_KV_CACHE_LAYOUT", None)
    if layout:
        os.environ["VLLM_KV_CACHE_LAYOUT"] = layout
    llm = LLM(model=model, skip_tokenizer_init=True, enforce_eager=True,
              max_model_len=512, dtype=dtype, max_num_seqs=8,
              max_num_batched_tokens=BATCHED_TOKENS, block_size=int(block),
              enable_prefix_caching=True, kv_sharing_fast_prefill=bool(fast))
    used = llm.llm_engine.vllm_config.cache_config.kv_cache_layout
    assert layout in ("", used), used
    if os.environ["VLLM_PLUGINS"]:
        import kvcache.vllm
        library = kvcache.vllm._library
        expect_ours(llm)
        most = count_rows()
    options = SamplingParams(temperature=0, max_tokens=24, detokenize=False,
                             ignore_eos=True, logprobs=5)
    found = []
    for batch in make_batches():
        for done in llm.generate([{"prompt_token_ids": p} for p in batch],
                                 options, use_tqdm=False):
            found.append({"tokens": list(done.outputs[0].token_ids),
                          "best": [{token: p.logprob for token, p in of.items()}
                                   for of in done.outputs[0].logprobs]})
    if os.environ["VLLM_PLUGINS"]:
        kvcache.vllm._library = library
        if "gemma3n" in model:
            assert most[0] <= 8 if fast else most[0] == BATCHED_TOKENS, most
    del llm
    gc.collect()
    cleanup_dist_env_and_memory()
    return found


def main():
    model, out, *cases = sys.argv[1:]
    expect_options()
    found = {}
    for case in cases:
        found[case] = run(model, case)
        with open(out, "w") as file:
            json.dump(found, file)


main()
