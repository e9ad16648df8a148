# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the compiler knows of a layout: kvcache-c/Layout.h."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any, NamedTuple, Optional

from ._compiler import library, take

_RUN_TIME = -1
_MAX_AXES = 8


class Transfer(NamedTuple):
    """The contiguous runs of a part of a pool. What is known in a call only is
    None."""

    run_bytes: int
    runs: Optional[int]
    access_bytes: int  # the widest access that all runs are aligned to
    loops: tuple       # (extent, stride in elements), from slowest to fastest


class _Slice(ctypes.Structure):
    _fields_ = [("axis", ctypes.c_char_p), ("first", ctypes.c_int64),
                ("count", ctypes.c_int64)]


class _Transfer(ctypes.Structure):
    _fields_ = [("run_bytes", ctypes.c_int64), ("runs", ctypes.c_int64),
                ("access_bytes", ctypes.c_int64), ("num_loops", ctypes.c_int32),
                ("extents", ctypes.c_int64 * _MAX_AXES),
                ("strides", ctypes.c_int64 * _MAX_AXES)]


@lru_cache(maxsize=None)
def _functions() -> Any:
    functions = library()
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    for name, result, arguments in (
            ("kvcLayoutParse", pointer, [text, ctypes.POINTER(pointer)]),
            ("kvcLayoutFree", None, [pointer]),
            ("kvcLayoutTransfer", ctypes.c_int32,
             [pointer, text, ctypes.POINTER(_Slice), ctypes.c_size_t,
              ctypes.POINTER(_Transfer), ctypes.POINTER(pointer)]),
            ("kvcLayoutDraw", pointer, [pointer, ctypes.c_int32])):
        function = getattr(functions, name)
        function.restype, function.argtypes = result, arguments
    return functions


class Query:
    """The layout of the type of a cache."""

    def __init__(self, cache_type: str) -> None:
        messages = ctypes.c_void_p()
        self._layout = _functions().kvcLayoutParse(cache_type.encode(),
                                                   ctypes.byref(messages))
        said = take(messages)
        if not self._layout:
            raise ValueError(said)

    def __del__(self) -> None:
        if getattr(self, "_layout", None):
            _functions().kvcLayoutFree(self._layout)

    def transfer(self, moved: str, slices: dict) -> Transfer:
        given = (_Slice * len(slices))(*(
            (axis.encode(), first, end - first)
            for axis, (first, end) in slices.items()))
        found, messages = _Transfer(), ctypes.c_void_p()
        status = _functions().kvcLayoutTransfer(
            self._layout, moved.encode(), given, len(slices),
            ctypes.byref(found), ctypes.byref(messages))
        said = take(messages)
        if status:
            raise ValueError(said)
        loops = zip(found.extents[:found.num_loops],
                    found.strides[:found.num_loops])
        return Transfer(found.run_bytes, _known(found.runs), found.access_bytes,
                        tuple((_known(n), _known(stride)) for n, stride in loops))

    def draw(self, svg: bool = False) -> str:
        return take(ctypes.c_void_p(_functions().kvcLayoutDraw(self._layout, svg)))


def _known(number: int) -> Optional[int]:
    return None if number == _RUN_TIME else number
