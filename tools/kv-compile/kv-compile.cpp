// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "../HideOptions.h"
#include "kvcache/IR/KVCache.h"
#include "kvcache/Registration/Registration.h"
#include "kvcache/Target/Compile.h"
#include "kvcache/Target/Output.h"
#include "kvcache/Target/Parse.h"

#include "mlir/IR/AsmState.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/Path.h"

#include <csignal>

using namespace mlir;
using namespace kvcache;
using namespace kvcache::target;
namespace cl = llvm::cl;

namespace {

enum class Emit { So, Obj, LLVM, MLIR, PTX, Cubin, Header, Manifest };

cl::OptionCategory category("kv-compile options");

cl::opt<std::string> input(cl::Positional, cl::desc("<program.mlir>"),
                           cl::init("-"), cl::cat(category));
cl::opt<std::string> output("o", cl::desc("Output file"),
                            cl::value_desc("file"), cl::cat(category));
cl::opt<std::string>
    targetName("target",
               cl::desc("cpu, or a GPU architecture: sm_80, sm_90a, sm_100a"),
               cl::init("cpu"), cl::cat(category));
cl::opt<std::string> cpu("cpu",
                         cl::desc("CPU of the host code: an LLVM CPU name, "
                                  "x86-64-v4-bf16, x86-64-v4-amx, or native"),
                         cl::init("x86-64-v3"), cl::cat(category));
cl::opt<std::string>
    image("gpu-image",
          cl::desc("Kernels in a GPU library: ptx, cubin (needs ptxas), or "
                   "auto, which is cubin if ptxas is found"),
          cl::init("auto"), cl::cat(category));
cl::opt<int64_t> copyEngineBytes(
    "copy-engine-bytes",
    cl::desc("Bytes of the shortest runs between host and GPU that the copy "
             "engine moves; a kernel moves shorter runs, and all runs if the "
             "pairs are in GPU memory"),
    cl::init(1 << 20), cl::cat(category));
cl::opt<std::string>
    name("name",
         cl::desc("Name of the library in symbols (default: from the output "
                  "file)"),
         cl::cat(category));
cl::opt<bool>
    allowPoolCopies("allow-pool-copies",
                    cl::desc("Copy a pool if it cannot be updated in place"),
                    cl::init(false), cl::cat(category));
cl::opt<unsigned> maxVariants(
    "max-variants",
    cl::desc("Maximum number of variants of an operation, for strides known "
             "only in a call; 1 is only the generic one"),
    cl::init(3), cl::cat(category));
cl::opt<std::string>
    checks("checks",
           cl::desc("Whether compiled code checks the entries of lists: none, "
                    "on-request (if the process has KVRT_CHECK=1), or full"),
           cl::init("none"), cl::cat(category));
cl::opt<Emit> emit(
    "emit", cl::desc("What to write"),
    cl::values(clEnumValN(Emit::So, "so",
                          "shared library, with a C header and a JSON "
                          "manifest beside it (default)"),
               clEnumValN(Emit::Obj, "obj", "object file, without the runtime"),
               clEnumValN(Emit::LLVM, "llvm",
                          "optimized LLVM IR of the host code"),
               clEnumValN(Emit::MLIR, "mlir", "MLIR in the LLVM dialect"),
               clEnumValN(Emit::PTX, "ptx", "PTX of the kernels"),
               clEnumValN(Emit::Cubin, "cubin", "machine code of the kernels"),
               clEnumValN(Emit::Header, "header", "the C header"),
               clEnumValN(Emit::Manifest, "manifest", "the JSON manifest")),
    cl::init(Emit::So), cl::cat(category));

int fail(const llvm::Twine &message) {
  llvm::errs() << "kv-compile: " << message << "\n";
  return 1;
}

/// A C identifier made of the name of the output file: `libpaged-insert.so`
/// gives `paged_insert`.
std::string libraryName() {
  StringRef stem = llvm::sys::path::stem(output.empty() ? input : output);
  std::string result = name.empty() ? stem.str() : name.getValue();
  if (name.empty() && stem.starts_with("lib"))
    result = stem.drop_front(3).str();
  for (char &c : result)
    if (!isalnum(static_cast<unsigned char>(c)))
      c = '_';
  if (result.empty() || isdigit(static_cast<unsigned char>(result[0])))
    result = "_" + result;
  return result;
}

LogicalResult writeText(StringRef text) {
  llvm::Error error = writeOutput(output.empty() ? "-" : output.getValue(),
                                  [&](llvm::raw_ostream &os) { os << text; });
  return error ? failure(fail(llvm::toString(std::move(error)))) : success();
}

LogicalResult compile(ModuleOp module) {
  CompileOptions options;
  options.target = targetName;
  options.cpu = cpu;
  options.image = emit == Emit::PTX     ? "ptx"
                  : emit == Emit::Cubin ? "cubin"
                                        : image.getValue();
  options.copyEngineBytes = copyEngineBytes;
  options.libraryName = libraryName();
  options.allowPoolCopies = allowPoolCopies;
  options.maxVariants = maxVariants;
  options.checks = checks;
  options.configurePasses = applyPassManagerCLOptions;
  Compilation compilation(module, options);
  if (failed(compilation.bufferize()))
    return failure();
  if (emit == Emit::Header)
    return writeText(
        writeHeader(compilation.library(), compilation.functions()));
  if (emit == Emit::Manifest)
    return writeText(
        writeManifest(compilation.library(), compilation.functions()));
  if (failed(compilation.lower()))
    return failure();
  if (emit == Emit::MLIR || emit == Emit::PTX || emit == Emit::Cubin) {
    std::string text;
    if (emit == Emit::MLIR)
      llvm::raw_string_ostream(text) << *module << "\n";
    else
      text = compilation.deviceImage().str();
    return writeText(text);
  }
  if (failed(compilation.translate()))
    return failure();
  if (emit == Emit::LLVM) {
    std::string text;
    llvm::raw_string_ostream os(text);
    compilation.llvmModule().print(os, nullptr);
    return writeText(text);
  }
  if (emit == Emit::Obj)
    return compilation.writeObject(output);
  return compilation.writeLibrary(output);
}

} // namespace

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  // A file that may not grow is an error of a write, here and in the linker.
  signal(SIGXFSZ, SIG_IGN);
  registerPassManagerCLOptions();
  registerMLIRContextCLOptions();
  registerAsmPrinterCLOptions();
  hideOptions(&category);
  cl::ParseCommandLineOptions(
      argc, argv, "Compiles programs on paged KV caches to libraries\n");

  if (targetName != "cpu" && !TargetAttr::isKnown(Isa::nvvm, targetName))
    return fail("unknown target '" + targetName + "'; expected " +
                TargetAttr::known(Isa::nvvm, "cpu"));
  if (image != "auto" && image != "ptx" && image != "cubin")
    return fail("unknown image '" + image + "'; expected auto, ptx or cubin");
  if (checks != "none" && checks != "on-request" && checks != "full")
    return fail("unknown checks '" + checks +
                "'; expected none, on-request or full");
  bool wantsKernels = emit == Emit::PTX || emit == Emit::Cubin;
  if (wantsKernels && targetName == "cpu")
    return fail("--emit=ptx and --emit=cubin need a GPU target");
  bool needsFile = emit == Emit::So || emit == Emit::Obj;
  if (needsFile && output.empty())
    return fail("an output file is needed: -o libprogram.so");
  StringRef extension = llvm::sys::path::extension(output);
  if (emit == Emit::So && (extension == ".h" || extension == ".json"))
    return fail("'" + output +
                "' would be overwritten by the file that is written beside a "
                "library; name it -o libprogram.so");

  DialectRegistry registry;
  kvcache::registerAllDialects(registry);
  llvm::Expected<int> status = withProgram(
      registry, input, [](ModuleOp module) { return failed(compile(module)); });
  return status ? *status : fail(llvm::toString(status.takeError()));
}
