# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s %kvcache_src
"""Four times as much of a program takes about four times as long to compile.

What is quadratic takes sixteen times, so that a limit of six, and another try
where it is exceeded, leaves room for a busy machine. In each try the smaller
program runs four times beside one run of the larger: what else the machine does
then slows both. The caps on the longest ones are many times what they take
(docs/compile-time.md).
"""

import resource
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(sys.argv[1]) / "benchmark" / "compile"))
import programs  # noqa: E402

GROWTH = 6
START = 0.2  # seconds: of the process, which do not grow
TRIES = 5

# program: the smaller size, and the most seconds that the larger one may take
BUDGETS = {
    "layers": (24, 40),
    "copies": (75, 40),
    "tensors": (100, 20),
    "scatters": (100, 20),
    "divided": (125, 20),
    "divided_once": (100, 20),
    "buffers": (125, 20),
    "functions": (50, 20),
    "calls": (200, 20),
    "loops": (75, 20),
    "stores": (50, 20),
}


def seconds(program):
    """Of a CPU, in the mode of users: others on the machine count little."""
    def used():
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    before = used()
    done = subprocess.run(["kv-compile", "-", "--emit=obj", "-o", "/dev/null"],
                          input=program, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[:2000]
    return used() - before


failed = []
for name, (size, cap) in BUDGETS.items():
    make = getattr(programs, name)
    small, large = make(size), make(4 * size)
    fits = False
    for _ in range(TRIES):
        once = sum(seconds(small) for _ in range(4)) / 4
        more = seconds(large)
        fits = more <= GROWTH * once + START and more <= cap
        if fits:
            break
    print(f"{name}: {size} {once:.2f} s, {4 * size} {more:.2f} s, "
          f"{more / once:.1f} times", flush=True)
    if not fits:
        failed.append(name)
assert not failed, (f"expected at most {GROWTH} times as long for four times as "
                    f"much, and no more than the cap: {failed}")
