// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Loops that are left alone, and the fact that is missing. The verifier of
// diagnostics fails where there is a remark that is not expected, so nothing here
// is raised.
//
// RUN: kv-opt %s --kvcache-raise=last-row-wins --split-input-file --verify-diagnostics --remark-format=emitRemark --remarks-filter='.*' -o /dev/null

// -----

func.func @no_count_from_zero(%pool: memref<6x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: a loop does not count from 0 in steps of 1}}
  scf.for %t = %c1 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32>
    }
  }
  return
}

// -----

func.func @no_whole_rows(%pool: memref<6x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: whole rows are expected: a loop does not run over all of dimension 2 of the pool}}
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.for %d = %c0 to %c2 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32>
    }
  }
  return
}

// -----

func.func @no_element_of_rows(%pool: memref<6x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: the stored value is not an element of rows indexed by the loops}}
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %v = memref.load %rows[%t, %d] : memref<5x64xf32>
      %x = arith.negf %v : f32
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32>
    }
  }
  return
}

// -----

func.func @no_rows_of_their_own(%pool: memref<6x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: each loop is expected to count one dimension of the rows}}
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.for %h = %c0 to %c2 step %c1 {
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32>
    }
    }
  }
  return
}

// -----

func.func @no_else_branch(%pool: memref<6x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: a condition has an else branch or a result}}
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    %ok = arith.cmpi sge, %s, %zero : i64
    scf.if %ok {
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32>
    }
    } else {
      func.call @other() : () -> ()
    }
  }
  return
}

func.func private @other()

// -----

func.func @no_two_stores(%pool: memref<6x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: there is more than one loop or store in a body}}
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    memref.store %s, %slots[%t] : memref<5xi64>
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32>
    }
  }
  return
}

// -----

func.func @no_effects(%pool: memref<6x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: there is an operation with effects in the loop: func.call}}
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    func.call @other() : () -> ()
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32>
    }
  }
  return
}

func.func private @other()

// -----

func.func @no_condition_of_the_slot(%pool: memref<6x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64>, %flag: i1) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: the condition of the store does not depend on the slot alone}}
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.if %flag {
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32>
    }
    }
  }
  return
}

// -----

func.func @no_place_of_one_number(%pool: memref<6x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64>, %k: i64) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: the index of a row is not computed from one loaded slot}}
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %k : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32>
    }
  }
  return
}

// -----

// Of slots that truncate to another block.

func.func @no_slot_of_block_and_offset(%pool: memref<6x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: slots -15 to -9 are written to the row of the slot plus 16}}
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %n : i64
    %m = arith.constant 7 : i64
    %o = arith.andi %s, %m : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32>
    }
  }
  return
}

// -----

func.func @no_noalias(%pool: memref<6x16x64xf32>, %rows: memref<5x64xf32>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: the pool and the rows may share memory: the argument lacks kvcache.noalias}}
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32>
    }
  }
  return
}

// -----

func.func @no_noalias_of_slots(%pool: memref<6x16x64xf32>, %rows: memref<5x64xf32> {kvcache.noalias}, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: the pool and the slots may share memory: the argument lacks kvcache.noalias}}
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32>
    }
  }
  return
}

// -----

func.func @no_contiguous_rows(%pool: memref<6x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32, strided<[128, 2]>>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: the inner dimensions of the rows are not contiguous}}
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32, strided<[128, 2]>>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32>
    }
  }
  return
}

// -----

func.func @no_contiguous_slots(%pool: memref<6x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64, strided<[2]>>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: the list of slots is not contiguous}}
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64, strided<[2]>>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32>
    }
  }
  return
}

// -----

func.func @no_slots_of_i32_or_i64(%pool: memref<6x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi16>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: slots of i32 or i64 are expected}}
  scf.for %t = %c0 to %c5 step %c1 {
    %s16 = memref.load %slots[%t] : memref<5xi16>
    %s = arith.extsi %s16 : i16 to i64
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32>
    }
  }
  return
}

// -----

func.func @no_memory_space(%pool: memref<6x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32, 1>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: rows or slots are not in the default memory space}}
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32, 1>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32>
    }
  }
  return
}

// -----

func.func @no_memory_space_of_the_pool(%pool: memref<6x16x64xf32, 1> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: the pool is not a cache: the memref is not in the default memory space}}
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32, 1>
    }
  }
  return
}

// -----

func.func @no_cache_without_block_size(%pool: memref<6x?x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: the pool is not a cache: }}
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x?x64xf32>
    }
  }
  return
}

// -----

func.func @no_order_of_axes(%pool: memref<6x16x64xf32, strided<[?, ?, 1]>> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: the pool is not a cache: more than one stride of the memref is known only at run time, so the order of its axes is not known}}
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32, strided<[?, ?, 1]>>
    }
  }
  return
}

// -----

func.func @no_rows_for_all_iterations(%pool: memref<6x16x64xf32> {kvcache.noalias}, %rows: memref<?x64xf32>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: there may be fewer rows than iterations, as stores depend on a condition}}
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    %ok = arith.cmpi sge, %s, %zero : i64
    scf.if %ok {
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<?x64xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32>
    }
    }
  }
  return
}

// -----

func.func @no_negative_slots_elsewhere(%pool: memref<6x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: negative slots count from the end of the pool, which a list of slots cannot express}}
  scf.parallel (%t) = (%c0) to (%c5) step (%c1) {
    %s = memref.load %slots[%t] : memref<5xi64>
    %neg = arith.cmpi slt, %s, %zero : i64
    %all = arith.constant 96 : i64
    %up = arith.addi %s, %all : i64
    %w = arith.select %neg, %up, %s : i64
    %b = arith.divsi %w, %n : i64
    %o = arith.remsi %w, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32>
    }
    scf.reduce
  }
  return
}

// -----

func.func @no_three_numbers(%pool: memref<6x2x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: expected one index per row, or a block and an offset, got 3}}
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %pool[%bi, %c0, %oi, %d] : memref<6x2x16x64xf32>
    }
  }
  return
}

// -----

func.func @no_values_carried(%pool: memref<6x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64>) -> i64 {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: a loop carries values from one iteration to the next}}
  %r = scf.for %t = %c0 to %c5 step %c1 iter_args(%a = %zero) -> i64 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %i = arith.index_cast %s : i64 to index
    %x = memref.load %rows[%t, %c0] : memref<5x64xf32>
    memref.store %x, %pool[%i, %c0, %c0] : memref<6x16x64xf32>
    scf.yield %s : i64
  }
  return %r : i64
}

// -----

func.func @no_reduction(%pool: memref<6x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64>) -> i64 {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: a loop reduces values}}
  %r = scf.parallel (%t) = (%c0) to (%c5) step (%c1) init (%zero) -> i64 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %i = arith.index_cast %s : i64 to index
    %x = memref.load %rows[%t, %c0] : memref<5x64xf32>
    memref.store %x, %pool[%i, %c0, %c0] : memref<6x16x64xf32>
    scf.reduce(%s : i64) {
    ^bb0(%a: i64, %b: i64):
      %m = arith.addi %a, %b : i64
      scf.reduce.return %m : i64
    }
  }
  return %r : i64
}

// -----

func.func @no_other_result(%pool: memref<96x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64>, %out: memref<5x64xf32>) {
  // expected-remark @+1 {{left alone: linalg.generic writes more than the pool, or reduces}}
  linalg.generic {indexing_maps = [affine_map<(t, d) -> (t)>, affine_map<(t, d) -> (t, d)>, affine_map<(t, d) -> (t, d)>], iterator_types = ["parallel", "parallel"]}
    ins(%slots, %rows : memref<5xi64>, memref<5x64xf32>) outs(%out : memref<5x64xf32>) {
  ^bb0(%s: i64, %x: f32, %y: f32):
    %i = arith.index_cast %s : i64 to index
    %d = linalg.index 1 : index
    memref.store %x, %pool[%i, %d] : memref<96x64xf32>
    linalg.yield %x : f32
  }
  return
}

// -----

// Loops that store at places which are not loaded are of no interest.

func.func @no_remark(%pool: memref<6x16x64xf32>, %x: f32, %counts: memref<6xi64>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  scf.for %t = %c0 to %c5 step %c1 {
    memref.store %x, %pool[%t, %t, %t] : memref<6x16x64xf32>
  }
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %i = arith.index_cast %s : i64 to index
    memref.store %s, %counts[%i] : memref<6xi64>
  }
  return
}

// -----

func.func @no_pool_of_the_row(%pools: memref<5x6x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  // expected-remark @+1 {{left alone: the pool, the rows or their number is computed in the loop}}
  scf.for %t = %c0 to %c5 step %c1 {
    %pool = memref.subview %pools[%t, 0, 0, 0] [1, 6, 16, 64] [1, 1, 1, 1] : memref<5x6x16x64xf32> to memref<6x16x64xf32, strided<[1024, 64, 1], offset: ?>>
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32, strided<[1024, 64, 1], offset: ?>>
    }
  }
  return
}

// -----

func.func @no_list_outside(%pool: memref<6x16x64xf32> {kvcache.noalias}, %rows: memref<5x64xf32>, %lists: memref<5x5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 64 : index
  %n = arith.constant 16 : i64
  // expected-remark @+1 {{left alone: the list of slots is computed in the loop}}
  scf.for %t = %c0 to %c5 step %c1 {
    %slots = memref.subview %lists[%t, 0] [1, 5] [1, 1] : memref<5x5xi64> to memref<5xi64, strided<[1], offset: ?>>
    %s = memref.load %slots[%t] : memref<5xi64, strided<[1], offset: ?>>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x64xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x64xf32>
    }
  }
  return
}

// -----

func.func @no_number_of_rows(%slots: memref<?xi64>, %channels: memref<8xf32>, %rows: memref<?x8xf32>, %pool: memref<?x16x8xf32> {kvcache.noalias}) {
  %c16 = arith.constant 16 : i64
  // expected-remark @+1 {{left alone: the number of rows written is unknown: no operand of linalg.generic has them as a constant dimension}}
  linalg.generic {indexing_maps = [affine_map<(t, d) -> (t)>, affine_map<(t, d) -> (d)>], iterator_types = ["parallel", "parallel"]} ins(%slots, %channels : memref<?xi64>, memref<8xf32>) {
  ^bb0(%s: i64, %r: f32):
    %b = arith.divsi %s, %c16 : i64
    %n = arith.remsi %s, %c16 : i64
    %bi = arith.index_cast %b : i64 to index
    %ni = arith.index_cast %n : i64 to index
    %t = linalg.index 0 : index
    %d = linalg.index 1 : index
    %x = memref.load %rows[%t, %d] : memref<?x8xf32>
    memref.store %x, %pool[%bi, %ni, %d] : memref<?x16x8xf32>
    linalg.yield
  }
  return
}

// -----

func.func @no_rows_beyond_40_bits(%pool: memref<6x16x1099511627776xf32> {kvcache.noalias}, %rows: memref<5x1099511627776xf32>, %slots: memref<5xi64>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c64 = arith.constant 1099511627776 : index
  %n = arith.constant 16 : i64
  %zero = arith.constant 0 : i64
  // expected-remark @+1 {{left alone: at most 2^40 elements of a memref are expected}}
  scf.for %t = %c0 to %c5 step %c1 {
    %s = memref.load %slots[%t] : memref<5xi64>
    %b = arith.divsi %s, %n : i64
    %o = arith.remsi %s, %n : i64
    %bi = arith.index_cast %b : i64 to index
    %oi = arith.index_cast %o : i64 to index
    scf.for %d = %c0 to %c64 step %c1 {
      %x = memref.load %rows[%t, %d] : memref<5x1099511627776xf32>
      memref.store %x, %pool[%bi, %oi, %d] : memref<6x16x1099511627776xf32>
    }
  }
  return
}
