# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Make a folder that tests and measures compiled programs on a GPU machine.

usage: make_bundle.py [--output DIR] [--schedules]

The folder needs Python 3 with NumPy and a CUDA driver there, and uses PyTorch
and apache-tvm-ffi where they are present. No compiler, no LLVM, no toolkit.
"""

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("KV_BUILD_DIR", ROOT / "build"))
# Kernels of one operation are much alike: xz makes a tenth of it.
LIMIT = 256 << 20

sys.path.insert(0, str(ROOT / "test" / "gpu"))
sys.path.insert(0, str(ROOT / "test" / "numerics"))
sys.path.insert(0, str(ROOT / "benchmark" / "gpu"))

import checks  # noqa: E402
import scaled  # noqa: E402
import test_attention  # noqa: E402
import test_workspace  # noqa: E402
from attention_programs import (  # noqa: E402
    PROGRAMS, scaled_programs, sm80_programs)
from move_programs import ENGINE, MOVES  # noqa: E402
from programs import CORRECTNESS, VARIANTS  # noqa: E402
from relayout_programs import relayout_programs  # noqa: E402
from row_programs import row_programs  # noqa: E402
from schedules import SCHEDULES  # noqa: E402


POOL = ThreadPoolExecutor(os.cpu_count())
LIBRARIES = []


def kv_compile(*arguments, **how):
    """Compiles beside others; `main` waits for all of them."""
    LIBRARIES.append(POOL.submit(
        subprocess.run, [str(BUILD / "bin" / "kv-compile"), *arguments],
        check=True, **how))


def compile_text(text, name, folder, image, *flags, chip="sm_90a"):
    source = folder / f"{name}.mlir"
    source.write_text(text)
    kv_compile(str(source), f"--target={chip}", f"--gpu-image={image}",
               "-o", str(folder / f"lib{name}.so"), *flags)


def compile_cases(cases, name, folder, image):
    compile_text("".join(case.text() for case in cases), name, folder, image)


class Recorder:
    """Stands in for the machine that runs the tests of moves."""

    HAS_ATTENTION = False

    class Stop(Exception):
        pass

    def compile_library(self, text, *_):
        self.text = text
        raise self.Stop


def move_tests(families=None):
    """The programs of the tests of moves."""
    import test_moves

    for family in families or test_moves.FAMILIES:
        recorder = Recorder()
        try:
            family.main(recorder)
        except Recorder.Stop:
            yield recorder.text


def compile_for_cpu(text, name, folder):
    folder.mkdir(parents=True, exist_ok=True)
    kv_compile("-", "-o", str(folder / f"lib{name}.so"), input=text, text=True)


def program_name(text):
    # As in device.py, which needs a driver.
    import hashlib
    return "p" + hashlib.sha1(text.encode()).hexdigest()[:16]


# What the tests of the Python package need, in the folders that they have here.
PYTHON_FILES = ["docs/python.md", "examples/insert.mlir",
                "examples/paged_decode.mlir", "test/Python/flashinfer_calls.py",
                "test/Python/jax_calls.py", "test/Python/programs.py",
                "test/Python/transformers_models.py"]


def make_python_bundle(bundle):
    """The wheel and its tests: ./run test-python."""
    wheel, = BUILD.glob("wheel/kvcache-*.whl")
    for name in PYTHON_FILES:
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, bundle / name)
    for file in [wheel, ROOT / "test/gpu/run", ROOT / "test/gpu/test_python.py",
                 *ROOT.glob("test/gpu/python_*.py")]:
        shutil.copy(file, bundle / file.name)


def report_size(bundle, command):
    size = sum(f.stat().st_size for f in bundle.rglob("*") if f.is_file())
    if size > LIMIT:
        sys.exit(f"the bundle has {size >> 20} MiB, more than {LIMIT >> 20}")
    print(f"{bundle}: {size / (1 << 20):.1f} MiB; there: {command}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default=str(ROOT / "gpu-bundle"))
    parser.add_argument("--schedules", action="store_true",
                        help="also the library for run bench --library "
                        "schedules")
    parser.add_argument("--python", action="store_true",
                        help="the wheel and its tests alone; ./dev wheel first")
    parser.add_argument("--scaled", action="store_true",
                        help="the tests of caches with scales alone")
    options = parser.parse_args()
    bundle = Path(options.output)
    if bundle.exists() and not (bundle / "run").exists():
        sys.exit(f"{bundle} exists and is not a bundle")
    shutil.rmtree(bundle, ignore_errors=True)
    if options.python:
        make_python_bundle(bundle)
        return report_size(bundle, "./run test-python")

    have_ptxas = shutil.which("ptxas") is not None
    make_scaled(bundle, "cubin" if have_ptxas else "ptx")
    if not options.scaled:
        make_libraries(bundle, options, have_ptxas)
    for library in LIBRARIES:
        library.result()
    make_files(bundle)
    report_size(bundle, "./run test-scaled" if options.scaled
                else "./run test, ./run bench")


def make_scaled(bundle, image):
    """Caches with scales: their moves, and attention over them."""
    folder = bundle / "lib" / "cubin"
    folder.mkdir(parents=True)
    for text in [*move_tests([scaled]), *test_attention.scaled_programs()[1]]:
        compile_text(text, program_name(text), folder, image)
    compile_text(scaled_programs(), "scaled", folder, image)
    compile_text(row_programs(), "rows", folder, image)
    compile_text(relayout_programs(), "relayouts", folder, image)


def make_libraries(bundle, options, have_ptxas):
    for image in ("cubin", "ptx"):
        folder = bundle / "lib" / image
        folder.mkdir(exist_ok=True)
        # Without ptxas the driver compiles the PTX in both.
        used = image if have_ptxas else "ptx"
        compile_cases(CORRECTNESS + VARIANTS, "insert", folder, used)
        compile_text("".join(MOVES.values()), "moves", folder, used)
        compile_text("".join(ENGINE.values()), "engine", folder, used,
                     "--copy-engine-bytes=1")
        for text in move_tests():
            compile_text(text, program_name(text), folder, used)
        for text in test_workspace.PROGRAMS if image == "cubin" else []:
            compile_text(text, program_name(text), folder, used)
            compile_for_cpu(text, program_name(text), bundle / "lib" / "cpu")
        # The driver compiles PTX for seconds each.
        for text in test_attention.programs()[1] if image == "cubin" else []:
            compile_text(text, program_name(text), folder, used)
        if image == "cubin":
            compile_text(checks.PROGRAM, "checks", folder, used,
                         "--checks=full")
            compile_text("".join(PROGRAMS[""].values()), "attention_checked",
                         folder, used, "--checks=full")
            for facts, flags in (("", []), ("_hnd", []),
                                 ("_generic", ["--max-variants=1"])):
                text = "".join(PROGRAMS[facts].values())
                compile_text(text, f"attention{facts}", folder, used, *flags)
        if options.schedules:
            compile_cases(SCHEDULES, "schedules", folder, used)

    # For another chip, as PTX, which the driver compiles for the one it has.
    folder = bundle / "lib" / "sm_80"
    folder.mkdir()
    for text in test_attention.programs(sm80=True)[1]:
        compile_text(text, program_name(text), folder, "ptx", chip="sm_80")
    for facts in "", "_hnd":
        compile_text("".join(sm80_programs(facts)), f"attention{facts}", folder,
                     "ptx", chip="sm_80")



def make_files(bundle):
    files = [*ROOT.glob("test/gpu/*.py"), *ROOT.glob("benchmark/gpu/*"),
             *(ROOT / f"test/numerics/{name}.py" for name in (
                 "attention", "attention_cases", "blocks", "cache_types", "cases",
                 "checks", "formats", "indices", "invariance", "kvtest",
                 "mask_cases", "merge", "op_programs", "reference",
                 "row_steps", "rows", "scaled", "scaled_cases")),
             *ROOT.glob("test/numerics/ref_*.py"), ROOT / "test/gpu/run"]
    for file in files:
        if file.is_file():
            shutil.copy(file, bundle / file.name)
    shim = bundle / "shim"
    shim.mkdir()
    subprocess.run(
        ["clang-22", "-O2", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1",
         str(ROOT / "test/gpu/counting_driver.c"), "-o",
         str(shim / "libcuda.so.1")], check=True)


if __name__ == "__main__":
    main()
