# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Parts of test_python.py: calls, PagedAttention, streams, graphs, operators and
threads."""

import threading

import kvcache
import torch
from python_case import (BATCHES, Case, Guarded, make, raises,
                         synchronize)

CALLS = """
!pool  = !kvcache.cache<2S x ?B x 16N x 4H x 64D x bf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!rows  = memref<?x4x64xbf16>
func.func @insert(%pool: !pool, %slots: memref<?xi64>, %key: !rows,
                  %value: !rows) {
  %where = kvcache.make_slots %slots : memref<?xi64> to !slots
  kvcache.index_copy %key, %value into %pool at %where
    : !rows, !rows into !pool at !slots
  return
}
!keys = !kvcache.cache<?B x 16N x 4H x 64D x bf16>
func.func @rows(%pool: !keys, %slots: memref<?xi64>,
                %out: !rows {bufferize.result}) {
  %where = kvcache.make_slots %slots : memref<?xi64> to !slots
  kvcache.gather %pool at %where zero into %out : !keys at !slots into !rows
  return
}
"""


def part_calls(device):
    """Compiled and loaded libraries: arguments, results, errors."""
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/libcalls.so"
        libraries = [kvcache.compile(CALLS, device),
                     kvcache.compile(CALLS, device, output=path),
                     kvcache.load(path, "program")]
    slots = torch.tensor([5, -1, 33, 95], device=device)
    for library in libraries:
        key, value = torch.randn(2, 4, 4, 64, device=device).bfloat16()
        pool = Guarded(torch.empty(2, 6, 16, 4, 64, device=device,
                                   dtype=torch.bfloat16))
        pool.view.fill_(3)
        want = pool.view.clone()
        flat = want.view(2, 96, 4, 64)
        flat[0, slots[slots >= 0]] = key[slots >= 0]
        flat[1, slots[slots >= 0]] = value[slots >= 0]
        assert library.insert(pool.view, value=value, slots=slots, key=key) is None
        assert torch.equal(pool.check(), want)
        pool.view.fill_(3)
        library.insert(pool.view, slots, key, value)
        assert torch.equal(pool.check(), want)
        rows = library.rows(pool.view[0], slots)
        assert rows.device.type == device and rows.dtype == torch.bfloat16
        assert torch.equal(rows[[0, 2, 3]], key[[0, 2, 3]])
        assert not rows[1].any()
        out = Guarded(rows)
        assert library.rows(pool.view[1], slots, out.view) is out.view
        assert torch.equal(out.check()[[0, 2, 3]], value[[0, 2, 3]])
        assert library.rows(pool=pool.view[0], slots=slots[:0]).shape == (0, 4, 64)
    library, pool = libraries[0], pool.view
    before = pool.clone()
    call = library.insert
    assert "expected elements of int64, got int32" in raises(
        TypeError, call, pool, slots.int(), key, value)
    assert "expected elements of bfloat16" in raises(
        TypeError, call, pool, slots, key.half(), value)
    apart = pool.transpose(0, 1).contiguous().transpose(0, 1)
    text = raises(ValueError, call, apart, slots, key, value)
    assert "your tensor is [B, S, N, H, D] in memory" in text, text
    text = raises(ValueError, call, pool.transpose(0, 1), slots, key, value)
    assert "in axis S (dimension 0), got 6" in text, text
    for rows in (key.transpose(1, 2), torch.cat([key, key], -1)[..., ::2]):
        text = raises(ValueError, call, pool, slots, rows, value)
        assert "argument 'key'" in text, text
    assert "in dimension 0" in raises(ValueError, call, pool, slots, key[:2],
                                      value)
    raises(TypeError, call, pool, slots, key)
    synchronize(device)
    assert torch.equal(pool, before)
    if device == "cuda":
        for i, other in enumerate((pool, slots, key, value)):
            arguments = [pool, slots, key, value]
            arguments[i] = other.cpu()
            text = raises(ValueError, call, *arguments)
            assert "CUDA" in text or "GPU" in text or "device" in text, text
        on_cpu = [array.cpu() for array in (pool, slots, key, value)]
        text = raises(ValueError, call, *on_cpu)
        raises(ValueError, kvcache.compile(CALLS).insert, pool, slots, key, value)
        assert torch.equal(pool, before)
        assert library.check() is None
        # Foreign arrays by the method __dlpack__ alone.

        class Foreign:
            def __init__(self, tensor):
                self.tensor = tensor

            def __dlpack__(self, **options):
                return self.tensor.__dlpack__(**options)

            def __dlpack_device__(self):
                return self.tensor.__dlpack_device__()

        pool.fill_(3)
        call(*map(Foreign, (pool, slots, key, value)))
        assert torch.equal(pool, before)
    return {"torch": torch.__version__, "exchange in C": hasattr(
        torch.Tensor, "__dlpack_c_exchange_api__")}


def part_checked_calls(device):
    """Checks of entries: errors of the next call or of check()."""
    library = kvcache.compile(CALLS, device, checks="full")
    key = torch.ones(2, 4, 64, device=device, dtype=torch.bfloat16)
    pool = torch.zeros(2, 6, 16, 4, 64, device=device, dtype=torch.bfloat16)
    bad = torch.tensor([3, 1 << 40], device=device)
    if device == "cpu":
        text = raises(ValueError, library.insert, pool, bad, key, key)
    else:
        library.insert(pool, bad, key, key)
        text = raises(ValueError, library.check)
    assert "'slots': expected a slot from 0 to 95" in text, text
    library.insert(pool, bad.clamp(max=9), key, key)
    library.check()
    stream = torch.cuda.Stream() if device == "cuda" else None
    with torch.cuda.stream(stream):
        if stream:
            library.insert(pool, bad, key, key)
            assert "expected a slot" in raises(ValueError, library.check)


def check_batches(device, attention, layer=None, batches=tuple(BATCHES),
                  **options):
    for name in batches:
        case = Case(attention, BATCHES[name], device, layer=layer,
                    seed=len(name))
        other = case.memory.view(torch.uint8).clone()
        case.insert()
        want, lse = case.expected(**options)
        given = {key: options[key] for key in ("sinks", "alibi", "mask")
                 if key in options}
        what = f"{attention.layout!r} {name}"
        out = Guarded(case.query)
        got = case.run(out=out.view, **given)
        first = got[0] if attention.lse else got
        assert first is out.view
        case.check(out.check(), want, what)
        made = case.run(**given)
        if attention.lse:
            sums = made[1]
            live = ~want.eq(0).all(-1)
            case.check(sums[live], lse[live], what + " lse")
            made = made[0]
        assert torch.equal(made, out.view), what + ": other bits"
        # No byte but those of the new rows has changed.
        changed = (case.memory.view(torch.uint8) != other).sum().item()
        most = 2 * len(case.slots) * case.kv_heads * case.dim \
            * case.memory.element_size()
        assert changed <= most, what + ": other rows were written"


def part_layouts(device):
    for layout, layers in (("nhd", None), ("hnd", None),
                           ("cross_layer_nhd", 3), ("cross_layer_hnd", 3),
                           ("BLNHC", 3), ("LBHNC", 2)):
        check_batches(device, make("bf16", layout, layers=layers),
                      None if layers is None else 1)


def part_types(device):
    for dtype, options in (("f16", {}), ("f8E4M3FN", {}), ("f8E5M2", {}),
                           ("f32", {}),
                           ("bf16", dict(heads=8, kv_heads=8, dim=64, block=32)),
                           ("f8E4M3FN", dict(query_dtype="f16"))):
        check_batches(device, make(dtype, "hnd", **options))


def part_scales(device):
    for scales, dtype, layout, layers in (
            ("side", "f8E4M3FN", "nhd", None), ("head", "f8E5M2", "hnd", None),
            ("head", "i8", "cross_layer_nhd", 3), ("side", "i8", "BLNHC", 3),
            ("token", "f8E4M3FN", "hnd", None), ("token", "i8", "LBHNC", 3)):
        check_batches(device, make(dtype, layout, layers=layers, scales=scales),
                      None if layers is None else 1)


def part_options(device):
    ten = torch.randn(16, generator=torch.Generator().manual_seed(1)).to(device)
    check_batches(device, make(window=40, softcap=5.0, scale=0.2),
                  window=40, softcap=5.0, scale=0.2)
    check_batches(device, make("bf16", "hnd", sinks=True, lse=True), sinks=ten)
    check_batches(device, make(alibi=True, lse=True), alibi=ten.abs() / 8,
                  batches=("decode", "mixed"))
    check_batches(device, make(causal=False), causal=False)


def part_mask(device):
    """Trees of tokens."""
    for batch in ("prompt", "mixed"):
        rows = sum(new for _, new in BATCHES[batch])
        words = torch.randint(-2**31, 2**31, (rows, 5), dtype=torch.int64)
        first = 0
        for _, new in BATCHES[batch]:
            for i in range(new):  # a row sees itself
                words[first + i, i // 32] |= 1 << (i % 32)
            first += new
        words = torch.where(words >= 2**31, words - 2**32, words)
        mask = words.to(torch.int32).to(device)
        check_batches(device, make(mask=True, lse=True), batches=(batch,),
                      mask=mask)


def part_prefixes(device):
    """Requests that begin with the same blocks."""
    attention = make(prefixes=True, lse=True)
    requests = [(200 + 9 * r, 1) for r in range(12)] + [(30, 4)]
    case = Case(attention, requests, device, seed=4)
    case.table[:12, :8] = case.table[0, :8].clone()
    groups = torch.tensor([0, 12, 13], dtype=torch.int32, device=device)
    shared = torch.tensor([128, 0], dtype=torch.int32, device=device)
    case.insert()
    want, lse = case.expected()
    for lists in ((groups, shared), (groups[:1], shared[:0]),
                  (groups, shared * 0)):
        out, sums = case.run(prefix_groups=lists[0], prefix_lengths=lists[1])
        case.check(out, want, "prefixes")
        case.check(sums, lse, "prefixes, lse")


def part_rows_apart(device):
    """Rows of a fused projection, and results of other strides refused."""
    attention = make()
    case = Case(attention, BATCHES["mixed"], device)
    fused = torch.cat([case.query, case.key, case.value], 1)
    packed = case.query
    case.query, case.key, case.value = fused.split([16, 4, 4], 1)
    assert not case.query.is_contiguous()
    case.insert()
    want, _ = case.expected()
    out = case.run()
    case.check(out, want, "rows apart")
    text = raises(ValueError, case.run, out=fused[:, :16])
    assert "'out'" in text, text
    case.query = packed
    case.check(case.run(), want, "rows together")


# ---- Streams, graphs -------------------------------------------------------


def part_streams(device):
    """Calls are launched on the current stream, and streams share nothing."""
    attention = make()
    cases = [Case(attention, [(900 + 11 * r + 50 * s, 1) for r in range(16)],
                  device, seed=s) for s in range(3)]
    wants = []
    for case in cases:
        case.insert()
        wants.append(case.run())
        case.check(wants[-1], case.expected()[0], "serial")
    if device != "cuda":
        return
    streams = [torch.cuda.Stream() for _ in cases]
    torch.cuda.synchronize()
    # Late data: a call on another stream would not see it.
    case, stream = cases[0], streams[0]
    query = case.query.clone()
    case.query.zero_()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)
        case.query.copy_(query)
        out = case.run()
        result = out.clone()
    stream.synchronize()
    assert torch.equal(result, wants[0]), "not on the current stream"
    # The insert, too: rows that come late.
    key = case.key.clone()
    case.key.zero_()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)
        case.key.copy_(key)
        case.insert()
        result = case.run()
    stream.synchronize()
    assert torch.equal(result, wants[0]), "insert: not on the current stream"
    # Three streams at once.
    results = [[] for _ in cases]
    for _ in range(100):
        for case, stream, into in zip(cases, streams, results):
            with torch.cuda.stream(stream):
                into.append(case.run())
    torch.cuda.synchronize()
    for into, want in zip(results, wants):
        assert all(torch.equal(one, want) for one in into), "streams disturb"
    # A workspace that grows while its stream is busy.
    with torch.cuda.stream(streams[1]):
        small = [cases[1].run() for _ in range(50)]
        large = Case(attention, [(3000, 1)] * 64, device, seed=9)
        streams[1].wait_stream(torch.cuda.default_stream())
        large.insert()
        out = large.run()
        more = [cases[1].run() for _ in range(50)]
    torch.cuda.synchronize()
    large.check(out, large.expected()[0], "a larger batch")
    assert all(torch.equal(one, wants[1]) for one in small + more)


GRAPH_BATCHES = [[(300, 1)] * 8, [(17 * r + 1, 1) for r in range(8)],
                 [(0, 1)] * 0 + [(1, 1)] * 8, [(2000 - r, 1) for r in range(8)]]


def graph_turns(case, replay, out, turns=12):
    for turn in range(turns):
        case.change(GRAPH_BATCHES[turn % len(GRAPH_BATCHES)])
        out.fill_(float("nan"))
        replay()
        torch.cuda.synchronize()
        case.check(out, case.expected()[0], f"turn {turn}")


def graph_case(device, seed):
    case = Case(make(), GRAPH_BATCHES[3], device, blocks=1024, seed=seed)
    case.change(GRAPH_BATCHES[0])
    return case


def part_graph(device):
    """Captured with nothing called before, and replayed with other lists."""
    if device != "cuda":
        return
    case = graph_case(device, 1)
    graph = torch.cuda.CUDAGraph()
    out = torch.empty_like(case.query)
    # Programs are compiled before, for another stream than that of the capture.
    case.insert()
    case.run()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        case.insert()
        case.run(out=out)
    graph_turns(case, graph.replay, out)
    # An eager call with a larger workspace does not take that of the graph.
    large = Case(case.attention, [(2000, 1)] * 128, device, seed=5)
    large.insert()
    large.run()
    graph_turns(case, graph.replay, out, 4)


def part_graph_cold(device):
    """The first call of all is in a capture: code is loaded there."""
    if device != "cuda":
        return
    case = graph_case(device, 2)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        case.insert()
        out = case.run()
    graph_turns(case, graph.replay, out)


def part_graph_results(device):
    """Results in the memory of a graph; several graphs, one after the other."""
    if device != "cuda":
        return
    case = graph_case(device, 3)
    pool, graphs, outs = None, [], []
    for _ in range(3):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            case.insert()
            outs.append(case.run() + 0)
        pool = graph.pool()
        graphs.append(graph)
    for turn in range(9):
        case.change(GRAPH_BATCHES[turn % 4])
        graphs[turn % 3].replay()
        torch.cuda.synchronize()
        case.check(outs[turn % 3], case.expected()[0], f"graph {turn % 3}")


# ---- torch.compile ---------------------------------------------------------


def compiled_step(device):
    attention = make("bf16", "cross_layer_nhd", layers=2)
    summed = make(sinks=True, lse=True)
    case = Case(attention, BATCHES["mixed"], device, layer=1)
    one = Case(summed, BATCHES["mixed"], device, seed=8)
    sinks = torch.randn(16, device=device)

    def step(pool, other, query, key, value, starts, lengths, table, slots):
        attention.insert(pool, slots, key, value, layer=1)
        first = attention.run(query * 1.5, pool, starts, lengths, table, layer=1)
        summed.insert(other, slots, key * 2, value)
        out, lse = summed.run(query, other, starts, lengths, table, sinks=sinks)
        return first + out, lse * 2

    def run(function):
        pool, other = case.pool.clone(), one.pool.clone()
        arguments = (case.query, case.key, case.value, case.starts, case.lengths,
                     case.table, case.slots)
        results = function(pool, other, *arguments)
        synchronize(device)
        return [part.clone() for part in (*results, pool, other)]

    # The same memory order, but not what Case views: clone() keeps strides.
    assert case.pool.clone().stride() == case.pool.stride()
    one.table = case.table
    return step, run


def same(got, want):
    for a, b in zip(got, want):
        torch.testing.assert_close(a.nan_to_num(), b.nan_to_num(), rtol=2e-2,
                                   atol=2e-2)


def part_compile(device):
    step, run = compiled_step(device)
    want = run(step)
    for backend in ("eager", "aot_eager"):
        torch._dynamo.reset()
        got = run(torch.compile(step, fullgraph=True, backend=backend))
        assert all(torch.equal(a.nan_to_num(), b.nan_to_num())
                   for a, b in zip(got, want)), backend


def part_compile_inductor(device):
    if device != "cuda":
        return
    step, run = compiled_step(device)
    same(run(torch.compile(step, fullgraph=True)), run(step))


def part_compile_graphs(device):
    """Inductor's own captured graphs."""
    if device != "cuda":
        return
    step, run = compiled_step(device)
    want = run(step)
    function = torch.compile(step, fullgraph=True, mode="reduce-overhead")
    for _ in range(4):
        torch.compiler.cudagraph_mark_step_begin()
        same(run(function), want)


def part_operators(device):
    attention = make("bf16", "cross_layer_nhd", layers=2)
    case = Case(attention, BATCHES["mixed"], device, layer=1)
    case.memory.nan_to_num_(0)
    number = attention._ops.number
    lists = (case.starts, case.lengths, case.table)
    ops = torch.ops.kvcache
    tests = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    for op, arguments in (
            (ops.insert, (case.pool, case.slots, case.key, case.value, 1, None,
                          number)),
            (ops.run, (case.query, case.pool, *lists, 1, [], None, number)),
            (ops.run_out, (case.query, case.pool, *lists, 1, [], None,
                           torch.zeros_like(case.query), None, number))):
        torch.library.opcheck(op.default, arguments, test_utils=tests)


# ---- Threads ---------------------------------------------------------------


def part_threads(device):
    """16 threads: first calls at once, on one stream and on streams of their
    own; growing workspaces."""
    attention = make()
    failures = []
    ready = threading.Barrier(16)

    def work(seed):
        try:
            own = device == "cuda" and seed % 2
            stream = torch.cuda.Stream() if own else None
            with torch.cuda.stream(stream):
                ready.wait()
                for turn in range(6):
                    length = 40 + 37 * seed + 300 * turn
                    case = Case(attention, [(length, 1), (9, 9), (70, 2)] *
                                (1 + turn), device, seed=seed)
                    case.insert()
                    outs = [case.run() for _ in range(5)]
                    if device == "cuda":
                        torch.cuda.current_stream().synchronize()
                    want = case.expected()[0]
                    for out in outs:
                        case.check(out, want, f"thread {seed}, turn {turn}")
        except BaseException as error:
            failures.append(repr(error)[:300])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
