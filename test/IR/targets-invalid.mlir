// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RUN: kv-opt %s --split-input-file --verify-diagnostics

// expected-error@+1 {{target_c1: 'lanes' of 'wide' is expected to be 8 or 16, got 32}}
module attributes {kvcache.target = #kvcache.target<chip = "wide", isa = cpu, lanes = 32>} {}

// -----

// expected-error@+1 {{target_c1: 'lanes' of 'sm_80' is expected to be 32, got 64}}
module attributes {kvcache.target = #kvcache.target<chip = "sm_80", isa = nvvm, lanes = 64, ptx = 83>} {}

// -----

// expected-error@+1 {{target_c2: 'v4' is expected to have no GPU facts, and products of bf16 only with 16 lanes, got none, 1024 bytes of shared memory, PTX 0}}
module attributes {kvcache.target = #kvcache.target<chip = "v4", isa = cpu, lanes = 16, shared_bytes = 1024>} {}

// -----

// expected-error@+1 {{target_c2: 'v3' is expected to have no GPU facts, and products of bf16 only with 16 lanes, got avx512_bf16, 0 bytes of shared memory, PTX 0}}
module attributes {kvcache.target = #kvcache.target<chip = "v3", isa = cpu, lanes = 8, matrix = avx512_bf16>} {}

// -----

// expected-error@+1 {{target_c2: 'sm_80' is expected to have a PTX version and no CPU facts, got mma_sync, 0 bytes of shared memory, PTX 0}}
module attributes {kvcache.target = #kvcache.target<chip = "sm_80", isa = nvvm, lanes = 32, matrix = mma_sync>} {}

// -----

// expected-error@+1 {{target_c2: 'sm_80' is expected to have a PTX version and no CPU facts, got avx512_bf16, 0 bytes of shared memory, PTX 83}}
module attributes {kvcache.target = #kvcache.target<chip = "sm_80", isa = nvvm, lanes = 32, matrix = avx512_bf16, ptx = 83>} {}

// -----

// expected-error@+1 {{'kvcache.target' is expected to be a target, on a module, got "sm_80" on 'builtin.module'}}
module attributes {kvcache.target = "sm_80"} {}

// -----

// expected-error@+1 {{'kvcache.launch_mode' is expected to be a mode, on a launch, got #kvcache.launch_mode<cooperative> on 'builtin.module'}}
module attributes {kvcache.launch_mode = #kvcache.launch_mode<cooperative>} {}
