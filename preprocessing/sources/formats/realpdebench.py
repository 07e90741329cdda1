"""RealPDEBench (Hu et al. 2026, arXiv:2601.01829), in its HDF5 form with one trajectory in each file.

Fluids have `measured_data/u`, `v` and, if simulated, `p` (t, h, w). Combustion has `trajectory` (t, h, w) if measured,
`measured_data` (t, h, w, 15) if simulated. Files hold neither times nor positions; their names hold the parameters as
bare numbers (`10031.h5`, `2500_1.5.h5`, `40NH3_0.9.h5`). Measurements and simulations differ in resolution and first
frame, so each makes a dataset of its own.
"""

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays.derived_arrays import ResizedAxis
from pelagos.preprocessing.sources.arrays.hdf5_file import Hdf5Dataset, open_hdf5
from pelagos.preprocessing.sources.arrays.hdf5_left_out import say_unread
from pelagos.preprocessing.sources.arrays.join_files import FileContents, FileField, join_files
from pelagos.preprocessing.sources.convention import BoundaryOption
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.finding import ArchiveListing, Finding

_FLUID = {"velocity_x": "measured_data/u", "velocity_y": "measured_data/v", "pressure": "measured_data/p"}


class RealPDEBench(FileSource):
    """Reads HDF5 files of RealPDEBench, each of them a trajectory; y and x count pixels.

    Attributes:
        kind: "realpdebench".
        dt: time between frames [s].
        parameters: what the numbers in the files' names stand for, in order; [] to ignore them.
        variables: names of the channels of simulated combustion.
        frames: most frames to read of each file; all by default.
        boundary: beyond the edges of the measured window.
    """

    kind: Literal["realpdebench"] = "realpdebench"
    dt: PositiveFloat | None = None
    parameters: tuple[str, ...] | None = None
    variables: tuple[str, ...] = ()
    frames: PositiveInt | None = None
    boundary: BoundaryOption = convention.on_all_sides("open")

    @classmethod
    def recognise(cls, listing: ArchiveListing) -> Finding | None:
        """HDF5 with `measured_data` or a single `trajectory`."""
        if listing.container != "hdf5":
            return None
        fluid = listing.rank("measured_data/u") == listing.rank("measured_data/v") == 3
        combustion = listing.rank("trajectory") == 3 or listing.rank("measured_data") == 4
        if not fluid and not combustion:
            return None
        ask = {"dt": "time between frames in seconds"}
        if numbers := _numbers(listing.path):
            values = ", ".join(f"{one:g}" for one in numbers)
            ask["parameters"] = (
                f"what {values} in the file's name stand for, as in [reynolds_number]; [] to ignore them"
            )
        if listing.rank("measured_data") == 4:
            ask["variables"] = f"names of its {listing.shapes['measured_data'][-1]} channels"
        evidence = f"HDF5 with {listing.describe(*_FLUID.values(), 'trajectory', 'measured_data')}"
        return Finding("realpdebench", "certain" if fluid else "likely", evidence, ask=ask)

    def open(self) -> xr.Dataset:
        """The dataset in the convention; reads no field.

        Raises:
            ConfigError: times, names of channels or the meaning of the numbers in the names must be given.
            DataError: files of measurements and of simulations together.
        """
        files = self.files()
        if not self.dt:
            raise ConfigError(f"dt: {files[0]} holds no times; give the time between frames in seconds")
        held = [self._fields(path) for path in files]
        contents = [self._contents(path, fields) for path, fields in zip(files, held, strict=True)]
        return join_files(
            contents,
            self,
            self.boundary,
            source_format="realpdebench",
            time_units="s",
            several_lengths=True,
            license="CC BY-NC 4.0",
            references="arXiv:2601.01829",
        )

    def _contents(self, path: Path, fields: dict[str, FileField]) -> FileContents:
        assert self.dt is not None
        own, height, width = next(iter(fields.values())).reader.shape[:3]
        frames = min(own, self.frames or own)
        cut = {
            name: FileField(one.role, one.axes, ResizedAxis(one.reader, 0, frames))
            for name, one in fields.items()
        }
        # Files say nothing of positions, so these count pixels.
        coordinates = {"time": np.arange(frames, dtype=np.float64) * self.dt}
        coordinates |= {axis: np.arange(n, dtype=np.float64) for axis, n in (("y", height), ("x", width))}
        return FileContents(path, 1, coordinates, cut, self._scalars(path))

    def _fields(self, path: Path) -> dict[str, FileField]:
        axes = ("time", "y", "x")
        with open_hdf5(path) as file:
            fluid = {name: Hdf5Dataset.of(file[key]) for name, key in _FLUID.items() if _holds(file, key)}
            if fluid:
                say_unread(file, _FLUID.values())
                return {name: FileField("prognostic", axes, reader) for name, reader in fluid.items()}
            for key in ("trajectory", "measured_data"):
                if key in file:
                    say_unread(file, [key])
                    reader = Hdf5Dataset.of(file[key])
                    observed = {"observed": FileField("prognostic", axes, reader)}
                    return observed if key == "trajectory" else self._channels(reader)
            raise DataError(f"{path} holds {', '.join(file)}; measured_data or trajectory would be right")

    def _channels(self, reader: Hdf5Dataset) -> dict[str, FileField]:
        if len(reader.shape) != 4 or len(self.variables) != reader.shape[3]:
            raise ConfigError(
                f"variables: {reader.name} has shape {reader.shape}; give a name for each of its channels,"
                f" not {len(self.variables)}"
            )
        return {
            name: FileField("prognostic", ("time", "y", "x", i), reader)
            for i, name in enumerate(self.variables)
        }

    def _scalars(self, path: Path) -> dict[str, NDArray[np.float64]]:
        numbers, names = _numbers(path), self.parameters
        # A number of unknown meaning would become a condition of the network: only [] leaves it out.
        if names == () or (not numbers and not names):
            return {}
        if names is None or len(names) != len(numbers):
            listed = ", ".join(f"{one:g}" for one in numbers)
            raise ConfigError(
                f"parameters: the name of {path} holds {listed or 'no numbers'}; say what they stand"
                " for, as in parameters: [reynolds_number], or parameters: [] to ignore them"
            )
        return {name: np.array(value) for name, value in zip(names, numbers, strict=True)}


def _holds(file: Any, key: str) -> bool:
    group, name = key.split("/")
    return group in file and hasattr(file[group], "keys") and name in file[group]


def _numbers(path: Path) -> list[float]:
    """The numbers in a name, without those of chemical formulas (`NH3`)."""
    return [float(one) for one in re.findall(r"(?:^|_)(\d+\.?\d*)(?=[A-Z_]|$)", path.stem)]
