# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The Python package on a GPU: `run test-python` in its bundle.

Each part runs in a process of its own, several at once, with a limit of time; the
timed ones come last and alone. `--device cpu` tries the test itself.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent


def parts():
    """name -> (function, seconds it may take, whether it is timed)."""
    import python_engines
    import python_parts
    import python_times
    found = {}
    for module in (python_engines, python_parts, python_times):
        is_timed = module is python_times
        for name, value in vars(module).items():
            if name.startswith("part_"):
                found[name[5:]] = (value, is_timed)
    return found


def child(name, device, figures):
    """In the process of a part: figures go to a file."""
    function, _ = parts()[name]
    result = function(device)
    Path(figures).write_text(json.dumps(result or {}))


def last_line(text):
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no output"


def start(name, options, folder, until):
    limit = min(options.limit, until - time.monotonic())
    if limit < 3:
        print(f"FAIL {name}: no time left", flush=True)
        return name, 125, {}, "", 0
    figures = Path(folder, name + ".json")
    command = [sys.executable, __file__, "--part", name, "--device",
               options.device, "--figures", str(figures)]
    begin = time.monotonic()
    # In a session of its own: what a part has started ends with it, and does not
    # take time from those that follow.
    child = subprocess.Popen(command, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True,
                             errors="replace", start_new_session=True)
    try:
        text, status = child.communicate(timeout=limit)[0], child.returncode
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        text = child.communicate()[0]
        text, status = f"{text}\nno end after {limit:.0f} s", 124
    seconds = time.monotonic() - begin
    result = {}
    if figures.exists():
        result = json.loads(figures.read_text())
    if status:
        print(f"FAIL {name}: {last_line(text)} ({seconds:.1f} s)", flush=True)
    else:
        print(f"PASS {name} ({seconds:.1f} s) "
              + (json.dumps(result) if result else ""), flush=True)
    return name, status, result, text[-6000:], seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("only", nargs="*", help="parts, by default all")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", help="a file for figures, and the output of "
                        "what failed")
    parser.add_argument("--limit", type=int, default=85, help="seconds of a part")
    parser.add_argument("--total", type=int, default=145,
                        help="seconds of all parts")
    parser.add_argument("--at-once", type=int, default=12)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--figures", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        return child(options.part, options.device, options.figures)
    known = parts()
    chosen = {name: is_timed for name, (_, is_timed) in known.items()
              if not options.only or name in options.only}
    unknown = set(options.only) - set(known)
    if unknown:
        sys.exit(f"no parts {sorted(unknown)}; there are {', '.join(known)}")
    with tempfile.TemporaryDirectory(prefix="kvcache-test-") as folder:
        os.environ["KVCACHE_CACHE_DIR"] = os.path.join(folder, "cache")
        done = []
        until = time.monotonic() + options.total
        # Programs are compiled by the driver for seconds: all parts at once.
        for is_timed, threads in ((False, options.at_once), (True, 1)):
            names = [name for name in chosen if chosen[name] == is_timed]
            with ThreadPoolExecutor(threads) as pool:
                done += pool.map(
                    lambda name: start(name, options, folder, until),
                    names)
    failed = sum(status != 0 for _, status, *_ in done)
    if options.json:
        Path(options.json).write_text(json.dumps({
            name: {"status": status, "seconds": round(seconds, 1), **result,
                   **({"output": text} if status else {})}
            for name, status, result, text, seconds in done}, indent=1))
    print(f"{len(done) - failed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
