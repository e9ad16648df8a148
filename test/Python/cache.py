# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""The cache of compiled libraries: what finds it, and what cannot harm it."""

import os
import subprocess
import sys
from pathlib import Path

import kvcache
import numpy as np
from programs import (INSERT, check_insert, insert_arguments, raises,
                      use_new_cache)

folder = use_new_cache()
cache = Path(os.environ["KVCACHE_CACHE_DIR"])

# A start that compiles, or does not; the number of mappings of the compiler.
START = """
import sys
import kvcache
from programs import INSERT, check_insert, insert_arguments
import numpy as np
insert = kvcache.compile(INSERT).insert
memory, arguments = insert_arguments(np.random.default_rng(1))
insert(**arguments)
check_insert(memory, arguments)
print(sum("libkvcache.so" in line for line in open("/proc/self/maps")))
"""


def begin(**environment):
    return subprocess.Popen(
        [sys.executable, "-c", START], stdout=subprocess.PIPE, text=True,
        env={**os.environ, **environment,
             "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})


def compiles(**environment):
    process = begin(**environment)
    mappings, _ = process.communicate()
    assert process.returncode == 0
    return int(mappings) > 0


def libraries():
    return sorted(cache.glob("*.so"))


# Two processes at once, then one more: it does not even load the compiler.
processes = [begin(), begin()]
for process in processes:
    process.communicate()
    assert process.returncode == 0
assert len(libraries()) == 1, libraries()
assert [path.name for path in cache.iterdir()] == [libraries()[0].name]
assert not compiles()

# What was cut off, or is not a library, is compiled again.
whole = libraries()[0].read_bytes()
only = kvcache.compile(INSERT).path
for bad in (b"", whole[:100], b"#!/bin/sh\n"):
    Path(only).unlink(missing_ok=True)
    Path(only).write_bytes(bad)
    assert compiles(), bad
    assert Path(only).read_bytes() == whole
    assert not compiles()

# Another program, target, CPU or choice of checks is another library.
paths = {kvcache.compile(INSERT + "// more").path,
         kvcache.compile(INSERT, cpu="x86-64").path,
         kvcache.compile(INSERT, checks="full").path, only,
         kvcache.compile(INSERT, target="sm_90a").path}
assert len(paths) == 5 and len(libraries()) == 5, paths
before = {path: path.stat().st_mtime_ns for path in libraries()}
kvcache.compile(INSERT.encode(), checks="full")
assert before == {path: path.stat().st_mtime_ns for path in libraries()}


# A folder that cannot be written, and one that cannot be made. Root writes
# where permissions say no: a file in the place of the folder stops anyone.
memory, arguments = insert_arguments(np.random.default_rng(2))
blocker = Path(folder.name, "file")
blocker.write_text("")
for place in (blocker, blocker / "below", Path("/proc/nothing/here"),
              Path("/sys")):
    os.environ["KVCACHE_CACHE_DIR"] = str(place)
    memory[:] = 0
    kvcache.compile(INSERT).insert(**arguments)
    check_insert(memory, arguments)
assert blocker.read_text() == ""
# A folder in which nothing may be executed.
os.environ["KVCACHE_CACHE_DIR"] = str(Path(folder.name, "noexec"))
load = kvcache._library._open


def load_from_memory_alone(path, name):
    if path.startswith("/proc/self/fd/"):
        return load(path, name)
    raise OSError("failed to map segment from shared object")


kvcache._library._open = load_from_memory_alone
times = []
for _ in range(2):
    memory[:] = 0
    library = kvcache.compile(INSERT)
    library.insert(**arguments)
    check_insert(memory, arguments)
    times += [path.stat().st_mtime_ns
              for path in Path(folder.name, "noexec").iterdir()]
assert len(times) == 2 and times[0] == times[1], "it was compiled again"
other = kvcache.compile(INSERT.replace("@insert", "@other"))
assert list(other) == ["other"] and list(library) == ["insert"]
kvcache._library._open = load
# A cache that is only read serves what it has.
os.environ["KVCACHE_CACHE_DIR"] = str(cache)
os.chmod(cache, 0o500)
assert not compiles()
os.chmod(cache, 0o700)

# Without the variable: below the home of the user.
home = Path(folder.name, "home")
home.mkdir()
assert compiles(KVCACHE_CACHE_DIR="", XDG_CACHE_HOME="", HOME=str(home))
assert len(list((home / ".cache" / "kvcache").glob("*.so"))) == 1
assert (home / ".cache" / "kvcache").stat().st_mode & 0o77 == 0
assert compiles(KVCACHE_CACHE_DIR="", XDG_CACHE_HOME=str(home / "x"))
assert len(list((home / "x" / "kvcache").glob("*.so"))) == 1

# ---- Errors of the compiler, with the place in the program

text = raises(kvcache.CompileError, kvcache.compile, "func.func @f() {\n  x\n}")
assert text.startswith("program:2:3: error: "), text
path = Path(folder.name, "wrong.mlir")
path.write_text("func.func @f(%x: !kvcache.cache<2S x f32>) { return }")
text = raises(kvcache.CompileError, kvcache.compile, path)
assert text.startswith(f"{path}:1:"), text
assert raises(kvcache.CompileError, kvcache.compile, INSERT, target="sm_1") \
    .startswith("unknown target 'sm_1'; expected cpu, ")
assert raises(kvcache.CompileError, kvcache.compile, INSERT, cpu="i486x") \
    .endswith("unknown CPU 'i486x'")
assert raises(kvcache.CompileError, kvcache.compile, INSERT, checks="some") == (
    "unknown checks 'some'; expected none, on-request, full")
raises(FileNotFoundError, kvcache.compile, "no-such-program.mlir")
raises(kvcache.CompileError, kvcache.compile, b"\0" * 100)
raises(kvcache.CompileError, kvcache.compile, INSERT,
       output=Path(folder.name, "no", "folder", "lib.so"))
try:
    kvcache.compile(INSERT, target="cuda")
except RuntimeError as error:  # no GPU here
    assert "NVIDIA driver" in str(error) or "cuInit" in str(error), error
