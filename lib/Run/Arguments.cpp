// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "kvcache/Run/Arguments.h"

#include "NumpyFile.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/MemoryBuffer.h"

#include <cstring>

using namespace kvcache;
using namespace kvcache::target;
using namespace kvcache::run;
using namespace llvm;

static constexpr int64_t kMaxExtent = int64_t(1) << 40; // as in lib/Runtime

Expected<unsigned> run::findArgument(const FunctionSignature &signature,
                                     StringRef name) {
  std::string names;
  for (auto [i, argument] : enumerate(signature.arguments)) {
    if (name == argument.name)
      return i;
    names += (i ? ", " : "") + argument.name;
  }
  return runError("function '" + signature.name + "' has no argument '" + name +
                  "'; expected " +
                  (names.empty() ? "none" : "one of " + names));
}

namespace {

/// What is known of a tensor before it has memory.
struct Plan {
  ArgumentSpec spec;
  const ElementType *type = nullptr;
  std::optional<std::vector<int64_t>> shape;
  std::unique_ptr<MemoryBuffer> file;
  StringRef contents; ///< of the file, without a header
};

class Planner {
public:
  Planner(const FunctionSignature &signature)
      : signature(signature), plans(signature.arguments.size()),
        symbols(signature.numSymbols, -1) {}

  /// What follows from one argument alone.
  Error plan(unsigned i, const ArgumentSpec &spec);
  void follow() { followRules(signature, symbols); }
  /// Fills in what follows from the others.
  Error finishShape(unsigned i);
  Expected<std::unique_ptr<Tensor>> makeTensor(unsigned i);

private:
  Error readFile(unsigned i);
  Error checkNumbers(unsigned i);
  std::vector<int64_t> defaultStrides(const ArgumentSignature &arg,
                                      ArrayRef<int64_t> shape);

  const FunctionSignature &signature;
  std::vector<Plan> plans;
  std::vector<int64_t> symbols;
};

} // namespace

/// `f32 [n0, 8, 128]`
static std::string tensorStr(const ArgumentSignature &arg) {
  return arg.elementType + " " + shapeStr(arg);
}

static Error inArgument(const ArgumentSignature &arg, Error error) {
  return runError("argument '" + arg.name + "': " + toString(std::move(error)));
}

Error Planner::readFile(unsigned i) {
  Plan &plan = plans[i];
  ArgumentSpec &spec = plan.spec;
  auto file = MemoryBuffer::getFile(spec.path, /*IsText=*/false,
                                    /*RequiresNullTerminator=*/false);
  if (!file)
    return runError("cannot read '" + spec.path +
                    "': " + file.getError().message());
  plan.file = std::move(*file);
  plan.contents = plan.file->getBuffer();
  if (!StringRef(spec.path).ends_with(".npy"))
    return Error::success();

  Expected<NumpyHeader> header = NumpyHeader::parse(plan.contents);
  if (!header)
    return runError("'" + spec.path + "': " + toString(header.takeError()));
  plan.contents = plan.contents.drop_front(header->size);
  std::optional<int64_t> count = Tensor::count(header->shape);
  unsigned bytes = header->elementBytes();
  if (!bytes || !count || plan.contents.size() / bytes != uint64_t(*count) ||
      plan.contents.size() % bytes)
    return runError("'" + spec.path + "': expected " + listStr(header->shape) +
                    " elements of '" + header->type +
                    "' after the header, got " + Twine(plan.contents.size()) +
                    " bytes");
  // Unsigned integers and opaque bytes may hold anything, if that is said.
  bool isSaid = spec.elementType.has_value();
  bool isOpaque = header->type[1] == 'u' || header->type[1] == 'V';
  const ElementType *found = findNumpyType(header->type);
  bool fits = isOpaque && bytes == plan.type->bytes;
  if (found != plan.type && (!fits || !isSaid)) {
    std::string hint;
    if (fits)
      hint = std::string("; dtype=") + plan.type->name +
             " reads the bits as that type";
    return runError("expected elements of " + StringRef(plan.type->name) +
                    ", got '" + header->type + "' in '" + spec.path + "'" +
                    hint);
  }
  if (!spec.shape)
    plan.shape = header->shape;
  return Error::success();
}

/// Numbers that are written or generated have to be elements.
Error Planner::checkNumbers(unsigned i) {
  Plan &plan = plans[i];
  for (const Number &number : plan.spec.numbers)
    if (!plan.type->takes(number))
      return runError("expected " + plan.type->expectation() + ", got " +
                      plan.spec.text);
  if (plan.spec.source != ArgumentSpec::Source::Random)
    return Error::success();
  if (!plan.spec.range)
    return plan.type->isInteger
               ? runError("expected range=[LOWEST,HIGHEST] for random " +
                          StringRef(plan.type->name))
               : Error::success();
  for (int64_t end : {plan.spec.range->first, plan.spec.range->second})
    if (!plan.type->takes({true, end, double(end)}))
      return runError("expected " + plan.type->expectation() +
                      " at both ends of the range, got " + Twine(end));
  return Error::success();
}

Error Planner::plan(unsigned i, const ArgumentSpec &spec) {
  const ArgumentSignature &arg = signature.arguments[i];
  Plan &plan = plans[i];
  plan.spec = spec;
  plan.type = findElementType(spec.elementType.value_or(arg.elementType));
  plan.shape = spec.shape;
  if (spec.source == ArgumentSpec::Source::File)
    if (Error error = readFile(i))
      return error;
  if (Error error = checkNumbers(i))
    return error;
  bool isFixed =
      all_of(arg.dims, [](const DimRule &rule) { return rule.extent >= 0; });
  if (spec.source == ArgumentSpec::Source::List && !plan.shape && !isFixed &&
      arg.dims.size() == 1)
    plan.shape = {int64_t(spec.numbers.size())};
  if (!plan.shape)
    return Error::success();
  for (int64_t extent : *plan.shape)
    if (extent > kMaxExtent)
      return runError("expected extents up to 2^40, got " +
                      listStr(*plan.shape));
  if (plan.shape->size() != arg.dims.size())
    return Error::success(); // the entry function says so
  for (auto [rule, extent] : zip(arg.dims, *plan.shape))
    if (rule.symbol >= 0 && symbols[rule.symbol] < 0)
      symbols[rule.symbol] = extent;
  return Error::success();
}

Error Planner::finishShape(unsigned i) {
  const ArgumentSignature &arg = signature.arguments[i];
  Plan &plan = plans[i];
  if (plan.shape)
    return Error::success();
  std::vector<int64_t> shape;
  for (auto [d, rule] : enumerate(arg.dims)) {
    bool isKnown = rule.symbol >= 0 && symbols[rule.symbol] >= 0;
    if (rule.extent < 0 && !isKnown)
      return runError(
          "expected shape=" + shapeStr(arg) +
          ", as no other argument determines the extent of dimension " +
          Twine(d));
    shape.push_back(isKnown ? symbols[rule.symbol] : rule.extent);
  }
  plan.shape = std::move(shape);
  return Error::success();
}

/// The least strides that the signature allows.
std::vector<int64_t> Planner::defaultStrides(const ArgumentSignature &arg,
                                             ArrayRef<int64_t> shape) {
  std::vector<int64_t> strides(shape.size(), -1);
  if (shape.size() != arg.dims.size()) {
    int64_t step = 1;
    for (size_t d = shape.size(); d-- > 0;
         step = SaturatingMultiply(uint64_t(step), uint64_t(shape[d])))
      strides[d] = step;
    return strides;
  }
  auto strideOf = [&](auto &self, unsigned d) -> int64_t {
    if (strides[d] >= 0)
      return strides[d];
    const DimRule &rule = arg.dims[d];
    if (rule.constant >= 0)
      return strides[d] = rule.constant;
    int64_t step = 1;
    if (rule.next >= 0 && MulOverflow(std::max<int64_t>(1, shape[rule.next]),
                                      self(self, rule.next), step))
      step = INT64_MAX; // refused when memory is asked for
    bool isExact = rule.compact || step > INT64_MAX - rule.multiple;
    return strides[d] = isExact ? step : int64_t(alignTo(step, rule.multiple));
  };
  for (unsigned d = 0; d < shape.size(); ++d)
    strideOf(strideOf, d);
  return strides;
}

Expected<std::unique_ptr<Tensor>> Planner::makeTensor(unsigned i) {
  Plan &plan = plans[i];
  const ArgumentSpec &spec = plan.spec;
  auto tensor = std::make_unique<Tensor>();
  tensor->type = plan.type;
  tensor->shape = *plan.shape;
  tensor->strides = spec.strides
                        ? *spec.strides
                        : defaultStrides(signature.arguments[i], *plan.shape);
  tensor->offset = spec.offset.value_or(0);
  std::string what = plan.type->name + (" " + listStr(*plan.shape));
  if (tensor->strides.size() != tensor->shape.size())
    return runError("expected " + Twine(tensor->shape.size()) +
                    " strides for " + what + ", got " +
                    listStr(tensor->strides));
  std::optional<int64_t> count = Tensor::count(tensor->shape);
  std::optional<int64_t> reach =
      Tensor::reach(tensor->shape, tensor->strides, tensor->offset);
  if (!count || !reach)
    return runError("expected a tensor of less than 2^60 elements, got " +
                    what);
  if (spec.source == ArgumentSpec::Source::List &&
      int64_t(spec.numbers.size()) != *count)
    return runError("expected " + Twine(*count) + " numbers for " + what +
                    ", got " + Twine(spec.numbers.size()));
  uint64_t bytes = uint64_t(*reach) * plan.type->bytes;
  if (plan.file) {
    // Behind the last element there may be the end of its row.
    bool isWhole = *reach == *count;
    if (isWhole ? plan.contents.size() != bytes
                : plan.contents.size() < bytes) {
      if (!isWhole)
        what += ", strides " + listStr(tensor->strides) + ", offset " +
                std::to_string(tensor->offset);
      return runError("expected " + StringRef(isWhole ? "" : "at least ") +
                      Twine(bytes) + " bytes for " + what + ", got " +
                      Twine(plan.contents.size()) + " in '" + spec.path + "'");
    }
    bytes = plan.contents.size();
  }
  if (Error error = Storage::allocate(bytes).moveInto(tensor->storage))
    return error;
  if (plan.file)
    std::memcpy(tensor->storage.data(), plan.contents.data(), bytes);
  tensor->fill(spec, i);
  plan.file.reset();
  return tensor;
}

/// The word of an integer or a float.
static Expected<int64_t> makeNumber(const ArgumentSignature &arg,
                                    const ArgumentSpec &spec) {
  bool isInt = arg.kind == ArgumentSignature::Kind::Int;
  if (spec.source != ArgumentSpec::Source::Number ||
      (isInt && !spec.numbers[0].isInteger))
    return runError("expected " + StringRef(isInt ? "an integer" : "a number") +
                    ", got '" + spec.text + "'");
  if (spec.elementType || spec.shape || spec.strides || spec.offset)
    return runError("expected " + StringRef(isInt ? "an integer" : "a number") +
                    " alone, got a dtype, shape, strides or offset");
  return isInt ? spec.numbers[0].integer
               : bit_cast<int64_t>(spec.numbers[0].real);
}

static std::unique_ptr<DLTensor> viewOf(Tensor &tensor) {
  auto view = std::make_unique<DLTensor>();
  view->data = tensor.first();
  view->device = {kDLCPU, 0};
  view->ndim = int32_t(tensor.shape.size());
  view->dtype = {tensor.type->code, uint8_t(tensor.type->bytes * 8), 1};
  view->shape = tensor.shape.data();
  view->strides = tensor.strides.data();
  view->byte_offset = 0;
  return view;
}

/// What is used for an argument for which nothing was given.
static Expected<ArgumentSpec> missing(const ArgumentSignature &arg,
                                      bool isResult) {
  bool isTensor = arg.kind == ArgumentSignature::Kind::Tensor;
  if (isResult && isTensor && arg.isWritten)
    return ArgumentSpec(); // poison
  std::string what = isTensor ? tensorStr(arg) : arg.type;
  if (isResult && isTensor)
    return runError("expected --in " + arg.name + "=VALUE as well, for " +
                    what + " that the function is not known to write");
  return runError("expected --in " + arg.name + "=VALUE, for " + what);
}

Expected<Arguments> Arguments::make(const FunctionSignature &signature,
                                    const StringMap<ArgumentSpec> &specs,
                                    const StringSet<> &results) {
  for (const auto &entry : specs)
    if (Error error = findArgument(signature, entry.first()).takeError())
      return error;
  for (const auto &entry : results) {
    Expected<unsigned> i = findArgument(signature, entry.first());
    if (!i)
      return i.takeError();
    const ArgumentSignature &arg = signature.arguments[*i];
    if (arg.kind != ArgumentSignature::Kind::Tensor)
      return inArgument(arg, runError("expected a tensor for --out and "
                                      "--print, got " +
                                      arg.type));
  }
  unsigned count = signature.arguments.size();
  Arguments arguments;
  arguments.tensors.resize(count);
  arguments.views.resize(count);
  arguments.words.resize(count);
  Planner planner(signature);
  auto isTensor = [&](unsigned i) {
    return signature.arguments[i].kind == ArgumentSignature::Kind::Tensor;
  };
  // Shapes that are said first: others may follow from them.
  for (auto [i, arg] : enumerate(signature.arguments)) {
    auto spec = specs.find(arg.name);
    Expected<ArgumentSpec> used = spec == specs.end()
                                      ? missing(arg, results.contains(arg.name))
                                      : spec->second;
    if (!used)
      return inArgument(arg, used.takeError());
    Error error = isTensor(i)
                      ? planner.plan(i, *used)
                      : makeNumber(arg, *used).moveInto(arguments.words[i]);
    if (error)
      return inArgument(arg, std::move(error));
  }
  planner.follow();
  for (auto [i, arg] : enumerate(signature.arguments)) {
    if (!isTensor(i))
      continue;
    Error error = planner.finishShape(i);
    if (!error)
      error = planner.makeTensor(i).moveInto(arguments.tensors[i]);
    if (error)
      return inArgument(arg, std::move(error));
    arguments.views[i] = viewOf(*arguments.tensors[i]);
    arguments.words[i] = int64_t(uintptr_t(arguments.views[i].get()));
  }
  return arguments;
}
