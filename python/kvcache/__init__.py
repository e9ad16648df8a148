# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Programs on paged KV caches, compiled and called in Python.

    import kvcache

    library = kvcache.compile("insert.mlir")
    library.insert(pool, slots=slots, key=key, value=value)

docs/python.md has the rest.
"""

from ._attention import PagedAttention
from ._layout import Layout
from ._library import CompileError, Library, compile, load
from ._version import __version__

__all__ = ["CompileError", "Layout", "Library", "PagedAttention",
           "__version__", "compile", "load"]
