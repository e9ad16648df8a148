# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What depends on the library of an array: NumPy, PyTorch, JAX and others."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any, Optional

_BFLOAT = 4  # of DLPack


def _library_of(array: Any) -> str:
    return type(array).__module__.partition(".")[0]


@lru_cache(maxsize=None)
def _numpy_type(where: str, element_type: str) -> Any:
    import numpy
    if element_type == "bf16":
        try:
            import ml_dtypes
        except ImportError:
            raise TypeError(f"{where}: an array of bf16 in NumPy needs the "
                            "package ml_dtypes; install it, or pass an array"
                            ) from None
        return numpy.dtype(ml_dtypes.bfloat16)
    kind = {"f": "float", "i": "int"}[element_type[0]]
    return numpy.dtype(f"{kind}{element_type[1:]}")


def export(function: str, name: str, value: Any, reason: Any) -> tuple:
    """An array of the same memory that has DLPack, and the code of its
    elements. NumPy does not export the bf16 of ml_dtypes, nor read-only arrays
    before version 2."""
    where = f"{function}: argument '{name}'"
    if _library_of(value) == "numpy" and hasattr(value, "dtype"):
        if value.dtype.name == "bfloat16":
            return value.view("int16"), _BFLOAT
    if not hasattr(value, "__dlpack__"):
        raise TypeError(f"{where}: expected an array with __dlpack__, got "
                        f"{type(value).__name__}")
    raise ValueError(f"{where}: {reason}") from reason


def allocate(function: str, argument: dict, sample: Any, shape: tuple) -> Any:
    """An array for a result, of the kind of another array and in its memory.
    Libraries with an exchange in C make theirs themselves."""
    where, element_type = argument["name"], argument["element_type"]
    where = f"{function}: argument '{where}'"
    library = _library_of(sample)
    if library == "numpy":
        return new_numpy(where, element_type, shape, argument["align"])
    if library == "torch":
        import torch
        types = {"bf16": torch.bfloat16, "f16": torch.float16,
                 "f32": torch.float32, "f64": torch.float64, "i8": torch.int8,
                 "i16": torch.int16, "i32": torch.int32, "i64": torch.int64}
        return torch.empty(shape, dtype=types[element_type],
                           device=sample.device)
    if library in ("jax", "jaxlib"):
        import jax
        import jax.numpy
        dtype = _numpy_type(where, element_type)
        return jax.device_put(jax.numpy.zeros(shape, dtype),
                              next(iter(sample.devices())))
    raise TypeError(f"{where}: a result for arrays of {type(sample).__name__} "
                    "cannot be made; pass an array for it")


def new_numpy(where: str, element_type: str, shape: tuple,
              align: int = 64) -> Any:
    """An array of NumPy, which aligns to 16 bytes by itself."""
    import numpy
    dtype = _numpy_type(where, element_type)
    if align <= 16:
        return numpy.empty(shape, dtype)
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    memory = numpy.empty(size + align, numpy.uint8)
    start = -memory.ctypes.data % align
    return memory[start:start + size].view(dtype).reshape(shape)


def current_stream(device: Optional[int]) -> int:
    """PyTorch's current stream of a device, by default the current one; else the
    default stream."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return torch.cuda.current_stream(device).cuda_stream
    return 0


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
