// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the lowerings to the CPU and to a GPU share: caches become memrefs, and
// writes of rows are cut into accesses. All arithmetic on layouts is asked of
// `Layout`; here it only becomes IR.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_COMMON_CACHELOWERING_H
#define KVCACHE_LIB_CONVERSION_COMMON_CACHELOWERING_H

#include "CodeBuilder.h"

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

/// Of these, the boundaries alone: functions, calls, branches and loops whose
/// types change.
void populateBoundaryPatterns(mlir::TypeConverter &converter,
                              mlir::RewritePatternSet &patterns,
                              mlir::ConversionTarget &target);

/// The first operation or argument with a cache that has scales; null if there
/// is none.
mlir::Operation *findScales(mlir::ModuleOp module);

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

/// The same before caches become memrefs. Refuses those with scales, which are
/// two memrefs.
llvm::LogicalResult prepareLowering(mlir::ModuleOp module);

/// A cache that has been lowered: its type, the memory of its stored numbers,
/// and for each listed axis the extent and the stride, constants where the
/// layout knows them.
struct CacheValue {
  /// Takes the memrefs of a lowered cache apart.
  CacheValue(CodeBuilder &emit, CacheType type, mlir::ValueRange memrefs);
  CacheValue(CacheType type, mlir::Value buffer, mlir::Value offset)
      : type(type), buffer(buffer), offset(offset) {}

  CacheType type;
  mlir::Value buffer; ///< memref<elem>, the allocation's aligned pointer
  mlir::Value offset; ///< of the first element
  std::vector<mlir::Value> extents, strides;

  mlir::Value extent(AxisKind kind) const;
  mlir::Value stride(AxisKind kind) const;
  /// How far from the first one an index of an axis is, in elements. The index
  /// of an axis that is not there, or has one index, is 0 whatever is given.
  mlir::Value indexOffset(CodeBuilder &emit, AxisKind kind,
                          mlir::Value index) const;

  /// The same memory as a cache of another type, all of whose axes this one
  /// has.
  CacheValue as(CacheType other) const;
  /// The part that begins at an index of an axis.
  CacheValue from(CodeBuilder &emit, AxisKind kind, mlir::Value index) const;
  /// One of its sides; a cache without that axis is its only side.
  CacheValue side(CodeBuilder &emit, int64_t side) const;
  /// What a lowered cache is: the memrefs of the type.
  Values memrefs(CodeBuilder &emit) const;
};

/// A batch that has been lowered. What its members hold is not trusted.
struct BatchValue {
  BatchValue(BatchType type, mlir::ValueRange members);

  BatchType type;
  mlir::Value starts, lengths, table;
  mlir::Value positions; ///< null if the rows are suffixes

  /// How many requests all members have room for.
  mlir::Value numRequests(mlir::OpBuilder &builder, mlir::Location loc) const;
  /// lengths[r], at most what the table has room for.
  mlir::Value length(mlir::OpBuilder &builder, mlir::Location loc,
                     mlir::Value request) const;
};

/// What the operands of an operation have become.
class LoweredOperands {
public:
  LoweredOperands(CodeBuilder &emit, mlir::Operation *op,
                  llvm::ArrayRef<mlir::ValueRange> lowered)
      : builder(emit), op(op), lowered(lowered) {}

  /// Of an operand that becomes one value; null of none.
  mlir::Value operator[](mlir::Value operand) const {
    return operand ? parts(operand).front() : mlir::Value();
  }
  Values operator[](mlir::ValueRange operands) const;
  CacheValue operator[](mlir::TypedValue<CacheType> cache) const {
    return {builder, cache.getType(), parts(cache)};
  }
  BatchValue operator[](mlir::TypedValue<BatchType> batch) const {
    return {batch.getType(), parts(batch)};
  }
  /// A cache that has become a reference.
  CacheValue cache(mlir::Value operand) const {
    return (*this)[llvm::cast<mlir::TypedValue<CacheType>>(operand)];
  }
  /// Of extents that are equal in a valid call, the smallest. They are those of
  /// buffers.
  mlir::Value smallest(const TiedExtents &extents) const;
  /// All values that an operand has become.
  mlir::ValueRange parts(mlir::Value operand) const;

private:
  CodeBuilder &builder;
  mlir::Operation *op;
  llvm::ArrayRef<mlir::ValueRange> lowered;
};

/// Lowers an operation that gives at most one value.
template <typename ConcreteOp>
struct OpLowering : mlir::OpConversionPattern<ConcreteOp> {
  using mlir::OpConversionPattern<ConcreteOp>::OpConversionPattern;
  using OneToNOpAdaptor =
      typename mlir::OpConversionPattern<ConcreteOp>::OneToNOpAdaptor;

  llvm::LogicalResult
  matchAndRewrite(ConcreteOp op, OneToNOpAdaptor adaptor,
                  mlir::ConversionPatternRewriter &rewriter) const final {
    for (mlir::ValueRange values : adaptor.getOperands())
      if (llvm::any_of(values.getTypes(), llvm::IsaPred<mlir::TensorType>))
        return rewriter.notifyMatchFailure(op, "an operand is still a tensor");
    CodeBuilder emit(rewriter, op.getLoc());
    llvm::FailureOr<Values> result =
        lowerResult(op, LoweredOperands(emit, op, adaptor.getOperands()), emit);
    if (failed(result))
      return llvm::failure();
    if (op->getNumResults() == 0)
      rewriter.eraseOp(op);
    else
      rewriter.replaceOpWithMultiple(op, llvm::ArrayRef<Values>(*result));
    return llvm::success();
  }

  /// What the result becomes; failure if an error has been reported.
  virtual llvm::FailureOr<Values> lowerResult(ConcreteOp op,
                                              const LoweredOperands &in,
                                              CodeBuilder &emit) const = 0;
};

/// The same of one that writes to memory.
template <typename ConcreteOp>
struct BufferOpLowering : OpLowering<ConcreteOp> {
  using OpLowering<ConcreteOp>::OpLowering;

  llvm::FailureOr<Values> lowerResult(ConcreteOp op, const LoweredOperands &in,
                                      CodeBuilder &emit) const final {
    lower(op, in, emit);
    return Values();
  }

  virtual void lower(ConcreteOp op, const LoweredOperands &in,
                     CodeBuilder &emit) const = 0;
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

/// The same of `[rows, heads, channels]` for each head. Where the stride of
/// heads is not known, an argument says so by `kvcache.align`.
int64_t knownHeadAlignment(mlir::Value memref);
/// What an argument of a function promises: its `kvcache.align`, or by its type
/// the largest power of two of at most 16 that divides the bytes of a row.
int64_t argumentAlignment(mlir::FunctionOpInterface function, unsigned index,
                          mlir::MemRefType type);

/// The number of tokens that a write of rows covers. It is the length of the
/// slots; if another operand is shorter, nothing past it is touched.
mlir::Value emitRowCount(CodeBuilder &emit, mlir::ValueRange rows,
                         mlir::Value slots);

/// How many numbers n an integer of this type can hold with all their parts,
/// which are n * factor to n * factor + factor - 1. Compared without a sign it
/// leaves out negative ones too: what is not below it is no block of any cache.
int64_t numbersWithParts(mlir::Type integer, int64_t factor);

mlir::Value indexConstant(mlir::OpBuilder &builder, mlir::Location loc,
                          int64_t value);

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_COMMON_CACHELOWERING_H
