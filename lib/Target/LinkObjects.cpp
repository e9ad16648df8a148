// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "LinkObjects.h"

#include "LibraryFile.h"

#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Object/ELF.h"
#include "llvm/Support/MathExtras.h"

#include <deque>
#include <map>

using namespace kvcache;
using namespace kvcache::target;
using namespace llvm;
using object::ELF64LE;
using File = object::ELFFile<ELF64LE>;

namespace {

constexpr unsigned kStubBytes = 8;

/// A section of an object.
struct Piece {
  unsigned object = 0, number = 0;
  Place place = NoPlace;
  uint64_t size = 0, align = 1;
  ArrayRef<uint8_t> bytes; ///< of one that is not zero
  File::Elf_Rela_Range relocations;
  bool isLive = false;
  uint64_t offset = 0; ///< in its place
};

/// Where a symbol is: in a piece, or outside of the library.
struct Definition {
  Piece *piece = nullptr;
  uint64_t value = 0;
  int import = -1;

  /// The same from run to run: addresses of pieces are not.
  auto key() const {
    return std::tuple(piece ? int64_t(piece->number) : -1, value, import);
  }
  bool operator<(const Definition &other) const { return key() < other.key(); }
};

/// A change of bytes of the library, once addresses are known.
struct Fixup {
  uint64_t offset; ///< in the place
  uint32_t type;
  int64_t addend;
  Definition of;
};

class Linker {
public:
  Expected<SmallVector<char, 0>> run(ArrayRef<StringRef> objects,
                                     bool staysLoaded);

private:
  Error read(unsigned number, StringRef bytes);
  Expected<Definition> definitionOf(unsigned object,
                                    const File::Elf_Sym &symbol);
  Error resolve(unsigned object);
  Error mark();
  void reach(Piece &piece) {
    if (!piece.isLive)
      waiting.push_back(&piece);
    piece.isLive = true;
  }
  Error need(const Piece &piece);
  Error addFrames(const Piece &piece);
  void placePieces();
  void writeSymbols();
  void writeHash(ArrayRef<uint32_t> hashes, unsigned first);
  Error writeNames();
  void writeDynamic(bool staysLoaded);
  Error apply(Place place, ArrayRef<Fixup> fixups);
  Error applyAll();

  uint64_t addressOf(const Definition &definition) const {
    return library[definition.piece->place].address + definition.piece->offset +
           definition.value;
  }
  uint64_t tlsOffsetOf(const Definition &definition) const {
    return definition.piece->offset + definition.value +
           (definition.piece->place == TlsZero ? library.tlsZerosFrom() : 0);
  }
  unsigned gotSlot(const Definition &definition, unsigned words = 1) {
    auto [it, isNew] = got.insert({definition, gotWords});
    gotWords += isNew ? words : 0;
    return it->second;
  }

  std::vector<File> files;
  std::deque<Piece> pieces;
  /// Pieces of each object by the number of the section, null if none.
  std::vector<std::vector<Piece *>> sections;
  std::vector<File::Elf_Sym_Range> symbols;
  std::vector<StringRef> names;
  std::vector<std::vector<Definition>> definitions;
  std::vector<Piece *> waiting;

  struct Global {
    Definition definition;
    const File::Elf_Sym *symbol = nullptr;
    bool isExported = false;
  };
  MapVector<StringRef, Global, StringMap<unsigned>> globals;
  /// What no object defines. Only what is reached is imported, and has a number
  /// in the table of symbols.
  struct Undefined {
    StringRef name;
    bool isWeak;
    unsigned number = 0;
  };
  std::vector<Undefined> undefined;
  std::vector<unsigned> imports;

  /// The first word in the table of a definition, or of the module's thread
  /// storage, which has the definition of nothing.
  std::map<Definition, unsigned> got;
  unsigned gotWords = 0;
  std::map<int, unsigned> stubs; ///< by import
  unsigned dynamicRelocations = 0;

  struct DynamicRelocation {
    uint64_t address;
    uint32_t type, symbol;
    int64_t addend;
  };
  std::vector<DynamicRelocation> relocations;
  std::vector<Fixup> frameFixups;

  LibraryFile library;
};

} // namespace

static Error unknown(const Twine &what) {
  return createStringError("an object contains " + what +
                           ", which this linker does not know");
}

//===----------------------------------------------------------------------===//
// Objects
//===----------------------------------------------------------------------===//

static Expected<Place> placeOf(const File::Elf_Shdr &section, StringRef name) {
  if (!(section.sh_flags & ELF::SHF_ALLOC) || section.sh_type == ELF::SHT_NOTE)
    return NoPlace;
  if (name == ".eh_frame")
    return EhFrame;
  // Constructors would never run.
  if ((section.sh_type != ELF::SHT_PROGBITS &&
       section.sh_type != ELF::SHT_NOBITS) ||
      name.starts_with(".ctors") || name.starts_with(".dtors"))
    return unknown("section '" + name + "'");
  bool hasBytes = section.sh_type != ELF::SHT_NOBITS;
  if (section.sh_flags & ELF::SHF_TLS)
    return hasBytes ? TlsData : TlsZero;
  if (section.sh_flags & ELF::SHF_EXECINSTR)
    return Text;
  if (!(section.sh_flags & ELF::SHF_WRITE))
    return Rodata;
  if (name.starts_with(".data.rel.ro"))
    return RelRo;
  return hasBytes ? Data : Zero;
}

Error Linker::read(unsigned number, StringRef bytes) {
  Expected<File> file = File::create(bytes);
  if (!file)
    return file.takeError();
  if (file->getHeader().e_machine != ELF::EM_X86_64 ||
      file->getHeader().e_type != ELF::ET_REL)
    return unknown("code for another machine");
  auto headers = file->sections();
  if (!headers)
    return headers.takeError();
  std::vector<Piece *> byNumber(headers->size());
  symbols.emplace_back();
  names.emplace_back();
  for (auto [i, header] : enumerate(*headers)) {
    if (header.sh_type == ELF::SHT_SYMTAB) {
      auto found = file->symbols(&header);
      if (!found)
        return found.takeError();
      auto strings = file->getStringTableForSymtab(header);
      if (!strings)
        return strings.takeError();
      symbols.back() = *found;
      names.back() = *strings;
      continue;
    }
    Expected<StringRef> name = file->getSectionName(header);
    if (!name)
      return name.takeError();
    Expected<Place> place = placeOf(header, *name);
    if (!place)
      return place.takeError();
    if (*place == NoPlace)
      continue;
    Piece &piece = pieces.emplace_back();
    piece.object = number;
    piece.number = pieces.size();
    piece.place = *place;
    piece.size = header.sh_size;
    piece.align = std::max<uint64_t>(1, header.sh_addralign);
    if (piece.align > LibraryFile::kPage)
      return unknown("section '" + *name + "' of a greater alignment");
    if (header.sh_type != ELF::SHT_NOBITS) {
      auto contents = file->getSectionContents(header);
      if (!contents)
        return contents.takeError();
      piece.bytes = *contents;
    }
    byNumber[i] = &piece;
  }
  for (const File::Elf_Shdr &header : *headers) {
    if (header.sh_type != ELF::SHT_RELA || header.sh_info >= byNumber.size() ||
        !byNumber[header.sh_info])
      continue;
    auto found = file->relas(header);
    if (!found)
      return found.takeError();
    byNumber[header.sh_info]->relocations = *found;
  }
  sections.push_back(std::move(byNumber));
  files.push_back(*file);

  for (const File::Elf_Sym &symbol : symbols.back()) {
    if (symbol.getBinding() == ELF::STB_LOCAL)
      continue;
    Expected<StringRef> name = symbol.getName(names.back());
    if (!name)
      return name.takeError();
    Global &global = globals[*name];
    if (!symbol.isUndefined()) {
      Expected<Definition> definition = definitionOf(number, symbol);
      if (!definition)
        return definition.takeError();
      if (global.definition.piece)
        return createStringError("two objects define '" + *name + "'");
      bool isExported = symbol.getVisibility() == ELF::STV_DEFAULT;
      global = {*definition, &symbol, isExported};
    } else if (!global.symbol) {
      global.symbol = &symbol;
    }
  }
  return Error::success();
}

Expected<Definition> Linker::definitionOf(unsigned object,
                                          const File::Elf_Sym &symbol) {
  if (symbol.st_shndx == ELF::SHN_XINDEX || symbol.isAbsolute() ||
      symbol.isCommon())
    return unknown("an absolute or common symbol");
  if (symbol.st_shndx >= sections[object].size())
    return unknown("a symbol of no section");
  Definition definition;
  definition.piece = sections[object][symbol.st_shndx];
  definition.value = symbol.st_value;
  return definition;
}

/// What the symbols of an object are, once all objects are read.
Error Linker::resolve(unsigned object) {
  std::vector<Definition> &found = definitions.emplace_back();
  for (const File::Elf_Sym &symbol : symbols[object]) {
    Definition &definition = found.emplace_back();
    if (symbol.getBinding() == ELF::STB_LOCAL) {
      if (symbol.isUndefined() || symbol.getType() == ELF::STT_FILE)
        continue;
      Expected<Definition> local = definitionOf(object, symbol);
      if (!local)
        return local.takeError();
      definition = *local;
      continue;
    }
    auto *it = globals.find(*symbol.getName(names[object]));
    Global &global = it->second;
    if (!global.definition.piece && global.definition.import < 0 &&
        global.symbol->isUndefined()) {
      global.definition.import = undefined.size();
      undefined.push_back(
          {it->first, global.symbol->getBinding() == ELF::STB_WEAK});
    }
    definition = global.definition;
  }
  return Error::success();
}

//===----------------------------------------------------------------------===//
// What is reached
//===----------------------------------------------------------------------===//

/// Counts what the relocations of a piece need besides the piece itself, and
/// marks what they refer to.
Error Linker::need(const Piece &piece) {
  for (const File::Elf_Rela &relocation : piece.relocations) {
    const Definition &of =
        definitions[piece.object][relocation.getSymbol(false)];
    uint32_t type = relocation.getType(false);
    switch (type) {
    case ELF::R_X86_64_64:
      ++dynamicRelocations;
      break;
    case ELF::R_X86_64_PC32:
      if (of.import >= 0)
        return unknown("a reference to data of another library");
      break;
    case ELF::R_X86_64_PLT32:
      if (of.import >= 0)
        stubs.insert({of.import, stubs.size()});
      break;
    case ELF::R_X86_64_GOTPCREL:
    case ELF::R_X86_64_GOTPCRELX:
    case ELF::R_X86_64_REX_GOTPCRELX:
      gotSlot(of);
      break;
    case ELF::R_X86_64_TLSLD:
      gotSlot({}, 2);
      continue;
    case ELF::R_X86_64_DTPOFF32:
      break;
    default:
      return unknown("relocation " + Twine(type));
    }
    if (of.piece)
      reach(*of.piece);
    else if (of.import < 0)
      return unknown("a relocation to a section that is left out");
    else if (!undefined[of.import].number) {
      imports.push_back(of.import);
      undefined[of.import].number = imports.size();
    }
  }
  return Error::success();
}

Error Linker::mark() {
  for (auto &[name, global] : globals)
    if (global.isExported)
      reach(*global.definition.piece);
  while (!waiting.empty()) {
    Piece *piece = waiting.back();
    waiting.pop_back();
    if (Error error = need(*piece))
      return error;
  }
  for (const auto &[import, number] : stubs) {
    Definition of;
    of.import = import;
    gotSlot(of);
  }
  dynamicRelocations += got.size();
  return Error::success();
}

/// The records of a frame section for functions that are reached. A record
/// gives its length, the distance to the record that it refines, and the
/// address of its function.
Error Linker::addFrames(const Piece &piece) {
  SmallVector<char, 0> &out = library[EhFrame].bytes;
  auto read32 = [&](uint64_t at) {
    return support::endian::read32le(piece.bytes.data() + at);
  };
  std::map<uint64_t, uint64_t> moved;
  auto next = piece.relocations.begin();
  for (uint64_t at = 0, end; at + 8 <= piece.size; at = end) {
    uint64_t length = read32(at);
    if (!length)
      break;
    end = at + 4 + length;
    if (length == UINT32_MAX || length < 4 || end > piece.size)
      return unknown("a frame record of an unexpected length");
    SmallVector<File::Elf_Rela> inside;
    for (; next != piece.relocations.end() && next->r_offset < end; ++next)
      inside.push_back(*next);
    uint32_t distance = read32(at + 4);
    if (distance) {
      auto isStart = [&](const File::Elf_Rela &relocation) {
        return relocation.r_offset == at + 8;
      };
      auto *start = find_if(inside, isStart);
      if (start == inside.end())
        return unknown("a frame record without a function");
      const Definition &of = definitions[piece.object][start->getSymbol(false)];
      if (!of.piece || !of.piece->isLive)
        continue;
    }
    uint64_t to = out.size();
    moved[at] = to;
    out.append(piece.bytes.begin() + at, piece.bytes.begin() + end);
    if (distance) {
      auto refined = moved.find(at + 4 - distance);
      if (refined == moved.end())
        return unknown("a frame record that refines no other one");
      support::endian::write32le(out.data() + to + 4, to + 4 - refined->second);
    }
    for (const File::Elf_Rela &relocation : inside) {
      if (relocation.getType(false) != ELF::R_X86_64_PC32)
        return unknown("relocation " + Twine(relocation.getType(false)) +
                       " of a frame");
      frameFixups.push_back(
          {relocation.r_offset - at + to, ELF::R_X86_64_PC32,
           relocation.r_addend,
           definitions[piece.object][relocation.getSymbol(false)]});
    }
  }
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Contents
//===----------------------------------------------------------------------===//

void Linker::placePieces() {
  for (Piece &piece : pieces) {
    if (!piece.isLive)
      continue;
    LibraryFile::Section &place = library[piece.place];
    piece.offset = alignTo(place.size, piece.align);
    place.size = piece.offset + piece.size;
    place.align = std::max(place.align, piece.align);
    if (isZero(piece.place))
      continue;
    // Between functions: no operation.
    place.bytes.resize(piece.offset,
                       piece.place == Text ? static_cast<char>(0x90) : 0);
    place.bytes.append(piece.bytes.begin(), piece.bytes.end());
  }
}

static uint32_t hashOf(StringRef name) {
  uint32_t hash = 5381;
  for (char c : name)
    hash = hash * 33 + static_cast<uint8_t>(c);
  return hash;
}

/// The table by which the loader finds symbols, from `first` on, in order of
/// their bucket. All may be in the one word of the filter before it.
void Linker::writeHash(ArrayRef<uint32_t> hashes, unsigned first) {
  unsigned buckets = std::max<size_t>(1, hashes.size());
  library.append<uint32_t>(GnuHash, buckets);
  library.append<uint32_t>(GnuHash, first);
  library.append<uint32_t>(GnuHash, 1);
  library.append<uint32_t>(GnuHash, 0);
  library.append<uint64_t>(GnuHash, ~uint64_t(0));
  std::vector<uint32_t> starts(buckets);
  for (size_t i = hashes.size(); i-- > 0;)
    starts[hashes[i] % buckets] = first + i;
  for (uint32_t start : starts)
    library.append<uint32_t>(GnuHash, start);
  for (size_t i = 0; i < hashes.size(); ++i) {
    bool isLast = i + 1 == hashes.size() ||
                  hashes[i + 1] % buckets != hashes[i] % buckets;
    library.append<uint32_t>(GnuHash, (hashes[i] & ~1u) | isLast);
  }
}

void Linker::writeSymbols() {
  library.appendString(DynStr, "");
  library.appendSymbol(DynSym, 0, 0, NoPlace, 0, 0);
  for (unsigned import : imports) {
    uint8_t binding =
        undefined[import].isWeak ? ELF::STB_WEAK : ELF::STB_GLOBAL;
    uint32_t name = library.appendString(DynStr, undefined[import].name);
    library.appendSymbol(DynSym, name, binding << 4, NoPlace, 0, 0);
  }
  std::vector<std::pair<StringRef, const Global *>> exported;
  for (const auto &[name, global] : globals)
    if (global.isExported)
      exported.emplace_back(name, &global);
  unsigned buckets = std::max<size_t>(1, exported.size());
  llvm::sort(exported, [&](const auto &a, const auto &b) {
    return std::pair(hashOf(a.first) % buckets, a.first) <
           std::pair(hashOf(b.first) % buckets, b.first);
  });
  SmallVector<uint32_t> hashes;
  for (const auto &[name, global] : exported) {
    hashes.push_back(hashOf(name));
    library.appendSymbol(
        DynSym, library.appendString(DynStr, name), global->symbol->st_info,
        global->definition.piece->place, addressOf(global->definition),
        global->symbol->st_size);
  }
  writeHash(hashes, 1 + imports.size());
}

/// For debuggers and profilers.
Error Linker::writeNames() {
  library.appendString(StrTab, "");
  library.appendSymbol(SymTab, 0, 0, NoPlace, 0, 0);
  for (unsigned object = 0; object < files.size(); ++object)
    for (auto [symbol, definition] :
         zip_equal(symbols[object], definitions[object])) {
      bool isNamed = symbol.getType() == ELF::STT_FUNC ||
                     symbol.getType() == ELF::STT_OBJECT;
      if (!isNamed || !definition.piece || !definition.piece->isLive)
        continue;
      Expected<StringRef> name = symbol.getName(names[object]);
      if (!name)
        return name.takeError();
      if (name->starts_with(".L"))
        continue;
      library.appendSymbol(SymTab, library.appendString(StrTab, *name),
                           symbol.getType(), definition.piece->place,
                           addressOf(definition), symbol.st_size);
    }
  return Error::success();
}

void Linker::writeDynamic(bool staysLoaded) {
  auto tag = [&](int64_t number, uint64_t value) {
    library.append<int64_t>(Dynamic, number);
    library.append<uint64_t>(Dynamic, value);
  };
  tag(ELF::DT_FLAGS, ELF::DF_SYMBOLIC | ELF::DF_BIND_NOW);
  tag(ELF::DT_FLAGS_1,
      ELF::DF_1_NOW | (staysLoaded ? uint64_t(ELF::DF_1_NODELETE) : 0));
  tag(ELF::DT_GNU_HASH, library[GnuHash].address);
  tag(ELF::DT_SYMTAB, library[DynSym].address);
  tag(ELF::DT_SYMENT, sizeof(File::Elf_Sym));
  tag(ELF::DT_STRTAB, library[DynStr].address);
  tag(ELF::DT_STRSZ, library[DynStr].size);
  tag(ELF::DT_RELA, library[RelaDyn].address);
  tag(ELF::DT_RELASZ, library[RelaDyn].size);
  tag(ELF::DT_RELAENT, sizeof(File::Elf_Rela));
  tag(ELF::DT_NULL, 0);
}

//===----------------------------------------------------------------------===//
// Addresses
//===----------------------------------------------------------------------===//

Error Linker::apply(Place place, ArrayRef<Fixup> fixups) {
  LibraryFile::Section &output = library[place];
  for (const Fixup &fixup : fixups) {
    char *at = output.bytes.data() + fixup.offset;
    uint64_t width = fixup.type == ELF::R_X86_64_64 ? 8 : 4;
    if (fixup.offset > output.size || output.size - fixup.offset < width)
      return unknown("a relocation outside of its section");
    uint64_t here = output.address + fixup.offset;
    bool isImport = fixup.of.import >= 0;
    int64_t value = fixup.addend;
    switch (fixup.type) {
    case ELF::R_X86_64_64:
      if (isImport)
        relocations.push_back(
            {here, ELF::R_X86_64_64, undefined[fixup.of.import].number, value});
      else
        relocations.push_back({here, ELF::R_X86_64_RELATIVE, 0,
                               int64_t(addressOf(fixup.of)) + value});
      continue;
    case ELF::R_X86_64_PC32:
    case ELF::R_X86_64_PLT32:
      value += (isImport ? library[Stubs].address +
                               uint64_t(stubs.at(fixup.of.import)) * kStubBytes
                         : addressOf(fixup.of)) -
               here;
      break;
    case ELF::R_X86_64_DTPOFF32:
      value += tlsOffsetOf(fixup.of);
      break;
    default: // through the table
      value += library[Got].address + uint64_t(got.at(fixup.of)) * 8 - here;
      break;
    }
    if (!isInt<32>(value))
      return createStringError("code and data are more than 2 GiB apart");
    support::endian::write32le(at, value);
  }
  return Error::success();
}

Error Linker::applyAll() {
  for (const Piece &piece : pieces) {
    if (!piece.isLive)
      continue;
    std::vector<Fixup> fixups;
    for (const File::Elf_Rela &relocation : piece.relocations) {
      uint32_t type = relocation.getType(false);
      Definition of = definitions[piece.object][relocation.getSymbol(false)];
      if (type == ELF::R_X86_64_TLSLD)
        of = {};
      fixups.push_back(
          {piece.offset + relocation.r_offset, type, relocation.r_addend, of});
    }
    if (Error error = apply(piece.place, fixups))
      return error;
  }
  if (Error error = apply(EhFrame, frameFixups))
    return error;

  for (const auto &[import, number] : stubs) {
    Definition of;
    of.import = import;
    // jmp *slot(%rip), and two bytes that do nothing
    char *stub = library[Stubs].bytes.data() + uint64_t(number) * kStubBytes;
    uint64_t here = library[Stubs].address + uint64_t(number) * kStubBytes + 6;
    memcpy(stub, "\xff\x25\0\0\0\0\x66\x90", kStubBytes);
    support::endian::write32le(stub + 2, library[Got].address +
                                             uint64_t(got.at(of)) * 8 - here);
  }
  for (const auto &[of, word] : got) {
    uint64_t here = library[Got].address + uint64_t(word) * 8;
    if (of.piece)
      relocations.push_back(
          {here, ELF::R_X86_64_RELATIVE, 0, int64_t(addressOf(of))});
    else if (of.import >= 0)
      relocations.push_back(
          {here, ELF::R_X86_64_GLOB_DAT, undefined[of.import].number, 0});
    else
      relocations.push_back({here, ELF::R_X86_64_DTPMOD64, 0, 0});
  }
  assert(relocations.size() == dynamicRelocations && "all were counted");
  library[RelaDyn].bytes.clear();
  for (const DynamicRelocation &relocation : relocations) {
    library.append<uint64_t>(RelaDyn, relocation.address);
    library.append<uint64_t>(RelaDyn, uint64_t(relocation.symbol) << 32 |
                                          relocation.type);
    library.append<int64_t>(RelaDyn, relocation.addend);
  }
  return Error::success();
}

Expected<SmallVector<char, 0>> Linker::run(ArrayRef<StringRef> objects,
                                           bool staysLoaded) {
  sections.reserve(objects.size());
  for (auto [i, object] : enumerate(objects))
    if (Error error = read(i, object))
      return std::move(error);
  for (size_t i = 0; i < objects.size(); ++i)
    if (Error error = resolve(i))
      return std::move(error);
  if (Error error = mark())
    return std::move(error);
  for (const Piece &piece : pieces)
    if (piece.place == EhFrame)
      if (Error error = addFrames(piece))
        return std::move(error);
  library.append<uint32_t>(EhFrame, 0);
  placePieces();

  // Everything has its size before anything has its address.
  library[Stubs].bytes.resize(stubs.size() * kStubBytes);
  library[Got].bytes.resize(gotWords * 8);
  library[RelaDyn].bytes.resize(dynamicRelocations * sizeof(File::Elf_Rela));
  for (bool hasAddresses : {false, true}) {
    for (Place place : {DynSym, DynStr, GnuHash, SymTab, StrTab, Dynamic})
      library[place].bytes.clear();
    writeSymbols();
    if (Error error = writeNames())
      return std::move(error);
    writeDynamic(staysLoaded);
    if (!hasAddresses)
      library.layOut();
  }
  if (Error error = applyAll())
    return std::move(error);
  return library.write();
}

Expected<SmallVector<char, 0>> target::linkObjects(ArrayRef<StringRef> objects,
                                                   bool staysLoaded) {
  return Linker().run(objects, staysLoaded);
}
