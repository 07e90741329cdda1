"""The `.pt` files of neuraloperator: Darcy flow, forced flow and Burgers' equation as dictionaries of tensors.

- Darcy: x (N, H, W), True where the permeability is the higher of two, and y (N, H, W), the solution on the unit
  square, zero at its sides;
- forced flow (`nsforcing_*`, Zenodo 12825163), periodic: x (N, H, W), a steady force on the vorticity, and y (N, H, W),
  the vorticity that it leads to;
- Burgers (of PINO, Li et al. 2021, arXiv:2111.03794), periodic on [0, 1], times from 0 to 1: x (N, W), the initial
  values, y (N, T, W), the solution including them, and `visc`, the viscosity.

The files hold neither coordinates nor times.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import PositiveFloat

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.grid import Boundary
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays.join_files import FileContents, FileField, join_files, periodic_axis
from pelagos.preprocessing.sources.arrays.keyed_file import KeyedArray, tensor, tensors
from pelagos.preprocessing.sources.convention import BoundaryOption
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.finding import ArchiveListing, Finding
from pelagos.preprocessing.sources.left_out_arrays import say_left_out

NeuralOpProblem = Literal["darcy", "forced_flow", "burgers"]

_STEADY: dict[str, tuple[str, str]] = {
    "darcy": ("permeability", "solution"),
    "forced_flow": ("vorticity_source", "vorticity"),
}
_BOUNDARIES: dict[str, Boundary] = {"darcy": "wall", "forced_flow": "periodic", "burgers": "periodic"}


class NeuralOp(FileSource):
    """Reads `.pt` files of neuraloperator; several are concatenated along the trajectories.

    Attributes:
        kind: "neuralop".
        problem: what the files hold, where their shapes do not say.
        dt: time between frames; by default the last is at time 1.
        boundary: beyond the edges; replaces what is known of the problem.
    """

    kind: Literal["neuralop"] = "neuralop"
    problem: NeuralOpProblem | None = None
    dt: PositiveFloat | None = None
    boundary: BoundaryOption | None = None

    @classmethod
    def recognise(cls, listing: ArchiveListing) -> Finding | None:
        """Dictionaries with x and y; those whose shapes fit several problems are asked about."""
        if listing.container not in ("torch", "npz") or not listing.has("x", "y"):
            return None
        evidence = f"a {listing.container} file with the tensors {listing.describe('x', 'y', 'visc')}"
        problem = _told(listing.path.name, listing.shapes["x"], listing.shapes["y"], listing.types["x"])
        if problem:
            return Finding("neuralop", "certain", evidence, {"problem": problem})
        return Finding("neuralop", "likely", evidence, ask={"problem": "darcy, forced_flow or burgers"})

    def open(self) -> xr.Dataset:
        """The dataset in the convention; point i of n lies at i / n; reads no field.

        Raises:
            ConfigError: if the problem must be named.
            DataError: if a file does not hold the tensors of the problem.
        """
        held = [_contents(path) for path in self.files()]
        problem = self.problem or _problem(*held[0])
        if problem == "burgers":
            contents = [
                _burgers(path, x, y, self.dt) for path, (x, y) in zip(self.files(), held, strict=True)
            ]
        else:
            names = _STEADY[problem]
            contents = [_steady(path, x, y, names) for path, (x, y) in zip(self.files(), held, strict=True)]
        boundary = self.boundary or convention.on_all_sides(_BOUNDARIES[problem])
        return join_files(contents, self, boundary, source_format="neuralop")


def _steady(path: Path, x: KeyedArray, y: KeyedArray, names: tuple[str, str]) -> FileContents:
    axes = ("trajectory", "y", "x")
    fields = {names[1]: FileField("diagnostic", axes, y), names[0]: FileField("static", axes, x)}
    coordinates = {"time": np.zeros(1), "y": periodic_axis(y.shape[1]), "x": periodic_axis(y.shape[2])}
    return FileContents(path, y.shape[0], coordinates, fields)


def _burgers(path: Path, x: KeyedArray, y: KeyedArray, dt: float | None) -> FileContents:
    count, frames, width = y.shape
    times = np.arange(frames, dtype=np.float64) * (dt or 1 / max(frames - 1, 1))
    fields = {"u": FileField("prognostic", ("trajectory", "time", "x"), y)}
    return FileContents(
        path, count, {"time": times, "x": periodic_axis(width)}, fields, _viscosity(path, count)
    )


def _viscosity(path: Path, count: int) -> dict[str, NDArray[np.float64]]:
    held = tensors(path)
    if "visc" not in held:
        return {}
    values = held["visc"].read(()).astype(np.float64).ravel()
    if len(values) not in (1, count):
        raise DataError(f"{path}: visc has {len(values)} values for {count} trajectories")
    return {"viscosity": values[0] if len(values) == 1 else values}


def _problem(x: KeyedArray, y: KeyedArray) -> NeuralOpProblem:
    if told := _told(x.path.name, x.shape, y.shape, x.dtype.str):
        return told
    raise ConfigError(
        f"{x.path} could hold several problems (x {x.shape} {x.dtype}, y {y.shape} {y.dtype});"
        " set problem: darcy, problem: burgers or problem: forced_flow"
    )


def _told(name: str, x: tuple[int, ...], y: tuple[int, ...], dtype: str) -> NeuralOpProblem | None:
    """The problem, where shapes, types or the name tell it: only coefficients of Darcy flow are booleans."""
    # Only Burgers has initial values of one axis less than the solution.
    if len(y) == 3 and x == (y[0], y[2]):
        return "burgers"
    if len(y) == 3 and x == y and dtype == "|b1":
        return "darcy"
    return "forced_flow" if len(y) == 3 and x == y and name.startswith("nsforcing") else None


def _contents(path: Path) -> tuple[KeyedArray, KeyedArray]:
    held = tensors(path)
    x, y = (tensor(path, held, key) for key in ("x", "y"))
    say_left_out(path, {key: one.shape for key, one in held.items()}, ("x", "y", "visc"))
    if len(y.shape) != 3:
        raise DataError(f"{path}: y has shape {y.shape}; (sample, time, x) or (sample, y, x) would be right")
    return x, y
