// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// All fuzz targets in one program, as most of its size is MLIR:
//
//   kv-fuzz TARGET [libFuzzer's arguments]    fuzz, or run the files given
//   kv-fuzz targets                           the names of the targets
//   kv-fuzz passes                            what the first letters of inputs
//                                             of `pass` stand for
//   kv-fuzz bytecode FROM TO                  programs of a folder as bytecode
//
// fuzzers.py prepares seeds, starts it and sorts what it finds.
//
//===----------------------------------------------------------------------===//

#include "Target.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

using namespace kvcache;
using namespace kvcache::fuzz;
using llvm::StringRef;

extern "C" {
int LLVMFuzzerRunDriver(int *argc, char ***argv,
                        int (*run)(const uint8_t *data, size_t size));
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);
}

static const Target *chosen;

static std::vector<Target> allTargets() {
  std::vector<Target> all;
  for (llvm::ArrayRef<Target> some :
       {programTargets(), fileTargets(), callTargets(), runtimeTargets()})
    all.insert(all.end(), some.begin(), some.end());
  return all;
}

void kvcache::fuzz::report(const std::string &what) {
  // fuzzers.py looks for this line.
  llvm::errs() << "kv-fuzz: finding: " << what << "\n";
  std::abort();
}

static StringRef text(const uint8_t *data, size_t size) {
  return {reinterpret_cast<const char *>(data), size};
}

static int runOne(const uint8_t *data, size_t size) {
  chosen->run(text(data, size));
  return 0;
}

/// A file that shows what is being made of what. A crash in a mutation has no
/// input that anybody could look at otherwise.
class Sources {
public:
  explicit Sources(const char *path) {
    int file = path ? open(path, O_RDWR | O_CREAT, 0600) : -1;
    if (file < 0 || ftruncate(file, sizeof(Page)) != 0)
      return;
    void *map = mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED,
                     file, 0);
    page = map == MAP_FAILED ? nullptr : static_cast<Page *>(map);
    close(file);
  }
  void show(StringRef first, StringRef second) {
    if (!page)
      return;
    page->sizes[0] = page->sizes[1] = 0;
    if (first.size() + second.size() > sizeof(page->bytes))
      return;
    std::memcpy(page->bytes, first.data(), first.size());
    if (!second.empty())
      std::memcpy(page->bytes + first.size(), second.data(), second.size());
    page->sizes[0] = first.size();
    page->sizes[1] = second.size();
  }

private:
  struct Page {
    uint32_t sizes[2];
    char bytes[(1 << 16) - 8];
  };
  Page *page = nullptr;
};

static Sources &sources() {
  static Sources all(std::getenv("KV_FUZZ_SOURCES"));
  return all;
}

/// Nothing if it does not fit.
static size_t put(const std::string &made, uint8_t *data, size_t most) {
  if (made.empty() || made.size() > most)
    return 0;
  std::memcpy(data, made.data(), made.size());
  return made.size();
}

// libFuzzer finds these two by their names.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size,
                                          size_t most, unsigned seed) {
  Random random(seed);
  sources().show(text(data, size), {});
  size_t made = chosen->mutate
                    ? put(chosen->mutate(text(data, size), random), data, most)
                    : 0;
  return made ? made : LLVMFuzzerMutate(data, size, most);
}

extern "C" size_t LLVMFuzzerCustomCrossOver(const uint8_t *first,
                                            size_t firstSize,
                                            const uint8_t *second,
                                            size_t secondSize, uint8_t *out,
                                            size_t most, unsigned seed) {
  Random random(seed);
  sources().show(text(first, firstSize), text(second, secondSize));
  return chosen->cross ? put(chosen->cross(text(first, firstSize),
                                           text(second, secondSize), random),
                             out, most)
                       : 0;
}

int main(int argc, char **argv) {
  std::vector<Target> targets = allTargets();
  StringRef name = argc > 1 ? argv[1] : "";
  if (name == "passes" && argc == 2) {
    printPasses();
    return 0;
  }
  if (name == "bytecode" && argc == 4 && argv[2][0] != '-') {
    writeBytecodeSeeds(argv[2], argv[3]);
    return 0;
  }
  if (name == "targets") {
    for (const Target &target : targets)
      llvm::outs() << target.name << "\n";
    return 0;
  }
  auto found =
      llvm::find_if(targets, [&](const Target &t) { return name == t.name; });
  if (found == targets.end()) {
    llvm::errs() << "usage: kv-fuzz TARGET [ARGUMENT...]; the targets are:";
    for (const Target &target : targets)
      llvm::errs() << " " << target.name;
    llvm::errs() << "\n";
    return 2;
  }
  chosen = &*found;
  argv[1] = argv[0];
  --argc;
  ++argv;
  return LLVMFuzzerRunDriver(&argc, &argv, runOne);
}
