/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * The compiler as a library, libkvcache.so, for callers in any language: text
 * in, a shared library out. It needs no other program, neither a linker nor
 * LLVM. docs/abi.md describes how to call what it makes.
 */

#ifndef KVCACHE_C_COMPILER_H
#define KVCACHE_C_COMPILER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Options are added at the end: `bytes` says which ones the caller knows. Null
 * or zero is the default. */
typedef struct {
  size_t bytes; /* sizeof(KvcOptions) */
  /* What the library is called in its symbols: kv1_NAME_last_error. A C
   * identifier; `program` by default. */
  const char *name;
  const char *target; /* cpu, or a GPU architecture such as sm_90a */
  const char *cpu;    /* of host code: x86-64-v3 by default */
  const char *image;  /* of kernels: auto, ptx or cubin */
  const char *checks; /* of entries of lists: none, on-request or full */
  int32_t allow_pool_copies;
  int32_t max_variants;
} KvcOptions;

/* Compiles a program, text or bytecode, to a shared library at `path`, which is
 * replaced as a whole or not at all. `program_name` stands for the program in
 * messages. Returns 0, or 1 after an error. `messages` is set to the text of
 * errors and warnings, null if there are none; kvcFree frees it. Any number of
 * threads may call. */
int32_t kvcCompile(const char *program, size_t program_bytes,
                   const char *program_name, const KvcOptions *options,
                   const char *path, char **messages);

void kvcFree(char *messages);

/* The orders that have a name, one in a line: `nhd S B N H D`, from the slowest
 * axis in memory to the fastest. */
const char *kvcOrders(void);

/* The formats that elements of a cache may have, one in a line: `bf16 bfloat16
 * 4 16`, the name in a program, the name in NumPy, PyTorch and JAX, the type
 * code of DLPack, the bits. */
const char *kvcFormats(void);

/* The version of the compiler. */
const char *kvcVersion(void);

#ifdef __cplusplus
}
#endif

#endif /* KVCACHE_C_COMPILER_H */
