# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Programs with --checks for a GPU, over the cases of the CPU: what a kernel
finds is given by the next call, or by kv1_LIBRARY_check."""

import checks
import machine
import numpy as np
from kvtest import ENTRY, OK

# Their kernels are those of other tests, or cannot be run here.
machine.skipped = ("attention", "index_copy", "scatter", "gather",
                   "copy_blocks", "clear_blocks", "transfer", "slot_mapping",
                   "select_rows")


def by_check(library, name, args):
    library.run(name, *args)
    code = library.check()
    assert code in (OK, ENTRY), library.last_error()
    assert library.check() == OK, "a report was given twice"
    return "" if code == OK else library._last


class Library:
    """Keeps the message of a check, which the next call clears."""

    def __init__(self, library):
        self.library = library

    def __getattr__(self, name):
        return getattr(self.library, name)

    def check(self):
        code = self.library.check()
        if code:
            self._last = self.library.last_error()
        return code


def by_next_call(library):
    """An offender is reported once, by a call that does nothing, and the one
    after it works."""
    rng = np.random.default_rng(2)
    call, spoils = checks.MAKERS["attend"](rng, machine, "attend")
    good = call.arguments()
    expected = "attend: " + spoils[0]()
    bad = call.arguments()
    library.run("attend", *bad)
    before = len(machine.launches)
    for tensor in good:  # a run forgets them
        machine.memory.add(tensor.storage)
    workspace = np.zeros(max(library.workspace_size("attend", *good), 1),
                         np.uint8)
    code = library.call("attend", *good, workspace=workspace)
    assert code == ENTRY and library.last_error() == (
        "attend: nothing was done, as a check of an earlier call failed: "
        + expected), library.last_error()
    assert len(machine.launches) == before, "something was launched"
    for tensor in good:
        machine.memory.add(tensor.storage)
    library.run("attend", *good)
    assert library.check() == OK


def many(library):
    """More requests and columns than one block of threads has."""
    rng = np.random.default_rng(4)
    requests, columns = 300, 600
    table = rng.integers(0, checks.BLOCKS, (requests, columns))
    lengths = rng.integers(1, columns * checks.TOKENS + 1, requests)
    for turn in range(6):
        call = checks.Call(rng, machine)
        call.data(requests, 4, checks.CHANNELS)
        call.pool()
        call.list("b.starts", np.arange(requests + 1), "i32")
        call.list("b.lengths", lengths, "i32")
        call.list("b.table", table, "i32")
        call.data(requests, 4, checks.CHANNELS)
        expected = ""
        if turn:
            r = int(rng.integers(requests))
            j = int(rng.integers((lengths[r] - 1) // checks.TOKENS + 1))
            checks.put(call, "b.table", (r, j), 4711)
            expected = (
                "attend: attention: argument 'b.table': expected a block from "
                f"0 to {checks.BLOCKS - 1} for request {r}, entry {j} (tokens "
                f"{j * checks.TOKENS} to {(j + 1) * checks.TOKENS - 1}), got "
                "4711")
        got = by_check(library, "attend", call.arguments())
        assert got == expected, f"expected '{expected}', got '{got}'"


def main():
    rng = np.random.default_rng(1)
    library = Library(machine.compile_library(
        checks.PROGRAM, "program", "sm_90a", "--checks=full"))
    count = sum(checks.check_one(library, rng, machine, name, by_check)
                for _ in range(6) for name in checks.MAKERS)
    assert any(name.startswith("check_batch") for name, *_ in machine.launches)
    by_next_call(library)
    many(library)
    print(f"checks on a GPU: {count} calls")


if __name__ == "__main__":
    main()
