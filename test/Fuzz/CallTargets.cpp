// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Calls of a library with tensors that anybody may have made. Each tensor lies
// between pages that cannot be touched; entries of lists are any numbers.
//
// A call that is refused writes nothing, says why, and a call that is accepted
// touches elements of its tensors alone. Memory is given to a tensor only if it
// is large enough for what the tensor says: a caller who lies there cannot be
// found out.
//
//===----------------------------------------------------------------------===//

#include "Guarded.h"
#include "Target.h"

#include "kvcache/Run/Elements.h"
#include "kvcache/Runtime/kv_abi.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/Path.h"

#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fuzzer/FuzzedDataProvider.h>
#include <map>
#include <optional>
#include <unistd.h>

using namespace kvcache;
using namespace kvcache::run;
using namespace kvcache::fuzz;
using llvm::StringRef;

namespace {

/// A dimension as the manifest has it.
struct Dim {
  std::optional<int64_t> extent, symbol, of;
  int64_t times = 1, plus = 0;
  std::optional<int64_t> stride;
  int64_t next = -1; ///< the next faster dimension
  bool isCompact = false;
  int64_t multiple = 1;
};

struct Argument {
  std::string name;
  bool isTensor = false;
  bool isWritten = false;
  const ElementType *type = nullptr;
  std::vector<Dim> dims;
};

using Entry = int64_t(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                      int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                      int64_t, int64_t);
constexpr size_t kMostWords = 14;

struct Function {
  std::string name;
  std::vector<Argument> arguments;
  Entry *call = nullptr, *sizeOf = nullptr;
};

template <typename T> T *find(void *library, const std::string &name) {
  void *symbol = dlsym(library, name.c_str());
  if (!symbol)
    report("the library has no " + name);
  return reinterpret_cast<T *>(symbol);
}

Dim dimOf(const llvm::json::Object &record) {
  Dim dim;
  auto number = [&](StringRef key) { return record.getInteger(key); };
  dim.extent = number("extent");
  dim.symbol = number("equal");
  dim.of = number("of");
  dim.times = number("times").value_or(1);
  dim.plus = number("plus").value_or(0);
  dim.stride = number("stride");
  dim.next = number("next_faster").value_or(-1);
  dim.isCompact = record.getString("stride") == StringRef("compact");
  dim.multiple = number("stride_multiple").value_or(1);
  return dim;
}

Argument argumentOf(const llvm::json::Object &record) {
  Argument argument;
  argument.name = record.getString("name")->str();
  argument.isTensor = record.getString("kind") == StringRef("tensor");
  if (!argument.isTensor)
    return argument;
  argument.isWritten = record.getString("access") == StringRef("write");
  argument.type = findElementType(*record.getString("element_type"));
  for (const llvm::json::Value &dim : *record.getArray("dims"))
    argument.dims.push_back(dimOf(*dim.getAsObject()));
  return argument;
}

/// The library beside this program, and what its manifest says.
class Library {
public:
  Library() {
    // Threads of a pool would only make runs differ.
    setenv("KVRT_NUM_THREADS", "1", 1);
    char self[4096] = {};
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
      report("cannot find this program");
    std::string path =
        (llvm::sys::path::parent_path(self) + "/kv-fuzz-calls.so").str();
    void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library)
      report(std::string("cannot load the library: ") + dlerror());
    lastError = find<const char *()>(library, "kv1_calls_last_error");
    auto *text = find<const char *()>(library, "kv1_calls_manifest");
    manifest = llvm::cantFail(llvm::json::parse(text()));
    for (const llvm::json::Value &value :
         *manifest.getAsObject()->getArray("functions")) {
      const llvm::json::Object &record = *value.getAsObject();
      Function function;
      function.name = record.getString("name")->str();
      for (const llvm::json::Value &argument : *record.getArray("arguments"))
        function.arguments.push_back(argumentOf(*argument.getAsObject()));
      function.call = find<Entry>(library, "kv1_" + function.name);
      function.sizeOf =
          find<Entry>(library, "kv1_" + function.name + "_workspace_size");
      functions.push_back(std::move(function));
    }
  }

  const char *(*lastError)() = nullptr;
  std::vector<Function> functions;

private:
  llvm::json::Value manifest = nullptr;
};

constexpr int64_t kOdd[] = {0,         -1,           1,         2,
                            1 << 20,   1 << 30,      1LL << 31, 1LL << 32,
                            1LL << 40, 1LL << 41,    1LL << 60, INT64_MAX,
                            INT64_MIN, INT64_MAX / 2};

int64_t oddNumber(FuzzedDataProvider &input) {
  return input.ConsumeBool() ? input.PickValueInArray(kOdd)
                             : input.ConsumeIntegral<int64_t>();
}

/// One tensor of a call.
struct Made {
  DLTensor tensor = {};
  std::vector<int64_t> shape, strides;
  GuardedMemory *memory = nullptr;
  char *first = nullptr; ///< its first element
  size_t bytes = 0;      ///< that its elements reach
  bool isWrong = false;  ///< has to be refused
  bool cannotBe = false; ///< has no memory: may only be refused
};

class Call {
public:
  Call(const Function &function, FuzzedDataProvider &input)
      : function(function), input(input), made(function.arguments.size()) {}

  void run(const Library &library);

private:
  void chooseShape(const Argument &argument, Made &m);
  void chooseStrides(const Argument &argument, Made &m);
  void spoil(Made &m);
  void place(const Argument &argument, Made &m, GuardedMemory &memory);
  void fillEntries(const Argument &argument, Made &m);
  void checkWrites(const Argument &argument, const Made &m, bool isAccepted);

  const Function &function;
  FuzzedDataProvider &input;
  std::vector<Made> made;
  std::map<int64_t, int64_t> symbols;
};

void Call::chooseShape(const Argument &argument, Made &m) {
  for (const Dim &dim : argument.dims) {
    int64_t extent = input.ConsumeIntegralInRange<int64_t>(0, 7);
    if (dim.extent)
      extent = *dim.extent;
    else if (dim.of && symbols.count(*dim.of))
      extent = dim.times * symbols[*dim.of] + dim.plus;
    if (dim.symbol)
      extent = symbols.try_emplace(*dim.symbol, extent).first->second;
    m.shape.push_back(extent);
  }
}

void Call::chooseStrides(const Argument &argument, Made &m) {
  m.strides.assign(argument.dims.size(), -1);
  // Each waits for the next faster one.
  for (size_t round = 0; round < argument.dims.size(); ++round)
    for (auto [d, dim] : llvm::enumerate(argument.dims)) {
      int64_t &stride = m.strides[d];
      size_t next = dim.next >= 0 ? size_t(dim.next)
                    : !dim.isCompact && d + 1 < argument.dims.size()
                        ? d + 1
                        : argument.dims.size();
      bool isLast = next == argument.dims.size();
      if (stride >= 0 || (!isLast && m.strides[next] < 0))
        continue;
      int64_t least = isLast ? 1 : m.strides[next] * m.shape[next];
      stride = dim.stride ? *dim.stride : std::max<int64_t>(least, 0);
      if (dim.stride || dim.isCompact)
        continue;
      stride += input.ConsumeIntegralInRange<int64_t>(0, 3) * dim.multiple;
      stride = (stride + dim.multiple - 1) / dim.multiple * dim.multiple;
    }
}

/// One thing about a tensor is what it should not be.
void Call::spoil(Made &m) {
  size_t rank = m.shape.size();
  auto dim = [&] {
    return rank ? input.ConsumeIntegralInRange<size_t>(0, rank - 1) : 0;
  };
  switch (input.ConsumeIntegralInRange<int>(0, 12)) {
  case 0:
    m.tensor.ndim = int32_t(oddNumber(input));
    break;
  case 1:
    m.tensor.shape = nullptr;
    break;
  case 2:
    m.tensor.strides = nullptr; // packed
    for (int64_t d = int64_t(rank) - 1, step = 1; d >= 0; step *= m.shape[d--])
      m.strides[d] = step;
    break;
  case 3:
    m.tensor.dtype.code = input.ConsumeIntegral<uint8_t>();
    break;
  case 4:
    m.tensor.dtype.bits = input.ConsumeIntegral<uint8_t>();
    break;
  case 5:
    m.tensor.dtype.lanes = input.ConsumeIntegral<uint16_t>();
    break;
  case 6:
    m.tensor.device.device_type = int32_t(oddNumber(input));
    break;
  case 7:
    m.tensor.device.device_id = int32_t(oddNumber(input));
    break;
  case 8:
    m.tensor.byte_offset = uint64_t(oddNumber(input));
    break;
  case 9:
  case 10:
    if (rank)
      m.shape[dim()] = oddNumber(input);
    break;
  default:
    if (rank)
      m.strides[dim()] = oddNumber(input);
    break;
  }
}

/// Memory for what the tensor says; none if that is too much.
void Call::place(const Argument &argument, Made &m, GuardedMemory &memory) {
  memory.reset();
  m.memory = &memory;
  __int128 first = 0, last = 0;
  bool isEmpty = false, isNegative = false, isLarge = false;
  for (auto [extent, stride] : llvm::zip(m.shape, m.strides)) {
    __int128 span = (__int128(extent) - 1) * stride;
    (span < 0 ? first : last) += span;
    isEmpty |= extent == 0;
    isNegative |= extent < 0;
    isLarge |= extent > int64_t(GuardedMemory::kBytes);
  }
  const DLTensor &tensor = m.tensor;
  m.isWrong = isNegative || tensor.dtype.code != argument.type->code ||
              tensor.dtype.bits != argument.type->bytes * 8 ||
              tensor.dtype.lanes != 1 ||
              tensor.ndim != int32_t(argument.dims.size()) ||
              (tensor.ndim && !tensor.shape) ||
              (tensor.device.device_type != kDLCPU &&
               tensor.device.device_type != kDLCUDAHost);
  __int128 bytes = (last - first + 1) * argument.type->bytes;
  if (isEmpty || isNegative || isLarge || first < 0 ||
      bytes > int64_t(GuardedMemory::kBytes)) {
    // Nothing of it may be touched.
    m.tensor.data = input.ConsumeBool() ? nullptr : memory.end();
    m.isWrong |= !isEmpty && !m.tensor.data && !tensor.byte_offset;
    m.cannotBe = !isEmpty;
    return;
  }
  m.bytes = size_t(bytes);
  // At the beginning; as near to the end as an aligned tensor comes; or at its
  // very end.
  m.first = memory.begin();
  if (input.ConsumeBool())
    m.first = memory.end() - (m.bytes + 15) / 16 * 16;
  if (input.ConsumeIntegralInRange<int>(0, 15) == 0)
    m.first = memory.end() - m.bytes;
  m.tensor.data =
      reinterpret_cast<void *>(uintptr_t(m.first) - tensor.byte_offset);
}

void Call::fillEntries(const Argument &argument, Made &m) {
  if (!argument.type->isInteger || !m.bytes)
    return;
  unsigned size = argument.type->bytes;
  for (size_t at = 0; at + size <= m.bytes; at += size) {
    int64_t entry = input.ConsumeIntegralInRange<int64_t>(-2, 30);
    if (entry == 30)
      entry = oddNumber(input);
    std::memcpy(m.first + at, &entry, size);
  }
}

void Call::checkWrites(const Argument &argument, const Made &m,
                       bool isAccepted) {
  if (!m.memory || m.memory->isUnchanged())
    return;
  std::vector<bool> mayChange(GuardedMemory::kBytes);
  if (isAccepted && argument.isWritten && m.bytes) {
    size_t base = m.first - m.memory->begin();
    std::vector<int64_t> index(m.shape.size());
    for (bool done = false; !done;) {
      int64_t element = 0;
      for (size_t d = 0; d < index.size(); ++d)
        element += index[d] * m.strides[d];
      for (size_t b = 0; b < argument.type->bytes; ++b)
        mayChange[base + element * argument.type->bytes + b] = true;
      done = true;
      for (size_t d = index.size(); d-- > 0 && done;) {
        done = ++index[d] == m.shape[d];
        if (done)
          index[d] = 0;
      }
    }
  }
  if (!m.memory->isSame(mayChange))
    report(function.name + ": argument '" + argument.name + "' was written " +
           (isAccepted ? "outside of its elements" : "by a call that failed"));
}

void Call::run(const Library &library) {
  static std::vector<GuardedMemory> memories(kMostWords + 1);
  size_t spoiled = input.ConsumeBool()
                       ? input.ConsumeIntegralInRange<size_t>(0, made.size())
                       : made.size();
  std::vector<int64_t> words;
  for (auto [i, argument] : llvm::enumerate(function.arguments)) {
    if (!argument.isTensor) {
      words.push_back(input.ConsumeBool()
                          ? input.ConsumeIntegralInRange<int64_t>(-2, 20)
                          : oddNumber(input));
      continue;
    }
    Made &m = made[i];
    chooseShape(argument, m);
    chooseStrides(argument, m);
    m.tensor.device = {
        input.ConsumeIntegralInRange<int>(0, 9) ? kDLCPU : kDLCUDAHost, 0};
    m.tensor.dtype = {argument.type->code, uint8_t(argument.type->bytes * 8),
                      1};
    m.tensor.ndim = int32_t(m.shape.size());
    m.tensor.shape = m.shape.data();
    m.tensor.strides = m.strides.data();
    if (i == spoiled)
      spoil(m);
    place(argument, m, memories[i]);
    fillEntries(argument, m);
    words.push_back(i == spoiled && input.ConsumeIntegralInRange(0, 30) == 0
                        ? 0
                        : int64_t(uintptr_t(&m.tensor)));
  }
  size_t count = words.size();
  words.resize(kMostWords);
  auto call = [&](Entry *entry) {
    return entry(words[0], words[1], words[2], words[3], words[4], words[5],
                 words[6], words[7], words[8], words[9], words[10], words[11],
                 words[12], words[13]);
  };
  GuardedMemory &scratch = memories[kMostWords];
  int64_t size = call(function.sizeOf);
  size_t room = size > 0 && size <= int64_t(GuardedMemory::kBytes) ? size : 0;
  // As many bytes as were asked for, or fewer, at an address that is odd.
  if (input.ConsumeIntegralInRange<int>(0, 15) == 0)
    room = input.ConsumeIntegralInRange<size_t>(0, room);
  char *workspace = scratch.end() - (room + 255) / 256 * 256;
  if (input.ConsumeIntegralInRange<int>(0, 15) == 0)
    workspace = room ? scratch.end() - room : nullptr;
  words[count] = int64_t(uintptr_t(workspace));
  words[count + 1] = int64_t(room);
  for (GuardedMemory &memory : memories)
    memory.remember();
  // What claims more memory than there is cannot be found out.
  if (size >= 0 && llvm::any_of(made, [](const Made &m) {
        return m.cannotBe && !m.isWrong;
      }))
    return;
  int32_t status = int32_t(call(function.call));

  for (auto [argument, m] : llvm::zip(function.arguments, made)) {
    if (!argument.isTensor)
      continue;
    // Three errors come when a part has been done.
    checkWrites(argument, m, status == KV_OK || status == KV_ERROR_BOUNDS);
    if (status == KV_OK && m.isWrong)
      report(function.name + ": argument '" + argument.name +
             "' is wrong, and is accepted");
  }
  StringRef message = library.lastError();
  if (status == KV_OK ? !message.empty()
                      : !message.starts_with(function.name + ": "))
    report(function.name + ": status " + std::to_string(status) +
           " with the message '" + message.str() + "'");
  bool isRefused = status != KV_OK && status != KV_ERROR_BOUNDS &&
                   status != KV_ERROR_WORKSPACE && status != KV_ERROR_ALIGNMENT;
  if (isRefused && size >= 0)
    report(function.name +
           ": the workspace has a size, and the call fails: " + message.str());
  if (status == KV_OK && size < 0)
    report(function.name + ": the workspace has no size, and the call works");
}

void runCall(StringRef bytes) {
  static const Library library;
  FuzzedDataProvider input(reinterpret_cast<const uint8_t *>(bytes.data()),
                           bytes.size());
  size_t number =
      input.ConsumeIntegralInRange<size_t>(0, library.functions.size() - 1);
  Call(library.functions[number], input).run(library);
}

} // namespace

llvm::ArrayRef<Target> kvcache::fuzz::callTargets() {
  static const Target kTargets[] = {{"call", runCall}};
  return kTargets;
}
