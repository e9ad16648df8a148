// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Building a kernel and its launches.
//
// A kernel is an `llvm.func` in the `gpu.module` `@kv_kernels`; its body
// is arith, scf, llvm and nvvm. It is not a `gpu.func` because a tensor map can
// be passed to an `llvm.func` only. Parameters are collected on the host side,
// so that what a kernel takes and what a launch passes cannot drift apart.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_LIB_CONVERSION_GPU_TARGET_KERNELBUILDER_H
#define KVCACHE_LIB_CONVERSION_GPU_TARGET_KERNELBUILDER_H

#include "../../Common/CodeBuilder.h"
#include "kvcache/IR/KVCache.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

#include <memory>
#include <optional>

namespace kvcache {

/// The module of kernels. No function of a program has this name.
inline constexpr llvm::StringLiteral kKernelModule = "kv_kernels";

class TargetOps;

/// A stride in elements: a constant, or a parameter.
struct StrideSource {
  std::optional<int64_t> constant;
  unsigned parameter = 0;
};

/// The values that a launch passes: pointers to global memory and 64-bit
/// integers. The host side of a kernel's parameter list.
class KernelOperands {
public:
  KernelOperands(mlir::OpBuilder &builder, mlir::Location loc)
      : builder(builder), loc(loc) {}

  /// A pointer to the element of a memref's buffer at `offset` (index,
  /// elements). Gives the number of the parameter.
  unsigned addPointer(mlir::Value buffer, mlir::Value offset);
  /// A pointer to the first element of a memref.
  unsigned addBuffer(mlir::Value memref);
  /// An address, given as an index.
  unsigned addAddress(mlir::Value address);
  /// An index, as i64.
  unsigned addIndex(mlir::Value index);
  /// The extent of a dimension of a memref, as i64.
  unsigned addExtent(mlir::Value memref, unsigned dim);
  /// A tensor map in memory of the host, which the kernel gets a copy of.
  unsigned addMap(mlir::Value map);
  /// A stride in elements, which is a parameter only if it is not known.
  StrideSource addStride(std::optional<int64_t> constant, mlir::Value stride);
  /// That of a dimension of a memref.
  StrideSource addStrideOf(mlir::Value memref, unsigned dim);
  /// The bits of an f32, in an i64.
  unsigned addFloat(mlir::Value number);
  /// The outermost stride of a memref.
  StrideSource addRowStride(std::optional<int64_t> constant,
                            mlir::Value memref);

  llvm::ArrayRef<mlir::Value> values() const { return operands; }
  llvm::ArrayRef<mlir::Type> types() const { return parameterTypes; }
  llvm::ArrayRef<int32_t> maps() const { return mapNumbers; }

private:
  mlir::OpBuilder &builder;
  mlir::Location loc;
  llvm::SmallVector<mlir::Value> operands;
  llvm::SmallVector<mlir::Type> parameterTypes;
  llvm::SmallVector<int32_t> mapNumbers;
};

/// The body of a kernel under construction.
class KernelBuilder : public CodeBuilder {
public:
  /// Creates an empty kernel whose name begins with `name`, and stands at the
  /// start of its body. `threads` is the only block size it is launched with.
  /// The instructions are those of the target that the module has.
  KernelBuilder(mlir::ModuleOp module, mlir::Location loc, llvm::StringRef name,
                llvm::ArrayRef<mlir::Type> parameters, int64_t threads);
  ~KernelBuilder();

  const TargetOps &target() const { return *ops; }

  Val parameter(unsigned i) { return val(function.getArgument(i)); }
  /// One that addFloat added.
  Val floatParameter(unsigned i);
  mlir::SymbolRefAttr symbol();
  /// A multiprocessor has one block at a time: its threads may have all
  /// registers.
  void takeMultiprocessor();
  /// Says that a parameter is a tensor map.
  void markMap(unsigned i);
  /// Ends the body.
  void finish();

  // i32
  Val threadX();
  Val blockSize();
  Val blockX();
  Val blockY();
  Val blockZ();
  Val gridX();
  Val gridY();
  /// To i64: of an unsigned number, and of a signed one.
  Val extui64(mlir::Value narrow) { return extui(narrow, getI64Type()); }
  Val extsi64(mlir::Value narrow) { return sextOrTrunc(narrow, getI64Type()); }

  /// In bytes, as i64.
  Val stride(const StrideSource &source, int64_t elementBytes);

  /// Of `count` numbers, a power of two, those before the first one for which
  /// `holds` does not. Without branches, as all threads take as many steps.
  Val countFirst(int64_t count,
                 llvm::function_ref<mlir::Value(mlir::Value)> holds);
  /// The first of `first` .. `end` - 1 for which a condition holds that stays
  /// true once it is; `end` if there is none.
  Val searchFirst(mlir::Value first, mlir::Value end,
                  llvm::function_ref<mlir::Value(mlir::Value)> holds);

  /// The address `bytes` (an integer) past a pointer.
  mlir::Value byteOffset(mlir::Value pointer, mlir::Value bytes);
  /// One access of 1, 2, 4, 8 or 16 bytes, aligned to its size. A streaming
  /// one says that the data is not used again soon.
  using CodeBuilder::load;
  mlir::Value load(mlir::Value pointer, int64_t bytes, bool streaming = false);
  /// A load from global memory under a predicate, without a branch; zero where
  /// it does not hold.
  mlir::Value loadIf(mlir::Value condition, mlir::Value pointer, int64_t bytes);
  using CodeBuilder::store;
  void store(mlir::Value value, mlir::Value pointer, int64_t bytes);
  /// A store under a predicate, without a branch: LLVM would move the loads of
  /// what is stored into the branch, behind the loads that decide it, and each
  /// branch costs a fetch of instructions when a kernel starts cold.
  void storeIf(mlir::Value condition, mlir::Value value, mlir::Value pointer,
               int64_t bytes, bool streaming = false);
  /// The access of a width whose bits are all zero.
  mlir::Value zero(int64_t bytes);
  /// A scalar of the given type.
  Val loadScalar(mlir::Value pointer, mlir::Type type);
  void storeScalar(mlir::Value value, mlir::Value pointer);
  /// Entry `index` (i64) of an array of integers, as i64.
  Val loadEntry(mlir::Value array, mlir::Value index, mlir::Type type);
  /// 0 where the condition does not hold.
  Val loadEntryIf(mlir::Value condition, mlir::Value array, mlir::Value index,
                  mlir::Type type);
  /// In its own type.
  Val loadRawEntryIf(mlir::Value condition, mlir::Value array,
                     mlir::Value index, mlir::Type type);
  void storeEntry(mlir::Value value, mlir::Value array, mlir::Value index,
                  mlir::Type type);
  /// Accesses of `bytes` each as one access, the first one lowest.
  mlir::Value join(llvm::ArrayRef<mlir::Value> pieces, int64_t bytes);

  /// The shared memory whose size a launch says, aligned to 1024 bytes.
  mlir::Value dynamicShared();
  /// A pointer to shared memory of the block, aligned to 16 bytes.
  mlir::Value shared(int64_t bytes);
  /// All threads of the block wait for each other.
  void barrier();
  /// The same; whether a condition holds for all of them.
  Val barrierAll(mlir::Value condition);

private:
  std::unique_ptr<TargetOps> ops;
  mlir::LLVM::LLVMFuncOp function;
  unsigned sharedBuffers = 0;
};

/// On a launch: the numbers of parameters that are passed by value from where a
/// pointer is.
inline constexpr llvm::StringLiteral kByValueName = "by_value";
/// On a launch: its kernel reads nothing that kernels before it write, and need
/// not wait for them before it ends.
inline constexpr llvm::StringLiteral kEarlyName = "early";

/// Launches a kernel on a grid (index values) with its only block size.
/// A null `gridZ` is one. Gives the launch.
mlir::Operation *emitLaunch(mlir::OpBuilder &builder, mlir::Location loc,
                            mlir::SymbolRefAttr kernel, mlir::Value gridX,
                            mlir::Value gridY, mlir::Value gridZ,
                            int64_t threads, const KernelOperands &operands,
                            int64_t sharedBytes = 0,
                            LaunchMode mode = LaunchMode::in_order);
LaunchMode getLaunchMode(mlir::Operation *launch);
void setLaunchMode(mlir::Operation *launch, LaunchMode mode);

/// The integers that one access of a width moves.
mlir::Type accessType(mlir::OpBuilder &builder, int64_t bytes);

} // namespace kvcache

#endif // KVCACHE_LIB_CONVERSION_GPU_TARGET_KERNELBUILDER_H
