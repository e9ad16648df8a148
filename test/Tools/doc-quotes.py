# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s %kvcache_src
"""What pages quote is what the sources say, and the types in them parse."""

import re
import subprocess
import sys
from pathlib import Path

root = Path(sys.argv[1])
errors = []


def page(name):
    return (root / "docs" / name).read_text()


def code(text):
    """A program without comments and blank lines."""
    lines = (re.sub(r"\s*//.*", "", line) for line in text.splitlines())
    return [line for line in lines if line]


# The example of hosts.md.
blocks = re.findall(r"```mlir\n(.*?)```", page("hosts.md"), re.S)
example = code((root / "examples" / "functional_host.mlir").read_text())
if example not in map(code, blocks):
    errors.append("docs/hosts.md does not quote examples/functional_host.mlir")

# The tables of layout.md are computed by a unit test.
test = (root / "test" / "unit" / "LayoutDocsTest.cpp").read_text()
strings = re.findall(r'^ {4}((?:"[^"\n]*"\s*)+),$', test, re.M)
rows = ["".join(re.findall(r'"([^"]*)"', string)) for string in strings]
if len(rows) < 28:
    errors.append(f"only {len(rows)} rows are found in LayoutDocsTest.cpp")
lines = page("layout.md").splitlines()
for row in rows:
    if row not in lines:
        errors.append(f"docs/layout.md lacks the row {row}")

# The types of types.md and layout.md; what formats.md plans is an error.
TYPE = re.compile(r"!kvcache\.(?:cache|slots|block_table|batch)<")


def types(text):
    """Each type that is written out, up to the bracket that closes it."""
    for start in (match.start() for match in TYPE.finditer(text)):
        depth = 0
        for end in range(start, len(text)):
            depth += {"<": 1, ">": -1}.get(text[end], 0)
            if text[end] == ">" and depth == 0:
                yield " ".join(text[start : end + 1].split())
                break


def parses(one):
    done = subprocess.run(
        ["kv-opt", "-"],
        input=f"func.func private @f({one})",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode == 0, done.stdout


found = 0
for name in ("types.md", "layout.md", "hosts.md"):
    for block in re.findall(r"```mlir\n(.*?)```", page(name), re.S):
        for one in types("\n".join(code(block))):
            found += 1
            right, message = parses(one)
            if not right:
                errors.append(f"docs/{name}: {one}: {message}")
if found < 10:
    errors.append(f"only {found} types are found")

reserved = (root / "test" / "IR" / "formats-reserved.mlir").read_text()
reserved = set(types(reserved))
planned = 0
for block in re.findall(r"```mlir\n(.*?)```", page("formats.md"), re.S):
    for one in types("\n".join(code(block))):
        if parses(one)[0]:
            continue
        planned += 1
        if one not in reserved:
            errors.append(f"test/IR/formats-reserved.mlir lacks {one}")
if planned < 3:
    errors.append(f"only {planned} planned types are found in formats.md")

# A block behind `<!-- kv-opt ... -->` has lines of what that prints, whatever the
# numbers of its values are.
def bare(line):
    return re.sub(r"%\d+", "%", " ".join(line.split()))


runs = 0
for name in ("flat-cache.md", "cross-layer.md", "strided-pages.md"):
    quotes = re.findall(r"<!-- kv-opt (.*?) -->\n```\w*\n(.*?)```", page(name), re.S)
    for arguments, block in quotes:
        runs += 1
        said = subprocess.run(["kv-opt", *arguments.split()], cwd=root, text=True,
                              capture_output=True, check=True).stdout
        lines = {bare(line) for line in said.splitlines()}
        for line in block.splitlines():
            if bare(line) not in lines:
                errors.append(f"docs/{name}: kv-opt {arguments} does not say {line}")
if runs < 8:
    errors.append(f"only {runs} quotes of kv-opt are found")

# Before and after of a pass are lines of a test of it, with or without CHECK.
passes = "".join(path.read_text() for path in
                 sorted((root / "include" / "kvcache").glob("*/Passes.td")))
QUOTED = {
    "FoldPermutes": "Transforms/fold-permutes.mlir",
    "ScatterToIndexCopy": "Transforms/scatter-to-index-copy.mlir",
    "SpecializePageStride": "Transforms/specialize-page-stride.mlir",
    "CheckCopies": "Transforms/check-copies-invalid.mlir",
    "LayoutReport": "Transforms/layout-report.mlir",
    "Raise": "Raise/raise-scatter.mlir",
}
for name, test in QUOTED.items():
    description = re.search(rf"def {name}\b.*?\n}}\n", passes, re.S)[0]
    text = (root / "test" / test).read_text()
    lines = [re.sub(r"^// CHECK[-A-Z]*: *", "", line) for line in text.splitlines()]
    # Names of values and numbers of lines are bound in a test.
    lines = {re.sub(r"%\[\[\w+(?::[^]]*\])?\]\]?|\[\[LINE.*?\]\]+", "*", line).strip()
             for line in lines}
    # A report has columns; an error is expected by a test in braces.
    lines |= {re.sub(r"^{{\.\*}}|^line ", "", line).strip() for line in lines}
    lines |= {"error: " + said for line in lines
              for said in re.findall(r"// expected-error@\+\d \{\{(.*)\}\}$", line)}
    blocks = re.findall(r"```(?:mlir)?\n(.*?)```", description, re.S)
    if len(blocks) != 2:
        errors.append(f"{name}: {len(blocks)} blocks are found, expected before and after")
    for line in "\n".join(blocks).splitlines():
        line = re.sub(r"^line |^\d+ {4}", "", line.strip()).strip()
        plain = re.sub(r"in line \d+", "in line *", line)
        bound = re.sub(r"^%\d+ =", "* =", plain)
        bound = re.sub(r" at %\d+( |$)", r" at *\1", bound)
        if not any(one in lines for one in (line, plain, bound)):
            errors.append(f"{name}: test/{test} lacks the line {line}")
sys.exit("\n".join(errors) or 0)
