// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rules of what computes rows, and of its launch.
//
// RUN: kv-opt %s --verify-diagnostics --split-input-file

func.func @rows_of_one_dimension(%x: memref<?xf32>, %o: memref<?xf32>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c1: rows are expected to be [T, H, D] or [T, D], H and D constant and at least 1, got 'memref<?xf32>'}}
  kvcache.normalize %x into %o epsilon 1.0e-06 : memref<?xf32> into memref<?xf32>
  return
}

// -----

func.func @rows_of_four_dimensions(%x: tensor<?x2x8x8xf32>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c1: rows are expected to be [T, H, D] or [T, D], H and D constant and at least 1, got 'tensor<?x2x8x8xf32>'}}
  %0 = kvcache.normalize %x into %x epsilon 1.0e-06 : tensor<?x2x8x8xf32> into tensor<?x2x8x8xf32>
  return
}

// -----

func.func @rows_of_unknown_heads(%x: memref<?x?x8xf32>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c1: rows are expected to be [T, H, D] or [T, D], H and D constant and at least 1, got 'memref<?x?x8xf32>'}}
  kvcache.normalize %x into %x epsilon 1.0e-06 : memref<?x?x8xf32> into memref<?x?x8xf32>
  return
}

// -----

func.func @rows_of_no_channels(%x: memref<?x2x0xf32>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c1: rows are expected to be [T, H, D] or [T, D], H and D constant and at least 1, got 'memref<?x2x0xf32>'}}
  kvcache.normalize %x into %x epsilon 1.0e-06 : memref<?x2x0xf32> into memref<?x2x0xf32>
  return
}

// -----

func.func @rows_of_doubles(%x: memref<?x8xf64>, %o: memref<?x8xf32>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c1: the elements of rows are expected to be f16, bf16, f32, f8E4M3FN or f8E5M2, got 'f64'}}
  kvcache.normalize %x into %o epsilon 1.0e-06 : memref<?x8xf64> into memref<?x8xf32>
  return
}

// -----

func.func @results_are_integers(%x: memref<?x8xf32>, %o: memref<?x8xi8>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c1: the elements of rows are expected to be f16, bf16, f32, f8E4M3FN or f8E5M2, got 'i8'}}
  kvcache.normalize %x into %o epsilon 1.0e-06 : memref<?x8xf32> into memref<?x8xi8>
  return
}

// -----

func.func @results_of_other_heads(%x: memref<?x2x8xf32>, %o: memref<?x4x8xf32>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c1: the destination is expected to be ?x2x8xf32, got 'memref<?x4x8xf32>'}}
  kvcache.normalize %x into %o epsilon 1.0e-06 : memref<?x2x8xf32> into memref<?x4x8xf32>
  return
}

// -----

func.func @results_without_heads(%x: memref<?x1x8xf32>, %o: memref<?x8xf32>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c1: the destination is expected to be ?x1x8xf32, got 'memref<?x8xf32>'}}
  kvcache.normalize %x into %o epsilon 1.0e-06 : memref<?x1x8xf32> into memref<?x8xf32>
  return
}

// -----

func.func @results_of_other_rows(%x: memref<4x8xf32>, %o: memref<5x8xf32>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c1: the destination is expected to be 4x8xf32, got 'memref<5x8xf32>'}}
  kvcache.normalize %x into %o epsilon 1.0e-06 : memref<4x8xf32> into memref<5x8xf32>
  return
}

// -----

func.func @weight_of_other_channels(%x: memref<?x2x8xf32>, %w: memref<4xf32>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c2: the weight is expected to be [8] of f16, bf16 or f32, got 'memref<4xf32>'}}
  kvcache.normalize %x by %w into %x epsilon 1.0e-06 : memref<?x2x8xf32> by memref<4xf32> into memref<?x2x8xf32>
  return
}

// -----

func.func @weight_of_unknown_channels(%x: memref<?x8xf32>, %w: memref<?xf32>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c2: the weight is expected to be [8] of f16, bf16 or f32, got 'memref<?xf32>'}}
  kvcache.normalize %x by %w into %x epsilon 1.0e-06 : memref<?x8xf32> by memref<?xf32> into memref<?x8xf32>
  return
}

// -----

func.func @weight_of_each_head(%x: memref<?x2x8xf32>, %w: memref<2x8xf32>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c2: the weight is expected to be [8] of f16, bf16 or f32, got 'memref<2x8xf32>'}}
  kvcache.normalize %x by %w into %x epsilon 1.0e-06 : memref<?x2x8xf32> by memref<2x8xf32> into memref<?x2x8xf32>
  return
}

// -----

func.func @weight_of_bytes(%x: memref<?x8xf32>, %w: memref<8xf8E5M2>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c2: the weight is expected to be [8] of f16, bf16 or f32, got 'memref<8xf8E5M2>'}}
  kvcache.normalize %x by %w into %x epsilon 1.0e-06 : memref<?x8xf32> by memref<8xf8E5M2> into memref<?x8xf32>
  return
}

// -----

func.func @weight_is_a_number(%x: memref<?x8xf32>, %w: memref<f32>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c2: the weight is expected to be [8] of f16, bf16 or f32, got 'memref<f32>'}}
  kvcache.normalize %x by %w into %x epsilon 1.0e-06 : memref<?x8xf32> by memref<f32> into memref<?x8xf32>
  return
}

// -----

func.func @rows_with_gaps(%x: memref<?x8xf32, strided<[16, 2]>>, %o: memref<?x8xf32>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c3: contiguous inner dimensions are expected, got 'memref<?x8xf32, strided<[16, 2]>>'}}
  kvcache.normalize %x into %o epsilon 1.0e-06 : memref<?x8xf32, strided<[16, 2]>> into memref<?x8xf32>
  return
}

// -----

func.func @heads_apart(%x: memref<?x2x8xf32>, %o: memref<?x2x8xf32, strided<[?, 16, 1]>>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c3: contiguous inner dimensions are expected, got 'memref<?x2x8xf32, strided<[?, 16, 1]>>'}}
  kvcache.normalize %x into %o epsilon 1.0e-06 : memref<?x2x8xf32> into memref<?x2x8xf32, strided<[?, 16, 1]>>
  return
}

// -----

func.func @weight_with_gaps(%x: memref<?x8xf32>, %w: memref<8xf32, strided<[2]>>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c3: a contiguous memref is expected, got 'memref<8xf32, strided<[2]>>'}}
  kvcache.normalize %x by %w into %x epsilon 1.0e-06 : memref<?x8xf32> by memref<8xf32, strided<[2]>> into memref<?x8xf32>
  return
}

// -----

func.func @rows_in_space(%x: memref<?x8xf32, 1>, %o: memref<?x8xf32>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c3: a memref in the default memory space is expected, got 'memref<?x8xf32, 1>'}}
  kvcache.normalize %x into %o epsilon 1.0e-06 : memref<?x8xf32, 1> into memref<?x8xf32>
  return
}

// -----

func.func @weight_in_space(%x: memref<?x8xf32>, %w: memref<8xf32, 1>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c3: a memref in the default memory space is expected, got 'memref<8xf32, 1>'}}
  kvcache.normalize %x by %w into %x epsilon 1.0e-06 : memref<?x8xf32> by memref<8xf32, 1> into memref<?x8xf32>
  return
}

// -----

func.func @normalized_into_another_form(%x: tensor<?x8xf32>, %o: memref<?x8xf32>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c4: buffers are expected to be all tensors or all memrefs, got 'tensor<?x8xf32>' and 'memref<?x8xf32>'}}
  kvcache.normalize %x into %o epsilon 1.0e-06 : tensor<?x8xf32> into memref<?x8xf32>
  return
}

// -----

func.func @weight_of_another_form(%x: memref<?x8xf32>, %w: tensor<8xf32>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c4: buffers are expected to be all tensors or all memrefs, got 'tensor<8xf32>' and 'memref<?x8xf32>'}}
  kvcache.normalize %x by %w into %x epsilon 1.0e-06 : memref<?x8xf32> by tensor<8xf32> into memref<?x8xf32>
  return
}

// -----

func.func @epsilon_below_zero(%x: memref<?x8xf32>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c5: 'epsilon' is expected to be finite and not negative, got -9.99999997E-7 : f32}}
  kvcache.normalize %x into %x epsilon -1.0e-06 : memref<?x8xf32> into memref<?x8xf32>
  return
}

// -----

func.func @epsilon_is_no_number(%x: memref<?x8xf32>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c5: 'epsilon' is expected to be finite and not negative, got 0x7FC00000 : f32}}
  kvcache.normalize %x into %x epsilon 0x7FC00000 : memref<?x8xf32> into memref<?x8xf32>
  return
}

// -----

func.func @epsilon_is_infinite(%x: memref<?x8xf32>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c5: 'epsilon' is expected to be finite and not negative, got 0x7F800000 : f32}}
  kvcache.normalize %x into %x epsilon 0x7F800000 : memref<?x8xf32> into memref<?x8xf32>
  return
}

// -----

func.func @nothing_plus_one(%x: memref<?x8xf32>) {
  // expected-error@+1 {{'kvcache.normalize' op normalize_c6: a weight is expected with 'plus_one', got none}}
  kvcache.normalize %x into %x epsilon 1.0e-06 plus_one : memref<?x8xf32> into memref<?x8xf32>
  return
}

// -----

func.func @turned_rows_of_one_dimension(%x: memref<?xf32>, %t: memref<?x2xf32>) {
  // expected-error@+1 {{'kvcache.rotate' op rotate_c1: rows are expected to be [T, H, D] or [T, D], H and D constant and at least 1, got 'memref<?xf32>'}}
  kvcache.rotate %x by %t into %x : memref<?xf32> by memref<?x2xf32> into memref<?xf32>
  return
}

// -----

func.func @turned_rows_of_integers(%x: memref<?x8xi32>, %t: memref<?x2xf32>) {
  // expected-error@+1 {{'kvcache.rotate' op rotate_c1: the elements of rows are expected to be f16, bf16, f32, f8E4M3FN or f8E5M2, got 'i32'}}
  kvcache.rotate %x by %t into %x : memref<?x8xi32> by memref<?x2xf32> into memref<?x8xi32>
  return
}

// -----

func.func @turned_into_other_channels(%x: memref<?x8xf32>, %t: memref<?x2xf32>, %o: memref<?x4xf32>) {
  // expected-error@+1 {{'kvcache.rotate' op rotate_c1: the destination is expected to be ?x8xf32, got 'memref<?x4xf32>'}}
  kvcache.rotate %x by %t into %o : memref<?x8xf32> by memref<?x2xf32> into memref<?x4xf32>
  return
}

// -----

func.func @table_of_one_dimension(%x: memref<?x8xf32>, %t: memref<8xf32>) {
  // expected-error@+1 {{'kvcache.rotate' op rotate_c2: the table is expected to be [P, R] of f16, bf16 or f32, R constant, even and from 2 to 8, got 'memref<8xf32>'}}
  kvcache.rotate %x by %t into %x : memref<?x8xf32> by memref<8xf32> into memref<?x8xf32>
  return
}

// -----

func.func @table_of_bytes(%x: memref<?x8xf32>, %t: memref<?x8xf8E4M3FN>) {
  // expected-error@+1 {{'kvcache.rotate' op rotate_c2: the table is expected to be [P, R] of f16, bf16 or f32, R constant, even and from 2 to 8, got 'memref<?x8xf8E4M3FN>'}}
  kvcache.rotate %x by %t into %x : memref<?x8xf32> by memref<?x8xf8E4M3FN> into memref<?x8xf32>
  return
}

// -----

func.func @table_of_unknown_channels(%x: memref<?x8xf32>, %t: memref<?x?xf32>) {
  // expected-error@+1 {{'kvcache.rotate' op rotate_c2: the table is expected to be [P, R] of f16, bf16 or f32, R constant, even and from 2 to 8, got 'memref<?x?xf32>'}}
  kvcache.rotate %x by %t into %x : memref<?x8xf32> by memref<?x?xf32> into memref<?x8xf32>
  return
}

// -----

func.func @table_of_odd_channels(%x: memref<?x8xf32>, %t: memref<?x3xf32>) {
  // expected-error@+1 {{'kvcache.rotate' op rotate_c2: the table is expected to be [P, R] of f16, bf16 or f32, R constant, even and from 2 to 8, got 'memref<?x3xf32>'}}
  kvcache.rotate %x by %t into %x : memref<?x8xf32> by memref<?x3xf32> into memref<?x8xf32>
  return
}

// -----

func.func @table_of_no_channels(%x: memref<?x8xf32>, %t: memref<?x0xf32>) {
  // expected-error@+1 {{'kvcache.rotate' op rotate_c2: the table is expected to be [P, R] of f16, bf16 or f32, R constant, even and from 2 to 8, got 'memref<?x0xf32>'}}
  kvcache.rotate %x by %t into %x : memref<?x8xf32> by memref<?x0xf32> into memref<?x8xf32>
  return
}

// -----

func.func @table_of_more_channels(%x: memref<?x2x8xf32>, %t: memref<?x10xf32>) {
  // expected-error@+1 {{'kvcache.rotate' op rotate_c2: the table is expected to be [P, R] of f16, bf16 or f32, R constant, even and from 2 to 8, got 'memref<?x10xf32>'}}
  kvcache.rotate %x by %t into %x : memref<?x2x8xf32> by memref<?x10xf32> into memref<?x2x8xf32>
  return
}

// -----

func.func @one_channel_has_no_pair(%x: memref<?x2x1xf32>, %t: memref<?x2xf32>) {
  // expected-error@+1 {{'kvcache.rotate' op rotate_c2: the table is expected to be [P, R] of f16, bf16 or f32, R constant, even and from 2 to 1, got 'memref<?x2xf32>'}}
  kvcache.rotate %x by %t into %x : memref<?x2x1xf32> by memref<?x2xf32> into memref<?x2x1xf32>
  return
}

// -----

func.func @positions_of_floats(%x: memref<?x8xf32>, %t: memref<?x8xf32>, %p: memref<?xf32>) {
  // expected-error@+1 {{'kvcache.rotate' op rotate_c3: positions are expected to be 1-D, of i32 or i64, got 'memref<?xf32>'}}
  kvcache.rotate %x by %t at %p into %x : memref<?x8xf32> by memref<?x8xf32> at memref<?xf32> into memref<?x8xf32>
  return
}

// -----

func.func @positions_are_a_matrix(%x: memref<?x8xf32>, %t: memref<?x8xf32>, %p: memref<3x?xi64>) {
  // expected-error@+1 {{'kvcache.rotate' op rotate_c3: positions are expected to be 1-D, of i32 or i64, got 'memref<3x?xi64>'}}
  kvcache.rotate %x by %t at %p into %x : memref<?x8xf32> by memref<?x8xf32> at memref<3x?xi64> into memref<?x8xf32>
  return
}

// -----

func.func @fewer_positions(%x: memref<8x8xf32>, %t: memref<?x8xf32>, %p: memref<4xi64>) {
  // expected-error@+1 {{'kvcache.rotate' op rotate_c3: as many positions as rows are expected, got 'memref<4xi64>' and 'memref<8x8xf32>'}}
  kvcache.rotate %x by %t at %p into %x : memref<8x8xf32> by memref<?x8xf32> at memref<4xi64> into memref<8x8xf32>
  return
}

// -----

func.func @turned_rows_with_gaps(%x: memref<?x8xf32, strided<[16, 2]>>, %t: memref<?x8xf32>, %o: memref<?x8xf32>) {
  // expected-error@+1 {{'kvcache.rotate' op rotate_c4: contiguous inner dimensions are expected, got 'memref<?x8xf32, strided<[16, 2]>>'}}
  kvcache.rotate %x by %t into %o : memref<?x8xf32, strided<[16, 2]>> by memref<?x8xf32> into memref<?x8xf32>
  return
}

// -----

func.func @table_with_gaps(%x: memref<?x8xf32>, %t: memref<?x8xf32, strided<[16, 2]>>) {
  // expected-error@+1 {{'kvcache.rotate' op rotate_c4: contiguous inner dimensions are expected, got 'memref<?x8xf32, strided<[16, 2]>>'}}
  kvcache.rotate %x by %t into %x : memref<?x8xf32> by memref<?x8xf32, strided<[16, 2]>> into memref<?x8xf32>
  return
}

// -----

func.func @positions_with_gaps(%x: memref<?x8xf32>, %t: memref<?x8xf32>, %p: memref<?xi64, strided<[2]>>) {
  // expected-error@+1 {{'kvcache.rotate' op rotate_c4: a contiguous memref is expected, got 'memref<?xi64, strided<[2]>>'}}
  kvcache.rotate %x by %t at %p into %x : memref<?x8xf32> by memref<?x8xf32> at memref<?xi64, strided<[2]>> into memref<?x8xf32>
  return
}

// -----

func.func @turned_in_space(%x: memref<?x8xf32>, %t: memref<?x8xf32>, %o: memref<?x8xf32, 1>) {
  // expected-error@+1 {{'kvcache.rotate' op rotate_c4: a memref in the default memory space is expected, got 'memref<?x8xf32, 1>'}}
  kvcache.rotate %x by %t into %o : memref<?x8xf32> by memref<?x8xf32> into memref<?x8xf32, 1>
  return
}

// -----

func.func @positions_in_space(%x: memref<?x8xf32>, %t: memref<?x8xf32>, %p: memref<?xi64, 1>) {
  // expected-error@+1 {{'kvcache.rotate' op rotate_c4: a memref in the default memory space is expected, got 'memref<?xi64, 1>'}}
  kvcache.rotate %x by %t at %p into %x : memref<?x8xf32> by memref<?x8xf32> at memref<?xi64, 1> into memref<?x8xf32>
  return
}

// -----

func.func @table_of_another_form(%x: memref<?x8xf32>, %t: tensor<?x8xf32>) {
  // expected-error@+1 {{'kvcache.rotate' op rotate_c5: buffers are expected to be all tensors or all memrefs, got 'tensor<?x8xf32>' and 'memref<?x8xf32>'}}
  kvcache.rotate %x by %t into %x : memref<?x8xf32> by tensor<?x8xf32> into memref<?x8xf32>
  return
}

// -----

func.func @positions_of_another_form(%x: memref<?x8xf32>, %t: memref<?x8xf32>, %p: tensor<?xi64>) {
  // expected-error@+1 {{'kvcache.rotate' op rotate_c5: buffers are expected to be all tensors or all memrefs, got 'tensor<?xi64>' and 'memref<?x8xf32>'}}
  kvcache.rotate %x by %t at %p into %x : memref<?x8xf32> by memref<?x8xf32> at tensor<?xi64> into memref<?x8xf32>
  return
}

// -----

func.func @fused_with_a_read(%x: memref<?x8xf32>, %i: index) {
  // expected-error@+1 {{'kvcache.fuse' op fuse_c1: steps and writes of rows on memrefs, and 'memref.alloc', are expected inside, got 'memref.load'}}
  kvcache.fuse {
    %0 = memref.load %x[%i, %i] : memref<?x8xf32>
  }
  return
}

// -----

func.func @fused_tensors(%x: tensor<?x8xf32>) {
  // expected-error@+1 {{'kvcache.fuse' op fuse_c1: steps and writes of rows on memrefs, and 'memref.alloc', are expected inside, got 'kvcache.normalize'}}
  kvcache.fuse {
    %0 = kvcache.normalize %x into %x epsilon 1.0e-06 : tensor<?x8xf32> into tensor<?x8xf32>
  }
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 8D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @fused_reads(%x: memref<?x8xf32>, %c: !k, %s: !slots) {
  // expected-error@+1 {{'kvcache.fuse' op fuse_c1: steps and writes of rows on memrefs, and 'memref.alloc', are expected inside, got 'kvcache.gather'}}
  kvcache.fuse {
    kvcache.gather %c at %s into %x : !k at !slots into memref<?x8xf32>
  }
  return
}

// -----

func.func @fused_twice(%x: memref<?x8xf32>) {
  // expected-error@+1 {{'kvcache.fuse' op fuse_c1: steps and writes of rows on memrefs, and 'memref.alloc', are expected inside, got 'kvcache.fuse'}}
  kvcache.fuse {
    kvcache.fuse {
      kvcache.normalize %x into %x epsilon 1.0e-06 : memref<?x8xf32> into memref<?x8xf32>
    }
  }
  return
}

// -----

func.func @buffer_that_is_not_read(%x: memref<?x8xf32>, %n: index) {
  // expected-error@+1 {{'kvcache.fuse' op fuse_c2: a buffer that is allocated inside is expected to be written by one step and then read once, as rows, got other uses of 'memref<?x8xf32>'}}
  kvcache.fuse {
    %0 = memref.alloc(%n) : memref<?x8xf32>
    kvcache.normalize %x into %0 epsilon 1.0e-06 : memref<?x8xf32> into memref<?x8xf32>
  }
  return
}

// -----

func.func @buffer_that_is_not_written(%x: memref<?x8xf32>, %n: index) {
  // expected-error@+1 {{'kvcache.fuse' op fuse_c2: a buffer that is allocated inside is expected to be written by one step and then read once, as rows, got other uses of 'memref<?x8xf32>'}}
  kvcache.fuse {
    %0 = memref.alloc(%n) : memref<?x8xf32>
    kvcache.normalize %0 into %x epsilon 1.0e-06 : memref<?x8xf32> into memref<?x8xf32>
  }
  return
}

// -----

func.func @buffer_that_is_read_first(%x: memref<?x8xf32>, %n: index) {
  // expected-error@+1 {{'kvcache.fuse' op fuse_c2: a buffer that is allocated inside is expected to be written by one step and then read once, as rows, got other uses of 'memref<?x8xf32>'}}
  kvcache.fuse {
    %0 = memref.alloc(%n) : memref<?x8xf32>
    kvcache.normalize %0 into %x epsilon 1.0e-06 : memref<?x8xf32> into memref<?x8xf32>
    kvcache.normalize %x into %0 epsilon 1.0e-06 : memref<?x8xf32> into memref<?x8xf32>
  }
  return
}

// -----

func.func @buffer_that_is_read_twice(%x: memref<?x8xf32>, %y: memref<?x8xf32>, %n: index) {
  // expected-error@+1 {{'kvcache.fuse' op fuse_c2: a buffer that is allocated inside is expected to be written by one step and then read once, as rows, got other uses of 'memref<?x8xf32>'}}
  kvcache.fuse {
    %0 = memref.alloc(%n) : memref<?x8xf32>
    kvcache.normalize %x into %0 epsilon 1.0e-06 : memref<?x8xf32> into memref<?x8xf32>
    kvcache.normalize %0 into %x epsilon 1.0e-06 : memref<?x8xf32> into memref<?x8xf32>
    kvcache.normalize %0 into %y epsilon 1.0e-06 : memref<?x8xf32> into memref<?x8xf32>
  }
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @buffer_that_is_both_sides(%x: memref<?x8xf32>, %c: !kv, %s: !slots, %n: index) {
  // expected-error@+1 {{'kvcache.fuse' op fuse_c2: a buffer that is allocated inside is expected to be written by one step and then read once, as rows, got other uses of 'memref<?x8xf32>'}}
  kvcache.fuse {
    %0 = memref.alloc(%n) : memref<?x8xf32>
    kvcache.normalize %x into %0 epsilon 1.0e-06 : memref<?x8xf32> into memref<?x8xf32>
    kvcache.index_copy %0, %0 into %c at %s : memref<?x8xf32>, memref<?x8xf32> into !kv at !slots
  }
  return
}

// -----

func.func @buffer_in_place(%x: memref<?x8xf32>, %n: index) {
  // expected-error@+1 {{'kvcache.fuse' op fuse_c2: a buffer that is allocated inside is expected to be written by one step and then read once, as rows, got other uses of 'memref<?x8xf32>'}}
  kvcache.fuse {
    %0 = memref.alloc(%n) : memref<?x8xf32>
    kvcache.normalize %0 into %0 epsilon 1.0e-06 : memref<?x8xf32> into memref<?x8xf32>
  }
  return
}

// -----

func.func @buffer_is_a_table(%x: memref<?x8xf32>, %n: index) {
  // expected-error@+1 {{'kvcache.fuse' op fuse_c2: a buffer that is allocated inside is expected to be written by one step and then read once, as rows, got other uses of 'memref<?x8xf32>'}}
  kvcache.fuse {
    %0 = memref.alloc(%n) : memref<?x8xf32>
    kvcache.normalize %x into %0 epsilon 1.0e-06 : memref<?x8xf32> into memref<?x8xf32>
    kvcache.rotate %x by %0 into %x : memref<?x8xf32> by memref<?x8xf32> into memref<?x8xf32>
  }
  return
}

// -----

func.func @buffer_that_is_used_outside(%x: memref<?x8xf32>, %n: index) {
  %0 = memref.alloc(%n) : memref<?x8xf32>
  // expected-error@+1 {{'kvcache.fuse' op fuse_c2: a buffer that is allocated inside is expected to be written by one step and then read once, as rows, got other uses of 'memref<?x8xf32>'}}
  kvcache.fuse {
    %1 = memref.alloc(%n) : memref<?x8xf32>
    kvcache.normalize %0 into %1 epsilon 1.0e-06 : memref<?x8xf32> into memref<?x8xf32>
  }
  return
}

// -----

func.func @rotations_of_other_channels(%x: memref<?x8xf32>, %s: memref<?x4xf32>, %t: memref<?x8xf32>, %n: index) {
  // expected-error@+1 {{'kvcache.fuse' op fuse_c3: where steps come before 'kvcache.rotate', rotations of the same channels are expected, got 4 and 8}}
  kvcache.fuse {
    %0 = memref.alloc(%n) : memref<?x8xf32>
    kvcache.rotate %x by %s into %0 : memref<?x8xf32> by memref<?x4xf32> into memref<?x8xf32>
    kvcache.rotate %0 by %t into %x : memref<?x8xf32> by memref<?x8xf32> into memref<?x8xf32>
  }
  return
}

// -----

!kv = !kvcache.cache<2S x ?B x 16N x 8D x f32>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @rotations_of_other_pairs(%x: memref<?x8xf32>, %t: memref<?x8xf32>, %c: !kv, %s: !slots, %n: index) {
  // expected-error@+1 {{'kvcache.fuse' op fuse_c3: where steps come before 'kvcache.index_copy', rotations of the same channels are expected, got 8 and 8 interleaved}}
  kvcache.fuse {
    %0 = memref.alloc(%n) : memref<?x8xf32>
    %1 = memref.alloc(%n) : memref<?x8xf32>
    kvcache.rotate %x by %t into %0 : memref<?x8xf32> by memref<?x8xf32> into memref<?x8xf32>
    kvcache.rotate %x by %t into %1 interleaved : memref<?x8xf32> by memref<?x8xf32> into memref<?x8xf32>
    kvcache.index_copy %0, %1 into %c at %s : memref<?x8xf32>, memref<?x8xf32> into !kv at !slots
  }
  return
}

// -----

!k = !kvcache.cache<?B x 16N x 2H x 8D x !kvcache.scaled<i8 x f32, per = [B, N]>>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @one_scale_for_all_heads(%x: memref<?x2x8xf32>, %c: !k, %s: !slots, %n: index) {
  // expected-error@+1 {{'kvcache.fuse' op fuse_c3: where steps come before 'kvcache.index_copy', one scale for each head is expected, got 1 for 2}}
  kvcache.fuse {
    %0 = memref.alloc(%n) : memref<?x2x8xf32>
    kvcache.normalize %x into %0 epsilon 1.0e-06 : memref<?x2x8xf32> into memref<?x2x8xf32>
    kvcache.index_copy %0 into %c at %s : memref<?x2x8xf32> into !k at !slots
  }
  return
}

// -----

func.func @fuse_c4_written_twice(%x: memref<?x8xf32>, %y: memref<?x8xf32>) {
  // expected-error @below {{'kvcache.fuse' op fuse_c4: what 'kvcache.normalize' writes is expected to be no operand of another operation, got that of 'kvcache.rotate'}}
  kvcache.fuse {
    kvcache.normalize %x into %y epsilon 1.0e-06
      : memref<?x8xf32> into memref<?x8xf32>
    kvcache.rotate %y by %x into %x
      : memref<?x8xf32> by memref<?x8xf32> into memref<?x8xf32>
  }
  return
}

// -----

!table = memref<?x8xf32>
func.func @fuse_c4_table(%x: !table, %t: !table, %n: index) {
  // expected-error @below {{'kvcache.fuse' op fuse_c4: what 'kvcache.rotate' writes is expected to be no operand of another operation, got that of 'kvcache.rotate'}}
  kvcache.fuse {
    %a = memref.alloc(%n) : !table
    kvcache.rotate %x by %x into %a : !table by !table into !table
    kvcache.rotate %a by %t into %x : !table by !table into !table
  }
  return
}
