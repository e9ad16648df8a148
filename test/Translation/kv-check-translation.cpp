// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Do passes keep what programs do? Each program of a file runs as it is, after
// each pass, and after all of them, on the same arguments, in this process; all
// memory has to be the same, bit for bit. The words "after nothing" in an error
// are about the program as it is.
//
//   kv-check-translation programs.mlir
//
// Programs are separated by `// -----`. A line `// call: NAME=SPEC ...` is a
// call, with the words of kv-run; a program without one is an error. What a
// pass leaves as it is, is not compiled again.

#include "kvcache/Pipelines/Pipelines.h"
#include "kvcache/Registration/Registration.h"
#include "kvcache/Run/LoadedFunction.h"
#include "kvcache/Target/Parse.h"
#include "kvcache/Transforms/Passes.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SourceMgr.h"

#include <cstring>
#include <map>
#include <set>

using namespace kvcache;
using mlir::MLIRContext;
using mlir::ModuleOp;
using mlir::OwningOpRef;

namespace {

struct Step {
  const char *name, *passes;
};

/// Each pass, and all of them for both kinds of target: variants for a GPU run
/// on a CPU, too.
constexpr Step kSteps[] = {
    {"raise", "kvcache-raise{last-row-wins}"},
    {"fold-permutes", "kvcache-fold-permutes"},
    {"scatter-to-index-copy", "kvcache-scatter-to-index-copy"},
    {"specialize-page-stride", "kvcache-specialize-page-stride"},
    {"another order, block strides",
     "kvcache-fold-permutes,"
     "kvcache-specialize-page-stride{block-strides=2048,8192 max-variants=5 "
     "multiple=8},"
     "kvcache-scatter-to-index-copy,cse"},
};

/// From the program as it was written, as kv-compile and other compilers do it.
constexpr Step kWhole[] = {
    {"kvcache-optimize", "kvcache-optimize{allow-pool-copies}"},
    {"kvcache-optimize for a GPU", "kvcache-optimize{allow-pool-copies "
                                   "target=gpu compute-slots}"},
};

/// How many programs are compiled together. With many more, passes that look at
/// the whole module take longer than what is saved.
constexpr size_t kTogether = 5;

/// The bits of all tensors of a call.
using Memory = std::vector<std::string>;

struct Counts {
  unsigned programs = 0, calls = 0, compiled = 0, compared = 0;
  std::map<std::string, unsigned> changed;
};

/// A program after some steps, which may be none.
struct Variant {
  std::string step;
  OwningOpRef<ModuleOp> module;
};

struct Program {
  std::string text;
  std::vector<llvm::StringMap<ArgumentSpec>> calls;
  std::vector<Variant> variants; ///< the first one is the program as it is
};

class Checker {
public:
  explicit Checker(MLIRContext &context) : context(context) {}

  /// A program, and what each step makes of it where that is something new.
  llvm::Expected<Program> prepare(llvm::StringRef text) {
    Program program;
    program.text = text.str();
    llvm::SmallVector<llvm::StringRef> lines;
    text.split(lines, '\n');
    for (llvm::StringRef line : lines) {
      if (!line.consume_front("// call: "))
        continue;
      auto &specs = program.calls.emplace_back();
      llvm::SmallVector<llvm::StringRef> words;
      line.split(words, ' ', -1, /*KeepEmpty=*/false);
      for (llvm::StringRef word : words) {
        auto [name, value] = word.split('=');
        llvm::Expected<ArgumentSpec> spec = parseArgumentSpec(value);
        if (!spec)
          return spec.takeError();
        specs[name] = *spec;
      }
    }
    if (program.calls.empty())
      return runError("no line '// call:' says with what it runs");

    llvm::SourceMgr sources;
    sources.AddNewSourceBuffer(llvm::MemoryBuffer::getMemBufferCopy(text),
                               llvm::SMLoc());
    OwningOpRef<ModuleOp> source = parseProgram(context, sources);
    if (!source)
      return runError("it does not parse");
    OwningOpRef<ModuleOp> module = source->clone();
    if (failed(run(*module, "kvcache-bufferize{allow-pool-copies}")))
      return runError("it does not bufferize");
    ++counts.programs;
    std::string before = str(*module);
    std::set<std::string> seen = {before};
    auto add = [&](const Step &step, ModuleOp from) -> llvm::Error {
      OwningOpRef<ModuleOp> changed = from.clone();
      if (failed(run(*changed, step.passes)))
        return runError(llvm::Twine("pass ") + step.name + " fails");
      std::string after = str(*changed);
      counts.changed[step.name] += after != before;
      if (seen.insert(after).second)
        program.variants.push_back({step.name, std::move(changed)});
      return llvm::Error::success();
    };
    for (const Step &step : kSteps)
      if (llvm::Error error = add(step, *module))
        return std::move(error);
    for (const Step &step : kWhole)
      if (llvm::Error error = add(step, *source))
        return std::move(error);
    program.variants.insert(program.variants.begin(),
                            {"nothing", std::move(module)});
    return program;
  }

  /// Programs and all their variants are one library: what compiling and
  /// linking take for each is more than a small function takes.
  llvm::Error check(llvm::ArrayRef<Program> programs) {
    OwningOpRef<ModuleOp> all =
        ModuleOp::create(mlir::UnknownLoc::get(&context));
    std::vector<std::string> names;
    for (const Program &program : programs)
      for (const Variant &variant : program.variants)
        names.push_back(addTo(*all, *variant.module, names.size()));

    CompileOptions options;
    options.optimizeLayouts = false;
    options.allowPoolCopies = true;
    options.llvmLevel = 0;
    Compilation compilation(*all, options);
    if (failed(compilation.bufferize()))
      return runError("it does not bufferize again");
    if (failed(compilation.lower()))
      return runError("it is not lowered to the LLVM dialect");
    if (failed(compilation.translate()))
      return runError("it is not translated to LLVM IR");
    llvm::Expected<std::vector<LoadedFunction>> functions =
        LoadedFunction::loadAll(compilation, names);
    if (!functions)
      return functions.takeError();
    llvm::StringMap<const FunctionSignature *> signatures;
    for (const FunctionSignature &signature : compilation.functions())
      signatures[signature.name] = &signature;
    size_t number = 0;
    for (const Program &program : programs) {
      std::vector<Memory> expected;
      for (const Variant &variant : program.variants) {
        auto fail = [&](llvm::Error error) {
          return runError("after " + variant.step + ": " +
                          llvm::toString(std::move(error)) + "\n" +
                          str(*variant.module) + "\nfrom\n" + program.text);
        };
        llvm::Expected<std::vector<Memory>> got =
            execute((*functions)[number], *signatures.lookup(names[number]),
                    program.calls);
        ++number;
        if (!got)
          return fail(got.takeError());
        ++counts.compiled;
        if (&variant == &program.variants.front())
          expected = std::move(*got);
        else if (llvm::Error error = compare(expected, *got))
          return fail(std::move(error));
      }
    }
    return llvm::Error::success();
  }

  Counts counts;

private:
  mlir::LogicalResult run(ModuleOp module, llvm::StringRef passes) {
    mlir::PassManager pm(&context);
    if (failed(mlir::parsePassPipeline(passes, pm)))
      return mlir::failure();
    return pm.run(module);
  }

  static std::string str(ModuleOp module) {
    std::string text;
    llvm::raw_string_ostream(text) << module;
    return text;
  }

  /// Moves a copy of all there is in a module, under other names, and returns
  /// that of the first public function.
  static std::string addTo(ModuleOp all, ModuleOp module, size_t number) {
    OwningOpRef<ModuleOp> copy = module.clone();
    std::string first;
    mlir::SymbolTable symbols(*copy);
    for (mlir::Operation &op : copy->getBody()->getOperations()) {
      auto symbol = llvm::dyn_cast<mlir::SymbolOpInterface>(op);
      if (!symbol)
        continue;
      std::string name = symbol.getName().str() + "_" + std::to_string(number);
      if (failed(symbols.rename(symbol, name)))
        llvm::report_fatal_error("cannot rename a function");
      if (first.empty() && symbol.isPublic())
        first = name;
    }
    all.getBody()->getOperations().splice(all.getBody()->end(),
                                          copy->getBody()->getOperations());
    return first;
  }

  llvm::Expected<std::vector<Memory>>
  execute(const LoadedFunction &function, const FunctionSignature &signature,
          llvm::ArrayRef<llvm::StringMap<ArgumentSpec>> calls) {
    std::vector<Memory> all;
    for (const llvm::StringMap<ArgumentSpec> &specs : calls) {
      ++counts.calls;
      llvm::Expected<Arguments> arguments =
          Arguments::make(signature, specs, {});
      if (!arguments)
        return arguments.takeError();
      llvm::Expected<int64_t> bytes = function.workspaceSize(*arguments);
      if (!bytes)
        return bytes.takeError();
      llvm::Expected<Storage> workspace = Storage::allocate(*bytes);
      if (!workspace)
        return workspace.takeError();
      if (llvm::Error error = function.call(*arguments, *workspace))
        return error;
      Memory memory;
      for (unsigned i = 0; i < signature.arguments.size(); ++i) {
        const Tensor *tensor = arguments->tensor(i);
        memory.push_back(
            tensor ? std::string(tensor->storage.data(), tensor->storage.size())
                   : std::string());
      }
      all.push_back(std::move(memory));
    }
    return all;
  }

  llvm::Error compare(const std::vector<Memory> &expected,
                      const std::vector<Memory> &got) {
    for (size_t call = 0; call < expected.size(); ++call) {
      if (expected[call].size() != got[call].size())
        return runError("the number of arguments changed");
      for (size_t i = 0; i < expected[call].size(); ++i) {
        ++counts.compared;
        const std::string &a = expected[call][i], &b = got[call][i];
        if (a == b)
          continue;
        size_t at = 0;
        while (at < a.size() && at < b.size() && a[at] == b[at])
          ++at;
        return runError("call " + llvm::Twine(call) + ": argument " +
                        llvm::Twine(i) + " differs from byte " +
                        llvm::Twine(at) + " on");
      }
    }
    return llvm::Error::success();
  }

  MLIRContext &context;
};

} // namespace

int main(int argc, char **argv) {
  // Not InitLLVM: its handlers allocate, and hang where a program that a pass
  // broke has damaged the heap. Dying is how that is found.
  if (argc < 2) {
    llvm::errs() << "usage: kv-check-translation PROGRAMS.mlir...\n";
    return 2;
  }
  registerAllPasses();
  // Without them, a compilation has no pass manager.
  mlir::registerPassManagerCLOptions();
  mlir::DialectRegistry registry;
  registerAllDialects(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  Checker checker(context);
  unsigned failures = 0;
  for (int i = 1; i < argc; ++i) {
    auto file = llvm::MemoryBuffer::getFileOrSTDIN(argv[i]);
    if (!file) {
      llvm::errs() << argv[i] << ": " << file.getError().message() << "\n";
      return 2;
    }
    llvm::SmallVector<llvm::StringRef> programs;
    (*file)->getBuffer().split(programs, "// -----\n");
    std::vector<Program> together;
    auto checkTogether = [&](llvm::StringRef what) {
      if (llvm::Error error = checker.check(together)) {
        ++failures;
        llvm::errs() << argv[i] << ", " << what << ": "
                     << llvm::toString(std::move(error)) << "\n";
      }
      together.clear();
    };
    for (auto [number, text] : llvm::enumerate(programs)) {
      std::string what = "programs up to " + std::to_string(number);
      if (llvm::Expected<Program> program = checker.prepare(text)) {
        together.push_back(std::move(*program));
      } else {
        ++failures;
        llvm::errs() << argv[i] << ", program " << number << ": "
                     << llvm::toString(program.takeError()) << "\n"
                     << text << "\n";
      }
      if (together.size() == kTogether || number + 1 == programs.size())
        checkTogether(what);
      if (failures >= 5) {
        llvm::errs() << "more are not looked for\n";
        return 1;
      }
    }
  }
  const Counts &counts = checker.counts;
  llvm::outs() << counts.programs << " programs, " << counts.compiled
               << " compilations, " << counts.calls << " calls, "
               << counts.compared << " buffers compared\n";
  for (const auto &[step, count] : counts.changed)
    llvm::outs() << "changed by " << step << ": " << count << "\n";
  return failures ? 1 : 0;
}
