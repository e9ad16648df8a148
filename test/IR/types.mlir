// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every form of a type survives printing, in custom and generic form, and
// bytecode.
//
// RUN: kv-opt %s | FileCheck %s
// RUN: kv-opt %s | kv-opt | FileCheck %s
// RUN: kv-opt %s --mlir-print-op-generic | kv-opt | FileCheck %s
// RUN: kv-opt %s --emit-bytecode | kv-opt | FileCheck %s

// The parts of a type that are defaults are not printed. Functions follow their
// types: each one is found by the name that its type got.

// CHECK-DAG: ![[NHD:kv_nhd[0-9]*]] = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>{{$}}
// CHECK-DAG: ![[HND:kv_hnd[0-9]*]] = !kvcache.cache<2S x ?B x 16N x 8H x 128D x f16, order = [S, B, H, N, D]>{{$}}
// CHECK-DAG: ![[SPLIT:kv_hdnd[0-9]*]] = !kvcache.cache<?B x 16N x 8H x 16D.o x 8D.i x f16, order = [B, H, D.o, N, D.i]>{{$}}
// CHECK-DAG: ![[HEADS:kv_hnhd[0-9]*]] = !kvcache.cache<?B x 16N x 2H.o x 4H.i x 64D x f16, order = [B, H.o, N, H.i, D]>{{$}}
// CHECK-DAG: ![[CROSS:kv_cross_nhd[0-9]*]] = !kvcache.cache<32L x 2S x ?B x 16N x 8H x 128D x bf16, order = [B, L, S, N, H, D]>{{$}}
// CHECK-DAG: ![[LAYERS:kv_cross_nd[0-9]*]] = !kvcache.cache<?L x 1S x 64B x 1N x 576D x f32>{{$}}
// CHECK-DAG: ![[ONE:kv_nd[0-9]*]] = !kvcache.cache<?B x 16N x 576D x f32>{{$}}
// CHECK-DAG: ![[CONSTANT:kv_nhd_strided[0-9]*]] = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D], strides = [B = 1048576]>{{$}}
// CHECK-DAG: ![[DYNAMIC:kv_nhd_strided[0-9]*]] = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [S = ?, B = ? mult 16, N = 2048]>{{$}}
// CHECK-DAG: ![[ALIGN:kv_nd[0-9]*]] = !kvcache.cache<?B x 16N x 64D x f32, align = 4>{{$}}
// CHECK-DAG: ![[WIDE:kv_nd[0-9]*]] = !kvcache.cache<?B x 16N x 64D x f32, align = 4096, space = host>{{$}}
// CHECK-DAG: ![[E4M3:kv_nhd[0-9]*]] = !kvcache.cache<2S x ?B x 16N x 8H x 128D x f8E4M3FN>{{$}}
// CHECK-DAG: ![[E5M2:kv_nd[0-9]*]] = !kvcache.cache<?B x 16N x 64D x f8E5M2, align = 1>{{$}}
// CHECK-DAG: ![[UNKNOWN:kv_nd_strided[0-9]*]] = !kvcache.cache<?B x 16N x 64D x f32, strides = [B = ?]>{{$}}
// CHECK-DAG: ![[SLOTS:kv_slots[0-9]*]] = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>{{$}}
// CHECK-DAG: ![[SLOTS32:kv_slots[0-9]*]] = !kvcache.slots<0T x i32, rows_per_block = 1, pad = skip_out_of_range>{{$}}
// CHECK-DAG: ![[UNPADDED:kv_slots[0-9]*]] = !kvcache.slots<7T x i64, rows_per_block = 1099511627776, pad = none>{{$}}

// CHECK: @tokens_before_heads(![[NHD]])
func.func private @tokens_before_heads(!kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>)

// CHECK: @heads_before_tokens(![[HND]])
func.func private @heads_before_tokens(!kvcache.cache<2S x ?B x 16N x 8H x 128D x f16, order = [S, B, H, N, D]>)

// CHECK: @split_channels(![[SPLIT]])
func.func private @split_channels(!kvcache.cache<?B x 16N x 8H x 16D.o x 8D.i x f16, order = [B, H, D.o, N, D.i]>)

// CHECK: @split_heads(![[HEADS]])
func.func private @split_heads(!kvcache.cache<?B x 16N x 2H.o x 4H.i x 64D x f16, order = [B, H.o, N, H.i, D]>)

// CHECK: @all_layers_of_a_block(![[CROSS]])
func.func private @all_layers_of_a_block(!kvcache.cache<32L x 2S x ?B x 16N x 8H x 128D x bf16, order = [B, L, S, N, H, D]>)

// CHECK: @run_time_layers(![[LAYERS]])
func.func private @run_time_layers(!kvcache.cache<?L x 1S x 64B x 1N x 576D x f32>)

// CHECK: @one_side_no_heads(![[ONE]])
func.func private @one_side_no_heads(!kvcache.cache<?B x 16N x 576D x f32>)

// CHECK: @constant_stride(![[CONSTANT]])
func.func private @constant_stride(!kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D], strides = [B = 1048576]>)

// CHECK: @run_time_strides(![[DYNAMIC]])
func.func private @run_time_strides(!kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [N = 2048, B = ? mult 16, S = ?]>)

// CHECK: @alignment(![[ALIGN]])
func.func private @alignment(!kvcache.cache<?B x 16N x 64D x f32, align = 4>)

// CHECK: @bytes(![[E4M3]])
func.func private @bytes(!kvcache.cache<2S x ?B x 16N x 8H x 128D x f8E4M3FN>)

// CHECK: @unaligned_bytes(![[E5M2]])
func.func private @unaligned_bytes(!kvcache.cache<?B x 16N x 64D x f8E5M2, align = 1>)

// CHECK: @host_memory(![[WIDE]])
func.func private @host_memory(!kvcache.cache<?B x 16N x 64D x f32, space = host, align = 4096>)

// Two spellings of one layout are one type.

// CHECK: @default_order(![[NHD]])
func.func private @default_order(!kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [S, B, N, H, D]>)

// CHECK: @compact_strides(![[NHD]])
func.func private @compact_strides(!kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [B = 16384, N = 1024, H = 128, D = 1]>)

// CHECK: @no_facts(![[NHD]])
func.func private @no_facts(!kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [], align = 16, space = device>)

// A stride of an axis of extent 1 is never used.
// CHECK: @unit_axis(![[LAYERS]])
func.func private @unit_axis(!kvcache.cache<?L x 1S x 64B x 1N x 576D x f32, strides = [S = 999999, N = ?]>)

// A multiple of 1 says nothing.
// CHECK: @multiple_of_one(![[UNKNOWN]])
func.func private @multiple_of_one(!kvcache.cache<?B x 16N x 64D x f32, strides = [B = ? mult 1]>)

// CHECK: @slots(![[SLOTS]])
func.func private @slots(!kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>)

// CHECK: @narrow_slots(![[SLOTS32]])
func.func private @narrow_slots(!kvcache.slots<0T x i32, rows_per_block = 1, pad = skip_out_of_range>)

// CHECK: @unpadded_slots(![[UNPADDED]])
func.func private @unpadded_slots(!kvcache.slots<7T x i64, rows_per_block = 1099511627776, pad = none>)
