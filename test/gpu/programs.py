# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The programs of the bundle: what is compiled here and run on a GPU.

Each Case is a function of one library. Its pool is described as a caller sees
it, so that tests and benchmarks can make buffers for it.
"""

from dataclasses import dataclass, replace

TOKENS = 16


@dataclass(frozen=True)
class Case:
    name: str
    element_type: str = "bf16"
    heads: int = 8
    channels: int = 128
    order: str = "SBNHD"  # of the axes of one layer, slowest first
    layers: int = 1       # > 1: one layer of a cross-layer pool, seen as bytes
    block_factor: int = 1  # the block stride, in packed blocks
    block_extra: int = 0   # elements more
    stride: str = "constant"  # or "?", "? mult 16": what the type says
    align: int = 16
    slots: str = "i64"
    pad: str = "skip_negative"
    strided_rows: bool = False
    schedule: str = ""
    versioned: bool = False  # a test at run time picks the code for packed
    op: str = "index_copy"  # or scatter, by block and offset

    @property
    def element_bytes(self):
        return 4 if self.element_type == "f32" else 2

    def sizes(self, blocks):
        return dict(S=2, B=blocks, N=TOKENS, H=self.heads, D=self.channels)

    def geometry(self, blocks):
        """Shape and strides over S, B, N, H, D, and the number of elements
        from the first to past the last, in elements."""
        sizes = self.sizes(blocks)
        step, strides = 1, {}
        for axis in reversed(self.order):
            if axis == "B":
                step = step * self.block_factor * self.layers + self.block_extra
            strides[axis] = step
            step *= sizes[axis]
        return ([sizes[a] for a in "SBNHD"], [strides[a] for a in "SBNHD"],
                step)

    def layer_offset(self, layer):
        """In elements: a layer holds both sides of a block."""
        return layer * 2 * TOKENS * self.heads * self.channels

    def cache_type(self):
        text = (f"2S x ?B x {TOKENS}N x {self.heads}H x {self.channels}D x "
                f"{self.element_type}, order = [{', '.join(self.order)}]")
        if self.stride != "constant":
            text += f", strides = [B = {self.stride}]"
        elif self.block_factor * self.layers > 1:
            _, strides, _ = self.geometry(1)
            text += f", strides = [B = {strides[1]}]"
        return f"!kvcache.cache<{text}, align = {self.align}>"

    def text(self):
        row = f"{self.heads}x{self.channels}x{self.element_type}"
        rows = f"memref<?x{row}>"
        if self.strided_rows:
            rows = f"memref<?x{row}, strided<[?, {self.channels}, 1]>>"
        slots = (f"!kvcache.slots<?T x {self.slots}, rows_per_block = {TOKENS},"
                 f" pad = {self.pad}>")
        cache = self.cache_type()
        if self.layers > 1:
            pool = "%pool: memref<?xi8>, %offset: index, %blocks: index"
            view = (f"%cache = kvcache.view %pool offset(%offset) "
                    f"extents(B = %blocks) : memref<?xi8> to {cache}")
        else:
            pool, view = f"%cache: {cache}", ""
        schedule = f" schedule {self.schedule}" if self.schedule else ""

        def write(name, layout):
            return (f"kvcache.index_copy %key, %value into {name} at "
                    f"%where{schedule} : {rows}, {rows} into {layout} "
                    f"at {slots}")

        body = write("%cache", cache)
        if self.versioned:
            packed = replace(self, stride="constant", block_factor=1,
                             align=16).cache_type()
            body = f"""
  %packed = kvcache.has_facts %cache : {cache} has {packed}
  scf.if %packed {{
    %c = kvcache.cast %cache : {cache} to {packed}
    {write("%c", packed)}
  }} else {{
    {body}
  }}"""
        if self.op == "scatter":
            return f"""
func.func @{self.name}({pool}, %to: memref<?x{self.slots}>,
                       %at: memref<?x{self.slots}>, %key: {rows},
                       %value: {rows}) {{
  {view}
  kvcache.scatter %key, %value into %cache at %to, %at
    pad = {self.pad} : {rows}, {rows} into {cache}
    at memref<?x{self.slots}>, memref<?x{self.slots}>
  return
}}
"""
        return f"""
func.func @{self.name}({pool}, %slots: memref<?x{self.slots}>,
                       %key: {rows}, %value: {rows}) {{
  {view}
  %where = kvcache.make_slots %slots : memref<?x{self.slots}> to {slots}
  {body}
  return
}}
"""


# The four layouts of the benchmark, in two element types.
LAYOUTS = [
    Case("nhd"),
    Case("hnd", order="SBHND"),
    Case("nhd_doubled", block_factor=2),
    Case("cross_layer", order="BSNHD", layers=4),
]

CORRECTNESS = (
    LAYOUTS
    + [
        Case("nhd_f32", "f32"),
        Case("hnd_f32", "f32", order="SBHND"),
        Case("nhd_doubled_f32", "f32", block_factor=2),
        Case("cross_layer_f32", "f32", order="BSNHD", layers=3),
        Case("cross_layer_hnd", order="BHSND", layers=1),
        Case("run_time_stride", block_factor=3, stride="?"),
        Case("run_time_stride_16", order="SBHND", block_factor=2,
             stride="? mult 16"),
        Case("heads_slowest", order="SHBND"),
        Case("channels_slow", channels=32, order="SBDNH"),
        Case("i32_slots", slots="i32", pad="skip_out_of_range"),
        Case("strided_rows", strided_rows=True),
        Case("odd_46", heads=3, channels=46, align=4),
        Case("odd_5_f32", "f32", heads=2, channels=5, align=4),
        Case("one_head_f16", "f16", heads=1, channels=64),
        Case("wide_rows", "f32", heads=32, channels=128),
        Case("narrow_align", align=2),
        Case("odd_stride", block_extra=3, stride="?", align=2),
        Case("versioned_packed", stride="?", align=2, versioned=True),
        Case("versioned_strided", stride="?", align=2, block_factor=2,
             versioned=True),
    ]
)

# What the facts make of one layout: measured beside the packed one.
VARIANTS = [
    Case("nhd_mult16", block_factor=2, stride="? mult 16"),
    Case("nhd_generic", block_factor=2, stride="?", align=2),
    Case("nhd_odd", block_extra=1, stride="?", align=2),
] + [replace(case, name=f"scatter_{case.name}", op="scatter")
     for case in LAYOUTS]
