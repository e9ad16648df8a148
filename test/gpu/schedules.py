# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The layouts under every schedule worth measuring: `run bench --library
schedules`. What is chosen from it is kSchedules in
lib/Conversion/KVCacheToGPU/IndexCopy.cpp."""

from dataclasses import replace

from programs import LAYOUTS


def schedule(threads, rows, all_sides, streaming):
    flag = {True: "true", False: "false"}
    return (f"#kvcache.copy_schedule<threads = {threads}, rows = {rows}, "
            f"all_sides = {flag[all_sides]}, streaming = {flag[streaming]}>")


SCHEDULES = [
    replace(case, name=f"{case.name}_t{threads}_r{rows}"
            f"{'_all' if all_sides else ''}{'_cs' if streaming else ''}",
            schedule=schedule(threads, rows, all_sides, streaming))
    for case in LAYOUTS[:2]
    for threads in (128, 256)
    for rows in (1, 2, 4)
    for all_sides in (False, True)
    for streaming in (False, True)
]
