# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Time to compile programs.py in three sizes, each twice as large as the one
before, as JSON: seconds of a CPU in user mode, the least of a few tries.

    PATH=build/bin:$PATH python3 benchmark/compile/growth.py > growth.json
"""

import argparse
import json
import resource
import subprocess
import sys

import programs

SIZES = {
    "layers": 24, "copies": 500, "tensors": 125, "scatters": 500,
    "divided": 125, "divided_once": 125, "buffers": 125, "functions": 125,
    "calls": 125, "loops": 100, "branches": 50, "views": 125, "stores": 100,
    "carried": 4,
}


def seconds(program, limit):
    """Of user mode; nothing if it takes longer than the limit."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    try:
        subprocess.run(["kv-compile", "-", "--emit=obj", "-o", "/dev/null"],
                       input=program, text=True, check=True,
                       capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("programs", nargs="*", default=list(SIZES))
    parser.add_argument("--tries", type=int, default=2)
    parser.add_argument("--limit", type=float, default=300)
    options = parser.parse_args()
    results = []
    for name in options.programs:
        for size in (SIZES[name], 2 * SIZES[name], 4 * SIZES[name]):
            program = getattr(programs, name)(size)
            taken = [seconds(program, options.limit)
                     for _ in range(options.tries)]
            least = None if None in taken else round(min(taken), 3)
            results.append({"program": name, "size": size, "user s": least})
            print(results[-1], file=sys.stderr)
            if least is None:
                break
    json.dump({"tool": "kv-compile --emit=obj", "tries": options.tries,
               "limit s": options.limit, "results": results}, sys.stdout,
              indent=1)
    print()


main()
