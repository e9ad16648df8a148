# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""relayout, copy_blocks, clear_blocks and transfer for a GPU, over the cases of
the CPU."""

import blocks
import machine

blocks.IN_SEQUENCE = False
blocks.main(machine)
