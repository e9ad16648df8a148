# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""200 random programs do what the interpreter says, compiled and after each
pass."""

from collections import Counter

import fuzz

# How many programs have what at least: a generator that has become blind would
# prove nothing.
AT_LEAST = {
    "calls": 450, "runs after passes": 500, "with cache": 100,
    "with memref": 25, "with bytes": 10, "with strided": 3,
    "with overlap": 20, "with in place": 10, "with attention": 5,
    "with slots:blocks": 10, "with slots:mapping": 15, "with tensors": 30,
    "with facts": 8, "with computed rows": 5, "with fused rows": 5,
    "with tensor:rotated": 5}

figures, found = Counter(), []
for number in range(10):
    findings, some, refused = fuzz.run_module(1, number)
    figures.update(some)
    found += findings
    for finding in findings:
        print(f"{finding.kind}: {finding.module}, {finding.function}, "
              f"{finding.call}: {finding.text}\n{finding.program}")
print(", ".join(f"{n} {what}" for what, n in sorted(figures.items())))
assert not found, f"{len(found)} findings"
for what, least in AT_LEAST.items():
    assert figures[what] >= least, f"{figures[what]} {what}"
