# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The programs that bench_attention.py measures: keys and values of one layer,
in any order with any strides."""

# What is known of strides: multiples of 16 bytes, and nothing.
BYTES = {
    "": "strides = [B = ? mult 16, N = ? mult 16, H = ? mult 16], align = 16",
    "_hnd": "order = [B, H, N, D], strides = [B = ? mult 16, H = ? mult 16, "
            "N = ? mult 16], align = 16",
}
FACTS = {
    "": "strides = [B = ? mult 8, N = ? mult 8, H = ? mult 8], align = 16",
    "_generic": "strides = [B = ?, N = ?, H = ?], align = 2",
    "_hnd": "order = [B, H, N, D], strides = [B = ? mult 8, H = ? mult 8, "
            "N = ? mult 8], align = 16",
}


def program(name, query_heads, heads, tokens, facts, type_="bf16", channels=128,
            options="causal"):
    side = f"!kv_{name}"
    of_bytes = type_.startswith("f8")
    row = f"memref<?x{query_heads}x{channels}x{'bf16' if of_bytes else type_}>"
    known = (BYTES if of_bytes else FACTS)[facts]
    return f"""
{side} = !kvcache.cache<?B x {tokens}N x {heads}H x {channels}D x {type_}, {known}>
!batch_{name} = !kvcache.batch<?R x ?M x i32, tokens = {tokens}>
func.func @{name}(%query: {row}, %keys: {side}, %values: {side}, %batch: !batch_{name}, %out: {row}) {{
  kvcache.attention %query over %keys, %values in %batch into %out {options}
    : {row} over {side}, {side} in !batch_{name} into {row}
  return
}}
"""


def windowed(name, query_heads, heads, channels, window):
    """With a window, and with sinks, as in gpt-oss."""
    side = f"!kv_{name}"
    row = f"memref<?x{query_heads}x{channels}xbf16>"
    sinks = f"memref<{query_heads}xf32>"
    return f"""
{side} = !kvcache.cache<?B x 16N x {heads}H x {channels}D x bf16, {FACTS[""]}>
!batch_{name} = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @{name}(%query: {row}, %keys: {side}, %values: {side}, %batch: !batch_{name}, %sinks: {sinks}, %out: {row}) {{
  kvcache.attention %query over %keys, %values in %batch sinks(%sinks : {sinks}) into %out causal window {window}
    : {row} over {side}, {side} in !batch_{name} into {row}
  return
}}
"""


def masked(name, query_heads, heads, channels, options):
    """With a mask: of a tree, or of spans that see both ways."""
    side = f"!kv_{name}"
    row = f"memref<?x{query_heads}x{channels}xbf16>"
    return f"""
{side} = !kvcache.cache<?B x 16N x {heads}H x {channels}D x bf16, {FACTS[""]}>
!batch_{name} = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @{name}(%query: {row}, %keys: {side}, %values: {side}, %batch: !batch_{name}, %mask: memref<?x?xi32>, %out: {row}) {{
  kvcache.attention %query over %keys, %values in %batch mask(%mask : memref<?x?xi32>) into %out {options}
    : {row} over {side}, {side} in !batch_{name} into {row}
  return
}}
"""


def prefixed(name, query_heads, heads, channels):
    """Requests that begin with the same blocks."""
    side = f"!kv_{name}"
    row = f"memref<?x{query_heads}x{channels}xbf16>"
    return f"""
{side} = !kvcache.cache<?B x 16N x {heads}H x {channels}D x bf16, {FACTS[""]}>
!batch_{name} = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @{name}(%query: {row}, %keys: {side}, %values: {side}, %batch: !batch_{name}, %groups: memref<?xi32>, %lengths: memref<?xi32>, %out: {row}) {{
  kvcache.attention %query over %keys, %values in %batch prefixes(%groups, %lengths : memref<?xi32>, memref<?xi32>) into %out causal
    : {row} over {side}, {side} in !batch_{name} into {row}
  return
}}
"""


PREFIXED = ("attention_prefixes", 32, 8, 128)
WINDOWED = ("attention_windowed", 64, 8, 64, 128)
SIZES = [(32, 8, 128, "bf16"), (64, 8, 128, "bf16"), (16, 8, 128, "bf16"),
         (32, 8, 128, "f16"), (96, 8, 128, "bf16"), (64, 8, 64, "bf16"),
         (8, 4, 256, "bf16")]


# Of one size there are other pages.
PAGES = (16, 64, 128)


def function_name(query_heads, heads, channels, type_, facts, tokens=16):
    pages = "" if tokens == 16 else f"_{tokens}"
    return f"attention_{query_heads}_{heads}_{channels}_{type_}{pages}{facts}"


PROGRAMS = {facts: {
    function_name(q, h, d, type_, facts): program(
        function_name(q, h, d, type_, facts), q, h, 16, facts, type_, d)
    for q, h, d, type_ in SIZES} for facts in FACTS}
for tokens in PAGES[1:]:
    for facts in "", "_hnd":
        name = function_name(*SIZES[0], facts, tokens)
        q, h, d, type_ = SIZES[0]
        PROGRAMS[facts][name] = program(name, q, h, tokens, facts, type_, d)
for query_heads in 32, 64:
    for facts in BYTES:
        name = function_name(query_heads, 8, 128, "f8E4M3FN", facts)
        PROGRAMS[facts][name] = program(name, query_heads, 8, 16, facts,
                                        "f8E4M3FN")
INVARIANT = "_invariant"
for q, h, d, type_ in SIZES[:2]:
    name = function_name(q, h, d, type_, "") + INVARIANT
    PROGRAMS[""][name] = program(name, q, h, 16, "", type_, d,
                                 "batch_invariant causal")
PROGRAMS[""][WINDOWED[0]] = windowed(*WINDOWED)
MASKED = {"causal": "attention_tree", "": "attention_spans"}
for options, name in MASKED.items():
    PROGRAMS[""][name] = masked(name, 32, 8, 128, options)
PROGRAMS[""][PREFIXED[0]] = prefixed(*PREFIXED)


def sm80_programs(facts):
    """Those of ROWS and of prompts in bench_attention.py that sm_80 has."""
    return [text for name, text in PROGRAMS[facts].items()
            if name in {function_name(q, h, d, type_, facts)
                        for q, h, d, type_ in SIZES}]


# Stored values, and where their scales come from.
SCALED_FORMS = [("f8E4M3FN", "computed"), ("f8E4M3FN", "given"),
                ("f8E4M3FN", "none"), ("i8", "computed"), ("i8", "given"),
                ("bf16", "none")]
SCALED_PER = {"computed": "B, N, H", "given": "H"}


def scaled_name(what, form, scales, heads=32):
    return f"{what}_{form}_{scales}" + ("" if heads == 32 else f"_{heads}")


def scaled_programs():
    """Writes of rows, and attention, 32/8 and 64/8 heads of 128 channels."""
    rows = "memref<?x8x128xbf16>"
    slots = "!kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>"
    batch = "!kvcache.batch<?R x ?M x i32, tokens = 16>"
    text = ""
    for form, scales in SCALED_FORMS:
        format_, both = form, form
        if scales != "none":
            per = SCALED_PER[scales]
            format_, both = (f"!kvcache.scaled<{form} x f32, per = [{axes}]>"
                             for axes in (per, f"S, {per}"))
        pool = f"!kvcache.cache<2S x ?B x 16N x 8H x 128D x {both}>"
        side = f"!kvcache.cache<?B x 16N x 8H x 128D x {format_}>"
        if scales != "none":
            text += f"""
func.func @{scaled_name("write", form, scales)}(%pool: {pool}, %slots: {slots}, %key: {rows}, %value: {rows}) {{
  kvcache.index_copy %key, %value into %pool at %slots : {rows}, {rows} into {pool} at {slots}
  return
}}
"""
        for heads in (32, 64):
            row = f"memref<?x{heads}x128xbf16>"
            text += f"""
func.func @{scaled_name("attend", form, scales, heads)}(%query: {row}, %keys: {side}, %values: {side}, %batch: {batch}, %out: {row}) {{
  kvcache.attention %query over %keys, %values in %batch into %out causal
    : {row} over {side}, {side} in {batch} into {row}
  return
}}
"""
    return text
