# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""index_copy over random layouts, layers and sides, bit for bit."""

import cases
import numpy as np
import op_programs
import reference
from kvtest import Tensor, compile_library
from ref_elements import STORAGE

PADS = ["skip_negative", "skip_out_of_range"]


def make(rng, number):
    sides, layers, heads = ([None, 1, n][rng.integers(3)] for n in (2, 3, 3))
    case = cases.random_cache(
        rng, str(rng.choice(list(STORAGE))), sides=sides, layers=layers,
        heads=heads, channels=int(rng.choice([5, 8, 64])),
        tokens=int(rng.choice([1, 4, 16])), blocks=int(rng.choice([1, 7])))
    if "S" in case.view.axes and rng.random() < 0.3:
        case = case.then("side", case.view.extent("S") - 1)
    view, count = case.view, int(rng.choice([0, 1, 9]))
    pad, hostile = str(rng.choice(PADS)), bool(rng.random() < 0.2)
    slots = cases.random_slots(
        rng, count, view.extent("B") * view.extent("N"), pad,
        str(rng.choice(["i32", "i64"])), duplicates=True, hostile=hostile)
    gap = int(rng.choice([0, 0, 1, 8]))
    rows = [cases.random_rows(rng, count, view.row_shape, view.element_type,
                              gap) for _ in range(view.extent("S"))]
    program = op_programs.index_copy(f"f{number}", case, rows, slots, pad)
    whole, expected = case.expected()
    reference.index_copy(expected, [r.array for r in rows], slots.array,
                         None if hostile else pad)
    return program, case, whole


def main():
    rng = np.random.default_rng(21)
    made = [make(rng, number) for number in range(80)]
    library = compile_library("".join(p.text() for p, _, _ in made))
    for program, case, expected in made:
        library.check_call(program.name, *program.arguments(Tensor))
        case.check(expected, program.text())
    print(f"{len(made)} layouts")


main()
