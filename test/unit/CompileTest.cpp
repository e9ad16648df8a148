// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Programs are compiled inside of a host that has no command line, on several
// threads, and called.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Target/Compile.h"
#include "kvcache/Registration/Registration.h"
#include "kvcache/Runtime/kv_abi.h"
#include "kvcache/Target/Parse.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/SourceMgr.h"

#include "gtest/gtest.h"

#include <atomic>
#include <dlfcn.h>
#include <thread>

using namespace kvcache;
using namespace kvcache::target;

namespace {

/// Writes a number, and copies it on several threads.
std::string programThatWrites(int number) {
  return R"(
    func.func @f(%x: memref<?xi64>, %y: memref<?xi64>) {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %n = memref.dim %x, %c0 : memref<?xi64>
      %v = arith.constant )" +
         std::to_string(number) + R"( : i64
      linalg.fill ins(%v : i64) outs(%x : memref<?xi64>)
      scf.parallel (%i) = (%c0) to (%n) step (%c1) {
        %a = memref.load %x[%i] : memref<?xi64>
        memref.store %a, %y[%i] : memref<?xi64>
      }
      return
    })";
}

struct Compiled {
  std::string path, diagnostics;
  bool succeeded = false;

  explicit Compiled(const std::string &text, CompileOptions options = {}) {
    mlir::DialectRegistry registry;
    registerAllDialects(registry);
    mlir::MLIRContext context(registry);
    mlir::ScopedDiagnosticHandler handler(
        &context, [&](mlir::Diagnostic &diagnostic) {
          diagnostics += diagnostic.str() + "\n";
        });
    llvm::SourceMgr sources;
    sources.AddNewSourceBuffer(llvm::MemoryBuffer::getMemBufferCopy(text),
                               llvm::SMLoc());
    mlir::OwningOpRef<mlir::ModuleOp> module = parseProgram(context, sources);
    llvm::SmallString<128> file;
    EXPECT_FALSE(llvm::sys::fs::createTemporaryFile("kv-unit", "so", file));
    path = file.str();
    options.libraryName = "unit";
    Compilation compilation(*module, options);
    succeeded = mlir::succeeded(compilation.bufferize()) &&
                mlir::succeeded(compilation.lower()) &&
                mlir::succeeded(compilation.translate()) &&
                mlir::succeeded(compilation.linkLibrary(path));
  }
  ~Compiled() { llvm::sys::fs::remove(path); }
};

DLTensor tensorOf(std::vector<int64_t> &numbers, int64_t &count) {
  DLTensor tensor = {};
  tensor.data = numbers.data();
  tensor.device = {kDLCPU, 0};
  tensor.ndim = 1;
  tensor.dtype = {kDLInt, 64, 1};
  tensor.shape = &count;
  return tensor;
}

using Function = int32_t(DLTensor *, DLTensor *, void *, int64_t, void *);

bool writes(void *library, int number) {
  auto *f = reinterpret_cast<Function *>(dlsym(library, "kv1_f"));
  int64_t count = 1000;
  std::vector<int64_t> x(count, -1), y(count, -1);
  DLTensor to = tensorOf(x, count), copy = tensorOf(y, count);
  return f && !f(&to, &copy, nullptr, 0, nullptr) &&
         y == std::vector<int64_t>(count, number);
}

TEST(Compile, HostHasNoCommandLine) {
  Compiled compiled(programThatWrites(7));
  ASSERT_TRUE(compiled.succeeded) << compiled.diagnostics;
  EXPECT_EQ(compiled.diagnostics, "");
  void *library = dlopen(compiled.path.c_str(), RTLD_NOW | RTLD_LOCAL);
  ASSERT_TRUE(library) << dlerror();
  EXPECT_TRUE(writes(library, 7));
}

TEST(Compile, HostConfiguresPasses) {
  CompileOptions options;
  int managers = 0;
  options.configurePasses = [&](mlir::PassManager &) {
    ++managers;
    return mlir::success();
  };
  Compiled compiled(programThatWrites(7), options);
  EXPECT_TRUE(compiled.succeeded) << compiled.diagnostics;
  EXPECT_EQ(managers, 2);
  options.configurePasses = [&](mlir::PassManager &) {
    return mlir::failure();
  };
  Compiled refused(programThatWrites(7), options);
  EXPECT_FALSE(refused.succeeded);
  EXPECT_EQ(refused.diagnostics, "the options for passes cannot be applied\n");
}

/// A library with parallel loops stays in a process for ever; one that was only
/// compiled does not.
TEST(Compile, NothingStaysLoaded) {
  Compiled compiled(programThatWrites(7));
  ASSERT_TRUE(compiled.succeeded) << compiled.diagnostics;
  auto maps = llvm::MemoryBuffer::getFile("/proc/self/maps");
  ASSERT_TRUE(bool(maps));
  EXPECT_FALSE((*maps)->getBuffer().contains("memfd:kv-compile"));
  EXPECT_FALSE((*maps)->getBuffer().contains(compiled.path));
}

TEST(Compile, ThreadsCompileAndCall) {
  constexpr int kThreads = 16;
  std::atomic<int> right = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&right, t] {
      Compiled compiled(programThatWrites(t));
      void *library = compiled.succeeded
                          ? dlopen(compiled.path.c_str(), RTLD_NOW | RTLD_LOCAL)
                          : nullptr;
      if (library && writes(library, t) && writes(library, t))
        ++right;
      else
        ADD_FAILURE() << t << ": " << compiled.diagnostics;
    });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_EQ(right, kThreads);
}

} // namespace
