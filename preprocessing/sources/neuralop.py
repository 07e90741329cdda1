"""The `.pt` files of neuraloperator: Darcy flow and Burgers' equation as dictionaries of tensors.

Darcy: x (N, H, W), bool where the permeability is the higher of two, and y (N, H, W), the solution
on the unit square with zero at its sides. Burgers (that of PINO, Li et al. 2021, arXiv:2111.03794:
periodic on [0, 1], times from 0 to 1): x (N, W) the initial values, y (N, T, W) the solution from
the initial values on, `visc` the viscosity. The files hold neither coordinates nor times.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251  # nothing is unpickled: what torch raises for that
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import PositiveFloat

from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.convention import Boundaries, BoundaryOption
from pelagos.preprocessing.sources.files import Files, missing
from pelagos.preprocessing.sources.lazy import Index, floating, variable

Problem = Literal["darcy", "burgers"]


@dataclass(frozen=True)
class _TorchTensor:
    """One tensor of a `.pt` file, mapped into memory at each access."""

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def name(self) -> str:
        return f"{self.path}: {self.key}"

    def read(self, index: Index) -> NDArray[Any]:
        return np.array(_load(self.path)[self.key].numpy()[index])


class NeuralOp(Files):
    """Reads `.pt` files of neuraloperator; several are laid end to end along the trajectories.

    Attributes:
        kind: "neuralop".
        problem: what the files hold, where their shapes do not say.
        dt: time between frames; by default such that the last is at time 1.
        boundary: beyond the edges; replaces what is known of the problem.
    """

    kind: Literal["neuralop"] = "neuralop"
    problem: Problem | None = None
    dt: PositiveFloat | None = None
    boundary: BoundaryOption | None = None

    def open(self) -> xr.Dataset:
        """The dataset in the convention; point i of n lies at i / n; reads no field.

        Raises:
            ConfigError: if the problem must be named.
            DataError: if a file does not hold the tensors of the problem.
        """
        files = [_contents(path) for path in self.files()]
        x, y = ([file[key] for file in files] for key in ("x", "y"))
        count = sum(part.shape[0] for part in y)
        darcy = (self.problem or _problem(x[0], y[0])) == "darcy"
        height, width = y[0].shape[1:] if darcy else (1, y[0].shape[-1])
        sizes = {"trajectory": count, "time": 1 if darcy else y[0].shape[1], "y": height, "x": width}
        if darcy:
            variables = {
                "solution": _variable("solution", y, ("trajectory", "y", "x"), sizes, "diagnostic"),
                "permeability": _variable("permeability", x, ("trajectory", "y", "x"), sizes, "static"),
            }
        else:
            variables = {"u": _variable("u", y, ("trajectory", "time", "x"), sizes, "prognostic")}
            variables |= _viscosity(files)
        # Burgers' single row is uniform along y, which is the same as wrapping around.
        boundary = self.boundary or convention.everywhere("wall" if darcy else "periodic")
        step = self.dt or 1 / max(sizes["time"] - 1, 1)
        return convention.assemble(
            variables,
            grid=_grid(height, width, boundary),
            time=np.arange(sizes["time"], dtype=np.float64) * step,
            dataset=self.identifier(),
            source_format="neuralop",
            sources=self.files(),
            num_trajectories=count,
            license=self.license,
            references=self.references,
        )


def _grid(height: int, width: int, boundary: Boundaries) -> Grid:
    y, x = (np.arange(n, dtype=np.float64) / n for n in (height, width))
    return Grid("cartesian", y, x, boundary.y, boundary.x)


def _variable(
    name: str,
    parts: list[_TorchTensor],
    layout: tuple[str, ...],
    sizes: dict[str, int],
    role: Literal["static", "diagnostic", "prognostic"],
) -> xr.Variable:
    dims = ("trajectory", "y", "x") if role == "static" else convention.TIME_DIMS
    return variable(dims, [floating(part) for part in parts], layout, sizes, convention.attrs(name, role))


def _viscosity(files: list[dict[str, _TorchTensor]]) -> dict[str, xr.Variable]:
    if not all("visc" in file for file in files):
        return {}
    rows = [file["visc"].read(()).astype(np.float64).ravel() for file in files]
    for file, row in zip(files, rows, strict=True):
        if len(row) not in (1, file["y"].shape[0]):
            raise DataError(
                f"{file['visc'].name} has {len(row)} values for {file['y'].shape[0]} trajectories"
            )
    attrs = convention.attrs("viscosity", "scalar")
    if len(rows) == len(rows[0]) == 1:
        return {"viscosity": xr.Variable((), rows[0][0], attrs)}
    each = [np.broadcast_to(row, file["y"].shape[0]) for file, row in zip(files, rows, strict=True)]
    return {"viscosity": xr.Variable(("trajectory",), np.concatenate(each), attrs)}


def _problem(x: _TorchTensor, y: _TorchTensor) -> Problem:
    """What shapes and types say; coefficients of Darcy flow are told from initial values by being bool."""
    if len(y.shape) == 3 and x.shape == (y.shape[0], y.shape[2]):
        return "burgers"
    if len(y.shape) == 3 and x.shape == y.shape and x.dtype.kind == "b":
        return "darcy"
    raise ConfigError(
        f"{x.path} could hold several problems (x {x.shape} {x.dtype}, y {y.shape} {y.dtype});"
        " set problem: darcy or problem: burgers"
    )


def _contents(path: Path) -> dict[str, _TorchTensor]:
    # Workers that build from other formats start in half the time without torch.
    from torch import Tensor

    tensors = _load(path)
    for key in ("x", "y"):
        if not isinstance(tensors.get(key), Tensor):
            raise DataError(
                f"{path}: no tensor '{key}'; it holds {', '.join(map(str, tensors)) or 'nothing'}"
            )
    if tensors["y"].ndim != 3:
        shape = tuple(tensors["y"].shape)
        raise DataError(f"{path}: y has shape {shape}; (sample, time, x) or (sample, y, x) would be right")
    return {
        str(key): _TorchTensor(path, str(key), tuple(value.shape), value.numpy().dtype)
        for key, value in tensors.items()
        if isinstance(value, Tensor)
    }


def _load(path: Path) -> dict[str, Any]:
    """The dictionary of a `.pt` file, its tensors mapped rather than read.

    Raises:
        MissingFileError: if there is no such file.
        DamagedFileError: if it is not a whole file of torch.save.
        DataError: if it holds anything but tensors in a dictionary.
    """
    if not path.is_file():
        raise missing(path)
    if not zipfile.is_zipfile(path):
        raise DamagedFileError(f"{path}: not a whole file of torch.save; fetch or make it again")
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        raise DamagedFileError(f"{path}: cannot be read ({error})") from error
    except UnpicklingError as error:
        raise DataError(f"{path}: holds more than tensors, which is not read ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}; a dictionary with x and y would be right")
    return content
