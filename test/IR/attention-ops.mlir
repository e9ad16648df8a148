// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every form of an operation survives printing, in custom and generic form, and
// bytecode.
//
// RUN: kv-opt %s | FileCheck %s
// RUN: kv-opt %s | kv-opt | FileCheck %s
// RUN: kv-opt %s --mlir-print-op-generic | kv-opt | FileCheck %s
// RUN: kv-opt %s --emit-bytecode | kv-opt | FileCheck %s

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!k = !kvcache.cache<?B x 16N x 1H x 192D x bf16, access = read>
!v = !kvcache.cache<?B x 16N x 128D x f16, strides = [B = ?]>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!positions = !kvcache.batch<4R x 8M x i64, tokens = 16, positions = i64>

// CHECK-DAG: ![[T_KV:kv_nhd[0-9]*]] = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>{{$}}
// CHECK-DAG: ![[T_K:kv_nhd[0-9]*]] = !kvcache.cache<?B x 16N x 1H x 192D x bf16, access = read>{{$}}
// CHECK-DAG: ![[T_V:kv_nd_strided[0-9]*]] = !kvcache.cache<?B x 16N x 128D x f16, strides = [B = ?]>{{$}}
// CHECK-DAG: ![[T_BATCH:kv_batch[0-9]*]] = !kvcache.batch<?R x ?M x i32, tokens = 16>{{$}}
// CHECK-DAG: ![[T_POSITIONS:kv_batch[0-9]*]] = !kvcache.batch<4R x 8M x i64, tokens = 16, positions = i64>{{$}}

// CHECK-LABEL: func.func @one_cache(
// CHECK-SAME: %[[Q:[^ ]*]]: memref<?x32x128xbf16, strided<[?, 128, 1], offset: ?>>, %[[C:[^ ]*]]: ![[T_KV]], %[[B:[^ ]*]]: ![[T_BATCH]], %[[O:[^ ]*]]: memref<?x32x128xf32>, %[[L:[^ ]*]]: memref<?x32xf32>)
func.func @one_cache(%q: memref<?x32x128xbf16, strided<[?, 128, 1], offset: ?>>, %cache: !kv, %batch: !batch, %o: memref<?x32x128xf32>, %l: memref<?x32xf32>) {
  // CHECK: {{^ *}}kvcache.attention %[[Q]] over %[[C]] in %[[B]] into %[[O]] : memref<?x32x128xbf16, strided<[?, 128, 1], offset: ?>> over ![[T_KV]] in ![[T_BATCH]] into memref<?x32x128xf32>{{$}}
  kvcache.attention %q over %cache in %batch into %o
    : memref<?x32x128xbf16, strided<[?, 128, 1], offset: ?>> over !kv in !batch into memref<?x32x128xf32>
  // CHECK: {{^ *}}kvcache.attention %[[Q]] over %[[C]] in %[[B]] into %[[O]], %[[L]] causal {tag} : memref<?x32x128xbf16, strided<[?, 128, 1], offset: ?>> over ![[T_KV]] in ![[T_BATCH]] into memref<?x32x128xf32>, memref<?x32xf32>{{$}}
  kvcache.attention %q over %cache in %batch into %o, %l causal {tag}
    : memref<?x32x128xbf16, strided<[?, 128, 1], offset: ?>> over !kv in !batch into memref<?x32x128xf32>, memref<?x32xf32>
  return
}

// Keys and values have layouts, element types and channels of their own.

// CHECK-LABEL: func.func @two_caches(
// CHECK-SAME: %[[Q:[^ ]*]]: tensor<4x16x192xf16>, %[[K:[^ ]*]]: ![[T_K]], %[[V:[^ ]*]]: ![[T_V]], %[[B:[^ ]*]]: ![[T_POSITIONS]], %[[A:[^ ]*]]: tensor<16xf32>, %[[S:[^ ]*]]: tensor<16xf32>, %[[O:[^ ]*]]: tensor<4x16x128xf16>, %[[L:[^ ]*]]: tensor<4x16xf32>)
func.func @two_caches(%q: tensor<4x16x192xf16>, %k: !k, %v: !v, %batch: !positions, %alibi: tensor<16xf32>, %sinks: tensor<16xf32>,
                      %o: tensor<4x16x128xf16>, %l: tensor<4x16xf32>) -> (tensor<4x16x128xf16>, tensor<4x16xf32>) {
  // CHECK: %[[R:.*]]:2 = kvcache.attention %[[Q]] over %[[K]], %[[V]] in %[[B]] alibi(%[[A]] : tensor<16xf32>) sinks(%[[S]] : tensor<16xf32>) into %[[O]], %[[L]] causal window 4096 softcap 3.000000e+01 scale 1.250000e-01 {tag} : tensor<4x16x192xf16> over ![[T_K]], ![[T_V]] in ![[T_POSITIONS]] into tensor<4x16x128xf16>, tensor<4x16xf32>{{$}}
  %0:2 = kvcache.attention %q over %k, %v in %batch alibi(%alibi : tensor<16xf32>) sinks(%sinks : tensor<16xf32>) into %o, %l
    causal window 4096 softcap 3.0e+01 scale 1.25e-01 {tag}
    : tensor<4x16x192xf16> over !k, !v in !positions into tensor<4x16x128xf16>, tensor<4x16xf32>
  // CHECK: %{{.*}} = kvcache.attention %[[Q]] over %[[K]], %[[V]] in %[[B]] alibi(%[[A]] : tensor<16xf32>) into %[[O]] window 1 : tensor
  %1 = kvcache.attention %q over %k, %v in %batch alibi(%alibi : tensor<16xf32>) into %o window 1
    : tensor<4x16x192xf16> over !k, !v in !positions into tensor<4x16x128xf16>
  // CHECK: %{{.*}} = kvcache.attention %[[Q]] over %[[K]], %[[V]] in %[[B]] sinks(%[[S]] : tensor<16xf32>) into %[[O]] softcap 5.000000e-01 : tensor
  %2 = kvcache.attention %q over %k, %v in %batch sinks(%sinks : tensor<16xf32>) into %o softcap 0.5
    : tensor<4x16x192xf16> over !k, !v in !positions into tensor<4x16x128xf16>
  // A scale may be zero or negative.
  // CHECK: %{{.*}} = kvcache.attention %[[Q]] over %[[K]], %[[V]] in %[[B]] into %[[O]] scale -1.000000e+00 : tensor
  %3 = kvcache.attention %q over %k, %v in %batch into %o scale -1.0
    : tensor<4x16x192xf16> over !k, !v in !positions into tensor<4x16x128xf16>
  // CHECK: return %[[R]]#0, %[[R]]#1
  return %0#0, %0#1 : tensor<4x16x128xf16>, tensor<4x16xf32>
}

// CHECK-LABEL: func.func @pools_are_tensors(
// CHECK-SAME: %[[Q:[^ ]*]]: tensor<?x16x64xf32>, %[[P:[^ ]*]]: tensor<?x2x16x4x64xf32>, %[[K:[^ ]*]]: tensor<?x4x16x64xf32>, %[[V:[^ ]*]]: !{{[^ ]*}}, %[[B:[^ ]*]]: ![[T_BATCH]]
func.func @pools_are_tensors(%q: tensor<?x16x64xf32>, %pool: tensor<?x2x16x4x64xf32>, %k: tensor<?x4x16x64xf32>,
                             %v: !kvcache.cache<?B x 16N x 4H x 64D x f32>, %batch: !batch, %o: tensor<?x16x64xf32>) {
  // CHECK: kvcache.attention %[[Q]] over %[[P]][B, S, N, H, D] in %[[B]] into %{{.*}} causal : tensor<?x16x64xf32> over tensor<?x2x16x4x64xf32> in ![[T_BATCH]] into tensor<?x16x64xf32>{{$}}
  %0 = kvcache.attention %q over %pool[B, S, N, H, D] in %batch into %o causal
    : tensor<?x16x64xf32> over tensor<?x2x16x4x64xf32> in !batch into tensor<?x16x64xf32>
  // CHECK: kvcache.attention %[[Q]] over %[[K]][B, H, N, D], %[[K]][B, H, N, D] in %[[B]] into
  %1 = kvcache.attention %q over %k[B, H, N, D], %k[B, H, N, D] in %batch into %o
    : tensor<?x16x64xf32> over tensor<?x4x16x64xf32>, tensor<?x4x16x64xf32> in !batch into tensor<?x16x64xf32>
  // One of the two may be a reference.
  // CHECK: kvcache.attention %[[Q]] over %[[K]][B, H, N, D], %[[V]] in %[[B]] into
  %2 = kvcache.attention %q over %k[B, H, N, D], %v in %batch into %o
    : tensor<?x16x64xf32> over tensor<?x4x16x64xf32>, !kvcache.cache<?B x 16N x 4H x 64D x f32> in !batch into tensor<?x16x64xf32>
  // CHECK: kvcache.attention %[[Q]] over %[[V]], %[[K]][B, H, N, D] in %[[B]] into
  %3 = kvcache.attention %q over %v, %k[B, H, N, D] in %batch into %o
    : tensor<?x16x64xf32> over !kvcache.cache<?B x 16N x 4H x 64D x f32>, tensor<?x4x16x64xf32> in !batch into tensor<?x16x64xf32>
  return
}

// A mask has words for each row, in rows that may be apart.

// CHECK-LABEL: func.func @masked(
// CHECK-SAME: %[[Q:[^ ]*]]: memref<?x16x192xf16>, %{{.*}} %[[M:[^ ]*]]: memref<?x?xi32>, %[[N:[^ ]*]]: memref<?x2xi32, strided<[?, 1], offset: ?>>
func.func @masked(%q: memref<?x16x192xf16>, %k: !k, %v: !v, %batch: !positions, %m: memref<?x?xi32>,
                  %n: memref<?x2xi32, strided<[?, 1], offset: ?>>, %sinks: memref<16xf32>, %o: memref<?x16x128xf16>, %s: f32) {
  // CHECK: {{^ *}}kvcache.attention %[[Q]] over %{{.*}} in %{{.*}} mask(%[[M]] : memref<?x?xi32>) into %{{.*}} causal : memref
  kvcache.attention %q over %k, %v in %batch mask(%m : memref<?x?xi32>) into %o causal
    : memref<?x16x192xf16> over !k, !v in !positions into memref<?x16x128xf16>
  // CHECK: {{^ *}}kvcache.attention %[[Q]] over %{{.*}} sinks(%{{.*}} : memref<16xf32>) mask(%[[N]] : memref<?x2xi32, strided<[?, 1], offset: ?>>) value_scale(%{{.*}}) into %{{.*}} window 4 {tag} : memref
  kvcache.attention %q over %k, %v in %batch sinks(%sinks : memref<16xf32>) mask(%n : memref<?x2xi32, strided<[?, 1], offset: ?>>)
    value_scale(%s) into %o window 4 {tag}
    : memref<?x16x192xf16> over !k, !v in !positions into memref<?x16x128xf16>
  return
}

// CHECK-LABEL: func.func @mask_is_tensor(
// CHECK-SAME: %[[M:[^ ]*]]: tensor<4x1xi32>)
func.func @mask_is_tensor(%q: tensor<4x16x192xf16>, %k: !k, %v: !v, %batch: !positions, %o: tensor<4x16x128xf16>,
                          %m: tensor<4x1xi32>) -> tensor<4x16x128xf16> {
  // CHECK: %{{.*}} = kvcache.attention %{{.*}} mask(%[[M]] : tensor<4x1xi32>) into %{{.*}} : tensor
  %0 = kvcache.attention %q over %k, %v in %batch mask(%m : tensor<4x1xi32>) into %o
    : tensor<4x16x192xf16> over !k, !v in !positions into tensor<4x16x128xf16>
  return %0 : tensor<4x16x128xf16>
}

// CHECK-LABEL: func.func @merge_states(
// CHECK-SAME: %[[A:[^ ]*]]: tensor<?x32x128xbf16>, %[[L:[^ ]*]]: tensor<?x32xf32>)
func.func @merge_states(%a: tensor<?x32x128xbf16>, %l: tensor<?x32xf32>) -> (tensor<?x32x128xbf16>, tensor<?x32xf32>) {
  // CHECK: %[[R:.*]] = kvcache.merge_states %[[A]], %[[L]] with %[[A]], %[[L]] into %[[A]] : tensor<?x32x128xbf16>, tensor<?x32xf32> with tensor<?x32x128xbf16>, tensor<?x32xf32> into tensor<?x32x128xbf16>{{$}}
  %0 = kvcache.merge_states %a, %l with %a, %l into %a
    : tensor<?x32x128xbf16>, tensor<?x32xf32> with tensor<?x32x128xbf16>, tensor<?x32xf32> into tensor<?x32x128xbf16>
  // CHECK: %[[S:.*]]:2 = kvcache.merge_states %[[R]], %[[L]] with %[[A]], %[[L]] into %[[A]], %[[L]] {tag} : tensor<?x32x128xbf16>, tensor<?x32xf32> with tensor<?x32x128xbf16>, tensor<?x32xf32> into tensor<?x32x128xbf16>, tensor<?x32xf32>{{$}}
  %1:2 = kvcache.merge_states %0, %l with %a, %l into %a, %l {tag}
    : tensor<?x32x128xbf16>, tensor<?x32xf32> with tensor<?x32x128xbf16>, tensor<?x32xf32> into tensor<?x32x128xbf16>, tensor<?x32xf32>
  // CHECK: return %[[S]]#0, %[[S]]#1
  return %1#0, %1#1 : tensor<?x32x128xbf16>, tensor<?x32xf32>
}

// CHECK-LABEL: func.func @merge_states_of_memrefs(
func.func @merge_states_of_memrefs(%a: memref<4x2x8xf16>, %l: memref<4x2xf32>) {
  // CHECK: {{^ *}}kvcache.merge_states %{{.*}} : memref<4x2x8xf16>, memref<4x2xf32> with memref<4x2x8xf16>, memref<4x2xf32> into memref<4x2x8xf16>, memref<4x2xf32>{{$}}
  kvcache.merge_states %a, %l with %a, %l into %a, %l
    : memref<4x2x8xf16>, memref<4x2xf32> with memref<4x2x8xf16>, memref<4x2xf32> into memref<4x2x8xf16>, memref<4x2xf32>
  return
}

// CHECK-LABEL: func.func @merge_three(
func.func @merge_three(%a: memref<?x2x8xf16>, %l: memref<2x?xf32, strided<[?, 1]>>, %o: memref<2x?xf32>) {
  // CHECK: {{^ *}}kvcache.merge_states %[[A:.*]], %[[L:.*]] with %[[A]], %[[L]] with %[[A]], %[[L]] into %[[A]], %{{.*}} heads_first : memref<?x2x8xf16>, memref<2x?xf32, strided<[?, 1]>> with memref<?x2x8xf16>, memref<2x?xf32, strided<[?, 1]>> with memref<?x2x8xf16>, memref<2x?xf32, strided<[?, 1]>> into memref<?x2x8xf16>, memref<2x?xf32>{{$}}
  kvcache.merge_states %a, %l with %a, %l with %a, %l into %a, %o heads_first
    : memref<?x2x8xf16>, memref<2x?xf32, strided<[?, 1]>> with memref<?x2x8xf16>, memref<2x?xf32, strided<[?, 1]>>
    with memref<?x2x8xf16>, memref<2x?xf32, strided<[?, 1]>> into memref<?x2x8xf16>, memref<2x?xf32>
  return
}

// CHECK-LABEL: func.func @merge_tensors_by_heads(
func.func @merge_tensors_by_heads(%a: tensor<4x4x8xf16>, %l: tensor<4x4xf32>) -> (tensor<4x4x8xf16>, tensor<4x4xf32>) {
  // CHECK: %{{.*}}:2 = kvcache.merge_states {{.*}} heads_first {tag} : tensor<4x4x8xf16>, tensor<4x4xf32> with
  %0:2 = kvcache.merge_states %a, %l with %a, %l into %a, %l heads_first {tag}
    : tensor<4x4x8xf16>, tensor<4x4xf32> with tensor<4x4x8xf16>, tensor<4x4xf32> into tensor<4x4x8xf16>, tensor<4x4xf32>
  return %0#0, %0#1 : tensor<4x4x8xf16>, tensor<4x4xf32>
}

// The heads of a query may be apart, its lse turned, its values scaled, and its
// window may have two sides.

// CHECK-LABEL: func.func @around(
func.func @around(%q: memref<?x16x192xf16, strided<[?, ?, 1], offset: ?>>, %k: !k, %v: !v, %batch: !positions, %s: f32,
                  %sinks: memref<16xf32>, %o: memref<?x16x128xf16>, %l: memref<16x?xf32>) {
  // CHECK: {{^ *}}kvcache.attention %{{.*}} sinks(%{{.*}} : memref<16xf32>) value_scale(%{{.*}}) into %{{.*}}, %{{.*}} heads_first window 128 window_right 0 softcap 5.000000e-01 : memref<?x16x192xf16, strided<[?, ?, 1], offset: ?>> over
  kvcache.attention %q over %k, %v in %batch sinks(%sinks : memref<16xf32>) value_scale(%s) into %o, %l heads_first
    window 128 window_right 0 softcap 0.5
    : memref<?x16x192xf16, strided<[?, ?, 1], offset: ?>> over !k, !v in !positions into memref<?x16x128xf16>, memref<16x?xf32>
  // CHECK: {{^ *}}kvcache.attention %{{.*}} into %{{.*}}, %{{.*}} heads_first batch_invariant causal window 128 : memref
  kvcache.attention %q over %k, %v in %batch into %o, %l heads_first batch_invariant causal window 128
    : memref<?x16x192xf16, strided<[?, ?, 1], offset: ?>> over !k, !v in !positions into memref<?x16x128xf16>, memref<16x?xf32>
  // CHECK: {{^ *}}kvcache.attention %{{.*}} into %{{.*}} window_right 1099511627776 : memref
  kvcache.attention %q over %k, %v in %batch into %o window_right 1099511627776
    : memref<?x16x192xf16, strided<[?, ?, 1], offset: ?>> over !k, !v in !positions into memref<?x16x128xf16>
  return
}

// CHECK-LABEL: func.func @prefixes(
func.func @prefixes(%q: memref<?x16x192xf16>, %k: !k, %v: !v, %batch: !positions, %groups: memref<3xi64>, %lengths: memref<?xi32>,
                    %s: f32, %o: memref<?x16x128xf16>) {
  // CHECK: {{^ *}}kvcache.attention %{{.*}} value_scale(%{{.*}}) prefixes(%{{.*}}, %{{.*}} : memref<3xi64>, memref<?xi32>) into %{{.*}} causal : memref<?x16x192xf16> over
  kvcache.attention %q over %k, %v in %batch value_scale(%s) prefixes(%groups, %lengths : memref<3xi64>, memref<?xi32>) into %o causal
    : memref<?x16x192xf16> over !k, !v in !positions into memref<?x16x128xf16>
  return
}
