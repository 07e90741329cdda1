"""Writing files of The Well in 2-D, HDF5 specification v1, as `the_well` reads them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.writer import BlockWriter, write_all


class WellWriter(BlockWriter):
    """Writes a file of The Well with axes (x, y).

    `name_x` with `name_y` becomes a vector, all four of `name_xx`, `name_xy`, `name_yx`, `name_yy` a tensor.
    Coordinates and times are stored in float32, as the specification asks. The format holds no roles (a
    time-dependent field is read as prognostic), units, trajectory names or licences. Dates and grids of latitudes
    and longitudes are refused.
    """

    def _open(self, path: Path) -> Any:
        return h5py.File(path, "w")

    def _create(self) -> None:
        ds = self.template
        if ds.attrs["grid"] != "cartesian" or ds.time.dtype.kind == "M":
            raise DataError(
                f"{self.path}: only cartesian grids with times in numbers can be written, not dates or latitudes"
            )
        scalars = convention.in_role(ds, "scalar")
        constant = [name for name in scalars if not ds[name].dims]
        self._file.attrs.update(
            dataset_name=ds.attrs["dataset"],
            grid_type="cartesian",
            n_spatial_dims=2,
            n_trajectories=self.num_trajectories,
            simulation_parameters=_texts(constant),
            **{name: float(ds[name]) for name in constant},
        )
        self._write_dimensions()
        self._write_boundaries()
        group = self._file.create_group("scalars")
        group.attrs["field_names"] = _texts(scalars)
        for name in scalars:
            varies = bool(ds[name].dims)
            group.create_dataset(name, (self.num_trajectories,) * varies, "f8")
            group[name].attrs.update(sample_varying=varies, time_varying=False)
            if not varies:
                group[name][()] = float(ds[name])
        self._create_fields()

    def _write_dimensions(self) -> None:
        group = self._file.create_group("dimensions")
        group.attrs["spatial_dims"] = _texts(["x", "y"])
        for name in ("time", "x", "y"):
            group[name] = self.template[name].values.astype(np.float32)
            group[name].attrs["sample_varying"] = False
        for name in ("x", "y"):
            group[name].attrs["time_varying"] = False

    def _write_boundaries(self) -> None:
        group = self._file.create_group("boundary_conditions")
        grid = convention.grid_of(self.template)
        for axis, sides in (("x", grid.boundary_x), ("y", grid.boundary_y)):
            # One condition for each kind; without a mask a side is read as unknown.
            for kind in sorted(set(sides) - {"unknown"}):
                mask = np.zeros(self.template.sizes[axis], bool)
                mask[0], mask[-1] = sides[0] == kind, sides[1] == kind
                condition = group.create_group(f"{axis}_{kind}")
                condition.attrs.update(
                    associated_dims=_texts([axis]),
                    associated_fields=_texts([]),
                    bc_type=kind.upper(),
                    sample_varying=False,
                    time_varying=False,
                )
                condition["mask"] = mask

    def _create_fields(self) -> None:
        ds = self.template
        names = [str(name) for name in ds.data_vars if ds[name].attrs["role"] != "scalar"]
        self.fields = {stem: (order, components) for order, stem, components in _ordered(ds, names)}
        for order in range(3):
            group = self._file.create_group(f"t{order}_fields")
            group.attrs["field_names"] = _texts(
                [stem for stem, (other, _) in self.fields.items() if other == order]
            )
        for stem, (order, components) in self.fields.items():
            dims = ds[components[0]].dims
            sizes = {**ds.sizes, "trajectory": self.num_trajectories}
            shape = tuple(sizes[dim] for dim in (*dims[:-2], "x", "y")) + (2,) * order
            stored = self._file[f"t{order}_fields"].create_dataset(stem, shape, "f4")
            stored.attrs.update(
                dim_varying=[True, True], sample_varying="trajectory" in dims, time_varying="time" in dims
            )
            if order == 2:
                stored.attrs.update(symmetric=False, antisymmetric=False)
            if "trajectory" not in dims:
                stored[...] = _values(ds, components, shape)

    def _put(self, start: int, block: xr.Dataset) -> None:
        rows = slice(start, start + block.sizes["trajectory"])
        for name in convention.in_role(block, "scalar"):
            if block[name].dims:
                self._file["scalars"][name][rows] = block[name].values
        for stem, (order, components) in self.fields.items():
            stored = self._file[f"t{order}_fields"][stem]
            if "trajectory" in block[components[0]].dims:
                stored[rows] = _values(block, components, (-1, *stored.shape[1:]))


def _texts(words: Sequence[str]) -> NDArray[Any]:
    return np.array(list(words), h5py.string_dtype())


def _ordered(ds: xr.Dataset, names: Sequence[str]) -> Iterator[tuple[int, str, list[str]]]:
    """Order, name and components of the tensor, vector and scalar fields that variables of these names make up."""
    # Tensors go first: `stress_xx` and `stress_xy` would also make a vector `stress_x`.
    left = list(names)
    for order, suffixes in ((2, ("_xx", "_xy", "_yx", "_yy")), (1, ("_x", "_y"))):
        for stem in [name.removesuffix(suffixes[0]) for name in names if name.endswith(suffixes[0])]:
            components = [stem + suffix for suffix in suffixes]
            alike = set(components) <= set(left) and len({ds[one].dims for one in components}) == 1
            if alike and stem not in names:
                yield order, stem, components
                left = [name for name in left if name not in components]
    yield from ((0, name, [name]) for name in left)


def _values(ds: xr.Dataset, components: Sequence[str], shape: tuple[int, ...]) -> NDArray[np.float32]:
    values = [ds[name].transpose(..., "x", "y").values.astype(np.float32) for name in components]
    return np.stack(values, axis=-1).reshape(shape)


def write(ds: xr.Dataset, path: str | Path) -> None:
    """Write a dataset in the convention as one file of The Well; see `WellWriter` for what that can hold."""
    write_all(WellWriter, ds, path)
