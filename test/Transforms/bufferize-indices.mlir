// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Index values keep the entries that their tensors had when they were made: a
// later update goes to another buffer.
//
// RUN: kv-opt %s --kvcache-bufferize | FileCheck %s

!table = !kvcache.block_table<?R x ?M x i32, tokens = 16>
!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
!positions = !kvcache.batch<?R x ?M x i32, tokens = 16, positions = i64>
!list = tensor<?xi32>

// CHECK-LABEL: func.func @batch_before_updates(
// CHECK-SAME: %[[S:[^ ]*]]: memref<?xi32>, %[[L:[^ ]*]]: memref<?xi32>, %[[T:[^ ]*]]: memref<?x?xi32>, %[[P:[^ ]*]]: memref<?xi64>, %[[OUT:[^ ]*]]: memref<?xi64>
// CHECK: memref.copy %[[T]], %[[T0:.*]] :
// CHECK: %[[TABLE:.*]] = kvcache.make_block_table %[[T0]]
// CHECK: memref.copy %[[S]], %[[S0:.*]] :
// CHECK: memref.copy %[[L]], %[[L0:.*]] :
// CHECK: memref.copy %[[P]], %[[P0:.*]] :
// CHECK: %[[B:.*]] = kvcache.make_batch %[[S0]], %[[L0]], %[[TABLE]] positions(%[[P0]] : memref<?xi64>)
// CHECK: memref.store %{{.*}}, %[[S]]
// CHECK: memref.store %{{.*}}, %[[L]]
// CHECK: memref.store %{{.*}}, %[[T]]
// CHECK: memref.store %{{.*}}, %[[P]]
// CHECK: kvcache.slot_mapping %[[B]] into %[[OUT]]
func.func @batch_before_updates(%starts: !list, %lengths: !list, %blocks: tensor<?x?xi32>, %p: tensor<?xi64>, %out: tensor<?xi64>,
                                %i: index, %x: i32, %y: i64) -> (!list, !list, tensor<?x?xi32>, tensor<?xi64>, tensor<?xi64>) {
  %t = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %b = kvcache.make_batch %starts, %lengths, %t positions(%p : tensor<?xi64>) : !list, !list, !table
  %u0 = tensor.insert %x into %starts[%i] : !list
  %u1 = tensor.insert %x into %lengths[%i] : !list
  %u2 = tensor.insert %x into %blocks[%i, %i] : tensor<?x?xi32>
  %u3 = tensor.insert %y into %p[%i] : tensor<?xi64>
  %o = kvcache.slot_mapping %b into %out : !positions into tensor<?xi64>
  return %u0, %u1, %u2, %u3, %o : !list, !list, tensor<?x?xi32>, tensor<?xi64>, tensor<?xi64>
}

// CHECK-LABEL: func.func @no_copy_of_a_batch(
// CHECK-SAME: %[[S:[^ ]*]]: memref<?xi32>, %[[L:[^ ]*]]: memref<?xi32>, %[[T:[^ ]*]]: memref<?x?xi32>, %[[OUT:[^ ]*]]: memref<?xi64>) {
// CHECK-NEXT: %[[TABLE:.*]] = kvcache.make_block_table %[[T]]
// CHECK-NEXT: %[[B:.*]] = kvcache.make_batch %[[S]], %[[L]], %[[TABLE]]
// CHECK-NEXT: kvcache.slot_mapping %[[B]] into %[[OUT]]
// CHECK-NEXT: return{{$}}
func.func @no_copy_of_a_batch(%starts: !list, %lengths: !list, %blocks: tensor<?x?xi32>, %out: tensor<?xi64>) -> tensor<?xi64> {
  %t = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %b = kvcache.make_batch %starts, %lengths, %t : !list, !list, !table
  %o = kvcache.slot_mapping %b into %out : !batch into tensor<?xi64>
  return %o : tensor<?xi64>
}

// CHECK-LABEL: func.func @rows_before_an_update(
// CHECK-SAME: %[[B:[^ ]*]]: !kv_batch{{[0-9]*}}, %[[S:[^ ]*]]: memref<?xi32>, %[[P:[^ ]*]]: memref<?xi64>
// CHECK: memref.copy %[[S]], %[[S0:.*]] :
// CHECK: kvcache.with_rows %[[B]], %[[S0]], %[[P]]
// CHECK: memref.store %{{.*}}, %[[S]]
func.func @rows_before_an_update(%batch: !batch, %starts: !list, %p: tensor<?xi64>, %out: tensor<?xi64>, %i: index, %x: i32) -> (!list, tensor<?xi64>) {
  %b = kvcache.with_rows %batch, %starts, %p : !batch, !list, tensor<?xi64>
  %u = tensor.insert %x into %starts[%i] : !list
  %o = kvcache.slot_mapping %b into %out : !positions into tensor<?xi64>
  return %u, %o : !list, tensor<?xi64>
}

// CHECK-LABEL: func.func @no_copy_of_selected_rows(
// CHECK-SAME: %[[B:[^ ]*]]: !kv_batch{{[0-9]*}}, %[[X:[^ ]*]]: memref<?x64xf32>, %[[AT:[^ ]*]]: memref<?xi32>, %[[N:[^ ]*]]: memref<1xi32>, %[[X0:[^ ]*]]: memref<?x64xf32>, %[[S0:[^ ]*]]: memref<?xi32>, %[[P0:[^ ]*]]: memref<?xi64>, %[[OUT:[^ ]*]]: memref<?xi64>) {
// CHECK-NEXT: kvcache.select_rows %[[X]] of %[[B]] at %[[AT]], %[[N]] into %[[X0]], %[[S0]], %[[P0]]
// CHECK-NEXT: %[[C:.*]] = kvcache.with_rows %[[B]], %[[S0]], %[[P0]]
// CHECK-NEXT: kvcache.slot_mapping %[[C]] into %[[OUT]]
// CHECK-NEXT: return{{$}}
func.func @no_copy_of_selected_rows(%batch: !batch, %x: tensor<?x64xf32>, %at: !list, %n: tensor<1xi32>, %x0: tensor<?x64xf32>, %s0: !list,
                                    %p0: tensor<?xi64>, %out: tensor<?xi64>) -> (tensor<?x64xf32>, tensor<?xi64>) {
  %y, %s, %p = kvcache.select_rows %x of %batch at %at, %n into %x0, %s0, %p0
    : tensor<?x64xf32> of !batch at !list, tensor<1xi32> into tensor<?x64xf32>, !list, tensor<?xi64>
  %b = kvcache.with_rows %batch, %s, %p : !batch, !list, tensor<?xi64>
  %o = kvcache.slot_mapping %b into %out : !positions into tensor<?xi64>
  return %y, %o : tensor<?x64xf32>, tensor<?xi64>
}

// CHECK-LABEL: func.func @no_copy_of_lists(
// CHECK-NEXT: kvcache.map_blocks
// CHECK-NEXT: kvcache.block_slots
// CHECK-NEXT: return{{$}}
func.func @no_copy_of_lists(%b: !list, %m: !list, %o: tensor<?xi64>) -> tensor<?xi64> {
  %0 = kvcache.map_blocks %b by 4 into %m : !list into !list
  %1 = kvcache.block_slots %0 of 16 into %o : !list into tensor<?xi64>
  return %1 : tensor<?xi64>
}

// Rows of a table may be apart, so a part of a matrix is no copy.

// CHECK-LABEL: func.func @no_copy_of_a_part(
// CHECK-NOT: memref.copy
// CHECK: %[[PART:.*]] = memref.subview
// CHECK: kvcache.make_block_table %[[PART]] : memref<?x?xi32, strided<[?, 1]>>
func.func @no_copy_of_a_part(%t: tensor<?x?xi32>, %r: index, %m: index, %s: !list, %out: tensor<?xi64>) -> tensor<?xi64> {
  %part = tensor.extract_slice %t[0, 0] [%r, %m] [1, 1] : tensor<?x?xi32> to tensor<?x?xi32>
  %table = kvcache.make_block_table %part : tensor<?x?xi32> to !table
  %b = kvcache.make_batch %s, %s, %table : !list, !list, !table
  %o = kvcache.slot_mapping %b into %out : !batch into tensor<?xi64>
  return %o : tensor<?xi64>
}

// Also one that is overwritten and not read.

// CHECK-LABEL: func.func @table_before_it_is_mapped(
// CHECK-SAME: %[[A:[^ ]*]]: memref<?x?xi32>, %[[T:[^ ]*]]: memref<?x?xi32>
// CHECK: memref.copy %[[T]], %[[T0:.*]] :
// CHECK: kvcache.make_block_table %[[T0]]
// CHECK: kvcache.map_blocks %[[A]] by 4 into %[[T]]
func.func @table_before_it_is_mapped(%a: tensor<?x?xi32>, %t: tensor<?x?xi32>, %s: !list, %out: tensor<?xi64>) -> (tensor<?x?xi32>, tensor<?xi64>) {
  %table = kvcache.make_block_table %t : tensor<?x?xi32> to !table
  %u = kvcache.map_blocks %a by 4 into %t : tensor<?x?xi32> into tensor<?x?xi32>
  %b = kvcache.make_batch %s, %s, %table : !list, !list, !table
  %o = kvcache.slot_mapping %b into %out : !batch into tensor<?xi64>
  return %u, %o : tensor<?x?xi32>, tensor<?xi64>
}

// Other reads of the tensor, and updates after the last use, cost nothing.

// CHECK-LABEL: func.func @no_copy_where_it_is_read(
// CHECK-NOT: memref.copy
// CHECK: kvcache.slot_mapping
// CHECK: memref.load
// CHECK: memref.store
func.func @no_copy_where_it_is_read(%s: !list, %blocks: tensor<?x?xi32>, %out: tensor<?xi64>, %i: index) -> (!list, i32, tensor<?xi64>) {
  %t = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %b = kvcache.make_batch %s, %s, %t : !list, !list, !table
  %o = kvcache.slot_mapping %b into %out : !batch into tensor<?xi64>
  %x = tensor.extract %s[%i] : !list
  %u = tensor.insert %x into %s[%i] : !list
  return %u, %x, %o : !list, i32, tensor<?xi64>
}

// In a loop, the first round is followed by the second.

// CHECK-LABEL: func.func @batch_before_a_loop(
// CHECK-SAME: %[[S:[^ ]*]]: memref<?xi32>
// CHECK: memref.copy %[[S]], %[[S0:.*]] :
// CHECK: kvcache.make_batch %[[S0]]
// CHECK: scf.for
// CHECK: kvcache.slot_mapping
// CHECK: memref.store %{{.*}}, %[[S]]
func.func @batch_before_a_loop(%s: !list, %l: !list, %blocks: tensor<?x?xi32>, %out: tensor<?xi64>, %n: index, %x: i32) -> (!list, tensor<?xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %t = kvcache.make_block_table %blocks : tensor<?x?xi32> to !table
  %b = kvcache.make_batch %s, %l, %t : !list, !list, !table
  %r:2 = scf.for %i = %c0 to %n step %c1 iter_args(%a = %s, %m = %out) -> (!list, tensor<?xi64>) {
    %o = kvcache.slot_mapping %b into %m : !batch into tensor<?xi64>
    %u = tensor.insert %x into %a[%i] : !list
    scf.yield %u, %o : !list, tensor<?xi64>
  }
  return %r#0, %r#1 : !list, tensor<?xi64>
}

// A list is read entry by entry: a column of a matrix is copied, and so are rows
// whose channels are apart; rows that are apart are not.

// CHECK-LABEL: func.func @column_of_a_matrix(
// CHECK-SAME: %[[PAIRS:[^ ]*]]: memref<5x2xi64>
// CHECK-DAG: %[[B:.*]] = memref.subview %[[PAIRS]][0, 0] [5, 1] [1, 1]
// CHECK-DAG: %[[O:.*]] = memref.subview %[[PAIRS]][0, 1] [5, 1] [1, 1]
// CHECK-DAG: memref.copy %[[B]], %[[BLOCKS:.*]] : memref<5xi64, strided<[2]>> to memref<5xi64>
// CHECK-DAG: memref.copy %[[O]], %[[OFFSETS:.*]] : memref<5xi64, strided<[2], offset: 1>> to memref<5xi64>
// CHECK: kvcache.scatter %{{.*}} into %{{.*}} at %[[BLOCKS]], %[[OFFSETS]]
func.func @column_of_a_matrix(%pairs: tensor<5x2xi64>, %rows: tensor<5x64xf32>, %pool: tensor<6x16x64xf32>) -> tensor<6x16x64xf32> {
  %b = tensor.extract_slice %pairs[0, 0] [5, 1] [1, 1] : tensor<5x2xi64> to tensor<5xi64>
  %o = tensor.extract_slice %pairs[0, 1] [5, 1] [1, 1] : tensor<5x2xi64> to tensor<5xi64>
  %new = kvcache.scatter %rows into %pool[B, N, D] at %b, %o pad = none : tensor<5x64xf32> into tensor<6x16x64xf32> at tensor<5xi64>, tensor<5xi64>
  return %new : tensor<6x16x64xf32>
}

// CHECK-LABEL: func.func @part_of_a_list(
// CHECK: memref.copy %{{.*}}, %[[S:.*]] : memref<5xi64, strided<[1], offset: ?>> to memref<5xi64>
// CHECK: kvcache.make_slots %[[S]] : memref<5xi64>
func.func @part_of_a_list(%list: tensor<?xi64>, %i: index, %rows: tensor<5x64xf32>, %pool: tensor<6x16x64xf32>) -> tensor<6x16x64xf32> {
  %part = tensor.extract_slice %list[%i] [5] [1] : tensor<?xi64> to tensor<5xi64>
  %s = kvcache.make_slots %part : tensor<5xi64> to !kvcache.slots<5T x i64, rows_per_block = 16, pad = none>
  %new = kvcache.index_copy %rows into %pool[B, N, D] at %s : tensor<5x64xf32> into tensor<6x16x64xf32> at !kvcache.slots<5T x i64, rows_per_block = 16, pad = none>
  return %new : tensor<6x16x64xf32>
}

// CHECK-LABEL: func.func @no_copy_of_rows_apart(
// CHECK-NOT: memref.copy
// CHECK: kvcache.index_copy %{{.*}} into %{{.*}} at %{{.*}} : memref<5x64xf32, strided<[192, 1], offset: 64>>
// CHECK-NOT: memref.copy
// CHECK: return
func.func @no_copy_of_rows_apart(%fused: tensor<5x192xf32>, %s: !kvcache.slots<5T x i64, rows_per_block = 16, pad = none>, %pool: tensor<6x16x64xf32>) -> tensor<6x16x64xf32> {
  %rows = tensor.extract_slice %fused[0, 64] [5, 64] [1, 1] : tensor<5x192xf32> to tensor<5x64xf32>
  %new = kvcache.index_copy %rows into %pool[B, N, D] at %s : tensor<5x64xf32> into tensor<6x16x64xf32> at !kvcache.slots<5T x i64, rows_per_block = 16, pad = none>
  return %new : tensor<6x16x64xf32>
}

// CHECK-LABEL: func.func @no_copy_of_one_head(
// CHECK-NOT: memref.copy
// CHECK: kvcache.index_copy %{{.*}} into %{{.*}} at %{{.*}} : memref<5x1x64xf32, strided<[512, 128, 1]>>
// CHECK-NOT: memref.copy
// CHECK: return
func.func @no_copy_of_one_head(%heads: tensor<5x4x128xf32>, %s: !kvcache.slots<5T x i64, rows_per_block = 16, pad = none>, %pool: tensor<6x16x1x64xf32>) -> tensor<6x16x1x64xf32> {
  %rows = tensor.extract_slice %heads[0, 0, 0] [5, 1, 64] [1, 1, 1] : tensor<5x4x128xf32> to tensor<5x1x64xf32>
  %new = kvcache.index_copy %rows into %pool[B, N, H, D] at %s : tensor<5x1x64xf32> into tensor<6x16x1x64xf32> at !kvcache.slots<5T x i64, rows_per_block = 16, pad = none>
  return %new : tensor<6x16x1x64xf32>
}

// CHECK-LABEL: func.func @channels_apart(
// CHECK: memref.copy %{{.*}}, %[[R:.*]] : memref<5x64xf32, strided<[128, 2]>> to memref<5x64xf32>
// CHECK: kvcache.index_copy %[[R]] into
func.func @channels_apart(%fused: tensor<5x128xf32>, %s: !kvcache.slots<5T x i64, rows_per_block = 16, pad = none>, %pool: tensor<6x16x64xf32>) -> tensor<6x16x64xf32> {
  %rows = tensor.extract_slice %fused[0, 0] [5, 64] [1, 2] : tensor<5x128xf32> to tensor<5x64xf32>
  %new = kvcache.index_copy %rows into %pool[B, N, D] at %s : tensor<5x64xf32> into tensor<6x16x64xf32> at !kvcache.slots<5T x i64, rows_per_block = 16, pad = none>
  return %new : tensor<6x16x64xf32>
}
