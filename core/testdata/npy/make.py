"""Makes the files beside it: python3 make.py (made with NumPy 2.4)."""

import numpy as np
from numpy.lib import format as npy

grid = np.arange(6).reshape(2, 3)

for name, dtype in {
    "u1": "u1", "u2": "<u2", "u4": "<u4", "u8": "<u8", "i1": "i1", "i2": "<i2", "i4": "<i4", "i8": "<i8",
    "f4": "<f4", "f8": "<f8", "c8": "<c8", "c16": "<c16",
}.items():
    np.save(f"{name}.npy", grid.astype(dtype))
np.save("bool.npy", grid % 2 == 1)
np.save("fortran.npy", np.asfortranarray(grid.astype("<f8")))
np.save("fortran3.npy", np.asfortranarray(np.arange(24, dtype="<i4").reshape(2, 3, 4)))
np.save("scalar.npy", np.float64(2.5))
np.save("empty.npy", np.zeros((0, 3), "<f8"))
for version in [(1, 0), (2, 0), (3, 0)]:
    with open(f"version{version[0]}.npy", "wb") as file:
        npy.write_array(file, grid.astype("<f8"), version=version)
with open("two.npy", "wb") as file:
    np.save(file, grid.astype("<f8"))
    np.save(file, grid.astype("<f8") + 10)

np.save("bad_endian.npy", grid.astype(">f8"))
np.save("bad_object.npy", np.array([1, "a"], dtype=object), allow_pickle=True)
np.save("bad_records.npy", np.zeros(2, dtype=[("größe", "<f8"), ("n", "<i4", (2,))]))
np.save("bad_strings.npy", np.array(["a", "bc"]))
np.save("bad_half.npy", grid.astype("<f2"))
np.save("bad_long.npy", grid.astype(np.longdouble))
np.save("bad_dates.npy", np.array(["2026-01-01"], dtype="datetime64[ns]"))
np.savez("bad_archive.npz", grid=grid)
