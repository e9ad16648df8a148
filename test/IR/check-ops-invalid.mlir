// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: kv-opt %s --split-input-file --verify-diagnostics

func.func @word(%l: memref<?xi64>, %n: index) {
  // expected-error @below {{check_entries_c1: 'slot', 'block', 'offset', 'chunk' or 'position' is expected, got 'row'}}
  %0 = kvcache.check_entries "row" in %l first %n below %n by "gather" of "l" : memref<?xi64>
  return
}

// -----

func.func @list_of_floats(%l: memref<?xf32>, %n: index) {
  // expected-error @below {{check_entries_c2: the list is expected to be 1-D, of i32 or i64, got 'memref<?xf32>'}}
  %0 = kvcache.check_entries "slot" in %l first %n below %n by "gather" of "l" : memref<?xf32>
  return
}

// -----

func.func @no_column(%l: memref<?x2xi64>, %n: index) {
  // expected-error @below {{check_entries_c2: the list is expected to be 1-D, of i32 or i64, got 'memref<?x2xi64>'}}
  %0 = kvcache.check_entries "block" in %l first %n below %n by "copy_blocks" of "l" : memref<?x2xi64>
  return
}

// -----

func.func @column_outside(%l: memref<?x2xi64>, %n: index) {
  // expected-error @below {{check_entries_c2: a column of 'memref<?x2xi64>' is expected, got 2}}
  %0 = kvcache.check_entries "block" in %l column 2 first %n below %n by "copy_blocks" of "l" : memref<?x2xi64>
  return
}

// -----

!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = none>
func.func @column_of_slots(%l: !slots, %n: index) {
  // expected-error @below {{check_entries_c2: a column is expected only for a matrix, got one for '!kvcache.slots<?T x i64, rows_per_block = 16, pad = none>'}}
  %0 = kvcache.check_entries "slot" in %l column 0 first %n below %n by "gather" of "l" : !slots
  return
}

// -----

func.func @other_list(%l: memref<?xi64>, %m: memref<?x?xi64>, %n: index) {
  // expected-error @below {{check_entries_c3: the list after 'unless' is expected to be 1-D, of i32 or i64, got 'memref<?x?xi64>'}}
  %0 = kvcache.check_entries "block" in %l first %n below %n unless %m by "scatter" of "l" : memref<?xi64>, memref<?x?xi64>
  return
}

// -----

func.func @gaps(%l: memref<?xi64, strided<[2]>>, %n: index) {
  // expected-error @below {{check_entries_c4: a contiguous memref is expected, got 'memref<?xi64, strided<[2]>>'}}
  %0 = kvcache.check_entries "block" in %l first %n below %n by "scatter" of "l" : memref<?xi64, strided<[2]>>
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16, positions = i64>
func.func @names(%b: !batch, %n: index) {
  // expected-error @below {{check_batch_c1: 4 names of members are expected, got 3}}
  %0 = kvcache.check_batch %b rows %n by "attention" of ["s", "l", "t"] : !batch
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @window(%b: !batch, %n: index) {
  // expected-error @below {{check_batch_c2: a window of at least 1 is expected, got 0}}
  %0 = kvcache.check_batch %b rows %n window 0 by "attention" of ["s", "l", "t"] : !batch
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @window_right(%b: !batch, %n: index) {
  // expected-error @below {{check_batch_c2: 'window_right' is expected to be from 0 to 2^40, got -3}}
  %0 = kvcache.check_batch %b rows %n window_right -3 by "attention" of ["s", "l", "t"] : !batch
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @indices(%b: !batch, %i: memref<?x2xi64>, %v: memref<1xi64>, %n: index) {
  // expected-error @below {{check_selection_c1: indices are expected to be 1-D, of i32 or i64, got 'memref<?x2xi64>'}}
  %0 = kvcache.check_selection %i, %v first %n of %b rows %n by "select_rows" of "i" : memref<?x2xi64>, memref<1xi64>, !batch
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @valid(%b: !batch, %i: memref<?xi64>, %v: memref<2xi64>, %n: index) {
  // expected-error @below {{check_selection_c1: 'valid' is expected to be 1xi64, got 'memref<2xi64>'}}
  %0 = kvcache.check_selection %i, %v first %n of %b rows %n by "select_rows" of "i" : memref<?xi64>, memref<2xi64>, !batch
  return
}

// -----

!batch = !kvcache.batch<?R x ?M x i32, tokens = 16>
func.func @spaces(%b: !batch, %i: memref<?xi64, 1>, %v: memref<1xi64>, %n: index) {
  // expected-error @below {{check_selection_c2: a memref in the default memory space is expected, got 'memref<?xi64, 1>'}}
  %0 = kvcache.check_selection %i, %v first %n of %b rows %n by "select_rows" of "i" : memref<?xi64, 1>, memref<1xi64>, !batch
  return
}
