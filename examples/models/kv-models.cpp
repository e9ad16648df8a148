// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Prints one of the example models:
//
//   kv-models --model=yoco --layers=8 --rolled > yoco.mlir
//
//===----------------------------------------------------------------------===//

#include "Models.h"

#include "kvcache/Formats/Formats.h"

#include "mlir/IR/Verifier.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace models;
namespace cl = llvm::cl;

int main(int argc, char **argv) {
  Options options;
  Sizes &sizes = options.sizes;
  llvm::InitLLVM init(argc, argv);
  cl::OptionCategory category("kv-models options");
  auto family = cl::opt<Family>(
      "model", cl::desc("Which model"), cl::Required, cl::cat(category),
      cl::values(
          clEnumValN(Family::Llama, "llama", "each layer its own cache"),
          clEnumValN(Family::Yoco, "yoco", "the second half reads one cache"),
          clEnumValN(Family::Gemma3n, "gemma3n",
                     "the second half reads the last two caches, inputs "
                     "for each layer"),
          clEnumValN(Family::Hunyuan, "hunyuan", "two layers read one cache"),
          clEnumValN(Family::SwiftKV, "swiftkv",
                     "the second half writes caches from the rows of "
                     "the middle")));
  auto flag = [&](const char *name, const char *what, bool &value) {
    return std::make_unique<cl::opt<bool, true>>(
        StringRef(name), cl::desc(what), cl::location(value),
        cl::cat(category));
  };
  auto number = [&](const char *name, const char *what, int64_t &value) {
    return std::make_unique<cl::opt<int64_t, true>>(
        StringRef(name), cl::desc(what), cl::location(value), cl::init(value),
        cl::cat(category));
  };
  auto rolled = flag("rolled", "Layers as loops", options.rolled);
  auto padded =
      flag("padded", "The list of sampled rows is padded", options.padded);
  auto prompt =
      flag("prompt-logits", "Logits of all rows, too", options.promptLogits);
  auto layers = number("layers", "A multiple of 4", sizes.layers);
  auto hidden = number("hidden", "Width of a row", sizes.hidden);
  auto heads = number("heads", "Query heads", sizes.heads);
  auto kvHeads = number("kv-heads", "Heads of the cache", sizes.kvHeads);
  auto headDim = number("head-dim", "Channels of a head", sizes.headDim);
  auto feed = number("ffn", "Width of the MLP", sizes.feedForward);
  auto vocabulary = number("vocab", "Tokens there are", sizes.vocabulary);
  auto block = number("block", "Tokens of a block", sizes.tokens);
  auto window = number("window", "Of window layers", sizes.window);
  cl::HideUnrelatedOptions(category);
  cl::ParseCommandLineOptions(argc, argv, "Prints example models\n");
  options.family = family;
  if (sizes.layers < 4 || sizes.layers % 4 || sizes.headDim % 2 ||
      sizes.kvHeads < 1 || sizes.heads % sizes.kvHeads) {
    llvm::errs() << "kv-models: a multiple of 4 layers, an even head-dim and a "
                    "multiple of kv-heads are expected\n";
    return 1;
  }
  DialectRegistry registry;
  kvcache::registerFormats(registry);
  MLIRContext context(registry);
  OwningOpRef<ModuleOp> module = buildModel(context, options);
  if (failed(verify(*module)))
    return 1;
  module->print(llvm::outs());
  return 0;
}
