# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# REQUIRES: jax
# RUN: %jax_python %s %kvcache_src
"""kvcache.jax: pools as values, donated and not, layers that are traced."""

import functools
import os
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from kvcache.jax import PagedAttention
from programs import DecodeCase, raises, use_new_cache

cache = use_new_cache()
rng = np.random.default_rng(8)


def slots_of(case):
    slots = []
    for r, length in enumerate(case.lengths):
        count = case.starts[r + 1] - case.starts[r]
        for position in range(length - count, length):
            slots.append(case.table[r, position // 16] * 16 + position % 16)
    return np.array(slots, np.int32)


def lists(case):
    return case.starts, case.lengths, case.table


attention = PagedAttention(32, 8, 64, 16, "f32", "cross_layer_nhd", layers=4)


def step(pool, layer, slots, query, key, value, *lists):
    pool = attention.insert(pool, slots, key, value, layer=layer)
    return pool, attention.run(query, pool, *lists, layer=layer)


def check(case, pool, out, layer=2):
    memory, want = case.expected(layer)
    np.testing.assert_array_equal(np.asarray(pool), memory)
    np.testing.assert_allclose(np.asarray(out), want, rtol=2e-5, atol=2e-5)


# ---- A donated pool is updated in place, others are copied

case = DecodeCase(rng)
rest = (slots_of(case), case.query, case.key, case.value, *lists(case))
donating = jax.jit(step, donate_argnums=0)
pool = jnp.array(case.memory)
place = pool.unsafe_buffer_pointer()
after, out = donating(pool, 2, *rest)
assert after.unsafe_buffer_pointer() == place and pool.is_deleted()
check(case, after, out)
for function in (step, jax.jit(step), jax.jit(step, static_argnums=1)):
    pool = jnp.array(case.memory)
    after, out = function(pool, 2, *rest)
    check(case, after, out)
    np.testing.assert_array_equal(np.asarray(pool), case.memory)
# A pool that is still used after a write has its old contents.
old, new = jax.jit(lambda pool: (pool + 0, attention.insert(
    pool, *rest[:1], case.key, case.value, layer=2)), donate_argnums=0)(
        jnp.array(case.memory))
np.testing.assert_array_equal(np.asarray(old), case.memory)
np.testing.assert_array_equal(np.asarray(new), case.expected()[0])

# Many rows need a workspace of another size than few.
for length in (70, 900):
    case = DecodeCase(rng, blocks=120, lengths=(length, 33), new=(length, 2))
    rest = (slots_of(case), case.query, case.key, case.value, *lists(case))
    check(case, *donating(jnp.array(case.memory), 2, *rest))

# ---- Layers in a loop

case = DecodeCase(rng)
rest = (slots_of(case), case.query, case.key, case.value, *lists(case))


@functools.partial(jax.jit, donate_argnums=0)
def all_layers(pool):
    return jax.lax.scan(lambda pool, layer: step(pool, layer, *rest), pool,
                        jnp.arange(4))


pool, outs = all_layers(jnp.array(case.memory))
want = case.memory.copy()
for layer in range(4):
    memory, out = case.expected(layer)
    want[:, layer] = memory[:, layer]
    np.testing.assert_allclose(np.asarray(outs[layer]), out, rtol=2e-5, atol=2e-5)
np.testing.assert_array_equal(np.asarray(pool), want)

# ---- One layer, sinks, padding, bf16; the same as for arrays of NumPy

import kvcache  # noqa: E402

for dtype, layout in (("f32", "hnd"), ("bf16", "BLNHC")):
    options = dict(block_size=16, dtype=dtype, layout=layout, sinks=True,
                   window=20, softcap=5.0)
    ours = PagedAttention(4, 2, 32, **options)
    theirs = kvcache.PagedAttention(4, 2, 32, **options)
    slots = np.array([5, -1, 33], np.int32)
    sinks = rng.standard_normal(4).astype(np.float32)
    rows = [jnp.asarray(rng.standard_normal((3, n, 32)), jnp.bfloat16 if dtype ==
                        "bf16" else jnp.float32) for n in (4, 2, 2)]
    members = (np.array([0, 1, 3], np.int32), np.array([6, 18], np.int32),
               np.array([[0, 1], [1, 2]], np.int32))
    pool = ours.insert(ours.zeros(4), slots, rows[1], rows[2])
    out = ours.run(rows[0], pool, *members, sinks=sinks)
    assert out.dtype == rows[0].dtype
    arrays = [np.array(part) for part in rows]
    expected = theirs.layout.zeros(4)
    theirs.insert(expected, slots.astype(np.int64), arrays[1], arrays[2])
    np.testing.assert_array_equal(np.asarray(ours.layout.view(pool)), expected)
    np.testing.assert_array_equal(
        np.asarray(out), theirs.run(arrays[0], expected, *members, sinks=sinks))

# ---- The example of the page

page = Path(sys.argv[1], "docs", "python.md").read_text()
examples = [block for block in re.findall(r"```python\n(.*?)```", page, re.S)
            if "kvcache.jax" in block]
assert len(examples) == 1
exec(compile(examples[0], "docs/python.md", "exec"), {})

# ---- Errors



def error(function, *arguments):
    """The text, of one type of error under jit and of another one without."""
    try:
        function(*arguments)
    except (jax.errors.JaxRuntimeError, ValueError) as raised:
        return str(raised)
    raise AssertionError("expected an error")


arguments = (jnp.array(case.memory), 2, *rest)
text = error(step, *arguments[:4], case.key[:2], *arguments[5:])
assert ("insert: argument 'key': expected an extent of 5 in dimension 0, as in "
        "argument 'slots', got 2") in text, text
text = error(step, jnp.zeros((3, 4, 2, 16, 8, 32)), *arguments[1:])
assert "argument 'old': expected an extent of 64 in dimension 5" in text, text
for function in (step, jax.jit(step)):
    text = error(function, arguments[0], 4, *rest)
    assert "expected a layer below 4, got layer 4" in text, text
assert raises(TypeError, attention.insert, arguments[0], *rest[:1], case.key,
              case.value) == "layer: expected a number below 4"
assert raises(TypeError, attention.run, case.query, arguments[0], *lists(case),
              layer=1, sinks=case.lengths) == (
    "sinks: expected none, as sinks=False says")
checked = PagedAttention(32, 8, 64, 16, "f32", "nhd", checks="full")
text = error(checked.insert, checked.zeros(2), np.array([99]), case.key[:1],
             case.value[:1])
assert "expected a slot from 0 to 31" in text, text

# A cache in which nothing can be kept.
os.environ["KVCACHE_CACHE_DIR"] = "/proc/nothing"
one = PagedAttention(4, 2, 32, 16, "f32", "nhd")
pool = one.insert(one.zeros(2), np.array([31]), *np.ones((2, 1, 2, 32), np.float32))
assert pool[:, 1, 15].all() and np.asarray(pool).sum() == 128
