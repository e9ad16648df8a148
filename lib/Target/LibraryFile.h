// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The file of a shared library for x86-64: its sections, segments and headers.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_TARGET_LIBRARYFILE_H
#define KVCACHE_LIB_TARGET_LIBRARYFILE_H

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Endian.h"

namespace kvcache::target {

/// A section of the library, in the order of the file. Those of one segment
/// follow each other.
enum Place : unsigned {
  BuildId,
  DynSym,
  GnuHash,
  DynStr,
  RelaDyn,
  Rodata,
  EhFrame,
  Text,
  Stubs,
  TlsData,
  TlsZero,
  RelRo,
  Dynamic,
  Got,
  Data,
  Zero,
  SymTab,
  StrTab,
  ShStrTab,
  NoPlace
};
constexpr unsigned kPlaces = NoPlace;

/// Whether a section is all zeros, without bytes in the file.
bool isZero(unsigned place);

/// Sections are filled, laid out, and then written; between the last two, bytes
/// may change, but not their number.
class LibraryFile {
public:
  struct Section {
    llvm::SmallVector<char, 0> bytes;
    uint64_t size = 0, align = 1;
    uint64_t offset = 0, address = 0; ///< after `layOut`
  };
  static constexpr uint64_t kPage = 4096;

  LibraryFile();

  Section &operator[](Place place) { return sections[place]; }
  const Section &operator[](Place place) const { return sections[place]; }

  template <typename T> void append(Place place, T value) {
    char bytes[sizeof(T)];
    llvm::support::endian::write<T>(bytes, value, llvm::endianness::little);
    sections[place].bytes.append(bytes, bytes + sizeof(T));
  }
  /// Returns where the text begins.
  uint32_t appendString(Place place, llvm::StringRef text);
  /// A symbol in a section, `NoPlace` if it is in none.
  void appendSymbol(Place table, uint32_t name, uint8_t info, Place place,
                    uint64_t value, uint64_t size);

  /// Chooses offsets and addresses.
  void layOut();
  /// The bytes of thread storage before its zeros.
  uint64_t tlsZerosFrom() const;
  /// The bytes of the file, with a build identifier that is a hash of them.
  llvm::SmallVector<char, 0> write();

private:
  uint64_t endOf(unsigned place) const {
    return sections[place].offset + sections[place].bytes.size();
  }
  void writeSegments(char *at) const;
  void writeSectionTable(char *at) const;

  Section sections[kPlaces];
};

} // namespace kvcache::target

#endif // KVCACHE_LIB_TARGET_LIBRARYFILE_H
