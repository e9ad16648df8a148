# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""The second 100 of 200 random programs: two files, for two processes."""

import checks

checks.expect_translated(checks.numbered(1, range(100, 200)),
                         checks.CHANGED_OF_100)
