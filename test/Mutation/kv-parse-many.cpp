// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Takes many programs in one process: parses and verifies each and lowers those
// that are valid, as mutate.py asks.
//
//   kv-parse-many [--passes=NAME,..] FILE [FIRST]
//
// With names of passes, each valid program goes through each of them alone, and
// operations of dialects that are not known are taken, as passes.py asks.
//
// Programs are separated by lines of a single form feed. For each, from number
// FIRST on, a line says what became of it:
//
//   7 ok                      parsed, verified, lowered and described
//   7 parse located: ...      refused with an error that has a place
//   7 kvcache-to-cpu nowhere: ...
//                             refused by that pipeline; no error has a place
//   7 parse silent            refused without an error
//   7 kvcache-raise invalid: ...
//                             that pass made an invalid program of a valid one
//
// The number is written before the program is looked at and the rest after, so
// that after a crash the last line names the culprit. Passes are named on the
// standard error before they run.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Pipelines/Pipelines.h"
#include "kvcache/Registration/Registration.h"
#include "kvcache/Target/EntryPoints.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
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
  auto signatures = kvcache::target::describeFunctions(
      module, kvcache::target::ArgumentSignature::Device::Cpu);
  if (failed(signatures))
    return false;
  kvcache::target::writeHeader({}, *signatures);
  kvcache::target::writeManifest({}, *signatures);
  return true;
}

OwningOpRef<ModuleOp> parse(StringRef text, MLIRContext &context,
                            Errors &errors) {
  auto module = parseSourceString<ModuleOp>(text, &context, "mutant");
  if (!module)
    errors.report("parse");
  return module;
}

/// Says what becomes of a program. The result tells whether it was valid, so
/// that pipelines ran.
bool take(StringRef text, MLIRContext &context) {
  Errors errors(context);
  OwningOpRef<ModuleOp> module = parse(text, context, errors);
  if (!module)
    return false;
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

/// Runs each pass on a program of its own.
bool takePasses(StringRef text, ArrayRef<StringRef> passes,
                MLIRContext &context) {
  Errors errors(context);
  OwningOpRef<ModuleOp> module = parse(text, context, errors);
  if (!module)
    return false;
  for (StringRef name : passes) {
    llvm::errs() << "pass " << name << "\n";
    OwningOpRef<ModuleOp> copy = module->clone();
    PassManager manager(&context, ModuleOp::getOperationName());
    // What comes out of a pass is looked at below: an error of the verifier is
    // not one that the pass gives. A pipeline is a sequence of passes, and what
    // one of upstream leaves half done is refused by the verifier.
    bool isPipeline = llvm::any_of(kvcache::getPipelines(),
                                   [&](const kvcache::NamedPipeline &known) {
                                     return known.name == name;
                                   });
    manager.enableVerifier(isPipeline);
    if (failed(parsePassPipeline(name, manager))) {
      llvm::outs() << name << " unknown\n";
      return true;
    }
    Errors ofPass(context);
    bool hasFailed = failed(manager.run(*copy));
    if (hasFailed && !ofPass.first.empty())
      continue;
    if (hasFailed || failed(verify(*copy))) {
      ofPass.report((name + (hasFailed ? "" : " invalid")).str());
      return true;
    }
  }
  llvm::outs() << "ok\n";
  return true;
}

} // namespace

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  SmallVector<StringRef> arguments(argv + 1, argv + argc), passes;
  if (!arguments.empty() && arguments[0].consume_front("--passes=")) {
    arguments[0].split(passes, ',');
    arguments.erase(arguments.begin());
  }
  unsigned first = 0;
  if (arguments.empty() || arguments.size() > 2 ||
      (arguments.size() == 2 && !llvm::to_integer(arguments[1], first))) {
    llvm::errs() << "usage: kv-parse-many [--passes=NAME,..] FILE [FIRST]\n";
    return 2;
  }
  auto buffer = llvm::MemoryBuffer::getFile(arguments[0]);
  if (!buffer) {
    llvm::errs() << arguments[0] << ": " << buffer.getError().message() << "\n";
    return 2;
  }
  SmallVector<StringRef> programs;
  (*buffer)->getBuffer().split(programs, "\n\f\n");

  kvcache::registerAllPasses();
  DialectRegistry registry;
  kvcache::registerAllDialects(registry);
  std::optional<MLIRContext> context;
  unsigned age = 0;
  for (unsigned i = first; i < programs.size(); ++i) {
    if (!context || age++ == kProgramsPerContext) {
      context.emplace(registry, MLIRContext::Threading::DISABLED);
      context->allowUnregisteredDialects(!passes.empty());
      age = 0;
    }
    llvm::outs() << i << " ";
    llvm::outs().flush();
    alarm(kTimeLimit);
    // Pipelines load dialects that the tools would not have when they parse.
    bool isUsed = passes.empty() ? take(programs[i], *context)
                                 : takePasses(programs[i], passes, *context);
    if (isUsed)
      context.reset();
    alarm(0);
    llvm::outs().flush();
  }
  return 0;
}
