# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""What a library needs, what it shows, and that loading it runs no code."""

import ctypes
import json
import re
import subprocess

from kvtest import compile_library

CACHE = "!kvcache.cache<2S x ?B x 16N x 2H x 64D x bf16>"
SLOTS = "!kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>"
ROWS = "tensor<?x2x64xbf16>"
ARGUMENTS = f"%slots: tensor<?xi64>, %key: {ROWS}, %value: {ROWS}"
BODY = f"""
  %where = kvcache.make_slots %slots : tensor<?xi64> to {SLOTS}
  kvcache.index_copy %key, %value into %pool at %where
    : {ROWS}, {ROWS} into {CACHE} at {SLOTS}
"""
# Views of bytes and private functions call into the run time, or are called.
PROGRAM = f"""
func.func @insert(%pool: {CACHE}, {ARGUMENTS}) {{
{BODY}
  return
}}
func.func @from_bytes(%bytes: memref<?xi8>, %n: index, {ARGUMENTS}) {{
  %pool = kvcache.view %bytes extents(B = %n) : memref<?xi8> to {CACHE}
{BODY}
  return
}}
func.func private @helper(%x: index) -> index {{
  %y = arith.addi %x, %x : index
  return %y : index
}}
"""
# Buffers in the workspace, copies and constants: on a CPU only.
CPU_PROGRAM = PROGRAM + f"""
memref.global @table : memref<4xi64> = dense<[3, 1, 4, 1]>
func.func @late(%pool: {CACHE}, {ARGUMENTS}, %i: index) {{
  %table = memref.get_global @table : memref<4xi64>
  %new = memref.load %table[%i] : memref<4xi64>
{BODY}
  %changed = tensor.insert %new into %slots[%i] : tensor<?xi64>
  %now = kvcache.make_slots %changed : tensor<?xi64> to {SLOTS}
  kvcache.index_copy %key, %value into %pool at %now
    : {ROWS}, {ROWS} into {CACHE} at {SLOTS}
  kvcache.index_copy %key, %value into %pool at %where
    : {ROWS}, {ROWS} into {CACHE} at {SLOTS}
  return
}}
"""
# Products, functions and narrow floats: no mathematical library, no libgcc.
CPU_PROGRAM += """
func.func @compute(%x: memref<?x64xbf16>, %w: memref<64x48xbf16>,
                   %y: memref<?x48xf32>, %z: memref<?x48xbf16>) {
  linalg.matmul ins(%x, %w : memref<?x64xbf16>, memref<64x48xbf16>)
                outs(%y : memref<?x48xf32>)
  linalg.generic {indexing_maps = [affine_map<(t, d) -> (t, d)>,
                                   affine_map<(t, d) -> (t, d)>],
      iterator_types = ["parallel", "parallel"]}
      ins(%y : memref<?x48xf32>) outs(%z : memref<?x48xbf16>) {
    ^bb0(%a: f32, %o: bf16):
      %b = math.exp %a : f32
      %c = math.sin %b : f32
      %d = math.log %c : f32
      %e = math.tanh %d : f32
      %f = math.erf %e : f32
      %g = math.floor %f : f32
      %h = math.rsqrt %g : f32
      %r = arith.truncf %h : f32 to bf16
      linalg.yield %r : bf16
  }
  return
}
"""

PARALLEL_PROGRAM = """
func.func @fill(%x: memref<?xf32>, %value: f32) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %n = memref.dim %x, %c0 : memref<?xf32>
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    memref.store %value, %x[%i] : memref<?xf32>
  }
  return
}
"""

# Everything comes from the C library. Longer is worse: think twice.
NEEDED = {"__tls_get_addr", "dlopen", "dlsym", "memcpy", "memset",
          "pthread_mutex_lock", "pthread_mutex_unlock", "snprintf",
          "vsnprintf"}
# The pool of threads comes with parallel loops only: most operations have one
# on a CPU.
NEEDED_BY_LOOPS = {"__register_atfork", "getenv", "pthread_create",
                   "pthread_detach", "pthread_sigmask", "sched_getaffinity",
                   "syscall"}


def run(*command):
    return subprocess.run(command, text=True, capture_output=True,
                          check=True).stdout


def check(name, target, program, functions, *flags, allowed=NEEDED):
    library = compile_library(program, name, target, *flags)
    path = str(library.path)
    needed, shown = set(), set()
    for line in run("llvm-readelf", "--dyn-syms", "-W", path).splitlines():
        fields = line.split()
        if len(fields) < 8 or not fields[0].rstrip(":").isdigit():
            continue
        binding, index, symbol = fields[4], fields[6], fields[7]
        if binding == "LOCAL":
            continue
        (needed if index == "UND" else shown).add(symbol)
    assert needed <= allowed, f"{name}: {needed - allowed}"
    expected = {f"kv1_{name}_check", f"kv1_{name}_last_error",
                f"kv1_{name}_manifest", f"kv1_{name}_set_parallel_for",
                f"kv1_{name}_set_thread_count"}
    for function in functions:
        expected |= {f"kv1_{function}", f"kv1_{function}_workspace_size",
                     f"kv1args_{function}", f"kv1args_{function}_workspace_size",
                     f"__tvm_ffi_{function}"}
    assert shown == expected, f"{name}: {shown ^ expected}"

    # No code runs when it is loaded, and no other library is asked for.
    sections = run("llvm-readelf", "-S", "-W", path)
    for section in (".init", ".init_array", ".preinit_array", ".ctors"):
        assert not re.search(rf"\s{re.escape(section)}\s", sections), section
    dynamic = run("llvm-readelf", "-d", "-W", path)
    assert "(SYMTAB)" in dynamic
    for tag in ("(INIT)", "(INIT_ARRAY)", "(PREINIT_ARRAY)", "(TEXTREL)",
                "(NEEDED)"):
        assert tag not in dynamic, tag
    assert ("NODELETE" in dynamic) == ("pthread_create" in needed), dynamic

    # Entry functions run before the CPU is checked: any x86-64 runs them.
    entries = [s for s in shown if not s.endswith("workspace_size")]
    code = run("llvm-objdump", "-d", "--no-show-raw-insn",
               "--disassemble-symbols=" + ",".join(entries), path)
    instructions = re.findall(r"^\s+[0-9a-f]+:\s+(\S+)", code, re.M)
    assert len(instructions) > 20
    wide = [i for i in instructions if i.startswith("v")]
    assert not wide, f"{name}: {wide}"

    # The manifest inside is the one beside.
    get = getattr(library.handle, f"kv1_{name}_manifest")
    get.restype = ctypes.c_char_p
    inside = get().decode()
    assert inside == library.path.with_suffix(".json").read_text()
    manifest = json.loads(inside)
    assert manifest["target"] == target
    assert {f["symbol"] for f in manifest["functions"]} == {
        f"kv1_{f}" for f in functions}
    return needed


needed = check("cpu", "cpu", CPU_PROGRAM, ["insert", "from_bytes", "late", "compute"],
               allowed=NEEDED | NEEDED_BY_LOOPS)
needed |= check("wide", "cpu", CPU_PROGRAM, ["insert", "from_bytes", "late", "compute"],
                "--cpu=x86-64-v4", allowed=NEEDED | NEEDED_BY_LOOPS)
# Without fused multiply-add and rounding instructions.
needed |= check("base", "cpu", CPU_PROGRAM,
                ["insert", "from_bytes", "late", "compute"], "--cpu=x86-64",
                allowed=NEEDED | NEEDED_BY_LOOPS)
needed |= check("gpu", "sm_90a", PROGRAM, ["insert", "from_bytes"],
                "--gpu-image=ptx")
assert needed >= NEEDED, f"the list is too long: {NEEDED - needed}"
loops = check("loops", "cpu", PARALLEL_PROGRAM, ["fill"],
              allowed=NEEDED | NEEDED_BY_LOOPS)
assert loops >= NEEDED_BY_LOOPS, f"too long: {NEEDED_BY_LOOPS - loops}"
# What a variant says of itself: only where there are variants.
NEEDED_BY_TRACE = {"getenv", "write"}
STRIDED = PROGRAM.replace("x bf16>", "x bf16, strides = [B = ?]>").replace(
    "extents(B = %n)", "extents(B = %n) strides(B = %n)")
check("traced", "sm_90a", STRIDED, ["insert", "from_bytes"], "--gpu-image=ptx",
      allowed=NEEDED | NEEDED_BY_TRACE)
print("symbols are as listed")
