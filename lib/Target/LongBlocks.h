// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Functions of thousands of calls.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_TARGET_LONGBLOCKS_H
#define KVCACHE_LIB_TARGET_LONGBLOCKS_H

namespace llvm {
class Module;
} // namespace llvm

namespace kvcache::target {

/// Outlines parts of blocks that have very many calls. The register allocator
/// compares the uses of a value in a block with each other, so that a block
/// with twice as many calls takes four times as long. Runs after optimization,
/// which would inline them again.
void outlineLongBlocks(llvm::Module &module);

} // namespace kvcache::target

#endif // KVCACHE_LIB_TARGET_LONGBLOCKS_H
