# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Loads two libraries globally and calls each: two_versions.py FOLDER A B"""

import ctypes
import sys

import numpy as np
from kvtest import NULL, Library, Tensor

folder, *names = sys.argv[1:]
MESSAGES = {"first": "f: argument 'x': expected a tensor, got a null pointer",
            "second": "f: argument 'x': a tensor of version 2 is expected, got "
                      "a null pointer"}
for name in names:
    ctypes.CDLL(f"{folder}/lib{name}.so", mode=ctypes.RTLD_GLOBAL)
libraries = [Library(f"{folder}/lib{name}.so", name) for name in names]
for _ in range(3):
    for library in libraries:
        numbers = np.arange(1000, dtype=np.int64)
        assert library.run("f", Tensor(numbers, "i64", [1000])) == 8192
        assert np.array_equal(numbers, 2 * np.arange(1000))
        library.expect_error(NULL, MESSAGES[library.name], "f", None)
    # The message of one is not that of the other.
    for library in libraries:
        assert library.last_error() == MESSAGES[library.name]
