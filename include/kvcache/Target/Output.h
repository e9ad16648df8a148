// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Files that are written completely or not at all.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_TARGET_OUTPUT_H
#define KVCACHE_TARGET_OUTPUT_H

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <string>
#include <vector>

namespace llvm {
class raw_ostream;
} // namespace llvm

namespace kvcache::target {

/// Files that are replaced together. They are written to a hidden folder beside
/// the first one, and moved into place by renaming. The folder is removed with
/// this object; the folder of a killed process is removed by the next process
/// that writes a file of that name.
class OutputFiles {
public:
  /// The folder is named after `path`, and beside it.
  static llvm::Expected<OutputFiles> beside(llvm::StringRef path);
  OutputFiles(OutputFiles &&other) noexcept;
  OutputFiles &operator=(OutputFiles &&) = delete;
  ~OutputFiles();

  /// Where to write a temporary file.
  std::string scratch(llvm::StringRef name) const;
  /// Where to write the file that will be at `path`.
  std::string add(llvm::StringRef path);
  /// Moves all files into place, in the order in which they were added, or
  /// changes nothing. The files have then been synced to disk.
  llvm::Error publish();

private:
  OutputFiles(std::string folder, int lock) : folder(folder), lock(lock) {}

  std::string folder;
  int lock;
  std::vector<std::string> places;
};

/// Writes a file in place; an error mentions `name`.
llvm::Error writeFile(llvm::StringRef path, llvm::StringRef name,
                      llvm::function_ref<void(llvm::raw_ostream &)> write);

/// Writes one output, also to `-` and to files that are not regular. An error
/// names the path.
llvm::Error writeOutput(llvm::StringRef path,
                        llvm::function_ref<void(llvm::raw_ostream &)> write);

} // namespace kvcache::target

#endif // KVCACHE_TARGET_OUTPUT_H
