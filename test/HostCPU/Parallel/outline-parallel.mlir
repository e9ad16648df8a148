// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: kv-opt %s --kvcache-outline-parallel --split-input-file \
// RUN:   | FileCheck %s --implicit-check-not=scf.parallel

// A memref, a vector, an index and floats go over; constants do not.
// CHECK-LABEL: func.func @captures(
// CHECK-SAME:    %[[X:.*]]: memref<?x?xf32>, %[[V:.*]]: vector<4xf32>, %[[AT:.*]]: index, %[[F:.*]]: f32, %[[H:.*]]: bf16, %[[N:.*]]: index)
// CHECK:         %[[TRIPS:.*]] = arith.maxsi %[[N]], %{{.*}}
// CHECK:         call @captures_parallel_0.all(%[[TRIPS]], %[[V]], %[[X]], %[[AT]], %[[F]], %[[H]]) :
// CHECK-NEXT:    return
// CHECK:       func.func private @captures_parallel_0(%[[I:.*]]: index, %[[V:.*]]: vector<4xf32>, %[[X:.*]]: memref<?x?xf32>, %[[AT:.*]]: index, %[[F:.*]]: f32, %[[H:.*]]: bf16) {
// CHECK-DAG:     arith.constant dense<2.000000e+00> : vector<4xf32>
// CHECK-DAG:     memref.get_global @table
// CHECK:         vector.store %{{.*}}, %[[X]][%[[I]], %[[AT]]]
// CHECK:         return
// CHECK:       func.func private @captures_parallel_0.all(index, vector<4xf32>, memref<?x?xf32>, index, f32, bf16)
// CHECK-SAME:    kvcache.parallel_body = @captures_parallel_0}
memref.global "private" constant @table : memref<4xf32> = dense<[1.0, 2.0, 3.0, 4.0]>
func.func @captures(%x: memref<?x?xf32>, %v: vector<4xf32>, %at: index,
                    %f: f32, %h: bf16, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %two = arith.constant dense<2.0> : vector<4xf32>
  %table = memref.get_global @table : memref<4xf32>
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %0 = arith.mulf %v, %two : vector<4xf32>
    vector.store %0, %x[%i, %at] : memref<?x?xf32>, vector<4xf32>
    %1 = memref.load %table[%c1] : memref<4xf32>
    %2 = arith.addf %1, %f : f32
    %3 = arith.extf %h : bf16 to f32
    %4 = arith.addf %2, %3 : f32
    memref.store %4, %x[%i, %at] : memref<?x?xf32>
  }
  return
}

// -----

// One division for each dimension but the first, none for one of extent 1.
// CHECK-LABEL: func.func @dimensions(
// CHECK-SAME:    %[[X:.*]]: memref<?x?x?x?xf32>, %[[A:.*]]: index, %[[B:.*]]: index)
// CHECK-DAG:     %[[C0:.*]] = arith.constant 0 : index
// CHECK-DAG:     %[[C5:.*]] = arith.constant 5 : index
// CHECK-DAG:     %[[TA:.*]] = arith.maxsi %[[A]], %{{.*}}
// CHECK-DAG:     %[[TB:.*]] = arith.maxsi %[[B]], %{{.*}}
// CHECK:         %[[AB:.*]] = arith.muli %[[TA]], %[[TB]]
// CHECK:         %[[ALL:.*]] = arith.muli %[[AB]], %{{.*}}
// CHECK:         call @dimensions_parallel_0.all(%[[ALL]], %[[X]], %[[TB]])
// CHECK:       func.func private @dimensions_parallel_0(%[[NUMBER:.*]]: index, %[[X:.*]]: memref<?x?x?x?xf32>, %[[TB:.*]]: index)
// CHECK-NOT:     arith.rem
// CHECK:         %[[Q:.*]] = arith.divui %[[NUMBER]], %[[C5:.*]] : index
// CHECK-NEXT:    %[[QS:.*]] = arith.muli %[[Q]], %[[C5]]
// CHECK-NEXT:    %[[L:.*]] = arith.subi %[[NUMBER]], %[[QS]]
// CHECK:         %[[I:.*]] = arith.divui %[[Q]], %[[TB]] : index
// CHECK-NEXT:    %[[IS:.*]] = arith.muli %[[I]], %[[TB]]
// CHECK-NEXT:    %[[J:.*]] = arith.subi %[[Q]], %[[IS]]
// CHECK-NOT:     arith.div
// CHECK:         memref.store %{{.*}}, %[[X]][%[[I]], %[[J]], %{{.*}}, %[[L]]]
// CHECK-NEXT:    return
func.func @dimensions(%x: memref<?x?x?x?xf32>, %a: index, %b: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c5 = arith.constant 5 : index
  %zero = arith.constant 0.0 : f32
  scf.parallel (%i, %j, %k, %l) = (%c0, %c0, %c0, %c0) to (%a, %b, %c1, %c5)
      step (%c1, %c1, %c1, %c1) {
    memref.store %zero, %x[%i, %j, %k, %l] : memref<?x?x?x?xf32>
  }
  return
}

// -----

// All that divides in front is one iteration long.
// CHECK-LABEL: func.func private @no_division_parallel_0(
// CHECK-NOT:     arith.div
// CHECK:         return
func.func @no_division(%x: memref<?x?xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  scf.parallel (%i, %j) = (%c0, %c0) to (%c1, %n) step (%c1, %c1) {
    memref.store %zero, %x[%i, %j] : memref<?x?xf32>
  }
  return
}

// -----

// CHECK-LABEL: func.func @bounds(
// CHECK-SAME:    %[[X:.*]]: memref<?xf32>, %[[L:.*]]: index, %[[U:.*]]: index, %[[S:.*]]: index)
// CHECK:         %[[SPAN:.*]] = arith.subi %[[U]], %[[L]]
// CHECK:         %[[POSITIVE:.*]] = arith.maxsi %[[SPAN]], %{{.*}}
// CHECK:         %[[LESS:.*]] = arith.subi %[[S]], %{{.*}}
// CHECK:         %[[UP:.*]] = arith.addi %[[POSITIVE]], %[[LESS]]
// CHECK:         %[[TRIPS:.*]] = arith.divui %[[UP]], %[[S]]
// CHECK:         call @bounds_parallel_0.all(%[[TRIPS]], %[[X]], %[[L]], %[[S]])
// CHECK:       func.func private @bounds_parallel_0(%[[I:.*]]: index, %[[X:.*]]: memref<?xf32>, %[[L:.*]]: index, %[[S:.*]]: index)
// CHECK:         %[[M:.*]] = arith.muli %[[I]], %[[S]]
// CHECK:         %[[AT:.*]] = arith.addi %[[M]], %[[L]]
// CHECK:         memref.store %{{.*}}, %[[X]][%[[AT]]]
func.func @bounds(%x: memref<?xf32>, %l: index, %u: index, %s: index) {
  %zero = arith.constant 0.0 : f32
  scf.parallel (%i) = (%l) to (%u) step (%s) {
    memref.store %zero, %x[%i] : memref<?xf32>
  }
  return
}

// -----

// Known bounds give a known number: 3, 7, 11 and 0, 1.
// CHECK-LABEL: func.func @known_bounds(
// CHECK:         %[[SIX:.*]] = arith.constant 6 : index
// CHECK:         call @known_bounds_parallel_0.all(%[[SIX]], %{{.*}})
func.func @known_bounds(%x: memref<16x2xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c3 = arith.constant 3 : index
  %c4 = arith.constant 4 : index
  %c12 = arith.constant 12 : index
  %zero = arith.constant 0.0 : f32
  scf.parallel (%i, %j) = (%c3, %c0) to (%c12, %c2) step (%c4, %c1) {
    memref.store %zero, %x[%i, %j] : memref<16x2xf32>
  }
  return
}

// -----

// One in another becomes sequential, with its reduction; loops side by side are
// numbered, in loops and branches as well.
// CHECK-LABEL: func.func @nested(
// CHECK:         call @nested_parallel_0.all(
// CHECK:         scf.for
// CHECK:           call @nested_parallel_1.all(
// CHECK:       func.func private @nested_parallel_1(
// CHECK:       func.func private @nested_parallel_1.all(
// CHECK:       func.func private @nested_parallel_0(
// CHECK:         scf.for
// CHECK:           %[[SUM:.*]] = scf.for {{.*}} iter_args(%[[SO_FAR:.*]] = %{{.*}}) -> (f32) {
// CHECK:             %[[LOADED:.*]] = memref.load
// CHECK:             %[[MORE:.*]] = arith.addf %[[SO_FAR]], %[[LOADED]]
// CHECK:             scf.yield %[[MORE]]
// CHECK:           memref.store %[[SUM]]
func.func @nested(%x: memref<?x?xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    scf.parallel (%j) = (%c0) to (%n) step (%c1) {
      %sum = scf.parallel (%k) = (%c0) to (%n) step (%c1) init (%zero) -> f32 {
        %0 = memref.load %x[%j, %k] : memref<?x?xf32>
        scf.reduce(%0 : f32) {
        ^bb0(%a: f32, %b: f32):
          %1 = arith.addf %a, %b : f32
          scf.reduce.return %1 : f32
        }
      }
      memref.store %sum, %x[%i, %j] : memref<?x?xf32>
    }
  }
  scf.for %i = %c0 to %n step %c1 {
    scf.parallel (%j) = (%c0) to (%n) step (%c1) {
      memref.store %zero, %x[%i, %j] : memref<?x?xf32>
    }
  }
  return
}

// -----

// Reductions run in order; a loop inside of one is outlined.
// CHECK-LABEL: func.func @no_reduction(
// CHECK:         %[[R:.*]]:2 = scf.for %[[I:.*]] = {{.*}} iter_args(%[[SUM0:.*]] = %{{.*}}, %[[MOST0:.*]] = %{{.*}}) -> (f32, f32) {
// CHECK:           %[[S:.*]]:2 = scf.for %[[J:.*]] = {{.*}} iter_args(%[[SUM:.*]] = %[[SUM0]], %[[MOST:.*]] = %[[MOST0]]) -> (f32, f32) {
// CHECK:             call @no_reduction_parallel_0.all(
// CHECK:             %[[V:.*]] = memref.load
// CHECK:             %[[A:.*]] = arith.addf %[[SUM]], %[[V]]
// CHECK:             %[[B:.*]] = arith.maxnumf %[[MOST]], %[[V]]
// CHECK:             scf.yield %[[A]], %[[B]]
// CHECK:           scf.yield %[[S]]#0, %[[S]]#1
// CHECK:         memref.store %[[R]]#0
// CHECK:         memref.store %[[R]]#1
func.func @no_reduction(%x: memref<?x?xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %sum, %most = scf.parallel (%i, %j) = (%c0, %c0) to (%n, %n) step (%c1, %c1)
      init (%zero, %zero) -> (f32, f32) {
    scf.parallel (%k) = (%c0) to (%n) step (%c1) {
      memref.store %zero, %x[%k, %j] : memref<?x?xf32>
    }
    %0 = memref.load %x[%i, %j] : memref<?x?xf32>
    scf.reduce(%0, %0 : f32, f32) {
    ^bb0(%a: f32, %b: f32):
      %1 = arith.addf %a, %b : f32
      scf.reduce.return %1 : f32
    }, {
    ^bb0(%a: f32, %b: f32):
      %1 = arith.maxnumf %a, %b : f32
      scf.reduce.return %1 : f32
    }
  }
  memref.store %sum, %x[%c0, %c0] : memref<?x?xf32>
  memref.store %most, %x[%c0, %c1] : memref<?x?xf32>
  return
}

// -----

// Buffers on the stack belong to the body; those of constant size are made once
// for each index.
// CHECK-LABEL: func.func @stack(
// CHECK-NOT:     memref.alloca
// CHECK:       func.func private @stack_parallel_0(
// CHECK-NEXT:    %[[FIXED:.*]] = memref.alloca() : memref<8xf32>
// CHECK:         memref.alloca(%{{.*}}) : memref<?xf32>
// CHECK:         scf.for
// CHECK-NOT:       memref.alloca
// CHECK:           memref.store %{{.*}}, %[[FIXED]]
// CHECK:         return
func.func @stack(%x: memref<?xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %own = memref.alloca(%n) : memref<?xf32>
    scf.parallel (%j) = (%c0) to (%n) step (%c1) {
      %fixed = memref.alloca() : memref<8xf32>
      memref.store %zero, %fixed[%c0] : memref<8xf32>
      %0 = memref.load %fixed[%c0] : memref<8xf32>
      memref.store %0, %own[%j] : memref<?xf32>
    }
    %1 = memref.load %own[%i] : memref<?xf32>
    memref.store %1, %x[%i] : memref<?xf32>
  }
  return
}

// -----

// The stream belongs to the thread of the call.
// CHECK-LABEL: func.func @no_launch(
// CHECK:         scf.for
// CHECK:           llvm.call @kvrt_launch
// CHECK-NOT:     parallel_body
llvm.func @kvrt_launch()
func.func @no_launch(%n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    llvm.call @kvrt_launch() : () -> ()
  }
  return
}

// -----

// Equal bodies are one function, in other functions too. Where they begin, how
// far they go and what they use may differ.
// CHECK-LABEL: func.func @equal_bodies(
// CHECK-SAME:    %[[X:.*]]: memref<?xf32>, %[[Y:.*]]: memref<?xf32>, %{{.*}}: index, %{{.*}}: index)
// CHECK:         call @equal_bodies_parallel_0.all(%{{.*}}, %[[X]])
// CHECK:         call @equal_bodies_parallel_0.all(%{{.*}}, %[[Y]])
// CHECK:         call @equal_bodies_parallel_1.all(%{{.*}}, %[[Y]])
// CHECK:       func.func private @equal_bodies_parallel_1(
// CHECK:         arith.constant 1.0
// CHECK:       func.func private @equal_bodies_parallel_1.all(
// CHECK:       func.func private @equal_bodies_parallel_0(
// CHECK:         arith.constant 0.0
// CHECK:       func.func private @equal_bodies_parallel_0.all(
// CHECK:       func.func @equal_body_elsewhere(
// CHECK:         call @equal_bodies_parallel_0.all(
// CHECK-NOT:   func.func
func.func @equal_bodies(%x: memref<?xf32>, %y: memref<?xf32>, %n: index,
                        %m: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    memref.store %zero, %x[%i] : memref<?xf32>
  }
  scf.parallel (%i) = (%c0) to (%m) step (%c1) {
    memref.store %zero, %y[%i] : memref<?xf32>
  }
  scf.parallel (%i) = (%c0) to (%m) step (%c1) {
    memref.store %one, %y[%i] : memref<?xf32>
  }
  return
}
func.func @equal_body_elsewhere(%x: memref<?xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    memref.store %zero, %x[%i] : memref<?xf32>
  }
  return
}

// -----

// The same loops over other types, or in another order, are others.
// CHECK-LABEL: func.func @no_equal_bodies(
// CHECK:         call @no_equal_bodies_parallel_0.all(
// CHECK:         call @no_equal_bodies_parallel_1.all(
// CHECK:         call @no_equal_bodies_parallel_2.all(
func.func @no_equal_bodies(%x: memref<?xf32>, %y: memref<8xf32>, %n: index,
                           %f: f32, %g: f32) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %0 = arith.subf %f, %g : f32
    memref.store %0, %y[%i] : memref<8xf32>
  }
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %0 = arith.subf %f, %g : f32
    memref.store %0, %x[%i] : memref<?xf32>
  }
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %0 = arith.divf %f, %g : f32
    memref.store %0, %x[%i] : memref<?xf32>
  }
  return
}

// -----

// A name that is taken is not taken twice.
// CHECK-LABEL: func.func @taken(
// CHECK:         call @[[NAME:taken_parallel_0_.*]].all(
// CHECK:       func.func private @[[NAME]](
// CHECK:       kvcache.parallel_body = @[[NAME]]}
func.func @taken(%x: memref<?xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    memref.store %zero, %x[%i] : memref<?xf32>
  }
  return
}
func.func @taken_parallel_0() {
  return
}

// -----

// A constant in a body is the same as one before the loop.
// CHECK-LABEL: func.func @constants(
// CHECK:         call @constants_parallel_0.all(
// CHECK:         call @constants_parallel_0.all(
// CHECK:       func.func private @constants_parallel_0(
// CHECK-NEXT:    %[[C1:.*]] = arith.constant 1 : index
// CHECK-NEXT:    %[[TWO:.*]] = arith.constant 2.0
// CHECK-NEXT:    memref.load %{{.*}}[%{{.*}}, %[[C1]]]
// CHECK-NEXT:    arith.addf %{{.*}}, %[[TWO]]
// CHECK-NOT:     arith.constant
// CHECK:         return
// CHECK-NOT:   @constants_parallel_1
func.func @constants(%x: memref<?x?xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %two = arith.constant 2.0 : f32
    %0 = memref.load %x[%i, %c1] : memref<?x?xf32>
    %1 = arith.addf %0, %two : f32
    memref.store %1, %x[%i, %c1] : memref<?x?xf32>
  }
  %two = arith.constant 2.0 : f32
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %one = arith.constant 1 : index
    %0 = memref.load %x[%i, %c1] : memref<?x?xf32>
    %1 = arith.addf %0, %two : f32
    memref.store %1, %x[%i, %one] : memref<?x?xf32>
  }
  return
}

// -----

// CHECK-LABEL: func.func @no_parallel_loop(
// CHECK:         scf.for
// CHECK-NOT:     func.func
func.func @no_parallel_loop(%x: memref<?xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  scf.for %i = %c0 to %n step %c1 {
    memref.store %zero, %x[%i] : memref<?xf32>
  }
  return
}
