// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: kv-opt %s --kvcache-copy-carried-tensors --split-input-file --verify-diagnostics

// A tensor that grows has no buffer that it could be copied to.
func.func @grows(%x: tensor<?x8xf32>, %y: tensor<1x8xf32>, %n: index) -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %r = scf.for %l = %c0 to %n step %c1 iter_args(%h = %x) -> (tensor<?x8xf32>) {
    %next = tensor.concat dim(0) %h, %y
      : (tensor<?x8xf32>, tensor<1x8xf32>) -> tensor<?x8xf32>
    // expected-error@+1 {{'scf.yield' op operand #0 is made in a buffer of its own: expected dimension 0 to have its extent from before the loop, so that it can be copied, got one that is not known to be the same; use it as 'outs' of the operation that makes it}}
    scf.yield %next : tensor<?x8xf32>
  }
  return %r : tensor<?x8xf32>
}

// -----

// Each would have the extents of the other.
func.func @exchange_of_other_extents(%x: tensor<?x8xf32>, %y: tensor<?x8xf32>, %n: index)
    -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %r:2 = scf.for %l = %c0 to %n step %c1 iter_args(%a = %x, %b = %y)
      -> (tensor<?x8xf32>, tensor<?x8xf32>) {
    // expected-error@+1 {{operand #0 is made in a buffer of its own: expected dimension 0 to have its extent}}
    scf.yield %b, %a : tensor<?x8xf32>, tensor<?x8xf32>
  }
  return %r#0, %r#1 : tensor<?x8xf32>, tensor<?x8xf32>
}

// -----

func.func @unranked(%x: tensor<*xf32>, %y: tensor<*xf32>, %n: index) -> tensor<*xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %r = scf.for %l = %c0 to %n step %c1 iter_args(%h = %x) -> (tensor<*xf32>) {
    // expected-error@+1 {{'scf.yield' op operand #0 is expected to be ranked, got 'tensor<*xf32>'}}
    scf.yield %y : tensor<*xf32>
  }
  return %r : tensor<*xf32>
}
