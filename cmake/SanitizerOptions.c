/* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 * Linked into each program that is built with KVCACHE_SANITIZE. Pools of LLVM
 * poison their memory in code that is inlined into ours, and give it out in
 * LLVM's, which is not instrumented and does not say so.
 */

const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allow_user_poisoning=0"; }
