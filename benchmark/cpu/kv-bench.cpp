// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Compiled programs on a CPU, beside what the memory does in the same run.
//
//   kv-bench FOLDER [--benchmark_filter=REGEX] [options of Google Benchmark]
//
// FOLDER holds what programs.py compiled. Each iteration times a ceiling, a
// linear read or a memcpy of as many bytes as the op must move by the same two
// threads, and then the op, so that both see the same machine; the counter
// "share" is the ratio of their medians. Each iteration takes another pool, and
// all pools together are larger than KV_BENCH_COLD megabytes (default 1200), so
// that the last-level cache does not help; 0 takes one pool.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Runtime/kv_abi.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <vector>

namespace {

constexpr unsigned kThreads = 2;

//===----------------------------------------------------------------------===//
// Two threads for the ceilings
//===----------------------------------------------------------------------===//

class Pair {
public:
  Pair() : start(kThreads), end(kThreads) {
    other = std::thread([this] {
      for (;;) {
        start.arrive_and_wait();
        if (stop)
          return;
        work(1);
        end.arrive_and_wait();
      }
    });
  }
  ~Pair() {
    stop = true;
    start.arrive_and_wait();
    other.join();
  }
  void run(std::function<void(unsigned)> body) {
    work = std::move(body);
    start.arrive_and_wait();
    work(0);
    end.arrive_and_wait();
  }

private:
  std::barrier<> start, end;
  std::thread other;
  std::function<void(unsigned)> work;
  bool stop = false;
};

Pair &pair() {
  static Pair threads;
  return threads;
}

__attribute__((target_clones("avx512f", "avx2", "default"))) int32_t
sum(const int32_t *data, size_t count) {
  int32_t total = 0;
  for (size_t i = 0; i < count; ++i)
    total += data[i];
  return total;
}

void linearRead(const void *data, size_t bytes) {
  size_t half = bytes / 8;
  pair().run([=](unsigned thread) {
    benchmark::DoNotOptimize(
        sum(static_cast<const int32_t *>(data) + thread * half, half));
  });
}

void linearCopy(void *to, const void *from, size_t bytes) {
  size_t half = bytes / 2;
  pair().run([=](unsigned thread) {
    std::memcpy(static_cast<char *>(to) + thread * half,
                static_cast<const char *>(from) + thread * half, half);
  });
}

//===----------------------------------------------------------------------===//
// Buffers, tensors, libraries
//===----------------------------------------------------------------------===//

/// Pages of memory with small random numbers in them.
class Buffer {
public:
  explicit Buffer(size_t bytes, bool random = true) : bytes(bytes) {
    data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
      std::perror("kv-bench: mmap");
      std::exit(1);
    }
    madvise(data, bytes, MADV_HUGEPAGE);
    std::memset(data, 0, bytes);
    if (!random)
      return;
    // bf16 and f32 alike: sign, an exponent near one, any mantissa.
    uint64_t state = 0x9e3779b97f4a7c15;
    auto *half = static_cast<uint16_t *>(data);
    for (size_t i = 0; i < bytes / 2; ++i) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      half[i] = static_cast<uint16_t>((state & 0x807f) | 0x3f00);
    }
  }
  Buffer(const Buffer &) = delete;
  ~Buffer() { munmap(data, bytes); }

  void *data;
  size_t bytes;
};

DLDataType elementType(const std::string &name) {
  if (name == "bf16")
    return {kDLBfloat, 16, 1};
  return {kDLFloat, 32, 1};
}

struct Tensor {
  Tensor(void *data, DLDataType type, std::vector<int64_t> shape,
         std::vector<int64_t> strides = {})
      : shape(std::move(shape)), strides(std::move(strides)) {
    tensor = {data,
              {kDLCPU, 0},
              static_cast<int32_t>(this->shape.size()),
              type,
              this->shape.data(),
              this->strides.empty() ? nullptr : this->strides.data(),
              0};
  }
  Tensor(const Tensor &) = delete;
  operator DLTensor *() { return &tensor; }

  std::vector<int64_t> shape, strides;
  DLTensor tensor;
};

class Library {
public:
  explicit Library(const std::filesystem::path &path)
      : handle(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    if (!handle) {
      std::fprintf(stderr, "kv-bench: %s\n", dlerror());
      std::exit(1);
    }
    name = path.stem().string().substr(3);
    for (char &c : name)
      if (!isalnum(static_cast<unsigned char>(c)))
        c = '_';
  }

  template <typename... Args> void call(Buffer &workspace, Args... args) const {
    auto *run = reinterpret_cast<int32_t (*)(Args..., void *, int64_t, void *)>(
        symbol("kv1_run"));
    check(run(args..., workspace.data, static_cast<int64_t>(workspace.bytes),
              nullptr) == KV_OK);
  }
  template <typename... Args> int64_t workspace(Args... args) const {
    auto *size = reinterpret_cast<int64_t (*)(Args...)>(
        symbol("kv1_run_workspace_size"));
    int64_t bytes = size(args...);
    check(bytes >= 0);
    return std::max<int64_t>(bytes, 64);
  }

private:
  void *symbol(const std::string &symbol) const {
    void *address = dlsym(handle, symbol.c_str());
    if (!address) {
      std::fprintf(stderr, "kv-bench: %s\n", dlerror());
      std::exit(1);
    }
    return address;
  }
  void check(bool isRight) const {
    if (isRight)
      return;
    auto *error = reinterpret_cast<const char *(*)()>(
        symbol("kv1_" + name + "_last_error"));
    std::fprintf(stderr, "kv-bench: %s: %s\n", name.c_str(), error());
    std::exit(1);
  }
  void *handle;
  std::string name;
};

//===----------------------------------------------------------------------===//
// Caches
//===----------------------------------------------------------------------===//

/// What the name of a program says.
struct Program {
  std::filesystem::path path;
  std::string op, element, layout, to; ///< relayout: to
  std::vector<int64_t> numbers;
  int64_t elementBytes() const { return element == "bf16" ? 2 : 4; }
};

/// The memory order of a layout, as programs.py has it.
const char *orderOf(const std::string &layout) {
  static const std::map<std::string, const char *> orders = {
      {"nhd", "SBNHD"},   {"hnd", "SBHND"},       {"paired", "BSNHD"},
      {"cross", "BSNHD"}, {"cross_hnd", "BSHND"}, {"channels_first", "SBHDN"}};
  auto found = orders.find(layout);
  if (found == orders.end()) {
    std::fprintf(stderr, "kv-bench: unknown layout %s\n", layout.c_str());
    std::exit(1);
  }
  return found->second;
}

/// A pool of one layer, or of four of which one is used.
struct Pool {
  Pool(const Program &program, const std::string &layout, int64_t blocks,
       int64_t tokens, int64_t heads, int64_t headDim)
      : layers(layout.rfind("cross", 0) == 0 ? 4 : 1) {
    std::map<char, int64_t> extents = {
        {'S', 2}, {'B', blocks}, {'N', tokens}, {'H', heads}, {'D', headDim}};
    std::map<char, int64_t> strides;
    int64_t stride = 1;
    std::string order = orderOf(layout);
    for (auto axis = order.rbegin(); axis != order.rend(); ++axis) {
      strides[*axis] = stride;
      stride *= extents[*axis];
      if (layers > 1 && order[0] == 'B' && axis + 2 == order.rend())
        stride *= layers;
    }
    bytes = 2 * blocks * tokens * heads * headDim * program.elementBytes();
    buffer = std::make_unique<Buffer>(bytes * layers);
    std::vector<int64_t> shape, steps;
    for (char axis : {'S', 'B', 'N', 'H', 'D'}) {
      shape.push_back(extents[axis]);
      steps.push_back(strides[axis]);
    }
    tensor = std::make_unique<Tensor>(
        buffer->data, elementType(program.element), shape, steps);
  }
  int64_t layers, bytes;
  std::unique_ptr<Buffer> buffer;
  std::unique_ptr<Tensor> tensor;
};

/// As many pools as the caches of the machine do not hold.
int64_t poolCount(int64_t bytes) {
  const char *text = std::getenv("KV_BENCH_COLD");
  int64_t cold = (text ? std::atoll(text) : 1200) * 1000000;
  return std::clamp<int64_t>((cold + bytes - 1) / bytes, 1, 64);
}

//===----------------------------------------------------------------------===//
// Timing
//===----------------------------------------------------------------------===//

double seconds(const std::function<void()> &body) {
  auto start = std::chrono::steady_clock::now();
  body();
  std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  return time.count();
}

double median(std::vector<double> values) {
  auto middle = values.begin() + static_cast<long>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// `ceiling` and `body` in turn, on another pool each time.
void measure(benchmark::State &state, int64_t pools, int64_t bytes,
             const std::function<void(int64_t)> &ceiling,
             const std::function<void(int64_t)> &body, double flops = 0) {
  std::vector<double> ceilings, times;
  ceiling(0);
  body(0);
  int64_t at = 0;
  for (auto _ : state) {
    // Pools far apart, so that neither leaves the other its data.
    ceilings.push_back(seconds([&] { ceiling((at + pools / 2) % pools); }));
    times.push_back(seconds([&] { body(at); }));
    state.SetIterationTime(times.back());
    at = (at + 1) % pools;
  }
  double time = median(times), best = median(ceilings);
  state.counters["GB/s"] = static_cast<double>(bytes) / time * 1e-9;
  state.counters["ceiling_GB/s"] = static_cast<double>(bytes) / best * 1e-9;
  state.counters["share"] = best / time;
  if (flops > 0)
    state.counters["GFLOP/s"] = flops / time * 1e-9;
}

//===----------------------------------------------------------------------===//
// The ops
//===----------------------------------------------------------------------===//

struct Work {
  const char *name;
  std::vector<int64_t> lengths;
  int64_t queries; ///< per request
};

std::vector<int32_t> permutation(int64_t count) {
  std::vector<int32_t> numbers(count);
  for (int64_t i = 0; i < count; ++i)
    numbers[i] = static_cast<int32_t>(i);
  std::shuffle(numbers.begin(), numbers.end(), std::mt19937(1));
  return numbers;
}

void runAttention(benchmark::State &state, const Program &program,
                  const Work &work) {
  int64_t queryHeads = program.numbers[0], heads = program.numbers[1],
          headDim = program.numbers[2], tokens = program.numbers[3];
  auto requests = static_cast<int64_t>(work.lengths.size());
  int64_t blocks = 3, all = 0, most = 0;
  for (int64_t length : work.lengths) {
    int64_t count = (length + tokens - 1) / tokens;
    blocks += count;
    all += length;
    most = std::max(most, count);
  }
  std::vector<int32_t> order = permutation(blocks);
  std::vector<int32_t> table(requests * most), starts(requests + 1),
      lengths(work.lengths.begin(), work.lengths.end());
  int64_t at = 0;
  double flops = 0;
  for (int64_t r = 0; r < requests; ++r) {
    starts[r + 1] = static_cast<int32_t>(starts[r] + work.queries);
    int64_t count = (work.lengths[r] + tokens - 1) / tokens;
    std::copy_n(order.begin() + at, count, table.begin() + r * most);
    at += count;
    auto q = static_cast<double>(work.queries),
         k = static_cast<double>(work.lengths[r]);
    flops += 4.0 * static_cast<double>(queryHeads * headDim) *
             (q * k - q * (q - 1) / 2);
  }
  int64_t rows = requests * work.queries;
  int64_t bytes = 2 * all * heads * headDim * program.elementBytes();

  std::vector<std::unique_ptr<Pool>> pools;
  int64_t count = work.queries > 1 ? 1 : poolCount(bytes);
  for (int64_t i = 0; i < count; ++i)
    pools.push_back(std::make_unique<Pool>(program, program.layout, blocks,
                                           tokens, heads, headDim));
  int64_t rowBytes = rows * queryHeads * headDim * program.elementBytes();
  Buffer query(rowBytes), out(rowBytes);
  DLDataType type = elementType(program.element), i32 = {kDLInt, 32, 1};
  Tensor queryTensor(query.data, type, {rows, queryHeads, headDim});
  Tensor outTensor(out.data, type, {rows, queryHeads, headDim});
  Tensor startTensor(starts.data(), i32, {requests + 1});
  Tensor lengthTensor(lengths.data(), i32, {requests});
  Tensor tableTensor(table.data(), i32, {requests, most});

  Library library(program.path);
  auto with = [&](int64_t pool, auto &&call) {
    return call((DLTensor *)queryTensor, (DLTensor *)*pools[pool]->tensor,
                (DLTensor *)startTensor, (DLTensor *)lengthTensor,
                (DLTensor *)tableTensor, (DLTensor *)outTensor);
  };
  Buffer workspace(
      with(0, [&](auto... args) { return library.workspace(args...); }), false);
  measure(
      state, count, bytes,
      [&](int64_t pool) { linearRead(pools[pool]->buffer->data, bytes); },
      [&](int64_t pool) {
        with(pool, [&](auto... args) { library.call(workspace, args...); });
      },
      flops);
}

void runInsert(benchmark::State &state, const Program &program, int64_t rows) {
  int64_t heads = program.numbers[0], headDim = program.numbers[1],
          tokens = program.numbers[2];
  int64_t blocks = rows / tokens + 3;
  int64_t rowBytes = rows * heads * headDim * program.elementBytes();
  Buffer key(rowBytes), value(rowBytes), copy(2 * rowBytes);
  std::vector<std::unique_ptr<Pool>> pools;
  int64_t count = poolCount(2 * rowBytes);
  for (int64_t i = 0; i < count; ++i)
    pools.push_back(std::make_unique<Pool>(program, program.layout, blocks,
                                           tokens, heads, headDim));
  std::vector<int32_t> order = permutation(blocks);
  std::vector<int64_t> slots(rows);
  for (int64_t i = 0; i < rows; ++i)
    slots[i] = order[i / tokens] * tokens + i % tokens;
  DLDataType type = elementType(program.element);
  Tensor keyTensor(key.data, type, {rows, heads, headDim});
  Tensor valueTensor(value.data, type, {rows, heads, headDim});
  Tensor slotTensor(slots.data(), {kDLInt, 64, 1}, {rows});
  Library library(program.path);
  Buffer workspace(64, false);
  measure(
      state, count, 4 * rowBytes,
      [&](int64_t pool) {
        char *to = static_cast<char *>(pools[pool]->buffer->data);
        linearCopy(to, key.data, rowBytes);
        linearCopy(to + rowBytes, value.data, rowBytes);
      },
      [&](int64_t pool) {
        library.call(workspace, (DLTensor *)*pools[pool]->tensor,
                     (DLTensor *)slotTensor, (DLTensor *)keyTensor,
                     (DLTensor *)valueTensor);
      });
}

void runRelayout(benchmark::State &state, const Program &program,
                 int64_t blocks) {
  int64_t heads = program.numbers[0], headDim = program.numbers[1],
          tokens = program.numbers[2];
  std::vector<std::unique_ptr<Pool>> from, to;
  int64_t bytes =
      2 * blocks * tokens * heads * headDim * program.elementBytes();
  int64_t count = poolCount(2 * bytes);
  for (int64_t i = 0; i < count; ++i) {
    from.push_back(std::make_unique<Pool>(program, program.layout, blocks,
                                          tokens, heads, headDim));
    to.push_back(std::make_unique<Pool>(program, program.to, blocks, tokens,
                                        heads, headDim));
  }
  Library library(program.path);
  Buffer workspace(64, false);
  measure(
      state, count, 2 * bytes,
      [&](int64_t pool) {
        linearCopy(to[pool]->buffer->data, from[pool]->buffer->data, bytes);
      },
      [&](int64_t pool) {
        library.call(workspace, (DLTensor *)*from[pool]->tensor,
                     (DLTensor *)*to[pool]->tensor);
      });
}

//===----------------------------------------------------------------------===//
// Registration
//===----------------------------------------------------------------------===//

std::vector<std::string> split(const std::string &text, char at) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, at);)
    parts.push_back(part);
  return parts;
}

/// OP_ELEMENT_LAYOUT_NUMBER_NUMBER...; relayout has FROM-TO for a layout.
Program parse(const std::filesystem::path &path) {
  Program program;
  program.path = path;
  std::vector<std::string> parts = split(path.stem().string().substr(3), '_');
  program.op = parts[0];
  program.element = parts[1];
  size_t i = 2;
  for (; i < parts.size() && !isdigit(static_cast<unsigned char>(parts[i][0]));
       ++i)
    program.layout += (i > 2 ? "_" : "") + parts[i];
  for (; i < parts.size(); ++i)
    program.numbers.push_back(std::stoll(parts[i]));
  if (program.op == "relayout") {
    std::vector<std::string> sides = split(program.layout, '-');
    program.layout = sides[0];
    program.to = sides[1];
  }
  return program;
}

template <typename Body> void add(const std::string &name, Body body) {
  benchmark::RegisterBenchmark(name.c_str(), body)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

void registerPrograms(const std::filesystem::path &folder) {
  static const std::vector<Work> works = {
      {"decode_16x2k", std::vector<int64_t>(16, 2048), 1},
      {"decode_1x32k", {32768}, 1},
      {"decode_64x512", std::vector<int64_t>(64, 512), 1},
      {"prefill_1x2k", {2048}, 2048},
  };
  std::vector<std::filesystem::path> paths;
  for (const auto &entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".so")
      paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  for (const std::filesystem::path &path : paths) {
    Program program = parse(path);
    std::string name = path.stem().string().substr(3);
    if (program.op == "attention")
      for (const Work &work : works)
        add(name + "/" + work.name, [=, &work](benchmark::State &state) {
          runAttention(state, program, work);
        });
    else if (program.op == "insert")
      for (int64_t rows : {64, 4096, 32768})
        add(name + "/" + std::to_string(rows),
            [=](benchmark::State &state) { runInsert(state, program, rows); });
    else if (program.op == "relayout")
      add(name + "/2048",
          [=](benchmark::State &state) { runRelayout(state, program, 2048); });
  }
}

} // namespace

int main(int argc, char **argv) {
  if (argc < 2 || argv[1][0] == '-') {
    std::fprintf(stderr,
                 "usage: kv-bench FOLDER [option of Google Benchmark...]\n"
                 "FOLDER is what benchmark/cpu/programs.py wrote.\n");
    return 1;
  }
  setenv("KVRT_NUM_THREADS", "2", 0);
  registerPrograms(argv[1]);
  argv[1] = argv[0];
  ++argv, --argc;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv))
    return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
