# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s %kvcache_src
"""The program in README.md compiles, and links in the documents lead somewhere."""

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

documents = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
links = 0
for document in documents:
    for link in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), f"{document.name}: {link}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            anchors = [re.sub(r"[^\w -]", "", t).lower().replace(" ", "-")
                       for t in titles]
            assert anchor in anchors, f"{document.name}: {link}"
        links += 1
assert links > 5, links
