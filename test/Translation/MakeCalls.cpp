// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "MakeCalls.h"

#include "kvcache/Analysis/Memory.h"
#include "kvcache/IR/KVCache.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::run;
using namespace kvcache::target;

namespace {

/// What the entries of a list are, or a number.
enum class Role {
  Data,
  Slots,
  Blocks,
  Offsets,
  Table,
  Starts,
  Lengths,
  Positions,
  Pairs,
  SampledRows,
  Bytes, ///< of a pool
  Count, ///< of what is allocated
  First, ///< the lower bound of a loop, or where a pool begins
  Bound, ///< the upper bound of a loop
};

/// What is known of an argument of the signature.
struct Use {
  Role role = Role::Data;
  int64_t tokens = 1;  ///< in a block
  int64_t extent = -1; ///< of dimension 0, where it is free
};

constexpr int64_t kRequests = 2, kTableBlocks = 3, kSampled = 3,
                  kWholeBlocks = 2;
/// Enough for pools of the tests, in elements of a byte.
constexpr int64_t kPoolBytes = 1 << 23;

class CallMaker {
public:
  CallMaker(func::FuncOp function, const FunctionSignature &signature)
      : function(function), signature(signature) {
    for (Type type : function.getArgumentTypes()) {
      firstOf.push_back(uses.size());
      auto batch = dyn_cast<BatchType>(type);
      uses.resize(uses.size() + (batch ? batch.getMemberNames().size() : 1));
      if (!batch)
        continue;
      static constexpr Role members[] = {Role::Starts, Role::Lengths,
                                         Role::Table, Role::Positions};
      for (unsigned i = firstOf.back(); i < uses.size(); ++i)
        uses[i] = {members[i - firstOf.back()], batch.getTokens(), -1};
    }
    // What a function returns comes after its arguments in a call.
    uses.resize(std::max(uses.size(), signature.arguments.size()));
    function.walk([&](Operation *op) { collect(op); });
    // Numbers that address memory without a test: of a block of any pool, and
    // so of a row, too. As many rows as blocks leaves no number to be wrong.
    count = usesRawIndices ? 20 : 6;
    rawNumbers = count;
    for (const ArgumentSignature &arg : signature.arguments)
      if (arg.dims.size() > 1 && arg.dims[0].extent > 0)
        rawNumbers = std::min(rawNumbers, arg.dims[0].extent);
    collectSymbols();
  }

  Call make(bool isFirst) {
    Call call;
    for (auto [i, arg] : llvm::enumerate(signature.arguments)) {
      llvm::Expected<ArgumentSpec> spec =
          parseArgumentSpec(specOf(i, arg, isFirst));
      if (!spec)
        llvm::report_fatal_error(spec.takeError());
      call[arg.name] = *spec;
    }
    return call;
  }

private:
  //===------------------------------------------------------------------===//
  // What arguments are used for
  //===------------------------------------------------------------------===//

  Use *useOf(Value value) {
    auto argument = dyn_cast<BlockArgument>(rootOf(value));
    if (!argument || argument.getOwner() != &function.getBody().front() ||
        isa<BatchType>(argument.getType()))
      return nullptr;
    return &uses[firstOf[argument.getArgNumber()]];
  }

  void mark(Value value, Role role, int64_t tokens = 1) {
    Use *use = value ? useOf(value) : nullptr;
    if (use)
      *use = {role, tokens, use->extent};
  }

  void setExtent(Value value, int64_t extent) {
    if (Use *use = useOf(value))
      use->extent = extent;
  }

  /// Rows for all slots of some blocks.
  void collectWholeBlocks(BlockSlotsOp op) {
    int64_t rows = kWholeBlocks * static_cast<int64_t>(op.getTokens());
    mark(op.getBlocks(), Role::Blocks);
    setExtent(op.getBlocks(), kWholeBlocks);
    setExtent(op.getOut(), rows);
    for (Operation *user : op.getOut().getUsers())
      if (auto made = dyn_cast<MakeSlotsOp>(user))
        for (Operation *moved : made->getUsers())
          for (Value operand : moved->getOperands())
            if (isa<MemRefType>(operand.getType()))
              setExtent(operand, rows);
  }

  void markNumber(Value value, Role role) {
    if (!value)
      return;
    while (Operation *def = value.getDefiningOp()) {
      if (def->getNumOperands() != 1 || def->getNumResults() != 1)
        return;
      value = def->getOperand(0); // a cast
    }
    auto argument = cast<BlockArgument>(value);
    if (argument.getOwner() == &function.getBody().front())
      uses[firstOf[argument.getArgNumber()]].role = role;
  }

  /// Lists of blocks and of pairs. Slots and rows of a scatter are good or not
  /// as their padding says, and that is not said here where all is skipped.
  void collectEntries(CacheAccessOpInterface op) {
    for (const EntryUse &use : op.getIndexUses().entries)
      if (use.column)
        mark(use.list, Role::Pairs);
      else if (use.what == "block")
        mark(use.list, Role::Blocks);
  }

  void collect(Operation *op) {
    if (auto access = dyn_cast<CacheAccessOpInterface>(op))
      collectEntries(access);
    llvm::TypeSwitch<Operation *>(op)
        .Case([&](MakeSlotsOp o) {
          mark(o.getSource(), Role::Slots, o.getType().getRowsPerBlock());
        })
        .Case([&](ScatterOp o) {
          int64_t tokens = o.getCacheType().getLayout().extent(AxisKind::Token);
          mark(o.getBlocks(), Role::Blocks);
          mark(o.getOffsets(), Role::Offsets, tokens);
        })
        .Case([&](MakeBlockTableOp o) { mark(o.getSource(), Role::Table); })
        .Case([&](MakeBatchOp o) {
          mark(o.getStarts(), Role::Starts);
          mark(o.getLengths(), Role::Lengths, o.getType().getTokens());
          if (o.getPositions())
            mark(o.getPositions(), Role::Positions);
        })
        .Case([&](BlockSlotsOp o) { collectWholeBlocks(o); })
        .Case([&](MapBlocksOp o) { mark(o.getBlocks(), Role::Blocks); })
        .Case([&](SelectRowsOp o) { mark(o.getIndices(), Role::SampledRows); })
        .Case([&](AttentionOp o) { mark(o.getQuery(), Role::Data); })
        .Case([&](ViewOp o) {
          if (o.isByteView()) {
            mark(o.getSource(), Role::Bytes);
            markNumber(o.getOffset(), Role::First);
          }
        })
        .Case([&](scf::ForOp o) {
          markNumber(o.getLowerBound(), Role::First);
          markNumber(o.getUpperBound(), Role::Bound);
        })
        .Case([&](memref::AllocOp o) {
          for (Value size : o.getDynamicSizes())
            markNumber(size, Role::Count);
        })
        .Case<memref::LoadOp, memref::StoreOp>(
            [&](auto o) { usesRawIndices |= !o.getIndices().empty(); });
  }

  //===------------------------------------------------------------------===//
  // Shapes
  //===------------------------------------------------------------------===//

  static bool isBlockDim(const ArgumentSignature &arg, unsigned d) {
    return d < arg.pool.axes.size() && arg.pool.axes[d] == "B";
  }

  /// Extents that the operations make equal, and those that follow from others.
  /// What the use of an argument says goes first.
  void collectSymbols() {
    symbols.assign(signature.numSymbols, -1);
    auto settle = [&](llvm::function_ref<bool(unsigned, unsigned)> isSaid) {
      for (auto [i, arg] : llvm::enumerate(signature.arguments))
        for (auto [d, rule] : llvm::enumerate(arg.dims))
          if (rule.symbol >= 0 && symbols[rule.symbol] < 0 && isSaid(i, d)) {
            symbols[rule.symbol] =
                rule.extent >= 0 ? rule.extent : freeExtent(i, d);
            followRules(signature, symbols);
          }
    };
    settle([&](unsigned i, unsigned d) {
      return signature.arguments[i].dims[d].extent >= 0;
    });
    settle([&](unsigned i, unsigned d) {
      return d == 0 && uses[i].role == Role::SampledRows;
    });
    settle([&](unsigned i, unsigned d) {
      bool ofBatch = uses[i].role == Role::Starts ||
                     uses[i].role == Role::Lengths ||
                     uses[i].role == Role::Table;
      return d == 0 && signature.arguments[i].dims[d].of < 0 &&
             (ofBatch || uses[i].extent >= 0);
    });
    settle([&](unsigned i, unsigned d) {
      return signature.arguments[i].dims[d].of < 0;
    });
    settle([](unsigned, unsigned) { return true; });
  }

  std::vector<int64_t> shapeOf(unsigned i) const {
    const ArgumentSignature &arg = signature.arguments[i];
    std::vector<int64_t> shape;
    for (auto [d, rule] : llvm::enumerate(arg.dims)) {
      if (rule.extent >= 0)
        shape.push_back(rule.extent);
      else if (rule.symbol >= 0 && symbols[rule.symbol] >= 0)
        shape.push_back(symbols[rule.symbol]);
      else
        shape.push_back(freeExtent(i, d));
    }
    return shape;
  }

  int64_t freeExtent(unsigned i, unsigned d) const {
    if (d == 0 && uses[i].extent >= 0)
      return uses[i].extent;
    switch (uses[i].role) {
    case Role::Starts:
      return kRequests + 1;
    case Role::Lengths:
      return kRequests;
    case Role::Table:
      return d == 0 ? kRequests : kTableBlocks;
    case Role::Pairs:
      return 3;
    case Role::SampledRows:
      return kSampled;
    case Role::Bytes:
      return kPoolBytes;
    default:
      return count;
    }
  }

  /// The blocks that all pools have.
  int64_t blocks() const {
    int64_t least = -1;
    for (auto [i, arg] : llvm::enumerate(signature.arguments)) {
      std::vector<int64_t> shape = shapeOf(i);
      for (unsigned d = 0; d < shape.size(); ++d)
        if (isBlockDim(arg, d))
          least = least < 0 ? shape[d] : std::min(least, shape[d]);
    }
    return least < 0 ? count : least;
  }

  /// Rows of queries: what the last request ends with.
  int64_t queryRows() const {
    int64_t rows = count;
    const_cast<func::FuncOp &>(function).walk([&](AttentionOp op) {
      if (auto type = dyn_cast<MemRefType>(op.getQuery().getType()))
        if (!type.isDynamicDim(0))
          rows = type.getDimSize(0);
    });
    return rows;
  }

  /// Strides with gaps where the signature allows any.
  static std::vector<int64_t> stridesApart(const ArgumentSignature &arg,
                                           llvm::ArrayRef<int64_t> shape) {
    std::vector<int64_t> strides(shape.size(), -1);
    auto strideOf = [&](auto &self, unsigned d) -> int64_t {
      const DimRule &rule = arg.dims[d];
      if (strides[d] >= 0)
        return strides[d];
      int64_t span = 1;
      if (rule.next >= 0)
        span = std::max<int64_t>(1, shape[rule.next]) * self(self, rule.next);
      if (rule.constant >= 0)
        span = rule.constant;
      else if (!rule.compact && rule.next >= 0)
        span = llvm::alignTo(span + 1, rule.multiple);
      return strides[d] = span;
    };
    for (unsigned d = 0; d < shape.size(); ++d)
      strideOf(strideOf, d);
    return strides;
  }

  //===------------------------------------------------------------------===//
  // Values
  //===------------------------------------------------------------------===//

  std::string specOf(unsigned i, const ArgumentSignature &arg, bool isFirst) {
    if (arg.kind == ArgumentSignature::Kind::Float)
      return isFirst ? "1.5" : "-0.25";
    if (arg.kind == ArgumentSignature::Kind::Int)
      return std::to_string(numberOf(uses[i].role));
    std::vector<int64_t> shape = shapeOf(i);
    std::string text = valuesOf(i, arg, shape, isFirst);
    text += ",shape=" + listStr(shape);
    bool isPool = !arg.pool.axes.empty();
    if (isPool && !isFirst)
      text += ",strides=" + listStr(stridesApart(arg, shape));
    return text;
  }

  int64_t numberOf(Role role) const {
    switch (role) {
    case Role::Count:
      return count;
    case Role::First:
      return 0;
    case Role::Bound:
      return 2;
    default:
      return 1;
    }
  }

  static std::string random(int64_t low, int64_t high, unsigned seed) {
    return "random,range=[" + std::to_string(low) + "," + std::to_string(high) +
           "],seed=" + std::to_string(seed);
  }

  std::string valuesOf(unsigned i, const ArgumentSignature &arg,
                       llvm::ArrayRef<int64_t> shape, bool isFirst) const {
    unsigned seed = 2 * i + isFirst;
    int64_t past = isFirst ? 0 : 1; // numbers of padding, too
    int64_t last = blocks() - 1 + past;
    switch (uses[i].role) {
    case Role::Slots:
      return random(-2, blocks() * uses[i].tokens + 1, seed);
    case Role::Blocks:
      return random(-past, last, seed);
    case Role::Table:
      return random(-past, last, seed);
    case Role::Pairs:
      return random(-past, last, seed);
    case Role::Offsets:
      return random(-past, uses[i].tokens - 1 + past, seed);
    case Role::Lengths:
      return random(0, kTableBlocks * uses[i].tokens, seed);
    case Role::Positions:
      return random(0, 2, seed);
    case Role::Starts:
      return ascending(shape[0], queryRows());
    case Role::SampledRows:
      return ascending(shape[0], queryRows() - 1);
    case Role::Bytes:
      return random(0, 63, seed); // no NaN, whatever they are read as
    default:
      break;
    }
    bool isInteger = llvm::StringRef(arg.elementType).starts_with("i");
    if (isInteger && !usesRawIndices)
      return random(-2, 100, seed);
    // Parallel loops say nothing of two rows for one slot.
    if (isInteger)
      return shuffled(shape, seed);
    // Whole numbers are made faster.
    return elementsOf(shape) > 50000 ? random(-3, 3, seed)
                                     : "random,seed=" + std::to_string(seed);
  }

  /// As many as there are, or as 64 bits can say.
  static uint64_t elementsOf(llvm::ArrayRef<int64_t> shape) {
    uint64_t elements = 1;
    for (int64_t extent : shape)
      elements = llvm::SaturatingMultiply<uint64_t>(elements, extent);
    return elements;
  }

  /// The numbers that address any block, each as often as it takes.
  std::string shuffled(llvm::ArrayRef<int64_t> shape, unsigned seed) const {
    std::vector<int64_t> values;
    int64_t step = rawNumbers % 7 ? 7 : 5;
    for (int64_t k = 0, elements = elementsOf(shape); k < elements; ++k)
      values.push_back((step * k + seed) % rawNumbers);
    return listStr(values);
  }

  /// So many numbers from 0 to `last`.
  static std::string ascending(int64_t count, int64_t last) {
    std::vector<int64_t> values;
    for (int64_t k = 0; k < count; ++k)
      values.push_back(count > 1 ? last * k / (count - 1) : 0);
    return listStr(values);
  }

  func::FuncOp function;
  const FunctionSignature &signature;
  std::vector<unsigned> firstOf; ///< of each argument of the function
  std::vector<Use> uses;         ///< of each argument of the signature
  std::vector<int64_t> symbols;
  int64_t count = 0;      ///< of blocks and of rows, where any will do
  int64_t rawNumbers = 0; ///< from 0 on that address a block of any pool
  bool usesRawIndices = false;
};

} // namespace

std::vector<Call> kvcache::makeCalls(func::FuncOp function,
                                     const FunctionSignature &signature) {
  CallMaker maker(function, signature);
  return {maker.make(true), maker.make(false)};
}
