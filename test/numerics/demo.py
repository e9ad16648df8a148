# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s %kvcache_src
"""The demonstration runs and can tell right from wrong."""

import subprocess
import sys
import tempfile
from pathlib import Path

examples = Path(sys.argv[1]) / "examples"


def run(*arguments):
    return subprocess.run([sys.executable, examples / "demo.py", *arguments],
                          text=True, capture_output=True)


good = run()
assert good.returncode == 0, good
assert good.stdout.endswith("result   correct\n"), good.stdout
for line in ("order = [B, L, S, N, H, D]>\n",
             "stride        65536    16384     8192      512       64        1 ",
             "one layer:  runs of 32768 bytes, 131072 bytes from block to block",
             " 0 differ from NumPy\n"):
    assert line in good.stdout, (line, good.stdout)

# Programs that are wrong in one place, and what the demonstration says.
WRONG = [
    # The two sides the wrong way round, another layer, queries that look ahead.
    ("index_copy %key, %value", "index_copy %value, %key", "not bit-exact"),
    ("layer %pool[%index]", "layer %pool[%c0]", "not bit-exact"),
    (" causal\n", "\n", "attention: out"),
    # What does not parse, and another layout.
    ("16N", "0x16N", "kv-opt refuses"),
    ("cross_layer_nhd", "[L, B, S, N, H, D]", "not a constant"),
]

program = (examples / "paged_decode.mlir").read_text()
with tempfile.TemporaryDirectory(prefix="kv-demo-test-") as folder:
    for right, wrong, message in WRONG:
        assert right in program, right
        path = Path(folder) / "paged_decode.mlir"
        path.write_text(program.replace(right, wrong))
        bad = run(path)
        assert bad.returncode == 1, (wrong, bad)
        assert message in bad.stdout, (wrong, bad.stdout)
        assert bad.stdout.endswith("result   NOT correct\n"), bad.stdout
