# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# The lit suite of all tests that begin with RUN lines. The unit tests are a
# suite of their own, because GoogleTest executables are found in the build
# folder: test/unit/lit.site.cfg.py.in.

import ctypes
import os
import shutil
import subprocess
import tempfile

import lit.formats

if not hasattr(config, "kvcache_build_dir"):
    lit_config.fatal("run the tests with ./dev test, or lit on build/test")

source = config.kvcache_source_dir
build = config.kvcache_build_dir
tests = os.path.join(source, "test")

config.name = "KVCache"
config.test_format = lit.formats.ShTest(execute_external=False)
config.test_source_root = tests
config.test_exec_root = os.path.join(build, "test")
config.suffixes = [".mlir"]
# Given as a parameter, not by --timeout, which makes lit print a note per run.
lit_config.maxIndividualTestTime = int(lit_config.params.get("timeout", 0))
# test/gpu runs only from the bundle that ./dev gpu-bundle makes.
config.excludes = ["Inputs", "CMakeLists.txt", "lit.cfg.py", "gpu", "unit"]
if config.sanitizers:
    # Programs without sanitizers cannot load or link what has them; and the
    # memory that mutants may have is less than what AddressSanitizer reserves.
    config.excludes += ["plugin.mlir", "functional-host.mlir", "install.py"]
    config.excludes += ["Mutation", "CAPI", "Python"]
    # What it promises is the time of the compiler that users have.
    config.excludes += ["compile-time.py"]


def find_ptxas():
    on_path = shutil.which("ptxas")
    toolkit = "/usr/local/cuda/bin/ptxas"
    return on_path or (toolkit if os.access(toolkit, os.X_OK) else None)


def has_gpu():
    """Whether the driver works here, not merely whether it is installed."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return (
        cuda.cuInit(0) == 0
        and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
        and count.value > 0
    )


def has_tiles():
    """Whether the CPU has AMX for bf16, and Linux lets a process use it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = file.read().split()
        request = ctypes.CDLL(None).syscall
    except (OSError, AttributeError):
        return False
    arch_prctl, permission, tile_data = 158, 0x1023, 18
    return ("amx_bf16" in flags and "avx512_bf16" in flags
            and request(arch_prctl, permission, tile_data) == 0)


def find_sanitizer(name):
    """A C compiler whose programs run with a sanitizer: its run time is a
    package of its own, and some kernels place memory where it cannot work."""
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "empty")
        for compiler in (config.c_compiler, "gcc"):
            try:
                subprocess.run(
                    [compiler, "-fsanitize=" + name, "-xc", "-", "-o", program],
                    input=b"int main(void) { return 0; }",
                    capture_output=True, check=True)
                subprocess.run([program], capture_output=True, check=True)
            except (OSError, subprocess.CalledProcessError):
                continue
            return compiler
    return None


def find_python(python, *packages):
    """A Python that has some packages: that of the tests, or one that is named by
    --param PACKAGE=PYTHON, after the first. They are not installed: they are
    larger than all else."""
    python = lit_config.params.get(packages[0], python)
    find = ("import importlib.util as u; "
            f"exit(any(u.find_spec(name) is None for name in {packages}))")
    try:
        found = subprocess.run([python, "-c", find], capture_output=True)
    except OSError:
        return None
    return python if found.returncode == 0 else None


# Ours first: `mlir-opt` and the like on the caller's PATH may be another LLVM.
path = [os.path.join(build, "bin"), config.llvm_tools_dir]

ptxas = find_ptxas()
if ptxas:
    config.available_features.add("ptxas")
    path.append(os.path.dirname(ptxas))
if has_gpu():
    config.available_features.add("gpu")
if has_tiles():
    config.available_features.add("amx")
thread_sanitizer = find_sanitizer("thread")
if thread_sanitizer:
    config.available_features.add("tsan")
address_sanitizer = find_sanitizer("address,undefined")
if address_sanitizer:
    config.available_features.add("asan")

python = os.path.join(build, "venv", "bin", "python")
torch_python = find_python(python, "torch")
if torch_python:
    config.available_features.add("torch")
transformers_python = find_python(python, "transformers", "torch")
if transformers_python:
    config.available_features.add("transformers")
jax_python = find_python(python, "jax", "jax_tvm_ffi")
if jax_python:
    config.available_features.add("jax")
vllm_python = find_python(python, "vllm")
if vllm_python:
    config.available_features.add("vllm")

path.append(os.environ["PATH"])
config.environment["PATH"] = os.pathsep.join(path)
config.environment["PYTHONPATH"] = os.path.join(tests, "numerics")
# The source tree stays as it is.
config.environment["PYTHONDONTWRITEBYTECODE"] = "1"
config.environment["KV_BUILD_DIR"] = build
for name in ("CUDA_VISIBLE_DEVICES", "CUDA_HOME"):
    if name in os.environ:
        config.environment[name] = os.environ[name]


def tool(name):
    return os.path.join(config.llvm_tools_dir, name)


# kv-opt, kv-compile, kv-run, FileCheck, not, split-file, llvm-nm and
# llvm-readelf are found by the PATH above and need no substitution.
config.substitutions += [
    ("%mlir_opt", tool("mlir-opt")),
    ("%python", python),
    ("%torch_python", torch_python or "torch-is-missing"),
    ("%transformers_python", transformers_python or "transformers-is-missing"),
    ("%jax_python", jax_python or "jax-is-missing"),
    ("%vllm_python", vllm_python or "vllm-is-missing"),
    ("%plugin", os.path.join(build, "lib", "KVCachePlugin.so")),
    ("%cc", config.c_compiler),
    ("%tsan_cc", thread_sanitizer or "tsan-is-missing"),
    ("%asan_cc", address_sanitizer or "asan-is-missing"),
    # How often test/Runtime does what has to go right each time.
    ("%rounds", lit_config.params.get("rounds", "50")),
    ("%kvcache_src", source),
    ("%kvcache_build", build),
]
