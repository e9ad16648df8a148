// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "NvvmOps.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace kvcache;

//===----------------------------------------------------------------------===//
// The kernel
//===----------------------------------------------------------------------===//

void NvvmOps::markKernel(LLVM::LLVMFuncOp function, int64_t threads) const {
  function->setAttr(NVVM::NVVMDialect::getKernelFuncAttrName(),
                    k.getUnitAttr());
  function->setAttr(NVVM::NVVMDialect::getMaxntidAttrName(),
                    k.getDenseI32ArrayAttr({int32_t(threads)}));
}

void NvvmOps::takeMultiprocessor(LLVM::LLVMFuncOp function) const {
  function->setAttr(NVVM::NVVMDialect::getMinctasmAttrName(),
                    k.getI32IntegerAttr(1));
}

void NvvmOps::markMap(LLVM::LLVMFuncOp function, unsigned i) const {
  MLIRContext *context = k.getContext();
  auto type = LLVM::LLVMArrayType::get(k.getI8Type(), 128);
  function.setArgAttr(i, LLVM::LLVMDialect::getByValAttrName(),
                      TypeAttr::get(type));
  function.setArgAttr(i, LLVM::LLVMDialect::getAlignAttrName(),
                      k.getI64IntegerAttr(64));
  function.setArgAttr(i, NVVM::NVVMDialect::getGridConstantAttrName(),
                      UnitAttr::get(context));
}

Val NvvmOps::threadX() const {
  return k.val(NVVM::ThreadIdXOp::create(k, k.getI32Type()));
}
Val NvvmOps::blockSize() const {
  return k.val(NVVM::BlockDimXOp::create(k, k.getI32Type()));
}
Val NvvmOps::blockX() const {
  return k.val(NVVM::BlockIdXOp::create(k, k.getI32Type()));
}
Val NvvmOps::blockY() const {
  return k.val(NVVM::BlockIdYOp::create(k, k.getI32Type()));
}
Val NvvmOps::blockZ() const {
  return k.val(NVVM::BlockIdZOp::create(k, k.getI32Type()));
}
Val NvvmOps::gridX() const {
  return k.val(NVVM::GridDimXOp::create(k, k.getI32Type()));
}
Val NvvmOps::gridY() const {
  return k.val(NVVM::GridDimYOp::create(k, k.getI32Type()));
}

void NvvmOps::barrier() const { NVVM::Barrier0Op::create(k); }

Val NvvmOps::barrierAll(Value condition) const {
  Type type = k.getI32Type();
  Value number = arith::ExtUIOp::create(k, type, condition);
  auto reduction = NVVM::BarrierReductionAttr::get(k.getContext(),
                                                   NVVM::BarrierReduction::AND);
  Value all = NVVM::BarrierOp::create(k, TypeRange(type), Value(), Value(),
                                      reduction, number)
                  .getResult(0);
  return k.noti(k.eq(all, k.i32(0)));
}

//===----------------------------------------------------------------------===//
// Threads of a warp
//===----------------------------------------------------------------------===//

static constexpr int64_t kAllLanes = -1;

Val NvvmOps::shuffle(Val value, Value lane, int kind) const {
  auto shuffleKind = static_cast<NVVM::ShflKind>(kind);
  Value clamp = k.i32(shuffleKind == NVVM::ShflKind::up ? 0 : 31);
  auto one = [&](Value part) {
    return NVVM::ShflOp::create(k, part.getType(), k.i32(kAllLanes), part, lane,
                                clamp, shuffleKind, UnitAttr());
  };
  if (value.getType().getIntOrFloatBitWidth() == 32)
    return k.val(one(value));
  Val low = k.val(one(as(value, 32))), high = k.val(one(as(value >> 32, 32)));
  return k.val(k.extui64(low)) | (k.val(k.extui64(high)) << 32);
}
Val NvvmOps::shflIdx(Val value, Val lane) const {
  return shuffle(value, lane, int(NVVM::ShflKind::idx));
}
Val NvvmOps::shflUp(Val value, Val distance) const {
  return shuffle(value, distance, int(NVVM::ShflKind::up));
}
Val NvvmOps::shflXor(Val value, Val bits) const {
  return shuffle(value, bits, int(NVVM::ShflKind::bfly));
}
Val NvvmOps::reduxAdd(Val value) const {
  return k.val(NVVM::ReduxOp::create(k, value.getType(), value,
                                     NVVM::ReduxKind::ADD, k.i32(kAllLanes)));
}
Val NvvmOps::reduxMax(Val x) const {
  // In the order of integers: those of negative numbers are turned over.
  auto turned = [&](Val bits) {
    Val sign = k.val(arith::ShRSIOp::create(k, bits, bits.constant(31)));
    return bits ^ (sign & 0x7fffffff);
  };
  Val bits = turned(bitcastToInt(x));
  return bitcastToFloat(turned(k.val(NVVM::ReduxOp::create(
      k, bits.getType(), bits, NVVM::ReduxKind::MAX, k.i32(kAllLanes)))));
}
Val NvvmOps::voteBallot(Val condition) const {
  return k.val(NVVM::VoteSyncOp::create(k, k.getI32Type(), k.i32(kAllLanes),
                                        condition, NVVM::VoteSyncKind::ballot));
}
Val NvvmOps::voteAny(Val condition) const {
  return k.val(NVVM::VoteSyncOp::create(k, k.getI1Type(), k.i32(kAllLanes),
                                        condition, NVVM::VoteSyncKind::any));
}
void NvvmOps::syncWarp() const {
  NVVM::SyncWarpOp::create(k, k.i32(kAllLanes));
}

//===----------------------------------------------------------------------===//
// Floats
//===----------------------------------------------------------------------===//

Val NvvmOps::unary(StringRef intrinsic, Val x) const {
  return k.val(LLVM::CallIntrinsicOp::create(
                   k, x.getType(), k.getStringAttr(intrinsic), ValueRange{x})
                   .getResult(0));
}
Val NvvmOps::ex2(Val x) const { return unary("llvm.nvvm.ex2.approx.ftz", x); }
Val NvvmOps::lg2(Val x) const { return unary("llvm.nvvm.lg2.approx.ftz.f", x); }
Val NvvmOps::rcp(Val x) const {
  return k.val(NVVM::RcpApproxFtzF32Op::create(k, x.getType(), x));
}
Val NvvmOps::rsqrt(Val x) const { return unary("llvm.nvvm.rsqrt.approx.f", x); }
Val NvvmOps::ex2Subnormal(Val x) const {
  return unary("llvm.nvvm.ex2.approx", x);
}
Val NvvmOps::lg2Subnormal(Val x) const {
  return unary("llvm.nvvm.lg2.approx.f", x);
}
Value NvvmOps::cvtF8x2(Value low, Value high, Type f8) const {
  return NVVM::ConvertF32x2ToF8x2Op::create(
      k, k.getI16Type(), high, low, NVVM::FPRoundingMode::RN,
      NVVM::SaturationMode::SATFINITE, /*relu=*/false, f8);
}
Value NvvmOps::cvtF16x2(Value pair, Type f8) const {
  Value bytes =
      LLVM::BitcastOp::create(k, VectorType::get({2}, k.getI8Type()), pair);
  return NVVM::ConvertF8x2ToF16x2Op::create(
      k, VectorType::get({2}, k.getF16Type()), bytes, /*relu=*/false, f8);
}

//===----------------------------------------------------------------------===//
// Memory of the device
//===----------------------------------------------------------------------===//

/// The words of an access as scalars, which is what PTX text takes.
static SmallVector<Value> wordsOf(CodeBuilder &b, Value access) {
  auto vector = dyn_cast<VectorType>(access.getType());
  if (!vector) {
    Type i16 = b.getI16Type();
    if (access.getType().isInteger(8)) // PTX has no 8-bit registers
      access = arith::ExtUIOp::create(b, i16, access);
    return {access};
  }
  SmallVector<Value> words;
  for (int64_t i = 0; i < vector.getNumElements(); ++i) {
    Value index = LLVM::ConstantOp::create(b, b.getI32Type(), i);
    words.push_back(LLVM::ExtractElementOp::create(b, access, index));
  }
  return words;
}

Value NvvmOps::loadStreaming(Value pointer) const {
  SmallVector<Type> results(4, k.getI32Type());
  auto load = NVVM::InlinePtxOp::create(
      k, results, /*readOnlyArgs=*/ValueRange{pointer},
      /*readWriteArgs=*/ValueRange(),
      "ld.global.cs.v4.b32 {$0, $1, $2, $3}, [$4];", /*predicate=*/Value());
  Value access = LLVM::PoisonOp::create(k, accessType(k, 16));
  for (auto [i, word] : llvm::enumerate(load.getResults())) {
    Value index = LLVM::ConstantOp::create(k, k.getI32Type(), int64_t(i));
    access = LLVM::InsertElementOp::create(k, access, word, index);
  }
  return access;
}

void NvvmOps::storeIf(Value condition, Value value, Value pointer,
                      int64_t bytes, bool streaming) const {
  SmallVector<Value> operands = {pointer};
  llvm::append_range(operands, wordsOf(k, value));
  std::string ptx = "st.global";
  if (streaming)
    ptx += ".cs";
  if (bytes == 16)
    ptx += ".v4.b32 [$0], {$1, $2, $3, $4};";
  else if (bytes == 8)
    ptx += ".v2.b32 [$0], {$1, $2};";
  else
    ptx += ".b" + std::to_string(8 * bytes) + " [$0], $1;";
  NVVM::InlinePtxOp::create(k, TypeRange(), operands, ValueRange(), ptx,
                            condition);
}

Value NvvmOps::loadIf(Value condition, Value pointer, int64_t bytes) const {
  // Results are set first, so that none of them may share a register with an
  // operand.
  int64_t words = std::max<int64_t>(1, bytes / 4);
  bool isWide = bytes >= 4;
  Type word = isWide ? k.getI32Type() : k.getI16Type();
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
    result = LLVM::LLVMStructType::getLiteral(k.getContext(),
                                              SmallVector<Type>(words, word));
  auto load = LLVM::InlineAsmOp::create(
      k, TypeRange(result), ValueRange{pointer, condition}, text, constraints,
      /*has_side_effects=*/false, /*is_align_stack=*/false,
      LLVM::TailCallKind::None, LLVM::AsmDialectAttr(), ArrayAttr());
  Value value = load.getRes();
  if (words == 1)
    return bytes == 1 ? Value(k.sextOrTrunc(value, k.getI8Type())) : value;
  Value access = LLVM::PoisonOp::create(k, accessType(k, bytes));
  for (int64_t i = 0; i < words; ++i) {
    Value part = LLVM::ExtractValueOp::create(k, value, i);
    Value index = LLVM::ConstantOp::create(k, k.getI32Type(), i);
    access = LLVM::InsertElementOp::create(k, access, part, index);
  }
  return access;
}

Val NvvmOps::atomCasSystem(Value pointer, int32_t expected,
                           int32_t next) const {
  Value pair = LLVM::AtomicCmpXchgOp::create(
      k, pointer, k.i32(expected), k.i32(next), LLVM::AtomicOrdering::monotonic,
      LLVM::AtomicOrdering::monotonic);
  return k.val(LLVM::ExtractValueOp::create(k, pair, 0));
}
void NvvmOps::fenceSystem() const {
  LLVM::FenceOp::create(k, LLVM::AtomicOrdering::acq_rel);
}

//===----------------------------------------------------------------------===//
// Fragments
//===----------------------------------------------------------------------===//

static Vals fieldsOf(KernelBuilder &k, Value record, int64_t count) {
  Vals fields;
  for (int64_t i = 0; i < count; ++i)
    fields.emplace_back(k, LLVM::ExtractValueOp::create(k, record, i));
  return fields;
}

static Type several(Type type, int64_t count) {
  return LLVM::LLVMStructType::getLiteral(type.getContext(),
                                          SmallVector<Type>(count, type));
}

Vals NvvmOps::ldmatrix(Value pointer, bool transposed) const {
  auto shape = NVVM::LdStMatrixShapeAttr::get(k.getContext(), 8, 8);
  Value matrices = NVVM::LdMatrixOp::create(
      k, several(k.getI32Type(), 4), pointer, 4,
      transposed ? NVVM::MMALayout::col : NVVM::MMALayout::row, shape,
      NVVM::LdStMatrixEltType::B16);
  return fieldsOf(k, matrices, 4);
}

Vals NvvmOps::mmaSync(ArrayRef<Val> a, ArrayRef<Val> b, ArrayRef<Val> c,
                      Type type) const {
  std::optional<std::array<NVVM::MMATypes, 2>> types;
  auto operands = [&](ArrayRef<Val> registers) {
    SmallVector<Value> values;
    for (Val number : registers) {
      Value value = number;
      if (type.isF16())
        value = LLVM::BitcastOp::create(k, VectorType::get({2}, type), value);
      values.push_back(value);
    }
    return values;
  };
  if (type.isBF16())
    types = {NVVM::MMATypes::bf16, NVVM::MMATypes::bf16};
  Value sum = NVVM::MmaOp::create(
      k, several(k.getF32Type(), 4), operands(a), operands(b), valuesOf(c),
      ArrayRef<int64_t>{16, 8, 16}, std::nullopt, std::nullopt, types,
      std::array<NVVM::MMALayout, 2>{NVVM::MMALayout::row,
                                     NVVM::MMALayout::col});
  return fieldsOf(k, sum, 4);
}

Val NvvmOps::cvtPack(Val low, Val high, Type type) const {
  auto convert = [&](auto op) -> Value {
    return decltype(op)::create(k, VectorType::get({2}, type), high, low,
                                /*random_bits=*/Value(),
                                NVVM::FPRoundingMode::RN);
  };
  Value pair = type.isBF16() ? convert(NVVM::ConvertF32x2ToBF16x2Op())
                             : convert(NVVM::ConvertF32x2ToF16x2Op());
  return k.val(LLVM::BitcastOp::create(k, k.getI32Type(), pair));
}

Value NvvmOps::assembly(StringRef text, StringRef constraints,
                        TypeRange results, ValueRange operands,
                        bool hasSideEffects) const {
  auto op = LLVM::InlineAsmOp::create(
      k, results, operands, text, constraints, hasSideEffects,
      /*is_align_stack=*/false, LLVM::TailCallKind::None,
      LLVM::AsmDialectAttr(), ArrayAttr());
  return results.empty() ? Value() : op.getRes();
}

Val NvvmOps::movmatrix(Val matrix) const {
  return k.val(assembly("movmatrix.sync.aligned.m8n8.trans.b16 $0, $1;", "=r,r",
                        k.getI32Type(), ValueRange{matrix}, true));
}

Val NvvmOps::prmt(Val bytes, int64_t sequence, int64_t others) const {
  return k.val(LLVM::CallIntrinsicOp::create(
                   k, k.getI32Type(), k.getStringAttr("llvm.nvvm.prmt"),
                   ValueRange{bytes, k.i32(others), k.i32(sequence)})
                   .getResult(0));
}

Val NvvmOps::elect() const {
  return k.val(NVVM::ElectSyncOp::create(k, k.getI1Type(), Value()));
}
Val NvvmOps::rereadThreadX() const {
  return k.val(assembly("mov.u32 $0, %tid.x;", "=r", k.getI32Type(), {}, true));
}

//===----------------------------------------------------------------------===//
// Products of a warpgroup
//===----------------------------------------------------------------------===//

Val NvvmOps::wgmmaAddress(Value pointer) const {
  Val address =
      k.val(LLVM::PtrToIntOp::create(k, k.getI32Type(), pointer)) & 0x3ffff;
  return address >> 4;
}

Vals NvvmOps::wgmma(ArrayRef<Val> a, Val b, ArrayRef<Val> c, bool isFirst,
                    bool transposedB, Type type) const {
  int64_t count = c.size();
  std::string name = type.isBF16() ? "bf16" : "f16";
  std::string text, constraints;
  llvm::raw_string_ostream os(text);
  os << "wgmma.mma_async.sync.aligned.m64n" << 2 * count << "k16.f32." << name
     << "." << name << " {";
  for (int64_t i = 0; i < count; ++i) {
    os << (i ? ", $" : "$") << i;
    constraints += "=f,";
  }
  os << "}, ";
  bool isInRegisters = a.size() > 1;
  if (isInRegisters)
    os << "{$" << count << ", $" << count + 1 << ", $" << count + 2 << ", $"
       << count + 3 << "}";
  else
    os << "$" << count;
  constraints += isInRegisters ? "r,r,r,r,l" : "l,l";
  os << ", $" << count + a.size() << ", " << (isFirst ? 0 : 1) << ", 1, 1, ";
  if (!isInRegisters)
    os << "0, ";
  os << (transposedB ? 1 : 0) << ";";
  SmallVector<Value> operands = valuesOf(a);
  operands.push_back(b);
  for (int64_t i = 0; i < count; ++i) {
    operands.push_back(c[i]);
    constraints += "," + std::to_string(i);
  }
  Value sums = assembly(text, constraints, several(k.getF32Type(), count),
                        operands, true);
  return fieldsOf(k, sums, count);
}

void NvvmOps::wgmmaFence() const { NVVM::WgmmaFenceAlignedOp::create(k); }
void NvvmOps::wgmmaCommit() const { NVVM::WgmmaGroupSyncAlignedOp::create(k); }
void NvvmOps::wgmmaWait() const { NVVM::WgmmaWaitGroupSyncOp::create(k, 0); }

Vals NvvmOps::pin(ArrayRef<Val> registers) const {
  std::string constraints;
  for (Val one : registers)
    constraints += one.isFloat() ? "=f," : "=r,";
  SmallVector<Type> types;
  for (auto [i, one] : llvm::enumerate(registers)) {
    constraints += (i ? "," : "") + std::to_string(i);
    types.push_back(one.getType());
  }
  auto record = LLVM::LLVMStructType::getLiteral(k.getContext(), types);
  Value pinned = assembly("", constraints, record, valuesOf(registers), true);
  return fieldsOf(k, pinned, registers.size());
}

void NvvmOps::fenceProxyAsync() const {
  MLIRContext *context = k.getContext();
  NVVM::FenceProxyOp::create(
      k, NVVM::ProxyKindAttr::get(context, NVVM::ProxyKind::async_shared),
      NVVM::SharedSpaceAttr::get(context, NVVM::SharedSpace::shared_cta));
}

void NvvmOps::setMaxRegisters(int64_t count, bool isMore) const {
  NVVM::SetMaxRegisterOp::create(k, count,
                                 isMore ? NVVM::SetMaxRegisterAction::increase
                                        : NVVM::SetMaxRegisterAction::decrease);
}

//===----------------------------------------------------------------------===//
// Barriers
//===----------------------------------------------------------------------===//

void NvvmOps::mbarrierInit(Value barrier, int64_t count) const {
  NVVM::MBarrierInitOp::create(k, barrier, k.i32(count), Value());
}
void NvvmOps::fenceMbarrierInit() const {
  if (target.getTensorMaps())
    NVVM::FenceMbarrierInitOp::create(k);
}
void NvvmOps::mbarrierArrive(Value barrier) const {
  NVVM::MBarrierArriveOp::create(k, k.getI64Type(), barrier, Value());
}
void NvvmOps::mbarrierArriveExpectTx(Value barrier, Val bytes) const {
  NVVM::MBarrierArriveExpectTxOp::create(k, Type(), barrier, bytes,
                                         NVVM::MemScopeKind::CTA,
                                         /*relaxed=*/false, Value());
}
void NvvmOps::cpAsyncMbarrierArrive(Value barrier) const {
  NVVM::CpAsyncMBarrierArriveOp::create(k, barrier,
                                        /*noinc=*/true);
}
void NvvmOps::mbarrierWait(Value barrier, Val parity) const {
  if (target.getTryWait()) {
    NVVM::MBarrierTryWaitParityOp::create(k, barrier, parity,
                                          k.i32(10'000'000));
    return;
  }
  k.whileLoop(
      {},
      [&](const Vals &) -> CodeBuilder::Tested {
        Value done =
            NVVM::MBarrierTestWaitOp::create(k, k.getI1Type(), barrier, parity);
        return {!k.val(done), {}};
      },
      [&](const Vals &) { return Vals(); });
}
void NvvmOps::barSync(Val name, int64_t threads) const {
  NVVM::BarrierOp::create(k, TypeRange(), name, k.i32(threads),
                          NVVM::BarrierReductionAttr(), Value());
}
void NvvmOps::barArrive(Value name, int64_t threads) const {
  NVVM::BarrierArriveOp::create(k, name, k.i32(threads));
}

//===----------------------------------------------------------------------===//
// Shared memory
//===----------------------------------------------------------------------===//

Vals NvvmOps::ldSharedWords(Value pointer, unsigned count) const {
  auto four = VectorType::get({4}, k.getI32Type());
  Vals words;
  for (int64_t i = 0; i < count; i += 4) {
    Value vector =
        LLVM::LoadOp::create(k, four, k.byteOffset(pointer, k.i32(4 * i)), 16);
    for (int64_t j = 0; j < 4; ++j)
      words.push_back(
          k.val(LLVM::ExtractElementOp::create(k, vector, k.i32(j))));
  }
  words.resize(count);
  return words;
}

void NvvmOps::stSharedWords(Vals words, Value pointer) const {
  while (words.size() % 4)
    words.push_back(k.i32(0));
  auto four = VectorType::get({4}, k.getI32Type());
  for (size_t i = 0; i < words.size(); i += 4) {
    Value vector = LLVM::PoisonOp::create(k, four);
    for (int64_t j = 0; j < 4; ++j)
      vector = LLVM::InsertElementOp::create(k, vector, words[i + j], k.i32(j));
    k.store(vector, k.byteOffset(pointer, k.i32(4 * i)), 16);
  }
}

//===----------------------------------------------------------------------===//
// Copies
//===----------------------------------------------------------------------===//

void NvvmOps::cpAsync(Val isThere, Value to, Value from, int64_t bytes) const {
  Val size = select(isThere, k.i32(bytes), k.i32(0));
  NVVM::CpAsyncOp::create(k, to, from, uint32_t(bytes),
                          bytes == 16 ? NVVM::LoadCacheModifierKind::CG
                                      : NVVM::LoadCacheModifierKind::CA,
                          size);
}

void NvvmOps::cpAsyncWaitAll() const {
  NVVM::CpAsyncCommitGroupOp::create(k);
  NVVM::CpAsyncWaitGroupOp::create(k, 0);
}

void NvvmOps::prefetch(Value pointer) const {
  // For nvvm.prefetch, LLVM 22 selects no instruction before sm_90, and
  // prefetches the tensor map of a parameter twice.
  assembly("prefetch.global.L2 [$0];", "l", {}, pointer, true);
}

void NvvmOps::prefetchTensormap(Value map) const {
  assembly("prefetch.tensormap [$0];", "l", {}, map, true);
}

Val NvvmOps::createPolicyEvictFirst() const {
  return k.val(assembly("createpolicy.fractional.L2::evict_first.b64 $0, 1.0;",
                        "=l", k.getI64Type(), {}, true));
}

Val NvvmOps::createPolicyEvictLast() const {
  return k.val(assembly("createpolicy.fractional.L2::evict_last.b64 $0, 1.0;",
                        "=l", k.getI64Type(), {}, true));
}

void NvvmOps::tmaLoad(Value to, Value map, ArrayRef<Val> at, Value barrier,
                      Val policy) const {
  NVVM::CpAsyncBulkTensorGlobalToSharedClusterOp::create(
      k, to, map, valuesOf(at), barrier, ValueRange(), Value(), policy,
      NVVM::TMALoadMode::TILE, /*isCTAOnly=*/true, NVVM::CTAGroupKindAttr(),
      Value());
}

//===----------------------------------------------------------------------===//
// Between blocks of threads
//===----------------------------------------------------------------------===//

Val NvvmOps::ldRelaxed(Value pointer, unsigned bits) const {
  return k.val(LLVM::LoadOp::create(
      k, k.getIntegerType(bits), pointer, bits / 8,
      /*isVolatile=*/false, /*isNonTemporal=*/false, /*isInvariant=*/false,
      /*isInvariantGroup=*/false, LLVM::AtomicOrdering::monotonic, "device"));
}
Vals NvvmOps::ldRelaxed128(Value pointer) const {
  Value four = assembly("{ .reg .b128 x; .reg .b64 a, b;\n\t"
                        "ld.relaxed.gpu.global.b128 x, [$4];\n\t"
                        "mov.b128 {a, b}, x;\n\t"
                        "mov.b64 {$0, $1}, a;\n\tmov.b64 {$2, $3}, b; }",
                        "=r,=r,=r,=r,l,~{memory}", several(k.getI32Type(), 4),
                        pointer, true);
  return fieldsOf(k, four, 4);
}
void NvvmOps::stRelaxed128(ArrayRef<Val> words, Value pointer) const {
  SmallVector<Value> operands = valuesOf(words);
  operands.push_back(pointer);
  assembly("{ .reg .b128 x; .reg .b64 a, b;\n\t"
           "mov.b64 a, {$0, $1};\n\tmov.b64 b, {$2, $3};\n\t"
           "mov.b128 x, {a, b};\n\tst.relaxed.gpu.global.b128 [$4], x; }",
           "r,r,r,r,l,~{memory}", {}, operands, true);
}
void NvvmOps::atomAdd(Value pointer, Val value) const {
  LLVM::AtomicRMWOp::create(k, LLVM::AtomicBinOp::add, pointer, value,
                            LLVM::AtomicOrdering::monotonic, "device");
}
Val NvvmOps::atomAddAcqRel(Value pointer, Val value) const {
  return k.val(LLVM::AtomicRMWOp::create(k, LLVM::AtomicBinOp::add, pointer,
                                         value, LLVM::AtomicOrdering::acq_rel,
                                         "device"));
}
void NvvmOps::fenceDevice() const {
  LLVM::FenceOp::create(k, LLVM::AtomicOrdering::acq_rel, "device");
}
Val NvvmOps::atomExch(Value pointer, Val value) const {
  return k.val(LLVM::AtomicRMWOp::create(k, LLVM::AtomicBinOp::xchg, pointer,
                                         value, LLVM::AtomicOrdering::monotonic,
                                         "device"));
}

Val NvvmOps::atomCasAcqRel(Value pointer, Val expected, Val value) const {
  Value pair = LLVM::AtomicCmpXchgOp::create(
      k, pointer, expected, value, LLVM::AtomicOrdering::acq_rel,
      LLVM::AtomicOrdering::monotonic, "device");
  return k.val(LLVM::ExtractValueOp::create(k, pair, 0));
}

void NvvmOps::scheduleFence(Val number, int64_t never) const {
  // Pinned, nothing is known of it.
  Val isNever = pin({number}).front() == never;
  k.ifThen(unlikely(isNever), [&] { assembly("exit;", "", {}, {}, true); });
}
void NvvmOps::trap() const { assembly("trap;", "", {}, {}, true); }

void NvvmOps::assertFail(StringRef symbol, StringRef message) const {
  auto module =
      k.getBlock()->getParentOp()->getParentOfType<gpu::GPUModuleOp>();
  OpBuilder outside = OpBuilder::atBlockBegin(module.getBody());
  MLIRContext *context = k.getContext();
  auto pointer = LLVM::LLVMPointerType::get(context);
  auto text = [&](StringRef name, StringRef value) -> Value {
    auto global = module.lookupSymbol<LLVM::GlobalOp>(name);
    if (!global) {
      std::string bytes = value.str() + '\0';
      auto type = LLVM::LLVMArrayType::get(k.getI8Type(), bytes.size());
      global = LLVM::GlobalOp::create(
          outside, k.getLoc(), type, /*isConstant=*/true,
          LLVM::Linkage::Internal, name, k.getStringAttr(bytes));
    }
    return LLVM::AddressOfOp::create(k, pointer, global.getSymName());
  };
  StringRef name = "__assertfail";
  auto function = module.lookupSymbol<LLVM::LLVMFuncOp>(name);
  if (!function) {
    Type i32 = k.getI32Type(), i64 = k.getI64Type();
    auto type =
        LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(context),
                                    {pointer, pointer, i32, pointer, i64});
    function = LLVM::LLVMFuncOp::create(outside, k.getLoc(), name, type);
  }
  Value what = text(symbol, message), where = text("message_place", "kvcache");
  LLVM::CallOp::create(k, function,
                       ValueRange{what, where, k.i32(0), where, k.i64(1)});
}
