# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# REQUIRES: vllm
# RUN: %vllm_python %s %t
"""vLLM's engine on a CPU with the wheel installed, against its own backend: the
same tokens in f32, and in bf16 up to ties.

vllm_engine.py FOLDER [--all]: a short list of layouts, block sizes and models, or
every combination.
"""

import itertools
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import vllm_models

HERE = Path(__file__).resolve().parent
LAYOUTS = ("LBHNC", "LBNHC", "LHBNC", "BLHNC", "BLNHC", "BHLNC")
# The largest difference of two logarithms of probabilities that roundings may
# exchange: two steps of bf16 for the logits of these models, below 32.
TIE = 0.26


def short_cases(model):
    """Each layout, block size and type at least once over all models."""
    chosen = {"llama": "float32:16:LBHNC float32:128:BHLNC bfloat16:32:LBNHC",
              "gemma2": "float32:32:BLNHC float32:16:LHBNC bfloat16:128:BLHNC",
              "gpt_oss": "float32:32:BLHNC float32:128:LBNHC",
              "gemma3n": "float32:16:BHLNC float32:32:LBNHC:fast"}
    return chosen.get(model, "").split()


def all_cases(model):
    return [f"{dtype}:{block}:{layout}" for dtype, block, layout in
            itertools.product(("float32", "bfloat16"), (16, 32, 128), LAYOUTS)]


def generate(folder, site, model, plugins, cases, **environment):
    out = folder / "tokens.json"
    subprocess.run(
        [sys.executable, HERE / "vllm_tokens.py", folder / model, out, *cases],
        check=True, env={**os.environ, "PYTHONPATH": str(site),
                         "VLLM_PLUGINS": plugins, "OMP_WAIT_POLICY": "PASSIVE",
                         "KVCACHE_CACHE_DIR": str(folder / "cache"),
                         **environment})
    return json.loads(out.read_text())


def first_difference(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), None)


def gap(a, b, at):
    """By how much less likely than its own token one finds the other's."""
    own, other = (str(x["tokens"][at]) for x in (a, b))
    return a["best"][at][own] - a["best"][at].get(other, -float("inf"))


def compare(want, got):
    """The number of requests with equal tokens, and the gaps where others
    part."""
    equal, gaps = 0, []
    for a, b in zip(want, got, strict=True):
        at = first_difference(a["tokens"], b["tokens"])
        if at is None:
            equal += 1
        else:
            gaps.append(max(gap(a, b, at), gap(b, a, at)))
    return equal, gaps


def check_model(folder, site, model, cases):
    vllm_models.write(model, folder / model)
    types = sorted({case.split(":")[0] for case in cases})
    own = generate(folder, site, model, "", [f"{dtype}:32:" for dtype in types])
    ours = generate(folder, site, model, "kvcache", cases)
    wanted = {case.split(":")[0]: tokens for case, tokens in own.items()}
    for case, got in ours.items():
        equal, gaps = compare(wanted[case.split(":")[0]], got)
        print(f"{model} {case}: {equal} of {len(got)} requests equal"
              + (f", others part at gaps up to {max(gaps):.3f}"
                 if gaps else ""), flush=True)
        if case.startswith("float32"):
            assert not gaps, gaps
        else:
            assert equal and max(gaps, default=0) < TIE, gaps
    return wanted


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    site = folder / "site"
    (wheel,) = Path(os.environ["KV_BUILD_DIR"], "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    cases_of = all_cases if "--all" in sys.argv else short_cases
    wanted = {}
    for model in vllm_models.MODELS:
        if cases := cases_of(model):
            wanted[model] = check_model(folder, site, model, cases)
    # The comparison sees errors.
    case = "float32:16:LBHNC"
    wrong = generate(folder, site, "llama", "kvcache", [case], SCALE_BY="1.02")
    equal, gaps = compare(wanted["llama"]["float32"], wrong[case])
    assert len(gaps) > equal, "a scale that is wrong by 2% goes unnoticed"


main()
