# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Makes the Python package and its wheel from what the build has made.

package.py stage --version V --compiler LIBRARY FOLDER
    FOLDER becomes the package `kvcache`; the extension is there already
package.py wheel --version V --out FOLDER --objdump TOOL PACKAGE
    a wheel of that package
"""

import argparse
import base64
import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parent
ROOT = SOURCE.parent
COMPILER = "libkvcache.so"
EXTENSION = "_calls.abi3.so"


def stage(folder, version, compiler):
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.py"):
        old.unlink()
    for path in (SOURCE / "kvcache").iterdir():
        if path.suffix in (".py", ".pyi") or path.name == "py.typed":
            shutil.copyfile(path, folder / path.name)
    link = folder / COMPILER
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(compiler, folder))
    # Compiled libraries are kept by it: another compiler makes other ones.
    build = hashlib.sha256(compiler.read_bytes()).hexdigest()[:16]
    orders = read_orders(compiler)
    (folder / "_version.py").write_text(
        '"""Written by the build."""\n\n'
        f'__version__ = "{version}"\nBUILD = "{build}"\n\n'
        "# The orders of pools that have a name.\nORDERS = {\n"
        + "".join(f'    "{name}": "{axes}",\n' for name, axes in orders) + "}\n\n"
        "# The formats of elements: what arrays call them, the type code of\n"
        "# DLPack, and bytes.\nFORMATS = {\n"
        + "".join(f'    "{name}": ("{dtype}", {code}, {int(bits) // 8}),\n'
                  for name, dtype, code, bits in read_formats(compiler)) + "}\n")


def read_orders(compiler):
    """The named orders of pools with keys and values side by side, and their
    axes."""
    library = ctypes.CDLL(str(compiler))
    library.kvcOrders.restype = ctypes.c_char_p
    orders = []
    for line in library.kvcOrders().decode().splitlines():
        name, *axes = line.split()
        if set(axes) in (set("SBNHD"), set("LSBNHD")):
            orders.append((name, "".join(axes)))
    return orders


def read_formats(compiler):
    library = ctypes.CDLL(str(compiler))
    library.kvcFormats.restype = ctypes.c_char_p
    return [line.split()
            for line in library.kvcFormats().decode().splitlines()]


def run(*command):
    return subprocess.run(list(map(str, command)), check=True, text=True,
                          capture_output=True).stdout


def glibc_needed(objdump, *libraries):
    """The oldest version of the C library that has all symbols."""
    needed = (2, 17)
    for path in libraries:
        symbols = run(objdump, "-T", path)
        for found in re.findall(r"\(?GLIBC_(\d+)\.(\d+)[.)\d]*", symbols):
            needed = max(needed, tuple(map(int, found)))
    return needed


def check_dependencies(objdump, *libraries):
    """A bare machine has these libraries and no others."""
    allowed = {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2"}
    for path in libraries:
        headers = run(objdump, "-p", path)
        needed = set(re.findall(r"NEEDED\s+(\S+)", headers))
        if not needed <= allowed:
            sys.exit(f"{path}: no machine is known to have "
                     f"{', '.join(sorted(needed - allowed))}")


def metadata(version):
    readme = (ROOT / "README.md").read_text()
    return "\n".join([
        "Metadata-Version: 2.1", "Name: kvcache", f"Version: {version}",
        "Summary: A compiler for programs on paged KV caches",
        "License: Apache-2.0 WITH LLVM-exception",
        "Requires-Python: >=3.10", "Provides-Extra: bf16",
        "Requires-Dist: ml_dtypes; extra == 'bf16'", "Provides-Extra: jax",
        "Requires-Dist: jax; extra == 'jax'",
        "Requires-Dist: jax-tvm-ffi; extra == 'jax'",
        "Description-Content-Type: text/markdown", "", readme])


# vLLM calls what it finds under this name in each of its processes.
ENTRY_POINTS = """\
[console_scripts]
kv-layout = kvcache.kv_layout:main
[vllm.general_plugins]
kvcache = kvcache.vllm:register
"""


def wheel(package, version, out, objdump):
    libraries = [package / COMPILER, package / EXTENSION]
    check_dependencies(objdump, *libraries)
    major, minor = glibc_needed(objdump, *libraries)
    tag = f"cp310-abi3-manylinux_{major}_{minor}_x86_64"
    info = f"kvcache-{version}.dist-info"
    files = {f"kvcache/{path.name}": path.read_bytes()
             for path in sorted(package.iterdir()) if path.is_file()}
    files[f"{info}/METADATA"] = metadata(version).encode()
    files[f"{info}/WHEEL"] = (
        "Wheel-Version: 1.0\nGenerator: kvcache\nRoot-Is-Purelib: false\n"
        f"Tag: {tag}\n").encode()
    files[f"{info}/entry_points.txt"] = ENTRY_POINTS.encode()
    files[f"{info}/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    record = ""
    for name, contents in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(contents).digest())
        record += f"{name},sha256={digest.decode().rstrip('=')},{len(contents)}\n"
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()

    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("kvcache-*.whl"):
        old.unlink()
    path = out / f"kvcache-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, contents in files.items():
            # The same bytes each time: no time of this build.
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if name.endswith(".so") else 0o644) << 16
            archive.writestr(entry, contents)
    return path


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("stage")
    one.add_argument("--compiler", type=Path, required=True)
    two = commands.add_parser("wheel")
    two.add_argument("--out", type=Path, required=True)
    two.add_argument("--objdump", type=Path, required=True)
    for command in (one, two):
        command.add_argument("--version", required=True)
        command.add_argument("package", type=Path)
    given = parser.parse_args()
    if given.command == "stage":
        stage(given.package, given.version, given.compiler)
    else:
        wheel(given.package, given.version, given.out, given.objdump)


main()
