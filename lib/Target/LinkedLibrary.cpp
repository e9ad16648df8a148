// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "LinkedLibrary.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Support/MemoryBuffer.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace kvcache;
using namespace kvcache::target;
using namespace llvm;
using object::ELF64LEObjectFile;

/// All that a library may take from its process: functions of the C library.
/// What code of a program is made to call is among them, and what the run time
/// calls; `abort` and `puts` are assertions of the program.
static const StringSet<> &allowedSymbols() {
  static const StringSet<> symbols = {"__register_atfork",
                                      "__tls_get_addr",
                                      "abort",
                                      "bcmp",
                                      "dlopen",
                                      "dlsym",
                                      "getenv",
                                      "memcmp",
                                      "memcpy",
                                      "memmove",
                                      "memset",
                                      "pthread_create",
                                      "pthread_detach",
                                      "pthread_mutex_lock",
                                      "pthread_mutex_unlock",
                                      "pthread_sigmask",
                                      "puts",
                                      "sched_getaffinity",
                                      "snprintf",
                                      "syscall",
                                      "vsnprintf",
                                      "write"};
  return symbols;
}

static Error checkSymbols(const ELF64LEObjectFile &file) {
  SmallVector<std::string> missing;
  for (object::ELFSymbolRef symbol : file.getDynamicSymbolIterators()) {
    Expected<uint32_t> flags = symbol.getFlags();
    if (!flags)
      return flags.takeError();
    Expected<StringRef> name = symbol.getName();
    if (!name)
      return name.takeError();
    if (symbol.getELFType() == ELF::STT_GNU_IFUNC)
      return createStringError("expected no function that is selected when the "
                               "library is loaded, got '" +
                               *name + "'");
    bool isUndefined = *flags & object::BasicSymbolRef::SF_Undefined;
    if (isUndefined && !name->empty() && !allowedSymbols().contains(*name))
      missing.push_back("'" + name->str() + "'");
  }
  if (missing.empty())
    return Error::success();
  return createStringError(
      "the program needs " + join(missing, ", ") +
      ", which no library may call; one of its operations has no code of its "
      "own for this CPU or element type");
}

/// Loading runs what these tags name, and loads libraries.
static Error checkDynamic(const ELF64LEObjectFile &file) {
  auto entries = file.getELFFile().dynamicEntries();
  if (!entries)
    return entries.takeError();
  for (const auto &entry : *entries)
    switch (entry.getTag()) {
    case ELF::DT_INIT:
    case ELF::DT_FINI:
    case ELF::DT_INIT_ARRAY:
    case ELF::DT_FINI_ARRAY:
    case ELF::DT_PREINIT_ARRAY:
    case ELF::DT_NEEDED:
    case ELF::DT_TEXTREL:
      return createStringError("expected a library that runs and loads nothing "
                               "when it is loaded, got the dynamic tag " +
                               Twine(int64_t(entry.getTag())));
    default:
      break;
    }
  const object::ObjectFile &base = file;
  for (object::SectionRef section : base.dynamic_relocation_sections())
    for (object::RelocationRef relocation : section.relocations())
      if (relocation.getType() == ELF::R_X86_64_IRELATIVE)
        return createStringError("expected no address that is computed when "
                                 "the library is loaded");
  return Error::success();
}

/// A library that says so stays in its process for ever. The copy that is
/// loaded here does not: that is the one difference.
static void allowUnloading(MutableArrayRef<char> bytes,
                           const ELF64LEObjectFile &file) {
  auto entries = file.getELFFile().dynamicEntries();
  if (!entries)
    return consumeError(entries.takeError());
  for (const auto &entry : *entries) {
    if (entry.getTag() != ELF::DT_FLAGS_1)
      continue;
    size_t offset =
        reinterpret_cast<const char *>(&entry) - file.getData().data();
    object::ELF64LE::Dyn changed = entry;
    changed.d_un.d_val = changed.d_un.d_val & ~uint64_t(ELF::DF_1_NODELETE);
    memcpy(bytes.data() + offset, &changed, sizeof changed);
  }
}

static bool writeAll(int file, ArrayRef<char> bytes) {
  while (!bytes.empty()) {
    ssize_t count = write(file, bytes.data(), bytes.size());
    if (count < 0 && errno != EINTR)
      return false;
    bytes = bytes.drop_front(std::max<ssize_t>(count, 0));
  }
  return true;
}

static Error load(const char *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return createStringError(Twine("it cannot be loaded: ") + dlerror());
  dlclose(library);
  return Error::success();
}

Error target::checkLinkedLibrary(StringRef path) {
  auto buffer = MemoryBuffer::getFile(path, /*IsText=*/false,
                                      /*RequiresNullTerminator=*/false,
                                      /*IsVolatile=*/true);
  if (!buffer)
    return errorCodeToError(buffer.getError());
  Expected<std::unique_ptr<object::ObjectFile>> object =
      object::ObjectFile::createELFObjectFile((*buffer)->getMemBufferRef());
  if (!object)
    return object.takeError();
  auto *file = dyn_cast<ELF64LEObjectFile>(object->get());
  if (!file)
    return createStringError("expected a 64-bit little-endian library");
  if (Error error = checkSymbols(*file))
    return error;
  if (Error error = checkDynamic(*file))
    return error;
  // In memory, as the folder may be one from which nothing is executed; from
  // there where memory may not be executed either.
  StringRef data = file->getData();
  SmallVector<char, 0> bytes(data.begin(), data.end());
  allowUnloading(bytes, *file);
  int copy = memfd_create("kv-compile", MFD_CLOEXEC);
  std::string name = "/proc/self/fd/" + std::to_string(copy);
  bool isLoaded = false;
  if (copy >= 0 && writeAll(copy, bytes))
    isLoaded = !errorToBool(load(name.c_str()));
  if (copy >= 0)
    close(copy);
  return isLoaded ? Error::success() : load(path.str().c_str());
}
