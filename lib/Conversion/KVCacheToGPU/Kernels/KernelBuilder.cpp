// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "KernelBuilder.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace kvcache;

static constexpr unsigned kGlobalMemory = 1;
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
  address = builder.createOrFold<arith::AddIOp>(loc, address, shift);
  Value integer =
      arith::IndexCastOp::create(builder, loc, builder.getI64Type(), address);
  auto pointer = LLVM::LLVMPointerType::get(builder.getContext());
  operands.push_back(LLVM::IntToPtrOp::create(builder, loc, pointer, integer));
  parameterTypes.push_back(
      LLVM::LLVMPointerType::get(builder.getContext(), kGlobalMemory));
  return operands.size() - 1;
}

unsigned KernelOperands::addIndex(Value index) {
  Type i64 = builder.getI64Type();
  operands.push_back(arith::IndexCastOp::create(builder, loc, i64, index));
  parameterTypes.push_back(i64);
  return operands.size() - 1;
}

void kvcache::emitLaunch(OpBuilder &builder, Location loc, SymbolRefAttr kernel,
                         Value gridX, Value gridY, int64_t threads,
                         const KernelOperands &operands) {
  Value one = arith::ConstantIndexOp::create(builder, loc, 1);
  Value block = arith::ConstantIndexOp::create(builder, loc, threads);
  gpu::LaunchFuncOp::create(
      builder, loc, kernel, gpu::KernelDim3{gridX, gridY, one},
      gpu::KernelDim3{block, one, one},
      /*dynamicSharedMemorySize=*/Value(), operands.values());
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

void KernelBuilder::finish() {
  LLVM::ReturnOp::create(builder, loc, ValueRange());
}

Value KernelBuilder::threadX() {
  return NVVM::ThreadIdXOp::create(builder, loc, builder.getI32Type());
}
Value KernelBuilder::blockX() {
  return NVVM::BlockIdXOp::create(builder, loc, builder.getI32Type());
}
Value KernelBuilder::blockY() {
  return NVVM::BlockIdYOp::create(builder, loc, builder.getI32Type());
}

Value KernelBuilder::integer(int64_t value, unsigned width) {
  return arith::ConstantIntOp::create(builder, loc, value, width);
}
Value KernelBuilder::i32(int64_t value) { return integer(value, 32); }
Value KernelBuilder::i64(int64_t value) { return integer(value, 64); }

Value KernelBuilder::widen(Value i32Value) {
  return arith::ExtUIOp::create(builder, loc, builder.getI64Type(), i32Value);
}
Value KernelBuilder::add(Value a, Value b) {
  return builder.createOrFold<arith::AddIOp>(loc, a, b);
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
Value KernelBuilder::ult(Value a, Value b) {
  return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, a, b);
}
Value KernelBuilder::select(Value condition, Value a, Value b) {
  return arith::SelectOp::create(builder, loc, condition, a, b);
}

Value KernelBuilder::byteOffset(Value pointer, Value bytes) {
  return LLVM::GEPOp::create(builder, loc, pointer.getType(),
                             builder.getI8Type(), pointer,
                             ArrayRef<LLVM::GEPArg>{bytes});
}

/// The integers that one access of a width moves.
static Type accessType(OpBuilder &builder, int64_t bytes) {
  if (bytes <= 4)
    return builder.getIntegerType(8 * bytes);
  return VectorType::get({bytes / 4}, builder.getI32Type());
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

Value KernelBuilder::loadScalar(Value pointer, Type type) {
  return LLVM::LoadOp::create(builder, loc, type, pointer,
                              type.getIntOrFloatBitWidth() / 8);
}
