// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Target/Compile.h"

#include "Admission.h"
#include "EmbeddedFiles.h"
#include "LinkObjects.h"
#include "LinkedLibrary.h"
#include "LongBlocks.h"
#include "kvcache/IR/KVCache.h"
#include "kvcache/Pipelines/Pipelines.h"
#include "kvcache/Target/Output.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/Analysis/CGSCCPassManager.h"
#include "llvm/Analysis/LoopAnalysisManager.h"
#include "llvm/Analysis/LoopInfo.h"
#include "llvm/IR/Dominators.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/IR/PassInstrumentation.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Passes/StandardInstrumentations.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Host.h"

#include <mutex>

using namespace mlir;
using namespace kvcache;
using namespace kvcache::target;
using llvm::Error;
using llvm::Expected;

struct Compilation::Machine {
  std::unique_ptr<llvm::TargetMachine> target;
};

/// Chips that LLVM knows as a CPU with more features.
static constexpr struct {
  StringLiteral chip, cpu, features;
} kExtendedCpus[] = {
    {"x86-64-v4-bf16", "x86-64-v4", "+avx512bf16"},
    {"x86-64-v4-amx", "x86-64-v4", "+avx512bf16,+amx-tile,+amx-bf16"},
};

/// The x86-64 level that code for a CPU needs, 5 for one of level 4 that has
/// AVX512_BF16 and 6 if it also has AMX: what the run time can check.
constexpr int kTileLevel = 6;
static int levelOf(const llvm::TargetMachine &machine) {
  const llvm::MCSubtargetInfo &features = *machine.getMCSubtargetInfo();
  if (!machine.getTargetTriple().isX86())
    return 1;
  if (features.checkFeatures("+avx512bw,+avx512vl,+avx512dq")) {
    if (!features.checkFeatures("+avx512bf16"))
      return 4;
    return features.checkFeatures("+amx-tile,+amx-bf16") ? kTileLevel : 5;
  }
  if (features.checkFeatures("+avx2,+fma,+bmi2"))
    return 3;
  return features.checkFeatures("+sse4.2,+popcnt") ? 2 : 1;
}

/// The row of the table of chips for a CPU.
static std::string chipOf(StringRef cpu, int level) {
  if (TargetAttr::isKnown(Isa::cpu, cpu))
    return cpu.str();
  if (level == kTileLevel)
    return "x86-64-v4-amx";
  // Pairs of bf16 are slower where they were measured:
  // docs/kernels/attention-cpu.md.
  return level >= 4 ? "x86-64-v4" : "generic";
}

/// Whether there is code that a process must ask the operating system for.
static bool usesTiles(ModuleOp module) {
  return module
      .walk([](LLVM::CallIntrinsicOp call) {
        return call.getIntrin().starts_with("llvm.x86.tile")
                   ? WalkResult::interrupt()
                   : WalkResult::advance();
      })
      .wasInterrupted();
}

Compilation::Compilation(ModuleOp module, CompileOptions options)
    : module(module), options(std::move(options)) {
  info.name = this->options.libraryName;
  info.target = this->options.target;
  info.cpu = this->options.cpu;
  info.checks = this->options.checks;
}

Compilation::~Compilation() = default;

LogicalResult Compilation::emitError(const llvm::Twine &message) {
  return mlir::emitError(UnknownLoc::get(module.getContext())) << message;
}

LogicalResult
Compilation::runPasses(llvm::function_ref<void(OpPassManager &)> build,
                       bool verifyEach) {
  PassManager pm(module.getContext());
  if (options.configurePasses && failed(options.configurePasses(pm)))
    return emitError("the options for passes cannot be applied");
  pm.enableVerifier(verifyEach);
  build(pm);
  if (failed(pm.run(module)))
    return failure();
  return verifyEach ? success() : verify(module);
}

LogicalResult Compilation::bufferize() {
  if (failed(admitNames(module)))
    return failure();
  OptimizeOptions optimize;
  optimize.target = options.isGpu() ? "gpu" : "cpu";
  optimize.allowPoolCopies = options.allowPoolCopies;
  optimize.maxVariants = options.maxVariants;
  if (failed(runPasses([&](OpPassManager &pm) {
        if (options.optimizeLayouts)
          return buildOptimizePipeline(pm, optimize);
        BufferizeOptions bufferize;
        bufferize.allowPoolCopies = options.allowPoolCopies;
        buildBufferizePipeline(pm, bufferize);
      })))
    return failure();
  auto device = options.isGpu() ? ArgumentSignature::Device::Cuda
                                : ArgumentSignature::Device::Cpu;
  FailureOr<std::vector<FunctionSignature>> described =
      describeFunctions(module, device);
  if (failed(described))
    return failure();
  signatures = std::move(*described);
  for (const FunctionSignature &signature : signatures)
    for (StringRef own : {"_check", "_last_error", "_manifest",
                          "_set_parallel_for", "_set_thread_count"})
      if (signature.name == info.name + own.str())
        return emitError("function '" + signature.name +
                         "' has the name of a function of library '" +
                         info.name + "'; rename one of them");
  return success();
}

LogicalResult Compilation::lower() {
  if (failed(admitOperations(module, options.isGpu())) ||
      failed(chooseMachine()))
    return failure();
  CpuOptions cpu;
  cpu.checks = options.checks;
  cpu.chip = chipOf(options.cpu, info.cpuLevel);
  GpuOptions gpu;
  gpu.checks = options.checks;
  gpu.chip = options.target;
  gpu.image = options.image;
  gpu.copyEngineBytes = options.copyEngineBytes;
  auto build = [&](OpPassManager &pm) {
    if (options.isGpu())
      buildNvvmPipeline(pm, gpu);
    else
      buildCpuPipeline(pm, cpu);
  };
  // The code of a model is long by now: verified after each of thirty passes,
  // it would take a quarter of the time. What comes out is verified, and kv-opt
  // verifies after each pass.
  LogicalResult lowered = runPasses(build, /*verifyEach=*/false);
  if (failed(lowered))
    return failure();
  if (info.cpuLevel == kTileLevel && !usesTiles(module))
    --info.cpuLevel;
  auto code = module.lookupSymbol<LLVM::GlobalOp>("kv_kernels_code");
  if (code) {
    image = cast<StringAttr>(code.getValueAttr()).getValue().str();
    if (!StringRef(image).starts_with("\177ELF"))
      image.pop_back(); // of PTX, the zero that the driver wants
  }
  return success();
}

static std::unique_ptr<llvm::TargetMachine>
createTargetMachine(StringRef cpu, unsigned level, std::string &error) {
  // Two compilations may be the first ones at the same time.
  static std::once_flag initialized;
  std::call_once(initialized, [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
  });
  llvm::Triple triple(llvm::sys::getDefaultTargetTriple());
  const llvm::Target *target =
      llvm::TargetRegistry::lookupTarget(triple, error);
  if (!target)
    return nullptr;
  std::string name = cpu.str(), features;
  if (cpu == "native") {
    name = llvm::sys::getHostCPUName().str();
    for (const auto &[feature, has] : llvm::sys::getHostCPUFeatures())
      features += (has ? "+" : "-") + feature.str() + ",";
  }
  for (const auto &extended : kExtendedCpus)
    if (cpu == extended.chip) {
      name = extended.cpu.str();
      features = extended.features.str();
    }
  std::unique_ptr<llvm::MCSubtargetInfo> known(
      target->createMCSubtargetInfo(triple, "", ""));
  if (cpu != "native" && !known->isCPUStringValid(name)) {
    error = "unknown CPU '" + name + "'";
    return nullptr;
  }
  return std::unique_ptr<llvm::TargetMachine>(target->createTargetMachine(
      triple, name, features, llvm::TargetOptions(), llvm::Reloc::PIC_,
      std::nullopt,
      level ? llvm::CodeGenOptLevel::Aggressive : llvm::CodeGenOptLevel::None));
}

/// Passes on loops take time with the third power of the depth of a nest. What
/// is deeper than any computation on tensors is taken as it is.
static void leaveDeepNests(llvm::Module &module) {
  constexpr unsigned kMaxDepth = 32;
  for (llvm::Function &function : module) {
    if (function.isDeclaration())
      continue;
    llvm::DominatorTree tree(function);
    llvm::LoopInfo loops(tree);
    bool isDeep = llvm::any_of(function, [&](llvm::BasicBlock &block) {
      return loops.getLoopDepth(&block) > kMaxDepth;
    });
    if (!isDeep)
      continue;
    function.removeFnAttr(llvm::Attribute::AlwaysInline);
    function.addFnAttr(llvm::Attribute::NoInline);
    function.addFnAttr(llvm::Attribute::OptimizeNone);
  }
}

static void optimize(llvm::Module &module, llvm::TargetMachine &machine,
                     unsigned level) {
  leaveDeepNests(module);
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager sccs;
  llvm::ModuleAnalysisManager modules;
  llvm::PassInstrumentationCallbacks callbacks;
  llvm::OptNoneInstrumentation leaveSome(/*DebugLogging=*/false);
  leaveSome.registerCallbacks(callbacks);
  llvm::PassBuilder builder(&machine, llvm::PipelineTuningOptions(),
                            std::nullopt, &callbacks);
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(sccs);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, sccs, modules);
  const llvm::OptimizationLevel levels[] = {llvm::OptimizationLevel::O1,
                                            llvm::OptimizationLevel::O2,
                                            llvm::OptimizationLevel::O3};
  builder.buildPerModuleDefaultPipeline(levels[std::min(level, 3u) - 1])
      .run(module, modules);
}

LogicalResult Compilation::chooseMachine() {
  std::string error;
  machine = std::make_unique<Machine>();
  machine->target = createTargetMachine(options.cpu, options.llvmLevel, error);
  if (!machine->target)
    return emitError(error);
  info.cpuLevel = levelOf(*machine->target);
  return success();
}

LogicalResult Compilation::translate() {
  llvmContext = std::make_unique<llvm::LLVMContext>();
  llvmIR = translateModuleToLLVMIR(module, *llvmContext, info.name);
  if (!llvmIR)
    return failure();
  llvmIR->setTargetTriple(machine->target->getTargetTriple());
  llvmIR->setDataLayout(machine->target->createDataLayout());
  addEntryPoints(*llvmIR, info, signatures);
  // Vectors wider than the level's registers would be split in IR otherwise.
  // Entry functions run before the CPU is checked: any CPU must run them.
  bool isX86 = machine->target->getTargetTriple().isX86();
  for (llvm::Function &function : *llvmIR) {
    if (function.isDeclaration())
      continue;
    if (function.hasLocalLinkage() || !isX86) {
      function.addFnAttr("target-cpu", machine->target->getTargetCPU());
      continue;
    }
    function.addFnAttr("target-cpu", "x86-64");
    function.addFnAttr("target-features", "");
  }
  if (options.llvmLevel)
    optimize(*llvmIR, *machine->target, options.llvmLevel);
  outlineLongBlocks(*llvmIR);
  return success();
}

LogicalResult Compilation::emitError(Error error) {
  return emitError(toString(std::move(error)));
}

LogicalResult Compilation::emitObject(SmallVectorImpl<char> &object) {
  llvm::raw_svector_ostream os(object);
  llvm::legacy::PassManager codegen;
  if (machine->target->addPassesToEmitFile(codegen, os, nullptr,
                                           llvm::CodeGenFileType::ObjectFile))
    return emitError("this target cannot write object files");
  codegen.run(*llvmIR);
  return success();
}

LogicalResult Compilation::writeObject(StringRef path) {
  SmallVector<char, 0> object;
  if (failed(emitObject(object)))
    return failure();
  Error error = writeOutput(
      path, [&](raw_ostream &os) { os.write(object.data(), object.size()); });
  return error ? emitError(std::move(error)) : success();
}

LogicalResult Compilation::link(OutputFiles &files, StringRef path) {
  SmallVector<char, 0> object;
  if (failed(emitObject(object)))
    return failure();
  // The threads of its run time would be left without code.
  bool staysLoaded = llvmIR->getFunction("kvrt_parallel_for");
  Expected<SmallVector<char, 0>> library =
      linkObjects({StringRef(object.data(), object.size()), getRuntimeObject()},
                  staysLoaded);
  if (!library)
    return emitError("linking '" + path +
                     "' failed: " + toString(library.takeError()));
  std::string output = files.add(path);
  if (Error error = writeFile(output, path, [&](raw_ostream &os) {
        os.write(library->data(), library->size());
      }))
    return emitError(std::move(error));
  // As linkers do: who may read it may execute it.
  if (llvm::ErrorOr<llvm::sys::fs::perms> mode =
          llvm::sys::fs::getPermissions(output))
    std::ignore = llvm::sys::fs::setPermissions(
        output,
        llvm::sys::fs::perms(*mode | (*mode & llvm::sys::fs::all_read) >> 2));
  if (Error error = checkLinkedLibrary(output))
    return emitError("the library '" + path +
                     "' cannot be used: " + toString(std::move(error)));
  return success();
}

LogicalResult Compilation::linkLibrary(StringRef path) {
  Expected<OutputFiles> files = OutputFiles::beside(path);
  if (!files)
    return emitError(files.takeError());
  if (failed(link(*files, path)))
    return failure();
  Error error = files->publish();
  return error ? emitError(std::move(error)) : success();
}

LogicalResult Compilation::writeLibrary(StringRef path) {
  Expected<OutputFiles> files = OutputFiles::beside(path);
  if (!files)
    return emitError(files.takeError());
  auto add = [&](StringRef extension, std::string text) {
    SmallString<128> beside(path);
    llvm::sys::path::replace_extension(beside, extension);
    Error error = writeFile(files->add(beside), beside,
                            [&](raw_ostream &os) { os << text; });
    return error ? emitError(std::move(error)) : success();
  };
  // The library last: who sees the new one sees its header.
  if (failed(add("h", writeHeader(info, signatures))) ||
      failed(add("json", writeManifest(info, signatures))) ||
      failed(link(*files, path)))
    return failure();
  Error error = files->publish();
  return error ? emitError(std::move(error)) : success();
}
