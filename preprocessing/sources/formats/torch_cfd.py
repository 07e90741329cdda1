"""The `.pt` files of torch-cfd (Cao et al., arXiv:2405.17211): vorticity and related fields, (N, t, y, x), periodic.

The file's name holds the viscosity (`.._v1e-3_T20.pt`). Times and the length of the domain are not stored: generators
begin to record at different times, so even the name's T does not give the time between frames. Time 0 is the first
frame. One-dimensional entries are not read: seeds of the generator are no parameters of the flow, and the others it
passes through `torch.unique`, which loses order and duplicates.
"""

import re
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays.join_files import FileContents, FileField, join_files, periodic_axis
from pelagos.preprocessing.sources.arrays.keyed_file import tensor, tensors
from pelagos.preprocessing.sources.convention import FieldRole
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.finding import ArchiveListing, Finding
from pelagos.preprocessing.sources.left_out_arrays import say_left_out

_FIELDS: dict[str, tuple[str, FieldRole]] = {
    "vorticity": ("vorticity", "prognostic"),
    "stream": ("stream_function", "diagnostic"),
    "vort_t": ("vorticity_rate", "diagnostic"),
    "residual": ("residual", "diagnostic"),
}


class TorchCFD(FileSource):
    """Reads `.pt` files of torch-cfd; several are concatenated along the trajectories.

    Attributes:
        kind: "torch_cfd".
        dt: time between frames.
        length: side of the square domain. Row i of n lies at i * length / n.
        variables: fields to read, all if empty.
        parameters: scalars by name; replace those of the file's name.
    """

    kind: Literal["torch_cfd"] = "torch_cfd"
    dt: PositiveFloat | None = None
    length: PositiveFloat | None = None
    variables: tuple[str, ...] = ()
    parameters: dict[str, float] = Field(default_factory=dict)

    @classmethod
    def recognise(cls, listing: ArchiveListing) -> Finding | None:
        """Dictionaries with a vorticity of four axes."""
        if listing.container not in ("torch", "npz") or listing.rank("vorticity") != 4:
            return None
        evidence = f"a {listing.container} file with the tensors {listing.describe(*_FIELDS)}"
        ask = {
            "dt": _hint(listing.path, listing.shapes["vorticity"][1]),
            "length": "side of the domain: 1 for FNO's flow, 6.283185307179586 for the others",
        }
        return Finding("torch_cfd", "certain", evidence, ask=ask)

    def open(self) -> xr.Dataset:
        """The dataset in the convention; reads no field.

        Raises:
            ConfigError: if `dt` or `length` is not given.
            DataError: if a file has no vorticity, or arrays of other axes.
        """
        contents = [self._contents(path) for path in self.files()]
        ds = join_files(
            contents,
            self,
            convention.on_all_sides("periodic"),
            source_format="torch_cfd",
            references="arXiv:2405.17211",
        )
        return convention.select(ds, self.variables)

    def _contents(self, path: Path) -> FileContents:
        held = tensors(path)
        shape = tensor(path, held, "vorticity").shape
        if len(shape) != 4:
            raise DataError(f"{path}: vorticity has shape {shape}; (sample, time, y, x) would be right")
        # A wrong guess would give networks wrong lead times and wave numbers, so both are asked for.
        if not self.dt or not self.length:
            option = "length" if self.dt else "dt"
            hint = _hint(path, shape[1]) if option == "dt" else "give the side of the square domain"
            raise ConfigError(f"{option}: {path} does not hold it: {hint}")
        axes = ("trajectory", "time", "y", "x")
        fields = {
            name: FileField(role, axes, held[key]) for key, (name, role) in _FIELDS.items() if key in held
        }
        say_left_out(path, {key: one.shape for key, one in held.items()}, _FIELDS)
        times = np.arange(shape[1], dtype=np.float64) * self.dt
        y, x = (periodic_axis(n, self.length) for n in shape[2:])
        return FileContents(path, shape[0], {"time": times, "y": y, "x": x}, fields, self._scalars(path))

    def _scalars(self, path: Path) -> dict[str, NDArray[np.float64]]:
        found = {}
        if match := re.search(r"_v(\d[\d.]*(?:e[-+]?\d+)?)(?=_|$)", path.stem):
            found["viscosity"] = np.array(float(match[1]))
        return found | {name: np.array(value) for name, value in self.parameters.items()}


def _hint(path: Path, frames: int) -> str:
    match = re.search(r"_T(\d[\d.]*)(?=_|$)", path.stem)
    end = f", up to time {match[1]} by its name" if match else ""
    return f"time between its {frames} frames{end}"
