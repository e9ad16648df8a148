# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# REQUIRES: transformers
# RUN: %transformers_python %s %kvcache_src
"""Small models of random weights with kvcache.transformers give the logits and
the tokens of transformers' own attention. They run on the GPU with `cuda` as the
second argument."""

import os
import re
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from kvcache.transformers import PagedCache, _mask
from programs import raises, use_new_cache
from transformers import AutoModelForCausalLM, DynamicCache, masking_utils

cache = use_new_cache()
DEVICE = sys.argv[2] if len(sys.argv) > 2 else "cpu"
torch.backends.cuda.matmul.allow_tf32 = False
SIZES = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=4,
             num_attention_heads=4, num_key_value_heads=2, head_dim=32,
             vocab_size=128, pad_token_id=0, bos_token_id=1, eos_token_id=None,
             max_position_embeddings=256)
PADDING = 6


def make(name, dtype=torch.float32, **options):
    """Weights that matter: a wrong window or scale changes tokens."""
    torch.manual_seed(1)
    config = getattr(transformers, name)(**{**SIZES, **options})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for weights in model.parameters():
        weights.data.normal_(0, 0.2)
    return model.to(DEVICE, dtype).eval()


def prompt():
    ids = torch.randint(2, 128, (2, 45)).to(DEVICE)
    mask = torch.ones_like(ids)
    ids[0, :PADDING], mask[0, :PADDING] = 0, 0
    return ids, mask


def logits(model, cache, ids, mask):
    """Of a prompt in two chunks, and of two tokens one by one."""
    parts = []
    for first, end in ((0, 30), (30, 43), (43, 44), (44, 45)):
        with torch.no_grad():
            positions = (mask[:, :end].cumsum(1) - 1).clamp(min=0)[:, first:]
            out = model(ids[:, first:end], attention_mask=mask[:, :end],
                        position_ids=positions, past_key_values=cache)
        parts.append(out.logits)
    return torch.cat(parts, 1)


def check(model, tolerance=2e-4, block_size=16, layout="BLNHC"):
    config = model.config
    options = dict(blocks=2 * -(-60 // block_size), block_size=block_size,
                   layout=layout)
    ids, mask = prompt()
    arguments = dict(attention_mask=mask, max_new_tokens=12, do_sample=False)
    model.set_attn_implementation("eager")
    want = logits(model, DynamicCache(config=config), ids, mask)
    tokens = model.generate(ids, **arguments)
    model.set_attn_implementation("kvcache")
    got = logits(model, PagedCache(config, **options), ids, mask)
    is_token = mask.bool()
    scale = want.abs().max()
    difference = (got - want)[is_token].abs().max() / scale
    assert difference < tolerance, (type(model).__name__, difference)
    if model.dtype == torch.float32:
        paged = PagedCache(config, **options)
        assert torch.equal(
            model.generate(ids, **arguments, past_key_values=paged), tokens)


# ---- Models: windows, caps, scales, sinks

check(make("LlamaConfig"))
check(make("LlamaConfig", num_key_value_heads=4), layout="LBHNC")
check(make("LlamaConfig", dtype=torch.bfloat16), tolerance=3e-2, block_size=8,
      layout="cross_layer_nhd")
check(make("Qwen3Config"), block_size=4, layout="BHLNC")
check(make("MistralConfig", sliding_window=9))
check(make("Gemma2Config", sliding_window=9, attn_logit_softcapping=2.0,
           query_pre_attn_scalar=50))
check(make("Gemma3TextConfig", sliding_window=9))
check(make("GptOssConfig", sliding_window=9, num_local_experts=4,
           num_experts_per_tok=2))

# ---- The example of the page

page = Path(sys.argv[1], "docs", "python.md").read_text()
examples = [block for block in re.findall(r"```python\n(.*?)```", page, re.S)
            if "kvcache.transformers" in block]
assert len(examples) == 1
exec(compile(examples[0], "docs/python.md", "exec"), {})

# ---- A cache that is used again, and cut

model = make("LlamaConfig")
config = model.config
ids, mask = prompt()
model.set_attn_implementation("eager")
want = logits(model, DynamicCache(config=config), ids, mask)
model.set_attn_implementation("kvcache")
paged = PagedCache(config, blocks=6)
for _ in range(2):
    got = logits(model, paged, ids, mask)
    torch.testing.assert_close(got[mask.bool()], want[mask.bool()], rtol=1e-3,
                               atol=1e-2)
    assert paged.get_seq_length() == 45 and paged.lengths == [39, 45]
    paged.reset()
    assert paged.get_seq_length() == 0
logits(model, paged, ids, mask)
paged.crop(-5)
with torch.no_grad():
    out = model(ids[:, 40:], attention_mask=mask, past_key_values=paged,
                position_ids=(mask.cumsum(1) - 1)[:, 40:]).logits
torch.testing.assert_close(out, want[:, 40:], rtol=1e-3, atol=1e-2)

# ---- Masks: causal ones, and windows

for function, size in (
        (masking_utils.causal_mask_function, None),
        (masking_utils.sliding_window_causal_mask_function(9), 9),
        (masking_utils.sliding_window_causal_mask_function(1), 1)):
    assert _mask(mask, function, size) is mask
    assert _mask(None, function, size) is None
for function, size, skips in (
        (masking_utils.bidirectional_mask_function, None, True),
        (masking_utils.chunked_causal_mask_function(
            9, torch.zeros(1, dtype=torch.long)), 9, True),
        (masking_utils.causal_mask_function, None, False)):  # packed sequences
    assert "no masks but the causal one" in raises(
        NotImplementedError, _mask, mask, function, size, skips)
chunked = make("Llama4TextConfig", attention_chunk_size=8, num_local_experts=2,
               intermediate_size_mlp=64, interleave_moe_layer_step=4)
chunked.set_attn_implementation("kvcache")
with torch.no_grad():
    text = raises(NotImplementedError, chunked, ids,
                  past_key_values=PagedCache(chunked.config, blocks=9))
assert "no masks but the causal one" in text, text

# ---- Errors

with torch.no_grad():
    text = raises(RuntimeError, logits, model, PagedCache(config, blocks=2), ids,
                  mask)
    assert text.startswith("the 2 blocks of the cache are in use"), text
    text = raises(ValueError, model, ids)
    assert "needs past_key_values=kvcache.transformers.PagedCache" in text, text
    on_the_right = mask.flip(1)
    text = raises(ValueError, model, ids, attention_mask=on_the_right,
                  past_key_values=PagedCache(config, blocks=9))
    assert text == "attention_mask: expected padding on the left alone"
    text = raises(ValueError, model, ids[:1], past_key_values=paged)
    assert text.startswith("expected the requests, heads, channels"), text
    text = raises(NotImplementedError, paged.reorder_cache, torch.tensor([1, 0]))
    assert "no beams" in text, text
text = raises(NotImplementedError, model, ids,
              past_key_values=PagedCache(config, blocks=9))
assert "no gradients" in text, text
