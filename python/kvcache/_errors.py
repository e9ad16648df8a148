# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Errors of calls: the message of the library, with axes in place of numbers of
dimensions, and what to pass instead."""

from __future__ import annotations

import re
from typing import Any, Optional

# The codes of kv_abi.h.
_TYPE, _SHAPE, _STRIDE, _CPU, _CUDA, _ARGUMENTS = 2, 3, 4, 9, 10, 11


def make(code: int, message: str, arguments: list, values: tuple) -> Exception:
    """The exception for an error of a call."""
    text = _explain(code, message, arguments, values)
    if code in (_TYPE, _ARGUMENTS):
        return TypeError(text)
    if code in (_CPU, _CUDA):
        return RuntimeError(text)
    return ValueError(text)


def _explain(code: int, message: str, arguments: list, values: tuple) -> str:
    named = re.search(r"argument '([^']*)': expected ", message)
    if not named:
        return message
    text = re.sub(r"argument '([^']*)'|dimension (\d+)",
                  _AxisNames(arguments), message)
    for argument, value in zip(arguments, values):
        if argument["name"] == named[1] and code in (_SHAPE, _STRIDE):
            try:
                hint = _hint(argument, value)
            except Exception:  # whatever an array does, the message is right
                hint = ""
            if hint:
                text += "; " + hint
    return text


class _AxisNames:
    """Adds the axis to `dimension 2` in a message: that of the argument named
    next to it, after `dimension N of argument` or `dimension N, as in`, and
    otherwise that of the first one."""

    def __init__(self, arguments: list) -> None:
        self.axes = {a["name"]: a.get("axes") for a in arguments}
        self.current: Optional[str] = None

    def __call__(self, match: re.Match) -> str:
        if match[1] is not None:
            self.current = self.current or match[1]
            return match[0]
        following = re.match(r" of argument '([^']*)'", match.string[match.end():])
        axes = self.axes.get(following[1] if following else self.current)
        number = int(match[2])
        if not axes or number >= len(axes):
            return match[0]
        return f"axis {axes[number]} ({match[0]})"


# ---- Hints -------------------------------------------------------------------


def _shape_of(value: Any) -> Optional[tuple]:
    try:
        return tuple(int(extent) for extent in value.shape)
    except (AttributeError, TypeError, ValueError):
        return None


def _strides_of(value: Any) -> Optional[tuple]:
    """In elements."""
    try:
        if callable(getattr(value, "stride", None)):
            return tuple(value.stride())
        return tuple(stride // value.itemsize for stride in value.strides)
    except (AttributeError, TypeError):
        return None


def _hint(argument: dict, value: Any) -> str:
    """What the array looks like, if it looks like a known order of the axes of
    the argument, and how to pass it."""
    axes, shape, strides = argument.get("axes"), _shape_of(value), _strides_of(value)
    if not axes or not shape or not strides or len(shape) != len(axes):
        return ""
    order = argument["order"]
    list_of = "[" + ", ".join(order) + "]"
    extents = dict(zip(axes, (dim["extent"] for dim in argument["dims"])))

    def fits(shape: tuple, names: list) -> bool:
        return all(extents[axis] in ("any", extent)
                   for axis, extent in zip(names, shape))

    is_packed = _is_packed(shape, strides)
    if is_packed and order != axes and fits(shape, order):
        permutation = ", ".join(str(order.index(axis)) for axis in axes)
        call = "transpose" if type(value).__module__ == "numpy" else "permute"
        return (f"your tensor looks like {list_of}, as it is in memory; pass "
                f"`{argument['name']}.{call}({permutation})`, whose dimensions "
                f"are [{', '.join(axes)}]")
    if fits(shape, axes):
        present = sorted(range(len(axes)), key=lambda d: (-strides[d], d))
        found = [axes[d] for d in present]
        if found != order:
            return (f"your tensor is [{', '.join(found)}] in memory; the program "
                    f"expects {list_of}")
        return ""
    wanted = ", ".join(f"{axis} = {'any' if extents[axis] == 'any' else extents[axis]}"
                       for axis in axes)
    return f"expected are {wanted}, got {list(shape)}"


def _is_packed(shape: tuple, strides: tuple) -> bool:
    expected = 1
    for extent, stride in zip(reversed(shape), reversed(strides)):
        if extent != 1 and stride != expected:
            return False
        expected *= extent
    return True
