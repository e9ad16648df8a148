# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""An installation has what another project needs to use ours from CMake."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
PROGRAM = HERE.parents[1] / "examples" / "insert.mlir"
BUILD = pathlib.Path(os.environ["KV_BUILD_DIR"])


def run(*command):
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def cached(name):
    """A setting of our build, for the other project: the same tools."""
    cache = (BUILD / "CMakeCache.txt").read_text()
    found = re.search(rf"^{name}:\w+=(.*)$", cache, re.M)
    return f"-D{name}={found[1] if found else ''}"


with tempfile.TemporaryDirectory() as folder:
    prefix, build = pathlib.Path(folder, "prefix"), pathlib.Path(folder, "build")
    run("cmake", "--install", BUILD, "--prefix", prefix)

    names = {path.name for path in (prefix / "bin").iterdir()}
    assert names == {"kv-compile", "kv-lsp-server", "kv-opt", "kv-run"}, names
    by_tool = run(
        prefix / "bin" / "kv-opt", PROGRAM, "--kvcache-bufferize", "--kvcache-to-cpu"
    )
    # The package can be moved: it names no file of the source or the build.
    for path in prefix.rglob("*.cmake"):
        text = path.read_text()
        for place in (str(BUILD), str(HERE.parents[1]), str(prefix)):
            assert place not in text, f"{path} names {place}"

    run(
        *["cmake", "-G", "Ninja", "-S", HERE / "Inputs" / "consumer", "-B", build],
        *[f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_BUILD_TYPE=Release"],
        *map(cached, ["CMAKE_C_COMPILER", "CMAKE_CXX_COMPILER"]),
        cached("CMAKE_EXE_LINKER_FLAGS"),
    )
    run("cmake", "--build", build)
    by_project = run(build / "consumer", PROGRAM)
    assert by_project.strip() == by_tool.strip(), by_project
