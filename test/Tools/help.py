# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""--help has the options of a tool, --help-hidden those of LLVM, too."""

import re
import subprocess


def options(tool, kind):
    text = subprocess.run([tool, kind], check=True, text=True,
                          capture_output=True).stdout
    return set(re.findall(r"^ *--?([a-z][\w-]*)", text, re.M))


GENERIC = {"help", "help-list", "version"}
OWN = {
    "kv-compile": {"allow-pool-copies", "checks", "copy-engine-bytes", "cpu",
                   "emit", "gpu-image", "max-variants", "name", "o", "target"},
    "kv-run": {"checks", "cpu", "function", "in", "out", "print", "print-all",
               "repeat", "target"},
    "kv-lsp-server": {"lit-test", "log", "pretty"},
}
for tool, own in OWN.items():
    shown = options(tool, "--help")
    assert shown == own | GENERIC, (tool, shown ^ (own | GENERIC))

# kv-opt has those of mlir-opt, and passes.
shown = options("kv-opt", "--help")
assert {"list-pipelines", "split-input-file", "mlir-print-ir-after-all",
        "kvcache-to-cpu", "kvcache-fold-permutes", "canonicalize"} <= shown
assert not {name for name in shown if "amdgpu" in name or "aarch64" in name}
assert "inline-threshold" not in shown

for tool in (*OWN, "kv-opt"):
    hidden = options(tool, "--help-hidden")
    assert hidden > options(tool, "--help") and len(hidden) > 1000, tool
    assert "inline-threshold" in hidden, tool
# They still work.
for tool in ("kv-compile", "kv-run"):
    assert "mlir-print-ir-after-all" in options(tool, "--help-hidden"), tool
subprocess.run(["kv-compile", "-", "--emit=llvm", "--inline-threshold=7",
                "--mlir-print-ir-after-all"], input="func.func @f() { return }", text=True,
               check=True, capture_output=True)
