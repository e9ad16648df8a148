// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Objects of assembly are linked, loaded and called; those that the linker does
// not know are rejected.
//
//===----------------------------------------------------------------------===//

#include "LinkObjects.h"

#include "llvm/AsmParser/Parser.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Host.h"

#include "gtest/gtest.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

using namespace kvcache::target;
using Bytes = llvm::SmallVector<char, 0>;

namespace {

/// The object of a module of LLVM IR.
Bytes assemble(const std::string &text) {
  llvm::InitializeNativeTarget();
  llvm::InitializeNativeTargetAsmPrinter();
  llvm::InitializeNativeTargetAsmParser();
  llvm::LLVMContext context;
  llvm::SMDiagnostic diagnostic;
  auto module = llvm::parseAssemblyString(text, diagnostic, context);
  if (!module) {
    ADD_FAILURE() << diagnostic.getMessage().str();
    return {};
  }
  std::string error;
  llvm::Triple triple(llvm::sys::getDefaultTargetTriple());
  const auto *target = llvm::TargetRegistry::lookupTarget(triple, error);
  std::unique_ptr<llvm::TargetMachine> machine(
      target->createTargetMachine(triple, "x86-64", "", {}, llvm::Reloc::PIC_));
  module->setTargetTriple(triple);
  module->setDataLayout(machine->createDataLayout());
  Bytes object;
  llvm::raw_svector_ostream os(object);
  llvm::legacy::PassManager passes;
  machine->addPassesToEmitFile(passes, os, nullptr,
                               llvm::CodeGenFileType::ObjectFile);
  passes.run(*module);
  return object;
}

/// `module asm` of each line.
Bytes assembleLines(std::initializer_list<const char *> lines) {
  std::string text;
  for (const char *line : lines)
    text += std::string("module asm \"") + line + "\"\n";
  return assemble(text);
}

llvm::Expected<Bytes> link(llvm::ArrayRef<Bytes> objects) {
  llvm::SmallVector<llvm::StringRef> views;
  for (const Bytes &object : objects)
    views.emplace_back(object.data(), object.size());
  return linkObjects(views, /*staysLoaded=*/false);
}

std::string errorOf(llvm::ArrayRef<Bytes> objects) {
  llvm::Expected<Bytes> library = link(objects);
  return library ? "" : llvm::toString(library.takeError());
}

struct Loaded {
  void *handle = nullptr;

  explicit Loaded(const Bytes &library) {
    int file = memfd_create("library", 0);
    EXPECT_EQ(write(file, library.data(), library.size()),
              ssize_t(library.size()));
    std::string path = "/proc/self/fd/" + std::to_string(file);
    handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    EXPECT_TRUE(handle) << dlerror();
    close(file);
  }
  ~Loaded() { dlclose(handle); }
  template <typename Function> Function *get(const char *name) {
    return reinterpret_cast<Function *>(dlsym(handle, name));
  }
};

TEST(LinkObjects, TwoObjectsThatUseEachOther) {
  Bytes first = assemble(R"(
    @shared = hidden global i32 5
    @pointer = hidden global ptr @shared
    @unused = hidden global [100000 x i32] zeroinitializer
    @zeros = internal global [100 x i32] zeroinitializer
    @mine = internal thread_local global i32 3
    @other = internal thread_local global i32 0
    declare hidden i32 @second(i32)
    define i32 @first(i32 %x) {
      %y = call i32 @second(i32 %x)
      ret i32 %y
    }
    define i32 @count() {
      %a = call ptr @llvm.threadlocal.address.p0(ptr @mine)
      %b = call ptr @llvm.threadlocal.address.p0(ptr @other)
      %x = load i32, ptr %a
      %y = add i32 %x, 1
      store i32 %y, ptr %a
      store i32 %y, ptr %b
      %z = load i32, ptr %b
      ret i32 %z
    }
    define i32 @last() {
      %p = getelementptr i32, ptr @zeros, i64 99
      %x = load i32, ptr %p
      %y = add i32 %x, 1
      store i32 %y, ptr %p
      ret i32 %x
    })");
  Bytes second = assemble(R"(
    @pointer = external hidden global ptr
    @environ = external global ptr
    declare i32 @abs(i32)
    declare extern_weak i32 @no_such_function()
    define hidden i32 @second(i32 %x) {
      %p = load ptr, ptr @pointer
      %y = load i32, ptr %p
      %a = call i32 @abs(i32 %x)
      %z = mul i32 %y, %a
      ret i32 %z
    }
    define ptr @of_process() {
      %p = load ptr, ptr @environ
      ret ptr %p
    }
    define i1 @is_there() {
      %x = icmp ne ptr @no_such_function, null
      ret i1 %x
    })");
  llvm::Expected<Bytes> library = link({first, second});
  ASSERT_TRUE(bool(library)) << llvm::toString(library.takeError());
  // What is not reached is left out.
  EXPECT_LT(library->size(), 20000u);
  Loaded loaded(*library);
  EXPECT_EQ(loaded.get<int(int)>("first")(-4), 20);
  EXPECT_EQ(loaded.get<char **()>("of_process")(), environ);
  EXPECT_FALSE(loaded.get<bool()>("is_there")());
  for (const char *hidden : {"second", "shared", "mine", "abs"})
    EXPECT_FALSE(dlsym(loaded.handle, hidden) && std::string(hidden) != "abs")
        << hidden;
  auto *last = loaded.get<int()>("last");
  EXPECT_EQ(last(), 0);
  EXPECT_EQ(last(), 1);
  auto *count = loaded.get<int()>("count");
  EXPECT_EQ(count(), 4);
  EXPECT_EQ(count(), 5);
  std::thread([&] { EXPECT_EQ(count(), 4); }).join();
}

TEST(LinkObjects, OrderOfObjectsAndTimeDoNotMatter) {
  Bytes object = assemble("define i32 @f() { ret i32 1 }");
  llvm::Expected<Bytes> a = link({object}), b = link({object});
  ASSERT_TRUE(a && b);
  EXPECT_EQ(*a, *b);
}

TEST(LinkObjects, RejectsWhatItDoesNotKnow) {
  EXPECT_EQ(errorOf({assemble(R"(
    @llvm.global_ctors = appending global [1 x { i32, ptr, ptr }]
      [{ i32, ptr, ptr } { i32 1, ptr @f, ptr null }]
    define internal void @f() { ret void })")}),
            "an object contains section '.ctors.65534', which this linker does "
            "not know");
  EXPECT_EQ(
      errorOf({assembleLines({".comm many, 400, 16"})}),
      "an object contains an absolute or common symbol, which this linker "
      "does not know");
  EXPECT_EQ(errorOf({assembleLines({".data", ".p2align 13", ".byte 1"})}),
            "an object contains section '.data' of a greater alignment, which "
            "this linker does not know");
  EXPECT_EQ(errorOf({assembleLines(
                {".globl f", "f: leaq outside(%rip), %rax", "ret"})}),
            "an object contains a reference to data of another library, which "
            "this linker does not know");
  EXPECT_EQ(
      errorOf({assembleLines({".globl f", "f: movl $f, %eax", "ret"})}),
      "an object contains relocation 10, which this linker does not know");
  EXPECT_EQ(errorOf({assembleLines(
                {".section .init_array,\\22aw\\22,@init_array", ".quad 0"})}),
            "an object contains section '.init_array', which this linker does "
            "not know");
  Bytes one = assemble("define i32 @f() { ret i32 1 }");
  EXPECT_EQ(errorOf({one, one}), "two objects define 'f'");
  EXPECT_NE(errorOf({Bytes(one.begin(), one.begin() + 70)}), "");
  EXPECT_NE(errorOf({Bytes(8, 'x')}), "");
  Bytes other = one;
  other[18] = 40; // the machine: Arm
  EXPECT_EQ(
      errorOf({other}),
      "an object contains code for another machine, which this linker does "
      "not know");
}

} // namespace
