# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The semantics of the dialect in NumPy, written from the specification.

It imports nothing of the project. A cache is an array with one dimension per
axis, in the sequence in which its type lists them.
"""

import numpy as np


def index_copy(cache, axes, rows, slots, pad):
    """Write rows[side][t] to slot t of `cache`, in place.

    cache: array over `axes`, a string such as "SBNHD"
    rows:  one array [T, H, D] or [T, D] per side
    slots: T integers
    """
    tokens = cache.shape[axes.index("N")]
    blocks = cache.shape[axes.index("B")]
    for t, slot in enumerate(slots):
        slot = int(slot)
        inside = 0 <= slot < blocks * tokens
        if not inside:
            if slot < 0:
                allowed = pad in ("skip_negative", "skip_out_of_range")
            else:
                allowed = pad == "skip_out_of_range"
            assert allowed, f"slot {slot} is not allowed for pad = {pad}"
            continue
        for side, values in enumerate(rows):
            index = []
            for axis in axes:
                index.append({"S": side, "B": slot // tokens,
                              "N": slot % tokens}.get(axis, slice(None)))
            cache[tuple(index)] = values[t]
