# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Caches, slots, tables and batches as results of everything that chooses
between values or carries them: the chosen one is used, on a CPU, and each
program compiles for a GPU."""

import subprocess

import numpy as np
from kvtest import Guarded, Tensor, compile_library

BLOCKS, TOKENS, CHANNELS = 5, 4, 8
CACHE = "!kvcache.cache<?B x 4N x 8D x f32, align = 4>"
APART = "!kvcache.cache<?B x 4N x 8D x f32, strides = [B = ?, N = ?], align = 4>"
SLOTS = "!kvcache.slots<?T x i64, rows_per_block = 4, pad = skip_negative>"
TABLE = "!kvcache.block_table<1R x ?M x i32, tokens = 4>"
BATCH = "!kvcache.batch<1R x ?M x i32, tokens = 4>"
PLACED = "!kvcache.batch<1R x ?M x i32, tokens = 4, positions = i64>"
ROWS, LIST = "memref<?x8xf32>", "memref<?xi64>"

# Type -> what is done with the chosen value %m. Functions have both of them,
# what a user of one needs, and an output.
USES = {
    "cache": (CACHE, f"%s: {SLOTS}, %out: {ROWS}",
              f"kvcache.gather %m at %s into %out : {CACHE} at {SLOTS} "
              f"into {ROWS}"),
    "apart": (APART, f"%s: {SLOTS}, %out: {ROWS}",
              f"kvcache.gather %m at %s into %out : {APART} at {SLOTS} "
              f"into {ROWS}"),
    "slots": (SLOTS, f"%pool: {CACHE}, %out: {ROWS}",
              f"kvcache.gather %pool at %m into %out : {CACHE} at {SLOTS} "
              f"into {ROWS}"),
    "table": (TABLE, f"%starts: memref<2xi32>, %lengths: memref<1xi32>, "
              f"%out: {LIST}",
              f"%batch = kvcache.make_batch %starts, %lengths, %m : "
              f"memref<2xi32>, memref<1xi32>, {TABLE}\n  "
              f"kvcache.slot_mapping %batch into %out : {BATCH} into {LIST}"),
    "batch": (BATCH, f"%out: {LIST}",
              f"kvcache.slot_mapping %m into %out : {BATCH} into {LIST}"),
    "placed": (PLACED, f"%out: {LIST}",
               f"kvcache.slot_mapping %m into %out : {PLACED} into {LIST}"),
}

# %a if %k is 1, else %b; !T is their type. `kvcache.trace` keeps what would be a
# select from becoming one.
CHOICES = {
    "select": "%m = arith.select %c, %a, %b : !T",
    "if": """%m = scf.if %c -> (!T) {
    scf.yield %a : !T
  } else {
    scf.yield %b : !T
  }""",
    "if_kept": """%m = scf.if %c -> (!T) {
    kvcache.trace "first"
    scf.yield %a : !T
  } else {
    scf.yield %b : !T
  }""",
    "for": """%m, %n = scf.for %i = %c0 to %k step %c1 iter_args(%x = %b, %y = %a)
      -> (!T, !T) {
    kvcache.trace "turn"
    scf.yield %y, %x : !T, !T
  }""",
    "while": """%w:2 = scf.while (%x = %b, %i = %c0) : (!T, index) -> (!T, index) {
    %more = arith.cmpi slt, %i, %k : index
    scf.condition(%more) %x, %i : !T, index
  } do {
  ^bb0(%x: !T, %i: index):
    kvcache.trace "turn"
    %next = arith.addi %i, %c1 : index
    scf.yield %a, %next : !T, index
  }
  %m = arith.select %c, %w#0, %w#0 : !T""",
    "index_switch": """%m = scf.index_switch %k -> !T
  case 1 {
    kvcache.trace "one"
    scf.yield %a : !T
  }
  default {
    scf.yield %b : !T
  }""",
    "execute_region": """%m = scf.execute_region -> !T {
    cf.cond_br %c, ^one, ^other
  ^one:
    kvcache.trace "one"
    scf.yield %a : !T
  ^other:
    scf.yield %b : !T
  }""",
    "cond_br": """cf.cond_br %c, ^join(%a : !T), ^other
^other:
  kvcache.trace "other"
  cf.br ^join(%b : !T)
^join(%m: !T):""",
    "both_ways": """cf.cond_br %c, ^join(%a : !T), ^join(%b : !T)
^join(%m: !T):""",
    "switch": """%flag = arith.index_cast %k : index to i32
  cf.switch %flag : i32, [default: ^join(%b : !T), 1: ^join(%a : !T)]
^join(%m: !T):""",
    "loop": """cf.br ^head(%b, %c0 : !T, index)
^head(%m: !T, %i: index):
  %more = arith.cmpi slt, %i, %k : index
  cf.cond_br %more, ^body, ^exit
^body:
  kvcache.trace "turn"
  %next = arith.addi %i, %c1 : index
  cf.br ^head(%a, %next : !T, index)
^exit:""",
    "call": "%m = func.call @choose_NAME(%k, %a, %b) : (index, !T, !T) -> !T",
}


def text(kind, choice):
    type_, operands, use = USES[kind]
    name = f"{kind}_{choice}"
    helper = ""
    if choice == "call":
        helper = f"""
func.func private @choose_{name}(%k: index, %a: !T, %b: !T) -> !T {{
  %c1 = arith.constant 1 : index
  %c = arith.cmpi eq, %k, %c1 : index
  {CHOICES["if_kept"]}
  return %m : !T
}}
"""
    return f"""{helper}
func.func @{name}(%k: index, %a: !T, %b: !T, {operands}) {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c = arith.cmpi eq, %k, %c1 : index
  {CHOICES[choice]}
  {use}
  return
}}
""".replace("NAME", name)


def program(kind, choice):
    return text(kind, choice).replace("!T", USES[kind][0])


rng = np.random.default_rng(7)


def ints(values, type_="i64"):
    dtype = {"i32": np.int32, "i64": np.int64}[type_]
    values = np.array(values, dtype)
    return Tensor(values.reshape(-1).copy(), type_, values.shape)


def pool(gap=0):
    row = (CHANNELS + gap) * TOKENS + gap
    storage = rng.standard_normal(BLOCKS * row).astype(np.float32)
    return Tensor(storage, "f32", [BLOCKS, TOKENS, CHANNELS],
                  [row, CHANNELS + gap, 1])


def cases():
    """kind -> both values, other operands, and the output for each."""
    rows = lambda cache, slots: np.stack(
        [cache.view()[s // TOKENS, s % TOKENS] for s in slots])
    slots = [[3, 17, 8], [11, 0, 6]]
    result = {}
    for kind, gaps in (("cache", (0, 0)), ("apart", (3, 5))):
        caches = [pool(gap) for gap in gaps]
        result[kind] = ([[c] for c in caches], [ints(slots[0])],
                        [rows(c, slots[0]) for c in caches])
    cache = pool()
    result["slots"] = ([[ints(s)] for s in slots], [cache],
                       [rows(cache, s) for s in slots])
    tables, starts, lengths = [[[2, 3]], [[1, 4]]], [0, 3], [6]
    # The rows are tokens 3, 4 and 5.
    mapped = lambda table, at=(3, 4, 5): np.array(
        [table[0][t // TOKENS] * TOKENS + t % TOKENS for t in at])
    result["table"] = ([[ints(t, "i32")] for t in tables],
                       [ints(starts, "i32"), ints(lengths, "i32")],
                       [mapped(t) for t in tables])
    batch = lambda table: [ints(starts, "i32"), ints(lengths, "i32"),
                           ints(table, "i32")]
    result["batch"] = ([batch(t) for t in tables], [],
                       [mapped(t) for t in tables])
    places = [[5, 1, 2], [0, 4, 3]]
    result["placed"] = ([batch(t) + [ints(p)] for t, p in zip(tables, places)],
                        [], [mapped(t, p) for t, p in zip(tables, places)])
    return result


whole = "".join(program(kind, choice) for kind in USES for choice in CHOICES)
library = compile_library(whole, "carried")
for kind, (values, others, expected) in cases().items():
    for choice in CHOICES:
        for k in (1, 0):
            want = expected[1 - k].ravel()
            out = Guarded(np.zeros(want.size, want.dtype))
            output = Tensor(out.inside, "f32" if want.dtype == np.float32
                            else "i64", expected[0].shape)
            library.run(f"{kind}_{choice}", k, *values[0], *values[1], *others,
                        output)
            assert np.array_equal(out.inside, want), f"{kind}, {choice}, {k}"
            out.check(f"{kind}, {choice}")
done = subprocess.run(["kv-opt", "-", "--kvcache-optimize=target=gpu",
                       "--kvcache-to-kernels", "-o", "/dev/null"],
                      input=whole, text=True, capture_output=True)
assert done.returncode == 0, done.stderr
print(f"{len(USES) * len(CHOICES)} programs")
