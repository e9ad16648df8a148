# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""The first 100 of 200 random programs run the same before and after each pass."""

import checks

checks.expect_translated(checks.numbered(1, range(100)), checks.CHANGED_OF_100)
