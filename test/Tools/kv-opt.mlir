// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// kv-opt knows the passes and pipelines of this project, each with a
// description, and the dialects that they go through.
//
// RUN: kv-opt --help | FileCheck %s --check-prefix=PASSES
// RUN: kv-opt --help | FileCheck %s --check-prefix=PIPELINES
// RUN: kv-opt --show-dialects | FileCheck %s --check-prefix=DIALECTS
// RUN: not kv-opt %s --kvcache-to-nvvm='chip=sm_90a unknown=1' 2>&1 | FileCheck %s --check-prefix=OPTION

// PASSES-DAG: --convert-kvcache-to-gpu {{.*}} Lower kvcache operations to kernels and launches
// PASSES-DAG: --convert-kvcache-to-loops {{.*}} Lower kvcache operations to loops over vectors, for a CPU
// PASSES-DAG: --kvcache-launch-to-runtime {{.*}} Turn GPU binaries and launches into data and runtime calls
// PASSES-DAG: --kvcache-outline-workspace-size {{.*}} Add a function that computes the workspace size of a call
// PASSES-DAG: --one-shot-bufferize {{.*}}
// PASSES-DAG: --canonicalize {{.*}}
// PASSES-DAG: --cse {{.*}}

// PIPELINES-DAG: --kvcache-bufferize {{.*}} Tensors become memrefs, and results become arguments
// PIPELINES-DAG: --kvcache-to-cpu {{.*}} Bufferized kvcache IR to the LLVM dialect, as code for a CPU
// PIPELINES-DAG: --kvcache-to-kernels {{.*}} Bufferized kvcache IR to kernels in a gpu.module and launches
// PIPELINES-DAG: --kvcache-to-nvvm {{.*}} Bufferized kvcache IR to the LLVM dialect, with kernels embedded as PTX or cubin
// PIPELINES-DAG: --chip=<string> {{.*}} Chip of the kernels
// PIPELINES-DAG: --image=<string> {{.*}} Embedded kernels

// DIALECTS: kvcache

// OPTION: no such option unknown

func.func @nothing() {
  return
}
