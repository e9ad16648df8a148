// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-layout-report -o /dev/null | FileCheck %s
// RUN: kv-opt %s --kvcache-layout-report=format=json -o /dev/null > %t.json
// RUN: %python -c "import json, sys; lines = json.load(open(sys.argv[1])); copy = lines[2]; assert copy['operation'] == 'index_copy', lines; assert copy['run_bytes'] == 2048 and copy['runs'] == 1 and copy['access_bytes'] == 16 and not copy['flat'] and copy['bytes'] == {'count': 4096, 'per': 'token'}, copy; assert copy['descriptors_per_block'] == 1 and copy['descriptor_bytes'] == 65536, copy; assert lines[3]['flops'] == {'count': 16384, 'per': 'row and key'}, lines[3]" %t.json
// RUN: kv-opt %s --kvcache-layout-report=output=%t.txt | FileCheck %s --check-prefix=IR
// RUN: FileCheck %s < %t.txt
// RUN: not kv-opt %s --kvcache-layout-report=format=xml 2>&1 | FileCheck %s --check-prefix=XML
// RUN: not kv-opt %s --kvcache-layout-report=output=%t/no/such/folder 2>&1 | FileCheck %s --check-prefix=FILE

// XML: error: the format of a report is expected to be 'table' or 'json', got 'xml'
// FILE: error: cannot write the report to '{{.*}}/no/such/folder': No such file or directory
// IR: func.func @cross_layer

!all = !kvcache.cache<32L x 2S x ?B x 16N x 8H x 128D x bf16, order = cross_layer_nhd>
!one = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, order = [B, S, N, H, D], strides = [B = 1048576]>
!any = !kvcache.cache<?B x 16N x 8H x 128D x f32, order = [B, H, N, D], strides = [B = ?]>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!rows = memref<?x8x128xbf16>
!heads = memref<?x32x128xbf16>

// CHECK:      @cross_layer
// CHECK-NEXT: line  operation   order            strides    fastest  runs         access  rows  block moves as  bytes           FLOPs                  checked in each call
// CHECK-NEXT: {{.*}}view        cross_layer_nhd  packed     128D     1 x 2097152  16            1 x 2097152                                            base aligned to 16, within the buffer
// CHECK-NEXT: {{.*}}layer       paired_nhd       B=1048576  128D     1 x 65536    16            1 x 65536                                              layer in the cache
// CHECK-NEXT: {{.*}}index_copy  paired_nhd       B=1048576  128D     1 x 2048     16            1 x 65536       4096 per token                         slot in the cache
// CHECK-NEXT: {{.*}}attention   paired_nhd       B=1048576  128D     1 x 256      16            1 x 65536       4096 per key    16384 per row and key  block of the table in the cache
func.func @cross_layer(%bytes: memref<?xi8>, %n: index, %i: index, %k: !rows, %v: !rows,
                       %slots: !slots, %q: !heads, %batch: !batch, %out: !heads) {
  %pool = kvcache.view %bytes extents(B = %n) : memref<?xi8> to !all
  %layer = kvcache.layer %pool[%i] : !all
  kvcache.index_copy %k, %v into %layer at %slots : !rows, !rows into !one at !slots
  kvcache.attention %q over %layer in %batch into %out causal : !heads over !one in !batch into !heads
  return
}

// CHECK:      @blocks
// CHECK-NEXT: line
// CHECK-NEXT: {{.*}}clear_blocks  paired_nhd  B=1048576  128D  1 x 65536  16  1 x 65536  65536 per block  blocks in the cache
func.func @blocks(%pool: !one, %blocks: memref<?xi64>) {
  kvcache.clear_blocks %pool at %blocks : !one at memref<?xi64>
  return
}
