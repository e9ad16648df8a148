// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "KernelBuilder.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace kvcache;

static constexpr unsigned kGlobalMemory = 1;
static constexpr unsigned kSharedMemory = 3;
// A name that no function of a program has.
static constexpr StringLiteral kKernelModule = "kv_kernels";

//===----------------------------------------------------------------------===//
// Host side
//===----------------------------------------------------------------------===//

unsigned KernelOperands::addPointer(Value buffer, Value offset) {
  auto type = cast<MemRefType>(buffer.getType());
  int64_t bytes = type.getElementType().getIntOrFloatBitWidth() / 8;
  Value address =
      memref::ExtractAlignedPointerAsIndexOp::create(builder, loc, buffer);
  Value scale = arith::ConstantIndexOp::create(builder, loc, bytes);
  Value shift = builder.createOrFold<arith::MulIOp>(loc, offset, scale);
  return addAddress(builder.createOrFold<arith::AddIOp>(loc, address, shift));
}

unsigned KernelOperands::addAddress(Value address) {
  Value integer =
      arith::IndexCastOp::create(builder, loc, builder.getI64Type(), address);
  auto pointer = LLVM::LLVMPointerType::get(builder.getContext());
  operands.push_back(LLVM::IntToPtrOp::create(builder, loc, pointer, integer));
  parameterTypes.push_back(
      LLVM::LLVMPointerType::get(builder.getContext(), kGlobalMemory));
  return operands.size() - 1;
}

unsigned KernelOperands::addBuffer(Value memref) {
  auto metadata =
      memref::ExtractStridedMetadataOp::create(builder, loc, memref);
  return addPointer(metadata.getBaseBuffer(), metadata.getOffset());
}

unsigned KernelOperands::addIndex(Value index) {
  Type i64 = builder.getI64Type();
  operands.push_back(arith::IndexCastOp::create(builder, loc, i64, index));
  parameterTypes.push_back(i64);
  return operands.size() - 1;
}

StrideSource KernelOperands::addStride(std::optional<int64_t> constant,
                                       Value stride) {
  StrideSource source{constant};
  if (!constant)
    source.parameter = addIndex(stride);
  return source;
}

StrideSource KernelOperands::addRowStride(std::optional<int64_t> constant,
                                          Value memref) {
  if (constant)
    return {constant};
  auto metadata =
      memref::ExtractStridedMetadataOp::create(builder, loc, memref);
  return addStride(constant, metadata.getStrides()[0]);
}

unsigned KernelOperands::addMap(Value map) {
  operands.push_back(map);
  parameterTypes.push_back(map.getType());
  mapNumbers.push_back(operands.size() - 1);
  return mapNumbers.back();
}

Operation *kvcache::emitLaunch(OpBuilder &builder, Location loc,
                               SymbolRefAttr kernel, Value gridX, Value gridY,
                               Value gridZ, int64_t threads,
                               const KernelOperands &operands,
                               int64_t sharedBytes, bool together) {
  Value one = arith::ConstantIndexOp::create(builder, loc, 1);
  Value block = arith::ConstantIndexOp::create(builder, loc, threads);
  Value shared;
  if (sharedBytes)
    shared = arith::ConstantIntOp::create(builder, loc, sharedBytes, 32);
  auto launch = gpu::LaunchFuncOp::create(
      builder, loc, kernel, gpu::KernelDim3{gridX, gridY, gridZ ? gridZ : one},
      gpu::KernelDim3{block, one, one}, shared, operands.values());
  if (!operands.maps().empty())
    launch->setAttr(kByValueName,
                    builder.getDenseI32ArrayAttr(operands.maps()));
  if (together)
    launch->setAttr(kTogetherName, builder.getUnitAttr());
  return launch;
}

//===----------------------------------------------------------------------===//
// Device side
//===----------------------------------------------------------------------===//

static gpu::GPUModuleOp getKernelModule(ModuleOp module) {
  if (auto found = module.lookupSymbol<gpu::GPUModuleOp>(kKernelModule))
    return found;
  module->setAttr(gpu::GPUDialect::getContainerModuleAttrName(),
                  UnitAttr::get(module.getContext()));
  OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
  return gpu::GPUModuleOp::create(builder, module.getLoc(), kKernelModule);
}

KernelBuilder::KernelBuilder(ModuleOp module, Location loc, StringRef name,
                             ArrayRef<Type> parameters, int64_t threads)
    : builder(module.getContext()), loc(loc) {
  gpu::GPUModuleOp kernels = getKernelModule(module);
  std::string unique = name.str();
  for (unsigned n = 1; kernels.lookupSymbol(unique); ++n)
    unique = (name + "_" + Twine(n)).str();
  builder.setInsertionPointToEnd(kernels.getBody());
  auto voidType = LLVM::LLVMVoidType::get(builder.getContext());
  function = LLVM::LLVMFuncOp::create(
      builder, loc, unique, LLVM::LLVMFunctionType::get(voidType, parameters));
  function->setAttr(gpu::GPUDialect::getKernelFuncAttrName(),
                    builder.getUnitAttr());
  function->setAttr(NVVM::NVVMDialect::getKernelFuncAttrName(),
                    builder.getUnitAttr());
  function->setAttr(NVVM::NVVMDialect::getMaxntidAttrName(),
                    builder.getDenseI32ArrayAttr({int32_t(threads)}));
  builder.setInsertionPointToStart(function.addEntryBlock(builder));
}

SymbolRefAttr KernelBuilder::symbol() {
  auto inner = FlatSymbolRefAttr::get(function.getNameAttr());
  return SymbolRefAttr::get(
      StringAttr::get(function.getContext(), kKernelModule), inner);
}

void KernelBuilder::markMap(unsigned i) {
  MLIRContext *context = builder.getContext();
  auto type = LLVM::LLVMArrayType::get(builder.getI8Type(), 128);
  function.setArgAttr(i, LLVM::LLVMDialect::getByValAttrName(),
                      TypeAttr::get(type));
  function.setArgAttr(i, LLVM::LLVMDialect::getAlignAttrName(),
                      builder.getI64IntegerAttr(64));
  function.setArgAttr(i, NVVM::NVVMDialect::getGridConstantAttrName(),
                      UnitAttr::get(context));
}

void KernelBuilder::finish() {
  LLVM::ReturnOp::create(builder, loc, ValueRange());
}

Value KernelBuilder::threadX() {
  return NVVM::ThreadIdXOp::create(builder, loc, builder.getI32Type());
}
Value KernelBuilder::blockSize() {
  return NVVM::BlockDimXOp::create(builder, loc, builder.getI32Type());
}
Value KernelBuilder::blockX() {
  return NVVM::BlockIdXOp::create(builder, loc, builder.getI32Type());
}
Value KernelBuilder::blockY() {
  return NVVM::BlockIdYOp::create(builder, loc, builder.getI32Type());
}
Value KernelBuilder::blockZ() {
  return NVVM::BlockIdZOp::create(builder, loc, builder.getI32Type());
}
Value KernelBuilder::gridX() {
  return NVVM::GridDimXOp::create(builder, loc, builder.getI32Type());
}
Value KernelBuilder::gridY() {
  return NVVM::GridDimYOp::create(builder, loc, builder.getI32Type());
}

Value KernelBuilder::integer(int64_t value, unsigned width) {
  return arith::ConstantIntOp::create(builder, loc, value, width);
}
Value KernelBuilder::i32(int64_t value) { return integer(value, 32); }
Value KernelBuilder::i64(int64_t value) { return integer(value, 64); }
Value KernelBuilder::truth(bool value) { return integer(value, 1); }

Value KernelBuilder::widen(Value narrow) {
  return builder.createOrFold<arith::ExtUIOp>(loc, builder.getI64Type(),
                                              narrow);
}
Value KernelBuilder::extend(Value narrow) {
  return toInteger(narrow, builder.getI64Type());
}
Value KernelBuilder::toInteger(Value value, Type type) {
  unsigned from = value.getType().getIntOrFloatBitWidth();
  unsigned to = type.getIntOrFloatBitWidth();
  if (from == to)
    return value;
  if (from < to)
    return builder.createOrFold<arith::ExtSIOp>(loc, type, value);
  return builder.createOrFold<arith::TruncIOp>(loc, type, value);
}
Value KernelBuilder::add(Value a, Value b) {
  return builder.createOrFold<arith::AddIOp>(loc, a, b);
}
Value KernelBuilder::sub(Value a, Value b) {
  return builder.createOrFold<arith::SubIOp>(loc, a, b);
}
Value KernelBuilder::mul(Value a, Value b) {
  return builder.createOrFold<arith::MulIOp>(loc, a, b);
}
Value KernelBuilder::udiv(Value a, int64_t b) {
  Value divisor = integer(b, a.getType().getIntOrFloatBitWidth());
  return builder.createOrFold<arith::DivUIOp>(loc, a, divisor);
}
Value KernelBuilder::urem(Value a, int64_t b) {
  Value divisor = integer(b, a.getType().getIntOrFloatBitWidth());
  return builder.createOrFold<arith::RemUIOp>(loc, a, divisor);
}
Value KernelBuilder::smin(Value a, Value b) {
  return builder.createOrFold<arith::MinSIOp>(loc, a, b);
}
Value KernelBuilder::smax(Value a, Value b) {
  return builder.createOrFold<arith::MaxSIOp>(loc, a, b);
}
Value KernelBuilder::ult(Value a, Value b) {
  return builder.createOrFold<arith::CmpIOp>(loc, arith::CmpIPredicate::ult, a,
                                             b);
}
Value KernelBuilder::slt(Value a, Value b) {
  return builder.createOrFold<arith::CmpIOp>(loc, arith::CmpIPredicate::slt, a,
                                             b);
}
Value KernelBuilder::sle(Value a, Value b) {
  return builder.createOrFold<arith::CmpIOp>(loc, arith::CmpIPredicate::sle, a,
                                             b);
}
Value KernelBuilder::eq(Value a, Value b) {
  return builder.createOrFold<arith::CmpIOp>(loc, arith::CmpIPredicate::eq, a,
                                             b);
}
Value KernelBuilder::both(Value a, Value b) {
  return builder.createOrFold<arith::AndIOp>(loc, a, b);
}
Value KernelBuilder::bothOf(Value a, Value b) {
  if (!a || !b)
    return a ? a : b;
  return both(a, b);
}
Value KernelBuilder::isNot(Value a) {
  return builder.createOrFold<arith::XOrIOp>(loc, a, truth(true));
}
Value KernelBuilder::select(Value condition, Value a, Value b) {
  return builder.createOrFold<arith::SelectOp>(loc, condition, a, b);
}

Value KernelBuilder::stride(const StrideSource &source, int64_t elementBytes) {
  if (source.constant)
    return i64(*source.constant * elementBytes);
  return mul(parameter(source.parameter), i64(elementBytes));
}

//===----------------------------------------------------------------------===//
// Control flow
//===----------------------------------------------------------------------===//

void KernelBuilder::ifThen(Value condition, Body body) {
  auto branch = scf::IfOp::create(builder, loc, condition);
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(branch.thenBlock());
  body();
}

SmallVector<Value> KernelBuilder::loop(Value first, Value end, Value step,
                                       ValueRange start, LoopBody body) {
  auto op = scf::ForOp::create(builder, loc, first, end, step, start);
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(op.getBody());
  SmallVector<Value> next = body(op.getInductionVar(), op.getRegionIterArgs());
  if (!start.empty())
    scf::YieldOp::create(builder, loc, next);
  return SmallVector<Value>(op.getResults());
}

SmallVector<Value> KernelBuilder::loopWhile(ValueRange start, Test test,
                                            Step step) {
  auto op = scf::WhileOp::create(
      builder, loc, start.getTypes(), start,
      [&](OpBuilder &b, Location l, ValueRange values) {
        OpBuilder::InsertionGuard guard(builder);
        builder.setInsertionPoint(b.getInsertionBlock(), b.getInsertionPoint());
        scf::ConditionOp::create(builder, l, test(values), values);
      },
      [&](OpBuilder &b, Location l, ValueRange values) {
        OpBuilder::InsertionGuard guard(builder);
        builder.setInsertionPoint(b.getInsertionBlock(), b.getInsertionPoint());
        scf::YieldOp::create(builder, l, step(values));
      });
  return SmallVector<Value>(op.getResults());
}

SmallVector<Value> KernelBuilder::rolledLoop(Value first, Value end, Value step,
                                             ValueRange start, LoopBody body) {
  SmallVector<Value> results = loop(first, end, step, start, body);
  MLIRContext *context = builder.getContext();
  auto isOff = BoolAttr::get(context, true);
  auto unroll =
      LLVM::LoopUnrollAttr::get(context, isOff, {}, {}, {}, {}, {}, {});
  auto annotation = LLVM::LoopAnnotationAttr::get(
      context, {}, {}, {}, unroll, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {});
  Operation &op = *std::prev(builder.getInsertionPoint());
  cast<scf::ForOp>(op)->setAttr("loop_annotation", annotation);
  return results;
}

Value KernelBuilder::countFirst(int64_t count,
                                llvm::function_ref<Value(Value)> holds) {
  // In 32 bits: addresses are one instruction then.
  Value found = i32(0);
  for (int64_t step = count / 2;; step /= 2) {
    int64_t more = std::max<int64_t>(step, 1);
    Value isBehind = holds(add(found, i32(more - 1)));
    found = add(found, select(isBehind, i32(more), i32(0)));
    if (!step)
      return widen(found);
  }
}

Value KernelBuilder::searchFirst(Value first, Value end,
                                 llvm::function_ref<Value(Value)> holds) {
  return loopWhile(
             {first, end},
             [&](ValueRange range) { return slt(range[0], range[1]); },
             [&](ValueRange range) {
               Value middle = add(range[0], udiv(sub(range[1], range[0]), 2));
               Value found = holds(middle);
               Type type = middle.getType();
               Value above =
                   add(middle, integer(1, type.getIntOrFloatBitWidth()));
               return SmallVector<Value>{select(found, range[0], above),
                                         select(found, middle, range[1])};
             })
      .front();
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

Value KernelBuilder::byteOffset(Value pointer, Value bytes) {
  return LLVM::GEPOp::create(builder, loc, pointer.getType(),
                             builder.getI8Type(), pointer,
                             ArrayRef<LLVM::GEPArg>{bytes});
}

Type kvcache::accessType(OpBuilder &builder, int64_t bytes) {
  if (bytes <= 4)
    return builder.getIntegerType(8 * bytes);
  return VectorType::get({bytes / 4}, builder.getI32Type());
}

Value KernelBuilder::zero(int64_t bytes) {
  return arith::ConstantOp::create(
      builder, loc, builder.getZeroAttr(accessType(builder, bytes)));
}

/// The words of an access as scalars, which is what PTX text takes.
static SmallVector<Value> wordsOf(OpBuilder &builder, Location loc,
                                  Value access) {
  auto vector = dyn_cast<VectorType>(access.getType());
  if (!vector) {
    Type i16 = builder.getI16Type();
    if (access.getType().isInteger(8)) // PTX has no 8-bit registers
      access = arith::ExtUIOp::create(builder, loc, i16, access);
    return {access};
  }
  SmallVector<Value> words;
  for (int64_t i = 0; i < vector.getNumElements(); ++i) {
    Value index =
        LLVM::ConstantOp::create(builder, loc, builder.getI32Type(), i);
    words.push_back(
        LLVM::ExtractElementOp::create(builder, loc, access, index));
  }
  return words;
}

Value KernelBuilder::load(Value pointer, int64_t bytes, bool streaming) {
  Type type = accessType(builder, bytes);
  if (!streaming || bytes < 16)
    return LLVM::LoadOp::create(builder, loc, type, pointer,
                                /*alignment=*/bytes);
  SmallVector<Type> results(4, builder.getI32Type());
  auto load = NVVM::InlinePtxOp::create(
      builder, loc, results, /*readOnlyArgs=*/ValueRange{pointer},
      /*readWriteArgs=*/ValueRange(),
      "ld.global.cs.v4.b32 {$0, $1, $2, $3}, [$4];", /*predicate=*/Value());
  Value access = LLVM::PoisonOp::create(builder, loc, type);
  for (auto [i, word] : llvm::enumerate(load.getResults())) {
    Value index = LLVM::ConstantOp::create(builder, loc, builder.getI32Type(),
                                           int64_t(i));
    access = LLVM::InsertElementOp::create(builder, loc, access, word, index);
  }
  return access;
}

void KernelBuilder::storeIf(Value condition, Value value, Value pointer,
                            int64_t bytes, bool streaming) {
  SmallVector<Value> operands = {pointer};
  llvm::append_range(operands, wordsOf(builder, loc, value));
  std::string ptx = "st.global";
  if (streaming)
    ptx += ".cs";
  if (bytes == 16)
    ptx += ".v4.b32 [$0], {$1, $2, $3, $4};";
  else if (bytes == 8)
    ptx += ".v2.b32 [$0], {$1, $2};";
  else
    ptx += ".b" + std::to_string(8 * bytes) + " [$0], $1;";
  NVVM::InlinePtxOp::create(builder, loc, TypeRange(), operands, ValueRange(),
                            ptx, condition);
}

Value KernelBuilder::loadIf(Value condition, Value pointer, int64_t bytes) {
  // Results are set first, so that none of them may share a register with an
  // operand.
  int64_t words = std::max<int64_t>(1, bytes / 4);
  bool isWide = bytes >= 4;
  Type word = isWide ? builder.getI32Type() : builder.getI16Type();
  std::string type = ".b" + std::to_string(isWide ? 32 : 8 * bytes);
  std::string text, list, constraints;
  for (int64_t i = 0; i < words; ++i) {
    std::string result = "$" + std::to_string(i);
    text +=
        "mov.b" + std::to_string(isWide ? 32 : 16) + " " + result + ", 0;\n\t";
    list += (i ? ", " : "") + result;
    constraints += isWide ? "=&r," : "=&h,";
  }
  std::string pointerName = "$" + std::to_string(words);
  text += "@$" + std::to_string(words + 1) + " ld.global";
  if (words > 1)
    text += ".v" + std::to_string(words) + type + " {" + list + "}";
  else
    text += type + " " + list;
  text += ", [" + pointerName + "];";
  constraints += "l,b";
  Type result = word;
  if (words > 1)
    result = LLVM::LLVMStructType::getLiteral(builder.getContext(),
                                              SmallVector<Type>(words, word));
  auto load = LLVM::InlineAsmOp::create(
      builder, loc, TypeRange(result), ValueRange{pointer, condition}, text,
      constraints, /*has_side_effects=*/false, /*is_align_stack=*/false,
      LLVM::TailCallKind::None, LLVM::AsmDialectAttr(), ArrayAttr());
  Value value = load.getRes();
  if (words == 1)
    return bytes == 1 ? toInteger(value, builder.getI8Type()) : value;
  Value access =
      LLVM::PoisonOp::create(builder, loc, accessType(builder, bytes));
  for (int64_t i = 0; i < words; ++i) {
    Value part = LLVM::ExtractValueOp::create(builder, loc, value, i);
    Value index =
        LLVM::ConstantOp::create(builder, loc, builder.getI32Type(), i);
    access = LLVM::InsertElementOp::create(builder, loc, access, part, index);
  }
  return access;
}

void KernelBuilder::store(Value value, Value pointer, int64_t bytes) {
  LLVM::StoreOp::create(builder, loc, value, pointer, /*alignment=*/bytes);
}

Value KernelBuilder::loadScalar(Value pointer, Type type) {
  return LLVM::LoadOp::create(builder, loc, type, pointer,
                              type.getIntOrFloatBitWidth() / 8);
}

void KernelBuilder::storeScalar(Value value, Value pointer) {
  LLVM::StoreOp::create(builder, loc, value, pointer,
                        value.getType().getIntOrFloatBitWidth() / 8);
}

static Value entryAddress(KernelBuilder &k, Value array, Value index,
                          Type type) {
  int64_t bytes = type.getIntOrFloatBitWidth() / 8;
  return k.byteOffset(array, k.mul(index, k.i64(bytes)));
}

Value KernelBuilder::loadEntry(Value array, Value index, Type type) {
  return extend(loadScalar(entryAddress(*this, array, index, type), type));
}

Value KernelBuilder::loadEntryIf(Value condition, Value array, Value index,
                                 Type type) {
  return extend(loadRawEntryIf(condition, array, index, type));
}

Value KernelBuilder::loadRawEntryIf(Value condition, Value array, Value index,
                                    Type type) {
  Value address = entryAddress(*this, array, index, type);
  int64_t bytes = type.getIntOrFloatBitWidth() / 8;
  Value value = loadIf(condition, address, bytes);
  if (bytes > 4)
    value = LLVM::BitcastOp::create(builder, loc, type, value);
  return value;
}

void KernelBuilder::storeEntry(Value value, Value array, Value index,
                               Type type) {
  storeScalar(toInteger(value, type), entryAddress(*this, array, index, type));
}

/// A type, or a vector of several.
static Type several(Type type, int64_t elements) {
  return elements == 1 ? type : VectorType::get({elements}, type);
}

Value KernelBuilder::toFloats(Value access, int64_t elements, Type from) {
  Value value =
      LLVM::BitcastOp::create(builder, loc, several(from, elements), access);
  if (from.isF32())
    return value;
  Type floats = several(builder.getF32Type(), elements);
  return arith::ExtFOp::create(builder, loc, floats, value);
}

Value KernelBuilder::fromFloats(Value floats, int64_t elements, Type to) {
  if (!to.isF32())
    floats =
        arith::TruncFOp::create(builder, loc, several(to, elements), floats);
  int64_t bytes = elements * to.getIntOrFloatBitWidth() / 8;
  return LLVM::BitcastOp::create(builder, loc, accessType(builder, bytes),
                                 floats);
}

Value KernelBuilder::convert(Value access, int64_t elements, Type from,
                             Type to) {
  if (from == to)
    return access;
  return fromFloats(toFloats(access, elements, from), elements, to);
}

Value KernelBuilder::join(ArrayRef<Value> pieces, int64_t bytes) {
  if (pieces.size() == 1)
    return pieces.front();
  int64_t total = bytes * pieces.size();
  Type piece = builder.getIntegerType(8 * bytes);
  auto parts = VectorType::get({int64_t(pieces.size())}, piece);
  Value whole = LLVM::PoisonOp::create(builder, loc, parts);
  for (auto [i, value] : llvm::enumerate(pieces)) {
    Value index = i32(i);
    Value bits = LLVM::BitcastOp::create(builder, loc, piece, value);
    whole = LLVM::InsertElementOp::create(builder, loc, whole, bits, index);
  }
  return LLVM::BitcastOp::create(builder, loc, accessType(builder, total),
                                 whole);
}

Value KernelBuilder::shared(int64_t bytes) {
  OpBuilder::InsertionGuard guard(builder);
  auto type = LLVM::LLVMArrayType::get(builder.getI8Type(), bytes);
  std::string name =
      (function.getName() + "_shared_" + Twine(sharedBuffers++)).str();
  OpBuilder outside(function);
  auto buffer = LLVM::GlobalOp::create(
      outside, loc, type, /*isConstant=*/false, LLVM::Linkage::Internal, name,
      Attribute(), /*alignment=*/16, kSharedMemory);
  builder.setInsertionPointToStart(&function.getBody().front());
  return LLVM::AddressOfOp::create(builder, loc, buffer);
}

void KernelBuilder::barrier() { NVVM::Barrier0Op::create(builder, loc); }

Value KernelBuilder::barrierAll(Value condition) {
  Type type = builder.getI32Type();
  Value number = arith::ExtUIOp::create(builder, loc, type, condition);
  auto reduction = NVVM::BarrierReductionAttr::get(builder.getContext(),
                                                   NVVM::BarrierReduction::AND);
  Value all = NVVM::BarrierOp::create(builder, loc, TypeRange(type), Value(),
                                      Value(), reduction, number)
                  .getResult(0);
  return isNot(eq(all, i32(0)));
}

Value KernelBuilder::dynamicShared() {
  OpBuilder outside(function);
  StringRef name = "dynamic_shared";
  auto kernels = function->getParentOfType<gpu::GPUModuleOp>();
  auto buffer = kernels.lookupSymbol<LLVM::GlobalOp>(name);
  if (!buffer)
    buffer = LLVM::GlobalOp::create(
        outside, loc, LLVM::LLVMArrayType::get(builder.getI8Type(), 0),
        /*isConstant=*/false, LLVM::Linkage::External, name, Attribute(),
        /*alignment=*/1024, kSharedMemory);
  return LLVM::AddressOfOp::create(builder, loc, buffer);
}
