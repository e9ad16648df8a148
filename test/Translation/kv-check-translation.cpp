// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Do passes keep what programs do? Each program of a file runs as it is, after
// each pass, and after all of them, on the same arguments, in this process; all
// memory has to be the same, bit for bit.
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
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SourceMgr.h"

#include <cstring>
#include <map>

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
    {"fold-permutes", "kvcache-fold-permutes"},
    {"scatter-to-index-copy", "kvcache-scatter-to-index-copy"},
    {"specialize-page-stride", "kvcache-specialize-page-stride"},
    {"all", "kvcache-fold-permutes,kvcache-scatter-to-index-copy,"
            "kvcache-specialize-page-stride,cse,canonicalize"},
    {"all, block strides",
     "kvcache-fold-permutes,"
     "kvcache-specialize-page-stride{block-strides=2048,8192 max-variants=5 "
     "multiple=8},"
     "kvcache-scatter-to-index-copy,cse"},
};

/// The bits of all tensors of a call.
using Memory = std::vector<std::string>;

struct Counts {
  unsigned programs = 0, calls = 0, compiled = 0, compared = 0;
  std::map<std::string, unsigned> changed;
};

class Checker {
public:
  explicit Checker(MLIRContext &context) : context(context) {}

  llvm::Error check(llvm::StringRef text) {
    std::vector<llvm::StringMap<ArgumentSpec>> calls;
    llvm::SmallVector<llvm::StringRef> lines;
    text.split(lines, '\n');
    for (llvm::StringRef line : lines) {
      if (!line.consume_front("// call: "))
        continue;
      auto &specs = calls.emplace_back();
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
    if (calls.empty())
      return runError("no line '// call:' says with what it runs");

    llvm::SourceMgr sources;
    sources.AddNewSourceBuffer(llvm::MemoryBuffer::getMemBufferCopy(text),
                               llvm::SMLoc());
    OwningOpRef<ModuleOp> module = parseProgram(context, sources);
    if (!module)
      return runError("it does not parse");
    if (failed(run(*module, "kvcache-bufferize{allow-pool-copies}")))
      return runError("it does not bufferize");
    ++counts.programs;
    std::string before = str(*module);
    llvm::Expected<std::vector<Memory>> expected = execute(*module, calls);
    if (!expected)
      return expected.takeError();

    std::map<std::string, const char *> seen;
    for (const Step &step : kSteps) {
      OwningOpRef<ModuleOp> changed = module->clone();
      if (failed(run(*changed, step.passes)))
        return runError(llvm::Twine("pass ") + step.name + " fails");
      std::string after = str(*changed);
      if (after == before)
        continue;
      ++counts.changed[step.name];
      if (!seen.emplace(after, step.name).second)
        continue;
      llvm::Expected<std::vector<Memory>> got = execute(*changed, calls);
      if (!got)
        return runError(llvm::Twine("after ") + step.name + ": " +
                        llvm::toString(got.takeError()));
      if (llvm::Error error = compare(*expected, *got))
        return runError(llvm::Twine("after ") + step.name + ": " +
                        llvm::toString(std::move(error)) + "\n" + after);
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

  llvm::Expected<std::vector<Memory>>
  execute(ModuleOp module,
          const std::vector<llvm::StringMap<ArgumentSpec>> &calls) {
    OwningOpRef<ModuleOp> copy = module.clone();
    CompileOptions options;
    options.optimizeLayouts = false;
    options.allowPoolCopies = true;
    options.llvmLevel = 1;
    Compilation compilation(*copy, options);
    if (failed(compilation.bufferize()))
      return runError("it does not bufferize again");
    if (failed(compilation.lower()))
      return runError("it is not lowered to the LLVM dialect");
    if (failed(compilation.translate()))
      return runError("it is not translated to LLVM IR");
    ++counts.compiled;
    const FunctionSignature &signature = compilation.functions().front();
    llvm::Expected<LoadedFunction> function =
        LoadedFunction::load(compilation, signature.name);
    if (!function)
      return function.takeError();
    std::vector<Memory> all;
    for (const llvm::StringMap<ArgumentSpec> &specs : calls) {
      ++counts.calls;
      llvm::Expected<Arguments> arguments =
          Arguments::make(signature, specs, {});
      if (!arguments)
        return arguments.takeError();
      llvm::Expected<int64_t> bytes = function->workspaceSize(*arguments);
      if (!bytes)
        return bytes.takeError();
      llvm::Expected<Storage> workspace = Storage::allocate(*bytes);
      if (!workspace)
        return workspace.takeError();
      if (llvm::Error error = function->call(*arguments, *workspace))
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
  llvm::InitLLVM init(argc, argv);
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
    for (auto [number, text] : llvm::enumerate(programs)) {
      llvm::Error error = checker.check(text);
      if (!error)
        continue;
      llvm::errs() << argv[i] << ", program " << number << ": "
                   << llvm::toString(std::move(error)) << "\n"
                   << text << "\n";
      if (++failures == 5) {
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
