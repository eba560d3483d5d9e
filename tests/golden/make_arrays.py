#!/usr/bin/env python3
"""Writes tests/golden/arrays.npz, arrays_compressed.npz and fortran.npy with NumPy.

Element i of every array, in the order of its indices, is i - 3, or i where there is no sign, or
(i - 3) - i j where it is complex.
"""

import pathlib

import numpy as np

here = pathlib.Path(__file__).parent
i = np.arange(6).reshape(2, 3)
arrays = {
    "bool": i % 2 == 1,
    "empty": np.zeros((0, 4), np.float32),
    "swapped": (i - 3).astype(">f8"),
    "fortran": np.asfortranarray((np.arange(24).reshape(2, 3, 4) - 3).astype(np.int32)),
    "long": np.zeros(100000, np.float32),
}
for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", ">i4"):
    arrays[name] = (i - 3).astype(name)
for name in ("u1", "u2", "u4", "u8"):
    arrays[name] = i.astype(name)
for name in ("c8", "c16", ">c8"):
    arrays[name] = ((i - 3) - 1j * i).astype(name)
np.savez_compressed(here / "arrays_compressed.npz", **arrays)
del arrays["long"]
np.savez(here / "arrays.npz", **arrays)
np.save(here / "fortran.npy", arrays["fortran"])
