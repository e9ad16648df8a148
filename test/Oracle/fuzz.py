# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Random programs, compiled and run, against the interpreter.

    fuzz.py [--count N] [--seed N] [--seconds N] [--out FOLDER] [--reduce]
    fuzz.py --seed N --first MODULE --count 20 --only f3 --reduce

Programs are numbered: the same seed, module and function give the same program
and the same calls, whatever else runs.
"""

import argparse
import collections
import concurrent.futures
import os
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "numerics"))

from modules import ALONE, Calls, Module  # noqa: E402
from reduce import reduced, sort_of  # noqa: E402
from steps import random_program  # noqa: E402
from tensor_programs import tensor_program  # noqa: E402

SIZE = 20


def programs_of(seed, number, size=SIZE):
    """Programs of a module; every sixth has its pools as tensors."""
    return [(tensor_program if i % 6 == 5 else random_program)(
                random.Random(f"{seed} {number} {i}"), f"f{i}")
            for i in range(size)]


def run_module(seed, number, size=SIZE, passes=True, alone=True, only=None):
    """Findings and figures of one module."""
    programs = programs_of(seed, number, size)
    if only:
        programs = [p for p in programs if p.name in only]
    figures = collections.Counter(programs=len(programs))
    for program in programs:
        figures.update(f"with {tag}" for tag in program.tags)
    with tempfile.TemporaryDirectory(prefix="kvoracle-") as folder:
        module = Module(f"m{number}", programs, folder)
        dumps = module.dumps()
        # Half of the modules run after each pass, too, and a part of the
        # others goes through one pass more before it is compiled.
        passes = passes and number % 2 == 0
        before = None
        if alone and number % 4 == 3:
            before = ALONE[number // 4 % len(ALONE)]
        library = module.compile(before)
        if module.programs and dumps:
            calls = Calls(module, seed, dumps if passes else dumps[:1],
                          library)
            calls.run()
            figures.update(calls.figures)
        figures["refused"] = sum(module.refused.values())
        figures["run"] = len(module.programs)
        return module.findings, figures, module.refused


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="module")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--out", help="folder for findings")
    parser.add_argument("--only", help="functions, with commas between")
    parser.add_argument("--reduce", action="store_true",
                        help="leave out what a finding does not need")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    begin = time.monotonic()
    figures, refused, kinds = (collections.Counter() for _ in range(3))
    found = []
    numbers = range(options.first, options.first + -(-options.count // SIZE))
    only = options.only.split(",") if options.only else None

    def enter(result):
        findings, some, why = result
        figures.update(some)
        refused.update(why)
        for finding in findings:
            found.append(finding)
            kinds[finding.kind] += 1
            report(finding, options)

    if options.jobs == 1 or len(numbers) == 1:
        for number in numbers:
            if time.monotonic() - begin < options.seconds:
                enter(run_module(options.seed, number, only=only))
    else:
        with concurrent.futures.ProcessPoolExecutor(options.jobs) as pool:
            waiting = iter(numbers)
            running = set()
            while True:
                while len(running) < options.jobs + 1 and (
                        time.monotonic() - begin < options.seconds):
                    number = next(waiting, None)
                    if number is None:
                        break
                    running.add(pool.submit(run_module, options.seed, number))
                if not running:
                    break
                done, running = concurrent.futures.wait(
                    running, return_when="FIRST_COMPLETED")
                for future in done:
                    enter(future.result())
    seconds = time.monotonic() - begin
    for name, number in sorted(figures.items()):
        print(f"{number:8} {name}")
    for why, number in refused.most_common(8):
        print(f"{number:8} refused: {why}")
    print(f"{figures['programs']} programs in {seconds:.0f} s, "
          f"{len(found)} findings: {dict(kinds)}")
    sys.exit(bool(found) or not figures["calls"])


def report(finding, options):
    head = (f"{finding.kind}: seed {options.seed}, module {finding.module}, "
            f"{finding.function}, {finding.call}: {finding.text}")
    print(head[:600], flush=True)
    text = finding.program
    if options.reduce:
        number = int(finding.module[1:])
        program = next(p for p in programs_of(options.seed, number)
                       if p.name == finding.function)
        text = reduced(program, options.seed, finding.module,
                       sort_of(finding)).text
        print(text, flush=True)
    if options.out:
        folder = Path(options.out)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (f"{finding.kind.replace(' ', '-')}-{finding.module}-"
                         f"{finding.function}.mlir")
        path.write_text(f"// {head}\n{text}")


if __name__ == "__main__":
    main()
