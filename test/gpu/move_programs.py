# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The programs of bench_moves.py, by the name of their function."""

TOKENS, HEADS, CHANNELS, LAYERS = 16, 8, 128, 32


def cache(order, layers=None, space="device", heads=HEADS, tokens=TOKENS):
    axes = f"2S x ?B x {tokens}N x {heads}H x {CHANNELS}D x bf16"
    if layers:
        axes = f"{layers}L x {axes}"
    where = ", space = host" if space == "host" else ""
    return f"!kvcache.cache<{axes}, order = [{', '.join(order)}]{where}>"


def relayout(name, source, dest):
    return f"""
func.func @{name}(%source: {source}, %dest: {dest}) {{
  kvcache.relayout %source into %dest : {source} into {dest}
  return
}}
"""


def copy_blocks(name, pool):
    return f"""
func.func @{name}(%pool: {pool}, %pairs: memref<?x2xi64>) {{
  kvcache.copy_blocks %pool at %pairs : {pool} at memref<?x2xi64>
  return
}}
"""


def transfer(name, source, dest, pairs_on_host=False):
    where = " {kvcache.host}" if pairs_on_host else ""
    return f"""
func.func @{name}(%source: {source}, %dest: {dest},
                  %pairs: memref<?x2xi64>{where}) {{
  kvcache.transfer %source to %dest at %pairs
    : {source} to {dest} at memref<?x2xi64>
  return
}}
"""


TABLE = f"!kvcache.block_table<?R x ?M x i32, tokens = {TOKENS}>"
BATCH = f"!kvcache.batch<?R x ?M x i32, tokens = {TOKENS}>"
MAKE_BATCH = f"""
  %blocks = kvcache.make_block_table %table : memref<?x?xi32> to {TABLE}
  %batch = kvcache.make_batch %starts, %lengths, %blocks
    : memref<?xi32>, memref<?xi32>, {TABLE}"""

METADATA = {
    "slot_mapping": f"""
func.func @slot_mapping(%starts: memref<?xi32>, %lengths: memref<?xi32>,
                        %table: memref<?x?xi32>, %out: memref<?xi64>) {{
  {MAKE_BATCH}
  kvcache.slot_mapping %batch into %out : {BATCH} into memref<?xi64>
  return
}}
""",
    "map_blocks": """
func.func @map_blocks(%blocks: memref<?x?xi32>, %out: memref<?x?xi32>) {
  kvcache.map_blocks %blocks by 4 into %out
    : memref<?x?xi32> into memref<?x?xi32>
  return
}
""",
    "select_rows": f"""
func.func @select_rows(%x: memref<?x8xbf16>, %starts: memref<?xi32>,
                       %lengths: memref<?xi32>, %table: memref<?x?xi32>,
                       %indices: memref<?xi32>, %valid: memref<1xi32>,
                       %y: memref<?x8xbf16>, %new: memref<?xi32>,
                       %positions: memref<?xi64>) {{
  {MAKE_BATCH}
  kvcache.select_rows %x of %batch at %indices, %valid into %y, %new, %positions
    : memref<?x8xbf16> of {BATCH} at memref<?xi32>, memref<1xi32>
    into memref<?x8xbf16>, memref<?xi32>, memref<?xi64>
  return
}}
""",
}

# Slots, then rows written to them: kernels that follow each other, in one call.
ROWS = f"memref<?x{HEADS}x{CHANNELS}xbf16>"
SLOTS = f"!kvcache.slots<?T x i64, rows_per_block = {TOKENS}, " \
        "pad = skip_negative>"


def write(slots):
    pool = cache("BSNHD")
    return f"""
  %slots = kvcache.make_slots {slots} : memref<?xi64> to {SLOTS}
  kvcache.index_copy %key, %value into %pool at %slots
    : {ROWS}, {ROWS} into {pool} at {SLOTS}
  return
}}
"""


METADATA["write_rows"] = f"""
func.func @write_rows(%numbers: memref<?xi64>, %key: {ROWS}, %value: {ROWS},
                      %pool: {cache("BSNHD")}) {{{write("%numbers")}"""
METADATA["write_tokens"] = f"""
func.func @write_tokens(%starts: memref<?xi32>, %lengths: memref<?xi32>,
                        %table: memref<?x?xi32>, %key: {ROWS}, %value: {ROWS},
                        %pool: {cache("BSNHD")}) {{
  {MAKE_BATCH}
  %c0 = arith.constant 0 : index
  %rows = memref.dim %key, %c0 : {ROWS}
  %numbers = memref.alloc(%rows) : memref<?xi64>
  kvcache.slot_mapping %batch into %numbers : {BATCH} into memref<?xi64>
{write("%numbers")}"""

# Orders of a pool of all layers, and the length of the runs of a block in it.
TRANSFERS = {
    "cross_layer": "BLSNHD",   # one run
    "per_layer": "LBSNHD",     # 64 KiB, one for each layer
    "per_side": "LSBNHD",      # 32 KiB
    "short_runs": "LSHBND",    # 4 KiB
}

MOVES = dict(METADATA)
MOVES["relayout_nhd_hnd"] = relayout(
    "relayout_nhd_hnd", cache("SBNHD"), cache("SBHND"))
MOVES["relayout_cross_to_layers"] = relayout(
    "relayout_cross_to_layers", cache("BLSNHD", LAYERS),
    cache("LSBNHD", LAYERS))
MOVES["relayout_nhd_hdn"] = relayout(
    "relayout_nhd_hdn", cache("SBNHD"), cache("SBHDN"))
MOVES["copy_blocks"] = copy_blocks("copy_blocks", cache("BSNHD"))
for _name, _order in TRANSFERS.items():
    MOVES[f"{_name}_out"] = transfer(
        f"{_name}_out", cache(_order, LAYERS),
        cache("BLSNHD", LAYERS, "host"))
    MOVES[f"{_name}_in"] = transfer(
        f"{_name}_in", cache("BLSNHD", LAYERS, "host"),
        cache(_order, LAYERS))

# The same by the copy engine.
ENGINE = {}
for _name, _order in TRANSFERS.items():
    ENGINE[f"{_name}_out"] = transfer(
        f"{_name}_out", cache(_order, LAYERS),
        cache("BLSNHD", LAYERS, "host"), True)
    ENGINE[f"{_name}_in"] = transfer(
        f"{_name}_in", cache("BLSNHD", LAYERS, "host"),
        cache(_order, LAYERS), True)
