# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Checks what passes do to many random programs.

    fuzz.py TOOL COUNT SEED [SECONDS]

Programs are checked in slices, one process for each core. After SECONDS no
slice is begun any more: the figures are those of programs that ran.
"""

import collections
import concurrent.futures
import os
import sys
import time

import checks

SLICE = 50


def main():
    tool, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    seconds = float(sys.argv[4]) if len(sys.argv) > 4 else float("inf")
    begin = time.monotonic()
    totals = collections.Counter()
    failed = slices = 0

    def slice_from(first):
        if time.monotonic() - begin > seconds:
            return None
        numbers = range(first, min(first + SLICE, count))
        return checks.check(checks.numbered(seed, numbers), tool)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for result in pool.map(slice_from, range(0, count, SLICE)):
            if result is None:
                continue
            figures, ok = result
            totals += figures
            slices += 1
            failed += not ok
            print(f"{totals['programs']} programs after "
                  f"{time.monotonic() - begin:.0f} s, {failed} of {slices} "
                  "slices differ", flush=True)
    print(", ".join(f"{number} {what}" for what, number in totals.items()))
    sys.exit(1 if failed or not slices else 0)


if __name__ == "__main__":
    main()
