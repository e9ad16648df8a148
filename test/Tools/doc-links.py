# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s %kvcache_src
"""Every relative link of a document leads to a file, and to a title in it."""

import re
import sys
from pathlib import Path

root = Path(sys.argv[1])
documents = [*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(path):
    """The text of a page without its code, where brackets mean other things."""
    text = re.sub(r"^ *```.*?^ *```", "", path.read_text(), flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", lambda code: re.sub(r"[\[\]()#]", "", code[0]), text)


def anchors(path):
    titles = re.findall(r"^#+ (.*)$", prose(path), re.M)
    found = set()
    for title in titles:
        name = re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")
        found.add(name)
    return found | set(re.findall(r'<a (?:id|name)="([^"]+)"', path.read_text()))


errors = []
count = 0
for document in documents:
    for link in LINK.findall(prose(document)):
        if re.match(r"[a-z]+:", link):
            continue
        count += 1
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists():
            errors.append(f"{document.relative_to(root)}: no file for {link}")
        elif root not in target.resolve().parents:
            errors.append(f"{document.relative_to(root)}: {link} leaves the tree")
        elif anchor and anchor not in anchors(target):
            errors.append(f"{document.relative_to(root)}: no title for {link}")
# A page that nobody links to is not found by a reader.
map_links = LINK.findall(prose(root / "docs" / "README.md"))
for page in (root / "docs").glob("*.md"):
    if page.name != "README.md" and page.name not in map_links:
        errors.append(f"docs/README.md: no link to {page.name}")
if count < 30:
    errors.append(f"only {count} links are found")
sys.exit("\n".join(errors) or 0)
