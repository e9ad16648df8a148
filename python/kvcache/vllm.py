# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""An attention backend for vLLM, which takes every layout of its cache.

vLLM finds `register` by the entry point `vllm.general_plugins`; docs/vllm.md
says what it takes over.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Optional

import torch
from vllm.config import get_layers_from_vllm_config
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.distributed.parallel_state import get_dcp_group
from vllm.v1.attention.backend import (
    AttentionBackend, AttentionCGSupport, AttentionImpl,
    AttentionMetadataBuilder, AttentionType, MultipleOf)
from vllm.v1.attention.backends.utils import get_dcp_local_seq_lens

from ._attention import PagedAttention
from ._layout import Layout
from ._library import Library
from ._paged import ELEMENTS

_CACHEELEMENTS = ["auto", "float16", "bfloat16", "float32"]


def register() -> None:
    """Makes this the backend of vLLM on a CPU, and CUSTOM on a GPU."""
    from vllm.platforms import current_platform
    from vllm.v1.attention.backends.registry import (
        AttentionBackendEnum, register_backend)
    if current_platform.is_cpu():
        # On a CPU vLLM asks for this name, whatever was chosen.
        register_backend(AttentionBackendEnum.CPU_ATTN,
                         f"{__name__}.{Backend.__name__}")
    elif current_platform.is_cuda():
        register_backend(AttentionBackendEnum.CUSTOM,
                         f"{__name__}.{CustomBackend.__name__}")


class Backend(AttentionBackend):
    """What vLLM asks about the kernels."""

    forward_includes_kv_cache_update = False
    supported_dtypes: ClassVar[list] = list(ELEMENTS)
    supported_kv_cache_dtypes: ClassVar[list] = _CACHEELEMENTS

    @staticmethod
    def get_name() -> str:
        return "CPU_ATTN"

    @staticmethod
    def get_impl_cls() -> type:
        return Attention

    @staticmethod
    def get_builder_cls() -> type:
        return MetadataBuilder

    @staticmethod
    def get_supported_kernel_block_sizes(kv_cache_spec: Any = None) -> list:
        return [MultipleOf(1)]

    @classmethod
    def supported_kv_cache_layouts(cls) -> None:
        return None  # any

    @classmethod
    def supports_sink(cls) -> bool:
        return True

    @classmethod
    def supports_sliding_window(cls) -> bool:
        return True


class CustomBackend(Backend):
    """The same under the name by which it is chosen on a GPU."""

    @staticmethod
    def get_name() -> str:
        return "CUSTOM"


@dataclass
class Metadata:
    """A batch, for all layers of a group. Lists of requests may be longer than
    the batch: padding has no rows."""

    starts: torch.Tensor
    lengths: torch.Tensor
    block_table: torch.Tensor
    # The last token that each row sees, among those of this rank of decode
    # context parallelism.
    positions: Optional[torch.Tensor] = None


class MetadataBuilder(AttentionMetadataBuilder):
    """Passes lists on as they are, so that any captured graph may be replayed
    on new entries."""

    _cudagraph_support = AttentionCGSupport.ALWAYS
    supports_update_block_table = True

    def __init__(self, kv_cache_spec: Any, layer_names: list, vllm_config: Any,
                 device: torch.device) -> None:
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)
        layer_type: Any = AttentionLayerBase
        layers = get_layers_from_vllm_config(vllm_config, layer_type, layer_names)
        for layer in layers.values():
            if isinstance(getattr(layer, "impl", None), Attention):
                layer.bind_kv_cache = functools.partial(_bind, layer)

    def build(self, common_prefix_len: int, common_attn_metadata: Any,
              fast_build: bool = False) -> Metadata:
        batch = common_attn_metadata
        if batch.causal is not True:
            raise NotImplementedError("kvcache: attention that is not causal")
        shared = Metadata(batch.query_start_loc, batch.seq_lens,
                          batch.block_table_tensor)
        parallel = self.vllm_config.parallel_config
        if parallel.decode_context_parallel_size == 1:
            return shared
        return _on_this_rank(shared, batch.positions,
                             parallel.cp_kv_cache_interleave_size)

    def update_block_table(self, metadata: Metadata, blk_table: torch.Tensor,
                           slot_mapping: torch.Tensor) -> Metadata:
        return replace(metadata, block_table=blk_table)


def _on_this_rank(batch: Metadata, positions: Optional[torch.Tensor],
                  interleave: int) -> Metadata:
    """The batch over the tokens that this rank of decode context parallelism
    keeps. The others are not missing from its blocks: tokens follow each other
    there, so that a row's position is that of the last one it may see."""
    group = get_dcp_group()

    def kept(tokens: torch.Tensor) -> torch.Tensor:
        return get_dcp_local_seq_lens(tokens, group.world_size,
                                      group.rank_in_group, interleave)

    if positions is None:
        rows = batch.starts.diff()
        first = (batch.lengths - batch.starts[1:]).repeat_interleave(rows)
        positions = first + torch.arange(len(first), device=first.device)
    return replace(batch, lengths=kept(batch.lengths),
                   positions=kept(positions + 1).to(torch.int64) - 1)


def _merge_over_ranks(out: torch.Tensor, lse: torch.Tensor) -> torch.Tensor:
    """Attention over all tokens, of the heads of this rank."""
    group = get_dcp_group()
    every = group.all_gather(lse.unsqueeze(0), dim=0)
    share = torch.exp(lse - every.logsumexp(0))
    share = share.nan_to_num_(0)  # rows of padding, which see no token
    return group.reduce_scatter(out * share.unsqueeze(-1).to(out.dtype), dim=1)


def _bind(layer: Any, kv_cache: torch.Tensor) -> None:
    """Compiles when a layer gets its cache, before anything is served."""
    type(layer).bind_kv_cache(layer, kv_cache)
    layer.impl.bind(kv_cache)


class Attention(AttentionImpl):
    """The attention of one layer."""

    can_return_lse_for_decode = True
    lse_base_on_e = True
    supports_dcp = True

    def __init__(self, num_heads: int, head_size: int, scale: float,
                 num_kv_heads: Optional[int] = None,
                 alibi_slopes: Optional[list] = None,
                 sliding_window: Optional[int] = None,
                 kv_cache_dtype: str = "auto",
                 logits_soft_cap: Optional[float] = None,
                 attn_type: str = AttentionType.DECODER,
                 kv_sharing_target_layer_name: Optional[str] = None,
                 sinks: Optional[torch.Tensor] = None) -> None:
        if attn_type != AttentionType.DECODER:
            raise NotImplementedError(_instead(f"attention of type {attn_type}"))
        if kv_cache_dtype not in _CACHEELEMENTS:
            raise NotImplementedError(_instead(f"a cache of {kv_cache_dtype}"))
        self.num_heads, self.head_size = num_heads, head_size
        self.num_kv_heads = num_kv_heads or num_heads
        self.scale = float(scale)
        self.sliding_window = sliding_window
        self.logits_soft_cap = logits_soft_cap or None
        self.kv_cache_dtype = kv_cache_dtype
        self.kv_sharing_target_layer_name = kv_sharing_target_layer_name
        self.alibi_slopes, self.sinks = alibi_slopes, sinks
        # Here, where the device of the model is the default one: it is the CPU
        # again when weights have been loaded.
        self._slopes = (None if alibi_slopes is None else
                        torch.tensor(alibi_slopes, dtype=torch.float32))
        if self.dcp_world_size > 1 and (sliding_window or alibi_slopes
                                        or sinks is not None):
            raise NotImplementedError("kvcache: windows, slopes or sinks with "
                                      "decode context parallelism")
        self._lists: tuple = ()  # a number for each head
        self._cache: Optional[torch.Tensor] = None

    def process_weights_after_loading(self, act_dtype: torch.dtype) -> None:
        lists = []
        if self._slopes is not None:
            lists.append(self._slopes)
        if self.sinks is not None:
            lists.append(self.sinks.detach().to(torch.float32).contiguous())
        self._lists = tuple(lists)

    def bind(self, kv_cache: torch.Tensor) -> None:
        """Makes the functions for a cache [B, H, N, C] of any strides."""
        if kv_cache.dtype not in ELEMENTS:
            raise NotImplementedError(_instead(f"a cache of {kv_cache.dtype}"))
        pool = _as_pool(kv_cache, self.head_size)
        dtype = ELEMENTS[kv_cache.dtype]
        is_split = self.dcp_world_size > 1
        library = _library(
            self.num_heads * self.dcp_world_size, Layout.of(pool, dtype),
            pool.device.type, window=self.sliding_window,
            softcap=self.logits_soft_cap, scale=self.scale,
            alibi=self.alibi_slopes is not None,
            sinks=self.sinks is not None, positions=is_split, lse=is_split)
        self._insert, self._run = library.insert, library.run
        self._pool, self._cache = pool, kv_cache

    def do_kv_cache_update(self, layer: Any, key: torch.Tensor,
                           value: torch.Tensor, kv_cache: torch.Tensor,
                           slot_mapping: torch.Tensor) -> None:
        if kv_cache is not self._cache:
            self.bind(kv_cache)
        count = slot_mapping.shape[0]
        if key.shape[0] != count:  # rows of padding without slots
            key, value = key[:count], value[:count]
        self._insert(self._pool, slot_mapping, key, value)

    def forward(self, layer: Any, query: torch.Tensor, key: torch.Tensor,
                value: torch.Tensor, kv_cache: torch.Tensor,
                attn_metadata: Optional[Metadata], output: torch.Tensor,
                output_scale: Optional[torch.Tensor] = None,
                output_block_scale: Optional[torch.Tensor] = None
                ) -> torch.Tensor:
        if output_scale is not None or output_block_scale is not None:
            raise NotImplementedError("kvcache: an output that is quantized")
        if attn_metadata is None:  # vLLM warms up, or measures memory
            return output
        if kv_cache is not self._cache:
            self.bind(kv_cache)
        batch = attn_metadata
        if batch.positions is not None:
            return self._run_split(query, batch, output)
        self._run(query, self._pool, batch.starts, batch.lengths,
                  batch.block_table, *self._lists, output)
        return output

    def _run_split(self, query: torch.Tensor, batch: Metadata,
                   output: torch.Tensor) -> torch.Tensor:
        """The heads of all ranks over the tokens of this one, and then the heads
        of this rank over the tokens of all."""
        positions = batch.positions
        rows = positions.shape[0]
        every = get_dcp_group().all_gather(query[:rows].contiguous(), dim=1)
        out, lse = self._run(every, self._pool, batch.starts, batch.lengths,
                             batch.block_table, positions)
        output[:rows].copy_(_merge_over_ranks(out, lse))
        return output


def _instead(what: str) -> str:
    return (f"kvcache: {what} is not supported; run vLLM without this plugin "
            "(VLLM_PLUGINS=, or a list of those to load)")


def _as_pool(kv_cache: torch.Tensor, head_size: int) -> torch.Tensor:
    """A cache [B, H, N, C] as [S, B, N, H, D]: the same memory, in which keys
    and values of a head are side by side."""
    if kv_cache.dim() != 4 or kv_cache.shape[3] != 2 * head_size:
        raise NotImplementedError(_instead(
            f"a cache of the extents {list(kv_cache.shape)} for heads of "
            f"{head_size} channels"))
    return kv_cache.unflatten(3, (2, head_size)).permute(3, 0, 2, 1, 4)


_libraries: dict = {}


def _library(heads: int, layout: Layout, device: str, **options: Any) -> Library:
    """One for all layers that are the same."""
    key = (heads, layout.type, device, *options.items())
    if key not in _libraries:
        extents = layout.extents
        attention = PagedAttention(heads, extents["H"], extents["D"],
                                   extents["N"], layout.dtype, layout, **options)
        library = attention.library(device, rows_apart=True)
        if device == "cpu":
            library.use_openmp()  # its threads are bound to the CPUs to be used
        _libraries[key] = library
    return _libraries[key]
