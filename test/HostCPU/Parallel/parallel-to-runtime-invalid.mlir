// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: kv-opt %s --kvcache-parallel-to-runtime --verify-diagnostics --split-input-file

llvm.func @body(%i: i64, %x: !llvm.ptr) {
  llvm.return
}
// expected-error@+1 {{'llvm.func' op expected @body to be a function of the same type, got !llvm.func<void (i64, ptr)>}}
llvm.func @other_type(i64, f32) attributes {kvcache.parallel_body = @body}

// -----

// expected-error@+1 {{expected @nobody to be a function of the same type, got "no such function"}}
llvm.func @no_body(i64, f32) attributes {kvcache.parallel_body = @nobody}

// -----

llvm.func @body(%x: !llvm.ptr) {
  llvm.return
}
// expected-error@+1 {{expected a number of iterations of type i64 as first argument and no result, got '!llvm.func<void (ptr)>'}}
llvm.func @no_number(!llvm.ptr) attributes {kvcache.parallel_body = @body}

// -----

// expected-error@+1 {{'kvcache.parallel_body' is expected to be the name of a function, on a function without a body, got @f on 'func.func'}}
func.func @with_a_body() attributes {kvcache.parallel_body = @f} {
  return
}

// -----

// expected-error@+1 {{'kvcache.parallel_body' is expected to be the name of a function, on a function without a body, got 3 : i64 on 'func.func'}}
func.func private @no_name() attributes {kvcache.parallel_body = 3}

// -----

func.func @no_function(%x: index) {
  // expected-error@+1 {{'kvcache.parallel_body' is expected to be the name of a function, on a function without a body, got @f on 'arith.addi'}}
  %0 = arith.addi %x, %x {kvcache.parallel_body = @f} : index
  return
}

// -----

llvm.func @body(i64, ...)
// expected-error@+1 {{expected a known number of arguments, got '!llvm.func<void (i64, ...)>'}}
llvm.func @any_number(i64, ...) attributes {kvcache.parallel_body = @body}

// -----

llvm.mlir.global internal @kvrt_parallel_for(1 : i64) : i64
llvm.func @body(%number: i64) {
  llvm.return
}
// expected-error@+1 {{expected 'kvrt_parallel_for' of the runtime to be a function of type '!llvm.func<void (i64, ptr, ptr)>'}}
llvm.func @all(i64) attributes {kvcache.parallel_body = @body}

// -----

// The bodies of a module are its own.
llvm.func @body(%number: i64) {
  llvm.return
}
module {
  // expected-error@+1 {{expected @body to be a function of the same type, got "no such function"}}
  llvm.func @all(i64) attributes {kvcache.parallel_body = @body}
}
