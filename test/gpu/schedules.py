# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The layouts under every schedule worth measuring: `run bench --library
schedules`. What is chosen from it is kDefaultSchedule in
lib/Conversion/GPU/IndexCopy.cpp."""

from dataclasses import replace

from programs import LAYOUTS


def schedule(threads, rows, streaming):
    flag = {True: "true", False: "false"}
    return (f"<threads = {threads}, rows = {rows}, "
            f"streaming = {flag[streaming]}>")


SCHEDULES = [
    replace(case, name=f"{case.name}_t{threads}_r{rows}"
            f"{'_cs' if streaming else ''}",
            schedule=schedule(threads, rows, streaming))
    for case in LAYOUTS[:2]
    for threads in (128, 256)
    for rows in (1, 2, 4)
    for streaming in (False, True)
]
