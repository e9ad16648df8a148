# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""slot_mapping, map_blocks, block_slots, csr_table, and select_rows with
with_rows, over random and hostile batches.
"""

import cases
import kvtest
import numpy as np
import op_programs as ops
import reference
from kvtest import BOUNDS
from ref_elements import STORAGE

ROUNDS = 7
# Of select_rows: rounds with more of everything than a block of threads has,
# with starts that are in no order, and with an index that is wrong.
MANY, HOSTILE, WRONG = (2, 3, 6), (1, 3), (4, 6)


def check_buffers(buffers, what):
    for buffer in buffers:
        buffer.guard.check(what)


def same(buffer, want, what):
    got = np.array(buffer.array).tolist()
    assert got == want, f"{what}: expected {want}, got {got}"
    buffer.guard.check(what)


def random_index(rng):
    return str(rng.choice(["i32", "i64"]))


class OfBatch:
    def __init__(self, rng):
        self.tokens = int(rng.choice([1, 3, 16, 128]))
        self.index = random_index(rng)
        self.positions = [None, "i32", "i64"][rng.integers(3)]
        self.gap = int(rng.choice([0, 3]))

    def batch(self, rng, hostile, many=False):
        """Many are more than the threads of a block on a GPU."""
        requests = 530 if many else int(rng.choice([0, 1, 2, 5, 9]))
        case = cases.random_batch(
            rng, requests=requests, tokens=self.tokens, blocks=40,
            longest=3 if many else 60, kind=str(rng.choice(cases.BATCHES)),
            index=self.index, positions=self.positions, gap=self.gap,
            extra=int(rng.integers(0, 3)))
        return cases.hostile_batch(rng, case, 40) if hostile else case


class SlotMapping(OfBatch):
    def __init__(self, rng):
        super().__init__(rng)
        self.sink = bool(rng.random() < 0.4)
        self.out = random_index(rng)

    def run(self, rng, name, round):
        batch = self.batch(rng, round % 2 == 1, round > 2)
        sink = int(rng.integers(0, 9)) if self.sink else None
        if self.sink and round in HOSTILE:
            sink = int(rng.choice(cases.leading_out("i64", 9)))
        out = cases.integers(np.full(batch.rows, 77), self.out)
        want = reference.slot_mapping(batch.batch(), batch.rows, sink, self.out)
        program = ops.slot_mapping(name, batch, out, sink)
        return program, lambda what: same(out, want, what)


class Blocks:
    """map_blocks of a list or a matrix, and block_slots."""

    def __init__(self, rng):
        self.kind = int(rng.integers(3))
        self.types = [random_index(rng) for _ in range(2)]
        self.factor = int(rng.choice([1, 2, 7, 16]))
        self.gaps = [int(rng.choice([0, 3])) * (self.kind == 1)
                     for _ in range(2)]

    def run(self, rng, name, round):
        shape = [int(rng.choice([0, 1, 6]))]
        if self.kind == 1:
            shape = [int(rng.choice([0, 1, 4])), *shape]
        numbers = rng.integers(-2, 1000, shape)
        wrong = rng.random(shape) < 0.4
        numbers[wrong] = rng.choice(cases.leading_out(self.types[0], 1000),
                                    wrong.sum())
        blocks = cases.integers(numbers, self.types[0], self.gaps[0])
        wide = [*shape[:-1], shape[-1] * self.factor]
        if self.kind == 2:
            out = cases.integers(np.full(wide, 77), self.types[1])
            want = reference.block_slots(blocks.array, self.factor,
                                         self.types[1])
            program = ops.block_slots(name, blocks, self.factor, out)
        else:
            out = cases.integers(np.full(wide, 77), self.types[0], self.gaps[1])
            want = reference.map_blocks(blocks.array, self.factor,
                                        self.types[0])
            program = ops.map_blocks(name, blocks, self.factor, out)
        return program, lambda what: same(out, want.tolist(), what)


class CsrTable:
    def __init__(self, rng):
        self.index = random_index(rng)
        self.tokens = int(rng.choice([1, 3, 16, 128, 2**20]))
        self.lengths = bool(rng.random() < 0.6)
        self.gap = int(rng.choice([0, 3]))

    def run(self, rng, name, round):
        requests = 300 if round in MANY else int(rng.choice([0, 1, 5]))
        counts = rng.integers(0, 9, requests)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        listed = int(indptr[-1]) + int(rng.integers(0, 3))
        last = rng.integers(1, self.tokens + 1, requests)
        if round in HOSTILE:
            wrong = cases.leading_out(self.index, listed + 1)
            for array in indptr, last:
                some = rng.random(len(array)) < 0.3
                array[some] = rng.choice(wrong, some.sum())
        columns = int(rng.choice([0, 3, 8, 300]))
        lists = [cases.integers(indptr, self.index),
                 cases.integers(rng.integers(-1, 99, listed), self.index)]
        table = cases.integers(np.full((requests, columns), 77), self.index,
                               self.gap)
        given, out = [], None
        if self.lengths:
            out = cases.integers(np.full(requests, 77), self.index)
            given = [cases.integers(last, self.index), self.tokens]
        want, lengths = reference.csr_table(
            *(b.array.tolist() for b in lists), columns,
            *([given[0].array.tolist(), self.tokens] if given
              else [None, None]), self.index)
        program = ops.csr_table(name, *lists, table, *given,
                                **({"lengths": out} if given else {}))

        def check(what):
            same(table, want, what)
            if out:
                same(out, lengths, what)
            check_buffers(lists, what)

        return program, check


class SelectRows(OfBatch):
    def __init__(self, rng):
        super().__init__(rng)
        self.selected = random_index(rng)
        self.where = random_index(rng)
        self.rows = []
        for _ in range(int(rng.integers(1, 3))):
            shape = [int(n) for n in rng.integers(1, 40, rng.integers(0, 3))]
            self.rows.append((shape, str(rng.choice(list(STORAGE))),
                              *rng.choice([0, 1, 8] if shape else [0], 2)
                              .tolist()))

    def run(self, rng, name, round):
        many = round in MANY
        batch = self.batch(rng, round in HOSTILE, many)
        inside = [t for t, row in enumerate(batch.batch().rows(batch.rows))
                  if row]
        rows = [cases.random_rows(rng, batch.rows, *args[:3])
                for args in self.rows]
        count = int(rng.choice([0, 1, 7, 12] if not many else [270, 600]))
        valid = int(rng.choice([0, count // 2, count, count + 3, -1]))
        if round in WRONG:
            count, valid = (7, 5) if not many else (500, 400)
        n = min(max(valid, 0), count)
        if not inside:
            valid = n = 0
        indices = rng.choice([-1, batch.rows, 10**6], count)
        indices[:n] = np.sort(rng.choice(inside, n)) if n else []
        if round in WRONG and n:
            indices[rng.integers(0, n)] = rng.choice([-1, batch.rows, 2**31 - 1,
                                                      inside[0]])
        given = cases.integers(indices, self.selected)
        limit = cases.integers([valid], self.selected, fixed=(0,))
        outs = [cases.result_rows(count, shape, type_, gap)
                for shape, type_, _, gap in self.rows]
        starts = cases.integers(np.full(len(batch.starts.array), 77),
                                self.index)
        where = cases.integers(np.full(count, 77), self.where)
        want = reference.select_rows([r.array for r in rows], batch.batch(),
                                     given.array, [valid],
                                     element_type=self.where)

        def check(what):
            same(starts, want.starts, what)
            check_buffers([where, *outs, *rows], what)
            if want.fails:
                return
            same(where, want.positions, what)
            for out, expected in zip(outs, want.outs):
                got = np.array(out.array).view(np.uint8)
                assert np.array_equal(got, expected.view(np.uint8)), what

        program = ops.select_rows(name, rows, batch, given, limit, outs, starts,
                                  where)
        program.fails = want.fails
        return program, check


def main(machine):
    """On kvtest, or what stands in for it."""
    rng = np.random.default_rng(55)
    kinds = [SlotMapping, Blocks, SelectRows, CsrTable] * 20
    functions, runs = ops.in_rounds(rng, ROUNDS, (k(rng) for k in kinds))
    library = machine.compile_library("".join(functions))
    failed = 0
    for program, check in runs:
        arguments = program.arguments(machine.Tensor)
        fails = getattr(program, "fails", False)
        failed += fails
        # A GPU finds it out when the call is over.
        if fails and getattr(machine, "REPORTS_SELECTION", True):
            size = library.workspace_size(program.name, *arguments)
            workspace = cases.Guarded(np.full(size, 0xFF, np.uint8))
            library.expect_error(BOUNDS, "row", program.name, *arguments,
                                 workspace=workspace.inside)
            workspace.check(program.text())
        else:
            library.run(program.name, *arguments, poison=0x7F)
        check(program.text())
    assert failed > 5, failed
    print(f"{len(functions)} functions, {len(runs)} calls, {failed} fail")


if __name__ == "__main__":
    main(kvtest)
