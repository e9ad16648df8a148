# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""normalize, rotate and fuse for a GPU, over the cases of the CPU."""

import machine
import row_steps

row_steps.main(machine)
