// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Flops are counted where they are known, from the values of a batch.
//
// Two requests, of 5 and 3 tokens with 2 and 1 new ones. Each row sees the
// tokens up to its own: 4 + 5 + 3 keys, for 4 heads of 8 channels twice.
// RUN: kv-run %s --function=causal --in q=random,shape=[3,4,8] --in kv=random,shape=[2,4,4,2,8] \
// RUN:   --in batch.starts=[0,2,3] --in batch.lengths=[5,3] --in batch.table=[0,1,2,3],shape=[2,2] \
// RUN:   --print out | FileCheck %s --check-prefix=CAUSAL
// CAUSAL: out: f32 [3, 4, 8], min
// CAUSAL: flops: {{ *}}1536, {{.*}} GFLOP/s; of attention and contractions only
//
// With positions 4, 1 and 0, the last one beyond all requests, a window of 2
// leaves 2 + 2 keys; 
// RUN: kv-run %s --function=window --in q=random,shape=[3,4,8] --in kv=random,shape=[2,4,4,2,8] \
// RUN:   --in starts=[0,1,2] --in lengths=[5,3] --in table=[0,1,2,3],shape=[2,2] --in positions=[4,1,0] \
// RUN:   --print out | FileCheck %s --check-prefix=WINDOW
// WINDOW: flops: {{ *}}512, {{.*}} GFLOP/s;
//
// A window of each row, the one before and the one after it: rows at 3, 4 and 2 see
// 3 + 2 + 2 keys, and those of the first request at most 5.
// RUN: kv-run %s --function=around --in q=random,shape=[3,4,8] --in kv=random,shape=[2,4,4,2,8] \
// RUN:   --in batch.starts=[0,2,3] --in batch.lengths=[5,3] --in batch.table=[0,1,2,3],shape=[2,2] \
// RUN:   --in s=0.5 --print out | FileCheck %s --check-prefix=AROUND
// AROUND: flops: {{ *}}896, {{.*}} GFLOP/s;
//
// A product of 5 x 7 and 7 x 3, five times.
// RUN: kv-run %s --function=product --in a=random,shape=[5,7] --in b=random,shape=[7,3] \
// RUN:   --in c=zeros,shape=[5,3] | FileCheck %s --check-prefix=PRODUCT
// PRODUCT: flops: {{ *}}1050,
//
// RUN: kv-run %s --function=branch --in a=random,shape=[5,7] --in b=random,shape=[7,3] \
// RUN:   --in c=zeros,shape=[5,3] --in p=1 | FileCheck %s --check-prefix=BRANCH
// BRANCH: flops: {{ *}}not known; linalg.matmul: it is in a branch, or in a loop of unknown length

!kv = !kvcache.cache<2S x ?B x 4N x 2H x 8D x f32>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 4>
!table = !kvcache.block_table<?R x ?M x i32, tokens = 4>
!positioned = !kvcache.batch<?R x ?M x i32, tokens = 4, positions = i64>

func.func @causal(%q: memref<?x4x8xf32>, %kv: !kv, %batch: !batch,
                  %out: memref<?x4x8xf32>) {
  kvcache.attention %q over %kv in %batch into %out causal
    : memref<?x4x8xf32> over !kv in !batch into memref<?x4x8xf32>
  return
}

func.func @window(%q: memref<?x4x8xf32>, %kv: !kv, %starts: memref<?xi32>,
                  %lengths: memref<?xi32>, %table: memref<?x?xi32>,
                  %positions: memref<?xi64>, %out: memref<?x4x8xf32>) {
  %blocks = kvcache.make_block_table %table : memref<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %blocks positions(%positions : memref<?xi64>)
    : memref<?xi32>, memref<?xi32>, !table
  kvcache.attention %q over %kv in %batch into %out causal window 2
    : memref<?x4x8xf32> over !kv in !positioned into memref<?x4x8xf32>
  return
}

func.func @around(%q: memref<?x4x8xf32>, %kv: !kv, %batch: !batch, %s: f32,
                  %out: memref<?x4x8xf32>) {
  kvcache.attention %q over %kv in %batch value_scale(%s) into %out
    window 2 window_right 1
    : memref<?x4x8xf32> over !kv in !batch into memref<?x4x8xf32>
  return
}

func.func @product(%a: memref<?x7xf32>, %b: memref<7x3xf32>, %c: memref<?x3xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c5 = arith.constant 5 : index
  scf.for %i = %c0 to %c5 step %c1 {
    linalg.matmul ins(%a, %b : memref<?x7xf32>, memref<7x3xf32>)
                  outs(%c : memref<?x3xf32>)
  }
  return
}

func.func @branch(%a: memref<?x7xf32>, %b: memref<7x3xf32>, %c: memref<?x3xf32>,
                  %p: i1) {
  scf.if %p {
    linalg.matmul ins(%a, %b : memref<?x7xf32>, memref<7x3xf32>)
                  outs(%c : memref<?x3xf32>)
  }
  return
}
