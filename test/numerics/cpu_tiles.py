# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Code with tiles (AMX) where there are none, and in a process that Linux does
not let use them: the call fails, and works once the process may.
"""

import ctypes
import platform

import numpy as np
from kvtest import CPU, OK, Tensor, aligned, compile_library

ROWS = 32
PROGRAM = f"""
!kv = !kvcache.cache<2S x 2B x 16N x 1H x 32D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!rows = memref<?x1x32xbf16>
func.func @attend(%q: !rows, %c: !kv, %b: !batch, %out: !rows) {{
  kvcache.attention %q over %c in %b into %out causal
    : !rows over !kv in !batch into !rows
  return
}}"""
# No tiles: what else the CPU has is all that it needs.
PLAIN = """
func.func @copy(%from: memref<4xf32>, %to: memref<4xf32>) {
  memref.copy %from, %to : memref<4xf32> to memref<4xf32>
  return
}"""


class SignalStack(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("flags", ctypes.c_int),
                ("size", ctypes.c_size_t)]


def set_signal_stack(size):
    """A stack for signals of this thread; none if `size` is 0."""
    disable = 2
    memory = ctypes.create_string_buffer(max(size, 1))
    stack = SignalStack(ctypes.addressof(memory), 0 if size else disable, size)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.sigaltstack(ctypes.byref(stack), None) == 0, ctypes.get_errno()
    return memory


def tensor(element, shape, values=0):
    storage = aligned(int(np.prod(shape)),
                      np.int32 if element == "i32" else
                      np.float32 if element == "f32" else np.uint16)
    storage[:] = values
    return Tensor(storage, element, shape)


def main():
    if platform.machine() != "x86_64":
        return
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        flags = file.read().split()
    has_pairs = "avx512vl" in flags and "avx512_bf16" in flags
    has_tiles = has_pairs and "amx_bf16" in flags
    chip = "--cpu=x86-64-v4-amx"
    library = compile_library(PROGRAM, "tiles", "cpu", chip)
    plain = compile_library(PLAIN, "plain", "cpu", chip)
    arguments = [tensor("bf16", [ROWS, 1, 32]),
                 tensor("bf16", [2, 2, 16, 1, 32]),
                 tensor("i32", [2], [0, ROWS]), tensor("i32", [1], [ROWS]),
                 tensor("i32", [1, 2], [0, 1]), tensor("bf16", [ROWS, 1, 32])]
    lists = [tensor("f32", [4]), tensor("f32", [4])]
    # Linux refuses if a stack for signals has no room for tiles.
    memory = set_signal_stack(4096)
    if not has_tiles:
        library.expect_error(
            CPU, "compiled for x86-64-v4 with AVX512_BF16 and AMX_BF16, which "
            "this machine does not have", "attend", *arguments)
        assert library.workspace_size("attend", *arguments) == -1
        return
    library.expect_error(
        CPU, "compiled for x86-64-v4 with AMX_BF16, which the operating system "
        "does not let this process use", "attend", *arguments)
    assert plain.call("copy", *lists) == OK, plain.last_error()
    set_signal_stack(0)
    del memory
    library.run("attend", *arguments)


if __name__ == "__main__":
    main()
