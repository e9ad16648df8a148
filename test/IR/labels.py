# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""Each label of a constraint is in the specification, in the code and in a test.

The specification is the `.td` files. A label in the code is one that a message
begins with; as some are put together from parts, a test that expects the whole
label shows that it is there. A test has to match what was expected and what was
found, not the label alone.
"""

import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parents[2]
LABEL = re.compile(r"\b[a-z][a-z_]*_c\d+\b")


def texts(*patterns):
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            yield path.relative_to(root), path.read_text()


specified = {
    label
    for _, text in texts("include/kvcache/IR/*.td")
    for label in LABEL.findall(text)
}
coded = {}
for path, text in texts("lib/IR/*.cpp", "lib/Layout/*.cpp"):
    for string in re.findall(r'"(?:[^"\\]|\\.)*"', text):
        for label in LABEL.findall(string):
            coded.setdefault(label, path)
tested = {}
errors = []
for path, text in texts("test/**/*.mlir"):
    for message in re.findall(r"expected-error.*?\{\{(.*)\}\}", text):
        for label in LABEL.findall(message):
            tested.setdefault(label, path)
            what = message[message.index(label) :]
            if "expected" not in what or not re.search(r"\b(got|but)\b", what):
                errors.append(f"{path}: matches too little of '{message}'")

for label in sorted(specified - tested.keys()):
    errors.append(f"{label}: in the specification, and no test expects it")
for label in sorted(coded.keys() - specified):
    errors.append(f"{label}: in {coded[label]}, and not in the specification")
for label in sorted(tested.keys() - specified):
    errors.append(f"{label}: in {tested[label]}, and not in the specification")
if len(specified) < 100:
    errors.append(f"only {len(specified)} labels are found in the specification")
sys.exit("\n".join(errors) or 0)
