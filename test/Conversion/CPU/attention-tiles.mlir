// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Many rows over a cache of bf16 are products of tiles on a chip that has them,
// and on no other one.
//
// RUN: split-file %s %t
// RUN: kv-opt %t/both.mlir --convert-kvcache-to-loops=chip=x86-64-v4-amx | FileCheck %s --check-prefix=BOTH
// RUN: kv-opt %t/values.mlir --convert-kvcache-to-loops=chip=x86-64-v4-amx | FileCheck %s --check-prefix=VALUES
// RUN: kv-opt %t/none.mlir --convert-kvcache-to-loops=chip=x86-64-v4-amx | FileCheck %s --check-prefix=NONE --implicit-check-not=amx
// RUN: kv-opt %t/both.mlir --convert-kvcache-to-loops=chip=x86-64-v4-bf16 | FileCheck %s --check-prefix=NONE --implicit-check-not=amx
// RUN: kv-opt %t/both.mlir --convert-kvcache-to-loops=chip=x86-64-v4 | FileCheck %s --check-prefix=NONE --implicit-check-not=amx
// RUN: kv-opt %t/both.mlir --kvcache-to-cpu=chip=x86-64-v4-amx | FileCheck %s --check-prefix=LLVM --implicit-check-not=amx.
// RUN: kv-compile %t/both.mlir --cpu=x86-64-v4-amx --emit=llvm -o - | FileCheck %s --check-prefix=CHIP
// RUN: kv-compile %t/both.mlir --cpu=sapphirerapids --emit=llvm -o - | FileCheck %s --check-prefix=CHIP
// RUN: kv-compile %t/both.mlir --cpu=x86-64-v4 --emit=llvm -o - | FileCheck %s --check-prefix=NO-CHIP

// Sums of scores begin with 0; those of values are in memory. 32 rows, and 32
// keys or channels, are four products of tiles for each 32 summands: 128
// channels, or the 64 keys of a chunk.
// BOTH-COUNT-4: amx.tile_zero : !amx.tile<16x16xf32>
// BOTH-NOT: scf.for
// BOTH-COUNT-16: amx.tile_mulf {{.*}} : !amx.tile<16x32xbf16>, !amx.tile<16x32xbf16>, !amx.tile<16x16xf32>
// BOTH-NOT: scf.for
// BOTH-COUNT-4: amx.tile_store
// A guarded product, for values that are not finite.
// BOTH: vector.reduction <maxui>
// BOTH: math.fma
// BOTH-COUNT-4: amx.tile_load {{.*}} into !amx.tile<16x16xf32>
// BOTH-COUNT-8: amx.tile_mulf

// 48 channels are no whole tiles of keys, and one and a half of values.
// VALUES-NOT: amx.tile_zero
// VALUES-COUNT-4: amx.tile_load {{.*}} into !amx.tile<16x16xf32>
// VALUES-COUNT-8: amx.tile_mulf
// VALUES-COUNT-2: amx.tile_load {{.*}} into !amx.tile<16x16xf32>
// VALUES-COUNT-4: amx.tile_mulf
// VALUES-COUNT-2: amx.tile_store
// VALUES-NOT: amx.tile_mulf

// NONE: math.fma

// LLVM: llvm.call_intrinsic "llvm.x86.tilezero.internal"
// LLVM: llvm.call_intrinsic "llvm.x86.tdpbf16ps.internal"

// CHIP: @llvm.x86.tdpbf16ps.internal
// NO-CHIP-NOT: llvm.x86.t

//--- both.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @tiles(%q: memref<?x32x128xbf16>, %cache: !kv, %batch: !batch, %out: memref<?x32x128xbf16>) {
  kvcache.attention %q over %cache in %batch into %out causal
    : memref<?x32x128xbf16> over !kv in !batch into memref<?x32x128xbf16>
  return
}

//--- values.mlir
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 48D x bf16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @no_tiles_of_keys(%q: memref<?x32x48xbf16>, %cache: !kv, %batch: !batch, %out: memref<?x32x48xbf16>) {
  kvcache.attention %q over %cache in %batch into %out
    : memref<?x32x48xbf16> over !kv in !batch into memref<?x32x48xbf16>
  return
}

//--- none.mlir
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!floats = !kvcache.cache<2S x ?B x 16N x 8H x 128D x f32>
!narrow = !kvcache.cache<2S x ?B x 16N x 8H x 40D x bf16>
func.func @no_tiles_of_floats(%q: memref<?x32x128xbf16>, %cache: !floats, %batch: !batch, %out: memref<?x32x128xbf16>) {
  kvcache.attention %q over %cache in %batch into %out causal
    : memref<?x32x128xbf16> over !floats in !batch into memref<?x32x128xbf16>
  return
}
func.func @no_tiles_of_parts(%q: memref<?x32x40xbf16>, %cache: !narrow, %batch: !batch, %out: memref<?x32x40xbf16>) {
  kvcache.attention %q over %cache in %batch into %out causal
    : memref<?x32x40xbf16> over !narrow in !batch into memref<?x32x40xbf16>
  return
}
