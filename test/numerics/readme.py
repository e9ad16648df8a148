# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s %kvcache_src
"""The program in README.md compiles."""

import re
import sys
from pathlib import Path

from kvtest import compile_library

root = Path(sys.argv[1])
programs = re.findall(r"```mlir\n(.*?)```", (root / "README.md").read_text(),
                      re.S)
assert len(programs) == 1, programs
compile_library(programs[0], "readme")
compile_library(programs[0], "readme_gpu", "sm_90a")
