// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s | kv-opt | FileCheck %s

!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<f8E4M3FN x f32, per = [S, B, N, H]>>
!kv_stored = !kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.stored<f8E4M3FN>>
!kv_scales = !kvcache.cache<2S x ?B x 16N x 8H x 1D x f32, align = 4>
!cross = !kvcache.cache<4L x 2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [L, S, B, N, D / 64]>, order = [B, L, S, N, H, D]>
!record = !kvcache.cache<?B x 16N x 8H x 128D x !kvcache.scaled<f8E5M2 x f32, per = [B, N, H], strides = [H = 33]>, strides = [H = 132], align = 4>
!some = !kvcache.cache<?B x 16N x 4H x 128D x !kvcache.scaled<f8E5M2 x f32, per = [B, N, H], strides = [N = 264, H = 33]>, strides = [N = 1056, H = 132], align = 4>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>

// CHECK-DAG: !kvcache.scaled<f8E4M3FN x f32, per = [S, B, N, H]>
// CHECK-DAG: !kvcache.scaled<f8E5M2 x f32, per = [B, N, H], strides = [H = 33]>, strides = [H = 132], align = 4>
// CHECK-DAG: !kvcache.scaled<f8E4M3FN x f32, per = [L, S, H]>, order = [L, B, S, N, H, D]>
// CHECK-DAG: !kvcache.scaled<i8 x f32>>
// CHECK-DAG: !kvcache.scaled<i8 x f32, per = [L, S, B, N, D / 64]>, order = [B, L, S, N, H, D]>

// The parts, and back.
// CHECK-LABEL: func @parts
func.func @parts(%cache: !kv) -> !kv {
  // CHECK: kvcache.stored %{{.*}} : !kv_nhd
  %values = kvcache.stored %cache : !kv
  // CHECK: kvcache.scales %{{.*}} : !kv_nhd
  %scales = kvcache.scales %cache : !kv
  // CHECK: kvcache.with_scales %{{.*}}, %{{.*}} : !kv_nhd{{.*}}, !kv_nhd{{.*}} to !kv_nhd
  %same = kvcache.with_scales %values, %scales : !kv_stored, !kv_scales to !kv
  return %same : !kv
}

// A layer has the strides of both pools.
// CHECK-LABEL: func @layer
func.func @layer(%pool: !cross, %l: index) -> !kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [S, B, N, D / 64], strides = [B = 256]>, order = [B, S, N, H, D], strides = [B = 131072]> {
  %layer = kvcache.layer %pool[%l] : !cross
  return %layer : !kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32, per = [S, B, N, D / 64], strides = [B = 256]>, order = [B, S, N, H, D], strides = [B = 131072]>
}

// CHECK-LABEL: func @heads
func.func @heads(%pool: !record) -> !some {
  %some = kvcache.heads %pool[2, 4] : !record
  return %some : !some
}

// After kvcache-split-parts.
// CHECK-LABEL: func @split
func.func @split(%pool: !kv_stored, %scales: !kv_scales, %to: !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>, %slots: !slots, %b: !batch, %k: memref<?x8x128xbf16>, %q: memref<?x32x128xbf16>, %o: memref<?xi64>) {
  // CHECK: index_copy %{{.*}}, %{{.*}} into %{{.*}} scales(%{{.*}} : !kv_nhd{{.*}}) at
  kvcache.index_copy %k, %k into %pool scales(%scales : !kv_scales) at %slots
    : memref<?x8x128xbf16>, memref<?x8x128xbf16> into !kv_stored at !slots
  // CHECK: scatter %{{.*}}, %{{.*}} into %{{.*}} scales(%{{.*}} : !kv_nhd{{.*}}) at
  kvcache.scatter %k, %k into %pool scales(%scales : !kv_scales) at %o, %o pad = none
    : memref<?x8x128xbf16>, memref<?x8x128xbf16> into !kv_stored at memref<?xi64>, memref<?xi64>
  // CHECK: gather %{{.*}} scales(%{{.*}} : !kv_nhd{{.*}}) at
  kvcache.gather %pool scales(%scales : !kv_scales) at %slots into %k, %k
    : !kv_stored at !slots into memref<?x8x128xbf16>, memref<?x8x128xbf16>
  // CHECK: relayout %{{.*}} source_scales(%{{.*}} : !kv_nhd{{.*}}) into
  kvcache.relayout %pool source_scales(%scales : !kv_scales) into %to : !kv_stored into !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
  // CHECK: relayout %{{.*}} into %{{.*}} dest_scales(%{{.*}} : !kv_nhd{{.*}})
  kvcache.relayout %to into %pool dest_scales(%scales : !kv_scales) : !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16> into !kv_stored
  // CHECK: attention %{{.*}} over %{{.*}} scales(%{{.*}} : !kv_nhd{{.*}}) in
  kvcache.attention %q over %pool scales(%scales : !kv_scales) in %b into %q
    : memref<?x32x128xbf16> over !kv_stored in !batch into memref<?x32x128xbf16>
  return
}

// Given scales: read-only, of one block and one token. Slices of what is not
// shared have strides.

!given = !kvcache.cache<4L x 2S x ?B x 16N x 8H x 128D x !kvcache.scaled<f8E4M3FN x f32, per = [L, S, H]>, order = [L, B, S, N, H, D]>
!given_layer = !kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<f8E4M3FN x f32, per = [S, H]>, order = [B, S, N, H, D]>
!given_heads = !kvcache.cache<2S x ?B x 16N x 2H x 128D x !kvcache.scaled<f8E4M3FN x f32, per = [S, H], strides = [S = 8]>, order = [B, S, N, H, D], strides = [B = 32768, S = 16384, N = 1024]>
!given_side = !kvcache.cache<?B x 16N x 2H x 128D x !kvcache.scaled<f8E4M3FN x f32, per = [H]>, strides = [B = 32768, N = 1024]>
// CHECK-LABEL: func @given
func.func @given(%pool: !given, %l: index) -> !given_side {
  %layer = kvcache.layer %pool[%l] : !given
  %some = kvcache.heads %layer[2, 2] : !given_layer
  %side = kvcache.side %some[1] : !given_heads
  return %side : !given_side
}

!one = !kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32>>
!one_stored = !kvcache.cache<2S x ?B x 16N x 8H x 128D x !kvcache.stored<i8>>
!one_scale = !kvcache.cache<1S x 1B x 1N x 1H x 1D x f32, align = 4, access = read>
// CHECK-LABEL: func @one_for_all
func.func @one_for_all(%values: !one_stored, %scale: memref<1x1x1x1x1xf32>) -> !kvcache.cache<?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32>, strides = [B = 16384]> {
  %s = kvcache.view %scale : memref<1x1x1x1x1xf32> to !one_scale
  %pool = kvcache.with_scales %values, %s : !one_stored, !one_scale to !one
  %side = kvcache.side %pool[1] : !one
  return %side : !kvcache.cache<?B x 16N x 8H x 128D x !kvcache.scaled<i8 x f32>, strides = [B = 16384]>
}

// CHECK-LABEL: func @nearest
func.func @nearest(%scales: !kvcache.cache<4L x 1B x 1N x 1D x f32>, %l: index) {
  // CHECK: kvcache.layer %{{.*}}[%{{.*}}] nearest : !kv
  %s = kvcache.layer %scales[%l] nearest : !kvcache.cache<4L x 1B x 1N x 1D x f32>
  return
}
