# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""All operations that move elements or compute indices, on a GPU: the cases of
test/numerics, against the same reference.

Runs from a bundle: bundle/run test. make_bundle.py runs it too, to learn which
libraries the bundle needs.
"""

import sys

import blocks
import formats
import indices
import merge
import row_steps
import rows
import scaled

rows.IN_SEQUENCE = blocks.IN_SEQUENCE = False
FAMILIES = [rows, blocks, formats, indices, merge, row_steps, scaled]


def main():
    import cudadrv
    import device

    cudadrv.Device()
    failed = 0
    only = sys.argv[1:]
    for image in ("cubin", "ptx"):
        device.IMAGE = image
        for family in FAMILIES:
            if only and family.__name__ not in only:
                continue
            name = f"{family.__name__} ({image})"
            try:
                print(f"{name}: ", end="", flush=True)
                family.main(device)
                print(f"PASS {name}", flush=True)
            except Exception as error:
                print(f"FAIL {name}: {type(error).__name__}: {error}",
                      flush=True)
                failed += 1
        if only:
            break
    print(f"moves: {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
