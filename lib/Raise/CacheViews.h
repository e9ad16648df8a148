// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From a memref with named dimensions to a cache. Transposes, slices and
// reshapes between a buffer and the memref become names, and views of this
// dialect:
//
//   %p: memref<64x32x8x16x128>                        [B, L, H, N, D]
//   %s = memref.subview %p[0, %l, 0, 0, 0] [...]      [B, H, N, D]
//   %t = memref.transpose %s (b, h, n, d) -> (b, n, h, d)
//
//   %c = kvcache.view %p[B, L, H, N, D]
//   %k = kvcache.layer %c[%l]
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_RAISE_CACHEVIEWS_H
#define KVCACHE_LIB_RAISE_CACHEVIEWS_H

#include "kvcache/IR/KVCache.h"

#include "mlir/IR/Builders.h"

namespace kvcache::raise {

/// A memref interpreted as a cache. Nothing is built until `build`.
class CacheView {
public:
  /// The dimensions of `memref` have the names B, N, H, D, or kRows for a
  /// dimension of all rows. Nothing if no cache has that layout, with the
  /// reason in `why`. Axes of extent 1 have the same place in the order as in
  /// that of `like`.
  static std::optional<CacheView> get(mlir::Value memref,
                                      llvm::ArrayRef<char> axes,
                                      std::string &why,
                                      const Layout *like = nullptr);

  /// The cache type of the memref.
  CacheType type() const { return sliced; }
  mlir::Value build(mlir::OpBuilder &builder, mlir::Location loc) const;

  /// A description of what was folded, for remarks; empty if the memref itself
  /// is viewed.
  llvm::StringRef folded() const { return what; }

private:
  struct Slice {
    enum Kind { Layer, Heads, Blocks } kind;
    mlir::OpFoldResult first;
    mlir::OpFoldResult count;
  };

  bool followSubview(mlir::Operation *op);
  bool step();
  std::optional<Layout> layoutOf(std::string &why, const Layout *like) const;

  mlir::Value base;
  llvm::SmallVector<char> axes;
  llvm::SmallVector<Slice> slices; ///< in reverse order of application
  std::string what;
  CacheType whole, sliced;
};

/// The same cache as a view of the buffer before transposes, slices and
/// collapsed dimensions; null if there are none, or if no cache has that
/// layout: `text` then gives the reason, and otherwise what was folded.
mlir::Value foldIntoView(ViewOp view, std::string &text);

} // namespace kvcache::raise

#endif // KVCACHE_LIB_RAISE_CACHEVIEWS_H
