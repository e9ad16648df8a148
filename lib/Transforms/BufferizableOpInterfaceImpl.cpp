// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Bufferization of operands that may be tensors. The operations stay the same;
// tensors become memrefs, and a tensor pool becomes a view of its buffer.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Transforms/BufferizableOpInterfaceImpl.h"

#include "kvcache/IR/KVCache.h"
#include "kvcache/IR/Strides.h"

#include "mlir/Dialect/Bufferization/IR/BufferizableOpInterface.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Bufferization/IR/DstBufferizableOpInterfaceImpl.h"
#include "mlir/Dialect/Bufferization/Transforms/OneShotAnalysis.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StructuredOpsUtils.h"
#include "mlir/IR/Dialect.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "llvm/ADT/SmallPtrSet.h"

using namespace mlir;
using namespace mlir::bufferization;
using namespace kvcache;

namespace {

/// The operands of an operation with buffers instead of tensors.
FailureOr<SmallVector<Value>> getBuffers(Operation *op, RewriterBase &rewriter,
                                         const BufferizationOptions &options,
                                         BufferizationState &state) {
  SmallVector<Value> operands;
  for (Value operand : op->getOperands()) {
    if (isa<TensorType>(operand.getType())) {
      FailureOr<Value> buffer = getBuffer(rewriter, operand, options, state);
      if (failed(buffer))
        return failure();
      operand = *buffer;
    }
    operands.push_back(operand);
  }
  return operands;
}

/// The buffer, or a copy where it is a column of a matrix or another part of a
/// tensor that is not packed.
Value packed(RewriterBase &rewriter, Location loc, Value buffer,
             Contiguity contiguity) {
  auto type = dyn_cast<MemRefType>(buffer.getType());
  if (!type || isContiguous(type, contiguity))
    return buffer;
  SmallVector<Value> sizes;
  for (int64_t d = 0; d < type.getRank(); ++d)
    if (type.isDynamicDim(d))
      sizes.push_back(memref::DimOp::create(rewriter, loc, buffer, d));
  Value copy = memref::AllocOp::create(
      rewriter, loc, MemRefType::get(type.getShape(), type.getElementType()),
      sizes);
  memref::CopyOp::create(rewriter, loc, buffer, copy);
  return copy;
}

/// The same for all tensors that are read: lists are of integers, rows are not.
void packSources(Operation *op, RewriterBase &rewriter,
                 MutableArrayRef<Value> operands) {
  auto into = dyn_cast<DestinationStyleOpInterface>(op);
  for (OpOperand &operand : op->getOpOperands()) {
    auto tensor = dyn_cast<RankedTensorType>(operand.get().getType());
    if (!tensor || (into && into.isDpsInit(&operand)))
      continue;
    Value &buffer = operands[operand.getOperandNumber()];
    bool isList = tensor.getRank() == 1 || tensor.getElementType().isInteger();
    // A pool may have any strides that a cache can have.
    if (!cacheUseOf(operand))
      buffer = packed(rewriter, op->getLoc(), buffer,
                      isList ? Contiguity::All : Contiguity::Inner);
  }
}

/// Whether a write may come between the making of index values and a use of
/// them, also a use of what is made of them.
bool maySeeWrite(Operation *made, Operation *write) {
  Block *block = made->getBlock();
  Operation *writing = block->findAncestorOpInBlock(*write);
  if (writing && writing->isBeforeInBlock(made))
    writing = nullptr;
  SmallVector<Operation *> worklist(made->getUsers());
  llvm::SmallPtrSet<Operation *, 8> seen;
  while (!worklist.empty()) {
    Operation *user = worklist.pop_back_val();
    if (!seen.insert(user).second)
      continue;
    bool isReturn = isa<FunctionOpInterface>(user->getParentOp());
    Operation *reader = block->findAncestorOpInBlock(*user);
    if (!reader || (user->hasTrait<OpTrait::IsTerminator>() && !isReturn))
      return true;
    if (writing && !reader->isBeforeInBlock(writing))
      return true;
    if (llvm::any_of(user->getResultTypes(),
                     llvm::IsaPred<SlotsType, BlockTableType, BatchType>))
      llvm::append_range(worklist, user->getUsers());
  }
  return false;
}

/// An index value (slots, a table, a batch) is not a tensor, so the analysis
/// cannot see that it lives on in the buffers of its sources. Where one of them
/// is then written in place, the index value gets a copy of it, with the
/// entries as they were.
template <typename Op>
struct MakeModel : BufferizableOpInterface::ExternalModel<MakeModel<Op>, Op> {
  bool bufferizesToMemoryRead(Operation *, OpOperand &,
                              const AnalysisState &) const {
    return true;
  }
  bool bufferizesToMemoryWrite(Operation *, OpOperand &,
                               const AnalysisState &) const {
    return false;
  }
  LogicalResult resolveConflicts(Operation *op, RewriterBase &rewriter,
                                 const AnalysisState &analysis,
                                 const BufferizationState &state) const {
    auto *oneShot = dyn_cast<OneShotAnalysisState>(&analysis);
    if (!oneShot)
      return success();
    rewriter.setInsertionPoint(op);
    for (OpOperand &operand : op->getOpOperands()) {
      if (!isa<TensorType>(operand.get().getType()))
        continue;
      bool isWritten = false;
      oneShot->applyOnAliases(operand.get(), [&](Value alias) {
        for (OpOperand &use : alias.getUses())
          isWritten |= oneShot->bufferizesToMemoryWrite(use) &&
                       oneShot->isInPlace(use) &&
                       maySeeWrite(op, use.getOwner());
      });
      if (!isWritten)
        continue;
      FailureOr<Value> copy = allocateTensorForShapedValue(
          rewriter, op->getLoc(), operand.get(), analysis.getOptions(), state);
      if (failed(copy))
        return failure();
      rewriter.modifyOpInPlace(op, [&] { operand.set(*copy); });
    }
    return success();
  }
  AliasingValueList getAliasingValues(Operation *, OpOperand &,
                                      const AnalysisState &) const {
    return {};
  }
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options,
                          BufferizationState &state) const {
    FailureOr<SmallVector<Value>> operands =
        getBuffers(op, rewriter, options, state);
    if (failed(operands))
      return failure();
    // Lists are read entry by entry without a stride; the rows of a table may
    // be apart.
    bool isTable = isa<BlockTableType>(op->getResult(0).getType());
    for (Value &operand : *operands)
      operand = packed(rewriter, op->getLoc(), operand,
                       isTable ? Contiguity::Inner : Contiguity::All);
    Operation *made =
        mlir::clone(rewriter, op, op->getResultTypes(), *operands);
    rewriter.replaceOp(op, made->getResults());
    return success();
  }
};

/// Operations that only read their tensors.
template <typename Op>
struct ReadModel : BufferizableOpInterface::ExternalModel<ReadModel<Op>, Op> {
  bool bufferizesToMemoryRead(Operation *, OpOperand &,
                              const AnalysisState &) const {
    return true;
  }
  bool bufferizesToMemoryWrite(Operation *, OpOperand &,
                               const AnalysisState &) const {
    return false;
  }
  AliasingValueList getAliasingValues(Operation *, OpOperand &,
                                      const AnalysisState &) const {
    return {};
  }
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options,
                          BufferizationState &state) const {
    FailureOr<SmallVector<Value>> operands =
        getBuffers(op, rewriter, options, state);
    if (failed(operands))
      return failure();
    packSources(op, rewriter, *operands);
    mlir::clone(rewriter, op, TypeRange(), *operands);
    rewriter.eraseOp(op);
    return success();
  }
};

/// The type of a pool as it lies in its buffer. A slice of a larger tensor has
/// the strides of that one, and begins anywhere in it.
CacheType typeInBuffer(CacheType type, MemRefType buffer, ArrayAttr axes,
                       std::string &why) {
  if (buffer.getLayout().isIdentity())
    return type;
  const Layout &layout = type.getLayout();
  std::vector<LayoutDim> dims = layout.listing();
  SmallVector<int64_t> strides;
  int64_t offset;
  if (failed(buffer.getStridesAndOffset(strides, offset))) {
    why = "its buffer has no strides";
    return {};
  }
  for (auto [name, stride] :
       llvm::zip_equal(axes.getAsRange<StringAttr>(), strides)) {
    Axis axis = *Axis::parse(std::string_view(name.getValue()));
    dims[*layout.find(axis)].stride = ShapedType::isDynamic(stride)
                                          ? StrideFact::runTime()
                                          : StrideFact::constant(stride);
  }
  std::optional<Layout> strided =
      Layout::get(dims, layout.orderAxes(), type.getElementBytes(), why);
  return strided ? CacheType::get(type.getContext(), *strided,
                                  type.getElementType(), type.getSpace(),
                                  type.getAccess())
                 : CacheType();
}

/// A view of the buffer of a pool.
FailureOr<Value> viewOf(RewriterBase &rewriter, Operation *op, Value buffer,
                        CacheType type, ArrayAttr axes) {
  auto memref = dyn_cast<MemRefType>(buffer.getType());
  if (!memref)
    return buffer;
  Location loc = op->getLoc();
  std::string why;
  type = typeInBuffer(type, memref, axes, why);
  if (!type)
    return op->emitOpError() << "has a pool in a buffer of type " << memref
                             << ", which no cache type describes: " << why;
  return ViewOp::create(rewriter, loc, type, buffer, /*offset=*/Value(),
                        /*extents=*/ValueRange(), /*strides=*/ValueRange(),
                        axes, rewriter.getArrayAttr({}),
                        rewriter.getArrayAttr({}))
      .getResult();
}

/// Turns the pools among the new operands into views, and says that the names
/// of the dimensions belong to these now.
LogicalResult viewPools(Operation *op, RewriterBase &rewriter,
                        MutableArrayRef<Value> operands) {
  for (const CacheUse &use : cast<CacheAccessOpInterface>(op).getCacheUses()) {
    if (!isa<TensorType>(use.operand->get().getType()))
      continue;
    Value &value = operands[use.operand->getOperandNumber()];
    FailureOr<Value> cache = viewOf(rewriter, op, value, use.type, use.axes);
    if (failed(cache))
      return failure();
    value = *cache;
  }
  return success();
}

/// Operations in destination style.
template <typename Op>
struct IntoModel : DstBufferizableOpInterfaceExternalModel<IntoModel<Op>, Op> {
  bool bufferizesToMemoryRead(Operation *op, OpOperand &operand,
                              const AnalysisState &) const {
    bool isDestination =
        cast<DestinationStyleOpInterface>(op).isDpsInit(&operand);
    // What is not written stays, such as slots that no row goes to.
    return !isDestination ||
           cast<CacheAccessOpInterface>(op).keepsDestination();
  }
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options,
                          BufferizationState &state) const {
    FailureOr<SmallVector<Value>> operands =
        getBuffers(op, rewriter, options, state);
    if (failed(operands))
      return failure();
    SmallVector<Value> results;
    for (OpOperand &init :
         cast<DestinationStyleOpInterface>(op).getDpsInitsMutable())
      if (isa<TensorType>(init.get().getType()))
        results.push_back((*operands)[init.getOperandNumber()]);
    packSources(op, rewriter, *operands);
    if (failed(viewPools(op, rewriter, *operands)))
      return failure();
    Operation *onBuffers = mlir::clone(rewriter, op, TypeRange(), *operands);
    cast<CacheAccessOpInterface>(onBuffers).dropAxisNames();
    replaceOpWithBufferizedValues(rewriter, op, results);
    return success();
  }
};

/// Each operation has the model of what it is: something in destination style,
/// something that makes index values, or something that writes caches which are
/// always references. Others take no tensors.
template <typename Op> void attachModel(MLIRContext *context) {
  if constexpr (Op::template hasTrait<DestinationStyleOpInterface::Trait>())
    Op::template attachInterface<IntoModel<Op>>(*context);
  else if constexpr (Op::template hasTrait<MakesIndexValue>())
    Op::template attachInterface<MakeModel<Op>>(*context);
  else if constexpr (Op::template hasTrait<CacheAccessOpInterface::Trait>())
    Op::template attachInterface<ReadModel<Op>>(*context);
}

template <typename... Ops> void attachModels(MLIRContext *context) {
  (attachModel<Ops>(context), ...);
}

} // namespace

void kvcache::registerBufferizableOpInterfaceExternalModels(
    DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, KVCacheDialect *) {
    attachModels<
#define GET_OP_LIST
#include "kvcache/IR/KVCacheOps.cpp.inc"
        >(context);
    // The rewrites create these; shapes of results are asked of the tensors.
    context->loadDialect<BufferizationDialect, memref::MemRefDialect,
                         tensor::TensorDialect>();
  });
}
