# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s %kvcache_src
"""The programs of the tests of passes, and the examples, run the same before and
after each pass: each public function, with calls made from its signature."""

import collections
import os
import re
import subprocess
import sys
from pathlib import Path

root = Path(sys.argv[1])

# How many functions of each file run at least. Others are skipped, each with a
# reason that is printed: operations of dialects that are not linked and are not
# raised, functions without a body, and what cannot be passed or compiled.
RUN = {
    "cross_layer.mlir": 1,
    "flat_cache.mlir": 2,
    "functional_host.mlir": 1,
    "insert.mlir": 1,
    "last_layer.mlir": 1,
    "paged_decode.mlir": 1,
    "strided_pages.mlir": 1,
    "iree_hnd.mlir": 1,
    "iree_index_copy.mlir": 1,
    "iree_index_put.mlir": 1,
    "jax_gather_ctx.mlir": 1,
    "jax_write_2d.mlir": 1,
    "jax_write_flat.mlir": 1,
    "bufferize-indices.mlir": 13,
    "bufferize-pools.mlir": 10,
    "bufferize.mlir": 7,
    "check-copies-allowed.mlir": 2,
    "check-copies-elements.mlir": 3,
    "check-copies.mlir": 10,
    "drop-donated-results.mlir": 9,
    "effects-into.mlir": 4,
    "effects.mlir": 5,
    "fold-permutes-no.mlir": 7,
    "fold-permutes.mlir": 13,
    "fold-relayout.mlir": 13,
    "layout-report.mlir": 1,
    "optimize.mlir": 3,
    "outline-workspace-size.mlir": 7,
    "own-destinations.mlir": 3,
    "raise-loops-declined.mlir": 25,
    "raise-loops.mlir": 4,
    "raise-scatter-declined.mlir": 1,
    "raise-scatter.mlir": 11,
    "raise-views.mlir": 4,
    "scatter-to-index-copy-no.mlir": 13,
    "scatter-to-index-copy.mlir": 15,
    "specialize-block-strides.mlir": 1,
    "specialize-page-stride-no.mlir": 3,
    "specialize-page-stride.mlir": 11,
    "split-layer-groups-calls.mlir": 1,
    "split-layer-groups-memrefs.mlir": 1,
    "split-layer-groups-no.mlir": 11,
    "split-layer-groups-outline-chains.mlir": 3,
    "split-layer-groups-outline.mlir": 1,
    "split-layer-groups-parts.mlir": 7,
    "split-layer-groups-regions.mlir": 5,
    "split-layer-groups.mlir": 9,
    "split-updates.mlir": 6,
    "whole-blocks.mlir": 16,
}

files = [path for folder in ("test/Transforms", "test/Raise", "test/Raise/Inputs",
                             "test/RowDemand", "examples")
         for path in sorted((root / folder).glob("*.mlir"))
         # What passes refuse does not run.
         if not path.stem.endswith("-invalid")]
tool = Path(os.environ["KV_BUILD_DIR"]) / "bin" / "kv-check-translation"
# One thread: where a pool has fewer blocks than a list has numbers, some are
# twice in it, and which of two rows a parallel loop leaves there is not said.
done = subprocess.run([tool, "--each-function", *files], text=True,
                      capture_output=True,
                      env=dict(os.environ, KVRT_NUM_THREADS="1"))
print(done.stdout, done.stderr, sep="\n")
assert done.returncode == 0, done.returncode

ran = collections.Counter(
    Path(line.split()[1]).name
    for line in done.stdout.splitlines() if line.startswith("ran "))
skipped = [line for line in done.stdout.splitlines()
           if line.startswith("skipped ")]
print(f"{sum(ran.values())} functions ran, {len(skipped)} are skipped")
for name, least in RUN.items():
    assert ran[name] >= least, f"{name}: {ran[name]} of {least} ran"
for line in skipped:
    assert re.fullmatch(r"skipped \S+ \S+: .+", line), line

# Passes that change nothing would prove nothing.
changed = {match[1]: int(match[2]) for match in
           re.finditer(r"^changed by (.+): (\d+)$", done.stdout, re.MULTILINE)}
for step, least in {"raise": 8, "fold-permutes": 12, "scatter-to-index-copy": 25,
                    "specialize-page-stride": 15}.items():
    assert changed[step] >= least, f"{step} changed {changed[step]} programs"
