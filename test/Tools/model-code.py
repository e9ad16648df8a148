# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""A model with more layers has no more functions: what its layers have in common
is compiled once, although each has its own place in weights and caches.
"""

import re
import subprocess


def output(*command, text=None):
    return subprocess.run(command, input=text, check=True, capture_output=True,
                          text=True).stdout


def functions(family, layers):
    """The number of operations of each function of the compiled model."""
    model = output("kv-models", f"--model={family}", f"--layers={layers}")
    split = output("kv-opt", "-", "--kvcache-split-layer-groups", text=model)
    code = output("kv-compile", "-", "--emit=mlir", text=split)
    found = {}
    for piece in re.split(r"^  (?=llvm\.func )", code, flags=re.M)[1:]:
        found[re.search(r"@([\w.]+)\(", piece)[1]] = piece.count("\n")
    return found


for family in "llama", "yoco", "gemma3n":
    shallow, deep = functions(family, 8), functions(family, 24)
    assert shallow.keys() == deep.keys(), (
        f"{family}: {sorted(shallow.keys() ^ deep.keys())}")
    assert "model" in deep and "kvcache.linalg" in deep, sorted(deep)
    # What calls them has a few hundred operations for each layer.
    added = sum(deep.values()) - sum(shallow.values())
    assert 0 < added < 16 * 1000, f"{family}: {added} for 16 layers"
