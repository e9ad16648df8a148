// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// What the header and the manifest say of extents that follow from those of
// other arguments, on both targets.
//
// RUN: kv-compile %s --emit=header --name=extents | FileCheck %s --check-prefix=H
// RUN: kv-compile %s --emit=header --name=extents --target=sm_90a \
// RUN:   | FileCheck %s --check-prefix=H
// RUN: kv-compile %s --emit=manifest --name=extents | FileCheck %s --check-prefix=M

!cache = !kvcache.cache<?B x 16N x 8H x 128D x bf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!rows = tensor<?x8x128xbf16>

// The list of slots is gone, and rows are blocks.
// H-LABEL: whole_blocks: i32
// H:      blocks: i32 [n0], read
// H:      rows: bf16 [16 * n0, 8, 128], read
// M:      "name": "blocks",
// M:      "extent": "any",
// M-NEXT: "equal": 0,
// M-NEXT: "stride": "compact",
// M:      "name": "rows",
// M:      "extent": "any",
// M-NEXT: "equal": 1,
// M-NEXT: "times": 16,
// M-NEXT: "of": 0,
// M-NEXT: "plus": 0,
// M-NEXT: "stride": "compact",
func.func @whole(%title: i32 {kvcache.name = "whole_blocks"}, %pool: !cache,
                 %blocks: tensor<?xi32>, %rows: !rows) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %n = tensor.dim %blocks, %c0 : tensor<?xi32>
  %t = arith.muli %n, %c16 : index
  %list = tensor.empty(%t) : tensor<?xi64>
  %filled = kvcache.block_slots %blocks of 16 into %list
    : tensor<?xi32> into tensor<?xi64>
  %slots = kvcache.make_slots %filled : tensor<?xi64> to !slots
  kvcache.index_copy %rows into %pool at %slots : !rows into !cache at !slots
  return
}

// Numbers that are added, and reads.
// H-LABEL: sums: i32
// H:      slots: i64 [n0], read
// H:      out: bf16 [n0 - 3, 8, 128], written
func.func @sums(%title: i32 {kvcache.name = "sums"}, %pool: !cache,
                %slots: memref<?xi64>,
                %out: memref<?x8x128xbf16>) {
  %c0 = arith.constant 0 : index
  %c3 = arith.constant 3 : index
  %n = memref.dim %slots, %c0 : memref<?xi64>
  %t = arith.subi %n, %c3 : index
  %part = memref.subview %slots[0] [%t] [1]
    : memref<?xi64> to memref<?xi64, strided<[1]>>
  %packed = memref.cast %part
    : memref<?xi64, strided<[1]>> to memref<?xi64>
  %where = kvcache.make_slots %packed : memref<?xi64> to !slots
  kvcache.gather %pool at %where into %out
    : !cache at !slots into memref<?x8x128xbf16>
  return
}

// One that is known says what the other has to be.
// H-LABEL: known: i32
// H:      blocks: i64 [3], read
// H:      rows: bf16 [48, 8, 128], read
func.func @known(%title: i32 {kvcache.name = "known"}, %pool: !cache,
                 %blocks: memref<3xi64>, %rows: memref<?x8x128xbf16>) {
  %list = memref.alloc() : memref<48xi64>
  kvcache.block_slots %blocks of 16 into %list
    : memref<3xi64> into memref<48xi64>
  %any = memref.cast %list : memref<48xi64> to memref<?xi64>
  %where = kvcache.make_slots %any : memref<?xi64> to !slots
  kvcache.index_copy %rows into %pool at %where
    : memref<?x8x128xbf16> into !cache at !slots
  return
}

// Lists that the caller gives, and a part of the rows' blocks.
// H-LABEL: lists: i32
// H:      blocks: i64 [n0], read
// H:      list: i64 [16 * n0], written
// H:      rows: bf16 [n0, 16, 8, 128], read
func.func @lists(%title: i32 {kvcache.name = "lists"}, %pool: !cache,
                 %blocks: memref<?xi64> {kvcache.noalias}, %list: memref<?xi64>,
                 %rows: memref<?x16x8x128xbf16>) {
  kvcache.block_slots %blocks of 16 into %list : memref<?xi64> into memref<?xi64>
  %flat = memref.collapse_shape %rows [[0, 1], [2], [3]]
    : memref<?x16x8x128xbf16> into memref<?x8x128xbf16>
  %where = kvcache.make_slots %list : memref<?xi64> to !slots
  kvcache.index_copy %flat into %pool at %where
    : memref<?x8x128xbf16> into !cache at !slots
  return
}

// No rule follows: a product of two extents, a number of the caller, and rows
// of which a block has no whole number.
// H-LABEL: no_rules: i32
// H:      table: i64 [?, ?], read
// H:      slots: i64 [?], read
// H:      rows: bf16 [?, 8, 128], read
// H:      thirds: bf16 [?, 3, 8, 128], read
// H:      halves: i64 [?, 2], read
func.func @no_rules(%title: i32 {kvcache.name = "no_rules"}, %pool: !cache,
                    %table: memref<?x?xi64>, %slots: memref<?xi64>,
                    %rows: memref<?x8x128xbf16>,
                    %thirds: memref<?x3x8x128xbf16>,
                    %halves: memref<?x2xi64>, %limit: index) {
  %flat = memref.collapse_shape %table [[0, 1]]
    : memref<?x?xi64> into memref<?xi64>
  %a = kvcache.make_slots %flat : memref<?xi64> to !slots
  kvcache.index_copy %rows into %pool at %a
    : memref<?x8x128xbf16> into !cache at !slots
  %c0 = arith.constant 0 : index
  %n = memref.dim %slots, %c0 : memref<?xi64>
  %least = arith.minsi %n, %limit : index
  %part = memref.subview %slots[0] [%least] [1]
    : memref<?xi64> to memref<?xi64, strided<[1]>>
  %packed = memref.cast %part
    : memref<?xi64, strided<[1]>> to memref<?xi64>
  %b = kvcache.make_slots %packed : memref<?xi64> to !slots
  kvcache.index_copy %rows into %pool at %b
    : memref<?x8x128xbf16> into !cache at !slots
  %by_three = memref.collapse_shape %thirds [[0, 1], [2], [3]]
    : memref<?x3x8x128xbf16> into memref<?x8x128xbf16>
  %by_two = memref.collapse_shape %halves [[0, 1]]
    : memref<?x2xi64> into memref<?xi64>
  %c = kvcache.make_slots %by_two : memref<?xi64> to !slots
  kvcache.index_copy %by_three into %pool at %c
    : memref<?x8x128xbf16> into !cache at !slots
  return
}

// What a cast promises is checked, if each call comes to it.
// H-LABEL: casts: i32
// H:      slots: i64 [20], written
// H:      rows: bf16 [20, 8, 128], read
// H:      some: i64 [?], read
func.func @casts(%title: i32 {kvcache.name = "casts"}, %pool: !cache,
                 %slots: memref<?xi64>, %rows: memref<?x8x128xbf16>,
                 %some: memref<?xi64>) {
  %list = memref.cast %slots : memref<?xi64> to memref<20xi64>
  %packed = memref.cast %rows
    : memref<?x8x128xbf16> to memref<20x8x128xbf16>
  %a = kvcache.make_slots %list : memref<20xi64>
    to !kvcache.slots<20T x i64, rows_per_block = 16, pad = skip_negative>
  kvcache.index_copy %packed into %pool at %a
    : memref<20x8x128xbf16> into !cache
    at !kvcache.slots<20T x i64, rows_per_block = 16, pad = skip_negative>
  %c0 = arith.constant 0 : index
  %c4 = arith.constant 4 : index
  %n = memref.dim %some, %c0 : memref<?xi64>
  %is_four = arith.cmpi eq, %n, %c4 : index
  scf.if %is_four {
    %four = memref.cast %some : memref<?xi64> to memref<4xi64>
    %first = memref.load %four[%c0] : memref<4xi64>
    memref.store %first, %slots[%c0] : memref<?xi64>
  }
  return
}

// A result has no name of its own: one that an argument has is not taken.
// H-LABEL: results: i32
// H:      arg2: f32 [4], read
// H:      arg2_: f32 [4], result
func.func @results(%title: i32 {kvcache.name = "results"},
                   %arg2: tensor<4xf32>) -> tensor<4xf32> {
  %e = tensor.empty() : tensor<4xf32>
  %r = linalg.add ins(%arg2, %arg2 : tensor<4xf32>, tensor<4xf32>)
    outs(%e : tensor<4xf32>) -> tensor<4xf32>
  return %r : tensor<4xf32>
}

// Members of a batch follow from the number of requests.
// H-LABEL: requests: i32
// H:      b.starts: i32 [[[R:n[0-9]+]] + 1], read
// H:      b.lengths: i32 [[[R]]], read
// H:      b.table: i32 [[[R]], ?], read
// H:      b.positions: i64 [[[ROWS:n[0-9]+]]], read
// H:      out: i64 [[[ROWS]]], written
func.func @requests(%title: i32 {kvcache.name = "requests"},
                    %b: !kvcache.batch<?R x ?M x i32, tokens = 16, positions = i64>,
                    %out: memref<?xi64>) {
  kvcache.slot_mapping %b into %out
    : !kvcache.batch<?R x ?M x i32, tokens = 16, positions = i64>
    into memref<?xi64>
  return
}

// What is far beyond any extent is not followed.
// H-LABEL: far: i32
// H:      list: i64 [?], read
// H:      out: bf16 [?, 8, 128], written
func.func @far(%title: i32 {kvcache.name = "far"}, %pool: !cache,
               %list: memref<?xi64>, %out: memref<?x8x128xbf16>) {
  %c0 = arith.constant 0 : index
  %least = arith.constant -9223372036854775808 : index
  %n = memref.dim %list, %c0 : memref<?xi64>
  %t = arith.subi %n, %least : index
  %copy = memref.alloc(%t) : memref<?xi64>
  kvcache.block_slots %list of 1 into %copy : memref<?xi64> into memref<?xi64>
  %where = kvcache.make_slots %copy : memref<?xi64> to !slots
  kvcache.gather %pool at %where into %out
    : !cache at !slots into memref<?x8x128xbf16>
  return
}

// A constant of one is that of all that are equal to another one.
// H-LABEL: one_of_all: i32
// H:      a: f32 [5, 2, 8], written
// H:      b: f32 [5, 2, 8], read
// H:      lse: f32 [5, 2], written
// H:      more: f32 [5, 2], read
func.func @one_of_all(%title: i32 {kvcache.name = "one_of_all"},
                      %a: memref<?x2x8xf32>, %b: memref<?x2x8xf32>,
                      %lse: memref<5x2xf32>, %more: memref<?x2xf32>) {
  kvcache.merge_states %a, %more with %b, %more into %a, %lse
    : memref<?x2x8xf32>, memref<?x2xf32> with memref<?x2x8xf32>, memref<?x2xf32>
      into memref<?x2x8xf32>, memref<5x2xf32>
  return
}

// One list that knows its length says it for all.
// H-LABEL: one_knows: i32
// H:      rows: bf16 [5, 8, 128], read
// H:      blocks: i64 [5], read
// H:      offsets: i32 [5], read
func.func @one_knows(%title: i32 {kvcache.name = "one_knows"}, %pool: !cache, %rows: !rows,
                 %blocks: tensor<?xi64>, %offsets: tensor<5xi32>) {
  %list = tensor.cast %offsets : tensor<5xi32> to tensor<?xi32>
  kvcache.scatter %rows into %pool at %blocks, %list pad = skip_negative
    : !rows into !cache at tensor<?xi64>, tensor<?xi32>
  return
}

// A function in a module in this one has arguments of its own.
// H-LABEL: module_inside: i32
// H-NEXT: x: f32 [?], read
func.func @module_inside(%title: i32 {kvcache.name = "module_inside"},
                         %x: memref<?xf32>) {
  builtin.module {
    func.func @inner(%n: index, %a: memref<?xf32>, %b: memref<?xf32>,
                     %c: memref<?xf32>) {
      linalg.copy ins(%b : memref<?xf32>) outs(%c : memref<?xf32>)
      return
    }
  }
  return
}

// The bytes of a row are 2^64, and it is aligned as far as any is.
// M-LABEL: "name": "far_rows"
// M:       "align": 16
func.func @far_rows(%far: memref<2x4611686018427387904xf32> {kvcache.name = "far_rows"}) {
  return
}
