// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Programs: read, written, and put through passes. Whatever the input is, an
// error has to be told of, and what was taken has to be valid IR.
//
//===----------------------------------------------------------------------===//

#include "Bytecode.h"
#include "Mutate.h"

#include "kvcache/Registration/Registration.h"

#include "mlir/Bytecode/BytecodeWriter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/Pass.h"
#include "mlir/Pass/PassInstrumentation.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

#include <optional>

using namespace mlir;
using namespace kvcache::fuzz;

namespace {

/// Contexts keep every type and every name that they have seen.
constexpr unsigned kProgramsPerContext = 200;

/// `A` is the first one, and so on; what follows it in an input is the program.
constexpr char kFirstLetter = 'A';
constexpr StringRef kPasses[] = {
    "kvcache-raise",
    "kvcache-raise{last-row-wins standalone}",
    "kvcache-split-layer-groups",
    "kvcache-split-layer-groups{outline=true min-rows=0}",
    "kvcache-copy-carried-tensors",
    "kvcache-check-copies",
    "kvcache-drop-donated-results",
    "kvcache-fold-permutes",
    "kvcache-scatter-to-index-copy",
    "kvcache-scatter-to-index-copy{compute-slots=true}",
    "kvcache-specialize-page-stride{target=cpu}",
    "kvcache-specialize-page-stride{block-strides=64,1024 max-variants=4}",
    "kvcache-layout-report{format=json output=/dev/null}",
    "kvcache-outline-workspace-size",
    "convert-kvcache-to-loops",
    "convert-kvcache-to-gpu",
    "kvcache-lower-linalg",
    "kvcache-expand-math",
    "kvcache-outline-parallel",
    "kvcache-parallel-to-runtime",
    "kvcache-launch-to-runtime",
    "kvcache-move-halves-as-integers",
    "kvcache-bufferize",
    "kvcache-bufferize{allow-pool-copies=true}",
    "kvcache-optimize{target=cpu}",
    "kvcache-optimize{target=gpu compute-slots=true}",
    "kvcache-optimize{target=cpu standalone=true},kvcache-to-cpu",
    "kvcache-bufferize,kvcache-to-cpu{chip=x86-64-v4-bf16}",
    "kvcache-bufferize,kvcache-to-cpu{chip=x86-64-v4-amx}",
    "kvcache-bufferize,kvcache-to-kernels",
    "canonicalize,cse",
    "kvcache-keep-arguments",
    "kvcache-own-destinations",
    "kvcache-split-updates",
    "kvcache-insert-checks{target=cpu}",
    "kvcache-insert-checks{target=gpu on-request=true}",
    "func.func(kvcache-hoist-buffers)",
    "kvcache-attach-nvvm-target",
    "kvcache-split-parts",
    "kvcache-fuse-rows",
};

class Programs {
public:
  Programs() {
    kvcache::registerAllDialects(registry);
    kvcache::registerAllPasses();
  }

  MLIRContext &context() {
    if (!current || age++ == kProgramsPerContext)
      renew();
    return *current;
  }
  /// Passes load dialects that a parser would not have.
  void renew() {
    current.emplace(registry, MLIRContext::Threading::DISABLED);
    age = 0;
  }
  /// Another one, with the dialects that changed programs need.
  MLIRContext &changes() {
    if (!forChanges || changed++ == kProgramsPerContext) {
      forChanges.emplace(registry, MLIRContext::Threading::DISABLED);
      forChanges->loadDialect<arith::ArithDialect, func::FuncDialect,
                              scf::SCFDialect>();
      changed = 0;
    }
    return *forChanges;
  }

  static Programs &get() {
    static Programs programs;
    return programs;
  }

private:
  DialectRegistry registry;
  std::optional<MLIRContext> current, forChanges;
  unsigned age = 0, changed = 0;
};

/// Keeps the errors of a step from the terminal, and counts them.
class Errors {
public:
  explicit Errors(MLIRContext &context)
      : handler(&context, [this](Diagnostic &diagnostic) {
          if (diagnostic.getSeverity() != DiagnosticSeverity::Error)
            return;
          if (count++ == 0)
            first = diagnostic.str();
        }) {}

  unsigned count = 0;
  std::string first;

private:
  ScopedDiagnosticHandler handler;
};

OwningOpRef<ModuleOp> parse(StringRef input, MLIRContext &context) {
  // Upstream's lexer reads the 0 behind the last character, which a file has,
  // and tokens at the end have it in their text.
  std::string text = input.str();
  if (isBytecode(text) && !groupsFitLists(text))
    return {};
  return parseSourceString<ModuleOp>(text, ParserConfig(&context), "input");
}

/// Parsed, and refused only with an error.
OwningOpRef<ModuleOp> take(StringRef input, MLIRContext &context) {
  Errors errors(context);
  OwningOpRef<ModuleOp> module = parse(input, context);
  // Upstream's reader of bytecode does not say what is wrong each time.
  if (!module && errors.count == 0 && !isBytecode(input))
    report("refused without an error");
  return module;
}

std::string print(ModuleOp module, bool generic = false) {
  std::string text;
  llvm::raw_string_ostream os(text);
  OpPrintingFlags flags;
  flags.assumeVerified();
  if (generic)
    flags.printGenericOpForm();
  module.print(os, flags);
  return text;
}

std::string writeBytecode(ModuleOp module) {
  std::string bytes;
  llvm::raw_string_ostream os(bytes);
  if (failed(writeBytecodeToFile(module, os)))
    report("a module cannot be written as bytecode");
  return bytes;
}

/// What was written is read, and says the same.
void expectSame(StringRef what, StringRef written, StringRef expected,
                MLIRContext &context) {
  Errors errors(context);
  OwningOpRef<ModuleOp> again = parse(written, context);
  if (!again)
    report(
        ("what is printed as " + what + " is refused: " + errors.first).str());
  if (print(*again) != expected)
    report((what + " read again is another program").str());
}

void runText(StringRef input) {
  MLIRContext &context = Programs::get().context();
  OwningOpRef<ModuleOp> module = take(input, context);
  if (!module)
    return;
  std::string text = print(*module);
  expectSame("text", text, text, context);
  expectSame("generic text", print(*module, /*generic=*/true), text, context);
  expectSame("bytecode", writeBytecode(*module), text, context);
}

void runBytecode(StringRef input) {
  if (!isBytecode(input))
    return;
  MLIRContext &context = Programs::get().context();
  // Upstream's reader takes types that no text can say, so that there is
  // nothing to compare.
  if (OwningOpRef<ModuleOp> module = take(input, context))
    print(*module);
}

std::optional<StringRef> passOf(StringRef input) {
  size_t number = input.empty() ? ~0u : uint8_t(input[0] - kFirstLetter);
  if (number >= std::size(kPasses))
    return std::nullopt;
  return kPasses[number];
}

/// In place of the verifier of the pass manager, whose errors look like those
/// of a pass that refuses a program.
class VerifyAfterEach : public PassInstrumentation {
public:
  VerifyAfterEach(Errors &errors) : errors(errors) {}
  void runAfterPass(Pass *pass, Operation *op) override {
    if (failed(verify(op)))
      report((pass->getName() + " leaves invalid IR: " + errors.first).str());
  }

private:
  Errors &errors;
};

void runPass(StringRef input) {
  std::optional<StringRef> passes = passOf(input);
  if (!passes)
    return;
  MLIRContext &context = Programs::get().context();
  OwningOpRef<ModuleOp> module = take(input.drop_front(), context);
  if (!module)
    return;
  llvm::scope_exit renew([] { Programs::get().renew(); });
  llvm::scope_exit drop([&] { module = nullptr; });
  PassManager manager(&context);
  if (failed(parsePassPipeline(*passes, manager)))
    report(("no such passes: " + *passes).str());
  Errors errors(context);
  manager.enableVerifier(false);
  manager.addInstrumentation(std::make_unique<VerifyAfterEach>(errors));
  if (failed(manager.run(*module)) && errors.count == 0)
    report((*passes + " fails without an error").str());
}

/// Changes of words or of operations, some at once.
std::string mutateProgram(StringRef text, Random &random) {
  std::string made = text.str();
  for (size_t left = 1 + pick(random, 3); left != 0; --left) {
    std::string next;
    if (pick(random, 2)) {
      MLIRContext &context = Programs::get().changes();
      Errors errors(context);
      OwningOpRef<ModuleOp> module = parse(made, context);
      if (module && mutateOperations(*module, random))
        next = print(*module, /*generic=*/true);
    }
    if (next.empty())
      next = mutateText(made, random);
    if (!next.empty())
      made = std::move(next);
  }
  return made;
}

std::string crossPrograms(StringRef text, StringRef other, Random &random) {
  if (pick(random, 2))
    return crossText(text, other, random);
  MLIRContext &context = Programs::get().changes();
  Errors errors(context);
  OwningOpRef<ModuleOp> module = parse(text, context);
  OwningOpRef<ModuleOp> second = parse(other, context);
  if (module && second && crossOperations(*module, *second, random))
    return print(*module, /*generic=*/true);
  return crossText(text, other, random);
}

/// The changed program as bytecode.
std::string mutateBytecode(StringRef input, Random &random) {
  // A number of bytecode that is wrong crashes upstream's reader soon.
  if (pick(random, 4) == 0)
    return ""; // bytes
  MLIRContext &context = Programs::get().changes();
  Errors errors(context);
  OwningOpRef<ModuleOp> module = parse(input, context);
  // What is invalid cannot be written. A verifier that crashes here does so for
  // the target `text` as well, where its input is kept.
  if (!module || !mutateOperations(*module, random) || failed(verify(*module)))
    return "";
  return writeBytecode(*module);
}

std::string mutatePass(StringRef input, Random &random) {
  if (input.empty() || pick(random, 8) == 0)
    return char(kFirstLetter + pick(random, std::size(kPasses))) +
           input.drop_front(!input.empty()).str();
  return input[0] + mutateProgram(input.drop_front(), random);
}

std::string crossPasses(StringRef input, StringRef other, Random &random) {
  if (input.empty() || other.empty())
    return "";
  return input[0] +
         crossPrograms(input.drop_front(), other.drop_front(), random);
}

} // namespace

ArrayRef<Target> kvcache::fuzz::programTargets() {
  static const Target kTargets[] = {
      {"text", runText, mutateProgram, crossPrograms},
      {"bytecode", runBytecode, mutateBytecode},
      {"pass", runPass, mutatePass, crossPasses},
  };
  return kTargets;
}

void kvcache::fuzz::writeBytecodeSeeds(StringRef from, StringRef to) {
  std::error_code code;
  for (llvm::sys::fs::directory_iterator at(from, code), end;
       !code && at != end; at.increment(code)) {
    auto file = llvm::MemoryBuffer::getFile(at->path());
    MLIRContext &context = Programs::get().context();
    Errors errors(context);
    OwningOpRef<ModuleOp> module;
    if (file)
      module = parse((*file)->getBuffer(), context);
    if (!module)
      continue;
    std::string path = (to + "/" + llvm::sys::path::filename(at->path())).str();
    llvm::raw_fd_ostream os(path, code);
    os << writeBytecode(*module);
  }
  if (code)
    report("seeds: " + code.message());
}

void kvcache::fuzz::printPasses() {
  for (auto [i, passes] : llvm::enumerate(kPasses))
    llvm::outs() << char(kFirstLetter + i) << " " << passes << "\n";
}
