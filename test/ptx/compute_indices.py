# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""slot_mapping, map_blocks, block_slots and select_rows for a GPU, over the
cases of the CPU."""

import indices
import machine

indices.main(machine)
