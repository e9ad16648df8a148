// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "NumpyFile.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Endian.h"

using namespace kvcache;
using namespace kvcache::run;
using namespace llvm;

static constexpr StringLiteral kMagic = "\x93NUMPY";

/// The text behind `'key':` in a Python dictionary.
static StringRef valueOf(StringRef dictionary, StringRef key) {
  size_t at = dictionary.find(("'" + key + "':").str());
  if (at == StringRef::npos)
    return "";
  return dictionary.drop_front(at + key.size() + 3).ltrim();
}

Expected<NumpyHeader> NumpyHeader::parse(StringRef file) {
  // Magic, version 1.0, 2.0 or 3.0, length of the dictionary, dictionary.
  bool isNumpy = file.starts_with(kMagic) && file.size() >= 12;
  unsigned wide = isNumpy && file[6] > 1;
  size_t begin = wide ? 12 : 10;
  size_t length = !isNumpy ? 0
                  : wide   ? support::endian::read32le(file.data() + 8)
                           : support::endian::read16le(file.data() + 8);
  if (!isNumpy || file.size() - begin < length)
    return runError("expected the header of a .npy file");
  NumpyHeader header;
  header.size = begin + length;
  StringRef dictionary = file.substr(begin, length);
  StringRef type = valueOf(dictionary, "descr");
  if (!type.consume_front("'"))
    return runError("expected an array of numbers, got elements of " +
                    type.take_until([](char c) { return c == '\n'; }));
  header.type = type.take_until([](char c) { return c == '\''; }).str();
  if (valueOf(dictionary, "fortran_order").starts_with("True"))
    return runError("expected an array in C order, got one in Fortran order");
  StringRef shape = valueOf(dictionary, "shape");
  if (!shape.consume_front("("))
    return runError("expected the shape of an array in the header");
  shape = shape.take_until([](char c) { return c == ')'; });
  for (StringRef extent : split(shape, ',')) {
    int64_t value;
    extent = extent.trim();
    if (extent.empty()) // (5,)
      continue;
    if (extent.getAsInteger(10, value) || value < 0)
      return runError("expected the shape of an array in the header, got (" +
                      shape + ")");
    header.shape.push_back(value);
  }
  return header;
}

std::string NumpyHeader::str() const {
  std::string dictionary =
      "{'descr': '" + type + "', 'fortran_order': False, 'shape': (";
  for (int64_t extent : shape)
    dictionary += std::to_string(extent) + ", ";
  dictionary += "), }";
  // The elements begin at a multiple of 64.
  size_t length = alignTo(10 + dictionary.size() + 1, 64) - 10;
  dictionary.append(length - 1 - dictionary.size(), ' ');
  std::string text = kMagic.str();
  text += {1, 0, char(length & 255), char(length >> 8)};
  return text + dictionary + "\n";
}

unsigned NumpyHeader::elementBytes() const {
  unsigned bytes;
  StringRef digits =
      StringRef(type).drop_front(std::min<size_t>(2, type.size()));
  bool isKnown = !type.empty() && StringRef("<|").contains(type[0]) &&
                 type.size() > 1 && StringRef("fiubV").contains(type[1]);
  return isKnown && !digits.getAsInteger(10, bytes) ? bytes : 0;
}
