// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "SlotProof.h"

#include "Boxes.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::raise;

namespace {

/// The arithmetic of a slot is a few comparisons; one that needs more boxes
/// than this is something else.
constexpr unsigned kMaxBoxes = 256;
/// More blocks than there can be.
constexpr Wide kNoLimit = Wide(1) << 64;

/// What happens to the slots of a box.
struct Fate {
  enum Kind { Written, Skipped, Excluded } kind;
  Wide shift = 0; ///< the row that is written, less the slot
};

std::string str(Wide value) {
  std::string text;
  bool isNegative = value < 0;
  do {
    int digit = static_cast<int>(value % 10);
    text.insert(text.begin(),
                static_cast<char>('0' + (digit < 0 ? -digit : digit)));
    value /= 10;
  } while (value != 0);
  return (isNegative ? "-" : "") + text;
}

class Prover {
public:
  Prover(const SlotQuestion &question)
      : question(question), boxes(question.slot, question.tokens),
        tokens(question.tokens),
        blocks(question.blocks == kRunTime ? kNoLimit : Wide(question.blocks)) {
  }

  SlotAnswer run();

private:
  enum class Step { Done, Split, Failed };

  Step decide(const Box &box);
  /// Yes or no, or a step that says why there is neither.
  std::optional<Step> less(const Number &value, Wide than, bool &result,
                           const char *what, const Box &box);
  void judge(const Box &box, Fate fate);
  std::string slotsOf(const Box &box) const {
    return "slots " + str(box.q0 * tokens + box.r0) + " to " +
           str(box.q1 * tokens + box.r1);
  }

  const SlotQuestion &question;
  BoxEvaluator boxes;
  Wide tokens, blocks;
  SlotAnswer answer;
  // What was found, in the words of the two forms that are understood.
  bool isSlot = true, isWrapped = true;
  bool skipsNegative = false, skipsPast = false;
  std::string notSlot, notWrapped;
};

std::optional<Prover::Step> Prover::less(const Number &value, Wide than,
                                         bool &result, const char *what,
                                         const Box &box) {
  switch (boxes.isLess(value, than)) {
  case Answer::Yes:
    result = true;
    return std::nullopt;
  case Answer::No:
    result = false;
    return std::nullopt;
  case Answer::Split:
    return Step::Split;
  case Answer::Unknown:
    break;
  }
  answer.why = "for " + slotsOf(box) + " the " + what +
               " is not known exactly: the arithmetic may wrap or round, or is "
               "not understood";
  return Step::Failed;
}

Prover::Step Prover::decide(const Box &box) {
  boxes.enter(box);
  if (question.guard) {
    std::optional<Number> guard = boxes.evaluate(question.guard);
    if (!guard)
      return Step::Split;
    bool isOff = false;
    if (auto step = less(*guard, 1, isOff, "condition", box))
      return *step;
    if (isOff) {
      judge(box, {Fate::Skipped});
      return Step::Done;
    }
  }
  std::optional<Number> block = boxes.evaluate(question.block);
  if (!block)
    return Step::Split;
  std::optional<Number> offset = boxes.evaluate(question.offset);
  if (!offset)
    return Step::Split;
  // One of the two outside is enough, whatever the other is.
  Fate outside = {question.skipsOutside ? Fate::Skipped : Fate::Excluded};
  bool isNegative = false, isInside = true;
  auto isOutside = [&](const Number &n, Wide limit) {
    return n.hi < 0 || n.lo >= limit;
  };
  if (isOutside(*block, blocks) || isOutside(*offset, tokens)) {
    judge(box, outside);
    return Step::Done;
  }
  for (auto [number, limit, what] :
       {std::tuple(&*block, blocks, "block"),
        std::tuple(&*offset, tokens, "offset in the block")}) {
    if (auto step = less(*number, 0, isNegative, what, box))
      return *step;
    if (auto step = less(*number, limit, isInside, what, box))
      return *step;
    if (isNegative || !isInside) {
      judge(box, outside);
      return Step::Done;
    }
  }
  // The row may be known where block and offset are known to be inside only.
  bool isRow = block->affine && offset->affine &&
               block->q * tokens + offset->q == tokens &&
               block->r * tokens + offset->r == 1;
  bool isOne = box.q0 == box.q1 && box.r0 == box.r1;
  if (!isRow && !isOne) {
    answer.why = "for " + slotsOf(box) +
                 " block and offset are not those of the slot plus a constant";
    return Step::Failed;
  }
  if (!isRow && (!block->affine || !offset->affine)) {
    answer.why = "for " + slotsOf(box) + " block and offset are not known";
    return Step::Failed;
  }
  Wide shift =
      isRow ? block->c * tokens + offset->c
            : block->lo * tokens + offset->lo - (box.q0 * tokens + box.r0);
  judge(box, {Fate::Written, shift});
  return Step::Done;
}

/// Whether what happens in a box fits the two forms. Boxes have been cut where
/// blocks begin and end to be in the pool, but not always where slots do.
void Prover::judge(const Box &box, Fate fate) {
  if (fate.kind == Fate::Excluded)
    return;
  bool hasLimit = question.blocks != kRunTime;
  bool hasNegative = box.q0 < 0;
  bool hasPast = hasLimit && box.q1 >= blocks;
  bool hasInside = box.q1 >= 0 && box.q0 < blocks;
  bool isSkipped = fate.kind == Fate::Skipped;
  // A written row is in the pool, so a slot outside is shifted into it.
  if (isSkipped ? hasInside : fate.shift != 0) {
    isSlot = false;
    if (notSlot.empty())
      notSlot = slotsOf(box) +
                (isSkipped ? " are skipped, though they are in the pool"
                           : " are written to the row of the slot plus " +
                                 str(fate.shift));
  }
  // s in [0, rows) is itself, s in [-rows, 0) is s + rows, others are skipped.
  bool fits =
      isSkipped
          ? hasLimit && !hasInside && (box.q1 < -blocks || box.q0 >= blocks)
          : (fate.shift == 0 && !hasNegative) ||
                (hasLimit && fate.shift == blocks * tokens && box.q1 < 0);
  if (!fits)
    isWrapped = false;
  if (isSkipped && hasNegative)
    skipsNegative = true;
  if (isSkipped && (hasPast || (!hasLimit && box.q1 >= 0)))
    skipsPast = true;
}

SlotAnswer Prover::run() {
  answer.kind = SlotAnswer::Kind::Unproven;
  Type type = question.slot.getType();
  if (!type.isIntOrIndex() || type.isInteger(1) || question.tokens < 1) {
    answer.why = "the slot is not an integer";
    return answer;
  }
  unsigned width = type.isIndex() ? 64 : type.getIntOrFloatBitWidth();
  if (width > 64) {
    answer.why = "the slot has more than 64 bits";
    return answer;
  }
  // All values of the type. The first and the last row of (q, r) may be cut.
  Wide least = -(Wide(1) << (width - 1)), most = -least - 1;
  auto rowOf = [&](Wide s) {
    Wide q = s / tokens;
    return s % tokens < 0 ? q - 1 : q;
  };
  Wide q0 = rowOf(least), q1 = rowOf(most);
  SmallVector<Box> worklist;
  if (q0 == q1) {
    worklist.push_back({q0, q0, least - q0 * tokens, most - q0 * tokens});
  } else {
    worklist.push_back({q0, q0, least - q0 * tokens, tokens - 1});
    if (q0 + 1 < q1)
      worklist.push_back({q0 + 1, q1 - 1, 0, tokens - 1});
    worklist.push_back({q1, q1, 0, most - q1 * tokens});
  }
  // Negative slots are a question of their own in both forms, and so are those
  // past the end.
  auto cutAt = [&](Wide q) {
    for (size_t i = 0, e = worklist.size(); i < e; ++i) {
      Box &box = worklist[i];
      if (box.q0 >= q || box.q1 < q)
        continue;
      Box high = box;
      high.q0 = q;
      box.q1 = q - 1;
      worklist.push_back(high);
    }
  };
  cutAt(0);
  if (question.blocks != kRunTime) {
    cutAt(blocks);
    cutAt(-blocks);
  }
  unsigned count = 0;
  while (!worklist.empty()) {
    Box box = worklist.pop_back_val();
    if (++count > kMaxBoxes) {
      answer.why = "the arithmetic has too many cases";
      return answer;
    }
    switch (decide(box)) {
    case Step::Done:
      break;
    case Step::Failed:
      return answer;
    case Step::Split: {
      auto [low, high] = boxes.split();
      worklist.push_back(high);
      worklist.push_back(low);
    }
    }
  }
  // How many blocks there are is seen where rows are written.
  if (question.blocks == kRunTime && question.skipsOutside)
    skipsPast = true;
  if (isSlot) {
    answer.kind = SlotAnswer::Kind::Slot;
    answer.pad = skipsPast       ? Padding::skip_out_of_range
                 : skipsNegative ? Padding::skip_negative
                                 : Padding::none;
  } else if (isWrapped && question.blocks != kRunTime) {
    answer.kind = SlotAnswer::Kind::Wrapped;
    answer.pad = Padding::skip_out_of_range;
  } else {
    answer.why = notSlot;
  }
  return answer;
}

} // namespace

SlotAnswer raise::proveSlots(const SlotQuestion &question) {
  return Prover(question).run();
}
