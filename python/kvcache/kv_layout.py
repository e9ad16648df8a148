# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The command kv-layout: draws where a cache has its parts in memory."""

from __future__ import annotations

import argparse
import sys
from typing import Optional, Sequence

from ._layout import Layout
from ._version import FORMATS

_EXAMPLES = """\
examples:
  kv-layout cross_layer_nhd --layers 32
  kv-layout BLHNSD --layers 32 --kv-heads 4 --svg pool.svg
  kv-layout '!kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [B = ?]>'
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kv-layout", epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Draws a layout of a paged KV cache: which axis is fastest, "
        "where a block, a layer and a head are in memory, and how many "
        "contiguous runs each of them has.")
    parser.add_argument("layout", help="the type of a cache, the name of an "
                        "order, or the axes from slowest to fastest")
    parser.add_argument("--layers", type=int, metavar="N",
                        help="layers in one buffer (default: no axis L)")
    for name, number in (("block-size", 16), ("kv-heads", 8), ("head-dim", 128)):
        parser.add_argument("--" + name, type=int, metavar="N", default=number,
                            help="default: %(default)s")
    parser.add_argument("--dtype", choices=tuple(FORMATS),
                        default="bf16", help="default: %(default)s")
    parser.add_argument("--svg", metavar="FILE",
                        help="write an SVG file; - is the standard output")
    return parser


def _type_of(given: argparse.Namespace) -> str:
    if given.layout.startswith("!"):
        return given.layout
    return Layout(given.layout, kv_heads=given.kv_heads, head_dim=given.head_dim,
                  block_size=given.block_size, layers=given.layers,
                  dtype=given.dtype).type


def main(arguments: Optional[Sequence[str]] = None) -> int:
    given = _parser().parse_args(arguments)
    from ._queries import Query
    try:
        query = Query(_type_of(given))
    except ValueError as error:
        print(f"kv-layout: {error}", file=sys.stderr)
        return 1
    if given.svg is None:
        sys.stdout.write(query.draw())
    elif given.svg == "-":
        sys.stdout.write(query.draw(svg=True))
    else:
        with open(given.svg, "w", encoding="utf-8") as file:
            file.write(query.draw(svg=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
