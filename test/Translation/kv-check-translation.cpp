// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Do passes keep what programs do? Each program of a file runs as it is, after
// each pass, and after all of them, on the same arguments, in this process; all
// memory has to be the same, bit for bit. The words "after nothing" in an error
// are about the program as it is.
//
//   kv-check-translation programs.mlir
//   kv-check-translation --each-function test.mlir
//
// Programs are separated by `// -----`. A line `// call: NAME=SPEC ...` is a
// call, with the words of kv-run; a program without one is an error. What a
// pass leaves as it is, is not compiled again.
//
// With --each-function, each public function is a program, and calls are made
// from its signature. One that cannot run as it is, is skipped, and the reason
// is printed. Where operations are of dialects that are not known, the program
// is what kvcache-raise makes of it.

#include "Checker.h"

#include "kvcache/Registration/Registration.h"
#include "kvcache/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace kvcache;
using mlir::MLIRContext;
using mlir::ModuleOp;
using mlir::OwningOpRef;

namespace {

/// How many programs are compiled together. With many more, passes that look at
/// the whole module take longer than what is saved.
constexpr size_t kTogether = 5;

/// Checks programs some at a time, and says what became of them.
class Report {
public:
  explicit Report(MLIRContext &context, bool eachFunction)
      : checker(context), eachFunction(eachFunction) {}

  void checkFile(llvm::StringRef file, llvm::StringRef text) {
    this->file = file;
    llvm::SmallVector<llvm::StringRef> programs;
    text.split(programs, "// -----\n");
    for (auto [number, text] : llvm::enumerate(programs)) {
      if (tooMany())
        return;
      if (eachFunction) {
        addFunctions(text);
        continue;
      }
      Failure failure;
      if (auto program = checker.prepare(text, failure)) {
        program->name = "program " + std::to_string(number);
        add(std::move(*program));
      } else {
        fail("program " + std::to_string(number),
             failure.message + "\n" + text.str());
      }
    }
    checkTogether();
  }

  bool tooMany() const { return failures >= 5; }
  unsigned failures = 0;

  void print() {
    const Counts &counts = checker.counts;
    llvm::outs() << counts.programs << " programs, " << counts.compiled
                 << " compilations, " << counts.calls << " calls, "
                 << counts.compared << " buffers compared\n";
    for (const auto &[step, count] : counts.changed)
      llvm::outs() << "changed by " << step << ": " << count << "\n";
  }

private:
  void addFunctions(llvm::StringRef text) {
    OwningOpRef<ModuleOp> module = checker.parse(text);
    if (!module)
      return skip("a module", "it does not parse");
    for (auto function : module->getOps<mlir::func::FuncOp>()) {
      if (!function.isPublic() || function.isExternal())
        continue;
      Failure failure;
      if (auto program =
              checker.prepareFunction(*module, function.getName(), failure))
        add(std::move(*program));
      else if (failure.isOfProgram)
        skip(function.getName(), failure.message);
      else
        fail(function.getName(), failure.message);
    }
  }

  void add(Program program) {
    together.push_back(std::move(program));
    if (together.size() == kTogether)
      checkTogether();
  }

  /// Where some programs fail together, each is looked at alone, first as it
  /// is.
  void checkTogether() {
    std::vector<Program> programs = std::exchange(together, {});
    if (programs.empty())
      return;
    Counts before = checker.counts;
    MaybeFailure failure = checker.check(programs);
    if (!failure) {
      for (const Program &program : programs)
        ran(program);
      return;
    }
    if (!eachFunction)
      return fail("up to " + programs.back().name, failure->message);
    checker.counts = before;
    for (const Program &program : programs) {
      before = checker.counts;
      failure = checker.check(program, 1);
      checker.counts = before;
      if (failure) {
        --checker.counts.programs;
        skip(program.name, failure->message);
      } else if ((failure = checker.check(program))) {
        fail(program.name, failure->message);
      } else {
        ran(program);
      }
    }
  }

  void ran(const Program &program) {
    if (eachFunction)
      llvm::outs() << "ran " << file << " " << program.name << "\n";
  }

  void skip(llvm::StringRef name, llvm::StringRef why) {
    llvm::outs() << "skipped " << file << " " << name << ": "
                 << why.split('\n').first << "\n";
  }

  void fail(llvm::StringRef name, llvm::StringRef why) {
    ++failures;
    llvm::errs() << file << ", " << name << ": " << why << "\n";
  }

  Checker checker;
  bool eachFunction;
  std::string file;
  std::vector<Program> together;
};

} // namespace

int main(int argc, char **argv) {
  // Not InitLLVM: its handlers allocate, and hang where a program that a pass
  // broke has damaged the heap. Dying is how that is found.
  llvm::SmallVector<const char *> names(argv + 1, argv + argc);
  bool eachFunction =
      !names.empty() && llvm::StringRef(names[0]) == "--each-function";
  if (eachFunction)
    names.erase(names.begin());
  if (names.empty()) {
    llvm::errs() << "usage: kv-check-translation [--each-function] "
                    "PROGRAMS.mlir...\n";
    return 2;
  }
  registerAllPasses();
  // Without them, a compilation has no pass manager.
  mlir::registerPassManagerCLOptions();
  mlir::DialectRegistry registry;
  registerAllDialects(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.allowUnregisteredDialects(eachFunction);
  Report report(context, eachFunction);
  for (const char *name : names) {
    auto file = llvm::MemoryBuffer::getFileOrSTDIN(name);
    if (!file) {
      llvm::errs() << name << ": " << file.getError().message() << "\n";
      return 2;
    }
    report.checkFile(name, (*file)->getBuffer());
    if (report.tooMany()) {
      llvm::errs() << "more are not looked for\n";
      return 1;
    }
  }
  report.print();
  return report.failures ? 1 : 0;
}
