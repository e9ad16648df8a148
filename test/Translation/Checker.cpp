// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Checker.h"

#include "kvcache/Pipelines/Pipelines.h"
#include "kvcache/Target/Parse.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SourceMgr.h"

#include <set>

using namespace kvcache;
using namespace kvcache::run;
using namespace kvcache::target;
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

} // namespace

static std::string str(ModuleOp module) {
  std::string text;
  llvm::raw_string_ostream(text) << module;
  return text;
}

/// A copy with one public function and what it needs. (symbol-dce wants to know
/// all operations.)
static OwningOpRef<ModuleOp> alone(ModuleOp module, llvm::StringRef name) {
  OwningOpRef<ModuleOp> copy = module.clone();
  mlir::SymbolTable symbols(*copy);
  llvm::SetVector<mlir::Operation *> needed;
  needed.insert(symbols.lookup(name));
  for (size_t i = 0; i < needed.size(); ++i)
    needed[i]->walk([&](mlir::Operation *op) {
      op->getAttrDictionary().walk([&](mlir::FlatSymbolRefAttr symbol) {
        if (mlir::Operation *other = symbols.lookup(symbol.getValue()))
          needed.insert(other);
      });
    });
  for (auto &op : llvm::make_early_inc_range(*copy->getBody())) {
    auto function = llvm::dyn_cast<mlir::func::FuncOp>(op);
    if (!function)
      continue;
    if (!needed.contains(function))
      function.erase();
    else if (function.getName() != name)
      function.setPrivate();
  }
  return copy;
}

/// What can be raised, and cannot be compiled.
static mlir::Operation *findUnknown(ModuleOp module) {
  mlir::Operation *found = nullptr;
  module.walk([&](mlir::Operation *op) {
    if (!found &&
        (!op->isRegistered() || llvm::isa<mlir::tensor::ScatterOp>(op)))
      found = op;
  });
  return found;
}

/// Makes a function private, and a public one that calls it. Numbers that it
/// returns are written to memory, and references are dropped.
static void hideBehindEntry(ModuleOp module, llvm::StringRef name) {
  auto inner = module.lookupSymbol<mlir::func::FuncOp>(name);
  auto entry = llvm::cast<mlir::func::FuncOp>(inner->cloneWithoutRegions());
  entry.setName((name + "_entry").str());
  mlir::SymbolTable(module).insert(entry);
  inner.setPrivate();
  inner.setNoInline(true);
  mlir::Location loc = inner.getLoc();
  mlir::Block *body = entry.addEntryBlock();
  auto builder = mlir::OpBuilder::atBlockBegin(body);
  auto call =
      mlir::func::CallOp::create(builder, loc, inner, body->getArguments());
  mlir::SmallVector<mlir::Type> inputs(inner.getArgumentTypes()), results;
  mlir::SmallVector<mlir::Value> returned;
  for (mlir::Value result : call.getResults()) {
    mlir::Type type = result.getType();
    if (llvm::isa<mlir::TensorType, mlir::MemRefType>(type)) {
      returned.push_back(result);
      results.push_back(type);
      continue;
    }
    if (!type.isIntOrIndexOrFloat())
      continue;
    if (type.isIndex())
      result = mlir::arith::IndexCastOp::create(builder, loc,
                                                builder.getI64Type(), result);
    else if (type.isInteger(1))
      result = mlir::arith::ExtUIOp::create(builder, loc, builder.getI8Type(),
                                            result);
    inputs.push_back(mlir::MemRefType::get({1}, result.getType()));
    mlir::Value at = mlir::arith::ConstantIndexOp::create(builder, loc, 0);
    mlir::memref::StoreOp::create(builder, loc, result,
                                  body->addArgument(inputs.back(), loc), at);
  }
  mlir::func::ReturnOp::create(builder, loc, returned);
  entry.setType(builder.getFunctionType(inputs, results));
  entry.setResAttrsAttr(nullptr);
  if (mlir::ArrayAttr attributes = entry.getArgAttrsAttr()) {
    mlir::SmallVector<mlir::Attribute> padded(attributes.getValue());
    padded.resize(inputs.size(), builder.getDictionaryAttr({}));
    entry.setArgAttrsAttr(builder.getArrayAttr(padded));
  }
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

static llvm::ArrayRef<Variant> first(const Program &program, size_t count) {
  return llvm::ArrayRef(program.variants)
      .take_front(std::min(count, program.variants.size()));
}

OwningOpRef<ModuleOp> Checker::parse(llvm::StringRef text) {
  llvm::SourceMgr sources;
  sources.AddNewSourceBuffer(llvm::MemoryBuffer::getMemBufferCopy(text),
                             llvm::SMLoc());
  return parseProgram(context, sources);
}

std::optional<Program> Checker::prepare(llvm::StringRef text,
                                        Failure &failure) {
  Program program;
  program.text = text.str();
  failure = {true, {}};
  llvm::SmallVector<llvm::StringRef> lines;
  text.split(lines, '\n');
  for (llvm::StringRef line : lines) {
    if (!line.consume_front("// call: "))
      continue;
    Call &call = program.calls.emplace_back();
    llvm::SmallVector<llvm::StringRef> words;
    line.split(words, ' ', -1, /*KeepEmpty=*/false);
    for (llvm::StringRef word : words) {
      auto [name, value] = word.split('=');
      llvm::Expected<ArgumentSpec> spec = parseArgumentSpec(value);
      if (!spec) {
        failure.message = llvm::toString(spec.takeError());
        return std::nullopt;
      }
      call[name] = *spec;
    }
  }
  OwningOpRef<ModuleOp> source = parse(text);
  if (program.calls.empty())
    failure.message = "no line '// call:' says with what it runs";
  else if (!source)
    failure.message = messages.take();
  else if (MaybeFailure failed = prepare(program, *source))
    failure = *failed;
  else
    return program;
  return std::nullopt;
}

std::optional<Program> Checker::prepareFunction(ModuleOp module,
                                                llvm::StringRef name,
                                                Failure &failure) {
  Program program;
  program.name = name.str();
  program.maySkip = true;
  failure = {true, {}};
  OwningOpRef<ModuleOp> source = alone(module, name);
  program.text = str(*source);
  if (findUnknown(*source) &&
      failed(run(*source, "kvcache-raise{last-row-wins standalone}"))) {
    failure.message = messages.take();
    return std::nullopt;
  }
  if (mlir::Operation *unknown = findUnknown(*source)) {
    failure.message =
        "'" + unknown->getName().getStringRef().str() + "' is not known";
    return std::nullopt;
  }
  auto bufferizeAndDescribe =
      [&](ModuleOp from) -> std::optional<FunctionSignature> {
    OwningOpRef<ModuleOp> bufferized = from.clone();
    if (failed(run(*bufferized, "kvcache-bufferize{allow-pool-copies}")))
      return std::nullopt;
    auto signatures =
        describeFunctions(*bufferized, ArgumentSignature::Device::Cpu);
    if (failed(signatures))
      return std::nullopt;
    auto inner = bufferized->lookupSymbol<mlir::func::FuncOp>(name);
    program.calls = makeCalls(inner, signatures->front());
    return signatures->front();
  };
  if (!bufferizeAndDescribe(*source)) {
    failure.message = messages.take();
    // What an entry cannot check of a view is right for the calls that are
    // made here, which are those of a private function then.
    hideBehindEntry(*source, name);
    if (!bufferizeAndDescribe(*source)) {
      messages.take();
      return std::nullopt;
    }
    messages.take();
  }
  if (MaybeFailure failed = prepare(program, *source)) {
    failure = *failed;
    return std::nullopt;
  }
  return program;
}

MaybeFailure Checker::prepare(Program &program, ModuleOp source) {
  OwningOpRef<ModuleOp> module = source.clone();
  if (failed(run(*module, "kvcache-bufferize{allow-pool-copies}")))
    return Failure{true, "it does not bufferize: " + messages.take()};
  std::string before = str(*module);
  std::set<std::string> seen = {before};
  std::map<std::string, unsigned> changed;
  auto add = [&](const Step &step, ModuleOp from) -> MaybeFailure {
    OwningOpRef<ModuleOp> after = from.clone();
    if (failed(run(*after, step.passes)))
      return Failure{false, std::string("pass ") + step.name +
                                " fails: " + messages.take()};
    std::string text = str(*after);
    changed[step.name] += text != before;
    if (seen.insert(text).second)
      program.variants.push_back({step.name, std::move(after)});
    return std::nullopt;
  };
  for (const Step &step : kSteps)
    if (MaybeFailure failure = add(step, *module))
      return failure;
  for (const Step &step : kWhole)
    if (MaybeFailure failure = add(step, source))
      return failure;
  program.variants.insert(program.variants.begin(),
                          {"nothing", std::move(module)});
  ++counts.programs;
  for (const auto &[step, count] : changed)
    counts.changed[step] += count;
  return std::nullopt;
}

MaybeFailure Checker::check(llvm::ArrayRef<Program> programs, size_t variants) {
  OwningOpRef<ModuleOp> all = ModuleOp::create(mlir::UnknownLoc::get(&context));
  std::vector<std::string> names;
  for (const Program &program : programs)
    for (const Variant &variant : first(program, variants))
      names.push_back(addTo(*all, *variant.module, names.size()));

  CompileOptions options;
  options.optimizeLayouts = false;
  options.allowPoolCopies = true;
  options.llvmLevel = 0;
  Compilation compilation(*all, options);
  auto failedTo = [&](llvm::StringRef what) {
    return Failure{variants == 1,
                   "it is not " + what.str() + ": " + messages.take()};
  };
  if (failed(compilation.bufferize()))
    return failedTo("bufferized again");
  // What was hidden behind an entry until that was described.
  for (auto function : all->getOps<mlir::func::FuncOp>())
    function.setNoInline(false);
  if (failed(run(*all, "inline")))
    return failedTo("inlined");
  if (failed(compilation.lower()))
    return failedTo("lowered to the LLVM dialect");
  if (failed(compilation.translate()))
    return failedTo("translated to LLVM IR");
  llvm::Expected<std::vector<LoadedFunction>> functions =
      LoadedFunction::loadAll(compilation, names);
  if (!functions)
    return Failure{variants == 1, llvm::toString(functions.takeError())};
  llvm::StringMap<const FunctionSignature *> signatures;
  for (const FunctionSignature &signature : compilation.functions())
    signatures[signature.name] = &signature;
  size_t number = 0;
  for (const Program &program : programs) {
    std::vector<Memory> expected;
    for (const Variant &variant : first(program, variants)) {
      bool isFirst = &variant == &program.variants.front();
      auto fail = [&](llvm::Error error) {
        std::string message = llvm::toString(std::move(error));
        if (isFirst && program.maySkip)
          return Failure{true, message};
        return Failure{false, "after " + variant.step + ": " + message + "\n" +
                                  str(*variant.module) + "\nfrom\n" +
                                  program.text};
      };
      llvm::Expected<std::vector<Memory>> got =
          execute((*functions)[number], *signatures.lookup(names[number]),
                  program.calls);
      ++number;
      if (!got)
        return fail(got.takeError());
      ++counts.compiled;
      if (isFirst)
        expected = std::move(*got);
      else if (llvm::Error error = compare(expected, *got))
        return fail(std::move(error));
    }
  }
  return std::nullopt;
}

mlir::LogicalResult Checker::run(ModuleOp module, llvm::StringRef passes) {
  mlir::PassManager pm(&context);
  if (failed(mlir::parsePassPipeline(passes, pm)))
    return mlir::failure();
  return pm.run(module);
}

llvm::Expected<std::vector<Memory>>
Checker::execute(const LoadedFunction &function,
                 const FunctionSignature &signature,
                 llvm::ArrayRef<Call> calls) {
  std::vector<Memory> all;
  for (const Call &specs : calls) {
    ++counts.calls;
    llvm::Expected<Arguments> arguments = Arguments::make(signature, specs, {});
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

llvm::Error Checker::compare(const std::vector<Memory> &expected,
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
                      llvm::Twine(i) + " differs from byte " + llvm::Twine(at) +
                      " on");
    }
  }
  return llvm::Error::success();
}
