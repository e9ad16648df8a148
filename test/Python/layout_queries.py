# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s %kvcache_src
"""Transfers of layouts, compared with addresses counted by NumPy, and drawings:
text, SVG, and the command kv-layout."""

import contextlib
import io
import itertools
import re
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import kvcache
import numpy as np
from kvcache import kv_layout
from kvcache._version import ORDERS
from programs import raises

EXTENTS = {"L": 3, "S": 2, "B": 5, "N": 4, "H": 2, "D": 8}
BLOCKS = EXTENTS["B"]


def make(order, layers=3):
    return kvcache.Layout(order, kv_heads=2, head_dim=8, block_size=4,
                          layers=layers, dtype="f32")


def runs_of(layout, moved, slices):
    """The lengths of the runs of adjacent bytes, for fixed axes at index 1."""
    size = int(np.prod(layout.memory_shape(BLOCKS)))
    pool = layout.view(np.arange(size).reshape(layout.memory_shape(BLOCKS)))
    part = pool[tuple(slice(*slices.get(axis, (None,))) if axis in moved else 1
                      for axis in layout.axes)]
    places = np.sort(part.ravel())
    ends = np.flatnonzero(np.diff(places) != 1)
    bounds = np.concatenate([[-1], ends, [places.size - 1]])
    return set((np.diff(bounds) * 4).tolist()), bounds.size - 1


# ---- Transfers: every order, every set of axes that has no blocks, and slices

count = 0
for name, axes in ORDERS.items():
    layout = make(name, 3 if "L" in axes else None)
    others = [axis for axis in layout.axes if axis != "B"]
    for length in range(1, len(others) + 1):
        for moved in itertools.combinations(others, length):
            choices = [{}]
            choices += [{"N": (1, 3)}] if "N" in moved else []
            choices += [{"H": (1, 2)}] if "H" in moved else []
            for slices in choices:
                found = layout.transfer("".join(moved), **slices)
                lengths, runs = runs_of(layout, moved, slices)
                # Loops that happen to be adjacent are known to be.
                assert found.runs == runs, (name, moved, slices, found, runs)
                assert lengths == {found.run_bytes}, (name, moved, slices)
                strides = dict(zip(
                    layout.axes, np.array(layout.view(np.empty(
                        layout.memory_shape(BLOCKS), np.float32)).strides) // 4))
                total = found.run_bytes
                for extent, stride in found.loops:
                    assert stride is None or stride in strides.values()
                    total *= extent
                wanted = int(np.prod([
                    len(range(*slices.get(axis, (EXTENTS[axis],))))
                    for axis in moved]))
                assert total == 4 * wanted, (name, moved, slices, found)
                count += 1
assert count > 500, count

whole = make("BLSNHD").transfer("LSNHD")
assert whole == (3 * 2 * 4 * 2 * 8 * 4, 1, 16, ()), whole
layer = make("BLSNHD").transfer("SBNHD")
assert layer.runs is None and layer.loops == ((None, 384),), layer
assert raises(ValueError, make("nhd", None).transfer, "NX") == (
    "expected letters of axes, got 'NX'")
assert raises(ValueError, make("nhd", None).transfer, "N", H=(0, 1)) == (
    "the sliced axis H is expected to be one of those that move")

# ---- Drawings: that of the page is one

page = (Path(sys.argv[1]) / "docs" / "layout.md").read_text()
drawn = re.search(r"\$ (kv-layout .*)\n([^`]*)```", page)


def command(*arguments):
    """The status, the output and the messages."""
    output, messages = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(messages):
        try:
            status = kv_layout.main(arguments)
        except SystemExit as done:
            status = done.code
    return status, output.getvalue(), messages.getvalue()


status, text, _ = command(*drawn[1].split()[1:])
assert status == 0 and text == drawn[2], text
layout = kvcache.Layout("cross_layer_nhd", layers=32, kv_heads=8, head_dim=128)
assert layout.draw() == text
assert command(layout.type)[1] == text

for name, axes in ORDERS.items():
    layout = make(name, 3 if "L" in axes else None)
    text = layout.draw()
    lines = dict(re.findall(r"^  ([LSBNHD]) \w+ .* ([01kv]+)$", text, re.M))
    # The cells of an axis alternate the faster, the faster it is.
    changes = [sum(a != b for a, b in itertools.pairwise(lines[axis]))
               for axis in axes if axis in lines]
    assert changes == sorted(changes) and len(changes) == len(axes) - 1, text
    root = ElementTree.fromstring(layout.draw(svg=True))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    words = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert text.splitlines()[0] in words, words
    for part, transfer in re.findall(r"^  (an? .*?|the .*?)  +[#-]+  (.*)$", text,
                                     re.M):
        assert part in words and transfer in words, (part, transfer)
    rectangles = list(root.iter("{http://www.w3.org/2000/svg}rect"))
    assert len(rectangles) > sum(changes)

# A gap, and a stride that is known in a call only.
gap = "!kvcache.cache<?B x 2N x 2H x 8D x f32, strides = [B = 1024]>"
assert "0000.1111\n" in command(gap)[1]
assert "         ?*64  0000.1111\n" in command(gap.replace("1024", "? mult 16"))[1]

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "pool.svg")
    assert command("hnd", "--svg", str(path)) == (0, "", "")
    assert command("hnd", "--svg", "-")[1] == path.read_text()
    assert ElementTree.parse(path).getroot().get("width").isdigit()

assert command("!kvcache.cache<?B x 16N>")[::2] == (
    1, "kv-layout: expected 'x' between axes\n")
assert command("i32")[0] == 1
assert command("BLHNC")[0] == 0
status, _, messages = command("BHNL")
assert status == 1 and messages.startswith("kv-layout: order: expected each of")
status, text, _ = command("--help")
assert status == 0 and "examples:" in text
