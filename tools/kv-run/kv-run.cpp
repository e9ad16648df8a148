// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "../HideOptions.h"
#include "kvcache/Registration/Registration.h"
#include "kvcache/Run/Flops.h"
#include "kvcache/Run/LoadedFunction.h"
#include "kvcache/Target/Parse.h"

#include "mlir/Pass/PassManager.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/InitLLVM.h"

#include <chrono>
#include <csignal>

using namespace mlir;
using namespace kvcache;
using namespace kvcache::target;
using namespace kvcache::run;
using llvm::Error;
using llvm::Expected;
namespace cl = llvm::cl;

namespace {

cl::OptionCategory category("kv-run options");

cl::opt<std::string> input(cl::Positional, cl::desc("<program.mlir>"),
                           cl::init("-"), cl::cat(category));
cl::opt<std::string>
    function("function",
             cl::desc("The function to call (default: the only public one)"),
             cl::value_desc("name"), cl::cat(category));
cl::list<std::string> ins("in", cl::desc("The value of an argument, see below"),
                          cl::value_desc("name=value"), cl::cat(category));
cl::list<std::string>
    outs("out",
         cl::desc("Write an argument after the call: .npy as a packed array, "
                  "other files as the bytes that --in reads"),
         cl::value_desc("name=@file"), cl::cat(category));
cl::list<std::string>
    prints("print", cl::desc("Print a summary of an argument after the call"),
           cl::value_desc("name"), cl::cat(category));
cl::opt<bool> printAll("print-all",
                       cl::desc("Print all elements, not only the first ones"),
                       cl::cat(category));
cl::opt<unsigned> repeat(
    "repeat",
    cl::desc("Make this many more calls to measure time; results are those "
             "of the first call"),
    cl::value_desc("n"), cl::init(0), cl::cat(category));
cl::opt<std::string> targetName("target", cl::desc("cpu"), cl::init("cpu"),
                                cl::cat(category));
cl::opt<std::string> cpu("cpu",
                         cl::desc("CPU of the code: an LLVM CPU name, "
                                  "x86-64-v4-bf16, x86-64-v4-amx, or native"),
                         cl::init("x86-64-v3"), cl::cat(category));

cl::opt<std::string>
    checks("checks",
           cl::desc("Whether compiled code checks the entries of lists: none, "
                    "on-request (if the process has KVRT_CHECK=1), or full"),
           cl::init("none"), cl::cat(category));

cl::extrahelp valuesHelp(R"(
VALUES OF ARGUMENTS:

  An argument is called what it is called in the program (%key is key), what
  the attribute kvcache.name says, or argN. Members of a batch are arguments of
  their own: batch.starts, batch.lengths, batch.table, batch.positions.

  --in NAME=VALUE[,KEY=...]...
    @FILE.npy     an array, in C order; dtype=bf16 reads u2 as bf16,
                  and dtype=f8E4M3FN u1 as f8E4M3FN
    @FILE         the bytes of a tensor, of other files
    random        normally distributed; with range=[0,99] integers, 0 and 99
                  among them; seed=N (default: the place of the argument)
    zeros, iota   iota: 0, 1, 2, ... in the sequence of dimensions
    poison        NaN, or -1
    3, [0,4,9]    a number, in all elements of a tensor; all elements
  Keys, counted in elements: dtype=f32, shape=[..], strides=[..], offset=N.
  What is left out follows from the signature and from other arguments. Memory
  between elements is filled with NaN or -1.

  An argument that the function writes needs no --in if it has --out or
  --print: it is poison before the call.

EXAMPLE:

  kv-run examples/insert.mlir --in bytes=zeros,shape=[5242880] \
    --in layer_offset=0 --in blocks=20 --in slots=[3,-1,17] \
    --in key=random --in value=random --print bytes --repeat=100
)");

int fail(const llvm::Twine &message) {
  llvm::errs() << "kv-run: " << message << "\n";
  return 1;
}

int fail(Error error) { return fail(llvm::toString(std::move(error))); }

/// What the command line says of arguments.
struct Request {
  llvm::StringMap<ArgumentSpec> values;
  std::vector<std::pair<std::string, std::string>> files; ///< name, path
  llvm::StringSet<> results;

  static Expected<Request> parse();
};

Expected<std::pair<StringRef, StringRef>> splitName(StringRef option,
                                                    StringRef text) {
  auto [name, value] = text.split('=');
  if (name.empty() || name.size() == text.size())
    return runError("--" + option +
                    ": expected NAME=" + (option == "in" ? "VALUE" : "@FILE") +
                    ", got '" + text + "'");
  return std::pair(name, value);
}

Expected<Request> Request::parse() {
  Request request;
  for (StringRef text : ins) {
    auto parts = splitName("in", text);
    if (!parts)
      return parts.takeError();
    auto [name, value] = *parts;
    Expected<ArgumentSpec> spec = parseArgumentSpec(value);
    if (!spec)
      return runError("argument '" + name +
                      "': " + llvm::toString(spec.takeError()));
    if (!request.values.try_emplace(name, std::move(*spec)).second)
      return runError("argument '" + name + "': --in is given twice");
  }
  for (StringRef text : outs) {
    auto parts = splitName("out", text);
    if (!parts)
      return parts.takeError();
    auto [name, path] = *parts;
    if (!path.consume_front("@") || path.empty())
      return runError("argument '" + name + "': expected --out " + name +
                      "=@FILE, got '" + path + "'");
    request.files.emplace_back(name, path);
    request.results.insert(name);
  }
  for (StringRef name : prints)
    request.results.insert(name);
  return request;
}

Expected<unsigned> chooseFunction(ArrayRef<FunctionSignature> signatures) {
  std::string names;
  for (auto [i, signature] : llvm::enumerate(signatures)) {
    if (function == signature.name)
      return i;
    names += (i ? ", " : "") + signature.name;
  }
  if (!function.empty())
    return runError("--function: expected one of " + names + ", got '" +
                    function + "'");
  if (signatures.size() > 1)
    return runError("expected --function=NAME, one of " + names);
  return 0;
}

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string timeStr(double seconds) {
  std::string text;
  llvm::raw_string_ostream os(text);
  if (seconds < 1e-3)
    os << llvm::format("%.3g us", seconds * 1e6);
  else if (seconds < 1)
    os << llvm::format("%.4g ms", seconds * 1e3);
  else
    os << llvm::format("%.4g s", seconds);
  return text;
}

Error showResults(const Request &request, const FunctionSignature &signature,
                  const Arguments &arguments) {
  for (StringRef name : prints)
    arguments.tensor(*findArgument(signature, name))
        ->print(llvm::outs(), name, printAll);
  for (const auto &[name, path] : request.files) {
    const Tensor &tensor = *arguments.tensor(*findArgument(signature, name));
    bool isNumpy = StringRef(path).ends_with(".npy");
    if (Error error = isNumpy ? tensor.writeNumpy(path) : tensor.writeRaw(path))
      return runError("argument '" + name +
                      "': " + llvm::toString(std::move(error)));
    llvm::outs() << "wrote " << path << ": ";
    if (!isNumpy)
      llvm::outs() << tensor.storage.size() << " bytes, strides "
                   << listStr(tensor.strides) << ", offset " << tensor.offset
                   << "\n";
    else
      llvm::outs() << tensor.type->name << " " << listStr(tensor.shape)
                   << (tensor.type->isStoredAsBits()
                           ? ", its bits as u" +
                                 std::to_string(tensor.type->bytes)
                           : "")
                   << "\n";
  }
  return Error::success();
}

void reportBytes(const FunctionSignature &signature,
                 const Arguments &arguments) {
  int64_t bytes[2] = {0, 0};
  for (auto [i, arg] : llvm::enumerate(signature.arguments))
    if (const Tensor *tensor = arguments.tensor(i))
      bytes[arg.isWritten] += tensor->count() * tensor->type->bytes;
  llvm::outs() << "bytes:     " << bytes[0] << " in tensors that are read, "
               << bytes[1]
               << " in those that are written; whole tensors, though a call "
                  "may touch less\n";
}

void reportFlops(const FlopCount &count, uint64_t flops, double seconds) {
  llvm::raw_ostream &os = llvm::outs();
  os << "flops:     ";
  if (!count.unknown().empty())
    os << "not known; " << llvm::join(count.unknown(), "; ") << "\n";
  else if (!count.numCounted())
    os << "none counted: there is no attention and no contraction\n";
  else
    os << flops << llvm::format(", %.3g", double(flops) / seconds / 1e9)
       << " GFLOP/s; of attention and contractions only, others are not "
          "counted\n";
}

/// Seconds of each call; the results are those of the first one.
Expected<std::vector<double>> callAndShow(const LoadedFunction &loaded,
                                          const Arguments &arguments,
                                          const Request &request,
                                          const FunctionSignature &signature) {
  Expected<int64_t> size = loaded.workspaceSize(arguments);
  if (!size)
    return size.takeError();
  Storage workspace;
  if (Error error = Storage::allocate(*size).moveInto(workspace))
    return runError("workspace: " + llvm::toString(std::move(error)));
  std::vector<double> seconds;
  for (unsigned i = 0; i <= repeat; ++i) {
    auto start = Clock::now();
    if (Error error = loaded.call(arguments, workspace))
      return error;
    seconds.push_back(secondsSince(start));
    if (i == 0)
      if (Error error = showResults(request, signature, arguments))
        return error;
  }
  llvm::outs() << "workspace: " << *size << " bytes\n";
  return seconds;
}

void reportTime(ArrayRef<double> seconds, double compiled) {
  llvm::raw_ostream &os = llvm::outs();
  os << "time:      " << timeStr(seconds[0]) << " for the first call, "
     << timeStr(compiled) << " to compile\n";
  if (seconds.size() == 1)
    return;
  std::vector<double> sorted = seconds.drop_front().vec();
  llvm::sort(sorted);
  os << "           min " << timeStr(sorted[0]) << ", median "
     << timeStr(sorted[sorted.size() / 2]) << " of " << sorted.size()
     << " more\n";
}

int compileAndRun(ModuleOp module, const Request &request,
                  Clock::time_point start) {
  CompileOptions options;
  options.cpu = cpu;
  options.checks = checks;
  options.configurePasses = applyPassManagerCLOptions;
  Compilation compilation(module, options);
  if (failed(compilation.bufferize()))
    return 1;
  Expected<unsigned> chosen = chooseFunction(compilation.functions());
  if (!chosen)
    return fail(chosen.takeError());
  const FunctionSignature &signature = compilation.functions()[*chosen];
  FlopCount count(module.lookupSymbol<func::FuncOp>(signature.name), signature);
  double compiled = secondsSince(start);
  // Before the rest is compiled: most mistakes are made here.
  Expected<Arguments> arguments =
      Arguments::make(signature, request.values, request.results);
  if (!arguments)
    return fail(arguments.takeError());
  uint64_t flops = count.of(*arguments);

  start = Clock::now();
  if (failed(compilation.lower()) || failed(compilation.translate()))
    return 1;
  Expected<LoadedFunction> loaded =
      LoadedFunction::load(compilation, signature.name);
  if (!loaded)
    return fail(loaded.takeError());
  compiled += secondsSince(start);

  Expected<std::vector<double>> seconds =
      callAndShow(*loaded, *arguments, request, signature);
  if (!seconds)
    return fail(seconds.takeError());
  reportBytes(signature, *arguments);
  reportFlops(count, flops, *llvm::min_element(*seconds));
  reportTime(*seconds, compiled);
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  // A file that may not grow is an error of a write, here and in the linker.
  signal(SIGXFSZ, SIG_IGN);
  registerPassManagerCLOptions();
  registerMLIRContextCLOptions();
  hideOptions(&category);
  cl::ParseCommandLineOptions(
      argc, argv,
      "Compiles a program on paged KV caches for this CPU, calls a function of "
      "it,\nand prints the results and the time it took\n");
  if (targetName != "cpu")
    return fail("expected --target=cpu, got '" + targetName +
                "': programs for a GPU are compiled by kv-compile, and cannot "
                "be run here yet");
  if (checks != "none" && checks != "on-request" && checks != "full")
    return fail("expected --checks=none, on-request or full, got '" + checks +
                "'");
  Expected<Request> request = Request::parse();
  if (!request)
    return fail(request.takeError());

  auto start = Clock::now();
  DialectRegistry registry;
  kvcache::registerAllDialects(registry);
  Expected<int> status = withProgram(registry, input, [&](ModuleOp module) {
    return compileAndRun(module, *request, start);
  });
  if (!status)
    return fail(status.takeError());
  llvm::outs().flush();
  if (std::error_code error = llvm::outs().error()) {
    llvm::outs().clear_error();
    return fail("cannot write '-': " + error.message());
  }
  return *status;
}
