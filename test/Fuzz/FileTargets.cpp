// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What kv-run reads: .npy files and descriptions of arguments. What kv-compile
// writes: the manifest, which has to be JSON, and the header.
//
//===----------------------------------------------------------------------===//

#include "Mutate.h"

#include "NumpyFile.h"
#include "kvcache/Pipelines/Pipelines.h"
#include "kvcache/Registration/Registration.h"
#include "kvcache/Run/Arguments.h"
#include "kvcache/Target/EntryPoints.h"
#include "kvcache/Target/Parse.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/SourceMgr.h"

#include <cstdlib>
#include <optional>
#include <unistd.h>

using namespace kvcache;
using namespace kvcache::target;
using namespace kvcache::run;
using namespace kvcache::fuzz;
using namespace llvm;

static void runNumpy(StringRef input) {
  Expected<NumpyHeader> header = NumpyHeader::parse(input);
  if (!header) {
    consumeError(header.takeError());
    return;
  }
  if (header->size > input.size())
    report("the header of a .npy file ends behind the file");
  if (is_contained(map_range(header->shape, [](int64_t n) { return n < 0; }),
                   true))
    report("a .npy file with an extent below 0");
  Tensor::count(header->shape);
  header->elementBytes();
  Expected<NumpyHeader> again = NumpyHeader::parse(header->str());
  if (!again)
    report("a header that is written is refused: " +
           toString(again.takeError()));
  if (again->type != header->type || again->shape != header->shape)
    report("a header that is written is another one: " + header->str());
}

static void runSpec(StringRef input) {
  Expected<ArgumentSpec> spec = parseArgumentSpec(input);
  if (!spec)
    return consumeError(spec.takeError());
  using Source = ArgumentSpec::Source;
  if (spec->source == Source::Number && spec->numbers.size() != 1)
    report("a number that is none");
  if (spec->range && spec->range->first > spec->range->second)
    report("a range whose ends are swapped");
}

static mlir::OwningOpRef<mlir::ModuleOp> parse(StringRef text,
                                               mlir::MLIRContext &context) {
  SourceMgr sources;
  sources.AddNewSourceBuffer(MemoryBuffer::getMemBufferCopy(text, "input"), {});
  return parseProgram(context, sources);
}

static const mlir::DialectRegistry &registry() {
  static const mlir::DialectRegistry &all = *[] {
    auto *made = new mlir::DialectRegistry();
    registerAllDialects(*made);
    return made;
  }();
  return all;
}

/// What kv-compile says of a program, or nothing.
static std::optional<std::vector<FunctionSignature>>
describe(StringRef program) {
  mlir::MLIRContext context(registry(), mlir::MLIRContext::Threading::DISABLED);
  mlir::ScopedDiagnosticHandler quiet(&context, [](mlir::Diagnostic &) {});
  mlir::OwningOpRef<mlir::ModuleOp> module = parse(program, context);
  if (!module)
    return std::nullopt;
  mlir::PassManager manager(&context);
  buildBufferizePipeline(manager);
  if (failed(manager.run(*module)))
    return std::nullopt;
  auto signatures = describeFunctions(*module, ArgumentSignature::Device::Cpu);
  if (failed(signatures))
    return std::nullopt;
  return std::move(*signatures);
}

static void runManifest(StringRef input) {
  std::optional<std::vector<FunctionSignature>> signatures = describe(input);
  if (!signatures)
    return;
  LibraryInfo library;
  library.name = "fuzz";
  Expected<json::Value> manifest =
      json::parse(writeManifest(library, *signatures));
  if (!manifest)
    report("the manifest is no JSON: " + toString(manifest.takeError()));
  // A comment of C ends at the first */, whatever is in it.
  std::string header = writeHeader(library, *signatures);
  for (StringRef rest = header; !rest.empty();) {
    auto [code, comment] = rest.split("/*");
    if (code.contains("*/"))
      report("a comment of the header ends twice");
    rest = comment.split("*/").second;
  }
}

/// One file for all inputs, which is gone with the process.
class InputFile {
public:
  InputFile() : path("/tmp/kv-fuzz-XXXXXX.npy") {
    file = mkstemps(path.data(), 4);
    if (file < 0)
      report("cannot create " + path);
  }
  ~InputFile() { unlink(path.c_str()); }
  void write(StringRef contents) {
    ssize_t size = contents.size();
    if (ftruncate(file, 0) || pwrite(file, contents.data(), size, 0) != size)
      report("cannot write " + path);
  }

  std::string path;

private:
  int file;
};

static constexpr StringLiteral kProgram = R"(
!kv = !kvcache.cache<2S x ?B x 4N x 2H x 4D x f32, strides = [B = ? mult 16]>
!slots = !kvcache.slots<?T x i64, rows_per_block = 4, pad = skip_negative>
func.func @f(%pool: !kv, %slots: tensor<?xi64>, %key: tensor<?x2x4xf32>,
             %value: tensor<?x2x4xf32>, %n: i32, %scale: f32,
             %bits: tensor<2x3xbf16>) {
  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
  kvcache.index_copy %key, %value into %pool at %where
    : tensor<?x2x4xf32>, tensor<?x2x4xf32> into !kv at !slots
  return
}
)";

/// Too large to be worth its time, and no error.
static bool isLarge(const ArgumentSpec &spec) {
  constexpr int64_t kMost = 1 << 18;
  int64_t offset = spec.offset.value_or(0);
  if (!spec.shape)
    return offset > kMost;
  std::optional<int64_t> count = Tensor::count(*spec.shape);
  std::optional<int64_t> reach = count;
  if (spec.strides && spec.strides->size() == spec.shape->size())
    reach = Tensor::reach(*spec.shape, *spec.strides, offset);
  // Other extents follow from these.
  bool isLong = any_of(*spec.shape, [](int64_t n) { return n > 1 << 12; });
  return isLong || offset > kMost || (count && *count > kMost) ||
         (reach && *reach > kMost);
}

/// Lines `name=value` to an empty one, as after --in, and then the contents of
/// the files that values name.
static void runArguments(StringRef input) {
  static const FunctionSignature signature = describe(kProgram)->front();
  static InputFile file;
  StringMap<ArgumentSpec> specs;
  while (!input.empty()) {
    auto [line, rest] = input.split('\n');
    input = rest;
    if (line.empty())
      break;
    auto [name, value] = line.split('=');
    Expected<ArgumentSpec> spec = parseArgumentSpec(value);
    if (!spec)
      return consumeError(spec.takeError());
    if (isLarge(*spec))
      return;
    if (spec->source == ArgumentSpec::Source::File)
      spec->path = file.path;
    specs[name] = *spec;
  }
  file.write(input);
  StringSet<> results;
  results.insert("value");
  Expected<Arguments> arguments = Arguments::make(signature, specs, results);
  if (!arguments)
    return consumeError(arguments.takeError());
  for (unsigned i = 0; i < signature.arguments.size(); ++i)
    if (const Tensor *tensor = arguments->tensor(i)) {
      uint64_t bytes = 0;
      tensor->forEach([&](char *element) {
        if (element < tensor->storage.data() ||
            element + tensor->type->bytes >
                tensor->storage.data() + tensor->storage.size())
          report("an element outside of its memory");
        ++bytes;
      });
      tensor->print(nulls(), "tensor", bytes % 2);
    }
}

/// Programs change as they do for the target `text`.
static std::string mutateProgram(StringRef input, Random &random) {
  return programTargets().front().mutate(input, random);
}
static std::string crossPrograms(StringRef input, StringRef other,
                                 Random &random) {
  return programTargets().front().cross(input, other, random);
}
/// Words change, or else bytes.
static std::string mutateWords(StringRef input, Random &random) {
  return pick(random, 2) ? mutateText(input, random) : "";
}

ArrayRef<Target> kvcache::fuzz::fileTargets() {
  static const Target kTargets[] = {
      {"manifest", runManifest, mutateProgram, crossPrograms},
      {"npy", runNumpy},
      {"spec", runSpec, mutateWords},
      {"arguments", runArguments, mutateWords},
  };
  return kTargets;
}
