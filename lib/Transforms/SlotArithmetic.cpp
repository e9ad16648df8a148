// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "SlotArithmetic.h"

#include "kvcache/Analysis/Memory.h"
#include "kvcache/IR/KVCache.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace kvcache;

/// The linalg.generic that alone writes a local buffer, each entry of which is
/// computed from the entries of the same index.
static linalg::GenericOp findOnlyWriter(Value list) {
  auto alloc = list.getDefiningOp<memref::AllocOp>();
  if (!alloc || alloc.getType().getRank() != 1 || escapes(list))
    return {};
  linalg::GenericOp writer;
  for (OpOperand &use : list.getUses()) {
    Operation *user = use.getOwner();
    if (auto generic = dyn_cast<linalg::GenericOp>(user)) {
      if (!generic.isDpsInit(&use))
        continue;
      if (writer)
        return {};
      writer = generic;
      continue;
    }
    // A view could be written through.
    bool isView = llvm::any_of(user->getResultTypes(),
                               llvm::IsaPred<BaseMemRefType, CacheType>);
    if (isView || (!isa<memref::DeallocOp>(user) && findWriter(user, list)))
      return {};
  }
  if (!writer || writer.getNumLoops() != 1 || writer.getNumReductionLoops() ||
      !llvm::all_of(writer.getIndexingMapsArray(),
                    [](AffineMap map) { return map.isIdentity(); }))
    return {};
  return writer;
}

namespace {

struct Arithmetic {
  Value of;
  int64_t by;
  DividedList::Kind kind;
};

std::optional<int64_t> constantOf(Value value) {
  APInt number;
  if (!matchPattern(value, m_ConstantInt(&number)) ||
      number.getSignificantBits() > 64)
    return std::nullopt;
  return number.getSExtValue();
}

std::optional<Arithmetic> matchQuotient(Value value) {
  using Kind = DividedList::Kind;
  Operation *op = value.getDefiningOp();
  if (!op || op->getNumOperands() != 2)
    return std::nullopt;
  std::optional<int64_t> by = constantOf(op->getOperand(1));
  if (!by || *by < 1)
    return std::nullopt;
  bool isShift = isa<arith::ShRSIOp, arith::ShRUIOp>(op);
  if (isShift && *by > 40)
    return std::nullopt;
  std::optional<Kind> kind =
      llvm::TypeSwitch<Operation *, std::optional<Kind>>(op)
          .Case([](arith::DivSIOp) { return Kind::Truncated; })
          .Case<arith::FloorDivSIOp, arith::ShRSIOp>(
              [](auto) { return Kind::Floor; })
          .Case<arith::DivUIOp, arith::ShRUIOp>(
              [](auto) { return Kind::Unsigned; })
          .Default([](Operation *) { return std::nullopt; });
  if (!kind)
    return std::nullopt;
  return Arithmetic{op->getOperand(0), isShift ? int64_t(1) << *by : *by,
                    *kind};
}

std::optional<Arithmetic> matchRemainder(Value value) {
  using Kind = DividedList::Kind;
  Operation *op = value.getDefiningOp();
  if (!op || op->getNumOperands() != 2)
    return std::nullopt;
  // slot - quotient * N
  if (isa<arith::SubIOp>(op)) {
    auto product = op->getOperand(1).getDefiningOp<arith::MulIOp>();
    if (!product)
      return std::nullopt;
    std::optional<Arithmetic> quotient = matchQuotient(product.getLhs());
    std::optional<int64_t> by = constantOf(product.getRhs());
    if (!quotient || quotient->of != op->getOperand(0) || by != quotient->by)
      return std::nullopt;
    return quotient;
  }
  std::optional<int64_t> by = constantOf(op->getOperand(1));
  if (!by)
    return std::nullopt;
  if (isa<arith::RemSIOp>(op) && *by > 0)
    return Arithmetic{op->getOperand(0), *by, Kind::Truncated};
  if (isa<arith::RemUIOp>(op) && *by > 0)
    return Arithmetic{op->getOperand(0), *by, Kind::Unsigned};
  // The low bits: what floor division leaves.
  bool isMask = *by >= 0 && *by < (int64_t(1) << 40) && (*by & (*by + 1)) == 0;
  if (isa<arith::AndIOp>(op) && isMask)
    return Arithmetic{op->getOperand(0), *by + 1, Kind::Floor};
  return std::nullopt;
}

std::optional<DividedList>
findDivided(Value list, StringRef what,
            llvm::function_ref<std::optional<Arithmetic>(Value)> match,
            std::string &why) {
  linalg::GenericOp generic = findOnlyWriter(list);
  if (!generic) {
    why = (what + " are not computed element by element by one operation only")
              .str();
    return std::nullopt;
  }
  unsigned output = 0;
  for (auto [i, init] : llvm::enumerate(generic.getDpsInits()))
    if (init == list)
      output = i;
  Block *body = generic.getBody();
  std::optional<Arithmetic> found =
      match(body->getTerminator()->getOperand(output));
  if (!found) {
    why = (what + " are not the " +
           (what == "blocks" ? "quotient" : "remainder") +
           " of a list by a constant")
              .str();
    return std::nullopt;
  }
  Value of = found->of;
  if (auto wider = of.getDefiningOp<arith::ExtSIOp>())
    of = wider.getIn();
  auto argument = dyn_cast<BlockArgument>(of);
  if (!argument || argument.getOwner() != body ||
      argument.getArgNumber() >= generic.getNumDpsInputs()) {
    why = (what + " are computed from more than a list of slots").str();
    return std::nullopt;
  }
  DividedList divided;
  divided.slots = generic.getDpsInputs()[argument.getArgNumber()];
  if (findWriter(generic, divided.slots)) {
    why = (what + " are computed in a loop that may overwrite the slots").str();
    return std::nullopt;
  }
  divided.made = generic;
  divided.by = found->by;
  divided.kind = found->kind;
  return divided;
}

} // namespace

std::optional<DividedList> kvcache::findQuotient(Value blocks,
                                                 std::string &why) {
  return findDivided(blocks, "blocks", matchQuotient, why);
}

std::optional<DividedList> kvcache::findRemainder(Value offsets,
                                                  std::string &why) {
  return findDivided(offsets, "offsets", matchRemainder, why);
}

/// Erases a loop, and the local buffers that it writes, if nobody reads them.
static void eraseIfUnread(linalg::GenericOp writer) {
  // The body may do more than to compute.
  for (Operation &op : *writer.getBody())
    if (!isMemoryEffectFree(&op))
      return;
  SmallVector<memref::AllocOp> buffers;
  for (Value init : writer.getDpsInits()) {
    auto made = init.getDefiningOp<memref::AllocOp>();
    if (!made)
      return;
    for (Operation *user : made->getUsers())
      if (user != writer && !isa<memref::DeallocOp, memref::DimOp>(user))
        return;
    if (!llvm::is_contained(buffers, made))
      buffers.push_back(made);
  }
  writer->erase();
  for (memref::AllocOp made : buffers) {
    for (Operation *user : llvm::make_early_inc_range(made->getUsers())) {
      if (auto dim = dyn_cast<memref::DimOp>(user)) {
        std::optional<int64_t> index = dim.getConstantIndex();
        if (index != 0 || made.getDynamicSizes().size() != 1)
          continue;
        dim.replaceAllUsesWith(made.getDynamicSizes()[0]);
      }
      user->erase();
    }
    if (made->use_empty())
      made->erase();
  }
}

void kvcache::eraseIfOnlyWritten(Value a, Value b) {
  // One loop may write both.
  linalg::GenericOp first = findOnlyWriter(a), second = findOnlyWriter(b);
  if (first)
    eraseIfUnread(first);
  if (second && second != first)
    eraseIfUnread(second);
}
