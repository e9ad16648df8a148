# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A function under construction, and what a call of it needs.

An argument has a type and a `Spec`, which makes it for a call from the extents
that the call has chosen: `dims` maps the names of extents to numbers.
"""

from dataclasses import dataclass, field
from typing import Callable, Optional

import numpy as np
from cache_types import CacheType

BITS = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "index": 64}


@dataclass
class Spec:
    """kind: pool, rows, list, table, bytes, number or real.

    shape:  names of extents, and numbers
    memory: arguments that name the same memory may overlap
    """

    kind: str
    element: str = ""
    shape: tuple = ()
    cache: Optional[CacheType] = None
    order: tuple = ()  # of a memref of elements: the axis of each dimension
    values: Optional[Callable] = None
    memory: int = 0
    align: int = 0
    apart: bool = False  # rows may have gaps between them
    heads_apart: bool = False  # and the heads of a row

    def row_align(self, size):
        """The largest power of two that divides a row, up to 16 bytes, where
        the type says how large a row is."""
        inner = self.shape[1:]
        if not inner or any(isinstance(n, str) for n in inner):
            return size
        row = int(np.prod(inner)) * size
        return min(16, row & -row)


@dataclass
class Pool:
    """A cache in the program. `blocks` is the name of the extent of B, or None
    where nobody knows it; `memory` are the numbers of what it may lie in."""

    ssa: str
    type: CacheType
    memory: frozenset
    blocks: Optional[str] = None
    writable: bool = True
    joined: bool = False  # one of several

    @property
    def text(self):
        return str(self.type)

    def extent(self, letter):
        return int(np.prod([n for a, n in self.type.axes.items()
                            if a[0] == letter], dtype=np.int64))

    def has(self, letter):
        return any(a[0] == letter for a in self.type.axes)

    @property
    def tokens(self):
        return self.type.axes["N"]

    @property
    def element(self):
        return self.type.element_type

    @property
    def sides(self):
        return self.type.axes.get("S", 1)

    @property
    def row(self):
        """The extents of a row."""
        return [self.extent(x) for x in "HD" if self.has(x)]

    @property
    def split(self):
        return any("." in a for a in self.type.axes)


def pick(rng, *choices):
    """One of pairs of a weight and a value."""
    return rng.choices([c[1] for c in choices], [c[0] for c in choices])[0]


def hostile(rng, bits, good, edges, share=0.25):
    """A number that is mostly good, and otherwise at an edge of what is."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    if rng.random() >= share:
        value = good()
    else:
        edge = rng.choice([*edges, low, high, -1, 1 << 31, 1 << 62, 1 << 32])
        value = edge + rng.choice([-1, 0, 0, 1])
    return min(max(value, low), high)


class Builder:
    def __init__(self, rng, name, gpu=False):
        self.rng, self.name, self.gpu = rng, name, gpu
        self.lines, self.top, self.helpers = [], [], []
        self.arguments, self.results = [], []
        self.pools, self.dims = [], {}
        self.depth = 1
        self.number = 0
        self.constants = {}
        self.tags = set()

    # --- Text ---------------------------------------------------------------

    def say(self, text):
        self.lines.append("  " * self.depth + text)

    def fresh(self, prefix="v"):
        self.number += 1
        return f"%{prefix}{self.number}"

    def let(self, text, prefix="v"):
        name = self.fresh(prefix)
        self.say(f"{name} = {text}")
        return name

    def constant(self, value, kind="index"):
        key = value, kind
        if key not in self.constants:
            name = self.fresh("c")
            self.top.append(f"  {name} = arith.constant {value} : {kind}")
            self.constants[key] = name
        return self.constants[key]

    def argument(self, prefix, kind, spec):
        name = self.fresh(prefix)
        self.arguments.append((name, kind, spec))
        return name

    def extent(self, prefix, chooser):
        """A name for an extent that calls choose."""
        self.number += 1
        name = f"{prefix}{self.number}"
        self.dims[name] = chooser
        return name

    def memory(self):
        self.number += 1
        return self.number

    def text(self):
        arguments = ", ".join(f"{n}: {t}" for n, t, _ in self.arguments)
        results = ""
        if self.results:
            results = f" -> ({', '.join(t for _, t, _ in self.results)})"
        names = ", ".join(n for n, _, _ in self.results)
        kinds = ", ".join(t for _, t, _ in self.results)
        last = f"  return {names} : {kinds}" if names else "  return"
        body = [f"func.func @{self.name}({arguments}){results} {{",
                *self.top, *self.lines, last, "}"]
        return "\n".join([*self.helpers, *body, ""])

    # --- Arguments ----------------------------------------------------------

    def chance(self, share):
        return self.rng.random() < share

    def rows_count(self):
        return self.extent("T", lambda r, d: pick(
            r, (1, 0), (2, 1), (2, 2), (4, r.randint(3, 9))))

    def number_argument(self, bits_name, values):
        return self.argument("n", bits_name,
                             Spec("number", bits_name, values=values))

    def list_argument(self, width, length, values, prefix="list",
                      tensor=False):
        """`values(rng, dims, count)` gives the entries."""
        kind = f"{'tensor' if tensor else 'memref'}<?x{width}>"
        return self.argument(prefix, kind, Spec(
            "list", width, (length,), values=values, memory=self.memory()))

    def rows_argument(self, prefix, length, row, element, memory=None,
                      tensor=False):
        inner = "x".join(map(str, row))
        apart = not tensor and self.chance(0.25)
        kind = f"{'tensor' if tensor else 'memref'}<?x{inner}x{element}"
        if apart:
            strides = [int(np.prod(row[i + 1 :])) for i in range(len(row))]
            kind += (", strided<[?, " + ", ".join(map(str, strides))
                     + "], offset: ?>")
        kind += ">"
        return self.argument(prefix, kind, Spec(
            "rows", element, (length, *row), memory=memory or self.memory(),
            apart=apart)), kind

    # --- Scopes -------------------------------------------------------------

    def scope(self):
        return _Scope(self)


class _Scope:
    """What is defined inside of a region is not known outside."""

    def __init__(self, builder):
        self.builder = builder

    def __enter__(self):
        self.pools = list(self.builder.pools)
        self.builder.depth += 1

    def __exit__(self, *_):
        self.builder.pools = self.pools
        self.builder.depth -= 1


@dataclass
class Program:
    name: str
    text: str
    arguments: list
    results: list
    dims: dict
    tags: set = field(default_factory=set)
