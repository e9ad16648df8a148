// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "MaskBuffer.h"

#include "../../Common/CodeBuilder.h"
#include "../Target/TargetOps.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace kvcache;

MaskBuffer::MaskBuffer(KernelOperands &operands, Value memref)
    : RowBuffer(operands, memref), words(operands.addExtent(memref, 1)) {}

static Val wordOf(Val own) {
  CodeBuilder &b = own.builder();
  return b.fold<arith::ShRSIOp>(own, b.i64(5));
}

Val MaskBuffer::word(KernelBuilder &k, Value address, Val index) const {
  Val isThere = isBelow(index, k.parameter(words));
  Val loaded =
      k.val(k.loadIf(isThere, k.byteOffset(address, index * 4), /*bytes=*/4));
  return select(index < 0, k.i32(-1), loaded);
}

Val MaskBuffer::bits(KernelBuilder &k, Val row, Val own) const {
  Value address = at(k, row);
  Val first = wordOf(own);
  return k.target().funnelShift(word(k, address, first),
                                word(k, address, first + 1), as(own, 32));
}

Val MaskBuffer::isSeen(KernelBuilder &k, Val row, Val own) const {
  Val whole = word(k, at(k, row), wordOf(own));
  return ((whole >> (as(own, 32) & 31)) & 1) != 0;
}
