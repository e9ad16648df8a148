# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""What kv-run counts for a prompt of a model of which the second half, or the
end of the last layer, needs the sampled row only: operations fall from those of
all rows to those of one. The expected numbers are those of the matrices.
"""

import re
import subprocess
import tempfile
from pathlib import Path

D, Q, K, FFN, VOCAB, LAYERS, ROWS = 64, 64, 32, 128, 96, 8, 16


def layer(rows, keys, writes):
    """The products of a layer, and its attention to that many keys in all."""
    kv = writes * 2 * D * K
    return 2 * rows * (2 * D * Q + kv + 3 * D * FFN) + 4 * keys * Q


ALL, ONE = (ROWS, ROWS * (ROWS + 1) // 2), (1, ROWS)
HALF, HEAD, SHARED = LAYERS // 2, 2 * D * VOCAB, 2 * ROWS * 2 * D * K
FIRST = HALF * layer(*ALL, True) + SHARED + HEAD
EXPECTED = {
    "yoco": (FIRST + HALF * layer(*ALL, False), FIRST + HALF * layer(*ONE, False)),
    "llama": (LAYERS * layer(*ALL, True) + HEAD,
              (LAYERS - 1) * layer(*ALL, True) + SHARED + layer(*ONE, False)
              + HEAD),
}


def counted(path, pool):
    text = path.read_text()
    given = dict(tokens=f"0,shape=[{ROWS}]", positions=f"iota,shape=[{ROWS}]",
                 starts=f"[0,{ROWS}]", lengths=f"[{ROWS}]",
                 block_table="[0],shape=[1,1]", sampled=f"[{ROWS - 1}]",
                 pool=f"zeros,shape=[{pool},2,4,16,2,16]")
    names = re.findall(r'kvcache\.name = "(\w+)"', text)
    options = [f"--in={name}={given.get(name, 'random')}" for name in names]
    options.append(f"--in=arg{len(names)}=poison,shape=[1,{VOCAB}]")
    out = subprocess.run(["kv-run", path, *options], check=True,
                         capture_output=True, text=True).stdout
    return int(re.search(r"^flops: +(\d+),", out, re.M)[1])


with tempfile.TemporaryDirectory() as folder:
    whole, split = Path(folder, "whole.mlir"), Path(folder, "split.mlir")
    for family, expected in EXPECTED.items():
        for form in [], ["--rolled"]:
            whole.write_text(subprocess.run(
                ["kv-models", f"--model={family}", f"--layers={LAYERS}", *form],
                check=True, capture_output=True, text=True).stdout)
            split.write_text(subprocess.run(
                ["kv-opt", whole, "--kvcache-split-layer-groups"], check=True,
                capture_output=True, text=True).stdout)
            pool = LAYERS if family == "llama" else HALF + 1
            found = counted(whole, pool), counted(split, pool)
            assert found == expected, f"{family} {form}: {found}, not {expected}"
