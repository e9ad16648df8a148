// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a program does before and after it runs on sampled rows only: of 8 rows,
// 2 are sampled. Requests have 20 and 3 tokens, of which 5 and 3 are new.
//
// DEFINE: %{batch} = --in starts=[0,5,8] --in lengths=[20,3] --in blocks=[0,1,2,3],shape=[2,2]
// DEFINE: %{rest} = --in x=random,shape=[8,32] --in wq=random --in head=random --in pool=random,shape=[2,4,16,2,16]
//
// RUN: kv-opt %s --kvcache-split-layer-groups > %t.mlir
// RUN: FileCheck %s --check-prefix=SPLIT < %t.mlir
// SPLIT-COUNT-2: kvcache.select_rows
//
// Before: rows see 16 + 17 + 18 + 19 + 20 + 1 + 2 + 3 = 96 keys, for 2 heads of
// 16 channels twice; products are 8 x 32 x 32 and 2 x 32 x 96.
// 96 * 128 + 2 * 8 * 32 * 32 + 2 * 2 * 32 * 96
// RUN: kv-run %s --function=sampled %{batch} %{rest} --in sampled=[2,7] --in logits=poison,shape=[2,96] | FileCheck %s --check-prefix=ALL
// ALL: flops: {{ *}}40960, {{.*}} GFLOP/s; of attention and contractions only
//
// After: rows 2 and 7 see 18 + 3 keys. Two rows in all products.
// 21 * 128 + 2 * 2 * 32 * 32 + 2 * 2 * 32 * 96
// RUN: kv-run %t.mlir --function=sampled %{batch} %{rest} --in sampled=[2,7] --in logits=poison,shape=[2,96] | FileCheck %s --check-prefix=SELECTED
// SELECTED: flops: {{ *}}19072, {{.*}} GFLOP/s; of attention and contractions only
//
// Of three entries two count, by an argument; the third has products but sees
// no key. Rows have positions: row 2 is at 9 and sees 10 keys, row 7 sees 3.
// 13 * 128 + 2 * 3 * 32 * 32 + 2 * 3 * 32 * 96
// RUN: kv-run %t.mlir --function=padded %{batch} %{rest} --in sampled=[2,7,-1] --in valid=[2] --in logits=poison,shape=[3,96] \
// RUN:   --in positions=[0,1,9,18,19,0,1,2] | FileCheck %s --check-prefix=PADDED
// PADDED: flops: {{ *}}26240,
//
// The same without the split: 1 + 2 + 10 + 19 + 20 + 1 + 2 + 3 = 58 keys.
// 58 * 128 + 2 * 8 * 32 * 32 + 2 * 3 * 32 * 96
// RUN: kv-run %s --function=padded %{batch} %{rest} --in sampled=[2,7,-1] --in valid=[2] --in logits=poison,shape=[3,96] \
// RUN:   --in positions=[0,1,9,18,19,0,1,2] | FileCheck %s --check-prefix=PADDED-ALL
// PADDED-ALL: flops: {{ *}}42240,

!kv    = !kvcache.cache<2S x ?B x 16N x 2H x 16D x f32>
!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!positioned = !kvcache.batch<?R x ?M x i32, tokens = 16, positions = i32>
!heads = tensor<?x2x16xf32>

func.func @sampled(
    %x: tensor<?x32xf32> {kvcache.name = "x"},
    %starts: tensor<?xi32> {kvcache.name = "starts"},
    %lengths: tensor<?xi32> {kvcache.name = "lengths"},
    %blocks: tensor<?x?xi32> {kvcache.name = "blocks"},
    %sampled: tensor<?xi32> {kvcache.name = "sampled"},
    %wq: tensor<32x32xf32> {kvcache.name = "wq"},
    %head: tensor<32x96xf32> {kvcache.name = "head"},
    %pool: !kv {kvcache.name = "pool"})
    -> (tensor<?x96xf32> {kvcache.name = "logits"}) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : tensor<?x32xf32>
  %q0 = tensor.empty(%t) : tensor<?x32xf32>
  %q1 = linalg.fill ins(%zero : f32) outs(%q0 : tensor<?x32xf32>) -> tensor<?x32xf32>
  %q = linalg.matmul ins(%x, %wq : tensor<?x32xf32>, tensor<32x32xf32>)
    outs(%q1 : tensor<?x32xf32>) -> tensor<?x32xf32>
  %query = tensor.expand_shape %q [[0], [1, 2]] output_shape [%t, 2, 16]
    : tensor<?x32xf32> into !heads
  %table = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table
    : tensor<?xi32>, tensor<?xi32>, !table
  %a0 = tensor.empty(%t) : !heads
  %a = kvcache.attention %query over %pool in %batch into %a0 causal
    : !heads over !kv in !batch into !heads
  %y = tensor.collapse_shape %a [[0], [1, 2]] : !heads into tensor<?x32xf32>
  %s = tensor.dim %sampled, %c0 : tensor<?xi32>
  %l0 = tensor.empty(%s) : tensor<?x96xf32>
  %y0 = tensor.empty(%s) : tensor<?x32xf32>
  %last = linalg.generic {
      indexing_maps = [affine_map<(i, d) -> (i)>, affine_map<(i, d) -> (i, d)>],
      iterator_types = ["parallel", "parallel"]}
      ins(%sampled : tensor<?xi32>) outs(%y0 : tensor<?x32xf32>) {
  ^bb0(%i: i32, %out: f32):
    %row = arith.index_cast %i : i32 to index
    %d = linalg.index 1 : index
    %v = tensor.extract %y[%row, %d] : tensor<?x32xf32>
    linalg.yield %v : f32
  } -> tensor<?x32xf32>
  %l1 = linalg.fill ins(%zero : f32) outs(%l0 : tensor<?x96xf32>) -> tensor<?x96xf32>
  %logits = linalg.matmul ins(%last, %head : tensor<?x32xf32>, tensor<32x96xf32>)
    outs(%l1 : tensor<?x96xf32>) -> tensor<?x96xf32>
  return %logits : tensor<?x96xf32>
}

func.func @padded(
    %x: tensor<?x32xf32> {kvcache.name = "x"},
    %starts: tensor<?xi32> {kvcache.name = "starts"},
    %lengths: tensor<?xi32> {kvcache.name = "lengths"},
    %blocks: tensor<?x?xi32> {kvcache.name = "blocks"},
    %positions: tensor<?xi32> {kvcache.name = "positions"},
    %sampled: tensor<?xi32> {kvcache.name = "sampled"},
    %valid: tensor<1xi32> {kvcache.name = "valid"},
    %wq: tensor<32x32xf32> {kvcache.name = "wq"},
    %head: tensor<32x96xf32> {kvcache.name = "head"},
    %pool: !kv {kvcache.name = "pool"})
    -> (tensor<?x96xf32> {kvcache.name = "logits"}) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %t = tensor.dim %x, %c0 : tensor<?x32xf32>
  %q0 = tensor.empty(%t) : tensor<?x32xf32>
  %q1 = linalg.fill ins(%zero : f32) outs(%q0 : tensor<?x32xf32>) -> tensor<?x32xf32>
  %q = linalg.matmul ins(%x, %wq : tensor<?x32xf32>, tensor<32x32xf32>)
    outs(%q1 : tensor<?x32xf32>) -> tensor<?x32xf32>
  %query = tensor.expand_shape %q [[0], [1, 2]] output_shape [%t, 2, 16]
    : tensor<?x32xf32> into !heads
  %table = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %batch = kvcache.make_batch %starts, %lengths, %table positions(%positions : tensor<?xi32>)
    : tensor<?xi32>, tensor<?xi32>, !table
  %a0 = tensor.empty(%t) : !heads
  %a = kvcache.attention %query over %pool in %batch into %a0 causal
    : !heads over !kv in !positioned into !heads
  %y = tensor.collapse_shape %a [[0], [1, 2]] : !heads into tensor<?x32xf32>
  %s = tensor.dim %sampled, %c0 : tensor<?xi32>
  %r = tensor.dim %starts, %c0 : tensor<?xi32>
  %e0 = tensor.empty(%s) : tensor<?x32xf32>
  %e1 = tensor.empty(%r) : tensor<?xi32>
  %e2 = tensor.empty(%s) : tensor<?xi32>
  %last:3 = kvcache.select_rows %y of %batch at %sampled, %valid into %e0, %e1, %e2
    : tensor<?x32xf32> of !positioned at tensor<?xi32>, tensor<1xi32>
    into tensor<?x32xf32>, tensor<?xi32>, tensor<?xi32>
  %l0 = tensor.empty(%s) : tensor<?x96xf32>
  %l1 = linalg.fill ins(%zero : f32) outs(%l0 : tensor<?x96xf32>) -> tensor<?x96xf32>
  %logits = linalg.matmul ins(%last#0, %head : tensor<?x32xf32>, tensor<32x96xf32>)
    outs(%l1 : tensor<?x96xf32>) -> tensor<?x96xf32>
  return %logits : tensor<?x96xf32>
}
