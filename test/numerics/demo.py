# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s %kvcache_src
"""The demonstration runs and can tell right from wrong."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

examples = Path(sys.argv[1]) / "examples"


def run(folder):
    return subprocess.run([sys.executable, str(folder / "demo.py")], text=True,
                          capture_output=True, env=os.environ)


good = run(examples)
assert good.returncode == 0, good
assert good.stdout.endswith("result   correct\n"), good.stdout
assert "compiled for sm_90a as well: yes" in good.stdout, good.stdout
assert "stride  131072 elements" in good.stdout, good.stdout

# The same script beside a program that writes the two sides the wrong way round.
with tempfile.TemporaryDirectory(prefix="kv-demo-test-") as folder:
    folder = Path(folder)
    (folder / "demo.py").write_text((examples / "demo.py").read_text())
    program = (examples / "insert.mlir").read_text()
    assert program.count("index_copy %key, %value") == 1
    (folder / "insert.mlir").write_text(
        program.replace("index_copy %key, %value", "index_copy %value, %key"))
    bad = run(folder)
    assert bad.returncode == 1, bad
    assert bad.stdout.endswith("result   NOT correct\n"), bad.stdout
    # And beside one that does not compile.
    (folder / "insert.mlir").write_text(program.replace("16N", "0x16N"))
    bad = run(folder)
    assert bad.returncode == 1, bad
    assert bad.stdout.endswith("does not compile\n"), bad.stdout
