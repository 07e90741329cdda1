"""CFDBench (Luo et al. 2023, arXiv:2310.05963): for each case a folder with `u.npy`, `v.npy` (t, y, x), `case.json`.

There are four problems (cavity, tube, dam and cylinder), each with the groups `bc`, `geo` and `prop` of cases. Rows go
up. The obstacle is not stored: the mask of the fluid is drawn here, at the points of the grid, from the geometry in
the JSON. CFDBench's own loaders also pad fields with rows and columns of boundary values; here they are left out.
Cases differ in the number of frames and in the size of the domain.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError
from pelagos.preprocessing.grid import Sides
from pelagos.preprocessing.sources.arrays.derived_arrays import MemoryArray, ResizedAxis
from pelagos.preprocessing.sources.arrays.join_files import FileContents, FileField, join_files, periodic_axis
from pelagos.preprocessing.sources.arrays.npy_file import NpyArray
from pelagos.preprocessing.sources.convention import Boundaries
from pelagos.preprocessing.sources.file_source import FileSource, missing
from pelagos.preprocessing.sources.finding import ArchiveListing, Finding

CFDBenchProblem = Literal["cavity", "tube", "dam", "cylinder"]

_PARAMETERS = {
    "vel_top": "velocity_lid",
    "vel_in": "velocity_inlet",
    "velocity": "velocity_inlet",
    "density": "density_fluid",
    "viscosity": "viscosity",
    "radius": "radius",
    "barrier_height": "barrier_height",
    "barrier_width": "barrier_width",
}
_THROUGH: Sides = ("open", "open")
_WALLS: Sides = ("wall", "wall")
_BARRIER_LEFT = 0.5
"""Left side of every dam of CFDBench [m]."""


class CFDBench(FileSource):
    """Reads cases of one problem of CFDBench; `paths` are folders of cases, or any folders above them.

    Attributes:
        kind: "cfdbench".
        problem: cavity, tube, dam or cylinder, where settings and paths do not say.
        dt: time between frames [s].
        frames: most frames to read of each case; all by default.
        domain: "metres" if y and x are in metres, which needs cases of one size; "unit" if they run from 0 to 1 in
            each case, whose `width` and `height` then become scalars.
    """

    kind: Literal["cfdbench"] = "cfdbench"
    problem: CFDBenchProblem | None = None
    dt: PositiveFloat = 0.1
    frames: PositiveInt | None = None
    domain: Literal["metres", "unit"] = "metres"

    @classmethod
    def recognise(cls, listing: ArchiveListing) -> Finding | None:
        """Folders with `case.json`, `u.npy` and `v.npy`."""
        if listing.container != "cases":
            return None
        return Finding("cfdbench", "certain", f"{listing.path} holds case.json, u.npy and v.npy")

    def open(self) -> xr.Dataset:
        """The dataset in the convention; reads settings, no field.

        Raises:
            ConfigError: cases differ in the size of their domains, and `domain` is not "unit".
            DataError: settings lack what the geometry needs.
        """
        cases = [_Case.of(path, self.problem) for path in _cases(self.files())]
        problems = {case.problem for case in cases}
        if len(problems) > 1:
            raise DataError(
                f"paths: there are cases of {', '.join(sorted(problems))}; make a dataset of each"
            )
        self._check_domains(cases)
        contents = [self._contents(case) for case in cases]
        sides = Boundaries(y=_WALLS, x=_WALLS if cases[0].problem == "cavity" else _THROUGH)
        return join_files(
            contents,
            self,
            sides,
            source_format="cfdbench",
            units="m" if self.domain == "metres" else "1",
            time_units="s",
            several_lengths=True,
            references="arXiv:2310.05963",
        )

    def _check_domains(self, cases: Sequence["_Case"]) -> None:
        for case in cases[1:]:
            if self.domain == "metres" and case.size != cases[0].size:
                (one, two), (other_one, other_two) = cases[0].size, case.size
                raise ConfigError(
                    f"domain: {cases[0].path} is {one:g} by {two:g} m, {case.path} {other_one:g} by"
                    f" {other_two:g} m; set domain: unit, or make a dataset of each size"
                )

    def _contents(self, case: "_Case") -> FileContents:
        own, *shape = case.u.shape
        frames = min(own, self.frames or own)
        y, x = (periodic_axis(n, side) for n, side in zip(shape, case.size, strict=True))
        (bottom, left), (height, width) = case.origin, case.size
        # Drawn in the case's own metres, before the axes are scaled to the unit square.
        mask = case.fluid(y[:, None] + bottom, x[None, :] + left).astype(np.float32)
        fields = {
            "velocity_x": FileField(
                "prognostic", ("time", "y", "x"), ResizedAxis(case.u, 0, frames), "m s-1"
            ),
            "velocity_y": FileField(
                "prognostic", ("time", "y", "x"), ResizedAxis(case.v, 0, frames), "m s-1"
            ),
            "fluid": FileField("static", ("y", "x"), MemoryArray(mask, f"{case.path}: geometry")),
        }
        scalars = {
            name: np.array(float(case.settings[key]))
            for key, name in _PARAMETERS.items()
            if key in case.settings
        }
        if self.domain == "unit":
            y, x = y / height, x / width
            scalars |= {"height": np.array(height), "width": np.array(width)}
        time = np.arange(frames, dtype=np.float64) * self.dt
        return FileContents(case.path, 1, {"time": time, "y": y, "x": x}, fields, scalars)


@dataclass(frozen=True)
class _Case:
    """One folder; `origin` and `size` are (y, x) [m]."""

    path: Path
    problem: str
    settings: Mapping[str, Any]
    origin: tuple[float, float]
    size: tuple[float, float]
    u: NpyArray
    v: NpyArray

    @classmethod
    def of(cls, path: Path, problem: str | None) -> "_Case":
        settings = _settings(path)
        problem = problem or _problem(path, settings)
        u, v = (NpyArray.of(path / name) for name in ("u.npy", "v.npy"))
        if len(u.shape) != 3 or u.shape != v.shape:
            raise DataError(f"{path}: u has shape {u.shape} and v {v.shape}; (time, y, x) would be right")
        if {"x_min", "x_max", "y_min", "y_max"} <= set(settings):
            bottom, top, left, right = (float(settings[key]) for key in ("y_min", "y_max", "x_min", "x_max"))
        else:
            needed = ["height", "width"]
            if absent := [key for key in needed if key not in settings]:
                raise DataError(
                    f"{path / 'case.json'}: lacks {', '.join(absent)}; it has {', '.join(settings)}"
                )
            bottom, left, top, right = 0.0, 0.0, float(settings["height"]), float(settings["width"])
        return cls(path, problem, settings, (bottom, left), (top - bottom, right - left), u, v)

    def fluid(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Where there is fluid: outside a cylinder around the origin, or outside a dam on the floor."""
        everywhere = np.ones(np.broadcast_shapes(y.shape, x.shape), bool)
        if self.problem == "cylinder":
            return everywhere & (y**2 + x**2 > float(self.settings["radius"]) ** 2)
        if self.problem == "dam":
            right = _BARRIER_LEFT + float(self.settings["barrier_width"])
            inside = (y < float(self.settings["barrier_height"])) & (x >= _BARRIER_LEFT) & (x < right)
            return everywhere & ~inside
        return everywhere


def _settings(path: Path) -> Mapping[str, Any]:
    try:
        settings = json.loads((path / "case.json").read_bytes())
    except ValueError as error:
        raise DamagedFileError(f"{path / 'case.json'}: not JSON ({error}); download it again") from error
    if not isinstance(settings, dict):
        raise DataError(
            f"{path / 'case.json'}: holds a {type(settings).__name__}; a mapping of names to values would be right"
        )
    return settings


def _problem(path: Path, settings: Mapping[str, Any]) -> str:
    signs = {"barrier_height": "dam", "radius": "cylinder", "vel_top": "cavity"}
    if found := [problem for key, problem in signs.items() if key in settings]:
        return found[0]
    named = [part for part in path.resolve().parts if part in ("cavity", "tube", "dam", "cylinder")]
    if named:
        return named[-1]
    raise ConfigError(f"problem: {path} does not say which problem it is; set cavity, tube, dam or cylinder")


def _cases(folders: Sequence[Path]) -> list[Path]:
    """All folders of cases at or below the given ones, sorted within each."""
    found: list[Path] = []
    for folder in folders:
        below = sorted(file.parent for file in folder.rglob("case.json")) if folder.is_dir() else []
        if not below:
            raise missing(folder / "case.json")
        found += below
    return found
