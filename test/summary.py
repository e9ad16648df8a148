# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Sum up a lit run: what was skipped and why, what failed, and the totals.

usage: summary.py RESULTS.json RESULTS.xml LIT_STATUS

The codes come from lit's JSON report. That report leaves out unit tests that
skip themselves, which only the XML report has.
"""

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

PASSED = {"PASS", "FLAKYPASS"}
SKIPPED = {"UNSUPPORTED"}
# lit's XML report names no code; this is its text for the code SKIPPED.
SELF_SKIPPED = "User interrupt"


def skips_of(xml_path):
    """Yield (suite.folder, name, reason) of the entries that lit did not run."""
    for case in ElementTree.parse(xml_path).iter("testcase"):
        for skip in case.findall("skipped"):
            yield case.get("classname"), case.get("name"), skip.get("message")


def reason_of(output):
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return " ".join(lines) if lines else "no reason given"


def summarize(json_path, xml_path, lit_status):
    if not (json_path.is_file() and xml_path.is_file()):
        print(f"lit wrote no results (exit status {lit_status})")
        return 0, 1, 0

    tests = json.loads(json_path.read_text())["tests"]
    skipped = [
        (test["name"], reason_of(test["output"]))
        for test in tests
        if test["code"] in SKIPPED
    ]
    skipped += [
        (f"{group} :: {name}", "the test skips itself")
        for group, name, reason in skips_of(xml_path)
        if reason == SELF_SKIPPED
    ]
    failed = [
        (test["name"], test["code"])
        for test in tests
        if test["code"] not in PASSED | SKIPPED
    ]
    passed = sum(test["code"] in PASSED for test in tests)

    for name, reason in sorted(skipped):
        print(f"skipped: {name}: {reason}")
    for name, code in sorted(failed):
        print(f"failed: {name}: {code}")
    failures = len(failed)
    if not passed and not failures and not skipped:
        print("no test ran")
        failures = 1
    elif lit_status and not failures:
        print(f"lit failed with exit status {lit_status}")
        failures = 1
    return passed, failures, len(skipped)


def main(json_path, xml_path, lit_status):
    passed, failed, skipped = summarize(
        Path(json_path), Path(xml_path), int(lit_status)
    )
    line = f"{passed} passed, {failed} failed"
    if skipped:
        line += f", {skipped} skipped"
    print(line, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
