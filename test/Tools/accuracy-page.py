# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s %kvcache_src %t
"""The tables of accuracy.md are those of the stored results, and measuring again
gives these results."""

import json
import subprocess
import sys
from pathlib import Path

root, again = Path(sys.argv[1]), Path(sys.argv[2])
script = [sys.executable, "-B", root / "benchmark" / "accuracy.py"]
printed = subprocess.run([*script, "--tables"], check=True, text=True,
                         capture_output=True).stdout
page = (root / "docs" / "accuracy.md").read_text()
tables = printed.strip().split("\n\n")
assert len(tables) == 5, len(tables)
at = 0
for table in tables:
    at = page.find(f"\n{table}\n", at)
    assert at >= 0, f"docs/accuracy.md lacks, or has elsewhere:\n{table}"

# One seed and kind of keys.
subprocess.run([*script, "--contexts", "512", "--keys", "outliers", "--seeds", "2",
                "--out", again], check=True)
stored = json.loads((root / "benchmark" / "results" / "accuracy.json").read_text())
found = json.loads(again.read_text())
for key in "note", "rows", "heads", "channels", "bits per element":
    one, two = (x[key] if key == "note" else x["parameters"][key]
                for x in (stored, found))
    assert one == two, (key, one, two)
names = ("format", "keys", "context", "seed", "against")
known = {tuple(r[name] for name in names): r for r in stored["results"]}
assert len(known) == len(stored["results"]) == 8 * 4 * 2 * 3 * 2
assert len(found["results"]) == 8 * 2
for result in found["results"]:
    want = known[tuple(result[name] for name in names)]
    assert set(want) == set(result)
    for key, value in result.items():
        if isinstance(value, float):  # sums of float64 in another sequence
            assert abs(value - want[key]) <= 2e-3 * want[key] + 1e-12, (
                key, result, want)
