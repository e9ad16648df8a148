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
!scaled = !kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [S, B, N, H]>>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

// CHECK-DAG: ![[T_KV:kv_nhd[0-9]*]] = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>{{$}}
// CHECK-DAG: ![[T_SCALED:kv_nhd[0-9]*]] = !kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [S, B, N, H]>>{{$}}
// CHECK-DAG: ![[T_SLOTS:kv_slots[0-9]*]] = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>{{$}}

// CHECK-LABEL: func.func @normalize(
// CHECK-SAME: %[[X:[^ ]*]]: memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>>, %[[W:[^ ]*]]: memref<128xf16>, %[[O:[^ ]*]]: memref<?x8x128xf8E4M3FN>, %[[R:[^ ]*]]: memref<4x5xf32>)
func.func @normalize(%x: memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>>, %w: memref<128xf16>, %o: memref<?x8x128xf8E4M3FN>, %r: memref<4x5xf32>) {
  // CHECK: {{^ *}}kvcache.normalize %[[X]] by %[[W]] into %[[O]] epsilon 9.99999997E-7 : memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>> by memref<128xf16> into memref<?x8x128xf8E4M3FN>{{$}}
  kvcache.normalize %x by %w into %o epsilon 1.0e-06 : memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>> by memref<128xf16> into memref<?x8x128xf8E4M3FN>
  // CHECK: {{^ *}}kvcache.normalize %[[X]] by %[[W]] into %[[X]] epsilon 2.500000e-01 plus_one {tag} : memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>> by memref<128xf16> into memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>>{{$}}
  kvcache.normalize %x by %w into %x epsilon 0.25 plus_one {tag} : memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>> by memref<128xf16> into memref<?x8x128xbf16, strided<[?, 128, 1], offset: ?>>
  // Without heads, weight and epsilon; both extents are known.
  // CHECK: {{^ *}}kvcache.normalize %[[R]] into %[[R]] epsilon 0.000000e+00 : memref<4x5xf32> into memref<4x5xf32>{{$}}
  kvcache.normalize %r into %r epsilon 0.0 : memref<4x5xf32> into memref<4x5xf32>
  return
}

// CHECK-LABEL: func.func @normalize_tensors(
// CHECK-SAME: %[[X:[^ ]*]]: tensor<?x8x128xf8E5M2>, %[[W:[^ ]*]]: tensor<128xf32>, %[[O:[^ ]*]]: tensor<?x8x128xbf16>)
func.func @normalize_tensors(%x: tensor<?x8x128xf8E5M2>, %w: tensor<128xf32>, %o: tensor<?x8x128xbf16>) -> tensor<?x8x128xbf16> {
  // CHECK: %[[A:.*]] = kvcache.normalize %[[X]] into %[[O]] epsilon 1.000000e+00 : tensor<?x8x128xf8E5M2> into tensor<?x8x128xbf16>{{$}}
  %a = kvcache.normalize %x into %o epsilon 1.0 : tensor<?x8x128xf8E5M2> into tensor<?x8x128xbf16>
  // CHECK: %[[B:.*]] = kvcache.normalize %[[A]] by %[[W]] into %[[A]] epsilon 1.000000e+00 plus_one : tensor<?x8x128xbf16> by tensor<128xf32> into tensor<?x8x128xbf16>{{$}}
  %b = kvcache.normalize %a by %w into %a epsilon 1.0 plus_one : tensor<?x8x128xbf16> by tensor<128xf32> into tensor<?x8x128xbf16>
  // CHECK: return %[[B]]
  return %b : tensor<?x8x128xbf16>
}

// CHECK-LABEL: func.func @rotate(
// CHECK-SAME: %[[X:[^ ]*]]: memref<?x8x128xbf16>, %[[T:[^ ]*]]: memref<?x64xf32, strided<[?, 1]>>, %[[P:[^ ]*]]: memref<?xi32>, %[[O:[^ ]*]]: memref<?x8x128xf8E5M2>, %[[R:[^ ]*]]: memref<4x5xf32>, %[[H:[^ ]*]]: memref<4x2xf16>)
func.func @rotate(%x: memref<?x8x128xbf16>, %t: memref<?x64xf32, strided<[?, 1]>>, %p: memref<?xi32>, %o: memref<?x8x128xf8E5M2>, %r: memref<4x5xf32>, %h: memref<4x2xf16>) {
  // CHECK: {{^ *}}kvcache.rotate %[[X]] by %[[T]] at %[[P]] into %[[O]] : memref<?x8x128xbf16> by memref<?x64xf32, strided<[?, 1]>> at memref<?xi32> into memref<?x8x128xf8E5M2>{{$}}
  kvcache.rotate %x by %t at %p into %o : memref<?x8x128xbf16> by memref<?x64xf32, strided<[?, 1]>> at memref<?xi32> into memref<?x8x128xf8E5M2>
  // CHECK: {{^ *}}kvcache.rotate %[[X]] by %[[T]] into %[[X]] interleaved {tag} : memref<?x8x128xbf16> by memref<?x64xf32, strided<[?, 1]>> into memref<?x8x128xbf16>{{$}}
  kvcache.rotate %x by %t into %x interleaved {tag} : memref<?x8x128xbf16> by memref<?x64xf32, strided<[?, 1]>> into memref<?x8x128xbf16>
  // CHECK: {{^ *}}kvcache.rotate %[[R]] by %[[H]] into %[[R]] : memref<4x5xf32> by memref<4x2xf16> into memref<4x5xf32>{{$}}
  kvcache.rotate %r by %h into %r : memref<4x5xf32> by memref<4x2xf16> into memref<4x5xf32>
  return
}

// CHECK-LABEL: func.func @rotate_tensors(
// CHECK-SAME: %[[X:[^ ]*]]: tensor<?x128xbf16>, %[[T:[^ ]*]]: tensor<?x128xbf16>, %[[P:[^ ]*]]: tensor<?xi64>)
func.func @rotate_tensors(%x: tensor<?x128xbf16>, %t: tensor<?x128xbf16>, %p: tensor<?xi64>) -> tensor<?x128xbf16> {
  // CHECK: %[[A:.*]] = kvcache.rotate %[[X]] by %[[T]] at %[[P]] into %[[X]] interleaved : tensor<?x128xbf16> by tensor<?x128xbf16> at tensor<?xi64> into tensor<?x128xbf16>{{$}}
  %a = kvcache.rotate %x by %t at %p into %x interleaved : tensor<?x128xbf16> by tensor<?x128xbf16> at tensor<?xi64> into tensor<?x128xbf16>
  // CHECK: %[[B:.*]] = kvcache.rotate %[[A]] by %[[T]] into %[[X]] : tensor<?x128xbf16> by tensor<?x128xbf16> into tensor<?x128xbf16>{{$}}
  %b = kvcache.rotate %a by %t into %x : tensor<?x128xbf16> by tensor<?x128xbf16> into tensor<?x128xbf16>
  // CHECK: return %[[B]]
  return %b : tensor<?x128xbf16>
}

// CHECK-LABEL: func.func @fuse(
// CHECK-SAME: %[[X:[^ ]*]]: memref<?x8x128xbf16>, %[[V:[^ ]*]]: memref<?x8x128xbf16>, %[[T:[^ ]*]]: memref<?x64xf32>, %[[P:[^ ]*]]: memref<?xi64>, %[[O:[^ ]*]]: memref<?x8x128xbf16>, %[[KV:[^ ]*]]: ![[T_KV]], %[[SCALED:[^ ]*]]: ![[T_SCALED]], %[[S:[^ ]*]]: ![[T_SLOTS]], %[[N:[^ ]*]]: index)
func.func @fuse(%x: memref<?x8x128xbf16>, %v: memref<?x8x128xbf16>, %t: memref<?x64xf32>, %p: memref<?xi64>, %o: memref<?x8x128xbf16>, %kv: !kv, %scaled: !scaled, %s: !slots, %n: index) {
  // CHECK: {{^ *}}kvcache.fuse {
  // CHECK-NEXT: %[[A:.*]] = memref.alloc(%[[N]]) : memref<?x8x128xbf16>
  // CHECK-NEXT: %[[B:.*]] = memref.alloc(%[[N]]) : memref<?x8x128xf16>
  // CHECK-NEXT: kvcache.normalize %[[X]] into %[[B]] epsilon
  // CHECK-NEXT: kvcache.rotate %[[B]] by %[[T]] at %[[P]] into %[[A]] :
  // CHECK-NEXT: kvcache.index_copy %[[A]], %[[V]] into %[[SCALED]] at %[[S]] :
  // CHECK-NEXT: kvcache.scatter %[[X]], %[[V]] into %[[KV]] at %[[P]], %[[P]] pad = none :
  // CHECK-NEXT: kvcache.rotate %[[X]] by %[[T]] into %[[O]] :
  // CHECK-NEXT: } {tag}
  kvcache.fuse {
    %a = memref.alloc(%n) : memref<?x8x128xbf16>
    %b = memref.alloc(%n) : memref<?x8x128xf16>
    kvcache.normalize %x into %b epsilon 1.0 : memref<?x8x128xbf16> into memref<?x8x128xf16>
    kvcache.rotate %b by %t at %p into %a : memref<?x8x128xf16> by memref<?x64xf32> at memref<?xi64> into memref<?x8x128xbf16>
    kvcache.index_copy %a, %v into %scaled at %s : memref<?x8x128xbf16>, memref<?x8x128xbf16> into !scaled at !slots
    kvcache.scatter %x, %v into %kv at %p, %p pad = none : memref<?x8x128xbf16>, memref<?x8x128xbf16> into !kv at memref<?xi64>, memref<?xi64>
    kvcache.rotate %x by %t into %o : memref<?x8x128xbf16> by memref<?x64xf32> into memref<?x8x128xbf16>
  } {tag}
  // CHECK: {{^ *}}kvcache.fuse {
  // CHECK-NEXT: }
  kvcache.fuse {
  }
  // CHECK-NEXT: return
  return
}
