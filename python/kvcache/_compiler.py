# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The compiler, libkvcache.so, which is loaded only to compile."""

from __future__ import annotations

import ctypes
import os
import tempfile
from functools import lru_cache

from ._library import CompileError, Library, open_anywhere


class _Options(ctypes.Structure):
    """KvcOptions of kvcache-c/Compiler.h."""

    _fields_ = [("bytes", ctypes.c_size_t), ("name", ctypes.c_char_p),
                ("target", ctypes.c_char_p), ("cpu", ctypes.c_char_p),
                ("image", ctypes.c_char_p), ("checks", ctypes.c_char_p),
                ("allow_pool_copies", ctypes.c_int32),
                ("max_variants", ctypes.c_int32)]


@lru_cache(maxsize=None)
def library() -> ctypes.CDLL:
    path = os.path.join(os.path.dirname(__file__), "libkvcache.so")
    loaded = ctypes.CDLL(path)
    loaded.kvcCompile.restype = ctypes.c_int32
    loaded.kvcCompile.argtypes = [
        ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p,
        ctypes.POINTER(_Options), ctypes.c_char_p,
        ctypes.POINTER(ctypes.c_void_p)]
    loaded.kvcFree.restype = None
    loaded.kvcFree.argtypes = [ctypes.c_void_p]
    return loaded


def take(text: ctypes.c_void_p) -> str:
    """A text that the compiler made for its caller; none is empty."""
    try:
        return ctypes.string_at(text.value).decode(errors="replace") \
            if text.value else ""
    finally:
        library().kvcFree(text)


def compile_to(path: str, text: bytes, origin: str, name: str,
               options: dict) -> None:
    """Writes a library to a file, as a whole or not at all."""
    given = _Options(bytes=ctypes.sizeof(_Options), name=name.encode(),
                     **{key: value.encode() for key, value in options.items()})
    messages = ctypes.c_void_p()
    status = library().kvcCompile(text, len(text), os.fsencode(origin),
                                  ctypes.byref(given), os.fsencode(path),
                                  ctypes.byref(messages))
    said = take(messages)
    if status:
        raise CompileError(said.rstrip() or "the compiler failed")
    if said:
        import warnings
        warnings.warn(said.rstrip(), stacklevel=4)


def compile_and_open(folder: str, path: str, text: bytes, origin: str,
                     name: str, options: dict) -> Library:
    """Compiles into the cache; where it cannot be written, into a folder that
    goes away once the library is loaded."""
    if _can_write(folder):
        compile_to(path, text, origin, name, options)
        return open_anywhere(path, name)
    with tempfile.TemporaryDirectory(prefix="kvcache-") as place:
        alone = os.path.join(place, "program.so")
        compile_to(alone, text, origin, name, options)
        return open_anywhere(alone, name)


def _can_write(folder: str) -> bool:
    """Whether the cache takes a file: tried, since permissions do not say."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
