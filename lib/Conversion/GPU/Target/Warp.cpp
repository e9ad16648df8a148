// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "Warp.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace kvcache;

Num Warp::f32(float x) const {
  return number(arith::ConstantFloatOp::create(
      k.builder, k.loc, k.builder.getF32Type(), llvm::APFloat(x)));
}

//===----------------------------------------------------------------------===//
// Control flow
//===----------------------------------------------------------------------===//

/// Fills a block of a branch; what it gives is its result.
static void fill(KernelBuilder &k, Block *block, Warp::Give body) {
  OpBuilder::InsertionGuard guard(k.builder);
  k.builder.setInsertionPointToStart(block);
  scf::YieldOp::create(k.builder, k.loc, valuesOf(body()));
}

Nums Warp::when(Num condition, ArrayRef<Type> types, Give then,
                Give otherwise) const {
  auto branch = scf::IfOp::create(k.builder, k.loc, TypeRange(types), condition,
                                  /*addThenBlock=*/true, /*addElseBlock=*/true);
  fill(k, branch.thenBlock(), then);
  fill(k, branch.elseBlock(), otherwise);
  return numsOf(k, branch.getResults());
}

void Warp::when(Num condition, Then then, Then otherwise) const {
  when(
      condition, {}, [&] { return then(), Nums(); },
      [&] { return otherwise(), Nums(); });
}

Num Warp::seldom(Num condition) const {
  return number(
      LLVM::ExpectOp::create(k.builder, k.loc, condition, k.truth(false)));
}

Nums Warp::loop(Num first, Num end, Num step, const Nums &start,
                Step body) const {
  return numsOf(k, k.rolledLoop(first, end, step, valuesOf(start),
                                [&](Value i, ValueRange carried) {
                                  return valuesOf(
                                      body(number(i), numsOf(k, carried)));
                                }));
}

Nums Warp::loopWhile(const Nums &start,
                     llvm::function_ref<Tested(const Nums &)> test,
                     llvm::function_ref<Nums(const Nums &)> step) const {
  SmallVector<Value> values = valuesOf(start);
  // What is carried on is known when the test has been built.
  OpBuilder &b = k.builder;
  auto op = scf::WhileOp::create(b, k.loc, TypeRange(), values);
  SmallVector<Location> locs(values.size(), k.loc);
  Tested tested;
  {
    OpBuilder::InsertionGuard guard(b);
    Block *before =
        b.createBlock(&op.getBefore(), {}, ValueRange(values).getTypes(), locs);
    tested = test(numsOf(k, before->getArguments()));
    scf::ConditionOp::create(b, k.loc, tested.condition,
                             valuesOf(tested.carried));
  }
  SmallVector<Value> carried = valuesOf(tested.carried);
  TypeRange types = ValueRange(carried).getTypes();
  auto whole = scf::WhileOp::create(b, k.loc, types, values);
  whole.getBefore().takeBody(op.getBefore());
  op.erase();
  OpBuilder::InsertionGuard guard(b);
  locs.assign(carried.size(), k.loc);
  Block *after = b.createBlock(&whole.getAfter(), {}, types, locs);
  scf::YieldOp::create(b, k.loc,
                       valuesOf(step(numsOf(k, after->getArguments()))));
  return numsOf(k, whole.getResults());
}

//===----------------------------------------------------------------------===//
// Threads of a warp
//===----------------------------------------------------------------------===//

static constexpr int64_t kAllLanes = -1;

Num Warp::shuffle(Num value, Value lane, int kind) const {
  auto shuffleKind = static_cast<NVVM::ShflKind>(kind);
  Value clamp = k.i32(shuffleKind == NVVM::ShflKind::up ? 0 : 31);
  auto one = [&](Value part) {
    return NVVM::ShflOp::create(k.builder, k.loc, part.getType(),
                                k.i32(kAllLanes), part, lane, clamp,
                                shuffleKind, UnitAttr());
  };
  if (value.type().getIntOrFloatBitWidth() == 32)
    return number(one(value));
  Num low = number(one(as(value, 32))), high = number(one(as(value >> 32, 32)));
  return number(k.widen(low)) | (number(k.widen(high)) << 32);
}
Num Warp::fromLane(Num value, Num lane) const {
  return shuffle(value, lane, int(NVVM::ShflKind::idx));
}
Num Warp::fromBelow(Num value, Num distance) const {
  return shuffle(value, distance, int(NVVM::ShflKind::up));
}
Num Warp::fromOther(Num value, Num bits) const {
  return shuffle(value, bits, int(NVVM::ShflKind::bfly));
}
Num Warp::sum(Num value) const {
  return number(NVVM::ReduxOp::create(k.builder, k.loc, value.type(), value,
                                      NVVM::ReduxKind::ADD, k.i32(kAllLanes)));
}
Num Warp::largest(Num x) const {
  // In the order of integers: those of negative numbers are turned over.
  auto turned = [&](Num bits) {
    Num sign = number(
        arith::ShRSIOp::create(k.builder, k.loc, bits, bits.constant(31)));
    return bits ^ (sign & 0x7fffffff);
  };
  Num bits = turned(this->bits(x));
  return fromBits(turned(
      number(NVVM::ReduxOp::create(k.builder, k.loc, bits.type(), bits,
                                   NVVM::ReduxKind::MAX, k.i32(kAllLanes)))));
}
Num Warp::ballot(Num condition) const {
  return number(NVVM::VoteSyncOp::create(
      k.builder, k.loc, k.builder.getI32Type(), k.i32(kAllLanes), condition,
      NVVM::VoteSyncKind::ballot));
}
Num Warp::bitCount(Num bits) const {
  return number(LLVM::CtPopOp::create(k.builder, k.loc, bits.type(), bits));
}
Num Warp::any(Num condition) const {
  return number(NVVM::VoteSyncOp::create(
      k.builder, k.loc, k.builder.getI1Type(), k.i32(kAllLanes), condition,
      NVVM::VoteSyncKind::any));
}
void Warp::sync() const {
  NVVM::SyncWarpOp::create(k.builder, k.loc, k.i32(kAllLanes));
}

//===----------------------------------------------------------------------===//
// Floats
//===----------------------------------------------------------------------===//

Num Warp::unary(StringRef intrinsic, Num x) const {
  return number(LLVM::CallIntrinsicOp::create(
                    k.builder, k.loc, x.type(),
                    k.builder.getStringAttr(intrinsic), ValueRange{x})
                    .getResult(0));
}
Num Warp::exp2(Num x) const { return unary("llvm.nvvm.ex2.approx.ftz.f", x); }
Num Warp::log2(Num x) const { return unary("llvm.nvvm.lg2.approx.ftz.f", x); }
Num Warp::reciprocal(Num x) const {
  return unary("llvm.nvvm.rcp.approx.ftz.f", x);
}
Num Warp::tanh(Num x) const {
  // 1 - 2 / (exp(2 x) + 1): the instruction of that name has 11 bits.
  Num e = exp2(x * (2 * 1.4426950408889634));
  return f32(1) - reciprocal(e + 1) * 2;
}
Num Warp::bits(Num x) const {
  return number(
      arith::BitcastOp::create(k.builder, k.loc, k.builder.getI32Type(), x));
}
Num Warp::fromBits(Num x) const {
  return number(
      arith::BitcastOp::create(k.builder, k.loc, k.builder.getF32Type(), x));
}

//===----------------------------------------------------------------------===//
// Fragments
//===----------------------------------------------------------------------===//

static Nums fieldsOf(KernelBuilder &k, Value record, int64_t count) {
  Nums fields;
  for (int64_t i = 0; i < count; ++i)
    fields.emplace_back(
        k, LLVM::ExtractValueOp::create(k.builder, k.loc, record, i));
  return fields;
}

static Type several(Type type, int64_t count) {
  return LLVM::LLVMStructType::getLiteral(type.getContext(),
                                          SmallVector<Type>(count, type));
}

Nums Warp::loadMatrices(Value pointer, bool transposed) const {
  auto shape = NVVM::LdStMatrixShapeAttr::get(k.builder.getContext(), 8, 8);
  Value matrices = NVVM::LdMatrixOp::create(
      k.builder, k.loc, several(k.builder.getI32Type(), 4), pointer, 4,
      transposed ? NVVM::MMALayout::col : NVVM::MMALayout::row, shape,
      NVVM::LdStMatrixEltType::B16);
  return fieldsOf(k, matrices, 4);
}

Nums Warp::multiply(ArrayRef<Num> a, ArrayRef<Num> b, ArrayRef<Num> c,
                    Type type) const {
  std::optional<std::array<NVVM::MMATypes, 2>> types;
  auto operands = [&](ArrayRef<Num> registers) {
    SmallVector<Value> values;
    for (Num number : registers) {
      Value value = number;
      if (type.isF16())
        value = LLVM::BitcastOp::create(k.builder, k.loc,
                                        VectorType::get({2}, type), value);
      values.push_back(value);
    }
    return values;
  };
  if (type.isBF16())
    types = {NVVM::MMATypes::bf16, NVVM::MMATypes::bf16};
  Value sum = NVVM::MmaOp::create(
      k.builder, k.loc, several(k.builder.getF32Type(), 4), operands(a),
      operands(b), valuesOf(c), ArrayRef<int64_t>{16, 8, 16}, std::nullopt,
      std::nullopt, types,
      std::array<NVVM::MMALayout, 2>{NVVM::MMALayout::row,
                                     NVVM::MMALayout::col});
  return fieldsOf(k, sum, 4);
}

Num Warp::pack(Num low, Num high, Type type) const {
  StringRef name =
      type.isBF16() ? "llvm.nvvm.ff2bf16x2.rn" : "llvm.nvvm.ff2f16x2.rn";
  Value pair = LLVM::CallIntrinsicOp::create(
                   k.builder, k.loc, VectorType::get({2}, type),
                   k.builder.getStringAttr(name), ValueRange{high, low})
                   .getResult(0);
  return number(
      LLVM::BitcastOp::create(k.builder, k.loc, k.builder.getI32Type(), pair));
}

Value Warp::assembly(StringRef text, StringRef constraints, TypeRange results,
                     ValueRange operands, bool hasSideEffects) const {
  auto op = LLVM::InlineAsmOp::create(
      k.builder, k.loc, results, operands, text, constraints, hasSideEffects,
      /*is_align_stack=*/false, LLVM::TailCallKind::None,
      LLVM::AsmDialectAttr(), ArrayAttr());
  return results.empty() ? Value() : op.getRes();
}

Num Warp::transpose(Num matrix) const {
  return number(assembly("movmatrix.sync.aligned.m8n8.trans.b16 $0, $1;",
                         "=r,r", k.builder.getI32Type(), ValueRange{matrix},
                         true));
}

//===----------------------------------------------------------------------===//
// Barriers
//===----------------------------------------------------------------------===//

void Warp::initBarrier(Value barrier, int64_t count) const {
  NVVM::MBarrierInitOp::create(k.builder, k.loc, barrier, k.i32(count),
                               Value());
}
void Warp::fenceBarriers(bool hasClusters) const {
  if (hasClusters)
    NVVM::FenceMbarrierInitOp::create(k.builder, k.loc);
}
void Warp::arrive(Value barrier) const {
  NVVM::MBarrierArriveOp::create(k.builder, k.loc, k.builder.getI64Type(),
                                 barrier, Value());
}
void Warp::arriveExpecting(Value barrier, Num bytes) const {
  NVVM::MBarrierArriveExpectTxOp::create(k.builder, k.loc, Type(), barrier,
                                         bytes, NVVM::MemScopeKind::CTA,
                                         /*relaxed=*/false, Value());
}
void Warp::arriveAfterCopies(Value barrier) const {
  NVVM::CpAsyncMBarrierArriveOp::create(k.builder, k.loc, barrier,
                                        /*noinc=*/true);
}
void Warp::wait(Value barrier, Num parity, bool hasTryWait) const {
  if (hasTryWait) {
    NVVM::MBarrierTryWaitParityOp::create(k.builder, k.loc, barrier, parity,
                                          k.i32(10'000'000));
    return;
  }
  loopWhile(
      {},
      [&](const Nums &) -> Tested {
        Value done = NVVM::MBarrierTestWaitOp::create(
            k.builder, k.loc, k.builder.getI1Type(), barrier, parity);
        return {!number(done), {}};
      },
      [&](const Nums &) { return Nums(); });
}
void Warp::barrierOf(int64_t name, int64_t threads) const {
  NVVM::BarrierOp::create(k.builder, k.loc, TypeRange(), k.i32(name),
                          k.i32(threads), NVVM::BarrierReductionAttr(),
                          Value());
}

//===----------------------------------------------------------------------===//
// Shared memory
//===----------------------------------------------------------------------===//

Nums Warp::loadWords(Value pointer, unsigned count) const {
  auto four = VectorType::get({4}, k.builder.getI32Type());
  Nums words;
  for (int64_t i = 0; i < count; i += 4) {
    Value vector = LLVM::LoadOp::create(
        k.builder, k.loc, four, k.byteOffset(pointer, k.i32(4 * i)), 16);
    for (int64_t j = 0; j < 4; ++j)
      words.push_back(number(
          LLVM::ExtractElementOp::create(k.builder, k.loc, vector, k.i32(j))));
  }
  words.resize(count);
  return words;
}

void Warp::storeWords(Nums words, Value pointer) const {
  while (words.size() % 4)
    words.push_back(i32(0));
  auto four = VectorType::get({4}, k.builder.getI32Type());
  for (size_t i = 0; i < words.size(); i += 4) {
    Value vector = LLVM::PoisonOp::create(k.builder, k.loc, four);
    for (int64_t j = 0; j < 4; ++j)
      vector = LLVM::InsertElementOp::create(k.builder, k.loc, vector,
                                             words[i + j], k.i32(j));
    k.store(vector, k.byteOffset(pointer, k.i32(4 * i)), 16);
  }
}

//===----------------------------------------------------------------------===//
// Copies
//===----------------------------------------------------------------------===//

void Warp::copyIf(Num isThere, Value to, Value from, int64_t bytes) const {
  Num size = select(isThere, i32(bytes), i32(0));
  NVVM::CpAsyncOp::create(k.builder, k.loc, to, from, uint32_t(bytes),
                          bytes == 16 ? NVVM::LoadCacheModifierKind::CG
                                      : NVVM::LoadCacheModifierKind::CA,
                          size);
}

void Warp::prefetch(Value pointer) const {
  assembly("prefetch.global.L2 [$0];", "l", {}, pointer, true);
}

void Warp::prefetchMap(Value map) const {
  assembly("prefetch.tensormap [$0];", "l", {}, map, true);
}

Num Warp::evictFirst() const {
  return number(assembly("createpolicy.fractional.L2::evict_first.b64 $0, 1.0;",
                         "=l", k.builder.getI64Type(), {}, true));
}

Num Warp::evictLast() const {
  return number(assembly("createpolicy.fractional.L2::evict_last.b64 $0, 1.0;",
                         "=l", k.builder.getI64Type(), {}, true));
}

void Warp::copyBox(Value to, Value map, ArrayRef<Num> at, Value barrier,
                   Num policy) const {
  NVVM::CpAsyncBulkTensorGlobalToSharedClusterOp::create(
      k.builder, k.loc, to, map, valuesOf(at), barrier, ValueRange(), Value(),
      policy, NVVM::TMALoadMode::TILE, /*isCTAOnly=*/true,
      NVVM::CTAGroupKindAttr(), Value());
}

//===----------------------------------------------------------------------===//
// Between blocks of threads
//===----------------------------------------------------------------------===//

Num Warp::loadRelaxed(Value pointer, unsigned bits) const {
  return number(LLVM::LoadOp::create(
      k.builder, k.loc, k.builder.getIntegerType(bits), pointer, bits / 8,
      /*isVolatile=*/false, /*isNonTemporal=*/false, /*isInvariant=*/false,
      /*isInvariantGroup=*/false, LLVM::AtomicOrdering::monotonic, "device"));
}
Nums Warp::loadFour(Value pointer) const {
  Value four = assembly("{ .reg .b128 x; .reg .b64 a, b;\n\t"
                        "ld.relaxed.gpu.global.b128 x, [$4];\n\t"
                        "mov.b128 {a, b}, x;\n\t"
                        "mov.b64 {$0, $1}, a;\n\tmov.b64 {$2, $3}, b; }",
                        "=r,=r,=r,=r,l,~{memory}",
                        several(k.builder.getI32Type(), 4), pointer, true);
  return fieldsOf(k, four, 4);
}
void Warp::storeFour(ArrayRef<Num> words, Value pointer) const {
  SmallVector<Value> operands = valuesOf(words);
  operands.push_back(pointer);
  assembly("{ .reg .b128 x; .reg .b64 a, b;\n\t"
           "mov.b64 a, {$0, $1};\n\tmov.b64 b, {$2, $3};\n\t"
           "mov.b128 x, {a, b};\n\tst.relaxed.gpu.global.b128 [$4], x; }",
           "r,r,r,r,l,~{memory}", {}, operands, true);
}
void Warp::addRelaxed(Value pointer, Num value) const {
  LLVM::AtomicRMWOp::create(k.builder, k.loc, LLVM::AtomicBinOp::add, pointer,
                            value, LLVM::AtomicOrdering::monotonic, "device");
}
Num Warp::exchange(Value pointer, Num value) const {
  return number(LLVM::AtomicRMWOp::create(
      k.builder, k.loc, LLVM::AtomicBinOp::xchg, pointer, value,
      LLVM::AtomicOrdering::monotonic, "device"));
}

void Warp::fail(StringRef symbol, StringRef message) const {
  auto module =
      k.builder.getBlock()->getParentOp()->getParentOfType<gpu::GPUModuleOp>();
  OpBuilder outside = OpBuilder::atBlockBegin(module.getBody());
  MLIRContext *context = k.builder.getContext();
  auto pointer = LLVM::LLVMPointerType::get(context);
  auto text = [&](StringRef name, StringRef value) -> Value {
    auto global = module.lookupSymbol<LLVM::GlobalOp>(name);
    if (!global) {
      std::string bytes = value.str() + '\0';
      auto type = LLVM::LLVMArrayType::get(k.builder.getI8Type(), bytes.size());
      global = LLVM::GlobalOp::create(outside, k.loc, type, /*isConstant=*/true,
                                      LLVM::Linkage::Internal, name,
                                      k.builder.getStringAttr(bytes));
    }
    return LLVM::AddressOfOp::create(k.builder, k.loc, pointer,
                                     global.getSymName());
  };
  StringRef name = "__assertfail";
  auto function = module.lookupSymbol<LLVM::LLVMFuncOp>(name);
  if (!function) {
    Type i32 = k.builder.getI32Type(), i64 = k.builder.getI64Type();
    auto type =
        LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(context),
                                    {pointer, pointer, i32, pointer, i64});
    function = LLVM::LLVMFuncOp::create(outside, k.loc, name, type);
  }
  Value what = text(symbol, message), where = text("message_place", "kvcache");
  LLVM::CallOp::create(k.builder, k.loc, function,
                       ValueRange{what, where, k.i32(0), where, k.i64(1)});
}
