# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# REQUIRES: torch
# RUN: %torch_python %s %kvcache_src
"""The snippets of docs/from-engines.md, as one program."""

import re
import sys
from pathlib import Path

from programs import use_new_cache

cache = use_new_cache()
path = Path(sys.argv[1], "docs", "from-engines.md")
page = path.read_text()
assert page.count("```") == 2 * page.count("```python"), "a block is not Python"
snippets = list(re.finditer(r"```python\n(.*?)```", page, re.S))
assert len(snippets) >= 7, len(snippets)
names = {}
for snippet in snippets:
    # Errors have the line of the page.
    before = page[:snippet.start(1)].count("\n")
    exec(compile("\n" * before + snippet[1], path, "exec"), names)
assert names["lengths"].tolist() == [20]
