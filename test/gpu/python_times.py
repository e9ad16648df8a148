# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Timed parts of test_python.py."""

import statistics
import time

import torch
from python_case import Case, make, synchronize


def host_time(function, calls=200, rounds=15):
    """Microseconds of the host for a call, the smallest and the median of
    rounds. The device is idle before each, and the launches of a round fit into
    its queue of about 1,000: a full one would time the device."""
    def once():
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(calls):
            function()
        return (time.perf_counter() - begin) / calls * 1e6

    once()
    times = [once() for _ in range(rounds)]
    return {"min": round(min(times), 2), "median": round(
        statistics.median(times), 2)}


def device_time(function, calls=50, rounds=7):
    """Microseconds between events for a call, many in a row."""
    for _ in range(5):
        function()
    times = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        for _ in range(calls):
            function()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e3 / calls)
    return {"min": round(min(times), 2), "median": round(
        statistics.median(times), 2)}


def graph_of(function):
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


def part_call_times(device):
    """What a call costs the host, and in a graph."""
    if device != "cuda":
        return
    attention = make()
    empty = Case(attention, [(0, 0)], device)
    one = Case(attention, [(100, 1)] * 8, device)
    out, found = torch.empty_like(one.query), {}
    for name, case, given in (("no rows", empty, None), ("8 rows", one, out)):
        case.insert()
        case.run()
        found[name + ", insert"] = host_time(case.insert)
        found[name + ", run, makes the result"] = host_time(case.run)
        if given is not None:
            found[name + ", run, given"] = host_time(
                lambda: case.run(out=given))
    a, b = torch.ones(2, 8, device=device)
    found["torch.add_"] = host_time(lambda: a.add_(b))
    found["8 rows, insert in a graph of 100"] = hundred(one.insert)
    found["8 rows, run in a graph of 100"] = hundred(lambda: one.run(out=out))
    found["torch.add_ in a graph of 100"] = hundred(lambda: a.add_(b))
    big = Case(attention, [(4000, 1)] * 64, device)
    big.insert()
    result = torch.empty_like(big.query)
    found["64 x 4k run, eager"] = device_time(lambda: big.run(out=result))
    found["64 x 4k run, graph"] = device_time(
        graph_of(lambda: big.run(out=result)))
    ops = torch.ops.kvcache
    number = attention._ops.number
    found["8 rows, torch.ops run"] = host_time(lambda: ops.run(
        one.query, one.pool, one.starts, one.lengths, one.table, None, [], None,
        number))
    return found


def hundred(function):
    def many():
        for _ in range(100):
            function()
    times = device_time(graph_of(many), 10)
    return {key: round(value / 100, 3) for key, value in times.items()}


def part_first_call(device):
    """Seconds from nothing to the end of the first call: a program that is
    compiled, and one that is in the cache."""
    found = {}
    for name in ("compiled", "in the cache"):
        begin = time.perf_counter()
        attention = make("bf16", "nhd", heads=24, kv_heads=3)
        case = Case(attention, [(20, 1)], device)
        case.insert()
        case.run()
        synchronize(device)
        found[name] = round(time.perf_counter() - begin, 3)
    return found


# ---- transformers ----------------------------------------------------------


def llama(device, dtype=torch.bfloat16, is_large=True):
    import transformers
    small = {} if is_large else dict(
        hidden_size=256, intermediate_size=512, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=64)
    config = transformers.LlamaConfig(**{**dict(
        hidden_size=4096, intermediate_size=11008, num_hidden_layers=8,
        num_attention_heads=32, num_key_value_heads=8, head_dim=128,
        vocab_size=32000, max_position_embeddings=4096, pad_token_id=0,
        bos_token_id=1, eos_token_id=None), **small})
    torch.manual_seed(1)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(
            config, attn_implementation="sdpa", dtype=dtype)
    return model.eval(), config


def generate_times(model, ids, count, make_cache, rounds=3):
    """Milliseconds of the prompt with one token, and of each further token."""
    options = dict(do_sample=False, attention_mask=torch.ones_like(ids))
    best = {}
    for _ in range(rounds + 1):
        for new in (1, count):
            cache = make_cache()
            synchronize(ids.device.type)
            begin = time.perf_counter()
            with torch.no_grad():
                tokens = model.generate(ids, max_new_tokens=new,
                                        past_key_values=cache, **options)
            synchronize(ids.device.type)
            best.setdefault(new, []).append(time.perf_counter() - begin)
    prompt, whole = (min(best[n][1:]) * 1e3 for n in (1, count))
    return tokens, {"prompt ms": round(prompt, 2),
                    "token ms": round((whole - prompt) / (count - 1), 3)}


def part_transformers_times(device):
    """A Llama of 8 layers: prompts of 1k, 64 tokens, 8 requests."""
    from kvcache.transformers import PagedCache
    is_gpu = device == "cuda"
    model, config = llama(device, is_large=is_gpu)
    length, count, requests = (1024, 64, 8) if is_gpu else (32, 4, 2)
    ids = torch.randint(2, 32000, (requests, length), device=device)
    blocks = requests * -(-(length + count) // 16)
    found = {}
    tokens = {}
    for name, attention, cache in (
            ("sdpa", "sdpa", lambda: None),
            ("kvcache", "kvcache", lambda: PagedCache(config, blocks=blocks)),
            ("flash_attention_2", "flash_attention_2", lambda: None)):
        try:
            model.set_attn_implementation(attention)
            tokens[name], found[name] = generate_times(model, ids, count, cache)
        except Exception as error:
            if name == "kvcache":
                raise
            found[name] = f"not run: {type(error).__name__}: {error}"[:200]
    same = (tokens["sdpa"] == tokens["kvcache"])[:, length:]
    found["tokens before the first other one"] = [
        int(row.logical_not().float().argmax()) if not bool(row.all()) else count
        for row in same]
    if is_gpu:
        found["kvcache, host and device of a step"] = profile_step(
            model, config, ids, blocks)
    return found


def profile_step(model, config, ids, blocks):
    """Where the time of a decode step goes: the sum of all kernels, and those
    of kvcache."""
    from kvcache.transformers import PagedCache
    from torch.profiler import ProfilerActivity, profile
    model.set_attn_implementation("kvcache")
    cache = PagedCache(config, blocks=blocks)
    with torch.no_grad():
        model(ids, past_key_values=cache)
        step = ids[:, :1]
        for _ in range(3):
            model(step, past_key_values=cache)
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(10):
            model(step, past_key_values=cache)
        torch.cuda.synchronize()
        wall = (time.perf_counter() - begin) * 100
        with profile(activities=[ProfilerActivity.CUDA,
                                 ProfilerActivity.CPU]) as trace:
            for _ in range(5):
                model(step, past_key_values=cache)
            torch.cuda.synchronize()
    kernels = {}
    for event in trace.events():
        if str(event.device_type).endswith("CUDA"):
            kernels[event.name] = kernels.get(event.name, 0) + \
                event.device_time_total / 5e3
    largest = sorted(kernels.items(), key=lambda item: -item[1])[:8]
    return {"wall ms": round(wall, 3), "device ms": round(sum(kernels.values()), 3),
            "kernels ms": {name[:60]: round(ms, 3) for name, ms in largest}}


def part_transformers_paged_times(device):
    """transformers' own paged attention, by generate_batch."""
    if device != "cuda":
        return
    model, config = llama(device)
    ids = torch.randint(2, 32000, (8, 1024)).tolist()
    try:
        from transformers import GenerationConfig
        model.set_attn_implementation("paged|sdpa")
        found = {}
        for new in (1, 64):
            options = GenerationConfig(max_new_tokens=new, do_sample=False,
                                       eos_token_id=-1, pad_token_id=0,
                                       use_cuda_graph=False)
            times = []
            for _ in range(2):
                torch.cuda.synchronize()
                begin = time.perf_counter()
                model.generate_batch(inputs=ids, generation_config=options,
                                     progress_bar=False)
                torch.cuda.synchronize()
                times.append(time.perf_counter() - begin)
            found[f"{new} tokens, ms"] = round(min(times) * 1e3, 1)
        return found
    except Exception as error:
        return {"not run": f"{type(error).__name__}: {error}"[:300]}
