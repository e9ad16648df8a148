// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What thread blocks keep from one launch to the next (AttentionState).
//
//===----------------------------------------------------------------------===//

#include "WorkSplit.h"

using namespace mlir;
using namespace kvcache;

Val WorkSplit::isState(ArrayRef<Val> words) {
  using State = AttentionState;
  Val isMarked = (words[2] == k.i32(int32_t(State::kMarkBits))) &
                 (words[3] == k.i32(State::kMarkBits >> 32));
  // Other blocks of the first launch may have ended.
  Val isFirst =
      ((words[0] >> State::kLaunchBits) | words[1] | words[2] | words[3]) == 0;
  return isMarked | isFirst;
}

void WorkSplit::beginLaunch() {
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

void WorkSplit::endLaunch() {
  using State = AttentionState;
  Value state = k.parameter(parameters.state);
  Val number = k.val(k.blockX());
  w.barSync(k.i32(1), 32 * split.consumers);
  k.ifThen(thread == 0, [&] {
    Val failed = k.val(k.loadScalar(failedFlag(), k.getI32Type()));
    k.ifThen(w.unlikely(failed != 0), [&] {
      if (split.hasCalls)
        w.assertFail(
            "attention_message",
            "kvcache attention: the workspace was not zero before its first "
            "use, its first 8 KiB were overwritten, or two launches use it at "
            "once");
      else
        w.trap();
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
