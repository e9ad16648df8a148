# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Broken programs are refused with an error that has a place; none crashes.

Every program of the tests and examples is broken in many small ways, the same
in each run. Those that are still valid are also lowered. A mutant passes if the
compiler takes it, or refuses it with an error that names a line. A crash, a
failed assertion, a hang, and an error that is silent or names no line, fail the
test, which prints the mutant.
"""

import argparse
import collections
import concurrent.futures
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEPARATOR = b"\n\f\n"
NUMBERS = ["0", "-1", "1", "3", "2147483648", "9223372036854775807"]
NUMBERS += ["9223372036854775808", "18446744073709551616", "0x16", "?"]
AXES = "LSBNHD"
# No program may take longer, or more memory; kv-parse-many sees to the time.
BATCH_SECONDS = 120
MEMORY_BYTES = 8 << 30


def functions(text):
    """The program itself, and each of its functions with the aliases alone."""
    items = re.findall(r"^[^\s})^].*\n(?:(?:[\s})^].*)?\n)*", text, re.M)
    aliases = "".join(item for item in items if item[0] in "!#")
    rest = [item for item in items if item[0] not in "!#"]
    return [text, *(aliases + item for item in rest if len(rest) > 1)]


def sources():
    """The programs of every test file, without comments."""
    files = sorted([*ROOT.glob("test/**/*.mlir"), *ROOT.glob("examples/*.mlir")])
    for path in files:
        # Parts are separated by `// -----` or `//--- name`.
        for i, part in enumerate(re.split(r"^// ?---.*$", path.read_text(), flags=re.M)):
            code = re.sub(r"^\s*//.*\n|\s*//.*$", "", part, flags=re.M).strip()
            for j, text in enumerate(functions(code + "\n") if code else []):
                yield f"{path.relative_to(ROOT)} {i}.{j}", text


TOKEN = re.compile(r'"[^"\n]*"|[%@!#^]?[A-Za-z_$.][\w$.]*|[%^]?\d+|->|\S')


class Mutator:
    """One way each to break a program; None if there is nothing to break."""

    def __init__(self, text, rng):
        self.text, self.rng = text, rng
        self.tokens = list(TOKEN.finditer(text))

    def replace(self, match, new):
        return self.text[: match.start()] + new + self.text[match.end() :]

    def pick(self, regex):
        found = list(re.finditer(regex, self.text))
        return self.rng.choice(found) if found else None

    def truncate(self):
        return self.text[: self.rng.randrange(len(self.text))]

    def flip_byte(self):
        data = bytearray(self.text.encode())
        data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
        return bytes(data)

    def any_byte(self):
        data = bytearray(self.text.encode())
        data[self.rng.randrange(len(data))] = self.rng.randrange(256)
        return bytes(data)

    def delete_token(self):
        return self.replace(self.rng.choice(self.tokens), "")

    def repeat_token(self):
        token = self.rng.choice(self.tokens)
        return self.replace(token, f"{token[0]} {token[0]}")

    def swap_tokens(self):
        a, b = sorted(self.rng.choices(self.tokens, k=2), key=lambda t: t.start())
        if a.start() == b.start():
            return None
        between = self.text[a.end() : b.start()]
        head, tail = self.text[: a.start()], self.text[b.end() :]
        return head + b[0] + between + a[0] + tail

    def swap_neighbours(self):
        i = self.rng.randrange(max(1, len(self.tokens) - 1))
        a, b = self.tokens[i], self.tokens[min(i + 1, len(self.tokens) - 1)]
        between = self.text[a.end() : b.start()]
        head, tail = self.text[: a.start()], self.text[b.end() :]
        return head + b[0] + between + a[0] + tail if a is not b else None

    def replace_number(self):
        number = self.pick(r"(?<![\w%@])\d+|\?")
        return number and self.replace(number, self.rng.choice(NUMBERS))

    def replace_extent(self):
        extent = self.pick(r"(?:(?<=[<\s])\d+|\?)(?=[LSBNHD]\b)")
        return extent and self.replace(extent, self.rng.choice(NUMBERS))

    def replace_axis(self):
        axis = self.pick(r"(?<=[\d?\s\[(])[LSBNHD](?=[\s.,=\]])")
        return axis and self.replace(axis, self.rng.choice(AXES + "TXo"))

    def swap_axes(self):
        a, b = self.pick(r"\b(?:\d+|)[LSBNHD]\b"), self.pick(r"\b(?:\d+|)[LSBNHD]\b")
        if not a or a.start() == b.start():
            return None
        if a.start() > b.start():
            a, b = b, a
        return (
            self.text[: a.start()] + b[0] + self.text[a.end() : b.start()] + a[0]
        ) + self.text[b.end() :]

    def remove_comma(self):
        comma = self.pick(",")
        return comma and self.replace(comma, "")

    def replace_type(self):
        type_ = self.pick(r"\b(?:bf16|f16|f32|i8|i32|i64|index)\b")
        new = ["i1", "i8", "i32", "i64", "i65", "f8E5M2", "f16", "bf16", "f32"]
        new += ["f64", "index", "none", "complex<f32>", "vector<4xf32>"]
        return type_ and self.replace(type_, self.rng.choice(new))

    def replace_shaped_type(self):
        type_ = self.pick(r"\b(?:tensor|memref)<[^<>]*(?:<[^<>]*>[^<>]*)?>")
        new = ["tensor<*xf32>", "memref<*xi8>", "memref<f32>", "tensor<0xi64>"]
        new += ["memref<?xi8, 3>", "memref<?xi64, strided<[2]>>", "memref<?x?xi8>"]
        new += ["tensor<?x8x128xbf16>", "memref<?x8x128xbf16, strided<[?, ?, 1]>>"]
        new += ["memref<?xi8, affine_map<(d0) -> (d0 floordiv 2)>>", "memref<-1xi8>"]
        return type_ and self.replace(type_, self.rng.choice(new))

    def swap_values(self):
        a, b = self.pick(r"%\w+"), self.pick(r"%\w+")
        return a and self.replace(a, b[0])


KINDS = [
    *["truncate", "flip_byte", "any_byte", "delete_token", "repeat_token"],
    *["swap_tokens", "swap_neighbours", "replace_number", "replace_extent"],
    *["replace_axis", "swap_axes", "remove_comma", "replace_type"],
    *["replace_shaped_type", "swap_values"],
]


# Crashes of upstream's parser, which mlir-opt has too.
KNOWN = re.compile(
    # parseDenseArrayAttr asks for the width of any type, also of index.
    rb"array<\s*(?!i\d|f\d|bf16)"
    # tensor.from_elements makes a list of as many types as the tensor has
    # elements, before it looks at the operands.
    rb"|tensor\.from_elements.*\d{6}"
    # linalg.generic takes each iterator type for a string.
    rb'|iterator_types\s*=(?!\s*\[\s*(?:"\w*"(?:\s*,\s*"\w*")*)?\s*\])'
    # The parser makes room for so many results, before it looks at their number.
    rb"|%\w+#\d{6}"
    # tensor.concat looks at the dimension before it is known to be one.
    rb"|tensor\.concat\s+dim\((?!\d\))"
    # llvm.atomicrmw asks a type that LLVM has not whether it is a vector.
    rb"|llvm\.atomicrmw.*:\s*!llvm\.ptr[^,]*,(?!\s*(?:i\d|f\d|bf16|!llvm|vector))"
    # Named linalg ops keep the list that failed to parse, a null.
    rb"|(?:permutation|dimensions)\s*=(?!\s*\[\s*(?:-?\d{1,18}(?:\s*,\s*-?\d{1,18})*)?\s*\])"
    # Reshapes look at the first dimension of a group that has none.
    rb"|(?:expand|collapse)_shape\b[^\n]*\[\s*\]"
)


def mutants(programs, count, seed, mutator=Mutator, kinds=KINDS):
    """`count` different mutants, in turns of programs and ways to break them."""
    made = {}
    turn = 0
    while len(made) < count:
        round_, i = divmod(turn, len(programs))
        origin, text = programs[i]
        kind = kinds[(round_ + i) % len(kinds)]
        turn += 1
        new = getattr(mutator(text, random.Random(f"{seed} {turn}")), kind)()
        if new is None:
            continue
        new = new.encode() if isinstance(new, str) else new
        if SEPARATOR not in new and not KNOWN.search(new):
            made.setdefault(new, f"{origin}, {kind}")
    return [(origin, mutant) for mutant, origin in made.items()]


def limits():
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run_batch(batch, command):
    """What became of each mutant of a batch: a list of texts."""
    results = {}
    with tempfile.NamedTemporaryFile(suffix=".mlir") as file:
        file.write(SEPARATOR.join(mutant for _, mutant in batch))
        file.flush()
        first = 0
        while first < len(batch):
            try:
                process = subprocess.run(
                    [*command, file.name, str(first)],
                    capture_output=True,
                    preexec_fn=limits,
                    timeout=BATCH_SECONDS,
                )
                out, err, code = process.stdout, process.stderr, process.returncode
            except subprocess.TimeoutExpired as expired:
                out, err, code = expired.stdout or b"", expired.stderr or b"", None
            lines = out.decode(errors="replace").split("\n")
            for line in lines:
                number, _, what = line.partition(" ")
                if number.isdigit() and what:
                    results[int(number)] = what
                    first = int(number) + 1
            if first == len(batch) and code == 0:
                break
            # The last line is a number without a result.
            reason = "hang" if code in (None, -signal.SIGALRM) else f"crash ({code})"
            culprit = min(first, len(batch) - 1)
            lines = err.decode(errors="replace").splitlines()
            passes = [i for i, line in enumerate(lines) if line.startswith("pass ")]
            tail = lines[passes[-1] if passes else 0 :][:16]
            results[culprit] = "\n".join([reason, *(line[:120] for line in tail)])
            first = culprit + 1
    return [results[i] for i in range(len(batch))]


def lowered(result):
    """Whether a program is valid; it may still not be callable from C."""
    return result.startswith(("ok", "describe located"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=40000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=5, help="failures printed whole")
    parser.add_argument("--tool", default="kv-parse-many")
    options = parser.parse_args()

    programs = list(sources())
    whole = run_batch([(o, text.encode()) for o, text in programs], [options.tool])
    valid = [program for program, result in zip(programs, whole) if lowered(result)]
    # Most of what is done to a program makes it invalid, and to a program that
    # is a test of an error nothing more is learnt.
    made = mutants(programs + 3 * valid, options.count, options.seed)
    batches = [made[i : i + 500] for i in range(0, len(made), 500)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        results = sum(pool.map(lambda b: run_batch(b, [options.tool]), batches), [])

    counts = collections.Counter()
    failures = []
    for (origin, mutant), result in zip(made, results):
        words = re.split(r"[:\n]", result)[0].split()
        counts[" ".join(words)] += 1
        if result != "ok" and words[1:] != ["located"]:
            failures.append((origin, mutant, result))
    for what, count in sorted(counts.items()):
        print(f"{count:6} {what}")
    for origin, mutant, result in failures[: options.show]:
        print(f"\n=== {origin}: {result}\n{mutant.decode(errors='backslashreplace')}")
    # Mutants that all fail to parse would show nothing about the verifiers
    # and the lowerings.
    count = sum(map(lowered, results))
    if count < len(made) // 50:
        sys.exit(f"only {count} of {len(made)} mutants are valid")
    if failures:
        sys.exit(f"{len(failures)} of {len(made)} mutants fail")


if __name__ == "__main__":
    main()
