# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s %cc
"""A library called from C and from C++, by its own header, without a warning."""

import os
import subprocess
import sys
from pathlib import Path

from kvtest import compile_library

CACHE = "!kvcache.cache<2S x ?B x 4N x 2H x 4D x f32>"
SLOTS = "!kvcache.slots<?T x i64, rows_per_block = 4, pad = skip_negative>"
ROWS = "tensor<?x2x4xf32>"
# Arguments may be called what C or C++ keep for themselves.
PROGRAM = f"""
func.func @insert(%pool: {CACHE}, %register: tensor<?xi64>, %new: {ROWS},
                  %stream: {ROWS}, %x.y: i32, %x_y: f32) {{
  %where = kvcache.make_slots %register : tensor<?xi64> to {SLOTS}
  kvcache.index_copy %new, %stream into %pool at %where
    : {ROWS}, {ROWS} into {CACHE} at {SLOTS}
  return
}}
func.func @no_arguments() {{
  return
}}
"""

CALLER = r"""
#include "libfrom_c.h"
/* Once more does no harm. */
#include "libfrom_c.h"

#include <stdio.h>
#include <string.h>

static const float before = -1.0f;
static float pool[2][3][4][2][4];
static float key[2][2][4], value[2][2][4];
static int64_t slots[2] = {6, -1};

static DLTensor tensor(void *data, uint8_t code, uint8_t bits, int32_t ndim,
                       int64_t *shape) {
  DLTensor result;
  memset(&result, 0, sizeof result);
  result.data = data;
  result.device.device_type = kDLCPU;
  result.dtype.code = code;
  result.dtype.bits = bits;
  result.dtype.lanes = 1;
  result.ndim = ndim;
  result.shape = shape;
  return result;
}

int main(void) {
  int64_t pool_shape[5] = {2, 3, 4, 2, 4}, slots_shape[1] = {2};
  int64_t rows_shape[3] = {2, 2, 4};
  DLTensor p = tensor(pool, kDLFloat, 32, 5, pool_shape);
  DLTensor s = tensor(slots, kDLInt, 64, 1, slots_shape);
  DLTensor k = tensor(key, kDLFloat, 32, 3, rows_shape);
  DLTensor v = tensor(value, kDLFloat, 32, 3, rows_shape);
  int wrong = 0;
  float *all = &pool[0][0][0][0][0];
  for (int i = 0; i < 2 * 3 * 4 * 8; ++i)
    all[i] = before;
  for (int i = 0; i < 8; ++i) {
    (&key[0][0][0])[i] = (float)i;
    (&value[0][0][0])[i] = (float)(100 + i);
  }
  if (kv1_insert_workspace_size(&p, &s, &k, &v, 7, 0.5) != 0)
    return 2;
  int32_t status = kv1_insert(&p, &s, &k, &v, 7, 0.5, NULL, 0, NULL);
  if (status != KV_OK) {
    printf("error %d: %s\n", status, kv1_from_c_last_error());
    return 3;
  }
  for (int i = 0; i < 2 * 3 * 4 * 8; ++i) {
    int side = i / 96, token = i / 8 % 12;
    float expected = token == 6 ? (float)(100 * side + i % 8) : before;
    wrong += all[i] != expected;
  }
  if (wrong)
    return 4;
  if (kv1_insert(&p, &s, NULL, &v, 7, 0.5, NULL, 0, NULL) != KV_ERROR_NULL)
    return 5;
  /* A message has the name of the source, not that of the header. */
  if (!strstr(kv1_from_c_last_error(), "argument 'new'"))
    return 6;
  if (!strstr(kv1_from_c_manifest(), "\"abi_version\": 1"))
    return 7;
  if (KV_ABI_VERSION != 1 || kv1_no_arguments(NULL, 0, NULL) != KV_OK ||
      kv1_no_arguments_workspace_size() != 0)
    return 8;
  kv_parallel_for *none = NULL;
  kv1_from_c_set_parallel_for(none, NULL);
  puts("called");
  return 0;
}
"""

compiler = sys.argv[1]
library = compile_library(PROGRAM, "from_c")
folder = Path(library.path).parent
for language, standard in (("c", "c11"), ("c++", "c++17")):
    source = folder / f"caller.{language.replace('+', 'p')}"
    source.write_text(CALLER)
    program = folder / f"caller_{standard}"
    subprocess.run(
        [compiler, "-x", language, f"-std={standard}", "-Wall", "-Wextra",
         "-Wpedantic", "-Werror", str(source), f"-I{folder}", f"-L{folder}",
         "-lfrom_c", "-o", str(program)], check=True)
    result = subprocess.run([str(program)], text=True, capture_output=True,
                            env=dict(os.environ, LD_LIBRARY_PATH=str(folder)))
    assert result.returncode == 0, (language, result)
    assert result.stdout == "called\n", result
print("called from C and C++")
