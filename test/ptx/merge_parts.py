# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""merge_states for a GPU, over the cases of the CPU."""

import machine
import merge

merge.main(machine)
