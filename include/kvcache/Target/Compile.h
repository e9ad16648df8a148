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
  /// The CPU of host code: an LLVM CPU name, the name of a chip that
  /// is one with more features (`x86-64-v4-amx`), or `native`.
  std::string cpu = "x86-64-v3";
  /// The kernels of a GPU artefact: `auto`, `ptx` or `cubin`.
  std::string image = "auto";
  /// The size in bytes of the shortest runs between host and device that the
  /// copy engine moves.
  int64_t copyEngineBytes = 1 << 20;
  /// Allow bufferization to copy pools.
  bool allowPoolCopies = false;
  /// Fold views, turn scatters into index copies, make variants. Off to compare
  /// optimized and unoptimized programs.
  bool optimizeLayouts = true;
  /// LLVM optimization level, 0 to 3.
  unsigned llvmLevel = 3;
  /// Maximum number of variants of one operation, for facts known only in a
  /// call.
  unsigned maxVariants = 3;
  /// Whether code checks the entries of lists: `none`, `on-request` (if the
  /// process has KVRT_CHECK=1), or `full`.
  std::string checks = "none";
  /// Called for each pass manager, to apply pass options of a command line.
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
  llvm::Module &llvmModule() { return *llvmIR; }
  const LibraryInfo &library() const { return info; }
  llvm::ArrayRef<FunctionSignature> functions() const { return signatures; }

  // Files are written after `translate`, completely or not at all.

  /// An object file.
  mlir::LogicalResult writeObject(llvm::StringRef path);
  /// A shared library that includes the runtime. Before it is moved into place,
  /// it is checked for disallowed calls, and for whether it can be loaded.
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
  std::unique_ptr<llvm::LLVMContext> llvmContext;
  std::unique_ptr<llvm::Module> llvmIR;
  struct Machine;
  std::unique_ptr<Machine> machine;
};

} // namespace kvcache::target

#endif // KVCACHE_TARGET_COMPILE_H
