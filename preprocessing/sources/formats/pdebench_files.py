"""The HDF5 layouts of PDEBench (Takamoto et al. 2022, arXiv:2210.07182), told apart by their content.

- one group for each seed: 2-D diffusion-reaction, 2-D shallow water, 1-D diffusion-sorption;
- one array for each variable: compressible flow in 1-D, 2-D and 3-D;
- `velocity`, `particles`, `force`: inhomogeneous incompressible flow in 2-D;
- `tensor`: 1-D advection, Burgers, reaction-diffusion; with `nu` Darcy flow.

1-D fields have one row; the planes along z of 3-D fields are levels. Traps, by the benchmark's own generators:
`t-coordinate` is one longer than the data; arrays are (x, y) or (x, y, z) except those of diffusion-reaction; kinds
of boundaries stand in file names alone; parameters stand there, in attributes or in a YAML text.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError
from pelagos.preprocessing.files.yaml_text import read_yaml_text
from pelagos.preprocessing.grid import Boundary
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays.hdf5_file import Hdf5Dataset, member, open_hdf5, whole
from pelagos.preprocessing.sources.arrays.hdf5_left_out import say_unread
from pelagos.preprocessing.sources.arrays.join_files import FileContents, FileField, shared_coordinate

PDEBenchProblem = Literal["diff-react", "rdb", "diff-sorp"]
PDEBenchAxes = Literal["yx", "xy", "xyz", "zyx"]


@dataclass(frozen=True)
class _SeedProblem:
    """A problem stored in one group for each seed; `parameters` are scalars by their key in the settings."""

    channels: tuple[str, ...]
    parameters: Mapping[str, str]
    boundary: Boundary
    axes: str


PROBLEMS: dict[str, _SeedProblem] = {
    "diff-react": _SeedProblem(
        ("activator", "inhibitor"),
        {"Du": "diffusivity_activator", "Dv": "diffusivity_inhibitor", "k": "reaction_rate"},
        "wall",
        "yx",  # labelled (t, x, y, v), written by reshape(-1, Ny, Nx)
    ),
    "rdb": _SeedProblem(
        ("water_height",),
        {"gravity": "gravity", "dam_radius": "dam_radius", "inner_height": "inner_height"},
        "open",
        "xy",
    ),
    "diff-sorp": _SeedProblem(
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
_EXTRAPOLATIONS: dict[str, Boundary] = {"ZERO": "wall", "PERIODIC": "periodic", "BOUNDARY": "open"}
_SIDES: dict[str, Boundary] = {"periodic": "periodic", "trans": "open"}


@dataclass(frozen=True)
class LayoutOptions:
    """What the configuration says of files that do not: the problem, and the order of the spatial axes."""

    problem: PDEBenchProblem | None = None
    axes: PDEBenchAxes | None = None


@dataclass(frozen=True)
class PDEBenchFile:
    """What one file holds, seed by seed or as a whole, and what lies beyond its edges."""

    path: Path
    contents: list[FileContents]
    boundary: Boundary


def read_file(path: Path, options: LayoutOptions) -> PDEBenchFile:
    """What a file holds; reads coordinates and parameters, no field.

    Raises:
        ConfigError: if the problem must be named, or the axes are not those of the layout.
        DataError: if it is of no known layout, or its arrays do not fit together.
    """
    with open_hdf5(path) as file:
        keys = set(file)
        if keys and all(key.isdigit() for key in keys):
            return _seed_groups(path, file, options)
        for key, layout in LAYOUTS.items():
            if key in keys:
                found = layout(path, file, options)
                say_unread(file, _keys(found), ("t",))
                return found
        held = ", ".join(sorted(keys)[:10])
        raise DataError(
            f"{path} holds {held or 'nothing'}; PDEBench's files hold groups 0000, 0001, ...,"
            " or density, or velocity and particles, or tensor"
        )


def _keys(file: PDEBenchFile) -> list[str]:
    fields = [field for contents in file.contents for field in contents.fields.values()]
    return [field.reader.key for field in fields if isinstance(field.reader, Hdf5Dataset)]


def _coordinate(file: Any, key: str, length: int | None = None) -> NDArray[np.float64]:
    """Coordinates of cells or frames; of `t-coordinate`, which is one longer than the data, the last is dropped."""
    values = np.asarray(whole(member(file, key)), np.float64)
    if length is None:
        return values
    if len(values) in (length, length + 1):
        return convention.even_times(values[:length], file[key].dtype)
    raise DataError(f"{file.file.filename}: '{key}' has {len(values)} values for {length} frames")


def _seed_groups(path: Path, file: Any, options: LayoutOptions) -> PDEBenchFile:
    seeds = sorted(file, key=int)
    settings = [_settings(file[seed]) for seed in seeds]
    problem = options.problem or _problem(path, settings[0])
    family = PROBLEMS[problem]
    readers = [Hdf5Dataset.of(member(file[seed], "data")) for seed in seeds]
    shape, axes = readers[0].shape, _axes(options, readers[0], family.axes)
    if len(shape) != len(axes) + 2 or shape[-1] != len(family.channels):
        expected = ", ".join(["time", *axes, "/".join(family.channels)])
        raise DataError(f"{readers[0].name} has shape {shape}; {problem} has ({expected})")
    contents = []
    for seed, reader, one in zip(seeds, readers, settings, strict=True):
        coordinates = {"time": _coordinate(file[seed], "grid/t", shape[0])}
        coordinates |= {axis: _coordinate(file[seed], f"grid/{axis}") for axis in axes}
        _check_axes(reader, coordinates, axes)
        fields = {
            name: FileField("prognostic", ("time", *axes, i), reader)
            for i, name in enumerate(family.channels)
        }
        scalars = {name: np.array([float(one[key])]) for key, name in family.parameters.items() if key in one}
        contents.append(FileContents(path / seed, 1, coordinates, fields, scalars))
    say_unread(file[seeds[0]], [readers[0].key], ("grid",))
    return PDEBenchFile(path, contents, family.boundary)


def _settings(group: Any) -> dict[str, Any]:
    """The generator's settings: a YAML text whose `sim` holds the parameters."""
    settings = _written_settings(group)
    return {**settings.get("sim", {}), "name": settings.get("name", "")}


def _written_settings(item: Any) -> dict[str, Any]:
    """The attribute `config` of a file or group; raises DamagedFileError if it is no mapping in YAML."""
    text = item.attrs.get("config", "{}")
    try:
        values = read_yaml_text(text.decode() if isinstance(text, bytes) else str(text), quick=True) or {}
        if not isinstance(values, dict):
            raise yaml.YAMLError(f"it holds {type(values).__name__}, where a mapping would be right")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DamagedFileError(
            f"{item.file.filename}: attribute 'config' of '{item.name}' cannot be read as YAML: {error}"
        ) from error
    return values


def _problem(path: Path, settings: Mapping[str, Any]) -> str:
    # The generator's own name goes before the file's, which users change.
    for text in (str(settings["name"]), path.name):
        named = [problem for problem in PROBLEMS if problem in text]
        if len(named) == 1:
            return named[0]
    raise ConfigError(f"{path} does not say what it holds; set problem: to one of {', '.join(PROBLEMS)}")


def _check_axes(reader: Hdf5Dataset, coordinates: Mapping[str, NDArray[np.float64]], axes: str) -> None:
    expected = tuple(len(coordinates[axis]) for axis in _axis_names(axes))
    found = reader.shape[1 : 1 + len(axes)]
    # Only a shape that fits in reverse alone can be told; on square grids nothing contradicts.
    if found == expected[::-1] != expected:
        raise DataError(
            f"{reader.name} has shape {reader.shape}, which is not (.., {', '.join(axes)}, ..) = {expected}:"
            f" if this file has its axes the other way round, set axes: {axes[::-1]}"
        )


def _axes(options: LayoutOptions, reader: Hdf5Dataset, family: str) -> str:
    """The spatial axes of an array: those of its family, in their own order or as the option says."""
    axes = options.axes if options.axes and len(family) > 1 else family
    if sorted(axes) != sorted(family):
        raise ConfigError(
            f"axes: {reader.name} of shape {reader.shape} has the axes {family} or {family[::-1]}, not {axes}"
        )
    return axes


def _flow(path: Path, file: Any, options: LayoutOptions) -> PDEBenchFile:
    readers = {name: Hdf5Dataset.of(file[key]) for name, key in _FLOW_ARRAYS.items() if key in file}
    density = readers["density"]
    known = _FLOW_AXES.get(len(density.shape) - 2)
    if known is None:
        raise DataError(f"{density.name} has shape {density.shape}; (sample, time, x, y, z) would be right")
    axes = _axes(options, density, known)
    coordinates = _flow_coordinates(file, density, axes)
    named = ("trajectory", "time", *_axis_names(axes))
    fields = {name: FileField("prognostic", named, reader) for name, reader in readers.items()}
    scalars = _scalars(path, file, FLOW_PARAMETERS)
    return PDEBenchFile(
        path, [FileContents(path, density.shape[0], coordinates, fields, scalars)], named_boundary(path)
    )


def _axis_names(axes: str) -> tuple[str, ...]:
    return tuple("level" if axis == "z" else axis for axis in axes)


def _flow_coordinates(file: Any, reader: Hdf5Dataset, axes: str) -> dict[str, NDArray[np.float64]]:
    coordinates = {"time": _coordinate(file, "t-coordinate", reader.shape[1])}
    coordinates |= _spatial(file, axes)
    _check_axes(Hdf5Dataset(reader.path, reader.key, reader.shape[1:], reader.dtype), coordinates, axes)
    return coordinates


def _spatial(file: Any, axes: str) -> dict[str, NDArray[np.float64]]:
    return {
        name: _coordinate(file, f"{axis}-coordinate")
        for axis, name in zip(axes, _axis_names(axes), strict=True)
    }


def _darcy(path: Path, file: Any, options: LayoutOptions) -> PDEBenchFile:
    permeability, solution = Hdf5Dataset.of(file["nu"]), Hdf5Dataset.of(member(file, "tensor"))
    axes = _axes(options, permeability, "xy")
    coordinates = {"time": np.zeros(1)} | _spatial(file, axes)
    _check_axes(permeability, coordinates, axes)
    fields = {
        "solution": FileField("diagnostic", ("trajectory", "time", *axes), solution),
        "permeability": FileField("static", ("trajectory", *axes), permeability),
    }
    scalars = _scalars(path, file, {"beta": "source_strength"})
    return PDEBenchFile(path, [FileContents(path, solution.shape[0], coordinates, fields, scalars)], "wall")


def _tensor(path: Path, file: Any, options: LayoutOptions) -> PDEBenchFile:
    tensor = Hdf5Dataset.of(file["tensor"])
    if len(tensor.shape) != 3:
        raise DataError(f"{tensor.name} has shape {tensor.shape}; (sample, time, x) would be right")
    coordinates = _flow_coordinates(file, tensor, "x")
    fields = {"u": FileField("prognostic", ("trajectory", "time", "x"), tensor)}
    scalars = _scalars(path, file, _TENSOR_PARAMETERS)
    return PDEBenchFile(
        path, [FileContents(path, tensor.shape[0], coordinates, fields, scalars)], named_boundary(path)
    )


def _incompressible(path: Path, file: Any, options: LayoutOptions) -> PDEBenchFile:
    """Cells have side 1, as in PhiFlow's box; t is repeated for each trajectory."""
    velocity, particles, force = (
        Hdf5Dataset.of(member(file, key)) for key in ("velocity", "particles", "force")
    )
    axes = _axes(options, velocity, "xy")
    # The generator writes frame by frame into arrays of zeros, and notes how far it came.
    frames, latest = velocity.shape[1], int(file.attrs.get("latestIndex", velocity.shape[1] - 1))
    if latest != frames - 1:
        raise DataError(f"{path}: its generator stopped after frame {latest} of {frames}; create it again")
    settings = _written_settings(file)
    coordinates = {
        "time": convention.even_times(shared_coordinate(path, "t", whole(member(file, "t"))), file["t"].dtype)
    }
    coordinates |= {
        axis: np.linspace(0.5, n - 0.5, n) for axis, n in zip(axes, velocity.shape[2:4], strict=True)
    }
    along = ("trajectory", "time", *axes)
    fields = {
        "velocity_x": FileField("prognostic", (*along, 0), velocity),
        "velocity_y": FileField("prognostic", (*along, 1), velocity),
        "tracer": FileField("prognostic", (*along, 0), particles),
        "force_x": FileField("static", ("trajectory", *axes, 0), force),
        "force_y": FileField("static", ("trajectory", *axes, 1), force),
    }
    scalars = {"viscosity": np.array(float(settings["NU"]))} if "NU" in settings else {}
    boundary = _EXTRAPOLATIONS.get(str(settings.get("velocity_extrapolation")), "unknown")
    return PDEBenchFile(path, [FileContents(path, velocity.shape[0], coordinates, fields, scalars)], boundary)


LAYOUTS: dict[str, Callable[[Path, Any, LayoutOptions], PDEBenchFile]] = {
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
        # Names give few digits, so 1 per cent is no contradiction.
        if len(values) == 2 and not np.isclose(values[0], values[1], rtol=0.01, atol=0):
            raise DataError(
                f"{path}: {key} is {values[0]:g} in the attributes and {values[1]:g} in the name;"
                " rename the file"
            )
        if values:
            found[name] = np.array(values[0])
    return found


def named_boundary(path: Path) -> Boundary:
    """What lies beyond all edges according to a file's name; unknown where it does not say."""
    # Whole words between underscores, since "trans" may also begin another one ("transport").
    named = {kind for word, kind in _SIDES.items() if word in path.stem.lower().split("_")}
    return named.pop() if len(named) == 1 else "unknown"
