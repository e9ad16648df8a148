# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The semantics of the dialect in NumPy, written from the specification.

Nothing here imports anything of the project. Raw arrays hold elements as they
are stored, bf16 as uint16; what computes takes and gives numbers in float64.

  ref_elements   element types: decode, encode, convert
  ref_cache      Cache, named orders, views
  ref_moves      index_copy, scatter, gather, relayout, copy_blocks,
                 clear_blocks, transfer
  ref_batch      Batch, with_rows, slot_mapping, map_blocks, block_slots,
                 csr_table, select_rows
  ref_attention  attention, merge_states, and tolerances for their results
  ref_rows       rotate, normalize with a bound for its result
"""

from ref_attention import (  # noqa: F401
    Attention, attention, check_attention, merge_states, seen_slots, visible)
from ref_batch import (  # noqa: F401
    Batch, Selection, block_slots, csr_table, map_blocks, select_rows,
    slot_mapping, with_rows)
from ref_cache import (  # noqa: F401
    LETTERS, ORDERS, Array, Cache, CallFails, NotAView, compact, order_of)
from ref_elements import (  # noqa: F401
    STORAGE, bits, convert, decode, encode, half_ulp, round_to, same_elements,
    smallest_normal, type_of)
from ref_moves import (  # noqa: F401
    allowed, clear_blocks, copy_blocks, gather, index_copy, relayout, scatter,
    transfer)
from ref_rows import Norm, normalize, rotate  # noqa: F401
