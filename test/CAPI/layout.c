/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * RUN: %cc -std=c11 -Wall -Wextra -Werror -I%kvcache_src/include %s \
 * RUN:   %kvcache_build/lib/libkvcache.so -o %t
 * RUN: env LD_LIBRARY_PATH=%kvcache_build/lib %t
 */

#include "kvcache-c/Layout.h"
#include "kvcache-c/Compiler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void expect(int holds, const char *what, const char *got) {
  if (holds)
    return;
  fprintf(stderr, "expected %s, got %s\n", what, got ? got : "nothing");
  exit(1);
}

static void expectNumber(const char *what, int64_t got, int64_t expected) {
  if (got == expected)
    return;
  fprintf(stderr, "%s: expected %lld, got %lld\n", what, (long long)expected,
          (long long)got);
  exit(1);
}

static KvcLayout *parse(const char *type) {
  char *messages = NULL;
  KvcLayout *layout = kvcLayoutParse(type, &messages);
  expect(layout && !messages, type, messages);
  return layout;
}

static void rejects(const char *type, const char *expected) {
  char *messages = NULL;
  expect(!kvcLayoutParse(type, &messages), "an error", "a layout");
  expect(messages && strstr(messages, expected), expected, messages);
  kvcFree(messages);
  expect(!kvcLayoutParse(type, NULL), "an error", "a layout");
}

static void checkAxes(void) {
  KvcLayout *layout =
      parse("!kvcache.cache<4L x 2S x ?B x 16N x 8H x 32D.o x 4D.i x f32, "
            "order = [B, H, L, S, D.o, N, D.i], strides = [B = ? mult 2]>");
  static const KvcAxis expected[] = {
      {"L", 2, 4, 4096, 4096},       {"S", 3, 2, 2048, 2048},
      {"B", 0, KVC_RUN_TIME, -1, 2}, {"N", 5, 16, 4, 4},
      {"H", 1, 8, 16384, 16384},     {"D.o", 4, 32, 64, 64},
      {"D.i", 6, 4, 1, 1},
  };
  expectNumber("rank", kvcLayoutRank(layout), 7);
  expectNumber("bytes", kvcLayoutElementBytes(layout), 4);
  for (int32_t i = 0; i < 7; ++i) {
    KvcAxis axis = kvcLayoutAxis(layout, i);
    expect(!strcmp(axis.name, expected[i].name), expected[i].name, axis.name);
    expectNumber(axis.name, axis.place, expected[i].place);
    expectNumber(axis.name, axis.extent, expected[i].extent);
    expectNumber(axis.name, axis.stride, expected[i].stride);
    expectNumber(axis.name, axis.multiple, expected[i].multiple);
  }
  expectNumber("no axis", kvcLayoutAxis(layout, 7).extent, 0);
  expectNumber("no axis", kvcLayoutAxis(layout, -1).extent, 0);
  kvcLayoutFree(layout);
}

static void rejectsTransfer(const KvcLayout *layout, const char *moved,
                            const KvcSlice *slices, size_t count,
                            const char *expected) {
  KvcTransfer transfer;
  char *messages = NULL;
  expectNumber(
      "status",
      kvcLayoutTransfer(layout, moved, slices, count, &transfer, &messages), 1);
  expect(messages && strstr(messages, expected), expected, messages);
  kvcFree(messages);
}

static void checkTransfers(void) {
  KvcLayout *layout =
      parse("!kvcache.cache<32L x 2S x ?B x 16N x 8H x 128D x bf16, "
            "order = cross_layer_nhd>");
  KvcTransfer transfer;
  expectNumber("status",
               kvcLayoutTransfer(layout, "LSNHD", NULL, 0, &transfer, NULL), 0);
  expectNumber("runs", transfer.runs, 1);
  expectNumber("bytes", transfer.run_bytes, 2097152);
  expectNumber("access", transfer.access_bytes, 16);
  expectNumber("loops", transfer.num_loops, 0);

  KvcSlice heads = {"H", 2, 2};
  char *messages = NULL;
  expectNumber(
      "status",
      kvcLayoutTransfer(layout, "LSNHD", &heads, 1, &transfer, &messages), 0);
  expect(!messages, "no messages", messages);
  expectNumber("runs", transfer.runs, 1024);
  expectNumber("bytes", transfer.run_bytes, 512);
  expectNumber("loops", transfer.num_loops, 1);
  expectNumber("extent", transfer.extents[0], 1024);
  expectNumber("stride", transfer.strides[0], 1024);

  expectNumber("status",
               kvcLayoutTransfer(layout, "SBNHD", NULL, 0, &transfer, NULL), 0);
  expectNumber("runs", transfer.runs, KVC_RUN_TIME);
  expectNumber("extent", transfer.extents[0], KVC_RUN_TIME);
  expectNumber("stride", transfer.strides[0], 1048576);

  rejectsTransfer(layout, "LXD", NULL, 0,
                  "expected letters of axes, got 'LXD'");
  KvcSlice bad[] = {{"H", 7, 2}, {"B", 0, 1}, {"Q", 0, 1}};
  rejectsTransfer(layout, "LSNHD", bad, 1, "the slice of H is expected");
  rejectsTransfer(layout, "LSNHD", bad + 1, 1, "the sliced axis B");
  rejectsTransfer(layout, "LSNHD", bad + 2, 1, "the name of an axis, got 'Q'");
  KvcSlice twice[] = {heads, heads};
  rejectsTransfer(layout, "LSNHD", twice, 2, "axis H has two slices");
  kvcLayoutFree(layout);
}

int main(void) {
  checkAxes();
  checkTransfers();
  rejects(NULL, "expected");
  rejects("!kvcache.cache<2S x ?B x 16N", "unbalanced '<'");
  rejects("!kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16> more", "more");
  rejects("i32", "expected the type of a cache");
  rejects("!kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16, strides = [B = 3]>",
          "layout_c5");
  KvcLayout *layout = parse("!kvcache.cache<?B x 16N x 8H x 128D x bf16>");
  char *text = kvcLayoutDraw(layout, 0), *svg = kvcLayoutDraw(layout, 1);
  expect(text && strstr(text, "a head of a block  #-#-----  16 x 256"),
         "a drawing", text);
  expect(svg && !strncmp(svg, "<svg ", 5), "SVG", svg);
  kvcFree(text);
  kvcFree(svg);
  kvcLayoutFree(layout);
  kvcLayoutFree(NULL);
  return 0;
}
