# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
# RUN: %python %s
"""What surrounds a cache in a model, against NumPy in float64."""

import numpy as np
from kvtest import Guarded, Tensor, compile_library, random_storage

rng = np.random.default_rng(5)


def numbers(storage, element):
    if element == "bf16":
        storage = (storage.astype(np.uint32) << 16).view(np.float32)
    return storage.astype(np.float64)


class Buffer:
    """Random values of a shape, as raw storage, as a tensor, as numbers."""

    def __init__(self, shape, element="f32", values=None):
        if values is None:
            values = random_storage(rng, int(np.prod(shape)), element)
        self.guarded = Guarded(np.ascontiguousarray(values).reshape(-1))
        self.shape, self.element = shape, element
        self.before = self.numbers()

    def numbers(self):
        return numbers(self.guarded.inside, self.element).reshape(self.shape)

    def tensor(self):
        return Tensor(self.guarded.inside, self.element, self.shape)


def run(library, function, *buffers):
    tensors = [b.tensor() if isinstance(b, Buffer) else b for b in buffers]
    library.check_call(function, *tensors)
    for b in buffers:
        if isinstance(b, Buffer):
            b.guarded.check(function)


def check(what, got, expected, scale=1.0, tolerance=2e-6):
    error = np.abs(got - expected).max(initial=0)
    assert error <= tolerance * scale, f"{what}: {error} > {tolerance * scale}"


# Products: letters are dimensions, as in einsum; the last one summed over.
def product(name, spec, extents, element="f32", order=None):
    """`extents` has None for what is known only at run time."""
    terms, out = spec.split("->")
    a, b = terms.split(",")
    dims = order or "".join(dict.fromkeys(out + a + b))

    def memref(term, e):
        shape = "x".join("?" if extents[d] is None else str(extents[d])
                         for d in term)
        return f"memref<{shape}x{e}>"

    def index_map(term):
        return f"affine_map<({', '.join(dims)}) -> ({', '.join(term)})>"

    kinds = ", ".join('"parallel"' if d in out else '"reduction"' for d in dims)
    extend = "" if element == "f32" else f"""
      %x1 = arith.extf %x : {element} to f32
      %y1 = arith.extf %y : {element} to f32"""
    x, y = ("%x", "%y") if element == "f32" else ("%x1", "%y1")
    return f"""
func.func @{name}(%a: {memref(a, element)}, %b: {memref(b, element)},
                  %c: {memref(out, "f32")}) {{
  linalg.generic {{
      indexing_maps = [{index_map(a)}, {index_map(b)}, {index_map(out)}],
      iterator_types = [{kinds}]}}
      ins(%a, %b : {memref(a, element)}, {memref(b, element)})
      outs(%c : {memref(out, "f32")}) {{
    ^bb0(%x: {element}, %y: {element}, %z: f32):{extend}
      %p = arith.mulf {x}, {y} : f32
      %s = arith.addf %z, %p : f32
      linalg.yield %s : f32
  }}
  return
}}
"""


def check_product(library, name, spec, sizes, element="f32"):
    terms, out = spec.split("->")
    a, b = terms.split(",")
    shape = lambda term: tuple(sizes[d] for d in term)
    x, y = Buffer(shape(a), element), Buffer(shape(b), element)
    z = Buffer(shape(out))
    run(library, name, x, y, z)
    expected = z.before + np.einsum(spec, x.before, y.before, optimize=True)
    depth = max(1, np.prod([sizes[d] for d in set(a + b) - set(out)]))
    check(f"{name} {sizes}", z.numbers(), expected, 4 * depth**0.5)


def test_products():
    dynamic = dict.fromkeys("bmnkh")
    cases = []  # name, spec, extents, element, order, sizes
    for element in ("f32", "bf16", "f16"):
        for suffix, spec in (("nn", "mk,kn->mn"), ("nt", "mk,nk->mn"),
                             ("tn", "km,kn->mn"), ("tt", "km,nk->mn")):
            cases.append((f"any_{suffix}_{element}", spec, dynamic, element,
                          None, [dict(m=m, n=n, k=k) for m, n, k in (
                              (0, 5, 7), (1, 40, 9), (3, 16, 0), (3, 1, 300),
                              (17, 33, 129), (1, 4099, 33), (6, 0, 4),
                              (13, 300, 257))]))
            cases.append((f"model_{suffix}_{element}", spec,
                          dict(m=None, n=272, k=520), element, None,
                          [dict(m=m, n=272, k=520) for m in
                           (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 17, 511)]))
    for name, spec in (("batch_nn", "bmk,bkn->bmn"), ("batch_nt", "bmk,bnk->bmn"),
                       ("heads_in", "mhk,nhk->hmn"), ("heads", "mk,hnk->mhn"),
                       ("transposed_c", "mk,kn->nm"), ("vector", "k,nk->n"),
                       ("vector2", "mk,k->m"), ("outer", "mk,nk->nm")):
        cases.append((name, spec, dynamic, "f32", None,
                      [dict(b=3, m=m, n=n, k=k, h=4) for m, n, k in
                       ((1, 37, 70), (5, 20, 64), (20, 64, 17))]))
    cases.append(("odd_order", "mk,kn->mn", dynamic, "f32", "knm",
                  [dict(m=9, n=21, k=30)]))
    cases.append(("static", "mk,nk->mn", dict(m=7, n=40, k=24), "bf16", None,
                  [dict(m=7, n=40, k=24)]))
    cases.append(("narrow", "mk,kn->mn", dict(m=None, n=3, k=24), "f32", None,
                  [dict(m=7, n=3, k=24)]))
    library = compile_library(
        "".join(product(*case[:5]) for case in cases), "products")
    for name, spec, _, element, _, all_sizes in cases:
        for sizes in all_sizes:
            check_product(library, name, spec, sizes, element)
    # As many rows as a long prompt has.
    check_product(library, "model_nn_f32", "mk,kn->mn",
                  dict(m=2048, n=272, k=520))
    # A baseline CPU, and vectors of 16.
    base = compile_library(product("p", "mk,nk->mn", dynamic, "bf16"),
                           "baseline", "cpu", "--cpu=x86-64")
    check_product(base, "p", "mk,nk->mn", dict(m=7, n=33, k=65), "bf16")


NAMED = """
func.func @matmul(%a: memref<?x48xf32>, %b: memref<48x40xf32>,
                  %c: memref<?x40xf32>) {
  linalg.matmul ins(%a, %b : memref<?x48xf32>, memref<48x40xf32>)
                outs(%c : memref<?x40xf32>)
  return
}
func.func @batch_matmul(%a: memref<2x?x48xf16>, %b: memref<2x48x40xf16>,
                        %c: memref<2x?x40xf32>) {
  linalg.batch_matmul ins(%a, %b : memref<2x?x48xf16>, memref<2x48x40xf16>)
                      outs(%c : memref<2x?x40xf32>)
  return
}
func.func @matvec(%a: memref<?x48xf32>, %b: memref<48xf32>, %c: memref<?xf32>) {
  linalg.matvec ins(%a, %b : memref<?x48xf32>, memref<48xf32>)
                outs(%c : memref<?xf32>)
  return
}
func.func @dot(%a: memref<?xf32>, %b: memref<?xf32>, %c: memref<f32>) {
  linalg.dot ins(%a, %b : memref<?xf32>, memref<?xf32>) outs(%c : memref<f32>)
  return
}
func.func @integers(%a: memref<?x9xi32>, %b: memref<9x20xi32>,
                    %c: memref<?x20xi32>) {
  linalg.matmul ins(%a, %b : memref<?x9xi32>, memref<9x20xi32>)
                outs(%c : memref<?x20xi32>)
  return
}
func.func @transpose(%a: memref<?x5x33xbf16>, %c: memref<33x?x5xbf16>) {
  linalg.transpose ins(%a : memref<?x5x33xbf16>) outs(%c : memref<33x?x5xbf16>)
                   permutation = [2, 0, 1]
  return
}
func.func @broadcast(%a: memref<37xf32>, %c: memref<?x37xf32>) {
  linalg.broadcast ins(%a : memref<37xf32>) outs(%c : memref<?x37xf32>)
                   dimensions = [0]
  return
}
func.func @fill(%c: memref<?xf32>) {
  %x = arith.constant 3.0 : f32
  linalg.fill ins(%x : f32) outs(%c : memref<?xf32>)
  return
}
func.func @strided_copy(%a: memref<?x40xf32>, %c: memref<?x20xf32>, %n: index) {
  %half = memref.subview %a[0, 10] [%n, 20] [1, 1]
    : memref<?x40xf32> to memref<?x20xf32, strided<[40, 1], offset: 10>>
  memref.copy %half, %c
    : memref<?x20xf32, strided<[40, 1], offset: 10>> to memref<?x20xf32>
  return
}
func.func @window(%a: memref<1x20x1xf32>, %k: memref<3xf32>,
                  %c: memref<1x18x1xf32>) {
  linalg.pooling_nwc_sum {strides = dense<1> : tensor<1xi64>,
                          dilations = dense<1> : tensor<1xi64>}
    ins(%a, %k : memref<1x20x1xf32>, memref<3xf32>)
    outs(%c : memref<1x18x1xf32>)
  return
}
"""


def test_named():
    library = compile_library(NAMED, "named")
    for t in (0, 1, 3, 17):
        a, b, c = Buffer((t, 48)), Buffer((48, 40)), Buffer((t, 40))
        run(library, "matmul", a, b, c)
        check("matmul", c.numbers(), c.before + a.before @ b.before, 8)
        a, b = Buffer((2, t, 48), "f16"), Buffer((2, 48, 40), "f16")
        c = Buffer((2, t, 40))
        run(library, "batch_matmul", a, b, c)
        check("batch_matmul", c.numbers(), c.before + a.before @ b.before, 8)
        a, b, c = Buffer((t, 48)), Buffer((48,)), Buffer((t,))
        run(library, "matvec", a, b, c)
        check("matvec", c.numbers(), c.before + a.before @ b.before, 8)
        a, b = Buffer((t,)), Buffer((t,))
        c = Buffer((), values=np.ones(1, np.float32))
        run(library, "dot", a, b, c)
        check("dot", c.numbers(), 1 + a.before @ b.before, 8)
        a = Buffer((t, 9), "i32", rng.integers(-9, 9, t * 9).astype(np.int32))
        b = Buffer((9, 20), "i32", rng.integers(-9, 9, 180).astype(np.int32))
        c = Buffer((t, 20), "i32", np.zeros(t * 20, np.int32))
        run(library, "integers", a, b, c)
        check("integers", c.numbers(), a.before @ b.before, 0)
        a, c = Buffer((t, 5, 33), "bf16"), Buffer((33, t, 5), "bf16")
        run(library, "transpose", a, c)
        check("transpose", c.numbers(), a.before.transpose(2, 0, 1), 0)
        a, c = Buffer((37,)), Buffer((t, 37))
        run(library, "broadcast", a, c)
        check("broadcast", c.numbers(), np.broadcast_to(a.before, (t, 37)), 0)
        a, c = Buffer((t, 40)), Buffer((t, 20))
        run(library, "strided_copy", a, c, t)
        check("strided_copy", c.numbers(), a.before[:, 10:30], 0)
    for n in (0, 1, 15, 16, 5000):
        c = Buffer((n,))
        run(library, "fill", c)
        check("fill", c.numbers(), np.full(n, 3.0), 0)
    a, k, c = Buffer((1, 20, 1)), Buffer((3,)), Buffer((1, 18, 1))
    run(library, "window", a, k, c)
    rows = np.lib.stride_tricks.sliding_window_view(a.before[0, :, 0], 3)
    check("window", c.numbers()[0, :, 0], c.before[0, :, 0] + rows.sum(1), 4)


LAYER = """
#row = affine_map<(t, d) -> (t)>
#column = affine_map<(t, d) -> (d)>
#all = affine_map<(t, d) -> (t, d)>
func.func @rmsnorm(%x: tensor<?x72xf32>, %w: tensor<72xf32>)
    -> tensor<?x72xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %size = arith.constant 72.0 : f32
  %eps = arith.constant 1.0e-5 : f32
  %t = tensor.dim %x, %c0 : tensor<?x72xf32>
  %e = tensor.empty(%t) : tensor<?xf32>
  %z = linalg.fill ins(%zero : f32) outs(%e : tensor<?xf32>) -> tensor<?xf32>
  %squares = linalg.generic {indexing_maps = [#all, #row],
      iterator_types = ["parallel", "reduction"]}
      ins(%x : tensor<?x72xf32>) outs(%z : tensor<?xf32>) {
    ^bb0(%a: f32, %s: f32):
      %p = arith.mulf %a, %a : f32
      %q = arith.addf %s, %p : f32
      linalg.yield %q : f32
  } -> tensor<?xf32>
  %out = tensor.empty(%t) : tensor<?x72xf32>
  %y = linalg.generic {indexing_maps = [#all, #row, #column, #all],
      iterator_types = ["parallel", "parallel"]}
      ins(%x, %squares, %w : tensor<?x72xf32>, tensor<?xf32>, tensor<72xf32>)
      outs(%out : tensor<?x72xf32>) {
    ^bb0(%a: f32, %s: f32, %b: f32, %o: f32):
      %m = arith.divf %s, %size : f32
      %n = arith.addf %m, %eps : f32
      %r = math.rsqrt %n : f32
      %u = arith.mulf %a, %r : f32
      %v = arith.mulf %u, %b : f32
      linalg.yield %v : f32
  } -> tensor<?x72xf32>
  return %y : tensor<?x72xf32>
}
func.func @softmax(%x: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %low = arith.constant 0xFF800000 : f32
  %t = tensor.dim %x, %c0 : tensor<?x?xf32>
  %n = tensor.dim %x, %c1 : tensor<?x?xf32>
  %e = tensor.empty(%t) : tensor<?xf32>
  %l = linalg.fill ins(%low : f32) outs(%e : tensor<?xf32>) -> tensor<?xf32>
  %most = linalg.generic {indexing_maps = [#all, #row],
      iterator_types = ["parallel", "reduction"]}
      ins(%x : tensor<?x?xf32>) outs(%l : tensor<?xf32>) {
    ^bb0(%a: f32, %s: f32):
      %q = arith.maximumf %s, %a : f32
      linalg.yield %q : f32
  } -> tensor<?xf32>
  %e2 = tensor.empty(%t, %n) : tensor<?x?xf32>
  %exp = linalg.generic {indexing_maps = [#all, #row, #all],
      iterator_types = ["parallel", "parallel"]}
      ins(%x, %most : tensor<?x?xf32>, tensor<?xf32>)
      outs(%e2 : tensor<?x?xf32>) {
    ^bb0(%a: f32, %m: f32, %o: f32):
      %d = arith.subf %a, %m : f32
      %r = math.exp %d : f32
      linalg.yield %r : f32
  } -> tensor<?x?xf32>
  %z = linalg.fill ins(%zero : f32) outs(%e : tensor<?xf32>) -> tensor<?xf32>
  %sum = linalg.generic {indexing_maps = [#all, #row],
      iterator_types = ["parallel", "reduction"]}
      ins(%exp : tensor<?x?xf32>) outs(%z : tensor<?xf32>) {
    ^bb0(%a: f32, %s: f32):
      %q = arith.addf %s, %a : f32
      linalg.yield %q : f32
  } -> tensor<?xf32>
  %y = linalg.generic {indexing_maps = [#all, #row, #all],
      iterator_types = ["parallel", "parallel"]}
      ins(%exp, %sum : tensor<?x?xf32>, tensor<?xf32>)
      outs(%e2 : tensor<?x?xf32>) {
    ^bb0(%a: f32, %s: f32, %o: f32):
      %r = arith.divf %a, %s : f32
      linalg.yield %r : f32
  } -> tensor<?x?xf32>
  return %y : tensor<?x?xf32>
}
// Rows of a table, by number: neighbours stay neighbours.
func.func @embed(%ids: tensor<?xi64>, %table: tensor<50x40xbf16>)
    -> tensor<?x40xf32> {
  %c0 = arith.constant 0 : index
  %t = tensor.dim %ids, %c0 : tensor<?xi64>
  %e = tensor.empty(%t) : tensor<?x40xf32>
  %y = linalg.generic {indexing_maps = [#row, #all],
      iterator_types = ["parallel", "parallel"]}
      ins(%ids : tensor<?xi64>) outs(%e : tensor<?x40xf32>) {
    ^bb0(%id: i64, %o: f32):
      %i = arith.index_cast %id : i64 to index
      %d = linalg.index 1 : index
      %v = tensor.extract %table[%i, %d] : tensor<50x40xbf16>
      %w = arith.extf %v : bf16 to f32
      linalg.yield %w : f32
  } -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}
// The halves of a head turned by an angle; the partner is gathered.
func.func @rope(%x: tensor<?x3x40xf32>, %positions: tensor<?xi64>)
    -> tensor<?x3x40xf32> {
  %c0 = arith.constant 0 : index
  %half = arith.constant 20 : index
  %rate = arith.constant -0.4 : f32
  %t = tensor.dim %x, %c0 : tensor<?x3x40xf32>
  %e = tensor.empty(%t) : tensor<?x3x40xf32>
  %y = linalg.generic {
      indexing_maps = [affine_map<(t, h, d) -> (t, h, d)>,
                       affine_map<(t, h, d) -> (t)>,
                       affine_map<(t, h, d) -> (t, h, d)>],
      iterator_types = ["parallel", "parallel", "parallel"]}
      ins(%x, %positions : tensor<?x3x40xf32>, tensor<?xi64>)
      outs(%e : tensor<?x3x40xf32>) {
    ^bb0(%a: f32, %p: i64, %o: f32):
      %i = linalg.index 0 : index
      %h = linalg.index 1 : index
      %d = linalg.index 2 : index
      %low = arith.cmpi ult, %d, %half : index
      %up = arith.addi %d, %half : index
      %down = arith.subi %d, %half : index
      %other = arith.select %low, %up, %down : index
      %b = tensor.extract %x[%i, %h, %other] : tensor<?x3x40xf32>
      %c = arith.select %low, %d, %down : index
      %n = arith.index_cast %c : index to i64
      %f = arith.sitofp %n : i64 to f32
      %g = arith.mulf %f, %rate : f32
      %rates = math.exp %g : f32
      %q = arith.sitofp %p : i64 to f32
      %angle = arith.mulf %q, %rates : f32
      %cos = math.cos %angle : f32
      %sin = math.sin %angle : f32
      %minus = arith.negf %sin : f32
      %s = arith.select %low, %minus, %sin : f32
      %u = arith.mulf %a, %cos : f32
      %v = arith.mulf %b, %s : f32
      %r = arith.addf %u, %v : f32
      linalg.yield %r : f32
  } -> tensor<?x3x40xf32>
  return %y : tensor<?x3x40xf32>
}
func.func @columns(%x: memref<?x33xf32>, %s: memref<33xf32>, %n: memref<33xi32>) {
  linalg.generic {indexing_maps = [#all, #column, #column],
      iterator_types = ["reduction", "parallel"]}
      ins(%x : memref<?x33xf32>) outs(%s, %n : memref<33xf32>, memref<33xi32>) {
    ^bb0(%a: f32, %b: f32, %c: i32):
      %zero = arith.constant 0.0 : f32
      %one = arith.constant 1 : i32
      %none = arith.constant 0 : i32
      %p = arith.cmpf ogt, %a, %zero : f32
      %k = arith.select %p, %one, %none : i32
      %r = arith.addf %a, %b : f32
      %m = arith.addi %c, %k : i32
      linalg.yield %r, %m : f32, i32
  }
  return
}
func.func @total(%x: memref<?x?xbf16>, %s: memref<f32>, %most: memref<f32>) {
  linalg.generic {indexing_maps = [#all, affine_map<(t, d) -> ()>,
                                   affine_map<(t, d) -> ()>],
      iterator_types = ["reduction", "reduction"]}
      ins(%x : memref<?x?xbf16>) outs(%s, %most : memref<f32>, memref<f32>) {
    ^bb0(%a: bf16, %b: f32, %c: f32):
      %w = arith.extf %a : bf16 to f32
      %r = arith.addf %b, %w : f32
      %m = arith.maximumf %c, %w : f32
      linalg.yield %r, %m : f32, f32
  }
  return
}
func.func @in_place(%x: memref<?x50xf32>) {
  linalg.generic {indexing_maps = [#all, #all],
      iterator_types = ["parallel", "parallel"]}
      ins(%x : memref<?x50xf32>) outs(%x : memref<?x50xf32>) {
    ^bb0(%a: f32, %o: f32):
      %one = arith.constant 1.0 : f32
      %n = arith.negf %a : f32
      %e = math.exp %n : f32
      %d = arith.addf %e, %one : f32
      %r = arith.divf %a, %d : f32
      linalg.yield %r : f32
  }
  return
}
"""


def call(library, function, *buffers):
    """With a workspace of the size that the function asks for."""
    tensors = [b.tensor() if isinstance(b, Buffer) else b for b in buffers]
    size = library.workspace_size(function, *tensors)
    workspace = np.zeros(max(size, 1) + 256, np.uint8)
    start = -workspace.ctypes.data % 256
    library.check_call(function, *tensors,
                       workspace=workspace[start : start + max(size, 1)])
    for b in buffers:
        b.guarded.check(function)


def test_layer():
    library = compile_library(LAYER, "layer")
    for t in (0, 1, 3, 17, 2048):
        x, w, y = Buffer((t, 72)), Buffer((72,)), Buffer((t, 72))
        call(library, "rmsnorm", x, w, y)
        mean = (x.before**2).mean(1, keepdims=True)
        check("rmsnorm", y.numbers(),
              x.before / np.sqrt(mean + 1e-5) * w.before, 8)
        for n in (1, 15, 100):
            x, y = Buffer((t, n)), Buffer((t, n))
            call(library, "softmax", x, y)
            e = np.exp(x.before - x.before.max(1, keepdims=True, initial=-99))
            check("softmax", y.numbers(), e / e.sum(1, keepdims=True))
        ids = Buffer((t,), "i64", rng.integers(0, 50, t))
        table, y = Buffer((50, 40), "bf16"), Buffer((t, 40))
        call(library, "embed", ids, table, y)
        check("embed", y.numbers(), table.before[ids.before.astype(int)], 0)
        x, y = Buffer((t, 3, 40)), Buffer((t, 3, 40))
        at = Buffer((t,), "i64", rng.integers(0, 1000, t))
        call(library, "rope", x, at, y)
        rates = np.exp((np.arange(20, dtype=np.float32) * np.float32(-0.4))
                       .astype(np.float64))
        angle = (at.before[:, None, None] * rates)
        c, s = np.cos(angle), np.sin(angle)
        a, b = x.before[..., :20], x.before[..., 20:]
        # The angle itself is rounded to f32.
        check("rope", y.numbers(),
              np.concatenate([a * c - b * s, b * c + a * s], -1), 5, 1e-4)
        x = Buffer((t, 33))
        s, n = Buffer((33,)), Buffer((33,), "i32", np.zeros(33, np.int32))
        call(library, "columns", x, s, n)
        check("columns", s.numbers(), s.before + x.before.sum(0), 50)
        check("columns", n.numbers(), (x.before > 0).sum(0), 0)
        x = Buffer((t, 45), "bf16")
        s, m = (Buffer((), values=np.full(1, v, np.float32)) for v in (2, -np.inf))
        call(library, "total", x, s, m)
        check("total", s.numbers(), 2 + x.before.sum(), 400)
        assert m.numbers() == x.before.max(initial=-np.inf)
        x = Buffer((t, 50))
        call(library, "in_place", x)
        check("in_place", x.numbers(), x.before / (1 + np.exp(-x.before)), 4)


test_products()
test_named()
test_layer()
print("products, named operations and layers are right")
