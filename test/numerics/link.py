# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""What the linker makes of objects: symbols, segments, frames, thread storage.

That libraries work is what all other tests show.
"""

import re
import subprocess
import threading

import numpy as np
from kvtest import OK, SHAPE, Tensor, aligned, compile_library

# Enough names for collisions in the table of symbols.
COUNT = 300
PROGRAM = "".join(f"""
func.func @f{i}(%x: memref<4xi64>) {{
  %value = arith.constant {i} : i64
  %zero = arith.constant 0 : index
  memref.store %value, %x[%zero] : memref<4xi64>
  return
}}
""" for i in range(COUNT)) + """
memref.global "private" constant @table : memref<4xi64> = dense<[7, 8, 9, 10]>
memref.global "private" @zeros : memref<1000xf32> = dense<0.0>
func.func @read(%x: memref<4xi64>, %i: index) {
  %table = memref.get_global @table : memref<4xi64>
  memref.copy %table, %x : memref<4xi64> to memref<4xi64>
  return
}
func.func @count(%x: memref<1xf32>) {
  %zero = arith.constant 0 : index
  %one = arith.constant 1.0 : f32
  %last = arith.constant 999 : index
  %zeros = memref.get_global @zeros : memref<1000xf32>
  %was = memref.load %zeros[%last] : memref<1000xf32>
  %now = arith.addf %was, %one : f32
  memref.store %now, %zeros[%last] : memref<1000xf32>
  memref.store %now, %x[%zero] : memref<1xf32>
  return
}
"""

library = compile_library(PROGRAM, "many")
numbers = aligned(4, np.int64)
tensor = Tensor(numbers, "i64", (4,))
for i in range(COUNT):
    assert library.call(f"f{i}", tensor) == OK, library.last_error()
    assert numbers[0] == i
    assert not hasattr(library.handle, f"kv1_g{i}")
assert library.call("read", tensor, 0) == OK
assert numbers.tolist() == [7, 8, 9, 10]
# Zeros have no bytes in the file, and are written.
one = aligned(1, np.float32)
for expected in (1, 2, 3):
    assert library.call("count", Tensor(one, "f32", (1,))) == OK
    assert one[0] == expected

# The last error is of a thread.
short = Tensor(numbers, "i64", (3,))
assert library.call("f0", short) == SHAPE
found = []
thread = threading.Thread(target=lambda: found.append(library.last_error()))
thread.start()
thread.join()
assert found == [""] and "expected an extent of 4" in library.last_error()


def run(*command):
    return subprocess.run([*command, library.path], text=True, check=True,
                          capture_output=True).stdout


# Nothing is both written and executed, and what is relocated is read-only
# afterwards.
segments = run("llvm-readelf", "-lW")
loaded = re.findall(r"^  LOAD .* (R  |RW |R E|RWE|RW) 0x1000$", segments, re.M)
assert [flags.strip() for flags in loaded] == ["R", "R E", "RW", "RW"], segments
for segment in ("GNU_RELRO", "GNU_STACK", "TLS", "NOTE"):
    assert re.search(rf"^  {segment} ", segments, re.M), segments
assert re.search(r"GNU_STACK .* RW ", segments), segments
assert "BIND_NOW" in run("llvm-readelf", "-dW")

# Debuggers and profilers: functions have frames and names.
symbols = dict(re.findall(r": ([0-9a-f]+) .* FUNC .* ([\w.]+)$",
                          run("llvm-readelf", "-sW"), re.M)[::-1])
symbols = {name: int(value, 16) for value, name in symbols.items()}
frames = {int(start, 16) for start in
          re.findall(r" FDE cie=\w+ pc=([0-9a-f]+)\.\.\.",
                     run("llvm-dwarfdump", "--eh-frame"))}
for name in ("kv1_f7", "kv1_many_check", "kvrt_prepare", "__tvm_ffi_count"):
    assert symbols[name] in frames, name

# The same program is the same library, byte for byte.
before = library.path.read_bytes()
assert compile_library(PROGRAM, "many").path.read_bytes() == before
