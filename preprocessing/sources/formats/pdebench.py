"""PDEBench (Takamoto et al. 2022, arXiv:2210.07182): its HDF5 layouts, told apart by their content.

- one group a seed: 2-D diffusion-reaction, 2-D shallow water, 1-D diffusion-sorption;
- one array a variable: compressible flow in 1-D, 2-D and 3-D;
- `velocity`, `particles`, `force`: inhomogeneous incompressible flow in 2-D;
- `tensor`: 1-D advection, Burgers, reaction-diffusion; with `nu` Darcy flow.

1-D fields have one row, the planes along z of 3-D fields are levels. Traps, from the benchmark's
own generators: `t-coordinate` is one longer than the data, arrays are (x, y) or (x, y, z) except
those of diffusion-reaction, boundary kinds are found in file names alone, parameters there, in
attributes or in a YAML text.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
import yaml
from numpy.typing import NDArray
from pydantic import Field

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.grid import Boundary
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays.join_files import Piece, Stored, join, one_row
from pelagos.preprocessing.sources.arrays.lazy_array import Hdf5Dataset, member, open_hdf5
from pelagos.preprocessing.sources.convention import BoundaryOption
from pelagos.preprocessing.sources.files import Files
from pelagos.preprocessing.sources.finding import Finding, Glance

Problem = Literal["diff-react", "rdb", "diff-sorp"]
Axes = Literal["yx", "xy", "xyz", "zyx"]


@dataclass(frozen=True)
class _Seeds:
    """A problem stored in one group a seed; `parameters` gives scalars by their key in the settings."""

    channels: tuple[str, ...]
    parameters: Mapping[str, str]
    boundary: Boundary
    axes: str


PROBLEMS: dict[str, _Seeds] = {
    "diff-react": _Seeds(
        ("activator", "inhibitor"),
        {"Du": "diffusivity_activator", "Dv": "diffusivity_inhibitor", "k": "reaction_rate"},
        "wall",
        "yx",  # labelled (t, x, y, v), written by reshape(-1, Ny, Nx)
    ),
    "rdb": _Seeds(
        ("water_height",),
        {"gravity": "gravity", "dam_radius": "dam_radius", "inner_height": "inner_height"},
        "open",
        "xy",
    ),
    "diff-sorp": _Seeds(
        ("concentration",),
        {
            "D": "diffusivity",
            "por": "porosity",
            "rho_s": "density_solid",
            "k_f": "freundlich_coefficient",
            "n_f": "freundlich_exponent",
        },
        "unknown",
        "x",
    ),
}
FLOW = {"density": "density", "pressure": "pressure", "velocity_x": "Vx", "velocity_y": "Vy"}
_FLOW_ARRAYS = {**FLOW, "velocity_z": "Vz"}
_FLOW_AXES = {1: "x", 2: "xy", 3: "xyz"}
FLOW_PARAMETERS = {"eta": "shear_viscosity", "zeta": "bulk_viscosity", "M": "mach_number"}
_TENSOR_PARAMETERS = {"beta": "advection_speed", "Nu": "viscosity", "rho": "reaction_rate"}
_SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where PyYAML has it: ten times faster
_EXTRAPOLATIONS: dict[str, Boundary] = {"ZERO": "wall", "PERIODIC": "periodic", "BOUNDARY": "open"}
_SIDES: dict[str, Boundary] = {"periodic": "periodic", "trans": "open"}


@dataclass(frozen=True)
class _File:
    """What one file holds, a piece for each seed or one, and what lies beyond its edges."""

    path: Path
    pieces: list[Piece]
    boundary: Boundary


class PDEBench(Files):
    """Reads files of PDEBench; several of one layout are laid end to end along the trajectories.

    Attributes:
        kind: "pdebench".
        variables: fields to read, all if empty.
        problem: what files with one group a seed hold, where neither they nor their names say.
        axes: order of the spatial axes, for files that differ from their family.
        boundary: beyond the edges; replaces what is known from the family or the file's name.
        parameters: scalars by name; replace those of the files.
    """

    kind: Literal["pdebench"] = "pdebench"
    variables: tuple[str, ...] = ()
    problem: Problem | None = None
    axes: Axes | None = None
    boundary: BoundaryOption | None = None
    parameters: dict[str, float] = Field(default_factory=dict)

    @classmethod
    def recognise(cls, glance: Glance) -> Finding | None:
        """Numbered groups with `data`, or arrays beside `x-coordinate`."""
        if glance.container != "hdf5":
            return None
        seeds = [key for key in glance.shapes if re.fullmatch(r"\d+/data", key)]
        if seeds:
            evidence = f"HDF5 with numbered groups: {glance.listed(*seeds[:2])}"
            if named := [problem for problem in PROBLEMS if problem in glance.path.name]:
                return Finding("pdebench", "certain", evidence, {"problem": named[0]})
            channels = glance.shapes[seeds[0]][-1]
            fitting = [name for name, one in PROBLEMS.items() if len(one.channels) == channels]
            return Finding("pdebench", "likely", evidence, ask={"problem": " or ".join(fitting)})
        held = [key for key in (*_LAYOUTS, *FLOW.values()) if key in glance.shapes]
        if glance.has("velocity", "particles", "force"):
            evidence = f"HDF5 with {glance.listed('velocity', 'particles', 'force', 't')}"
            return Finding("pdebench", "certain", evidence)
        if not held or "x-coordinate" not in glance.shapes:
            return None
        return Finding(
            "pdebench", "certain", f"HDF5 with x-coordinate and {glance.listed(*dict.fromkeys(held))}"
        )

    def open(self) -> xr.Dataset:
        """The dataset in the convention; reads coordinates and parameters, no field.

        Raises:
            ConfigError: if the problem must be named.
            DataError: for files of several layouts or grids, and unknown layouts.
        """
        files = [_contents(path, self) for path in self.files()]
        first = files[0]
        boundary = self.boundary or convention.everywhere(first.boundary)
        third = boundary.third or (first.boundary, first.boundary)
        ds = join(
            [piece for file in files for piece in file.pieces],
            self,
            boundary.model_copy(update={"level": third}),
            source_format="pdebench",
            references="arXiv:2210.07182",
        )
        for other in files[1:]:
            if first.boundary != other.boundary:
                raise DataError(
                    f"{first.path} and {other.path} have different boundary kinds: make a dataset of each"
                )
        given = {
            name: xr.Variable((), value, convention.attrs(name, "scalar"))
            for name, value in self.parameters.items()
        }
        return convention.select(ds.assign(given), self.variables)


def _contents(path: Path, config: PDEBench) -> _File:
    with open_hdf5(path) as file:
        keys = set(file)
        if keys and all(key.isdigit() for key in keys):
            return _seeds(path, file, config)
        for key, layout in _LAYOUTS.items():
            if key in keys:
                return layout(path, file, config)
        found = ", ".join(sorted(keys)[:10])
        raise DataError(
            f"{path} holds {found or 'nothing'}; PDEBench's files hold groups 0000, 0001, ...,"
            " or density, or velocity and particles, or tensor"
        )


def _coordinate(file: Any, key: str, length: int | None = None) -> NDArray[np.float64]:
    """Coordinates of cells or frames; the last of one too many (PDEBench counts frames so) is dropped."""
    values = np.asarray(member(file, key)[()], np.float64)
    if length is None:
        return values
    if len(values) in (length, length + 1):
        return convention.evened(values[:length], file[key].dtype)
    raise DataError(f"{file.file.filename}: '{key}' has {len(values)} values for {length} frames")


def _seeds(path: Path, file: Any, config: PDEBench) -> _File:
    seeds = sorted(file, key=int)
    settings = [_settings(file[seed]) for seed in seeds]
    problem = config.problem or _problem(path, settings[0])
    family = PROBLEMS[problem]
    parts = [Hdf5Dataset.of(member(file[seed], "data")) for seed in seeds]
    shape, axes = parts[0].shape, _axes(config, parts[0], family.axes)
    if len(shape) != len(axes) + 2 or shape[-1] != len(family.channels):
        expected = ", ".join(["time", *axes, "/".join(family.channels)])
        raise DataError(f"{parts[0].name} has shape {shape}; {problem} has ({expected})")
    pieces = []
    for seed, part, one in zip(seeds, parts, settings, strict=True):
        coordinates = {"time": _coordinate(file[seed], "grid/t", shape[0])}
        coordinates |= {axis: _coordinate(file[seed], f"grid/{axis}") for axis in axes}
        _check_axes(part, coordinates, axes)
        fields = {
            name: Stored("prognostic", ("time", *axes, i), part) for i, name in enumerate(family.channels)
        }
        scalars = {name: np.array([float(one[key])]) for key, name in family.parameters.items() if key in one}
        pieces.append(Piece(path / seed, 1, coordinates, fields, scalars))
    return _File(path, pieces, family.boundary)


def _settings(group: Any) -> dict[str, Any]:
    """The generator's settings: a YAML text whose `sim` holds the parameters."""
    settings: dict[str, Any] = yaml.load(group.attrs.get("config", "{}"), _SAFE_LOADER)  # noqa: S506  # it is safe
    return {**settings.get("sim", {}), "name": settings.get("name", "")}


def _problem(path: Path, settings: Mapping[str, Any]) -> str:
    for text in (str(settings["name"]), path.name):
        named = [problem for problem in PROBLEMS if problem in text]
        if len(named) == 1:
            return named[0]
    raise ConfigError(f"{path} does not say what it holds; set problem: to one of {', '.join(PROBLEMS)}")


def _check_axes(part: Hdf5Dataset, coordinates: Mapping[str, NDArray[np.float64]], axes: str) -> None:
    expected = tuple(len(coordinates[axis]) for axis in _named(axes))
    found = part.shape[1 : 1 + len(axes)]
    if found == expected[::-1] != expected:
        raise DataError(
            f"{part.name} has shape {part.shape}, which is not (.., {', '.join(axes)}, ..) = {expected}:"
            f" if this file has its axes the other way round, set axes: {axes[::-1]}"
        )


def _axes(config: PDEBench, part: Hdf5Dataset, family: str) -> str:
    """The spatial axes of an array: those of its family in their order or the option's."""
    axes = config.axes if config.axes and len(family) > 1 else family
    if sorted(axes) != sorted(family):
        raise ConfigError(
            f"axes: {part.name} of shape {part.shape} has the axes {family} or {family[::-1]}, not {axes}"
        )
    return axes


def _flow(path: Path, file: Any, config: PDEBench) -> _File:
    parts = {name: Hdf5Dataset.of(file[key]) for name, key in _FLOW_ARRAYS.items() if key in file}
    density = parts["density"]
    known = _FLOW_AXES.get(len(density.shape) - 2)
    if known is None:
        raise DataError(f"{density.name} has shape {density.shape}; (sample, time, x, y, z) would be right")
    axes = _axes(config, density, known)
    coordinates = _flow_coordinates(file, density, axes)
    layout = ("trajectory", "time", *_named(axes))
    fields = {name: Stored("prognostic", layout, part) for name, part in parts.items()}
    scalars = _scalars(path, file, FLOW_PARAMETERS)
    return _File(path, [Piece(path, density.shape[0], coordinates, fields, scalars)], named_boundary(path))


def _named(axes: str) -> tuple[str, ...]:
    return tuple("level" if axis == "z" else axis for axis in axes)


def _flow_coordinates(file: Any, part: Hdf5Dataset, axes: str) -> dict[str, NDArray[np.float64]]:
    coordinates = {"time": _coordinate(file, "t-coordinate", part.shape[1])}
    coordinates |= _spatial(file, axes)
    _check_axes(Hdf5Dataset(part.path, part.key, part.shape[1:], part.dtype), coordinates, axes)
    return coordinates


def _spatial(file: Any, axes: str) -> dict[str, NDArray[np.float64]]:
    return {
        name: _coordinate(file, f"{axis}-coordinate") for axis, name in zip(axes, _named(axes), strict=True)
    }


def _darcy(path: Path, file: Any, config: PDEBench) -> _File:
    permeability, solution = Hdf5Dataset.of(file["nu"]), Hdf5Dataset.of(member(file, "tensor"))
    axes = _axes(config, permeability, "xy")
    coordinates = {"time": np.zeros(1)} | _spatial(file, axes)
    _check_axes(permeability, coordinates, axes)
    fields = {
        "solution": Stored("diagnostic", ("trajectory", "time", *axes), solution),
        "permeability": Stored("static", ("trajectory", *axes), permeability),
    }
    scalars = _scalars(path, file, {"beta": "source_strength"})
    return _File(path, [Piece(path, solution.shape[0], coordinates, fields, scalars)], "wall")


def _tensor(path: Path, file: Any, config: PDEBench) -> _File:
    tensor = Hdf5Dataset.of(file["tensor"])
    if len(tensor.shape) != 3:
        raise DataError(f"{tensor.name} has shape {tensor.shape}; (sample, time, x) would be right")
    coordinates = _flow_coordinates(file, tensor, "x")
    fields = {"u": Stored("prognostic", ("trajectory", "time", "x"), tensor)}
    scalars = _scalars(path, file, _TENSOR_PARAMETERS)
    return _File(path, [Piece(path, tensor.shape[0], coordinates, fields, scalars)], named_boundary(path))


def _incompressible(path: Path, file: Any, config: PDEBench) -> _File:
    """Cells have side 1, as PhiFlow's box has it; t is repeated for each trajectory."""
    velocity, particles, force = (
        Hdf5Dataset.of(member(file, key)) for key in ("velocity", "particles", "force")
    )
    axes = _axes(config, velocity, "xy")
    frames, latest = velocity.shape[1], int(file.attrs.get("latestIndex", velocity.shape[1] - 1))
    if latest != frames - 1:
        raise DataError(f"{path}: its generator stopped after frame {latest} of {frames}; make it again")
    settings = yaml.load(file.attrs.get("config", "{}"), _SAFE_LOADER) or {}  # noqa: S506  # it is safe
    coordinates = {"time": convention.evened(one_row(path, "t", member(file, "t")[()]), file["t"].dtype)}
    coordinates |= {
        axis: np.linspace(0.5, n - 0.5, n) for axis, n in zip(axes, velocity.shape[2:4], strict=True)
    }
    along = ("trajectory", "time", *axes)
    fields = {
        "velocity_x": Stored("prognostic", (*along, 0), velocity),
        "velocity_y": Stored("prognostic", (*along, 1), velocity),
        "tracer": Stored("prognostic", (*along, 0), particles),
        "force_x": Stored("static", ("trajectory", *axes, 0), force),
        "force_y": Stored("static", ("trajectory", *axes, 1), force),
    }
    scalars = {"viscosity": np.array(float(settings["NU"]))} if "NU" in settings else {}
    boundary = _EXTRAPOLATIONS.get(str(settings.get("velocity_extrapolation")), "unknown")
    return _File(path, [Piece(path, velocity.shape[0], coordinates, fields, scalars)], boundary)


_LAYOUTS: dict[str, Callable[[Path, Any, PDEBench], _File]] = {
    "density": _flow,
    "particles": _incompressible,
    "nu": _darcy,
    "tensor": _tensor,
}


def _scalars(path: Path, file: Any, names: Mapping[str, str]) -> dict[str, NDArray[np.float64]]:
    """Parameters from attributes, or from a file name such as `2D_CFD_Rand_M0.1_Eta1e-08_...`."""
    found = {}
    for key, name in names.items():
        pattern = rf"_{key}(\d[\d.]*(?:e[-+]?\d+)?)(?=_|$)"
        match = re.search(pattern, f"_{path.stem}", re.IGNORECASE)
        values = [float(file.attrs[key])] if key in file.attrs else []
        values += [float(match[1])] if match else []
        if len(values) == 2 and not np.isclose(values[0], values[1], rtol=0.01, atol=0):
            raise DataError(
                f"{path}: {key} is {values[0]:g} in the attributes and {values[1]:g} in the name;"
                " rename the file"
            )
        if values:
            found[name] = np.array(values[0])
    return found


def named_boundary(path: Path) -> Boundary:
    """What lies beyond all edges by a file's name, unknown where it does not say."""
    named = {kind for word, kind in _SIDES.items() if word in path.stem.lower().split("_")}
    return named.pop() if len(named) == 1 else "unknown"
