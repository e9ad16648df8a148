// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the lowerings to the CPU and to a GPU share: caches become memrefs, and
// writes of rows are cut into accesses. All arithmetic on layouts is asked of
// `Layout`; here it only becomes IR.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_COMMON_CACHELOWERING_H
#define KVCACHE_LIB_CONVERSION_COMMON_CACHELOWERING_H

#include "kvcache/IR/KVCache.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Transforms/DialectConversion.h"

namespace kvcache {

/// Caches, slots and tables become a memref, batches their members; everything
/// else stays.
class CacheTypeConverter : public mlir::TypeConverter {
public:
  CacheTypeConverter();
};

/// Views, facts, index values, and the boundaries of functions and regions: the
/// same on every target.
void populateCommonPatterns(mlir::TypeConverter &converter,
                            mlir::RewritePatternSet &patterns,
                            mlir::ConversionTarget &target);

void populateReshapePatterns(mlir::TypeConverter &converter,
                             mlir::RewritePatternSet &patterns);

/// Searches the module for each trace.
void populateTracePattern(mlir::TypeConverter &converter,
                          mlir::RewritePatternSet &patterns);

/// The same for all traces of a module, which it searches once.
void lowerTraces(mlir::ModuleOp module);

/// What the dialect says of arguments means nothing once it is lowered, and
/// translation to LLVM IR warns of it.
void dropArgumentAttributes(mlir::ModuleOp module);

/// Drops code that is not reachable, and refuses operations of the dialect that
/// are in no function: there a value may be made of itself, which a conversion
/// follows for ever. Refuses addresses of functions whose types change.
llvm::LogicalResult dropUnreachable(mlir::ModuleOp module);

/// Lowers an operation on buffers, each operand of which has become one value.
template <typename ConcreteOp>
struct BufferOpLowering : mlir::OpConversionPattern<ConcreteOp> {
  using mlir::OpConversionPattern<ConcreteOp>::OpConversionPattern;
  using OpAdaptor = typename mlir::OpConversionPattern<ConcreteOp>::OpAdaptor;

  llvm::LogicalResult
  matchAndRewrite(ConcreteOp op, OpAdaptor adaptor,
                  mlir::ConversionPatternRewriter &rewriter) const final {
    if (llvm::any_of(adaptor.getOperands().getTypes(),
                     llvm::IsaPred<mlir::TensorType>))
      return rewriter.notifyMatchFailure(op, "an operand is still a tensor");
    lower(op, adaptor, rewriter);
    rewriter.eraseOp(op);
    return llvm::success();
  }

  virtual void lower(ConcreteOp op, OpAdaptor adaptor,
                     mlir::ConversionPatternRewriter &rewriter) const = 0;
};

/// The same of one that takes a batch, which has become its members.
template <typename ConcreteOp>
struct BatchOpLowering : mlir::OpConversionPattern<ConcreteOp> {
  using mlir::OpConversionPattern<ConcreteOp>::OpConversionPattern;
  using OneToNOpAdaptor =
      typename mlir::OpConversionPattern<ConcreteOp>::OneToNOpAdaptor;

  llvm::LogicalResult
  matchAndRewrite(ConcreteOp op, OneToNOpAdaptor adaptor,
                  mlir::ConversionPatternRewriter &rewriter) const final {
    for (mlir::ValueRange values : adaptor.getOperands())
      if (llvm::any_of(values.getTypes(), llvm::IsaPred<mlir::TensorType>))
        return rewriter.notifyMatchFailure(op, "an operand is still a tensor");
    lower(op, adaptor, rewriter);
    rewriter.eraseOp(op);
    return llvm::success();
  }

  virtual void lower(ConcreteOp op, OneToNOpAdaptor adaptor,
                     mlir::ConversionPatternRewriter &rewriter) const = 0;
};

/// A lowered cache taken apart: the first element, and for each listed axis
/// the extent and the stride, constants where the layout knows them.
struct CacheParts {
  CacheParts(mlir::OpBuilder &builder, mlir::Location loc, CacheType type,
             mlir::Value memref);

  CacheType type;
  mlir::Value buffer; ///< memref<elem>, the allocation's aligned pointer
  mlir::Value offset; ///< of the first element
  std::vector<mlir::Value> extents, strides;

  mlir::Value extent(AxisKind kind) const;
  mlir::Value stride(AxisKind kind) const;
  /// The number of slots, B * N.
  mlir::Value numSlots(mlir::OpBuilder &builder, mlir::Location loc) const;
};

/// The members of a lowered batch. What they hold is not trusted.
struct BatchParts {
  BatchParts(BatchType type, mlir::ValueRange members);

  BatchType type;
  mlir::Value starts, lengths, table;
  mlir::Value positions; ///< null if the rows are suffixes

  /// How many requests all members have room for.
  mlir::Value numRequests(mlir::OpBuilder &builder, mlir::Location loc) const;
  /// lengths[r], at most what the table has room for.
  mlir::Value length(mlir::OpBuilder &builder, mlir::Location loc,
                     mlir::Value request) const;
};

/// How a write of rows is cut: a row is `pieces` runs of `run` elements; piece
/// p is decomposed over `axes`, slowest first.
struct RowPlan {
  struct PieceAxis {
    unsigned index; ///< in the listing of the cache
    int64_t extent;
    int64_t rowStride; ///< in a packed row
  };
  explicit RowPlan(CacheType type)
      : RowPlan(type, {AxisKind::Head, AxisKind::Channel}) {}
  /// Of a row that has some axes only.
  RowPlan(CacheType type, llvm::ArrayRef<AxisKind> kinds);

  Run run;
  int64_t pieces = 1;
  int64_t rowElements = 1;
  llvm::SmallVector<PieceAxis> axes;
};

/// The alignment in bytes of the first element of each row of a memref, as far
/// as it is known: 16 at most. Entry functions check what this assumes of
/// arguments.
int64_t knownRowAlignment(mlir::Value memref);
/// What an argument of a function promises: its `kvcache.align`, or by its type
/// the largest power of two of at most 16 that divides the bytes of a row.
int64_t argumentAlignment(mlir::FunctionOpInterface function, unsigned index,
                          mlir::MemRefType type);

/// The number of tokens that a write of rows covers. It is the length of the
/// slots; if another operand is shorter, nothing past it is touched.
mlir::Value emitRowCount(mlir::OpBuilder &builder, mlir::Location loc,
                         mlir::ValueRange rows, mlir::Value slots);

/// How many numbers n an integer of this type can hold with all their parts,
/// which are n * factor to n * factor + factor - 1. Compared without a sign it
/// leaves out negative ones too: what is not below it is no block of any cache.
int64_t numbersWithParts(mlir::Type integer, int64_t factor);

mlir::Value indexConstant(mlir::OpBuilder &builder, mlir::Location loc,
                          int64_t value);

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_COMMON_CACHELOWERING_H
