"""PDEGym: the data of Poseidon (Herde et al. 2024, arXiv:2405.19101), read and written.

A netCDF-4 file holds one array of all trajectories, (sample, time, channel, y, x), next to it
static fields (sample, y, x). It has no coordinates, units, parameters or boundary kinds: these
come from the table below, or from the configuration for sets that the table lacks. Array names,
channels and frame spacings follow the dataset cards and loaders of camlab-ethz. The cards call the
two last axes x and y throughout, yet the loader exchanges them for one set: what the loader makes of
them counts as (y, x) here, so that fields lie as Poseidon's networks saw them.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import h5netcdf
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.grid import Boundary, Grid
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays.lazy_array import (
    Hdf5Dataset,
    Index,
    Part,
    View,
    member,
    open_hdf5,
    variable,
)
from pelagos.preprocessing.sources.convention import Boundaries, BoundaryOption
from pelagos.preprocessing.sources.files import Files
from pelagos.preprocessing.sources.finding import Finding, Glance
from pelagos.preprocessing.sources.writer import BlockWriter, write_all

Axes = Literal["yx", "xy"]


@dataclass(frozen=True)
class Layout:
    """How one set is stored.

    Attributes:
        key: the array of the solution.
        channels: variables in the order of its channels; the last `optional` may be absent.
        optional: see there.
        static: variables of the further arrays, by array name.
        dt: time between frames, by default of 21 up to time 1.
        boundary: on all sides, "unknown" where cards and loaders do not say.
        axes: order of the two last axes.
        pressure_offset: what Poseidon's shared normalisation subtracts from the pressure first.
    """

    key: str
    channels: tuple[str, ...]
    optional: int = 0
    static: Mapping[str, str] = field(default_factory=dict)
    dt: float = 1 / 20
    boundary: Boundary = "unknown"
    axes: Axes = "yx"
    pressure_offset: float = 0.0


_FLOW = ("velocity_x", "velocity_y", "tracer")
_GAS = ("density", "velocity_x", "velocity_y", "pressure")
_NAVIER_STOKES = Layout("velocity", _FLOW, optional=1, boundary="periodic")


def _euler(offset: float) -> Layout:
    return Layout("data", (*_GAS, "energy"), optional=1, boundary="periodic", pressure_offset=offset)


def _wave(frames: int) -> Layout:
    return Layout("solution", ("displacement",), static={"c": "wave_speed"}, dt=1 / frames, boundary="open")


SETS: dict[str, Layout] = {
    "NS-Sines": _NAVIER_STOKES,
    "NS-Gauss": _NAVIER_STOKES,
    "NS-PwC": _NAVIER_STOKES,
    "NS-SVS": _NAVIER_STOKES,
    "NS-BB": _NAVIER_STOKES,
    # Poseidon's loader exchanges the two last axes (not the components) of this set alone.
    "NS-SL": Layout("velocity", _FLOW[:2], boundary="periodic", axes="xy"),
    "FNS-KF": Layout("solution", _FLOW[:2], boundary="periodic"),
    "CE-RP": _euler(0.215),
    "CE-CRP": _euler(0.553),
    "CE-KH": _euler(1.0),
    "CE-Gauss": _euler(2.513),
    "CE-RPUI": _euler(1.33),
    "CE-RM": Layout("solution", (*_GAS, "tracer"), optional=1, dt=2 / 20),
    "GCE-RT": Layout("solution", (*_GAS, "tracer", "potential"), dt=5 / 10),
    "Wave-Layer": _wave(20),
    "Wave-Gauss": _wave(15),
    "ACE": Layout("solution", ("phase",), dt=2e-4 / 19),
    "SE-AF": Layout("solution", ("geometry", "density")),
    "Poisson-Gauss": Layout("solution", ("solution",), static={"source": "source"}, boundary="wall"),
    "Helmholtz": Layout("u", ("solution",), static={"a": "coefficient"}, boundary="wall"),
}
"""The twenty sets of PDEGym."""

_SPECIAL = ("FNS-KF", "SE-AF", "Helmholtz")


class PDEGym(Files):
    """Reads a PDEGym set, whole or in the parts in which the hub delivers it.

    Attributes:
        kind: "pdegym".
        dataset: name of a set of `SETS`, or any identifier if the options below describe the file.
        variables: of a known set, the fields to read (all if empty); of any other, names of all
            channels in order.
        key: the solution's array, (sample, time, channel, y, x), without the axis of channels if
            there is one, without that of time too for a steady problem; replaces a known set's.
        static: names of further arrays (sample, y, x), by array name.
        dt: time between frames; replaces a known set's.
        boundary: beyond the edges; replaces a known set's.
        axes: order of the two last axes, for releases that differ from the table.
        length: side of the square domain. Row i of n lies at i * length / n.
    """

    kind: Literal["pdegym"] = "pdegym"
    variables: tuple[str, ...] = ()
    key: str = ""
    static: dict[str, str] = Field(default_factory=dict)
    dt: PositiveFloat | None = None
    boundary: BoundaryOption | None = None
    axes: Axes | None = None
    length: PositiveFloat = 1.0

    @classmethod
    def recognise(cls, glance: Glance) -> Finding | None:
        """HDF5 with one of the arrays of the table, and no coordinates."""
        if glance.container != "hdf5":
            return None
        if glance.has("Sample_0/u", "Sample_0/a"):
            return Finding("pdegym", "certain", "HDF5 with groups Sample_0, ...", {"dataset": "Helmholtz"})
        keys = [key for key in ("velocity", "data", "solution") if glance.rank(key) in (3, 4, 5)]
        if len(keys) != 1 or set(glance.shapes) - {
            *keys,
            "c",
            "source",
            "sample",
            "time",
            "channel",
            "x",
            "y",
        }:
            return None
        evidence = f"HDF5 with {glance.listed(*keys, 'c', 'source')} and no coordinates"
        named = [name for name in SETS if name in (glance.path.stem, *glance.path.resolve().parts)]
        named += [name for name in SETS if glance.path.stem.startswith(f"{name}_")]
        if named:
            return Finding("pdegym", "certain", f"{evidence}, named {named[0]}", {"dataset": named[0]})
        ask = {"dataset": f"its set, one of {', '.join(SETS)}; or key, variables, boundary and dt"}
        return Finding("pdegym", "possible", evidence, ask=ask)

    def open(self) -> xr.Dataset:
        """The dataset in the convention; reads no field.

        Raises:
            ConfigError: if the set is unknown and not described.
            DataError: if a file contradicts the description.
        """
        if self.dataset == "Helmholtz":
            ds = _open_helmholtz(self)
        elif self.dataset == "SE-AF":
            ds = _open_airfoil(self)
        else:
            ds = _open_plain(self, self._layout())
        return convention.select(ds, self.variables if self.dataset in SETS else ())

    def _layout(self) -> Layout:
        known = SETS.get(self.dataset)
        if known:
            return replace(
                known,
                key=self.key or known.key,
                static=self.static or known.static,
                dt=self.dt or known.dt,
                axes=self.axes or known.axes,
            )
        absent = [name for name in ("key", "variables", "boundary") if not getattr(self, name)]
        if absent:
            close = difflib.get_close_matches(self.dataset, SETS, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ConfigError(
                f"dataset: '{self.dataset}' is not a set of PDEGym{hint}; name one of {', '.join(SETS)},"
                f" or describe the file: {', '.join(absent)} missing"
            )
        return Layout(self.key, self.variables, 0, self.static, self.dt or 0.0, axes=self.axes or "yx")

    def grid(self, shape: tuple[int, int], known: Boundary) -> Grid:
        """The grid of (H, W) points."""
        y, x = (np.arange(n, dtype=np.float64) * (self.length / n) for n in shape)
        boundary = self.boundary or convention.everywhere(known)
        return Grid("cartesian", y, x, boundary.y, boundary.x)

    def assemble(
        self,
        variables: Mapping[str, xr.Variable],
        grid: Grid,
        time: NDArray[np.float64],
        num_trajectories: int,
    ) -> xr.Dataset:
        """The variables with what the configuration says about them."""
        published = self.dataset in SETS
        return convention.assemble(
            variables,
            grid=grid,
            time=time,
            dataset=self.identifier(),
            source_format="pdegym",
            sources=self.files(),
            num_trajectories=num_trajectories,
            license=self.license or ("CC BY-NC 4.0" if published else ""),
            references=self.references or ("arXiv:2405.19101" if published else ""),
        )


def _collect(files: tuple[Path, ...], keys: list[str]) -> dict[str, list[Hdf5Dataset]]:
    """For each key the arrays of the files that have it: the hub keeps `c` and `solution` apart."""
    arrays: dict[str, list[Hdf5Dataset]] = {key: [] for key in keys}
    for path in files:
        with open_hdf5(path) as file:
            found = [key for key in keys if key in file] or [keys[0]]
            for key in found:
                arrays[key].append(Hdf5Dataset.of(member(file, key)))
    for key, found_in in arrays.items():
        if not found_in:
            raise DataError(f"{', '.join(map(str, files))}: no '{key}' in any of them")
    return arrays


def _count(arrays: dict[str, list[Hdf5Dataset]]) -> int:
    counts = {key: sum(part.shape[0] for part in parts if part.shape) for key, parts in arrays.items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} of {key}" for key, count in counts.items())
        first = next(iter(arrays.values()))[0].path
        raise DataError(f"{first} and its like: numbers of trajectories differ: {found}")
    return next(iter(counts.values()))


def _open_plain(config: PDEGym, layout: Layout) -> xr.Dataset:
    arrays = _collect(config.files(), [layout.key, *layout.static])
    solution = arrays[layout.key]
    shape, y_x = solution[0].shape, tuple(layout.axes)
    if len(shape) not in (3, 4, 5):
        raise DataError(
            f"{solution[0].name} has shape {shape}; (sample, [time, [channel,]] y, x) would be right"
        )
    steady = len(shape) == 3
    axes = ("trajectory", "time", "channel")[: len(shape) - 2] + y_x
    sizes = dict(zip(axes, shape, strict=True)) | {"trajectory": _count(arrays)}
    sizes.setdefault("time", 1)
    if not steady and not layout.dt:
        raise ConfigError("dt: the file has no times; give the time between frames")
    names = _channel_names(solution[0], layout, sizes.get("channel", 1))
    role: Literal["diagnostic", "prognostic"] = "diagnostic" if steady else "prognostic"
    variables = {
        name: variable(
            convention.TIME_DIMS,
            solution,
            [i if axis == "channel" else axis for axis in axes],
            sizes,
            convention.attrs(name, role),
        )
        for i, name in enumerate(names)
    }
    for key, name in layout.static.items():
        dims = ("trajectory", "y", "x")
        static = convention.attrs(name, "static")
        variables[name] = variable(dims, arrays[key], ("trajectory", *y_x), sizes, static)
    if layout.pressure_offset:
        variables["pressure"].attrs["poseidon_offset"] = str(layout.pressure_offset)
    grid = config.grid((sizes["y"], sizes["x"]), layout.boundary)
    if config.dataset == "FNS-KF":
        variables["source"] = _kolmogorov(grid)
    time = np.arange(sizes["time"], dtype=np.float64) * layout.dt
    return config.assemble(variables, grid, time, sizes["trajectory"])


def _channel_names(array: Hdf5Dataset, layout: Layout, count: int) -> tuple[str, ...]:
    least = len(layout.channels) - layout.optional
    if not least <= count <= len(layout.channels):
        wanted = ", ".join(layout.channels)
        raise DataError(f"{array.name} of shape {array.shape} has {count} channels; {wanted} were expected")
    return layout.channels[:count]


def _kolmogorov(grid: Grid) -> xr.Variable:
    """The forcing 0.1 sin(2π(x + y)), which FNS-KF does not store and Poseidon's loader recomputes."""
    values = 0.1 * np.sin(2 * np.pi * (grid.x[None, :] + grid.y[:, None]))
    return xr.Variable(("y", "x"), values.astype(np.float32), convention.attrs("source", "static"))


@dataclass(frozen=True)
class _OutsideAirfoil(View):
    """The density of SE-AF, (sample, y, x), missing inside the airfoil, where channel 0 is 1."""

    part: Hdf5Dataset

    @property
    def shape(self) -> tuple[int, ...]:
        return self.part.shape[:1] + self.part.shape[2:]

    def read(self, index: Index) -> NDArray[Any]:
        both = self.part.read((index[0], slice(0, 2), *index[1:]))
        return np.where(both[:, 0] == 1, np.array(np.nan, self.dtype), both[:, 1])


def _open_airfoil(config: PDEGym) -> xr.Dataset:
    layout = SETS["SE-AF"]
    arrays = _collect(config.files(), [config.key or layout.key])
    (solution,) = arrays.values()
    shape = solution[0].shape
    if len(shape) != 4 or shape[1] != 2:
        raise DataError(f"{solution[0].name} has shape {shape}; SE-AF has (sample, 2, y, x)")
    sizes = {"trajectory": _count(arrays), "time": 1, "y": shape[2], "x": shape[3]}
    geometry = convention.attrs("geometry", "static", long_name="1 inside the airfoil")
    density: list[Part] = [_OutsideAirfoil(part) for part in solution]
    variables = {
        "density": variable(
            convention.TIME_DIMS,
            density,
            ("trajectory", "y", "x"),
            sizes,
            convention.attrs("density", "diagnostic"),
        ),
        "geometry": variable(
            ("trajectory", "y", "x"), solution, ("trajectory", 0, "y", "x"), sizes, geometry
        ),
    }
    grid = config.grid((sizes["y"], sizes["x"]), layout.boundary)
    return config.assemble(variables, grid, np.zeros(1), sizes["trajectory"])


def _open_helmholtz(config: PDEGym) -> xr.Dataset:
    """One group `Sample_i` a sample, with the coefficient a, the solution u and the boundary value bc."""
    parts: dict[str, list[Part]] = {"a": [], "u": [], "bc": []}
    for path in config.files():
        with open_hdf5(path) as file:
            samples = sorted((key for key in file if key.startswith("Sample_")), key=lambda key: int(key[7:]))
            first = member(file, samples[0] if samples else "Sample_0")
            # All groups are alike: asking each of 20000 for its shape would take long.
            like = {key: Hdf5Dataset.of(member(first, key)) for key in parts}
        for key, array in like.items():
            parts[key] += [Hdf5Dataset(path, f"/{one}/{key}", array.shape, array.dtype) for one in samples]
    count = len(parts["u"])
    *_, height, width = parts["u"][0].shape
    sizes = {"trajectory": count, "time": 1, "y": height, "x": width}
    value = convention.attrs("boundary_value", "scalar", long_name="value of u at the boundary")
    coefficient = convention.attrs(
        "coefficient", "static", long_name="coefficient a of the Helmholtz equation"
    )
    solution = convention.attrs("solution", "diagnostic")
    variables = {
        "solution": variable(convention.TIME_DIMS, parts["u"], ("y", "x"), sizes, solution),
        "coefficient": variable(("trajectory", "y", "x"), parts["a"], ("y", "x"), sizes, coefficient),
        "boundary_value": variable(("trajectory",), parts["bc"], (), sizes, value),
    }
    return config.assemble(variables, config.grid((height, width), "wall"), np.zeros(1), count)


class Writer(BlockWriter):
    """Writes PDEGym's form: one array of all channels, static fields as further arrays.

    The array is `velocity` for u, v and a tracer, otherwise `solution`, or what `SETS` says if the
    dataset's identifier is in it; one field alone has no axis of channels, the solution of a
    steady problem none of time. `source()` gives the configuration that reads the file: with
    the frame spacing, the boundary kinds and the length of the domain, which the file cannot hold.
    Not held at all: scalar parameters, the position of the first row (read as 0) and of the first
    frame (0), roles, trajectory ids, licences. Static fields without trajectories are repeated for
    each. Refused: uneven grids or times, domains that are not square.
    """

    def _open(self, path: Path) -> Any:
        return h5netcdf.File(path, "w")

    def _create(self) -> None:
        ds = self.template
        self.fields = tuple(convention.in_role(ds, "prognostic", "forcing", "diagnostic"))
        self.layout = self._choose(convention.in_role(ds, "static"))
        self._dt, self._length = self._spacing()
        sizes = {"sample": self.num_trajectories, "y": len(ds.y), "x": len(ds.x)}
        axes = ["sample", *self.layout.axes]
        if len(self.fields) > 1:
            axes.insert(1, "channel")
            sizes["channel"] = len(self.fields)
        if len(ds.time) > 1 or ds[self.fields[0]].attrs["role"] != "diagnostic":
            axes.insert(1, "time")
            sizes["time"] = len(ds.time)
        self._file.dimensions = sizes
        self._file.create_variable(self.layout.key, axes, "f4")
        for key in self.layout.static:
            self._file.create_variable(key, ("sample", *self.layout.axes), "f4")

    def _choose(self, static: list[str]) -> Layout:
        name = self.template.attrs["dataset"]
        known = SETS.get(name)
        if known is None:
            flow = self.fields[:2] == _FLOW[:2] and set(self.fields[2:]) <= {"tracer"}
            keys = {"c" if one == "wave_speed" else one: one for one in static}
            return Layout("velocity" if flow else "solution", self.fields, static=keys)
        least = len(known.channels) - known.optional
        fits = self.fields == known.channels[: max(least, len(self.fields))]
        if fits and set(static) == set(known.static.values()) and name not in _SPECIAL:
            return known
        raise DataError(
            f"{self.path}: {', '.join([*self.fields, *static])} cannot be written as PDEGym's set {name};"
            " give the dataset another identifier"
        )

    def _spacing(self) -> tuple[float, float]:
        """Time between frames and side of the domain."""
        steps = {}
        for name in ("time", "y", "x"):
            gaps = np.diff(self.template[name].values)
            if gaps.dtype.kind != "f" or not np.allclose(gaps, gaps[:1], rtol=1e-5):
                raise DataError(
                    f"{self.path}: PDEGym files hold no {name}, which must be evenly spaced numbers"
                )
            steps[name] = float(gaps.mean()) if len(gaps) else 0.0
        height, width = steps["y"] * len(self.template.y), steps["x"] * len(self.template.x)
        if not np.isclose(height, width, rtol=1e-5):
            raise DataError(f"{self.path}: PDEGym domains are square, not {height:g} by {width:g}")
        return steps["time"], width

    def _put(self, start: int, block: xr.Dataset) -> None:
        rows = slice(start, start + block.sizes["trajectory"])
        y_x = tuple(self.layout.axes)
        stored = self._file[self.layout.key]
        parts = [block[name].transpose("trajectory", "time", *y_x).values for name in self.fields]
        values = np.stack(parts, axis=2) if len(parts) > 1 else parts[0]
        stored[rows] = values.reshape(-1, *stored.shape[1:]).astype(np.float32)
        for key, name in self.layout.static.items():
            field = block[name].broadcast_like(block["trajectory"]).transpose("trajectory", *y_x)
            self._file[key][rows] = field.values.astype(np.float32)

    def source(self) -> PDEGym:
        """The configuration that reads the file again."""
        name = self.template.attrs["dataset"]
        grid = convention.grid_of(self.template)
        return PDEGym(
            paths=(str(self.path),),
            dataset=name,
            variables=() if name in SETS else self.fields,
            key=self.layout.key,
            static=dict(self.layout.static),
            dt=self._dt or None,
            boundary=Boundaries(y=grid.boundary_y, x=grid.boundary_x),
            length=self._length,
        )


def write(ds: xr.Dataset, path: str | Path) -> None:
    """Write a dataset in the convention as one PDEGym file; see `Writer` for what that can hold."""
    write_all(Writer, ds, path)
