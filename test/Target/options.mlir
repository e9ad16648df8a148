// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: not kv-compile %s --target=sm_42 -o %t.so 2>&1 \
// RUN:   | FileCheck %s --check-prefix=TARGET
// TARGET: kv-compile: unknown target 'sm_42'; expected cpu, sm_80, sm_90a or sm_100a

// RUN: not kv-compile %s --cpu=pentium5 -o %t.so 2>&1 \
// RUN:   | FileCheck %s --check-prefix=CPU
// CPU: error: unknown CPU 'pentium5'

// RUN: not kv-compile %s --target=sm_90a --gpu-image=sass -o %t.so 2>&1 \
// RUN:   | FileCheck %s --check-prefix=IMAGE
// IMAGE: kv-compile: unknown image 'sass'; expected auto, ptx or cubin

// RUN: not kv-compile %s --checks=some -o %t.so 2>&1 \
// RUN:   | FileCheck %s --check-prefix=CHECKS
// CHECKS: kv-compile: unknown checks 'some'; expected none, on-request or full

// RUN: not kv-compile %s --emit=ptx 2>&1 | FileCheck %s --check-prefix=KERNELS
// KERNELS: kv-compile: --emit=ptx and --emit=cubin need a GPU target

// RUN: echo 'func.func @prog_manifest() { return }' \
// RUN:   | not kv-compile - --name=prog -o %t.so 2>&1 \
// RUN:   | FileCheck %s --check-prefix=CLASH
// CLASH: error: function 'prog_manifest' has the name of a function of library 'prog'; rename one of them

// RUN: not kv-compile %s 2>&1 | FileCheck %s --check-prefix=OUTPUT
// OUTPUT: kv-compile: an output file is needed: -o libprogram.so

// RUN: not kv-compile %s -o %t.h 2>&1 | FileCheck %s --check-prefix=BESIDE
// BESIDE: kv-compile: '{{.*}}.h' would be overwritten by the file that is written beside a library; name it -o libprogram.so

// RUN: not kv-compile %s -o %t-none/libx.so 2>&1 \
// RUN:   | FileCheck %s --check-prefix=FOLDER
// FOLDER: {{[Nn]o such file or directory}}

// RUN: not kv-compile %t-none.mlir -o %t.so 2>&1 \
// RUN:   | FileCheck %s --check-prefix=INPUT
// INPUT: kv-compile: cannot read '{{.*}}-none.mlir': No such file or directory

// RUN: not kv-compile %S -o %t.so 2>&1 | FileCheck %s --check-prefix=FOLDER-INPUT
// FOLDER-INPUT: kv-compile: cannot read '{{.*}}Target': Is a directory

// RUN: echo "func.func @f(" | not kv-compile - -o %t.so 2>&1 \
// RUN:   | FileCheck %s --check-prefix=SYNTAX
// SYNTAX: <stdin>:1:14: error: expected

// No library is left behind by a call that failed.
// RUN: not ls %t.so

// The name of the library follows from the file, and can be said.
// RUN: mkdir -p %t.d
// RUN: kv-compile %s -o %t.d/lib9-paged.insert.so && FileCheck %s \
// RUN:   --check-prefix=FROM-FILE --input-file=%t.d/lib9-paged.insert.h
// FROM-FILE: const char *kv1__9_paged_insert_last_error(void);
// RUN: kv-compile %s --name=mine -o %t.d/libother.so && FileCheck %s \
// RUN:   --check-prefix=GIVEN --input-file=%t.d/libother.h
// GIVEN: const char *kv1_mine_last_error(void);

// Whether entries are checked is said where there is something to say.
// RUN: FileCheck %s --check-prefix=UNCHECKED --input-file=%t.d/libother.h
// UNCHECKED-NOT: Entries of lists
// UNCHECKED: int32_t kv1_mine_check(void *stream);
// RUN: FileCheck %s --check-prefix=NONE --input-file=%t.d/libother.json
// NONE: "checks": "none"
// RUN: kv-compile %s --checks=on-request --emit=header \
// RUN:   | FileCheck %s --check-prefix=ASKED
// ASKED: Entries of lists are checked: on-request.
// RUN: kv-compile %s --checks=full --emit=manifest \
// RUN:   | FileCheck %s --check-prefix=FULL
// FULL: "checks": "full"

// An integer argument is no reason for a warning.
// RUN: kv-compile %s -o %t.d/libquiet.so 2>&1 | count 0
func.func @f(%n: index, %x: f32) {
  return
}
