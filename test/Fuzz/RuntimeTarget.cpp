// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The run time itself, linked into this program: what an entry function may
// demand of tensors, and tensors of which some do not comply. What is accepted
// is looked at again, in arithmetic that does not wrap.
//
//===----------------------------------------------------------------------===//

#include "Target.h"

#include "llvm/ADT/STLExtras.h"

#include <cstdlib>
#include <cstring>
#include <fuzzer/FuzzedDataProvider.h>
#include <memory>
#include <numeric>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include "kvrt.h"
}

using namespace kvcache::fuzz;
using llvm::StringRef;

namespace {

constexpr int64_t kOdd[] = {
    0,         -1,        1,         2,         3,           16,
    1 << 20,   1LL << 31, 1LL << 32, 1LL << 39, 1LL << 40,   (1LL << 40) + 1,
    1LL << 41, 1LL << 62, INT64_MAX, INT64_MIN, -(1LL << 40)};

int64_t oddNumber(FuzzedDataProvider &input) {
  return input.ConsumeBool() ? input.PickValueInArray(kOdd)
                             : input.ConsumeIntegral<int64_t>();
}

/// Of just the size, so that the sanitizer sees what is read behind it.
using Numbers = std::unique_ptr<int64_t[]>;

struct Tensor {
  DLTensor tensor = {};
  Numbers shape, strides;
};

/// The frame of the last call that ran.
int64_t lastFrame[2048];
int32_t lastWords;
bool hasRun;

void keepFrame(const int64_t *frame) {
  std::copy_n(frame, lastWords, lastFrame);
  hasRun = true;
}
int64_t noWorkspace(const int64_t *) { return 0; }
int64_t someWorkspace(const int64_t *) { return 4096; }
int64_t wrappedWorkspace(const int64_t *) { return -4096; }

class Case {
public:
  explicit Case(FuzzedDataProvider &input) : input(input) {
    chooseFunction();
    for (const kvrt_arg &arg : args)
      chooseTensor(arg);
  }
  void run();

private:
  void chooseFunction();
  void chooseTensor(const kvrt_arg &arg);
  void spoil(Tensor &t);
  void checkAccepted();
  void checkTensor(const kvrt_arg &arg, const DLTensor &tensor,
                   const int64_t *&word);
  void callFfi();
  std::vector<void *> pointers();
  bool isCovered(const kvrt_arg &arg) const;

  FuzzedDataProvider &input;
  kvrt_function function = {};
  std::vector<kvrt_arg> args;
  std::vector<std::vector<kvrt_dim>> dims;
  std::vector<std::string> names;
  std::vector<kvrt_rule> rules;
  std::vector<int64_t> symbols;
  std::vector<Tensor> tensors;
  std::vector<int64_t> scalars;
};

void Case::chooseFunction() {
  symbols.resize(3, -1);
  size_t count = input.ConsumeIntegralInRange<size_t>(0, 4);
  dims.resize(count);
  names.resize(count);
  args.resize(count);
  std::vector<int32_t> seen;
  for (size_t i = 0; i < count; ++i) {
    names[i] = std::string(1, char('a' + i));
    kvrt_arg &arg = args[i];
    arg.name = names[i].c_str();
    arg.kind = input.ConsumeIntegralInRange<int32_t>(0, 9);
    arg.kind = arg.kind > 2 ? KVRT_TENSOR : arg.kind;
    function.frame_words += 1;
    if (arg.kind != KVRT_TENSOR)
      continue;
    arg.rank = input.ConsumeIntegralInRange<int32_t>(0, 4);
    function.frame_words += 2 + 2 * arg.rank;
    static const DLDataType kTypes[] = {{kDLInt, 32, 1},   {kDLInt, 64, 1},
                                        {kDLFloat, 32, 1}, {kDLBfloat, 16, 1},
                                        {kDLInt, 8, 1},    {kDLFloat, 64, 1}};
    DLDataType type = input.PickValueInArray(kTypes);
    arg.dtype_code = type.code;
    arg.dtype_bits = type.bits;
    arg.device = kDLCPU;
    arg.align = 1 << input.ConsumeIntegralInRange<int>(0, 6);
    // From the fastest to the slowest, in any sequence.
    std::vector<int32_t> order(arg.rank);
    std::iota(order.begin(), order.end(), 0);
    for (size_t d = order.size(); d > 1; --d)
      std::swap(order[d - 1],
                order[input.ConsumeIntegralInRange<size_t>(0, d - 1)]);
    dims[i].resize(arg.rank);
    int32_t next = -1;
    for (int32_t d : order) {
      kvrt_dim &dim = dims[i][d];
      dim = {KVRT_ANY, KVRT_ANY, 1, 0, next, -1, 0};
      next = d;
      if (input.ConsumeBool())
        dim.extent = input.ConsumeIntegralInRange<int64_t>(0, 5);
      else if (input.ConsumeBool())
        seen.push_back(dim.symbol =
                           input.ConsumeIntegralInRange<int32_t>(0, 2));
      int how = input.ConsumeIntegralInRange<int>(0, 3);
      dim.compact = how == 0 || how == 1;
      if (how == 2)
        dim.constant = input.ConsumeIntegralInRange<int64_t>(1, 64);
      if (how == 1 || how == 3)
        dim.multiple = input.ConsumeIntegralInRange<int64_t>(1, 16);
    }
    arg.dims = dims[i].data();
  }
  if (!seen.empty() && input.ConsumeBool())
    for (int n = input.ConsumeIntegralInRange<int>(0, 2); n > 0; --n) {
      auto one = [&] {
        return seen[input.ConsumeIntegralInRange<size_t>(0, seen.size() - 1)];
      };
      rules.push_back(
          {input.ConsumeIntegralInRange<int64_t>(1, 1 << 20),
           input.ConsumeIntegralInRange<int64_t>(-(1LL << 40), 1LL << 40),
           one(), one()});
    }
  function.name = "f";
  function.args = args.data();
  function.num_args = int32_t(count);
  function.run = keepFrame;
  int how = input.ConsumeIntegralInRange<int>(0, 9);
  function.workspace = how == 0   ? wrappedWorkspace
                       : how == 1 ? someWorkspace
                                  : noWorkspace;
  function.cpu_level = 1;
  function.num_symbols = int32_t(symbols.size());
  function.rules = rules.data();
  function.num_rules = int64_t(rules.size());
}

void Case::chooseTensor(const kvrt_arg &arg) {
  tensors.emplace_back();
  scalars.push_back(oddNumber(input));
  Tensor &t = tensors.back();
  if (arg.kind != KVRT_TENSOR)
    return;
  int32_t rank = arg.rank;
  if (input.ConsumeIntegralInRange<int>(0, 31) == 0)
    rank = input.ConsumeIntegralInRange<int32_t>(0, 6);
  t.shape.reset(new int64_t[rank]);
  t.strides.reset(new int64_t[rank]);
  t.tensor = {nullptr,
              {kDLCPU, 0},
              rank,
              {uint8_t(arg.dtype_code), uint8_t(arg.dtype_bits), 1},
              t.shape.get(),
              t.strides.get(),
              0};
  t.tensor.data = reinterpret_cast<void *>(uintptr_t(1) << 20);
  for (int32_t d = 0; d < rank; ++d) {
    t.shape[d] = input.ConsumeIntegralInRange<int64_t>(0, 6);
    t.strides[d] = input.ConsumeIntegralInRange<int64_t>(0, 64);
    if (d >= arg.rank)
      continue;
    const kvrt_dim &dim = arg.dims[d];
    if (dim.extent != KVRT_ANY)
      t.shape[d] = dim.extent;
    if (dim.symbol >= 0) {
      int64_t &known = symbols[dim.symbol];
      known = known < 0 ? t.shape[d] : known;
      t.shape[d] = known;
    }
    if (input.ConsumeIntegralInRange<int>(0, 15) == 0)
      t.shape[d] = oddNumber(input);
  }
  // Strides that comply, from the fastest on.
  if (rank != arg.rank)
    return;
  for (int32_t round = 0; round < rank; ++round)
    for (int32_t d = 0; d < rank; ++d) {
      const kvrt_dim &dim = arg.dims[d];
      __int128 least =
          dim.next < 0 ? 1 : __int128(t.shape[dim.next]) * t.strides[dim.next];
      if (dim.constant != KVRT_ANY)
        t.strides[d] = dim.constant;
      else
        t.strides[d] = int64_t((least + (dim.compact ? 0 : dim.multiple - 1)) /
                               dim.multiple * dim.multiple);
    }
  if (input.ConsumeIntegralInRange<int>(0, 7) == 0)
    spoil(t);
}

void Case::spoil(Tensor &t) {
  int32_t rank = t.tensor.ndim;
  switch (input.ConsumeIntegralInRange<int>(0, 10)) {
  case 0:
    t.tensor.ndim = -rank;
    break;
  case 1:
    t.tensor.shape = nullptr;
    break;
  case 2:
    t.tensor.strides = nullptr;
    break;
  case 3:
    t.tensor.dtype = {input.ConsumeIntegral<uint8_t>(),
                      input.ConsumeIntegral<uint8_t>(),
                      input.ConsumeIntegral<uint16_t>()};
    break;
  case 4:
    t.tensor.device = {int32_t(oddNumber(input)), int32_t(oddNumber(input))};
    break;
  case 5:
    t.tensor.byte_offset = uint64_t(oddNumber(input));
    break;
  case 6:
    t.tensor.data = nullptr;
    break;
  default:
    if (rank > 0)
      t.strides[input.ConsumeIntegralInRange<int32_t>(0, rank - 1)] =
          oddNumber(input);
    break;
  }
}

int64_t strideOf(const DLTensor &tensor, int32_t dim) {
  if (tensor.strides)
    return tensor.strides[dim];
  __int128 stride = 1;
  for (int32_t d = tensor.ndim - 1; d > dim; --d)
    stride *= tensor.shape[d];
  return int64_t(stride);
}

[[noreturn]] void accepted(const kvrt_arg &arg, const std::string &what) {
  report("accepted: argument '" + std::string(arg.name) + "': " + what);
}

std::string describe(const kvrt_arg &arg, const int64_t *extents,
                     const int64_t *strides) {
  std::string text;
  for (int32_t d = 0; d < arg.rank; ++d) {
    const kvrt_dim &dim = arg.dims[d];
    text += "; dimension " + std::to_string(d) + ": extent " +
            std::to_string(extents[d]) + ", stride " +
            std::to_string(strides[d]) + ", next " + std::to_string(dim.next);
    text += dim.compact ? ", compact" : "";
    text += ", constant " + std::to_string(dim.constant) + ", multiple " +
            std::to_string(dim.multiple);
  }
  return text;
}

void Case::checkTensor(const kvrt_arg &arg, const DLTensor &tensor,
                       const int64_t *&word) {
  if (tensor.ndim != arg.rank)
    accepted(arg, "number of dimensions");
  uintptr_t address = uintptr_t(tensor.data) + tensor.byte_offset;
  if (word[0] != int64_t(address) || word[1] != word[0] || word[2] != 0)
    accepted(arg, "another address in the frame");
  const int64_t *extents = word + 3, *strides = extents + arg.rank;
  word = strides + arg.rank;
  bool isEmpty = false;
  for (int32_t d = 0; d < arg.rank; ++d) {
    const kvrt_dim &dim = arg.dims[d];
    int64_t extent = tensor.shape[d];
    if (extents[d] != extent)
      accepted(arg, "another extent in the frame");
    if (extent < 0 || (dim.extent != KVRT_ANY && extent != dim.extent))
      accepted(arg, "extent " + std::to_string(extent));
    isEmpty |= extent == 0;
  }
  if (isEmpty)
    return;
  __int128 last = 0;
  for (int32_t d = 0; d < arg.rank; ++d) {
    // An extent of 1 has no stride.
    if (extents[d] != 1 && strides[d] != strideOf(tensor, d))
      accepted(arg, "another stride in the frame");
    last += (__int128(extents[d]) - 1) * strides[d];
  }
  if (tensor.data == nullptr || address % arg.align)
    accepted(arg, "its address");
  for (int32_t d = 0; d < arg.rank; ++d) {
    const kvrt_dim &dim = arg.dims[d];
    if (extents[d] == 1)
      continue;
    std::string text = "stride of dimension " + std::to_string(d) +
                       describe(arg, extents, strides);
    if (dim.constant != KVRT_ANY && strides[d] != dim.constant)
      accepted(arg, "not constant: " + text);
    if (strides[d] % dim.multiple)
      accepted(arg, "no multiple: " + text);
    int32_t next = dim.next;
    while (next >= 0 && extents[next] == 1)
      next = arg.dims[next].next;
    __int128 least =
        next < 0 ? 1 : __int128(extents[next]) * __int128(strides[next]);
    if (strides[d] < least)
      accepted(arg, "overlaps: " + text);
    if (dim.compact && next == dim.next && strides[d] != least)
      accepted(arg, "not compact: " + text);
  }
  if (last * arg.dtype_bits / 8 > INT64_MAX)
    accepted(arg, "elements further apart than an address can say");
}

void Case::checkAccepted() {
  const int64_t *word = lastFrame;
  std::vector<int64_t> extents(symbols.size(), -1);
  for (auto [arg, t, scalar] : llvm::zip(args, tensors, scalars)) {
    if (arg.kind != KVRT_TENSOR) {
      if (*word++ != scalar)
        accepted(arg, "another number in the frame");
      continue;
    }
    checkTensor(arg, t.tensor, word);
    for (int32_t d = 0; d < arg.rank; ++d) {
      int32_t symbol = arg.dims[d].symbol;
      if (symbol >= 0 && extents[symbol] < 0)
        extents[symbol] = t.tensor.shape[d];
      if (symbol >= 0 && extents[symbol] != t.tensor.shape[d])
        accepted(arg, "an extent that is not equal to another one");
    }
  }
  for (const kvrt_rule &rule : rules)
    if (extents[rule.symbol] !=
        __int128(rule.times) * extents[rule.of] + rule.plus)
      report("accepted: an extent that does not follow from another one");
}

std::vector<void *> Case::pointers() {
  std::vector<void *> all;
  for (auto [arg, t, scalar] : llvm::zip(args, tensors, scalars))
    all.push_back(arg.kind == KVRT_TENSOR ? static_cast<void *>(&t.tensor)
                                          : &scalar);
  return all;
}

void Case::run() {
  alignas(256) static char room[4096];
  std::vector<void *> all = pointers();
  if (!all.empty() && input.ConsumeIntegralInRange<int>(0, 63) == 0) {
    size_t i = input.ConsumeIntegralInRange<size_t>(0, all.size() - 1);
    all[i] = args[i].kind == KVRT_TENSOR ? nullptr : all[i];
  }
  lastWords = function.frame_words;
  hasRun = false;
  int64_t size = kvrt_workspace_size(&function, all.data());
  int32_t status = kvrt_call(&function, all.data(), room,
                             input.ConsumeBool() ? sizeof room : 0, nullptr);
  StringRef message = kvrt_last_error();
  if (hasRun != (status == KV_OK))
    report("a call that failed ran, or one that worked did not");
  if (status == KV_OK ? !message.empty() : !message.starts_with("f: "))
    report("status " + std::to_string(status) + " with the message '" +
           message.str() + "'");
  if (status == KV_OK && size < 0)
    report("the workspace has no size, and the call works");
  if (hasRun)
    checkAccepted();
  callFfi();
}

/// The binary layout of TVM-FFI, as in kvrt.c.
struct Any {
  int32_t type, padding;
  union {
    int64_t number;
    double real;
    void *pointer;
  };
};

void Case::callFfi() {
  struct Object {
    char header[24];
    DLTensor tensor;
  };
  static const int32_t kTypes[] = {0, 1, 2, 3, 7, 70, 4, 71, -1};
  std::vector<Object> objects(tensors.size() + 1);
  std::unique_ptr<Any[]> values(new Any[tensors.size() + 1]);
  auto make = [&](size_t i, DLTensor *tensor, bool isTensor) {
    Any &any = values[i];
    any = {isTensor ? 7 : 1, 0, {int64_t(i)}};
    if (input.ConsumeIntegralInRange<int>(0, 7) == 0)
      any.type = input.PickValueInArray(kTypes);
    if (tensor)
      objects[i].tensor = *tensor;
    if (any.type == 7)
      any.pointer = &objects[i].tensor;
    if (any.type == 70)
      any.pointer = &objects[i];
    if ((any.type == 7 || any.type == 70) &&
        input.ConsumeIntegralInRange<int>(0, 31) == 0)
      any.pointer = nullptr;
  };
  for (size_t i = 0; i < tensors.size(); ++i)
    make(i, &tensors[i].tensor, args[i].kind == KVRT_TENSOR);
  // A workspace.
  Tensor extra;
  alignas(256) static char room[4096];
  int32_t rank = input.ConsumeIntegralInRange<int32_t>(0, 3);
  extra.shape.reset(new int64_t[rank]);
  extra.strides.reset(new int64_t[rank]);
  for (int32_t d = 0; d < rank; ++d) {
    extra.shape[d] = input.ConsumeIntegralInRange<int64_t>(0, 4096);
    if (input.ConsumeIntegralInRange<int>(0, 7) == 0)
      extra.shape[d] = oddNumber(input);
    extra.strides[d] = oddNumber(input);
  }
  extra.tensor = {room,
                  {kDLCPU, 0},
                  rank,
                  {kDLInt, input.ConsumeIntegral<uint8_t>(), 1},
                  extra.shape.get(),
                  input.ConsumeBool() ? extra.strides.get() : nullptr,
                  0};
  if (input.ConsumeIntegralInRange<int>(0, 7) == 0)
    spoil(extra);
  make(tensors.size(), &extra.tensor, true);
  hasRun = false;
  Any result;
  int32_t count = int32_t(tensors.size()) + input.ConsumeBool();
  int32_t status = kvrt_call_tvm_ffi(&function, values.get(), count, &result);
  if (hasRun != (status == 0))
    report("TVM-FFI: a call that failed ran, or one that worked did not");
  if (!hasRun || function.workspace != someWorkspace)
    return;
  // There are the 4096 bytes that the function needs, from the first aligned
  // one on. Whether they are the caller's, nobody else can know.
  __int128 bytes = extra.tensor.dtype.bits * extra.tensor.dtype.lanes;
  for (int32_t d = 0; d < rank; ++d) {
    if (extra.shape[d] < 0)
      report("TVM-FFI: a workspace with an extent below 0 is accepted");
    bytes = std::min<__int128>(bytes * extra.shape[d], __int128(1) << 62);
  }
  uint64_t address = uint64_t(extra.tensor.data) + extra.tensor.byte_offset;
  uint64_t skipped = -address % KVRT_WORKSPACE_ALIGN;
  if (bytes / 8 < 4096 + __int128(skipped) || !extra.tensor.data)
    report("TVM-FFI: a workspace that is not there is accepted");
}

void runRuntime(StringRef bytes) {
  FuzzedDataProvider input(reinterpret_cast<const uint8_t *>(bytes.data()),
                           bytes.size());
  Case(input).run();
}

} // namespace

llvm::ArrayRef<Target> kvcache::fuzz::runtimeTargets() {
  static const Target kTargets[] = {{"runtime", runRuntime}};
  return kTargets;
}
