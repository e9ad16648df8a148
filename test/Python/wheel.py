# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s %kvcache_src
"""The wheel in a fresh environment: NumPy, and no compiler on the PATH.

Nothing is downloaded: NumPy is that of the tests.
"""

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy

root = Path(sys.argv[1])
wheels = list(Path(os.environ["KV_BUILD_DIR"], "wheel").glob("*.whl"))
assert len(wheels) == 1, wheels
wheel = wheels[0]
megabytes = wheel.stat().st_size / 1e6
assert megabytes < 60, f"the wheel has {megabytes:.1f} MB"
version = re.search(r"project\(KVCache VERSION (\S+)",
                    (root / "CMakeLists.txt").read_text())[1]
assert re.fullmatch(rf"kvcache-{re.escape(version)}-cp310-abi3-"
                    r"manylinux_2_\d+_x86_64\.whl", wheel.name), wheel.name
with zipfile.ZipFile(wheel) as archive:
    names = archive.namelist()
    assert f"kvcache-{version}.dist-info/LICENSE" in names, names
    assert "kvcache/py.typed" in names, names
    entries = archive.read(f"kvcache-{version}.dist-info/entry_points.txt")
    assert entries.decode().split("\n") == [
        "[console_scripts]", "kv-layout = kvcache.kv_layout:main",
        "[vllm.general_plugins]", "kvcache = kvcache.vllm:register", ""], entries

# The examples of the pages, one after the other.
blocks = []
for page in ("README.md", "docs/python.md"):
    blocks += re.findall(r"```python\n(.*?)```", (root / page).read_text(), re.S)
examples = [block for block in blocks if "import kvcache" in block
            and "torch" not in block]
assert len(examples) >= 2, "the pages have no examples"

with tempfile.TemporaryDirectory(prefix="kv-wheel-") as folder:
    venv = Path(folder, "venv")
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = venv / "bin" / "python"
    environment = {"PATH": "/nowhere", "HOME": folder}
    subprocess.run([python, "-m", "pip", "install", "--no-index", "--quiet",
                    "--disable-pip-version-check", wheel], check=True,
                   env=environment)
    site = next(venv.glob("lib/python*/site-packages"))
    there = Path(numpy.__file__).parent
    for path in (there, there.with_name("numpy.libs")):
        (site / path.name).symlink_to(path)
    for i, example in enumerate([*examples, "import kvcache\nprint(kvcache.__version__)"]):
        script = Path(folder, f"example{i}.py")
        script.write_text(example)
        done = subprocess.run([python, script], text=True, capture_output=True,
                              env=environment, cwd=root)
        assert done.returncode == 0, f"{example}\n{done.stderr}"
    assert done.stdout.strip() == version, done.stdout
    done = subprocess.run([venv / "bin" / "kv-layout", "nhd"], text=True,
                          capture_output=True, env=environment)
    assert done.returncode == 0 and "  a block " in done.stdout, done
    # What vLLM looks for; without vLLM the module says what is missing.
    done = subprocess.run(
        [python, "-c", "from importlib.metadata import entry_points\n"
         "(found,) = entry_points(group='vllm.general_plugins')\n"
         "assert found.name == 'kvcache', found\nfound.load()"],
        text=True, capture_output=True, env=environment)
    assert "ModuleNotFoundError: No module named 'torch'" in done.stderr, \
        done.stderr
    done = subprocess.run(
        [python, "-c", "import kvcache\n"
         "kvcache.PagedAttention(8, 2, 64).layout.zeros(4)"], text=True,
        capture_output=True, env=environment)
    assert ("TypeError: a pool: an array of bfloat16 in NumPy needs the package "
            "ml_dtypes; install it, or pass an array") in done.stderr, done.stderr
