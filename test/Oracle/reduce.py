# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Leaves out operations of a program that is wrong, as long as it is."""

import re
import tempfile
from dataclasses import replace

from modules import Calls, Module


def statements(lines):
    """Ranges of lines: one operation each, with its regions."""
    out, at = [], 0
    while at < len(lines):
        indent = len(lines[at]) - len(lines[at].lstrip())
        end = at + 1
        while end < len(lines):
            line = lines[end]
            deeper = len(line) - len(line.lstrip()) > indent
            if not deeper and not line.lstrip().startswith(("}", "^", "case",
                                                            "default")):
                break
            end += 1
        out.append((at, end))
        for inner in statements(lines[at + 1 : end - 1]) if end > at + 2 else ():
            out.append((at + 1 + inner[0], at + 1 + inner[1]))
        at = end
    return out


def findings_of(program, seed, name):
    with tempfile.TemporaryDirectory(prefix="kvoracle-") as folder:
        module = Module(name, [program], folder)
        dumps = module.dumps()
        if module.refused:
            return []
        library = module.compile()
        if module.programs and dumps and library:
            Calls(module, seed, dumps, library).run()
        return module.findings


def sort_of(finding):
    """What two findings have in common that are the same defect."""
    return finding.kind, re.sub(r"[^a-z ]+|f\d+", "", finding.text)[:40]


def reduced(program, seed, name, sort, tries=120):
    """A smaller program with a finding of the same sort."""
    lines = program.text.split("\n")
    going = True
    while going and tries > 0:
        going = False
        for first, last in sorted(statements(lines), reverse=True):
            if last > len(lines) or re.match(r"\s*(return|scf\.yield|func)",
                                             lines[first]):
                continue
            less = lines[:first] + lines[last:]
            smaller = replace(program, text="\n".join(less))
            tries -= 1
            if any(sort_of(f) == sort for f in findings_of(smaller, seed, name)):
                lines, going = less, True
                break
            if tries <= 0:
                break
    return replace(program, text="\n".join(lines))
