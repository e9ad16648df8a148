// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "AttentionKernel.h"

#include "../Codecs.h"

#include "kvcache/Layout/Access.h"

#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

using namespace mlir;
using namespace kvcache;

AttentionShape::AttentionShape(const AttentionTraits &traits, bool boxes,
                               int64_t sharedLimit, int64_t keyInner,
                               int64_t valueInner)
    : elementBytes(traits.keyType.getIntOrFloatBitWidth() / 8), boxes(boxes),
      hasScales(traits.hasScales()) {
  // Fragments are read two chunks at a time.
  channels[0] = llvm::alignTo(traits.keyChannels, 32 / elementBytes);
  channels[1] = llvm::alignTo(traits.valueChannels, 32 / elementBytes);
  inner[0] = keyInner ? keyInner : innerChannels(channels[0], elementBytes);
  inner[1] = valueInner ? valueInner : innerChannels(channels[1], elementBytes);
  int64_t widest = std::max(channels[0], channels[1]);
  // Sums of 256 channels fill the registers of a thread with 8 columns.
  columnTiles = traits.group > 8 && widest <= 128 ? 2 : 1;
  warps = widest <= 128 ? 8 : 4;
  producers = boxes ? 1 : warps / 2;
  // Four slots are in flight for the memory, more are not better; those of
  // bytes are half as large.
  int64_t runBytes = traits.isInvariant ? quads() * 32 : 0;
  int64_t fixed = 1024 + kQueue * (kEntryBytes + queryBytes()) +
                  warps * (quads() * 16 + columns() * 8) + runBytes;
  slots =
      std::min<int64_t>(elementBytes == 1 ? 6 : 4,
                        (sharedLimit - fixed) / (slotBytes() + scaleBytes()));
  fixedParts = traits.isInvariant ? kFixedParts : 0;
  // Items in other turns would have parts of their own.
  phases = fixedParts              ? 1
           : traits.heads % 4 == 0 ? 4
           : traits.heads % 2 == 0 ? 2
                                   : 1;
  barrierOffset = slots * slotBytes();
  assert(8 * (2 * slots + 3 * kQueue) <= 192 && "what is left is behind them");
  liveOffset = barrierOffset + 256;
  queueOffset = llvm::alignTo(liveOffset + slots * warps * 4, 16);
  queryOffset = queueOffset + kQueue * kEntryBytes;
  sumOffset = queryOffset + kQueue * queryBytes();
  mergeOffset = sumOffset + warps * columns() * 8;
  runOffset = mergeOffset + warps * quads() * 16;
  scaleOffset = runOffset + runBytes;
  sharedBytes = scaleOffset + slots * scaleBytes();
}

int64_t AttentionShape::slotBytes() const {
  return warps * std::max(unitBytes(0), unitBytes(1));
}

AttentionKernel::AttentionKernel(KernelBuilder &k, TargetAttr gpu,
                                 const AttentionTraits &traits,
                                 const AttentionShape &shape,
                                 const BatchParameters &batch,
                                 const AttentionParameters &parameters)
    : RowCopies(k, gpu, traits, shape.work(), batch, parameters), shape(shape),
      productType(shape.elementBytes == 1 ? k.getF16Type() : traits.keyType),
      areAlternate(gpu::codecOf(traits.keyType).halves(gpu) ==
                   GPUCodec::Halves::Alternate),
      halvesOffset(gpu::codecOf(traits.keyType).halvesOffset()),
      halvesUnit(gpu::codecOf(traits.keyType).halvesUnit()) {}

void AttentionKernel::build() {
  // With the registers that ptxas leaves it, a mask would have others spilled.
  // And slots of bytes are half as large: ptxas would save registers for a
  // second block, which never comes.
  if (traits.hasMask || shape.elementBytes == 1)
    k.takeMultiprocessor();
  begin();
  k.ifThen(warp >= shape.warps, [&] { produce(); }, [&] { consume(); });
}

/// Barriers are ready, and all warps know it.
void AttentionKernel::prepareBarriers() {
  k.ifThen(thread < shape.slots, [&] {
    // Copies that lanes make arrive for each of them.
    int64_t arrivals =
        shape.boxes ? 1 + 32 * shape.hasScales : 33 * shape.producers;
    w.mbarrierInit(fullBarrier(thread), arrivals);
    w.mbarrierInit(emptyBarrier(thread), shape.warps);
    w.fenceMbarrierInit();
  });
  k.ifThen(thread < shape.kQueue, [&] {
    w.mbarrierInit(queueBarrier(thread, QueueBarrier::Full), 33);
    w.mbarrierInit(queueBarrier(thread, QueueBarrier::Empty), shape.warps);
    w.mbarrierInit(queueBarrier(thread, QueueBarrier::Split), 1);
    w.fenceMbarrierInit();
  });
}
