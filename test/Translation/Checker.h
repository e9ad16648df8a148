// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Programs before and after passes: what they are, and whether they do the
// same.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_TEST_TRANSLATION_CHECKER_H
#define KVCACHE_TEST_TRANSLATION_CHECKER_H

#include "MakeCalls.h"

#include "kvcache/Run/LoadedFunction.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"

#include <map>

namespace kvcache {

/// The bits of all tensors of a call.
using Memory = std::vector<std::string>;

struct Counts {
  unsigned programs = 0, calls = 0, compiled = 0, compared = 0;
  std::map<std::string, unsigned> changed;
};

/// A program after some steps, which may be none.
struct Variant {
  std::string step;
  mlir::OwningOpRef<mlir::ModuleOp> module;
};

struct Program {
  std::string name, text;
  std::vector<Call> calls;
  std::vector<Variant> variants; ///< the first one is the program as it is
  bool maySkip = false;          ///< nobody says that it can run
};

/// Whether an error is about the program as it is.
struct Failure {
  bool isOfProgram;
  std::string message;
};

using MaybeFailure = std::optional<Failure>;

/// Errors become text, which may be a reason to skip a program.
class Messages {
public:
  explicit Messages(mlir::MLIRContext &context)
      : handler(&context, [this](mlir::Diagnostic &diagnostic) {
          if (diagnostic.getSeverity() == mlir::DiagnosticSeverity::Error &&
              first.empty())
            first = diagnostic.str();
          return mlir::success();
        }) {}

  /// The first error since the last call.
  std::string take() { return std::exchange(first, {}); }

private:
  std::string first;
  mlir::ScopedDiagnosticHandler handler;
};

class Checker {
public:
  explicit Checker(mlir::MLIRContext &context)
      : context(context), messages(context) {}

  mlir::OwningOpRef<mlir::ModuleOp> parse(llvm::StringRef text);
  /// A program with its calls, and what each step makes of it where that is
  /// something new. Nothing where that fails.
  std::optional<Program> prepare(llvm::StringRef text, Failure &failure);
  /// One function of a module, with what it calls and with made calls.
  std::optional<Program> prepareFunction(mlir::ModuleOp module,
                                         llvm::StringRef name,
                                         Failure &failure);

  /// Runs programs, or the first variants of each. All are one library: what
  /// compiling and linking take for each is more than a small function takes.
  MaybeFailure check(llvm::ArrayRef<Program> programs, size_t variants = -1);

  Counts counts;

private:
  /// Adds the variants.
  MaybeFailure prepare(Program &program, mlir::ModuleOp source);
  mlir::LogicalResult run(mlir::ModuleOp module, llvm::StringRef passes);
  llvm::Expected<std::vector<Memory>>
  execute(const run::LoadedFunction &function,
          const target::FunctionSignature &signature,
          llvm::ArrayRef<Call> calls);
  llvm::Error compare(const std::vector<Memory> &expected,
                      const std::vector<Memory> &got);

  mlir::MLIRContext &context;
  Messages messages;
};

} // namespace kvcache

#endif // KVCACHE_TEST_TRANSLATION_CHECKER_H
