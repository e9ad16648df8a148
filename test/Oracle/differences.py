# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What a call leaves in memory, beside what is expected of it: all that a
machine needs which has no interpreter."""

import ctypes
from dataclasses import dataclass

import kvtest
import numpy as np
from calls import ArrayArgument
from ir_types import DTYPES
from ref_elements import STORAGE, decode

kvtest.TYPES.setdefault("i16", (0, 16, np.int16))


@dataclass
class Outcome:
    """What a run leaves: a code (0, or why it fails) and all regions."""

    fails: list
    may_fail: bool  # a view that fails may be left out where nobody uses it
    regions: list
    tolerances: dict


def untouched(call, got):
    """Whether a call has left all memory as it was."""
    return all(np.array_equal(region.contents, after)
               for region, after in zip(call.regions, got, strict=True))


def tensor(argument, address, device):
    """The DLTensor that a caller makes of an argument."""
    code, bits, _ = kvtest.TYPES[argument.element]
    rank = len(argument.shape)
    shape = (ctypes.c_int64 * max(1, rank))(*argument.shape)
    strides = (ctypes.c_int64 * max(1, rank))(*argument.seen)
    size = np.dtype(DTYPES[argument.element]).itemsize
    dl = kvtest.DLTensor(address + argument.offset * size, device, 0, rank, code,
                         bits, 1, shape, strides, 0)
    dl.kept = shape, strides
    return dl


def _flat(region, element):
    dtype = np.dtype(DTYPES[element])
    whole = len(region) // dtype.itemsize * dtype.itemsize
    return region[:whole].view(dtype)


def differences(want, got, call, lenient=(), used=()):
    """Where regions differ, as (region, byte); `lenient` are bytes that the
    program leaves open, and `used` regions that hold anything afterwards."""
    out = []
    for i, (a, b) in enumerate(zip(want.regions, got)):
        if i in used or np.array_equal(a, b):
            continue
        element = call.regions[i].element
        size = np.dtype(DTYPES[element]).itemsize
        x, y = _flat(a, element), _flat(b, element)
        for at in np.nonzero(x.view(f"u{size}") != y.view(f"u{size}"))[0]:
            place = int(at) * size
            if (i, place) in lenient:
                continue
            if element in STORAGE and _close(
                    decode(x[at], element), decode(y[at], element),
                    want.tolerances.get((i, place), 0.0)):
                continue
            out.append((i, place))
        tail = len(x) * size
        out += [(i, tail + int(k))
                for k in np.nonzero(a[tail:] != b[tail:])[0]]
    return out


def _close(a, b, tolerance):
    if np.isnan(a) and np.isnan(b):
        return True
    if tolerance and not np.isfinite(a):
        return True
    return bool(abs(a - b) <= tolerance) and tolerance > 0


def describe(want, got, places, call):
    lines = []
    for i, place in places[:4]:
        element = call.regions[i].element
        size = np.dtype(DTYPES[element]).itemsize
        users = [n for n, a in enumerate([*call.arguments, *call.outs])
                 if isinstance(a, ArrayArgument) and a.region == i]
        a = want.regions[i][place : place + size].view(DTYPES[element])
        b = got[i][place : place + size].view(DTYPES[element])
        if element in STORAGE:
            a, b = decode(a, element), decode(b, element)
        lines.append(f"arguments {users}, byte {place}: expected {a}, got {b}")
    return f"{len(places)} elements differ; " + "; ".join(lines)
