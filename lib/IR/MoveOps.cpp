// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Moves of rows into and out of caches, and moves of blocks.
//
//===----------------------------------------------------------------------===//

#include "BufferOps.h"

#include "kvcache/Layout/Views.h"

using namespace mlir;
using namespace kvcache;

//===----------------------------------------------------------------------===//
// What operations on rows have in common
//===----------------------------------------------------------------------===//

/// An operand is known to be a cache where the verifier has passed.
static CacheType cacheTypeOf(Value value, std::optional<ArrayAttr> axes) {
  std::string why;
  return CacheType::of(value.getType(), axes ? *axes : ArrayAttr(), why);
}

CacheType IndexCopyOp::getCacheType() {
  return cacheTypeOf(getCache(), getAxes());
}
CacheType ScatterOp::getCacheType() {
  return cacheTypeOf(getCache(), getAxes());
}
CacheType GatherOp::getCacheType() {
  return cacheTypeOf(getCache(), getAxes());
}
CacheType RelayoutOp::getSourceType() {
  return cacheTypeOf(getSource(), getSourceAxes());
}
CacheType RelayoutOp::getDestType() {
  return cacheTypeOf(getDest(), getDestAxes());
}

/// The labels of what is asked of rows.
struct RowLabels {
  StringRef count, shape, contiguous, layer, form, memory;
};

/// Two lengths that may be the same: a cast in front of one operand, which says
/// less of it than of another one, may be folded into the operation.
static bool mayAgree(int64_t a, int64_t b) {
  return a == b || ShapedType::isDynamic(a) || ShapedType::isDynamic(b);
}

/// `count` is the length of lists, if it is known; else one of rows is.
static LogicalResult verifyRows(Operation *op, const RowLabels &labels,
                                OperandRange rows, Value cacheValue,
                                CacheType cache, int64_t count) {
  const Layout &layout = cache.getLayout();
  int64_t sides = cache.getNumSides();
  if (static_cast<int64_t>(rows.size()) != sides)
    return op->emitOpError() << labels.count << ": " << sides
                             << " operands of rows are expected, one per side "
                                "of the cache, got "
                             << rows.size();
  if (layout.extent(AxisKind::Layer) != 1)
    return op->emitOpError()
           << labels.layer << ": the cache is expected to be one layer, got "
           << cache;
  Type element = cast<ShapedType>(rows.front().getType()).getElementType();
  if (failed(verifyRowElement(op, labels.shape, element)))
    return failure();
  for (auto [index, row] : llvm::enumerate(rows)) {
    auto type = cast<ShapedType>(row.getType());
    SmallVector<int64_t> shape = {count};
    llvm::append_range(shape, cache.getRowShape());
    auto expected = RankedTensorType::get(shape, element);
    if (type.getRank() != expected.getRank() ||
        !mayAgree(type.getDimSize(0), count) ||
        type.getShape().drop_front() != expected.getShape().drop_front() ||
        type.getElementType() != expected.getElementType())
      return op->emitOpError() << labels.shape << ": rows #" << index
                               << " are expected to have the shape and element "
                                  "type of "
                               << expected << ", got " << type;
    if (ShapedType::isDynamic(count))
      count = type.getDimSize(0);
  }
  if (failed(verifyOneForm(op, labels.form, rows, cacheValue)))
    return failure();
  for (auto [index, row] : llvm::enumerate(rows)) {
    auto memref = dyn_cast<MemRefType>(row.getType());
    if (memref && memref.getMemorySpace())
      return op->emitOpError() << labels.memory << ": rows #" << index
                               << " are expected to be in the default memory "
                                  "space, got "
                               << memref;
    if (!isContiguous(row.getType(), Contiguity::Inner))
      return op->emitOpError()
             << labels.contiguous << ": the inner dimensions of rows #" << index
             << " are expected to be contiguous, got " << row.getType();
  }
  return success();
}

static LogicalResult verifyMayWrite(Operation *op, StringRef label,
                                    CacheType cache) {
  if (cache.getAccess() == Access::read)
    return op->emitOpError()
           << label << ": a writable cache is expected, got " << cache;
  return success();
}

static LogicalResult verifyBlockSize(Operation *op, StringRef label,
                                     CacheType cache, SlotsType slots,
                                     bool mayBeScaled = false) {
  int64_t tokens = cache.getLayout().extent(AxisKind::Token);
  int64_t rows = slots.getRowsPerBlock();
  if (rows == tokens)
    return success();
  std::string why;
  std::optional<FlatScale> scale = flatScale(cache.getLayout(), why);
  bool isScaled = mayBeScaled && scale && scale->rowsPerBlock > tokens;
  if (isScaled && rows == scale->rowsPerBlock)
    return success();
  InFlightDiagnostic error = op->emitOpError()
                             << label << ": slots of " << tokens;
  if (isScaled)
    error << " or, for rows that are not adjacent, " << scale->rowsPerBlock;
  return error << " rows per block are expected, as in the cache, got " << rows;
}

//===----------------------------------------------------------------------===//
// IndexCopyOp, ScatterOp and GatherOp
//===----------------------------------------------------------------------===//

LogicalResult IndexCopyOp::verify() {
  FailureOr<CacheType> cache =
      verifyCache(*this, "index_copy_c9", getCache().getType(), getAxes());
  if (failed(cache) || failed(verifyMayWrite(*this, "index_copy_c8", *cache)) ||
      failed(verifyBlockSize(*this, "index_copy_c3", *cache,
                             getSlots().getType(), /*mayBeScaled=*/true)))
    return failure();
  if (failed(verifyScales(*this, "index_copy_c10", *cache, getScales(),
                          /*isWritten=*/true)))
    return failure();
  RowLabels labels = {"index_copy_c1", "index_copy_c2", "index_copy_c4",
                      "index_copy_c5", "index_copy_c6", "index_copy_c7"};
  return verifyRows(*this, labels, getRows(), getCache(), *cache,
                    toShape(getSlots().getType().getCount()));
}

LogicalResult ScatterOp::verify() {
  FailureOr<CacheType> cache =
      verifyCache(*this, "scatter_c9", getCache().getType(), getAxes());
  if (failed(cache) || failed(verifyMayWrite(*this, "scatter_c7", *cache)))
    return failure();
  if (getPad() == Padding::sink)
    return emitOpError() << "scatter_c8: 'none', 'skip_negative' or "
                            "'skip_out_of_range' is expected, got 'sink'";
  auto blocks = cast<ShapedType>(getBlocks().getType());
  if (failed(verifyIndices(*this, "scatter_c3", "blocks are", blocks, 1)) ||
      failed(verifyIndices(*this, "scatter_c3", "offsets are",
                           getOffsets().getType(), 1)))
    return failure();
  int64_t numBlocks = blocks.getDimSize(0);
  int64_t numOffsets = cast<ShapedType>(getOffsets().getType()).getDimSize(0);
  if (!mayAgree(numBlocks, numOffsets))
    return emitOpError() << "scatter_c3: as many offsets as blocks are "
                            "expected, got "
                         << getOffsets().getType() << " and " << blocks;
  if (failed(verifyScales(*this, "scatter_c10", *cache, getScales(),
                          /*isWritten=*/true)))
    return failure();
  RowLabels labels = {"scatter_c1", "scatter_c2", "scatter_c4",
                      "scatter_c5", "scatter_c6", "scatter_c4"};
  if (failed(verifyRows(*this, labels, getRows(), getCache(), *cache,
                        ShapedType::isDynamic(numBlocks) ? numOffsets
                                                         : numBlocks)) ||
      failed(verifyMemory(*this, "scatter_c4", {getBlocks(), getOffsets()},
                          Contiguity::All)))
    return failure();
  return verifyOneForm(*this, "scatter_c6",
                       {getRows()[0], getBlocks(), getOffsets()}, getCache());
}

LogicalResult GatherOp::verify() {
  FailureOr<CacheType> cache =
      verifyCache(*this, "gather_c7", getCache().getType(), getAxes());
  if (failed(cache) ||
      failed(verifyBlockSize(*this, "gather_c3", *cache, getSlots().getType())))
    return failure();
  if (failed(verifyScales(*this, "gather_c8", *cache, getScales(),
                          /*isWritten=*/false)))
    return failure();
  RowLabels labels = {"gather_c1", "gather_c2", "gather_c4",
                      "gather_c5", "gather_c6", "gather_c4"};
  return verifyRows(*this, labels, getOuts(), getCache(), *cache,
                    toShape(getSlots().getType().getCount()));
}

//===----------------------------------------------------------------------===//
// What operations on rows touch
//===----------------------------------------------------------------------===//

static CacheUse useOf(OpOperand &cache, CacheType type,
                      std::optional<ArrayAttr> axes, Moved moved,
                      IndexedBy indexedBy, bool isWritten) {
  CacheUse use{&cache, type, axes.value_or(ArrayAttr()), moved, indexedBy};
  use.isRead = !isWritten;
  use.isWritten = isWritten;
  return use;
}

template <typename Op>
static CacheUse useOfRows(Op op, IndexedBy indexedBy, bool isWritten) {
  CacheUse use = useOf(op.getCacheMutable(), op.getCacheType(), op.getAxes(),
                       Moved::Row, indexedBy, isWritten);
  use.mayStream = isWritten;
  use.unit = "token";
  return use;
}

/// The scales of a cache, which are used as it is.
static void addScales(MutableOperandRange scales, CacheUse use,
                      SmallVectorImpl<CacheUse> &uses) {
  for (OpOperand &operand : scales) {
    use.operand = &operand;
    use.type = cast<CacheType>(operand.get().getType());
    use.axes = {};
    if (use.isWritten && use.type.areGiven()) {
      use.isWritten = use.mayStream = false;
      use.isRead = true;
    }
    // One by one, so that the code is the same however they are aligned.
    if (use.moved == Moved::Row)
      use.moved = Moved::Channels;
    uses.push_back(use);
  }
}

/// Slots of rows that are as many as these.
static IndexUses slotUses(Value slots, ValueRange rows, Value cache) {
  auto type = cast<SlotsType>(slots.getType());
  if (type.getPad() == Padding::skip_out_of_range)
    return {};
  EntryUse use;
  use.what = "slot";
  use.list = slots;
  use.counted = rows;
  use.within = cache;
  use.perBlock = type.getRowsPerBlock();
  use.orNegative = type.getPad() == Padding::skip_negative;
  return {{}, {use}};
}

SmallVector<CacheUse> IndexCopyOp::getCacheUses() {
  CacheUse use = useOfRows(*this, IndexedBy::Slots, /*isWritten=*/true);
  use.checked = getSlots().getType().getPad() == Padding::sink
                    ? "slot in the cache, sink included"
                    : "slot in the cache";
  SmallVector<CacheUse> uses = {use};
  addScales(getScalesMutable(), use, uses);
  return uses;
}

IndexUses IndexCopyOp::getIndexUses() {
  return slotUses(getSlots(), getRows(), getCache());
}

SmallVector<TiedExtents> IndexCopyOp::getTiedExtents() {
  TiedExtents rows = leadingExtents(getRows());
  rows.push_back({getSlots()});
  SmallVector<TiedExtents> ties = {rows};
  addScaleTies(getCache(), getScales(), ties);
  return ties;
}

bool IndexCopyOp::keepsDestination() { return true; }

void IndexCopyOp::dropAxisNames() { removeAxesAttr(); }

SmallVector<CacheUse> ScatterOp::getCacheUses() {
  CacheUse use = useOfRows(*this, IndexedBy::Lists, /*isWritten=*/true);
  use.checked = "block and offset in the cache";
  SmallVector<CacheUse> uses = {use};
  addScales(getScalesMutable(), use, uses);
  return uses;
}

/// A row is padding if either number is negative, whatever the other one is.
IndexUses ScatterOp::getIndexUses() {
  if (getPad() == Padding::skip_out_of_range)
    return {};
  bool skips = getPad() == Padding::skip_negative;
  EntryUse blocks, offsets;
  blocks.what = "block";
  blocks.list = getBlocks();
  blocks.within = getCache();
  blocks.unless = skips ? getOffsets() : Value();
  offsets.what = "offset";
  offsets.list = getOffsets();
  offsets.perBlock = getCacheType().getLayout().extent(AxisKind::Token);
  offsets.unless = skips ? getBlocks() : Value();
  for (EntryUse *use : {&blocks, &offsets}) {
    use->counted = getRows();
    use->orNegative = skips;
  }
  return {{}, {blocks, offsets}};
}

SmallVector<TiedExtents> ScatterOp::getTiedExtents() {
  TiedExtents rows = leadingExtents(getRows());
  rows.append({{getBlocks()}, {getOffsets()}});
  SmallVector<TiedExtents> ties = {rows};
  addScaleTies(getCache(), getScales(), ties);
  return ties;
}

bool ScatterOp::keepsDestination() { return true; }

void ScatterOp::dropAxisNames() { removeAxesAttr(); }

SmallVector<CacheUse> GatherOp::getCacheUses() {
  CacheUse use = useOfRows(*this, IndexedBy::Slots, /*isWritten=*/false);
  use.checked = "slot in the cache";
  SmallVector<CacheUse> uses = {use};
  addScales(getScalesMutable(), use, uses);
  return uses;
}

IndexUses GatherOp::getIndexUses() {
  return slotUses(getSlots(), getOuts(), getCache());
}

SmallVector<TiedExtents> GatherOp::getTiedExtents() {
  TiedExtents rows = leadingExtents(getOuts());
  rows.push_back({getSlots()});
  SmallVector<TiedExtents> ties = {rows};
  addScaleTies(getCache(), getScales(), ties);
  return ties;
}

/// Rows of padding stay what they are.
bool GatherOp::keepsDestination() { return !getZero(); }

void GatherOp::dropAxisNames() { removeAxesAttr(); }

//===----------------------------------------------------------------------===//
// RelayoutOp
//===----------------------------------------------------------------------===//

/// That two caches have the same axes, and equal extents of those that `same`
/// names.
static LogicalResult verifySameAxes(Operation *op, StringRef label,
                                    CacheType source, CacheType dest,
                                    ArrayRef<AxisKind> same) {
  const Layout &from = source.getLayout(), &to = dest.getLayout();
  for (AxisKind kind : {AxisKind::Layer, AxisKind::Side, AxisKind::Block,
                        AxisKind::Token, AxisKind::Head, AxisKind::Channel}) {
    std::string axis = Axis{kind}.str();
    if (from.has(kind) != to.has(kind))
      return op->emitOpError()
             << label << ": the same axes are expected, got " << axis
             << " in only one of " << source << " and " << dest;
    int64_t a = from.extent(kind), b = to.extent(kind);
    if (llvm::is_contained(same, kind) && a != b && a != kRunTime &&
        b != kRunTime)
      return op->emitOpError() << label << ": the extent of " << axis
                               << " is expected to be " << a << ", got " << b;
  }
  return success();
}

LogicalResult RelayoutOp::verify() {
  FailureOr<CacheType> source =
      verifyCache(*this, "relayout_c3", getSource().getType(), getSourceAxes());
  FailureOr<CacheType> dest =
      verifyCache(*this, "relayout_c3", getDest().getType(), getDestAxes());
  if (failed(source) || failed(dest))
    return failure();
  if (isa<CacheType>(getSource().getType()) !=
      isa<CacheType>(getDest().getType()))
    return emitOpError() << "relayout_c4: two tensors or two references are "
                            "expected, got "
                         << getSource().getType() << " and "
                         << getDest().getType();
  if (failed(
          verifySameAxes(*this, "relayout_c1", *source, *dest,
                         {AxisKind::Layer, AxisKind::Side, AxisKind::Block,
                          AxisKind::Token, AxisKind::Head, AxisKind::Channel})))
    return failure();
  // Without scales, bits of one format are copied as they are.
  bool isCopy = source->getElementType() == dest->getElementType() &&
                !getSourceScales() && !getDestScales();
  if (!isCopy &&
      (failed(verifyScales(*this, "relayout_c5", *source, getSourceScales(),
                           /*isWritten=*/false)) ||
       failed(verifyScales(*this, "relayout_c5", *dest, getDestScales(),
                           /*isWritten=*/true))))
    return failure();
  return verifyMayWrite(*this, "relayout_c2", *dest);
}

SmallVector<CacheUse> RelayoutOp::getCacheUses() {
  CacheUse source =
      useOf(getSourceMutable(), getSourceType(), getSourceAxes(), Moved::Block,
            IndexedBy::Nothing, /*isWritten=*/false);
  CacheUse dest = useOf(getDestMutable(), getDestType(), getDestAxes(),
                        Moved::Block, IndexedBy::Nothing, /*isWritten=*/true);
  source.unit = dest.unit = "block";
  dest.mayStream = true;
  SmallVector<CacheUse> uses = {source};
  addScales(getSourceScalesMutable(), source, uses);
  uses.push_back(dest);
  addScales(getDestScalesMutable(), dest, uses);
  return uses;
}

/// Where one has fewer blocks, the blocks that both have are copied.
SmallVector<TiedExtents> RelayoutOp::getTiedExtents() {
  SmallVector<TiedExtents> ties;
  addScaleTies(getSource(), getSourceScales(), ties);
  addScaleTies(getDest(), getDestScales(), ties);
  return ties;
}

/// Blocks that the source does not have.
bool RelayoutOp::keepsDestination() { return true; }

void RelayoutOp::dropAxisNames() {
  removeSourceAxesAttr();
  removeDestAxesAttr();
}

//===----------------------------------------------------------------------===//
// CopyBlocksOp
//===----------------------------------------------------------------------===//

static LogicalResult verifyPairs(Operation *op, StringRef shapeLabel,
                                 StringRef memoryLabel, Value pairs,
                                 ArrayRef<int64_t> columns) {
  auto type = cast<ShapedType>(pairs.getType());
  Type element = type.getElementType();
  bool isIndex = element.isSignlessInteger(32) || element.isSignlessInteger(64);
  if (type.getRank() != 2 || !isIndex ||
      !llvm::is_contained(columns, type.getDimSize(1))) {
    InFlightDiagnostic error = op->emitOpError();
    error << shapeLabel << ": pairs are expected to be a matrix of ";
    llvm::interleave(columns, error, " or ");
    return error << " columns of i32 or i64, got " << type;
  }
  return verifyMemory(op, memoryLabel, pairs, Contiguity::All);
}

/// The first column is of a source, the second one of a destination.
static IndexUses pairUses(StringRef what, Value pairs,
                          ArrayRef<std::pair<Value, int64_t>> columns) {
  IndexUses uses;
  for (auto [column, pool] : llvm::enumerate(columns)) {
    EntryUse use;
    use.what = what;
    use.list = pairs;
    use.column = column;
    use.counted = {pairs};
    use.within = pool.first;
    use.perBlock = pool.second;
    use.orNegative = true;
    uses.entries.push_back(use);
  }
  return uses;
}

LogicalResult CopyBlocksOp::verify() {
  if (failed(verifyPairs(*this, "copy_blocks_c1", "copy_blocks_c3", getPairs(),
                         {2})))
    return failure();
  return verifyMayWrite(*this, "copy_blocks_c2", getCache().getType());
}

void CopyBlocksOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  addBufferEffects(*this, 0, 1, effects);
  effects.emplace_back(MemoryEffects::Read::get(), &getCacheMutable());
}

SmallVector<CacheUse> CopyBlocksOp::getCacheUses() {
  CacheUse use = useOf(getCacheMutable(), getCache().getType(), std::nullopt,
                       Moved::Block, IndexedBy::Lists, /*isWritten=*/true);
  use.isRead = true;
  use.unit = "pair";
  use.checked = "blocks in the cache";
  return {use};
}

IndexUses CopyBlocksOp::getIndexUses() {
  return pairUses("block", getPairs(), {{getCache(), 1}, {getCache(), 1}});
}

SmallVector<TiedExtents> CopyBlocksOp::getTiedExtents() { return {}; }

//===----------------------------------------------------------------------===//
// ClearBlocksOp
//===----------------------------------------------------------------------===//

LogicalResult ClearBlocksOp::verify() {
  if (failed(verifyIndices(*this, "clear_blocks_c1", "blocks are",
                           getBlocks().getType(), 1)) ||
      failed(verifyMayWrite(*this, "clear_blocks_c2", getCache().getType())))
    return failure();
  return verifyMemory(*this, "clear_blocks_c3", getBlocks(), Contiguity::All);
}

void ClearBlocksOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  addBufferEffects(*this, 0, 1, effects);
}

SmallVector<CacheUse> ClearBlocksOp::getCacheUses() {
  CacheUse use = useOf(getCacheMutable(), getCache().getType(), std::nullopt,
                       Moved::Block, IndexedBy::Lists, /*isWritten=*/true);
  use.unit = "block";
  use.checked = "blocks in the cache";
  return {use};
}

IndexUses ClearBlocksOp::getIndexUses() {
  EntryUse use;
  use.what = "block";
  use.list = getBlocks();
  use.counted = {getBlocks()};
  use.within = getCache();
  use.orNegative = true;
  return {{}, {use}};
}

SmallVector<TiedExtents> ClearBlocksOp::getTiedExtents() { return {}; }

//===----------------------------------------------------------------------===//
// TransferOp
//===----------------------------------------------------------------------===//

LogicalResult TransferOp::verify() {
  CacheType source = getSource().getType(), dest = getDest().getType();
  if (failed(verifySameAxes(*this, "transfer_c1", source, dest,
                            {AxisKind::Layer, AxisKind::Side, AxisKind::Head,
                             AxisKind::Channel})))
    return failure();
  int64_t a = source.getLayout().extent(AxisKind::Token);
  int64_t b = dest.getLayout().extent(AxisKind::Token);
  if (a % b && b % a)
    return emitOpError() << "transfer_c2: one block size is expected to be a "
                            "multiple of the other, got "
                         << a << " and " << b;
  auto isSame = [](Type a, Type b) {
    auto x = dyn_cast<ScaledType>(a), y = dyn_cast<ScaledType>(b);
    return x && y ? x.isSameFormat(y) : a == b;
  };
  if (!isSame(source.getElementType(), dest.getElementType()))
    return emitOpError() << "transfer_c3: the element type is expected to be "
                         << source.getElementType() << ", got "
                         << dest.getElementType()
                         << "; 'relayout' converts elements";
  if (failed(verifyMayWrite(*this, "transfer_c4", dest)))
    return failure();
  return verifyPairs(*this, "transfer_c5", "transfer_c6", getPairs(), {2, 4});
}

void TransferOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>>
        &effects) {
  addBufferEffects(*this, 1, 1, effects);
}

SmallVector<CacheUse> TransferOp::getCacheUses() {
  CacheUse source =
      useOf(getSourceMutable(), getSource().getType(), std::nullopt,
            Moved::Block, IndexedBy::Lists, /*isWritten=*/false);
  CacheUse dest = useOf(getDestMutable(), getDest().getType(), std::nullopt,
                        Moved::Block, IndexedBy::Lists, /*isWritten=*/true);
  source.unit = dest.unit = "block";
  source.checked = dest.checked = "chunks in the cache";
  return {source, dest};
}

IndexUses TransferOp::getIndexUses() {
  auto tokens = [](TypedValue<CacheType> cache) {
    return cache.getType().getLayout().extent(AxisKind::Token);
  };
  int64_t from = tokens(getSource()), to = tokens(getDest());
  int64_t chunk = std::min(from, to);
  return pairUses("chunk", getPairs(),
                  {{getSource(), from / chunk}, {getDest(), to / chunk}});
}

SmallVector<TiedExtents> TransferOp::getTiedExtents() { return {}; }
