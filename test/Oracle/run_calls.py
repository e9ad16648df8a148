# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Runs a call by the interpreter and by a library, and compares all memory."""

import ctypes

import numpy as np
from cache_ops import addresses, argument_cache
from calls import ArrayArgument
from differences import Outcome, tensor
from interpreter import Interpreter
from ir_types import DTYPES, CacheType, Tensor
from kvtest import CPU_DEVICE


def _array(argument, parts):
    raw = parts[argument.region]
    dtype = np.dtype(DTYPES[argument.element])
    if 0 in argument.shape:
        return np.lib.stride_tricks.as_strided(
            np.empty(1, dtype), argument.shape,
            [s * dtype.itemsize for s in argument.strides])
    return np.ndarray(argument.shape, dtype, raw,
                      argument.offset * dtype.itemsize,
                      [s * dtype.itemsize for s in argument.strides])


def _value(argument, kind, parts):
    if not isinstance(argument, ArrayArgument):
        return argument
    array = _array(argument, parts)
    if isinstance(kind, CacheType):
        return argument_cache(array, kind)
    return array.copy() if isinstance(kind, Tensor) else array


def interpret(interpreter, name, call, arena, poison=0xA7, order=0):
    """Run a call on memory at the same place of a page as for the library."""
    parts = [arena.place(i, r) for i, r in enumerate(call.regions)]
    interpreter.start(poison, order)
    function = interpreter.functions[name]
    given = [*call.arguments, *call.outs]
    given = given[: len(function.argument_types)]
    values = [_value(a, k, parts)
              for a, k in zip(given, function.argument_types)]
    results = interpreter.call(name, values)
    _give_results(interpreter, call, results, parts)
    bases = [p.__array_interface__["data"][0] for p in parts]
    tolerances = {}
    for address, allowed in interpreter.tolerances.items():
        for i, base in enumerate(bases):
            if base <= address < base + len(parts[i]):
                tolerances[i, address - base] = allowed
    return Outcome(list(interpreter.fails), interpreter.may_fail,
                   [p.copy() for p in parts],
                   tolerances)


def _give_results(interpreter, call, results, parts):
    """Results go to their own memory, or to the argument that is given away
    for them. A function may have no result any more for what an argument is."""
    if not results:
        return
    outs = iter(call.outs)
    donated = call.donated
    if len(results) < len(donated):
        donated = [None] * len(results)
    where = [call.arguments[d] if d is not None else next(outs)
             for d in donated]
    for result, place in zip(results, where):
        array = _array(place, parts)
        array[...] = result
        known = interpreter.tensor_tolerances.get(id(result))
        if known is not None:
            interpreter.tolerances.update(zip(
                addresses(array).ravel().tolist(), known[1].ravel().tolist()))


# --- The library --------------------------------------------------------------


def run_library(library, name, call, arena, fill):
    """The code of a call, and the regions after it."""
    parts = [arena.place(i, r) for i, r in enumerate(call.regions)]
    packed, kept = [], []
    for argument in [*call.arguments, *call.outs]:
        if isinstance(argument, ArrayArgument):
            address = parts[argument.region].__array_interface__["data"][0]
            kept.append(tensor(argument, address, CPU_DEVICE))
            packed.append(ctypes.byref(kept[-1]))
        else:
            number = (ctypes.c_double if isinstance(argument, float)
                      else ctypes.c_int64)
            packed.append(number(argument))
    size_of = getattr(library.handle, f"kv1_{name}_workspace_size")
    size_of.restype = ctypes.c_int64
    size = size_of(*packed)
    # What is refused is refused by the call as well, which has the code.
    refused = size < 0
    size = max(size, 0)
    first = len(call.regions)
    # Aligned to 256: the guard is at its end where the size is a multiple.
    slot = arena.starts[first]
    begin = slot + arena.size - -(-size // 256) * 256
    assert begin >= slot, "the workspace is too large for a slot"
    work = arena.view[begin : slot + arena.size]
    work[:] = fill
    entry = getattr(library.handle, f"kv1_{name}")
    entry.restype = ctypes.c_int32
    code = entry(*packed, ctypes.c_void_p(work.ctypes.data if size else None),
                 ctypes.c_int64(size), ctypes.c_void_p(None))
    text = library.last_error() if code else ""
    if refused and not code:
        return -1, "the size is refused, the call is not", parts
    if (work[size:] != fill).any():
        text += " (the end of the workspace was overwritten)"
        code = -1
    return code, text, [p.copy() for p in parts]


# --- What is open ---


def open_bytes(text, name, call, arena, first, orders=0):
    """What runs with different poison disagree about, and on a GPU those with
    as many orders of the entries of lists. Numbers that were never written may
    name a slot or none: both are tried."""
    interpreter, out = Interpreter(text), set()
    for poison, order in [(0x3C, 0), (0x00, 0),
                          *((0xA7, i) for i in range(1, orders))]:
        other = interpret(interpreter, name, call, arena, poison, order)
        for i, (a, b) in enumerate(zip(first.regions, other.regions)):
            size = np.dtype(DTYPES[call.regions[i].element]).itemsize
            out.update((i, int(k) // size * size)
                       for k in np.nonzero(a != b)[0])
    return out
