# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""arith: integers of all widths wrap around, floating point rounds to its type.

An integer is a signed Python number, one bit is 0 or 1; a floating point number
is the exact number. On tensors, operations work element by element.
"""

import math

import numpy as np
from interpreter import Undefined, handles
from ir_types import Dense, Float, Integer, Tensor, dtype_of
from ref_elements import ELEMENTS, decode, encode, round_to


def wrap(value, width):
    value &= (1 << width) - 1
    if width > 1 and value >> (width - 1):
        value -= 1 << width
    return value


def unsigned(value, width):
    return value & ((1 << width) - 1)


def signed(value, width):
    return -value if width == 1 else value


def round_float(value, name):
    if name == "f64":
        return float(value)
    if not ELEMENTS[name].is_native:
        return float(round_to(value, name))
    with np.errstate(over="ignore", under="ignore"):
        return float((np.float32 if name == "f32" else np.float16)(value))


def load_scalar(raw, kind):
    """A scalar of an element of an array."""
    if isinstance(kind, Integer):
        return int(raw)
    if kind.name in ELEMENTS and not ELEMENTS[kind.name].is_native:
        return float(decode(raw, kind.name))
    return float(raw)


def store_scalar(array, index, value, kind):
    if isinstance(kind, Float) and kind.name in ELEMENTS and (
            not ELEMENTS[kind.name].is_native):
        value = encode(value, kind.name)
    with np.errstate(over="ignore"):
        array[index] = value


def _elementwise(function):
    """The handler for a function of scalars and types."""
    def handler(run, op, values, env):
        kinds = op.operand_types
        result = op.result_types[0]
        if not isinstance(result, Tensor):
            return [function(op, values, kinds[-1], result)]
        shapes = [v.shape for v in values if isinstance(v, np.ndarray)]
        out = np.empty(shapes[0], dtype_of(result.element))
        for index in np.ndindex(*shapes[0]):
            scalars = [load_scalar(v[index], k.element)
                       if isinstance(v, np.ndarray) else v
                       for v, k in zip(values, kinds)]
            last = kinds[-1].element
            store_scalar(out, index, function(op, scalars, last,
                                              result.element), result.element)
        return [out]
    return handler


def _integers(name, function):
    def apply(op, values, kind, result):
        return wrap(function(*values, kind.width), result.width)
    handles(f"arith.{name}")(_elementwise(apply))


def _truncating(a, b):
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _divide(how):
    def function(a, b, w):
        a, b = signed(a, w), signed(b, w)
        if b == 0 or (b == -1 and a == -(1 << (w - 1))):
            raise Undefined("a division that overflows")
        return how(a, b)
    return function


def _divide_unsigned(how):
    def function(a, b, w):
        if b == 0:
            raise Undefined("a division by zero")
        return how(unsigned(a, w), unsigned(b, w))
    return function


def _shift(how):
    def function(a, b, w):
        if not 0 <= unsigned(b, w) < w:
            raise Undefined("a shift by the width")
        return how(a, unsigned(b, w), w)
    return function


for _name, _function in {
        "addi": lambda a, b, w: a + b,
        "subi": lambda a, b, w: a - b,
        "muli": lambda a, b, w: a * b,
        "andi": lambda a, b, w: a & b,
        "ori": lambda a, b, w: a | b,
        "xori": lambda a, b, w: a ^ b,
        "divsi": _divide(_truncating),
        "remsi": _divide(lambda a, b: a - b * _truncating(a, b)),
        "floordivsi": _divide(lambda a, b: a // b),
        "ceildivsi": _divide(lambda a, b: -(-a // b)),
        "divui": _divide_unsigned(lambda a, b: a // b),
        "remui": _divide_unsigned(lambda a, b: a % b),
        "ceildivui": _divide_unsigned(lambda a, b: -(-a // b)),
        "shli": _shift(lambda a, b, w: a << b),
        "shrsi": _shift(lambda a, b, w: signed(a, w) >> b),
        "shrui": _shift(lambda a, b, w: unsigned(a, w) >> b),
        "minsi": lambda a, b, w: min(signed(a, w), signed(b, w)),
        "maxsi": lambda a, b, w: max(signed(a, w), signed(b, w)),
        "minui": lambda a, b, w: min(unsigned(a, w), unsigned(b, w)),
        "maxui": lambda a, b, w: max(unsigned(a, w), unsigned(b, w)),
        "trunci": lambda a, w: a,
        "extsi": lambda a, w: signed(a, w),
        "extui": lambda a, w: unsigned(a, w),
        "index_cast": lambda a, w: signed(a, w),
        "index_castui": lambda a, w: unsigned(a, w)}.items():
    _integers(_name, _function)

_COMPARE = [lambda a, b: a == b, lambda a, b: a != b, lambda a, b: a < b,
            lambda a, b: a <= b, lambda a, b: a > b, lambda a, b: a >= b]


def _cmpi(op, values, kind, result):
    predicate = op.attributes["predicate"]
    view = signed if predicate < 6 else unsigned
    a, b = (view(v, kind.width) for v in values)
    return int(_COMPARE[predicate if predicate < 6 else predicate - 4](a, b))


def _cmpf(op, values, kind, result):
    a, b = values
    predicate = op.attributes["predicate"]
    nan = math.isnan(a) or math.isnan(b)
    if predicate in (0, 15):
        return int(predicate == 15)
    if predicate in (7, 14):
        return int(nan == (predicate == 14))
    # oeq ogt oge olt ole one, and the unordered ones
    which = [0, 4, 5, 2, 3, 1][(predicate - 1) % 7]
    return int(predicate > 7) if nan else int(_COMPARE[which](a, b))


handles("arith.cmpi")(_elementwise(_cmpi))
handles("arith.cmpf")(_elementwise(_cmpf))


def _floats(name, function):
    def apply(op, values, kind, result):
        with np.errstate(all="ignore"):
            value = function(*map(np.float64, values))
        return round_float(value, result.name)
    handles(f"arith.{name}")(_elementwise(apply))


def _number(choose):
    def function(a, b):
        if np.isnan(a) or np.isnan(b):
            return b if np.isnan(a) else a
        return choose(a, b)
    return function


for _name, _function in {
        "addf": lambda a, b: a + b, "subf": lambda a, b: a - b,
        "mulf": lambda a, b: a * b, "divf": lambda a, b: a / b,
        "negf": lambda a: -a, "extf": lambda a: a, "truncf": lambda a: a,
        "maximumf": np.maximum, "minimumf": np.minimum,
        "maxnumf": _number(max), "minnumf": _number(min)}.items():
    _floats(_name, _function)


def _to_integer(view):
    def apply(op, values, kind, result):
        value = values[0]
        if not math.isfinite(value):
            raise Undefined("no integer is NaN or infinite")
        number = int(value)
        width = result.width
        low, high = ((-(1 << (width - 1)), (1 << (width - 1)) - 1)
                     if view is signed else (0, (1 << width) - 1))
        if not low <= number <= high:
            raise Undefined("a number that the integer cannot hold")
        return wrap(number, width)
    return apply


def _to_float(view):
    def apply(op, values, kind, result):
        number = view(values[0], kind.width)
        exact = float(number)
        if int(exact) != number and result.name != "f64":
            # Rounded twice: to odd first.
            other = math.nextafter(exact, -math.inf if exact > number
                                   else math.inf)
            exact = exact if np.float64(exact).view(np.int64) & 1 else other
        return round_float(exact, result.name)
    return apply


handles("arith.fptosi")(_elementwise(_to_integer(signed)))
handles("arith.fptoui")(_elementwise(_to_integer(unsigned)))
handles("arith.sitofp")(_elementwise(_to_float(signed)))
handles("arith.uitofp")(_elementwise(_to_float(unsigned)))


@handles("arith.bitcast")
def _bitcast(run, op, values, env):
    source, result = op.operand_types[0], op.result_types[0]
    cell = np.zeros(1, dtype_of(source))
    store_scalar(cell, 0, values[0], source)
    return [load_scalar(cell.view(dtype_of(result))[0], result)]


@handles("arith.select")
def _select(run, op, values, env):
    condition, a, b = values
    if isinstance(condition, np.ndarray):
        return [np.where(condition.astype(bool), a, b)]
    return [a if condition else b]


@handles("arith.constant")
def _constant(run, op, values, env):
    value = op.attributes["value"]
    if not isinstance(value, Dense):
        kind = op.result_types[0]
        return [wrap(int(value), kind.width) if isinstance(kind, Integer)
                else float(value)]
    return [dense_array(value)]


def dense_array(value):
    out = np.empty(value.type.shape, dtype_of(value.type.element))
    flat = out.reshape(-1)
    numbers = value.values * (out.size if len(value.values) == 1 else 1)
    for i, number in enumerate(numbers):
        store_scalar(flat, i, number, value.type.element)
    return out


@handles("ub.poison")
def _poison(run, op, values, env):
    return [0]
