// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From a module of kvcache IR to an artefact. kv-compile is a command line
// around this.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_TARGET_COMPILE_H
#define KVCACHE_TARGET_COMPILE_H

#include "kvcache/Target/EntryPoints.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <functional>
#include <memory>
#include <string>

namespace llvm {
class LLVMContext;
class Module;
} // namespace llvm

namespace mlir {
class OpPassManager;
class PassManager;
} // namespace mlir

namespace kvcache::target {

class OutputFiles;

struct CompileOptions {
  /// `cpu`, or a GPU architecture such as `sm_90a`.
  std::string target = "cpu";
  /// What host code is compiled for: an LLVM CPU name, or `native`.
  std::string cpu = "x86-64-v3";
  /// `auto`, `ptx` or `cubin`: what a GPU artefact carries.
  std::string image = "auto";
  /// The shortest runs between host and device that the copy engine moves.
  int64_t copyEngineBytes = 1 << 20;
  /// Copies of pools that bufferization makes are no errors.
  bool allowPoolCopies = false;
  /// Views fold, scatters become index copies, operations get variants. Off to
  /// compare a program with what passes make of it.
  bool optimizeLayouts = true;
  /// What LLVM does: as -O0 to -O3.
  unsigned llvmLevel = 3;
  /// Variants of one operation at most, for facts that only a call has.
  unsigned maxVariants = 3;
  /// Whether code checks the entries of lists: `none`, `on-request`, where the
  /// process has KVRT_CHECK=1, or `full`.
  std::string checks = "none";
  /// Called for each pass manager, for what a command line says of passes.
  std::function<mlir::LogicalResult(mlir::PassManager &)> configurePasses;
  /// A C identifier.
  std::string libraryName = "program";

  bool isGpu() const { return target != "cpu"; }
};

/// A module on its way to an artefact. Each step fails with a diagnostic on
/// the MLIR module.
class Compilation {
public:
  Compilation(mlir::ModuleOp module, CompileOptions options);
  ~Compilation();

  /// Bufferized IR, and the signatures of its functions.
  mlir::LogicalResult bufferize();
  /// The LLVM dialect; for a GPU with kernels compiled and embedded.
  mlir::LogicalResult lower();
  /// LLVM IR with entry points, optimized.
  mlir::LogicalResult translate();

  /// The text of the embedded PTX, or the bytes of the cubin, after `lower`.
  llvm::StringRef deviceImage() const { return image; }
  bool deviceImageIsCubin() const { return imageIsCubin; }
  llvm::Module &llvmModule() { return *llvmIR; }
  const LibraryInfo &library() const { return info; }
  llvm::ArrayRef<FunctionSignature> functions() const { return signatures; }

  // Files are written after `translate`, whole or not at all.

  /// An object file.
  mlir::LogicalResult writeObject(llvm::StringRef path);
  /// A shared library with the run time in it. It is looked at before it takes
  /// its place: it calls what it may, and can be loaded.
  mlir::LogicalResult linkLibrary(llvm::StringRef path);
  /// The same with a header and a manifest beside it, all three or none.
  mlir::LogicalResult writeLibrary(llvm::StringRef path);

private:
  mlir::LogicalResult chooseMachine();
  mlir::LogicalResult
  runPasses(llvm::function_ref<void(mlir::OpPassManager &)> build,
            bool verifyEach = true);
  mlir::LogicalResult emitObject(llvm::SmallVectorImpl<char> &object);
  mlir::LogicalResult link(OutputFiles &files, llvm::StringRef path);
  mlir::LogicalResult emitError(const llvm::Twine &message);
  mlir::LogicalResult emitError(llvm::Error error);

  mlir::ModuleOp module;
  CompileOptions options;
  LibraryInfo info;
  std::vector<FunctionSignature> signatures;
  std::string image;
  bool imageIsCubin = false;
  std::unique_ptr<llvm::LLVMContext> llvmContext;
  std::unique_ptr<llvm::Module> llvmIR;
  struct Machine;
  std::unique_ptr<Machine> machine;
};

} // namespace kvcache::target

#endif // KVCACHE_TARGET_COMPILE_H
