# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""What --list-pipelines prints for a pipeline does what its name does."""

import os
import re
import subprocess

PROGRAM = os.path.join(os.path.dirname(__file__), "../../examples/insert.mlir")


def kv_opt(*arguments, source=None):
    return subprocess.run(
        ["kv-opt", *arguments],
        input=source,
        check=True,
        stdout=subprocess.PIPE,
        universal_newlines=True,
    ).stdout


listing = kv_opt("--list-pipelines")
entry = re.compile(r"^--(\S+)\n  \S.*\n\n(builtin\.module\((?:\n .*)*\n\))$", re.M)
pipelines = dict(entry.findall(listing))
_, registered = kv_opt("--help").split("Pass Pipelines:")
registered = re.findall(r"^ {6}--(kvcache-\S+) ", registered, re.M)
assert list(pipelines) and set(pipelines) == set(registered), (listing, registered)

with open(PROGRAM) as file:
    tensors = file.read()
buffers = kv_opt("--kvcache-bufferize", source=tensors)
for name, text in pipelines.items():
    takes_tensors = name in ("kvcache-bufferize", "kvcache-optimize")
    source = tensors if takes_tensors else buffers
    by_name = kv_opt(f"--{name}", source=source)
    written_out = kv_opt(f"--pass-pipeline={text}", source=source)
    assert by_name == written_out, f"{name} differs from\n{text}"
    assert by_name != source, f"{name} does nothing"
