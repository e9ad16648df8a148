# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Programs that grow with a number: what should cost twice as much to compile
when there is twice as much of it.
"""

import subprocess

TYPES = """
!flat = !kvcache.cache<?B x 16N x 2H x 16D x f32>
!strided = !kvcache.cache<?B x 16N x 2H x 16D x f32, strides = [B = ?]>
!slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>
!rows = memref<?x2x16xf32>
!list = memref<?xi64>
"""


def function(name, arguments, body, result=""):
    return (f"func.func @{name}({arguments}){result} {{\n"
            + "\n".join(body) + "\n}\n")


def program(arguments, body, result=""):
    return TYPES + function("run", arguments, body, result)


def layers(count):
    """A decoder whose layers are written out: attention, writes of rows, linalg."""
    return subprocess.run(
        ["kv-models", "--model=llama", f"--layers={count}"], check=True,
        capture_output=True, text=True).stdout


def copies(count):
    """Writes of rows in one pool, whose strides a call knows."""
    copy = ("  kvcache.index_copy %rows into %pool at %where"
            " : !rows into !strided at !slots")
    return program(
        "%pool: !strided, %rows: !rows, %slots: !list",
        ["  %where = kvcache.make_slots %slots : !list to !slots",
         *[copy] * count, "  return"])


def tensors(count):
    """Writes of rows in one pool that is a tensor: each gives the next one."""
    body = ["  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots"]
    for i in range(count):
        body.append(f"  %p{i + 1} = kvcache.index_copy %rows into "
                    f"%p{i}[B, N, H, D] at %where : tensor<?x2x16xf32> into "
                    "tensor<?x16x2x16xf32> at !slots")
    return program(
        "%p0: tensor<?x16x2x16xf32>, %rows: tensor<?x2x16xf32>, "
        "%slots: tensor<?xi64>",
        [*body, f"  return %p{count} : tensor<?x16x2x16xf32>"],
        " -> tensor<?x16x2x16xf32>")


def scatters(count):
    """Writes of rows by block and offset, lists that the caller has."""
    scatter = ("  kvcache.scatter %rows into %pool at %blocks, %offsets"
               " pad = skip_negative : !rows into !flat at !list, !list")
    return program(
        "%pool: !flat, %rows: !rows, %blocks: !list, %offsets: !list",
        [*[scatter] * count, "  return"])


DIVIDED = """
  %blocks{i} = memref.alloc(%n) : !list
  %offsets{i} = memref.alloc(%n) : !list
  linalg.generic {{indexing_maps = [affine_map<(t) -> (t)>,
      affine_map<(t) -> (t)>, affine_map<(t) -> (t)>],
      iterator_types = ["parallel"]}}
      ins(%slots : !list) outs(%blocks{i}, %offsets{i} : !list, !list) {{
  ^bb0(%slot: i64, %b: i64, %o: i64):
    %block = arith.floordivsi %slot, %c16 : i64
    %offset = arith.remsi %slot, %c16 : i64
    linalg.yield %block, %offset : i64, i64
  }}"""


def divided(count, shared=False):
    """Scatters whose lists are divided out of slots, for all of them at first."""
    body = ["  %c0 = arith.constant 0 : index", "  %c16 = arith.constant 16 : i64",
            "  %n = memref.dim %slots, %c0 : !list"]
    body += [DIVIDED.format(i=i) for i in range(1 if shared else count)]
    for i in range(count):
        j = 0 if shared else i
        body.append(
            f"  kvcache.scatter %rows into %pool at %blocks{j}, %offsets{j}"
            " pad = skip_negative : !rows into !flat at !list, !list")
    return program("%pool: !flat, %rows: !rows, %slots: !list",
                   [*body, "  return"])


def divided_once(count):
    """Scatters whose lists are divided out of slots once."""
    return divided(count, shared=True)


def loops(count):
    """Loops in each other around one write."""
    body = ["  %c0 = arith.constant 0 : index", "  %c1 = arith.constant 1 : index",
            "  %where = kvcache.make_slots %slots : !list to !slots"]
    body += [f"  scf.for %i{i} = %c0 to %n step %c1 {{" for i in range(count)]
    body.append("  kvcache.index_copy %rows into %pool at %where"
                " : !rows into !flat at !slots")
    body += ["  }"] * count
    return program("%pool: !flat, %rows: !rows, %slots: !list, %n: index",
                   [*body, "  return"])


def carried(count):
    """Loops in each other that carry a pool."""
    pool = "tensor<?x16x2x16xf32>"
    body = ["  %c0 = arith.constant 0 : index", "  %c1 = arith.constant 1 : index",
            "  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots"]
    for i in range(count):
        body.append(f"  %r{i} = scf.for %i{i} = %c0 to %n step %c1 "
                    f"iter_args(%p{i + 1} = %p{i}) -> ({pool}) {{")
    body.append(f"  %w = kvcache.index_copy %rows into %p{count}[B, N, H, D] at "
                f"%where : tensor<?x2x16xf32> into {pool} at !slots")
    inner = "%w"
    for i in reversed(range(count)):
        body += [f"  scf.yield {inner} : {pool}", "  }"]
        inner = f"%r{i}"
    return program(
        f"%p0: {pool}, %rows: tensor<?x2x16xf32>, %slots: tensor<?xi64>, "
        "%n: index", [*body, f"  return {inner} : {pool}"], f" -> {pool}")


def branches(count):
    """Branches in each other, each with a write."""
    body = ["  %where = kvcache.make_slots %slots : !list to !slots"]
    for i in range(count):
        body += [f"  %c{i} = arith.constant {i} : index",
                 f"  %b{i} = arith.cmpi sgt, %n, %c{i} : index",
                 f"  scf.if %b{i} {{",
                 "  kvcache.index_copy %rows into %pool at %where"
                 " : !rows into !flat at !slots"]
    return program("%pool: !flat, %rows: !rows, %slots: !list, %n: index",
                   [*body, *["  }"] * count, "  return"])


def functions(count):
    """Public functions, each with a write."""
    body = ["  %where = kvcache.make_slots %slots : !list to !slots",
            "  kvcache.index_copy %rows into %pool at %where"
            " : !rows into !flat at !slots", "  return"]
    return TYPES + "".join(
        function(f"run{i}", "%pool: !flat, %rows: !rows, %slots: !list", body)
        for i in range(count))


def calls(count):
    """Private functions, each called once, that take a pool as a tensor and give
    it back."""
    pool = "tensor<?x16x2x16xf32>"
    arguments = f"%pool: {pool}, %rows: tensor<?x2x16xf32>, %slots: tensor<?xi64>"
    body = ["  %where = kvcache.make_slots %slots : tensor<?xi64> to !slots",
            "  %next = kvcache.index_copy %rows into %pool[B, N, H, D] at %where"
            f" : tensor<?x2x16xf32> into {pool} at !slots",
            f"  return %next : {pool}"]
    main = [f"  %p{i + 1} = func.call @step{i}(%p{i}, %rows, %slots) : ({pool}, "
            f"tensor<?x2x16xf32>, tensor<?xi64>) -> {pool}" for i in range(count)]
    return TYPES + "".join(
        function(f"step{i}", arguments, body, f" -> {pool}")
        .replace("func.func @", "func.func private @") for i in range(count)) + (
        function("run", arguments.replace("%pool", "%p0"),
                 [*main, f"  return %p{count} : {pool}"], f" -> {pool}"))


def views(count):
    """Views of views, and one write."""
    body = ["  %where = kvcache.make_slots %slots : !list to !slots"]
    for i in range(count):
        body.append(f"  %v{i + 1} = kvcache.subpool %v{i}[%zero, %n]"
                    " : !flat")
    body.append(f"  kvcache.index_copy %rows into %v{count} at %where"
                " : !rows into !flat at !slots")
    return program("%v0: !flat, %rows: !rows, %slots: !list, %zero: index, "
                   "%n: index", [*body, "  return"])


def buffers(count):
    """Local buffers that are filled and added up."""
    body = []
    for i in range(count):
        body += [f"  %e{i} = tensor.empty(%n) : tensor<?xf32>",
                 f"  %s{i + 1} = linalg.add ins(%s{i}, %x : tensor<?xf32>, "
                 f"tensor<?xf32>) outs(%e{i} : tensor<?xf32>) -> tensor<?xf32>"]
    return program("%s0: tensor<?xf32>, %x: tensor<?xf32>, %n: index",
                   [*body, f"  return %s{count} : tensor<?xf32>"],
                   " -> tensor<?xf32>")


def stores(count):
    """Loops of another compiler that store rows one by one."""
    body = ["  %c0 = arith.constant 0 : index", "  %c1 = arith.constant 1 : index",
            "  %c16 = arith.constant 16 : index",
            "  %c2 = arith.constant 2 : index"]
    loop = """  scf.for %t = %c0 to %n step %c1 {
    scf.for %h = %c0 to %c2 step %c1 {
      scf.for %d = %c0 to %c16 step %c1 {
        %number = memref.load %slots[%t] : !list
        %slot = arith.index_cast %number : i64 to index
        %v = memref.load %rows[%t, %h, %d] : !rows
        memref.store %v, %pool[%slot, %h, %d] : !rows
      }
    }
  }"""
    return program("%pool: !rows, %rows: !rows, %slots: !list, %n: index",
                   [*body, *[loop] * count, "  return"])
