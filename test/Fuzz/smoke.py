# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# REQUIRES: kv-fuzz
# RUN: %python %s %t
"""Each fuzz target takes some thousand inputs and finds nothing.

They change at random, but the same in each run of one build. The programs that
they begin with are the examples, so that a new test does not change the inputs.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TOOL = pathlib.Path(os.environ["KV_BUILD_DIR"], "bin", "kv-fuzz")
# What a pass does takes a hundred times as long as what a call does.
RUNS = {
    "text": 2000, "bytecode": 500, "pass": 1000, "manifest": 500, "npy": 20000,
    "spec": 20000, "arguments": 3000, "call": 20000, "runtime": 50000,
}


def check_passes():
    """Each pass of this project has a letter."""
    listed = subprocess.run([TOOL, "passes"], capture_output=True, check=True)
    names = set(re.findall(r"[\w-]+", listed.stdout.decode()))
    for path in ROOT.glob("include/kvcache/*/Passes.td"):
        for name in re.findall(r'\bPass<"([\w-]+)"', path.read_text()):
            assert name in names, f"no letter of kv-fuzz stands for {name}"


def main(work):
    shutil.rmtree(work, ignore_errors=True)
    check_passes()
    targets = subprocess.run([TOOL, "targets"], capture_output=True, check=True)
    assert set(targets.stdout.decode().split()) == set(RUNS)
    failed = []
    for i, (name, runs) in enumerate(RUNS.items()):
        seeds = ["--seeds", work / "seeds"] if i else ["--only-examples"]
        status = subprocess.run(
            [sys.executable, HERE / "fuzzers.py", "--tool", TOOL, "--work", work,
             *seeds, "--runs", str(runs), name]).returncode
        if status:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
