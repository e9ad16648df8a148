// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Each mistake has a message that names the argument, what was expected and
// what was given, and an exit code that is not zero.
//
// RUN: not kv-run %s --function=two --target=sm_90a 2>&1 | FileCheck %s --check-prefix=TARGET
// TARGET: kv-run: expected --target=cpu, got 'sm_90a': programs for a GPU are compiled by kv-compile, and cannot be run here yet
// RUN: not kv-run %s --function=two --cpu=z80 --in n=1 --in x=0,shape=[2] 2>&1 | FileCheck %s --check-prefix=CPU
// CPU: error: unknown CPU 'z80'
// RUN: not kv-run %t-none.mlir 2>&1 | FileCheck %s --check-prefix=PROGRAM
// PROGRAM: kv-run: cannot read '{{.*}}-none.mlir': No such file or directory
// RUN: echo "func.func @f(" | not kv-run 2>&1 | FileCheck %s --check-prefix=SYNTAX
// SYNTAX: <stdin>:1:14: error: expected
// RUN: not kv-run %s 2>&1 | FileCheck %s --check-prefix=FUNCTION
// FUNCTION: kv-run: expected --function=NAME, one of two, insert
// RUN: not kv-run %s --function=three 2>&1 | FileCheck %s --check-prefix=NOFUNCTION
// NOFUNCTION: kv-run: --function: expected one of two, insert, got 'three'

// Names.
// RUN: not kv-run %s --function=two --in y=1 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// UNKNOWN: kv-run: function 'two' has no argument 'y'; expected one of n, x
// RUN: not kv-run %s --function=two --print y 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: not kv-run %s --function=two --out y=@%t.y 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: not kv-run %s --function=two --in n=1 2>&1 | FileCheck %s --check-prefix=MISSING
// MISSING: kv-run: argument 'x': expected --in x=VALUE, for f32 [?]
// RUN: not kv-run %s --function=two --in x=0 2>&1 | FileCheck %s --check-prefix=MISSINGN
// MISSINGN: kv-run: argument 'n': expected --in n=VALUE, for index
// RUN: not kv-run %s --function=two --in n=1 --print x 2>&1 | FileCheck %s --check-prefix=UNWRITTEN
// UNWRITTEN: kv-run: argument 'x': expected --in x=VALUE as well, for f32 [?] that the function is not known to write
// RUN: not kv-run %s --function=two --in n=1 --in x=0 --print n 2>&1 | FileCheck %s --check-prefix=SCALAR
// SCALAR: kv-run: argument 'n': expected a tensor for --out and --print, got index
// RUN: not kv-run %s --function=two --in n=1 --in n=2 2>&1 | FileCheck %s --check-prefix=TWICE
// TWICE: kv-run: argument 'n': --in is given twice

// How values are written.
// RUN: not kv-run %s --function=two --in n 2>&1 | FileCheck %s --check-prefix=NOVALUE
// NOVALUE: kv-run: --in: expected NAME=VALUE, got 'n'
// RUN: not kv-run %s --function=two --out x 2>&1 | FileCheck %s --check-prefix=NOFILE
// NOFILE: kv-run: --out: expected NAME=@FILE, got 'x'
// RUN: not kv-run %s --function=two --out x=y 2>&1 | FileCheck %s --check-prefix=NOAT
// NOAT: kv-run: argument 'x': expected --out x=@FILE, got 'y'
// RUN: not kv-run %s --function=two --in x=ones 2>&1 | FileCheck %s --check-prefix=VALUE
// VALUE: kv-run: argument 'x': expected a value: @FILE, random, zeros, iota, poison, a number or a list of numbers such as [0,4], got 'ones'
// RUN: not kv-run %s --function=two --in x=[1,two] 2>&1 | FileCheck %s --check-prefix=LIST
// LIST: kv-run: argument 'x': expected a value: {{.*}}, got '[1,two]'
// RUN: not kv-run %s --function=two --in x=@ 2>&1 | FileCheck %s --check-prefix=AT
// AT: kv-run: argument 'x': expected the name of a file after '@'
// RUN: not kv-run %s --function=two --in x=0,shp=[2] 2>&1 | FileCheck %s --check-prefix=KEY
// KEY: kv-run: argument 'x': expected dtype, shape, strides, offset, seed or range, got 'shp'
// RUN: not kv-run %s --function=two --in x=0,shape 2>&1 | FileCheck %s --check-prefix=NOKEY
// NOKEY: kv-run: argument 'x': expected KEY=VALUE, got 'shape'
// RUN: not kv-run %s --function=two --in x=0,offset=1,offset=2 2>&1 | FileCheck %s --check-prefix=TWOKEYS
// TWOKEYS: kv-run: argument 'x': 'offset' is given twice
// RUN: not kv-run %s --function=two --in x=0,shape=2 2>&1 | FileCheck %s --check-prefix=SHAPESYNTAX
// SHAPESYNTAX: kv-run: argument 'x': expected shape=[integers from 0 up], got '2'
// RUN: not kv-run %s --function=two --in x=0,strides=[-1] 2>&1 | FileCheck %s --check-prefix=NEGATIVE
// NEGATIVE: kv-run: argument 'x': expected strides=[integers from 0 up], got '[-1]'
// RUN: not kv-run %s --function=two --in x=0,offset=-1 2>&1 | FileCheck %s --check-prefix=OFFSET
// OFFSET: kv-run: argument 'x': expected offset=INTEGER from 0 up, got '-1'
// RUN: not kv-run %s --function=two --in x=0,dtype=f8 2>&1 | FileCheck %s --check-prefix=DTYPE
// DTYPE: kv-run: argument 'x': expected dtype=f16|bf16|f32|f8E4M3FN|f8E5M2|f64|i8|i16|i32|i64, got 'f8'
// RUN: not kv-run %s --function=two --in x=random,range=[3] 2>&1 | FileCheck %s --check-prefix=RANGE
// RANGE: kv-run: argument 'x': expected range=[LOWEST,HIGHEST], got '[3]'
// RUN: not kv-run %s --function=two --in x=0,seed=3 2>&1 | FileCheck %s --check-prefix=SEED
// SEED: kv-run: argument 'x': 'seed' is valid only with random, got '0'

// Values that do not fit.
// RUN: not kv-run %s --function=two --in n=1.5 --in x=0 2>&1 | FileCheck %s --check-prefix=INTEGER
// INTEGER: kv-run: argument 'n': expected an integer, got '1.5'
// RUN: not kv-run %s --function=two --in n=3,shape=[1] --in x=0 2>&1 | FileCheck %s --check-prefix=ALONE
// ALONE: kv-run: argument 'n': expected an integer alone, got a dtype, shape, strides or offset
// RUN: not kv-run %s --function=insert --in cache=zeros,shape=[2,2,3] --in slots=[3000000000] --in rows=zeros 2>&1 | FileCheck %s --check-prefix=WIDE
// WIDE: kv-run: argument 'slots': expected an integer from -2147483648 to 2147483647, got [3000000000]
// RUN: not kv-run %s --function=insert --in cache=zeros,shape=[2,2,3] --in slots=random,shape=[1] --in rows=zeros 2>&1 | FileCheck %s --check-prefix=NORANGE
// NORANGE: kv-run: argument 'slots': expected range=[LOWEST,HIGHEST] for random i32
// RUN: not kv-run %s --function=insert --in cache=zeros,shape=[2,2,3] --in slots=random,range=[0,3000000000] --in rows=zeros 2>&1 | FileCheck %s --check-prefix=ENDS
// ENDS: kv-run: argument 'slots': expected an integer from -2147483648 to 2147483647 at both ends of the range, got 3000000000
// RUN: not kv-run %s --function=two --in n=1 --in x=[1,2],shape=[3] 2>&1 | FileCheck %s --check-prefix=COUNT
// COUNT: kv-run: argument 'x': expected 3 numbers for f32 [3], got 2
// RUN: not kv-run %s --function=insert --in cache=zeros,shape=[2,2,3] --in slots=poison --in rows=zeros 2>&1 | FileCheck %s --check-prefix=NOSHAPE
// NOSHAPE: kv-run: argument 'slots': expected shape=[n0], as no other argument determines the extent of dimension 0
// RUN: not kv-run %s --function=two --in n=1 --in x=0,shape=[3],strides=[1,1] 2>&1 | FileCheck %s --check-prefix=STRIDES
// STRIDES: kv-run: argument 'x': expected 1 strides for f32 [3], got [1, 1]
// RUN: not kv-run %s --function=two --in n=1 --in x=0,shape=[9999999999999] 2>&1 | FileCheck %s --check-prefix=EXTENT
// EXTENT: kv-run: argument 'x': expected extents up to 2^40, got [9999999999999]
// RUN: not kv-run %s --function=two --in n=1 --in x=0,shape=[1099511627776] 2>&1 | FileCheck %s --check-prefix=MEMORY
// MEMORY: kv-run: argument 'x': expected at most {{[0-9]+}} bytes, the memory of this machine, got 4398046511104
// RUN: not kv-run %s --function=two --in n=1 --in x=0,shape=[1099511627776],strides=[1099511627776] 2>&1 | FileCheck %s --check-prefix=FAR
// FAR: kv-run: argument 'x': expected a tensor of less than 2^60 elements, got f32 [1099511627776]

// Files.
// RUN: %python %S/Inputs/write_arrays.py %t
// RUN: not kv-run %s --function=two --in n=1 --in x=@%t.none 2>&1 | FileCheck %s --check-prefix=UNREADABLE
// UNREADABLE: kv-run: argument 'x': cannot read '{{.*}}.none': No such file or directory
// RUN: not kv-run %s --function=two --in n=1 --in x=@%t.bin,shape=[4] 2>&1 | FileCheck %s --check-prefix=SIZE
// SIZE: kv-run: argument 'x': expected 16 bytes for f32 [4], got 20 in '{{.*}}.bin'
// RUN: not kv-run %s --function=two --in n=1 --in x=@%t.bin,shape=[2],strides=[4],offset=2 2>&1 | FileCheck %s --check-prefix=REACH
// REACH: kv-run: argument 'x': expected at least 28 bytes for f32 [2], strides [4], offset 2, got 20 in '{{.*}}.bin'
// RUN: cp %t.bin %t.bad.npy
// RUN: not kv-run %s --function=two --in n=1 --in x=@%t.bad.npy 2>&1 | FileCheck %s --check-prefix=NONPY
// NONPY: kv-run: argument 'x': '{{.*}}.bad.npy': expected the header of a .npy file
// RUN: not kv-run %s --function=two --in n=1 --in x=@%t.fortran.npy 2>&1 | FileCheck %s --check-prefix=FORTRAN
// FORTRAN: kv-run: argument 'x': '{{.*}}': expected an array in C order, got one in Fortran order
// RUN: not kv-run %s --function=two --in n=1 --in x=@%t.struct.npy 2>&1 | FileCheck %s --check-prefix=STRUCT
// STRUCT: kv-run: argument 'x': '{{.*}}': expected an array of numbers, got elements of [('a', '<f4')]
// RUN: not kv-run %s --function=two --in n=1 --in x=@%t.short.npy 2>&1 | FileCheck %s --check-prefix=SHORT
// SHORT: kv-run: argument 'x': '{{.*}}': expected [5] elements of '<f4' after the header, got 16 bytes
// RUN: not kv-run %s --function=two --in n=1 --in x=@%t.f8.npy 2>&1 | FileCheck %s --check-prefix=TYPE
// TYPE: kv-run: argument 'x': expected elements of f32, got '<f8' in '{{.*}}.f8.npy'{{$}}
// RUN: not kv-run %s --function=two --in n=1 --in x=@%t.u4.npy 2>&1 | FileCheck %s --check-prefix=HINT
// HINT: kv-run: argument 'x': expected elements of f32, got '<u4' in '{{.*}}.u4.npy'; dtype=f32 reads the bits as that type
// RUN: not kv-run %s --function=insert --in cache=zeros,shape=[2,2,3] --in slots=0 --in rows=0,shape=[1,3] --out cache=@%t.none/x.npy 2>&1 | FileCheck %s --check-prefix=UNWRITABLE
// UNWRITABLE: kv-run: argument 'cache': cannot write '{{.*}}.none/x.npy': No such file or directory
// RUN: not kv-run %s --function=insert --in cache=zeros,shape=[2,2,3] --in slots=0 --in rows=0,shape=[1,3] --out cache=@/dev/full 2>&1 | FileCheck %s --check-prefix=FULL
// FULL: kv-run: argument 'cache': cannot write '/dev/full': No space left on device
// RUN: not kv-run %s --function=insert --in cache=zeros,shape=[2,2,3] --in slots=0 --in rows=0,shape=[1,3] --print cache 2> %t.err > /dev/full
// RUN: FileCheck %s --check-prefix=FULL-OUT --input-file=%t.err
// FULL-OUT: kv-run: cannot write '-': No space left on device

// What the entry function finds.
// RUN: not kv-run %s --function=insert --in cache=zeros,shape=[2,2,3] --in slots=[0,1] --in rows=zeros,shape=[3,3] 2>&1 | FileCheck %s --check-prefix=ROWS
// ROWS: kv-run: insert: argument 'rows': expected an extent of 2 in dimension 0, as in argument 'slots', got 3
// RUN: not kv-run %s --function=insert --in cache=zeros,shape=[6] --in slots=0 --in rows=0,shape=[1,3] 2>&1 | FileCheck %s --check-prefix=RANK
// RANK: kv-run: insert: argument 'cache': expected 3 dimensions, got 1
// RUN: not kv-run %s --function=insert --in cache=zeros,shape=[2,2,3],dtype=f16 --in slots=0 --in rows=0,shape=[1,3] 2>&1 | FileCheck %s --check-prefix=ELEMENT
// ELEMENT: kv-run: insert: argument 'cache': expected elements of float32, got float16
// RUN: not kv-run %s --function=insert --in cache=zeros,shape=[2,2,3],strides=[6,4,1] --in slots=0 --in rows=0,shape=[1,3] 2>&1 | FileCheck %s --check-prefix=STRIDE
// STRIDE: kv-run: insert: argument 'cache': expected a stride of {{.*}} elements in dimension
// RUN: not kv-run %s --function=insert --in cache=zeros,shape=[2,2,3],offset=1 --in slots=0 --in rows=0,shape=[1,3] 2>&1 | FileCheck %s --check-prefix=ALIGN
// ALIGN: kv-run: insert: argument 'cache': expected an address that is a multiple of 16 bytes, got

// What checks of entries find, if they are compiled in and asked for.
// RUN: not kv-run %s --function=insert --checks=full --in cache=zeros,shape=[2,2,3] --in slots=[0,4] --in rows=zeros,shape=[2,3] 2>&1 | FileCheck %s --check-prefix=ENTRY
// RUN: env KVRT_CHECK=1 not kv-run %s --function=insert --checks=on-request --in cache=zeros,shape=[2,2,3] --in slots=[0,4] --in rows=zeros,shape=[2,3] 2>&1 | FileCheck %s --check-prefix=ENTRY
// ENTRY: kv-run: insert: index_copy: argument 'slots': expected a slot from 0 to 3, or a negative one for padding, at entry 1, got 4
// RUN: kv-run %s --function=insert --checks=on-request --in cache=zeros,shape=[2,2,3] --in slots=[0,4] --in rows=zeros,shape=[2,3]
// RUN: kv-run %s --function=insert --in cache=zeros,shape=[2,2,3] --in slots=[0,4] --in rows=zeros,shape=[2,3]
// RUN: not kv-run %s --function=insert --checks=most 2>&1 | FileCheck %s --check-prefix=CHECKS
// CHECKS: kv-run: expected --checks=none, on-request or full, got 'most'

!kv = !kvcache.cache<?B x 2N x 3D x f32>
!slots = !kvcache.slots<?T x i32, rows_per_block = 2, pad = skip_negative>

func.func @two(%n: index, %x: memref<?xf32>) {
  return
}

func.func @insert(%cache: !kv, %slots: !slots, %rows: memref<?x3xf32>) {
  kvcache.index_copy %rows into %cache at %slots
    : memref<?x3xf32> into !kv at !slots
  return
}
