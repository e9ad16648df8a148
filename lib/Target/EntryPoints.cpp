// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The records written here are those of lib/Runtime/kvrt_records.h. A record is
// filled in by field name; the order and types of the fields come from the
// field list of its struct.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Target/EntryPoints.h"

#include "kvcache/Runtime/kv_abi.h"
#include "kvcache/Transforms/Passes.h"
#include "kvrt_records.h"

#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/Module.h"

using namespace kvcache;
using namespace kvcache::target;
using namespace llvm;

namespace {

constexpr StringLiteral kProgramPrefix = "program.";

/// A field of a record as it is filled in: numbers, and constants for pointers.
template <typename Field>
using Written = std::conditional_t<std::is_pointer_v<Field>, Constant *, Field>;

#define WRITTEN_FIELD(type, name) Written<type> name = {};
struct WrittenDim {
  KVRT_DIM_FIELDS(WRITTEN_FIELD)
};
struct WrittenRule {
  KVRT_RULE_FIELDS(WRITTEN_FIELD)
};
struct WrittenArg {
  KVRT_ARG_FIELDS(WRITTEN_FIELD)
};
struct WrittenFunction {
  KVRT_FUNCTION_FIELDS(WRITTEN_FIELD)
};
#undef WRITTEN_FIELD

class EntryWriter {
public:
  explicit EntryWriter(Module &module)
      : module(module), context(module.getContext()), builder(context),
        pointer(PointerType::get(context, 0)), i32(Type::getInt32Ty(context)),
        i64(Type::getInt64Ty(context)) {
#define TYPE_OF(type, name) typeOf<type>(),
    dimType = StructType::get(context, {KVRT_DIM_FIELDS(TYPE_OF)});
    ruleType = StructType::get(context, {KVRT_RULE_FIELDS(TYPE_OF)});
    argType = StructType::get(context, {KVRT_ARG_FIELDS(TYPE_OF)});
    functionType = StructType::get(context, {KVRT_FUNCTION_FIELDS(TYPE_OF)});
#undef TYPE_OF
  }

  /// Nothing of the program is seen from outside, or taken for something else:
  /// a function of it may be called `memset`, which code is made to call, or
  /// `kv1_f`. No name of ours has this prefix.
  void hideAll() {
    for (GlobalValue &value : module.global_values()) {
      if (value.isDeclaration())
        continue;
      value.setLinkage(GlobalValue::InternalLinkage);
      value.setName(kProgramPrefix + value.getName());
    }
  }

  void addFunction(const FunctionSignature &signature,
                   const LibraryInfo &library) {
    Constant *record = writeRecord(signature, library);
    addCall(signature, record);
    addWorkspaceSize(signature, record);
    addPacked(signature, record);
    addTvmFfi(signature, record);
  }

  /// A function without arguments that gives a string.
  void addStringGetter(const Twine &name, Constant *text) {
    beginFunction(name, FunctionType::get(pointer, false));
    builder.CreateRet(text);
  }
  void addLastError(const Twine &name) {
    beginFunction(name, FunctionType::get(pointer, false));
    FunctionCallee get = module.getOrInsertFunction(
        "kvrt_last_error", FunctionType::get(pointer, false));
    builder.CreateRet(builder.CreateCall(get));
  }
  void addCheck(const Twine &name) {
    auto *type = FunctionType::get(i32, {pointer}, false);
    Function *function = beginFunction(name, type);
    FunctionCallee check = module.getOrInsertFunction("kvrt_check", type);
    builder.CreateRet(builder.CreateCall(check, {function->getArg(0)}));
  }
  void addSetParallelFor(const Twine &name) {
    addSetter(name, "kvrt_set_parallel_for", {pointer, pointer});
  }
  void addSetThreadCount(const Twine &name) {
    addSetter(name, "kvrt_set_thread_count", {i64});
  }
  Constant *string(StringRef text) {
    return constant(ConstantDataArray::getString(context, text));
  }

private:
  /// A function of the runtime under a name of this library.
  void addSetter(const Twine &name, StringRef callee, ArrayRef<Type *> types) {
    auto *type = FunctionType::get(builder.getVoidTy(), types, false);
    Function *function = beginFunction(name, type);
    FunctionCallee set = module.getOrInsertFunction(callee, type);
    SmallVector<Value *> arguments(llvm::make_pointer_range(function->args()));
    builder.CreateCall(set, arguments);
    builder.CreateRetVoid();
  }
  Constant *constant(Constant *initializer) {
    auto *global = new GlobalVariable(module, initializer->getType(), true,
                                      GlobalValue::PrivateLinkage, initializer);
    global->setUnnamedAddr(GlobalValue::UnnamedAddr::Global);
    return global;
  }
  template <typename Field> Type *typeOf() {
    if (std::is_pointer_v<Field>)
      return pointer;
    return IntegerType::get(context, 8 * sizeof(Field));
  }
  Constant *field(Constant *value) { return value; }
  Constant *field(int32_t value) { return ConstantInt::getSigned(i32, value); }
  Constant *field(int64_t value) { return ConstantInt::getSigned(i64, value); }

#define CONSTANT_OF(type, name) field(record.name),
  Constant *write(const WrittenDim &record) {
    return ConstantStruct::get(dimType, {KVRT_DIM_FIELDS(CONSTANT_OF)});
  }
  Constant *write(const WrittenRule &record) {
    return ConstantStruct::get(ruleType, {KVRT_RULE_FIELDS(CONSTANT_OF)});
  }
  Constant *write(const WrittenArg &record) {
    return ConstantStruct::get(argType, {KVRT_ARG_FIELDS(CONSTANT_OF)});
  }
  Constant *write(const WrittenFunction &record) {
    return ConstantStruct::get(functionType,
                               {KVRT_FUNCTION_FIELDS(CONSTANT_OF)});
  }
#undef CONSTANT_OF

  /// An array of records.
  Constant *list(StructType *type, ArrayRef<Constant *> records) {
    return constant(
        ConstantArray::get(ArrayType::get(type, records.size()), records));
  }

  Function *beginFunction(const Twine &name, FunctionType *type) {
    auto *function =
        Function::Create(type, GlobalValue::ExternalLinkage, name, module);
    builder.SetInsertPoint(BasicBlock::Create(context, "", function));
    return function;
  }

  Constant *writeArgument(const ArgumentSignature &signature) {
    SmallVector<Constant *> dims;
    for (const DimRule &rule : signature.dims) {
      WrittenDim dim;
      dim.extent = rule.extent;
      dim.constant = rule.constant;
      dim.multiple = rule.multiple;
      dim.compact = rule.compact;
      dim.next = rule.next;
      dim.symbol = rule.symbol;
      dims.push_back(write(dim));
    }
    WrittenArg arg;
    arg.dims = list(dimType, dims);
    arg.name = string(signature.name);
    using Kind = ArgumentSignature::Kind;
    arg.kind = signature.kind == Kind::Tensor ? KVRT_TENSOR
               : signature.kind == Kind::Int  ? KVRT_INT
                                              : KVRT_FLOAT;
    arg.rank = signature.dims.size();
    arg.dtype_code = signature.dlpackCode;
    arg.dtype_bits = signature.elementBits;
    arg.device =
        signature.device == ArgumentSignature::Device::Cpu ? kDLCPU : kDLCUDA;
    arg.align = signature.align;
    return write(arg);
  }

  Constant *writeRecord(const FunctionSignature &signature,
                        const LibraryInfo &library) {
    WrittenFunction function;
    SmallVector<Constant *> args;
    for (const ArgumentSignature &arg : signature.arguments) {
      args.push_back(writeArgument(arg));
      function.frame_words += arg.frameWords();
    }
    function.args = list(argType, args);
    SmallVector<Constant *> rules;
    for (const SymbolRule &from : signature.rules) {
      WrittenRule rule;
      rule.times = from.times;
      rule.plus = from.plus;
      rule.symbol = from.symbol;
      rule.of = from.of;
      rules.push_back(write(rule));
    }
    function.rules = list(ruleType, rules);
    function.name = string(signature.name);
    function.run = addThunk(signature.name);
    function.workspace = addThunk(signature.name + kWorkspaceSizeSuffix.str());
    function.num_args = args.size();
    function.cpu_level = library.cpuLevel;
    function.num_symbols = signature.numSymbols;
    function.num_rules = rules.size();
    function.state_bytes =
        library.target == "cpu" ? 0 : KV_WORKSPACE_STATE_BYTES;
    return constant(write(function));
  }

  /// A function that takes a frame and passes its words on.
  Function *addThunk(StringRef name) {
    Function *callee = module.getFunction((kProgramPrefix + name).str());
    assert(callee && "every described function was lowered");
    Function *thunk = beginFunction(
        callee->getName() + ".run",
        FunctionType::get(callee->getReturnType(), {pointer}, false));
    thunk->setLinkage(GlobalValue::InternalLinkage);
    SmallVector<Value *> operands;
    for (Argument &parameter : callee->args()) {
      Value *word = builder.CreateConstInBoundsGEP1_64(i64, thunk->getArg(0),
                                                       parameter.getArgNo());
      operands.push_back(loadWord(parameter.getType(), word));
    }
    Value *result = builder.CreateCall(callee, operands);
    if (callee->getReturnType()->isVoidTy())
      builder.CreateRetVoid();
    else
      builder.CreateRet(result);
    return thunk;
  }

  /// Scalars are passed as 64 bits, an int64_t or a double.
  Value *loadWord(Type *type, Value *word) {
    if (type->isFloatTy()) {
      Value *wide = builder.CreateLoad(builder.getDoubleTy(), word);
      return builder.CreateFPTrunc(wide, type);
    }
    if (type->isIntegerTy() && type != i64)
      return builder.CreateTrunc(builder.CreateLoad(i64, word), type);
    return builder.CreateLoad(type, word);
  }

  Type *parameterType(const ArgumentSignature &arg) {
    switch (arg.kind) {
    case ArgumentSignature::Kind::Tensor:
      return pointer;
    case ArgumentSignature::Kind::Int:
      return i64;
    case ArgumentSignature::Kind::Float:
      return builder.getDoubleTy();
    }
    llvm_unreachable("all kinds are listed");
  }

  /// An array of the first arguments of a function: the tensors themselves, and
  /// the addresses of scalars.
  Value *packArguments(Function *function, const FunctionSignature &signature) {
    Value *array = builder.CreateAlloca(
        pointer,
        builder.getInt64(std::max<size_t>(1, signature.arguments.size())));
    for (auto [i, arg] : enumerate(signature.arguments)) {
      Value *value = function->getArg(i);
      if (arg.kind != ArgumentSignature::Kind::Tensor) {
        Value *slot = builder.CreateAlloca(value->getType());
        builder.CreateStore(value, slot);
        value = slot;
      }
      builder.CreateStore(
          value, builder.CreateConstInBoundsGEP1_64(pointer, array, i));
    }
    return array;
  }

  void addCall(const FunctionSignature &signature, Constant *record) {
    SmallVector<Type *> types;
    for (const ArgumentSignature &arg : signature.arguments)
      types.push_back(parameterType(arg));
    size_t count = types.size();
    types.append({pointer, i64, pointer}); // workspace, its size, stream
    Function *function = beginFunction("kv1_" + signature.name,
                                       FunctionType::get(i32, types, false));
    FunctionCallee call = module.getOrInsertFunction(
        "kvrt_call", i32, pointer, pointer, pointer, i64, pointer);
    Value *args = packArguments(function, signature);
    builder.CreateRet(builder.CreateCall(
        call, {record, args, function->getArg(count),
               function->getArg(count + 1), function->getArg(count + 2)}));
  }

  void addWorkspaceSize(const FunctionSignature &signature, Constant *record) {
    SmallVector<Type *> types;
    for (const ArgumentSignature &arg : signature.arguments)
      types.push_back(parameterType(arg));
    Function *function =
        beginFunction("kv1_" + signature.name + "_workspace_size",
                      FunctionType::get(i64, types, false));
    FunctionCallee size = module.getOrInsertFunction("kvrt_workspace_size", i64,
                                                     pointer, pointer);
    builder.CreateRet(
        builder.CreateCall(size, {record, packArguments(function, signature)}));
  }

  /// The same two functions for callers that have no type for each signature:
  /// arguments are an array of addresses.
  void addPacked(const FunctionSignature &signature, Constant *record) {
    auto add = [&](StringRef suffix, StringRef callee, FunctionType *type) {
      Function *function =
          beginFunction("kv1args_" + signature.name + suffix.str(), type);
      SmallVector<Value *> operands = {record};
      SmallVector<Type *> types = {pointer};
      for (Argument &argument : function->args()) {
        operands.push_back(&argument);
        types.push_back(argument.getType());
      }
      FunctionCallee callable = module.getOrInsertFunction(
          callee, FunctionType::get(type->getReturnType(), types, false));
      builder.CreateRet(builder.CreateCall(callable, operands));
    };
    add("", "kvrt_call",
        FunctionType::get(i32, {pointer, pointer, i64, pointer}, false));
    add("_workspace_size", "kvrt_workspace_size",
        FunctionType::get(i64, {pointer}, false));
  }

  void addTvmFfi(const FunctionSignature &signature, Constant *record) {
    Function *function = beginFunction(
        "__tvm_ffi_" + signature.name,
        FunctionType::get(i32, {pointer, pointer, i32, pointer}, false));
    FunctionCallee call = module.getOrInsertFunction(
        "kvrt_call_tvm_ffi", i32, pointer, pointer, i32, pointer);
    builder.CreateRet(
        builder.CreateCall(call, {record, function->getArg(1),
                                  function->getArg(2), function->getArg(3)}));
  }

  Module &module;
  LLVMContext &context;
  IRBuilder<> builder;
  PointerType *pointer;
  IntegerType *i32, *i64;
  StructType *dimType, *ruleType, *argType, *functionType;
};

} // namespace

void target::addEntryPoints(Module &module, const LibraryInfo &library,
                            ArrayRef<FunctionSignature> signatures) {
  EntryWriter writer(module);
  writer.hideAll();
  for (const FunctionSignature &signature : signatures)
    writer.addFunction(signature, library);
  writer.addCheck("kv1_" + library.name + "_check");
  writer.addLastError("kv1_" + library.name + "_last_error");
  writer.addSetParallelFor("kv1_" + library.name + "_set_parallel_for");
  writer.addSetThreadCount("kv1_" + library.name + "_set_thread_count");
  writer.addStringGetter("kv1_" + library.name + "_manifest",
                         writer.string(writeManifest(library, signatures)));
}
