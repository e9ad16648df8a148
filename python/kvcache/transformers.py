# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Paged attention for models of the package transformers.

    from kvcache.transformers import PagedCache

    model = AutoModelForCausalLM.from_pretrained(name, attn_implementation="kvcache")
    cache = PagedCache(model.config, blocks=1024)
    model.generate(**inputs, past_key_values=cache)

Importing registers the attention `kvcache`. Keys and values of all layers are in
one pool, in the layout that the cache is made with; the blocks of a request are
taken from the pool as it grows. Prompts may be padded on the left. There are no
gradients, no beams, and no masks but the causal one, with or without a window.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import Cache, CacheLayerMixin

from ._attention import PagedAttention
from ._paged import ELEMENTS

__all__ = ["PagedCache"]

NAME = "kvcache"


class _Step:
    """The lists of one forward pass, the same for all layers."""

    def __init__(self, cache: PagedCache, rows: int, mask: Any, device: Any) -> None:
        requests, size = len(cache.lengths), cache.block_size
        new = [rows] * requests
        if mask is not None:
            new = _count_suffix(mask[:, -rows:])
        before = torch.tensor(cache.lengths)
        cache.grow(new)
        lengths = torch.tensor(cache.lengths)
        table = torch.tensor(cache.table(), dtype=torch.int32)
        places = lengths[:, None] - rows + torch.arange(rows)
        is_new = places >= before[:, None]
        places = places.clamp(min=0)
        slots = table.long().gather(1, places // size) * size + places % size
        self.slots = torch.where(is_new, slots, -1).flatten().to(device)
        self.starts = torch.arange(requests + 1, dtype=torch.int32,
                                   device=device) * rows
        self.lengths = lengths.to(device, torch.int32)
        self.table = table.to(device)


def _count_suffix(mask: Any) -> list:
    """The tokens of each request, which are its last ones."""
    counts = mask.sum(1)
    is_last = torch.arange(mask.shape[1], device=mask.device) \
        >= mask.shape[1] - counts[:, None]
    if not torch.equal(mask.bool(), is_last):
        raise ValueError("attention_mask: expected padding on the left alone")
    return counts.tolist()


class _Layer(CacheLayerMixin):
    """One layer of a PagedCache. Rows are written by the attention that follows,
    which knows what is padding."""

    is_sliding = False
    is_croppable = True

    def __init__(self, cache: PagedCache, index: int) -> None:
        super().__init__()
        self.cache, self.index = cache, index
        self.seen = 0  # with padding
        self.rows: Any = None

    def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
        self.is_initialized = True

    def update(self, key_states: Any, value_states: Any, *args: Any,
               **options: Any) -> tuple:
        self.cache.begin(key_states, value_states)
        self.lazy_initialization(key_states, value_states)
        self.seen += key_states.shape[-2]
        self.rows = (key_states, value_states)
        key_states.kvcache_layer = self
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple:
        return self.seen + query_length, 0

    def get_seq_length(self) -> int:
        return self.seen

    def get_max_length(self) -> int:
        return -1

    def reset(self) -> None:
        self.seen = 0
        self.cache.lengths = [0] * len(self.cache.lengths)
        self.cache.step = None

    def crop(self, tokens_to_remove: int) -> None:
        if tokens_to_remove > 0:
            raise ValueError("crop: expected a negative number of tokens")
        self.seen += tokens_to_remove
        if self.index == 0:
            self.cache.lengths = [max(0, length + tokens_to_remove)
                                  for length in self.cache.lengths]
        self.cache.step = None

    def _refuse(self, *args: Any, **options: Any) -> None:
        raise NotImplementedError("a PagedCache has no beams, and stays on its "
                                  "device")

    reorder_cache = batch_repeat_interleave = batch_select_indices = _refuse
    offload = prefetch = _refuse


class PagedCache(Cache):
    """A cache of `blocks` blocks of `block_size` tokens for all layers of a model.
    `layout` is an order of axes, as for kvcache.Layout."""

    def __init__(self, config: Any, blocks: int, block_size: int = 16,
                 layout: Any = "BLNHC") -> None:
        config = config.get_text_config(decoder=True)
        count = config.num_hidden_layers
        self.block_size = block_size
        self.lengths: list = []  # of requests, without padding
        self.pool: Any = None
        self.step: Optional[tuple] = None
        self._like: Any = None  # requests, heads, channels, elements
        self._order = layout
        self._free = list(range(blocks - 1, -1, -1))
        self._blocks, self._owned = blocks, []  # of each request
        self._attentions: dict = {}
        super().__init__(layers=[_Layer(self, index) for index in range(count)])

    def begin(self, keys: Any, values: Any) -> None:
        """Makes the pool, for keys and values like these, if there is none."""
        requests, heads, _, dim = keys.shape
        got = (requests, heads, dim, ELEMENTS.get(keys.dtype))
        if values.shape != keys.shape or got[3] is None:
            raise ValueError(
                "expected keys and values of the same extents, of bfloat16, "
                f"float16 or float32, got {list(keys.shape)} and "
                f"{list(values.shape)} of {keys.dtype}")
        if self._like is not None:
            if got != self._like:
                raise ValueError(
                    "expected the requests, heads, channels and elements of the "
                    f"first layer, {self._like}, got {got}")
            return
        self._like = got
        self.lengths = [0] * requests
        self._owned = [[] for _ in range(requests)]
        layout = self._attention(heads).layout
        self.pool = layout.zeros(self._blocks, device=keys.device)

    def grow(self, new: list) -> None:
        """Adds tokens to each request, with blocks for them."""
        lengths = [length + count for length, count in zip(self.lengths, new)]
        more = [max(0, -(-length // self.block_size) - len(owned))
                for length, owned in zip(lengths, self._owned)]
        if sum(more) > len(self._free):
            raise RuntimeError(
                f"the {self._blocks} blocks of the cache are in use: expected "
                "blocks= for the tokens of all requests")
        self.lengths = lengths
        for owned, count in zip(self._owned, more):
            owned += [self._free.pop() for _ in range(count)]

    def table(self) -> list:
        width = max(1, *map(len, self._owned))
        return [owned + [-1] * (width - len(owned)) for owned in self._owned]

    def _attention(self, heads: int, **options: Any) -> PagedAttention:
        """One for all layers with these options."""
        key = (heads, *options.values())
        found = self._attentions.get(key)
        if found is None:
            _, kv_heads, dim, element = self._like
            found = PagedAttention(heads, kv_heads, dim, self.block_size, element,
                                   self._order, layers=len(self.layers),
                                   **options)
            self._attentions[key] = found
        return found

    def attend(self, layer: _Layer, query: Any, mask: Any, sinks: Any,
               **options: Any) -> Any:
        """Writes the rows of a layer, and attends with [B, heads, T, D]."""
        requests, heads, rows, dim = query.shape
        if self.step is None or self.step[0] != layer.seen:
            self.step = (layer.seen, _Step(self, rows, mask, query.device))
        step = self.step[1]
        attention = self._attention(heads, sinks=sinks is not None, **options)
        query, key, value = (part.transpose(1, 2).flatten(0, 1)
                             for part in (query, *layer.rows))
        layer.rows = None
        attention.insert(self.pool, step.slots, key, value, layer=layer.index)
        extra = {} if sinks is None else {"sinks": sinks.float().contiguous()}
        out = attention.run(query, self.pool, step.starts, step.lengths,
                            step.table, layer=layer.index, **extra)
        return out.view(requests, rows, heads, dim)


def attention(module: Any, query: Any, key: Any, value: Any, attention_mask: Any,
              dropout: float = 0.0, scaling: Optional[float] = None,
              sliding_window: Optional[int] = None,
              softcap: Optional[float] = None, is_causal: Optional[bool] = None,
              s_aux: Any = None, position_bias: Any = None,
              **options: Any) -> tuple:
    """The attention that transformers calls."""
    layer = getattr(key, "kvcache_layer", None)
    if layer is None:
        raise ValueError("the attention 'kvcache' needs past_key_values="
                         "kvcache.transformers.PagedCache(config, blocks=...)")
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    if dropout or not is_causal or position_bias is not None:
        raise NotImplementedError("the attention 'kvcache' is causal, without "
                                  "dropout and position_bias")
    if torch.is_grad_enabled() and query.requires_grad:
        raise NotImplementedError("the attention 'kvcache' has no gradients: call "
                                  "the model under torch.no_grad()")
    out = layer.cache.attend(layer, query, attention_mask, s_aux, scale=scaling,
                             window=sliding_window, softcap=softcap)
    return out, None


def _mask(attention_mask: Any = None, mask_function: Any = None,
          local_size: Optional[int] = None, allow_is_causal_skip: bool = True,
          **options: Any) -> Any:
    """Which tokens are padding, if any is: the rest follows from lengths. A mask
    that is not causal, or adds to it what is no window, is found by what it shows
    of a few tokens."""
    def sees(row: int, token: int) -> bool:
        return bool(mask_function(*map(torch.tensor, (0, 0, row, token))))

    is_plain = allow_is_causal_skip
    if mask_function is not None and is_plain:
        is_plain = sees(1, 0 if local_size != 1 else 1) and not sees(0, 1)
        if local_size is not None and local_size > 1:  # not one of chunks
            is_plain = is_plain and sees(local_size, local_size - 1)
    if not is_plain:
        raise NotImplementedError("the attention 'kvcache' has no masks but the "
                                  "causal one, with or without a window")
    return attention_mask


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _mask)
