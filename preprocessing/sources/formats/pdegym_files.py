"""What the files of PDEGym's sets hold: fields and their sizes, for the three layouts in which they come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.absence import absent_policy
from pelagos.preprocessing.sources.arrays.array_reader import ArrayReader, ArrayView, Index
from pelagos.preprocessing.sources.arrays.hdf5_file import Hdf5Dataset, member, open_hdf5
from pelagos.preprocessing.sources.arrays.hdf5_left_out import say_unread
from pelagos.preprocessing.sources.arrays.lazy_array import lazy_variable
from pelagos.preprocessing.sources.formats.pdegym_sets import PDEGymSet

Contents = tuple[dict[str, xr.Variable], dict[str, int]]
"""Variables in the convention by name, and the lengths of trajectory, time, y and x."""


def read_plain(files: Sequence[Path], form: PDEGymSet) -> Contents:
    """The fields of files with one array of all channels, (sample, [time, [channel,]] y, x).

    Raises:
        ConfigError: if there are frames, but the time between them is not known.
        DataError: if a file contradicts the description.
    """
    arrays = _collect(files, [form.key, *form.static])
    solution = arrays[form.key]
    shape, y_x = solution[0].shape, tuple(form.axes)
    if len(shape) not in (3, 4, 5):
        raise DataError(
            f"{solution[0].name} has shape {shape}; (sample, [time, [channel,]] y, x) would be right"
        )
    steady = len(shape) == 3
    axes = ("trajectory", "time", "channel")[: len(shape) - 2] + y_x
    sizes = dict(zip(axes, shape, strict=True)) | {"trajectory": _num_trajectories(arrays)}
    sizes.setdefault("time", 1)
    if not steady and not form.dt:
        raise ConfigError(f"dt: {solution[0].path} holds no times; give the time between its frames")
    names = _channel_names(solution[0], form, sizes.get("channel", 1))
    role: Literal["diagnostic", "prognostic"] = "diagnostic" if steady else "prognostic"
    variables = {
        name: lazy_variable(
            convention.TIME_DIMS,
            solution,
            [i if axis == "channel" else axis for axis in axes],
            sizes,
            convention.attrs(name, role),
        )
        for i, name in enumerate(names)
    }
    for key, name in form.static.items():
        dims = ("trajectory", "y", "x")
        static = convention.attrs(name, "static")
        variables[name] = lazy_variable(dims, arrays[key], ("trajectory", *y_x), sizes, static)
    if form.pressure_offset:
        variables["pressure"].attrs["poseidon_offset"] = str(form.pressure_offset)
    return variables, sizes


def _collect(files: Sequence[Path], keys: list[str]) -> dict[str, list[Hdf5Dataset]]:
    """For each key the arrays of the files that have it: the hub keeps `c` and `solution` apart."""
    arrays: dict[str, list[Hdf5Dataset]] = {key: [] for key in keys}
    for path in files:
        with open_hdf5(path) as file:
            # A file without any of the keys is asked for the first, whose absence raises an error that names it.
            found = [key for key in keys if key in file] or [keys[0]]
            for key in found:
                arrays[key].append(Hdf5Dataset.of(member(file, key)))
            say_unread(file, keys)
    for key, found_in in arrays.items():
        if not found_in:
            raise DataError(f"{', '.join(map(str, files))}: no '{key}' in any of them")
    return arrays


def _num_trajectories(arrays: Mapping[str, Sequence[Hdf5Dataset]]) -> int:
    counts = {
        key: sum(reader.shape[0] for reader in readers if reader.shape) for key, readers in arrays.items()
    }
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} of {key}" for key, count in counts.items())
        first = next(iter(arrays.values()))[0].path
        raise DataError(f"{first} and its like: numbers of trajectories differ: {found}")
    return next(iter(counts.values()))


def _channel_names(array: Hdf5Dataset, form: PDEGymSet, count: int) -> tuple[str, ...]:
    least = len(form.channels) - form.optional
    if not least <= count <= len(form.channels):
        wanted = ", ".join(form.channels)
        raise DataError(f"{array.name} of shape {array.shape} has {count} channels; {wanted} were expected")
    return form.channels[:count]


@dataclass(frozen=True)
class _OutsideAirfoil(ArrayView):
    """The density of SE-AF, (sample, y, x), missing inside the airfoil, where channel 0 is 1."""

    reader: Hdf5Dataset

    @property
    def shape(self) -> tuple[int, ...]:
        return self.reader.shape[:1] + self.reader.shape[2:]

    def read(self, index: Index) -> NDArray[Any]:
        both = self.reader.read((index[0], slice(0, 2), *index[1:]))
        return np.where(both[:, 0] == 1, np.array(np.nan, self.dtype), both[:, 1])


def read_airfoil(files: Sequence[Path], key: str) -> Contents:
    """The steady flow of SE-AF, whose two channels are the airfoil and the density around it.

    Raises:
        DataError: if an array has another shape.
    """
    arrays = _collect(files, [key])
    (solution,) = arrays.values()
    shape = solution[0].shape
    if len(shape) != 4 or shape[1] != 2:
        raise DataError(f"{solution[0].name} has shape {shape}; SE-AF has (sample, 2, y, x)")
    sizes = {"trajectory": _num_trajectories(arrays), "time": 1, "y": shape[2], "x": shape[3]}
    geometry = convention.attrs("geometry", "static", long_name="1 inside the airfoil")
    density: list[ArrayReader] = [_OutsideAirfoil(reader) for reader in solution]
    variables = {
        "density": lazy_variable(
            convention.TIME_DIMS,
            density,
            ("trajectory", "y", "x"),
            sizes,
            convention.attrs("density", "diagnostic"),
        ),
        "geometry": lazy_variable(
            ("trajectory", "y", "x"), solution, ("trajectory", 0, "y", "x"), sizes, geometry
        ),
    }
    return variables, sizes


def read_helmholtz(files: Sequence[Path]) -> Contents:
    """One group `Sample_i` for each sample, with the coefficient a, the solution u and the boundary value bc."""
    readers: dict[str, list[ArrayReader]] = {"a": [], "u": [], "bc": []}
    for path in files:
        with open_hdf5(path) as file:
            samples = sorted((key for key in file if key.startswith("Sample_")), key=lambda key: int(key[7:]))
            first = member(file, samples[0] if samples else "Sample_0")
            # All groups are alike: asking each of 20000 for its shape would take long.
            like = {key: Hdf5Dataset.of(member(first, key)) for key in readers}
            say_unread(first, [array.key for array in like.values()])
        for key, array in like.items():
            readers[key] += [
                Hdf5Dataset(path, f"/{one}/{key}", array.shape, array.dtype, absent_policy())
                for one in samples
            ]
    *_, height, width = readers["u"][0].shape
    sizes = {"trajectory": len(readers["u"]), "time": 1, "y": height, "x": width}
    value = convention.attrs("boundary_value", "scalar", long_name="value of u at the boundary")
    coefficient = convention.attrs(
        "coefficient", "static", long_name="coefficient a of the Helmholtz equation"
    )
    solution = convention.attrs("solution", "diagnostic")
    variables = {
        "solution": lazy_variable(convention.TIME_DIMS, readers["u"], ("y", "x"), sizes, solution),
        "coefficient": lazy_variable(("trajectory", "y", "x"), readers["a"], ("y", "x"), sizes, coefficient),
        "boundary_value": lazy_variable(("trajectory",), readers["bc"], (), sizes, value),
    }
    return variables, sizes
