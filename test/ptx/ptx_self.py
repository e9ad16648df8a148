# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""The interpreter itself: what it computes, and what it stops at."""

import numpy as np
import ptx

HEAD = """
.version 8.6
.target sm_90a
.address_size 64
.visible .entry k(
\t.param .u64 .ptr .global .align 1 k_param_0,
\t.param .u64 k_param_1
)
.maxntid 64
{
\t.reg .pred \t%p<9>;
\t.reg .b16 \t%rs<9>;
\t.reg .b32 \t%r<9>;
\t.reg .b64 \t%rd<9>;
"""


def run(body, values, number=0, grid=(2, 1, 1), block=(64, 1, 1)):
    memory = ptx.Memory()
    memory.add(values)
    kernel = ptx.parse(HEAD + body + "\n\tret;\n}\n")["k"]
    ptx.launch(kernel, grid, block,
               {"k_param_0": values.ctypes.data, "k_param_1": number}, memory)
    return values


# The address of an i32 for each thread of the grid, in %rd2; its number in %r3.
THREAD = """
\tld.param.b64 \t%rd1, [k_param_0];
\tmov.u32 \t%r1, %tid.x;
\tmov.u32 \t%r2, %ctaid.x;
\tshl.b32 \t%r3, %r2, 6;
\tor.b32 \t%r3, %r3, %r1;
\tmul.wide.u32 \t%rd3, %r3, 4;
\tadd.s64 \t%rd2, %rd1, %rd3;
"""


def fails(message, body, values, **kwargs):
    try:
        run(body, values, **kwargs)
    except ptx.PtxError as error:
        assert message in str(error), error
        return
    raise AssertionError(f"expected '{message}'")


def numbers(count=128):
    return np.zeros(count, np.int32)


got = run(THREAD + "\tst.global.b32 \t[%rd2], %r3;", numbers())
assert got.tolist() == list(range(128))

# A branch that some threads take, a loop, and signed arithmetic.
got = run(THREAD + """
\tmov.b32 \t%r4, -3;
\tsetp.gt.s32 \t%p1, %r1, 60;
\t@%p1 bra \t$L__1;
\tmov.b32 \t%r4, 0;
$L__2:
\tadd.s32 \t%r4, %r4, 1;
\tsetp.lt.s32 \t%p2, %r4, %r1;
\t@%p2 bra \t$L__2;
$L__1:
\tst.global.b32 \t[%rd2], %r4;""", numbers())
assert got.tolist() == 2 * ([max(1, i) for i in range(61)] + [-3] * 3)

# What others of the block wrote is there after a barrier, and a vote is of all
# threads of a block.
SHARED = ".shared .align 16 .b8 buffer[256];\n"
got = run(SHARED + THREAD + """
\tmov.b64 \t%rd4, buffer;
\tmul.wide.u32 \t%rd5, %r1, 4;
\tadd.s64 \t%rd6, %rd4, %rd5;
\tst.shared.b32 \t[%rd6], %r3;
\tbar.sync \t0;
\tsub.s64 \t%rd7, 252, %rd5;
\tadd.s64 \t%rd7, %rd4, %rd7;
\tld.shared.b32 \t%r5, [%rd7];
\tsetp.lt.u32 \t%p1, %r3, 100;
\tbarrier.cta.red.and.pred \t%p2, 0, %p1;
\tselp.b32 \t%r6, %r5, -1, %p2;
\tst.global.b32 \t[%rd2], %r6;""", numbers())
assert got.tolist() == list(range(63, -1, -1)) + [-1] * 64

# A shuffle within a warp; numbers of 16 bits, of which a NaN is none.
got = run(THREAD + """
\tshfl.sync.bfly.b32 \t%r4, %r3, 5, 31, -1;
\tst.global.b32 \t[%rd2], %r4;""", numbers())
assert got.tolist() == [i ^ 5 for i in range(128)]
got = run(THREAD + """
\tmov.b32 \t%r4, 0x7FC0C040;
\tmov.b32 \t%r5, 0xBF803F80;
\tmax.bf16x2 \t%r6, %r4, %r5;
\tabs.bf16x2 \t%r7, %r6;
\tst.global.b32 \t[%rd2], %r7;""", numbers())
assert set(got.tolist()) == {0x3F803F80}

fails("do not get to", THREAD + """
\tsetp.gt.u32 \t%p1, %r1, 40;
\t@%p1 shfl.sync.bfly.b32 \t%r4, %r3, 1, 31, -1;""", numbers())
fails("in no buffer", THREAD + "\tst.global.b32 \t[%rd2], %r3;", numbers(127))
fails("in no buffer", THREAD + "\tld.global.b32 \t%r4, [%rd2+-4];", numbers())
fails("not aligned to 8", THREAD + "\tld.global.b64 \t%rd4, [%rd2];",
      numbers(256))
fails("outside of shared", SHARED + THREAD + """
\tmov.b64 \t%rd4, buffer;
\tld.shared.b32 \t%r5, [%rd4+256];""", numbers())
fails("local memory", "\t.local .align 4 .b8 \t__local_depot0[8];" + THREAD,
      numbers())
fails("not known", THREAD + "\tfrobnicate.b32 \t%r4, %r3;", numbers())
fails("nothing was written", THREAD + "\tst.global.b32 \t[%rd2], %r8;",
      numbers())
print("ok")
