# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Modules of several random programs: compiled once, called in a child process,
so that a crash is a finding and ends nothing."""

import collections
import json
import mmap
import os
import random
import re
import select
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cache_ops  # noqa: F401 (operations enter themselves)
import kvtest
import memory_ops  # noqa: F401
import numpy as np
import run_calls
import scalar_ops  # noqa: F401
from calls import Arena, CallMaker, TooLarge
from differences import describe, differences, untouched
from interpreter import Interpreter, Undefined, Unsupported

BIN = Path(os.environ.get("KV_BUILD_DIR", "build")) / "bin"
DUMP = re.compile(r"^// -----// IR Dump (Before|After) \w+ \(([\w-]+).*$",
                  re.MULTILINE)
PASSES = ["--kvcache-optimize", "--mlir-print-op-generic",
          "--mlir-print-ir-before=kvcache-raise",
          "--mlir-print-ir-after-all", "--mlir-print-ir-after-change",
          "--mlir-print-ir-module-scope",
          "--mlir-disable-threading"]
# What a pass may be run alone for, before the whole of the rest.
ALONE = ["kvcache-raise", "kvcache-bufferize", "kvcache-fold-permutes",
         "kvcache-scatter-to-index-copy", "kvcache-specialize-page-stride",
         "canonicalize", "cse", "inline", "loop-invariant-code-motion",
         "kvcache-optimize"]


# What is refused for a reason: by a verifier, as a buffer whose size nobody can
# tell, or where padding would become a live slot.
REFUSED = re.compile(r"_c\d+:|expects different type|no upper bound for the "
                     "workspace|are expected to be skipped")


@dataclass
class Finding:
    kind: str  # differs, crash, does not compile, pass
    module: str
    function: str
    text: str  # what happened
    program: str
    call: str = ""


def run_tool(name, arguments, text, limit=120):
    """The end and the error output of a tool; a signal is a negative end."""
    try:
        done = subprocess.run([str(BIN / name), *arguments], input=text,
                              text=True, capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return -signal.SIGALRM, f"{name} does not end"
    return done.returncode, done.stderr


class Module:
    def __init__(self, name, programs, folder):
        self.name, self.folder = name, Path(folder)
        self.programs = list(programs)
        self.findings, self.refused = [], collections.Counter()

    def text(self, programs=None):
        return "".join(p.text for p in programs or self.programs)

    def _program_at(self, line):
        for program in self.programs:
            count = program.text.count("\n")
            if line <= count:
                return program
            line -= count
        return self.programs[-1]

    def _drop(self, program, why=None):
        self.programs.remove(program)
        if why:
            self.refused[why] += 1

    def finding(self, kind, program, text, call=""):
        self.findings.append(Finding(kind, self.name, program.name,
                                     text, program.text, call))

    def dumps(self):
        """Texts of the module: first as it is, then after each pass that has
        changed it. Programs that are refused are left out."""
        while self.programs:
            end, output = run_tool("kv-opt", ["-", "-o", os.devnull, *PASSES],
                                   self.text())
            if end == 0:
                return self._split(output)
            self.leave_out_failing("kv-opt", PASSES, end, output)
        return []

    @staticmethod
    def _split(output):
        heads = list(DUMP.finditer(output))
        ends = [h.start() for h in heads[1:]] + [len(output)]
        return [(f"{h.group(1).lower()} {h.group(2)}", output[h.end() : end])
                for h, end in zip(heads, ends)]

    def leave_out_failing(self, tool, options, end, output):
        """Leave out what a tool does not take; a crash is a finding."""
        located = re.search(r"^[^\n:]*:(\d+):\d+: error: (.*)", output,
                            re.MULTILINE)
        if end >= 0 and located:
            program = self._program_at(int(located.group(1)))
            message = re.sub(r"!kvcache\.\w+<.*|\d+", "#", located.group(2))
            if REFUSED.search(located.group(2)):
                return self._drop(program, message[:80])
            self.finding("does not compile", program, located.group(2))
            return self._drop(program)
        bad = []
        for program in self.programs:
            end, output = run_tool(tool, ["-", "-o", str(self.folder / "alone.so"),
                                           *options],
                                   program.text)
            if end:
                bad.append((program, end, output))
        for program, end, output in bad:
            words = [line for line in output.splitlines() if "rror" in line
                     or "Assert" in line or "assert" in line]
            self.finding("crash" if end < 0 else "does not compile", program,
                         f"{tool} ends with {end}: {' '.join(words)[:300]}")
            self._drop(program)
        if not bad:
            self.finding("crash", self.programs[0],
                         f"{tool} fails on the module alone: {output[:300]}")
            self.programs.clear()

    def compile(self, before=None):
        """A library, and why there is none. `before`: a pass that runs first."""
        path = self.folder / f"lib{self.name}.so"
        while self.programs:
            text = self.text()
            if before:
                done = subprocess.run(
                    [str(BIN / "kv-opt"), "-", f"--{before}"], input=text,
                    text=True, capture_output=True)
                end, output = done.returncode, done.stderr
                if end:
                    self.leave_out_failing("kv-opt", [f"--{before}"], end,
                                          output)
                    continue
                text = done.stdout
            end, output = run_tool("kv-compile", ["-", "-o", str(path)], text)
            if end == 0:
                return path
            if before:
                self.leave_out_failing_after(before)
                continue
            self.leave_out_failing("kv-compile", [], end, output)
        return None


    def leave_out_failing_after(self, before):
        """Leave out what compiles as it is and not after a pass."""
        bad = []
        for program in self.programs:
            done = subprocess.run(
                [str(BIN / "kv-opt"), "-", f"--{before}"], text=True,
                input=program.text, capture_output=True)
            end, output = run_tool(
                "kv-compile", ["-", "-o", str(self.folder / "alone.so")],
                done.stdout)
            if end:
                bad.append((program, output))
        for program, output in bad:
            if REFUSED.search(output):
                self._drop(program, f"after {before}")
                continue
            self.finding("does not compile", program,
                         f"after {before}: {output[:300]}")
            self._drop(program)
        if not bad:
            self.programs.clear()


# --- Calls in a child ---------------------------------------------------------


def _functions_of(text):
    """The text of each function of a dump, to see which have changed."""
    out = {}
    for part in re.split(r'^(?=  "func\.func")', text, flags=re.MULTILINE)[1:]:
        name = re.search(r'sym_name = "(\w+)"', part)
        out[name.group(1)] = part
    return out


# What a child is at.
INTERPRETING, IN_LIBRARY, COMPARING, SETTING_UP = range(4)


def _changed(text, texts, before):
    """A dump without the functions that nobody calls and that are as they were:
    reading takes longer than running."""
    if "memref.global" in text:
        return text
    head = text[: text.index('  "func.func"')]
    kept = [part for name, part in texts.items()
            if part != before.get(name) or "sym_visibility" in part]
    if not kept or not kept[-1].rstrip().endswith("\n}) : () -> ()"):
        kept.append("}) : () -> ()\n")
    return head + "".join(kept)


class Calls:
    """All calls of a module: run in a child, one after the other."""

    CALLS = 3

    def __init__(self, module, seed, dumps, library):
        self.module, self.seed = module, seed
        self.dumps, self.path = dumps, library
        self.figures = collections.Counter()

    def jobs(self):
        return [(p, c) for p in self.module.programs
                for c in range(self.CALLS)]

    def run(self, limit=60):
        """Fork until all calls are made; a child that dies is followed by one
        that goes on behind the call which killed it."""
        jobs, done = self.jobs(), 0
        progress = mmap.mmap(-1, 16)
        while done < len(jobs):
            struct.pack_into("qq", progress, 0, done, SETTING_UP)
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(read)
                self._child(jobs, done, progress, write)
            os.close(write)
            output = self._read(read, child, limit)
            _, status = os.waitpid(child, 0)
            for line in output.splitlines():
                self._enter(json.loads(line))
            if status == 0:
                break
            at, stage = struct.unpack_from("qq", progress)
            if stage == SETTING_UP:
                raise RuntimeError(f"{self.module.name}: no call can be made")
            program, number = jobs[min(at, len(jobs) - 1)]
            what = {IN_LIBRARY: "the library", COMPARING: "the comparison"}.get(
                stage, "the interpreter")
            code = (f"signal {status & 127}" if status & 127
                    else f"status {status >> 8}")
            self.module.finding("crash", program,
                                f"{what} dies in call {number}: {code}",
                                f"call {number}")
            done = at + 1

    @staticmethod
    def _read(pipe, child, limit):
        parts, end = [], time.monotonic() + limit
        while True:
            ready, _, _ = select.select([pipe], [], [],
                                        max(0, end - time.monotonic()))
            if not ready:
                os.kill(child, signal.SIGKILL)
                break
            data = os.read(pipe, 1 << 16)
            if not data:
                break
            parts.append(data)
        os.close(pipe)
        return b"".join(parts).decode()

    def _enter(self, entry):
        if "figures" in entry:
            self.figures.update(entry["figures"])
            return
        program = next(p for p in self.module.programs
                       if p.name == entry["function"])
        self.module.finding(entry["kind"], program, entry["text"],
                            entry.get("call", ""))

    # --- In the child -------------------------------------------------------

    def _child(self, jobs, first, progress, write):
        status = 1
        try:
            self.out = os.fdopen(write, "w")
            self._set_up()
            for at in range(first, len(jobs)):
                struct.pack_into("qq", progress, 0, at, INTERPRETING)
                self._job(*jobs[at], progress)
            self._say(figures=dict(self.figures))
            self.out.close()
            status = 0
        except BaseException as error:  # noqa: BLE001
            import traceback
            traceback.print_exc()
            print(f"{self.module.name}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(status)

    def _say(self, **entry):
        self.out.write(json.dumps(entry) + "\n")
        self.out.flush()

    def _set_up(self):
        self.figures = collections.Counter()
        self.arena = Arena()
        self.plain = Arena(guarded=False)
        self.library = (kvtest.Library(self.path, self.module.name)
                        if self.path else None)
        self.written = {}
        if self.path:
            manifest = json.loads(Path(self.path).with_suffix(
                ".json").read_text())
            self.written = {
                f["name"]: {i for i, a in enumerate(f["arguments"])
                            if a.get("access") == "write"}
                for f in manifest["functions"]}
        self.interpreters, before = [], {}
        for when, text in self.dumps:
            texts = _functions_of(text)
            self.interpreters.append(
                (when, Interpreter(_changed(text, texts, before)), texts))
            before = texts

    def call_of(self, program, number):
        seed = f"{self.seed} {self.module.name} {program.name} {number}"
        rng = random.Random(seed)
        return CallMaker(program, rng, np.random.default_rng(
            rng.getrandbits(64))).make()

    def _job(self, program, number, progress):
        try:
            call = self.call_of(program, number)
            want = run_calls.interpret(self.interpreters[0][1], program.name,
                                       call, self.plain)
        except (Undefined, TooLarge) as why:
            self.figures[f"left out: {str(why)[:40]}"] += 1
            return
        except Unsupported as why:
            self._say(kind="unsupported", function=program.name, text=str(why))
            return
        self.figures["calls"] += 1
        self.figures["calls that fail"] += bool(want.fails)
        if self.library:
            struct.pack_into("q", progress, 8, IN_LIBRARY)
            code, text, got = run_calls.run_library(
                self.library, program.name, call, self.arena,
                0xFF if number % 2 else 0x00)
            struct.pack_into("q", progress, 8, COMPARING)
            self._judge(program, number, call, want, code, text, got)
        if number == 0:
            self._check_passes(program, call, want)

    def _judge(self, program, number, call, want, code, text, got):
        if code == kvtest.SHAPE:
            # Before anything is done, also of what would fail later.
            self.figures["refused extents"] += 1
            if not untouched(call, got):
                self._report("differs", program, number,
                             f"refused, and memory has changed: {text}")
            return
        if bool(code) != bool(want.fails) and not (code and want.may_fail):
            self._report("differs", program, number,
                         f"expected {want.fails or 'no error'}, got code "
                         f"{code}: {text}")
            return
        self._same(program, number, call, want, got, "the library",
                   self.written.get(program.name, ()))

    def _used(self, program, call, written):
        """Regions of tensors that may be updated in place: nobody knows what
        they hold afterwards, but where the program returns them."""
        return {argument.region for i, ((_, kind, _), argument) in enumerate(
                    zip(program.arguments, call.arguments))
                if kind.startswith("tensor") and i not in call.donated
                and (written is None or i in written)}

    def _same(self, program, number, call, want, got, who, written=None):
        used = self._used(program, call, written)
        places = differences(want, got, call, (), used)
        if not places:
            return True
        try:
            lenient = run_calls.open_bytes(self.dumps[0][1], program.name,
                                           call, self.plain, want)
        except Undefined:
            return True
        places = differences(want, got, call, lenient, used)
        if not places:
            self.figures["left open"] += 1
            return True
        if any("decrease" in str(f) for f in want.fails):
            return True
        self._report("differs" if who == "the library" else "pass", program,
                     number,
                     f"{who}: {describe(want, got, places, call)}")
        return False

    def _report(self, kind, program, number, text):
        self._say(kind=kind, function=program.name, text=text,
                  call=f"call {number}")

    def _check_passes(self, program, call, want):
        """The interpreter on what each pass has made of the function."""
        before = self.interpreters[0][2].get(program.name)
        for when, interpreter, texts in self.interpreters[1:]:
            text = texts.get(program.name)
            if text is None or text == before:
                continue
            before = text
            try:
                got = run_calls.interpret(interpreter, program.name, call,
                                          self.plain)
            except (Undefined, Unsupported) as why:
                self._report("pass", program, 0, f"{when}: {why}")
                continue
            self.figures["runs after passes"] += 1
            if not self._same(program, 0, call, want, got.regions, when):
                return
