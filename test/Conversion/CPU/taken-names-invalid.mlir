// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Functions of the run time have fixed names.
//
// RUN: kv-opt %s --convert-kvcache-to-loops --allow-unregistered-dialect --verify-diagnostics --split-input-file

func.func private @kvrt_trace(i32)
func.func @other_type() {
  // expected-error @+1 {{expected 'kvrt_trace' of the runtime to be a function of type '(i64) -> ()', got '(i32) -> ()'}}
  kvcache.trace "text"
  return
}

// -----

memref.global "private" constant @kvrt_check_passed : memref<1xf32> = dense<0.0>
func.func @no_function(%s: memref<?xi64>, %n: index, %end: index) -> i1 {
  // expected-error @+1 {{expected 'kvrt_check_passed' of the runtime to be a function of type '() -> index', got 'memref.global'}}
  %0 = kvcache.check_entries "slot" in %s first %n below %end by "index_copy" of "list" : memref<?xi64>
  return %0 : i1
}

// -----

func.func @unknown_names() {
  "other.region"() ({
    // expected-error @+1 {{expected 'kvrt_trace' of the runtime to be a function of type '(i64) -> ()', got no such name in 'other.region'}}
    kvcache.trace "text"
    "other.end"() : () -> ()
  }) : () -> ()
  return
}
