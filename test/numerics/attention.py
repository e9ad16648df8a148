# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""attention over a grid of layouts, sizes, types and options: each pair of
choices at least once with the default count, and each function with a mixed
batch, a hostile one, and two of the other kinds.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import attention_cases
import numpy as np
from kvtest import compile_library

EACH = ["mixed", "hostile"]
IN_TURN = ["decode", "prefill", "long", "one", "none"]
# Functions of one library; as many libraries are compiled at a time as there
# are processors.
PER_LIBRARY = 10


def programs(rng, choices, kind=attention_cases.Function):
    """Functions in groups, and the text of a library for each group."""
    functions = [kind(rng, f"f{number}", choice)
                 for number, choice in enumerate(choices)]
    groups = [functions[i : i + PER_LIBRARY]
              for i in range(0, len(functions), PER_LIBRARY)]
    texts = ["".join(f.call(rng, "none")[0].text() for f in group)
             for group in groups]
    return groups, texts


def main(count=100, seed=81):
    rng = np.random.default_rng(seed)
    choices = list(attention_cases.grid(rng, count))
    if count >= 100:
        missing = attention_cases.missing_pairs(choices)
        assert not missing, f"pairs that no function has: {missing}"
    groups, texts = programs(rng, choices)
    calls = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        libraries = pool.map(compile_library, texts,
                             [f"grid{i}" for i in range(len(texts))])
        for number, (library, group) in enumerate(zip(libraries, groups)):
            kinds = [IN_TURN[(number + i) % len(IN_TURN)] for i in range(2)]
            calls += attention_cases.run(library, rng, group, EACH + kinds)
    print(f"{count} functions, {calls} calls")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
