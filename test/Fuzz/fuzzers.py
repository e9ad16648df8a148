# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Run the targets of kv-fuzz, and sort what they find.

    fuzzers.py --tool kv-fuzz --work FOLDER [--seconds N | --runs N] [TARGET...]

Each target runs for a time, or for a number of inputs, and goes on after a
finding. What is found is kept in FOLDER/findings/TARGET; `kv-fuzz TARGET FILE`
shows it again. Inputs that reached something new are kept in FOLDER/corpus/TARGET
for the next run. The exit status is 1 if anything was found that is ours.
"""

import argparse
import hashlib
import os
import pathlib
import random
import re
import resource
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
# For one input, and for the process: half of what a small machine has.
INPUT_SECONDS = 25
MEMORY_MB = 2500
# At one time. What is stopped there says where it is asked for; when all memory
# is gone, only what has it is known, by the end of a stack.
ALLOCATION_MB = 1000
# Restarts cost a second each; a target that cannot go on is said to be so.
MOST_FINDINGS = 200
LONGEST = {"text": 16384, "pass": 16384, "manifest": 16384, "bytecode": 16384}


# ---- Seeds -------------------------------------------------------------------


def keep(folder, data):
    """A file that is called after what is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha1(data).hexdigest()[:16]).write_bytes(data)


def programs(only_examples):
    """Programs of tests and examples, and the options that their tests give
    kv-opt."""
    sys.path.insert(0, str(HERE.parent / "Mutation"))
    import mutate

    options = {}
    for origin, text in mutate.sources():
        path = origin.split()[0]
        if only_examples and not path.startswith("examples/"):
            continue
        if path not in options:
            lines = (mutate.ROOT / path).read_text().splitlines()
            run = " ".join(line for line in lines if "RUN:" in line)
            options[path] = re.findall(r"--([\w-]+)", run)
        if len(text) <= LONGEST["text"]:
            yield text, options[path]


def make_seeds(tool, folder, only_examples):
    """Programs, and what is in seeds/ beside this file."""
    shutil.rmtree(folder, ignore_errors=True)
    listed = subprocess.run([tool, "passes"], capture_output=True, check=True)
    passes = [line.split(" ", 1) for line in listed.stdout.decode().splitlines()]
    for i, (text, options) in enumerate(programs(only_examples)):
        data = text.encode()
        keep(folder / "text", data)
        # What its test runs, and something else in turn.
        letters = [letter for letter, names in passes
                   if re.match(r"[\w-]+", names)[0] in options]
        letters.append(passes[i % len(passes)][0])
        for letter in sorted(set(letters)):
            keep(folder / "pass", letter.encode() + data)
    shutil.copytree(folder / "text", folder / "manifest")
    (folder / "bytecode").mkdir()
    subprocess.run([tool, "bytecode", folder / "text", folder / "bytecode"],
                   check=True)
    rng = random.Random(1)
    for name in "call", "runtime":
        for size in 64, 256, 1024:
            for _ in range(16):
                keep(folder / name, rng.randbytes(size))
    for path in sorted((HERE / "seeds").glob("*/*")):
        keep(folder / path.parent.name, path.read_bytes())


# ---- Findings ----------------------------------------------------------------

FRAME = re.compile(r"^\s*#(\d+) 0x[0-9a-f]+ in (.*?)(?: \(|$| /)", re.M)
# On the way from what failed to the report of it.
MACHINERY = re.compile(
    r"_{0,2}(sanitizer|asan|ubsan|interceptor|lsan)|fuzzer::|__assert|abort\b|raise"
    r"|gsignal|pthread_kill|__pthread|__restore_rt|__GI_|kvcache::fuzz::report"
    r"|std::|void std::|operator (new|delete)|mem(cpy|set|cmp|move)|strlen|__str"
    r"|(\w+ )?llvm::(SmallVector|ArrayRef|MutableArrayRef|StringRef|isa|cast|dyn_cast"
    r"|APInt|sys|DenseMap|report_fatal|llvm_unreachable)|malloc|free|__cxa"
)


def stack_of(log):
    """The functions of the first stack: of other ones a report says where memory
    is from."""
    functions = []
    for number, function in FRAME.findall(log):
        if number == "0" and functions:
            break
        functions.append(function)
    return functions


def upstream_signatures():
    """Of functions on the stack, and of findings."""
    lines = (HERE / "upstream.txt").read_text().splitlines()
    texts = [line.split(" # ")[0].strip()
             for line in lines if line and not line.startswith("#")]
    said = "finding: "
    return ([re.compile(t) for t in texts if not t.startswith(said)],
            [re.compile(t.removeprefix(said)) for t in texts
             if t.startswith(said)])


def signature_of(log, status):
    """What happened, and the function that it happened in."""
    what = f"ended without a word, with status {status}"
    for pattern in (r"kv-fuzz: finding: (.*)", r"Assertion `(.*?)' failed",
                    r"runtime error: (.*)", r"ERROR: libFuzzer: (.*?)(?: \(|$)",
                    r"ERROR: AddressSanitizer: ([\w-]+)",
                    # Its own data are damaged, by code that is not instrumented.
                    r"AddressSanitizer: (CHECK failed: .*?) \(0x"):
        found = re.search(pattern, log, re.M)
        if found:
            # Addresses differ from run to run.
            what = re.sub(r"0x[0-9a-f]{6,}", "0x..", found[1])[:160]
            break
    top = next((f for f in stack_of(log) if not MACHINERY.match(f)), "?")
    return what, top


def is_upstream(what, log, signatures):
    """Whether a function of the list is on the stack, and none of ours above it,
    or a pass of upstream left what the list has."""
    frames, findings = signatures
    if any(finding.match(what) for finding in findings):
        return True
    for frame in stack_of(log):
        if "kvcache::" in frame:
            return False
        if any(signature.search(frame) for signature in frames):
            return True
    return False


# ---- Runs --------------------------------------------------------------------


class Result:
    def __init__(self, name):
        self.name = name
        self.executions = self.coverage = self.features = 0
        self.cpu = 0.0
        self.ours, self.upstream = {}, {}

    def text(self):
        lines = [
            f"{self.name}: {self.executions} executions, {self.cpu:.0f} s of CPU, "
            f"{self.coverage} edges, {self.features} features, "
            f"{len(self.ours)} findings, "
            f"{sum(map(len, self.upstream.values()))} crashes of upstream"
        ]
        for kind, found in ("FOUND", self.ours), ("upstream", self.upstream):
            for (what, top), files in found.items():
                lines.append(f"  {kind}: {what} [{top}], {len(files)} inputs, "
                             f"{files[0]}")
        return "\n".join(lines)


def run_once(command, environment, log_path):
    """Exit status and seconds of CPU."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(log_path, "wb") as log:
        status = subprocess.run(command, stdout=log, stderr=log,
                                env=environment).returncode
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return status, (after.ru_utime + after.ru_stime - before.ru_utime
                    - before.ru_stime)


def take_sources(path, findings):
    """A crash while an input was made leaves an empty one; what it was made of is
    one more input, or two."""
    made = next(findings.glob("new-*"), None)
    if not made or made.stat().st_size or not path.exists():
        return
    data = path.read_bytes()
    first, second = (int.from_bytes(data[i:i + 4], "little") for i in (0, 4))
    texts = data[8:8 + first], data[8 + first:8 + first + second]
    for number, text in enumerate(filter(None, texts)):
        made.with_name(f"{made.name}-of-{number}").write_bytes(text)
    made.unlink()


def with_whole_stack(command, findings, log, environment):
    """Where memory ran out, frames of code without frame pointers are missing."""
    for artifact in sorted(findings.glob("new-*")):
        log = whole_stack_of(command, artifact, log, environment)
    return log


def whole_stack_of(command, artifact, log, environment):
    frames = [f for f in stack_of(log) if not MACHINERY.match(f)
              and f not in ("main", "_start", "__libc_start_main")]
    if len(frames) > 2:
        return log
    options = environment["ASAN_OPTIONS"] + ":fast_unwind_on_malloc=0"
    again = subprocess.run(
        [*command, f"-rss_limit_mb={MEMORY_MB}",
         f"-malloc_limit_mb={ALLOCATION_MB}", artifact], capture_output=True,
        env=dict(environment, ASAN_OPTIONS=options))
    return again.stderr.decode(errors="replace") if again.returncode else log


def run_target(name, options, environment, signatures):
    result = Result(name)
    corpus = options.work / "corpus" / name
    findings = options.work / "findings" / name
    seeds = options.seeds / name
    for folder in corpus, findings, seeds:
        folder.mkdir(parents=True, exist_ok=True)
    log_path = options.work / f"{name}.log"
    sources = options.work / f"{name}.sources"
    environment = dict(environment, KV_FUZZ_SOURCES=str(sources))
    end = time.monotonic() + (options.seconds or 0)
    left = options.runs
    take_seeds = True
    for attempt in range(MOST_FINDINGS):
        for artifact in findings.glob("new-*"):
            artifact.unlink()
        command = [options.tool, name, f"-artifact_prefix={findings}/new-",
                   f"-timeout={INPUT_SECONDS}", f"-rss_limit_mb={MEMORY_MB}",
                   f"-malloc_limit_mb={ALLOCATION_MB}",
                   "-print_final_stats=1", f"-seed={options.seed + attempt}",
                   f"-max_len={LONGEST.get(name, 2048)}", "-reload=0",
                   "-report_slow_units=1000", "-detect_leaks=0"]
        if options.runs:
            command.append(f"-runs={left}")
        else:
            seconds = int(end - time.monotonic())
            if seconds <= 0:
                break
            command.append(f"-max_total_time={seconds}")
        folders = [corpus, seeds] if take_seeds else [corpus]
        status, cpu = run_once([*command, *folders], environment, log_path)
        log = log_path.read_text(errors="replace")
        result.cpu += cpu
        done = re.search(r"number_of_executed_units: (\d+)", log)
        done = int(done[1]) if done else 0
        result.executions += done
        for cov, features in re.findall(r"cov: (\d+) ft: (\d+)", log):
            result.coverage = max(result.coverage, int(cov))
            result.features = max(result.features, int(features))
        if status == 0:
            break
        take_sources(sources, findings)
        log = with_whole_stack(command[:2], findings, log, environment)
        what, top = signature_of(log, status)
        found = (result.upstream if is_upstream(what, log, signatures)
                 else result.ours)
        digest = hashlib.sha1(f"{what} {top}".encode()).hexdigest()[:8]
        kept = f"no input, {log_path}"
        for artifact in findings.glob("new-*"):
            kept = artifact.rename(findings / artifact.name.replace("new", digest, 1))
        found.setdefault((what, top), []).append(kept)
        if len(found[what, top]) == 1:
            (findings / f"{digest}.log").write_text(log[-20000:])
        # What the seeds reach is in the corpus by now; unless one of them fails,
        # which it would do each time.
        take_seeds &= "INITED" not in log
        if take_seeds:
            drop_seed(seeds, kept)
        if options.runs:
            left -= max(done, 1)
            if left <= 0:
                break
    return result


def drop_seed(seeds, kept):
    if not isinstance(kept, pathlib.Path):
        return
    data = kept.read_bytes()
    for path in seeds.iterdir():
        if path.read_bytes() == data:
            path.unlink()


def symbolizer(tool):
    beside = tool.parent / "llvm-symbolizer"
    for path in beside, pathlib.Path("/usr/lib/llvm-22/bin/llvm-symbolizer"):
        if path.exists():
            return str(path)
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=pathlib.Path, help="made before")
    parser.add_argument("--seconds", type=int, help="for each target")
    parser.add_argument("--runs", type=int, default=0, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only-examples", action="store_true",
                        help="their programs are seeds, those of tests are not")
    parser.add_argument("--only-seeds", action="store_true")
    parser.add_argument("targets", nargs="*")
    options = parser.parse_args()
    options.tool, options.work = options.tool.resolve(), options.work.resolve()
    if not options.seeds:
        options.seeds = options.work / "seeds"
        make_seeds(options.tool, options.seeds, options.only_examples)
    options.seeds = options.seeds.resolve()
    if options.only_seeds:
        return
    listed = subprocess.run([options.tool, "targets"], capture_output=True,
                            check=True).stdout.decode().split()
    unknown = set(options.targets) - set(listed)
    if unknown:
        sys.exit(f"no such target: {' '.join(unknown)}; there are {' '.join(listed)}")
    environment = dict(os.environ, ASAN_SYMBOLIZER_PATH=symbolizer(options.tool),
                       # Half of the time of a call.
                       ASAN_OPTIONS="detect_stack_use_after_return=0",
                       UBSAN_OPTIONS="print_stacktrace=1")
    signatures = upstream_signatures()
    found = 0
    for name in options.targets or listed:
        result = run_target(name, options, environment, signatures)
        print(result.text(), flush=True)
        found += len(result.ours)
    if found:
        sys.exit(f"{found} findings, in {options.work / 'findings'}")


if __name__ == "__main__":
    main()
