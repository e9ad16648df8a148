// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_TARGET_ENTRYPOINTS_H
#define KVCACHE_TARGET_ENTRYPOINTS_H

#include "kvcache/Target/Signature.h"

namespace llvm {
class Module;
} // namespace llvm

namespace kvcache::target {

struct LibraryInfo {
  /// A C identifier; part of the symbols of the library as a whole.
  std::string name;
  /// The target of the code, as on the command line.
  std::string target, cpu;
  /// Whether it checks entries of lists, as in CompileOptions.
  std::string checks = "none";
  /// The x86-64 microarchitecture level that host code needs; 5 is level 4 with
  /// AVX512_BF16.
  int cpuLevel = 1;
};

/// Adds the exported functions to a module of lowered code:
///
///   kv1_NAME, kv1_NAME_workspace_size      the C ABI (kv_abi.h)
///   kv1args_NAME, kv1args_NAME_workspace_size
///                                          the same, for any signature
///   __tvm_ffi_NAME                         the convention of TVM-FFI
///   kv1_LIBRARY_check, kv1_LIBRARY_last_error, kv1_LIBRARY_manifest,
///   kv1_LIBRARY_set_parallel_for, kv1_LIBRARY_set_thread_count
///
/// and hides everything else.
void addEntryPoints(llvm::Module &module, const LibraryInfo &library,
                    llvm::ArrayRef<FunctionSignature> signatures);

/// The C header of a library.
std::string writeHeader(const LibraryInfo &library,
                        llvm::ArrayRef<FunctionSignature> signatures);

/// The manifest of a library in JSON: its interface, for engines.
std::string writeManifest(const LibraryInfo &library,
                          llvm::ArrayRef<FunctionSignature> signatures);

} // namespace kvcache::target

#endif // KVCACHE_TARGET_ENTRYPOINTS_H
