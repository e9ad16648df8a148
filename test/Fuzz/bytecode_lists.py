# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# REQUIRES: kv-fuzz
# RUN: %python %s %t
"""A list of attributes or types that is shorter than its groups.

Upstream's reader writes past its end, into memory of whoever is next: kv-fuzz
does not give it such a file.
"""

import os
import pathlib
import subprocess
import sys

TOOLS = pathlib.Path(os.environ["KV_BUILD_DIR"], "bin")
ALIGNED = 0x80


def number(value):
    """One byte below 128, else nine."""
    if value < 128:
        return bytes([2 * value + 1])
    return b"\0" + value.to_bytes(8, "little")


def section(name, content):
    return bytes([name]) + number(len(content)) + content


def program(attributes, types, groups, before=b""):
    """Groups are numbers of entries, of one dialect."""
    offsets = b"".join(
        number(0) + number(entries) + number(0) * entries for entries in groups)
    return b"".join([
        b"ML\xefR", number(6), b"test\0", before,
        section(0, number(1) + number(8) + b"builtin\0"),
        section(1, number(1) + number(0) + number(0)),
        section(2, b""),
        section(3, number(attributes) + number(types) + offsets),
        section(4, number(0)), section(8, number(0)),
    ])


def run(tool, *arguments):
    done = subprocess.run([TOOLS / tool, *arguments], capture_output=True)
    assert done.returncode == 0, f"{arguments}: {done.stderr.decode()}"
    return done.stdout


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    # Its content, of no bytes, begins at byte 16.
    aligned = bytes([7 | ALIGNED]) + number(0) + number(16) + b"\xcb" * 3
    files = {
        "attributes": program(1, 0, [5000]),
        "types": program(0, 3, [2, 5000]),
        "second": program(300, 1, [300, 5000]),
        "after an aligned section": program(1, 0, [5000], aligned),
        "fits": program(2, 1, [1, 1, 1]),
    }
    for name, data in files.items():
        path = folder / name
        path.write_bytes(data)
        run("kv-fuzz", "bytecode", "-rss_limit_mb=0", path)
    # Else the reader would refuse all of them before it comes to the lists.
    assert b"module" in run("kv-opt", folder / "fits")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
