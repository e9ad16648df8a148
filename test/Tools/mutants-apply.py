# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s %kvcache_src
"""Every mutant says what it breaks, names tests that there are, and applies to
the code as it is. Whether it is killed is what ./dev mutants finds out."""

import subprocess
import sys
from pathlib import Path

root = Path(sys.argv[1])
patches = sorted((root / "test/mutants").glob("*.patch"))
assert patches, "no mutants found"
errors = []
for patch in patches:
    head = patch.read_text().split("\n--- ", 1)[0].splitlines()
    sentences = [line for line in head[1:] if not line.startswith("tests: ")]
    if not any(sentences):
        errors.append(f"{patch.name}: does not say what it breaks")
    tests = [test for line in head if line.startswith("tests: ")
             for test in line.split()[1:]]
    if not tests:
        errors.append(f"{patch.name}: names no tests")
    errors += [f"{patch.name}: there is no test {test}" for test in tests
               if not (root / "test" / test).exists()]
    result = subprocess.run(["git", "apply", "--check", str(patch)], cwd=root,
                            capture_output=True, text=True)
    if result.returncode:
        errors.append(f"{patch.name}: does not apply: {result.stderr.strip()}")
print(f"{len(patches)} mutants")
sys.exit("\n".join(errors) or 0)
