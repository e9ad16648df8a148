# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s %kvcache_src
"""The examples run the same before and after each pass."""

import sys
from pathlib import Path

import checks

root = Path(sys.argv[1])

# cross_layer.mlir is not compiled without passes: its memref is transposed.
EXAMPLES = {
    "insert.mlir":
        "bytes=random,shape=[5242880],range=[-128,127] layer_offset=0 blocks=20 "
        "slots=[3,-1,17] key=random value=random",
    "paged_decode.mlir":
        "pool=random,shape=[4,2,64,16,8,64] layer=2 "
        "query=random,shape=[18,32,64] key=random value=random out=random "
        "starts=[0,1,18,18] lengths=[200,49,0] block_table=iota,shape=[3,13]",
    "functional_host.mlir":
        "pool=random,shape=[20,2,16,8,128] query=random,shape=[3,32,128] "
        "key=random,shape=[3,8,128] value=random,shape=[3,8,128] "
        "starts=[0,1,3] lengths=[30,17] blocks=random,shape=[2,2],range=[0,19] "
        "arg7=random,shape=[3,32,128]",
    "flat_cache.mlir":
        "cache=random,shape=[9,16,8,128] rows=random,shape=[6,8,128] "
        "slots=[3,-1,17,140,144,-16]",
    "strided_pages.mlir":
        "pool=random,shape=[9,16,8,128],strides=[16389,1024,128,1] "
        "rows=random,shape=[3,8,128] slots=[3,-1,17]",
}

checks.expect_translated([
    f"// call: {call}\n" + (root / "examples" / name).read_text()
    for name, call in EXAMPLES.items()
])
