# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s %kvcache_src
"""The program in README.md compiles, and its kv-run line runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from kvtest import compile_library

root = Path(sys.argv[1])
readme = (root / "README.md").read_text()
programs = re.findall(r"```mlir\n(.*?)```", readme, re.S)
assert len(programs) == 1, programs
compile_library(programs[0], "readme")
compile_library(programs[0], "readme_gpu", "sm_90a")
compile_library((root / "examples" / "insert.mlir").read_text(), "insert",
                "sm_90a")

lines = re.findall(r"^build/bin/(kv-run (?:.*\\\n)*.*)", readme, re.M)
assert len(lines) == 1, lines
command = shlex.split(lines[0].replace("\\\n", " "))
done = subprocess.run(command, cwd=root, text=True, capture_output=True)
assert done.returncode == 0, done.stderr
assert "out: bf16 [18, 32, 64], min " in done.stdout, done.stdout
