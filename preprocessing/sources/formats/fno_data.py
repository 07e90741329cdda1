"""The data of FNO (Li et al. 2021, arXiv:2010.08895), and single reference solutions in the same formats.

- Navier-Stokes on the unit torus: vorticity `u` (N, x, y, t), its times `t`, and `a` (N, x, y), the vorticity at 0;
- Burgers on the unit circle: `a` (N, x) at time 0 and `u` (N, x) at time 1;
- Darcy flow on the unit square: `coeff` (N, x, y) and the solution `sol`;
- one reference solution in one dimension: `usol` or `uu` (x, t) with `x` and `t` or `tt` (Raissi et al. 2019).

Files are MATLAB's (`.mat`, versions 5 and 7.3), torch's (`.pt`) or NumPy's (`.npz`). Time is the last axis and x the
first spatial one; version 7.3 stores all axes in reverse, and HDF5 files that Python called `.mat` do not. `u` begins
one step after `a`, which becomes its first frame. The file's name holds the viscosity (`ns_V1e-3_N5000_T50.mat`).
"""

import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import PositiveFloat

from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.grid import Boundary
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays import keyed_file, mat_file
from pelagos.preprocessing.sources.arrays.array_reader import ArrayReader, as_floating
from pelagos.preprocessing.sources.arrays.derived_arrays import WithInitialValues, WithTrailingAxis
from pelagos.preprocessing.sources.arrays.join_files import FileContents, FileField, join_files, periodic_axis
from pelagos.preprocessing.sources.convention import BoundaryOption
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.finding import ArchiveListing, Finding
from pelagos.preprocessing.sources.left_out_arrays import say_left_out

FNOProblem = Literal["navier_stokes", "burgers", "darcy", "solution"]

_BOUNDARIES: dict[str, Boundary] = {
    "navier_stokes": "periodic",
    "burgers": "periodic",
    "darcy": "wall",
    "solution": "unknown",
}


class FNOData(FileSource):
    """Reads the data of FNO and reference solutions; several files of one problem are concatenated.

    Attributes:
        kind: "fno".
        dt: time between frames, where the files hold no times.
        boundary: beyond the edges; needed for reference solutions, whose files do not say.
        axes: for HDF5 files that do not show who wrote them: whether their axes are reversed, as MATLAB's are, or
            in the order above, as Python's are.
    """

    kind: Literal["fno"] = "fno"
    dt: PositiveFloat | None = None
    boundary: BoundaryOption | None = None
    axes: mat_file.AxisOrder | None = None

    @classmethod
    def recognise(cls, listing: ArchiveListing) -> Finding | None:
        """Files of MATLAB, torch or NumPy with the keys of a problem."""
        if listing.container not in ("mat5", "hdf5", "torch", "npz") or not (
            problem := _problem(listing.shapes)
        ):
            return None
        if listing.container == "hdf5" and listing.path.suffix != ".mat":
            return None
        evidence = f"the arrays {listing.describe(*_KEYS[problem])} of FNO's files"
        if problem == "solution":
            evidence = f"one solution over x and t: {listing.describe(*_KEYS[problem])}"
        ask = {"boundary": "periodic, wall or open"} if problem == "solution" else {}
        if problem == "navier_stokes" and not listing.has("t"):
            ask = {"dt": "time between frames"}
        if listing.container == "hdf5" and not mat_file.written_by_matlab(listing.path):
            if _told_order(problem, listing.shapes):
                return Finding("fno", "certain", f"{evidence}, which Python wrote", ask=ask)
            ask["axes"] = _question(problem, listing.shapes)
            return Finding("fno", "likely", f"{evidence}, or Python's in another order", ask=ask)
        return Finding("fno", "certain", evidence, ask=ask)

    def open(self) -> xr.Dataset:
        """The dataset in the convention; reads times and coordinates, no field.

        Raises:
            ConfigError: if times or boundaries must be given.
            DataError: if the arrays are those of no known problem.
        """
        found = [(path, *_held(path, self.axes)) for path in self.files()]
        problem = found[0][1]
        if problem == "solution" and not self.boundary:
            raise ConfigError(
                f"boundary: {found[0][0]} does not say what lies beyond its edges; set periodic, wall or open"
            )
        boundary = self.boundary or convention.on_all_sides(_BOUNDARIES[problem])
        contents = [self._contents(*one) for one in found]
        return join_files(
            contents,
            self,
            boundary,
            source_format="fno",
            references="arXiv:2010.08895" if problem != "solution" else "",
        )

    def _contents(self, path: Path, problem: FNOProblem, held: Mapping[str, ArrayReader]) -> FileContents:
        if problem == "darcy":
            return _darcy(path, held)
        if problem == "solution":
            return _solution(path, held)
        if problem == "burgers":
            axes: tuple[str, ...] = ("trajectory", "x", "time")
            reader: ArrayReader = WithInitialValues(
                WithTrailingAxis(as_floating(held["u"])), as_floating(held["a"])
            )
            return _flow(path, "u", axes, reader, np.array([0.0, 1.0]))
        axes = ("trajectory", "x", "y", "time")
        times, reader = self._times(path, held), as_floating(held["u"])
        # `a` fits as the first frame only where the times of `u` begin one step after 0.
        if "a" in held and np.isclose(times[0], times[1] - times[0]):
            times, reader = np.append(0.0, times), WithInitialValues(reader, as_floating(held["a"]))
        return _flow(path, "vorticity", axes, reader, times)

    def _times(self, path: Path, held: Mapping[str, ArrayReader]) -> NDArray[np.float64]:
        count = held["u"].shape[-1]
        if self.dt:
            return self.dt * np.arange(1, count + 1, dtype=np.float64)
        if "t" not in held:
            raise ConfigError(f"dt: {path} holds no times; give the time between its {count} frames")
        times = _time(held["t"])
        if len(times) != count or count < 2:
            raise DataError(f"{path}: t has {len(times)} values for {count} frames of u")
        return times


_KEYS: dict[FNOProblem, tuple[str, ...]] = {
    "navier_stokes": ("u", "a", "t"),
    "burgers": ("a", "u"),
    "darcy": ("coeff", "sol"),
    "solution": ("usol", "uu", "x", "t", "tt"),
}


def _problem(shapes: Mapping[str, tuple[int, ...]]) -> FNOProblem | None:
    rank = {key: len(shape) for key, shape in shapes.items()}
    # Files hold more arrays than these (`Kcoeff`, `a_smooth_x`, ...): what is sure is tested first.
    if rank.get("coeff") == rank.get("sol") == 3:
        return "darcy"
    if rank.get("u") == 4:
        return "navier_stokes"
    if rank.get("a") == rank.get("u") == 2:
        return "burgers"
    fields = [key for key in ("usol", "uu") if rank.get(key) == 2]
    return "solution" if len(fields) == 1 and "x" in rank and {"t", "tt"} & set(rank) else None


def _held(path: Path, order: mat_file.AxisOrder | None) -> tuple[FNOProblem, Mapping[str, ArrayReader]]:
    held: Mapping[str, ArrayReader]
    if path.suffix in (".pt", ".pth", ".npz") or keyed_file.is_zip(path):
        held = keyed_file.tensors(path)
    else:
        held = mat_file.arrays(path, order or _order(path))
    shapes = {key: reader.shape for key, reader in held.items()}
    if problem := _problem(shapes):
        _check_order(path, problem, shapes)
        say_left_out(path, shapes, _KEYS[problem])
        return problem, held
    listed = ", ".join(f"{key} {reader.shape}" for key, reader in held.items())
    raise DataError(
        f"{path} holds {listed or 'no arrays'}; u (sample, x, y, time), a and u (sample, x), coeff and sol,"
        " or usol (x, time) with x and t would be right"
    )


def _check_order(path: Path, problem: FNOProblem, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Hold the order of axes in which a file is read against its shapes, which in files of any program can differ.

    Raises:
        DataError: the shapes fit only if all axes are reversed.
    """
    listed = ", ".join(f"{key} {shapes[key]}" for key in _KEYS[problem] if key in shapes)
    checkable = problem in ("navier_stokes", "solution")
    told = _told_order(problem, shapes) if checkable else None
    # Of times alone the wrong number is told later; a second field shows the order beyond doubt.
    if told == "matlab" and ("a" in shapes or problem == "solution"):
        raise DataError(
            f"{path}: {listed}: these fit with all axes reversed only; {_axes(problem)} would be right, as"
            " numpy.transpose makes it of each array"
        )
    if told is None and path.suffix == ".mat" and mat_file.written_by_scipy(path):
        text = f"{path}: written by SciPy; {listed} are taken as {_axes(problem)}, which nothing in the file shows"
        assume("axis_order", "", text, "accept: [axis_order]; transpose the arrays where it is wrong")


def _axes(problem: FNOProblem) -> str:
    axes = {"navier_stokes": "sample, x, y, time", "burgers": "sample, x", "darcy": "sample, x, y"}
    return f"({axes.get(problem, 'x, time')})"


def _order(path: Path) -> mat_file.AxisOrder:
    """The order of axes in a file of MATLAB, or in one that is called so.

    Raises:
        ConfigError: MATLAB did not write it, and its shapes allow both orders.
    """
    if mat_file.written_by_matlab(path):
        return "matlab"
    shapes = {key: reader.shape for key, reader in mat_file.arrays(path, "python").items()}
    if (problem := _problem(shapes)) is None:
        return "python"  # refused by what it holds
    if order := _told_order(problem, shapes):
        how = "in Python's order" if order == "python" else "reversed, as MATLAB writes them"
        listed = ", ".join(f"{key} {shapes[key]}" for key in _KEYS[problem] if key in shapes)
        assume(
            "axis_order",
            "",
            f"{path}: not written by MATLAB; by their shapes, {listed}, its arrays are {how}",
            "source.axes: matlab or python",
        )
        return order
    raise ConfigError(f"axes: {path} was not written by MATLAB; say {_question(problem, shapes)}")


def _question(problem: FNOProblem, shapes: Mapping[str, tuple[int, ...]]) -> str:
    key = next(key for key in ("u", "sol", "usol", "uu") if key in shapes)
    named = _axes(problem).strip("()")
    backwards = ", ".join(named.split(", ")[::-1])
    return f"python if {key} {shapes[key]} is ({named}), matlab if it is ({backwards})"


def _told_order(problem: FNOProblem, shapes: Mapping[str, tuple[int, ...]]) -> mat_file.AxisOrder | None:
    """The order that the shapes of an HDF5 file allow, None where they allow both or neither."""
    times = next((prod(shapes[key]) for key in ("t", "tt") if key in shapes), None)
    fits = []
    for order, step in (("python", 1), ("matlab", -1)):
        seen = {key: shape[::step] for key, shape in shapes.items()}
        if problem == "solution":
            field = next(seen[key] for key in ("usol", "uu") if key in seen)
            right = field == (prod(seen["x"]), times)
        elif problem == "navier_stokes":
            initial = seen.get("a", seen["u"][:3])
            right = initial == seen["u"][:3] and times in (None, seen["u"][3])
        else:
            right = True  # nothing else in the file has one of the axes
        if right:
            fits.append(order)
    return fits[0] if len(fits) == 1 else None  # type: ignore[return-value]  # words of AxisOrder


def _coordinate(reader: ArrayReader) -> NDArray[np.float64]:
    return reader.read((slice(None),) * len(reader.shape)).astype(np.float64).ravel()


def _time(reader: ArrayReader) -> NDArray[np.float64]:
    return convention.even_times(_coordinate(reader), reader.dtype)


def _flow(
    path: Path, name: str, axes: tuple[str, ...], reader: ArrayReader, times: NDArray[np.float64]
) -> FileContents:
    coordinates = {
        axis: periodic_axis(n) for axis, n in zip(axes, reader.shape, strict=True) if axis in ("y", "x")
    }
    match = re.search(r"_[Vv](\d[\d.]*(?:e[-+]?\d+)?)(?=_|$)", path.stem)
    scalars = {"viscosity": np.array(float(match[1]))} if match else {}
    fields = {name: FileField("prognostic", axes, reader)}
    return FileContents(path, reader.shape[0], {"time": times} | coordinates, fields, scalars)


def _darcy(path: Path, held: Mapping[str, ArrayReader]) -> FileContents:
    axes = ("trajectory", "x", "y")
    fields = {
        "solution": FileField("diagnostic", axes, held["sol"]),
        "permeability": FileField("static", axes, held["coeff"]),
    }
    count, width, height = held["sol"].shape
    # Both ends of the square are among the points.
    y, x = (np.linspace(0.0, 1.0, n) for n in (height, width))
    return FileContents(path, count, {"time": np.zeros(1), "y": y, "x": x}, fields)


def _solution(path: Path, held: Mapping[str, ArrayReader]) -> FileContents:
    key = "usol" if "usol" in held else "uu"
    x, times = _coordinate(held["x"]), _time(held["t"] if "t" in held else held["tt"])
    fields = {"u": FileField("prognostic", ("x", "time"), held[key])}
    if held[key].shape != (len(x), len(times)):
        raise DataError(
            f"{held[key].name} has shape {held[key].shape}; (x, time) of {(len(x), len(times))} would be right"
        )
    return FileContents(path, 1, {"time": times, "x": x}, fields)
