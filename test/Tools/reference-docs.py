# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""docs/reference says what the sources say."""

import difflib
import os
import pathlib
import subprocess
import sys
import tempfile

committed = pathlib.Path(__file__).resolve().parents[2] / "docs" / "reference"
script = os.path.join(os.environ["KV_BUILD_DIR"], "WriteReference.cmake")


def pages(folder):
    return {path.name: path.read_text().splitlines() for path in folder.iterdir()}


with tempfile.TemporaryDirectory() as folder:
    subprocess.run(["cmake", "-D", f"OUT={folder}", "-P", script], check=True)
    old, new = pages(committed), pages(pathlib.Path(folder))

for name in sorted({*old, *new}):
    diff = difflib.unified_diff(
        old.get(name, []), new.get(name, []), f"docs/reference/{name}", "sources"
    )
    print("\n".join(diff))
if old != new:
    sys.exit("docs/reference is out of date: run ./dev docs")
