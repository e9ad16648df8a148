// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kv-run calls a function with what the command line says, and shows the rest.
//
// A strided pool with rows of poison between the blocks, and one that is packed.
// RUN: kv-run %s --function=insert --in pool=zeros,shape=[2,2,3] --in slots=[3,-1,0] \
// RUN:   --in rows=iota --print pool --print-all \
// RUN:   --out pool=@%t.bin --out pool=@%t.npy | FileCheck %s --check-prefix=INSERT
// INSERT:      pool: f32 [2, 2, 3], min 0, max 8, mean 2
// INSERT-NEXT: {{^}}  6 7 8
// INSERT-NEXT: {{^}}  0 0 0
// INSERT-NEXT: {{^}}  0 0 0
// INSERT-NEXT: {{^}}  0 1 2
// INSERT-NEXT: wrote {{.*}}.bin: 72 bytes, strides [12, 3, 1], offset 0
// INSERT-NEXT: wrote {{.*}}.npy: f32 [2, 2, 3]
// INSERT-NEXT: workspace: 0 bytes
// INSERT-NEXT: bytes: {{ *}}60 in tensors that are read, 48 in those that are written;
// INSERT-NEXT: flops: {{ *}}none counted: there is no attention and no contraction
// INSERT-NEXT: time: {{ *}}{{[0-9.]+ [um]?s}} for the first call, {{[0-9.]+ m?s}} to compile
//
// What was written can be read: the bytes with their strides, and the array,
// which here has other strides again.
// RUN: kv-run %s --function=insert --in pool=@%t.bin,shape=[2,2,3] --in slots=1 \
// RUN:   --in rows=9,shape=[1,3] --print pool | FileCheck %s --check-prefix=BYTES
// BYTES:      pool: f32 [2, 2, 3], min 0, max 9
// BYTES-NEXT: {{^}}  6 7 8 9 9 9 0 0 ...
// RUN: kv-run %s --function=sum --in x=@%t.npy,shape=[12] --out sum=@%t.sum.npy \
// RUN:   --print sum --repeat=3 | FileCheck %s --check-prefix=SUM
// SUM:      sum: f32 [], min 24, max 24, mean 24
// SUM-NEXT: {{^}}  24
// SUM:      time: {{.*}} for the first call
// SUM-NEXT: {{^}}           min {{.*}}s, median {{.*}}s of 3 more
//
// Offset, strides, and what is printed of integers and of NaN.
// RUN: kv-run %s --function=nothing --in n=3 --in x=1.5 --in a=[1,2,3],shape=[3],strides=[2],offset=4 \
// RUN:   --in b=poison,shape=[2,2] --in c=random,range=[-2,-2],shape=[1,1] --out a=@%t.a.bin \
// RUN:   --print a --print b --print c | FileCheck %s --check-prefix=PRINT
// PRINT:      a: i64 [3], min 1, max 3, mean 2
// PRINT-NEXT: {{^}}  1 2 3
// PRINT-NEXT: b: bf16 [2, 2], 4 NaN
// PRINT-NEXT: {{^}}  {{-?}}nan
// PRINT-NEXT: c: f64 [1, 1], min -2, max -2, mean -2
// PRINT-NEXT: {{^}}  -2
// PRINT-NEXT: wrote {{.*}}.a.bin: 72 bytes, strides [2], offset 4
//
// The same seed gives the same numbers, in whatever layout.
// RUN: kv-run %s --function=nothing --in n=3 --in x=0 --in a=0,shape=[1] \
// RUN:   --in b=random,shape=[3,5],seed=4,strides=[8,1] --in c=random,shape=[3,5],seed=4 \
// RUN:   --print b --print c | FileCheck %s --check-prefix=SEED
// SEED:      b: bf16 [3, 5], min [[MIN:-[0-9]\.[0-9]]]
// SEED:      c: f64 [3, 5], min [[MIN]]
//
// The example of --help and of docs/kv-run.md.
// RUN: kv-run %kvcache_src/examples/insert.mlir --in bytes=zeros,shape=[5242880] \
// RUN:   --in layer_offset=0 --in blocks=20 --in slots=[3,-1,17] --in key=random \
// RUN:   --in value=random --print bytes --repeat=100 | FileCheck %s --check-prefix=DOCS
// DOCS: bytes: i8 [5242880], min -{{[0-9]+}}, max {{[0-9]+}}, mean
// DOCS: median {{.*}} of 100 more
//
// RUN: kv-run --help | FileCheck %s --check-prefix=HELP
// HELP:      OVERVIEW: Compiles a program on paged KV caches for this CPU
// HELP:      kv-run options:
// HELP-NOT:  --mlir-print-ir
// HELP:      --in=<name=value>
// HELP:      VALUES OF ARGUMENTS:
// HELP:      random {{ *}}normally distributed
// HELP:      EXAMPLE:

!kv = !kvcache.cache<?B x 2N x 3D x f32, strides = [B = 12], align = 4>
!slots = !kvcache.slots<?T x i64, rows_per_block = 2, pad = skip_negative>

func.func @insert(%pool: !kv, %slots: !slots, %rows: memref<?x3xf32>) {
  kvcache.index_copy %rows into %pool at %slots
    : memref<?x3xf32> into !kv at !slots
  return
}

func.func @sum(%x: memref<?xf32>, %sum: memref<f32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %n = memref.dim %x, %c0 : memref<?xf32>
  %total = scf.for %i = %c0 to %n step %c1 iter_args(%s = %zero) -> f32 {
    %v = memref.load %x[%i] : memref<?xf32>
    %t = arith.addf %s, %v : f32
    scf.yield %t : f32
  }
  memref.store %total, %sum[] : memref<f32>
  return
}

func.func @nothing(%n: index, %x: f32,
                   %a: memref<?xi64, strided<[?], offset: 0>>,
                   %b: memref<?x?xbf16, strided<[?, 1]>>, %c: memref<?x?xf64>) {
  return
}
