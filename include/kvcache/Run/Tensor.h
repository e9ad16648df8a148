// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_RUN_TENSOR_H
#define KVCACHE_RUN_TENSOR_H

#include "kvcache/Run/Elements.h"

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <cstdlib>
#include <memory>

namespace kvcache::run {

/// Memory that begins at a page. All its bits are set where nothing was written
/// to: as elements, NaN or -1.
class Storage {
public:
  static llvm::Expected<Storage> allocate(uint64_t bytes);
  char *data() const { return memory.get(); }
  uint64_t size() const { return bytes; }

private:
  struct Free {
    void operator()(char *memory) const { std::free(memory); }
  };
  std::unique_ptr<char, Free> memory;
  uint64_t bytes = 0;
};

/// A tensor in memory of its own. Counts are in elements.
struct Tensor {
  const ElementType *type = nullptr;
  std::vector<int64_t> shape, strides;
  int64_t offset = 0;
  Storage storage;

  /// Of the elements that a shape has; nothing if that is too many to have.
  static std::optional<int64_t> count(llvm::ArrayRef<int64_t> shape);
  /// One more than the place of the last element; nothing if that is too far.
  static std::optional<int64_t> reach(llvm::ArrayRef<int64_t> shape,
                                      llvm::ArrayRef<int64_t> strides,
                                      int64_t offset);

  int64_t count() const { return *count(shape); }
  char *first() const { return storage.data() + offset * type->bytes; }
  /// Calls `body` with the address of each element, the last dimension fastest.
  void forEach(llvm::function_ref<void(char *)> body) const;

  /// Fills with what is no number of a file.
  void fill(const ArgumentSpec &spec, uint64_t seed);

  /// Elements as a packed array, or the whole storage.
  llvm::Error writeNumpy(llvm::StringRef path) const;
  llvm::Error writeRaw(llvm::StringRef path) const;
  /// Shape, least, greatest and mean, and the first elements or all of them.
  void print(llvm::raw_ostream &os, llvm::StringRef name, bool all) const;
};

} // namespace kvcache::run

#endif // KVCACHE_RUN_TENSOR_H
