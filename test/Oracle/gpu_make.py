# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Random programs for a GPU, compiled into a folder, with calls and what the
interpreter expects of them.

    gpu_make.py FOLDER [--modules N] [--seed N] [--chip sm_90a]

The folder needs Python 3 with NumPy and a CUDA driver where it is run, with
`python3 gpu_run.py`: no compiler, no LLVM, no toolkit.
"""

import argparse
import collections
import os
import pickle
import random
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "numerics"))

import numpy as np  # noqa: E402
import run_calls  # noqa: E402
from calls import Arena, CallMaker, TooLarge  # noqa: E402
from interpreter import Interpreter, Undefined  # noqa: E402
from modules import BIN, Module  # noqa: E402
from steps import random_program  # noqa: E402

HERE = Path(__file__).resolve().parent
SIZE, CALLS = 10, 4
FILES = [HERE / "gpu_run.py", HERE / "calls.py", HERE / "builder.py",
         HERE / "differences.py", HERE / "ir_types.py",
         HERE / "generic_form.py",
         *(HERE.parent / "numerics" / f"{n}.py" for n in (
             "kvtest", "cache_types", "ref_cache", "ref_elements")),
         HERE.parent / "gpu" / "cudadrv.py"]


def compiled(module, path, chip):
    """Leave out what does not compile, with a note."""
    while module.programs:
        done = subprocess.run(
            [str(BIN / "kv-compile"), "-", f"--target={chip}",
             "--gpu-image=auto", "-o", str(path)],
            input=module.text(), text=True, capture_output=True)
        if done.returncode == 0:
            return True
        before = len(module.programs)
        module.leave_out_failing("kv-compile", [f"--target={chip}"],
                                done.returncode, done.stderr)
        if len(module.programs) == before:
            return False
    return False


def recorded(program, interpreter, text, call, arena):
    """A call with what is expected of it, or None."""
    try:
        want = run_calls.interpret(interpreter, program.name, call, arena)
        lenient = run_calls.open_bytes(text, program.name, call, arena, want,
                                       2 * interpreter.longest)
    except (Undefined, TooLarge):
        return None
    if any("decrease" in why for why in want.fails):
        return None  # a GPU is over before that is known
    # Lists that nobody has filled could name any slot.
    poisoned = "memref.alloc" in program.text
    return program.name, call, want, lenient, poisoned


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--modules", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--chip", default="sm_90a")
    options = parser.parse_args()
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    arena = Arena(guarded=False)
    figures = collections.Counter()
    for number in range(options.modules):
        name = f"m{number}"
        programs = [random_program(
            random.Random(f"{options.seed} gpu {number} {i}"), f"f{i}", True)
            for i in range(SIZE)]
        module = Module(name, programs, folder)
        dumps = module.dumps()
        if not compiled(module, folder / f"lib{name}.so", options.chip):
            print(f"{name}: nothing compiles")
            continue
        for finding in module.findings:
            print(f"{finding.kind}: {name} {finding.function}: {finding.text}")
        interpreter = Interpreter(dumps[0][1])
        calls = []
        for program in module.programs:
            for i in range(CALLS):
                rng = random.Random(f"{options.seed} {name} {program.name} {i}")
                call = CallMaker(program, rng, np.random.default_rng(
                    rng.getrandbits(64))).make()
                made = recorded(program, interpreter, dumps[0][1], call, arena)
                if made:
                    calls.append(made)
        (folder / f"{name}.pickle").write_bytes(pickle.dumps(calls))
        (folder / f"{name}.mlir").write_text(module.text())
        figures.update(programs=len(module.programs), calls=len(calls))
    for file in FILES:
        shutil.copy(file, folder / file.name)
    print(f"{folder}: {dict(figures)}; there: python3 gpu_run.py")


if __name__ == "__main__":
    os.environ.setdefault("KV_BUILD_DIR", "build")
    main()
