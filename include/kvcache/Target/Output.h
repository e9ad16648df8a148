// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Files that are written whole or not at all.
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

/// Files that replace others together. They are written in a hidden folder
/// beside the first one, so that taking their place is a rename. The folder
/// goes with the object; one that a killed process left is removed by the next
/// process that writes a file of that name.
class OutputFiles {
public:
  /// The folder is named after `path`, and beside it.
  static llvm::Expected<OutputFiles> beside(llvm::StringRef path);
  OutputFiles(OutputFiles &&other) noexcept;
  OutputFiles &operator=(OutputFiles &&) = delete;
  ~OutputFiles();

  /// Where to write a file that is no output.
  std::string scratch(llvm::StringRef name) const;
  /// Where to write the file that shall be at `path`.
  std::string add(llvm::StringRef path);
  /// Puts all files in their places, in the order in which they were added, or
  /// leaves all places as they were. They are on the disk then.
  llvm::Error publish();

private:
  OutputFiles(std::string folder, int lock) : folder(folder), lock(lock) {}

  std::string folder;
  int lock;
  std::vector<std::string> places;
};

/// Writes a file where it is; an error says `name`.
llvm::Error writeFile(llvm::StringRef path, llvm::StringRef name,
                      llvm::function_ref<void(llvm::raw_ostream &)> write);

/// Writes one output, also to `-` and to what is no regular file. An error
/// names the path.
llvm::Error writeOutput(llvm::StringRef path,
                        llvm::function_ref<void(llvm::raw_ostream &)> write);

} // namespace kvcache::target

#endif // KVCACHE_TARGET_OUTPUT_H
