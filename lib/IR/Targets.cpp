// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The supported chips, one row each. Every feature that a lowering depends on
// is a column here, and no lowering tests a name.
//
//===----------------------------------------------------------------------===//

#include "kvcache/IR/KVCache.h"

#include "mlir/IR/BuiltinOps.h"

using namespace mlir;
using namespace kvcache;

namespace {

struct Row {
  StringLiteral chip;
  Isa isa;
  int64_t lanes;
  MatrixOps matrix;
  int64_t sharedBytes;
  bool warpgroups, tensorMaps, tryWait, overlap, convertF8;
  int64_t ptx;
};

constexpr int64_t operator""_KiB(unsigned long long n) { return n << 10; }

} // namespace

static constexpr auto kNone = MatrixOps::none;
static constexpr auto kPairs = MatrixOps::avx512_bf16;
static constexpr auto kTiles = MatrixOps::amx_bf16;
static constexpr auto kMma = MatrixOps::mma_sync;

// clang-format off
static constexpr Row kRows[] = {
    // On a CPU LLVM splits vectors that are wider than its registers.
    //                     lanes     shared   warpgroups maps  wait  overlap f8    ptx
    {"generic", Isa::cpu, 8, kNone, 0,              false, false, false, false, false, 0},
    {"x86-64-v4", Isa::cpu, 16, kNone, 0,           false, false, false, false, false, 0},
    {"x86-64-v4-bf16", Isa::cpu, 16, kPairs, 0,     false, false, false, false, false, 0},
    {"x86-64-v4-amx", Isa::cpu, 16, kTiles, 0,      false, false, false, false, false, 0},
    {"sm_80", Isa::nvvm, 32, kMma, 163_KiB,         false, false, false, false, false, 83},
    {"sm_90a", Isa::nvvm, 32, kMma, 227_KiB,        true,  true,  true,  true,  true,  86},
    {"sm_100a", Isa::nvvm, 32, kMma, 227_KiB,       false, true,  true,  true,  true,  86},
};
// clang-format on

LogicalResult TargetAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                 StringRef chip, Isa isa, int64_t lanes,
                                 MatrixOps matrix, int64_t sharedBytes,
                                 bool warpgroups, bool tensorMaps, bool tryWait,
                                 bool overlap, bool convertF8, int64_t ptx) {
  bool isCpu = isa == Isa::cpu;
  if (isCpu ? lanes != 8 && lanes != 16 : lanes != 32)
    return emitError() << "target_c1: 'lanes' of '" << chip
                       << "' is expected to be " << (isCpu ? "8 or 16" : "32")
                       << ", got " << lanes;
  bool hasGpu = matrix == MatrixOps::mma_sync || sharedBytes || warpgroups ||
                tensorMaps || tryWait || overlap || convertF8 || ptx;
  auto facts = [&] {
    return (stringifyMatrixOps(matrix) + ", " + Twine(sharedBytes) +
            " bytes of shared memory, PTX " + Twine(ptx))
        .str();
  };
  bool hasBF16 =
      matrix == MatrixOps::avx512_bf16 || matrix == MatrixOps::amx_bf16;
  if (isCpu && (hasGpu || (hasBF16 && lanes != 16)))
    return emitError() << "target_c2: '" << chip
                       << "' is expected to have no GPU facts, and products "
                          "of bf16 only with 16 lanes, got "
                       << facts();
  if (!isCpu && (hasBF16 || ptx <= 0 || sharedBytes < 0))
    return emitError()
           << "target_c2: '" << chip
           << "' is expected to have a PTX version and no CPU facts, got "
           << facts();
  return success();
}

TargetAttr TargetAttr::lookup(MLIRContext *context, StringRef chip) {
  for (const Row &row : kRows)
    if (row.chip == chip)
      return get(context, row.chip, row.isa, row.lanes, row.matrix,
                 row.sharedBytes, row.warpgroups, row.tensorMaps, row.tryWait,
                 row.overlap, row.convertF8, row.ptx);
  return {};
}

bool TargetAttr::isKnown(Isa isa, StringRef chip) {
  return llvm::any_of(kRows, [&](const Row &row) {
    return row.isa == isa && row.chip == chip;
  });
}

std::string TargetAttr::known(Isa isa, StringRef before) {
  SmallVector<StringRef> names;
  if (!before.empty())
    names.push_back(before);
  for (const Row &row : kRows)
    if (row.isa == isa)
      names.push_back(row.chip);
  std::string list;
  for (auto [i, name] : llvm::enumerate(names)) {
    if (i)
      list += i + 1 == names.size() ? " or " : ", ";
    list += name;
  }
  return list;
}

TargetAttr TargetAttr::of(Operation *op) {
  // Modules inside of one are made for the same.
  for (; op; op = op->getParentOp())
    if (auto target =
            op->getAttrOfType<TargetAttr>(KVCacheDialect::kTargetAttr))
      return target;
  return {};
}

FailureOr<TargetAttr> TargetAttr::resolve(Operation *module, Isa isa,
                                          StringRef chip, StringRef standard) {
  TargetAttr target = of(module);
  if (target && target.getIsa() != isa)
    return emitError(module->getLoc())
           << "the target of the module is expected to have the instructions "
           << stringifyIsa(isa) << ", got " << target;
  if (target && !chip.empty() && target.getChip() != chip)
    return emitError(module->getLoc())
           << "the module targets '" << target.getChip() << "', but '" << chip
           << "' is requested";
  if (target)
    return target;
  StringRef name = chip.empty() ? standard : chip;
  if (!isKnown(isa, name))
    return emitError(module->getLoc())
           << "unknown chip '" << name << "'; expected " << known(isa);
  target = lookup(module->getContext(), name);
  module->setAttr(KVCacheDialect::kTargetAttr, target);
  return target;
}
