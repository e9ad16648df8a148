# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What depends on the library of an array: NumPy, PyTorch, JAX and others."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any, Optional

from ._version import FORMATS


# The type codes of DLPack, by what arrays call their elements.
_CODES = {dtype: code for dtype, code, _ in FORMATS.values()}


def _library_of(array: Any) -> str:
    return type(array).__module__.partition(".")[0]


@lru_cache(maxsize=None)
def _numpy_type(where: str, dtype: str) -> Any:
    import numpy
    if hasattr(numpy, dtype):
        return numpy.dtype(dtype)
    try:
        import ml_dtypes
    except ImportError:
        raise TypeError(f"{where}: an array of {dtype} in NumPy needs the "
                        "package ml_dtypes; install it, or pass an array"
                        ) from None
    return numpy.dtype(getattr(ml_dtypes, dtype))


def export(function: str, name: str, value: Any, reason: Any) -> tuple:
    """An array of the same memory that has DLPack, and the code of its
    elements. NumPy does not export the types of ml_dtypes, nor read-only arrays
    before version 2, and PyTorch not every type that it has."""
    where = f"{function}: argument '{name}'"
    library, dtype = _library_of(value), getattr(value, "dtype", None)
    if library == "numpy" and hasattr(dtype, "name"):
        if dtype.name in _CODES and not hasattr(sys.modules["numpy"],
                                                dtype.name):
            return value.view(f"int{8 * dtype.itemsize}"), _CODES[dtype.name]
    if library == "torch" and value.element_size() == 1:
        code = _CODES.get(str(dtype).removeprefix("torch."))
        if code is not None:
            return value.view(sys.modules["torch"].uint8), code
    if not hasattr(value, "__dlpack__"):
        raise TypeError(f"{where}: expected an array with __dlpack__, got "
                        f"{type(value).__name__}")
    raise ValueError(f"{where}: {reason}") from reason


def allocate(function: str, argument: dict, sample: Any, shape: tuple) -> Any:
    """An array for a result, of the kind of another array and in its memory.
    Libraries with an exchange in C make theirs themselves."""
    where, dtype = f"{function}: argument '{argument['name']}'", argument["dtype"]
    library = _library_of(sample)
    if library == "numpy":
        return new_numpy(where, dtype, shape, argument["align"])
    if library == "torch":
        import torch
        return torch.empty(shape, dtype=getattr(torch, dtype),
                           device=sample.device)
    if library in ("jax", "jaxlib"):
        import jax
        import jax.numpy
        return jax.device_put(jax.numpy.zeros(shape, _numpy_type(where, dtype)),
                              next(iter(sample.devices())))
    raise TypeError(f"{where}: a result for arrays of {type(sample).__name__} "
                    "cannot be made; pass an array for it")


def new_numpy(where: str, dtype: str, shape: tuple, align: int = 64) -> Any:
    """An array of NumPy, which aligns to 16 bytes by itself."""
    import numpy
    kind = _numpy_type(where, dtype)
    if align <= 16:
        return numpy.empty(shape, kind)
    size = kind.itemsize
    for extent in shape:
        size *= extent
    memory = numpy.empty(size + align, numpy.uint8)
    start = -memory.ctypes.data % align
    return memory[start:start + size].view(kind).reshape(shape)


def current_stream(device: Optional[int]) -> int:
    """PyTorch's current stream of a device, by default the current one; else the
    default stream."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return torch.cuda.current_stream(device).cuda_stream
    return 0


def has_own_streams(array: Any) -> bool:
    """Whether the library of an array works on streams that nobody else knows,
    and would read a result before it is written."""
    return _library_of(array) in ("jax", "jaxlib")


def shape_text(argument: dict) -> str:
    """`bf16 [2, n0, 16, 8, 128]`: equal extents have the same name."""
    extents = []
    for dim in argument["dims"]:
        extent = dim["extent"]
        if extent == "any":
            extent = f"n{dim['equal']}" if "equal" in dim else "?"
        extents.append(str(extent))
    return f"{argument['element_type']} [{', '.join(extents)}]"


def signature(arguments: list) -> Any:
    """For help(), inspect and editors."""
    from inspect import Parameter, Signature
    parameters = []
    optional = False
    for i, argument in enumerate(arguments):
        optional = optional or argument.get("result", False)
        name = argument["name"] if argument["name"].isidentifier() else f"arg{i}"
        parameters.append(Parameter(
            name, Parameter.POSITIONAL_OR_KEYWORD,
            default=None if optional else Parameter.empty))
    return Signature(parameters)


def document(name: str, arguments: list) -> str:
    lines = [f"The compiled function {name}.", ""]
    for argument in arguments:
        what = argument["type"]
        if argument["kind"] == "tensor":
            what = f"{shape_text(argument)}, {argument['access']}"
            if argument.get("result"):
                what = f"{shape_text(argument)}, result"
            if "axes" in argument:
                what += (f"; axes {', '.join(argument['axes'])}, in memory "
                         f"{', '.join(argument['order'])}")
        lines.append(f"{argument['name']}: {what}")
    return "\n".join(lines)
