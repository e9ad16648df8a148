# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Tiny models of the shapes that vLLM knows, with random weights that are large
enough for attention to decide which token comes next."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM

SIZES = dict(vocab_size=1024, hidden_size=256, intermediate_size=512,
             num_attention_heads=4, num_key_value_heads=2, head_dim=64,
             max_position_embeddings=4096, bos_token_id=1, eos_token_id=2,
             pad_token_id=0)
ALTERNATING = dict(num_hidden_layers=4, sliding_window=48,
                   layer_types=["sliding_attention", "full_attention"] * 2)
# Names are those of the folders.
MODELS = {
    "llama": dict(model_type="llama", num_hidden_layers=4),
    "qwen3": dict(model_type="qwen3", num_hidden_layers=3),
    "gemma2": dict(model_type="gemma2", attn_logit_softcapping=20.0,
                   final_logit_softcapping=30.0, query_pre_attn_scalar=64,
                   **ALTERNATING),
    "gemma3": dict(model_type="gemma3_text", query_pre_attn_scalar=64,
                   **ALTERNATING),
    # Attention sinks.
    "gpt_oss": dict(model_type="gpt_oss", num_local_experts=4,
                    num_experts_per_tok=2, rope_scaling={
                        "rope_type": "yarn", "factor": 2.0, "beta_fast": 32.0,
                        "beta_slow": 1.0, "truncate": False,
                        "original_max_position_embeddings": 2048},
                    **ALTERNATING),
    # The last two layers read the caches of earlier ones.
    "gemma3n": dict(model_type="gemma3n_text", vocab_size_per_layer_input=1024,
                    hidden_size_per_layer_input=32, laurel_rank=16,
                    altup_num_inputs=2, num_kv_shared_layers=2,
                    num_hidden_layers=6, sliding_window=48,
                    activation_sparsity_pattern=[0.0] * 6,
                    layer_types=["sliding_attention", "full_attention"] * 3),
}


def write(name, folder):
    """Writes a model of MODELS with its weights."""
    torch.manual_seed(7)
    options = dict(SIZES, **MODELS[name])
    config = AutoConfig.for_model(options.pop("model_type"), **options)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    # Whose norms are 1 + weight.
    is_gemma = config.model_type in ("gemma2", "gemma3_text")
    with torch.no_grad():
        for part, weight in model.named_parameters():
            if weight.dim() < 2:
                weight.normal_(0 if is_gemma else 1, 0.05)
            elif "embed" in part and config.tie_word_embeddings:
                weight.normal_(0, 0.004 if is_gemma else 0.02)
            else:
                weight.normal_(0, 0.15)
    model.save_pretrained(folder)
