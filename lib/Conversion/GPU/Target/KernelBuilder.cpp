// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "KernelBuilder.h"

#include "../../Common/RuntimeCalls.h"
#include "TargetOps.h"
#include "kvcache/IR/Strides.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace kvcache;

static constexpr unsigned kGlobalMemory = 1;
static constexpr unsigned kSharedMemory = 3;

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

unsigned KernelOperands::addExtent(Value memref, unsigned dim) {
  return addIndex(CodeBuilder(builder, loc).dim(memref, dim));
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

StrideSource KernelOperands::addStrideOf(Value memref, unsigned dim) {
  std::vector<StridedDim> dims =
      *stridedDims(cast<MemRefType>(memref.getType()));
  StrideFact known = dims[dim].stride;
  if (known.kind == StrideFact::Kind::Constant)
    return {known.value};
  auto metadata =
      memref::ExtractStridedMetadataOp::create(builder, loc, memref);
  return addStride(std::nullopt, metadata.getStrides()[dim]);
}

unsigned KernelOperands::addFloat(Value number) {
  Value bits =
      arith::BitcastOp::create(builder, loc, builder.getI32Type(), number);
  operands.push_back(
      arith::ExtUIOp::create(builder, loc, builder.getI64Type(), bits));
  parameterTypes.push_back(builder.getI64Type());
  return operands.size() - 1;
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
                               int64_t sharedBytes, LaunchMode mode) {
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
  if (mode != LaunchMode::in_order)
    setLaunchMode(launch, mode);
  return launch;
}

LaunchMode kvcache::getLaunchMode(Operation *launch) {
  auto mode =
      launch->getAttrOfType<LaunchModeAttr>(KVCacheDialect::kLaunchModeAttr);
  return mode ? mode.getValue() : LaunchMode::in_order;
}

void kvcache::setLaunchMode(Operation *launch, LaunchMode mode) {
  launch->setAttr(KVCacheDialect::kLaunchModeAttr,
                  LaunchModeAttr::get(launch->getContext(), mode));
}

//===----------------------------------------------------------------------===//
// Device side
//===----------------------------------------------------------------------===//

static gpu::GPUModuleOp getKernelModule(ModuleOp module) {
  if (auto found = module.lookupSymbol<gpu::GPUModuleOp>(kKernelModule))
    return found;
  module->setAttr(gpu::GPUDialect::getContainerModuleAttrName(),
                  UnitAttr::get(module.getContext()));
  OpBuilder builder(module.getBody(), endOfModule(*module.getBody()));
  return gpu::GPUModuleOp::create(builder, module.getLoc(), kKernelModule);
}

KernelBuilder::KernelBuilder(ModuleOp module, Location loc, StringRef name,
                             ArrayRef<Type> parameters, int64_t threads)
    : CodeBuilder(loc, module.getContext()),
      ops(TargetOps::create(*this, TargetAttr::of(module))) {
  gpu::GPUModuleOp kernels = getKernelModule(module);
  std::string unique = name.str();
  for (unsigned n = 1; kernels.lookupSymbol(unique); ++n)
    unique = (name + "_" + Twine(n)).str();
  setInsertionPointToEnd(kernels.getBody());
  auto voidType = LLVM::LLVMVoidType::get(getContext());
  function = LLVM::LLVMFuncOp::create(
      *this, unique, LLVM::LLVMFunctionType::get(voidType, parameters));
  function->setAttr(gpu::GPUDialect::getKernelFuncAttrName(), getUnitAttr());
  ops->markKernel(function, threads);
  setInsertionPointToStart(function.addEntryBlock(*this));
}

KernelBuilder::~KernelBuilder() = default;

SymbolRefAttr KernelBuilder::symbol() {
  auto inner = FlatSymbolRefAttr::get(function.getNameAttr());
  return SymbolRefAttr::get(
      StringAttr::get(function.getContext(), kKernelModule), inner);
}

void KernelBuilder::takeMultiprocessor() { ops->takeMultiprocessor(function); }
void KernelBuilder::markMap(unsigned i) { ops->markMap(function, i); }

void KernelBuilder::finish() { LLVM::ReturnOp::create(*this, ValueRange()); }

Val KernelBuilder::threadX() { return ops->threadX(); }
Val KernelBuilder::blockSize() { return ops->blockSize(); }
Val KernelBuilder::blockX() { return ops->blockX(); }
Val KernelBuilder::blockY() { return ops->blockY(); }
Val KernelBuilder::blockZ() { return ops->blockZ(); }
Val KernelBuilder::gridX() { return ops->gridX(); }
Val KernelBuilder::gridY() { return ops->gridY(); }

Val KernelBuilder::floatParameter(unsigned i) {
  return fold<arith::BitcastOp>(getF32Type(),
                                sextOrTrunc(parameter(i), getI32Type()));
}

Val KernelBuilder::stride(const StrideSource &source, int64_t elementBytes) {
  if (source.constant)
    return i64(*source.constant * elementBytes);
  return muli(parameter(source.parameter), i64(elementBytes));
}

//===----------------------------------------------------------------------===//
// Control flow
//===----------------------------------------------------------------------===//

Val KernelBuilder::countFirst(int64_t count,
                              llvm::function_ref<Value(Value)> holds) {
  // In 32 bits: addresses are one instruction then.
  Val found = i32(0);
  for (int64_t step = count / 2;; step /= 2) {
    int64_t more = std::max<int64_t>(step, 1);
    Value isAfter = holds(addi(found, i32(more - 1)));
    found = addi(found, select(isAfter, i32(more), i32(0)));
    if (!step)
      return extui64(found);
  }
}

Val KernelBuilder::searchFirst(Value first, Value end,
                               llvm::function_ref<Value(Value)> holds) {
  return whileLoop(
             {val(first), val(end)},
             [&](const Vals &range) -> Tested {
               return {range[0] < range[1], range};
             },
             [&](const Vals &range) -> Vals {
               Val middle = range[0] + (range[1] - range[0]) / 2;
               Val found = val(holds(middle));
               Val above = middle + 1;
               return {kvcache::select(found, range[0], above),
                       kvcache::select(found, middle, range[1])};
             })
      .front();
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

Value KernelBuilder::byteOffset(Value pointer, Value bytes) {
  return LLVM::GEPOp::create(*this, pointer.getType(), getI8Type(), pointer,
                             ArrayRef<LLVM::GEPArg>{bytes});
}

Type kvcache::accessType(OpBuilder &builder, int64_t bytes) {
  if (bytes <= 4)
    return builder.getIntegerType(8 * bytes);
  return VectorType::get({bytes / 4}, builder.getI32Type());
}

Value KernelBuilder::zero(int64_t bytes) {
  return arith::ConstantOp::create(*this,
                                   getZeroAttr(accessType(*this, bytes)));
}

Value KernelBuilder::load(Value pointer, int64_t bytes, bool streaming) {
  if (!streaming || bytes < 16)
    return LLVM::LoadOp::create(*this, accessType(*this, bytes), pointer,
                                /*alignment=*/bytes);
  return ops->loadStreaming(pointer);
}

Value KernelBuilder::loadIf(Value condition, Value pointer, int64_t bytes) {
  return ops->loadIf(condition, pointer, bytes);
}

void KernelBuilder::storeIf(Value condition, Value value, Value pointer,
                            int64_t bytes, bool streaming) {
  ops->storeIf(condition, value, pointer, bytes, streaming);
}

void KernelBuilder::store(Value value, Value pointer, int64_t bytes) {
  LLVM::StoreOp::create(*this, value, pointer, /*alignment=*/bytes);
}

Val KernelBuilder::loadScalar(Value pointer, Type type) {
  return val(LLVM::LoadOp::create(*this, type, pointer,
                                  type.getIntOrFloatBitWidth() / 8));
}

void KernelBuilder::storeScalar(Value value, Value pointer) {
  LLVM::StoreOp::create(*this, value, pointer,
                        value.getType().getIntOrFloatBitWidth() / 8);
}

static Value entryAddress(KernelBuilder &k, Value array, Value index,
                          Type type) {
  int64_t bytes = type.getIntOrFloatBitWidth() / 8;
  return k.byteOffset(array, k.muli(index, k.i64(bytes)));
}

Val KernelBuilder::loadEntry(Value array, Value index, Type type) {
  return extsi64(loadScalar(entryAddress(*this, array, index, type), type));
}

Val KernelBuilder::loadEntryIf(Value condition, Value array, Value index,
                               Type type) {
  return extsi64(loadRawEntryIf(condition, array, index, type));
}

Val KernelBuilder::loadRawEntryIf(Value condition, Value array, Value index,
                                  Type type) {
  Value address = entryAddress(*this, array, index, type);
  int64_t bytes = type.getIntOrFloatBitWidth() / 8;
  Value value = loadIf(condition, address, bytes);
  if (bytes > 4)
    value = LLVM::BitcastOp::create(*this, type, value);
  return val(value);
}

void KernelBuilder::storeEntry(Value value, Value array, Value index,
                               Type type) {
  storeScalar(sextOrTrunc(value, type),
              entryAddress(*this, array, index, type));
}

Value KernelBuilder::join(ArrayRef<Value> pieces, int64_t bytes) {
  if (pieces.size() == 1)
    return pieces.front();
  int64_t total = bytes * pieces.size();
  Type piece = getIntegerType(8 * bytes);
  auto parts = VectorType::get({int64_t(pieces.size())}, piece);
  Value whole = LLVM::PoisonOp::create(*this, parts);
  for (auto [i, value] : llvm::enumerate(pieces)) {
    Value index = i32(i);
    Value bits = LLVM::BitcastOp::create(*this, piece, value);
    whole = LLVM::InsertElementOp::create(*this, whole, bits, index);
  }
  return LLVM::BitcastOp::create(*this, accessType(*this, total), whole);
}

Value KernelBuilder::shared(int64_t bytes) {
  InsertionGuard guard(*this);
  auto type = LLVM::LLVMArrayType::get(getI8Type(), bytes);
  std::string name =
      (function.getName() + "_shared_" + Twine(sharedBuffers++)).str();
  OpBuilder outside(function);
  auto buffer = LLVM::GlobalOp::create(
      outside, getLoc(), type, /*isConstant=*/false, LLVM::Linkage::Internal,
      name, Attribute(), /*alignment=*/16, kSharedMemory);
  setInsertionPointToStart(&function.getBody().front());
  return LLVM::AddressOfOp::create(*this, buffer);
}

void KernelBuilder::barrier() { ops->barrier(); }

Val KernelBuilder::barrierAll(Value condition) {
  return ops->barrierAll(condition);
}

Value KernelBuilder::dynamicShared() {
  OpBuilder outside(function);
  StringRef name = "dynamic_shared";
  auto kernels = function->getParentOfType<gpu::GPUModuleOp>();
  auto buffer = kernels.lookupSymbol<LLVM::GlobalOp>(name);
  if (!buffer)
    buffer = LLVM::GlobalOp::create(
        outside, getLoc(), LLVM::LLVMArrayType::get(getI8Type(), 0),
        /*isConstant=*/false, LLVM::Linkage::External, name, Attribute(),
        /*alignment=*/1024, kSharedMemory);
  return LLVM::AddressOfOp::create(*this, buffer);
}
