# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""A function of a program may have the name of anything in the process: it is
called, and what had the name before is as well."""

import subprocess

import numpy as np
from kvtest import Guarded, Tensor, compile_library

NAMES = ["main", "malloc", "free", "write", "memset", "memcpy", "memmove",
         "dlopen", "snprintf", "fork", "f", "kv1_f", "kv1_kv1_f",
         "__tvm_ffi_f", "kv1_f_workspace", "run", "program", "_init", "_fini",
         "__tls_get_addr", "last_error", "for"]

# A fill and a copy are calls of memset and memcpy, and a large number of
# elements is a loop on several threads.
PROGRAM = "".join(f"""
memref.global "private" constant @data{i} : memref<4xi64> =
  dense<[{i}, {i + 1}, 7, 9]>
func.func @{name}(%x: memref<?xi64>, %y: memref<?xi64>) {{
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0 : i64
  %table = memref.get_global @data{i} : memref<4xi64>
  %number = memref.load %table[%c0] : memref<4xi64>
  linalg.fill ins(%zero : i64) outs(%x : memref<?xi64>)
  memref.store %number, %x[%c0] : memref<?xi64>
  memref.copy %x, %y : memref<?xi64> to memref<?xi64>
  return
}}
""" for i, name in enumerate(NAMES))
# Globals are of the program as well.
PROGRAM += "".join(f"""
memref.global "private" @{name} : memref<2xi64> = dense<{i}>
func.func @of_{name}(%x: memref<2xi64>) {{
  %g = memref.get_global @{name} : memref<2xi64>
  memref.copy %g, %x : memref<2xi64> to memref<2xi64>
  return
}}
""" for i, name in enumerate(["environ", "stdout", "vsnprintf", "dlsym"]))

library = compile_library(PROGRAM, "names")
for i, name in enumerate(NAMES):
    x, y = (Guarded(np.full(40, 3, np.int64)) for _ in range(2))
    library.run(name, *(Tensor(b.inside, "i64", [40]) for b in (x, y)))
    for buffer in (x, y):
        buffer.check(name)
        assert buffer.inside[0] == i and not buffer.inside[1:].any(), name
for i, name in enumerate(["environ", "stdout", "vsnprintf", "dlsym"]):
    x = Guarded(np.full(2, 3, np.int64))
    library.run("of_" + name, Tensor(x.inside, "i64", [2]))
    assert list(x.inside) == [i, i], name

shown = subprocess.run(["llvm-nm", "-D", "--defined-only", str(library.path)],
                       text=True, capture_output=True, check=True).stdout
shown = {line.split()[-1] for line in shown.splitlines()}
functions = NAMES + ["of_" + n for n in ("environ", "stdout", "vsnprintf",
                                         "dlsym")]
expected = {f"kv1_names_{n}" for n in ("check", "last_error", "manifest",
                                       "set_parallel_for", "set_thread_count")}
for name in functions:
    expected |= {f"kv1_{name}", f"kv1_{name}_workspace_size",
                 f"kv1args_{name}", f"kv1args_{name}_workspace_size",
                 f"__tvm_ffi_{name}"}
assert shown == expected, shown ^ expected
print(f"{len(functions)} names")
