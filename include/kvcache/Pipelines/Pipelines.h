// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The named pipelines, identical from C++ and from the command line. Each is a
// phase that ends in readable IR:
//
//   kvcache-bufferize   tensors become memrefs, results become arguments; no
//                       pool is copied
//   kvcache-optimize    programs of other compilers are raised; the same; then
//                       views fold, scatters become index copies, and
//                       operations get variants for facts
//   kvcache-to-cpu      bufferized kvcache IR -> LLVM dialect, CPU code
//   kvcache-to-kernels  bufferized kvcache IR -> gpu.module and launches
//   kvcache-to-nvvm     bufferized kvcache IR -> LLVM dialect with PTX or cubin
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_PIPELINES_PIPELINES_H
#define KVCACHE_PIPELINES_PIPELINES_H

#include "mlir/Pass/PassOptions.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <string>

namespace llvm {
class raw_ostream;
} // namespace llvm

namespace mlir {
class OpPassManager;
} // namespace mlir

namespace kvcache {

struct BufferizeOptions : mlir::PassPipelineOptions<BufferizeOptions> {
  Option<bool> allowPoolCopies{
      *this, "allow-pool-copies",
      llvm::cl::desc("Allow bufferization to copy pools"),
      llvm::cl::init(false)};
};

struct OptimizeOptions : mlir::PassPipelineOptions<OptimizeOptions> {
  Option<std::string> target{*this, "target",
                             llvm::cl::desc("Target of the code: cpu or gpu"),
                             llvm::cl::init("cpu")};
  Option<bool> allowPoolCopies{
      *this, "allow-pool-copies",
      llvm::cl::desc("Allow bufferization to copy pools"),
      llvm::cl::init(false)};
  Option<bool> standalone{
      *this, "standalone",
      llvm::cl::desc("Drop attributes of compilers whose dialects are not "
                     "loaded"),
      llvm::cl::init(false)};
  Option<bool> computeSlots{
      *this, "compute-slots",
      llvm::cl::desc("Compute slots from lists of blocks and offsets, in the "
                     "workspace"),
      llvm::cl::init(false)};
  Option<unsigned> maxVariants{
      *this, "max-variants",
      llvm::cl::desc("Maximum number of variants; 1 is only the generic one"),
      llvm::cl::init(3)};
};

/// Whether entries of lists are checked.
inline constexpr llvm::StringLiteral kChecksHelp =
    "Whether compiled code checks the entries of lists: none, on-request (if "
    "the process has KVRT_CHECK=1), or full";

struct CpuOptions : mlir::PassPipelineOptions<CpuOptions> {
  Option<std::string> checks{*this, "checks", llvm::cl::desc(kChecksHelp),
                             llvm::cl::init("none")};
  Option<std::string> chip{
      *this, "chip",
      llvm::cl::desc("Chip of the code: generic, x86-64-v4, "
                     "x86-64-v4-bf16 or x86-64-v4-amx (default: the target of "
                     "the module, or generic)"),
      llvm::cl::init("")};
};

struct GpuOptions : mlir::PassPipelineOptions<GpuOptions> {
  Option<std::string> checks{*this, "checks", llvm::cl::desc(kChecksHelp),
                             llvm::cl::init("none")};
  Option<std::string> chip{
      *this, "chip",
      llvm::cl::desc("Chip of the kernels: sm_80, sm_90a or "
                     "sm_100a (default: the target of the module, or sm_90a)"),
      llvm::cl::init("")};
  Option<std::string> image{
      *this, "image",
      llvm::cl::desc("Embedded kernels: ptx, cubin (needs ptxas), or auto, "
                     "which is cubin if ptxas is found"),
      llvm::cl::init("auto")};
  Option<int64_t> copyEngineBytes{
      *this, "copy-engine-bytes",
      llvm::cl::desc(
          "Bytes of the shortest runs between host and device that the "
          "copy engine moves, if the pairs are in host memory"),
      llvm::cl::init(1 << 20)};
};

void buildBufferizePipeline(
    mlir::OpPassManager &pm,
    const BufferizeOptions &options = BufferizeOptions());
void buildOptimizePipeline(mlir::OpPassManager &pm,
                           const OptimizeOptions &options);
void buildCpuPipeline(mlir::OpPassManager &pm, const CpuOptions &options);
void buildKernelsPipeline(mlir::OpPassManager &pm, const GpuOptions &options);
void buildNvvmPipeline(mlir::OpPassManager &pm, const GpuOptions &options);

/// A pipeline as registered on the command line.
struct NamedPipeline {
  llvm::StringRef name, description;
  /// Adds the passes of the pipeline with default options.
  void (*build)(mlir::OpPassManager &pm);
  void (*enroll)(const NamedPipeline &self);
};

/// All of the above, in the order in which a program passes through them.
llvm::ArrayRef<NamedPipeline> getPipelines();

void registerPipelines();

/// Prints each pipeline with its description and its expansion, in
/// `--pass-pipeline` syntax.
void printPipelines(llvm::raw_ostream &os);

} // namespace kvcache

#endif // KVCACHE_PIPELINES_PIPELINES_H
