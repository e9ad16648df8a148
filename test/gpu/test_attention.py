# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Attention on a GPU: functions and batches as on a CPU, against the same
reference. Runs from a bundle: bundle/run test-attention [seed], or
test-attention-sm80 for libraries that are compiled for sm_80. make_bundle.py
runs it too, to learn which libraries the bundle needs.
"""

import sys

import attention
import attention_cases
import invariance
import mask_cases
import numpy as np
import scaled_cases

# Those of matrix products, then any, and what is not in the grid of a CPU:
# columns for groups of 16, other channels, blocks that are no power of two.
BF16 = dict(cache="bf16", query="bf16")
F16 = dict(cache="f16", query="f16")
# And what makes prefixes an item of their own.
SHARED = dict(window=None, alibi=False)
GRIDS = [BF16, F16, {}, dict(BF16, heads=(16, 1)), dict(F16, heads=(45, 3)),
         dict(BF16, channels=192), dict(BF16, tokens=48), dict(F16, tokens=12),
         *(dict(cache=cache, query=query, channels=channels)
           for cache in ("f8E4M3FN", "f8E5M2") for query in ("bf16", "f16")
           for channels in (64, 80, 128, 256)),
         dict(cache="f8E4M3FN", query="bf16", heads=(16, 1)),
         dict(cache="f8E4M3FN", query="bf16", channels=128, tokens=12),
         dict(BF16, tokens=16, prefixes="i32", **SHARED),
         dict(F16, tokens=64, prefixes="i64", **SHARED),
         dict(BF16, heads=(71, 1), channels=64, prefixes="i32", **SHARED)]
COUNTS = [30, 20, 20, 6, 3, 6, 3, 3, *[3] * 16, 6, 3, 10, 5, 2]
# For sm_80: what the kernel of many rows by warps has.
GRIDS80 = [*(dict(given, channels=channels) for given in (BF16, F16)
             for channels in (64, 72, 80, 96, 128, 192, 256)),
           dict(BF16, heads=(16, 1)), dict(F16, heads=(45, 3), channels=128),
           dict(BF16, heads=(71, 1), channels=64),
           dict(BF16, tokens=256, channels=128), dict(F16, tokens=12),
           dict(BF16, tokens=1, channels=128), dict(BF16, tokens=48)]
COUNTS80 = [3, 1, 2, 2, 5, 2, 3, 2, 1, 1, 1, 4, 1, 2, 2, 2, 1, 2, 1, 1, 1]


class MaskFunction(mask_cases.MaskFunction):
    """With several tiles of keys and of rows."""

    longest = dict(tree=1200, spans=400, chunks=500)


class TreeFunction(mask_cases.MaskFunction):
    """Trees of 8 nodes over 32 requests of up to 4k."""

    kinds = ["tree"]
    longest = dict(tree=4096)
    requests = 32


def mask_functions(rng):
    functions = mask_cases.functions(rng, MaskFunction)
    choice = next(f.choice for f in functions if f.choice["channels"] == 128)
    large = TreeFunction(rng, "large_trees", choice)
    large.weights = choice["cache"]
    return [*functions, large]


def scaled_programs():
    """Caches with scales: by matrix products, and by what does without."""
    rng = np.random.default_rng(9)
    bytes_ = dict(cache=scaled_cases.BYTES)
    grids = [({}, 12), *((dict(query=query, channels=channels, caches="one"), 3)
                         for query in ("bf16", "f16")
                         for channels in (64, 80, 128, 256)),
             (dict(query="bf16", heads=(16, 1), caches="one"), 4),
             (dict(query="bf16", channels=128, tokens=12, caches="sides"), 4)]
    choices = [choice for grid, count in grids for choice in
               attention_cases.grid(rng, count, **bytes_, **grid)]
    groups, texts = attention.programs(rng, choices,
                                       scaled_cases.ScaledFunction)
    for function in sum(groups, []):
        if function.choice["query"] != "f32":
            function.weights = "f16"
    return groups, texts


def programs(sm80=False):
    rng = np.random.default_rng(8 if sm80 else 7)
    grids = zip(GRIDS80, COUNTS80) if sm80 else zip(GRIDS, COUNTS)
    choices = [choice for grid, count in grids
               for choice in attention_cases.grid(rng, count, **grid)]
    groups, texts = attention.programs(rng, choices)
    for function in sum(groups, []):
        cache, query = function.choice["cache"], function.choice["query"]
        if cache == query:
            function.weights = cache
        elif cache.startswith("f8") and query != "f32":
            function.weights = "f16"
    masks = mask_functions(rng)
    if sm80:
        masks = [f for f in masks if f.choice["channels"] % 8 == 0]
        return [*groups, masks], [*texts, mask_cases.text(rng, masks)]
    invariant = invariance.functions(rng, ("bf16", "f16"))
    return ([*groups, masks, invariant],
            [*texts, mask_cases.text(rng, masks),
             invariance.text(rng, invariant)])


def main(seed=0, rounds=1, sm80=False, scaled=False):
    import cudadrv
    import device

    cudadrv.Device()
    device.Library.KEEPS_STATE = True
    if sm80:
        device.IMAGE = "sm_80"
    rng = np.random.default_rng(seed)
    groups, texts = scaled_programs() if scaled else programs(sm80)
    calls = failed = 0
    for text, group in zip(texts, groups):
        library = device.compile_library(text)
        for function in group:
            kinds = getattr(function, "kinds",
                            attention.EACH + attention.IN_TURN)
            if function.weights != "f32" and "steep" not in kinds:
                kinds = kinds + ["steep"]
            if function.choice["prefixes"] and "decode" in kinds:
                kinds = kinds + ["decode", "mixed"] * 4
            for kind in kinds * rounds:
                try:
                    calls += attention_cases.run(library, rng, [function],
                                                 [kind], device.Tensor)
                except AssertionError as error:
                    failed += 1
                    if failed < 20:
                        what = str(error)
                        print(f"FAIL {what[:what.find('func.func')]}"
                              f"{what[what.rfind('}'):]}", flush=True)
            if isinstance(function, invariance.Function):
                try:
                    calls += function.compare(rng, library, device.Tensor)
                except AssertionError as error:
                    failed += 1
                    print(f"FAIL {error}", flush=True)
    print(f"attention: {sum(map(len, groups))} functions, {calls} calls, "
          f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:] if text[:2] != "--"]
    sys.exit(main(*numbers, sm80="--sm80" in sys.argv,
                  scaled="--scaled" in sys.argv))
