"""Files of The Well for tests, made group by group as the specification has them."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.sources.formats.the_well import TheWell

Array = NDArray[Any]

RNG = np.random.default_rng(0)
N, T, X, Y, Z = 2, 5, 6, 4, 3
SIZES = {"sample": N, "time": T, "x": X, "y": Y, "z": Z}


class WellArchive:
    """A file under construction, with the specification's groups; two trajectories, x longer than y."""

    def __init__(self, path: Path, dims: tuple[str, ...] = ("x", "y"), **attrs: Any) -> None:
        self.path, self.dims = path, dims
        self.file = h5py.File(path, "w")
        self.file.attrs.update(
            {"n_trajectories": N, "grid_type": "cartesian", "dataset_name": "small"} | attrs
        )
        for group in ("dimensions", "boundary_conditions", "scalars", "t0_fields", "t1_fields", "t2_fields"):
            self.file.create_group(group)
        self.file["dimensions"].attrs["spatial_dims"] = list(dims)
        self.coordinate("time", np.arange(T) / 4)
        for name, length in zip(dims, (X, Y, Z), strict=False):
            self.coordinate(name, np.arange(length) / 8)

    def coordinate(self, name: str, values: Array, **attrs: Any) -> None:
        group = self.file["dimensions"]
        if name in group:
            del group[name]
        group[name] = values
        group[name].attrs.update({"sample_varying": False, "time_varying": False} | attrs)

    def array(self, group: str, name: str, varies: str, *components: int, **attrs: Any) -> Array:
        """An array that varies with the axes named in `varies` (of sample, time, x, y, z)."""
        axes = varies.split()
        values = RNG.normal(size=(*(SIZES[axis] for axis in axes), *components)).astype(np.float32)
        stored = self.file[group].create_dataset(name, data=values)
        stored.attrs.update({"sample_varying": "sample" in axes, "time_varying": "time" in axes} | attrs)
        if group != "scalars":
            stored.attrs["dim_varying"] = [axis in axes for axis in "xyz"[: len(self.dims)]]
        names = list(self.file[group].attrs.get("field_names", []))
        self.file[group].attrs["field_names"] = [*names, name]
        return values

    def boundary(
        self,
        name: str,
        kind: str,
        dims: Any,
        mask: Array,
        values: Array | None = None,
        **attrs: Any,
    ) -> None:
        group = self.file["boundary_conditions"].create_group(name)
        group.attrs.update({"bc_type": kind, "associated_dims": dims} | attrs)
        group["mask"] = mask
        if values is not None:
            group["values"] = values.astype(np.float32)

    def done(self, **options: Any) -> TheWell:
        self.file.close()
        return TheWell(paths=str(self.path), **options)


def inside(*lengths: int) -> Array:
    """A mask of all points but those at the sides."""
    return np.pad(np.ones([n - 2 for n in lengths], bool), 1)


def ends(length: int, *marked: int) -> Array:
    mask = np.zeros(length, bool)
    mask[list(marked)] = True
    return mask


def with_times(path: Path, *rows: Array, dtype: type = np.float32) -> TheWell:
    """A file whose trajectories have times of their own, in single precision as the specification has them."""
    made = WellArchive(path, n_trajectories=len(rows))
    made.file["t0_fields"].attrs["field_names"] = ["density"]
    made.file["t0_fields/density"] = RNG.normal(size=(len(rows), len(rows[0]), X, Y)).astype(np.float32)
    made.file["t0_fields/density"].attrs.update(
        dim_varying=[True, True], sample_varying=True, time_varying=True
    )
    made.coordinate("time", np.stack(rows).astype(dtype), sample_varying=True)
    return made.done()


def of_lengths(folder: Path, *lengths: int) -> TheWell:
    """A file of two trajectories for each number of frames, whose density counts frames, with a moving body."""
    for number, frames in enumerate(lengths or (3, 5, 1)):
        made = WellArchive(folder / f"p{number}.hdf5")
        made.coordinate("time", np.arange(frames) / 4)
        values = (
            10 * number + np.arange(frames, dtype=np.float32)[:, None, None] + RNG.random((N, 1, X, Y)) / 2
        )
        made.file["t0_fields"].attrs["field_names"] = ["density"]
        made.file["t0_fields/density"] = values.astype(np.float32)
        made.file["t0_fields/density"].attrs.update(
            sample_varying=True, time_varying=True, dim_varying=[True, True]
        )
        mask = np.stack([np.outer(ends(X, 1 + frame % 3), ends(Y, 1)) for frame in range(frames)])
        made.boundary("body", "WALL", ["x", "y"], mask, time_varying=True)
        made.array("t0_fields", "profile", "y")
        made.done()
    return TheWell(paths=f"{folder}/p*.hdf5")
