# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Conversions of pools from each format to each other one, 8 heads of 128 channels:
the programs of bench_relayout.py."""

# Stored values, and where their scales come from.
FORMS = {"f32": "none", "f16": "none", "bf16": "none", "f8E4M3FN": "none",
         "f8E5M2": "none", "f8E4M3FN computed": "B, N, H",
         "f8E4M3FN given": "H", "i8 computed": "B, N, H", "i8 given": "H"}


def form_of(name):
    """Stored values, and none, computed or given scales."""
    stored, _, scales = name.partition(" ")
    return stored, scales or "none"


def pairs():
    return [(a, b) for a in FORMS for b in FORMS if a != b]


def relayout_name(source, dest):
    return f"{source}_to_{dest}".replace(" ", "_")


def pool_type(name):
    stored, scales = form_of(name)
    element = stored
    if scales != "none":
        element = f"!kvcache.scaled<{stored} x f32, per = [S, {FORMS[name]}]>"
    return f"!kvcache.cache<2S x ?B x 16N x 8H x 128D x {element}>"


def relayout_programs():
    return "".join(f"""
func.func @{relayout_name(a, b)}(%from: {pool_type(a)}, %to: {pool_type(b)}) {{
  kvcache.relayout %from into %to : {pool_type(a)} into {pool_type(b)}
  return
}}
""" for a, b in pairs())
