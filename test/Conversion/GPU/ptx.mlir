// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The PTX of a kernel: whole 16-byte accesses, and neither a division by the
// size of a block, nor local memory, nor a call.
//
// RUN: kv-compile %s --target=sm_80 --emit=ptx | FileCheck %s --check-prefixes=CHECK,SM80 --implicit-check-not=div. --implicit-check-not=rem. --implicit-check-not=.local --implicit-check-not=call
// RUN: kv-compile %s --target=sm_90a --emit=ptx | FileCheck %s --check-prefixes=CHECK,SM90 --implicit-check-not=div. --implicit-check-not=rem. --implicit-check-not=.local --implicit-check-not=call
// RUN: kv-compile %s --target=sm_100a --emit=ptx | FileCheck %s --check-prefixes=CHECK,SM100 --implicit-check-not=div. --implicit-check-not=rem. --implicit-check-not=.local --implicit-check-not=call

// SM80: .target sm_80{{$}}
// SM90: .target sm_90a{{$}}
// SM100: .target sm_100a{{$}}
// CHECK: .visible .entry index_copy
// CHECK: .maxntid
// SM80-NOT: griddepcontrol
// SM90: griddepcontrol.wait;
// SM90: griddepcontrol.launch_dependents;
// SM100: griddepcontrol.wait;
// CHECK-NOT: ld.global{{[a-zA-Z0-9_.:]*}}.{{b8|b16}}
// CHECK: ld.global{{[a-zA-Z0-9_.:]*}}.{{v4.b32|v2.b64}}
// CHECK: st.global{{[a-zA-Z0-9_.:]*}}.{{v4.b32|v2.b64}}
// CHECK-NOT: st.global{{[a-zA-Z0-9_.:]*}}.{{b8|b16|v2.b32}}
// CHECK: ret;

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!kv = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, H, N, D]>

func.func @insert(%cache: !kv, %key: memref<?x8x128xbf16>, %value: memref<?x8x128xbf16>, %slots: !slots) {
  kvcache.index_copy %key, %value into %cache at %slots : memref<?x8x128xbf16>, memref<?x8x128xbf16> into !kv at !slots
  return
}
