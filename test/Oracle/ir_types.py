# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Types and attributes of the generic form as Python values."""

import functools
import re
from collections import namedtuple

import numpy as np
from generic_form import end_of, split
from ref_cache import order_of
from ref_elements import STORAGE, decode

Integer = namedtuple("Integer", "width")  # of `index`: 64
Float = namedtuple("Float", "name")
MemRef = namedtuple("MemRef", "shape element strides")
Tensor = namedtuple("Tensor", "shape element")
# extents: axis -> number or None; facts: axis -> number, or ("mult", number)
CacheType = namedtuple("CacheType", "extents element order facts align access")
SlotsType = namedtuple("SlotsType", "count element tokens pad")
TableType = namedtuple("TableType", "requests blocks element tokens")
BatchType = namedtuple("BatchType", "requests blocks element tokens positions")
Dense = namedtuple("Dense", "values type")
AffineMap = namedtuple("AffineMap", "dims symbols results")
Other = namedtuple("Other", "text")

DTYPES = {"i1": np.uint8, "i8": np.int8, "i16": np.int16, "i32": np.int32,
          "i64": np.int64, "index": np.int64, "f64": np.float64, **STORAGE}
FLOATS = (*STORAGE, "f64")


def element_name(kind):
    """How the tables here name a scalar type."""
    if isinstance(kind, Float):
        return kind.name
    return f"i{kind.width}"


def dtype_of(kind):
    return np.dtype(DTYPES[element_name(kind)])


def _extent(text):
    return None if text == "?" else int(text)


def _shape(text):
    """The extents and the rest of `4x?xf32`."""
    extents = []
    while found := re.match(r"(\d+|\?)x", text):
        extents.append(_extent(found.group(1)))
        text = text[found.end() :]
    return tuple(extents), text


def _memref(text):
    parts = split(text)
    shape, element = _shape(parts[0])
    strides = None
    if len(parts) > 1 and parts[1].startswith("strided<"):
        inner = parts[1][len("strided<[") :]
        strides = tuple(_extent(s.strip())
                        for s in inner[: inner.index("]")].split(",")
                        if s.strip())
    return MemRef(shape, parse_type(element), strides)


def _cache(text):
    parts = split(text)
    extents = {}
    words = parts[0].split(" x ")
    for word in words[:-1]:
        found = re.fullmatch(r"(\d+|\?)([LSBNHD](?:\.[oi])?)", word.strip())
        extents[found.group(2)] = _extent(found.group(1))
    options = dict(part.split(" = ", 1) for part in parts[1:])
    order = options.get("order")
    if order and order.startswith("["):
        order = [letter.strip() for letter in order[1:-1].split(",")]
    facts = {}
    for fact in split(options.get("strides", "[]")[1:-1]):
        axis, value = (part.strip() for part in fact.split("=", 1))
        if value.startswith("?"):
            facts[axis] = "mult", int(value.split("mult")[1]
                                      if "mult" in value else 1)
        else:
            facts[axis] = int(value)
    return CacheType(extents, parse_type(words[-1].strip()),
                     order_of(order, tuple(extents)), facts,
                     int(options.get("align", 16)),
                     options.get("access", "write"))


def _counts(text):
    """`?R x ?M x i32`: the counts, and the type."""
    words = [word.strip() for word in text.split(" x ")]
    return [_extent(w[:-1]) for w in words[:-1]], parse_type(words[-1])


def _options(parts):
    return {key.strip(): value.strip()
            for key, value in (part.split("=", 1) for part in parts)}


def _slots(text):
    parts = split(text)
    (count,), element = _counts(parts[0])
    options = _options(parts[1:])
    return SlotsType(count, element, int(options["rows_per_block"]),
                     options["pad"])


def _table(text):
    parts = split(text)
    (requests, blocks), element = _counts(parts[0])
    return TableType(requests, blocks, element,
                     int(_options(parts[1:])["tokens"]))


def _batch(text):
    parts = split(text)
    (requests, blocks), element = _counts(parts[0])
    options = _options(parts[1:])
    positions = options.get("positions")
    return BatchType(requests, blocks, element, int(options["tokens"]),
                     parse_type(positions) if positions else None)


_PARSERS = {"memref": _memref, "tensor": lambda t: Tensor(
    *(lambda s: (s[0], parse_type(s[1])))(_shape(split(t)[0]))),
    "!kvcache.cache": _cache, "!kvcache.slots": _slots,
    "!kvcache.block_table": _table, "!kvcache.batch": _batch}


@functools.lru_cache(None)
def parse_type(text):
    text = text.strip()
    if text == "index":
        return Integer(64)
    if found := re.fullmatch(r"[su]?i(\d+)", text):
        return Integer(int(found.group(1)))
    if text in FLOATS:
        return Float(text)
    if text.startswith("("):
        end = end_of(text, 1, ")")
        results = text[end + 1 :].strip()
        assert results.startswith("->"), text
        results = results[2:].strip()
        if results.startswith("("):
            results = results[1:-1]
        return (tuple(map(parse_type, split(text[1:end]))),
                tuple(map(parse_type, split(results))))
    opening = text.find("<")
    parser = _PARSERS.get(text[:opening])
    return parser(text[opening + 1 : -1]) if parser else Other(text)


def _dense(text):
    end = end_of(text, len("dense<"), ">")
    inner = text[len("dense<") : end]
    kind = parse_type(text[end + 1 :].strip().lstrip(":"))
    numbers = [scalar(word, kind.element)
               for word in re.findall(r"[^\[\],\s]+", inner)]
    return Dense(numbers, kind)


def scalar(text, kind):
    """A number as the text of an attribute writes it."""
    if text in ("true", "false"):
        return int(text == "true")
    if isinstance(kind, Float) and text.startswith("0x"):
        bits = int(text, 16)
        dtype = np.dtype(DTYPES[kind.name])
        raw = np.array([bits], f"u{dtype.itemsize}").view(dtype)
        return float(decode(raw, kind.name)[0] if kind.name in STORAGE
                     else raw[0])
    return float(text) if isinstance(kind, Float) else int(text)


def _affine_map(text):
    head, results = text[len("affine_map<") : -1].split("->")
    found = re.match(r"\s*\(([^)]*)\)(?:\[([^]]*)\])?", head)

    def names(group):
        return [name.strip() for name in (group or "").split(",")
                if name.strip()]

    dims, symbols = names(found.group(1)), names(found.group(2))
    code = results.strip().replace("floordiv", "//").replace("mod", "%")
    code = re.sub(r"(.+) ceildiv (.+)", r"-(-(\1) // \2)", code)
    function = eval(  # noqa: S307: text that kv-opt printed
        f"lambda {', '.join(dims + symbols)}: ({code[1:-1]}"
        f"{',' if code != '()' else ''})")
    return AffineMap(len(dims), len(symbols), function)


def parse_attribute(text):
    text = text.strip()
    if text.startswith('"'):
        return text[1:-1].encode().decode("unicode_escape")
    if text.startswith("@"):
        return text[1:].strip('"')
    if text.startswith("["):
        return [parse_attribute(part) for part in split(text[1:-1])]
    if text.startswith("array<"):
        _, _, numbers = text[6:-1].partition(":")
        return [scalar(n.strip(), Integer(64)) for n in numbers.split(",")
                if n.strip()]
    if text.startswith("affine_map<"):
        return _affine_map(text)
    if text.startswith("dense<"):
        return _dense(text)
    if text in ("true", "false"):
        return int(text == "true")
    if found := re.fullmatch(r"([-+.\w]+)(?:\s*:\s*(\w+))?", text):
        kind = parse_type(found.group(2)) if found.group(2) else None
        if re.match(r"[-+]?\d", text):
            return scalar(found.group(1),
                          kind or (Float("f64") if "." in text else Integer(64)))
    if text.startswith("#"):
        return Other(text)
    return parse_type(text)
