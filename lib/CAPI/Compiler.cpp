// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache-c/Compiler.h"

#include "Text.h"
#include "kvcache/Formats/Formats.h"
#include "kvcache/IR/KVCache.h"
#include "kvcache/Layout/Orders.h"
#include "kvcache/Registration/Registration.h"
#include "kvcache/Target/Compile.h"
#include "kvcache/Target/Parse.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

#include <cstddef>
#include <cstdlib>
#include <cstring>

using namespace mlir;
using namespace kvcache;
using namespace kvcache::target;

namespace {

/// The options that the caller knows.
KvcOptions readOptions(const KvcOptions *given) {
  KvcOptions options = {};
  if (given)
    memcpy(&options, given, std::min(given->bytes, sizeof options));
  return options;
}

bool isIdentifier(StringRef name) {
  return !name.empty() && !llvm::isDigit(name.front()) &&
         llvm::all_of(name,
                      [](char c) { return llvm::isAlnum(c) || c == '_'; });
}

llvm::Error expectOneOf(StringRef what, StringRef got,
                        llvm::ArrayRef<StringRef> expected) {
  if (llvm::is_contained(expected, got))
    return llvm::Error::success();
  return llvm::createStringError("unknown " + what + " '" + got +
                                 "'; expected " + llvm::join(expected, ", "));
}

llvm::Expected<CompileOptions> convert(const KvcOptions &given) {
  CompileOptions options;
  auto set = [](std::string &option, const char *value) {
    if (value)
      option = value;
  };
  set(options.libraryName, given.name);
  set(options.target, given.target);
  set(options.cpu, given.cpu);
  set(options.image, given.image);
  set(options.checks, given.checks);
  options.allowPoolCopies = given.allow_pool_copies;
  if (given.max_variants > 0)
    options.maxVariants = given.max_variants;
  if (!isIdentifier(options.libraryName))
    return llvm::createStringError(
        "the name of a library is expected to be a C "
        "identifier, got '" +
        options.libraryName + "'");
  if (options.isGpu() && !TargetAttr::isKnown(Isa::nvvm, options.target))
    return llvm::createStringError("unknown target '" + options.target +
                                   "'; expected " +
                                   TargetAttr::known(Isa::nvvm, "cpu"));
  if (llvm::Error error =
          expectOneOf("image", options.image, {"auto", "ptx", "cubin"}))
    return std::move(error);
  if (llvm::Error error =
          expectOneOf("checks", options.checks, {"none", "on-request", "full"}))
    return std::move(error);
  return options;
}

LogicalResult compile(ModuleOp module, const CompileOptions &options,
                      StringRef path) {
  Compilation compilation(module, options);
  return success(succeeded(compilation.bufferize()) &&
                 succeeded(compilation.lower()) &&
                 succeeded(compilation.translate()) &&
                 succeeded(compilation.linkLibrary(path)));
}

} // namespace

int32_t kvcCompile(const char *program, size_t programBytes,
                   const char *programName, const KvcOptions *given,
                   const char *path, char **messages) {
  std::string text;
  llvm::raw_string_ostream os(text);
  int32_t status = 1;
  if (!program || !path) {
    os << "expected a program and a path, got a null pointer\n";
  } else if (llvm::Expected<CompileOptions> options =
                 convert(readOptions(given));
             !options) {
    os << llvm::toString(options.takeError()) << "\n";
  } else {
    DialectRegistry registry;
    kvcache::registerAllDialects(registry);
    // A copy that ends with the zero that the parser looks for.
    auto buffer = llvm::MemoryBuffer::getMemBufferCopy(
        StringRef(program, programBytes),
        programName ? programName : "program");
    status = withProgram(registry, std::move(buffer), os, [&](ModuleOp module) {
      return failed(compile(module, *options, path));
    });
  }
  if (messages)
    *messages = copyText(text);
  return status;
}

void kvcFree(char *messages) { free(messages); }

const char *kvcFormats(void) {
  static const std::string text = [] {
    std::string lines;
    for (const Format *format : allFormats())
      if (format->isPlain())
        lines += (format->getName() + " " + format->getDType() + " " +
                  llvm::Twine(int(format->getDLPackCode())) + " " +
                  llvm::Twine(format->getBits()) + "\n")
                     .str();
    return lines;
  }();
  return text.c_str();
}

const char *kvcOrders(void) {
  static const std::string text = [] {
    std::string lines;
    for (std::string_view name : orderNames()) {
      lines += name;
      std::vector<Axis> axes = *orderByName(name);
      for (const Axis &axis : axes)
        lines += " " + axis.str();
      lines += "\n";
    }
    return lines;
  }();
  return text.c_str();
}

const char *kvcVersion(void) { return KVCACHE_VERSION; }
