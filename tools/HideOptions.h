// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_TOOLS_HIDEOPTIONS_H
#define KVCACHE_TOOLS_HIDEOPTIONS_H

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/CommandLine.h"

namespace kvcache {

/// Leaves the options that are registered so far to --help-hidden, but for
/// --help and the like and those of a category: LLVM's libraries bring hundreds
/// along. Its own cl::HideUnrelatedOptions hides them from --help-hidden, too.
inline void hideOptions(const llvm::cl::OptionCategory *shown = nullptr) {
  for (auto &[name, option] : llvm::cl::getRegisteredOptions()) {
    bool isShown = llvm::any_of(
        option->Categories, [&](const llvm::cl::OptionCategory *category) {
          return category == shown || category->getName() == "Generic Options";
        });
    if (!isShown && option->getOptionHiddenFlag() == llvm::cl::NotHidden)
      option->setHiddenFlag(llvm::cl::Hidden);
  }
}

} // namespace kvcache

#endif // KVCACHE_TOOLS_HIDEOPTIONS_H
