# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Runs kv-check-translation, and reads what it says."""

import collections
import os
import random
import subprocess
import sys
from pathlib import Path

import random_programs

# What a pass changes at least, of 100 random programs: passes that change
# nothing would prove nothing.
CHANGED_OF_100 = {
    "fold-permutes": 20,
    "scatter-to-index-copy": 15,
    "specialize-page-stride": 25,
    "kvcache-optimize": 50,
}


def check(programs, tool=None):
    """The figures of all programs, and whether all went well."""
    tool = tool or (
        Path(os.environ["KV_BUILD_DIR"]) / "bin" / "kv-check-translation")
    done = subprocess.run([tool, "-"], input="// -----\n".join(programs),
                          text=True, capture_output=True)
    figures = collections.Counter()
    for line in done.stdout.splitlines():
        if line.startswith("changed by "):
            step, number = line.rsplit(": ", 1)
            figures[step] += int(number)
            continue
        for part in line.split(", "):
            number, what = part.split(" ", 1)
            figures[what] += int(number)
    if done.returncode:
        print(done.stderr or f"the tool ends with {done.returncode}",
              file=sys.stderr)
    return figures, done.returncode == 0


def numbered(seed, numbers):
    """Random programs by their numbers: the same ones each time."""
    return [random_programs.program(random.Random(f"{seed} {i}"))
            for i in numbers]


def expect_translated(programs, changed=None):
    figures, ok = check(programs)
    print(", ".join(f"{number} {what}" for what, number in figures.items()))
    assert ok
    assert figures["programs"] == len(programs)
    for step, least in (changed or {}).items():
        assert figures[f"changed by {step}"] >= least, step
