// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Bufferization of the operands that may be tensors. The operations stay what
// they are; only the operands become memrefs.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Transforms/BufferizableOpInterfaceImpl.h"

#include "kvcache/IR/KVCache.h"

#include "mlir/Dialect/Bufferization/IR/BufferizableOpInterface.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Dialect.h"

using namespace mlir;
using namespace mlir::bufferization;
using namespace kvcache;

namespace {

/// An index value (slots) is not a tensor, so the analysis cannot see that it
/// lives on in the buffer of its source. Reporting the source as written is
/// what keeps the entries as they were: a later update of the tensor then
/// conflicts and gets its own buffer.
struct MakeSlotsModel
    : BufferizableOpInterface::ExternalModel<MakeSlotsModel, MakeSlotsOp> {
  bool bufferizesToMemoryRead(Operation *, OpOperand &,
                              const AnalysisState &) const {
    return true;
  }
  bool bufferizesToMemoryWrite(Operation *, OpOperand &,
                               const AnalysisState &) const {
    return true;
  }
  AliasingValueList getAliasingValues(Operation *, OpOperand &,
                                      const AnalysisState &) const {
    return {};
  }
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter,
                          const BufferizationOptions &options,
                          BufferizationState &state) const {
    auto make = cast<MakeSlotsOp>(op);
    FailureOr<Value> buffer =
        getBuffer(rewriter, make.getSource(), options, state);
    if (failed(buffer))
      return failure();
    // Slots are read entry by entry without a stride.
    Value source = *buffer;
    MemRefType contiguous = make.getResult().getType().getMemRefType();
    if (!cast<MemRefType>(source.getType()).getLayout().isIdentity())
      return op->emitOpError() << "the buffer of the source is expected to be "
                                  "contiguous, got "
                               << source.getType();
    if (source.getType() != contiguous)
      source =
          memref::CastOp::create(rewriter, op->getLoc(), contiguous, source);
    replaceOpWithNewBufferizedOp<MakeSlotsOp>(
        rewriter, op, make.getResult().getType(), source);
    return success();
  }
};

struct IndexCopyModel
    : BufferizableOpInterface::ExternalModel<IndexCopyModel, IndexCopyOp> {
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
    auto copy = cast<IndexCopyOp>(op);
    SmallVector<Value> rows;
    for (Value row : copy.getRows()) {
      FailureOr<Value> buffer = getBuffer(rewriter, row, options, state);
      if (failed(buffer))
        return failure();
      rows.push_back(*buffer);
    }
    replaceOpWithNewBufferizedOp<IndexCopyOp>(rewriter, op, rows,
                                              copy.getCache(), copy.getSlots(),
                                              copy.getScheduleAttr());
    return success();
  }
};

} // namespace

void kvcache::registerBufferizableOpInterfaceExternalModels(
    DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, KVCacheDialect *) {
    MakeSlotsOp::attachInterface<MakeSlotsModel>(*context);
    IndexCopyOp::attachInterface<IndexCopyModel>(*context);
    // The rewrites create these.
    context->loadDialect<BufferizationDialect, memref::MemRefDialect>();
  });
}
