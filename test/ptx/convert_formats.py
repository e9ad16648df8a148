# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Conversions from and to formats of one byte, in kernels for a chip with
instructions for them and for one without."""

import itertools

import formats
import machine
import numpy as np
from ref_elements import ELEMENTS, STORAGE

MOST = 12_000  # numbers of a call: the interpreter takes its time


def is_byte(element):
    return np.dtype(ELEMENTS[element].storage).itemsize == 1


def main():
    rng = np.random.default_rng(4)
    for target in ("sm_80", "sm_90a"):
        library = machine.compile_library(formats.program(), f"on_{target}",
                                          target)
        count = 0
        for a, b in itertools.permutations(STORAGE, 2):
            if not is_byte(a) and not is_byte(b):
                continue
            values = formats.samples(a)
            if len(values) > MOST:
                values = rng.choice(values, MOST, replace=False)
            count += formats.check(machine, library, a, b, values)
        print(f"{target}: {count} numbers")


main()
