# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s %kvcache_src %t
"""The figures of the pages are those of the stored results, and all of their bars
are inside."""

import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

root, folder = Path(sys.argv[1]), Path(sys.argv[2])
subprocess.run([sys.executable, "-B", root / "benchmark" / "plots.py", folder],
               check=True)
kept = root / "docs" / "images"
names = {path.name for path in folder.iterdir()}
assert names and names == {path.name for path in kept.iterdir()}, names
SVG = "{http://www.w3.org/2000/svg}"
# Bars, and the squares of the legend.
COUNTS = {"decode.svg": 9 * 4 + 4, "layouts.svg": 8 * 4 + 4, "prompts.svg": 3 * 3 + 3,
          "accuracy.svg": 7 * 4 + 4}
for name in sorted(names):
    drawn = (folder / name).read_text()
    assert drawn == (kept / name).read_text(), (
        f"{name} is not what the results are: run benchmark/plots.py")
    figure = xml.fromstring(drawn)
    width, height = (float(figure.get(side)) for side in ("width", "height"))
    bars = [bar for bar in figure.iter(f"{SVG}rect")
            if bar.get("fill") != "#ffffff"]
    assert len(bars) == COUNTS[name], (name, len(bars))
    for bar in bars:
        x, y, w, h = (float(bar.get(key)) for key in ("x", "y", "width", "height"))
        assert 0 <= x and x + w <= width and 0 <= y and y + h <= height, name
    for label in figure.iter(f"{SVG}text"):
        assert 0 <= float(label.get("x")) <= width, label.text
        assert 0 <= float(label.get("y")) <= height, label.text
