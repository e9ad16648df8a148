# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""What kv-compile writes is there whole or not at all: the library, its header
and its manifest change together, an error names the path, and what a killed
process leaves is removed by the next one."""

import ctypes
import os
import random
import resource
import signal
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAM = """
func.func @f(%x: memref<?xf32>, %v: f32) {{
  %c0 = arith.constant {number} : index
  memref.store %v, %x[%c0] : memref<?xf32>
  return
}}
"""
EXTENSIONS = ("so", "h", "json")


def compile_to(path, number=0, *flags, name="f", **options):
    program = PROGRAM.format(number=number).replace("@f", "@" + name)
    return subprocess.run(["kv-compile", "-", "-o", str(path), *flags],
                          input=program, text=True, capture_output=True,
                          **options)


def files(folder):
    return sorted(p.name for p in folder.iterdir())


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def belongs_together(folder, name="libx"):
    """The library can be loaded, and the files beside it are those of it."""
    library = ctypes.CDLL(str(folder / f"{name}.so"))
    get = library.kv1_x_manifest
    get.restype = ctypes.c_char_p
    manifest = get().decode()
    assert manifest == (folder / f"{name}.json").read_text()
    header = (folder / f"{name}.h").read_text()
    for function in ("f", "other"):
        assert (f"kv1_{function}(" in header) == (f"kv1_{function}\"" in
                                                  manifest), header


def test_plain(folder):
    path = folder / "libx.so"
    assert compile_to(path).returncode == 0
    assert files(folder) == ["libx.h", "libx.json", "libx.so"]
    assert os.access(path, os.X_OK)
    belongs_together(folder)
    result = compile_to(path, name="other")
    assert result.returncode == 0, result.stderr
    assert files(folder) == ["libx.h", "libx.json", "libx.so"]
    assert b"kv1_other" in path.read_bytes()


def test_refused(folder):
    """Each of the three cannot be put in its place: all stay as they were."""
    path = folder / "libx.so"
    for taken in EXTENSIONS:
        for fresh in (True, False):
            for p in folder.iterdir():
                p.rmdir() if p.is_dir() else p.unlink()
            if not fresh:
                assert compile_to(path).returncode == 0
            place = folder / f"libx.{taken}"
            place.unlink(missing_ok=True)
            place.mkdir()
            (place / "kept").write_text("mine")
            before = {p.name: p.read_bytes() for p in folder.iterdir()
                      if p.is_file()}
            result = compile_to(path, name="other")
            assert result.returncode == 1, result.stderr
            assert f"cannot write '{place}': " in result.stderr, result.stderr
            assert {p.name: p.read_bytes() for p in folder.iterdir()
                    if p.is_file()} == before, (taken, fresh)
            assert (place / "kept").read_text() == "mine"
            assert len(files(folder)) == len(before) + 1, files(folder)
            (place / "kept").unlink()


def test_program_is_wrong(folder):
    path = folder / "libx.so"
    assert compile_to(path).returncode == 0
    before = contents(folder)
    program = PROGRAM.format(number=0).replace(
        "return", "vector.print %v : f32\n  return")
    result = subprocess.run(["kv-compile", "-", "-o", str(path)],
                            input=program, text=True, capture_output=True)
    assert result.returncode == 1 and "vector.print" in result.stderr
    assert contents(folder) == before


def test_full_disk(folder):
    """Wherever the writing stops, the path is named and nothing has changed."""
    path = folder / "libx.so"
    assert compile_to(path).returncode == 0
    before = contents(folder)
    size = path.stat().st_size
    for limit in (0, 100, 1000, 4096, size // 2, size - 1):
        def lower():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        result = compile_to(path, 1, preexec_fn=lower)
        assert result.returncode == 1, (limit, result.returncode)
        assert str(folder / "libx.") in result.stderr, result.stderr
        assert "Stack dump" not in result.stderr, result.stderr
        assert contents(folder) == before, limit
    for emit in ("header", "manifest", "mlir", "llvm", "obj"):
        result = compile_to("/dev/full", 0, f"--emit={emit}")
        assert result.returncode == 1, emit
        assert ("cannot write '/dev/full': No space left on device" in
                result.stderr), result.stderr
    with open("/dev/full", "w") as full:
        result = subprocess.run(["kv-compile", "-", "--emit=header"],
                                input=PROGRAM.format(number=0), text=True,
                                stdout=full, stderr=subprocess.PIPE)
    assert result.returncode == 1
    assert "cannot write '-': No space left on device" in result.stderr


def test_places(folder):
    result = compile_to(folder / "none" / "libx.so")
    assert result.returncode == 1
    assert (f"cannot write '{folder}/none/libx.so': No such file or directory"
            in result.stderr), result.stderr
    # A library does not take the place of what is no file.
    os.mkfifo(folder / "pipe")
    result = compile_to(folder / "pipe")
    assert result.returncode == 1
    assert (f"cannot write '{folder}/pipe': expected a file or nothing there, "
            "got a device, a pipe or a socket" in result.stderr), result.stderr
    assert files(folder) == ["pipe"] and (folder / "pipe").is_fifo()
    (folder / "pipe").unlink()
    # A path without a folder, and single files.
    assert compile_to("libx.so", cwd=folder).returncode == 0
    for emit, name in (("header", "a.h"), ("obj", "a.o"), ("llvm", "a.ll")):
        assert compile_to(folder / name, 0, f"--emit={emit}").returncode == 0
    assert files(folder) == ["a.h", "a.ll", "a.o", "libx.h", "libx.json",
                             "libx.so"]


def test_killed(folder):
    """At random moments, and the end of it. What is left is hidden, and gone
    after the next run; a library that is there is one that can be used."""
    path = folder / "libx.so"
    assert compile_to(path).returncode == 0
    start = time.monotonic()
    assert compile_to(path, 1).returncode == 0
    whole = time.monotonic() - start
    rng = random.Random(5)
    program = PROGRAM.format(number=2)
    left = 0
    for i in range(30):
        process = subprocess.Popen(["kv-compile", "-", "-o", str(path)],
                                   stdin=subprocess.PIPE, text=True,
                                   stderr=subprocess.PIPE)
        process.stdin.write(program)
        process.stdin.close()
        time.sleep(rng.uniform(0, 1.2 * whole))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
        names = files(folder)
        visible = [n for n in names if not n.startswith(".")]
        assert visible == ["libx.h", "libx.json", "libx.so"], names
        left += len(names) > 3
        belongs_together(folder)
    # A linker that outlives its parent ends by itself.
    for _ in range(50):
        assert compile_to(path, 3).returncode == 0
        if len(files(folder)) == 3:
            break
        time.sleep(0.1)
    assert files(folder) == ["libx.h", "libx.json", "libx.so"], files(folder)
    belongs_together(folder)
    return left


def test_at_once(folder):
    """Several processes that write one library: it is one of theirs."""
    path = folder / "libx.so"
    running = [subprocess.Popen(["kv-compile", "-", "-o", str(path)],
                                stdin=subprocess.PIPE, text=True)
               for _ in range(6)]
    for process in running:
        process.stdin.write(PROGRAM.format(number=0))
        process.stdin.close()
    assert [p.wait() for p in running] == [0] * 6
    assert files(folder) == ["libx.h", "libx.json", "libx.so"]
    belongs_together(folder)


tests = [value for name, value in list(globals().items())
         if name.startswith("test_")]
for test in tests:
    with tempfile.TemporaryDirectory(prefix="kv outputs ") as folder:
        test(Path(folder))
print(f"{len(tests)} groups of checks")
