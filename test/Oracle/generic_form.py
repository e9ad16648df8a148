# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Reads the generic form of MLIR, as `kv-opt --mlir-print-op-generic` prints it.

    "name"(operands)[successors] <{properties}> ({regions}) {attributes} : type

Types and attributes stay text until they are asked for: see ir_types.py.
"""

import functools
import re
from dataclasses import dataclass, field

_SPACE = re.compile(r"(?:\s+|//[^\n]*)*")
_RESULTS = re.compile(r"(%[\w$.-]+)(?::(\d+))?\s*=\s*")
_NAME = re.compile(r'"([^"]+)"')
_VALUE = re.compile(r"%[\w$.-]+(?:#\d+)?")
_BLOCK = re.compile(r"\^([\w$.-]+)")
_KEY = re.compile(r'[\w$.-]+|"[^"]*"')
_ALIAS = re.compile(r"([!#][\w$.-]+)\s*=\s*(.*)")
_ALIAS_USE = re.compile(r"[!#][\w$.-]+")
# What matters where the end of a type or of an attribute is looked for.
_MARK = re.compile(r'->|"(?:[^"\\]|\\.)*"|[<>(){}\[\],\n]')
_CLOSE = {"<": ">", "(": ")", "{": "}", "[": "]"}


class SyntaxProblem(Exception):
    pass


@dataclass
class Op:
    name: str
    operands: list
    results: list
    successors: list
    attributes: dict
    regions: list
    operand_types: list
    result_types: list

    def segments(self):
        """Operands as the groups that the operation has."""
        out, first = [], 0
        for size in self.attributes["operandSegmentSizes"]:
            out.append(self.operands[first : first + size])
            first += size
        return out


@dataclass
class Block:
    arguments: list = field(default_factory=list)
    types: list = field(default_factory=list)
    ops: list = field(default_factory=list)


@dataclass
class Region:
    blocks: list = field(default_factory=list)
    names: dict = field(default_factory=dict)


@dataclass
class Function:
    name: str
    public: bool
    body: Region
    argument_types: list
    result_types: list


def end_of(text, at, stops):
    """Where the first of `stops` stands that no bracket encloses."""
    closing = []
    while True:
        mark = _MARK.search(text, at)
        if not mark:
            return len(text)
        token = mark.group()
        if not closing and token in stops:
            return mark.start()
        if token in _CLOSE:
            closing.append(_CLOSE[token])
        elif closing and token == closing[-1]:
            closing.pop()
        elif not closing and token in ">)}]":
            return mark.start()
        at = mark.end()


def split(text, separator=","):
    """Parts between separators that no bracket encloses."""
    parts, at = [], 0
    while at < len(text):
        end = end_of(text, at, separator)
        part = text[at:end].strip()
        if part:
            parts.append(part)
        at = end + 1
    return parts


class Reader:
    def __init__(self, text, attribute, type_of):
        """`attribute` and `type_of` make values of the text of an attribute
        and of a type, with all aliases put in."""
        self.aliases = {}
        lines = text.split("\n")
        for first, line in enumerate(lines):
            alias = _ALIAS.match(line)
            if alias:
                self.aliases[alias.group(1)] = self._expand(alias.group(2))
            elif line.startswith('"'):
                break
        self.text = "\n".join(lines[first:])
        self.at = 0
        self._attribute, self._type = attribute, type_of
        self.attribute = functools.lru_cache(None)(
            lambda t: self._attribute(self._expand(t)))
        self.type_of = functools.lru_cache(None)(
            lambda t: self._type(self._expand(t)))

    def _expand(self, text):
        return _ALIAS_USE.sub(
            lambda m: self.aliases.get(m.group(), m.group()), text)

    def _skip(self):
        self.at = _SPACE.match(self.text, self.at).end()

    def _peek(self, token):
        self._skip()
        return self.text.startswith(token, self.at)

    def _take(self, token):
        if not self._peek(token):
            return False
        self.at += len(token)
        return True

    def _expect(self, token):
        if not self._take(token):
            raise SyntaxProblem(
                f"expected {token!r} at {self.text[self.at : self.at + 60]!r}")

    def _match(self, pattern):
        self._skip()
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()
        return found

    def _until(self, stops):
        begin, self.at = self.at, end_of(self.text, self.at, stops)
        return self.text[begin : self.at].strip()

    def _list(self, pattern, end):
        out = []
        while not self._take(end):
            out.append(self._match(pattern).group())
            self._take(",")
        return out

    def _dictionary(self):
        """The entries up to the closing brace."""
        out = {}
        while not self._take("}"):
            key = self._match(_KEY).group().strip('"')
            if self._take("="):
                out[key] = self.attribute(self._until(",}"))
            else:
                out[key] = True
            self._take(",")
        return out

    def _types(self):
        """One type, or several in parentheses."""
        if not self._take("("):
            return [self.type_of(self._until("\n,"))]
        inner = self._until(")")
        self._expect(")")
        return [self.type_of(part) for part in split(inner)]

    def _block(self, block):
        while not self._peek("}") and not self._peek("^"):
            block.ops.append(self.operation())

    def _region(self):
        self._expect("{")
        region = Region()
        if not self._peek("^") and not self._peek("}"):
            region.blocks.append(Block())
            self._block(region.blocks[0])
        while not self._take("}"):
            block = Block()
            region.names[self._match(_BLOCK).group(1)] = block
            if self._take("("):
                while not self._take(")"):
                    block.arguments.append(self._match(_VALUE).group())
                    self._expect(":")
                    block.types.append(self.type_of(self._until(",)")))
                    self._take(",")
            self._expect(":")
            self._block(block)
            region.blocks.append(block)
        return region

    def operation(self):
        named = self._match(_RESULTS)
        name = self._match(_NAME)
        if not name:
            raise SyntaxProblem(
                f"no operation at {self.text[self.at : self.at + 60]!r}")
        self._expect("(")
        operands = self._list(_VALUE, ")")
        successors = ([s[1:] for s in self._list(_BLOCK, "]")]
                      if self._take("[") else [])
        attributes, regions = {}, []
        if self._take("<{"):
            attributes = self._dictionary()
            self._expect(">")
        if self._take("("):
            while not self._take(")"):
                regions.append(self._region())
                self._take(",")
        if self._take("{"):
            attributes = {**attributes, **self._dictionary()}
        self._expect(":")
        operand_types = self._types()
        self._expect("->")
        result_types = self._types()
        results = []
        if named:
            count = int(named.group(2) or 1)
            results = ([named.group(1)] if count == 1 and not named.group(2)
                       else [f"{named.group(1)}#{i}" for i in range(count)])
        return Op(name.group(1), operands, results, successors, attributes,
                  regions, operand_types, result_types)


def read_module(text, attribute, type_of):
    """The functions of a module, and its constants, by name."""
    module = Reader(text, attribute, type_of).operation()
    functions, constants = {}, {}
    for op in (op for block in module.regions[0].blocks for op in block.ops):
        name = op.attributes.get("sym_name")
        if op.name == "memref.global":
            constants[name] = op.attributes["initial_value"]
        if op.name != "func.func" or not op.regions[0].blocks:
            continue
        arguments, results = op.attributes["function_type"]
        functions[name] = Function(
            name, op.attributes.get("sym_visibility") != "private",
            op.regions[0], list(arguments), list(results))
    return functions, constants
