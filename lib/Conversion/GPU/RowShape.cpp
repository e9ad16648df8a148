// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "RowShape.h"

#include "../Common/CacheLowering.h"
#include "kvcache/IR/Strides.h"

using namespace mlir;
using namespace kvcache;

static int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

RowShape::RowShape(int64_t accesses, int64_t width, int64_t wanted)
    : accesses(accesses), width(width) {
  perThread = std::min(Layout::kWidestAccess / width, accesses);
  int64_t needed = ceilDiv(accesses, perThread);
  rows = std::max<int64_t>(1, wanted / needed);
  threadsPerRow = std::min(needed, wanted);
  threads = rows * threadsPerRow;
  int64_t perPart = threadsPerRow * perThread;
  parts = ceilDiv(accesses, perPart);
  isExact = accesses % perPart == 0;
}

RowThread::RowThread(KernelBuilder &k, const RowShape &shape, Value part) {
  Value thread = k.threadX();
  rowInBlock = k.i32(0);
  if (shape.parts > 1) {
    int64_t perPart = shape.threadsPerRow * shape.perThread;
    thread = k.addi(thread, k.muli(part ? part : k.blockY(), k.i32(perPart)));
  } else if (shape.rows > 1) {
    rowInBlock = k.divui(thread, shape.threadsPerRow);
    thread = k.remui(thread, shape.threadsPerRow);
  }
  for (int64_t j = 0; j < shape.perThread; ++j) {
    Access access;
    access.number = k.addi(thread, k.i32(j * shape.threadsPerRow));
    if (!shape.isExact) {
      access.isThere = k.ult(access.number, k.i32(shape.accesses));
      access.number =
          k.select(access.isThere, access.number, k.i32(shape.accesses - 1));
    }
    access.inRow = k.extui64(k.muli(access.number, k.i32(shape.width)));
    accesses.push_back(access);
  }
}

KnownRows::KnownRows(Value memref) {
  auto type = cast<MemRefType>(memref.getType());
  elementBytes = type.getElementType().getIntOrFloatBitWidth() / 8;
  align = knownRowAlignment(memref);
  StrideFact stride = stridedDims(type)->front().stride;
  if (stride.kind != StrideFact::Kind::Constant)
    return;
  knownStride = stride.value;
  align = alignmentOf(stride.value, elementBytes, align);
}

RowBuffer::RowBuffer(KernelOperands &operands, Value memref)
    : KnownRows(memref), pointer(operands.addBuffer(memref)),
      stride(operands.addRowStride(knownStride, memref)) {}

Value RowBuffer::at(KernelBuilder &k, Value row) const {
  return k.byteOffset(k.parameter(pointer),
                      k.muli(row, k.stride(stride, elementBytes)));
}

HeadBuffer::HeadBuffer(KernelOperands &operands, Value memref, bool headsFirst)
    : pointer(operands.addBuffer(memref)) {
  auto type = cast<MemRefType>(memref.getType());
  elementBytes = type.getElementType().getIntOrFloatBitWidth() / 8;
  row = operands.addStrideOf(memref, headsFirst ? 1 : 0);
  head = operands.addStrideOf(memref, headsFirst ? 0 : 1);
}

Value HeadBuffer::at(KernelBuilder &k, Value row, Value head) const {
  Value bytes = k.addi(k.muli(row, k.stride(this->row, elementBytes)),
                       k.muli(head, k.stride(this->head, elementBytes)));
  return k.byteOffset(k.parameter(pointer), bytes);
}
