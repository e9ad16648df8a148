// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "LongBlocks.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/IR/InstrTypes.h"
#include "llvm/IR/Instructions.h"
#include "llvm/IR/IntrinsicInst.h"
#include "llvm/IR/Module.h"
#include "llvm/Transforms/Utils/CodeExtractor.h"

using namespace llvm;

/// So many calls are in a part; a block is long from twice as many on.
static constexpr unsigned kCalls = 64;

static bool isCall(const Instruction &instruction) {
  return isa<CallBase>(instruction) && !isa<IntrinsicInst>(instruction);
}

/// Cuts a block behind each so many calls. Gives the parts but the first, which
/// may have the stack of the function, and the last, which leaves it.
static void cut(BasicBlock *block, SmallVectorImpl<BasicBlock *> &parts) {
  SmallVector<Instruction *> ends;
  unsigned calls = 0;
  for (Instruction &instruction : *block)
    if (isCall(instruction) && ++calls % kCalls == 0)
      ends.push_back(instruction.getNextNode());
  if (calls < 2 * kCalls)
    return;
  for (Instruction *end : ends) {
    block = block->splitBasicBlock(end);
    parts.push_back(block);
  }
  parts.pop_back();
}

void kvcache::target::outlineLongBlocks(Module &module) {
  for (Function &function : make_early_inc_range(module)) {
    SmallVector<BasicBlock *> parts;
    for (BasicBlock &block : make_early_inc_range(function))
      cut(&block, parts);
    if (parts.empty())
      continue;
    CodeExtractorAnalysisCache cache(function);
    for (BasicBlock *part : parts) {
      // Values between parts are handed over in memory, as there may be many.
      CodeExtractor extractor(part, /*DT=*/nullptr, /*AggregateArgs=*/true);
      if (Function *made = extractor.extractCodeRegion(cache))
        made->addFnAttr(Attribute::NoInline);
    }
  }
}
