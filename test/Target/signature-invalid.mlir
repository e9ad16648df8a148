// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// What kv-compile refuses because nobody could call it, or check it.
//
// RUN: split-file %s %t
// RUN: not kv-compile %t/result.mlir --emit=header 2>&1 \
// RUN:   | FileCheck %s --check-prefix=RESULT
// RUN: not kv-compile %t/same-name.mlir --emit=header 2>&1 \
// RUN:   | FileCheck %s --check-prefix=SAME-NAME
// RUN: not kv-compile %t/element-type.mlir --emit=header 2>&1 \
// RUN:   | FileCheck %s --check-prefix=ELEMENT-TYPE
// RUN: not kv-compile %t/half.mlir --emit=header 2>&1 \
// RUN:   | FileCheck %s --check-prefix=HALF
// RUN: not kv-compile %t/wide.mlir --emit=header 2>&1 \
// RUN:   | FileCheck %s --check-prefix=WIDE
// RUN: not kv-compile %t/unranked.mlir --emit=header 2>&1 \
// RUN:   | FileCheck %s --check-prefix=UNRANKED
// RUN: not kv-compile %t/inner-view.mlir --emit=header 2>&1 \
// RUN:   | FileCheck %s --check-prefix=INNER-VIEW
// RUN: not kv-compile %t/inner-bytes.mlir --emit=header 2>&1 \
// RUN:   | FileCheck %s --check-prefix=INNER-BYTES
// RUN: not kv-compile %t/offset.mlir --emit=header 2>&1 \
// RUN:   | FileCheck %s --check-prefix=OFFSET
// RUN: not kv-compile %t/backwards.mlir --emit=header 2>&1 \
// RUN:   | FileCheck %s --check-prefix=BACKWARDS
// RUN: not kv-compile %t/memory-space.mlir --emit=header 2>&1 \
// RUN:   | FileCheck %s --check-prefix=MEMORY-SPACE
// RUN: not kv-compile %t/two-orders.mlir --emit=header 2>&1 \
// RUN:   | FileCheck %s --check-prefix=TWO-ORDERS
// RUN: not kv-compile %t/two-layouts.mlir --emit=header 2>&1 \
// RUN:   | FileCheck %s --check-prefix=TWO-LAYOUTS
// RUN: not kv-compile %t/private.mlir --emit=header 2>&1 \
// RUN:   | FileCheck %s --check-prefix=PRIVATE
// RUN: not kv-compile %t/external.mlir --emit=header 2>&1 \
// RUN:   | FileCheck %s --check-prefix=EXTERNAL
// RUN: not kv-compile %t/c-name.mlir --emit=header 2>&1 \
// RUN:   | FileCheck %s --check-prefix=C-NAME
// RUN: not kv-compile %t/collision.mlir --emit=header 2>&1 \
// RUN:   | FileCheck %s --check-prefix=COLLISION
// RUN: %python -c "print('func.func @f(' + ', '.join(f'%%a{i}: index' for i in range(161)) + ') { return }')" > %t/many.mlir
// RUN: not kv-compile %t/many.mlir --emit=header 2>&1 | FileCheck %s --check-prefix=MANY --implicit-check-not="see current operation"
// MANY: error: function 'f' is expected to have at most 160 arguments, got 161
// RUN: %python -c "print('func.func @f(' + ', '.join(f'%%a{i}: memref<' + 12 * '1x' + 'f32>' for i in range(100)) + ') { return }')" > %t/wide-frame.mlir
// RUN: not kv-compile %t/wide-frame.mlir --emit=header 2>&1 | FileCheck %s --check-prefix=WIDE-FRAME
// WIDE-FRAME: error: function 'f' is expected to have at most 2048 extents and strides of arguments, got 2700

//--- result.mlir
// RESULT: error: function 'count' cannot be an entry: result #0 of type 'index'
// RESULT-SAME: is expected to be written to an argument instead
func.func @count(%n: index) -> index {
  return %n : index
}

//--- same-name.mlir
// SAME-NAME: error: function 'f' has two arguments named 'x'
func.func @f(%x: index, %y: index {kvcache.name = "x"}) {
  return
}

//--- element-type.mlir
// ELEMENT-TYPE: error: argument 'flags' of function 'f' cannot be passed from
// ELEMENT-TYPE-SAME: got 'memref<?xi1>'
func.func @f(%flags: memref<?xi1>) {
  return
}

//--- half.mlir
// HALF: error: argument 'scale' of function 'f' cannot be passed from outside:
// HALF-SAME: an integer, f32 or f64, got 'f16'
func.func @f(%scale: f16) {
  return
}

//--- wide.mlir
// WIDE: error: argument 'n' of function 'f' cannot be passed {{.*}} got 'i128'
func.func @f(%n: i128) {
  return
}

//--- unranked.mlir
// UNRANKED: error: argument 'x' of function 'f' cannot be passed
// UNRANKED-SAME: got 'memref<*xf32>'
func.func @f(%x: memref<*xf32>) {
  return
}

//--- offset.mlir
// The caller's pointer is the first element; code would begin 5 behind it.
// OFFSET: error: argument 'x' of function 'f' cannot be passed from outside:
// OFFSET-SAME: without a constant offset or negative strides
// OFFSET-SAME: got 'memref<?xf32, strided<[1], offset: 5>>'
func.func @f(%x: memref<?xf32, strided<[1], offset: 5>>) {
  return
}

//--- backwards.mlir
// BACKWARDS: error: argument 'x' of function 'f' cannot be passed from outside:
// BACKWARDS-SAME: got 'memref<?xf32, strided<[-1]>>'
func.func @f(%x: memref<?xf32, strided<[-1]>>) {
  return
}

//--- memory-space.mlir
// MEMORY-SPACE: error: argument 'x' of function 'f' cannot be passed
// MEMORY-SPACE-SAME: in the default memory space
// MEMORY-SPACE-SAME: got 'memref<?xf32, 3>'
func.func @f(%x: memref<?xf32, 3>) {
  return
}

//--- inner-view.mlir
// The layout of a part of an argument is nothing that an entry can check.
// INNER-VIEW: error: 'kvcache.view' op the layout is expected to be checked by
// INNER-VIEW-SAME: argument of the public function 'f'
func.func @f(%all: memref<4x2x?x16x8x128xbf16>, %slots: tensor<?xi64>,
             %key: tensor<?x8x128xbf16>, %value: tensor<?x8x128xbf16>,
             %n: index) {
  %layer = memref.subview %all[1, 0, 0, 0, 0, 0] [1, 2, %n, 16, 8, 128]
                              [1, 1, 1, 1, 1, 1]
    : memref<4x2x?x16x8x128xbf16>
      to memref<2x?x16x8x128xbf16, strided<[?, 16384, 1024, 128, 1], offset: ?>>
  %cache = kvcache.view %layer
    : memref<2x?x16x8x128xbf16, strided<[?, 16384, 1024, 128, 1], offset: ?>>
      to !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
  %where = kvcache.make_slots %slots : tensor<?xi64>
    to !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
  kvcache.index_copy %key, %value into %cache at %where
    : tensor<?x8x128xbf16>, tensor<?x8x128xbf16>
      into !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
      at !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
  return
}

//--- inner-bytes.mlir
// A view checks that its offset is aligned; the start of the bytes must be too.
// INNER-BYTES: error: 'kvcache.view' op the alignment is expected to be checked
// INNER-BYTES-SAME: the bytes are expected to be an argument of the public
// INNER-BYTES-SAME: function 'f' or a buffer that it allocates
!cache = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
func.func @f(%bytes: memref<?xi8>, %o: index, %n: index,
             %slots: tensor<?xi64>, %key: tensor<?x8x128xbf16>,
             %value: tensor<?x8x128xbf16>) {
  %part = memref.view %bytes[%o][%n] : memref<?xi8> to memref<?xi8>
  %cache = kvcache.view %part extents(B = %n) : memref<?xi8> to !cache
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  kvcache.index_copy %key, %value into %cache at %where
    : tensor<?x8x128xbf16>, tensor<?x8x128xbf16> into !cache at !slots
  return
}

//--- two-layouts.mlir
// TWO-LAYOUTS: error: 'kvcache.view' op no tensor has both this layout and the
// TWO-LAYOUTS-SAME: argument 'pool': they disagree in dimension 1
!pool = memref<2x?x16x8x128xbf16, strided<[?, ?, 1024, 128, 1]>>
!packed = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [B = 32768]>
!wide = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [B = 65536]>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
func.func @f(%pool: !pool, %slots: tensor<?xi64>, %key: tensor<?x8x128xbf16>,
             %value: tensor<?x8x128xbf16>) {
  %a = kvcache.view %pool : !pool to !packed
  %b = kvcache.view %pool : !pool to !wide
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  kvcache.index_copy %key, %value into %a at %where
    : tensor<?x8x128xbf16>, tensor<?x8x128xbf16> into !packed at !slots
  kvcache.index_copy %key, %value into %b at %where
    : tensor<?x8x128xbf16>, tensor<?x8x128xbf16> into !wide at !slots
  return
}

//--- two-orders.mlir
// Blocks would be packed over tokens, and tokens slower than blocks.
// TWO-ORDERS: error: 'kvcache.view' op no tensor has both this layout and the
// TWO-ORDERS-SAME: argument 'pool': they disagree in dimension 1
!pool = memref<?x2x8xf32, strided<[?, ?, 1]>>
!a = !kvcache.cache<?B x 2N x 8D x f32, strides = [N = ?], align = 4>
!b = !kvcache.cache<?B x 2N x 8D x f32, strides = [B = ?, N = ?], order = [N, B, D], align = 4>
func.func @f(%pool: !pool, %pairs: memref<?x2xi64>) {
  %a = kvcache.view %pool : !pool to !a
  %b = kvcache.view %pool : !pool to !b
  kvcache.copy_blocks %a at %pairs : !a at memref<?x2xi64>
  kvcache.copy_blocks %b at %pairs : !b at memref<?x2xi64>
  return
}

//--- private.mlir
// PRIVATE: error: the module is expected to have a public function
func.func private @f(%n: index) {
  return
}

//--- external.mlir
// EXTERNAL: error: function 'other' is expected to have a body: a library calls
// EXTERNAL-SAME: no function of its user
func.func private @other(%x: memref<?xf32>)
func.func @f(%x: memref<?xf32>) {
  call @other(%x) : (memref<?xf32>) -> ()
  return
}

//--- c-name.mlir
// C-NAME: error: function 'to.cache' cannot be called from C: its name is
// C-NAME-SAME: expected to consist of letters, digits and underscores
func.func @to.cache(%n: index) {
  return
}

//--- collision.mlir
// COLLISION: error: function 'f_workspace_size' and another one would both be
// COLLISION-SAME: called 'kv1_f_workspace_size'
func.func @f(%n: index) {
  return
}
func.func @f_workspace_size(%n: index) {
  return
}
