# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Draw the stored results of attention as SVG: its speed on a GPU, and what it
loses by the format of a cache.

usage: plots.py [FOLDER]      the default is docs/images

There is one figure for each function below that FIGURES names. They need nothing
but Python, and the same results give the same files.
"""

import json
import sys
from pathlib import Path
from xml.sax.saxutils import escape

from accuracy import Stored

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmark" / "results"

WIDTH, LEFT, RIGHT = 760, 150, 60
BAR, GAP, TOP, LINE = 11, 12, 62, 16
COLORS = ["#1f6f8b", "#e08e45", "#8a8fa3", "#b65c6e"]
TEXT, GRID = "#57606a", "#d0d7de"


def text(x, y, value, size=12, anchor="start", weight="normal", color=TEXT):
    return (f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" '
            f'text-anchor="{anchor}" font-weight="{weight}" fill="{color}">'
            f"{escape(value)}</text>")


def rectangle(x, y, width, height, color):
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}" fill="{color}"/>')


def figure(title, unit, most, groups, series, show="{:.0f}".format):
    """Horizontal bars. `groups` has pairs of a name and a value for each of the
    series, or None."""
    space = WIDTH - LEFT - RIGHT
    step = len(series) * BAR + GAP
    height = TOP + len(groups) * step + LINE + 8
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
           f'height="{height}" viewBox="0 0 {WIDTH} {height}" '
           'font-family="sans-serif" role="img">',
           f"<title>{escape(title)}</title>",
           rectangle(0, 0, WIDTH, height, "#ffffff"),
           text(12, 20, title, 14, weight="bold", color="#24292f")]
    x = 12
    for name, color in zip(series, COLORS):
        out += [rectangle(x, 32, 10, 10, color), text(x + 15, 41, name)]
        x += 35 + 7 * len(name)
    bottom = TOP + len(groups) * step - GAP / 2
    for i in range(5):
        at = LEFT + space * i / 4
        out.append(f'<line x1="{at:.1f}" y1="{TOP - 6}" x2="{at:.1f}" '
                   f'y2="{bottom:.1f}" stroke="{GRID}"/>')
        label = f"{most * i / 4:g}" + (f" {unit}" if i == 4 else "")
        out.append(text(at, bottom + LINE, label, 11, "middle"))
    for row, (name, values) in enumerate(groups):
        y = TOP + row * step
        out.append(text(LEFT - 8, y + len(series) * BAR / 2 + 4, name,
                        anchor="end"))
        for i, value in enumerate(values):
            if value is None:
                continue
            long = space * min(value / most, 1)
            out.append(rectangle(LEFT, y + i * BAR, long, BAR - 1, COLORS[i]))
            out.append(text(LEFT + long + 4, y + i * BAR + 9, show(value), 9))
    return "\n".join(out + ["</svg>"]) + "\n"


def load(name):
    return json.loads((RESULTS / name).read_text())


def table(rows, key, value):
    return {(row["workload"], row[key]): value(row) for row in rows}


def share(row):
    """Of the time of a linear read of the same bytes."""
    return 100 * row["ceiling_us"] / row["us"]


def decode():
    found = table(load("attention-h200.json")["attention"], "who", share)
    works = ["1x1k", "8x1k", "1x32k", "16x8k", "64x4k", "128x8k", "256x1k 64/8",
             "ragged64", "skew 63x512+1x16k"]
    who = {"kvcache": "kvcache", "FlashInfer": "flashinfer-fa2", "XQA": "xqa",
           "FlashAttention 3": "fa3"}
    return figure(
        "Decode on an H200: share of a linear read of the same bytes", "%", 100,
        [(work, [found.get((work, name)) for name in who.values()])
         for work in works], list(who))


def layouts():
    rows = load("attention-h200.json")["layouts"]
    found = {row["workload"]: share(row) for row in rows}
    works = ["1x1k", "8x1k", "1x32k", "16x8k", "64x4k", "256x1k 64/8", "ragged64",
             "skew 63x512+1x16k"]
    kinds = {"NHD": "nhd", "blocks apart": "strided", "layers in a block": "cross",
             "HND": "hnd"}
    return figure(
        "Decode on an H200, kvcache in four layouts: share of a linear read", "%",
        100, [(work, [found.get(f"{work} {kind}") for kind in kinds.values()])
              for work in works], list(kinds))


def prompts():
    rows = load("attention-rows-h200.json")["prompts beside peers"]["results"]
    found = table(rows, "who", lambda row: row["tflops"])
    works = {"4 x 4k": "4x4k", "1 x 16k": "1x16k", "2k rows on 16k": "2k on 16k"}
    who = {"kvcache": "kvcache", "FlashInfer": "flashinfer-fa2",
           "FlashAttention 3": "fa3"}
    return figure(
        "Prompts on an H200, 32/8 heads of 128 channels, pages of 16", "TFLOP/s",
        800, [(name, [found.get((work, peer)) for peer in who.values()])
              for name, work in works.items()], list(who))


def accuracy():
    stored = Stored()
    names = {"f16": "f16", "bf16": "bf16", "i8, scales": "i8 with scales",
             "f8E4M3FN, scales": "f8E4M3FN with scales", "f8E4M3FN": "f8E4M3FN",
             "f8E5M2, scales": "f8E5M2 with scales", "f8E5M2": "f8E5M2"}
    keys = {"normal keys": "normal", "outliers in keys": "outliers",
            "a vector in all keys": "biased",
            "outliers that queries avoid": "balanced"}
    context = max(stored.parameters["contexts"])
    return figure(
        f"Error of attention over {context} tokens, relative to the output", "%", 60,
        [(shown, [100 * stored.mean("relative", format=name, keys=kind,
                                    context=context, against="exact")
                  for kind in keys.values()]) for name, shown in names.items()],
        list(keys), "{:.2g}".format)


FIGURES = [decode, layouts, prompts, accuracy]


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    for make in FIGURES:
        (folder / f"{make.__name__}.svg").write_text(make())


if __name__ == "__main__":
    main()
