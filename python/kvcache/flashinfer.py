# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The calls of FlashInfer on paged caches, made by compiled programs.

    from kvcache.flashinfer import BatchDecodeWithPagedKVCacheWrapper

Names, arguments and results are those of FlashInfer 0.7, on tensors of a CPU or
a GPU. Programs are compiled when they are first needed, for the extents and
strides of the caches and the options of a call. The device of the workspace is
that of the lists; its memory is not used. What is a hint (backend, use_tensor_cores, disable_split_kv, ...) or says
the same twice (block_tables, seq_lens) is ignored. An option that would change
the result and is not known here raises NotImplementedError.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Optional

import torch

from . import _paged

__all__ = ["BatchDecodeWithPagedKVCacheWrapper",
           "BatchPrefillWithPagedKVCacheWrapper",
           "CUDAGraphBatchDecodeWithPagedKVCacheWrapper",
           "append_paged_kv_cache", "get_batch_indices_positions",
           "get_seq_lens", "merge_state", "merge_state_in_place",
           "merge_states"]

_LOG2_E = math.log2(math.e)
# The entries of a table that a graph reads, unless a request may have more.
_TABLE_ENTRIES = 1 << 24


def _refuse(**options: Any) -> None:
    """Raises for options that are given, and that no program has."""
    for name, value in options.items():
        if value is not None and value is not False:
            raise NotImplementedError(f"{name}: expected none, as kvcache does "
                                      "not have it")


def _dtype(name: str, value: Any, known: Any = _paged.ELEMENTS) -> Any:
    dtype = getattr(torch, value, None) if isinstance(value, str) else value
    if dtype not in known:
        raise NotImplementedError(f"{name}: expected {_paged.names_of(known)}, "
                                  f"got {value}")
    return dtype


def _number(name: str, value: Any) -> float:
    """A scale: 1 if there is none. A tensor is waited for."""
    if isinstance(value, torch.Tensor) and value.numel() != 1:
        raise NotImplementedError(f"{name}: expected one number, got "
                                  f"{list(value.shape)}")
    return 1.0 if value is None else float(value)


@lru_cache(maxsize=None)
def _constant(value: float, device: Any) -> Any:
    return torch.full((1, 1, 1, 1), value, device=device)


def _scale_of_pages(name: str, value: Any, device: Any) -> Any:
    """A scale as programs take it, [pages, tokens, heads, channels]; a number
    stays on the device from its first call on."""
    if not isinstance(value, torch.Tensor):
        return _constant(_number(name, value), device)
    if value.numel() != 1:
        _number(name, value)
    return value.to(device, torch.float32).reshape(1, 1, 1, 1)


def _sides(cache: Any, layout: str) -> list:
    """Keys and values as [pages, page_size, kv_heads, head_dim]."""
    if isinstance(cache, (tuple, list)):
        if len(cache) != 2:
            raise ValueError("paged_kv_cache: expected keys and values, got "
                             f"{len(cache)} tensors")
        sides = list(cache)
    elif cache.dim() == 5 and cache.shape[1] == 2:
        sides = [cache[:, 0], cache[:, 1]]
    else:
        raise ValueError("paged_kv_cache: expected keys and values, or a tensor "
                         f"[pages, 2, ...], got {list(cache.shape)}")
    for name, side in zip(("keys", "values"), sides):
        if side.dim() != 4:
            raise ValueError(f"paged_kv_cache: expected {name} of 4 dimensions, "
                             f"got {list(side.shape)}")
    return [side.transpose(1, 2) for side in sides] if layout == "HND" else sides


def _check_layout(layout: str) -> str:
    if layout not in ("NHD", "HND"):
        raise ValueError(f"kv_layout: expected NHD or HND, got {layout!r}")
    return layout


class _Lists:
    """The page lists of a batch, as the table and the lengths that programs
    read. With buffers, they stay where they are, for graphs."""

    def __init__(self, device: Any, buffers: Optional[tuple],
                 columns: Optional[int]) -> None:
        self.device = device
        self.table: Any = None
        self.lengths: Any = None
        self._buffers = buffers
        if buffers is None:
            return
        self._requests = buffers[2].numel()
        capacity = buffers[1].numel()
        if columns is None:
            count = max(self._requests, 1)
            columns = min(capacity, max(-(-capacity // count),
                                        _TABLE_ENTRIES // count))
        self.table = self._empty(self._requests, columns)
        self.lengths = self._empty(self._requests)

    def _empty(self, *shape: int) -> Any:
        return torch.empty(shape, dtype=torch.int32, device=self.device)

    def plan(self, indptr: Any, indices: Any, last: Any, tokens: int) -> None:
        requests = last.numel()
        if indptr.numel() != requests + 1:
            raise ValueError(f"expected {requests + 1} entries of indptr for "
                             f"{requests} of last_page_len, got {indptr.numel()}")
        here = indptr.cpu()
        columns = int((here[1:] - here[:-1]).max()) if requests else 0
        lists = [part.to(self.device, torch.int32).contiguous()
                 for part in (indptr, indices, last)]
        if self._buffers is None:
            self.table = self._empty(requests, max(columns, 0))
            self.lengths = self._empty(requests)
        else:
            lists = self._keep(lists, columns)
        _paged.table(tokens, _paged.target_of(lists[0]))(*lists, self.table,
                                                         self.lengths)

    def _keep(self, lists: list, columns: int) -> list:
        """Copies the lists to the buffers of the caller."""
        if lists[2].numel() != self._requests:
            raise ValueError(f"expected {self._requests} requests, as there are "
                             f"in the buffers, got {lists[2].numel()}")
        if lists[1].numel() > self._buffers[1].numel():
            raise ValueError(
                f"expected at most {self._buffers[1].numel()} pages, as the "
                f"buffer has, got {lists[1].numel()}")
        if columns > self.table.shape[1]:
            raise ValueError(
                f"a request has {columns} pages, and the table room for "
                f"{self.table.shape[1]}: pass max_pages_per_request= when the "
                "wrapper is made")
        kept = []
        for buffer, part in zip(self._buffers, lists):
            buffer[:part.numel()].copy_(part, non_blocking=True)
            kept.append(buffer[:part.numel()])
        return kept


class _Options:
    """What was planned, and the functions for the tensors of calls so far: most
    steps of an engine plan the same again."""

    def __init__(self, heads: int, kv_heads: int, dims: tuple, tokens: int,
                 causal: bool, window_left: int, softcap: Optional[float],
                 sm_scale: Optional[float], dtypes: tuple) -> None:
        self.heads, self.kv_heads, self.dims = heads, kv_heads, dims
        self.tokens, self.causal = tokens, causal
        self.window_left = window_left
        self.softcap = softcap or None  # 0 is none
        self.scale = 1 / math.sqrt(dims[0]) if sm_scale is None else sm_scale
        query, pages, out = dtypes
        self.query_dtype = _dtype("q_data_type", query)
        self.pages_dtype = _dtype("kv_data_type", query if pages is None
                                  else pages, _paged.PAGES)
        self.of_bytes = self.pages_dtype in _paged.BYTES
        self.out_dtype = _dtype("o_data_type", query if out is None else out)
        self.planned = tuple(self.__dict__.values())
        self._functions: dict = {}

    def function(self, query: Any, keys: Any, values: Any, window: Optional[int],
                 scale: float, has_sinks: bool, has_value_scale: bool,
                 lse: Optional[str]) -> Any:
        """The compiled function for tensors like these."""
        key = (query.shape[1:], query.stride(), query.dtype, query.is_cuda,
               keys.shape, keys.stride(), keys.dtype, keys.data_ptr() & 15,
               values.shape, values.stride(), values.dtype,
               values.data_ptr() & 15, window, scale, has_sinks,
               has_value_scale, lse)
        found = self._functions.get(key)
        if found is None:
            self._check(query, [keys, values])
            if window is None:
                window = self.window_left
            pages = [_paged.Pages.of("keys", keys),
                     _paged.Pages.of("values", values)]
            if self.of_bytes:
                pages = [side.scaled for side in pages]
            form = _paged.Attention(
                *pages,
                _paged.rows_type(query, _paged.element_of("q", query)),
                f"memref<?x{self.heads}x{self.dims[1]}x"
                f"{_paged.ELEMENTS[self.out_dtype]}>", self.heads, self.causal,
                window + 1 if window >= 0 else None, self.softcap,
                self.scale * scale, has_sinks, has_value_scale, lse)
            found = _paged.attention(form, _paged.target_of(query))
            self._functions[key] = found
        return found

    def _check(self, query: Any, sides: list) -> None:
        for name, tensor, dtype in (("q", query, self.query_dtype),
                                    ("keys", sides[0], self.pages_dtype),
                                    ("values", sides[1], self.pages_dtype)):
            if tensor.dtype != dtype:
                raise ValueError(f"{name}: expected {dtype}, as planned, got "
                                 f"{tensor.dtype}")
        if tuple(query.shape[1:]) != (self.heads, self.dims[0]):
            raise ValueError(f"q: expected [tokens, {self.heads}, "
                             f"{self.dims[0]}], as planned, got "
                             f"{list(query.shape)}")
        for name, side, dim in zip(("keys", "values"), sides, self.dims):
            expected = (self.tokens, self.kv_heads, dim)
            if tuple(side.shape[1:]) != expected:
                raise ValueError(
                    f"{name}: expected pages of {self.tokens} tokens, "
                    f"{self.kv_heads} heads and {dim} channels, as planned, got "
                    f"{list(side.shape[1:])} in this order")


class _Wrapper:
    """What both wrappers are made of."""

    def __init__(self, workspace: Any, layout: str, buffers: Optional[tuple],
                 columns: Optional[int]) -> None:
        self._layout = _check_layout(layout)
        if buffers is not None and any(buffer is None for buffer in buffers):
            raise ValueError("use_cuda_graph: expected buffers for indptr, "
                             "indices and last_page_len")
        self._in_graph = buffers is not None
        self._lists = _Lists(workspace.device, buffers, columns)
        self._starts: Any = None
        self._options: Any = None

    def _keep(self, options: _Options) -> None:
        if self._options is None or self._options.planned != options.planned:
            self._options = options

    @property
    def is_cuda_graph_enabled(self) -> bool:
        return self._in_graph

    def reset_workspace_buffer(self, float_workspace_buffer: Any,
                               int_workspace_buffer: Any) -> None:
        """Does nothing: workspaces belong to kvcache."""

    def end_forward(self) -> None:
        """Does nothing."""

    def _run(self, query: Any, cache: Any, *, scales: tuple,
             window_left: Optional[int], sinks: Any, out: Any, lse: Any,
             return_lse: bool, base: str = "log2", layout: str = "NH") -> Any:
        """`scales` of the query, of keys and of values."""
        options = self._options
        if options is None:
            raise RuntimeError("plan() was not called")
        if query.dim() != 3:
            raise ValueError("q: expected 3 dimensions, got "
                             f"{list(query.shape)}")
        keys, values = _sides(cache, self._layout)
        query = _paged.aligned(query, heads_apart=True)
        query_scale, key_scale, value_scale = scales
        scale = _number("q_scale", query_scale)
        pools = [keys, values]
        if options.of_bytes:
            own = [_scale_of_pages(name, one, query.device) for name, one
                   in (("k_scale", key_scale), ("v_scale", value_scale))]
            pools = [keys, own[0], values, own[1]]
            value_scale = None
        else:
            scale *= _number("k_scale", key_scale)
        function = options.function(
            query, keys, values, window_left, scale, sinks is not None,
            value_scale is not None, layout if return_lse else None)
        rows, heads, _ = query.shape
        if out is None:
            out = query.new_empty((rows, heads, options.dims[1]),
                                  dtype=options.out_dtype)
        results = [out]
        if return_lse:
            if lse is None:
                lse = query.new_empty((rows, heads) if layout == "NH"
                                      else (heads, rows), dtype=torch.float32)
            results.append(lse)
        extra = [] if sinks is None else [sinks.to(torch.float32).contiguous()]
        extra += [] if value_scale is None else [_number("v_scale", value_scale)]
        function(query, *pools, self._starts, self._lists.lengths,
                 self._lists.table, *extra, *results)
        if not return_lse:
            return out
        return out, lse.mul_(_LOG2_E) if base == "log2" else lse


class BatchDecodeWithPagedKVCacheWrapper(_Wrapper):
    """Attention of one query row of each request, or of `q_len_per_req` rows.

    With `use_cuda_graph`, lists stay in place between plans. The table that is
    made of them has room for the pages of the largest request: as many as fit
    into the buffer of indices, up to 2^24 for all requests, or
    `max_pages_per_request`.
    """

    def __init__(self, float_workspace_buffer: Any, kv_layout: str = "NHD",
                 use_cuda_graph: bool = False, use_tensor_cores: bool = False,
                 paged_kv_indptr_buffer: Any = None,
                 paged_kv_indices_buffer: Any = None,
                 paged_kv_last_page_len_buffer: Any = None,
                 backend: str = "auto", jit_args: Any = None,
                 jit_kwargs: Any = None, *,
                 max_pages_per_request: Optional[int] = None) -> None:
        _refuse(jit_args=jit_args, jit_kwargs=jit_kwargs)
        buffers = (paged_kv_indptr_buffer, paged_kv_indices_buffer,
                   paged_kv_last_page_len_buffer)
        super().__init__(float_workspace_buffer, kv_layout,
                         buffers if use_cuda_graph else None,
                         max_pages_per_request)
        self._use_tensor_cores = use_tensor_cores
        self._rows_per_request = 1

    @property
    def use_tensor_cores(self) -> bool:
        return self._use_tensor_cores

    def plan(self, indptr: Any, indices: Any, last_page_len: Any,
             num_qo_heads: int, num_kv_heads: int, head_dim: int, page_size: int,
             pos_encoding_mode: str = "NONE", window_left: int = -1,
             logits_soft_cap: Optional[float] = None,
             q_data_type: Any = "float16", kv_data_type: Any = None,
             o_data_type: Any = None, data_type: Any = None,
             sm_scale: Optional[float] = None,
             rope_scale: Optional[float] = None,
             rope_theta: Optional[float] = None, non_blocking: bool = True,
             block_tables: Any = None, seq_lens: Any = None,
             fixed_split_size: Optional[int] = None,
             disable_split_kv: bool = False, q_len_per_req: int = 1, *,
             window_right: int = 0, is_causal: Optional[bool] = None,
             use_token_head_sf: bool = False) -> None:
        """Takes the lists of a batch, and the options of the calls that follow."""
        _check_positions(pos_encoding_mode)
        _refuse(window_right=window_right or None,
                use_token_head_sf=use_token_head_sf)
        if data_type is not None:  # the old name, for both
            q_data_type, kv_data_type = data_type, kv_data_type or data_type
        if is_causal is None:
            is_causal = q_len_per_req > 1
        options = _Options(
            num_qo_heads, num_kv_heads, (head_dim, head_dim), page_size,
            is_causal, window_left, logits_soft_cap, sm_scale,
            (q_data_type, kv_data_type, o_data_type))
        self._lists.plan(indptr, indices, last_page_len, page_size)
        requests = last_page_len.numel()
        if (self._starts is None or self._starts.numel() != requests + 1
                or self._rows_per_request != q_len_per_req):
            self._starts = torch.arange(
                requests + 1, dtype=torch.int32,
                device=self._lists.device) * q_len_per_req
            self._rows_per_request = q_len_per_req
        self._keep(options)

    begin_forward = plan

    def run(self, q: Any, paged_kv_cache: Any, *args: Any, q_scale: Any = None,
            k_scale: Any = None, v_scale: Any = None, out: Any = None,
            lse: Any = None, return_lse: bool = False,
            enable_pdl: Optional[bool] = None,
            window_left: Optional[int] = None, sinks: Any = None,
            q_len_per_req: Optional[int] = None,
            skip_softmax_threshold_scale_factor: Optional[float] = None,
            kv_cache_sf: Any = None) -> Any:
        """Attends. Returns `out`, and with `return_lse` also the logarithms to
        base 2 of the sums of exponentials."""
        _refuse(args=args or None, kv_cache_sf=kv_cache_sf,
                skip_softmax_threshold_scale_factor=(
                    skip_softmax_threshold_scale_factor))
        if self._options is not None:
            rows = self._rows_per_request * (self._starts.numel() - 1)
            if q.shape[0] != rows or q_len_per_req not in (
                    None, self._rows_per_request):
                raise ValueError(f"q: expected {rows} rows, "
                                 f"{self._rows_per_request} for each request, as "
                                 f"planned, got {q.shape[0]}")
        return self._run(q, paged_kv_cache, scales=(q_scale, k_scale, v_scale),
                         window_left=window_left,
                         sinks=sinks, out=out, lse=lse, return_lse=return_lse)

    def run_return_lse(self, *args: Any, **options: Any) -> Any:
        return self.run(*args, return_lse=True, **options)


class CUDAGraphBatchDecodeWithPagedKVCacheWrapper(
        BatchDecodeWithPagedKVCacheWrapper):
    """The same with lists that stay in place."""

    def __init__(self, workspace_buffer: Any, indptr_buffer: Any,
                 indices_buffer: Any, last_page_len_buffer: Any,
                 kv_layout: str = "NHD", use_tensor_cores: bool = False, *,
                 max_pages_per_request: Optional[int] = None) -> None:
        super().__init__(workspace_buffer, kv_layout, True, use_tensor_cores,
                         indptr_buffer, indices_buffer, last_page_len_buffer,
                         max_pages_per_request=max_pages_per_request)


class BatchPrefillWithPagedKVCacheWrapper(_Wrapper):
    """Attention of any number of query rows of each request."""

    def __init__(self, float_workspace_buffer: Any, kv_layout: str = "NHD",
                 use_cuda_graph: bool = False, qo_indptr_buf: Any = None,
                 paged_kv_indptr_buf: Any = None,
                 paged_kv_indices_buf: Any = None,
                 paged_kv_last_page_len_buf: Any = None,
                 custom_mask_buf: Any = None, mask_indptr_buf: Any = None,
                 backend: str = "auto", jit_args: Any = None,
                 jit_kwargs: Any = None, variant_owns_mask: bool = False,
                 max_total_num_rows: Optional[int] = None, *,
                 max_pages_per_request: Optional[int] = None) -> None:
        _refuse(custom_mask_buf=custom_mask_buf, mask_indptr_buf=mask_indptr_buf,
                jit_args=jit_args, jit_kwargs=jit_kwargs,
                variant_owns_mask=variant_owns_mask)
        buffers = (paged_kv_indptr_buf, paged_kv_indices_buf,
                   paged_kv_last_page_len_buf)
        super().__init__(float_workspace_buffer, kv_layout,
                         buffers if use_cuda_graph else None,
                         max_pages_per_request)
        if use_cuda_graph:
            if qo_indptr_buf is None:
                raise ValueError("use_cuda_graph: expected qo_indptr_buf")
            self._starts = qo_indptr_buf

    def plan(self, qo_indptr: Any, paged_kv_indptr: Any, paged_kv_indices: Any,
             paged_kv_last_page_len: Any, num_qo_heads: int, num_kv_heads: int,
             head_dim_qk: int, page_size: int, head_dim_vo: Optional[int] = None,
             custom_mask: Any = None, packed_custom_mask: Any = None,
             causal: bool = False, pos_encoding_mode: str = "NONE",
             use_fp16_qk_reduction: bool = False,
             sm_scale: Optional[float] = None, window_left: int = -1,
             logits_soft_cap: Optional[float] = None,
             rope_scale: Optional[float] = None,
             rope_theta: Optional[float] = None, q_data_type: Any = "float16",
             kv_data_type: Any = None, o_data_type: Any = None,
             non_blocking: bool = True, prefix_len_ptr: Any = None,
             token_pos_in_items_ptr: Any = None, token_pos_in_items_len: int = 0,
             max_item_len_ptr: Any = None, seq_lens: Any = None,
             seq_lens_q: Any = None, block_tables: Any = None,
             max_token_per_sequence: Optional[int] = None,
             max_sequence_kv: Optional[int] = None,
             fixed_split_size: Optional[int] = None,
             disable_split_kv: bool = False, uniform_q_len: Optional[int] = None,
             use_token_head_sf: bool = False) -> None:
        """Takes the lists of a batch, and the options of the calls that follow."""
        _check_positions(pos_encoding_mode)
        _refuse(custom_mask=custom_mask, packed_custom_mask=packed_custom_mask,
                prefix_len_ptr=prefix_len_ptr,
                token_pos_in_items_ptr=token_pos_in_items_ptr,
                max_item_len_ptr=max_item_len_ptr,
                use_token_head_sf=use_token_head_sf)
        dims = (head_dim_qk, head_dim_qk if head_dim_vo is None else head_dim_vo)
        options = _Options(
            num_qo_heads, num_kv_heads, dims, page_size, causal, window_left,
            logits_soft_cap, sm_scale, (q_data_type, kv_data_type, o_data_type))
        requests = paged_kv_last_page_len.numel()
        if qo_indptr.numel() != requests + 1:
            raise ValueError(f"qo_indptr: expected {requests + 1} entries, got "
                             f"{qo_indptr.numel()}")
        self._lists.plan(paged_kv_indptr, paged_kv_indices,
                         paged_kv_last_page_len, page_size)
        starts = qo_indptr.to(self._lists.device, torch.int32)
        if self._in_graph:
            self._starts.copy_(starts, non_blocking=True)
        else:
            self._starts = starts.contiguous()
        self._keep(options)

    begin_forward = plan

    def run(self, q: Any, paged_kv_cache: Any, *args: Any, q_scale: Any = None,
            k_scale: Any = None, v_scale: Any = None, out: Any = None,
            lse: Any = None, return_lse: bool = False, lse_base: str = "log2",
            lse_layout: str = "NH", enable_pdl: Optional[bool] = None,
            window_left: Optional[int] = None, sinks: Any = None,
            kv_cache_sf: Any = None,
            skip_softmax_threshold_scale_factor: Optional[float] = None,
            use_fp16_softmax: Optional[bool] = None,
            uses_spcompress: Optional[bool] = None) -> Any:
        """Attends. Returns `out`, and with `return_lse` also the logarithms of
        the sums of exponentials, to base 2 or, with `lse_base="ln"`, e."""
        _refuse(args=args or None, kv_cache_sf=kv_cache_sf,
                skip_softmax_threshold_scale_factor=(
                    skip_softmax_threshold_scale_factor),
                uses_spcompress=uses_spcompress)
        for name, value, known in (("lse_base", lse_base, ("log2", "ln")),
                                   ("lse_layout", lse_layout, ("NH", "HN"))):
            if value not in known:
                raise ValueError(f"{name}: expected {' or '.join(known)}, got "
                                 f"{value!r}")
        return self._run(q, paged_kv_cache, scales=(q_scale, k_scale, v_scale),
                         window_left=window_left,
                         sinks=sinks, out=out, lse=lse, return_lse=return_lse,
                         base=lse_base, layout=lse_layout)

    def run_return_lse(self, *args: Any, **options: Any) -> Any:
        return self.run(*args, return_lse=True, **options)


def _check_positions(mode: str) -> None:
    if mode != "NONE":
        raise NotImplementedError(f"pos_encoding_mode: expected NONE, got {mode}: "
                                  "rotate queries and keys before the call")


# ---- Writing -----------------------------------------------------------------


def get_seq_lens(kv_indptr: Any, kv_last_page_len: Any, page_size: int) -> Any:
    """The tokens of each request."""
    pages = kv_indptr[1:] - kv_indptr[:-1]
    return torch.where(pages > 0, (pages - 1) * page_size + kv_last_page_len, 0)


def get_batch_indices_positions(append_indptr: Any, seq_lens: Any, nnz: int,
                                batch_indices: Any = None,
                                positions: Any = None) -> tuple:
    """The request of each new token, and its place there: new tokens are the
    last ones. Those past the last request have -1 for both."""
    device = append_indptr.device
    rows = torch.arange(nnz, device=device, dtype=torch.int32)
    request = torch.searchsorted(append_indptr[1:].contiguous(), rows, right=True)
    requests = seq_lens.numel()
    place = is_new = request < requests
    if requests:
        request = request.clamp(max=requests - 1)
        place = seq_lens[request] - append_indptr[request + 1] + rows
    results = [torch.where(is_new, found, -1).to(torch.int32)
               for found in (request, place)]
    for i, given in enumerate((batch_indices, positions)):
        if given is not None:
            results[i] = given.copy_(results[i])
    return tuple(results)


def append_paged_kv_cache(append_key: Any, append_value: Any, batch_indices: Any,
                          positions: Any, paged_kv_cache: Any, kv_indices: Any,
                          kv_indptr: Any, kv_last_page_len: Any,
                          kv_layout: str = "NHD") -> None:
    """Writes keys and values of new tokens to their pages. Tokens of requests or
    at positions that have no page are padding, such as negative ones."""
    keys, values = _sides(paged_kv_cache, _check_layout(kv_layout))
    tokens = keys.shape[1]
    rows = [_paged.aligned(part) for part in (append_key, append_value)]
    pages, requests = kv_indices.numel(), kv_indptr.numel() - 1
    if not pages or requests < 1:
        return
    # No entry is trusted: an index that is out of range would end the context of
    # a GPU.
    is_token = ((batch_indices >= 0) & (batch_indices < requests)
                & (positions >= 0))
    request = torch.where(is_token, batch_indices, 0).long()
    place = torch.where(is_token, positions, 0).long()
    number = kv_indptr[request].long() + place // tokens
    is_token &= (number >= 0) & (number < kv_indptr[request + 1]) & (number < pages)
    page = kv_indices[torch.where(is_token, number, 0)].long()
    slots = torch.where(is_token, page * tokens + place % tokens, -1)
    _paged.append(
        _paged.Pages.of("keys", keys), _paged.Pages.of("values", values),
        *(_paged.rows_type(part, _paged.element_of(name, part, _paged.PAGES))
          for name, part in zip(("append_key", "append_value"), rows)),
        _paged.target_of(keys))(keys, values, slots, *rows)


# ---- Merging -----------------------------------------------------------------

_MOST_STATES = 64  # of the operation


def _merge(rows: list, lses: list) -> tuple:
    """Of a few states, with logarithms to base 2."""
    rows = [_paged.aligned(part) for part in rows]
    count, heads, _ = rows[0].shape
    out = torch.empty_like(rows[0], memory_format=torch.contiguous_format)
    lse = out.new_empty((count, heads), dtype=torch.float32)
    element = _paged.element_of("v", out)
    logarithms = [(part / _LOG2_E).contiguous() for part in lses]
    arguments = [part for pair in zip(rows, logarithms) for part in pair]
    _paged.merge(tuple(_paged.rows_type(part, element) for part in rows),
                 _paged.rows_type(out, element), heads,
                 _paged.target_of(out))(*arguments, out, lse)
    return out, lse.mul_(_LOG2_E)


def merge_state(v_a: Any, s_a: Any, v_b: Any, s_b: Any) -> tuple:
    """Merges attention over two sets of keys: [tokens, heads, head_dim], with
    logarithms to base 2 [tokens, heads]."""
    return _merge([v_a, v_b], [s_a, s_b])


def merge_state_in_place(v: Any, s: Any, v_other: Any, s_other: Any,
                         mask: Any = None) -> None:
    """The same into `v` and `s`, of the tokens of a mask if there is one."""
    out, lse = merge_state(v, s, v_other, s_other)
    if mask is not None:
        chosen = mask.bool()
        out = torch.where(chosen[:, None, None], out, v)
        lse = torch.where(chosen[:, None], lse, s)
    v.copy_(out)
    s.copy_(lse)


def merge_states(v: Any, s: Any) -> tuple:
    """Merges attention over any number of sets of keys:
    [tokens, states, heads, head_dim], with logarithms [tokens, states, heads]."""
    rows, lses = list(v.unbind(1)), list(s.unbind(1))
    if not rows:
        raise ValueError("v: expected at least one state")
    while len(rows) > 1:
        out, lse = _merge(rows[:_MOST_STATES], lses[:_MOST_STATES])
        rows, lses = [out, *rows[_MOST_STATES:]], [lse, *lses[_MOST_STATES:]]
    return (rows[0], lses[0]) if v.shape[1] > 1 else (rows[0].clone(),
                                                      lses[0].clone())
