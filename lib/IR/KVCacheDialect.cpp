// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/IR/KVCache.h"

#include "mlir/Bytecode/BytecodeImplementation.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Transforms/InliningUtils.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace kvcache;

#include "kvcache/IR/KVCacheDialect.cpp.inc"
#include "kvcache/IR/KVCacheEnums.cpp.inc"

namespace {
/// Without it `inline` refuses every function that holds one of our ops.
struct KVCacheInliner : DialectInlinerInterface {
  using DialectInlinerInterface::DialectInlinerInterface;
  bool isLegalToInline(Operation *, Region *, bool, IRMapping &) const final {
    return true;
  }
  bool isLegalToInline(Region *, Region *, bool, IRMapping &) const final {
    return true;
  }
};

/// Types are long; they are printed behind names such as `!kv_hnd`.
struct KVCacheAsm : OpAsmDialectInterface {
  using OpAsmDialectInterface::OpAsmDialectInterface;
  AliasResult getAlias(Type type, raw_ostream &os) const final {
    if (isa<SlotsType>(type)) {
      os << "kv_slots";
      return AliasResult::OverridableAlias;
    }
    if (isa<BlockTableType>(type)) {
      os << "kv_table";
      return AliasResult::OverridableAlias;
    }
    if (isa<BatchType>(type)) {
      os << "kv_batch";
      return AliasResult::OverridableAlias;
    }
    auto cache = dyn_cast<CacheType>(type);
    if (!cache)
      return AliasResult::NoAlias;
    const Layout &layout = cache.getLayout();
    os << "kv";
    if (layout.has(AxisKind::Layer))
      os << "_cross";
    // Heads before tokens, tokens before heads, or something else.
    std::string tail;
    for (unsigned i = 0; i < layout.rank(); ++i) {
      AxisKind kind = layout.dim(layout.orderAt(i)).axis.kind;
      if (kind == AxisKind::Token || kind == AxisKind::Head ||
          kind == AxisKind::Channel)
        tail += llvm::toLower(layout.dim(layout.orderAt(i)).axis.str()[0]);
    }
    os << "_" << tail;
    if (!layout.isCompact())
      os << "_strided";
    return AliasResult::OverridableAlias;
  }
};

/// The version of the dialect in bytecode. It is raised where a type or an
/// operation changes its meaning or its form; `upgradeFromVersion` then turns
/// what an older one wrote into what this one reads.
struct KVCacheVersion : DialectVersion {
  static constexpr uint64_t kCurrent = 1;
  explicit KVCacheVersion(uint64_t number) : number(number) {}
  uint64_t number;
};

struct KVCacheBytecode : BytecodeDialectInterface {
  KVCacheBytecode(Dialect *dialect) : BytecodeDialectInterface(dialect) {}
  void writeVersion(DialectBytecodeWriter &writer) const final {
    writer.writeVarInt(KVCacheVersion::kCurrent);
  }
  std::unique_ptr<DialectVersion>
  readVersion(DialectBytecodeReader &reader) const final {
    uint64_t number;
    if (failed(reader.readVarInt(number)))
      return nullptr;
    if (number > KVCacheVersion::kCurrent) {
      reader.emitError()
          << "bytecode of dialect 'kvcache' is expected to be of version "
          << KVCacheVersion::kCurrent << " or lower, got " << number;
      return nullptr;
    }
    return std::make_unique<KVCacheVersion>(number);
  }
};
} // namespace

void KVCacheDialect::initialize() {
  registerTypes();
  addOperations<
#define GET_OP_LIST
#include "kvcache/IR/KVCacheOps.cpp.inc"
      >();
  addInterfaces<KVCacheAsm, KVCacheBytecode, KVCacheInliner>();
}

Operation *KVCacheDialect::materializeConstant(OpBuilder &builder,
                                               Attribute value, Type type,
                                               Location loc) {
  return arith::ConstantOp::materialize(builder, value, type, loc);
}

LogicalResult KVCacheDialect::verifyOperationAttribute(Operation *op,
                                                       NamedAttribute attr) {
  // kvcache-check-copies marks what the program copies itself.
  if (attr.getName() == "kvcache.asked" && isa<memref::CopyOp>(op) &&
      isa<UnitAttr>(attr.getValue()))
    return success();
  if (attr.getName() == kCheckedAttr &&
      op->getName().getStringRef() == "scf.if" &&
      isa<UnitAttr>(attr.getValue()))
    return success();
  if (attr.getName() == kTargetAttr) {
    if (isa<ModuleOp>(op) && isa<TargetAttr>(attr.getValue()))
      return success();
    return op->emitError() << "'" << kTargetAttr
                           << "' is expected to be a target, on a module, got "
                           << attr.getValue() << " on '" << op->getName()
                           << "'";
  }
  if (attr.getName() == kLaunchModeAttr) {
    if (op->getName().getStringRef() == "gpu.launch_func" &&
        isa<LaunchModeAttr>(attr.getValue()))
      return success();
    return op->emitError() << "'" << kLaunchModeAttr
                           << "' is expected to be a mode, on a launch, got "
                           << attr.getValue() << " on '" << op->getName()
                           << "'";
  }
  if (attr.getName() != kParallelBodyAttr)
    return op->emitError() << "unknown attribute '" << attr.getName().strref()
                           << "' on an operation";
  auto function = dyn_cast<FunctionOpInterface>(op);
  if (!function || !function.isExternal() ||
      !isa<FlatSymbolRefAttr>(attr.getValue()))
    return op->emitError()
           << "'" << kParallelBodyAttr
           << "' is expected to be the name of a function, on a function "
              "without a body, got "
           << attr.getValue() << " on '" << op->getName() << "'";
  return success();
}

LogicalResult KVCacheDialect::verifyRegionArgAttribute(Operation *op, unsigned,
                                                       unsigned index,
                                                       NamedAttribute attr) {
  if (attr.getName() == kNameAttr) {
    auto name = dyn_cast<StringAttr>(attr.getValue());
    if (!name || name.empty())
      return op->emitError()
             << "'kvcache.name' of argument #" << index
             << " is expected to be a string, got " << attr.getValue();
    // It ends up in a comment of C, in JSON and in C strings.
    if (!llvm::all_of(name.getValue(), [](char c) {
          return llvm::isAlnum(c) || StringRef("_.-$").contains(c);
        }))
      return op->emitError() << "'kvcache.name' of argument #" << index
                             << " is expected to consist of letters, digits "
                                "and '_', '.', '-' and '$', got "
                             << attr.getValue();
    return success();
  }
  if (attr.getName() == kAlignAttr) {
    auto number = dyn_cast<IntegerAttr>(attr.getValue());
    bool isNumber = number && !number.getType().isUnsignedInteger() &&
                    !number.getType().isSignedInteger() &&
                    number.getValue().isIntN(13);
    uint64_t align = isNumber ? number.getValue().getZExtValue() : 0;
    if (align > 4096 || !llvm::isPowerOf2_64(align) || number.getInt() < 1)
      return op->emitError()
             << "'kvcache.align' of argument #" << index
             << " is expected to be a power of two of at most 4096, got "
             << attr.getValue();
    // Accesses of single elements rely on it.
    auto function = dyn_cast<FunctionOpInterface>(op);
    auto type = function
                    ? dyn_cast<ShapedType>(function.getArgumentTypes()[index])
                    : ShapedType();
    if (type && type.getElementType().isIntOrFloat() &&
        align * 8 < type.getElementTypeBitWidth())
      return op->emitError()
             << "'kvcache.align' of argument #" << index
             << " is expected to be at least the size of an element of " << type
             << ", got " << attr.getValue();
    return success();
  }
  for (StringRef name : {kNoAliasAttr, kHostAttr}) {
    if (attr.getName() != name)
      continue;
    if (!isa<UnitAttr>(attr.getValue()))
      return op->emitError()
             << "'" << name << "' of argument #" << index
             << " is expected to have no value, got " << attr.getValue();
    return success();
  }
  return op->emitError() << "unknown attribute '" << attr.getName().strref()
                         << "' on an argument; expected '" << kNameAttr
                         << "', '" << kAlignAttr << "', '" << kHostAttr
                         << "' or '" << kNoAliasAttr << "'";
}
