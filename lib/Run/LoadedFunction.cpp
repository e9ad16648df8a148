// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Run/LoadedFunction.h"

#include "kvcache/Target/Output.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/Path.h"

#include <dlfcn.h>
#include <unistd.h>

using namespace kvcache;
using namespace kvcache::target;
using namespace kvcache::run;
using namespace llvm;

/// Adds a function that calls `name` with its arguments from an array of 64-bit
/// words: where the C ABI wants each argument, LLVM knows, for any number of
/// them. Returns what the function is called.
static std::string addCaller(Module &module, StringRef name) {
  Function *entry = module.getFunction(name);
  assert(entry && "every function of a signature has its entries");
  LLVMContext &context = module.getContext();
  auto *type = FunctionType::get(entry->getReturnType(),
                                 {PointerType::get(context, 0)}, false);
  Function *caller = Function::Create(type, GlobalValue::ExternalLinkage,
                                      name + "_from_words", module);
  // It has to run on any CPU, as the entry does, which checks the CPU.
  for (StringRef attribute : {"target-cpu", "target-features"})
    if (entry->hasFnAttribute(attribute))
      caller->addFnAttr(entry->getFnAttribute(attribute));
  IRBuilder<> builder(BasicBlock::Create(context, "", caller));
  SmallVector<Value *> arguments;
  for (Argument &parameter : entry->args()) {
    Value *word = builder.CreateConstGEP1_64(
        builder.getInt64Ty(), caller->getArg(0), parameter.getArgNo());
    arguments.push_back(builder.CreateLoad(parameter.getType(), word));
  }
  builder.CreateRet(builder.CreateCall(entry, arguments));
  return caller->getName().str();
}

Expected<LoadedFunction> LoadedFunction::load(Compilation &compilation,
                                              StringRef function) {
  Expected<std::vector<LoadedFunction>> loaded =
      loadAll(compilation, function.str());
  if (!loaded)
    return loaded.takeError();
  return loaded->front();
}

Expected<std::vector<LoadedFunction>>
LoadedFunction::loadAll(Compilation &compilation,
                        ArrayRef<std::string> functions) {
  Module &module = compilation.llvmModule();
  std::vector<std::string> calls, sizes;
  for (const std::string &function : functions) {
    calls.push_back(addCaller(module, "kv1_" + function));
    sizes.push_back(addCaller(module, "kv1_" + function + "_workspace_size"));
  }

  // Loaded code stays in memory when its file is gone. The name is the same for
  // each process of a user, so that what a killed one left is found.
  SmallString<128> path;
  sys::path::system_temp_directory(/*ErasedOnReboot=*/true, path);
  sys::path::append(path, "kv-run-" + Twine(getuid()) + ".so");
  Expected<OutputFiles> files = OutputFiles::beside(path);
  if (!files)
    return files.takeError();
  std::string file = files->scratch("program.so");
  if (mlir::failed(compilation.linkLibrary(file)))
    return runError("the program cannot be linked");
  void *library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return runError(Twine("cannot load the program: ") + dlerror());

  auto find = [&](auto &symbol, const std::string &name) {
    symbol = reinterpret_cast<std::decay_t<decltype(symbol)>>(
        dlsym(library, name.c_str()));
    assert(symbol && "a library shows its functions");
  };
  std::vector<LoadedFunction> all(functions.size());
  for (auto [loaded, call, size] : zip(all, calls, sizes)) {
    find(loaded.run, call);
    find(loaded.sizeOf, size);
    find(loaded.lastError, "kv1_" + compilation.library().name + "_last_error");
  }
  return all;
}

Expected<int64_t>
LoadedFunction::workspaceSize(const Arguments &arguments) const {
  int64_t size = sizeOf(arguments.callWords().data());
  if (size >= 0)
    return size;
  StringRef message = lastError();
  return runError(
      message.empty()
          ? StringRef("the size of the workspace does not fit in 64 bits")
          : message);
}

Error LoadedFunction::call(const Arguments &arguments,
                           const Storage &workspace) const {
  std::vector<int64_t> words = arguments.callWords().vec();
  words.push_back(int64_t(uintptr_t(workspace.data())));
  words.push_back(int64_t(workspace.size()));
  words.push_back(0); // the stream
  if (int32_t status = run(words.data()))
    return runError(Twine(lastError()) + " (error " + Twine(status) + ")");
  return Error::success();
}
