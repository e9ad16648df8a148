# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""index_copy, scatter and gather for a GPU, over the cases of the CPU."""

import machine
import rows

rows.IN_SEQUENCE = False
rows.main(machine)
