// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "LibraryFile.h"

#include "llvm/Object/ELFTypes.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/xxhash.h"

using namespace kvcache;
using namespace kvcache::target;
using namespace llvm;
using object::ELF64LE;

namespace {

constexpr unsigned kProgramHeaders = 9;
constexpr uint64_t kReadOnly = ELF::SHF_ALLOC;
constexpr uint64_t kCode = ELF::SHF_ALLOC | ELF::SHF_EXECINSTR;
constexpr uint64_t kWritable = ELF::SHF_ALLOC | ELF::SHF_WRITE;

constexpr struct {
  StringLiteral name;
  uint32_t type;
  uint64_t flags;
  uint64_t align;
  uint64_t entryBytes;
} kSections[kPlaces] = {
    {".note.gnu.build-id", ELF::SHT_NOTE, kReadOnly, 4, 0},
    {".dynsym", ELF::SHT_DYNSYM, kReadOnly, 8, sizeof(ELF64LE::Sym)},
    {".gnu.hash", ELF::SHT_GNU_HASH, kReadOnly, 8, 0},
    {".dynstr", ELF::SHT_STRTAB, kReadOnly, 1, 0},
    {".rela.dyn", ELF::SHT_RELA, kReadOnly, 8, sizeof(ELF64LE::Rela)},
    {".rodata", ELF::SHT_PROGBITS, kReadOnly, 1, 0},
    {".eh_frame", ELF::SHT_PROGBITS, kReadOnly, 8, 0},
    {".text", ELF::SHT_PROGBITS, kCode, 1, 0},
    {".plt", ELF::SHT_PROGBITS, kCode, 8, 0},
    {".tdata", ELF::SHT_PROGBITS, kWritable | ELF::SHF_TLS, 1, 0},
    {".tbss", ELF::SHT_NOBITS, kWritable | ELF::SHF_TLS, 1, 0},
    {".data.rel.ro", ELF::SHT_PROGBITS, kWritable, 1, 0},
    {".dynamic", ELF::SHT_DYNAMIC, kWritable, 8, sizeof(ELF64LE::Dyn)},
    {".got", ELF::SHT_PROGBITS, kWritable, 8, 0},
    {".data", ELF::SHT_PROGBITS, kWritable, 1, 0},
    {".bss", ELF::SHT_NOBITS, kWritable, 1, 0},
    {".symtab", ELF::SHT_SYMTAB, 0, 8, sizeof(ELF64LE::Sym)},
    {".strtab", ELF::SHT_STRTAB, 0, 1, 0},
    {".shstrtab", ELF::SHT_STRTAB, 0, 1, 0},
};

/// Where the hash is in the section of the build identifier.
constexpr uint64_t kBuildIdOffset = 16;

bool beginsSegment(unsigned place) {
  return place == Text || place == TlsData || place == Data;
}

} // namespace

bool target::isZero(unsigned place) {
  return kSections[place].type == ELF::SHT_NOBITS;
}

LibraryFile::LibraryFile() {
  for (unsigned i = 0; i < kPlaces; ++i)
    sections[i].align = kSections[i].align;
  for (uint32_t word : {4u, 8u, uint32_t(ELF::NT_GNU_BUILD_ID)})
    append<uint32_t>(BuildId, word);
  appendString(BuildId, "GNU");
  append<uint64_t>(BuildId, 0);
  appendString(ShStrTab, "");
  for (const auto &section : kSections)
    appendString(ShStrTab, section.name);
}

uint32_t LibraryFile::appendString(Place place, StringRef text) {
  SmallVector<char, 0> &bytes = sections[place].bytes;
  uint32_t at = bytes.size();
  bytes.append(text.begin(), text.end());
  bytes.push_back(0);
  return at;
}

void LibraryFile::appendSymbol(Place table, uint32_t name, uint8_t info,
                               Place place, uint64_t value, uint64_t size) {
  append<uint32_t>(table, name);
  append<uint8_t>(table, info);
  append<uint8_t>(table, ELF::STV_DEFAULT);
  append<uint16_t>(table, place == NoPlace ? 0 : place + 1);
  append<uint64_t>(table, value);
  append<uint64_t>(table, size);
}

//===----------------------------------------------------------------------===//
// Addresses
//===----------------------------------------------------------------------===//

uint64_t LibraryFile::tlsZerosFrom() const {
  return alignTo(sections[TlsData].size, sections[TlsZero].align);
}

/// A segment begins in the file where the previous one ends, and in memory on
/// the next page: at an address that is the same within its page.
void LibraryFile::layOut() {
  // Both parts of thread storage have the alignment of the whole.
  sections[TlsData].align =
      std::max(sections[TlsData].align, sections[TlsZero].align);
  uint64_t offset =
      sizeof(ELF64LE::Ehdr) + kProgramHeaders * sizeof(ELF64LE::Phdr);
  uint64_t ahead = 0;
  for (unsigned i = 0; i < kPlaces; ++i) {
    Section &section = sections[i];
    if (!isZero(i))
      section.size = section.bytes.size();
    if (beginsSegment(i))
      ahead += kPage;
    offset = alignTo(offset, section.align);
    section.offset = offset;
    section.address = offset + ahead;
    offset += section.bytes.size();
  }
}

//===----------------------------------------------------------------------===//
// Headers
//===----------------------------------------------------------------------===//

void LibraryFile::writeSegments(char *at) const {
  auto *program = reinterpret_cast<ELF64LE::Phdr *>(at);
  auto *last = program + kProgramHeaders;
  auto segment = [&](uint32_t type, uint32_t flags, uint64_t offset,
                     uint64_t address, uint64_t fileBytes, uint64_t bytes,
                     uint64_t align) {
    assert(program != last && "as many as there is room for");
    program->p_type = type;
    program->p_flags = flags;
    program->p_offset = offset;
    program->p_vaddr = address;
    program->p_paddr = address;
    program->p_filesz = fileBytes;
    program->p_memsz = bytes;
    program->p_align = align;
    ++program;
  };
  auto covering = [&](uint32_t type, uint32_t flags, Place first, Place end,
                      uint64_t align) {
    const Section &from = sections[first], &to = sections[end];
    segment(type, flags, from.offset, from.address, endOf(end) - from.offset,
            to.address + to.size - from.address, align);
  };
  constexpr uint32_t kRead = ELF::PF_R, kWrite = ELF::PF_R | ELF::PF_W;
  // The first one has the headers too.
  segment(ELF::PT_LOAD, kRead, 0, 0, endOf(EhFrame), endOf(EhFrame), kPage);
  covering(ELF::PT_LOAD, ELF::PF_R | ELF::PF_X, Text, Stubs, kPage);
  covering(ELF::PT_LOAD, kWrite, TlsData, Got, kPage);
  covering(ELF::PT_LOAD, kWrite, Data, Zero, kPage);
  const Section &tls = sections[TlsData];
  segment(ELF::PT_TLS, kRead, tls.offset, tls.address, tls.size,
          tlsZerosFrom() + sections[TlsZero].size, tls.align);
  covering(ELF::PT_DYNAMIC, kWrite, Dynamic, Dynamic, 8);
  // Whole pages: the data of the next segment begins on another one.
  uint64_t end = alignTo(sections[Got].address + sections[Got].size, kPage);
  segment(ELF::PT_GNU_RELRO, kRead, tls.offset, tls.address,
          endOf(Got) - tls.offset, end - tls.address, 1);
  segment(ELF::PT_GNU_STACK, kWrite, 0, 0, 0, 0, 16);
  covering(ELF::PT_NOTE, kRead, BuildId, BuildId, 4);
}

void LibraryFile::writeSectionTable(char *at) const {
  auto *header = reinterpret_cast<ELF64LE::Shdr *>(at);
  uint32_t name = 1;
  for (unsigned i = 0; i < kPlaces; ++i) {
    ++header; // the first one is null
    header->sh_name = name;
    name += kSections[i].name.size() + 1;
    header->sh_type = kSections[i].type;
    header->sh_flags = kSections[i].flags;
    bool isLoaded = kSections[i].flags & ELF::SHF_ALLOC;
    header->sh_addr = isLoaded ? sections[i].address : 0;
    header->sh_offset = sections[i].offset;
    header->sh_size = sections[i].size;
    header->sh_addralign = sections[i].align;
    header->sh_entsize = kSections[i].entryBytes;
    switch (i) {
    case DynSym:
      header->sh_link = DynStr + 1;
      header->sh_info = 1; // the first global symbol
      break;
    case Dynamic:
      header->sh_link = DynStr + 1;
      break;
    case GnuHash:
    case RelaDyn:
      header->sh_link = DynSym + 1;
      break;
    case SymTab:
      header->sh_link = StrTab + 1;
      header->sh_info =
          sections[i].size / sizeof(ELF64LE::Sym); // all are local
      break;
    default:
      break;
    }
  }
}

SmallVector<char, 0> LibraryFile::write() {
  uint64_t table = alignTo(endOf(ShStrTab), 8);
  SmallVector<char, 0> image;
  image.resize(table + (kPlaces + 1) * sizeof(ELF64LE::Shdr));
  for (const Section &section : sections)
    memcpy(image.data() + section.offset, section.bytes.data(),
           section.bytes.size());
  writeSectionTable(image.data() + table);
  writeSegments(image.data() + sizeof(ELF64LE::Ehdr));

  auto *header = reinterpret_cast<ELF64LE::Ehdr *>(image.data());
  memcpy(header->e_ident, ELF::ElfMagic, 4);
  header->e_ident[ELF::EI_CLASS] = ELF::ELFCLASS64;
  header->e_ident[ELF::EI_DATA] = ELF::ELFDATA2LSB;
  header->e_ident[ELF::EI_VERSION] = ELF::EV_CURRENT;
  header->e_type = ELF::ET_DYN;
  header->e_machine = ELF::EM_X86_64;
  header->e_version = ELF::EV_CURRENT;
  header->e_phoff = sizeof *header;
  header->e_shoff = table;
  header->e_ehsize = sizeof *header;
  header->e_phentsize = sizeof(ELF64LE::Phdr);
  header->e_phnum = kProgramHeaders;
  header->e_shentsize = sizeof(ELF64LE::Shdr);
  header->e_shnum = kPlaces + 1;
  header->e_shstrndx = ShStrTab + 1;

  uint64_t hash = xxh3_64bits(StringRef(image.data(), image.size()));
  support::endian::write64le(
      image.data() + sections[BuildId].offset + kBuildIdOffset, hash);
  return image;
}
