// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The C header and the manifest that are written beside a library.
//
//===----------------------------------------------------------------------===//

#include "EmbeddedFiles.h"
#include "kvcache/Runtime/kv_abi.h"
#include "kvcache/Target/EntryPoints.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

using namespace kvcache;
using namespace kvcache::target;
using namespace llvm;

static StringRef cType(const ArgumentSignature &arg) {
  switch (arg.kind) {
  case ArgumentSignature::Kind::Tensor:
    return "DLTensor *";
  case ArgumentSignature::Kind::Int:
    return "int64_t ";
  case ArgumentSignature::Kind::Float:
    return "double ";
  }
  llvm_unreachable("all kinds are listed");
}

/// `16 * n0`, `n0 + 1`.
static std::string productStr(const DimRule &rule) {
  std::string text = "n" + std::to_string(rule.of);
  if (rule.times != 1)
    text = std::to_string(rule.times) + " * " + text;
  if (rule.plus)
    text += (rule.plus < 0 ? " - " : " + ") +
            std::to_string(rule.plus < 0 ? -rule.plus : rule.plus);
  return text;
}

std::string target::shapeStr(const ArgumentSignature &arg) {
  std::string text = "[";
  for (const DimRule &rule : arg.dims) {
    if (text.size() > 1)
      text += ", ";
    if (rule.extent >= 0)
      text += std::to_string(rule.extent);
    else if (rule.of >= 0)
      text += productStr(rule);
    else
      text += rule.symbol >= 0 ? "n" + std::to_string(rule.symbol) : "?";
  }
  return text + "]";
}

/// The parameters of a function in C. An argument may be called what C or C++
/// keep for themselves; its documentation has the name that messages have.
static SmallVector<std::string>
parameterNames(ArrayRef<ArgumentSignature> args) {
  static const StringSet<> reserved = [] {
    StringSet<> words;
    for (StringRef word : split(
             "alignas alignof and and_eq asm auto bitand bitor bool break case "
             "catch char class compl concept const consteval constexpr "
             "constinit const_cast continue co_await co_return co_yield "
             "decltype default delete do double dynamic_cast else enum "
             "explicit export extern false float for friend goto if inline int "
             "long mutable namespace new noexcept not not_eq nullptr operator "
             "or or_eq private protected public register reinterpret_cast "
             "requires restrict return short signed sizeof static "
             "static_assert static_cast struct switch template this "
             "thread_local throw true try typedef typeid typename typeof "
             "typeof_unqual union unsigned using virtual void volatile wchar_t "
             "while xor xor_eq workspace workspace_bytes stream DLTensor "
             "int32_t int64_t",
             ' '))
      words.insert(word);
    return words;
  }();
  StringSet<> used;
  SmallVector<std::string> names;
  for (const ArgumentSignature &arg : args) {
    std::string name = arg.name;
    for (char &c : name)
      if (!isAlnum(c))
        c = '_';
    if (isDigit(name.front()) || name.front() == '_')
      name = "arg" + name;
    while (reserved.contains(name) || !used.insert(name).second)
      name += '_';
    names.push_back(name);
  }
  return names;
}

std::string target::writeHeader(const LibraryInfo &library,
                                ArrayRef<FunctionSignature> signatures) {
  std::string text;
  raw_string_ostream os(text);
  std::string guard = "KV_" + StringRef(library.name).upper() + "_H";
  os << formatv("/* Library {0}, compiled for {1}. Written by kv-compile. */\n",
                library.name, library.target);
  if (library.checks != "none")
    os << formatv("/* Entries of lists are checked: {0}. */\n", library.checks);
  os << formatv("#ifndef {0}\n#define {0}\n\n", guard) << getAbiHeader()
     << "\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n"
     << "/* The message of the last error in this thread. */\n"
     << formatv("const char *kv1_{0}_last_error(void);\n", library.name)
     << "/* What kernels found in lists and no call has reported, if entries\n"
        " * are checked on a GPU. Waits for the stream. */\n"
     << formatv("int32_t kv1_{0}_check(void *stream);\n", library.name)
     << "/* What the library takes, as JSON. */\n"
     << formatv("const char *kv1_{0}_manifest(void);\n", library.name)
     << "/* Parallel loops run on threads of the host; null: on those of the\n"
        " * library. Not while a call runs. */\n"
     << formatv("void kv1_{0}_set_parallel_for(kv_parallel_for *run, "
                "void *user);\n",
                library.name)
     << "/* How many threads loops run on; 0: one per CPU. Before the first\n"
        " * call. */\n"
     << formatv("void kv1_{0}_set_thread_count(int64_t count);\n",
                library.name);
  for (const FunctionSignature &signature : signatures) {
    os << "\n/*\n";
    for (const ArgumentSignature &arg : signature.arguments) {
      os << " * " << arg.name << ": ";
      if (arg.kind == ArgumentSignature::Kind::Tensor)
        os << arg.elementType << " " << shapeStr(arg)
           << (arg.isResult    ? ", result"
               : arg.isWritten ? ", written"
                               : ", read")
           << "\n *   " << arg.type << "\n";
      else
        os << arg.type << "\n";
    }
    os << " */\n";
    std::string parameters;
    for (auto [arg, name] :
         zip(signature.arguments, parameterNames(signature.arguments)))
      parameters += (cType(arg) + name + ", ").str();
    os << "int32_t kv1_" << signature.name << "(" << parameters
       << "void *workspace,\n    int64_t workspace_bytes, void *stream);\n"
       << "int32_t kv1args_" << signature.name
       << "(void *const *args, void *workspace,\n"
          "    int64_t workspace_bytes, void *stream);\n";
    StringRef list = StringRef(parameters).rtrim(", ");
    os << "/* Bytes, an upper bound; negative on an error. */\n"
       << "int64_t kv1_" << signature.name << "_workspace_size("
       << (list.empty() ? StringRef("void") : list) << ");\n"
       << "int64_t kv1args_" << signature.name
       << "_workspace_size(void *const *args);\n";
  }
  os << "\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n";
  return text;
}

static void writeStride(json::OStream &json, const DimRule &rule) {
  if (rule.constant >= 0)
    json.attribute("stride", rule.constant);
  else
    json.attribute("stride", rule.compact ? "compact" : "any");
  if (rule.compact)
    json.attribute("next_faster", rule.next);
  if (rule.constant < 0 && (!rule.compact || rule.multiple > 1))
    json.attribute("stride_multiple", rule.multiple);
}

static void writePool(json::OStream &json, const PoolSignature &pool) {
  auto names = [&](StringRef key, ArrayRef<unsigned> dims) {
    json.attributeArray(key, [&] {
      for (unsigned dim : dims)
        json.value(pool.axes[dim]);
    });
  };
  json.attributeArray("axes", [&] {
    for (const std::string &axis : pool.axes)
      json.value(axis);
  });
  names("order", pool.order);
  json.attributeObject("block", [&] {
    json.attribute("run_bytes", pool.runBytes);
    names("loops", pool.loops);
  });
}

static void writeArgument(json::OStream &json, const ArgumentSignature &arg) {
  json.attribute("name", arg.name);
  json.attribute("type", arg.type);
  if (arg.kind != ArgumentSignature::Kind::Tensor) {
    json.attribute("kind",
                   arg.kind == ArgumentSignature::Kind::Int ? "int" : "float");
    return;
  }
  json.attribute("kind", "tensor");
  json.attribute("element_type", arg.elementType);
  json.attribute("dtype", arg.dtype);
  json.attribute("dlpack_code", int64_t(arg.dlpackCode));
  json.attribute("element_bits", int64_t(arg.elementBits));
  json.attribute("align", arg.align);
  json.attribute("device",
                 arg.device == ArgumentSignature::Device::Cpu ? "cpu" : "cuda");
  json.attribute("access", arg.isWritten ? "write" : "read");
  if (arg.isResult)
    json.attribute("result", true);
  if (!arg.pool.axes.empty())
    writePool(json, arg.pool);
  json.attributeArray("dims", [&] {
    for (const DimRule &rule : arg.dims)
      json.object([&] {
        if (rule.extent >= 0)
          json.attribute("extent", rule.extent);
        else
          json.attribute("extent", "any");
        if (rule.symbol >= 0)
          json.attribute("equal", rule.symbol);
        if (rule.of >= 0) {
          json.attribute("times", rule.times);
          json.attribute("of", rule.of);
          json.attribute("plus", rule.plus);
        }
        writeStride(json, rule);
      });
  });
}

std::string target::writeManifest(const LibraryInfo &library,
                                  ArrayRef<FunctionSignature> signatures) {
  std::string text;
  raw_string_ostream os(text);
  json::OStream json(os, /*IndentSize=*/2);
  json.object([&] {
    json.attribute("abi_version", KV_ABI_VERSION);
    json.attribute("library", library.name);
    json.attribute("target", library.target);
    json.attribute("cpu", library.cpu);
    json.attribute("checks", library.checks);
    json.attributeArray("functions", [&] {
      for (const FunctionSignature &signature : signatures)
        json.object([&] {
          json.attribute("name", signature.name);
          json.attribute("symbol", "kv1_" + signature.name);
          json.attributeArray("arguments", [&] {
            for (const ArgumentSignature &arg : signature.arguments)
              json.object([&] { writeArgument(json, arg); });
          });
        });
    });
  });
  os << "\n";
  return text;
}
