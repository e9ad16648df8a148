# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Rows that are normalized and rotated on the way to a cache, 32/8 heads of 128
channels: the programs of bench_rows.py."""

# How rows are stored, and what is done to them.
FORMS = {"bf16": "bf16", "f8E4M3FN": "f8E4M3FN",
         "scaled": "!kvcache.scaled<f8E4M3FN x f32, per = [S, B, N, H]>",
         "given": "!kvcache.scaled<f8E4M3FN x f32, per = [S, H]>"}
WORKS = ["norm_rotate", "rotate", "rotate_interleaved"]


def row_name(work, form, fused=True):
    return f"{work}_{form}" + ("" if fused else "_apart")


def function(work, form, fused):
    query, rows = "memref<?x32x128xbf16>", "memref<?x8x128xbf16>"
    pool = f"!kvcache.cache<2S x ?B x 16N x 8H x 128D x {FORMS[form]}>"
    slots = "!kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>"
    weight, table = "memref<128xbf16>", "memref<?x128xf32>"
    positions = "memref<?xi64>"
    # Without a promise that arguments do not overlap, each operation is a
    # launch.
    apart = " {kvcache.noalias}" if fused else ""
    text = f"""
func.func @{row_name(work, form, fused)}(
    %query: {query}, %key: {rows}, %value: {rows}, %query_weight: {weight},
    %key_weight: {weight}, %table: {table}, %positions: {positions},
    %pool: {pool}{apart}, %slots: {slots}, %out: {query}{apart}) {{
  %c0 = arith.constant 0 : index
  %t = memref.dim %query, %c0 : {query}
"""
    for name, type_, out in (("query", query, "%out"),
                             ("key", rows, "%turned")):
        given = f"%{name}"
        if work.startswith("norm"):
            text += f"""
  %normal_{name} = memref.alloc(%t) : {type_}
  kvcache.normalize {given} by %{name}_weight into %normal_{name} epsilon 1.0e-06
    : {type_} by {weight} into {type_}
"""
            given = f"%normal_{name}"
        if name == "key":
            text += f"  {out} = memref.alloc(%t) : {type_}\n"
        how = "interleaved" if "interleaved" in work else ""
        text += f"""
  kvcache.rotate {given} by %table at %positions into {out} {how}
    : {type_} by {table} at {positions} into {type_}
"""
    return text + f"""
  kvcache.index_copy %turned, %value into %pool at %slots
    : {rows}, {rows} into {pool} at {slots}
  return
}}
"""


def row_programs():
    return "".join(function(work, form, fused) for work in WORKS
                   for form in FORMS for fused in (True, False)
                   if fused or (work, form) == ("norm_rotate", "scaled"))
