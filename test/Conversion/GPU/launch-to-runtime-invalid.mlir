// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --kvcache-launch-to-runtime --verify-diagnostics --split-input-file

module attributes {gpu.container_module} {
  gpu.binary @own [#gpu.object<#nvvm.target, assembly = "PTX">]
  func.func @token(%n: index) {
    // expected-error @+1 {{'gpu.launch_func' op is expected to be launched in the stream of the caller, got a token or a stream}}
    %t = gpu.launch_func async @own::@kernel blocks in (%n, %n, %n) threads in (%n, %n, %n)
    gpu.wait [%t]
    return
  }
}

// -----

module attributes {gpu.container_module} {
  gpu.binary @own [#gpu.object<#nvvm.target, assembly = "PTX">]
  func.func @clusters(%n: index) {
    // expected-error @+1 {{'gpu.launch_func' op is expected to be launched without clusters}}
    gpu.launch_func @own::@kernel clusters in (%n, %n, %n) blocks in (%n, %n, %n) threads in (%n, %n, %n)
    return
  }
}

// -----

module attributes {gpu.container_module} {
  gpu.binary @own [#gpu.object<#nvvm.target, assembly = "PTX">]
  func.func @memref(%n: index, %x: memref<?xf32>) {
    // expected-error @+1 {{'gpu.launch_func' op operands are expected to have LLVM types, got 'memref<?xf32>'}}
    gpu.launch_func @own::@kernel blocks in (%n, %n, %n) threads in (%n, %n, %n) args(%x : memref<?xf32>)
    return
  }
}

// -----

module attributes {gpu.container_module} {
  gpu.binary @own [#gpu.object<#nvvm.target, assembly = "PTX">]
  gpu.module @others {
    gpu.func @kernel(%n: index) kernel {
      // expected-error @+1 {{'gpu.launch_func' op is expected where symbols of the enclosing module are visible, got one in 'gpu.module'}}
      gpu.launch_func @own::@kernel blocks in (%n, %n, %n) threads in (%n, %n, %n)
      gpu.return
    }
  }
}

// -----

module attributes {gpu.container_module} {
  gpu.binary @own [#gpu.object<#nvvm.target, assembly = "PTX">]
  llvm.func @kvrt_launch()
  func.func @taken(%n: index) {
    // expected-error-re @+1 {{'gpu.launch_func' op expected 'kvrt_launch' of the runtime to be a function of type '!llvm.func<void (ptr, i64, {{.*}}, ptr)>'}}
    gpu.launch_func @own::@kernel blocks in (%n, %n, %n) threads in (%n, %n, %n)
    return
  }
}
