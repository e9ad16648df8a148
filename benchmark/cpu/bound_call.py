# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Calls of compiled functions that are short enough to be measured."""

import ctypes

import numpy as np
from kvtest import aligned


def bound(library, *values):
    """A call of `run` without what Python does for each of its arguments."""
    size = library.workspace_size("run", *values)
    assert size >= 0, library.last_error()
    workspace = aligned(max(size, 1), np.uint8)
    words = [library._pack(v) for v in values]
    words += [ctypes.c_void_p(workspace.ctypes.data), ctypes.c_int64(size),
              ctypes.c_void_p(None)]
    entry = library.handle.kv1_run
    entry.restype = ctypes.c_int32

    def call():
        return entry(*words)
    call.keep = (values, workspace)
    assert call() == 0, library.last_error()
    return call
