// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Target/Parse.h"

#include "kvcache/IR/KVCache.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/AsmParser/AsmParserState.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/SourceMgr.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::target;

/// Arguments are called in messages what they are called in the source, which
/// is not part of the IR: the parser says where each name stands.
static void nameArguments(Block &top, const AsmParserState &state) {
  for (auto function : top.getOps<FunctionOpInterface>()) {
    if (function.isExternal())
      continue;
    const AsmParserState::BlockDefinition *block =
        state.getBlockDef(&function.getFunctionBody().front());
    if (!block)
      continue;
    for (auto [i, argument] : llvm::enumerate(block->arguments)) {
      llvm::SMRange range = argument.loc;
      StringRef text(range.Start.getPointer(),
                     range.End.getPointer() - range.Start.getPointer());
      text.consume_front("%");
      bool isNumber = text.empty() || isdigit(text.front());
      if (isNumber || function.getArgAttr(i, KVCacheDialect::kNameAttr))
        continue;
      function.setArgAttr(i, KVCacheDialect::kNameAttr,
                          StringAttr::get(function.getContext(), text));
    }
  }
}

OwningOpRef<ModuleOp> target::parseProgram(MLIRContext &context,
                                           llvm::SourceMgr &sources) {
  ParserConfig config(&context);
  StringRef buffer = sources.getMemoryBuffer(1)->getBuffer();
  if (buffer.starts_with("ML\xefR"))
    return parseSourceFile<ModuleOp>(sources, config); // bytecode has no names
  Block block;
  AsmParserState state;
  if (failed(parseAsmSourceFile(sources, &block, config, &state)))
    return nullptr;
  ModuleOp module;
  if (llvm::hasSingleElement(block) && isa<ModuleOp>(block.front())) {
    module = cast<ModuleOp>(block.front());
    nameArguments(*module.getBody(), state);
    module->remove();
  } else {
    nameArguments(block, state);
    module = ModuleOp::create(UnknownLoc::get(&context));
    module.getBody()->getOperations().splice(module.getBody()->end(),
                                             block.getOperations());
  }
  return failed(verify(module)) ? OwningOpRef<ModuleOp>()
                                : OwningOpRef<ModuleOp>(module);
}

int target::withProgram(const DialectRegistry &registry,
                        std::unique_ptr<llvm::MemoryBuffer> program,
                        llvm::raw_ostream &messages,
                        llvm::function_ref<int(ModuleOp)> use) {
  MLIRContext context(registry);
  llvm::SourceMgr sources;
  sources.AddNewSourceBuffer(std::move(program), llvm::SMLoc());
  SourceMgrDiagnosticHandler handler(sources, &context, messages);
  OwningOpRef<ModuleOp> module = parseProgram(context, sources);
  return module ? use(*module) : 1;
}

llvm::Expected<int> target::withProgram(const DialectRegistry &registry,
                                        StringRef path,
                                        llvm::function_ref<int(ModuleOp)> use) {
  auto buffer = llvm::MemoryBuffer::getFileOrSTDIN(path);
  if (!buffer)
    return llvm::createStringError("cannot read '" + path +
                                   "': " + buffer.getError().message());
  return withProgram(registry, std::move(*buffer), llvm::errs(), use);
}
