# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Pack the fuzz targets for a Linux machine without LLVM: make_bundle.py BIN FOLDER

BIN has kv-fuzz. FOLDER gets `kv-fuzz.tar.xz` and `run`, which unpacks it and
runs all targets on all cores. The machine needs the C library of this one or a
newer one, Python 3.9 and xz.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
LLVM = pathlib.Path("/usr/lib/llvm-22/bin")
# Every machine has its own C library, and only that works there.
SYSTEM = re.compile(r"lib(c|m|dl|rt|pthread|resolv|util)\.so|ld-linux|linux-vdso")


def libraries(program):
    listed = subprocess.run(["ldd", program], capture_output=True, check=True)
    for line in listed.stdout.decode().splitlines():
        found = re.match(r"\s*(\S+) => (/\S+)", line)
        if found and not SYSTEM.match(found[1]):
            yield found[1], found[2]


def main(bin_dir, folder):
    with tempfile.TemporaryDirectory() as scratch:
        packed = pathlib.Path(scratch, "kv-fuzz")
        (packed / "lib").mkdir(parents=True)
        programs = [bin_dir / "kv-fuzz", LLVM / "llvm-symbolizer"]
        for program in programs:
            # Names of functions stay: findings are sorted by them.
            subprocess.run([LLVM / "llvm-strip", "--strip-debug",
                            program.resolve(), "-o", packed / program.name],
                           check=True)
            for name, path in libraries(program):
                shutil.copy(path, packed / "lib" / name)
        shutil.copy(bin_dir / "kv-fuzz-calls.so", packed)
        for name in "fuzzers.py", "upstream.txt":
            shutil.copy(HERE / name, packed)
        subprocess.run([sys.executable, "-B", HERE / "fuzzers.py", "--tool",
                        bin_dir / "kv-fuzz", "--work", packed, "--only-seeds"],
                       check=True)
        folder.mkdir(parents=True, exist_ok=True)
        archive = folder / "kv-fuzz.tar.xz"
        subprocess.run(["tar", "-C", scratch, "-cJf", archive, "kv-fuzz"],
                       check=True, env=dict(os.environ, XZ_OPT="-6 -T2"))
    shutil.copy(HERE / "run", folder)
    print(f"{archive}: {archive.stat().st_size / 2**20:.0f} MiB; {folder / 'run'}")


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
