// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Formats with scales, and their stored values.
//
//===----------------------------------------------------------------------===//

#include "TypeSyntax.h"

#include "kvcache/IR/KVCache.h"

#include "mlir/IR/DialectImplementation.h"

using namespace mlir;
using namespace kvcache;

llvm::hash_code kvcache::hash_value(const ScaleAxis &axis) {
  return llvm::hash_combine(axis.kind, axis.group);
}

llvm::hash_code kvcache::hash_value(const ScaleStride &stride) {
  return llvm::hash_combine(stride.axis.kind, stride.axis.part,
                            stride.stride.kind, stride.stride.value);
}

/// That values of a byte are stored.
static LogicalResult verifyStored(function_ref<InFlightDiagnostic()> emitError,
                                  StringRef label, Type stored) {
  const Format *format = KVCacheDialect::formatOf(stored);
  bool isStored = format && !isa<ScaledType, StoredType>(stored);
  if (isStored && format->getBits() == 8)
    return success();
  return emitError() << label
                     << ": stored values are expected to be i8 or floats of 8 "
                        "bits, got "
                     << stored;
}

//===----------------------------------------------------------------------===//
// StoredType
//===----------------------------------------------------------------------===//

LogicalResult StoredType::verify(function_ref<InFlightDiagnostic()> emitError,
                                 Type stored) {
  return verifyStored(emitError, "stored_c1", stored);
}

const Format &StoredType::getFormat() const {
  return *KVCacheDialect::formatOf(getStored());
}

Type StoredType::getStoredType() const { return getStored(); }

//===----------------------------------------------------------------------===//
// ScaledType
//===----------------------------------------------------------------------===//

LogicalResult ScaledType::verify(function_ref<InFlightDiagnostic()> emitError,
                                 Type stored, Type scale,
                                 ArrayRef<ScaleAxis> per,
                                 ArrayRef<ScaleStride> strides) {
  if (failed(verifyStored(emitError, "scaled_c1", stored)))
    return failure();
  if (!scale.isF32())
    return emitError() << "scaled_c1: scales are expected to be f32, got "
                       << scale;
  for (auto [i, axis] : llvm::enumerate(per)) {
    std::string name = Axis{axis.kind}.str();
    if (i && !(per[i - 1].kind < axis.kind))
      return emitError() << "scaled_c2: axes are expected once each, in the "
                            "sequence L S B N H D, got "
                         << name << " after " << Axis{per[i - 1].kind}.str();
    bool isChannel = axis.kind == AxisKind::Channel;
    if (axis.group < 1 || axis.group > kMaxExtent ||
        (axis.group != 1 && !isChannel))
      return emitError() << "scaled_c2: groups of D, of 1 to 2^40 channels, "
                            "are expected, got "
                         << name << " / " << axis.group;
  }
  auto isPer = [&](AxisKind kind) {
    return llvm::any_of(
        per, [&](const ScaleAxis &axis) { return axis.kind == kind; });
  };
  if (isPer(AxisKind::Block) != isPer(AxisKind::Token))
    return emitError() << "scaled_c3: scales per B and N, or neither, are "
                          "expected, got none per "
                       << (isPer(AxisKind::Block) ? "N" : "B");
  for (auto [i, known] : llvm::enumerate(strides)) {
    int64_t value = known.stride.value;
    if (value < 1 || value > kMaxExtent)
      return emitError() << "scaled_c4: a stride between 1 and 2^40 is "
                            "expected, got "
                         << value << " for " << known.axis.str();
    for (const ScaleStride &before : strides.take_front(i))
      if (before.axis == known.axis)
        return emitError() << "scaled_c4: a stride of each axis is expected "
                              "once, got that of "
                           << known.axis.str() << " twice";
  }
  return success();
}

const Format &ScaledType::getFormat() const {
  return *KVCacheDialect::formatOf(getStored());
}

Type ScaledType::getStoredType() const { return getStored(); }

int64_t ScaledType::getGroup(int64_t channels) const {
  for (const ScaleAxis &axis : getPer())
    if (axis.kind == AxisKind::Channel)
      return axis.group;
  return channels;
}

bool ScaledType::isGiven() const {
  return llvm::none_of(getPer(), [](const ScaleAxis &axis) {
    return axis.kind == AxisKind::Block;
  });
}

bool ScaledType::isSameFormat(ScaledType other) const {
  return getStored() == other.getStored() && getScale() == other.getScale() &&
         getPer() == other.getPer();
}

static ParseResult parseScaleAxis(AsmParser &parser, ScaleAxis &result) {
  SMLoc loc = parser.getCurrentLocation();
  Axis axis;
  if (parseAxis(parser, axis))
    return failure();
  if (axis.part != AxisPart::Whole)
    return parser.emitError(loc)
           << "expected a whole axis, got '" << axis.str() << "'";
  result.kind = axis.kind;
  if (failed(parser.parseOptionalSlash()))
    return success();
  return parseDecimal(parser, result.group);
}

Type ScaledType::parse(AsmParser &parser) {
  SMLoc loc = parser.getCurrentLocation();
  Type stored, scale;
  SmallVector<ScaleAxis> per;
  SmallVector<ScaleStride> strides;
  if (parser.parseLess() || parser.parseType(stored) ||
      parser.parseKeyword("x", " before the type of scales") ||
      parser.parseType(scale))
    return {};
  bool isMore = succeeded(parser.parseOptionalComma());
  if (isMore && succeeded(parser.parseOptionalKeyword("per"))) {
    if (parser.parseEqual() ||
        parser.parseCommaSeparatedList(AsmParser::Delimiter::Square, [&] {
          return parseScaleAxis(parser, per.emplace_back());
        }))
      return {};
    isMore = succeeded(parser.parseOptionalComma());
  }
  auto add = [&](SMLoc, Axis axis, StrideFact fact) -> ParseResult {
    strides.push_back({axis, fact});
    return success();
  };
  if (isMore && (parser.parseKeyword("strides", " before a list of facts") ||
                 parser.parseEqual() || parseStrideFacts(parser, add)))
    return {};
  if (parser.parseGreater())
    return {};
  return ScaledType::getChecked(
      [&] { return parser.emitError(loc); }, parser.getContext(), stored, scale,
      ArrayRef<ScaleAxis>(per), ArrayRef<ScaleStride>(strides));
}

void ScaledType::print(AsmPrinter &printer) const {
  printer << "<" << getStored() << " x " << getScale();
  if (!getPer().empty()) {
    printer << ", per = [";
    llvm::interleaveComma(getPer(), printer, [&](const ScaleAxis &axis) {
      printer << Axis{axis.kind}.str();
      if (axis.group != 1)
        printer << " / " << axis.group;
    });
    printer << "]";
  }
  if (!getStrides().empty()) {
    printer << ", strides = [";
    llvm::interleaveComma(getStrides(), printer, [&](const ScaleStride &known) {
      printStrideFact(printer, known.axis, known.stride);
    });
    printer << "]";
  }
  printer << ">";
}
