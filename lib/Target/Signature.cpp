// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Target/Signature.h"

#include "ProvenViews.h"
#include "Ties.h"

#include "../Conversion/Common/CacheLowering.h"
#include "kvcache/Analysis/OwnBody.h"
#include "kvcache/IR/KVCache.h"
#include "kvcache/IR/Sources.h"
#include "kvcache/IR/Strides.h"
#include "kvcache/Layout/Transfers.h"
#include "kvcache/Runtime/kv_abi.h"
#include "kvrt_records.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/TypeSwitch.h"

#include <map>
#include <numeric>
#include <set>

using namespace mlir;
using namespace kvcache;
using namespace kvcache::target;

namespace {

/// What buffer-results-to-out-params gives to the arguments that it adds.
constexpr StringLiteral kResultAttr = "bufferize.result";

using Dim = std::pair<unsigned, unsigned>; ///< argument, dimension

class Describer {
public:
  Describer(func::FuncOp function, ArgumentSignature::Device device)
      : function(function), device(device) {}

  FailureOr<FunctionSignature> describe() {
    signature.name = function.getName().str();
    bool isIdentifier = llvm::all_of(
        signature.name, [](char c) { return llvm::isAlnum(c) || c == '_'; });
    if (!isIdentifier)
      return emitError(function.getLoc())
             << "function '" << function.getName()
             << "' cannot be called from C: its name is expected to consist of "
                "letters, digits and underscores";
    if (function.getNumResults())
      return emitError(function.getLoc())
             << "function '" << function.getName()
             << "' cannot be an entry: result #0 of type "
             << function.getResultTypes()[0]
             << " is expected to be written to an argument instead";
    nameArguments();
    for (unsigned i = 0; i < function.getNumArguments(); ++i)
      if (failed(describeArgument(i)))
        return failure();
    if (failed(collectFromBody()))
      return failure();
    numberSymbols();
    return checkLimits();
  }

private:
  /// What the program calls its arguments, and `argN` for others, or the next
  /// name that is free.
  void nameArguments() {
    llvm::StringSet<> taken;
    for (unsigned i = 0; i < function.getNumArguments(); ++i) {
      auto name =
          function.getArgAttrOfType<StringAttr>(i, KVCacheDialect::kNameAttr);
      argumentNames.push_back(name ? name.str() : "");
      taken.insert(argumentNames.back());
    }
    for (auto [i, name] : llvm::enumerate(argumentNames)) {
      std::string free = "arg" + std::to_string(i);
      while (name.empty() && taken.contains(free))
        free += "_";
      if (name.empty())
        name = free;
      taken.insert(name);
    }
  }

  LogicalResult describeArgument(unsigned i) {
    ArgumentSignature arg;
    arg.name = argumentNames[i];
    Type type = function.getArgumentTypes()[i];
    firstOf.push_back(signature.arguments.size());
    if (auto batch = dyn_cast<BatchType>(type))
      return describeBatch(arg.name, batch, i);
    if (failed(claimName(arg.name)))
      return failure();
    llvm::raw_string_ostream(arg.type) << type;
    LogicalResult described =
        llvm::TypeSwitch<Type, LogicalResult>(type)
            .Case([&](CacheType t) { return describeCache(arg, t); })
            .Case<SlotsType, BlockTableType>([&](auto t) {
              return describeMemRef(arg, t.getMemRefType(), i);
            })
            .Case([&](MemRefType t) { return describeMemRef(arg, t, i); })
            .Case([&](IndexType) { return describeScalar(arg, true); })
            .Case([&](IntegerType t) {
              return t.getWidth() <= 64 ? describeScalar(arg, true) : failure();
            })
            .Case([&](FloatType t) {
              return t.isF32() || t.isF64() ? describeScalar(arg, false)
                                            : failure();
            })
            .Default([](Type) { return failure(); });
    if (failed(described))
      return emitError(function.getLoc())
             << "argument '" << arg.name << "' of function '"
             << function.getName() << "' cannot be passed from outside: "
             << "expected a cache, slots, a block table, a batch, a ranked "
                "strided memref or tensor of numbers, in the default memory "
                "space and without a constant offset or negative strides, an "
                "integer, f32 or f64, got "
             << type;
    arg.isResult = function.getArgAttr(i, kResultAttr) != nullptr;
    signature.arguments.push_back(std::move(arg));
    return success();
  }

  LogicalResult claimName(StringRef name) {
    if (names.insert(name).second)
      return success();
    return emitError(function.getLoc())
           << "function '" << function.getName()
           << "' has two arguments named '" << name << "'";
  }

  /// One argument for each member, named after the batch and the member.
  LogicalResult describeBatch(StringRef name, BatchType batch, unsigned i) {
    for (auto [member, type] :
         llvm::zip(batch.getMemberNames(), batch.getMemRefTypes())) {
      ArgumentSignature arg;
      arg.name = (name + "." + member).str();
      llvm::raw_string_ostream(arg.type) << batch;
      if (failed(claimName(arg.name)) || failed(describeMemRef(arg, type, i)))
        return failure();
      signature.arguments.push_back(std::move(arg));
    }
    return success();
  }

  /// The signature of an argument of the function that is no batch.
  ArgumentSignature &argumentAt(unsigned i) {
    return signature.arguments[firstOf[i]];
  }

  static LogicalResult describeScalar(ArgumentSignature &arg, bool isInt) {
    arg.kind =
        isInt ? ArgumentSignature::Kind::Int : ArgumentSignature::Kind::Float;
    arg.elementType = isInt ? "i64" : "f64";
    arg.dtype = isInt ? "int64" : "float64";
    arg.dlpackCode = isInt ? kDLInt : kDLFloat;
    arg.device = ArgumentSignature::Device::Cpu;
    return success();
  }

  static LogicalResult setElementType(ArgumentSignature &arg, Type type) {
    bool isInt = type.isInteger(8) || type.isInteger(16) ||
                 type.isInteger(32) || type.isInteger(64);
    auto format = dyn_cast<FormatTypeInterface>(type);
    if (format) {
      arg.dtype = format.getFormat().getDType().str();
      arg.dlpackCode = format.getFormat().getDLPackCode();
    } else if (isInt || type.isF64()) {
      unsigned bits = type.getIntOrFloatBitWidth();
      arg.dtype = (isInt ? "int" : "float") + std::to_string(bits);
      arg.dlpackCode = isInt ? kDLInt : kDLFloat;
    } else {
      return failure();
    }
    llvm::raw_string_ostream(arg.elementType) << type;
    arg.elementBits =
        format ? format.getFormat().getBits() : type.getIntOrFloatBitWidth();
    arg.align = arg.elementBits / 8;
    return success();
  }

  /// The rule of an axis of a cache, for the dimension that holds it.
  static DimRule ruleOf(const Layout &layout, unsigned i,
                        llvm::function_ref<unsigned(unsigned)> dimOfAxis) {
    const LayoutDim &dim = layout.dim(i);
    DimRule rule;
    rule.extent = dim.extent == kRunTime ? -1 : dim.extent;
    if (std::optional<unsigned> next = layout.nextFaster(i))
      rule.next = dimOfAxis(*next);
    rule.compact = dim.stride.kind == StrideFact::Kind::Compact;
    if (dim.stride.kind == StrideFact::Kind::Constant)
      rule.constant = dim.stride.value;
    if (dim.stride.kind == StrideFact::Kind::RunTime)
      rule.multiple = dim.stride.value;
    return rule;
  }

  /// Adds what `other` demands to `rule`. Fails where no tensor could have
  /// both.
  static LogicalResult intersect(DimRule &rule, const DimRule &other) {
    auto same = [](int64_t &value, int64_t theirs) {
      if (value < 0)
        value = theirs;
      return success(theirs < 0 || value == theirs);
    };
    int64_t multiple = rule.multiple / std::gcd(rule.multiple, other.multiple);
    bool tooLarge = multiple > kMaxExtent / other.multiple;
    if (failed(same(rule.extent, other.extent)) ||
        failed(same(rule.constant, other.constant)) || tooLarge ||
        (rule.compact && other.compact && rule.next != other.next))
      return failure();
    rule.multiple = multiple * other.multiple;
    if (!rule.compact)
      rule.next = other.next;
    rule.compact |= other.compact;
    return success();
  }

  static PoolSignature poolOf(CacheType type) {
    const Layout &layout = type.getLayout();
    PoolSignature pool;
    for (unsigned i = 0; i < layout.rank(); ++i)
      pool.axes.push_back(layout.dim(i).axis.str());
    for (unsigned k = 0; k < layout.rank(); ++k)
      pool.order.push_back(layout.orderAt(k));
    int64_t bytes = type.getElementBytes();
    Transfer block = blockTransfer(layout, bytes);
    pool.runBytes = block.runElements * bytes;
    // Axes from the slowest that are not part of the run: loops by dimension,
    // so that strides that are known at run time only are those of the tensor.
    int64_t inRun = 1;
    for (unsigned k = layout.rank(); k-- > 0;) {
      unsigned i = layout.orderAt(k);
      const LayoutDim &dim = layout.dim(i);
      if (dim.axis.kind == AxisKind::Block || dim.extent == 1)
        continue;
      if (inRun < block.runElements)
        inRun *= dim.extent;
      else
        pool.loops.insert(pool.loops.begin(), i);
    }
    return pool;
  }

  LogicalResult describeCache(ArgumentSignature &arg, CacheType type) {
    if (failed(setElementType(arg, type.getMemoryType())))
      return failure();
    const Layout &layout = type.getLayout();
    arg.align = layout.align();
    arg.device = type.getSpace() == MemorySpace::host
                     ? ArgumentSignature::Device::Cpu
                     : device;
    arg.dims.resize(layout.rank());
    for (unsigned i = 0; i < layout.rank(); ++i)
      arg.dims[i] = ruleOf(layout, i, [](unsigned axis) { return axis; });
    arg.pool = poolOf(type);
    return success();
  }

  LogicalResult describeMemRef(ArgumentSignature &arg, MemRefType type,
                               unsigned i) {
    SmallVector<int64_t> strides;
    int64_t offset;
    if (failed(setElementType(arg, type.getElementType())) ||
        failed(type.getStridesAndOffset(strides, offset)))
      return failure();
    // Code would add an offset of its type to what the caller gives, and walk
    // before it with a negative stride.
    auto isNegative = [](int64_t stride) {
      return ShapedType::isStatic(stride) && stride < 0;
    };
    if (llvm::any_of(strides, isNegative) || type.getMemorySpace() ||
        (ShapedType::isStatic(offset) && offset != 0))
      return failure();
    bool isHost = function.getArgAttr(i, KVCacheDialect::kHostAttr) != nullptr;
    arg.device = isHost ? ArgumentSignature::Device::Cpu : device;
    arg.align = argumentAlignment(function, i, type);
    arg.dims.resize(type.getRank());
    bool identity = type.getLayout().isIdentity();
    bool isPromised =
        function.getArgAttr(i, KVCacheDialect::kAlignAttr) != nullptr;
    for (int64_t d = 0; d < type.getRank(); ++d) {
      DimRule &rule = arg.dims[d];
      rule.extent = type.isDynamicDim(d) ? -1 : type.getDimSize(d);
      rule.next = d + 1 < type.getRank() ? d + 1 : -1;
      rule.compact = identity;
      if (identity)
        continue;
      // Rows are aligned like the base; where that is promised, so is every
      // part of a row.
      if (ShapedType::isStatic(strides[d]))
        rule.constant = strides[d];
      else if (d == 0 || (isPromised && d + 1 < type.getRank()))
        rule.multiple = std::max<int64_t>(1, arg.align * 8 / arg.elementBits);
    }
    return success();
  }

  /// Requirements and equal dimensions that follow from how arguments are
  /// used.
  LogicalResult collectFromBody() {
    auto equate = [&](const ArgumentExtent &a, const ArgumentExtent &b) {
      this->equate(a, b);
    };
    for (Value argument : function.getArguments())
      tieMembers(argument, equate);
    WalkResult walk = walkOwnBody(function, [&](Operation *op) {
      if (auto view = dyn_cast<ViewOp>(op))
        if (failed(requireView(view)))
          return WalkResult::interrupt();
      tieExtents(op, equate);
      if (auto effects = dyn_cast<MemoryEffectOpInterface>(op)) {
        SmallVector<MemoryEffects::EffectInstance> list;
        effects.getEffects(list);
        for (const MemoryEffects::EffectInstance &effect : list)
          if (isa<MemoryEffects::Write>(effect.getEffect()) &&
              effect.getValue())
            if (std::optional<unsigned> arg = argumentOf(effect.getValue()))
              argumentAt(*arg).isWritten = true;
      }
      return WalkResult::advance();
    });
    return failure(walk.wasInterrupted());
  }

  /// The packed buffer that a packed one is a reshape of.
  static Value reshapedFrom(Value value) {
    auto isPacked = [](Value buffer) {
      auto type = dyn_cast<MemRefType>(buffer.getType());
      return type && type.getLayout().isIdentity();
    };
    return furthestSource(value, [&](Value buffer) -> Value {
      Operation *op = buffer.getDefiningOp();
      bool isReshape =
          isa_and_present<memref::ExpandShapeOp, memref::CollapseShapeOp>(op) &&
          isPacked(buffer) && isPacked(op->getOperand(0));
      return isReshape ? op->getOperand(0) : Value();
    });
  }

  /// Null if the value is no argument of the function.
  BlockArgument ownArgument(Value value) {
    auto argument = dyn_cast<BlockArgument>(value);
    bool isOwn = argument && argument.getOwner() == &function.getBody().front();
    return isOwn ? argument : BlockArgument();
  }

  ArgumentSignature &requireAlign(BlockArgument argument, int64_t align) {
    ArgumentSignature &arg = argumentAt(argument.getArgNumber());
    arg.align = std::max(arg.align, align);
    return arg;
  }

  /// What the type of a view says beyond the type of its source becomes a
  /// requirement on the argument.
  LogicalResult requireView(ViewOp view) {
    const Layout &layout = view.getResult().getType().getLayout();
    BlockArgument argument = ownArgument(view.getSource());
    if (view.isByteView()) {
      // The view checks its offset, which says nothing without the base.
      if (argument) {
        requireAlign(argument, layout.align());
        return success();
      }
      if (!view.getSource().getDefiningOp<memref::AllocOp>())
        return view.emitOpError()
               << "the alignment is expected to be checked by the entry "
                  "function, so the bytes are expected to be an argument of "
                  "the public function '"
               << function.getName() << "' or a buffer that it allocates";
      return success();
    }
    // A buffer of ours is packed in the sequence of its dimensions, and the
    // verifier has compared the strides. So is a reshape of a packed buffer.
    auto dimOf = [&](unsigned i) { return view.sourceDim(i); };
    bool isPacked = layout.isCompact() && isInMemoryOrder(layout, dimOf);
    Value source = reshapedFrom(view.getSource());
    auto alloc = source.getDefiningOp<memref::AllocOp>();
    if (alloc && alloc.getType().getLayout().isIdentity() && isPacked &&
        layout.align() <= KVRT_WORKSPACE_ALIGN)
      return success();
    if (source != view.getSource() && isPacked)
      if (BlockArgument reshaped = ownArgument(source)) {
        requireAlign(reshaped, layout.align());
        return success();
      }
    if (!argument && isProvenByType(view))
      return success();
    if (!argument)
      return view.emitOpError()
             << "the layout is expected to be checked by the entry function, "
                "so the source is expected to be an argument of the public "
                "function '"
             << function.getName() << "'";
    ArgumentSignature &arg = requireAlign(argument, layout.align());
    if (arg.pool.axes.empty())
      arg.pool = poolSeenAs(view);
    for (unsigned i = 0; i < layout.rank(); ++i) {
      unsigned d = view.sourceDim(i);
      DimRule rule = ruleOf(
          layout, i, [&](unsigned axis) { return view.sourceDim(axis); });
      if (failed(intersect(arg.dims[d], rule)) || isOwnNext(arg, d))
        return view.emitOpError()
               << "no tensor has both this layout and the other properties "
                  "required of argument '"
               << arg.name << "': they disagree in dimension " << d;
    }
    return success();
  }

  /// Whether a dimension is faster than itself, after two views of different
  /// orders.
  static bool isOwnNext(const ArgumentSignature &arg, unsigned d) {
    int next = arg.dims[d].next;
    for (size_t i = 0; next >= 0 && i < arg.dims.size(); ++i) {
      if (next == int(d))
        return true;
      next = arg.dims[next].next;
    }
    return false;
  }

  /// A tensor that is viewed as a cache: axes as its dimensions are listed.
  static PoolSignature poolSeenAs(ViewOp view) {
    PoolSignature listed = poolOf(view.getResult().getType()), pool = listed;
    for (unsigned i = 0; i < listed.axes.size(); ++i)
      pool.axes[view.sourceDim(i)] = listed.axes[i];
    for (unsigned &axis : pool.order)
      axis = view.sourceDim(axis);
    for (unsigned &axis : pool.loops)
      axis = view.sourceDim(axis);
    return pool;
  }

  std::optional<unsigned> argumentOf(Value value) {
    Value origin = furthestSource(value, [](Value view) -> Value {
      Operation *def = view.getDefiningOp();
      if (auto viewLike = dyn_cast_or_null<ViewLikeOpInterface>(def))
        return viewLike.getViewSource();
      bool isList = def && def->hasTrait<MakesIndexValue>() &&
                    !isa<BatchType>(view.getType());
      return isList ? def->getOperand(0) : Value();
    });
    BlockArgument argument = ownArgument(origin);
    if (!argument || isa<BatchType>(argument.getType()))
      return std::nullopt;
    return argument.getArgNumber();
  }

  Dim dimOf(ArgumentExtent extent) const {
    auto argument = cast<BlockArgument>(extent.of);
    return Dim(firstOf[argument.getArgNumber()] + extent.member, extent.dim);
  }

  void equate(const ArgumentExtent &a, const ArgumentExtent &b) {
    std::optional<ExtentRule> rule = ruleOfEqual(a, b);
    if (!rule)
      return;
    Dim dim = dimOf(rule->extent);
    if (!rule->of.of)
      constants.try_emplace(dim, rule->plus);
    else if (rule->times == 1 && rule->plus == 0)
      equalDims.unionSets(dim, dimOf(rule->of));
    else
      multiples.push_back({dim, dimOf(rule->of), rule->times, rule->plus});
  }

  DimRule &ruleAt(Dim dim) {
    return signature.arguments[dim.first].dims[dim.second];
  }

  void numberSymbols() {
    // What is known of one of several equal dimensions is known of all.
    for (auto [dim, extent] : std::map<Dim, int64_t>(constants))
      if (equalDims.contains(dim))
        for (Dim equal : equalDims.members(dim))
          constants.try_emplace(equal, extent);
    for (auto [dim, extent] : constants)
      if (ruleAt(dim).extent < 0)
        ruleAt(dim).extent = extent;
    // A dimension that another one is a multiple of needs a number, whatever
    // else is known of it.
    std::set<Dim> related;
    for (const Multiple &multiple : multiples)
      for (Dim dim : {multiple.dim, multiple.of}) {
        equalDims.insert(dim);
        related.insert(*equalDims.findLeader(dim));
      }
    std::map<Dim, int> numbers;
    for (auto [a, argument] : llvm::enumerate(signature.arguments))
      for (auto [d, rule] : llvm::enumerate(argument.dims)) {
        auto leader = equalDims.findLeader(Dim(a, d));
        if (leader == equalDims.member_end() ||
            (rule.extent >= 0 && !related.count(*leader)))
          continue;
        rule.symbol =
            numbers.try_emplace(*leader, int(numbers.size())).first->second;
      }
    signature.numSymbols = numbers.size();
    std::set<std::tuple<int, int, int64_t, int64_t>> seen;
    for (const Multiple &multiple : multiples) {
      SymbolRule rule = {ruleAt(multiple.dim).symbol,
                         ruleAt(multiple.of).symbol, multiple.times,
                         multiple.plus};
      if (!seen.insert({rule.symbol, rule.of, rule.times, rule.plus}).second)
        continue;
      signature.rules.push_back(rule);
      for (ArgumentSignature &argument : signature.arguments)
        for (DimRule &dim : argument.dims)
          if (dim.symbol == rule.symbol && dim.of < 0) {
            dim.of = rule.of;
            dim.times = rule.times;
            dim.plus = rule.plus;
          }
    }
  }

  FailureOr<FunctionSignature> checkLimits() {
    unsigned words = 0;
    for (const ArgumentSignature &arg : signature.arguments)
      words += arg.frameWords();
    auto within = [&](StringRef what, size_t got, unsigned most) {
      if (got > most)
        emitError(function.getLoc()) << "function '" << function.getName()
                                     << "' is expected to have at most " << most
                                     << " " << what << ", got " << got;
      return success(got <= most);
    };
    if (failed(within("arguments", signature.arguments.size(),
                      KVRT_MAX_ARGUMENTS)) ||
        failed(within("extents and strides of arguments", words,
                      KVRT_MAX_FRAME_WORDS)) ||
        failed(within("different extents that others depend on",
                      signature.numSymbols, KVRT_MAX_SYMBOLS)))
      return failure();
    return signature;
  }

  func::FuncOp function;
  ArgumentSignature::Device device;
  FunctionSignature signature;
  llvm::StringSet<> names;
  SmallVector<std::string> argumentNames;
  /// Where the arguments of the function begin in the signature.
  SmallVector<unsigned> firstOf;
  llvm::EquivalenceClasses<Dim> equalDims;
  std::map<Dim, int64_t> constants;
  struct Multiple {
    Dim dim, of;
    int64_t times, plus;
  };
  std::vector<Multiple> multiples;
};

} // namespace

void target::followRules(const FunctionSignature &function,
                         MutableArrayRef<int64_t> extents) {
  auto follow = [&](const SymbolRule &rule) {
    int64_t &extent = extents[rule.symbol], &of = extents[rule.of];
    int64_t before = extent < 0 ? of : extent;
    if ((extent < 0) == (of < 0))
      return false;
    if (extent < 0)
      extent = std::max<int64_t>(-1, rule.times * before + rule.plus);
    else if ((before - rule.plus) % rule.times == 0)
      of = std::max<int64_t>(-1, (before - rule.plus) / rule.times);
    return extent >= 0 && of >= 0;
  };
  while (llvm::any_of(function.rules, follow))
    continue;
}

FailureOr<std::vector<FunctionSignature>>
target::describeFunctions(ModuleOp module, ArgumentSignature::Device device) {
  std::vector<FunctionSignature> signatures;
  llvm::StringSet<> symbols;
  for (auto function : module.getOps<func::FuncOp>()) {
    if (function.isExternal())
      return emitError(function.getLoc())
             << "function '" << function.getName()
             << "' is expected to have a body: a library "
                "calls no function of its user";
    if (!function.isPublic())
      continue;
    for (StringRef suffix : {"", "_workspace_size"})
      if (!symbols.insert((function.getName() + suffix).str()).second)
        return emitError(function.getLoc())
               << "function '" << function.getName() << "' and another one "
               << "would both be called 'kv1_" << function.getName() << suffix
               << "'";
    FailureOr<FunctionSignature> signature =
        Describer(function, device).describe();
    if (failed(signature))
      return failure();
    signatures.push_back(std::move(*signature));
  }
  if (signatures.empty()) {
    // A module that is not written out has no place of its own.
    Block &body = *module.getBody();
    return emitError(body.empty() ? module.getLoc() : body.front().getLoc())
           << "the module is expected to have a public function";
  }
  return signatures;
}
