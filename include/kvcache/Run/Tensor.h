// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_RUN_TENSOR_H
#define KVCACHE_RUN_TENSOR_H

#include "kvcache/Run/Elements.h"

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <cstdlib>
#include <memory>

namespace kvcache::run {

/// Memory that starts at a page. Unwritten memory has all bits set: as
/// elements, NaN or -1.
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

/// A tensor that owns its memory. Counts are in elements.
struct Tensor {
  const ElementType *type = nullptr;
  std::vector<int64_t> shape, strides;
  int64_t offset = 0;
  Storage storage;

  /// The number of elements of a shape; nothing if it is too large.
  static std::optional<int64_t> count(llvm::ArrayRef<int64_t> shape);
  /// One more than the offset of the last element; nothing if it is too large.
  static std::optional<int64_t> reach(llvm::ArrayRef<int64_t> shape,
                                      llvm::ArrayRef<int64_t> strides,
                                      int64_t offset);

  int64_t count() const { return *count(shape); }
  char *first() const { return storage.data() + offset * type->bytes; }
  /// Calls `body` with the address of each element, the last dimension fastest.
  void forEach(llvm::function_ref<void(char *)> body) const;

  /// Fills with a value that does not come from a file.
  void fill(const ArgumentSpec &spec, uint64_t seed);

  /// The elements as a packed array, or the whole storage.
  llvm::Error writeNumpy(llvm::StringRef path) const;
  llvm::Error writeRaw(llvm::StringRef path) const;
  /// Shape, minimum, maximum and mean, and the first elements or all of them.
  void print(llvm::raw_ostream &os, llvm::StringRef name, bool all) const;
};

} // namespace kvcache::run

#endif // KVCACHE_RUN_TENSOR_H
