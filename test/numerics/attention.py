# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""attention over a grid of layouts, sizes, types and options, each pair of
choices at least once as far as it goes, within the bounds of the reference.
"""

import sys

import attention_cases
import numpy as np
from kvtest import compile_library

KINDS = ["decode", "prefill", "mixed", "long", "hostile", "one", "none"]


def main(count=12, seed=77):
    rng = np.random.default_rng(seed)
    functions = [
        attention_cases.Function(rng, f"f{number}", choice)
        for number, choice in enumerate(attention_cases.grid(rng, count))]
    texts = [f.call(rng, "none")[0].text() for f in functions]
    library = compile_library("".join(texts))
    calls = attention_cases.run(library, rng, functions, KINDS)
    print(f"{len(functions)} functions, {calls} calls")


main(*map(int, sys.argv[1:]))
