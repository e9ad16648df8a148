/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * RUN: %cc -std=c11 -Wall -Wextra -Werror -I%kvcache_src/include %s \
 * RUN:   %kvcache_build/lib/libkvcache.so -ldl -o %t
 * RUN: env PATH=/nowhere LD_LIBRARY_PATH=%kvcache_build/lib %t %t.so
 * RUN: llvm-nm -D --defined-only %kvcache_build/lib/libkvcache.so \
 * RUN:   | FileCheck %s --implicit-check-not=' T '
 *
 * CHECK-DAG: {{^[0-9a-f]+}} T kvcCompile
 * CHECK-DAG: {{^[0-9a-f]+}} T kvcFree
 * CHECK-DAG: {{^[0-9a-f]+}} T kvcLayout{{[A-Z][A-Za-z]+$}}
 * CHECK-DAG: {{^[0-9a-f]+}} T kvcLayout{{[A-Z][A-Za-z]+$}}
 * CHECK-DAG: {{^[0-9a-f]+}} T kvcLayout{{[A-Z][A-Za-z]+$}}
 * CHECK-DAG: {{^[0-9a-f]+}} T kvcLayout{{[A-Z][A-Za-z]+$}}
 * CHECK-DAG: {{^[0-9a-f]+}} T kvcLayout{{[A-Z][A-Za-z]+$}}
 * CHECK-DAG: {{^[0-9a-f]+}} T kvcLayout{{[A-Z][A-Za-z]+$}}
 * CHECK-DAG: {{^[0-9a-f]+}} T kvcLayout{{[A-Z][A-Za-z]+$}}
 * CHECK-DAG: {{^[0-9a-f]+}} T kvcFormats
 * CHECK-DAG: {{^[0-9a-f]+}} T kvcOrders
 * CHECK-DAG: {{^[0-9a-f]+}} T kvcVersion
 */

#include "kvcache-c/Compiler.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void expect(int holds, const char *what, const char *got) {
  if (holds)
    return;
  fprintf(stderr, "expected %s, got %s\n", what, got ? got : "nothing");
  exit(1);
}

static const char *path;

/* Compiles a program and compares the text of its errors. */
static void rejects(const char *program, KvcOptions options,
                    const char *expected) {
  char *messages = NULL;
  int status = kvcCompile(program, program ? strlen(program) : 0, NULL,
                          &options, path, &messages);
  expect(status == 1, expected, "success");
  expect(messages && strstr(messages, expected), expected, messages);
  kvcFree(messages);
}

int main(int argc, char **argv) {
  expect(argc == 2, "a path", "another number of arguments");
  path = argv[1];
  const char *program =
      "func.func @f(%x: memref<2xi64>) {\n"
      "  %c = arith.constant 0 : index\n  %v = arith.constant 7 : i64\n"
      "  memref.store %v, %x[%c] : memref<2xi64>\n  return\n}\n";

  KvcOptions none = {.bytes = sizeof none};
  rejects(NULL, none, "expected a program and a path, got a null pointer");
  rejects("func.func @f(", none, "program:1:13: error: ");
  KvcOptions options = none;
  options.target = "sm_1";
  rejects(program, options, "unknown target 'sm_1'; expected cpu, ");
  options = none;
  options.cpu = "z80";
  rejects(program, options, "unknown CPU 'z80'");
  options = none;
  options.image = "elf";
  rejects(program, options, "unknown image 'elf'; expected auto, ptx, cubin");
  options = none;
  options.checks = "all";
  rejects(program, options,
          "unknown checks 'all'; expected none, on-request, full");
  options = none;
  options.name = "not-c";
  rejects(
      program, options,
      "the name of a library is expected to be a C identifier, got 'not-c'");

  /* Without messages, and without options. */
  expect(kvcCompile("?", 1, NULL, NULL, path, NULL) == 1, "an error", "none");
  char *messages = NULL;
  expect(!kvcCompile(program, strlen(program), "f", NULL, path, &messages),
         "success", messages);
  expect(!messages, "no messages", messages);
  /* Of an older header, that knows the name alone. */
  options = (KvcOptions){.bytes = offsetof(KvcOptions, target),
                         .name = "mine",
                         .target = "not known"};
  expect(!kvcCompile(program, strlen(program), "f", &options, path, &messages),
         "success", messages);

  void *library = dlopen(path, RTLD_NOW);
  expect(library != NULL, "a library", dlerror());
  expect(dlsym(library, "kv1_f") && dlsym(library, "kv1args_f") &&
             dlsym(library, "kv1_mine_last_error"),
         "its functions", "another library");
  expect(strstr(kvcFormats(), "bf16 bfloat16 4 16\n") != NULL &&
             strstr(kvcFormats(), "f8E4M3FN float8_e4m3fn 10 8\n") != NULL,
         "the formats", kvcFormats());
  expect(strstr(kvcOrders(), "nhd S B N H D\n") != NULL, "the order nhd",
         kvcOrders());
  int major, minor;
  expect(sscanf(kvcVersion(), "%d.%d", &major, &minor) == 2, "a version",
         kvcVersion());
  return 0;
}
