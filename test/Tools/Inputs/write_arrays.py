# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Files that kv-run does not take as an array of f32 of rank 1."""

import sys

import numpy as np

prefix = sys.argv[1]
ones = np.ones(5, np.float32)
ones.tofile(f"{prefix}.bin")
np.save(f"{prefix}.fortran.npy", np.ones([2, 3], np.float32, order="F"))
np.save(f"{prefix}.struct.npy", np.ones(3, [("a", np.float32)]))
np.save(f"{prefix}.f8.npy", np.ones(5))
np.save(f"{prefix}.u4.npy", np.ones(5, np.uint32))
np.save(f"{prefix}.short.npy", ones)
with open(f"{prefix}.short.npy", "r+b") as file:
    file.truncate(file.seek(0, 2) - 4)
