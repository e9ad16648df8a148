# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Runs functions of the dialect on NumPy, as the documents say.

A memref is an array that looks into memory, a tensor one that nobody writes, a
cache a `ref_cache.Cache`. So aliases are what they are in memory. What a
program leaves open (memory that was never written, results of calls that fail)
gets `poison`: two runs with different poison tell what is open.
"""

from collections import namedtuple

import numpy as np
from generic_form import read_module
from ir_types import dtype_of, parse_attribute, parse_type
from liveness import Liveness

Slots = namedtuple("Slots", "list tokens")
Table = namedtuple("Table", "list tokens")
Batch = namedtuple("Batch", "starts lengths table tokens positions")


class Undefined(Exception):
    """The program does what has no meaning: a fault of who wrote it."""


class Unsupported(Exception):
    """The interpreter does not know an operation."""


HANDLERS = {}


def handles(*names):
    def enter(function):
        for name in names:
            HANDLERS[name] = function
        return function
    return enter


class Interpreter:
    MAX_STEPS = 500_000

    def __init__(self, text):
        self.functions, self.globals = read_module(
            text, parse_attribute, parse_type)
        self.liveness = None
        self.start()

    def start(self, poison=0xA7, order=0):
        """`order` is one of the sequences of the entries that a GPU works on at
        once; in that of number 0 they follow each other, as on a CPU."""
        self.poison, self.order = poison, order
        self.longest = 0  # list of which the order matters
        self.fails = []  # why the call fails
        self.may_fail = False
        self.steps = 0
        # What a result of attention may differ by: of elements in memory by
        # their address, of tensors by their identity.
        self.tolerances = {}
        self.tensor_tolerances = {}

    def fail(self, why, op=None):
        """The call fails, or may fail where nobody needs what the operation
        gives."""
        self.liveness = self.liveness or Liveness(self.functions)
        if op is None or self.liveness.is_live(op):
            self.fails.append(str(why))
        else:
            self.may_fail = True

    def sequence(self, count):
        """The entries of a list, as they follow each other: in 2 * count
        orders each of two is the later one, and each of all the last."""
        self.longest = max(self.longest, count)
        first, backwards = divmod(self.order, 2)
        entries = [(i + first) % count for i in range(count)]
        return entries[::-1] if backwards else entries

    def undefined(self, shape, kind):
        """Contents that nobody has written yet."""
        out = np.empty(shape, dtype_of(kind))
        out.reshape(-1).view(np.uint8)[:] = self.poison
        if out.dtype == np.uint8:
            out &= 1
        return out

    def call(self, name, arguments):
        function = self.functions.get(name)
        if function is None:
            raise Unsupported(f"function {name} without a body")
        return self.region(function.body, arguments, {})[1]

    def region(self, region, arguments, env):
        """The name of what ended the region, and its operands."""
        block = region.blocks[0]
        while True:
            env.update(zip(block.arguments, arguments))
            for op in block.ops[:-1]:
                self.execute(op, env)
            last = block.ops[-1]
            values = [env[v] for v in last.operands]
            self.steps += len(block.ops)
            if self.steps > self.MAX_STEPS:
                raise Undefined("the program does not end")
            if not last.successors:
                if last.name not in _TERMINATORS:
                    self.execute(last, env)
                    return last.name, []
                return last.name, values
            chosen, arguments = _branch(last, values)
            block = region.names[last.successors[chosen]]

    def execute(self, op, env):
        handler = HANDLERS.get(op.name)
        if handler is None:
            raise Unsupported(op.name)
        results = handler(self, op, [env[v] for v in op.operands], env)
        if op.results:
            env.update(zip(op.results, results))


_TERMINATORS = {"func.return", "scf.yield", "scf.condition", "scf.reduce",
                "linalg.yield", "tensor.yield", "scf.reduce.return"}


def _branch(op, values):
    """The number of the successor, and what its block gets."""
    if op.name == "cf.br":
        return 0, values
    if op.name == "cf.cond_br":
        _, one, two = op.attributes["operandSegmentSizes"]
        if values[0]:
            return 0, values[1 : 1 + one]
        return 1, values[1 + one : 1 + one + two]
    if op.name == "cf.switch":
        first = 1 + op.attributes["operandSegmentSizes"][1]
        cases = op.attributes.get("case_values")
        sizes = op.attributes.get("case_segments", [])
        for number, case in enumerate(cases.values if cases else []):
            if case == values[0]:
                first += sum(sizes[:number])
                return number + 1, values[first : first + sizes[number]]
        return 0, values[1:first]
    raise Unsupported(op.name)


@handles("func.call")
def _call(run, op, values, env):
    return run.call(op.attributes["callee"], values)


@handles("scf.if")
def _if(run, op, values, env):
    region = op.regions[0 if values[0] else 1]
    if not region.blocks:
        return []
    return run.region(region, [], env)[1]


@handles("scf.for")
def _for(run, op, values, env):
    low, high, step, *carried = values
    if step <= 0:
        raise Undefined("a loop with a step below 1")
    for i in range(low, high, step):
        carried = run.region(op.regions[0], [i, *carried], env)[1]
    return carried


@handles("scf.while")
def _while(run, op, values, env):
    while True:
        go, *values = run.region(op.regions[0], values, env)[1]
        if not go:
            return values
        values = run.region(op.regions[1], values, env)[1]


@handles("scf.index_switch")
def _index_switch(run, op, values, env):
    cases = op.attributes["cases"]
    number = cases.index(values[0]) + 1 if values[0] in cases else 0
    return run.region(op.regions[number], [], env)[1]


@handles("scf.execute_region")
def _execute_region(run, op, values, env):
    return run.region(op.regions[0], [], env)[1]


@handles("scf.parallel")
def _parallel(run, op, values, env):
    count = len(op.regions[0].blocks[0].arguments)
    low, high, step = (values[i * count : (i + 1) * count] for i in range(3))
    if values[3 * count :]:
        raise Unsupported("scf.parallel with results")
    for index in np.ndindex(*(len(range(*r)) for r in zip(low, high, step))):
        run.region(op.regions[0],
                   [a + i * s for a, i, s in zip(low, index, step)], env)
    return []


@handles("kvcache.trace", "cf.assert", "memref.dealloc",
         "memref.assume_alignment", "scf.reduce")
def _nothing(run, op, values, env):
    return values[:1]
