# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""attention over caches with scales, with all that attention over other caches is
tested with."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import attention
import attention_cases
import numpy as np
import scaled_cases
from kvtest import compile_library


def main(count=30, seed=7):
    rng = np.random.default_rng(seed)
    groups, texts = attention.programs(
        rng, scaled_cases.grid_choices(rng, count), scaled_cases.ScaledFunction)
    calls = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        libraries = pool.map(compile_library, texts,
                             [f"scaled{i}" for i in range(len(texts))])
        for number, (library, group) in enumerate(zip(libraries, groups)):
            kinds = [attention.IN_TURN[(number + i) % 5] for i in range(2)]
            calls += attention_cases.run(library, rng, group,
                                         attention.EACH + kinds)
    print(f"{count} functions, {calls} calls")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
