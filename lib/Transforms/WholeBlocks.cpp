// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// If the tokens of a block are contiguous, like rows, they are one row of a
// cache with blocks of one token:
//
//   ?B x 16N x 8H x 128D    slots b * 16 .. b * 16 + 15, rows [T, 8, 128]
//   ?B x 1N x 128H x 128D   slot b, rows [T / 16, 128, 128]
//
// Within a block this requires more than a flat layout does; the distance
// between blocks is arbitrary.
//
//===----------------------------------------------------------------------===//

#include "WholeBlocks.h"

#include "kvcache/Analysis/Memory.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace kvcache;

/// What writes a list before an operation, if that is known.
static BlockSlotsOp findBlockSlots(Value list, Operation *before,
                                   WriterIndex &writers) {
  for (Operation *user : list.getUsers()) {
    auto made = dyn_cast<BlockSlotsOp>(user);
    if (made && made.getOut() == list &&
        made->getBlock() == before->getBlock() &&
        made->isBeforeInBlock(before) &&
        !writers.findBetween(made, before, list))
      return made;
  }
  return {};
}

BlockSlotsOp kvcache::findWholeBlocks(IndexCopyOp op, WriterIndex &writers) {
  auto made = op.getSlots().getDefiningOp<MakeSlotsOp>();
  if (!made || !isa<MemRefType>(made.getSource().getType()) ||
      !isa<CacheType>(op.getCache().getType()) ||
      isa<ScaledType, StoredType>(op.getCacheType().getElementType()) ||
      !llvm::all_of(op.getRows().getTypes(), llvm::IsaPred<MemRefType>))
    return {};
  BlockSlotsOp blockSlots = findBlockSlots(made.getSource(), op, writers);
  int64_t tokens = op.getCacheType().getLayout().extent(AxisKind::Token);
  bool fits = blockSlots && tokens > 1 &&
              static_cast<int64_t>(blockSlots.getTokens()) == tokens &&
              made.getType().getRowsPerBlock() == tokens;
  if (!fits || findWriter(blockSlots, blockSlots.getBlocks()) ||
      writers.findBetween(blockSlots, op, blockSlots.getBlocks()))
    return {};
  return blockSlots;
}

/// The number of entries of a list, if that is a value or a constant.
static OpFoldResult extentOf(Value list) {
  if (auto cast = list.getDefiningOp<memref::CastOp>();
      cast && isa<MemRefType>(cast.getSource().getType()))
    list = cast.getSource();
  auto type = cast<MemRefType>(list.getType());
  if (!type.isDynamicDim(0))
    return Builder(list.getContext()).getIndexAttr(type.getDimSize(0));
  if (auto part = list.getDefiningOp<memref::SubViewOp>();
      part && part.getSourceType().getRank() == 1)
    return part.getMixedSizes()[0];
  auto alloc = list.getDefiningOp<memref::AllocOp>();
  return alloc ? OpFoldResult(alloc.getDynamicSizes()[0]) : OpFoldResult();
}

static bool isExtentOf(Value number, Value list) {
  if (OpFoldResult extent = extentOf(list))
    return isEqualConstantIntOrValue(extent, number);
  auto dim = number.getDefiningOp<memref::DimOp>();
  return dim && dim.getSource() == list && dim.getConstantIndex() == 0;
}

static bool isPublicArgument(Value value) {
  auto argument = dyn_cast<BlockArgument>(value);
  auto function =
      argument ? dyn_cast<func::FuncOp>(argument.getOwner()->getParentOp())
               : func::FuncOp();
  return function && argument.getOwner()->isEntryBlock() && function.isPublic();
}

/// Whether a list has room for all slots of the blocks, and for no others.
static bool hasAllSlots(BlockSlotsOp op) {
  Value blocks = op.getBlocks(), list = op.getOut();
  int64_t tokens = op.getTokens();
  // The entry function compares their extents.
  if (isPublicArgument(blocks) && isPublicArgument(list))
    return true;
  OpFoldResult all = extentOf(list);
  if (!all)
    return false;
  std::optional<int64_t> slots = getConstantIntValue(all);
  if (std::optional<int64_t> number = getConstantIntValue(extentOf(blocks));
      slots && number)
    return *slots % tokens == 0 && *slots / tokens == *number;
  auto product =
      slots ? arith::MulIOp() : cast<Value>(all).getDefiningOp<arith::MulIOp>();
  return product && ((isConstantIntValue(product.getRhs(), tokens) &&
                      isExtentOf(product.getLhs(), blocks)) ||
                     (isConstantIntValue(product.getLhs(), tokens) &&
                      isExtentOf(product.getRhs(), blocks)));
}

namespace {

/// A cache and the same one with blocks of one row. The dimensions of memrefs
/// between them are the other axes as listed, then tokens, heads and channels.
struct OneRow {
  SmallVector<unsigned> others; ///< their places in the listing
  std::optional<unsigned> heads;
  unsigned tokens = 0, channels = 0;
  int64_t headExtent = 0; ///< of the one row
  CacheType type;
};

} // namespace

static std::optional<OneRow> asOneRow(CacheType type, std::string &why) {
  const Layout &layout = type.getLayout();
  OneRow row;
  std::vector<Axis> packed;
  for (unsigned i = 0; i < layout.rank(); ++i) {
    switch (layout.dim(i).axis.kind) {
    case AxisKind::Token:
      row.tokens = i;
      break;
    case AxisKind::Head:
      row.heads = i;
      break;
    case AxisKind::Channel:
      row.channels = i;
      break;
    default:
      row.others.push_back(i);
    }
  }
  if (layout.rank() != row.others.size() + 2 + row.heads.has_value()) {
    why = "an axis of the cache is split";
    return std::nullopt;
  }
  row.headExtent = layout.dim(row.tokens).extent;
  int64_t elements = row.headExtent * layout.dim(row.channels).extent;
  packed.push_back(layout.dim(row.tokens).axis);
  if (row.heads) {
    packed.push_back(layout.dim(*row.heads).axis);
    row.headExtent *= layout.dim(*row.heads).extent;
    elements *= layout.dim(*row.heads).extent;
  }
  packed.push_back(layout.dim(row.channels).axis);
  Run run = layout.commonRun(packed);
  if (run.elements != elements) {
    why = "the " + std::to_string(elements) +
          " elements of a block are expected to be contiguous, as in rows, got "
          "runs of " +
          std::to_string(run.elements);
    return std::nullopt;
  }

  std::vector<LayoutDim> dims;
  for (unsigned i : row.others)
    dims.push_back(layout.dim(i));
  LayoutDim token = layout.dim(row.tokens), channel = layout.dim(row.channels);
  LayoutDim head = {Axis{AxisKind::Head}, row.headExtent, {}};
  token.extent = 1;
  token.stride = channel.stride = {};
  dims.insert(dims.end(), {token, head, channel});
  std::vector<Axis> order;
  for (unsigned k = 0; k < layout.rank(); ++k)
    if (llvm::is_contained(row.others, layout.orderAt(k)))
      order.push_back(layout.dim(layout.orderAt(k)).axis);
  order.insert(order.end(), {token.axis, head.axis, channel.axis});
  std::optional<Layout> whole = Layout::get(dims, order, layout.align(), why);
  if (!whole)
    return std::nullopt;
  row.type = CacheType::get(type.getContext(), *whole, type.getElementType(),
                            type.getSpace(), type.getAccess());
  return row;
}

static int64_t toDim(int64_t extent) {
  return extent == kRunTime ? ShapedType::kDynamic : extent;
}

/// The cache with blocks of one row, as a view of the other one.
static Value viewAsRows(OpBuilder &builder, Location loc, Value cache,
                        const OneRow &row) {
  auto from = cast<CacheType>(cache.getType());
  const Layout &layout = from.getLayout();
  SmallVector<int64_t> shape, strides;
  SmallVector<Attribute> names;
  auto name = [&](unsigned i) {
    names.push_back(builder.getStringAttr(layout.dim(i).axis.str()));
  };
  auto add = [&](unsigned i) {
    shape.push_back(toDim(layout.dim(i).extent));
    std::optional<int64_t> stride = layout.stride(i);
    strides.push_back(stride ? *stride : ShapedType::kDynamic);
    name(i);
  };
  for (unsigned i : row.others)
    add(i);
  unsigned rank = shape.size();
  add(row.tokens);
  if (row.heads)
    add(*row.heads);
  add(row.channels);
  Attribute strided = StridedLayoutAttr::get(builder.getContext(),
                                             ShapedType::kDynamic, strides);
  auto storageType = MemRefType::get(shape, from.getElementType(),
                                     cast<MemRefLayoutAttrInterface>(strided));
  Value memref = StorageOp::create(builder, loc, storageType, cache,
                                   builder.getArrayAttr(names));
  // Heads of all tokens, then one token.
  SmallVector<ReassociationIndices> groups;
  for (int64_t i = 0; i < rank; ++i)
    groups.push_back({i});
  if (row.heads) {
    groups.push_back({rank, rank + 1});
    groups.push_back({rank + 2});
    memref = memref::CollapseShapeOp::create(builder, loc, memref, groups);
    groups.truncate(rank);
  }
  groups.push_back({rank, rank + 1});
  groups.push_back({rank + 2});
  SmallVector<OpFoldResult> extents;
  shape.truncate(rank);
  for (unsigned i = 0; i < rank; ++i)
    extents.push_back(
        memref::getMixedSize(builder, loc, memref, static_cast<int64_t>(i)));
  int64_t channels = layout.dim(row.channels).extent;
  for (int64_t extent : {int64_t(1), row.headExtent, channels}) {
    shape.push_back(extent);
    extents.push_back(builder.getIndexAttr(extent));
  }
  memref = memref::ExpandShapeOp::create(builder, loc, shape, memref, groups,
                                         extents);
  names.truncate(rank);
  for (const char *axis : {"N", "H", "D"})
    names.push_back(builder.getStringAttr(axis));
  return ViewOp::create(builder, loc, row.type, memref, /*offset=*/Value(),
                        /*extents=*/ValueRange(), /*strides=*/ValueRange(),
                        builder.getArrayAttr(names), builder.getArrayAttr({}),
                        builder.getArrayAttr({}));
}

/// Rows [T, H, D] as [T / N, N * H, D].
static Value joinRows(OpBuilder &builder, Location loc, Value rows,
                      const OneRow &row, OpFoldResult count) {
  auto type = cast<MemRefType>(rows.getType());
  if (type.getRank() == 3)
    rows = memref::CollapseShapeOp::create(
        builder, loc, rows, ArrayRef<ReassociationIndices>{{0, 1}, {2}});
  int64_t channels = type.getShape().back();
  SmallVector<int64_t> shape = {ShapedType::kDynamic, row.headExtent, channels};
  if (std::optional<int64_t> number = getConstantIntValue(count))
    shape[0] = *number;
  SmallVector<OpFoldResult> extents = {count,
                                       builder.getIndexAttr(row.headExtent),
                                       builder.getIndexAttr(channels)};
  return memref::ExpandShapeOp::create(
      builder, loc, shape, rows, ArrayRef<ReassociationIndices>{{0, 1}, {2}},
      extents);
}

IndexCopyOp kvcache::writeWholeBlocks(IndexCopyOp op, BlockSlotsOp blockSlots,
                                      std::string &why) {
  Value blocks = blockSlots.getBlocks();
  if (!hasAllSlots(blockSlots)) {
    why = "the list of slots is not known to have " +
          std::to_string(blockSlots.getTokens()) + " entries for each block";
    return {};
  }
  SlotsType slots = op.getSlots().getType();
  if (slots.getPad() == Padding::sink) {
    why = "rows of padding go to a block of their own";
    return {};
  }
  std::optional<OneRow> row = asOneRow(op.getCacheType(), why);
  if (!row)
    return {};
  auto list = cast<MemRefType>(blocks.getType());
  for (Value rows : op.getRows()) {
    auto type = cast<MemRefType>(rows.getType());
    if (!type.getLayout().isIdentity()) {
      why = "rows are expected to be packed";
      return {};
    }
    // Else a collapse and an expansion would not be of one extent.
    if (type.isDynamicDim(0) != list.isDynamicDim(0)) {
      why = "the number of blocks is known but that of rows is not, or vice "
            "versa";
      return {};
    }
    int64_t tokens = op.getCacheType().getLayout().extent(AxisKind::Token);
    if (!type.isDynamicDim(0) &&
        (type.getDimSize(0) % tokens ||
         type.getDimSize(0) / tokens != list.getDimSize(0))) {
      why = "there are " + std::to_string(type.getDimSize(0)) + " rows for " +
            std::to_string(list.getDimSize(0)) + " blocks";
      return {};
    }
  }
  OpBuilder builder(op);
  Location loc = op.getLoc();
  Value cache = viewAsRows(builder, loc, op.getCache(), *row);
  // As many as there are, not as there should be: index_copy stops at the
  // shorter of its lists.
  Value tokens = arith::ConstantIndexOp::create(
      builder, loc, op.getCacheType().getLayout().extent(AxisKind::Token));
  SmallVector<Value> rows;
  for (Value one : op.getRows()) {
    OpFoldResult count = memref::getMixedSize(builder, loc, blocks, 0);
    if (cast<MemRefType>(one.getType()).isDynamicDim(0)) {
      OpFoldResult all = memref::getMixedSize(builder, loc, one, 0);
      count =
          builder.createOrFold<arith::DivUIOp>(loc, cast<Value>(all), tokens);
    }
    rows.push_back(joinRows(builder, loc, one, *row, count));
  }
  int64_t number = list.isDynamicDim(0) ? kRunTime : list.getDimSize(0);
  auto type = SlotsType::get(op.getContext(), number,
                             cast<IntegerType>(list.getElementType()),
                             /*rowsPerBlock=*/1, slots.getPad(), 0);
  Value made = MakeSlotsOp::create(builder, loc, type, blocks);
  return IndexCopyOp::create(builder, loc, TypeRange(), rows, cache,
                             /*scales=*/Value(), made, ArrayAttr(),
                             op.getScheduleAttr());
}
