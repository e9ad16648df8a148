// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "AttentionKernel.h"

#include "kvcache/Layout/Access.h"

#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

using namespace mlir;
using namespace kvcache;

AttentionTraits::AttentionTraits(AttentionOp op)
    : keyType(op.getKeyType().getElementType()),
      valueType(op.getValueType().getElementType()),
      queryType(getElementTypeOrSelf(op.getQuery().getType())),
      outType(getElementTypeOrSelf(op.getOut().getType())),
      causal(op.getCausal()), hasAlibi(bool(op.getAlibi())),
      hasSinks(bool(op.getSinks())), hasLse(bool(op.getLse())),
      window(op.getWindow()), scale(op.getScaleValue()) {
  const Layout &keys = op.getKeyType().getLayout();
  heads = keys.extent(AxisKind::Head);
  queryHeads = cast<ShapedType>(op.getQuery().getType()).getDimSize(1);
  group = queryHeads / heads;
  keyChannels = keys.extent(AxisKind::Channel);
  valueChannels = op.getValueType().getLayout().extent(AxisKind::Channel);
  tokens = keys.extent(AxisKind::Token);
  if (op.getSoftcap())
    softcap = op.getSoftcap()->convertToDouble();
}

AttentionShape::AttentionShape(const AttentionTraits &traits, bool boxes,
                               int64_t sharedLimit, int64_t keyInner,
                               int64_t valueInner)
    : boxes(boxes) {
  channels[0] = llvm::alignTo(traits.keyChannels, 16);
  channels[1] = llvm::alignTo(traits.valueChannels, 16);
  inner[0] = keyInner ? keyInner : innerChannels(channels[0]);
  inner[1] = valueInner ? valueInner : innerChannels(channels[1]);
  int64_t widest = std::max(channels[0], channels[1]);
  // Sums of 256 channels fill the registers of a thread with 8 columns.
  columnTiles = traits.group > 8 && widest <= 128 ? 2 : 1;
  warps = widest <= 128 ? 8 : 4;
  producers = boxes ? 1 : warps / 2;
  // Four slots are in flight for the memory, more are not better.
  int64_t fixed = 1024 + kQueue * (kEntryBytes + queryBytes()) +
                  warps * (quads() * 16 + columns() * 8);
  slots = std::min<int64_t>(4, (sharedLimit - fixed) / slotBytes());
  phases = traits.heads % 4 == 0 ? 4 : traits.heads % 2 == 0 ? 2 : 1;
  barrierOffset = slots * slotBytes();
  assert(8 * (2 * slots + 3 * kQueue) <= 192 && "what is left is behind them");
  liveOffset = barrierOffset + 256;
  queueOffset = llvm::alignTo(liveOffset + slots * warps * 4, 16);
  queryOffset = queueOffset + kQueue * kEntryBytes;
  sumOffset = queryOffset + kQueue * queryBytes();
  mergeOffset = sumOffset + warps * columns() * 8;
  sharedBytes = mergeOffset + warps * quads() * 16;
}

int64_t AttentionShape::slotBytes() const {
  return warps * std::max(unitBytes(0), unitBytes(1));
}

AttentionKernel::AttentionKernel(KernelBuilder &k, TargetAttr gpu,
                                 const AttentionTraits &traits,
                                 const AttentionShape &shape,
                                 const BatchParameters &batch,
                                 const AttentionParameters &parameters)
    : k(k), w(k, gpu), traits(traits), shape(shape), batch(batch),
      parameters(parameters) {}

void AttentionKernel::build() {
  shared = k.dynamicShared();
  thread = k.val(k.threadX());
  // Roles are those of whole warps: they are told so.
  warp = w.shflIdx(thread >> 5, int64_t(0));
  lane = thread & 31;
  rows = as(k.parameter(batch.rows), 32);
  requests = as(k.parameter(batch.count), 32);
  room = as(k.parameter(batch.columns), 32) * traits.tokens;
  chunkBits = as(k.parameter(parameters.chunkBits), 32);

  k.ifThen(warp >= shape.warps, [&] { produce(); }, [&] { consume(); });
}

/// Barriers are ready, and all warps know it.
void AttentionKernel::prepareBarriers() {
  k.ifThen(thread < shape.slots, [&] {
    int64_t arrivals = shape.boxes ? 1 : 33 * shape.producers;
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

Val AttentionKernel::isState(ArrayRef<Val> words) {
  using State = AttentionState;
  Val isMarked = (words[2] == k.i32(int32_t(State::kMarkBits))) &
                 (words[3] == k.i32(State::kMarkBits >> 32));
  // Other blocks of the first launch may have ended.
  Val isFirst =
      ((words[0] >> State::kLaunchBits) | words[1] | words[2] | words[3]) == 0;
  return isMarked | isFirst;
}

void AttentionKernel::beginLaunch() {
  using State = AttentionState;
  static_assert(State::kMark == State::kFinished + 8, "one load has both");
  Value state = k.parameter(parameters.state);
  Val number = k.val(k.blockX());
  Vals words = w.ldRelaxed128(at(state, State::kFinished));
  // Another launch that runs is a failure, told at the end as all of them are;
  // so is a state that is none.
  k.ifThen(thread == 0, [&] {
    Val running =
        w.atomExch(at(state, as(number, 64) * 4 + State::kRunning), k.i32(1));
    k.storeScalar(select(isState(words), running, k.i32(1)), failedFlag());
  });
  Val epoch = (words[0] >> State::kLaunchBits) |
              (words[1] << (32 - State::kLaunchBits));
  // Tags of two launches have nothing in common with small numbers, which other
  // operations leave where the parts are.
  tag = (epoch + 1) * double(int32_t(0x9E3779B1u));
}

void AttentionKernel::endLaunch() {
  using State = AttentionState;
  Value state = k.parameter(parameters.state);
  Val number = k.val(k.blockX());
  w.barSync(1, 32 * shape.warps);
  k.ifThen(thread == 0, [&] {
    Val failed = k.val(k.loadScalar(failedFlag(), k.getI32Type()));
    k.ifThen(w.unlikely(failed != 0), [&] {
      w.assertFail(
          "attention_message",
          "kvcache attention: the workspace was not zero before its first "
          "use, its first 8 KiB were overwritten, or two launches use it at "
          "once");
    });
    // The counters of the next launch.
    for (int64_t i = 0; i < State::kMaxPhases; ++i) {
      Val other =
          (parity() ^ 1) * State::kMaxCounters + number * State::kMaxPhases + i;
      k.storeScalar(k.i32(0), at(state, as(other, 64) * 4 + State::kCounters));
    }
    k.storeScalar(k.i32(0), at(state, as(number, 64) * 4 + State::kRunning));
    Val grid = k.val(k.gridX());
    Val share = select(number == 0, k.i32((1 << State::kLaunchBits) + 1) - grid,
                       k.i32(1));
    k.ifThen(number == 0, [&] {
      // In one piece: a block that begins late looks at it.
      k.storeScalar(k.i64(State::kMarkBits), at(state, State::kMark));
    });
    w.atomAdd(at(state, State::kFinished), as(share, 64));
  });
}
