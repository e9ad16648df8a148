// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The registrations that a tool or an embedder needs, one call each.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_REGISTRATION_REGISTRATION_H
#define KVCACHE_REGISTRATION_REGISTRATION_H

namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace kvcache {

/// The kvcache dialect and its interface implementations, nothing else: for
/// hosts that register upstream dialects themselves.
void registerKVCacheDialect(mlir::DialectRegistry &registry);

/// Also the upstream dialects, interfaces and translations that the pipelines
/// of this project use.
void registerAllDialects(mlir::DialectRegistry &registry);

/// The passes and pipelines of this project.
void registerKVCachePasses();

/// Also the upstream passes that are useful next to them.
void registerAllPasses();

} // namespace kvcache

#endif // KVCACHE_REGISTRATION_REGISTRATION_H
