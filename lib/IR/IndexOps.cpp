// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Slots, block tables, batches, and the operations that compute them.
//
//===----------------------------------------------------------------------===//

#include "BufferOps.h"

using namespace mlir;
using namespace kvcache;

//===----------------------------------------------------------------------===//
// MakeSlotsOp and MakeBlockTableOp
//===----------------------------------------------------------------------===//

/// What index values ask of their source. Labels end in `_c1`, `_c2`, `_c3`.
static LogicalResult verifySource(Operation *op, Value source,
                                  MemRefType expected, Contiguity contiguity,
                                  Type result) {
  auto type = cast<ShapedType>(source.getType());
  StringRef name = op->getName().stripDialect();
  if (type.getShape() != expected.getShape() ||
      type.getElementType() != expected.getElementType())
    return op->emitOpError()
           << name << "_c1: the source is expected to be " << expected.getRank()
           << "-D with the extents and element type of " << result << ", got "
           << type;
  if (!isContiguous(type, contiguity))
    return op->emitOpError() << name << "_c2: the source is expected to be "
                             << "contiguous, got " << type;
  auto memref = dyn_cast<MemRefType>(type);
  if (memref && memref.getMemorySpace())
    return op->emitOpError() << name << "_c3: the source is expected to be in "
                             << "the default memory space, got " << memref;
  return success();
}

LogicalResult MakeSlotsOp::verify() {
  SlotsType slots = getResult().getType();
  return verifySource(*this, getSource(), slots.getMemRefType(),
                      Contiguity::All, slots);
}

LogicalResult MakeBlockTableOp::verify() {
  BlockTableType table = getResult().getType();
  return verifySource(*this, getSource(), table.getMemRefType(),
                      Contiguity::Inner, table);
}

//===----------------------------------------------------------------------===//
// MakeBatchOp and WithRowsOp
//===----------------------------------------------------------------------===//

/// The element type of positions, or nothing if they are no positions.
static FailureOr<IntegerType> positionType(Type positions) {
  // A parser asks before operands are known to be buffers.
  auto shaped = dyn_cast<ShapedType>(positions);
  auto element =
      shaped ? dyn_cast<IntegerType>(shaped.getElementType()) : IntegerType();
  if (!element ||
      (!element.isSignlessInteger(32) && !element.isSignlessInteger(64)))
    return failure();
  return element;
}

LogicalResult MakeBatchOp::inferReturnTypes(MLIRContext *context,
                                            std::optional<Location> loc,
                                            Adaptor adaptor,
                                            SmallVectorImpl<Type> &types) {
  auto table = cast<BlockTableType>(adaptor.getTable().getType());
  IntegerType positions;
  if (adaptor.getPositions()) {
    FailureOr<IntegerType> type =
        positionType(adaptor.getPositions().getType());
    if (failed(type))
      return emitOptionalError(
          loc,
          "'kvcache.make_batch' op make_batch_c2: positions "
          "are expected to be 1-D, of i32 or i64, got ",
          adaptor.getPositions().getType());
    positions = *type;
  }
  types.push_back(BatchType::get(context, table.getNumRequests(),
                                 table.getMaxBlocks(), table.getElementType(),
                                 table.getTokens(), positions));
  return success();
}

/// R + 1 entries.
static int64_t startsExtent(int64_t numRequests) {
  return numRequests == kRunTime ? ShapedType::kDynamic : numRequests + 1;
}

LogicalResult MakeBatchOp::verify() {
  BlockTableType table = getTable().getType();
  int64_t requests = table.getNumRequests();
  if (failed(verifyShape(*this, "make_batch_c1", "starts are",
                         getStarts().getType(), {startsExtent(requests)},
                         table.getElementType())) ||
      failed(verifyShape(*this, "make_batch_c1", "lengths are",
                         getLengths().getType(), {toShape(requests)},
                         table.getElementType())))
    return failure();
  SmallVector<Value> sources = {getStarts(), getLengths()};
  if (getPositions()) {
    if (failed(verifyIndices(*this, "make_batch_c2", "positions are",
                             getPositions().getType(), 1)))
      return failure();
    sources.push_back(getPositions());
  }
  for (Value source : sources)
    if (!isContiguous(source.getType(), Contiguity::All))
      return emitOpError() << "make_batch_c3: contiguous memrefs are expected, "
                              "got "
                           << source.getType();
  return verifyMemory(*this, "make_batch_c4", sources, Contiguity::All);
}

LogicalResult WithRowsOp::inferReturnTypes(MLIRContext *context,
                                           std::optional<Location> loc,
                                           Adaptor adaptor,
                                           SmallVectorImpl<Type> &types) {
  auto batch = cast<BatchType>(adaptor.getBatch().getType());
  FailureOr<IntegerType> positions =
      positionType(adaptor.getPositions().getType());
  if (failed(positions))
    return emitOptionalError(loc,
                             "'kvcache.with_rows' op with_rows_c2: positions "
                             "are expected to be 1-D, of i32 or i64, got ",
                             adaptor.getPositions().getType());
  types.push_back(BatchType::get(context, batch.getNumRequests(),
                                 batch.getMaxBlocks(), batch.getElementType(),
                                 batch.getTokens(), *positions));
  return success();
}

LogicalResult WithRowsOp::verify() {
  BatchType batch = getBatch().getType();
  if (failed(verifyShape(
          *this, "with_rows_c1", "starts are", getStarts().getType(),
          {startsExtent(batch.getNumRequests())}, batch.getElementType())) ||
      failed(verifyIndices(*this, "with_rows_c2", "positions are",
                           getPositions().getType(), 1)))
    return failure();
  for (Value source : {getStarts(), getPositions()})
    if (!isContiguous(source.getType(), Contiguity::All))
      return emitOpError() << "with_rows_c3: contiguous memrefs are expected, "
                              "got "
                           << source.getType();
  return verifyMemory(*this, "with_rows_c4", {getStarts(), getPositions()},
                      Contiguity::All);
}

//===----------------------------------------------------------------------===//
// SlotMappingOp
//===----------------------------------------------------------------------===//

LogicalResult SlotMappingOp::verify() {
  if (failed(verifyIndices(*this, "slot_mapping_c1", "the destination is",
                           getOut().getType(), 1)))
    return failure();
  return verifyMemory(*this, "slot_mapping_c2", getOut(), Contiguity::All);
}

IndexUses SlotMappingOp::getIndexUses() {
  return {{BatchUse{getBatch(), {getOut()}}}};
}

SmallVector<TiedExtents> SlotMappingOp::getTiedExtents() {
  return {leadingExtents(getBatch(), getOut())};
}

//===----------------------------------------------------------------------===//
// MapBlocksOp
//===----------------------------------------------------------------------===//

LogicalResult MapBlocksOp::verify() {
  auto source = cast<ShapedType>(getBlocks().getType());
  int64_t ratio = getRatio();
  if (ratio < 1 || ratio > (1 << 20))
    return emitOpError()
           << "map_blocks_c2: the ratio is expected to be from 1 to 2^20, got "
           << ratio;
  if (source.getRank() != 1 && source.getRank() != 2)
    return emitOpError() << "map_blocks_c1: the source is expected to be 1-D "
                            "or 2-D, got "
                         << source;
  unsigned rank = source.getRank();
  if (failed(
          verifyIndices(*this, "map_blocks_c1", "the source is", source, rank)))
    return failure();
  SmallVector<int64_t> shape(source.getShape());
  if (ShapedType::isStatic(shape.back()) && shape.back() > kMaxExtent / ratio)
    return emitOpError() << "map_blocks_c1: at most 2^40 columns are expected, "
                            "got "
                         << shape.back() << " times " << ratio;
  if (ShapedType::isStatic(shape.back()))
    shape.back() *= ratio;
  if (failed(verifyShape(*this, "map_blocks_c1", "the destination is",
                         getOut().getType(), shape, source.getElementType(),
                         rank)) ||
      failed(verifyMemory(*this, "map_blocks_c3", {getBlocks(), getOut()},
                          Contiguity::Inner)))
    return failure();
  return verifyOneForm(*this, "map_blocks_c4", {getBlocks(), getOut()});
}

SmallVector<TiedExtents> MapBlocksOp::getTiedExtents() {
  unsigned last = cast<ShapedType>(getOut().getType()).getRank() - 1;
  SmallVector<TiedExtents> ties;
  if (last)
    ties.push_back(leadingExtents({getBlocks(), getOut()}));
  ties.push_back({{getOut(), last},
                  {getBlocks(), last, std::nullopt, int64_t(getRatio())}});
  return ties;
}

//===----------------------------------------------------------------------===//
// BlockSlotsOp
//===----------------------------------------------------------------------===//

LogicalResult BlockSlotsOp::verify() {
  int64_t tokens = getTokens();
  if (tokens < 1 || tokens > kMaxExtent)
    return emitOpError()
           << "block_slots_c2: 'tokens' is expected to be from 1 to 2^40, got "
           << tokens;
  if (failed(verifyIndices(*this, "block_slots_c1", "blocks are",
                           getBlocks().getType(), 1)) ||
      failed(verifyIndices(*this, "block_slots_c1", "slots are",
                           getOut().getType(), 1)))
    return failure();
  int64_t count = cast<ShapedType>(getBlocks().getType()).getDimSize(0);
  if (ShapedType::isStatic(count)) {
    if (count > kMaxExtent / tokens)
      return emitOpError() << "block_slots_c1: at most 2^40 slots are "
                              "expected, got "
                           << count << " times " << tokens;
    count *= tokens;
  }
  if (failed(verifyShape(*this, "block_slots_c1", "slots are",
                         getOut().getType(), {count}, Type())) ||
      failed(verifyMemory(*this, "block_slots_c3", {getBlocks(), getOut()},
                          Contiguity::All)))
    return failure();
  return verifyOneForm(*this, "block_slots_c4", {getBlocks(), getOut()});
}

SmallVector<TiedExtents> BlockSlotsOp::getTiedExtents() {
  return {{{getOut()}, {getBlocks(), 0, std::nullopt, int64_t(getTokens())}}};
}

//===----------------------------------------------------------------------===//
// CsrTableOp
//===----------------------------------------------------------------------===//

LogicalResult CsrTableOp::verify() {
  bool hasLengths = getOuts().size() == 2;
  if (getOuts().empty() || getOuts().size() > 2 ||
      bool(getLast()) != hasLengths || bool(getTokens()) != hasLengths)
    return emitOpError()
           << "csr_table_c2: a table, or a table and lengths with "
              "'last' and its tokens, are expected, got "
           << getOuts().size() << " destinations";
  if (std::optional<uint64_t> given = getTokens()) {
    int64_t tokens = *given;
    if (tokens < 1 || tokens > kMaxExtent)
      return emitOpError()
             << "csr_table_c2: blocks of 1 to 2^40 tokens are expected, got "
             << tokens;
  }
  auto table = cast<ShapedType>(getTable().getType());
  Type element = table.getElementType();
  if (failed(verifyIndices(*this, "csr_table_c1", "the table is", table, 2)) ||
      failed(verifyShape(*this, "csr_table_c1", "'indices' are",
                         getIndices().getType(), {ShapedType::kDynamic},
                         element)))
    return failure();
  int64_t requests = table.getDimSize(0);
  if (failed(verifyShape(
          *this, "csr_table_c1", "'indptr' is", getIndptr().getType(),
          {ShapedType::isDynamic(requests) ? requests : requests + 1},
          element)))
    return failure();
  SmallVector<Value> lists = {getIndptr(), getIndices()};
  if (hasLengths) {
    if (failed(verifyShape(*this, "csr_table_c2", "'last' is",
                           getLast().getType(), {requests}, element)) ||
        failed(verifyShape(*this, "csr_table_c2", "lengths are",
                           getLengths().getType(), {requests}, element)))
      return failure();
    lists.append({getLast(), getLengths()});
  }
  if (failed(verifyMemory(*this, "csr_table_c3", lists, Contiguity::All)) ||
      failed(
          verifyMemory(*this, "csr_table_c3", getTable(), Contiguity::Inner)))
    return failure();
  lists.push_back(getTable());
  return verifyOneForm(*this, "csr_table_c4", lists);
}

SmallVector<TiedExtents> CsrTableOp::getTiedExtents() {
  SmallVector<Value> requests(getOuts());
  if (getLast())
    requests.push_back(getLast());
  return {
      leadingExtents(requests),
      {{getIndptr()}, {getTable(), 0, std::nullopt, /*times=*/1, /*plus=*/1}}};
}

//===----------------------------------------------------------------------===//
// SelectRowsOp
//===----------------------------------------------------------------------===//

LogicalResult SelectRowsOp::verify() {
  BatchType batch = getBatch().getType();
  auto indices = cast<ShapedType>(getIndices().getType());
  if (failed(
          verifyIndices(*this, "select_rows_c1", "indices are", indices, 1)) ||
      failed(verifyShape(*this, "select_rows_c1", "'valid' is",
                         getValid().getType(), {1}, indices.getElementType(),
                         0)))
    return failure();
  if (getRows().empty())
    return emitOpError() << "select_rows_c2: one operand of rows or more is "
                            "expected, got 0";
  if (getOuts().size() != getRows().size() + 2)
    return emitOpError() << "select_rows_c2: " << getRows().size() + 2
                         << " destinations are expected, of the rows, the "
                            "starts and the positions, got "
                         << getOuts().size();
  if (failed(verifyShape(
          *this, "select_rows_c2", "starts are", getStartsOut().getType(),
          {startsExtent(batch.getNumRequests())}, batch.getElementType())) ||
      failed(verifyIndices(*this, "select_rows_c2", "positions are",
                           getPositionsOut().getType(), 1)) ||
      failed(verifyShape(*this, "select_rows_c2", "positions are",
                         getPositionsOut().getType(), indices.getShape(),
                         Type())))
    return failure();
  for (auto [index, pair] :
       llvm::enumerate(llvm::zip(getRows(), getRowOuts()))) {
    auto from = cast<ShapedType>(std::get<0>(pair).getType());
    if (from.getRank() < 1)
      return emitOpError() << "select_rows_c3: rows #" << index
                           << " are expected to have a dimension, got " << from;
    SmallVector<int64_t> shape(from.getShape());
    shape[0] = indices.getDimSize(0);
    for (int64_t extent : llvm::drop_begin(shape))
      if (ShapedType::isDynamic(extent))
        return emitOpError()
               << "select_rows_c3: rows #" << index
               << " are expected to have constant inner extents, got " << from;
    if (failed(verifyShape(
            *this, "select_rows_c3", "destination #" + Twine(index) + " is",
            std::get<1>(pair).getType(), shape, from.getElementType())))
      return failure();
  }
  SmallVector<Value> buffers(getRows());
  llvm::append_range(buffers, getRowOuts());
  SmallVector<Value> lists = {getIndices(), getValid(), getStartsOut(),
                              getPositionsOut()};
  if (failed(
          verifyMemory(*this, "select_rows_c4", buffers, Contiguity::Inner)) ||
      failed(verifyMemory(*this, "select_rows_c4", lists, Contiguity::All)))
    return failure();
  llvm::append_range(buffers, lists);
  return verifyOneForm(*this, "select_rows_c5", buffers);
}

IndexUses SelectRowsOp::getIndexUses() {
  SelectionUse selection{getIndices(), getValid(), getBatch(), getRows(),
                         getRowOuts()};
  selection.selected.push_back(getPositionsOut());
  return {{BatchUse{getBatch(), getRows()}}, {}, selection};
}

SmallVector<TiedExtents> SelectRowsOp::getTiedExtents() {
  SmallVector<Value> selected(getRowOuts());
  selected.append({getIndices(), getPositionsOut()});
  return {leadingExtents(getBatch(), getRows()),
          leadingExtents(selected),
          {{getStartsOut()},
           {getBatch(), 0, BatchMember::Lengths, /*times=*/1, /*plus=*/1}}};
}
