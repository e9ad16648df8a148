// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Small decoders that differ in who writes a cache and who reads it. Their
// weights are arguments, random or trained.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_EXAMPLES_MODELS_MODELS_H
#define KVCACHE_EXAMPLES_MODELS_MODELS_H

#include "ModelBuilder.h"

#include "mlir/IR/OwningOpRef.h"

namespace models {

enum class Family {
  Llama,   ///< every layer writes a cache and reads it
  Yoco,    ///< the second half reads one cache, written in the middle
  Gemma3n, ///< the second half reads the last two caches of the first, windows
           ///< and full attention by turns; inputs for each layer
  Hunyuan, ///< of two layers the second reads what the first wrote
  SwiftKV, ///< the second half writes what it makes from the middle's rows
};

struct Options {
  Family family = Family::Llama;
  Sizes sizes;
  /// Layers as iterations of loops.
  bool rolled = false;
  /// The list of sampled rows is padded, and an argument says how many count.
  bool padded = false;
  /// Gives the logits of all rows as well.
  bool promptLogits = false;
};

/// One function, `model`: token numbers and a batch to logits of sampled rows.
mlir::OwningOpRef<mlir::ModuleOp> buildModel(mlir::MLIRContext &context,
                                             const Options &options);

} // namespace models

#endif // KVCACHE_EXAMPLES_MODELS_MODELS_H
