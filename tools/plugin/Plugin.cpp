// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The dialect, its passes and its pipelines for mlir-opt:
//
//   mlir-opt --load-dialect-plugin=KVCachePlugin.so \
//            --load-pass-plugin=KVCachePlugin.so \
//            --pass-pipeline='builtin.module(convert-kvcache-to-loops)'
//
// mlir-opt registers its flags before it loads a plugin, so passes of a plugin
// have none and are named in the pipeline.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Registration/Registration.h"

#include "mlir/IR/DialectRegistry.h"
#include "mlir/Tools/Plugins/DialectPlugin.h"
#include "mlir/Tools/Plugins/PassPlugin.h"
#include "llvm/Config/llvm-config.h"

extern "C" LLVM_ATTRIBUTE_WEAK mlir::DialectPluginLibraryInfo
mlirGetDialectPluginInfo() {
  return {MLIR_PLUGIN_API_VERSION, "kvcache", LLVM_VERSION_STRING,
          [](mlir::DialectRegistry *registry) {
            kvcache::registerKVCacheDialect(*registry);
          }};
}

extern "C" LLVM_ATTRIBUTE_WEAK mlir::PassPluginLibraryInfo
mlirGetPassPluginInfo() {
  return {MLIR_PLUGIN_API_VERSION, "kvcache", LLVM_VERSION_STRING,
          [] { kvcache::registerKVCachePasses(); }};
}
