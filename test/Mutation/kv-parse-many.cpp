// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Takes many programs in one process: parses and verifies each and lowers those
// that are valid, as mutate.py asks.
//
//   kv-parse-many FILE [FIRST]
//
// Programs are separated by lines of a single form feed. For each, from number
// FIRST on, a line says what became of it:
//
//   7 ok                      parsed, verified, lowered and described
//   7 parse located: ...      refused with an error that has a place
//   7 kvcache-to-cpu nowhere: ...
//                             refused by that pipeline; no error has a place
//   7 parse silent            refused without an error
//
// The number is written before the program is looked at and the rest after, so
// that after a crash the last line names the culprit.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Pipelines/Pipelines.h"
#include "kvcache/Registration/Registration.h"
#include "kvcache/Target/EntryPoints.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

#include <optional>
#include <unistd.h>

using namespace mlir;

namespace {

/// Seconds for one program; most take a millisecond.
constexpr unsigned kTimeLimit = 10;

/// Contexts keep every type that they have seen.
constexpr unsigned kProgramsPerContext = 200;

bool hasPlace(Location loc) {
  bool found = false;
  loc->walk([&](Location inner) {
    // Line 0 is the whole file, which tells a user nothing.
    auto place = dyn_cast<FileLineColLoc>(inner);
    found |= place && place.getLine() > 0;
    return found ? WalkResult::interrupt() : WalkResult::advance();
  });
  return found;
}

/// The errors of one program.
struct Errors {
  explicit Errors(MLIRContext &context)
      : handler(&context, [this](Diagnostic &diagnostic) {
          if (diagnostic.getSeverity() != DiagnosticSeverity::Error)
            return;
          placed |= hasPlace(diagnostic.getLocation());
          if (first.empty())
            first = diagnostic.str();
        }) {}

  void report(StringRef step) {
    std::replace(first.begin(), first.end(), '\n', ' ');
    llvm::outs() << step
                 << (placed          ? " located: "
                     : first.empty() ? " silent"
                                     : " nowhere: ")
                 << first << "\n";
  }

  bool placed = false;
  std::string first;
  ScopedDiagnosticHandler handler;
};

/// A module without is refused as a whole, which is no place.
bool hasEntry(ModuleOp module) {
  return llvm::any_of(
      module.getOps<FunctionOpInterface>(),
      [](FunctionOpInterface f) { return f.isPublic() && !f.isExternal(); });
}

/// What kv-compile writes of a program besides code.
bool describe(ModuleOp module) {
  auto signatures = kvcache::describeFunctions(
      module, kvcache::ArgumentSignature::Device::Cpu);
  if (failed(signatures))
    return false;
  kvcache::writeHeader({}, *signatures);
  kvcache::writeManifest({}, *signatures);
  return true;
}

/// Says what becomes of a program. The result tells whether it was valid, so
/// that pipelines ran.
bool take(StringRef text, MLIRContext &context) {
  Errors errors(context);
  OwningOpRef<ModuleOp> module =
      parseSourceString<ModuleOp>(text, &context, "mutant");
  if (!module) {
    errors.report("parse");
    return false;
  }
  PassManager bufferize(&context), cpu(&context), kernels(&context);
  kvcache::buildBufferizePipeline(bufferize);
  kvcache::buildCpuPipeline(cpu, kvcache::CpuOptions());
  kvcache::buildKernelsPipeline(kernels, kvcache::GpuOptions());
  if (failed(bufferize.run(*module))) {
    errors.report("kvcache-bufferize");
    return true;
  }
  OwningOpRef<ModuleOp> forKernels = module->clone();
  OwningOpRef<ModuleOp> forCpu = module->clone();
  if (failed(cpu.run(*forCpu)))
    errors.report("kvcache-to-cpu");
  else if (failed(kernels.run(*forKernels)))
    errors.report("kvcache-to-kernels");
  else if (hasEntry(*module) && !describe(*module))
    errors.report("describe");
  else
    llvm::outs() << "ok\n";
  return true;
}

} // namespace

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  unsigned first = 0;
  if (argc < 2 || argc > 3 ||
      (argc == 3 && !llvm::to_integer(argv[2], first))) {
    llvm::errs() << "usage: kv-parse-many FILE [FIRST]\n";
    return 2;
  }
  auto buffer = llvm::MemoryBuffer::getFile(argv[1]);
  if (!buffer) {
    llvm::errs() << argv[1] << ": " << buffer.getError().message() << "\n";
    return 2;
  }
  SmallVector<StringRef> programs;
  (*buffer)->getBuffer().split(programs, "\n\f\n");

  DialectRegistry registry;
  kvcache::registerAllDialects(registry);
  std::optional<MLIRContext> context;
  unsigned age = 0;
  for (unsigned i = first; i < programs.size(); ++i) {
    if (!context || age++ == kProgramsPerContext) {
      context.emplace(registry, MLIRContext::Threading::DISABLED);
      age = 0;
    }
    llvm::outs() << i << " ";
    llvm::outs().flush();
    alarm(kTimeLimit);
    // Pipelines load dialects that the tools would not have when they parse.
    if (take(programs[i], *context))
      context.reset();
    alarm(0);
    llvm::outs().flush();
  }
  return 0;
}
