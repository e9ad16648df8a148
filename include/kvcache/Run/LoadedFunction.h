// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_RUN_LOADEDFUNCTION_H
#define KVCACHE_RUN_LOADEDFUNCTION_H

#include "kvcache/Run/Arguments.h"
#include "kvcache/Target/Compile.h"

namespace kvcache::run {

/// A function of a library that was compiled, linked and loaded in this
/// process. The library stays loaded.
class LoadedFunction {
public:
  /// Takes a translated program.
  static llvm::Expected<LoadedFunction> load(target::Compilation &compilation,
                                             llvm::StringRef function);
  /// The same for several functions of the program, in one library.
  static llvm::Expected<std::vector<LoadedFunction>>
  loadAll(target::Compilation &compilation,
          llvm::ArrayRef<std::string> functions);

  /// The size in bytes, or the error message of the library.
  llvm::Expected<int64_t> workspaceSize(const Arguments &arguments) const;
  /// `workspace` has the requested size.
  llvm::Error call(const Arguments &arguments, const Storage &workspace) const;

private:
  int64_t (*sizeOf)(const int64_t *words) = nullptr;
  int32_t (*run)(const int64_t *words) = nullptr;
  const char *(*lastError)() = nullptr;
};

} // namespace kvcache::run

#endif // KVCACHE_RUN_LOADEDFUNCTION_H
