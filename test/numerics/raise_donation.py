# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""An update of a functional program overwrites its input only if the host gives
it away.

Each form of update, of JAX, IREE and torch-mlir, directly and in functions that
others call, is compiled twice. Where the pool is donated, it is updated in
place and nothing is copied. Where it is not, the compiler refuses by default;
with `--allow-pool-copies` the input is what it was, and the result is right.
"""

import subprocess

import numpy as np
from kvtest import KV_COMPILE, Guarded, Tensor, compile_library

rng = np.random.default_rng(11)
ROWS, BLOCKS, TOKENS, WIDTH, COUNT = 32, 8, 4, 8, 3
FLAT, PAIRS = f"tensor<{ROWS}x{WIDTH}xf32>", f"tensor<{BLOCKS}x{TOKENS}x{WIDTH}xf32>"
HND = f"tensor<{BLOCKS}x{WIDTH}x{TOKENS}xf32>"
KV = f"tensor<{BLOCKS}x2x{TOKENS}x{WIDTH}xf32>"
NEW, LIST = f"tensor<{COUNT}x{WIDTH}xf32>", f"tensor<{COUNT}xi32>"
COLUMN, COLUMNS = f"tensor<{COUNT}x1xi32>", f"tensor<{COUNT}x2xi32>"

EXPAND = f"""
  %column = tensor.expand_shape %slots [[0, 1]] output_shape [{COUNT}, 1] : {LIST} into {COLUMN}"""
SPLIT = f"""
  %two = arith.constant dense<2> : {LIST}
  %three = arith.constant dense<3> : {LIST}
  %block = arith.shrsi %slots, %two : {LIST}
  %offset = arith.andi %slots, %three : {LIST}
  %b1 = tensor.expand_shape %block [[0, 1]] output_shape [{COUNT}, 1] : {LIST} into {COLUMN}
  %o1 = tensor.expand_shape %offset [[0, 1]] output_shape [{COUNT}, 1] : {LIST} into {COLUMN}
  %columns = tensor.concat dim(1) %b1, %o1 : ({COLUMN}, {COLUMN}) -> {COLUMNS}"""


def stablehlo(result, pool, type_=FLAT, at="%column", rows="%rows"):
    dims = "[0]" if at == "%column" else "[0, 1]"
    return f"""
  {result} = "stablehlo.scatter"({pool}, {at}, {rows}) <{{scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [1], inserted_window_dims = {dims}, scatter_dims_to_operand_dims = {dims}, index_vector_dim = 1>, unique_indices = true}}> ({{
  ^bb0(%old: tensor<f32>, %new: tensor<f32>):
    "stablehlo.return"(%new) : (tensor<f32>) -> ()
  }}) : ({type_}, {COLUMN if at == "%column" else COLUMNS}, {NEW}) -> {type_}"""


def linalg_ext(dialect, result, pool, type_=FLAT, at="%column"):
    dims = "0" if at == "%column" else "0, 1"
    return f"""
  {result} = "{dialect}.scatter"(%rows, {at}, {pool}) <{{dimension_map = array<i64: {dims}>, unique_indices = true}}> ({{
  ^bb0(%new: f32, %old: f32):
    "{dialect}.yield"(%new) : (f32) -> ()
  }}) : ({NEW}, {COLUMN if at == "%column" else COLUMNS}, {type_}) -> {type_}"""


def main(body, type_=FLAT, result="%next"):
    return f"""
func.func public @main(%pool: {type_} MARK, %rows: {NEW}, %slots: {LIST}) -> {type_} {{{body}
  return {result} : {type_}
}}
"""


def function(name, body, result="%next", type_=FLAT):
    return main(body, type_, result).replace("public @main", f"private @{name}").replace(
        " MARK", "")


def call(result, name, pool, type_=FLAT):
    return f"""
  {result} = call @{name}({pool}, %rows, %slots) : ({type_}, {NEW}, {LIST}) -> {type_}"""


def transposed(type_, into, value, result, name):
    return f"""
  %{name} = tensor.empty() : {into}
  {result} = linalg.transpose ins({value} : {type_}) outs(%{name} : {into}) permutation = [0, 2, 1]"""


def side(number, pool, result):
    """K and V in one tensor: a slice of it is updated and put back."""
    at = f"[0, {number}, 0, 0] [{BLOCKS}, 1, {TOKENS}, {WIDTH}] [1, 1, 1, 1]"
    update = linalg_ext("iree_linalg_ext", f"%w{number}", f"%s{number}", PAIRS, "%columns")
    return f"""
  %s{number} = tensor.extract_slice {pool}{at} : {KV} to {PAIRS}{update}
  {result} = tensor.insert_slice %w{number} into {pool}{at} : {PAIRS} into {KV}"""


WRITE = function("write", EXPAND + stablehlo("%next", "%pool"))
LOOP = f"""
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %times = arith.constant 3 : index
  %next = scf.for %i = %zero to %times step %one iter_args(%p = %pool) -> ({FLAT}) {{"""

FORMS = {
    "JAX, rows": main(EXPAND + stablehlo("%next", "%pool")),
    "JAX, block and offset": main(SPLIT + stablehlo("%next", "%pool", PAIRS, "%columns"), PAIRS),
    "JAX, nested jit": WRITE + main(call("%next", "write", "%pool")),
    "JAX, two levels of jit": WRITE
    + function("outer", call("%next", "write", "%pool"))
    + main(call("%next", "outer", "%pool")),
    "JAX, two calls in sequence": WRITE
    + main(call("%first", "write", "%pool") + call("%next", "write", "%first")),
    "JAX, in a loop": WRITE + main(
        LOOP + call("%r", "write", "%p").replace("= call", "= func.call")
        + f"\n  scf.yield %r : {FLAT}\n  }}"),
    "JAX, behind a choice": main(EXPAND + f"""
  %c = arith.constant true
  %either = arith.select %c, %pool, %pool : {FLAT}""" + stablehlo("%next", "%either")),
    "IREE, index_copy": main(EXPAND + linalg_ext("iree_linalg_ext", "%next", "%pool")),
    "IREE, index_put": main(
        SPLIT + linalg_ext("iree_linalg_ext", "%next", "%pool", PAIRS, "%columns"), PAIRS),
    "IREE, through a transposition": main(
        SPLIT + transposed(HND, PAIRS, "%pool", "%t", "e0")
        + linalg_ext("iree_linalg_ext", "%u", "%t", PAIRS, "%columns")
        + transposed(PAIRS, HND, "%u", "%next", "e1"), HND),
    "IREE, K of K and V": main(SPLIT + side(0, "%pool", "%next"), KV),
    "IREE, V and then K": main(SPLIT + side(1, "%pool", "%p") + side(0, "%p", "%next"), KV),
    "torch-mlir, index_copy": main(EXPAND + linalg_ext("tm_tensor", "%next", "%pool")),
    "torch-mlir, index_put": main(
        SPLIT + linalg_ext("tm_tensor", "%next", "%pool", PAIRS, "%columns"), PAIRS),
    "torch-mlir, in a function": function(
        "write", EXPAND + linalg_ext("tm_tensor", "%next", "%pool"))
    + main(call("%next", "write", "%pool")),
}
DONATED = ["{tf.aliasing_output = 0 : i32}", "{jax.buffer_donor = true}",
           "{iree.abi.output = 0 : index}", "{bufferization.writable = true}"]
KEPT = ["", "{bufferization.writable = false}"]


def raised(program):
    result = subprocess.run(
        ["kv-opt", "--allow-unregistered-dialect", "-", "--kvcache-raise=standalone"],
        input=program, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    assert '= "' not in result.stdout, result.stdout
    return result.stdout


def expected(form, before, rows, slots):
    """Rows are written to the blocks and offsets of their slots; a form for K
    and V has a dimension for the two, and one that is transposed has tokens
    last."""
    after = before.copy()
    for row, slot in zip(rows, slots):
        block, offset = divmod(int(slot), TOKENS)
        if slot < 0 or slot >= ROWS:
            continue
        if "transposition" in form:
            after.reshape(BLOCKS, WIDTH, TOKENS)[block, :, offset] = row
        elif "K" in form.split():
            sides = [0] if "of K" in form else [0, 1]
            for s in sides:
                after.reshape(BLOCKS, 2, TOKENS, WIDTH)[block, s, offset] = row
        else:
            after.reshape(ROWS, WIDTH)[slot] = row
    return after


def calls(library, form, shape, donated):
    """Two calls, the second with what is left of the first."""
    size = int(np.prod(shape))
    pool = Guarded(rng.standard_normal(size).astype(np.float32))
    for _ in range(2):
        before = pool.inside.copy()
        rows = rng.standard_normal((COUNT, WIDTH)).astype(np.float32)
        slots = rng.choice([-1, 0, 1, 5, 17, ROWS - 1, ROWS, -ROWS], COUNT,
                           replace=False).astype(np.int32)
        out = Guarded(np.zeros(size, np.float32))
        arguments = [Tensor(pool.inside, "f32", shape),
                     Tensor(rows.reshape(-1), "f32", [COUNT, WIDTH]),
                     Tensor(slots, "i32", [COUNT])]
        if not donated:
            arguments.append(Tensor(out.inside, "f32", shape))
        library.run("main", *arguments)
        pool.check(form)
        out.check(form)
        want = expected(form, before, rows, slots)
        result = pool if donated else out
        assert np.array_equal(result.inside, want), (form, slots)
        if not donated:
            assert np.array_equal(pool.inside, before), f"{form}: the input was overwritten"


def shape_of(program):
    text = program.split("@main(%pool: tensor<")[1].split("xf32>")[0]
    return [int(n) for n in text.split("x")]


for number, (form, program) in enumerate(FORMS.items()):
    shape = shape_of(program)
    mark = DONATED[number % len(DONATED)]
    text = raised(program.replace("MARK", mark))
    assert "writable = false" not in text, text
    calls(compile_library(text, f"donated{number}"), form, shape, True)
    for kept in KEPT:
        text = raised(program.replace("MARK", kept))
        assert "writable = false" in text, (form, text)
        refused = subprocess.run([KV_COMPILE, "-", "-o", "/dev/null"], input=text,
                                 text=True, capture_output=True)
        assert refused.returncode != 0, form
        assert "takes a pool that the caller donates" in refused.stderr, refused.stderr
    library = compile_library(text, f"kept{number}", "cpu", "--allow-pool-copies")
    calls(library, form, shape, False)
for mark in DONATED:
    assert "writable = false" not in raised(FORMS["JAX, rows"].replace("MARK", mark)), mark
print("ok")
