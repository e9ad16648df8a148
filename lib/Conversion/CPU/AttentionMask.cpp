// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The bits of a mask, for lanes that have a row and a key each.
//
//===----------------------------------------------------------------------===//

#include "AttentionTile.h"

#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace kvcache;
using namespace kvcache::cpu;

/// As many words as have a bit for each number of 31 bits.
static constexpr int64_t kMostWords = int64_t(1) << 26;

static int64_t lanesOf(Value vector) {
  return cast<VectorType>(vector.getType()).getNumElements();
}

Value Tile::wordCount(CodeBuilder &emit, Value words) {
  return emit.indexCast(emit.minsi(words, emit.index(kMostWords)),
                        emit.getI32Type());
}

Value Tile::maskOffset(CodeBuilder &emit, Value row) const {
  return emit.indexCast(mask->at(emit, row).offset, emit.getI64Type());
}

Value Tile::ownNumber(CodeBuilder &emit, Value keys) const {
  constexpr int64_t kLeast = std::numeric_limits<int32_t>::min();
  Value first = emit.indexCast(emit.maxsi(firstOwn, emit.index(kLeast)),
                               emit.getI32Type());
  return emit.subi(keys, splat(emit, first, lanesOf(keys)));
}

Value Tile::maskWords(CodeBuilder &emit, Value own, Value offsets) const {
  int64_t lanes = lanesOf(own);
  auto all = [&](int64_t n) { return splat(emit, emit.i32(n), lanes); };
  // A negative number has a word that no row has.
  Value word = emit.fold<arith::ShRUIOp>(own, all(5));
  Value isThere = emit.ult(word, splat(emit, words, lanes));
  Value others = emit.select(emit.slt(own, all(0)), all(-1), all(0));
  Value at = emit.addi(offsets, emit.extui(word, offsets.getType()));
  return vector::GatherOp::create(emit, cast<VectorType>(own.getType()),
                                  mask->first.memref, ValueRange{emit.index(0)},
                                  at, isThere, others);
}

Value Tile::isSet(CodeBuilder &emit, Value words, Value own) const {
  int64_t lanes = lanesOf(own);
  auto all = [&](int64_t n) { return splat(emit, emit.i32(n), lanes); };
  Value bit = emit.fold<arith::ShRUIOp>(words, emit.andi(own, all(31)));
  return emit.cmpi(CodeBuilder::Predicate::ne, emit.andi(bit, all(1)), all(0));
}
