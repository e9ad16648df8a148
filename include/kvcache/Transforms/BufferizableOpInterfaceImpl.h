// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef KVCACHE_TRANSFORMS_BUFFERIZABLEOPINTERFACEIMPL_H
#define KVCACHE_TRANSFORMS_BUFFERIZABLEOPINTERFACEIMPL_H

namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace kvcache {
void registerBufferizableOpInterfaceExternalModels(
    mlir::DialectRegistry &registry);
} // namespace kvcache

#endif // KVCACHE_TRANSFORMS_BUFFERIZABLEOPINTERFACEIMPL_H
