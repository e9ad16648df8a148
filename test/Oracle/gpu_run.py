# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Runs the calls that gpu_make.py has recorded, on a GPU.

    gpu_run.py [MODULE...]

Each region of memory lies between canaries. Calls of a module follow each other
in one workspace, which is zero before the first one; where a program has lists
that nobody fills, what they lie in is filled before each call.
"""

import ctypes
import pickle
import sys
from pathlib import Path

import cudadrv
import kvtest
import numpy as np
from calls import ArrayArgument
from differences import describe, differences, tensor, untouched

HERE = Path(__file__).resolve().parent
GUARD, CANARY = 512, 0xA5
WORKSPACE = 32 << 20
STATE = 8192  # KV_WORKSPACE_STATE_BYTES: what launches keep there


class DeviceRegion:
    """Bytes on the device at an address that is aligned as the region is, and
    no better."""

    def __init__(self, region):
        self.size = len(region.contents)
        shift = region.align if region.align < 256 else 0
        self.first = GUARD + shift
        self.raw = np.full(self.first + self.size + GUARD, CANARY, np.uint8)
        self.raw[self.first : self.first + self.size] = region.contents
        self.buffer = cudadrv.Buffer(self.raw.nbytes)
        self.buffer.write(self.raw)
        self.pointer = self.buffer.pointer + self.first

    def back(self):
        raw = np.empty_like(self.raw)
        self.buffer.read(raw)
        end = self.first + self.size
        whole = ((raw[: self.first] == CANARY).all()
                 and (raw[end:] == CANARY).all())
        return raw[self.first : end], bool(whole)


def run_call(library, name, call, workspace, stream):
    regions = [DeviceRegion(r) for r in call.regions]
    packed, kept = [], []
    for argument in [*call.arguments, *call.outs]:
        if isinstance(argument, ArrayArgument):
            kept.append(tensor(argument, regions[argument.region].pointer,
                               kvtest.CUDA_DEVICE))
            packed.append(ctypes.byref(kept[-1]))
        else:
            packed.append(ctypes.c_int64(argument))
    entry = getattr(library.handle, f"kv1_{name}")
    entry.restype = ctypes.c_int32
    code = entry(*packed, ctypes.c_void_p(workspace.pointer),
                 ctypes.c_int64(workspace.nbytes),
                 ctypes.c_void_p(stream.value))
    text = library.last_error() if code else ""
    stream.synchronize()
    back = [r.back() for r in regions]
    return code, text, [b for b, _ in back], all(w for _, w in back)


def problem(library, name, call, want, lenient, poisoned, workspace, stream):
    """What is wrong with a call, or None."""
    if poisoned:
        workspace.write(np.full(WORKSPACE - STATE, 0xFF, np.uint8), STATE)
    code, text, got, whole = run_call(library, name, call, workspace, stream)
    if not whole:
        return "a canary was overwritten"
    if code == kvtest.SHAPE:
        return (None if untouched(call, got)
                else f"refused, and memory has changed: {text}")
    if bool(code) != bool(want.fails) and not (code and want.may_fail):
        return f"expected {want.fails or 'no error'}, got {code}: {text}"
    if code:
        # On a GPU nothing is launched from there on, whatever it works on.
        return None
    places = differences(want, got, call, lenient)
    return describe(want, got, places, call) if places else None


def main():
    cudadrv.Device()
    stream = cudadrv.Stream()
    only = sys.argv[1:]
    calls = failed = 0
    for path in sorted(HERE.glob("*.pickle")):
        if only and path.stem not in only:
            continue
        library = kvtest.Library(HERE / f"lib{path.stem}.so", path.stem)
        workspace = cudadrv.Buffer(WORKSPACE)
        workspace.fill(0)
        for number, (name, *rest) in enumerate(pickle.loads(path.read_bytes())):
            calls += 1
            try:
                what = problem(library, name, *rest, workspace, stream)
            except cudadrv.CudaError as error:
                # The context is lost: nothing after it can run.
                print(f"{path.stem} {name} call {number}: {error}")
                sys.exit(1)
            if what:
                failed += 1
                print(f"{path.stem} {name} call {number}: {what}", flush=True)
    print(f"{calls} calls, {failed} differ")
    sys.exit(1 if failed or not calls else 0)


if __name__ == "__main__":
    main()
